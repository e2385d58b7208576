//! [`Ledger`]: which caller holds how much of a [`Budget`], and how much it may hold.
//!
//! Until half of the budget is used, nobody is limited. Beyond that a caller may hold its share
//! only, so that others can still be served, and the last part of the budget is for stops and
//! labels: they free what starts hold. One ledger counts bytes, one counts the places of requests
//! that wait. Pure but for its lock. What is charged is decided in the HTTP front.

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

/// What bytes are held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A request that is being received, or a response that is being sent.
    Transfer,
    /// A request that waits for an instance.
    Start,
    /// A request that waits for a stop or for labels.
    Write,
    /// Bytes that responses to several callers share: half of all at most.
    Shared,
}

impl Purpose {
    const fn waits(self) -> bool {
        matches!(self, Self::Start | Self::Write)
    }
}

/// Why bytes cannot be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The budget is used.
    Budget,
    /// The caller holds its share.
    Share,
}

/// How the budget is divided, in percent of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// What one caller may hold once half of all is used; 100: there is no limit.
    pub caller: usize,
    /// What only stops and labels may use.
    pub writes: usize,
}

impl Default for Division {
    fn default() -> Self {
        Self {
            caller: 50,
            writes: 12,
        }
    }
}

impl Division {
    /// Everybody may hold everything.
    pub const UNLIMITED: Self = Self {
        caller: 100,
        writes: 0,
    };

    /// How many of `max` a caller may hold for this purpose, at least one. Less for starts, so that a
    /// caller can stop what it has started.
    #[must_use]
    pub fn share(self, max: usize, purpose: Purpose) -> usize {
        part(self.total(max, purpose), self.caller).max(1)
    }

    /// How many of `max` all callers may hold for this purpose.
    #[must_use]
    pub const fn total(self, max: usize, purpose: Purpose) -> usize {
        match purpose {
            Purpose::Start => max - part(max, self.writes),
            Purpose::Write | Purpose::Transfer => max,
            Purpose::Shared => max / 2,
        }
    }
}

const fn part(of: usize, percent: usize) -> usize {
    of / 100 * percent + of % 100 * percent / 100
}

/// Who holds how many bytes of a budget.
#[derive(Debug)]
pub struct Ledger {
    budget: Arc<Budget>,
    division: Division,
    bounds: Bounds,
    sums: Mutex<Sums>,
}

/// Parts of the budget.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Without the reserve for what cannot be refused any more ([`Hold::force`]).
    unforced: usize,
    /// For requests that wait.
    waiting: usize,
}

#[derive(Debug, Default)]
struct Sums {
    /// Held by requests that wait.
    waiting: usize,
    by_account: HashMap<Account, usize>,
    /// The part of it that responses share with those to other callers.
    lent: HashMap<Account, usize>,
}

/// Takes so many bytes from those of an account.
fn subtract(sums: &mut HashMap<Account, usize>, account: &Account, bytes: usize) {
    if let Some(held) = sums.get_mut(account) {
        *held -= bytes;
        if *held == 0 {
            sums.remove(account);
        }
    }
}

impl Sums {
    fn of(&self, account: &Account) -> usize {
        self.by_account.get(account).copied().unwrap_or(0)
    }

    fn add(&mut self, account: &Account, purpose: Purpose, bytes: usize) {
        *self.by_account.entry(account.clone()).or_default() += bytes;
        if purpose.waits() {
            self.waiting += bytes;
        }
    }

    fn subtract(&mut self, account: &Account, purpose: Purpose, bytes: usize) {
        subtract(&mut self.by_account, account, bytes);
        if purpose.waits() {
            self.waiting -= bytes;
        }
    }
}

impl Ledger {
    /// A ledger of so many bytes, none of them held. Requests that wait take at most three quarters
    /// of them, so that others can be received and answered; a sixteenth is a reserve for what
    /// cannot be refused any more.
    #[must_use]
    pub fn of_bytes(max: usize, division: Division) -> Arc<Self> {
        let bounds = Bounds {
            unforced: max - max / 16,
            waiting: max / 4 * 3,
        };
        Self::new(max, division, bounds)
    }

    /// A ledger of so many places of requests that wait, none of them held.
    #[must_use]
    pub fn of_places(max: usize, division: Division) -> Arc<Self> {
        let bounds = Bounds {
            unforced: max,
            waiting: max,
        };
        Self::new(max, division, bounds)
    }

    fn new(max: usize, division: Division, bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(max),
            division,
            bounds,
            sums: Mutex::default(),
        })
    }

    /// The budget that is divided.
    #[must_use]
    pub const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Whether at most half of the budget is used, so that nobody is limited.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.budget.used() <= self.budget.max() / 2
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

    fn sums(&self) -> MutexGuard<'_, Sums> {
        lock(&self.sums)
    }

    /// Whether so many bytes are more than a caller may hold.
    fn is_beyond_share(&self, own: usize, purpose: Purpose) -> bool {
        let (division, max) = (self.division, self.budget.max());
        division.caller < 100 && own > division.share(max, purpose)
    }

    /// The most bytes of one [`super::SharedBytes`], and of all that one account is lent: half of
    /// what all of them may be. So there is room for the largest, whatever one account keeps.
    #[must_use]
    pub fn shared_max(&self) -> usize {
        self.division.total(self.budget.max(), Purpose::Shared) / 2
    }

    /// Charges an account for bytes that are in the budget already ([`super::SharedBytes`]).
    ///
    /// # Errors
    /// [`Full::Share`] if it is lent too many, however much of the budget is used; or as for any
    /// other bytes.
    pub(super) fn lend(&self, account: &Account, bytes: usize) -> Result<(), Full> {
        let mut sums = self.sums();
        let own = sums.of(account) + bytes;
        let lent = sums.lent.get(account).copied().unwrap_or(0) + bytes;
        let is_limited = self.division.caller < 100;
        if (is_limited && lent > self.shared_max())
            || (!self.is_calm() && self.is_beyond_share(own, Purpose::Transfer))
        {
            return Err(Full::Share);
        }
        sums.add(account, Purpose::Transfer, bytes);
        sums.lent.insert(account.clone(), lent);
        Ok(())
    }

    pub(super) fn give_back(&self, account: &Account, bytes: usize) {
        let mut sums = self.sums();
        sums.subtract(account, Purpose::Transfer, bytes);
        subtract(&mut sums.lent, account, bytes);
    }

    /// How many bytes this account is charged.
    #[must_use]
    pub fn charged(&self, account: &Account) -> usize {
        self.sums().of(account)
    }

    /// Whether the account may hold so many more bytes by its share.
    fn check_share(&self, sums: &Sums, hold: &Hold, more: usize) -> Result<(), Full> {
        let is_short = self.budget.used() + more > self.budget.max() / 2;
        let own = sums.of(&hold.account) + more;
        if is_short && self.is_beyond_share(own, hold.purpose) {
            return Err(Full::Share);
        }
        Ok(())
    }

    /// Whether this account may hold so many more bytes.
    fn admit(&self, sums: &Sums, hold: &Hold, more: usize) -> Result<(), Full> {
        let (division, purpose) = (self.division, hold.purpose);
        let max = self.budget.max();
        let used = self.budget.used() + more;
        let own = sums.of(&hold.account) + more;
        if hold.account == Account::Service {
            let fits = own <= division.total(max, purpose) && used <= self.bounds.unforced;
            return fits.then_some(()).ok_or(Full::Budget);
        }
        self.check_share(sums, hold, more)?;
        let waits = purpose.waits();
        let waiting = sums.waiting + more;
        let waiting_max = division.total(self.bounds.waiting, purpose);
        if used > self.bounds.unforced || (waits && waiting > waiting_max) {
            return Err(Full::Budget);
        }
        Ok(())
    }
}

/// Which bounds count when bytes are added.
#[derive(Clone, Copy, Debug)]
enum Limit {
    /// All of them.
    All,
    /// The share of the account, and the whole budget with its reserve.
    Share,
    /// The whole budget with its reserve.
    Reserve,
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
        self.change(bytes, Limit::All)
    }

    /// As [`Hold::resize`], for bytes that are in memory already: it may use the reserve.
    ///
    /// # Errors
    /// [`Full`] when the reserve is used, too, or the caller holds its share.
    pub fn keep(&mut self, bytes: usize) -> Result<(), Full> {
        self.change(bytes, Limit::Share)
    }

    /// As [`Hold::keep`], for bytes that must stay: no share limits it.
    ///
    /// # Errors
    /// [`Full::Budget`] when the reserve is used, too.
    pub fn force(&mut self, bytes: usize) -> Result<(), Full> {
        self.change(bytes, Limit::Reserve)
    }

    fn change(&mut self, bytes: usize, limit: Limit) -> Result<(), Full> {
        let before = self.bytes();
        if bytes == before {
            return Ok(());
        }
        let mut sums = lock(&self.ledger.sums);
        if bytes < before {
            sums.subtract(&self.account, self.purpose, before - bytes);
            let _ = self.charge.resize(bytes);
            return Ok(());
        }
        let more = bytes - before;
        match limit {
            Limit::All => self.ledger.admit(&sums, self, more)?,
            Limit::Share => self.ledger.check_share(&sums, self, more)?,
            Limit::Reserve => {}
        }
        // Others may have charged the same budget meanwhile.
        if !self.charge.resize(bytes) {
            return Err(Full::Budget);
        }
        sums.add(&self.account, self.purpose, more);
        Ok(())
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.bytes() > 0 {
            let bytes = self.bytes();
            self.ledger
                .sums()
                .subtract(&self.account, self.purpose, bytes);
        }
    }
}

#[cfg(test)]
mod tests;
