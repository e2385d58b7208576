//! Bounds, tokens and wake-ups of the coordinator; what it decides is told in the tests of `flight`.

mod random;

use super::*;
use crate::app::fixture::{Fixture, ROOMY, key, n1, token};
use crate::kube::error::Verb;
use serde_json::json;
use std::time::Duration;

const NOTHING: [&str; 0] = [];

#[test]
fn so_many_may_wait_and_no_more() {
    let mut fixture = Fixture::with_limits(Limits {
        parked_max: 3,
        ..ROOMY
    });
    assert_eq!(fixture.get(1), ["call create for ann"]);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(
        fixture.get_of(3, &key("scim", "n2"), "", 10),
        ["call create for ann"]
    );
    assert_eq!(fixture.get(4), ["4: TooManyRequests"]);
    assert_eq!(fixture.stop(5), ["5: TooManyRequests"]);
    assert_eq!(fixture.coordinator.waiting(), 3);
    fixture.hang_up(2);
    assert_eq!(fixture.get(6), NOTHING);
    assert_eq!(fixture.get(7), ["7: TooManyRequests"]);
}

#[test]
fn so_many_may_wait_for_one_name_and_no_more() {
    let mut fixture = Fixture::with_limits(Limits {
        parked_per_key_max: 2,
        ..ROOMY
    });
    fixture.get(1);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.get(3), ["3: TooManyRequests"]);
    assert_eq!(
        fixture.get_of(4, &key("scim", "n2"), "", 10),
        ["call create for ann"]
    );
}

#[test]
fn callers_that_hang_up_leave_no_more_work_than_is_allowed() {
    let mut fixture = Fixture::with_limits(Limits {
        parked_max: 3,
        ..ROOMY
    });
    for n in 0..3 {
        let key = key("scim", &format!("n{n}"));
        assert_eq!(fixture.get_of(n, &key, "", 10), ["call create for ann"]);
        fixture.hang_up(n);
    }
    assert_eq!(fixture.coordinator.waiting(), 0);
    assert_eq!(
        fixture.get_of(9, &key("scim", "n9"), "", 10),
        ["9: TooManyRequests"]
    );
    // A name that is in work already costs nothing more.
    assert_eq!(fixture.get(10), NOTHING);
    assert_eq!(
        fixture.step(Input::Completed(key("scim", "n0"), Outcome::Done)),
        NOTHING
    );
    assert_eq!(
        fixture.get_of(11, &key("scim", "n9"), "", 10),
        ["call create for ann"]
    );
}

/// The deletion has begun, so there is nothing left to do for who waited for its end.
#[test]
fn callers_that_hang_up_while_a_job_goes_are_forgotten() {
    let mut fixture = Fixture::with_limits(Limits {
        parked_per_key_max: 1,
        ..ROOMY
    });
    fixture.world.job("u1", json!({}));
    for n in 0..3 {
        assert_eq!(
            fixture.stop_and_wait(n, Some(300)),
            ["call delete u1 for bob"]
        );
        fixture.world.deleting("u1");
        assert_eq!(fixture.done(), NOTHING);
        fixture.hang_up(n);
        fixture.check_empty();
    }
}

#[test]
fn unknown_tokens_names_and_answers_are_nothing() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.hang_up(7), NOTHING);
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.step(Input::Changed(Vec::new())), NOTHING);
    fixture.check_empty();
    fixture.get(1);
    fixture.hang_up(1);
    assert_eq!(fixture.hang_up(1), NOTHING);
}

#[test]
fn after_the_end_nobody_waits() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.get_of(2, &key("scim", "n2"), "", 10);
    let mut answers = fixture.drain();
    answers.sort();
    assert_eq!(
        answers,
        ["1: node_not_ready Admitting", "2: node_not_ready Admitting"]
    );
    assert_eq!(fixture.get(3), ["3: Draining"]);
    assert_eq!(fixture.stop(4), ["4: Draining"]);
    assert_eq!(fixture.label(5), ["5: Draining"]);
    fixture.check_empty();
    assert_eq!(fixture.drain(), NOTHING);
}

#[test]
fn the_desk_is_woken_for_the_first_deadline_only() {
    let mut fixture = Fixture::new();
    let start = fixture.world.instant();
    fixture.get_of(1, &n1(), "", 30);
    fixture.get_of(2, &key("scim", "n2"), "", 20);
    let secs = |fixture: &Fixture| {
        fixture
            .coordinator
            .next_wake()
            .map(|at| (at - start).as_secs())
    };
    assert_eq!(secs(&fixture), Some(20));
    assert_eq!(fixture.pass(19.0), NOTHING);
    assert_eq!(fixture.wakes, 0);
    assert_eq!(fixture.pass(1.0), ["2: node_not_ready Admitting"]);
    assert_eq!(secs(&fixture), Some(30));
    fixture.pass(10.0);
    assert_eq!(fixture.wakes, 2);
    assert_eq!(fixture.coordinator.next_wake(), None);
}

#[test]
fn what_the_view_shows_is_remembered_although_nobody_waits() {
    let mut fixture = Fixture::new();
    fixture.pass(60.0);
    fixture.world.ended("u1", "Failed", json!({}));
    fixture.changed();
    fixture.pass(30.0);
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.get(1), ["call create for ann after 1"]);
}

#[test]
fn a_late_wake_answers_all_that_is_due() {
    let mut fixture = Fixture::new();
    for n in 0..5 {
        fixture.get_of(n, &key("scim", &format!("n{n}")), "", 1);
        let error = crate::app::fixture::unavailable(Verb::Create);
        let completed = Input::Completed(key("scim", &format!("n{n}")), Outcome::Failed(error));
        fixture.step(completed);
    }
    fixture.world.pass(Duration::from_secs(100));
    let mut out = Vec::new();
    fixture.coordinator.tick(&fixture.world.now(), &mut out);
    let answers = out.iter().filter(|e| matches!(e, Effect::Answer(..)));
    assert_eq!(answers.count(), 5);
    assert_eq!(fixture.coordinator.waiting(), 0);
    assert!(!fixture.coordinator.tokens.contains_key(&token(0)));
}
