//! Counts wrong tokens per peer address, so that guessing is slow and floods no one but its sender.
//!
//! Pure, and bounded in memory. Only wrong tokens are limited: nothing here is asked about a token
//! that is known to be good, so callers behind one proxy do not lock each other out. IPv6 addresses
//! count by /64. Addresses that find the table full are not limited: a flood from many
//! addresses must not affect others.

use crate::budget::PeerKey;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The window in which failures count.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The most addresses with a record.
pub const PEERS_MAX: usize = 4096;

/// Failures by address.
#[derive(Debug)]
pub struct Attempts {
    failures_max: u32,
    records: HashMap<PeerKey, Record>,
    cleaned: Option<Instant>,
}

#[derive(Debug)]
struct Record {
    since: Instant,
    failures: u32,
}

impl Record {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

/// What follows from a wrong token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It is one of those that are allowed.
    Allowed,
    /// It is the first beyond the limit; the window lasts this much longer.
    FirstBeyond(Duration),
    /// As the first beyond the limit, a later one.
    Beyond(Duration),
}

impl Attempts {
    /// No failures yet; `failures_max` are allowed in a window.
    #[must_use]
    pub fn new(failures_max: u32) -> Self {
        Self {
            failures_max,
            records: HashMap::new(),
            cleaned: None,
        }
    }

    /// Whether as many wrong tokens have come from this address as are allowed, or more.
    #[must_use]
    pub fn are_used(&self, peer: IpAddr, now: Instant) -> bool {
        let record = self.records.get(&PeerKey::of(peer));
        record.is_some_and(|it| it.failures >= self.failures_max && !it.is_over(now))
    }

    /// Counts a wrong token.
    pub fn failed(&mut self, peer: IpAddr, now: Instant) -> Failed {
        self.clean(now);
        let key = PeerKey::of(peer);
        if self.records.len() >= PEERS_MAX && !self.records.contains_key(&key) {
            return Failed::Allowed;
        }
        let fresh = Record {
            since: now,
            failures: 0,
        };
        let record = self.records.entry(key).or_insert(fresh);
        if record.is_over(now) {
            (record.since, record.failures) = (now, 0);
        }
        record.failures = record.failures.saturating_add(1);
        let left = (record.since + WINDOW).saturating_duration_since(now);
        match record.failures.checked_sub(self.failures_max) {
            None | Some(0) => Failed::Allowed,
            Some(1) => Failed::FirstBeyond(left),
            Some(_) => Failed::Beyond(left),
        }
    }

    /// Evicts expired records, at most once a second, since it visits all of them.
    fn clean(&mut self, now: Instant) {
        let pause = Duration::from_secs(1);
        let due = |at: Instant| now.saturating_duration_since(at) >= pause;
        if self.cleaned.is_none_or(due) {
            self.cleaned = Some(now);
            self.records.retain(|_, record| !record.is_over(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn are_used(attempts: &Attempts, peer: &str, now: Instant) -> bool {
        attempts.are_used(address(peer), now)
    }

    #[test]
    fn an_address_is_limited_from_the_last_allowed_failure_to_the_end_of_the_window() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let left = Duration::from_secs;
        let mut attempts = Attempts::new(3);
        assert!(attempts.records.is_empty());
        let peer = address("10.0.0.1");
        assert_eq!(attempts.failed(peer, at(0)), Failed::Allowed);
        assert_eq!(attempts.failed(peer, at(10)), Failed::Allowed);
        assert!(!are_used(&attempts, "10.0.0.1", at(10)));
        assert_eq!(attempts.failed(peer, at(20)), Failed::Allowed);
        assert!(are_used(&attempts, "10.0.0.1", at(21)));
        assert!(!are_used(&attempts, "10.0.0.2", at(21)));
        assert_eq!(attempts.failed(peer, at(21)), Failed::FirstBeyond(left(39)));
        assert_eq!(attempts.failed(peer, at(22)), Failed::Beyond(left(38)));
        assert!(!are_used(&attempts, "10.0.0.1", at(60)));
        assert_eq!(
            attempts.failed(peer, at(60)),
            Failed::Allowed,
            "a new window"
        );
    }

    #[test]
    fn a_64_of_ipv6_is_one_address() {
        let now = Instant::now();
        let mut attempts = Attempts::new(1);
        let _ = attempts.failed(address("2001:db8::1"), now);
        assert!(are_used(&attempts, "2001:db8::2", now));
        assert!(!are_used(&attempts, "2001:db8:0:1::2", now));
    }

    #[test]
    fn the_table_is_bounded_and_does_not_affect_further_addresses() {
        let now = Instant::now();
        let mut attempts = Attempts::new(1);
        let peer = |number: usize| IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
        for number in 0..PEERS_MAX + 2 {
            let _ = attempts.failed(peer(number), now);
        }
        assert_eq!(attempts.records.len(), PEERS_MAX);
        assert!(attempts.are_used(peer(PEERS_MAX - 1), now));
        for outside in [PEERS_MAX, PEERS_MAX + 7] {
            assert_eq!(attempts.failed(peer(outside), now), Failed::Allowed);
            assert!(!attempts.are_used(peer(outside), now));
        }
        let later = now + WINDOW;
        let _ = attempts.failed(peer(0), later);
        assert_eq!(attempts.records.len(), 1);
    }
}
