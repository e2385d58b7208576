//! The same front behind TLS.

use super::harness::{Client, Front, HandlerEvent, TIMEOUT};
use crate::budget::{Division, Ledger};
use crate::http::message::Refusal;
use crate::http::server::{Server, Settings};
use crate::http::tls::Tls;
use crate::http::tls::tests::{Folder, Pair, Peer, Trust, is_resumed};
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A front with TLS, and a client that trusts its certificate.
struct Secure {
    front: Front,
    folder: Folder,
    tls: Arc<Tls>,
    trust: Trust,
}

impl Secure {
    fn start() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let pair = Pair::generate();
        let folder = Folder::with(&pair);
        let tls = Arc::new(folder.load().unwrap());
        let front = Front::with_settings(|settings| {
            settings.tls = Some(Arc::clone(&tls));
            change(settings);
        });
        let trust = Trust::in_pair(&pair);
        Self {
            front,
            folder,
            tls,
            trust,
        }
    }

    fn connect(&self) -> Client<Peer> {
        Client::over(self.trust.connect(self.front.address).unwrap())
    }
}

fn handshakes_failed(server: &Server) -> u64 {
    server.stats().sum(|thread| &thread.handshakes_failed)
}

/// The TLS records with which a peer would send `content`.
fn records(peer: &mut Peer, content: &[u8]) -> Vec<u8> {
    peer.conn.writer().write_all(content).unwrap();
    let mut bytes = Vec::new();
    while peer.conn.wants_write() {
        peer.conn.write_tls(&mut bytes).unwrap();
    }
    bytes
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let secure = Secure::start();
    let mut client = secure.connect();
    assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    for path in ["/a", "/b", "/c"] {
        let response = client.get(path).read();
        assert_eq!((response.status, response.closes()), (200, false));
        assert_eq!(response.body, format!("\"{path}\""));
    }
    assert_eq!(client.get("/secure").read().body, "true");
    assert_eq!(Front::start().connect().get("/secure").read().body, "false");
}

#[test]
fn tls_1_2_is_supported_too() {
    let pair = Pair::generate();
    let folder = Folder::with(&pair);
    let tls = Arc::new(folder.load().unwrap());
    let front = Front::with_settings(|settings| settings.tls = Some(tls));
    let trust = Trust::of_old(&pair);
    let mut client = Client::over(trust.connect(front.address).unwrap());
    assert_eq!(client.get("/a").get("/large").read().body, "\"/a\"");
    assert_eq!(client.read().body.len(), 8 * 1024 * 1024);
    client.send("GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert_eq!(client.read_last().status, 200);
}

#[test]
fn a_hundred_requests_at_once_are_answered_in_order() {
    let secure = Secure::start();
    let mut client = secure.connect();
    let all: String = (0..100)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: test\r\n\r\n"))
        .collect();
    client.send(&all);
    for n in 0..100 {
        assert_eq!(client.read().body, format!("\"/{n}\""));
    }
}

#[test]
fn large_responses_and_bodies_arrive_complete() {
    let secure = Secure::with(|settings| settings.limits.body_bytes = 1024 * 1024);
    let mut client = secure.connect();
    assert_eq!(client.get("/large").read().body.len(), 8 * 1024 * 1024);
    let large = "x".repeat(1024 * 1024);
    let length = large.len();
    client.send(&format!(
        "POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: {length}\r\n\r\n"
    ));
    client.send(&large);
    assert_eq!(client.read().body, large);
    secure
        .front
        .until("nothing is kept", |_| secure.front.held() == 0);
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_answered() {
    let secure = Secure::start();
    let mut client = secure.connect();
    let bytes = records(&mut client.stream, b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    for byte in bytes {
        client.stream.sock.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.read().status, 200);
}

#[test]
fn a_parked_request_is_answered_from_another_thread() {
    let secure = Secure::start();
    let mut client = secure.connect();
    client.get("/park?first").get("/next");
    let handle = secure.front.next_parked();
    secure.front.mailboxes.answer(handle, "done");
    assert_eq!(client.read().body, "first done");
    assert_eq!(client.read().body, "\"/next\"");
}

#[test]
fn a_close_notify_while_parked_is_noticed() {
    let secure = Secure::start();
    let mut client = secure.connect();
    client.get("/park");
    let handle = secure.front.next_parked();
    client.stream.conn.send_close_notify();
    client.stream.flush().unwrap();
    assert_eq!(secure.front.next_event(), HandlerEvent::Abandoned(handle));
    client.expect_end();
}

#[test]
fn a_close_without_close_notify_is_noticed() {
    let secure = Secure::start();
    let mut client = secure.connect();
    client.get("/park");
    let handle = secure.front.next_parked();
    drop(client);
    assert_eq!(secure.front.next_event(), HandlerEvent::Abandoned(handle));
}

#[test]
fn an_idle_connection_ends_with_close_notify() {
    let secure = Secure::with(|settings| settings.limits.idle_timeout = Duration::from_millis(60));
    let mut client = secure.connect();
    assert_eq!(client.get("/").read().status, 200);
    client.expect_end();
}

#[test]
fn a_missing_handshake_times_out() {
    let secure = Secure::with(|settings| settings.limits.head_timeout = Duration::from_millis(60));
    let mut silent = secure.front.connect();
    let mut slow = secure.front.connect();
    slow.stream.write_all(&[22, 3, 1, 2, 0, 1]).unwrap();
    silent.expect_end();
    secure
        .front
        .until("both are counted", |server| handshakes_failed(server) == 2);
    secure.front.until("their places are free", |server| {
        server.stats().sum(|thread| &thread.connections) == 0
    });
    assert_eq!(secure.connect().get("/").read().status, 200);
}

#[test]
fn plain_http_gets_a_400_that_names_https() {
    let secure = Secure::start();
    let mut client = secure.front.connect();
    let response = client.get("/app").read_last();
    assert_eq!(response.status, 400);
    assert!(response.body.contains("speaks HTTPS"), "{response:?}");
    assert_eq!(handshakes_failed(secure.front.server()), 1);
    assert_eq!(secure.connect().get("/").read().status, 200);
}

#[test]
fn garbage_ends_only_its_own_connection() {
    let secure = Secure::start();
    let mut other = secure.connect();
    for garbage in [&[0; 100][..], &[22, 3, 1, 0, 4, 9, 9, 9, 9], &[255; 5]] {
        let mut client = secure.front.connect();
        client.stream.write_all(garbage).unwrap();
        let mut received = Vec::new();
        // An alert, or a reset that has overtaken it.
        let _ = client.stream.read_to_end(&mut received);
        assert!(received.len() < 20, "{received:?}");
    }
    secure
        .front
        .until("all are counted", |server| handshakes_failed(server) == 3);
    assert_eq!(other.get("/").read().status, 200);
}

#[test]
fn a_handshake_has_a_bound_on_its_bytes() {
    let secure = Secure::start();
    let mut client = secure.front.connect();
    // A ClientHello that announces 60,000 bytes, in records of 1,000.
    let mut first = true;
    let started = Instant::now();
    loop {
        let mut record = vec![22, 3, 1, 3, 232];
        record.extend_from_slice(&[0; 1000]);
        if std::mem::take(&mut first) {
            record[5..9].copy_from_slice(&[1, 0, 234, 96]);
        }
        if client.stream.write_all(&record).is_err() {
            break;
        }
        assert!(started.elapsed() < TIMEOUT, "it may go on");
    }
    assert_eq!(handshakes_failed(secure.front.server()), 1);
}

#[test]
fn bytes_of_incomplete_records_are_counted_and_bounded() {
    let secure = Secure::with(|settings| {
        settings.ledger = Ledger::of_bytes(200 * 1024, Division::UNLIMITED);
    });
    let mut first = secure.connect();
    let record = records(&mut first.stream, &[b'x'; 16 * 1024]);
    let part = &record[..record.len() - 1];
    first.stream.sock.write_all(part).unwrap();
    secure
        .front
        .until("it is counted", |_| secure.front.held() > 16_000);
    let mut others: Vec<_> = (0..20).map(|_| secure.connect()).collect();
    for other in &mut others {
        let record = records(&mut other.stream, &[b'x'; 16 * 1024]);
        let part = &record[..record.len() - 1];
        other.stream.sock.write_all(part).unwrap();
    }
    secure.front.until("some are cut", |server| {
        server.stats().refused(Refusal::NoMemory) > 0
    });
    drop((first, others));
    secure
        .front
        .until("nothing is kept", |_| secure.front.held() == 0);
}

#[test]
fn the_table_of_many_short_records_is_counted() {
    let secure = Secure::start();
    let mut client = secure.connect();
    let mut bytes = records(&mut client.stream, b"GET / HTTP/1.1\r\nHost: a\r\nX: ");
    for _ in 0..150 {
        bytes.extend(records(&mut client.stream, b"y"));
    }
    client.stream.sock.write_all(&bytes).unwrap();
    secure
        .front
        .until("it is counted", |_| secure.front.held() > 150 * 32);
    drop(client);
    secure
        .front
        .until("nothing is kept", |_| secure.front.held() == 0);
}

#[test]
fn a_peer_that_does_not_read_its_response_is_cut() {
    let secure = Secure::with(|settings| settings.limits.write_timeout = Duration::from_millis(60));
    let mut client = secure.connect();
    client.get("/large");
    secure.front.until("it is cut", |server| {
        server.stats().sum(|thread| &thread.write_timeouts) == 1
    });
    let mut received = Vec::new();
    let cut = client.stream.read_to_end(&mut received);
    assert!(cut.is_err(), "no close_notify after a partial response");
    secure
        .front
        .until("nothing is kept", |_| secure.front.held() == 0);
}

#[test]
fn one_connection_too_many_gets_a_503_within_tls() {
    let secure = Secure::with(|settings| settings.limits.connections = 1);
    let mut only = secure.connect();
    assert_eq!(only.get("/").read().status, 200);
    assert_eq!(secure.connect().read_last().status, 503);
    assert_eq!(only.get("/").read().status, 200);
}

#[test]
fn sessions_are_resumed() {
    let secure = Secure::start();
    let mut first = secure.connect();
    assert_eq!(first.get("/").read().status, 200);
    assert!(!is_resumed(&first.stream));
    assert!(is_resumed(&secure.connect().stream));
}

#[test]
fn a_new_certificate_is_used_without_a_restart() {
    let secure = Secure::start();
    let mut old = secure.connect();
    let next = Pair::generate();
    secure.folder.put(&next);
    secure.tls.look();
    let trust = Trust::in_pair(&next);
    let peer = trust.connect(secure.front.address).unwrap();
    assert_eq!(Client::over(peer).get("/").read().status, 200);
    assert_eq!(old.get("/").read().status, 200, "the open connection stays");
}

#[test]
fn draining_ends_connections_with_close_notify() {
    let secure = Secure::start();
    let mut parked = secure.connect();
    parked.get("/park?x");
    let handle = secure.front.next_parked();
    let mut client = secure.connect();
    assert!(!client.get("/").read().closes());
    secure.front.server().drain_begin();
    assert_eq!(client.get("/").read_last().status, 200);
    let mailboxes = Arc::clone(&secure.front.mailboxes);
    let front = secure.front;
    let stopping = std::thread::spawn(move || front.shutdown(TIMEOUT));
    mailboxes.answer(handle, "last");
    assert_eq!(parked.read_last().body, "x last");
    drop((client, parked));
    let shutdown = stopping.join().unwrap();
    assert_eq!((shutdown.cut, shutdown.stuck_threads), (0, 0));
}
