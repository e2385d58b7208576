//! The demo app: a page that says which instance responds. It runs in the pods of `manifests/demo`, and
//! in those of the cluster tests, which need apps that fail in every way.
//!
//! Its environment says what it does, so that a template shows what happens:
//!
//! | variable | meaning, and default |
//! |---|---|
//! | `PORT` | the port of its page (8080) |
//! | `INSTANCE` | the text of the page |
//! | `START_DELAY_SECS` | how long it waits before it listens or exits (0) |
//! | `EXIT_CODE` | it exits with this code instead of serving |
//! | `EXIT_MESSAGE` | its last line on standard error before that |
//! | `FAILURES` | only so many of its starts fail like that, the later ones serve |
//! | `FAILURES_FILE` | where these are counted, one byte each |
//! | `LOG_MIB` | it writes so much to its standard output, 5 MiB a second, in lines of 1 KiB (0) |
//! | `EAT_MIB` | memory that it takes before it serves, and keeps (0) |
//! | `IGNORE_TERM=1` | it serves on after SIGTERM, until it is killed |
//! | `TERM_EXIT_CODE` | the exit code after SIGTERM (0) |
//!
//! Called as `demo try URL TYPE NAME`, it is the client of `helm test` instead (`trial`); `TOKEN_FILE` is
//! its token then.
//!
//! `tests/image/demo` builds it as a package of its own (the `Cargo.toml` beside it), which takes
//! seconds; as an example of the main package it is linted and tested. It may use nothing but std and
//! signal-hook: its image has a bound of 2 MB.

mod page;
mod trial;

use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::process::ExitCode;
use std::time::Duration;

/// Requests that are served at the same time at most; further ones wait for them.
const THREADS: usize = 8;

const MEBIBYTE: usize = 1 << 20;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.split_first() {
        None => run(),
        Some((command, rest)) if command == "try" => {
            let trial = trial::Trial::new(rest, &variable("TOKEN_FILE"));
            let tried = trial.and_then(|trial| trial.run());
            tried.map(|()| ExitCode::SUCCESS)
        }
        Some((other, _)) => Err(format!("'{other}' is no command; there is: try")),
    };
    match done {
        Ok(code) => code,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// Does what the environment says. An error is one sentence.
fn run() -> Result<ExitCode, String> {
    if variable("IGNORE_TERM") == "1" {
        on_sigterm(|| {})?;
    } else {
        let code = number::<u8>("TERM_EXIT_CODE")?.unwrap_or(0);
        on_sigterm(move || std::process::exit(i32::from(code)))?;
    }
    let delay = number::<u32>("START_DELAY_SECS")?.unwrap_or(0);
    trial::pause(Duration::from_secs(u64::from(delay)));
    if let Some(code) = number::<u8>("EXIT_CODE")?
        && this_start_fails()?
    {
        eprintln!("{}", variable("EXIT_MESSAGE"));
        return Ok(ExitCode::from(code));
    }
    let chatter = number::<u32>("LOG_MIB")?.unwrap_or(0);
    let thread = std::thread::Builder::new().spawn(move || chat(chatter));
    thread.map_err(|error| format!("There is no thread: {error}."))?;
    // Written, not only reserved: untouched pages count against no limit.
    let eaten = vec![1_u8; usize::from(number::<u16>("EAT_MIB")?.unwrap_or(0)) * MEBIBYTE];
    let port = number("PORT")?.unwrap_or(8080);
    let served = serve(port, &variable("INSTANCE"));
    drop(black_box(eaten));
    served.map_err(|error| format!("Port {port} cannot be served: {error}."))?;
    Ok(ExitCode::SUCCESS)
}

/// A variable of the environment; empty where it is not set.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The whole number that a variable holds, if it is set.
fn number<N: std::str::FromStr>(name: &str) -> Result<Option<N>, String> {
    let text = variable(name);
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = |_| format!("{name}: \"{text}\" is not a whole number, or out of range.");
    text.parse().map(Some).map_err(wrong)
}

/// Calls this on each SIGTERM. Process 1 of a container gets no signal that it does not handle.
fn on_sigterm(act: impl Fn() + Send + 'static) -> Result<(), String> {
    let failed = |error: io::Error| format!("SIGTERM cannot be handled: {error}.");
    let mut signals = Signals::new([SIGTERM]).map_err(failed)?;
    let handle = move || signals.forever().for_each(|_| act());
    let thread = std::thread::Builder::new().spawn(handle);
    thread.map(drop).map_err(failed)
}

/// Writes so many MiB to standard output.
fn chat(mebibytes: u32) {
    let line = format!("{}\n", "x".repeat(1023));
    let piece = line.repeat(256);
    for _ in 0..4 * mebibytes {
        if io::stdout().write_all(piece.as_bytes()).is_err() {
            return;
        }
        trial::pause(Duration::from_millis(50));
    }
}

/// Whether this start is one of those that fail, which it counts.
fn this_start_fails() -> Result<bool, String> {
    let Some(most) = number::<usize>("FAILURES")? else {
        return Ok(true);
    };
    let file = variable("FAILURES_FILE");
    // There is no file before the first failure.
    let mut counted = std::fs::read(&file).unwrap_or_default();
    if counted.len() >= most {
        return Ok(false);
    }
    counted.push(b'.');
    let written = std::fs::write(&file, counted);
    written.map_err(|error| format!("FAILURES_FILE: {file} cannot be written: {error}."))?;
    Ok(true)
}

/// Serves the page for as long as the program runs.
fn serve(port: u16, instance: &str) -> io::Result<()> {
    // Both families at once, unless the machine has no IPv6.
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))?;
    println!("{instance:?} listens on {}", listener.local_addr()?);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for connection in listener.incoming() {
                    // A client that disconnects, or is too slow, gets nothing more.
                    let _ = connection.and_then(|connection| {
                        page::respond(connection, || format!("{instance}\n"))
                    });
                }
            });
        }
    });
    Ok(())
}
