//! [`WaitingBounds`]: what all requests that wait may hold, in places and in bytes.
//!
//! Both are held by a request until it is answered, and by a start until its call to Kubernetes has
//! ended: its caller may have hung up by then. Which requests wait is decided in the HTTP front.

use super::{Account, Division, Full, Hold, Ledger, Purpose};
use std::sync::Arc;

/// The bounds on requests that wait.
#[derive(Clone, Debug)]
pub struct WaitingBounds {
    /// The bytes of all requests and responses.
    pub bytes: Arc<Ledger>,
    /// The places.
    pub places: Arc<Ledger>,
    /// The places of pages of the list of all instances, and of states with which streams begin, that
    /// somebody waits for, [`PAGES_MAX`].
    pub pages: Arc<Ledger>,
}

/// So many different pages of the list of all instances, and states with which streams begin, may be waited
/// for at the same time: each takes milliseconds, and others wait behind them.
pub const PAGES_MAX: usize = 32;

/// What one request holds while it waits; it is released with the last clone of its `Arc`.
#[derive(Debug)]
pub struct Held {
    _bytes: Hold,
    place: Hold,
}

impl Held {
    /// Who is charged for it.
    #[must_use]
    pub const fn account(&self) -> &Account {
        self.place.account()
    }
}

/// Which bound a request would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// That on places.
    Places(Full),
    /// That on bytes.
    Bytes(Full),
}

impl WaitingBounds {
    /// Bounds of so many bytes and places, which callers divide like that.
    #[must_use]
    pub fn new(bytes: Arc<Ledger>, places_max: usize, division: Division) -> Self {
        Self {
            bytes,
            places: Ledger::of_places(places_max, division),
            pages: Ledger::of_places(PAGES_MAX, division),
        }
    }

    /// Charges a place and so many bytes to this account.
    ///
    /// # Errors
    /// [`Exceeded`]: nothing is charged.
    pub fn hold(
        &self,
        account: &Account,
        purpose: Purpose,
        bytes: usize,
    ) -> Result<Arc<Held>, Exceeded> {
        let place = self.places.hold(account.clone(), purpose, 1);
        let place = place.map_err(Exceeded::Places)?;
        let bytes = self.bytes.hold(account.clone(), purpose, bytes);
        let bytes = bytes.map_err(Exceeded::Bytes)?;
        Ok(Arc::new(Held {
            _bytes: bytes,
            place,
        }))
    }
}
