//! Scenarios that break the cluster they run on, each on a cluster of its own: `tests/cluster/chaos`.
//!
//! A scenario has three replicas of our program, and does something to the cluster while callers use them. An
//! independent watch records every change of Jobs and pods beside all responses (`recording`); afterwards the
//! guarantees are checked over that recording (`guarantees`), and what the scenario itself expects.
//!
//! They take minutes, so they run only where `CHAOS` names them (`CHAOS=drain,quota`, `CHAOS=all`), and not in
//! `.ci/run`, except for those that are short. Recordings and logs are kept in the folder `CHAOS_FOLDER`, with the table of results.
//!
//! | module | scenarios |
//! |---|---|
//! | `drain` | `drain` |
//! | `outages` | `api-outages` |
//! | `lost_nodes` | `kubelet-stopped`, `lost-node` |
//! | `etcd` | `restored-etcd`, `swapped-etcd` |
//! | `refusals` | `quota`, `denied` |
//! | `pods` | `preemption`, `restart-rules`, `orphaned` |

mod drain;
mod etcd;
mod guarantees;
mod lost_nodes;
mod outages;
mod pods;
mod recording;
mod refusals;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::environment::TestEnvironment;
use super::program::{Got, Program};
use crate::cluster;
use crate::harness::TemporaryFolder;
use recording::Recording;

/// Something that is done to a cluster, and what must hold.
#[derive(Debug)]
struct Scenario {
    name: &'static str,
    /// What must hold beside the guarantees, for the table.
    must: &'static str,
    /// Settings of the replicas.
    settings: &'static [(&'static str, &'static str)],
    /// How long replicas may return what they cannot know to be old, beside `X-View-Age`.
    blind: Duration,
    play: fn(&Fixture<'_>, &mut Report),
}

/// All scenarios, in the order in which they run.
const SCENARIOS: &[Scenario] = &[
    drain::DRAIN,
    outages::API_OUTAGES,
    lost_nodes::KUBELET_STOPPED,
    lost_nodes::LOST_NODE,
    etcd::RESTORED,
    etcd::SWAPPED,
    refusals::QUOTA,
    refusals::DENIED,
    pods::PREEMPTION,
    pods::RESTART_RULES,
    pods::ORPHANED,
];

/// How many replicas each scenario has.
const REPLICAS: usize = 3;

/// What a scenario has to work with.
#[derive(Debug)]
struct Fixture<'a> {
    environment: TestEnvironment<'a>,
    replicas: [Program; REPLICAS],
    recording: Recording,
}

/// What a scenario has seen.
#[derive(Debug, Default)]
struct Report {
    seen: Vec<String>,
    problems: Vec<String>,
}

impl Report {
    /// Adds a problem unless this holds.
    fn check(&mut self, holds: bool, problem: impl FnOnce() -> String) {
        if !holds {
            self.problems.push(problem());
        }
    }
}

impl Fixture<'_> {
    /// Sends a request to a replica; the recording has its response.
    fn ask(&self, replica: usize, method: &str, path: &str, prefer: &str) -> Option<Got> {
        let program = &self.replicas[replica % REPLICAS];
        self.recording
            .ask(replica % REPLICAS, program, method, path, prefer)
    }

    /// Requests an instance until it is ready, and returns its address.
    #[track_caller]
    fn start(&self, replica: usize, path: &str) -> String {
        let mut last = None;
        let deadline = Instant::now() + Duration::from_secs(180);
        while Instant::now() < deadline {
            last = self.ask(replica, "GET", path, "wait=60");
            if let Some(ip) = last.as_ref().and_then(ready_ip) {
                return ip;
            }
        }
        panic!("{path} did not become ready within 180 s: {last:?}");
    }

    /// Sends a signal to a program of the cluster.
    #[track_caller]
    fn signal(&self, program: &str, signal: rustix::process::Signal) {
        let folder = self.environment.cluster.folder();
        let file = folder.join("run").join(format!("{program}.pid"));
        let id = std::fs::read_to_string(file).expect("the program has its id in a file");
        let id = id
            .trim()
            .parse()
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(id.expect("an id of a process"), signal)
            .expect("it can be sent a signal");
        self.recording.note(&format!("{program}: {signal:?}"));
    }
}

/// The address in a response that has one.
fn ready_ip(got: &Got) -> Option<String> {
    let ip = got.body["ip"].as_str().filter(|_| got.code == 200);
    ip.map(str::to_owned)
}

/// Waits without a condition: for the length of something that a scenario does to its cluster.
fn pause(length: Duration) {
    let end = Instant::now() + length;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

/// Plays a scenario on this cluster, which it may break, and checks its recording.
fn run(scenario: &Scenario, cluster: &cluster::Cluster, folder: &Path) -> Report {
    let environment = TestEnvironment::new(cluster);
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    let path = |suffix: &str| folder.join(format!("{}.{suffix}", scenario.name));
    let recording = Recording::start(&environment, path("jsonl"));
    let replicas = [(); REPLICAS].map(|()| Program::start_ready(&kubeconfig, scenario.settings));
    let fixture = Fixture {
        environment,
        replicas,
        recording,
    };
    let mut report = Report::default();
    let played = catch_unwind(AssertUnwindSafe(|| (scenario.play)(&fixture, &mut report)));
    if let Err(panic) = played {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        report
            .problems
            .push(text.unwrap_or("a check failed").to_owned());
    }
    let lines = fixture.recording.finish();
    let found = guarantees::check(&lines, scenario.blind);
    report.seen.push(found.summary());
    report.problems.extend(found.problems());
    let responses = serde_json::to_string_pretty(&found.responses).expect("counts are JSON");
    keep(&path("responses"), &responses);
    for (number, replica) in fixture.replicas.iter().enumerate() {
        keep(&path(&format!("replica-{number}.log")), &replica.log_text());
    }
    report
}

fn keep(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the folder of results can be written");
}

/// The scenarios that the environment asks for; an unknown one fails the test.
#[track_caller]
fn wanted() -> Vec<&'static Scenario> {
    let asked = std::env::var("CHAOS").unwrap_or_default();
    let names = asked.split(',').filter(|name| !name.is_empty());
    let find = |name: &str| -> Vec<&'static Scenario> {
        let fitting: Vec<_> = SCENARIOS
            .iter()
            .filter(|scenario| name == "all" || scenario.name == name)
            .collect();
        let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert!(
            !fitting.is_empty(),
            "unknown scenario {name}; known: {known:?}"
        );
        fitting
    };
    names.flat_map(find).collect()
}

/// Where results are kept.
fn folder() -> PathBuf {
    let given = std::env::var_os("CHAOS_FOLDER").map(PathBuf::from);
    given.unwrap_or_else(|| std::env::temp_dir().join("config-controller-chaos"))
}

/// A row of the table of results.
fn row(scenario: &Scenario, report: &Report, took: Duration) -> String {
    let cell = |text: &str| text.replace('|', "/").replace('\n', " ");
    let verdict = match report.problems.as_slice() {
        [] => "ok".to_owned(),
        problems => format!("**failed**: {}", cell(&problems.join("; "))),
    };
    format!(
        "| `{}` | {} | {} ({} s) | {verdict} |",
        scenario.name,
        scenario.must,
        cell(&report.seen.join("; ")),
        took.as_secs()
    )
}

/// Every scenario is in the list of `tests/cluster/chaos`, and those that are asked for hold.
#[test]
fn each_scenario_holds_that_is_asked_for() {
    let script = crate::harness::repository().join("tests/cluster/chaos");
    let script = std::fs::read_to_string(script).expect("the script can be read");
    for scenario in SCENARIOS {
        let line = format!("#   {} ", scenario.name);
        assert!(script.contains(&line), "{} is not listed", scenario.name);
    }
    let wanted = wanted();
    if wanted.is_empty() {
        return;
    }
    let folder = folder();
    std::fs::create_dir_all(&folder).expect("the folder of results can be made");
    let mut table =
        "| scenario | what must hold, beside the guarantees | seen | |\n|---|---|---|---|\n"
            .to_owned();
    let mut failed = Vec::new();
    for scenario in wanted {
        let began = Instant::now();
        cluster::print_line(&format!("CHAOS {} begins", scenario.name));
        let report = run(scenario, &cluster::own(scenario.name), &folder);
        let row = row(scenario, &report, began.elapsed());
        cluster::print_line(&row);
        table += &format!("{row}\n");
        // After each, so that a run that is ended has the table so far.
        keep(&folder.join("table"), &table);
        if !report.problems.is_empty() {
            failed.push(scenario.name);
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
}

/// Plays a scenario that is short enough for each run of the cluster tests.
#[track_caller]
fn hold(scenario: &Scenario, cluster: &cluster::Cluster) {
    let folder = TemporaryFolder::new();
    let report = run(scenario, cluster, &folder.path(""));
    cluster::print_line(&format!(
        "FIGURE {}: {}",
        scenario.name,
        report.seen.join("; ")
    ));
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
}

/// As [`hold`], on the cluster that tests share.
#[track_caller]
fn hold_beside_others(scenario: &Scenario) {
    let cluster = cluster::shared();
    let _others = cluster::beside_others();
    hold(scenario, cluster);
}

#[test]
#[ignore = "needs a cluster"]
fn a_quota_that_is_released_late_refuses_nobody() {
    hold_beside_others(&refusals::QUOTA);
}

#[test]
#[ignore = "needs a cluster"]
fn preemption_is_no_failure() {
    hold_beside_others(&pods::PREEMPTION_SHORT);
}

#[test]
#[ignore = "needs a cluster"]
fn containers_with_restart_rules_are_waited_for() {
    hold_beside_others(&pods::RESTART_RULES);
}

#[test]
#[ignore = "needs a cluster"]
fn a_pod_that_outlives_its_job_ends_before_the_next_begins() {
    hold_beside_others(&pods::ORPHANED);
}

#[test]
#[ignore = "needs a cluster"]
fn each_replica_notices_a_restored_etcd() {
    hold(&etcd::RESTORED, &cluster::own("restored"));
}

/// The value of a condition of an object.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|one| one["type"] == kind)
}
