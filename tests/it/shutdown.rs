//! Shutdown of a replica: every request gets its response.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{Client, Connection, TestEnvironment, eventually};

/// Long enough for a busy machine to look at what goes on meanwhile.
const DELAY: Duration = Duration::from_secs(3);

/// When it is over at the latest.
const LONGEST: Duration = Duration::from_secs(60);

#[test]
fn requests_are_served_while_endpoints_are_removed() {
    let mut environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    let client = environment.client();
    let service = environment.take_service();
    let ending = std::thread::spawn(move || service.drain(DELAY, LONGEST));
    eventually("readyz reports draining", || {
        let response = client.get("/readyz");
        (response.status == 503).then(|| response.expect_error(503, "draining"))
    });
    let response = client.get("/app/hello/ann");
    response.expect_text(200, &format!(r#"{{"ip":"{ip}"}}"#));
    assert_eq!(response.header("connection"), "close");
    client.get("/app/hello/new").expect(200);
    client.get("/livez").expect(200);
    let ended = ending.join().expect("the draining thread ends");
    assert_eq!(ended, Ok(()));
    assert_eq!(
        environment.jobs().len(),
        2,
        "instances are never stopped by our own end"
    );
}

#[test]
fn writes_in_flight_are_carried_out() {
    let mut environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    environment.start_instance("/app/hello/bob");
    for (verb, resource) in [("patch", "pods"), ("delete", "jobs")] {
        let fails = FaultRule::new(verb, resource, Fault::Status(503));
        environment.kube.fault(fails);
    }
    let (client, address) = (environment.client(), environment.address(0));
    let json = [("Content-Type", "application/json")];
    let label = client.begin("PATCH", "/app/hello/ann", &json, r#"{"by":"me"}"#);
    let stop = client.begin("DELETE", "/app/hello/bob", &[], "");
    eventually("both are tried", || {
        let tried = |verb, resource| environment.kube.count(verb, resource) > 0;
        (tried("patch", "pods") && tried("delete", "jobs")).then_some(())
    });
    let service = environment.take_service();
    let ending = std::thread::spawn(move || service.drain(Duration::ZERO, LONGEST));
    // That is after all waiters were answered.
    eventually("connections are refused", || {
        Connection::open(address).is_err().then_some(())
    });
    assert!(!label.is_answered() && !stop.is_answered());
    environment.kube.clear_faults();
    label.finish().expect(200);
    stop.finish().expect(200);
    let ended = ending.join().expect("the draining thread ends");
    assert_eq!(ended, Ok(()));
    assert_eq!(environment.jobs(), ["hello-ann"]);
}

/// Requests that wait when the end comes, each for an instance of its own.
const PARKED: usize = 500;

/// How long a connection may be silent before it is closed, once the end has begun.
const IDLE: Duration = Duration::from_secs(5);

/// Sends a GET for each of [`PARKED`] names on connections that stay open, and waits until all
/// of them wait. A request waits before its Job is made, so the Jobs show it.
#[track_caller]
fn park(environment: &TestEnvironment, address: SocketAddr) -> Vec<Connection> {
    let before = environment.jobs().len();
    let parked = (0..PARKED).map(|number| {
        let mut connection = Connection::open(address).expect("a connection");
        let path = format!("/app/hello/n{number}");
        let sent = connection.send("GET", &path, &[], "");
        sent.expect("a request");
        connection
    });
    let parked = parked.collect();
    eventually("all wait", || {
        (environment.jobs().len() == before + PARKED).then_some(())
    });
    parked
}

/// A connection that has had a response and is kept; and when its silence began at the earliest.
#[track_caller]
fn keep(address: SocketAddr) -> (Connection, Instant) {
    let mut idle = Connection::open(address).expect("a connection");
    let since = Instant::now();
    idle.send("GET", "/livez", &[], "").expect("a request");
    let response = idle.read(false).expect("a response");
    assert_eq!((response.status, response.header("connection")), (200, ""));
    (idle, since)
}

/// A waiter gets the phase of the start, and its connection ends.
#[track_caller]
fn check_202(parked: &mut Connection) {
    let response = parked
        .read(false)
        .expect("every waiting request is answered");
    assert_eq!(response.header("connection"), "close");
    assert_eq!(response.header("content-type"), "application/json");
    let body = response.expect(202);
    assert_eq!(body["status"], "node_not_ready");
}

/// A request after that, on a connection that was kept, is 503.
#[track_caller]
fn check_late(idle: &mut Connection) {
    let sent = idle.send("GET", "/app/hello/late", &[], "");
    sent.expect("a request");
    let late = idle.read(false).expect("a response");
    late.expect_error(503, "draining");
    assert_eq!(late.header("connection"), "close");
}

/// Waits until the other side closes this one, and checks that it was not too early.
#[track_caller]
fn check_closed_when_idle((mut idle, since): (Connection, Instant)) {
    let end = idle.read(false).expect_err("it is closed");
    assert_eq!(end.kind(), ErrorKind::UnexpectedEof);
    assert!(since.elapsed() >= IDLE, "{:?}", since.elapsed());
}

#[test]
fn on_shutdown_all_of_500_waiters_are_answered() {
    let mut environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("START_WAIT", "300s")
        .start();
    let (client, address) = (environment.client(), environment.address(0));
    let first = client.begin_get("/app/hello/ann");
    environment.make_ready("hello-ann");
    first.finish().expect(200);
    let mut parked = park(&environment, address);
    let last_waiter = client.begin_get("/app/hello/last");
    environment.wait_job("hello-last");
    let (mut kept, idle) = (keep(address).0, keep(address));
    let service = environment.take_service();
    let delay = Duration::from_secs(2);
    let began = Instant::now();
    let ending = std::thread::spawn(move || service.drain(delay, LONGEST));
    eventually("readyz reports draining", || {
        let response = client.get("/readyz");
        (response.status == 503).then(|| response.expect_error(503, "draining"))
    });
    client.get("/app/hello/ann").expect(200);
    let answered = last_waiter.is_answered();
    assert!(
        !answered || began.elapsed() >= delay,
        "waiting requests are not answered during the delay"
    );
    check_202(&mut parked[0]);
    assert!(began.elapsed() >= delay, "{:?}", began.elapsed());
    check_late(&mut kept);
    parked[1..].iter_mut().for_each(check_202);
    last_waiter.finish().expect(202);
    check_closed_when_idle(idle);
    let ended = ending.join().expect("the draining thread ends");
    assert_eq!(ended, Ok(()));
    assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
    assert_eq!(environment.jobs().len(), PARKED + 2, "instances go on");
}

/// The program, killed when it is dropped, and a thread that gathers its log.
struct Program {
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Program {
    /// Starts it, and waits until it has logged its address.
    #[track_caller]
    fn start(kubeconfig: &Path) -> (Self, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_config-controller"))
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("SERVICE_PORT", "0")
            .env("LISTEN", "127.0.0.1")
            .env("START_WAIT", "300s")
            .env("DRAIN_DELAY", "1s")
            .env("DRAIN", format!("{}s", LONGEST.as_secs()))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let log = child.stderr.take().expect("its standard error is ours");
        let mut log = BufReader::new(log);
        let mut line = String::new();
        while !line.contains(" serves namespace ") {
            line.clear();
            let read = log.read_line(&mut line).expect("a log is text");
            assert!(read > 0, "it ended before it served");
        }
        let address = line.trim_end().rsplit(' ').next();
        let address = address.and_then(|text| text.parse().ok());
        let gather = move || {
            let mut rest = String::new();
            log.read_to_string(&mut rest).expect("a log is text");
            rest
        };
        let log = Some(std::thread::spawn(gather));
        (
            Self { child, log },
            address.expect("the log has the address"),
        )
    }

    /// How it ended, and its log.
    fn ended(mut self) -> (ExitStatus, String) {
        let log = self.log.take().expect("it is taken once");
        let log = log.join().expect("the log is read to its end");
        (self.child.wait().expect("a child can be waited for"), log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn sigterm_with_500_waiters_exits_with_0() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .unstarted()
        .start();
    let (program, address) = Program::start(&environment.kubeconfig());
    eventually("it is ready", || {
        let ready = Client::new(address).get("/readyz");
        (ready.status == 200).then_some(())
    });
    let mut parked = park(&environment, address);
    let (mut kept, idle) = (keep(address).0, keep(address));
    let began = Instant::now();
    let id = program.child.id().to_string();
    let sent = Command::new("kill").args(["-s", "TERM", &id]).status();
    assert!(sent.expect("there is a kill program").success());
    check_202(&mut parked[0]);
    check_late(&mut kept);
    parked[1..].iter_mut().for_each(check_202);
    check_closed_when_idle(idle);
    let (status, log) = program.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(began.elapsed() < LONGEST, "{:?}", began.elapsed());
    assert!(
        log.trim_end().ends_with("shut down"),
        "nothing is cut: {log}"
    );
    assert_eq!(environment.jobs().len(), PARKED, "instances go on");
}
