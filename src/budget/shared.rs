//! [`SharedBytes`]: bytes that many responses share, such as a list of instances.
//!
//! They count once in the budget, for as long as anybody has them, also once a newer list has
//! replaced them. A caller to whom they are being sent is charged for them once, however many of its
//! requests get them: a slow reader of many old lists uses its own share.

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
}

impl SharedBytes {
    /// So many bytes, made by `fill`, which gets zeros.
    ///
    /// # Errors
    /// [`Full::Budget`] if they do not fit; then nothing is allocated.
    pub fn new(
        ledger: &Arc<Ledger>,
        len: usize,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<Arc<Self>, Full> {
        let hold = ledger.hold(Account::Service, Purpose::Shared, len)?;
        let mut bytes = vec![0; len].into_boxed_slice();
        fill(&mut bytes);
        Ok(Arc::new(Self {
            bytes,
            ledger: Arc::clone(ledger),
            _hold: hold,
            loans: Mutex::default(),
        }))
    }

    /// The bytes for a response to this account.
    ///
    /// # Errors
    /// [`Full::Share`] if it holds its share already.
    pub fn lend(self: &Arc<Self>, account: &Account) -> Result<Loan, Full> {
        let mut loans = lock(&self.loans);
        if !loans.contains_key(account) {
            self.ledger.lend(account, self.bytes.len())?;
        }
        *loans.entry(account.clone()).or_default() += 1;
        Ok(Loan {
            shared: Arc::clone(self),
            account: account.clone(),
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
        SharedBytes::new(ledger, len, |bytes| bytes.fill(b'x'))
    }

    fn account(name: &str) -> Account {
        Account::Token(name.into())
    }

    #[test]
    fn shared_bytes_count_once_and_until_the_last_loan_ends() {
        let ledger = Ledger::of_bytes(1600, Division::default());
        let list = bytes(&ledger, 500).unwrap();
        let loans: Vec<Loan> = (0..100)
            .map(|_| list.lend(&account("a")).unwrap())
            .collect();
        let other = list.lend(&account("b")).unwrap();
        assert_eq!(ledger.budget().used(), 500);
        assert_eq!(ledger.charged(&account("a")), 500);
        drop(list);
        assert_eq!(loans[0].len(), 500);
        drop(loans);
        assert_eq!(ledger.charged(&account("a")), 0);
        assert_eq!(ledger.budget().used(), 500);
        drop(other);
        assert_eq!(ledger.budget().used(), 0);
    }

    #[test]
    fn all_shared_bytes_take_at_most_half() {
        let ledger = Ledger::of_bytes(1600, Division::default());
        let _first = bytes(&ledger, 500).unwrap();
        assert_eq!(bytes(&ledger, 301).unwrap_err(), Full::Budget);
        assert!(bytes(&ledger, 300).is_ok());
    }

    #[test]
    fn a_reader_of_many_old_lists_uses_its_own_share() {
        let ledger = Ledger::of_bytes(1600, Division::default());
        let old = [bytes(&ledger, 300).unwrap(), bytes(&ledger, 300).unwrap()];
        let mut loans: Vec<Loan> = old
            .iter()
            .map(|list| list.lend(&account("slow")).unwrap())
            .collect();
        let _other = ledger.hold(account("b"), Purpose::Transfer, 201).unwrap();
        let new = bytes(&ledger, 201).unwrap_err();
        assert_eq!(new, Full::Budget, "shared bytes take at most half");
        let new = bytes(&ledger, 200).unwrap();
        loans.push(old[0].lend(&account("slow")).unwrap());
        loans.push(new.lend(&account("slow")).unwrap());
        let held = ledger.hold(account("slow"), Purpose::Transfer, 1);
        assert_eq!(held.unwrap_err(), Full::Share);
        assert!(new.lend(&account("c")).is_ok(), "others are served");
    }
}
