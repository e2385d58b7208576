//! Rules of this repository, as tests instead of remarks in every review.

mod clocks;
mod files;
mod imports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use config_controller::config::SETTINGS;
use serde_json::{Value, json};

use crate::fake_kube::dynamics::{pod_script::PodScript, pods::PodMove};
use crate::harness::{NAMESPACE, ROLE, TestEnvironment, eventually, name_of, repository};

/// Longest file, in lines.
const FILE_LINES_MAX: usize = 600;

/// Longest function, in lines from its signature to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

/// Functions that may be longer, and why.
#[rustfmt::skip]
const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[("src/service.rs", "start", "the wiring of all parts, without a decision"),
    ("tests/it/simulation/callers.rs", "check_response", "one table: what each response must fulfil"),
    ("tests/it/simulation/promises.rs", "description", "one table: the text of each promise"),
    ("tests/it/simulation/replica.rs", "new", "the wiring of all parts, without a decision")];

/// Words that are for the moment only, or for programs that are no service. Put together here,
/// so that this file does not find itself.
fn forbidden_words() -> [String; 4] {
    ["dbg", "todo", "unimplemented", "println"].map(|word| format!("{word}!"))
}

/// A source file of this repository.
struct Source {
    /// From the root of the repository, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// Its lines without comments and without its tests. A `mod tests;` for a file of its own may
    /// stand anywhere, tests in the file stand at its end.
    fn code(&self) -> impl Iterator<Item = &str> {
        let mut lines = self.text.lines().peekable();
        std::iter::from_fn(move || {
            while lines.peek()?.starts_with("#[cfg(test)]") {
                lines.next();
                lines.next().filter(|declared| declared.ends_with(';'))?;
            }
            lines.next()
        })
        .filter(|line| !line.trim_start().starts_with("//"))
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests") || self.path.starts_with("tests/")
    }
}

/// All Rust files under this folder.
fn sources(folder: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![repository().join(folder)];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).expect("a folder of the repository");
        for entry in entries {
            let path: PathBuf = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source {
                    path: shown(&path),
                    text: std::fs::read_to_string(&path).expect("a source file is text"),
                });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn shown(path: &Path) -> String {
    let path = path.strip_prefix(repository()).expect("a path of ours");
    path.to_string_lossy().replace('\\', "/")
}

fn all_sources() -> Vec<Source> {
    let mut all = sources("src");
    all.extend(sources("tests"));
    assert!(all.len() > 50, "the sources are found");
    all
}

#[track_caller]
fn check_none(rule: &str, offences: &[String]) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

#[test]
fn the_code_is_formatted() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["fmt", "--check"])
        .current_dir(repository())
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "run `cargo fmt`:\n{text}");
}

#[test]
fn no_debugging_macros_and_no_sleeps() {
    let words = forbidden_words();
    let nap = ["thread", "::sleep"].concat();
    let mut offences = Vec::new();
    for source in all_sources() {
        let prints =
            source.path == "src/main.rs" || source.path.ends_with("/main.rs") || source.is_test();
        for (number, line) in source.text.lines().enumerate() {
            let word = words.iter().find(|word| {
                line.contains(word.as_str()) && !(prints && word.starts_with("print"))
            });
            let naps = source.path.starts_with("tests/it/") && line.contains(&nap);
            if word.is_some() || naps {
                offences.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    check_none("words that may not stay", &offences);
}

/// A test that is ignored for another reason would never run.
#[test]
fn only_tests_that_need_a_cluster_are_ignored() {
    let ignored = ["#[", "ignore"].concat();
    let reason = format!("{ignored} = \"needs a cluster\"]");
    let (mut offences, mut count) = (Vec::new(), 0);
    for source in all_sources() {
        for (number, line) in source.text.lines().enumerate() {
            let line = line.trim_start();
            count += usize::from(line == reason);
            if line.starts_with(&ignored) && line != reason {
                offences.push(format!("{}:{}: {line}", source.path, number + 1));
            }
        }
    }
    assert!(count > 50, "only {count} ignored tests were found");
    check_none("tests that are ignored for another reason", &offences);
}

/// Where a crate may be named; everywhere else it may not.
const CRATES_AT_HOME: &[(&str, &[&str])] = &[
    // The collector of traces is another server, with another CA and nothing else in common, and
    // traces are a leaf.
    ("ureq", &["src/kube/transport.rs", "src/traces/post.rs"]),
    (
        "rustls",
        &[
            "src/kube/transport.rs",
            "src/http/tls.rs",
            "src/traces/post.rs",
        ],
    ),
    ("opentelemetry", &["src/traces/otlp.rs"]),
    ("opentelemetry_proto", &["src/traces/otlp.rs"]),
    ("opentelemetry_sdk", &["src/traces/otlp.rs"]),
    ("prost", &["src/traces/otlp.rs"]),
    ("tiny_http", &["src/http/wire.rs"]),
];

#[test]
fn large_crates_are_named_in_few_files() {
    let mut offences = Vec::new();
    for (name, homes) in CRATES_AT_HOME {
        for source in sources("src") {
            let at_home = homes.iter().any(|home| source.path == *home);
            // The tests of that one file are in a folder beside it.
            let beside = homes
                .iter()
                .any(|home| source.path.starts_with(home.trim_end_matches(".rs")));
            let path = format!("{name}::");
            let named = source.code().find(|line| line.contains(&path));
            if let Some(line) = named.filter(|_| !at_home && !beside) {
                offences.push(format!("{} names {name}: {line}", source.path));
            }
            if at_home && !source.code().any(|line| line.contains(&path)) {
                offences.push(format!("{} does not name {name}", source.path));
            }
        }
    }
    check_none("crates outside their home", &offences);
}

/// The request reader of tiny_http has known weaknesses (`deny.toml`); its values have none.
#[test]
fn only_values_of_tiny_http_are_used() {
    let wire = sources("src/http");
    let wire = wire.iter().find(|source| source.path == "src/http/wire.rs");
    let lines = wire.expect("it is there").code();
    let named: Vec<&str> = lines.filter(|line| line.contains("tiny_http")).collect();
    assert_eq!(named, ["use tiny_http::{Header, StatusCode};"]);
}

/// The modules that a module may name, besides itself; nothing points back.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &["kube::types"]),
    ("kube", &["budget", "clock"]),
    ("store", &["kube", "budget", "clock", "shutdown", "threads"]),
    (
        "app",
        &["store", "kube", "model", "budget", "clock", "threads"],
    ),
    (
        "http",
        &[
            "app", "model", "health", "budget", "clock", "threads", "logging",
        ],
    ),
];

#[test]
fn layers_point_one_way() {
    let modules = ["app", "http", "kube", "model", "store", "service"];
    let mut offences = Vec::new();
    for (layer, allowed) in LAYERS {
        // Tests make what comes from below by hand.
        let sources = sources(&format!("src/{layer}"));
        for source in sources.iter().filter(|s| !s.path.ends_with("/tests.rs")) {
            for line in source.code().filter(|line| line.contains("crate::")) {
                for module in modules.iter().filter(|module| *module != layer) {
                    let named = line.contains(&format!("crate::{module}::"))
                        || line.contains(&format!("crate::{module};"))
                        || line.contains(&format!("crate::{{{module}"));
                    let fine = allowed.iter().any(|allowed| {
                        allowed.split("::").next() == Some(*module)
                            && line.contains(&format!("crate::{allowed}"))
                    });
                    if named && !fine {
                        offences.push(format!("{}: {}", source.path, line.trim()));
                    }
                }
            }
        }
    }
    check_none("a layer names one above it", &offences);
}

/// Files that take time, bytes and words as values (design: marked pure).
const PURE: &[&str] = &[
    "src/config.rs",
    "src/config/",
    "src/health.rs",
    "src/model/",
    "src/kube/types",
    "src/kube/status.rs",
    "src/kube/request.rs",
    "src/kube/watch",
    "src/kube/error.rs",
    "src/store/store.rs",
    "src/store/backoff.rs",
    "src/app/api_call.rs",
    "src/app/cache.rs",
    "src/app/catalog.rs",
    "src/app/changes.rs",
    "src/app/coordinator",
    "src/app/error.rs",
    "src/app/keys.rs",
    "src/app/list",
    "src/app/lifecycle.rs",
    "src/app/request.rs",
    "src/app/request_handle.rs",
    "src/app/request_id.rs",
    "src/app/review/memory.rs",
    "src/app/timings.rs",
    "src/http/auth.rs",
    "src/http/auth/attempts.rs",
    "src/http/auth/tokens.rs",
    "src/http/body.rs",
    "src/http/conditional.rs",
    "src/http/connection",
    "src/http/message",
    "src/http/openapi",
    "src/http/prefer.rs",
    "src/http/problem.rs",
    "src/http/router.rs",
    "src/http/timing.rs",
    "src/traces/context.rs",
    "src/traces/settings.rs",
    "src/yaml",
];

/// What a pure file may not name. Addresses are values, sockets are not.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::thread",
    "std::env",
    "std::process",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "Instant::now()",
    "SystemTime::now()",
    "Timestamp::now()",
    "thread::",
    "fs::",
];

#[test]
fn pure_files_do_no_io() {
    let mut offences = Vec::new();
    let all = sources("src");
    for marked in PURE {
        let of_it = all.iter().filter(|source| source.path.starts_with(marked));
        let files: Vec<&Source> = of_it.filter(|source| !source.is_test()).collect();
        if files.is_empty() {
            offences.push(format!("{marked} is marked pure, but is not there"));
        }
        for source in files {
            for line in source.code() {
                let named = IMPURE.iter().find(|word| line.contains(**word));
                if named.is_some() {
                    offences.push(format!("{}: {}", source.path, line.trim()));
                }
            }
        }
    }
    check_none("a pure file touches the world", &offences);
}

#[test]
fn files_are_short_or_listed_with_a_reason() {
    let mut offences = Vec::new();
    let all = all_sources();
    for source in &all {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            offences.push(format!("{}: {lines} lines", source.path));
        }
    }
    check_none("files of more than 600 lines", &offences);
}

/// Functions with their first line and their length: rustfmt puts the closing brace of a
/// function under the beginning of its signature.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let code = line.trim_start();
        let indent = line.len() - code.len();
        let words = code.split(['(', '<', ' ']).collect::<Vec<_>>();
        let Some(name) = words
            .iter()
            .position(|word| *word == "fn")
            .filter(|position| *position <= 3 && !code.starts_with("//"))
            .and_then(|position| words.get(position + 1))
            // In a macro's pattern there are names to come.
            .filter(|name| !name.starts_with('$'))
        else {
            continue;
        };
        let close = format!("{}}}", " ".repeat(indent));
        let is_end = |line: &&str| **line == close || line.starts_with(&format!("{close} "));
        if line.ends_with('}') || line.ends_with(';') {
            continue;
        }
        let length = lines[at..].iter().position(is_end);
        found.push(((*name).to_owned(), length.map_or(1, |length| length + 1)));
    }
    found
}

#[test]
fn functions_are_short_or_listed_with_a_reason() {
    let mut offences = Vec::new();
    let mut counted = 0;
    for source in all_sources() {
        for (name, lines) in functions(&source) {
            counted += 1;
            let excused = LONG_FUNCTIONS
                .iter()
                .any(|(path, long, _)| *path == source.path && *long == name);
            if lines > FUNCTION_LINES_MAX && !excused {
                offences.push(format!("{}: {name} has {lines} lines", source.path));
            }
        }
    }
    assert!(counted > 500, "only {counted} functions were found");
    check_none("functions of more than 70 lines", &offences);
}

/// The crates of Cargo.lock with their versions.
fn locked() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository().join("Cargo.lock"));
    let text = text.expect("there is a Cargo.lock");
    let value = |line: &str, key: &str| {
        let rest = line.strip_prefix(key)?.strip_prefix(" = \"")?;
        Some(rest.trim_end_matches('"').to_owned())
    };
    let packages = text.split("[[package]]").skip(1);
    let mut all: Vec<(String, String)> = packages
        .filter_map(|package| {
            let name = package.lines().find_map(|line| value(line, "name"))?;
            let version = package.lines().find_map(|line| value(line, "version"))?;
            Some((name, version))
        })
        .collect();
    all.sort();
    all
}

/// The list is by name alone: a new version is no news, a new crate is.
#[test]
fn dependencies_are_those_that_were_reviewed() {
    let names: BTreeSet<String> = locked().into_iter().map(|(name, _)| name).collect();
    let mut text: String = names.into_iter().collect::<Vec<_>>().join("\n");
    text.push('\n');
    check_golden("dependencies.txt", &text);
}

/// Compares with a file of `tests/it/golden`; `UPDATE_EXPECT=1` rewrites it.
#[track_caller]
pub(crate) fn check_golden(name: &str, text: &str) {
    let path = repository().join("tests/it/golden").join(name);
    if std::env::var("UPDATE_EXPECT").as_deref() == Ok("1") {
        std::fs::write(&path, text).expect("a golden file can be written");
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, golden,
        "{name}: UPDATE_EXPECT=1 cargo test rewrites it"
    );
}

/// Crates of which there may be two versions, and why.
const DOUBLE_CRATES: &[(&str, &str)] = &[
    (
        "getrandom",
        "a call to the system for random bytes: ring asks for 0.2, rand, which OpenTelemetry's SDK numbers spans with, for 0.3",
    ),
    (
        "syn",
        "a parser of derive macros, which is in no program of ours: serde has gone on to 3, jiff and prost not yet",
    ),
    (
        "windows-sys",
        "for Windows alone, which we do not build for; ring asks for an older one",
    ),
];

#[test]
fn no_crate_has_two_versions() {
    let mut versions: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, version) in locked() {
        versions.entry(name).or_default().push(version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let double: Vec<&str> = versions.keys().map(String::as_str).collect();
    let excused: Vec<&str> = DOUBLE_CRATES.iter().map(|(name, _)| *name).collect();
    assert_eq!(double, excused, "{versions:?}");
}

#[test]
fn every_dependency_has_a_reason() {
    let text = std::fs::read_to_string(repository().join("Cargo.toml"));
    let text = text.expect("there is a Cargo.toml");
    let mut section = "";
    let mut before = "";
    let mut offences = Vec::new();
    for line in text.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once(" = ")
            && !before.starts_with(&format!("# {name}: "))
        {
            offences.push(line.to_owned());
        }
        before = line;
    }
    check_none("a dependency without its line of reason", &offences);
}

#[test]
fn the_readme_has_every_setting() {
    let text = std::fs::read_to_string(repository().join("README.md"));
    let text = text.expect("there is a README.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            line.trim_matches('|')
                .splitn(3, '|')
                .map(str::trim)
                .collect()
        })
        .collect();
    let mut offences = Vec::new();
    for setting in SETTINGS {
        let name = format!("`{}`", setting.name);
        let row = rows.iter().find(|row| row[0] == name);
        let default = match setting.default {
            "" => "–".to_owned(),
            default => format!("`{default}`"),
        };
        let expected = [name.as_str(), default.as_str(), setting.help];
        if row.is_none_or(|row| row[..] != expected) {
            offences.push(format!("| {} |", expected.join(" | ")));
        }
    }
    check_none("the README's table lacks these rows", &offences);
}

/// What a Role grants, as verb and resource.
pub(crate) fn granted(yaml: &str) -> BTreeSet<(String, String)> {
    let role: Value = serde_yaml::from_str(yaml).expect("the Role is YAML");
    let strings = |list: &Value| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        all.filter_map(|v| v.as_str().map(str::to_owned)).collect()
    };
    let rules = role["rules"].as_array().expect("a Role has rules");
    let mut all = BTreeSet::new();
    for rule in rules {
        for resource in strings(&rule["resources"]) {
            for verb in strings(&rule["verbs"]) {
                all.insert((verb, resource.clone()));
            }
        }
    }
    all
}

/// A missing verb fails the behaviour tests, which run under this Role. An unused verb fails here,
/// where the service makes every kind of call.
#[test]
fn the_role_grants_exactly_the_used_permissions() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    environment
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    environment.delete("/app/hello/ann").expect(200);
    // A name that is taken by another Job is read.
    let others = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "hello-taken"},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "app", "image": "i"}],
        }}},
    });
    environment
        .kube
        .apply(NAMESPACE, &others)
        .expect("a Job is taken");
    environment
        .get("/app/hello/taken")
        .expect_error(409, "name_taken");
    // A pod that does not go is removed: its node is dead.
    environment.kube.set_pod_script(
        "hello-dead",
        PodScript {
            lingers: true,
            ..PodScript::default()
        },
    );
    environment.start_instance("/app/hello/dead");
    environment.delete("/app/hello/dead").expect(200);
    let pod = eventually("the deletion is seen", || {
        environment
            .kube
            .pod_of(NAMESPACE, "hello-dead")
            .filter(|pod| !pod["metadata"]["deletionTimestamp"].is_null())
    });
    environment
        .kube
        .move_pod(NAMESPACE, &name_of(&pod), &PodMove::LoseNode);
    eventually("the pod is force-deleted", || {
        environment.advance(Duration::from_secs(1));
        (environment.kube.count("delete", "pods") > 0).then_some(())
    });
    // Whether pods may be tried is found out by trying.
    let asked = || {
        let requests = environment.kube.requests().into_iter();
        requests.filter(|r| r.verb != "dry-run")
    };
    assert!(asked().all(|r| r.code != 403));
    environment.start_instance("/app/hello/ann");
    eventually("all that is granted is used", || {
        environment.advance(Duration::from_secs(2));
        let asked: BTreeSet<_> = asked().map(|it| (it.verb, it.resource)).collect();
        (asked == granted(ROLE)).then_some(())
    });
}
