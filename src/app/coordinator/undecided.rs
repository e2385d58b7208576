//! [`Undecided`]: a Job that waits for its admission, and when this replica decides on it.
//!
//! Plain data and times. What is decided is in [`super::admission`].

use super::operation::Waiter;
use crate::kube::types::{ResourceVersion, Uid};
use std::time::{Duration, Instant};

/// How long the replica that has created a Job waits until those before it are decided.
const DECIDED_WITHIN: Duration = Duration::from_secs(2);

/// A Job that has been undecided for so long is decided by any replica.
const TAKEN_AFTER: Duration = Duration::from_secs(5);

/// Requests wait beyond their deadline until the Job is decided: for so long at most after [`DECIDED_WITHIN`].
const CALL_WAIT: Duration = Duration::from_secs(3);

/// The first pause after a decision that did not pass; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(20);

/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A Job that waits for its admission.
#[derive(Clone, Debug)]
pub(super) struct Undecided {
    pub(super) uid: Uid,
    /// Whether this replica has created it.
    pub(super) is_own: bool,
    /// The version of its creation, if this replica has created it and has not asked what was there before it.
    pub(super) created: Option<ResourceVersion>,
    /// This replica decides from then on.
    pub(super) from: Instant,
    /// It is refused then if it is not known whether there is a place.
    pub(super) until: Instant,
    /// No call is made before.
    pub(super) pause: Instant,
    pub(super) tries: u32,
    /// Kubernetes has said that this service may not patch Jobs.
    pub(super) is_forbidden: bool,
}

/// Until when requests wait for the decision on a Job that is being created since then, at most.
pub(super) fn awaited_from(since: Instant) -> Instant {
    since + DECIDED_WITHIN + CALL_WAIT
}

impl Undecided {
    /// This replica has created it at this version, or has just seen it for the first time.
    pub(super) fn new(uid: Uid, created: Option<ResourceVersion>, now: Instant) -> Self {
        let is_own = created.is_some();
        let (from, until) = match is_own {
            true => (now, now + DECIDED_WITHIN),
            false => (now + TAKEN_AFTER, now + TAKEN_AFTER),
        };
        Self {
            uid,
            is_own,
            created,
            from,
            until,
            pause: now,
            tries: 0,
            is_forbidden: false,
        }
    }

    /// When to look at it again without an input.
    pub(super) fn wake(&self, now: Instant) -> Option<Instant> {
        [self.from, self.pause, self.until]
            .into_iter()
            .find(|at| *at > now)
    }

    /// Until when requests wait for the decision, at most.
    pub(super) fn awaited_until(&self) -> Instant {
        self.until + CALL_WAIT
    }

    /// A call that was to decide on it has ended.
    pub(super) fn tried(&mut self, now: Instant) {
        let pause = PAUSE.saturating_mul(1 << self.tries.min(8));
        self.pause = now + pause.min(PAUSE_MAX);
        self.tries = self.tries.saturating_add(1);
    }
}

/// The latest time of the response of a waiter, if what it waits for is decided until `awaited`.
pub(super) fn deadline(waiter: &Waiter, awaited: Option<Instant>) -> Instant {
    let awaited = awaited.filter(|_| waiter.want.is_for_instance());
    awaited.map_or(waiter.deadline, |until| waiter.deadline.max(until))
}
