//! Each bound, reached.

use super::harness::{Client, Front, OWNED_BYTES, TIMEOUT};
use crate::budget::{Account, Division, Ledger, Purpose};
use crate::http::message::{Headers, Limits, Method, Refusal, Request};
use std::io::Write as _;
use std::time::{Duration, Instant};

#[test]
fn a_head_that_does_not_end_is_refused_in_time() {
    let front = Front::with(|limits| limits.head_timeout = Duration::from_millis(60));
    let mut client = front.connect();
    client.send("GET / HTTP/1.1\r\nHo");
    let response = client.read_last();
    assert_eq!(response.status, 408);
    assert!(response.body.contains("request_timeout"), "{response:?}");
    assert_eq!(front.server().stats().refused(Refusal::HeadTimeout), 1);
}

#[test]
fn a_body_that_does_not_end_is_refused_in_time() {
    let front = Front::with(|limits| limits.body_timeout = Duration::from_millis(60));
    let mut client = front.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\nhe");
    assert_eq!(client.read_last().status, 408);
    assert_eq!(front.server().stats().refused(Refusal::BodyTimeout), 1);
}

#[test]
fn an_idle_connection_is_closed_without_a_response() {
    let front = Front::with(|limits| limits.idle_timeout = Duration::from_millis(60));
    let mut client = front.connect();
    assert_eq!(client.get("/").read().status, 200);
    client.expect_end();
    assert_eq!(front.server().stats().sum(|thread| &thread.idle_closed), 1);
}

#[test]
fn heads_and_their_fields_are_bounded() {
    let front = Front::with(|limits| {
        limits.head_bytes = 1024;
        limits.header_count = 10;
    });
    let long = "x".repeat(2000);
    for (head, status) in [
        (format!("GET /{long} HTTP/1.1\r\nHost: t\r\n\r\n"), 414),
        (
            format!("GET / HTTP/1.1\r\nHost: t\r\nX: {long}\r\n\r\n"),
            431,
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: t\r\n{}\r\n", "X: y\r\n".repeat(10)),
            431,
        ),
    ] {
        let mut client = front.connect();
        assert_eq!(client.send(&head).read_last().status, status);
    }
}

#[test]
fn a_body_over_its_bound_is_refused_while_the_peer_is_still_sending() {
    let front = Front::with(|limits| limits.body_bytes = 1000);
    let mut client = front.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 60000\r\n\r\n");
    // The response may have arrived already; bytes still on their way must not destroy it.
    client.send(&"x".repeat(30_000));
    client.send(&"x".repeat(30_000));
    let response = client.read_last();
    assert_eq!(response.status, 413);
    assert!(response.body.contains("body_too_large"), "{response:?}");
}

#[test]
fn a_peer_that_never_stops_sending_is_cut() {
    let front = Front::with(|limits| limits.body_bytes = 1000);
    let mut client = front.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 99999999\r\n\r\n");
    let piece = vec![b'x'; 64 * 1024];
    let started = Instant::now();
    while client.stream.write_all(&piece).is_ok() {
        assert!(started.elapsed() < TIMEOUT, "it may go on sending");
    }
    front.until("its place is free", |server| {
        server.stats().sum(|thread| &thread.connections) == 0
    });
}

#[test]
fn one_connection_too_many_gets_a_503_until_another_is_closed() {
    let front = Front::with(|limits| limits.connections = 3);
    let mut clients: Vec<_> = (0..3).map(|_| front.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").read().status, 200);
    }
    let response = front.connect().get("/").read_last();
    assert_eq!(response.status, 503);
    assert!(
        response.head.contains("\r\nretry-after: 1\r\n"),
        "{response:?}"
    );
    assert!(response.body.contains("overloaded"), "{response:?}");
    assert_eq!(clients[0].get("/").read().status, 200, "others are served");
    clients.pop();
    front.until("its place is free", |server| {
        server.stats().sum(|thread| &thread.connections) == 2
    });
    assert_eq!(front.connect().get("/").read().status, 200);
}

#[test]
fn one_peer_cannot_use_all_connections() {
    let front = Front::with(|limits| limits.connections_per_peer = 2);
    let mut clients: Vec<_> = (0..2).map(|_| front.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/").read().status, 200);
    }
    let response = front.connect().read_last();
    assert_eq!(response.status, 429);
    assert!(
        response.head.contains("\r\nretry-after: 1\r\n"),
        "{response:?}"
    );
    assert!(response.body.contains("too_many_requests"), "{response:?}");
    assert_eq!(front.server().stats().refused(Refusal::TooManyFromPeer), 1);
}

#[test]
fn many_refused_connections_do_not_displace_an_open_one() {
    let front = Front::with(|limits| limits.connections = 1);
    let mut only = front.connect();
    assert_eq!(only.get("/").read().status, 200);
    let mut refused: Vec<_> = (0..200).map(|_| front.connect()).collect();
    for client in &mut refused {
        assert_eq!(client.read().status, 503);
    }
    assert_eq!(only.get("/").read().status, 200);
}

#[test]
fn a_peer_that_does_not_read_its_response_is_cut() {
    let front = Front::with(|limits| limits.write_timeout = Duration::from_millis(60));
    let mut client = front.connect();
    client.get("/large");
    front.until("it is cut", |server| {
        server.stats().sum(|thread| &thread.write_timeouts) == 1
    });
}

#[test]
fn a_peer_that_sends_without_reading_is_not_read_forever() {
    let front = Front::with(|limits| limits.write_timeout = Duration::from_secs(3600));
    let mut client = front.connect();
    let requests = "GET /large HTTP/1.1\r\nHost: t\r\n\r\n".repeat(1000);
    let timeout = Some(Duration::from_millis(200));
    client.stream.set_write_timeout(timeout).unwrap();
    while client.stream.write_all(requests.as_bytes()).is_ok() {}
    let held = front.held();
    assert!(held < 200 * 1024, "{held}");
    let mut other = front.connect();
    assert_eq!(other.get("/").read().status, 200);
}

#[test]
fn requests_that_would_fill_the_memory_are_refused_and_others_served() {
    let front = Front::with_bytes(400 * 1024, |limits| limits.body_bytes = 100_000);
    let mut senders: Vec<_> = (0..20).map(|_| front.connect()).collect();
    for sender in &mut senders {
        sender.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n");
        sender.send(&"x".repeat(60_000));
    }
    front.until("some are refused", |server| {
        server.stats().refused(Refusal::NoMemory) > 0
    });
    let held = front.held();
    assert!(held <= 400 * 1024, "{held}");
    assert_eq!(front.connect().get("/").read().status, 200);
}

/// A request that waits, with a query and a body of these sizes.
fn waiting(query: usize, body: usize) -> (String, usize) {
    let (target, body) = (format!("/park?{}", "q".repeat(query)), "b".repeat(body));
    let length = body.len();
    let text =
        format!("PATCH {target} HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut request = Request::new(Method::Patch, &target);
    request.headers = Headers::with_capacity(2, 19 + length.to_string().len());
    request.headers.push("Host", b"t");
    request
        .headers
        .push("Content-Length", length.to_string().as_bytes());
    request.body = body.into();
    (text, request.parked_bytes())
}

/// Sends a request that would wait; whether it was parked. One that was not is refused with 503.
fn is_parked(front: &Front, client: &mut Client, text: &str) -> bool {
    let parked = || front.server().stats().sum(|thread| &thread.parked);
    let refused = || front.server().stats().refused(Refusal::NoMemory);
    let before = (parked(), refused());
    client.send(text);
    front.until("parked or refused", |_| (parked(), refused()) != before);
    if parked() > before.0 {
        return true;
    }
    let response = client.read();
    assert_eq!(response.status, 503);
    assert!(
        response.head.contains("\r\nretry-after: 1\r\n"),
        "{response:?}"
    );
    assert!(response.body.contains("overloaded"), "{response:?}");
    assert!(
        !response.closes(),
        "its connection may be used again: {response:?}"
    );
    false
}

#[test]
fn requests_that_wait_are_charged_until_their_response() {
    const MAX: usize = 1024 * 1024;
    for (query, body) in [(0, 20_000), (10_000, 0), (0, 0)] {
        let front = Front::with_bytes(MAX, |_| {});
        let held = || front.held();
        let (text, bytes) = waiting(query, body);
        // Half of the bound is for these.
        let room = MAX / 2 / bytes;
        let mut clients = Vec::new();
        for number in 0..room + 4 {
            let mut client = front.connect();
            let parked = is_parked(&front, &mut client, &text);
            assert_eq!(parked, number < room, "number {number} of {bytes} bytes");
            clients.push(client);
        }
        front.until("all are charged", |_| held() == room * bytes);
        assert_eq!(
            front.connect().get("/").read().status,
            200,
            "others are served"
        );

        front.mailboxes.answer(front.next_parked(), "over");
        front.until("the answered request is not charged", |_| {
            held() == (room - 1) * bytes
        });
        clients.remove(0);
        clients.remove(0);
        front.until("requests of closed connections are not charged", |_| {
            held() == (room - 2) * bytes
        });
        let (mut first, mut second) = (front.connect(), front.connect());
        assert!(is_parked(&front, &mut first, &text), "there is room again");
        assert!(is_parked(&front, &mut second, &text), "and for a second");
    }
}

#[test]
fn a_response_that_does_not_fit_is_refused_and_none_is_cut() {
    const MAX: usize = 5 * OWNED_BYTES;
    let front = Front::with_bytes(MAX, |limits| {
        limits.write_timeout = Duration::from_secs(3600);
    });
    let mut readers: Vec<_> = (0..20).map(|_| front.connect()).collect();
    for reader in &mut readers {
        reader.get("/owned");
    }
    // All have been answered, and none has read.
    for reader in &mut readers {
        assert_eq!(reader.stream.peek(&mut [0]).unwrap(), 1);
    }
    assert!(front.held() <= MAX);
    let refused = front.server().stats().refused(Refusal::NoMemory);
    assert!(refused > 10, "only {refused} of 20 were refused");
    assert!(refused < 20, "some are served");
    let small = front.connect().get("/").read();
    assert_eq!(small.status, 200, "small responses are sent");
    let mut whole = 0;
    for reader in &mut readers {
        let response = reader.read();
        match response.status {
            200 => {
                assert_eq!(response.body.len(), OWNED_BYTES);
                whole += 1;
            }
            status => assert_eq!(status, 503),
        }
    }
    assert_eq!(whole + refused, 20);
    front.until("nothing is charged any more", |_| front.held() == 0);
}

#[test]
fn a_caller_that_holds_half_is_refused_while_others_use_the_rest() {
    const MAX: usize = 1024 * 1024;
    let front = Front::with_settings(|settings| {
        settings.ledger = Ledger::of_bytes(MAX, Division::default());
    });
    let other = Account::Token("other".into());
    let _other = front
        .ledger
        .hold(other, Purpose::Transfer, MAX / 8)
        .unwrap();
    let (text, bytes) = waiting(10_000, 0);
    let mut clients = Vec::new();
    let mut parked = 0;
    loop {
        let mut client = front.connect();
        let before = front.server().stats().sum(|thread| &thread.parked);
        client.send(&text);
        let refused = || front.server().stats().refused(Refusal::ShareExhausted) > 0;
        front.until("parked or refused", |server| {
            refused() || server.stats().sum(|thread| &thread.parked) > before
        });
        if refused() {
            let response = client.read();
            assert_eq!(response.status, 429);
            assert!(response.body.contains("share_exhausted"), "{response:?}");
            break;
        }
        parked += 1;
        clients.push(client);
    }
    // Half of what starts may hold: half of all, without the reserve for stops and labels.
    let starts = MAX / 2 / 100 * (100 - Division::default().writes);
    assert_eq!(parked, starts / 2 / bytes);
}

/// What `HEAD_BYTES_MAX`, `HEADERS_MAX` and `BODY_BYTES_MAX` allow at most.
#[test]
fn the_largest_bounds_that_can_be_set_are_honoured() {
    let (head_bytes, body_bytes) = (1 << 20, 1 << 20);
    let header_count = Limits::HEADER_COUNT_MAX;
    let front = Front::with(|limits| {
        *limits = Limits {
            head_bytes,
            body_bytes,
            header_count,
            ..limits.clone()
        };
    });
    let mut client = front.connect();
    let start = "GET / HTTP/1.1\r\nHost: test\r\nX: ";
    let rest = head_bytes - start.len() - "\r\n\r\n".len();
    let large = format!("{start}{}\r\n\r\n", "x".repeat(rest));
    assert_eq!(client.send(&large).read().status, 200);
    let many = "X: y\r\n".repeat(header_count - 1);
    let many = format!("GET / HTTP/1.1\r\nHost: test\r\n{many}\r\n");
    assert_eq!(client.send(&many).read().status, 200);
    let body = "x".repeat(body_bytes);
    let post =
        format!("PATCH /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {body_bytes}\r\n\r\n");
    let echoed = client.send(&post).send(&body).read();
    assert_eq!((echoed.status, echoed.body.len()), (200, body_bytes));
}
