//! Instances that have ended, or cannot become ready: verdicts, delays and replacements.

use super::{NOTHING, check_replaced, failed_after, starting};
use crate::app::coordinator::REPORT_HOLD;
use crate::app::fixture::{Fixture, conflict, n1, ready_pod, waiting_pod};
use crate::kube::error::Verb;
use crate::model::status::TERMINATION_REPORT_WAIT;
use serde_json::{Value, json};

#[test]
fn what_has_ended_well_is_replaced_at_once() {
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

/// Who waited on a verdict and then, since it held no longer, for the instance, hears of the
/// stop and not of what was wrong before.
#[test]
fn a_verdict_that_holds_no_longer_is_told_to_nobody() {
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
fn a_replacement_that_is_not_gone_in_time_is_progress() {
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
fn a_replacement_that_another_made_first() {
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

/// The deletion shows in the pod first, while the Job is seen neither to go nor to have ended.
#[test]
fn a_replacement_whose_pod_goes_before_its_job() {
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
fn an_end_during_the_start_is_told_to_those_who_wait() {
    for (condition, reason) in [
        ("Complete", "Completed"),
        ("Failed", "BackoffLimitExceeded"),
    ] {
        let mut fixture = starting();
        fixture.pass(2.0);
        fixture.world.ended("u1", condition, json!({}));
        let mut told = fixture.changed();
        // Its pod was not seen, and may yet say why it has failed.
        told.extend(fixture.pass(TERMINATION_REPORT_WAIT.as_secs_f64()));
        assert_eq!(told, [format!("1: app_error {reason}")]);
        fixture.check_idle();
    }
}

/// The pods' watch may be ahead of the Jobs': the pod has ended before its Job is seen to have
/// been taken up. Were its age not known, it would be replaced as one that had lived long.
#[test]
fn an_end_that_is_seen_before_the_job_has_begun() {
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
fn a_known_verdict_is_held_for_a_second() {
    let mut fixture = failed_after(60.0);
    assert_eq!(fixture.get(1), NOTHING);
    assert_eq!(fixture.pass(REPORT_HOLD.as_secs_f64() - 0.01), NOTHING);
    assert_eq!(fixture.pass(0.01), ["1: app_error BackoffLimitExceeded"]);
    fixture.check_idle();
    // It gives way to a shorter deadline, and to the end of the Job.
    assert_eq!(
        fixture.get_of(2, &n1(), "", 0),
        ["2: app_error BackoffLimitExceeded"]
    );
    fixture.get(3);
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["3: app_error BackoffLimitExceeded"]);
}

#[test]
fn a_verdict_that_is_known_as_soon_as_the_job_is_told_at_once() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.world.job("u1", json!({}));
    fixture.world.pod("u1", waiting_pod("InvalidImageName"));
    assert_eq!(fixture.done(), ["1: app_error InvalidImageName"]);
    fixture.check_idle();
    // Who asks now is held; the next Job is another matter.
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error InvalidImageName"]);
    fixture.pass(60.0);
    assert_eq!(fixture.get(3), ["call replace u1"]);
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
fn a_failed_instance_that_is_kept() {
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
fn a_start_that_cannot_succeed_but_has_not_ended() {
    let mut fixture = starting();
    fixture.world.pod("u1", waiting_pod("InvalidImageName"));
    assert_eq!(fixture.changed(), ["1: app_error InvalidImageName"]);
    fixture.pass(9.9);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error InvalidImageName"]);
    assert_eq!(fixture.get(3), ["call replace u1"]);
    // It has become ready all the same.
    let mut fixture = starting();
    fixture.world.pod("u1", waiting_pod("InvalidImageName"));
    fixture.changed();
    fixture.pass(60.0);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.get(2), ["2: ready 10.0.0.1"]);
}

#[test]
fn what_may_still_succeed_is_told_after_its_budget() {
    let mut fixture = starting();
    fixture.world.pod("u1", waiting_pod("ErrImagePull"));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.get_of(2, &n1(), "", 300), NOTHING);
    assert_eq!(fixture.pass(4.0), NOTHING);
    // The same trouble under its other name.
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
    // A verdict of maybe replaces nothing.
    fixture.pass(1000.0);
    assert_eq!(fixture.get(4), NOTHING);
    fixture.world.ready("u1", "10.0.0.1");
    assert_eq!(fixture.changed(), ["4: ready 10.0.0.1"]);
    fixture.check_idle();
}

#[test]
fn a_drained_pod_is_no_failed_start() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
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
fn a_pod_that_is_refused_is_told_and_tried_again_after_the_delay() {
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
    let until_told = fixture.pass(9.9);
    assert_eq!(until_told, NOTHING);
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

/// The end of a start whose pod failed with this exit code.
fn failed_pod(code: i32) -> Value {
    json!({"status": {"phase": "Failed", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": code, "reason": "Error"}}},
    ]}})
}

/// The Job and its pod are watched apart: either may be seen to fail first.
#[test]
fn a_job_that_has_failed_before_its_pod_says_why() {
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
    // A pod that never says it.
    let mut fixture = failing();
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(wait), ["1: app_error BackoffLimitExceeded"]);
    // Who asks when it is known to have failed is held as ever, whatever is heard meanwhile.
    fixture.world.pod("u1", failed_pod(3));
    assert_eq!(fixture.changed(), NOTHING);
    let rest = REPORT_HOLD.as_secs_f64() - wait;
    assert_eq!(fixture.pass(rest - 0.01), NOTHING);
    assert_eq!(fixture.pass(0.02), ["2: app_error Error"]);
    // Its pod has not been seen at all, and says it in time, or is seen after somebody was told.
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
        let mut told = fixture.changed();
        told.extend(fixture.pass(REPORT_HOLD.as_secs_f64()));
        assert_eq!(told, ["1: app_error Error"]);
    }
    // It can be waited for no longer, or goes.
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
fn a_verdict_outlives_its_pod() {
    let mut fixture = starting();
    fixture.world.pod("u1", failed_pod(3));
    assert_eq!(fixture.changed(), ["1: app_error Error"]);
    fixture.world.ended("u1", "Failed", json!({}));
    fixture.changed();
    fixture.world.pod_gone("u1");
    fixture.changed();
    assert_eq!(fixture.get(2), NOTHING);
    fixture.pass(0.5);
    // Its own end came before the deletion, and is told as it was.
    let ended = json!({"metadata": {"deletionTimestamp": fixture.world.stamp()}});
    fixture.world.ended("u1", "Failed", ended);
    assert_eq!(fixture.changed(), ["2: app_error Error"]);
}
