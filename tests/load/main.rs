//! Callers inside the cluster that never pause, and the result of each of their requests.
//!
//! `tests/it/in_cluster/upgrade.rs` runs this program in pods. Its callers are threads. Some keep
//! their connection as long as the server permits, as clients of the contract do; others open a new
//! one for each request. No caller retries: every unexpected response, a reset included, is a
//! failure. The program prints how many requests each caller sent, and exits with 1 if one of them
//! failed.

/// The tests' HTTP client, of which this program needs a part.
#[allow(dead_code)]
#[path = "../it/harness/http.rs"]
mod http;
mod interface;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{Connection, Response};
use interface::{CALLS, HOST, PORT, READY, SHARED, STOP};

/// How long a caller waits for a response.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The callers stop after this time even if the test that started them does not stop them.
const LOAD_MAX: Duration = Duration::from_secs(240);

/// Between two requests of one caller, so that a small machine is not overloaded.
const PAUSE: Duration = Duration::from_millis(10);

/// How many requests each caller must have sent before the pod reports that all of them call.
const WARM: usize = 10;

/// How a caller treats its connection.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    /// Uses it until the server sends `Connection: close`.
    Keeps,
    /// Opens a new one for each request, and announces it.
    Opens,
}

/// What a caller sends, again and again.
#[derive(Clone, Copy)]
enum Call {
    /// GET of the ready instance.
    Find,
    /// PATCH of it.
    Label,
    /// GET of a new name, then its DELETE.
    StartAndStop,
}

const CALLERS: &[(&str, Habit, Call)] = &[
    ("finds, connection kept", Habit::Keeps, Call::Find),
    ("finds, connection kept too", Habit::Keeps, Call::Find),
    ("finds, new connections", Habit::Opens, Call::Find),
    ("labels, connection kept", Habit::Keeps, Call::Label),
    ("labels, new connections", Habit::Opens, Call::Label),
    (
        "starts and stops, connection kept",
        Habit::Keeps,
        Call::StartAndStop,
    ),
    (
        "starts and stops, new connections",
        Habit::Opens,
        Call::StartAndStop,
    ),
];

/// One thread, and its account.
struct Caller<'a> {
    address: SocketAddr,
    habit: Habit,
    connection: Option<Connection>,
    sent: &'a AtomicUsize,
    failures: &'a Mutex<Vec<String>>,
    began: Instant,
}

impl Caller<'_> {
    /// Sends a request and reads its response, which must have one of these codes.
    fn ask(&mut self, method: &str, path: &str, body: &str, good: &[u16]) {
        let at = self.began.elapsed();
        let wrong = match self.response(method, path, body) {
            Ok(response) if good.contains(&response.status) => None,
            Ok(response) => Some(format!("{} {}", response.status, response.text)),
            Err(error) => Some(format!("{:?}: {error}", error.kind())),
        };
        self.sent.fetch_add(1, Ordering::SeqCst);
        if let Some(wrong) = wrong {
            self.connection = None;
            let report = format!(
                "{at:?} +{:?}: {method} {path}: {wrong}",
                self.began.elapsed() - at
            );
            self.failures
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(report);
        }
    }

    fn response(&mut self, method: &str, path: &str, body: &str) -> std::io::Result<Response> {
        let mut headers = vec![("Content-Type", "application/json")];
        if self.habit == Habit::Opens {
            headers.push(("Connection", "close"));
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.address)?,
        };
        connection.send(method, path, &headers, body)?;
        let response = connection.read(false)?;
        if response.header("connection") != "close" {
            self.connection = Some(connection);
        }
        Ok(response)
    }

    fn call(&mut self, call: Call, name: &str) {
        match call {
            Call::Find => self.ask("GET", READY, "", &[200]),
            Call::Label => self.ask("PATCH", READY, &format!(r#"{{"by":"{name}"}}"#), &[200]),
            Call::StartAndStop => {
                let path = format!("/app/stand-in/{name}");
                self.ask("GET", &path, "", &[200, 202]);
                self.ask("DELETE", &path, "", &[200]);
            }
        }
    }
}

fn main() -> ExitCode {
    let host = std::env::var(HOST).expect("the variable names a host");
    let pod = std::env::var("HOSTNAME").expect("a pod has a name");
    let address = (host.as_str(), PORT).to_socket_addrs();
    let address = address
        .unwrap_or_else(|error| panic!("{host}: {error}"))
        .next();
    let address = address.expect("a name has an address");
    let shared = Path::new(SHARED);
    let began = Instant::now();
    let is_over = || began.elapsed() > LOAD_MAX || shared.join(STOP).exists();
    let counts: Vec<AtomicUsize> = CALLERS.iter().map(|_| AtomicUsize::new(0)).collect();
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for (number, ((_, habit, call), sent)) in CALLERS.iter().zip(&counts).enumerate() {
            let mut caller = Caller {
                address,
                habit: *habit,
                connection: None,
                sent,
                failures: &failures,
                began,
            };
            let stem = format!("{pod}-{number}");
            scope.spawn(move || {
                while !is_over() {
                    caller.call(
                        *call,
                        &format!("{stem}-{}", caller.sent.load(Ordering::SeqCst)),
                    );
                    std::thread::park_timeout(PAUSE);
                }
            });
        }
        while !is_over()
            && counts
                .iter()
                .any(|count| count.load(Ordering::SeqCst) < WARM)
        {
            std::thread::park_timeout(PAUSE);
        }
        let report = std::fs::write(shared.join(format!("{pod}{CALLS}")), "");
        report.expect("the shared folder can be written to");
    });
    let failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    for ((what, ..), count) in CALLERS.iter().zip(&counts) {
        println!("LOAD {}: {} requests", what, count.load(Ordering::SeqCst));
    }
    if !shared.join(STOP).exists() {
        println!("the test did not stop this pod within {LOAD_MAX:?}");
        return ExitCode::FAILURE;
    }
    if failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("{} failed:\n{}", failures.len(), failures.join("\n"));
    ExitCode::FAILURE
}
