//! [`Body`]: the bytes of a response body, and who else has them.
//!
//! Pure. A body is never copied to be shared. How bodies are queued and sent is decided in
//! [`crate::http::connection`]; bodies of requests are plain bytes.

use std::ops::Deref;
use std::sync::Arc;

/// The body of a response; reads as its bytes.
#[derive(Clone, Debug)]
pub enum Body {
    /// Bytes that are part of the program.
    Static(&'static [u8]),
    /// Bytes of this response alone.
    Owned(Vec<u8>),
    /// Bytes that several responses share.
    Shared(Arc<[u8]>),
}

impl Body {
    /// How many bytes of memory this response keeps allocated. Shared bytes count once for each
    /// response that has them: the last one may keep them alone.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        match self {
            Self::Static(_) => 0,
            Self::Owned(bytes) => bytes.capacity(),
            Self::Shared(bytes) => bytes.len(),
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

    #[test]
    fn bodies_compare_by_their_bytes() {
        let shared = Body::Shared(Arc::from(&b"ab"[..]));
        assert_eq!(shared, Body::Static(b"ab"));
        assert_eq!(shared, Body::Owned(b"ab".to_vec()));
        assert_ne!(shared, Body::default());
    }

    #[test]
    fn only_the_bytes_of_the_program_are_free() {
        let mut owned = Vec::with_capacity(100);
        owned.extend_from_slice(b"ab");
        assert!(Body::Owned(owned).held_bytes() >= 100);
        let bytes: Arc<[u8]> = Arc::from(&b"ab"[..]);
        assert_eq!(Body::Shared(Arc::clone(&bytes)).held_bytes(), 2);
        assert_eq!(Body::Static(b"ab").held_bytes(), 0);
    }
}
