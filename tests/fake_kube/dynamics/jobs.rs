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

/// The value of `managedBy` that names this controller.
const MANAGED_BY: &str = "kubernetes.io/job-controller";

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
        // Another controller writes the status of this one.
        if !matches!(job["spec"]["managedBy"].as_str(), None | Some(MANAGED_BY)) {
            return;
        }
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
        if job["spec"]["suspend"] == true {
            suspend(cluster, key, &job, &pods, &timestamp(now));
        } else {
            self.keep_running(cluster, key, &job, pods, now);
        }
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
        fail(cluster, key, job, pods, (reason, message), &at);
        true
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
        if job["spec"]["suspend"] == true {
            return None;
        }
        let deadline_secs = job["spec"]["activeDeadlineSeconds"].as_i64()?;
        let started = parse_timestamp(job["status"]["startTime"].as_str()?)?;
        self.is_due(key, started + deadline_secs * 1000, now)
            .then_some((
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            ))
    }

    /// Creates a missing pod, then writes that the Job has started or is resumed, and the counts.
    fn keep_running(
        &mut self,
        cluster: &mut Cluster,
        key: &Key,
        job: &Value,
        mut pods: Pods,
        now: i64,
    ) {
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
        if present + held_back < wanted
            && pause_over
            && let Some(made) = self.make_pod(cluster, job, now)
        {
            pods.active.push(made);
        }
        let at = timestamp(now);
        let resumes = has_condition(job, "Suspended");
        cluster.change(key, |job| {
            if job["status"]["startTime"].is_null() {
                job["status"]["startTime"] = json!(at);
            }
            if resumes {
                set_condition(job, "Suspended", false, "JobResumed", "Job resumed", &at);
            }
            set_counts(job, &pods);
        });
        if resumes {
            report(cluster, job, "Normal", "Resumed", "Job resumed");
        }
    }

    fn make_pod(
        &mut self,
        cluster: &mut Cluster,
        job: &Value,
        now: i64,
    ) -> Option<(Key, Arc<Value>)> {
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
        let namespace = meta(job, "namespace");
        let made = match &self.pod_refusal {
            Some(why) => Err(why.clone()),
            None => cluster
                .create(Resource::Pods, namespace, pod, false)
                .map_err(|refusal| refusal.status["message"].as_str().unwrap_or("").to_owned()),
        };
        let uid = meta(job, "uid").to_owned();
        let retry = self.retries.entry(uid).or_default();
        retry.refused = made.is_err();
        match made {
            Ok(pod) => {
                let message = format!("Created pod: {pod_name}");
                report(cluster, job, "Normal", "SuccessfulCreate", &message);
                let key = (Resource::Pods, namespace.to_owned(), pod_name);
                Some((key, pod))
            }
            Err(why) => {
                retry.at_ms = now + REFUSED_MS;
                let message = format!("Error creating: {why}");
                report(cluster, job, "Warning", "FailedCreate", &message);
                let key = (Resource::Jobs, namespace.to_owned(), name.to_owned());
                self.is_due(&key, now + REFUSED_MS, now);
                None
            }
        }
    }
}

/// Records an event about the Job.
fn report(cluster: &mut Cluster, job: &Value, kind: &str, reason: &str, message: &str) {
    emit_event(cluster, job, kind, reason, message, "job-controller");
}

/// Deletes the pods, which no longer count, then writes that the Job is suspended.
fn suspend(cluster: &mut Cluster, key: &Key, job: &Value, pods: &Pods, at: &str) {
    for (pod_key, _) in &pods.active {
        cluster.change(pod_key, |pod| drop_finalizer(pod, TRACKING));
        delete_pod(cluster, pod_key);
        report_deleted(cluster, job, pod_key);
    }
    let pods = pods.after_deletion(cluster);
    let is_new = !has_condition(job, "Suspended");
    cluster.change(key, |job| {
        if is_new {
            set_condition(job, "Suspended", true, "JobSuspended", "Job suspended", at);
        }
        if let Some(status) = job["status"].as_object_mut() {
            status.shift_remove("startTime");
        }
        set_counts(job, &pods);
    });
    if is_new {
        report(cluster, job, "Normal", "Suspended", "Job suspended");
    }
}

/// Deletes the pods, and counts them as failed: first by name, then by number.
fn fail(
    cluster: &mut Cluster,
    key: &Key,
    job: &Value,
    pods: &Pods,
    (reason, message): (&str, &str),
    at: &str,
) {
    for (pod_key, _) in &pods.active {
        delete_pod(cluster, pod_key);
        report_deleted(cluster, job, pod_key);
    }
    let uids = pods.active.iter().map(|(_, pod)| meta(pod, "uid"));
    let uncounted = if pods.active.is_empty() {
        json!({})
    } else {
        json!({"failed": uids.collect::<Vec<_>>()})
    };
    let left = pods.after_deletion(cluster);
    cluster.change(key, |job| {
        set_condition(job, "FailureTarget", true, reason, message, at);
        set_counts(job, &left);
        job["status"]["uncountedTerminatedPods"] = uncounted;
    });
    for (pod_key, _) in &pods.active {
        cluster.change(pod_key, |pod| drop_finalizer(pod, TRACKING));
    }
    cluster.change(key, |job| {
        let before = job["status"]["failed"].as_u64().unwrap_or(0);
        let failed = before + u64::try_from(pods.active.len()).unwrap_or(0);
        if failed > 0 {
            job["status"]["failed"] = json!(failed);
        }
        set_counts(job, &left);
    });
}

fn report_deleted(cluster: &mut Cluster, job: &Value, pod: &Key) {
    let message = format!("Deleted pod: {}", pod.2);
    report(cluster, job, "Normal", "SuccessfulDelete", &message);
}

impl Pods {
    /// The same after the active ones were deleted.
    fn after_deletion(&self, cluster: &Cluster) -> Self {
        let left = self
            .active
            .iter()
            .filter(|(key, _)| cluster.object(key).is_some());
        let left = i64::try_from(left.count()).unwrap_or(i64::MAX);
        Self {
            terminating: self.terminating + left,
            ..Self::default()
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

/// After the criteria are met: deletes the remaining pods and waits for their end, then sets the final condition.
fn conclude(cluster: &mut Cluster, key: &Key, job: &Value, pods: &Pods, at: &str) -> bool {
    if !pods.active.is_empty() {
        for (pod_key, _) in &pods.active {
            delete_pod(cluster, pod_key);
        }
        return true;
    }
    let is_changed = cluster.change(key, |job| set_counts(job, pods));
    if is_changed || pods.terminating > 0 {
        return is_changed;
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
    let is_changed = cluster.change(key, |job| {
        if failed {
            set_condition(job, "Failed", true, &reason, &message, at);
        } else {
            set_condition(job, "Complete", true, &reason, &message, at);
            job["status"]["completionTime"] = json!(at);
        }
    });
    if failed {
        report(cluster, job, "Warning", &reason, &message);
    } else {
        report(cluster, job, "Normal", "Completed", "Job completed");
    }
    is_changed
}

fn delete_pod(cluster: &mut Cluster, key: &Key) {
    // The pod may be gone already, which is the goal.
    let _ = cluster.delete(key, &DeleteOptions::default());
}

/// Writes the counts; of no active pods there is none.
fn set_counts(job: &mut Value, pods: &Pods) {
    let status = &mut job["status"];
    status["active"] = match pods.active.len() {
        0 => Value::Null,
        active => json!(active),
    };
    status["ready"] = json!(pods.ready);
    status["terminating"] = json!(pods.terminating);
    status["uncountedTerminatedPods"] = json!({});
}
