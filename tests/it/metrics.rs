//! `/metrics`: every metric is documented, moves (`moves`), and is text that Prometheus' own checker takes.

mod moves;

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use config_controller::metrics::{ALL, MEDIA_TYPE, OTHER};
use serde_json::json;

use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{OPERATORS, Pending, TemporaryFolder, TestEnvironment, eventually};
use crate::manifests::tools::promtool;

/// The value of a sample; `None` while there is none.
fn value(environment: &TestEnvironment, sample: &str) -> Option<f64> {
    let text = environment.get("/metrics").text;
    let line = text.lines().find_map(|line| line.strip_prefix(sample));
    line.and_then(|rest| rest.strip_prefix(' '))
        .map(|number| number.parse().expect("a sample is a number"))
}

/// Waits until a sample has this value.
#[track_caller]
fn wait(environment: &TestEnvironment, sample: &str, wanted: f64) {
    eventually(sample, || {
        // What is costly is counted once a second of the service's time.
        environment.advance(Duration::from_millis(100));
        (value(environment, sample) == Some(wanted)).then_some(())
    });
}

#[test]
fn the_response_is_text_and_head_has_no_body() {
    let environment = TestEnvironment::new();
    let response = environment.get("/metrics");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), MEDIA_TYPE);
    let head = environment
        .client()
        .begin("HEAD", "/metrics", &[], "")
        .finish();
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(
        environment
            .client()
            .begin("POST", "/metrics", &[], "")
            .finish()
            .status,
        405
    );
}

#[test]
fn requests_are_counted_by_route_method_and_code() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    environment.start_instance("/app/hello/ann");
    environment.get("/nope").expect(404);
    environment.delete("/app/hello/bob").expect(404);
    let requests = |route: &str, method: &str, code: u16| {
        let name = "config_controller_http_requests_total";
        let labels = format!("route=\"{route}\",method=\"{method}\",code=\"{code}\"");
        value(&environment, &format!("{name}{{{labels}}}"))
    };
    assert_eq!(requests("/app/{type}/{name}", "GET", 200), Some(2.0));
    assert_eq!(requests("/app/{type}/{name}", "DELETE", 404), Some(1.0));
    assert_eq!(requests(OTHER, "GET", 404), Some(1.0));
    // The first GET waited for its instance; its wait is no time of the service.
    let timed = "config_controller_http_request_duration_seconds_count";
    let timed = value(
        &environment,
        &format!("{timed}{{route=\"/app/{{type}}/{{name}}\"}}"),
    );
    assert_eq!(timed, Some(1.0));
}

#[test]
fn starts_and_stops_are_counted_by_how_they_end() {
    let broken = "spec: {containers: [{image: i}]}";
    let environment = TestEnvironment::builder()
        .template("broken", broken)
        .start();
    environment.start_instance("/app/hello/ann");
    let starts = |labels: &str| format!("config_controller_starts_total{{{labels}}}");
    wait(
        &environment,
        &starts("result=\"ready\",type=\"hello\""),
        1.0,
    );
    wait(
        &environment,
        "config_controller_start_duration_seconds_count{type=\"hello\"}",
        1.0,
    );
    wait(
        &environment,
        "config_controller_instances{type=\"hello\",status=\"ready\"}",
        1.0,
    );
    environment.delete("/app/hello/ann").expect(200);
    let stops = "config_controller_stops_total{cause=\"asked\",type=\"hello\"}";
    wait(&environment, stops, 1.0);
    wait(
        &environment,
        "config_controller_instances{type=\"hello\",status=\"ready\"}",
        0.0,
    );
    environment.get("/app/broken/ann").expect(422);
    assert_eq!(
        value(
            &environment,
            "config_controller_template_valid{type=\"hello\"}"
        ),
        Some(1.0)
    );
}

/// Has an instance of `hello` started by the first replica, and does not wait for it.
#[track_caller]
fn begin(environment: &TestEnvironment, name: &str) {
    environment
        .get_at_once(&format!("/app/hello/{name}"))
        .expect(202);
    environment.wait_job(&format!("hello-{name}"));
}

/// Waits until a sample has this value, while time goes on as it does.
#[track_caller]
fn wait_counted(environment: &TestEnvironment, sample: &str, wanted: f64) {
    eventually(sample, || {
        (value(environment, sample) == Some(wanted)).then_some(())
    });
}

/// How many starts of `hello` have ended so; with a reason, those that have it.
fn starts(result: &str, reason: &str) -> String {
    let labels = format!("result=\"{result}\",type=\"hello\"");
    match reason {
        "" => format!("config_controller_starts_total{{{labels}}}"),
        _ => format!("config_controller_start_reasons_total{{reason=\"{reason}\",{labels}}}"),
    }
}

const FAILURE_REPORTS: &str = "config_controller_time_to_verdict_seconds_count";

/// How many phases of that kind are over.
fn phases(phase: &str) -> String {
    format!("config_controller_start_phase_duration_seconds_count{{phase=\"{phase}\"}}")
}

#[test]
fn phases_of_a_start_are_counted_when_they_end() {
    let environment = TestEnvironment::by_hand();
    begin(&environment, "ann");
    environment.wait_pod("hello-ann");
    wait_counted(&environment, &phases("admitting"), 1.0);
    wait_counted(&environment, &phases("creating"), 1.0);
    assert_eq!(value(&environment, &phases("scheduling")), None);
    environment.move_pod("hello-ann", &PodMove::Run);
    wait_counted(&environment, &phases("scheduling"), 1.0);
    assert_eq!(value(&environment, &phases("readying")), None);
    environment.make_ready("hello-ann");
    wait_counted(&environment, &phases("readying"), 1.0);
    wait_counted(&environment, &starts("ready", ""), 1.0);
    // The durations are those of the start: together as long as the whole.
    let sum = |family: &str| {
        let text = environment.get("/metrics").text;
        let lines = text.lines().filter(|line| line.starts_with(family));
        let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>()
    };
    let phases = sum("config_controller_start_phase_duration_seconds_sum");
    let whole = sum("config_controller_start_duration_seconds_sum");
    assert!((phases - whole).abs() < 0.001, "{phases} {whole}");
    assert_eq!(value(&environment, FAILURE_REPORTS), Some(0.0));
}

#[test]
fn a_failed_start_is_a_failure_report() {
    let environment = TestEnvironment::by_hand();
    begin(&environment, "ann");
    environment.move_pod("hello-ann", &PodMove::Run);
    // The Job has a different reason, and may be seen before its pod.
    environment.kube.set_auto(false);
    let exit = Exit::at_once(3);
    environment.move_pod("hello-ann", &PodMove::Exit(exit));
    wait_counted(&environment, &starts("failed", "Error"), 1.0);
    wait_counted(&environment, FAILURE_REPORTS, 1.0);
    // Later changes are no new failure report.
    begin(&environment, "ann");
    environment.delete("/app/hello/ann").expect(200);
    assert_eq!(value(&environment, FAILURE_REPORTS), Some(1.0));
    assert_eq!(value(&environment, &starts("stopped", "")), None);
}

/// No request waits, and only time passes.
#[test]
fn a_late_start_is_one_failure_report_and_no_end() {
    let environment = TestEnvironment::by_hand();
    begin(&environment, "ann");
    environment.fail_pull("hello-ann");
    eventually("the trouble is seen", || {
        let response = environment.get_at_once("/app/hello/ann");
        (response.expect(202)["reason"] == "ErrImagePull").then_some(())
    });
    assert_eq!(value(&environment, FAILURE_REPORTS), Some(0.0));
    environment.advance(Duration::from_secs(12));
    wait_counted(&environment, FAILURE_REPORTS, 1.0);
    assert_eq!(value(&environment, &starts("failed", "ErrImagePull")), None);
    environment.make_ready("hello-ann");
    wait_counted(&environment, &starts("ready", ""), 1.0);
    assert_eq!(value(&environment, FAILURE_REPORTS), Some(1.0));
}

#[test]
fn every_other_end_of_a_start_has_its_result() {
    let environment = TestEnvironment::by_hand();
    begin(&environment, "stopped");
    environment.wait_pod("hello-stopped");
    environment.delete("/app/hello/stopped").expect(200);
    wait_counted(&environment, &starts("stopped", ""), 1.0);

    begin(&environment, "finished");
    let exit = Exit::at_once(0);
    environment.move_pod("hello-finished", &PodMove::Run);
    environment.move_pod("hello-finished", &PodMove::Exit(exit));
    wait_counted(&environment, &starts("finished", "Completed"), 1.0);
    wait_counted(&environment, FAILURE_REPORTS, 1.0);

    let quota = Fault::Refused("exceeded quota".to_owned());
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", quota).times(1));
    // It is retried, but the operator is to know.
    environment.get_at_once("/app/hello/denied").expect(202);
    wait_counted(&environment, &starts("denied", "quota"), 1.0);
}

#[test]
fn a_start_whose_response_is_lost_is_unknown() {
    let environment = TestEnvironment::new();
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", Fault::LoseAnswer).times(1));
    environment.start_instance("/app/hello/ann");
    wait_counted(&environment, &starts("unknown", "answer_lost"), 1.0);
    assert_eq!(value(&environment, &starts("ready", "")), Some(0.0));
    assert_eq!(environment.jobs(), ["hello-ann"]);
}

#[test]
fn the_replica_that_made_the_job_reports_its_start() {
    let mut environment = TestEnvironment::by_hand();
    let other = environment.add_replica();
    environment.wait_ready(other);
    begin(&environment, "ann");
    let waiting = environment.replica(other).begin_get("/app/hello/ann");
    environment.make_ready("hello-ann");
    waiting.finish().expect(200);
    wait_counted(&environment, &starts("ready", ""), 1.0);
    let text = environment.replica(other).get("/metrics").text;
    let mut starts = text
        .lines()
        .filter(|line| line.starts_with("config_controller_starts_total{"));
    assert!(starts.all(|line| line.ends_with(" 0")), "{text}");
    assert!(
        !text.contains("config_controller_start_phase_duration_seconds_count{"),
        "{text}"
    );
}

#[test]
fn unknown_values_become_no_label() {
    let environment = TestEnvironment::new();
    environment.get("/app/made-up/ann").expect(404);
    environment.client().begin("BREW", "/app", &[], "").finish();
    let text = environment.get("/metrics").text;
    assert!(
        !text.contains("made-up") && !text.contains("BREW"),
        "{text}"
    );
}

/// With one request that may wait for an instance, and does, a GET of `path` is refused and counted.
#[track_caller]
fn refused_beyond_the_bound(path: &str) -> (TestEnvironment, Pending) {
    let environment = TestEnvironment::builder()
        .pod_script(PodScript::by_hand())
        .setting("PARKED_PER_KEY_MAX", "1")
        .start();
    let first = environment.client().begin_get("/app/hello/ann");
    environment.wait_job("hello-ann");
    wait(&environment, "config_controller_waiting_requests", 1.0);
    environment.get(path).expect_error(429, "too_many_requests");
    let rejected = "config_controller_rejected_total{cause=\"parked_per_key_max\"}";
    assert_eq!(value(&environment, rejected), Some(1.0));
    (environment, first)
}

#[test]
fn a_request_beyond_the_bound_is_counted() {
    let (environment, first) = refused_beyond_the_bound("/app/hello/ann");
    drop(first);
    wait(
        &environment,
        "config_controller_abandoned_requests_total",
        1.0,
    );
    wait(&environment, "config_controller_waiting_requests", 0.0);
}

/// As [`a_request_beyond_the_bound_is_counted`], for `/create`; its caller gets a late response.
#[test]
fn a_create_beyond_the_bound_is_counted() {
    let (_environment, first) = refused_beyond_the_bound("/create/hello?sessionID=ann");
    drop(first);
}

#[test]
fn denied_requests_are_counted_by_reason() {
    let folder = TemporaryFolder::new();
    // Only an unbound token may read the metrics.
    let (token, unbound) = ("0123456789abcdefgh", "hgfedcba9876543210");
    let tokens = format!("{token} - hello\n{unbound} prometheus\n");
    let file = folder.write("tokens", &tokens);
    let environment = TestEnvironment::builder()
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .setting("AUTH_FAILURES_MAX", "2")
        .start();
    let (good, wrong) = (format!("Bearer {token}"), "Bearer not-the-token");
    let ask = |path: &str, authorization: Option<&str>| {
        let header = authorization.map(|value| ("Authorization", value));
        let client = environment.client();
        client.begin("GET", path, header.as_slice(), "").finish()
    };
    for (status, path, authorization) in [
        (401, "/app", None),
        (401, "/app", Some("Basic YTpi")),
        (401, "/app", Some(wrong)),
        (403, "/app/slow", Some(good.as_str())),
        (401, "/app", Some(wrong)),
        (429, "/app", Some(wrong)),
    ] {
        assert_eq!(ask(path, authorization).status, status, "{authorization:?}");
    }
    let text = ask("/metrics", Some(&format!("Bearer {unbound}"))).text;
    for (cause, count) in [
        ("missing", 1),
        ("malformed", 1),
        ("forbidden", 1),
        ("unknown", 2),
        ("slowed", 1),
    ] {
        let sample = format!("config_controller_rejected_total{{cause=\"auth_{cause}\"}}");
        let line = format!("{sample} {count}\n");
        assert!(text.contains(&line), "{line} is not in {text}");
    }
}

#[test]
fn calls_to_kubernetes_are_counted_by_their_code() {
    let environment = TestEnvironment::new();
    environment
        .kube
        .fault(FaultRule::new("create", "jobs", Fault::Status(503)).times(1));
    environment.start_instance("/app/hello/ann");
    let calls = |code: &str| {
        let name = "config_controller_kube_requests_total";
        value(
            &environment,
            &format!("{name}{{code=\"{code}\",resource=\"jobs\",verb=\"create\"}}"),
        )
    };
    assert_eq!((calls("503"), calls("201")), (Some(1.0), Some(1.0)));
}

/// A scrape after a little of everything.
fn busy_text() -> String {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    let started = "config_controller_starts_total{result=\"ready\",type=\"hello\"}";
    wait(&environment, started, 1.0);
    let quota = Fault::Refused("exceeded quota".to_owned());
    let refused = FaultRule::new("create", "jobs", quota).times(1);
    environment.kube.fault(refused);
    environment.start_instance("/app/hello/bob");
    wait(&environment, &starts("denied", "quota"), 1.0);
    environment
        .patch("/app/hello/ann", &json!({"a": "b"}))
        .expect(200);
    environment.delete("/app/hello/ann").expect(200);
    let stopped = "config_controller_stops_total{cause=\"asked\",type=\"hello\"}";
    wait(&environment, stopped, 1.0);
    environment.get("/metrics").text
}

#[test]
fn every_metric_of_the_table_is_published() {
    let text = busy_text();
    let published: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .collect();
    let declared: BTreeSet<&str> = ALL.iter().map(|family| family.name).collect();
    assert_eq!(published, declared);
}

#[test]
fn every_metric_is_documented() {
    for family in ALL {
        let labels: Vec<String> = family.labels.iter().map(|l| format!("`{l}`")).collect();
        let row = format!(
            "| `{}` | {} | {} | {} |",
            family.name,
            family.kind.word(),
            labels.join(", "),
            family.help
        );
        assert!(OPERATORS.contains(&row), "the table lacks the row\n{row}");
    }
    let rows = OPERATORS.lines().filter(|line| {
        line.starts_with("| `config_controller_") || line.starts_with("| `process_")
    });
    assert_eq!(rows.count(), ALL.len(), "the table has a row too many");
}

#[test]
#[ignore = "needs a cluster"]
fn promtool_accepts_the_text() {
    let folder = TemporaryFolder::new();
    let text = File::open(folder.write("metrics", &busy_text()));
    let output = promtool()
        .args(["check", "metrics"])
        .stdin(text.expect("the file can be read"))
        .output()
        .expect("promtool can be run");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && stderr.is_empty(), "{stderr}");
}
