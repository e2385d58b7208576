//! What proxies stand on (the address in a header, `Prefer: strict`), and the recipes of
//! `manifests/examples`, each run by the real proxy.
//!
//! | module | what it shows |
//! |---|---|
//! | (here) | the header and the preference, without a proxy |
//! | `recipes` | ignored without nginx and Envoy: their recipes, with an app that uses what proxies spoil |
//! | `app` | that app, and a recorder that shows what it and the service receive |

mod app;
pub(crate) mod recipes;

use std::time::Duration;

use serde_json::Value;

use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::harness::{Builder, Response, TEMPLATE, TestEnvironment};

/// A strict GET that does not wait.
fn strict(environment: &TestEnvironment) -> Response {
    let prefer = [("Prefer", "strict, wait=0")];
    let client = environment.client();
    client.begin("GET", "/app/hello/ann", &prefer, "").finish()
}

/// Its apps exit with code 3, and are kept for this long then.
fn failing(restart_delay: &str) -> Builder {
    TestEnvironment::builder()
        .annotation("restart-delay", restart_delay)
        .pod_script(PodScript {
            exit: Some(Exit::at_once(3)),
            never_ready: true,
            ..PodScript::default()
        })
}

#[test]
fn a_strict_request_gets_503_until_the_instance_is_ready() {
    let environment = TestEnvironment::by_hand();
    let response = strict(&environment);
    response.expect_error(503, "not_ready");
    assert_eq!(response.header("retry-after"), "1");
    assert_eq!(response.header("preference-applied"), "strict");
    assert_eq!(response.header("x-instance-address"), "");
    environment.make_ready("hello-ann");
    environment.wait_found("/app/hello/ann");
    let response = strict(&environment);
    let ip = response.expect(200)["ip"].clone();
    assert_eq!(response.header("x-instance-address"), ip);
    assert_eq!(environment.kube.count("create", "jobs"), 1);
}

/// A proxy that passes on the condition of its visitor still learns the address.
#[test]
fn a_304_has_the_address_too() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    let header = [("If-None-Match", "*"), ("Prefer", "strict")];
    let client = environment.client();
    let response = client.begin("GET", "/app/hello/ann", &header, "").finish();
    assert_eq!(response.status, 304);
    assert_eq!(response.header("x-instance-address"), ip);
}

#[test]
fn after_a_failure_retry_after_is_the_rest_of_the_restart_delay() {
    let environment = failing("100s").start();
    environment.get("/app/hello/ann").expect(202);
    let retry_after = |environment: &TestEnvironment| {
        let response = strict(environment);
        response.expect_error(503, "start_failed");
        assert_eq!(response.json()["exitCode"], 3);
        let secs = response.header("retry-after").parse::<u64>();
        secs.expect("a number of seconds")
    };
    let begun = std::time::Instant::now();
    let first = retry_after(&environment);
    let passed = begun.elapsed().as_secs() + 10;
    assert!((100 - passed..=100).contains(&first), "{first}");
    environment.advance(Duration::from_secs(60));
    let later = retry_after(&environment);
    let passed = begun.elapsed().as_secs() + 10;
    assert!((40 - passed..=40).contains(&later), "{later}");
    // Another day, or after a DELETE.
    for (setting, value) in [("restart-failed", "never"), ("restart-delay", "1h")] {
        let kept = failing("100s").annotation(setting, value).start();
        kept.get("/app/hello/ann").expect(202);
        assert_eq!(retry_after(&kept), 300, "{setting}");
    }
}

/// What takes any 2xx for a yes gets none but that of a ready instance.
#[test]
fn other_errors_of_a_strict_request_are_what_they_are() {
    let environment = TestEnvironment::builder()
        .template("broken", "spec: [")
        .template(
            "needs",
            &TEMPLATE.replace("app:1", "app:${alternatives['tag']}"),
        )
        .start();
    let client = environment.client();
    for (path, prefer, status) in [
        ("/app/nope/ann", "strict", 404),
        ("/app/hello/ann", "strict, create=false", 404),
        ("/app/broken/ann", "strict", 422),
        ("/app/needs/ann", "strict", 422),
        ("/app/hello/", "strict", 307),
    ] {
        let response = client
            .begin("GET", path, &[("Prefer", prefer)], "")
            .finish();
        assert_eq!(response.status, status, "{path}");
    }
    assert_eq!(environment.jobs(), Vec::<String>::new());
    // A stop is accepted as before.
    environment.start_instance("/app/hello/ann");
    let response = client
        .begin("DELETE", "/app/hello/ann", &[("Prefer", "strict")], "")
        .finish();
    assert_eq!(response.expect(200)["status"], Value::from("Success"));
}
