//! How long to wait after a failure: doubled each time, bounded, jittered.
//!
//! Pure: the seed and the time are given. After a period without failures it
//! starts at the first step again, so that rare failures never wait longer.

use std::time::{Duration, Instant};

/// The first wait, before jitter.
pub const FIRST: Duration = Duration::from_millis(100);

/// The longest wait, before jitter.
pub const LONGEST: Duration = Duration::from_secs(1);

/// A failure this long after the previous one's wait begins at [`FIRST`] again.
pub const CALM: Duration = Duration::from_secs(10);

/// Delays between retries of one operation.
#[derive(Clone, Debug)]
pub struct Backoff {
    state: u64,
    next: Duration,
    calm_from: Option<Instant>,
}

impl Backoff {
    /// Starts at [`FIRST`]; replicas with different seeds do not retry at the same time.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            next: FIRST,
            calm_from: None,
        }
    }

    /// How long to wait after a failure that happened `now`: between half and the
    /// whole of the current step.
    pub fn after_failure(&mut self, now: Instant) -> Duration {
        if self.calm_from.is_some_and(|calm_from| now >= calm_from) {
            self.next = FIRST;
        }
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        let half = step / 2;
        let millis = u64::try_from(half.as_millis()).unwrap_or(u64::MAX);
        let wait = half + Duration::from_millis(self.random() % (millis + 1));
        self.calm_from = Some(now + wait + CALM);
        wait
    }

    /// SplitMix64: enough to spread waits.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::{Backoff, CALM, FIRST, LONGEST};
    use std::time::{Duration, Instant};

    #[test]
    fn waits_double_up_to_a_bound_and_are_jittered() {
        let now = Instant::now();
        for seed in 0..100 {
            let mut backoff = Backoff::new(seed);
            for step in [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis) {
                let wait = backoff.after_failure(now);
                assert!(wait >= step / 2 && wait <= step, "{wait:?} of {step:?}");
            }
        }
        let (mut one, mut other) = (Backoff::new(1), Backoff::new(2));
        assert_ne!(one.after_failure(now), other.after_failure(now));
    }

    #[test]
    fn a_period_without_failures_resets_the_back_off() {
        let now = Instant::now();
        let mut backoff = Backoff::new(7);
        for _ in 0..9 {
            let _ = backoff.after_failure(now);
        }
        assert!(backoff.after_failure(now + CALM / 2) > FIRST);
        let later = now + CALM / 2 + LONGEST + CALM;
        assert!(backoff.after_failure(later) <= FIRST);
    }
}
