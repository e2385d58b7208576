//! What a request may cause: nothing, a start, or a start that is stopped again; and how long a
//! request waits for a stop.

use super::{NOTHING, failed_after, starting};
use crate::app::Intent;
use crate::app::api_call::CallOutcome;
use crate::app::fixture::{Fixture, exists, invalid, key, unavailable};
use crate::kube::error::Verb;
use serde_json::json;
use std::sync::Arc;

#[test]
fn find_starts_nothing() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get_meaning(1, Intent::Find), ["1: NoInstance"]);
    fixture.check_idle();
}

#[test]
fn find_waits_for_the_start_of_another_caller() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.get_meaning(2, Intent::Find), NOTHING);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.get_meaning(3, Intent::Find), NOTHING);
    fixture.world.ready("u1", "10.0.0.1");
    let ready = |n: u32| format!("{n}: ready 10.0.0.1");
    assert_eq!(fixture.changed(), [1, 2, 3].map(ready));
}

#[test]
fn find_returns_no_instance_after_a_stop() {
    let mut fixture = starting();
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    assert_eq!(fixture.get_meaning(2, Intent::Find), ["2: NoInstance"]);
}

#[test]
fn find_replaces_nothing() {
    let mut fixture = Fixture::new();
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.pass(60.0);
    assert_eq!(fixture.get_meaning(1, Intent::Find), ["1: NoInstance"]);
    let mut fixture = failed_after(0.0);
    fixture.pass(60.0);
    assert_eq!(fixture.get_meaning(1, Intent::Find), NOTHING);
    assert_eq!(fixture.pass(1.0), ["1: app_error BackoffLimitExceeded"]);
    assert_eq!(fixture.get(2), ["call replace u1"]);
}

#[test]
fn a_late_start_is_stopped_if_requested() {
    let mut fixture = Fixture::new();
    fixture.get_meaning(1, Intent::StartOrStop(Arc::default()));
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.pass(9.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call delete u1 for ann"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: done"]);
    fixture.check_idle();
}

#[test]
fn a_late_start_that_cannot_be_stopped_is_answered() {
    let mut fixture = Fixture::new();
    fixture.get_meaning(1, Intent::StartOrStop(Arc::default()));
    fixture.world.job("u1", json!({}));
    fixture.done();
    assert_eq!(fixture.pass(10.0), ["call delete u1 for ann"]);
    assert_eq!(fixture.fails(unavailable(Verb::Delete)), NOTHING);
    assert_eq!(fixture.pass(0.2), ["call delete u1 for ann"]);
    // The result of the call in flight decides whether the instance was stopped.
    assert_eq!(fixture.pass(9.8), NOTHING);
    assert_eq!(fixture.fails(unavailable(Verb::Delete)), ["1: Unavailable"]);
}

#[test]
fn an_instance_that_is_ready_in_time_is_not_stopped() {
    let mut fixture = Fixture::new();
    fixture.get_meaning(1, Intent::StartOrStop(Arc::default()));
    fixture.world.job("u1", json!({}));
    fixture.done();
    fixture.world.ready("u1", "10.0.0.1");
    // The cache shows it, and the deadline expires before the coordinator gets the change.
    assert_eq!(fixture.pass(10.0), ["1: ready 10.0.0.1"]);
    fixture.check_idle();
}

#[test]
fn a_stop_waits_until_the_job_is_gone_if_requested() {
    let mut fixture = starting();
    assert_eq!(
        fixture.stop_and_wait(2, Some(30)),
        ["call delete u1 for bob"]
    );
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: Stopped"]);
    assert_eq!(
        fixture.stop_and_wait(3, Some(60)),
        ["call delete u1 for bob"]
    );
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.stop(4), ["call delete u1 for bob"]);
    assert_eq!(fixture.done(), ["4: done"]);
    fixture.pass(20.0);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["2: done", "3: done"]);
    fixture.check_idle();
}

#[test]
fn a_stop_that_exceeds_its_wait_is_reported_as_progress() {
    let mut fixture = starting();
    fixture.stop_and_wait(2, Some(30));
    fixture.world.deleting("u1");
    fixture.done();
    assert_eq!(fixture.pass(29.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["2: node_not_ready Stopping"]);
    fixture.check_idle();
}

#[test]
fn a_short_wait_does_not_limit_the_stop() {
    let mut fixture = starting();
    fixture.stop_and_wait(2, Some(1));
    assert_eq!(fixture.pass(2.0), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: Stopped", "2: node_not_ready Stopping"]);
}

#[test]
fn a_stop_does_not_wait_for_the_next_instance() {
    let mut fixture = starting();
    fixture.stop_and_wait(2, Some(30));
    fixture.world.deleting("u1");
    fixture.done();
    fixture.get(3);
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.changed(), ["2: done"]);
    fixture.world.ready("u2", "10.0.0.2");
    assert_eq!(fixture.changed(), ["3: ready 10.0.0.2"]);
}

#[test]
fn waiting_for_the_end_of_a_missing_instance_fails() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.stop_and_wait(1, Some(30)), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: NoInstance"]);
}

/// The POST of another caller has just returned AlreadyExists, or an error that is retried. Whether
/// there is an instance is not known yet.
#[test]
fn a_find_waits_for_a_start_between_two_calls() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.fails(exists()), ["call read"]);
    assert_eq!(fixture.get_meaning(2, Intent::Find), NOTHING);
    fixture.world.job("u1", json!({}));
    fixture.done();
    fixture.world.ready("u1", "10.0.0.1");
    let ready = |n: u32| format!("{n}: ready 10.0.0.1");
    assert_eq!(fixture.changed(), [1, 2].map(ready));
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.fails(unavailable(Verb::Create)), NOTHING);
    assert_eq!(fixture.get_meaning(2, Intent::Find), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call create for ann"]);
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.done(), [1, 2].map(ready));
}

/// Without a start that is retried, there is nothing to wait for.
#[test]
fn a_find_ends_with_the_start_that_it_waits_for() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(unavailable(Verb::Create));
    fixture.get_meaning(2, Intent::Find);
    assert_eq!(fixture.hang_up(1), ["2: NoInstance"]);
    fixture.check_idle();
    // The same for a start with invalid values.
    let mut fixture = Fixture::new();
    let zoned = key("zoned", "n1");
    fixture.get_of(1, &zoned, "zone=a", 10);
    fixture.find_of(2, &zoned);
    let responses = fixture.ends_of(&zoned, CallOutcome::Failed(invalid(Verb::Create)));
    assert_eq!(responses, ["1: TemplateInvalid", "2: NoInstance"]);
}

/// Its caller has hung up, and the call that it has made may yet find or start an instance.
#[test]
fn a_find_waits_for_the_calls_of_an_abandoned_start() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.hang_up(1);
    assert_eq!(fixture.get_meaning(2, Intent::Find), NOTHING);
    assert_eq!(fixture.fails(exists()), ["call read"]);
    fixture.hang_up(2);
    assert_eq!(fixture.get_meaning(3, Intent::Find), NOTHING);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["3: NoInstance"]);
    fixture.check_idle();
}
