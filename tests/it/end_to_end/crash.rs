//! `kill -9` in the middle of 50 starts: all state is in the cluster, so nothing is lost or doubled.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

use super::environment::{STAND_IN, TestEnvironment};
use super::program::Program;
use super::{LONG_WAIT, eventually};
use crate::cluster;

const STARTS: usize = 50;

#[test]
#[ignore = "needs a cluster"]
fn a_killed_program_neither_loses_nor_duplicates_an_instance() {
    let environment = TestEnvironment::shared();
    environment.offer("stand-in", "stand-in", STAND_IN);
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    // One call at a time, so that the kill comes before the last of them on a slow machine, too.
    let program = Program::start_ready(&kubeconfig, &[("WORKERS", "1")]);
    let (jobs_version, pods_version) = (environment.version("jobs"), environment.version("pods"));

    let began_before = std::thread::scope(|scope| {
        for number in 0..STARTS {
            let program = &program;
            // The kill breaks the connections of requests that still wait.
            scope.spawn(move || drop(program.try_send("GET", &path(number), LONG_WAIT, "")));
        }
        let found = eventually("some starts have begun", || {
            let jobs = environment.list("jobs").len();
            (jobs >= STARTS / 5).then_some(jobs)
        });
        program.kill();
        found
    });
    let survived = environment.list("jobs").len();
    assert!(survived < STARTS, "killed too late to show anything");

    let program = Program::start_ready(&kubeconfig, &[]);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for number in 0..STARTS {
            let program = &program;
            scope.spawn(move || program.get_prefer(&path(number), LONG_WAIT).ip());
        }
    });
    cluster::print_line(&format!(
        "FIGURE killed after {began_before} of {STARTS} Jobs ({survived} survived); asked again, all {STARTS} answered after {} ms",
        began.elapsed().as_millis()
    ));
    check_one_each(&environment.events_since("jobs", &jobs_version));
    check_one_each(&environment.events_since("pods", &pods_version));
}

fn path(number: usize) -> String {
    format!("/app/stand-in/n{number}")
}

/// Each name has had one object, never a second one, and none has ended.
#[track_caller]
fn check_one_each(events: &[Value]) {
    let mut added: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events {
        assert_ne!(event["type"], "DELETED", "{event}");
        if event["type"] == "ADDED" {
            let labels = &event["object"]["metadata"]["labels"];
            let name = labels["config-controller.semafor.ch/instance-name"].as_str();
            *added.entry(name.expect("it is an instance")).or_default() += 1;
        }
    }
    assert_eq!(added.len(), STARTS);
    assert!(added.values().all(|count| *count == 1), "{added:?}");
}
