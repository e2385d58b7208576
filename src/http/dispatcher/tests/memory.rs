//! Requests for which there is no memory to wait: what needs no waiting is served as before.

use super::bench::{Bench, reply};
use super::*;
use crate::app::fixture::key;
use crate::budget::{Division, Ledger};

#[test]
fn without_memory_only_requests_that_would_wait_are_refused() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    bench.world.ready("u1", "10.0.0.1");
    // Its list is known; that of another type has to be made.
    drop(bench.list(Request::new(Method::Get, "/app/scim")));
    bench.world.job_of(&key("zeta", "a"), "u2", json!({}));
    bench.dispatcher.bounds.bytes = Ledger::of_bytes(100, Division::UNLIMITED);
    for target in [
        "/app/scim/n1",
        "/create/scim?sessionID=n1",
        "/app/scim",
        "/app",
        "/livez",
    ] {
        let response = reply(bench.send(Request::new(Method::Get, target)));
        assert_eq!(response.status, 200, "{target}");
    }
    let mut patch = Request::new(Method::Patch, "/app/scim/n1");
    patch.headers.push("Content-Type", b"application/json");
    patch.body = br#"{"a":"b"}"#.to_vec();
    for request in [
        Request::new(Method::Get, "/app/zeta"),
        Request::new(Method::Get, "/app/scim/n2"),
        Request::new(Method::Get, "/create/scim?sessionID=n2"),
        Request::new(Method::Get, "/release/n1"),
        Request::new(Method::Delete, "/app/scim/n1"),
        patch,
    ] {
        let what = format!("{request:?}");
        let response = reply(bench.send(request));
        assert_eq!(response.status, 503, "{what}");
        let text = std::str::from_utf8(&response.body).unwrap();
        assert!(text.contains(r#""code":"overloaded""#), "{what}: {text}");
        assert!(
            bench.inbox.take(1).is_empty(),
            "{what} reached the coordinator"
        );
    }
}
