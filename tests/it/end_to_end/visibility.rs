//! How soon the other replica shows what one has written; the one that wrote it shows it at once.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::ground::{Ground, STAND_IN};
use super::program::Program;
use super::{LONG_WAIT, PATIENCE, eventually};
use crate::cluster;

/// How soon 99 of 100 writes must be seen at the other replica (design, figures).
const SOON: Duration = Duration::from_millis(100);

/// Writes of each kind.
const TRIES: usize = 200;

/// How often all is tried: what is slow by itself is slow each time, a machine that others use too
/// is so now and then.
const ROUNDS: usize = 3;

/// So many instances of one type, so that the list that is read is a short one.
const PER_TYPE: usize = 10;

#[test]
fn a_write_through_one_replica_is_soon_seen_at_the_other() {
    let Some(cluster) = cluster::shared() else {
        return;
    };
    let _alone = cluster::alone();
    let ground = Ground::new(cluster);
    for number in 0..TRIES / PER_TYPE {
        let app_type = format!("type-{number}");
        ground.offer(&app_type, &app_type, STAND_IN);
    }
    let replicas = ground.replicas::<2>();
    let is_soon = (0..ROUNDS).any(|_| round(&replicas));
    assert!(
        is_soon,
        "p99 was more than {SOON:?} in each of {ROUNDS} rounds"
    );
}

/// Starts all, labels all and stops all; whether both were soon seen.
#[track_caller]
fn round(replicas: &[Program; 2]) -> bool {
    start_all(&replicas[0]);
    // A start is told before the other replica has seen its pod.
    eventually("the other replica has seen all", || {
        let mut lists = (0..TRIES / PER_TYPE).map(|number| list(&replicas[1], number));
        lists.all(|entries| is_ready_all(&entries)).then_some(())
    });
    let patches = report("PATCH", tries(replicas, patch_once));
    let deletes = report("DELETE", tries(replicas, delete_once));
    patches.max(deletes) <= SOON
}

fn is_ready_all(entries: &[Value]) -> bool {
    let ready = entries.iter().filter(|entry| entry["errored"] == false);
    ready.count() == PER_TYPE
}

/// Starts all instances at once.
#[track_caller]
fn start_all(program: &Program) {
    let client = program.client();
    let begin = |number| client.begin("GET", &path(number), &[("Prefer", LONG_WAIT)], "");
    let waiting: Vec<_> = (0..TRIES).map(begin).collect();
    for (number, pending) in waiting.into_iter().enumerate() {
        if pending.finish().status != 200 {
            program.get_prefer(&path(number), LONG_WAIT).ip();
        }
    }
}

fn path(number: usize) -> String {
    format!("/app/type-{}/n{}", number / PER_TYPE, number % PER_TYPE)
}

#[track_caller]
fn list(program: &Program, type_number: usize) -> Vec<Value> {
    let list = program.get(&format!("/app/type-{type_number}")).expect(200);
    list.as_array().expect("a list is an array").clone()
}

/// Each replica writes every second time; returns how long the other took to show it.
#[track_caller]
fn tries(
    replicas: &[Program; 2],
    once: impl Fn(&Program, &Program, usize) -> Duration,
) -> Vec<Duration> {
    let one = |number: usize| once(&replicas[number % 2], &replicas[(number + 1) % 2], number);
    (0..TRIES).map(one).collect()
}

/// How long after the answer of a PATCH the other replica shows the label.
#[track_caller]
fn patch_once(writer: &Program, reader: &Program, number: usize) -> Duration {
    let (path, value) = (path(number), format!("v{number}"));
    let body = format!(r#"{{"seen": "{value}"}}"#);
    writer.patch(&path, &body).expect(200);
    let answered = Instant::now();
    let shows = |program: &Program| program.get(&path).expect(200)["seen"] == value;
    assert!(shows(writer), "who has answered shows it at once");
    until(|| shows(reader));
    answered.elapsed()
}

/// How long after the answer of a DELETE the other replica no longer shows a ready instance.
#[track_caller]
fn delete_once(writer: &Program, reader: &Program, number: usize) -> Duration {
    let name = format!("n{}", number % PER_TYPE);
    let shows_ready = |program: &Program| {
        let entries = list(program, number / PER_TYPE);
        let mut own = entries.iter().filter(|entry| entry["name"] == name);
        own.any(|entry| entry["errored"] == false)
    };
    assert!(shows_ready(reader), "it is there before");
    writer.delete(&path(number)).expect(200);
    let answered = Instant::now();
    assert!(!shows_ready(writer), "who has answered shows it at once");
    until(|| !shows_ready(reader));
    answered.elapsed()
}

/// Prints the figures, and returns the one that counts: what 99 of 100 do not exceed.
fn report(what: &str, mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    let p99 = took[(took.len() * 99).div_ceil(100) - 1];
    cluster::say(&format!(
        "FIGURE from the answer of a {what} to the other replica's showing it: p50 {:?}, p99 {p99:?}, longest {:?} of {}",
        took[took.len() / 2],
        took[took.len() - 1],
        took.len()
    ));
    p99
}

/// Waits until the other replica shows it, looking so often that the pauses do not count.
#[track_caller]
fn until(shows: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !shows() {
        assert!(
            Instant::now() < deadline,
            "the other replica does not show it"
        );
        std::thread::park_timeout(Duration::from_millis(1));
    }
}
