//! Requests that RFC 9112 allows and those that are refused, as literals.
//!
//! [`outcome`] feeds each input in one piece and then byte by byte, and requires
//! that both have the same outcome.

mod bodies;
mod heads;
mod life;

use super::*;
use std::time::{Duration, SystemTime};

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

fn limits() -> Arc<Limits> {
    Arc::new(Limits {
        head_bytes: 4096,
        header_count: 10,
        body_bytes: 1000,
        ..Limits::default()
    })
}

fn heads() -> Heads {
    Heads::new(SystemTime::UNIX_EPOCH)
}

/// The requests, refusal and output of an input.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Request>,
    refused: Option<Refusal>,
    /// The bytes written, with `202` for each request and the refusals as they are.
    written: String,
    closed: bool,
}

/// Feeds `input` in pieces of `piece` bytes; each request is answered immediately.
fn fed_in_pieces(input: &[u8], piece: usize) -> Outcome {
    let now = Instant::now();
    let mut connection = Connection::new(PEER, limits(), now);
    let mut outcome = Outcome::default();
    let mut rest = input;
    while !rest.is_empty() && !connection.is_closed() {
        let room = connection.read_capacity();
        if room == 0 {
            break;
        }
        let (bytes, behind) = rest.split_at(piece.min(rest.len()).min(room));
        rest = behind;
        connection.receive(bytes);
        loop {
            let response = match connection.next(now) {
                Step::Wait => break,
                Step::Request(request) => {
                    outcome.requests.push(*request);
                    Response::empty(202)
                }
                Step::Refused(refusal) => {
                    outcome.refused = Some(refusal);
                    refusal.response()
                }
            };
            connection
                .respond(response, false, &mut heads(), now)
                .unwrap();
        }
        outcome.written.push_str(&take_output(&mut connection, now));
    }
    outcome.closed = connection.wants_half_close();
    outcome
}

fn take_output(connection: &mut Connection, now: Instant) -> String {
    let output = connection.output().concat();
    connection.written(output.len(), now);
    String::from_utf8(output).unwrap()
}

/// The outcome of `input`, which must not depend on how it is cut.
#[track_caller]
fn outcome(input: &[u8]) -> Outcome {
    let whole = fed_in_pieces(input, usize::MAX);
    for piece in [1, 2, 7] {
        let cut = fed_in_pieces(input, piece);
        assert_eq!(whole, cut, "in pieces of {piece}: {}", input.escape_ascii());
    }
    whole
}

/// The one request that `input` is.
#[track_caller]
fn request(input: &str) -> Request {
    let mut outcome = outcome(input.as_bytes());
    assert_eq!(outcome.refused, None, "{input:?}");
    assert_eq!(outcome.requests.len(), 1, "{input:?}: {outcome:?}");
    outcome.requests.remove(0)
}

/// Checks that `input` is refused with this status, that no part of it counts as
/// a request, and that the connection ends.
#[track_caller]
fn refused(input: impl AsRef<[u8]>, status: u16) {
    let input = input.as_ref();
    let outcome = outcome(input);
    let got = outcome.refused.map(Refusal::status);
    assert_eq!(got, Some(status), "{}", input.escape_ascii());
    assert_eq!(outcome.requests, [], "{}", input.escape_ascii());
    assert!(outcome.closed);
    let line = format!("HTTP/1.1 {status} ");
    assert!(outcome.written.starts_with(&line), "{}", outcome.written);
    assert!(outcome.written.contains("\r\nConnection: close\r\n"));
}

/// A GET with these lines between the request line and the empty line.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
}
