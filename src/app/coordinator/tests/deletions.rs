//! Whether a stop through another replica came before a request or after it.

use super::{NOTHING, starting};
use crate::app::fixture::{Fixture, exists};
use serde_json::json;

/// The watch on Jobs lags: a start joins a Job that was stopped at another replica before. It gets the
/// successor, however the changes come.
#[test]
fn a_start_after_a_stop_at_another_replica_gets_the_next_instance() {
    for at_once in [false, true] {
        let mut fixture = Fixture::new();
        fixture.world.fed = Some(Default::default());
        fixture.world.job("u1", json!({}));
        assert_eq!(fixture.fed(false), NOTHING);
        let stopped_at = fixture.world.stamp();
        fixture.pass(3.0);
        assert_eq!(fixture.get(1), NOTHING);
        let deleting = json!({"metadata": {"deletionTimestamp": stopped_at}});
        fixture.world.job("u1", deleting);
        if !at_once {
            assert_eq!(fixture.fed(false), NOTHING);
        }
        fixture.world.job_gone("u1");
        assert_eq!(fixture.fed(false), ["call create for ann"], "{at_once}");
        fixture.world.job("u2", json!({}));
        fixture.world.ready("u2", "10.0.0.2");
        assert_eq!(fixture.done(), ["1: ready 10.0.0.2"]);
    }
}

/// The same where the successor is seen together with the end.
#[test]
fn a_start_after_a_stop_gets_a_successor_that_is_ready_at_once() {
    let mut fixture = Fixture::new();
    fixture.world.fed = Some(Default::default());
    fixture.world.job("u1", json!({}));
    fixture.fed(false);
    fixture.get(1);
    fixture.world.deleting("u1");
    fixture.world.job_gone("u1");
    fixture.world.job("u2", json!({}));
    fixture.world.ready("u2", "10.0.0.2");
    assert_eq!(fixture.fed(true), ["1: ready 10.0.0.2"]);
    fixture.check_idle();
}

/// A stop at another replica while a start waits ends it, whoever created the Job.
#[test]
fn a_stop_at_another_replica_resolves_starts_that_came_before() {
    // It joined a Job of the cache; the stop is in a later second.
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.get(1), NOTHING);
    fixture.pass(1.0);
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    // A call of ours has met the Job since the start came; the stop is in the same second.
    let mut fixture = starting();
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.fails(exists()), ["call read"]);
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    // The Job was created for it; the cache shows the stop before the response.
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.world.job("u1", json!({}));
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["1: Stopped"]);
    // Labels were set on its pod since the start came.
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.pod("u1", json!({}));
    assert_eq!(fixture.get(1), NOTHING);
    assert_eq!(fixture.label_with(2, &json!({"k": "v"})).len(), 1);
    assert_eq!(fixture.done(), ["2: done"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    // The stop comes through this replica.
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.get(1), NOTHING);
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    fixture.world.deleting("u1");
    assert_eq!(fixture.changed(), ["1: Stopped"]);
    assert_eq!(fixture.done(), ["2: done"]);
}
