//! What follows from the result of a call: lifecycle events, and responses.
//!
//! Pure. [`super::retry`] decides what a failed call means, and when it is retried.

use super::context::Step;
use super::operation::{CallState, Calling, Retry, WaitState, Want};
use super::record::{Record, Trigger};
use super::track::Track;
use crate::app::api_call::{Action, CallOutcome, Completed};
use crate::app::cache::Lookup;
use crate::app::error::Error;
use crate::app::lifecycle::LifecycleKind;
use crate::app::request::Response;
use crate::kube::{self, Class};

impl Record {
    /// The call that was under way has ended.
    pub(super) fn completed(&mut self, completed: Completed, step: &mut Step<'_>) {
        let call = self
            .operation
            .as_mut()
            .map(|it| std::mem::take(&mut it.call));
        let Some(CallState::Calling(mut calling)) = call else {
            if let (Some(operation), Some(call)) = (&mut self.operation, call) {
                operation.call = call;
            }
            self.changed(completed.gone.as_ref(), Trigger::CacheChanged, step);
            return;
        };
        self.report_outcome(&mut calling, &completed, step);
        match &completed.outcome {
            CallOutcome::Failed(error) => self.failed(&calling, error, step),
            outcome => self.succeeded(&calling, outcome, step),
        }
        let trigger = match completed.outcome {
            CallOutcome::NameConflict => Trigger::NameConflict,
            _ => Trigger::Any,
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
        if let Action::DeleteJob { uid, cause } = &calling.call.action
            && let CallOutcome::Deleted { is_first: true } = completed.outcome
            && !calling.is_reported
        {
            Track::deleted(&mut self.track, uid, cause.clone(), step);
        }
        if let Some(gone) = &completed.gone {
            Track::gone(&mut self.track, gone, None, step);
        }
        match (calling.start.take(), &completed.outcome) {
            (Some(start), CallOutcome::Created(uid)) => {
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
                if let Some((result, reason)) = end_without_job(error) {
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
        if !matches!(action, Action::ReadJob) {
            operation.disagreements = 0;
        }
        match (action, outcome) {
            // Kubernetes has returned 404: there is nothing to stop or to label for earlier
            // requests, or the Job to delete is already gone.
            (Action::ReadJob, CallOutcome::Absent | CallOutcome::NameConflict) => {
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
            (Action::ReadJob, CallOutcome::Found(uid)) => {
                operation.forget_deletions_sent(Some(uid));
            }
            // A finalizer may keep it for a moment.
            (Action::ForceDeletePod { job, pod, uid }, CallOutcome::Done) => {
                operation.call = CallState::Retrying(Retry::force_deletion(now));
                if self.memory.force_deleted(uid) {
                    let kind = LifecycleKind::PodForceDeleted { pod: pod.clone() };
                    step.report(step.event(Some(job), kind));
                }
            }
            (Action::DeleteJob { uid, .. }, _) => {
                // Otherwise there was nothing left to stop at that time.
                if matches!(outcome, CallOutcome::Deleted { .. }) {
                    operation.wait_for_end(uid, calling.step);
                }
                self.respond_all(&Response::Done, step, |waiter| {
                    matches!(waiter.want, Want::Stop { .. }) && waiter.number <= calling.step
                });
            }
            (Action::LabelPod { waiter, .. }, CallOutcome::Done) => {
                self.respond_all(&Response::Done, step, |it| it.number == *waiter);
            }
            _ => {}
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
        let Some(rejected) = operation.failed(calling, error, step.context.now) else {
            return;
        };
        let response = Response::Failed(rejected.error.clone());
        self.respond_all(&response, step, |waiter| rejected.includes(waiter, calling));
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
