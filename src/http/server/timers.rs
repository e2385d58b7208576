//! [`Timers`]: which connection to check, and when. Pure.
//!
//! A connection's deadline moves with every request, so moving it must be cheap. Each index has one
//! entry in the queue, which may expire too early and is then armed again. No entry lies further
//! ahead than [`LOOK_AHEAD_MAX`], so obsolete entries do not accumulate.
//! [`crate::http::connection`] decides what a deadline means.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Connections are checked this often even if their deadline is later.
const LOOK_AHEAD_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
    /// For each index the earliest entry in the queue.
    armed: Vec<Option<Instant>>,
}

impl Timers {
    /// Has `index` expire at `deadline`, or before.
    pub(super) fn arm(&mut self, index: usize, deadline: Option<Instant>, now: Instant) {
        let Some(deadline) = deadline else {
            return;
        };
        let at = deadline.min(now + LOOK_AHEAD_MAX);
        if self.armed.len() <= index {
            self.armed.resize(index + 1, None);
        }
        if self.armed[index].is_none_or(|armed| at < armed) {
            self.armed[index] = Some(at);
            self.queue.push(Reverse((at, index)));
        }
    }

    /// When the next entry expires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// An index that has expired; the caller arms it again.
    pub(super) fn pop(&mut self, now: Instant) -> Option<usize> {
        while let Some(&Reverse((at, index))) = self.queue.peek() {
            if at > now {
                return None;
            }
            self.queue.pop();
            if self.armed[index] == Some(at) {
                self.armed[index] = None;
                return Some(index);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_expire_in_the_order_of_their_deadlines() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timers = Timers::default();
        timers.arm(3, Some(at(30)), start);
        timers.arm(1, Some(at(10)), start);
        timers.arm(2, None, start);
        assert_eq!(timers.next(), Some(at(10)));
        assert_eq!(timers.pop(at(9)), None);
        assert_eq!(timers.pop(at(30)), Some(1));
        assert_eq!(timers.pop(at(30)), Some(3));
        assert_eq!(timers.pop(at(99)), None);
    }

    #[test]
    fn an_earlier_deadline_replaces_and_a_later_one_waits_for_the_look() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut timers = Timers::default();
        timers.arm(0, Some(at(20)), start);
        timers.arm(0, Some(at(10)), start);
        timers.arm(0, Some(at(40)), start);
        assert_eq!(timers.pop(at(10)), Some(0));
        assert_eq!(timers.pop(at(99)), None, "the old entry is void");
    }

    #[test]
    fn entries_do_not_accumulate() {
        let start = Instant::now();
        let mut timers = Timers::default();
        let mut now = start;
        for _ in 0..100_000 {
            now += Duration::from_millis(1);
            timers.arm(0, Some(now + Duration::from_secs(75)), now);
            timers.arm(0, Some(now + Duration::from_secs(5)), now);
            while timers.pop(now).is_some() {}
            assert!(timers.queue.len() <= 2);
        }
    }
}
