//! Stops and labels, and their effect on waiters.

use super::{NOTHING, ready, starting};
use crate::app::api_call::CallOutcome;
use crate::app::coordinator::Limits;
use crate::app::fixture::{
    Fixture, ROOMY, conflict, invalid, key, lost, no_right, not_found, ready_pod, uid, unavailable,
};
use crate::kube::error::Verb;
use serde_json::{Map, Value, json};

#[test]
fn a_stop_resolves_waiters_and_later_requests_start_again() {
    let mut fixture = starting();
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["2: done", "1: Stopped"]);
    assert_eq!(fixture.get(3), NOTHING);
    // It may be gone by now, and another one may exist; the replica does not know.
    assert_eq!(fixture.stop(4), ["call delete u1 for bob"]);
    assert_eq!(fixture.done(), ["4: done"]);
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann"]);
}

/// The cache lags: it shows a Job that is being deleted, while its successor exists.
#[test]
fn a_stop_of_a_deleted_job_stops_its_successor() {
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
fn a_stop_observed_by_the_watch_resolves_waiters() {
    let mut fixture = starting();
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    // A background deletion shows no deletion timestamp, and the next event may already be the next
    // Job.
    let mut fixture = starting();
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    let mut fixture = starting();
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
}

/// The response to a deletion is late, and the deleted Job is long gone. A new request means the
/// current Job.
#[test]
fn a_late_response_to_a_deletion_resolves_only_earlier_requests() {
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

/// The response to a read is late, and the Job was created since. A new request means that Job.
#[test]
fn a_late_response_to_a_read_resolves_only_earlier_requests() {
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
fn a_suspended_job_that_is_deleted_is_reported_as_limit_reached() {
    let mut fixture = starting();
    fixture.world.job("u1", json!({"spec": {"suspend": true}}));
    assert_eq!(fixture.changed(), NOTHING);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["1: LimitReached"]);
}

#[test]
fn a_stop_during_a_create_waits_for_the_create() {
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
fn a_stop_during_a_create_with_a_lost_response_reads_first() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.stop(2);
    // Another kind of call does not wait for the pause of the first.
    assert_eq!(fixture.fails(lost(Verb::Create)), ["call read"]);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), ["call delete u1 for bob"]);
}

#[test]
fn a_change_of_an_instance_absent_in_the_cache_reads_first() {
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
fn a_stop_that_finds_nothing_does_not_resolve_starts() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.stop(1), ["call read"]);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(
        fixture.ends(CallOutcome::Absent),
        ["1: NoInstance", "call create for ann"]
    );
}

#[test]
fn a_stop_of_a_gone_or_replaced_job() {
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
fn a_stop_without_permission_fails_only_the_stop() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.get(1);
    fixture.stop(2);
    fixture.fails(no_right(Verb::Delete));
    fixture.pass(0.1);
    fixture.fails(no_right(Verb::Delete));
    fixture.pass(2.0);
    // Waiters for the instance do not get this error.
    assert_eq!(fixture.fails(no_right(Verb::Delete)), ["2: NotPermitted"]);
    assert_eq!(fixture.pass(10.0), ["1: node_not_ready NoPod"]);
    fixture.check_idle();
}

#[test]
fn a_label_is_written_to_the_pod() {
    let mut fixture = ready();
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
    // Without a pod in time: as without an instance.
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
        let mut fixture = ready();
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
fn labels_above_the_bound_are_refused_by_the_labels_at_the_call() {
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
fn labels_of_an_instance_above_the_bound_can_be_removed() {
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
fn a_refused_label_fails_only_its_request() {
    let mut fixture = Fixture::new();
    fixture.world.deleting("u1");
    fixture.world.pod("u1", json!({}));
    assert_eq!(fixture.get(1), NOTHING);
    assert_eq!(fixture.label(2), ["call label p-u1"]);
    assert_eq!(fixture.label(3), NOTHING);
    assert_eq!(
        fixture.fails(invalid(Verb::Patch)),
        ["2: ValueInvalid", "call label p-u1"]
    );
    fixture.pass(2.0);
    fixture.fails(no_right(Verb::Patch));
    for _ in 0..5 {
        fixture.pass(1.0);
        fixture.fails(no_right(Verb::Patch));
    }
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann"]);
}

/// Replaced pods do not keep a request waiting for ever.
#[test]
fn the_deadline_of_a_change_is_set_once() {
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

/// The deletion was carried out, but its response was lost.
#[test]
fn a_deletion_with_a_lost_response_is_done_once_its_job_is_gone() {
    let mut fixture = ready();
    assert_eq!(fixture.stop(1), ["call delete u1 for bob"]);
    assert_eq!(fixture.fails(lost(Verb::Delete)), NOTHING);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["1: done"]);
    assert_eq!(fixture.reported(), ["u1 stopping for bob", "u1 gone"]);
    // Another Job may have existed at the request: the cache lags.
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

/// The watch shows the pod of this name of the Job `u1`; its creation time is now. Callers have
/// given it a user name, or not.
fn show_pod(fixture: &mut Fixture, name: &str, is_labelled: bool) {
    let mut pod = ready_pod("10.0.0.1");
    pod["metadata"] = json!({"name": name, "uid": name});
    if is_labelled {
        pod["metadata"]["labels"] = json!({"config-controller.semafor.ch/meta-username": "bob"});
    }
    fixture.world.pod("u1", pod);
}

/// The watch shows that this pod, which has a meta label, is being deleted.
fn pod_leaves(fixture: &mut Fixture, name: &str) {
    let stamp = fixture.world.stamp();
    fixture.world.pod(
        "u1",
        json!({"metadata": {
            "name": name, "uid": name, "deletionTimestamp": stamp,
            "labels": {"config-controller.semafor.ch/meta-username": "bob"},
        }}),
    );
}

fn hide_pod(fixture: &Fixture, name: &str) {
    drop(fixture.world.pods.own_delete(name, &uid(name)));
}

/// A fixture in which the only pod of the Job `u1` is `p1`, which has a meta label.
fn labelled() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    show_pod(&mut fixture, "p1", true);
    assert_eq!(fixture.changed(), NOTHING);
    fixture.pass(1.0);
    fixture
}

#[test]
fn a_pod_gets_the_meta_labels_of_the_one_that_it_replaces() {
    for was_gone in [false, true] {
        let mut fixture = labelled();
        pod_leaves(&mut fixture, "p1");
        assert_eq!(fixture.changed(), NOTHING);
        if was_gone {
            hide_pod(&fixture, "p1");
            assert_eq!(fixture.changed(), NOTHING);
        }
        show_pod(&mut fixture, "p2", false);
        assert_eq!(fixture.changed(), ["call label p2"]);
        assert_eq!(fixture.changed(), NOTHING, "one call is enough");
        show_pod(&mut fixture, "p2", true);
        assert_eq!(fixture.done(), NOTHING);
        assert_eq!(fixture.changed(), NOTHING);
        // A caller removes the label: it does not come back, neither here nor in the next pod.
        show_pod(&mut fixture, "p2", false);
        assert_eq!(fixture.changed(), NOTHING);
        assert_eq!(fixture.changed(), NOTHING);
        fixture.pass(1.0);
        hide_pod(&fixture, "p1");
        hide_pod(&fixture, "p2");
        show_pod(&mut fixture, "p3", false);
        assert_eq!(fixture.changed(), NOTHING);
        fixture.check_idle();
    }
}

#[test]
fn a_pod_that_appears_during_the_call_for_another_gets_the_meta_labels() {
    let mut fixture = labelled();
    pod_leaves(&mut fixture, "p1");
    show_pod(&mut fixture, "p2", false);
    assert_eq!(fixture.changed(), ["call label p2"]);
    fixture.pass(1.0);
    pod_leaves(&mut fixture, "p2");
    show_pod(&mut fixture, "p3", false);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.done(), ["call label p3"]);
    show_pod(&mut fixture, "p3", true);
    assert_eq!(fixture.done(), NOTHING);
}

/// Somebody makes a pod beside that of the Job controller, with all its marks, and the Job controller
/// removes it.
#[test]
fn a_pod_that_was_made_beside_another_passes_on_no_meta_labels() {
    for is_first in [true, false] {
        for is_seen_alone in [true, false] {
            let mut fixture = Fixture::new();
            fixture.world.job("u1", json!({}));
            let (first, second) = if is_first { ("p2", "p1") } else { ("p1", "p2") };
            show_pod(&mut fixture, first, first == "p2");
            if is_seen_alone {
                fixture.changed();
            }
            show_pod(&mut fixture, second, second == "p2");
            if is_seen_alone {
                assert_eq!(fixture.changed(), NOTHING);
            }
            pod_leaves(&mut fixture, "p2");
            assert_eq!(fixture.changed(), NOTHING);
            hide_pod(&fixture, "p2");
            assert_eq!(fixture.changed(), NOTHING);
            fixture.pass(1.0);
            assert_eq!(fixture.changed(), NOTHING);
        }
    }
}

#[test]
fn a_pod_that_is_being_deleted_leaves_the_meta_labels_to_the_next() {
    let mut fixture = labelled();
    hide_pod(&fixture, "p1");
    let leaving = json!({"metadata": {
        "name": "p2", "uid": "p2", "deletionTimestamp": fixture.world.stamp(),
    }});
    fixture.world.pod("u1", leaving);
    assert_eq!(fixture.changed(), NOTHING);
    hide_pod(&fixture, "p2");
    show_pod(&mut fixture, "p3", false);
    assert_eq!(fixture.changed(), ["call label p3"]);
}

#[test]
fn the_pod_of_the_next_job_gets_no_meta_labels() {
    let mut fixture = labelled();
    fixture.world.job("u2", json!({}));
    fixture.world.ready("u2", "10.0.0.2");
    assert_eq!(fixture.changed(), NOTHING);
    let mut fixture = labelled();
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.changed(), NOTHING);
    fixture.world.ready("u2", "10.0.0.2");
    assert_eq!(fixture.changed(), NOTHING);
}

#[test]
fn labelling_a_new_pod_is_retried_for_ten_seconds() {
    let mut fixture = labelled();
    pod_leaves(&mut fixture, "p1");
    show_pod(&mut fixture, "p2", false);
    assert_eq!(fixture.changed(), ["call label p2"]);
    hide_pod(&fixture, "p1");
    for pause in [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0] {
        assert_eq!(fixture.fails(unavailable(Verb::Patch)), NOTHING);
        assert_eq!(fixture.pass(pause), ["call label p2"]);
    }
    assert_eq!(fixture.fails(unavailable(Verb::Patch)), NOTHING);
    assert_eq!(fixture.pass(60.0), NOTHING);
    fixture.check_idle();
}

#[test]
fn a_replica_at_its_limit_or_shutting_down_labels_no_new_pod() {
    let mut fixture = labelled();
    fixture.drain();
    show_pod(&mut fixture, "p2", false);
    assert_eq!(fixture.changed(), NOTHING);
    let mut fixture = Fixture::with_limits(Limits {
        parked_max: 1,
        ..ROOMY
    });
    fixture.get_of(1, &key("scim", "n2"), "", 300);
    fixture.world.job("u1", json!({}));
    show_pod(&mut fixture, "p1", true);
    fixture.changed();
    fixture.pass(1.0);
    show_pod(&mut fixture, "p2", false);
    assert_eq!(fixture.changed(), NOTHING);
}
