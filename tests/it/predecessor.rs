//! Beside, after and before 2.7.1. This service controls instances of 2.7.1, and 2.7.1 controls
//! ours after a roll-back. Other objects are left alone, and the Role of its chart is enough.
//!
//! | module | what it shows |
//! |---|---|
//! | (here) | instances that 2.7.1 has made, through two replicas of ours |
//! | `rollback` | instances that we have made, controlled by 2.7.1 |
//! | `unrelated` | what else is in the namespace: half-labelled, unlabelled, ambiguous |
//! | `role` | the Role of 2.7.1's chart |
//! | `original`, `mako` | what these stand on: 2.7.1 as Kubernetes sees it |
//! | `front` | 2.7.1 as its clients see it, for the rows of the contract |

pub(crate) mod front;
mod mako;
pub(crate) mod original;
mod role;
mod rollback;
mod unrelated;

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{Client, NAMESPACE, PREFIX, TestEnvironment, eventually, name_of};
use crate::raw_kube::RawKube;
use original::{Predecessor, success};

/// A template that 2.7.1 can start: its labels are there, if empty (W14).
const BARE: &str = "\
metadata: {labels: {}}
spec:
  restartPolicy: Never
  containers: [{name: app, image: example/app:1}]
";

/// Two replicas of this service with the app type `page` of this template, and 2.7.1 beside them.
fn both(template: &str, pod_script: PodScript) -> (TestEnvironment, Predecessor) {
    let builder = TestEnvironment::builder()
        .template("page", template)
        .pod_script(pod_script);
    let mut environment = builder.start();
    let second = environment.add_replica();
    environment.wait_ready(second);
    let original = predecessor(&environment);
    (environment, original)
}

/// 2.7.1 in the namespace of the environment, with the rights of the same service account.
fn predecessor(environment: &TestEnvironment) -> Predecessor {
    let api = RawKube::plain(&environment.kube.url(), Some(&environment.kube.token()));
    Predecessor::on_fake(api, NAMESPACE)
}

/// An instance that 2.7.1 has started and waited for; returns its address.
#[track_caller]
fn started_by(original: &Predecessor, name: &str) -> String {
    let (code, found) = original.get("page", name);
    assert_eq!(code, 200, "{found}");
    let ip = found["ip"].as_str();
    ip.expect("a ready instance has an address").to_owned()
}

#[track_caller]
fn names(client: Client, app_type: &str) -> Vec<String> {
    let list = client.get(&format!("/app/{app_type}")).expect(200);
    let entries = list.as_array().expect("a list is an array").iter();
    let name = |entry: &Value| entry["name"].as_str().expect("a name").to_owned();
    entries.map(name).collect()
}

#[track_caller]
fn see_names(client: Client, app_type: &str, expected: &[&str]) {
    eventually("the list is as it should be", || {
        (names(client, app_type) == expected).then_some(())
    });
}

/// Waits until a replica shows this key of the instance with this value.
#[track_caller]
fn see_label(client: Client, path: &str, key: &str, value: &str) {
    eventually("the label is seen", || {
        (client.get(path).expect(200)[key] == value).then_some(())
    });
}

/// Waits until a replica shows that the only instance is ready, or that it is not.
#[track_caller]
fn see_errored(client: Client, errored: bool) {
    eventually("the list shows how it is", || {
        let list = client.get("/app/page").expect(200);
        (list[0]["errored"] == errored).then_some(())
    });
}

#[track_caller]
fn patched(client: Client, path: &str, body: &Value) {
    let response = client.patch(path, body);
    response.expect_text(200, r#"{"status":"Success"}"#);
}

/// How many Jobs were made, by whomever.
fn made(environment: &TestEnvironment) -> usize {
    let requests = environment.kube.requests();
    let made = |r: &&_| matches!(r, crate::fake_kube::api::Logged { verb, code: 201, .. } if verb == "create");
    requests.iter().filter(made).count()
}

#[track_caller]
fn uid(environment: &TestEnvironment, job: &str) -> Value {
    environment.job(job).expect("the Job is there")["metadata"]["uid"].clone()
}

/// An instance of 2.7.1 is listed, found, labelled, stopped and started again, alternately at the
/// two replicas. Nothing is created twice.
#[track_caller]
fn check_life(template: &str, name: &str) {
    let (environment, original) = both(template, PodScript::default());
    let ip = started_by(&original, name);
    let (path, job) = (format!("/app/page/{name}"), format!("page-{name}"));
    let before = uid(&environment, &job);
    for turn in [0, 1, 0, 1] {
        let client = environment.replica(turn);
        see_names(client, "page", &[name]);
        assert_eq!(client.get(&path).expect(200)["ip"], json!(ip));
        let (key, value) = (format!("key-{turn}"), format!("value-{turn}"));
        patched(client, &path, &json!({&key: value}));
        // A replica shows its own write immediately, in the form that 2.7.1 writes.
        assert_eq!(client.get(&path).expect(200)[&key], json!(value));
        let pod = environment.kube.pod_of(NAMESPACE, &job).expect("a pod");
        let label = format!("{PREFIX}meta-{key}");
        assert_eq!(pod["metadata"]["labels"][label], json!(value));
    }
    let all = json!({"ip": ip, "key-0": "value-0", "key-1": "value-1"});
    for client in [environment.replica(0), environment.replica(1)] {
        eventually("each shows what the other has written", || {
            (client.get(&path).expect(200) == all).then_some(())
        });
        let list = client.get("/app/page").expect(200);
        assert_eq!((200, list), original.list("page"));
    }
    assert_eq!(uid(&environment, &job), before);
    assert_eq!(environment.kube.all(Resource::Pods, NAMESPACE).len(), 1);
    assert_eq!(made(&environment), 1);
    check_end(&environment, &path, &job);
}

/// Stops it through one replica, and starts it through the other.
#[track_caller]
fn check_end(environment: &TestEnvironment, path: &str, job: &str) {
    let (first, second) = (environment.replica(0), environment.replica(1));
    let before = uid(environment, job);
    let deleted = second.delete(path);
    deleted.expect_text(200, r#"{"status":"Success"}"#);
    environment.wait_no_jobs();
    see_names(first, "page", &[]);
    see_names(second, "page", &[]);
    second
        .delete(path)
        .expect_detail(404, "No job found", "not_found");
    first.get(path).expect(200);
    assert_ne!(uid(environment, job), before);
}

#[test]
fn its_instance_is_served() {
    check_life(BARE, "ann");
}

#[test]
fn its_instance_with_labels_of_the_template_is_served() {
    let labels = "{labels: {app: page, team: red}, annotations: {note: x}}";
    check_life(&BARE.replace("{labels: {}}", labels), "ann");
}

#[test]
fn its_instance_with_a_dot_in_the_name_is_served() {
    check_life(BARE, "ann.of.cleves");
}

#[test]
fn its_instance_with_a_uuid_is_served() {
    check_life(BARE, "0f8fad5b-d9cb-469f-a165-70867728950e");
}

#[test]
fn its_instance_that_kubernetes_restarts_is_served() {
    check_life(&BARE.replace("Never", "OnFailure"), "ann");
}

#[test]
fn its_starting_instance_is_pending() {
    let (environment, original) = both(BARE, PodScript::by_hand());
    original.start("page", "ann").expect("it is started");
    let callers: Vec<_> = [0, 1, 0, 1]
        .map(|replica| environment.replica(replica).begin_get("/app/page/ann"))
        .into();
    environment.wait_pod("page-ann");
    assert!(!callers.iter().any(super::harness::Pending::is_answered));
    environment.make_ready("page-ann");
    let pod = environment
        .kube
        .pod_of(NAMESPACE, "page-ann")
        .expect("a pod");
    let expected = format!(r#"{{"ip":{}}}"#, pod["status"]["podIP"]);
    for caller in callers {
        caller.finish().expect_text(200, &expected);
    }
    assert_eq!(made(&environment), 1);
}

/// A container that ended badly and runs again is the same pod, and the same instance.
#[test]
fn its_instance_with_a_crashed_container_is_pending() {
    let template = BARE.replace("Never", "OnFailure");
    let (environment, original) = both(&template, PodScript::by_hand());
    original.start("page", "ann").expect("it is started");
    let callers = [0, 1].map(|replica| environment.replica(replica).begin_get("/app/page/ann"));
    environment.move_pod("page-ann", &PodMove::Run);
    environment.move_pod("page-ann", &PodMove::Exit(failure()));
    environment.make_ready("page-ann");
    for caller in callers {
        caller.finish().expect(200);
    }
    assert_eq!(made(&environment), 1);
    assert_eq!(environment.kube.all(Resource::Pods, NAMESPACE).len(), 1);
}

/// Pods that start by hand, and go by themselves.
fn held() -> PodScript {
    PodScript {
        held: true,
        ..PodScript::default()
    }
}

fn failure() -> Exit {
    Exit::at_once(1)
}

/// Ends the Job's pod, and waits until the Job controller has made the next one.
#[track_caller]
fn retry(environment: &TestEnvironment, job: &str) {
    let before = environment.wait_pod(job);
    environment.move_pod(job, &PodMove::Exit(failure()));
    eventually("the next pod is made", || {
        environment.advance(Duration::from_secs(10));
        (environment.wait_pod(job) != before).then_some(())
    });
}

/// 2.7.1 sets no `backoffLimit`, so failed pods stay beside the running one. It would show them
/// all, and read and label the first by name (W8).
#[test]
fn its_instance_of_several_pods_is_one_instance() {
    let (environment, original) = both(BARE, held());
    original.start("page", "ann").expect("it is started");
    environment.make_ready("page-ann");
    let connected = json!({"connected": "true", "sessionID": "s-1"});
    assert_eq!(original.patch("page", "ann", &connected), success());
    see_label(environment.replica(1), "/app/page/ann", "connected", "true");
    retry(&environment, "page-ann");
    retry(&environment, "page-ann");
    environment.make_ready("page-ann");
    let pods = environment.kube.all(Resource::Pods, NAMESPACE);
    assert_eq!(pods.len(), 3);
    let newest = environment
        .kube
        .pod_of(NAMESPACE, "page-ann")
        .expect("a pod");
    for replica in [0, 1] {
        let client = environment.replica(replica);
        see_label(
            client,
            "/app/page/ann",
            "ip",
            newest["status"]["podIP"].as_str().expect("an address"),
        );
        // What was attached to the pod before is attached to its successor.
        see_label(client, "/app/page/ann", "connected", "true");
        see_label(client, "/app/page/ann", "sessionID", "s-1");
        let list = client.get("/app/page").expect(200);
        assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
        assert_eq!(list[0]["errored"], false);
        patched(client, "/app/page/ann", &json!({"by": replica}));
        let key = (Resource::Pods, NAMESPACE, name_of(&newest));
        let pod = environment.kube.get(key.0, key.1, &key.2).expect("the pod");
        let label = &pod["metadata"]["labels"][format!("{PREFIX}meta-by")];
        assert_eq!(label, &json!(replica.to_string()));
    }
    assert_eq!(made(&environment), 1);
    environment.replica(1).delete("/app/page/ann").expect(200);
    see_names(environment.replica(0), "page", &[]);
}

/// The labels of webtens' PATCHes, as 2.7.1 has put them on its pods.
#[test]
fn its_labels_are_shown() {
    let (environment, original) = both(BARE, PodScript::default());
    let ip = started_by(&original, "ann");
    let labels = json!({
        "username": "bob", "sessionID": "s-1", "connected": "true", "lastConnection": "1777629600000",
    });
    assert_eq!(original.patch("page", "ann", &labels), success());
    for client in [environment.replica(0), environment.replica(1)] {
        see_label(client, "/app/page/ann", "connected", "true");
        assert_eq!(
            (200, client.get("/app/page/ann").expect(200)),
            original.get("page", "ann")
        );
        let list = client.get("/app/page").expect(200);
        assert_eq!((200, list.clone()), original.list("page"));
        assert_eq!(list[0]["sessionID"], "s-1");
        assert_eq!(list[0]["name"], "ann");
    }
    assert_eq!(original.get("page", "ann").1["ip"], json!(ip));
    // Removed by us, it is gone for 2.7.1 as well.
    patched(
        environment.client(),
        "/app/page/ann",
        &json!({"username": null}),
    );
    assert!(original.get("page", "ann").1["username"].is_null());
}

/// 2.7.1 cannot get out of this (W2): the Job is there, and no pod comes.
#[test]
fn its_job_without_a_pod_is_pending_and_can_be_stopped() {
    let environment = TestEnvironment::builder().template("page", BARE).start();
    let original = predecessor(&environment);
    environment
        .kube
        .refuse_pods(Some("pods \"x\" is forbidden: exceeded quota: q"));
    for name in ["ann", "bob"] {
        original.start("page", name).expect("it is started");
    }
    see_names(environment.client(), "page", &["ann", "bob"]);
    let soon = [("Prefer", "wait=1")];
    let waiting = environment
        .client()
        .begin("GET", "/app/page/ann", &soon, "");
    let waits = waiting.finish().expect(202);
    assert_eq!(waits["status"], "node_not_ready");
    assert_eq!(original.delete("page", "bob").0, 404);
    environment.delete("/app/page/bob").expect(200);
    see_names(environment.client(), "page", &["ann"]);
    environment.kube.refuse_pods(None);
    environment.wait_found("/app/page/ann");
    assert_eq!(made(&environment), 2);
}

/// 2.7.1 would report it for ever (W6); the next GET replaces it by a Job of this service.
#[test]
fn its_ended_instance_is_replaced() {
    let (environment, original) = both(BARE, held());
    original.start("page", "ann").expect("it is started");
    environment.make_ready("page-ann");
    for replica in [0, 1] {
        see_errored(environment.replica(replica), false);
    }
    let before = uid(&environment, "page-ann");
    environment.advance(Duration::from_secs(3600));
    let well = Exit {
        code: 0,
        ..failure()
    };
    environment.move_pod("page-ann", &PodMove::Exit(well));
    for replica in [0, 1] {
        see_errored(environment.replica(replica), true);
    }
    let caller = environment.client().begin_get("/app/page/ann");
    eventually("another Job is made", || {
        (environment.job("page-ann")?["metadata"]["uid"] != before).then_some(())
    });
    environment.make_ready("page-ann");
    let ip = caller.finish().expect(200)["ip"].clone();
    // Until it has seen all of that, the other replica may report the end of the first instance.
    eventually("the other replica finds the new one", || {
        let found = environment.replica(1).get("/app/page/ann");
        (found.status == 200 && found.json()["ip"] == ip).then_some(())
    });
    assert_eq!(made(&environment), 2);
    let job = environment.job("page-ann").expect("the Job is there");
    let annotation = format!("{PREFIX}instance-name");
    assert_eq!(job["metadata"]["annotations"][annotation], "ann");
}

/// W10: 2.7.1 would return the address of the pod that is being deleted.
#[test]
fn a_start_waits_until_an_instance_stopped_by_2_7_1_is_gone() {
    let (environment, original) = both(BARE, PodScript::by_hand());
    original.start("page", "ann").expect("it is started");
    environment.make_ready("page-ann");
    let old = environment
        .kube
        .pod_of(NAMESPACE, "page-ann")
        .expect("a pod");
    see_errored(environment.replica(0), false);
    see_errored(environment.replica(1), false);
    assert_eq!(original.delete("page", "ann"), success());
    for replica in [0, 1] {
        eventually("the deletion is seen", || {
            let stopping = r#"config_controller_instances{type="page",status="stopping"} 1"#;
            let metrics = environment.replica(replica).get("/metrics").text;
            metrics.contains(stopping).then_some(())
        });
    }
    let callers = [0, 1].map(|replica| environment.replica(replica).begin_get("/app/page/ann"));
    let pod = name_of(&old);
    eventually("the old pod has gone", || {
        environment
            .kube
            .move_pod(NAMESPACE, &pod, &PodMove::Terminate);
        environment
            .kube
            .get(Resource::Pods, NAMESPACE, &pod)
            .is_none()
            .then_some(())
    });
    environment.make_ready("page-ann");
    for caller in callers {
        let ip = caller.finish().expect(200)["ip"].clone();
        assert_ne!(ip, old["status"]["podIP"]);
    }
    assert_eq!(made(&environment), 2);
}
