//! Scenario `front`: GET of a ready instance by the released program, compared with bare programs
//! that return a constant of the same length: tiny_http (4 workers) and hyper (2 threads).
//!
//! All run at the same time and are loaded one after the other, in rounds. The median of the rounds
//! counts, since other programs may use the machine. A ratio is computed per round, where its two
//! sides were measured within seconds, and its median counts. The load generator shares the
//! processors with every program that it loads.

use crate::client::{Client, get};
use crate::environment::{self, Cluster, OURSELVES, Served, Wrapper};
use crate::wrk::{self, Load};
use crate::{Findings, Options, median};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const CONNECTIONS: [usize; 3] = [8, 64, 256];
const PATH: &str = "/app/hello/i0";

/// The many instances of the fourth program.
const MANY: usize = 10_000;

/// The programs, in the order of [`start`].
const ONE: usize = 0;
const FULL: usize = 1;
const TINY: usize = 2;
const HYPER: usize = 3;

/// One program under load.
#[derive(Debug)]
struct Subject {
    name: String,
    served: Served,
    /// For each number of connections, the rounds.
    rounds: [Vec<Round>; CONNECTIONS.len()],
    /// For each number of connections, how many of them had a response.
    served_connections: [usize; CONNECTIONS.len()],
}

#[derive(Clone, Copy, Debug)]
struct Round {
    load: Load,
    /// Processor time of a request, in microseconds.
    cost: f64,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<Findings, String> {
    let mut clusters = [Cluster::start(1)?, Cluster::start(MANY)?];
    let mut subjects = start(&clusters)?;
    for subject in &subjects {
        // Warm-up, before anything is measured.
        wrk::load(subject.served.address, PATH, None, 8, 1)?;
    }
    let before = calls(&mut clusters)?;
    for round in 1..=options.rounds {
        eprintln!("front: round {round} of {}", options.rounds);
        for (size, connections) in CONNECTIONS.into_iter().enumerate() {
            for subject in &mut subjects {
                let round = measure(&subject.served, connections, options.seconds)?;
                subject.rounds[size].push(round);
            }
        }
    }
    let calls = calls(&mut clusters)? - before;
    for subject in &mut subjects {
        for (size, connections) in CONNECTIONS.into_iter().enumerate() {
            let served = served_connections(&subject.served, connections);
            subject.served_connections[size] = served;
        }
    }
    let goals = goals(&subjects, calls);
    Ok(Findings {
        markdown: markdown(&subjects, &goals, options),
        json: figures(&subjects, &goals, calls),
    })
}

fn start(clusters: &[Cluster; 2]) -> Result<Vec<Subject>, String> {
    let plain = Wrapper::default();
    let subject = |name: &str, served| Subject {
        name: name.to_owned(),
        served,
        rounds: Default::default(),
        served_connections: Default::default(),
    };
    let [one, many] = clusters;
    Ok(vec![
        subject(
            "service, 1 instance",
            environment::service(&one.kubeconfig, &plain)?,
        ),
        subject(
            "service, 10,000 instances",
            environment::service(&many.kubeconfig, &plain)?,
        ),
        subject(
            "bare tiny_http, 4 workers",
            environment::bare(&["tiny", "4"], &plain)?,
        ),
        subject(
            "bare hyper, 2 threads",
            environment::bare(&["hyper"], &plain)?,
        ),
    ])
}

/// Requests to the API servers so far, without watches.
fn calls(clusters: &mut [Cluster]) -> Result<u64, String> {
    clusters.iter_mut().map(Cluster::calls).sum()
}

fn measure(served: &Served, connections: usize, seconds: u64) -> Result<Round, String> {
    let id = served.process.id();
    let before = environment::processor_time_of(id);
    let load = wrk::load(served.address, PATH, None, connections, seconds)?;
    let used = environment::processor_time_of(id).saturating_sub(before);
    let cost = used.as_secs_f64() * 1e6 / load.requests;
    Ok(Round { load, cost })
}

/// Clients with one connection each send requests at the same time for two seconds; returns how
/// many of them had a response.
fn served_connections(served: &Served, connections: usize) -> usize {
    let timeout = Duration::from_secs(2);
    let (with_response, start) = (AtomicUsize::new(0), Barrier::new(connections));
    let request = get(PATH, "");
    std::thread::scope(|scope| {
        for _ in 0..connections {
            let client = || {
                start.wait();
                let Ok(mut client) = Client::new(served.address, OURSELVES, timeout) else {
                    return;
                };
                let deadline = Instant::now() + timeout;
                let mut responses = 0;
                while Instant::now() < deadline && client.ask(&request).is_ok() {
                    responses += 1;
                }
                with_response.fetch_add(usize::from(responses > 0), Ordering::SeqCst);
            };
            let thread = std::thread::Builder::new().stack_size(64 << 10);
            thread.spawn_scoped(scope, client).expect("a thread");
        }
    });
    with_response.into_inner()
}

impl Subject {
    fn median(&self, size: usize, of: fn(&Round) -> f64) -> f64 {
        median(self.rounds[size].iter().map(of).collect())
    }

    fn rate(&self, size: usize) -> f64 {
        self.median(size, |round| round.load.per_second)
    }

    fn p99(&self, size: usize) -> f64 {
        self.median(size, |round| round.load.p99)
    }

    fn errors(&self) -> f64 {
        let rounds = self.rounds.iter().flatten();
        rounds.map(|round| round.load.errors).sum()
    }
}

/// One goal: what is asked, what was seen (at 8, 64, 256 connections), whether it is met.
#[derive(Debug)]
struct Goal {
    what: &'static str,
    seen: Vec<f64>,
    met: bool,
}

fn goals(subjects: &[Subject], calls: u64) -> Vec<Goal> {
    let sizes = 0..CONNECTIONS.len();
    let ratio = |what, a: usize, b: usize, of: fn(&Round) -> f64, ok: fn(f64) -> bool| {
        let ratio = |size: usize| {
            let pairs = subjects[a].rounds[size]
                .iter()
                .zip(&subjects[b].rounds[size]);
            median(pairs.map(|(a, b)| of(a) / of(b)).collect())
        };
        let seen: Vec<f64> = sizes.clone().map(ratio).collect();
        let met = seen.iter().all(|ratio| ok(*ratio));
        Goal { what, seen, met }
    };
    let per_second = |round: &Round| round.load.per_second;
    let p99 = |round: &Round| round.load.p99;
    let own = &subjects[..TINY];
    let unserved = |size: usize| {
        let lacking = own
            .iter()
            .map(|s| CONNECTIONS[size] - s.served_connections[size]);
        lacking.sum::<usize>() as f64
    };
    let unserved: Vec<f64> = sizes.clone().map(unserved).collect();
    let errors: f64 = own.iter().map(Subject::errors).sum();
    vec![
        ratio(
            "req/s ≥ 1.5 × bare tiny_http",
            ONE,
            TINY,
            per_second,
            |r| r >= 1.5,
        ),
        ratio("req/s ≥ 0.7 × bare hyper", ONE, HYPER, per_second, |r| {
            r >= 0.7
        }),
        ratio("p99 ≤ 2 × bare hyper's", ONE, HYPER, p99, |r| r <= 2.0),
        ratio(
            "req/s at 10,000 instances ≥ 0.9 × at 1",
            FULL,
            ONE,
            per_second,
            |r| r >= 0.9,
        ),
        Goal {
            what: "connections without a response: 0",
            met: unserved.iter().all(|count| *count == 0.0),
            seen: unserved,
        },
        Goal {
            what: "failed requests: 0",
            seen: vec![errors],
            met: errors == 0.0,
        },
        Goal {
            what: "calls to the API server during the load (without renewed watches): 0",
            seen: vec![calls as f64],
            met: calls == 0,
        },
    ]
}

fn markdown(subjects: &[Subject], goals: &[Goal], options: &Options) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "GET of a ready instance; wrk, 2 threads, {} s; medians of {} interleaved rounds.\n",
        options.seconds, options.rounds
    );
    let _ = writeln!(
        out,
        "| program | connections | req/s | p50 ms | p99 ms | CPU µs a request | served |"
    );
    let _ = writeln!(out, "|---|---|---|---|---|---|---|");
    for (size, connections) in CONNECTIONS.into_iter().enumerate() {
        for subject in subjects {
            let _ = writeln!(
                out,
                "| {} | {connections} | {:.0} | {:.2} | {:.2} | {:.1} | {} of {connections} |",
                subject.name,
                subject.rate(size),
                subject.median(size, |round| round.load.p50) / 1e3,
                subject.p99(size) / 1e3,
                subject.median(size, |round| round.cost),
                subject.served_connections[size],
            );
        }
    }
    let _ = writeln!(
        out,
        "\n| goal | seen at 8, 64, 256 connections | |\n|---|---|---|"
    );
    for Goal { what, seen, met } in goals {
        let seen: Vec<String> = seen.iter().map(|value| format!("{:.2}", value)).collect();
        let seen = seen.join(", ").replace(".00", "");
        let met = if *met { "met" } else { "**not met**" };
        let _ = writeln!(out, "| {what} | {seen} | {met} |");
    }
    out
}

fn figures(subjects: &[Subject], goals: &[Goal], calls: u64) -> Value {
    let rows = subjects.iter().flat_map(|subject| {
        CONNECTIONS
            .into_iter()
            .enumerate()
            .map(|(size, connections)| {
                json!({
                    "program": subject.name,
                    "connections": connections,
                    "requests_per_second": subject.rate(size),
                    "p50_us": subject.median(size, |round| round.load.p50),
                    "p99_us": subject.p99(size),
                    "cpu_us_per_request": subject.median(size, |round| round.cost),
                    "connections_served": subject.served_connections[size],
                })
            })
    });
    let goals = goals
        .iter()
        .map(|goal| json!({"goal": goal.what, "seen": goal.seen, "met": goal.met}));
    json!({
        "rows": rows.collect::<Vec<Value>>(),
        "goals": goals.collect::<Vec<Value>>(),
        "api_calls": calls,
    })
}
