//! What follows from the result of a call: lifecycle events, and responses.
//!
//! Pure. [`super::retry`] decides what a failed call means, and when it is retried.

use super::operation::{CallState, Calling, Purpose, Retry, WaitState, Want};
use super::record::{Record, Step, Trigger};
use super::retry::{Rejected, is_rejected};
use super::track::Track;
use crate::app::api_call::{CallOutcome, Completed};
use crate::app::cache::Lookup;
use crate::app::error::Error;
use crate::app::lifecycle::LifecycleKind;
use crate::app::request::Response;
use crate::kube::types::Uid;
use crate::kube::{self, Class};

impl Record {
    /// The call that was under way has ended.
    pub(super) fn completed(&mut self, completed: Completed, step: &mut Step<'_>) {
        let call = self
            .operation
            .as_mut()
            .map(|it| std::mem::take(&mut it.call));
        let Some(CallState::Calling(calling)) = call else {
            if let (Some(operation), Some(call)) = (&mut self.operation, call) {
                operation.call = call;
            }
            self.changed(completed.gone.as_ref(), step);
            return;
        };
        let is_conflict = matches!(completed.outcome, CallOutcome::NameConflict);
        self.report_outcome(&calling, &completed, step);
        if let CallOutcome::Failed(error) = &completed.outcome {
            self.failed(&calling, error, step);
        } else {
            self.succeeded(&calling, &completed.outcome, step);
        }
        let trigger = if is_conflict {
            Trigger::NameConflict
        } else {
            Trigger::Any
        };
        self.advance(step, trigger);
    }

    /// Reports what a call has brought about, in the order in which it happened.
    fn report_outcome(&mut self, calling: &Calling, completed: &Completed, step: &mut Step<'_>) {
        let now = step.context.now;
        let (track, may_follow, is_draining) = (&mut self.track, step.may_follow, step.is_draining);
        // The watch has already shown the deletion of the created Job; no further event of it
        // follows.
        let lookup = step.context.cache.lookup(step.key);
        let is_there =
            |uid: &Uid| matches!(&lookup, Lookup::Instance(instance) if instance.uid() == uid);
        step.report(|events| {
            let is_first = matches!(completed.outcome, CallOutcome::Deleted { is_first: true });
            if let Purpose::Delete {
                uid,
                cause,
                is_reported: false,
            } = &calling.purpose
                && is_first
            {
                Track::deleted(track, uid, cause.clone(), events);
            }
            if let Some(gone) = &completed.gone {
                Track::gone(track, gone, None, events);
            }
            match (&calling.purpose, &completed.outcome) {
                (Purpose::Create { start, .. }, CallOutcome::Created(uid)) => {
                    let start = (**start).clone();
                    Track::displace(track, events);
                    let created = Track::created(uid, start, may_follow, events);
                    *track = Some(Box::new(created));
                    if !is_there(uid) {
                        Track::gone(track, uid, None, events);
                    } else if is_draining && let Some(track) = track {
                        track.unfollow("replica_ended", events);
                    }
                }
                (Purpose::Create { start, .. }, CallOutcome::Failed(error)) => {
                    if let Some((result, reason)) = end_without_job(error) {
                        let event = events.push(None, LifecycleKind::NotCreated);
                        let mut start = (**start).clone();
                        start.leave(None, now);
                        event.start_ended = Some(start.end(result, reason.into(), now));
                    }
                }
                (Purpose::DeleteStuckJob, CallOutcome::Deleted { is_first: true }) => {
                    if let Some(track) = track {
                        track.stuck(events);
                    }
                }
                _ => {}
            }
        });
    }

    fn succeeded(&mut self, calling: &Calling, outcome: &CallOutcome, step: &mut Step<'_>) {
        let now = step.context.now;
        let Some(operation) = &mut self.operation else {
            return;
        };
        if !matches!(calling.purpose, Purpose::Read) {
            operation.disagreements = 0;
        }
        match (&calling.purpose, outcome) {
            // Kubernetes has returned 404: there is nothing to stop or to label for earlier
            // requests, or the Job to delete is already gone.
            (Purpose::Read, CallOutcome::Absent | CallOutcome::NameConflict) => {
                self.respond_all(&Response::Done, step, |waiter| {
                    matches!(waiter.state, WaitState::Sent(_)) && waiter.number <= calling.step
                });
                let error = Error::NoInstance(step.key.clone());
                self.respond_all(&Response::Failed(error), step, |waiter| {
                    waiter.want.is_change() && waiter.number <= calling.step
                });
            }
            // It is unknown whether the deletion of the other Job was carried out, and whether this
            // Job is older than the request. So this Job is stopped as well.
            (Purpose::Read, CallOutcome::Found(uid)) => operation.forget_deletions_sent(Some(uid)),
            // A finalizer may keep it for a moment.
            (Purpose::ForceDeletePod { job, pod, uid }, CallOutcome::Done) => {
                operation.call = CallState::Retrying(Retry::force_deletion(now));
                if !self.memory.is_force_deleted(uid) {
                    self.memory.force_deleted(uid);
                    let kind = LifecycleKind::PodForceDeleted { pod: pod.clone() };
                    step.report(|events| {
                        events.push(Some(job), kind);
                    });
                }
            }
            (Purpose::Delete { uid, .. }, CallOutcome::Deleted { .. }) => {
                self.deletion_begun(uid, calling.step, step);
            }
            // There was nothing left to stop at that time.
            (
                Purpose::Delete { .. },
                CallOutcome::Absent | CallOutcome::Found(_) | CallOutcome::NameConflict,
            ) => {
                self.respond_all(&Response::Done, step, |waiter| {
                    matches!(waiter.want, Want::Stop { .. }) && waiter.number <= calling.step
                });
            }
            (Purpose::Label(number), CallOutcome::Done) => {
                let number = *number;
                self.respond_all(&Response::Done, step, |it| it.number == number);
            }
            _ => {}
        }
    }

    /// The deletion of this Job has begun: the earlier stop requests are done.
    fn deletion_begun(&mut self, uid: &Uid, number: u64, step: &mut Step<'_>) {
        let Some(operation) = &mut self.operation else {
            return;
        };
        let mut done = Vec::new();
        operation.waiters.retain_mut(|waiter| {
            let Want::Stop { until } = waiter.want else {
                return true;
            };
            if waiter.number > number {
                return true;
            }
            match until {
                // Nothing is left to do for an abandoned request.
                Some(until) if waiter.handle.is_some() => {
                    waiter.want = Want::Gone(uid.clone());
                    waiter.deadline = until;
                    true
                }
                _ => {
                    done.push(waiter.clone());
                    false
                }
            }
        });
        for waiter in done {
            step.respond(&waiter, Response::Done);
        }
    }

    fn failed(&mut self, calling: &Calling, error: &kube::Error, step: &mut Step<'_>) {
        let Some(operation) = &mut self.operation else {
            return;
        };
        if !error.is_ambiguous() {
            // It was not carried out.
            operation.forget_deletions_sent(None);
        }
        let rejected = operation.failed(calling, error, step.context.now);
        let response = match &rejected {
            Rejected::NoWaiter => return,
            Rejected::All(_, error) | Rejected::Same(error) => Response::Failed(error.clone()),
        };
        self.respond_all(&response, step, |waiter| {
            is_rejected(&rejected, calling, waiter)
        });
    }
}

/// The result and the reason of a start without a created Job, as far as known. `None` if the call
/// is retried or another caller's Job exists.
fn end_without_job(error: &kube::Error) -> Option<(&'static str, &'static str)> {
    let class = error.class();
    match class {
        Class::Forbidden { own_right: false } => Some(("denied", class.as_str())),
        // A namespace that does not exist.
        Class::Invalid | Class::NotFound | Class::Protocol => Some(("failed", class.as_str())),
        // If it was created, its start is not followed: another replica may have created it.
        Class::Unavailable if error.is_ambiguous() => Some(("unknown", "answer_lost")),
        Class::Forbidden { own_right: true }
        | Class::AlreadyExists
        | Class::Conflict
        | Class::Expired
        | Class::Throttled { .. }
        | Class::Unauthorized
        | Class::Unavailable => None,
    }
}
