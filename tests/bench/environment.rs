//! The measured processes and their figures in `/proc`: the fake API server, the service over it,
//! the bare programs. Each is killed by its id when its value is dropped.
//!
//! Here nothing is measured or judged; Linux only.

// Included by two programs; each of them uses a part of it.
#![allow(dead_code)]

use crate::client;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a program may take until it serves, unless something else is said.
const START_MAX: Duration = Duration::from_secs(120);

/// An address for ourselves, apart from those of measured peers.
pub(crate) const OURSELVES: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// A path from the environment, which the script that builds it has set.
pub(crate) fn built(variable: &str) -> Result<PathBuf, String> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| format!("{variable} is not set: start this by its script"))
}

/// Lets this process open as many files as it may: each connection is one.
pub(crate) fn raise_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    // Without it fewer connections are made, which is reported.
    let _ = setrlimit(Resource::Nofile, Rlimit { current, maximum });
}

/// Lets this thread run only while no other wants to: what it stands for runs on other machines.
pub(crate) fn yield_to_others() {
    // Without it others wait longer, which is measured.
    let Ok(own) = fs::read_link("/proc/thread-self") else {
        return;
    };
    let id = own.file_name().unwrap_or_default();
    let mut chrt = Command::new(IDLE[0]);
    let _ = chrt.args(["--idle", "--pid", "0"]).arg(id).status();
}

/// Starts a program that runs only while no other wants to.
const IDLE: [&str; 3] = ["chrt", "--idle", "0"];

/// A child process; killed by its id when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self, String> {
        let child = command.spawn();
        let child = child.map_err(|error| format!("cannot start {command:?}: {error}"))?;
        Ok(Self { child })
    }

    /// Its id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it ends; kills it after this time, then `None`.
    pub(crate) fn wait(&mut self, longest: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + longest;
        while Instant::now() < deadline {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }

    fn pipes(&mut self) -> Result<(ChildStdin, BufReader<ChildStdout>), String> {
        match (self.child.stdin.take(), self.child.stdout.take()) {
            (Some(stdin), Some(stdout)) => Ok((stdin, BufReader::new(stdout))),
            _ => Err("a process was started without pipes".to_owned()),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that responds to lines with lines.
#[derive(Debug)]
pub(crate) struct LineProcess {
    pub(crate) process: Process,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl LineProcess {
    /// Starts it.
    pub(crate) fn spawn(command: &mut Command) -> Result<Self, String> {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(piped)?;
        let (input, output) = process.pipes()?;
        let input = Some(input);
        Ok(Self {
            process,
            input,
            output,
        })
    }

    /// Writes a line to its input.
    pub(crate) fn write_line(&mut self, line: &str) -> Result<(), String> {
        let Some(input) = &mut self.input else {
            return Err("the input of the process is closed".to_owned());
        };
        writeln!(input, "{line}").map_err(|error| format!("a process does not listen: {error}"))
    }

    /// Reads a line of its output; empty at the end.
    pub(crate) fn read_line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line);
        read.map_err(|error| format!("a process does not respond: {error}"))?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for LineProcess {
    fn drop(&mut self) {
        self.input = None;
        self.process.wait(Duration::from_secs(2));
    }
}

/// The fake API server, filled.
#[derive(Debug)]
pub(crate) struct Cluster {
    line_process: LineProcess,
    pub(crate) kubeconfig: String,
}

impl Cluster {
    /// Starts one with so many ready instances.
    pub(crate) fn start(ready: usize) -> Result<Self, String> {
        Self::holding(&[&format!("ready={ready}")])
    }

    /// Starts one that holds this, in the words of `bench-cluster`, and waits until all is in place.
    pub(crate) fn holding(words: &[&str]) -> Result<Self, String> {
        Self::launched(&Wrapper::default(), words)
    }

    /// As [`Cluster::holding`], with a lower priority than others: what it does beside requests that are
    /// measured stands for another machine.
    pub(crate) fn apart(words: &[&str]) -> Result<Self, String> {
        Self::launched(&Wrapper::new(&IDLE), words)
    }

    fn launched(wrapper: &Wrapper, words: &[&str]) -> Result<Self, String> {
        let own = std::env::current_exe().map_err(|error| error.to_string())?;
        let program = own.with_file_name("bench-cluster");
        let mut line_process = LineProcess::spawn(wrapper.command(program).args(words))?;
        match line_process.read_line()? {
            line if line.is_empty() => Err("the fake API server did not start".to_owned()),
            kubeconfig => Ok(Self {
                line_process,
                kubeconfig,
            }),
        }
    }

    /// How many requests it has had that were no watches.
    pub(crate) fn calls(&mut self) -> Result<u64, String> {
        let line = self.order("calls")?;
        line.parse()
            .map_err(|_| format!("the fake API server printed '{line}'"))
    }

    /// Lets it carry out a line of `bench-cluster`; its response.
    pub(crate) fn order(&mut self, line: &str) -> Result<String, String> {
        self.line_process.write_line(line)?;
        match self.line_process.read_line()? {
            response if response == "?" => Err(format!("the fake API server cannot '{line}'")),
            response => Ok(response),
        }
    }
}

/// A way to start a program under limits, as its own process (no shell stays).
#[derive(Clone, Debug, Default)]
pub(crate) struct Wrapper(pub(crate) Vec<OsString>);

impl Wrapper {
    /// From the words of a command line that ends where the program's begins.
    pub(crate) fn new(words: &[&str]) -> Self {
        Self(words.iter().map(OsString::from).collect())
    }

    fn command(&self, program: PathBuf) -> Command {
        match self.0.split_first() {
            None => Command::new(program),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        }
    }
}

/// A server that is measured.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    /// The log of the service, where [`Launch::log`] keeps it.
    pub(crate) log: Log,
}

/// How the service is started.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    pub(crate) wrapper: Wrapper,
    /// Settings besides those that every start needs, as flags.
    pub(crate) flags: Vec<String>,
    /// Whether it logs at its default level, into [`Served::log`]; otherwise errors are shown.
    pub(crate) log: bool,
    /// How long it may take until it is ready.
    pub(crate) longest: Duration,
}

impl Default for Launch {
    fn default() -> Self {
        Self {
            wrapper: Wrapper::default(),
            flags: Vec::new(),
            log: false,
            longest: START_MAX,
        }
    }
}

/// The lines that a process has logged: their number, and the last of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<(u64, String)>>);

impl Log {
    /// Reads them in a thread of its own, so that the process never waits for us.
    fn of(stderr: ChildStderr) -> Self {
        let log = Self::default();
        let copy = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut kept = copy.0.lock().unwrap_or_else(PoisonError::into_inner);
                *kept = (kept.0 + 1, line);
            }
        });
        log
    }

    pub(crate) fn lines(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn last(&self) -> String {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.1.clone()
    }
}

/// Starts the service over a fake API server, and waits until it is ready.
pub(crate) fn service(kubeconfig: &str, wrapper: &Wrapper) -> Result<Served, String> {
    let wrapper = wrapper.clone();
    let launch = Launch {
        wrapper,
        ..Launch::default()
    };
    launched(kubeconfig, &launch)
}

/// Starts the service in this way, and waits until it is ready.
pub(crate) fn launched(kubeconfig: &str, launch: &Launch) -> Result<Served, String> {
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|any| any.local_addr());
    let address = free.map_err(|error| format!("no port is free: {error}"))?;
    let mut command = launch.wrapper.command(built("SERVICE")?);
    command
        .env_clear()
        .arg("--listen=127.0.0.1")
        .arg(format!("--service-port={}", address.port()))
        .arg(format!("--kubeconfig={kubeconfig}"))
        .args(&launch.flags)
        .stdin(Stdio::null());
    match launch.log {
        true => command.stderr(Stdio::piped()),
        false => command.arg("--log-level=error"),
    };
    let mut process = Process::spawn(&mut command)?;
    let log = process.child.stderr.take().map(Log::of).unwrap_or_default();
    let deadline = Instant::now() + launch.longest;
    let timeout = Duration::from_secs(1);
    while client::status(address, OURSELVES, "/readyz", timeout).ok() != Some(200) {
        if let Some(status) = process.ended() {
            return Err(format!("the service ended: {status}; {}", log.last()));
        }
        if Instant::now() > deadline {
            let (longest, last) = (launch.longest.as_secs(), log.last());
            return Err(format!("not ready within {longest} s; {last}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(Served {
        process,
        address,
        log,
    })
}

/// Starts one of the bare programs.
pub(crate) fn bare(arguments: &[&str], wrapper: &Wrapper) -> Result<Served, String> {
    let mut command = wrapper.command(built("BARE")?);
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = Process::spawn(&mut command)?;
    let mut line = String::new();
    if let Some(stdout) = process.child.stdout.take() {
        let read = BufReader::new(stdout).read_line(&mut line);
        read.map_err(|error| format!("a bare program does not respond: {error}"))?;
    }
    let address = line.trim().parse();
    let address = address.map_err(|_| format!("a bare program did not start: '{line}'"))?;
    Ok(Served {
        process,
        address,
        log: Log::default(),
    })
}

/// A number from `/proc/ID/status`; memory in KiB. 0 when the process has gone.
pub(crate) fn status_of(id: u32, field: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let value = text.lines().find_map(|line| {
        let rest = line.strip_prefix(field)?.strip_prefix(':')?;
        rest.split_whitespace().next()?.parse().ok()
    });
    value.unwrap_or(0)
}

/// How many files it has open. 0 when the process has gone.
pub(crate) fn files_of(id: u32) -> usize {
    fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count)
}

/// The processor time it has used.
pub(crate) fn processor_time_of(id: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    // Fields 14 and 15 of proc(5), in hundredths of a second on every Linux there is.
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Resets the peak of its memory (`VmHWM`).
pub(crate) fn reset_peak(id: u32) -> Result<(), String> {
    fs::write(format!("/proc/{id}/clear_refs"), "5")
        .map_err(|error| format!("the peak of memory cannot be reset: {error}"))
}
