//! What the kernel keeps for a connection is charged, like what the process keeps.

use super::harness::{Client, Front, HandlerEvent};
use crate::http::message::Refusal;
use crate::http::server::Server;
use std::net::Shutdown;
use std::time::Duration;

/// A body that is sent back, with a head: its response is not charged until its turn is over.
fn echo(bytes: usize) -> String {
    let body = "e".repeat(bytes);
    format!("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {bytes}\r\n\r\n{body}")
}

/// Reads this many responses, each with a body of this length.
fn read_all(client: &mut Client, count: usize, bytes: usize) {
    for number in 0..count {
        let response = client.read();
        assert_eq!(response.status, 200, "response {number}");
        assert_eq!(response.body.len(), bytes, "response {number}");
    }
}

#[test]
fn small_responses_are_charged_until_their_peer_has_read_them() {
    const COUNT: usize = 12;
    let front = Front::start();
    let mut client = front.connect_narrow();
    for _ in 0..COUNT {
        client.send(&echo(1000));
    }
    // The peer's buffer takes two, and a page of the kernel is free.
    front.until("most are charged", |_| front.held() > (COUNT - 6) * 1000);
    read_all(&mut client, COUNT, 1000);
    front.until("nothing is charged any more", |_| front.held() == 0);
}

#[test]
fn while_memory_is_short_a_peer_that_reads_nothing_gets_no_further_responses() {
    const COUNT: usize = 600;
    const MAX: usize = 1 << 20;
    let front = Front::with_bytes(MAX, |_| {});
    let _others = front.fill(MAX / 2);
    let before = front.held();
    let mut client = front.connect_narrow();
    client.send(&"GET /other HTTP/1.1\r\nHost: t\r\n\r\n".repeat(COUNT));
    front.next_event();
    let mut other = front.connect();
    for _ in 0..20 {
        assert_eq!(other.get("/").read().status, 200, "others are served");
    }
    let served = 1 + front.events.try_iter().count();
    assert!(served < COUNT / 4, "{served} responses");
    read_all(&mut client, COUNT, 0);
    front.until("nothing more is charged", |_| front.held() == before);
}

#[test]
fn a_peer_that_leaves_responses_with_the_kernel_is_cut_in_time() {
    let front = Front::with(|limits| limits.write_timeout = Duration::from_millis(60));
    let mut client = front.connect_narrow();
    client.send(&echo(12_000));
    front.until("it is cut", |server| {
        server.stats().sum(|thread| &thread.write_timeouts) == 1
    });
    front.until("nothing is charged any more", |_| front.held() == 0);
}

#[test]
fn the_end_of_a_connection_is_charged_until_its_peer_has_read_it() {
    let front = Front::start();
    let mut client = front.connect_narrow();
    let last = echo(12_000).replace("Host: t", "Host: t\r\nConnection: close");
    client.send(&last);
    front.until("it is charged", |_| front.held() > 12_000);
    client.stream.shutdown(Shutdown::Write).unwrap();
    let mut other = front.connect();
    assert_eq!(other.get("/").read().status, 200);
    assert!(front.held() > 8_000, "{}", front.held());
    let response = client.read_last();
    assert_eq!(response.body.len(), 12_000, "it is not cut");
    front.until("nothing is charged any more", |_| front.held() == 0);
}

#[test]
fn long_responses_are_charged_for_what_the_kernel_will_keep_before_they_begin() {
    const MAX: usize = 512 * 1024;
    let front = Front::with_bytes(MAX, |limits| {
        limits.write_timeout = Duration::from_secs(3600);
    });
    let mut readers: Vec<_> = (0..20).map(|_| front.connect_narrow()).collect();
    for reader in &mut readers {
        // Its body is shared by all of them, and costs nothing itself.
        reader.get("/large");
    }
    for reader in &mut readers {
        assert_eq!(reader.stream.peek(&mut [0]).unwrap(), 1, "it is answered");
    }
    assert!(front.held() <= MAX, "{}", front.held());
    let refused = front.server().stats().refused(Refusal::NoMemory);
    assert!((4..18).contains(&refused), "{refused} of 20 are refused");
    for reader in &mut readers {
        reader.widen();
        let response = reader.read();
        assert!(matches!(response.status, 200 | 503), "{}", response.status);
    }
    let stats = front.server().stats();
    assert_eq!(stats.sum(|thread| &thread.shed), 0, "none is cut");
    front.until("nothing is charged any more", |_| front.held() == 0);
}

#[test]
fn a_request_that_waits_is_refused_if_what_follows_it_cannot_be_kept() {
    const MAX: usize = 1 << 20;
    let front = Front::with_bytes(MAX, |_| {});
    let _others = front.fill(MAX / 2);
    let mut clients: Vec<Client> = Vec::new();
    while front.server().stats().refused(Refusal::NoMemory) == 0 {
        assert!(clients.len() < 20, "nobody is refused");
        let mut client = front.connect();
        client.get("/park");
        let handle = front.next_parked();
        let before = front.held();
        client.get("/next");
        let mut other = front.connect();
        front.until("it is charged, or refused", |server| {
            front.held() > before + 7_000 || server.stats().refused(Refusal::NoMemory) > 0
        });
        assert_eq!(other.get("/").read().status, 200, "others are served");
        if front.server().stats().refused(Refusal::NoMemory) > 0 {
            assert_eq!(front.next_event(), HandlerEvent::Abandoned(handle));
            let response = client.read_last();
            assert_eq!(response.status, 503);
            assert!(response.body.contains("overloaded"), "{response:?}");
        }
        clients.push(client);
    }
    assert!(clients.len() > 1, "there is room for some");
    assert!(front.held() <= MAX);
}

/// Else the kernel would go on trying to send the rest, for minutes and counted by nobody.
#[test]
fn a_closed_connection_keeps_its_place_until_its_peer_has_read_the_rest() {
    let front = Front::with(|limits| {
        limits.linger_timeout = Duration::from_millis(20);
        limits.idle_timeout = Duration::from_millis(100);
        limits.write_timeout = Duration::from_millis(500);
    });
    let last = "GET /other HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
    let idle = "GET /other HTTP/1.1\r\nHost: t\r\n\r\n";
    for (request, half_closes) in [(last, false), (last, true), (idle, true)] {
        let is_open = |count| {
            move |server: &Server| server.stats().sum(|thread| &thread.connections) == count
        };
        let mut reads = front.connect_narrow();
        let mut never = front.connect_narrow();
        for client in [&mut reads, &mut never] {
            client.send(&echo(1400).repeat(2));
            client.send(request);
            if half_closes {
                client.stream.shutdown(Shutdown::Write).unwrap();
            }
        }
        front.until("both are here", is_open(2));
        read_all(&mut reads, 2, 1400);
        reads.read();
        reads.expect_end();
        drop(reads);
        front.until("whoever has read has left", is_open(1));
        front.until("the other is reset in time", is_open(0));
    }
}
