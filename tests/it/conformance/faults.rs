//! What only the fake can be made to do: these check that it does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{TestEnvironment, is_true, job, name, names, version};
use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::raw_kube::RawKube;

fn fake(environment: &TestEnvironment) -> &FakeKube {
    environment
        .fake
        .as_ref()
        .expect("these run on the fake only")
}

fn fault(environment: &TestEnvironment, verb: &str, fault: Fault) {
    fake(environment).fault(FaultRule::new(verb, "configmaps", fault).times(1));
}

#[test]
fn throttling_has_retry_after() {
    let environment = TestEnvironment::fake();
    let throttled = Fault::TooManyRequests {
        retry_after_secs: 3,
    };
    fault(&environment, "list", throttled);
    let got = environment.api.get(&environment.all("configmaps"));
    assert_eq!(got.header("retry-after"), "3");
    got.expect_refusal(429, "TooManyRequests");
    environment.list("configmaps", "");
}

#[test]
fn a_request_with_a_lost_response_is_carried_out() {
    let environment = TestEnvironment::fake();
    fault(&environment, "create", Fault::LoseAnswer);
    let all = environment.all("configmaps");
    let body = json!({"metadata": {"name": "a"}});
    let sent = environment
        .api
        .try_send("POST", &all, "application/json", &body.to_string());
    assert!(sent.is_err(), "the connection breaks");
    environment
        .api
        .post(&all, &body)
        .expect_refusal(409, "AlreadyExists");
}

#[test]
fn a_dropped_request_is_not_carried_out() {
    let environment = TestEnvironment::fake();
    fault(&environment, "create", Fault::Drop);
    let all = environment.all("configmaps");
    let body = json!({"metadata": {"name": "a"}});
    let sent = environment
        .api
        .try_send("POST", &all, "application/json", &body.to_string());
    assert!(sent.is_err(), "the connection breaks");
    environment.api.post(&all, &body).expect(201);
}

#[test]
fn server_errors_and_delays_are_as_configured() {
    let environment = TestEnvironment::fake();
    fault(&environment, "list", Fault::Status(503));
    let got = environment.api.get(&environment.all("configmaps"));
    got.expect_refusal(503, "ServiceUnavailable");
    fault(
        &environment,
        "list",
        Fault::Delay(Duration::from_millis(80)),
    );
    let began = Instant::now();
    environment.list("configmaps", "");
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[test]
fn a_list_can_be_stale_or_have_an_item_twice() {
    let environment = TestEnvironment::fake();
    let first = environment.config_map("a", &json!({}));
    environment.config_map("b", &json!({}));
    fault(&environment, "list", Fault::StaleList(1));
    let stale = environment.list("configmaps", "");
    assert_eq!(names(&stale), ["a"]);
    assert_eq!(version(&stale), version(&first));
    fault(&environment, "list", Fault::DuplicateItem);
    assert_eq!(names(&environment.list("configmaps", "")), ["a", "b", "a"]);
}

#[test]
fn a_watch_can_be_cut_in_the_middle_of_a_line() {
    let environment = TestEnvironment::fake();
    environment.config_map("a", &json!({}));
    fault(&environment, "watch", Fault::DropWatchAfter(40));
    let events: Vec<Option<Value>> = environment
        .api
        .watch(&format!("{}?watch=1", environment.all("configmaps")))
        .collect();
    assert!(events.iter().all(Option::is_none), "{events:?}");
}

#[test]
fn a_watch_can_come_in_pieces_or_go_back() {
    let environment = TestEnvironment::fake();
    environment.config_map("a", &json!({}));
    let last = environment.config_map("b", &json!({}));
    let watch = format!(
        "{}?watch=1&timeoutSeconds=10",
        environment.all("configmaps")
    );
    fault(&environment, "watch", Fault::SplitWatch);
    let event = environment.api.watch(&watch).next().flatten();
    assert_eq!(event.as_ref().map(|e| name(&e["object"])), Some("a"));
    fault(&environment, "watch", Fault::StaleWatch(1));
    let from = format!("{watch}&resourceVersion={}", version(&last));
    let event = environment.api.watch(&from).next().flatten();
    assert_eq!(event.as_ref().map(|e| name(&e["object"])), Some("b"));
}

#[test]
fn a_silent_watch_sends_no_events() {
    let environment = TestEnvironment::fake();
    fault(&environment, "watch", Fault::SilentWatch);
    let path = format!("{}?watch=1&timeoutSeconds=1", environment.all("configmaps"));
    let mut events = environment.api.watch(&path);
    environment.config_map("a", &json!({}));
    assert!(events.next().is_none());
}

#[test]
fn compaction_expires_watches_and_pages() {
    let environment = TestEnvironment::fake();
    let first = environment.config_map("a", &json!({}));
    environment.config_map("b", &json!({}));
    let page = environment.list("configmaps", "limit=1");
    let token = page["metadata"]["continue"].as_str().expect("more");
    environment.config_map("c", &json!({}));
    fake(&environment).compact();
    let all = environment.all("configmaps");
    let got = environment
        .api
        .get(&format!("{all}?limit=1&continue={token}"));
    let refusal = got.expect_refusal(410, "Expired");
    let fresh = refusal["metadata"]["continue"].as_str().expect("a way on");
    let rest = environment.list("configmaps", &format!("continue={fresh}"));
    assert_eq!(names(&rest), ["b", "c"]);
    let from = format!("{all}?watch=1&resourceVersion={}", version(&first));
    let event = environment
        .api
        .watch(&from)
        .next()
        .flatten()
        .expect("an event");
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    fault(&environment, "watch", Fault::GoneAsStatus);
    environment.api.get(&from).expect_refusal(410, "Expired");
}

#[test]
fn bookmarks_are_as_frequent_as_configured() {
    let fake = FakeKube::builder()
        .bookmark_every(Duration::from_millis(20))
        .start()
        .expect("the fake starts");
    let api = RawKube::plain(&fake.url(), None);
    let path = "/api/v1/namespaces/default/pods?watch=1&allowWatchBookmarks=1&timeoutSeconds=30";
    let events: Vec<Value> = api.watch(path).take(2).flatten().collect();
    assert!(events.iter().all(|e| e["type"] == "BOOKMARK"));
    assert_eq!(events.len(), 2);
}

#[test]
fn tokens_rotate() {
    let fake = FakeKube::builder()
        .require_token()
        .start()
        .expect("the fake starts");
    let path = "/api/v1/namespaces/default/pods";
    RawKube::plain(&fake.url(), None)
        .get(path)
        .expect_refusal(401, "Unauthorized");
    let api = RawKube::plain(&fake.url(), Some(&fake.token()));
    api.get(path).expect(200);
    let fresh = fake.rotate_token();
    api.get(path).expect_refusal(401, "Unauthorized");
    api.with_token(&fresh).get(path).expect(200);
}

#[test]
fn tls_knows_its_ca_and_client_certificates() {
    let fake = FakeKube::builder()
        .require_token()
        .tls()
        .start()
        .expect("the fake starts");
    let path = "/api/v1/namespaces/default/pods";
    let by_token = RawKube::from_kubeconfig(&fake.kubeconfig("default"));
    by_token.get(path).expect(200);
    let by_certificate = RawKube::from_kubeconfig(&fake.kubeconfig_with_certificate("default"));
    by_certificate.get(path).expect(200);
    let ca = &fake.tls().expect("it speaks TLS").ca_pem;
    let anonymous = RawKube::secure(&fake.url(), ca, None);
    anonymous.get(path).expect_refusal(401, "Unauthorized");
    let other = FakeKube::builder().tls().start().expect("the fake starts");
    let wrong_ca = &other.tls().expect("it speaks TLS").ca_pem;
    let misled = RawKube::secure(&fake.url(), wrong_ca, None);
    assert!(misled.try_send("GET", path, "", "").is_err());
}

#[test]
fn a_stopped_server_restarts_with_its_state() {
    let environment = TestEnvironment::fake();
    environment.config_map("a", &json!({}));
    let path = format!(
        "{}?watch=1&timeoutSeconds=30",
        environment.all("configmaps")
    );
    let mut watch = environment.api.watch(&path);
    assert!(watch.next().is_some());
    fake(&environment).stop_listening();
    assert!(watch.next().is_none(), "the watch is cut");
    let all = environment.all("configmaps");
    assert!(environment.api.try_send("GET", &all, "", "").is_err());
    fake(&environment).start_listening();
    assert_eq!(names(&environment.list("configmaps", "")), ["a"]);
}

#[test]
fn requests_are_counted() {
    let environment = TestEnvironment::fake();
    let fake = fake(&environment);
    fake.clear_requests();
    environment.config_map("a", &json!({}));
    environment.list("configmaps", "");
    environment.list("pods", "");
    assert_eq!(fake.count("create", "configmaps"), 1);
    assert_eq!(fake.count("list", "*"), 2);
    assert_eq!(fake.count("*", "*"), 3);
    let first = &fake.requests()[0];
    assert_eq!((first.verb.as_str(), first.code), ("create", 201));
}

#[test]
fn a_pod_can_be_moved_by_hand() {
    let environment = TestEnvironment::fake();
    let fake = fake(&environment);
    fake.set_pod_script("a", PodScript::by_hand());
    environment.make("jobs", &job("a", &json!({})));
    let pod = environment.wait_pod("a", |_| true);
    let go = |next: PodMove| assert!(fake.move_pod(&environment.namespace, name(&pod), &next));
    go(PodMove::Schedule);
    go(PodMove::Mount);
    go(PodMove::Pull);
    go(PodMove::Wait("ErrImagePull".to_owned(), "no".to_owned()));
    go(PodMove::Run);
    let running = environment.wait_pod("a", |pod| pod["status"]["phase"] == "Running");
    assert!(!is_true(&running, "Ready"));
    go(PodMove::Ready(true));
    environment.wait_pod("a", |pod| is_true(pod, "Ready"));
    let kept = fake.get(Resource::Pods, &environment.namespace, name(&pod));
    assert!(kept.is_some_and(|pod| pod["status"]["podIP"].is_string()));
}

#[test]
fn leases_meet_the_faults_of_other_resources() {
    let environment = TestEnvironment::fake();
    let fake = fake(&environment);
    let next = |verb: &str, fault| fake.fault(FaultRule::new(verb, "leases", fault).times(1));
    let all = environment.all("leases");
    let one = environment.one("leases", "a");
    let lease = json!({"metadata": {"name": "a", "annotations": {"used": "1"}}});
    let used = |value: &str| json!({"metadata": {"annotations": {"used": value}}});
    let patch = |value: &str| environment.api.patch(&one, &used(value));
    next("create", Fault::Forbidden);
    environment
        .api
        .post(&all, &lease)
        .expect_refusal(403, "Forbidden");
    let made = environment.make("leases", &lease);
    let backup = fake.back_up();
    let slow_down = Fault::TooManyRequests {
        retry_after_secs: 2,
    };
    next("patch", slow_down);
    assert_eq!(patch("2").header("retry-after"), "2");
    next("patch", Fault::Status(500));
    patch("2").expect(500);
    next("patch", Fault::LoseAnswer);
    let kind = "application/json-patch+json";
    let operations = json!([{"op": "replace", "path": "/metadata/annotations/used", "value": "2"}]);
    let lost = environment
        .api
        .try_send("PATCH", &one, kind, &operations.to_string());
    assert!(lost.is_err(), "the connection breaks");
    let read = environment.api.get(&one).expect(200);
    assert_eq!(read["metadata"]["annotations"]["used"], "2");
    next("list", Fault::StaleList(1));
    assert_eq!(version(&environment.list("leases", "")), version(&made));

    let from = |version: &str| {
        let path = format!("{all}?watch=1&timeoutSeconds=5&resourceVersion={version}");
        environment.api.watch(&path).next().flatten()
    };
    next("watch", Fault::DropWatchAfter(40));
    assert_eq!(from(version(&made)), None);
    let event = from(version(&made)).expect("the change");
    assert_eq!(event["type"], "MODIFIED");
    fake.compact();
    let event = from(version(&made)).expect("an error");
    assert_eq!(event["object"]["code"], 410);
    let exact = format!("{all}?resourceVersionMatch=Exact&resourceVersion=");
    let path = format!("{exact}{}", version(&made));
    environment.api.get(&path).expect_refusal(410, "Expired");
    fake.restore(&backup);
    let read = environment.api.get(&one).expect(200);
    assert_eq!(read["metadata"]["annotations"]["used"], "1");
    fake.lose_events(&["MODIFIED"], "a");
    let now = version(&read).to_owned();
    patch("3").expect(200);
    assert_eq!(from(&now), None, "its event is lost");
}
