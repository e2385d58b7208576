//! [`Server`]: the I/O threads, each with a poller and connections of its own.
//!
//! Sockets and threads live here; [`crate::http::connection`] decides what a connection may do, and
//! the [`Handler`] what a request means. The first thread accepts connections and passes each to
//! the thread that has the fewest. Back ends keep few connections for hours, so an uneven split (as
//! `SO_REUSEPORT` makes it) would stay. An I/O thread blocks on nothing but its poller, and
//! handlers must not block. Time comes from the given clock.

mod accept;
mod admission;
mod files;
mod io_thread;
mod slab;
mod socket;
mod stats;
mod streams;
mod timers;
mod turn;

pub use files::connections_possible;
pub use stats::{Counter, FrontStats, ThreadStats};
pub use streams::Part;

use crate::app::RequestHandle;
use crate::budget::{Division, Ledger, Memory};
use crate::clock::Clock;
use crate::http::mailbox::{Mailboxes, Waker};
use crate::http::message::{Limits, Refusal, Request, Response};
use crate::http::tls::Tls;
use crate::threads::{Heartbeats, OnDeath, lock};
use accept::{Accepted, Acceptor};
use admission::Admission;
use io_thread::IoThread;
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Handles requests. Its functions run on the I/O threads, so they must not block; a panic in one
/// is a 500 for that request only.
pub trait Handler: Send + Sync + 'static {
    /// The app's response to a waiting request, from any thread.
    type AppResponse: Send + 'static;
    /// What is kept of a request while it waits.
    type Pending: Send + 'static;

    /// Responds to a request, or parks it until [`Mailboxes::answer`] is called with `handle`.
    fn handle(&self, request: Request, handle: RequestHandle) -> Handled<Self::Pending>;

    /// Turns the app's response to a parked request into an HTTP response, or parks the request
    /// again, for another response to the same handle.
    fn resume(&self, pending: Self::Pending, response: Self::AppResponse)
    -> Handled<Self::Pending>;

    /// What there is of the stream that this request gets, of so many bytes as there is `room` for, at most
    /// [`PART_BYTES_MAX`]; few more, if less would be nothing. It is asked for when
    /// the part before has been sent, again until nothing comes, and then after
    /// [`Mailboxes::announce`], after a response to its handle, and at least every [`STREAM_PAUSE_MAX`].
    fn pull(&self, pending: &mut Self::Pending, is_draining: bool, room: usize) -> Part;

    /// The peer of this parked request has hung up; a response would be dropped. `pending` is what
    /// was kept of the request; `None` if the handler panicked, and the request may wait for anything.
    fn abandon(&self, handle: RequestHandle, pending: Option<Self::Pending>);
}

/// The result of a handler.
#[derive(Debug)]
pub enum Handled<P> {
    /// The response.
    Reply(Response),
    /// The request waits; no other request of this connection is begun before its response.
    /// What is kept of it must have been charged in the [`Ledger`].
    Parked(P),
    /// The response comes in parts ([`Handler::pull`]); else as `Parked`.
    Streams(P),
    /// Nothing was done; the server responds as it does to what it refuses itself.
    Refused(Refusal),
}

impl<P> Handled<P> {
    /// The same, with another form of what is kept of the request.
    pub fn map<Q>(self, form: impl FnOnce(P) -> Q) -> Handled<Q> {
        match self {
            Self::Reply(response) => Handled::Reply(response),
            Self::Parked(pending) => Handled::Parked(form(pending)),
            Self::Streams(pending) => Handled::Streams(form(pending)),
            Self::Refused(refusal) => Handled::Refused(refusal),
        }
    }
}

/// Bytes of one part of a stream: so much is held of it for a peer that reads slowly.
pub const PART_BYTES_MAX: usize = 16 * 1024;

/// A stream is asked for its next part at least this often, so that it can show that it is alive.
pub const STREAM_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Bytes that requests, until their response, and responses being sent may take by default
/// (`HELD_BYTES_MAX`).
pub const HELD_BYTES_MAX: usize = 24 * 1024 * 1024;

/// How the server runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// All bounds, but that on bytes of all connections.
    pub limits: Limits,
    /// Counts the bytes of requests, until their response, and of responses being sent.
    pub ledger: Arc<Ledger>,
    /// What connections share with the instances.
    pub memory: Arc<Memory>,
    /// While the server drains, idle connections are closed after this time, and not earlier: a
    /// client may be about to send on one.
    pub drain_idle: Duration,
    /// Certificate and key, if the port is HTTPS.
    pub tls: Option<Arc<Tls>>,
    /// Differs from process to process; request IDs are derived from it.
    pub id_seed: u64,
    /// Where the heartbeats of the I/O threads go.
    pub heartbeats: Heartbeats,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            ledger: Ledger::of_bytes(HELD_BYTES_MAX, Division::default()),
            memory: Arc::default(),
            drain_idle: Duration::from_secs(5),
            tls: None,
            id_seed: 0,
            heartbeats: Heartbeats::default(),
        }
    }
}

/// State shared by all I/O threads.
struct Shared<H: Handler> {
    handler: Arc<H>,
    mailboxes: Arc<Mailboxes<H::AppResponse>>,
    /// Connections on their way to the thread that will own them.
    handovers: Vec<Mutex<Vec<Accepted>>>,
    limits: Arc<Limits>,
    ledger: Arc<Ledger>,
    drain_idle: Duration,
    tls: Option<Arc<Tls>>,
    id_seed: u64,
    admission: Arc<Admission>,
    clock: Arc<dyn Clock>,
    stats: Arc<FrontStats>,
    control: Arc<Control>,
}

impl<H: Handler> Shared<H> {
    /// The connections on their way to this thread.
    fn handovers(&self, io: usize) -> MutexGuard<'_, Vec<Accepted>> {
        lock(&self.handovers[io])
    }
}

/// How the owner of the [`Server`] controls the threads.
#[derive(Debug, Default)]
struct Control {
    draining: AtomicBool,
    /// The listener is to be closed.
    closing: AtomicBool,
    /// The listener is closed, and all accepted connections were handed over.
    accept_done: AtomicBool,
    stop_at: Mutex<Option<Instant>>,
    /// How many threads have ended, and how many connections they cut.
    ended: Mutex<(usize, usize)>,
    one_ended: Condvar,
    wakers: Arc<[Waker]>,
}

impl Control {
    fn stop_at(&self) -> Option<Instant> {
        *lock(&self.stop_at)
    }

    fn wake_all(&self) {
        for waker in self.wakers.iter() {
            waker.wake();
        }
    }

    fn thread_ended(&self, cut: usize) {
        let mut ended = lock(&self.ended);
        ended.0 += 1;
        ended.1 += cut;
        self.one_ended.notify_all();
    }
}

/// How a shutdown went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// Connections that were still open at the deadline.
    pub cut: usize,
    /// Threads that did not end in time: a handler blocks.
    pub stuck_threads: usize,
}

/// The running server. Dropping it leaves the threads running; see
/// [`Server::shutdown`].
#[derive(Debug)]
pub struct Server {
    control: Arc<Control>,
    threads: Vec<JoinHandle<()>>,
    stats: Arc<FrontStats>,
    clock: Arc<dyn Clock>,
    address: SocketAddr,
}

impl Server {
    /// Starts the I/O threads, as many as there are mailboxes, named `http-0`
    /// and so on. Raises the limit of open files, and lowers the bounds on
    /// connections to what it allows.
    ///
    /// `on_death` is called with a message when an I/O thread ends before the shutdown; the process
    /// should then end.
    ///
    /// # Errors
    /// When the listener, a poller or a thread cannot be set up.
    pub fn start<H: Handler>(
        listener: TcpListener,
        handler: Arc<H>,
        mailboxes: Arc<Mailboxes<H::AppResponse>>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        on_death: OnDeath,
    ) -> std::io::Result<Self> {
        let address = listener.local_addr()?;
        let threads = mailboxes.io_threads();
        let mut limits = settings.limits;
        if let Some(room) = connections_possible() {
            if room < limits.connections {
                log::warn!(
                    "at most {room} connections, not CONNECTIONS_MAX: the limit of open files has no room for more"
                );
            }
            limits.fit(room);
        }
        let stats = Arc::new(FrontStats::new(threads));
        let control = Arc::new(Control {
            wakers: Arc::clone(&mailboxes.wakers),
            ..Control::default()
        });
        let shared = Arc::new(Shared {
            handler,
            mailboxes,
            handovers: (0..threads).map(|_| Mutex::default()).collect(),
            admission: Arc::new(Admission::new(&limits, settings.memory)),
            limits: Arc::new(limits),
            ledger: settings.ledger,
            drain_idle: settings.drain_idle,
            tls: settings.tls,
            id_seed: settings.id_seed,
            clock: Arc::clone(&clock),
            stats: Arc::clone(&stats),
            control: Arc::clone(&control),
        });
        let mut acceptor = Some(Acceptor::new(listener)?);
        let mut running = Vec::with_capacity(threads);
        for io in 0..threads {
            let heartbeat = (settings.heartbeats).register(&thread_name(io), clock.now());
            let thread = IoThread::new(io, Arc::clone(&shared), heartbeat, acceptor.take())?;
            let on_death = Arc::clone(&on_death);
            running.push(spawn(io, thread, Arc::clone(&control), on_death)?);
        }
        Ok(Self {
            control,
            threads: running,
            stats,
            clock,
            address,
        })
    }

    /// The address that is listened on.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Arc<FrontStats> {
        Arc::clone(&self.stats)
    }

    /// From now on each response carries `Connection: close` and ends its connection, and idle
    /// connections are closed after [`Settings::drain_idle`]. Connections are accepted and served
    /// as before.
    pub fn drain_begin(&self) {
        self.control.draining.store(true, Ordering::SeqCst);
        self.control.wake_all();
    }

    /// Closes the listener, after all connections in its backlog were accepted.
    pub fn stop_accepting(&self) {
        self.control.closing.store(true, Ordering::SeqCst);
        self.control.wake_all();
    }

    /// Drains, stops accepting, and waits for the threads. They end when no
    /// connection is left, or at `deadline`, when the remaining ones are cut.
    #[must_use]
    pub fn shutdown(self, deadline: Instant) -> Shutdown {
        self.drain_begin();
        self.stop_accepting();
        let control = &self.control;
        *lock(&control.stop_at) = Some(deadline);
        control.wake_all();
        // Joining a thread whose handler blocks would never return.
        let grace = Duration::from_secs(1);
        let timeout = deadline.saturating_duration_since(self.clock.now()) + grace;
        let all = self.threads.len();
        let (ended, _) = control
            .one_ended
            .wait_timeout_while(lock(&control.ended), timeout, |ended| ended.0 < all)
            .unwrap_or_else(PoisonError::into_inner);
        let (count, cut) = *ended;
        drop(ended);
        if count == all {
            for thread in self.threads {
                // Its panic, if any, was reported to `on_death`.
                let _ = thread.join();
            }
        }
        Shutdown {
            cut,
            stuck_threads: all - count,
        }
    }
}

fn thread_name(io: usize) -> String {
    format!("http-{io}")
}

fn spawn<H: Handler>(
    io: usize,
    mut thread: IoThread<H>,
    control: Arc<Control>,
    on_death: OnDeath,
) -> std::io::Result<JoinHandle<()>> {
    let name = thread_name(io);
    let builder = std::thread::Builder::new().name(name.clone());
    builder.spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(|| thread.run()));
        let (cut, cause) = match result {
            Ok(Ok(cut)) => (cut, None),
            Ok(Err(error)) => (0, Some(format!("thread {name} ended: {error}"))),
            Err(_) => (0, Some(format!("thread {name} panicked"))),
        };
        drop(thread);
        control.thread_ended(cut);
        if let Some(cause) = cause {
            on_death(&cause);
        }
    })
}

#[cfg(test)]
mod tests;
