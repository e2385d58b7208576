//! Splits the bytes of a watch, which arrive in arbitrary pieces, into lines.
//!
//! A long line takes its memory from the budget of large responses, until it was returned.

use crate::budget::Charge;
use crate::kube::buffer;
use crate::kube::error::Failure;
use crate::kube::types::OBJECT_BYTES_MAX;
use std::fmt;

/// Longest line that is accepted, in bytes.
pub const LINE_BYTES_MAX: usize = OBJECT_BYTES_MAX;

/// Memory of the buffer that is kept between lines, in bytes. A line up to this length takes nothing
/// from the budget.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Why a line cannot be read further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It is longer than [`LINE_BYTES_MAX`].
    TooLong,
    /// Others hold the memory that it needs.
    NoMemory,
}

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(
                f,
                "a line of the watch is longer than {LINE_BYTES_MAX} bytes"
            ),
            Self::NoMemory => write!(
                f,
                "no memory for a long line of the watch: other responses hold it"
            ),
        }
    }
}

/// Collects bytes and returns lines, without their ends; empty lines are left out.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// The end of what was returned already.
    start: usize,
    /// The end of what was searched for a line end.
    searched: usize,
    /// Whether the buffer is one for a long line.
    is_large: bool,
    /// The memory of a long line.
    charge: Option<Charge>,
}

impl Lines {
    /// Appends the next bytes; `memory` charges [`LINE_BYTES_MAX`] for a long line, if that is bounded.
    ///
    /// # Errors
    /// When the unfinished line is too long or gets no memory; the watch must be closed.
    pub fn push(
        &mut self,
        bytes: &[u8],
        memory: impl FnOnce() -> Result<Option<Charge>, Failure>,
    ) -> Result<(), Overflow> {
        self.drop_returned();
        let length = self.bytes.len() + bytes.len();
        if length > LINE_BYTES_MAX {
            return Err(Overflow::TooLong);
        }
        if length > KEPT_BYTES_MAX && !self.is_large {
            self.charge = memory().map_err(|_| Overflow::NoMemory)?;
            self.bytes = buffer::large(&self.bytes);
            self.is_large = true;
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Frees what was returned, and the memory of a long line once it was.
    fn drop_returned(&mut self) {
        self.bytes.drain(..self.start);
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        if self.is_large && self.bytes.len() <= KEPT_BYTES_MAX {
            self.bytes = self.bytes.as_slice().into();
            self.is_large = false;
            self.charge = None;
        }
    }

    /// The next whole line, if there is one.
    pub fn next_line(&mut self) -> Option<&[u8]> {
        loop {
            let rest = &self.bytes[self.searched..];
            let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
                self.searched = self.bytes.len();
                self.drop_returned();
                return None;
            };
            let (start, end) = (self.start, self.searched + length);
            self.start = end + 1;
            self.searched = self.start;
            let line = self.bytes[start..end].trim_ascii();
            if !line.is_empty() {
                // Sliced again: the borrow checker does not let the line out of a loop.
                return Some(self.bytes[start..end].trim_ascii());
            }
        }
    }

    /// Whether there is an unfinished line.
    #[must_use]
    pub fn has_rest(&self) -> bool {
        !self.bytes[self.start..].trim_ascii().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn free() -> Result<Option<Charge>, Failure> {
        Ok(None)
    }

    #[track_caller]
    fn lines_of(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            lines.push(piece, free).unwrap();
            while let Some(line) = lines.next_line() {
                found.push(String::from_utf8(line.to_vec()).unwrap());
            }
        }
        found
    }

    #[test]
    fn lines_are_the_same_wherever_the_bytes_are_cut() {
        let bytes = "{\"a\":1}\n\n{\"b\":\"ä\"}\r\n{}\n{\"rest".as_bytes();
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(lines_of(&pieces), ["{\"a\":1}", "{\"b\":\"ä\"}", "{}"]);
            }
        }
    }

    #[test]
    fn an_unfinished_line_is_bounded_and_whole_ones_are_not_counted() {
        let mut lines = Lines::default();
        let piece = vec![b'x'; LINE_BYTES_MAX];
        lines.push(&piece, free).unwrap();
        assert!(lines.next_line().is_none());
        assert!(lines.has_rest());
        assert_eq!(lines.push(b"x", free), Err(Overflow::TooLong));

        let mut lines = Lines::default();
        for _ in 0..3 {
            lines.push(&piece[1..], free).unwrap();
            lines.push(b"\n", free).unwrap();
            assert_eq!(lines.next_line().map(<[u8]>::len), Some(LINE_BYTES_MAX - 1));
        }
        assert!(!lines.has_rest());
    }

    #[test]
    fn a_long_line_holds_memory_of_the_budget_until_it_was_returned() {
        let budget = Budget::new(2 * LINE_BYTES_MAX);
        let charge = || Ok(budget.charge(LINE_BYTES_MAX));
        let mut lines = Lines::default();
        lines.push(&[b'x'; KEPT_BYTES_MAX], charge).unwrap();
        assert_eq!(budget.used(), 0);
        lines.push(b"x", charge).unwrap();
        assert_eq!(budget.used(), LINE_BYTES_MAX);
        lines.push(b"\n{", charge).unwrap();
        assert_eq!(lines.next_line().map(<[u8]>::len), Some(KEPT_BYTES_MAX + 1));
        assert_eq!(lines.next_line(), None);
        assert_eq!(budget.used(), 0);
        assert!(lines.bytes.capacity() <= KEPT_BYTES_MAX);
        lines.push(b"}\n", charge).unwrap();
        assert_eq!(lines.next_line(), Some(&b"{}"[..]));
        drop(lines);
        assert_eq!(budget.used(), 0);
    }
}
