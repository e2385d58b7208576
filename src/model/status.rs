//! The status of an instance, from its Job and pods: the only place that defines "ready".
//!
//! Pure and without a clock: a finding has the budget of its state, and callers compare that with
//! the time. This file has the types and evaluates the Job, `status/current.rs` says which of its pods
//! counts, and `status/pods.rs` evaluates a pod. [`crate::app`] decides what follows from a status, such as a replacement.
//!
#![doc = include_str!("status/phases.md")]

mod budgets;
mod current;
mod ending;
mod event_text;
mod pods;
mod retries;
mod successor;
#[cfg(test)]
mod tests;

pub use budgets::{Begun, Budget, Budgets};
pub use current::{is_older_than_job, is_predecessor, precedes_stopped};
pub use ending::{Ending, is_stopping};
pub use pods::{has_ended, has_lost_node, may_complete, of_pod};
pub use successor::after_pod;

use crate::kube::types::{
    Condition, ConditionType, Event, EventReason, Job, Pod, PodPhase, Timestamp, Uid,
};
use crate::model::job::is_undecided;
use current::{current, has_twin, is_before, is_live};
use ending::DEADLINE_EXCEEDED;
use pods::{ended_at, is_disrupted, last_failure, pod_ended, progress};
use retries::retried;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Phase of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The start waits for a place.
    Queued,
    /// The API server has not created the Job yet.
    Admitting,
    /// The Job exists, its pod does not.
    Creating,
    /// The pod is waiting for a node.
    Scheduling,
    /// The node prepares volumes and network.
    Mounting,
    /// The node pulls the image.
    Pulling,
    /// Init containers are running.
    Initialising,
    /// The app's containers are created and started.
    Starting,
    /// The app is running, but its readiness probe has not passed.
    Readying,
    /// A predecessor of the same name is being stopped.
    Stopping,
}

impl Phase {
    /// The value of `phase` in responses.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// The value of `status` for a start in this phase, as 2.7.1 has it (contract 3.4).
    #[must_use]
    pub fn legacy_word(self) -> &'static str {
        self.row().1
    }

    /// Its name, the word of 2.7.1, and its budget.
    fn row(self) -> (&'static str, &'static str, Option<Budget>) {
        let (early, late) = ("node_not_ready", "pulling_image");
        match self {
            Self::Queued => ("queued", early, None),
            Self::Admitting => ("admitting", early, None),
            Self::Creating => ("creating", early, Some(Budget::Creating)),
            Self::Scheduling => ("scheduling", early, Some(Budget::Scheduling)),
            Self::Mounting => ("mounting", late, Some(Budget::Mounting)),
            Self::Pulling => ("pulling", late, Some(Budget::Pulling)),
            Self::Initialising => ("initialising", late, Some(Budget::Initialising)),
            Self::Starting => ("starting", late, Some(Budget::Starting)),
            Self::Readying => ("readying", late, Some(Budget::Readying)),
            Self::Stopping => ("stopping", early, None),
        }
    }
}

/// After this run time a failure no longer counts as consecutive.
pub const LASTED_LONG: Duration = Duration::from_secs(600);

/// Whether a start can still succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prognosis {
    /// It can succeed; after its budget it is reported as failing.
    Retryable {
        /// The budget of this state; `None` means unlimited.
        budget: Option<Budget>,
        /// Kubernetes' own back-off, and the grace of a pod; added to the budget.
        pause: Duration,
        /// Start of the budget, if Kubernetes has a timestamp for it; otherwise it starts when the
        /// finding is first observed.
        from: Option<Timestamp>,
    },
    /// It can no longer succeed, and the cause will be known soon: the failure of the Job was
    /// observed before the end of its pod.
    AwaitingReason,
    /// It can no longer succeed.
    Terminal,
}

impl Prognosis {
    /// Retryable within `budget` from then on, without a back-off of Kubernetes.
    fn within(budget: Option<Budget>, from: Option<Timestamp>) -> Self {
        Self::Retryable {
            budget,
            pause: Duration::ZERO,
            from,
        }
    }
}

/// How long to wait for the termination report of a failed Job's pod. Jobs and pods have separate
/// watches, so either event can arrive first; the pod of a dead node never reports.
pub const TERMINATION_REPORT_WAIT: Duration = Duration::from_millis(500);

/// The state of an instance that is not ready, as reported to callers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Phase of the start.
    pub phase: Phase,
    /// Machine-readable reason, Kubernetes' own if it has one.
    pub reason: Arc<str>,
    /// Message for people; may be empty.
    pub message: Arc<str>,
    /// Start of this state, if known.
    pub since: Option<Timestamp>,
    /// Exit code of the terminated container, if there is one.
    pub exit_code: Option<i32>,
    /// Its last log lines or termination message.
    pub last_output: Option<Arc<str>>,
    /// Whether the start can still succeed.
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
            prognosis: Prognosis::within(phase.row().2, None),
        }
    }

    /// The finding of a start that waits for a place, for which there is none because of that.
    #[must_use]
    pub fn queued(because: &str) -> Self {
        Self::new(
            Phase::Queued,
            "Queued",
            format!("the start waits for a place: {because}"),
        )
    }

    /// The finding of a start before its Job exists.
    #[must_use]
    pub fn admitting() -> Self {
        Self::new(Phase::Admitting, "Admitting", "the Job is being created")
    }

    /// The finding of a start whose Job has just been created.
    #[must_use]
    pub fn created() -> Self {
        Self::new(Phase::Creating, successor::NO_POD, "the Job has no pod yet")
    }

    /// The finding of a start that waits for the deletion of its predecessor.
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

    /// The finding of an instance that is ready since then, but not for as long as its template wants.
    #[must_use]
    pub fn settling(since: Option<Timestamp>, min_ready: Duration) -> Self {
        let message = format!(
            "the app is ready, and must remain so for {min_ready:?} (min-ready) before callers get its address"
        );
        Self {
            since,
            prognosis: Prognosis::within(None, None),
            ..Self::new(Phase::Readying, "MinReady", message)
        }
    }

    /// This is the problem that was found earlier: the time and the budget of that count.
    pub fn continue_from(&mut self, earlier: &Self) {
        let both = |own: Option<Timestamp>, earlier| [own, earlier].into_iter().flatten().min();
        self.since = both(self.since, earlier.since);
        if let (Prognosis::Retryable { from, .. }, Prognosis::Retryable { from: before, .. }) =
            (&mut self.prognosis, earlier.prognosis)
        {
            *from = both(*from, before);
        }
    }

    fn within(mut self, own: Budget) -> Self {
        if let Prognosis::Retryable { budget, .. } = &mut self.prognosis {
            *budget = Some(own);
        }
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
}

/// The status of an instance with a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceStatus {
    /// The newest pod is ready.
    Ready {
        /// The pod's address.
        ip: IpAddr,
    },
    /// Starting; the finding may become a failure report after its budget.
    Starting(Finding),
    /// Failed, and Kubernetes will not retry.
    Failed {
        /// The cause.
        finding: Finding,
        /// When it ended, if Kubernetes has a timestamp; a terminal start may not have ended.
        at: Option<Timestamp>,
        /// Run time of the Job.
        lasted: Option<Duration>,
    },
    /// Ended successfully.
    Finished(Ending),
    /// Its Job is being deleted.
    Stopping {
        /// Time of the deletion request.
        since: Option<Timestamp>,
    },
}

impl InstanceStatus {
    /// Whether others ended it, and not the app.
    #[must_use]
    pub fn is_disrupted(&self) -> bool {
        matches!(self, Self::Finished(ending) if ending.is_disrupted())
    }

    /// What is reported of an instance that has ended.
    #[must_use]
    pub fn report_of_end(self) -> Option<Finding> {
        match self {
            Self::Failed { finding, .. } => Some(finding),
            Self::Finished(ending) => Some(ending.finding()),
            Self::Ready { .. } | Self::Starting(_) | Self::Stopping { .. } => None,
        }
    }

    /// Whether it says how the instance has ended, as only its pod does: that stands, whatever is seen later.
    #[must_use]
    pub fn says_how_it_ended(&self) -> bool {
        match self {
            Self::Failed { finding, .. } => finding.prognosis == Prognosis::Terminal,
            Self::Finished(ending) => ending.is_seen(),
            Self::Ready { .. } | Self::Starting(_) | Self::Stopping { .. } => false,
        }
    }

    /// What its texts take, in bytes.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Starting(finding) | Self::Failed { finding, .. } => {
                let last_output = finding.last_output.as_ref();
                let last_output = last_output.map_or(0, |text| text.len());
                finding.reason.len() + finding.message.len() + last_output
            }
            Self::Finished(ending) => ending.text_bytes(),
            Self::Ready { .. } | Self::Stopping { .. } => 0,
        }
    }

    fn failed(finding: Finding, run: Run) -> Self {
        let Run { at, lasted } = run;
        Self::Failed {
            finding,
            at,
            lasted,
        }
    }
}

/// The status of an instance and the pod from which it was derived.
#[derive(Clone, Debug)]
pub struct Assessment {
    /// Status of the instance.
    pub status: InstanceStatus,
    /// The newest pod; one that runs and is not being deleted takes precedence.
    pub pod: Option<Arc<Pod>>,
    /// Whether more than one pod of the Job runs, or will. The Job controller made one of them, and
    /// removes one within about a second.
    pub is_contested: bool,
}

/// Looks up the Events about an object by its UID; none without permission to read Events.
pub type EventsOf<'a> = &'a dyn Fn(&Uid) -> Vec<Arc<Event>>;

/// The latest Event about this object with one of these reasons.
fn latest_event(events: EventsOf<'_>, uid: &Uid, reasons: &[EventReason]) -> Option<Arc<Event>> {
    events(uid)
        .into_iter()
        .filter(|event| reasons.contains(&event.reason))
        .max_by_key(|event| event.last)
}

/// What is reported of a Job that only has pods from before it.
const OLDER_POD: &str = "the Job has no pod yet; a pod that was created before the Job names it as its controller, and is not counted: delete that pod";

/// The status of an instance from its Job, the pods that name this Job as their controller, and Events
/// about them. Those that [`is_older_than_job`] do not count.
#[must_use]
pub fn assess(job: &Job, all: &[Arc<Pod>], events: EventsOf<'_>) -> Assessment {
    let of_job = all.iter().filter(|pod| !is_older_than_job(pod, job));
    let pods = &*of_job.cloned().collect::<Vec<_>>();
    let pod = current(job, pods);
    let mut status = status_of(job, pod.as_deref(), pods, events);
    if let InstanceStatus::Starting(finding) = &mut status
        && (pod.is_none() && !all.is_empty() && &*finding.reason == successor::NO_POD)
    {
        finding.message = OLDER_POD.into();
    }
    if let InstanceStatus::Ready { .. } = status
        && pod.as_ref().is_some_and(|pod| has_twin(job, pod, pods))
    {
        let message = "the Job has two pods, of which Kubernetes removes one";
        status = InstanceStatus::Starting(Finding::new(Phase::Readying, "TwoPods", message));
    }
    Assessment {
        status,
        pod,
        is_contested: pods.iter().filter(|pod| is_live(job, pod)).count() > 1,
    }
}

/// The reason of a Job that waits for its admission.
const UNDECIDED: &str = "AwaitingAdmission";

fn status_of(
    job: &Job,
    pod: Option<&Pod>,
    pods: &[Arc<Pod>],
    events: EventsOf<'_>,
) -> InstanceStatus {
    if job.metadata.is_deleting() {
        return InstanceStatus::Stopping {
            since: job.metadata.deletion_timestamp,
        };
    }
    if let Some(ended) = job_ended(job, pod) {
        return ended;
    }
    if job.suspend {
        let (reason, message) = if is_undecided(job) {
            (
                UNDECIDED,
                "waiting to be admitted: the number of instances is limited",
            )
        } else {
            ("Suspended", "the Job is suspended")
        };
        return InstanceStatus::Starting(Finding {
            since: job.metadata.creation_timestamp,
            prognosis: Prognosis::within(None, None),
            ..Finding::new(Phase::Creating, reason, message)
        });
    }
    let Some(pod) = pod.filter(|pod| !pod.metadata.is_deleting()) else {
        return InstanceStatus::Starting(successor::without_pod(job, pod, events));
    };
    if let Some(ended) = pod_ended(job, pod) {
        return ended;
    }
    let is_ready = pod.phase == PodPhase::Running && pod.conditions.is_true(ConditionType::Ready);
    match pod.pod_ip {
        Some(ip) if is_ready => InstanceStatus::Ready { ip },
        _ => InstanceStatus::Starting(starting(job, pod, pods, events)),
    }
}

/// A start that has a pod; from its first failure on it has the budget of failures.
fn starting(job: &Job, pod: &Pod, pods: &[Arc<Pod>], events: EventsOf<'_>) -> Finding {
    let Some(retried) = retried(job, pods, pod) else {
        return progress(job, pod, None, events);
    };
    let finding = progress(job, pod, Some(retried.cause), events);
    match finding.prognosis {
        Prognosis::Retryable { .. } => Finding {
            prognosis: Prognosis::within(Some(Budget::Starting), None),
            ..finding
        }
        .since(retried.first),
        _ => finding,
    }
}

/// Whether a pod says why it ended, or will: by its current or previous containers, or since Kubernetes
/// disrupts it.
#[must_use]
pub fn has_termination_report(pod: &Pod) -> bool {
    is_disrupted(pod) || last_failure(pod).is_some()
}

/// The status of a failed Job with the termination report of `pod`, which may be deleted by now.
#[must_use]
pub fn with_termination_report(job: &Job, pod: &Pod, status: &InstanceStatus) -> InstanceStatus {
    job_ended(job, Some(pod)).unwrap_or_else(|| status.clone())
}

/// The end of a Job before its deletion was requested, if it had ended.
///
/// A deletion also terminates pods, so only conditions of the Job from before it count.
#[must_use]
pub fn ended_before_deletion(job: &Job, pod: Option<&Pod>) -> Option<InstanceStatus> {
    let ended = job_ended(job, pod)?;
    // Not the end of its pod: the clock of the node may differ. Both of these times are the control plane's.
    let (_, end) = end_of_job(job)?;
    let at = end.since;
    let deleted_at = job.metadata.deletion_timestamp;
    deleted_at
        .is_none_or(|deleted_at| at <= Some(deleted_at))
        .then_some(ended)
}

/// The condition that says that this Job has ended, and whether well. SuccessCriteriaMet and FailureTarget
/// precede Complete and Failed while pods are still terminating (Kubernetes, "Job termination"), and
/// remain. The first of the two counts, so that the time of the end does not change.
fn end_of_job(job: &Job) -> Option<(bool, Condition<'_>)> {
    let holds = |kind| job.status.conditions.holds(kind);
    let good = holds(ConditionType::SuccessCriteriaMet).or_else(|| holds(ConditionType::Complete));
    let bad = || holds(ConditionType::FailureTarget).or_else(|| holds(ConditionType::Failed));
    good.map(|good| (true, good))
        .or_else(|| Some((false, bad()?)))
}

/// When this Job ended, if it has: a time of the Job controller.
#[must_use]
pub fn job_ended_at(job: &Job) -> Option<Timestamp> {
    end_of_job(job)?.1.since
}

/// Whether the conditions of this Job say that it has ended.
#[must_use]
pub fn has_job_ended(job: &Job) -> bool {
    job_ended(job, None).is_some()
}

/// The run of an instance that has ended. A busy Job controller notes an end many seconds late, so that of
/// the pod counts where it is known.
#[derive(Clone, Copy)]
struct Run {
    /// When it ended.
    at: Option<Timestamp>,
    /// Its run time.
    lasted: Option<Duration>,
}

impl Run {
    /// As the Job controller noted it.
    fn of_job(job: &Job, until: Option<Timestamp>) -> Self {
        // The end of a pod may be observed before the start time of its Job.
        Self::between(
            job.status.start_time.or(job.metadata.creation_timestamp),
            until,
        )
    }

    /// As the pod has it, both by the clock of its node, which [`of_pod`] has shifted; or else as the Job
    /// controller noted it.
    fn of_pod(job: &Job, pod: &Pod, until: Option<Timestamp>, noted: Option<Timestamp>) -> Self {
        let of_job = Self::of_job(job, until.or(noted));
        let begun = of_pod(pod, pod.start_time);
        match until.and(begun) {
            Some(begun) => Self::between(Some(begun), until),
            None => of_job,
        }
    }

    fn between(begun: Option<Timestamp>, until: Option<Timestamp>) -> Self {
        let secs = until
            .zip(begun)
            .map(|(until, begun)| until.seconds() - begun.seconds());
        Self {
            at: until,
            lasted: secs.map(|secs| Duration::from_secs(u64::try_from(secs).unwrap_or(0))),
        }
    }
}

/// The end of the Job by its conditions. The time of the end is that of its pod where that is known: a busy
/// Job controller notes it late.
#[must_use]
pub fn job_ended(job: &Job, pod: Option<&Pod>) -> Option<InstanceStatus> {
    let (is_good, end) = end_of_job(job)?;
    // One that failed before a retry is not the last pod of a complete Job: that is gone.
    let pod = pod.filter(|pod| !is_good || may_complete(pod));
    let run_until = |until| match pod {
        Some(pod) => Run::of_pod(job, pod, until, end.since),
        None => Run::of_job(job, end.since),
    };
    let run = run_until(pod.and_then(ended_at));
    if is_good {
        let ending = Ending::of_complete_job(job, pod, run);
        return Some(InstanceStatus::Finished(ending));
    }
    if end.reason() == DEADLINE_EXCEEDED {
        let run = Run::of_job(job, end.since);
        return Some(InstanceStatus::Finished(Ending::lifetime(run)));
    }
    if let Some(ending) = pod.and_then(|pod| Ending::of_failed_job(pod, run)) {
        return Some(InstanceStatus::Finished(ending));
    }
    let of_job = || {
        let reason = Some(end.reason())
            .filter(|reason| !reason.is_empty())
            .unwrap_or("Failed");
        Finding::new(Phase::Starting, reason, end.message())
    };
    let finding = match pod.and_then(last_failure) {
        Some(finding) => finding.terminal(),
        None if pod.is_none_or(|pod| !has_ended(pod)) => of_job().awaiting_reason(),
        None => of_job().terminal(),
    };
    // The end of its container, as before the Job had failed.
    let since = finding.since.or(run.at);
    let run = run_until(finding.since);
    Some(InstanceStatus::failed(finding.since(since), run))
}
