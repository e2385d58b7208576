//! Starts and stops of the same few names at random, by many clients at two replicas.
//!
//! `STORM_SECS` is the duration (8), `STORM_SEED` selects the order (default: a random seed,
//! printed).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use super::environment::{STAND_IN, TestEnvironment};
use super::program::{Got, Program};
use super::recorder::{self, Recorder, Sighting};
use super::{LONG_WAIT, TEST_TIMEOUT, eventually, number_from_env};
use crate::cluster;

const NAMES: u64 = 20;
const CLIENTS: u64 = 50;

/// How often an instance must have been ready for a caller: without that it is no storm.
const READY_MIN: usize = 20;

/// How long a start, and a stop, may take when the storm is over.
const CALM: Duration = Duration::from_secs(2);

/// How often a name is tried that was slower than that.
const CALM_TRIES: usize = 3;

/// How often there was which response, by method and status code with the word that explains it.
type Tally = BTreeMap<String, usize>;

#[test]
#[ignore = "needs a cluster"]
fn random_starts_and_stops_leave_nothing_behind() {
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let environment = TestEnvironment::new(cluster);
    environment.offer("stand-in", "stand-in", STAND_IN);
    let replicas = environment.replicas::<2>();
    let pods = Recorder::start(&environment, "pods");

    let length = Duration::from_secs(number_from_env("STORM_SECS", 8) as u64);
    let clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let clock = clock.map_or(0, |since| since.as_secs() as usize);
    let seed = number_from_env("STORM_SEED", clock) as u64;
    let tally = storm(&replicas, length, seed);
    cluster::print_line(&format!(
        "FIGURE storm of {CLIENTS} clients on {NAMES} names for {length:?} (STORM_SEED={seed}): {tally:?}"
    ));

    stop_all(&replicas);
    eventually("no Job and no pod is left", || {
        (environment.list("jobs").is_empty() && environment.list("pods").is_empty()).then_some(())
    });
    let pods = pods.finish();
    check_pods(&pods);
    check_calm(&environment, &replicas[0]);
}

/// There was a storm, and in it no Job has ever had two live pods.
///
/// A name may: a Job that is deleted right after its creation can be gone before the garbage
/// collector knows of its pod. That pod then ends while the next Job of that name already has one.
/// The number of such cases is printed.
#[track_caller]
fn check_pods(pods: &[Sighting]) {
    let made = recorder::made(pods);
    assert!(made.values().any(|count| *count > 1), "no storm: {made:?}");
    let jobs = recorder::with_two_live_pods(pods, |pod| &pod.owner);
    assert!(jobs.is_empty(), "Jobs with two live pods: {jobs:?}");
    let names = recorder::with_two_live_pods(pods, |pod| &pod.instance);
    cluster::print_line(&format!(
        "FIGURE pods in the storm: {}, with {} names that had a live one of a Job that was gone beside that of the next Job",
        made.values().sum::<usize>(),
        names.len()
    ));
}

/// The storm itself; every response in it is checked.
#[track_caller]
fn storm(replicas: &[Program; 2], length: Duration, seed: u64) -> Tally {
    let (begun, ready) = (Instant::now(), AtomicUsize::new(0));
    // On a slow machine it goes on until there has been a storm, but not for ever.
    let is_over = || {
        let lasted = begun.elapsed();
        let enough = ready.load(Ordering::SeqCst) >= READY_MIN || lasted >= length + TEST_TIMEOUT;
        lasted >= length && enough
    };
    let (is_over, ready) = (&is_over, &ready);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let client = |number| {
            scope.spawn(move || {
                let mut random = Random(seed.wrapping_add(number));
                let mut tally = Tally::new();
                while !is_over() {
                    let program = &replicas[random.below(2) as usize];
                    let response = one_request(program, &mut random);
                    ready.fetch_add(usize::from(response == "GET 200"), Ordering::SeqCst);
                    *tally.entry(response).or_default() += 1;
                }
                tally
            })
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        let join = |client: std::thread::ScopedJoinHandle<'_, Tally>| client.join();
        let tallies = clients.into_iter().map(join);
        tallies
            .map(|tally| tally.expect("its checks hold"))
            .collect()
    });
    let mut sum = Tally::new();
    for (response, count) in tallies.into_iter().flatten() {
        *sum.entry(response).or_default() += count;
    }
    sum
}

/// Sends one random request, more starts than stops, so that some instances become ready. Returns
/// the outcome if the contract permits it.
#[track_caller]
fn one_request(program: &Program, random: &mut Random) -> String {
    let path = format!("/app/stand-in/n{}", random.below(NAMES));
    let (method, got) = match random.below(10) {
        0..7 => {
            let prefer = format!("wait={}", random.below(3));
            ("GET", program.get_prefer(&path, &prefer))
        }
        7..9 => ("DELETE", program.delete(&path)),
        _ => ("PATCH", program.patch(&path, r#"{"username": "ann"}"#)),
    };
    check_response(method, &got);
    let detail = &got.body["detail"];
    let words = [&got.body["status"], &got.body["code"], &detail["code"]];
    let words = words.into_iter().filter_map(Value::as_str);
    let words: Vec<&str> = words
        .filter(|word| !["error", "Success"].contains(word))
        .collect();
    format!("{method} {} {}", got.code, words.join(" "))
        .trim_end()
        .to_owned()
}

#[track_caller]
fn check_response(method: &str, got: &Got) {
    let (plain, wrapped) = (&got.body["code"], &got.body["detail"]["code"]);
    let is_fine = match (method, got.code) {
        ("GET", 200) => got.body["ip"].is_string(),
        // Nothing that these pods do is a failure.
        ("GET", 202) => ["node_not_ready", "pulling_image"]
            .map(Value::from)
            .contains(&got.body["status"]),
        ("GET", 409) => plain == "stopped",
        ("DELETE" | "PATCH", 200) => got.body["status"] == "Success",
        ("DELETE" | "PATCH", 404) => wrapped == "not_found",
        _ => false,
    };
    assert!(is_fine, "{method}: {} {}", got.code, got.body);
}

/// Stops every name through each replica: a start that a replica has under way without a caller
/// is over before it stops the same name.
#[track_caller]
fn stop_all(replicas: &[Program; 2]) {
    for program in replicas {
        for name in 0..NAMES {
            let got = program.delete(&format!("/app/stand-in/n{name}"));
            assert!([200, 404].contains(&got.code), "{}: {}", got.code, got.body);
        }
    }
}

/// Every name can be started, and stopped until nothing is left of it, soon.
///
/// A name that the storm has left in disorder is slow each time; the machine, now and then.
#[track_caller]
fn check_calm(environment: &TestEnvironment<'_>, program: &Program) {
    let (mut starts, mut stops, mut repeated) = (Vec::new(), Vec::new(), 0);
    for name in 0..NAMES {
        let mut tries = (0..CALM_TRIES).map(|_| start_and_stop(environment, program, name));
        let (start, stop) = tries
            .find(|(start, stop)| {
                let is_soon = *start <= CALM && *stop <= CALM;
                repeated += usize::from(!is_soon);
                is_soon
            })
            .unwrap_or_else(|| panic!("n{name} is not started and stopped within {CALM:?}"));
        starts.push(start);
        stops.push(stop);
    }
    let longest = |took: &[Duration]| took.iter().max().copied().unwrap_or_default();
    cluster::print_line(&format!(
        "FIGURE after the storm, of {NAMES} names: longest start {:?}, longest stop until the Job was gone {:?}; \
         {repeated} tries took more than {CALM:?} and were repeated",
        longest(&starts),
        longest(&stops)
    ));
    assert!(environment.list("pods").is_empty());
}

/// How long a start took, and a stop until its Job was gone.
#[track_caller]
fn start_and_stop(
    environment: &TestEnvironment<'_>,
    program: &Program,
    name: u64,
) -> (Duration, Duration) {
    let path = format!("/app/stand-in/n{name}");
    let began = Instant::now();
    program.get_prefer(&path, LONG_WAIT).ip();
    let start = began.elapsed();
    let began = Instant::now();
    program.delete(&path).expect(200);
    let job = format!("{}/stand-in-n{name}", environment.all("jobs"));
    eventually("the Job is gone", || {
        (environment.api.get(&job).code == 404).then_some(())
    });
    (start, began.elapsed())
}

/// Numbers that look random (splitmix64), the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
