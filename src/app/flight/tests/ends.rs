//! Instances that have ended, or cannot become ready: verdicts, delays and replacements.

use super::{NOTHING, failed_after, starting};
use crate::app::fixture::{Scene, conflict, n1, ready_pod, waiting_pod};
use crate::app::flight::VERDICT_HOLD;
use crate::kube::error::Verb;
use crate::model::status::LAST_WORDS_WAIT;
use serde_json::{Value, json};

#[test]
fn what_has_ended_well_is_replaced_at_once() {
    let mut scene = Scene::new();
    scene.pass(60.0);
    scene.world.ended("u1", "Complete", json!({}));
    assert_eq!(scene.get(1), ["call replace u1"]);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), NOTHING);
    assert_eq!(scene.get(2), NOTHING);
    scene.world.job_gone("u1");
    assert_eq!(scene.changed(), ["call create for ann"]);
    scene.world.job("u2", json!({}));
    scene.world.ready("u2", "10.0.0.2");
    assert_eq!(scene.done(), ["1: ready 10.0.0.2", "2: ready 10.0.0.2"]);
    scene.check_empty();
}

/// Who waited on a verdict and then, since it held no longer, for the instance, hears of the
/// stop and not of what was wrong before.
#[test]
fn a_verdict_that_holds_no_longer_is_told_to_nobody() {
    let mut scene = starting();
    scene
        .world
        .pod("u1", waiting_pod("CreateContainerConfigError"));
    scene.changed();
    scene.pass(10.0);
    assert_eq!(scene.get(2), NOTHING);
    let runs = json!({"status": {
        "phase": "Running",
        "conditions": [{"type": "PodScheduled", "status": "True"}],
        "containerStatuses": [{"name": "app", "state": {"running": {}}}],
    }});
    scene.world.pod("u1", runs);
    assert_eq!(scene.changed(), NOTHING);
    scene.world.deleting("u1");
    assert_eq!(scene.changed(), ["2: Stopped"]);
}

#[test]
fn a_replacement_that_is_not_gone_in_time_is_progress() {
    let mut scene = Scene::new();
    scene.pass(60.0);
    scene.world.ended("u1", "Complete", json!({}));
    scene.get(1);
    scene.world.deleting("u1");
    scene.done();
    assert_eq!(scene.pass(10.0), ["1: node_not_ready Stopping"]);
    scene.check_empty();
}

#[test]
fn a_replacement_that_another_made_first() {
    let mut scene = Scene::new();
    scene.pass(60.0);
    scene.world.ended("u1", "Complete", json!({}));
    scene.get(1);
    assert_eq!(scene.fails(conflict(Verb::Delete)), ["call read"]);
    scene.world.job("u2", json!({}));
    assert_eq!(scene.done(), NOTHING);
    scene.world.ready("u2", "10.0.0.2");
    assert_eq!(scene.changed(), ["1: ready 10.0.0.2"]);
}

/// The deletion shows in the pod first, while the Job is seen neither to go nor to have ended.
#[test]
fn a_replacement_whose_pod_goes_before_its_job() {
    let mut scene = Scene::new();
    scene.world.job("u1", json!({}));
    scene.pass(60.0);
    let ended = json!({"status": {"phase": "Succeeded", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": 0}}},
    ]}});
    scene.world.pod("u1", ended);
    assert_eq!(scene.get(1), ["call replace u1"]);
    scene.world.pod_gone("u1");
    assert_eq!(scene.changed(), NOTHING);
    scene.world.ended("u1", "Complete", json!({}));
    assert_eq!(scene.changed(), NOTHING);
    scene.world.job_gone("u1");
    assert_eq!(scene.done(), ["call create for ann"]);
    scene.world.job("u2", json!({}));
    scene.world.ready("u2", "10.0.0.2");
    assert_eq!(scene.done(), ["1: ready 10.0.0.2"]);
    scene.check_empty();
}

#[test]
fn an_end_during_the_start_is_told_to_those_who_wait() {
    for (condition, reason) in [
        ("Complete", "Completed"),
        ("Failed", "BackoffLimitExceeded"),
    ] {
        let mut scene = starting();
        scene.pass(2.0);
        scene.world.ended("u1", condition, json!({}));
        let mut told = scene.changed();
        // Its pod was not seen, and may yet say why it has failed.
        told.extend(scene.pass(LAST_WORDS_WAIT.as_secs_f64()));
        assert_eq!(told, [format!("1: app_error {reason}")]);
        scene.check_empty();
    }
}

/// The pods' watch may be ahead of the Jobs': the pod has ended before its Job is seen to have
/// been taken up. Were its age not known, it would be replaced as one that had lived long.
#[test]
fn an_end_that_is_seen_before_the_job_has_begun() {
    let mut scene = Scene::new();
    scene.get(1);
    scene
        .world
        .job("u1", json!({"status": {"startTime": null}}));
    let ended = json!({"status": {"phase": "Succeeded", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": 0, "finishedAt": scene.world.stamp()}}},
    ]}});
    scene.world.pod("u1", ended);
    assert_eq!(scene.done(), ["1: app_error Completed"]);
    assert_eq!(scene.get(2), NOTHING);
    assert_eq!(scene.pass(1.0), ["2: app_error Completed"]);
    scene.check_empty();
}

#[test]
fn a_known_verdict_is_held_for_a_second() {
    let mut scene = failed_after(60.0);
    assert_eq!(scene.get(1), NOTHING);
    assert_eq!(scene.pass(VERDICT_HOLD.as_secs_f64() - 0.01), NOTHING);
    assert_eq!(scene.pass(0.01), ["1: app_error BackoffLimitExceeded"]);
    scene.check_empty();
    // It gives way to a shorter deadline, and to the end of the Job.
    assert_eq!(
        scene.get_of(2, &n1(), "", 0),
        ["2: app_error BackoffLimitExceeded"]
    );
    scene.get(3);
    scene.world.deleting("u1");
    assert_eq!(scene.changed(), ["3: app_error BackoffLimitExceeded"]);
}

#[test]
fn a_verdict_that_is_known_as_soon_as_the_job_is_told_at_once() {
    let mut scene = Scene::new();
    scene.get(1);
    scene.world.job("u1", json!({}));
    scene.world.pod("u1", waiting_pod("InvalidImageName"));
    assert_eq!(scene.done(), ["1: app_error InvalidImageName"]);
    scene.check_empty();
    // Who asks now is held; the next Job is another matter.
    assert_eq!(scene.get(2), NOTHING);
    assert_eq!(scene.pass(1.0), ["2: app_error InvalidImageName"]);
    scene.pass(60.0);
    assert_eq!(scene.get(3), ["call replace u1"]);
    scene.world.job_gone("u1");
    assert_eq!(scene.done(), ["call create for ann after 1"]);
    scene.world.job("u2", json!({}));
    scene.world.pod("u2", waiting_pod("InvalidImageName"));
    assert_eq!(scene.done(), ["3: app_error InvalidImageName"]);
}

#[test]
fn a_failed_instance_is_replaced_after_its_delay() {
    let mut scene = failed_after(60.0);
    scene.pass(9.99);
    assert_eq!(scene.get(1), NOTHING);
    scene.pass(0.01);
    assert_eq!(scene.get(2), ["call replace u1"]);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), ["1: app_error BackoffLimitExceeded"]);
    scene.world.job_gone("u1");
    assert_eq!(scene.changed(), ["call create for ann after 1"]);
}

#[test]
fn a_failed_instance_that_is_kept() {
    let mut scene = Scene::new();
    scene
        .world
        .offer(json!({"config-controller.semafor.ch/restart-failed": "never"}));
    scene.world.ended("u1", "Failed", json!({}));
    scene.pass(100_000.0);
    assert_eq!(scene.get(1), NOTHING);
    assert_eq!(scene.pass(1.0), ["1: app_error BackoffLimitExceeded"]);
    assert_eq!(scene.stop(2), ["call delete u1 for bob"]);
    scene.world.job_gone("u1");
    assert_eq!(scene.done(), ["2: done"]);
    assert_eq!(scene.get(3), ["call create for ann"]);
}

#[test]
fn a_start_that_cannot_succeed_but_has_not_ended() {
    let mut scene = starting();
    scene.world.pod("u1", waiting_pod("InvalidImageName"));
    assert_eq!(scene.changed(), ["1: app_error InvalidImageName"]);
    scene.pass(9.9);
    assert_eq!(scene.get(2), NOTHING);
    assert_eq!(scene.pass(1.0), ["2: app_error InvalidImageName"]);
    assert_eq!(scene.get(3), ["call replace u1"]);
    // It has become ready all the same.
    let mut scene = starting();
    scene.world.pod("u1", waiting_pod("InvalidImageName"));
    scene.changed();
    scene.pass(60.0);
    scene.world.ready("u1", "10.0.0.1");
    assert_eq!(scene.get(2), ["2: ready 10.0.0.1"]);
}

#[test]
fn what_may_still_succeed_is_told_after_its_budget() {
    let mut scene = starting();
    scene.world.pod("u1", waiting_pod("ErrImagePull"));
    assert_eq!(scene.changed(), NOTHING);
    assert_eq!(scene.get_of(2, &n1(), "", 300), NOTHING);
    assert_eq!(scene.pass(4.0), NOTHING);
    // The same trouble under its other name.
    scene.world.pod("u1", waiting_pod("ImagePullBackOff"));
    assert_eq!(scene.changed(), NOTHING);
    assert_eq!(scene.pass(5.9), NOTHING);
    assert_eq!(
        scene.pass(0.2),
        [
            "1: app_error ImagePullBackOff",
            "2: app_error ImagePullBackOff"
        ]
    );
    assert_eq!(scene.get(3), NOTHING);
    assert_eq!(scene.pass(1.0), ["3: app_error ImagePullBackOff"]);
    // A verdict of maybe replaces nothing.
    scene.pass(1000.0);
    assert_eq!(scene.get(4), NOTHING);
    scene.world.ready("u1", "10.0.0.1");
    assert_eq!(scene.changed(), ["4: ready 10.0.0.1"]);
    scene.check_empty();
}

#[test]
fn a_drained_pod_is_no_failed_start() {
    let mut scene = Scene::new();
    scene.world.job("u1", json!({}));
    scene.world.ready("u1", "10.0.0.1");
    scene.changed();
    scene.pass(86_400.0);
    let mut leaving = ready_pod("10.0.0.1");
    leaving["metadata"] = json!({"deletionTimestamp": scene.world.stamp()});
    scene.world.pod("u1", leaving);
    assert_eq!(scene.get(1), NOTHING);
    assert_eq!(scene.pass(9.0), NOTHING);
    scene.world.pod("u1", json!({"metadata": {"name": "p-new", "uid": "p-new"}, "status": ready_pod("10.0.0.2")["status"]}));
    assert_eq!(scene.changed(), ["1: ready 10.0.0.2"]);
}

#[test]
fn a_pod_that_is_refused_is_told_and_tried_again_after_the_delay() {
    let refused = |why: &str| format!("Error creating: pods \"p\" is forbidden: {why}");
    let mut scene = starting();
    let never = refused("violates PodSecurity \"restricted:latest\"");
    scene.world.event("u1", "FailedCreate", &never);
    assert_eq!(scene.changed(), ["1: app_error FailedCreate"]);
    scene.pass(9.9);
    assert_eq!(scene.get(2), NOTHING);
    assert_eq!(scene.pass(1.0), ["2: app_error FailedCreate"]);
    assert_eq!(scene.get(3), ["call replace u1"]);
    // A quota may be raised.
    let mut scene = starting();
    let maybe = refused("exceeded quota: q");
    scene.world.event("u1", "FailedCreate", &maybe);
    assert_eq!(scene.changed(), NOTHING);
    scene.get_of(2, &n1(), "", 300);
    let until_told = scene.pass(9.9);
    assert_eq!(until_told, NOTHING);
    assert_eq!(scene.pass(0.2), ["1: node_not_ready FailedCreate"]);
    assert_eq!(scene.pass(5.0), ["2: app_error FailedCreate"]);
}

#[test]
fn budgets_are_those_of_the_type() {
    let mut scene = starting();
    scene
        .world
        .offer(json!({"scim.config-controller.semafor.ch/start-budget.pull-error": "3s"}));
    scene.world.pod("u1", waiting_pod("ErrImagePull"));
    assert_eq!(scene.changed(), NOTHING);
    assert_eq!(scene.pass(2.9), NOTHING);
    assert_eq!(scene.pass(0.2), ["1: app_error ErrImagePull"]);
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
        let mut scene = starting();
        scene.world.pod("u1", running.clone());
        scene.world.ended("u1", "FailureTarget", json!({}));
        assert_eq!(scene.changed(), NOTHING);
        scene
    };
    let wait = LAST_WORDS_WAIT.as_secs_f64();
    let mut scene = failing();
    assert_eq!(scene.pass(wait - 0.1), NOTHING);
    scene.world.pod("u1", failed_pod(3));
    assert_eq!(scene.changed(), ["1: app_error Error"]);
    scene.check_empty();
    // A pod that never says it.
    let mut scene = failing();
    assert_eq!(scene.get(2), NOTHING);
    assert_eq!(scene.pass(wait), ["1: app_error BackoffLimitExceeded"]);
    // Who asks when it is known to have failed is held as ever, whatever is heard meanwhile.
    scene.world.pod("u1", failed_pod(3));
    assert_eq!(scene.changed(), NOTHING);
    let rest = VERDICT_HOLD.as_secs_f64() - wait;
    assert_eq!(scene.pass(rest - 0.01), NOTHING);
    assert_eq!(scene.pass(0.02), ["2: app_error Error"]);
    // Its pod has not been seen at all, and says it in time, or is seen after somebody was told.
    for in_time in [true, false] {
        let mut scene = starting();
        scene.world.ended("u1", "FailureTarget", json!({}));
        assert_eq!(scene.changed(), NOTHING);
        if !in_time {
            assert_eq!(scene.pass(wait), ["1: app_error BackoffLimitExceeded"]);
            assert_eq!(scene.get(1), NOTHING);
        }
        scene.world.pod("u1", running.clone());
        assert_eq!(scene.changed(), NOTHING);
        scene.world.pod("u1", failed_pod(3));
        let mut told = scene.changed();
        told.extend(scene.pass(VERDICT_HOLD.as_secs_f64()));
        assert_eq!(told, ["1: app_error Error"]);
    }
    // It can be waited for no longer, or goes.
    let mut scene = failing();
    assert_eq!(
        scene.get_of(2, &n1(), "", 0),
        ["2: app_error BackoffLimitExceeded"]
    );
    scene.world.job_gone("u1");
    assert_eq!(scene.changed(), ["1: app_error BackoffLimitExceeded"]);
    scene.check_empty();
}

#[test]
fn a_verdict_outlives_its_pod() {
    let mut scene = starting();
    scene.world.pod("u1", failed_pod(3));
    assert_eq!(scene.changed(), ["1: app_error Error"]);
    scene.world.ended("u1", "Failed", json!({}));
    scene.changed();
    scene.world.pod_gone("u1");
    scene.changed();
    assert_eq!(scene.get(2), NOTHING);
    scene.pass(0.5);
    // Its own end came before the deletion, and is told as it was.
    let ended = json!({"metadata": {"deletionTimestamp": scene.world.stamp()}});
    scene.world.ended("u1", "Failed", ended);
    assert_eq!(scene.changed(), ["2: app_error Error"]);
}
