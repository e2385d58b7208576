//! Why a start has not succeeded, where Events say it, and what holds where we may not read them.

use std::time::Duration;

use serde_json::Value;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::fate::{Exit, Fate};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{Builder, Ground, NAMESPACE, ROLE, TEMPLATE, eventually, name_of};

/// Pods by hand, and requests that wait a moment only.
fn impatient() -> Builder {
    Ground::builder()
        .fate(Fate::by_hand())
        .setting("START_WAIT", "300ms")
}

/// Pods by hand, and requests that wait until they hear something.
fn patient() -> Builder {
    Ground::builder()
        .fate(Fate::by_hand())
        .setting("START_WAIT", "300s")
}

/// Our Role, as it would be without the right to Events.
fn role_without_events() -> String {
    let rule = "- apiGroups: [\"\"]\n  resources: [events]\n  verbs: [list, watch]\n";
    let role = ROLE.replace(rule, "");
    assert_ne!(role, ROLE);
    role
}

/// Asks until the 202 has this reason (the view may lag behind the fake).
#[track_caller]
fn told(ground: &Ground, phase: &str, reason: &str) -> Value {
    eventually(reason, || {
        let body = ground.get("/app/hello/ann").expect(202);
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

/// If the Event did not wake the caller, it would hear of it after five minutes.
#[test]
fn a_pod_that_pod_security_refuses_is_told_at_once() {
    let ground = patient().start();
    ground.kube.refuse_pods(Some(POD_SECURITY));
    let body = ground.get("/app/hello/ann").expect(202);
    assert_eq!(body["status"], "app_error");
    assert_eq!(body["phase"], "creating");
    assert_eq!(body["reason"], "FailedCreate");
    check_message(&body, "violates PodSecurity");
    // Once it is not refused any more, it is ready like any other.
    ground.kube.refuse_pods(None);
    ground.advance(Duration::from_secs(1));
    ground.make_ready("hello-ann");
    eventually("it is ready", || {
        (ground.get("/app/hello/ann").status == 200).then_some(())
    });
    assert_eq!(ground.kube.count("create", "jobs"), 1);
}

#[test]
fn a_quota_is_waited_for_and_then_told() {
    let ground = impatient().setting("START_BUDGET_CREATING", "100s").start();
    ground.kube.refuse_pods(Some(QUOTA));
    let body = told(&ground, "creating", "FailedCreate");
    assert_eq!(body["status"], "node_not_ready");
    check_message(&body, "exceeded quota");
    ground.advance(Duration::from_secs(60));
    let body = ground.get("/app/hello/ann").expect(202);
    assert_eq!(body["status"], "node_not_ready");
    ground.advance(Duration::from_secs(41));
    let body = eventually("the verdict is told", || {
        let body = ground.get("/app/hello/ann").expect(202);
        (body["status"] == "app_error").then_some(body)
    });
    check_message(&body, "exceeded quota");
    ground.kube.refuse_pods(None);
    ground.advance(Duration::from_secs(1));
    ground.make_ready("hello-ann");
    eventually("it is ready", || {
        (ground.get("/app/hello/ann").status == 200).then_some(())
    });
}

#[test]
fn what_the_kubelet_warns_of_is_told() {
    let ground = impatient().start();
    ground.get("/app/hello/ann").expect(202);
    for next in [PodMove::Schedule, PodMove::Mount] {
        ground.move_pod("hello-ann", &next);
    }
    let warn = |reason: &str, message: &str| {
        let warning = PodMove::Warn(reason.to_owned(), message.to_owned());
        ground.move_pod("hello-ann", &warning);
    };
    let missing = "MountVolume.SetUp failed for volume \"v\" : secret \"s\" not found";
    warn("FailedMount", missing);
    let body = told(&ground, "mounting", "FailedMount");
    assert_eq!(body["status"], "pulling_image");
    check_message(&body, "the Secret 's' does not exist");
    for next in [PodMove::Pull, PodMove::Run] {
        ground.move_pod("hello-ann", &next);
    }
    told(&ground, "readying", "NotReady");
    warn("Unhealthy", "Readiness probe failed: connection refused");
    let body = told(&ground, "readying", "Unhealthy");
    assert_eq!(body["status"], "pulling_image");
    check_message(&body, "Readiness probe failed: connection refused");
    ground.make_ready("hello-ann");
    eventually("it is ready", || {
        (ground.get("/app/hello/ann").status == 200).then_some(())
    });
}

#[test]
fn a_budget_of_the_template_wins_over_the_setting() {
    let ground = impatient()
        .setting("START_BUDGET_PULL_ERROR", "1s")
        .annotation("start-budget.pull-error", "100s")
        .start();
    ground.get("/app/hello/ann").expect(202);
    for next in [PodMove::Schedule, PodMove::Mount, PodMove::Pull] {
        ground.move_pod("hello-ann", &next);
    }
    let stuck = PodMove::Wait("ErrImagePull".to_owned(), "connection refused".to_owned());
    ground.move_pod("hello-ann", &stuck);
    told(&ground, "pulling", "ErrImagePull");
    ground.advance(Duration::from_secs(60));
    assert_eq!(
        ground.get("/app/hello/ann").expect(202)["status"],
        "pulling_image"
    );
    ground.advance(Duration::from_secs(41));
    eventually("the verdict is told", || {
        let body = ground.get("/app/hello/ann").expect(202);
        (body["status"] == "app_error").then_some(())
    });
}

#[test]
fn a_budget_that_is_none_is_an_error_of_the_template() {
    let ground = impatient()
        .annotation("start-budget.pulling", "soon")
        .start();
    let sentence = ground
        .get("/app/hello/ann")
        .expect_error(422, "template_invalid");
    assert!(
        sentence.contains("start-budget.pulling is 'soon': give a duration"),
        "{sentence}"
    );
}

/// What Kubernetes itself does with Events after an hour.
#[test]
fn an_event_that_is_gone_is_no_longer_told() {
    let ground = impatient().start();
    ground.kube.refuse_pods(Some(QUOTA));
    told(&ground, "creating", "FailedCreate");
    ground.kube.set_auto(false);
    for event in ground.kube.all(Resource::Events, NAMESPACE) {
        let name = name_of(&event);
        let gone = ground
            .kube
            .delete(Resource::Events, NAMESPACE, &name, "Background");
        gone.expect("an Event can be deleted");
    }
    told(&ground, "creating", "NoPod");
}

/// Neither readiness nor any answer waits for Events.
#[test]
fn without_the_right_to_events_it_does_without() {
    let ground = impatient().role(&role_without_events()).start();
    ground.kube.refuse_pods(Some(QUOTA));
    ground.get("/readyz").expect(200);
    told(&ground, "creating", "NoPod");
    eventually("Events are asked for, and refused", || {
        (ground.kube.count("list", "events") > 0).then_some(())
    });
    assert_eq!(ground.get("/app/hello/ann").header("x-view-age"), "");
    ground.advance(Duration::from_secs(20));
    eventually("the verdict is told", || {
        let body = ground.get("/app/hello/ann").expect(202);
        (body["status"] == "app_error" && body["reason"] == "NoPod").then_some(())
    });
    ground.kube.refuse_pods(None);
    ground.advance(Duration::from_secs(1));
    ground.make_ready("hello-ann");
    eventually("it is ready", || {
        (ground.get("/app/hello/ann").status == 200).then_some(())
    });
    assert_eq!(ground.kube.count("watch", "events"), 0);
}

/// A Job that Kubernetes retries deletes its pod when it gives up.
#[test]
fn a_verdict_outlives_its_pod() {
    let text = TEMPLATE.replace("Never", "OnFailure");
    let ground = patient()
        .template("again", &text)
        .annotation("backoff-limit", "0")
        .start();
    let waiting = ground.client().begin_get("/app/again/ann");
    ground.move_pod("again-ann", &PodMove::Run);
    let crash = Exit {
        after_ms: 0,
        code: 3,
        reason: String::new(),
        message: "no licence\n".to_owned(),
    };
    ground.move_pod("again-ann", &PodMove::Exit(crash));
    let check = |body: &Value| {
        assert_eq!(body["status"], "app_error");
        assert_eq!(body["reason"], "Error");
        assert_eq!(body["exitCode"], 3);
        assert_eq!(body["log"], "no licence");
    };
    check(&waiting.finish().expect(202));
    let pod = eventually("the Job deletes its pod", || {
        let pod = ground.kube.pod_of(NAMESPACE, "again-ann")?;
        let deleting = pod["metadata"]["deletionTimestamp"].is_string();
        deleting.then(|| name_of(&pod))
    });
    for _ in 0..2 {
        // How its containers ended, then its end.
        ground.kube.move_pod(NAMESPACE, &pod, &PodMove::Terminate);
    }
    eventually("the pod is gone", || {
        ground
            .kube
            .pod_of(NAMESPACE, "again-ann")
            .is_none()
            .then_some(())
    });
    check(&ground.get("/app/again/ann").expect(202));
    assert_eq!(ground.kube.count("create", "jobs"), 1);
}
