//! Which of several pods of a Job counts, and which came before which.
//!
//! Pure. A Job of ours has one pod at a time. It has several after a failure that is retried, while one is being
//! deleted, or if somebody else made some of them; what the one that counts says is in `pods.rs`.

use super::pods::{ends_job, has_ended};
use crate::kube::types::{Job, Pod, Timestamp};
use std::sync::Arc;

/// The pod that determines the status: one that runs, or will, or else one that ends the Job, or else the
/// youngest.
///
/// Of two that run, the elder counts: the Job controller makes a pod only after the end of the one
/// before, so somebody else made the younger, or has taken one from before the Job. (The controller
/// removes one of the two within about a second.)
pub(super) fn current(job: &Job, pods: &[Arc<Pod>]) -> Option<Arc<Pod>> {
    pods.iter().max_by_key(|pod| rank(job, pod)).cloned()
}

/// The pod with the highest rank determines the status.
fn rank<'a>(job: &Job, pod: &'a Pod) -> (bool, bool, bool, i64, &'a str) {
    let meta = &pod.metadata;
    let runs = !meta.is_deleting() && !has_ended(pod);
    let made = meta.creation_timestamp.map_or(0, Timestamp::seconds);
    (
        runs,
        !is_before(pod, job),
        ends_job(job, pod),
        if runs { -made } else { made },
        &meta.name,
    )
}

/// A pod may be so much older than its Job by these timestamps. Two API servers may have made them, each
/// with its own clock.
const CLOCKS_DIFFER_SECS: i64 = 1;

/// Whether the Job controller cannot have made this pod, because the pod was made before its Job: somebody
/// else has set its controller since. It never counts.
#[must_use]
pub fn is_older_than_job(pod: &Pod, job: &Job) -> bool {
    secs_before(pod, job) > CLOCKS_DIFFER_SECS
}

/// Whether the pod seems to be made before this Job. Another pod is preferred to it.
pub(super) fn is_before(pod: &Pod, job: &Job) -> bool {
    secs_before(pod, job) > 0
}

/// By how many seconds the pod is older than this Job.
fn secs_before(pod: &Pod, job: &Job) -> i64 {
    let made = pod.metadata.creation_timestamp;
    let made = made.zip(job.metadata.creation_timestamp);
    made.map_or(0, |(pod, job)| job.seconds() - pod.seconds())
}

/// How much younger the successor of a pod that has ended is, at least: the Job controller waits for 10 s
/// before it makes one (measured: 9.6 s and more).
const SUCCESSOR_SECS: i64 = 5;

/// Whether this other pod of a Job came before the current one, so that its meta labels are passed on.
///
/// The Job controller makes a pod only after the one before is being deleted or has ended. So one that was
/// made beside the current pod and then removed is no predecessor: somebody else made it. All times are
/// the API server's.
#[must_use]
pub fn is_predecessor(job: &Job, pod: &Pod, current: &Pod) -> bool {
    let secs = |time: Option<Timestamp>| time.map_or(0, Timestamp::seconds);
    let made = secs(current.metadata.creation_timestamp);
    let is_over = if pod.metadata.is_deleting() {
        let deleted = secs(pod.metadata.deletion_timestamp);
        deleted - i64::from(pod.deletion_grace_secs) < made
    } else {
        has_ended(pod) && secs(pod.metadata.creation_timestamp) + SUCCESSOR_SECS <= made
    };
    is_over && !is_before(pod, job)
}

/// Whether this pod, which has failed and which Kubernetes keeps, came before another one of its Job that others
/// stopped. That one may be gone, and what it was counts all the same.
#[must_use]
pub fn precedes_stopped(job: &Job, pod: &Pod, stopped: &Pod) -> bool {
    stopped.metadata.is_deleting() && is_predecessor(job, pod, stopped) && !ends_job(job, pod)
}

/// Whether a pod of this Job runs, or will.
pub(super) fn is_live(job: &Job, pod: &Pod) -> bool {
    !pod.metadata.is_deleting() && !has_ended(pod) && !is_before(pod, job)
}

/// Whether another pod that runs, or will, was made in the same second: nothing shows which of them the
/// Job controller made.
pub(super) fn has_twin(job: &Job, pod: &Pod, pods: &[Arc<Pod>]) -> bool {
    let made = pod.metadata.creation_timestamp;
    let mut others = pods
        .iter()
        .filter(|other| other.metadata.uid != pod.metadata.uid);
    others.any(|other| is_live(job, other) && other.metadata.creation_timestamp == made)
}
