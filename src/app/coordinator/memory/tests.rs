//! What is remembered, by literals: a name is observed in some state at some second.

mod clocks;

use super::*;
use crate::app::cache::Lookup;
use crate::app::fixture::{World, merge, n1, uid, waiting_pod};
use serde_json::{Value, json};

/// What is remembered of scim/n1 in a world.
struct Remembered {
    world: World,
    memory: Memory,
    settings: JobSettings,
}

impl Remembered {
    fn new() -> Self {
        Self {
            world: World::new(),
            memory: Memory::default(),
            settings: JobSettings::default(),
        }
    }

    fn pass(&mut self, secs: u64) {
        self.world.pass(Duration::from_secs(secs));
    }

    fn note(&mut self) {
        let mut seen = self.world.cache.lookup(&n1());
        let instance = match &mut seen {
            Lookup::Instance(instance) => Some(&mut **instance),
            _ => None,
        };
        self.memory
            .note(instance, &self.settings, &self.world.context());
    }

    /// The Job of that UID is seen to have ended now, after so many failures before it.
    fn ended(&mut self, uid: &str, condition: &str, failures: u32) {
        self.ended_with(uid, condition, failures, json!({}));
    }

    fn ended_with(&mut self, uid: &str, condition: &str, failures: u32, patch: Value) {
        let mut job = json!({"metadata": {"annotations": {"config-controller.semafor.ch/failures": failures.to_string()}}});
        merge(&mut job, &patch);
        self.world.ended(uid, condition, job);
        self.note();
    }

    fn check_no_report(&self) {
        assert!(self.memory.termination.is_none(), "{:?}", self.memory);
    }

    fn gone(&mut self, uid: &str) {
        self.world.job_gone(uid);
        self.memory.end_seen(&uid.into());
        self.note();
    }

    /// How many seconds from now the Job may be replaced; `None` where it has not failed.
    fn delay(&self, of: &str) -> Option<u64> {
        let failure = self.memory.failure(&uid(of))?;
        let at = failure.restart_at?;
        Some((at - self.world.instant()).as_secs())
    }

    fn carried(&self) -> u32 {
        self.memory.failures_before_new()
    }
}

#[test]
fn restart_delays_double_with_each_consecutive_failure() {
    for (failures, delay) in [(0, 10), (1, 20), (2, 40), (4, 160), (5, 300), (99, 300)] {
        let mut name = Remembered::new();
        name.pass(60);
        name.ended("u1", "Failed", failures);
        assert_eq!(name.delay("u1"), Some(delay));
        assert_eq!(name.carried(), failures + 1);
    }
}

#[test]
fn a_failure_after_ten_minutes_resets_the_count() {
    for (lasted, delay, carried) in [(599, 80, 4), (600, 10, 1)] {
        let mut name = Remembered::new();
        name.pass(lasted);
        name.ended("u1", "FailureTarget", 3);
        assert_eq!((name.delay("u1"), name.carried()), (Some(delay), carried));
    }
}

#[test]
fn a_success_counts_as_failed_only_if_it_ended_too_soon() {
    for (lasted, failed) in [(0, true), (9, true), (10, false)] {
        let mut name = Remembered::new();
        name.pass(lasted);
        name.ended("u1", "Complete", 0);
        assert_eq!(name.delay("u1"), failed.then_some(10), "{lasted}");
        assert_eq!(name.carried(), u32::from(failed));
    }
    // The delay counts from the end, however late this replica observes it. That was within a second.
    let mut name = Remembered::new();
    name.pass(3);
    name.world.ended("u1", "Complete", json!({}));
    name.pass(4);
    name.note();
    assert_eq!(name.delay("u1"), Some(7));
    let mut name = Remembered::new();
    name.pass(3);
    name.world.job("u1", json!({"status": {"startTime": crate::app::fixture::T0, "conditions": [
        {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "lastTransitionTime": name.world.stamp()},
    ]}}));
    name.note();
    assert_eq!(name.delay("u1"), None);
}

#[test]
fn a_successful_end_resets_the_failures() {
    let mut name = Remembered::new();
    name.pass(60);
    name.ended("u1", "Complete", 5);
    assert_eq!(name.carried(), 0);
    name.ended("u2", "Failed", 2);
    name.world.job("u3", json!({}));
    name.world.ready("u3", "10.0.0.3");
    name.note();
    assert_eq!((name.delay("u2"), name.carried()), (None, 0));
}

#[test]
fn only_a_deletion_that_a_caller_asked_for_forgets_the_failures() {
    for waited in [0, 39, 40] {
        let mut name = Remembered::new();
        name.pass(60);
        name.ended("u1", "Failed", 2);
        name.pass(waited);
        name.gone("u1");
        assert_eq!(name.carried(), 3, "{waited}");
        name.memory.stopped(Some(&uid("u0")));
        assert_eq!(name.carried(), 3);
        name.memory.stopped(None);
        assert_eq!(name.carried(), 0);
    }
    // A Job that is being deleted counts as gone.
    let mut name = Remembered::new();
    name.pass(60);
    name.ended("u1", "Failed", 2);
    name.pass(100);
    name.world.deleting("u1");
    name.note();
    name.pass(100);
    name.gone("u1");
    assert_eq!(name.carried(), 3);
    name.memory.stopped(Some(&uid("u1")));
    assert_eq!(name.carried(), 0);
}

/// The exit code that is reported of a failed Job that is gone.
fn expired(name: &Remembered) -> Option<i32> {
    let (of, finding) = name.memory.expired(name.world.instant())?;
    assert_eq!(*of, uid("u1"));
    finding.exit_code
}

#[test]
fn a_failed_job_that_has_expired_is_reported_until_its_delay_is_over() {
    for (ttl, waited, reported) in [(0, 0, true), (5, 5, true), (5, 2, false), (60, 5, false)] {
        let mut name = Remembered::new();
        name.pass(60);
        name.world.pod("u1", failed_pod(3));
        let spec = json!({"spec": {"ttlSecondsAfterFinished": ttl}});
        name.ended_with("u1", "Failed", 0, spec);
        name.pass(waited);
        name.gone("u1");
        assert_eq!(expired(&name), reported.then_some(3), "{ttl} {waited}");
        name.pass(10 - waited);
        assert_eq!(expired(&name), None, "{ttl} {waited}");
        assert_eq!(name.carried(), 1);
    }
    // Without a time to live, others have deleted it.
    let mut name = Remembered::new();
    name.world.pod("u1", failed_pod(3));
    name.ended("u1", "Failed", 0);
    name.gone("u1");
    assert_eq!(expired(&name), None);
}

/// A start that is past its budget is reported as failing. Since nothing ends that, it is replaced like one
/// that has failed.
#[test]
fn a_start_that_has_probably_failed_may_be_replaced_after_its_delay() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    name.world
        .pod("u1", waiting_pod("CreateContainerConfigError"));
    name.note();
    name.pass(9);
    name.note();
    assert_eq!((name.delay("u1"), name.carried()), (None, 0));
    name.pass(1);
    name.note();
    assert_eq!((name.delay("u1"), name.carried()), (Some(10), 1));
    name.pass(4);
    name.note();
    assert_eq!(name.delay("u1"), Some(6));
    name.world.ready("u1", "10.0.0.1");
    name.note();
    assert_eq!((name.delay("u1"), name.carried()), (None, 0));
}

/// The watch on pods was late for long, so the Job seemed to have none. Then it shows at once that its pod has
/// failed, and that somebody has removed it. The delay runs from that failure.
#[test]
fn a_failed_pod_that_is_gone_counts_more_than_the_wait_for_it() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    name.note();
    name.pass(60);
    name.note();
    assert_eq!(name.delay("u1"), Some(0));
    name.world.pod("u1", failed_pod(3));
    name.world.pod_gone("u1");
    name.note();
    assert_eq!(exit_code(&mut name), Some(3));
    assert_eq!(name.delay("u1"), Some(10));
    name.ended("u1", "Failed", 0);
    assert_eq!(name.delay("u1"), Some(10));
}

/// The same of an app that exits with code 0 too soon: that its Job is seen to be complete changes nothing.
#[test]
fn an_app_that_ended_by_itself_and_whose_pod_is_gone_is_not_ended_by_others() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    name.note();
    name.pass(2);
    let end = json!({"exitCode": 0, "finishedAt": name.world.stamp()});
    name.world.pod(
        "u1",
        json!({"status": {"phase": "Succeeded", "containerStatuses": [
            {"name": "app", "state": {"terminated": end}},
        ]}}),
    );
    name.world.pod_gone("u1");
    name.note();
    assert_eq!(name.delay("u1"), Some(10));
    name.pass(1);
    name.world.complete("u1", json!({}));
    name.note();
    assert_eq!((name.delay("u1"), name.carried()), (Some(9), 1));
}

/// What the instance is found to have now, as it is reported.
fn found(name: &mut Remembered) -> Finding {
    let Lookup::Instance(mut instance) = name.world.cache.lookup(&n1()) else {
        panic!("it is there");
    };
    let context = name.world.context();
    name.memory
        .note(Some(&mut instance), &name.settings, &context);
    match instance.status {
        InstanceStatus::Starting(finding) | InstanceStatus::Failed { finding, .. } => finding,
        other => panic!("no problem: {other:?}"),
    }
}

#[test]
fn since_is_there_and_stays() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    name.pass(5);
    let begun = Timestamp::from_system_time(name.world.wall());
    for reason in ["ErrImagePull", "ImagePullBackOff", "ErrImagePull"] {
        name.world.pod("u1", waiting_pod(reason));
        assert_eq!(found(&mut name).since, begun, "{reason}");
        name.pass(3);
    }
    // The end of the pod is known before that of its Job.
    let end = Timestamp::from_system_time(name.world.wall());
    let stamp = name.world.stamp();
    name.world.pod("u1", failed_pod(3));
    merge_end(&mut name, &stamp);
    assert_eq!(found(&mut name).since, end);
    name.pass(3);
    name.world.ended("u1", "Failed", json!({}));
    assert_eq!(found(&mut name).since, end);
}

/// In how many seconds this becomes a failure report.
fn report_in(name: &Remembered, found: &Finding) -> u64 {
    let now = name.world.instant();
    let begun = name.memory.begun(&uid("u1"), now);
    let at = found.report_at(begun, &name.settings.budgets);
    at.unwrap().saturating_duration_since(now).as_secs()
}

/// A running pod that is not ready since that time, as Kubernetes says.
fn unready_since(stamp: &str) -> Value {
    json!({"status": {"phase": "Running",
        "conditions": [
            {"type": "PodScheduled", "status": "True"}, {"type": "Initialized", "status": "True"},
            {"type": "Ready", "status": "False", "reason": "ContainersNotReady", "lastTransitionTime": stamp},
        ],
        "containerStatuses": [{"name": "app", "state": {"running": {}}}],
    }})
}

/// A pod that becomes ready and unready again between two looks at the cache has its whole budget again.
#[test]
fn a_state_that_began_anew_is_another_one() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    for _ in 0..2 {
        name.pass(290);
        let begun = Timestamp::from_system_time(name.world.wall());
        let stamp = name.world.stamp();
        name.world.pod("u1", unready_since(&stamp));
        let found = found(&mut name);
        assert_eq!(found.since, begun);
        assert_eq!(report_in(&name, &found), 300);
    }
}

/// While nobody looked, others ended the pod that waited for a node, and the next one waits for one, too.
#[test]
fn a_pod_that_waits_for_a_node_has_a_budget_of_its_own() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    for pod in ["p1", "p2"] {
        name.pass(590);
        let made = Timestamp::from_system_time(name.world.wall());
        let stamp = name.world.stamp();
        let waits = json!({"metadata": {"uid": pod, "creationTimestamp": stamp}, "status": {"phase": "Pending"}});
        name.world.pod("u1", waits);
        let found = found(&mut name);
        assert_eq!(found.since, made);
        assert_eq!(report_in(&name, &found), 600);
    }
}

/// The container of the failed pod has ended at that time.
fn merge_end(name: &mut Remembered, stamp: &str) {
    let mut pod = failed_pod(3);
    let ended = &mut pod["status"]["containerStatuses"][0]["state"]["terminated"];
    ended["finishedAt"] = json!(stamp);
    name.world.pod("u1", pod);
}

/// Each crash has a time of its own; the budget of all begins with the first.
#[test]
fn a_crash_loop_has_the_budget_of_its_first_crash() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    name.pass(5);
    let first = Timestamp::from_system_time(name.world.wall());
    for left in [10, 6, 2] {
        let mut looping = waiting_pod("CrashLoopBackOff");
        looping["status"]["containerStatuses"][0]["lastState"] = json!({"terminated": {
            "exitCode": 3, "finishedAt": name.world.stamp(),
        }});
        name.world.pod("u1", looping);
        let found = found(&mut name);
        assert_eq!(found.since, first);
        assert_eq!(report_in(&name, &found), left);
        name.pass(4);
    }
}

#[test]
fn the_failures_of_a_gone_job_expire() {
    let mut name = Remembered::new();
    name.pass(60);
    name.ended("u1", "Failed", 2);
    name.pass(100);
    name.gone("u1");
    name.pass(599);
    name.note();
    assert_eq!(name.carried(), 3);
    name.pass(1);
    name.note();
    assert_eq!(name.carried(), 0);
    assert!(name.memory.is_empty());
}

#[test]
fn with_restart_failed_never_there_is_no_restart_time() {
    let mut name = Remembered::new();
    name.settings.restart_failed = false;
    name.pass(60);
    name.ended("u1", "Failed", 0);
    let failure = name.memory.failure(&uid("u1")).unwrap();
    assert_eq!(failure.restart_at, None);
    name.pass(10_000);
    name.gone("u1");
    assert_eq!(name.carried(), 1);
}

#[test]
fn a_failure_before_the_end_counts_from_its_first_observation() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    name.world.pod("u1", waiting_pod("InvalidImageName"));
    name.pass(7);
    name.note();
    assert_eq!(name.delay("u1"), Some(10));
    name.pass(4);
    name.note();
    assert_eq!((name.delay("u1"), name.carried()), (Some(6), 1));
}

#[test]
fn reasons_of_one_problem_share_its_first_observation() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    let begun = |name: &Remembered| {
        let Lookup::Instance(instance) = name.world.cache.lookup(&n1()) else {
            panic!("it is there");
        };
        let now = name.world.instant();
        (now - name.memory.begun(instance.uid(), now).seen).as_secs()
    };
    for (reason, expected) in [
        ("ErrImagePull", 0),
        ("ImagePullBackOff", 3),
        ("ErrImagePull", 6),
        ("CreateContainerConfigError", 0),
        ("CreateContainerError", 3),
        ("ErrImagePull", 0),
    ] {
        name.world.pod("u1", waiting_pod(reason));
        name.note();
        assert_eq!(begun(&name), expected, "{reason}");
        name.pass(3);
    }
    // Another Job has its own problems.
    name.world.job("u2", json!({}));
    name.world.pod("u2", waiting_pod("ErrImagePull"));
    name.note();
    assert_eq!(begun(&name), 0);
}

/// A patch for a pod: its container has ended with this exit code.
fn failed_pod(code: i32) -> Value {
    json!({"status": {"phase": "Failed", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": code, "message": "farewell"}}},
    ]}})
}

/// The exit code of the failed instance, with the termination report.
fn exit_code(name: &mut Remembered) -> Option<i32> {
    found(name).exit_code
}

/// A Job that makes another pod after one that failed.
fn retried() -> Value {
    json!({"spec": {"backoffLimit": 3}})
}

#[test]
fn a_termination_report_outlives_its_pod() {
    let mut name = Remembered::new();
    name.world.job("u1", retried());
    name.world.pod("u1", failed_pod(3));
    name.note();
    name.world.pod_gone("u1");
    name.note();
    assert!(name.memory.termination.is_some());
    name.pass(LOST_KEPT.as_secs() - 1);
    name.note();
    assert!(name.memory.termination.is_some());
    name.pass(1);
    name.note();
    name.check_no_report();
    // Its Job ends before that.
    name.world.pod("u1", failed_pod(4));
    name.note();
    name.world.pod_gone("u1");
    name.note();
    name.ended("u1", "Failed", 0);
    assert_eq!(exit_code(&mut name), Some(4));
}

/// Nobody has to remember it: the index has it, for all readers.
#[test]
fn how_a_job_has_ended_stands_as_long_as_it_is_there() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    name.world.pod("u1", failed_pod(3));
    name.note();
    name.world.pod_gone("u1");
    name.note();
    name.ended("u1", "Failed", 0);
    name.pass(LOST_KEPT.as_secs() + 1);
    assert_eq!(exit_code(&mut name), Some(3));
    name.check_no_report();
    // Another Job of the name.
    name.ended("u2", "Failed", 0);
    assert_eq!(exit_code(&mut name), None);
    // It runs again, since etcd was restored.
    name.world.pod("u2", failed_pod(4));
    name.note();
    name.world
        .job("u2", json!({"status": {"conditions": null}}));
    name.world.ready("u2", "10.0.0.2");
    name.note();
    name.world.pod_gone("u2");
    name.ended("u2", "Failed", 0);
    assert_eq!(exit_code(&mut name), None);
    assert_eq!(name.world.cache.index().end_bytes(), 0);
}

#[test]
fn a_termination_report_counts_for_its_own_job_only() {
    let mut name = Remembered::new();
    name.world.job("u1", json!({}));
    name.world.pod("u1", failed_pod(3));
    name.note();
    name.world.pod_gone("u1");
    name.ended("u2", "Failed", 0);
    assert_eq!(exit_code(&mut name), None);
    // A ready instance and a gone Job have no termination report.
    name.world.pod("u2", failed_pod(4));
    name.note();
    name.world
        .job("u2", json!({"status": {"conditions": null}}));
    name.world.ready("u2", "10.0.0.2");
    name.note();
    name.check_no_report();
    name.world.pod("u2", failed_pod(5));
    name.note();
    assert!(name.memory.termination.is_some());
    name.gone("u2");
    name.check_no_report();
}
