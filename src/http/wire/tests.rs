use super::*;
use crate::app::RequestId;
use crate::app::cache::InstanceVersion;
use crate::http::message::{Body, Response};
use crate::kube::types::Fingerprint;
use std::time::Duration;

fn head(response: &Response, persistence: Persistence) -> String {
    let mut heads = Heads::new(SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777));
    written(&mut heads, response, persistence)
}

fn written(heads: &mut Heads, response: &Response, persistence: Persistence) -> String {
    let mut out = b"before".to_vec();
    heads.write(&mut out, response, persistence).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_head_has_date_and_length_and_no_server() {
    let response = Response::json(200, "{}").header("x-other", "7");
    assert_eq!(
        head(&response, Persistence::Implied),
        "beforeHTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
         content-type: application/json\r\nx-other: 7\r\nContent-Length: 2\r\n\r\n"
    );
}

#[test]
fn the_connection_field_is_written_where_it_is_not_the_default() {
    let response = Response::empty(202);
    assert!(head(&response, Persistence::Close).contains("\r\nConnection: close\r\n"));
    assert!(head(&response, Persistence::KeepAlive).contains("\r\nConnection: keep-alive\r\n"));
    assert!(!head(&response, Persistence::Implied).contains("Connection"));
}

#[test]
fn an_empty_body_has_length_0_but_204_and_304_have_none() {
    assert!(head(&Response::empty(307), Persistence::Implied).contains("Content-Length: 0\r\n"));
    for status in [204, 304] {
        let text = head(
            &Response::empty(status).header("x", "y"),
            Persistence::Close,
        );
        assert!(!text.contains("Content-Length"), "{text}");
        assert!(text.ends_with("x: y\r\n\r\n"), "{text}");
    }
}

#[test]
fn the_request_id_comes_last() {
    for status in [200, 204] {
        let mut response = Response::empty(status);
        response.request_id = RequestId::given(b"abc");
        let text = head(&response, Persistence::Close);
        assert!(text.ends_with("\r\nX-Request-Id: abc\r\n\r\n"), "{text}");
    }
}

#[test]
fn the_reason_of_422_is_that_of_the_contract() {
    let text = head(&Response::json(422, "{}"), Persistence::Close);
    let line = "beforeHTTP/1.1 422 Unprocessable Content\r\nConnection: close\r\n";
    assert!(text.starts_with(line), "{text}");
}

#[test]
fn every_status_code_can_be_written() {
    // Even those that are unknown to the library.
    for status in 100..=999 {
        let text = head(&Response::json(status, "{}"), Persistence::Implied);
        assert!(
            text.starts_with(&format!("beforeHTTP/1.1 {status} ")),
            "{text}"
        );
        assert!(
            text.ends_with("\r\ncontent-type: application/json\r\nContent-Length: 2\r\n\r\n")
                || !may_have_body(status),
            "{text}"
        );
        assert_eq!(text.matches("\r\nDate: ").count(), 1, "{text}");
    }
}

#[test]
fn a_large_body_is_not_chunked() {
    let response = Response::with_type(200, "text/plain", Body::Owned(vec![b'x'; 1_000_000]));
    let text = head(&response, Persistence::Implied);
    assert!(text.contains("Content-Length: 1000000\r\n"));
    assert!(!text.contains("chunked"));
}

#[test]
fn unsendable_headers_are_refused() {
    let mut heads = Heads::new(SystemTime::UNIX_EPOCH);
    for (name, value) in [
        ("x", "a\r\nSet-Cookie: b"),
        ("x", "a\nb"),
        ("x", "a\rb"),
        ("x", "a\0b"),
        ("x", "ä"),
        ("x", " a"),
        ("x", "a "),
        ("x\r\ny", "a"),
        ("x y", "a"),
        ("x:", "a"),
        ("", "a"),
        ("Content-Length", "3"),
        ("connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("Server", "us"),
        ("date", "today"),
    ] {
        let mut out = Vec::new();
        let response = Response::empty(200).header(name.to_owned(), value.to_owned());
        let result = heads.write(&mut out, &response, Persistence::Implied);
        assert_eq!(
            result,
            Err(BadHeader {
                name: name.to_owned()
            })
        );
        assert!(out.is_empty());
    }
}

#[test]
fn the_date_moves_with_the_second() {
    let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    let mut heads = Heads::new(at(0));
    let response = Response::empty(200);
    for (millis, date) in [
        (999, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (1_999, "Thu, 01 Jan 1970 00:00:01 GMT"),
    ] {
        heads.update(at(millis));
        for _ in 0..2 {
            let text = written(&mut heads, &response, Persistence::Implied);
            assert!(text.contains(date), "{millis}: {text}");
        }
    }
}

#[test]
fn a_kept_head_serves_only_equal_responses() {
    let persistences = [
        Persistence::Implied,
        Persistence::KeepAlive,
        Persistence::Close,
    ];
    let mut responses = Vec::new();
    for status in [200, 204, 422, 503] {
        for body in ["", "ab", "0123456789"] {
            let response = Response::json(status, body);
            responses.push(response.clone());
            responses.push(response.clone().header("retry-after", "1"));
            responses.push(response.clone().header("retry-after", "2"));
            responses.push(response.header("x-long", "x".repeat(KEPT_HEAD_BYTES_MAX)));
        }
    }
    let mut heads = Heads::new(SystemTime::UNIX_EPOCH);
    for round in 0..3 {
        for (number, response) in responses.iter_mut().enumerate() {
            response.request_id = RequestId::given(format!("{round}-{number}").as_bytes());
            for persistence in persistences {
                let mut new = Heads::new(SystemTime::UNIX_EPOCH);
                let expected = written(&mut new, response, persistence);
                // The first may be made, the second is kept.
                for _ in 0..2 {
                    assert_eq!(written(&mut heads, response, persistence), expected);
                }
            }
        }
    }
}

#[test]
fn long_heads_are_not_kept() {
    let mut heads = Heads::new(SystemTime::UNIX_EPOCH);
    let kept = |heads: &Heads| heads.kept.iter().flatten().count();
    let base = written(
        &mut heads,
        &Response::empty(200).header("x", ""),
        Persistence::Implied,
    );
    let room = KEPT_HEAD_BYTES_MAX - (base.len() - "before".len() - "\r\n".len());
    for (length, expected) in [(room, 1), (room + 1, 0)] {
        let response = Response::empty(200).header("x", "x".repeat(length));
        written(&mut heads, &response, Persistence::Implied);
        assert_eq!(kept(&heads), expected, "{length}");
    }
}

#[test]
fn the_instance_of_a_response_comes_after_what_is_alike() {
    let mut heads = Heads::new(SystemTime::UNIX_EPOCH);
    let mut of = |uid: &str, digits: &str| {
        let mut response = Response::json(200, "{}");
        response.instance = Some(InstanceVersion {
            uid: uid.into(),
            fingerprint: Fingerprint::parse(digits),
        });
        let text = written(&mut heads, &response, Persistence::Implied);
        let (_, fields) = text.split_once("Content-Length: 2\r\n").unwrap();
        fields.to_owned()
    };
    let uid = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";
    let digits = "00112233445566778899aabbccddeeff";
    let both = format!("Instance-Id: {uid}\r\nETag: \"{digits}\"\r\n\r\n");
    assert_eq!(of(uid, digits), both);
    assert_eq!(of("u1", ""), "Instance-Id: u1\r\n\r\n");
    // The head before was kept; and nothing that is no field value is sent.
    assert_eq!(of(uid, digits), both);
    for uid in ["", "a\r\nX: y", "ä", "a b"] {
        assert_eq!(of(uid, ""), "\r\n", "{uid:?}");
    }
}

#[test]
fn the_address_of_an_instance_is_the_host_of_a_url() {
    let mut heads = Heads::new(SystemTime::UNIX_EPOCH);
    for (ip, host) in [("10.1.2.3", "10.1.2.3"), ("fd00::1", "[fd00::1]")] {
        let mut response = Response::json(200, "{}");
        response.address = Some(ip.parse().unwrap());
        let text = written(&mut heads, &response, Persistence::Implied);
        let end = format!("Content-Length: 2\r\nX-Instance-Address: {host}\r\n\r\n");
        assert!(text.ends_with(&end), "{text}");
    }
}
