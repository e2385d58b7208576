//! A pod that is not removed because its node is lost.

use super::{NOTHING, check_replaced, ready, starting, stuck};
use crate::app::api_call::CallOutcome;
use crate::app::coordinator::Limits;
use crate::app::fixture::{Fixture, ROOMY, key, not_found, unavailable};
use crate::kube::error::Verb;
use serde_json::json;

/// A fixture without callers, in which the Job `u1` is being deleted and its pod's grace ends now.
fn leaving() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.world.deleting("u1");
    fixture.world.pod_leaving("u1");
    assert_eq!(fixture.changed(), NOTHING);
    fixture
}

#[test]
fn an_overdue_pod_is_force_deleted_without_waiters() {
    let mut fixture = leaving();
    assert_eq!(fixture.pass(29.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call remove p-u1"]);
    assert_eq!(fixture.pass(60.0), NOTHING);
    assert_eq!(
        fixture.wakes, 1,
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
    fixture.world.pod("u1", asked_an_hour_ago);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(89.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call remove p-u1"]);
}

/// The next pod of a Job with retries has its own grace period.
#[test]
fn each_pod_has_its_own_grace() {
    let mut fixture = starting();
    fixture.hang_up(1);
    fixture.world.pod_leaving("u1");
    fixture.changed();
    fixture.pass(20.0);
    fixture.world.pod_gone("u1");
    let second = json!({"metadata": {
        "name": "p-2", "uid": "p-2", "deletionTimestamp": fixture.world.stamp(),
    }});
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
    fixture.world.pod_leaving("u1");
    fixture.changed();
    let n2 = key("scim", "n2");
    assert_eq!(fixture.get_of(1, &n2, "", 300), ["call create for ann"]);
    assert_eq!(fixture.pass(31.0), NOTHING);
    assert_eq!(fixture.wakes, 1);
    fixture.hang_up(1);
    let created = CallOutcome::Created("u2".into());
    assert_eq!(fixture.ends_of(&n2, created), NOTHING);
    assert_eq!(fixture.pass(3.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call remove p-u1"]);
}

#[test]
fn no_pod_is_force_deleted_during_shutdown() {
    let mut fixture = leaving();
    fixture.drain();
    assert_eq!(fixture.pass(60.0), NOTHING);
    fixture.check_idle();
}
