//! The socket front: a std `TcpListener` on a free port with a thread for each connection, and the
//! thread that runs the controllers. Watches are chunked streams.
//!
//! What may not live here: any knowledge of objects (`cluster`), of the meaning of paths (`api`),
//! of when faults occur (`faults`). Faults of the connection are only carried out here.

pub(crate) mod tls;
mod wire;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::json;

use super::api::{Model, Outcome, Reply, Request, Response, Watch};
use super::clock;
use super::cluster::read::WatchEvent;
use super::cluster::status;
use super::faults::Fault;
use super::logs::LogStream;
use tls::Tls;
use wire::Incoming;

/// How often an idle watch checks whether its client is still connected.
const WATCH_LOOK: Duration = Duration::from_millis(50);

/// How long before the end of a watch its last bookmark is sent.
const BOOKMARK_BEFORE_END: Duration = Duration::from_secs(2);

/// How long it may take to reach our own port.
const WAKE_MAX: Duration = Duration::from_secs(1);

/// The longest sleep of the thread that runs the controllers.
const RUNNER_SLEEP: Duration = Duration::from_secs(1);

/// The model, shared by all threads, and the signal that wakes them after changes.
#[derive(Debug)]
pub(crate) struct Shared {
    model: Mutex<Model>,
    changed: Condvar,
    alive: AtomicBool,
    /// Whether the controllers run automatically.
    pub(crate) auto: AtomicBool,
    /// The interval between two bookmarks, in milliseconds.
    pub(crate) bookmark_ms: AtomicU64,
    /// How many dry runs are in flight.
    dry_runs: AtomicUsize,
    /// The most that were at the same time.
    pub(crate) most_dry_runs: AtomicUsize,
}

impl Shared {
    /// Puts a model behind a lock.
    pub(crate) fn new(model: Model, auto: bool, bookmark_every: Duration) -> Arc<Self> {
        let millis = u64::try_from(bookmark_every.as_millis()).unwrap_or(u64::MAX);
        Arc::new(Self {
            model: Mutex::new(model),
            changed: Condvar::new(),
            alive: AtomicBool::new(true),
            auto: AtomicBool::new(auto),
            bookmark_ms: AtomicU64::new(millis),
            dry_runs: AtomicUsize::new(0),
            most_dry_runs: AtomicUsize::new(0),
        })
    }

    /// The model, for reading.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Model> {
        // Ignores poisoning, so that the message of a test that failed while it held the
        // lock is not hidden by those of all others.
        self.model
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes the model and wakes all waiting threads.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Model) -> T) -> T {
        let result = act(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits for the next change, at most this long.
    pub(crate) fn wait<'a>(
        &self,
        guard: MutexGuard<'a, Model>,
        longest: Duration,
    ) -> MutexGuard<'a, Model> {
        self.changed
            .wait_timeout(guard, longest)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(guard, _)| guard)
    }

    /// Runs the controllers until the fake is dropped.
    fn run_controllers(&self) {
        let mut model = self.lock();
        while self.alive.load(Ordering::SeqCst) {
            if self.auto.load(Ordering::SeqCst) {
                let Model {
                    cluster, dynamics, ..
                } = &mut *model;
                let before = cluster.revision();
                dynamics.settle(cluster);
                if cluster.revision() != before {
                    self.changed.notify_all();
                }
            }
            let now = model.cluster.clock().now_ms();
            let due = model.dynamics.next_due_ms().map(|due| (due - now).max(1));
            let sleep = due.map_or(RUNNER_SLEEP, |ms| {
                Duration::from_millis(u64::try_from(ms).unwrap_or(1))
            });
            model = self.wait(model, sleep.min(RUNNER_SLEEP));
        }
    }
}

/// The listening side.
#[derive(Debug)]
pub(crate) struct Server {
    shared: Arc<Shared>,
    tls: Option<Tls>,
    address: SocketAddr,
    listening: Mutex<Option<Listening>>,
    runner: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Listening {
    stop: Arc<AtomicBool>,
    accepting: JoinHandle<()>,
    connections: Arc<Connections>,
}

/// The sockets that are open, so that they can be closed from outside.
#[derive(Debug, Default)]
struct Connections {
    next: AtomicU64,
    open: Mutex<HashMap<u64, TcpStream>>,
}

impl Connections {
    fn enter(&self, socket: &TcpStream) -> io::Result<u64> {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let copy = socket.try_clone()?;
        self.map().insert(id, copy);
        Ok(id)
    }

    fn map(&self) -> MutexGuard<'_, HashMap<u64, TcpStream>> {
        self.open
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn close_all(&self) {
        for (_, socket) in self.map().drain() {
            // The peer may have closed it already, which is the goal.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Server {
    /// Listens on a free port of 127.0.0.1 (or on the one given) and runs the
    /// controllers.
    pub(crate) fn start(shared: Arc<Shared>, tls: Option<Tls>, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let address = listener.local_addr()?;
        let for_runner = Arc::clone(&shared);
        let runner = std::thread::Builder::new()
            .name("fake-controllers".to_owned())
            .spawn(move || for_runner.run_controllers())?;
        let server = Self {
            shared,
            tls,
            address,
            listening: Mutex::new(None),
            runner: Some(runner),
        };
        server.listen_on(listener)?;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificates, if it uses TLS.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Listening>> {
        self.listening
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn listen_on(&self, listener: TcpListener) -> io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        let connections = Arc::new(Connections::default());
        let front = Front {
            shared: Arc::clone(&self.shared),
            tls: self.tls.clone(),
            stop: Arc::clone(&stop),
            connections: Arc::clone(&connections),
        };
        let accepting = std::thread::Builder::new()
            .name("fake-accept".to_owned())
            .spawn(move || front.accept(&listener))?;
        *self.slot() = Some(Listening {
            stop,
            accepting,
            connections,
        });
        Ok(())
    }

    /// Simulates an outage: the port refuses connections, and open ones are cut.
    /// Stored objects stay.
    pub(crate) fn stop(&self) {
        let Some(listening) = self.slot().take() else {
            return;
        };
        listening.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread; refused means that it is gone already. While the machine cannot
        // reach itself (its loopback interface is down), nothing wakes it, so nobody waits for it.
        let woken = TcpStream::connect_timeout(&self.address, WAKE_MAX);
        let refused = |error: &io::Error| error.kind() == ErrorKind::ConnectionRefused;
        if woken.as_ref().err().is_none_or(refused) {
            let _ = listening.accepting.join();
        }
        listening.connections.close_all();
    }

    /// Listens again, on the same port.
    pub(crate) fn restart(&self) -> io::Result<()> {
        self.stop();
        self.listen_on(TcpListener::bind(self.address)?)
    }

    /// Cuts all connections; new ones are accepted.
    pub(crate) fn cut_connections(&self) {
        if let Some(listening) = &*self.slot() {
            listening.connections.close_all();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
        // Under the lock, or the runner could miss it between its look at the
        // flag and its sleep.
        let shared = Arc::clone(&self.shared);
        self.shared
            .with(|_| shared.alive.store(false, Ordering::SeqCst));
        if let Some(runner) = self.runner.take() {
            let _ = runner.join();
        }
    }
}

/// The context of a connection's thread.
#[derive(Clone)]
struct Front {
    shared: Arc<Shared>,
    tls: Option<Tls>,
    stop: Arc<AtomicBool>,
    connections: Arc<Connections>,
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

impl Front {
    fn accept(&self, listener: &TcpListener) {
        for socket in listener.incoming() {
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let Ok(socket) = socket else { continue };
            let front = self.clone();
            // No thread is available: the client sees a closed connection.
            let _ = std::thread::Builder::new()
                .name("fake-connection".to_owned())
                .spawn(move || front.connection(socket));
        }
    }

    fn connection(&self, socket: TcpStream) {
        let Ok(id) = self.connections.enter(&socket) else {
            return;
        };
        if self.stop.load(Ordering::SeqCst) {
            self.connections.close_all();
        }
        // An error here means that the client has closed the connection.
        let _ = self.converse(socket);
        if let Some(socket) = self.connections.map().remove(&id) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn converse(&self, socket: TcpStream) -> io::Result<()> {
        socket.set_nodelay(true)?;
        let probe = socket.try_clone()?;
        let mut has_certificate = false;
        let mut stream: Box<dyn Duplex> = match &self.tls {
            None => Box::new(socket),
            Some(tls) => {
                let secured = tls.accept(socket)?;
                has_certificate = secured.conn.peer_certificates().is_some();
                Box::new(secured)
            }
        };
        let mut pending = Vec::new();
        loop {
            match wire::read_request(&mut stream, &mut pending)? {
                Incoming::Closed => return Ok(()),
                Incoming::Broken(code) => {
                    let mut body = json!({"kind": "Status", "apiVersion": "v1", "code": code});
                    if code == 413 {
                        let why = format!("limit is {}", wire::BODY_BYTES_MAX);
                        body = status::too_large(&why).status;
                    }
                    let headers = Vec::new();
                    let response = Response {
                        code,
                        headers,
                        body,
                    };
                    return wire::write_response(&mut stream, &response, &self.date(), false);
                }
                Incoming::Request(mut request, keep_alive) => {
                    request.has_certificate = has_certificate;
                    if !self.respond(&mut stream, &probe, &request, keep_alive)? || !keep_alive {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The time, as in the header `Date`.
    fn date(&self) -> String {
        clock::date(self.shared.lock().cluster.clock().now_ms())
    }

    /// Responds to one request. False closes the connection.
    fn respond(
        &self,
        stream: &mut dyn Duplex,
        probe: &TcpStream,
        request: &Request,
        keep_alive: bool,
    ) -> io::Result<bool> {
        let mut stream = stream;
        let shared = &self.shared;
        let dry_run = usize::from(request.query("dryRun") == "All");
        let others = shared.dry_runs.fetch_add(dry_run, Ordering::SeqCst);
        shared
            .most_dry_runs
            .fetch_max(others + dry_run, Ordering::SeqCst);
        let Outcome { reply, faults } = shared.with(|model| model.handle(request));
        for fault in &faults {
            if let Fault::Delay(delay) = fault {
                std::thread::sleep(*delay);
            }
        }
        // Once its response is sent, the next may come before this thread goes on.
        shared.dry_runs.fetch_sub(dry_run, Ordering::SeqCst);
        match reply {
            Reply::Nothing => Ok(false),
            _ if faults.contains(&Fault::Endless) => {
                wire::write_endless(&mut stream, &self.date())?;
                Ok(false)
            }
            Reply::Response(response) => {
                wire::write_response(&mut stream, &response, &self.date(), keep_alive)?;
                Ok(true)
            }
            Reply::Log(None) => {
                let body = serde_json::Value::Null;
                let headers = Vec::new();
                let response = Response {
                    code: 204,
                    headers,
                    body,
                };
                wire::write_response(&mut stream, &response, &self.date(), keep_alive)?;
                Ok(true)
            }
            Reply::Log(Some(log)) => self.send_log(stream, probe, *log),
            Reply::Watch(watch) => {
                wire::write_watch_head(&mut stream, &self.date())?;
                let mut sender = WatchSender::new(stream, &faults);
                let ended = self.watch(&mut sender, probe, *watch)?;
                if ended {
                    wire::write_chunk(&mut sender.stream, b"")?;
                }
                Ok(ended)
            }
        }
    }

    /// Sends a log; before its first byte not even a head. True when it ended regularly.
    fn send_log(
        &self,
        mut stream: &mut dyn Duplex,
        probe: &TcpStream,
        mut log: LogStream,
    ) -> io::Result<bool> {
        let mut has_begun = false;
        loop {
            let mut model = self.shared.lock();
            let (mut bytes, mut is_last) = model.more_of(&mut log);
            if bytes.is_empty() && !is_last {
                model = self.shared.wait(model, WATCH_LOOK);
                (bytes, is_last) = model.more_of(&mut log);
            }
            drop(model);
            if !has_begun && (is_last || !bytes.is_empty()) {
                has_begun = true;
                wire::write_log_head(&mut stream, &self.date())?;
            }
            if !bytes.is_empty() {
                wire::write_chunk(&mut stream, &bytes)?;
            }
            if is_last {
                wire::write_chunk(&mut stream, b"")?;
                return Ok(true);
            }
            if self.stop.load(Ordering::SeqCst) || is_closed(probe) {
                return Ok(false);
            }
        }
    }

    /// Streams a watch. True when it ended regularly.
    fn watch(
        &self,
        sender: &mut WatchSender<'_>,
        probe: &TcpStream,
        mut watch: Watch,
    ) -> io::Result<bool> {
        let end = Instant::now() + Duration::from_secs(watch.timeout_secs);
        let mut last_sent = Instant::now();
        let mut sent_last = false;
        for event in std::mem::take(&mut watch.first) {
            if !sender.send(&event)? {
                return Ok(false);
            }
        }
        while Instant::now() < end {
            if self.stop.load(Ordering::SeqCst) || is_closed(probe) {
                return Ok(false);
            }
            let bookmark_every =
                Duration::from_millis(self.shared.bookmark_ms.load(Ordering::SeqCst));
            // One more just before the end, as in the real API server.
            let last_due = !sent_last && Instant::now() + BOOKMARK_BEFORE_END >= end;
            let bookmark_due =
                watch.bookmarks && (last_due || last_sent.elapsed() >= bookmark_every);
            sent_last |= last_due;
            let mut events = match self.next_events(&mut watch, end, bookmark_due) {
                Ok(events) => events,
                Err(last) => {
                    sender.send(&last)?;
                    return Ok(!sender.silent);
                }
            };
            if bookmark_due {
                events.push(WatchEvent::bookmark(watch.resource, watch.revision));
                last_sent = Instant::now();
            }
            for event in &events {
                if !sender.send(event)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The events since the last ones; waits a little if there are none. Err is
    /// the event that ends the watch.
    fn next_events(
        &self,
        watch: &mut Watch,
        end: Instant,
        at_once: bool,
    ) -> Result<Vec<WatchEvent>, WatchEvent> {
        let mut model = self.shared.lock();
        if model.cluster.revision() <= watch.revision && !at_once {
            let left = end.saturating_duration_since(Instant::now());
            model = self.shared.wait(model, WATCH_LOOK.min(left));
        }
        let mut events = model
            .cluster
            .watch_events(
                watch.resource,
                &watch.namespace,
                &watch.selector,
                watch.revision,
            )
            .map_err(|refusal| WatchEvent::error(&refusal))?;
        events.retain(|event| !model.lost.iter().any(|lost| lost.has(event)));
        watch.revision = watch.revision.max(model.cluster.revision());
        Ok(events)
    }
}

/// Whether the peer has closed. A client sends nothing during a watch, so
/// bytes can only be the end of a TLS session.
fn is_closed(probe: &TcpStream) -> bool {
    if probe.set_nonblocking(true).is_err() {
        return true;
    }
    let peeked = probe.peek(&mut [0_u8; 1]);
    let closed = !matches!(&peeked, Err(e) if e.kind() == ErrorKind::WouldBlock);
    probe.set_nonblocking(false).is_err() || closed
}

/// Sends the lines of a watch, with its faults.
struct WatchSender<'a> {
    stream: &'a mut dyn Duplex,
    silent: bool,
    split: bool,
    bytes_left: Option<usize>,
}

impl<'a> WatchSender<'a> {
    fn new(stream: &'a mut dyn Duplex, faults: &[Fault]) -> Self {
        Self {
            stream,
            silent: faults.contains(&Fault::SilentWatch),
            split: faults.contains(&Fault::SplitWatch),
            bytes_left: faults.iter().find_map(|fault| match fault {
                Fault::DropWatchAfter(bytes) => Some(*bytes),
                _ => None,
            }),
        }
    }

    /// False when the connection must be cut now.
    fn send(&mut self, event: &WatchEvent) -> io::Result<bool> {
        if self.silent {
            return Ok(true);
        }
        let line = event.line();
        let mut bytes = line.as_bytes();
        let mut goes_on = true;
        if let Some(left) = self.bytes_left.as_mut() {
            goes_on = *left > bytes.len();
            bytes = &bytes[..bytes.len().min(*left)];
            *left -= bytes.len();
        }
        let parts = if self.split {
            let (head, tail) = bytes.split_at(bytes.len() / 2);
            vec![head, tail]
        } else {
            vec![bytes]
        };
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            wire::write_chunk(&mut self.stream, part)?;
        }
        Ok(goes_on)
    }
}

/// The URL of an address.
pub(crate) fn url(address: SocketAddr, is_tls: bool) -> String {
    let scheme = if is_tls { "https" } else { "http" };
    match address.ip() {
        IpAddr::V4(ip) => format!("{scheme}://{ip}:{}", address.port()),
        IpAddr::V6(ip) => format!("{scheme}://[{ip}]:{}", address.port()),
    }
}
