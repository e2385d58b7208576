//! Propagation, preconditions, finalizers, grace.

use serde_json::{Value, json};

use super::{TestEnvironment, checks, is_deleting, is_true, job, uid, version};

checks! {
    a_delete_returns_the_status_and_removes_the_object,
    a_precondition_of_another_uid_is_a_conflict,
    a_precondition_of_another_version_is_a_conflict,
    a_precondition_holds_also_for_what_is_being_deleted,
    a_foreground_delete_keeps_the_job_until_its_pod_is_gone,
    a_background_delete_removes_the_job_immediately,
    without_a_policy_a_job_leaves_its_pod_behind,
    a_pod_ends_within_its_grace,
    a_pod_deleted_by_hand_ends_its_job,
}

fn ready(environment: &TestEnvironment, name: &str) -> (Value, Value) {
    let made = environment.make("jobs", &job(name, &json!({})));
    let pod = environment.wait_pod(name, |pod| is_true(pod, "Ready"));
    (made, pod)
}

fn a_delete_returns_the_status_and_removes_the_object(environment: &TestEnvironment) {
    let made = environment.config_map("a", &json!({}));
    let path = environment.one("configmaps", "a");
    let response = environment.api.delete(&path, &json!({})).expect(200);
    assert_eq!(response["kind"], "Status");
    assert_eq!(response["status"], "Success");
    let details = json!({"name": "a", "kind": "configmaps", "uid": uid(&made)});
    assert_eq!(response["details"], details);
    environment
        .api
        .delete(&path, &json!({}))
        .expect_refusal(404, "NotFound");
    let wrong = json!({"propagationPolicy": "Sideways"});
    environment.config_map("a", &json!({}));
    let refusal = environment.api.delete(&path, &wrong);
    refusal.expect_refusal(422, "Invalid");
}

fn a_precondition_of_another_uid_is_a_conflict(environment: &TestEnvironment) {
    let made = environment.make("jobs", &job("a", &json!({"suspend": true})));
    let path = environment.one("jobs", "a");
    let delete = |uid: &str| {
        let options = json!({"preconditions": {"uid": uid}, "propagationPolicy": "Background"});
        environment.api.delete(&path, &options)
    };
    let refusal = delete("00000000-0000-0000-0000-000000000000").expect_refusal(409, "Conflict");
    let message = refusal["message"].as_str().unwrap_or("");
    assert!(message.contains("UID in the precondition"), "{message}");
    assert_eq!(refusal["details"]["name"], "a");
    environment.api.get(&path).expect(200);
    delete(uid(&made)).expect(200);
    environment.api.get(&path).expect_refusal(404, "NotFound");
}

/// How a replica refuses a Job: not if anybody has written it since.
fn a_precondition_of_another_version_is_a_conflict(environment: &TestEnvironment) {
    let made = environment.make("jobs", &job("a", &json!({"suspend": true})));
    let held = environment.wait_one("jobs", "a", |job| job["status"]["ready"] == 0);
    let path = environment.one("jobs", "a");
    let delete = |preconditions: &Value| {
        let options = json!({"preconditions": preconditions, "propagationPolicy": "Background"});
        environment.api.delete(&path, &options)
    };
    let (old, now) = (version(&made), version(&held));
    assert_ne!(old, now, "the Job controller has written its status");
    let got = delete(&json!({"uid": uid(&made), "resourceVersion": old}));
    let refusal = got.expect_refusal(409, "Conflict");
    let expected = format!(
        "Operation cannot be fulfilled on Job.batch \"a\": the ResourceVersion in the precondition \
         ({old}) does not match the ResourceVersion in record ({now}). The object might have been \
         modified"
    );
    assert_eq!(refusal["message"], expected);
    let details = json!({"name": "a", "group": "batch", "kind": "Job"});
    assert_eq!(refusal["details"], details);
    // The UID is compared first.
    let got = delete(&json!({"uid": "x", "resourceVersion": old}));
    let refusal = got.expect_refusal(409, "Conflict");
    let expected = format!(
        "Operation cannot be fulfilled on Job.batch \"a\": the UID in the precondition (x) does \
         not match the UID in record ({}). The object might have been deleted and then recreated",
        uid(&made)
    );
    assert_eq!(refusal["message"], expected);
    delete(&json!({"uid": ""})).expect_refusal(409, "Conflict");
    delete(&json!({"uid": uid(&made), "resourceVersion": now})).expect(200);
    environment.api.get(&path).expect_refusal(404, "NotFound");
    let got = delete(&json!({"uid": uid(&made), "resourceVersion": now}));
    got.expect_refusal(404, "NotFound");
}

fn a_precondition_holds_also_for_what_is_being_deleted(environment: &TestEnvironment) {
    let mut object = job("a", &json!({"suspend": true}));
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let made = environment.make("jobs", &object);
    let path = environment.one("jobs", "a");
    let delete = |preconditions: &Value| {
        let options = json!({"preconditions": preconditions, "propagationPolicy": "Background"});
        environment.api.delete(&path, &options)
    };
    delete(&json!({"uid": uid(&made)})).expect(200);
    delete(&json!({"uid": "x"})).expect_refusal(409, "Conflict");
    delete(&json!({"resourceVersion": version(&made)})).expect_refusal(409, "Conflict");
    let again = delete(&json!({"uid": uid(&made)})).expect(200);
    assert!(is_deleting(&again));
    let release = json!({"metadata": {"finalizers": null}});
    environment.api.patch(&path, &release).expect(200);
    environment.wait_one("jobs", "a", Value::is_null);
}

fn a_foreground_delete_keeps_the_job_until_its_pod_is_gone(environment: &TestEnvironment) {
    let (made, pod) = ready(environment, "a");
    let path = environment.one("jobs", "a");
    let options = json!({
        "gracePeriodSeconds": 0, "propagationPolicy": "Foreground",
        "preconditions": {"uid": uid(&made)},
    });
    // A finalizer of this test holds the pod, so that the test can observe it.
    let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
    let pod_path = environment.one("pods", super::name(&pod));
    environment.api.patch(&pod_path, &hold).expect(200);
    let response = environment.api.delete(&path, &options).expect(200);
    assert_eq!(response["kind"], "Job");
    assert_eq!(uid(&response), uid(&made));
    assert!(is_deleting(&response));
    assert_eq!(response["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(
        response["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    environment.wait_one("pods", super::name(&pod), is_deleting);
    let refusal = environment
        .api
        .post(&environment.all("jobs"), &job("a", &json!({})))
        .expect_refusal(409, "AlreadyExists");
    let message = refusal["message"].as_str().unwrap_or("");
    assert_eq!(
        message,
        "object is being deleted: jobs.batch \"a\" already exists"
    );
    let again = environment.api.delete(&path, &options).expect(200);
    assert_eq!(uid(&again), uid(&made), "a second delete changes nothing");
    let release = json!({"metadata": {"finalizers": null}});
    environment.api.patch(&pod_path, &release).expect(200);
    assert!(environment.wait_one("jobs", "a", Value::is_null).is_null());
    environment
        .api
        .get(&pod_path)
        .expect_refusal(404, "NotFound");
    let next = environment.make("jobs", &job("a", &json!({})));
    assert_ne!(uid(&next), uid(&made));
}

fn a_background_delete_removes_the_job_immediately(environment: &TestEnvironment) {
    let (made, pod) = ready(environment, "a");
    let path = environment.one("jobs", "a");
    let options = json!({"propagationPolicy": "Background"});
    let response = environment.api.delete(&path, &options).expect(200);
    assert_eq!(response["kind"], "Status");
    assert_eq!(response["details"]["uid"], uid(&made));
    environment.api.get(&path).expect_refusal(404, "NotFound");
    let next = environment.make("jobs", &job("a", &json!({})));
    assert_ne!(uid(&next), uid(&made));
    environment.wait_one("pods", super::name(&pod), Value::is_null);
    let fresh = environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    assert_eq!(fresh["metadata"]["ownerReferences"][0]["uid"], uid(&next));
}

fn without_a_policy_a_job_leaves_its_pod_behind(environment: &TestEnvironment) {
    let (_, pod) = ready(environment, "a");
    let got = environment
        .api
        .delete(&environment.one("jobs", "a"), &json!({}));
    assert!(
        got.header("warning")
            .contains("child pods are preserved by default")
    );
    got.expect(200);
    let left = environment.wait_one("pods", super::name(&pod), |pod| {
        pod["metadata"]["ownerReferences"].is_null()
    });
    assert!(!left.is_null() && !is_deleting(&left));
    assert!(environment.wait_one("jobs", "a", Value::is_null).is_null());
}

fn a_pod_ends_within_its_grace(environment: &TestEnvironment) {
    let (_, pod) = ready(environment, "a");
    let path = environment.one("pods", super::name(&pod));
    let response = environment.api.delete(&path, &json!({})).expect(200);
    assert_eq!(response["kind"], "Pod");
    assert!(is_deleting(&response));
    assert_eq!(response["metadata"]["deletionGracePeriodSeconds"], 1);
    environment.wait_one("pods", super::name(&pod), Value::is_null);
}

fn a_pod_deleted_by_hand_ends_its_job(environment: &TestEnvironment) {
    let change = json!({"template": {"metadata": {"annotations": {"fake-kube/exit-on-stop": "143"}},
        "spec": {"containers": [{"name": "main", "image": "config-controller-demo:1",
            "imagePullPolicy": "IfNotPresent", "env": [{"name": "IGNORE_TERM", "value": "1"}]}]}}});
    environment.make("jobs", &job("a", &change));
    let pod = environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    let path = environment.one("pods", super::name(&pod));
    environment.api.delete(&path, &json!({})).expect(200);
    let ended = environment.wait_one("jobs", "a", |job| is_true(job, "Failed"));
    assert_eq!(ended["status"]["failed"], 1);
}
