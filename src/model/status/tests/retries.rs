//! Failures that are retried: by the Job controller with another pod, by the kubelet with another run.

use super::*;

/// A pod of this name, made at that second, that has failed with exit code 3 two seconds later.
fn failed_pod(name: &str, made: i64) -> Arc<Pod> {
    failed_after(2, name, made)
}

fn failed_after(secs: i64, name: &str, made: i64) -> Arc<Pod> {
    let end =
        json!({"terminated": {"exitCode": 3, "reason": "Error", "finishedAt": at(made + secs)}});
    pod(json!({
        "metadata": {"name": name, "uid": name, "creationTimestamp": at(made)},
        "status": {
            "phase": "Failed", "startTime": at(made), "containerStatuses": container(end),
            "conditions": conditions(&[("PodScheduled", "True", made), ("Ready", "False", made + secs)]),
        },
    }))
}

/// The next pod of the same Job, with its container in this state.
fn next_pod(made: i64, state: Value) -> Arc<Pod> {
    pod(json!({
        "metadata": {"name": "next", "uid": "next", "creationTimestamp": at(made)},
        "status": {
            "phase": "Running", "podIP": "10.0.0.9", "containerStatuses": container(state),
            "conditions": conditions(&[("PodScheduled", "True", made), ("Ready", "False", made)]),
        },
    }))
}

/// `Never` with `backoff-limit: 6`, and an app that exits 3 after two seconds: Kubernetes waits 10 s,
/// 20 s, 40 s… between the pods.
#[test]
fn the_first_failed_pod_begins_the_budget_of_all() {
    let retries = job(json!({"spec": {"backoffLimit": 6}, "status": {"failed": 2}}));
    let failed = [failed_pod("a", 1), failed_pod("b", 13)];
    let expected = "starting starting Error 10s@3 pulling_image";
    check(&retries, &failed, expected);
    for state in [
        waiting("ContainerCreating"),
        json!({"running": {"startedAt": at(36)}}),
    ] {
        let [a, b] = failed.clone();
        check(&retries, &[next_pod(35, state), a, b], expected);
    }
    let [a, b] = failed.clone();
    let fetched = next_pod(35, waiting("CreateContainerConfigError"));
    check(
        &retries,
        &[fetched, a, b],
        "starting starting CreateContainerConfigError 10s@3 pulling_image",
    );
    let [a, b] = failed;
    check(
        &retries,
        &[pod(ready("c", 35, "10.0.0.3")), a, b],
        "ready 10.0.0.3",
    );
}

#[test]
fn a_failure_after_a_long_run_is_the_first() {
    let retries = job(json!({"spec": {"backoffLimit": 6}}));
    let running = json!({"running": {"startedAt": at(1013)}});
    check(
        &retries,
        &[
            failed_pod("a", 1),
            failed_after(600, "b", 402),
            next_pod(1012, running.clone()),
        ],
        "starting starting Error 10s@1002 pulling_image",
    );
    // A pod that others have ended has not failed.
    let mut evicted =
        json!({"status": {"phase": "Failed", "containerStatuses": container(ended(143, "Error"))}});
    evicted["status"]["conditions"] = conditions(&[("DisruptionTarget", "True", 8)]);
    check(
        &retries,
        &[pod(evicted), next_pod(20, running)],
        "starting readying NotReady 300s@1013 pulling_image",
    );
}

/// Kubernetes keeps the failed pod. Its successor counts, which others stop, and without which nothing shows
/// an app that ended by itself.
#[test]
fn a_successor_that_others_stop_counts_more_than_the_failed_pod_before() {
    let failed = failed_pod("a", 1);
    let mut next = ready("b", 13, "10.0.0.2");
    next["metadata"]["deletionTimestamp"] = json!(at(20));
    let stopping = pod(next.clone());
    next["status"]["phase"] = json!("Succeeded");
    next["status"]["containerStatuses"] = container(ended(0, "Completed"));
    let retries = |status: Value| job(json!({"spec": {"backoffLimit": 6}, "status": status}));
    for pods in [
        [failed.clone(), stopping.clone()],
        [stopping, failed.clone()],
    ] {
        check(
            &retries(json!({"failed": 1})),
            &pods,
            "starting creating NoPod 25s@20 node_not_ready",
        );
    }
    let complete = retries(json!({"conditions": conditions(&[("Complete", "True", 21)])}));
    let pods = [failed.clone(), pod(next)];
    check(&complete, &pods, "finished PodDeleted at 13 after 13");
    check(&complete, &[failed], "finished Evicted at 21 after 21");
}

/// Its pod ran for long, and is gone: others ended it.
#[test]
fn a_failure_long_before_the_next_pod_was_made_does_not_count() {
    let retries = job(json!({"spec": {"backoffLimit": 6}, "status": {"failed": 1}}));
    let running = |made| next_pod(made, json!({"running": {"startedAt": at(made + 1)}}));
    let [soon, late] = [612, 613].map(|made| [failed_pod("a", 1), running(made)]);
    check(
        &retries,
        &soon,
        "starting starting Error 10s@3 pulling_image",
    );
    check(
        &retries,
        &late,
        "starting readying NotReady 300s@614 pulling_image",
    );
    // The failures since then count.
    let [failed, _] = late;
    check(
        &retries,
        &[failed, failed_pod("b", 613), running(625)],
        "starting starting Error 10s@615 pulling_image",
    );
}

/// The Job controller has made two pods by mistake, and removes the younger one, which takes its time.
#[test]
fn a_pod_that_ends_its_job_counts_more_than_a_younger_one_that_is_removed() {
    let mut younger = ready("z", 3, "10.0.0.2");
    younger["metadata"]["deletionTimestamp"] = json!(at(40));
    let younger = pod(younger);
    let of = |phase: &str, code: i32| {
        pod(json!({"metadata": {"name": "a", "uid": "a"}, "status": {
            "phase": phase, "containerStatuses": container(ended(code, "Error")),
        }}))
    };
    let end = |kind| job_with(kind, 11, "");
    let usual = job(json!({}));
    let completed = [of("Succeeded", 0), younger.clone()];
    check(&usual, &completed, "finished Completed at 9 after 9");
    check(
        &end("Complete"),
        &completed,
        "finished Completed at 9 after 9",
    );
    let failed = [of("Failed", 3), younger];
    let expected = "failed starting Error never pulling_image at 9 after 9";
    check(&usual, &failed, expected);
    check(&end("Failed"), &failed, expected);
}

/// Container `app` of a pod that never restarts its containers, with this policy of its own.
fn with_own_policy(policy: Value, status: Value) -> Arc<Pod> {
    let mut container = json!({"name": "app"});
    merge(&mut container, &policy);
    let mut whole =
        json!({"conditions": conditions(&[("PodScheduled", "True", 2), ("Ready", "False", 2)])});
    merge(&mut whole, &status);
    pod(json!({"spec": {"restartPolicy": "Never", "containers": [container]}, "status": whole}))
}

#[test]
fn a_container_with_a_policy_of_its_own() {
    let rule = |action: &str, operator: &str| {
        json!({"restartPolicy": "Never", "restartPolicyRules": [
            {"action": action, "exitCodes": {"operator": operator, "values": [42]}},
        ]})
    };
    let again = "starting starting Error 10s@9 pulling_image";
    let over = "failed starting Error never pulling_image at 9 after 9";
    for (policy, code, expected) in [
        (json!({"restartPolicy": "OnFailure"}), 3, again),
        (json!({}), 3, over),
        (rule("Restart", "In"), 42, again),
        (rule("Restart", "In"), 43, over),
        (rule("Restart", "NotIn"), 42, over),
        (rule("Restart", "NotIn"), 43, again),
        (rule("RestartAllContainers", "In"), 42, again),
        (rule("SomethingNew", "In"), 42, over),
    ] {
        let status =
            json!({"phase": "Running", "containerStatuses": container(ended(code, "Error"))});
        let pods = [with_own_policy(policy.clone(), status.clone())];
        let result = line(&assess(&job(json!({})), &pods, &|_| Vec::new()));
        assert_eq!(result, expected, "{policy} {code}");
    }
    // The pod restarts its containers, but not this one: the Job controller makes another pod.
    let mut never = json!({"phase": "Running", "containerStatuses": container(ended(3, "Error"))});
    never["conditions"] = conditions(&[("PodScheduled", "True", 2)]);
    let spec = json!({"restartPolicy": "OnFailure", "containers": [{"name": "app", "restartPolicy": "Never"}]});
    let retried = pod(json!({"spec": spec, "status": never}));
    check(&job(json!({})), std::slice::from_ref(&retried), over);
    check(
        &job(json!({"spec": {"backoffLimit": 2}})),
        &[retried],
        again,
    );
    // It is restarted whatever its exit code.
    let status = json!({"phase": "Running", "containerStatuses": container(ended(0, "Completed"))});
    let rule = json!({"restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [0]}}]});
    check_pod(
        with_own_policy(rule, status),
        "starting readying NotReady 300s@2 pulling_image",
    );
}

/// The steps of a container that fails twice and then serves, as a kubelet of 1.36.3 writes them.
#[test]
fn a_run_after_a_failure_has_the_budget_of_the_failure() {
    let policy = json!({"restartPolicy": "OnFailure"});
    let crashed = ended(3, "Error");
    let step = |state: Value, last: &Value| {
        let containers = json!([{"name": "app", "state": state, "lastState": last}]);
        with_own_policy(
            policy.clone(),
            json!({"phase": "Running", "containerStatuses": containers}),
        )
    };
    let running = || json!({"running": {"startedAt": at(11)}});
    check_pod(
        step(crashed.clone(), &json!({})),
        "starting starting Error 10s@9 pulling_image",
    );
    check_pod(
        step(running(), &crashed),
        "starting starting Error 10s@9 pulling_image",
    );
    check_pod(
        step(waiting("CrashLoopBackOff"), &crashed),
        "starting starting CrashLoopBackOff 10s@9 pulling_image",
    );
    // It has become ready with this run, so it is not that failure for which it is unready now.
    let unready = |since: i64| {
        let conditions = conditions(&[("PodScheduled", "True", 2), ("Ready", "False", since)]);
        let containers = json!([{"name": "app", "state": running(), "lastState": crashed}]);
        with_own_policy(
            policy.clone(),
            json!({"phase": "Running", "conditions": conditions, "containerStatuses": containers}),
        )
    };
    check_pod(unready(13), "starting starting Error 10s@9 pulling_image");
    check_pod(
        unready(14),
        "starting readying NotReady 300s@14 pulling_image",
    );
}

/// With the rule `RestartAllContainers`, the kubelet removes the containers and what it knew of them.
#[test]
fn all_containers_are_restarted() {
    let removed = "The container is removed because RestartAllContainers in place";
    let reason = "RestartingAllContainers";
    let last = json!({"terminated": {"exitCode": 137, "reason": reason, "message": removed, "startedAt": null, "finishedAt": null}});
    for state in [
        json!({"waiting": {"reason": reason, "message": removed}}),
        json!({"running": {"startedAt": at(11)}}),
    ] {
        let containers =
            json!([{"name": "app", "restartCount": 1, "state": state, "lastState": last}]);
        let pods = [on_node(
            json!({"phase": "Running", "containerStatuses": containers}),
        )];
        check(
            &job(json!({})),
            &pods,
            "starting starting RestartingAllContainers 10s@? pulling_image",
        );
        let found = finding(&job(json!({})), &pods);
        assert_eq!(
            &*found.message,
            "a container has ended, and all of the pod are restarted"
        );
        assert_eq!((found.exit_code, found.last_output), (None, None));
    }
}
