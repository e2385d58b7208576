//! Requests for which there is no memory to wait: what needs no waiting is served as before.

use super::bench::{Bench, reply};
use super::*;

/// A request that may not wait.
fn hurried(method: Method, target: &str) -> Request {
    Request {
        may_wait: false,
        ..Request::new(method, target)
    }
}

#[test]
fn without_memory_only_requests_that_would_wait_are_refused() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    bench.world.ready("u1", "10.0.0.1");
    for target in [
        "/app/scim/n1",
        "/create/scim?sessionID=n1",
        "/app/scim",
        "/app",
        "/livez",
    ] {
        let response = reply(bench.send(hurried(Method::Get, target)));
        assert_eq!(response.status, 200, "{target}");
    }
    let mut patch = hurried(Method::Patch, "/app/scim/n1");
    patch.headers.push("Content-Type", b"application/json");
    patch.body = br#"{"a":"b"}"#.to_vec();
    for request in [
        hurried(Method::Get, "/app/scim/n2"),
        hurried(Method::Get, "/create/scim?sessionID=n2"),
        hurried(Method::Get, "/release/n1"),
        hurried(Method::Delete, "/app/scim/n1"),
        patch,
    ] {
        let what = format!("{request:?}");
        let handled = bench.send(request);
        assert!(
            matches!(handled, Handled::Refused(Refusal::NoMemory)),
            "{what}: {handled:?}"
        );
        assert!(
            bench.inbox.take(1).is_empty(),
            "{what} reached the coordinator"
        );
    }
}
