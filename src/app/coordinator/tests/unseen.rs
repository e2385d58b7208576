//! Calls that Kubernetes carries out, and whose result the cache does not take: it has a newer version
//! of the object, as after etcd was restored from a backup. The cache heals by a list; until then no call
//! is made again and again.

use super::{NOTHING, failed_after, stuck};
use crate::app::api_call::CallOutcome;
use crate::app::fixture::{Fixture, exists, ready_pod, uid};
use serde_json::json;

/// How many calls are made within so many seconds, if each of them is `done` at once and nothing
/// changes; at most a thousand.
fn calls_within(
    fixture: &mut Fixture,
    secs: f64,
    done: impl Fn(&mut Fixture) -> Vec<String>,
) -> usize {
    let (mut calls, mut passed) = (0, 0.0);
    while passed < secs && calls < 1000 {
        if fixture.call().is_some() {
            calls += 1;
            done(fixture);
        } else {
            fixture.pass(0.05);
            passed += 0.05;
        }
    }
    calls
}

#[test]
fn a_replaced_job_is_not_deleted_again_at_once() {
    let mut fixture = failed_after(60.0);
    fixture.pass(30.0);
    assert_eq!(fixture.get_of(1, &super::n1(), "", 60), ["call replace u1"]);
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call replace u1"]);
    let calls = calls_within(&mut fixture, 20.0, Fixture::done);
    assert!((10..30).contains(&calls), "{calls}");
    // The list that heals the cache comes.
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann after 1"]);
}

#[test]
fn the_job_of_an_overdue_pod_is_not_deleted_again_at_once() {
    let mut fixture = stuck();
    assert_eq!(fixture.done(), NOTHING);
    let calls = calls_within(&mut fixture, 20.0, Fixture::done);
    assert!((3..=4).contains(&calls), "{calls}");
}

#[test]
fn labels_that_are_passed_on_are_not_set_again_at_once() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    let show = |fixture: &mut Fixture, name: &str, labels| {
        let mut pod = ready_pod("10.0.0.1");
        pod["metadata"] = json!({"name": name, "uid": name, "labels": labels});
        fixture.world.pod("u1", pod);
    };
    let user = json!({"config-controller.semafor.ch/meta-username": "ann"});
    show(&mut fixture, "p1", user.clone());
    fixture.changed();
    fixture.pass(1.0);
    drop(fixture.world.pods.own_delete("p1", &uid("p1")));
    show(&mut fixture, "p2", json!({}));
    assert_eq!(fixture.changed(), ["call label p2"]);
    assert_eq!(fixture.done(), NOTHING);
    let calls = calls_within(&mut fixture, 20.0, Fixture::done);
    assert!((5..30).contains(&calls), "{calls}");
    show(&mut fixture, "p2", user);
    fixture.changed();
    fixture.pass(10.0);
    fixture.check_idle();
}

/// Kubernetes says that the Job is there, and a read does not find it.
#[test]
fn a_lasting_contradiction_is_read_ever_more_rarely() {
    let mut fixture = Fixture::new();
    fixture.get_of(1, &super::n1(), "", 60);
    let calls = calls_within(&mut fixture, 20.0, |fixture| {
        if fixture
            .call()
            .is_some_and(|call| format!("{call:?}").starts_with("Create"))
        {
            fixture.fails(exists())
        } else {
            fixture.ends(CallOutcome::Absent)
        }
    });
    assert!((20..60).contains(&calls), "{calls}");
}
