//! The API server is unreachable for 20 s: ready instances are still found, and everything works
//! soon after.
//!
//! On a cluster of its own; `tests/cluster/apiserver` kills and restarts its API server.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::environment::{STAND_IN, TestEnvironment, real};
use super::eventually;
use super::program::{Got, Program};
use crate::cluster;

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(20);

/// When everything must work again after its return.
const BACK: Duration = Duration::from_secs(2);

/// Instances that are only read.
const READY: [&str; 3] = ["/app/hello/ann", "/app/hello/bob", "/app/hello/eve"];

/// The instance that is labelled and stopped.
const OTHER: &str = "/app/hello/other";

#[test]
#[ignore = "needs a cluster"]
fn reads_are_served_while_the_api_server_is_unreachable() {
    let cluster = cluster::own("outage");
    let environment = TestEnvironment::new(&cluster);
    environment.offer("stand-in", "stand-in", STAND_IN);
    environment.offer("quick", "quick", &quick());
    let program = environment.program();
    program.get_prefer(OTHER, super::LONG_WAIT).ip();
    let ready = READY.map(|path| (path, program.get_prefer(path, super::LONG_WAIT).expect(200)));

    let (sender, receiver) = channel();
    let (reads, starts) = std::thread::scope(|scope| {
        let (stop_reads, reads_stopped) = channel();
        let (stop_starts, starts_stopped) = channel();
        let (program, ready) = (&program, &ready);
        let reader = move || read_on(program, ready, &reads_stopped);
        let reader = scope.spawn(reader);
        cluster.apiserver("stop");
        let stopped = Instant::now();
        let starter = move || start_on(program, &sender, &starts_stopped);
        let starter = scope.spawn(starter);
        check_refusals(program, &receiver, stopped);
        let _alone = cluster::alone();
        cluster.apiserver("start");
        let back = Instant::now();
        check_recovery(&environment, program, back);
        drop((stop_reads, stop_starts));
        (join(reader), join(starter))
    });
    cluster::print_line(&format!(
        "FIGURE while the API server was away and came back: {reads} reads of ready instances, none failed; \
         starts: {starts}"
    ));
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().expect("its checks hold")
}

/// Whether the other end still wants us to go on; waits for a moment.
fn continues(stop: &Receiver<()>, pause: Duration) -> bool {
    stop.recv_timeout(pause) == Err(RecvTimeoutError::Timeout)
}

/// Reads instances that are ready until stopped, and returns how often.
fn read_on(program: &Program, ready: &[(&str, serde_json::Value)], stop: &Receiver<()>) -> usize {
    let mut count = 0;
    while continues(stop, Duration::from_millis(5)) {
        for (path, expected) in ready {
            assert_eq!(program.get(path).expect(200), *expected);
        }
        assert_eq!(program.get("/app").code, 200);
        assert_eq!(program.get("/readyz").code, 200, "replicas stay ready");
        count += ready.len();
    }
    count
}

/// Starts one new name after the other until `stop` closes. Sends each response while the receiver
/// exists, and returns the number of responses by status code.
///
/// It continues while the API server restarts: a 403 that it returns while it loads its RBAC must
/// not reach a caller.
fn start_on(program: &Program, sender: &Sender<(Got, Duration)>, stop: &Receiver<()>) -> String {
    let mut counts = std::collections::BTreeMap::new();
    let mut number = 0;
    while continues(stop, Duration::from_millis(50)) {
        number += 1;
        let began = Instant::now();
        let got = program.get(&format!("/app/stand-in/new-{number}"));
        assert!(
            [200, 202, 503].contains(&got.code),
            "{}: {}",
            got.code,
            got.body
        );
        *counts.entry(got.code).or_insert(0) += 1;
        let _ = sender.send((got, began.elapsed()));
    }
    format!("{counts:?} (how many of each code)")
}

/// For as long as it is away, starts get 503 soon; so do a DELETE and a PATCH.
fn check_refusals(program: &Program, receiver: &Receiver<(Got, Duration)>, stopped: Instant) {
    let mut slowest = Duration::ZERO;
    for what in ["delete", "patch"] {
        let began = Instant::now();
        let got = match what {
            "delete" => program.delete(OTHER),
            _ => program.patch(OTHER, r#"{"username": "ann"}"#),
        };
        check_unavailable(&got);
        slowest = slowest.max(began.elapsed());
    }
    let mut refused = 0;
    while let Some(left) = AWAY.checked_sub(stopped.elapsed()) {
        let Ok((got, took)) = receiver.recv_timeout(left) else {
            break;
        };
        check_unavailable(&got);
        slowest = slowest.max(took);
        refused += 1;
    }
    assert!(refused >= 3, "{refused}");
    assert!(slowest < Duration::from_secs(4), "{slowest:?}");
    cluster::print_line(&format!(
        "FIGURE API server away: {refused} starts, a DELETE and a PATCH answered 503 after at most {} ms",
        slowest.as_millis()
    ));
}

#[track_caller]
fn check_unavailable(got: &Got) {
    assert_eq!(got.code, 503, "{}", got.body);
    assert!(got.retry_after.is_some(), "{}", got.body);
    assert!(
        got.body.to_string().contains("kubernetes_unavailable"),
        "{}",
        got.body
    );
}

/// After its return reads are fresh, and a start, a PATCH, a DELETE and a new template work.
///
/// Kubernetes' own controllers take a while to recover, too. So a start may last as long as that of
/// a Job which an administrator makes at the same time, and hardly longer.
fn check_recovery(environment: &TestEnvironment<'_>, program: &Program, back: Instant) {
    environment.offer("late", "late", STAND_IN);
    let within = |what: &'static str, done: &dyn Fn() -> bool| {
        let millis = eventually(what, || done().then(|| back.elapsed().as_millis()));
        (what, millis)
    };
    let done = |got: Got| got.code == 200;
    let (times, start, control) = std::thread::scope(|scope| {
        let start = scope.spawn(|| {
            within("a start of a real pod", &|| {
                done(program.get_prefer("/app/quick/after", "wait=5"))
            })
        });
        let control = scope.spawn(|| {
            environment.make_job("control", &quick());
            within("a Job of an administrator", &|| {
                environment.is_running("control")
            })
        });
        let times = [
            within("a start is taken up", &|| {
                environment.has_job("quick-after")
            }),
            within("fresh reads", &|| {
                program.get("/app/hello").cache_age.is_none()
            }),
            within("a new template", &|| {
                program.get("/app").body.to_string().contains("\"late\"")
            }),
            within("a PATCH", &|| {
                done(program.patch(OTHER, r#"{"username": "x"}"#))
            }),
            within("a DELETE", &|| done(program.delete(OTHER))),
        ];
        (times, join(start), join(control))
    });
    cluster::print_line(&format!(
        "FIGURE ms after the API server's return until this worked: {times:?}, {start:?}, and to compare {control:?}"
    ));
    for (what, millis) in times {
        assert!(millis < BACK.as_millis(), "{what}: {millis} ms");
    }
    let (start, control) = (start.1, control.1);
    assert!(start < control + 1000, "{start} ms, control {control} ms");
}

/// A template of real pods without a probe, whose period would be measured too.
fn quick() -> String {
    let template = real("quick", 1, &[]);
    let (quick, _) = template
        .split_once("    readinessProbe")
        .expect("it has one");
    quick.to_owned()
}
