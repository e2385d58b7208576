//! The well-behaved client: a process of its own at an address of its own (127.0.0.2). So neither
//! the attack's work nor the bound on connections of one peer affects its measurements.
//!
//! It requests the same path every 2 ms, over a connection that it keeps for 20 requests. Opening
//! the next one is part of that request's time, so accepting is measured too. A request that fails,
//! or takes a second, counts with its time and as a failure.

use crate::client::{Client, get};
use crate::environment::LineProcess;
use std::io::BufRead as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const PAUSE: Duration = Duration::from_millis(2);
const TIMEOUT: Duration = Duration::from_secs(1);
const REQUESTS_PER_CONNECTION: u32 = 20;

/// The client's measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) asked: u64,
    pub(crate) failed: u64,
    pub(crate) p99: Duration,
}

/// The handle of the process that started the client.
#[derive(Debug)]
pub(crate) struct Probe(LineProcess);

impl Probe {
    /// Starts it; it sends requests from now on.
    pub(crate) fn start(address: SocketAddr, path: &str) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.args(["probe", &address.to_string(), path]);
        LineProcess::spawn(&mut command).map(Self)
    }

    /// Its measurements since the last report.
    pub(crate) fn report(&mut self) -> Result<Observed, String> {
        self.0.write_line("report")?;
        let line = self.0.read_line()?;
        let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        match numbers[..] {
            [asked, failed, p99] => Ok(Observed {
                asked,
                failed,
                p99: Duration::from_micros(p99),
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
pub(crate) fn run(address: SocketAddr, path: &str) {
    let (asked, asking) = channel();
    std::thread::spawn(move || listen(&asked));
    let request = get(path, "");
    let mut times: Vec<u128> = Vec::new();
    let mut failed = 0;
    let mut connection: Option<Client> = None;
    let mut left = 0;
    loop {
        match asking.recv_timeout(PAUSE) {
            Ok(()) => {
                times.sort_unstable();
                let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or(0);
                println!("{} {failed} {p99}", times.len());
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
        if ask(&mut connection, address, &request) != Some(200) {
            failed += 1;
            left = 0;
        }
        times.push(begun.elapsed().as_micros());
    }
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
