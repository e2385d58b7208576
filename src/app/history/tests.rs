//! What is remembered, by literals: a name is seen in some state at some second.

use super::*;
use crate::app::cache::Observed;
use crate::app::fixture::{World, key, merge, n1, uid, waiting_pod};
use serde_json::{Value, json};

/// A history of scim/n1 in a world.
struct Past {
    world: World,
    history: History,
    settings: JobSettings,
}

impl Past {
    fn new() -> Self {
        Self {
            world: World::new(),
            history: History::default(),
            settings: JobSettings::default(),
        }
    }

    fn pass(&mut self, secs: u64) {
        self.world.pass(Duration::from_secs(secs));
    }

    fn note(&mut self) {
        let seen = self.world.cache.see(&n1());
        let instance = match &seen {
            Observed::Instance(instance) => Some(&**instance),
            _ => None,
        };
        self.history
            .note(&n1(), instance, &self.settings, self.world.wall());
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

    fn check_no_words(&self) {
        assert_eq!(self.history.last_words.len(), 0, "{:?}", self.history);
    }

    fn gone(&mut self, uid: &str) {
        self.world.job_gone(uid);
        self.note();
    }

    /// How many seconds from now the Job may be replaced; `None` where it has not failed.
    fn delay(&self, of: &str) -> Option<u64> {
        let failure = self.history.failure(&n1(), &uid(of))?;
        let at = failure.restart_at?;
        Some(at.duration_since(self.world.wall()).unwrap().as_secs())
    }

    fn carried(&self) -> u32 {
        self.history.failures_before_new(&n1())
    }
}

#[test]
fn delays_double_with_each_failure_in_a_row() {
    for (failures, delay) in [(0, 10), (1, 20), (2, 40), (4, 160), (5, 300), (99, 300)] {
        let mut past = Past::new();
        past.pass(60);
        past.ended("u1", "Failed", failures);
        assert_eq!(past.delay("u1"), Some(delay));
        assert_eq!(past.carried(), failures + 1);
    }
}

#[test]
fn ten_minutes_make_a_failure_the_first() {
    for (lasted, delay, carried) in [(599, 80, 4), (600, 10, 1)] {
        let mut past = Past::new();
        past.pass(lasted);
        past.ended("u1", "FailureTarget", 3);
        assert_eq!((past.delay("u1"), past.carried()), (Some(delay), carried));
    }
}

#[test]
fn only_what_ended_too_soon_by_itself_has_failed() {
    for (lasted, failed) in [(0, true), (9, true), (10, false)] {
        let mut past = Past::new();
        past.pass(lasted);
        past.ended("u1", "Complete", 0);
        assert_eq!(past.delay("u1"), failed.then_some(10), "{lasted}");
        assert_eq!(past.carried(), u32::from(failed));
    }
    let mut past = Past::new();
    past.pass(3);
    past.world.job("u1", json!({"status": {"startTime": crate::app::fixture::T0, "conditions": [
        {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "lastTransitionTime": past.world.stamp()},
    ]}}));
    past.note();
    assert_eq!(past.delay("u1"), None);
}

#[test]
fn an_end_that_was_good_forgets_the_failures() {
    let mut past = Past::new();
    past.pass(60);
    past.ended("u1", "Complete", 5);
    assert_eq!(past.carried(), 0);
    past.ended("u2", "Failed", 2);
    past.world.job("u3", json!({}));
    past.world.ready("u3", "10.0.0.3");
    past.note();
    assert_eq!((past.delay("u2"), past.carried()), (None, 0));
}

#[test]
fn a_deletion_after_the_delay_carries_the_failures_and_one_before_forgets_them() {
    for (waited, carried) in [(39, 0), (40, 3)] {
        let mut past = Past::new();
        past.pass(60);
        past.ended("u1", "Failed", 2);
        past.pass(waited);
        past.gone("u1");
        assert_eq!(past.carried(), carried, "{waited}");
    }
    // A Job that is on its way out is gone.
    let mut past = Past::new();
    past.pass(60);
    past.ended("u1", "Failed", 2);
    past.pass(100);
    past.world.deleting("u1");
    past.note();
    past.pass(100);
    past.gone("u1");
    assert_eq!(past.carried(), 3);
}

#[test]
fn what_has_gone_is_forgotten_in_the_end() {
    let mut past = Past::new();
    past.pass(60);
    past.ended("u1", "Failed", 2);
    past.pass(100);
    past.gone("u1");
    past.pass(600);
    past.note();
    assert_eq!(past.carried(), 3);
    past.pass(1);
    past.note();
    assert_eq!(past.carried(), 0);
    assert!(past.history.records.is_empty() && past.history.gone.is_empty());
}

#[test]
fn so_many_names_that_have_gone_are_remembered() {
    let mut past = Past::new();
    past.pass(60);
    past.ended("u1", "Failed", 0);
    past.pass(20);
    let Observed::Instance(failed) = past.world.cache.see(&n1()) else {
        panic!("it is there");
    };
    for n in 0..=GONE_MAX {
        let key = key("scim", &n.to_string());
        let wall = past.world.wall() + Duration::from_nanos(n as u64);
        past.history.note(&key, Some(&failed), &past.settings, wall);
        past.history.note(&key, None, &past.settings, wall);
    }
    let carried = |n: usize| {
        past.history
            .failures_before_new(&key("scim", &n.to_string()))
    };
    assert_eq!(past.history.gone.len(), GONE_MAX);
    assert_eq!((carried(0), carried(1), carried(GONE_MAX)), (0, 1, 1));
}

#[test]
fn never_restarted_is_never_restarted() {
    let mut past = Past::new();
    past.settings.restart_failed = false;
    past.pass(60);
    past.ended("u1", "Failed", 0);
    let failure = past.history.failure(&n1(), &uid("u1")).unwrap();
    assert_eq!(failure.restart_at, None);
    past.pass(10_000);
    past.gone("u1");
    assert_eq!(past.carried(), 0);
}

#[test]
fn a_verdict_before_the_end_counts_from_when_it_was_seen() {
    let mut past = Past::new();
    past.world.job("u1", json!({}));
    past.world.pod("u1", waiting_pod("InvalidImageName"));
    past.pass(7);
    past.note();
    assert_eq!(past.delay("u1"), Some(10));
    past.pass(4);
    past.note();
    assert_eq!((past.delay("u1"), past.carried()), (Some(6), 1));
}

#[test]
fn one_trouble_has_one_beginning_whatever_it_is_called() {
    let mut past = Past::new();
    past.world.job("u1", json!({}));
    let begun = |past: &Past| {
        let Observed::Instance(instance) = past.world.cache.see(&n1()) else {
            panic!("it is there");
        };
        let InstanceStatus::Starting(finding) = &instance.status else {
            panic!("it starts");
        };
        let first = past
            .history
            .first_seen(&n1(), instance.uid(), finding, past.world.wall());
        past.world.wall().duration_since(first).unwrap().as_secs()
    };
    for (reason, expected) in [
        ("ErrImagePull", 0),
        ("ImagePullBackOff", 3),
        ("ErrImagePull", 6),
        ("CreateContainerConfigError", 0),
        ("CreateContainerError", 3),
        ("ErrImagePull", 0),
    ] {
        past.world.pod("u1", waiting_pod(reason));
        past.note();
        assert_eq!(begun(&past), expected, "{reason}");
        past.pass(3);
    }
    // Another Job has its own troubles.
    past.world.job("u2", json!({}));
    past.world.pod("u2", waiting_pod("ErrImagePull"));
    assert_eq!(begun(&past), 0);
}

/// What makes a pod one whose container has ended with this exit code.
fn failed_pod(code: i32) -> Value {
    json!({"status": {"phase": "Failed", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": code, "message": "farewell"}}},
    ]}})
}

/// The exit code that the failed instance tells, after what is remembered was recalled.
fn told(past: &Past) -> Option<i32> {
    let Observed::Instance(mut instance) = past.world.cache.see(&n1()) else {
        panic!("it is there");
    };
    past.history.recall(&n1(), &mut instance);
    match instance.status {
        InstanceStatus::Failed { finding, .. } => finding.exit_code,
        other => panic!("it has failed: {other:?}"),
    }
}

#[test]
fn what_a_pod_said_last_outlives_it() {
    let mut past = Past::new();
    past.world.job("u1", json!({}));
    past.world.pod("u1", failed_pod(3));
    past.note();
    past.world.pod_gone("u1");
    past.note();
    past.ended("u1", "Failed", 0);
    assert_eq!(told(&past), Some(3));
    past.pass(LOST_KEPT.as_secs());
    past.note();
    assert_eq!(told(&past), Some(3));
    past.pass(1);
    past.note();
    assert_eq!(told(&past), None);
    past.check_no_words();
}

#[test]
fn what_is_remembered_of_a_pod_is_of_its_job_alone() {
    let mut past = Past::new();
    past.world.job("u1", json!({}));
    past.world.pod("u1", failed_pod(3));
    past.note();
    past.world.pod_gone("u1");
    past.ended("u2", "Failed", 0);
    assert_eq!(told(&past), None);
    past.check_no_words();
    // What has become ready is past it, and what has gone is forgotten.
    past.world.pod("u2", failed_pod(4));
    past.note();
    past.world
        .job("u2", json!({"status": {"conditions": null}}));
    past.world.ready("u2", "10.0.0.2");
    past.note();
    past.check_no_words();
    past.world.pod("u2", failed_pod(5));
    past.note();
    assert_eq!(past.history.last_words.len(), 1);
    past.gone("u2");
    past.check_no_words();
}

#[test]
fn so_many_pods_that_have_gone_are_remembered() {
    let mut past = Past::new();
    past.world.job("u1", json!({}));
    let see = |past: &Past| match past.world.cache.see(&n1()) {
        Observed::Instance(instance) => instance,
        _ => panic!("it is there"),
    };
    past.world.pod("u1", failed_pod(3));
    let failed = see(&past);
    past.world.pod_gone("u1");
    let without = see(&past);
    for n in 0..=LOST_MAX {
        let key = key("scim", &n.to_string());
        let wall = past.world.wall() + Duration::from_nanos(n as u64);
        past.history.note(&key, Some(&failed), &past.settings, wall);
        past.history
            .note(&key, Some(&without), &past.settings, wall);
    }
    let known = |n: usize| {
        let key = key("scim", &n.to_string());
        past.history.last_words.of(&key, &uid("u1")).is_some()
    };
    assert_eq!(past.history.last_words.len(), LOST_MAX);
    assert_eq!((known(0), known(1), known(LOST_MAX)), (false, true, true));
}
