//! Lists: their bodies, tags and conditions, and who waits for one.

use super::bench::{Bench, check, header, parked, reply};
use super::*;
use crate::app::fixture::{handle, key, ready_pod};
use crate::app::lists::ListOf;
use crate::budget::{Division, Ledger};
use crate::http::handlers::Pending;
use crate::metrics::Registry;
use serde_json::json;
use std::time::Duration;

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

/// A bench whose ledger has so many bytes, with 40 instances of each of these types.
fn with_ledger(max: usize, types: &[&str]) -> Bench {
    let mut bench = Bench::new();
    bench.dispatcher.bounds.bytes = Ledger::of_bytes(max, Division::default());
    for app_type in types {
        for number in 0..40 {
            let uid = format!("{app_type}{number}");
            bench
                .world
                .job_of(&key(app_type, &format!("n{number}")), &uid, json!({}));
        }
    }
    bench
}

fn of_type(app_type: &str, peer: u8) -> Request {
    let mut request = Request::new(Method::Get, &format!("/app/{app_type}"));
    request.peer = [10, 0, 0, peer].into();
    request
}

/// How many requests were counted as refused for memory.
fn refused_for_memory(bench: &Bench) -> usize {
    let mut registry = Registry::default();
    bench
        .dispatcher
        .instrumentation
        .metrics
        .encode(&mut registry);
    let start = r#"config_controller_rejected_total{cause="held_bytes_max"} "#;
    let text = registry.text();
    let count = text.lines().find_map(|line| line.strip_prefix(start));
    count.map_or(0, |count| count.parse().unwrap())
}

/// One change of each type, and the time until its next list may be made.
fn change(bench: &Bench, types: &[&str]) {
    for app_type in types {
        bench.world.cache.index().touch(&key(app_type, "n1"));
    }
    *bench.clock.passed.lock().unwrap() += app::lists::PERIOD;
}

/// The bytes of a list of 40 instances.
fn length() -> usize {
    let bench = with_ledger(1 << 20, &["scim"]);
    bench.list(of_type("scim", 1)).body.len()
}

#[test]
fn the_largest_list_is_served_after_each_change_beside_those_of_other_types() {
    let types = ["scim", "zeta", "yak"];
    // Two fit, and what a reader holds while it waits.
    let bench = with_ledger(length() * 4 + 3, &types);
    for round in 0..6 {
        for app_type in types {
            let response = bench.list(of_type(app_type, 1));
            assert_eq!(response.status, 200, "round {round} of {app_type}");
        }
        change(&bench, &types);
    }
}

#[test]
fn a_reader_of_old_lists_gets_429_and_others_the_current_one() {
    let bench = with_ledger(length() * 4 + 3, &["scim"]);
    let slow = bench.list(of_type("scim", 1));
    for _ in 0..3 {
        change(&bench, &["scim"]);
        let refused = bench.list(of_type("scim", 1));
        assert_eq!(refused.status, 429);
        assert_eq!(bench.list(of_type("scim", 2)).status, 200);
    }
    drop(slow);
    assert_eq!(bench.list(of_type("scim", 1)).status, 200);
}

#[test]
fn a_list_waits_for_memory_and_is_then_refused_and_counted() {
    let bench = with_ledger(length() * 4 + 3, &["scim"]);
    let held = [1, 2].map(|peer| {
        let response = bench.list(of_type("scim", peer));
        change(&bench, &["scim"]);
        response
    });
    let waits = |peer| match bench.send(of_type("scim", peer)) {
        Handled::Parked(waiting) => waiting,
        other => panic!("{other:?}"),
    };
    let pass = |time| *bench.clock.passed.lock().unwrap() += time;
    let answer = |waiting, response| reply(bench.dispatcher.resume(waiting, response));
    let waiting = waits(3);
    let mut passed = Duration::ZERO;
    while passed < app::lists::ROOM_WAIT {
        assert!(bench.assemble().is_empty(), "it waits for room");
        pass(app::lists::ROOM_PERIOD);
        passed += app::lists::ROOM_PERIOD;
    }
    let response = answer(waiting, bench.assemble().pop().unwrap());
    assert_eq!(response.status, 503);
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["code"], "overloaded");
    assert_eq!(refused_for_memory(&bench), 1);
    let waiting = waits(3);
    pass(app::lists::PERIOD);
    assert!(bench.assemble().is_empty(), "it waits for room again");
    drop(held);
    assert!(bench.assemble().is_empty(), "it is not tried all the time");
    pass(app::lists::ROOM_PERIOD);
    let response = answer(waiting, bench.assemble().pop().unwrap());
    assert_eq!(response.status, 200);
}

#[test]
fn a_list_that_is_too_large_is_refused_with_its_bound() {
    let bench = with_ledger(length() * 4 - 1, &["scim", "zeta"]);
    let response = bench.list(of_type("scim", 1));
    assert_eq!(response.status, 503);
    // A retry gets the same.
    assert_eq!(header(&response, "retry-after"), None);
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!(body["code"], "overloaded");
    let message = format!(
        "the list has {} bytes, and at most {} (a quarter of HELD_BYTES_MAX) can be sent: raise HELD_BYTES_MAX, or have fewer instances and templates; GET, PATCH and DELETE of a single instance still work",
        length(),
        length() - 1
    );
    assert_eq!(body["msg"], message);
    assert_eq!(refused_for_memory(&bench), 1);
}

#[test]
fn a_list_that_nothing_has_changed_is_not_made_again() {
    let bench = with_ledger(1 << 20, &["scim"]);
    let first = bench.list(of_type("scim", 1));
    // The list was not there yet when this reader looked.
    let index = bench.world.cache.index();
    let of = ListOf::Instances(key("scim", "n1").app_type);
    index.await_list(&of, handle(8), bench.clock.now());
    let Some(app::Response::List(second)) = bench.assemble().pop() else {
        panic!("no list");
    };
    assert_eq!(second.bytes().as_ptr(), first.body.as_ptr());
}
