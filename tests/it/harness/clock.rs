//! The clock of the replicas of a test.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use config_controller::clock::Clock;

/// The system's clock, which a test can move forward, and whose time of day it can set.
#[derive(Debug, Default)]
pub(crate) struct MovableClock {
    ahead_ms: AtomicU64,
    offset_secs: AtomicI64,
}

impl MovableClock {
    /// Time passes.
    pub(super) fn advance(&self, by: Duration) {
        let millis = u64::try_from(by.as_millis()).expect("a test moves by less than an age");
        self.ahead_ms.fetch_add(millis, Ordering::SeqCst);
    }

    /// The time of day is this much ahead of the fake's.
    pub(crate) fn set_offset_secs(&self, secs: i64) {
        self.offset_secs.store(secs, Ordering::SeqCst);
    }

    fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_ms.load(Ordering::SeqCst))
    }
}

impl Clock for MovableClock {
    fn now(&self) -> Instant {
        Instant::now() + self.ahead()
    }

    fn wall_now(&self) -> SystemTime {
        let time = SystemTime::now() + self.ahead();
        let secs = self.offset_secs.load(Ordering::SeqCst);
        let offset = Duration::from_secs(secs.unsigned_abs());
        if secs < 0 {
            time - offset
        } else {
            time + offset
        }
    }
}
