//! Scenario `footprint`: how much memory the released program takes, and how soon it is ready.
//!
//! With one instance, with 1,000 (for the time that a start takes), with 10,000, and with 5,000
//! requests that wait. Memory is that of `/proc` (VmRSS, its peak VmHWM), the program's own code
//! included; medians of the rounds, each a new process.

use crate::client::{connect, get};
use crate::environment::{self, Cluster, OURSELVES, Served, Wrapper};
use crate::{Findings, Options, median};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

/// So many requests wait in the last row.
const PARKED: usize = 5_000;

/// For so many names, from as many addresses.
const NAMES: usize = 10;

/// Time limit of each step.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How long the program is left alone before its memory is read.
const REST: Duration = Duration::from_secs(1);

/// One way to run it: how many instances there are, how many requests wait, and the goals.
struct Case {
    what: &'static str,
    instances: usize,
    parked: usize,
    memory_mib_max: f64,
    peak_mib_max: f64,
    ready_ms_max: f64,
}

const ANY: f64 = f64::INFINITY;

const CASES: [Case; 4] = [
    Case {
        what: "idle, 1 instance",
        instances: 1,
        parked: 0,
        memory_mib_max: 8.0,
        peak_mib_max: ANY,
        ready_ms_max: ANY,
    },
    Case {
        what: "1,000 instances",
        instances: 1_000,
        parked: 0,
        memory_mib_max: ANY,
        peak_mib_max: ANY,
        ready_ms_max: 150.0,
    },
    Case {
        what: "10,000 instances",
        instances: 10_000,
        parked: 0,
        memory_mib_max: 16.0,
        peak_mib_max: 32.0,
        ready_ms_max: ANY,
    },
    Case {
        what: "5,000 requests that wait",
        instances: 1,
        parked: PARKED,
        memory_mib_max: 48.0,
        peak_mib_max: ANY,
        ready_ms_max: ANY,
    },
];

/// What one process took.
#[derive(Clone, Copy, Debug)]
struct Observed {
    ready_ms: f64,
    memory_mib: f64,
    peak_mib: f64,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<Findings, String> {
    let mut markdown = format!(
        "Memory and time to ready; medians of {} processes.\n\n\
         | program | ready after ms | goal | memory MiB | goal | peak MiB | goal | |\n|---|---|---|---|---|---|---|---|\n",
        options.rounds
    );
    let mut rows = Vec::new();
    for case in &CASES {
        eprintln!("footprint: {}", case.what);
        let cluster = Cluster::start(case.instances)?;
        let seen = (0..options.rounds).map(|_| once(&cluster, case));
        let seen = seen.collect::<Result<Vec<Observed>, String>>()?;
        let median = |of: fn(&Observed) -> f64| median(seen.iter().map(of).collect());
        let ready = median(|seen| seen.ready_ms);
        let memory = median(|seen| seen.memory_mib);
        let peak = median(|seen| seen.peak_mib);
        let met = ready <= case.ready_ms_max
            && memory <= case.memory_mib_max
            && peak <= case.peak_mib_max;
        let _ = writeln!(
            markdown,
            "| {} | {ready:.0} | {} | {memory:.1} | {} | {peak:.1} | {} | {} |",
            case.what,
            goal(case.ready_ms_max),
            goal(case.memory_mib_max),
            goal(case.peak_mib_max),
            if met { "met" } else { "**not met**" },
        );
        rows.push(json!({
            "case": case.what, "ready_ms": ready, "memory_mib": memory, "peak_mib": peak, "met": met,
        }));
    }
    Ok(Findings {
        markdown,
        json: Value::from(rows),
    })
}

fn goal(most: f64) -> String {
    if most == ANY {
        "–".to_owned()
    } else {
        format!("≤ {most}")
    }
}

fn once(cluster: &Cluster, case: &Case) -> Result<Observed, String> {
    let begun = Instant::now();
    let served = environment::service(&cluster.kubeconfig, &Wrapper::default())?;
    let ready_ms = begun.elapsed().as_secs_f64() * 1e3;
    let waiting = park(&served, case.parked)?;
    std::thread::sleep(REST);
    let id = served.process.id();
    let mib = |field| environment::status_of(id, field) as f64 / 1024.0;
    let seen = Observed {
        ready_ms,
        memory_mib: mib("VmRSS"),
        peak_mib: mib("VmHWM"),
    };
    drop(waiting);
    Ok(seen)
}

/// So many requests for instances that never become ready; returns when all wait.
fn park(served: &Served, count: usize) -> Result<Vec<TcpStream>, String> {
    let failed = |error: std::io::Error| format!("a request cannot be made: {error}");
    environment::raise_files();
    let mut waiting = Vec::with_capacity(count);
    for number in 0..count {
        // One address has ports for few rounds.
        let some = (number % NAMES) as u8;
        let from = Ipv4Addr::new(127, 0, 0, 100 + some);
        let mut stream = connect(served.address, from, TIMEOUT).map_err(failed)?;
        let path = format!("/app/never/p{some}");
        let request = get(&path, "Prefer: wait=300\r\n");
        stream.write_all(&request).map_err(failed)?;
        waiting.push(stream);
    }
    let deadline = Instant::now() + TIMEOUT;
    let line = format!("config_controller_waiting_requests {count}\n");
    while !metrics(served).map_err(failed)?.contains(&line) {
        if Instant::now() > deadline {
            return Err(format!("{count} requests do not wait"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(waiting)
}

fn metrics(served: &Served) -> std::io::Result<String> {
    let mut stream = connect(served.address, OURSELVES, TIMEOUT)?;
    stream.write_all(&get("/metrics", "Connection: close\r\n"))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
