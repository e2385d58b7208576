//! Framing: where a body ends. Ambiguous framing is refused.

use super::*;

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

#[test]
fn a_body_by_length() {
    assert_eq!(
        request(&post("Content-Length: 5\r\n", "hello")).body,
        b"hello"
    );
    assert_eq!(request(&post("Content-Length: 0\r\n", "")).body, b"");
    assert_eq!(
        request(&post("Content-Length: 005\r\n", "hello")).body,
        b"hello"
    );
    assert_eq!(
        request(&get("Content-Length: 2\r\n").replace("\r\n\r\n", "\r\n\r\nab")).body,
        b"ab"
    );
    let full = "x".repeat(1000);
    assert_eq!(
        request(&post("Content-Length: 1000\r\n", &full)).body.len(),
        1000
    );
}

/// RFC 9110 §8.6, RFC 9112 §6.3 rule 5.
#[test]
fn a_length_is_digits_and_appears_once() {
    for value in [
        "+5", "-5", "5, 5", "5,5", "5 5", "abc", "0x5", "5.0", "5;", "", " ", "٥", "1e2",
    ] {
        refused(post(&format!("Content-Length: {value}\r\n"), "hello"), 400);
    }
    refused(
        post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"),
        400,
    );
    refused(
        post("Content-Length: 5\r\ncontent-length: 6\r\n", "hello!"),
        400,
    );
    refused(post("Content-Length:\r\n 5\r\n", "hello"), 400);
}

#[test]
fn a_length_over_the_bound_is_refused_before_the_body() {
    for length in [
        "1001",
        "100000000000",
        "9000000000000000000",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
    ] {
        refused(post(&format!("Content-Length: {length}\r\n"), ""), 413);
    }
}

/// RFC 9112 §6.1: both is an attack or a mistake.
#[test]
fn length_and_coding_together_are_refused() {
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    refused(post(both, "0\r\n\r\n"), 400);
    let both = "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n";
    refused(post(both, "0\r\n\r\n"), 400);
    let both = "Transfer-Encoding: x\r\nContent-Length: 5\r\n";
    refused(post(both, "hello"), 400);
}

/// RFC 9112 §6.1, §6.3 rule 4, §7.
#[test]
fn the_only_coding_is_chunked() {
    for value in [
        "xchunked",
        "chunkedx",
        "identity",
        "chunked, identity",
        "chunked, chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked,",
        ",chunked",
        "",
        "gzip",
        "chunk ed",
        "chunked gzip",
        "\x0bchunked",
    ] {
        let field = format!("Transfer-Encoding: {value}\r\n");
        refused(post(&field, "0\r\n\r\n"), 400);
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    refused(post(twice, "0\r\n\r\n"), 400);
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n";
    refused(post(twice, "0\r\n\r\n"), 400);
    refused(
        post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        501,
    );
    refused(post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"), 400);
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    refused(old, 400);
    let other_case = post("transfer-encoding: \tChunked \r\n", "1\r\na\r\n0\r\n\r\n");
    assert_eq!(request(&other_case).body, b"a");
}

/// RFC 9110 §15.5.16: whatever the coding is called, before any of the body is read.
#[test]
fn a_body_with_a_content_coding_is_415() {
    for value in [
        "gzip",
        "GZip",
        "x-gzip",
        "br",
        "identity, gzip",
        "gzip,",
        "nonsense",
    ] {
        let field = format!("Content-Encoding: {value}\r\n");
        refused(post(&(field.clone() + "Content-Length: 1\r\n"), "a"), 415);
        refused(post(&(field.clone() + "Content-Length: 1\r\n"), ""), 415);
        let chunked = "Transfer-Encoding: chunked\r\n";
        refused(post(&(field.clone() + chunked), "1\r\na\r\n0\r\n\r\n"), 415);
        let expects = "Content-Length: 1\r\nExpect: 100-continue\r\n";
        refused(post(&(field.clone() + expects), ""), 415);
        // Without a body nothing is coded.
        request(&get(&field));
        request(&get(&(field + "Content-Length: 0\r\n")));
    }
    let lines = "Content-Encoding: identity\r\ncontent-encoding: br\r\nContent-Length: 1\r\n";
    let outcome = outcome(post(lines, "a").as_bytes());
    assert!(
        outcome
            .written
            .contains("\r\naccept-encoding: identity\r\n")
    );
    for value in ["identity", " Identity ", "", ","] {
        let lines = format!("Content-Encoding: {value}\r\nContent-Length: 1\r\n");
        assert_eq!(request(&post(&lines, "a")).body, b"a");
    }
}

/// RFC 9112 §7.1.
#[test]
fn a_body_in_chunks() {
    for (body, decoded) in [
        ("0\r\n\r\n", ""),
        ("5\r\nhello\r\n0\r\n\r\n", "hello"),
        ("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello"),
        ("0005\r\nhello\r\n000\r\n\r\n", "hello"),
        ("A\r\n0123456789\r\n0\r\n\r\n", "0123456789"),
        ("a\r\n01234\r\n789\r\n0\r\n\r\n", "01234\r\n789"),
        ("5;a\r\nhello\r\n0;b=\"c;d\"\r\n\r\n", "hello"),
        ("5 ;a\r\nhello\r\n0\r\n\r\n", "hello"),
        ("5\r\nhello\r\n0\r\nX: y\r\nZ:\r\n\r\n", "hello"),
    ] {
        assert_eq!(request(&chunked(body)).body, decoded.as_bytes(), "{body}");
    }
}

#[test]
fn trailer_fields_are_dropped() {
    let got = request(&chunked(
        "0\r\nAuthorization: x\r\nContent-Length: 9\r\n\r\n",
    ));
    assert_eq!(got.headers.iter().count(), 2);
}

#[test]
fn malformed_chunks_are_refused() {
    for body in [
        "+5\r\nhello\r\n0\r\n\r\n",
        "-1\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5h\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        ";a\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a\n\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "g\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\r\n folded\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n\n",
    ] {
        refused(chunked(body), 400);
    }
}

#[test]
fn chunks_are_bounded_together() {
    refused(chunked("3e9\r\n"), 413);
    refused(chunked("ffffffffffffffff\r\n"), 413);
    refused(chunked(&("5\r\nhello\r\n".repeat(201))), 413);
    let full = chunked(&format!("{}0\r\n\r\n", "5\r\nhello\r\n".repeat(200)));
    assert_eq!(request(&full).body.len(), 1000);
}

#[test]
fn extensions_and_trailers_are_bounded() {
    refused(chunked(&format!("5;{}\r\n", "x".repeat(2000))), 400);
    refused(chunked(&format!("5{}", "0".repeat(2000))), 400);
    let extension = format!("1;{}\r\na\r\n", "x".repeat(900));
    refused(chunked(&extension.repeat(5)), 400);
    refused(chunked(&format!("0\r\n{}\r\n", "X: y\r\n".repeat(11))), 431);
}

#[test]
fn bytes_after_a_body_are_the_next_request() {
    let next = get("");
    for first in [
        post("Content-Length: 5\r\n", "GET /"),
        chunked("5\r\nGET /\r\n0\r\n\r\n"),
    ] {
        let outcome = outcome(format!("{first}{next}").as_bytes());
        assert_eq!(outcome.refused, None);
        let bodies: Vec<_> = outcome.requests.iter().map(|r| r.body.as_slice()).collect();
        assert_eq!(bodies, [&b"GET /"[..], b""]);
    }
}
