//! Each row: a Job and its pods as the API server spells them, and what is made of them.
//!
//! What is made of them is written as one line, see [`line`].

mod events;

use super::*;
use crate::kube::types::Resource;
use serde_json::{Value, json};

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
fn a_job_without_a_pod() {
    check(
        &job(json!({})),
        &[],
        "starting creating NoPod 15s@? node_not_ready",
    );
    let retried = job(json!({"status": {"failed": 2}}));
    check(
        &retried,
        &[],
        "starting creating NoPod 35s@? node_not_ready",
    );
    let often = job(json!({"status": {"failed": 99}}));
    check(&often, &[], "starting creating NoPod 615s@? node_not_ready");
    let suspended = job(json!({"spec": {"suspend": true}}));
    check(
        &suspended,
        &[],
        "starting creating Suspended wait node_not_ready",
    );
}

#[test]
fn a_deleted_pod_is_replaced_once_it_is_gone() {
    let leaving = pod(
        json!({"metadata": {"deletionTimestamp": at(40)}, "status": {
            "phase": "Running", "podIP": "10.0.0.1", "conditions": conditions(&[("Ready", "True", 5)]),
        }}),
    );
    check_pod(leaving, "starting creating NoPod 15s@40 node_not_ready");
}

#[test]
fn a_pod_that_waits_for_a_node() {
    check_pod(
        pod(json!({})),
        "starting scheduling Scheduling 600s@1 node_not_ready",
    );
    let unschedulable = pod(json!({"status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available", "lastTransitionTime": at(1),
    }]}}));
    let found = finding(&job(json!({})), std::slice::from_ref(&unschedulable));
    assert_eq!(
        &*found.message,
        "no node fits the pod: add a node, or change what the template requests (0/3 nodes are available)"
    );
    check_pod(
        unschedulable,
        "starting scheduling Unschedulable 600s@1 node_not_ready",
    );
    let gated = pod(json!({"status": {"conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "waiting for a gate",
    }]}}));
    let found = finding(&job(json!({})), std::slice::from_ref(&gated));
    assert_eq!(&*found.message, "waiting for a gate");
}

#[test]
fn a_pod_on_its_node_phase_by_phase() {
    // The kubelet has not taken it up yet.
    check_pod(
        pod(json!({"status": {"conditions": conditions(&[("PodScheduled", "True", 2)])}})),
        "starting mounting Mounting 300s@2 pulling_image",
    );
    let mounting = conditions(&[
        ("PodScheduled", "True", 2),
        ("PodReadyToStartContainers", "False", 2),
    ]);
    check_pod(
        pod(json!({"status": {"conditions": mounting}})),
        "starting mounting Mounting 300s@2 pulling_image",
    );
    check_pod(
        on_node(json!({})),
        "starting pulling ContainerCreating 300s@3 pulling_image",
    );
    check_pod(
        on_node(json!({"containerStatuses": container(waiting("ContainerCreating"))})),
        "starting pulling ContainerCreating 300s@3 pulling_image",
    );
    let running = container(json!({"running": {"startedAt": at(7)}}));
    check_pod(
        on_node(json!({"phase": "Running", "containerStatuses": running})),
        "starting readying NotReady 300s@7 pulling_image",
    );
    // It was ready before: its budget is not spent by the time for which it was.
    let unready = conditions(&[
        ("PodScheduled", "True", 2),
        ("PodReadyToStartContainers", "True", 3),
        ("Ready", "False", 90_000),
    ]);
    let running = container(json!({"running": {"startedAt": at(7)}}));
    check_pod(
        on_node(json!({"phase": "Running", "conditions": unready, "containerStatuses": running})),
        "starting readying NotReady 300s@90000 pulling_image",
    );
    // An old kubelet has no PodReadyToStartContainers.
    check_pod(
        pod(
            json!({"status": {"conditions": conditions(&[("PodScheduled", "True", 2)]), "containerStatuses": container(waiting("ContainerCreating"))}}),
        ),
        "starting pulling ContainerCreating 300s@2 pulling_image",
    );
}

#[test]
fn init_containers() {
    let initialising = |state: Value, more: Value| {
        let mut status = json!({
            "conditions": conditions(&[("PodScheduled", "True", 2), ("PodReadyToStartContainers", "True", 3), ("Initialized", "False", 2)]),
            "initContainerStatuses": [{"name": "prepare", "state": state}],
            "containerStatuses": container(waiting("PodInitializing")),
        });
        merge(&mut status, &more);
        status
    };
    let running = initialising(json!({"running": {"startedAt": at(4)}}), json!({}));
    check_pod(
        on_node(running),
        "starting initialising Initialising 300s@3 pulling_image",
    );
    // Its image is still fetched.
    check_pod(
        on_node(initialising(waiting("PodInitializing"), json!({}))),
        "starting pulling ContainerCreating 300s@3 pulling_image",
    );
    let failed = initialising(ended(7, "Error"), json!({"phase": "Failed"}));
    check_pod(
        on_node(failed.clone()),
        "failed initialising Error never pulling_image at 9 after 9",
    );
    let found = finding(&job(json!({})), &[on_node(failed)]);
    assert_eq!(
        &*found.message,
        "init container 'prepare' exited with code 7"
    );
    let retried = initialising(waiting("CrashLoopBackOff"), json!({}));
    check_pod(
        in_policy("OnFailure", retried),
        "starting initialising CrashLoopBackOff 10s@? pulling_image",
    );
    // After a long init phase the fetch of the app's image has its own budget.
    let done = initialising(
        ended(0, "Completed"),
        json!({"conditions": conditions(&[("PodScheduled", "True", 2), ("PodReadyToStartContainers", "True", 3), ("Initialized", "True", 200)])}),
    );
    check_pod(
        on_node(done),
        "starting pulling ContainerCreating 300s@200 pulling_image",
    );
}

#[test]
fn images_that_cannot_be_pulled() {
    for (reason, message, expected) in [
        ("ErrImagePull", "connection refused", "10s@?"),
        ("ImagePullBackOff", "Back-off pulling image", "10s@?"),
        ("RegistryUnavailable", "", "10s@?"),
        ("ImageInspectError", "", "10s@?"),
        ("InvalidImageName", "", "never"),
        ("ErrImageNeverPull", "", "never"),
        (
            "ErrImagePull",
            "failed to resolve reference \"r/x:1\": r/x:1: not found",
            "never",
        ),
        (
            "ImagePullBackOff",
            "Back-off pulling image \"r/x\": ErrImagePull: unexpected status from HEAD request to http://r/v2/x/manifests/1: 403 Forbidden",
            "never",
        ),
        (
            "ErrImagePull",
            "failed to authorize: unexpected status: 401 Unauthorized",
            "never",
        ),
        ("ErrImagePull", "dial tcp: lookup r: no such host", "10s@?"),
    ] {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        check_pod(
            on_node(json!({"containerStatuses": container(state)})),
            &format!("starting pulling {reason} {expected} pulling_image"),
        );
    }
}

#[test]
fn containers_that_cannot_be_created() {
    for reason in [
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "AReasonOfTomorrow",
    ] {
        let waits = on_node(json!({"containerStatuses": container(waiting(reason))}));
        let found = finding(&job(json!({})), std::slice::from_ref(&waits));
        assert!(
            found.message.contains("(says the kubelet)"),
            "{}",
            found.message
        );
        check_pod(
            waits,
            &format!("starting starting {reason} 10s@? pulling_image"),
        );
    }
}

#[test]
fn an_app_that_ends_and_is_not_restarted() {
    let failed =
        |state: Value| on_node(json!({"phase": "Failed", "containerStatuses": container(state)}));
    check_pod(
        failed(ended(1, "Error")),
        "failed starting Error never pulling_image at 9 after 9",
    );
    check_pod(
        failed(ended(137, "OOMKilled")),
        "failed starting OOMKilled never pulling_image at 9 after 9",
    );
    let found = finding(&job(json!({})), &[failed(ended(137, "OOMKilled"))]);
    assert_eq!(found.exit_code, Some(137));
    assert_eq!(found.last_output.as_deref(), Some("last words"));
    assert!(found.message.contains("memory"), "{}", found.message);
    // The kubelet says no more than this when it hears of the end before it hears of the OOM kill.
    let found = finding(&job(json!({})), &[failed(ended(137, "Error"))]);
    assert_eq!(&*found.reason, "Error");
    assert!(found.message.contains("memory"), "{}", found.message);
    check_pod(
        on_node(
            json!({"phase": "Succeeded", "containerStatuses": container(ended(0, "Completed"))}),
        ),
        "finished Completed at 9 after 9",
    );
}

#[test]
fn a_command_that_cannot_be_run_is_reported_as_such() {
    let state = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message":
        "failed to create task: runc create failed: unable to start container process: exec: \"/no\": not found"}});
    let failed = on_node(json!({"phase": "Failed", "containerStatuses": container(state)}));
    let found = finding(&job(json!({})), &[failed]);
    assert!(
        found
            .message
            .starts_with("the command of container 'app' cannot be run: fix it in the template"),
        "{}",
        found.message
    );
    assert_eq!(found.last_output, None);
}

#[test]
fn one_of_two_containers_has_ended() {
    let two = |state: Value| {
        json!({"phase": "Running", "containerStatuses": [
            {"name": "app", "state": state}, {"name": "side", "state": {"running": {}}, "ready": true},
        ]})
    };
    check_pod(
        on_node(two(ended(0, "Completed"))),
        "failed starting Completed never pulling_image at 9 after 9",
    );
    check_pod(
        on_node(two(ended(2, "Error"))),
        "failed starting Error never pulling_image at 9 after 9",
    );
    // No other pod is made while this one runs, under any limit.
    let retried = job(json!({"spec": {"backoffLimit": 6}}));
    check(
        &retried,
        &[on_node(two(ended(2, "Error")))],
        "failed starting Error never pulling_image at 9 after 9",
    );
    let other_waits = on_node(json!({
        "phase": "Pending",
        "initContainerStatuses": [{"name": "prepare", "state": ended(0, "Completed")}],
        "containerStatuses": [
            {"name": "app", "state": ended(2, "Error")},
            {"name": "side", "state": waiting("ImagePullBackOff")},
        ],
    }));
    check(
        &retried,
        &[other_waits],
        "failed starting Error never pulling_image at 9 after 9",
    );
    // A sidecar that is ended after the app has ended well is no failure.
    let sidecar = json!({
        "phase": "Succeeded", "containerStatuses": container(ended(0, "Completed")),
        "initContainerStatuses": [{"name": "side", "state": ended(143, "Error")}],
    });
    check_pod(on_node(sidecar), "finished Completed at 9 after 9");
}

#[test]
fn a_failed_sidecar_is_restarted_under_any_policy() {
    let sidecar = json!({"initContainers": [{"name": "side", "restartPolicy": "Always"}]});
    let with = |spec: &Value, app: Value| {
        let status = json!({
            "phase": "Pending", "containerStatuses": container(app),
            "conditions": conditions(&[("PodScheduled", "True", 2)]),
            "initContainerStatuses": [{"name": "side", "state": ended(1, "Error")}],
        });
        pod(json!({"spec": spec, "status": status}))
    };
    let waits = || waiting("PodInitializing");
    let crash = "starting initialising Error 10s@9 pulling_image";
    check_pod(with(&sidecar, waits()), crash);
    let once = json!({"initContainers": [{"name": "side"}]});
    let failed = "failed initialising Error never pulling_image at 9 after 9";
    check_pod(with(&once, waits()), failed);
}

#[test]
fn a_failed_pod_with_retries_left_does_not_fail_the_start() {
    let failed =
        || on_node(json!({"phase": "Failed", "containerStatuses": container(ended(1, "Error"))}));
    // The kubelet reports the failure of the pod a second after that of its container.
    let about_to = json!({"phase": "Running", "containerStatuses": container(ended(1, "Error"))});
    let init_failed = json!({
        "initContainerStatuses": [{"name": "prepare", "state": ended(4, "Error")}],
        "containerStatuses": container(waiting("PodInitializing")),
    });
    let one_more = job(json!({"spec": {"backoffLimit": 1}}));
    for (status, phase) in [(about_to, "starting"), (init_failed, "initialising")] {
        check(
            &one_more,
            &[on_node(status)],
            &format!("starting {phase} Error 10s@9 pulling_image"),
        );
    }
    let retries = |spec: Value, status: Value| job(json!({"spec": spec, "status": status}));
    // As 2.7.1 makes them: no limit is set, so it is six.
    let legacy = retries(json!({"backoffLimit": null}), json!({}));
    check(
        &legacy,
        &[failed()],
        "starting starting Error 10s@9 pulling_image",
    );
    // The containers are over a moment before the pod is.
    for phase in ["Running", "Pending"] {
        let ending = json!({"phase": phase, "containerStatuses": container(ended(1, "Error"))});
        check(
            &legacy,
            &[on_node(ending)],
            "starting starting Error 10s@9 pulling_image",
        );
    }
    let first = json!({
        "phase": "Pending", "containerStatuses": container(json!({})),
        "initContainerStatuses": [{"name": "first", "state": ended(1, "Error")}],
    });
    check(
        &legacy,
        &[on_node(first)],
        "starting initialising Error 10s@9 pulling_image",
    );
    let counted = retries(json!({"backoffLimit": 2}), json!({"failed": 2}));
    check(
        &counted,
        &[failed()],
        "starting starting Error 10s@29 pulling_image",
    );
    let over = retries(json!({"backoffLimit": 2}), json!({"failed": 3}));
    check(
        &over,
        &[failed()],
        "failed starting Error never pulling_image at 9 after 9",
    );
}

#[test]
fn an_evicted_pod_does_not_fail_the_start() {
    let evicted = on_node(json!({
        "phase": "Failed",
        "conditions": conditions(&[("PodScheduled", "True", 2), ("DisruptionTarget", "True", 8), ("PodReadyToStartContainers", "False", 9)]),
        "containerStatuses": container(ended(143, "Error")),
    }));
    check_pod(evicted, "starting starting Error 10s@9 pulling_image");
    // Refused by its node before any container was made.
    let refused = json!({"phase": "Failed", "reason": "OutOfcpu", "message": "Node didn't have enough resource"});
    check_pod(
        on_node(refused),
        "failed starting OutOfcpu never pulling_image at ? after ?",
    );
}

#[test]
fn a_container_that_kubernetes_restarts() {
    let policy = "OnFailure";
    check_pod(
        in_policy(
            policy,
            json!({"phase": "Running", "containerStatuses": container(ended(1, "Error"))}),
        ),
        "starting starting Error 10s@9 pulling_image",
    );
    let looping = json!([{"name": "app", "restartCount": 1, "state": waiting("CrashLoopBackOff"), "lastState": ended(1, "Error")}]);
    let looping = in_policy(
        policy,
        json!({"phase": "Running", "containerStatuses": looping}),
    );
    let found = finding(&job(json!({})), std::slice::from_ref(&looping));
    assert_eq!(&*found.message, "container 'app' exited with code 1");
    assert_eq!(found.exit_code, Some(1));
    check_pod(
        looping,
        "starting starting CrashLoopBackOff 10s@9 pulling_image",
    );
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
fn the_newest_pod_that_is_not_being_deleted_counts() {
    let usual = job(json!({}));
    let old = pod(ready("z", 1, "10.0.0.1"));
    let new = pod(ready("a", 2, "10.0.0.2"));
    check(&usual, &[old.clone(), new.clone()], "ready 10.0.0.2");
    check(&usual, &[new, old.clone()], "ready 10.0.0.2");
    let mut leaving = ready("b", 3, "10.0.0.3");
    leaving["metadata"]["deletionTimestamp"] = json!(at(9));
    check(&usual, &[old, pod(leaving)], "ready 10.0.0.1");
    let dead = pod(
        json!({"metadata": {"name": "0"}, "status": {"phase": "Failed", "containerStatuses": container(ended(1, "Error"))}}),
    );
    let retry = pod(json!({"metadata": {"creationTimestamp": at(20)}}));
    check(
        &usual,
        &[retry, dead],
        "starting scheduling Scheduling 600s@20 node_not_ready",
    );
}

#[test]
fn the_condition_of_the_job_takes_precedence() {
    let up = [pod(ready("a", 1, "10.0.0.1"))];
    let deleted = job(json!({"metadata": {"deletionTimestamp": at(30)}}));
    check(&deleted, &up, "stopping 30");
    for good in ["Complete", "SuccessCriteriaMet"] {
        check(
            &job_with(good, 60, ""),
            &up,
            "finished Completed at 60 after 60",
        );
    }
    for bad in ["Failed", "FailureTarget"] {
        check(
            &job_with(bad, 60, "DeadlineExceeded"),
            &up,
            "finished DeadlineExceeded at 60 after 60",
        );
        check(
            &job_with(bad, 60, "BackoffLimitExceeded"),
            &[],
            "failed starting BackoffLimitExceeded awaiting pulling_image at 60 after 60",
        );
        check(
            &job_with(bad, 60, ""),
            &[],
            "failed starting Failed awaiting pulling_image at 60 after 60",
        );
    }
    let found = finding(&job_with("Failed", 60, "BackoffLimitExceeded"), &[]);
    assert_eq!(&*found.message, "says the controller");
}

#[test]
fn the_reason_of_the_pod_wins_over_that_of_the_job() {
    let pods = [on_node(
        json!({"phase": "Failed", "containerStatuses": container(ended(3, "Error"))}),
    )];
    let failed = job_with("Failed", 60, "BackoffLimitExceeded");
    check(
        &failed,
        &pods,
        "failed starting Error never pulling_image at 60 after 60",
    );
    assert_eq!(finding(&failed, &pods).exit_code, Some(3));
}

#[test]
fn a_missing_termination_report_is_awaited() {
    let failed = job_with("FailureTarget", 60, "BackoffLimitExceeded");
    let expected = |prognosis| {
        format!("failed starting BackoffLimitExceeded {prognosis} pulling_image at 60 after 60")
    };
    let running = json!({"phase": "Running", "containerStatuses": container(json!({"running": {"startedAt": at(7)}}))});
    check(&failed, &[on_node(running.clone())], &expected("awaiting"));
    let mut leaving = Pod::clone(&on_node(running));
    leaving.metadata.deletion_timestamp = Timestamp::parse(&at(59));
    check(&failed, &[Arc::new(leaving)], &expected("awaiting"));
    // It may not have been seen at all.
    check(&failed, &[], &expected("awaiting"));
    // It has ended without a termination report.
    check(
        &failed,
        &[on_node(json!({"phase": "Succeeded"}))],
        &expected("never"),
    );
}

/// A Job that gives up ends its pod, in any state of the container.
#[test]
fn the_last_crash_is_why_a_retried_job_has_failed() {
    let failed = job_with("FailureTarget", 60, "BackoffLimitExceeded");
    for state in [
        waiting("CrashLoopBackOff"),
        json!({"running": {"startedAt": at(59)}}),
        json!({"terminated": {"exitCode": 0}}),
    ] {
        let crashed = json!([{"name": "app", "restartCount": 7, "state": state, "lastState": ended(3, "Error")}]);
        let crashed = in_policy(
            "OnFailure",
            json!({"phase": "Running", "containerStatuses": crashed}),
        );
        check(
            &failed,
            std::slice::from_ref(&crashed),
            "failed starting Error never pulling_image at 60 after 60",
        );
        let found = finding(&failed, std::slice::from_ref(&crashed));
        assert_eq!(found.exit_code, Some(3));
        assert_eq!(found.last_output.as_deref(), Some("last words"));
        // The pod is gone, and its termination report is remembered.
        let gone = assess(&failed, &[], &|_| Vec::new()).status;
        let found = with_termination_report(&failed, &crashed, &gone);
        let InstanceStatus::Failed { finding, .. } = found else {
            panic!("{found:?}");
        };
        assert_eq!(finding.exit_code, Some(3));
    }
}

#[test]
fn the_end_of_a_job_is_its_first_condition() {
    let both = conditions(&[("Failed", "True", 70), ("FailureTarget", "True", 60)]);
    check(
        &job(json!({"status": {"conditions": both}})),
        &[],
        "failed starting Failed awaiting pulling_image at 60 after 60",
    );
    let not = conditions(&[("Failed", "False", 70), ("Complete", "Unknown", 60)]);
    check(
        &job(json!({"status": {"conditions": not}})),
        &[],
        "starting creating NoPod 15s@? node_not_ready",
    );
    let unborn = job(
        json!({"status": {"startTime": null, "conditions": conditions(&[("Failed", "True", 70)])}}),
    );
    check(
        &unborn,
        &[],
        "failed starting Failed awaiting pulling_image at 70 after 70",
    );
}

#[test]
fn only_a_failure_before_the_deletion_is_reported() {
    let deleted = |failed_at: i64| {
        job(json!({
            "metadata": {"deletionTimestamp": at(60)},
            "status": {"conditions": conditions(&[("FailureTarget", "True", failed_at)])},
        }))
    };
    let reason = |job: &Job| ended_before_deletion(job, None).map(|f| f.reason.to_string());
    assert_eq!(reason(&deleted(60)), Some("Failed".into()));
    assert_eq!(reason(&deleted(61)), None);
    let mut completed = job_with("Complete", 60, "");
    completed.metadata.deletion_timestamp = Timestamp::parse(&at(60));
    assert_eq!(reason(&completed), Some("Completed".into()));
    assert_eq!(reason(&job(json!({}))), None);
}

#[test]
fn the_time_of_a_failure_report_by_prognosis() {
    let seen = Timestamp::parse(&at(100)).unwrap().system_time();
    let secs = |finding: &Finding| {
        let reported_at = finding.report_at(seen, &Budgets::default())?;
        let zero = Timestamp::parse(T0).unwrap().system_time();
        Some(reported_at.duration_since(zero).unwrap().as_secs())
    };
    let of = |pod: Arc<Pod>| finding(&job(json!({})), &[pod]);
    assert_eq!(secs(&of(pod(json!({})))), Some(601));
    let pull = |reason| on_node(json!({"containerStatuses": container(waiting(reason))}));
    assert_eq!(secs(&of(pull("ErrImagePull"))), Some(110));
    assert_eq!(secs(&of(pull("InvalidImageName"))), Some(100));
    assert_eq!(secs(&of(pod(json!({}))).awaiting_reason()), Some(100));
    assert_eq!(
        Finding::admitting()
            .awaiting_reason()
            .report_at(seen, &Budgets::default()),
        Some(seen + TERMINATION_REPORT_WAIT)
    );
    assert_eq!(secs(&Finding::admitting()), None);
    assert_eq!(secs(&Finding::stopping(None)), None);
}

#[test]
fn an_ending_is_reported_with_its_cause_and_its_time() {
    let report = |job: Job| match status_of(&job, None, &|_| Vec::new()) {
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
