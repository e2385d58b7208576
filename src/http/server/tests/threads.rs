//! Wake-ups of the I/O threads, their heartbeats, and their death.

use super::harness::{Client, Front, HandlerEvent, TIMEOUT, TestHandler};
use crate::app::RequestHandle;
use crate::clock::Clock;
use crate::health::{self, HealthInputs};
use crate::http::mailbox::Mailboxes;
use crate::http::message::{Request, Response};
use crate::http::server::{Handled, Handler, Part, Server, Settings};
use crate::threads::Heartbeats;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

#[test]
fn immediate_responses_need_no_wake_up() {
    let front = Front::start();
    let mut client = front.connect();
    for _ in 0..100 {
        assert_eq!(client.get("/").read().status, 200);
    }
    let wakers = front.mailboxes.wakers.iter();
    let wakes = wakers.map(|waker| waker.wakes.load(Ordering::Relaxed));
    assert_eq!(wakes.sum::<u64>(), 0);
}

/// A clock that panics, so that the threads that read it die.
#[derive(Debug, Default)]
struct Breaking {
    broken: AtomicBool,
}

impl Clock for Breaking {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall_now(&self) -> SystemTime {
        assert!(!self.broken.load(Ordering::SeqCst), "as the test asked");
        SystemTime::now()
    }
}

#[test]
fn the_death_of_a_thread_is_reported() {
    let (handler, _events) = TestHandler::new(Settings::default().ledger);
    let clock = Arc::new(Breaking::default());
    let (reporter, deaths) = channel();
    let reporter = Mutex::new(reporter);
    let server = Server::start(
        TcpListener::bind("127.0.0.1:0").unwrap(),
        Arc::new(handler),
        Arc::new(Mailboxes::new(2)),
        Settings::default(),
        Arc::clone(&clock) as Arc<dyn Clock>,
        Arc::new(move |cause: &str| reporter.lock().unwrap().send(cause.to_owned()).unwrap()),
    )
    .unwrap();
    clock.broken.store(true, Ordering::SeqCst);
    let mut causes = [(); 2].map(|()| deaths.recv_timeout(TIMEOUT).unwrap());
    causes.sort();
    assert_eq!(causes, ["thread http-0 panicked", "thread http-1 panicked"]);
    let shutdown = server.shutdown(Instant::now());
    assert_eq!(shutdown.stuck_threads, 0);
}

/// A clock that a test moves forward.
#[derive(Debug, Default)]
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn wall_now(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A handler that blocks at `/block`, and at any other path is the liveness probe.
struct Blocking {
    heartbeats: Heartbeats,
    clock: Arc<Ahead>,
    /// Gets the thread that is about to block.
    blocked: Mutex<Sender<u32>>,
    release: Mutex<Receiver<()>>,
}

impl Handler for Blocking {
    type AppResponse = ();
    type Pending = ();

    fn handle(&self, request: Request, handle: RequestHandle) -> Handled<()> {
        if request.path == "/block" {
            self.blocked.lock().unwrap().send(handle.io).unwrap();
            self.release.lock().unwrap().recv().unwrap();
        }
        let inputs = HealthInputs {
            stuck: self.heartbeats.stuck(self.clock.now()),
            ..HealthInputs::default()
        };
        Handled::Reply(match health::live(&inputs) {
            Ok(()) => Response::json(200, "{}"),
            Err(error) => Response::json(503, error.message),
        })
    }

    fn resume(&self, (): (), (): ()) -> Handled<()> {
        unreachable!("no request waits")
    }

    fn pull(&self, (): &mut (), _: bool, _: usize) -> Part {
        Part::default()
    }

    fn abandon(&self, _: RequestHandle, _: Option<()>) {}
}

#[test]
fn a_stuck_thread_fails_the_liveness_probe_of_another() {
    let (heartbeats, clock) = (Heartbeats::default(), Arc::new(Ahead::default()));
    let (blocked, is_blocked) = channel();
    let (release, released) = channel();
    let handler = Blocking {
        heartbeats: heartbeats.clone(),
        clock: Arc::clone(&clock),
        blocked: Mutex::new(blocked),
        release: Mutex::new(released),
    };
    let server = Server::start(
        TcpListener::bind("127.0.0.1:0").unwrap(),
        Arc::new(handler),
        Arc::new(Mailboxes::new(2)),
        Settings {
            heartbeats,
            ..Settings::default()
        },
        Arc::clone(&clock) as Arc<dyn Clock>,
        Arc::new(|cause: &str| panic!("{cause}")),
    )
    .unwrap();
    // One connection for each thread.
    let mut clients = [(); 2].map(|()| Client::connect(server.address()));
    for client in &mut clients {
        assert_eq!(client.get("/livez").read().status, 200);
    }
    let [victim, other] = &mut clients;
    victim.get("/block");
    let thread = is_blocked.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(other.get("/livez").read().status, 200, "it is not yet late");
    clock.0.store(31, Ordering::SeqCst);
    let response = other.get("/livez").read();
    assert_eq!(
        (response.status, response.body),
        (
            503,
            format!("thread \"http-{thread}\" has not responded for 31 s")
        )
    );
    release.send(()).unwrap();
    // It measures before its next round.
    assert_eq!(victim.read().status, 503);
    let began = Instant::now();
    while other.get("/livez").read().status != 200 {
        assert!(began.elapsed() < TIMEOUT, "it stays stuck");
    }
    drop(clients);
    let shutdown = server.shutdown(clock.now());
    assert_eq!(shutdown.stuck_threads, 0);
}

#[test]
fn a_turn_is_bounded_in_time() {
    let front = Front::start();
    let mut clients = [front.connect(), front.connect(), front.connect()];
    for client in &mut clients {
        assert_eq!(client.get("/").read().status, 200);
    }
    let [mut first, _second, mut third] = clients;
    // The first and the third are on the same thread, which has no turn for the third before the
    // first request of the first ends.
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n");
    first.send(&(get("/hold") + &get("/tick").repeat(5)));
    let served = || match front.next_event() {
        HandlerEvent::Served(path) => path,
        other => panic!("{other:?}"),
    };
    assert_eq!(served(), "/hold");
    third.send(&get("/other"));
    front.hold.wait();
    let order: Vec<String> = (0..6).map(|_| served()).collect();
    let ticks = order.iter().take_while(|path| *path == "/tick").count();
    assert!(ticks <= 2, "a turn went on for {ticks} ms: {order:?}");
    for client in [&mut first, &mut third] {
        assert_eq!(client.read().status, 200);
    }
}
