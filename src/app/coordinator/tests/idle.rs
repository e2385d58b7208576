//! Stops of instances that nobody uses.

use super::{NOTHING, ready, starting};
use crate::app::coordinator::Input;
use crate::app::fixture::{Fixture, conflict, n1, not_found, unavailable};
use crate::kube::error::Verb;
use crate::kube::types::ResourceVersion;
use std::time::Duration;

/// The Job `u1` of `n1` is idle, as of the version that the cache has.
fn idle(fixture: &mut Fixture) -> Vec<String> {
    let version = version(fixture);
    fixture.step(Input::Idle(n1(), "u1".into(), version))
}

fn version(fixture: &Fixture) -> ResourceVersion {
    let job = fixture.world.cache.jobs.get(&n1().job_name()).unwrap();
    job.metadata.resource_version.clone()
}

#[test]
fn what_nobody_uses_is_stopped_and_that_is_reported() {
    let mut fixture = ready();
    fixture.reported();
    assert_eq!(idle(&mut fixture), ["call stop idle u1"]);
    assert_eq!(idle(&mut fixture), NOTHING, "its call is under way");
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.reported(), ["u1 stopping, idle"]);
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.reported(), ["u1 gone"]);
    fixture.check_idle();
}

#[test]
fn what_may_be_stopped_soon_is_announced() {
    let mut fixture = ready();
    fixture.reported();
    let soon = |uid: &str| Input::IdleSoon(n1(), uid.into(), Duration::from_secs(30));
    assert_eq!(fixture.step(soon("u1")), NOTHING);
    assert_eq!(fixture.reported(), ["u1 idle in 30 s"]);
    assert_eq!(fixture.step(soon("u0")), NOTHING);
    fixture.world.deleting("u1");
    fixture.changed();
    fixture.reported();
    assert_eq!(fixture.step(soon("u1")), NOTHING);
    assert_eq!(fixture.reported(), NOTHING);
}

#[test]
fn only_the_job_that_was_idle_is_stopped_as_it_was_then() {
    let mut fixture = ready();
    let old = version(&fixture);
    fixture.world.job(
        "u1",
        serde_json::json!({"metadata": {"annotations": {"a": "b"}}}),
    );
    fixture.changed();
    assert_ne!(version(&fixture), old);
    assert_eq!(fixture.step(Input::Idle(n1(), "u1".into(), old)), NOTHING);
    let now = version(&fixture);
    assert_eq!(fixture.step(Input::Idle(n1(), "u0".into(), now)), NOTHING);
    fixture.world.deleting("u1");
    fixture.changed();
    assert_eq!(idle(&mut fixture), NOTHING);
    fixture.check_idle();
}

#[test]
fn whoever_asks_for_it_goes_first() {
    let mut fixture = starting();
    assert_eq!(idle(&mut fixture), NOTHING, "a request waits for it");
    let mut fixture = ready();
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    assert_eq!(idle(&mut fixture), NOTHING);
}

/// Another replica was faster, or it was used or changed meanwhile; or the API server is away. It is tried again
/// when it is still idle.
#[test]
fn a_stop_that_fails_is_forgotten() {
    for error in [
        conflict(Verb::Delete),
        not_found(Verb::Delete),
        unavailable(Verb::Delete),
    ] {
        let mut fixture = ready();
        fixture.reported();
        assert_eq!(idle(&mut fixture), ["call stop idle u1"]);
        assert_eq!(fixture.fails(error), NOTHING);
        assert_eq!(fixture.pass(60.0), NOTHING);
        assert_eq!(fixture.reported(), NOTHING);
        assert_eq!(idle(&mut fixture), ["call stop idle u1"]);
    }
}

#[test]
fn a_replica_that_shuts_down_stops_nothing() {
    let mut fixture = ready();
    fixture.drain();
    assert_eq!(idle(&mut fixture), NOTHING);
}
