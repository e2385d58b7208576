//! One turn of one connection: read, handle, write, until nothing more can be done.
//!
//! A turn is bounded, so that a peer that sends without end does not keep its thread from other
//! connections. The bound on held bytes is enforced here. What the bytes mean is decided in
//! [`crate::http::connection`], which connection gets a turn in [`super::io_thread`].

use super::admission::Permit;
use super::socket::{Sent, Socket};
use super::{Handled, Handler, Shared};
use crate::app::{RequestHandle, RequestId, RequestIds};
use crate::http::connection::{Connection, Step};
use crate::http::message::{Refusal, Request, Response};
use crate::http::server::stats::ThreadStats;
use crate::http::tls::Received;
use crate::http::wire::Heads;
use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Few enough that tens of pipelining peers do not delay others by milliseconds, many enough that
/// their responses are sent in few writes.
const REQUESTS_PER_TURN: usize = 16;
const READS_PER_TURN: usize = 16;

/// A connection that holds no more than this is not refused for lack of memory.
const SMALL_BYTES: usize = 4 * 1024;

/// The error for a peer that sends plain HTTP to a port with TLS.
const SPEAKS_HTTPS: &str = "this port speaks HTTPS: use https://";

/// A request that waits for its response.
#[derive(Debug)]
pub(super) struct Parked<P> {
    handle: RequestHandle,
    pending: P,
    /// Its charge until then.
    bytes: usize,
}

/// One connection and its readiness.
#[derive(Debug)]
pub(super) struct Slot<P> {
    pub(super) connection: Connection,
    pub(super) socket: Socket,
    pub(super) parked: Option<Parked<P>>,
    /// The ID of the request in flight.
    pub(super) request_id: Option<RequestId>,
    pub(super) readable: bool,
    pub(super) writable: bool,
    /// The peer has closed its side, which has not been read yet.
    pub(super) read_closed: bool,
    /// It is scheduled for one turn in the next round, and events schedule no other. Otherwise a
    /// peer that never stops sending would get one more turn a round with each segment.
    pub(super) again: bool,
    /// As last counted in [`Core::held`].
    pub(super) held: usize,
    /// `None` if the connection is only being refused.
    pub(super) permit: Option<Permit>,
}

impl<P> Slot<P> {
    /// Its earliest deadline.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let deadlines = [self.connection.deadline(), self.socket.handshake_by()];
        deadlines.into_iter().flatten().min()
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
    /// Bytes that this thread's connections hold.
    pub(super) held: usize,
    pub(super) held_max: usize,
}

impl<H: Handler> Core<H> {
    pub(super) fn stats(&self) -> &ThreadStats {
        &self.shared.stats.threads[self.io]
    }

    /// Maximum bytes held when a request is parked; the rest is for requests being received and
    /// responses being sent.
    const fn parked_max(&self) -> usize {
        self.held_max / 4 * 3
    }

    pub(super) fn turn(&mut self, slot: &mut Slot<H::Pending>, index: usize) -> Turn {
        let mut requests = REQUESTS_PER_TURN;
        let mut reads = READS_PER_TURN;
        let turn = loop {
            let mut moved = false;
            if slot.readable && reads > 0 {
                reads -= 1;
                moved |= self.read(slot);
                self.note_held(slot);
            }
            while requests > 0 {
                match slot.connection.next(self.now) {
                    Step::Request(request) => {
                        requests -= 1;
                        self.handle(slot, index, *request);
                    }
                    Step::Refused(refusal) => self.refuse(slot, refusal),
                    Step::Wait => break,
                }
                moved = true;
            }
            moved |= self.refuse_for_memory(slot);
            moved |= self.write(slot);
            if slot.connection.wants_half_close() {
                slot.socket.close_sending();
                slot.connection.half_closed(self.now);
                moved = true;
            }
            if slot.connection.is_closed() {
                break Turn::Closed;
            }
            if requests == 0 || reads == 0 {
                break Turn::Again;
            }
            if !moved {
                break Turn::Wait;
            }
        };
        self.note_held(slot);
        turn
    }

    /// Reads once; whether something came.
    fn read(&mut self, slot: &mut Slot<H::Pending>) -> bool {
        let room = slot.connection.read_capacity().min(self.scratch.len());
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
            return false;
        }
        match slot.socket.read(&mut self.scratch[..room]) {
            Ok(Received { count: 0, .. }) => {
                slot.readable = false;
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

    /// Sends what is waiting; whether anything was sent.
    fn write(&mut self, slot: &mut Slot<H::Pending>) -> bool {
        let mut moved = false;
        while slot.writable && slot.socket.has_to_write(!slot.connection.is_flushed()) {
            match slot.socket.write(slot.connection.output()) {
                Ok(Sent { count, filled }) => {
                    slot.writable = !filled;
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
        let bytes = request.parked_bytes();
        request.may_wait = self.held - slot.held + bytes <= self.parked_max();
        let handler = &self.shared.handler;
        let handled = catch_unwind(AssertUnwindSafe(|| handler.handle(request, handle)));
        self.conclude(slot, handle, bytes, handled);
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
        let Parked { pending, bytes, .. } = parked;
        self.stats().parked.subtract(1);
        let handler = &self.shared.handler;
        let handled = catch_unwind(AssertUnwindSafe(|| handler.resume(pending, response)));
        self.conclude(slot, handle, bytes, handled);
        true
    }

    /// Acts on what the handler has made of a request; `bytes` is what it is charged while it waits.
    fn conclude(
        &mut self,
        slot: &mut Slot<H::Pending>,
        handle: RequestHandle,
        bytes: usize,
        handled: std::thread::Result<Handled<H::Pending>>,
    ) {
        match handled {
            Ok(Handled::Reply(response)) => self.respond(slot, response),
            Ok(Handled::Refused(refusal)) => self.refuse(slot, refusal),
            Ok(Handled::Parked(pending)) => {
                self.stats().parked.add(1);
                slot.parked = Some(Parked {
                    handle,
                    pending,
                    bytes,
                });
            }
            Err(_) => {
                self.stats().panics.add(1);
                // The panic itself logs what failed; this logs the request.
                if let Some(id) = &slot.request_id {
                    log::error!("the handler of request {id} panicked");
                }
                // It may have handed the request on before: nothing waits for it now.
                self.abandon(handle);
                self.refuse(slot, Refusal::Panicked);
            }
        }
    }

    pub(super) fn refuse(&mut self, slot: &mut Slot<H::Pending>, refusal: Refusal) {
        self.stats().refused[refusal.index()].add(1);
        self.respond(slot, refusal.response());
    }

    fn respond(&mut self, slot: &mut Slot<H::Pending>, mut response: Response) {
        let last = self.shared.control.draining.load(Ordering::SeqCst);
        // A request that is refused before it is complete gets its ID here.
        let id = slot.request_id.take().unwrap_or_else(|| self.ids.make());
        response.request_id = Some(id.clone());
        let connection = &mut slot.connection;
        if let Err(bad_header) = connection.respond(response, last, &mut self.heads, self.now) {
            log::error!("cannot send the response to request {id}: {bad_header}; sending a 500");
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

    /// Refuses a request that is being received while all held bytes are in use.
    fn refuse_for_memory(&mut self, slot: &mut Slot<H::Pending>) -> bool {
        self.note_held(slot);
        if self.held <= self.held_max || slot.held <= SMALL_BYTES {
            return false;
        }
        if !slot.connection.is_receiving() {
            let record = slot.socket.held_bytes() > SMALL_BYTES && slot.connection.is_flushed();
            if record {
                // An incomplete TLS record: no response can be sent before its end.
                self.stats().refused[Refusal::NoMemory.index()].add(1);
                self.abort(slot);
            }
            return record;
        }
        match slot.connection.refuse(Refusal::NoMemory) {
            Step::Refused(refusal) => self.refuse(slot, refusal),
            Step::Request(_) | Step::Wait => {}
        }
        true
    }

    /// The peer has closed its side, or the connection.
    fn hang_up(&mut self, slot: &mut Slot<H::Pending>) {
        self.drop_parked(slot);
        slot.connection.peer_closed();
    }

    /// The socket has failed.
    pub(super) fn abort(&mut self, slot: &mut Slot<H::Pending>) {
        self.drop_parked(slot);
        slot.connection.close();
    }

    fn drop_parked(&mut self, slot: &mut Slot<H::Pending>) {
        if let Some(parked) = slot.parked.take() {
            self.stats().parked.subtract(1);
            self.stats().abandoned.add(1);
            self.abandon(parked.handle);
        }
    }

    fn abandon(&self, handle: RequestHandle) {
        let handler = &self.shared.handler;
        if catch_unwind(AssertUnwindSafe(|| handler.abandon(handle))).is_err() {
            self.stats().panics.add(1);
        }
    }

    /// Updates the sum of held bytes.
    pub(super) fn note_held(&mut self, slot: &mut Slot<H::Pending>) {
        let parked = slot.parked.as_ref().map_or(0, |parked| parked.bytes);
        let held = slot.connection.held_bytes() + slot.socket.held_bytes() + parked;
        self.hold(slot, held);
    }

    /// The connection is about to be dropped, and holds nothing from now on.
    pub(super) fn release_held(&mut self, slot: &mut Slot<H::Pending>) {
        self.hold(slot, 0);
    }

    fn hold(&mut self, slot: &mut Slot<H::Pending>, held: usize) {
        if held != slot.held {
            self.held = self.held + held - slot.held;
            slot.held = held;
            self.stats().held_bytes.set(self.held as u64);
        }
    }
}
