//! [`Record`]: everything that this replica holds of one name beyond the cache.
//!
//! Pure. Each input observes the state of the name once, reports changes, resolves every waiter
//! from one table, and makes the next call if one is due:
//!
//! ```text
//! Absent ──Create──▶ Starting ──▶ Ready            (waiters get 200)
//!   ▲   │exists         └──────▶ Failed            (waiters get the report; replaced after its delay)
//!   │   └─▶ Read ─▶ ours: join · being deleted: wait · not ours: name conflict
//!   └─ gone ── Deleting ◀── Delete ── any of them  (its waiters get "stopped")
//! ```

use super::calls;
use super::confirm::Trust;
use super::context::{Context, Effect, Step};
use super::memory::Memory;
use super::operation::{CallState, Calling, Last, Operation, Standing, WaitState, Waiter, Want};
use super::resolve::{self, Facts, Observed, Resolution, State};
use super::retry::CallKind;
use super::tally::Tally;
use super::track::Track;
use super::undecided::Undecided;
use crate::app::api_call::{Action, ApiCall, StopCause};
use crate::app::cache::{Instance, Lookup};
use crate::app::expectation::Expectation;
use crate::app::lifecycle::{LifecycleKind, OwnStart};
use crate::app::request::{Intent, Origin, Response};
use crate::app::request_handle::RequestHandle;
use crate::app::timings::Timings;
use crate::kube::types::{Job, Uid};
use crate::model::job::is_undecided;
use crate::model::names::InstanceKey;
use crate::model::status::{self, InstanceStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Time limit of a change, from when it can be made. The wait of a request bounds the wait for pods
/// and ends, not the write itself.
pub const WRITE_WAIT: Duration = Duration::from_secs(10);

/// The state of one name.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    pub(super) operation: Option<Box<Operation>>,
    pub(super) memory: Memory,
    pub(super) track: Option<Box<Track>>,
    /// Its Job waits for its admission.
    pub(super) undecided: Option<Box<Undecided>>,
    /// Whether it is a start of this replica that is in progress.
    pub(super) is_starting: bool,
    /// When the record must be advanced without an input.
    pub(super) wake: Option<Instant>,
}

/// Why a record is advanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trigger {
    /// A request, a failed call, or time.
    Any,
    /// The cache has changed: the watch has reported it, or a call has succeeded.
    CacheChanged,
    /// The first list of a replica that has just started.
    Listed,
    /// A read has found that another instance has the name; the cache may not show that.
    NameConflict,
    /// The service shuts down; changes can be made until then.
    Drain(Instant),
}

impl Record {
    /// Its counts.
    #[must_use]
    pub(super) fn tally(&self, key: &InstanceKey) -> Tally {
        let is_followed = self.track.as_ref().is_some_and(|track| track.is_own());
        let holds_anything = !self.is_empty();
        Tally {
            records: holds_anything.into(),
            name_bytes: if holds_anything {
                key.name.as_str().len()
            } else {
                0
            },
            in_work: self.operation.is_some().into(),
            gone: self.memory.gone_at().is_some().into(),
            lost: self.memory.lost_at().is_some().into(),
            followed: is_followed.into(),
            starting: self.is_starting.into(),
            label_growth: self.operation.as_ref().map_or(0, |it| it.label_growth()),
        }
    }

    /// Whether it holds nothing.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.operation.is_none()
            && self.memory.is_empty()
            && self.track.is_none()
            && self.undecided.is_none()
    }

    /// Adds a waiter.
    pub(super) fn join(&mut self, waiter: Waiter, step: &mut Step<'_>) {
        if let Some(by) = waiter.by.as_ref().filter(|_| waiter.want.is_for_instance()) {
            self.join_start(by);
        }
        self.operation.get_or_insert_default().waiters.push(waiter);
        self.advance(step, Trigger::Any);
    }

    /// Links the span of our own start to that of another request for it.
    fn join_start(&mut self, by: &Origin) {
        let call = self.operation.as_mut().map(|operation| &mut operation.call);
        if let Some(CallState::Calling(calling)) = call
            && let Some(start) = &mut calling.start
        {
            start.join(by);
        } else if let Some(track) = &mut self.track {
            track.join(by);
        }
    }

    /// A caller hung up. Its start continues, and so does a requested stop or label: only the
    /// response is dropped.
    pub(super) fn leave(&mut self, handle: RequestHandle, step: &mut Step<'_>) {
        if let Some(operation) = &mut self.operation {
            operation.waiters.retain_mut(|waiter| {
                if waiter.handle != Some(handle) {
                    return true;
                }
                waiter.is_left(step.context.now)
            });
        }
        self.advance(step, Trigger::Any);
    }

    /// The cache has changed. `gone` are removed Jobs of this name.
    pub(super) fn changed(&mut self, gone: Option<&Uid>, trigger: Trigger, step: &mut Step<'_>) {
        if let Some(uid) = gone {
            self.job_gone(uid, step);
        }
        self.advance(step, trigger);
    }

    /// This Job has ended. If the cache has lost it since, its end is noted from here: a Job may end and
    /// expire between two looks at the cache.
    pub(super) fn ended(&mut self, job: &Job, step: &mut Step<'_>) {
        let (cache, uid) = (step.context.cache, &job.metadata.uid);
        let is_there = matches!(cache.lookup(step.key), Lookup::Instance(it) if it.uid() == uid);
        let is_known = is_there || self.memory.was_disrupted(uid);
        if is_known || status::ended_before_deletion(job, None).is_none() {
            return;
        }
        let mut gone = job.clone();
        // If its deletion was not seen, it was later than the end. So was that of pods by its deletion.
        let deleted = &mut gone.metadata.deletion_timestamp;
        *deleted = deleted.or_else(|| status::job_ended_at(job));
        let mut instance = Box::new(cache.instance(Arc::new(gone)));
        let Some(end) = status::job_ended(&instance.job, instance.pod.as_deref()) else {
            return;
        };
        instance.status = end;
        let lookup = Lookup::Instance(instance);
        let observed = Observed::new(step.key, lookup, &mut self.memory, step.context);
        // What was reported of it may be ahead of the cache.
        if !self.track.iter().any(|track| track.is_stopping()) {
            Track::observe(&mut self.track, &observed, None, None, step);
        }
        self.remember(&observed);
    }

    fn job_gone(&mut self, uid: &Uid, step: &mut Step<'_>) {
        self.memory.end_seen(uid);
        let mut sent = None;
        if let Some(operation) = &mut self.operation {
            operation.lose(uid);
            sent = operation.sent_deletion(uid);
            if let CallState::Calling(calling) = &mut operation.call
                && let Action::DeleteJob { uid: of, cause, .. } = &calling.call.action
                && of == uid
            {
                if matches!(cause, StopCause::Requested(_)) {
                    self.memory.stopped(Some(uid));
                }
                // The result of our call says who deleted it: what came after is reported then.
                calling.has_lost = true;
                return;
            }
        }
        if matches!(sent, Some(StopCause::Requested(_))) {
            self.memory.stopped(Some(uid));
        }
        Track::gone(&mut self.track, uid, sent, step);
    }

    /// Responds to these waiters and removes them.
    pub(super) fn respond_all(
        &mut self,
        response: &Response,
        step: &mut Step<'_>,
        these: impl Fn(&Waiter) -> bool,
    ) {
        let Some(operation) = &mut self.operation else {
            return;
        };
        for waiter in operation.waiters.extract_if(.., |it| these(it)) {
            step.respond(&waiter, response.clone());
        }
    }

    /// Processes an input or an expired timer: observes, reports, resolves, calls.
    pub(super) fn advance(&mut self, step: &mut Step<'_>, trigger: Trigger) {
        let context = step.context;
        let lookup = match trigger {
            Trigger::NameConflict => Lookup::NameConflict,
            _ => context.cache.lookup(step.key),
        };
        let observed = Observed::new(step.key, lookup, &mut self.memory, context);
        let operation = self.operation.as_deref();
        let pending = operation.and_then(Operation::calling);
        let pending = pending.map(|calling| &calling.call.action);
        let sent = observed.uid().zip(operation);
        let sent = sent.and_then(|(uid, operation)| operation.sent_deletion(uid));
        let track = &mut self.track;
        if trigger == Trigger::Listed || !context.cache.is_synced() {
            Track::adopt(track, &observed, step);
        } else {
            Track::observe(track, &observed, pending, sent, step);
        }
        let is_new = |(waiter, _): (&Waiter, _)| waiter.number == step.number;
        let is_label = self.operation.iter().any(|it| it.labels().any(is_new));
        if is_label || matches!(trigger, Trigger::CacheChanged | Trigger::Listed) {
            self.pass_on_labels(&observed, step);
        }
        let overdue_at = self.memory.overdue_at();
        let is_overdue = step.may_force && overdue_at.is_some_and(|at| at <= context.now);
        if is_overdue && step.may_work {
            self.operation.get_or_insert_default();
        }
        self.remember(&observed);
        self.note_undecided(&observed, step);
        self.resolve(&observed, step);
        if let Trigger::Drain(until) = trigger {
            self.drain_waiters(until, &observed, step);
        } else {
            self.decide_admission(&observed, step);
            while self.call(&observed, is_overdue, step) {
                self.resolve(&observed, step);
            }
        }
        self.expire(&observed, step);
        // An operation without waiters and call is dropped.
        let keeps = is_overdue && step.may_work;
        let is_over = |it: &Operation| it.waiters.is_empty() && it.calling().is_none();
        self.operation.take_if(|it| !keeps && is_over(it));
        if let Some(operation) = &mut self.operation {
            operation.forget_last();
        }
        self.settle_start(&observed, step);
        self.wake = self.next_wake(&observed, is_overdue, step);
    }

    /// Keeps what waiters for a Job get when it is gone. Until they are resolved, the one of the
    /// previous Job is kept as well.
    fn remember(&mut self, observed: &Observed) {
        let (Some(operation), Some(uid)) = (&mut self.operation, observed.uid()) else {
            return;
        };
        let is_it = |last: &Last| last.uid == *uid;
        let known = operation.last.iter().position(is_it);
        let mut last = known.map_or_else(Last::default, |index| operation.last.remove(index));
        last.uid = uid.clone();
        let instance = observed.instance.as_deref();
        last.is_gone |= instance.is_none();
        // One that was admitted was suspended before.
        last.was_suspended = instance.map_or(last.was_suspended, |it| it.job.suspend);
        last.was_undecided = instance.map_or(last.was_undecided, |it| {
            is_undecided(&it.job) && (!it.job.metadata.is_deleting() || last.was_undecided)
        });
        last.was_disrupted |= observed.is_disrupted;
        // A resolved failure is not reported; a failure that lasted until the deletion is.
        if observed.report.is_some() || observed.state != State::Deleting {
            last.report.clone_from(&observed.report);
        }
        operation.last.insert(0, last);
    }

    /// Sets the meta labels of a replaced pod on its successor.
    fn pass_on_labels(&mut self, observed: &Observed, step: &Step<'_>) {
        if !step.may_work {
            return;
        }
        let instance = observed.instance.as_deref();
        let Some(change) = instance.and_then(|it| self.memory.inheritance(it)) else {
            return;
        };
        let operation = self.operation.get_or_insert_default();
        if operation.own_label().is_none() {
            operation.waiters.push(Waiter {
                handle: None,
                by: None,
                held: None,
                since: step.context.now,
                confirmed: None,
                deadline: step.context.now + WRITE_WAIT,
                trust: Trust::Cache,
                expectation: Expectation::None,
                read_at: None,
                may_be_done: false,
                waits_for_place: false,
                is_kept: false,
                want: Want::Label(Arc::new(change)),
                state: WaitState::New,
                // Older than a request that comes with this step.
                number: step.number - 1,
            });
        }
    }

    fn timings(&self, observed: &Observed, context: &Context<'_>) -> Option<Timings> {
        let instance = observed.instance.as_deref()?;
        if matches!(instance.status, InstanceStatus::Stopping { .. }) {
            return None;
        }
        let track = self.track.as_ref();
        track
            .and_then(|track| track.timings(instance.uid(), context.now))
            .or_else(|| Timings::of_pod(instance, context.wall))
    }

    /// Responds to the waiters for which `act` has a response; the others continue to wait.
    pub(super) fn respond_each(
        &mut self,
        observed: &Observed,
        step: &mut Step<'_>,
        mut act: impl FnMut(&Operation, &mut Waiter, &Facts<'_>) -> Option<Response>,
    ) {
        let Some(mut operation) = self.operation.take() else {
            return;
        };
        let context = step.context;
        let failure = observed.uid().and_then(|uid| self.memory.failure(uid));
        // A start that may still succeed may have done so, as far as an old cache knows.
        let is_known = || observed.state != State::Failing || context.cache.is_current(context.now);
        let has_passed = |at: Instant| at <= context.now;
        let may_replace = match failure {
            Some(failure) => failure.restart_at.is_some_and(has_passed) && is_known(),
            None => observed.state == State::Finished,
        };
        let is_start_pending = operation.is_start_pending();
        let mut waiters = std::mem::take(&mut operation.waiters);
        let facts = Facts {
            key: step.key,
            now: context.now,
            job: observed.instance.as_deref().map(Instance::uid),
            is_start_pending,
            step: step.number,
            is_pausing: operation.pauses_until().is_some_and(|at| at > context.now),
            is_job_unknown: operation.is_job_unknown(),
            is_deleting: operation.is_calling(CallKind::Delete),
            may_replace,
            kept_for: failure.and_then(|failure| failure.kept_for(context.now)),
            last: &operation.last,
            queued: None,
            timings: &|| self.timings(observed, context),
        };
        waiters.retain_mut(|waiter| match act(&operation, waiter, &facts) {
            Some(response) => {
                step.respond(waiter, response.clone());
                !step.is_draining
                    && (waiter.goes_on(&response, context.now)
                        || waiter.keeps_place(&response, step))
            }
            None => true,
        });
        operation.waiters = waiters;
        operation.keep_last();
        self.operation = Some(operation);
    }

    /// Resolves all waiters that the observed state can resolve.
    fn resolve(&mut self, observed: &Observed, step: &mut Step<'_>) {
        let now = step.context.now;
        if let Some(operation) = &mut self.operation {
            // A read while calls fail would undo the pauses between them.
            let fails = matches!(operation.call, CallState::Retrying(_)) || step.is_draining;
            operation.trust(Trust::Unread, |it| {
                !it.expectation.is_precondition() && (fails || it.deadline <= now)
            });
        }
        self.respond_each(observed, step, |_, waiter, facts| {
            let mut resolution = resolve::resolve(waiter, observed, facts);
            if let Resolution::Join(uid) = resolution {
                waiter.wait_for(&uid);
                if waiter.is_over() {
                    return Some(Response::Done);
                }
                resolution = resolve::resolve(waiter, observed, facts);
            }
            let state = match resolution {
                Resolution::Stop | Resolution::Join(_) => {
                    waiter.stop_again(now);
                    return waiter.is_over().then_some(Response::Done);
                }
                Resolution::Read => {
                    waiter.trust = Trust::AfterRead(waiter.deadline);
                    return None;
                }
                Resolution::Wait(state) => state,
                Resolution::Respond(response) => return Some(response),
            };
            // A label has its own deadline from the first pod, unless its wait is over by then.
            if let (WaitState::Pod(until), WaitState::New) = (&waiter.state, &state)
                && *until >= now
            {
                waiter.deadline = waiter.deadline.max(now + WRITE_WAIT);
            }
            waiter.state = state;
            // A start with `StartOrStop` that does not succeed in time becomes a stop.
            let is_to_stop = matches!(waiter.want, Want::Instance(Intent::StartOrStop(_)));
            if is_to_stop && waiter.deadline <= now {
                waiter.want = Want::Stop { until: None };
                waiter.state = WaitState::New;
                waiter.deadline = now + WRITE_WAIT;
            }
            None
        });
    }

    /// Makes the next call, if one is due. Returns whether waiters have to be resolved again, since
    /// one of them was rejected.
    fn call(&mut self, observed: &Observed, is_overdue: bool, step: &mut Step<'_>) -> bool {
        let operation = self.operation.as_deref();
        let Some(operation) = operation.filter(|it| it.calling().is_none()) else {
            return false;
        };
        let context = step.context;
        let Some(kind) = calls::due(operation, observed, is_overdue) else {
            return false;
        };
        let retry = operation.retry().filter(|retry| retry.kind == kind);
        if retry.is_some_and(|retry| context.now < retry.at) {
            return false;
        }
        let is_retry = retry.is_some();
        let mut is_changed = false;
        if kind == CallKind::Create && !self.ask_for_place(step, &mut is_changed) {
            return is_changed;
        }
        let Some(operation) = self.operation.as_deref() else {
            return false;
        };
        match calls::next(kind, operation, observed, &self.memory, step) {
            Ok(None) => false,
            Ok(Some(action)) => {
                let lane = calls::lane(kind, operation);
                let call = Arc::new(ApiCall {
                    key: step.key.clone(),
                    lane,
                    caller: calls::caller(kind, lane, operation),
                    action,
                    is_retry,
                });
                self.begin(Arc::clone(&call), observed, step);
                step.out.push(Effect::Call(call));
                false
            }
            Err(responses) => {
                for (number, response) in responses {
                    self.respond_all(&response, step, |it| it.number == number);
                }
                true
            }
        }
    }

    pub(super) fn begin(&mut self, call: Arc<ApiCall>, observed: &Observed, step: &mut Step<'_>) {
        let Some(operation) = &mut self.operation else {
            return;
        };
        let mut start = None;
        match &call.action {
            Action::CreateJob(new) => {
                step.report(step.event(None, LifecycleKind::Requested));
                let start = start.insert(Box::new(OwnStart::new(new.by.clone(), step.context.now)));
                let waiters = operation.waiters.iter();
                for waiter in waiters.filter(|it| it.want.is_for_instance()) {
                    waiter.by.iter().for_each(|by| start.join(by));
                }
            }
            Action::DeleteJob {
                uid, new, cause, ..
            } => {
                operation.set_replaced(uid, new.is_some());
                operation.set_stopped(uid, cause);
                operation.confirm(uid, step.number);
                let instance = observed.instance.as_deref();
                let stops = |waiter: &&mut Waiter| {
                    waiter.want.is_stop() && waiter.standing(instance, step.number) == Standing::Go
                };
                for waiter in operation.waiters.iter_mut().filter(stops) {
                    waiter.state = WaitState::Sent(uid.clone());
                }
            }
            Action::ReadJob { .. } => {
                let orphans = observed.orphans.iter().map(|pod| pod.metadata.uid.clone());
                operation.orphans.before_read = orphans.collect();
            }
            Action::AdmitJob { .. }
            | Action::PlaceJob { .. }
            | Action::DeletePod { .. }
            | Action::ForceDeletePod { .. }
            | Action::LabelPod { .. } => {}
        }
        let after = match std::mem::take(&mut operation.call) {
            CallState::Retrying(retry) => Some(retry),
            CallState::Idle | CallState::Calling(_) | CallState::MustRead => None,
        };
        operation.call = CallState::Calling(Box::new(Calling {
            call,
            start,
            has_lost: false,
            since: step.context.now,
            step: step.number,
            after,
        }));
    }
}
