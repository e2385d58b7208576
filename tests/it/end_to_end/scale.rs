//! 300 names at once, ten callers each, at three replicas of which one is killed in the middle.
//!
//! `SCALE_RUNS` is the number of runs (1), `SCALE_NAMES` the number of names (300).

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::environment::{STAND_IN, TestEnvironment};
use super::program::Program;
use super::recorder::{self, Recorder};
use super::{LONG_WAIT, number_from_env};
use crate::cluster;
use crate::harness::Pending;

const NAMES: usize = 300;
const CALLERS: usize = 10;
const REPLICAS: usize = 3;

#[test]
#[ignore = "needs a cluster"]
fn many_starts_while_one_of_three_replicas_is_killed() {
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let names = number_from_env("SCALE_NAMES", NAMES);
    for run in 0..number_from_env("SCALE_RUNS", 1) {
        check_run(&TestEnvironment::new(cluster), names, run % REPLICAS);
    }
}

/// A request that waits, at which replica, and for which name.
struct Caller {
    name: usize,
    replica: usize,
    pending: Pending,
}

/// The responses that the callers of one run received.
#[derive(Debug, Default)]
struct Responses {
    /// By name the addresses that callers were given.
    addresses: BTreeMap<usize, Vec<String>>,
    /// How often a connection to the killed replica broke, or could not be opened.
    broken: usize,
    /// The longest time from the first request to a response.
    latest: Duration,
}

#[track_caller]
fn check_run(environment: &TestEnvironment<'_>, names: usize, victim: usize) {
    environment.offer("stand-in", "stand-in", STAND_IN);
    let replicas = environment.replicas();
    let (jobs, pods) = (
        Recorder::start(environment, "jobs"),
        Recorder::start(environment, "pods"),
    );
    let version = environment.version("jobs");
    let (responses, killed_at) = std::thread::scope(|scope| {
        let killer = || kill_after(environment, &version, names / 3, &replicas[victim]);
        let killer = scope.spawn(killer);
        let responses = ask_all(&replicas, names, victim);
        (responses, killer.join().expect("the kill is carried out"))
    });
    cluster::print_line(&format!(
        "FIGURE {names} names x {CALLERS} callers at {REPLICAS} replicas, number {victim} killed after {killed_at} Jobs: \
         {} callers lost their connection and asked another; all had their address after {} ms",
        responses.broken,
        responses.latest.as_millis()
    ));
    check_responses(&responses, names);
    check_cluster(environment, names, &jobs.finish(), &pods.finish());
    let survivor = &replicas[(victim + 1) % REPLICAS];
    assert_eq!(survivor.names("stand-in").len(), names);
}

/// Every caller was given an address, and the callers of a name the same.
#[track_caller]
fn check_responses(responses: &Responses, names: usize) {
    assert!(responses.broken > 0, "killed too late to show anything");
    assert_eq!(responses.addresses.len(), names);
    for (name, addresses) in &responses.addresses {
        assert_eq!(addresses.len(), CALLERS, "{name}");
        assert!(
            addresses.iter().all(|ip| *ip == addresses[0]),
            "{name}: {addresses:?}"
        );
    }
}

/// One Job and one pod for each name, ever, and nothing else.
#[track_caller]
fn check_cluster(
    environment: &TestEnvironment<'_>,
    names: usize,
    jobs: &[recorder::Sighting],
    pods: &[recorder::Sighting],
) {
    for seen in [jobs, pods] {
        let made = recorder::made(seen);
        assert_eq!(made.len(), names);
        assert!(made.values().all(|count| *count == 1), "{made:?}");
        assert!(
            seen.iter()
                .all(|one| one.change != "DELETED" && !one.is_leaving)
        );
    }
    recorder::check_one_live_pod(pods);
    for plural in ["jobs", "pods"] {
        assert_eq!(environment.list(plural).len(), names, "{plural}");
    }
}

/// Kills the program once so many Jobs have been made, and returns how many.
fn kill_after(
    environment: &TestEnvironment<'_>,
    version: &str,
    count: usize,
    program: &Program,
) -> usize {
    let path = environment.all("jobs");
    let events = environment
        .api
        .watch(&format!("{path}?watch=1&resourceVersion={version}"));
    let mut added = 0;
    for event in events {
        let event = event.expect("whole lines");
        added += usize::from(event["type"] == "ADDED");
        if added >= count {
            break;
        }
    }
    program.kill();
    assert!(added >= count, "the watch ended after {added} Jobs");
    added
}

/// Sends all requests for all names concurrently, and reads every response. Callers that lose their
/// connection to the victim ask the next replica.
#[track_caller]
fn ask_all(replicas: &[Program; REPLICAS], names: usize, victim: usize) -> Responses {
    let mut responses = Responses::default();
    let began = Instant::now();
    let mut waiting = VecDeque::with_capacity(names * CALLERS);
    for caller in 0..CALLERS {
        for name in 0..names {
            waiting.push_back(ask(replicas, name, caller + name, victim, &mut responses));
        }
    }
    while let Some(caller) = waiting.pop_front() {
        match caller.pending.try_finish() {
            // A caller that is not served in time retries.
            Ok(response) if response.status == 202 => {
                assert_ne!(response.json()["status"], "app_error", "{}", response.text);
                let again = ask(
                    replicas,
                    caller.name,
                    caller.replica,
                    victim,
                    &mut responses,
                );
                waiting.push_back(again);
            }
            Ok(response) => {
                let ip = response.expect(200)["ip"].as_str().map(str::to_owned);
                let ip = ip.expect("a ready instance has an ip");
                responses.addresses.entry(caller.name).or_default().push(ip);
                responses.latest = began.elapsed();
            }
            Err(error) => {
                assert_eq!(caller.replica, victim, "only its callers may get {error}");
                responses.broken += 1;
                let next = victim + 1;
                waiting.push_back(ask(replicas, caller.name, next, victim, &mut responses));
            }
        }
    }
    responses
}

/// Sends one request, to the replica after the victim where that is already gone.
#[track_caller]
fn ask(
    replicas: &[Program; REPLICAS],
    name: usize,
    replica: usize,
    victim: usize,
    responses: &mut Responses,
) -> Caller {
    let replica = replica % REPLICAS;
    let path = format!("/app/stand-in/n{name}");
    let headers = [("Prefer", LONG_WAIT)];
    match replicas[replica]
        .client()
        .try_begin("GET", &path, &headers, "")
    {
        Ok(pending) => Caller {
            name,
            replica,
            pending,
        },
        Err(error) => {
            assert_eq!(replica, victim, "only the victim may be gone: {error}");
            responses.broken += 1;
            ask(replicas, name, victim + 1, victim, responses)
        }
    }
}
