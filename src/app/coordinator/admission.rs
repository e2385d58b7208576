//! The admission of a Job that a cap holds for: by whom and when it is admitted or refused.
//!
//! Pure. Whether there is a place is computed in [`crate::app::admissions`]; here follows what is done. The replica
//! that has created the Job decides soon, and refuses it if that is not known in time, which is always safe. Of a Job
//! that stays undecided, since its creator has stopped or its response was lost, any replica takes care. The API
//! server lets one decision pass; whoever loses looks at the cache again. Where a list has brought the Job, its
//! creator asks once what was there before it.

use super::calls;
use super::context::{Effect, Step};
use super::operation::{Calling, Operation, Waiter, Want};
use super::record::Record;
use super::resolve::{Observed, State};
use super::retry::CallKind;
use super::start_queue::{Places, Turn, Wish};
use super::undecided::{Undecided, awaited_from};
use crate::app::admissions::{Admission, Refusal};
use crate::app::api_call::{Action, ApiCall, CallOutcome, StopCause};
use crate::app::error::Error;
use crate::app::queue::Lane;
use crate::app::request::Response;
use crate::kube::Class;
use crate::model::job::is_undecided;
use std::sync::Arc;
use std::time::Instant;

impl Record {
    /// Notes whether the Job waits for its admission.
    pub(super) fn note_undecided(&mut self, observed: &Observed, step: &Step<'_>) {
        let instance = observed.instance.as_deref();
        let job = instance.map(|instance| &instance.job);
        let job = job.filter(|job| is_undecided(job) && !job.metadata.is_deleting());
        self.undecided = match (job, self.undecided.take()) {
            (Some(job), Some(known)) if known.uid == job.metadata.uid => Some(known),
            (Some(job), _) => {
                let uid = job.metadata.uid.clone();
                Some(Box::new(Undecided::new(uid, None, step.context.now)))
            }
            (None, _) => None,
        };
    }

    /// Until when the response to requests for the instance waits for the decision, at most.
    pub(super) fn admission_awaited_until(&self) -> Option<Instant> {
        if let Some(own) = self.undecided.as_ref().filter(|it| it.is_own) {
            return Some(own.awaited_until());
        }
        let calling = self.operation.as_ref().and_then(|it| it.calling())?;
        match &calling.call.action {
            Action::CreateJob(new) if !new.settings.caps.is_empty() => {
                Some(awaited_from(calling.since))
            }
            _ => None,
        }
    }

    /// Begins the call that decides on the Job, if that is due.
    pub(super) fn decide_admission(&mut self, observed: &Observed, step: &mut Step<'_>) {
        let now = step.context.now;
        let Some(undecided) = &mut self.undecided else {
            return;
        };
        let Some(instance) = observed.instance.as_deref() else {
            return;
        };
        let may_call = match &self.operation {
            Some(operation) => operation.calling().is_none() && operation.stops().next().is_none(),
            None => step.may_work,
        };
        if !may_call || now < undecided.from || now < undecided.pause {
            return;
        }
        let uid = undecided.uid.clone();
        let refuse = |refusal| Action::DeleteJob {
            uid: uid.clone(),
            version: Some(instance.job.metadata.resource_version.clone()),
            cause: StopCause::NoPlace(refusal),
            new: None,
        };
        let is_late = now >= undecided.until;
        let action = match step.context.cache.admissions().of(&uid) {
            _ if undecided.is_forbidden && is_late => refuse(Refusal::NotPermitted),
            Admission::Admit => Action::AdmitJob { uid: uid.clone() },
            Admission::Refuse(full) => refuse(Refusal::Full(full)),
            Admission::Wait | Admission::WaitWithoutPlace if is_late => refuse(Refusal::Undecided),
            Admission::WaitWithoutPlace => match undecided.created.take() {
                Some(version) => Action::PlaceJob {
                    uid: uid.clone(),
                    version,
                },
                None => return,
            },
            Admission::Wait | Admission::Decided => return,
        };
        let refusal = match &action {
            Action::DeleteJob {
                cause: StopCause::NoPlace(refusal),
                ..
            } => Some(*refusal),
            _ => None,
        };
        let operation = self.operation.get_or_insert_default();
        operation.set_refusal(&uid, refusal);
        let is_retry = undecided.tries > 0;
        let call = Arc::new(ApiCall {
            key: step.key.clone(),
            lane: Lane::Start,
            caller: None,
            action,
            is_retry,
        });
        self.begin(Arc::clone(&call), observed, step);
        step.out.push(Effect::Call(call));
    }

    /// Whether the next start has a place; those that do not wait for one are answered. `is_changed` says that
    /// some were.
    pub(super) fn ask_for_place(&mut self, step: &mut Step<'_>, is_changed: &mut bool) -> bool {
        let Some(operation) = &self.operation else {
            return true;
        };
        let Some(start) = calls::start(step.key, operation, step.context) else {
            return true;
        };
        if !step.queue.is_needed(&start.claim) {
            return true;
        }
        let places = Places {
            admissions: &step.context.cache.admissions().state(),
            starting: step.starting,
        };
        let turn = step.queue.ask(step.key, start, places);
        match turn {
            Turn::Begin => {
                step.queue.begun(step.key, None);
                return true;
            }
            Turn::Wait => {}
            Turn::Refused(refusal) => {
                let before = operation.waiters.len();
                let response = Response::Failed(Error::NoPlace(refusal));
                self.respond_all(&response, step, |waiter| {
                    waiter.want.variables().is_some() && !waiter.is_patient()
                });
                let after = self.operation.as_ref().map_or(0, |it| it.waiters.len());
                *is_changed = after < before;
            }
        }
        false
    }

    /// There is no Job: stops that came up to that number end what waited for a place before them.
    pub(super) fn end_queued(&mut self, until: u64, step: &mut Step<'_>) {
        let is_stop = |waiter: &Waiter| {
            let is_free = !waiter.expectation.is_precondition();
            matches!(waiter.want, Want::Stop { .. }) && is_free && waiter.number <= until
        };
        let operation = self.operation.as_deref();
        let operation = operation.filter(|_| step.queue.waits(step.key));
        let stops = operation.map(|it| it.waiters.iter().filter(|it| is_stop(it)));
        let Some(last) = stops.and_then(|it| it.map(|stop| stop.number).max()) else {
            return;
        };
        let waits = |waiter: &Waiter| {
            waiter.want.variables().is_some() && waiter.needs_call() && waiter.number < last
        };
        let mut waiters = operation.iter().flat_map(|it| &it.waiters);
        if waiters.any(waits) {
            self.respond_all(&Response::Failed(Error::Stopped), step, waits);
            self.respond_all(&Response::Done, step, is_stop);
        }
    }

    /// Keeps the queue of starts and the count of those in progress in step with this record.
    pub(super) fn settle_start(&mut self, observed: &Observed, step: &mut Step<'_>) {
        let operation = self.operation.as_deref();
        let is_creating = operation.is_some_and(|it| it.is_calling(CallKind::Create));
        let is_followed = self.track.as_ref().is_some_and(|it| it.is_running());
        let goes_on = is_followed && observed.state == State::Starting;
        self.is_starting = is_creating || self.is_starting && goes_on;
        let is_undecided = self.undecided.as_ref().is_some_and(|it| it.is_own);
        let waits = |operation: &Operation| operation.starts().any(|(it, _)| it.needs_call());
        let now = step.context.now;
        let can_begin = |operation: &Operation| {
            let is_due = calls::due(operation, observed, false) == Some(CallKind::Create);
            is_due && operation.pauses_until().is_none_or(|at| at <= now)
        };
        // Also while the one that it replaces may be gone already.
        let is_first = operation.is_some_and(Operation::is_replacing);
        let wish = match operation.filter(|it| waits(it) || is_first) {
            _ if is_creating || is_undecided => Wish::Begun,
            Some(operation) if can_begin(operation) => Wish::Start,
            Some(_) => Wish::Pause,
            None => Wish::Nothing,
        };
        if let (Wish::Start | Wish::Pause, Some(operation)) = (wish, operation)
            && is_first
            && let Some(start) = calls::start(step.key, operation, step.context)
        {
            step.queue.reserve(step.key, start);
        }
        step.queue.settle(step.key, wish);
    }

    /// A call has ended: it has created a Job that waits for its admission, perhaps, or was to decide on one.
    pub(super) fn admission_completed(
        &mut self,
        calling: &Calling,
        outcome: &CallOutcome,
        step: &mut Step<'_>,
    ) {
        let now = step.context.now;
        match (&calling.call.action, outcome) {
            (Action::CreateJob(new), CallOutcome::Created(uid, version))
                if !new.settings.caps.is_empty() =>
            {
                step.queue.begun(step.key, Some(uid.clone()));
                let undecided = Undecided::new(uid.clone(), Some(version.clone()), now);
                self.undecided = Some(Box::new(undecided));
            }
            _ if matches!(calling.kind(), CallKind::Admit | CallKind::Refuse) => {
                if let Some(undecided) = &mut self.undecided {
                    undecided.tried(now);
                    if let CallOutcome::Failed(error) = outcome {
                        if let Some(operation) = &mut self.operation {
                            operation.set_refusal(&undecided.uid, None);
                        }
                        undecided.is_forbidden |=
                            calling.kind() == CallKind::Admit && error.class() == Class::Forbidden;
                    }
                }
            }
            _ => {}
        }
    }
}
