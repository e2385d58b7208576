//! Splits the bytes of a watch, which arrive in arbitrary pieces, into lines.

/// Longest line that is accepted, in bytes: an object has at most 1.5 MiB in etcd.
pub const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Memory of the buffer that is kept between lines, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A line is longer than [`LINE_BYTES_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Collects bytes and returns lines, without their ends; empty lines are left out.
#[derive(Debug, Default)]
pub struct Lines {
    bytes: Vec<u8>,
    /// The end of what was returned already.
    start: usize,
    /// The end of what was searched for a line end.
    searched: usize,
}

impl Lines {
    /// Appends the next bytes.
    ///
    /// # Errors
    /// When the unfinished line has become too long; the watch must be closed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        self.bytes.drain(..self.start);
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > LINE_BYTES_MAX {
            Err(TooLong)
        } else {
            Ok(())
        }
    }

    /// The next whole line, if there is one.
    pub fn next_line(&mut self) -> Option<&[u8]> {
        loop {
            let rest = &self.bytes[self.searched..];
            let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
                self.searched = self.bytes.len();
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
    use super::{LINE_BYTES_MAX, Lines, TooLong};

    #[track_caller]
    fn lines_of(pieces: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut found = Vec::new();
        for piece in pieces {
            lines.push(piece).unwrap();
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
        lines.push(&piece).unwrap();
        assert!(lines.next_line().is_none());
        assert!(lines.has_rest());
        assert_eq!(lines.push(b"x"), Err(TooLong));

        let mut lines = Lines::default();
        for _ in 0..3 {
            lines.push(&piece[1..]).unwrap();
            lines.push(b"\n").unwrap();
            assert_eq!(lines.next_line().map(<[u8]>::len), Some(LINE_BYTES_MAX - 1));
        }
        assert!(!lines.has_rest());
    }
}
