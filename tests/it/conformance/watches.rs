//! Order, selectors, bookmarks, old versions.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{TestEnvironment, checks, name, version};

checks! {
    a_watch_reports_the_events_after_its_version_in_order,
    a_watch_without_a_version_begins_with_the_current_state,
    leaving_a_selector_is_deleted_and_entering_is_added,
    a_watch_of_a_field_shows_one_object,
    a_watch_of_warnings_excludes_normal_events,
    an_event_of_the_newer_api_is_read_by_the_older,
    a_watch_ends_after_its_timeout,
    bookmarks_come_only_when_asked_for,
    a_watch_from_a_compacted_version_is_expired,
    a_watch_resumes_without_loss,
}

fn summary(event: &Value) -> (&str, &str) {
    (event["type"].as_str().unwrap_or(""), name(&event["object"]))
}

fn follow(environment: &TestEnvironment, query: &str) -> impl Iterator<Item = Value> + use<> {
    let path = format!("{}?watch=1&{query}", environment.all("configmaps"));
    let events = environment.api.watch(&path);
    events.map(|event| event.expect("whole lines"))
}

fn set(environment: &TestEnvironment, name: &str, label: Option<&str>) {
    let change = json!({"metadata": {"labels": {"l": label}}});
    environment
        .api
        .patch(&environment.one("configmaps", name), &change)
        .expect(200);
}

fn a_watch_reports_the_events_after_its_version_in_order(environment: &TestEnvironment) {
    environment.config_map("before", &json!({}));
    let from = version(&environment.config_map("start", &json!({}))).to_owned();
    environment.config_map("a", &json!({}));
    set(environment, "a", Some("1"));
    let deleted = environment
        .api
        .delete(&environment.one("configmaps", "a"), &json!({}));
    deleted.expect(200);
    let mut events = follow(
        environment,
        &format!("resourceVersion={from}&timeoutSeconds=30"),
    );
    let mut last = from.parse::<u64>().expect("a number");
    for expected in ["ADDED", "MODIFIED", "DELETED"] {
        let event = events.next().expect("the watch goes on");
        assert_eq!(summary(&event), (expected, "a"));
        assert_eq!(event["object"]["kind"], "ConfigMap");
        let now = version(&event["object"]).parse::<u64>().expect("a number");
        assert!(now > last, "versions only rise");
        last = now;
    }
    environment.config_map("b", &json!({}));
    assert_eq!(summary(&events.next().expect("still open")), ("ADDED", "b"));
}

fn a_watch_without_a_version_begins_with_the_current_state(environment: &TestEnvironment) {
    environment.config_map("a", &json!({"l": "1"}));
    let mut events = follow(environment, "labelSelector=l&timeoutSeconds=30");
    assert_eq!(summary(&events.next().expect("at once")), ("ADDED", "a"));
    environment.config_map("b", &json!({"l": "1"}));
    assert_eq!(summary(&events.next().expect("later")), ("ADDED", "b"));
}

fn leaving_a_selector_is_deleted_and_entering_is_added(environment: &TestEnvironment) {
    let from = version(&environment.config_map("a", &json!({"l": "1"}))).to_owned();
    let query = format!("labelSelector=l%3D1&resourceVersion={from}&timeoutSeconds=30");
    let mut events = follow(environment, &query);
    set(environment, "a", Some("2"));
    let left = events.next().expect("it left");
    assert_eq!(summary(&left), ("DELETED", "a"));
    assert_eq!(left["object"]["metadata"]["labels"]["l"], "1", "as it was");
    let now = environment
        .api
        .get(&environment.one("configmaps", "a"))
        .expect(200);
    assert_eq!(version(&left["object"]), version(&now));
    set(environment, "a", Some("1"));
    assert_eq!(
        summary(&events.next().expect("it came back")),
        ("ADDED", "a")
    );
    set(environment, "a", None);
    assert_eq!(
        summary(&events.next().expect("it left again")),
        ("DELETED", "a")
    );
}

fn a_watch_of_a_field_shows_one_object(environment: &TestEnvironment) {
    let from = version(&environment.config_map("a", &json!({}))).to_owned();
    let field = "fieldSelector=metadata.name%3Dc";
    let query = format!("{field}&resourceVersion={from}&timeoutSeconds=30");
    let mut events = follow(environment, &query);
    environment.config_map("b", &json!({}));
    environment.config_map("c", &json!({}));
    assert_eq!(summary(&events.next().expect("only c")), ("ADDED", "c"));
}

/// As the service watches Events.
fn a_watch_of_warnings_excludes_normal_events(environment: &TestEnvironment) {
    let query = "fieldSelector=type!%3DNormal";
    let from = version(&environment.list("events", query)).to_owned();
    let event = |name: &str, kind: &str| {
        json!({
            "metadata": {"name": name}, "type": kind, "reason": "R", "message": "m",
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": environment.namespace, "uid": "u"},
        })
    };
    for (name, kind) in [
        ("a", "Normal"),
        ("b", "Warning"),
        ("c", "Normal"),
        ("d", "Warning"),
    ] {
        environment.make("events", &event(name, kind));
    }
    let path = format!(
        "{}?watch=1&{query}&allowWatchBookmarks=true&resourceVersion={from}&timeoutSeconds=30",
        environment.all("events")
    );
    let mut events = environment
        .api
        .watch(&path)
        .map(|event| event.expect("whole lines"));
    let first = events.next().expect("the first warning");
    assert_eq!(summary(&first), ("ADDED", "b"));
    assert_eq!(first["object"]["kind"], "Event");
    assert_eq!(first["object"]["apiVersion"], "v1");
    assert_eq!(summary(&events.next().expect("the next")), ("ADDED", "d"));
    // Counted once more, as the kubelet does.
    let change = json!({"count": 2});
    environment
        .api
        .patch(&environment.one("events", "b"), &change)
        .expect(200);
    assert_eq!(
        summary(&events.next().expect("it changed")),
        ("MODIFIED", "b")
    );
    environment
        .api
        .delete(&environment.one("events", "d"), &json!({}))
        .expect(200);
    assert_eq!(summary(&events.next().expect("it went")), ("DELETED", "d"));
}

/// What is written by the newer API is read by the older, which has other fields for the time.
fn an_event_of_the_newer_api_is_read_by_the_older(environment: &TestEnvironment) {
    let event = json!({
        "metadata": {"name": "e"}, "type": "Warning", "reason": "R", "message": "m",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": environment.namespace, "uid": "u"},
        "eventTime": "2026-01-02T03:04:05.123456Z", "action": "A",
        "reportingComponent": "tests/it", "reportingInstance": "tests",
        "series": {"count": 7, "lastObservedTime": "2026-01-02T03:05:05.500000Z"},
    });
    environment.make("events", &event);
    let read = environment
        .api
        .get(&environment.one("events", "e"))
        .expect(200);
    assert!(read["lastTimestamp"].is_null(), "{read}");
    for field in ["eventTime", "series"] {
        assert_eq!(read[field], event[field]);
    }
}

fn a_watch_ends_after_its_timeout(environment: &TestEnvironment) {
    let from = version(&environment.config_map("a", &json!({}))).to_owned();
    let began = Instant::now();
    let events = follow(
        environment,
        &format!("resourceVersion={from}&timeoutSeconds=1"),
    );
    let seen = events
        .filter(|e| name(&e["object"]) != "kube-root-ca.crt")
        .count();
    assert_eq!(seen, 0);
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(900) && took < Duration::from_secs(10),
        "{took:?}"
    );
}

fn bookmarks_come_only_when_asked_for(environment: &TestEnvironment) {
    let from = version(&environment.config_map("a", &json!({"l": "1"}))).to_owned();
    // A bookmark reports a later version than the start of the watch, so something must have
    // changed outside of its selector.
    let after = version(&environment.config_map("b", &json!({}))).to_owned();
    // Less than 5 s is too short for the real one's, 2 s before the end.
    let query = format!("labelSelector=l&resourceVersion={from}&timeoutSeconds=5");
    let asked = format!("{query}&allowWatchBookmarks=true");
    let bookmark = std::thread::scope(|scope| {
        let plain = scope.spawn(|| follow(environment, &query).count());
        let bookmark = follow(environment, &asked).next();
        assert_eq!(plain.join().ok(), Some(0), "it requested none");
        bookmark.expect("one before the end")
    });
    assert_eq!(bookmark["type"], "BOOKMARK");
    let object = &bookmark["object"];
    assert_eq!(object["kind"], "ConfigMap");
    assert_eq!(object["apiVersion"], "v1");
    assert_eq!(name(object), "");
    let number = |text: &str| text.parse::<u64>().expect("a number");
    assert!(number(version(object)) >= number(&after));
}

fn a_watch_from_a_compacted_version_is_expired(environment: &TestEnvironment) {
    let mut events = follow(environment, "resourceVersion=1&timeoutSeconds=30");
    let event = events.next().expect("one event");
    if environment.fake.is_none() && event["type"] == "ADDED" {
        // A cluster that was set up just now has forgotten nothing yet.
        return;
    }
    assert_eq!(event["type"], "ERROR");
    let status = &event["object"];
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["code"], 410);
    assert_eq!(status["reason"], "Expired");
    let message = status["message"].as_str().unwrap_or("");
    assert!(
        message.starts_with("too old resource version: 1 ("),
        "{message}"
    );
    assert!(events.next().is_none(), "that was the end");
}

fn a_watch_resumes_without_loss(environment: &TestEnvironment) {
    let from = version(&environment.config_map("a", &json!({}))).to_owned();
    let mut first = follow(
        environment,
        &format!("resourceVersion={from}&timeoutSeconds=30"),
    );
    environment.config_map("b", &json!({}));
    let event = first.find(|e| name(&e["object"]) == "b").expect("it came");
    let reached = version(&event["object"]).to_owned();
    drop(first);
    environment.config_map("c", &json!({}));
    let query = format!("resourceVersion={reached}&timeoutSeconds=30");
    let mut second =
        follow(environment, &query).filter(|e| name(&e["object"]) != "kube-root-ca.crt");
    assert_eq!(
        summary(&second.next().expect("only what is new")),
        ("ADDED", "c")
    );
}
