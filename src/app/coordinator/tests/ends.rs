//! Instances that have ended, or cannot become ready: failure reports, delays and replacements.

use super::{NOTHING, check_replaced, failed_after, ready, starting};
use crate::app::api_call::CallOutcome;
use crate::app::coordinator::{CacheChange, Input, REPORT_HOLD};
use crate::app::fixture::{Fixture, conflict, n1, ready_pod, waiting_pod};
use crate::kube::error::Verb;
use crate::model::status::TERMINATION_REPORT_WAIT;
use crate::store::Sink as _;
use serde_json::{Value, json};
use std::time::Duration;

#[test]
fn a_finished_instance_is_replaced_immediately() {
    let mut fixture = Fixture::new();
    fixture.pass(60.0);
    fixture.world.ended("u1", "Complete", json!({}));
    assert_eq!(fixture.get(1), ["call replace u1"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.get(2), NOTHING);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann"]);
    fixture.world.job("u2", json!({}));
    fixture.world.ready("u2", "10.0.0.2");
    assert_eq!(fixture.done(), ["1: ready 10.0.0.2", "2: ready 10.0.0.2"]);
    fixture.check_idle();
}

/// A waiter for a failure report waits for the instance once the failure is resolved. It then gets
/// the stop, and not the former failure.
#[test]
fn a_resolved_failure_is_not_reported() {
    let mut fixture = starting();
    fixture
        .world
        .pod("u1", waiting_pod("CreateContainerConfigError"));
    fixture.changed();
    fixture.pass(10.0);
    assert_eq!(fixture.get(2), NOTHING);
    let runs = json!({"status": {
        "phase": "Running",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "app", "state": {"running": {}}}],
    }});
    fixture.world.pod("u1", runs);
    assert_eq!(fixture.changed(), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["2: Stopped"]);
}

#[test]
fn a_deletion_that_exceeds_the_deadline_is_reported_as_progress() {
    let mut fixture = Fixture::new();
    fixture.pass(60.0);
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.get(1);
    fixture.world.deleting("u1");
    fixture.done();
    assert_eq!(fixture.pass(10.0), ["1: node_not_ready Stopping"]);
    fixture.check_idle();
}

#[test]
fn a_replacement_by_another_replica_is_joined() {
    let mut fixture = Fixture::new();
    fixture.pass(60.0);
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.get(1);
    assert_eq!(fixture.fails(conflict(Verb::Delete)), ["call read"]);
    fixture.world.job("u2", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.ready("u2", "10.0.0.2");
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.2"]);
}

/// The watch shows the deletion of the pod first, before the deletion or the end of the Job.
#[test]
fn a_replaced_job_may_end_after_its_pod() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.pass(60.0);
    let ended = json!({"status": {"phase": "Succeeded", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": 0}}},
    ]}});
    fixture.world.pod("u1", ended);
    assert_eq!(fixture.get(1), ["call replace u1"]);
    fixture.world.pod_gone("u1");
    assert_eq!(fixture.changed(), NOTHING);
    fixture.world.ended("u1", "Complete", json!({}));
    assert_eq!(fixture.changed(), NOTHING);
    check_replaced(&mut fixture);
}

#[test]
fn an_end_during_the_start_is_reported_to_waiters() {
    for (condition, reason) in [
        ("Complete", "Completed"),
        ("Failed", "BackoffLimitExceeded"),
    ] {
        let mut fixture = starting();
        fixture.pass(2.0);
        fixture.world.ended("u1", condition, json!({}));
        let mut responses = fixture.changed();
        // Its pod was not seen, and may still have a termination report.
        responses.extend(fixture.pass(TERMINATION_REPORT_WAIT.as_secs_f64()));
        assert_eq!(responses, [format!("1: app_error {reason}")]);
        fixture.check_idle();
    }
}

/// The pods' watch may be ahead of the Jobs': the pod has ended before its Job is seen as started.
/// Without a known age it would be replaced as a long-lived one.
#[test]
fn an_end_observed_before_the_job_has_started_is_a_failure() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture
        .world
        .job("u1", json!({"status": {"startTime": null}}));
    let ended = json!({"status": {"phase": "Succeeded", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": 0, "finishedAt": fixture.world.stamp()}}},
    ]}});
    fixture.world.pod("u1", ended);
    assert_eq!(fixture.done(), ["1: app_error Completed"]);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error Completed"]);
    fixture.check_idle();
}

#[test]
fn a_known_failure_is_reported_after_a_second() {
    let mut fixture = failed_after(60.0);
    assert_eq!(fixture.get(1), NOTHING);
    assert_eq!(fixture.pass(REPORT_HOLD.as_secs_f64() - 0.01), NOTHING);
    assert_eq!(fixture.pass(0.01), ["1: app_error BackoffLimitExceeded"]);
    fixture.check_idle();
    // A shorter deadline, or the end of the Job, ends the delay.
    assert_eq!(
        fixture.get_of(2, &n1(), "", 0),
        ["2: app_error BackoffLimitExceeded"]
    );
    fixture.get(3);
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["3: app_error BackoffLimitExceeded"]);
}

#[test]
fn a_failure_observed_with_the_job_is_reported_immediately() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.world.job("u1", json!({}));
    fixture.world.pod("u1", waiting_pod("InvalidImageName"));
    assert_eq!(fixture.done(), ["1: app_error InvalidImageName"]);
    fixture.check_idle();
    // A new request is delayed; the next Job is independent.
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error InvalidImageName"]);
    fixture.pass(60.0);
    assert_eq!(fixture.get(3), ["call replace u1"]);
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    assert_eq!(fixture.done(), ["call create for ann after 1"]);
    fixture.world.job("u2", json!({}));
    fixture.world.pod("u2", waiting_pod("InvalidImageName"));
    assert_eq!(fixture.done(), ["3: app_error InvalidImageName"]);
}

#[test]
fn a_failed_instance_is_replaced_after_its_delay() {
    let mut fixture = failed_after(60.0);
    fixture.pass(9.99);
    assert_eq!(fixture.get(1), NOTHING);
    fixture.pass(0.01);
    assert_eq!(fixture.get(2), ["call replace u1"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: app_error BackoffLimitExceeded"]);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann after 1"]);
}

#[test]
fn a_failed_instance_with_restart_failed_never_is_kept() {
    let mut fixture = Fixture::new();
    fixture
        .world
        .offer(json!({"config-controller.semafor.ch/restart-failed": "never"}));
    fixture.world.ended("u1", "Failed", json!({}));
    fixture.pass(100_000.0);
    assert_eq!(fixture.get(1), NOTHING);
    assert_eq!(fixture.pass(1.0), ["1: app_error BackoffLimitExceeded"]);
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.done(), ["2: done"]);
    assert_eq!(fixture.get(3), ["call create for ann"]);
}

#[test]
fn a_terminal_start_is_replaced_after_its_delay() {
    let mut fixture = starting();
    fixture.world.pod("u1", waiting_pod("InvalidImageName"));
    assert_eq!(fixture.changed(), ["1: app_error InvalidImageName"]);
    fixture.pass(9.9);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error InvalidImageName"]);
    assert_eq!(fixture.get(3), ["call replace u1"]);
    // It has become ready nevertheless.
    let mut fixture = starting();
    fixture.world.pod("u1", waiting_pod("InvalidImageName"));
    fixture.changed();
    fixture.pass(60.0);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.get(2), ["2: ready 10.0.0.1"]);
}

#[test]
fn a_retryable_start_is_reported_after_its_budget() {
    let mut fixture = starting();
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.get_of(2, &n1(), "", 300), NOTHING);
    assert_eq!(fixture.pass(4.0), NOTHING);
    // The same problem with its other reason.
    fixture.world.pod("u1", waiting_pod("ImagePullBackOff"));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(5.9), NOTHING);
    assert_eq!(
        fixture.pass(0.2),
        [
            "1: app_error ImagePullBackOff",
            "2: app_error ImagePullBackOff"
        ]
    );
    assert_eq!(fixture.get(3), NOTHING);
    assert_eq!(fixture.pass(1.0), ["3: app_error ImagePullBackOff"]);
    fixture.world.ready("u1", "10.0.0.1");
    fixture.changed();
    assert_eq!(fixture.get(4), ["4: ready 10.0.0.1"]);
    fixture.check_idle();
}

/// Such a start may never end: the restart delay runs from its report.
#[test]
fn a_start_that_has_probably_failed_is_replaced_after_its_delay() {
    let mut fixture = starting();
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    fixture.changed();
    assert_eq!(fixture.pass(10.0), ["1: app_error ErrImagePull"]);
    fixture.pass(8.9);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error ErrImagePull"]);
    fixture.pass(0.2);
    // The cache is old: the pod may be ready by now.
    let old = fixture.world.instant() - Duration::from_secs(6);
    fixture.world.pods.contact(old);
    assert_eq!(fixture.get(3), NOTHING);
    assert_eq!(fixture.pass(1.0), ["3: app_error ErrImagePull"]);
    assert_eq!(fixture.get(1), ["call replace u1"]);
    fixture.world.deleting("u1");
    fixture.done();
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann after 1"]);
}

/// A replacement waits for a call of its name, and meanwhile the app fails: the delay begins anew.
#[test]
fn a_failure_before_the_deletion_for_a_replacement_begins_the_delay() {
    let mut fixture = starting();
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    fixture.changed();
    assert_eq!(fixture.pass(10.0), ["1: app_error ErrImagePull"]);
    fixture.pass(10.0);
    fixture.label(2);
    assert!(fixture.call().is_some(), "the replacement waits for it");
    assert_eq!(fixture.get(3), NOTHING);
    fixture.world.pod("u1", failed_pod(1));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.done(), ["2: done"]);
    assert_eq!(fixture.pass(1.0), ["3: app_error Error"]);
    fixture.pass(9.0);
    assert_eq!(fixture.get(4), ["call replace u1"]);
}

/// A fixture in which the Job `u1`, which Kubernetes deletes at once when it has ended, has failed and is
/// gone.
fn expired() -> Fixture {
    let mut fixture = starting();
    fixture.pass(1.0);
    fixture.world.pod("u1", failed_pod(1));
    assert_eq!(fixture.changed(), ["1: app_error Error"]);
    let spec = json!({"spec": {"ttlSecondsAfterFinished": 0}});
    fixture.world.ended("u1", "Failed", spec);
    fixture.changed();
    fixture.world.deleting("u1");
    fixture.changed();
    fixture.world.pod_gone("u1");
    fixture.world.job_gone("u1");
    fixture.changed();
    fixture
}

/// Otherwise a client that polls would start it again and again.
#[test]
fn a_failed_job_that_kubernetes_has_deleted_keeps_its_delay() {
    let mut fixture = expired();
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error Error"]);
    // A request whose wait is shorter than the hold, and one that starts nothing.
    assert_eq!(fixture.get_of(3, &n1(), "", 0), ["3: app_error Error"]);
    assert_eq!(fixture.find_of(4, &n1()), ["4: NoInstance"]);
    // The delay ends while one is held.
    fixture.pass(8.5);
    assert_eq!(fixture.get(5), NOTHING);
    let late = fixture.pass(1.0);
    assert_eq!(late, ["5: app_error Error"]);
    assert_eq!(fixture.get(6), ["call create for ann after 1"]);
}

/// There is nothing to stop, but a caller wants it anew.
#[test]
fn a_stop_ends_the_delay_of_a_job_that_is_gone() {
    let mut fixture = expired();
    assert_eq!(fixture.stop(2), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["2: NoInstance"]);
    assert_eq!(fixture.get(3), ["call create for ann"]);
}

#[test]
fn a_drained_pod_is_not_a_failed_start() {
    let mut fixture = ready();
    fixture.changed();
    fixture.pass(86_400.0);
    let mut leaving = ready_pod("10.0.0.1");
    leaving["metadata"] = json!({"deletionTimestamp": fixture.world.stamp()});
    fixture.world.pod("u1", leaving);
    assert_eq!(fixture.get(1), NOTHING);
    assert_eq!(fixture.pass(9.0), NOTHING);
    fixture.world.pod("u1", json!({"metadata": {"name": "p-new", "uid": "p-new"}, "status": ready_pod("10.0.0.2")["status"]}));
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.2"]);
}

#[test]
fn a_rejected_pod_is_reported_and_retried_after_the_delay() {
    let refused = |why: &str| format!("Error creating: pods \"p\" is forbidden: {why}");
    let mut fixture = starting();
    let never = refused("violates PodSecurity \"restricted:latest\"");
    fixture.world.event("u1", "FailedCreate", &never);
    assert_eq!(fixture.changed(), ["1: app_error FailedCreate"]);
    fixture.pass(9.9);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error FailedCreate"]);
    assert_eq!(fixture.get(3), ["call replace u1"]);
    // A quota may be raised.
    let mut fixture = starting();
    let maybe = refused("exceeded quota: q");
    fixture.world.event("u1", "FailedCreate", &maybe);
    assert_eq!(fixture.changed(), NOTHING);
    fixture.get_of(2, &n1(), "", 300);
    let before_budget = fixture.pass(9.9);
    assert_eq!(before_budget, NOTHING);
    assert_eq!(fixture.pass(0.2), ["1: node_not_ready FailedCreate"]);
    assert_eq!(fixture.pass(5.0), ["2: app_error FailedCreate"]);
}

#[test]
fn budgets_are_those_of_the_type() {
    let mut fixture = starting();
    fixture
        .world
        .offer(json!({"scim.config-controller.semafor.ch/start-budget.pull-error": "3s"}));
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(2.9), NOTHING);
    assert_eq!(fixture.pass(0.2), ["1: app_error ErrImagePull"]);
}

/// A patch for a pod: it failed with this exit code.
fn failed_pod(code: i32) -> Value {
    json!({"status": {"phase": "Failed", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": code, "reason": "Error"}}},
    ]}})
}

/// The Job and its pod are watched apart: either may be seen to fail first.
#[test]
fn a_job_that_fails_before_its_pod_is_reported_with_the_pods_reason() {
    let running = json!({"status": {"phase": "Running"}});
    let failing = || {
        let mut fixture = starting();
        fixture.world.pod("u1", running.clone());
        fixture.world.ended("u1", "FailureTarget", json!({}));
        assert_eq!(fixture.changed(), NOTHING);
        fixture
    };
    let wait = TERMINATION_REPORT_WAIT.as_secs_f64();
    let mut fixture = failing();
    assert_eq!(fixture.pass(wait - 0.1), NOTHING);
    fixture.world.pod("u1", failed_pod(3));
    assert_eq!(fixture.changed(), ["1: app_error Error"]);
    fixture.check_idle();
    // A pod without a termination report.
    let mut fixture = failing();
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(wait), ["1: app_error BackoffLimitExceeded"]);
    // A request after the known failure is delayed as usual, regardless of later events.
    fixture.world.pod("u1", failed_pod(3));
    assert_eq!(fixture.changed(), NOTHING);
    let rest = REPORT_HOLD.as_secs_f64() - wait;
    assert_eq!(fixture.pass(rest - 0.01), NOTHING);
    assert_eq!(fixture.pass(0.02), ["2: app_error Error"]);
    // Its pod has not been seen at all: its termination report arrives in time, or after the first
    // response.
    for in_time in [true, false] {
        let mut fixture = starting();
        fixture.world.ended("u1", "FailureTarget", json!({}));
        assert_eq!(fixture.changed(), NOTHING);
        if !in_time {
            assert_eq!(fixture.pass(wait), ["1: app_error BackoffLimitExceeded"]);
            assert_eq!(fixture.get(1), NOTHING);
        }
        fixture.world.pod("u1", running.clone());
        assert_eq!(fixture.changed(), NOTHING);
        fixture.world.pod("u1", failed_pod(3));
        let mut responses = fixture.changed();
        responses.extend(fixture.pass(REPORT_HOLD.as_secs_f64()));
        assert_eq!(responses, ["1: app_error Error"]);
    }
    // The request reaches its deadline, or the Job is gone.
    let mut fixture = failing();
    assert_eq!(
        fixture.get_of(2, &n1(), "", 0),
        ["2: app_error BackoffLimitExceeded"]
    );
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["1: app_error BackoffLimitExceeded"]);
    fixture.check_idle();
}

#[test]
fn a_failure_report_outlives_its_pod() {
    let mut fixture = starting();
    fixture.world.pod("u1", failed_pod(3));
    assert_eq!(fixture.changed(), ["1: app_error Error"]);
    fixture.world.ended("u1", "Failed", json!({}));
    fixture.changed();
    fixture.world.pod_gone("u1");
    fixture.changed();
    assert_eq!(fixture.get(2), NOTHING);
    fixture.pass(0.5);
    // Its own end came before the deletion, and is reported unchanged.
    let ended = json!({"metadata": {"deletionTimestamp": fixture.world.stamp()}});
    fixture.world.ended("u1", "Failed", ended);
    assert_eq!(fixture.changed(), ["2: app_error Error"]);
}

/// The pod may yet give the reason, and the request can wait no longer.
#[test]
fn a_failure_before_its_reason_is_reported_at_the_deadline() {
    let mut fixture = starting();
    assert_eq!(fixture.pass(9.9), NOTHING);
    fixture.world.ended("u1", "FailureTarget", json!({}));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(0.1), ["1: app_error BackoffLimitExceeded"]);
    fixture.check_idle();
}

/// Between two looks at the cache: the Job has failed, has expired, and is gone. The cache shows only that
/// it is absent; the change itself has what it was.
#[test]
fn a_job_that_ends_and_expires_between_two_looks_is_reported() {
    let mut fixture = starting();
    fixture.pass(1.0);
    let spec = json!({"spec": {"ttlSecondsAfterFinished": 0}});
    fixture.world.ended("u1", "Failed", spec);
    let ended = fixture.world.cache.jobs.get("scim-n1");
    fixture.world.deleting("u1");
    fixture.world.job_gone("u1");
    let change = CacheChange {
        ended,
        ..CacheChange::of(n1())
    };
    let found = fixture.step(Input::Changed(vec![change]));
    assert_eq!(found, ["1: app_error BackoffLimitExceeded"]);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error BackoffLimitExceeded"]);
    fixture.pass(9.0);
    assert_eq!(fixture.get(3), ["call create for ann after 1"]);
}
