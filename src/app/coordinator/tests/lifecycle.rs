//! What is reported of a Job's life: each step once, in order, and how a start of ours ended.

use super::{NOTHING, starting};
use crate::app::Response;
use crate::app::coordinator::Effect;
use crate::app::fixture::{Fixture, get_now, handle, refused, unavailable, waiting_pod};
use crate::kube::error::Verb;
use crate::kube::types::Uid;
use crate::model::status::TERMINATION_REPORT_WAIT;
use serde_json::json;

/// A fixture in which the Job `u1` was created a second after its call, and that was reported.
fn created() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.get_of(1, &crate::app::fixture::n1(), "", 300);
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

#[test]
fn a_failure_is_an_end_and_is_reported_when_its_pod_has_said_why() {
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

/// A Job that is retried deletes its pod when it fails.
#[test]
fn a_pod_that_has_gone_says_why_it_failed() {
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
fn what_cannot_succeed_is_an_end_though_nothing_has_ended() {
    let mut fixture = created();
    fixture.world.pod("u1", waiting_pod("InvalidImageName"));
    fixture.changed();
    let failed =
        "u1 failed InvalidImageName after 1 s; creating 0 s; start failed InvalidImageName";
    assert_eq!(fixture.reported(), [failed]);
    // It may become ready all the same, which is no second end.
    fixture.world.ready("u1", "10.0.0.1");
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 recovered"]);
}

#[test]
fn an_end_before_it_was_ready_is_reported_however_good() {
    let mut fixture = created();
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.changed();
    let finished = "u1 finished Completed after 1 s; creating 0 s; start finished Completed";
    assert_eq!(fixture.reported(), [finished]);
}

/// The request hung up, nothing changes: the budget is used up all the same, and the start may still pass.
#[test]
fn a_probable_failure_is_reported_once_and_is_no_end() {
    let mut fixture = created();
    fixture.hang_up(1);
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 pulling; creating 0 s"]);
    fixture.pass(9.0);
    // The two reasons take turns, and are one trouble.
    fixture.world.pod("u1", waiting_pod("ImagePullBackOff"));
    fixture.changed();
    assert_eq!(fixture.reported(), NOTHING);
    fixture.pass(1.0);
    assert_eq!(
        fixture.reported(),
        ["u1 probably failed ImagePullBackOff after 11 s"]
    );
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    fixture.changed();
    fixture.pass(5.0);
    assert_eq!(fixture.reported(), NOTHING, "it is reported once");
    fixture.pass(15.0);
    fixture.world.ready("u1", "10.0.0.1");
    fixture.changed();
    assert_eq!(
        fixture.reported(),
        ["u1 recovered after 31 s; pulling 30 s; start ready"]
    );
}

#[test]
fn after_a_probable_failure_the_final_one_has_no_time_of_its_own() {
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
fn a_start_whose_trouble_is_over_is_not_reported_as_failed() {
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

/// It ends while the start that was ready is still kept for responses.
#[test]
fn an_end_soon_after_it_was_ready_is_reported_once() {
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
fn a_job_that_goes_ends_its_start_as_stopped() {
    let mut fixture = created();
    fixture.pass(2.0);
    fixture.world.deleting("u1");
    fixture.changed();
    let stopping = "u1 stopping; creating 2 s; start stopped";
    assert_eq!(fixture.reported(), [stopping]);
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 gone"]);
    // A deletion in the background shows no deletion timestamp, and maybe the next Job at once.
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
fn a_stop_of_ours_is_reported_with_its_cause_once() {
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
    assert_eq!(fixture.reported(), ["u1 stopping for bob", "u1 gone"]);
    fixture.done();
    assert_eq!(fixture.reported(), NOTHING);
}

#[test]
fn a_replacement_is_reported_as_such() {
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
fn what_is_ready_when_it_is_first_seen_is_no_news() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
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

/// A replica that starts reports nothing of what it finds, in whatever order it is listed.
#[test]
fn what_is_there_when_the_replica_starts_is_no_news() {
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
fn a_job_that_was_not_created_is_reported_where_it_is_not_retried() {
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
fn a_start_that_is_replaced_unseen_is_reported_as_stopped() {
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
fn a_replica_that_shuts_down_leaves_its_starts() {
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
    let mut fixture = starting();
    fixture.hang_up(1);
    fixture.world.ready("u1", "10.0.0.1");
    fixture.world.pod_leaving("u1");
    fixture.changed();
    fixture.reported();
    assert_eq!(fixture.pass(30.0), ["call force u1"]);
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

/// What a response says of the phases is what was reported of them, for a moment longer than the
/// start itself; then what the pod says.
#[test]
fn responses_say_where_the_time_went() {
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
fn what_the_watch_shows_first_is_reported_after_the_creation() {
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

/// The cache shows at once that a Job we have deleted is gone; the watch says so later.
#[test]
fn a_record_is_not_woken_again_and_again_until_the_watch_shows_a_deletion() {
    let mut fixture = created();
    fixture.stop(2);
    fixture.world.deleting("u1");
    fixture.done();
    fixture.world.job_gone("u1");
    let gone = fixture.take_gone();
    fixture.get(3);
    // Each step checks that no wake-up was in vain.
    fixture.pass(60.0);
    for uid in &gone {
        fixture.job_gone(uid);
    }
}
