//! PUT of an instance: it is stopped, and started from the present template with the values of the request.

use serde_json::{Value, json};

use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{
    Pending, Response, TEMPLATE, TestEnvironment, apply_templates, eventually, name_of,
};

const PATH: &str = "/app/hello/ann";

/// A template that shows its values.
const SHOWING: &str = "\
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: \"example/app:${alternatives.get('tag', '1')}\"
    readinessProbe: {tcpSocket: {port: 8080}}
";

fn begin(environment: &TestEnvironment, path: &str, headers: &[(&str, &str)]) -> Pending {
    environment.client().begin("PUT", path, headers, "")
}

fn put(environment: &TestEnvironment, path: &str, headers: &[(&str, &str)]) -> Response {
    begin(environment, path, headers).finish()
}

fn showing() -> TestEnvironment {
    TestEnvironment::builder()
        .template("hello", SHOWING)
        .start()
}

/// The template is edited.
fn edit(environment: &TestEnvironment, text: &str) {
    apply_templates(
        &environment.kube,
        "templates",
        &[("hello", text)],
        json!({}),
    );
}

#[track_caller]
fn uid(environment: &TestEnvironment) -> Value {
    environment.wait_job("hello-ann")["metadata"]["uid"].clone()
}

#[track_caller]
fn image(environment: &TestEnvironment) -> Value {
    let job = environment.wait_job("hello-ann");
    job["spec"]["template"]["spec"]["containers"][0]["image"].clone()
}

#[test]
fn an_instance_is_replaced_with_the_values_of_the_request() {
    let environment = showing();
    environment.start_instance(&format!("{PATH}?tag=1"));
    let before = uid(&environment);
    let response = put(&environment, &format!("{PATH}?tag=2"), &[]);
    assert_ne!(
        response.header("instance-id"),
        before.as_str().expect("a UID")
    );
    let after = uid(&environment);
    assert_eq!(
        response.header("instance-id"),
        after.as_str().expect("a UID")
    );
    let found = response.expect(200);
    assert!(found["ip"].is_string(), "{found}");
    assert_eq!(image(&environment), "example/app:2");
    assert_eq!(environment.get(&format!("{PATH}?tag=3")).expect(200), found);
    // The other instances are not concerned.
    assert_eq!(environment.kube.count("delete", "jobs"), 1);
    assert_eq!(environment.kube.count("create", "jobs"), 2);
}

#[test]
fn where_there_is_none_one_is_started() {
    let environment = showing();
    put(&environment, &format!("{PATH}?tag=2"), &[]).expect(200);
    assert_eq!(image(&environment), "example/app:2");
    assert_eq!(environment.kube.count("delete", "jobs"), 0);
}

#[test]
fn the_new_one_is_of_the_present_template() {
    let environment = TestEnvironment::new();
    environment.start_instance(PATH);
    let edited = TEMPLATE.replace("app:1", "app:2");
    edit(&environment, &edited);
    eventually("the template is read", || {
        put(&environment, PATH, &[]).expect(200);
        (image(&environment) == "example/app:2").then_some(())
    });
}

/// Whatever is wrong with a request, what runs goes on.
#[test]
fn what_cannot_be_started_stops_nothing() {
    let needs = SHOWING.replace(".get('tag', '1')", "['tag']");
    let environment = TestEnvironment::builder()
        .template("hello", SHOWING)
        .template("needs", &needs)
        .start();
    environment.start_instance(PATH);
    environment.start_instance("/app/needs/ann?tag=1");
    for (path, headers, status, code) in [
        ("/app/nope/ann", &[][..], 404, "unknown_type"),
        ("/app/needs/ann", &[], 422, "variable_missing"),
        ("/app/needs/ann?tag=%00", &[], 422, "variable_invalid"),
        (PATH, &[("If-Match", "x")], 400, "bad_request"),
        (PATH, &[("If-None-Match", "*")], 400, "bad_request"),
        (
            PATH,
            &[("If-Match", "\"uid:x\"")],
            412,
            "precondition_failed",
        ),
        (
            "/app/hello/none",
            &[("If-Match", "*")],
            412,
            "precondition_failed",
        ),
        (PATH, &[("Instance-Owner", "a b")], 400, "bad_request"),
    ] {
        put(&environment, path, headers).expect_error(status, code);
    }
    let json = [("Content-Type", "application/json")];
    let with_body = environment
        .client()
        .begin("PUT", PATH, &json, "{}")
        .finish();
    let detail = with_body.expect(422);
    assert_eq!(detail["detail"][0]["loc"], json!(["body"]), "{detail}");
    assert_eq!(environment.kube.count("delete", "jobs"), 0);
    assert_eq!(environment.jobs().len(), 2);
}

#[test]
fn a_template_that_the_api_server_refuses_replaces_nothing() {
    let environment = TestEnvironment::new();
    environment.start_instance(PATH);
    let refusal = Fault::Refused("no such thing".into());
    environment
        .kube
        .fault(FaultRule::new("dry-run", "jobs", refusal));
    let edited = TEMPLATE.replace("app:1", "app:2");
    edit(&environment, &edited);
    eventually("the dry run has failed", || {
        let templates = environment.get("/templates").expect(200);
        (templates[0]["verdict"] == "invalid").then_some(())
    });
    put(&environment, PATH, &[]).expect_error(422, "template_invalid");
    assert_eq!(environment.kube.count("delete", "jobs"), 0);
}

#[test]
fn the_instance_that_the_caller_knows_is_replaced() {
    let environment = showing();
    environment.start_instance(PATH);
    let known = format!("\"uid:{}\"", uid(&environment).as_str().expect("a UID"));
    put(&environment, PATH, &[("If-Match", &known)]).expect(200);
    put(&environment, PATH, &[("If-Match", &known)]).expect_error(412, "precondition_failed");
    assert_eq!(environment.kube.count("delete", "jobs"), 1);
}

/// A start that is waited for goes on with the new one.
#[test]
fn waiters_get_the_new_one() {
    let environment = TestEnvironment::by_hand();
    let waiting = environment.client().begin_get(PATH);
    environment.wait_pod("hello-ann");
    let before = environment.wait_job("hello-ann");
    let replaced = begin(&environment, PATH, &[("Prefer", "wait=30")]);
    eventually("it is replaced", || {
        let job = environment.job("hello-ann")?;
        (job["metadata"]["uid"] != before["metadata"]["uid"]).then_some(())
    });
    environment.make_ready("hello-ann");
    let found = replaced.finish().expect(200);
    assert_eq!(waiting.finish().expect(200), found);
    let after = environment.wait_job("hello-ann");
    assert_ne!(before["metadata"]["uid"], after["metadata"]["uid"]);
    assert_eq!(name_of(&before), name_of(&after));
}

/// The caller does not wait, and the pod takes its time.
#[test]
fn what_was_stopped_is_started_without_a_caller() {
    let environment = TestEnvironment::by_hand();
    let waiting = environment.client().begin_get(PATH);
    environment.make_ready("hello-ann");
    waiting.finish().expect(200);
    let before = uid(&environment);
    let response = put(&environment, PATH, &[("Prefer", "wait=0")]);
    let progress = response.expect(202);
    assert_eq!(progress["phase"], "stopping", "{progress}");
    let strict = put(&environment, PATH, &[("Prefer", "wait=0, strict")]);
    strict.expect(503);
    environment
        .kube
        .set_pod_script("hello-ann", PodScript::default());
    eventually("it is started", || {
        let job = environment.job("hello-ann")?;
        (job["metadata"]["uid"] != before).then_some(())
    });
    assert_eq!(environment.kube.count("create", "jobs"), 2);
}
