//! Stopping: DELETE, what those hear who wait, and a start while the same name goes.

use std::time::Duration;

use serde_json::json;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::fate::Fate;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{Ground, NAMESPACE, Pending, eventually, name_of};

#[test]
fn delete_stops_and_then_there_is_nothing_to_stop() {
    let ground = Ground::new();
    ground.start_instance("/app/hello/ann");
    let deleted = ground.delete("/app/hello/ann");
    deleted.expect_text(200, r#"{"status":"Success"}"#);
    eventually("Job and pod are gone", || {
        let pods = ground.kube.all(Resource::Pods, NAMESPACE);
        (ground.jobs().is_empty() && pods.is_empty()).then_some(())
    });
    eventually("the list is empty", || {
        (ground.get("/app/hello").text == "[]").then_some(())
    });
    let sentence = ground
        .delete("/app/hello/ann")
        .expect_detail(404, "No job found", "not_found");
    assert_eq!(sentence, "there is no instance hello/ann");
}

#[test]
fn delete_is_foreground_for_this_very_job() {
    let ground = Ground::by_hand();
    start(&ground);
    ground.delete("/app/hello/ann").expect(200);
    let job = ground.job("hello-ann").expect("the Job waits for its pod");
    assert_eq!(job["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    // A second DELETE of what is already going is a success, too; only Kubernetes can say that it
    // is still the same Job.
    ground.delete("/app/hello/ann").expect(200);
    assert_eq!(ground.kube.count("delete", "jobs"), 2);
}

#[test]
fn a_job_without_a_pod_can_be_deleted() {
    let ground = Ground::new();
    ground.kube.set_auto(false);
    ground.get_at_once("/app/hello/ann").expect(202);
    ground.delete("/app/hello/ann").expect(200);
    ground.kube.set_auto(true);
    eventually("the Job is gone", || ground.jobs().is_empty().then_some(()));
}

#[test]
fn those_who_wait_for_an_instance_hear_that_it_was_stopped() {
    let ground = Ground::by_hand();
    let waiting = ground.client().begin_get("/app/hello/ann");
    ground.wait_pod("hello-ann");
    see_starting(&ground);
    ground.delete("/app/hello/ann").expect(200);
    let sentence = waiting.finish().expect_error(409, "stopped");
    assert!(sentence.contains("ask again"), "{sentence}");
}

#[test]
fn those_who_wait_hear_it_too_when_somebody_else_stops_it() {
    let ground = Ground::by_hand();
    let waiting = ground.client().begin_get("/app/hello/ann");
    ground.wait_pod("hello-ann");
    see_starting(&ground);
    delete_at_api(&ground, "Foreground");
    waiting.finish().expect_error(409, "stopped");
}

#[test]
fn a_start_waits_for_what_our_delete_stops() {
    let ground = Ground::by_hand();
    let old = start(&ground);
    ground.delete("/app/hello/ann").expect(200);
    let waiting = ground.client().begin_get("/app/hello/ann");
    check_new_instance(&ground, &old, waiting);
}

#[test]
fn a_start_waits_for_what_a_foreground_delete_at_the_api_stops() {
    let ground = Ground::by_hand();
    let old = start(&ground);
    delete_at_api(&ground, "Foreground");
    let waiting = begin_when_stopping(&ground);
    check_new_instance(&ground, &old, waiting);
}

/// kubectl's default: the Job is gone at once, its pod goes later.
#[test]
fn a_start_after_a_background_delete_never_gets_the_old_pod() {
    let ground = Ground::by_hand();
    let old = start(&ground);
    delete_at_api(&ground, "Background");
    let waiting = begin_when_gone(&ground);
    ground.make_ready("hello-ann");
    assert_ne!(address(waiting), old.ip);
    let pod = ground.kube.get(Resource::Pods, NAMESPACE, &old.pod);
    let pod = pod.expect("the old pod is still on its way out");
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
}

/// The garbage collector has not come by: the old pod is Ready and not being deleted.
#[test]
fn a_pod_whose_job_is_gone_does_not_count() {
    let ground = Ground::by_hand();
    let old = start(&ground);
    ground.kube.set_auto(false);
    delete_at_api(&ground, "Background");
    let waiting = begin_when_gone(&ground);
    eventually("the new Job is made", || {
        let job = ground.job("hello-ann")?;
        (job["metadata"]["uid"] != old.job_uid.as_str()).then_some(())
    });
    let pod = ground.kube.get(Resource::Pods, NAMESPACE, &old.pod);
    let pod = pod.expect("the old pod is still there");
    assert!(pod["metadata"]["deletionTimestamp"].is_null());
    let list = ground.get("/app/hello").expect(200);
    assert_eq!(list[0]["ip"], json!(null), "{list}");
    assert!(!waiting.is_answered());
    ground.kube.set_auto(true);
    eventually("the new pod is there", || {
        let pod = ground.kube.pod_of(NAMESPACE, "hello-ann")?;
        let new = name_of(&pod) != old.pod;
        (new && ground
            .kube
            .move_pod(NAMESPACE, &name_of(&pod), &PodMove::Ready(true)))
        .then_some(())
    });
    assert_ne!(address(waiting), old.ip);
}

#[test]
fn a_start_that_waits_for_the_old_one_to_go_is_202_stopping() {
    let ground = Ground::by_hand();
    start(&ground);
    ground.delete("/app/hello/ann").expect(200);
    let told = ground.get_at_once("/app/hello/ann").expect(202);
    assert_eq!(told["status"], "node_not_ready");
    assert_eq!(told["phase"], "stopping");
}

#[test]
fn an_instance_whose_type_is_gone_can_be_stopped() {
    let ground = Ground::new();
    ground.start_instance("/app/hello/ann");
    ground
        .kube
        .delete(Resource::ConfigMaps, NAMESPACE, "templates", "Background")
        .expect("the ConfigMap is deleted");
    eventually("the type is gone", || {
        (ground.get("/app").text == "[]").then_some(())
    });
    ground.delete("/app/hello/ann").expect(200);
    eventually("the Job is gone", || ground.jobs().is_empty().then_some(()));
}

struct Old {
    ip: String,
    pod: String,
    job_uid: String,
}

/// Starts `hello/ann` by hand.
#[track_caller]
fn start(ground: &Ground) -> Old {
    let waiting = ground.client().begin_get("/app/hello/ann");
    ground.make_ready("hello-ann");
    let job = ground.wait_job("hello-ann");
    Old {
        ip: address(waiting),
        pod: ground.wait_pod("hello-ann"),
        job_uid: job["metadata"]["uid"].as_str().expect("a UID").to_owned(),
    }
}

#[track_caller]
fn address(waiting: Pending) -> String {
    let answer = waiting.finish().expect(200);
    answer["ip"].as_str().expect("an address").to_owned()
}

#[track_caller]
fn delete_at_api(ground: &Ground, propagation: &str) {
    let deleted = ground
        .kube
        .delete(Resource::Jobs, NAMESPACE, "hello-ann", propagation);
    deleted.expect("the Job is deleted");
}

/// Asks as soon as this replica knows that the Job is gone. Who asks while it knows only that the pod
/// leaves waits for that very Job, and hears that it was stopped.
#[track_caller]
fn begin_when_gone(ground: &Ground) -> Pending {
    eventually("the Job is gone", || {
        let list = ground.get("/app/hello").expect(200);
        list.as_array()?.is_empty().then_some(())
    });
    ground.client().begin_get("/app/hello/ann")
}

/// As [`begin_when_gone`], where the Job goes last.
#[track_caller]
fn begin_when_stopping(ground: &Ground) -> Pending {
    eventually("the Job is on its way out", || {
        let told = ground.get_at_once("/app/hello/ann");
        (told.status == 202 && told.expect(202)["phase"] == "stopping").then_some(())
    });
    ground.client().begin_get("/app/hello/ann")
}

/// The waiting request is answered only after the old pod has gone, with the new one's address.
#[track_caller]
fn check_new_instance(ground: &Ground, old: &Old, waiting: Pending) {
    see_phase(ground, "stopping");
    assert!(!waiting.is_answered());
    let pod = ground.kube.get(Resource::Pods, NAMESPACE, &old.pod);
    assert!(pod.is_some(), "the old pod is still on its way out");
    // The new pod is to come up by itself.
    ground.kube.set_fate("hello-ann", Fate::default());
    ground
        .kube
        .move_pod(NAMESPACE, &old.pod, &PodMove::Terminate);
    assert_ne!(address(waiting), old.ip);
    let job = ground.wait_job("hello-ann");
    assert_ne!(job["metadata"]["uid"], old.job_uid.as_str());
}

/// Waits until the replica knows the Job; who asked before that waits for this very Job.
#[track_caller]
fn see_starting(ground: &Ground) {
    see_phase(ground, "scheduling");
}

#[track_caller]
fn see_phase(ground: &Ground, phase: &str) {
    eventually(phase, || {
        let told = ground.get_at_once("/app/hello/ann");
        (told.expect(202)["phase"] == phase).then_some(())
    });
}

#[test]
fn delete_can_wait_until_the_job_is_gone() {
    let ground = Ground::by_hand();
    start(&ground);
    let headers = [("Prefer", "wait=20")];
    let waiting = ground
        .client()
        .begin("DELETE", "/app/hello/ann", &headers, "");
    // Another that does not wait is answered when the deletion has begun.
    ground.delete("/app/hello/ann").expect(200);
    assert_eq!(ground.jobs(), ["hello-ann"]);
    eventually("its pod is to go", || {
        let pod = ground.kube.pod_of(NAMESPACE, "hello-ann")?;
        (!pod["metadata"]["deletionTimestamp"].is_null()).then_some(())
    });
    assert!(!waiting.is_answered());
    // From now on pods go by themselves, long before this one is overdue.
    ground.kube.set_fate("hello-ann", Fate::default());
    waiting.finish().expect_text(200, r#"{"status":"Success"}"#);
    assert!(ground.jobs().is_empty());
}

#[test]
fn delete_says_so_when_the_job_is_not_gone_in_time() {
    let ground = Ground::by_hand();
    start(&ground);
    let headers = [("Prefer", "wait=1")];
    let waiting = ground
        .client()
        .begin("DELETE", "/app/hello/ann", &headers, "");
    let answer = waiting.finish().expect(202);
    assert_eq!(answer["status"], "Stopping");
    assert_eq!(answer["phase"], "stopping");
    assert!(answer["since"].is_string(), "{answer}");
}

#[test]
fn a_pod_that_does_not_go_is_removed_30_s_after_its_grace() {
    let ground = Ground::by_hand();
    start(&ground);
    ground.delete("/app/hello/ann").expect(200);
    let headers = [("Prefer", "wait=300")];
    let waiting = ground.client().begin("GET", "/app/hello/ann", &headers, "");
    ground.advance(Duration::from_secs(40));
    assert_eq!(ground.kube.count("delete", "pods"), 0);
    // The grace of a pod is 30 s where its template says nothing.
    ground.advance(Duration::from_secs(21));
    eventually("the pod is removed", || {
        (ground.kube.count("delete", "pods") == 1).then_some(())
    });
    ground.make_ready("hello-ann");
    waiting.finish().expect(200);
    let metrics = ground.get("/metrics").text;
    let line = r#"config_controller_stops_total{cause="forced",type="hello"} 1"#;
    assert!(metrics.contains(line), "{metrics}");
}
