//! Edits of templates and PUT on a real cluster: two replicas, instances on the stand-in node.
//!
//! How many are not ready is read from the API server; between two looks more may have been.

use super::environment::{STAND_IN, TestEnvironment};
use super::program::Program;
use super::{LONG_WAIT, eventually};
use crate::harness::Response;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// So many instances: two at a time are restarted.
const COUNT: usize = 20;

/// Two replicas may each begin as many before they see those of the other.
const UNREADY_MAX: usize = 4;

/// Longer than several restarts take.
const QUIET: Duration = Duration::from_secs(8);

/// A template whose pods show a value and a version; `does` is what they do.
fn template(version: &str, does: &str) -> String {
    let metadata = format!(
        "\nmetadata:\n  annotations: {{stand-in/does: '{does}', stand-in/after: 300ms, version: '{version}'}}\n"
    );
    let container = "image: stand-in, args: [\"${alternatives.get('tz', 'UTC')}\"], readinessProbe: {tcpSocket: {port: 80}}}";
    metadata
        + STAND_IN
            .trim_start()
            .replace("image: stand-in}", container)
            .as_str()
}

fn edit(environment: &TestEnvironment<'_>, text: &str, on_change: &str) {
    environment.offer_with("app", "app", text, &[("on-change", on_change)]);
}

fn replica(environment: &TestEnvironment<'_>, name: &str) -> Program {
    let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
    let settings = [
        ("DRAIN_DELAY", "0s"),
        ("POD_NAME", name),
        ("RESTART_IDLE_AFTER", "2s"),
    ];
    Program::start_ready(&kubeconfig, &settings)
}

fn path(name: &str) -> String {
    format!("/app/app/{name}")
}

fn put(program: &Program, target: &str, headers: &[(&str, &str)]) -> Response {
    program.client().begin("PUT", target, headers, "").finish()
}

/// The pod templates of all Jobs that are not being deleted, by name.
fn jobs(environment: &TestEnvironment<'_>) -> BTreeMap<String, (Value, Value)> {
    let all = environment.list("jobs").into_iter();
    let there = all.filter(|job| job["metadata"]["deletionTimestamp"].is_null());
    let named = there.map(|job| {
        let name = job["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        (
            name,
            (
                job["metadata"]["uid"].clone(),
                job["spec"]["template"].clone(),
            ),
        )
    });
    named.collect()
}

fn of_version(environment: &TestEnvironment<'_>, version: &str) -> usize {
    let all = jobs(environment);
    let versions = all
        .values()
        .map(|(_, pod)| &pod["metadata"]["annotations"]["version"]);
    versions.filter(|it| **it == version).count()
}

fn unready(environment: &TestEnvironment<'_>) -> usize {
    let is_ready = |pod: &&Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let ready = conditions.and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
        pod["metadata"]["deletionTimestamp"].is_null()
            && ready.is_some_and(|it| it["status"] == "True")
    };
    let pods = environment.list("pods");
    COUNT.saturating_sub(pods.iter().filter(is_ready).count())
}

/// Waits until all are of this version and ready; returns how many were not ready at once, at most.
fn roll(environment: &TestEnvironment<'_>, version: &str) -> usize {
    let mut most = 0;
    eventually("all are of the new version and ready", || {
        let unready = unready(environment);
        most = most.max(unready);
        (of_version(environment, version) == COUNT && unready == 0).then_some(())
    });
    most
}

#[track_caller]
fn nothing_happens(environment: &TestEnvironment<'_>) {
    let (before, began) = (jobs(environment), Instant::now());
    eventually("nothing is restarted for a while", || {
        assert_eq!(jobs(environment), before);
        (began.elapsed() > QUIET).then_some(())
    });
}

#[test]
#[ignore = "needs a cluster"]
fn an_edit_restarts_all_and_a_bad_one_a_tenth() {
    let environment = TestEnvironment::shared();
    edit(&environment, &template("1", ""), "restart");
    let replicas = [replica(&environment, "one"), replica(&environment, "two")];
    for n in 0..COUNT {
        let target = format!("{}?tz=Z{n}", path(&format!("n{n}")));
        replicas[n % 2].get_prefer(&target, LONG_WAIT).ip();
    }
    let before = jobs(&environment);
    // One whose dry run fails.
    edit(
        &environment,
        &template("0", "").replace("name: main", "name: M_N"),
        "restart",
    );
    nothing_happens(&environment);
    edit(&environment, &template("2", ""), "restart");
    let most = roll(&environment, "2");
    assert!((1..=UNREADY_MAX).contains(&most), "{most} were not ready");
    let after = jobs(&environment);
    for (name, (uid, pod)) in &before {
        let (new_uid, new_pod) = &after[name];
        assert_ne!(uid, new_uid, "{name}");
        let args = |pod: &Value| pod["spec"]["containers"][0]["args"].clone();
        assert_eq!(args(pod), args(new_pod), "{name}");
    }
    // One that does not become ready.
    edit(&environment, &template("3", "unready"), "restart");
    eventually("some are restarted", || {
        (of_version(&environment, "3") >= 2).then_some(())
    });
    nothing_happens(&environment);
    let restarted = of_version(&environment, "3");
    assert!(restarted <= UNREADY_MAX, "{restarted} were restarted");
    assert_eq!(unready(&environment), restarted);
    edit(&environment, &template("4", ""), "restart");
    let most = roll(&environment, "4");
    eprintln!(
        "{restarted} of {COUNT} were taken by the bad edit, then {most} were not ready at most"
    );
    for replica in &replicas {
        let log = replica.log_text();
        assert!(!log.contains(" ERROR "), "{log}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn what_is_used_is_restarted_when_it_is_idle() {
    let environment = TestEnvironment::shared();
    edit(&environment, &template("1", ""), "restart-idle");
    let replicas = [replica(&environment, "one"), replica(&environment, "two")];
    for name in ["used", "unused"] {
        replicas[0].get_prefer(&path(name), LONG_WAIT).ip();
    }
    let before = jobs(&environment);
    edit(&environment, &template("2", ""), "restart-idle");
    let is_new = |name: &str| {
        let all = jobs(&environment);
        all.get(name).is_some_and(|it| it.0 != before[name].0)
    };
    let began = Instant::now();
    eventually("only what nobody uses is restarted", || {
        replicas[0].get(&path("used")).ip();
        std::thread::park_timeout(Duration::from_millis(200));
        assert!(!is_new("app-used"));
        (is_new("app-unused") && began.elapsed() > QUIET).then_some(())
    });
    eventually("the other one follows", || is_new("app-used").then_some(()));
}

#[test]
#[ignore = "needs a cluster"]
fn an_instance_is_replaced() {
    let environment = TestEnvironment::shared();
    edit(&environment, &template("1", ""), "keep");
    let replica = replica(&environment, "one");
    let target = path("ann");
    replica
        .get_prefer(&format!("{target}?tz=A"), LONG_WAIT)
        .ip();
    let before = environment.job_uid("app-ann");
    put(&replica, &target, &[("If-Match", "\"uid:x\"")]).expect_error(412, "precondition_failed");
    put(&replica, "/app/none/ann", &[]).expect_error(404, "unknown_type");
    put(&replica, &format!("{target}?tz=%00"), &[]).expect_error(422, "variable_invalid");
    assert_eq!(environment.job_uid("app-ann"), before);
    let known = format!("\"uid:{before}\"");
    let headers = [("If-Match", &*known), ("Prefer", LONG_WAIT)];
    put(&replica, &format!("{target}?tz=B"), &headers).expect(200);
    let after = jobs(&environment);
    let (uid, pod) = &after["app-ann"];
    assert_ne!(*uid, json!(before));
    assert_eq!(pod["spec"]["containers"][0]["args"], json!(["B"]));
    put(&replica, &path("new"), &[("Prefer", LONG_WAIT)]).expect(200);
}
