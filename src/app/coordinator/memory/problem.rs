//! [`Problem`]: why an instance is not ready, since when, and what that means for the next one.
//!
//! Pure. Timestamps of Kubernetes count when a problem is first observed; from then on durations run on
//! the monotonic clock. What else is remembered of a name is in [`super`].

use crate::app::cache::Instance;
use crate::app::coordinator::context::Context;
use crate::kube::types::{Timestamp, Uid};
use crate::model::job::JobSettings;
use crate::model::labels;
use crate::model::status::{
    self, Begun, Budget, Ending, Finding, InstanceStatus, LASTED_LONG, Prognosis,
};
use std::time::{Duration, Instant};

/// The problem of a Job, or of the last one.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    pub(super) uid: Uid,
    /// With the times of its first observation.
    pub(super) finding: Finding,
    pub(super) begun: Begun,
    pub(super) failure: Option<Failure>,
    /// Others ended the Job, which is no failure.
    pub(super) is_disrupted: bool,
    /// Since when the end of its pod is awaited.
    pub(super) unclear_since: Option<Instant>,
    /// From when Kubernetes itself deletes the failed Job.
    pub(super) expires_at: Option<Instant>,
    pub(super) gone: Option<Gone>,
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
const EXPIRES_EARLY: Duration = Duration::from_secs(2);

/// How an instance failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// From when a GET replaces it; `None` when only a DELETE ends it.
    pub restart_at: Option<Instant>,
    /// From when its delay runs.
    since: Instant,
    /// Failures in a row that the next Job of this name inherits.
    pub(super) in_a_row: u32,
}

/// The longest time for which an instance is said to be kept. With `restart-failed: never` a DELETE ends it
/// at any time.
const KEPT_FOR_MAX: Duration = Duration::from_secs(300);

impl Failure {
    /// How long no GET replaces the instance yet; `None` once one does.
    pub fn kept_for(&self, now: Instant) -> Option<Duration> {
        let rest = |at: Instant| at.saturating_duration_since(now);
        let rest = self.restart_at.map_or(KEPT_FOR_MAX, rest).min(KEPT_FOR_MAX);
        (!rest.is_zero()).then_some(rest)
    }
}

impl Problem {
    /// The problem of an instance with this finding; `before` is that of its last observation.
    pub(super) fn new(
        instance: &Instance,
        mut finding: Finding,
        before: Option<Box<Self>>,
        settings: &JobSettings,
        context: &Context<'_>,
    ) -> Self {
        let uid = instance.uid();
        let before = before.filter(|it| it.uid == *uid && is_same_problem(&it.finding, &finding));
        let begun = begun(instance, before.as_deref(), &mut finding, context);
        let known = before.as_ref().and_then(|it| it.failure);
        let is_disrupted = instance.status.is_disrupted();
        let is_failure = match &instance.status {
            InstanceStatus::Finished(ending) => !is_disrupted && is_too_short(ending, settings),
            _ => true,
        };
        let failure = if is_failure {
            failure(instance, &finding, settings, begun, known, context)
        } else {
            None
        };
        let expires_at = before.and_then(|it| it.expires_at).or_else(|| {
            let ttl = Duration::from_secs(instance.job.ttl_secs?.into());
            failure.map(|_| context.now + ttl.saturating_sub(EXPIRES_EARLY))
        });
        Self {
            uid: uid.clone(),
            finding,
            begun,
            failure,
            is_disrupted,
            unclear_since: None,
            expires_at,
            gone: None,
        }
    }

    /// Whether it counts once its Job is gone.
    pub(super) fn is_kept(&self) -> bool {
        self.failure.is_some() || self.is_disrupted
    }
}

/// Whether this finding is about the same problem as the one before it, so that they share a budget. Reasons
/// alternate meanwhile: `ErrImagePull` and `ImagePullBackOff`; so do the phases of failures that are retried.
///
/// Of a failure that is retried, each attempt has a later time. Another state with a later time began anew:
/// between two looks at the cache, the pod was in another one, or it was another pod.
fn is_same_problem(before: &Finding, now: &Finding) -> bool {
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
                Budget::Creating
                    | Budget::Scheduling
                    | Budget::Mounting
                    | Budget::Pulling
                    | Budget::Initialising
                    | Budget::Readying
            ),
            ..
        }
    );
    let began_anew = is_state && now.since.is_some_and(|since| Some(since) > before.since);
    without_start(before) == without_start(now) && !began_anew
}

/// The problem of an instance, if it has one.
///
/// A successful end before the restart delay counts as a failure. Otherwise a client that retries
/// without delay would create a new Job every few seconds.
pub(super) fn finding_of(status: &InstanceStatus, settings: &JobSettings) -> Option<Finding> {
    match status {
        InstanceStatus::Starting(finding) | InstanceStatus::Failed { finding, .. } => {
            Some(finding.clone())
        }
        InstanceStatus::Finished(ending)
            if ending.is_disrupted()
                || ending.unclear_for().is_some()
                || is_too_short(ending, settings) =>
        {
            Some(ending.finding())
        }
        InstanceStatus::Finished(_)
        | InstanceStatus::Ready { .. }
        | InstanceStatus::Stopping { .. } => None,
    }
}

fn is_too_short(ending: &Ending, settings: &JobSettings) -> bool {
    let ended_itself = !ending.reached_lifetime();
    ending
        .lasted
        .filter(|_| ended_itself)
        .is_some_and(|lasted| lasted < settings.restart_delay)
}

/// When the problem of this instance began, which may be the one from before; it then has its times.
fn begun(
    instance: &Instance,
    before: Option<&Problem>,
    finding: &mut Finding,
    context: &Context<'_>,
) -> Begun {
    match before {
        Some(before) => finding.continue_from(&before.finding),
        None => {
            let now = || Timestamp::from_system_time(context.wall);
            finding.since = finding.since.or_else(now);
        }
    }
    let from = finding.budget_from();
    let is_known = before.is_some_and(|before| before.finding.budget_from() == from);
    let made = instance.job.metadata.creation_timestamp;
    let moment = from.filter(|_| !is_known);
    let moment = moment.map(|from| context.moment(from, made));
    let seen = before.map_or(context.now, |it| it.begun.seen);
    let budget = before.map(|it| it.begun.budget);
    Begun {
        seen,
        budget: budget.into_iter().chain(moment).min().unwrap_or(seen),
    }
}

/// How this instance failed, if it has; `known` is that failure as it was found before.
fn failure(
    instance: &Instance,
    finding: &Finding,
    settings: &JobSettings,
    begun: Begun,
    known: Option<Failure>,
    context: &Context<'_>,
) -> Option<Failure> {
    let lasted = match &instance.status {
        InstanceStatus::Failed { lasted, .. } => *lasted,
        InstanceStatus::Finished(ending) => ending.lasted,
        _ => None,
    };
    let carried = instance.job.metadata.annotations.get(labels::FAILURES);
    let carried: u32 = carried.and_then(|count| count.parse().ok()).unwrap_or(0);
    let in_a_row = if lasted.is_some_and(|lasted| lasted >= LASTED_LONG) {
        0
    } else {
        carried
    };
    let job = &instance.job;
    let since = match instance.status {
        // A start that has probably failed is kept from when that is reported.
        InstanceStatus::Starting(_) => {
            let reported_at = finding.report_at(begun, &settings.budgets);
            reported_at.filter(|at| *at <= context.now)?
        }
        _ => known.map_or_else(
            || {
                // The time of its pod's end is that of a kubelet; the Job ends a second later.
                let at = status::job_ended_at(job);
                let made = job.metadata.creation_timestamp;
                at.map_or(begun.seen, |at| context.moment(at, made))
            },
            |known| known.since,
        ),
    };
    let restart_at = since.checked_add(settings.delay_after(in_a_row));
    let restart_at = restart_at.filter(|_| settings.restart_failed);
    Some(Failure {
        restart_at,
        since,
        in_a_row: in_a_row.saturating_add(1),
    })
}
