//! The cache of token statuses, and the requests that wait for reviews. Pure, and bounded.

use crate::app::request::{RequestHandle, TokenStatus};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How long a valid token is cached; for that long it still works after it was revoked.
pub(super) const VALID_FOR: Duration = Duration::from_secs(30);

/// How long an invalid token is cached; it may become valid, as that of a new account.
pub(super) const INVALID_FOR: Duration = Duration::from_secs(5);

/// Tokens that are cached or being reviewed.
pub(super) const TOKENS_MAX: usize = 4096;

/// Requests that may wait for reviews.
pub(super) const WAITING_MAX: usize = 1000;

type Digest = [u8; 32];

/// The statuses of tokens, and the requests that wait for some.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The statuses, and until when they count.
    known: HashMap<Digest, (TokenStatus, Instant)>,
    /// The tokens that are being reviewed, also if no request waits any longer.
    in_review: HashSet<Digest>,
    /// In the order of their arrival.
    waiting: Vec<(RequestHandle, Digest)>,
}

/// The result of looking a token up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Known(TokenStatus),
    /// The request waits, and the review must be made.
    WaitsFirst,
    /// The request waits for a review in progress.
    Waits,
    /// Not cached, and no capacity to wait.
    Full,
}

impl Memory {
    /// Looks up a token for a request. The request waits from now on unless the status is cached.
    pub(super) fn look(&mut self, digest: &Digest, handle: RequestHandle, now: Instant) -> Look {
        if let Some((status, until)) = self.known.get(digest)
            && now < *until
        {
            return Look::Known(status.clone());
        }
        if self.waiting.len() >= WAITING_MAX {
            return Look::Full;
        }
        let is_first = !self.in_review.contains(digest);
        if is_first {
            self.known.remove(digest);
            if !self.make_room(now) {
                return Look::Full;
            }
            self.in_review.insert(*digest);
        }
        self.waiting.push((handle, *digest));
        if is_first {
            Look::WaitsFirst
        } else {
            Look::Waits
        }
    }

    /// Ends a review with its status, or `None` if it failed; returns the waiters.
    pub(super) fn end(
        &mut self,
        digest: &Digest,
        status: Option<TokenStatus>,
        now: Instant,
    ) -> Vec<RequestHandle> {
        self.in_review.remove(digest);
        if let Some(status) = status {
            let lasts = match status {
                TokenStatus::User(_) => VALID_FOR,
                TokenStatus::Unknown => INVALID_FOR,
            };
            self.known.insert(*digest, (status, now + lasts));
        }
        let waited = self
            .waiting
            .extract_if(.., |(_, reviewed)| reviewed == digest);
        waited.map(|(handle, _)| handle).collect()
    }

    /// The request no longer waits.
    pub(super) fn leave(&mut self, handle: RequestHandle) {
        self.waiting.retain(|(waiting, _)| *waiting != handle);
    }

    /// Removes and returns all waiters.
    pub(super) fn leave_all(&mut self) -> Vec<RequestHandle> {
        self.waiting.drain(..).map(|(handle, _)| handle).collect()
    }

    /// Evicts expired statuses, else the one that expires first; returns whether there is capacity.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.tokens() < TOKENS_MAX {
            return true;
        }
        self.known.retain(|_, (_, until)| now < *until);
        let dated = self
            .known
            .iter()
            .map(|(digest, (_, until))| (*until, *digest));
        if let Some((_, first)) = dated.min().filter(|_| self.tokens() >= TOKENS_MAX) {
            self.known.remove(&first);
        }
        self.tokens() < TOKENS_MAX
    }

    fn tokens(&self) -> usize {
        self.known.len() + self.in_review.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(serial: usize) -> RequestHandle {
        RequestHandle {
            io: 0,
            slot: 0,
            serial: serial as u64,
        }
    }

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn user() -> TokenStatus {
        TokenStatus::User("system:serviceaccount:apps:portal".into())
    }

    #[test]
    fn a_token_is_reviewed_once_for_all_waiters() {
        let now = Instant::now();
        let mut memory = Memory::default();
        assert_eq!(memory.look(&digest(1), token(1), now), Look::WaitsFirst);
        assert_eq!(memory.look(&digest(1), token(2), now), Look::Waits);
        assert_eq!(memory.look(&digest(2), token(3), now), Look::WaitsFirst);
        memory.leave(token(1));
        assert_eq!(memory.end(&digest(1), Some(user()), now), [token(2)]);
        assert_eq!(memory.look(&digest(1), token(4), now), Look::Known(user()));
    }

    #[track_caller]
    fn check_lasts(status: TokenStatus, lasts: Duration) {
        let now = Instant::now();
        let mut memory = Memory::default();
        let _ = memory.look(&digest(1), token(1), now);
        let _ = memory.end(&digest(1), Some(status.clone()), now);
        let just = now + lasts - Duration::from_millis(1);
        assert_eq!(memory.look(&digest(1), token(2), just), Look::Known(status));
        assert_eq!(
            memory.look(&digest(1), token(2), now + lasts),
            Look::WaitsFirst
        );
    }

    #[test]
    fn token_statuses_are_cached_and_errors_are_not() {
        check_lasts(user(), VALID_FOR);
        check_lasts(TokenStatus::Unknown, INVALID_FOR);
        let now = Instant::now();
        let mut memory = Memory::default();
        let _ = memory.look(&digest(1), token(1), now);
        assert_eq!(memory.end(&digest(1), None, now), [token(1)]);
        assert_eq!(memory.look(&digest(1), token(2), now), Look::WaitsFirst);
    }

    #[test]
    fn waiters_are_bounded_and_abandoning_frees_capacity() {
        let now = Instant::now();
        let mut memory = Memory::default();
        for serial in 0..WAITING_MAX {
            assert_ne!(memory.look(&digest(1), token(serial), now), Look::Full);
        }
        assert_eq!(memory.look(&digest(1), token(WAITING_MAX), now), Look::Full);
        memory.leave(token(7));
        assert_eq!(
            memory.look(&digest(1), token(WAITING_MAX), now),
            Look::Waits
        );
        assert_eq!(memory.leave_all().len(), WAITING_MAX);
        assert_eq!(memory.end(&digest(1), Some(user()), now), []);
    }

    #[test]
    fn the_cache_is_bounded_and_valid_tokens_stay_longest() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let _ = memory.look(&digest(0), token(0), now);
        let _ = memory.end(&digest(0), Some(user()), now);
        for number in 1..TOKENS_MAX + 100 {
            assert_eq!(
                memory.look(&digest(number), token(number), now),
                Look::WaitsFirst
            );
            let _ = memory.end(&digest(number), Some(TokenStatus::Unknown), now);
        }
        assert_eq!(memory.tokens(), TOKENS_MAX);
        assert_eq!(memory.look(&digest(0), token(0), now), Look::Known(user()));
    }
}
