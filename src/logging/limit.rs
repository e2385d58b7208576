//! [`Limiter`]: bounds the log lines of each cause, and counts those that it leaves out. Pure.
//!
//! A cause is a place in the source with a level. A minute of a cause begins with its first line. It
//! has a bound on lines; those beyond it are left out, and one line says how many. The bounds hold for
//! the log only: metrics and responses tell of every event. What a line looks like is decided in
//! [`super`].

use log::Level;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Most lines of a cause in a minute.
pub const LINES_MAX: u32 = 60;

/// The same for causes with a line for each event of an instance, and for lines at debug level: some
/// hundred starts a minute are normal, and their lines are how an operator finds one instance.
pub const EVENT_LINES_MAX: u32 = 6_000;

/// The minute.
pub const MINUTE: Duration = Duration::from_secs(60);

/// Most causes that are counted apart; the program has about 70 places that log. Further ones share
/// one for each level.
pub const CAUSES_MAX: usize = 256;

/// Longest part of a line that is quoted for those that were left out.
pub const QUOTED_BYTES_MAX: usize = 256;

/// What lines are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cause {
    /// The level.
    pub level: Level,
    /// File and line of the source; `None` for all places that are not known.
    pub place: Option<(&'static str, u32)>,
}

/// One line about those that were left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Their level.
    pub level: Level,
    /// Their target.
    pub target: String,
    /// How many there were, since when, and the first of them.
    pub text: String,
}

/// What happens with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is written.
    Write,
    /// It is left out, as the first one of its cause in this minute; the time at which
    /// [`Limiter::ended`] has its summary.
    LeaveOutFirst(Instant),
    /// It is left out.
    LeaveOut,
}

/// The causes of the last minute.
#[derive(Debug, Default)]
pub struct Limiter {
    minutes: BTreeMap<Cause, Minute>,
}

/// A minute of a cause.
#[derive(Debug)]
struct Minute {
    began: Instant,
    written: u32,
    left_out: Option<LeftOut>,
}

#[derive(Debug)]
struct LeftOut {
    count: u64,
    target: String,
    first: String,
}

impl Limiter {
    /// Decides about a line of this cause, of which there may be `most` in a minute; `line` returns its
    /// target and text, if they are needed. The summary is to be written before the line.
    pub fn admit(
        &mut self,
        cause: Cause,
        most: u32,
        now: Instant,
        line: impl FnOnce() -> (String, String),
    ) -> (Decision, Option<Summary>) {
        let cause = self.place(cause, now);
        let minute = self
            .minutes
            .entry(cause)
            .or_insert_with(|| Minute::new(now));
        let mut summary = None;
        if minute.is_over(now) {
            summary = std::mem::replace(minute, Minute::new(now)).summary(cause, now);
        }
        if minute.written < most {
            minute.written += 1;
            return (Decision::Write, summary);
        }
        if let Some(left_out) = &mut minute.left_out {
            left_out.count += 1;
            return (Decision::LeaveOut, summary);
        }
        let (target, first) = line();
        minute.left_out = Some(LeftOut {
            count: 1,
            target,
            first: beginning(&first).to_owned(),
        });
        (Decision::LeaveOutFirst(minute.began + MINUTE), summary)
    }

    /// The summaries of all minutes that are over and had more lines than were written.
    pub fn ended(&mut self, now: Instant) -> Vec<Summary> {
        let over = self.minutes.extract_if(.., |_, minute| minute.is_over(now));
        over.filter_map(|(cause, minute)| minute.summary(cause, now))
            .collect()
    }

    /// The summaries of all minutes, over or not, before the program ends.
    pub fn close(&mut self, now: Instant) -> Vec<Summary> {
        let all = std::mem::take(&mut self.minutes).into_iter();
        all.filter_map(|(cause, minute)| minute.summary(cause, now))
            .collect()
    }

    /// The cause by which a line is counted: its own, if there is room for it.
    fn place(&mut self, cause: Cause, now: Instant) -> Cause {
        if self.minutes.len() >= CAUSES_MAX && !self.minutes.contains_key(&cause) {
            self.minutes
                .retain(|_, minute| minute.left_out.is_some() || !minute.is_over(now));
            if self.minutes.len() >= CAUSES_MAX {
                return Cause {
                    place: None,
                    ..cause
                };
            }
        }
        cause
    }
}

impl Minute {
    const fn new(now: Instant) -> Self {
        Self {
            began: now,
            written: 0,
            left_out: None,
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= MINUTE
    }

    fn summary(self, cause: Cause, now: Instant) -> Option<Summary> {
        let LeftOut {
            count,
            target,
            first,
        } = self.left_out?;
        // At least 1, since the program may end at once.
        let secs = now.saturating_duration_since(self.began).as_secs().max(1);
        let lines = if count == 1 { "line" } else { "lines" };
        Some(Summary {
            level: cause.level,
            target,
            text: format!("left out {count} {lines} like this in the last {secs} s: {first}"),
        })
    }
}

/// The text up to [`QUOTED_BYTES_MAX`].
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(QUOTED_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEVEL: Level = Level::Info;

    fn cause(line: u32) -> Cause {
        Cause {
            level: LEVEL,
            place: Some(("a.rs", line)),
        }
    }

    struct Log {
        limiter: Limiter,
        began: Instant,
        /// What was written, summaries included.
        lines: Vec<String>,
    }

    impl Log {
        fn new() -> Self {
            Self {
                limiter: Limiter::default(),
                began: Instant::now(),
                lines: Vec::new(),
            }
        }

        fn at(&self, secs: u64) -> Instant {
            self.began + Duration::from_secs(secs)
        }

        fn log(&mut self, of: u32, text: &str, secs: u64) -> Decision {
            let line = || ("target".to_owned(), text.to_owned());
            let (decision, summary) = self.limiter.admit(cause(of), 3, self.at(secs), line);
            self.lines.extend(summary.map(|summary| summary.text));
            if decision == Decision::Write {
                self.lines.push(text.to_owned());
            }
            decision
        }

        fn end(&mut self, secs: u64) {
            let ended = self.limiter.ended(self.at(secs));
            self.lines.extend(ended.into_iter().map(|it| it.text));
        }
    }

    #[test]
    fn lines_beyond_the_bound_are_left_out_and_counted_by_the_next_one() {
        let mut log = Log::new();
        for (text, secs) in [("a", 0), ("b", 5), ("c", 59)] {
            assert_eq!(log.log(1, text, secs), Decision::Write);
        }
        let due = log.at(60);
        assert_eq!(log.log(1, "d", 59), Decision::LeaveOutFirst(due));
        assert_eq!(log.log(1, "e", 59), Decision::LeaveOut);
        assert_eq!(log.log(1, "f", 65), Decision::Write);
        let summary = "left out 2 lines like this in the last 65 s: d";
        assert_eq!(log.lines, ["a", "b", "c", summary, "f"]);
        log.end(1000);
        assert_eq!(log.lines.len(), 5, "each is counted once");
    }

    #[test]
    fn the_end_of_the_minute_counts_them_without_a_next_line() {
        let mut log = Log::new();
        for text in ["a", "b", "c", "d"] {
            log.log(1, text, 0);
        }
        log.end(59);
        assert_eq!(log.lines, ["a", "b", "c"]);
        log.end(60);
        let summary = "left out 1 line like this in the last 60 s: d";
        assert_eq!(log.lines[3..], [summary]);
        // The next minute begins with the next line.
        assert_eq!(log.log(1, "e", 70), Decision::Write);
    }

    #[test]
    fn the_end_of_the_program_counts_them_too() {
        let mut log = Log::new();
        for of in [1, 1, 1, 1, 2] {
            log.log(of, "a", 0);
        }
        let closed = log.limiter.close(log.at(0));
        let expected = Summary {
            level: LEVEL,
            target: "target".into(),
            text: "left out 1 line like this in the last 1 s: a".into(),
        };
        assert_eq!(closed, [expected]);
    }

    #[test]
    fn causes_are_counted_apart() {
        let mut log = Log::new();
        for _ in 0..10 {
            log.log(1, "flood", 0);
        }
        assert_eq!(log.log(2, "rare", 0), Decision::Write);
        let warning = Cause {
            level: Level::Warn,
            ..cause(1)
        };
        let line = || unreachable!("it is written");
        let (decision, _) = log.limiter.admit(warning, 3, log.began, line);
        assert_eq!(decision, Decision::Write);
    }

    #[test]
    fn further_causes_share_one() {
        let mut log = Log::new();
        let most = u32::try_from(CAUSES_MAX).unwrap();
        for of in 0..most {
            assert_eq!(log.log(of, "own", 0), Decision::Write);
        }
        for of in most..most + 3 {
            assert_eq!(log.log(of, "shared", 0), Decision::Write);
        }
        assert_eq!(
            log.log(most + 9, "x", 0),
            Decision::LeaveOutFirst(log.at(60))
        );
        assert_eq!(log.limiter.minutes.len(), CAUSES_MAX + 1);
        // Those whose minute is over make room; what was left out is told first.
        assert_eq!(log.log(most + 9, "y", 60), Decision::Write);
        assert_eq!(log.limiter.minutes.len(), 2);
        log.end(60);
        assert!(
            log.lines
                .contains(&"left out 1 line like this in the last 60 s: x".into())
        );
    }

    #[test]
    fn a_quoted_line_is_short() {
        let mut log = Log::new();
        for _ in 0..4 {
            log.log(1, &"ä".repeat(QUOTED_BYTES_MAX), 0);
        }
        log.end(60);
        let quoted = log.lines[3].rsplit(' ').next().unwrap();
        assert_eq!(quoted, "ä".repeat(QUOTED_BYTES_MAX / 2));
    }
}
