//! Responses that come in parts, of which nobody knows yet how many there are.
//!
//! In HTTP/1.1 each part is a chunk (RFC 9112 §7.1), and the connection may serve another request after
//! the last one. An HTTP/1.0 client sees the end when the connection ends. Nothing here waits for room:
//! whoever adds a part first waits until the one before has been sent.

use super::{Connection, Responding, Stage};
use crate::http::message::{Response, Version};
use crate::http::wire::{BadHeader, Framing, Heads, Persistence};
use std::time::Instant;

impl Responding {
    /// With `last` the connection ends with the response.
    const fn ending(self, last: bool) -> Self {
        match last {
            true => Self {
                persistence: Persistence::Close,
                ..self
            },
            false => self,
        }
    }
}

impl Connection {
    /// Begins the response to the request in flight; its body is the first part. With `last` the
    /// connection ends with it.
    ///
    /// # Errors
    /// When a header cannot be sent; another response must be given.
    pub fn begin_stream(
        &mut self,
        response: Response,
        last: bool,
        heads: &mut Heads,
        now: Instant,
    ) -> Result<(), BadHeader> {
        let Some(responding) = self.responding(last) else {
            return Ok(());
        };
        let (framing, persistence) = match responding.version {
            Version::Http10 => (Framing::UntilClose, Persistence::Close),
            Version::Http11 => (Framing::Chunked, responding.persistence),
        };
        let out = self.output.head_buffer(response.body.len());
        heads.begin_stream(out, &response, framing, persistence)?;
        self.stage = Stage::Streaming(Responding {
            persistence,
            ..responding
        });
        self.add_part(&response.body, now);
        Ok(())
    }

    /// Adds a part; one without bytes is none.
    pub fn add_part(&mut self, bytes: &[u8], now: Instant) {
        let Stage::Streaming(responding) = &self.stage else {
            return;
        };
        if bytes.is_empty() || responding.without_body {
            return;
        }
        let is_chunk = responding.version >= Version::Http11;
        // Without room for more than that.
        self.output.head_buffer(bytes.len());
        if is_chunk {
            self.output
                .push(format!("{:x}\r\n", bytes.len()).as_bytes());
        }
        self.output.push(bytes);
        if is_chunk {
            self.output.push(b"\r\n");
        }
        self.output.start_clock(now, &self.limits);
    }

    /// No further part comes; with `last` the connection ends with it.
    pub fn end_stream(&mut self, last: bool, now: Instant) {
        let Stage::Streaming(responding) = self.stage else {
            return;
        };
        if responding.version >= Version::Http11 && !responding.without_body {
            self.output.push(b"0\r\n\r\n");
            self.output.start_clock(now, &self.limits);
        }
        self.after_response(responding.ending(last).persistence, now);
    }

    /// The request in flight, if there is one; with `last` the connection ends with its response.
    pub(super) fn responding(&self, last: bool) -> Option<Responding> {
        match self.stage {
            Stage::Responding(responding) => Some(responding.ending(last)),
            _ => None,
        }
    }

    /// Whether a response has begun whose last part has not come.
    #[must_use]
    pub const fn is_streaming(&self) -> bool {
        matches!(self.stage, Stage::Streaming(_))
    }
}
