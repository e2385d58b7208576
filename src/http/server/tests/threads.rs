//! Wake-ups of the I/O threads, and their death.

use super::harness::{Front, TIMEOUT, TestHandler};
use crate::clock::Clock;
use crate::http::mailbox::Mailboxes;
use crate::http::server::{Server, Settings};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

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
    let (handler, _events) = TestHandler::new();
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
