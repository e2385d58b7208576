//! Instances whose pod others end: their waiters get the successor, and no failure is counted.

use super::{NOTHING, ready, starting};
use crate::app::fixture::{Fixture, conflict, n1, ready_pod};
use crate::kube::error::Verb;
use serde_json::json;

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

/// This replica has followed the start, and its watch on pods lags behind: the app ended by itself.
#[test]
fn a_complete_job_whose_pod_is_not_seen_yet_has_failed() {
    let mut fixture = starting();
    fixture.pass(2.0);
    fixture.world.ended("u1", "Complete", json!({}));
    fixture.world.pod_gone("u1");
    assert_eq!(fixture.changed(), ["1: app_error Completed"]);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.pass(1.0), ["2: app_error Completed"]);
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
    type Watch = fn(&mut crate::app::fixture::World, &str);
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
