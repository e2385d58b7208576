//! [`Records`]: how much of a TLS record has come. Pure.
//!
//! What is kept for a record that is not whole is the peer's choice, so it is counted.

/// Bytes before the content of a record; the last two are its length (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;

/// Where the peer is in its sequence of records.
#[derive(Debug, Default)]
pub(super) struct Records {
    header: [u8; HEADER_BYTES],
    header_count: usize,
    /// Of the content, still to come.
    left: usize,
    /// Of header and content, come.
    pending: usize,
}

impl Records {
    /// Takes note of bytes as they come.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.header_count < HEADER_BYTES {
                self.header[self.header_count] = *first;
                self.header_count += 1;
                self.pending += 1;
                bytes = rest;
                if self.header_count == HEADER_BYTES {
                    self.left = u16::from_be_bytes([self.header[3], self.header[4]]).into();
                }
            } else {
                let count = self.left.min(bytes.len());
                self.left -= count;
                self.pending += count;
                bytes = &bytes[count..];
            }
            if self.header_count == HEADER_BYTES && self.left == 0 {
                *self = Self::default();
            }
        }
    }

    /// How many bytes have come of the record that is not whole.
    pub(super) const fn pending(&self) -> usize {
        self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_whole_is_pending() {
        let mut records = Records::default();
        records.pass(&[22, 3, 3, 0]);
        assert_eq!(records.pending(), 4);
        records.pass(&[3, 1, 2]);
        assert_eq!(records.pending(), 7);
        records.pass(&[3, 23, 3, 3, 0, 0, 23, 3]);
        assert_eq!(
            records.pending(),
            2,
            "one ended, an empty one came, one began"
        );
        records.pass(&[3, 1, 0]);
        records.pass(&[7; 256]);
        assert_eq!(records.pending(), 0);
    }
}
