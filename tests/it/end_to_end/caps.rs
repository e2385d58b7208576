//! Caps on a real API server and Job controller, with three replicas as processes: never more than allowed, all that
//! is allowed, and nobody refused for nothing.
//!
//! `CAPS_ROUNDS` is the number of rounds (3), each with 100 callers.

use super::environment::{STAND_IN, TestEnvironment};
use super::program::Program;
use super::{LONG_WAIT, eventually, number_from_env};
use crate::cluster;
use crate::harness::{PREFIX, Response};
use serde_json::{Value, json};
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

/// The owner is the name of the token; two of them share three replicas.
#[test]
#[ignore = "needs a cluster"]
fn each_owner_has_its_own_places() {
    const OWNERS: [&str; 2] = ["portal", "daemon"];
    let cluster = cluster::shared();
    let _beside = cluster::beside_others();
    let environment = TestEnvironment::new(cluster);
    offer(&environment, &[("max-per-owner", "5")]);
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    let secret = |owner: &str| format!("{owner}-0123456789abcdef");
    let tokens = kubeconfig.with_file_name("tokens");
    let lines = OWNERS.map(|owner| format!("{} {owner}\n", secret(owner)));
    std::fs::write(&tokens, lines.concat()).expect("the file can be written");
    let tokens = tokens.display().to_string();
    let settings = [("AUTH", "token"), ("AUTH_TOKENS_FILE", tokens.as_str())];
    let replicas = [(); REPLICAS].map(|()| Program::start_ready(&kubeconfig, &settings));
    let bearers = OWNERS.map(|owner| format!("Bearer {}", secret(owner)));
    let mut pending = Vec::new();
    for number in 0..40 {
        let (owner, replica) = (number % 2, &replicas[number % REPLICAS]);
        let headers = [("Authorization", bearers[owner].as_str())];
        let path = format!("/app/stand-in/{}{number}", OWNERS[owner]);
        pending.push((owner, replica.client().begin("GET", &path, &headers, "")));
    }
    let mut ready = [0; 2];
    for (owner, one) in pending {
        let response = one.finish();
        if response.status == 200 {
            ready[owner] += 1;
            continue;
        }
        let text = response.expect_error(429, "limit_reached");
        let texts = [
            "and owner run, and max-per-owner is 5",
            "not decided in time",
            "was stopped",
        ];
        assert!(texts.iter().any(|it| text.contains(it)), "{text}");
    }
    assert_eq!(ready, [5, 5]);
    eventually("no others are there", || {
        (environment.list("jobs").len() == 10).then_some(())
    });
    for job in environment.list("jobs") {
        let metadata = &job["metadata"];
        let owner = metadata["labels"][format!("{PREFIX}owner")].as_str();
        let name = metadata["name"].as_str().unwrap_or_default();
        assert!(
            owner.is_some_and(|owner| name.contains(owner)),
            "{metadata}"
        );
    }
}

/// A Job of our names, suspended as a queueing controller would have it.
fn queued(environment: &TestEnvironment<'_>, name: &str, is_suspended: bool) {
    let names = json!({
        format!("{PREFIX}instance-type"): "stand-in",
        format!("{PREFIX}instance-name"): name,
    });
    let mut template: Value = serde_yaml::from_str(STAND_IN).expect("a template is YAML");
    template["metadata"] = json!({"annotations": names, "labels": names});
    let job = json!({
        "metadata": {
            "name": format!("stand-in-{name}"),
            "labels": {"kueue.x-k8s.io/queue-name": "all"},
            "annotations": names,
        },
        "spec": {"suspend": is_suspended, "template": template},
    });
    environment
        .api
        .post(&environment.all("jobs"), &job)
        .expect(201);
}

/// What decides on a suspended Job is never ours to change: it counts, and stays as it is.
#[test]
#[ignore = "needs a cluster"]
fn what_a_queueing_controller_suspends_is_left_alone() {
    let cluster = cluster::shared();
    let _beside = cluster::beside_others();
    let environment = TestEnvironment::new(cluster);
    offer(&environment, &[("max-instances", "4")]);
    queued(&environment, "queued", true);
    let replicas = environment.replicas::<2>();
    replicas[0].get_prefer("/app/stand-in/ours", LONG_WAIT).ip();
    replicas[1]
        .get_prefer("/app/stand-in/other", LONG_WAIT)
        .ip();
    // It suspends one that we have admitted, too.
    let path = |name: &str| format!("{}/stand-in-{name}", environment.all("jobs"));
    let suspend = |is: bool| json!({"spec": {"suspend": is}});
    environment.kubectl(&[
        "patch",
        "job",
        "stand-in-ours",
        "--patch",
        &suspend(true).to_string(),
    ]);
    let spec = |name: &str| environment.api.get(&path(name)).expect(200)["spec"].clone();
    eventually("its pod is gone", || {
        (!environment.is_running("stand-in-ours")).then_some(())
    });
    let before = ["queued", "ours"].map(spec);
    let asked = (0..6).map(|it| begin(&replicas[it % 2], &format!("new{it}")));
    let responses: Vec<Response> = asked.flatten().map(|it| it.finish()).collect();
    let ready = responses.iter().filter(|it| it.status == 200).count();
    assert_eq!(
        (responses.len(), ready),
        (6, 1),
        "both suspended ones count"
    );
    // Longer than a Job of ours may stay undecided.
    let began = Instant::now();
    eventually("time has passed", || {
        std::thread::park_timeout(Duration::from_millis(200));
        (began.elapsed() > Duration::from_secs(8)).then_some(())
    });
    assert_eq!(["queued", "ours"].map(spec), before);
    for name in ["queued", "ours"] {
        let patch = suspend(false).to_string();
        environment.kubectl(&[
            "patch",
            "job",
            &format!("stand-in-{name}"),
            "--patch",
            &patch,
        ]);
        replicas[0]
            .get_prefer(&format!("/app/stand-in/{name}"), LONG_WAIT)
            .ip();
    }
    assert_eq!(environment.list("jobs").len(), 4);
}
