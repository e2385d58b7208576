//! The `Server-Timing` header: the duration of each phase of a start (W3C Server Timing).
//!
//! Pure. The header's names are shorter than those of the phases; only this file maps them.

use crate::app::timings::Timings;
use crate::model::status::Phase;

/// The header's value: `admit;dur=12, create;dur=40, …`, in milliseconds.
#[must_use]
pub fn server_timing(timings: &Timings) -> String {
    let metrics = timings.iter().filter_map(|(phase, took)| {
        let name = name(phase)?;
        Some(format!("{name};dur={}", took.as_millis()))
    });
    metrics.collect::<Vec<_>>().join(", ")
}

/// The name of a phase in the header; none for stopping, which precedes the start.
fn name(phase: Phase) -> Option<&'static str> {
    Some(match phase {
        Phase::Admitting => "admit",
        Phase::Creating => "create",
        Phase::Scheduling => "schedule",
        Phase::Mounting => "mount",
        Phase::Pulling => "pull",
        Phase::Initialising => "init",
        Phase::Starting => "start",
        Phase::Readying => "ready",
        Phase::Queued | Phase::Stopping => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::timings::PhaseClock;
    use std::time::{Duration, Instant};

    #[test]
    fn each_phase_is_a_metric_in_milliseconds() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let mut clock = PhaseClock::new(begun);
        clock.enter(Phase::Creating, at(12));
        let header = |clock: &PhaseClock, now| server_timing(&clock.timings(now));
        assert_eq!(header(&clock, at(20)), "admit;dur=12, create;dur=8");
        clock.enter(Phase::Scheduling, at(20));
        clock.enter(Phase::Pulling, at(1520));
        assert_eq!(
            header(&clock, at(1521)),
            "admit;dur=12, create;dur=8, schedule;dur=1500, mount;dur=0, pull;dur=1"
        );
        clock.end(Some(Phase::Readying), at(60_000));
        assert_eq!(
            header(&clock, at(70_000)),
            "admit;dur=12, create;dur=8, schedule;dur=1500, mount;dur=0, pull;dur=58480, \
             init;dur=0, start;dur=0, ready;dur=0"
        );
    }
}
