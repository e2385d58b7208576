//! Caps on a real API server and Job controller, with three replicas as processes: never more than allowed, all that
//! is allowed, and nobody refused for nothing.
//!
//! `CAPS_ROUNDS` is the number of rounds (3), each with 100 callers.

use super::environment::{STAND_IN, TestEnvironment};
use super::program::Program;
use super::{LONG_WAIT, eventually, number_from_env};
use crate::cluster;
use crate::harness::Response;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ALLOWED: usize = 20;
const CALLERS: usize = 100;
const REPLICAS: usize = 3;

/// So long at most instances come and go until enough was seen.
const CHURN_MAX: Duration = Duration::from_secs(120);

/// What happens to a replica in the middle of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// It stands still for longer than its Jobs may stay undecided.
    Stops,
    /// It is killed, and another one takes its place.
    Dies,
}

fn offer(environment: &TestEnvironment<'_>, settings: &[(&str, &str)]) {
    environment.offer_with("stand-in", "stand-in", STAND_IN, settings);
}

fn begin(replica: &Program, name: &str) -> Option<crate::harness::Pending> {
    let path = format!("/app/stand-in/{name}");
    // With `Prefer: wait` it would wait for a place.
    replica.client().try_begin("GET", &path, &[], "").ok()
}

/// The Jobs that run or may, by name.
fn running(environment: &TestEnvironment<'_>) -> BTreeSet<String> {
    let jobs = environment.list("jobs");
    let running = jobs.iter().filter(|job| job["spec"]["suspend"] == false);
    running
        .map(|job| job["metadata"]["name"].to_string())
        .collect()
}

/// The most Jobs that ran at the same time, as the API server tells it.
pub(super) fn most_running(events: &[Value]) -> usize {
    let (mut running, mut most) = (BTreeSet::new(), 0);
    for event in events {
        let job = &event["object"];
        let uid = job["metadata"]["uid"].to_string();
        if event["type"] == "DELETED" {
            running.remove(&uid);
        } else if job["spec"]["suspend"] == false && job["metadata"]["deletionTimestamp"].is_null()
        {
            running.insert(uid);
        }
        most = most.max(running.len());
    }
    most
}

/// Waits until so many Jobs were made since that version.
fn await_made(environment: &TestEnvironment<'_>, version: &str, count: usize) {
    let path = environment.all("jobs");
    let events = environment
        .api
        .watch(&format!("{path}?watch=1&resourceVersion={version}"));
    let added = events.filter(|event| {
        let event = event.as_ref().expect("whole lines");
        event["type"] == "ADDED"
    });
    assert_eq!(added.take(count).count(), count, "the watch ended");
}

fn stop_all(environment: &TestEnvironment<'_>, replica: &Program) {
    for job in environment.list("jobs") {
        let name = job["metadata"]["name"].as_str().unwrap_or_default();
        let name = name.trim_start_matches("stand-in-");
        let _ = replica.try_send("DELETE", &format!("/app/stand-in/{name}"), "", "");
    }
    eventually("all are gone", || {
        environment.list("jobs").is_empty().then_some(())
    });
}

/// Each refusal says why: another replica may have decided.
fn check_refusal(response: &Response) {
    let text = response.expect_error(429, "limit_reached");
    let texts = [
        "max-instances is 20",
        "not decided in time",
        "the limit of instances is reached",
    ];
    assert!(texts.iter().any(|it| text.contains(it)), "{text}");
}

fn round(environment: &TestEnvironment<'_>, replicas: &mut [Program; REPLICAS], fault: Fault) {
    let version = environment.version("jobs");
    let began = Instant::now();
    let (mut pending, mut broken) = (Vec::new(), 0);
    for number in 0..CALLERS {
        match begin(&replicas[number % REPLICAS], &format!("n{number}")) {
            Some(one) => pending.push(one),
            None => broken += 1,
        }
    }
    if fault != Fault::Nothing {
        await_made(environment, &version, CALLERS / 4);
        match fault {
            Fault::Dies => replicas[0].kill(),
            _ => replicas[0].pause(true),
        }
        let none_is_undecided = || {
            let jobs = environment.list("jobs");
            let mut suspended = jobs.iter().filter(|job| job["spec"]["suspend"] == true);
            suspended.next().is_none().then_some(())
        };
        eventually("the others have decided", none_is_undecided);
        match fault {
            Fault::Dies => [replicas[0]] = environment.replicas(),
            _ => replicas[0].pause(false),
        }
    }
    let (mut ready, mut refused) = (0, 0);
    for one in pending {
        match one.try_finish() {
            Ok(response) if response.status == 200 => ready += 1,
            Ok(response) => {
                check_refusal(&response);
                refused += 1;
            }
            Err(_) => broken += 1,
        }
    }
    let took = began.elapsed();
    eventually("as many as allowed are there, and no others", || {
        let is_so =
            running(environment).len() == ALLOWED && environment.list("jobs").len() == ALLOWED;
        is_so.then_some(())
    });
    let most = most_running(&environment.events_since("jobs", &version));
    cluster::print_line(&format!(
        "FIGURE {CALLERS} callers for {ALLOWED} places, {fault:?}: {ready} ready, {refused} refused, {broken} lost their connection, at most {most} at once, {} ms",
        took.as_millis()
    ));
    assert_eq!(most, ALLOWED);
    assert_eq!(ready + refused + broken, CALLERS);
    if fault != Fault::Dies {
        assert_eq!((ready, broken), (ALLOWED, 0));
    }
    stop_all(environment, &replicas[1]);
}

#[test]
#[ignore = "needs a cluster"]
fn of_100_callers_exactly_20_get_an_instance_whatever_happens_to_a_replica() {
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let environment = TestEnvironment::new(cluster);
    offer(&environment, &[("max-instances", "20")]);
    let mut replicas = environment.replicas();
    for number in 0..number_from_env("CAPS_ROUNDS", 3) {
        let fault = [Fault::Nothing, Fault::Stops, Fault::Dies][number % 3];
        round(&environment, &mut replicas, fault);
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_cap_admits_nobody_until_fewer_are_left() {
    let cluster = cluster::shared();
    let _beside = cluster::beside_others();
    let environment = TestEnvironment::new(cluster);
    offer(&environment, &[]);
    let replicas = environment.replicas::<2>();
    for number in 0..25 {
        let path = format!("/app/stand-in/old{number}");
        replicas[number % 2].get_prefer(&path, LONG_WAIT).ip();
    }
    offer(&environment, &[("max-instances", "20")]);
    for replica in &replicas {
        eventually("the cap is known", || {
            let templates = replica.get("/templates").body.to_string();
            templates.contains("\"max-instances\":20").then_some(())
        });
    }
    for left in [25, 21, 20, 19] {
        while environment.list("jobs").len() > left {
            let number = environment.list("jobs").len() - 1;
            let path = format!("/app/stand-in/old{number}");
            replicas[0].delete(&path).expect(200);
            eventually("it is gone", || {
                (!environment.has_job(&format!("stand-in-old{number}"))).then_some(())
            });
        }
        let asked = (0..10).map(|it| begin(&replicas[it % 2], &format!("new{it}")));
        let asked: Vec<_> = asked.flatten().collect();
        assert_eq!(asked.len(), 10);
        let responses: Vec<Response> = asked.into_iter().map(|it| it.finish()).collect();
        let ready = responses.iter().filter(|it| it.status == 200).count();
        assert_eq!(ready, 20_usize.saturating_sub(left), "with {left} left");
        eventually("no others are there", || {
            (environment.list("jobs").len() == left + ready).then_some(())
        });
    }
}

/// Whoever is refused hears that all places are taken, and never that it is not known.
#[test]
#[ignore = "needs a cluster"]
fn while_instances_come_and_go_nobody_is_refused_for_nothing() {
    const WORKERS: usize = 18;
    const CAP: usize = 5;
    const ENOUGH: usize = 50;
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let environment = TestEnvironment::new(cluster);
    offer(&environment, &[("max-instances", "5")]);
    let replicas = environment.replicas::<REPLICAS>();
    let version = environment.version("jobs");
    let latest = Instant::now() + CHURN_MAX;
    let [ready, refused, late] = [const { AtomicUsize::new(0) }; 3];
    let is_enough = || {
        [&ready, &refused]
            .iter()
            .all(|it| it.load(Ordering::Relaxed) >= ENOUGH)
    };
    let work = |number: usize| {
        let replica = &replicas[number % REPLICAS];
        while !is_enough() && Instant::now() < latest {
            let name = format!("w{number}");
            let response = begin(replica, &name).expect("it is there").finish();
            if response.status == 200 {
                ready.fetch_add(1, Ordering::Relaxed);
                std::thread::park_timeout(Duration::from_millis(250));
                replica.delete(&format!("/app/stand-in/{name}"));
                continue;
            }
            let text = response.expect_error(429, "limit_reached");
            // On a busy machine those before it may not be decided within the bound on that wait, or it is decided
            // by another replica, so that its figures are not known here.
            let is_late = ["were not decided in time", "was stopped; retry later"];
            let is_late = is_late.iter().any(|it| text.contains(it));
            let is_for_nothing = !is_late && !text.contains("5 instances of this app type run");
            assert!(!is_for_nothing, "{text}");
            let counter = if is_late { &late } else { &refused };
            counter.fetch_add(1, Ordering::Relaxed);
            std::thread::park_timeout(Duration::from_millis(50));
        }
    };
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let work = &work;
            scope.spawn(move || work(worker));
        }
    });
    let most = most_running(&environment.events_since("jobs", &version));
    let [ready, refused, late] = [ready, refused, late].map(AtomicUsize::into_inner);
    cluster::print_line(&format!(
        "FIGURE {WORKERS} workers for {CAP} places: {ready} ready, {refused} refused, {late} late, at most {most} at once"
    ));
    assert!(most <= CAP, "{most} at once");
    assert!(
        ready >= ENOUGH && refused >= ENOUGH,
        "{ready} ready, {refused} refused"
    );
}
