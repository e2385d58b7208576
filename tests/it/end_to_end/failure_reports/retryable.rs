//! Starts that may still succeed: callers get the reason, and `app_error` only after the budget of
//! the template. Once the cause is fixed, the start succeeds.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::LONG_WAIT;
use super::super::environment::TestEnvironment;
use super::super::failing_pods::{self, NodeLabel};
use super::super::program::{Got, Program};
use super::super::registry::Registry;
use super::{
    ExpectedReport, Observed, PULL_ERRORS, TRIES_FULL, ask_until, is_failure, offer, tries,
};
use crate::cluster;

/// A budget that is long enough to see that it is waited for, in seconds.
const BUDGET_SECS: u64 = 4;

/// How much sooner than its first observation a budget may begin. Kubernetes' timestamps are whole
/// seconds, and the kubelet reports a status up to a second late.
const COARSE: Duration = Duration::from_secs(2);

/// How long an unschedulable pod is requested in long runs.
const LONG_UNSCHEDULABLE: Duration = Duration::from_secs(60);

/// A start that is `app_error` once its budget is spent, and not sooner.
struct Budgeted {
    app_type: &'static str,
    template: Value,
    /// The annotation of its budget.
    budget: &'static str,
    /// What starts the budget: a kind of object, and a word in it.
    begins: (&'static str, &'static str),
    expected: ExpectedReport,
}

/// Sends requests until there is a failure report, and checks that it came after the budget and not
/// sooner.
#[track_caller]
fn check_budget(
    environment: &TestEnvironment<'_>,
    program: &Program,
    observed: &Observed,
    case: &Budgeted,
) {
    let budget = format!("{BUDGET_SECS}s");
    offer(
        environment,
        case.app_type,
        &case.template,
        &[(case.budget, &budget)],
    );
    program.wait_log(&format!("app type {} is on offer", case.app_type));
    let path = format!("/app/{}/ann", case.app_type);
    let responses = ask_until(program, &path, "a failure report", is_failure);
    let reported_at = Instant::now();
    let (failure, before) = responses.split_last().expect("there are responses");
    // On a busy node the kubelet first reports that it has not read the missing object. The reason
    // is the same, and its next attempt has the full message.
    let reason = ExpectedReport {
        message_parts: &[],
        ..case.expected
    };
    reason.check("app_error", failure);
    let is_whole = |got: &Got| is_failure(got) && case.expected.has_message_of(got);
    if !is_whole(failure) {
        ask_until(program, &path, "the sentence", is_whole);
    }
    let legacy = match case.expected.phase {
        "creating" | "scheduling" => "node_not_ready",
        _ => "pulling_image",
    };
    let in_time = before.iter().find(|got| case.expected.has_reason_of(got));
    let in_time = in_time.unwrap_or_else(|| panic!("no response had the reason: {before:?}"));
    reason.check(legacy, in_time);
    let began = observed.when(&format!("{}-ann", case.app_type), case.begins);
    let after = reported_at.saturating_duration_since(began);
    cluster::print_line(&format!(
        "FIGURE | {} | reported after {} ms of its first appearance, {BUDGET_SECS} s is its budget |",
        case.app_type,
        after.as_millis()
    ));
    assert!(
        after + COARSE >= Duration::from_secs(BUDGET_SECS),
        "reported too soon: {after:?}"
    );
}

#[test]
#[ignore = "needs a cluster"]
fn a_failing_start_is_app_error_after_its_budget() {
    let environment = TestEnvironment::shared();
    let registry = Registry::start();
    let observed = Observed::start(&environment);
    let program = environment.program();
    let crashing = failing_pods::on_failure(failing_pods::exits("3", "no licence"));
    let pull = environment.cluster.phase_of_a_pull();
    let silence: (&str, &[&str]) = match pull {
        "pulling" => ("start-budget.pulling", &["ContainerCreating"]),
        _ => ("start-budget.mounting", &["Mounting"]),
    };
    std::thread::scope(|scope| {
        for case in [
            Budgeted {
                app_type: "registry-500",
                template: failing_pods::image(&registry.image("r500")),
                budget: "start-budget.pull-error",
                begins: ("Pod", "ErrImagePull"),
                expected: ExpectedReport::new(
                    "pulling",
                    PULL_ERRORS,
                    &["500 Internal Server Error"],
                ),
            },
            Budgeted {
                app_type: "registry-silent",
                template: failing_pods::image(&registry.image("never")),
                budget: silence.0,
                begins: ("Pod", "PodScheduled"),
                expected: ExpectedReport::new(pull, silence.1, &["image"]),
            },
            Budgeted {
                app_type: "no-probe",
                template: failing_pods::never_ready(),
                budget: "start-budget.readying",
                begins: ("Pod", "\"running\""),
                expected: ExpectedReport::new(
                    "readying",
                    &["Unhealthy"],
                    &["Readiness probe failed: Get"],
                ),
            },
            Budgeted {
                app_type: "crashing",
                template: crashing,
                budget: "start-budget.starting",
                begins: ("Pod", "\"terminated\""),
                expected: ExpectedReport::new(
                    "starting",
                    &["CrashLoopBackOff", "Error"],
                    &["code 3"],
                )
                .ended(3, Some("no licence")),
            },
        ] {
            let (environment, program, observed) = (&environment, &program, &observed);
            scope.spawn(move || check_budget(environment, program, observed, &case));
        }
    });
}

#[test]
#[ignore = "needs a cluster"]
fn a_missing_secret_is_reported_and_once_created_the_start_succeeds() {
    let environment = TestEnvironment::shared();
    let observed = Observed::start(&environment);
    let program = environment.program();
    let case = Budgeted {
        app_type: "secretive",
        template: failing_pods::secret_variable(),
        budget: "start-budget.starting",
        begins: ("Pod", "CreateContainerConfigError"),
        expected: ExpectedReport::new(
            "starting",
            &["CreateContainerConfigError"],
            &["secret \"password\" not found"],
        ),
    };
    check_budget(&environment, &program, &observed, &case);
    failing_pods::make_secret(&environment);
    ask_until(&program, "/app/secretive/ann", "it is ready", is_ready);
}

#[test]
#[ignore = "needs a cluster"]
fn a_missing_volume_is_reported_and_once_created_the_start_succeeds() {
    let environment = TestEnvironment::shared();
    offer(
        &environment,
        "mounting",
        &failing_pods::config_volume(),
        &[],
    );
    let program = environment.program();
    let expected = ExpectedReport::new(
        "mounting",
        &["FailedMount"],
        &["configmap \"settings\" not found"],
    );
    check_retryable(&program, "/app/mounting/ann", "pulling_image", &expected);
    failing_pods::make_settings(&environment);
    check_passes(&program, "/app/mounting/ann");
}

#[test]
#[ignore = "needs a cluster"]
fn a_quota_on_pods_is_reported_and_once_raised_the_start_succeeds() {
    let environment = TestEnvironment::shared();
    failing_pods::make_quota(&environment, "pods", "0");
    offer(&environment, "plain", &failing_pods::app(|_| ()), &[]);
    let program = environment.program();
    let expected = ExpectedReport::new(
        "creating",
        &["FailedCreate"],
        &["exceeded quota: small", "limited: pods=0"],
    );
    check_retryable(&program, "/app/plain/ann", "node_not_ready", &expected);
    failing_pods::raise_quota(&environment, "pods", "5");
    check_passes(&program, "/app/plain/ann");
}

#[test]
#[ignore = "needs a cluster"]
fn a_quota_on_jobs_refuses_immediately_and_once_raised_the_start_succeeds() {
    let environment = TestEnvironment::shared();
    failing_pods::make_quota(&environment, "count/jobs.batch", "0");
    offer(&environment, "plain", &failing_pods::app(|_| ()), &[]);
    let program = environment.program();
    let refused = program.get_prefer("/app/plain/ann", LONG_WAIT).expect(403);
    assert_eq!(refused["code"], "refused", "{refused}");
    let msg = refused["msg"].as_str().unwrap_or_default();
    assert!(msg.contains("exceeded quota: small"), "{refused}");
    failing_pods::raise_quota(&environment, "count/jobs.batch", "5");
    // The API server uses the old quota for a moment.
    ask_until(&program, "/app/plain/ann", "it is ready", is_ready);
}

#[test]
#[ignore = "needs a cluster"]
fn an_unschedulable_pod_is_ready_once_a_node_takes_it() {
    let environment = TestEnvironment::shared();
    let label = format!("failure-reports/{}", environment.namespace);
    offer(
        &environment,
        "homeless",
        &failing_pods::selecting(&label),
        &[],
    );
    let program = environment.program();
    // The number of nodes depends on the tests beside this one.
    let expected = ExpectedReport::new(
        "scheduling",
        &["Unschedulable"],
        &[" nodes are available: "],
    );
    let (began, mut polls) = (Instant::now(), 0);
    while polls < 10 || (tries() >= TRIES_FULL && began.elapsed() < LONG_UNSCHEDULABLE) {
        let got = program.get_prefer("/app/homeless/ann", "wait=1");
        expected.check("node_not_ready", &got);
        polls += 1;
    }
    cluster::print_line(&format!(
        "FIGURE asked {polls} times in {} s for a pod without a node, and never reported as failed",
        began.elapsed().as_secs()
    ));
    let _label = NodeLabel::set(&environment, &label);
    check_passes(&program, "/app/homeless/ann");
}

fn is_ready(got: &Got) -> bool {
    got.code == 200
}

/// Sends requests until the response has the expected message, without an `app_error` meanwhile.
#[track_caller]
fn check_retryable(program: &Program, path: &str, status: &str, expected: &ExpectedReport) {
    let is_it = |got: &Got| expected.has_message_of(got) || is_failure(got);
    let responses = ask_until(program, path, expected.phase, is_it);
    expected.check(status, responses.last().expect("there are responses"));
}

/// Sends requests until the instance is ready, without an `app_error` meanwhile.
#[track_caller]
fn check_passes(program: &Program, path: &str) {
    let responses = ask_until(program, path, "it is ready", is_ready);
    let failure = responses.iter().find(|got| is_failure(got));
    assert!(failure.is_none(), "{failure:?}");
}
