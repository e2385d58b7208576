//! Ends: of containers, of pods and of Jobs, and which of them counts.

use super::*;

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
    // Whatever runs on beside it, the app has ended, and the pod is never ready again.
    for policy in ["Never", "OnFailure"] {
        check_pod(
            in_policy(policy, two(ended(0, "Completed"))),
            "finished Completed at 9 after 9",
        );
    }
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
        "starting starting Error 10s@9 pulling_image",
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

/// As a kubelet of 1.36.3 writes it: an `emptyDir` with a `sizeLimit`, and a pod with
/// `activeDeadlineSeconds` whose app exits with code 0 on SIGTERM.
#[test]
fn the_reason_of_the_pod_is_the_cause_of_its_end() {
    let over = conditions(&[("PodScheduled", "True", 2), ("Ready", "False", 9)]);
    let message = "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ";
    let evicted = on_node(json!({
        "phase": "Failed", "reason": "Evicted", "message": message, "conditions": over,
        "containerStatuses": container(ended(137, "Error")),
    }));
    let usual = job(json!({}));
    let found = finding(&usual, std::slice::from_ref(&evicted));
    assert_eq!(&*found.message, message.trim_end());
    assert_eq!(found.exit_code, Some(137));
    check(
        &usual,
        std::slice::from_ref(&evicted),
        "failed starting Evicted never pulling_image at 9 after 9",
    );
    let failed = job_with("Failed", 12, "BackoffLimitExceeded");
    let found = finding(&failed, std::slice::from_ref(&evicted));
    assert_eq!(
        (&*found.reason, found.since),
        ("Evicted", Timestamp::parse(&at(9)))
    );
    let stopped = on_node(json!({
        "phase": "Failed", "reason": "DeadlineExceeded", "conditions": over,
        "message": "Pod was active on the node longer than the specified deadline",
        "containerStatuses": container(ended(0, "Completed")),
    }));
    check_pod(
        stopped,
        "failed starting DeadlineExceeded never pulling_image at 9 after 9",
    );
}

/// Its kubelet is gone, so nobody has taken the condition away (pod garbage collection).
#[test]
fn a_failed_pod_is_not_ready() {
    let mut lost = ready("a", 1, "10.0.0.1");
    lost["status"]["phase"] = json!("Failed");
    lost["status"]["containerStatuses"] = container(json!({"running": {"startedAt": at(4)}}));
    check_pod(
        pod(lost.clone()),
        "failed starting PodFailed never pulling_image at ? after ?",
    );
    lost["status"]["conditions"] = json!([
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(2)},
        {"type": "Ready", "status": "True", "lastTransitionTime": at(5)},
        {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": at(60),
         "reason": "DeletionByPodGC", "message": "PodGC: node no longer exists"},
    ]);
    let found = finding(&job(json!({})), &[pod(lost)]);
    assert_eq!(
        (&*found.reason, &*found.message),
        ("DeletionByPodGC", "PodGC: node no longer exists")
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
fn the_condition_of_the_job_takes_precedence() {
    let up = [pod(ready("a", 1, "10.0.0.1"))];
    let deleted = job(json!({"metadata": {"deletionTimestamp": at(30)}}));
    check(&deleted, &up, "stopping 30");
    let over = [pod(json!({"status": {"phase": "Succeeded"}}))];
    for good in ["Complete", "SuccessCriteriaMet"] {
        check(
            &job_with(good, 60, ""),
            &over,
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
        "failed starting Error never pulling_image at 9 after 9",
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

/// The init container failed once and then passed.
#[test]
fn what_has_succeeded_since_is_not_the_cause() {
    let crash = |code: i32, second: i64| json!({"terminated": {"exitCode": code, "reason": "Error", "finishedAt": at(second)}});
    let pod = |prepare: Value| {
        in_policy(
            "OnFailure",
            json!({
                "phase": "Running",
                "initContainerStatuses": [{"name": "prep", "state": prepare, "lastState": crash(7, 5)}],
                "containerStatuses": [
                    {"name": "app", "state": waiting("CrashLoopBackOff"), "lastState": crash(3, 40)},
                    {"name": "side", "state": {"running": {"startedAt": at(21)}}, "lastState": crash(4, 20)},
                ],
            }),
        )
    };
    let failed = job_with("Failed", 60, "BackoffLimitExceeded");
    for prepare in [crash(0, 6), json!({"running": {"startedAt": at(6)}})] {
        let found = finding(&failed, &[pod(prepare)]);
        assert_eq!(&*found.message, "container 'app' exited with code 3");
    }
    let only = in_policy(
        "OnFailure",
        json!({
            "initContainerStatuses": [{"name": "prep", "state": crash(0, 6), "lastState": crash(7, 5)}],
            "containerStatuses": container(waiting("ContainerCreating")),
        }),
    );
    let found = finding(&failed, &[only]);
    assert_eq!(&*found.reason, "BackoffLimitExceeded");
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
            "failed starting Error never pulling_image at 9 after 9",
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
        "starting creating NoPod 25s@? node_not_ready",
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
    let over = pod(json!({"status": {"phase": "Succeeded"}}));
    let reason = |job: &Job| {
        let ended = ended_before_deletion(job, Some(&over))?;
        ended.report_of_end().map(|it| it.reason.to_string())
    };
    assert_eq!(reason(&deleted(60)), Some("Failed".into()));
    assert_eq!(reason(&deleted(61)), None);
    let mut completed = job_with("Complete", 60, "");
    completed.metadata.deletion_timestamp = Timestamp::parse(&at(60));
    assert_eq!(reason(&completed), Some("Completed".into()));
    assert_eq!(reason(&job(json!({}))), None);
}

/// The conditions of a pod that is evicted through the API.
fn evicted() -> Value {
    json!([
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(2)},
        {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": at(50),
         "reason": "EvictionByEvictionAPI", "message": "Eviction API: evicting"},
    ])
}

/// As Kubernetes 1.36 writes them: the pod is marked, then deleted, and the status of the Job says nothing
/// of it. Only a pod whose app ended by itself stays.
#[test]
fn a_complete_job_whose_pod_others_ended_has_not_completed_by_itself() {
    let complete = job_with("Complete", 60, "");
    let with = |meta: Value, conditions: Value| {
        let status = json!({"phase": "Succeeded", "conditions": conditions, "containerStatuses": container(ended(0, "Completed"))});
        pod(json!({"metadata": meta, "status": status}))
    };
    let deleted = || json!({"deletionTimestamp": at(80), "deletionGracePeriodSeconds": 30});
    let scheduled = || conditions(&[("PodScheduled", "True", 2)]);
    let preempted = json!([{"type": "DisruptionTarget", "status": "True",
        "reason": "PreemptionByScheduler", "message": "default-scheduler: preempting"}]);
    for (pod, reason) in [
        (Some(with(json!({}), scheduled())), "Completed"),
        (Some(with(deleted(), evicted())), "Evicted"),
        (Some(with(deleted(), preempted)), "PreemptionByScheduler"),
        (Some(with(deleted(), scheduled())), "PodDeleted"),
        (None, "Evicted"),
    ] {
        let pods: Vec<_> = pod.into_iter().collect();
        let end = if pods.is_empty() { 60 } else { 9 };
        let expected = format!("finished {reason} at {end} after {end}");
        check(&complete, &pods, &expected);
        let found = assess(&complete, &pods, &|_| Vec::new()).status;
        assert_eq!(found.is_disrupted(), reason != "Completed");
    }
    // The deletion of the Job takes its pods along, so there only a mark or an earlier deletion counts.
    let mut leaving = complete.clone();
    leaving.metadata.deletion_timestamp = Timestamp::parse(&at(70));
    let is_disrupted = |pod: Option<&Pod>| {
        let ended = ended_before_deletion(&leaving, pod);
        ended.is_some_and(|ended| ended.is_disrupted())
    };
    let with_job = json!({"deletionTimestamp": at(100), "deletionGracePeriodSeconds": 30});
    assert!(is_disrupted(None), "nobody has seen how it ended");
    assert!(!is_disrupted(Some(&with(with_job, scheduled()))));
    assert!(is_disrupted(Some(&with(deleted(), scheduled()))));
    assert!(is_disrupted(Some(&with(deleted(), evicted()))));
}

/// With `OnFailure` the Job controller counts an eviction as a failure. A pod that its node evicts may be the
/// cause of that.
#[test]
fn a_job_whose_last_retry_was_an_eviction_has_not_failed() {
    let failed = job_with("Failed", 60, "BackoffLimitExceeded");
    let with = |reason: &str| {
        let mut conditions = evicted();
        conditions[1]["reason"] = json!(reason);
        let status = json!({"phase": "Failed", "conditions": conditions, "containerStatuses": container(ended(143, "Error"))});
        pod(json!({"metadata": {"deletionTimestamp": at(80)}, "status": status}))
    };
    let disrupted = "finished Evicted at 9 after 9";
    check(&failed, &[with("EvictionByEvictionAPI")], disrupted);
    check(
        &failed,
        &[with("TerminationByKubelet")],
        "failed starting Error never pulling_image at 9 after 9",
    );
}

/// Its app may exit with any code; the successor comes 10 s after its end.
#[test]
fn a_pod_that_others_end_is_reported_with_their_reason() {
    let usual = job(json!({}));
    let mut leaving = json!({
        "metadata": {"deletionTimestamp": at(80), "deletionGracePeriodSeconds": 30},
        "status": {"phase": "Running", "conditions": evicted()},
    });
    let found = finding(&usual, &[pod(leaving.clone())]);
    assert_eq!(
        (&*found.reason, found.since),
        ("Evicted", Timestamp::parse(&at(50)))
    );
    assert!(found.message.contains("Eviction API: evicting"));
    // The grace, from when the deletion was requested.
    let with_grace = "starting creating Evicted 55s@50 node_not_ready";
    check(&usual, &[pod(leaving.clone())], with_grace);
    leaving["status"]["phase"] = json!("Failed");
    leaving["status"]["containerStatuses"] = container(ended(143, "Error"));
    let from_its_end = "starting creating Evicted 25s@9 node_not_ready";
    check(&usual, &[pod(leaving.clone())], from_its_end);
    // Its pod is gone, and remembered.
    let gone = Assessment {
        status: after_pod(&usual, &pod(leaving), &|_| Vec::new()).unwrap(),
        pod: None,
        is_contested: false,
    };
    assert_eq!(line(&gone), from_its_end);
}

/// A busy Job controller notes an end many seconds late, and the clock of the node may differ from its own.
#[test]
fn the_end_and_the_run_time_are_those_of_the_pod() {
    for (phase, code, kind, reason, expected) in [
        (
            "Succeeded",
            0,
            "Complete",
            "",
            "finished Completed at 9 after 7",
        ),
        (
            "Failed",
            3,
            "Failed",
            "BackoffLimitExceeded",
            "failed starting Error never pulling_image at 9 after 7",
        ),
    ] {
        let pod = on_node(json!({
            "phase": phase, "startTime": at(2), "containerStatuses": container(ended(code, "Error")),
        }));
        check(&job(json!({})), &[Arc::clone(&pod)], expected);
        check(&job_with(kind, 40, reason), &[pod], expected);
    }
    check(
        &job_with("Failed", 40, "DeadlineExceeded"),
        &[],
        "finished DeadlineExceeded at 40 after 40",
    );
}
