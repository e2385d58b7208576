//! [`Stopper`]: requests that stop many instances, made of single stops.
//!
//! It runs on the thread that makes lists, since it goes through all instances to select some. Each of these is
//! stopped by a request of its own to the coordinator, with the UID of its Job as precondition: a successor
//! is not stopped. So they take turns with the calls of other callers, and each holds a place of its caller. At
//! most [`AT_ONCE`] of a request are under way. What is not under way by its deadline, or when the caller hangs
//! up or the replica shuts down, is left as it is.

use super::cache::Cache;
use super::coordinator::{NewWaiter, Want};
use super::engine::Inbox;
use super::error::Error;
use super::expectation::{Expectation, Precondition};
use super::instances::Selection;
use super::pages::Roster;
use super::request::{Origin, Response, ResponseSink, StopCounts};
use super::request_handle::RequestHandle;
use crate::budget::{Full, Held, Hold, Purpose, WaitingBounds};
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::threads::lock;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// One request stops no more instances than this.
pub const STOPS_MAX: usize = 1000;

/// So many stops of one request are under way at the same time, if its caller has as many places.
pub const AT_ONCE: usize = 32;

/// What one instance is charged while it waits to be stopped, beside the bytes of its name.
const STOP_BYTES: usize = 256;

/// How often those that are being stopped are looked at, if the caller waits for their end.
pub const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// The I/O thread in the handles of single stops: there is none of this number.
const OWN_IO: u32 = u32::MAX;

/// A request that stops all instances of a selection.
#[derive(Debug)]
pub struct StopMany {
    /// Where its response goes.
    pub handle: RequestHandle,
    /// The sender.
    pub by: Origin,
    /// Which instances.
    pub selection: Selection,
    /// How long it waits for their end (`Prefer: wait`), if it does.
    pub wait: Option<Duration>,
    /// What it holds while it waits.
    pub held: Arc<Held>,
    /// Its place among those that wait for a look at all instances.
    pub place: Hold,
}

/// What has come for the thread.
#[derive(Debug)]
enum Input {
    /// With its deadline, and until when it waits for their end, if it does.
    Asked(Box<StopMany>, Instant, Option<Instant>),
    /// A single stop has ended.
    Answered(RequestHandle, Response),
    Abandoned(RequestHandle),
    Drain,
}

/// The way to a [`Stopper`]; clones share it. It holds at most one input for each request, and one for each
/// single stop under way.
#[derive(Clone, Debug)]
pub struct StopQueue {
    inputs: Arc<Mutex<VecDeque<Input>>>,
    cache: Cache,
}

impl StopQueue {
    /// An empty queue; the thread that makes lists from this cache empties it.
    #[must_use]
    pub fn new(cache: Cache) -> Self {
        Self {
            inputs: Arc::default(),
            cache,
        }
    }

    fn put(&self, input: Input) {
        lock(&self.inputs).push_back(input);
        self.cache.index().nudge();
    }

    /// A request whose deletions are to be accepted by then; if it waits for the end of the instances, until
    /// when.
    pub fn ask(&self, request: StopMany, deadline: Instant, until: Option<Instant>) {
        self.put(Input::Asked(Box::new(request), deadline, until));
    }

    /// The caller of this request has hung up.
    pub fn abandon(&self, handle: RequestHandle) {
        self.put(Input::Abandoned(handle));
    }

    /// The replica shuts down.
    pub fn drain(&self) {
        self.put(Input::Drain);
    }
}

/// Passes responses on, those to single stops to their [`Stopper`].
pub struct StopSink {
    /// Where those to single stops go.
    pub queue: StopQueue,
    /// Where all others go.
    pub others: Arc<dyn ResponseSink>,
}

impl fmt::Debug for StopSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StopSink")
    }
}

impl ResponseSink for StopSink {
    fn respond(&self, handle: RequestHandle, response: Response) {
        if handle.io == OWN_IO {
            self.queue.put(Input::Answered(handle, response));
        } else {
            self.others.respond(handle, response);
        }
    }

    fn announce(&self) {
        self.others.announce();
    }
}

/// One instance of a request.
type One = (InstanceKey, Uid);

/// A request that is being carried out.
#[derive(Debug)]
struct Batch {
    asked: StopMany,
    deadline: Instant,
    until: Option<Instant>,
    is_abandoned: bool,
    todo: VecDeque<One>,
    /// The stops under way, by the numbers of their handles.
    sent: BTreeMap<u64, One>,
    /// Those that are being stopped, if the caller waits for their end.
    going: Vec<One>,
    /// When to look at them next.
    look_at: Instant,
    counts: StopCounts,
    _hold: Hold,
}

#[derive(Debug, Default)]
struct Batches {
    /// By the slot in the handles of their stops.
    all: BTreeMap<u32, Batch>,
    next_slot: u32,
    next_serial: u64,
}

/// What a step needs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Env<'a> {
    pub(super) roster: Roster<'a>,
    pub(super) bounds: &'a WaitingBounds,
    pub(super) sink: &'a dyn ResponseSink,
    pub(super) now: Instant,
}

/// Carries out requests that stop many instances.
#[derive(Debug)]
pub struct Stopper {
    queue: StopQueue,
    inbox: Inbox,
    batches: Mutex<Batches>,
}

impl Stopper {
    /// One whose requests come through this queue, and whose stops go to this coordinator.
    #[must_use]
    pub fn new(queue: StopQueue, inbox: Inbox) -> Self {
        Self {
            queue,
            inbox,
            batches: Mutex::default(),
        }
    }

    /// When to step again although nothing has come.
    pub(super) fn next_look(&self) -> Option<Instant> {
        let batches = lock(&self.batches);
        let waiting = batches.all.values().filter(|it| it.sent.is_empty());
        waiting.map(|batch| batch.look_at).min()
    }

    /// Takes what has come, up to the next request, and goes on; whether something has come.
    pub(super) fn step(&self, env: &Env<'_>) -> bool {
        let mut batches = lock(&self.batches);
        let mut has_come = false;
        loop {
            let input = lock(&self.queue.inputs).pop_front();
            let Some(input) = input else { break };
            has_come = true;
            let is_request = matches!(input, Input::Asked(..));
            batches.take(input, env);
            if is_request {
                break;
            }
        }
        let Batches {
            all, next_serial, ..
        } = &mut *batches;
        all.retain(|slot, batch| {
            batch.send(*slot, next_serial, &self.inbox, env);
            !batch.is_over(env)
        });
        has_come
    }
}

impl Batches {
    fn take(&mut self, input: Input, env: &Env<'_>) {
        match input {
            Input::Asked(asked, deadline, until) => {
                let handle = asked.handle;
                match Batch::begin(*asked, deadline, until, env) {
                    Ok(batch) => {
                        self.next_slot = self.next_slot.wrapping_add(1);
                        self.all.insert(self.next_slot, batch);
                    }
                    Err(full) => env.sink.respond(handle, Response::Failed(full.into())),
                }
            }
            Input::Answered(handle, response) => {
                let batch = self.all.get_mut(&handle.slot);
                if let Some((batch, one)) = batch.and_then(|batch| {
                    let one = batch.sent.remove(&handle.serial)?;
                    Some((batch, one))
                }) {
                    batch.answered(one, response);
                }
            }
            Input::Abandoned(handle) => {
                let mut all = self.all.values_mut();
                if let Some(batch) = all.find(|batch| batch.asked.handle == handle) {
                    batch.is_abandoned = true;
                }
            }
            Input::Drain => {
                for batch in self.all.values_mut() {
                    batch.deadline = env.now;
                    batch.until = batch.until.map(|_| env.now);
                }
            }
        }
    }
}

impl Batch {
    /// Selects the instances. Those that are being stopped already count only if their end is waited for.
    fn begin(
        mut asked: StopMany,
        deadline: Instant,
        until: Option<Instant>,
        env: &Env<'_>,
    ) -> Result<Self, Full> {
        let (mut todo, mut going) = (VecDeque::new(), Vec::new());
        let (mut bytes, mut counts) = (0, StopCounts::default());
        env.roster.visit(&asked.selection, None, |item| {
            let is_going = item.is_stopping();
            let known = if is_going { going.len() } else { todo.len() };
            if is_going && until.is_none() {
                return true;
            }
            if known >= STOPS_MAX {
                counts.left += 1;
                return true;
            }
            bytes += STOP_BYTES + item.key.app_type.as_str().len() + item.key.name.as_str().len();
            let one = (item.key, item.uid);
            if is_going {
                going.push(one);
            } else {
                todo.push_back(one);
            }
            true
        });
        let account = asked.held.account().clone();
        // Others may look now. Less always fits.
        let _ = asked.place.resize(0);
        Ok(Self {
            _hold: env.bounds.bytes.hold(account, Purpose::Write, bytes)?,
            asked,
            deadline,
            until,
            is_abandoned: false,
            todo,
            sent: BTreeMap::new(),
            going,
            look_at: env.now,
            counts,
        })
    }

    /// Requests further stops, as many as may be under way.
    fn send(&mut self, slot: u32, next_serial: &mut u64, inbox: &Inbox, env: &Env<'_>) {
        let is_late = env.now >= self.deadline || self.is_abandoned;
        if is_late {
            self.counts.left += self.todo.len();
            self.todo.clear();
        }
        while self.sent.len() < AT_ONCE
            && let Some(held) = self.held(env)
            && let Some((key, uid)) = self.todo.pop_front()
        {
            let mut precondition = Precondition::default();
            precondition.add(&format!("uid:{uid}"));
            *next_serial += 1;
            let waiter = NewWaiter {
                handle: RequestHandle {
                    io: OWN_IO,
                    slot,
                    serial: *next_serial,
                },
                key: key.clone(),
                by: self.asked.by.clone(),
                held,
                deadline: self.deadline,
                reads: None,
                expectation: Expectation::Precondition(precondition.into()),
                is_patient: false,
                want: Want::Stop { until: None },
            };
            match inbox.request(waiter) {
                Ok(()) => drop(self.sent.insert(*next_serial, (key, uid))),
                Err(error) => self.answered((key, uid), Response::Failed(error)),
            }
        }
    }

    /// A place for one more stop. The first one has that of the request.
    fn held(&self, env: &Env<'_>) -> Option<Arc<Held>> {
        if self.sent.is_empty() {
            return Some(Arc::clone(&self.asked.held));
        }
        let account = self.asked.held.account();
        let held = env.bounds.hold(account, Purpose::Write, STOP_BYTES);
        held.ok()
    }

    fn answered(&mut self, one: One, response: Response) {
        match response {
            // It was gone before: what has its name now is another.
            Response::Failed(Error::NoInstance(_) | Error::PreconditionFailed(_)) => {}
            Response::Failed(Error::Draining) => self.counts.left += 1,
            Response::Failed(error) => {
                self.counts.failed += 1;
                let first = &mut self.counts.first;
                first.get_or_insert_with(|| Box::new((one.0, error)));
            }
            _ => {
                self.counts.stopped += 1;
                if self.until.is_some() {
                    self.going.push(one);
                }
            }
        }
    }

    /// Whether all is done that will be; then it responds.
    fn is_over(&mut self, env: &Env<'_>) -> bool {
        if !self.sent.is_empty() || !self.todo.is_empty() {
            return false;
        }
        if self.is_abandoned {
            return true;
        }
        let is_late = self.until.is_none_or(|until| until <= env.now);
        if env.now < self.look_at && !is_late {
            return false;
        }
        let jobs = &env.roster.cache.jobs;
        self.going.retain(|(key, uid)| {
            let job = jobs.get(&key.job_name());
            job.is_some_and(|job| job.metadata.uid == *uid)
        });
        if !self.going.is_empty() && !is_late {
            let until = self.until.unwrap_or(env.now);
            self.look_at = until.min(env.now + LOOK_PERIOD);
            return false;
        }
        self.counts.stopping = self.going.len();
        let counts = std::mem::take(&mut self.counts);
        env.sink
            .respond(self.asked.handle, Response::Stopped(counts));
        true
    }
}

#[cfg(test)]
mod tests;
