//! How many objects a page of a list may have: fewer where they are large.

use crate::kube::error::{Error, Failure};
use crate::kube::types::OBJECT_BYTES_MAX;

/// Objects on one page of a list, at most. A page is read as a whole, and the allocator does not
/// return all of its memory (about 8 KiB an object). With 500, the default of client-go, the process
/// kept up to 8 MiB.
pub const PAGE_OBJECTS: u32 = 100;

/// The bound of the next page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit(u32);

impl Default for PageLimit {
    fn default() -> Self {
        Self(PAGE_OBJECTS)
    }
}

impl PageLimit {
    /// In objects, at least 1.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// A page of so many bytes was read: one of twice as many objects will fit, if it was small.
    pub fn succeeded(&mut self, bytes: usize) {
        if bytes < OBJECT_BYTES_MAX / 4 {
            self.0 = (2 * self.0).min(PAGE_OBJECTS);
        }
    }

    /// A page could not be read. Returns whether it was too large, and a smaller one is worth a try
    /// at once: an object alone always fits.
    pub fn failed(&mut self, error: &Error) -> bool {
        let is_too_large = matches!(error.failure, Failure::TooLarge(_));
        let is_smaller = self.0 > 1;
        if is_too_large || matches!(error.failure, Failure::TimedOut(_)) {
            self.0 = (self.0 / 2).max(1);
        }
        is_too_large && is_smaller
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::error::Verb;

    fn error(failure: Failure) -> Error {
        Error {
            verb: Verb::List,
            resource: "pods",
            name: None,
            failure,
        }
    }

    #[test]
    fn pages_shrink_to_one_object_and_grow_again_while_they_are_small() {
        let mut limit = PageLimit::default();
        let too_large = error(Failure::TooLarge("x".into()));
        for expected in [50, 25, 12, 6, 3, 1] {
            assert!(limit.failed(&too_large));
            assert_eq!(limit.get(), expected);
        }
        assert!(!limit.failed(&too_large), "nothing is smaller");
        assert_eq!(limit.get(), 1);
        limit.succeeded(OBJECT_BYTES_MAX / 4);
        assert_eq!(limit.get(), 1);
        for expected in [2, 4, 8, 16, 32, 64, 100, 100] {
            limit.succeeded(OBJECT_BYTES_MAX / 4 - 1);
            assert_eq!(limit.get(), expected);
        }
    }

    #[test]
    fn a_slow_page_shrinks_but_is_not_tried_at_once() {
        let mut limit = PageLimit::default();
        assert!(!limit.failed(&error(Failure::TimedOut("x".into()))));
        assert_eq!(limit.get(), 50);
        assert!(!limit.failed(&error(Failure::Lost("x".into()))));
        assert_eq!(limit.get(), 50);
    }
}
