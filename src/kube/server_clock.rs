//! [`ServerClock`]: what time it is by the clock of the API server.
//!
//! The time of day of this machine may differ from the one by which Kubernetes writes its timestamps.
//! Each response has a `Date` in whole seconds. So at some moment between the request and its response,
//! the server's clock was within that second. The ranges of several responses are intersected: four within
//! a second leave about 0.1 s. Between responses the monotonic clock counts, and the range widens by what
//! clocks drift. Until the first response, the clock of this machine counts. It is not used afterwards,
//! so it may jump.

use super::types::Timestamp;
use crate::clock::Clock;
use crate::threads::lock;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// From this offset on, the log says that the clocks differ.
const FAR_SECS: f64 = 2.0;

/// Below this offset, the log says that they agree again.
const NEAR_SECS: f64 = 1.0;

/// Two clocks drift apart by at most one part of so many: as fast as NTP adjusts one.
const DRIFT: u32 = 2000;

/// What the server's clock shows at a moment, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    at: Instant,
    earliest: Duration,
    latest: Duration,
}

impl Range {
    fn of(date: Timestamp, sent: Instant, received: Instant) -> Self {
        let earliest = date.since_epoch();
        let second = Duration::from_secs(1);
        Self {
            at: received,
            earliest,
            latest: earliest + second + received.saturating_duration_since(sent),
        }
    }

    fn moved_to(self, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.at);
        let drift = passed / DRIFT;
        Self {
            at: now,
            earliest: self.earliest + passed - drift,
            latest: self.latest + passed + drift,
        }
    }

    /// What this range and a later one have in common, if anything.
    fn meet(self, later: Self) -> Option<Self> {
        let before = self.moved_to(later.at);
        let both = Self {
            at: later.at,
            earliest: before.earliest.max(later.earliest),
            latest: before.latest.min(later.latest),
        };
        (both.earliest <= both.latest).then_some(both)
    }

    fn middle(self) -> Duration {
        self.earliest + (self.latest - self.earliest) / 2
    }
}

/// The range that the responses so far leave.
#[derive(Debug, Default)]
struct Estimate {
    range: Option<Range>,
    /// A response that contradicts it. Two that agree replace it: the server's clock was set, or this
    /// machine was suspended. A single one may be from another server, or from a proxy.
    contrary: Option<Range>,
}

impl Estimate {
    fn add(&mut self, new: Range) {
        let contrary = self.contrary.take();
        let Some(range) = self.range else {
            self.range = Some(new);
            return;
        };
        if let Some(both) = range.meet(new) {
            self.range = Some(both);
        } else if let Some(both) = contrary.and_then(|range| range.meet(new)) {
            self.range = Some(both);
        } else {
            self.contrary = Some(new);
        }
    }

    fn time(&self, now: Instant) -> Option<SystemTime> {
        let range = self.range?.moved_to(now);
        Some(UNIX_EPOCH + range.middle())
    }
}

#[derive(Debug, Default)]
struct State {
    estimate: Estimate,
    /// Whether the log has said that the clocks differ.
    is_far: bool,
}

/// The time of day of the API server, as far as its responses tell.
pub struct ServerClock {
    own: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// Only the name: the program would otherwise have in it how all parts are printed, which nobody asks for.
impl fmt::Debug for ServerClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerClock")
    }
}

impl ServerClock {
    /// Shows the time of this machine until the first response.
    #[must_use]
    pub fn new(own: Arc<dyn Clock>) -> Self {
        Self {
            own,
            state: Mutex::default(),
        }
    }

    /// A response with this `Date` has been received, to a request that was sent then.
    pub fn heard(&self, date: Timestamp, sent: Instant) {
        let mut state = lock(&self.state);
        let now = self.own.now();
        state.estimate.add(Range::of(date, sent, now));
        let ahead = self.ahead_of(&state.estimate, now);
        if !state.is_far && ahead.abs() > FAR_SECS {
            state.is_far = true;
            let secs = ahead.abs();
            let where_to = if ahead > 0.0 { "ahead of" } else { "behind" };
            log::warn!(
                "the clock of this machine is {secs:.1} s {where_to} the API server's; config-controller goes by the latter, but check the time service of the node"
            );
        } else if state.is_far && ahead.abs() < NEAR_SECS {
            state.is_far = false;
            log::info!("the clock of this machine agrees with the API server's again");
        }
    }

    /// How far the clock of this machine is ahead of the server's, in seconds; 0 before the first
    /// response.
    #[must_use]
    pub fn offset_secs(&self) -> f64 {
        let state = lock(&self.state);
        self.ahead_of(&state.estimate, self.own.now())
    }

    fn ahead_of(&self, estimate: &Estimate, now: Instant) -> f64 {
        let Some(time) = estimate.time(now) else {
            return 0.0;
        };
        match self.own.wall_now().duration_since(time) {
            Ok(ahead) => ahead.as_secs_f64(),
            Err(behind) => -behind.duration().as_secs_f64(),
        }
    }
}

impl Clock for ServerClock {
    fn now(&self) -> Instant {
        self.own.now()
    }

    fn wall_now(&self) -> SystemTime {
        let time = lock(&self.state).estimate.time(self.own.now());
        time.unwrap_or_else(|| self.own.wall_now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// The server's time at second 0.
    const T0: u64 = 1_777_629_600;

    /// A machine whose clock is this many seconds ahead of the server's.
    #[derive(Debug)]
    struct Machine {
        begun: Instant,
        millis: AtomicU64,
        ahead_secs: AtomicU64,
    }

    impl Machine {
        fn new(ahead_secs: u64) -> Arc<Self> {
            Arc::new(Self {
                begun: Instant::now(),
                millis: AtomicU64::new(0),
                ahead_secs: AtomicU64::new(ahead_secs),
            })
        }

        fn passed(&self) -> Duration {
            Duration::from_millis(self.millis.load(Ordering::Relaxed))
        }

        fn pass(&self, millis: u64) {
            self.millis.fetch_add(millis, Ordering::Relaxed);
        }

        fn server_time(&self) -> Duration {
            Duration::from_secs(T0) + self.passed()
        }
    }

    impl Clock for Machine {
        fn now(&self) -> Instant {
            self.begun + self.passed()
        }

        fn wall_now(&self) -> SystemTime {
            let ahead = Duration::from_secs(self.ahead_secs.load(Ordering::Relaxed));
            UNIX_EPOCH + self.server_time() + ahead
        }
    }

    /// A response arrives that took so long; the server set its `Date` halfway. Its clock is so many
    /// seconds ahead of what it was.
    fn hear(clock: &ServerClock, machine: &Machine, took_millis: u64, ahead_secs: i64) {
        let sent = machine.now();
        machine.pass(took_millis / 2);
        let secs = i64::try_from(machine.server_time().as_secs()).unwrap();
        machine.pass(took_millis - took_millis / 2);
        clock.heard(Timestamp::from_seconds(secs + ahead_secs), sent);
    }

    /// How far it is ahead of the server's real time, in milliseconds.
    fn error_millis(clock: &ServerClock, machine: &Machine) -> i128 {
        let shown = clock.wall_now().duration_since(UNIX_EPOCH).unwrap();
        let millis = |time: Duration| i128::try_from(time.as_millis()).unwrap();
        millis(shown) - millis(machine.server_time())
    }

    #[test]
    fn the_first_response_shows_the_time_within_a_second_and_four_much_better() {
        for ahead in [0, 62, 86_400] {
            for begun in [0, 130, 500, 990] {
                let machine = Machine::new(ahead);
                let clock = ServerClock::new(machine.clone());
                assert_eq!(clock.wall_now(), machine.wall_now());
                assert!(clock.offset_secs().abs() < 0.001);
                machine.pass(begun);
                hear(&clock, &machine, 4, 0);
                assert!(error_millis(&clock, &machine).abs() <= 502);
                for _ in 0..3 {
                    machine.pass(253);
                    hear(&clock, &machine, 4, 0);
                }
                let error = error_millis(&clock, &machine);
                assert!(error.abs() <= 130, "{ahead} {begun}: {error} ms");
                let offset = clock.offset_secs();
                assert!((offset - f64::from(u32::try_from(ahead).unwrap())).abs() < 0.131);
                for _ in 0..57 {
                    machine.pass(37);
                    hear(&clock, &machine, 4, 0);
                }
                let error = error_millis(&clock, &machine);
                assert!(error.abs() <= 22, "{ahead} {begun}: {error} ms");
            }
        }
    }

    #[test]
    fn the_clock_of_this_machine_may_jump_and_slow_responses_do_no_harm() {
        let machine = Machine::new(0);
        let clock = ServerClock::new(machine.clone());
        for _ in 0..9 {
            hear(&clock, &machine, 10, 0);
            machine.pass(270);
        }
        machine.ahead_secs.store(3600, Ordering::Relaxed);
        for _ in 0..9 {
            hear(&clock, &machine, 60_000, 0);
            assert!(error_millis(&clock, &machine).abs() < 150);
            assert!((clock.offset_secs() - 3600.0).abs() < 0.15);
        }
    }

    /// A proxy, or another API server with another clock.
    #[test]
    fn one_response_that_contradicts_the_others_changes_nothing() {
        let machine = Machine::new(5);
        let clock = ServerClock::new(machine.clone());
        hear(&clock, &machine, 10, 0);
        for _ in 0..9 {
            hear(&clock, &machine, 10, -600);
            assert!(error_millis(&clock, &machine).abs() < 600);
            hear(&clock, &machine, 10, 0);
        }
    }

    #[test]
    fn a_server_whose_clock_was_set_is_followed_after_two_responses() {
        for set in [-90, 3, 7200] {
            let machine = Machine::new(0);
            let clock = ServerClock::new(machine.clone());
            hear(&clock, &machine, 10, 0);
            hear(&clock, &machine, 10, set);
            hear(&clock, &machine, 10, set);
            let error = error_millis(&clock, &machine) - i128::from(set) * 1000;
            assert!(error.abs() < 600, "{error}");
        }
    }

    #[test]
    fn what_clocks_drift_apart_in_hours_is_found_again() {
        let machine = Machine::new(0);
        let clock = ServerClock::new(machine.clone());
        for _ in 0..40 {
            hear(&clock, &machine, 10, 0);
            machine.pass(70);
        }
        machine.pass(5 * 3_600_000);
        // Seven seconds in five hours: less than the largest drift.
        hear(&clock, &machine, 10, 7);
        let error = error_millis(&clock, &machine) - 7000;
        assert!(error.abs() < 600, "{error}");
    }
}
