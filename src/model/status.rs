//! From a Job and its pods to the status of the instance: the one place that knows what "ready" means.
//!
//! Pure, and without a clock: where time decides, the finding says from when its
//! budget runs and how long it is, and whoever asks compares. What one pod says is
//! read in `status/pods.rs`; here stand the words, and what the Job says.

mod budgets;
mod event_text;
mod pods;
#[cfg(test)]
mod tests;

pub use budgets::{Budget, Budgets};

use crate::kube::types::{ConditionType, Event, EventReason, Job, Pod, Timestamp, Uid};
use pods::{has_ended, last_failure, pod_ended, progress};
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

    /// Which budget a start in this phase runs on.
    #[must_use]
    pub fn budget(self) -> Option<Budget> {
        match self {
            Self::Admitting | Self::Stopping => None,
            Self::Creating => Some(Budget::Creating),
            Self::Scheduling => Some(Budget::Scheduling),
            Self::Mounting => Some(Budget::Mounting),
            Self::Pulling => Some(Budget::Pulling),
            Self::Initialising => Some(Budget::Initialising),
            Self::Starting => Some(Budget::Starting),
            Self::Readying => Some(Budget::Readying),
        }
    }
}

/// Reason of an instance that ended with exit code 0.
const COMPLETED: &str = "Completed";

/// Reason of a Job that its `activeDeadlineSeconds` ended (Kubernetes' word).
const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// What may still come of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prognosis {
    /// It may succeed, and after its budget the caller is told that it probably does not.
    Retryable {
        /// What bounds how long it may stay like this; `None` where nothing does.
        budget: Option<Budget>,
        /// What Kubernetes itself waits besides, before it tries again.
        pause: Duration,
        /// From when the budget runs, where Kubernetes has a timestamp for it; else from
        /// when it was first seen.
        from: Option<Timestamp>,
    },
    /// It cannot succeed any more, and why is about to be said: the Job was seen to fail before
    /// its pod was seen to end.
    AwaitingReason,
    /// It cannot succeed any more.
    Terminal,
}

/// How long the pod of a Job that has failed is waited for, to say why. The two are watched apart,
/// so either can be seen first; the pod of a dead node says nothing any more.
pub const TERMINATION_REPORT_WAIT: Duration = Duration::from_millis(500);

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
    pub prognosis: Prognosis,
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
            prognosis: Prognosis::Retryable {
                budget: phase.budget(),
                pause: Duration::ZERO,
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
                "the previous instance of this name is being stopped; a new one starts once it is gone",
            )
        }
    }

    fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        if let Prognosis::Retryable { from, .. } = &mut self.prognosis {
            *from = since;
        }
        self
    }

    fn within(mut self, own: Budget) -> Self {
        if let Prognosis::Retryable { budget, .. } = &mut self.prognosis {
            *budget = Some(own);
        }
        self
    }

    fn besides(mut self, controller_pause: Duration) -> Self {
        if let Prognosis::Retryable { pause, .. } = &mut self.prognosis {
            *pause = controller_pause;
        }
        self
    }

    /// Counts the budget from `from` instead of from when it is like this.
    fn counted_from(mut self, start: Option<Timestamp>) -> Self {
        if let Prognosis::Retryable { from, .. } = &mut self.prognosis {
            *from = start;
        }
        self
    }

    fn unbounded(mut self) -> Self {
        self.prognosis = Prognosis::Retryable {
            budget: None,
            pause: Duration::ZERO,
            from: None,
        };
        self
    }

    fn awaiting_reason(mut self) -> Self {
        self.prognosis = Prognosis::AwaitingReason;
        self
    }

    fn terminal(mut self) -> Self {
        self.prognosis = Prognosis::Terminal;
        self
    }

    /// When this becomes a verdict: at once, at a time, or not at all.
    ///
    /// `first_seen` is when whoever asks saw this finding first; it stands in where
    /// Kubernetes gives no timestamp.
    #[must_use]
    pub fn verdict_from(&self, first_seen: SystemTime, budgets: &Budgets) -> Option<SystemTime> {
        match self.prognosis {
            // Never later than it was seen: the clock of Kubernetes may be ahead of ours.
            Prognosis::Terminal => Some(first_seen),
            Prognosis::AwaitingReason => first_seen.checked_add(TERMINATION_REPORT_WAIT),
            Prognosis::Retryable {
                budget,
                pause,
                from,
            } => from
                .map_or(first_seen, Timestamp::system_time)
                .checked_add(budgets.get(budget?))?
                .checked_add(pause),
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
    /// Whether it was ended since it had lived as long as its template allows.
    #[must_use]
    pub fn reached_lifetime(&self) -> bool {
        self.reason == DEADLINE_EXCEEDED
    }

    /// What someone hears who waited for this instance to become ready.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let message = if self.reason == COMPLETED {
            "the app exited with code 0"
        } else {
            "the instance reached the maximum lifetime that its template sets"
        };
        let mut finding = Finding::new(Phase::Starting, self.reason, message)
            .since(self.at)
            .terminal();
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

/// What Kubernetes' Events say of the object with that UID: nothing, where we may not read them.
pub type EventsOf<'a> = &'a dyn Fn(&Uid) -> Vec<Arc<Event>>;

/// The Event about this object that was written last, of those with such a reason.
fn latest_event(events: EventsOf<'_>, uid: &Uid, reasons: &[EventReason]) -> Option<Arc<Event>> {
    events(uid)
        .into_iter()
        .filter(|event| reasons.contains(&event.reason))
        .max_by_key(|event| event.last)
}

/// Reads the status of an instance from its Job, the pods whose controller is that Job, and what
/// is said of them.
#[must_use]
pub fn assess(job: &Job, pods: &[Arc<Pod>], events: EventsOf<'_>) -> Assessment {
    let pod = newest(pods);
    let status = status_of(job, pod.as_deref(), events);
    Assessment { status, pod }
}

/// The pod that speaks for the instance: not being deleted before being deleted, then the youngest.
fn newest(pods: &[Arc<Pod>]) -> Option<Arc<Pod>> {
    pods.iter().max_by(|a, b| rank(a).cmp(&rank(b))).cloned()
}

/// Of two pods the one with the greater rank speaks for the instance.
fn rank(pod: &Pod) -> (bool, Option<Timestamp>, &str) {
    let meta = &pod.metadata;
    (
        meta.deletion_timestamp.is_none(),
        meta.creation_timestamp,
        &meta.name,
    )
}

fn status_of(job: &Job, pod: Option<&Pod>, events: EventsOf<'_>) -> InstanceStatus {
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
        return InstanceStatus::Starting(without_pod(job, pod, events));
    };
    if let Some(ended) = pod_ended(job, pod) {
        return ended;
    }
    match pod.pod_ip {
        Some(ip) if pod.conditions.is_true(ConditionType::Ready) => InstanceStatus::Ready { ip },
        _ => InstanceStatus::Starting(progress(job, pod, events)),
    }
}

/// A Job that has no pod, or only one that is on its way out and is replaced when it is gone.
///
/// The time of a pod that has gone is known to nobody, and one that was evicted is not even
/// counted, so without a pod the budget runs from when this was first seen: a Job that has run
/// for a day and whose pod is replaced at this moment is no start that has failed.
fn without_pod(job: &Job, leaving: Option<&Pod>, events: EventsOf<'_>) -> Finding {
    let refusal = latest_event(events, &job.metadata.uid, &[EventReason::FailedCreate])
        // One from before the pod that is leaving is over.
        .filter(|event| leaving.is_none_or(|pod| event.last > pod.metadata.deletion_timestamp));
    let (finding, is_terminal) = match refusal {
        Some(event) => {
            let diagnosis = event_text::refused_pod(&event.message);
            let finding = Finding::new(Phase::Creating, "FailedCreate", diagnosis.message);
            (finding, diagnosis.is_terminal)
        }
        None => {
            let message = match leaving {
                Some(_) => "the pod is being stopped; the Job creates a new one once it is gone",
                None => "the Job has no pod yet",
            };
            (Finding::new(Phase::Creating, "NoPod", message), false)
        }
    };
    let finding = finding
        .since(leaving.map_or(job.metadata.creation_timestamp, |pod| {
            pod.metadata.deletion_timestamp
        }))
        .counted_from(leaving.and_then(|pod| pod.metadata.deletion_timestamp))
        .besides(controller_pause(job));
    if is_terminal {
        finding.terminal()
    } else {
        finding
    }
}

/// How long the Job controller waits before it makes the next pod: 10 s after the first that
/// failed, doubled with each, at most 10 min.
fn controller_pause(job: &Job) -> Duration {
    match job.status.failed {
        0 => Duration::ZERO,
        failed => Duration::from_secs(600.min(10 << failed.min(7) >> 1)),
    }
}

/// Whether a pod says why it failed, or did the last time.
#[must_use]
pub fn has_termination_report(pod: &Pod) -> bool {
    last_failure(pod).is_some()
}

/// The status of a Job that has failed, where `witness`, a pod of it that has gone, said why.
#[must_use]
pub fn with_termination_report(job: &Job, pod: &Pod, status: &InstanceStatus) -> InstanceStatus {
    job_ended(job, Some(pod)).unwrap_or_else(|| status.clone())
}

/// The verdict on a Job that had ended before somebody asked for its deletion.
///
/// A deletion ends pods as well, so only what the Job said before it counts.
#[must_use]
pub fn ended_before_deletion(job: &Job, pod: Option<&Pod>) -> Option<Finding> {
    let (finding, at) = match job_ended(job, pod)? {
        InstanceStatus::Failed { finding, at, .. } => (finding, at),
        InstanceStatus::Finished(ending) => (ending.finding(), ending.at),
        _ => return None,
    };
    (at? <= job.metadata.deletion_timestamp?).then_some(finding)
}

fn lasted(job: &Job, until: Option<Timestamp>) -> Option<Duration> {
    // A pod may be seen to end before the Job is seen to have been taken up.
    let begun = job.status.start_time.or(job.metadata.creation_timestamp);
    let secs = until?.seconds() - begun?.seconds();
    Some(Duration::from_secs(u64::try_from(secs).unwrap_or(0)))
}

/// What the Job's own conditions say of its end. SuccessCriteriaMet and FailureTarget come
/// before Complete and Failed, while pods are still ending (Kubernetes, "Job termination"),
/// and stay beside them: the end is when the first of the two came, so that it does not move.
fn job_ended(job: &Job, pod: Option<&Pod>) -> Option<InstanceStatus> {
    let holds = |kind| job.status.conditions.holds(kind);
    let good = holds(ConditionType::SuccessCriteriaMet).or_else(|| holds(ConditionType::Complete));
    if let Some(condition) = good {
        let at = condition.since;
        let ending = Ending {
            reason: COMPLETED,
            at,
            lasted: lasted(job, at),
        };
        return Some(InstanceStatus::Finished(ending));
    }
    let bad = holds(ConditionType::FailureTarget).or_else(|| holds(ConditionType::Failed))?;
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
    let finding = match pod.and_then(last_failure) {
        Some(finding) => finding.terminal(),
        None if pod.is_none_or(|pod| !has_ended(pod)) => of_job().awaiting_reason(),
        None => of_job().terminal(),
    };
    let finding = finding.since(at);
    Some(InstanceStatus::Failed {
        finding,
        at,
        lasted: lasted(job, at),
    })
}
