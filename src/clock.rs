//! Time as a parameter: code that needs the time takes a [`Clock`].
//!
//! Nothing else reads the system's clock, so tests advance a manual clock and never sleep. Waiting does
//! not belong here: threads wait on a channel, a poller or a [`crate::shutdown::Stop`].

use std::fmt;
use std::time::{Instant, SystemTime};

/// A source of time.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Monotonic time, for deadlines and durations.
    fn now(&self) -> Instant;
    /// Time of day, to compare with the timestamps of Kubernetes.
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
