//! Scenario `idle`: 10,000 instances with an idle timeout of 15 minutes, and two replicas.
//!
//! First nobody uses them; then each was used once, and 100 uses a second go to one replica, spread over all of
//! them, so that its reports name all. The windows are two of the longest intervals of reports. The other replica
//! only reads what the first one reports. Calls are counted by the API server.

use crate::client::{Client, get};
use crate::environment::{self, Cluster, Launch, OURSELVES, Served};
use crate::{Findings, Options};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

const INSTANCES: usize = 10_000;

/// 15 minutes.
const TIMEOUT_SECONDS: usize = 900;

/// Two of the longest intervals of reports.
const WINDOW: Duration = Duration::from_secs(60);

/// Pause between two uses.
const USE_EVERY: Duration = Duration::from_millis(10);

/// How long the processes are left alone before a window.
const SETTLE: Duration = Duration::from_secs(5);

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// 0.2 a second.
const WRITES_MAX: f64 = 12.0;

/// As `footprint` has it for as many instances, and half as much again.
const MEMORY_MIB_MAX: f64 = 24.0;

/// Of one processor.
const PROCESSOR_PERCENT_MAX: f64 = 2.0;

/// What a window showed, per minute.
#[derive(Clone, Copy, Debug, Default)]
struct Observed {
    writes: f64,
    report_bytes: f64,
    /// Of the replica that is used, and of the other.
    memory_mib: [f64; 2],
    processor_ms: [f64; 2],
}

/// Measures.
pub(crate) fn run(_: &Options) -> Result<Findings, String> {
    eprintln!("idle: filling");
    let words = [
        format!("ready={INSTANCES}"),
        format!("idle={TIMEOUT_SECONDS}"),
    ];
    let mut cluster = Cluster::holding(&[&words[0], &words[1]])?;
    let replica = |name: &str| {
        let launch = Launch {
            flags: vec![format!("--pod-name={name}")],
            ..Launch::default()
        };
        environment::launched(&cluster.kubeconfig, &launch)
    };
    let replicas = [replica("cc-a")?, replica("cc-b")?];
    let mut uses = Uses::new(&replicas[0])?;
    let mut markdown = format!(
        "{INSTANCES} instances with an idle timeout of {TIMEOUT_SECONDS} s; two replicas; {} s a window.\n\n\
         | | writes a minute, goal ≤ {WRITES_MAX} | report, bytes | memory MiB, goal ≤ {MEMORY_MIB_MAX} | processor ms a minute | |\n\
         |---|---|---|---|---|---|\n",
        WINDOW.as_secs()
    );
    let mut rows = Vec::new();
    eprintln!("idle: unused");
    std::thread::sleep(SETTLE);
    let unused = measure(&mut cluster, &replicas, || {
        std::thread::sleep(WINDOW);
        Ok(())
    })?;
    add("unused", unused, 0.0, &mut markdown, &mut rows);
    eprintln!("idle: used");
    for _ in 0..INSTANCES {
        uses.use_next()?;
    }
    std::thread::sleep(SETTLE);
    let used = measure(&mut cluster, &replicas, || uses.for_long(WINDOW))?;
    add(
        "100 uses a second",
        used,
        WRITES_MAX,
        &mut markdown,
        &mut rows,
    );
    Ok(Findings {
        markdown,
        json: Value::from(rows),
    })
}

/// What the processes do while this lasts.
fn measure(
    cluster: &mut Cluster,
    replicas: &[Served; 2],
    act: impl FnOnce() -> Result<(), String>,
) -> Result<Observed, String> {
    let processor = || {
        replicas.each_ref().map(|served| {
            let time = environment::processor_time_of(served.process.id());
            time.as_secs_f64() * 1e3
        })
    };
    let (before, begun, spent) = (reports(cluster)?, Instant::now(), processor());
    act()?;
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let (after, now) = (reports(cluster)?, processor());
    Ok(Observed {
        writes: (after.0 - before.0) / minutes,
        report_bytes: after.1,
        memory_mib: replicas
            .each_ref()
            .map(|served| environment::status_of(served.process.id(), "VmRSS") as f64 / 1024.0),
        processor_ms: [0, 1].map(|one| (now[one] - spent[one]) / minutes),
    })
}

/// How many reports were written, and the bytes of the longest.
fn reports(cluster: &mut Cluster) -> Result<(f64, f64), String> {
    let line = cluster.order("reports")?;
    let numbers = line.split_once(' ');
    let numbers =
        numbers.and_then(|(writes, bytes)| Some((writes.parse().ok()?, bytes.parse().ok()?)));
    numbers.ok_or_else(|| format!("the fake API server printed '{line}'"))
}

/// Adds what was seen.
fn add(what: &str, seen: Observed, writes_max: f64, markdown: &mut String, rows: &mut Vec<Value>) {
    let mut met = true;
    let mut row = |name: &str, value: f64, unit: &str, most: f64| {
        let holds = value <= most;
        met &= holds;
        rows.push(json!({
            "scenario": "idle", "row": format!("{what}: {name}"),
            "value": value, "unit": unit, "goal": format!("≤ {most}"), "holds": holds,
        }));
    };
    let memory = seen.memory_mib[0].max(seen.memory_mib[1]);
    let percent = seen.processor_ms.map(|ms| ms / 600.0);
    row("writes", seen.writes, "1/min", writes_max);
    row("RSS", memory, "MiB", MEMORY_MIB_MAX);
    row("processor", percent[0], "%", PROCESSOR_PERCENT_MAX);
    row(
        "processor of the other replica",
        percent[1],
        "%",
        PROCESSOR_PERCENT_MAX,
    );
    let _ = writeln!(
        markdown,
        "| {what} | {:.1} | {:.0} | {:.1}, {:.1} | {:.0}, {:.0} | {} |",
        seen.writes,
        seen.report_bytes,
        seen.memory_mib[0],
        seen.memory_mib[1],
        seen.processor_ms[0],
        seen.processor_ms[1],
        if met { "met" } else { "**not met**" },
    );
}

/// Uses one instance after the other.
struct Uses {
    client: Client,
    next: usize,
}

impl Uses {
    fn new(served: &Served) -> Result<Self, String> {
        let client = Client::new(served.address, OURSELVES, REQUEST_TIMEOUT);
        let client = client.map_err(|error| format!("cannot connect: {error}"))?;
        Ok(Self { client, next: 0 })
    }

    fn use_next(&mut self) -> Result<(), String> {
        let path = format!("/app/hello/i{}", self.next % INSTANCES);
        self.next += 1;
        match self.client.ask(&get(&path, "")) {
            Ok((200, _)) => Ok(()),
            Ok((status, _)) => Err(format!("{path} was answered {status}")),
            Err(error) => Err(format!("a GET failed: {error}")),
        }
    }

    fn for_long(&mut self, time: Duration) -> Result<(), String> {
        let (begun, mut due) = (Instant::now(), Duration::ZERO);
        while due < time {
            self.use_next()?;
            due += USE_EVERY;
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
        }
        Ok(())
    }
}
