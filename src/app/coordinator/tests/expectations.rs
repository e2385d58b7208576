//! Requests that expect something of the instance that is there.

use super::{NOTHING, handle, held, n1, origin};
use crate::app::Expectation;
use crate::app::api_call::CallOutcome;
use crate::app::coordinator::{Input, NewWaiter, Want};
use crate::app::fixture::Fixture;
use crate::app::request::Intent;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The patch of a Job that was made with the values of this revision.
fn made_with(revision: &str) -> Value {
    json!({"metadata": {"annotations": {"config-controller.semafor.ch/values-revision": revision}}})
}

impl Fixture {
    /// Request number `n` asks for scim/n1, made with the values of this revision; it waits for 10 s.
    fn get_with(&mut self, n: u64, revision: &str, intent: Intent) -> Vec<String> {
        self.step(Input::Requested(NewWaiter {
            is_patient: false,
            handle: handle(n),
            key: n1(),
            by: origin("ann"),
            held: held("ann"),
            deadline: self.world.instant() + Duration::from_secs(10),
            reads: None,
            expectation: Expectation::Values(revision.into()),
            want: Want::Instance(intent),
        }))
    }
}

fn start() -> Intent {
    Intent::Start(Arc::default())
}

#[test]
fn an_instance_made_with_other_values_is_refused() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", made_with("a"));
    // Also while it starts.
    assert_eq!(fixture.get_with(1, "b", start()), ["1: OtherValues"]);
    assert_eq!(fixture.get_with(2, "a", start()), NOTHING);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(
        fixture.get_with(3, "b", Intent::Find)[1..],
        ["3: OtherValues"]
    );
    assert_eq!(
        fixture.get_with(4, "a", Intent::Find),
        ["4: ready 10.0.0.1"]
    );
    fixture.check_idle();
}

#[test]
fn an_instance_that_does_not_say_is_returned() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.get_with(1, "a", start()), ["1: ready 10.0.0.1"]);
}

/// Two callers start the same name at once: the values of one are used, and the other hears of it.
#[test]
fn of_two_that_start_it_the_one_without_its_values_is_refused() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get_with(1, "a", start()), ["call create for ann"]);
    assert_eq!(fixture.get_with(2, "b", start()), NOTHING);
    fixture.world.job("u1", made_with("a"));
    assert_eq!(fixture.done(), ["2: OtherValues"]);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.1"]);
}

/// The next start uses the values of the request.
#[test]
fn an_instance_that_is_being_replaced_is_not_compared() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", made_with("a"));
    fixture.world.deleting("u1");
    assert_eq!(fixture.get_with(1, "b", start()), NOTHING);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann"]);
    fixture.world.job("u2", made_with("b"));
    fixture.world.ready("u2", "10.0.0.2");
    let outcome = CallOutcome::Created("u2".into(), "1".into());
    assert_eq!(fixture.ends(outcome), ["1: ready 10.0.0.2"]);
}

#[test]
fn a_failed_instance_is_reported_whatever_it_was_made_with() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", made_with("a"));
    fixture.world.ended("u1", "Failed", made_with("a"));
    assert_eq!(fixture.get_with(1, "b", start()), NOTHING);
    let report = fixture.pass(5.0);
    assert_eq!(report.len(), 1, "{report:?}");
    assert!(report[0].starts_with("1: app_error"), "{report:?}");
}
