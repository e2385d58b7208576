//! The fake's own time. Every timestamp that the model writes comes from
//! here, so a test with a manual clock gets the same objects each run.
//!
//! What may not live here: anything of the service under test. The service has
//! a clock of its own; sharing one would let a mistake in it hide on both sides.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, from the machine's clock or from a manual one.
/// Both can be advanced.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    runs: bool,
    /// The sum of all advances; for a manual clock, the time itself.
    ahead_ms: Arc<AtomicI64>,
}

impl Clock {
    /// The machine's clock.
    pub(crate) fn system() -> Self {
        Self {
            runs: true,
            ahead_ms: Arc::new(AtomicI64::new(0)),
        }
    }

    /// A manual clock that starts at 2026-01-01T00:00:00Z.
    pub(crate) fn manual() -> Self {
        Self {
            runs: false,
            ahead_ms: Arc::new(AtomicI64::new(1_767_225_600_000)),
        }
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        let ahead = self.ahead_ms.load(Ordering::SeqCst);
        if !self.runs {
            return ahead;
        }
        let past = SystemTime::now().duration_since(UNIX_EPOCH);
        past.map_or(0, |past| i64::try_from(past.as_millis()).unwrap_or(0)) + ahead
    }

    /// Advances it.
    pub(crate) fn advance(&self, by: Duration) {
        let millis = i64::try_from(by.as_millis()).unwrap_or(0);
        self.ahead_ms.fetch_add(millis, Ordering::SeqCst);
    }
}

/// A time as Kubernetes writes it: RFC 3339, UTC, whole seconds.
pub(crate) fn timestamp(ms: i64) -> String {
    jiff::Timestamp::from_second(ms.div_euclid(1000))
        .map_or_else(|_| "1970-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}

/// A time as in the header `Date`: whole seconds, cut off.
pub(crate) fn date(ms: i64) -> String {
    jiff::Timestamp::from_second(ms.div_euclid(1000)).map_or_else(
        |_| String::new(),
        |time| time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string(),
    )
}

/// The milliseconds of a timestamp that [`timestamp`] (or a client) wrote.
pub(crate) fn parse_timestamp(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>()
        .ok()
        .map(|t| t.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_until_it_is_moved() {
        let clock = Clock::manual();
        assert_eq!(timestamp(clock.now_ms()), "2026-01-01T00:00:00Z");
        assert_eq!(clock.now_ms(), clock.now_ms());
        clock.advance(Duration::from_millis(61_500));
        assert_eq!(timestamp(clock.now_ms()), "2026-01-01T00:01:01Z");
        assert_eq!(
            parse_timestamp("2026-01-01T00:01:01Z"),
            Some(1_767_225_661_000)
        );
    }
}
