//! From a Job and its pods to the status of the instance: the one place that knows what "ready" means.
//!
//! Pure, and without a clock: where time decides, the finding says from when its
//! budget runs and how long it is, and whoever asks compares. The order of the
//! checks is the order in which a start goes through its phases.

use crate::kube::types::{
    Condition, ConditionStatus, ConditionType, ContainerState, ContainerStatus, Detail, Job, Pod,
    RestartPolicy, Terminated, Timestamp,
};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The API server has not yet taken the Job.
    Admitting,
    /// The Job exists, its pod does not.
    Creating,
    /// The pod waits for a node.
    Scheduling,
    /// The node prepares volumes and network.
    Mounting,
    /// The node fetches the image.
    Pulling,
    /// Init containers run.
    Initialising,
    /// The app's containers are made and started.
    Starting,
    /// The app runs and its readiness probe has not passed.
    Readying,
    /// A predecessor of the same name is on its way out.
    Stopping,
}

impl Phase {
    /// The phase's word in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admitting => "admitting",
            Self::Creating => "creating",
            Self::Scheduling => "scheduling",
            Self::Mounting => "mounting",
            Self::Pulling => "pulling",
            Self::Initialising => "initialising",
            Self::Starting => "starting",
            Self::Readying => "readying",
            Self::Stopping => "stopping",
        }
    }

    /// The word that clients of 2.7.1 know for a start in this phase (contract 3.4).
    #[must_use]
    pub fn legacy_word(self) -> &'static str {
        match self {
            Self::Admitting | Self::Creating | Self::Scheduling | Self::Stopping => {
                "node_not_ready"
            }
            Self::Mounting
            | Self::Pulling
            | Self::Initialising
            | Self::Starting
            | Self::Readying => "pulling_image",
        }
    }

    /// How long a start may stay in this phase before its caller is told that something is wrong.
    #[must_use]
    pub fn budget(self) -> Option<Duration> {
        let secs = match self {
            Self::Admitting | Self::Stopping => return None,
            Self::Creating => 15,
            Self::Scheduling => 600,
            Self::Mounting | Self::Pulling | Self::Initialising | Self::Readying => 300,
            Self::Starting => 10,
        };
        Some(Duration::from_secs(secs))
    }
}

/// How long an image may fail to be pulled before the caller is told; the next try may still succeed.
pub const PULL_ERROR_BUDGET: Duration = Duration::from_secs(10);

/// How long a container that Kubernetes runs again may fail before the caller is told.
pub const CRASH_BUDGET: Duration = Duration::from_secs(10);

/// Reason of an instance that ended with exit code 0.
const COMPLETED: &str = "Completed";

/// Reason of a Job that its `activeDeadlineSeconds` ended (Kubernetes' word).
const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// What may still come of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It may succeed, and after its budget the caller is told that it probably does not.
    Wait {
        /// How long it may stay like this.
        budget: Option<Duration>,
        /// From when the budget runs, where Kubernetes has a timestamp for it; else from
        /// when it was first seen.
        from: Option<Timestamp>,
    },
    /// It cannot succeed any more.
    Never,
}

/// What there is to say about an instance that is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How far it has come.
    pub phase: Phase,
    /// One word for programs, Kubernetes' own where it has one.
    pub reason: Arc<str>,
    /// A sentence for people; empty where the reason says it all.
    pub message: Arc<str>,
    /// Since when it is like this, where that is known.
    pub since: Option<Timestamp>,
    /// Exit code of the container that ended, where one did.
    pub exit_code: Option<i32>,
    /// Its last log lines or termination message.
    pub last_output: Option<Arc<str>>,
    /// What may still come.
    pub outlook: Outlook,
}

impl Finding {
    fn new(phase: Phase, reason: &str, message: impl Into<Arc<str>>) -> Self {
        Self {
            phase,
            reason: reason.into(),
            message: message.into(),
            since: None,
            exit_code: None,
            last_output: None,
            outlook: Outlook::Wait {
                budget: phase.budget(),
                from: None,
            },
        }
    }

    /// The finding of a start whose Job is not yet there.
    #[must_use]
    pub fn admitting() -> Self {
        Self::new(Phase::Admitting, "Admitting", "the Job is being created")
    }

    /// The finding of a start that waits for its predecessor to go.
    #[must_use]
    pub fn stopping(since: Option<Timestamp>) -> Self {
        Self {
            since,
            ..Self::new(
                Phase::Stopping,
                "Stopping",
                "the previous instance of this name is being stopped; a new one is started when it is gone",
            )
        }
    }

    fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        if let Outlook::Wait { from, .. } = &mut self.outlook {
            *from = since;
        }
        self
    }

    fn within(mut self, limit: Duration) -> Self {
        if let Outlook::Wait { budget, .. } = &mut self.outlook {
            *budget = Some(limit);
        }
        self
    }

    fn unbounded(mut self) -> Self {
        self.outlook = Outlook::Wait {
            budget: None,
            from: None,
        };
        self
    }

    fn never(mut self) -> Self {
        self.outlook = Outlook::Never;
        self
    }

    /// When this becomes a verdict: at once, at a time, or not at all.
    ///
    /// `first_seen` is when whoever asks saw this finding first; it stands in where
    /// Kubernetes gives no timestamp.
    #[must_use]
    pub fn verdict_from(&self, first_seen: SystemTime) -> Option<SystemTime> {
        match self.outlook {
            Outlook::Never => Some(self.since.map_or(first_seen, Timestamp::system_time)),
            Outlook::Wait { budget, from } => from
                .map_or(first_seen, Timestamp::system_time)
                .checked_add(budget?),
        }
    }
}

/// How an instance that is no more ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// `Completed`, or `DeadlineExceeded` where `max-lifetime` ended it.
    pub reason: &'static str,
    /// When it ended.
    pub at: Option<Timestamp>,
    /// How long it lasted, from the start of the Job.
    pub lasted: Option<Duration>,
}

impl Ending {
    /// What someone hears who waited for this instance to become ready.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let message = if self.reason == COMPLETED {
            "the app ended by itself with exit code 0 before it was ready"
        } else {
            "the instance reached the longest lifetime that its template allows"
        };
        let mut finding = Finding::new(Phase::Starting, self.reason, message)
            .since(self.at)
            .never();
        finding.exit_code = (self.reason == COMPLETED).then_some(0);
        finding
    }
}

/// The status of an instance whose Job exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceStatus {
    /// The newest pod is ready and has this address.
    Ready {
        /// The pod's address.
        ip: IpAddr,
    },
    /// On its way; the finding says how far, and may become a verdict with time.
    Starting(Finding),
    /// It failed, and Kubernetes will not try again.
    Failed {
        /// Why.
        finding: Finding,
        /// When it ended, where Kubernetes says so; a Job that cannot succeed may not have ended.
        at: Option<Timestamp>,
        /// How long the Job lasted.
        lasted: Option<Duration>,
    },
    /// It ended well.
    Finished(Ending),
    /// Its Job is being deleted.
    Stopping {
        /// Since when.
        since: Option<Timestamp>,
    },
}

/// The status of an instance and the pod that it was read from.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// The status.
    pub status: InstanceStatus,
    /// The newest pod, one that is not being deleted before one that is.
    pub pod: Option<Arc<Pod>>,
}

/// Reads the status of an instance from its Job and the pods whose controller is that Job.
#[must_use]
pub fn assess(job: &Job, pods: &[Arc<Pod>]) -> Assessment {
    let pod = newest(pods);
    let status = status_of(job, pod.as_deref());
    Assessment { status, pod }
}

/// The pod that speaks for the instance: not being deleted before being deleted, then the youngest.
fn newest(pods: &[Arc<Pod>]) -> Option<Arc<Pod>> {
    pods.iter()
        .max_by_key(|pod| {
            let meta = &pod.metadata;
            (
                meta.deletion_timestamp.is_none(),
                meta.creation_timestamp,
                meta.name.clone(),
            )
        })
        .cloned()
}

fn status_of(job: &Job, pod: Option<&Pod>) -> InstanceStatus {
    if job.metadata.is_deleting() {
        return InstanceStatus::Stopping {
            since: job.metadata.deletion_timestamp,
        };
    }
    if let Some(ended) = job_ended(job, pod) {
        return ended;
    }
    if job.suspend {
        let finding = Finding::new(Phase::Creating, "Suspended", "the Job is suspended");
        return InstanceStatus::Starting(
            finding.since(job.metadata.creation_timestamp).unbounded(),
        );
    }
    let Some(pod) = pod.filter(|pod| !pod.metadata.is_deleting()) else {
        let finding = Finding::new(Phase::Creating, "NoPod", "the Job has no pod yet");
        return InstanceStatus::Starting(finding.since(job.metadata.creation_timestamp));
    };
    if let Some(ended) = pod_ended(job, pod) {
        return ended;
    }
    match pod.pod_ip {
        Some(ip) if pod.conditions.is_true(ConditionType::Ready) => InstanceStatus::Ready { ip },
        _ => InstanceStatus::Starting(progress(pod)),
    }
}

fn lasted(job: &Job, until: Option<Timestamp>) -> Option<Duration> {
    let secs = until?.seconds() - job.status.start_time?.seconds();
    Some(Duration::from_secs(u64::try_from(secs).unwrap_or(0)))
}

/// What the Job's own conditions say of its end. SuccessCriteriaMet and FailureTarget come
/// before Complete and Failed, while pods are still ending (Kubernetes, "Job termination").
fn job_ended(job: &Job, pod: Option<&Pod>) -> Option<InstanceStatus> {
    let holds = |kind| job.status.conditions.holds(kind);
    let good = holds(ConditionType::Complete).or_else(|| holds(ConditionType::SuccessCriteriaMet));
    if let Some(condition) = good {
        let at = condition.since;
        let ending = Ending {
            reason: COMPLETED,
            at,
            lasted: lasted(job, at),
        };
        return Some(InstanceStatus::Finished(ending));
    }
    let bad = holds(ConditionType::Failed).or_else(|| holds(ConditionType::FailureTarget))?;
    let at = bad.since;
    if bad.reason() == DEADLINE_EXCEEDED {
        let ending = Ending {
            reason: DEADLINE_EXCEEDED,
            at,
            lasted: lasted(job, at),
        };
        return Some(InstanceStatus::Finished(ending));
    }
    let of_job = || {
        let reason = Some(bad.reason())
            .filter(|reason| !reason.is_empty())
            .unwrap_or("Failed");
        Finding::new(Phase::Starting, reason, bad.message())
    };
    let finding = pod
        .and_then(ended_badly)
        .unwrap_or_else(of_job)
        .since(at)
        .never();
    Some(InstanceStatus::Failed {
        finding,
        at,
        lasted: lasted(job, at),
    })
}

/// What a pod that nothing will run again says, before its Job says so.
fn pod_ended(job: &Job, pod: &Pod) -> Option<InstanceStatus> {
    let retried = pod.restart_policy != RestartPolicy::Never
        || pod.conditions.is_true(ConditionType::DisruptionTarget);
    if retried {
        return None;
    }
    if let Some(finding) = ended_badly(pod) {
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

/// The containers of a pod in the order in which they run, with the phase that they belong to.
fn containers(pod: &Pod) -> impl Iterator<Item = (Phase, &ContainerStatus)> {
    let init = pod
        .init_container_statuses
        .iter()
        .map(|c| (Phase::Initialising, c));
    init.chain(pod.container_statuses.iter().map(|c| (Phase::Starting, c)))
}

/// The first container of a pod that ended with a failure.
fn ended_badly(pod: &Pod) -> Option<Finding> {
    containers(pod).find_map(|(phase, container)| {
        let ended = terminated(container).filter(|ended| ended.exit_code != 0)?;
        Some(container_failure(phase, container, ended).since(ended.finished_at))
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
fn progress(pod: &Pod) -> Finding {
    let scheduled = pod.conditions.get(ConditionType::PodScheduled);
    let Some(scheduled) = scheduled.filter(|condition| condition.status == ConditionStatus::True)
    else {
        let said = |text: fn(&Condition) -> &str| scheduled.map(text).filter(|t| !t.is_empty());
        let reason = said(Condition::reason).unwrap_or("Scheduling");
        let message = said(Condition::message).unwrap_or("the pod waits for a node");
        return Finding::new(Phase::Scheduling, reason, message)
            .since(pod.metadata.creation_timestamp);
    };
    if let Some(finding) = containers(pod).find_map(|(phase, c)| blocked(phase, c)) {
        return finding;
    }
    if let Some(sandbox) = pod.conditions.get(ConditionType::PodReadyToStartContainers)
        && sandbox.status != ConditionStatus::True
    {
        let message = "the node prepares the pod's volumes and network";
        return Finding::new(Phase::Mounting, "Mounting", message).since(sandbox.since);
    }
    let waits = |c: &ContainerStatus| {
        matches!(c.state, ContainerState::Waiting(_) | ContainerState::Unsaid)
    };
    let initialised = pod.conditions.get(ConditionType::Initialized);
    if initialised.is_some_and(|c| c.status != ConditionStatus::True)
        && !pod.init_container_statuses.iter().all(waits)
    {
        let message = "the pod's init containers run";
        return Finding::new(Phase::Initialising, "Initialising", message).since(scheduled.since);
    }
    if pod.container_statuses.is_empty() || pod.container_statuses.iter().any(waits) {
        let message = "the node fetches the image and makes the container";
        return Finding::new(Phase::Pulling, "ContainerCreating", message).since(scheduled.since);
    }
    let started = pod.container_statuses.iter().filter_map(|c| match c.state {
        ContainerState::Running(since) => since,
        _ => None,
    });
    let message = "the app runs and its readiness probe has not passed yet";
    Finding::new(Phase::Readying, "NotReady", message).since(started.max())
}

/// A container that waits for a reason that a start without trouble does not have.
fn blocked(phase: Phase, container: &ContainerStatus) -> Option<Finding> {
    match &container.state {
        ContainerState::Waiting(detail) => waiting(phase, container, detail.as_deref()?),
        // It ended, and its pod's restart policy will run it again.
        ContainerState::Terminated(ended) if ended.exit_code != 0 => {
            Some(container_failure(phase, container, ended).within(CRASH_BUDGET))
        }
        _ => None,
    }
}

fn waiting(phase: Phase, container: &ContainerStatus, detail: &Detail) -> Option<Finding> {
    let reason = detail.reason.as_deref()?;
    let finding = |phase| Finding::new(phase, reason, detail.message.as_deref().unwrap_or(""));
    match reason {
        "InvalidImageName" | "ErrImageNeverPull" => Some(finding(Phase::Pulling).never()),
        "ErrImagePull" | "ImagePullBackOff" | "RegistryUnavailable" | "ImageInspectError" => {
            Some(finding(Phase::Pulling).within(PULL_ERROR_BUDGET))
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            Some(finding(Phase::Starting))
        }
        "CrashLoopBackOff" => {
            let mut crash = match container.last_terminated.as_deref() {
                Some(ended) => container_failure(phase, container, ended),
                None => finding(phase),
            };
            crash.reason = reason.into();
            Some(crash.within(CRASH_BUDGET))
        }
        _ => None,
    }
}
