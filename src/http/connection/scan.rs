//! [`Scan`]: finding the end of a section of header or trailer fields. Pure.
//!
//! The content of the lines is parsed elsewhere: heads in [`super::head`], trailers in
//! [`super::body`].

use crate::http::message::field::is_token_byte;
use crate::http::message::{Limits, Refusal};

/// How far a section has been searched for its end, so that each byte of a head that arrives in
/// pieces is scanned only once.
#[derive(Debug, Default)]
pub(super) struct Scan {
    scanned: usize,
    line_start: usize,
}

impl Scan {
    pub(super) fn has_begun(&self) -> bool {
        self.scanned > 0
    }

    /// Looks for the empty line in `bytes`, which begin with the section; returns where the section
    /// ends, with that line, once all of it has arrived.
    ///
    /// Lines end with CRLF. A bare LF is refused, since lenient recipients take it for a line end
    /// (RFC 9112 §2.2), which enables request smuggling. A first byte that can begin neither a
    /// method nor a field name is refused, too.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, Refusal> {
        if let Some(&first) = bytes.first()
            && first != b'\r'
            && !is_token_byte(first)
        {
            return Err(Refusal::BadRequest("not an HTTP request"));
        }
        let window = &bytes[..bytes.len().min(limits.head_bytes)];
        while let Some(found) = memchr::memchr(b'\n', &window[self.scanned..]) {
            let line_feed = self.scanned + found;
            if line_feed == self.line_start || window[line_feed - 1] != b'\r' {
                return Err(Refusal::BadRequest("a line ends without CRLF"));
            }
            self.scanned = line_feed + 1;
            if line_feed == self.line_start + 1 {
                return Ok(Some(line_feed + 1));
            }
            self.line_start = line_feed + 1;
        }
        self.scanned = window.len();
        if window.len() < limits.head_bytes {
            return Ok(None);
        }
        Err(if self.line_start == 0 {
            Refusal::TargetTooLong
        } else {
            Refusal::HeadTooLarge
        })
    }
}
