//! A small handler behind a real [`Server`], and a client that sends bytes as given.

use crate::app::RequestHandle;
use crate::budget::{Account, Division, Hold, Ledger, PeerKey, Purpose};
use crate::clock::Clock;
use crate::http::listener;
use crate::http::mailbox::Mailboxes;
use crate::http::message::{Body, Limits, Request, Response};
use crate::http::server::{Handled, Handler, Part, Server, Settings, Shutdown};
use socket2::{Domain, SockRef, Socket, Type};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant, SystemTime};

/// How long a test waits for what it expects.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

/// The length of the body of `/owned`.
pub(super) const OWNED_BYTES: usize = 16 * 1024 * 1024;

/// What the handler reports to the test.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HandlerEvent {
    Parked(RequestHandle),
    Abandoned(RequestHandle),
    /// A request for this path, one of `/hold` and below, is served.
    Served(String),
}

/// The time, and what `/tick` has added to it.
#[derive(Debug, Default)]
pub(super) struct TestClock {
    added_ms: AtomicU64,
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.added_ms.load(Ordering::SeqCst))
    }

    fn wall_now(&self) -> SystemTime {
        SystemTime::now()
    }
}

pub(super) struct TestHandler {
    reporter: Mutex<Sender<HandlerEvent>>,
    ledger: Arc<Ledger>,
    clock: Arc<TestClock>,
    /// `/hold` blocks its thread until the test is here, too.
    hold: Arc<Barrier>,
}

impl TestHandler {
    pub(super) fn new(ledger: Arc<Ledger>) -> (Self, Receiver<HandlerEvent>) {
        let (reporter, events) = channel();
        let handler = Self {
            reporter: Mutex::new(reporter),
            ledger,
            clock: Arc::default(),
            hold: Arc::new(Barrier::new(2)),
        };
        (handler, events)
    }

    fn report(&self, event: HandlerEvent) {
        // A test that has ended no longer receives.
        let _ = self.reporter.lock().unwrap().send(event);
    }
}

impl Handler for TestHandler {
    type AppResponse = &'static str;
    type Pending = (String, Hold);

    fn handle(&self, request: Request, handle: RequestHandle) -> Handled<Self::Pending> {
        match request.path.as_str() {
            path @ ("/hold" | "/tick" | "/other") => {
                self.report(HandlerEvent::Served(path.to_owned()));
                if path == "/hold" {
                    self.hold.wait();
                }
                self.clock.added_ms.fetch_add(1, Ordering::SeqCst);
                Handled::Reply(Response::empty(200))
            }
            "/park" => {
                let account = Account::Peer(PeerKey::of(request.peer));
                let bytes = request.parked_bytes();
                match self.ledger.hold(account, Purpose::Start, bytes) {
                    Ok(hold) => {
                        self.report(HandlerEvent::Parked(handle));
                        Handled::Parked((request.query.unwrap_or_default(), hold))
                    }
                    Err(full) => Handled::Refused(full.into()),
                }
            }
            "/stream" => {
                let account = Account::Peer(PeerKey::of(request.peer));
                let hold = self.ledger.hold(account, Purpose::Start, 0).unwrap();
                self.report(HandlerEvent::Parked(handle));
                Handled::Streams((request.query.unwrap_or_default(), hold))
            }
            "/panic" => panic!("a requested panic"),
            "/bad" => Handled::Reply(Response::empty(200).header("x", "a\r\nb: c")),
            "/secure" => Handled::Reply(Response::json(200, request.secure.to_string())),
            "/echo" => Handled::Reply(Response::json(200, request.body)),
            "/large" => {
                let body = Body::Static(vec![b'x'; 8 * 1024 * 1024].leak());
                Handled::Reply(Response::with_type(200, "text/plain", body))
            }
            "/owned" => {
                // More than the buffers of a socket take.
                let body = Body::Owned(vec![b'x'; OWNED_BYTES]);
                Handled::Reply(Response::with_type(200, "text/plain", body))
            }
            path => Handled::Reply(Response::json(200, format!("\"{path}\""))),
        }
    }

    fn resume(
        &self,
        (pending, hold): (String, Hold),
        response: &'static str,
    ) -> Handled<Self::Pending> {
        assert!(response != "panic", "a requested panic");
        if let Some(part) = response.strip_prefix("part ") {
            return Handled::Streams((pending + part, hold));
        }
        Handled::Reply(Response::json(200, format!("{pending} {response}")))
    }

    /// `begin`, parts and `end`, each up to a semicolon; `all` is one that never ends.
    fn pull(&self, (left, _): &mut Self::Pending, is_draining: bool, room: usize) -> Part {
        let mut part = Part::default();
        if let Some((next, rest)) = left.split_once(';') {
            match next {
                "begin" => part.begins = Some(Response::empty(200).header("x", "y")),
                "bad" => part.begins = Some(Response::empty(200).header("x", "\r\n")),
                "end" => part.is_last = true,
                "panic" => panic!("a requested panic"),
                "all" => {
                    part.bytes = Body::Owned(vec![b'x'; room]);
                    return part;
                }
                next => part.bytes = Body::Owned(next.as_bytes().to_vec()),
            }
            *left = rest.to_owned();
        }
        part.is_last |= is_draining;
        part
    }

    fn abandon(&self, handle: RequestHandle, _: Option<Self::Pending>) {
        self.report(HandlerEvent::Abandoned(handle));
    }
}

/// A running front.
pub(super) struct Front {
    server: Option<Server>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) hold: Arc<Barrier>,
    pub(super) mailboxes: Arc<Mailboxes<&'static str>>,
    pub(super) events: Receiver<HandlerEvent>,
    pub(super) address: SocketAddr,
}

impl Front {
    pub(super) fn start() -> Self {
        Self::with(|_| {})
    }

    /// With other limits.
    pub(super) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        Self::with_settings(|settings| change(&mut settings.limits))
    }

    pub(super) fn with_settings(change: impl FnOnce(&mut Settings)) -> Self {
        let mailboxes = Arc::new(Mailboxes::new(2));
        let mut settings = Settings::default();
        change(&mut settings);
        let ledger = Arc::clone(&settings.ledger);
        let (handler, events) = TestHandler::new(Arc::clone(&ledger));
        let (clock, hold) = (Arc::clone(&handler.clock), Arc::clone(&handler.hold));
        let server = Server::start(
            listener::listen(Ipv4Addr::LOCALHOST.into(), 0).unwrap(),
            Arc::new(handler),
            Arc::clone(&mailboxes),
            settings,
            clock,
            Arc::new(|cause: &str| panic!("{cause}")),
        )
        .unwrap();
        Self {
            address: server.address(),
            server: Some(server),
            ledger,
            hold,
            mailboxes,
            events,
        }
    }

    /// With so many bytes for requests and responses, all of which one peer may hold.
    pub(super) fn with_bytes(max: usize, change: impl FnOnce(&mut Limits)) -> Self {
        Self::with_settings(|settings| {
            settings.ledger = Ledger::of_bytes(max, Division::UNLIMITED);
            change(&mut settings.limits);
        })
    }

    /// The bytes that are charged now.
    pub(super) fn held(&self) -> usize {
        self.ledger.budget().used()
    }

    pub(super) fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub(super) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    pub(super) fn connect_narrow(&self) -> Client {
        Client::connect_narrow(self.address)
    }

    /// Charges all callers together for so many bytes.
    pub(super) fn fill(&self, bytes: usize) -> Hold {
        let account = Account::Token("others".into());
        let hold = self.ledger.hold(account, Purpose::Transfer, bytes);
        hold.unwrap()
    }

    /// Waits until the handler reports something.
    pub(super) fn next_event(&self) -> HandlerEvent {
        self.events.recv_timeout(TIMEOUT).unwrap()
    }

    pub(super) fn next_parked(&self) -> RequestHandle {
        match self.next_event() {
            HandlerEvent::Parked(handle) => handle,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until `holds`.
    pub(super) fn until(&self, what: &str, holds: impl Fn(&Server) -> bool) {
        let started = Instant::now();
        while !holds(self.server()) {
            assert!(started.elapsed() < TIMEOUT, "not seen in time: {what}");
            std::thread::yield_now();
        }
    }

    pub(super) fn shutdown(mut self, timeout: Duration) -> Shutdown {
        let server = self.server.take().unwrap();
        server.shutdown(Instant::now() + timeout)
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            let _ = server.shutdown(Instant::now());
        }
    }
}

/// A response as received.
#[derive(Debug)]
pub(super) struct ClientResponse {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl ClientResponse {
    pub(super) fn closes(&self) -> bool {
        self.head.contains("\r\nConnection: close\r\n")
    }
}

/// A client that sends what the test passes, byte for byte.
pub(super) struct Client<S = TcpStream> {
    pub(super) stream: S,
    unread: Vec<u8>,
}

impl Client {
    pub(super) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self::over(stream)
    }

    /// With a small buffer for what arrives, so that the rest stays with the server's kernel.
    pub(super) fn connect_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(2 * 1024).unwrap();
        socket.connect(&address.into()).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
        socket.set_read_timeout(Some(TIMEOUT)).unwrap();
        Self::over(socket.into())
    }

    /// Enlarges that buffer.
    pub(super) fn widen(&self) {
        let socket = SockRef::from(&self.stream);
        socket.set_recv_buffer_size(1024 * 1024).unwrap();
    }
}

impl<S: Read + Write> Client<S> {
    pub(super) fn over(stream: S) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    pub(super) fn send(&mut self, text: &str) -> &mut Self {
        self.stream.write_all(text.as_bytes()).unwrap();
        self
    }

    pub(super) fn get(&mut self, target: &str) -> &mut Self {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    /// The next response.
    pub(super) fn read(&mut self) -> ClientResponse {
        let end = loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(self.fill(), "closed within a head: {:?}", self.unread);
        };
        let head = String::from_utf8(self.unread.drain(..end).collect()).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .map_or(0, |length| length.parse().unwrap());
        while self.unread.len() < length {
            assert!(self.fill(), "closed within a body of {length} bytes");
        }
        let body = String::from_utf8(self.unread.drain(..length).collect()).unwrap();
        ClientResponse {
            status: head[9..12].parse().unwrap(),
            head,
            body,
        }
    }

    /// The next response, after which the connection ends.
    pub(super) fn read_last(&mut self) -> ClientResponse {
        let response = self.read();
        assert!(response.closes(), "{response:?}");
        self.expect_end();
        response
    }

    /// Checks that this comes next.
    #[track_caller]
    pub(super) fn expect(&mut self, text: &str) {
        while self.unread.len() < text.len() {
            assert!(self.fill(), "only {:?}", self.unread);
        }
        let next: Vec<u8> = self.unread.drain(..text.len()).collect();
        assert_eq!(String::from_utf8_lossy(&next), text);
    }

    /// Checks that nothing more arrives, and that the server has closed its side.
    pub(super) fn expect_end(&mut self) {
        assert!(self.unread.is_empty(), "{:?}", self.unread);
        assert!(!self.fill(), "{:?}", self.unread);
    }

    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer).unwrap();
        self.unread.extend_from_slice(&buffer[..count]);
        count > 0
    }
}
