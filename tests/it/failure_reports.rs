//! The reason of a start that has not succeeded: what Events add, and what is reported without the
//! right to read them.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::Part;
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{Builder, NAMESPACE, ROLE, TEMPLATE, TestEnvironment, eventually, name_of};

/// Pods by hand, and requests that wait a moment only.
fn impatient() -> Builder {
    TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("START_WAIT", "300ms")
}

/// Pods by hand, and requests that wait until something happens.
fn patient() -> Builder {
    TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("START_WAIT", "300s")
}

/// Our Role, as it would be without the right to Events.
fn role_without_events() -> String {
    let rule = "- apiGroups: [\"\"]\n  resources: [events]\n  verbs: [list, watch]\n";
    let role = ROLE.replace(rule, "");
    assert_ne!(role, ROLE);
    role
}

/// Asks until the 202 has this reason (the cache may lag behind the fake).
#[track_caller]
fn reported(environment: &TestEnvironment, phase: &str, reason: &str) -> Value {
    eventually(reason, || {
        let body = environment.get("/app/hello/ann").expect(202);
        (body["phase"] == phase && body["reason"] == reason).then_some(body)
    })
}

#[track_caller]
fn check_message(body: &Value, part: &str) {
    let message = body["msg"].as_str().expect("a sentence");
    assert!(message.contains(part), "{message}");
}

const POD_SECURITY: &str = "pods \"hello-ann-x\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot != true";
const QUOTA: &str = "pods \"hello-ann-x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";

/// Without the Event the caller would wait for five minutes.
#[test]
fn a_pod_that_pod_security_rejects_is_reported_immediately() {
    let environment = patient().start();
    environment.kube.refuse_pods(Some(POD_SECURITY));
    let body = environment.get("/app/hello/ann").expect(202);
    assert_eq!(body["status"], "app_error");
    assert_eq!(body["phase"], "creating");
    assert_eq!(body["reason"], "FailedCreate");
    check_message(&body, "violates PodSecurity");
    // Once it is not refused any more, it is ready like any other.
    environment.kube.refuse_pods(None);
    environment.advance(Duration::from_secs(1));
    environment.make_ready("hello-ann");
    environment.wait_found("/app/hello/ann");
    assert_eq!(environment.kube.count("create", "jobs"), 1);
}

#[test]
fn a_quota_becomes_app_error_after_its_budget() {
    let environment = impatient().setting("START_BUDGET_CREATING", "100s").start();
    environment.kube.refuse_pods(Some(QUOTA));
    let body = reported(&environment, "creating", "FailedCreate");
    assert_eq!(body["status"], "node_not_ready");
    check_message(&body, "exceeded quota");
    environment.advance(Duration::from_secs(60));
    let body = environment.get("/app/hello/ann").expect(202);
    assert_eq!(body["status"], "node_not_ready");
    environment.advance(Duration::from_secs(41));
    let body = eventually("the failure is reported", || {
        let body = environment.get("/app/hello/ann").expect(202);
        (body["status"] == "app_error").then_some(body)
    });
    check_message(&body, "exceeded quota");
    environment.kube.refuse_pods(None);
    environment.advance(Duration::from_secs(1));
    environment.make_ready("hello-ann");
    environment.wait_found("/app/hello/ann");
}

#[test]
fn warnings_of_the_kubelet_are_reported() {
    let environment = impatient().start();
    environment.get("/app/hello/ann").expect(202);
    for next in [PodMove::Schedule, PodMove::Mount] {
        environment.move_pod("hello-ann", &next);
    }
    let warn = |reason: &str, message: &str| {
        let warning = PodMove::Warn(reason.to_owned(), message.to_owned());
        environment.move_pod("hello-ann", &warning);
    };
    let missing = "MountVolume.SetUp failed for volume \"v\" : secret \"s\" not found";
    warn("FailedMount", missing);
    let body = reported(&environment, "mounting", "FailedMount");
    assert_eq!(body["status"], "pulling_image");
    check_message(&body, "the Secret 's' does not exist");
    for next in [PodMove::Pull, PodMove::Run] {
        environment.move_pod("hello-ann", &next);
    }
    reported(&environment, "readying", "ContainersNotReady");
    warn("Unhealthy", "Readiness probe failed: connection refused");
    let body = reported(&environment, "readying", "Unhealthy");
    assert_eq!(body["status"], "pulling_image");
    check_message(&body, "Readiness probe failed: connection refused");
    environment.make_ready("hello-ann");
    environment.wait_found("/app/hello/ann");
}

#[test]
fn a_budget_of_the_template_overrides_the_setting() {
    let environment = impatient()
        .setting("START_BUDGET_PULL_ERROR", "1s")
        .annotation("start-budget.pull-error", "100s")
        .start();
    environment.get("/app/hello/ann").expect(202);
    environment.fail_pull("hello-ann");
    reported(&environment, "pulling", "ErrImagePull");
    environment.advance(Duration::from_secs(60));
    assert_eq!(
        environment.get("/app/hello/ann").expect(202)["status"],
        "pulling_image"
    );
    environment.advance(Duration::from_secs(41));
    eventually("the failure is reported", || {
        let body = environment.get("/app/hello/ann").expect(202);
        (body["status"] == "app_error").then_some(())
    });
}

#[test]
fn an_invalid_budget_is_an_error_of_the_template() {
    let environment = impatient()
        .annotation("start-budget.pulling", "soon")
        .start();
    let message = environment
        .get("/app/hello/ann")
        .expect_error(422, "template_invalid");
    assert!(
        message.contains("start-budget.pulling is 'soon'; expected a duration"),
        "{message}"
    );
}

/// What Kubernetes itself does with Events after an hour.
#[test]
fn a_deleted_event_is_no_longer_reported() {
    let environment = impatient().start();
    environment.kube.refuse_pods(Some(QUOTA));
    reported(&environment, "creating", "FailedCreate");
    environment.kube.set_auto(false);
    for event in environment.kube.all(Resource::Events, NAMESPACE) {
        let name = name_of(&event);
        let gone = environment
            .kube
            .delete(Resource::Events, NAMESPACE, &name, "Background");
        gone.expect("an Event can be deleted");
    }
    reported(&environment, "creating", "NoPod");
}

/// Neither readiness nor any response waits for Events.
#[test]
fn without_the_permission_to_read_events_starts_are_reported_from_pods() {
    let environment = impatient().role(&role_without_events()).start();
    environment.kube.refuse_pods(Some(QUOTA));
    environment.get("/readyz").expect(200);
    reported(&environment, "creating", "NoPod");
    eventually("Events are asked for, and refused", || {
        (environment.kube.count("list", "events") > 0).then_some(())
    });
    assert_eq!(environment.get("/app/hello/ann").header("x-view-age"), "");
    environment.advance(Duration::from_secs(20));
    eventually("the failure is reported", || {
        let body = environment.get("/app/hello/ann").expect(202);
        (body["status"] == "app_error" && body["reason"] == "NoPod").then_some(())
    });
    environment.kube.refuse_pods(None);
    environment.advance(Duration::from_secs(1));
    environment.make_ready("hello-ann");
    environment.wait_found("/app/hello/ann");
    assert_eq!(environment.kube.count("watch", "events"), 0);
}

/// It has no probe, so it is ready as soon as it runs.
#[test]
fn with_min_ready_an_app_that_ends_at_once_is_never_found() {
    let environment = patient().annotation("min-ready", "3s").start();
    let waiting = environment.client().begin_get("/app/hello/ann");
    environment.make_ready("hello-ann");
    eventually("it counts as starting", || {
        let response = environment.get_at_once("/app/hello/ann").expect(202);
        (response["reason"] == "MinReady").then_some(())
    });
    assert_eq!(
        environment.get("/app/hello").json()["ann"]["ready"],
        Value::Null
    );
    let exit = Exit::at_once(3);
    environment.move_pod("hello-ann", &PodMove::Exit(exit));
    let body = waiting.finish().expect(202);
    assert_eq!(
        (&body["status"], &body["exitCode"]),
        (&"app_error".into(), &3.into())
    );
    // Another one goes on, and is found once that time is over.
    let waiting = environment.client().begin_get("/app/hello/bob");
    environment.make_ready("hello-bob");
    eventually("it counts as starting", || {
        let response = environment.get_at_once("/app/hello/bob").expect(202);
        (response["reason"] == "MinReady").then_some(())
    });
    environment.advance(Duration::from_secs(3));
    waiting.finish().expect(200);
    environment.get_at_once("/app/hello/bob").expect(200);
}

/// Kubernetes deletes each failed Job at once. It is started after 0, 10 and 30 s, as without that.
#[test]
fn a_failed_job_that_expires_at_once_is_not_started_again_and_again() {
    let text = TEMPLATE.replace(
        "spec:",
        "metadata: {annotations: {fake-kube/exit-code: \"1\"}}\nspec:",
    );
    let environment = TestEnvironment::builder()
        .setting("START_WAIT", "3s")
        .template("brief", &text)
        .annotation("ttl-after-finished", "0s")
        .start();
    let began = Instant::now();
    let mut ahead = Duration::ZERO;
    while ahead + began.elapsed() < Duration::from_secs(38) {
        let body = environment.get("/app/brief/ann").expect(202);
        assert_eq!(body["status"], "app_error", "{body}");
        environment.advance(Duration::from_secs(2));
        ahead += Duration::from_secs(2);
    }
    // One more where a Job is gone before the response to its POST has come, which takes longer than that
    // only here.
    let made = environment.kube.count("create", "jobs");
    assert!((2..=4).contains(&made), "{made} Jobs");
}

/// A Job that Kubernetes retries deletes its pod when it gives up.
#[test]
fn a_failure_report_outlives_its_pod() {
    let text = TEMPLATE.replace("Never", "OnFailure");
    let environment = patient()
        .template("again", &text)
        .annotation("backoff-limit", "0")
        .start();
    let waiting = environment.client().begin_get("/app/again/ann");
    environment.move_pod("again-ann", &PodMove::Run);
    let crash = Exit {
        after_ms: 0,
        code: 3,
        reason: String::new(),
        message: "no licence\n".to_owned(),
    };
    environment.move_pod("again-ann", &PodMove::Exit(crash));
    let check = |body: &Value| {
        assert_eq!(body["status"], "app_error");
        assert_eq!(body["reason"], "Error");
        assert_eq!(body["exitCode"], 3);
        assert_eq!(body["log"], "no licence");
    };
    check(&waiting.finish().expect(202));
    let pod = eventually("the Job deletes its pod", || {
        let pod = environment.kube.pod_of(NAMESPACE, "again-ann")?;
        let deleting = pod["metadata"]["deletionTimestamp"].is_string();
        deleting.then(|| name_of(&pod))
    });
    for _ in 0..2 {
        // How its containers ended, then its end.
        environment
            .kube
            .move_pod(NAMESPACE, &pod, &PodMove::Terminate);
    }
    eventually("the pod is gone", || {
        environment
            .kube
            .pod_of(NAMESPACE, "again-ann")
            .is_none()
            .then_some(())
    });
    check(&environment.get("/app/again/ann").expect(202));
    assert_eq!(environment.kube.count("create", "jobs"), 1);
}

/// A mutating webhook, or a person, removes the label by which pods are watched.
#[test]
fn a_pod_without_our_label_is_reported_with_what_is_missing() {
    const LABEL: &str = "config-controller.semafor.ch/instance-name";
    let environment = TestEnvironment::builder()
        .setting("START_WAIT", "300ms")
        .start();
    let ip = environment.start_instance("/app/hello/ann");
    let pod = environment.wait_pod("hello-ann");
    let set = |value: Value| {
        let key = (Resource::Pods, NAMESPACE.to_owned(), pod.clone());
        let labels = serde_json::json!({"metadata": {"labels": {LABEL: value}}});
        environment.kube.with(|model| {
            let patched = model.cluster.merge_patch(&key, &labels, Part::Main, false);
            patched.expect("there is a pod");
        });
    };
    set(Value::Null);
    let body = eventually("the pod is out of sight", || {
        let response = environment.get("/app/hello/ann");
        (response.status == 202).then(|| response.json())
    });
    check_message(&body, LABEL);
    check_message(&body, "has removed the label");
    environment.advance(Duration::from_secs(16));
    let failed = environment.get("/app/hello/ann").expect(202);
    assert_eq!(failed["status"], "app_error");
    check_message(&failed, LABEL);
    set(Value::from("ann"));
    eventually("it is found again", || {
        let response = environment.get("/app/hello/ann");
        (response.status == 200 && response.json()["ip"] == *ip).then_some(())
    });
}
