//! Stops and labels, and what they do to those who wait.

use super::{NOTHING, starting};
use crate::app::api_call::CallOutcome;
use crate::app::fixture::{Fixture, conflict, invalid, lost, no_right, not_found, ready_pod, uid};
use crate::kube::error::Verb;
use serde_json::{Map, Value, json};

#[test]
fn a_stop_ends_those_who_wait_and_later_ones_start_anew() {
    let mut fixture = starting();
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["2: done", "1: Stopped"]);
    assert_eq!(fixture.get(3), NOTHING);
    // It may be gone by now, and another one be there, for all that is known.
    assert_eq!(fixture.stop(4), ["call delete u1 for bob"]);
    assert_eq!(fixture.done(), ["4: done"]);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann"]);
}

/// The cache lags behind: it shows a Job on its way out, and there is its successor.
#[test]
fn a_stop_of_what_is_on_its_way_out_hits_its_successor() {
    let mut fixture = starting();
    fixture.world.deleting("u1");
    fixture.changed();
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    assert_eq!(fixture.fails(conflict(Verb::Delete)), ["call read"]);
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.done(), ["call delete u2 for bob"]);
    fixture.world.deleting("u2");
    assert_eq!(fixture.done(), ["2: done"]);
}

#[test]
fn a_stop_that_the_watch_shows_ends_those_who_wait() {
    let mut fixture = starting();
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    // A Background deletion shows no deletion timestamp, and maybe the next Job at once.
    let mut fixture = starting();
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    let mut fixture = starting();
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
}

/// The answer to a deletion is late, and what it has deleted is long gone: whoever asks now
/// means what is there now.
#[test]
fn a_late_answer_to_a_deletion_is_for_those_who_had_asked_by_then() {
    for was_gone in [false, true] {
        let mut fixture = Fixture::new();
        fixture.world.ended("u1", "Failed", json!({}));
        fixture.changed();
        assert_eq!(fixture.stop(1), ["call delete u1 for bob"]);
        // Another replica has started the next one.
        fixture.world.job_gone("u1");
        fixture.world.job("u2", json!({}));
        assert_eq!(fixture.changed(), NOTHING);
        assert_eq!(fixture.stop(2), NOTHING);
        let late = if was_gone {
            fixture.ends(CallOutcome::Found(uid("u2")))
        } else {
            fixture.done()
        };
        assert_eq!(late, ["1: done", "call delete u2 for bob"]);
        fixture.world.deleting("u2");
        assert_eq!(fixture.done(), ["2: done"]);
        fixture.check_idle();
    }
}

/// The answer to a read is late, and the Job has been made since: whoever asks now means that.
#[test]
fn a_late_answer_to_a_read_is_for_those_who_had_asked_by_then() {
    for outcome in [CallOutcome::Absent, CallOutcome::NameConflict] {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.stop(1), ["call read"]);
        assert_eq!(fixture.stop(2), NOTHING);
        assert_eq!(fixture.label(3), NOTHING);
        assert_eq!(fixture.ends(outcome), ["1: NoInstance", "call read"]);
        fixture.world.job("u1", json!({}));
        assert_eq!(fixture.done(), ["call delete u1 for bob"]);
        fixture.world.deleting("u1");
        assert_eq!(fixture.done(), ["2: done"]);
    }
}

#[test]
fn a_suspended_job_that_goes_was_a_limit() {
    let mut fixture = starting();
    fixture.world.job("u1", json!({"spec": {"suspend": true}}));
    assert_eq!(fixture.changed(), NOTHING);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["1: LimitReached"]);
}

#[test]
fn a_stop_during_a_create() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.stop(2), NOTHING);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["2: done", "1: Stopped"]);
    fixture.check_idle();
}

#[test]
fn a_stop_during_a_create_whose_answer_is_lost() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.stop(2);
    // Another kind of call does not wait for the pause of the first.
    assert_eq!(fixture.fails(lost(Verb::Create)), ["call read"]);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), ["call delete u1 for bob"]);
}

#[test]
fn what_the_view_does_not_show_is_read_first() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.stop(1), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: NoInstance"]);
    fixture.check_idle();
    assert_eq!(fixture.stop(2), ["call read"]);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["2: done"]);
    fixture.check_idle();
    let mut fixture = Fixture::new();
    assert_eq!(fixture.label(1), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: NoInstance"]);
    assert_eq!(fixture.label(2), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::NameConflict), ["2: NoInstance"]);
    fixture.check_idle();
}

#[test]
fn who_only_waits_does_not_hear_that_a_stop_found_nothing() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.stop(1), ["call read"]);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(
        fixture.ends(CallOutcome::Absent),
        ["1: NoInstance", "call create for ann"]
    );
}

#[test]
fn a_stop_of_what_is_gone_or_another() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.stop(1), ["call delete u1 for bob"]);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: done"]);
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.stop(2), ["call delete u2 for bob"]);
    assert_eq!(fixture.fails(conflict(Verb::Delete)), ["call read"]);
    fixture.world.job("u3", json!({}));
    assert_eq!(fixture.done(), ["call delete u3 for bob"]);
}

#[test]
fn a_stop_that_cannot_be() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.get(1);
    fixture.stop(2);
    fixture.fails(no_right(Verb::Delete));
    fixture.pass(0.1);
    fixture.fails(no_right(Verb::Delete));
    fixture.pass(2.0);
    // Who waits for the instance does not hear of it.
    assert_eq!(fixture.fails(no_right(Verb::Delete)), ["2: NotPermitted"]);
    assert_eq!(fixture.pass(10.0), ["1: node_not_ready NoPod"]);
    fixture.check_idle();
}

#[test]
fn a_label_is_put_on_the_pod() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.label(1), ["call label p-u1"]);
    assert_eq!(fixture.label(2), NOTHING);
    assert_eq!(fixture.done(), ["1: done", "call label p-u1"]);
    assert_eq!(fixture.done(), ["2: done"]);
    fixture.check_idle();
}

#[test]
fn a_label_waits_for_the_pod() {
    let mut fixture = starting();
    assert_eq!(fixture.label(2), NOTHING);
    fixture.world.pod("u1", json!({}));
    assert_eq!(fixture.changed(), ["call label p-u1"]);
    assert_eq!(fixture.done(), ["2: done"]);
    // In vain: as for none.
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.label(1), NOTHING);
    assert_eq!(fixture.pass(10.0), ["1: NoInstance"]);
    assert_eq!(fixture.wakes, 1);
    fixture.check_idle();
}

#[test]
fn a_label_on_a_job_that_ended_without_a_pod() {
    let mut fixture = Fixture::new();
    fixture.world.ended("u1", "Failed", json!({}));
    assert_eq!(fixture.label(1), ["1: NoInstance"]);
}

#[test]
fn a_label_on_a_pod_that_was_replaced() {
    for error in [conflict(Verb::Patch), not_found(Verb::Patch)] {
        let mut fixture = Fixture::new();
        fixture.world.job("u1", json!({}));
        fixture.world.ready("u1", "10.0.0.1");
        fixture.label(1);
        assert_eq!(fixture.fails(error), NOTHING);
        assert_eq!(fixture.pass(0.1), ["call label p-u1"]);
    }
}

/// A pod with `count` meta labels.
fn pod_with_labels(count: usize) -> Value {
    let labels: Map<String, Value> = (0..count)
        .map(|n| {
            (
                format!("config-controller.semafor.ch/meta-k{n}"),
                json!("v"),
            )
        })
        .collect();
    let mut pod = ready_pod("10.0.0.1");
    pod["metadata"] = json!({"labels": labels});
    pod
}

#[test]
fn labels_above_the_bound_are_refused_by_what_the_pod_has_when_their_turn_comes() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.pod("u1", pod_with_labels(63));
    let called = fixture.label_with(1, &json!({"first": "v"}));
    assert_eq!(called, ["call label p-u1"]);
    assert_eq!(fixture.label_with(2, &json!({"second": "v"})), NOTHING);
    assert_eq!(fixture.label_with(3, &json!({"k0": null})), NOTHING);
    fixture.world.pod("u1", pod_with_labels(64));
    let done = fixture.done();
    assert_eq!(done, ["1: done", "2: LabelsLimit", "call label p-u1"]);
    fixture.world.pod("u1", pod_with_labels(63));
    assert_eq!(fixture.done(), ["3: done"]);
    fixture.check_idle();
}

#[test]
fn an_instance_above_the_bound_on_labels_can_be_made_smaller() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.pod("u1", pod_with_labels(70));
    assert_eq!(
        fixture.label_with(1, &json!({"new": "v"})),
        ["1: LabelsLimit"]
    );
    let called = fixture.label_with(2, &json!({"k1": null}));
    assert_eq!(called, ["call label p-u1"]);
}

#[test]
fn a_label_that_is_refused_hurts_nobody_else() {
    let mut fixture = Fixture::new();
    fixture.world.deleting("u1");
    fixture.world.pod("u1", json!({}));
    assert_eq!(fixture.get(1), NOTHING);
    assert_eq!(fixture.label(2), ["call label p-u1"]);
    assert_eq!(fixture.label(3), NOTHING);
    assert_eq!(
        fixture.fails(invalid(Verb::Patch)),
        ["2: ReservedKey", "call label p-u1"]
    );
    fixture.pass(2.0);
    fixture.fails(no_right(Verb::Patch));
    for _ in 0..5 {
        fixture.pass(1.0);
        fixture.fails(no_right(Verb::Patch));
    }
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann"]);
}

/// What was carried out is never reported as failed, however short the wait of its request.
#[test]
fn a_change_whose_call_is_under_way_is_waited_for() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    let body = json!({"username": "bob"});
    assert_eq!(fixture.label_and_wait(1, &body, 0), ["call label p-u1"]);
    assert_eq!(fixture.pass(60.0), NOTHING);
    assert_eq!(fixture.done(), ["1: done"]);
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    assert_eq!(fixture.pass(60.0), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["2: done"]);
    fixture.check_idle();
}

/// A change that fails is retried for ten seconds, whatever the wait of its request.
#[test]
fn a_change_has_a_time_of_its_own() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    let body = json!({"username": "bob"});
    assert_eq!(fixture.label_and_wait(1, &body, 0), ["call label p-u1"]);
    assert_eq!(fixture.fails(not_found(Verb::Patch)), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call label p-u1"]);
    assert_eq!(fixture.fails(not_found(Verb::Patch)), NOTHING);
    fixture.world.pod_gone("u1");
    fixture.changed();
    assert_eq!(fixture.pass(9.8), NOTHING);
    assert_eq!(fixture.pass(0.1), ["1: NoInstance"]);
    // Without a pod it waits for one as long as it says.
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.label_and_wait(1, &body, 0), ["1: NoInstance"]);
    assert_eq!(fixture.label_and_wait(2, &body, 30), NOTHING);
    assert_eq!(fixture.pass(29.0), NOTHING);
    fixture.world.pod("u1", json!({}));
    assert_eq!(fixture.changed(), ["call label p-u1"]);
    assert_eq!(fixture.fails(not_found(Verb::Patch)), NOTHING);
    assert_eq!(fixture.pass(9.9).last().unwrap(), "call label p-u1");
}

/// Pods that come and go do not keep a request waiting for ever.
#[test]
fn the_time_of_a_change_runs_once() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.label(1);
    for n in 0..4 {
        let pod = json!({"metadata": {"name": format!("p{n}"), "uid": format!("p{n}")}});
        fixture.world.pod("u1", pod);
        assert_eq!(fixture.changed(), [format!("call label p{n}")]);
        assert_eq!(fixture.fails(not_found(Verb::Patch)), NOTHING);
        drop(
            fixture
                .world
                .pods
                .own_delete(&format!("p{n}"), &uid(&format!("p{n}"))),
        );
        fixture.changed();
        fixture.pass(2.4);
    }
    assert_eq!(fixture.pass(0.4), ["1: NoInstance"]);
}

/// The response to a deletion was lost, which was carried out.
#[test]
fn a_deletion_whose_response_was_lost_is_done_once_its_job_has_gone() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.stop(1), ["call delete u1 for bob"]);
    assert_eq!(fixture.fails(lost(Verb::Delete)), NOTHING);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: done"]);
    assert_eq!(fixture.reported(), ["u1 stopping for bob", "u1 gone"]);
    // Another Job may have been there at the request: the cache lags behind.
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.stop(1), ["call delete u1 for bob"]);
    assert_eq!(fixture.fails(lost(Verb::Delete)), NOTHING);
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.changed(), ["call read"]);
    assert_eq!(fixture.done(), ["call delete u2 for bob"]);
    fixture.world.deleting("u2");
    assert_eq!(fixture.done(), ["1: done"]);
    // Where it was not carried out, it is retried.
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.stop(1), ["call delete u1 for bob"]);
    assert_eq!(fixture.fails(lost(Verb::Delete)), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.done(), ["1: done"]);
}
