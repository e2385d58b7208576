//! What follows from the result of a call: lifecycle events, responses, and whether a failed call is
//! retried.
//!
//! Pure. A failure concerns the waiters that the call was made for, and no others.

use super::confirm::Trust;
use super::context::Step;
use super::memory::Memory;
use super::operation::{CallState, Calling, Operation, WaitState, Waiter, has};
use super::record::{Record, Trigger};
use super::retry::{CallKind, Graced, Retry};
use super::track::Track;
use crate::app::api_call::{Action, CallOutcome, Completed, StopCause};
use crate::app::cache::{Cache, Instance, InstanceVersion, Lookup};
use crate::app::error::Error;
use crate::app::lifecycle::LifecycleKind;
use crate::app::request::Response;
use crate::kube::types::Uid;
use crate::kube::{self, Class};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a failed connection or a missing permission counts as a restart of the API server. A
/// starting API server responds 403 to all clients until its RBAC is loaded.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// First pause after a failed call; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);

/// Longest pause of our own choice between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Longest pause for a `Retry-After` of the API server. Later requests must not wait for a delay
/// that an earlier one was given.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Consecutive contradictions between Kubernetes and the cache before reads are delayed.
const DISAGREEMENTS_AT_ONCE: u32 = 3;

impl Record {
    /// The call that was under way has ended.
    pub(super) fn completed(&mut self, completed: Completed, step: &mut Step<'_>) {
        let operation = self.operation.as_mut();
        let calling = operation.filter(|it| it.calling().is_some());
        let call = calling.map(|it| std::mem::take(&mut it.call));
        let Some(CallState::Calling(mut calling)) = call else {
            let gone = completed.gone.as_ref().map(|gone| &gone.uid);
            self.changed(gone, Trigger::CacheChanged, step);
            return;
        };
        self.report_outcome(&mut calling, &completed, step);
        self.admission_completed(&calling, &completed.outcome, step);
        self.restart_goes_on(&calling, &completed.outcome, step);
        if let (CallKind::Read, Some(operation)) = (calling.kind(), &mut self.operation) {
            operation.was_read(&calling, &completed.outcome, step.number);
        }
        match &completed.outcome {
            CallOutcome::Failed(error) => self.failed(&calling, error, step),
            CallOutcome::InUse => {}
            CallOutcome::NotRendered(error) if calling.kind() != CallKind::Create => {
                self.not_replaced(&calling.call.action, error, step);
            }
            CallOutcome::NotRendered(error) => {
                let rejected = Rejected {
                    error: error.clone(),
                    is_for_all: false,
                };
                self.reject(&rejected, &calling, step);
            }
            outcome => self.succeeded(&calling, outcome, step),
        }
        let trigger = match completed.outcome {
            CallOutcome::NameConflict => Trigger::NameConflict,
            CallOutcome::Failed(_) | CallOutcome::NotRendered(_) => Trigger::Any,
            // The cache shows it already; the watch may report nothing more of it.
            _ => Trigger::CacheChanged,
        };
        self.advance(step, trigger);
    }

    /// Reports what a call has brought about, in the order in which it happened.
    fn report_outcome(
        &mut self,
        calling: &mut Calling,
        completed: &Completed,
        step: &mut Step<'_>,
    ) {
        if let Action::DeleteJob { uid, cause, .. } = &calling.call.action {
            // Without a response, it may have been carried out.
            let is_ours = match &completed.outcome {
                CallOutcome::Deleted { is_first } => *is_first,
                CallOutcome::Failed(error) => calling.has_lost && error.is_ambiguous(),
                // So may an attempt before this one.
                _ => calling.has_lost && calling.after.is_some(),
            };
            if is_ours {
                Track::deleted(&mut self.track, uid, cause.clone(), step);
            }
            if calling.has_lost {
                Track::gone(&mut self.track, uid, None, step);
            }
        }
        if let Some(gone) = &completed.gone {
            self.operation.iter_mut().for_each(|it| it.lose(&gone.uid));
            Track::gone(&mut self.track, &gone.uid, None, step);
        }
        match (calling.start.take(), &completed.outcome) {
            (Some(start), CallOutcome::Created(uid, _)) => {
                Track::created(&mut self.track, uid, *start, step);
                let lookup = step.context.cache.lookup(step.key);
                if !matches!(lookup, Lookup::Instance(instance) if instance.uid() == uid) {
                    // The watch has already shown its deletion; no further event of it follows.
                    Track::gone(&mut self.track, uid, None, step);
                } else if step.is_draining
                    && let Some(track) = &mut self.track
                {
                    track.unfollow("replica_ended", step);
                }
            }
            (Some(mut start), CallOutcome::Failed(error)) => {
                let is_first = self
                    .operation
                    .as_ref()
                    .is_some_and(|it| it.disagreements == 0);
                if let Some((result, reason)) = end_without_job(error, is_first) {
                    let mut event = step.event(None, LifecycleKind::NotCreated);
                    start.leave(None, event.at);
                    event.start_ended = Some(start.end(result, reason.into(), event.at));
                    step.report(event);
                }
            }
            _ => {}
        }
    }

    fn succeeded(&mut self, calling: &Calling, outcome: &CallOutcome, step: &mut Step<'_>) {
        let now = step.context.now;
        let Some(operation) = &mut self.operation else {
            return;
        };
        let action = &calling.call.action;
        let shown = operation.compare(calling, outcome, &self.memory, step);
        match (action, outcome) {
            // Kubernetes has returned 404: there is nothing to stop or to label for earlier
            // requests, or the Job to delete is already gone.
            (Action::ReadJob { .. }, CallOutcome::Absent | CallOutcome::NameConflict) => {
                operation.orphans.known = std::mem::take(&mut operation.orphans.before_read);
                if operation.stops().any(|stop| stop.number <= calling.step) {
                    self.memory.stopped(None);
                }
                self.nothing_to_change(calling, step);
            }
            // It is unknown whether the deletion of the other Job was carried out, and whether this
            // Job is older than the request. So this Job is stopped as well.
            (Action::ReadJob { .. }, CallOutcome::Found(uid)) => {
                operation.forget_deletions_sent(Some(uid));
                // The cache knows that this Job is gone: the API server that was asked lags behind, or went back.
                if shown.as_ref() != Some(uid) && !operation.waiters.is_empty() {
                    operation.read_again(calling, None, now);
                }
            }
            (Action::DeletePod { job, pod, .. }, CallOutcome::Done) => {
                operation.orphan_deleted(calling);
                let kind = LifecycleKind::OrphanDeleted { pod: pod.clone() };
                step.report(step.event(Some(job), kind));
            }
            // A finalizer may keep it for a moment.
            (Action::ForceDeletePod { job, pod, uid }, CallOutcome::Done) => {
                operation.call = CallState::Retrying(Retry::force_deletion(now));
                if self.memory.force_deleted(uid) {
                    let kind = LifecycleKind::PodForceDeleted { pod: pod.clone() };
                    step.report(step.event(Some(job), kind));
                }
            }
            (Action::DeleteJob { uid, cause, .. }, _) => {
                operation.lose(uid);
                if matches!(cause, StopCause::Requested(_) | StopCause::Outdated(_)) {
                    self.memory.stopped(Some(uid));
                }
                self.stopped(uid, calling, outcome, step);
            }
            (Action::LabelPod { waiters, pod, .. }, CallOutcome::Done) => {
                operation.merge_more();
                let labelled = operation.version_since(pod, waiters, step.context.cache);
                let response = labelled.map_or(Response::Done, Response::Labelled);
                self.respond_all(&response, step, |it| has(waiters, it));
            }
            _ => {}
        }
    }

    /// What the requests get that this deletion was for.
    fn stopped(
        &mut self,
        uid: &Uid,
        calling: &Calling,
        outcome: &CallOutcome,
        step: &mut Step<'_>,
    ) {
        let is_stopped = |waiter: &Waiter| waiter.is_stopped_by(uid, calling.step);
        // Otherwise there was nothing left to stop at that time.
        let is_deleted = matches!(outcome, CallOutcome::Deleted { .. });
        if !is_deleted && calling.after.is_none() {
            let error = Error::PreconditionFailed(step.key.clone());
            self.respond_all(&Response::Failed(error), step, |waiter| {
                waiter.expectation.is_precondition() && is_stopped(waiter)
            });
        }
        if let Some(operation) = &mut self.operation {
            operation.start_replacements(Some(uid), step.context.now, is_stopped);
            if is_deleted {
                operation.wait_for_end(uid, calling.step);
            }
        }
        self.respond_all(&Response::Done, step, is_stopped);
    }

    /// A read has found nothing to stop or to label.
    fn nothing_to_change(&mut self, calling: &Calling, step: &mut Step<'_>) {
        self.end_queued(calling.step, step);
        let key = step.key;
        let is_sent = |waiter: &Waiter| {
            matches!(waiter.state, WaitState::Sent(_)) && waiter.number <= calling.step
        };
        if let Some(operation) = &mut self.operation {
            operation.start_replacements(None, step.context.now, |waiter| {
                let is_free =
                    waiter.number <= calling.step && !waiter.expectation.is_precondition();
                is_free || is_sent(waiter)
            });
        }
        self.respond_all(&Response::Done, step, is_sent);
        for (error, is_conditional) in [
            (Error::NoInstance(key.clone()), false),
            (Error::PreconditionFailed(key.clone()), true),
        ] {
            self.respond_all(&Response::Failed(error), step, |waiter| {
                waiter.want.is_change()
                    && waiter.number <= calling.step
                    && waiter.expectation.is_precondition() == is_conditional
            });
        }
    }

    fn failed(&mut self, calling: &Calling, error: &kube::Error, step: &mut Step<'_>) {
        let Some(operation) = &mut self.operation else {
            return;
        };
        if error.is_ambiguous() {
            operation.may_have_been_done(calling);
        } else {
            // It was not carried out.
            operation.forget_deletions_sent(None);
            if let Action::DeleteJob { uid, .. } = &calling.call.action {
                operation.set_replaced(uid, false);
            }
        }
        if let (Class::Conflict, Action::LabelPod { version, .. }) =
            (error.class(), &calling.call.action)
        {
            operation.outdated.clone_from(version);
        }
        let now = step.context.now;
        if operation.is_conditional(calling)
            && matches!(error.class(), Class::NotFound | Class::Conflict)
        {
            // The pod has changed since the precondition was held against it.
            operation.read_again(calling, error.retry_after(), now);
        } else if let Some(rejected) = operation.failed(calling, error, now) {
            self.reject(&rejected, calling, step);
        }
    }

    fn reject(&mut self, rejected: &Rejected, calling: &Calling, step: &mut Step<'_>) {
        let response = Response::Failed(rejected.error.clone());
        self.respond_all(&response, step, |waiter| rejected.includes(waiter, calling));
    }
}

/// An error, and which waiters of an operation get it.
#[derive(Clone, Debug)]
struct Rejected {
    error: Error,
    /// Whether all waiters that need a call of this kind get it, or only those that would send the
    /// same call. Others continue.
    is_for_all: bool,
}

impl Rejected {
    /// Whether this waiter gets the error of this call.
    #[must_use]
    fn includes(&self, waiter: &Waiter, calling: &Calling) -> bool {
        let would_send_it = match &calling.call.action {
            Action::CreateJob(new) => waiter.want.variables() == Some(&new.variables),
            Action::LabelPod { waiters, .. } => has(waiters, waiter),
            _ => true,
        };
        waiter.needs(calling.kind()) && (self.is_for_all || would_send_it)
    }
}

impl Operation {
    /// Processes the failure of this call: sets the next call state, and returns which waiters get
    /// which error. None gets one if the call is retried, or the Job is read.
    fn failed(&mut self, calling: &Calling, error: &kube::Error, now: Instant) -> Option<Rejected> {
        let kind = calling.kind();
        let wished = error.retry_after();
        let message = || error.user_message().into();
        let mut same = |error| {
            // Only the change that was rejected gets the error.
            if let Action::LabelPod { waiters, .. } = &calling.call.action
                && waiters.len() > 1
            {
                self.merge_less(waiters.len());
                return None;
            }
            Some(Rejected {
                error,
                is_for_all: false,
            })
        };
        match (error.class(), kind) {
            (_, kind) if kind.is_looked_at_again() => None,
            // 409 on create: another replica was faster, or the response to an earlier attempt was lost.
            // The Job is read, and its waiters join it. What is to be deleted may be gone already.
            (Class::AlreadyExists, CallKind::Create)
            | (Class::Conflict, CallKind::Delete)
            | (Class::NotFound | Class::Conflict, CallKind::ForceDelete) => {
                self.read_again(calling, wished, now);
                None
            }
            (Class::QuotaExceeded, CallKind::Create) => {
                self.quota_exceeded(calling, message(), wished, now)
            }
            // No request waits for this call, so there is time.
            (_, CallKind::ForceDelete) => {
                self.call = CallState::Retrying(Retry::force_deletion(now));
                None
            }
            (Class::NotFound, CallKind::Create) => Some(Rejected {
                error: Error::NamespaceMissing,
                is_for_all: true,
            }),
            // A quota that concurrent starts change; or the pod was changed or replaced, and the cache
            // will show that.
            (Class::Conflict, CallKind::Create | CallKind::DeletePod)
            | (Class::NotFound | Class::Conflict, CallKind::Label) => {
                self.retry_call(calling, kind, None, None, wished, now)
            }
            (Class::NotFound, CallKind::DeletePod) => {
                self.orphan_deleted(calling);
                None
            }
            (Class::Refused | Class::QuotaExceeded, _) => same(Error::Refused(message())),
            (Class::Invalid, CallKind::Create) => same(Error::TemplateInvalid(message())),
            (Class::Invalid, CallKind::Label) => same(Error::ValueInvalid(message())),
            // A missing permission counts from when it was reported.
            (Class::Forbidden, _) => {
                let (grace, reported) = (Some((Graced::Right, now)), Some(Error::NotPermitted));
                self.retry_call(calling, kind, grace, reported, wished, now)
            }
            // A failed connection counts from when it was tried, since that alone may take seconds.
            (Class::Unavailable | Class::Unauthorized, _) if error.connect_failed() => {
                let grace = Some((Graced::Connection, calling.since));
                self.retry_call(calling, kind, grace, Some(Error::UNAVAILABLE), wished, now)
            }
            (Class::Invalid | Class::Unsendable, _) => same(Error::Internal),
            // Kubernetes is overloaded or failing, or its response means nothing here.
            _ => {
                let reported = Some(outage(error));
                self.retry_call(calling, kind, None, reported, wished, now)
            }
        }
    }

    /// A quota on Jobs is used up. Kubernetes responds so for a name that exists, too: then there is a Job
    /// to join. A Job that is gone frees it up to 70 ms later.
    fn quota_exceeded(
        &mut self,
        calling: &Calling,
        message: Arc<str>,
        wished: Option<Duration>,
        now: Instant,
    ) -> Option<Rejected> {
        if self.disagreements == 0 {
            self.read_again(calling, wished, now);
            return None;
        }
        let reported = Some(Error::QuotaExceeded(message));
        self.retry_call(calling, CallKind::Create, None, reported, wished, now)
    }

    /// The pod that this call was to delete is gone, or will be. The watch may show that late.
    fn orphan_deleted(&mut self, calling: &Calling) {
        if let Action::DeletePod { uid, .. } = &calling.call.action {
            self.orphans.deleted.push(uid.clone());
        }
    }

    /// Kubernetes and the cache contradict each other: reads the Job, without delay only the first
    /// times. So a lasting contradiction causes no storm of calls.
    fn read_again(&mut self, calling: &Calling, wished: Option<Duration>, now: Instant) {
        self.disagreements = self.disagreements.saturating_add(1);
        if self.disagreements <= DISAGREEMENTS_AT_ONCE {
            self.call = CallState::MustRead;
        } else {
            // Without a grace it is never given up.
            let kind = CallKind::Read;
            self.retry_call(calling, kind, None, None, wished, now);
        }
    }

    /// A read has ended: the cache is as fresh as can be in this step, for those who came before it. Whoever
    /// has a precondition waits for the next one if it failed.
    fn was_read(&mut self, calling: &Calling, outcome: &CallOutcome, step: u64) {
        let has_failed = matches!(outcome, CallOutcome::Failed(_));
        if has_failed {
            self.trust(Trust::Unread, |waiter| {
                waiter.number <= calling.step && !waiter.expectation.is_precondition()
            });
            return;
        }
        self.trust(Trust::Cache, |waiter| waiter.number <= calling.step);
        let waiters = self.waiters.iter_mut();
        for waiter in waiters.filter(|waiter| waiter.number <= calling.step) {
            waiter.read_at = Some(step);
        }
    }

    /// Whether this call changes labels for a waiter with a precondition.
    fn is_conditional(&self, calling: &Calling) -> bool {
        let Action::LabelPod { waiters, .. } = &calling.call.action else {
            return false;
        };
        let mut of_call = self.waiters.iter().filter(|it| has(waiters, it));
        of_call.any(|it| it.expectation.is_precondition())
    }

    /// Which state the labels of this pod have, for the only waiter of a call that knew the one before.
    fn version_since(&self, pod: &str, waiters: &[u64], cache: &Cache) -> Option<InstanceVersion> {
        let mut of_call = self.waiters.iter().filter(|it| has(waiters, it));
        of_call.find(|it| it.expectation.is_precondition())?;
        let pod = cache.pods.get(pod)?;
        Some(InstanceVersion {
            uid: pod.owner_uid.clone()?,
            fingerprint: Some(pod.fingerprint),
        })
    }

    /// The response to this call was lost: its change may have been made.
    fn may_have_been_done(&mut self, calling: &Calling) {
        for waiter in &mut self.waiters {
            waiter.may_be_done |= match &calling.call.action {
                Action::LabelPod { waiters, .. } => has(waiters, waiter),
                Action::DeleteJob { uid, .. } => waiter.is_stopped_by(uid, calling.step),
                _ => false,
            };
        }
    }

    /// Compares the result of a call with what the cache shows since; returns the Job that it shows.
    fn compare(
        &mut self,
        calling: &Calling,
        outcome: &CallOutcome,
        memory: &Memory,
        step: &Step<'_>,
    ) -> Option<Uid> {
        let shown = match step.context.cache.lookup(step.key) {
            Lookup::Instance(shown) => Some(shown),
            _ => None,
        };
        self.note_deletion(calling, outcome, shown.as_deref(), step);
        let shown = shown?;
        // What the cache does not show, Kubernetes may say again and again.
        if self.is_unseen(calling, outcome, &shown, memory) {
            self.pause_unseen(calling, step.context.now);
        } else if calling.kind() != CallKind::Read {
            self.disagreements = 0;
        }
        Some(shown.uid().clone())
    }

    /// Whether the cache does not show what this call has changed or read, since it has a newer version of
    /// the object: versions went back, and no list has followed. Then the same call would be due again at once.
    fn is_unseen(
        &self,
        calling: &Calling,
        outcome: &CallOutcome,
        shown: &Instance,
        memory: &Memory,
    ) -> bool {
        match (&calling.call.action, outcome) {
            (Action::DeleteJob { uid, .. }, CallOutcome::Deleted { .. }) => {
                shown.uid() == uid && !shown.job.metadata.is_deleting()
            }
            (Action::LabelPod { uid, changes, .. }, CallOutcome::Done) => {
                let pod = shown.pod.as_ref();
                let pod = pod.filter(|pod| pod.metadata.uid == *uid);
                let is_old = |version| self.outdated.as_ref() == Some(version);
                pod.is_some_and(|pod| {
                    let is_due = !changes.is_empty() || is_old(&pod.metadata.resource_version);
                    is_due && memory.inheritance(shown).is_some()
                })
            }
            _ => false,
        }
    }

    /// The cache does not show what this call has changed: a next one like it is made after a pause.
    fn pause_unseen(&mut self, calling: &Calling, now: Instant) {
        self.disagreements = self.disagreements.saturating_add(1);
        match calling.kind() {
            CallKind::ForceDelete => self.call = CallState::Retrying(Retry::force_deletion(now)),
            kind if kind.is_looked_at_again() => {}
            // Without a grace it is never given up.
            kind => drop(self.retry_call(calling, kind, None, None, None, now)),
        }
    }

    /// Retries a call of this kind: until [`GRACE`] expires, if `grace` is given, with the time
    /// from which it counts unless it is already running. `reported` is what its waiters get then, and at
    /// their deadline.
    fn retry_call(
        &mut self,
        calling: &Calling,
        kind: CallKind,
        grace: Option<(Graced, Instant)>,
        reported: Option<Error>,
        wished: Option<Duration>,
        now: Instant,
    ) -> Option<Rejected> {
        let graced = |grace: Option<(Graced, Instant)>| grace.map(|(of, _)| of);
        let before = calling.after.as_ref();
        let before = before.filter(|retry| graced(retry.grace) == graced(grace));
        let grace = before.map_or(grace, |retry| retry.grace);
        let contradicted = self.disagreements.saturating_sub(DISAGREEMENTS_AT_ONCE + 1);
        let tries = before.map_or(0, |retry| retry.tries).max(contradicted);
        let mut at = now + pause(tries, wished);
        if let (Some((_, since)), Some(error)) = (grace, &reported) {
            let end = since + GRACE;
            if now >= end {
                return Some(Rejected {
                    error: error.clone(),
                    is_for_all: true,
                });
            }
            at = at.min(end);
        }
        self.call = CallState::Retrying(Retry {
            kind,
            at,
            error: reported,
            tries: tries.saturating_add(1),
            grace,
        });
        None
    }
}

/// The error for callers while Kubernetes does not carry out their call.
fn outage(error: &kube::Error) -> Error {
    Error::Unavailable {
        retry_after: error.retry_after().unwrap_or(PAUSE_MAX),
        said: error.said_of_outage().map(Into::into),
    }
}

/// The pause after a failure, by the number of earlier ones and the wish of the API server.
fn pause(tries: u32, wished: Option<Duration>) -> Duration {
    let pause = PAUSE.saturating_mul(1 << tries.min(8)).min(PAUSE_MAX);
    pause.max(wished.unwrap_or_default().min(RETRY_AFTER_MAX))
}

/// The result and the reason of a start without a created Job, as far as known. `None` if the call
/// is retried or another caller's Job exists. `is_first`: nothing of this operation has failed before.
fn end_without_job(error: &kube::Error, is_first: bool) -> Option<(&'static str, &'static str)> {
    match error.class() {
        // It is retried, but the operator is to know.
        Class::QuotaExceeded if is_first => Some(("denied", "quota")),
        Class::Refused => Some(("denied", "refused")),
        Class::Invalid => Some(("failed", "invalid")),
        // A namespace that does not exist.
        Class::NotFound => Some(("failed", "not_found")),
        Class::Unsendable => Some(("failed", "unsendable")),
        // If it was created, its start is not followed: another replica may have created it.
        Class::Unavailable if error.is_ambiguous() => Some(("unknown", "answer_lost")),
        Class::Forbidden
        | Class::AlreadyExists
        | Class::Conflict
        | Class::QuotaExceeded
        | Class::Expired
        | Class::Throttled
        | Class::Unauthorized
        | Class::Unavailable => None,
    }
}
