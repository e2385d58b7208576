//! Responses that are no HTTP, that end early, or that are not what the request is for: each is a
//! failure of the server, for every verb.

use super::*;
use crate::kube::Client;

/// Whole responses, after which the server closes the connection.
const RESPONSES: &[&str] = &[
    // Nothing, or no HTTP.
    "",
    "\r\n\r\n",
    "ERROR\r\n\r\n",
    "<html>502 Bad Gateway</html>\r\n\r\n",
    "SSH-2.0-OpenSSH_9.2p1\r\n",
    "\u{15}\u{3}\u{3}\u{0}\u{2}\u{2}F",
    // A head that ends early, or has what a head may not have.
    "HTTP/1.1 200",
    "HTTP/1.1 200 OK\r\nContent-Le",
    "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 000 No\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 1000 No\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/3.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nbad name: x\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nx: \u{1}\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nno colon\r\n\r\n{}",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 302 Found\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 429 Too Many Requests\r\n\r\n",
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: Fri, 31 Dec 1999 23:59:59 GMT\r\n\r\n",
    "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100\r\n\r\n{",
    // A success without a body, or with one that ends early.
    "HTTP/1.1 200 OK\r\n\r\n",
    "HTTP/1.1 204 No Content\r\n\r\n",
    "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"metadata\":{\"uid\":\"u\"",
    "HTTP/1.1 200 OK\r\n\r\n{\"metadata\":{\"uid\":\"u\"",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"a\"",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{}",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}XX0\r\n\r\n",
    // A success with another body.
    "HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"metadata\":{}}",
    "HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{\"metadata\":null}",
    "HTTP/1.1 201 Created\r\nContent-Length: 14\r\n\r\n{\"metadata\":7}",
];

#[test]
fn each_broken_response_is_a_failure_of_the_server() {
    let mut wrong = Vec::new();
    for response in RESPONSES.iter().map(|text| (*text).to_owned()).chain([
        // A head above its bound.
        format!(
            "HTTP/1.1 200 OK\r\nx: {}\r\n\r\n{{}}",
            "x".repeat(HEAD_BYTES_MAX)
        ),
        format!("HTTP/1.1 200 OK\r\n{}\r\n{{}}", "x: y\r\n".repeat(1000)),
    ]) {
        let sent = response.clone();
        let peer = Peer::new(move |_, wire| {
            if wire.receive() {
                wire.write(&sent);
                let _ = wire.stream.get_mut().shutdown(std::net::Shutdown::Write);
            }
        });
        let transport = Arc::new(peer.transport(Login::Anonymous));
        let client = Client::new(transport, "apps");
        let uid = "u".into();
        let begin: String = response.chars().take(100).collect();
        let mut note = |verb: &str, error: Option<Error>| match error.map(|error| error.class()) {
            Some(Class::Unavailable | Class::Throttled) => {}
            class => wrong.push(format!("{verb}: {class:?} of {begin:?}")),
        };
        note("create", client.create_job("a", b"{}".to_vec()).err());
        note("read", client.find_job("a").err());
        note("delete", client.delete_job("a", &uid, None).err());
        note(
            "patch",
            client.patch_pod("a", &uid, serde_json::json!({})).err(),
        );
        note(
            "list",
            client
                .list::<crate::kube::types::Pod>(&Scope::all("apps"), None, 9, false)
                .err(),
        );
        note("review", client.review_token("t", "us").err());
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
