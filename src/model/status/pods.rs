//! What one pod says of an instance: how far it has come, what stands in its way, how it ended.
//!
//! Pure, as all of [`super`]. The order of the checks is the order in which a start goes through
//! its phases.

use super::{Budget, COMPLETED, Ending, Finding, InstanceStatus, Phase, controller_pause, lasted};
use crate::kube::types::{
    Condition, ConditionStatus, ConditionType, ContainerState, ContainerStatus, Detail, Job, Pod,
    PodPhase, RestartPolicy, Terminated, Timestamp,
};

/// How many failed pods a Job takes that says nothing of it (Kubernetes).
const BACKOFF_LIMIT_DEFAULT: u32 = 6;

/// What a pod that nothing will run again says, before its Job says so.
pub(super) fn pod_ended(job: &Job, pod: &Pod) -> Option<InstanceStatus> {
    let retried = pod.restart_policy != RestartPolicy::Never
        || pod.conditions.is_true(ConditionType::DisruptionTarget);
    if retried {
        return None;
    }
    if let Some(finding) = ended_badly(pod) {
        if pod.phase == PodPhase::Failed && has_retries(job) {
            return None;
        }
        let at = finding.since;
        let lasted = lasted(job, at);
        return Some(InstanceStatus::Failed {
            finding: finding.never(),
            at,
            lasted,
        });
    }
    let ended: Vec<&Terminated> = pod
        .container_statuses
        .iter()
        .filter_map(terminated)
        .collect();
    if ended.is_empty() {
        return None;
    }
    let at = ended.iter().filter_map(|ended| ended.finished_at).max();
    let ending = Ending {
        reason: COMPLETED,
        at,
        lasted: lasted(job, at),
    };
    if ended.len() == pod.container_statuses.len() {
        return Some(InstanceStatus::Finished(ending));
    }
    // One of several containers has ended: the pod is never ready again, and does not end by itself.
    let lasted = ending.lasted;
    Some(InstanceStatus::Failed {
        finding: ending.finding(),
        at,
        lasted,
    })
}

/// Whether the Job controller may make another pod after one that failed. The Job's count may or
/// may not yet have this pod in it; in doubt its own condition, a second later, decides.
fn has_retries(job: &Job) -> bool {
    let limit = job.backoff_limit.unwrap_or(BACKOFF_LIMIT_DEFAULT);
    limit > 0 && job.status.failed <= limit
}

/// The containers of a pod in the order in which they run, with the phase that they belong to.
fn containers(pod: &Pod) -> impl Iterator<Item = (Phase, &ContainerStatus)> {
    let init = pod
        .init_container_statuses
        .iter()
        .map(|c| (Phase::Initialising, c));
    init.chain(pod.container_statuses.iter().map(|c| (Phase::Starting, c)))
}

/// Why a pod failed: its first container that ended with a failure, or what the pod as a whole says
/// (evicted, or refused by the kubelet before any container was made).
///
/// A pod that ended well may have a container that did not: a sidecar that was ended with it.
pub(super) fn ended_badly(pod: &Pod) -> Option<Finding> {
    if pod.phase == PodPhase::Succeeded {
        return None;
    }
    let container = containers(pod).find_map(|(phase, container)| {
        let ended = terminated(container).filter(|ended| ended.exit_code != 0)?;
        Some(container_failure(phase, container, ended).since(ended.finished_at))
    });
    container.or_else(|| {
        let detail = pod
            .detail
            .as_deref()
            .filter(|_| pod.phase == PodPhase::Failed)?;
        let message = detail.message.as_deref().unwrap_or("the pod has failed");
        let reason = detail.reason.as_deref().unwrap_or("PodFailed");
        Some(Finding::new(Phase::Starting, reason, message))
    })
}

fn container_failure(phase: Phase, container: &ContainerStatus, ended: &Terminated) -> Finding {
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let kind = if phase == Phase::Initialising {
        "init container"
    } else {
        "container"
    };
    let name = &container.name;
    let message = match reason {
        "OOMKilled" => format!(
            "{kind} '{name}' used more memory than its limit and was killed: raise the limit or use less"
        ),
        _ => format!("{kind} '{name}' ended with exit code {}", ended.exit_code),
    };
    let mut finding = Finding::new(phase, reason, message);
    finding.exit_code = Some(ended.exit_code);
    finding.last_output = ended
        .message
        .as_deref()
        // What comes from the container's log ends with a line break.
        .map(str::trim_end)
        .filter(|m| !m.is_empty())
        .map(Into::into);
    finding
}

fn terminated(container: &ContainerStatus) -> Option<&Terminated> {
    match &container.state {
        ContainerState::Terminated(ended) => Some(ended),
        _ => None,
    }
}

/// How far a pod that has not ended and is not ready has come.
pub(super) fn progress(job: &Job, pod: &Pod) -> Finding {
    let scheduled = pod.conditions.get(ConditionType::PodScheduled);
    let Some(scheduled) = scheduled.filter(|condition| condition.status == ConditionStatus::True)
    else {
        let said = |text: fn(&Condition) -> &str| scheduled.map(text).filter(|t| !t.is_empty());
        let reason = said(Condition::reason).unwrap_or("Scheduling");
        let message = said(Condition::message).unwrap_or("the pod waits for a node");
        return Finding::new(Phase::Scheduling, reason, message)
            .since(pod.metadata.creation_timestamp);
    };
    if pod.phase == PodPhase::Failed
        && let Some(finding) = ended_badly(pod)
    {
        return between_pods(job, finding);
    }
    if let Some(finding) = containers(pod).find_map(|(phase, c)| blocked(phase, c)) {
        return finding;
    }
    let sandbox = pod.conditions.get(ConditionType::PodReadyToStartContainers);
    if let Some(sandbox) = sandbox.filter(|sandbox| sandbox.status != ConditionStatus::True)
        && pod.phase == PodPhase::Pending
    {
        let message = "the node prepares the pod's volumes and network";
        return Finding::new(Phase::Mounting, "Mounting", message).since(sandbox.since);
    }
    let waits = |c: &ContainerStatus| {
        matches!(c.state, ContainerState::Waiting(_) | ContainerState::Unsaid)
    };
    let initialised = pod.conditions.get(ConditionType::Initialized);
    let holds = |condition: Option<&Condition>| {
        condition
            .filter(|condition| condition.status == ConditionStatus::True)?
            .since
    };
    // Each phase begins when the one before it ended.
    let begun = scheduled.since.max(holds(sandbox)).max(holds(initialised));
    if initialised.is_some_and(|c| c.status != ConditionStatus::True)
        && !pod.init_container_statuses.iter().all(waits)
    {
        let message = "the pod's init containers run";
        return Finding::new(Phase::Initialising, "Initialising", message).since(begun);
    }
    if pod.container_statuses.is_empty() || pod.container_statuses.iter().any(waits) {
        let message = "the node fetches the image and makes the container";
        return Finding::new(Phase::Pulling, "ContainerCreating", message).since(begun);
    }
    let started = pod.container_statuses.iter().filter_map(|c| match c.state {
        ContainerState::Running(since) => since,
        _ => None,
    });
    let message = "the app runs and its readiness probe has not passed yet";
    Finding::new(Phase::Readying, "NotReady", message).since(started.max())
}

/// A pod that failed, while its Job will make another: after the Job controller's own pause.
fn between_pods(job: &Job, failure: Finding) -> Finding {
    let ended = failure.since;
    let pause = i64::try_from(controller_pause(job).as_secs()).unwrap_or(0);
    let next = ended.map(|ended| Timestamp::from_seconds(ended.seconds() + pause));
    failure.within(Budget::Starting).counted_from(next)
}

/// Whether a registry has answered that it will not give this image. There is no other sign
/// of it than the sentence that the container runtime gives (these are containerd's).
fn is_hopeless(detail: &Detail) -> bool {
    let said = detail.message.as_deref().unwrap_or_default();
    let words = [
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "manifest unknown",
        "pull access denied",
        "authorization failed",
    ];
    words.iter().any(|words| said.contains(words)) || said.trim_end().ends_with(": not found")
}

/// A container that waits for a reason that a start without trouble does not have.
fn blocked(phase: Phase, container: &ContainerStatus) -> Option<Finding> {
    match &container.state {
        ContainerState::Waiting(detail) => waiting(phase, container, detail.as_deref()?),
        // It ended, and its pod's restart policy will run it again.
        ContainerState::Terminated(ended) if ended.exit_code != 0 => {
            let failure = container_failure(phase, container, ended);
            Some(failure.since(ended.finished_at).within(Budget::Starting))
        }
        _ => None,
    }
}

fn waiting(phase: Phase, container: &ContainerStatus, detail: &Detail) -> Option<Finding> {
    let reason = detail.reason.as_deref()?;
    let finding = |phase| Finding::new(phase, reason, detail.message.as_deref().unwrap_or(""));
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" => Some(finding(Phase::Pulling).never()),
        "ErrImagePull" | "ImagePullBackOff" if is_hopeless(detail) => {
            Some(finding(Phase::Pulling).never())
        }
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            Some(finding(Phase::Pulling).within(Budget::PullError))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(finding(Phase::Starting))
        }
        "CrashLoopBackOff" => {
            // Counted from the crash, as while the container is still shown as ended.
            let mut crash = match container.last_terminated.as_deref() {
                Some(ended) => container_failure(phase, container, ended).since(ended.finished_at),
                None => finding(phase),
            };
            crash.reason = reason.into();
            Some(crash.within(Budget::Starting))
        }
        _ => None,
    }
}
