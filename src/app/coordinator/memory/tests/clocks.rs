//! Durations where the clocks of machines differ: those of nodes, of the Job controller, and of this
//! replica.

use super::*;

/// The time so many seconds after that of the API server, as another machine writes it.
fn stamp(name: &Remembered, ahead: i64) -> String {
    let now = Timestamp::from(name.world.wall()).seconds();
    Timestamp::from_seconds(now + ahead).to_string()
}

/// A pod whose app has crashed so many seconds after now, by the clock of its node.
fn crashed(name: &Remembered, ahead: i64) -> Value {
    let mut pod = waiting_pod("CrashLoopBackOff");
    pod["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {
        "exitCode": 3, "finishedAt": stamp(name, ahead),
    }});
    pod
}

#[test]
fn the_clock_of_a_node_does_not_use_up_a_budget_nor_lengthen_it() {
    for ahead in [-600, -5, 0, 5, 600] {
        let mut name = Remembered::new();
        name.world.job("u1", json!({}));
        let pod = crashed(&name, ahead);
        name.world.pod("u1", pod);
        let first = found(&mut name);
        assert_eq!(report_in(&name, &first), 10, "{ahead}");
        name.pass(6);
        let later = found(&mut name);
        assert_eq!(report_in(&name, &later), 4, "{ahead}");
    }
}

/// A pod that was a day old when its app crashed.
#[test]
fn the_clock_of_a_node_that_is_behind_uses_up_no_budget_of_an_old_pod() {
    for ahead in [-600, 0, 600] {
        let mut name = Remembered::new();
        name.world.job("u1", json!({}));
        let start = stamp(&name, ahead);
        name.pass(86_400);
        let mut pod = crashed(&name, ahead);
        pod["metadata"] = json!({"creationTimestamp": crate::app::fixture::T0});
        pod["status"]["startTime"] = json!(start);
        name.world.pod("u1", pod);
        let found = found(&mut name);
        assert_eq!(report_in(&name, &found), 10, "{ahead}");
    }
}

/// The time of a deletion is in the future, for as long as the grace is.
#[test]
fn the_grace_of_a_pod_does_not_use_up_the_budget_of_its_successor() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    let end = stamp(&name, 30);
    name.world.pod(
        "u1",
        json!({"metadata": {
            "deletionTimestamp": end, "deletionGracePeriodSeconds": 30,
        }}),
    );
    let leaving = found(&mut name);
    // The grace, the Job controller's back-off, and the budget.
    assert_eq!(report_in(&name, &leaving), 55);
    name.pass(20);
    name.world.pod_gone("u1");
    let gone = found(&mut name);
    assert_eq!(report_in(&name, &gone), 35);
}

/// A node's time of the end does not count, nor does a time of the Job controller from before the Job, or
/// from the future.
#[test]
fn the_restart_delay_is_neither_zero_nor_longer_where_clocks_differ() {
    for ahead in [-600, 0, 600] {
        let mut name = Remembered::new();
        name.world.job("u1", json!({}));
        name.note();
        let end = stamp(&name, ahead);
        merge_end(&mut name, &end);
        name.note();
        assert_eq!(name.delay("u1"), Some(10), "{ahead}");
        name.pass(2);
        name.world.ended("u1", "Failed", json!({}));
        name.note();
        assert_eq!(name.delay("u1"), Some(8), "{ahead}");
    }
    for ahead in [-600, 0, 600] {
        let mut name = Remembered::new();
        let mut job = json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}});
        job["status"]["conditions"][0]["lastTransitionTime"] = json!(stamp(&name, ahead));
        name.world.job("u1", job);
        name.note();
        assert_eq!(name.delay("u1"), Some(10), "{ahead}");
    }
}

/// What the offset that is measured corrects late, a jump of the clock of this replica, changes nothing
/// that it has seen.
#[test]
fn a_jump_of_the_time_of_day_changes_nothing_that_was_seen() {
    for jump in [-3600, 3600] {
        let mut name = Remembered::new();
        name.world.job("u1", json!({}));
        name.note();
        name.pass(60);
        name.ended("u1", "Failed", 1);
        name.world.wall_ahead_secs = jump;
        name.pass(5);
        name.note();
        assert_eq!(name.delay("u1"), Some(15), "{jump}");
        name.gone("u1");
        assert_eq!(name.carried(), 2);
    }
}

#[test]
fn how_long_an_instance_lasted_does_not_depend_on_the_clock_of_its_node() {
    // Whether it ran for so long that it is the first failure, and whether it succeeded too soon.
    for (ran, ahead, expected) in [(60, 900, 3), (700, -900, 1), (60, 0, 3), (700, 0, 1)] {
        let mut name = Remembered::new();
        name.world.job("u1", json!({}));
        let begun = stamp(&name, ahead);
        name.pass(ran);
        let mut pod = failed_pod(3);
        pod["metadata"] = json!({"creationTimestamp": crate::app::fixture::T0});
        pod["status"]["startTime"] = json!(begun);
        pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"] =
            json!(stamp(&name, ahead));
        let failures = json!({"metadata": {
            "creationTimestamp": crate::app::fixture::T0,
            "annotations": {"config-controller.semafor.ch/failures": "2"},
        }});
        name.world.job("u1", failures);
        name.world.pod("u1", pod);
        name.note();
        assert_eq!(name.carried(), expected, "{ran} {ahead}");
    }
}

/// A node whose clock is behind makes a pod that has just become ready look as if it were ready for long.
#[test]
fn the_clock_of_a_node_does_not_skip_min_ready() {
    let wants =
        json!({"metadata": {"annotations": {"config-controller.semafor.ch/min-ready": "5s"}}});
    for ahead in [-600, 0, 600] {
        let mut name = Remembered::new();
        name.world.job("u1", wants.clone());
        let start = stamp(&name, ahead);
        name.pass(900);
        let mut pod = crate::app::fixture::ready_pod("10.0.0.1");
        pod["metadata"] = json!({"creationTimestamp": crate::app::fixture::T0});
        pod["status"]["startTime"] = json!(start);
        pod["status"]["conditions"] = json!([
            {"type": "PodScheduled", "status": "True", "lastTransitionTime": crate::app::fixture::T0},
            {"type": "Ready", "status": "True", "lastTransitionTime": stamp(&name, ahead)},
        ]);
        name.world.pod("u1", pod);
        name.note();
        let settled_at = name.memory.settled_at().unwrap();
        assert_eq!((settled_at - name.world.instant()).as_secs(), 5, "{ahead}");
    }
}
