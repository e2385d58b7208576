//! How long changes wait, for what, and what they get at their deadline.

use super::{NOTHING, ready};
use crate::app::api_call::CallOutcome;
use crate::app::fixture::{Fixture, conflict, not_found, uid, unavailable};
use crate::kube::error::Verb;
use serde_json::json;
use std::time::Duration;

/// Its own deadline begins with the first pod, but not after the caller's wait is over.
#[test]
fn a_label_that_can_be_made_after_its_wait_gets_no_deadline_of_its_own() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.stop(1), ["call delete u1 for bob"]);
    let body = json!({"username": "bob"});
    assert_eq!(fixture.label_and_wait(2, &body, 5), NOTHING);
    assert_eq!(fixture.fails(conflict(Verb::Delete)), ["call read"]);
    // The read decides for both.
    assert_eq!(fixture.pass(20.0), NOTHING);
    fixture.world.pod("u1", json!({}));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.done(), ["call delete u1 for bob", "2: Unavailable"]);
}

/// A label waits for a pod as long as its caller says, but not less than what decides whether there
/// is one: a start or a read of the Job.
#[test]
fn a_label_without_a_wait_is_answered_after_the_start_in_flight() {
    let mut fixture = Fixture::new();
    let body = json!({"username": "bob"});
    assert_eq!(fixture.get(1), ["call create for ann"]);
    assert_eq!(fixture.label_and_wait(2, &body, 0), NOTHING);
    assert_eq!(fixture.pass(1.0), NOTHING);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), ["2: NoInstance"]);
}

/// What waits for the call of another is not lost for lack of a wait of its own.
#[test]
fn labels_without_a_wait_are_made_one_after_the_other() {
    let mut fixture = ready();
    let body = json!({"username": "bob"});
    assert_eq!(fixture.label_and_wait(1, &body, 0), ["call label p-u1"]);
    assert_eq!(fixture.pass(1.0), NOTHING);
    let now = fixture.world.instant();
    fixture.world.pass(Duration::from_millis(1));
    // The coordinator sees a request a moment after its wait has begun.
    assert_eq!(fixture.label_until(2, &body, now), NOTHING);
    assert_eq!(fixture.pass(5.0), NOTHING);
    assert_eq!(fixture.done(), ["1: done", "call label p-u1"]);
    assert_eq!(fixture.fails(unavailable(Verb::Patch)), NOTHING);
    assert_eq!(fixture.pass(1.0), ["call label p-u1"]);
    assert_eq!(fixture.done(), ["2: done"]);
    fixture.check_idle();
}

/// A read may show a Job that the cache knows to be gone, from an API server that lags behind.
#[test]
fn reads_that_the_cache_does_not_accept_are_paused() {
    let found = || CallOutcome::Found(uid("u1"));
    for stops in [false, true] {
        let mut fixture = Fixture::new();
        let called = if stops {
            fixture.stop(1)
        } else {
            fixture.label(1)
        };
        assert_eq!(called, ["call read"]);
        for _ in 0..3 {
            assert_eq!(fixture.ends(found()), ["call read"]);
        }
        assert_eq!(fixture.ends(found()), NOTHING);
        assert_eq!(fixture.pass(0.1), ["call read"]);
        assert_eq!(fixture.ends(found()), NOTHING);
        assert_eq!(fixture.pass(0.2), ["call read"]);
        assert_eq!(fixture.pass(9.7), NOTHING);
        assert_eq!(fixture.ends(found()), ["1: Unavailable"]);
        fixture.check_idle();
    }
}

/// A restored etcd has an older Job of that name than the cache, which still shows the later one.
#[test]
fn a_deletion_waits_until_the_cache_shows_the_job_that_is_read() {
    let mut fixture = ready();
    assert_eq!(fixture.stop(1), ["call delete u1 for bob"]);
    assert_eq!(fixture.fails(conflict(Verb::Delete)), ["call read"]);
    let found = || CallOutcome::Found(uid("u0"));
    for _ in 0..2 {
        assert_eq!(fixture.ends(found()), ["call read"]);
    }
    assert_eq!(fixture.ends(found()), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call read"]);
    fixture.world.job("u0", json!({}));
    assert_eq!(fixture.ends(found()), ["call delete u0 for bob"]);
    fixture.world.deleting("u0");
    assert_eq!(fixture.done(), ["1: done"]);
    fixture.check_idle();
}

/// A failing change is retried for ten seconds, regardless of the wait of its request.
#[test]
fn a_change_has_its_own_deadline() {
    let mut fixture = ready();
    let body = json!({"username": "bob"});
    assert_eq!(fixture.label_and_wait(1, &body, 0), ["call label p-u1"]);
    assert_eq!(fixture.fails(not_found(Verb::Patch)), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call label p-u1"]);
    assert_eq!(fixture.fails(not_found(Verb::Patch)), NOTHING);
    fixture.world.pod_gone("u1");
    fixture.changed();
    assert_eq!(fixture.pass(9.8), NOTHING);
    assert_eq!(fixture.pass(0.1), ["1: NoInstance"]);
    // It runs as well while only Kubernetes knows whether there is an instance.
    let mut fixture = Fixture::new();
    assert_eq!(fixture.label_and_wait(1, &body, 0), ["call read"]);
    assert_eq!(fixture.fails(unavailable(Verb::List)), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: NoInstance"]);
    // Without a pod it waits for one up to its deadline.
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.label_and_wait(1, &body, 0), ["1: NoInstance"]);
    assert_eq!(fixture.label_and_wait(3, &body, 5), NOTHING);
    assert_eq!(fixture.pass(4.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["3: NoInstance"]);
    assert_eq!(fixture.label_and_wait(2, &body, 30), NOTHING);
    assert_eq!(fixture.pass(29.0), NOTHING);
    fixture.world.pod("u1", json!({}));
    assert_eq!(fixture.changed(), ["call label p-u1"]);
    assert_eq!(fixture.fails(not_found(Verb::Patch)), NOTHING);
    assert_eq!(fixture.pass(9.9).last().unwrap(), "call label p-u1");
    assert_eq!(fixture.fails(not_found(Verb::Patch)), NOTHING);
    assert_eq!(fixture.pass(0.1), ["2: Unavailable"]);
}

/// A completed change is never reported as failed, even if its request has a short wait.
#[test]
fn a_change_is_answered_after_its_call_in_flight() {
    let mut fixture = ready();
    let body = json!({"username": "bob"});
    assert_eq!(fixture.label_and_wait(1, &body, 0), ["call label p-u1"]);
    assert_eq!(fixture.pass(60.0), NOTHING);
    assert_eq!(fixture.done(), ["1: done"]);
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    assert_eq!(fixture.pass(60.0), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["2: done"]);
    fixture.check_idle();
    // The read that tells whether there is anything to change is such a call as well.
    let mut fixture = Fixture::new();
    assert_eq!(fixture.stop(1), ["call read"]);
    assert_eq!(fixture.label(2), NOTHING);
    assert_eq!(fixture.pass(9.0), NOTHING);
    assert_eq!(fixture.stop(3), NOTHING);
    assert_eq!(fixture.pass(10.0), ["2: Unavailable", "3: Unavailable"]);
    assert_eq!(fixture.pass(60.0), NOTHING);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: NoInstance"]);
    fixture.check_idle();
}
