//! Several replicas on one API server: they agree without communicating.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::fake_kube::quota::Quota;
use crate::harness::{TestEnvironment, eventually};

/// As many replicas, all of them ready.
fn replicas(count: usize, pod_script: PodScript) -> TestEnvironment {
    let mut environment = TestEnvironment::builder().pod_script(pod_script).start();
    for _ in 1..count {
        let replica = environment.add_replica();
        environment.wait_ready(replica);
    }
    environment
}

#[test]
fn concurrent_starts_of_one_name_make_one_job() {
    let environment = replicas(3, PodScript::by_hand());
    let names = ["a", "b", "c", "d", "e"];
    let mut callers = Vec::new();
    for name in names {
        for replica in [0, 1, 2, 0, 1, 2] {
            let path = format!("/app/hello/{name}");
            callers.push((name, environment.replica(replica).begin_get(&path)));
        }
    }
    for name in names {
        environment.make_ready(&format!("hello-{name}"));
    }
    let mut addresses = json!({});
    for (name, caller) in callers {
        let response = caller.finish().expect(200);
        let before = addresses[name].take();
        assert!(before.is_null() || before == response["ip"], "{name}");
        addresses[name] = response["ip"].clone();
    }
    let created = environment.kube.requests();
    let created = created
        .iter()
        .filter(|request| request.verb == "create" && request.code == 201);
    assert_eq!(created.count(), names.len());
    assert_eq!(environment.jobs().len(), names.len());
}

#[test]
fn writes_of_one_replica_are_seen_by_the_others() {
    let environment = replicas(2, PodScript::default());
    let ip = environment.start_instance("/app/hello/ann");
    let other = environment.replica(1);
    // Known to the other or not: it is found, not made again.
    assert_eq!(other.get("/app/hello/ann").expect(200)["ip"], json!(ip));
    environment
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    eventually("the label is seen", || {
        (other.get("/app/hello/ann").expect(200)["k"] == "v").then_some(())
    });
    other.delete("/app/hello/ann").expect(200);
    environment.wait_empty("/app/hello");
    assert_eq!(environment.jobs(), [""; 0]);
}

#[test]
fn a_patch_at_one_replica_of_an_instance_just_started_at_another() {
    let environment = replicas(2, PodScript::default());
    for n in 0..10 {
        let path = format!("/app/hello/n{n}");
        environment.start_instance(&path);
        let patched = environment.replica(1).patch(&path, &json!({"k": "v"}));
        patched.expect_text(200, r#"{"status":"Success"}"#);
    }
}

#[test]
fn a_delete_at_one_replica_of_an_instance_just_started_at_another() {
    let environment = replicas(2, PodScript::default());
    for n in 0..10 {
        let path = format!("/app/hello/n{n}");
        environment.start_instance(&path);
        let deleted = environment.replica(1).delete(&path);
        deleted.expect_text(200, r#"{"status":"Success"}"#);
    }
    environment.wait_no_jobs();
}

#[test]
fn waiters_of_one_replica_are_answered_when_another_stops_the_instance() {
    let environment = replicas(2, PodScript::by_hand());
    let waiting = environment.client().begin_get("/app/hello/ann");
    environment.wait_pod("hello-ann");
    eventually("the first replica knows the Job", || {
        let list: Value = environment.get("/app/hello").expect(200);
        (list[0]["name"] == "ann").then_some(())
    });
    environment.replica(1).delete("/app/hello/ann").expect(200);
    waiting.finish().expect_error(409, "stopped");
}

/// The stop is done when the start comes, but the watch of this replica stands still.
#[test]
fn a_start_after_a_stop_at_another_replica_is_not_ended_by_it() {
    let mut environment = replicas(1, PodScript::by_hand());
    let first = environment.client().begin_get("/app/hello/ann");
    environment.wait_pod("hello-ann");
    let silent = FaultRule::new("watch", "jobs", Fault::SilentWatch);
    environment.kube.fault(silent.times(1));
    let lagging = environment.add_replica();
    environment.wait_ready(lagging);
    eventually("its watch is open", || {
        let requests = environment.kube.requests();
        let watches = requests
            .iter()
            .filter(|it| it.verb == "watch" && it.resource == "jobs");
        (watches.count() == 2).then_some(())
    });
    environment.delete("/app/hello/ann").expect(200);
    first.finish().expect_error(409, "stopped");
    environment.wait_no_jobs();
    let second = environment.replica(lagging).begin_get("/app/hello/ann");
    eventually("the start waits", || {
        let metrics = environment.replica(lagging).get("/metrics");
        let line = "config_controller_waiting_requests 1";
        metrics.text.lines().any(|it| it == line).then_some(())
    });
    environment.kube.cut_connections();
    environment.make_ready("hello-ann");
    second.finish().expect(200);
}

/// The quota is freed a moment after the Job is gone.
#[test]
fn a_stop_and_a_new_start_follow_each_other_under_a_quota_of_one() {
    let environment = replicas(2, PodScript::default());
    environment
        .kube
        .with(|model| model.quota = Some(Quota::new(1)));
    for n in 0..6 {
        let (path, client) = (format!("/app/hello/n{n}"), environment.replica(n % 2));
        client.get(&path).expect(200);
        let wait = [("Prefer", "wait=10")];
        client
            .begin("DELETE", &path, &wait, "")
            .finish()
            .expect(200);
    }
    let refused = environment.kube.requests();
    let mut refused = refused.iter().filter(|it| it.verb == "create");
    assert!(refused.any(|it| it.code == 403), "it is freed late");
}

/// Kubernetes answers 403 for the name of the other replica's Job, and not 409.
#[test]
fn concurrent_starts_of_one_name_are_one_instance_under_a_full_quota() {
    let environment = replicas(2, PodScript::default());
    environment
        .kube
        .with(|model| model.quota = Some(Quota::new(1)));
    for n in 0..6 {
        let path = format!("/app/hello/n{n}");
        let callers = [0, 1].map(|replica| environment.replica(replica).begin_get(&path));
        let ips = callers.map(|caller| caller.finish().expect(200)["ip"].clone());
        assert_eq!(ips[0], ips[1]);
        environment.delete(&path).expect(200);
        environment.wait_no_jobs();
    }
}

#[test]
fn a_start_beyond_a_quota_is_refused_at_its_deadline() {
    let environment = replicas(1, PodScript::default());
    environment
        .kube
        .with(|model| model.quota = Some(Quota::new(1)));
    environment.start_instance("/app/hello/ann");
    environment.kube.clear_requests();
    let (client, wait) = (environment.client(), [("Prefer", "wait=10")]);
    let waiting = client.begin("GET", "/app/hello/bob", &wait, "");
    eventually("it is tried again", || {
        let requests = environment.kube.requests();
        let refused = requests
            .iter()
            .filter(|it| it.verb == "create" && it.code == 403);
        (refused.count() > 1).then_some(())
    });
    assert!(!waiting.is_answered());
    environment.advance(Duration::from_secs(10));
    let refused = waiting.finish();
    refused.expect_error(403, "refused");
    assert_eq!(refused.header("retry-after"), "1");
    let message = &refused.text;
    assert!(message.contains("exceeded quota"), "{message}");
}
