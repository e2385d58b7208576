//! Shutdown: active connections are not cut off.

use super::harness::{Client, Front, HandlerEvent, TIMEOUT};
use std::net::TcpStream;
use std::time::{Duration, Instant};

fn with_drain_idle(millis: u64) -> Front {
    Front::with_settings(|settings| settings.drain_idle = Duration::from_millis(millis))
}

#[test]
fn while_draining_responses_end_their_connections_and_new_ones_are_served() {
    let front = with_drain_idle(60_000);
    let mut old = front.connect();
    assert!(!old.get("/").read().closes());
    front.server().drain_begin();
    assert_eq!(old.get("/").read_last().status, 200);
    let mut new = front.connect();
    assert_eq!(new.get("/").read_last().status, 200);
}

#[test]
fn parked_requests_are_answered_before_the_threads_exit() {
    let front = with_drain_idle(60_000);
    let mut client = front.connect();
    client.get("/park?x");
    let handle = front.next_parked();
    let mailboxes = std::sync::Arc::clone(&front.mailboxes);
    front.server().drain_begin();
    front.server().stop_accepting();
    let stopping = std::thread::spawn(move || front.shutdown(TIMEOUT));
    mailboxes.answer(handle, "last");
    assert_eq!(client.read_last().body, "x last");
    drop(client);
    let shutdown = stopping.join().unwrap();
    assert_eq!((shutdown.cut, shutdown.stuck_threads), (0, 0));
}

#[test]
fn an_idle_connection_is_closed_only_after_the_drain_idle_time() {
    let front = with_drain_idle(300);
    let mut client = front.connect();
    assert_eq!(client.get("/").read().status, 200);
    let silent_since = Instant::now();
    front.server().drain_begin();
    client.expect_end();
    assert!(silent_since.elapsed() >= Duration::from_millis(250));
    let shutdown = front.shutdown(TIMEOUT);
    assert_eq!((shutdown.cut, shutdown.stuck_threads), (0, 0));
}

#[test]
fn after_stop_accepting_connections_are_refused() {
    let front = with_drain_idle(60_000);
    let mut old = front.connect();
    assert_eq!(old.get("/").read().status, 200);
    front.server().stop_accepting();
    let started = Instant::now();
    while TcpStream::connect(front.address).is_ok() {
        assert!(started.elapsed() < TIMEOUT, "it continues to accept");
    }
    assert_eq!(
        old.get("/").read().status,
        200,
        "the open connection is still served"
    );
}

#[test]
fn the_deadline_cuts_remaining_connections_and_abandons_their_requests() {
    let front = with_drain_idle(60_000);
    let mut parked = Client::connect(front.address);
    parked.get("/park");
    let handle = front.next_parked();
    let address = front.address;
    let server_side = {
        let mut front = front;
        let events = std::mem::replace(&mut front.events, std::sync::mpsc::channel().1);
        (front.shutdown(Duration::from_millis(50)), events)
    };
    let (shutdown, events) = server_side;
    assert_eq!((shutdown.cut, shutdown.stuck_threads), (1, 0));
    let abandoned = events.recv_timeout(TIMEOUT).unwrap();
    assert_eq!(abandoned, HandlerEvent::Abandoned(handle));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn five_hundred_parked_requests_are_all_answered() {
    let front = with_drain_idle(60_000);
    let mut clients: Vec<_> = (0..500).map(|_| front.connect()).collect();
    for client in &mut clients {
        client.get("/park?n");
    }
    let tokens: Vec<_> = clients.iter().map(|_| front.next_parked()).collect();
    let mailboxes = std::sync::Arc::clone(&front.mailboxes);
    front.server().drain_begin();
    let stopping = std::thread::spawn(move || front.shutdown(TIMEOUT));
    for handle in tokens {
        mailboxes.answer(handle, "last");
    }
    for mut client in clients {
        assert_eq!(client.read_last().body, "n last");
    }
    let shutdown = stopping.join().unwrap();
    assert_eq!((shutdown.cut, shutdown.stuck_threads), (0, 0));
}
