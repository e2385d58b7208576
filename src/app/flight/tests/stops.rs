//! Stops and labels, and what they do to those who wait.

use super::{NOTHING, starting};
use crate::app::fixture::{Scene, conflict, invalid, lost, no_right, not_found};
use crate::app::flight::Outcome;
use crate::kube::error::Verb;
use serde_json::json;

#[test]
fn a_stop_ends_those_who_wait_and_later_ones_start_anew() {
    let mut scene = starting();
    assert_eq!(scene.stop(2), ["call delete u1 for bob"]);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), ["2: done", "1: Stopped"]);
    assert_eq!(scene.get(3), NOTHING);
    // It may be gone by now, and another one be there, for all that is known.
    assert_eq!(scene.stop(4), ["call delete u1 for bob"]);
    assert_eq!(scene.done(), ["4: done"]);
    scene.world.job_gone("u1");
    assert_eq!(scene.changed(), ["call create for ann"]);
}

/// The view lags behind: it shows a Job on its way out, and there is its successor.
#[test]
fn a_stop_of_what_is_on_its_way_out_hits_its_successor() {
    let mut scene = starting();
    scene.world.deleting("u1");
    scene.changed();
    assert_eq!(scene.stop(2), ["call delete u1 for bob"]);
    assert_eq!(scene.fails(conflict(Verb::Delete)), ["call read"]);
    scene.world.job("u2", json!({}));
    assert_eq!(scene.done(), ["call delete u2 for bob"]);
    scene.world.deleting("u2");
    assert_eq!(scene.done(), ["2: done"]);
}

#[test]
fn a_stop_that_the_watch_shows_ends_those_who_wait() {
    let mut scene = starting();
    scene.world.deleting("u1");
    assert_eq!(scene.changed(), ["1: Stopped"]);
    // A Background deletion shows no deletion timestamp, and maybe the next Job at once.
    let mut scene = starting();
    scene.world.job("u2", json!({}));
    assert_eq!(scene.changed(), ["1: Stopped"]);
    let mut scene = starting();
    scene.world.job_gone("u1");
    assert_eq!(scene.changed(), ["1: Stopped"]);
}

/// The answer to a deletion is late, and what it has deleted is long gone: whoever asks now
/// means what is there now.
#[test]
fn a_late_answer_to_a_deletion_is_for_those_who_had_asked_by_then() {
    for fails in [false, true] {
        let mut scene = Scene::new();
        scene.world.ended("u1", "Failed", json!({}));
        scene.changed();
        assert_eq!(scene.stop(1), ["call delete u1 for bob"]);
        // Another replica has started the next one.
        scene.world.job_gone("u1");
        scene.world.job("u2", json!({}));
        assert_eq!(scene.changed(), NOTHING);
        assert_eq!(scene.stop(2), NOTHING);
        let late = if fails {
            scene.fails(not_found(Verb::Delete))
        } else {
            scene.done()
        };
        assert_eq!(late, ["1: done", "call delete u2 for bob"]);
        scene.world.deleting("u2");
        assert_eq!(scene.done(), ["2: done"]);
        scene.check_empty();
    }
}

/// The answer to a read is late, and the Job has been made since: whoever asks now means that.
#[test]
fn a_late_answer_to_a_read_is_for_those_who_had_asked_by_then() {
    for outcome in [Outcome::Absent, Outcome::Foreign] {
        let mut scene = Scene::new();
        assert_eq!(scene.stop(1), ["call read"]);
        assert_eq!(scene.stop(2), NOTHING);
        assert_eq!(scene.label(3), NOTHING);
        assert_eq!(scene.ends(outcome), ["1: NoInstance", "call read"]);
        scene.world.job("u1", json!({}));
        assert_eq!(scene.done(), ["call delete u1 for bob"]);
        scene.world.deleting("u1");
        assert_eq!(scene.done(), ["2: done"]);
    }
}

#[test]
fn a_suspended_job_that_goes_was_a_limit() {
    let mut scene = starting();
    scene.world.job("u1", json!({"spec": {"suspend": true}}));
    assert_eq!(scene.changed(), NOTHING);
    scene.world.job_gone("u1");
    assert_eq!(scene.changed(), ["1: LimitReached"]);
}

#[test]
fn a_stop_during_a_create() {
    let mut scene = Scene::new();
    scene.get(1);
    assert_eq!(scene.stop(2), NOTHING);
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), ["call delete u1 for bob"]);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), ["2: done", "1: Stopped"]);
    scene.check_empty();
}

#[test]
fn a_stop_during_a_create_whose_answer_is_lost() {
    let mut scene = Scene::new();
    scene.get(1);
    scene.stop(2);
    // Another kind of call does not wait for the pause of the first.
    assert_eq!(scene.fails(lost(Verb::Create)), ["call read"]);
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), ["call delete u1 for bob"]);
}

#[test]
fn what_the_view_does_not_show_is_read_first() {
    let mut scene = Scene::new();
    assert_eq!(scene.stop(1), ["call read"]);
    assert_eq!(scene.ends(Outcome::Absent), ["1: NoInstance"]);
    scene.check_empty();
    assert_eq!(scene.stop(2), ["call read"]);
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), ["call delete u1 for bob"]);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), ["2: done"]);
    scene.check_empty();
    let mut scene = Scene::new();
    assert_eq!(scene.label(1), ["call read"]);
    assert_eq!(scene.ends(Outcome::Absent), ["1: NoInstance"]);
    assert_eq!(scene.label(2), ["call read"]);
    assert_eq!(scene.ends(Outcome::Foreign), ["2: NoInstance"]);
    scene.check_empty();
}

#[test]
fn who_only_waits_does_not_hear_that_a_stop_found_nothing() {
    let mut scene = Scene::new();
    assert_eq!(scene.stop(1), ["call read"]);
    assert_eq!(scene.get(2), NOTHING);
    assert_eq!(
        scene.ends(Outcome::Absent),
        ["1: NoInstance", "call create for ann"]
    );
}

#[test]
fn a_stop_of_what_is_gone_or_another() {
    let mut scene = Scene::new();
    scene.world.job("u1", json!({}));
    assert_eq!(scene.stop(1), ["call delete u1 for bob"]);
    scene.world.job_gone("u1");
    assert_eq!(scene.fails(not_found(Verb::Delete)), ["1: done"]);
    scene.world.job("u2", json!({}));
    assert_eq!(scene.stop(2), ["call delete u2 for bob"]);
    assert_eq!(scene.fails(conflict(Verb::Delete)), ["call read"]);
    scene.world.job("u3", json!({}));
    assert_eq!(scene.done(), ["call delete u3 for bob"]);
}

#[test]
fn a_stop_that_cannot_be() {
    let mut scene = Scene::new();
    scene.world.job("u1", json!({}));
    scene.get(1);
    scene.stop(2);
    scene.fails(no_right(Verb::Delete));
    scene.pass(0.1);
    scene.fails(no_right(Verb::Delete));
    scene.pass(2.0);
    // Who waits for the instance does not hear of it.
    assert_eq!(scene.fails(no_right(Verb::Delete)), ["2: NotPermitted"]);
    assert_eq!(scene.pass(10.0), ["1: node_not_ready NoPod"]);
    scene.check_empty();
}

#[test]
fn a_label_is_put_on_the_pod() {
    let mut scene = Scene::new();
    scene.world.job("u1", json!({}));
    scene.world.ready("u1", "10.0.0.1");
    assert_eq!(scene.label(1), ["call label p-u1"]);
    assert_eq!(scene.label(2), NOTHING);
    assert_eq!(scene.done(), ["1: done", "call label p-u1"]);
    assert_eq!(scene.done(), ["2: done"]);
    scene.check_empty();
}

#[test]
fn a_label_waits_for_the_pod() {
    let mut scene = starting();
    assert_eq!(scene.label(2), NOTHING);
    scene.world.pod("u1", json!({}));
    assert_eq!(scene.changed(), ["call label p-u1"]);
    assert_eq!(scene.done(), ["2: done"]);
    // In vain: as for none.
    let mut scene = Scene::new();
    scene.world.job("u1", json!({}));
    assert_eq!(scene.label(1), NOTHING);
    assert_eq!(scene.pass(10.0), ["1: NoInstance"]);
    assert_eq!(scene.wakes, 1);
    scene.check_empty();
}

#[test]
fn a_label_on_a_job_that_ended_without_a_pod() {
    let mut scene = Scene::new();
    scene.world.ended("u1", "Failed", json!({}));
    assert_eq!(scene.label(1), ["1: NoInstance"]);
}

#[test]
fn a_label_on_a_pod_that_was_replaced() {
    for error in [conflict(Verb::Patch), not_found(Verb::Patch)] {
        let mut scene = Scene::new();
        scene.world.job("u1", json!({}));
        scene.world.ready("u1", "10.0.0.1");
        scene.label(1);
        assert_eq!(scene.fails(error), NOTHING);
        assert_eq!(scene.pass(0.1), ["call label p-u1"]);
    }
}

#[test]
fn a_label_that_is_refused_hurts_nobody_else() {
    let mut scene = Scene::new();
    scene.world.deleting("u1");
    scene.world.pod("u1", json!({}));
    assert_eq!(scene.get(1), NOTHING);
    assert_eq!(scene.label(2), ["call label p-u1"]);
    assert_eq!(scene.label(3), NOTHING);
    assert_eq!(
        scene.fails(invalid(Verb::Patch)),
        ["2: ReservedKey", "call label p-u1"]
    );
    scene.pass(2.0);
    scene.fails(no_right(Verb::Patch));
    for _ in 0..5 {
        scene.pass(1.0);
        scene.fails(no_right(Verb::Patch));
    }
    scene.world.job_gone("u1");
    assert_eq!(scene.changed(), ["call create for ann"]);
}
