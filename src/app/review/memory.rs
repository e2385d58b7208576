//! The cache of token statuses, and the requests that wait for reviews. Pure, and bounded.

use crate::app::request::{RequestHandle, TokenStatus};
use std::collections::HashMap;
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
    entries: HashMap<Digest, Entry>,
    waiting: HashMap<RequestHandle, Digest>,
}

#[derive(Debug)]
enum Entry {
    /// The token is being reviewed; these requests wait.
    InReview(Vec<RequestHandle>),
    Known {
        status: TokenStatus,
        until: Instant,
    },
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
        if let Some(Entry::Known { status, until }) = self.entries.get(digest)
            && now < *until
        {
            return Look::Known(status.clone());
        }
        if self.waiting.len() >= WAITING_MAX {
            return Look::Full;
        }
        if let Some(Entry::InReview(handles)) = self.entries.get_mut(digest) {
            handles.push(handle);
            self.waiting.insert(handle, *digest);
            return Look::Waits;
        }
        if !self.entries.contains_key(digest) && !self.make_room(now) {
            return Look::Full;
        }
        self.entries.insert(*digest, Entry::InReview(vec![handle]));
        self.waiting.insert(handle, *digest);
        Look::WaitsFirst
    }

    /// Ends a review with its status, or `None` if it failed; returns the waiters.
    pub(super) fn end(
        &mut self,
        digest: &Digest,
        status: Option<TokenStatus>,
        now: Instant,
    ) -> Vec<RequestHandle> {
        let waited = match self.entries.remove(digest) {
            Some(Entry::InReview(handles)) => handles,
            Some(Entry::Known { .. }) | None => Vec::new(),
        };
        for handle in &waited {
            self.waiting.remove(handle);
        }
        if let Some(status) = status {
            let lasts = match status {
                TokenStatus::User(_) => VALID_FOR,
                TokenStatus::Unknown => INVALID_FOR,
            };
            let until = now + lasts;
            self.entries.insert(*digest, Entry::Known { status, until });
        }
        waited
    }

    /// The request no longer waits.
    pub(super) fn leave(&mut self, handle: RequestHandle) {
        if let Some(digest) = self.waiting.remove(&handle)
            && let Some(Entry::InReview(handles)) = self.entries.get_mut(&digest)
        {
            handles.retain(|waiting| *waiting != handle);
        }
    }

    /// Removes and returns all waiters.
    pub(super) fn leave_all(&mut self) -> Vec<RequestHandle> {
        for entry in self.entries.values_mut() {
            if let Entry::InReview(handles) = entry {
                handles.clear();
            }
        }
        self.waiting.drain().map(|(handle, _)| handle).collect()
    }

    /// Evicts expired entries, else the one that expires first; returns whether there is capacity.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.entries.len() < TOKENS_MAX {
            return true;
        }
        self.entries.retain(|_, entry| match entry {
            Entry::InReview(_) => true,
            Entry::Known { until, .. } => now < *until,
        });
        let known = self
            .entries
            .iter()
            .filter_map(|(digest, entry)| match entry {
                Entry::InReview(_) => None,
                Entry::Known { until, .. } => Some((*until, *digest)),
            });
        if self.entries.len() >= TOKENS_MAX
            && let Some((_, first)) = known.min()
        {
            self.entries.remove(&first);
        }
        self.entries.len() < TOKENS_MAX
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
        assert_eq!(memory.entries.len(), TOKENS_MAX);
        assert_eq!(memory.look(&digest(0), token(0), now), Look::Known(user()));
    }
}
