//! What only the fake can be made to do: these check that it does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Ground, is_true, job, name, names, version};
use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::fate::Fate;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::raw_kube::RawKube;

fn fake(ground: &Ground) -> &FakeKube {
    ground.fake.as_ref().expect("these run on the fake only")
}

fn fault(ground: &Ground, verb: &str, fault: Fault) {
    fake(ground).fault(FaultRule::new(verb, "configmaps", fault).times(1));
}

#[test]
fn throttling_says_when_to_come_back() {
    let ground = Ground::fake();
    let throttled = Fault::TooManyRequests {
        retry_after_secs: 3,
    };
    fault(&ground, "list", throttled);
    let got = ground.api.get(&ground.all("configmaps"));
    assert_eq!(got.header("retry-after"), "3");
    got.expect_refusal(429, "TooManyRequests");
    ground.list("configmaps", "");
}

#[test]
fn a_lost_answer_was_carried_out() {
    let ground = Ground::fake();
    fault(&ground, "create", Fault::LoseAnswer);
    let all = ground.all("configmaps");
    let body = json!({"metadata": {"name": "a"}});
    let sent = ground
        .api
        .try_send("POST", &all, "application/json", &body.to_string());
    assert!(sent.is_err(), "the connection breaks");
    ground
        .api
        .post(&all, &body)
        .expect_refusal(409, "AlreadyExists");
}

#[test]
fn a_dropped_request_was_not_carried_out() {
    let ground = Ground::fake();
    fault(&ground, "create", Fault::Drop);
    let all = ground.all("configmaps");
    let body = json!({"metadata": {"name": "a"}});
    let sent = ground
        .api
        .try_send("POST", &all, "application/json", &body.to_string());
    assert!(sent.is_err(), "the connection breaks");
    ground.api.post(&all, &body).expect(201);
}

#[test]
fn server_errors_and_delays_come_as_asked() {
    let ground = Ground::fake();
    fault(&ground, "list", Fault::Status(503));
    let got = ground.api.get(&ground.all("configmaps"));
    got.expect_refusal(503, "ServiceUnavailable");
    fault(&ground, "list", Fault::Delay(Duration::from_millis(80)));
    let began = Instant::now();
    ground.list("configmaps", "");
    assert!(began.elapsed() >= Duration::from_millis(80));
}

#[test]
fn a_list_can_be_stale_or_have_an_item_twice() {
    let ground = Ground::fake();
    let first = ground.config_map("a", &json!({}));
    ground.config_map("b", &json!({}));
    fault(&ground, "list", Fault::StaleList(1));
    let stale = ground.list("configmaps", "");
    assert_eq!(names(&stale), ["a"]);
    assert_eq!(version(&stale), version(&first));
    fault(&ground, "list", Fault::DuplicateItem);
    assert_eq!(names(&ground.list("configmaps", "")), ["a", "b", "a"]);
}

#[test]
fn a_watch_can_be_cut_in_the_middle_of_a_line() {
    let ground = Ground::fake();
    ground.config_map("a", &json!({}));
    fault(&ground, "watch", Fault::DropWatchAfter(40));
    let events: Vec<Option<Value>> = ground
        .api
        .watch(&format!("{}?watch=1", ground.all("configmaps")))
        .collect();
    assert!(events.iter().all(Option::is_none), "{events:?}");
}

#[test]
fn a_watch_can_come_in_pieces_or_go_back() {
    let ground = Ground::fake();
    ground.config_map("a", &json!({}));
    let last = ground.config_map("b", &json!({}));
    let watch = format!("{}?watch=1&timeoutSeconds=10", ground.all("configmaps"));
    fault(&ground, "watch", Fault::SplitWatch);
    let event = ground.api.watch(&watch).next().flatten();
    assert_eq!(event.as_ref().map(|e| name(&e["object"])), Some("a"));
    fault(&ground, "watch", Fault::StaleWatch(1));
    let from = format!("{watch}&resourceVersion={}", version(&last));
    let event = ground.api.watch(&from).next().flatten();
    assert_eq!(event.as_ref().map(|e| name(&e["object"])), Some("b"));
}

#[test]
fn a_silent_watch_says_nothing_while_things_happen() {
    let ground = Ground::fake();
    fault(&ground, "watch", Fault::SilentWatch);
    let path = format!("{}?watch=1&timeoutSeconds=1", ground.all("configmaps"));
    let mut events = ground.api.watch(&path);
    ground.config_map("a", &json!({}));
    assert!(events.next().is_none());
}

#[test]
fn compaction_expires_watches_and_pages() {
    let ground = Ground::fake();
    let first = ground.config_map("a", &json!({}));
    ground.config_map("b", &json!({}));
    let page = ground.list("configmaps", "limit=1");
    let token = page["metadata"]["continue"].as_str().expect("more");
    ground.config_map("c", &json!({}));
    fake(&ground).compact();
    let all = ground.all("configmaps");
    let got = ground.api.get(&format!("{all}?limit=1&continue={token}"));
    let refusal = got.expect_refusal(410, "Expired");
    let fresh = refusal["metadata"]["continue"].as_str().expect("a way on");
    let rest = ground.list("configmaps", &format!("continue={fresh}"));
    assert_eq!(names(&rest), ["b", "c"]);
    let from = format!("{all}?watch=1&resourceVersion={}", version(&first));
    let event = ground.api.watch(&from).next().flatten().expect("an event");
    assert_eq!(
        (&event["type"], &event["object"]["code"]),
        (&json!("ERROR"), &json!(410))
    );
    fault(&ground, "watch", Fault::GoneAsStatus);
    ground.api.get(&from).expect_refusal(410, "Expired");
}

#[test]
fn bookmarks_come_as_often_as_asked() {
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
    let nobody = RawKube::secure(&fake.url(), ca, None);
    nobody.get(path).expect_refusal(401, "Unauthorized");
    let other = FakeKube::builder().tls().start().expect("the fake starts");
    let wrong_ca = &other.tls().expect("it speaks TLS").ca_pem;
    let misled = RawKube::secure(&fake.url(), wrong_ca, None);
    assert!(misled.try_send("GET", path, "", "").is_err());
}

#[test]
fn a_server_that_was_away_comes_back_with_everything() {
    let ground = Ground::fake();
    ground.config_map("a", &json!({}));
    let path = format!("{}?watch=1&timeoutSeconds=30", ground.all("configmaps"));
    let mut watch = ground.api.watch(&path);
    assert!(watch.next().is_some());
    fake(&ground).stop_listening();
    assert!(watch.next().is_none(), "the watch is cut");
    let all = ground.all("configmaps");
    assert!(ground.api.try_send("GET", &all, "", "").is_err());
    fake(&ground).start_listening();
    assert_eq!(names(&ground.list("configmaps", "")), ["a"]);
}

#[test]
fn requests_are_counted() {
    let ground = Ground::fake();
    let fake = fake(&ground);
    fake.clear_requests();
    ground.config_map("a", &json!({}));
    ground.list("configmaps", "");
    ground.list("pods", "");
    assert_eq!(fake.count("create", "configmaps"), 1);
    assert_eq!(fake.count("list", "*"), 2);
    assert_eq!(fake.count("*", "*"), 3);
    let first = &fake.requests()[0];
    assert_eq!((first.verb.as_str(), first.code), ("create", 201));
}

#[test]
fn a_pod_can_be_led_by_hand() {
    let ground = Ground::fake();
    let fake = fake(&ground);
    fake.set_fate("a", Fate::by_hand());
    ground.make("jobs", &job("a", &json!({})));
    let pod = ground.wait_pod("a", |_| true);
    let go = |next: PodMove| assert!(fake.move_pod(&ground.namespace, name(&pod), &next));
    go(PodMove::Schedule);
    go(PodMove::Mount);
    go(PodMove::Pull);
    go(PodMove::Wait("ErrImagePull".to_owned(), "no".to_owned()));
    go(PodMove::Run);
    let running = ground.wait_pod("a", |pod| pod["status"]["phase"] == "Running");
    assert!(!is_true(&running, "Ready"));
    go(PodMove::Ready(true));
    ground.wait_pod("a", |pod| is_true(pod, "Ready"));
    let kept = fake.get(Resource::Pods, &ground.namespace, name(&pod));
    assert!(kept.is_some_and(|pod| pod["status"]["podIP"].is_string()));
}
