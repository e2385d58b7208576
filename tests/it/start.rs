//! Find or start: one GET makes one Job, also under races and lost responses. Single requests are
//! rows of `contract_starts`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{NAMESPACE, PREFIX, Pending, TEMPLATE, TestEnvironment, eventually};

#[test]
fn a_hundred_gets_of_one_new_name_make_one_job() {
    let environment = TestEnvironment::by_hand();
    let client = environment.client();
    let callers: Vec<_> = (0..100)
        .map(|_| client.begin_get("/app/hello/ann"))
        .collect();
    environment.make_ready("hello-ann");
    let bodies: Vec<Value> = callers
        .into_iter()
        .map(|caller| caller.finish().expect(200))
        .collect();
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
    assert_eq!(environment.jobs(), ["hello-ann"]);
    assert_eq!(environment.kube.count("create", "jobs"), 1);
}

/// An environment with a Job of another client that the cache does not show, since the watches of these
/// resources are silent.
fn with_an_unseen_job(silent: &[&'static str]) -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.count_from_here();
    for resource in silent {
        let rule = FaultRule::new("watch", resource, Fault::SilentWatch);
        environment.kube.fault(rule);
    }
    environment.kube.cut_connections();
    eventually("the watches are silent", || {
        let is_open = |resource: &&str| environment.kube.count("watch", resource) > 0;
        silent.iter().all(is_open).then_some(())
    });
    let other = job("hello-ann", "hello", "ann");
    environment
        .kube
        .apply(NAMESPACE, &other)
        .expect("a Job is taken");
    environment
}

/// Our POST meets it. (If its pod were seen, the Job would be read first.)
#[test]
fn an_existing_job_is_joined() {
    let environment = with_an_unseen_job(&["jobs", "pods"]);
    let waiting = environment.client().begin_get("/app/hello/ann");
    eventually("the Job is read", || {
        (environment.kube.count("list", "jobs") == 1).then_some(())
    });
    let requests = environment.kube.requests();
    let refused = requests
        .iter()
        .find(|request| request.verb == "create" && request.resource == "jobs");
    assert_eq!(refused.map(|request| request.code), Some(409));
    environment.kube.clear_faults();
    environment.kube.cut_connections();
    waiting.finish().expect(200);
    assert_eq!(environment.jobs(), ["hello-ann"]);
    assert_eq!(environment.kube.count("create", "jobs"), 1);
}

#[test]
fn a_lost_response_makes_no_second_job() {
    let environment = TestEnvironment::new();
    let lost = FaultRule::new("create", "jobs", Fault::LoseAnswer).times(1);
    environment.kube.fault(lost);
    environment.get("/app/hello/ann").expect(200);
    assert_eq!(environment.jobs(), ["hello-ann"]);
    assert_eq!(environment.kube.all(Resource::Pods, NAMESPACE).len(), 1);
}

#[test]
fn names_that_differ_only_in_case_are_two_instances() {
    let environment = TestEnvironment::new();
    let one = environment.start_instance("/app/hello/Ann");
    let other = environment.start_instance("/app/hello/ann");
    assert_ne!(one, other);
    assert_eq!(environment.jobs().len(), 2);
}

/// A Job as 2.7.1 made it, labelled on its pod template only.
fn job(job_name: &str, app_type: &str, name: &str) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": job_name},
        "spec": {"template": {
            "metadata": {"labels": {
                format!("{PREFIX}instance-type"): app_type,
                format!("{PREFIX}instance-name"): name,
            }},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "i"}]},
        }},
    })
}

/// A GET that starts nothing.
fn begin_find(environment: &TestEnvironment, name: &str, prefer: &str) -> Pending {
    let path = format!("/app/hello/{name}");
    environment
        .client()
        .begin("GET", &path, &[("Prefer", prefer)], "")
}

#[test]
fn create_false_starts_nothing() {
    let environment = TestEnvironment::by_hand();
    let look = |name: &str| begin_find(&environment, name, "create=false");
    look("ann").finish().expect_error(404, "not_found");
    assert!(environment.jobs().is_empty());
    let starting = environment.client().begin_get("/app/hello/ann");
    environment.wait_pod("hello-ann");
    let looking = look("ann");
    environment.make_ready("hello-ann");
    let (started, found) = (starting.finish().expect(200), looking.finish().expect(200));
    assert_eq!(started, found);
    assert_eq!(look("ann").finish().expect(200), found);
}

/// Between two calls of another caller's start it is not known yet whether there is an instance.
/// The POST has failed and is retried, or the name is taken by a Job that cannot be read yet.
#[test]
fn create_false_waits_for_a_start_between_two_calls() {
    for (environment, verb) in [
        (TestEnvironment::new(), "create"),
        (with_an_unseen_job(&["jobs"]), "list"),
    ] {
        let failing = FaultRule::new(verb, "jobs", Fault::Status(503));
        environment.kube.fault(failing);
        let starting = environment.client().begin_get("/app/hello/ann");
        eventually("the call has failed", || {
            (environment.kube.count(verb, "jobs") > 0).then_some(())
        });
        let looking = begin_find(&environment, "ann", "create=false");
        let at_deadline = begin_find(&environment, "ann", "create=false, wait=1").finish();
        at_deadline.expect_error(503, "kubernetes_unavailable");
        environment.kube.clear_faults();
        let started = starting.finish().expect(200);
        assert_eq!(looking.finish().expect(200), started, "{verb}");
    }
}

/// An environment in which each start takes 100 ms, and 200 starts of the type `hello` that have
/// just been requested.
fn many_starts() -> (TestEnvironment, Vec<Pending>) {
    let environment = TestEnvironment::builder()
        .template("other", TEMPLATE)
        .start();
    environment.start_instance("/app/hello/there");
    environment.count_from_here();
    let slow = Fault::Delay(Duration::from_millis(100));
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", slow));
    let client = environment.client();
    let starts = (0..200).map(|n| client.begin_get(&format!("/app/hello/n{n}")));
    let starts = starts.collect();
    eventually("starts have begun", || {
        (environment.kube.count("create", "jobs") >= 8).then_some(())
    });
    (environment, starts)
}

#[test]
fn a_start_waits_not_behind_many_of_another_type() {
    let (environment, starts) = many_starts();
    environment.get("/app/other/ann").expect(200);
    let before = environment.kube.count("create", "jobs");
    assert!(before < 100, "{before} starts were before it");
    for start in starts {
        start.finish().expect(200);
    }
}

#[test]
fn a_change_waits_not_behind_many_starts() {
    let (environment, _starts) = many_starts();
    environment
        .patch("/app/hello/there", &json!({"k": "v"}))
        .expect(200);
    environment.delete("/app/hello/there").expect(200);
    let before = environment.kube.count("create", "jobs");
    assert!(before < 100, "{before} starts were before it");
}
