//! The documents agree with definitions elsewhere: their links resolve, the permissions are those of
//! the Role. The errors, alerts and log lines of the troubleshooting exist.
//!
//! The tables of settings and metrics are held in `tidy` and `metrics`, beside what they list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use config_controller::http::openapi::DOCUMENT;
use serde_json::Value;

use crate::harness::{OPERATORS, ROLE, repository};
use crate::sandbox::{Sandbox, curl};
use crate::tidy::granted;

/// Fewest rows that the troubleshooting table has.
const PROBLEMS_MIN: usize = 15;

/// Most lines of the README, which is read before anything else.
const README_LINES_MAX: usize = 260;

/// The documents that begin with a table of contents, and the most words that each may have: what a
/// reader does not act on belongs beside the code.
const LONG: [(&str, usize); 3] = [
    ("manifests/README.md", 8_300),
    ("manifests/APPS.md", 1_900),
    ("tests/README.md", 4_900),
];

/// All documents.
const DOCUMENTS: [&str; 8] = [
    "README.md",
    "manifests/README.md",
    "manifests/APPS.md",
    "manifests/CHANGELOG.md",
    "tests/README.md",
    "src/app/caps.md",
    "src/model/status/phases.md",
    "src/model/template/language.md",
];

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What stands under a heading, up to the next one of the same or a higher level.
pub(crate) fn section(text: &str, heading: &str) -> String {
    let level = heading.len() - heading.trim_start_matches('#').len();
    let mut lines = text.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "the document has no {heading}");
    let ends = |line: &str| {
        let marks = line.len() - line.trim_start_matches('#').len();
        (1..=level).contains(&marks) && line[marks..].starts_with(' ')
    };
    let lines: Vec<&str> = lines.take_while(|line| !ends(line)).collect();
    lines.join("\n")
}

/// The anchor that a heading gets where Markdown is shown.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().chars();
    let kept = kept.filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The anchors of the headings of a document.
fn anchors(document: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let headings = document.lines().filter(|line| {
        fenced ^= line.starts_with("```");
        !fenced && line.starts_with('#')
    });
    headings.map(anchor).collect()
}

#[test]
fn links_resolve() {
    let mut found = 0;
    for name in DOCUMENTS {
        let text = read(name);
        let folder = Path::new(name).parent().expect("a file has a folder");
        let targets = text.split("](").skip(1);
        for target in targets.filter_map(|rest| rest.split(')').next()) {
            found += 1;
            if target.starts_with("https://") {
                continue;
            }
            let (path, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match path {
                "" => PathBuf::from(name),
                path => folder.join(path),
            };
            let exists = repository().join(&path).exists();
            assert!(exists, "{name} links to {target}, which is not there");
            let is_there = heading.is_empty() || anchors(&read(&path)).contains(heading);
            assert!(
                is_there,
                "{name} links to {target}: there is no such heading"
            );
        }
    }
    assert!(found > 40, "only {found} links are found");
}

/// Fields whose values are others each time.
const VARYING: [&str; 4] = ["ip", "addr", "since", "start"];

/// Fields that say how far a start is, which depends on the moment.
const PROGRESS: [&str; 4] = ["phase", "reason", "msg", "status"];

/// Replaces the values of these fields, however deep.
fn without(value: &mut Value, fields: &[&str]) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                if fields.contains(&key.as_str()) {
                    *member = "…".into();
                } else {
                    without(member, fields);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| without(item, fields)),
        _ => {}
    }
}

/// The commands in the blocks for consoles, each with its output.
fn console(text: &str) -> Vec<(&str, &str)> {
    let blocks = text.split("```console\n").skip(1);
    let blocks = blocks.filter_map(|rest| rest.split("```").next());
    let commands = blocks.flat_map(|block| block.split("$ ").skip(1));
    commands
        .filter_map(|command| command.trim_end().split_once('\n'))
        .collect()
}

/// Every response in the README is what the sandbox returns.
#[test]
fn each_command_has_the_output_that_is_shown() {
    let mut sandbox = Sandbox::start(&[]);
    let host = sandbox.url();
    let host = host.trim_start_matches("http://");
    let readme = read("README.md");
    let commands = console(&readme);
    assert!(commands.len() > 6, "only {} commands", commands.len());
    let json = |text: &str| -> Value {
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
    };
    for (command, shown) in commands {
        let (_, response) = curl(&command.replace("localhost:3333", &format!("http://{host}")));
        let (mut shown, mut returned) = (json(shown), json(&response));
        // What went wrong does not depend on the moment.
        let is_on_its_way = shown["exitCode"].is_null() && shown["phase"].is_string();
        for body in [&mut shown, &mut returned] {
            without(body, &VARYING);
            if is_on_its_way {
                without(body, &PROGRESS);
            }
        }
        assert_eq!(returned, shown, "{command}");
    }
}

/// Whoever opens a long document finds each of its sections from the top.
#[test]
fn long_documents_begin_with_their_contents() {
    for (name, words_max) in LONG {
        let text = read(name);
        let words = text.split_whitespace().count();
        assert!(words <= words_max, "{name} has {words} words");
        let (top, _) = text.split_once("\n## ").expect("it has sections");
        let sections = text.lines().filter(|line| line.starts_with("## "));
        let mut count = 0;
        for heading in sections {
            let link = format!("](#{})", anchor(heading));
            assert!(top.contains(&link), "{name}: no link leads to {heading}");
            count += 1;
        }
        assert!(count > 4, "{name} has only {count} sections");
    }
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "it has {lines} lines");
}

/// Without `--show-error` a `curl` that fails says nothing, and the next command gets an empty text.
#[test]
fn no_command_hides_its_failure() {
    let guides = ["manifests/helm/config-controller/templates/NOTES.txt"];
    for name in DOCUMENTS.into_iter().chain(guides) {
        for line in read(name).lines() {
            assert!(!line.contains("curl -s "), "{name}: {line}");
        }
    }
}

/// Whoever looks for the tests of a promise finds them under the names in the table.
#[test]
fn the_tests_of_each_promise_exist() {
    let section = section(&read("tests/README.md"), "## What is proven where");
    let rows = section.lines().filter(|line| line.starts_with("| "));
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let mut count = 0;
    for name in names {
        let path = name.replace("::", "/");
        let places = [
            format!("tests/it/{path}.rs"),
            format!("src/{path}.rs"),
            path,
        ];
        let exists = places.iter().any(|place| repository().join(place).exists());
        assert!(exists, "there is no {name}");
        count += 1;
    }
    assert!(count > 20, "only {count} names were found");
}

/// The text of all source files of the program.
fn sources() -> String {
    let mut text = String::new();
    let mut folders = vec![repository().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the sources") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text.push_str(&read(&path));
            }
        }
    }
    text
}

/// The words of a schema that is an `enum`, each with its statuses.
fn words(name: &str) -> BTreeMap<String, Vec<u64>> {
    let document: Value = serde_json::from_str(&DOCUMENT).expect("the document is JSON");
    let schema = &document["components"]["schemas"][name];
    let listed = schema["enum"].as_array().expect("the schema lists words");
    let codes = schema["x-codes"].as_array();
    let statuses = |word: &Value| {
        let code = codes
            .into_iter()
            .flatten()
            .find(|code| code["code"] == *word);
        let statuses = code.and_then(|code| code["status"].as_array());
        statuses
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .collect()
    };
    let listed = listed.iter();
    listed
        .map(|word| (word.as_str().expect("a word").to_owned(), statuses(word)))
        .collect()
}

/// A status and a word as in "403 `refused`", wherever they stand so.
fn statuses(text: &str) -> Vec<(u64, &str)> {
    let parts: Vec<&str> = text.split('`').collect();
    let pairs = parts.windows(2).step_by(2);
    pairs
        .filter_map(|pair| {
            let before = pair[0].strip_suffix(' ')?;
            let status = before.get(before.len().checked_sub(3)?..)?;
            Some((status.parse().ok()?, pair[1]))
        })
        .collect()
}

#[test]
fn troubleshooting_quotes_existing_texts() {
    let section = section(OPERATORS, "## Troubleshooting");
    let rows: Vec<&str> = section.lines().filter(|l| l.starts_with("| ")).collect();
    // Beside the heading of the table.
    assert!(rows.len() > PROBLEMS_MIN, "only {} rows", rows.len());
    let (codes, phases, sources) = (words("ErrorCode"), words("Phase"), sources());
    let alerts = read("manifests/monitoring/prometheus-rule.yaml");
    let mut seen = 0;
    for row in rows {
        for (status, word) in statuses(row) {
            let known = match status {
                202 => phases.contains_key(word),
                _ => codes.get(word).is_some_and(|all| all.contains(&status)),
            };
            assert!(known, "no response is {status} {word}: {row}");
            seen += 1;
        }
        for quoted in row.split('"').skip(1).step_by(2) {
            for piece in quoted.split('…').map(str::trim).filter(|p| !p.is_empty()) {
                assert!(
                    sources.contains(piece),
                    "no source contains '{piece}': {row}"
                );
            }
            seen += 1;
        }
        for alert in row.split('`').filter(|w| w.starts_with("ConfigController")) {
            let line = format!("- alert: {alert}\n");
            assert!(alerts.contains(&line), "there is no alert {alert}");
            seen += 1;
        }
    }
    assert!(seen > 25, "only {seen} of them were found");
    // `admitting` ends with the response to our own call, which has a row of its own.
    for phase in phases.keys().filter(|phase| *phase != "admitting") {
        let has_row = section.contains(&format!("| 202 `{phase}`"));
        assert!(has_row, "no row is about starts that are {phase}");
    }
    // Those of the HTTP front itself name what they found, and the fix.
    let fronts = [408, 413, 414, 417, 431, 501, 505];
    for (code, statuses) in &codes {
        let is_listed = section.contains(&format!("`{code}`"));
        let is_fronts = statuses.iter().all(|status| fronts.contains(status));
        assert!(is_listed || is_fronts, "no row is about {code}");
    }
    for line in alerts.lines() {
        if let Some(alert) = line.trim().strip_prefix("- alert: ") {
            assert!(section.contains(alert), "no row is about {alert}");
        }
    }
}

#[test]
fn rights_are_those_of_the_role() {
    let section = section(OPERATORS, "## Security");
    let table = section.split("| resource | verbs | why |").nth(1);
    let table = table.expect("there is the table of rights").trim_start();
    let mut resource = String::new();
    let mut written = BTreeSet::new();
    for row in table.lines().skip(1).take_while(|l| l.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if !cells[1].is_empty() {
            resource = cells[1].to_lowercase();
        }
        for verb in cells[2].split('`').skip(1).step_by(2) {
            written.insert((verb.to_owned(), resource.clone()));
        }
    }
    assert_eq!(written, granted(ROLE));
}
