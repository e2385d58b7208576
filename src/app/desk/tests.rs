//! Bounds, tokens and wake-ups of the desk; what it decides is told in the tests of `flight`.

mod random;

use super::*;
use crate::app::fixture::{ROOMY, Scene, key, n1, token};
use crate::kube::error::Verb;
use serde_json::json;
use std::time::Duration;

const NOTHING: [&str; 0] = [];

#[test]
fn so_many_may_wait_and_no_more() {
    let mut scene = Scene::with_limits(Limits {
        parked_max: 3,
        ..ROOMY
    });
    assert_eq!(scene.get(1), ["call create for ann"]);
    assert_eq!(scene.get(2), NOTHING);
    assert_eq!(
        scene.get_of(3, &key("scim", "n2"), "", 10),
        ["call create for ann"]
    );
    assert_eq!(scene.get(4), ["4: TooManyRequests"]);
    assert_eq!(scene.stop(5), ["5: TooManyRequests"]);
    assert_eq!(scene.desk.waiting(), 3);
    scene.hang_up(2);
    assert_eq!(scene.get(6), NOTHING);
    assert_eq!(scene.get(7), ["7: TooManyRequests"]);
}

#[test]
fn so_many_may_wait_for_one_name_and_no_more() {
    let mut scene = Scene::with_limits(Limits {
        parked_per_key_max: 2,
        ..ROOMY
    });
    scene.get(1);
    assert_eq!(scene.get(2), NOTHING);
    assert_eq!(scene.get(3), ["3: TooManyRequests"]);
    assert_eq!(
        scene.get_of(4, &key("scim", "n2"), "", 10),
        ["call create for ann"]
    );
}

#[test]
fn callers_that_hang_up_leave_no_more_work_than_is_allowed() {
    let mut scene = Scene::with_limits(Limits {
        parked_max: 3,
        ..ROOMY
    });
    for n in 0..3 {
        let key = key("scim", &format!("n{n}"));
        assert_eq!(scene.get_of(n, &key, "", 10), ["call create for ann"]);
        scene.hang_up(n);
    }
    assert_eq!(scene.desk.waiting(), 0);
    assert_eq!(
        scene.get_of(9, &key("scim", "n9"), "", 10),
        ["9: TooManyRequests"]
    );
    // A name that is in work already costs nothing more.
    assert_eq!(scene.get(10), NOTHING);
    assert_eq!(
        scene.step(Input::Completed(key("scim", "n0"), Outcome::Done)),
        NOTHING
    );
    assert_eq!(
        scene.get_of(11, &key("scim", "n9"), "", 10),
        ["call create for ann"]
    );
}

/// The deletion has begun, so there is nothing left to do for who waited for its end.
#[test]
fn callers_that_hang_up_while_a_job_goes_are_forgotten() {
    let mut scene = Scene::with_limits(Limits {
        parked_per_key_max: 1,
        ..ROOMY
    });
    scene.world.job("u1", json!({}));
    for n in 0..3 {
        assert_eq!(
            scene.stop_and_wait(n, Some(300)),
            ["call delete u1 for bob"]
        );
        scene.world.deleting("u1");
        assert_eq!(scene.done(), NOTHING);
        scene.hang_up(n);
        scene.check_empty();
    }
}

#[test]
fn unknown_tokens_names_and_answers_are_nothing() {
    let mut scene = Scene::new();
    assert_eq!(scene.hang_up(7), NOTHING);
    assert_eq!(scene.done(), NOTHING);
    assert_eq!(scene.changed(), NOTHING);
    assert_eq!(scene.step(Input::Changed(Vec::new())), NOTHING);
    scene.check_empty();
    scene.get(1);
    scene.hang_up(1);
    assert_eq!(scene.hang_up(1), NOTHING);
}

#[test]
fn after_the_end_nobody_waits() {
    let mut scene = Scene::new();
    scene.get(1);
    scene.get_of(2, &key("scim", "n2"), "", 10);
    let mut answers = scene.drain();
    answers.sort();
    assert_eq!(
        answers,
        ["1: node_not_ready Admitting", "2: node_not_ready Admitting"]
    );
    assert_eq!(scene.get(3), ["3: Draining"]);
    assert_eq!(scene.stop(4), ["4: Draining"]);
    assert_eq!(scene.label(5), ["5: Draining"]);
    scene.check_empty();
    assert_eq!(scene.drain(), NOTHING);
}

#[test]
fn the_desk_is_woken_for_the_first_deadline_only() {
    let mut scene = Scene::new();
    let start = scene.world.instant();
    scene.get_of(1, &n1(), "", 30);
    scene.get_of(2, &key("scim", "n2"), "", 20);
    let secs = |scene: &Scene| scene.desk.next_wake().map(|at| (at - start).as_secs());
    assert_eq!(secs(&scene), Some(20));
    assert_eq!(scene.pass(19.0), NOTHING);
    assert_eq!(scene.wakes, 0);
    assert_eq!(scene.pass(1.0), ["2: node_not_ready Admitting"]);
    assert_eq!(secs(&scene), Some(30));
    scene.pass(10.0);
    assert_eq!(scene.wakes, 2);
    assert_eq!(scene.desk.next_wake(), None);
}

#[test]
fn what_the_view_shows_is_remembered_although_nobody_waits() {
    let mut scene = Scene::new();
    scene.pass(60.0);
    scene.world.ended("u1", "Failed", json!({}));
    scene.changed();
    scene.pass(30.0);
    scene.world.job_gone("u1");
    scene.changed();
    assert_eq!(scene.get(1), ["call create for ann after 1"]);
}

#[test]
fn a_late_wake_answers_all_that_is_due() {
    let mut scene = Scene::new();
    for n in 0..5 {
        scene.get_of(n, &key("scim", &format!("n{n}")), "", 1);
        let error = crate::app::fixture::unavailable(Verb::Create);
        let completed = Input::Completed(key("scim", &format!("n{n}")), Outcome::Failed(error));
        scene.step(completed);
    }
    scene.world.pass(Duration::from_secs(100));
    let mut out = Vec::new();
    scene.desk.tick(&scene.world.now(), &mut out);
    let answers = out.iter().filter(|e| matches!(e, Effect::Answer(..)));
    assert_eq!(answers.count(), 5);
    assert_eq!(scene.desk.waiting(), 0);
    assert!(!scene.desk.tokens.contains_key(&token(0)));
}
