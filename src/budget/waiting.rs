//! [`WaitingBounds`]: what all requests that wait may hold, in places and in bytes.
//!
//! Both are held by a request until it is answered, and by a start until its call to Kubernetes has
//! ended: its caller may have hung up by then. Which requests wait is decided in the HTTP front.

use super::{Account, Full, Hold, Ledger, Purpose};
use std::sync::Arc;

/// The bounds on requests that wait.
#[derive(Clone, Debug)]
pub struct WaitingBounds {
    /// The bytes of all requests and responses.
    pub bytes: Arc<Ledger>,
    /// The places.
    pub places: Arc<Ledger>,
}

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
