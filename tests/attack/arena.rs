//! One strike against one target, and the observations: threads, memory and files of the target,
//! the well-behaved client beside it, and the health of the target afterwards.

use crate::client;
use crate::environment::{self, LineProcess, Process, Served, Wrapper};
use crate::probe::{Observed, Probe};
use crate::strikes::{Aim, LONGEST, Start, Strike};
use std::net::SocketAddr;
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

/// A running target and the client beside it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) served: Option<Served>,
    pub(crate) probe: Probe,
    pub(crate) aim: Aim,
}

impl Target {
    /// A program that this one started and ends, and the client beside it.
    pub(crate) fn local(served: Served, aim: &Aim) -> Result<Self, String> {
        let mut aim = aim.clone();
        aim.address = served.address;
        aim.id = Some(served.process.id());
        let probe = Probe::start(aim.address, &aim.path)?;
        let served = Some(served);
        Ok(Self { served, probe, aim })
    }

    /// A program that was already running.
    pub(crate) fn remote(aim: Aim) -> Result<Self, String> {
        let probe = Probe::start(aim.address, &aim.path)?;
        let served = None;
        Ok(Self { served, probe, aim })
    }

    fn process(&mut self) -> Option<&mut Process> {
        self.served.as_mut().map(|served| &mut served.process)
    }
}

/// The state of a target after a strike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// It responds to a new connection immediately.
    Healthy,
    /// It runs, and does not respond.
    Unresponsive,
    /// It has exited; with its status.
    Exited(String),
    /// It was killed for the memory it held.
    OutOfMemory,
}

/// The observations of one strike.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The strike's own summary.
    pub(crate) note: String,
    pub(crate) threads: u64,
    pub(crate) rss_kib: u64,
    pub(crate) files_peak: usize,
    pub(crate) files_before: usize,
    pub(crate) files_after: usize,
    pub(crate) beside: Observed,
    pub(crate) after: After,
    /// As in [`Strike::unjudged`].
    pub(crate) unjudged: Option<&'static str>,
}

/// How a server is started for a strike; an error is the reason why this machine cannot.
pub(crate) fn wrapper(start: Start) -> Result<Wrapper, String> {
    match start {
        Start::Plain => Ok(Wrapper::default()),
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

/// Runs it.
pub(crate) fn strike(target: &mut Target, strike: &Strike) -> Result<Outcome, String> {
    let id = target.aim.id.unwrap_or(0);
    let files_before = environment::files_of(id);
    if id != 0 {
        environment::reset_peak(id)?;
    }
    let sampler = Sampler::start(id);
    target.probe.report()?;
    let note = run_apart(strike, &target.aim);
    let beside = target.probe.report()?;
    let rss_kib = environment::status_of(id, "VmHWM").max(sampler.rss_kib.load(Ordering::SeqCst));
    let swollen = sampler.swollen.load(Ordering::SeqCst);
    let (threads, files_peak) = sampler.end();
    let files_after = settled(id, files_before);
    let after = match (swollen, target.process().and_then(Process::ended)) {
        (true, _) => After::OutOfMemory,
        (false, Some(status)) => After::Exited(status.to_string()),
        (false, None) if is_well(target.aim.address, &target.aim.path) => After::Healthy,
        (false, None) => After::Unresponsive,
    };
    Ok(Outcome {
        note: note?,
        threads,
        rss_kib,
        files_peak,
        files_before,
        files_after,
        beside,
        after,
        unjudged: strike.unjudged,
    })
}

/// Runs the strike in a process of its own with the lowest priority; returns its summary.
fn run_apart(strike: &Strike, aim: &Aim) -> Result<String, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(program);
    command.args(["strike", strike.name, &aim.address.to_string()]);
    command.arg(aim.id.unwrap_or(0).to_string());
    command.args([&aim.path, &aim.large, &aim.medium]);
    command.arg(aim.hold.as_millis().to_string());
    let mut line_process = LineProcess::spawn(&mut command)?;
    match line_process.process.wait(LONGEST) {
        Some(_) => line_process.read_line(),
        None => Ok("the attack itself did not come to its end".to_owned()),
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
fn is_well(address: SocketAddr, path: &str) -> bool {
    let second = Duration::from_secs(1);
    (0..3).all(|_| client::status(address, environment::OURSELVES, path, second).ok() == Some(200))
}

/// Watches a process until stopped, and kills it if it grows beyond its bound.
#[derive(Debug)]
struct Sampler {
    stop: Arc<AtomicBool>,
    rss_kib: Arc<AtomicU64>,
    swollen: Arc<AtomicBool>,
    thread: JoinHandle<(u64, usize)>,
}

impl Sampler {
    fn start(id: u32) -> Self {
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
            let (mut threads, mut files, mut round) = (0, 0, 0_u32);
            while !stop.load(Ordering::SeqCst) {
                threads = threads.max(environment::status_of(id, "Threads"));
                let rss = environment::status_of(id, "VmRSS");
                peak.fetch_max(rss, Ordering::SeqCst);
                if rss > MEMORY_MAX_KIB && !swollen.swap(true, Ordering::SeqCst) {
                    kill(id);
                }
                // Counting thousands of files costs more than the rest.
                if round.is_multiple_of(10) {
                    files = files.max(environment::files_of(id));
                }
                round += 1;
                std::thread::sleep(Duration::from_millis(25));
            }
            (threads, files.max(environment::files_of(id)))
        });
        Self {
            stop,
            rss_kib,
            swollen,
            thread,
        }
    }

    /// The most threads and files.
    fn end(self) -> (u64, usize) {
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
