//! Starts that wait for a place: under a cap, or since as many as may be are in progress.

use std::time::Duration;

use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::harness::{Pending, TestEnvironment, eventually};
use crate::streams::EventReader;

/// A request that waits for a place.
const PATIENT: (&str, &str) = ("Prefer", "wait=300");

fn path(number: usize) -> String {
    format!("/app/hello/i{number}")
}

/// A GET that waits for a place.
fn patient(environment: &TestEnvironment, number: usize) -> Pending {
    let client = environment.client();
    client.begin("GET", &path(number), &[PATIENT], "")
}

/// One instance may run, and one does; another one waits.
fn one_waits() -> (TestEnvironment, Pending) {
    let environment = TestEnvironment::builder()
        .annotation("max-instances", "1")
        .start();
    environment.start_instance(&path(0));
    let waiting = patient(&environment, 1);
    eventually_starts(&environment, [1, 0]);
    (environment, waiting)
}

/// How many starts wait for a place, and how many are in progress, by the metrics.
fn starts(environment: &TestEnvironment) -> [u64; 2] {
    // Its text is made anew only now and then.
    environment.advance(Duration::from_millis(50));
    let text = environment.get("/metrics").text;
    [
        "config_controller_starts_queued ",
        "config_controller_starts_in_progress ",
    ]
    .map(|name| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.parse().ok())
            .expect("a number is listed")
    })
}

#[track_caller]
fn eventually_starts(environment: &TestEnvironment, expected: [u64; 2]) {
    eventually("so many starts are queued and in progress", || {
        (starts(environment) == expected).then_some(())
    });
}

/// The `202 queued` of a request that does not wait for long.
#[track_caller]
fn queued(environment: &TestEnvironment, number: usize) -> u64 {
    let body = environment.get_at_once(&path(number)).expect(202);
    assert_eq!(body["phase"], "queued", "{body}");
    assert_eq!(body["reason"], "Queued", "{body}");
    assert_eq!(body["status"], "node_not_ready", "{body}");
    body["position"].as_u64().expect("it has a position")
}

#[test]
fn who_waits_gets_the_place_that_becomes_free_and_newcomers_are_refused() {
    let environment = TestEnvironment::builder()
        .annotation("max-instances", "2")
        .start();
    environment.start_instance(&path(0));
    environment.start_instance(&path(1));
    let first = patient(&environment, 2);
    eventually_starts(&environment, [1, 0]);
    let second = patient(&environment, 3);
    eventually_starts(&environment, [2, 0]);
    assert_eq!(queued(&environment, 4), 3);
    let refused = environment.get(&path(5));
    let text = refused.expect_error(429, "limit_reached");
    let expected = "2 instances of this app type run, and max-instances is 2";
    assert!(text.starts_with(expected), "{text}");
    assert_eq!(environment.jobs().len(), 2, "nothing was tried");
    environment.delete(&path(0)).expect(200);
    first.finish().expect(200);
    environment.delete(&path(1)).expect(200);
    second.finish().expect(200);
    // The third has its turn, also without its caller.
    environment.delete(&path(2)).expect(200);
    environment.wait_job("hello-i4");
    environment.get(&path(4)).expect(200);
}

/// A portal does so when its user logs out.
#[test]
fn a_delete_ends_a_start_that_waits() {
    let (environment, waiting) = one_waits();
    environment.delete(&path(1)).expect(200);
    waiting.finish().expect_error(409, "stopped");
    eventually_starts(&environment, [0, 0]);
    environment
        .delete(&path(1))
        .expect_detail(404, "No job found", "not_found");
}

#[test]
fn a_start_that_does_not_wait_is_refused_as_before() {
    let environment = TestEnvironment::builder()
        .annotation("max-instances", "1")
        .start();
    environment.start_instance(&path(0));
    let text = environment.get(&path(1)).expect_error(429, "limit_reached");
    assert!(
        text.ends_with("; retry when an instance has ended, or wait for a place (Prefer: wait=60)"),
        "{text}"
    );
    environment
        .get("/create/hello?sessionID=s1")
        .expect_error(429, "limit_reached");
    eventually("what was tried is gone", || {
        (environment.jobs().len() == 1).then_some(())
    });
}

/// Five hundred starts, twenty at a time, in the order in which they came.
#[test]
fn of_500_starts_20_are_in_progress_and_all_come_in_their_order() {
    const ALL: usize = 500;
    let environment = TestEnvironment::builder()
        .setting("MAX_STARTING", "20")
        .setting("START_WAIT", "5m")
        .pod_script(PodScript::by_hand())
        .start();
    for number in 0..20 {
        environment.get_at_once(&path(number)).expect(202);
    }
    for number in 20..ALL {
        assert_eq!(queued(&environment, number), (number - 19) as u64);
    }
    assert_eq!(environment.jobs().len(), 20);
    // All ask again, the last one first.
    let client = environment.client();
    let mut pending = Vec::new();
    for number in (20..ALL).rev() {
        let header = [("Prefer", "wait=300")];
        pending.push(client.begin("GET", &path(number), &header, ""));
    }
    for done in 0..ALL - 20 {
        environment.make_ready(&format!("hello-i{done}"));
        let next = format!("hello-i{}", done + 20);
        environment.wait_job(&next);
        assert_eq!(
            environment.jobs().len(),
            done + 21,
            "{next} is the next one"
        );
    }
    for done in ALL - 20..ALL {
        environment.make_ready(&format!("hello-i{done}"));
    }
    for one in pending {
        one.finish().expect(200);
    }
    eventually_starts(&environment, [0, 0]);
}

#[test]
fn callers_that_go_leave_the_queue() {
    let environment = TestEnvironment::builder()
        .setting("MAX_STARTING", "1")
        .pod_script(PodScript::by_hand())
        .start();
    let first = patient(&environment, 0);
    eventually_starts(&environment, [0, 1]);
    let gone = patient(&environment, 1);
    eventually_starts(&environment, [1, 1]);
    let last = patient(&environment, 2);
    eventually_starts(&environment, [2, 1]);
    drop(gone);
    eventually_starts(&environment, [1, 1]);
    environment.make_ready("hello-i0");
    first.finish().expect(200);
    environment.wait_job("hello-i2");
    environment.make_ready("hello-i2");
    last.finish().expect(200);
    assert_eq!(environment.jobs(), ["hello-i0", "hello-i2"]);
}

/// A browser sends the last ID when it comes back, and with one it only follows a start.
#[test]
fn a_stream_of_a_queued_start_ends_without_an_id() {
    let environment = TestEnvironment::builder()
        .setting("MAX_STARTING", "1")
        .pod_script(PodScript::by_hand())
        .start();
    environment.get_at_once(&path(0)).expect(202);
    for _ in 0..2 {
        let headers = [("Prefer", "wait=0")];
        let stream = EventReader::open(environment.address(0), &path(1), &headers);
        let event = stream.expect("it is a stream").next().expect("it ends");
        let found = (event.name.as_str(), event.id.as_str());
        assert_eq!(found, ("waiting", ""));
        assert_eq!(event.data["position"], 1);
    }
}

/// Its caller does not wait for a place, and others do.
#[test]
fn what_is_replaced_keeps_its_place() {
    let (environment, waiting) = one_waits();
    for _ in 0..5 {
        let replaced = environment.client().begin("PUT", &path(0), &[], "");
        replaced.finish().expect(200);
    }
    assert_eq!(starts(&environment), [1, 0]);
    environment.delete(&path(0)).expect(200);
    waiting.finish().expect(200);
}
