//! Starts: each phase, and what keeps an instance in it.

use super::*;

#[test]
fn a_job_without_a_pod() {
    let new = job(json!({"status": {"startTime": null}}));
    check(&new, &[], "starting creating NoPod 15s@? node_not_ready");
    let begun = job(json!({"status": {"active": 1}}));
    check(&begun, &[], "starting creating NoPod 15s@? node_not_ready");
    // A replica that starts after an eviction: the back-off before the next pod uses up no budget.
    check(
        &job(json!({})),
        &[],
        "starting creating NoPod 25s@? node_not_ready",
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

/// The watch on pods selects them by a label, which others can remove.
#[test]
fn a_pod_that_only_the_job_controller_sees_has_lost_its_label() {
    let found = finding(&job(json!({"status": {"active": 1}})), &[]);
    let label = crate::model::labels::INSTANCE_NAME;
    assert!(found.message.contains(label), "{}", found.message);
    let found = finding(&job(json!({"status": {"startTime": null}})), &[]);
    assert_eq!(&*found.message, "the Job has no pod yet");
}

#[test]
fn a_deleted_pod_is_replaced_once_it_is_gone() {
    let leaving = pod(
        json!({"metadata": {"deletionTimestamp": at(40)}, "status": {
            "phase": "Running", "podIP": "10.0.0.1", "conditions": conditions(&[("Ready", "True", 5)]),
        }}),
    );
    // The Job controller makes the next one 10 s after its end, which uses up no budget.
    check_pod(leaving, "starting creating NoPod 25s@40 node_not_ready");
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
fn only_a_pod_of_an_old_kubernetes_gets_its_hint() {
    let message = |generation: Value| {
        let metadata = json!({"generation": generation});
        let conditions = conditions(&[("PodScheduled", "True", 2)]);
        let pod = pod(json!({"metadata": metadata, "status": {"conditions": conditions}}));
        finding(&job(json!({})), &[pod]).message
    };
    let usual = "the node is preparing the pod's volumes and network";
    assert_eq!(&*message(json!(1)), usual);
    assert_eq!(
        *message(Value::Null),
        format!("{usual} (on Kubernetes 1.31 it may already be pulling the image)")
    );
}

/// Each row: the conditions `Ready` and `ContainersReady` of a pod whose containers run, as a kubelet and
/// the node controller of 1.36.3 write them.
#[test]
fn why_a_running_pod_is_not_ready() {
    let message =
        "corresponding condition of pod readiness gate \"example.com/registered\" does not exist.";
    for (reason, words, containers_ready, expected, said) in [
        (
            "ContainersNotReady",
            "containers with unready status: [app]",
            "False",
            "ContainersNotReady",
            "container 'app' is running, but not ready yet".to_owned(),
        ),
        (
            "ContainersNotReady",
            "containers with unready status: [app side]",
            "False",
            "ContainersNotReady",
            "the containers 'app', 'side' are running, but not ready yet".to_owned(),
        ),
        (
            "ReadinessGatesNotReady",
            message,
            "True",
            "ReadinessGatesNotReady",
            format!(
                "the app is running, but a readiness gate of the pod is not met: check what sets its condition ({message})"
            ),
        ),
        (
            "",
            "",
            "True",
            "NodeNotReady",
            "the node of the pod no longer reports to Kubernetes; the app may still run".to_owned(),
        ),
        (
            "",
            "",
            "False",
            "NotReady",
            "the app is running, but not ready yet".to_owned(),
        ),
    ] {
        let mut unready = json!({"type": "Ready", "status": "False", "lastTransitionTime": at(8)});
        if !reason.is_empty() {
            merge(&mut unready, &json!({"reason": reason, "message": words}));
        }
        let pod = on_node(json!({
            "phase": "Running", "containerStatuses": container(json!({"running": {"startedAt": at(7)}})),
            "conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": at(2)}, unready,
                {"type": "ContainersReady", "status": containers_ready, "lastTransitionTime": at(8)},
            ],
        }));
        assert_eq!(
            *finding(&job(json!({})), std::slice::from_ref(&pod)).message,
            said
        );
        check_pod(
            pod,
            &format!("starting readying {expected} 300s@8 pulling_image"),
        );
    }
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
