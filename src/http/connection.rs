//! One connection as a pure state machine: bytes in, requests out; responses in,
//! bytes out.
//!
//! ```text
//!            ┌──────────── response, kept alive ──────────────────┐
//!            ▼                                                    │
//!   ──▶ Head ──head──▶ Body ──last byte──▶ Responding ────────────┤
//!         │              │   (no body: at once)   │ last response
//!         └──refusal─────┴───▶ Responding ────────┴──▶ Flushing ──written──▶ Lingering ──▶ Closed
//! ```
//!
//! No sockets, threads or wall clock: time is an argument, and the machine returns its next
//! deadline. One request is in flight at a time; what a peer sends beyond it stays unread past a
//! bound. Framing follows RFC 9112; what two readers could understand differently is refused.

mod body;
mod head;
mod output;
mod scan;
mod stream;

use crate::http::message::{Body, Limits, Method, Refusal, Request, Response, Version};
use crate::http::wire::{self, BadHeader, Heads, Persistence};
use body::{Decoder, Progress};
use head::{BLANK_LINES_MAX, Head};
use output::Output;
use scan::Scan;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// What the caller of [`Connection::next`] must do.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Handle this request, and pass the response to [`Connection::respond`].
    Request(Box<Request>),
    /// Make the response for this refusal, and pass it to [`Connection::respond`].
    Refused(Refusal),
    /// Nothing to do before bytes arrive or are sent.
    Wait,
}

/// How the response to the request in flight is written.
#[derive(Clone, Copy, Debug)]
struct Responding {
    /// The request was HEAD: no body (RFC 9110 §9.3.2).
    without_body: bool,
    persistence: Persistence,
    version: Version,
}

/// The interim response that any client of HTTP/1.1 may discard (RFC 9110 §15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[derive(Debug)]
enum Stage {
    /// Between requests, or part of a head has arrived.
    Head(Scan),
    Body(Receiving),
    Responding(Responding),
    /// The response comes in parts; the last one has not come ([`stream`]).
    Streaming(Responding),
    /// The last response is being sent.
    Flushing,
    /// Our side is closed; at most this many more bytes are read and dropped.
    Lingering(usize),
    Closed,
}

/// A request whose body is arriving.
#[derive(Debug)]
struct Receiving {
    request: Box<Request>,
    decoder: Decoder,
    responding: Responding,
}

/// Bytes that have arrived and are not used yet.
#[derive(Debug, Default)]
struct Input {
    bytes: Vec<u8>,
    start: usize,
}

impl Input {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Drops the first `count` bytes. An empty buffer is freed, since thousands of connections are
    /// idle.
    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// One connection; the module documents its stages.
#[derive(Debug)]
pub struct Connection {
    peer: IpAddr,
    secure: bool,
    limits: Arc<Limits>,
    input: Input,
    output: Output,
    stage: Stage,
    /// Blank lines before the request line.
    blank_lines: u8,
    /// The peer will send nothing more.
    peer_closed: bool,
    /// [`Connection::probe`] has been called.
    is_probed: bool,
    /// Of the present stage.
    deadline: Option<Instant>,
    /// The refusal for a deadline that has passed.
    expired: Option<Refusal>,
}

impl Connection {
    /// A connection that was accepted at `now`.
    #[must_use]
    pub fn new(peer: IpAddr, limits: Arc<Limits>, now: Instant) -> Self {
        let deadline = Some(now + limits.idle_timeout);
        Self {
            peer,
            secure: false,
            limits,
            input: Input::default(),
            output: Output::default(),
            stage: Stage::Head(Scan::default()),
            blank_lines: 0,
            peer_closed: false,
            is_probed: false,
            deadline,
            expired: None,
        }
    }

    /// A connection that is refused before anything is read: it waits for one response, and ends
    /// with it.
    #[must_use]
    pub fn refused(peer: IpAddr, limits: Arc<Limits>, now: Instant) -> Self {
        let mut connection = Self::new(peer, limits, now);
        connection.stage = Stage::Responding(Responding {
            without_body: false,
            persistence: Persistence::Close,
            version: Version::Http11,
        });
        connection.deadline = None;
        connection
    }

    /// The bytes come through TLS; its requests have [`Request::secure`] set.
    pub const fn set_secure(&mut self) {
        self.secure = true;
    }

    /// The peer's address; IPv4 in IPv6 as IPv4.
    #[must_use]
    pub const fn peer(&self) -> IpAddr {
        self.peer
    }

    /// How many bytes may be passed to [`Connection::receive`] now; 0: do not read the socket.
    #[must_use]
    pub fn read_capacity(&self) -> usize {
        let ahead = 2 * self.limits.head_bytes;
        match &self.stage {
            _ if self.peer_closed => 0,
            Stage::Head(_) | Stage::Responding(_) | Stage::Streaming(_) => {
                ahead.saturating_sub(self.input.len())
            }
            // What arrives while the last response is being sent is dropped.
            Stage::Body(_) | Stage::Flushing => ahead.max(64 * 1024),
            Stage::Closed => 0,
            Stage::Lingering(left) => *left,
        }
    }

    /// Takes bytes that have arrived, at most [`Connection::read_capacity`].
    pub fn receive(&mut self, bytes: &[u8]) {
        match &mut self.stage {
            Stage::Lingering(left) => {
                *left = left.saturating_sub(bytes.len());
                if *left == 0 {
                    self.close();
                }
            }
            Stage::Flushing | Stage::Closed => {}
            Stage::Head(_) | Stage::Body(_) | Stage::Responding(_) | Stage::Streaming(_) => {
                self.input.push(bytes);
            }
        }
    }

    /// The peer has closed the connection, or only its sending side: both look alike until something
    /// is sent. Returns whether the request that waits, or has part of its response, may go on. Then the
    /// peer is sent something once that changes nothing, on which one that has gone resets the connection:
    /// an interim response, or a zero before the size of the next chunk. In HTTP/1.0 there is neither.
    pub fn probe(&mut self, now: Instant) -> bool {
        let (responding, probe) = match &self.stage {
            Stage::Responding(it) => (it, CONTINUE),
            Stage::Streaming(it) if !it.without_body => (it, &b"0"[..]),
            _ => return false,
        };
        let may_wait = responding.version >= Version::Http11;
        if may_wait && !self.is_probed && !self.output.is_full(&self.limits) {
            self.is_probed = true;
            self.output.push(probe);
            self.output.start_clock(now, &self.limits);
        }
        may_wait
    }

    /// The peer will send nothing more. An incomplete request is dropped (RFC 9112 §8), and so is one
    /// that waits for its response or the rest of it, if it may not ([`Connection::probe`]). Responses that
    /// are being sent are completed. The caller first abandons the request if
    /// [`Connection::awaits_response`].
    pub fn peer_closed(&mut self) {
        self.peer_closed = true;
        match self.stage {
            Stage::Head(_) | Stage::Flushing | Stage::Closed => {}
            Stage::Body(_) | Stage::Lingering(_) | Stage::Streaming(_) => self.close(),
            Stage::Responding(_) if self.output.is_empty() => self.close(),
            Stage::Responding(_) => self.stage = Stage::Flushing,
        }
    }

    /// Processes what has arrived; to be called until it returns [`Step::Wait`].
    pub fn next(&mut self, now: Instant) -> Step {
        if let Some(refusal) = self.expired.take() {
            return self.refuse(refusal);
        }
        if matches!(self.stage, Stage::Head(_)) && !self.output.is_full(&self.limits) {
            match self.next_head(now) {
                Ok(true) => {}
                Ok(false) => {
                    self.end_if_peer_closed();
                    return Step::Wait;
                }
                Err(refusal) => return self.refuse(refusal),
            }
        }
        match self.next_body() {
            Ok(Some(request)) => Step::Request(request),
            Ok(None) => Step::Wait,
            Err(refusal) => self.refuse(refusal),
        }
    }

    /// In stage `Head`: whether the head was complete, and the stage is now `Body`.
    fn next_head(&mut self, now: Instant) -> Result<bool, Refusal> {
        self.skip_blank_lines(now)?;
        let Stage::Head(scan) = &mut self.stage else {
            return Ok(false);
        };
        if self.input.len() == 0 {
            return Ok(false);
        }
        let started = scan.has_begun();
        let Some(length) = scan.advance(self.input.as_slice(), &self.limits)? else {
            if !started {
                self.deadline = Some(now + self.limits.head_timeout);
            }
            return Ok(false);
        };
        let head = head::parse(&self.input.as_slice()[..length], &self.limits)?;
        // A refusal of the body still needs the method, which is in the head.
        self.begin_body(head, now)?;
        self.input.consume(length);
        Ok(true)
    }

    /// A few empty lines before the request line are ignored (RFC 9112 §2.2).
    fn skip_blank_lines(&mut self, now: Instant) -> Result<(), Refusal> {
        let Stage::Head(scan) = &self.stage else {
            return Ok(());
        };
        if scan.has_begun() && self.input.as_slice().first() != Some(&b'\r') {
            return Ok(());
        }
        while self.input.as_slice().starts_with(b"\r\n") {
            self.input.consume(2);
            if let Stage::Head(scan) = &mut self.stage
                && scan.has_begun()
            {
                *scan = Scan::default();
                self.deadline = Some(now + self.limits.idle_timeout);
            }
            self.blank_lines += 1;
            if self.blank_lines > BLANK_LINES_MAX {
                return Err(Refusal::BadRequest("too many empty lines before a request"));
            }
        }
        Ok(())
    }

    fn begin_body(&mut self, head: Head, now: Instant) -> Result<(), Refusal> {
        let mut request = head.request;
        let responding = Responding {
            without_body: request.method == Method::Head,
            persistence: head.persistence,
            version: request.version,
        };
        let decoder = Decoder::new(head.framing, &self.limits)?;
        if head.expects_continue {
            self.output.push(CONTINUE);
            self.output.start_clock(now, &self.limits);
        }
        request.peer = self.peer;
        request.secure = self.secure;
        self.blank_lines = 0;
        self.deadline = Some(now + self.limits.body_timeout);
        self.stage = Stage::Body(Receiving {
            request,
            decoder,
            responding,
        });
        Ok(())
    }

    /// In stage `Body`: the request, if its last byte has arrived.
    fn next_body(&mut self) -> Result<Option<Box<Request>>, Refusal> {
        let Stage::Body(receiving) = &mut self.stage else {
            return Ok(None);
        };
        let (used, progress) = receiving.decoder.decode(
            self.input.as_slice(),
            &mut receiving.request.body,
            &self.limits,
        )?;
        self.input.consume(used);
        if progress == Progress::Partial {
            return Ok(None);
        }
        self.deadline = None;
        let responding = Stage::Responding(receiving.responding);
        let Stage::Body(receiving) = std::mem::replace(&mut self.stage, responding) else {
            unreachable!("the stage was Body above");
        };
        Ok(Some(receiving.request))
    }

    /// Refuses what is being received; the response will be the last one. Once the request is
    /// complete this has no effect.
    pub fn refuse(&mut self, refusal: Refusal) -> Step {
        let without_body = match &self.stage {
            Stage::Head(_) if self.output.is_full(&self.limits) => {
                // Nothing can be queued behind this: the connection ends with it, as it may.
                self.input = Input::default();
                self.deadline = None;
                self.stage = Stage::Flushing;
                return Step::Wait;
            }
            Stage::Head(_) => self.input.as_slice().starts_with(b"HEAD "),
            Stage::Body(receiving) => receiving.responding.without_body,
            Stage::Responding(_)
            | Stage::Streaming(_)
            | Stage::Flushing
            | Stage::Lingering(_)
            | Stage::Closed => {
                return Step::Wait;
            }
        };
        self.input = Input::default();
        self.deadline = None;
        self.stage = Stage::Responding(Responding {
            without_body,
            persistence: Persistence::Close,
            version: Version::Http11,
        });
        Step::Refused(refusal)
    }

    /// Whether a request (or a refusal) waits for [`Connection::respond`], or for the rest of its response.
    #[must_use]
    pub const fn awaits_response(&self) -> bool {
        matches!(self.stage, Stage::Responding(_) | Stage::Streaming(_))
    }

    /// Whether part of a request has arrived, but not all.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        match self.stage {
            Stage::Head(_) => self.input.len() > 0,
            Stage::Body(_) => true,
            _ => false,
        }
    }

    /// Queues the response to the request in flight; with `last` the connection ends with it.
    /// Without a request in flight nothing happens.
    ///
    /// # Errors
    /// [`BadHeader`]: nothing was written, and the request still waits.
    pub fn respond(
        &mut self,
        response: Response,
        last: bool,
        heads: &mut Heads,
        now: Instant,
    ) -> Result<(), BadHeader> {
        let Some(responding) = self.responding(last) else {
            return Ok(());
        };
        let out = self.output.head_buffer(response.body.len());
        heads.write(out, &response, responding.persistence)?;
        if !responding.without_body && wire::may_have_body(response.status) {
            self.output.push_body(response.body);
        }
        self.output.start_clock(now, &self.limits);
        self.after_response(responding.persistence, now);
        Ok(())
    }

    fn after_response(&mut self, persistence: Persistence, now: Instant) {
        if persistence == Persistence::Close {
            self.deadline = None;
            self.input = Input::default();
            self.stage = Stage::Flushing;
        } else {
            self.deadline = Some(now + self.limits.idle_timeout);
            self.stage = Stage::Head(Scan::default());
        }
    }

    /// The bytes to send next, in two pieces.
    #[must_use]
    pub fn output(&self) -> [&[u8]; 2] {
        self.output.pieces()
    }

    /// Bytes of memory that a connection needs for this body beside its head.
    #[must_use]
    pub fn body_bytes(body: &Body) -> usize {
        Output::body_bytes(body)
    }

    /// Whether [`Connection::output`] is empty.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// `count` bytes of the output have been sent.
    pub fn written(&mut self, count: usize, now: Instant) {
        self.output.advance(count, now, &self.limits);
        // Else there may be a further request: `next` finds out.
        if self.input.len() == 0 {
            self.end_if_peer_closed();
        }
        if matches!(self.stage, Stage::Flushing) && self.output.is_empty() && self.peer_closed {
            self.close();
        }
    }

    fn end_if_peer_closed(&mut self) {
        if matches!(self.stage, Stage::Head(_)) && self.peer_closed {
            if self.output.is_empty() {
                self.close();
            } else if !self.output.is_full(&self.limits) {
                self.stage = Stage::Flushing;
            }
        }
    }

    /// Whether the sending side of the socket is to be closed now, while reading continues
    /// (RFC 9112 §9.6); then [`Connection::half_closed`].
    #[must_use]
    pub fn wants_half_close(&self) -> bool {
        matches!(self.stage, Stage::Flushing) && self.output.is_empty()
    }

    /// The sending side of the socket has been closed.
    pub fn half_closed(&mut self, now: Instant) {
        if self.wants_half_close() && self.peer_closed {
            self.close();
        } else if self.wants_half_close() {
            self.stage = Stage::Lingering(self.limits.linger_bytes);
            self.deadline = Some(now + self.limits.linger_timeout);
        }
    }

    /// Whether the connection has ended, and its socket is to be closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    /// Ends the connection at once.
    pub fn close(&mut self) {
        self.stage = Stage::Closed;
        self.deadline = None;
        self.input = Input::default();
        self.output = Output::default();
    }

    /// By when the peer must read some of the output, if there is any.
    #[must_use]
    pub const fn write_deadline(&self) -> Option<Instant> {
        self.output.deadline()
    }

    /// When [`Connection::expire`] is to be called, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.deadline, self.output.deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Shortens the idle timeout to `idle`, counted from when the connection became idle; for a
    /// server that drains.
    pub fn shorten_idle(&mut self, idle: std::time::Duration) {
        if matches!(self.stage, Stage::Head(_)) && self.input.len() == 0 {
            let less = self.limits.idle_timeout.saturating_sub(idle);
            self.deadline = self
                .deadline
                .map(|deadline| deadline.checked_sub(less).unwrap_or(deadline));
        }
    }

    /// Returns the deadline that has passed, if any. Idle and stalled connections are closed; a
    /// late head or body is refused by [`Connection::next`].
    pub fn expire(&mut self, now: Instant) -> Option<Expired> {
        if self.output.deadline().is_some_and(|at| at <= now) {
            self.close();
            return Some(Expired::Write);
        }
        if self.deadline.is_none_or(|at| at > now) {
            return None;
        }
        self.deadline = None;
        match self.stage {
            // It is idle, or late, only once it has its response.
            Stage::Head(_) if !self.output.is_empty() => {
                self.deadline = Some(now + self.limits.idle_timeout);
                None
            }
            Stage::Head(_) if self.input.len() == 0 => {
                self.close();
                Some(Expired::Idle)
            }
            Stage::Head(_) => {
                self.expired = Some(Refusal::HeadTimeout);
                Some(Expired::Head)
            }
            Stage::Body(_) => {
                self.expired = Some(Refusal::BodyTimeout);
                Some(Expired::Body)
            }
            Stage::Lingering(_) => {
                self.close();
                Some(Expired::Linger)
            }
            Stage::Responding(_) | Stage::Streaming(_) | Stage::Flushing | Stage::Closed => None,
        }
    }

    /// How many bytes of memory this connection holds for requests and responses.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let body = match &self.stage {
            Stage::Body(receiving) => receiving.request.body.capacity(),
            _ => 0,
        };
        self.input.bytes.capacity() + self.output.held_bytes() + body
    }
}

/// Which deadline has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// The connection was idle for too long.
    Idle,
    /// The head did not arrive in time.
    Head,
    /// The body did not arrive in time.
    Body,
    /// The peer did not read its response.
    Write,
    /// The peer did not close after the last response.
    Linger,
}

#[cfg(test)]
mod tests;
