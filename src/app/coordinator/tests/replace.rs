//! Replacements: a stop that becomes a start when its deletion is accepted.

use super::{NOTHING, ready, starting};
use crate::app::Intent;
use crate::app::api_call::{Action, CallOutcome};
use crate::app::error::Error;
use crate::app::fixture::{Fixture, exists, key, lost, ready_pod, refused, throttled};
use crate::kube::error::Verb;
use serde_json::json;

/// The query that the call in flight creates a Job with, as pairs.
fn values(fixture: &Fixture) -> Vec<(String, String)> {
    match fixture.call() {
        Some(Action::CreateJob(new)) => {
            let values = new.variables.iter();
            values
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        }
        other => panic!("{other:?}"),
    }
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The instance that was there is gone, and the one in its place becomes ready.
fn succeeded(fixture: &mut Fixture) -> Vec<String> {
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    let mut lines = fixture.changed();
    fixture.world.job("u2", json!({}));
    lines.extend(fixture.done());
    fixture.world.pod("u2", ready_pod("10.0.0.7"));
    lines.extend(fixture.changed());
    lines
}

#[test]
fn an_instance_is_stopped_and_started_with_the_values_of_the_request() {
    let mut fixture = ready();
    assert_eq!(fixture.replace(2, "a=1"), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for bob"]);
    assert_eq!(values(&fixture), [pair("a", "1")]);
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.pod("u2", ready_pod("10.0.0.7"));
    assert_eq!(fixture.changed(), ["2: ready 10.0.0.7"]);
    fixture.check_idle();
}

#[test]
fn where_there_is_none_one_is_started() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.replace(1, ""), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["call create for bob"]);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.pod("u1", ready_pod("10.0.0.7"));
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.7"]);
    fixture.check_idle();
}

#[test]
fn what_cannot_be_started_stops_nothing() {
    for (app_type, query, error) in [
        ("zoned", "", "2: VariableMissing"),
        ("bad", "", "2: TemplateInvalid"),
        ("other", "", "2: UnknownType"),
    ] {
        let mut fixture = Fixture::new();
        let key = key(app_type, "n1");
        fixture.world.job_of(&key, "u1", json!({}));
        assert_eq!(fixture.replace_of(2, &key, query), [error], "{app_type}");
        fixture.check_idle();
    }
}

#[test]
fn what_the_caller_knows_must_be_there() {
    for outcome in [CallOutcome::Deleted { is_first: true }, CallOutcome::Absent] {
        let is_deleted = matches!(outcome, CallOutcome::Deleted { .. });
        let mut fixture = ready();
        assert_eq!(fixture.replace_if(2, "uid:u1"), ["call delete u1 for bob"]);
        if is_deleted {
            fixture.world.deleting("u1");
        } else {
            fixture.world.pod_gone("u1");
            fixture.world.job_gone("u1");
        }
        let failed: &[&str] = if is_deleted {
            &[]
        } else {
            &["2: PreconditionFailed"]
        };
        assert_eq!(fixture.ends(outcome), failed);
    }
    let mut fixture = ready();
    assert_eq!(fixture.replace_if(2, "uid:u0"), ["call read with pods"]);
    assert_eq!(fixture.done(), ["2: PreconditionFailed"]);
    let mut fixture = Fixture::new();
    assert_eq!(fixture.replace_if(1, "uid:u1"), ["call read with pods"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: PreconditionFailed"]);
}

/// Only a worker can render a template.
#[test]
fn values_that_cannot_be_rendered_reject_the_replacement_alone() {
    let mut fixture = ready();
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    assert_eq!(fixture.replace(3, "a=1"), NOTHING);
    fixture.fails(throttled(10));
    assert_eq!(fixture.pass(11.0), ["call delete u1 for bob"]);
    let outcome = CallOutcome::NotRendered(Error::VariableInvalid("a".into()));
    assert_eq!(
        fixture.ends(outcome),
        ["3: VariableInvalid", "call delete u1 for bob"]
    );
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["2: done"]);
    fixture.check_idle();
}

#[test]
fn waiters_for_what_is_replaced_get_the_one_in_its_place() {
    let mut fixture = starting();
    assert_eq!(fixture.get_meaning(2, Intent::Find), NOTHING);
    assert_eq!(fixture.replace(3, "a=1"), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    // The watch may be faster than the response.
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.get(4), NOTHING);
    assert_eq!(
        succeeded(&mut fixture),
        [
            "call create for bob",
            "1: ready 10.0.0.7",
            "2: ready 10.0.0.7",
            "3: ready 10.0.0.7",
            "4: ready 10.0.0.7"
        ]
    );
    fixture.check_idle();
}

#[test]
fn a_deletion_that_fails_stops_waiting_for_nobody() {
    let mut fixture = starting();
    assert_eq!(fixture.replace(2, ""), ["call delete u1 for bob"]);
    fixture.fails(refused());
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
}

#[test]
fn of_two_replacements_the_values_of_the_last_count() {
    let mut fixture = ready();
    assert_eq!(fixture.replace(2, "a=1"), ["call delete u1 for bob"]);
    assert_eq!(fixture.replace(3, "a=2"), NOTHING);
    fixture.world.deleting("u1");
    // It came after that call began.
    assert_eq!(fixture.done(), ["call delete u1 for bob"]);
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for bob"]);
    assert_eq!(values(&fixture), [pair("a", "2")]);
}

/// The second comes while the first one starts: it replaces that one, too, and both get its successor.
#[test]
fn a_replacement_replaces_that_of_another() {
    let mut fixture = starting();
    assert_eq!(fixture.replace(2, "a=1"), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    fixture.done();
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for bob"]);
    assert_eq!(fixture.replace(3, "a=2"), NOTHING);
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.done(), ["call delete u2 for bob"]);
    fixture.world.deleting("u2");
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.job_gone("u2");
    assert_eq!(fixture.changed(), ["call create for bob"]);
    assert_eq!(values(&fixture), [pair("a", "2")]);
    fixture.world.job("u3", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.pod("u3", ready_pod("10.0.0.7"));
    assert_eq!(
        fixture.changed(),
        [
            "1: ready 10.0.0.7",
            "2: ready 10.0.0.7",
            "3: ready 10.0.0.7"
        ]
    );
}

#[test]
fn one_that_is_being_deleted_is_waited_for() {
    let mut fixture = ready();
    fixture.world.deleting("u1");
    fixture.changed();
    assert_eq!(fixture.replace(2, ""), ["call delete u1 for bob"]);
    assert_eq!(
        fixture.ends(CallOutcome::Deleted { is_first: false }),
        NOTHING
    );
    assert_eq!(
        succeeded(&mut fixture),
        ["call create for bob", "2: ready 10.0.0.7"]
    );
}

#[test]
fn who_hangs_up_before_the_deletion_is_sent_stops_nothing() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get(1), ["call create for ann"]);
    assert_eq!(fixture.replace(2, ""), NOTHING);
    assert_eq!(fixture.hang_up(2), NOTHING);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.pod("u1", ready_pod("10.0.0.7"));
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.7"]);
    fixture.check_idle();
}

/// What was stopped is started, whether or not its caller still waits.
#[test]
fn who_hangs_up_after_it_has_a_new_one() {
    for is_accepted in [false, true] {
        let mut fixture = ready();
        assert_eq!(fixture.replace(2, "a=1"), ["call delete u1 for bob"]);
        if !is_accepted {
            assert_eq!(fixture.hang_up(2), NOTHING);
        }
        fixture.world.deleting("u1");
        assert_eq!(fixture.done(), NOTHING);
        if is_accepted {
            assert_eq!(fixture.hang_up(2), NOTHING);
        }
        assert_eq!(fixture.pass(1800.0), NOTHING);
        assert_eq!(succeeded(&mut fixture), ["call create for bob"]);
        assert!(fixture.coordinator.check().is_ok());
        assert_eq!(fixture.coordinator.holders(), 0);
    }
}

#[test]
fn a_caller_whose_wait_is_over_has_a_new_one_later() {
    let mut fixture = ready();
    assert_eq!(fixture.replace(2, ""), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.pass(10.0), ["2: node_not_ready Stopping"]);
    fixture.check_idle();
    assert_eq!(succeeded(&mut fixture), ["call create for bob"]);
    // It is not pending for ever, if pods do not end.
    let mut fixture = ready();
    fixture.replace(2, "");
    fixture.world.deleting("u1");
    fixture.done();
    fixture.pass(3700.0);
    assert_eq!(succeeded(&mut fixture), NOTHING);
}

/// A pending start does not undo a later stop.
#[test]
fn a_stop_ends_the_start_that_nobody_waits_for() {
    for wait in [None, Some(10)] {
        let mut fixture = ready();
        fixture.replace(2, "");
        fixture.world.deleting("u1");
        fixture.done();
        fixture.hang_up(2);
        assert_eq!(fixture.stop_and_wait(3, wait), ["call delete u1 for bob"]);
        let done: &[&str] = if wait.is_none() { &["3: done"] } else { &[] };
        assert_eq!(fixture.done(), done);
        fixture.world.pod_gone("u1");
        fixture.world.job_gone("u1");
        let gone: &[&str] = if wait.is_none() { &[] } else { &["3: done"] };
        assert_eq!(fixture.changed(), gone);
        fixture.check_idle();
    }
}

/// Many who do not wait for a pod that does not end leave one start.
#[test]
fn starts_without_callers_do_not_add_up() {
    let mut fixture = ready();
    fixture.world.deleting("u1");
    for n in 2..30 {
        fixture.replace(n, "");
        fixture.done();
        fixture.hang_up(n);
        assert!(fixture.coordinator.holders() <= 1);
    }
}

#[test]
fn another_that_was_faster_is_replaced_unless_it_has_the_same_values() {
    for (revision, expected) in [
        ("r", vec!["2: ready 10.0.0.7"]),
        ("s", vec!["call delete u2 for bob"]),
    ] {
        let mut fixture = ready();
        fixture.replace_with(2, "r");
        fixture.world.deleting("u1");
        fixture.done();
        fixture.world.pod_gone("u1");
        fixture.world.job_gone("u1");
        assert_eq!(fixture.changed(), ["call create for bob"]);
        let values = json!({"config-controller.semafor.ch/values-revision": revision});
        fixture
            .world
            .job("u2", json!({"metadata": {"annotations": values}}));
        fixture.world.pod("u2", ready_pod("10.0.0.7"));
        assert_eq!(fixture.fails(exists()), ["call read"]);
        assert_eq!(fixture.done(), expected, "{revision}");
    }
}

/// The response to the deletion is lost: it may have been carried out, and what follows is the same.
#[test]
fn a_lost_response_to_the_deletion_changes_nothing() {
    for is_gone in [false, true] {
        let mut fixture = ready();
        fixture.replace(2, "");
        fixture.fails(lost(Verb::Delete));
        if is_gone {
            fixture.world.pod_gone("u1");
            fixture.world.job_gone("u1");
            assert_eq!(fixture.changed(), ["call read"]);
            assert_eq!(fixture.ends(CallOutcome::Absent), ["call create for bob"]);
        } else {
            assert_eq!(fixture.pass(0.1), ["call delete u1 for bob"]);
            fixture.world.deleting("u1");
            assert_eq!(fixture.done(), NOTHING);
            assert_eq!(
                succeeded(&mut fixture),
                ["call create for bob", "2: ready 10.0.0.7"]
            );
        }
    }
}

#[test]
fn a_shutdown_begins_no_replacement() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.replace(2, "");
    let mut lines = fixture.drain();
    lines.sort();
    assert_eq!(lines, ["1: node_not_ready Admitting", "2: Draining"]);
    let mut fixture = ready();
    fixture.replace(2, "");
    assert_eq!(fixture.drain(), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["2: node_not_ready Stopping"]);
    fixture.check_idle();
    assert_eq!(fixture.coordinator.holders(), 0);
}
