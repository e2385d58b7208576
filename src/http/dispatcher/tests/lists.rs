//! Lists: their bodies, tags and conditions, and who waits for one.

use super::bench::{Bench, check, header, parked, reply};
use super::*;
use crate::app::fixture::{key, ready_pod};
use crate::http::handlers::Pending;
use serde_json::json;

fn request(method: Method, conditions: &[&str]) -> Request {
    let mut request = Request::new(method, "/app/scim");
    for condition in conditions {
        request.headers.push("If-None-Match", condition.as_bytes());
    }
    request
}

fn get(bench: &Bench) -> Response {
    bench.list(request(Method::Get, &[]))
}

#[test]
fn a_list_has_the_fields_of_the_contract_in_their_order() {
    let mut bench = Bench::new();
    let mut pod = ready_pod("10.1.2.3");
    pod["metadata"] = json!({
        "labels": {
            "config-controller.semafor.ch/meta-username": "bob",
            "config-controller.semafor.ch/meta-ip": "6.6.6.6",
            "config-controller.semafor.ch/meta-name": "other",
            "config-controller.semafor.ch/meta-sessionID": "s1",
        },
        "annotations": {"config-controller.semafor.ch/meta.0123456789": r#"["mail","ä@x"]"#},
    });
    bench.world.job("u1", json!({}));
    bench.world.pod("u1", pod);
    bench.world.job_of(&key("scim", "n2"), "u2", json!({}));
    let expected = concat!(
        r#"[{"ip":"10.1.2.3","name":"n1","sessionID":"s1","hostname":"n1","addr":"10.1.2.3","#,
        r#""errored":false,"start":1777629600.0,"mail":"ä@x","username":"bob"},"#,
        r#"{"ip":null,"name":"n2","sessionID":"n2","hostname":"n2","addr":null,"#,
        r#""errored":true,"start":0}]"#,
    );
    check(&get(&bench), 200, expected);
    check(&get(&bench), 200, expected);
    let unknown = bench.get("/app/nope");
    check(&unknown, 200, "[]");
    assert!(header(&unknown, "etag").is_some());
}

#[test]
fn whoever_has_the_list_gets_304_until_it_changes() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    let first = get(&bench);
    let etag = header(&first, "etag").unwrap().to_owned();
    assert_eq!(header(&first, "cache-control"), Some("no-cache"));
    for method in [Method::Get, Method::Head] {
        for condition in [etag.as_str(), "*", &format!("\"x\", W/{etag}")] {
            let response = bench.list(request(method.clone(), &[condition]));
            check(&response, 304, "");
            assert_eq!(header(&response, "etag"), Some(etag.as_str()));
            assert_eq!(header(&response, "cache-control"), Some("no-cache"));
            assert_eq!(header(&response, "content-type"), None);
        }
    }
    assert_eq!(bench.list(request(Method::Get, &["\"x\""])).status, 200);
    bench.world.ready("u1", "10.0.0.1");
    *bench.clock.passed.lock().unwrap() += app::lists::PERIOD;
    let second = bench.list(request(Method::Get, &[&etag]));
    assert_eq!(second.status, 200);
    assert_ne!(header(&second, "etag"), Some(etag.as_str()));
}

#[test]
fn only_a_list_that_has_changed_waits() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    let waits = |bench: &Bench| bench.send(request(Method::Get, &[]));
    assert!(matches!(parked(waits(&bench)), Pending::List(..)));
    drop(get(&bench));
    assert_eq!(reply(waits(&bench)).status, 200);
    // Another type and an Event change nothing of it.
    bench.world.job_of(&key("other", "a"), "u2", json!({}));
    bench.world.event("u1", "FailedCreate", "no");
    assert_eq!(reply(waits(&bench)).status, 200);
    bench.world.ready("u1", "10.0.0.1");
    assert!(matches!(parked(waits(&bench)), Pending::List(..)));
    // So it is with what changes by itself, for example with time.
    *bench.clock.passed.lock().unwrap() += app::lists::PERIOD;
    drop(get(&bench));
    bench.world.cache.index().touch(&key("scim", "n1"));
    assert!(matches!(parked(waits(&bench)), Pending::List(..)));
}

#[test]
fn the_bytes_of_a_list_are_shared() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    let [first, second] = [get(&bench), get(&bench)].map(|response| response.body);
    assert_eq!(first.as_ptr(), second.as_ptr());
}

#[test]
fn lists_are_served_while_the_replica_shuts_down() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    bench.dispatcher.api.app.drain(bench.clock.now());
    assert_eq!(get(&bench).status, 200);
}
