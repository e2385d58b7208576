//! [`Socket`]: what carries the bytes of one connection.
//!
//! TCP, with TLS between it and the connection machine where the port is HTTPS. The
//! machine sees plain bytes only, and nothing outside this file asks the stream for
//! anything but the functions below.

use crate::http::tls::{Received, Session};
use mio::net::TcpStream;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::Instant;

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Large, and absent on a plain port.
    tls: Option<Box<Session>>,
}

/// What the socket has taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) count: usize,
    /// It takes no more for now.
    pub(super) filled: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, tls: Option<Session>) -> Self {
        let tls = tls.map(Box::new);
        Self { stream, tls }
    }

    /// What the poller watches.
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

    /// Goes on with a handshake of TLS, while nothing is to be read.
    pub(super) fn shake_hands(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => tls.shake_hands(&mut self.stream),
            None => Ok(()),
        }
    }

    /// Whether [`Socket::write`] has something to do, with an answer or without.
    pub(super) fn has_to_write(&self, answer: bool) -> bool {
        match &self.tls {
            None => answer,
            Some(tls) => tls.has_to_write(answer),
        }
    }

    /// Writes of `pieces` what the socket takes. What was not taken must come again.
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

    /// Tells the peer that nothing more will come. An error means that the peer
    /// has gone, which reading will tell.
    pub(super) fn close_sending(&mut self) {
        let sent = match &mut self.tls {
            Some(tls) => tls.close_sending(&mut self.stream),
            None => true,
        };
        if sent {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// The connection ends now: TLS has a word for that, which is sent if there is room.
    pub(super) fn part(&mut self) {
        if let Some(tls) = &mut self.tls
            && tls.deadline().is_none()
            && !tls.is_closing()
        {
            tls.close_sending(&mut self.stream);
        }
    }

    /// By when the handshake of TLS must be over, while it is not.
    pub(super) fn handshake_by(&self) -> Option<Instant> {
        self.tls.as_ref().and_then(|tls| tls.deadline())
    }

    /// After an error: goes on without TLS where the peer has spoken plain HTTP to it, so
    /// that it can be told; whether it does.
    pub(super) fn fall_back(&mut self, error: &io::Error) -> bool {
        let met = |tls: &Session| tls.met_plain_http();
        let plain = self.tls.as_deref().is_some_and(met);
        let fall_back = plain && error.kind() == ErrorKind::InvalidData;
        if fall_back {
            self.tls = None;
        }
        fall_back
    }

    /// What is kept here for the peer.
    pub(super) fn held_bytes(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.held_bytes())
    }
}
