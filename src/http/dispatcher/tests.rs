//! Requests by literals, and the exact bytes of the responses; what waits is taken from the
//! coordinator's inbox.

mod bench;
mod fencing;
mod headers;
mod instances;
mod lists;
mod memory;
mod proxies;
mod templates;

use super::*;
use crate::app::Intent;
use crate::app::coordinator::{Input, Want};
use crate::app::fixture::{World, handle, n1, ready_pod, t0};
use crate::app::{Bound, Progress};
use crate::health::HealthInputs;
use crate::http::conditional::Condition;
use crate::http::handlers::{NotReady, Starts};
use crate::model::labels::RESERVED;
use crate::model::status::{Finding, Phase};
use crate::store::Sink as _;
use crate::threads::Stuck;
use bench::{Bench, check, header, parked, reply, resumed};
use serde_json::Value;
use std::time::{Duration, Instant};

#[test]
fn types() {
    check(&Bench::new().get("/app"), 200, r#"["scim","zeta"]"#);
    check(&Bench::new().get("/app?x=y"), 200, r#"["scim","zeta"]"#);
}

#[test]
fn a_ready_instance_is_answered_without_the_coordinator() {
    let mut bench = Bench::new();
    let mut pod = ready_pod("10.1.2.3");
    pod["metadata"] = json!({"labels": {
        "config-controller.semafor.ch/meta-username": "bob",
        "config-controller.semafor.ch/meta-ip": "6.6.6.6",
        "config-controller.semafor.ch/meta-connected": "true",
    }});
    bench.world.job("u1", json!({}));
    bench.world.pod("u1", pod);
    let expected = r#"{"ip":"10.1.2.3","connected":"true","username":"bob"}"#;
    check(&bench.get("/app/scim/n1?utcOffset=120"), 200, expected);
    assert!(bench.inbox.take(1).is_empty());
}

#[test]
fn a_start_is_queued_for_the_coordinator_with_variables_and_deadline() {
    let bench = Bench::new();
    let request = Request::new(Method::Get, "/app/scim/n1?utcOffset=120&X=a&X=b&E=&s=a+b&");
    assert!(matches!(parked(bench.send(request)), Pending::Ensure(..)));
    let waiter = bench.waiter();
    assert_eq!((&waiter.key, waiter.handle), (&n1(), handle(7)));
    assert_eq!(&*waiter.by.caller, "127.0.0.1");
    assert!(matches!(waiter.want, Want::Instance(Intent::Start(_))));
    let variables = waiter.want.variables().unwrap();
    let pairs: Vec<(&str, &str)> = variables.iter().collect();
    assert_eq!(
        pairs,
        [("utcOffset", "120"), ("X", "b"), ("E", ""), ("s", "a b")]
    );
    assert_eq!(bench.seconds_from_now(waiter.deadline), 10);
}

#[test]
fn prefer_wait_sets_the_deadline_up_to_a_cap() {
    let bench = Bench::new();
    for (prefer, secs) in [("wait=60", 60), ("wait=999", 300), ("wait=0", 0)] {
        let mut request = Request::new(Method::Get, "/app/scim/n1");
        request.headers.push("Prefer", prefer.as_bytes());
        bench.send(request);
        let deadline = bench.waiter().deadline;
        assert_eq!(bench.seconds_from_now(deadline), secs, "{prefer}");
    }
    // The wait of a PATCH bounds the wait for the pod; the change itself has its own deadline.
    for (prefer, secs) in [("wait=60", 60), ("wait=0", 0)] {
        let mut request = Request::new(Method::Patch, "/app/scim/n1");
        request.headers.push("Prefer", prefer.as_bytes());
        request.headers.push("Content-Type", b"application/json");
        request.body = b"{}".to_vec();
        bench.send(request);
        let deadline = bench.waiter().deadline;
        assert_eq!(bench.seconds_from_now(deadline), secs, "{prefer}");
    }
}

#[test]
fn progress_begins_with_the_legacy_status() {
    let bench = Bench::new();
    let mut finding = Finding::admitting();
    let progress = |finding: &Finding, is_failure_report: bool| {
        let progress = Progress {
            position: None,
            finding: finding.clone(),
            is_failure_report,
            kept_for: Duration::ZERO,
        };
        resumed(
            &bench,
            Pending::Ensure(
                Starts::AsAsked,
                Condition::default(),
                NotReady::Accepted,
                true,
            ),
            app::Response::Progress {
                instance: None,
                progress,
                timings: None,
            },
        )
    };
    check(
        &progress(&finding, false),
        202,
        r#"{"status":"node_not_ready","phase":"admitting","reason":"Admitting","msg":"the Job is being created"}"#,
    );
    finding.phase = Phase::Starting;
    finding.reason = "OOMKilled".into();
    finding.message = "too much".into();
    finding.since = Some(t0());
    finding.exit_code = Some(137);
    finding.last_output = Some("last \"words\"".into());
    check(
        &progress(&finding, true),
        202,
        r#"{"status":"app_error","phase":"starting","reason":"OOMKilled","msg":"too much","since":"2026-05-01T10:00:00Z","exitCode":137,"log":"last \"words\""}"#,
    );
}

#[test]
fn responses_of_the_coordinator() {
    let bench = Bench::new();
    let none = || app::Response::Failed(Error::NoInstance(n1()));
    for pending in [Pending::Label(n1()), Pending::Stop] {
        check(
            &resumed(&bench, pending, app::Response::Done),
            200,
            r#"{"status":"Success"}"#,
        );
    }
    let released = Pending::Release("s-1".into());
    for (pending, status, suffix) in [
        (Pending::Stop, "No job found", "scim/n1"),
        (Pending::Label(n1()), "error", "scim/n1"),
        // The caller of the older route does not know the key.
        (released, "Not found", "with the name or session 's-1'"),
    ] {
        let msg = format!("there is no instance {suffix}");
        let detail = format!(r#"{{"status":"{status}","msg":"{msg}","code":"not_found"}}"#);
        let body = format!(r#"{{"detail":{detail}}}"#);
        check(&resumed(&bench, pending, none()), 404, &body);
    }
    let stopped = resumed(
        &bench,
        Pending::Ensure(
            Starts::AsAsked,
            Condition::default(),
            NotReady::Accepted,
            true,
        ),
        app::Response::Failed(Error::Stopped),
    );
    check(
        &stopped,
        409,
        r#"{"status":"error","msg":"the instance was stopped while this request waited for it; retry to start a new one","code":"stopped"}"#,
    );
}

#[test]
fn retryable_errors_have_a_retry_after() {
    let bench = Bench::new();
    for (error, status, code, retry_after) in [
        (Error::UNAVAILABLE, 503, "kubernetes_unavailable", Some("1")),
        (
            Error::Unavailable {
                retry_after: Duration::from_millis(7001),
                said: None,
            },
            503,
            "kubernetes_unavailable",
            Some("8"),
        ),
        (Error::NotSynced, 503, "not_synced", Some("1")),
        (Error::Draining, 503, "draining", Some("1")),
        (Error::LimitReached, 429, "limit_reached", Some("1")),
        (
            Error::TooManyRequests(Bound::Parked),
            429,
            "too_many_requests",
            Some("1"),
        ),
        (Error::NotPermitted, 500, "not_permitted", None),
        (Error::Refused("no".into()), 403, "refused", None),
        (
            Error::TemplateInvalid("no".into()),
            422,
            "template_invalid",
            None,
        ),
        (Error::NameTaken(n1()), 409, "name_taken", None),
        (Error::Internal, 500, "internal", None),
    ] {
        let response = resumed(
            &bench,
            Pending::Ensure(
                Starts::AsAsked,
                Condition::default(),
                NotReady::Accepted,
                true,
            ),
            app::Response::Failed(error),
        );
        assert_eq!(response.status, status, "{code}");
        assert_eq!(header(&response, "retry-after"), retry_after, "{code}");
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(
            (&body["status"], &body["code"]),
            (&json!("error"), &json!(code))
        );
        assert!(body["msg"].is_string());
    }
}

#[test]
fn before_the_first_list_requests_get_503_not_synced() {
    let bench = Bench::over(World::unsynced(), HealthInputs::default());
    let msg = Error::NotSynced;
    let plain = format!(r#"{{"status":"error","msg":"{msg}","code":"not_synced"}}"#);
    for target in ["/app", "/app/scim", "/app/scim/n1"] {
        let response = bench.get(target);
        check(&response, 503, &plain);
        assert_eq!(header(&response, "retry-after"), Some("1"));
    }
    let wrapped = format!(r#"{{"detail":{plain}}}"#);
    let delete = Request::new(Method::Delete, "/app/scim/n1");
    check(&reply(bench.send(delete)), 503, &wrapped);
    check(&reply(bench.patch("application/json", "{}")), 503, &wrapped);
}

#[test]
fn a_stale_cache_is_reported_in_x_view_age() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    bench.world.ready("u1", "10.0.0.1");
    let age =
        |bench: &Bench, target: &str| header(&bench.get(target), "x-view-age").map(str::to_owned);
    *bench.clock.passed.lock().unwrap() = Duration::from_secs(5);
    assert_eq!(age(&bench, "/app"), None);
    *bench.clock.passed.lock().unwrap() = Duration::from_secs(17);
    drop(bench.list(Request::new(Method::Get, "/app/scim")));
    for target in ["/app", "/app/scim", "/app/scim/n1"] {
        assert_eq!(age(&bench, target), Some("17".into()), "{target}");
    }
    assert_eq!(age(&bench, "/info"), None);
    // While all watches are open and looked after, silence is no age.
    let now = bench.clock.now();
    bench.world.config_maps.alive(now);
    bench.world.pods.alive(now);
    bench.world.jobs.alive(now);
    bench.world.config_maps.watching(true);
    bench.world.pods.watching(true);
    assert_eq!(age(&bench, "/app"), Some("17".into()));
    bench.world.jobs.watching(true);
    assert_eq!(age(&bench, "/app"), None);
}

#[test]
fn stops_and_labels_are_queued_for_the_coordinator() {
    let bench = Bench::new();
    let delete = Request::new(Method::Delete, "/app/scim/n1");
    assert!(matches!(parked(bench.send(delete)), Pending::Stop));
    assert!(matches!(bench.waiter().want, Want::Stop { until: None }));
    let handled = bench.patch(
        "application/json",
        r#"{"username":"bob","n":1,"b":true,"x":null}"#,
    );
    assert!(matches!(parked(handled), Pending::Label(_)));
    let Want::Label(change) = bench.waiter().want else {
        panic!("no label");
    };
    let patch = change.merge_patch();
    let labels = &patch["metadata"]["labels"];
    let expected = json!({
        "config-controller.semafor.ch/meta-b": "true",
        "config-controller.semafor.ch/meta-n": "1",
        "config-controller.semafor.ch/meta-username": "bob",
        "config-controller.semafor.ch/meta-x": null,
    });
    assert_eq!(*labels, expected);
    bench.dispatcher.abandon(handle(9), None);
    assert!(matches!(
        bench.input(),
        Input::Abandoned(left) if left == handle(9)
    ));
}

#[test]
fn invalid_label_bodies_are_refused() {
    let bench = Bench::new();
    let json = "application/json";
    for (content_type, body, expected) in [
        (
            json,
            "",
            r#"[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]"#,
        ),
        (
            json,
            "null",
            r#"[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]"#,
        ),
        (
            json,
            "[]",
            r#"[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":[]}]"#,
        ),
        (
            "text/plain",
            "{}",
            r#"[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":"{}"}]"#,
        ),
        (
            json,
            "{a}",
            r#"[{"type":"json_invalid","loc":["body",1],"msg":"JSON decode error","input":{},"ctx":{"error":"Expecting property name enclosed in double quotes"}}]"#,
        ),
    ] {
        let response = reply(bench.patch(content_type, body));
        check(&response, 422, &format!(r#"{{"detail":{expected}}}"#));
    }
    check(
        &reply(bench.patch(json, r#"{"a":"b","ip":"6.6.6.6"}"#)),
        422,
        r#"{"detail":{"status":"error","msg":"'ip' is reserved, because responses use it for the instance itself; choose another key","code":"reserved_key"}}"#,
    );
    assert!(bench.inbox.take(1).is_empty());
}

#[test]
fn the_code_of_an_invalid_pair_depends_on_its_key_and_its_value() {
    let scalars = ["\"x\"", "\"\"", "7", "1.5", "true", "null"];
    let structures = ["[]", "[1]", "{}", "{\"x\":1}"];
    let values = || scalars.iter().chain(&structures);
    let key_invalid = "empty key; use at least one character";
    let bench = Bench::new();
    for key in ["a", "no label!", "sessionID"] {
        for value in scalars {
            let handled = bench.patch("application/json", &format!(r#"{{"{key}":{value}}}"#));
            assert!(
                matches!(parked(handled), Pending::Label(_)),
                "{key} {value}"
            );
        }
        let value_invalid = format!(
            "the value of '{key}' is an object or an array; expected a string, a number, true or false, or null to remove the label"
        );
        for value in structures {
            check_pair(&bench, key, value, "value_invalid", &value_invalid);
        }
    }
    for value in values() {
        check_pair(&bench, "", value, "key_invalid", key_invalid);
    }
    for key in RESERVED {
        let reserved = format!(
            "'{key}' is reserved, because responses use it for the instance itself; choose another key"
        );
        for value in values() {
            check_pair(&bench, key, value, "reserved_key", &reserved);
        }
    }
}

/// Checks the refusal of a PATCH with this pair.
#[track_caller]
fn check_pair(bench: &Bench, key: &str, value: &str, code: &str, message: &str) {
    let patch = format!(r#"{{"good":"1","{key}":{value}}}"#);
    let detail = json!({"status": "error", "msg": message, "code": code});
    let response = reply(bench.patch("application/json", &patch));
    check(&response, 422, &json!({"detail": detail}).to_string());
}

#[test]
fn control_characters_count_for_the_limit_of_labels_as_they_are_stored() {
    let bench = Bench::new();
    let patch = |count: usize| {
        let body = json!({"k": "\u{1}".repeat(count)}).to_string();
        bench.patch("application/json", &body)
    };
    for count in [2731, 16 * 1024] {
        let response = reply(patch(count));
        let body: Value = serde_json::from_slice(&response.body).unwrap();
        assert_eq!(
            (response.status, &body["detail"]["code"]),
            (422, &json!("labels_limit"))
        );
        let size = format!("1 labels of {} bytes", 1 + 6 * count);
        assert!(
            body["detail"]["msg"].as_str().unwrap().contains(&size),
            "{body}"
        );
    }
    assert!(matches!(parked(patch(2730)), Pending::Label(_)));
}

#[test]
fn invalid_names_and_queries_are_refused() {
    let bench = Bench::new();
    let dots = "the names '.' and '..' are not allowed, because clients and proxies resolve them; choose another name";
    let plain = format!(r#"{{"status":"error","msg":"{dots}","code":"bad_name"}}"#);
    check(&bench.get("/app/scim/.."), 422, &plain);
    for method in [Method::Patch, Method::Delete] {
        let response = reply(bench.send(Request::new(method, "/app/scim/..")));
        check(&response, 422, &format!(r#"{{"detail":{plain}}}"#));
    }
    let long = format!("/app/scim/{}", "n".repeat(300));
    assert_eq!(bench.get(&long).status, 422);
    assert_eq!(bench.get("/app/scim/a%00b").status, 422);
    assert_eq!(bench.get("/app/scim/a%2Fb").status, 404);
    let many: String = (0..300).map(|n| format!("v{n}=x&")).collect();
    let response = bench.get(&format!("/app/scim/n1?{many}"));
    assert_eq!(response.status, 422);
    assert!(bench.inbox.take(1).is_empty());
}

#[test]
fn unknown_paths_and_methods_are_404_and_405() {
    let bench = Bench::new();
    for target in ["//", "/favicon.ico", "//app", "/App", "/app/a/b/c"] {
        check(&bench.get(target), 404, r#"{"detail":"Not Found"}"#);
    }
    for (method, target, allow) in [
        (Method::Post, "/app", "GET, HEAD"),
        (Method::Head, "/app/scim/n1", "DELETE, GET, PATCH, PUT"),
        (Method::Options, "/app/scim/n1", "DELETE, GET, PATCH, PUT"),
        (Method::Other("BREW".into()), "/info", "GET, HEAD"),
    ] {
        let response = reply(bench.send(Request::new(method, target)));
        check(&response, 405, r#"{"detail":"Method Not Allowed"}"#);
        assert_eq!(header(&response, "allow"), Some(allow));
    }
}

#[test]
fn trailing_slashes_are_redirected_with_host_and_query() {
    let bench = Bench::new();
    let redirected = |method: Method, target: &str, host: Option<&str>| {
        let mut request = Request::new(method, target);
        if let Some(host) = host {
            request.headers.push("Host", host.as_bytes());
        }
        let response = reply(bench.send(request));
        check(&response, 307, "");
        header(&response, "location").unwrap().to_owned()
    };
    let host = Some("cc:3333");
    assert_eq!(redirected(Method::Get, "/app/", host), "http://cc:3333/app");
    assert_eq!(
        redirected(Method::Delete, "/app/a%20b/c/?x=1&y=/", host),
        "http://cc:3333/app/a%20b/c?x=1&y=/"
    );
    assert_eq!(
        redirected(Method::Get, "/app/ä/", host),
        "http://cc:3333/app/%C3%A4"
    );
    assert_eq!(redirected(Method::Get, "/app/?q", None), "/app?q");
    let mut absolute = Request::new(Method::Get, "/app/");
    absolute.authority = Some("other:80".into());
    absolute.headers.push("Host", b"cc:3333");
    let response = reply(bench.send(absolute));
    assert_eq!(header(&response, "location"), Some("http://other:80/app"));
}

#[test]
fn probes_and_info() {
    let bench = Bench::new();
    check(
        &bench.get("/info"),
        200,
        concat!(
            r#"{"status":"UP","hostname":"here","rev":"config-controller "#,
            env!("CARGO_PKG_VERSION"),
            r#""}"#
        ),
    );
    check(&bench.get("/livez"), 200, "{\"status\":\"ok\"}\n");
    let unready = bench.get("/readyz");
    check(
        &unready,
        503,
        concat!(
            r#"{"status":"error","msg":"this replica has not read the state of the namespace yet","code":"not_synced"}"#,
            "\n"
        ),
    );
    assert_eq!(header(&unready, "retry-after"), Some("1"));
    let stuck = Stuck {
        thread: "coordinator".into(),
        age: Duration::from_secs(61),
    };
    let inputs = HealthInputs {
        synced: true,
        stuck: Some(stuck),
        ..HealthInputs::default()
    };
    let bench = Bench::over(World::new(), inputs);
    assert_eq!(bench.get("/livez").status, 503);
    check(&bench.get("/readyz"), 200, "{\"status\":\"ok\"}\n");
}

#[test]
fn while_draining_only_the_cache_is_read() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    bench.world.ready("u1", "10.0.0.1");
    bench.dispatcher.api.app.drain(Instant::now());
    assert!(matches!(bench.input(), Input::Drain(_)));
    check(&bench.get("/app/scim/n1"), 200, r#"{"ip":"10.0.0.1"}"#);
    check(
        &bench.get("/app/scim/n2"),
        503,
        r#"{"status":"error","msg":"this replica is shutting down; retry","code":"draining"}"#,
    );
    assert!(bench.inbox.take(1).is_empty());
}
