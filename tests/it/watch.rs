//! The view: how it is kept while watches break, expire, or are not allowed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{Ground, NAMESPACE, PREFIX, eventually};

/// The Role of 2.7.1's chart (contract B 4.5): no watch on Jobs and ConfigMaps.
pub(crate) const ROLE_OF_THE_ORIGINAL: &str = "\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: config-controller}
rules:
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, create, delete]
- apiGroups: [\"\"]
  resources: [configmaps]
  verbs: [get, list]
- apiGroups: [\"\"]
  resources: [pods]
  verbs: [get, watch, list, delete, patch]
";

/// A suspended Job of `hello`, which never gets a pod.
fn suspended(name: &str) -> Value {
    let both = json!({
        format!("{PREFIX}instance-type"): "hello",
        format!("{PREFIX}instance-name"): name,
    });
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": format!("hello-{name}"), "labels": both},
        "spec": {"suspend": true, "template": {
            "metadata": {"labels": both},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "i"}]},
        }},
    })
}

#[track_caller]
fn apply(ground: &Ground, object: &Value) {
    ground.kube.apply(NAMESPACE, object).expect("it is taken");
}

#[track_caller]
fn names(ground: &Ground) -> Vec<String> {
    let list = ground.get("/app/hello").expect(200);
    let entries = list.as_array().expect("a list is an array");
    let names = entries.iter().map(|entry| &entry["name"]);
    names
        .map(|n| n.as_str().expect("a name").to_owned())
        .collect()
}

#[track_caller]
fn see_names(ground: &Ground, expected: &[&str]) {
    eventually("the list is as it should be", || {
        (names(ground) == expected).then_some(())
    });
}

#[test]
fn what_others_do_is_seen() {
    let ground = Ground::new();
    apply(&ground, &suspended("a"));
    apply(&ground, &suspended("b"));
    see_names(&ground, &["a", "b"]);
    let deleted = ground
        .kube
        .delete(Resource::Jobs, NAMESPACE, "hello-a", "Background");
    deleted.expect("the Job is deleted");
    see_names(&ground, &["b"]);
    assert_eq!(ground.kube.count("list", "jobs"), 1);
}

#[test]
fn a_dropped_watch_goes_on_where_it_was() {
    let ground = Ground::new();
    ground.count_from_here();
    for round in ["a", "b", "c"] {
        ground.kube.cut_connections();
        apply(&ground, &suspended(round));
        eventually("the new one is seen", || {
            names(&ground).contains(&round.to_owned()).then_some(())
        });
    }
    assert_eq!(ground.kube.count("list", "*"), 0);
}

#[test]
fn a_watch_that_breaks_within_a_line_loses_nothing() {
    let ground = Ground::new();
    ground.count_from_here();
    let broken = FaultRule::new("watch", "jobs", Fault::DropWatchAfter(700));
    ground.kube.fault(broken.times(5));
    ground.kube.cut_connections();
    let expected = ["a", "b", "c", "d", "e", "f"];
    for name in expected {
        apply(&ground, &suspended(name));
    }
    see_names(&ground, &expected);
    assert_eq!(ground.kube.count("list", "jobs"), 0);
}

#[test]
fn an_expired_version_leads_to_a_new_list() {
    for gone in [None, Some(Fault::GoneAsStatus)] {
        let ground = Ground::new();
        apply(&ground, &suspended("old"));
        see_names(&ground, &["old"]);
        if let Some(gone) = gone {
            ground.kube.fault(FaultRule::new("watch", "*", gone));
        }
        ground.kube.stop_listening();
        let deleted = ground
            .kube
            .delete(Resource::Jobs, NAMESPACE, "hello-old", "Background");
        deleted.expect("the Job is deleted");
        apply(&ground, &suspended("new"));
        ground.kube.compact();
        ground.count_from_nothing();
        ground.kube.start_listening();
        see_names(&ground, &["new"]);
        assert_eq!(ground.kube.count("list", "jobs"), 1);
    }
}

#[test]
fn half_a_list_is_never_shown() {
    // More than one page, each of which takes its time.
    let total = 1100;
    let mut ground = Ground::builder().unstarted().start();
    for n in 0..total {
        apply(&ground, &suspended(&format!("{n:04}")));
    }
    let slow = |verb| FaultRule::new(verb, "jobs", Fault::Delay(Duration::from_millis(150)));
    ground.kube.fault(slow("list"));
    ground.add_replica();
    eventually("the first list is there", || {
        let answer = ground.get("/app/hello");
        if answer.status == 503 {
            answer.expect_error(503, "not_synced");
            return None;
        }
        assert_eq!(names(&ground).len(), total);
        Some(())
    });
    assert!(ground.kube.count("list", "jobs") >= 3, "there were pages");
    ground.kube.stop_listening();
    apply(&ground, &suspended("last"));
    ground.kube.compact();
    ground.kube.start_listening();
    eventually("the second list is there", || {
        let count = names(&ground).len();
        assert!(count >= total, "{count} were shown");
        (count == total + 1).then_some(())
    });
}

#[test]
fn an_object_that_cannot_be_read_hurts_no_other() {
    let ground = Ground::new();
    ground.start_instance("/app/hello/ann");
    let pod = ground.kube.pod_of(NAMESPACE, "hello-ann");
    let mut broken = Value::clone(&pod.expect("the instance has a pod"));
    broken["metadata"] = json!({"name": "broken", "labels": broken["metadata"]["labels"]});
    broken["status"] = json!({"podIP": {"no": "address"}, "conditions": "none"});
    apply(&ground, &broken);
    ground.start_instance("/app/hello/bob");
    assert_eq!(names(&ground), ["ann", "bob"]);
    // It is passed over in a list, too.
    ground.kube.stop_listening();
    ground.kube.compact();
    ground.kube.start_listening();
    eventually("new starts are possible", || {
        (ground.get("/app/hello/cem").status == 200).then_some(())
    });
    assert_eq!(names(&ground), ["ann", "bob", "cem"]);
}

/// Contract A14: everything works under the Role of the original, by polling.
#[test]
fn without_the_right_to_watch_it_polls() {
    let ground = Ground::builder()
        .role(ROLE_OF_THE_ORIGINAL)
        .setting("POLL", "50ms")
        .start();
    let ip = ground.start_instance("/app/hello/ann");
    ground
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    let found = ground.get("/app/hello/ann");
    found.expect_text(200, &format!(r#"{{"ip":"{ip}","k":"v"}}"#));
    // A refusal counts only when it has lasted, and then lists come at the pace of POLL.
    eventually("Jobs are listed again and again", || {
        (ground.kube.count("list", "jobs") > 40).then_some(())
    });
    apply(&ground, &suspended("theirs"));
    see_names(&ground, &["ann", "theirs"]);
    ground.delete("/app/hello/ann").expect(200);
    see_names(&ground, &["theirs"]);
}
