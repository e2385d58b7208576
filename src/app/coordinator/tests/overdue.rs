//! A pod that is not removed because its node is lost.

use super::{NOTHING, check_replaced, ready, starting, stuck};
use crate::app::api_call::CallOutcome;
use crate::app::coordinator::Limits;
use crate::app::fixture::{Fixture, ROOMY, key, lost_pod, merge, not_found, unavailable};
use crate::kube::error::Verb;
use serde_json::json;

/// A fixture without callers, in which the Job `u1` is being deleted and its pod's grace ends now; the
/// node is lost.
fn leaving() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.world.deleting("u1");
    fixture.world.pod_lost("u1");
    assert_eq!(fixture.changed(), NOTHING);
    fixture
}

#[test]
fn an_overdue_pod_is_force_deleted_without_waiters() {
    let mut fixture = leaving();
    assert_eq!(fixture.pass(29.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call remove p-u1"]);
    let wakes = fixture.wakes;
    assert_eq!(fixture.pass(60.0), NOTHING);
    assert_eq!(
        fixture.wakes, wakes,
        "nothing is due while the call is in flight"
    );
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    assert_eq!(fixture.done(), NOTHING);
    fixture.check_idle();
}

#[test]
fn a_pod_that_ends_in_time_is_not_force_deleted() {
    let mut fixture = leaving();
    fixture.pass(29.0);
    fixture.world.pod_gone("u1");
    fixture.changed();
    assert_eq!(fixture.pass(60.0), NOTHING);
    fixture.check_idle();
}

#[test]
fn the_job_of_an_overdue_pod_is_deleted_first() {
    let mut fixture = stuck();
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["call remove p-u1"]);
}

/// The watch may show the deletion before its response arrives.
#[test]
fn the_deletion_of_a_stuck_job_is_reported_as_ours() {
    let mut fixture = stuck();
    fixture.reported();
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.reported(), NOTHING);
    assert_eq!(fixture.done(), ["call remove p-u1"]);
    let stopping = "u1 stopping, stuck; creating 30 s; start stopped";
    assert_eq!(fixture.reported(), [stopping]);
}

#[test]
fn a_pod_kept_by_a_finalizer_is_retried_after_a_delay() {
    let mut fixture = leaving();
    assert_eq!(fixture.pass(30.0), ["call remove p-u1"]);
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.changed(), NOTHING);
    // It is reported only once.
    assert_eq!(fixture.pass(5.0), ["call remove p-u1"]);
    assert_eq!(fixture.fails(unavailable(Verb::Delete)), NOTHING);
    assert_eq!(fixture.pass(4.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call remove p-u1"]);
}

#[test]
fn a_force_deletion_that_fails_first_is_reported_once_it_succeeds() {
    let mut fixture = leaving();
    assert_eq!(fixture.pass(30.0), ["call remove p-u1"]);
    assert_eq!(fixture.fails(unavailable(Verb::Delete)), NOTHING);
    assert_eq!(fixture.pass(5.0), ["call remove p-u1"]);
}

#[test]
fn a_pod_removed_by_another_replica_is_accepted() {
    let mut fixture = leaving();
    fixture.pass(30.0);
    assert_eq!(fixture.fails(not_found(Verb::Delete)), ["call read"]);
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    assert_eq!(fixture.done(), NOTHING);
    fixture.check_idle();
}

/// Another replica creates and deletes the Job while the call is in flight, and its node is lost.
#[test]
fn a_creation_that_nobody_needs_any_longer_is_not_retried_beside_an_overdue_pod() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get(1), ["call create for ann"]);
    assert_eq!(fixture.hang_up(1), NOTHING);
    fixture.world.deleting("u1");
    fixture.world.pod_lost("u1");
    fixture.changed();
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.pass(60.0), NOTHING);
    assert_eq!(fixture.fails(unavailable(Verb::Create)), NOTHING);
    let wakes = fixture.wakes;
    assert_eq!(fixture.pass(120.0), NOTHING);
    let wakes = fixture.wakes - wakes;
    assert!(wakes < 20, "it was woken {wakes} times");
    assert_eq!(fixture.coordinator.check(), Ok(()));
}

#[test]
fn callers_wait_for_an_overdue_pod_and_then_start() {
    let mut fixture = leaving();
    fixture.pass(25.0);
    assert_eq!(fixture.get(1), NOTHING);
    assert_eq!(fixture.pass(5.0), ["call remove p-u1"]);
    fixture.world.pod_gone("u1");
    check_replaced(&mut fixture);
}

/// This machine's wall clock must not matter: it may be minutes ahead of the API server's.
#[test]
fn a_wall_clock_that_jumps_force_deletes_nothing() {
    let mut fixture = ready();
    let asked_an_hour_ago = json!({"metadata": {
        "deletionTimestamp": "2026-05-01T09:00:00Z", "deletionGracePeriodSeconds": 60,
    }});
    fixture.world.deleting("u1");
    let mut pod = lost_pod();
    merge(&mut pod, &asked_an_hour_ago);
    fixture.world.pod("u1", pod);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(89.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call remove p-u1"]);
}

/// The next pod of a Job with retries has its own grace period.
#[test]
fn each_pod_has_its_own_grace() {
    let mut fixture = starting();
    fixture.hang_up(1);
    fixture.world.pod_lost("u1");
    fixture.changed();
    fixture.pass(20.0);
    fixture.world.pod_gone("u1");
    let mut second = lost_pod();
    second["metadata"] = json!({
        "name": "p-2", "uid": "p-2", "deletionTimestamp": fixture.world.stamp(),
    });
    fixture.world.pod("u1", second);
    fixture.changed();
    assert_eq!(fixture.pass(29.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call force u1"]);
}

#[test]
fn an_overdue_pod_is_force_deleted_once_there_is_capacity() {
    let mut fixture = Fixture::with_limits(Limits {
        parked_max: 1,
        ..ROOMY
    });
    fixture.world.deleting("u1");
    fixture.world.pod_lost("u1");
    fixture.changed();
    let n2 = key("scim", "n2");
    assert_eq!(fixture.get_of(1, &n2, "", 300), ["call create for ann"]);
    assert_eq!(fixture.pass(31.0), NOTHING);
    assert_eq!(fixture.wakes, 3, "it is looked at every ten seconds");
    fixture.hang_up(1);
    let created = CallOutcome::Created("u2".into(), "1".into());
    assert_eq!(fixture.ends_of(&n2, created), NOTHING);
    assert_eq!(fixture.pass(3.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call remove p-u1"]);
}

/// The kubelet may hang, or the app may need long: its containers may run.
#[test]
fn without_evidence_that_the_node_is_lost_nothing_is_force_deleted() {
    let mut fixture = Fixture::new();
    fixture.world.deleting("u1");
    let unmet_gate = json!([
        {"type": "ContainersReady", "status": "True"},
        {"type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady"},
    ]);
    let by_a_taint = json!([
        {"type": "ContainersReady", "status": "True"}, {"type": "Ready", "status": "True"},
        {"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager"},
    ]);
    let stamp = fixture.world.stamp();
    for conditions in [json!([]), unmet_gate, by_a_taint] {
        let pod = json!({
            "metadata": {"deletionTimestamp": stamp},
            "spec": {"nodeName": "node-1"}, "status": {"conditions": conditions},
        });
        fixture.world.pod("u1", pod);
        assert_eq!(fixture.changed(), NOTHING);
        assert_eq!(fixture.pass(600.0), NOTHING);
    }
}

#[test]
fn the_mark_of_a_lost_node_must_last() {
    let mut fixture = leaving();
    assert_eq!(fixture.pass(29.0), NOTHING);
    fixture.world.pod_leaving("u1");
    assert_eq!(fixture.changed(), NOTHING, "the node is back");
    assert_eq!(fixture.pass(60.0), NOTHING);
    fixture.world.pod_lost("u1");
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(29.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call remove p-u1"]);
}

/// Kubernetes marks only pods that were ready.
#[test]
fn a_mark_on_another_pod_of_the_node_counts() {
    let mut fixture = Fixture::new();
    fixture.world.deleting("u1");
    let unready = json!({
        "metadata": {"deletionTimestamp": fixture.world.stamp()},
        "spec": {"nodeName": "node-1"},
    });
    fixture.world.pod("u1", unready);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(60.0), NOTHING);
    let other = key("scim", "n2");
    fixture.world.job_of(&other, "u2", json!({}));
    fixture.world.pod("u2", lost_pod());
    assert_eq!(fixture.pass(29.9), NOTHING);
    assert_eq!(fixture.pass(10.1), ["call remove p-u1"]);
}

#[test]
fn nothing_is_force_deleted_where_that_is_off() {
    let mut fixture = Fixture::with_limits(Limits {
        force_stop: false,
        ..ROOMY
    });
    fixture.world.deleting("u1");
    fixture.world.pod_lost("u1");
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(600.0), NOTHING);
    assert_eq!(fixture.wakes, 0);
}

#[test]
fn no_pod_is_force_deleted_during_shutdown() {
    let mut fixture = leaving();
    fixture.drain();
    assert_eq!(fixture.pass(60.0), NOTHING);
    fixture.check_idle();
}
