//! [`Socket`]: what carries the bytes of one connection.
//!
//! Plain TCP today. TLS will be a second variant, between the socket and the
//! connection machine, which only sees bytes; so nothing outside this file asks
//! the stream for anything but the functions below.

use mio::net::TcpStream;
use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

#[derive(Debug)]
pub(super) enum Socket {
    Plain(TcpStream),
}

impl Socket {
    /// What the poller watches.
    pub(super) const fn source(&mut self) -> &mut TcpStream {
        let Self::Plain(stream) = self;
        stream
    }

    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let Self::Plain(stream) = self;
        stream.read(into)
    }

    pub(super) fn write(&mut self, [head, tail]: [&[u8]; 2]) -> io::Result<usize> {
        let Self::Plain(stream) = self;
        if tail.is_empty() {
            stream.write(head)
        } else {
            stream.write_vectored(&[IoSlice::new(head), IoSlice::new(tail)])
        }
    }

    /// Tells the peer that nothing more will come. An error means that the peer
    /// has gone, which reading will tell.
    pub(super) fn close_sending(&mut self) {
        let Self::Plain(stream) = self;
        let _ = stream.shutdown(Shutdown::Write);
    }
}
