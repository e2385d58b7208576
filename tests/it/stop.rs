//! DELETE: what waiters get, a start during a stop, and force deletion. Single requests are rows of
//! `contract_stops`.

use std::time::Duration;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{NAMESPACE, Pending, TestEnvironment, eventually, name_of};

#[test]
fn waiters_are_answered_when_another_client_stops_the_instance() {
    let environment = TestEnvironment::by_hand();
    let waiting = environment.client().begin_get("/app/hello/ann");
    environment.wait_pod("hello-ann");
    see_starting(&environment);
    delete_at_api(&environment, "Foreground");
    waiting.finish().expect_error(409, "stopped");
}

#[test]
fn a_start_waits_for_the_end_of_a_foreground_delete() {
    let environment = TestEnvironment::by_hand();
    let old = start(&environment);
    delete_at_api(&environment, "Foreground");
    let waiting = begin_when_stopping(&environment);
    check_new_instance(&environment, &old, waiting);
}

/// kubectl's default: the Job is gone immediately, its pod later.
#[test]
fn a_start_waits_for_the_pod_that_a_background_delete_leaves() {
    let environment = TestEnvironment::by_hand();
    let old = start(&environment);
    let beside = environment.client().begin_get("/app/hello/zoe");
    environment.wait_pod("hello-zoe");
    delete_at_api(&environment, "Background");
    // A start before the replica knows of the garbage collector would stop the pod itself.
    await_pod_leaves(&environment, &old.pod);
    environment.make_ready("hello-zoe");
    beside.finish().expect(200);
    let waiting = begin_when_gone(&environment);
    check_new_instance(&environment, &old, waiting);
    assert_eq!(
        environment.kube.count("delete", "pods"),
        0,
        "it was on its way out"
    );
}

/// The garbage collector has not run yet, or the pod was taken from its Job: nobody else stops it.
#[test]
fn a_pod_that_outlives_its_job_is_stopped_before_the_next_starts() {
    for propagation in ["Background", "Orphan"] {
        let environment = TestEnvironment::by_hand();
        let old = start(&environment);
        environment.kube.set_auto(propagation == "Orphan");
        delete_at_api(&environment, propagation);
        let waiting = begin_when_gone(&environment);
        await_pod_leaves(&environment, &old.pod);
        assert_eq!(environment.kube.count("delete", "pods"), 1);
        assert!(environment.job("hello-ann").is_none());
        environment.kube.set_auto(true);
        check_new_instance(&environment, &old, waiting);
    }
}

struct Old {
    ip: String,
    pod: String,
    job_uid: String,
}

/// Starts `hello/ann` by hand.
#[track_caller]
fn start(environment: &TestEnvironment) -> Old {
    let waiting = environment.client().begin_get("/app/hello/ann");
    environment.make_ready("hello-ann");
    let job = environment.wait_job("hello-ann");
    Old {
        ip: address(waiting),
        pod: environment.wait_pod("hello-ann"),
        job_uid: job["metadata"]["uid"].as_str().expect("a UID").to_owned(),
    }
}

#[track_caller]
fn address(waiting: Pending) -> String {
    let response = waiting.finish().expect(200);
    response["ip"].as_str().expect("an address").to_owned()
}

#[track_caller]
fn delete_at_api(environment: &TestEnvironment, propagation: &str) {
    let deleted = environment
        .kube
        .delete(Resource::Jobs, NAMESPACE, "hello-ann", propagation);
    deleted.expect("the Job is deleted");
}

#[track_caller]
fn await_pod_leaves(environment: &TestEnvironment, pod: &str) {
    eventually("the old pod is being stopped", || {
        let pod = environment.kube.get(Resource::Pods, NAMESPACE, pod)?;
        pod["metadata"]["deletionTimestamp"]
            .is_string()
            .then_some(())
    });
}

/// Asks as soon as this replica knows that the Job is gone. A request while it knows only that the pod
/// leaves waits for that very Job, and gets 409 `stopped`.
#[track_caller]
fn begin_when_gone(environment: &TestEnvironment) -> Pending {
    eventually("the Job is gone", || {
        let list = environment.get("/app/hello").expect(200);
        let mut all = list.as_array()?.iter();
        all.all(|it| it["name"] != "ann").then_some(())
    });
    environment.client().begin_get("/app/hello/ann")
}

/// As [`begin_when_gone`], where the Job goes last.
#[track_caller]
fn begin_when_stopping(environment: &TestEnvironment) -> Pending {
    eventually("the Job is on its way out", || {
        let response = environment.get_at_once("/app/hello/ann");
        (response.status == 202 && response.expect(202)["phase"] == "stopping").then_some(())
    });
    environment.client().begin_get("/app/hello/ann")
}

/// The waiting request is answered only after the old pod has gone, with the new one's address.
#[track_caller]
fn check_new_instance(environment: &TestEnvironment, old: &Old, waiting: Pending) {
    see_phase(environment, "stopping");
    assert!(!waiting.is_answered());
    let pod = environment.kube.get(Resource::Pods, NAMESPACE, &old.pod);
    assert!(pod.is_some(), "the old pod is still on its way out");
    // The new pod is to come up by itself.
    environment
        .kube
        .set_pod_script("hello-ann", PodScript::default());
    environment
        .kube
        .move_pod(NAMESPACE, &old.pod, &PodMove::Terminate);
    assert_ne!(address(waiting), old.ip);
    let job = environment.wait_job("hello-ann");
    assert_ne!(job["metadata"]["uid"], old.job_uid.as_str());
}

/// Waits until the replica knows the Job; requests before that wait for this very Job.
#[track_caller]
fn see_starting(environment: &TestEnvironment) {
    see_phase(environment, "scheduling");
}

#[track_caller]
fn see_phase(environment: &TestEnvironment, phase: &str) {
    eventually(phase, || {
        let response = environment.get_at_once("/app/hello/ann");
        (response.expect(202)["phase"] == phase).then_some(())
    });
}

#[test]
fn delete_can_wait_until_the_job_is_gone() {
    let environment = TestEnvironment::by_hand();
    start(&environment);
    let headers = [("Prefer", "wait=20")];
    let waiting = environment
        .client()
        .begin("DELETE", "/app/hello/ann", &headers, "");
    // A request that does not wait is answered when the deletion has begun.
    environment.delete("/app/hello/ann").expect(200);
    assert_eq!(environment.jobs(), ["hello-ann"]);
    eventually("its pod is to go", || {
        let pod = environment.kube.pod_of(NAMESPACE, "hello-ann")?;
        (!pod["metadata"]["deletionTimestamp"].is_null()).then_some(())
    });
    assert!(!waiting.is_answered());
    // From now on pods go by themselves, long before this one is overdue.
    environment
        .kube
        .set_pod_script("hello-ann", PodScript::default());
    waiting.finish().expect_text(200, r#"{"status":"Success"}"#);
    assert!(environment.jobs().is_empty());
}

#[test]
fn delete_is_202_when_the_job_is_not_gone_in_time() {
    let environment = TestEnvironment::by_hand();
    start(&environment);
    let headers = [("Prefer", "wait=1")];
    let waiting = environment
        .client()
        .begin("DELETE", "/app/hello/ann", &headers, "");
    let response = waiting.finish().expect(202);
    assert_eq!(response["status"], "Stopping");
    assert_eq!(response["phase"], "stopping");
    assert!(response["since"].is_string(), "{response}");
}

#[test]
fn a_pod_on_a_lost_node_is_force_deleted_30_s_after_its_grace() {
    let environment = TestEnvironment::by_hand();
    start(&environment);
    environment.delete("/app/hello/ann").expect(200);
    let headers = [("Prefer", "wait=300")];
    let waiting = environment
        .client()
        .begin("GET", "/app/hello/ann", &headers, "");
    // Its kubelet hangs, or is just slow.
    environment.advance(Duration::from_secs(100));
    assert_eq!(environment.kube.count("delete", "pods"), 0);
    let pod = environment
        .kube
        .pod_of(NAMESPACE, "hello-ann")
        .expect("it is there");
    let is_lost = environment
        .kube
        .move_pod(NAMESPACE, &name_of(&pod), &PodMove::LoseNode);
    assert!(is_lost);
    // The default grace of a pod is 30 s. The time counts from the replica's first observation of
    // the deletion, which may be now.
    eventually("the pod is force-deleted", || {
        environment.advance(Duration::from_secs(1));
        (environment.kube.count("delete", "pods") == 1).then_some(())
    });
    environment.make_ready("hello-ann");
    waiting.finish().expect(200);
    let metrics = environment.get("/metrics").text;
    let line = r#"config_controller_stops_total{cause="forced",type="hello"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}
