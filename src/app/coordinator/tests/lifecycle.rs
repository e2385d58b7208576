//! Lifecycle events: each step of a Job once, in order, and the end of our own starts.

use super::{NOTHING, ready, stuck};
use crate::app::Expectation;
use crate::app::coordinator::{CacheChange, Effect, Input, NewWaiter, Want};
use crate::app::fixture::{
    Fixture, get_now, handle, lost, n1, origin, refused, trace, unavailable, waiting_pod,
};
use crate::app::{Intent, Origin, Response};
use crate::kube::error::Verb;
use crate::kube::types::Uid;
use crate::model::status::TERMINATION_REPORT_WAIT;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A fixture in which the Job `u1` was created a second after its call, and that was reported.
pub(super) fn created() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.get_of(1, &n1(), "", 300);
    fixture.world.job("u1", json!({}));
    fixture.pass(1.0);
    fixture.done();
    assert_eq!(
        fixture.reported(),
        ["- requested", "u1 created; admitting 1 s"]
    );
    fixture
}

#[test]
fn a_start_is_reported_phase_by_phase_and_ends_once() {
    let mut fixture = created();
    fixture.pass(2.0);
    fixture.world.pod("u1", json!({}));
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 scheduling; creating 2 s"]);
    fixture.pass(3.0);
    let pulling = waiting_pod("ContainerCreating");
    fixture.world.pod("u1", pulling.clone());
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 pulling; scheduling 3 s"]);
    fixture.world.pod("u1", pulling);
    fixture.changed();
    assert_eq!(fixture.reported(), NOTHING, "nothing is new");
    fixture.pass(4.0);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.1"]);
    assert_eq!(
        fixture.reported(),
        ["u1 ready after 10 s; pulling 4 s; start ready"]
    );
    fixture.changed();
    fixture.pass(60.0);
    assert_eq!(fixture.reported(), NOTHING, "it is reported once");
    fixture.check_idle();
}

/// The cache may show the Job before the call has returned that it made it.
#[test]
fn a_job_that_was_seen_before_the_response_to_its_creation_is_created_and_not_stopped() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.world.job("u1", json!({}));
    fixture.listed();
    fixture.done();
    let created = ["- requested", "u1 created; admitting 0 s"];
    assert_eq!(fixture.reported(), created);
}

#[test]
fn a_failure_ends_the_start_with_the_pods_reason() {
    let mut fixture = created();
    fixture.pass(5.0);
    fixture.world.ended("u1", "Failed", json!({}));
    fixture.changed();
    assert_eq!(fixture.reported(), NOTHING);
    fixture.pass(TERMINATION_REPORT_WAIT.as_secs_f64());
    let failed = "u1 failed BackoffLimitExceeded after 6.5 s; creating 5.5 s; start failed BackoffLimitExceeded";
    assert_eq!(fixture.reported(), [failed]);
    fixture.changed();
    assert_eq!(fixture.reported(), NOTHING);
}

/// A Job with retries deletes its pod when it fails.
#[test]
fn a_failure_has_the_reason_of_its_deleted_pod() {
    for is_gone in [false, true] {
        let mut fixture = created();
        let crashing = json!({"spec": {"restartPolicy": "OnFailure"}, "status": {
            "phase": "Running",
            "conditions": [{"type": "PodScheduled", "status": "True"}],
            "containerStatuses": [{"name": "app", "state": {"running": {}},
                "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}}],
        }});
        fixture.world.pod("u1", crashing);
        fixture.changed();
        if is_gone {
            fixture.world.pod_gone("u1");
            fixture.changed();
        }
        fixture.reported();
        fixture.world.ended("u1", "Failed", json!({}));
        fixture.changed();
        let reported = fixture.reported().pop().unwrap();
        assert!(reported.starts_with("u1 failed Error"), "{reported}");
    }
}

#[test]
fn an_end_before_ready_is_reported_for_every_exit_code() {
    let mut fixture = created();
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.changed();
    let finished = "u1 finished Completed after 1 s; creating 0 s; start finished Completed";
    assert_eq!(fixture.reported(), [finished]);
}

/// It ends while the durations of the ready start are still kept for responses.
#[test]
fn an_end_soon_after_ready_is_reported_once() {
    for (condition, reported) in [
        ("Complete", "u1 finished Completed"),
        ("Failed", "u1 failed BackoffLimitExceeded"),
    ] {
        let mut fixture = created();
        fixture.world.ready("u1", "10.0.0.1");
        fixture.changed();
        fixture.pass(2.0);
        fixture.reported();
        fixture.world.pod_gone("u1");
        fixture.world.ended("u1", condition, json!({}));
        fixture.changed();
        fixture.pass(1.0);
        assert_eq!(fixture.reported(), [reported]);
        fixture.pass(60.0);
        fixture.changed();
        assert_eq!(fixture.reported(), NOTHING);
    }
}

#[test]
fn a_deleted_job_ends_its_start_as_stopped() {
    let mut fixture = created();
    fixture.pass(2.0);
    fixture.world.deleting("u1");
    fixture.changed();
    let stopping = "u1 stopping; creating 2 s; start stopped";
    assert_eq!(fixture.reported(), [stopping]);
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 gone"]);
    // A background deletion shows no deletion timestamp, and the next event may already be the next
    // Job.
    let mut fixture = created();
    fixture.pass(2.0);
    fixture.world.job("u2", json!({}));
    fixture.changed();
    assert_eq!(
        fixture.reported(),
        ["u1 gone; creating 2 s; start stopped", "u2 creating"]
    );
}

#[test]
fn our_own_stop_is_reported_once_with_its_cause() {
    let mut fixture = created();
    fixture.world.ready("u1", "10.0.0.1");
    fixture.changed();
    fixture.reported();
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    // The watch may be ahead of the response.
    fixture.world.deleting("u1");
    fixture.changed();
    assert_eq!(fixture.reported(), NOTHING);
    assert_eq!(fixture.done(), ["2: done"]);
    assert_eq!(fixture.reported(), ["u1 stopping for bob"]);
    fixture.changed();
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 gone"]);
    // It may even have gone by then.
    let mut fixture = created();
    fixture.world.ready("u1", "10.0.0.1");
    fixture.changed();
    fixture.reported();
    fixture.stop(2);
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.reported(), NOTHING);
    fixture.done();
    assert_eq!(fixture.reported(), ["u1 stopping for bob", "u1 gone"]);
}

#[test]
fn a_replacement_is_reported_with_its_cause() {
    let mut fixture = Fixture::new();
    fixture.pass(60.0);
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 finished Completed"]);
    assert_eq!(fixture.get(1), ["call replace u1"]);
    fixture.world.deleting("u1");
    fixture.done();
    assert_eq!(fixture.reported(), ["u1 stopping, replaced"]);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann"]);
    assert_eq!(fixture.reported(), ["u1 gone", "- requested"]);
}

#[test]
fn an_instance_first_seen_ready_is_not_reported() {
    let mut fixture = ready();
    fixture.changed();
    assert_eq!(fixture.reported(), NOTHING);
    assert!(
        fixture.coordinator.records.is_empty(),
        "and costs no memory"
    );
    // Its end is.
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 gone"]);
}

/// A starting replica reports nothing of what it finds, in any order of the lists.
#[test]
fn instances_of_the_first_list_are_not_reported() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.listed();
    fixture.world.ready("u1", "10.0.0.1");
    fixture.listed();
    assert_eq!(fixture.reported(), NOTHING);
    assert!(fixture.coordinator.records.is_empty());
    let mut fixture = Fixture::new();
    fixture.world.ended("u1", "Failed", json!({}));
    fixture.pass(1.0);
    fixture.listed();
    fixture.changed();
    fixture.pass(60.0);
    assert_eq!(fixture.reported(), NOTHING);
    assert_eq!(fixture.wakes, 0, "nothing is left to report");
    // What comes of it later is.
    fixture.world.deleting("u1");
    fixture.changed();
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 stopping", "u1 gone"]);
}

/// A start of another replica has no times, and no end of its own.
#[test]
fn the_start_of_another_replica_is_followed_without_times() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.changed();
    fixture.pass(3.0);
    fixture.world.pod("u1", waiting_pod("ContainerCreating"));
    fixture.changed();
    fixture.world.ready("u1", "10.0.0.1");
    fixture.changed();
    assert_eq!(
        fixture.reported(),
        ["u1 creating", "u1 pulling", "u1 ready"]
    );
    assert!(fixture.coordinator.records.is_empty());
}

#[test]
fn a_failed_creation_is_reported_unless_retried() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(unavailable(Verb::Create));
    assert_eq!(fixture.reported(), ["- requested"]);
    fixture.pass(0.1);
    fixture.fails(refused());
    assert_eq!(
        fixture.reported(),
        ["- requested", "- not created; start denied refused"]
    );
}

/// The next Job of a name may be created before the end of the one before was seen.
#[test]
fn a_start_with_an_unseen_end_is_reported_as_stopped() {
    let mut fixture = created();
    fixture.stop(2);
    fixture.world.job_gone("u1");
    // The change of the cache is still on its way to the coordinator.
    let gone: Vec<Uid> = fixture.take_gone();
    fixture.done();
    assert_eq!(
        fixture.reported()[0],
        "u1 stopping for bob; creating 0 s; start stopped"
    );
    fixture.get(3);
    fixture.world.job("u2", json!({}));
    fixture.done();
    let reported = fixture.reported();
    assert!(
        reported.contains(&"u2 created; admitting 0 s".to_owned()),
        "{reported:?}"
    );
    fixture.job_gone(&gone[0]);
    assert_eq!(fixture.reported(), ["u1 gone"]);
}

#[test]
fn a_shutdown_reports_pending_starts_as_unfinished() {
    let mut fixture = created();
    fixture.drain();
    assert_eq!(
        fixture.reported(),
        ["u1 unfollowed; start unknown replica_ended"]
    );
    // Also where the response to its call comes last.
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.drain();
    fixture.world.job("u1", json!({}));
    fixture.done();
    let reported = fixture.reported();
    assert_eq!(
        reported[2..],
        ["u1 unfollowed; start unknown replica_ended"]
    );
}

#[test]
fn a_force_deletion_is_reported_once() {
    let mut fixture = stuck();
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["call remove p-u1"]);
    assert_eq!(
        fixture.reported().pop().unwrap(),
        "u1 stopping, stuck; creating 30 s; start stopped"
    );
    fixture.done();
    assert_eq!(fixture.reported(), ["u1 force-deleted p-u1"]);
    fixture.pass(5.0);
    fixture.done();
    assert_eq!(fixture.reported(), NOTHING);
}

/// A response has the reported durations for a short time after the start, then those from the
/// pod's timestamps.
#[test]
fn responses_have_the_durations_of_the_phases() {
    let timings = |fixture: &mut Fixture, n: u64| -> Option<Vec<(String, u64)>> {
        let mut out = Vec::new();
        let request = get_now(n, fixture.world.instant());
        fixture
            .coordinator
            .step(request, &fixture.world.context(), &mut out);
        let response = out.into_iter().find_map(|effect| match effect {
            Effect::Respond(to, response) if to == handle(n) => Some(response),
            _ => None,
        });
        let (Response::Ready { timings, .. } | Response::Progress { timings, .. }) = response?
        else {
            return None;
        };
        let shown = timings?;
        let shown = shown
            .iter()
            .map(|(phase, took)| (phase.as_str().to_owned(), took.as_secs()));
        Some(shown.collect())
    };
    let owned = |all: &[(&str, u64)]| -> Vec<(String, u64)> {
        all.iter().map(|(p, s)| ((*p).to_owned(), *s)).collect()
    };
    let mut fixture = created();
    fixture.pass(2.0);
    fixture.world.pod("u1", json!({}));
    let so_far = owned(&[("admitting", 1), ("creating", 2), ("scheduling", 0)]);
    assert_eq!(timings(&mut fixture, 2), Some(so_far));
    fixture.pass(4.0);
    fixture.world.ready("u1", "10.0.0.1");
    let ready = timings(&mut fixture, 3).unwrap();
    assert_eq!(ready[2], ("scheduling".to_owned(), 4));
    assert_eq!(ready.last(), Some(&("readying".to_owned(), 0)));
    fixture.pass(4.9);
    assert_eq!(timings(&mut fixture, 4), Some(ready));
    fixture.pass(0.1);
    let of_pod: Vec<(String, u64)> = timings(&mut fixture, 5).unwrap();
    assert_eq!(of_pod[0].0, "scheduling");
}

/// The watch is ahead of the response to the POST.
#[test]
fn events_ahead_of_the_create_response_are_reported_after_it() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.world.job("u1", json!({}));
    fixture.changed();
    fixture.world.pod("u1", waiting_pod("ContainerCreating"));
    fixture.changed();
    assert_eq!(fixture.reported(), ["- requested"]);
    fixture.done();
    assert_eq!(
        fixture.reported(),
        ["u1 created; admitting 0 s", "u1 pulling; creating 0 s"]
    );
    // It may have gone by then: nothing is left of it.
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.hang_up(1);
    fixture.world.job("u1", json!({}));
    fixture.changed();
    fixture.world.job_gone("u1");
    fixture.changed();
    fixture.reported();
    fixture.done();
    let reported = fixture.reported();
    assert_eq!(reported[0], "u1 created; admitting 0 s");
    assert!(fixture.coordinator.records.is_empty());
}

/// The cache shows the deletion of a Job by this replica immediately; the watch shows it later.
#[test]
fn a_record_is_not_woken_repeatedly_before_the_watch_shows_a_deletion() {
    let mut fixture = created();
    fixture.stop(2);
    fixture.world.deleting("u1");
    fixture.done();
    fixture.world.job_gone("u1");
    let gone = fixture.take_gone();
    fixture.get(3);
    // Each step checks that no wake-up was without effect.
    fixture.pass(60.0);
    for uid in &gone {
        fixture.job_gone(uid);
    }
}

#[test]
fn a_create_without_a_response_ends_the_start_as_unknown() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(lost(Verb::Create));
    assert_eq!(
        fixture.reported(),
        ["- requested", "- not created; start unknown answer_lost"]
    );
}

#[test]
fn a_start_is_linked_to_the_requests_that_join_it() {
    let mut fixture = Fixture::new();
    let get = |fixture: &mut Fixture, n: u8| {
        let request = NewWaiter {
            is_patient: false,
            handle: handle(n.into()),
            key: n1(),
            by: Origin {
                trace: Some(trace(n)),
                ..origin("ann")
            },
            held: crate::app::fixture::held("ann"),
            reads: None,
            expectation: Expectation::None,
            deadline: fixture.world.instant() + Duration::from_secs(10),
            want: Want::Instance(Intent::Start(Arc::default())),
        };
        fixture.step(Input::Requested(request))
    };
    assert_eq!(get(&mut fixture, 1), ["call create for ann"]);
    assert_eq!(get(&mut fixture, 2), NOTHING, "it joins the call");
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(get(&mut fixture, 3), NOTHING, "it joins the start");
    fixture.world.ready("u1", "10.0.0.1");
    let mut out = Vec::new();
    fixture.coordinator.step(
        Input::Changed(vec![CacheChange::of(n1())]),
        &fixture.world.context(),
        &mut out,
    );
    let ended = out.into_iter().find_map(|effect| match effect {
        Effect::Report(event) => event.start_ended,
        _ => None,
    });
    assert_eq!(ended.unwrap().start.links, [trace(2), trace(3)]);
}

/// Another replica has deleted the Job, and the cache no longer shows it.
#[test]
fn a_start_is_reported_as_stopped_before_the_next_job_is() {
    let mut fixture = created();
    fixture.world.job_gone("u1");
    let gone = fixture.take_gone();
    // How it has ended may forbid a new start for a while.
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(
        fixture.job_gone(&gone[0]),
        ["1: Stopped", "call create for ann"]
    );
    fixture.world.job("u2", json!({}));
    fixture.done();
    assert_eq!(
        fixture.reported()[..3],
        [
            "u1 gone; creating 0 s; start stopped",
            "- requested",
            "u2 created; admitting 0 s"
        ]
    );
}
