//! Which instance a response is about, and what a request expects of it.

use super::bench::{Bench, check, header, parked, reply};
use super::*;
use crate::app::Expectation;
use crate::app::cache::InstanceVersion;
use crate::app::fixture::key;
use crate::model::names::InstanceKey;
use crate::model::template::Variables;

const REVISION: &str = "config-controller.semafor.ch/values-revision";

/// A GET of scim/n1 with these headers.
fn get(target: &str, headers: &[(&str, &str)]) -> Request {
    let mut request = Request::new(Method::Get, target);
    for (name, value) in headers {
        request.headers.push(name, value.as_bytes());
    }
    request
}

/// scim/n1 is ready.
fn ready() -> Bench {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    bench.world.ready("u1", "10.1.2.3");
    bench
}

fn version(response: &Response) -> InstanceVersion {
    let instance = response.instance.clone().unwrap();
    assert_eq!(instance.uid, "u1".into());
    assert!(instance.fingerprint.is_some());
    instance
}

#[test]
fn a_ready_instance_has_its_uid_and_a_tag() {
    let mut bench = ready();
    let response = bench.get("/app/scim/n1");
    assert_eq!(header(&response, "cache-control"), Some("no-cache"));
    assert_eq!(header(&response, "preference-applied"), None);
    let first = version(&response);
    assert_eq!(version(&bench.get("/app/scim/n1?x=y")), first);
    let mut pod = ready_pod("10.1.2.3");
    pod["metadata"] = json!({"labels": {"config-controller.semafor.ch/meta-a": "b"}});
    bench.world.pod("u1", pod);
    assert_ne!(version(&bench.get("/app/scim/n1")), first);
    // Nothing else has them.
    let others = ["/app", "/info", "/create/scim?sessionID=n1"];
    assert!(others.iter().all(|path| bench.get(path).instance.is_none()));
}

#[test]
fn a_caller_that_has_it_already_gets_304() {
    let bench = ready();
    let first = version(&bench.get("/app/scim/n1"));
    let tag = first.fingerprint.unwrap();
    let known = |value: &str| {
        let response = reply(bench.send(get("/app/scim/n1", &[("If-None-Match", value)])));
        assert_eq!(version(&response), first);
        assert_eq!(header(&response, "cache-control"), Some("no-cache"));
        (response.status, response.body.len())
    };
    let body = r#"{"ip":"10.1.2.3"}"#.len();
    assert_eq!(known(&format!("\"{tag}\"")), (304, 0));
    assert_eq!(known(&format!("\"x\", W/\"{tag}\"")), (304, 0));
    assert_eq!(known("*"), (304, 0));
    assert_eq!(known("\"x\""), (200, body));
    assert_eq!(known(&tag.to_string()), (200, body));
    // Also after a wait.
    let request = get("/app/scim/n2", &[("If-None-Match", "*")]);
    let pending = parked(bench.send(request));
    let ready = bench.world.cache.ready(&n1()).unwrap();
    let response = app::Response::Ready {
        ready,
        timings: None,
    };
    assert_eq!(resumed(&bench, pending, response).status, 304);
}

fn zeta() -> InstanceKey {
    key("zeta", "n1")
}

/// The revision of these values for the template of zeta.
fn revision(query: &str) -> String {
    let bench = Bench::new();
    let variables = Variables::from_query(query).unwrap();
    let app = &bench.dispatcher.api.app;
    let expectation = app.expect_values(&zeta().app_type, &variables);
    match expectation {
        Ok(Expectation::Values(revision)) => revision.to_string(),
        other => panic!("{other:?}"),
    }
}

/// zeta/n1 is ready, made with the values of this revision.
fn made_with(revision: Option<&str>) -> Bench {
    let mut bench = Bench::new();
    let annotations = revision.map_or(json!({}), |revision| json!({REVISION: revision}));
    let metadata = json!({"metadata": {"annotations": annotations}});
    bench.world.job_of(&zeta(), "u1", metadata);
    bench.world.ready("u1", "10.1.2.3");
    bench
}

fn matching(target: &str) -> Request {
    get(target, &[("Prefer", "match=values")])
}

#[test]
fn the_same_values_are_confirmed() {
    let bench = made_with(Some(&revision("zone=a")));
    let response = reply(bench.send(matching("/app/zeta/n1?other=b&zone=a")));
    check(&response, 200, r#"{"ip":"10.1.2.3"}"#);
    let applied = Some("match=values");
    assert_eq!(header(&response, "preference-applied"), applied);
    // An older version has not written them down.
    let bench = made_with(None);
    let response = reply(bench.send(matching("/app/zeta/n1?zone=a")));
    check(&response, 200, r#"{"ip":"10.1.2.3"}"#);
    assert_eq!(header(&response, "preference-applied"), None);
}

#[test]
fn before_a_caller_hears_of_other_values_kubernetes_is_asked() {
    let bench = made_with(Some(&revision("zone=a")));
    assert_eq!(bench.get("/app/zeta/n1?zone=b").status, 200);
    parked(bench.send(matching("/app/zeta/n1?zone=b")));
    let waiter = bench.waiter();
    assert!(waiter.reads.is_some());
    let expected = Expectation::Values(revision("zone=b").into());
    assert_eq!(waiter.expectation, expected);
}

#[test]
fn values_that_make_nothing_are_reported_as_a_start_would() {
    let bench = made_with(Some(&revision("zone=a")));
    let response = reply(bench.send(matching("/app/zeta/n1")));
    assert_eq!(response.status, 422);
    let body = String::from_utf8_lossy(&response.body);
    assert!(body.contains("variable_missing"), "{body}");
    // What a type without a valid template makes of values, nobody knows.
    for target in ["/app/scim/n1", "/app/nope/n1"] {
        parked(bench.send(matching(target)));
        assert_eq!(bench.waiter().expectation, Expectation::None);
    }
}

#[test]
fn a_condition_that_is_not_heeded_stops_a_change() {
    let bench = ready();
    for (method, path, name) in [
        (Method::Patch, "/app/scim/n1", "If-None-Match"),
        (Method::Delete, "/app/scim/n1", "If-None-Match"),
        (Method::Get, "/app/scim/n1", "If-Match"),
        (Method::Get, "/create/scim?sessionID=n1", "If-Match"),
        (Method::Get, "/create/scim?sessionID=n1", "If-None-Match"),
        (Method::Put, "/app/scim/n1/heartbeat", "If-Match"),
        (Method::Put, "/app/scim/n1/heartbeat", "If-None-Match"),
        (Method::Get, "/release/n1", "If-Match"),
        (Method::Get, "/release/n1", "If-None-Match"),
    ] {
        let mut request = Request::new(method, path);
        request.headers.push(&name.to_lowercase(), b"*");
        let response = reply(bench.send(request));
        let text = String::from_utf8_lossy(&response.body);
        assert_eq!(response.status, 400, "{text}");
        assert!(
            text.contains(&format!("the header {name} is not supported here")),
            "{text}"
        );
        assert!(text.contains("bad_request"), "{text}");
    }
    // Nothing has a modification date (RFC 9110 §13.1.4).
    let mut request = Request::new(Method::Delete, "/app/scim/n1");
    request
        .headers
        .push("If-Unmodified-Since", b"Mon, 30 Nov 2026 05:00:00 GMT");
    drop(parked(bench.send(request)));
    let mut request = Request::new(Method::Get, "/app/scim");
    request.headers.push("If-Match", b"\"x\"");
    assert_eq!(bench.list(request).status, 200);
}
