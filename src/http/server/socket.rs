//! [`Socket`]: the transport of one connection.
//!
//! TCP, with TLS above it if the port is HTTPS. The connection machine sees plain bytes only, and
//! nothing outside this file uses the stream except through the functions below. What the bytes
//! mean is not known here.

use crate::http::tls::{RECORD_BYTES, Received, Session};
use mio::net::TcpStream;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Boxed, since it is large and absent on a plain port.
    tls: Option<Box<Session>>,
}

/// The result of a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) count: usize,
    /// The socket's buffer is full.
    pub(super) filled: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, tls: Option<Session>) -> Self {
        let tls = tls.map(Box::new);
        Self { stream, tls }
    }

    /// The event source for the poller.
    pub(super) const fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        if let Some(tls) = &mut self.tls {
            return tls.read(&mut self.stream, into);
        }
        let count = self.stream.read(into)?;
        // A short read has emptied the socket.
        let emptied = count < into.len();
        Ok(Received { count, emptied })
    }

    /// Whether its bytes come through TLS.
    pub(super) const fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether the peer has reset the connection, also while nothing can be read.
    pub(super) fn has_failed(&self) -> bool {
        !matches!(self.stream.take_error(), Ok(None))
    }

    /// Continues a TLS handshake while nothing else is to be read.
    pub(super) fn continue_handshake(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.continue_handshake(&mut self.stream),
            None => Ok(()),
        }
    }

    /// Whether [`Socket::write`] has something to send; `response`: whether plain bytes are waiting.
    pub(super) fn has_to_write(&self, response: bool) -> bool {
        match &self.tls {
            None => response,
            Some(tls) => tls.has_to_write(response),
        }
    }

    /// Sends as much of `pieces` as the socket takes. The rest must be passed again.
    pub(super) fn write(&mut self, pieces: [&[u8]; 2]) -> io::Result<Sent> {
        let [head, tail] = pieces;
        let count = match &mut self.tls {
            Some(tls) => {
                let count = tls.write(&mut self.stream, pieces)?;
                if tls.is_closing() {
                    self.close_sending();
                }
                let filled = false;
                return Ok(Sent { count, filled });
            }
            None if tail.is_empty() => self.stream.write(head)?,
            None => {
                let pieces = [IoSlice::new(head), IoSlice::new(tail)];
                self.stream.write_vectored(&pieces)?
            }
        };
        let filled = count < head.len() + tail.len();
        Ok(Sent { count, filled })
    }

    /// Closes the sending side. An error means that the peer has gone, which the next read reports.
    pub(super) fn close_sending(&mut self) {
        let sent = match &mut self.tls {
            Some(tls) => tls.close_sending(&mut self.stream),
            None => true,
        };
        if sent {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// Sends the close_notify of TLS, if there is room, since the connection is about to be closed.
    pub(super) fn end_tls(&mut self) {
        if let Some(tls) = &mut self.tls
            && tls.deadline().is_none()
            && !tls.is_closing()
        {
            tls.close_sending(&mut self.stream);
        }
    }

    /// The deadline of the TLS handshake, until it is complete.
    pub(super) fn handshake_by(&self) -> Option<Instant> {
        self.tls.as_ref().and_then(|tls| tls.deadline())
    }

    /// After an error: drops TLS if the peer has sent plain HTTP, so that it gets a readable
    /// response; whether it did.
    pub(super) fn fall_back(&mut self, error: &io::Error) -> bool {
        let met = |tls: &Session| tls.is_plain_http();
        let plain = self.tls.as_deref().is_some_and(met);
        let fall_back = plain && error.kind() == ErrorKind::InvalidData;
        if fall_back {
            self.tls = None;
        }
        fall_back
    }

    /// Bytes of memory that sending so many plain bytes takes: with TLS one record at a time.
    pub(super) fn bytes_to_send(&self, plain: usize) -> usize {
        self.tls.as_ref().map_or(0, |_| plain.min(RECORD_BYTES))
    }

    /// Bytes buffered for the peer; see [`Session::held_bytes`].
    pub(super) fn held_bytes(&self, is_empty: bool) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.held_bytes(is_empty))
    }
}
