//! Request lines, targets and fields.

use super::*;
use crate::http::message::Version;

#[test]
fn a_request_is_parsed() {
    let got = request("GET /app/x%20y?a=b&c HTTP/1.1\r\nHost: h:1\r\nX-A:  1 \t\r\nx-b:\r\n\r\n");
    assert_eq!(got.method, Method::Get);
    assert_eq!(got.path, "/app/x%20y");
    assert_eq!(got.query.as_deref(), Some("a=b&c"));
    assert_eq!(got.version, Version::Http11);
    assert_eq!(got.host(), Some("h:1"));
    assert_eq!(got.headers.get("x-a"), Some("1"));
    assert_eq!(got.headers.get("X-B"), Some(""));
    assert_eq!(got.peer, PEER);
    assert_eq!(got.body, b"");
}

#[test]
fn methods_are_tokens_in_their_case() {
    for (name, method) in [
        ("HEAD", Method::Head),
        ("POST", Method::Post),
        ("PUT", Method::Put),
        ("PATCH", Method::Patch),
        ("DELETE", Method::Delete),
        ("get", Method::Other("get".into())),
        ("TRACE", Method::Other("TRACE".into())),
        ("X-Y!", Method::Other("X-Y!".into())),
    ] {
        let got = request(&format!("{name} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(got.method, method);
        assert_eq!(got.method.as_str(), name);
    }
}

/// RFC 9112 §3: one space each, nothing before or behind.
#[test]
fn malformed_request_lines_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /",
        "GET",
        "G(T / HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /\x01 HTTP/1.1",
        "GET /\x7f HTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.1x",
        "GET / HTTP/11",
        "GET / HTTP/1.",
        "GET / HTTPS/1.1",
        "GET / ",
        "{\"a\": 1}",
    ] {
        refused(format!("{line}\r\nHost: a\r\n\r\n"), 400);
    }
}

/// RFC 9112 §2.3, RFC 9110 §15.6.6; the preface of HTTP/2 is RFC 9113 §3.4.
#[test]
fn other_versions_are_refused_as_such() {
    for version in ["2.0", "3.0", "0.9", "1.2", "1.9"] {
        refused(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n"), 505);
    }
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
}

/// A first byte that begins no method is refused immediately: TLS on a plain port.
#[test]
fn bytes_that_are_not_http_are_refused_at_the_first_byte() {
    refused(b"\x16\x03\x01", 400);
    refused(b"\0", 400);
    refused(b"(", 400);
}

/// RFC 9112 §2.2.
#[test]
fn a_few_empty_lines_before_a_request_are_ignored() {
    request(&format!("\r\n\r\n{}", get("")));
    refused(format!("\r\n\r\n\r\n\r\n\r\n{}", get("")), 400);
    refused(format!("\n{}", get("")), 400);
    refused(format!("\r{}", get("")), 400);
    let outcome = outcome(format!("{}\r\n{}", get(""), get("")).as_bytes());
    assert_eq!(outcome.requests.len(), 2);
}

/// RFC 9112 §2.2: a recipient may accept a bare LF as a line end, but not a bare CR.
#[test]
fn lines_end_with_crlf() {
    refused("GET / HTTP/1.1\nHost: a\n\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\r\n\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\nY: b\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\r\nX: a\r\r\n\r\n", 400);
    refused("GET / HTTP/1.1\rHost: a\r\n\r\n", 400);
}

/// RFC 9112 §5, §5.1, §5.2; RFC 9110 §5.5.
#[test]
fn malformed_fields_are_refused() {
    for field in [
        "X : a",
        "X\t: a",
        " X: a",
        "\tX: a",
        "X: a\r\n folded",
        "X: a\r\n\tfolded",
        "X: a\r\n Content-Length: 5",
        ": a",
        "X",
        "X Y: a",
        "X(: a",
        "\u{e4}: a",
        "X: a\0b",
        "X: a\x0bb",
        "X: \x7f",
        "X: a\x1bb",
    ] {
        refused(get(&format!("{field}\r\n")), 400);
    }
}

/// RFC 9110 §5.5: obs-text is opaque, not wrong.
#[test]
fn bytes_above_ascii_in_a_value_are_passed_on() {
    let outcome = outcome(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\r\n\r\n");
    assert_eq!(
        outcome.requests[0].headers.get_bytes("x"),
        Some(&b"\xe4"[..])
    );
}

/// RFC 9112 §3.2.
#[test]
fn a_request_has_one_host() {
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    refused(get("Host: a\r\n"), 400);
    refused(get("host: b\r\n"), 400);
    for host in ["a b", "a,b", "a/b", "u@a", "a?b", "a#b", "a\\b", "\"a\""] {
        refused(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
    }
    for host in ["", "a", "a:80", "10.0.0.1:3333", "[::1]:3333", "x_y.svc"] {
        let got = request(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(got.host(), Some(host));
    }
    request("GET / HTTP/1.0\r\n\r\n");
    refused("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", 400);
}

/// RFC 9112 §3.2.2: absolute-form is accepted, and its authority counts.
#[test]
fn absolute_targets_are_accepted() {
    for (target, path, query, host) in [
        ("http://b/x?y", "/x", Some("y"), "b"),
        ("HTTP://b:80", "/", None, "b:80"),
        ("https://b?y", "/", Some("y"), "b"),
        ("http://[::1]:3/", "/", None, "[::1]:3"),
    ] {
        let got = request(&format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(got.path, path);
        assert_eq!(got.query.as_deref(), query);
        assert_eq!(got.host(), Some(host));
    }
    for target in [
        "ftp://b/",
        "http:///x",
        "http://u@b/",
        "http:/x",
        "b/x",
        "x",
        "?x",
        "/x#y",
        "http://b/#y",
    ] {
        refused(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"), 400);
    }
}

/// RFC 9112 §3.2.4 and §3.2.3.
#[test]
fn the_other_forms_are_for_their_methods() {
    assert_eq!(request("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").path, "*");
    refused("GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400);
    refused("CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", 501);
    refused("GET b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n", 400);
}

/// Callers type names that are not ASCII. UTF-8 is passed on unchanged, anything else is refused.
/// Stricter readers refuse both; RFC 3986 has neither.
#[test]
fn a_target_is_utf8() {
    assert_eq!(
        request("GET /ä HTTP/1.1\r\nHost: a\r\n\r\n").path,
        "/ä".to_owned()
    );
    refused(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400);
}

#[test]
fn a_head_is_bounded() {
    let long = "x".repeat(5000);
    refused(format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), 414);
    refused(format!("{long} / HTTP/1.1\r\nHost: a\r\n\r\n"), 414);
    refused(get(&format!("X: {long}\r\n")), 431);
    refused(get(&"X: y\r\n".repeat(10)), 431);
    request(&get(&"X: y\r\n".repeat(9)));
    let frame = get("X: \r\n").len();
    request(&get(&format!("X: {}\r\n", "x".repeat(4096 - frame))));
    refused(get(&format!("X: {}\r\n", "x".repeat(4097 - frame))), 431);
}

/// RFC 9110 §10.1.1.
#[test]
fn the_only_expectation_is_100_continue() {
    let post =
        |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let outcome = outcome(post("Expect: 100-Continue\r\nContent-Length: 2\r\n", "ab").as_bytes());
    assert_eq!(outcome.requests[0].body, b"ab");
    assert!(
        outcome
            .written
            .starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 ")
    );
    refused(post("Expect: 200-ok\r\n", ""), 417);
    refused(post("Expect: 100-continue\r\nExpect: x\r\n", ""), 417);
    let without_body = super::outcome(post("Expect: 100-continue\r\n", "").as_bytes());
    assert!(without_body.written.starts_with("HTTP/1.1 202 "));
    let old = "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab";
    let old = super::outcome(old.as_bytes());
    assert!(old.written.starts_with("HTTP/1.1 202 "), "ignored in 1.0");
    // A client that waits for a 100 before sending too large a body is refused immediately.
    let too_large = post("Expect: 100-continue\r\nContent-Length: 1001\r\n", "");
    refused(too_large, 413);
}

/// RFC 9112 §9.3.
#[test]
fn a_connection_stays_open_unless_one_side_closes_it() {
    for (request, connection, goes_on) in [
        (get(""), None, true),
        (get("Connection: close\r\n"), Some("close"), false),
        (get("Connection: x , Close\r\n"), Some("close"), false),
        (
            get("Connection: keep-alive, close\r\n"),
            Some("close"),
            false,
        ),
        (get("Connection: keep-alive\r\n"), None, true),
        ("GET / HTTP/1.0\r\n\r\n".into(), Some("close"), false),
        (
            "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n".into(),
            Some("keep-alive"),
            true,
        ),
    ] {
        let outcome = outcome(request.as_bytes());
        assert_eq!(outcome.closed, !goes_on, "{request}");
        let found = outcome
            .written
            .lines()
            .find_map(|line| line.strip_prefix("Connection: "));
        assert_eq!(found, connection, "{request}");
    }
}

#[test]
fn input_after_the_last_request_is_ignored() {
    let outcome = outcome(format!("{}{}", get("Connection: close\r\n"), get("")).as_bytes());
    assert_eq!(outcome.requests.len(), 1);
}
