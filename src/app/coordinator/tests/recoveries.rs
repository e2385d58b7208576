//! Starts that were reported as failed, and what is reported of those that go on.

use super::NOTHING;
use super::lifecycle::created;
use crate::app::coordinator::{CacheChange, Effect, Input};
use crate::app::fixture::{Fixture, n1, waiting_pod};
use crate::app::lifecycle::LifecycleKind;
use serde_json::json;

#[test]
fn a_terminal_start_is_an_end() {
    let mut fixture = created();
    fixture.world.pod("u1", waiting_pod("InvalidImageName"));
    fixture.changed();
    let failed =
        "u1 failed InvalidImageName after 1 s; creating 0 s; start failed InvalidImageName";
    assert_eq!(fixture.reported(), [failed]);
    // It may still become ready; that is no second end.
    fixture.world.ready("u1", "10.0.0.1");
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 recovered"]);
}

/// What was reported as failed may go on, and then what becomes of it is news, also if it fails again.
#[test]
fn the_end_of_a_start_that_went_on_after_a_failure_is_reported() {
    type Move = fn(&mut Fixture);
    let goes_on: [(Move, &str); 2] = [
        (|it| it.world.ready("u1", "10.0.0.1"), "u1 recovered"),
        (
            |it| it.world.pod("u1", waiting_pod("ContainerCreating")),
            "u1 pulling",
        ),
    ];
    for (goes_on, how) in goes_on {
        for (condition, end) in [
            ("Failed", "u1 failed BackoffLimitExceeded"),
            ("Complete", "u1 finished Completed"),
        ] {
            let mut fixture = created();
            fixture.world.pod("u1", waiting_pod("InvalidImageName"));
            fixture.changed();
            fixture.reported();
            goes_on(&mut fixture);
            fixture.changed();
            assert_eq!(fixture.reported(), [how]);
            fixture.pass(2.0);
            fixture.world.pod_gone("u1");
            fixture.world.ended("u1", condition, json!({}));
            fixture.changed();
            fixture.pass(1.0);
            assert_eq!(fixture.reported(), [end]);
            fixture.pass(60.0);
            fixture.changed();
            assert_eq!(fixture.reported(), NOTHING);
        }
    }
}

/// The request was abandoned, and nothing changes: the budget expires nevertheless, and the start
/// may still succeed.
#[test]
fn a_probable_failure_is_reported_once_and_does_not_end_the_start() {
    let mut fixture = created();
    fixture.hang_up(1);
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 pulling; creating 0 s"]);
    fixture.pass(9.0);
    // The two reasons alternate, and are one problem; readers get an event for each.
    fixture.world.pod("u1", waiting_pod("ImagePullBackOff"));
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 pulling"]);
    fixture.pass(1.0);
    assert_eq!(
        fixture.reported(),
        ["u1 probably failed ImagePullBackOff after 11 s"]
    );
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 pulling"]);
    fixture.pass(5.0);
    assert_eq!(fixture.reported(), NOTHING, "the failure is reported once");
    fixture.pass(15.0);
    fixture.world.ready("u1", "10.0.0.1");
    fixture.changed();
    assert_eq!(
        fixture.reported(),
        ["u1 recovered after 31 s; pulling 30 s; start ready"]
    );
}

#[test]
fn after_a_probable_failure_the_final_one_has_no_duration() {
    let mut fixture = created();
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    fixture.changed();
    fixture.pass(10.0);
    fixture.reported();
    fixture.world.pod("u1", waiting_pod("InvalidImageName"));
    fixture.changed();
    assert_eq!(
        fixture.reported(),
        ["u1 failed InvalidImageName; pulling 10 s; start failed InvalidImageName"]
    );
}

#[test]
fn a_start_that_recovers_is_not_reported_as_failed() {
    let mut fixture = created();
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    fixture.changed();
    fixture.pass(5.0);
    fixture.reported();
    fixture.world.ready("u1", "10.0.0.1");
    fixture.changed();
    assert_eq!(
        fixture.reported(),
        ["u1 ready after 6 s; pulling 5 s; start ready"]
    );
    fixture.pass(60.0);
    assert_eq!(fixture.reported(), NOTHING);
}

/// A replica that has just started may see instances before templates, and authors change them.
#[test]
fn a_change_of_the_budgets_holds_for_starts_that_there_are() {
    let mut fixture = created();
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    fixture.changed();
    fixture.pass(5.0);
    fixture.reported();
    let budget = json!({"config-controller.semafor.ch/start-budget.pull-error": "2s"});
    fixture.world.offer(budget);
    fixture.step(Input::CatalogChanged);
    assert_eq!(
        fixture.reported(),
        ["u1 probably failed ErrImagePull after 6 s"]
    );
}

/// The result of the call is older than what the cache shows by then, and may say nothing of it.
#[test]
fn what_is_ready_while_another_call_is_in_flight_is_told() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.stop(1), ["call read"]);
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    let (changed, mut out) = (CacheChange::of(n1()), Vec::new());
    let (context, coordinator) = (fixture.world.context(), &mut fixture.coordinator);
    coordinator.step(Input::Changed(vec![changed]), &context, &mut out);
    let is_ready = |effect: &Effect| matches!(effect, Effect::Report(event) if matches!(event.kind, LifecycleKind::Ready { .. }));
    assert!(out.iter().any(is_ready), "{out:?}");
}
