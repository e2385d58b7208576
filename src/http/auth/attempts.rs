//! Limits failed authentications per peer address, so that guessing tokens is slow.
//!
//! Pure, and bounded in memory. After too many failures in a window, tokens from an address are
//! denied unchecked for the rest of the window. Tokens that were valid in this window after a
//! failure stay admitted: one broken client behind a proxy does not lock out the others. IPv6
//! addresses count by /64. Once the table is full, all further addresses share one record, so many
//! attackers get no more attempts.

use crate::app::review::Bearer;
use crate::http::server::PeerKey;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The window in which failures count.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The most addresses with a record of their own.
pub const PEERS_MAX: usize = 4096;

/// The most valid tokens that the record of an address holds.
const VALID_MAX: usize = 16;

/// Failures by address.
#[derive(Debug)]
pub struct Attempts {
    failures_max: u32,
    records: HashMap<PeerKey, Record>,
    /// The shared record of addresses beyond [`PEERS_MAX`].
    rest: Option<Record>,
    cleaned: Option<Instant>,
}

#[derive(Debug)]
struct Record {
    since: Instant,
    failures: u32,
    /// Prefixes of digests of valid tokens: they only decide whether a token is checked.
    valid: Vec<[u8; 8]>,
}

impl Record {
    fn is_over(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= WINDOW
    }
}

impl Attempts {
    /// No failures yet; `failures_max` are allowed in a window.
    #[must_use]
    pub fn new(failures_max: u32) -> Self {
        Self {
            failures_max,
            records: HashMap::new(),
            rest: None,
            cleaned: None,
        }
    }

    /// The time for which this token of this address is still denied unchecked.
    #[must_use]
    pub fn refused_for(&self, peer: IpAddr, bearer: &Bearer, now: Instant) -> Option<Duration> {
        let record = match self.records.get(&PeerKey::of(peer)) {
            Some(record) => record,
            None if self.records.len() >= PEERS_MAX => self.rest.as_ref()?,
            None => return None,
        };
        let refused = record.failures >= self.failures_max
            && !record.is_over(now)
            && !record.valid.contains(&digest_prefix(bearer));
        refused.then(|| (record.since + WINDOW).saturating_duration_since(now))
    }

    /// Counts an invalid token; returns whether the address is denied from now on.
    pub fn failed(&mut self, peer: IpAddr, now: Instant) -> bool {
        self.clean(now);
        let fresh = Record {
            since: now,
            failures: 0,
            valid: Vec::new(),
        };
        let key = PeerKey::of(peer);
        let has_room = self.records.len() < PEERS_MAX || self.records.contains_key(&key);
        let record = if has_room {
            self.records.entry(key).or_insert(fresh)
        } else {
            self.rest.get_or_insert(fresh)
        };
        if record.is_over(now) {
            (record.since, record.failures) = (now, 0);
        }
        record.failures = record.failures.saturating_add(1);
        record.failures == self.failures_max
    }

    /// Records a valid token.
    pub fn passed(&mut self, peer: IpAddr, bearer: &Bearer) {
        let Some(record) = self.records.get_mut(&PeerKey::of(peer)) else {
            return;
        };
        let prefix = digest_prefix(bearer);
        if record.valid.len() < VALID_MAX && !record.valid.contains(&prefix) {
            record.valid.push(prefix);
        }
    }

    /// Evicts expired records, at most once a second, since it visits all of them.
    fn clean(&mut self, now: Instant) {
        let pause = Duration::from_secs(1);
        let due = |at: Instant| now.saturating_duration_since(at) >= pause;
        if self.cleaned.is_none_or(due) {
            self.cleaned = Some(now);
            self.records.retain(|_, record| !record.is_over(now));
            self.rest.take_if(|record| record.is_over(now));
        }
    }
}

fn digest_prefix(bearer: &Bearer) -> [u8; 8] {
    let mut prefix = [0; 8];
    prefix.copy_from_slice(&bearer.digest()[..8]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn refused(attempts: &Attempts, peer: &str, token: &str, now: Instant) -> Option<u64> {
        let left = attempts.refused_for(address(peer), &Bearer::new(token), now);
        left.map(|left| left.as_secs())
    }

    #[test]
    fn an_address_is_refused_from_the_last_allowed_failure_to_the_end_of_the_window() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut attempts = Attempts::new(3);
        assert!(attempts.records.is_empty());
        let peer = address("10.0.0.1");
        assert!(!attempts.failed(peer, at(0)));
        assert!(!attempts.failed(peer, at(10)));
        assert_eq!(refused(&attempts, "10.0.0.1", "any", at(10)), None);
        assert!(attempts.failed(peer, at(20)));
        assert!(!attempts.failed(peer, at(21)), "reported once");
        assert_eq!(refused(&attempts, "10.0.0.1", "any", at(21)), Some(39));
        assert_eq!(refused(&attempts, "10.0.0.2", "any", at(21)), None);
        assert_eq!(refused(&attempts, "10.0.0.1", "any", at(60)), None);
        assert!(!attempts.failed(peer, at(60)), "a new window");
    }

    #[test]
    fn a_token_that_was_valid_from_a_blocked_address_is_still_checked() {
        let now = Instant::now();
        let mut attempts = Attempts::new(2);
        let peer = address("10.0.0.1");
        let _ = attempts.failed(peer, now);
        attempts.passed(peer, &Bearer::new("good"));
        let _ = attempts.failed(peer, now);
        assert_eq!(refused(&attempts, "10.0.0.1", "good", now), None);
        assert_eq!(refused(&attempts, "10.0.0.1", "other", now), Some(60));
    }

    #[test]
    fn a_64_of_ipv6_is_one_address() {
        let now = Instant::now();
        let mut attempts = Attempts::new(1);
        let _ = attempts.failed(address("2001:db8::1"), now);
        assert_eq!(refused(&attempts, "2001:db8::2", "any", now), Some(60));
        assert_eq!(refused(&attempts, "2001:db8:0:1::2", "any", now), None);
    }

    #[test]
    fn the_table_is_bounded_and_further_addresses_share_one_record() {
        let now = Instant::now();
        let mut attempts = Attempts::new(2);
        let peer = |number: usize| IpAddr::from(u32::try_from(number).unwrap().to_be_bytes());
        for number in 0..PEERS_MAX + 2 {
            let _ = attempts.failed(peer(number), now);
        }
        assert_eq!(attempts.records.len(), PEERS_MAX);
        let any = Bearer::new("any");
        assert_eq!(attempts.refused_for(peer(0), &any, now), None);
        assert!(
            attempts
                .refused_for(peer(PEERS_MAX + 7), &any, now)
                .is_some()
        );
        let later = now + WINDOW;
        let _ = attempts.failed(peer(0), later);
        assert_eq!(attempts.records.len(), 1);
        assert!(attempts.rest.is_none());
    }
}
