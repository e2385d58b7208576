//! Pods that Kubernetes evicts, or that somebody deletes: whatever the app exits with, its callers get the
//! successor and no failure report.

use std::time::Duration;

use serde_json::Value;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{Builder, NAMESPACE, Pending, TEMPLATE, TestEnvironment, eventually, name_of};

const PATH: &str = "/app/hello/ann";
const JOB: &str = "hello-ann";

/// An app that exits so on SIGTERM; once its pod is being deleted, only a test ends it.
fn exits_with(code: i64) -> Builder {
    let pod_script = PodScript {
        exit_on_stop: code,
        lingers: true,
        ..PodScript::default()
    };
    TestEnvironment::builder()
        .pod_script(pod_script)
        .setting("START_WAIT", "300s")
}

/// Evicts the pod of a ready instance, and returns its address and a request that waits.
#[track_caller]
fn evict(environment: &TestEnvironment) -> (String, String, Pending) {
    let ip = environment.start_instance(PATH);
    let pod = environment.wait_pod(JOB);
    assert!(environment.kube.move_pod(NAMESPACE, &pod, &PodMove::Evict));
    let body = eventually("the eviction is seen", || {
        let response = environment.get_at_once(PATH);
        (response.status == 202).then(|| response.json())
    });
    no_failure(&body);
    assert_eq!(body["reason"], "Evicted", "{body}");
    let message = body["msg"].as_str().expect("a sentence");
    assert!(message.contains("Eviction API: evicting"), "{message}");
    (ip, pod, environment.client().begin_get(PATH))
}

/// The containers of that pod have ended.
fn end(environment: &TestEnvironment, pod: &str) {
    let next = &PodMove::Terminate;
    while environment.kube.move_pod(NAMESPACE, pod, next) {}
}

#[track_caller]
fn no_failure(body: &Value) {
    assert_ne!(body["status"], "app_error", "{body}");
}

#[track_caller]
fn is_successor(body: &Value, before: &str) {
    assert!(body["ip"].is_string(), "{body}");
    assert_ne!(body["ip"], before);
}

/// Its Job is complete then, so there is no other pod of it.
#[test]
fn waiting_callers_get_the_successor_of_an_evicted_app_that_exits_with_0() {
    let environment = exits_with(0).start();
    let (ip, pod, waiting) = evict(&environment);
    let uid = environment.wait_job(JOB)["metadata"]["uid"].clone();
    end(&environment, &pod);
    is_successor(&waiting.finish().expect(200), &ip);
    let job = environment.wait_job(JOB);
    assert_ne!(job["metadata"]["uid"], uid);
    let annotations = job["metadata"]["annotations"].to_string();
    assert!(!annotations.contains("failures\":\"1"), "{annotations}");
    eventually("the stop is counted", || {
        let text = environment.get("/metrics").text;
        let line = r#"config_controller_stops_total{cause="disrupted",type="hello"} 1"#;
        text.lines().any(|it| it == line).then_some(())
    });
}

/// Without anybody who waits: the next request starts the successor, without a delay.
#[test]
fn the_next_request_replaces_an_evicted_app_that_exits_with_0() {
    let environment = exits_with(0).start();
    let ip = environment.start_instance(PATH);
    environment.move_pod(JOB, &PodMove::Evict);
    let pod = environment.kube.pod_of(NAMESPACE, JOB);
    let pod = name_of(&pod.expect("it ends"));
    end(&environment, &pod);
    eventually("the end of the Job is seen", || {
        let list = environment.get("/app/hello").expect(200);
        (list[0]["ip"] != ip.as_str()).then_some(())
    });
    is_successor(&environment.get(PATH).expect(200), &ip);
}

/// A Job that is complete keeps the pod of an app that ended by itself.
#[test]
fn a_replica_that_starts_after_the_end_knows_an_evicted_app() {
    let mut environment = exits_with(0).unstarted().start();
    let first = environment.add_replica();
    environment.wait_ready(first);
    let ip = environment.start_instance(PATH);
    let pod = environment.wait_pod(JOB);
    drop(
        environment
            .take_service()
            .drain(Duration::ZERO, Duration::ZERO),
    );
    environment.move_pod(JOB, &PodMove::Evict);
    end(&environment, &pod);
    eventually("the Job is complete", || {
        let job = environment.job(JOB)?;
        let conditions = job["status"]["conditions"].as_array()?.clone();
        let is_gone = environment.kube.pod_of(NAMESPACE, JOB).is_none();
        let mut all = conditions.iter();
        (is_gone && all.any(|it| it["type"] == "Complete")).then_some(())
    });
    let second = environment.add_replica();
    environment.wait_ready(second);
    let started = environment.replica(second).get(PATH).expect(200);
    is_successor(&started, &ip);
}

/// The Job controller waits for 10 s before it makes the successor, which uses up no budget.
#[test]
fn waiting_callers_get_the_successor_of_an_evicted_app_that_is_killed() {
    for (code, policy) in [(143, "Never"), (137, "Never"), (143, "OnFailure")] {
        let environment = exits_with(code)
            .setting("START_BUDGET_CREATING", "5s")
            .template("hello", &TEMPLATE.replace("Never", policy))
            .start();
        let (ip, pod, waiting) = evict(&environment);
        let uid = environment.wait_job(JOB)["metadata"]["uid"].clone();
        end(&environment, &pod);
        eventually("the end of the pod is seen", || {
            let list = environment.get("/app/hello").expect(200);
            list[0]["ip"].is_null().then_some(())
        });
        for _ in 0..9 {
            environment.advance(Duration::from_secs(1));
            let body = environment.get_at_once(PATH).expect(202);
            no_failure(&body);
            assert_eq!(body["reason"], "Evicted", "{code} {policy}: {body}");
        }
        environment.advance(Duration::from_secs(2));
        is_successor(&waiting.finish().expect(200), &ip);
        assert_eq!(environment.wait_job(JOB)["metadata"]["uid"], uid);
        assert_eq!(environment.kube.count("create", "jobs"), 1);
    }
}

/// Nor does it for a replica that starts in the meantime.
#[test]
fn a_replica_that_starts_before_the_successor_does_not_report_a_failure() {
    let mut environment = exits_with(143)
        .setting("START_BUDGET_CREATING", "5s")
        .start();
    let (ip, pod, _waiting) = evict(&environment);
    end(&environment, &pod);
    eventually("the pod is gone", || {
        let is_gone = environment.kube.pod_of(NAMESPACE, JOB).is_none();
        is_gone.then_some(())
    });
    let second = environment.add_replica();
    environment.wait_ready(second);
    let client = environment.replica(second);
    for _ in 0..9 {
        let request = client.begin("GET", PATH, &[("Prefer", "wait=0")], "");
        no_failure(&request.finish().expect(202));
        environment.advance(Duration::from_secs(1));
    }
    environment.advance(Duration::from_secs(2));
    is_successor(&client.get(PATH).expect(200), &ip);
}

/// A pod that somebody deletes has no mark, but is being deleted; its app ends well.
#[test]
fn a_pod_deleted_by_hand_whose_app_exits_with_0_is_replaced() {
    let environment = exits_with(0).start();
    let ip = environment.start_instance(PATH);
    let pod = environment.wait_pod(JOB);
    let deleted = environment
        .kube
        .delete(Resource::Pods, NAMESPACE, &pod, "Background");
    deleted.expect("there is a pod");
    let waiting = eventually("the deletion is seen", || {
        let response = environment.get_at_once(PATH);
        let is_seen = response.status == 202;
        is_seen.then(|| environment.client().begin_get(PATH))
    });
    end(&environment, &pod);
    is_successor(&waiting.finish().expect(200), &ip);
}

/// An app that ends by itself is still a failure.
#[test]
fn an_app_that_exits_with_0_by_itself_is_reported() {
    let environment = exits_with(0).start();
    environment.start_instance(PATH);
    let exit = Exit::at_once(0);
    environment.move_pod(JOB, &PodMove::Exit(exit));
    // Its Job may be seen to end before its pod, which says why.
    let body = eventually("the end is seen", || {
        let response = environment.get_at_once(PATH);
        let body = (response.status == 202).then(|| response.json())?;
        (body["status"] == "app_error").then_some(body)
    });
    assert_eq!(body["reason"], "Completed", "{body}");
}
