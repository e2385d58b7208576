//! Responses in parts: how they are framed, when they end, and what a peer that does not read costs.

use super::harness::{Front, HandlerEvent, TIMEOUT};
use crate::http::message::Refusal;
use crate::http::server::STREAM_PAUSE_MAX;
use crate::http::server::streams::Streams;
use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::{Duration, Instant};

#[test]
fn parts_are_chunks_and_the_connection_serves_the_next_request() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/stream?begin;ab;0123456789abcdef;end;");
    let response = client.read();
    assert_eq!(response.status, 200);
    let head = response.head;
    assert!(
        head.contains("\r\nTransfer-Encoding: chunked\r\n"),
        "{head}"
    );
    assert!(!head.contains("Content-Length"), "{head}");
    assert!(head.contains("\r\nx: y\r\n"), "{head}");
    assert!(head.contains("\r\nX-Request-Id: "), "{head}");
    client.expect("2\r\nab\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n");
    assert_eq!(client.get("/").read().status, 200);
    front.until("no stream is left", |server| {
        server.stats().sum(|thread| &thread.streams) == 0
    });
}

#[test]
fn an_http_1_0_client_sees_the_end_when_the_connection_ends() {
    let front = Front::start();
    let mut client = front.connect();
    client.send("GET /stream?begin;ab;cd;end; HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = client.read();
    assert!(response.closes(), "{}", response.head);
    assert!(
        !response.head.contains("Transfer-Encoding"),
        "{}",
        response.head
    );
    client.expect("abcd");
    client.expect_end();
}

#[test]
fn parts_that_come_later_are_sent_when_they_come() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/stream?begin;");
    let handle = front.next_parked();
    client.read();
    assert_eq!(front.server().stats().sum(|thread| &thread.streams), 1);
    assert_eq!(front.server().stats().sum(|thread| &thread.parked), 0);
    front.mailboxes.answer(handle, "part ab;");
    client.expect("2\r\nab\r\n");
    front.mailboxes.answer(handle, "part cd;end;");
    client.expect("2\r\ncd\r\n0\r\n\r\n");
}

/// Until it begins it may still become any response.
#[test]
fn what_has_not_begun_may_get_another_response() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/stream?");
    front.mailboxes.answer(front.next_parked(), "over");
    assert_eq!(client.read().body, " over");
    for target in ["/stream?panic;", "/stream?bad;"] {
        assert_eq!(client.get(target).read().status, 500, "{target}");
    }
    assert_eq!(front.server().stats().refused(Refusal::Panicked), 2);
}

#[test]
fn what_has_begun_and_cannot_go_on_is_cut() {
    for rest in ["panic;", ""] {
        let front = Front::start();
        let mut client = front.connect();
        client.get(&format!("/stream?begin;ab;{rest}"));
        let handle = front.next_parked();
        if rest.is_empty() {
            front.mailboxes.answer(handle, "another response");
        }
        client.read();
        client.expect("2\r\nab\r\n");
        client.expect_end();
    }
}

#[test]
fn a_peer_that_hangs_up_is_no_stream_any_more() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/stream?begin;");
    let handle = front.next_parked();
    client.read();
    drop(client);
    assert_eq!(front.next_event(), HandlerEvent::Abandoned(handle));
    front.until("no stream is left", |server| {
        server.stats().sum(|thread| &thread.streams) == 0
    });
}

/// A zero before the size of a chunk asks whether it is still there.
#[test]
fn a_half_closed_peer_gets_its_stream_to_the_end() {
    let front = Front::start();
    for begin in ["begin;", ""] {
        let mut client = front.connect();
        client.get(&format!("/stream?{begin}"));
        let handle = front.next_parked();
        if !begin.is_empty() {
            client.read();
        }
        client.stream.shutdown(Shutdown::Write).unwrap();
        if begin.is_empty() {
            client.expect("HTTP/1.1 100 Continue\r\n\r\n");
            front.mailboxes.answer(handle, "part begin;");
            client.read();
            front.mailboxes.answer(handle, "part ab;end;");
            client.expect("2\r\nab\r\n0\r\n\r\n");
        } else {
            client.expect("0");
            front.mailboxes.answer(handle, "part ab;end;");
            client.expect("2\r\nab\r\n0\r\n\r\n");
        }
        client.expect_end();
    }
    // Whole responses behind it are read by the same rule.
    let mut client = front.connect();
    client.send("GET /stream?begin; HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n");
    let handle = front.next_parked();
    client.read();
    client.stream.shutdown(Shutdown::Write).unwrap();
    client.expect("0");
    front.mailboxes.answer(handle, "part end;");
    client.expect("0\r\n\r\n");
    assert_eq!(client.read().body, "\"/x\"");
    client.expect_end();
}

/// It sees no end that was none.
#[test]
fn a_half_closed_peer_with_http_1_0_is_no_stream_any_more() {
    let front = Front::start();
    let mut client = front.connect();
    client.send("GET /stream?begin; HTTP/1.0\r\n\r\n");
    let handle = front.next_parked();
    client.read();
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(front.next_event(), HandlerEvent::Abandoned(handle));
}

#[test]
fn streams_end_when_the_server_drains() {
    let front = Front::start();
    let mut client = front.connect();
    client.get("/stream?begin;ab;");
    front.next_parked();
    client.read();
    client.expect("2\r\nab\r\n");
    front.server().drain_begin();
    client.expect("0\r\n\r\n");
    client.expect_end();
}

/// One part is kept of what it does not read, and that not for ever.
#[test]
fn a_peer_that_does_not_read_is_cut_and_holds_one_part() {
    let front = Front::with(|limits| limits.write_timeout = Duration::from_millis(300));
    let mut client = front.connect_narrow();
    client.get("/stream?begin;all;");
    let handle = front.next_parked();
    assert_eq!(front.next_event(), HandlerEvent::Abandoned(handle));
    let stats = front.server().stats();
    assert_eq!(stats.sum(|thread| &thread.write_timeouts), 1);
    front.until("nothing is charged any more", |_| front.held() == 0);
}

/// What there is room for is charged before it is made; who finds none gets little at a time.
#[test]
fn no_stream_is_cut_for_lack_of_memory() {
    const MAX: usize = 256 * 1024;
    let front = Front::with_bytes(MAX, |limits| {
        limits.write_timeout = Duration::from_secs(3600);
    });
    let mut readers: Vec<_> = (0..40).map(|_| front.connect_narrow()).collect();
    for reader in &mut readers {
        reader.get("/stream?begin;all;");
        reader.read();
    }
    assert!(front.held() <= MAX, "{}", front.held());
    let mut bytes = vec![0; 8 * 1024];
    for _ in 0..8 {
        for reader in &mut readers {
            reader.widen();
            reader.stream.read_exact(&mut bytes).unwrap();
        }
    }
    assert!(front.held() <= MAX, "{}", front.held());
    assert_eq!(front.server().stats().sum(|thread| &thread.shed), 0);
    drop(readers);
    front.until("nothing is charged any more", |_| front.held() == 0);
}

#[test]
fn a_stream_without_end_leaves_time_for_others() {
    let front = Front::start();
    let mut reader = front.connect();
    reader.get("/stream?begin;all;");
    let mut stream = reader.stream.try_clone().unwrap();
    let reading = std::thread::spawn(move || {
        let (mut bytes, mut buffer) = (0, vec![0; 64 * 1024]);
        while bytes < 64 * 1024 * 1024 {
            bytes += stream.read(&mut buffer).unwrap();
        }
    });
    let started = Instant::now();
    while !reading.is_finished() {
        assert_eq!(front.connect().get("/").read().status, 200);
        assert!(started.elapsed() < TIMEOUT);
    }
    reading.join().unwrap();
    let _ = reader.stream.write_all(b"x");
}

#[test]
fn passes_take_a_tenth_of_the_time_at_most() {
    let now = Instant::now();
    let after = |millis| now + Duration::from_millis(millis);
    let mut streams = Streams::new(now);
    assert_eq!(streams.next(now), None);
    assert_eq!(streams.wakes_at(now), None, "there are none");
    (0..3).for_each(|index| streams.set(index, true));
    let pass = |streams: &mut Streams, begin: u64, end: u64| {
        let asked: Vec<usize> = std::iter::from_fn(|| streams.next(after(begin))).collect();
        streams.asked(after(end));
        asked.len()
    };
    assert_eq!(pass(&mut streams, 0, 10), 3);
    streams.announce();
    assert_eq!(streams.wakes_at(after(10)), Some(after(100)));
    assert_eq!(pass(&mut streams, 99, 99), 0, "it rests");
    assert_eq!(pass(&mut streams, 100, 101), 3);
    // Without news they are asked now and then.
    assert_eq!(pass(&mut streams, 5000, 5000), 0);
    assert_eq!(
        streams.wakes_at(after(5000)),
        Some(after(100) + STREAM_PAUSE_MAX)
    );
    assert_eq!(pass(&mut streams, 5100, 5100), 3);
    // A very long pass delays the next one for a bounded time.
    streams.announce();
    assert_eq!(pass(&mut streams, 6000, 9000), 3);
    streams.announce();
    assert_eq!(streams.wakes_at(after(9000)), Some(after(9500)));
    streams.set(1, false);
    assert_eq!(pass(&mut streams, 9500, 9500), 2);
    assert_eq!(streams.count(), 2);
}
