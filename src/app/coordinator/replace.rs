//! The replacement of an instance: a stop that becomes a start when its deletion is accepted.
//!
//! Pure. A request for it is [`Want::Replace`] until then, and a start with [`Intent::Replace`] until a Job was
//! created for it: both outlive its caller, so that what was stopped is started. Of several that wait together
//! the values of the last one count. Which calls they need is decided in [`super::calls`] as for stops and
//! starts.

use super::calls;
use super::confirm::Trust;
use super::context::Step;
use super::memory::Memory;
use super::operation::{Calling, Operation, WaitState, Waiter, Want};
use super::record::{Record, WRITE_WAIT};
use super::resolve::{Facts, Observed, Resolution, State};
use crate::app::api_call::{Action, CallOutcome, NewJob, Outdated, StopCause};
use crate::app::error::Error;
use crate::app::expectation::{Expectation, Precondition};
use crate::app::request::{Intent, Origin, Replacement, Response};
use crate::app::request_id::RequestId;
use crate::kube::types::{Job, Uid};
use crate::model::{job, revision};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a start in place of a stopped instance is pending when no caller waits for it: pods may take long to
/// end. What then asks for the instance starts it.
const PENDING_LONGEST: Duration = Duration::from_secs(3600);

/// The caller and the request that a restart is logged with.
const ON_CHANGE: &str = "on-change";

/// What a start for this waiter would create, or the error that it would get.
pub(super) fn new_job(
    waiter: &Waiter,
    new: &Replacement,
    memory: &Memory,
    step: &Step<'_>,
) -> Result<NewJob, Error> {
    let by = waiter.by.as_ref().ok_or(Error::Internal)?;
    calls::new_job(step.key, (&new.variables, by, waiter), memory, step.context)
}

impl Waiter {
    /// What a start in place of a stopped instance gets, or waits for.
    pub(super) fn resolve_replacement(
        &self,
        new: &Replacement,
        observed: &Observed,
        facts: &Facts<'_>,
    ) -> Resolution {
        let instance = observed.instance.as_deref();
        let (state, Some(instance)) = (observed.state, instance) else {
            return match observed.state {
                State::NameConflict => {
                    let error = Error::NameTaken(facts.key.clone());
                    Resolution::Respond(Response::Failed(error))
                }
                _ => Resolution::Wait(WaitState::Next),
            };
        };
        let uid = instance.uid();
        if state == State::Deleting || new.stopped.as_ref() == Some(uid) {
            return Resolution::Wait(WaitState::Next);
        }
        let has_values = |new: &Replacement| {
            let known = new.revision.as_deref();
            known.is_some_and(|known| instance.job.values_revision() == Some(known))
        };
        match () {
            // It may be what our call has created.
            () if facts.is_job_unknown => Resolution::Wait(self.state.clone()),
            () if new.is_restart || has_values(new) => Resolution::Join(uid.clone()),
            // Others were faster, with other values.
            () => Resolution::Stop,
        }
    }

    /// Whether what it wants is done even if its caller hangs up.
    pub(super) fn outlives_caller(&self) -> bool {
        match &self.want {
            // Otherwise nothing has happened yet.
            Want::Replace { new, .. } => {
                new.stopped.is_some() || matches!(self.state, WaitState::Sent(_))
            }
            Want::Instance(Intent::Replace(_)) => true,
            want => want.is_change() || self.is_kept,
        }
    }

    /// Whether nothing is left to do for it, since its caller has gone.
    pub(super) fn is_over(&self) -> bool {
        self.handle.is_none() && !self.outlives_caller()
    }

    /// Its caller has gone: whether it goes on.
    pub(super) fn is_left(&mut self, now: Instant) -> bool {
        self.handle = None;
        if self.is_pending() {
            self.deadline = now + PENDING_LONGEST;
        }
        self.outlives_caller()
    }

    /// Whether it starts an instance in place of one that was stopped.
    pub(super) const fn is_pending(&self) -> bool {
        matches!(self.want, Want::Instance(Intent::Replace(_)))
    }

    /// It waits for this Job, like any other start.
    pub(super) fn wait_for(&mut self, uid: &Uid) {
        if let Want::Instance(Intent::Replace(new)) = &self.want {
            self.want = Want::Instance(Intent::Start(new.variables.clone()));
        }
        self.state = WaitState::Ready(uid.clone());
    }

    /// What is there now is to be stopped, too.
    pub(super) fn stop_again(&mut self, now: Instant) {
        if let Want::Instance(Intent::Replace(new)) = &mut self.want {
            self.want = Want::Replace {
                until: self.deadline,
                new: new.clone(),
            };
            self.state = WaitState::New;
            self.deadline = now + WRITE_WAIT;
        }
    }

    /// The deletion of this Job was accepted, or there was none.
    fn start(&mut self, stopped: Option<&Uid>, now: Instant) {
        if let Want::Replace { until, new } = &mut self.want {
            self.deadline = match self.handle {
                Some(_) => *until,
                None => now + PENDING_LONGEST,
            };
            new.stopped = stopped.cloned().or_else(|| new.stopped.take());
            self.want = Want::Instance(Intent::Replace(new.clone()));
            self.state = WaitState::Next;
            // It was for what was there.
            self.expectation = Expectation::None;
        }
    }

    /// It was responded to, at its deadline perhaps: whether it goes on without its caller.
    pub(super) fn goes_on(&mut self, response: &Response, now: Instant) -> bool {
        let is_late = matches!(response, Response::Progress { .. } | Response::Unread(_));
        is_late && self.handle.is_some() && self.is_pending() && self.is_left(now)
    }
}

impl Operation {
    /// The last of those that start an instance in place of another: its values count.
    pub(super) fn replacing(&self) -> Option<&Waiter> {
        let mut waiters = self.waiters.iter().rev();
        waiters.find(|it| it.is_pending())
    }

    /// Whether an instance is started in place of another, whose deletion was sent at least.
    pub(super) fn is_replacing(&self) -> bool {
        let is_sent = |waiter: &Waiter| {
            let is_replace = matches!(waiter.want, Want::Replace { .. });
            is_replace && matches!(waiter.state, WaitState::Sent(_))
        };
        let is_replaced = self.replacing().is_some() || self.waiters.iter().any(is_sent);
        is_replaced || self.new_in_flight().is_some()
    }

    /// What is started in place of the Job that a call in flight deletes.
    pub(super) fn new_in_flight(&self) -> Option<&NewJob> {
        match &self.calling()?.call.action {
            Action::DeleteJob { new, .. } => new.as_deref(),
            _ => None,
        }
    }

    /// What waits for the instance waits for the one in its place.
    pub(super) fn set_replaced(&mut self, uid: &Uid, is_replaced: bool) {
        let mut last = self.last.iter_mut();
        if let Some(last) = last.find(|last| last.uid == *uid) {
            last.is_replaced = is_replaced;
        }
    }

    /// Nothing is left to stop for these: the deletion of this Job was accepted, or there was none.
    pub(super) fn start_replacements(
        &mut self,
        stopped: Option<&Uid>,
        now: Instant,
        these: impl Fn(&Waiter) -> bool,
    ) {
        let plain = self.waiters.iter().filter(|it| these(it));
        let plain = plain.filter(|it| matches!(it.want, Want::Stop { .. }));
        let ended = plain.map(|it| it.number).max().unwrap_or_default();
        for waiter in self.waiters.iter_mut().filter(|it| these(it)) {
            waiter.start(stopped, now);
        }
        // Who stops the instance now does not want what nobody waits for.
        self.waiters
            .retain(|it| !it.is_pending() || it.handle.is_some() || it.number > ended);
        // Values of those before do not count.
        let last = self.replacing().map(|it| it.number);
        self.waiters
            .retain(|it| !it.is_pending() || it.handle.is_some() || Some(it.number) == last);
    }

    /// Those whose replacement cannot be started, each with the error; else the last one, and what it starts.
    pub(super) fn new_of_stops(
        &self,
        may: impl Fn(&Waiter) -> bool,
        memory: &Memory,
        step: &Step<'_>,
    ) -> Result<Option<Box<NewJob>>, Vec<(u64, Response)>> {
        let (mut last, mut rejected) = (None, Vec::new());
        for stop in self.stops() {
            let Want::Replace { new, .. } = &stop.want else {
                continue;
            };
            match new_job(stop, new, memory, step) {
                Ok(new) if may(stop) => last = Some(Box::new(new)),
                Ok(_) => {}
                Err(error) => rejected.push((stop.number, Response::Failed(error))),
            }
        }
        if rejected.is_empty() {
            Ok(last)
        } else {
            Err(rejected)
        }
    }
}

impl Record {
    /// What was to be started in place of an instance cannot be rendered, so nothing was deleted.
    pub(super) fn not_replaced(&mut self, action: &Action, error: &Error, step: &mut Step<'_>) {
        let Action::DeleteJob {
            uid, new: Some(of), ..
        } = action
        else {
            return;
        };
        if let Some(operation) = &mut self.operation {
            operation.set_replaced(uid, false);
            operation.forget_deletions_sent(None);
        }
        let response = Response::Failed(error.clone());
        self.respond_all(&response, step, |waiter| match &waiter.want {
            Want::Replace { new, .. } => new.variables == of.variables,
            _ => false,
        });
    }

    /// What this Job is restarted as, if its values are known and fit.
    pub(super) fn new_of_restart(
        &self,
        job: &Job,
        revisions: &Outdated,
        step: &Step<'_>,
    ) -> Option<NewJob> {
        let now = step.context.now;
        let (template, _, revision) = step.context.catalog.startable(&step.key.app_type).ok()?.1;
        if *revision != revisions.new {
            return None;
        }
        let by = Origin {
            caller: ON_CHANGE.into(),
            owner: job::owner(job).map(Into::into),
            request: RequestId::given(ON_CHANGE.as_bytes()).unwrap_or_default(),
            trace: None,
        };
        let new = Replacement {
            variables: Arc::new(revision::values_of(job, template)?),
            revision: None,
            stopped: None,
            is_restart: true,
        };
        let waiter = own_waiter(by, new.clone(), step.number - 1, now);
        new_job(&waiter, &new, &self.memory, step).ok()
    }

    /// The call that was to stop a Job for its restart has ended: then it is started.
    pub(super) fn restart_goes_on(
        &mut self,
        calling: &Calling,
        outcome: &CallOutcome,
        step: &Step<'_>,
    ) {
        let Action::DeleteJob {
            uid,
            cause: StopCause::Outdated(_),
            new: Some(new),
            ..
        } = &calling.call.action
        else {
            return;
        };
        let stopped = match outcome {
            CallOutcome::Deleted { .. } => Some(uid.clone()),
            // It may have been carried out.
            CallOutcome::Failed(error) if error.is_ambiguous() => None,
            _ => return,
        };
        let (is_known, now) = (stopped.is_some(), step.context.now);
        let new_one = Replacement {
            variables: Arc::clone(&new.variables),
            revision: None,
            stopped,
            is_restart: true,
        };
        let mut waiter = own_waiter(new.by.clone(), new_one, calling.step - 1, now);
        if !is_known {
            // Only after a read that has not failed.
            waiter.trust = Trust::AfterRead(waiter.deadline);
            waiter.expectation = Expectation::Precondition(Precondition::any().into());
        }
        if let Some(operation) = &mut self.operation {
            operation.waiters.push(waiter);
        }
    }
}

/// A start that the coordinator itself makes in place of a Job.
fn own_waiter(by: Origin, new: Replacement, number: u64, now: Instant) -> Waiter {
    Waiter {
        handle: None,
        by: Some(by),
        held: None,
        since: now,
        confirmed: None,
        deadline: now + PENDING_LONGEST,
        trust: Trust::Cache,
        expectation: Expectation::None,
        read_at: None,
        may_be_done: false,
        waits_for_place: true,
        is_kept: false,
        want: Want::Instance(Intent::Replace(Box::new(new))),
        state: WaitState::Next,
        // That of a waiter of the coordinator's own in that step.
        number,
    }
}
