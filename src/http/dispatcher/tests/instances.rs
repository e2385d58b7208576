//! `/instances`: what a page says of each instance, its order, its filters and its end.

use super::bench::{Bench, header, parked, reply};
use super::*;
use crate::app::fixture::{added, key, ready_pod};
use crate::app::pages::PAGE_BYTES_MAX;
use crate::http::auth::{Rights, Types};
use crate::http::handlers::Pending;
use crate::metrics::Registry;
use crate::model::names::AppType;
use serde_json::json;

fn get(bench: &Bench, query: &str) -> Response {
    bench.list(Request::new(Method::Get, &format!("/instances{query}")))
}

fn page(bench: &Bench, query: &str) -> Value {
    let response = get(bench, query);
    assert_eq!(response.status, 200, "{query}");
    assert!(response.body.ends_with(b"}\n"));
    serde_json::from_slice(&response.body).unwrap()
}

/// Type and name of each instance of a page.
fn names(page: &Value) -> Vec<String> {
    let items = page["instances"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    items
        .map(|item| text(&item["type"]) + "/" + &text(&item["name"]))
        .collect()
}

/// The message of a refused request, and its code.
fn refused(bench: &Bench, query: &str) -> (u16, String) {
    let response = bench.get(&format!("/instances{query}"));
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (response.status, text("code") + ": " + &text("msg"))
}

fn of_revision(revision: &str) -> Value {
    json!({"metadata": {"annotations": {"config-controller.semafor.ch/template-revision": revision}}})
}

#[test]
fn an_instance_is_listed_with_all_that_is_known_of_it() {
    let mut bench = Bench::new();
    let offer = bench.catalog.current();
    let zeta = AppType::new("zeta").unwrap();
    let revision = offer.get(&zeta).unwrap().revision.clone().unwrap();
    let mut job = of_revision(&revision);
    job["metadata"]["annotations"]["config-controller.semafor.ch/idle-timeout"] = json!("900s");
    job["metadata"]["annotations"]["config-controller.semafor.ch/owner"] = json!("portal");
    bench.world.job_of(&key("zeta", "n1"), "u1", job);
    let mut pod = ready_pod("10.1.2.3");
    pod["metadata"] = json!({"labels": {
        "config-controller.semafor.ch/meta-team": "a",
        "config-controller.semafor.ch/meta-name": "x",
    }});
    pod["status"]["conditions"][1]["lastTransitionTime"] = json!("2026-05-01T10:00:09Z");
    pod["status"]["containerStatuses"] = json!([{"name": "a", "restartCount": 2}]);
    pod["status"]["initContainerStatuses"] = json!([{"name": "b", "restartCount": 1}]);
    bench.world.pod("u1", pod);
    bench
        .world
        .job_of(&key("zeta", "n2"), "u2", of_revision("0123"));
    let expected = json!({"instances": [{
        "type": "zeta", "name": "n1", "uid": "u1", "status": "ready", "phase": null, "reason": null,
        "message": null, "since": "2026-05-01T10:00:09Z", "start": "2026-05-01T10:00:00Z",
        "ip": "10.1.2.3", "labels": {"name": "x", "team": "a"}, "revision": &*revision, "stale": false,
        "restarts": 3, "idle_timeout": 900, "owner": "portal",
    }, {
        "type": "zeta", "name": "n2", "uid": "u2", "status": "starting", "phase": "creating",
        "reason": "NoPod", "message": "the pod of the Job is gone; the Job creates a new one about 10 s later", "since": "2026-05-01T10:00:00Z",
        "start": null, "ip": null, "labels": {}, "revision": "0123", "stale": true, "restarts": 0,
        "idle_timeout": null, "owner": null,
    }]});
    assert_eq!(page(&bench, ""), expected);
    // Of another type, with a template that cannot be read.
    bench.world.job("u3", json!({}));
    let first = &page(&bench, "?type=scim")["instances"][0];
    assert_eq!([&first["revision"], &first["stale"]], [&Value::Null; 2]);
}

#[test]
fn each_status_has_its_fields() {
    let mut bench = Bench::new();
    let world = &mut bench.world;
    for (name, uid) in [("done", "u1"), ("failed", "u2"), ("gone", "u3")] {
        world.job_of(&key("zeta", name), uid, json!({}));
    }
    let ended = |name: &str| {
        json!({"status": {"phase": name, "containerStatuses": [{"name": "a", "state": {
            "terminated": {"exitCode": u8::from(name == "Failed"), "finishedAt": "2026-05-01T10:00:01Z"},
        }}]}})
    };
    let of_job = |kind: &str| {
        json!({"status": {"conditions": [{"type": kind, "status": "True",
        "lastTransitionTime": "2026-05-01T10:00:02Z"}]}})
    };
    world.pod("u1", ended("Succeeded"));
    world.job_of(&key("zeta", "done"), "u1", of_job("Complete"));
    world.pod("u2", ended("Failed"));
    world.job_of(&key("zeta", "failed"), "u2", of_job("Failed"));
    world.ready("u3", "10.0.0.1");
    let deleting = json!({"metadata": {"deletionTimestamp": "2026-05-01T10:00:03Z"}});
    world.job_of(&key("zeta", "gone"), "u3", deleting);
    let page = page(&bench, "");
    let fields = |at: usize| {
        let item = &page["instances"][at];
        ["status", "phase", "reason", "ip"]
            .map(|name| item[name].as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(fields(0), ["finished", "-", "Completed", "-"]);
    assert_eq!(fields(1), ["failed", "starting", "Error", "-"]);
    assert_eq!(fields(2), ["stopping", "stopping", "Stopping", "-"]);
    assert_eq!(page["instances"][2]["since"], "2026-05-01T10:00:03Z");
}

#[test]
fn pages_follow_each_other_by_type_and_name() {
    let mut bench = Bench::new();
    let all = ["a/b", "a/c", "a-b/a", "b/a", "b/ä"];
    for (number, name) in all.iter().rev().enumerate() {
        let (app_type, name) = name.split_once('/').unwrap();
        let uid = format!("u{number}");
        bench.world.job_of(&key(app_type, name), &uid, json!({}));
    }
    // A name that clients would change in a URL is not listed.
    bench.world.job_of(&key("a", "x?y"), "u9", json!({}));
    assert_eq!(names(&page(&bench, "")), all);
    for limit in 1..6 {
        let (mut query, mut found) = (format!("?limit={limit}"), Vec::new());
        loop {
            let page = page(&bench, &query);
            let names = names(&page);
            assert!(
                !names.is_empty() && names.len() <= limit,
                "{limit}: {names:?}"
            );
            found.extend(names);
            let Some(next) = page["continue"].as_str() else {
                break;
            };
            query = format!("?limit={limit}&continue={next}");
        }
        assert_eq!(found, all, "{limit}");
    }
    // What follows may be gone by then.
    let next = page(&bench, "?limit=4")["continue"]
        .as_str()
        .unwrap()
        .to_owned();
    bench.world.job_gone_of(&key("b", "ä"), "u0");
    let last = page(&bench, &format!("?continue={next}"));
    assert_eq!(last, json!({"instances": []}));
}

#[test]
fn filters_are_for_type_status_and_labels() {
    let mut bench = Bench::new();
    for (uid, app_type, team) in [("u1", "a", "x"), ("u2", "a", "y"), ("u3", "b", "x")] {
        let key = key(app_type, uid);
        bench.world.job_of(&key, uid, json!({}));
        let mut pod = json!({});
        if uid != "u2" {
            pod = ready_pod("10.0.0.1");
        }
        let label = "config-controller.semafor.ch/meta-team";
        pod["metadata"] = json!({"labels": {label: team}});
        bench.world.pod(uid, pod);
        bench.world.cache.refresh(&key);
    }
    for (query, expected) in [
        ("?type=a", &["a/u1", "a/u2"][..]),
        ("?type=a&type=b&type=c", &["a/u1", "a/u2", "b/u3"]),
        ("?type=c", &[]),
        ("?status=ready", &["a/u1", "b/u3"]),
        ("?status=ready&type=a", &["a/u1"]),
        ("?status=ready&status=starting&type=a", &["a/u1", "a/u2"]),
        ("?label=team=x", &["a/u1", "b/u3"]),
        ("?label=team", &["a/u1", "a/u2", "b/u3"]),
        ("?label=team=x&label=team=y", &[]),
        ("?label=team=x&label=tea", &[]),
    ] {
        assert_eq!(names(&page(&bench, query)), expected, "{query}");
    }
}

#[test]
fn a_page_is_kept_until_something_of_its_types_changes() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    let first = get(&bench, "?type=scim");
    let etag = header(&first, "etag").unwrap().to_owned();
    assert_eq!(header(&first, "cache-control"), Some("no-cache"));
    let mut again = Request::new(Method::Head, "/instances?type=scim");
    again.headers.push("If-None-Match", etag.as_bytes());
    assert_eq!(reply(bench.send(again)).status, 304);
    let waits = |bench: &Bench| {
        let sent = bench.send(Request::new(Method::Get, "/instances?type=scim"));
        matches!(sent, Handled::Parked(_))
    };
    bench.world.job_of(&key("other", "a"), "u2", json!({}));
    assert!(!waits(&bench), "nothing of it has changed");
    let change = |bench: &mut Bench, change: &dyn Fn(&mut Bench)| {
        *bench.clock.passed.lock().unwrap() += app::lists::PERIOD;
        drop(get(bench, "?type=scim"));
        assert!(!waits(bench));
        change(bench);
        assert!(waits(bench));
        // Nobody waits any more.
        bench.dispatcher.abandon(handle(7), None);
    };
    change(&mut bench, &|bench| bench.world.ready("u1", "10.0.0.1"));
    // A status is computed after the change.
    change(&mut bench, &|bench| bench.world.cache.refresh(&n1()));
    // The template, which says whether instances are stale.
    change(&mut bench, &|bench| {
        let map = json!({"metadata": {"name": "apps"}, "data": {"scim.yaml": "spec: {}"}});
        bench.catalog.update(&[added(&map)]);
        bench.world.cache.index().templates_changed();
    });
}

#[test]
fn a_page_ends_early_where_its_instances_are_long() {
    let mut bench = Bench::new();
    let many = 100;
    for number in 0..many {
        let uid = format!("u{number:03}");
        bench.world.job_of(&key("a", &uid), &uid, json!({}));
        let pair = format!("[\"k\",\"{}\"]", "x".repeat(15_000));
        let meta = json!({"config-controller.semafor.ch/meta.0123456789": pair});
        bench
            .world
            .pod(&uid, json!({"metadata": {"annotations": meta}}));
    }
    let response = get(&bench, "");
    assert!(response.body.len() <= PAGE_BYTES_MAX + 100);
    let first: Value = serde_json::from_slice(&response.body).unwrap();
    let next = first["continue"].as_str().unwrap();
    let second = page(&bench, &format!("?continue={next}"));
    assert_eq!(second["continue"], Value::Null);
    let found = names(&first).len() + names(&second).len();
    assert_eq!(found, many);
    assert!(names(&first).len() > 60, "{}", names(&first).len());
}

#[test]
fn odd_queries_are_refused() {
    let bench = Bench::new();
    let (status, text) = refused(&bench, "?limit=0");
    let expected = "query_invalid: limit '0' is no number from 1 to 1000";
    assert_eq!((status, text.as_str()), (422, expected));
    let (status, text) = refused(&bench, "?type=a/b");
    assert_eq!((status, &text[..9]), (422, "bad_name:"));
}

#[test]
fn a_caller_sees_its_types_only() {
    let mut bench = Bench::new();
    for app_type in ["a", "b", "c"] {
        let key = key(app_type, "n");
        bench
            .world
            .job_of(&key, &format!("u-{app_type}"), json!({}));
    }
    let ask = |query: &str| {
        let types = ["a", "c"].map(|one| AppType::new(one).unwrap());
        let caller = Caller {
            name: Some("portal".into()),
            types: Types::Only(types.into()),
            rights: Rights::default(),
        };
        let request = Request::new(Method::Get, &format!("/instances{query}"));
        let mut exchange = Exchange {
            handle: handle(7),
            method: Method::Get,
            endpoint: None,
            caller,
            standing: None,
            span: None,
        };
        let routed = router::route(&request.method, &request.path);
        match bench.dispatcher.serve(&mut exchange, routed, &request) {
            Handled::Reply(response) => response,
            Handled::Parked(what_for) => {
                let waiting = Box::new(Waiting { exchange, what_for });
                let answered = bench.assemble().pop().unwrap();
                reply(bench.dispatcher.resume(waiting, answered))
            }
            other => panic!("{other:?}"),
        }
    };
    let listed = |query: &str| -> Value { serde_json::from_slice(&ask(query).body).unwrap() };
    assert_eq!(names(&listed("")), ["a/n", "c/n"]);
    assert_eq!(names(&listed("?type=c")), ["c/n"]);
    let refused = ask("?type=c&type=b");
    let body =
        r#"{"status":"error","msg":"this token may not use the app type 'b'","code":"forbidden"}"#;
    check(&refused, 403, body);
    let mut registry = Registry::default();
    bench
        .dispatcher
        .instrumentation
        .metrics
        .encode(&mut registry);
    let text = registry.text();
    let line = r#"config_controller_rejected_total{cause="auth_forbidden"} 1"#;
    assert!(text.contains(line), "{text}");
}

#[test]
fn different_pages_that_are_waited_for_are_bounded() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    let ask = |n: usize| {
        let target = format!("/instances?limit={}", n + 1);
        bench
            .dispatcher
            .handle(Request::new(Method::Get, &target), handle(7))
    };
    // One caller may hold half of them.
    let half = crate::budget::PAGES_MAX / 2;
    for n in 0..half {
        assert!(matches!(parked(ask(n)), Pending::List(..)), "{n}");
    }
    let response = reply(ask(half));
    assert_eq!(response.status, 429);
    assert_eq!(header(&response, "retry-after"), Some("1"));
    assert!(
        matches!(parked(ask(0)), Pending::List(..)),
        "others wait for that one"
    );
    bench.assemble();
    assert!(matches!(parked(ask(half)), Pending::List(..)));
    assert_eq!(reply(ask(half + 1)).status, 429);
}

/// What becomes of the stream of a start of which something has been told once the app has responded so.
fn end_of_start(response: app::Response) -> String {
    let bench = Bench::new();
    let mut request = Request::new(Method::Get, "/app/scim/n1");
    request.headers.push("Accept", b"text/event-stream");
    let streams = |handled| match handled {
        Handled::Streams(waiting) => waiting,
        other => panic!("no stream: {other:?}"),
    };
    let mut waiting = streams(bench.dispatcher.handle(request, handle(7)));
    let event = app::lifecycle::Lifecycle {
        key: n1(),
        job_uid: None,
        at: bench.clock.now(),
        kind: app::lifecycle::LifecycleKind::InPhase {
            finding: Finding {
                phase: Phase::Starting,
                ..Finding::admitting()
            },
            is_failing: false,
        },
        is_news: true,
        phase_left: None,
        start_ended: None,
    };
    let events = bench.dispatcher.api.app.events();
    events.append(&event, || None, std::time::SystemTime::UNIX_EPOCH);
    assert!(
        bench
            .dispatcher
            .pull(&mut waiting, false, 1024)
            .begins
            .is_some()
    );
    let mut waiting = streams(bench.dispatcher.resume(waiting, response));
    let part = bench.dispatcher.pull(&mut waiting, false, 1024);
    assert!(part.is_last);
    String::from_utf8(part.bytes.to_vec()).unwrap()
}

/// An `EventSource` that has had an end does not come back.
#[test]
fn what_says_nothing_of_the_instance_does_not_end_its_start() {
    for error in [
        Error::Overloaded,
        Error::Draining,
        Error::NotSynced,
        Error::Internal,
        Error::UNAVAILABLE,
        Error::TooManyRequests(Bound::Parked),
    ] {
        let end = end_of_start(app::Response::Failed(error));
        assert!(
            end.contains("\nevent: waiting\ndata: {\"status\":\"error\""),
            "{end}"
        );
        assert!(!end.contains(".end"), "{end}");
    }
    for error in [Error::Stopped, Error::TemplateInvalid("x".into())] {
        let end = end_of_start(app::Response::Failed(error));
        assert!(end.contains(".end\nevent: failed\n"), "{end}");
    }
}

#[test]
fn the_head_of_a_stream_is_that_of_its_get() {
    let bench = Bench::new();
    let mut request = Request::new(Method::Head, "/instances");
    request.headers.push("Accept", b"text/event-stream");
    let Handled::Streams(mut waiting) = bench.dispatcher.handle(request, handle(7)) else {
        panic!("no stream");
    };
    let part = bench.dispatcher.pull(&mut waiting, false, 1024);
    let head = part.begins.unwrap();
    assert_eq!(header(&head, "content-type"), Some("text/event-stream"));
    assert!(part.is_last);
    assert!(
        bench.relists.waiting().is_empty(),
        "no state is made for it"
    );
}

/// Otherwise one caller could have others wait without a bound: each takes a pass over all instances.
#[test]
fn different_states_that_are_waited_for_are_bounded() {
    let bench = Bench::new();
    let ask = |n: usize, serial: usize| {
        let mut request = Request::new(Method::Get, &format!("/instances?label=x{n}"));
        request.headers.push("Accept", b"text/event-stream");
        let handle = handle(u64::try_from(serial).unwrap());
        bench.dispatcher.handle(request, handle)
    };
    let half = crate::budget::PAGES_MAX / 2;
    for n in 0..half {
        assert!(matches!(parked(ask(n, n)), Pending::Events(_)), "{n}");
    }
    let response = reply(ask(half, half));
    assert_eq!(response.status, 429);
    assert_eq!(header(&response, "retry-after"), Some("1"));
    // Others wait for this one; it has its place until the last of them hangs up.
    let Handled::Parked(second) = ask(0, half) else {
        panic!("it is not refused");
    };
    bench.dispatcher.abandon(handle(0), None);
    assert_eq!(reply(ask(half, half + 1)).status, 429);
    let last = u64::try_from(half).unwrap();
    bench.dispatcher.abandon(handle(last), Some(second));
    assert!(matches!(parked(ask(half, half + 1)), Pending::Events(_)));
}

#[test]
fn no_state_is_made_for_a_reader_of_events_that_has_hung_up() {
    let bench = Bench::new();
    let ask = |serial: u64| {
        let mut request = Request::new(Method::Get, "/instances");
        request.headers.push("Accept", b"text/event-stream");
        match bench.dispatcher.handle(request, handle(serial)) {
            Handled::Parked(waiting) => waiting,
            other => panic!("not parked: {other:?}"),
        }
    };
    let (first, _second) = (ask(1), ask(2));
    assert_eq!(bench.relists.waiting(), [handle(1), handle(2)]);
    bench.dispatcher.abandon(handle(1), Some(first));
    assert_eq!(bench.relists.waiting(), [handle(2)]);
    // Its handler has panicked.
    bench.dispatcher.abandon(handle(2), None);
    assert_eq!(bench.relists.waiting(), []);
}

#[test]
fn a_page_is_served_while_the_replica_shuts_down_but_not_before_it_has_read_all() {
    let mut bench = Bench::new();
    bench.world.job("u1", json!({}));
    bench.dispatcher.api.app.drain(bench.clock.now());
    assert_eq!(get(&bench, "").status, 200);
    let unsynced = Bench::over(World::unsynced(), HealthInputs::default());
    assert_eq!(refused(&unsynced, "").0, 503);
}
