//! Idle timeouts while replicas restart, while reports are lost, and without the right to report.
//!
//! In doubt an instance was used: it lives longer, and ends later.

use super::{
    beat, builder, expires_in, for_two_lifetimes, get, leases, replicas, uid, wait_stopped,
};
use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{NAMESPACE, PREFIX, ROLE, TEMPLATE, TestEnvironment, eventually};
use serde_json::json;
use std::time::{Duration, Instant};

/// No instance with a timeout of 1 s ends sooner after its last use: 1 s, an interval of reports, and 2 s.
const LIVES_MIN: Duration = Duration::from_secs(4);

#[test]
fn restarts_of_both_replicas_end_nothing_that_is_used() {
    let mut environment = replicas(2);
    environment.start_instance("/app/hello/ann");
    let job = uid(&environment);
    for turn in 0..6 {
        for _ in 0..200 {
            get(&environment, turn % 2, "").expect(200);
        }
        environment.restart_replica(turn % 2);
        let began = Instant::now();
        eventually("it is used for a while", || {
            get(&environment, (turn + 1) % 2, "").expect(200);
            (began.elapsed() > LIVES_MIN / 4).then_some(())
        });
    }
    assert_eq!(uid(&environment), job);
    environment.restart_replica(0);
    environment.restart_replica(1);
    let restarted = Instant::now();
    wait_stopped(&environment);
    assert!(
        restarted.elapsed() >= LIVES_MIN,
        "{:?}",
        restarted.elapsed()
    );
}

/// A replica that is new knows nothing of uses before: also not when it is the only one.
#[test]
fn after_a_restart_all_count_as_used() {
    let mut environment = replicas(1);
    environment.start_instance("/app/hello/ann");
    let restarted = (0..3).map(|_| {
        environment.restart_replica(0);
        Instant::now()
    });
    let restarted = restarted.last().expect("three");
    wait_stopped(&environment);
    assert!(
        restarted.elapsed() >= LIVES_MIN,
        "{:?}",
        restarted.elapsed()
    );
}

fn role_without(verbs: &[&str]) -> String {
    let all = ["create", "list", "patch", "watch"];
    let left: Vec<&str> = all
        .into_iter()
        .filter(|verb| !verbs.contains(verb))
        .collect();
    let (shipped, cut) = ("verbs: [create, list, patch, watch]", left.join(", "));
    assert!(ROLE.contains(shipped), "the Role has rights on Leases");
    ROLE.replace(shipped, &format!("verbs: [{cut}]"))
}

/// Whichever right is missing: what another replica would not learn of must not end.
#[test]
fn without_all_rights_on_leases_nothing_is_stopped() {
    let ground = |verbs: &[&str]| {
        let environment = builder().role(&role_without(verbs)).start();
        environment.start_instance("/app/hello/ann");
        environment
    };
    let grounds = [
        &["create", "list", "patch", "watch"][..],
        &["create"],
        &["list"],
        &["patch"],
        &["watch"],
    ]
    .map(ground);
    for_two_lifetimes(|| {});
    for environment in &grounds {
        assert_eq!(environment.jobs(), ["hello-ann"]);
        assert_eq!(environment.get("/readyz").status, 200);
    }
}

/// Starts an instance that lives while it is used through the first replica, and not longer.
#[track_caller]
fn lives_while_it_is_used(environment: &TestEnvironment) {
    environment.start_instance("/app/hello/ann");
    let job = uid(environment);
    for_two_lifetimes(|| drop(get(environment, 0, "").expect(200)));
    assert_eq!(uid(environment), job);
    wait_stopped(environment);
}

/// No report arrives, but before it stops anything a replica lists them.
#[test]
fn a_watch_that_hangs_ends_nothing_that_is_used() {
    let mut environment = replicas(1);
    let silent = FaultRule::new("watch", "leases", Fault::SilentWatch);
    environment.kube.fault(silent);
    let other = environment.add_replica();
    environment.wait_ready(other);
    lives_while_it_is_used(&environment);
}

/// While no watch is open nothing is stopped, and then all count as used.
#[test]
fn after_a_watch_was_away_all_count_as_used() {
    let environment = replicas(1);
    environment.start_instance("/app/hello/ann");
    for verb in ["watch", "list"] {
        let away = FaultRule::new(verb, "leases", Fault::Drop);
        environment.kube.fault(away);
    }
    environment.kube.cut_connections();
    for_two_lifetimes(|| {});
    assert_eq!(environment.jobs(), ["hello-ann"]);
    environment.kube.clear_faults();
    environment.count_from_nothing();
    let opened = eventually("the watch is open again", || {
        (environment.kube.count("watch", "leases") > 0).then(Instant::now)
    });
    wait_stopped(&environment);
    assert!(opened.elapsed() >= LIVES_MIN, "{:?}", opened.elapsed());
}

#[test]
fn a_deleted_lease_is_made_again() {
    let environment = replicas(2);
    environment.start_instance("/app/hello/ann");
    let job = uid(&environment);
    let mut deleted = 0;
    let mut next = Instant::now();
    for_two_lifetimes(|| {
        get(&environment, 0, "").expect(200);
        if Instant::now() >= next && leases(&environment).contains(&"replica-0".to_owned()) {
            let gone =
                environment
                    .kube
                    .delete(Resource::Leases, NAMESPACE, "replica-0", "Background");
            gone.expect("it can be deleted");
            deleted += 1;
            next = Instant::now() + LIVES_MIN / 2;
        }
    });
    assert!(deleted >= 3, "{deleted}");
    assert_eq!(uid(&environment), job);
    wait_stopped(&environment);
}

/// Whoever writes a label without this service may take it back without it.
#[test]
fn what_was_connected_lives_for_its_whole_timeout() {
    let environment = TestEnvironment::builder()
        .annotation("idle-timeout", "4s")
        .start();
    environment.start_instance("/app/hello/ann");
    let label = |value: Option<&str>| {
        let mut pod = (*environment
            .kube
            .pod_of(NAMESPACE, "hello-ann")
            .expect("a pod"))
        .clone();
        pod["metadata"]["labels"][format!("{PREFIX}meta-connected")] = json!(value);
        if value.is_none() {
            let labels = pod["metadata"]["labels"].as_object_mut().expect("labels");
            labels.remove(&format!("{PREFIX}meta-connected"));
        }
        environment
            .kube
            .apply(NAMESPACE, &pod)
            .expect("a pod may be labelled");
    };
    label(Some("true"));
    for_two_lifetimes(|| {});
    assert_eq!(environment.jobs(), ["hello-ann"]);
    label(None);
    let disconnected = Instant::now();
    wait_stopped(&environment);
    let lived = disconnected.elapsed();
    assert!(lived >= Duration::from_secs(4), "{lived:?}");
}

/// A stop that Kubernetes has refused is no decision for later: the instance may be used meanwhile.
#[test]
fn a_stop_that_failed_is_decided_anew() {
    let environment = replicas(1);
    environment.start_instance("/app/hello/ann");
    let job = uid(&environment);
    environment
        .kube
        .fault(FaultRule::new("delete", "jobs", Fault::Status(503)));
    environment.count_from_nothing();
    eventually("a stop has failed", || {
        (environment.kube.count("delete", "jobs") > 0).then_some(())
    });
    get(&environment, 0, "").expect(200);
    environment.kube.clear_faults();
    for_two_lifetimes(|| drop(get(&environment, 0, "").expect(200)));
    assert_eq!(uid(&environment), job);
    wait_stopped(&environment);
}

/// The only worker is busy when the stop is decided: what is used until the stop is made lives.
#[test]
fn a_stop_that_has_waited_is_not_made_of_what_was_used_meanwhile() {
    let environment = builder().setting("WORKERS", "1").start();
    environment.start_instance("/app/hello/ann");
    let job = uid(&environment);
    // The Job is made; the response is late.
    let slow = Fault::Delay(2 * LIVES_MIN);
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", slow));
    environment.count_from_nothing();
    let client = environment.client();
    let start = client.begin("GET", "/app/hello/bob", &[("Prefer", "wait=60")], "");
    eventually("the stop is decided", || {
        (environment.kube.count("list", "leases") > 0).then_some(())
    });
    for_two_lifetimes(|| drop(get(&environment, 0, "").expect(200)));
    start.finish().expect(200);
    assert_eq!(uid(&environment), job);
}

/// Templates and instances are in another namespace than the replicas and their Leases.
#[test]
fn leases_are_in_the_namespace_of_the_replicas() {
    let kube = FakeKube::builder().namespace("apps").role("apps", ROLE);
    let mut environment = TestEnvironment::builder()
        .kube(|_| kube)
        .setting("JOB_NAMESPACE", "apps")
        .unstarted()
        .start();
    let template = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {
            "name": "apps",
            "labels": {format!("{PREFIX}template"): "true"},
            "annotations": {format!("{PREFIX}idle-timeout"): "1s"},
        },
        "data": {"hello.yaml": TEMPLATE},
    });
    let taken = environment.kube.apply("apps", &template);
    taken.expect("a ConfigMap is taken");
    for replica in 0..2 {
        environment.add_replica();
        environment.wait_ready(replica);
    }
    environment.start_instance("/app/hello/ann");
    let job = |environment: &TestEnvironment| {
        let job = environment.kube.get(Resource::Jobs, "apps", "hello-ann");
        job.map(|job| job["metadata"]["uid"].clone())
    };
    let first = job(&environment);
    for_two_lifetimes(|| drop(get(&environment, 0, "").expect(200)));
    assert_eq!(job(&environment), first);
    assert_eq!(leases(&environment), ["replica-0", "replica-1"]);
    assert!(environment.kube.all(Resource::Leases, "apps").is_empty());
    eventually("it is stopped", || {
        job(&environment).is_none().then_some(())
    });
}

/// Replicas without a pod's UID leave their Leases behind, with each restart under another name.
fn with_leases_of_others(count: usize) -> TestEnvironment {
    let environment = replicas(2);
    for number in 0..count {
        let name = format!("gone-{number}");
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": name,
                "labels": {format!("{PREFIX}uses-of"): NAMESPACE},
                "annotations": {format!("{PREFIX}uses"): "#3 0:*"},
            },
            "spec": {"holderIdentity": name},
        });
        let taken = environment.kube.apply(NAMESPACE, &lease);
        taken.expect("a Lease is taken");
    }
    environment
}

#[test]
fn leases_of_replicas_that_are_gone_do_no_harm() {
    let environment = with_leases_of_others(250);
    lives_while_it_is_used(&environment);
}

/// Some replica may then not be heard.
#[test]
fn with_more_leases_than_can_be_told_apart_nothing_is_stopped() {
    let environment = with_leases_of_others(300);
    environment.start_instance("/app/hello/ann");
    for_two_lifetimes(|| {});
    assert_eq!(environment.jobs(), ["hello-ann"]);
}

#[test]
fn a_use_that_another_replica_told_lasts_here() {
    let environment = replicas(2);
    environment.start_instance("/app/hello/ann");
    beat(&environment, 1, r#"{"for": "9s"}"#).expect(200);
    let beaten = Instant::now();
    eventually("the other replica knows", || {
        (expires_in(&get(&environment, 0, "touch=false")) > 2).then_some(())
    });
    wait_stopped(&environment);
    let lived = beaten.elapsed();
    assert!(lived >= Duration::from_secs(9) + LIVES_MIN, "{lived:?}");
}

/// From the beginning at 0; those of the other replica as such.
#[test]
fn reports_of_uses_are_counted() {
    let environment = TestEnvironment::builder().annotation("idle-timeout", "1h");
    let mut environment = environment.start();
    let count = |environment: &TestEnvironment, replica: usize, result: &str| {
        let text = environment.replica(replica).get("/metrics").text;
        let begin = format!("config_controller_use_reports_total{{result=\"{result}\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&begin));
        value
            .expect("it is there")
            .parse::<u64>()
            .expect("a number")
    };
    for result in ["sent", "failed", "received"] {
        assert_eq!(count(&environment, 0, result), 0, "{result}");
    }
    let other = environment.add_replica();
    environment.wait_ready(other);
    let until = |replica: usize, result: &str| {
        eventually(result, || {
            (count(&environment, replica, result) > 0).then_some(())
        });
    };
    let fault = FaultRule::new("patch", "leases", Fault::Status(503));
    environment.kube.fault(fault.times(2));
    environment.start_instance("/app/hello/ann");
    until(0, "failed");
    until(0, "sent");
    until(other, "received");
}
