//! Templates: what happens when a ConfigMap is edited, broken, or deleted.

use serde_json::json;

use crate::fake_kube::cluster::resource::Resource;
use crate::harness::{NAMESPACE, TEMPLATE, TestEnvironment, apply_templates, eventually};

#[track_caller]
fn see_types(environment: &TestEnvironment, expected: &str) {
    eventually("the types are as they should be", || {
        (environment.get("/app").text == expected).then_some(())
    });
}

fn image(environment: &TestEnvironment, job: &str) -> String {
    let job = environment.job(job).expect("the Job is there");
    let container = &job["spec"]["template"]["spec"]["containers"][0];
    container["image"].as_str().expect("an image").to_owned()
}

#[test]
fn an_edited_template_applies_to_the_next_instance() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    let edited = TEMPLATE.replace("example/app:1", "example/app:2");
    // The other type shows when the edit has been seen.
    let types = [("hello", edited.as_str()), ("mark", TEMPLATE)];
    apply_templates(&environment.kube, "templates", &types, json!({}));
    see_types(&environment, r#"["hello","mark"]"#);
    environment.start_instance("/app/hello/bob");
    assert_eq!(image(&environment, "hello-bob"), "example/app:2");
    assert_eq!(image(&environment, "hello-ann"), "example/app:1");
    let again = environment.get("/app/hello/ann");
    again.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    assert_eq!(environment.kube.count("delete", "*"), 0);
}

#[test]
fn instances_outlive_their_template() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    environment
        .kube
        .delete(Resource::ConfigMaps, NAMESPACE, "templates", "Background")
        .expect("the ConfigMap is deleted");
    see_types(&environment, "[]");
    let response = environment
        .get("/app/hello/new")
        .expect_error(404, "unknown_type");
    assert!(
        response.contains("no other type is available"),
        "{response}"
    );
    let list = environment.get("/app/hello").expect(200);
    assert_eq!(list[0]["name"], "ann");
    let again = environment.get("/app/hello/ann");
    again.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    environment
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    environment.delete("/app/hello/ann").expect(200);
    environment.wait_empty("/app/hello");
}

#[test]
fn a_broken_template_affects_no_other() {
    let environment = TestEnvironment::builder()
        .template("bad", "spec: [")
        .start();
    environment
        .get("/app")
        .expect_text(200, r#"["bad","hello"]"#);
    let response = environment
        .get("/app/bad/ann")
        .expect_error(422, "template_invalid");
    assert!(response.contains("line"), "the line is named: {response}");
    environment.start_instance("/app/hello/ann");
    assert_eq!(environment.jobs(), ["hello-ann"]);
}

/// A type, its text, the line of the fault, and part of the message.
const BROKEN: &[(&str, &str, &str, &str)] = &[
    ("python", "spec:\n<% import os %>\n", "line 2", "`<%`"),
    ("module", "<%! import os %>\nspec:\n", "line 1", "`<%`"),
    ("include", "a: 1\n<%include file='x'/>\n", "line 2", "`<%`"),
    ("def", "a: 1\nb: 2\n<%def name='f()'>\n", "line 3", "`<%`"),
    ("shell", "a: 1\nb: ${HOME}\n", "line 2", "`$HOME`"),
    (
        "call",
        "a: ${open('/etc/passwd')}\n",
        "line 1",
        "call no functions",
    ),
    (
        "while",
        "a: 1\n% while True:\n",
        "line 2",
        "`% while True:`",
    ),
    (
        "unclosed",
        "a: 1\n% if 'x' in alternatives:\n",
        "line 2",
        "`% endif`",
    ),
    ("tab", "a:\n\tb: 1\n", "line 2", "tab"),
    ("alias", "a: 1\nb: 2\nc: *d\n", "line 3", "alias"),
    (
        "documents",
        "spec: {containers: [{name: a}]}\n---\na: 1\n",
        "line 2",
        "document",
    ),
    (
        "infinite",
        "spec: {containers: [{name: a}]}\nb: .inf\n",
        "line 2",
        ".inf",
    ),
    ("empty", "", "line 1", "`spec:`"),
    ("list", "- a\n", "line 1", "`spec:`"),
    (
        "containers",
        "spec:\n  containers: []\n",
        "line 2",
        "containers",
    ),
];

/// Contract A10: each is listed, and a start returns the fault and its line.
#[test]
fn every_kind_of_broken_template_is_listed_and_reported() {
    let mut builder = TestEnvironment::builder();
    for (app_type, text, ..) in BROKEN {
        builder = builder.template(app_type, text);
    }
    let environment = builder.start();
    let mut types: Vec<&str> = BROKEN.iter().map(|(app_type, ..)| *app_type).collect();
    types.push("hello");
    types.sort_unstable();
    assert_eq!(environment.get("/app").expect(200), json!(types));
    for (app_type, _, line, expected) in BROKEN {
        let response = environment.get(&format!("/app/{app_type}/ann?x=1"));
        let response = response.expect_error(422, "template_invalid");
        assert!(
            response.contains(line) && response.contains(expected),
            "{app_type}: {response}"
        );
        assert!(response.contains(&format!("{app_type}.yaml")), "{response}");
        environment
            .get(&format!("/app/{app_type}"))
            .expect_text(200, "[]");
    }
    environment.start_instance("/app/hello/ann");
    assert_eq!(environment.jobs(), ["hello-ann"]);
}

/// With some values only: the others go on.
#[test]
fn a_template_that_is_invalid_for_some_values() {
    let text = format!("{TEMPLATE}% if 'x' in alternatives:\n    args: [\n% endif\n");
    let environment = TestEnvironment::builder().template("half", &text).start();
    let response = environment.get("/app/half/ann?x=1");
    let response = response.expect_error(422, "template_invalid");
    assert!(
        response.contains("line ") && response.contains("brackets"),
        "{response}"
    );
    environment.start_instance("/app/half/ann");
}

#[test]
fn a_template_that_kubernetes_rejects_is_422_with_its_message() {
    let text = TEMPLATE.replace("Never", "Always");
    let environment = TestEnvironment::builder().template("bad", &text).start();
    let response = environment
        .get("/app/bad/ann")
        .expect_error(422, "template_invalid");
    assert!(response.contains("restartPolicy"), "{response}");
    assert_eq!(environment.jobs(), [""; 0]);
}

#[test]
fn an_invalid_setting_of_a_template_is_reported_at_the_start() {
    let environment = TestEnvironment::builder()
        .annotation("restart-delay", "soon")
        .start();
    let response = environment
        .get("/app/hello/ann")
        .expect_error(422, "template_invalid");
    assert!(response.contains("restart-delay"), "{response}");
}

#[test]
fn a_new_config_map_is_a_new_type() {
    let environment = TestEnvironment::new();
    apply_templates(&environment.kube, "more", &[("more", TEMPLATE)], json!({}));
    see_types(&environment, r#"["hello","more"]"#);
    environment.start_instance("/app/more/ann");
}

#[test]
fn a_config_map_without_our_label_is_ignored() {
    let environment = TestEnvironment::new();
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "others"},
        "data": {"others.yaml": TEMPLATE},
    });
    environment
        .kube
        .apply(NAMESPACE, &object)
        .expect("it is taken");
    apply_templates(&environment.kube, "more", &[("more", TEMPLATE)], json!({}));
    see_types(&environment, r#"["hello","more"]"#);
    environment
        .get("/app/others/ann")
        .expect_error(404, "unknown_type");
}

/// Contract W12 and W15: no data at all, keys that are no templates, the same type twice.
#[test]
fn malformed_config_maps_are_tolerated() {
    let environment = TestEnvironment::new();
    apply_templates(&environment.kube, "empty", &[], json!({}));
    apply_templates(
        &environment.kube,
        "z-twice",
        &[("hello", "spec: [")],
        json!({}),
    );
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "keys", "labels": {"config-controller.semafor.ch/template": "true"}},
        "data": {"notes.txt": "x", "other.yml": TEMPLATE, "mark.yaml": TEMPLATE},
    });
    environment
        .kube
        .apply(NAMESPACE, &object)
        .expect("it is taken");
    see_types(&environment, r#"["hello","mark"]"#);
    environment.start_instance("/app/hello/ann");
}
