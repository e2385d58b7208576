//! The effect of each transition by scheduler and kubelet on a pod: pure edits of its JSON.
//! Scripted pods and pods that a test moves share them.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{has_condition, pod_script::Exit, set_condition};

/// The node of this pod: each Job name has its own, so that one can be lost without the others.
pub(crate) fn node_of(pod: &Value) -> String {
    let job = pod["metadata"]["labels"]["job-name"].as_str();
    format!("node-of-{}", job.unwrap_or("others"))
}

const CONTAINERS_UNREADY: &str = "ContainersNotReady";

fn unready_message(pod: &Value) -> String {
    let names: Vec<&str> = pod["spec"]["containers"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|c| c["name"].as_str())
        .collect();
    format!("containers with unready status: [{}]", names.join(" "))
}

/// The scheduler found no node.
pub(crate) fn unschedulable(pod: &mut Value, message: &str, now: &str) {
    set_condition(pod, "PodScheduled", false, "Unschedulable", message, now);
}

/// The scheduler chose the node.
pub(crate) fn scheduled(pod: &mut Value, now: &str) {
    pod["spec"]["nodeName"] = json!(node_of(pod));
    set_condition(pod, "PodScheduled", true, "", "", now);
}

/// The kubelet accepted the pod: volumes, then the sandbox.
pub(crate) fn mounting(pod: &mut Value, now: &str) {
    let message = unready_message(pod);
    // A kubelet keeps the time at which it first accepted the pod.
    if pod["status"]["startTime"].is_null() {
        pod["status"]["startTime"] = json!(now);
    }
    pod["status"]["hostIP"] = json!("127.0.0.1");
    set_condition(pod, "PodReadyToStartContainers", false, "", "", now);
    set_condition(pod, "Initialized", true, "", "", now);
    set_condition(pod, "Ready", false, CONTAINERS_UNREADY, &message, now);
    set_condition(
        pod,
        "ContainersReady",
        false,
        CONTAINERS_UNREADY,
        &message,
        now,
    );
    waiting(pod, "ContainerCreating", "");
}

/// The sandbox exists: the pod has its address, images are pulled.
pub(crate) fn pulling(pod: &mut Value, ip: Ipv4Addr, now: &str) {
    pod["status"]["podIP"] = json!(ip.to_string());
    pod["status"]["podIPs"] = json!([{"ip": ip.to_string()}]);
    set_condition(pod, "PodReadyToStartContainers", true, "", "", now);
}

/// All containers wait, for this reason.
pub(crate) fn waiting(pod: &mut Value, reason: &str, message: &str) {
    let mut state = json!({"waiting": {"reason": reason}});
    if !message.is_empty() {
        state["waiting"]["message"] = json!(message);
    }
    each_status(pod, |status| {
        status["state"] = state.clone();
        status["ready"] = json!(false);
        status["started"] = json!(false);
    });
}

/// All containers run; with `ready`, their probes have passed as well.
pub(crate) fn running(pod: &mut Value, ready: bool, now: &str) {
    pod["status"]["phase"] = json!("Running");
    each_status(pod, |status| {
        status["state"] = json!({"running": {"startedAt": now}});
        status["started"] = json!(true);
        status["ready"] = json!(ready);
        status["containerID"] = json!("containerd://fake");
    });
    for status in pod["status"]["initContainerStatuses"]
        .as_array_mut()
        .into_iter()
        .flatten()
    {
        status["state"] = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        status["ready"] = json!(true);
    }
    readiness(pod, ready, now);
}

/// The probes pass, or fail (again).
pub(crate) fn ready(pod: &mut Value, ready: bool, now: &str) {
    each_status(pod, |status| status["ready"] = json!(ready));
    readiness(pod, ready, now);
}

/// The node controller marks a pod that was ready on a node without heartbeats: without a reason, and
/// what the kubelet has set stays (measured with Kubernetes 1.36).
pub(crate) fn node_lost(pod: &mut Value, now: &str) {
    if has_condition(pod, "Ready") {
        set_condition(pod, "Ready", false, "", "", now);
    }
}

fn readiness(pod: &mut Value, ready: bool, now: &str) {
    let (reason, message) = if ready {
        ("", String::new())
    } else {
        (CONTAINERS_UNREADY, unready_message(pod))
    };
    set_condition(pod, "Ready", ready, reason, &message, now);
    set_condition(pod, "ContainersReady", ready, reason, &message, now);
}

/// The container state after an exit.
fn terminated(exit: &Exit, started: &Value, now: &str) -> Value {
    let reason = match (exit.reason.as_str(), exit.code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (given, _) => given,
    };
    let mut state = json!({
        "exitCode": exit.code, "reason": reason,
        "startedAt": started, "finishedAt": now, "containerID": "containerd://fake",
    });
    if !exit.message.is_empty() {
        state["message"] = json!(exit.message);
    }
    json!({ "terminated": state })
}

/// All containers have ended, and the pod with them.
pub(crate) fn ended(pod: &mut Value, exit: &Exit, now: &str) {
    let (phase, reason) = if exit.code == 0 {
        ("Succeeded", "PodCompleted")
    } else {
        ("Failed", "PodFailed")
    };
    each_status(pod, |status| {
        let started = status["state"]["running"]["startedAt"].clone();
        status["state"] = terminated(exit, &started, now);
        status["ready"] = json!(false);
        status["started"] = json!(false);
    });
    pod["status"]["phase"] = json!(phase);
    set_condition(pod, "PodReadyToStartContainers", false, "", "", now);
    set_condition(pod, "Ready", false, reason, "", now);
    set_condition(pod, "ContainersReady", false, reason, "", now);
}

/// All containers have ended and are restarted after a delay.
pub(crate) fn crashed(pod: &mut Value, exit: &Exit, now: &str) {
    each_status(pod, |status| {
        let started = status["state"]["running"]["startedAt"].clone();
        let restarts = status["restartCount"].as_i64().unwrap_or(0);
        let name = status["name"].as_str().unwrap_or("").to_owned();
        status["lastState"] = terminated(exit, &started, now);
        status["restartCount"] = json!(restarts + 1);
        status["state"] = json!({"waiting": {
            "reason": "CrashLoopBackOff",
            "message": format!("back-off 10s restarting failed container={name}"),
        }});
        status["ready"] = json!(false);
        status["started"] = json!(false);
    });
    readiness(pod, false, now);
}

/// The node ran out of a resource: the kubelet ends the pod without a deletion.
pub(crate) fn evicted_by_kubelet(pod: &mut Value, message: &str, now: &str) {
    let exit = Exit::at_once(137);
    set_condition(
        pod,
        "DisruptionTarget",
        true,
        "TerminationByKubelet",
        message,
        now,
    );
    ended(pod, &exit, now);
    pod["status"]["reason"] = json!("Evicted");
    pod["status"]["message"] = json!(message);
}

/// Edits the status of each container, and makes those that are missing.
fn each_status(pod: &mut Value, edit: impl Fn(&mut Value)) {
    for (list, statuses) in [
        ("initContainers", "initContainerStatuses"),
        ("containers", "containerStatuses"),
    ] {
        let containers = pod["spec"][list].as_array().cloned().unwrap_or_default();
        if containers.is_empty() {
            continue;
        }
        if !pod["status"][statuses].is_array() {
            let fresh: Vec<Value> = containers.iter().map(fresh_status).collect();
            pod["status"][statuses] = json!(fresh);
        }
        if list == "initContainers" {
            continue;
        }
        for status in pod["status"][statuses].as_array_mut().into_iter().flatten() {
            edit(status);
        }
    }
}

fn fresh_status(container: &Value) -> Value {
    json!({
        "name": container["name"], "image": container["image"], "imageID": "",
        "ready": false, "started": false, "restartCount": 0, "lastState": {},
        "state": {"waiting": {"reason": "PodInitializing"}},
    })
}
