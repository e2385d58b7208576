//! Scheduler and kubelet: the life cycle of a pod, one transition at a time.
//!
//! ```text
//! New ─▶ Scheduled ─▶ Mounting ─▶ Pulling ─▶ Running ─▶ Ready
//!                                    ▲          │         │
//!                                    └─ crash ──┴─────────┴──▶ Ended
//! ```
//! A deletion can come at any stage: the containers end after a while, and the
//! pod is removed with its last finalizer.

use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::pod_script::{Exit, PodScript};
use super::{Dynamics, PodChange, containers, controller_uid, emit_event};
use crate::fake_kube::clock::timestamp;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::DeleteOptions;
use crate::fake_kube::cluster::{Cluster, Key, drop_finalizer, has_finalizer, is_deleting, meta};

/// The finalizer with which the Job controller counts pods.
pub(crate) const TRACKING: &str = "batch.kubernetes.io/job-tracking";

/// The stage of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is stored.
    New,
    /// It has a node.
    Scheduled,
    /// The kubelet has accepted it.
    Mounting,
    /// It has an address.
    Pulling,
    /// Its containers run.
    Running,
    /// Its probes passed.
    Ready,
    /// Its containers have ended for good.
    Ended,
}

/// A stage, and since when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PodLife {
    stage: Stage,
    since_ms: i64,
    running_ms: i64,
    deleted_ms: Option<i64>,
}

/// A transition of a pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PodMove {
    /// The scheduler finds no node.
    Unschedulable(String),
    /// The scheduler found the node.
    Schedule,
    /// The kubelet accepted it.
    Mount,
    /// The sandbox has its address.
    Pull,
    /// The containers wait, with reason and message (ErrImagePull, …).
    Wait(String, String),
    /// The containers run, unready.
    Run,
    /// The probes pass (`true`) or fail (`false`).
    Ready(bool),
    /// The containers exit by themselves.
    Exit(Exit),
    /// A drain: DisruptionTarget and a graceful deletion.
    Evict,
    /// The kubelet evicts it with this message: Failed, not deleted.
    EvictByKubelet(String),
    /// The containers of a deleted pod have ended: the pod is removed.
    Terminate,
    /// The node has no heartbeat: the node controller marks the pod, if it was ready.
    LoseNode,
    /// The kubelet writes a warning Event, with reason and message; the pod is unchanged.
    Warn(String, String),
}

impl Dynamics {
    /// The clock of this node is so many milliseconds ahead.
    pub(crate) fn set_node_clock(&mut self, node: String, ahead_ms: i64) {
        self.node_clocks.insert(node, ahead_ms);
    }

    fn pod_script_of(&self, pod: &Value) -> PodScript {
        let rule = self
            .pod_scripts
            .iter()
            .rev()
            .find(|rule| rule.is_about(pod));
        match rule {
            Some(rule) => rule.pod_script.clone(),
            None => {
                let script = self.pod_script_default.clone();
                script
                    .with_demo_environment(pod)
                    .with_annotations(&pod["metadata"]["annotations"])
            }
        }
    }

    fn life(&mut self, uid: &str, now: i64) -> PodLife {
        let fresh = PodLife {
            stage: Stage::New,
            since_ms: now,
            running_ms: now,
            deleted_ms: None,
        };
        *self.lives.entry(uid.to_owned()).or_insert(fresh)
    }

    fn enter(&mut self, uid: &str, stage: Stage, now: i64) {
        self.life(uid, now);
        if let Some(life) = self.lives.get_mut(uid) {
            if stage == Stage::Running && life.stage != Stage::Ready {
                life.running_ms = now;
            }
            life.stage = stage;
            life.since_ms = now;
        }
    }

    /// One transition of the pod, if one is due.
    pub(crate) fn sync_pod(&mut self, cluster: &mut Cluster, key: &Key, now: i64) {
        let Some(pod) = cluster.object(key).cloned() else {
            return;
        };
        let uid = meta(&pod, "uid").to_owned();
        let pod_script = self.pod_script_of(&pod);
        let life = self.life(&uid, now);
        if is_deleting(&pod) {
            self.sync_deleted(cluster, key, &pod, &pod_script, now);
            return;
        }
        if matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        ) || pod_script.held
        {
            return;
        }
        if let Some((wait_ms, next)) = next_move(&pod, &pod_script, life)
            && self.is_due(key, life.since_ms + wait_ms, now)
        {
            self.make_move(cluster, key, &next);
            return;
        }
        self.exit_when_due(cluster, key, &pod_script, life, now);
    }

    fn exit_when_due(
        &mut self,
        cluster: &mut Cluster,
        key: &Key,
        pod_script: &PodScript,
        life: PodLife,
        now: i64,
    ) {
        if let Some(exit) = &pod_script.exit
            && matches!(life.stage, Stage::Running | Stage::Ready)
            && self.is_due(key, life.running_ms + exit.after_ms, now)
        {
            self.make_move(cluster, key, &PodMove::Exit(exit.clone()));
        }
    }

    fn sync_deleted(
        &mut self,
        cluster: &mut Cluster,
        key: &Key,
        pod: &Arc<Value>,
        pod_script: &PodScript,
        now: i64,
    ) {
        let uid = meta(pod, "uid").to_owned();
        let started = self
            .lives
            .get_mut(&uid)
            .map_or(now, |life| *life.deleted_ms.get_or_insert(now));
        if pod_script.lingers {
            return;
        }
        let grace = pod_script.terminate_ms.min(
            pod["metadata"]["deletionGracePeriodSeconds"]
                .as_i64()
                .unwrap_or(0)
                .max(0)
                * 1000,
        );
        if self.is_due(key, started + grace, now) {
            self.make_move(cluster, key, &PodMove::Terminate);
        }
    }

    /// Makes a transition. Returns whether it changed the pod.
    pub(crate) fn make_move(&mut self, cluster: &mut Cluster, key: &Key, next: &PodMove) -> bool {
        let Some(pod) = cluster.object(key).cloned() else {
            return false;
        };
        let now_ms = cluster.clock().now_ms();
        let now = timestamp(now_ms);
        let ahead_ms = self.node_clocks.get(&containers::node_of(&pod));
        let on_node = timestamp(now_ms + ahead_ms.unwrap_or(&0));
        let uid = meta(&pod, "uid").to_owned();
        if let Some(stage) = stage_after(&pod, next) {
            self.enter(&uid, stage, now_ms);
        }
        // A restored pod may not have the node that the kubelet knew.
        let bind = |pod: &mut Value| {
            if pod["spec"]["nodeName"].is_null() {
                containers::scheduled(pod, &now);
            }
        };
        match next {
            PodMove::Pull => {
                let ip = self.new_address();
                cluster.change(key, |pod| {
                    bind(pod);
                    // A kubelet has accepted each pod that it starts.
                    if pod["status"]["startTime"].is_null() {
                        containers::mounting(pod, &on_node);
                    }
                    containers::pulling(pod, ip, &on_node);
                })
            }
            PodMove::Run => self.run(cluster, key, false, (&now, &on_node)),
            PodMove::Ready(true) if pod["status"]["phase"] == "Pending" => {
                self.run(cluster, key, true, (&now, &on_node))
            }
            PodMove::Exit(exit) => self.exit(cluster, key, exit, &on_node),
            PodMove::Evict => evict(cluster, key, &now),
            PodMove::EvictByKubelet(message) => {
                let changed = cluster.change(key, |pod| {
                    containers::evicted_by_kubelet(pod, message, &on_node)
                });
                self.report_ended(&pod);
                changed
            }
            PodMove::Terminate => self.terminate(cluster, key, &pod, &on_node),
            PodMove::Warn(reason, message) => {
                emit_event(cluster, &pod, "Warning", reason, message, "kubelet");
                true
            }
            PodMove::Mount => cluster.change(key, |pod| {
                bind(pod);
                containers::mounting(pod, &on_node);
            }),
            PodMove::Ready(_) => cluster.change(key, |pod| simple_edit(pod, next, &on_node)),
            other => cluster.change(key, |pod| simple_edit(pod, other, &now)),
        }
    }

    /// The containers start; the hook is called before any watch sees it.
    fn run(
        &mut self,
        cluster: &mut Cluster,
        key: &Key,
        ready: bool,
        (now, on_node): (&str, &str),
    ) -> bool {
        let Some(mut pod) = cluster.object(key).map(|pod| Value::clone(pod)) else {
            return false;
        };
        if pod["status"]["podIP"].is_null() {
            let ip = self.new_address();
            containers::scheduled(&mut pod, now);
            containers::mounting(&mut pod, on_node);
            containers::pulling(&mut pod, ip, on_node);
        }
        containers::running(&mut pod, ready, on_node);
        if let Some(ip) = address(&pod) {
            let shown = Arc::new(pod.clone());
            self.call_hook(&PodChange::Running { pod: shown, ip });
        }
        cluster.change(key, |current| *current = pod)
    }

    fn exit(&mut self, cluster: &mut Cluster, key: &Key, exit: &Exit, now: &str) -> bool {
        let Some(pod) = cluster.object(key).cloned() else {
            return false;
        };
        let again = match pod["spec"]["restartPolicy"].as_str() {
            Some("Never") => false,
            Some("OnFailure") => exit.code != 0,
            _ => true,
        };
        self.report_ended(&pod);
        cluster.change(key, |pod| {
            if again {
                containers::crashed(pod, exit, now);
            } else {
                containers::ended(pod, exit, now);
            }
        })
    }

    /// Ends a deleted pod in up to two steps, as a kubelet does. First the status shows how the
    /// containers ended, then the pod is removed.
    fn terminate(&mut self, cluster: &mut Cluster, key: &Key, pod: &Arc<Value>, now: &str) -> bool {
        let over = matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        );
        let ran = !pod["status"]["containerStatuses"].is_null();
        if ran && !over {
            let exit = Exit {
                after_ms: 0,
                code: self.pod_script_of(pod).exit_on_stop,
                reason: String::new(),
                message: String::new(),
            };
            self.report_ended(pod);
            return cluster.change(key, |pod| containers::ended(pod, &exit, now));
        }
        cluster.change(key, |pod| {
            pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        })
    }

    fn report_ended(&mut self, pod: &Arc<Value>) {
        if pod["status"]["phase"] == "Running"
            && let Some(ip) = address(pod)
        {
            let pod = Arc::clone(pod);
            self.call_hook(&PodChange::Ended { pod, ip });
        }
    }

    /// Drops the state of a pod that is gone, and calls the hook if it was still running.
    pub(crate) fn pod_is_gone(&mut self, pod: &Arc<Value>) {
        if self.lives.remove(meta(pod, "uid")).is_some() {
            self.report_ended(pod);
        }
    }

    /// Removes the finalizer of a pod whose Job is gone, since no controller counts it any more.
    pub(crate) fn release_orphan(cluster: &mut Cluster, key: &Key, pod: &Value) -> bool {
        let job_name = pod["metadata"]["labels"]["job-name"].as_str().unwrap_or("");
        let job_key = (Resource::Jobs, key.1.clone(), job_name.to_owned());
        let uid = controller_uid(pod);
        let job = cluster.object(&job_key).map(|job| meta(job, "uid"));
        has_finalizer(pod, TRACKING)
            && (uid.is_none() || job != uid.as_deref())
            && cluster.change(key, |pod| drop_finalizer(pod, TRACKING))
    }
}

fn stage_after(pod: &Value, next: &PodMove) -> Option<Stage> {
    Some(match next {
        PodMove::Schedule => Stage::Scheduled,
        PodMove::Mount => Stage::Mounting,
        PodMove::Pull => Stage::Pulling,
        PodMove::Run | PodMove::Ready(false) => Stage::Running,
        PodMove::Ready(true) => Stage::Ready,
        PodMove::Exit(exit) => match pod["spec"]["restartPolicy"].as_str() {
            Some("Never") => Stage::Ended,
            Some("OnFailure") if exit.code == 0 => Stage::Ended,
            _ => Stage::Pulling,
        },
        PodMove::EvictByKubelet(_) => Stage::Ended,
        PodMove::Unschedulable(_)
        | PodMove::Wait(..)
        | PodMove::Evict
        | PodMove::Terminate
        | PodMove::LoseNode
        | PodMove::Warn(..) => {
            return None;
        }
    })
}

/// The next scripted transition of a pod, and its delay after the pod entered its stage.
fn next_move(pod: &Value, pod_script: &PodScript, life: PodLife) -> Option<(i64, PodMove)> {
    match life.stage {
        Stage::New => match &pod_script.unschedulable {
            Some(message) => unless_so(pod, PodMove::Unschedulable(message.clone())),
            None => Some((pod_script.schedule_ms, PodMove::Schedule)),
        },
        Stage::Scheduled => Some((0, PodMove::Mount)),
        Stage::Mounting => Some((pod_script.mount_ms, PodMove::Pull)),
        Stage::Pulling => match &pod_script.waiting {
            Some((reason, message)) => {
                let stuck = PodMove::Wait(reason.clone(), message.clone());
                unless_so(pod, stuck).map(|(_, next)| (pod_script.pull_ms, next))
            }
            None => {
                let crashed = restarts(pod) > 0;
                let wait = if crashed {
                    pod_script.restart_ms
                } else {
                    pod_script.pull_ms
                };
                let at_once = pod_script.ready_ms == 0
                    && !pod_script.never_ready
                    && pod_script.exit.is_none();
                Some((
                    wait,
                    if at_once {
                        PodMove::Ready(true)
                    } else {
                        PodMove::Run
                    },
                ))
            }
        },
        Stage::Running => {
            let exits_first = pod_script
                .exit
                .as_ref()
                .is_some_and(|e| e.after_ms <= pod_script.ready_ms);
            (!pod_script.never_ready && !exits_first)
                .then_some((pod_script.ready_ms, PodMove::Ready(true)))
        }
        Stage::Ready | Stage::Ended => None,
    }
}

/// The transition without delay, unless it would change nothing.
fn unless_so(pod: &Value, next: PodMove) -> Option<(i64, PodMove)> {
    let mut after = pod.clone();
    simple_edit(&mut after, &next, "");
    let stuck = match &next {
        PodMove::Unschedulable(_) => has_reason(&pod["status"]["conditions"], "Unschedulable"),
        _ => after["status"]["containerStatuses"] == pod["status"]["containerStatuses"],
    };
    (!stuck).then_some((0, next))
}

fn has_reason(conditions: &Value, reason: &str) -> bool {
    let mut all = conditions.as_array().into_iter().flatten();
    all.any(|c| c["reason"] == reason)
}

fn restarts(pod: &Value) -> i64 {
    pod["status"]["containerStatuses"][0]["restartCount"]
        .as_i64()
        .unwrap_or(0)
}

fn simple_edit(pod: &mut Value, next: &PodMove, now: &str) {
    match next {
        PodMove::Unschedulable(message) => containers::unschedulable(pod, message, now),
        PodMove::Schedule => containers::scheduled(pod, now),
        PodMove::Wait(reason, message) => containers::waiting(pod, reason, message),
        PodMove::Ready(is) => containers::ready(pod, *is, now),
        PodMove::LoseNode => containers::node_lost(pod, now),
        _ => {}
    }
}

/// The effect of the eviction API.
fn evict(cluster: &mut Cluster, key: &Key, now: &str) -> bool {
    let marked = cluster.change(key, |pod| {
        super::set_condition(
            pod,
            "DisruptionTarget",
            true,
            "EvictionByEvictionAPI",
            "Eviction API: evicting",
            now,
        );
    });
    marked && cluster.delete(key, &DeleteOptions::default()).is_ok()
}

fn address(pod: &Value) -> Option<Ipv4Addr> {
    pod["status"]["podIP"].as_str()?.parse().ok()
}
