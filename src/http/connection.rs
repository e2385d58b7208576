//! One connection as a pure state machine: bytes in, requests out; answers in,
//! bytes out.
//!
//! ```text
//!            ┌──────────── answer, connection goes on ────────────┐
//!            ▼                                                    │
//!   ──▶ Head ──head──▶ Body ──last byte──▶ Answering ─────────────┤
//!         │              │   (no body: at once)   │ answer, last one
//!         └──refusal─────┴───▶ Answering ─────────┴──▶ Flushing ──written──▶ Lingering ──▶ Closed
//! ```
//!
//! No sockets, threads or wall clock: time is an argument, and the machine tells
//! when it wants to be woken. One request is in flight at a time; what a peer
//! sends beyond it stays unread past a bound. Framing is that of RFC 9112, and
//! what a lenient reader could take in two ways is refused.

mod body;
mod head;
mod output;
mod scan;

use crate::app::RequestId;
use crate::http::message::{Limits, Method, Refusal, Request, Response, Version};
use crate::http::wire::{self, BadHeader, Heads, Persistence};
use body::{Decoder, Progress};
use head::{BLANK_LINES_MAX, Head};
use output::Output;
use scan::{Scan, Scanned};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// What [`Connection::next`] asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Handle this request, and give its answer to [`Connection::answer`].
    Request(Box<Request>),
    /// Make the answer for this refusal, and give it to [`Connection::answer`].
    Refused(Refusal),
    /// Nothing to do before more bytes come or go.
    Wait,
}

/// How the answer of the request in flight is to be written.
#[derive(Clone, Copy, Debug)]
struct Answering {
    /// The request was HEAD: no body (RFC 9110 §9.3.2).
    without_body: bool,
    persistence: Persistence,
}

#[derive(Debug)]
enum Stage {
    /// Between requests, or a part of a head has come.
    Head(Scan),
    Body(Receiving),
    Answering(Answering),
    /// The last answer is being written.
    Flushing,
    /// Our side is closed; the peer is read on, so many bytes at most.
    Lingering(usize),
    Closed,
}

/// A request whose body is arriving.
#[derive(Debug)]
struct Receiving {
    request: Box<Request>,
    decoder: Decoder,
    answering: Answering,
}

/// Bytes that have come and are not used yet.
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

    /// Drops the first `count` bytes; an empty buffer gives its memory back, as
    /// thousands of connections are idle.
    fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// One connection. See the module for its life.
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
    /// Of the present stage.
    deadline: Option<Instant>,
    /// A deadline that has passed and is to be answered.
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
            deadline,
            expired: None,
        }
    }

    /// A connection that is refused before anything is read: it waits for one
    /// answer, and ends with it.
    #[must_use]
    pub fn refused(peer: IpAddr, limits: Arc<Limits>, now: Instant) -> Self {
        let mut connection = Self::new(peer, limits, now);
        connection.stage = Stage::Answering(Answering {
            without_body: false,
            persistence: Persistence::Close,
        });
        connection.deadline = None;
        connection
    }

    /// What is received comes through TLS; requests will say so.
    pub const fn set_secure(&mut self) {
        self.secure = true;
    }

    /// The address of the peer.
    #[must_use]
    pub const fn peer(&self) -> IpAddr {
        self.peer
    }

    /// How many bytes may be given to [`Connection::receive`] now; 0 means that
    /// the socket should be left unread.
    #[must_use]
    pub fn room(&self) -> usize {
        let ahead = 2 * self.limits.head_bytes;
        match &self.stage {
            _ if self.peer_closed => 0,
            Stage::Head(_) | Stage::Answering(_) => ahead.saturating_sub(self.input.len()),
            Stage::Body(_) => ahead.max(64 * 1024),
            Stage::Flushing | Stage::Closed => 0,
            Stage::Lingering(left) => *left,
        }
    }

    /// Takes bytes that have arrived, at most [`Connection::room`].
    pub fn receive(&mut self, bytes: &[u8]) {
        match &mut self.stage {
            Stage::Lingering(left) => {
                *left = left.saturating_sub(bytes.len());
                if *left == 0 {
                    self.close();
                }
            }
            Stage::Flushing | Stage::Closed => {}
            Stage::Head(_) | Stage::Body(_) | Stage::Answering(_) => self.input.push(bytes),
        }
    }

    /// The peer will send nothing more. A request that is only partly here is
    /// dropped (RFC 9112 §8), and so is one that waits for its answer, since a
    /// peer that has hung up cannot be told from one that has only closed its
    /// sending side; answers that are already being written still go out.
    /// The caller asks [`Connection::is_answering`] before, to abandon a request.
    pub fn peer_closed(&mut self) {
        self.peer_closed = true;
        match self.stage {
            Stage::Head(_) | Stage::Flushing | Stage::Closed => {}
            Stage::Body(_) | Stage::Lingering(_) => self.close(),
            Stage::Answering(_) if self.output.is_empty() => self.close(),
            Stage::Answering(_) => self.stage = Stage::Flushing,
        }
    }

    /// Goes on with what has arrived. To be called until it says [`Step::Wait`].
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

    /// In stage `Head`: whether a whole head was there, and the stage is now `Body`.
    fn next_head(&mut self, now: Instant) -> Result<bool, Refusal> {
        self.skip_blank_lines(now)?;
        let Stage::Head(scan) = &mut self.stage else {
            return Ok(false);
        };
        if self.input.len() == 0 {
            return Ok(false);
        }
        let started = scan.has_begun();
        match scan.go_on(self.input.as_slice(), &self.limits)? {
            Scanned::Partial => {
                if !started {
                    self.deadline = Some(now + self.limits.head_timeout);
                }
                Ok(false)
            }
            Scanned::Complete(length) => {
                let head = head::parse(&self.input.as_slice()[..length], &self.limits)?;
                // A refusal of the body still has to know the method, which stands in the head.
                self.begin_body(head, now)?;
                self.input.consume(length);
                Ok(true)
            }
        }
    }

    /// Empty lines before the request line are ignored (RFC 9112 §2.2), a few.
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
        let persistence = match (head.keep_alive, head.version) {
            (false, _) => Persistence::Close,
            (true, Version::Http10) => Persistence::KeepAlive,
            (true, Version::Http11) => Persistence::Implied,
        };
        let answering = Answering {
            without_body: head.method == Method::Head,
            persistence,
        };
        let decoder = Decoder::new(head.framing, &self.limits)?;
        if head.expects_continue {
            self.output.push(b"HTTP/1.1 100 Continue\r\n\r\n");
            self.output.start_clock(now, &self.limits);
        }
        let request = Request {
            method: head.method,
            path: head.path,
            query: head.query,
            authority: head.authority,
            version: head.version,
            headers: head.headers,
            body: Vec::new(),
            peer: self.peer,
            secure: self.secure,
            id: RequestId::default(),
            trace: None,
            may_wait: true,
        };
        self.blank_lines = 0;
        self.deadline = Some(now + self.limits.body_timeout);
        self.stage = Stage::Body(Receiving {
            request: Box::new(request),
            decoder,
            answering,
        });
        Ok(())
    }

    /// In stage `Body`: the request, if its last byte has come.
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
        let answering = Stage::Answering(receiving.answering);
        let Stage::Body(receiving) = std::mem::replace(&mut self.stage, answering) else {
            unreachable!("the stage was Body above");
        };
        Ok(Some(receiving.request))
    }

    /// Refuses whatever is being received: the answer will be the last one. Only
    /// of use before a request is complete; then it changes nothing.
    pub fn refuse(&mut self, refusal: Refusal) -> Step {
        let without_body = match &self.stage {
            Stage::Head(_) => self.input.as_slice().starts_with(b"HEAD "),
            Stage::Body(receiving) => receiving.answering.without_body,
            Stage::Answering(_) | Stage::Flushing | Stage::Lingering(_) | Stage::Closed => {
                return Step::Wait;
            }
        };
        self.input = Input::default();
        self.deadline = None;
        self.stage = Stage::Answering(Answering {
            without_body,
            persistence: Persistence::Close,
        });
        Step::Refused(refusal)
    }

    /// Whether a request (or a refusal) waits for [`Connection::answer`].
    #[must_use]
    pub const fn is_answering(&self) -> bool {
        matches!(self.stage, Stage::Answering(_))
    }

    /// Whether a request is being received: some of it has come, not all.
    #[must_use]
    pub fn is_receiving(&self) -> bool {
        match self.stage {
            Stage::Head(_) => self.input.len() > 0,
            Stage::Body(_) => true,
            _ => false,
        }
    }

    /// Writes the answer of the request in flight; with `last` the connection
    /// ends with it. Without a request in flight nothing happens.
    ///
    /// # Errors
    /// [`BadHeader`]: nothing was written, and the request still waits.
    pub fn answer(
        &mut self,
        response: Response,
        last: bool,
        heads: &mut Heads,
        now: Instant,
    ) -> Result<(), BadHeader> {
        let Stage::Answering(answering) = self.stage else {
            return Ok(());
        };
        let persistence = if last {
            Persistence::Close
        } else {
            answering.persistence
        };
        let out = self.output.head_buffer(&response);
        heads.write(out, &response, persistence)?;
        if !answering.without_body && wire::may_have_body(response.status) {
            self.output.push_body(response.body);
        }
        self.output.start_clock(now, &self.limits);
        if persistence == Persistence::Close {
            self.deadline = None;
            self.input = Input::default();
            self.stage = Stage::Flushing;
        } else {
            self.deadline = Some(now + self.limits.idle_timeout);
            self.stage = Stage::Head(Scan::default());
        }
        Ok(())
    }

    /// The bytes to be written next, in two pieces.
    #[must_use]
    pub fn output(&self) -> [&[u8]; 2] {
        self.output.pieces()
    }

    /// Whether [`Connection::output`] is empty.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.output.is_empty()
    }

    /// `count` bytes of the output have been written.
    pub fn written(&mut self, count: usize, now: Instant) {
        self.output.advance(count, now, &self.limits);
        self.end_if_peer_closed();
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

    /// Whether the sending side of the socket is to be closed now, while the
    /// peer is read on (RFC 9112 §9.6); then [`Connection::half_closed`].
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

    /// By when the peer must take some of the output, if there is any.
    #[must_use]
    pub const fn write_deadline(&self) -> Option<Instant> {
        self.output.deadline()
    }

    /// When [`Connection::expire`] wants to be called, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match (self.deadline, self.output.deadline()) {
            (Some(stage), Some(output)) => Some(stage.min(output)),
            (stage, output) => stage.or(output),
        }
    }

    /// Makes the time of silence before the next request at most `idle`, counted
    /// from when it began; for a service that stops.
    pub fn shorten_idle(&mut self, idle: std::time::Duration) {
        if matches!(self.stage, Stage::Head(_)) && self.input.len() == 0 {
            let less = self.limits.idle_timeout.saturating_sub(idle);
            self.deadline = self
                .deadline
                .map(|deadline| deadline.checked_sub(less).unwrap_or(deadline));
        }
    }

    /// Looks at the deadlines, and says what passed: silence and stalled writes
    /// end the connection, a late head or body will be refused by
    /// [`Connection::next`].
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
            Stage::Answering(_) | Stage::Flushing | Stage::Closed => None,
        }
    }

    /// How many bytes of memory this connection holds for requests and answers.
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
    /// Silence between requests.
    Idle,
    /// A head that did not come to its end.
    Head,
    /// A body that did not come to its end.
    Body,
    /// An answer that the peer did not take.
    Write,
    /// The peer did not close after the last answer.
    Linger,
}

#[cfg(test)]
mod tests;
