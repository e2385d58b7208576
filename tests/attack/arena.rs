//! One strike against one target, and the observations: threads, memory and files of the target,
//! the well-behaved client beside it, and the health of the target afterwards.

use crate::client;
use crate::environment::{self, Cluster, LineProcess, OURSELVES, Process, Served, Wrapper};
use crate::memory_group::{LIMIT_BYTES, MemoryGroup, Meter};
use crate::probe::{Observed, Probe};
use crate::strikes::{Aim, LONGEST, Setup, Start, Strike};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// A target that holds more than this is ended: the machine is needed by others.
const MEMORY_MAX_KIB: u64 = 1 << 20;

/// How long the target has after a strike to close what it left.
const SETTLE_MAX: Duration = Duration::from_secs(4);

/// Files that may be open for other reasons than the strike: the well-behaved client's.
const FILES_SLACK: usize = 4;

/// How long the well-behaved client is alone before an attack on a target of its own.
const ALONE: Duration = Duration::from_secs(1);

/// The longest time of a liveness probe.
const LIVE_MAX: Duration = Duration::from_secs(1);

/// A running target and the client beside it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) served: Option<Served>,
    /// The group that limits its memory, if this machine has them.
    pub(crate) group: Option<MemoryGroup>,
    pub(crate) probe: Probe,
    pub(crate) aim: Aim,
}

impl Target {
    /// A program that this one started and ends, and the client beside it.
    pub(crate) fn local(
        served: Served,
        group: Option<MemoryGroup>,
        aim: &Aim,
    ) -> Result<Self, String> {
        let mut aim = aim.clone();
        aim.address = served.address;
        aim.id = Some(served.process.id());
        let probe = Probe::start(&aim)?;
        let served = Some(served);
        Ok(Self {
            served,
            group,
            probe,
            aim,
        })
    }

    /// A program that was already running.
    pub(crate) fn remote(aim: Aim) -> Result<Self, String> {
        let probe = Probe::start(&aim)?;
        Ok(Self {
            served: None,
            group: None,
            probe,
            aim,
        })
    }

    fn process(&mut self) -> Option<&mut Process> {
        self.served.as_mut().map(|served| &mut served.process)
    }

    fn log_lines(&self) -> u64 {
        self.served.as_ref().map_or(0, |served| served.log.lines())
    }

    fn kills(&self) -> u64 {
        self.group.as_ref().map_or(0, MemoryGroup::kills)
    }
}

/// The state of a target after a strike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum After {
    /// It responds to a new connection immediately.
    #[default]
    Healthy,
    /// It runs, and does not respond.
    Unresponsive,
    /// It has exited; with its status.
    Exited(String),
    /// It did not become ready; with the reason.
    NotReady(String),
    /// It was killed for the memory it held, by us or by the limit of its group.
    OutOfMemory,
}

/// The observations of one strike.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// The strike's own summary.
    pub(crate) note: String,
    /// What was not as it must be.
    pub(crate) wrong: Vec<String>,
    pub(crate) threads: u64,
    pub(crate) rss_kib: u64,
    /// The peak of its group since the start; 0 where there is none.
    pub(crate) group_kib: u64,
    /// The most that its group used during the strike, sockets included; 0 where there is none.
    pub(crate) used_kib: u64,
    pub(crate) files_peak: usize,
    pub(crate) files_before: usize,
    pub(crate) files_after: usize,
    /// The client alone with this very target, where others are no comparison.
    pub(crate) alone: Option<Observed>,
    pub(crate) beside: Observed,
    pub(crate) after: After,
    /// As in [`Strike::unjudged`].
    pub(crate) unjudged: Option<&'static str>,
    /// As in [`Strike::p99_floor`].
    pub(crate) p99_floor: Duration,
    /// As in [`Strike::is_live`].
    pub(crate) is_live: bool,
}

/// How a server is started for a strike; an error is the reason why this machine cannot.
pub(crate) fn wrapper(start: Start) -> Result<Wrapper, String> {
    match start {
        Start::Plain | Start::Over(_) => Ok(Wrapper::default()),
        Start::FewFiles => Ok(Wrapper::new(&["prlimit", "--nofile=256"])),
        // The limit counts all threads of a user, and does not hold for root.
        Start::FewThreads if rustix::process::getuid().is_root() => Ok(Wrapper::new(&[
            "setpriv",
            "--reuid=54321",
            "--regid=54321",
            "--clear-groups",
            "prlimit",
            "--nproc=300",
        ])),
        Start::FewThreads => Err("needs root, to start it as a user of its own".to_owned()),
    }
}

/// A strike on a service of its own, with its client alone before.
pub(crate) fn strike_over(
    target: &mut Target,
    strike: &Strike,
    setup: &Setup,
    cluster: &mut Cluster,
) -> Result<Outcome, String> {
    let alone = target.probe.watch(ALONE)?;
    let id = target.aim.id.unwrap_or(0);
    let before = (
        Instant::now(),
        environment::processor_time_of(id),
        target.log_lines(),
    );
    for line in setup.before {
        cluster.order(line)?;
    }
    let mut outcome = self::strike(target, strike)?;
    if !setup.before.is_empty() {
        cluster.order("clear")?;
    }
    outcome.alone = Some(alone);
    let lines = target.log_lines() - before.2;
    let lines = lines * 60 / before.0.elapsed().as_secs().max(1);
    let used = environment::processor_time_of(id).saturating_sub(before.1);
    if let Some(max) = setup.processor_max {
        let (used, max) = (used.as_secs_f64(), max.as_secs_f64());
        outcome.bound(format!("{used:.1} s of processor time"), used <= max, max);
    }
    if let Some(max) = setup.log_max {
        outcome.bound(format!("{lines} log lines a minute"), lines <= max, max);
    }
    Ok(outcome)
}

impl Outcome {
    /// A service that did not become ready.
    pub(crate) fn not_ready(why: String, group: Option<&MemoryGroup>) -> Self {
        let killed = group.is_some_and(|group| group.kills() > 0);
        Self {
            note: "at its start".to_owned(),
            group_kib: group.map_or(0, MemoryGroup::peak_kib),
            after: match killed {
                true => After::OutOfMemory,
                false => After::NotReady(why),
            },
            ..Self::default()
        }
    }

    /// Whether the goals that a slow machine cannot spoil were met.
    pub(crate) fn is_good(&self) -> bool {
        self.after == After::Healthy && self.wrong.is_empty()
    }

    fn bound(&mut self, seen: String, is_met: bool, max: impl std::fmt::Display) {
        self.note.push_str(&format!("; {seen}"));
        if !is_met {
            self.wrong.push(format!("{seen} (at most {max})"));
        }
    }
}

/// Runs it.
pub(crate) fn strike(target: &mut Target, strike: &Strike) -> Result<Outcome, String> {
    let id = target.aim.id.unwrap_or(0);
    let files_before = environment::files_of(id);
    let kills_before = target.kills();
    if id != 0 {
        environment::reset_peak(id)?;
    }
    let meter = target.group.as_ref().map(MemoryGroup::meter);
    let sampler = Sampler::start(id, meter.unwrap_or_default());
    target.probe.report()?;
    let (note, mut wrong) = run_apart(strike, &target.aim)?;
    let beside = target.probe.report()?;
    let rss_kib = environment::status_of(id, "VmHWM").max(sampler.rss_kib.load(Ordering::SeqCst));
    let swollen = sampler.swollen.load(Ordering::SeqCst) || target.kills() > kills_before;
    let Peaks {
        threads,
        files: files_peak,
        used_kib,
    } = sampler.end();
    if used_kib > LIMIT_BYTES >> 10 {
        let (used, limit) = (used_kib >> 10, LIMIT_BYTES >> 20);
        wrong.push(format!(
            "{used} MiB with those of sockets (at most {limit})"
        ));
    }
    let files_after = settled(id, files_before);
    let after = match (swollen, target.process().and_then(Process::ended)) {
        (true, _) => After::OutOfMemory,
        (false, Some(status)) => After::Exited(status.to_string()),
        (false, None) if is_well(&target.aim) => After::Healthy,
        (false, None) => After::Unresponsive,
    };
    if beside.live > LIVE_MAX && strike.is_live {
        let live = beside.live.as_secs_f64();
        wrong.push(format!("a liveness probe took {live:.1} s"));
    }
    Ok(Outcome {
        note,
        wrong,
        threads,
        rss_kib,
        group_kib: target.group.as_ref().map_or(0, MemoryGroup::peak_kib),
        used_kib,
        files_peak,
        files_before,
        files_after,
        alone: None,
        beside,
        after,
        unjudged: strike.unjudged,
        p99_floor: strike.p99_floor,
        is_live: strike.is_live,
    })
}

/// Runs the strike in a process of its own with the lowest priority; returns its summary, and what
/// is wrong with it.
fn run_apart(strike: &Strike, aim: &Aim) -> Result<(String, Vec<String>), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(program);
    command.args(["strike", strike.name, &aim.to_json()]);
    let mut line_process = LineProcess::spawn(&mut command)?;
    let line = match line_process.process.wait(LONGEST) {
        Some(_) => line_process.read_line()?,
        None => "wrong the attack itself did not come to its end".to_owned(),
    };
    match line.split_once(' ') {
        Some(("wrong", note)) => Ok((note.to_owned(), vec![note.to_owned()])),
        Some((_, note)) => Ok((note.to_owned(), Vec::new())),
        None => Err(format!("the attack itself printed '{line}'")),
    }
}

/// The number of open files, once it is what it was before, or time is over.
fn settled(id: u32, before: usize) -> usize {
    let deadline = Instant::now() + SETTLE_MAX;
    loop {
        let files = environment::files_of(id);
        if files <= before + FILES_SLACK || Instant::now() > deadline {
            return files;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Whether three new connections are served.
fn is_well(aim: &Aim) -> bool {
    let timeout = Duration::from_secs(1);
    let request = client::get(&aim.path, &aim.lines);
    let ask = || client::Client::new(aim.address, OURSELVES, timeout)?.ask(&request);
    (0..3).all(|_| ask().is_ok_and(|(status, _)| status == 200))
}

/// Watches a process until stopped, and kills it if it grows beyond its bound.
#[derive(Debug)]
struct Sampler {
    stop: Arc<AtomicBool>,
    rss_kib: Arc<AtomicU64>,
    swollen: Arc<AtomicBool>,
    thread: JoinHandle<Peaks>,
}

/// The most that was seen.
#[derive(Debug, Default)]
struct Peaks {
    threads: u64,
    files: usize,
    used_kib: u64,
}

impl Sampler {
    fn start(id: u32, meter: Meter) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let rss_kib = Arc::new(AtomicU64::new(0));
        let swollen = Arc::new(AtomicBool::new(false));
        let shared = (
            Arc::clone(&stop),
            Arc::clone(&rss_kib),
            Arc::clone(&swollen),
        );
        let thread = std::thread::spawn(move || {
            let (stop, peak, swollen) = shared;
            let (mut peaks, mut round) = (Peaks::default(), 0_u32);
            while !stop.load(Ordering::SeqCst) {
                peaks.threads = peaks.threads.max(environment::status_of(id, "Threads"));
                peaks.used_kib = peaks.used_kib.max(meter.used_kib());
                let rss = environment::status_of(id, "VmRSS");
                peak.fetch_max(rss, Ordering::SeqCst);
                if rss > MEMORY_MAX_KIB && !swollen.swap(true, Ordering::SeqCst) {
                    kill(id);
                }
                // Counting thousands of files costs more than the rest.
                if round.is_multiple_of(10) {
                    peaks.files = peaks.files.max(environment::files_of(id));
                }
                round += 1;
                std::thread::sleep(Duration::from_millis(25));
            }
            peaks.files = peaks.files.max(environment::files_of(id));
            peaks
        });
        Self {
            stop,
            rss_kib,
            swollen,
            thread,
        }
    }

    fn end(self) -> Peaks {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap_or_default()
    }
}

/// Kills a child process that has not been waited for, so its id is not reused.
fn kill(id: u32) {
    let pid = i32::try_from(id)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    if let Some(pid) = pid {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
