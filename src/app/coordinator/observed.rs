//! [`Observed`]: the observed state of one name, computed once for each input.
//!
//! Pure. The cache has the Job and its pods, the record's memory the time since which a start has a
//! problem. The failure report for callers, and its time, follow from both.

use super::context::Context;
use super::memory::Memory;
use crate::app::cache::{Instance, Lookup};
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::status::{self, Finding, InstanceStatus};
use std::time::Instant;

/// The state of a name, as distinguished by [`super::resolve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// There is no Job of that name.
    Absent,
    /// The Job of that name is not this instance.
    NameConflict,
    /// Starting.
    Starting,
    /// Starting, and a failure is due to be reported: its budget has expired, or it cannot succeed.
    Failing,
    /// Ready.
    Ready,
    /// Failed; the termination report of its pod may still arrive.
    AwaitingReason,
    /// Failed, and Kubernetes does not retry.
    Failed,
    /// Ended with success, or by its lifetime.
    Finished,
    /// Being deleted.
    Deleting,
}

/// The observed state of one name.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// In one word.
    pub(super) state: State,
    /// The instance, if there is one.
    pub(super) instance: Option<Box<Instance>>,
    /// The failure report for waiters of this Job: now, or once its pod has a termination report or
    /// the Job is gone.
    pub(super) report: Option<Finding>,
    /// When a failure becomes due to be reported, unless the state changes before.
    pub(super) report_at: Option<Instant>,
}

impl Observed {
    /// Observes one name, and updates its memory.
    pub(super) fn new(
        key: &InstanceKey,
        lookup: Lookup,
        memory: &mut Memory,
        context: &Context<'_>,
    ) -> Self {
        let settings = context.catalog.settings(&key.app_type);
        let none = |state| Self {
            state,
            instance: None,
            report: None,
            report_at: None,
        };
        let mut instance = match lookup {
            Lookup::Instance(instance) => instance,
            absent => {
                memory.note(None, settings, context);
                return none(match absent {
                    Lookup::NameConflict => State::NameConflict,
                    _ => State::Absent,
                });
            }
        };
        memory.note(Some(&instance), settings, context);
        memory.recall(&mut instance);
        let (state, report, report_at) = match &instance.status {
            InstanceStatus::Ready { .. } => (State::Ready, None, None),
            InstanceStatus::Stopping { .. } => {
                let pod = memory.explaining_pod(&instance);
                let report = status::ended_before_deletion(&instance.job, pod);
                (State::Deleting, report, None)
            }
            InstanceStatus::Finished(ending) => (State::Finished, Some(ending.finding()), None),
            InstanceStatus::Failed { finding, .. } | InstanceStatus::Starting(finding) => {
                let has_failed = matches!(instance.status, InstanceStatus::Failed { .. });
                let first_seen = memory.first_seen(instance.uid(), finding, context.wall);
                let at = finding.report_at(first_seen, &settings.budgets);
                let is_due = at.is_some_and(|at| at <= context.wall);
                let state = match (has_failed, is_due) {
                    (true, true) => State::Failed,
                    (true, false) => State::AwaitingReason,
                    (false, true) => State::Failing,
                    (false, false) => State::Starting,
                };
                let report = (has_failed || is_due).then(|| finding.clone());
                let in_time = at.and_then(|at| at.duration_since(context.wall).ok());
                let report_at = in_time.filter(|_| !is_due);
                (
                    state,
                    report,
                    report_at.map(|in_time| context.now + in_time),
                )
            }
        };
        Self {
            state,
            instance: Some(instance),
            report,
            report_at,
        }
    }

    /// The UID of its Job.
    #[must_use]
    pub(super) fn uid(&self) -> Option<&Uid> {
        self.instance.as_deref().map(Instance::uid)
    }

    /// Whether it has a pod, being deleted or not.
    #[must_use]
    pub(super) fn has_pod(&self) -> bool {
        self.instance
            .as_deref()
            .is_some_and(|instance| instance.pod.is_some())
    }

    /// The progress, for waiters at their deadline.
    #[must_use]
    pub(super) fn progress(&self) -> Finding {
        match self.instance.as_deref().map(|instance| &instance.status) {
            Some(InstanceStatus::Starting(finding)) => finding.clone(),
            Some(InstanceStatus::Stopping { since }) => Finding::stopping(*since),
            Some(InstanceStatus::Failed { .. } | InstanceStatus::Finished(_)) => {
                Finding::stopping(None)
            }
            Some(InstanceStatus::Ready { .. }) | None => Finding::admitting(),
        }
    }
}
