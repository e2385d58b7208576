//! Instances that nobody uses end; what is used through any replica lives.

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{NAMESPACE, TestEnvironment, eventually};
use crate::streams::EventReader;

/// So many replicas, and instances that may be unused for a second.
fn replicas(count: usize) -> TestEnvironment {
    let mut environment = TestEnvironment::builder()
        .annotation("idle-timeout", "1s")
        .start();
    for _ in 1..count {
        let replica = environment.add_replica();
        environment.wait_ready(replica);
    }
    environment
}

fn leases(environment: &TestEnvironment) -> Vec<String> {
    let all = environment.kube.all(Resource::Leases, NAMESPACE);
    let mut names: Vec<String> = all
        .iter()
        .filter_map(|lease| Some(lease["metadata"]["name"].as_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

#[test]
fn what_nobody_uses_is_stopped() {
    let environment = replicas(1);
    let ready = environment.get("/app/hello/ann");
    assert_eq!(ready.header("instance-expires-in"), "1");
    ready.expect(200);
    eventually("it is stopped", || {
        environment.jobs().is_empty().then_some(())
    });
    eventually("that is counted", || {
        let text = environment.get("/metrics").text;
        let counted = "config_controller_stops_total{cause=\"idle\",type=\"hello\"} 1";
        text.contains(counted).then_some(())
    });
    assert_eq!(leases(&environment), ["replica-0"]);
}

#[test]
fn readers_of_events_get_that_an_instance_ends_soon() {
    let environment = replicas(1);
    let mut reader = EventReader::open(environment.address(0), "/instances", &[]).expect("events");
    environment.get("/app/hello/ann").expect(200);
    let (before, soon) = reader.until("idle-soon");
    assert_eq!(before[before.len() - 2..], ["ready", "idle-soon"]);
    assert_eq!(soon.data["name"], "ann");
    assert_eq!(soon.data["status"], "ready");
    assert_eq!(
        soon.data["expires_in"], 0,
        "of the second less than one is left"
    );
    let (_, stopping) = reader.until("stopping");
    assert_eq!(stopping.data["cause"], "idle");
}

/// Until the replica that is not asked has got ten reports: that is longer than it waits.
#[test]
fn what_is_used_through_one_replica_lives_at_all() {
    let environment = replicas(2);
    let first = environment.get("/app/hello/ann").expect(200);
    let uid = environment.wait_job("hello-ann")["metadata"]["uid"].clone();
    let reports = || environment.kube.count("patch", "leases");
    let enough = reports() + 10;
    eventually("it is used for long", || {
        assert_eq!(environment.get("/app/hello/ann").expect(200), first);
        (reports() >= enough).then_some(())
    });
    assert_eq!(environment.wait_job("hello-ann")["metadata"]["uid"], uid);
    eventually("it is stopped", || {
        environment.jobs().is_empty().then_some(())
    });
}

#[test]
fn a_heartbeat_may_last_and_other_requests_only_look() {
    let environment = replicas(2);
    environment.start_instance("/app/hello/ann");
    let path = "/app/hello/ann/heartbeat";
    let beat = |replica: usize, body: &str| {
        let json = [("Content-Type", "application/json")];
        environment
            .replica(replica)
            .begin("PUT", path, &json, body)
            .finish()
    };
    let plain = beat(0, "");
    assert_eq!(plain.header("instance-expires-in"), "1");
    assert_eq!(plain.expect(200)["status"], "Success");
    let long = beat(0, r#"{"for": "1h"}"#);
    assert_eq!(long.header("instance-expires-in"), "3601");
    // Another replica hears of it, and whoever only looks does not shorten it.
    eventually("the other replica knows", || {
        let look = [("Prefer", "touch=false")];
        let looked = environment
            .replica(1)
            .begin("GET", "/app/hello/ann", &look, "");
        let left = looked.finish().header("instance-expires-in").parse::<u64>();
        (left.expect("a number") > 3500).then_some(())
    });
    let used = environment.get("/app/hello/ann");
    let left = used.header("instance-expires-in").parse::<u64>();
    assert!((3500..=3601).contains(&left.expect("a number")));
    for (body, field) in [
        (r#"{"for": "8d"}"#, "for"),
        (r#"{"for": "25h"}"#, "for"),
        (r#"{"until": "noon"}"#, "until"),
    ] {
        let refused = beat(0, body);
        assert_eq!(refused.expect(422)["detail"][0]["loc"][1], field, "{body}");
    }
    beat(0, "[1]").expect(422);
    environment.delete("/app/hello/ann").expect(200);
    environment.wait_no_jobs();
    eventually("there is none to use", || {
        (beat(1, "").status == 404).then_some(())
    });
}

/// Of instances without a timeout nothing is reported.
#[test]
fn without_a_timeout_nothing_ends_and_nothing_is_written() {
    let environment = TestEnvironment::new();
    let ready = environment.get("/app/hello/ann");
    assert_eq!(ready.header("instance-expires-in"), "");
    assert!(leases(&environment).is_empty());
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
