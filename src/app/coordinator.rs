//! The coordinator: the one machine behind every start, stop and wait.
//!
//! Pure. [`Coordinator::step`] takes an input and the time, and returns responses, calls to
//! Kubernetes and lifecycle events. [`Coordinator::next_wake`] is the latest time of the next call.
//! It holds one `Record` per name and one timer queue. The engine runs it on one thread; the
//! simulation runs the same coordinator with a manual clock.
//!
//! | file | what lives there |
//! |---|---|
//! | `context` | the inputs of every decision, and the effects |
//! | `record` | the state of one name, and the order in which an input is processed |
//! | `operation` | its waiters, and the state of its call |
//! | `resolve` | the observed state of a name, and the table: which waiter gets what |
//! | `calls`, `outcome` | which call comes next; what follows from its result, and what is retried |
//! | `late` | who can wait no longer, and when to look again |
//! | `admission` | when a Job that a cap holds for is admitted or refused, and by whom |
//! | `start_queue` | the starts that wait for a place, in the order of their arrival |
//! | `replace` | how a stop becomes a start in place of what was stopped |
//! | `memory` | failures, termination reports and labels that outlive their objects in the cache |
//! | `track` | the lifecycle events of a Job that were already reported |
//! | `check` | the invariants of all of this |

mod admission;
mod calls;
mod check;
mod confirm;
mod context;
mod deletions;
mod idle;
mod late;
mod memory;
mod operation;
mod outcome;
mod record;
mod replace;
mod resolve;
mod retry;
mod start_queue;
mod tally;
#[cfg(test)]
mod tests;
mod track;
mod undecided;

pub use confirm::READ_WAIT;
pub use context::{Context, Effect};
pub use memory::{GONE_KEPT, GONE_MAX, LOST_KEPT, LOST_MAX, Memory, OVERDUE_AFTER};
pub use operation::Want;
pub use record::WRITE_WAIT;
pub use resolve::REPORT_HOLD;

use super::api_call::{Completed, GoneJob, Outdated};
use super::error::{Bound, Error};
use super::expectation::Expectation;
use super::request::{Origin, Response};
use super::request_handle::RequestHandle;
use crate::budget::{Bounds, Division, Full, Held, Sums};
use crate::kube::types::{Job, ResourceVersion, Timestamp, Uid};
use crate::model::labels::AllBounds;
use crate::model::names::{AppType, InstanceKey};
use crate::sorting;
use confirm::Trust;
use context::Step;
use operation::{WaitState, Waiter};
use record::{Record, Trigger};
use start_queue::{Places, StartQueue};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tally::Tally;

/// Bounds on waiters: requests that wait, in number (their bytes are bounded by the HTTP server); and
/// what the coordinator may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Names that may have an operation (`PARKED_MAX`). An operation can outlive its callers. How
    /// many requests wait is bounded by [`crate::budget::Ledger`].
    pub parked_max: usize,
    /// Requests that may wait for one name at the same time (`PARKED_PER_KEY_MAX`).
    pub parked_per_key_max: usize,
    /// How those of one name are divided.
    pub division: Division,
    /// Starts that may be in progress at the same time (`MAX_STARTING`); `None`: any number.
    pub max_starting: Option<u32>,
    /// How long a queued start goes on without its caller, who is to ask again (`START_WAIT`).
    pub place_kept: Duration,
    /// Up to where a PATCH may lengthen the meta labels of all instances together.
    pub label_bounds: AllBounds,
    /// Whether a pod that is being deleted on a lost node is force-deleted (`FORCE_STOP`). A node that is
    /// only cut off looks the same, and its containers may still run.
    pub force_stop: bool,
}

impl Limits {
    fn max_starting(&self) -> Option<usize> {
        let max = self.max_starting?;
        usize::try_from(max).ok()
    }
}

/// Maximum number of followed starts of this replica, for metrics and spans. A start with an image
/// that cannot be pulled is followed for long.
pub const FOLLOWED_MAX: usize = 10_000;

/// What a record takes while it follows a start and remembers what the pod waits for, beside three times
/// its name; about, in bytes.
const RECORD_BYTES: usize = 1700;

/// Delay before a record is advanced again if its own wake-up requested another one.
const MINIMUM_NAP: Duration = Duration::from_millis(10);

/// Memory for so many records is kept; where many instances start together, each has one until it is
/// ready.
const SPARE_RECORDS: usize = 1024;

/// When remembered names exceed their bound, this part of them is evicted together, the oldest
/// first. So the search for the oldest costs little per name.
const FORGOTTEN_AT_ONCE: usize = 8;

/// An input of the coordinator.
#[derive(Clone, Debug)]
pub enum Input {
    /// A request that has to wait.
    Requested(NewWaiter),
    /// The caller of this request hung up.
    Abandoned(RequestHandle),
    /// The call for this name has ended.
    Completed(InstanceKey, Completed),
    /// Nobody uses this Job, which has this version.
    Idle(InstanceKey, Uid, ResourceVersion),
    /// The template of this Job, which has this version, has changed to that revision: it is to be restarted, if
    /// nobody uses it perhaps.
    Outdated(InstanceKey, Uid, ResourceVersion, Arc<Outdated>),
    /// Nobody uses this Job, which may be stopped after this time.
    IdleSoon(InstanceKey, Uid, Duration),
    /// The cache of these names has changed.
    Changed(Vec<CacheChange>),
    /// The first lists of Jobs and pods are complete, and have these names, among others. What a
    /// replica finds at its start is not reported.
    Listed(Vec<CacheChange>),
    /// Templates have changed, or were read for the first time: their settings hold for instances that there are.
    CatalogChanged,
    /// The service shuts down: respond to all waiting requests, except changes that can still be
    /// made until then.
    Drain(Instant),
}

/// A request that has to wait.
#[derive(Clone, Debug)]
pub struct NewWaiter {
    /// Where its response goes.
    pub handle: RequestHandle,
    /// The instance.
    pub key: InstanceKey,
    /// The sender.
    pub by: Origin,
    /// What it holds until it is answered; a start, until its call has ended.
    pub held: Arc<Held>,
    /// The latest time of its response; a label waits for a pod until then, and the change itself has
    /// [`WRITE_WAIT`].
    pub deadline: Instant,
    /// Whether it is answered only after the Job was read from Kubernetes: its deadline from then on.
    pub reads: Option<Instant>,
    /// What it expects of the instance that is there.
    pub expectation: Expectation,
    /// Whether a start waits for a place under a cap (`Prefer: wait`), instead of being refused.
    pub is_patient: bool,
    /// What it wants.
    pub want: Want,
}

/// A change of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheChange {
    /// The name that it concerns.
    pub key: InstanceKey,
    /// The Job that the cache has no longer.
    pub gone: Option<Uid>,
    /// The Job that has ended. By the time that the change is processed the cache may have lost it.
    pub ended: Option<Arc<Job>>,
    /// The Job whose deletion has begun, and when.
    pub deleted: Option<(Uid, Timestamp)>,
}

impl CacheChange {
    /// A change of this name, without a Job that is gone.
    #[must_use]
    pub const fn of(key: InstanceKey) -> Self {
        Self {
            key,
            gone: None,
            ended: None,
            deleted: None,
        }
    }
}

/// All records.
#[derive(Debug)]
pub struct Coordinator {
    limits: Limits,
    records: HashMap<InstanceKey, Record>,
    /// The timers of the records: for each record the time in its `wake`.
    timers: BTreeSet<(Instant, InstanceKey)>,
    /// The names of the requests that wait.
    waiting: HashMap<RequestHandle, InstanceKey>,
    /// The counts of all records.
    tally: Tally,
    /// The starts that wait for a place.
    queue: StartQueue,
    /// Bytes by which the calls in flight for each type lengthen meta labels, unless there are none.
    label_growth_of: BTreeMap<AppType, usize>,
    /// Set when the service shuts down.
    is_draining: bool,
    /// The number of the next step. It is odd: the one before it is for a waiter of the coordinator's
    /// own.
    next_number: u64,
    /// How many wake-ups of records had nothing to do.
    idle_wakes: u64,
}

impl Coordinator {
    /// A coordinator without records.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let queue = StartQueue::new(limits.max_starting());
        Self {
            limits,
            queue,
            records: HashMap::new(),
            timers: BTreeSet::new(),
            waiting: HashMap::new(),
            tally: Tally::default(),
            label_growth_of: BTreeMap::new(),
            is_draining: false,
            next_number: 1,
            idle_wakes: 0,
        }
    }

    /// How many requests wait for a response.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many starts wait for a place, and how many are in progress.
    #[must_use]
    pub fn starts(&self) -> [usize; 2] {
        [self.queue.len(), self.tally.starting]
    }

    /// When to call [`Coordinator::tick`] at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Processes one input.
    pub fn step(&mut self, input: Input, context: &Context<'_>, out: &mut Vec<Effect>) {
        match input {
            Input::Requested(request) => self.requested(request, context, out),
            Input::Abandoned(handle) => {
                if let Some(key) = self.waiting.remove(&handle) {
                    self.advance(&key, context, out, |record, step| {
                        record.leave(handle, step);
                    });
                }
            }
            Input::Completed(key, completed) => self.completed(&key, completed, context, out),
            Input::Changed(changes) => {
                self.changed(&changes, Trigger::CacheChanged, context, out);
            }
            Input::Idle(key, uid, version) => self.advance(&key, context, out, |record, step| {
                record.stop_idle(&uid, &version, step);
            }),
            Input::Outdated(key, uid, version, revisions) => {
                self.advance(&key, context, out, |record, step| {
                    record.restart(&uid, &version, &revisions, step);
                });
            }
            Input::IdleSoon(key, uid, left) => self.advance(&key, context, out, |_, step| {
                step.idle_soon(&uid, left);
            }),
            Input::Listed(changes) => self.changed(&changes, Trigger::Listed, context, out),
            Input::CatalogChanged => self.advance_all(context, out, |record, step| {
                record.advance(step, Trigger::Any);
            }),
            Input::Drain(until) => {
                self.is_draining = true;
                self.advance_all(context, out, |record, step| record.drain(until, step));
            }
        }
    }

    /// Advances the records with an expired timer, and the starts that have a place now.
    pub fn tick(&mut self, context: &Context<'_>, out: &mut Vec<Effect>) {
        while let Some((at, key)) = self.timers.first().cloned() {
            if at > context.now {
                break;
            }
            self.advance(&key, context, out, |record, step| {
                record.advance(step, Trigger::Any);
            });
            // A record with nothing to do at its own wake-up would be advanced repeatedly.
            let wake = self.records.get(&key).and_then(|record| record.wake);
            if wake.is_some_and(|at| at <= context.now) {
                self.idle_wakes += 1;
                let next = Some(context.now + MINIMUM_NAP);
                self.change(&key, |record, _, _| record.wake = next);
            }
        }
        self.begin_queued(context, out);
        context.cache.admissions().set_starts(self.starts());
    }

    /// Advances the starts that have a place now, or never will.
    fn begin_queued(&mut self, context: &Context<'_>, out: &mut Vec<Effect>) {
        if self.queue.is_empty() {
            return;
        }
        let woken = self.queue.woken(Places {
            admissions: &context.cache.admissions().state(),
            starting: self.tally.starting,
        });
        for key in woken {
            self.advance(&key, context, out, |record, step| {
                record.advance(step, Trigger::Any);
            });
        }
    }

    fn completed(
        &mut self,
        key: &InstanceKey,
        mut completed: Completed,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        let other = completed.gone.take_if(|gone| gone.key != *key);
        self.advance(key, context, out, |record, step| {
            record.completed(completed, step);
        });
        if let Some(GoneJob { key, uid }) = other {
            self.advance(&key, context, out, |record, step| {
                record.changed(Some(&uid), Trigger::CacheChanged, step);
            });
        }
    }

    fn changed(
        &mut self,
        changes: &[CacheChange],
        trigger: Trigger,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        for change in changes {
            self.advance(&change.key, context, out, |record, step| {
                if let Some(job) = &change.ended {
                    record.ended(job, step);
                }
                if let Some((uid, stamp)) = &change.deleted {
                    record.deleted(uid, *stamp, step);
                }
                record.changed(change.gone.as_ref(), trigger, step);
            });
        }
    }

    fn requested(&mut self, request: NewWaiter, context: &Context<'_>, out: &mut Vec<Effect>) {
        let (key, handle) = (request.key.clone(), request.handle);
        if let Err(error) = self.admit(&request, context) {
            out.push(Effect::Respond(handle, Response::Failed(error)));
            return;
        }
        self.waiting.insert(handle, key.clone());
        let (state, deadline) = match request.want {
            // The wait is for a pod; the change itself has its own deadline.
            Want::Label(_) => (
                WaitState::Pod(request.deadline),
                request.deadline.max(context.now + WRITE_WAIT),
            ),
            _ => (WaitState::New, request.deadline),
        };
        let waiter = Waiter {
            handle: Some(handle),
            by: Some(request.by),
            held: Some(request.held),
            since: context.now,
            confirmed: None,
            deadline,
            trust: request.reads.map_or(Trust::Cache, Trust::AfterRead),
            expectation: request.expectation,
            read_at: None,
            may_be_done: false,
            waits_for_place: request.is_patient,
            is_kept: false,
            want: request.want,
            state,
            number: self.next_number,
        };
        self.advance(&key, context, out, |record, step| record.join(waiter, step));
    }

    fn admit(&self, request: &NewWaiter, context: &Context<'_>) -> Result<(), Error> {
        if self.is_draining {
            return Err(Error::Draining);
        }
        let record = self.records.get(&request.key);
        if !self.has_capacity(record) {
            return Err(Error::TooManyRequests(Bound::Parked));
        }
        let operation = record.and_then(|record| record.operation.as_ref());
        let memory = context.cache.index().memory();
        let (bytes, max) = (memory.instance_bytes(), memory.instance_bytes_max());
        let is_new = operation.is_none() && !context.cache.knows(&request.key);
        let starts = matches!(request.want, Want::Replace { .. });
        let starts = starts || request.want.variables().is_some();
        if bytes > max && is_new && starts {
            return Err(Error::InstancesTakeMemory { bytes, max });
        }
        let (purpose, account) = (request.want.purpose(), request.held.account());
        let mut all = Sums::default().plus(purpose, 1);
        let mut own = all;
        for waiter in operation.iter().flat_map(|it| &it.waiters) {
            let purpose = waiter.want.purpose();
            all = all.plus(purpose, 1);
            let held = waiter.held.as_deref();
            if held.is_some_and(|held| held.account() == account) {
                own = own.plus(purpose, 1);
            }
        }
        let bounds = Bounds::of_places(self.limits.parked_per_key_max, self.limits.division);
        let fits = bounds.check(purpose, &all);
        let fits = fits.and_then(|()| bounds.check_share(purpose, &all, &own, 1));
        fits.map_err(|full| match full {
            Full::Budget => Error::TooManyRequests(Bound::ParkedPerKey),
            Full::Share => full.into(),
        })
    }

    /// Whether a name may have an operation. Each has at most one call in flight, so this bounds
    /// the calls as well.
    fn has_capacity(&self, record: Option<&Record>) -> bool {
        let is_in_work = record.is_some_and(|record| record.operation.is_some());
        is_in_work || self.tally.in_work < self.limits.parked_max
    }

    /// Runs `act` on the record of a name, with what it needs to be advanced. Answered requests wait
    /// no longer.
    fn advance(
        &mut self,
        key: &InstanceKey,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Record, &mut Step<'_>),
    ) {
        let may_work = !self.is_draining && self.has_capacity(self.records.get(key));
        let (number, is_draining) = (self.next_number, self.is_draining);
        let label_bounds = self.limits.label_bounds;
        let may_force = self.limits.force_stop;
        let place_kept = self.limits.place_kept;
        let before = out.len();
        let mut queue = std::mem::take(&mut self.queue);
        self.change(key, |record, others, label_growth_of_type| {
            let mut step = Step {
                key,
                context,
                number,
                may_work,
                may_force,
                may_follow: others.followed < FOLLOWED_MAX,
                starting: others.starting,
                queue: &mut queue,
                place_kept,
                label_growth: others.label_growth,
                label_growth_of_type,
                label_bounds,
                is_draining,
                out,
            };
            act(record, &mut step);
        });
        self.queue = queue;
        for effect in &out[before..] {
            if let Effect::Respond(handle, _) = effect {
                self.waiting.remove(handle);
            }
        }
        self.next_number += 2;
        self.shed();
        let bytes = self.tally.records * RECORD_BYTES + self.tally.name_bytes * 3;
        context.cache.index().memory().set_record_bytes(bytes);
    }

    /// The same for all names that have a record.
    fn advance_all(
        &mut self,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
        act: impl Fn(&mut Record, &mut Step<'_>),
    ) {
        let keys: Vec<InstanceKey> = self.records.keys().cloned().collect();
        for key in keys {
            self.advance(&key, context, out, &act);
        }
    }

    /// Changes the record of a name, and keeps the record, its timer and the counts in step. `act`
    /// also gets the counts of the other records, and the label growth of those of the type.
    fn change(&mut self, key: &InstanceKey, act: impl FnOnce(&mut Record, &Tally, usize)) {
        let mut record = self.records.remove(key).unwrap_or_default();
        let counts = record.tally(key);
        self.tally.subtract(counts);
        let growth = self.label_growth_of.get(&key.app_type);
        let growth = growth.copied().unwrap_or_default() - counts.label_growth;
        let before = record.wake;
        act(&mut record, &self.tally, growth);
        let counts = record.tally(key);
        self.tally.add(counts);
        self.set_label_growth(&key.app_type, growth + counts.label_growth);
        let is_empty = record.is_empty();
        let next = record.wake.filter(|_| !is_empty);
        if before != next {
            if let Some(at) = before {
                self.timers.remove(&(at, key.clone()));
            }
            if let Some(at) = next {
                self.timers.insert((at, key.clone()));
            }
        }
        if !is_empty {
            self.records.insert(key.clone(), record);
        } else if self.records.capacity() > SPARE_RECORDS.max(self.records.len() * 4) {
            self.records.shrink_to(self.records.len() * 2);
        }
    }

    fn set_label_growth(&mut self, app_type: &AppType, growth: usize) {
        if growth == 0 {
            self.label_growth_of.remove(app_type);
        } else {
            self.label_growth_of.insert(app_type.clone(), growth);
        }
    }

    /// Evicts remembered names beyond their bounds.
    fn shed(&mut self) {
        if self.tally.gone > GONE_MAX {
            self.forget_oldest(GONE_MAX, Memory::gone_at, Memory::forget_gone);
        }
        if self.tally.lost > LOST_MAX {
            self.forget_oldest(LOST_MAX, Memory::lost_at, Memory::forget_lost);
        }
    }

    fn forget_oldest(
        &mut self,
        max: usize,
        since: impl Fn(&Memory) -> Option<Instant>,
        forget: impl Fn(&mut Memory),
    ) {
        let dated = |(key, record): (&InstanceKey, &Record)| {
            since(&record.memory).map(|since| (since, key.clone()))
        };
        let mut oldest: Vec<(Instant, InstanceKey)> =
            self.records.iter().filter_map(dated).collect();
        sorting::sort_by(&mut oldest, Ord::cmp);
        for (_, key) in oldest.into_iter().take(max / FORGOTTEN_AT_ONCE) {
            // Its timer finds nothing to do, once.
            self.change(&key, |record, _, _| forget(&mut record.memory));
        }
    }
}
