//! Bounds on waiting requests, each at the bound.

use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::harness::{Pending, TestEnvironment, eventually};

/// Waits until all but `waiting` of these are answered, checks that those are 429 with this code and
/// name the bound, and returns the ones that wait.
#[track_caller]
fn check_refused(requests: Vec<Pending>, waiting: usize, code: &str, bound: &str) -> Vec<Pending> {
    let refused = requests.len() - waiting;
    eventually("those beyond the bound are answered", || {
        let answered = requests.iter().filter(|r| r.is_answered()).count();
        assert!(answered <= refused, "{answered} are answered");
        (answered == refused).then_some(())
    });
    let (answered, waiting): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(Pending::is_answered);
    for request in answered {
        let response = request.finish();
        let message = response.expect_error(429, code);
        assert!(message.contains(bound), "{message}");
        assert_eq!(response.header("retry-after"), "1");
    }
    waiting
}

#[test]
fn waiters_for_one_name_are_bounded() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("PARKED_PER_KEY_MAX", "3")
        .setting("CALLER_SHARE_MAX", "100")
        .start();
    let client = environment.client();
    let requests: Vec<_> = (0..8).map(|_| client.begin_get("/app/hello/ann")).collect();
    let waiting = check_refused(requests, 3, "too_many_requests", "PARKED_PER_KEY_MAX");
    // Another name is not concerned, nor is what is read from memory.
    let other = client.begin_get("/app/hello/bob");
    environment.make_ready("hello-bob");
    other.finish().expect(200);
    environment.make_ready("hello-ann");
    for request in waiting {
        request.finish().expect(200);
    }
    // All waiters are gone: there is capacity again.
    let next = client.begin_get("/app/hello/cem");
    environment.make_ready("hello-cem");
    next.finish().expect(200);
}

#[test]
fn waiters_are_bounded_in_total() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("PARKED_MAX", "4")
        .setting("CALLER_SHARE_MAX", "100")
        .start();
    let client = environment.client();
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let requests: Vec<_> = names
        .iter()
        .map(|name| client.begin_get(&format!("/app/hello/{name}")))
        .collect();
    let waiting = check_refused(requests, 4, "too_many_requests", "PARKED_MAX");
    eventually("all waiters have their Jobs", || {
        (environment.jobs().len() == 4).then_some(())
    });
    environment.get("/app/hello").expect(200);
    for job in environment.jobs() {
        environment.make_ready(&job);
    }
    for request in waiting {
        request.finish().expect(200);
    }
}

#[test]
fn starts_leave_places_for_stops_and_labels() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("PARKED_MAX", "10")
        .setting("WRITE_RESERVE", "20")
        .setting("CALLER_SHARE_MAX", "100")
        .start();
    let client = environment.client();
    let path = |number: usize| format!("/app/hello/n{number}");
    let requests: Vec<_> = (0..10)
        .map(|number| client.begin_get(&path(number)))
        .collect();
    let waiting = check_refused(requests, 8, "too_many_requests", "PARKED_MAX");
    client.delete(&path(0)).expect(200);
    let label = client.begin(
        "PATCH",
        &path(1),
        &[("Content-Type", "application/json")],
        "{}",
    );
    environment.make_ready("hello-n1");
    label.finish().expect(200);
    drop(waiting);
}

#[test]
fn one_caller_holds_at_most_half_of_the_places() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("PARKED_MAX", "8")
        .setting("WRITE_RESERVE", "0")
        .start();
    let client = environment.client();
    let requests: Vec<_> = (0..6)
        .map(|number| client.begin_get(&format!("/app/hello/n{number}")))
        .collect();
    drop(check_refused(
        requests,
        4,
        "share_exhausted",
        "CALLER_SHARE_MAX",
    ));
}

#[test]
fn a_caller_that_hangs_up_frees_its_place() {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("PARKED_PER_KEY_MAX", "1")
        .setting("CALLER_SHARE_MAX", "100")
        .start();
    let client = environment.client();
    let first = client.begin_get("/app/hello/ann");
    environment.wait_pod("hello-ann");
    client
        .get("/app/hello/ann")
        .expect_error(429, "too_many_requests");
    drop(first);
    let second = eventually("there is room", || {
        let response = environment.get_at_once("/app/hello/ann");
        (response.status == 202).then(|| client.begin_get("/app/hello/ann"))
    });
    environment.make_ready("hello-ann");
    second.finish().expect(200);
}

#[test]
fn requests_that_wait_are_bounded_in_bytes() {
    check_bytes("100", 100, 503, "overloaded");
}

#[test]
fn one_caller_holds_at_most_half_of_the_bytes() {
    check_bytes("50", 50, 429, "share_exhausted");
}

/// Sends requests that would wait and hold more than there is, all from one address, which may
/// hold this share; at least so many do.
fn check_bytes(share: &str, least: usize, status: u16, code: &str) {
    // Of 24 MiB half is for requests that wait, most of it for starts. Each of these is
    // charged 96 KB.
    const REQUESTS: usize = 300;
    const AT_MOST: usize = 200;
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("CALLER_SHARE_MAX", share)
        .start();
    let client = environment.client();
    let pairs: Vec<_> = (0..255).map(|number| format!("v{number}=")).collect();
    let query = format!("{}&x={}", pairs.join("&"), "y".repeat(13_500));
    let wait = [("Prefer", "wait=120")];
    let requests: Vec<_> = (0..REQUESTS)
        .map(|number| {
            // Of ten names, so that no bound on their number is reached.
            let path = format!("/app/hello/n{}?{query}", number % 10);
            client.begin("GET", &path, &wait, "")
        })
        .collect();
    eventually("those that are too many are answered", || {
        let answered = requests.iter().filter(|r| r.is_answered()).count();
        (answered >= REQUESTS - AT_MOST).then_some(())
    });
    let (answered, waiting): (Vec<_>, Vec<_>) =
        requests.into_iter().partition(Pending::is_answered);
    assert!(waiting.len() >= least, "{} wait", waiting.len());
    for request in answered {
        let response = request.finish();
        response.expect_error(status, code);
        assert_eq!(response.header("retry-after"), "1");
    }
    // What needs not wait is served.
    environment.get("/app/hello").expect(200);
    environment.get("/livez").expect(200);
    drop(waiting);
    eventually("there is room again", || {
        let response = environment.get_at_once("/app/hello/n0");
        (response.status == 202).then_some(())
    });
}

#[test]
fn a_body_has_at_most_64_kib() {
    let environment = TestEnvironment::new();
    let send = |length: usize| {
        let padding = " ".repeat(length - 9);
        let body = format!(r#"{{"a":"b"{padding}}}"#);
        let json = [("Content-Type", "application/json")];
        let request = environment
            .client()
            .begin("PATCH", "/app/hello/nobody", &json, &body);
        request.finish().status
    };
    assert_eq!(send(65_536), 404);
    assert_eq!(send(65_537), 413);
}
