//! [`Socket`]: the transport of one connection.
//!
//! TCP, with TLS above it if the port is HTTPS. The connection machine sees plain bytes only, and
//! nothing outside this file uses the stream except through the functions below. What the bytes
//! mean is not known here.
//!
//! What the kernel keeps for a connection counts in the memory limit of a pod. It does not say how
//! much that is. So the bytes that it was given are counted until it reports the socket as writable:
//! then it keeps at most two thirds of the send buffer.

use crate::http::listener::RECEIVE_BYTES;
use crate::http::tls::{RECORD_BYTES, Received, Session};
use mio::net::TcpStream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::net::sockopt::set_socket_linger;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

/// Bytes that the kernel may keep for a peer that does not read without a charge: with what the
/// kernel adds they take one page.
pub(super) const FREE_BYTES: usize = 2 * 1024;

/// The most bytes that it is given before it has sent those before them: large segments cost less.
const SENDING_BYTES_MAX: usize = 64 * 1024;

/// As [`SENDING_BYTES_MAX`], while memory is short; so much is charged before a response begins.
const SENDING_BYTES_LEAST: usize = 24 * 1024;

/// The first of several segments. A peer acknowledges a single one late, and two at once.
const FIRST_BYTES: usize = 1024;

/// What it keeps beside: a part of what was sent before, and what it adds to each segment.
const SEGMENT_BYTES: usize = 4 * 1024;

/// The most that it keeps of what is not read.
pub(super) const UNREAD_BYTES: usize = 2 * RECEIVE_BYTES;

const fn sending_max(is_short: bool) -> usize {
    match is_short {
        true => SENDING_BYTES_LEAST,
        false => SENDING_BYTES_MAX,
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    /// Boxed, since it is large and absent on a plain port.
    tls: Option<Box<Session>>,
    /// Bytes that the kernel was given since it was last known to keep next to nothing.
    sending: usize,
    /// The least that is counted of the bytes that the kernel may keep of a response.
    reserved: usize,
    /// Whether its sending side is closed.
    is_finished: bool,
    /// Whether it ends with a reset.
    is_reset: bool,
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
        Self {
            stream,
            tls,
            sending: 0,
            reserved: 0,
            is_finished: false,
            is_reset: false,
        }
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

    /// Whether the kernel keeps bytes that were not read.
    pub(super) fn has_unread(&self) -> bool {
        ioctl_fionread(&self.stream).is_ok_and(|bytes| bytes > 0)
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

    /// The poller has reported that it can be written, and nothing was written since.
    pub(super) const fn was_emptied(&mut self) {
        self.sending = 0;
    }

    /// All responses were given to the kernel.
    pub(super) const fn flushed(&mut self) {
        self.reserved = 0;
    }

    /// Whether the kernel has sent all but this many of the bytes that it was given. If not, the
    /// poller reports when it has.
    pub(super) fn has_sent_all_but(&mut self, bytes: usize) -> bool {
        if self.sending > bytes {
            let mut sockets = [PollFd::new(&self.stream, PollFlags::OUT)];
            // A socket that has failed keeps nothing, and is reported, too.
            if poll(&mut sockets, Some(&Timespec::default())).is_ok_and(|reported| reported > 0) {
                self.was_emptied();
            }
        }
        self.sending <= bytes
    }

    /// Whether more can be given to the kernel now, without memory only a little. If not, the poller
    /// reports when it can.
    pub(super) fn takes_more(&mut self, is_short: bool) -> bool {
        self.has_sent_all_but(sending_max(is_short) - 1)
    }

    /// Bytes of responses that the kernel keeps once it is given so many more, while memory is short.
    pub(super) fn to_reserve(&self, more: usize) -> usize {
        self.given(more).min(SENDING_BYTES_LEAST)
    }

    /// The same, while there is memory.
    pub(super) const fn given(&self, more: usize) -> usize {
        self.sending + more
    }

    /// Counts at least so many bytes until all responses are given to the kernel, so that they can be.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.reserved = bytes;
    }

    /// Bytes of memory that the kernel keeps of responses; at least so many count.
    pub(super) fn kernel_bytes(&self, reserved: usize) -> usize {
        match self.sending.max(self.reserved).max(reserved) {
            0..=FREE_BYTES => 0,
            bytes => bytes + SEGMENT_BYTES,
        }
    }

    /// Has the connection end with a reset when it is closed, and without a close_notify: the kernel
    /// drops what it keeps, which it would otherwise try to send for minutes.
    pub(super) fn reset(&mut self) {
        // An error means that the peer has gone.
        let _ = set_socket_linger(&self.stream, Some(Duration::ZERO));
        self.sending = 0;
        self.tls = None;
        self.is_reset = true;
    }

    /// Whether the kernel keeps more bytes than are free.
    pub(super) fn has_unsent(&mut self) -> bool {
        !self.has_sent_all_but(FREE_BYTES)
    }

    /// Whether the kernel keeps nothing of this connection once the socket is closed. Otherwise it
    /// would go on trying to send the rest, for minutes and without any count, if its peer reads nothing.
    ///
    /// Both have closed their side and the peer has acknowledged all that was sent: then the connection has
    /// no peer any more (`ENOTCONN`).
    pub(super) fn has_parted(&mut self) -> bool {
        if !self.is_reset && !self.is_finished {
            // Before the end of its handshake, TLS has nothing to say.
            self.tls.take_if(|tls| tls.deadline().is_some());
            self.close_sending();
        }
        self.is_reset || self.stream.peer_addr().is_err()
    }

    /// Sends as much of `pieces` as the socket takes, if [`Socket::takes_more`]. The rest must be
    /// passed again.
    pub(super) fn write(&mut self, pieces: [&[u8]; 2], is_short: bool) -> io::Result<Sent> {
        let [head, tail] = pieces;
        let room = match sending_max(is_short) {
            max if self.sending == 0 && head.len() + tail.len() >= max => FIRST_BYTES,
            max => max.saturating_sub(self.sending),
        };
        let head = &head[..head.len().min(room)];
        let tail = &tail[..tail.len().min(room - head.len())];
        let sent = self.write_some([head, tail])?;
        self.sending += sent.count;
        Ok(sent)
    }

    fn write_some(&mut self, pieces: [&[u8]; 2]) -> io::Result<Sent> {
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
            self.is_finished = true;
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
