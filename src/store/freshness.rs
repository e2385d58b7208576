//! [`Freshness`]: whether a cache is synced, and how stale it may be: how long the API server has
//! sent nothing.
//!
//! Every response needs it for every store. It is kept beside the lock of the cache and not under
//! it, so readers do not contend for a cache line that rarely changes.

use crate::clock::Moment;
use crate::kube::watch::{PAUSE, SILENCE};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// [`SILENCE`] in the unit in which ages are counted here.
const SILENCE_NANOS: u64 = SILENCE.as_secs() * 1_000_000_000;

/// [`PAUSE`] in that unit.
const PAUSE_NANOS: u64 = PAUSE.as_secs() * 1_000_000_000;

#[derive(Debug)]
pub(super) struct Freshness {
    contact: Moment,
    /// When the thread of the watch last did something. It does every second while all is well.
    alive: Moment,
    /// Since when the cache cannot be relied on, if [`Self::is_stale`].
    stale: Moment,
    is_stale: AtomicBool,
    watching: AtomicBool,
    synced: AtomicBool,
}

impl Freshness {
    /// For an empty cache that is made at `now`.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            contact: Moment::new(now),
            alive: Moment::new(now),
            stale: Moment::new(now),
            is_stale: AtomicBool::new(false),
            watching: AtomicBool::new(false),
            synced: AtomicBool::new(false),
        }
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::SeqCst)
    }

    /// To be called when readers can see a complete list.
    pub(super) fn set_synced(&self) {
        self.synced.store(true, Ordering::SeqCst);
    }

    /// The API server has just sent something: a list, event, bookmark, or the orderly end of a watch.
    pub(super) fn contact(&self, now: Instant) {
        self.contact.set(now);
    }

    pub(super) fn watching(&self, open: bool) {
        self.watching.store(open, Ordering::SeqCst);
    }

    /// The thread of the watch has just done something.
    pub(super) fn alive(&self, now: Instant) {
        self.alive.set(now);
    }

    /// Since when the cache cannot be relied on although its watch is open, if so.
    pub(super) fn stale(&self, since: Option<Instant>) {
        if let Some(since) = since {
            self.stale.set(since);
        }
        self.is_stale.store(since.is_some(), Ordering::SeqCst);
    }

    /// As `Store::age`. Before the first contact it counts from when the cache was made.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let since = self.contact.age_nanos(now);
        // While the process stands still, responses come from what it knew before.
        let unattended = self.alive.age_nanos(now);
        let mut age = 0;
        if since >= SILENCE_NANOS || !self.watching.load(Ordering::SeqCst) {
            age = since;
        } else if unattended >= PAUSE_NANOS {
            age = unattended;
        }
        if self.is_stale.load(Ordering::SeqCst) {
            age = age.max(self.stale.age_nanos(now));
        }
        Duration::from_nanos(age)
    }
}
