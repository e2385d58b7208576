//! What has failed in a Job before and was started again, by the kubelet or by the Job controller.
//!
//! Pure. Kubernetes retries for many minutes, with pauses that double. So the first failure begins the
//! budget, whatever the present run has reached; a pod that becomes ready all the same is ready. Why a
//! single pod has failed is in `pods.rs`.

use super::budgets::controller_pause;
use super::pods::{has_ended, is_disrupted, last_end, last_failure, of_pod};
use super::{Finding, LASTED_LONG, is_before};
use crate::kube::types::{ConditionStatus, ConditionType, ContainerState, Job, Pod, Timestamp};
use crate::sorting;
use std::sync::Arc;

/// The failures before the present run.
pub(super) struct Retried {
    /// The last one.
    pub(super) cause: Finding,
    /// When the first one happened.
    pub(super) first: Option<Timestamp>,
}

/// What has failed before, if anything has since the app last ran for [`LASTED_LONG`].
pub(super) fn retried(job: &Job, pods: &[Arc<Pod>], current: &Pod) -> Option<Retried> {
    let mut failed: Vec<&Pod> = pods
        .iter()
        .map(|pod| &**pod)
        .filter(|pod| counts(job, pod))
        .collect();
    let created = |pod: &Pod| pod.metadata.creation_timestamp;
    sorting::sort_by(&mut failed, |a, b| created(b).cmp(&created(a)));
    let own = Some(current).filter(|pod| !has_ended(pod) && has_restarted(pod));
    let mut found: Option<Retried> = None;
    let mut next = current;
    for pod in own.into_iter().chain(failed) {
        let Some(failure) = last_failure(pod) else {
            continue;
        };
        if is_long_before(job, failure.since, next) {
            break;
        }
        next = pod;
        let (first, ran_long) = (failure.since, ran_long(pod, failure.since));
        let retried = found.get_or_insert(Retried {
            cause: failure,
            first,
        });
        retried.first = [retried.first, first].into_iter().flatten().min();
        if ran_long {
            break;
        }
    }
    found
}

/// Whether the failure of this pod counts: the Job controller ignores that of a disrupted one.
fn counts(job: &Job, pod: &Pod) -> bool {
    has_ended(pod) && !is_disrupted(pod) && !is_before(pod, job)
}

/// Whether a container of this pod has failed and was run again, or will be, and the pod has not become
/// ready with that run.
fn has_restarted(pod: &Pod) -> bool {
    let unready = pod.conditions.get(ConditionType::Ready);
    let unready = unready.filter(|ready| ready.status != ConditionStatus::True);
    let unready_since = unready
        .and_then(|ready| ready.since)
        .map(Timestamp::seconds);
    pod.containers.iter().any(|container| {
        let was_ready = match container.state {
            ContainerState::Running(Some(begun)) => {
                unready_since.is_some_and(|since| since > begun.seconds() + REPORTED_WITHIN_SECS)
            }
            _ => false,
        };
        last_end(container).is_some_and(|ended| ended.exit_code != 0) && !was_ready
    })
}

/// The kubelet reports that a pod is no longer ready so many seconds after its container has ended, when
/// the container may already run again.
const REPORTED_WITHIN_SECS: i64 = 2;

/// Whether so much time is between a failure and the next pod that the app ran for long meanwhile, in a pod
/// that is gone, since others ended it.
fn is_long_before(job: &Job, failed: Option<Timestamp>, next: &Pod) -> bool {
    let between = failed.zip(next.metadata.creation_timestamp);
    let secs = between.map_or(0, |(failed, made)| made.seconds() - failed.seconds());
    let long = LASTED_LONG + controller_pause(job);
    u64::try_from(secs).is_ok_and(|secs| secs >= long.as_secs())
}

fn ran_long(pod: &Pod, until: Option<Timestamp>) -> bool {
    let secs = until
        .zip(of_pod(pod, pod.start_time))
        .map(|(until, since)| until.seconds() - since.seconds());
    secs.and_then(|secs| u64::try_from(secs).ok())
        .is_some_and(|secs| secs >= LASTED_LONG.as_secs())
}
