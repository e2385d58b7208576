//! Waiting for a start: how long, the contents of a 202, and how a failure is reported.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{Client, PREFIX, Response, TestEnvironment, eventually};

/// Pods by hand, and requests that wait a moment only.
fn impatient() -> TestEnvironment {
    TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("START_WAIT", "300ms")
        .start()
}

fn exit(code: i64) -> PodMove {
    PodMove::Exit(Exit {
        after_ms: 0,
        code,
        reason: String::new(),
        message: "the last words".to_owned(),
    })
}

fn prefer(client: &Client, path: &str, wait: &str) -> Response {
    client.begin("GET", path, &[("Prefer", wait)], "").finish()
}

/// Asks until the 202 has this phase (the cache may lag behind the fake).
#[track_caller]
fn check_progress(environment: &TestEnvironment, word: &str, phase: &str, reason: &str) -> Value {
    let body = eventually(phase, || {
        let body = environment.get("/app/hello/ann").expect(202);
        (body["phase"] == phase && body["reason"] == reason).then_some(body)
    });
    assert_eq!(body["status"], word, "{body}");
    assert!(body["msg"].is_string(), "{body}");
    body
}

#[test]
fn a_start_that_takes_longer_is_202_with_its_phase() {
    let environment = impatient();
    environment.kube.set_auto(false);
    check_progress(&environment, "node_not_ready", "creating", "NoPod");
    environment.kube.set_auto(true);
    let unschedulable = PodMove::Unschedulable("0/1 nodes are available".to_owned());
    environment.move_pod("hello-ann", &unschedulable);
    let response = check_progress(
        &environment,
        "node_not_ready",
        "scheduling",
        "Unschedulable",
    );
    let message = response["msg"].as_str().expect("a sentence");
    assert!(message.contains("(0/1 nodes are available)"), "{message}");
    environment.move_pod("hello-ann", &PodMove::Schedule);
    for (next, phase) in [
        (PodMove::Mount, "mounting"),
        (PodMove::Pull, "pulling"),
        (PodMove::Run, "readying"),
    ] {
        environment.move_pod("hello-ann", &next);
        eventually(phase, || {
            let body = environment.get("/app/hello/ann").expect(202);
            assert_eq!(
                body["status"],
                if body["phase"] == "scheduling" {
                    "node_not_ready"
                } else {
                    "pulling_image"
                }
            );
            (body["phase"] == phase).then_some(())
        });
    }
    environment.make_ready("hello-ann");
    environment.wait_found("/app/hello/ann");
    assert_eq!(environment.kube.count("create", "jobs"), 1);
}

#[test]
fn a_request_waits_for_start_wait() {
    let environment = impatient();
    let begun = Instant::now();
    environment.get("/app/hello/ann").expect(202);
    assert!(begun.elapsed() >= Duration::from_millis(300));
}

/// If the header were not heeded, the response would come after five minutes.
#[test]
fn prefer_wait_limits_how_long_a_request_waits() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("START_WAIT", "300s")
        .start();
    let begun = Instant::now();
    prefer(&environment.client(), "/app/hello/ann", "wait=1").expect(202);
    assert!(begun.elapsed() >= Duration::from_secs(1));
    prefer(
        &environment.client(),
        "/app/hello/ann",
        "respond-async, wait=0",
    )
    .expect(202);
}

fn failing(code: i64) -> PodScript {
    PodScript {
        exit: Some(Exit {
            after_ms: 0,
            code,
            reason: String::new(),
            message: String::new(),
        }),
        never_ready: true,
        ..PodScript::default()
    }
}

/// A caller with a wait shorter than the delay of a known failure gets the failure report, not a
/// phase.
#[test]
fn a_known_failure_is_reported_at_the_end_of_a_short_wait() {
    let environment = TestEnvironment::builder()
        .annotation("restart-delay", "100s")
        .pod_script(failing(3))
        .start();
    environment.get("/app/hello/ann").expect(202);
    let response = environment.get_at_once("/app/hello/ann").expect(202);
    assert_eq!(response["status"], "app_error");
    assert_ne!(response["phase"], "stopping");
}

#[test]
fn the_delay_doubles_with_each_failure_in_a_row() {
    let environment = TestEnvironment::builder()
        .annotation("restart-delay", "100s")
        .pod_script(failing(3))
        .start();
    environment.get("/app/hello/ann").expect(202);
    let failures = || {
        let job = environment.job("hello-ann").expect("the Job is kept");
        job["metadata"]["annotations"][format!("{PREFIX}failures")].clone()
    };
    assert_eq!(failures(), Value::Null);
    environment.advance(Duration::from_secs(102));
    environment.get("/app/hello/ann").expect(202);
    assert_eq!(environment.kube.count("create", "jobs"), 2);
    assert_eq!(failures(), "1");
    environment
        .kube
        .set_pod_script("hello-ann", PodScript::default());
    environment.advance(Duration::from_secs(102));
    assert_eq!(
        environment.get("/app/hello/ann").expect(202)["status"],
        "app_error"
    );
    environment.advance(Duration::from_secs(100));
    environment.get("/app/hello/ann").expect(200);
    assert_eq!(environment.kube.count("create", "jobs"), 3);
}

#[test]
fn exit_0_during_a_start_is_reported_as_completed() {
    let environment = TestEnvironment::by_hand();
    let waiting = environment.client().begin_get("/app/hello/ann");
    environment.move_pod("hello-ann", &PodMove::Run);
    environment.move_pod("hello-ann", &exit(0));
    let response = waiting.finish().expect(202);
    assert_eq!(response["status"], "app_error");
    assert_eq!(response["reason"], "Completed");
    assert_eq!(response["exitCode"], 0);
}

#[test]
fn a_pull_error_becomes_app_error_after_its_budget() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("START_WAIT", "300ms")
        .setting("START_BUDGET_PULL_ERROR", "100s")
        .start();
    environment.get("/app/hello/ann").expect(202);
    environment.fail_pull("hello-ann");
    check_progress(&environment, "pulling_image", "pulling", "ErrImagePull");
    environment.advance(Duration::from_secs(102));
    let response = eventually("the failure is reported", || {
        let response = environment.get("/app/hello/ann").expect(202);
        (response["status"] == "app_error").then_some(response)
    });
    assert_eq!(response["reason"], "ErrImagePull");
    // An instance that recovers after a failure report is simply ready.
    environment.make_ready("hello-ann");
    environment.wait_found("/app/hello/ann");
    assert_eq!(environment.kube.count("create", "jobs"), 1);
}

/// What was carried out is reported as such, however short START_WAIT is (PATCH, DELETE, /release).
#[test]
fn a_short_start_wait_does_not_limit_changes() {
    let environment = TestEnvironment::builder()
        .setting("START_WAIT", "0s")
        .start();
    for name in ["ann", "bob"] {
        eventually("the instance is ready", || {
            (environment.get(&format!("/app/hello/{name}")).status == 200).then_some(())
        });
    }
    let slow = || Fault::Delay(Duration::from_millis(300));
    for (verb, resource) in [("patch", "pods"), ("delete", "jobs")] {
        environment
            .kube
            .fault(FaultRule::new(verb, resource, slow()).times(2));
    }
    environment
        .patch("/app/hello/ann", &json!({"username": "ann"}))
        .expect(200);
    // So is what has to be tried again, and what has to wait for the call of another.
    let unavailable = FaultRule::new("patch", "pods", Fault::Status(503)).times(1);
    environment.kube.fault(unavailable);
    let begun = [0; 8].map(|n| {
        let client = environment.client();
        client.begin_patch("/app/hello/ann", &json!({"n": n}))
    });
    for patch in begun {
        patch.finish().expect(200);
    }
    environment.delete("/app/hello/ann").expect(200);
    environment.get("/release/bob").expect(200);
}
