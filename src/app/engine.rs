//! The threads around the coordinator: one that runs it, and workers that call Kubernetes.
//!
//! The coordinator's thread takes what happened from its inbox, lets the coordinator decide, and
//! carries out what comes out: answers go to the [`AnswerSink`], calls into the
//! workers' queue. A worker makes one attempt of one call, applies what comes back
//! to the stores, and reports; [`Executor`] is how, and the simulation has the same.
//! Waiting and trying again belong to the coordinator. No decision is made here.

use super::cache::{Cache, key_of, key_of_pod};
use super::catalog::{Catalog, Note};
use super::coordinator::{Coordinator, Input, Now, Wish};
use super::counting::{Counting, Following};
use super::error::{Bound, Error};
use super::executor::{Executor, Writers};
use super::flight::{Call, Effect, Operation};
use super::{AnswerSink, Origin};
use crate::clock::Clock;
use crate::kube::Client;
use crate::kube::types::{ConfigMap, Job, Pod};
use crate::metrics::Metrics;
use crate::model::names::InstanceKey;
use crate::model::status::Budgets;
use crate::store::Change;
use crate::threads::{self, OnDeath};
use crate::traces::Traces;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// What may wait for the coordinator's thread: more means that it does not keep up. A queue takes the memory
/// for all its places at once, so what is in them is boxed, here and in the queue of calls.
const INBOX_MAX: usize = 16_384;

/// Inputs that the coordinator takes before it looks at the time again.
const BATCH: usize = 256;

/// When the coordinator's thread that has not come round is taken for dead.
pub const BEAT_LATEST: Duration = Duration::from_secs(60);

/// How long the coordinator's thread sleeps at most, so that its heartbeat goes on.
const NAP: Duration = Duration::from_secs(1);

/// The way to the coordinator; clones lead to the same one.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: SyncSender<Box<Input>>,
}

/// The end at which an inbox is read.
pub type Inputs = Receiver<Box<Input>>;

impl Inbox {
    /// An inbox and the end at which it is read.
    #[must_use]
    pub fn new() -> (Self, Inputs) {
        Self::with_room(INBOX_MAX)
    }

    /// An inbox for so many inputs: the memory for all of them is taken at once.
    #[must_use]
    pub fn with_room(inputs: usize) -> (Self, Inputs) {
        let (sender, receiver) = sync_channel(inputs);
        (Self { sender }, receiver)
    }

    /// Puts in a request, if there is room.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] where there is none.
    pub fn ask(&self, input: Input) -> Result<(), Error> {
        let sent = self.sender.try_send(Box::new(input));
        sent.map_err(|error| match error {
            TrySendError::Full(_) => Error::TooManyRequests(Bound::Inbox),
            TrySendError::Disconnected(_) => Error::Draining,
        })
    }

    /// Puts in what must not be lost, and waits for room.
    pub fn tell(&self, input: Input) {
        // After the coordinator has ended there is nobody to tell.
        let _ = self.sender.send(Box::new(input));
    }
}

/// The catalog as it is now.
#[derive(Debug, Default)]
pub struct Catalogs {
    current: RwLock<Arc<Catalog>>,
    is_read: AtomicBool,
}

impl Catalogs {
    /// Nothing on offer yet; where no annotation says otherwise, these budgets hold.
    #[must_use]
    pub fn new(budgets: Budgets) -> Self {
        Self {
            current: RwLock::new(Arc::new(Catalog::new(budgets))),
            is_read: AtomicBool::new(false),
        }
    }

    /// The catalog as it is now.
    #[must_use]
    pub fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the ConfigMaps have been read once. That is a moment after their store has seen
    /// them all; until then the catalog is empty, and no answer may be made from it.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::SeqCst)
    }

    /// Reads the ConfigMaps again, and logs what is new.
    pub fn update(&self, config_maps: &[Arc<ConfigMap>]) {
        let (catalog, notes) = Catalog::read(config_maps, &self.current());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.is_read.store(true, Ordering::SeqCst);
        for note in notes {
            log_note(&note);
        }
    }
}

fn log_note(note: &Note) {
    match note {
        Note::Read {
            app_type,
            config_map,
            problem: None,
        } => {
            log::info!("app type {app_type} is on offer, from ConfigMap {config_map}");
        }
        Note::Read {
            app_type,
            config_map,
            problem: Some(problem),
        } => {
            log::warn!(
                "app type {app_type} of ConfigMap {config_map} cannot be started: {problem}"
            );
        }
        Note::Duplicate {
            app_type,
            used,
            ignored,
        } => {
            log::warn!("app type {app_type} is in two ConfigMaps: {used} is used, {ignored} is not")
        }
        Note::Gone(app_type) => log::info!("app type {app_type} is no longer on offer"),
    }
}

/// What the engine is made of.
pub struct Parts {
    /// The coordinator.
    pub coordinator: Coordinator,
    /// Where what happened comes in.
    pub receiver: Inputs,
    /// The way into the same inbox, for workers.
    pub inbox: Inbox,
    /// What there is.
    pub cache: Cache,
    /// What is on offer.
    pub catalogs: Arc<Catalogs>,
    /// Where answers go.
    pub sink: Arc<dyn AnswerSink>,
    /// The way to Kubernetes.
    pub client: Client,
    /// Where results go.
    pub writers: Writers,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where starts and stops are counted.
    pub metrics: Arc<Metrics>,
    /// Where starts are told of.
    pub traces: Traces,
    /// How many workers.
    pub workers: usize,
    /// More calls than this never wait, since each belongs to a request that waits.
    pub calls_max: usize,
    /// Told when a thread dies, with a sentence; the process should then end.
    pub on_death: OnDeath,
}

/// The running threads; they end with the process.
#[derive(Debug)]
pub struct Engine {
    /// When the coordinator's thread last came round, in milliseconds since it began.
    beat: Arc<AtomicU64>,
    started: Instant,
    clock: Arc<dyn Clock>,
    counting: Arc<Counting>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the coordinator's thread and the workers.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        // One place for each name that may have a call under way, so that the coordinator never blocks.
        let (calls, queue) = sync_channel::<Box<Call>>(parts.calls_max);
        let queue = Arc::new(Mutex::new(queue));
        let on_death = parts.on_death;
        let executor = Executor::new(
            parts.client,
            parts.writers,
            parts.metrics,
            parts.traces,
            Arc::clone(&parts.catalogs),
            Arc::clone(&parts.clock),
        );
        for number in 0..parts.workers {
            let worker = Worker {
                queue: Arc::clone(&queue),
                executor: executor.clone(),
                inbox: parts.inbox.clone(),
            };
            threads::spawn(
                format!("worker-{number}"),
                Arc::clone(&on_death),
                move || worker.run(),
            )?;
        }
        let beat = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&executor.counting);
        let clock = Arc::clone(&parts.clock);
        let started = clock.now();
        let coordinator = CoordinatorThread {
            coordinator: parts.coordinator,
            receiver: parts.receiver,
            calls,
            cache: parts.cache,
            catalogs: parts.catalogs,
            sink: parts.sink,
            counting: executor.counting,
            clock: parts.clock,
            beat: Arc::clone(&beat),
            started,
        };
        threads::spawn("coordinator".into(), on_death, move || coordinator.run())?;
        Ok(Self {
            beat,
            started,
            clock,
            counting,
        })
    }

    /// How the starts of this replica go.
    #[must_use]
    pub fn following(&self) -> Following {
        self.counting.following()
    }

    /// Tells of the starts that are under way: this replica ends before they do.
    pub fn leave_starts(&self) {
        self.counting.spans.leave();
    }

    /// How long ago the coordinator's thread last came round.
    #[must_use]
    pub fn since_beat(&self) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        (self.clock.now() - self.started).saturating_sub(beat)
    }
}

struct CoordinatorThread {
    coordinator: Coordinator,
    receiver: Inputs,
    calls: SyncSender<Box<Call>>,
    cache: Cache,
    catalogs: Arc<Catalogs>,
    sink: Arc<dyn AnswerSink>,
    counting: Arc<Counting>,
    clock: Arc<dyn Clock>,
    beat: Arc<AtomicU64>,
    started: Instant,
}

impl CoordinatorThread {
    fn run(mut self) {
        let mut effects = Vec::new();
        loop {
            let now = self.clock.now();
            let beat = u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX);
            self.beat.store(beat, Ordering::Relaxed);
            let wakes = [self.coordinator.next_wake(), self.counting.next_wake()];
            let wake = wakes.into_iter().flatten().min();
            let wait = wake.map_or(NAP, |at| at.saturating_duration_since(now));
            match self.receiver.recv_timeout(wait.min(NAP)) {
                Ok(first) => self.take(*first, &mut effects),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.with_now(|coordinator, now| coordinator.tick(now, &mut effects));
            self.counting.tick(&self.cache, self.coordinator.history());
            self.carry_out(&mut effects);
        }
    }

    /// Takes what has come in, up to a batch.
    fn take(&mut self, first: Input, effects: &mut Vec<Effect>) {
        let mut inputs = vec![first];
        inputs.extend(self.receiver.try_iter().take(BATCH).map(|input| *input));
        let keys = inputs.iter().flat_map(keys_of);
        self.counting
            .look(keys, &self.cache, self.coordinator.history());
        if self.counting.spans.is_on() {
            for (key, by) in inputs.iter().filter_map(asking_of) {
                self.counting.spans.joined(key, by);
            }
        }
        self.with_now(|coordinator, now| {
            for input in inputs {
                coordinator.step(input, now, effects);
            }
        });
    }

    fn with_now(&mut self, act: impl FnOnce(&mut Coordinator, &Now<'_>)) {
        let catalog = self.catalogs.current();
        let now = Now {
            now: self.clock.now(),
            wall: self.clock.wall_now(),
            cache: &self.cache,
            catalog: &catalog,
        };
        act(&mut self.coordinator, &now);
    }

    fn carry_out(&self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Answer(token, answer) => self.sink.answer(token, answer),
                Effect::Call(call) => {
                    if let Operation::Create { by, .. } = &call.operation {
                        let waiting = self.coordinator.callers(&call.key);
                        self.counting.spans.asked(&call.key, by, waiting);
                    }
                    // When the workers have gone the process is about to end.
                    let _ = self.calls.send(call);
                }
            }
        }
    }
}

/// Which instance is asked for by this, and by whom.
fn asking_of(input: &Input) -> Option<(&InstanceKey, &Origin)> {
    match input {
        Input::Asked(key, Wish::Ensure(ensure)) => Some((key, &ensure.by)),
        _ => None,
    }
}

/// The names whose cache may be another than before this.
fn keys_of(input: &Input) -> &[InstanceKey] {
    match input {
        Input::Changed(keys) => keys,
        Input::Completed(key, _) => std::slice::from_ref(key),
        _ => &[],
    }
}

struct Worker {
    queue: Arc<Mutex<Receiver<Box<Call>>>>,
    executor: Executor,
    inbox: Inbox,
}

impl Worker {
    fn run(self) {
        loop {
            // One worker at a time waits in the queue; the others wait for it.
            let call = self
                .queue
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv();
            let Ok(call) = call else {
                return;
            };
            let key = call.key.clone();
            let outcome = self.executor.apply(self.executor.ask(*call));
            self.inbox.tell(Input::Completed(key, outcome));
        }
    }
}

/// The names whose cache these changes of Jobs touch: what was there may have been another instance.
#[must_use]
pub fn keys_of_jobs(changes: &[Change<Job>]) -> Vec<InstanceKey> {
    changes
        .iter()
        .flat_map(|change| [&change.old, &change.new])
        .filter_map(|job| key_of(job.as_deref()?))
        .collect()
}

/// The names whose cache these changes of pods touch.
#[must_use]
pub fn keys_of_pods(changes: &[Change<Pod>]) -> Vec<InstanceKey> {
    changes
        .iter()
        .flat_map(|change| [&change.old, &change.new])
        .filter_map(|pod| key_of_pod(&pod.as_deref()?.metadata))
        .collect()
}
