//! Random numbers and time, both determined by the schedule's seed alone.
//!
//! The same seed gives the same numbers, so a failure can be repeated. Time stands still unless a
//! schedule advances it; the fake API server has its own clock, which is advanced with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use config_controller::clock::Clock;

/// A pseudo-random number generator (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `sides`.
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        let sides = u64::try_from(sides.max(1)).expect("a count fits 64 bits");
        usize::try_from(self.next() % sides).expect("it is below a count")
    }

    /// Returns true with this probability.
    pub(super) fn chance(&mut self, per_thousand: usize) -> bool {
        self.roll(1000) < per_thousand
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len())]
    }
}

/// The initial time of the fake's manual clock, in seconds since 1970.
const BEGIN_SECS: u64 = 1_767_225_600;

/// Time as a replica of a schedule sees it: it passes for all alike, but the time of day may differ.
#[derive(Clone, Debug)]
pub(super) struct Time {
    started: Instant,
    nanos: Arc<AtomicU64>,
    ahead_secs: Arc<AtomicI64>,
}

impl Time {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            nanos: Arc::default(),
            ahead_secs: Arc::default(),
        }
    }

    /// The time since the schedule began.
    pub(super) fn passed(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// That of a machine whose clock is so many seconds ahead.
    pub(super) fn of_machine(&self, ahead_secs: i64) -> Self {
        Self {
            ahead_secs: Arc::new(AtomicI64::new(ahead_secs)),
            ..self.clone()
        }
    }

    /// The clock of this machine is set.
    pub(super) fn set_ahead(&self, secs: i64) {
        self.ahead_secs.store(secs, Ordering::Relaxed);
    }

    /// Advances it to this moment, unless that is in the past.
    pub(super) fn move_to(&self, at: Instant) {
        let passed = at.saturating_duration_since(self.started).as_nanos();
        let nanos = u64::try_from(passed).expect("a schedule is short");
        self.nanos.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl Clock for Time {
    fn now(&self) -> Instant {
        self.started + self.passed()
    }

    fn wall_now(&self) -> SystemTime {
        let ahead = self.ahead_secs.load(Ordering::Relaxed);
        let begin = BEGIN_SECS.saturating_add_signed(ahead);
        UNIX_EPOCH + Duration::from_secs(begin) + self.passed()
    }
}
