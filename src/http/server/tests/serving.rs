//! Requests with immediate responses, and parked requests.

use super::harness::{Front, HandlerEvent};
use std::net::Shutdown;

#[test]
fn requests_follow_each_other_on_one_connection() {
    let front = Front::start();
    let mut client = front.connect();
    for path in ["/a", "/b", "/c"] {
        let response = client.get(path).read();
        assert_eq!((response.status, response.closes()), (200, false));
        assert_eq!(response.body, format!("\"{path}\""));
    }
}

#[test]
fn a_hundred_requests_at_once_are_answered_in_order() {
    let front = Front::start();
    let mut client = front.connect();
    let all: String = (0..100)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .collect();
    client.send(&all);
    for n in 0..100 {
        assert_eq!(client.read().body, format!("\"/{n}\""));
    }
}

#[test]
fn a_parked_request_is_answered_from_another_thread() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/park?first");
    let handle = front.next_parked();
    let mailboxes = std::sync::Arc::clone(&front.mailboxes);
    std::thread::spawn(move || mailboxes.answer(handle, "done"))
        .join()
        .unwrap();
    assert_eq!(client.read().body, "first done");
    assert_eq!(client.get("/next").read().body, "\"/next\"");
}

#[test]
fn a_pipelined_request_waits_for_the_parked_one() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/park?one").get("/two");
    let handle = front.next_parked();
    front.mailboxes.answer(handle, "answered");
    assert_eq!(client.read().body, "one answered");
    assert_eq!(client.read().body, "\"/two\"");
}

#[test]
fn a_second_response_and_one_for_a_stale_handle_are_dropped() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/park?a");
    let handle = front.next_parked();
    front.mailboxes.answer(handle, "1");
    front.mailboxes.answer(handle, "2");
    let mut stale = handle;
    stale.slot = 99;
    front.mailboxes.answer(stale, "3");
    assert_eq!(client.read().body, "a 1");
    front.until("both are counted", |server| {
        server.stats().sum(|thread| &thread.stale_responses) == 2
    });
    client.get("/park?b");
    let second = front.next_parked();
    assert_ne!(handle, second);
    front.mailboxes.answer(handle, "stale");
    front.mailboxes.answer(second, "right");
    assert_eq!(client.read().body, "b right");
}

#[test]
fn a_peer_that_hangs_up_while_parked_is_noticed() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/park");
    let handle = front.next_parked();
    drop(client);
    assert_eq!(front.next_event(), HandlerEvent::Abandoned(handle));
    front.until("its place is free", |server| {
        server.stats().sum(|thread| &thread.connections) == 0
    });
    front.mailboxes.answer(handle, "too late");
    front.until("the response is dropped", |server| {
        server.stats().sum(|thread| &thread.stale_responses) == 1
    });
}

#[test]
fn a_peer_that_hangs_up_behind_unread_requests_is_noticed() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/park");
    let handle = front.next_parked();
    // More than is read ahead, and less than the kernel keeps: an end that is
    // queued behind what cannot be delivered is not sent.
    client.send(&"GET /next HTTP/1.1\r\nHost: test\r\n\r\n".repeat(1_050));
    drop(client);
    assert_eq!(front.next_event(), HandlerEvent::Abandoned(handle));
}

#[test]
fn a_half_closed_peer_still_gets_an_immediate_response() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/one").get("/two");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read().body, "\"/one\"");
    assert_eq!(client.read().body, "\"/two\"");
    client.expect_end();
}

#[test]
fn a_half_closed_peer_gets_the_response_that_it_waits_for() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/park?a").get("/park?b");
    let first = front.next_parked();
    client.stream.shutdown(Shutdown::Write).unwrap();
    // A peer that has gone would reset the connection now.
    assert_eq!(client.read().head, "HTTP/1.1 100 Continue\r\n\r\n");
    front.mailboxes.answer(first, "over");
    assert_eq!(client.read().body, "a over");
    let second = front.next_parked();
    front.mailboxes.answer(second, "over");
    assert_eq!(client.read().body, "b over");
    client.expect_end();
    assert_eq!(front.server().stats().sum(|thread| &thread.abandoned), 0);
}

#[test]
fn a_half_closed_peer_that_sends_more_than_is_read_gets_its_responses() {
    const MORE: usize = 1_050;
    let front = Front::start();
    let mut client = front.connect();
    client.get("/park");
    let handle = front.next_parked();
    client.send(&"GET /next HTTP/1.1\r\nHost: test\r\n\r\n".repeat(MORE));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read().head, "HTTP/1.1 100 Continue\r\n\r\n");
    front.mailboxes.answer(handle, "over");
    assert_eq!(client.read().status, 200);
    for _ in 0..MORE {
        assert_eq!(client.read().body, "\"/next\"");
    }
    client.expect_end();
}

/// It must not get an interim response (RFC 9110 §15.2), so whether it has gone cannot be known.
#[test]
fn a_half_closed_peer_with_http_1_0_counts_as_gone() {
    let front = Front::start();
    let mut client = front.connect();
    client.send("GET /park HTTP/1.0\r\n\r\n");
    let handle = front.next_parked();
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(front.next_event(), HandlerEvent::Abandoned(handle));
    client.expect_end();
}

#[test]
fn a_panic_is_a_500_and_the_connection_stays_open() {
    let front = Front::start();
    let mut client = front.connect();
    let response = client.get("/panic").read();
    assert_eq!((response.status, response.closes()), (500, false));
    assert!(
        response.body.contains(r#""code":"internal""#),
        "{response:?}"
    );
    assert_eq!(client.get("/next").read().status, 200);

    client.get("/park");
    assert!(matches!(front.next_event(), HandlerEvent::Abandoned(_)));
    let parked = front.next_parked();
    front.mailboxes.answer(parked, "panic");
    assert_eq!(client.read().status, 500);
    // The request that it had parked is abandoned.
    assert_eq!(front.next_event(), HandlerEvent::Abandoned(parked));
    assert_eq!(client.get("/next").read().status, 200);
    assert_eq!(front.server().stats().sum(|thread| &thread.panics), 2);
}

#[test]
fn a_response_that_cannot_be_sent_is_a_500() {
    let front = Front::start();
    let mut client = front.connect();
    let response = client.get("/bad").read();
    assert_eq!(response.status, 500);
    assert!(!response.head.contains("b: c"));
    assert_eq!(client.get("/next").read().status, 200);
}

#[test]
fn a_large_response_arrives_completely() {
    let front = Front::start();
    let mut client = front.connect();
    let response = client.get("/large").read();
    assert_eq!(response.body.len(), 8 * 1024 * 1024);
    assert_eq!(client.get("/next").read().status, 200);
}

#[test]
fn bodies_arrive_by_length_and_in_chunks() {
    let front = Front::with(|limits| limits.body_bytes = 1024 * 1024);
    let mut client = front.connect();
    let head = "POST /echo HTTP/1.1\r\nHost: test\r\n";
    client.send(&format!("{head}Content-Length: 5\r\n\r\nhello"));
    assert_eq!(client.read().body, "hello");
    client.send(&format!(
        "{head}Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
    ));
    assert_eq!(client.read().body, "hello");
    let large = "x".repeat(1024 * 1024);
    client.send(&format!("{head}Content-Length: {}\r\n\r\n", large.len()));
    client.send(&large);
    assert_eq!(client.read().body, large);
}

#[test]
fn connection_close_is_obeyed_and_returned() {
    let front = Front::start();
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_last().status, 200);
}

#[test]
fn connections_are_distributed_evenly() {
    let front = Front::start();
    let mut clients: Vec<_> = (0..8).map(|_| front.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").read().status, 200);
    }
    for thread in &front.server().stats().threads {
        assert_eq!(thread.connections.get(), 4);
    }
}
