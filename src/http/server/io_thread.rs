//! [`IoThread`]: one poll loop.
//!
//! Each round: wait, take in what the poller has seen, take the mail, give every
//! connection that has something to do its turn, look at the deadlines. Only
//! the first thread has an [`Acceptor`].

use super::accept::{Accepted, Acceptor, turn_away};
use super::slab::Slab;
use super::socket::Socket;
use super::timers::Timers;
use super::turn::{Core, Slot, Turn};
use super::{Handler, Shared};
use crate::app::{RequestHandle, RequestIds};
use crate::http::connection::{Connection, Expired};
use crate::http::message::Refusal;
use crate::http::wire::{Heads, Persistence};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

const LISTENER: mio::Token = mio::Token(usize::MAX - 1);
const WAKER: mio::Token = mio::Token(usize::MAX);

/// A round comes at least this often, as a sign of life.
const BEAT: Duration = Duration::from_millis(500);

const EVENTS_PER_ROUND: usize = 1024;
const ACCEPTS_PER_ROUND: usize = 256;
const SCRATCH_BYTES: usize = 64 * 1024;

/// Connections that are being refused at the same time; more are closed with
/// what can be said at once.
const REFUSING_MAX: usize = 32;

pub(super) struct IoThread<H: Handler> {
    poll: Poll,
    core: Core<H>,
    slots: Slab<Slot<H::Pending>>,
    timers: Timers,
    acceptor: Option<Acceptor>,
    /// Connections that have more to do.
    again: Vec<usize>,
    mail: Vec<(RequestHandle, H::Answer)>,
    /// Connections of this thread that are only being refused.
    refusing: usize,
}

impl<H: Handler> IoThread<H> {
    pub(super) fn new(
        io: usize,
        shared: Arc<Shared<H>>,
        mut acceptor: Option<Acceptor>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), WAKER)?;
        shared.control.wakers[io].connect(waker);
        if let Some(acceptor) = &mut acceptor {
            let interest = Interest::READABLE;
            poll.registry()
                .register(acceptor.source(), LISTENER, interest)?;
        }
        let core = Core {
            io,
            now: shared.clock.now(),
            heads: Heads::new(shared.clock.wall_now()),
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
            serial: 0,
            ids: RequestIds::new(shared.id_seed, io as u64),
            draining: false,
            held: 0,
            held_max: shared.limits.held_bytes / shared.mailboxes.io_threads(),
            shared,
        };
        Ok(Self {
            poll,
            core,
            slots: Slab::new(),
            timers: Timers::default(),
            acceptor,
            again: Vec::new(),
            mail: Vec::new(),
            refusing: 0,
        })
    }

    /// Runs until told to stop; says how many connections were cut.
    ///
    /// # Errors
    /// When the poller fails, which it does not.
    pub(super) fn run(&mut self) -> io::Result<usize> {
        let mut events = Events::with_capacity(EVENTS_PER_ROUND);
        loop {
            match self.poll.poll(&mut events, Some(self.timeout())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result?,
            }
            self.core.now = self.core.shared.clock.now();
            self.core.heads.update(self.core.shared.clock.wall_now());
            let has_mail = self.core.shared.control.wakers[self.core.io].heard();
            if has_mail {
                self.take_orders();
            }
            let again = std::mem::take(&mut self.again);
            for event in &events {
                self.take_event(event);
            }
            for place in again {
                if let Some(slot) = self.slots.get_mut(place) {
                    slot.again = false;
                }
                self.turn(place);
            }
            if has_mail {
                self.take_mail();
            }
            self.accept();
            self.expire();
            self.slots.release();
            if let Some(cut) = self.ended() {
                return Ok(cut);
            }
        }
    }

    /// When to cut what is left; known only while draining, so that nothing is locked before.
    fn stop_at(&self) -> Option<Instant> {
        let control = &self.core.shared.control;
        self.core.draining.then(|| control.stop_at()).flatten()
    }

    /// How long there is nothing to do but for what the poller sees, as of this round's beginning.
    fn timeout(&self) -> Duration {
        let now = self.core.now;
        let accepting = |acceptor: &Acceptor| acceptor.is_ready(now);
        if !self.again.is_empty() || self.acceptor.as_ref().is_some_and(accepting) {
            return Duration::ZERO;
        }
        let resume_at = self.acceptor.as_ref().and_then(Acceptor::resume_at);
        let moments = [self.timers.next(), resume_at, self.stop_at()];
        moments
            .into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .fold(BEAT, Duration::min)
    }

    fn take_event(&mut self, event: &Event) {
        match event.token() {
            WAKER => {}
            LISTENER => {
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.wake();
                }
            }
            mio::Token(place) => {
                let Some(slot) = self.slots.get_mut(place) else {
                    return;
                };
                slot.read_closed |= event.is_read_closed() || event.is_error();
                slot.readable |= event.is_readable() || slot.read_closed;
                slot.writable |= event.is_writable();
                // One that has a turn to come in this round gets no second one.
                if !slot.again {
                    self.turn(place);
                }
            }
        }
    }

    fn turn(&mut self, place: usize) {
        let Some(slot) = self.slots.get_mut(place) else {
            return;
        };
        match self.core.turn(slot, place) {
            Turn::Closed => self.remove(place),
            Turn::Again if slot.again => {}
            Turn::Again => {
                slot.again = true;
                self.again.push(place);
            }
            Turn::Wait => {
                let deadline = slot.deadline();
                self.timers.arm(place, deadline, self.core.now);
                if !slot.connection.is_flushed() && self.core.held > self.core.held_max {
                    self.shed();
                }
            }
        }
    }

    fn remove(&mut self, place: usize) {
        let Some(mut slot) = self.slots.remove(place) else {
            return;
        };
        slot.socket.part();
        self.core.abort(&mut slot);
        self.core.let_go(&mut slot);
        if slot.permit.is_some() {
            self.core.stats().connections.subtract(1);
        } else {
            self.refusing -= 1;
        }
    }

    /// Too many bytes wait to be written: the connection that has been stalled
    /// for longest is cut.
    fn shed(&mut self) {
        let mut longest: Option<(Instant, usize)> = None;
        for place in self.slots.taken() {
            let Some(slot) = self.slots.get_mut(place) else {
                continue;
            };
            if let Some(at) = slot.connection.write_deadline()
                && slot.held > 0
                && longest.is_none_or(|(earliest, _)| at < earliest)
            {
                longest = Some((at, place));
            }
        }
        if let Some((_, place)) = longest {
            self.core.stats().shed.add(1);
            self.remove(place);
        }
    }

    /// What the owner of the server has said.
    fn take_orders(&mut self) {
        let control = &self.core.shared.control;
        if control.draining.load(Ordering::SeqCst) && !self.core.draining {
            self.core.draining = true;
            for place in self.slots.taken() {
                if let Some(slot) = self.slots.get_mut(place) {
                    slot.connection.shorten_idle(self.core.shared.drain_idle);
                    let deadline = slot.deadline();
                    self.timers.arm(place, deadline, self.core.now);
                }
            }
        }
    }

    fn take_mail(&mut self) {
        let mut mail = std::mem::take(&mut self.mail);
        self.core.shared.mailboxes.take(self.core.io, &mut mail);
        for (token, answer) in mail.drain(..) {
            let place = token.slot as usize;
            let slot = self.slots.get_mut(place);
            if slot.is_some_and(|slot| self.core.resume(slot, token, answer)) {
                self.turn(place);
            } else {
                self.core.stats().stale_answers.add(1);
            }
        }
        self.mail = mail;
        for accepted in self.handovers() {
            self.open(accepted.stream, accepted.peer, Ok(accepted.permit));
        }
    }

    /// Connections that the first thread has given to this one.
    fn handovers(&self) -> Vec<Accepted> {
        let handovers = &self.core.shared.handovers[self.core.io];
        let mut handovers = handovers.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *handovers)
    }

    fn accept(&mut self) {
        let Some(mut acceptor) = self.acceptor.take() else {
            return;
        };
        let now = self.core.now;
        if acceptor.is_ready(now) {
            let busy = self.busy_answer();
            for _ in 0..ACCEPTS_PER_ROUND {
                let Some((stream, peer)) = acceptor.accept(now, self.core.stats(), &busy) else {
                    break;
                };
                self.admit(stream, peer, &busy);
            }
        }
        let control = &self.core.shared.control;
        let stopping = !control.accepting.load(Ordering::SeqCst);
        if stopping && !acceptor.is_ready(now) {
            drop(acceptor);
            control.accept_done.store(true, Ordering::SeqCst);
            control.ring_all();
        } else {
            self.acceptor = Some(acceptor);
        }
    }

    /// What can be sent to a peer for whom there is neither a place nor a file; with TLS
    /// nothing can.
    fn busy_answer(&mut self) -> Vec<u8> {
        if self.core.shared.tls.is_some() {
            return Vec::new();
        }
        let mut response = Refusal::TooManyConnections.response();
        response.request_id = Some(self.core.ids.make());
        let mut busy = Vec::new();
        let heads = &mut self.core.heads;
        match heads.write(&mut busy, &response, Persistence::Close) {
            Ok(()) => busy.extend_from_slice(response.body.as_slice()),
            Err(bad_header) => log::error!("a 503 cannot be sent: {bad_header}"),
        }
        busy
    }

    fn admit(&mut self, stream: TcpStream, peer: IpAddr, busy: &[u8]) {
        match self.core.shared.admission.admit(peer) {
            Ok(permit) => {
                let threads = &self.core.shared.stats.threads;
                let fewest = (0..threads.len()).min_by_key(|&io| threads[io].connections.get());
                let io = fewest.expect("there is at least one I/O thread");
                threads[io].connections.add(1);
                if io == self.core.io {
                    self.open(stream, peer, Ok(permit));
                } else {
                    self.hand_over(
                        io,
                        Accepted {
                            stream,
                            peer,
                            permit,
                        },
                    );
                }
            }
            Err(refusal) if self.refusing < REFUSING_MAX => {
                self.refusing += 1;
                self.open(stream, peer, Err(refusal));
            }
            Err(refusal) => {
                self.core.stats().refused[refusal.index()].add(1);
                self.core.stats().dropped.add(1);
                turn_away(stream, busy);
            }
        }
    }

    fn hand_over(&self, io: usize, accepted: Accepted) {
        let handovers = &self.core.shared.handovers[io];
        handovers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(accepted);
        self.core.shared.control.wakers[io].wake();
    }

    /// Takes a connection that was counted, or one that is to be refused.
    fn open(
        &mut self,
        stream: TcpStream,
        peer: IpAddr,
        permit: Result<super::admission::Permit, Refusal>,
    ) {
        // Answers leave at once (RFC 1122 §4.2.3.4 holds back small segments);
        // an error means that the peer has gone, which reading will tell.
        let _ = stream.set_nodelay(true);
        let limits = Arc::clone(&self.core.shared.limits);
        let now = self.core.now;
        let (mut connection, permit, refusal) = match permit {
            Ok(permit) => (Connection::new(peer, limits, now), Some(permit), None),
            Err(refusal) => (Connection::refused(peer, limits, now), None, Some(refusal)),
        };
        if self.core.draining {
            connection.shorten_idle(self.core.shared.drain_idle);
        }
        let shared = &self.core.shared;
        let session = shared.tls.as_ref().map(|tls| {
            connection.set_secure();
            tls.session(now, shared.limits.head_timeout)
        });
        let mut slot = Slot {
            connection,
            socket: Socket::new(stream, session),
            parked: None,
            request_id: None,
            readable: false,
            writable: true,
            read_closed: false,
            again: false,
            held: 0,
            permit,
        };
        if let Some(refusal) = refusal {
            self.core.refuse(&mut slot, refusal);
        }
        let place = self.slots.insert(slot);
        let slot = self.slots.get_mut(place).expect("inserted just now");
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        if let Err(error) = registry.register(slot.socket.source(), mio::Token(place), interest) {
            log::error!("a connection cannot be watched: {error}");
            self.remove(place);
            return;
        }
        self.turn(place);
    }

    fn expire(&mut self) {
        while let Some(place) = self.timers.pop(self.core.now) {
            let Some(slot) = self.slots.get_mut(place) else {
                continue;
            };
            let stats = self.core.stats();
            if slot
                .socket
                .handshake_by()
                .is_some_and(|at| at <= self.core.now)
            {
                stats.handshakes_failed.add(1);
                self.remove(place);
                continue;
            }
            let expired = slot.connection.expire(self.core.now);
            match expired {
                Some(Expired::Idle) => stats.idle_closed.add(1),
                Some(Expired::Write) => stats.write_timeouts.add(1),
                Some(Expired::Head | Expired::Body | Expired::Linger) | None => {}
            }
            if slot.connection.is_closed() {
                self.remove(place);
            } else if expired.is_some() {
                self.turn(place);
            } else {
                let deadline = slot.deadline();
                self.timers.arm(place, deadline, self.core.now);
            }
        }
    }

    /// Whether the thread is to end now, and how many connections that cuts.
    fn ended(&mut self) -> Option<usize> {
        let stop_at = self.stop_at()?;
        let control = &self.core.shared.control;
        let over = self.core.now >= stop_at;
        let all_here = control.accept_done.load(Ordering::SeqCst) && self.handovers_empty();
        let done = all_here && self.slots.len() == 0;
        if !over && !done {
            return None;
        }
        let cut = self.slots.len();
        for place in self.slots.taken() {
            self.remove(place);
        }
        Some(cut)
    }

    fn handovers_empty(&self) -> bool {
        let handovers = &self.core.shared.handovers[self.core.io];
        let handovers = handovers.lock().unwrap_or_else(PoisonError::into_inner);
        handovers.is_empty()
    }
}
