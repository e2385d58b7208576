//! Requests for which there is no memory to wait: what needs no waiting is served as before.

use super::bench::{Bench, parked, reply};
use super::*;
use crate::app::fixture::key;
use crate::budget::{Division, Ledger};
use crate::http::auth::authenticator::Mode;

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

/// A request that waits for the review of its token.
fn in_review(bench: &Bench) -> Box<Waiting> {
    let request = Request::new(Method::Get, "/app/scim/n1");
    let routed = router::route(&request.method, &request.path);
    let exchange = Exchange {
        handle: handle(7),
        method: Method::Get,
        endpoint: routed.endpoint(),
        caller: Caller::ANONYMOUS,
        standing: None,
        span: None,
    };
    let hold = bench.dispatcher.hold_until_reviewed(&exchange, &request);
    let pending = PendingAuthentication {
        request,
        routed,
        hold: hold.unwrap(),
    };
    Box::new(Waiting {
        exchange,
        what_for: WaitingFor::Review(Box::new(pending)),
    })
}

#[test]
fn a_request_is_charged_once_before_and_after_the_review_of_its_token() {
    let mut bench = Bench::new();
    let listed = Mode::Kubernetes(["apps/portal".into()].into());
    let clock = Arc::clone(&bench.clock) as Arc<dyn Clock>;
    bench.dispatcher.authenticator = Authenticator::new(listed, 20, clock);
    let bytes = Request::new(Method::Get, "/app/scim/n1").parked_bytes();
    // Half is for requests that wait: room for one of them.
    bench.dispatcher.bounds.bytes = Ledger::of_bytes(2 * bytes, Division::UNLIMITED);
    let user = TokenStatus::User("system:serviceaccount:apps:portal".into());
    let reviewed = app::Response::TokenReviewed(Ok(user));
    let handled = bench.dispatcher.resume(in_review(&bench), reviewed);
    assert!(matches!(parked(handled), Pending::Ensure(..)));
}

/// The review may end before its stream no longer waits for it.
#[test]
fn a_stream_whose_token_is_reviewed_again_goes_on() {
    let bench = Bench::new();
    let mut request = Request::new(Method::Get, "/app/scim/n1");
    request.headers.push("Accept", b"text/event-stream");
    let Handled::Streams(stream) = bench.send(request) else {
        panic!("it is no stream");
    };
    let reviewed = app::Response::TokenReviewed(Ok(TokenStatus::Unknown));
    let handled = bench.dispatcher.resume(stream, reviewed);
    assert!(matches!(handled, Handled::Streams(_)), "{handled:?}");
}

#[test]
fn a_request_that_is_abandoned_leaves_where_it_waits_only() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    bench.world.job_of(&key("zeta", "a"), "u2", json!({}));
    let waiting = |target: &str| match bench.send(Request::new(Method::Get, target)) {
        Handled::Parked(waiting) => Some(waiting),
        other => panic!("{other:?}"),
    };
    let left = || bench.inbox.take(10).len();
    bench.dispatcher.abandon(handle(7), waiting("/app/scim"));
    assert!(bench.assemble().is_empty(), "it still waits for its list");
    bench.dispatcher.abandon(handle(7), Some(in_review(&bench)));
    assert_eq!(left(), 0, "the coordinator knows none of them");
    let of_instance = waiting("/app/scim/n1");
    bench.waiter();
    bench.dispatcher.abandon(handle(7), of_instance);
    assert_eq!(left(), 1);
    // It may wait for anything.
    drop(waiting("/app/zeta"));
    bench.dispatcher.abandon(handle(7), None);
    assert!(bench.assemble().is_empty(), "it still waits for its list");
    assert_eq!(left(), 1);
}
