//! Time as a value: whoever needs the time is given a [`Clock`].
//!
//! Nothing else in the program asks the system for the time, so tests turn a
//! manual clock by hand and never sleep. Waiting is not here: threads wait on
//! what wakes them (a channel, a poller, [`crate::shutdown::Stop`]).

use std::fmt;
use std::time::{Instant, SystemTime};

/// Where the time comes from.
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
