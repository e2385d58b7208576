//! What is known of tokens, and who waits to hear of which. Pure, and bounded.

use super::{RequestHandle, Verdict};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a good token is not asked about again: so long does it work after it was revoked.
pub(super) const GOOD_FOR: Duration = Duration::from_secs(30);

/// How long a wrong token is not asked about again; one may become good, when it is a new
/// account's.
pub(super) const WRONG_FOR: Duration = Duration::from_secs(5);

/// Tokens that are remembered or asked about.
pub(super) const TOKENS_MAX: usize = 4096;

/// Requests that may wait for reviews.
pub(super) const WAITING_MAX: usize = 1000;

type Digest = [u8; 32];

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: HashMap<Digest, Entry>,
    waiting: HashMap<RequestHandle, Digest>,
}

#[derive(Debug)]
enum Entry {
    /// Kubernetes is being asked; these wait.
    Asked(Vec<RequestHandle>),
    Known {
        verdict: Verdict,
        until: Instant,
    },
}

/// What is known of one token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Known(Verdict),
    /// Nothing: the request waits, and Kubernetes must be asked.
    WaitsFirst,
    /// The request waits with others.
    Waits,
    /// Nothing, and there is no room to wait.
    Full,
}

impl Memory {
    /// Looks a token up for this request, which waits from now on if nothing is known.
    pub(super) fn look(&mut self, digest: &Digest, token: RequestHandle, now: Instant) -> Look {
        if let Some(Entry::Known { verdict, until }) = self.entries.get(digest)
            && now < *until
        {
            return Look::Known(verdict.clone());
        }
        if self.waiting.len() >= WAITING_MAX {
            return Look::Full;
        }
        if let Some(Entry::Asked(tokens)) = self.entries.get_mut(digest) {
            tokens.push(token);
            self.waiting.insert(token, *digest);
            return Look::Waits;
        }
        if !self.entries.contains_key(digest) && !self.make_room(now) {
            return Look::Full;
        }
        self.entries.insert(*digest, Entry::Asked(vec![token]));
        self.waiting.insert(token, *digest);
        Look::WaitsFirst
    }

    /// Kubernetes has answered, or (`None`) could not be asked; returns who waited.
    pub(super) fn end(
        &mut self,
        digest: &Digest,
        verdict: Option<Verdict>,
        now: Instant,
    ) -> Vec<RequestHandle> {
        let waited = match self.entries.remove(digest) {
            Some(Entry::Asked(tokens)) => tokens,
            Some(Entry::Known { .. }) | None => Vec::new(),
        };
        for token in &waited {
            self.waiting.remove(token);
        }
        if let Some(verdict) = verdict {
            let lasts = match verdict {
                Verdict::User(_) => GOOD_FOR,
                Verdict::Unknown => WRONG_FOR,
            };
            let until = now + lasts;
            self.entries
                .insert(*digest, Entry::Known { verdict, until });
        }
        waited
    }

    /// This request no longer waits.
    pub(super) fn leave(&mut self, token: RequestHandle) {
        if let Some(digest) = self.waiting.remove(&token)
            && let Some(Entry::Asked(tokens)) = self.entries.get_mut(&digest)
        {
            tokens.retain(|waiting| *waiting != token);
        }
    }

    /// Nobody waits any more; returns who did.
    pub(super) fn leave_all(&mut self) -> Vec<RequestHandle> {
        for entry in self.entries.values_mut() {
            if let Entry::Asked(tokens) = entry {
                tokens.clear();
            }
        }
        self.waiting.drain().map(|(token, _)| token).collect()
    }

    /// Forgets what is over, else what would be over first; says whether there is room.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.entries.len() < TOKENS_MAX {
            return true;
        }
        self.entries.retain(|_, entry| match entry {
            Entry::Asked(_) => true,
            Entry::Known { until, .. } => now < *until,
        });
        let known = self
            .entries
            .iter()
            .filter_map(|(digest, entry)| match entry {
                Entry::Asked(_) => None,
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

    fn user() -> Verdict {
        Verdict::User("system:serviceaccount:apps:portal".into())
    }

    #[test]
    fn a_token_is_asked_about_once_for_all_who_wait() {
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
    fn check_lasts(verdict: Verdict, lasts: Duration) {
        let now = Instant::now();
        let mut memory = Memory::default();
        let _ = memory.look(&digest(1), token(1), now);
        let _ = memory.end(&digest(1), Some(verdict.clone()), now);
        let just = now + lasts - Duration::from_millis(1);
        assert_eq!(
            memory.look(&digest(1), token(2), just),
            Look::Known(verdict)
        );
        assert_eq!(
            memory.look(&digest(1), token(2), now + lasts),
            Look::WaitsFirst
        );
    }

    #[test]
    fn verdicts_last_for_a_while_and_failures_not_at_all() {
        check_lasts(user(), GOOD_FOR);
        check_lasts(Verdict::Unknown, WRONG_FOR);
        let now = Instant::now();
        let mut memory = Memory::default();
        let _ = memory.look(&digest(1), token(1), now);
        assert_eq!(memory.end(&digest(1), None, now), [token(1)]);
        assert_eq!(memory.look(&digest(1), token(2), now), Look::WaitsFirst);
    }

    #[test]
    fn who_waits_is_bounded_and_hanging_up_makes_room() {
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
    fn what_is_remembered_is_bounded_and_good_tokens_stay_longest() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let _ = memory.look(&digest(0), token(0), now);
        let _ = memory.end(&digest(0), Some(user()), now);
        for number in 1..TOKENS_MAX + 100 {
            assert_eq!(
                memory.look(&digest(number), token(number), now),
                Look::WaitsFirst
            );
            let _ = memory.end(&digest(number), Some(Verdict::Unknown), now);
        }
        assert_eq!(memory.entries.len(), TOKENS_MAX);
        assert_eq!(memory.look(&digest(0), token(0), now), Look::Known(user()));
    }
}
