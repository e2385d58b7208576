//! Instances whose pod others end: their waiters get the successor, and no failure is counted.

use super::{NOTHING, ready, starting};
use crate::app::api_call::{Action, CallOutcome};
use crate::app::fixture::{Fixture, World, conflict, n1, ready_pod};
use crate::kube::error::Verb;
use serde_json::{Value, json};

/// Request 2 waits while the app of a ready instance exits with code 0 on SIGTERM.
fn evicted() -> Fixture {
    let mut fixture = ready();
    fixture.world.pod_evicted("u1", None);
    fixture.changed();
    assert_eq!(fixture.get(2), NOTHING);
    fixture.pass(1.0);
    fixture.world.pod_evicted("u1", Some(0));
    assert_eq!(fixture.changed(), NOTHING);
    fixture
}

fn replaced(fixture: &mut Fixture, calls: &[String]) {
    assert_eq!(calls, ["call replace disrupted u1"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann"]);
    fixture.world.job("u2", json!({}));
    fixture.world.ready("u2", "10.0.0.2");
}

/// The watches are apart: the pod may be there when its Job is complete, or gone before.
#[test]
fn a_waiter_gets_the_successor_of_an_evicted_instance() {
    for is_gone in [false, true] {
        let mut fixture = evicted();
        if is_gone {
            fixture.world.pod_gone("u1");
            assert_eq!(fixture.changed(), NOTHING);
        }
        fixture.world.ended("u1", "Complete", json!({}));
        if is_gone {
            fixture.world.pod_gone("u1");
        }
        let calls = fixture.changed();
        replaced(&mut fixture, &calls);
        assert_eq!(fixture.done(), ["2: ready 10.0.0.2"]);
        fixture.check_idle();
    }
}

/// The next Job carries no failure, and its predecessor is not reported as one.
#[test]
fn an_eviction_counts_as_no_failure() {
    let mut fixture = evicted();
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.reported();
    let calls = fixture.changed();
    assert_eq!(fixture.reported(), ["u1 finished Evicted"]);
    replaced(&mut fixture, &calls);
    let reported = fixture.reported();
    assert!(
        reported.contains(&"u1 stopping, disrupted".to_owned()),
        "{reported:?}"
    );
    fixture.done();
    assert_eq!(fixture.get(3), ["3: ready 10.0.0.2"]);
}

/// A replica that starts later finds a complete Job without its pod.
#[test]
fn a_complete_job_without_its_pod_is_replaced_without_a_delay() {
    let mut fixture = Fixture::new();
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.world.pod_gone("u1");
    let calls = fixture.get(1);
    replaced(&mut fixture, &calls);
    assert_eq!(fixture.done(), ["1: ready 10.0.0.2"]);
}

/// It comes while the deletion is in flight, and starts nothing itself.
#[test]
fn a_search_waits_for_the_replacement_of_an_evicted_instance() {
    let mut fixture = Fixture::new();
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.world.pod_gone("u1");
    let calls = fixture.get(1);
    assert_eq!(fixture.find_of(2, &n1()), NOTHING);
    replaced(&mut fixture, &calls);
    assert_eq!(fixture.done(), ["1: ready 10.0.0.2", "2: ready 10.0.0.2"]);
    // Without a start there is nothing to wait for.
    let mut fixture = Fixture::new();
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.world.pod_gone("u1");
    assert_eq!(fixture.find_of(1, &n1()), ["1: NoInstance"]);
}

/// Somebody gave it to the Job, so its end is not that of the app.
#[test]
fn the_end_of_a_pod_from_before_the_job_says_nothing() {
    let mut fixture = starting();
    let mut older = exited("Succeeded", None);
    let made = "2026-05-01T09:59:00Z";
    older["metadata"] = json!({"name": "older", "uid": "older", "creationTimestamp": made});
    fixture.world.pod("u1", older);
    assert_eq!(fixture.changed(), NOTHING);
    fixture.world.pod_gone("u1");
    drop(fixture.world.pods.own_delete("older", &"older".into()));
    fixture.world.complete("u1", json!({}));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(5.0), NOTHING);
    assert_eq!(fixture.pass(5.0)[0], "call replace disrupted u1");
}

/// This replica has followed the start, and its watch on pods lags behind: who ended it is not known yet.
#[test]
fn a_complete_job_is_reported_once_the_end_of_its_pod_is_seen() {
    let mut fixture = starting();
    fixture.pass(2.0);
    fixture.world.complete("u1", json!({}));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(5.0), NOTHING);
    fixture.world.pod("u1", exited("Succeeded", None));
    assert_eq!(
        fixture.changed(),
        ["1: app_error Completed", "2: app_error Completed"]
    );
    assert_eq!(fixture.get(3), NOTHING);
    assert_eq!(fixture.pass(1.0), ["3: app_error Completed"]);
}

/// What is not seen for long does not keep callers from the successor.
#[test]
fn a_complete_job_whose_pod_is_not_seen_to_end_is_replaced_after_a_while() {
    for is_seen in [false, true] {
        let mut fixture = if is_seen { readying() } else { starting() };
        fixture.pass(2.0);
        fixture.get_of(2, &n1(), "", 60);
        fixture.reported();
        fixture.world.complete("u1", json!({}));
        assert_eq!(fixture.changed(), NOTHING);
        assert_eq!(fixture.pass(9.9), ["1: node_not_ready Stopping"]);
        assert_eq!(fixture.reported(), [""; 0]);
        let calls = fixture.pass(0.1);
        let reported = fixture.reported();
        assert!(
            reported[0].starts_with("u1 finished Evicted"),
            "{reported:?}"
        );
        fixture.world.pod_gone("u1");
        replaced(&mut fixture, &calls);
        assert_eq!(fixture.done(), ["2: ready 10.0.0.2"]);
    }
}

/// Only a deletion that Kubernetes accepts is one by this replica. The Job may be seen gone before the result
/// of the call says so.
#[test]
fn a_replacement_counts_where_its_deletion_was_accepted() {
    for (is_ours, expected) in [
        (true, ["u1 stopping, disrupted", "u1 gone"].as_slice()),
        (false, ["u1 gone"].as_slice()),
    ] {
        let mut fixture = evicted();
        fixture.world.ended("u1", "Complete", json!({}));
        assert_eq!(fixture.changed(), ["call replace disrupted u1"]);
        fixture.reported();
        fixture.world.job_gone("u1");
        assert_eq!(fixture.changed(), NOTHING);
        assert_eq!(fixture.reported(), [""; 0]);
        let outcome = if is_ours {
            CallOutcome::Deleted { is_first: true }
        } else {
            CallOutcome::Absent
        };
        assert_eq!(fixture.ends(outcome), ["call create for ann"]);
        assert_eq!(fixture.reported()[..expected.len()], *expected);
    }
}

/// Another replica replaces it, and the caches show that at once.
#[test]
fn a_waiter_follows_the_replacement_by_another_replica() {
    let mut fixture = evicted();
    fixture.world.ended("u1", "Complete", json!({}));
    assert_eq!(fixture.changed(), ["call replace disrupted u1"]);
    fixture.world.job_gone("u1");
    fixture.world.job("u2", json!({}));
    fixture.world.ready("u2", "10.0.0.2");
    let mut lines = fixture.fails(conflict(Verb::Delete));
    lines.extend(fixture.done());
    assert!(lines.contains(&"2: ready 10.0.0.2".to_owned()), "{lines:?}");
    let mut fixture = evicted();
    let complete = json!({"metadata": {"deletionTimestamp": fixture.world.stamp()}});
    fixture.world.ended("u1", "Complete", complete);
    assert_eq!(fixture.changed(), NOTHING);
    fixture.world.job_gone("u1");
    assert_eq!(fixture.changed(), ["call create for ann"]);
}

/// The app does not exit with code 0: the Job controller makes a new pod of the same Job, 10 s later.
#[test]
fn the_back_off_before_the_successor_of_an_evicted_pod_uses_up_no_budget() {
    let mut fixture = ready();
    fixture.world.pod_evicted("u1", None);
    fixture.changed();
    assert_eq!(fixture.get_of(2, &n1(), "", 300), NOTHING);
    fixture.world.pod_evicted("u1", Some(143));
    fixture.changed();
    fixture.world.pod_gone("u1");
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(24.0), NOTHING);
    assert_eq!(
        fixture.get_of(3, &n1(), "", 0),
        ["3: node_not_ready Evicted"]
    );
    // The budget of a Job without a pod, and the back-off before.
    assert_eq!(fixture.pass(1.0), ["2: app_error Evicted"]);
    fixture.world.pod("u1", ready_pod("10.0.0.2"));
    fixture.changed();
    assert_eq!(fixture.get(4), ["4: ready 10.0.0.2"]);
}

/// The watches are apart: the pod of a Job that a GET replaces may go before its Job does. That does not
/// change who ended it.
#[test]
fn an_app_that_ended_by_itself_counts_as_failed_when_its_pod_is_deleted() {
    type Watch = fn(&mut World, &str);
    let ways: [Watch; 2] = [|it, uid| it.pod_leaving(uid), |it, uid| it.pod_gone(uid)];
    for leaves in ways {
        let mut fixture = starting();
        fixture.pass(2.0);
        fixture.world.ended("u1", "Complete", json!({}));
        assert_eq!(fixture.changed(), ["1: app_error Completed"]);
        fixture.pass(60.0);
        assert_eq!(fixture.get(2), ["call replace u1"]);
        leaves(&mut fixture.world, "u1");
        assert_eq!(fixture.changed(), NOTHING);
        fixture.world.deleting("u1");
        assert_eq!(fixture.done(), NOTHING);
        fixture.world.pod_gone("u1");
        fixture.world.job_gone("u1");
        assert_eq!(fixture.changed(), ["call create for ann after 1"]);
    }
}

/// What the watches on pods and on Jobs show, one after the other.
type Shown = fn(&mut World);

/// All ways to merge the two, each in its own order.
fn merged(pods: &[Shown], jobs: &[Shown]) -> Vec<Vec<Shown>> {
    let (Some((pod, later_pods)), Some((job, later_jobs))) =
        (pods.split_first(), jobs.split_first())
    else {
        return vec![[pods, jobs].concat()];
    };
    let begin = |first: &Shown, rest: Vec<Vec<Shown>>| {
        let prepend = |rest: Vec<Shown>| [&[*first], &rest[..]].concat();
        rest.into_iter().map(prepend).collect::<Vec<_>>()
    };
    let mut all = begin(pod, merged(later_pods, jobs));
    all.extend(begin(job, merged(pods, later_jobs)));
    all
}

/// Shows these to a coordinator that looks only after those before `looks`, and at the end, while a request
/// waits if it can. Returns its effects until 1 s later.
fn observe(
    mut fixture: Fixture,
    shown: &[Shown],
    looks: [usize; 2],
    pods_first: bool,
) -> Vec<String> {
    fixture.pass(3.0);
    fixture.world.fed = Some(Default::default());
    let mut lines = Vec::new();
    for (number, show) in (1..).zip(shown) {
        show(&mut fixture.world);
        if looks.contains(&number) || number == shown.len() {
            lines.extend(fixture.fed(pods_first));
            if fixture.coordinator.waiting() == 0 {
                lines.extend(fixture.get(number as u64 + 1));
            }
        }
    }
    // A replacement of the Job, or a read of it before its pod is deleted as one that outlives it.
    while matches!(
        fixture.call(),
        Some(Action::DeleteJob { .. } | Action::ReadJob { .. })
    ) {
        lines.extend(fixture.ends(CallOutcome::Absent));
    }
    lines.extend(fixture.pass(1.0));
    lines
}

/// Calls `check` with what each order of events gives, and each order in which they are processed.
fn in_each_order(orders: &[Vec<Shown>], start: fn() -> Fixture, check: impl Fn(&[String]) -> bool) {
    for (order, shown) in orders.iter().enumerate() {
        for first in 0..shown.len() {
            // One look in between, or two in a row.
            let looks = [first, first + (order + first) % 2];
            for pods_first in [true, false] {
                let lines = observe(start(), shown, looks, pods_first);
                assert!(check(&lines), "{order} {looks:?} {pods_first}: {lines:?}");
            }
        }
    }
}

/// The Job `u1` ends well, and another replica replaces it.
const REPLACED: [Shown; 5] = [
    |world| {
        world.job("u1", json!({"status": {"conditions": [
        {"type": "SuccessCriteriaMet", "status": "True", "lastTransitionTime": world.stamp()},
    ]}}))
    },
    |world| world.complete("u1", json!({})),
    |world| {
        let deleted = json!({"metadata": {"deletionTimestamp": world.stamp()}});
        world.complete("u1", deleted);
    },
    |world| world.job_gone("u1"),
    |world| {
        world.job("u2", json!({}));
        world.ready("u2", "10.0.0.2");
    },
];

/// Whether a waiter got the successor, and no other response.
fn gets_successor(lines: &[String]) -> bool {
    let is_wrong = |line: &String| line.contains("app_error") || line.contains("Stopped");
    !lines.iter().any(is_wrong) && lines.iter().any(|line| line.ends_with(": ready 10.0.0.2"))
}

/// Jobs and pods have watches of their own, and another thread may look at the caches late: whatever this
/// replica sees first, a waiter gets the successor.
#[test]
fn a_waiter_gets_the_successor_whatever_is_seen_first() {
    let pods: [Shown; 4] = [
        |world| world.pod_marked("u1"),
        |world| world.pod_evicted("u1", None),
        |world| world.pod_evicted("u1", Some(0)),
        |world| world.pod_gone("u1"),
    ];
    let orders = merged(&pods, &REPLACED);
    in_each_order(&orders, readying, gets_successor);
    let some: Vec<_> = orders.into_iter().step_by(5).collect();
    in_each_order(&some, ready, gets_successor);
}

/// A person deletes the pod, and its app exits with code 0 on SIGTERM. The cache has seen that it was being
/// deleted before it ended, even if its Job ends and is deleted in the same second.
#[test]
fn a_waiter_gets_the_successor_of_a_pod_that_was_deleted_before_it_ended() {
    let pods: [Shown; 3] = [
        |world| {
            let stamp = world.stamp();
            let deleted =
                json!({"metadata": {"deletionTimestamp": stamp}, "status": {"phase": "Running"}});
            world.pod("u1", deleted);
        },
        |world| {
            let stamp = world.stamp();
            world.pod("u1", exited("Succeeded", Some(&stamp)));
        },
        |world| world.pod_gone("u1"),
    ];
    let orders = merged(&pods, &REPLACED);
    for start in [readying, crashed, retried] {
        in_each_order(&orders, start, gets_successor);
    }
}

/// The pod of an app that exits with code 0 by itself has ended before its Job, and is deleted with it.
#[test]
fn an_own_end_is_reported_whatever_is_seen_first() {
    let pods: [Shown; 4] = [
        |world| world.pod("u1", exited("Running", None)),
        |world| world.pod("u1", exited("Succeeded", None)),
        |world| {
            let stamp = world.stamp();
            world.pod("u1", exited("Succeeded", Some(&stamp)));
        },
        |world| world.pod_gone("u1"),
    ];
    let orders = merged(&pods[2..], &REPLACED[3..4]).into_iter();
    let orders: Vec<_> = orders
        .map(|last| [&pods[..2], &REPLACED[..3], &last[..]].concat())
        .collect();
    in_each_order(&orders, readying, |lines| {
        lines.contains(&"1: app_error Completed".to_owned())
    });
}

/// A fixture in which request 1 waits for the pod of the Job `u1`, which runs.
fn readying() -> Fixture {
    let mut fixture = starting();
    let runs = json!({"status": {"phase": "Running"}});
    fixture.world.pod("u1", runs);
    fixture.changed();
    fixture
}

/// The same after the container has failed once.
fn crashed() -> Fixture {
    let mut fixture = starting();
    let crashed = json!({"status": {"phase": "Running", "containerStatuses": [
        {"name": "app", "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137}}},
    ]}});
    fixture.world.pod("u1", crashed);
    fixture.changed();
    fixture
}

/// The same after another pod of the Job has failed, which Kubernetes keeps.
fn retried() -> Fixture {
    let mut fixture = starting();
    let job = json!({"spec": {"backoffLimit": 6}});
    fixture.world.job("u1", job);
    fixture.world.pod_failed_first("u1");
    fixture.changed();
    fixture.pass(5.0);
    let runs = json!({"status": {"phase": "Running"}});
    fixture.world.pod("u1", runs);
    fixture.changed();
    fixture
}

/// The first pod of the Job has failed, which Kubernetes keeps. The second ran for an hour, and is evicted: the
/// Job controller makes a third one, which has nothing to do with that failure.
#[test]
fn an_eviction_after_a_retry_is_no_failure() {
    for first_look in 0..3 {
        let mut fixture = retried();
        fixture.world.ready("u1", "10.0.0.1");
        assert_eq!(fixture.changed(), ["1: ready 10.0.0.1"]);
        fixture.pass(3600.0);
        let shown: [Shown; 3] = [
            |world| world.pod_evicted("u1", None),
            |world| world.pod_evicted("u1", Some(143)),
            |world| world.pod_gone("u1"),
        ];
        for (look, show) in shown.iter().enumerate() {
            show(&mut fixture.world);
            if look >= first_look {
                assert_eq!(fixture.changed(), NOTHING, "{first_look} {look}");
            }
            if look == first_look {
                assert_eq!(fixture.get_of(2, &n1(), "", 60), NOTHING, "{first_look}");
            }
        }
        assert_eq!(
            fixture.get_of(3, &n1(), "", 0),
            ["3: node_not_ready Evicted"]
        );
        assert_eq!(fixture.pass(10.0), NOTHING);
        let next = |mut pod: Value| {
            pod["metadata"] = json!({"name": "p-2", "uid": "p-2"});
            pod
        };
        let runs = next(json!({"status": {"phase": "Running"}}));
        fixture.world.pod("u1", runs);
        assert_eq!(fixture.changed(), NOTHING);
        assert_eq!(fixture.pass(40.0), NOTHING);
        fixture.world.pod("u1", next(ready_pod("10.0.0.2")));
        assert_eq!(fixture.changed(), ["2: ready 10.0.0.2"]);
    }
}

/// This replica has seen the pod that failed, and its watch on pods lags behind: nothing shows yet whether the
/// next one was ended by others.
#[test]
fn a_complete_job_of_which_only_a_failed_pod_is_seen_is_not_replaced_at_once() {
    let mut fixture = starting();
    fixture
        .world
        .job("u1", json!({"spec": {"backoffLimit": 6}}));
    fixture.world.pod_failed_first("u1");
    assert_eq!(fixture.changed(), NOTHING);
    fixture.pass(5.0);
    fixture.world.complete("u1", json!({}));
    assert_eq!(fixture.changed(), NOTHING);
    fixture.world.pod("u1", exited("Succeeded", None));
    assert_eq!(fixture.changed(), ["1: app_error Completed"]);
}

/// All of this is seen at once: the reason is that of the end, and not of the crash before.
#[test]
fn a_pod_that_failed_while_it_was_deleted_is_reported_with_its_end() {
    for (start, retries) in [(readying as fn() -> Fixture, 0), (crashed, 0), (retried, 1)] {
        let mut fixture = start();
        let stamp = fixture.world.stamp();
        let mut pod = json!({"metadata": {"deletionTimestamp": stamp}, "status": {"phase": "Running", "containerStatuses": [
            {"name": "app", "state": {"running": {}}, "lastState": {"terminated": {"exitCode": 137}}},
        ]}});
        fixture.world.pod("u1", pod.clone());
        pod["status"]["phase"] = json!("Failed");
        let end = json!({"terminated": {"exitCode": 4, "reason": "ItsEnd"}});
        pod["status"]["containerStatuses"][0]["state"] = end;
        fixture.world.pod("u1", pod);
        let deleted =
            json!({"metadata": {"deletionTimestamp": stamp}, "spec": {"backoffLimit": retries}});
        fixture.world.ended("u1", "Failed", deleted);
        assert_eq!(fixture.changed(), ["1: app_error ItsEnd"], "{retries}");
    }
}

/// The app of this pod has exited with code 0; the pod is being deleted since that time.
fn exited(phase: &str, deleted: Option<&str>) -> Value {
    json!({"metadata": {"deletionTimestamp": deleted}, "status": {
        "phase": phase,
        "containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": 0}}}],
    }})
}
