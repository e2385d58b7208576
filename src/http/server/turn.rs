//! One turn of one connection: read, handle, write, until nothing more can be done.
//!
//! A turn is bounded in number and time, so that a peer that sends without end does not keep its
//! thread from other connections. What a connection holds is charged in the [`Ledger`] here. What
//! the bytes mean is decided in [`crate::http::connection`], which connection gets a turn in
//! [`super::io_thread`].

use super::admission::Permit;
use super::socket::{FREE_BYTES, Sent, Socket, UNREAD_BYTES};
use super::{Handled, Handler, Shared};
use crate::app::{RequestHandle, RequestId, RequestIds};
use crate::budget::{Full, Hold, Ledger};
use crate::http::connection::{Connection, Step};
use crate::http::message::{Refusal, Request, Response};
use crate::http::server::stats::{Counter, ThreadStats};
use crate::http::tls::Received;
use crate::http::wire::Heads;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Few enough that tens of pipelining peers do not delay others by milliseconds, many enough that
/// their responses are sent in few writes.
const REQUESTS_PER_TURN: usize = 16;

/// Each reads what the kernel buffers, which a near peer fills again at once.
const READS_PER_TURN: usize = 4;

/// A turn that has lasted this long begins no further request.
const TURN_MAX: Duration = Duration::from_millis(1);

/// A connection that holds no more than this during a turn is charged after it: most hold nothing
/// by then. It is not refused for lack of memory, so that probes are always answered.
const SMALL_BYTES: usize = 4 * 1024;

/// Bytes that a turn sends: hundreds of readers of long responses delay a small one by milliseconds.
const SENT_PER_TURN: usize = 64 * 1024;

/// More than the head of any response of a handler takes.
pub(super) const RESPONSE_HEAD_BYTES: usize = 1024;

/// The error for a peer that sends plain HTTP to a port with TLS.
const SPEAKS_HTTPS: &str = "this port speaks HTTPS: use https://";

/// A request that waits for its response.
#[derive(Debug)]
pub(super) struct Parked<P> {
    pub(super) handle: RequestHandle,
    pub(super) pending: P,
    /// Whether its response comes in parts.
    pub(super) is_stream: bool,
}

/// One connection and its readiness.
#[derive(Debug)]
pub(super) struct Slot<P> {
    pub(super) connection: Connection,
    pub(super) socket: Socket,
    pub(super) parked: Option<Parked<P>>,
    /// There may be a part of its stream that has not been asked for.
    pub(super) is_due: bool,
    /// Its thread knows it as a stream.
    pub(super) is_listed: bool,
    /// The ID of the request in flight.
    pub(super) request_id: Option<RequestId>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has closed its side, which has not been read yet.
    pub(super) read_closed: bool,
    /// The kernel keeps what the peer has sent, because it may not be read yet.
    pub(super) has_unread: bool,
    /// By when the peer must have read what the kernel keeps of its responses, if that is charged, or must
    /// have closed its side of a connection that has ended.
    pub(super) emptied_by: Option<Instant>,
    /// It is scheduled for one turn in the next round, and events schedule no other. Otherwise a
    /// peer that never stops sending would get one more turn a round with each segment.
    pub(super) again: bool,
    /// The bytes that it is charged.
    pub(super) hold: Hold,
    /// `None` if the connection is only being refused.
    pub(super) permit: Option<Permit>,
}

impl<P> Slot<P> {
    /// Whether the response to its request comes in parts.
    pub(super) fn is_stream(&self) -> bool {
        self.parked.as_ref().is_some_and(|parked| parked.is_stream)
    }

    /// Its earliest deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.connection.deadline(),
            self.handshake_by(),
            self.emptied_by,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// The deadline of the TLS handshake, until it is complete or the connection has ended.
    pub(super) fn handshake_by(&self) -> Option<Instant> {
        let is_open = !self.connection.is_closed();
        self.socket.handshake_by().filter(|_| is_open)
    }

    /// The bytes that it has in memory, also in that of the kernel, where at least so many of its
    /// responses count. Those of a request that waits are charged to its caller.
    pub(super) fn held_bytes(&self, reserved: usize) -> usize {
        let of_connection = self.connection.held_bytes();
        let unread = if self.has_unread { UNREAD_BYTES } else { 0 };
        let kernel = unread + self.socket.kernel_bytes(reserved);
        of_connection + self.socket.held_bytes(of_connection == 0) + kernel
    }
}

/// The next step after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing to do before an event, a deadline or a response of the app.
    Wait,
    /// There is more to do, after the other connections.
    Again,
    /// The connection has ended.
    Closed,
}

/// What a turn needs besides the connection: the state that all connections of a thread share.
pub(super) struct Core<H: Handler> {
    pub(super) io: usize,
    pub(super) shared: Arc<Shared<H>>,
    pub(super) now: Instant,
    pub(super) heads: Heads,
    pub(super) scratch: Box<[u8]>,
    pub(super) serial: u64,
    pub(super) ids: RequestIds,
    /// Idle connections are being closed, and each response is the last of its connection.
    pub(super) draining: bool,
}

impl<H: Handler> Core<H> {
    pub(super) fn stats(&self) -> &ThreadStats {
        &self.shared.stats.threads[self.io]
    }

    fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    pub(super) fn turn(&mut self, slot: &mut Slot<H::Pending>, index: usize) -> Turn {
        let mut requests = REQUESTS_PER_TURN;
        let mut reads = READS_PER_TURN;
        let mut to_send = SENT_PER_TURN;
        let mut began = None;
        while !slot.connection.is_closed() {
            let mut moved = false;
            if slot.readable && reads > 0 {
                reads -= 1;
                moved |= self.read(slot);
                moved |= self.charge_received(slot);
            }
            while requests > 0 && self.may_begin(slot) {
                match slot.connection.next(self.now) {
                    Step::Request(request) => {
                        requests -= 1;
                        self.handle(slot, index, *request);
                        if self.is_over(&mut began) {
                            requests = 0;
                        }
                    }
                    Step::Refused(refusal) => self.refuse(slot, refusal),
                    Step::Wait => break,
                }
                moved = true;
            }
            moved |= self.write(slot, &mut to_send);
            if to_send > 0 && slot.is_due && slot.connection.is_flushed() {
                moved |= self.pull(slot);
            }
            if slot.connection.wants_half_close() && slot.socket.has_sent_all_but(FREE_BYTES) {
                slot.socket.close_sending();
                slot.connection.half_closed(self.now);
                moved = true;
            }
            if slot.connection.is_closed() {
                break;
            }
            let is_over = requests == 0 || reads == 0 || to_send == 0;
            if (is_over || !moved) && !self.charge_rest(slot) && !slot.connection.is_closed() {
                return if is_over { Turn::Again } else { Turn::Wait };
            }
        }
        self.part(slot)
    }

    /// A connection that has ended keeps its place until the kernel keeps nothing of it, or its peer has
    /// not read the rest in time.
    fn part(&self, slot: &mut Slot<H::Pending>) -> Turn {
        if slot.socket.has_parted() {
            return Turn::Closed;
        }
        let held = slot.held_bytes(0).min(slot.hold.bytes());
        let _ = slot.hold.resize(held);
        let by = self.now + self.shared.limits.write_timeout;
        slot.emptied_by.get_or_insert(by);
        Turn::Wait
    }

    /// Whether the next request of this connection may begin. While memory is short, the response
    /// before it must have been sent, and not be kept by the kernel either.
    fn may_begin(&self, slot: &mut Slot<H::Pending>) -> bool {
        self.ledger().is_calm() || (slot.connection.is_flushed() && slot.socket.has_sent_all_but(0))
    }

    /// Whether the turn has lasted long enough. The time is read from the first request on, since
    /// most turns have one only.
    fn is_over(&self, began: &mut Option<Instant>) -> bool {
        let now = self.shared.clock.now();
        now.saturating_duration_since(*began.get_or_insert(now)) >= TURN_MAX
    }

    /// Reads once; whether something came.
    fn read(&mut self, slot: &mut Slot<H::Pending>) -> bool {
        slot.has_unread = false;
        let mut room = slot.connection.read_capacity().min(self.scratch.len());
        if slot.connection.awaits_response() && !self.ledger().is_calm() {
            // What follows the request that waits would have to be kept until then.
            room = 0;
        }
        if room == 0 && slot.socket.handshake_by().is_some() {
            let outcome = slot.socket.continue_handshake();
            return self.after_reading(slot, outcome);
        }
        if room == 0 {
            // The poller reports the end before it can be read. (A peer that has sent more than
            // the kernel buffers cannot even send its end; it is served until its response.)
            if slot.read_closed && slot.connection.awaits_response() {
                self.hang_up(slot);
            }
            slot.has_unread = slot.socket.has_unread();
            return false;
        }
        match slot.socket.read(&mut self.scratch[..room]) {
            Ok(Received { count: 0, .. }) => {
                slot.readable = false;
                slot.read_closed = true;
                self.hang_up(slot);
                true
            }
            Ok(Received { count, emptied }) => {
                // Only the end, if the poller has reported it, is still to be read.
                slot.readable = !emptied || slot.read_closed;
                slot.connection.receive(&self.scratch[..count]);
                true
            }
            Err(error) => self.after_reading(slot, Err(error)),
        }
    }

    /// Handles a read without bytes for the connection; whether the turn continues.
    fn after_reading(&mut self, slot: &mut Slot<H::Pending>, outcome: std::io::Result<()>) -> bool {
        match outcome {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                slot.readable = false;
                return false;
            }
            Err(error) if error.kind() != ErrorKind::Interrupted => self.fail(slot, &error),
            Ok(()) | Err(_) => {}
        }
        true
    }

    /// Reading has failed. A peer that sends plain HTTP to an HTTPS port gets a 400 that names the
    /// cause.
    fn fail(&mut self, slot: &mut Slot<H::Pending>, error: &std::io::Error) {
        if slot.socket.handshake_by().is_some() {
            self.stats().handshakes_failed.add(1);
            log::debug!(
                "TLS handshake with {} failed: {error}",
                slot.connection.peer()
            );
        }
        if !slot.socket.fall_back(error) {
            self.abort(slot);
        } else if let Step::Refused(refusal) =
            slot.connection.refuse(Refusal::BadRequest(SPEAKS_HTTPS))
        {
            self.refuse(slot, refusal);
        }
    }

    /// Sends what is waiting, `left` bytes at most; whether anything was sent.
    fn write(&mut self, slot: &mut Slot<H::Pending>, left: &mut usize) -> bool {
        let mut moved = false;
        let is_short = !self.ledger().is_idle();
        while *left > 0 && slot.writable && slot.socket.has_to_write(!slot.connection.is_flushed())
        {
            if !slot.socket.takes_more(is_short) {
                slot.writable = false;
                break;
            }
            let [head, tail] = slot.connection.output();
            let head = &head[..head.len().min(*left)];
            let tail = &tail[..tail.len().min(*left - head.len())];
            match slot.socket.write([head, tail], is_short) {
                Ok(Sent { count, filled }) => {
                    slot.writable = !filled;
                    *left -= count;
                    if count > 0 {
                        slot.connection.written(count, self.now);
                    }
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => slot.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    self.abort(slot);
                    return true;
                }
            }
        }
        if moved && slot.connection.is_flushed() {
            slot.socket.flushed();
        }
        moved
    }

    fn handle(&mut self, slot: &mut Slot<H::Pending>, index: usize, mut request: Request) {
        self.serial += 1;
        let handle = RequestHandle {
            io: u32::try_from(self.io).expect("there are few I/O threads"),
            slot: u32::try_from(index).expect("there are few connections"),
            serial: self.serial,
        };
        let given = request.headers.get_bytes("x-request-id");
        request.id = given
            .and_then(RequestId::given)
            .unwrap_or_else(|| self.ids.make());
        slot.request_id = Some(request.id.clone());
        let handler = &self.shared.handler;
        let handled = catch_unwind(AssertUnwindSafe(|| handler.handle(request, handle)));
        self.conclude(slot, handle, handled);
    }

    /// Resumes the parked request of this connection if it has this handle; whether it did.
    pub(super) fn resume(
        &mut self,
        slot: &mut Slot<H::Pending>,
        handle: RequestHandle,
        response: H::AppResponse,
    ) -> bool {
        let Some(parked) = slot.parked.take_if(|parked| parked.handle == handle) else {
            return false;
        };
        let pending = parked.pending;
        slot.is_due = false;
        // After the response there may be an end to read.
        slot.readable |= slot.read_closed;
        self.gauge(parked.is_stream).subtract(1);
        let handler = &self.shared.handler;
        let handled = catch_unwind(AssertUnwindSafe(|| handler.resume(pending, response)));
        self.conclude(slot, handle, handled);
        true
    }

    /// Acts on what the handler has made of a request.
    fn conclude(
        &mut self,
        slot: &mut Slot<H::Pending>,
        handle: RequestHandle,
        handled: std::thread::Result<Handled<H::Pending>>,
    ) {
        match handled {
            Ok(Handled::Reply(response)) => self.respond(slot, response, false),
            Ok(Handled::Refused(refusal)) => self.refuse(slot, refusal),
            Ok(Handled::Parked(pending)) => self.park(slot, handle, pending, false),
            Ok(Handled::Streams(pending)) => self.park(slot, handle, pending, true),
            Err(_) => {
                self.stats().panics.add(1);
                // The panic itself logs what failed; this logs the request.
                if let Some(id) = &slot.request_id {
                    log::error!(
                        "request_id" = id.as_str();
                        "the handler of request {id} panicked"
                    );
                }
                // It may have handed the request on before: nothing waits for it now.
                self.abandon(handle, None);
                self.refuse(slot, Refusal::Panicked);
            }
        }
    }

    /// The number of requests that wait, or of streams.
    fn gauge(&self, is_stream: bool) -> &Counter {
        let stats = self.stats();
        if is_stream {
            &stats.streams
        } else {
            &stats.parked
        }
    }

    fn park(
        &self,
        slot: &mut Slot<H::Pending>,
        handle: RequestHandle,
        pending: H::Pending,
        is_stream: bool,
    ) {
        self.gauge(is_stream).add(1);
        slot.is_due = is_stream;
        slot.parked = Some(Parked {
            handle,
            pending,
            is_stream,
        });
    }

    pub(super) fn refuse(&mut self, slot: &mut Slot<H::Pending>, refusal: Refusal) {
        self.stats().refused[refusal.index()].add(1);
        self.respond(slot, refusal.response(), false);
    }

    /// Sends a response; with `ends` the connection ends with it.
    fn respond(&mut self, slot: &mut Slot<H::Pending>, mut response: Response, ends: bool) {
        if slot.connection.is_streaming() {
            // Too late for another response: its peer sees that this one has no end.
            return self.abort(slot);
        }
        if let Err(full) = self.charge_response(slot, &response) {
            let refusal = Refusal::from(full);
            self.stats().refused[refusal.index()].add(1);
            response = refusal.response();
        }
        let last = ends || self.shared.control.draining.load(Ordering::SeqCst);
        // A request that is refused before it is complete gets its ID here.
        let id = slot.request_id.take().unwrap_or_else(|| self.ids.make());
        response.request_id = Some(id.clone());
        let connection = &mut slot.connection;
        if let Err(bad_header) = connection.respond(response, last, &mut self.heads, self.now) {
            log::error!(
                "request_id" = id.as_str();
                "cannot send the response to request {id}: {bad_header}; sending a 500"
            );
            let refusal = Refusal::Panicked;
            self.stats().refused[refusal.index()].add(1);
            let mut response = refusal.response();
            response.request_id = Some(id);
            let connection = &mut slot.connection;
            if let Err(bad_header) = connection.respond(response, last, &mut self.heads, self.now) {
                log::error!("cannot send a 500: {bad_header}; closing the connection");
                connection.close();
            }
        }
    }

    /// Charges a response before it begins, because it is not cut later. Until memory is short, a
    /// small one is charged after the turn if it has not been sent by then. A small one for which
    /// there is no room is sent nevertheless, if its peer reads.
    fn charge_response(
        &self,
        slot: &mut Slot<H::Pending>,
        response: &Response,
    ) -> Result<(), Full> {
        let bytes = RESPONSE_HEAD_BYTES
            + Connection::body_bytes(&response.body)
            + slot.socket.bytes_to_send(response.body.len());
        let sent = RESPONSE_HEAD_BYTES + response.body.len();
        if bytes.max(sent) <= SMALL_BYTES && self.ledger().is_calm() {
            return Ok(());
        }
        let reserved = slot.socket.to_reserve(sent);
        match slot.hold.resize(slot.held_bytes(reserved) + bytes) {
            Err(_) if sent <= FREE_BYTES && slot.connection.is_flushed() => Ok(()),
            Ok(()) => {
                slot.socket.reserve(reserved);
                Ok(())
            }
            Err(full) => Err(full),
        }
    }

    /// Charges what a connection has received; refuses its request if it may not hold as much.
    /// Returns whether it did.
    fn charge_received(&mut self, slot: &mut Slot<H::Pending>) -> bool {
        let held = slot.held_bytes(0);
        if held <= slot.hold.bytes().max(SMALL_BYTES) {
            return false;
        }
        match slot.hold.resize(held) {
            Ok(()) => false,
            Err(full) => self.refuse_full(slot, full),
        }
    }

    /// Charges what a connection still holds at the end of a turn; returns whether that refused its
    /// request.
    fn charge_rest(&mut self, slot: &mut Slot<H::Pending>) -> bool {
        let is_read = slot.socket.has_sent_all_but(FREE_BYTES);
        slot.emptied_by = match is_read || !slot.connection.is_flushed() {
            true => None,
            false => (slot.emptied_by).or(Some(self.now + self.shared.limits.write_timeout)),
        };
        let held = slot.held_bytes(0);
        if held == slot.hold.bytes() {
            return false;
        }
        let Err(full) = slot.hold.resize(held) else {
            return false;
        };
        if slot.is_stream() && held <= SMALL_BYTES && slot.hold.force(held).is_ok() {
            // The rest of a part that was to cost nothing.
            return false;
        }
        if self.refuse_full(slot, full) {
            return true;
        }
        // A long response was charged before it began, and is never cut. Small ones are, if their peer
        // reads nothing while memory is short, or while it holds its share: the kernel took them
        // without a charge.
        let [_, long] = slot.connection.output();
        if long.is_empty() || slot.hold.force(held).is_err() {
            self.stats().shed.add(1);
            slot.socket.reset();
            self.abort(slot);
        }
        false
    }

    /// Refuses a request that may not be received, or not wait; returns whether there was one.
    fn refuse_full(&mut self, slot: &mut Slot<H::Pending>, full: Full) -> bool {
        let refusal = Refusal::from(full);
        if slot.connection.is_receiving() {
            if let Step::Refused(refusal) = slot.connection.refuse(refusal) {
                self.refuse(slot, refusal);
            }
            return true;
        }
        if slot.connection.is_streaming() {
            self.stats().shed.add(1);
            slot.socket.reset();
            self.abort(slot);
            return true;
        }
        if slot.connection.awaits_response() {
            // What its peer has sent behind it can neither be kept nor be read.
            self.drop_parked(slot);
            self.stats().refused[refusal.index()].add(1);
            self.respond(slot, refusal.response(), true);
            return true;
        }
        if slot.socket.held_bytes(true) > SMALL_BYTES && slot.connection.is_flushed() {
            // An incomplete TLS record: no response can be sent before its end.
            self.stats().refused[refusal.index()].add(1);
            slot.socket.reset();
            self.abort(slot);
            return true;
        }
        false
    }

    /// The peer has closed its side, or the connection. (With TLS, its side is the connection.)
    fn hang_up(&mut self, slot: &mut Slot<H::Pending>) {
        let may_wait = !slot.socket.is_secure() && !slot.socket.has_failed();
        if may_wait && slot.parked.is_some() && slot.connection.probe(self.now) {
            return;
        }
        self.drop_parked(slot);
        slot.connection.peer_closed();
    }

    /// The socket has failed.
    pub(super) fn abort(&mut self, slot: &mut Slot<H::Pending>) {
        self.drop_parked(slot);
        slot.connection.close();
    }

    pub(super) fn drop_parked(&mut self, slot: &mut Slot<H::Pending>) {
        if let Some(parked) = slot.parked.take() {
            self.gauge(parked.is_stream).subtract(1);
            if !slot.connection.is_streaming() {
                self.stats().abandoned.add(1);
            }
            self.abandon(parked.handle, Some(parked.pending));
        }
    }

    fn abandon(&self, handle: RequestHandle, pending: Option<H::Pending>) {
        let handler = &self.shared.handler;
        if catch_unwind(AssertUnwindSafe(|| handler.abandon(handle, pending))).is_err() {
            self.stats().panics.add(1);
        }
    }
}
