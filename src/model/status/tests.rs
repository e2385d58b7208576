//! Each row: a Job and its pods as the API server spells them, and what is made of them.
//!
//! What is made of them is written as one line, see [`line`].

mod ends;
mod events;
mod retries;
mod starts;
mod unclear;

use super::*;
use crate::kube::types::Resource;
use serde_json::{Value, json};
use std::time::Instant;

const T0: &str = "2026-05-01T10:00:00Z";

/// T0 and so many seconds.
fn at(secs: i64) -> String {
    let zero = Timestamp::parse(T0).unwrap().seconds();
    Timestamp::from_seconds(zero + secs).to_string()
}

/// JSON merge patch (RFC 7386): how an object differs from the default.
fn merge(base: &mut Value, patch: &Value) {
    let (Some(base), Some(patch)) = (base.as_object_mut(), patch.as_object()) else {
        *base = patch.clone();
        return;
    };
    for (key, value) in patch {
        merge(base.entry(key.clone()).or_insert(Value::Null), value);
    }
}

/// A Job of restart policy Never, made at T0.
fn job(patch: Value) -> Job {
    let mut json = json!({
        "metadata": {
            "name": "scim-n1", "uid": "u1", "creationTimestamp": T0,
            "annotations": {
                "config-controller.semafor.ch/instance-type": "scim",
                "config-controller.semafor.ch/instance-name": "n1",
            },
        },
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never"}}},
        "status": {"startTime": T0},
    });
    merge(&mut json, &patch);
    Job::decode(json.to_string().as_bytes()).unwrap().unwrap()
}

fn conditions(conditions: &[(&str, &str, i64)]) -> Value {
    conditions
        .iter()
        .map(|(kind, status, since)| json!({"type": kind, "status": status, "lastTransitionTime": at(*since)}))
        .collect()
}

/// A Job with one condition that holds.
fn job_with(kind: &str, since: i64, reason: &str) -> Job {
    let message = "says the controller";
    job(json!({"status": {"conditions": [{
        "type": kind, "status": "True", "lastTransitionTime": at(since), "reason": reason, "message": message,
    }]}}))
}

/// A pod that waits for a node, made a second after its Job.
fn pod(patch: Value) -> Arc<Pod> {
    let mut json = json!({
        "metadata": {"name": "scim-n1-a", "uid": "p1", "creationTimestamp": at(1)},
        "spec": {"restartPolicy": "Never"},
        "status": {"phase": "Pending"},
    });
    merge(&mut json, &patch);
    Arc::new(Pod::decode(json.to_string().as_bytes()).unwrap().unwrap())
}

/// A pod that has a node since second 2 and its network since second 3.
fn on_node(status: Value) -> Arc<Pod> {
    in_policy("Never", status)
}

fn in_policy(policy: &str, status: Value) -> Arc<Pod> {
    let ready_to_start = [
        ("PodScheduled", "True", 2),
        ("PodReadyToStartContainers", "True", 3),
    ];
    let mut whole = json!({"conditions": conditions(&ready_to_start)});
    merge(&mut whole, &status);
    pod(json!({"spec": {"restartPolicy": policy}, "status": whole}))
}

/// A pod that is ready.
fn ready(name: &str, made: i64, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "creationTimestamp": at(made)},
        "status": {"phase": "Running", "podIP": ip, "conditions": conditions(&[("PodScheduled", "True", 2), ("Ready", "True", 5)])},
    })
}

fn container(state: Value) -> Value {
    json!([{"name": "app", "ready": false, "restartCount": 0, "state": state}])
}

fn waiting(reason: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": "says the kubelet"}})
}

fn ended(code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "message": "last words", "startedAt": at(4), "finishedAt": at(9)}})
}

/// `status phase reason prognosis legacy-word`; the prognosis is `never`, `wait`, or the budget, with
/// the second from which it runs where Kubernetes gives one.
fn line(assessment: &Assessment) -> String {
    let zero = Timestamp::parse(T0).unwrap().seconds();
    let secs =
        |t: Option<Timestamp>| t.map_or_else(|| "?".into(), |t| (t.seconds() - zero).to_string());
    let found = |finding: &Finding| {
        let prognosis = match finding.prognosis {
            Prognosis::Terminal => "never".into(),
            Prognosis::AwaitingReason => "awaiting".into(),
            Prognosis::Retryable { budget: None, .. } => "wait".into(),
            Prognosis::Retryable {
                budget: Some(budget),
                pause,
                from,
            } => {
                let budget = Budgets::default().get(budget) + pause;
                format!("{}s@{}", budget.as_secs(), secs(from))
            }
        };
        let word = finding.phase.legacy_word();
        let phase = finding.phase.as_str();
        format!("{phase} {} {prognosis} {word}", finding.reason)
    };
    match &assessment.status {
        InstanceStatus::Ready { ip } => format!("ready {ip}"),
        InstanceStatus::Starting(finding) => format!("starting {}", found(finding)),
        InstanceStatus::Failed {
            finding,
            at,
            lasted,
        } => {
            let lasted = lasted.map_or_else(|| "?".into(), |lasted| lasted.as_secs().to_string());
            format!("failed {} at {} after {lasted}", found(finding), secs(*at))
        }
        InstanceStatus::Finished(ending) => {
            let lasted = ending
                .lasted
                .map_or_else(|| "?".into(), |lasted| lasted.as_secs().to_string());
            format!(
                "finished {} at {} after {lasted}",
                ending.reason,
                secs(ending.at)
            )
        }
        InstanceStatus::Stopping { since } => format!("stopping {}", secs(*since)),
    }
}

#[track_caller]
fn check(job: &Job, pods: &[Arc<Pod>], expected: &str) {
    assert_eq!(line(&assess(job, pods, &|_| Vec::new())), expected);
}

/// The status of a usual Job with this one pod.
#[track_caller]
fn check_pod(pod: Arc<Pod>, expected: &str) {
    check(&job(json!({})), &[pod], expected);
}

fn finding(job: &Job, pods: &[Arc<Pod>]) -> Finding {
    match assess(job, pods, &|_| Vec::new()).status {
        InstanceStatus::Starting(finding) | InstanceStatus::Failed { finding, .. } => finding,
        other => panic!("no finding in {other:?}"),
    }
}

#[test]
fn a_ready_pod_needs_its_address() {
    check_pod(pod(ready("a", 1, "10.0.0.1")), "ready 10.0.0.1");
    check_pod(pod(ready("a", 1, "fd00::1")), "ready fd00::1");
    let mut nowhere = ready("a", 1, "10.0.0.1");
    nowhere["status"]["podIP"] = Value::Null;
    nowhere["status"]["containerStatuses"] = container(json!({"running": {"startedAt": at(4)}}));
    check_pod(
        pod(nowhere),
        "starting readying NotReady 300s@4 pulling_image",
    );
}

#[test]
fn of_several_pods_the_one_that_the_job_controller_made_last_counts() {
    let usual = job(json!({"metadata": {"creationTimestamp": at(1)}}));
    let old = pod(ready("z", 1, "10.0.0.1"));
    // While one runs, the Job controller makes no other.
    let forged = pod(ready("a", 2, "10.0.0.2"));
    let forged_before = pod(ready("zz", 0, "10.0.0.4"));
    let pods = [forged, old.clone(), forged_before];
    check(&usual, &pods, "ready 10.0.0.1");
    let [forged, old, forged_before] = pods;
    check(
        &usual,
        &[forged_before, old.clone(), forged],
        "ready 10.0.0.1",
    );
    let mut leaving = ready("b", 3, "10.0.0.3");
    leaving["metadata"]["deletionTimestamp"] = json!(at(9));
    check(&usual, &[old.clone(), pod(leaving)], "ready 10.0.0.1");
    let dead = pod(
        json!({"metadata": {"name": "0"}, "status": {"phase": "Failed", "containerStatuses": container(ended(1, "Error"))}}),
    );
    let retry = pod(json!({"metadata": {"creationTimestamp": at(20)}}));
    check(
        &usual,
        &[retry, dead.clone()],
        "starting starting Error 10s@9 pulling_image",
    );
    // One that has ended is no younger one that runs.
    let mut ended_later = ready("b", 3, "10.0.0.3");
    ended_later["status"]["phase"] = json!("Failed");
    check(&usual, &[old, dead, pod(ended_later)], "ready 10.0.0.1");
}

/// One or two API servers have stamped them.
#[test]
fn a_pod_that_is_older_than_its_job_never_counts() {
    let later =
        |status: Value| job(json!({"metadata": {"creationTimestamp": at(10)}, "status": status}));
    let older = pod(ready("a", 8, "10.0.0.4"));
    for (status, budget) in [(json!({}), 25), (json!({"active": 1}), 15)] {
        let of_older = finding(&later(status.clone()), std::slice::from_ref(&older));
        assert_eq!(&*of_older.message, OLDER_POD, "{status}");
        let none = format!("starting creating NoPod {budget}s@? node_not_ready");
        check(&later(status), std::slice::from_ref(&older), &none);
    }
    let mut ended_before = ready("b", 8, "10.0.0.4");
    ended_before["status"]["phase"] = json!("Failed");
    check(
        &later(json!({})),
        &[pod(ended_before)],
        "starting creating NoPod 25s@? node_not_ready",
    );
    let real = pod(ready("r", 10, "10.0.0.1"));
    check(&later(json!({})), &[older, real.clone()], "ready 10.0.0.1");
    let other_clock = pod(ready("c", 9, "10.0.0.2"));
    check(
        &later(json!({})),
        &[other_clock.clone(), real],
        "ready 10.0.0.1",
    );
    check(&later(json!({})), &[other_clock], "ready 10.0.0.2");
}

#[test]
fn the_time_of_a_failure_report_by_prognosis() {
    let zero = Instant::now();
    let (seen, budget) = [100, 50]
        .map(|secs| zero + Duration::from_secs(secs))
        .into();
    let begun = Begun { seen, budget };
    let secs = |finding: &Finding| {
        let reported_at = finding.report_at(begun, &Budgets::default())?;
        Some((reported_at - zero).as_secs())
    };
    let of = |pod: Arc<Pod>| finding(&job(json!({})), &[pod]);
    assert_eq!(secs(&of(pod(json!({})))), Some(650));
    let pull = |reason| on_node(json!({"containerStatuses": container(waiting(reason))}));
    assert_eq!(secs(&of(pull("ErrImagePull"))), Some(60));
    assert_eq!(secs(&of(pull("InvalidImageName"))), Some(100));
    assert_eq!(secs(&of(pod(json!({}))).awaiting_reason()), Some(100));
    assert_eq!(
        Finding::admitting()
            .awaiting_reason()
            .report_at(begun, &Budgets::default()),
        Some(seen + TERMINATION_REPORT_WAIT)
    );
    assert_eq!(secs(&Finding::admitting()), None);
    assert_eq!(secs(&Finding::stopping(None)), None);
}

#[test]
fn an_ending_is_reported_with_its_cause_and_its_time() {
    let own = pod(json!({"status": {"phase": "Succeeded"}}));
    let report = |job: Job| match status_of(&job, Some(&own), &[], &|_| Vec::new()) {
        InstanceStatus::Finished(ending) => ending.finding(),
        other => panic!("it has not finished: {other:?}"),
    };
    let completed = report(job_with("Complete", 60, ""));
    assert_eq!(&*completed.message, "the app exited with code 0");
    assert_eq!(completed.exit_code, Some(0));
    assert_eq!(completed.since, Timestamp::parse(&at(60)));
    let outlived = report(job_with("Failed", 60, "DeadlineExceeded"));
    let message = "the instance reached the maximum lifetime that its template sets";
    assert_eq!(&*outlived.message, message);
    assert_eq!(outlived.exit_code, None);
    let since = Timestamp::parse(&at(60));
    assert_eq!(Finding::stopping(since).since, since);
}

#[test]
fn only_a_container_that_has_failed_leaves_a_termination_report() {
    let running = container(json!({"running": {"startedAt": at(4)}}));
    let failed = container(ended(1, "Error"));
    let has_report = |containers: Value| {
        has_termination_report(&on_node(json!({"containerStatuses": containers})))
    };
    assert!(!has_report(running));
    assert!(has_report(failed));
}

#[test]
fn legacy_words_cover_all_phases() {
    use Phase::{
        Admitting, Creating, Initialising, Mounting, Pulling, Readying, Scheduling, Starting,
        Stopping,
    };
    for phase in [Admitting, Creating, Scheduling, Stopping] {
        assert_eq!(phase.legacy_word(), "node_not_ready", "{phase:?}");
    }
    for phase in [Mounting, Pulling, Initialising, Starting, Readying] {
        assert_eq!(phase.legacy_word(), "pulling_image", "{phase:?}");
    }
}
