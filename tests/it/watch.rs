//! The cache: how it is kept while watches break, expire, or are not allowed.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{NAMESPACE, PREFIX, TestEnvironment, eventually};

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

/// Creates or changes an object as another client does.
#[track_caller]
pub(crate) fn apply(environment: &TestEnvironment, object: &Value) {
    environment
        .kube
        .apply(NAMESPACE, object)
        .expect("it is taken");
}

#[track_caller]
fn names(environment: &TestEnvironment) -> Vec<String> {
    let list = environment.get("/app/hello").expect(200);
    let entries = list.as_array().expect("a list is an array");
    let names = entries.iter().map(|entry| &entry["name"]);
    names
        .map(|n| n.as_str().expect("a name").to_owned())
        .collect()
}

#[track_caller]
fn see_names(environment: &TestEnvironment, expected: &[&str]) {
    eventually("the list is as it should be", || {
        (names(environment) == expected).then_some(())
    });
}

#[test]
fn changes_by_others_are_seen() {
    let environment = TestEnvironment::new();
    apply(&environment, &suspended("a"));
    apply(&environment, &suspended("b"));
    see_names(&environment, &["a", "b"]);
    let deleted = environment
        .kube
        .delete(Resource::Jobs, NAMESPACE, "hello-a", "Background");
    deleted.expect("the Job is deleted");
    see_names(&environment, &["b"]);
    assert_eq!(environment.kube.count("list", "jobs"), 1);
}

#[test]
fn a_dropped_watch_resumes() {
    let environment = TestEnvironment::new();
    environment.count_from_here();
    for round in ["a", "b", "c"] {
        environment.kube.cut_connections();
        apply(&environment, &suspended(round));
        eventually("the new one is seen", || {
            names(&environment)
                .contains(&round.to_owned())
                .then_some(())
        });
    }
    assert_eq!(environment.kube.count("list", "*"), 0);
}

#[test]
fn a_watch_that_breaks_within_a_line_loses_nothing() {
    let environment = TestEnvironment::new();
    environment.count_from_here();
    let broken = FaultRule::new("watch", "jobs", Fault::DropWatchAfter(700));
    environment.kube.fault(broken.times(5));
    environment.kube.cut_connections();
    let expected = ["a", "b", "c", "d", "e", "f"];
    for name in expected {
        apply(&environment, &suspended(name));
    }
    see_names(&environment, &expected);
    assert_eq!(environment.kube.count("list", "jobs"), 0);
}

#[test]
fn an_expired_version_leads_to_a_new_list() {
    for gone in [None, Some(Fault::GoneAsStatus)] {
        let environment = TestEnvironment::new();
        apply(&environment, &suspended("old"));
        see_names(&environment, &["old"]);
        if let Some(gone) = gone {
            environment.kube.fault(FaultRule::new("watch", "*", gone));
        }
        environment.kube.stop_listening();
        let deleted = environment
            .kube
            .delete(Resource::Jobs, NAMESPACE, "hello-old", "Background");
        deleted.expect("the Job is deleted");
        apply(&environment, &suspended("new"));
        environment.kube.compact();
        environment.count_from_nothing();
        environment.kube.start_listening();
        see_names(&environment, &["new"]);
        assert_eq!(environment.kube.count("list", "jobs"), 1);
    }
}

#[test]
fn a_partial_list_is_never_visible() {
    // More than one page, each of which takes its time.
    let total = 1100;
    let mut environment = TestEnvironment::builder().unstarted().start();
    for n in 0..total {
        apply(&environment, &suspended(&format!("{n:04}")));
    }
    let slow = |verb| FaultRule::new(verb, "jobs", Fault::Delay(Duration::from_millis(150)));
    environment.kube.fault(slow("list"));
    environment.add_replica();
    eventually("the first list is there", || {
        let response = environment.get("/app/hello");
        if response.status == 503 {
            response.expect_error(503, "not_synced");
            return None;
        }
        assert_eq!(names(&environment).len(), total);
        Some(())
    });
    assert!(
        environment.kube.count("list", "jobs") >= 3,
        "there were pages"
    );
    environment.kube.stop_listening();
    apply(&environment, &suspended("last"));
    environment.kube.compact();
    environment.kube.start_listening();
    eventually("the second list is there", || {
        let count = names(&environment).len();
        assert!(count >= total, "{count} were shown");
        (count == total + 1).then_some(())
    });
}

#[test]
fn an_unreadable_object_affects_no_other() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    let pod = environment.kube.pod_of(NAMESPACE, "hello-ann");
    let mut broken = Value::clone(&pod.expect("the instance has a pod"));
    broken["metadata"] = json!({"name": "broken", "labels": broken["metadata"]["labels"]});
    broken["status"] = json!({"podIP": {"no": "address"}, "conditions": "none"});
    apply(&environment, &broken);
    environment.start_instance("/app/hello/bob");
    assert_eq!(names(&environment), ["ann", "bob"]);
    // It is passed over in a list, too.
    environment.kube.stop_listening();
    environment.kube.compact();
    environment.kube.start_listening();
    environment.wait_found("/app/hello/cem");
    assert_eq!(names(&environment), ["ann", "bob", "cem"]);
}

/// Contract A14: everything works under the Role of the original, by polling.
#[test]
fn without_the_permission_to_watch_it_polls() {
    let environment = TestEnvironment::builder()
        .role(ROLE_OF_THE_ORIGINAL)
        .setting("POLL", "50ms")
        .start();
    let ip = environment.start_instance("/app/hello/ann");
    environment
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    let found = environment.get("/app/hello/ann");
    found.expect_text(200, &format!(r#"{{"ip":"{ip}","k":"v"}}"#));
    // A refusal counts only when it has lasted, and then lists come at the pace of POLL.
    eventually("Jobs are listed again and again", || {
        (environment.kube.count("list", "jobs") > 40).then_some(())
    });
    apply(&environment, &suspended("theirs"));
    see_names(&environment, &["ann", "theirs"]);
    environment.delete("/app/hello/ann").expect(200);
    see_names(&environment, &["theirs"]);
}
