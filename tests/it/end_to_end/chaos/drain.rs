//! A node is drained while callers request its instances: evictions are no failures of the apps, and every
//! caller gets the successor.

use std::time::{Duration, Instant};

use super::super::environment::real;
use super::{Fixture, REPLICAS, Report, Scenario, ready_ip};

pub(super) const DRAIN: Scenario = Scenario {
    name: "drain",
    must: "20 instances (exit 0, exit 143, ignores SIGTERM) on a node that is drained: no `app_error`, and each \
           of 60 waiting callers gets the successor",
    settings: &[],
    blind: Duration::ZERO,
    play,
};

/// How apps end after SIGTERM, and the variables of the demo app that make it so.
const TYPES: [(&str, &[(&str, &str)]); 3] = [
    ("exit-0", &[]),
    ("exit-143", &[("TERM_EXIT_CODE", "143")]),
    ("ignores-term", &[("IGNORE_TERM", "1")]),
];

const INSTANCES: usize = 20;

/// Grace of the pods, in seconds.
const GRACE_SECS: u32 = 3;

/// How long a caller waits for the successor: the drain, 10 s of the Job controller, and 20 starts.
const PATIENCE: Duration = Duration::from_secs(240);

fn path(number: usize) -> String {
    format!("/app/{}/n{number}", TYPES[number % TYPES.len()].0)
}

fn play(fixture: &Fixture<'_>, report: &mut Report) {
    let environment = &fixture.environment;
    for (app_type, variables) in TYPES {
        environment.offer(app_type, app_type, &real(app_type, GRACE_SECS, variables));
    }
    for program in &fixture.replicas {
        for (app_type, _) in TYPES {
            program.wait_log(&format!("app type {app_type} is on offer"));
        }
    }
    let old: Vec<String> = std::thread::scope(|scope| {
        let start = |number: usize| scope.spawn(move || fixture.start(number, &path(number)));
        let starts: Vec<_> = (0..INSTANCES).map(start).collect();
        let starts = starts.into_iter().map(|start| start.join());
        starts.map(|ip| ip.expect("it starts")).collect()
    });
    let node = environment
        .cluster
        .fact("CLUSTER_NODE")
        .expect("the name of the node");
    let outcomes: Vec<Result<Duration, String>> = std::thread::scope(|scope| {
        let callers = (0..INSTANCES * REPLICAS).map(|caller| {
            let old = &old[caller / REPLICAS];
            scope.spawn(move || await_successor(fixture, caller % REPLICAS, caller / REPLICAS, old))
        });
        let callers: Vec<_> = callers.collect();
        fixture.recording.note("the drain begins");
        environment
            .cluster
            .kubectl(&["drain", node, "--timeout=120s"]);
        fixture.recording.note("the drain is over");
        environment.cluster.kubectl(&["uncordon", node]);
        let outcomes = callers.into_iter().map(|caller| caller.join());
        outcomes
            .map(|outcome| outcome.expect("it returns"))
            .collect()
    });
    let slowest = outcomes.iter().flatten().max().copied().unwrap_or_default();
    let served = outcomes.iter().flatten().count();
    report.seen.push(format!(
        "{served} of {} callers got the successor, the slowest after {} s",
        outcomes.len(),
        slowest.as_secs()
    ));
    // One of each kind of app is enough to read.
    for (app_type, _) in TYPES {
        let path = format!("/app/{app_type}/");
        let mut problems = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        let mut own = problems
            .by_ref()
            .filter(|problem| problem.starts_with(&path));
        if let Some(first) = own.next() {
            let more = own.count();
            report.problems.push(format!("{first} (and {more} more)"));
        }
    }
}

/// Requests an instance until there is another address; the first response that is none of a start on its
/// way is the problem.
fn await_successor(
    fixture: &Fixture<'_>,
    replica: usize,
    number: usize,
    old: &str,
) -> Result<Duration, String> {
    let (path, began) = (path(number), Instant::now());
    while began.elapsed() < PATIENCE {
        let Some(got) = fixture.ask(replica, "GET", &path, "wait=60") else {
            return Err(format!("{path}: no response"));
        };
        match ready_ip(&got) {
            Some(ip) if ip != old => return Ok(began.elapsed()),
            Some(_) => std::thread::park_timeout(Duration::from_millis(100)),
            None if got.code == 202 && got.body["status"] != "app_error" => {}
            None => {
                return Err(format!(
                    "{path} at replica {replica}: {} {}",
                    got.code, got.body
                ));
            }
        }
    }
    Err(format!(
        "{path} at replica {replica}: no successor after {PATIENCE:?}"
    ))
}
