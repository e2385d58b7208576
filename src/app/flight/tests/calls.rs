//! Calls that fail: what is tried again, when, and who hears of it.

use super::NOTHING;
use crate::app::desk::{Input, Wish};
use crate::app::fixture::{
    Scene, conflict, exists, invalid, key, lost, n1, no_connection, no_right, not_found, origin,
    refused, throttled, token, uid, unavailable,
};
use crate::app::flight::{Effect, Outcome, Stop};
use crate::kube::error::Verb;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_create_whose_answer_was_lost_is_repeated() {
    let mut scene = Scene::new();
    scene.get(1);
    assert_eq!(scene.fails(lost(Verb::Create)), NOTHING);
    assert_eq!(scene.pass(0.099), NOTHING);
    assert_eq!(scene.pass(0.001), ["call create for ann"]);
    assert_eq!(scene.fails(exists()), ["call read"]);
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), NOTHING);
    // The watch may show it before it is repeated.
    let mut scene = Scene::new();
    scene.get(1);
    scene.fails(lost(Verb::Create));
    scene.world.job("u1", json!({}));
    scene.changed();
    assert_eq!(scene.pass(5.0), NOTHING);
    assert_eq!(scene.pass(5.0), ["1: node_not_ready NoPod"]);
}

#[test]
fn trouble_is_retried_with_longer_and_longer_pauses_until_the_deadline() {
    let mut scene = Scene::new();
    scene.get(1);
    for pause in [0.1, 0.2, 0.4, 0.8, 1.0, 1.0] {
        assert_eq!(scene.fails(unavailable(Verb::Create)), NOTHING);
        assert_eq!(scene.pass(pause - 0.01), NOTHING);
        assert_eq!(scene.pass(0.01), ["call create for ann"], "{pause}");
    }
    scene.fails(unavailable(Verb::Create));
    scene.pass(1.0);
    scene.fails(unavailable(Verb::Create));
    scene.pass(1.0);
    scene.fails(throttled(9));
    assert_eq!(scene.pass(10.0), ["1: Unavailable"]);
    scene.check_empty();
}

/// Why a call has failed is said once, however often it is tried.
#[test]
fn a_call_that_is_tried_again_says_so() {
    let mut scene = Scene::new();
    let mut again = Vec::new();
    scene.get(1);
    for _ in 0..2 {
        scene.fails(unavailable(Verb::Create));
        scene.world.pass(Duration::from_secs(1));
        let mut out = Vec::new();
        scene.desk.tick(&scene.world.now(), &mut out);
        again.extend(out.into_iter().map(is_again));
    }
    scene.fails(exists());
    scene.world.job("u1", json!({}));
    scene.done();
    let mut out = Vec::new();
    let stop = Wish::Stop(Stop {
        token: token(2),
        by: origin("bob"),
        deadline: scene.world.instant() + Duration::from_secs(10),
        until: None,
    });
    let asked = Input::Asked(n1(), stop);
    scene.desk.step(asked, &scene.world.now(), &mut out);
    again.extend(out.into_iter().map(is_again));
    assert_eq!(again, [true, true, false]);
}

fn is_again(effect: Effect) -> bool {
    match effect {
        Effect::Call(call) => call.is_again,
        Effect::Answer(..) => panic!("it is a call"),
    }
}

#[test]
fn an_answer_that_does_not_come_in_time_is_progress() {
    let mut scene = Scene::new();
    scene.get(1);
    assert_eq!(scene.pass(10.0), ["1: node_not_ready Admitting"]);
    // What it has started goes on, and another joins it.
    assert_eq!(scene.get(2), NOTHING);
    scene.world.job("u1", json!({}));
    scene.world.ready("u1", "10.0.0.1");
    assert_eq!(scene.done(), ["2: ready 10.0.0.1"]);
    scene.check_empty();
}

#[test]
fn a_retry_after_is_kept_and_bounded() {
    let mut scene = Scene::new();
    scene.get_of(1, &n1(), "", 300);
    scene.fails(throttled(3));
    assert_eq!(scene.pass(2.9), NOTHING);
    assert_eq!(scene.pass(0.1), ["call create for ann"]);
    scene.fails(throttled(3600));
    assert_eq!(scene.pass(9.9), NOTHING);
    assert_eq!(scene.pass(0.1), ["call create for ann"]);
}

/// A call that fails like this, again and again, is given up after exactly 2 s.
#[track_caller]
fn check_patience(error: &crate::kube::Error, expected: &str) {
    let mut scene = Scene::new();
    scene.get(1);
    let mut out = scene.fails(error.clone());
    let mut tries = 1;
    for _ in 0..199 {
        let calls = scene.pass(0.01);
        if calls == ["call create for ann"] {
            tries += 1;
            out = scene.fails(error.clone());
        }
        assert_eq!(out, NOTHING);
    }
    assert_eq!(scene.pass(0.01), ["call create for ann"]);
    assert_eq!(scene.fails(error.clone()), [expected]);
    assert_eq!(tries, 5);
    scene.check_empty();
}

#[test]
fn no_connection_and_a_missing_right_get_two_seconds() {
    check_patience(&no_connection(Verb::Create), "1: Unavailable");
    check_patience(&no_right(Verb::Create), "1: NotPermitted");
}

#[test]
fn patience_counts_one_kind_of_trouble() {
    let mut scene = Scene::new();
    scene.get(1);
    scene.fails(no_connection(Verb::Create));
    for _ in 0..4 {
        scene.pass(0.45);
        scene.fails(no_connection(Verb::Create));
    }
    scene.pass(0.2);
    // The API server is back, and loads its RBAC.
    assert_eq!(scene.fails(no_right(Verb::Create)), NOTHING);
    assert_eq!(scene.pass(0.1), ["call create for ann"]);
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), NOTHING);
}

#[test]
fn an_attempt_to_connect_that_takes_seconds_is_patience_enough() {
    let mut scene = Scene::new();
    scene.get(1);
    scene.pass(3.0);
    assert_eq!(scene.fails(no_connection(Verb::Create)), ["1: Unavailable"]);
}

#[test]
fn what_kubernetes_refuses_is_told_at_once() {
    for (error, expected) in [
        (refused(), "1: Refused"),
        (invalid(Verb::Create), "1: TemplateInvalid"),
        (not_found(Verb::Create), "1: NamespaceMissing"),
    ] {
        let mut scene = Scene::new();
        scene.get(1);
        assert_eq!(scene.fails(error), [expected]);
        scene.check_empty();
    }
}

#[test]
fn a_quota_that_changed_meanwhile_is_tried_again() {
    let mut scene = Scene::new();
    scene.get(1);
    assert_eq!(scene.fails(conflict(Verb::Create)), NOTHING);
    assert_eq!(scene.pass(0.1), ["call create for ann"]);
}

#[test]
fn values_that_do_not_fit_are_the_fault_of_who_sent_them() {
    let zoned = key("zoned", "n1");
    let mut scene = Scene::new();
    assert_eq!(scene.get_of(1, &zoned, "", 10), ["1: VariableMissing"]);
    assert_eq!(
        scene.get_of(2, &zoned, "zone=a", 10),
        ["call create for ann"]
    );
    // While the first start is under way nobody's values are looked at.
    assert_eq!(scene.get_of(3, &zoned, "", 10), NOTHING);
    assert_eq!(scene.get_of(4, &zoned, "zone=b", 10), NOTHING);
    assert_eq!(scene.get_of(5, &zoned, "zone=a", 10), NOTHING);
    let fails = Input::Completed(zoned, Outcome::Failed(invalid(Verb::Create)));
    assert_eq!(
        scene.step(fails),
        [
            "2: TemplateInvalid",
            "5: TemplateInvalid",
            "3: VariableMissing",
            "call create for ann"
        ]
    );
}

#[test]
fn what_is_not_on_offer() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.get_of(1, &key("nope", "n1"), "", 10),
        ["1: UnknownType"]
    );
    assert_eq!(
        scene.get_of(2, &key("bad", "n1"), "", 10),
        ["2: TemplateInvalid"]
    );
    scene.check_empty();
    // An instance outlives its template.
    let gone = key("gone", "n1");
    scene.world.job_of(&gone, "u1", json!({}));
    scene.world.ready("u1", "10.0.0.1");
    assert_eq!(scene.get_of(3, &gone, "", 10), ["3: ready 10.0.0.1"]);
}

#[test]
fn a_retry_that_has_become_pointless_wakes_nobody() {
    let mut scene = Scene::new();
    scene.world.job("u1", json!({}));
    scene.world.ready("u1", "10.0.0.1");
    scene.label(1);
    scene.fails(not_found(Verb::Patch));
    drop(scene.world.pods.own_delete("p-u1", &uid("p-u1")));
    scene.changed();
    // What the last try met is over once the pod is gone.
    assert_eq!(scene.pass(10.0), ["1: NoInstance"]);
    assert_eq!(scene.wakes, 1);
    scene.check_empty();
}
