//! Each instance that has ended is reported once, by one of the replicas.

use std::time::Duration;

use config_controller::model::rendezvous;
use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::Exit;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{Builder, NAMESPACE, PREFIX, TestEnvironment, eventually};

const REPLICAS: [&str; 2] = ["replica-0", "replica-1"];

/// Two replicas that know their pods, so that Kubernetes removes their Leases with them.
fn two(builder: Builder) -> TestEnvironment {
    let mut environment = builder.unstarted().start();
    for name in REPLICAS {
        let containers = json!([{"name": "service", "image": "config-controller"}]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": containers},
        });
        let pod = environment
            .kube
            .apply(NAMESPACE, &pod)
            .expect("it is taken");
        let uid = pod["metadata"]["uid"].as_str().expect("a UID");
        environment.set("POD_NAME", name);
        environment.set("POD_UID", uid);
        let replica = environment.add_replica();
        environment.wait_ready(replica);
    }
    environment
}

fn leases(environment: &TestEnvironment) -> Vec<String> {
    let all = environment.kube.all(Resource::Leases, NAMESPACE);
    let mut names: Vec<String> = all.iter().map(|it| crate::harness::name_of(it)).collect();
    names.sort();
    names
}

/// How many instances that replica has reported.
fn reported(environment: &TestEnvironment, replica: usize) -> usize {
    let text = environment.replica(replica).get("/metrics").text;
    let line = "config_controller_usage_instances_total{type=\"hello\"} ";
    let count = text.lines().find_map(|it| it.strip_prefix(line));
    count.map_or(0, |it| it.parse().expect("a number"))
}

/// Starts an instance; returns the replica that is to report it, among these.
fn start(environment: &TestEnvironment, name: &str, through: usize) -> usize {
    let path = format!("/app/hello/{name}");
    environment.replica(through).get(&path).expect(200);
    let job = environment.wait_job(&format!("hello-{name}"));
    let uid = job["metadata"]["uid"].as_str().expect("a UID");
    let chosen = rendezvous::chosen(uid, REPLICAS).expect("one of them");
    REPLICAS.iter().position(|it| *it == chosen).expect("it is")
}

/// Two replicas that report.
fn reporting() -> TestEnvironment {
    let environment = two(TestEnvironment::builder());
    eventually("each has a Lease", || {
        (leases(&environment) == REPLICAS).then_some(())
    });
    // A new replica reports nothing before it sees its own Lease.
    eventually("both report", || {
        end(&environment, "first", 0);
        (all(&environment).iter().all(|count| *count > 0)).then_some(())
    });
    environment
}

/// How many instances each replica has reported.
fn all(environment: &TestEnvironment) -> [usize; 2] {
    [0, 1].map(|replica| reported(environment, replica))
}

/// Starts an instance through that replica, and stops it; returns the replica that is to report it.
fn end(environment: &TestEnvironment, name: &str, through: usize) -> usize {
    let of = start(environment, name, through);
    let path = format!("/app/hello/{name}");
    environment.replica(through).delete(&path).expect(200);
    environment.wait_no_jobs();
    of
}

#[test]
fn each_ended_instance_is_reported_by_one_replica() {
    let environment = reporting();
    let mut expected = all(&environment);
    let names: Vec<String> = (0..12).map(|number| format!("n{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        expected[start(&environment, name, number % 2)] += 1;
        let exit = |code| {
            let exit = PodMove::Exit(Exit::at_once(code));
            environment.move_pod(&format!("hello-{name}"), &exit);
        };
        match number % 3 {
            0 => {
                let client = environment.replica(number / 2 % 2);
                client.delete(&format!("/app/hello/{name}")).expect(200);
            }
            1 => exit(0),
            _ => exit(3),
        }
    }
    eventually("each is reported by one", || {
        (all(&environment) == expected).then_some(())
    });
    // Those that had ended are gone now, which is no news.
    for name in &names {
        environment.delete(&format!("/app/hello/{name}"));
    }
    environment.wait_no_jobs();
    for number in 0..6 {
        expected[end(&environment, &format!("m{number}"), 0)] += 1;
    }
    eventually("the last are reported", || {
        (all(&environment) == expected).then_some(())
    });
}

/// It shuts down, and its Lease goes with its pod.
#[test]
fn others_report_in_the_place_of_a_replica_that_is_gone() {
    let mut environment = reporting();
    let holder = |environment: &TestEnvironment| {
        let lease = environment
            .kube
            .get(Resource::Leases, NAMESPACE, REPLICAS[0]);
        lease.map(|lease| lease["spec"]["holderIdentity"].clone())
    };
    assert_eq!(holder(&environment), Some(json!(REPLICAS[0])));
    let service = environment.take_service();
    let drained = service.drain(Duration::ZERO, Duration::ZERO);
    drained.expect("no thread dies");
    eventually("nobody holds its Lease", || {
        (holder(&environment) == Some(Value::Null)).then_some(())
    });
    let takes_over = || {
        let mut number = 0;
        eventually("the other one has taken over", || {
            number += 1;
            let before = reported(&environment, 1);
            let of = end(&environment, &format!("probe{number}"), 1);
            (of == 0 && reported(&environment, 1) == before + 1).then_some(())
        });
    };
    takes_over();
    environment
        .kube
        .delete(Resource::Pods, NAMESPACE, REPLICAS[0], "Background")
        .expect("it was there");
    eventually("its Lease is gone", || {
        (leases(&environment) == REPLICAS[1..]).then_some(())
    });
    let before = reported(&environment, 1);
    for number in 0..6 {
        end(&environment, &format!("m{number}"), 1);
    }
    eventually("it reports all", || {
        (reported(&environment, 1) == before + 6).then_some(())
    });
}

#[test]
fn without_the_rights_on_leases_each_replica_reports() {
    let role = crate::harness::ROLE;
    let (before, rule) = role
        .split_once("- apiGroups: [coordination.k8s.io]")
        .expect("a rule");
    let after = rule
        .split_once("verbs: [create, list, patch, watch]\n")
        .expect("its verbs")
        .1;
    let builder = TestEnvironment::builder().role(&format!("{before}{after}"));
    let environment = two(builder.annotation("idle-timeout", "1h"));
    environment.advance(Duration::from_secs(11));
    eventually("both know that they may not", || {
        let knows = |replica: &usize| {
            let text = environment.replica(*replica).get("/templates").text;
            text.contains("idle-timeout has no effect")
        };
        [0, 1].iter().all(knows).then_some(())
    });
    assert!(leases(&environment).is_empty());
    start(&environment, "ann", 0);
    environment.delete("/app/hello/ann").expect(200);
    eventually("each reports it", || {
        [0, 1]
            .iter()
            .all(|it| reported(&environment, *it) == 1)
            .then_some(())
    });
}

/// The owner of an instance, as whoever started it has said.
pub(crate) fn set_owner(environment: &TestEnvironment, job: &str, owner: &str) {
    let mut job = Value::clone(&environment.wait_job(job));
    job["metadata"]["annotations"][format!("{PREFIX}owner")] = json!(owner);
    environment
        .kube
        .apply(NAMESPACE, &job)
        .expect("it is taken");
}
