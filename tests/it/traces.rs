//! Requests and starts as spans, at the tests' collector.
//!
//! Without the cargo feature `traces` there is one test: that nothing is sent.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};

use crate::harness::{Client, TestEnvironment, eventually};

#[cfg(feature = "traces")]
mod collector;
#[cfg(feature = "traces")]
mod spans;

/// The program with these settings, killed when it is dropped.
struct Program {
    child: Child,
    log: BufReader<ChildStderr>,
    /// Its log until it was ready.
    log_text: String,
    client: Client,
}

impl Program {
    /// Starts it, and waits until it is ready.
    #[track_caller]
    fn start(environment: &TestEnvironment, settings: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_config-controller"))
            .env_clear()
            .env("KUBECONFIG", environment.kubeconfig())
            .env("SERVICE_PORT", "0")
            .env("LISTEN", "127.0.0.1")
            .env("DRAIN_DELAY", "0s")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let mut log = BufReader::new(child.stderr.take().expect("its standard error is ours"));
        let mut log_text = String::new();
        while !log_text.contains(" serves namespace ") {
            let read = log.read_line(&mut log_text).expect("a log is text");
            assert!(read > 0, "it ended before it served: {log_text}");
        }
        let address = log_text.trim_end().rsplit(' ').next().unwrap_or_default();
        let client = Client::new(address.parse().expect("the log has the address"));
        eventually("it is ready", || {
            (client.get("/readyz").status == 200).then_some(())
        });
        Self {
            child,
            log,
            log_text,
            client,
        }
    }

    /// Sends SIGTERM, waits for the exit, and returns the whole log.
    #[track_caller]
    fn end(mut self) -> String {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
        assert!(sent.expect("there is a kill program").success());
        let mut log_text = std::mem::take(&mut self.log_text);
        self.log
            .read_to_string(&mut log_text)
            .expect("a log is text");
        let status = self.child.wait().expect("a child can be waited for");
        assert_eq!(status.code(), Some(0), "{log_text}");
        log_text
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this port has had a connection.
fn was_asked(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).expect("a socket");
    listener.accept().is_ok()
}

/// Runs the program, with a collector that may or may not be asked for something.
#[track_caller]
fn run(name: &str, more: &[(&str, &str)]) -> (bool, String) {
    let environment = TestEnvironment::builder().unstarted().start();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let endpoint = format!("http://{address}");
    let mut settings = vec![(name, &*endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "1")];
    settings.extend_from_slice(more);
    let program = Program::start(&environment, &settings);
    program.client.get("/app").expect(200);
    let log_text = program.end();
    (was_asked(&listener), log_text)
}

#[test]
fn without_an_endpoint_nothing_is_sent() {
    let (asked, _) = run("OTEL_SERVICE_NAME", &[]);
    assert!(!asked);
}

/// The same collector, which is asked where nothing is in the way.
#[test]
fn settings_that_turn_traces_off() {
    let name = "OTEL_EXPORTER_OTLP_ENDPOINT";
    assert!(!run(name, &[("OTEL_SDK_DISABLED", "true")]).0);
    assert!(!run(name, &[("OTEL_TRACES_EXPORTER", "none")]).0);
    let (asked, log_text) = run(name, &[]);
    assert_eq!(asked, cfg!(feature = "traces"), "{log_text}");
    let without = "built without the feature `traces`";
    assert_eq!(
        log_text.contains(without),
        !cfg!(feature = "traces"),
        "{log_text}"
    );
}
