//! `Server-Timing`: how long each phase of a start took.

use std::time::Duration;

use serde_json::json;

use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{Client, Response, TestEnvironment, eventually};

/// The header's words, in the order of a start.
const WORDS: [&str; 8] = [
    "admit", "create", "schedule", "mount", "pull", "init", "start", "ready",
];

/// The parsed header; empty if there is none. W3C Server Timing, §2: `name;dur=number, …`, where a
/// name is a token.
#[track_caller]
fn timings(response: &Response) -> Vec<(String, u64)> {
    let header = response.header("server-timing");
    let metrics = header.split(", ").filter(|metric| !metric.is_empty());
    metrics
        .map(|metric| {
            let (name, duration) = metric.split_once(";dur=").expect(header);
            assert!(WORDS.contains(&name), "{header}");
            (name.to_owned(), duration.parse().expect(header))
        })
        .collect()
}

fn words(timings: &[(String, u64)]) -> Vec<&str> {
    timings.iter().map(|(word, _)| word.as_str()).collect()
}

#[track_caller]
fn of(timings: &[(String, u64)], word: &str) -> u64 {
    let found = timings.iter().find(|(known, _)| known == word);
    found.unwrap_or_else(|| panic!("{word}: {timings:?}")).1
}

/// Pods by hand, and requests that do not wait.
fn impatient() -> TestEnvironment {
    TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("START_WAIT", "0s")
        .start()
}

/// Asks until the response is a 202 in this phase.
#[track_caller]
fn wait_phase(client: &Client, phase: &str) -> Response {
    eventually(phase, || {
        let response = client.get("/app/hello/ann");
        (response.expect(202)["phase"] == phase).then_some(response)
    })
}

#[test]
fn the_header_grows_with_the_phases_of_a_start() {
    let environment = impatient();
    let client = environment.client();
    environment.kube.set_auto(false);
    eventually("the Job is known to be its own", || {
        let creating = wait_phase(&client, "creating");
        (words(&timings(&creating)) == WORDS[..2]).then_some(())
    });
    environment.kube.set_auto(true);
    environment.wait_pod("hello-ann");
    for (moves, phase, word) in [
        (vec![], "scheduling", "schedule"),
        (vec![PodMove::Schedule, PodMove::Mount], "mounting", "mount"),
        (vec![PodMove::Pull], "pulling", "pull"),
        (vec![PodMove::Run], "readying", "ready"),
    ] {
        for next in &moves {
            environment.move_pod("hello-ann", next);
        }
        let before = timings(&wait_phase(&client, phase));
        assert_eq!(words(&before), WORDS[..before.len()]);
        // Time that passes belongs to the phase that the replica sees.
        environment.advance(Duration::from_secs(5));
        let later = timings(&wait_phase(&client, phase));
        assert!(of(&later, word) >= of(&before, word) + 5000, "{later:?}");
    }
    let await_waiters = |count: usize| {
        eventually("so many wait", || {
            let numbers = environment.get("/metrics").text;
            let wanted = format!("\nconfig_controller_waiting_requests {count}\n");
            numbers.contains(&wanted).then_some(())
        });
    };
    // One that was answered just now may still be counted.
    await_waiters(0);
    let waiting = client.begin("GET", "/app/hello/ann", &[("Prefer", "wait=300")], "");
    await_waiters(1);
    environment.make_ready("hello-ann");
    let ready = waiting.finish();
    ready.expect(200);
    let ready = timings(&ready);
    assert_eq!(words(&ready), WORDS);
    for word in ["schedule", "mount", "pull", "ready"] {
        assert!(of(&ready, word) >= 5000, "{ready:?}");
    }
}

#[test]
fn responses_without_a_wait_have_no_header() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    let again = environment.get("/app/hello/ann");
    again.expect(200);
    let others = [
        again,
        environment.get("/app/hello"),
        environment.get("/app/nope/ann"),
        environment.patch("/app/hello/ann", &json!({"k": "v"})),
        environment.delete("/app/hello/ann"),
    ];
    for response in others {
        assert_eq!(response.header("server-timing"), "", "{}", response.text);
    }
}

#[test]
fn a_failure_report_has_the_timings_of_its_start() {
    let environment = TestEnvironment::by_hand();
    let waiting = environment.client().begin_get("/app/hello/ann");
    environment.move_pod("hello-ann", &PodMove::Run);
    // The watch may show all of this before the response to the call comes.
    eventually("the Job is known to be its own", || {
        let response = environment.get_at_once("/app/hello/ann");
        (words(&timings(&response)) == WORDS).then_some(())
    });
    let exit = Exit::at_once(3);
    environment.move_pod("hello-ann", &PodMove::Exit(exit));
    let response = waiting.finish();
    assert_eq!(response.expect(202)["status"], "app_error");
    // Whether the coordinator saw the app run before it saw its end is a matter of luck.
    let phases = timings(&response);
    assert_eq!(words(&phases)[..7], WORDS[..7], "{phases:?}");
}

/// The one that made the Job measures; the other has only what Kubernetes left on the pod.
#[test]
fn a_replica_that_did_not_start_it_reports_the_times_of_kubernetes() {
    let mut environment = impatient();
    let other = environment.add_replica();
    environment.wait_ready(other);
    let (own, other) = (environment.client(), environment.replica(other));
    environment.kube.set_auto(false);
    // The watch may show the Job before the response to the call comes.
    eventually("the Job is known to be its own", || {
        let creating = wait_phase(&own, "creating");
        (words(&timings(&creating)) == WORDS[..2]).then_some(())
    });
    let creating = wait_phase(&other, "creating");
    assert_eq!(timings(&creating), [], "there is no pod yet");
    environment.kube.set_auto(true);
    environment.wait_pod("hello-ann");
    // A replica that has not seen the pod for so long takes the start for a failed one.
    for client in [&own, &other] {
        wait_phase(client, "scheduling");
    }
    environment.advance(Duration::from_secs(7));
    environment.move_pod("hello-ann", &PodMove::Schedule);
    environment.move_pod("hello-ann", &PodMove::Mount);
    for client in [&own, &other] {
        wait_phase(client, "mounting");
    }
    environment.advance(Duration::from_secs(20));
    environment.move_pod("hello-ann", &PodMove::Pull);
    environment.move_pod("hello-ann", &PodMove::Run);
    let phases = timings(&wait_phase(&other, "readying"));
    assert_eq!(words(&phases), WORDS[2..]);
    assert!(
        phases.iter().all(|(_, took)| took % 1000 == 0),
        "{phases:?}"
    );
    assert!(of(&phases, "schedule") >= 7000, "{phases:?}");
    assert!(of(&phases, "mount") >= 20_000, "{phases:?}");
    assert_eq!(words(&timings(&wait_phase(&own, "readying"))), WORDS);
    assert_eq!(environment.jobs(), ["hello-ann"]);
}
