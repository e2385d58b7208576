//! [`Budget`]: a bound on bytes in memory, or on places, that several threads share, and
//! [`Charge`], a part of it that is in use. [`Ledger`] divides one among callers. [`Memory`] is what
//! is left for connections and instances.
//!
//! A leaf: it knows neither what the bytes are nor who holds them. The used bytes can be read
//! without a lock, because that is done for each request.

mod division;
mod ledger;
mod memory;
mod shared;
mod waiting;

pub use division::{Bounds, Division, Full, Purpose, Sums, is_beyond};
pub use ledger::{Account, Hold, Ledger, PeerKey};
pub use memory::{CONNECTION_BYTES, LIMIT_DEFAULT, Memory, TLS_CONNECTION_BYTES};
pub use shared::{Draft, Loan, SharedBytes};
pub use waiting::{Exceeded, Held, PAGES_MAX, WaitingBounds};

use crate::threads::lock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

/// A bound on bytes. The sum of all its charges never exceeds it, but for a single charge that is
/// larger than the whole budget and was waited for ([`Budget::wait_for`]).
#[derive(Debug)]
pub struct Budget {
    max: usize,
    used: AtomicUsize,
    /// How many threads wait for bytes; a release needs the lock only if there are some.
    waiting: AtomicUsize,
    released: Condvar,
    lock: Mutex<()>,
}

impl Budget {
    /// A budget of so many bytes, none of them used.
    #[must_use]
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            released: Condvar::new(),
            lock: Mutex::new(()),
        })
    }

    /// The bound, in bytes.
    #[must_use]
    pub const fn max(&self) -> usize {
        self.max
    }

    /// The sum of all charges, in bytes.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::SeqCst)
    }

    /// A charge of zero bytes, which can grow.
    #[must_use]
    pub fn open(self: &Arc<Self>) -> Charge {
        Charge {
            budget: Arc::clone(self),
            bytes: 0,
        }
    }

    /// Charges so many bytes; `None` where they do not fit. Never blocks.
    #[must_use]
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let mut charge = self.open();
        charge.resize(bytes).then_some(charge)
    }

    /// Charges so many bytes, and waits for them until the deadline; `None` if they did not fit by
    /// then. A charge that is larger than the whole budget is made while there is no other.
    #[must_use]
    pub fn wait_for(self: &Arc<Self>, bytes: usize, deadline: Instant) -> Option<Charge> {
        let mut charge = self.open();
        charge.wait_for(bytes, deadline).then_some(charge)
    }

    /// Adds bytes if the sum stays within the bound; with `alone`, also if nothing else is charged.
    fn add(&self, bytes: usize, own: usize, alone: bool) -> bool {
        let fits = |used: usize| {
            let sum = used.checked_add(bytes)?;
            (sum <= self.max || (alone && used == own)).then_some(sum)
        };
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        self.used.fetch_update(set, get, fits).is_ok()
    }

    fn subtract(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) > 0 {
            let _guard = lock(&self.lock);
            self.released.notify_all();
        }
    }
}

/// Bytes in use; they are released when it is dropped.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// How many bytes it is.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it so many bytes, if they fit; else it stays as it is. Less always fits. Never blocks.
    #[must_use]
    pub fn resize(&mut self, bytes: usize) -> bool {
        let fits = match bytes.checked_sub(self.bytes) {
            None | Some(0) => {
                if bytes < self.bytes {
                    self.budget.subtract(self.bytes - bytes);
                }
                true
            }
            Some(more) => self.budget.add(more, self.bytes, false),
        };
        if fits {
            self.bytes = bytes;
        }
        fits
    }

    /// As [`Charge::resize`], and waits until they fit or the deadline has passed. Growing while
    /// others grow, too, can block all of them until their deadlines: take what is needed at once.
    #[must_use]
    pub fn wait_for(&mut self, bytes: usize, deadline: Instant) -> bool {
        if self.resize(bytes) {
            return true;
        }
        let more = bytes - self.bytes;
        let budget = &self.budget;
        budget.waiting.fetch_add(1, Ordering::SeqCst);
        let mut guard = lock(&budget.lock);
        let fits = loop {
            if budget.add(more, self.bytes, true) {
                break true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break false;
            }
            let waited = budget.released.wait_timeout(guard, left);
            guard = waited.expect("no holder of this lock panics").0;
        };
        drop(guard);
        budget.waiting.fetch_sub(1, Ordering::SeqCst);
        if fits {
            self.bytes = bytes;
        }
        fits
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.budget.subtract(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn the_sum_of_charges_never_exceeds_the_bound() {
        let budget = Budget::new(100);
        let mut first = budget.charge(60).unwrap();
        assert!(budget.charge(41).is_none());
        let second = budget.charge(40).unwrap();
        assert_eq!(budget.used(), 100);
        assert!(!first.resize(61));
        assert!(first.resize(10));
        assert_eq!(budget.used(), 50);
        drop(second);
        assert!(first.resize(100));
        drop(first);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_charge_waits_until_others_are_released() {
        let budget = Budget::new(100);
        let held = budget.charge(80).unwrap();
        assert!(budget.wait_for(30, Instant::now()).is_none());
        let waiter = {
            let budget = Arc::clone(&budget);
            std::thread::spawn(move || budget.wait_for(30, later()).map(|charge| charge.bytes()))
        };
        while budget.waiting.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        drop(held);
        assert_eq!(waiter.join().unwrap(), Some(30));
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn what_is_larger_than_the_budget_is_charged_alone() {
        let budget = Budget::new(100);
        let small = budget.charge(1).unwrap();
        assert!(budget.wait_for(200, Instant::now()).is_none());
        drop(small);
        assert!(budget.charge(200).is_none());
        let mut large = budget.wait_for(200, Instant::now()).unwrap();
        assert!(large.wait_for(300, Instant::now()));
        assert!(budget.charge(1).is_none());
        drop(large);
        assert_eq!(budget.used(), 0);
    }
}
