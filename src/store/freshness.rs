//! [`Freshness`]: whether a cache is whole, and when Kubernetes was last heard from.
//!
//! Every answer asks for it, of every store, so it is kept beside the lock of the cache and not
//! under it: readers do not fight for a cache line to learn what changes once in seconds.

use crate::kube::watch::SILENCE;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Freshness {
    made: Instant,
    /// Nanoseconds since `made`, which last for centuries.
    heard_nanos: AtomicU64,
    watching: AtomicBool,
    synced: AtomicBool,
}

impl Freshness {
    /// Of a cache that was made at `now` and has seen nothing.
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            made: now,
            heard_nanos: AtomicU64::new(0),
            watching: AtomicBool::new(false),
            synced: AtomicBool::new(false),
        }
    }

    pub(super) fn is_synced(&self) -> bool {
        self.synced.load(Ordering::SeqCst)
    }

    /// The cache shows a complete list; to be called when readers can see it.
    pub(super) fn set_synced(&self) {
        self.synced.store(true, Ordering::SeqCst);
    }

    /// As `Store::last_heard`.
    pub(super) fn last_heard(&self) -> Instant {
        self.made + Duration::from_nanos(self.heard_nanos.load(Ordering::SeqCst))
    }

    pub(super) fn heard(&self, now: Instant) {
        let since = now.saturating_duration_since(self.made).as_nanos();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.heard_nanos.store(since, Ordering::SeqCst);
    }

    pub(super) fn watching(&self, open: bool) {
        self.watching.store(open, Ordering::SeqCst);
    }

    /// As `Store::age`.
    pub(super) fn age(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.last_heard());
        if since < SILENCE && self.watching.load(Ordering::SeqCst) {
            Duration::ZERO
        } else {
            since
        }
    }
}
