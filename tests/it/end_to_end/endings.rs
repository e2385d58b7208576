//! Instances that end, by themselves or ended by others, and what the next GET returns, with real pods.

use std::fs::Permissions;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::environment::{TestEnvironment, real, text};
use super::program::{Program, page};
use super::recorder::{self, Recorder};
use super::{LONG_WAIT, eventually};
use crate::cluster::{self, Cluster};
use crate::harness::{PREFIX, TemporaryFolder};

/// An instance that has been ready.
struct Old {
    ip: IpAddr,
    uid: String,
}

#[track_caller]
fn start(environment: &TestEnvironment<'_>, program: &Program, name: &str) -> Old {
    let ip = program.get_prefer(&path(name), LONG_WAIT).ip();
    let uid = environment.job_uid(&format!("app-{name}"));
    Old { ip, uid }
}

fn path(name: &str) -> String {
    format!("/app/app/{name}")
}

#[track_caller]
fn job(environment: &TestEnvironment<'_>, name: &str) -> Value {
    let path = format!("{}/app-{name}", environment.all("jobs"));
    environment.api.get(&path).expect(200)
}

/// The newest pod of a name.
#[track_caller]
fn pod(environment: &TestEnvironment<'_>, name: &str) -> Value {
    let pods = environment.list("pods");
    let own = pods
        .into_iter()
        .filter(|pod| pod["metadata"]["labels"]["job-name"] == format!("app-{name}"));
    let newest = own.max_by_key(|pod| text(&pod["metadata"]["creationTimestamp"]));
    newest.expect("the name has a pod")
}

#[track_caller]
fn time(value: &Value) -> Timestamp {
    text(value).parse().expect("a timestamp")
}

/// Whether this condition of a Job holds.
fn holds(job: &Value, kind: &str) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    let mut all = conditions.into_iter().flatten();
    all.any(|one| one["type"] == kind && one["status"] == "True")
}

/// How many failures in a row a Job carries.
fn failures(job: &Value) -> Option<&str> {
    job["metadata"]["annotations"][format!("{PREFIX}failures")].as_str()
}

#[track_caller]
fn evict(environment: &TestEnvironment<'_>, name: &str) {
    let pod = text(&pod(environment, name)["metadata"]["name"]);
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod},
    });
    let path = format!("{}/{pod}/eviction", environment.all("pods"));
    environment.api.post(&path, &eviction).expect(201);
}

#[track_caller]
fn delete_pod(environment: &TestEnvironment<'_>, name: &str) {
    let selector = format!("--selector=job-name=app-{name}");
    environment.kubectl(&["delete", "pod", &selector, "--wait=false"]);
}

/// Asks until there is an instance of another Job; until then a failure report may be returned.
#[track_caller]
fn until_replaced(
    environment: &TestEnvironment<'_>,
    program: &Program,
    name: &str,
    old: &Old,
) -> Old {
    eventually("there is a new instance", || {
        let got = program.get_prefer(&path(name), "wait=5");
        assert!([200, 202].contains(&got.code), "{}: {}", got.code, got.body);
        let is_new = got.code == 200 && environment.job_uid(&format!("app-{name}")) != old.uid;
        is_new.then(|| start(environment, program, name))
    })
}

/// Settings of a template whose instances are replaced so soon after they failed.
const SOON: &[(&str, &str)] = &[("restart-delay", "2s")];

#[test]
#[ignore = "needs a cluster"]
fn a_manually_deleted_pod_is_a_failure_and_replaced_after_the_delay() {
    let environment = TestEnvironment::shared();
    let stubborn = real("stubborn", 1, &[("IGNORE_TERM", "1")]);
    environment.offer_with("app", "app", &stubborn, SOON);
    let [program] = environment.replicas();
    let jobs = Recorder::start(&environment, "jobs");
    let old = start(&environment, &program, "ann");
    delete_pod(&environment, "ann");
    eventually("the Job has failed", || {
        holds(&job(&environment, "ann"), "Failed").then_some(())
    });
    let failed = job(&environment, "ann");
    let new = until_replaced(&environment, &program, "ann", &old);
    assert_eq!(page(new.ip), "stubborn");
    let next = job(&environment, "ann");
    assert_eq!(failures(&next), Some("1"));
    let ended = failed["status"]["conditions"].as_array();
    let ended = ended
        .into_iter()
        .flatten()
        .map(|one| time(&one["lastTransitionTime"]));
    let waited = time(&next["metadata"]["creationTimestamp"])
        .duration_since(ended.min().expect("its pod has ended"));
    assert!(waited.as_secs() >= 2, "{failed} {next}");
    assert_eq!(
        recorder::made_for(&jobs.finish(), "app/ann"),
        [old.uid, new.uid]
    );
}

#[test]
#[ignore = "needs a cluster"]
fn an_app_that_exits_with_0_on_sigterm_has_finished() {
    let environment = TestEnvironment::shared();
    // So that none of them ends sooner than a failure is kept.
    let settings = [("restart-delay", "1s")];
    environment.offer_with("app", "app", &real("polite", 5, &[]), &settings);
    let [program] = environment.replicas();
    let (environment, program) = (&environment, &program);
    std::thread::scope(|scope| {
        scope.spawn(|| check_ends_well(environment, program, "deleted", delete_pod));
        scope.spawn(|| check_ends_well(environment, program, "evicted", evict));
    });
}

/// Ends an instance with an app that then exits with 0, and finds it replaced immediately.
#[track_caller]
fn check_ends_well(
    environment: &TestEnvironment<'_>,
    program: &Program,
    name: &str,
    end: impl Fn(&TestEnvironment<'_>, &str),
) {
    let old = start(environment, program, name);
    let began = time(&job(environment, name)["status"]["startTime"]);
    eventually("it has lasted long enough", || {
        (Timestamp::now().duration_since(began).as_secs() >= 3).then_some(())
    });
    end(environment, name);
    eventually("the Job is complete", || {
        holds(&job(environment, name), "Complete").then_some(())
    });
    eventually("the list shows the end", || {
        let list = program.get("/app/app").expect(200);
        let mut entries = list.as_array().into_iter().flatten();
        let own = entries.find(|entry| entry["name"] == name)?;
        (own["errored"] == true).then_some(())
    });
    // Immediately, and without a failure report.
    let new = start(environment, program, name);
    assert_ne!(new.uid, old.uid, "{name}");
    assert_eq!(failures(&job(environment, name)), None, "{name}");
}

/// The app exits with code 0 on SIGTERM, so its Job is complete, and nothing in the Job says why.
#[test]
#[ignore = "needs a cluster"]
fn an_evicted_app_that_exits_with_0_is_replaced_without_a_failure_report() {
    let environment = TestEnvironment::shared();
    environment.offer("app", "app", &real("polite", 2, &[]));
    let [program] = environment.replicas();
    let pods = Recorder::start(&environment, "pods");
    let old = start(&environment, &program, "ann");
    evict(&environment, "ann");
    eventually("another instance is ready", || {
        let got = program.get_prefer(&path("ann"), "wait=1");
        println!("{} {}", got.code, got.body);
        let is_waiting = got.code == 202 && got.body["status"] != "app_error";
        assert!(got.code == 200 || is_waiting, "{}: {}", got.code, got.body);
        (got.code == 200 && got.ip() != old.ip).then_some(())
    });
    assert_ne!(environment.job_uid("app-ann"), old.uid);
    assert_eq!(failures(&job(&environment, "ann")), None);
    recorder::check_one_live_pod(&pods.finish());
}

/// Kubernetes keeps the pod that has failed, and removes the one that was deleted.
#[test]
#[ignore = "needs a cluster"]
fn a_deleted_pod_whose_predecessor_had_failed_is_no_end_by_the_app() {
    let environment = TestEnvironment::shared();
    // Pods count their failures in this file, as users of their own.
    let folder = TemporaryFolder::new();
    let counted = folder.write("failures", "");
    std::fs::set_permissions(counted, Permissions::from_mode(0o666)).expect("it is ours");
    let fails_once = [
        ("EXIT_CODE", "3"),
        ("FAILURES", "1"),
        ("FAILURES_FILE", "/state/failures"),
    ];
    let template = real("retried", 2, &fails_once);
    let state = format!(
        "    volumeMounts: [{{name: state, mountPath: /state}}]
  volumes: [{{name: state, hostPath: {{path: {}}}}}]
",
        folder.path("").display()
    );
    let settings = [("backoff-limit", "3"), ("restart-delay", "60s")];
    environment.offer_with("app", "app", &format!("{template}{state}"), &settings);
    let [program] = environment.replicas();
    let old = eventually("the second pod serves", || {
        let got = program.get_prefer(&path("ann"), LONG_WAIT);
        (got.code == 200).then(|| Old {
            ip: got.ip(),
            uid: environment.job_uid("app-ann"),
        })
    });
    let second = text(&pod(&environment, "ann")["metadata"]["name"]);
    environment.kubectl(&["delete", "pod", &second, "--wait=false"]);
    eventually("another instance is ready", || {
        let got = program.get_prefer(&path("ann"), "wait=1");
        let is_waiting = got.code == 202 && got.body["status"] != "app_error";
        assert!(got.code == 200 || is_waiting, "{}: {}", got.code, got.body);
        (got.code == 200 && got.ip() != old.ip).then_some(())
    });
    assert_ne!(environment.job_uid("app-ann"), old.uid);
    assert_eq!(failures(&job(&environment, "ann")), None);
}

#[test]
#[ignore = "needs a cluster"]
fn an_evicted_pod_comes_back_in_the_same_job_with_its_labels() {
    let environment = TestEnvironment::shared();
    let stubborn = real("stubborn", 2, &[("IGNORE_TERM", "1")]);
    environment.offer("app", "app", &stubborn);
    let [program] = environment.replicas();
    let pods = Recorder::start(&environment, "pods");
    let old = start(&environment, &program, "ann");
    let labels = r#"{"username": "ann", "note": "ä ö ü"}"#;
    program.patch(&path("ann"), labels).expect(200);
    evict(&environment, "ann");
    let new = eventually("another pod is ready", || {
        let got = program.get_prefer(&path("ann"), "wait=5");
        let is_waiting = got.code == 202 && got.body["status"] != "app_error";
        assert!(got.code == 200 || is_waiting, "{}: {}", got.code, got.body);
        let is_new = got.code == 200 && got.body["ip"] != old.ip.to_string();
        is_new.then(|| got.ip())
    });
    assert_eq!(page(new), "stubborn");
    assert_eq!(environment.owner_of(new), old.uid);
    let labelled = json!({"ip": new, "username": "ann", "note": "ä ö ü"});
    eventually("it has the labels of its predecessor", || {
        (program.get(&path("ann")).expect(200) == labelled).then_some(())
    });
    let pods = pods.finish();
    recorder::check_one_live_pod(&pods);
    assert_eq!(recorder::made_for(&pods, "app/ann").len(), 2);
}

#[test]
#[ignore = "needs a cluster"]
fn an_app_that_exits_immediately_is_restarted_with_growing_delays() {
    let cluster = cluster::shared();
    let _others = cluster::beside_others();
    std::thread::scope(|scope| {
        // It must end sooner than a failure is kept, also on a busy machine, or it has ended well.
        scope.spawn(|| check_immediate_end(cluster, 0, "Completed", "12s", &[12]));
        scope.spawn(|| check_immediate_end(cluster, 3, "Error", "6s", &[6, 12]));
    });
}

/// An app that exits immediately is restarted after these delays, however often it is requested.
#[track_caller]
fn check_immediate_end(
    cluster: &Cluster,
    exit_code: i32,
    reason: &str,
    restart_delay: &str,
    delays_secs: &[i64],
) {
    let environment = TestEnvironment::new(cluster);
    let exit_code_text = exit_code.to_string();
    let variables = [
        ("EXIT_CODE", exit_code_text.as_str()),
        ("EXIT_MESSAGE", "no licence"),
    ];
    let ends = real("", 1, &variables);
    environment.offer_with("app", "app", &ends, &[("restart-delay", restart_delay)]);
    let [program] = environment.replicas();
    let jobs = Recorder::start(&environment, "jobs");
    let mut previous: Option<Run> = None;
    for count in 0..=delays_secs.len() {
        let run = eventually("there is another Job", || {
            let got = program.get_prefer(&path("ann"), LONG_WAIT).expect(202);
            let reported = (&got["status"], &got["reason"], &got["exitCode"]);
            let expected = (&json!("app_error"), &json!(reason), &json!(exit_code));
            assert_eq!(reported, expected, "{got}");
            let run = Run::of(&environment, "ann");
            let is_new = previous.as_ref().is_none_or(|old| old.uid != run.uid);
            is_new.then_some(run)
        });
        let carried = (count > 0).then(|| count.to_string());
        assert_eq!(run.failures, carried);
        if let Some(previous) = previous {
            let waited = run.created.duration_since(previous.ended).as_secs();
            assert!(
                waited >= delays_secs[count - 1],
                "failure {count}: {waited} s"
            );
        }
        previous = Some(run);
    }
    let made = recorder::made_for(&jobs.finish(), "app/ann").len();
    assert_eq!(made, delays_secs.len() + 1);
}

/// A Job whose app has ended, and when.
struct Run {
    uid: String,
    failures: Option<String>,
    created: Timestamp,
    ended: Timestamp,
}

impl Run {
    #[track_caller]
    fn of(environment: &TestEnvironment<'_>, name: &str) -> Self {
        let job = job(environment, name);
        let status = &pod(environment, name)["status"]["containerStatuses"][0];
        Self {
            uid: text(&job["metadata"]["uid"]),
            failures: failures(&job).map(str::to_owned),
            created: time(&job["metadata"]["creationTimestamp"]),
            ended: time(&status["state"]["terminated"]["finishedAt"]),
        }
    }
}

#[test]
#[ignore = "needs a cluster"]
fn an_instance_at_its_maximum_lifetime_is_replaced_immediately() {
    let environment = TestEnvironment::shared();
    let settings = [("max-lifetime", "4s")];
    environment.offer_with("app", "app", &real("short", 1, &[]), &settings);
    let [program] = environment.replicas();
    let old = start(&environment, &program, "ann");
    eventually("the Job has ended", || {
        holds(&job(&environment, "ann"), "Failed").then_some(())
    });
    eventually("the program knows", || {
        (program.get("/app/app").expect(200)[0]["errored"] == true).then_some(())
    });
    let new = start(&environment, &program, "ann");
    assert_ne!(new.uid, old.uid);
    assert_eq!(page(new.ip), "short");
    assert_eq!(failures(&job(&environment, "ann")), None);
}
