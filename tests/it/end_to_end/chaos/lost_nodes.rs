//! A kubelet that stands still for a minute, and one that is gone for good.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use super::super::environment::{STAND_IN, real, text};
use super::super::logs::permit;
use super::super::program::page;
use super::{Fixture, REPLICAS, Report, Scenario, condition, pause, ready_ip};
use crate::logs::Log;

pub(super) const KUBELET_STOPPED: Scenario = Scenario {
    name: "kubelet-stopped",
    must: "the kubelet stands still (SIGSTOP) for 60 s, and an instance is stopped and requested meanwhile: no \
           second pod before it goes on, then each of three waiting callers gets the successor",
    settings: &[],
    blind: Duration::ZERO,
    play: stop_kubelet,
};

/// How long the kubelet stands still. Its Node is not Ready after about 45 s of silence.
const STOPPED: Duration = Duration::from_secs(60);

fn stop_kubelet(fixture: &Fixture<'_>, report: &mut Report) {
    let environment = &fixture.environment;
    environment.offer("held", "held", &real("held", 1, &[]));
    for program in &fixture.replicas {
        program.wait_log("app type held is on offer");
    }
    let (path, kept) = ("/app/held/stopped", "/app/held/kept");
    let (old, kept_ip) = (fixture.start(0, path), fixture.start(1, kept));
    let first = pods_of(fixture, "stopped");
    fixture.signal("kubelet", Signal::STOP);
    let began = Instant::now();
    let got = fixture.ask(0, "DELETE", path, "");
    report.check(got.as_ref().is_some_and(|got| got.code == 200), || {
        format!("DELETE: {got:?}")
    });
    let outcomes: Vec<Result<String, String>> = std::thread::scope(|scope| {
        let callers = (0..REPLICAS).map(|replica| {
            let old = &old;
            scope.spawn(move || await_other(fixture, replica, path, old, Duration::from_secs(180)))
        });
        let callers: Vec<_> = callers.collect();
        pause(STOPPED.saturating_sub(began.elapsed()));
        let still = pods_of(fixture, "stopped");
        let serves = page(old.parse().expect("an address")) == "held";
        fixture.signal("kubelet", Signal::CONT);
        report.seen.push(format!(
            "after {} s: {} pod, its app {}",
            began.elapsed().as_secs(),
            still.len(),
            if serves { "serves" } else { "has ended" },
        ));
        report.check(still == first, || {
            format!("pods of the name while the kubelet stood still: {first:?}, then {still:?}")
        });
        callers
            .into_iter()
            .map(|caller| caller.join().expect("it returns"))
            .collect()
    });
    let served: BTreeSet<&String> = outcomes.iter().flatten().collect();
    report.check(served.len() == 1, || {
        format!("addresses of the successor: {outcomes:?}")
    });
    let after = fixture.start(2, kept);
    report.check(after == kept_ip, || {
        format!("the other instance has moved from {kept_ip} to {after}")
    });
    let problems = outcomes.into_iter().filter_map(Result::err);
    report.problems.extend(problems);
}

/// The UIDs of the pods of a name that have not ended.
fn pods_of(fixture: &Fixture<'_>, name: &str) -> BTreeSet<String> {
    let pods = fixture.environment.list("pods");
    let is_it = |pod: &&Value| {
        let phase = pod["status"]["phase"].as_str().unwrap_or("");
        super::guarantees::instance(pod).is_some_and(|own| own.ends_with(&format!("/{name}")))
            && !["Succeeded", "Failed"].contains(&phase)
    };
    pods.iter()
        .filter(is_it)
        .map(|pod| text(&pod["metadata"]["uid"]))
        .collect()
}

/// Requests an instance until it has another address than this.
fn await_other(
    fixture: &Fixture<'_>,
    replica: usize,
    path: &str,
    old: &str,
    patience: Duration,
) -> Result<String, String> {
    let began = Instant::now();
    let mut last = None;
    while began.elapsed() < patience {
        last = fixture.ask(replica, "GET", path, "wait=60");
        let ip = last.as_ref().and_then(ready_ip);
        if let Some(ip) = ip.filter(|ip| ip != old) {
            return Ok(ip);
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    Err(format!(
        "{path} at replica {replica}: no successor after {patience:?}: {last:?}"
    ))
}

pub(super) const LOST_NODE: Scenario = Scenario {
    name: "lost-node",
    must: "the kubelet is killed for good, and instances are stopped before and after their pods are marked: \
           each name is free when the mark has been seen for 30 s and the grace period is over since 30 s; a \
           log that was followed says that it was cut",
    settings: PATIENT_OF_NODES,
    blind: Duration::ZERO,
    play: lose_node,
};

/// Stand-ins may be slow on a busy machine.
const PATIENT_OF_NODES: &[(&str, &str)] = &[("START_BUDGET_CREATING", "10m")];

/// Grace of the pods on the lost node.
const GRACE: Duration = Duration::from_secs(5);

/// How long the mark must have been seen, and how long the grace period must have been over.
const OVERDUE: Duration = Duration::from_secs(30);

/// What else it takes until the successor is ready on a busy machine: calls, and a start.
const SLACK: Duration = Duration::from_secs(15);

/// Longest time from the last heartbeat to the mark, with room.
const MARK_TIMEOUT: Duration = Duration::from_secs(120);

fn lose_node(fixture: &Fixture<'_>, report: &mut Report) {
    let environment = &fixture.environment;
    environment.offer("lost", "lost", &real("lost", GRACE.as_secs() as u32, &[]));
    for program in &fixture.replicas {
        program.wait_log("app type lost is on offer");
    }
    let names = ["early", "late"];
    let old = names.map(|name| fixture.start(0, &format!("/app/lost/{name}")));
    permit(environment);
    let path = "/app/lost/early/logs?follow=true";
    let mut follow = Log::begin(fixture.replicas[0].address(), path, "");
    follow.until("listens on");
    fixture.signal("kubelet", Signal::KILL);
    let killed = Instant::now();
    let log = follow.body();
    report.check(log.contains("config-controller ends this log here"), || {
        format!("a followed log ended with {log:?}")
    });
    let cut = killed.elapsed().as_secs_f64();
    report
        .seen
        .push(format!("a followed log was cut after {cut:.1} s"));
    // Successors come up on the stand-in node.
    environment.offer("lost", "lost", STAND_IN);
    let began = Instant::now();
    let stop = |name: &str| {
        let got = fixture.ask(1, "DELETE", &format!("/app/lost/{name}"), "");
        got.filter(|got| got.code == 200)
            .expect("it can be stopped");
        Instant::now()
    };
    let early = stop("early");
    let marked = await_mark(fixture, 2);
    report.seen.push(format!(
        "marked {} s after the kill",
        (marked - began).as_secs()
    ));
    let stopped = [early, stop("late")];
    std::thread::scope(|scope| {
        let callers = names
            .iter()
            .zip(&old)
            .zip(stopped)
            .map(|((name, old), stopped)| {
                let path = format!("/app/lost/{name}");
                let due = (marked + OVERDUE).max(stopped + GRACE + OVERDUE);
                let caller = scope.spawn(move || {
                    let found = await_other(fixture, 2, &path, old, Duration::from_secs(180));
                    found.map(|_| Instant::now())
                });
                (name, due, caller)
            });
        for (name, due, caller) in callers.collect::<Vec<_>>() {
            match caller.join().expect("it returns") {
                Err(problem) => report.problems.push(problem),
                Ok(free) => judge(name, due, free, report),
            }
        }
    });
}

/// Whether a name was free when it was due, not before and not much later.
fn judge(name: &str, due: Instant, free: Instant, report: &mut Report) {
    let late = free.saturating_duration_since(due).as_secs_f64();
    let ahead = due.saturating_duration_since(free).as_secs_f64();
    report.seen.push(format!(
        "{name}: free {:+.1} s from when it was due",
        late - ahead
    ));
    report.check(late <= SLACK.as_secs_f64(), || {
        format!("{name} was free {late:.1} s late")
    });
    // Replicas see the mark and the deletion at moments of their own.
    report.check(ahead <= 2.0, || {
        format!("{name} was free {ahead:.1} s too early")
    });
}

/// Waits until so many pods are marked as the node controller does: Ready is False without a reason.
#[track_caller]
fn await_mark(fixture: &Fixture<'_>, count: usize) -> Instant {
    let deadline = Instant::now() + MARK_TIMEOUT;
    loop {
        let pods = fixture.environment.list("pods");
        let is_marked = |pod: &&Value| {
            let ready = condition(pod, "Ready");
            ready.is_some_and(|ready| ready["status"] == "False" && ready["reason"].is_null())
        };
        if pods.iter().filter(is_marked).count() >= count {
            return Instant::now();
        }
        assert!(Instant::now() < deadline, "no mark within {MARK_TIMEOUT:?}");
        pause(Duration::from_millis(200));
    }
}
