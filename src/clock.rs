//! Time as a parameter: code that needs the time takes a [`Clock`].
//!
//! Nothing else reads the system's clock, so tests advance a manual clock and never sleep. Waiting does
//! not belong here: threads wait on a channel, a poller or a [`crate::shutdown::Stop`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

/// A source of time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Monotonic time, for deadlines and durations.
    fn now(&self) -> Instant;
    /// Time of day: that of the machine, or of the API server ([`crate::kube::server_clock`]).
    fn wall_now(&self) -> SystemTime;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A moment that one thread moves on and others compare with, without a lock.
#[derive(Debug)]
pub struct Moment {
    first: Instant,
    /// Nanoseconds since `first`; 64 bits are enough for centuries.
    nanos: AtomicU64,
}

impl Moment {
    /// It is `now` at first.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            first: now,
            nanos: AtomicU64::new(0),
        }
    }

    /// Moves it to `now`.
    pub fn set(&self, now: Instant) {
        self.nanos.store(self.nanos_at(now), Ordering::SeqCst);
    }

    /// How long it is ago.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.age_nanos(now))
    }

    /// How long it is ago, in nanoseconds. Every response needs it for every store.
    #[inline]
    #[must_use]
    pub fn age_nanos(&self, now: Instant) -> u64 {
        let nanos = self.nanos.load(Ordering::SeqCst);
        self.nanos_at(now).saturating_sub(nanos)
    }

    #[inline]
    fn nanos_at(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.first).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX)
    }
}
