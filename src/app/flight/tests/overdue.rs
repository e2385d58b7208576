//! A pod that does not go, since its node is dead.

use super::{NOTHING, starting};
use crate::app::fixture::{Scene, not_found, unavailable};
use crate::kube::error::Verb;
use serde_json::json;

/// A scene without callers, in which the Job `u1` is being deleted and its pod's grace ends now.
fn leaving() -> Scene {
    let mut scene = Scene::new();
    scene.world.deleting("u1");
    scene.world.pod_leaving("u1");
    assert_eq!(scene.changed(), NOTHING);
    scene
}

#[test]
fn it_is_removed_when_it_is_overdue_though_nobody_waits() {
    let mut scene = leaving();
    assert_eq!(scene.pass(29.9), NOTHING);
    assert_eq!(scene.pass(0.1), ["call remove p-u1"]);
    scene.world.pod_gone("u1");
    scene.world.job_gone("u1");
    assert_eq!(scene.done(), NOTHING);
    scene.check_empty();
}

#[test]
fn one_that_goes_in_time_is_left_alone() {
    let mut scene = leaving();
    scene.pass(29.0);
    scene.world.pod_gone("u1");
    scene.changed();
    assert_eq!(scene.pass(60.0), NOTHING);
    scene.check_empty();
}

#[test]
fn its_job_is_deleted_first_since_that_keeps_it() {
    let mut scene = starting();
    scene.hang_up(1);
    scene.world.ready("u1", "10.0.0.1");
    scene.world.pod_leaving("u1");
    scene.changed();
    assert_eq!(scene.pass(30.0), ["call force u1"]);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), ["call remove p-u1"]);
}

#[test]
fn what_keeps_it_after_that_is_given_time() {
    let mut scene = leaving();
    assert_eq!(scene.pass(30.0), ["call remove p-u1"]);
    assert_eq!(scene.done(), NOTHING);
    assert_eq!(scene.changed(), NOTHING);
    // What has been told is not told each time.
    assert_eq!(scene.pass(5.0), ["call remove p-u1, which is kept"]);
    assert_eq!(scene.fails(unavailable(Verb::Delete)), NOTHING);
    assert_eq!(scene.pass(4.9), NOTHING);
    assert_eq!(scene.pass(0.1), ["call remove p-u1, which is kept"]);
}

#[test]
fn one_whose_removal_fails_first_is_told_when_it_is_removed() {
    let mut scene = leaving();
    assert_eq!(scene.pass(30.0), ["call remove p-u1"]);
    assert_eq!(scene.fails(unavailable(Verb::Delete)), NOTHING);
    assert_eq!(scene.pass(5.0), ["call remove p-u1"]);
}

#[test]
fn another_replica_may_be_faster() {
    let mut scene = leaving();
    scene.pass(30.0);
    assert_eq!(scene.fails(not_found(Verb::Delete)), ["call read"]);
    scene.world.pod_gone("u1");
    scene.world.job_gone("u1");
    assert_eq!(scene.done(), NOTHING);
    scene.check_empty();
}

#[test]
fn callers_wait_for_it_and_start_anew() {
    let mut scene = leaving();
    scene.pass(25.0);
    assert_eq!(scene.get(1), NOTHING);
    assert_eq!(scene.pass(5.0), ["call remove p-u1"]);
    scene.world.pod_gone("u1");
    scene.world.job_gone("u1");
    assert_eq!(scene.done(), ["call create for ann"]);
    scene.world.job("u2", json!({}));
    scene.world.ready("u2", "10.0.0.2");
    assert_eq!(scene.done(), ["1: ready 10.0.0.2"]);
    scene.check_empty();
}
