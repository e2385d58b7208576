//! What `check` finds in files without a cluster: fields and values that the API server would report, each
//! with its place; folders, lists, several documents and standard input.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{check, with};
use crate::harness::TemporaryFolder;

/// A pod template that a start would succeed with.
const GOOD: &str = "\
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: app:1
    readinessProbe: {httpGet: {port: 80}}
    ports: [{containerPort: 80}]
";

/// Checks this template as a file; returns the exit code and its rows in JSON without the first `ok`.
fn rows_of(text: &str) -> (Option<i32>, Vec<Value>) {
    let folder = TemporaryFolder::new();
    let file = folder.write("app.yaml", text).display().to_string();
    let (code, lines, stderr) = check(None, &["--output=json", &file]);
    assert_eq!(stderr, "");
    let rows = serde_json::from_str(&lines.join("\n")).expect("a JSON array");
    (code, rows)
}

/// Checks that there is one row besides `ok`, with that text at that place.
#[track_caller]
fn check_row(text: &str, result: &str, message: &str, place: (u64, Option<u64>)) {
    let (code, rows) = rows_of(text);
    let rows: Vec<&Value> = rows.iter().filter(|row| row["result"] != "ok").collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["result"], result, "{rows:?}");
    let found = rows[0]["text"].as_str().expect("a text");
    assert!(found.contains(message), "{found}");
    let found = &rows[0]["place"];
    assert_eq!(
        (&found["line"], &found["column"]),
        (&json!(place.0), &json!(place.1))
    );
    let expected = i32::from(result == "fail");
    assert_eq!(code, Some(expected));
}

#[test]
fn fields_that_kubernetes_does_not_know_are_warnings() {
    let place = "spec.containers[0]";
    for (wrong, right, line) in [
        ("readinesProbe", "readinessProbe", 6),
        ("imagee", "image", 5),
    ] {
        let text = format!("unknown field \"{place}.{wrong}\"; did you mean {right}?");
        // The app has a probe, and an image, so that nothing else is to be said.
        let with_both = GOOD.replace(
            &format!("    {right}:"),
            &format!("    {wrong}: null\n    {right}:"),
        );
        let without_hint = text.split(';').next().expect("a first part");
        check_row(&with_both, "warn", without_hint, (line, Some(5)));
    }
    let misspelt = GOOD.replace("readinessProbe", "readinesProbe");
    let (code, rows) = rows_of(&misspelt);
    assert_eq!(code, Some(0));
    let expected = format!("unknown field \"{place}.readinesProbe\"; did you mean readinessProbe?");
    assert_eq!(rows[1]["text"], expected, "{rows:?}");
}

#[test]
fn what_can_never_start_is_a_fault() {
    let place = "spec";
    for (from, to, message, line, column) in [
        (
            "restartPolicy: Never",
            "restartPolicy: Always",
            "restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            2,
            3,
        ),
        (
            "restartPolicy: Never",
            "restartPolicy: Sometimes",
            "restartPolicy: Unsupported value: \"Sometimes\": supported values: \"OnFailure\", \"Never\"",
            2,
            3,
        ),
        (
            "  restartPolicy: Never\n",
            "",
            "restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            1,
            1,
        ),
        (
            "containerPort: 80",
            "containerPort: \"80\"",
            "containers[0].ports[0].containerPort: wrong type: the string \"80\"",
            7,
            14,
        ),
        (
            "  containers:",
            "  tolerations: [{key: a, value: true}]\n  containers:",
            "tolerations[0].value: wrong type: true; expected a string; put quotes around it",
            3,
            26,
        ),
        (
            "    image: app:1",
            "    image: app:1\n    volumeMounts: [{name: data, mountPath: /data}]",
            "containers[0].volumeMounts[0].name: Not found: \"data\"",
            6,
            21,
        ),
    ] {
        let message = format!("{place}.{message}");
        check_row(
            &GOOD.replace(from, to),
            "fail",
            &message,
            (line, Some(column)),
        );
    }
}

#[test]
fn values_that_are_not_given_are_not_judged() {
    let text = GOOD.replace(
        "containerPort: 80",
        "containerPort: ${alternatives['port']}",
    );
    let (code, rows) = rows_of(&text);
    assert_eq!((code, rows.len()), (Some(0), 1), "{rows:?}");
    assert_eq!(rows[0]["text"], "requires port");
    // Behind a value its column is not known, its line is.
    let text = text.replace("}]\n", ", name: '80'}]\n");
    check_row(
        &text,
        "fail",
        "ports[0].name: Invalid value: \"80\"",
        (7, None),
    );
}

#[test]
fn an_annotation_gives_values_for_a_check() {
    let folder = TemporaryFolder::new();
    let key = "config-controller.semafor.ch/example";
    let text = GOOD.replace("image: app:1", "image: ${alternatives['image']}");
    let control = format!("% if alternatives['big'] == '1':\n{GOOD}% endif\n");
    let check_with = |annotation: &str, text: &str| {
        let config_map = json!({
            "kind": "ConfigMap",
            "metadata": {"name": "apps", "annotations": {annotation.split_once('=').expect("a key").0: annotation.split_once('=').expect("a value").1}},
            "data": {"my_app.yaml": text},
        });
        let file = folder.write("apps.json", &config_map.to_string());
        let (code, lines, _) = check(None, &[&file.display().to_string()]);
        (code, with("FAIL", &lines), with("warn", &lines))
    };
    assert_eq!(
        check_with(&format!("{key}=image=a"), &text),
        (Some(0), vec![], vec![])
    );
    let (code, failed, _) = check_with(&format!("{key}=image="), &text);
    assert_eq!((code, failed.len()), (Some(1), 1), "{failed:?}");
    assert!(
        failed[0].contains("containers[0].image: Required value"),
        "{failed:?}"
    );
    let of_type = "config-controller.semafor.ch/type.my_app.example";
    let (_, failed, warned) = check_with(&format!("{of_type}=big=1"), &control);
    assert_eq!(
        (failed.len(), warned.len()),
        (0, 0),
        "{failed:?} {warned:?}"
    );
    let (code, _, warned) = check_with("other=1", &control);
    assert_eq!((code, warned.len()), (Some(0), 1), "{warned:?}");
    assert!(warned[0].contains(of_type), "{warned:?}");
    let (code, _, warned) = check_with(&format!("{key}=x=1"), &text);
    assert_eq!((code, warned.len()), (Some(0), 1), "{warned:?}");
    assert!(
        warned[0].contains("needs the variable `image`"),
        "{warned:?}"
    );
}

#[test]
fn lists_folders_and_standard_input_are_read() {
    let folder = TemporaryFolder::new();
    let config_map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {format!("{name}.yaml"): GOOD}});
    let list =
        json!({"kind": "List", "items": [config_map("a"), {"kind": "Secret"}, config_map("b")]});
    folder.write("1.json", &list.to_string());
    folder.write("2.yml", &config_map("c").to_string());
    folder.write("3.yaml", "kind: Deployment\n");
    folder.write("4.yaml", "values: of a chart\n");
    folder.write("5.txt", "kind: ConfigMap\n");
    let path = folder.path("").display().to_string();
    let (code, lines, _) = check(None, &[&path]);
    let expected = ["a", "b", "c"].map(|name| format!("ok template {name} of {name}"));
    assert_eq!(
        (code, with("ok", &lines)),
        (Some(0), expected.to_vec()),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 3, "{lines:?}");

    let empty = TemporaryFolder::new();
    let (code, lines, _) = check(None, &[&empty.path("").display().to_string()]);
    assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
    assert!(lines[0].contains("no file in it"), "{lines:?}");

    let typed = json!({"kind": "ConfigMapList", "items": [{"metadata": {"name": "d"}, "data": {"d.yaml": GOOD}}]});
    let mut program = Command::new(env!("CARGO_BIN_EXE_config-controller"))
        .env_clear()
        .args(["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program can be run");
    let mut stdin = program.stdin.take().expect("it is piped");
    stdin
        .write_all(typed.to_string().as_bytes())
        .expect("it reads");
    drop(stdin);
    let output = program.wait_with_output().expect("it ends");
    assert!(output.status.success());
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "ok    template d of d"
    );
}

#[test]
fn a_broken_document_is_named_by_its_number_and_line() {
    let folder = TemporaryFolder::new();
    let first = "kind: ConfigMap\nmetadata: {name: a}\ndata: {}\n---\n# second\n---\n";
    let file = folder.write(
        "apps.yaml",
        &format!("{first}kind: ConfigMap\nmetadata: [\n"),
    );
    let (code, lines, _) = check(None, &[&file.display().to_string()]);
    assert_eq!(code, Some(1), "{lines:?}");
    let failed = with("FAIL", &lines);
    assert_eq!(failed.len(), 1, "{lines:?}");
    assert!(
        failed[0].contains("the brackets do not match"),
        "{failed:?}"
    );
    assert!(failed[0].contains("document 3, line "), "{failed:?}");
    let template = "kind: ConfigMap\nmetadata: {name: b}\ndata:\n  b.yaml: |\n    spec:\n      containers: 5\n";
    let file = folder.write("apps.yaml", &format!("{first}{template}"));
    let (_, lines, _) = check(None, &[&file.display().to_string()]);
    let failed = with("FAIL", &lines);
    assert!(
        failed[0].ends_with("apps.yaml, document 3, key b.yaml, line 2)"),
        "{failed:?}"
    );
}

#[test]
fn the_job_of_a_request_is_printed() {
    let folder = TemporaryFolder::new();
    let text = GOOD.replace("image: app:1", "image: ${alternatives['image']}");
    let file = folder.write("hello.yaml", &text).display().to_string();
    let (code, lines, _) = check(None, &["--render=hello/bob?image=app%3A2", &file]);
    assert_eq!(code, Some(0), "{lines:?}");
    let job: Value = serde_json::from_str(&lines.join("\n")).expect("a Job");
    assert_eq!(
        (&job["kind"], &job["metadata"]["name"]),
        (&json!("Job"), &json!("hello-bob"))
    );
    assert_eq!(
        job["spec"]["template"]["spec"]["containers"][0]["image"],
        "app:2"
    );
    let (code, lines, _) = check(None, &["--render=hello/b%C3%B6b?image=a", &file]);
    assert_eq!(code, Some(0), "{lines:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.ends_with("instance-name\": \"böb\","))
    );
    for (request, message) in [
        ("hello", "needs a value for 'image'"),
        ("hello/a%3Fb?image=a", "the name contains '?'"),
        ("hello/%20a?image=a", "the name begins or ends with a blank"),
        ("hello/a%2Fb?image=a", "the name contains a '/'"),
        (
            "helo?image=a",
            "unknown app type \"helo\"; known types: hello",
        ),
    ] {
        let (code, lines, _) = check(None, &[&format!("--render={request}"), &file]);
        assert_eq!((code, lines.len()), (Some(1), 1), "{lines:?}");
        assert!(lines[0].contains(message), "{lines:?}");
    }
}
