//! A plain HTTP/1.1 client for measurements: one connection, one request at a time, blocking.
//!
//! It binds the local address that it is given, so that the service sees several peers on loopback.
//! Also here: what a response looks like on the wire, for code that sends requests by hand.

// Included by two programs; each of them uses a part of it.
#![allow(dead_code)]

use socket2::{Domain, SockAddr, Socket, Type};
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// Longest accepted response, in bytes.
const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Connects from this local address.
pub(crate) fn connect(to: SocketAddr, from: Ipv4Addr, timeout: Duration) -> Result<TcpStream> {
    connect_by(
        Socket::new(Domain::IPV4, Type::STREAM, None)?,
        to,
        from,
        timeout,
    )
}

/// As [`connect`], with a small buffer for what arrives and in short segments, as on a network: the
/// kernels between take little, and what is not read stays with the sender's program.
pub(crate) fn connect_narrow(
    to: SocketAddr,
    from: Ipv4Addr,
    timeout: Duration,
) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.set_tcp_mss(1_000)?;
    connect_by(socket, to, from, timeout)
}

fn connect_by(
    socket: Socket,
    to: SocketAddr,
    from: Ipv4Addr,
    timeout: Duration,
) -> Result<TcpStream> {
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(SocketAddr::from((from, 0))))?;
    socket.connect_timeout(&SockAddr::from(to), timeout)?;
    socket.set_tcp_nodelay(true)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

/// A GET of a path, with more header lines (each with its line end).
pub(crate) fn get(path: &str, lines: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: bench\r\n{lines}\r\n").into_bytes()
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    /// Connects.
    pub(crate) fn new(to: SocketAddr, from: Ipv4Addr, timeout: Duration) -> Result<Self> {
        let stream = connect(to, from, timeout)?;
        let input = Vec::new();
        Ok(Self { stream, input })
    }

    /// Sends a request; the status and length of its response's body.
    pub(crate) fn ask(&mut self, request: &[u8]) -> Result<(u16, usize)> {
        self.stream.write_all(request)?;
        loop {
            if let Some(response) = ResponseHead::first(&self.input) {
                if self.input.len() >= response.total() {
                    self.input.drain(..response.total());
                    return Ok((response.status, response.body));
                }
                if response.total() > RESPONSE_BYTES_MAX {
                    return Err(Error::from(ErrorKind::InvalidData));
                }
            }
            let mut buffer = [0; 16 * 1024];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Error::from(ErrorKind::UnexpectedEof)),
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The status of a GET over a connection of its own.
pub(crate) fn status(to: SocketAddr, from: Ipv4Addr, path: &str, wait: Duration) -> Result<u16> {
    let (status, _) = Client::new(to, from, wait)?.ask(&get(path, ""))?;
    Ok(status)
}

/// Where a response begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    /// Its status code.
    pub(crate) status: u16,
    /// Bytes of its head.
    pub(crate) head: usize,
    /// Bytes of its body.
    pub(crate) body: usize,
    /// Whether it comes in chunks: it has no length then, and counts as whole at the end of its connection.
    pub(crate) is_chunked: bool,
}

impl ResponseHead {
    /// Bytes of head and body.
    pub(crate) fn total(self) -> usize {
        self.head.saturating_add(self.body)
    }

    /// The response that begins here, if its head is complete. No measured program sends short responses
    /// in chunks.
    pub(crate) fn first(bytes: &[u8]) -> Option<Self> {
        let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&bytes[..head]);
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse().ok())?
        });
        let is_chunked = text
            .lines()
            .any(|line| line.eq_ignore_ascii_case("transfer-encoding: chunked"));
        let body = length.unwrap_or(if is_chunked { usize::MAX } else { 0 });
        Some(Self {
            status,
            head,
            body,
            is_chunked,
        })
    }
}

/// The statuses of all whole responses here.
pub(crate) fn statuses(mut bytes: &[u8]) -> Vec<u16> {
    let mut statuses = Vec::new();
    while let Some(response) = ResponseHead::first(bytes) {
        statuses.push(response.status);
        bytes = bytes.get(response.total()..).unwrap_or_default();
    }
    statuses
}
