//! The cache heals itself: etcd that was restored from a backup, events that are lost, odd responses.

use std::time::Duration;

use serde_json::json;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{NAMESPACE, Response, TestEnvironment, eventually};

/// A GET that starts nothing.
fn find(environment: &TestEnvironment, replica: usize, path: &str) -> Response {
    let client = environment.replica(replica);
    let request = client.begin("GET", path, &[("Prefer", "create=false")], "");
    request.finish()
}

/// Whether this replica returns an address.
fn is_found(environment: &TestEnvironment, replica: usize, path: &str) -> bool {
    find(environment, replica, path).status == 200
}

/// Two replicas, an instance `old`, and after a backup another, `lost`.
fn with_lost_instance() -> TestEnvironment {
    let mut environment = TestEnvironment::new();
    let second = environment.add_replica();
    environment.wait_ready(second);
    environment.start_instance("/app/hello/old");
    let backup = environment.kube.back_up();
    environment.start_instance("/app/hello/lost");
    for replica in 0..2 {
        eventually("it is found", || {
            is_found(&environment, replica, "/app/hello/lost").then_some(())
        });
    }
    environment.kube.restore(&backup);
    environment
}

/// The metric of that resource and cause.
fn relisted(environment: &TestEnvironment, replica: usize, resource: &str, cause: &str) -> bool {
    let name = "config_controller_view_relisted_total";
    let sample = format!("{name}{{resource=\"{resource}\",cause=\"{cause}\"}} 0");
    let metrics = environment.replica(replica).get("/metrics");
    !metrics.text.lines().any(|line| line == sample)
}

#[test]
fn replicas_notice_a_restored_etcd_when_the_api_server_was_restarted() {
    let environment = with_lost_instance();
    // A quiet watch would be open at a version that comes again.
    environment.kube.cut_connections();
    for replica in 0..2 {
        eventually("the lost instance is forgotten", || {
            (!is_found(&environment, replica, "/app/hello/lost")).then_some(())
        });
        assert!(is_found(&environment, replica, "/app/hello/old"));
        eventually("Jobs and pods were listed", || {
            let both = ["jobs", "pods"];
            let all = both
                .iter()
                .all(|resource| relisted(&environment, replica, resource, "went_back"));
            all.then_some(())
        });
    }
    environment.start_instance("/app/hello/lost");
}

/// The POST succeeded, and its Job was never shown: starts returned 503 for ever.
#[test]
fn the_response_to_a_call_shows_that_etcd_was_restored() {
    let environment = with_lost_instance();
    // Its pod may have a version that the cache has passed already: then a check by name finds it.
    eventually("a start is shown", || {
        (environment.get("/app/hello/new").status == 200).then_some(())
    });
    eventually("the lost instance is forgotten", || {
        (!is_found(&environment, 0, "/app/hello/lost")).then_some(())
    });
}

#[test]
fn a_stop_of_what_a_restored_etcd_has_lost_makes_few_calls() {
    let environment = with_lost_instance();
    environment.kube.clear_requests();
    let stopped = environment.delete("/app/hello/lost");
    assert!(matches!(stopped.status, 200 | 404), "{stopped:?}");
    let calls = environment.kube.requests();
    let calls: Vec<_> = calls.iter().filter(|it| it.name == "hello-lost").collect();
    assert!(calls.len() <= 12, "{calls:?}");
}

/// A relay loses events, and no later one tells.
#[test]
fn lost_events_are_made_up_for_by_a_list_every_interval() {
    let environment = TestEnvironment::builder().setting("RELIST", "60s").start();
    environment.start_instance("/app/hello/ann");
    let pod = environment.kube.pod_of(NAMESPACE, "hello-ann");
    let pod = pod.expect("it has a pod");
    let name = pod["metadata"]["name"].as_str().expect("it has a name");
    for name in ["hello-ann", name] {
        environment.kube.lose_events(&["MODIFIED", "DELETED"], name);
    }
    let deleted = (environment.kube).delete(Resource::Jobs, NAMESPACE, "hello-ann", "Background");
    deleted.expect("it is deleted");
    eventually("the pod is gone", || {
        let pod = environment.kube.pod_of(NAMESPACE, "hello-ann");
        pod.is_none().then_some(())
    });
    assert!(is_found(&environment, 0, "/app/hello/ann"), "nothing tells");
    eventually("the lost events are made up for", || {
        environment.advance(Duration::from_secs(3));
        (!is_found(&environment, 0, "/app/hello/ann")).then_some(())
    });
    eventually("each is counted", || {
        let metrics = environment.get("/metrics");
        let counted = ["jobs", "pods"].iter().all(|resource| {
            let sample =
                format!("config_controller_view_differences_total{{resource=\"{resource}\"}} 1");
            metrics.text.lines().any(|line| line == sample)
        });
        counted.then_some(())
    });
    environment.start_instance("/app/hello/ann");
}

/// Who has to know asks Kubernetes.
#[test]
fn a_get_with_no_cache_reads_the_job_first() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    let get = |path: &str| {
        let headers = [("Cache-Control", "no-cache"), ("Prefer", "create=false")];
        environment
            .client()
            .begin("GET", path, &headers, "")
            .finish()
    };
    environment.kube.clear_requests();
    let found = get("/app/hello/ann");
    found.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    assert_eq!(found.header("x-view-age"), "");
    let reads = environment.kube.requests();
    assert!(
        reads
            .iter()
            .any(|it| it.name == "hello-ann" && it.verb == "list")
    );
    // Without an answer the cache must do.
    let fails = FaultRule::new("list", "jobs", Fault::Status(500));
    environment.kube.fault(fails);
    let cached = get("/app/hello/ann");
    cached.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    assert_eq!(cached.header("x-view-age"), "0");
    environment.kube.clear_faults();
    // What the watches have lost is found.
    for name in ["hello-ann", &environment.wait_pod("hello-ann")] {
        environment.kube.lose_events(&["DELETED", "MODIFIED"], name);
    }
    let deleted = (environment.kube).delete(Resource::Jobs, NAMESPACE, "hello-ann", "Background");
    deleted.expect("it is deleted");
    assert!(is_found(&environment, 0, "/app/hello/ann"));
    eventually("Kubernetes has removed it", || {
        let job = environment.kube.get(Resource::Jobs, NAMESPACE, "hello-ann");
        job.is_none().then_some(())
    });
    get("/app/hello/ann").expect_error(404, "not_found");
    assert!(!is_found(&environment, 0, "/app/hello/ann"));
}

/// A read of one object notices it between two lists.
#[test]
fn an_object_that_differs_is_noticed_by_a_read_of_its_name() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    environment
        .kube
        .lose_events(&["DELETED", "MODIFIED"], "hello-ann");
    let deleted = (environment.kube).delete(Resource::Jobs, NAMESPACE, "hello-ann", "Background");
    deleted.expect("it is deleted");
    eventually("a read shows it", || {
        environment.advance(Duration::from_secs(3));
        relisted(&environment, 0, "jobs", "differs").then_some(())
    });
    eventually("it is forgotten", || {
        (!is_found(&environment, 0, "/app/hello/ann")).then_some(())
    });
}

/// The write was done: a stopped Job was invisible from then on, and a start got 500 at once.
#[test]
fn what_cannot_be_an_answer_changes_nothing() {
    for fault in [Fault::Null, Fault::HalfBody] {
        let environment = TestEnvironment::new();
        let odd = |verb| FaultRule::new(verb, "jobs", fault.clone()).times(1);
        environment.kube.fault(odd("create"));
        environment.start_instance("/app/hello/ann");
        let pods = |verb| FaultRule::new(verb, "pods", fault.clone()).times(1);
        environment.kube.fault(pods("patch"));
        environment
            .patch("/app/hello/ann", &json!({"k": "v"}))
            .expect(200);
        environment.kube.fault(odd("delete"));
        environment.delete("/app/hello/ann").expect(200);
        environment.kube.fault(odd("list"));
        environment.delete("/app/hello/ann").expect(404);
        environment.start_instance("/app/hello/ann");

        // While it goes on the watch shows what was done; what only a response can show is an outage,
        // and calls for it are made with pauses.
        for verb in ["create", "delete", "list", "patch"] {
            let all = FaultRule::new(verb, "*", fault.clone());
            environment.kube.fault(all);
        }
        environment.start_instance("/app/hello/bob");
        environment.kube.clear_requests();
        let client = environment.client();
        let stop = client.begin("DELETE", "/app/hello/nobody", &[], "");
        eventually("the name is read", || {
            let calls = environment.kube.requests();
            let calls = calls.iter().filter(|it| it.name == "hello-nobody");
            (calls.count() >= 4).then_some(())
        });
        environment.advance(Duration::from_secs(10));
        let stopped = stop.finish();
        assert_eq!(stopped.status, 503, "{stopped:?}");
        assert!(stopped.text.contains("kubernetes_unavailable"));
        let calls = environment.kube.requests();
        let calls = calls.iter().filter(|it| it.name == "hello-nobody");
        assert!(calls.count() <= 20);
    }
}

/// After SIGSTOP responses came from before the pause, and did not say so.
#[test]
fn after_a_pause_of_the_process_responses_say_how_old_they_are() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    let age = || (find(&environment, 0, "/app/hello/ann").header("x-view-age")).to_owned();
    assert_eq!(age(), "");
    // To the service it is as if it had stood still.
    environment.advance(Duration::from_secs(8));
    let said: u64 = age().parse().expect("an age");
    assert!((8..=10).contains(&said), "{said}");
    eventually("the watches have caught up", || {
        age().is_empty().then_some(())
    });
}
