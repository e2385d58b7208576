//! What a request may bring about: nothing, a start, or a start that is stopped again; and how
//! long a stop is waited for.

use super::{NOTHING, failed_after, starting};
use crate::app::fixture::{Scene, unavailable};
use crate::app::flight::{Intent, Outcome};
use crate::kube::error::Verb;
use serde_json::json;

#[test]
fn who_only_looks_starts_nothing() {
    let mut scene = Scene::new();
    assert_eq!(scene.get_meaning(1, Intent::Find), ["1: NoInstance"]);
    scene.check_empty();
}

#[test]
fn who_only_looks_waits_for_the_start_of_another() {
    let mut scene = Scene::new();
    scene.get(1);
    assert_eq!(scene.get_meaning(2, Intent::Find), NOTHING);
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), NOTHING);
    assert_eq!(scene.get_meaning(3, Intent::Find), NOTHING);
    scene.world.ready("u1", "10.0.0.1");
    let ready = |n: u32| format!("{n}: ready 10.0.0.1");
    assert_eq!(scene.changed(), [1, 2, 3].map(ready));
}

#[test]
fn who_only_looks_hears_of_a_stop_that_there_is_none() {
    let mut scene = starting();
    scene.world.deleting("u1");
    assert_eq!(scene.changed(), ["1: Stopped"]);
    assert_eq!(scene.get_meaning(2, Intent::Find), ["2: NoInstance"]);
}

#[test]
fn who_only_looks_replaces_nothing() {
    let mut scene = Scene::new();
    scene.world.ended("u1", "Complete", json!({}));
    scene.pass(60.0);
    assert_eq!(scene.get_meaning(1, Intent::Find), ["1: NoInstance"]);
    let mut scene = failed_after(0.0);
    scene.pass(60.0);
    assert_eq!(scene.get_meaning(1, Intent::Find), NOTHING);
    assert_eq!(scene.pass(1.0), ["1: app_error BackoffLimitExceeded"]);
    assert_eq!(scene.get(2), ["call replace u1"]);
}

#[test]
fn a_start_that_is_late_is_stopped_where_its_caller_wants_that() {
    let mut scene = Scene::new();
    scene.get_meaning(1, Intent::StartOrStop);
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), NOTHING);
    assert_eq!(scene.pass(9.9), NOTHING);
    assert_eq!(scene.pass(0.1), ["call delete u1 for ann"]);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), ["1: done"]);
    scene.check_empty();
}

#[test]
fn a_start_that_was_given_up_and_cannot_be_stopped_is_answered_too() {
    let mut scene = Scene::new();
    scene.get_meaning(1, Intent::StartOrStop);
    scene.world.job("u1", json!({}));
    scene.done();
    assert_eq!(scene.pass(10.0), ["call delete u1 for ann"]);
    assert_eq!(scene.fails(unavailable(Verb::Delete)), NOTHING);
    assert_eq!(scene.pass(0.2), ["call delete u1 for ann"]);
    assert_eq!(scene.pass(9.8), ["1: Unavailable"]);
}

#[test]
fn an_instance_that_is_ready_in_time_is_not_stopped() {
    let mut scene = Scene::new();
    scene.get_meaning(1, Intent::StartOrStop);
    scene.world.job("u1", json!({}));
    scene.done();
    scene.world.ready("u1", "10.0.0.1");
    // The view shows it, and time is over before the desk has heard of it.
    assert_eq!(scene.pass(10.0), ["1: ready 10.0.0.1"]);
    scene.check_empty();
}

#[test]
fn a_stop_waits_until_the_job_is_gone_where_its_caller_wants_that() {
    let mut scene = starting();
    assert_eq!(scene.stop_and_wait(2, Some(30)), ["call delete u1 for bob"]);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), ["1: Stopped"]);
    assert_eq!(scene.stop_and_wait(3, Some(60)), ["call delete u1 for bob"]);
    assert_eq!(scene.done(), NOTHING);
    assert_eq!(scene.stop(4), ["call delete u1 for bob"]);
    assert_eq!(scene.done(), ["4: done"]);
    scene.pass(20.0);
    scene.world.job_gone("u1");
    assert_eq!(scene.changed(), ["2: done", "3: done"]);
    scene.check_empty();
}

#[test]
fn a_stop_that_is_not_over_in_time_says_so() {
    let mut scene = starting();
    scene.stop_and_wait(2, Some(30));
    scene.world.deleting("u1");
    scene.done();
    assert_eq!(scene.pass(29.9), NOTHING);
    assert_eq!(scene.pass(0.1), ["2: node_not_ready Stopping"]);
    scene.check_empty();
}

#[test]
fn a_wish_to_wait_does_not_cut_the_stop_itself_short() {
    let mut scene = starting();
    scene.stop_and_wait(2, Some(1));
    assert_eq!(scene.pass(2.0), NOTHING);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), ["1: Stopped", "2: node_not_ready Stopping"]);
}

#[test]
fn the_next_instance_of_the_name_is_none_of_its_business() {
    let mut scene = starting();
    scene.stop_and_wait(2, Some(30));
    scene.world.deleting("u1");
    scene.done();
    scene.get(3);
    scene.world.job("u2", json!({}));
    assert_eq!(scene.changed(), ["2: done"]);
    scene.world.ready("u2", "10.0.0.2");
    assert_eq!(scene.changed(), ["3: ready 10.0.0.2"]);
}

#[test]
fn waiting_for_the_end_of_what_is_not_there() {
    let mut scene = Scene::new();
    assert_eq!(scene.stop_and_wait(1, Some(30)), ["call read"]);
    assert_eq!(scene.ends(Outcome::Absent), ["1: NoInstance"]);
}
