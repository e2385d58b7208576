//! Suspended Jobs: what the Job controller writes when a Job is created suspended, resumed, suspended while
//! it runs or deleted, in which order, and what may be changed meanwhile. Deadlines and TTLs, which count
//! from the start and the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{
    TEST_TIMEOUT, TestEnvironment, checks, condition, exits, is_deleting, is_true, job, name,
    names, uid, version,
};

checks! {
    a_suspended_job_is_written_once,
    a_resumed_job_has_its_pod_before_its_status,
    a_job_that_is_suspended_while_it_runs_loses_its_pod,
    a_suspended_job_is_deleted_without_a_pod,
    a_deadline_counts_from_the_resumption,
    a_deadline_deletes_the_pod_and_counts_it,
    a_ttl_that_is_set_after_the_end_counts,
    the_pod_template_of_a_suspended_job_says_where_its_pods_run,
    a_job_that_another_controller_manages_is_left_alone,
    durations_of_a_job_are_validated,
}

fn suspended(environment: &TestEnvironment, change: &Value) -> Value {
    let mut spec = change.clone();
    spec["suspend"] = json!(true);
    environment.make("jobs", &job("a", &spec))
}

fn set(environment: &TestEnvironment, suspend: bool) -> Value {
    let change = json!({"spec": {"suspend": suspend}});
    let path = environment.one("jobs", "a");
    environment.api.patch(&path, &change).expect(200)
}

/// The Job's states after that version until one satisfies the check, which is the last.
fn states(
    environment: &TestEnvironment,
    from: &Value,
    mut satisfied: impl FnMut(&Value) -> bool,
) -> Vec<Value> {
    let path = format!(
        "{}?watch=1&fieldSelector=metadata.name%3Da&resourceVersion={}&timeoutSeconds=60",
        environment.all("jobs"),
        version(from)
    );
    let mut states = Vec::new();
    for event in environment.api.watch(&path) {
        let event = event.expect("whole lines");
        assert_eq!(event["type"], "MODIFIED");
        states.push(event["object"].clone());
        if satisfied(&event["object"]) {
            return states;
        }
    }
    panic!("the watch ended; seen: {states:#?}");
}

/// The Job's status without times.
fn status(job: &Value) -> Value {
    let mut status = job["status"].clone();
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let condition = condition.as_object_mut().expect("a condition");
        let (probed, changed) = (
            condition.remove("lastProbeTime"),
            condition.remove("lastTransitionTime"),
        );
        assert_eq!(probed, changed, "a Job's controller writes both");
    }
    if let Some(start) = status.get_mut("startTime") {
        *start = json!("then");
    }
    status
}

fn suspended_status(terminating: u32) -> Value {
    json!({
        "conditions": [{"type": "Suspended", "status": "True", "reason": "JobSuspended",
            "message": "Job suspended"}],
        "ready": 0, "terminating": terminating, "uncountedTerminatedPods": {},
    })
}

/// The events about the Job, once there are those: how often each reason came, with its type.
fn wait_events(environment: &TestEnvironment, wanted: &[(&str, &str, u64)]) {
    let query = "fieldSelector=involvedObject.kind%3DJob";
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let list = environment.list("events", query);
        let mut counts: BTreeMap<(String, String), u64> = BTreeMap::new();
        for event in list["items"].as_array().into_iter().flatten() {
            let text = |field: &str| event[field].as_str().unwrap_or("").to_owned();
            let count = event["count"].as_u64().unwrap_or(1);
            *counts.entry((text("type"), text("reason"))).or_default() += count;
        }
        let expected = wanted
            .iter()
            .map(|(kind, reason, count)| (((*kind).to_owned(), (*reason).to_owned()), *count));
        if counts == expected.collect() {
            return;
        }
        assert!(Instant::now() < deadline, "{counts:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn a_suspended_job_is_written_once(environment: &TestEnvironment) {
    let made = suspended(environment, &json!({}));
    assert_eq!(made["status"], json!({}));
    let seen = states(environment, &made, |_| true);
    assert_eq!(status(&seen[0]), suspended_status(0));
    assert_eq!(seen[0]["metadata"]["generation"], 1);
    wait_events(environment, &[("Normal", "Suspended", 1)]);
    // What somebody else writes makes the controller write nothing.
    let change = json!({"metadata": {"annotations": {"example.com/marker": "undecided"}}});
    let path = environment.one("jobs", "a");
    let patched = environment.api.patch(&path, &change).expect(200);
    let resumed = set(environment, false);
    let between = states(environment, &seen[0], |job| {
        version(job) == version(&resumed)
    });
    let versions: Vec<&str> = between.iter().map(version).collect();
    assert_eq!(versions, [version(&patched), version(&resumed)]);
    assert!(is_true(&resumed, "Suspended"), "until the controller acts");
}

fn a_resumed_job_has_its_pod_before_its_status(environment: &TestEnvironment) {
    let made = suspended(environment, &json!({}));
    states(environment, &made, |job| is_true(job, "Suspended"));
    let resumed = set(environment, false);
    assert_eq!(resumed["metadata"]["generation"], 2);
    let seen = states(environment, &resumed, |_| true);
    let expected = json!({
        "conditions": [{"type": "Suspended", "status": "False", "reason": "JobResumed",
            "message": "Job resumed"}],
        "startTime": "then", "active": 1, "ready": 0, "terminating": 0,
        "uncountedTerminatedPods": {},
    });
    assert_eq!(status(&seen[0]), expected);
    let query = format!(
        "labelSelector=job-name%3Da&resourceVersion={}&resourceVersionMatch=Exact",
        version(&seen[0])
    );
    assert_eq!(names(&environment.list("pods", &query)).len(), 1);
    environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    let wanted = [
        ("Normal", "Suspended", 1),
        ("Normal", "SuccessfulCreate", 1),
        ("Normal", "Resumed", 1),
    ];
    wait_events(environment, &wanted);
}

fn a_job_that_is_suspended_while_it_runs_loses_its_pod(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &json!({})));
    let old = environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    environment.wait_one("jobs", "a", |job| job["status"]["ready"] == 1);
    // A finalizer of this test holds the pod, so that the test can observe it.
    let hold = json!({"metadata": {"finalizers": ["batch.kubernetes.io/job-tracking", "example.com/hold"]}});
    let pod_path = environment.one("pods", name(&old));
    environment.api.patch(&pod_path, &hold).expect(200);
    let asked = set(environment, true);
    let seen = states(environment, &asked, |_| true);
    assert_eq!(status(&seen[0]), suspended_status(1));
    let going = environment.wait_one("pods", name(&old), is_deleting);
    assert_eq!(
        going["metadata"]["finalizers"],
        json!(["example.com/hold"]),
        "it is not counted"
    );
    states(environment, &seen[0], |job| {
        status(job) == suspended_status(0)
    });
    let release = json!({"metadata": {"finalizers": null}});
    environment.api.patch(&pod_path, &release).expect(200);
    environment.wait_one("pods", name(&old), Value::is_null);
    let wanted = [
        ("Normal", "SuccessfulCreate", 1),
        ("Normal", "SuccessfulDelete", 1),
        ("Normal", "Suspended", 1),
    ];
    wait_events(environment, &wanted);

    set(environment, false);
    let fresh = environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    assert_ne!(uid(&fresh), uid(&old));
    let running = environment.wait_one("jobs", "a", |job| job["status"]["ready"] == 1);
    let status = &running["status"];
    assert!(status["failed"].is_null() && status["succeeded"].is_null());
    assert_eq!(condition(&running, "Suspended")["status"], "False");
    assert_eq!(running["metadata"]["generation"], 3);
}

fn a_suspended_job_is_deleted_without_a_pod(environment: &TestEnvironment) {
    for policy in ["Foreground", "Background"] {
        let made = suspended(environment, &json!({}));
        environment.wait_one("jobs", "a", |job| is_true(job, "Suspended"));
        let options = json!({"propagationPolicy": policy, "preconditions": {"uid": uid(&made)}});
        let path = environment.one("jobs", "a");
        environment.api.delete(&path, &options).expect(200);
        environment.wait_one("jobs", "a", Value::is_null);
        assert!(names(&environment.list("pods", "")).is_empty());
    }
}

fn a_deadline_counts_from_the_resumption(environment: &TestEnvironment) {
    let made = suspended(environment, &json!({"activeDeadlineSeconds": 2}));
    states(environment, &made, |job| is_true(job, "Suspended"));
    // On a real cluster this only takes longer where the Job does not fail.
    environment.skip(Duration::from_secs(3));
    if environment.fake.is_none() {
        std::thread::park_timeout(Duration::from_secs(3));
    }
    let resumed = set(environment, false);
    let seen = states(environment, &resumed, |job| job["status"]["active"] == 1);
    assert!(
        seen.iter()
            .all(|job| condition(job, "FailureTarget").is_null())
    );
    environment.skip(Duration::from_secs(2));
    let failed = environment.wait_one("jobs", "a", |job| is_true(job, "Failed"));
    assert_eq!(condition(&failed, "Failed")["reason"], "DeadlineExceeded");
}

fn a_deadline_deletes_the_pod_and_counts_it(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &json!({"activeDeadlineSeconds": 3600})));
    let pod = environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    environment.wait_one("jobs", "a", |job| job["status"]["ready"] == 1);
    let change = json!({"spec": {"activeDeadlineSeconds": 1}});
    let path = environment.one("jobs", "a");
    let changed = environment.api.patch(&path, &change).expect(200);
    environment.skip(Duration::from_secs(1));
    let seen = states(environment, &changed, |job| is_true(job, "Failed"));
    let target = seen.iter().find(|job| is_true(job, "FailureTarget"));
    let target = status(target.expect("it precedes the end"));
    let why = json!("Job was active longer than specified deadline");
    let conditions = json!([{"type": "FailureTarget", "status": "True",
        "reason": "DeadlineExceeded", "message": why}]);
    assert_eq!(target["conditions"], conditions);
    assert_eq!(
        (&target["terminating"], &target["ready"]),
        (&json!(1), &json!(0))
    );
    assert!(target["active"].is_null() && target["failed"].is_null());
    let uncounted = json!({"failed": [uid(&pod)]});
    assert_eq!(target["uncountedTerminatedPods"], uncounted);
    let last = seen.last().expect("the end");
    assert_eq!(
        last["status"]["failed"], 1,
        "although its app has ended well"
    );
    assert_eq!(last["status"]["terminating"], 0);
    assert_eq!(condition(last, "Failed")["message"], why);
    assert!(last["status"]["completionTime"].is_null());
    environment.wait_one("pods", name(&pod), Value::is_null);
    let wanted = [
        ("Normal", "SuccessfulCreate", 1),
        ("Normal", "SuccessfulDelete", 1),
        ("Warning", "DeadlineExceeded", 1),
    ];
    wait_events(environment, &wanted);
    // A Job that has ended is no longer suspended.
    let asked = set(environment, true);
    let touched = json!({"metadata": {"labels": {"l": "1"}}});
    let touched = environment.api.patch(&path, &touched).expect(200);
    let seen = states(environment, &asked, |job| version(job) == version(&touched));
    assert_eq!(seen.len(), 1);
}

fn a_ttl_that_is_set_after_the_end_counts(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &exits(0)));
    let ended = environment.wait_one("jobs", "a", |job| is_true(job, "Complete"));
    assert!(!is_deleting(&ended));
    let change = json!({"spec": {"ttlSecondsAfterFinished": 0}});
    let path = environment.one("jobs", "a");
    environment.api.patch(&path, &change).expect(200);
    environment.wait_one("jobs", "a", Value::is_null);
    environment.wait("pods", "labelSelector=job-name%3Da", |pods| pods.is_empty());
}

fn the_pod_template_of_a_suspended_job_says_where_its_pods_run(environment: &TestEnvironment) {
    let made = suspended(environment, &json!({}));
    let path = environment.one("jobs", "a");
    let mut containers = made["spec"]["template"]["spec"]["containers"].clone();
    containers[0]["resources"] = json!({"requests": {"cpu": "1m"}});
    let allowed = json!({
        "metadata": {"labels": {"x": "y"}, "annotations": {"x": "y"}},
        "spec": {
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "a", "operator": "Exists"}],
            "containers": containers,
        },
    });
    let template = |template: Value| {
        let change = json!({"spec": {"template": template}});
        environment.api.patch(&path, &change)
    };
    let field = |refusal: Value| refusal["details"]["causes"][0]["field"].clone();
    let grace = json!({"spec": {"terminationGracePeriodSeconds": 7}});
    let refusal = template(grace).expect_refusal(422, "Invalid");
    assert_eq!(field(refusal), "spec.template.spec");
    for (what, value) in [
        ("managedBy", json!("example.com/other")),
        ("completions", json!(2)),
        ("podFailurePolicy", json!({"rules": []})),
    ] {
        let change = json!({"spec": {what: value}});
        let refusal = environment.api.patch(&path, &change);
        let refusal = refusal.expect_refusal(422, "Invalid");
        assert_eq!(field(refusal), format!("spec.{what}"));
    }
    let free = json!({"spec": {"activeDeadlineSeconds": 90, "ttlSecondsAfterFinished": 9}});
    environment.api.patch(&path, &free).expect(200);
    template(allowed.clone()).expect(200);
    set(environment, false);
    let pod = environment.wait_pod("a", |_| true);
    assert_eq!(pod["metadata"]["labels"]["x"], "y");
    assert_eq!(pod["spec"]["nodeSelector"]["kubernetes.io/os"], "linux");
    let refusal = template(json!({"spec": {"nodeSelector": null}}));
    let refusal = refusal.expect_refusal(422, "Invalid");
    assert_eq!(field(refusal), "spec.template");
    environment.api.patch(&path, &free).expect(200);
}

fn a_job_that_another_controller_manages_is_left_alone(environment: &TestEnvironment) {
    let managed = json!({"managedBy": "example.com/other"});
    environment.make("jobs", &job("a", &managed));
    // Jobs are worked off in the order of their creation.
    environment.make("jobs", &job("b", &json!({})));
    environment.wait_pod("b", |pod| is_true(pod, "Ready"));
    let path = environment.one("jobs", "a");
    let left = environment.api.get(&path).expect(200);
    assert_eq!(left["status"], json!({}));
    let pods = environment.list("pods", "labelSelector=job-name%3Da");
    assert!(names(&pods).is_empty());
}

fn durations_of_a_job_are_validated(environment: &TestEnvironment) {
    let all = format!("{}?dryRun=All", environment.all("jobs"));
    let refused = |field: &str, value: Value| {
        let got = environment
            .api
            .post(&all, &job("a", &json!({field: value})));
        (got.code, got.message().to_owned())
    };
    let begin = "Job in version \"v1\" cannot be handled as a Job: json: cannot unmarshal";
    for (field, value, what, wanted) in [
        ("activeDeadlineSeconds", json!("5"), "string", "int64"),
        ("activeDeadlineSeconds", json!(1.5), "number 1.5", "int64"),
        (
            "ttlSecondsAfterFinished",
            json!(2_147_483_648_u64),
            "number 2147483648",
            "int32",
        ),
        ("suspend", json!("true"), "string", "bool"),
    ] {
        let (code, message) = refused(field, value);
        let expected =
            format!("{begin} {what} into Go struct field JobSpec.spec.{field} of type {wanted}");
        assert_eq!((code, message), (400, expected));
    }
    for field in ["activeDeadlineSeconds", "ttlSecondsAfterFinished"] {
        let (code, message) = refused(field, json!(-1));
        let expected = format!(
            "Job.batch \"a\" is invalid: spec.{field}: Invalid value: -1: must be greater than or \
             equal to 0"
        );
        assert_eq!((code, message), (422, expected));
        assert_eq!(refused(field, json!(0)).0, 201);
    }
}
