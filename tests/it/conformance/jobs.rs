//! What becomes of a Job: its pod, the phases of it, ends, evictions.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    TestEnvironment, checks, condition, exits, is_deleting, is_true, job, name, uid, version,
};

checks! {
    a_pod_has_the_labels_of_its_job,
    a_pod_goes_through_its_phases,
    a_probe_that_fails_keeps_a_running_pod_unready,
    an_image_that_cannot_be_pulled_is_a_waiting_reason,
    exit_0_completes_a_job,
    another_exit_code_fails_a_job_without_retries,
    a_crash_loop_restarts_in_place_until_the_limit,
    an_evicted_pod_is_replaced_after_its_end,
    a_finished_job_is_deleted_after_its_ttl,
    a_deadline_fails_a_job,
    a_suspended_job_has_no_pod,
    a_meta_label_goes_onto_a_pod,
}

fn a_pod_has_the_labels_of_its_job(environment: &TestEnvironment) {
    let change = json!({"template": {"metadata": {"annotations": {"note": "x"}}}});
    let made = environment.make("jobs", &job("a", &change));
    let pod = environment.wait_pod("a", |_| true);
    assert!(name(&pod).starts_with("a-"));
    let labels = &pod["metadata"]["labels"];
    assert_eq!(labels["app"], "a");
    assert_eq!(labels["batch.kubernetes.io/job-name"], "a");
    assert_eq!(labels["controller-uid"], uid(&made));
    assert_eq!(pod["metadata"]["annotations"]["note"], "x");
    let owner = &pod["metadata"]["ownerReferences"][0];
    let expected = json!({
        "apiVersion": "batch/v1", "kind": "Job", "name": "a", "uid": uid(&made),
        "controller": true, "blockOwnerDeletion": true,
    });
    assert_eq!(*owner, expected);
    let finalizers = json!(["batch.kubernetes.io/job-tracking"]);
    assert_eq!(pod["metadata"]["finalizers"], finalizers);
    let running = environment.wait_one("jobs", "a", |job| job["status"]["ready"] == 1);
    assert_eq!(running["status"]["active"], 1);
    assert!(running["status"]["startTime"].is_string());
}

/// What a pod shows of itself, in words.
fn phase(pod: &Value) -> &'static str {
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    if is_true(pod, "Ready") {
        "ready"
    } else if pod["status"]["phase"] == "Running" {
        "running"
    } else if waiting["reason"] == "ContainerCreating" {
        "creating"
    } else if is_true(pod, "PodScheduled") {
        "scheduled"
    } else {
        "new"
    }
}

fn slow() -> Value {
    let mut change = job("slow", &json!({}))["spec"].clone();
    change["template"]["metadata"]["annotations"] =
        json!({"fake-kube/pull-ms": "20", "fake-kube/ready-ms": "1000"});
    let container = &mut change["template"]["spec"]["containers"][0];
    container["env"] = json!([{"name": "START_DELAY_SECS", "value": "1"}]);
    container["readinessProbe"] =
        json!({"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1});
    change
}

fn a_pod_goes_through_its_phases(environment: &TestEnvironment) {
    let made = environment.make("jobs", &job("a", &slow()));
    let query = format!(
        "labelSelector=job-name%3Da&resourceVersion={}",
        version(&made)
    );
    let path = format!(
        "{}?watch=1&timeoutSeconds=60&{query}",
        environment.all("pods")
    );
    let mut seen = Vec::new();
    let mut last = Value::Null;
    for event in environment.api.watch(&path) {
        last = event.expect("whole lines")["object"].clone();
        if seen.last() != Some(&phase(&last)) {
            seen.push(phase(&last));
        }
        if seen.last() == Some(&"ready") {
            break;
        }
    }
    assert_eq!(seen, ["new", "scheduled", "creating", "running", "ready"]);
    let status = &last["status"];
    let ip = status["podIP"].as_str().expect("an address");
    assert_eq!(status["podIPs"], json!([{"ip": ip}]));
    assert!(status["startTime"].is_string());
    assert!(!last["spec"]["nodeName"].is_null());
    for kind in [
        "PodReadyToStartContainers",
        "Initialized",
        "Ready",
        "ContainersReady",
        "PodScheduled",
    ] {
        assert!(is_true(&last, kind), "{kind}");
        assert!(
            condition(&last, kind)["lastTransitionTime"].is_string(),
            "{kind}"
        );
    }
    let container = &status["containerStatuses"][0];
    assert!(container["state"]["running"]["startedAt"].is_string());
    assert_eq!(
        (&container["ready"], &container["restartCount"]),
        (&json!(true), &json!(0))
    );
}

fn a_probe_that_fails_keeps_a_running_pod_unready(environment: &TestEnvironment) {
    let mut change = slow();
    change["template"]["metadata"]["annotations"] = json!({"fake-kube/never-ready": "true"});
    change["template"]["spec"]["containers"][0]["readinessProbe"]["httpGet"]["port"] = json!(1);
    environment.make("jobs", &job("a", &change));
    let pod = environment.wait_pod("a", |pod| pod["status"]["phase"] == "Running");
    let ready = condition(&pod, "Ready");
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("False"), &json!("ContainersNotReady"))
    );
    assert_eq!(ready["message"], "containers with unready status: [main]");
}

fn an_image_that_cannot_be_pulled_is_a_waiting_reason(environment: &TestEnvironment) {
    let mut change = slow();
    change["template"]["metadata"]["annotations"] =
        json!({"fake-kube/waiting": "ErrImagePull: connection refused"});
    change["template"]["spec"]["containers"][0]["image"] = json!("127.0.0.1:1/none:1");
    environment.make("jobs", &job("a", &change));
    let pod = environment.wait_pod("a", |pod| {
        let reason = &pod["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
        reason == "ErrImagePull" || reason == "ImagePullBackOff"
    });
    assert_eq!(pod["status"]["phase"], "Pending");
    assert!(is_true(&pod, "PodReadyToStartContainers"));
    let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
    let message = waiting["message"].as_str().unwrap_or("");
    assert!(!message.is_empty());
}

fn exit_0_completes_a_job(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &exits(0)));
    let done = environment.wait_one("jobs", "a", |job| is_true(job, "Complete"));
    assert!(is_true(&done, "SuccessCriteriaMet"));
    assert_eq!(condition(&done, "Complete")["reason"], "CompletionsReached");
    assert_eq!(done["status"]["succeeded"], 1);
    assert!(done["status"]["completionTime"].is_string());
    let pod = environment.wait_pod("a", |pod| pod["metadata"]["finalizers"].is_null());
    assert_eq!(pod["status"]["phase"], "Succeeded");
    assert_eq!(condition(&pod, "Ready")["reason"], "PodCompleted");
    assert_eq!(
        condition(&pod, "PodReadyToStartContainers")["status"],
        "False"
    );
}

fn another_exit_code_fails_a_job_without_retries(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &exits(3)));
    let pod = environment.wait_pod("a", |pod| pod["status"]["phase"] == "Failed");
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&json!(3), &json!("Error"))
    );
    assert_eq!(ended["message"].as_str().map(str::trim), Some("farewell"));
    let failed = environment.wait_one("jobs", "a", |job| is_true(job, "Failed"));
    for kind in ["FailureTarget", "Failed"] {
        let condition = condition(&failed, kind);
        assert_eq!(condition["reason"], "BackoffLimitExceeded");
        assert!(condition["lastTransitionTime"].is_string());
    }
    let status = &failed["status"];
    assert_eq!(status["failed"], 1);
    assert!(status["completionTime"].is_null());
    assert!(status["active"].is_null() || status["active"] == 0);
}

fn a_crash_loop_restarts_in_place_until_the_limit(environment: &TestEnvironment) {
    let mut change = exits(3);
    change["backoffLimit"] = json!(1);
    change["template"]["spec"]["restartPolicy"] = json!("OnFailure");
    environment.make("jobs", &job("a", &change));
    let failed = environment.wait_one("jobs", "a", |job| is_true(job, "Failed"));
    assert_eq!(
        condition(&failed, "Failed")["reason"],
        "BackoffLimitExceeded"
    );
    // Such a Job deletes its pod when it fails.
    environment.wait("pods", "labelSelector=job-name%3Da", |pods| {
        pods.values().all(is_deleting)
    });
}

fn an_evicted_pod_is_replaced_after_its_end(environment: &TestEnvironment) {
    let mut change = json!({"podFailurePolicy": {"rules": [{
        "action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }]}});
    change["template"] = json!({
        "metadata": {"annotations": {"fake-kube/exit-on-stop": "137"}},
        "spec": {"containers": [{
            "name": "main", "image": "config-controller-demo:1", "imagePullPolicy": "IfNotPresent",
            "env": [{"name": "IGNORE_TERM", "value": "1"}],
        }]},
    });
    environment.make("jobs", &job("a", &change));
    let old = environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": name(&old), "namespace": environment.namespace},
    });
    let path = format!("{}/eviction", environment.one("pods", name(&old)));
    environment.api.post(&path, &eviction).expect(201);
    let marked = environment.wait_one("pods", name(&old), |pod| {
        pod.is_null() || is_true(pod, "DisruptionTarget")
    });
    if !marked.is_null() {
        assert_eq!(
            condition(&marked, "DisruptionTarget")["reason"],
            "EvictionByEvictionAPI"
        );
    }
    let query = "labelSelector=job-name%3Da";
    environment.wait("pods", query, |pods| {
        let old = pods.get(name(&old));
        old.is_none_or(|pod| pod["status"]["phase"] != "Running")
    });
    // The Job controller's pause after a pod that ended.
    environment.skip(Duration::from_secs(10));
    let mut two_lived = false;
    environment.wait("pods", query, |pods| {
        let runs = |pod: &&Value| pod["status"]["phase"] == "Running";
        two_lived |= pods.values().filter(runs).count() > 1;
        pods.values()
            .any(|pod| uid(pod) != uid(&old) && is_true(pod, "Ready"))
    });
    assert!(!two_lived, "the new pod waits for the end of the old one");
    let job = environment
        .api
        .get(&environment.one("jobs", "a"))
        .expect(200);
    assert!(!is_true(&job, "Failed") && job["status"]["failed"].as_i64().unwrap_or(0) == 0);
}

fn a_finished_job_is_deleted_after_its_ttl(environment: &TestEnvironment) {
    let mut change = exits(0);
    change["ttlSecondsAfterFinished"] = json!(1);
    environment.make("jobs", &job("a", &change));
    environment.wait_one("jobs", "a", |job| is_true(job, "Complete"));
    environment.wait_one("jobs", "a", Value::is_null);
    environment.wait("pods", "labelSelector=job-name%3Da", |pods| pods.is_empty());
}

fn a_deadline_fails_a_job(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &json!({"activeDeadlineSeconds": 2})));
    let failed = environment.wait_one("jobs", "a", |job| is_true(job, "Failed"));
    assert_eq!(condition(&failed, "Failed")["reason"], "DeadlineExceeded");
}

fn a_suspended_job_has_no_pod(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &json!({"suspend": true})));
    let held = environment.wait_one("jobs", "a", |job| is_true(job, "Suspended"));
    assert!(held["status"]["startTime"].is_null());
    assert!(super::names(&environment.list("pods", "")).is_empty());
    let resume = json!({"spec": {"suspend": false}});
    environment
        .api
        .patch(&environment.one("jobs", "a"), &resume)
        .expect(200);
    environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    let resumed = environment.wait_one("jobs", "a", |job| job["status"]["ready"] == 1);
    assert_eq!(condition(&resumed, "Suspended")["status"], "False");
    assert_eq!(resumed["metadata"]["generation"], 2);
}

fn a_meta_label_goes_onto_a_pod(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &json!({})));
    let pod = environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    let path = environment.one("pods", name(&pod));
    let change = json!({"metadata": {"labels": {"example.com/meta-user": "ann"}}});
    let patched = environment.api.patch(&path, &change).expect(200);
    assert_eq!(
        patched["metadata"]["labels"]["example.com/meta-user"],
        "ann"
    );
    assert_eq!(patched["metadata"]["labels"]["app"], "a");
    let spec = json!({"spec": {"restartPolicy": "OnFailure"}});
    environment
        .api
        .patch(&path, &spec)
        .expect_refusal(422, "Invalid");
}
