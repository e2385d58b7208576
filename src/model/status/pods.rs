//! The status of one pod: the phase of its start, what blocks it, and how it ended.
//!
//! Pure, a part of [`super`], which has the types. Checks are in the order of a start's phases. The
//! Job's own conditions are not evaluated here.

use super::budgets::controller_pause;
use super::{
    Budget, Ending, EventsOf, Finding, InstanceStatus, Phase, Prognosis, Run, event_text,
    latest_event,
};
use crate::kube::types::{
    Condition, ConditionStatus, ConditionType, ContainerKind, ContainerState, ContainerStatus,
    Detail, EventReason, Job, Pod, PodPhase, Terminated, Timestamp,
};

/// The end of a pod, or of its app, before the Job's condition reports it.
pub(super) fn pod_ended(job: &Job, pod: &Pod) -> Option<InstanceStatus> {
    if is_disrupted(pod) {
        return None;
    }
    if let Some(finding) = ended_badly(pod) {
        if has_retries(job) && is_over(pod) {
            return None;
        }
        let at = finding.since;
        let run = Run::of_pod(job, pod, at, None);
        return Some(InstanceStatus::failed(finding.terminal(), run));
    }
    // The pod never becomes ready again, even if other containers of it run on.
    let ended = pod.app_containers().filter_map(ended_for_good);
    let at = ended.clone().filter_map(|ended| ended.finished_at).max();
    ended.clone().next()?;
    let run = Run::of_pod(job, pod, of_pod(pod, at), None);
    Some(InstanceStatus::Finished(Ending::completed(run)))
}

/// A time that the kubelet gives of this pod, by the clock of the API server: clocks of machines differ.
///
/// A kubelet accepts a pod after it has been scheduled. If it says that it was earlier, its clock is behind
/// by at least the difference. Nothing shows whether a clock is ahead; the caller takes no time from the
/// future.
#[must_use]
pub fn of_pod(pod: &Pod, at: Option<Timestamp>) -> Option<Timestamp> {
    let made = pod.metadata.creation_timestamp;
    let scheduled = pod.conditions.holds(ConditionType::PodScheduled);
    let scheduled = scheduled.and_then(|it| it.since).max(made);
    let behind = scheduled.zip(pod.start_time);
    let behind = behind.map_or(0, |(scheduled, start)| {
        scheduled.seconds() - start.seconds()
    });
    let at = Timestamp::from_seconds(at?.seconds() + behind.max(0));
    Some(at).max(made)
}

/// Whether others end it, or have ended it.
pub(super) fn is_disrupted(pod: &Pod) -> bool {
    pod.conditions.is_true(ConditionType::DisruptionTarget)
}

/// Whether this pod may be the last one of a complete Job: one that failed before a retry is not.
#[must_use]
pub fn may_complete(pod: &Pod) -> bool {
    pod.phase != PodPhase::Failed || is_disrupted(pod)
}

/// Whether its Job ends with this pod, which has ended and which nobody deletes: the Job controller makes no
/// other one after it.
pub(super) fn ends_job(job: &Job, pod: &Pod) -> bool {
    let ends = match pod.phase {
        PodPhase::Succeeded => true,
        PodPhase::Failed => job.backoff_limit == 0 && !is_disrupted(pod),
        _ => false,
    };
    ends && !pod.metadata.is_deleting()
}

/// Whether all containers of a failed pod have terminated; its phase follows up to a second later.
fn is_over(pod: &Pod) -> bool {
    let ended = |container: &ContainerStatus| ended_for_good(container).is_some();
    let failed = |c: &ContainerStatus| {
        c.kind != ContainerKind::Sidecar
            && ended_for_good(c).is_some_and(|ended| ended.exit_code != 0)
    };
    let runs = |c: &ContainerStatus| matches!(c.state, ContainerState::Running(_));
    // After a failed init container, no app container is started.
    let never_begun = pod.init_containers().any(failed) && !pod.app_containers().any(runs);
    pod.phase == PodPhase::Failed || pod.app_containers().all(ended) || never_begun
}

/// Whether the Job controller may create another pod after a failed one. The Job's count may not include
/// this pod yet; in doubt the Job's condition decides, a second later.
fn has_retries(job: &Job) -> bool {
    let limit = job.backoff_limit;
    limit > 0 && job.status.failed <= limit
}

/// The phase of a start in which this container runs.
fn phase_of(container: &ContainerStatus) -> Phase {
    match container.kind {
        ContainerKind::Init | ContainerKind::Sidecar => Phase::Initialising,
        ContainerKind::App => Phase::Starting,
    }
}

/// Why a pod failed. One that succeeded may have a failed container, one that was stopped with it. A
/// failed sidecar is always restarted and does not end the pod.
fn ended_badly(pod: &Pod) -> Option<Finding> {
    let has_failed = pod.phase == PodPhase::Failed;
    let container = newest_failure(pod, |container| {
        let ended = terminated(container).filter(|_| has_failed || !container.is_restarted);
        ended.filter(|_| container.kind != ContainerKind::Sidecar)
    });
    match pod.phase {
        PodPhase::Succeeded => None,
        PodPhase::Failed => of_failed_pod(pod, container).or_else(|| {
            Some(Finding::new(
                Phase::Starting,
                "PodFailed",
                "the pod has failed",
            ))
        }),
        _ => container,
    }
}

/// Why a pod failed, or its containers did before a restart: the cause once its Job has failed.
pub(super) fn last_failure(pod: &Pod) -> Option<Finding> {
    let container = newest_failure(pod, last_end);
    match pod.phase {
        PodPhase::Succeeded => None,
        PodPhase::Failed => of_failed_pod(pod, container),
        _ => container,
    }
}

/// Why a pod has failed: its own reason if it has one, else that of its container, else that of its
/// disruption. The pod has a reason if the kubelet evicted or rejected it, or its time was over. Then the
/// end of its containers is only a consequence.
fn of_failed_pod(pod: &Pod, container: Option<Finding>) -> Option<Finding> {
    let detail = pod.detail.as_deref().filter(|it| it.reason.is_some());
    if detail.is_none() && container.is_some() {
        return container;
    }
    let disruption = pod.conditions.holds(ConditionType::DisruptionTarget);
    let detail = detail.or_else(|| disruption?.detail)?;
    let reason = detail.reason.as_deref().unwrap_or("PodFailed");
    let message = detail.message.as_deref().unwrap_or("the pod has failed");
    let finding = Finding::new(Phase::Starting, reason, message.trim_end());
    let ended = finding.since(ended_at(pod));
    Some(match container {
        Some(container) => Finding {
            exit_code: container.exit_code,
            last_output: container.last_output,
            ..ended
        },
        None => ended,
    })
}

/// When the last app container of this pod ended, if one has.
pub(super) fn ended_at(pod: &Pod) -> Option<Timestamp> {
    let ends = pod.app_containers().filter_map(terminated);
    of_pod(pod, ends.filter_map(|ended| ended.finished_at).max())
}

/// The newest failure of a container of this pod, as `end` has it; one of an app container comes first.
fn newest_failure<'a>(
    pod: &'a Pod,
    end: impl Fn(&'a ContainerStatus) -> Option<&'a Terminated>,
) -> Option<Finding> {
    // Of several in one second the first container counts.
    let ends = pod.containers.iter().rev();
    let failures = ends.filter_map(|container| {
        let ended = end(container).filter(|ended| ended.exit_code != 0)?;
        Some((container, ended))
    });
    let (container, ended) = failures.max_by_key(|(container, ended)| {
        (container.kind == ContainerKind::App, ended.finished_at)
    })?;
    Some(container_failure(
        phase_of(container),
        container,
        ended,
        pod,
    ))
}

/// The last failed run of a container. An init container that has succeeded since has none; an app that is
/// stopped may end with code 0.
pub(super) fn last_end(container: &ContainerStatus) -> Option<&Terminated> {
    let ended = terminated(container);
    if container.kind == ContainerKind::Init && ended.is_some_and(|ended| ended.exit_code == 0) {
        return None;
    }
    let failed = ended.filter(|ended| ended.exit_code != 0);
    failed.or_else(|| container.last_terminated())
}

/// Whether the pod has terminated, so that its status is final.
#[must_use]
pub fn has_ended(pod: &Pod) -> bool {
    matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed)
}

/// Kubernetes' reason of a container that is removed, since a rule of its pod restarts all. Exit code and
/// time of its end are not known.
const RESTARTING_ALL: &str = "RestartingAllContainers";

/// The exit code of a container that was ended by SIGKILL: 128 and the number of the signal.
const KILLED: i32 = 137;

fn container_failure(
    phase: Phase,
    container: &ContainerStatus,
    ended: &Terminated,
    pod: &Pod,
) -> Finding {
    let reason = ended.reason.as_deref().unwrap_or("Error");
    let kind = if phase == Phase::Initialising {
        "init container"
    } else {
        "container"
    };
    let name = container.name();
    let message = match reason {
        "OOMKilled" => format!(
            "{kind} '{name}' exceeded its memory limit and was killed: raise the limit, or use less memory"
        ),
        // The container never ran: the message comes from the container runtime.
        "StartError" => event_text::not_started(name, ended.message.as_deref().unwrap_or_default()),
        RESTARTING_ALL => "a container has ended, and all of the pod are restarted".to_owned(),
        // Also an OOM kill of which the kubelet heard after it had heard of the end.
        _ if ended.exit_code == KILLED => format!(
            "{kind} '{name}' exited with code {KILLED} (SIGKILL): it may have exceeded its memory limit, or failed its liveness probe"
        ),
        _ => format!("{kind} '{name}' exited with code {}", ended.exit_code),
    };
    let at = of_pod(pod, ended.finished_at);
    let mut finding = Finding::new(phase, reason, message).since(at);
    if reason == RESTARTING_ALL {
        return finding;
    }
    finding.exit_code = Some(ended.exit_code);
    finding.last_output = ended
        .message
        .as_deref()
        .filter(|_| reason != "StartError")
        // Log lines end with a line break.
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

fn ended_for_good(container: &ContainerStatus) -> Option<&Terminated> {
    terminated(container).filter(|_| !container.is_restarted)
}

/// The phase of a pod that has neither terminated nor become ready. `earlier` is why the Job or the kubelet
/// has started it again; that matters more than where a usual start is.
pub(super) fn progress(
    job: &Job,
    pod: &Pod,
    earlier: Option<Finding>,
    events: EventsOf<'_>,
) -> Finding {
    if pod.phase == PodPhase::Failed
        && let Some(finding) = ended_badly(pod)
    {
        return between_pods(job, pod, finding);
    }
    let scheduled = pod.conditions.get(ConditionType::PodScheduled);
    if scheduled.is_some_and(|it| it.status != ConditionStatus::True) {
        return scheduling(pod, scheduled);
    }
    let mut all = pod.containers.iter();
    let blocked = all.find_map(|container| blocked(container, pod, events));
    blocked.or(earlier).unwrap_or_else(|| match scheduled {
        Some(scheduled) => on_its_node(pod, scheduled, events),
        None => scheduling(pod, None),
    })
}

/// The phase of a pod that has a node and no problem with its containers.
fn on_its_node(pod: &Pod, scheduled: Condition<'_>, events: EventsOf<'_>) -> Finding {
    let sandbox = pod.conditions.get(ConditionType::PodReadyToStartContainers);
    let has_sandbox = match sandbox {
        Some(sandbox) => sandbox.status == ConditionStatus::True,
        // The kubelet has not reported it yet, or does not have this condition.
        None => pod.app_containers().next().is_some(),
    };
    if !has_sandbox && pod.phase == PodPhase::Pending {
        let since = sandbox.map_or(scheduled.since, |it| of_pod(pod, it.since));
        return mounting(pod, events).since(since);
    }
    let waits = |c: &ContainerStatus| {
        matches!(
            c.state,
            ContainerState::Waiting(_) | ContainerState::Unreported
        )
    };
    let initialised = pod.conditions.get(ConditionType::Initialized);
    let holds = |condition: Option<Condition<'_>>| {
        let held = condition.filter(|condition| condition.status == ConditionStatus::True)?;
        of_pod(pod, held.since)
    };
    // Each phase starts when the previous one ends.
    let begun = scheduled.since.max(holds(sandbox)).max(holds(initialised));
    if initialised.is_some_and(|c| c.status != ConditionStatus::True)
        && !pod.init_containers().all(waits)
    {
        let message = "the pod's init containers are running";
        return Finding::new(Phase::Initialising, "Initialising", message).since(begun);
    }
    let apps = pod.app_containers();
    if apps.clone().next().is_none() || apps.clone().any(waits) {
        let message = "the node is pulling the image and creating the container";
        return Finding::new(Phase::Pulling, "ContainerCreating", message).since(begun);
    }
    let started = apps.filter_map(|c| match c.state {
        ContainerState::Running(since) => since,
        _ => None,
    });
    // It may have been ready before; then this state starts when it became unready.
    let unready = pod.conditions.get(ConditionType::Ready);
    let unready = unready.filter(|ready| ready.status != ConditionStatus::True);
    let since = started.max().max(unready.and_then(|ready| ready.since));
    let since = of_pod(pod, since);
    readying(pod, events).since(since)
}

fn scheduling(pod: &Pod, scheduled: Option<Condition<'_>>) -> Finding {
    let reason = scheduled.map(Condition::reason).filter(|r| !r.is_empty());
    let reason = reason.unwrap_or("Scheduling");
    let words = scheduled.map(Condition::message);
    let message = match words.filter(|words| !words.is_empty()) {
        Some(words) if reason == "Unschedulable" => event_text::not_scheduled(words),
        Some(words) => words.to_owned(),
        None => "the pod is waiting for a node".to_owned(),
    };
    Finding::new(Phase::Scheduling, reason, message).since(pod.metadata.creation_timestamp)
}

fn mounting(pod: &Pod, events: EventsOf<'_>) -> Finding {
    let reasons = [
        EventReason::FailedMount,
        EventReason::FailedAttachVolume,
        EventReason::FailedMapVolume,
        EventReason::FailedCreatePodSandBox,
    ];
    let Some(event) = latest_event(events, &pod.metadata.uid, &reasons) else {
        // A kubelet of 1.31 sets PodReadyToStartContainers only with the first container (observed), one of
        // 1.36 before it.
        let message = if pod.has_generation {
            "the node is preparing the pod's volumes and network"
        } else {
            "the node is preparing the pod's volumes and network (on Kubernetes 1.31 it may already be pulling the image)"
        };
        return Finding::new(Phase::Mounting, "Mounting", message);
    };
    let is_sandbox = event.reason == EventReason::FailedCreatePodSandBox;
    let message = event_text::not_mounted(is_sandbox, &event.message);
    Finding::new(Phase::Mounting, event.reason.as_str(), message)
}

/// Why a pod whose containers run is not ready: as its condition has it, with the latest Event about a probe.
fn readying(pod: &Pod, events: EventsOf<'_>) -> Finding {
    let ready = pod.conditions.get(ConditionType::Ready);
    let reason = ready.map_or("", Condition::reason);
    let words = ready.map_or("", Condition::message);
    let found = |reason, message: String| Finding::new(Phase::Readying, reason, message);
    if has_lost_node(pod) {
        let message = "the node of the pod no longer reports to Kubernetes; the app may still run";
        return found("NodeNotReady", message.to_owned());
    }
    if reason == "ReadinessGatesNotReady" {
        return found(
            reason,
            format!(
                "the app is running, but a readiness gate of the pod is not met: check what sets its condition ({words})"
            ),
        );
    }
    let runs = event_text::unready_containers(words);
    match latest_event(events, &pod.metadata.uid, &[EventReason::Unhealthy]) {
        Some(event) => {
            let probe = event_text::probe(&event.message);
            let words = event.message.trim_end();
            let message = format!(
                "{runs}, but its {probe} probe has not passed yet: check the app, or the probe in the template ({words})"
            );
            found("Unhealthy", message)
        }
        None if reason.is_empty() => found("NotReady", format!("{runs}, but not ready yet")),
        None => found(reason, format!("{runs}, but not ready yet")),
    }
}

/// Kubernetes' reason of a disruption because the Node object is gone.
const DELETED_WITH_NODE: &str = "DeletionByPodGC";

/// Whether Kubernetes says that the node of this pod is lost.
///
/// The node controller marks each pod that was ready on a node without heartbeats: `Ready` becomes
/// false without a reason, and `ContainersReady`, which the kubelet sets, stays true. A kubelet always
/// gives a reason. The deletion of a pod by a taint is no sign: its kubelet may be well (measured with
/// Kubernetes 1.36).
#[must_use]
pub fn has_lost_node(pod: &Pod) -> bool {
    let conditions = &pod.conditions;
    let ready = conditions.get(ConditionType::Ready);
    let is_marked = ready
        .is_some_and(|ready| ready.status == ConditionStatus::False && ready.reason().is_empty())
        && conditions.is_true(ConditionType::ContainersReady);
    let disruption = conditions.holds(ConditionType::DisruptionTarget);
    is_marked || disruption.is_some_and(|of| of.reason() == DELETED_WITH_NODE)
}

/// A failed pod that its Job will replace after the Job controller's back-off. Only that of a disrupted pod
/// is added to the budget: the next pod is the first that can fail.
fn between_pods(job: &Job, pod: &Pod, failure: Finding) -> Finding {
    if !is_disrupted(pod) {
        return failure.within(Budget::Starting);
    }
    Finding {
        prognosis: Prognosis::Retryable {
            budget: Some(Budget::Starting),
            pause: controller_pause(job),
            from: failure.since,
        },
        ..failure
    }
}

/// The finding of a container that is waiting for a reason other than a normal start.
fn blocked(container: &ContainerStatus, pod: &Pod, events: EventsOf<'_>) -> Option<Finding> {
    let phase = phase_of(container);
    match &container.state {
        ContainerState::Waiting(detail) => {
            waiting(phase, container, detail.as_deref()?, pod, events)
        }
        // It terminated, and the restart policy of the pod will restart it.
        ContainerState::Terminated(ended) if ended.exit_code != 0 => {
            Some(container_failure(phase, container, ended, pod).within(Budget::Starting))
        }
        _ => None,
    }
}

fn waiting(
    phase: Phase,
    container: &ContainerStatus,
    detail: &Detail,
    pod: &Pod,
    events: EventsOf<'_>,
) -> Option<Finding> {
    let reason = detail.reason.as_deref()?;
    let message = detail.message.as_deref().unwrap_or_default();
    match reason {
        // A normal start.
        "ContainerCreating" | "PodInitializing" => None,
        RESTARTING_ALL => None,
        "InvalidImageName"
        | "ErrImageNeverPull"
        | "ErrImagePull"
        | "ImagePullBackOff"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => Some(no_image(container, reason, message, pod, events)),
        "CrashLoopBackOff" => {
            // The budget starts at the crash, as it does before the reason changes.
            let mut crash = match container.last_terminated() {
                Some(ended) => container_failure(phase, container, ended, pod),
                None => Finding::new(phase, reason, message),
            };
            crash.reason = reason.into();
            Some(crash.within(Budget::Starting))
        }
        // CreateContainerConfigError, CreateContainerError, RunContainerError and future reasons.
        _ => {
            let message = event_text::not_started(container.name(), message);
            Some(Finding::new(Phase::Starting, reason, message))
        }
    }
}

fn no_image(
    container: &ContainerStatus,
    reason: &str,
    message: &str,
    pod: &Pod,
    events: EventsOf<'_>,
) -> Finding {
    let pull = Some(message).filter(|message| event_text::is_bare_back_off(message));
    let event =
        pull.and_then(|_| latest_event(events, &pod.metadata.uid, &[EventReason::FailedPull]));
    // The Event may be about the image of another container.
    let of_it = event.filter(|event| event_text::is_same_image(message, &event.message));
    let message = of_it.as_deref().map_or(message, |event| &event.message);
    let diagnosis = event_text::no_image(container.name(), reason, message);
    let finding = Finding::new(Phase::Pulling, reason, diagnosis.message).within(Budget::PullError);
    if diagnosis.is_terminal {
        finding.terminal()
    } else {
        finding
    }
}
