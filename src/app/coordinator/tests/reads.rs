//! Requests that are answered only after the Job was read.

use super::{NOTHING, starting};
use crate::app::api_call::CallOutcome;
use crate::app::coordinator::confirm::READ_WAIT;
use crate::app::fixture::{Fixture, get_now, get_read, unavailable};
use crate::kube::error::Verb;
use serde_json::json;
use std::time::Duration;

/// One with a ready instance.
fn ready() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    fixture
}

impl Fixture {
    fn read(&mut self, n: u64, wait_secs: u64) -> Vec<String> {
        let now = self.world.instant();
        self.step(get_read(n, now, now + Duration::from_secs(wait_secs)))
    }
}

#[test]
fn all_requests_of_a_name_share_a_read_that_begins_after_them() {
    let mut fixture = ready();
    assert_eq!(fixture.read(1, 10), ["call read"]);
    assert_eq!(fixture.read(2, 10), NOTHING);
    assert_eq!(fixture.read(3, 0), NOTHING);
    // The second and the third have come after the read began.
    assert_eq!(fixture.done(), ["1: ready 10.0.0.1", "call read"]);
    assert_eq!(fixture.done(), ["2: ready 10.0.0.1", "3: ready 10.0.0.1"]);
    fixture.check_idle();
}

#[test]
fn a_job_that_the_read_does_not_find_is_started_anew() {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.read(1, 10);
    fixture.world.job_gone("u1");
    let next = fixture.ends(CallOutcome::Absent);
    assert_eq!(next, ["call create for ann"]);
}

/// The cache may be right.
#[test]
fn a_read_that_fails_or_takes_too_long_leaves_what_the_cache_has() {
    let mut fixture = ready();
    fixture.read(1, 10);
    let failed = fixture.fails(unavailable(Verb::List));
    assert_eq!(failed, ["1: unread: ready 10.0.0.1"]);
    fixture.check_idle();

    let mut fixture = ready();
    fixture.read(1, 0);
    assert_eq!(
        fixture.pass(READ_WAIT.as_secs_f64()),
        ["1: unread: ready 10.0.0.1"]
    );
}

/// Else callers could undo the pauses between calls that fail.
#[test]
fn while_calls_fail_no_read_is_made() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.fails(unavailable(Verb::Create)), NOTHING);
    let progress = fixture.read(2, 0);
    assert_eq!(progress.len(), 1, "{progress:?}");
    assert!(progress[0].starts_with("2: "), "{progress:?}");
}

#[test]
fn a_start_that_is_read_is_waited_for_as_ever() {
    let mut fixture = starting();
    assert_eq!(fixture.read(5, 10), ["call read"]);
    assert_eq!(fixture.read(6, 0), NOTHING);
    let now = fixture.world.instant();
    drop(fixture.step(get_now(7, now)));
    let after = fixture.done();
    assert_eq!(after, ["call read"]);
    let after = fixture.done();
    assert_eq!(after.len(), 1, "the one without a wait: {after:?}");
    fixture.world.ready("u1", "10.0.0.1");
    let last = fixture.changed();
    assert!(last.contains(&"5: ready 10.0.0.1".to_owned()), "{last:?}");
}
