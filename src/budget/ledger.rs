//! [`Ledger`]: which caller holds how much of a [`Budget`].
//!
//! One ledger counts bytes, one counts the places of requests that wait. How much a caller may hold
//! is in [`super::division`]. Pure but for its lock. What is charged is decided in the HTTP front.

use super::division::{Bounds, Division, Full, Purpose, Sums};
use super::{Budget, Charge};
use crate::threads::lock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// The peer that a connection counts for: an IPv4 address, or the /64 of an IPv6 address. Providers
/// assign a whole /64 to each customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerKey(IpAddr);

impl PeerKey {
    /// The peer of this address; an IPv4 address in IPv6 counts as IPv4.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(v6) => {
                let network = v6.to_bits() & !u128::from(u64::MAX);
                Self(IpAddr::V6(network.into()))
            }
            v4 @ IpAddr::V4(_) => Self(v4),
        }
    }
}

/// Who is charged for bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// A caller that has no name, or is not authenticated yet.
    Peer(PeerKey),
    /// The caller whose token has this name.
    Token(Arc<str>),
    /// The service itself, which no share limits.
    Service,
}

/// Who holds how many bytes of a budget.
#[derive(Debug)]
pub struct Ledger {
    budget: Arc<Budget>,
    bounds: Bounds,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    all: Sums,
    /// As [`Purpose::Shared`], what a caller is lent of the bytes that the service holds.
    by_account: HashMap<Account, Sums>,
}

impl Books {
    fn of(&self, account: &Account) -> Sums {
        self.by_account.get(account).copied().unwrap_or_default()
    }

    /// Takes so many bytes from those of an account.
    fn subtract(&mut self, account: &Account, purpose: Purpose, bytes: usize) {
        if let Some(own) = self.by_account.get_mut(account) {
            *own = own.minus(purpose, bytes);
            if own.total() == 0 {
                self.by_account.remove(account);
            }
        }
    }
}

impl Ledger {
    /// A ledger of so many bytes, none of them held, within [`Bounds::of_bytes`].
    #[must_use]
    pub fn of_bytes(max: usize, division: Division) -> Arc<Self> {
        Self::new(max, Bounds::of_bytes(max, division))
    }

    /// A ledger of so many places of requests that wait, none of them held.
    #[must_use]
    pub fn of_places(max: usize, division: Division) -> Arc<Self> {
        Self::new(max, Bounds::of_places(max, division))
    }

    fn new(max: usize, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(max),
            bounds,
            books: Mutex::default(),
        })
    }

    /// The budget that is divided.
    #[must_use]
    pub const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Whether at most half is used, so that nobody is limited.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.budget.used() <= self.bounds.all / 2
    }

    /// Whether at most a quarter is used.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.budget.used() <= self.bounds.all / 4
    }

    /// What this account holds, zero bytes at first.
    #[must_use]
    pub fn open(self: &Arc<Self>, account: Account, purpose: Purpose) -> Hold {
        Hold {
            charge: self.budget.open(),
            ledger: Arc::clone(self),
            account,
            purpose,
        }
    }

    /// What this account holds: so many bytes.
    ///
    /// # Errors
    /// [`Full`].
    pub fn hold(
        self: &Arc<Self>,
        account: Account,
        purpose: Purpose,
        bytes: usize,
    ) -> Result<Hold, Full> {
        let mut hold = self.open(account, purpose);
        hold.resize(bytes)?;
        Ok(hold)
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        lock(&self.books)
    }

    /// The most bytes of one [`super::SharedBytes`]: half of what all of them may be. So there is
    /// room for the largest beside what one caller keeps.
    #[must_use]
    pub const fn shared_max(&self) -> usize {
        self.bounds.shared / 2
    }

    /// Whether no further bytes of this length could be shared now.
    pub(super) fn is_last(&self, bytes: usize) -> bool {
        let purpose = Purpose::Shared;
        let all = self.books().all.plus(purpose, bytes);
        self.bounds.check(purpose, &all).is_err()
    }

    /// Charges an account for bytes that are in the budget already ([`super::SharedBytes`]).
    ///
    /// # Errors
    /// [`Full::Share`].
    pub(super) fn lend(&self, account: &Account, bytes: usize) -> Result<(), Full> {
        let purpose = Purpose::Shared;
        let mut books = self.books();
        let own = books.of(account).plus(purpose, bytes);
        self.check_share(purpose, &books.all, account, &own, bytes)?;
        books.by_account.insert(account.clone(), own);
        Ok(())
    }

    pub(super) fn give_back(&self, account: &Account, bytes: usize) {
        self.books().subtract(account, Purpose::Shared, bytes);
    }

    /// How many bytes this account is charged.
    #[must_use]
    pub fn charged(&self, account: &Account) -> usize {
        self.books().of(account).total()
    }

    fn check_share(
        &self,
        purpose: Purpose,
        all: &Sums,
        account: &Account,
        own: &Sums,
        more: usize,
    ) -> Result<(), Full> {
        if *account == Account::Service {
            return Ok(());
        }
        self.bounds.check_share(purpose, all, own, more)
    }
}

/// Bytes that an account holds; they are released when it is dropped.
#[derive(Debug)]
pub struct Hold {
    charge: Charge,
    ledger: Arc<Ledger>,
    account: Account,
    purpose: Purpose,
}

impl Hold {
    /// Who is charged for it.
    #[must_use]
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// What it is charged to.
    #[must_use]
    pub const fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// How many bytes it is.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// Makes it so many bytes. Less is always possible.
    ///
    /// # Errors
    /// [`Full`]: it stays as it is.
    pub fn resize(&mut self, bytes: usize) -> Result<(), Full> {
        self.change(bytes, false)
    }

    /// As [`Hold::resize`], for bytes that are in memory already and must stay: it may use the
    /// reserve, and no share limits it.
    ///
    /// # Errors
    /// [`Full::Budget`] when the reserve is used, too.
    pub fn force(&mut self, bytes: usize) -> Result<(), Full> {
        self.change(bytes, true)
    }

    fn change(&mut self, bytes: usize, is_forced: bool) -> Result<(), Full> {
        let (before, purpose) = (self.bytes(), self.purpose);
        if bytes == before {
            return Ok(());
        }
        let ledger = &self.ledger;
        let mut books = lock(&ledger.books);
        if bytes < before {
            books.all = books.all.minus(purpose, before - bytes);
            books.subtract(&self.account, purpose, before - bytes);
            let _ = self.charge.resize(bytes);
            return Ok(());
        }
        let more = bytes - before;
        let all = books.all.plus(purpose, more);
        let own = books.of(&self.account).plus(purpose, more);
        if !is_forced {
            ledger.bounds.check(purpose, &all)?;
            ledger.check_share(purpose, &all, &self.account, &own, more)?;
        }
        if !self.charge.resize(bytes) {
            return Err(Full::Budget);
        }
        books.all = all;
        books.by_account.insert(self.account.clone(), own);
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let less = self.change(0, false);
        debug_assert!(less.is_ok(), "less is always possible");
    }
}

#[cfg(test)]
mod tests;
