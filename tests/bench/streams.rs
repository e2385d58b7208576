//! Scenario `streams`: many readers of the stream of all instances, while instances start and stop.
//!
//! In each round a new process is measured without readers and then with them, while the same number of instances
//! a second starts and stops: as many as make 100 events for each reader. How many a start and a stop make is
//! measured before, and the rate within the window. A ratio is computed per round, and its median counts.
//! Readers and callers share the processors with the service.

use crate::client::{Client, get};
use crate::crowd::Crowd;
use crate::environment::{self, Cluster, OURSELVES, Served, Wrapper};
use crate::{Findings, Options, median};
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SIZES: [usize; 3] = [100, 1_000, 2_000];

/// Events a second that each stream is to have, and the least that count as such.
const EVENTS: f64 = 100.0;
const EVENTS_MIN: f64 = 90.0;

const MEMORY_MIB_MAX: f64 = 48.0;
const TIMES_ALONE_MAX: f64 = 3.0;

/// Callers that start and stop an instance, again and again.
const CALLERS: u8 = 8;

/// Each begins a start so often at first: about five events.
const EVERY: Duration = Duration::from_millis(400);

/// The rate is measured and then set for so long before the window.
const SETTLE: Duration = Duration::from_secs(3);

const PATH: &str = "/app/hello/i0";
const TIMEOUT: Duration = Duration::from_secs(10);

/// One round.
#[derive(Clone, Copy, Debug)]
struct Round {
    events: f64,
    ended: f64,
    mib_a_second: f64,
    memory_mib: f64,
    processor: f64,
    alone_ms: f64,
    beside_ms: f64,
}

/// Measures.
pub(crate) fn run(options: &Options) -> Result<Findings, String> {
    environment::raise_files();
    let cluster = Cluster::apart(&["ready=1"])?;
    let mut markdown = format!(
        "Streams of all instances; {} s a window; medians of {} processes.\n\n\
         | streams | events/s to each | all, MiB/s | disconnected | peak MiB, goal ≤ {MEMORY_MIB_MAX} | processor | p99 of a ready GET without and with them, ms | ratio, goal ≤ {TIMES_ALONE_MAX} | |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        options.seconds, options.rounds
    );
    let mut rows = Vec::new();
    for size in SIZES {
        eprintln!("streams: {size}");
        let rounds = (0..options.rounds).map(|_| once(&cluster, size, options.seconds));
        let rounds = rounds.collect::<Result<Vec<Round>, String>>()?;
        add(size, &rounds, &mut markdown, &mut rows);
    }
    let json = Value::from(rows);
    Ok(Findings { markdown, json })
}

/// Adds what was seen with so many streams.
fn add(size: usize, rounds: &[Round], markdown: &mut String, rows: &mut Vec<Value>) {
    let median = |of: fn(&Round) -> f64| median(rounds.iter().map(of).collect());
    let ended: f64 = rounds.iter().map(|round| round.ended).sum();
    let (events, memory) = (median(|it| it.events), median(|it| it.memory_mib));
    let ratio = median(|it| it.beside_ms / it.alone_ms);
    let mut met = true;
    let mut row = |what: &str, value: f64, unit: &str, goal: String, holds: bool| {
        met &= holds;
        rows.push(json!({
            "scenario": "streams", "row": format!("{size} streams: {what}"),
            "value": value, "unit": unit, "goal": goal, "holds": holds,
        }));
    };
    let goal = format!("≥ {EVENTS_MIN}");
    row("events to each", events, "1/s", goal, events >= EVENTS_MIN);
    row("disconnected", ended, "", "0".to_owned(), ended == 0.0);
    let goal = format!("≤ {MEMORY_MIB_MAX}");
    row("peak RSS", memory, "MiB", goal, memory <= MEMORY_MIB_MAX);
    let goal = format!("≤ {TIMES_ALONE_MAX}");
    let what = "p99 of a ready GET";
    row(what, ratio, "× alone", goal, ratio <= TIMES_ALONE_MAX);
    let _ = writeln!(
        markdown,
        "| {size} | {events:.0} | {:.1} | {ended:.0} | {memory:.1} | {:.0} % | {:.2}, {:.2} | {ratio:.1} | {} |",
        median(|it| it.mib_a_second),
        median(|it| it.processor) * 100.0,
        median(|it| it.alone_ms),
        median(|it| it.beside_ms),
        if met { "met" } else { "**not met**" },
    );
}

fn once(cluster: &Cluster, size: usize, seconds: u64) -> Result<Round, String> {
    let served = environment::service(&cluster.kubeconfig, &Wrapper::default())?;
    let window = Duration::from_secs(seconds);
    let callers = Callers::start(served.address);
    {
        let crowd = Crowd::open(served.address, size)?;
        let events = || crowd.counts.events.load(Ordering::SeqCst) as f64;
        let (before, cycles) = (events(), callers.cycles());
        std::thread::sleep(SETTLE);
        let each = (events() - before) / size as f64 / (callers.cycles() - cycles).max(1.0);
        // Callers are late now and then.
        callers.pace(1.1 * EVENTS / each.max(1.0));
    }
    std::thread::sleep(SETTLE);
    let alone_ms = p99_of_gets(served.address, window)?;
    let crowd = Crowd::open(served.address, size)?;
    std::thread::sleep(SETTLE);
    let round = measure(&served, &crowd, size, window)?;
    callers.stop()?;
    Ok(Round { alone_ms, ..round })
}

/// The window.
fn measure(served: &Served, crowd: &Crowd, size: usize, window: Duration) -> Result<Round, String> {
    let id = served.process.id();
    environment::reset_peak(id)?;
    let counts = &crowd.counts;
    let now = || {
        let events = counts.events.load(Ordering::SeqCst) as f64;
        let bytes = counts.bytes.load(Ordering::SeqCst) as f64;
        (events, bytes, environment::processor_time_of(id))
    };
    let (before, begun) = (now(), Instant::now());
    let beside_ms = p99_of_gets(served.address, window)?;
    let (after, took) = (now(), begun.elapsed().as_secs_f64());
    let ended = counts.ended.load(Ordering::SeqCst);
    let open = size.saturating_sub(ended).max(1) as f64;
    Ok(Round {
        events: (after.0 - before.0) / took / open,
        ended: ended as f64,
        mib_a_second: (after.1 - before.1) / took / f64::from(1 << 20),
        memory_mib: environment::status_of(id, "VmHWM") as f64 / 1024.0,
        processor: after.2.saturating_sub(before.2).as_secs_f64() / took,
        alone_ms: 0.0,
        beside_ms,
    })
}

/// A client that requests a ready instance every 2 ms; the 99th percentile in milliseconds.
fn p99_of_gets(address: SocketAddr, time: Duration) -> Result<f64, String> {
    let failed = |error: std::io::Error| format!("a GET failed: {error}");
    let mut client = Client::new(address, OURSELVES, TIMEOUT).map_err(failed)?;
    let request = get(PATH, "");
    let (mut times, begun) = (Vec::new(), Instant::now());
    while begun.elapsed() < time {
        let asked = Instant::now();
        match client.ask(&request).map_err(failed)? {
            (200, _) => times.push(asked.elapsed().as_secs_f64() * 1e3),
            (status, _) => return Err(format!("a GET was answered {status}")),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    times.sort_unstable_by(f64::total_cmp);
    let at = times.len() * 99 / 100;
    times.get(at).copied().ok_or_else(|| "no GET".to_owned())
}

/// Those that start and stop instances.
#[derive(Debug)]
struct Callers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<(), String>>>,
}

#[derive(Debug)]
struct Shared {
    /// How often each begins a start, in microseconds.
    every: AtomicU64,
    /// Instances that were started and stopped.
    cycles: AtomicU64,
    is_over: AtomicBool,
}

impl Callers {
    fn start(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            every: AtomicU64::new(u64::try_from(EVERY.as_micros()).unwrap_or(u64::MAX)),
            cycles: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        });
        let caller = |number| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || call(address, number, &shared))
        };
        let threads = (0..CALLERS).map(caller).collect();
        Self { shared, threads }
    }

    fn cycles(&self) -> f64 {
        self.shared.cycles.load(Ordering::SeqCst) as f64
    }

    /// So many starts a second from now on, by all of them.
    fn pace(&self, a_second: f64) {
        let every = f64::from(CALLERS) / a_second * 1e6;
        self.shared.every.store(every as u64, Ordering::SeqCst);
    }

    fn stop(self) -> Result<(), String> {
        self.shared.is_over.store(true, Ordering::SeqCst);
        let joined = self.threads.into_iter().map(|thread| {
            let ended = thread.join();
            ended.unwrap_or_else(|_| Err("a caller panicked".to_owned()))
        });
        joined.collect()
    }
}

fn call(address: SocketAddr, number: u8, shared: &Shared) -> Result<(), String> {
    environment::yield_to_others();
    let failed = |error: std::io::Error| format!("a start or stop failed: {error}");
    let from = Ipv4Addr::new(127, 0, 0, 120 + number);
    let mut client = Client::new(address, from, TIMEOUT).map_err(failed)?;
    let mut due = Instant::now();
    for round in 0_u64.. {
        if shared.is_over.load(Ordering::SeqCst) {
            break;
        }
        let path = format!("/app/hello/s{number}-{round}");
        let stop = format!("DELETE {path} HTTP/1.1\r\nHost: bench\r\n\r\n");
        for request in [get(&path, "Prefer: wait=5\r\n"), stop.into_bytes()] {
            let (status, _) = client.ask(&request).map_err(failed)?;
            if status != 200 {
                return Err(format!("{path} was answered {status}"));
            }
        }
        shared.cycles.fetch_add(1, Ordering::SeqCst);
        // What it is late is not made up for.
        due =
            (due + Duration::from_micros(shared.every.load(Ordering::SeqCst))).max(Instant::now());
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(())
}
