//! Admissions of Jobs that a cap holds for.

use super::NOTHING;
use crate::app::fixture::{Fixture, conflict, decode, invalid, key, n1, no_right, response_error};
use crate::kube::error::Verb;
use crate::kube::types::Uid;
use crate::kube::watch::StoreEvent;
use crate::store::Sink as _;
use serde_json::{Value, json};

const PREFIX: &str = "config-controller.semafor.ch/";

/// A Job that waits for its admission.
pub(super) fn undecided() -> Value {
    json!({
        "metadata": {"annotations": {
            format!("{PREFIX}admission"): "undecided",
            format!("{PREFIX}caps"): "type=1",
        }},
        "spec": {"suspend": true},
    })
}

fn admitted() -> Value {
    json!({"metadata": {"annotations": {format!("{PREFIX}admission"): "admitted"}}})
}

/// One instance of each type may run; request 1 has begun a start, and another instance is there, or not.
fn capped(others: &[Value]) -> Fixture {
    let mut fixture = Fixture::new();
    let cap = json!({format!("{PREFIX}max-instances"): "1"});
    fixture.world.offer(cap);
    for (number, other) in others.iter().enumerate() {
        let name = format!("other{number}");
        fixture
            .world
            .job_of(&key("scim", &name), &name, other.clone());
    }
    assert_eq!(fixture.get(1), ["call create for ann"]);
    fixture
}

/// The response to the create call has come, and nothing of the watch.
fn created(fixture: &mut Fixture) -> Vec<String> {
    let job = fixture.world.job_json(&n1(), "u1", &undecided());
    drop(fixture.world.jobs.own_write(decode(&job)));
    fixture.done()
}

fn delivered(fixture: &mut Fixture) -> Vec<String> {
    fixture.world.job("u1", undecided());
    fixture.changed()
}

#[test]
fn a_job_is_admitted_once_the_watch_has_delivered_it() {
    let mut fixture = capped(&[]);
    assert_eq!(created(&mut fixture), NOTHING);
    assert_eq!(delivered(&mut fixture), ["call admit u1"]);
    fixture.world.job("u1", admitted());
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.1"]);
    fixture.check_idle();
}

#[test]
fn a_job_without_a_place_is_deleted_and_its_callers_hear_why() {
    let mut fixture = capped(&[json!({})]);
    fixture.reported();
    created(&mut fixture);
    assert_eq!(fixture.find_of(2, &n1()), NOTHING);
    assert_eq!(delivered(&mut fixture), ["call refuse u1 type"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: NoPlace", "2: NoPlace"]);
    let reported = fixture.reported();
    let expected = "u1 stopping, limit; creating 0 s; start denied limit_reached";
    assert_eq!(reported.last().unwrap(), expected);
    fixture.world.job_gone("u1");
    fixture.changed();
    fixture.check_idle();
}

/// Even if the caller does not want to wait: the next one would have to ask again and again.
#[test]
fn what_is_not_known_in_time_is_refused() {
    let mut fixture = capped(&[undecided()]);
    created(&mut fixture);
    assert_eq!(fixture.get_of(2, &n1(), "", 1), NOTHING);
    assert_eq!(delivered(&mut fixture), NOTHING);
    assert_eq!(fixture.pass(1.9), NOTHING);
    assert_eq!(fixture.pass(0.2), ["call refuse u1 undecided"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: NoPlace", "2: NoPlace"]);
}

#[test]
fn a_decision_that_does_not_pass_is_made_again_from_what_is_there_then() {
    let mut fixture = capped(&[json!({})]);
    created(&mut fixture);
    assert_eq!(delivered(&mut fixture), ["call refuse u1 type"]);
    // The Job controller has written its condition.
    assert_eq!(fixture.fails(conflict(Verb::Delete)), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call refuse u1 type"]);
    // Another replica has admitted it.
    assert_eq!(fixture.fails(conflict(Verb::Delete)), NOTHING);
    fixture.world.job("u1", admitted());
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(2.0), NOTHING);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.1"]);
}

/// It would ask again and again, and start a Job each time.
#[test]
fn whoever_does_not_wait_hears_of_the_decision_too() {
    let mut fixture = capped(&[json!({})]);
    assert_eq!(fixture.get_of(2, &n1(), "", 0), NOTHING);
    assert_eq!(fixture.pass(0.1), NOTHING);
    created(&mut fixture);
    assert_eq!(delivered(&mut fixture), ["call refuse u1 type"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: NoPlace", "2: NoPlace"]);
    // But not for ever: the API server may be away.
    let mut fixture = capped(&[]);
    assert_eq!(fixture.get_of(2, &n1(), "", 0), NOTHING);
    assert_eq!(fixture.pass(4.9), NOTHING);
    assert_eq!(fixture.pass(0.2), ["2: node_not_ready Admitting"]);
}

#[test]
fn a_stop_goes_first() {
    let mut fixture = capped(&[]);
    created(&mut fixture);
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["2: done", "1: Stopped"]);
}

#[test]
fn the_start_goes_on_without_its_caller() {
    let mut fixture = capped(&[]);
    created(&mut fixture);
    assert_eq!(fixture.hang_up(1), NOTHING);
    assert_eq!(delivered(&mut fixture), ["call admit u1"]);
    fixture.world.job("u1", admitted());
    assert_eq!(fixture.done(), NOTHING);
    fixture.check_idle();
}

#[test]
fn a_job_of_another_replica_is_decided_when_it_stays_undecided() {
    let mut fixture = Fixture::new();
    assert_eq!(delivered(&mut fixture), NOTHING);
    assert_eq!(fixture.get(1), NOTHING, "it waits for its admission");
    assert_eq!(fixture.pass(4.9), NOTHING);
    assert_eq!(fixture.pass(0.2), ["call admit u1"]);
    // Another one was faster: nothing is said.
    assert_eq!(fixture.fails(invalid(Verb::Patch)), NOTHING);
    fixture.world.job("u1", admitted());
    assert_eq!(fixture.changed(), NOTHING);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.1"]);
}

#[test]
fn jobs_that_others_suspend_are_left_alone() {
    let mut fixture = Fixture::new();
    let job = json!({"spec": {"suspend": true}});
    fixture.world.job("u1", job);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(60.0), NOTHING);
    fixture.check_idle();
}

/// An API server that has just started says so for a moment.
#[test]
fn without_the_right_to_patch_jobs_nothing_starts() {
    let mut fixture = capped(&[]);
    created(&mut fixture);
    assert_eq!(delivered(&mut fixture), ["call admit u1"]);
    assert_eq!(fixture.fails(no_right(Verb::Patch)), NOTHING);
    let mut calls = Vec::new();
    while calls.last().is_none_or(|call| call == "call admit u1") {
        calls.extend(fixture.pass(0.5));
        if calls.last().is_some_and(|call| call == "call admit u1") {
            assert_eq!(fixture.fails(no_right(Verb::Patch)), NOTHING);
        }
        assert!(calls.len() < 10, "{calls:?}");
    }
    assert_eq!(calls.last().unwrap(), "call refuse u1 not_permitted");
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: NoPlace"]);
}

/// A list has brought the Job, and another one that is undecided.
fn listed(fixture: &mut Fixture) -> Vec<String> {
    created(fixture);
    let other = (fixture.world).job_json(&key("scim", "first"), "u0", &undecided());
    let own = fixture.world.job_json(&n1(), "u1", &undecided());
    let jobs = &fixture.world.jobs;
    drop(jobs.apply(StoreEvent::Init));
    for job in [own, other] {
        drop(jobs.apply(StoreEvent::InitApply(decode(&job))));
    }
    drop(jobs.apply(StoreEvent::InitDone("9".into())));
    fixture.changed()
}

#[test]
fn the_creator_of_a_job_that_a_list_brings_asks_what_was_there_before_it() {
    for (before, expected) in [
        (["u1", "u9"], "call admit u1"),
        (["u1", "u0"], "call refuse u1 undecided"),
    ] {
        let mut fixture = capped(&[]);
        assert_eq!(listed(&mut fixture), ["call place u1 at 1"]);
        let before = before.into_iter().map(Uid::from).collect();
        let admissions = fixture.world.cache.admissions();
        admissions.place(&"u1".into(), &before);
        let mut lines = fixture.done();
        lines.extend(fixture.pass(2.1));
        assert_eq!(lines, [expected]);
    }
}

/// Its version may be too old.
#[test]
fn that_is_asked_once() {
    let mut fixture = capped(&[]);
    listed(&mut fixture);
    let error = response_error(Verb::List, 410, "Expired", Value::Null);
    assert_eq!(fixture.fails(error), NOTHING);
    assert_eq!(fixture.pass(1.9), NOTHING);
    assert_eq!(fixture.pass(0.2), ["call refuse u1 undecided"]);
}

/// Results of own calls are not in the order of the watch.
#[test]
fn the_response_to_the_create_call_has_no_place_in_the_order() {
    let mut fixture = capped(&[]);
    created(&mut fixture);
    let other = fixture
        .world
        .job_json(&key("scim", "first"), "u0", &undecided());
    drop(fixture.world.jobs.apply(StoreEvent::Apply(decode(&other))));
    assert_eq!(delivered(&mut fixture), NOTHING, "u0 comes first");
}
