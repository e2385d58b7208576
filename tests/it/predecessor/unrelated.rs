//! Other objects in the namespace: we ignore them, and they do not affect us.

use serde_json::{Value, json};

use super::{BARE, both, made, see_names};
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::harness::{PREFIX, TestEnvironment};
use crate::watch::apply;

/// A Job with these labels on its pod template.
fn job(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {"template": {
            "metadata": {"labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "i"}]},
        }},
    })
}

/// W13: 2.7.1 returns its list with 500 from then on.
#[test]
fn a_pod_without_the_name_label_is_ignored() {
    let (environment, original) = both(BARE, PodScript::default());
    environment.start_instance("/app/page/ann");
    apply(
        &environment,
        &json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a-pod", "labels": {format!("{PREFIX}instance-type"): "page"}},
            "spec": {"containers": [{"name": "app", "image": "i"}]},
        }),
    );
    assert_eq!(original.list("page").0, 500, "the pod is what W13 is about");
    environment.start_instance("/app/page/bob");
    for replica in [0, 1] {
        see_names(environment.replica(replica), "page", &["ann", "bob"]);
    }
}

/// A pod that looks like one of an instance's, but that its Job does not own.
#[test]
fn a_pod_with_an_instances_labels_is_not_its_pod() {
    let (environment, _) = both(BARE, PodScript::default());
    let ip = environment.start_instance("/app/page/ann");
    apply(
        &environment,
        &json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "z-pod", "labels": {
                "job-name": "page-ann",
                format!("{PREFIX}instance-type"): "page",
                format!("{PREFIX}instance-name"): "ann",
                format!("{PREFIX}meta-username"): "mallory",
            }},
            "spec": {"containers": [{"name": "app", "image": "i"}]},
        }),
    );
    // Starts and stops of another make it certain that the pod has been seen.
    for name in ["bob", "cem"] {
        environment.start_instance(&format!("/app/page/{name}"));
    }
    let found = environment.get("/app/page/ann");
    found.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    see_names(environment.replica(1), "page", &["ann", "bob", "cem"]);
}

/// A Job under the name of an instance that is none: never found, labelled or stopped by us.
#[test]
fn a_job_that_is_no_instance_is_unchanged() {
    let (type_only, name_only) = (
        json!({format!("{PREFIX}instance-type"): "page"}),
        json!({format!("{PREFIX}instance-name"): "bob"}),
    );
    let (environment, _) = both(BARE, PodScript::default());
    apply(&environment, &job("page-ann", &json!({"app": "theirs"})));
    apply(&environment, &job("page-bob", &type_only));
    apply(&environment, &job("page-cem", &name_only));
    // Two labels, but of another name than the Job's: it can be neither found nor stopped by them.
    let elsewhere = json!({
        format!("{PREFIX}instance-type"): "page", format!("{PREFIX}instance-name"): "dee",
    });
    apply(&environment, &job("page-other", &elsewhere));
    let before = environment.jobs();
    for (turn, name) in ["ann", "bob", "cem", "ann", "bob", "cem", "other"]
        .iter()
        .enumerate()
    {
        let client = environment.replica(turn % 2);
        let path = format!("/app/page/{name}");
        client.get(&path).expect_error(409, "name_taken");
        let patched = client.patch(&path, &json!({"k": "v"}));
        patched.expect_detail(404, "error", "not_found");
        let deleted = client.delete(&path);
        deleted.expect_detail(404, "No job found", "not_found");
        assert_eq!(client.get("/app/page").text, "[]");
    }
    assert_eq!(environment.jobs(), before);
    assert_eq!(environment.kube.count("delete", "*"), 0);
    assert_eq!(environment.kube.count("patch", "*"), 0);
    // None of them is an instance in the metrics either.
    let metrics = environment.get("/metrics").text;
    let counted = metrics
        .lines()
        .filter(|line| line.starts_with("config_controller_instances{") && !line.ends_with(" 0"));
    assert_eq!(counted.collect::<Vec<_>>(), [""; 0]);
}

/// W14: 2.7.1 returns 404 `'labels'`.
#[test]
fn a_template_without_labels_can_be_started() {
    let metadata = [
        "",
        "metadata:\n",
        "metadata: {}\n",
        "metadata: {labels: null}\n",
    ];
    for text in metadata {
        let template = BARE.replace("metadata: {labels: {}}\n", text);
        let (environment, original) = both(&template, PodScript::default());
        let refused = original.get("page", "ann");
        assert_eq!(
            refused,
            (404, json!({"status": "error", "msg": "'labels'"}))
        );
        let ip = environment.start_instance("/app/page/ann");
        // From here on 2.7.1 can go on with it.
        assert_eq!(original.get("page", "ann"), (200, json!({"ip": ip})));
        assert_eq!(made(&environment), 1);
    }
}

/// W16: both pairs stand for the Job `a-b-c`.
#[test]
fn an_ambiguous_job_name_belongs_to_the_first_instance() {
    let mut environment = TestEnvironment::builder()
        .template("a", BARE)
        .template("a-b", BARE)
        .start();
    let second = environment.add_replica();
    environment.wait_ready(second);
    let original = super::predecessor(&environment);
    let (code, found) = original.get("a", "b-c");
    assert_eq!(code, 200, "{found}");
    for replica in [0, 1] {
        let client = environment.replica(replica);
        see_names(client, "a", &["b-c"]);
        assert_eq!(client.get("/app/a-b").text, "[]");
        client.get("/app/a-b/c").expect_error(409, "name_taken");
        let patched = client.patch("/app/a-b/c", &json!({"k": "v"}));
        patched.expect_detail(404, "error", "not_found");
        let deleted = client.delete("/app/a-b/c");
        deleted.expect_detail(404, "No job found", "not_found");
        assert_eq!(client.get("/app/a/b-c").expect(200), found);
    }
    environment.replica(0).delete("/app/a/b-c").expect(200);
    environment.wait_no_jobs();
    see_names(environment.replica(1), "a", &[]);
    environment.replica(1).get("/app/a-b/c").expect(200);
    see_names(environment.replica(0), "a-b", &["c"]);
    environment
        .replica(0)
        .get("/app/a/b-c")
        .expect_error(409, "name_taken");
}
