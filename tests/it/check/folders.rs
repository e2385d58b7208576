//! What `check` reads of files and folders: each file on its own, and nothing skipped without a row.

use config_controller::check::FILES_MAX;
use config_controller::store::TEMPLATES_MAX;
use serde_json::json;

use super::{check, with};
use crate::harness::TemporaryFolder;

/// A pod template that a start would succeed with.
const GOOD: &str = "\
spec:
  restartPolicy: Never
  containers:
  - {name: app, image: 'app:1', readinessProbe: {httpGet: {port: 80}}}
";

/// A manifest of a ConfigMap with a template of the type `hello`.
fn manifest(name: &str, template: &str) -> String {
    let template: String = template
        .lines()
        .map(|line| format!("    {line}\n"))
        .collect();
    format!("kind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  hello.yaml: |\n{template}")
}

/// Writes these files to a new folder; returns it, and its path.
fn folder(files: &[(&str, &str)]) -> (TemporaryFolder, String) {
    let folder = TemporaryFolder::new();
    for (name, text) in files {
        let path = folder.path(name);
        let parent = path.parent().expect("it is in a folder");
        std::fs::create_dir_all(parent).expect("the folder can be made");
        std::fs::write(path, text).expect("the file can be written");
    }
    let path = folder.path("").display().to_string();
    (folder, path)
}

#[test]
fn files_with_config_maps_of_the_same_name_are_checked_each() {
    let bad = GOOD.replace("Never", "Sometimes");
    let (folder, _) = folder(&[
        ("dev/apps.yaml", &manifest("apps", GOOD)),
        ("prod/apps.yaml", &manifest("apps", &bad)),
    ]);
    let path = |name: &str| folder.path(name).display().to_string();
    let (code, lines, _) = check(None, &[&path("dev"), &path("prod")]);
    assert_eq!((code, lines.len()), (Some(1), 2), "{lines:?}");
    assert_eq!(with("ok", &lines), ["ok template hello of apps"]);
    let failed = with("FAIL", &lines);
    let place = format!("({}/apps.yaml, key hello.yaml, 2:3)", path("prod"));
    assert!(failed[0].ends_with(&place), "{failed:?}");

    let render = |names: &[&str]| {
        let paths: Vec<String> = names.iter().map(|name| path(name)).collect();
        let mut arguments = vec!["--render=hello"];
        arguments.extend(paths.iter().map(String::as_str));
        check(None, &arguments)
    };
    assert_eq!(render(&["dev"]).0, Some(0));
    let (code, lines, _) = render(&["dev", "prod"]);
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    assert!(lines[0].contains("name only one of them"), "{lines:?}");
}

#[test]
fn config_maps_that_take_something_from_each_other_are_warnings() {
    let first = manifest("apps", GOOD);
    let twice = format!("{first}---\n{first}");
    let of = |text: &str, namespace: &str| {
        text.replace(
            "{name: apps",
            &format!("{{namespace: {namespace}, name: apps"),
        )
    };
    for (text, expected) in [
        (&first, None),
        (&twice, Some("kubectl keeps the last one")),
        (
            &format!("{first}---\n{}", manifest("more", GOOD)),
            Some("in one namespace only that of apps is used"),
        ),
        (
            &format!("{}---\n{}", of(&first, "dev"), of(&first, "prod")),
            None,
        ),
    ] {
        let (folder, _) = folder(&[("apps.yaml", text)]);
        let file = folder.path("apps.yaml").display().to_string();
        let (code, lines, _) = check(None, &[&file]);
        assert_eq!(code, Some(0), "{lines:?}");
        let documents = text.matches("---").count() + 1;
        assert_eq!(with("ok", &lines).len(), documents, "{lines:?}");
        let warned = with("warn", &lines);
        assert_eq!(warned.len(), expected.iter().count(), "{lines:?}");
        for (warned, expected) in warned.iter().zip(expected) {
            assert!(warned.contains(expected), "{warned}");
        }
    }
}

/// Checks a folder with a good manifest and another file: the rows about that, as word and text.
#[track_caller]
fn check_other(name: &str, text: &str, expected: &[(&str, &str)]) {
    let (_folder, path) = folder(&[("1.yaml", &manifest("apps", GOOD)), (name, text)]);
    let (code, lines, _) = check(None, &[&path]);
    assert_eq!(with("ok", &lines)[0], "ok template hello of apps");
    let has_failed = expected.iter().any(|(word, _)| *word == "FAIL");
    assert_eq!(code, Some(i32::from(has_failed)), "{text}: {lines:?}");
    assert_eq!(lines.len(), 1 + expected.len(), "{text}: {lines:?}");
    for (line, (word, text)) in lines[1..].iter().zip(expected) {
        assert!(line.starts_with(word) && line.contains(text), "{line}");
    }
}

#[test]
fn what_cannot_be_read_of_a_folder_is_named() {
    let brackets = "the brackets do not match";
    let broken = "kind: ConfigMap\nmetadata: [\n";
    check_other("2.yaml", broken, &[("FAIL", brackets)]);
    check_other("2.json", "{\"kind\": \"List\", [", &[("FAIL", brackets)]);
    check_other("2.yml", "a: [\n", &[("FAIL", brackets)]);
    let other = "kind: Deployment\nspec: [\n";
    let text = "a Deployment that cannot be read: the brackets";
    check_other("2.yaml", other, &[("warn", text)]);
    check_other("2.yaml", "kind: Deployment\nspec: {max: .inf}\n", &[]);
    check_other("2.yaml", "kind: Deployment\n", &[]);
    check_other("2.yaml", "values: of a chart\n", &[]);
    check_other("2.yaml", "", &[]);
    check_other("2.yaml", "\u{0}", &[("FAIL", "not allowed")]);
    check_other("2.txt", broken, &[]);

    let (folder, path) = folder(&[("1.yaml", &manifest("apps", GOOD))]);
    std::os::unix::fs::symlink("nowhere", folder.path("2.yaml")).expect("a link");
    std::fs::write(folder.path("3.yaml"), b"a: \xff").expect("the file can be written");
    let (code, lines, _) = check(None, &[&path]);
    let failed = with("FAIL", &lines);
    assert_eq!((code, failed.len()), (Some(1), 2), "{lines:?}");
    assert!(failed.iter().all(|line| line.contains("cannot be read")));
}

#[test]
fn one_document_hides_no_other() {
    let good = manifest("more", GOOD);
    let ok = ("ok", "template hello of more");
    let doubled = ("warn", "in one namespace only that of apps is used");
    let no_kind = ("FAIL", "the document has no kind");
    for (text, expected) in [
        (
            format!("{good}---\nmetadata: {{}}\n"),
            [ok, doubled, no_kind],
        ),
        (
            format!("metadata: {{}}\n---\n{good}"),
            [no_kind, ok, doubled],
        ),
        (
            format!("a: [\n---\n{good}"),
            [("FAIL", "brackets"), ok, doubled],
        ),
        (
            format!("{good}---\nkind: ConfigMap\ndata: {{}}\n"),
            [ok, doubled, ("FAIL", "metadata.name: Required value")],
        ),
    ] {
        check_other("2.yaml", &text, &expected);
    }
}

#[test]
fn pod_templates_of_a_folder_are_checked() {
    let bad = GOOD.replace("Never", "Sometimes");
    let control = format!("% if alternatives['a'] == '1':\n{GOOD}% endif\n");
    check_other("2.yaml", GOOD, &[("ok", "2.yaml")]);
    check_other("2.yaml", &bad, &[("FAIL", "Unsupported value")]);
    let needs = ("ok", "requires a");
    let lines = ("warn", "only its control lines");
    let (_folder, path) = folder(&[("a.yaml", &control), ("b.yaml", "values: x\n")]);
    let (code, found, _) = check(None, &[&path]);
    assert_eq!(code, Some(0), "{found:?}");
    for (line, (word, text)) in found.iter().zip([needs, lines]) {
        assert!(line.starts_with(word) && line.contains(text), "{line}");
    }
}

#[test]
fn a_name_that_holds_nothing_gets_a_row() {
    let empty = manifest("apps", GOOD).replace("hello.yaml", "hello.txt");
    let (folder, path) = folder(&[
        ("empty/config_map.yaml", &empty),
        ("other/secret.yaml", "kind: Secret\n"),
        ("other/more/apps.yaml", &manifest("apps", GOOD)),
        ("above/.hidden/apps.yaml", ""),
        ("above/apps.yaml", &manifest("apps", GOOD)),
        ("above/base/apps.yaml", ""),
    ]);
    let named = |name: &str| {
        let (code, lines, _) = check(None, &[&format!("{path}{name}")]);
        (code, lines)
    };
    for (name, code, text) in [
        (
            "empty",
            0,
            "no ConfigMap in it has a key that ends with .yaml",
        ),
        (
            "empty/config_map.yaml",
            0,
            "no ConfigMap in it has a key that ends with .yaml",
        ),
        ("other/secret.yaml", 1, "it contains no ConfigMap"),
        ("above/base", 1, "contains a ConfigMap or is a pod template"),
    ] {
        let (found, lines) = named(name);
        assert_eq!((found, lines.len()), (Some(code), 1), "{lines:?}");
        assert!(lines[0].contains(text), "{lines:?}");
    }
    let (code, lines) = named("other");
    assert_eq!((code, lines.len()), (Some(1), 2), "{lines:?}");
    assert!(lines[0].ends_with("its folders are not read: more"));
    let (code, lines) = named("above");
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(lines[1].ends_with("its folders are not read: base"));
    drop(folder);
}

#[test]
fn a_broken_config_map_is_reported_once() {
    for (text, expected) in [
        ("kind: ConfigMap\ndata: {}\n", "metadata.name: Required"),
        (
            "kind: ConfigMap\nmetadata: {name: a}\ndata:\n  a.yaml: {spec: 1}\n",
            "ConfigMap a data.a.yaml: wrong type; expected a string: put `|` after the key",
        ),
        (
            "kind: ConfigMap\nmetadata: {name: a}\ndata: {REPLICAS: 1}\n",
            "data.REPLICAS: wrong type: 1; expected a string; put quotes around it",
        ),
        (
            "kind: ConfigMap\nmetadata: {name: a}\ndata: []\n",
            "data: wrong type; expected a map of strings",
        ),
        (
            "kind: ConfigMap\nmetadata: {name: a, annotations: 5}\n",
            "invalid ConfigMap",
        ),
    ] {
        let (folder, path) = folder(&[("a.yaml", text)]);
        for path in [&path, &folder.path("a.yaml").display().to_string()] {
            let (code, lines, _) = check(None, &[path]);
            assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
            let failed = with("FAIL", &lines);
            assert!(failed[0].contains(expected), "{failed:?}");
        }
    }
    let text = "kind: Secret\n---\nkind: List\nitems:\n- kind: ConfigMap\n  metadata: {name: a}\n  data:\n    REPLICAS: 1\n";
    let (folder, _) = folder(&[("a.yaml", text)]);
    let file = folder.path("a.yaml").display().to_string();
    let (_, lines, _) = check(None, &[&file]);
    assert!(lines[0].ends_with("a.yaml, document 2, 8:5)"), "{lines:?}");
}

#[test]
fn keys_that_are_not_named_are_counted() {
    for (count, rows) in [(15, 15), (16, 17), (100, 17)] {
        let keys = (0..count).map(|number| (format!("{number}.yml"), json!("")));
        let data: serde_json::Map<String, serde_json::Value> = keys.collect();
        let map = json!({"kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}).to_string();
        let (folder, _) = folder(&[("a.yaml", &map)]);
        let file = folder.path("a.yaml").display().to_string();
        let (code, lines, _) = check(None, &[&file]);
        assert_eq!((code, with("warn", &lines).len()), (Some(0), rows));
    }
}

#[test]
fn large_documents_are_read() {
    let folder = TemporaryFolder::new();
    // The text of each is larger than a template may be, and the last has more values.
    let quotes = "\"".repeat(600 * 1024);
    let many = vec!["x"; 60_000];
    let json = |padding: &str| {
        json!({"kind": "ConfigMap", "metadata": {"name": "apps", "managedFields": many}, "data": {"hello.yaml": GOOD, "padding.txt": padding}}).to_string()
    };
    let yaml = format!(
        "{}  padding.txt: '{}'\n",
        manifest("apps", GOOD).replace(
            "{name: apps}",
            &format!("{{name: apps, finalizers: [{}]}}", many.join(","))
        ),
        "''".repeat(600 * 1024)
    );
    let list = format!(
        "{{\"kind\": \"List\", \"items\": [{{\"kind\": \"List\", \"items\": [{}]}}]}}",
        json("")
    );
    for text in [json(&quotes), yaml, list] {
        let file = folder.write("apps.yaml", &text);
        let (code, lines, _) = check(None, &[&file.display().to_string()]);
        assert_eq!((code, lines.len()), (Some(0), 1), "{lines:?}");
        assert_eq!(with("ok", &lines), ["ok template hello of apps"]);
    }
    let file = folder.write("apps.json", &json(&"x".repeat(1024 * 1024)));
    let (code, lines, _) = check(None, &[&file.display().to_string()]);
    assert_eq!((code, lines.len()), (Some(1), 2), "{lines:?}");
    let text = "Too long: its values have ";
    assert!(with("FAIL", &lines)[0].contains(text), "{lines:?}");
}

#[test]
fn a_folder_is_read_up_to_its_bound() {
    let (folder, path) = folder(&[("apps.yaml", &manifest("apps", GOOD))]);
    for (number, code) in [(FILES_MAX, 0), (FILES_MAX + 1, 1)] {
        for other in 1..number {
            folder.write(&format!("{other}.json"), "");
        }
        let (found, lines, _) = check(None, &[&path]);
        assert_eq!((found, lines.len()), (Some(code), 1), "{lines:?}");
        let is_over = lines[0].contains("it has more than 1000 manifests");
        assert_eq!(is_over, code == 1, "{lines:?}");
    }
    for number in 1..=6 {
        let folder = folder.path(&format!("in/{number}"));
        std::fs::create_dir_all(folder).expect("it can be made");
    }
    let (_, lines, _) = check(None, &[&format!("{path}in")]);
    assert!(lines[0].ends_with(", …"), "{lines:?}");
}

#[test]
fn settings_that_nobody_reads_are_warnings() {
    let key = "config-controller.semafor.ch";
    let annotations = format!(
        "{{name: apps, annotations: {{{key}/min-redy: 1s, helo.{key}/example: a=b, {key}/min-ready: 1s}}}}"
    );
    let text = manifest("apps", GOOD).replace("{name: apps}", &annotations);
    let (folder, _) = folder(&[("apps.yaml", &text)]);
    let file = folder.path("apps.yaml").display().to_string();
    let (code, lines, _) = check(None, &[&file]);
    let warned = with("warn", &lines);
    assert_eq!((code, warned.len()), (Some(0), 2), "{lines:?}");
    let begin = "warn ConfigMap apps the annotation";
    for (line, expected) in warned.iter().zip([
        format!("{begin} {key}/min-redy is not read: there is no setting \"min-redy\"; did you mean min-ready?"),
        format!("{begin} helo.{key}/example is not read: its ConfigMap has no template of the type \"helo\"; did you mean hello?"),
    ]) {
        assert!(line.starts_with(&expected), "{line}");
    }
}

#[test]
fn more_templates_than_the_service_keeps_are_named() {
    let folder = TemporaryFolder::new();
    let of = |name: &str, count: usize| {
        let data = (0..count).map(|number| (format!("{name}{number}.yaml"), json!(GOOD)));
        let data: serde_json::Map<String, serde_json::Value> = data.collect();
        json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": data})
    };
    let half = TEMPLATES_MAX / 2;
    for (items, code, expected) in [
        (vec![of("a", TEMPLATES_MAX)], 0, None),
        (
            vec![of("a", TEMPLATES_MAX + 1)],
            1,
            Some("FAIL ConfigMap a it has more than 2048 templates"),
        ),
        (vec![of("a", half), of("b", half)], 0, None),
        (
            vec![of("a", half), of("b", half + 1), of("c", 1)],
            0,
            Some("warn ConfigMap b with those before it, these are more than 2048 templates"),
        ),
    ] {
        let list = json!({"kind": "List", "items": items}).to_string();
        let file = folder.write("list.json", &list).display().to_string();
        let (found, lines, _) = check(None, &[&file]);
        let others: Vec<String> = [with("FAIL", &lines), with("warn", &lines)].concat();
        assert_eq!((found, others.len()), (Some(code), expected.iter().count()));
        assert!(
            others
                .iter()
                .zip(expected)
                .all(|(line, it)| line.starts_with(it))
        );
    }
}
