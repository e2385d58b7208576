//! [`Ending`]: the end of an instance that is no failure: by its app, by its lifetime, or by others.
//!
//! Pure. The status of a complete Job is the same whether its app ended by itself or its pod was evicted,
//! preempted, or deleted (measured with Kubernetes 1.36). What differs is the pod: it has a mark before it
//! is deleted, and only the pod of an app that ended by itself stays. Failures are in `pods.rs`.

use super::{Finding, Phase, Run};
use crate::kube::types::{ConditionType, Job, Pod, Timestamp};
use std::sync::Arc;
use std::time::Duration;

/// Reason of an instance that exited with code 0.
const COMPLETED: &str = "Completed";

/// Kubernetes' reason of a Job stopped by its `activeDeadlineSeconds`.
pub(super) const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";

/// Our reason where Kubernetes has none, and for that of its eviction API.
const EVICTED: &str = "Evicted";

/// Kubernetes' reason of a pod that is evicted through its API, as by a drain.
const EVICTION_API: &str = "EvictionByEvictionAPI";

/// Kubernetes' reason of a pod that its node evicts. The app may be the cause: the node was short of what it
/// used.
const BY_KUBELET: &str = "TerminationByKubelet";

/// The end of an instance that is no failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// `Completed`, `DeadlineExceeded` if `max-lifetime` stopped it, or why others ended it.
    pub reason: Arc<str>,
    /// For people.
    message: Arc<str>,
    /// When it ended.
    pub at: Option<Timestamp>,
    /// Its run time, from the start of its pod if that is known, or else of the Job.
    pub lasted: Option<Duration>,
    by: By,
}

/// Who ended an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// Its app, with exit code 0.
    Itself,
    /// Its `max-lifetime`.
    Lifetime,
    /// Others, as its pod says.
    Others,
    /// Others, since its pod is being deleted.
    Deletion,
    /// Others, since its pod is gone.
    SomeoneUnseen,
    /// Its pod was not seen to end: the watch on pods lags behind.
    Unclear,
}

/// How long the end of a pod is awaited whose Job is complete. If it is not seen by then, it is taken for one
/// by others: waiters get the successor.
const END_WAIT: Duration = Duration::from_secs(10);

/// Why others end a pod.
#[derive(Clone, Debug)]
pub(super) struct Disruption {
    /// Kubernetes' reason, or `Evicted`.
    pub(super) reason: Arc<str>,
    /// Kubernetes' sentence.
    pub(super) message: Arc<str>,
}

/// What the mark of a disrupted pod says, if it has one.
pub(super) fn disruption(pod: &Pod) -> Option<Disruption> {
    let mark = pod.conditions.holds(ConditionType::DisruptionTarget)?;
    let reason = match mark.reason() {
        "" | EVICTION_API => EVICTED,
        reason => reason,
    };
    Some(Disruption {
        reason: reason.into(),
        message: mark.message().trim_end().into(),
    })
}

impl Ending {
    fn new(run: Run, by: By, reason: &str, message: String) -> Self {
        let Run { at, lasted } = run;
        Self {
            reason: reason.into(),
            message: message.into(),
            at,
            lasted,
            by,
        }
    }

    /// Its app exited with code 0.
    pub(super) fn completed(run: Run) -> Self {
        let message = "the app exited with code 0".to_owned();
        Self::new(run, By::Itself, COMPLETED, message)
    }

    /// The pod is gone, and nothing says why.
    fn unseen(run: Run) -> Self {
        let message = "the pod was not seen to end: it was evicted, preempted or deleted before the app ended";
        Self::new(run, By::SomeoneUnseen, EVICTED, message.to_owned())
    }

    /// Its lifetime is over.
    pub(super) fn lifetime(run: Run) -> Self {
        let message = "the instance reached the maximum lifetime that its template sets";
        let (by, reason) = (By::Lifetime, DEADLINE_EXCEEDED);
        Self::new(run, by, reason, message.to_owned())
    }

    fn disrupted(run: Run, disruption: &Disruption) -> Self {
        let message = format!("Kubernetes stopped the pod ({})", disruption.message);
        Self::new(run, By::Others, &disruption.reason, message)
    }

    /// The end of a complete Job with its last pod. A deletion of the Job removes its pods, so then only a
    /// mark or an earlier deletion counts: by its time, or since the pod was seen in it before it ended.
    ///
    /// A pod ends at least a second before its Job. If it is not seen to have ended, the watch on pods lags
    /// behind: the mark of a disruption may follow. Waiters of a Job that is being deleted cannot wait for
    /// that, and get the successor.
    pub(super) fn of_complete_job(job: &Job, pod: Option<&Pod>, run: Run) -> Self {
        if let Some(disruption) = pod.and_then(disruption) {
            return Self::disrupted(run, &disruption);
        }
        let is_deleting = job.metadata.is_deleting();
        match pod {
            Some(pod) if is_stopping(pod) || is_deleted_before(pod, job) => {
                let message = "the pod was deleted, so Kubernetes stopped the app".to_owned();
                Self::new(run, By::Deletion, "PodDeleted", message)
            }
            Some(pod) if !pod.shows_its_end() && is_deleting => Self::unseen(run),
            Some(pod) if !pod.shows_its_end() => Self::unseen(run).unclear(),
            Some(_) => Self::completed(run),
            None => Self::unseen(run),
        }
    }

    /// The end of a failed Job, if it failed because others ended this pod: its retries were used up.
    pub(super) fn of_failed_job(pod: &Pod, run: Run) -> Option<Self> {
        let mark = pod.conditions.holds(ConditionType::DisruptionTarget)?;
        let disruption = disruption(pod).filter(|_| mark.reason() != BY_KUBELET)?;
        Some(Self::disrupted(run, &disruption))
    }

    /// Whether `max-lifetime` stopped it.
    #[must_use]
    pub fn reached_lifetime(&self) -> bool {
        self.by == By::Lifetime
    }

    /// Whether others ended it, and not the app.
    #[must_use]
    pub fn is_disrupted(&self) -> bool {
        matches!(self.by, By::Others | By::Deletion | By::SomeoneUnseen)
    }

    /// Whether its app exited with code 0 by itself.
    #[must_use]
    pub fn is_by_app(&self) -> bool {
        self.by == By::Itself
    }

    /// Whether only the absence of its pod says that others ended it.
    #[must_use]
    pub fn is_unseen(&self) -> bool {
        self.by == By::SomeoneUnseen
    }

    /// Whether its pod has been seen to end, or to be ended.
    pub(super) fn is_seen(&self) -> bool {
        !matches!(self.by, By::SomeoneUnseen | By::Unclear)
    }

    /// What its texts take, in bytes.
    pub(super) fn text_bytes(&self) -> usize {
        self.reason.len() + self.message.len()
    }

    /// The same, but the watch on pods may still show another cause.
    #[must_use]
    pub fn unclear(mut self) -> Self {
        self.by = By::Unclear;
        self
    }

    /// How long to wait for the watch on pods to show who ended it, if that is unclear.
    #[must_use]
    pub fn unclear_for(&self) -> Option<Duration> {
        (self.by == By::Unclear).then_some(END_WAIT)
    }

    /// The same once that wait is over.
    #[must_use]
    pub fn decided(mut self) -> Self {
        self.by = By::SomeoneUnseen;
        self
    }

    /// The finding for requests that waited for this instance to become ready.
    #[must_use]
    pub fn finding(&self) -> Finding {
        let mut finding = Finding::new(Phase::Starting, &self.reason, Arc::clone(&self.message))
            .since(self.at)
            .terminal();
        finding.exit_code = self.is_by_app().then_some(0);
        finding
    }
}

/// Whether somebody deleted this pod, and not with its Job: before that. (Both times are the API server's. The
/// kubelet's own deletion of a pod that has ended sets its time anew, so this may be too late.)
fn is_deleted_before(pod: &Pod, job: &Job) -> bool {
    let of_job = job.metadata.deletion_timestamp;
    let is_before = |of_pod| of_job.is_none_or(|of_job| of_pod < of_job);
    pod.deleted_since().is_some_and(is_before)
}

/// Whether this pod is being deleted and has not ended: somebody stops it.
#[must_use]
pub fn is_stopping(pod: &Pod) -> bool {
    pod.metadata.is_deleting() && !pod.shows_its_end()
}
