//! [`Timers`]: which connection to look at, and when. Pure.
//!
//! A connection's deadline moves with every request, so moving it must cost
//! nothing: each place has one entry in the queue, which may come too early and
//! is then put in again. No entry lies further ahead than [`LOOK_AHEAD_MAX`], so
//! entries that have become useless do not pile up.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// Connections are looked at this often even if their deadline is later.
const LOOK_AHEAD_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
    /// For each place the earliest entry in the queue.
    armed: Vec<Option<Instant>>,
}

impl Timers {
    /// Has `place` looked at when `deadline` comes, or before.
    pub(super) fn arm(&mut self, place: usize, deadline: Option<Instant>, now: Instant) {
        let Some(deadline) = deadline else {
            return;
        };
        let at = deadline.min(now + LOOK_AHEAD_MAX);
        if self.armed.len() <= place {
            self.armed.resize(place + 1, None);
        }
        if self.armed[place].is_none_or(|armed| at < armed) {
            self.armed[place] = Some(at);
            self.queue.push(Reverse((at, place)));
        }
    }

    /// When the next place is to be looked at.
    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, _))| *at)
    }

    /// A place that is to be looked at now; the caller arms it again.
    pub(super) fn pop(&mut self, now: Instant) -> Option<usize> {
        while let Some(&Reverse((at, place))) = self.queue.peek() {
            if at > now {
                return None;
            }
            self.queue.pop();
            if self.armed[place] == Some(at) {
                self.armed[place] = None;
                return Some(place);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_in_the_order_of_their_deadlines() {
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
    fn entries_do_not_pile_up() {
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
