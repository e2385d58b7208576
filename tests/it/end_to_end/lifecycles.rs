//! Jobs without a pod, and Jobs that have several, with real pods and Kubernetes' own controllers.

use std::net::IpAddr;

use serde_json::json;

use super::environment::{TestEnvironment, real};
use super::program::{Program, page};
use super::recorder::{self, Recorder};
use super::{LONG_WAIT, eventually};
use crate::harness::{PREFIX, Pending, Response};

#[track_caller]
fn begin(program: &Program, path: &str) -> Pending {
    let prefer = [("Prefer", LONG_WAIT)];
    program.client().begin("GET", path, &prefer, "")
}

/// No response reports a failure.
#[track_caller]
fn check_waits(response: &Response) {
    let waits = response.status == 202 && response.json()["status"] != "app_error";
    assert!(
        response.status == 200 || waits,
        "{}: {}",
        response.status,
        response.text
    );
}

/// Sends requests until the instance is ready; until then no response may report a failure.
#[track_caller]
fn until_ready(program: &Program, path: &str) -> IpAddr {
    eventually("the instance is ready", || {
        let got = program.get_prefer(path, "wait=5");
        let waits = got.code == 202 && got.body["status"] != "app_error";
        let is_fine = got.code == 200 || waits;
        assert!(is_fine, "{}: {}", got.code, got.body);
        (got.code == 200).then(|| got.ip())
    })
}

#[test]
#[ignore = "needs a cluster"]
fn a_job_without_a_pod_because_of_a_quota_is_pending_and_can_be_stopped() {
    let environment = TestEnvironment::shared();
    let [program] = environment.replicas();
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    let quotas = environment.all("resourcequotas");
    environment.api.post(&quotas, &quota).expect(201);
    eventually("the quota holds", || {
        let quota = environment.api.get(&format!("{quotas}/none")).expect(200);
        (quota["status"]["hard"]["pods"] == "0").then_some(())
    });

    let got = program.get_prefer("/app/hello/ann", "wait=1").expect(202);
    assert_eq!(got["status"], "node_not_ready", "{got}");
    assert_eq!(got["phase"], "creating", "{got}");
    assert_eq!(program.names("hello"), ["ann"]);
    program.delete("/app/hello/ann").expect(200);
    eventually("the Job is gone", || {
        environment.list("jobs").is_empty().then_some(())
    });

    let waiting = begin(&program, "/app/hello/ann");
    eventually("there is a Job", || {
        environment.has_job("hello-ann").then_some(())
    });
    let uid = environment.job_uid("hello-ann");
    environment.kubectl(&["delete", "resourcequota", "none"]);
    check_waits(&waiting.finish());
    let ip = until_ready(&program, "/app/hello/ann");
    assert_eq!(page(ip), "hello/ann");
    assert_eq!(environment.owner_of(ip), uid, "it is the Job that waited");
}

#[test]
#[ignore = "needs a cluster"]
fn a_suspended_job_is_pending_until_the_deadline() {
    let environment = TestEnvironment::shared();
    let [program] = environment.replicas();
    let (path, object) = (
        "/app/hello/ann",
        format!("{}/hello-ann", environment.all("jobs")),
    );
    program.get_prefer(path, LONG_WAIT).ip();
    let uid = environment.job_uid("hello-ann");
    let suspend = |yes: bool| {
        let patch = json!({"spec": {"suspend": yes}});
        environment.api.patch(&object, &patch).expect(200);
    };
    let is_suspended = || {
        let got = program.get_prefer(path, "wait=0");
        got.code == 202 && got.body["reason"] == "Suspended"
    };

    suspend(true);
    eventually("the Job is reported as suspended", || {
        is_suspended().then_some(())
    });
    let waiting = begin(&program, path);
    suspend(false);
    waiting.finish().expect(200);
    assert_eq!(environment.job_uid("hello-ann"), uid);

    suspend(true);
    eventually("the Job is reported as suspended again", || {
        is_suspended().then_some(())
    });
    // One that was answered just now may still be counted.
    program.await_waiting(0);
    let waiting = begin(&program, path);
    program.await_waiting(1);
    program.delete(path).expect(200);
    waiting.finish().expect_error(429, "limit_reached");
    program.get_prefer(path, LONG_WAIT).ip();
    assert_ne!(environment.job_uid("hello-ann"), uid);
}

/// A template with an app that exits with the code in the ConfigMap `mood`, and serves without it.
fn moody(restart_policy: &str) -> String {
    let env = "    - name: EXIT_CODE\n      valueFrom: {configMapKeyRef: {name: mood, key: code, optional: true}}\n";
    let template = real("moody", 1, &[]);
    let template = template.replace(
        "restartPolicy: Never",
        &format!("restartPolicy: {restart_policy}"),
    );
    template.replace("    env:\n", &format!("    env:\n{env}"))
}

#[track_caller]
fn set_mood(environment: &TestEnvironment<'_>, code: &str) {
    let mood = json!({"metadata": {"name": "mood"}, "data": {"code": code}});
    environment
        .api
        .post(&environment.all("configmaps"), &mood)
        .expect(201);
}

#[track_caller]
fn forget_mood(environment: &TestEnvironment<'_>) {
    let path = format!("{}/mood", environment.all("configmaps"));
    environment.api.delete(&path, &json!({})).expect(200);
}

#[test]
#[ignore = "needs a cluster"]
fn of_several_pods_of_a_retried_job_the_newest_counts() {
    let environment = TestEnvironment::shared();
    environment.offer_with("moody", "moody", &moody("Never"), &[("backoff-limit", "4")]);
    set_mood(&environment, "3");
    let [program] = environment.replicas();
    let pods = Recorder::start(&environment, "pods");
    let waiting = begin(&program, "/app/moody/ann");
    eventually("the first pod has failed", || {
        let pods = environment.list("pods");
        pods.iter()
            .any(|pod| pod["status"]["phase"] == "Failed")
            .then_some(())
    });
    forget_mood(&environment);
    // The Job controller makes the next one 10 s after the first has failed.
    check_waits(&waiting.finish());
    let ip = until_ready(&program, "/app/moody/ann");
    assert_eq!(page(ip), "moody");

    let made = recorder::made_for(&pods.finish(), "moody/ann").len();
    assert!(made >= 2, "{made}");
    assert_eq!(
        environment.list("pods").len(),
        made,
        "those that failed stay"
    );
    let list = program.get("/app/moody").expect(200);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(
        (&list[0]["ip"], &list[0]["errored"]),
        (&json!(ip), &json!(false))
    );
    program
        .patch("/app/moody/ann", r#"{"username": "ann"}"#)
        .expect(200);
    let label = format!("{PREFIX}meta-username");
    for pod in environment.list("pods") {
        let is_new = pod["status"]["podIP"] == json!(ip);
        assert_eq!(pod["metadata"]["labels"][&label] == "ann", is_new, "{pod}");
    }
}

#[test]
#[ignore = "needs a cluster"]
fn an_app_that_kubernetes_restarts_becomes_ready() {
    let environment = TestEnvironment::shared();
    environment.offer("moody", "moody", &moody("OnFailure"));
    set_mood(&environment, "3");
    let [program] = environment.replicas();
    let waiting = begin(&program, "/app/moody/ann");
    eventually("it has been run again", || {
        let pods = environment.list("pods");
        let restarts = &pods.first()?["status"]["containerStatuses"][0]["restartCount"];
        (restarts.as_u64()? > 0).then_some(())
    });
    forget_mood(&environment);
    check_waits(&waiting.finish());
    let ip = until_ready(&program, "/app/moody/ann");
    assert_eq!(page(ip), "moody");
    assert_eq!(
        (
            environment.list("jobs").len(),
            environment.list("pods").len()
        ),
        (1, 1)
    );
}

#[test]
#[ignore = "needs a cluster"]
fn a_job_without_retries_left_has_failed() {
    let environment = TestEnvironment::shared();
    let settings = [("backoff-limit", "0"), ("restart-failed", "never")];
    environment.offer_with("moody", "moody", &moody("OnFailure"), &settings);
    set_mood(&environment, "3");
    let [program] = environment.replicas();
    let got = program.get_prefer("/app/moody/ann", LONG_WAIT).expect(202);
    assert_eq!(got["status"], "app_error", "{got}");
    eventually("the Job has failed, and its pod is gone", || {
        let conditions = environment.list("jobs")[0]["status"]["conditions"].clone();
        let mut conditions = conditions.as_array()?.iter();
        let has_failed = conditions.any(|one| one["type"] == "Failed" && one["status"] == "True");
        (has_failed && environment.list("pods").is_empty()).then_some(())
    });
    let uid = environment.job_uid("moody-ann");
    let got = program.get_prefer("/app/moody/ann", LONG_WAIT).expect(202);
    assert_eq!(got["status"], "app_error", "{got}");
    assert_eq!(
        environment.job_uid("moody-ann"),
        uid,
        "it is kept until it is stopped"
    );
    program.delete("/app/moody/ann").expect(200);
    forget_mood(&environment);
    assert_eq!(page(until_ready(&program, "/app/moody/ann")), "moody");
}
