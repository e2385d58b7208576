//! Pods that outlive their Job: no Job is created beside them.

use super::NOTHING;
use crate::app::api_call::CallOutcome;
use crate::app::fixture::{Fixture, lost_pod, merge, n1, not_found, ready_pod};
use crate::kube::error::Verb;
use serde_json::{Value, json};

/// The Job `u0` is gone, and its pod `p-u0` runs on; `patch` changes the pod.
fn outlived(patch: &Value) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.world.job("u0", json!({}));
    show(&mut fixture, patch);
    fixture.world.job_gone("u0");
    assert_eq!(fixture.changed(), NOTHING);
    fixture.reported();
    fixture
}

fn show(fixture: &mut Fixture, patch: &Value) {
    let mut pod = ready_pod("10.0.0.1");
    merge(&mut pod, patch);
    fixture.world.pod("u0", pod);
}

fn leaving(fixture: &Fixture) -> Value {
    json!({"metadata": {"deletionTimestamp": fixture.world.stamp(), "deletionGracePeriodSeconds": 5}})
}

#[test]
fn a_start_waits_until_the_pod_of_a_job_that_is_gone_has_ended() {
    let mut fixture = outlived(&json!({}));
    assert_eq!(fixture.get(1), ["call read"], "the watch of Jobs may lag");
    assert_eq!(fixture.ends(CallOutcome::Absent), ["call delete pod p-u0"]);
    assert_eq!(fixture.reported(), [""; 0]);
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.reported(), ["u0 deleted orphan p-u0"]);
    assert_eq!(fixture.changed(), NOTHING, "one call is enough");
    let patch = leaving(&fixture);
    show(&mut fixture, &patch);
    assert_eq!(fixture.changed(), NOTHING);
    // The object may stay with a finalizer.
    let mut ended = patch;
    ended["status"] = json!({"phase": "Succeeded"});
    show(&mut fixture, &ended);
    assert_eq!(fixture.changed(), ["call create for ann"]);
}

#[test]
fn a_pod_that_is_gone_at_last_is_no_obstacle() {
    let mut fixture = outlived(&json!({}));
    fixture.get(1);
    fixture.ends(CallOutcome::Absent);
    fixture.world.pod_gone("u0");
    let called = fixture.fails(not_found(Verb::Delete));
    assert_eq!(called, ["call create for ann"]);
    // Somebody else has deleted it.
    assert_eq!(fixture.reported(), ["- requested"]);
    // That is no failure of Kubernetes.
    let answers = fixture.get_of(2, &n1(), "", 0);
    assert_eq!(answers, ["2: node_not_ready Admitting"]);
}

#[test]
fn a_pod_that_kubernetes_no_longer_has_is_deleted_once() {
    let mut fixture = outlived(&json!({}));
    fixture.get_of(1, &n1(), "", 3);
    fixture.ends(CallOutcome::Absent);
    assert_eq!(fixture.fails(not_found(Verb::Delete)), NOTHING);
    assert_eq!(fixture.pass(2.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["1: node_not_ready Stopping"]);
}

#[test]
fn until_then_callers_are_told_that_the_name_is_being_stopped() {
    let mut fixture = outlived(&json!({}));
    fixture.get(1);
    fixture.ends(CallOutcome::Absent);
    fixture.done();
    assert_eq!(fixture.pass(300.0), ["1: node_not_ready Stopping"]);
}

/// The watch of pods may be ahead of that of Jobs: the pod of a Job that another replica has just
/// created must not be deleted.
#[test]
fn a_pod_whose_job_the_cache_does_not_show_yet_is_left_alone() {
    let mut fixture = outlived(&json!({}));
    assert_eq!(fixture.get(1), ["call read"]);
    fixture.world.job("u0", json!({}));
    let answers = fixture.ends(CallOutcome::Found("u0".into()));
    assert_eq!(answers, ["1: ready 10.0.0.1"]);
}

/// Only a read that began after the pod was seen counts.
#[test]
fn a_pod_that_appears_during_the_read_needs_another_one() {
    let mut fixture = outlived(&json!({}));
    assert_eq!(fixture.get(1), ["call read"]);
    let second = json!({"metadata": {"name": "p-2", "uid": "p-2"}});
    show(&mut fixture, &second);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["call delete pod p-2"]);
    assert_eq!(fixture.done(), ["call delete pod p-u0"]);
}

/// `kubectl delete job --cascade=orphan` removes the reference to the Job.
#[test]
fn a_pod_without_a_controller_counts() {
    let mut fixture = outlived(&json!({"metadata": {"ownerReferences": null}}));
    assert_eq!(fixture.get(1), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["call delete pod p-u0"]);
}

#[test]
fn pods_of_other_controllers_and_pods_without_the_label_are_never_touched() {
    let owner = json!({"ownerReferences": [{"uid": "rs", "name": "other", "controller": true}]});
    let bare = json!({"labels": null, "ownerReferences": null});
    for metadata in [owner, bare] {
        let mut fixture = outlived(&json!({ "metadata": metadata }));
        assert_eq!(fixture.get(1), ["call create for ann"]);
    }
}

#[test]
fn a_pod_that_has_ended_is_no_obstacle() {
    let mut fixture = outlived(&json!({"status": {"phase": "Failed"}}));
    assert_eq!(fixture.get(1), ["call create for ann"]);
}

#[test]
fn nothing_is_deleted_for_requests_that_start_nothing() {
    let mut fixture = outlived(&json!({}));
    assert_eq!(fixture.find_of(1, &n1()), ["1: NoInstance"]);
    assert_eq!(fixture.stop(2), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["2: NoInstance"]);
    fixture.check_idle();
}

#[test]
fn on_a_lost_node_it_is_removed_by_force() {
    let mut fixture = outlived(&json!({}));
    fixture.get_of(1, &n1(), "", 300);
    fixture.ends(CallOutcome::Absent);
    fixture.done();
    let mut lost = lost_pod();
    merge(&mut lost, &leaving(&fixture));
    show(&mut fixture, &lost);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(34.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call remove p-u0"]);
}
