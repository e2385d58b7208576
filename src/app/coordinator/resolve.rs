//! The observed state of a name, computed once for each input, and what each waiter gets from it:
//! the one table that decides on responses, and when a failed instance is replaced.
//!
//! Pure. Rows are what is observed, columns what the waiter waits for; nothing here makes a call, and
//! the order in which waiters are resolved does not matter.
//!
//! | observed | new | next | ready (this Job) | held (this Job) | replacement (this Job) | another Job |
//! |---|---|---|---|---|---|---|
//! | name conflict | taken | taken | taken | taken | taken | taken |
//! | made with other values ⁸ | refused | refused | refused | refused | refused | its last report |
//! | absent | next ¹ | next ¹ | | | | its last report ⁵ |
//! | deleting | next ¹ | next ¹ | its last report | its last report | waits | its last report |
//! | ready | ready | ready | ready | ready | ready | its last report |
//! | starting | ready (this Job) | ready (this Job) | waits | ready (this Job) | ready (this Job) ² | its last report |
//! | awaiting reason | replacement ³, else held | ready (this Job) | waits | waits ⁷ | waits | its last report |
//! | finished by others ⁶ | replacement ³ | replacement ³ | replacement ³ | replacement ³ | waits | its last report |
//! | failing, failed, finished | replacement ³, else held ⁴ | replacement ³, else report ⁴ | report | report, once the second is over | waits | its last report |
//!
//! - ¹ A waiter that starts nothing gets `no instance`, unless it can wait for a start in progress.
//! - ² Waits during our own deletion: the pod may be gone before the Job.
//! - ³ If it may start an instance, and the restart delay of a failed one is over.
//! - ⁴ A waiter that starts nothing gets `no instance` for a finished instance, and for a failed one that
//!   has expired: Kubernetes has deleted it, and it is reported until it may be replaced.
//! - ⁵ Once the change is reported that removed the Job: it says how the Job ended. If others ended it, or it
//!   was stopped before the request came, a waiter that may start an instance is for the next one instead. If
//!   this replica replaces it, so is every waiter.
//! - ⁶ An eviction is no failure. A waiter that starts nothing gets `no instance`, unless it can wait for a
//!   start in progress.
//! - ⁷ Once the second is over, it gets the report. Of a complete Job whose pod was not seen to end there is
//!   none: the waiter waits like one for this Job.
//! - A waiter for the report alone gets it at once, also of a failed Job that is gone.
//! - ⁸ Ready or starting, for a waiter that expects other values; and failing, unless it is replaced.

use super::context::Context;
use super::memory::Memory;
use super::operation::{Last, Standing, WaitState, Waiter, Want};
use super::start_queue::Queued;
use crate::app::admissions::Refusal;
use crate::app::cache::{Instance, InstanceVersion, Lookup};
use crate::app::error::Error;
use crate::app::expectation::ValuesMatch;
use crate::app::index::Verdict;
use crate::app::request::{Intent, Progress, Response};
use crate::app::timings::Timings;
use crate::kube::types::{Pod, Uid};
use crate::model::names::InstanceKey;
use crate::model::status::{self, Budgets, Finding, InstanceStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a known failure report is delayed, so that a client without back-off retries once a
/// second (contract W7).
pub const REPORT_HOLD: Duration = Duration::from_secs(1);

/// The state of a name.
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
    /// Failed, or ended; the termination report of its pod may still arrive.
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
    /// The pods of this name that have not ended while it has no Job.
    pub(super) orphans: Vec<Arc<Pod>>,
    /// The failed Job that Kubernetes has deleted, while it is still reported.
    pub(super) expired: Option<Uid>,
    /// The failure report for waiters of this Job: now, or once its pod has a termination report or
    /// the Job is gone.
    pub(super) report: Option<Finding>,
    /// How the Job failed that was there last, if there is none.
    pub(super) last_failure: Option<Finding>,
    /// Whether others ended it, and not its app: its waiters get the successor.
    pub(super) is_disrupted: bool,
    /// When a failure becomes due to be reported, or a ready pod counts as ready, unless the state changes
    /// before.
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
        let mut instance = match lookup {
            Lookup::Instance(instance) => instance,
            absent => {
                memory.note(None, settings, context);
                let orphans = context.cache.orphans(key, None);
                let observed = Self::without_job(&absent, orphans, memory, context);
                memory.note_leaving(observed.leaving(), context);
                return observed;
            }
        };
        memory.note(Some(&mut instance), settings, context);
        memory.note_leaving(instance.leaving.as_ref(), context);
        let mut is_disrupted = instance.status.is_disrupted();
        let (state, report, report_at) = match &instance.status {
            InstanceStatus::Ready { .. } => {
                if memory.settled_at().is_some() {
                    context.cache.set_verdict(key, Verdict::Settled);
                }
                (State::Ready, None, None)
            }
            InstanceStatus::Stopping { .. } => {
                let pod = memory.explaining_pod(&instance);
                let ended = status::ended_before_deletion(&instance.job, pod);
                let ended = ended.map(|end| context.cache.end(&instance.job).unwrap_or(end));
                is_disrupted = ended.as_ref().is_some_and(InstanceStatus::is_disrupted);
                (
                    State::Deleting,
                    ended.and_then(InstanceStatus::report_of_end),
                    None,
                )
            }
            InstanceStatus::Finished(ending) if let Some(wait) = ending.unclear_for() => {
                let since = memory.unclear_since(instance.uid());
                (State::AwaitingReason, None, since.map(|at| at + wait))
            }
            InstanceStatus::Finished(ending) => {
                let mut report = ending.finding();
                report.since = memory.since(instance.uid()).or(report.since);
                (State::Finished, Some(report), None)
            }
            InstanceStatus::Failed { finding, .. } | InstanceStatus::Starting(finding) => {
                let unready =
                    of_unready(&instance, finding, memory, &settings.budgets, context.now);
                let verdict = match unready.0 {
                    State::Failing => Verdict::Failing,
                    _ => Verdict::None,
                };
                context.cache.set_verdict(key, verdict);
                unready
            }
        };
        Self {
            state,
            instance: Some(instance),
            orphans: Vec::new(),
            expired: None,
            report,
            last_failure: None,
            is_disrupted,
            report_at,
        }
    }

    fn without_job(
        absent: &Lookup,
        orphans: Vec<Arc<Pod>>,
        memory: &Memory,
        context: &Context<'_>,
    ) -> Self {
        let expired = match absent {
            Lookup::NameConflict => None,
            _ => memory.expired(context.now),
        };
        Self {
            state: match (absent, expired) {
                (Lookup::NameConflict, _) => State::NameConflict,
                (_, Some(_)) => State::Failed,
                _ => State::Absent,
            },
            instance: None,
            orphans,
            expired: expired.map(|(uid, _)| uid.clone()),
            report: expired.map(|(_, finding)| finding.clone()),
            last_failure: memory.last_failure().cloned(),
            is_disrupted: false,
            report_at: None,
        }
    }

    /// The UID of its Job, which may have expired.
    #[must_use]
    pub(super) fn uid(&self) -> Option<&Uid> {
        let own = self.instance.as_deref().map(Instance::uid);
        own.or(self.expired.as_ref())
    }

    /// Whether this Job is there.
    fn is_there(&self, uid: &Uid) -> bool {
        let instance = self.instance.as_deref();
        instance.is_some_and(|instance| instance.uid() == uid)
    }

    /// Of its pods that are being deleted, the first to end.
    #[must_use]
    pub(super) fn leaving(&self) -> Option<&Arc<Pod>> {
        if let Some(instance) = self.instance.as_deref() {
            return instance.leaving.as_ref();
        }
        let leaving = self.orphans.iter().filter(|pod| pod.metadata.is_deleting());
        leaving.min_by_key(|pod| pod.metadata.deletion_timestamp)
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
            None if !self.orphans.is_empty() => {
                let since = self
                    .leaving()
                    .and_then(|pod| pod.metadata.deletion_timestamp);
                Finding::stopping(since)
            }
            Some(InstanceStatus::Ready { .. }) | None => Finding::admitting(),
        }
    }
}

/// State and report of an instance that has failed, or is starting, and when that changes by itself.
fn of_unready(
    instance: &Instance,
    finding: &Finding,
    memory: &Memory,
    budgets: &Budgets,
    now: Instant,
) -> (State, Option<Finding>, Option<Instant>) {
    let has_failed = matches!(instance.status, InstanceStatus::Failed { .. });
    let at = finding.report_at(memory.begun(instance.uid(), now), budgets);
    let is_due = at.is_some_and(|at| at <= now);
    let state = match (has_failed, is_due) {
        (true, true) => State::Failed,
        (true, false) => State::AwaitingReason,
        (false, true) => State::Failing,
        (false, false) => State::Starting,
    };
    let report = (has_failed || is_due).then(|| finding.clone());
    let report_at = at.filter(|_| !is_due);
    (state, report, report_at.or_else(|| memory.settled_at()))
}

/// What a waiter gets, or waits for from here on.
#[derive(Clone, Debug)]
pub(super) enum Resolution {
    /// This response; the waiter is removed.
    Respond(Response),
    /// Nothing yet.
    Wait(WaitState),
    /// Nothing before the Job and its pods were read.
    Read,
    /// It waits for this Job from here on, in place of the one that was stopped for it.
    Join(Uid),
    /// What is there is to be stopped for it first.
    Stop,
}

/// Further inputs of the decision.
#[derive(Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The name.
    pub(super) key: &'a InstanceKey,
    /// Monotonic time.
    pub(super) now: Instant,
    /// The Job that the cache shows, if there is one.
    pub(super) job: Option<&'a Uid>,
    /// The number of the step.
    pub(super) step: u64,
    /// Whether calls fail, and the next one waits.
    pub(super) is_pausing: bool,
    /// Whether a start is in progress or about to begin, so that a waiter that starts nothing can
    /// wait for it.
    pub(super) is_start_pending: bool,
    /// Whether a call in flight, or due next, decides which Job there is.
    pub(super) is_job_unknown: bool,
    /// Whether our own deletion is in flight.
    pub(super) is_deleting: bool,
    /// Whether a new request replaces the failed or ended instance.
    pub(super) may_replace: bool,
    /// How long a failed instance is still kept.
    pub(super) kept_for: Option<Duration>,
    /// The last reports of Jobs that are gone or being deleted.
    pub(super) last: &'a [Last],
    /// The place of the start in the queue, if it waits in it and somebody is to hear of that.
    pub(super) queued: Option<&'a Queued>,
    /// The durations of the phases of the start.
    pub(super) timings: &'a dyn Fn() -> Option<Timings>,
}

impl Facts<'_> {
    fn last_report(&self, uid: &Uid) -> Response {
        let last = self.last.iter().find(|last| last.uid == *uid);
        match last.map(|last| (&last.report, last.was_suspended, last.refusal)) {
            Some((Some(finding), ..)) => self.failure(finding),
            Some((None, _, Some(refusal))) => Response::Failed(Error::NoPlace(refusal)),
            Some((None, true, None)) => Response::Failed(Error::LimitReached),
            _ => Response::Failed(Error::Stopped),
        }
    }

    /// Whether others ended this Job, which is gone or being deleted.
    fn was_disrupted(&self, uid: &Uid) -> bool {
        let last = self.last.iter().find(|last| last.uid == *uid);
        last.is_some_and(|last| last.was_disrupted)
    }

    /// Whether this replica deletes this Job to start another in its place.
    fn is_replaced(&self, uid: &Uid) -> bool {
        let last = self.last.iter().find(|last| last.uid == *uid);
        last.is_some_and(|last| last.is_replaced)
    }

    /// Whether this Job was stopped before the request came, as far as can be told: then the cache lagged. If
    /// both were in the same second, the request counts as the later one.
    fn was_stopped_before(&self, uid: &Uid, waiter: &Waiter) -> bool {
        let last = self.last.iter().find(|last| last.uid == *uid);
        let is_stopped = |last: &&Last| last.report.is_none() && !last.was_suspended;
        let deleted = last.filter(is_stopped).and_then(|last| last.deleted);
        waiter.confirmed.as_ref() != Some(uid) && deleted.is_some_and(|at| at <= waiter.since)
    }

    /// Whether there was no place for this Job, so that one who waits for a place is for the next one.
    fn had_no_place(&self, uid: &Uid) -> bool {
        let last = self.last.iter().find(|last| last.uid == *uid);
        last.is_some_and(|last| match last.refusal {
            Some(refusal) => refusal != Refusal::NotPermitted,
            None => last.was_undecided && last.report.is_none(),
        })
    }

    /// Whether the cache has just lost this Job, so that its end is yet to be reported.
    fn is_end_unknown(&self, uid: &Uid) -> bool {
        let last = self.last.iter().find(|last| last.uid == *uid);
        last.is_some_and(|last| !last.is_gone)
    }

    fn failure(&self, finding: &Finding) -> Response {
        self.progress(finding.clone(), true)
    }

    fn progress(&self, finding: Finding, is_failure_report: bool) -> Response {
        Response::Progress {
            progress: Progress {
                finding,
                position: None,
                is_failure_report,
                kept_for: self
                    .kept_for
                    .filter(|_| is_failure_report)
                    .unwrap_or_default(),
            },
            instance: self.job.map(|uid| InstanceVersion {
                uid: uid.clone(),
                fingerprint: None,
            }),
            timings: (self.timings)(),
        }
    }

    fn queued(&self, queued: &Queued) -> Response {
        let mut response = self.progress(Finding::queued(&queued.blocked.to_string()), false);
        if let Response::Progress { progress, .. } = &mut response {
            progress.position = Some(queued.position);
        }
        response
    }

    fn no_instance(&self) -> Resolution {
        Resolution::Respond(Response::Failed(Error::NoInstance(self.key.clone())))
    }
}

/// What this waiter gets from the observed state.
#[must_use]
pub(super) fn resolve(waiter: &Waiter, observed: &Observed, facts: &Facts<'_>) -> Resolution {
    match &waiter.want {
        _ if waiter.is_unread() => Resolution::Wait(waiter.state.clone()),
        want if want.is_change() && standing(waiter, observed, facts) != Standing::Go => {
            match standing(waiter, observed, facts) {
                Standing::Refused => {
                    Resolution::Respond(Response::Failed(waiter.refusal(facts.key)))
                }
                _ if facts.is_pausing => Resolution::Wait(waiter.state.clone()),
                _ => Resolution::Read,
            }
        }
        Want::Instance(Intent::Replace(new)) => waiter.resolve_replacement(new, observed, facts),
        Want::Instance(_) => resolve_instance(waiter, observed, facts),
        // Only the result of its call resolves it.
        Want::Stop { .. } | Want::Replace { .. } => Resolution::Wait(waiter.state.clone()),
        Want::Gone(uid) if observed.is_there(uid) => Resolution::Wait(WaitState::New),
        Want::Gone(_) => Resolution::Respond(Response::Done),
        Want::Label(_) => match observed.state {
            _ if observed.has_pod() => Resolution::Wait(WaitState::New),
            // Only a 404 of Kubernetes counts.
            State::Absent | State::NameConflict => Resolution::Wait(waiter.state.clone()),
            _ if observed.expired.is_some() => Resolution::Wait(waiter.state.clone()),
            State::AwaitingReason | State::Failed | State::Finished => facts.no_instance(),
            _ => match waiter.state {
                WaitState::Pod(until) if until <= facts.now && !facts.is_job_unknown => {
                    facts.no_instance()
                }
                _ => Resolution::Wait(waiter.state.clone()),
            },
        },
    }
}

fn standing(waiter: &Waiter, observed: &Observed, facts: &Facts<'_>) -> Standing {
    waiter.standing(observed.instance.as_deref(), facts.step)
}

fn resolve_instance(waiter: &Waiter, observed: &Observed, facts: &Facts<'_>) -> Resolution {
    use Resolution::{Respond, Wait};
    use State::{
        Absent, AwaitingReason, Deleting, Failed, Failing, Finished, NameConflict, Starting,
    };
    use WaitState::{Held, New, Next, Pod, Ready, Replacement, Sent};
    let is_this = |uid: &Uid| observed.uid() == Some(uid);
    let may_start = waiter.want.variables().is_some();
    let state = awaited(waiter, observed, facts);
    let uid = || observed.uid().cloned().unwrap_or_default();
    let is_over = observed.state == Finished || observed.expired.is_some();
    let replaces = may_start && facts.may_replace;
    let finds_nothing = !may_start && !facts.is_start_pending;
    let is_asked_for = matches!(waiter.want, Want::Instance(Intent::Report));
    let last_failure = observed.last_failure.as_ref().filter(|_| is_asked_for);
    let instance = observed.instance.as_deref();
    let report = || match &observed.report {
        Some(finding) => Respond(facts.failure(finding)),
        None => Wait(waiter.state.clone()),
    };
    match (observed.state, state) {
        (NameConflict, _) => Respond(Response::Failed(Error::NameTaken(facts.key.clone()))),
        (_, Ready(job) | Held(job, _)) if !is_this(job) && facts.is_end_unknown(job) => {
            Wait(waiter.state.clone())
        }
        (_, Ready(job) | Held(job, _)) if !is_this(job) => Respond(facts.last_report(job)),
        (Deleting, Ready(job) | Held(job, _)) => Respond(facts.last_report(job)),
        (Deleting, Replacement(_)) => Wait(waiter.state.clone()),
        (Absent, New) if let Some(finding) = last_failure => Respond(facts.failure(finding)),
        (Absent | Deleting, _) if finds_nothing => facts.no_instance(),
        (Absent | Deleting, _) => Wait(Next),
        (State::Ready | Starting | Failing, _) if refuses_values(waiter, observed, facts) => {
            Respond(Response::Failed(Error::OtherValues(facts.key.clone())))
        }
        (State::Ready, _) => match instance.and_then(|it| it.ready(&waiter.expectation)) {
            Some(ready) => Respond(Response::Ready {
                ready,
                timings: (facts.timings)(),
            }),
            None => Wait(waiter.state.clone()),
        },
        (Starting, Replacement(_)) if facts.is_deleting => Wait(waiter.state.clone()),
        (Starting, _) | (AwaitingReason, Ready(_) | Next) => Wait(Ready(uid())),
        (Finished, _) if observed.is_disrupted && replaces => Wait(Replacement(uid())),
        (Finished, _) if observed.is_disrupted && finds_nothing => facts.no_instance(),
        (Finished, New) if observed.is_disrupted => Wait(Next),
        (Finished, _) if observed.is_disrupted => Wait(waiter.state.clone()),
        (Failing | Failed | Finished, Ready(_)) => report(),
        // Who ended it is not known yet.
        (AwaitingReason, Held(_, until)) if *until <= facts.now && observed.report.is_none() => {
            Wait(Ready(uid()))
        }
        (_, Held(_, until)) if *until <= facts.now => report(),
        (_, Held(..) | Replacement(_)) => Wait(waiter.state.clone()),
        (Failed | Finished, New) if is_asked_for => report(),
        (_, New | Next) if is_over && !may_start => facts.no_instance(),
        (_, New | Next) if replaces => Wait(Replacement(uid())),
        (_, New | Pod(_) | Sent(_)) => Wait(Held(uid(), facts.now + REPORT_HOLD)),
        // The request is older than this Job, so it gets a failure that is known as soon as the
        // Job.
        (_, Next) => report(),
    }
}

/// What the waiter waits for, as far as the observed state has not overtaken it.
fn awaited<'a>(waiter: &'a Waiter, observed: &Observed, facts: &Facts<'_>) -> &'a WaitState {
    use State::Deleting;
    use WaitState::{Held, New, Next, Ready, Replacement};
    let is_this = |uid: &Uid| observed.uid() == Some(uid);
    let may_start = waiter.want.variables().is_some();
    let is_past = |job: &Uid| match is_this(job) {
        true => observed.state == Deleting,
        false => !facts.is_end_unknown(job),
    };
    let is_for_next = |job: &Uid| {
        facts.was_disrupted(job)
            || facts.was_stopped_before(job, waiter)
            || waiter.is_patient() && facts.had_no_place(job)
    };
    let is_for_new = |job: &Uid| facts.is_replaced(job) || may_start && is_for_next(job);
    let is_kept = facts.kept_for.is_some() && !facts.is_deleting && observed.state != Deleting;
    match &waiter.state {
        // The Job that it waited for is gone.
        Replacement(uid) if !is_this(uid) => &Next,
        // Its app has failed just now, before our deletion: the restart delay begins anew.
        Replacement(_) if is_kept => &New,
        Ready(job) | Held(job, _) if is_past(job) && is_for_new(job) => &Next,
        state => state,
    }
}

/// Whether the instance was made with other values than this waiter expects, and is not replaced.
fn refuses_values(waiter: &Waiter, observed: &Observed, facts: &Facts<'_>) -> bool {
    let may_start = waiter.want.variables().is_some();
    let is_replaced = observed.state == State::Failing && may_start && facts.may_replace;
    let instance = observed.instance.as_deref();
    let expected = instance.map(|it| waiter.expectation.compare_values(&it.job));
    expected == Some(ValuesMatch::Other) && !is_replaced && !facts.is_deleting
}

/// What a waiter gets at its deadline, or when it can wait no longer. `error` is the error of the
/// last call, if the waiter waited for it.
#[must_use]
pub(super) fn at_deadline(
    waiter: &Waiter,
    observed: &Observed,
    error: Option<&Error>,
    facts: &Facts<'_>,
) -> Response {
    let failed =
        |error: Option<&Error>| Response::Failed(error.cloned().unwrap_or(Error::UNAVAILABLE));
    match &waiter.want {
        Want::Instance(_) => match error {
            Some(error) if waiter.needs_call() => Response::Failed(error.clone()),
            _ => so_far(waiter, observed, facts),
        },
        Want::Stop { .. } | Want::Replace { .. } => failed(error),
        Want::Gone(_) => {
            let since = observed.instance.as_deref();
            let since = since.and_then(|instance| instance.job.metadata.deletion_timestamp);
            facts.progress(Finding::stopping(since), false)
        }
        // Regardless of the last call's error: there is nothing to label.
        Want::Label(_) if observed.instance.is_some() && !observed.has_pod() => {
            Response::Failed(Error::NoInstance(facts.key.clone()))
        }
        Want::Label(_) => failed(error),
    }
}

/// The progress of the instance, for a waiter at its deadline.
#[must_use]
pub(super) fn so_far(waiter: &Waiter, observed: &Observed, facts: &Facts<'_>) -> Response {
    let job = match &waiter.state {
        WaitState::Held(uid, _) | WaitState::Ready(uid) => Some(uid),
        _ => None,
    };
    let last = facts.last.iter().find(|last| Some(&last.uid) == job);
    let known = last.and_then(|last| last.report.as_ref());
    let queued = facts.queued.filter(|_| observed.instance.is_none());
    match (known, queued) {
        (Some(finding), _) => facts.failure(finding),
        (None, Some(queued)) => facts.queued(queued),
        (None, None) => facts.progress(observed.progress(), false),
    }
}

#[cfg(test)]
mod tests;
