//! What a request may bring about: nothing, a start, or a start that is stopped again; and how
//! long a stop is waited for.

use super::{NOTHING, failed_after, starting};
use crate::app::Intent;
use crate::app::api_call::CallOutcome;
use crate::app::fixture::{Fixture, exists, invalid, key, unavailable};
use crate::kube::error::Verb;
use serde_json::json;
use std::sync::Arc;

#[test]
fn who_only_looks_starts_nothing() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get_meaning(1, Intent::Find), ["1: NoInstance"]);
    fixture.check_idle();
}

#[test]
fn who_only_looks_waits_for_the_start_of_another() {
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
fn who_only_looks_hears_of_a_stop_that_there_is_none() {
    let mut fixture = starting();
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    assert_eq!(fixture.get_meaning(2, Intent::Find), ["2: NoInstance"]);
}

#[test]
fn who_only_looks_replaces_nothing() {
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
fn a_start_that_is_late_is_stopped_where_its_caller_wants_that() {
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
fn a_start_that_was_given_up_and_cannot_be_stopped_is_answered_too() {
    let mut fixture = Fixture::new();
    fixture.get_meaning(1, Intent::StartOrStop(Arc::default()));
    fixture.world.job("u1", json!({}));
    fixture.done();
    assert_eq!(fixture.pass(10.0), ["call delete u1 for ann"]);
    assert_eq!(fixture.fails(unavailable(Verb::Delete)), NOTHING);
    assert_eq!(fixture.pass(0.2), ["call delete u1 for ann"]);
    // As long as a call is under way, it says whether the instance was stopped.
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
    // The cache shows it, and time is over before the coordinator has heard of it.
    assert_eq!(fixture.pass(10.0), ["1: ready 10.0.0.1"]);
    fixture.check_idle();
}

#[test]
fn a_stop_waits_until_the_job_is_gone_where_its_caller_wants_that() {
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
fn a_stop_that_is_not_over_in_time_says_so() {
    let mut fixture = starting();
    fixture.stop_and_wait(2, Some(30));
    fixture.world.deleting("u1");
    fixture.done();
    assert_eq!(fixture.pass(29.9), NOTHING);
    assert_eq!(fixture.pass(0.1), ["2: node_not_ready Stopping"]);
    fixture.check_idle();
}

#[test]
fn a_wish_to_wait_does_not_cut_the_stop_itself_short() {
    let mut fixture = starting();
    fixture.stop_and_wait(2, Some(1));
    assert_eq!(fixture.pass(2.0), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: Stopped", "2: node_not_ready Stopping"]);
}

#[test]
fn the_next_instance_of_the_name_is_none_of_its_business() {
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
fn waiting_for_the_end_of_what_is_not_there() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.stop_and_wait(1, Some(30)), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: NoInstance"]);
}

/// The POST of another caller has just ended in AlreadyExists, or in an error that is retried:
/// whether there is an instance is not known yet.
#[test]
fn a_find_waits_for_a_start_whose_call_has_just_failed() {
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

/// Once no start is retried any more, there is nothing to wait for.
#[test]
fn a_find_does_not_outwait_the_start_that_it_waits_for() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(unavailable(Verb::Create));
    fixture.get_meaning(2, Intent::Find);
    assert_eq!(fixture.hang_up(1), ["2: NoInstance"]);
    fixture.check_idle();
    // Nor one whose values do not fit.
    let mut fixture = Fixture::new();
    let zoned = key("zoned", "n1");
    fixture.get_of(1, &zoned, "zone=a", 10);
    fixture.find_of(2, &zoned);
    let told = fixture.ends_of(&zoned, CallOutcome::Failed(invalid(Verb::Create)));
    assert_eq!(told, ["1: TemplateInvalid", "2: NoInstance"]);
}
