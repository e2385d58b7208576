//! [`Records`]: how much of a TLS record has arrived. Pure.
//!
//! The peer determines how much is buffered for an incomplete record, so it is counted. Nothing is
//! decrypted here.

/// Bytes before the content of a record; the last two are its length (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;

/// The position of the peer in its sequence of records.
#[derive(Debug, Default)]
pub(super) struct Records {
    header: [u8; HEADER_BYTES],
    /// Of the content, still to come.
    left: usize,
    /// Of header and content, arrived.
    pending: usize,
    /// Records that have ended.
    ended: usize,
}

impl Records {
    /// Notes bytes as they arrive.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            if self.pending < HEADER_BYTES {
                self.header[self.pending] = *first;
                self.pending += 1;
                bytes = rest;
                if self.pending == HEADER_BYTES {
                    self.left = u16::from_be_bytes([self.header[3], self.header[4]]).into();
                }
            } else {
                let count = self.left.min(bytes.len());
                self.left -= count;
                self.pending += count;
                bytes = &bytes[count..];
            }
            if self.pending >= HEADER_BYTES && self.left == 0 {
                self.pending = 0;
                self.ended += 1;
            }
        }
    }

    /// How many records have ended since the last call.
    pub(super) const fn take_ended(&mut self) -> usize {
        std::mem::replace(&mut self.ended, 0)
    }

    /// How many bytes of the incomplete record have arrived.
    pub(super) const fn pending(&self) -> usize {
        self.pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_incomplete_records_are_pending() {
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
        assert_eq!(records.take_ended(), 3);
        assert_eq!(records.take_ended(), 0);
    }
}
