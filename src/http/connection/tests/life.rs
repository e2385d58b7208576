//! Responses, deadlines, bounds and the end of a connection.

use super::*;
use crate::budget::{Account, Division, Draft, Ledger};
use crate::http::message::Body;

fn open(now: Instant) -> Connection {
    Connection::new(PEER, limits(), now)
}

fn after(now: Instant, millis: u64) -> Instant {
    now + Duration::from_millis(millis)
}

/// A connection with this much received, and its next step.
fn fed(now: Instant, input: &str) -> (Connection, Step) {
    let mut connection = open(now);
    connection.receive(input.as_bytes());
    let step = connection.next(now);
    (connection, step)
}

#[test]
fn one_request_is_in_flight_and_input_ahead_is_bounded() {
    let now = Instant::now();
    let (mut connection, step) = fed(now, &get("").repeat(3));
    assert!(matches!(step, Step::Request(_)));
    assert!(connection.awaits_response());
    assert_eq!(connection.next(now), Step::Wait);
    let mut ahead = 0;
    while connection.read_capacity() > 0 {
        let room = connection.read_capacity();
        connection.receive(&vec![b'x'; room]);
        ahead += room;
    }
    assert!(ahead <= 2 * limits().head_bytes);
    assert_eq!(connection.next(now), Step::Wait);
}

#[test]
fn no_request_is_begun_behind_an_unread_response() {
    let now = Instant::now();
    let (mut connection, step) = fed(now, &get("").repeat(2));
    assert!(matches!(step, Step::Request(_)));
    let large = Response::json(200, vec![b'x'; 200_000]);
    connection.respond(large, false, &mut heads(), now).unwrap();
    assert_eq!(connection.next(now), Step::Wait);
    let length = connection.output().concat().len();
    connection.written(length - 1, now);
    assert_eq!(connection.next(now), Step::Wait);
    connection.written(1, now);
    assert!(matches!(connection.next(now), Step::Request(_)));
}

#[test]
fn a_refusal_never_gets_into_a_response_that_is_being_sent() {
    let now = Instant::now();
    let (mut connection, step) = fed(now, &get("").repeat(2));
    assert!(matches!(step, Step::Request(_)));
    let large = Response::json(200, vec![b'x'; 200_000]);
    connection.respond(large, false, &mut heads(), now).unwrap();
    let response = connection.output().concat();
    connection.written(100_000, now);
    assert_eq!(connection.refuse(Refusal::NoMemory), Step::Wait);
    assert_eq!(connection.output().concat(), response[100_000..]);
    assert!(connection.read_capacity() > 0, "what follows is dropped");
    connection.receive(&vec![b'x'; connection.read_capacity()]);
    assert!(connection.held_bytes() < 210_000);
    connection.written(response.len() - 100_000, now);
    assert!(connection.wants_half_close());
}

#[test]
fn a_connection_is_not_idle_while_its_response_is_being_sent() {
    let now = Instant::now();
    let limits = Arc::new(Limits {
        idle_timeout: Duration::from_secs(3),
        ..Limits::default()
    });
    let mut connection = Connection::new(PEER, Arc::clone(&limits), now);
    connection.receive(get("").as_bytes());
    assert!(matches!(connection.next(now), Step::Request(_)));
    let large = Response::json(200, vec![b'x'; 200_000]);
    connection.respond(large, false, &mut heads(), now).unwrap();
    connection.written(1000, now);
    let later = now + limits.write_timeout / 2;
    assert_eq!(connection.expire(later), None);
    let rest = connection.output().concat().len();
    connection.written(rest, later);
    let idle = later + limits.idle_timeout;
    assert_eq!(connection.expire(idle), Some(Expired::Idle));
}

#[test]
fn a_body_that_responses_share_is_sent_without_a_copy_and_counts_once() {
    let now = Instant::now();
    let (mut connection, _) = fed(now, &get(""));
    let ledger = Ledger::of_bytes(1 << 20, Division::default());
    let mut draft = Draft::new(&ledger, 200_000).unwrap();
    draft.append(&[b'x'; 200_000]).unwrap();
    let bytes = draft.finish();
    let account = Account::Token("reader".into());
    let body = Body::Shared(bytes.lend(&account).unwrap());
    let shared = Response::with_type(200, "text/plain", body);
    connection
        .respond(shared, false, &mut heads(), now)
        .unwrap();
    let [head, body] = connection.output().map(<[u8]>::len);
    assert_eq!(connection.output()[1].as_ptr(), bytes.as_ptr());
    assert!(connection.held_bytes() < body, "it is not the connection's");
    assert_eq!(ledger.charged(&account), 200_000);
    connection.written(head + body, now);
    assert_eq!(connection.held_bytes(), 0);
    assert_eq!(ledger.charged(&account), 0);
}

#[test]
fn head_has_the_length_but_not_the_body() {
    let now = Instant::now();
    let input = "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut connection, _) = fed(now, input);
    let response = Response::json(200, "12345");
    connection
        .respond(response, false, &mut heads(), now)
        .unwrap();
    let written = take_output(&mut connection, now);
    assert!(written.contains("\r\nContent-Length: 5\r\n"));
    assert!(written.ends_with("\r\n\r\n"));
}

#[test]
fn a_204_has_no_body_even_if_the_handler_sets_one() {
    let now = Instant::now();
    let (mut connection, _) = fed(now, &get(""));
    let response = Response::json(204, "12345");
    connection
        .respond(response, false, &mut heads(), now)
        .unwrap();
    assert!(take_output(&mut connection, now).ends_with("\r\n\r\n"));
}

#[test]
fn a_response_that_cannot_be_sent_leaves_the_request_waiting() {
    let now = Instant::now();
    let (mut connection, _) = fed(now, &get(""));
    let bad = Response::empty(200).header("x", "a\nb");
    assert!(connection.respond(bad, false, &mut heads(), now).is_err());
    assert!(connection.awaits_response() && connection.is_flushed());
    let good = Response::empty(500);
    connection.respond(good, false, &mut heads(), now).unwrap();
    assert!(take_output(&mut connection, now).starts_with("HTTP/1.1 500 "));
}

#[test]
fn the_last_response_is_followed_by_a_half_close_and_a_bounded_wait() {
    let now = Instant::now();
    let (mut connection, _) = fed(now, &get(""));
    connection
        .respond(Response::empty(200), true, &mut heads(), now)
        .unwrap();
    assert!(!connection.wants_half_close(), "not before it is written");
    assert!(take_output(&mut connection, now).contains("Connection: close"));
    assert!(connection.wants_half_close());
    connection.half_closed(now);
    assert_eq!(connection.read_capacity(), limits().linger_bytes);
    let mut late = Connection::new(PEER, limits(), now);
    std::mem::swap(&mut late, &mut connection);
    assert_eq!(late.expire(after(now, 999)), None);
    assert_eq!(late.expire(after(now, 1000)), Some(Expired::Linger));
    assert!(late.is_closed());
}

#[test]
fn a_lingering_peer_is_read_up_to_a_bound() {
    let now = Instant::now();
    let (mut connection, _) = fed(now, &get(""));
    connection
        .respond(Response::empty(200), true, &mut heads(), now)
        .unwrap();
    take_output(&mut connection, now);
    connection.half_closed(now);
    connection.receive(&vec![b'x'; 64 * 1024 - 1]);
    assert!(!connection.is_closed());
    connection.receive(b"x");
    assert!(connection.is_closed());
}

#[test]
fn deadlines_of_idle_connections_heads_and_bodies() {
    let now = Instant::now();
    let mut idle = open(now);
    assert_eq!(idle.deadline(), Some(after(now, 75_000)));
    assert_eq!(idle.expire(after(now, 74_999)), None);
    assert_eq!(idle.expire(after(now, 75_000)), Some(Expired::Idle));
    assert!(idle.is_closed());

    let start = after(now, 10_000);
    let mut head = open(now);
    head.receive(b"G");
    assert_eq!(head.next(start), Step::Wait);
    head.receive(b"E");
    assert_eq!(head.next(after(start, 4_000)), Step::Wait);
    assert_eq!(
        head.deadline(),
        Some(after(start, 5_000)),
        "not moved by more"
    );
    assert_eq!(head.expire(after(start, 5_000)), Some(Expired::Head));
    assert_eq!(
        head.next(after(start, 5_000)),
        Step::Refused(Refusal::HeadTimeout)
    );

    let (mut body, _) = fed(
        now,
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
    );
    assert_eq!(body.deadline(), Some(after(now, 10_000)));
    assert_eq!(body.expire(after(now, 10_000)), Some(Expired::Body));
    assert_eq!(
        body.next(after(now, 10_000)),
        Step::Refused(Refusal::BodyTimeout)
    );
}

#[test]
fn an_empty_line_on_an_idle_connection_is_not_a_head() {
    let now = Instant::now();
    for pieces in [vec!["\r\n"], vec!["\r", "\n"]] {
        let mut connection = open(now);
        for piece in pieces {
            connection.receive(piece.as_bytes());
            assert_eq!(connection.next(now), Step::Wait);
        }
        assert_eq!(connection.deadline(), Some(after(now, 75_000)));
    }
}

#[test]
fn a_request_that_waits_has_no_deadline() {
    let now = Instant::now();
    let (connection, step) = fed(now, &get(""));
    assert!(matches!(step, Step::Request(_)));
    assert_eq!(connection.deadline(), None);
}

#[test]
fn a_response_must_be_read_within_the_write_timeout() {
    let now = Instant::now();
    let (mut connection, _) = fed(now, &get(""));
    let large = Response::json(200, vec![b'x'; 300_000]);
    connection.respond(large, false, &mut heads(), now).unwrap();
    assert_eq!(connection.write_deadline(), Some(after(now, 10_000)));
    let later = after(now, 9_000);
    connection.written(64 * 1024 - 1, later);
    assert_eq!(
        connection.write_deadline(),
        Some(after(now, 10_000)),
        "too little"
    );
    connection.written(1, later);
    assert_eq!(connection.write_deadline(), Some(after(later, 10_000)));
    assert_eq!(
        connection.expire(after(later, 10_000)),
        Some(Expired::Write)
    );
    assert!(connection.is_closed());
}

#[test]
fn a_long_response_must_be_read_within_a_minute() {
    let now = Instant::now();
    for bytes in [1_000_000, 6_000_000] {
        let (mut connection, _) = fed(now, &get(""));
        let large = Response::json(200, vec![b'x'; bytes]);
        connection.respond(large, false, &mut heads(), now).unwrap();
        // Just before each deadline as little as it takes.
        let mut last = after(now, 0);
        while let Some(deadline) = connection.write_deadline() {
            last = deadline;
            assert!(last <= after(now, 60_000), "of {bytes} bytes");
            let just = deadline.checked_sub(Duration::from_millis(1)).unwrap();
            while connection.write_deadline() == Some(deadline) {
                connection.written(1, just);
            }
        }
        assert!(last > after(now, 50_000), "of {bytes} bytes");
    }
}

#[test]
fn shared_bytes_that_leave_no_room_must_be_read_within_the_write_timeout() {
    let now = Instant::now();
    for (max, steps) in [(4_000_000, 1), (6_000_000, Limits::WRITE_STEPS_MAX)] {
        let ledger = Ledger::of_bytes(max, Division::default());
        let bytes = |count: usize| {
            let mut draft = Draft::new(&ledger, count).unwrap();
            draft.append(&vec![b'x'; count]).unwrap();
            draft.finish()
        };
        let (_old, current) = (bytes(1_000_000), bytes(900_000));
        let body = Body::Shared(current.lend(&Account::Service).unwrap());
        let (mut connection, _) = fed(now, &get(""));
        let response = Response::with_type(200, "application/json", body);
        connection
            .respond(response, false, &mut heads(), now)
            .unwrap();
        let all: usize = connection.output().map(<[u8]>::len).iter().sum();
        let later = after(now, 9_000);
        connection.written(all.div_ceil(steps) - 1, later);
        assert_eq!(connection.write_deadline(), Some(after(now, 10_000)));
        connection.written(1, later);
        let extended = (steps > 1).then(|| after(later, 10_000));
        assert_eq!(connection.write_deadline(), extended);
    }
}

/// RFC 9112 §8: an incomplete request is not handled.
#[test]
fn a_peer_that_closes_within_a_request_is_dropped() {
    let now = Instant::now();
    for input in [
        "",
        "GET / HT",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
    ] {
        let (mut connection, step) = fed(now, input);
        assert_eq!(step, Step::Wait);
        connection.peer_closed();
        assert_eq!(connection.next(now), Step::Wait);
        assert!(connection.is_closed(), "{input:?}");
    }
}

#[test]
fn a_peer_that_closes_while_its_request_waits_is_dropped() {
    let now = Instant::now();
    let (mut connection, step) = fed(now, &get(""));
    assert!(matches!(step, Step::Request(_)));
    connection.peer_closed();
    assert!(connection.is_closed());
}

#[test]
fn a_half_closed_peer_gets_the_response_being_written() {
    let now = Instant::now();
    let (mut connection, _) = fed(now, &get(""));
    connection
        .respond(Response::empty(202), false, &mut heads(), now)
        .unwrap();
    connection.peer_closed();
    assert_eq!(connection.next(now), Step::Wait);
    assert!(!connection.is_closed());
    assert!(take_output(&mut connection, now).starts_with("HTTP/1.1 202 "));
    assert!(connection.is_closed());
}

#[test]
fn a_refused_connection_waits_for_its_response_only() {
    let now = Instant::now();
    let mut connection = Connection::refused(PEER, limits(), now);
    assert!(connection.awaits_response());
    let response = Refusal::TooManyConnections.response();
    connection
        .respond(response, false, &mut heads(), now)
        .unwrap();
    assert!(take_output(&mut connection, now).starts_with("HTTP/1.1 503 "));
    assert!(connection.wants_half_close());
}

#[test]
fn a_shortened_idle_timeout_counts_from_its_beginning() {
    let now = Instant::now();
    let mut connection = open(now);
    connection.shorten_idle(Duration::from_secs(5));
    assert_eq!(connection.deadline(), Some(after(now, 5_000)));
    let (mut receiving, _) = fed(now, "GET");
    let before = receiving.deadline();
    receiving.shorten_idle(Duration::from_secs(1));
    assert_eq!(receiving.deadline(), before);
}

#[test]
fn an_idle_connection_holds_no_memory() {
    let now = Instant::now();
    let (mut connection, _) = fed(now, &get(""));
    connection
        .respond(Response::empty(202), false, &mut heads(), now)
        .unwrap();
    take_output(&mut connection, now);
    assert_eq!(connection.held_bytes(), 0);
    assert!(
        size_of::<Connection>() <= 320,
        "{}",
        size_of::<Connection>()
    );
}

/// Mutated requests: no panic, and however they are cut, the same result.
#[test]
fn mutated_input_never_panics_however_it_is_split() {
    let seeds = [
        get("X: y\r\nConnection: keep-alive\r\n"),
        "POST /a?b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: u\r\n\r\n".into(),
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabcGET / HTTP/1.0\r\n\r\n".into(),
    ];
    let bytes = b"\0\t\n\r +-,:;/*0159aAfgxHT\x7f\x80\xff";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap() % below
    };
    for round in 0..2_000 {
        let mut input = seeds[round % seeds.len()].clone().into_bytes();
        for _ in 0..=random(3) {
            let at = random(input.len());
            match random(3) {
                0 => input[at] = bytes[random(bytes.len())],
                1 => input.insert(at, bytes[random(bytes.len())]),
                _ => drop(input.remove(at)),
            }
        }
        outcome(&input);
    }
}
