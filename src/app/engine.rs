//! The threads around the coordinator (one that runs it, and workers that call Kubernetes), and its
//! [`Inbox`].
//!
//! The inbox is a bounded queue. I/O threads never block on it; threads with inputs that must not
//! be lost wait for capacity.
//!
//! The coordinator's thread takes inputs from the inbox, passes them to the coordinator, and
//! carries out its effects. Responses go to the [`ResponseSink`], calls into the workers' queue,
//! lifecycle events to the reporter. A worker makes one attempt of one call, applies the result to
//! the stores, and reports the outcome. It uses [`Executor`], as the simulation does. Waiting and
//! retrying belong to the coordinator. No decision is made here.

use super::api_call::ApiCall;
use super::cache::{Cache, key_of, key_of_pod};
use super::coordinator::{CacheChange, Context, Coordinator, Effect, Input, NewWaiter};
use super::error::{Bound, Error};
use super::executor::{Executor, removed};
use super::reporter::Reporter;
use super::request::{RequestHandle, ResponseSink};
use super::shared_catalog::SharedCatalog;
use crate::clock::Clock;
use crate::kube::types::{Job, Pod};
use crate::store::Change;
use crate::threads::{self, OnDeath};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Inputs that the coordinator takes before it reads the clock again.
const BATCH: usize = 256;

/// After this long without a heartbeat the coordinator's thread counts as dead.
pub const HEARTBEAT_LATEST: Duration = Duration::from_secs(60);

/// Maximum sleep of the coordinator's thread, so that its heartbeat continues.
const NAP: Duration = Duration::from_secs(1);

/// Maximum number of inputs in the queue; more means that the coordinator does not keep up. A queue
/// allocates its whole capacity in advance, so inputs are boxed.
const INPUTS_MAX: usize = 16_384;

/// The sending side of the queue; clones share it.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: SyncSender<Box<Input>>,
    abandoned: Abandoned,
}

/// Requests abandoned while the queue was full. Bounded by the waiting requests: each is abandoned
/// once.
type Abandoned = Arc<Mutex<Vec<RequestHandle>>>;

/// The receiving side of an inbox.
#[derive(Debug)]
pub struct Inputs {
    /// The inputs, in order.
    pub receiver: Receiver<Box<Input>>,
    abandoned: Abandoned,
}

impl Inbox {
    /// The two sides of an inbox.
    #[must_use]
    pub fn new() -> (Self, Inputs) {
        Self::with_capacity(INPUTS_MAX)
    }

    /// An inbox with this capacity, which is allocated in advance.
    #[must_use]
    pub fn with_capacity(inputs: usize) -> (Self, Inputs) {
        let (sender, receiver) = sync_channel(inputs);
        let abandoned = Abandoned::default();
        let inputs = Inputs {
            receiver,
            abandoned: Arc::clone(&abandoned),
        };
        (Self { sender, abandoned }, inputs)
    }

    /// Puts in a request, if there is capacity. Never blocks.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] if there is none, [`Error::Draining`] after the coordinator has
    /// ended.
    pub fn request(&self, request: NewWaiter) -> Result<(), Error> {
        let sent = self.sender.try_send(Box::new(Input::Requested(request)));
        sent.map_err(|error| match error {
            TrySendError::Full(_) => Error::TooManyRequests(Bound::Inbox),
            TrySendError::Disconnected(_) => Error::Draining,
        })
    }

    /// Reports that the caller of a request hung up. Never blocks, and is not lost.
    pub fn abandon(&self, handle: RequestHandle) {
        let sent = self.sender.try_send(Box::new(Input::Abandoned(handle)));
        if let Err(TrySendError::Full(_)) = sent {
            self.abandoned
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(handle);
        }
    }

    /// Puts in an input that must not be lost, and waits for capacity.
    pub fn send(&self, input: Input) {
        // After the coordinator has ended there is nothing left to do.
        let _ = self.sender.send(Box::new(input));
    }
}

impl Inputs {
    /// The next inputs, up to a maximum. Requests that were abandoned while the queue was full come
    /// last, once the queue is empty: their own inputs have been read by then.
    pub fn take(&self, most: usize) -> Vec<Input> {
        let mut inputs: Vec<Input> = self
            .receiver
            .try_iter()
            .take(most)
            .map(|input| *input)
            .collect();
        if inputs.len() < most {
            let mut abandoned = self
                .abandoned
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            inputs.extend(abandoned.drain(..).map(Input::Abandoned));
        }
        inputs
    }
}

/// The parts of the engine.
#[derive(Debug)]
pub struct Parts {
    /// The coordinator.
    pub coordinator: Coordinator,
    /// The inputs.
    pub inputs: Inputs,
    /// The same inbox, for workers.
    pub inbox: Inbox,
    /// The cache.
    pub cache: Cache,
    /// The app types.
    pub catalog: Arc<SharedCatalog>,
    /// Where responses go.
    pub sink: Arc<dyn ResponseSink>,
    /// The executor of calls.
    pub executor: Executor,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where lifecycle events go.
    pub reporter: Reporter,
    /// How many workers.
    pub workers: usize,
    /// More calls than this never wait, since each belongs to a name with an operation.
    pub calls_max: usize,
}

/// The running threads; they end with the process.
#[derive(Debug)]
pub struct Engine {
    /// The last heartbeat of the coordinator's thread, in milliseconds since `started`.
    heartbeat: Arc<AtomicU64>,
    started: Instant,
    clock: Arc<dyn Clock>,
}

impl Engine {
    /// Starts the coordinator's thread and the workers. `on_death` is called with a message when
    /// one of them dies; the process should then exit.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(parts: Parts, on_death: &OnDeath) -> std::io::Result<Self> {
        // Capacity for each name that may have a call in flight, so that the coordinator never
        // blocks.
        let (calls, queue) = sync_channel::<Arc<ApiCall>>(parts.calls_max);
        let (executor, inbox) = (parts.executor.clone(), parts.inbox.clone());
        threads::spawn_workers("worker", parts.workers, on_death, queue, move |call| {
            let key = call.key.clone();
            let completed = executor.apply(executor.call(call));
            inbox.send(Input::Completed(key, completed));
        })?;
        let engine = Self {
            heartbeat: Arc::default(),
            started: parts.clock.now(),
            clock: Arc::clone(&parts.clock),
        };
        let thread = CoordinatorThread {
            parts,
            calls,
            heartbeat: Arc::clone(&engine.heartbeat),
            started: engine.started,
        };
        let on_death = Arc::clone(on_death);
        threads::spawn("coordinator".into(), on_death, move || thread.run())?;
        Ok(engine)
    }

    /// How long ago the coordinator's thread last gave a heartbeat.
    #[must_use]
    pub fn since_heartbeat(&self) -> Duration {
        let heartbeat = Duration::from_millis(self.heartbeat.load(Ordering::Relaxed));
        (self.clock.now() - self.started).saturating_sub(heartbeat)
    }
}

struct CoordinatorThread {
    parts: Parts,
    calls: SyncSender<Arc<ApiCall>>,
    heartbeat: Arc<AtomicU64>,
    started: Instant,
}

impl CoordinatorThread {
    fn run(mut self) {
        let mut effects = Vec::new();
        loop {
            let now = self.parts.clock.now();
            let heartbeat = u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX);
            self.heartbeat.store(heartbeat, Ordering::Relaxed);
            let wake = self.parts.coordinator.next_wake();
            let wait = wake.map_or(NAP, |at| at.saturating_duration_since(now));
            let mut inputs = match self.parts.inputs.receiver.recv_timeout(wait.min(NAP)) {
                Ok(first) => vec![*first],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            inputs.extend(self.parts.inputs.take(BATCH));
            self.advance(inputs, &mut effects);
            self.carry_out(&mut effects);
        }
    }

    fn advance(&mut self, inputs: Vec<Input>, effects: &mut Vec<Effect>) {
        let parts = &mut self.parts;
        let catalog = parts.catalog.current();
        let context = Context {
            now: parts.clock.now(),
            wall: parts.clock.wall_now(),
            cache: &parts.cache,
            catalog: &catalog,
        };
        for input in inputs {
            parts.coordinator.step(input, &context, effects);
        }
        parts.coordinator.tick(&context, effects);
    }

    fn carry_out(&self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Respond(handle, response) => self.parts.sink.respond(handle, response),
                // Without workers the process is about to exit.
                Effect::Call(call) => drop(self.calls.send(call)),
                Effect::Report(event) => self.parts.reporter.report(*event),
            }
        }
    }
}

/// The cache changes of these Job changes: the old object may have been another instance.
#[must_use]
pub fn changes_of_jobs(changes: &[Change<Job>]) -> Vec<CacheChange> {
    let mut all = Vec::with_capacity(changes.len());
    for change in changes {
        let gone = removed(change);
        let of_old = change.old.as_deref().and_then(key_of);
        let of_new = change.new.as_deref().and_then(key_of);
        let of_new = of_new.filter(|key| of_old.as_ref() != Some(key));
        all.extend(of_old.map(|key| CacheChange { key, gone }));
        all.extend(of_new.map(|key| CacheChange { key, gone: None }));
    }
    all
}

/// The cache changes of these pod changes.
#[must_use]
pub fn changes_of_pods(changes: &[Change<Pod>]) -> Vec<CacheChange> {
    let pods = changes.iter().flat_map(|change| [&change.old, &change.new]);
    let keys = pods.flatten().filter_map(|pod| key_of_pod(&pod.metadata));
    let mut all: Vec<CacheChange> = keys.map(|key| CacheChange { key, gone: None }).collect();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::handle;

    /// A caller hangs up while the inbox is full.
    #[test]
    fn abandoning_never_blocks_on_a_full_inbox_and_loses_nothing() {
        let (inbox, inputs) = Inbox::with_capacity(1);
        inbox.abandon(handle(1));
        inbox.abandon(handle(2));
        inbox.abandon(handle(3));
        let numbers = |inputs: Vec<Input>| -> Vec<u64> {
            let number = |input: Input| match input {
                Input::Abandoned(handle) => handle.serial,
                other => panic!("{other:?}"),
            };
            inputs.into_iter().map(number).collect()
        };
        // The queue is not yet empty.
        assert_eq!(numbers(inputs.take(1)), [1]);
        assert_eq!(numbers(inputs.take(8)), [2, 3]);
        assert_eq!(numbers(inputs.take(8)), [0; 0]);
    }
}
