//! The cache of token statuses, and the requests that wait for reviews. Pure, and bounded.

use super::Scope;
use crate::app::request::TokenStatus;
use crate::app::request_handle::RequestHandle;
use crate::budget::{PeerKey, is_beyond};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a valid token is cached; for that long it still works after it was revoked.
pub(super) const VALID_FOR: Duration = Duration::from_secs(30);

/// How long an invalid token is cached; it may become valid, as that of a new account.
pub(super) const INVALID_FOR: Duration = Duration::from_secs(5);

/// Tokens whose status is cached, or that are known to have been good.
pub(super) const TOKENS_MAX: usize = 4096;

/// Requests that may wait for reviews; beyond it they get 429.
pub(super) const WAITING_MAX: usize = 1000;

/// Tokens that may be in review at the same time; beyond it requests get 429.
pub(super) const IN_REVIEW_MAX: usize = 256;

/// Tokens from addresses with too many wrong ones that may be in review at the same time, all of
/// these addresses together. It bounds how many reviews they cause, while a good token from there
/// soon finds room, also beside one of the others that has as many as it may.
pub(super) const FEW_IN_REVIEW_MAX: usize = 8;

/// The part of both bounds that is reserved for tokens that were good before. However many wrong
/// tokens come, callers that are known are still reviewed.
const RESERVE: usize = 4;

type Digest = [u8; 32];

/// The statuses of tokens, and the requests that wait for some.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The statuses, and until when they count. That of a good token stays beyond that, as the
    /// knowledge that it was good.
    known: HashMap<Digest, (TokenStatus, Instant)>,
    /// The tokens that are being reviewed, also if no request waits any longer.
    in_review: HashMap<Digest, Review>,
    /// In the order of their arrival.
    waiting: Vec<(Waiter, Digest)>,
}

/// A request that may wait for a review, and the address from which it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiter {
    pub(super) handle: RequestHandle,
    pub(super) peer: PeerKey,
}

/// A review in progress.
#[derive(Debug)]
struct Review {
    scope: Scope,
    /// The address of the first request for it.
    peer: PeerKey,
}

/// The result of looking a token up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Known(TokenStatus),
    /// Not cached, and as many of its scope are in review as may be.
    OutOfScope,
    /// The request waits, and the review must be made.
    WaitsFirst,
    /// The request waits for a review in progress.
    Waits,
    /// Not cached, and no capacity to wait: none at all, or none for this caller: a token that was
    /// good before, else an address.
    Full,
}

impl Memory {
    /// Looks up a token for a request. The request waits from now on unless the status is cached.
    pub(super) fn look(
        &mut self,
        digest: &Digest,
        waiter: Waiter,
        scope: Scope,
        now: Instant,
    ) -> Look {
        let known = self.known.get(digest);
        if let Some((status, until)) = known
            && now < *until
        {
            return Look::Known(status.clone());
        }
        let was_good = known.is_some_and(|(status, _)| is_good(status));
        let scope = if was_good { Scope::All } else { scope };
        let is_first = !self.in_review.contains_key(digest);
        let peer = waiter.peer;
        let few = self.in_review.values().filter(|it| it.scope == Scope::Few);
        let few = few.map(|it| it.peer == peer);
        if scope == Scope::Few && is_first && !has_room(few, FEW_IN_REVIEW_MAX) {
            return Look::OutOfScope;
        }
        let is_own = |of: &Digest, other: PeerKey| match was_good {
            true => of == digest,
            false => other == peer,
        };
        let waiting = self.waiting.iter().map(|(it, of)| is_own(of, it.peer));
        let in_review = self.in_review.iter().map(|(of, it)| is_own(of, it.peer));
        let without_reserve = |max| if was_good { max } else { max - max / RESERVE };
        if !has_room(waiting, without_reserve(WAITING_MAX))
            || (is_first && !has_room(in_review, without_reserve(IN_REVIEW_MAX)))
        {
            return Look::Full;
        }
        self.waiting.push((waiter, *digest));
        if !is_first {
            return Look::Waits;
        }
        self.in_review.insert(*digest, Review { scope, peer });
        Look::WaitsFirst
    }

    /// Whether the last review found that this token is not valid, however long ago.
    pub(super) fn is_wrong(&self, digest: &Digest) -> bool {
        let known = self.known.get(digest);
        known.is_some_and(|(status, _)| !is_good(status))
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
            self.make_room(digest, now);
            self.known.insert(*digest, (status, now + lasts));
        }
        let waited = self
            .waiting
            .extract_if(.., |(_, reviewed)| reviewed == digest);
        waited.map(|(waiter, _)| waiter.handle).collect()
    }

    /// The request no longer waits.
    pub(super) fn leave(&mut self, handle: RequestHandle) {
        self.waiting.retain(|(waiter, _)| waiter.handle != handle);
    }

    /// Removes and returns all waiters.
    pub(super) fn leave_all(&mut self) -> Vec<RequestHandle> {
        let waiting = self.waiting.drain(..);
        waiting.map(|(waiter, _)| waiter.handle).collect()
    }

    /// Makes room for the status of one more token: evicts those of wrong tokens that have expired,
    /// else the wrong one that expires first, else the good one that was reviewed least recently.
    fn make_room(&mut self, digest: &Digest, now: Instant) {
        if self.known.len() < TOKENS_MAX || self.known.contains_key(digest) {
            return;
        }
        self.known
            .retain(|_, (status, until)| is_good(status) || now < *until);
        let by_value = |(digest, (status, until)): (&Digest, &(TokenStatus, Instant))| {
            (is_good(status), *until, *digest)
        };
        let least = self.known.iter().map(by_value).min();
        if let Some((_, _, least)) = least.filter(|_| self.known.len() >= TOKENS_MAX) {
            self.known.remove(&least);
        }
    }
}

/// Whether a bound leaves room for a request; `used` tells of those there are whether they are of
/// the same caller. Each caller gets at most half of what the others leave.
fn has_room(used: impl Iterator<Item = bool> + Clone, max: usize) -> bool {
    let Some(free) = max.checked_sub(used.clone().count() + 1) else {
        return false;
    };
    let own = used.filter(|is_own| *is_own).count();
    own == 0 || !is_beyond(own + 1, max / 2, free, max)
}

fn is_good(status: &TokenStatus) -> bool {
    matches!(status, TokenStatus::User(_))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Scope::{All, Few};
    use std::net::Ipv4Addr;

    /// A request from an address of its own.
    fn token(serial: usize) -> Waiter {
        from(u32::try_from(serial).unwrap(), serial)
    }

    fn from(peer: u32, serial: usize) -> Waiter {
        Waiter {
            handle: RequestHandle {
                io: 0,
                slot: 0,
                serial: serial as u64,
            },
            peer: PeerKey::of(Ipv4Addr::from(peer).into()),
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
        assert_eq!(
            memory.look(&digest(1), token(1), All, now),
            Look::WaitsFirst
        );
        assert_eq!(memory.look(&digest(1), token(2), All, now), Look::Waits);
        assert_eq!(
            memory.look(&digest(2), token(3), All, now),
            Look::WaitsFirst
        );
        memory.leave(token(1).handle);
        assert_eq!(memory.end(&digest(1), Some(user()), now), [token(2).handle]);
        assert_eq!(
            memory.look(&digest(1), token(4), All, now),
            Look::Known(user())
        );
    }

    #[track_caller]
    fn check_lasts(status: TokenStatus, lasts: Duration) {
        let now = Instant::now();
        let mut memory = Memory::default();
        let _ = memory.look(&digest(1), token(1), All, now);
        let _ = memory.end(&digest(1), Some(status.clone()), now);
        let just = now + lasts - Duration::from_millis(1);
        assert_eq!(
            memory.look(&digest(1), token(2), All, just),
            Look::Known(status)
        );
        assert_eq!(
            memory.look(&digest(1), token(2), All, now + lasts),
            Look::WaitsFirst
        );
    }

    #[test]
    fn token_statuses_are_cached_and_errors_are_not() {
        check_lasts(user(), VALID_FOR);
        check_lasts(TokenStatus::Unknown, INVALID_FOR);
        let now = Instant::now();
        let mut memory = Memory::default();
        let _ = memory.look(&digest(1), token(1), All, now);
        assert_eq!(memory.end(&digest(1), None, now), [token(1).handle]);
        assert_eq!(
            memory.look(&digest(1), token(2), All, now),
            Look::WaitsFirst
        );
    }

    #[test]
    fn waiters_are_bounded_and_abandoning_frees_capacity() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let most = WAITING_MAX - WAITING_MAX / RESERVE;
        for serial in 0..most {
            assert_ne!(memory.look(&digest(1), token(serial), All, now), Look::Full);
        }
        assert_eq!(memory.look(&digest(1), token(most), All, now), Look::Full);
        memory.leave(token(7).handle);
        assert_eq!(memory.look(&digest(1), token(most), All, now), Look::Waits);
        assert_eq!(memory.leave_all().len(), most);
        assert_eq!(memory.end(&digest(1), Some(user()), now), []);
    }

    /// A memory in which token 0 was good until now, when its status is no longer cached.
    fn known_good() -> (Memory, Instant) {
        let now = Instant::now();
        let mut memory = Memory::default();
        let _ = memory.look(&digest(0), token(0), All, now);
        let _ = memory.end(&digest(0), Some(user()), now);
        (memory, now + VALID_FOR)
    }

    #[test]
    fn a_token_that_was_good_is_reviewed_beside_a_flood_of_wrong_ones() {
        let (mut memory, now) = known_good();
        let most = IN_REVIEW_MAX - IN_REVIEW_MAX / RESERVE;
        for number in 1..=most {
            let look = memory.look(&digest(number), token(number), All, now);
            assert_eq!(look, Look::WaitsFirst);
        }
        let number = most + 1;
        assert_eq!(
            memory.look(&digest(number), token(number), All, now),
            Look::Full
        );
        assert_eq!(
            memory.look(&digest(0), token(0), All, now),
            Look::WaitsFirst
        );
    }

    #[test]
    fn an_address_uses_no_more_than_half_of_the_reviews() {
        let (mut memory, now) = known_good();
        let half = (IN_REVIEW_MAX - IN_REVIEW_MAX / RESERVE) / 2;
        for number in 1..=half {
            let look = memory.look(&digest(number), from(1, number), All, now);
            assert_eq!(look, Look::WaitsFirst);
        }
        let next = half + 1;
        let look = memory.look(&digest(next), from(1, next), All, now);
        assert_eq!(look, Look::Full);
        // Hanging up does not end a review.
        memory.leave(from(1, 1).handle);
        let look = memory.look(&digest(next), from(1, next), All, now);
        assert_eq!(look, Look::Full);
        let good = memory.look(&digest(0), from(1, 0), All, now);
        assert_eq!(good, Look::WaitsFirst, "it was good before");
        let other = memory.look(&digest(next), from(2, next), All, now);
        assert_eq!(other, Look::WaitsFirst, "it comes from another address");
    }

    #[test]
    fn an_address_uses_no_more_than_half_of_the_waiting_places() {
        let (mut memory, now) = known_good();
        let half = (WAITING_MAX - WAITING_MAX / RESERVE) / 2;
        for serial in 0..half {
            let look = memory.look(&digest(1), from(1, serial), All, now);
            assert_ne!(look, Look::Full);
        }
        for number in [1, 2] {
            let look = memory.look(&digest(number), from(1, half), All, now);
            assert_eq!(look, Look::Full);
        }
        let good = memory.look(&digest(0), from(1, half), All, now);
        assert_eq!(good, Look::WaitsFirst, "it was good before");
        let other = memory.look(&digest(2), from(2, half + 1), All, now);
        assert_eq!(other, Look::WaitsFirst, "it comes from another address");
        memory.leave(from(1, 1).handle);
        memory.leave(from(1, 2).handle);
        memory.leave(from(1, 3).handle);
        let look = memory.look(&digest(1), from(1, 1), All, now);
        assert_eq!(look, Look::Waits, "there is room again");
    }

    #[test]
    fn each_further_address_finds_room_for_reviews() {
        let (mut memory, now) = known_good();
        let mut number = 0;
        let mut taken = |peer: u32, is_same: bool| {
            let begin = number;
            loop {
                let token = if is_same { 1 } else { number + 1 };
                let look = memory.look(&digest(token), from(peer, number), All, now);
                if look == Look::Full {
                    return number - begin;
                }
                number += 1;
            }
        };
        assert_eq!([1, 2, 3].map(|peer| taken(peer, false)), [96, 48, 24]);
        // Requests with a token that is in review only have to wait.
        assert_eq!([1, 2, 4].map(|peer| taken(peer, true)), [243, 145, 97]);
        assert_eq!(taken(9, false), 12, "a new address still finds room");
    }

    #[test]
    fn one_good_token_leaves_room_for_the_others_to_wait() {
        let (mut memory, now) = known_good();
        for serial in 0..WAITING_MAX / 2 {
            let look = memory.look(&digest(0), token(serial), All, now);
            assert_ne!(look, Look::Full, "{serial}");
        }
        let serial = WAITING_MAX / 2;
        let look = memory.look(&digest(0), token(serial), All, now);
        assert_eq!(look, Look::Full);
        let other = memory.look(&digest(1), token(serial), All, now);
        assert_eq!(other, Look::WaitsFirst);
    }

    #[test]
    fn few_tokens_are_reviewed_for_addresses_with_too_many_wrong_ones() {
        let (mut memory, now) = known_good();
        for number in 1..=FEW_IN_REVIEW_MAX {
            let look = memory.look(&digest(number), token(number), Few, now);
            assert_eq!(look, Look::WaitsFirst);
        }
        let next = FEW_IN_REVIEW_MAX + 1;
        let look = memory.look(&digest(next), token(next), Few, now);
        assert_eq!(look, Look::OutOfScope);
        let same = memory.look(&digest(1), token(next), Few, now);
        assert_eq!(same, Look::Waits, "its review is made anyway");
        let good = memory.look(&digest(0), token(0), Few, now);
        assert_eq!(good, Look::WaitsFirst, "it was good before");
        let other = memory.look(&digest(next), token(next), All, now);
        assert_eq!(other, Look::WaitsFirst, "it comes from another address");
        let _ = memory.end(&digest(1), Some(user()), now);
        let look = memory.look(&digest(next + 1), token(next + 1), Few, now);
        assert_eq!(look, Look::WaitsFirst, "there is room again");
    }

    #[test]
    fn one_of_the_addresses_with_too_many_wrong_tokens_leaves_room_for_the_others() {
        let (mut memory, now) = known_good();
        let mut number = 0;
        let mut taken = |peer| {
            let begin = number;
            loop {
                number += 1;
                let look = memory.look(&digest(number), from(peer, number), Few, now);
                if look == Look::OutOfScope {
                    return number - begin - 1;
                }
            }
        };
        assert_eq!([1, 2, 3, 4, 5].map(&mut taken), [4, 2, 1, 1, 0]);
    }

    #[test]
    fn the_cache_is_bounded_and_good_tokens_stay_longest() {
        let (mut memory, now) = known_good();
        for number in 1..TOKENS_MAX + 100 {
            let look = memory.look(&digest(number), token(number), All, now);
            assert_eq!(look, Look::WaitsFirst);
            let _ = memory.end(&digest(number), Some(TokenStatus::Unknown), now);
        }
        assert_eq!(memory.known.len(), TOKENS_MAX);
        let good = memory.look(&digest(0), token(0), Few, now);
        assert_eq!(good, Look::WaitsFirst);
        // Good ones replace the wrong ones, and then the oldest of themselves.
        for number in 1..TOKENS_MAX + 100 {
            let _ = memory.look(&digest(number), token(number), All, now + INVALID_FOR);
            let _ = memory.end(&digest(number), Some(user()), now + INVALID_FOR);
        }
        assert_eq!(memory.known.len(), TOKENS_MAX);
        let oldest = memory.look(&digest(0), token(0), Few, now + VALID_FOR);
        assert_ne!(oldest, Look::WaitsFirst);
    }
}
