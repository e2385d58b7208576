//! [`SharedBytes`]: bytes that many responses share, such as a list of instances.
//!
//! They count once in the budget, for as long as anybody has them, also once a newer list has
//! replaced them. A caller to whom they are being sent is charged for them once, however many of its
//! requests get them: a slow reader of many old lists uses its own share, and never all of them.

use super::{Account, Full, Hold, Ledger, Purpose};
use crate::threads::lock;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};

/// Bytes that many responses share.
#[derive(Debug)]
pub struct SharedBytes {
    bytes: Box<[u8]>,
    ledger: Arc<Ledger>,
    _hold: Hold,
    /// How many loans each account has.
    loans: Mutex<HashMap<Account, usize>>,
}

/// The bytes in the hands of one response.
#[derive(Debug)]
pub struct Loan {
    shared: Arc<SharedBytes>,
    account: Account,
    is_last: bool,
}

/// Shared bytes that are being written. What does not fit is refused before it is allocated.
#[derive(Debug)]
pub struct Draft {
    bytes: Vec<u8>,
    ledger: Arc<Ledger>,
    hold: Hold,
}

impl Draft {
    /// Room for so many bytes.
    ///
    /// # Errors
    /// [`Full::Budget`] if they do not fit, or are more than [`Ledger::shared_max`].
    pub fn new(ledger: &Arc<Ledger>, len: usize) -> Result<Self, Full> {
        let mut draft = Self {
            bytes: Vec::new(),
            ledger: Arc::clone(ledger),
            hold: ledger.open(Account::Service, Purpose::Shared),
        };
        draft.reserve(len)?;
        Ok(draft)
    }

    /// Appends this. There need not be room for it.
    ///
    /// # Errors
    /// As of [`Draft::new`].
    pub fn append(&mut self, piece: &[u8]) -> Result<(), Full> {
        let len = self.bytes.len() + piece.len();
        if len > self.hold.bytes() {
            // Half as much more, if there is room, so that many pieces are moved few times.
            let more = (len + len / 2).min(self.ledger.shared_max()).max(len);
            self.reserve(more).or_else(|_| self.reserve(len))?;
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn reserve(&mut self, len: usize) -> Result<(), Full> {
        if len > self.ledger.shared_max() {
            return Err(Full::Budget);
        }
        self.hold.resize(len)?;
        self.bytes.reserve_exact(len - self.bytes.len());
        Ok(())
    }

    /// How many bytes were appended.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // Nobody asks.
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What was appended.
    ///
    /// # Panics
    /// Never: it holds no less.
    #[must_use]
    pub fn finish(mut self) -> Arc<SharedBytes> {
        let bytes = self.bytes.into_boxed_slice();
        let less = self.hold.resize(bytes.len());
        less.expect("no more than what is held already");
        Arc::new(SharedBytes {
            bytes,
            ledger: self.ledger,
            _hold: self.hold,
            loans: Mutex::default(),
        })
    }
}

impl SharedBytes {
    /// The bytes for a response to this account.
    ///
    /// # Errors
    /// [`Full::Share`] if it holds its share already, of all bytes or of shared ones.
    pub fn lend(self: &Arc<Self>, account: &Account) -> Result<Loan, Full> {
        let mut loans = lock(&self.loans);
        if !loans.contains_key(account) {
            self.ledger.lend(account, self.bytes.len())?;
        }
        *loans.entry(account.clone()).or_default() += 1;
        Ok(Loan {
            shared: Arc::clone(self),
            account: account.clone(),
            is_last: self.ledger.is_last(self.bytes.len()),
        })
    }

    fn give_back(&self, account: &Account) {
        let mut loans = lock(&self.loans);
        if let Some(count) = loans.get_mut(account) {
            *count -= 1;
            if *count == 0 {
                loans.remove(account);
                self.ledger.give_back(account, self.bytes.len());
            }
        }
    }
}

impl Loan {
    /// Whether there was no room for further bytes of that length when these were lent. Then the next
    /// list waits for these or others to be sent, so they must be sent soon.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        self.is_last
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.shared.bytes
    }
}

impl Clone for Loan {
    fn clone(&self) -> Self {
        *lock(&self.shared.loans)
            .entry(self.account.clone())
            .or_default() += 1;
        Self {
            shared: Arc::clone(&self.shared),
            account: self.account.clone(),
            is_last: self.is_last,
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.shared.give_back(&self.account);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Division;

    fn bytes(ledger: &Arc<Ledger>, len: usize) -> Result<Arc<SharedBytes>, Full> {
        let mut draft = Draft::new(ledger, len)?;
        draft.append(&vec![b'x'; len])?;
        Ok(draft.finish())
    }

    fn account(name: &str) -> Account {
        Account::Token(name.into())
    }

    #[test]
    fn shared_bytes_count_once_and_until_the_last_loan_ends() {
        let ledger = Ledger::of_bytes(1600, Division::default());
        let list = bytes(&ledger, 400).unwrap();
        let loans: Vec<Loan> = (0..100)
            .map(|_| list.lend(&account("a")).unwrap())
            .collect();
        let other = list.lend(&account("b")).unwrap();
        assert_eq!(ledger.budget().used(), 400);
        assert_eq!(ledger.charged(&account("a")), 400);
        drop(list);
        assert_eq!(loans[0].len(), 400);
        drop(loans);
        assert_eq!(ledger.charged(&account("a")), 0);
        assert_eq!(ledger.budget().used(), 400);
        drop(other);
        assert_eq!(ledger.budget().used(), 0);
    }

    #[test]
    fn all_shared_bytes_take_at_most_half_and_one_a_quarter() {
        let ledger = Ledger::of_bytes(1600, Division::default());
        assert_eq!(bytes(&ledger, 401).unwrap_err(), Full::Budget);
        let _first = bytes(&ledger, 400).unwrap();
        let _second = bytes(&ledger, 300).unwrap();
        assert_eq!(bytes(&ledger, 101).unwrap_err(), Full::Budget);
        assert!(bytes(&ledger, 100).is_ok());
    }

    #[test]
    fn several_readers_of_old_lists_leave_room_for_a_current_one() {
        let ledger = Ledger::of_bytes(1600, Division::default());
        let mut lent = |name: &str| {
            let mut loans: Vec<Loan> = Vec::new();
            loop {
                let list = bytes(&ledger, 100).expect("they have left room");
                match list.lend(&account(name)) {
                    Ok(loan) => loans.push(loan),
                    Err(full) => return (full, loans),
                }
            }
        };
        let readers = ["a", "b", "c"].map(&mut lent);
        let count = readers.each_ref().map(|(full, loans)| (*full, loans.len()));
        assert_eq!(count, [4, 2, 1].map(|count| (Full::Share, count)));
        let current = bytes(&ledger, 100).unwrap();
        assert!(current.lend(&account("d")).is_ok());
    }

    #[test]
    fn shared_bytes_leave_room_for_callers_beside_one_that_holds_half() {
        let ledger = Ledger::of_bytes(1600, Division::default());
        let large = ledger.hold(account("large"), Purpose::Transfer, 750);
        assert!(large.is_ok());
        let mut lists = Vec::new();
        while let Ok(list) = bytes(&ledger, 20) {
            lists.push(list);
        }
        assert_eq!(lists.len(), 28);
        for purpose in [Purpose::Transfer, Purpose::Start, Purpose::Write] {
            let mut other = ledger.hold(account("other"), purpose, 1).unwrap();
            assert_eq!(other.resize(90), Ok(()), "{purpose:?}");
        }
    }

    #[test]
    fn callers_leave_a_third_for_shared_bytes_whatever_they_hold() {
        for purpose in [Purpose::Transfer, Purpose::Start, Purpose::Write] {
            let ledger = Ledger::of_bytes(1600, Division::default());
            let mut held = Vec::new();
            for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
                for purpose in [purpose, Purpose::Transfer] {
                    while let Ok(hold) = ledger.hold(account(name), purpose, 1) {
                        held.push(hold);
                    }
                }
            }
            assert!(held.len() > 940, "they hold {} bytes", held.len());
            let largest = bytes(&ledger, 400).unwrap();
            let other = bytes(&ledger, 133).unwrap();
            assert_eq!(bytes(&ledger, 1).unwrap_err(), Full::Budget);
            // So they do for a caller that holds something else, too.
            assert!(largest.lend(&account("a")).is_ok());
            assert!(other.lend(&account("new")).is_ok());
        }
    }

    #[test]
    fn a_draft_grows_as_far_as_there_is_room_and_holds_what_it_has() {
        let ledger = Ledger::of_bytes(1600, Division::default());
        let _other = bytes(&ledger, 400).unwrap();
        let _another = bytes(&ledger, 100).unwrap();
        let mut draft = Draft::new(&ledger, 200).unwrap();
        assert_eq!(ledger.budget().used(), 700);
        draft.append(&[b'x'; 300]).unwrap();
        assert_eq!(draft.append(b"x"), Err(Full::Budget));
        assert_eq!(ledger.budget().used(), 800);
        drop(draft);
        let mut draft = Draft::new(&ledger, 200).unwrap();
        draft.append(b"ab").unwrap();
        let finished = draft.finish();
        assert_eq!((&finished[..], ledger.budget().used()), (&b"ab"[..], 502));
    }

    #[test]
    fn a_reader_of_many_old_lists_leaves_room_for_a_current_one() {
        for len in [400, 300, 100, 7] {
            let ledger = Ledger::of_bytes(1600, Division::default());
            let slow = account("slow");
            let mut loans: Vec<Loan> = Vec::new();
            let refused = loop {
                let list = bytes(&ledger, len).expect("it has left room");
                match list.lend(&slow) {
                    Ok(loan) => loans.push(loan),
                    Err(full) => break full,
                }
            };
            assert_eq!((refused, loans.len()), (Full::Share, 400 / len));
            assert!(ledger.is_calm(), "it is refused nevertheless");
            let again = loans[0].shared.lend(&slow);
            assert!(again.is_ok(), "what it has costs nothing");
            let current = bytes(&ledger, 400).unwrap();
            assert!(current.lend(&account("c")).is_ok(), "others are served");
            assert_eq!(current.lend(&slow).unwrap_err(), Full::Share);
            loans.clear();
            drop(again);
            assert!(current.lend(&slow).is_ok());
            assert_eq!(ledger.charged(&slow), 0);
        }
    }
}
