//! [`Body`]: the bytes of a response body, and who else has them.
//!
//! Pure. A body is never copied to be shared. How bodies are queued and sent is decided in
//! [`crate::http::connection`]; bodies of requests are plain bytes.

use crate::budget::Loan;
use std::ops::Deref;

/// The body of a response; reads as its bytes.
#[derive(Clone, Debug)]
pub enum Body {
    /// Bytes that are part of the program.
    Static(&'static [u8]),
    /// Bytes of this response alone.
    Owned(Vec<u8>),
    /// Bytes that several responses share.
    Shared(Loan),
}

impl Body {
    /// Whether it must be sent soon ([`Loan::is_last`]).
    #[must_use]
    pub const fn is_urgent(&self) -> bool {
        matches!(self, Self::Shared(loan) if loan.is_last())
    }

    /// Appends a newline to bytes of this response alone that do not end with one.
    pub fn end_line(&mut self) {
        if let Self::Owned(bytes) = self
            && bytes.last().is_some_and(|last| *last != b'\n')
        {
            bytes.push(b'\n');
        }
    }

    /// How many bytes of memory this response alone keeps allocated.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Static(_) | Self::Shared(_) => 0,
            Self::Owned(bytes) => bytes.capacity(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Static(b"")
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Static(bytes) => bytes,
            Self::Owned(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// Bodies are equal if their bytes are, whoever else has them.
impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Body {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::{Account, Division, Draft, Ledger};

    fn shared() -> Body {
        let ledger = Ledger::of_bytes(100, Division::default());
        let mut draft = Draft::new(&ledger, 2).unwrap();
        draft.append(b"ab").unwrap();
        Body::Shared(draft.finish().lend(&Account::Service).unwrap())
    }

    #[test]
    fn bodies_compare_by_their_bytes() {
        let shared = shared();
        assert_eq!(shared, Body::Static(b"ab"));
        assert_eq!(shared, Body::Owned(b"ab".to_vec()));
        assert_ne!(shared, Body::default());
    }

    #[test]
    fn only_bytes_of_one_response_are_counted() {
        let mut owned = Vec::with_capacity(100);
        owned.extend_from_slice(b"ab");
        assert!(Body::Owned(owned).held_bytes() >= 100);
        assert_eq!(shared().held_bytes(), 0);
        assert_eq!(Body::Static(b"ab").held_bytes(), 0);
    }
}
