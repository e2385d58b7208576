//! Starts that wait for a place, on a real API server, Job controller and scheduler.

use super::environment::{STAND_IN, TestEnvironment};
use super::eventually;
use super::program::Program;
use crate::cluster;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

const STARTS: usize = 500;
const MAX_STARTING: usize = 20;

fn path(number: usize) -> String {
    format!("/app/stand-in/q{number}")
}

fn revision(object: &Value) -> u64 {
    let version = object["metadata"]["resourceVersion"].as_str();
    version.and_then(|it| it.parse().ok()).expect("a version")
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// The number of the instance that this Job or pod is of.
fn number_of(object: &Value) -> usize {
    let name = &object["metadata"]["annotations"]["config-controller.semafor.ch/instance-name"];
    let number = name.as_str().and_then(|name| name.strip_prefix('q'));
    number.and_then(|it| it.parse().ok()).expect("one of ours")
}

/// The most starts that were in progress at the same time, and in which order they began.
fn in_progress(jobs: &[Value], pods: &[Value]) -> (usize, Vec<usize>) {
    let mut steps = BTreeMap::new();
    let mut order = Vec::new();
    for event in jobs.iter().filter(|event| event["type"] == "ADDED") {
        order.push(number_of(&event["object"]));
        steps.insert(revision(&event["object"]), 1_isize);
    }
    let mut ready = BTreeSet::new();
    for pod in pods.iter().map(|event| &event["object"]) {
        if is_ready(pod) && ready.insert(number_of(pod)) {
            steps.insert(revision(pod), -1);
        }
    }
    let (mut now, mut most) = (0, 0);
    for step in steps.values() {
        now += step;
        most = most.max(now);
    }
    (most.unsigned_abs(), order)
}

#[test]
#[ignore = "needs a cluster"]
fn of_500_starts_20_are_in_progress_and_they_begin_in_their_order() {
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let environment = TestEnvironment::new(cluster);
    environment.offer("stand-in", "stand-in", STAND_IN);
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    let max = MAX_STARTING.to_string();
    // Places are kept while all of them are asked for.
    let settings = [("MAX_STARTING", max.as_str()), ("START_WAIT", "5m")];
    let program = Program::start_ready(&kubeconfig, &settings);
    let (jobs, pods) = (environment.version("jobs"), environment.version("pods"));
    let began = Instant::now();
    for number in 0..STARTS {
        let code = program.get_prefer(&path(number), "wait=0").code;
        assert!(code == 202 || code == 200, "{code}");
    }
    let client = program.client();
    let mut pending = Vec::new();
    for number in (0..STARTS).rev() {
        let header = [("Prefer", "wait=300")];
        pending.push(client.begin("GET", &path(number), &header, ""));
    }
    for one in pending {
        one.finish().expect(200);
    }
    let took = began.elapsed();
    let jobs = environment.events_since("jobs", &jobs);
    let pods = environment.events_since("pods", &pods);
    let (most, order) = in_progress(&jobs, &pods);
    let farthest = order
        .iter()
        .enumerate()
        .map(|(at, number)| at.abs_diff(*number));
    let farthest = farthest.max().unwrap_or_default();
    cluster::print_line(&format!(
        "FIGURE {STARTS} starts with MAX_STARTING={MAX_STARTING}: at most {most} in progress, each at most {farthest} places from its own, {} ms",
        took.as_millis()
    ));
    assert_eq!(order.len(), STARTS);
    assert!(most <= MAX_STARTING, "{most}");
    assert!(most * 2 > MAX_STARTING, "{most}");
    // Calls that are made at the same time may overtake each other.
    assert!(farthest < MAX_STARTING, "{farthest}");
}

/// Each of them stops its instance when it has it, so that the next one gets its place.
#[test]
#[ignore = "needs a cluster"]
fn at_two_replicas_all_who_wait_get_a_place_one_after_the_other() {
    const WAITING: usize = 40;
    const CAP: usize = 3;
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let environment = TestEnvironment::new(cluster);
    environment.offer_with("stand-in", "stand-in", STAND_IN, &[("max-instances", "3")]);
    let replicas = environment.replicas::<2>();
    let version = environment.version("jobs");
    let began = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..WAITING {
            let replica = &replicas[number % 2];
            scope.spawn(move || {
                replica.get_prefer(&path(number), "wait=300").ip();
                replica.delete(&path(number)).expect(200);
            });
        }
    });
    let took = began.elapsed();
    eventually("all are gone", || {
        environment.list("jobs").is_empty().then_some(())
    });
    let events = environment.events_since("jobs", &version);
    let most = super::caps::most_running(&events);
    let made = events.iter().filter(|it| it["type"] == "ADDED").count();
    cluster::print_line(&format!(
        "FIGURE {WAITING} starts wait at two replicas for {CAP} places: all ready, at most {most} at once, {made} Jobs made, {} ms",
        took.as_millis()
    ));
    assert!(most <= CAP, "{most}");
    assert!(took < Duration::from_secs(300), "nobody waited in vain");
}
