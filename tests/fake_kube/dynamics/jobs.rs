//! The Job controller for plain Jobs (one completion): counts the pods, creates the
//! next one, and decides when a Job has finished.

use std::sync::Arc;

use serde_json::{Value, json};

use super::pods::TRACKING;
use super::{Dynamics, controller_uid, emit_event, has_condition, set_condition};
use crate::fake_kube::clock::{parse_timestamp, timestamp};
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::DeleteOptions;
use crate::fake_kube::cluster::{Cluster, Key, drop_finalizer, has_finalizer, is_deleting, meta};

/// The back-off after a pod's first failure; it doubles with each further one.
const BACKOFF_MS: i64 = 10_000;
/// The longest back-off.
const BACKOFF_MAX_MS: i64 = 600_000;
/// The back-off after the API server rejected a pod.
const REFUSED_MS: i64 = 1_000;

/// When a Job may create its next pod, and how often it had to wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Retry {
    at_ms: i64,
    ends: u32,
    refused: bool,
}

/// A Job's pods by state.
#[derive(Debug, Default)]
struct Pods {
    active: Vec<(Key, Arc<Value>)>,
    terminating: i64,
    /// Ended, and not counted yet.
    uncounted: Vec<(Key, Arc<Value>)>,
    ready: i64,
    restarts: i64,
}

impl Dynamics {
    /// One step for this Job.
    pub(crate) fn sync_job(&mut self, cluster: &mut Cluster, key: &Key, now: i64) {
        let Some(job) = cluster.object(key).cloned() else {
            return;
        };
        let uid = meta(&job, "uid").to_owned();
        let own: Vec<(Key, Arc<Value>)> = self
            .dependents_of(cluster, &uid)
            .into_iter()
            .filter(|(_, pod)| controller_uid(pod).as_deref() == Some(&uid))
            .collect();
        if is_deleting(&job) || is_over(&job) {
            for (pod_key, pod) in &own {
                if has_finalizer(pod, TRACKING) {
                    cluster.change(pod_key, |pod| drop_finalizer(pod, TRACKING));
                }
            }
            return;
        }
        let pods = sort(&job, own);
        if self.count(cluster, key, &job, &pods, now) || self.finish(cluster, key, &job, &pods, now)
        {
            return;
        }
        self.keep_running(cluster, key, &job, &pods, now);
        refresh_counts(cluster, key, &pods);
    }

    /// Counts one pod that has ended, and removes its finalizer.
    fn count(
        &mut self,
        cluster: &mut Cluster,
        key: &Key,
        job: &Value,
        pods: &Pods,
        now: i64,
    ) -> bool {
        let Some((pod_key, pod)) = pods.uncounted.first() else {
            return false;
        };
        let field = if pod["status"]["phase"] == "Succeeded" {
            Some("succeeded")
        } else {
            let retry = self.retries.entry(meta(job, "uid").to_owned()).or_default();
            let pause = BACKOFF_MS.saturating_mul(1 << retry.ends.min(10));
            retry.at_ms = now + pause.min(BACKOFF_MAX_MS);
            retry.ends += 1;
            (!is_ignored(job, pod)).then_some("failed")
        };
        cluster.change(pod_key, |pod| drop_finalizer(pod, TRACKING));
        if let Some(field) = field {
            cluster.change(key, |job| {
                let before = job["status"][field].as_i64().unwrap_or(0);
                job["status"][field] = json!(before + 1);
            });
        }
        true
    }

    /// Takes one step towards the end of the Job, if it is ending.
    fn finish(
        &mut self,
        cluster: &mut Cluster,
        key: &Key,
        job: &Value,
        pods: &Pods,
        now: i64,
    ) -> bool {
        let at = timestamp(now);
        if has_condition(job, "SuccessCriteriaMet") || has_condition(job, "FailureTarget") {
            return conclude(cluster, key, job, pods, &at);
        }
        let number = |field: &Value| field.as_i64().unwrap_or(0);
        let (status, spec) = (&job["status"], &job["spec"]);
        if number(&status["succeeded"]) >= spec["completions"].as_i64().unwrap_or(1) {
            return cluster.change(key, |job| {
                let (reason, message) = (
                    "CompletionsReached",
                    "Reached expected number of succeeded pods",
                );
                set_condition(job, "SuccessCriteriaMet", true, reason, message, &at);
            });
        }
        let Some((reason, message)) = self.failure(key, job, pods, now) else {
            return false;
        };
        cluster.change(key, |job| {
            set_condition(job, "FailureTarget", true, reason, message, &at);
        })
    }

    fn failure(
        &mut self,
        key: &Key,
        job: &Value,
        pods: &Pods,
        now: i64,
    ) -> Option<(&'static str, &'static str)> {
        let limit = job["spec"]["backoffLimit"].as_i64().unwrap_or(6);
        let failed = job["status"]["failed"].as_i64().unwrap_or(0);
        let on_failure = job["spec"]["template"]["spec"]["restartPolicy"] == "OnFailure";
        let restarted = on_failure
            && if limit == 0 {
                pods.restarts > 0
            } else {
                pods.restarts >= limit
            };
        if failed > limit || restarted {
            return Some((
                "BackoffLimitExceeded",
                "Job has reached the specified backoff limit",
            ));
        }
        let deadline_secs = job["spec"]["activeDeadlineSeconds"].as_i64()?;
        let started = parse_timestamp(job["status"]["startTime"].as_str()?)?;
        self.is_due(key, started + deadline_secs * 1000, now)
            .then_some((
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            ))
    }

    /// Starts, suspends and resumes the Job, and creates a missing pod.
    fn keep_running(
        &mut self,
        cluster: &mut Cluster,
        key: &Key,
        job: &Value,
        pods: &Pods,
        now: i64,
    ) {
        let at = timestamp(now);
        if job["spec"]["suspend"] == true {
            for (pod_key, _) in &pods.active {
                delete_pod(cluster, pod_key);
            }
            cluster.change(key, |job| {
                set_condition(job, "Suspended", true, "JobSuspended", "Job suspended", &at);
                if let Some(status) = job["status"].as_object_mut() {
                    status.shift_remove("startTime");
                }
            });
            return;
        }
        if job["status"]["startTime"].is_null() {
            cluster.change(key, |job| {
                job["status"]["startTime"] = json!(at);
                if has_condition(job, "Suspended") {
                    set_condition(job, "Suspended", false, "JobResumed", "Job resumed", &at);
                }
            });
            return;
        }
        let replaces_early = job["spec"]["podReplacementPolicy"] == "TerminatingOrFailed";
        let held_back = if replaces_early { 0 } else { pods.terminating };
        let wanted = job["spec"]["parallelism"].as_i64().unwrap_or(1);
        let present = i64::try_from(pods.active.len()).unwrap_or(i64::MAX);
        let retry = self.retries.get(meta(job, "uid")).copied();
        let pause_over = match retry {
            // If pods are no longer rejected, retry immediately.
            Some(retry) if retry.refused && self.pod_refusal.is_none() => true,
            Some(retry) => present + held_back >= wanted || self.is_due(key, retry.at_ms, now),
            None => true,
        };
        if present + held_back < wanted && pause_over {
            self.make_pod(cluster, job, now);
        }
    }

    fn make_pod(&mut self, cluster: &mut Cluster, job: &Value, now: i64) {
        let name = meta(job, "name");
        let template = &job["spec"]["template"];
        let prefix: String = name.chars().take(57).collect();
        let pod_name = format!("{prefix}-{}", cluster.new_suffix());
        let pod = json!({
            "metadata": {
                "name": pod_name,
                "generateName": format!("{name}-"),
                "labels": template["metadata"]["labels"],
                "annotations": template["metadata"]["annotations"],
                "finalizers": [TRACKING],
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "Job", "name": name,
                    "uid": meta(job, "uid"), "controller": true, "blockOwnerDeletion": true,
                }],
            },
            "spec": template["spec"],
        });
        let refusal = self.pod_refusal.clone().or_else(|| {
            let made = cluster.create(Resource::Pods, meta(job, "namespace"), pod, false);
            made.err()
                .map(|r| r.status["message"].as_str().unwrap_or("").to_owned())
        });
        let component = "job-controller";
        let uid = meta(job, "uid").to_owned();
        let retry = self.retries.entry(uid).or_default();
        retry.refused = refusal.is_some();
        match refusal {
            None => {
                let message = format!("Created pod: {pod_name}");
                emit_event(
                    cluster,
                    job,
                    "Normal",
                    "SuccessfulCreate",
                    &message,
                    component,
                );
            }
            Some(why) => {
                retry.at_ms = now + REFUSED_MS;
                let message = format!("Error creating: {why}");
                emit_event(cluster, job, "Warning", "FailedCreate", &message, component);
                let key = (
                    Resource::Jobs,
                    meta(job, "namespace").to_owned(),
                    name.to_owned(),
                );
                self.is_due(&key, now + REFUSED_MS, now);
            }
        }
    }
}

/// Whether the Job has a final condition.
fn is_over(job: &Value) -> bool {
    has_condition(job, "Complete") || has_condition(job, "Failed")
}

fn is_terminal(pod: &Value) -> bool {
    matches!(
        pod["status"]["phase"].as_str(),
        Some("Succeeded" | "Failed")
    )
}

fn sort(job: &Value, own: Vec<(Key, Arc<Value>)>) -> Pods {
    let failed_only = job["spec"]["podReplacementPolicy"] == "Failed";
    let mut pods = Pods::default();
    for (key, pod) in own {
        let counted = !has_finalizer(&pod, TRACKING);
        pods.ready += i64::from(!is_deleting(&pod) && has_condition(&pod, "Ready"));
        if is_terminal(&pod) || (is_deleting(&pod) && !failed_only) {
            pods.terminating += i64::from(!is_terminal(&pod));
            if !counted {
                pods.uncounted.push((key, pod));
            }
        } else if is_deleting(&pod) {
            pods.terminating += 1;
        } else {
            for status in pod["status"]["containerStatuses"]
                .as_array()
                .into_iter()
                .flatten()
            {
                pods.restarts += status["restartCount"].as_i64().unwrap_or(0);
            }
            pods.active.push((key, pod));
        }
    }
    pods
}

/// Whether the Job's podFailurePolicy ignores this failure.
fn is_ignored(job: &Value, pod: &Value) -> bool {
    let rules = job["spec"]["podFailurePolicy"]["rules"].as_array();
    rules.into_iter().flatten().any(|rule| {
        let patterns = rule["onPodConditions"].as_array();
        rule["action"] == "Ignore"
            && patterns
                .into_iter()
                .flatten()
                .any(|p| has_condition(pod, p["type"].as_str().unwrap_or("")))
    })
}

/// After the criteria are met: deletes the remaining pods, then sets the final condition.
fn conclude(cluster: &mut Cluster, key: &Key, job: &Value, pods: &Pods, at: &str) -> bool {
    if !pods.active.is_empty() {
        for (pod_key, _) in &pods.active {
            delete_pod(cluster, pod_key);
        }
        return true;
    }
    if pods.terminating > 0 {
        return refresh_counts(cluster, key, pods);
    }
    let conditions = job["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let target = conditions
        .iter()
        .find(|c| c["type"] == "FailureTarget" || c["type"] == "SuccessCriteriaMet");
    let text = |field: &str| {
        let found = target.and_then(|c| c[field].as_str());
        found.unwrap_or("").to_owned()
    };
    let (reason, message) = (text("reason"), text("message"));
    let failed = target.is_some_and(|c| c["type"] == "FailureTarget");
    cluster.change(key, |job| {
        job["status"]["active"] = json!(0);
        job["status"]["ready"] = json!(0);
        job["status"]["terminating"] = json!(0);
        if failed {
            set_condition(job, "Failed", true, &reason, &message, at);
        } else {
            set_condition(job, "Complete", true, &reason, &message, at);
            job["status"]["completionTime"] = json!(at);
        }
    })
}

fn delete_pod(cluster: &mut Cluster, key: &Key) {
    // The pod may be gone already, which is the goal.
    let _ = cluster.delete(key, &DeleteOptions::default());
}

fn refresh_counts(cluster: &mut Cluster, key: &Key, pods: &Pods) -> bool {
    let active = pods.active.len();
    cluster.change(key, |job| {
        let status = &mut job["status"];
        status["active"] = json!(active);
        status["ready"] = json!(pods.ready);
        status["terminating"] = json!(pods.terminating);
        status["uncountedTerminatedPods"] = json!({});
    })
}
