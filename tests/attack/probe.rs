//! The well-behaved client: a process of its own at an address of its own (127.0.0.2). So neither
//! the attack's work nor the bound on connections of one peer affects its measurements.
//!
//! It requests the same path every 2 ms, over a connection that it keeps for 20 requests. Opening
//! the next one is part of that request's time, so accepting is measured too. A request that fails,
//! or takes a second, counts with its time and as a failure. Beside them it sends liveness probes as
//! a kubelet does.

use crate::client::{self, Client, get};
use crate::environment::LineProcess;
use crate::strikes::Aim;
use std::io::BufRead as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PAUSE: Duration = Duration::from_millis(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const REQUESTS_PER_CONNECTION: u32 = 20;

/// How often the liveness probe is asked for, over a new connection each time.
const LIVE_PAUSE: Duration = Duration::from_millis(100);

/// The kubelet's own, in the manifests.
const LIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// The client's measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) asked: u64,
    pub(crate) failed: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// The longest time of a liveness probe; one that failed counts with its timeout.
    pub(crate) live: Duration,
}

/// The handle of the process that started the client.
#[derive(Debug)]
pub(crate) struct Probe(LineProcess);

impl Probe {
    /// Starts it; it sends requests from now on.
    pub(crate) fn start(aim: &Aim) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["probe", &aim.to_json()]);
        LineProcess::spawn(&mut command).map(Self)
    }

    /// Its measurements since the last report.
    pub(crate) fn report(&mut self) -> Result<Observed, String> {
        self.0.write_line("report")?;
        let line = self.0.read_line()?;
        let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [asked, failed, p50, p99, live] => Ok(Observed {
                asked,
                failed,
                p50: Duration::from_micros(p50),
                p99: Duration::from_micros(p99),
                live: Duration::from_micros(live),
            }),
            _ => Err(format!("the well-behaved client printed '{line}'")),
        }
    }

    /// Its measurements during this time, from now on.
    pub(crate) fn watch(&mut self, time: Duration) -> Result<Observed, String> {
        self.report()?;
        std::thread::sleep(time);
        self.report()
    }
}

/// The client itself, until the end of its input.
pub(crate) fn run(aim: &Aim) {
    let (asked, asking) = channel();
    std::thread::spawn(move || listen(&asked));
    let live = poll_live(aim);
    let request = get(&aim.path, &aim.lines);
    let mut times: Vec<u128> = Vec::new();
    let mut failed = 0;
    let mut connection: Option<Client> = None;
    let mut left = 0;
    loop {
        match asking.recv_timeout(PAUSE) {
            Ok(()) => {
                times.sort_unstable();
                let at = |part: usize| times.get(times.len() * part / 100).copied();
                let (p50, p99) = (at(50).unwrap_or(0), at(99).unwrap_or(0));
                let live = live.swap(0, Ordering::SeqCst);
                println!("{} {failed} {p50} {p99} {live}", times.len());
                times.clear();
                failed = 0;
                continue;
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let begun = Instant::now();
        if left == 0 {
            connection = None;
            left = REQUESTS_PER_CONNECTION;
        }
        left -= 1;
        if ask(&mut connection, aim.address, &request) != Some(200) {
            failed += 1;
            left = 0;
        }
        times.push(begun.elapsed().as_micros());
    }
}

/// Sends liveness probes from a thread of its own; their longest time in microseconds.
fn poll_live(aim: &Aim) -> Arc<AtomicU64> {
    let longest = Arc::new(AtomicU64::new(0));
    let shared = Arc::clone(&longest);
    let (address, path) = (aim.address, aim.live.clone());
    std::thread::spawn(move || {
        loop {
            let begun = Instant::now();
            let status = client::status(address, FROM, &path, LIVE_TIMEOUT);
            let took = match status {
                Ok(200) => begun.elapsed(),
                _ => LIVE_TIMEOUT,
            };
            let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            shared.fetch_max(micros, Ordering::SeqCst);
            std::thread::sleep(LIVE_PAUSE);
        }
    });
    longest
}

fn ask(connection: &mut Option<Client>, address: SocketAddr, request: &[u8]) -> Option<u16> {
    let client = match connection {
        Some(client) => client,
        None => connection.insert(Client::new(address, FROM, TIMEOUT).ok()?),
    };
    client.ask(request).ok().map(|(status, _)| status)
}

fn listen(asked: &Sender<()>) {
    for line in std::io::stdin().lock().lines() {
        if line.is_err() || asked.send(()).is_err() {
            return;
        }
    }
}
