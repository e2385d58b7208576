//! [`Problem`]: why an instance is not ready, what that means for the next one, and since when.
//!
//! Pure. How long a problem is remembered is in [`super`].

use crate::app::cache::Instance;
use crate::kube::types::{Timestamp, Uid};
use crate::model::job::JobSettings;
use crate::model::labels;
use crate::model::status::{self, Budget, Ending, Finding, InstanceStatus, LASTED_LONG, Prognosis};
use std::time::{Duration, Instant, SystemTime};

/// The problem of a Job, or of the last one.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) uid: Uid,
    /// With the times of its first observation.
    pub(super) finding: Finding,
    pub(super) first_seen: SystemTime,
    pub(super) failure: Option<Failure>,
    /// Others ended the Job, which is no failure.
    pub(super) is_disrupted: bool,
    /// Its app exited with code 0, which a later deletion of the pod does not change.
    pub(super) is_by_app: bool,
    /// From when Kubernetes itself deletes the failed Job.
    pub(super) expires_at: Option<Instant>,
    pub(super) gone: Option<Gone>,
}

impl Problem {
    /// Whether it counts once its Job is gone.
    pub(super) fn is_kept(&self) -> bool {
        self.failure.is_some() || self.is_disrupted
    }
}

/// A Job with a problem is gone, or is being deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone {
    pub(super) at: Instant,
    /// Whether its time to live after its end explains that.
    pub(super) has_expired: bool,
}

/// How much earlier than this replica thinks Kubernetes may delete a Job that has ended: a replica may
/// learn late of its end.
pub(super) const EXPIRES_EARLY: Duration = Duration::from_secs(2);

/// How an instance failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// From when a GET replaces it; `None` when only a DELETE ends it.
    pub restart_at: Option<SystemTime>,
    /// Failures in a row that the next Job of this name inherits.
    pub(super) in_a_row: u32,
}

/// Whether this finding is about the same problem as the one before it, so that they share a budget. Reasons
/// alternate meanwhile: `ErrImagePull` and `ImagePullBackOff`; so do the phases of failures that are retried.
///
/// Of a failure that is retried, each attempt has a later time. Another state with a later time began anew:
/// between two looks at the cache, the pod was in another one.
pub(super) fn is_same_problem(before: &Finding, now: &Finding) -> bool {
    let without_start = |finding: &Finding| {
        let mut prognosis = finding.prognosis;
        if let Prognosis::Retryable { from, .. } = &mut prognosis {
            *from = None;
        }
        prognosis
    };
    let is_state = matches!(
        now.prognosis,
        Prognosis::Retryable {
            budget: Some(
                Budget::Mounting | Budget::Pulling | Budget::Initialising | Budget::Readying
            ),
            ..
        }
    );
    let began_anew = is_state && now.since.is_some_and(|since| Some(since) > before.since);
    without_start(before) == without_start(now) && !began_anew
}

/// The failure of an instance, if it has failed.
///
/// A successful end before the restart delay counts as a failure. Otherwise a client that retries
/// without delay would create a new Job every few seconds.
pub(super) fn problem(status: &InstanceStatus, settings: &JobSettings) -> Option<Finding> {
    match status {
        InstanceStatus::Starting(finding) | InstanceStatus::Failed { finding, .. } => {
            Some(finding.clone())
        }
        InstanceStatus::Finished(ending)
            if ending.is_disrupted() || is_too_short(ending, settings) =>
        {
            Some(ending.finding())
        }
        InstanceStatus::Finished(_)
        | InstanceStatus::Ready { .. }
        | InstanceStatus::Stopping { .. } => None,
    }
}

/// Whether the app exited with code 0 by itself, as its pod shows.
pub(super) fn has_ended_itself(instance: &Instance) -> bool {
    let has_ended = instance.pod.as_deref().is_some_and(status::has_ended);
    let is_by_app =
        matches!(&instance.status, InstanceStatus::Finished(ending) if ending.is_by_app());
    has_ended && is_by_app
}

fn is_too_short(ending: &Ending, settings: &JobSettings) -> bool {
    let ended_itself = !ending.reached_lifetime();
    ending
        .lasted
        .filter(|_| ended_itself)
        .is_some_and(|lasted| lasted < settings.restart_delay)
}

pub(super) fn failure(
    instance: &Instance,
    finding: &Finding,
    settings: &JobSettings,
    first_seen: SystemTime,
    wall: SystemTime,
) -> Option<Failure> {
    let (at, lasted) = match &instance.status {
        InstanceStatus::Failed { at, lasted, .. } => (*at, *lasted),
        InstanceStatus::Finished(ending) => (ending.at, ending.lasted),
        _ => (None, None),
    };
    let carried = instance.job.metadata.annotations.get(labels::FAILURES);
    let carried: u32 = carried.and_then(|count| count.parse().ok()).unwrap_or(0);
    let in_a_row = if lasted.is_some_and(|lasted| lasted >= LASTED_LONG) {
        0
    } else {
        carried
    };
    let since = match instance.status {
        // A start that has probably failed is kept from when that is reported.
        InstanceStatus::Starting(_) => {
            let reported_at = finding.report_at(first_seen, &settings.budgets);
            reported_at.filter(|at| *at <= wall)?
        }
        _ => at.map_or(first_seen, Timestamp::system_time),
    };
    let restart_at = since.checked_add(settings.delay_after(in_a_row));
    let restart_at = restart_at.filter(|_| settings.restart_failed);
    Some(Failure {
        restart_at,
        in_a_row: in_a_row.saturating_add(1),
    })
}
