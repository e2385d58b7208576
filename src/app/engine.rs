//! The threads around the desk: one that runs it, and workers that call Kubernetes.
//!
//! The desk's thread takes what happened from its inbox, lets the desk decide, and
//! carries out what comes out: answers go to the [`AnswerSink`], calls into the
//! workers' queue. A worker makes one attempt of one call, applies what comes back
//! to the stores, and reports; [`Hands`] is how, and the simulation has the same.
//! Waiting and trying again belong to the desk. No decision is made here.

use super::catalog::{Catalog, Note};
use super::counting::{Counting, Following};
use super::desk::{Desk, Input, Now};
use super::error::Error;
use super::flight::{Call, Cause, Effect, OVERDUE_AFTER, Operation, Outcome};
use super::view::{View, key_of};
use super::{AnswerSink, Origin};
use crate::clock::Clock;
use crate::kube::client::Deleted;
use crate::kube::types::{ConfigMap, Job, ObjectMeta, Pod, Uid};
use crate::kube::{self, Class, Client};
use crate::metrics::Metrics;
use crate::model::labels;
use crate::model::names::{AppType, InstanceKey, InstanceName};
use crate::model::status::Budgets;
use crate::store::{Change, Writer};
use crate::threads::{self, OnDeath};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// What may wait for the desk's thread: more means that it does not keep up.
const INBOX_MAX: usize = 65_536;

/// Inputs that the desk takes before it looks at the time again.
const BATCH: usize = 256;

/// When the desk's thread that has not come round is taken for dead.
pub const BEAT_LATEST: Duration = Duration::from_secs(60);

/// How long the desk's thread sleeps at most, so that its heartbeat goes on.
const NAP: Duration = Duration::from_secs(1);

/// The way to the desk; clones lead to the same one.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: SyncSender<Input>,
}

impl Inbox {
    /// An inbox and the end at which it is read.
    #[must_use]
    pub fn new() -> (Self, Receiver<Input>) {
        Self::with_room(INBOX_MAX)
    }

    /// An inbox for so many inputs: the memory for all of them is taken at once.
    #[must_use]
    pub fn with_room(inputs: usize) -> (Self, Receiver<Input>) {
        let (sender, receiver) = sync_channel(inputs);
        (Self { sender }, receiver)
    }

    /// Puts in a request, if there is room.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] where there is none.
    pub fn ask(&self, input: Input) -> Result<(), Error> {
        self.sender.try_send(input).map_err(|error| match error {
            TrySendError::Full(_) => Error::TooManyRequests("the desk's inbox"),
            TrySendError::Disconnected(_) => Error::Draining,
        })
    }

    /// Puts in what must not be lost, and waits for room.
    pub fn tell(&self, input: Input) {
        // After the desk has ended there is nobody to tell.
        let _ = self.sender.send(input);
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

/// Writers of the stores that hold instances.
#[derive(Clone, Debug)]
pub struct Writers {
    /// For Jobs.
    pub jobs: Writer<Job>,
    /// For pods.
    pub pods: Writer<Pod>,
}

/// What the engine is made of.
pub struct Parts {
    /// The desk.
    pub desk: Desk,
    /// Where what happened comes in.
    pub receiver: Receiver<Input>,
    /// The way into the same inbox, for workers.
    pub inbox: Inbox,
    /// What there is.
    pub view: View,
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
    /// When the desk's thread last came round, in milliseconds since it began.
    beat: Arc<AtomicU64>,
    started: Instant,
    clock: Arc<dyn Clock>,
    following: Following,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("workers", &self.workers)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Starts the desk's thread and the workers.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(parts: Parts) -> std::io::Result<Self> {
        // One place for each name that may have a call under way, so that the desk never blocks.
        let (calls, queue) = sync_channel::<Call>(parts.calls_max);
        let queue = Arc::new(Mutex::new(queue));
        let on_death = parts.on_death;
        let hands = Hands::new(
            parts.client,
            parts.writers,
            parts.metrics,
            Arc::clone(&parts.catalogs),
            Arc::clone(&parts.clock),
        );
        for number in 0..parts.workers {
            let worker = Worker {
                queue: Arc::clone(&queue),
                hands: hands.clone(),
                inbox: parts.inbox.clone(),
            };
            threads::spawn(
                format!("worker-{number}"),
                Arc::clone(&on_death),
                move || worker.run(),
            )?;
        }
        let beat = Arc::new(AtomicU64::new(0));
        let following = hands.counting.following();
        let clock = Arc::clone(&parts.clock);
        let started = clock.now();
        let desk = DeskThread {
            desk: parts.desk,
            receiver: parts.receiver,
            calls,
            view: parts.view,
            catalogs: parts.catalogs,
            sink: parts.sink,
            counting: hands.counting,
            clock: parts.clock,
            beat: Arc::clone(&beat),
            started,
        };
        threads::spawn("desk".into(), on_death, move || desk.run())?;
        Ok(Self {
            beat,
            started,
            clock,
            following,
        })
    }

    /// How the starts of this replica go.
    #[must_use]
    pub fn following(&self) -> Following {
        self.following.clone()
    }

    /// How long ago the desk's thread last came round.
    #[must_use]
    pub fn since_beat(&self) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Ordering::Relaxed));
        (self.clock.now() - self.started).saturating_sub(beat)
    }
}

struct DeskThread {
    desk: Desk,
    receiver: Receiver<Input>,
    calls: SyncSender<Call>,
    view: View,
    catalogs: Arc<Catalogs>,
    sink: Arc<dyn AnswerSink>,
    counting: Arc<Counting>,
    clock: Arc<dyn Clock>,
    beat: Arc<AtomicU64>,
    started: Instant,
}

impl DeskThread {
    fn run(mut self) {
        let mut effects = Vec::new();
        loop {
            let now = self.clock.now();
            let beat = u64::try_from((now - self.started).as_millis()).unwrap_or(u64::MAX);
            self.beat.store(beat, Ordering::Relaxed);
            let wakes = [self.desk.next_wake(), self.counting.next_wake()];
            let wake = wakes.into_iter().flatten().min();
            let wait = wake.map_or(NAP, |at| at.saturating_duration_since(now));
            match self.receiver.recv_timeout(wait.min(NAP)) {
                Ok(first) => self.take(first, &mut effects),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.with_now(|desk, now| desk.tick(now, &mut effects));
            self.counting.tick(&self.view, self.desk.history());
            self.carry_out(&mut effects);
        }
    }

    /// Takes what has come in, up to a batch.
    fn take(&mut self, first: Input, effects: &mut Vec<Effect>) {
        let mut inputs = vec![first];
        inputs.extend(self.receiver.try_iter().take(BATCH));
        let keys = inputs.iter().flat_map(keys_of);
        self.counting.look(keys, &self.view, self.desk.history());
        self.with_now(|desk, now| {
            for input in inputs {
                desk.step(input, now, effects);
            }
        });
    }

    fn with_now(&mut self, act: impl FnOnce(&mut Desk, &Now<'_>)) {
        let catalog = self.catalogs.current();
        let now = Now {
            now: self.clock.now(),
            wall: self.clock.wall_now(),
            view: &self.view,
            catalog: &catalog,
        };
        act(&mut self.desk, &now);
    }

    fn carry_out(&self, effects: &mut Vec<Effect>) {
        for effect in effects.drain(..) {
            match effect {
                Effect::Answer(token, answer) => self.sink.answer(token, answer),
                Effect::Call(call) => {
                    // When the workers have gone the process is about to end.
                    let _ = self.calls.send(*call);
                }
            }
        }
    }
}

/// The names whose view may be another than before this.
fn keys_of(input: &Input) -> &[InstanceKey] {
    match input {
        Input::Changed(keys) => keys,
        Input::Completed(key, _) => std::slice::from_ref(key),
        _ => &[],
    }
}

struct Worker {
    queue: Arc<Mutex<Receiver<Call>>>,
    hands: Hands,
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
            let outcome = self.hands.apply(self.hands.ask(call));
            self.inbox.tell(Input::Completed(key, outcome));
        }
    }
}

/// Carries out the desk's calls: [`Hands::ask`] talks to Kubernetes and touches nothing here,
/// [`Hands::apply`] touches the stores and talks to nobody. Much may happen in between.
#[derive(Clone, Debug)]
pub struct Hands {
    client: Client,
    writers: Writers,
    counting: Arc<Counting>,
}

/// A call that was made, and what came back.
#[derive(Debug)]
pub struct Asked {
    call: Call,
    begun: Instant,
    /// The Job of that name when a read was asked for, since a new one may be seen while the
    /// answer is on its way.
    held: Option<Arc<Job>>,
    reply: Result<Reply, kube::Error>,
}

/// What Kubernetes returned.
#[derive(Debug)]
enum Reply {
    Job(Job),
    Deleted(Deleted),
    Pod(Pod),
    Removed,
}

impl Hands {
    /// Hands that use this client and apply what it returns to these stores.
    #[must_use]
    pub fn new(
        client: Client,
        writers: Writers,
        metrics: Arc<Metrics>,
        catalogs: Arc<Catalogs>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            client,
            writers,
            counting: Arc::new(Counting::new(metrics, catalogs, clock)),
        }
    }

    /// Makes one attempt of a call.
    #[must_use]
    pub fn ask(&self, call: Call) -> Asked {
        let name = call.key.job_name();
        let begun = self.counting.now();
        let mut held = None;
        let reply = match &call.operation {
            Operation::Create { manifest, .. } => self.client.create_job(manifest).map(Reply::Job),
            Operation::Read => {
                held = self.writers.jobs.store().get(&name);
                self.client.get_job(&name).map(Reply::Job)
            }
            Operation::Delete { uid, .. } => self.client.delete_job(&name, uid).map(Reply::Deleted),
            Operation::Label { pod, uid, patch } => {
                self.client.patch_pod(pod, uid, patch).map(Reply::Pod)
            }
            Operation::Remove { pod, uid } => {
                self.client.delete_pod(pod, uid).map(|()| Reply::Removed)
            }
        };
        Asked {
            call,
            begun,
            held,
            reply,
        }
    }

    /// Puts into the stores what a call returned, and says how it ended.
    #[must_use]
    pub fn apply(&self, asked: Asked) -> Outcome {
        let call = asked.call;
        match asked.reply {
            Ok(reply) => self.succeeded(&call, reply, asked.begun),
            Err(error) => self.failed(&call, asked.held, error),
        }
    }

    fn succeeded(&self, call: &Call, reply: Reply, begun: Instant) -> Outcome {
        let (key, name) = (&call.key, call.key.job_name());
        match reply {
            Reply::Job(job) => match &call.operation {
                Operation::Create { by, .. } => {
                    log::info!("started {key} for {by} (Job {name})");
                    let uid = job.metadata.uid.clone();
                    drop(self.writers.jobs.own_write(job));
                    self.counting.begun(key, &uid, begun);
                }
                // It may be another instance: the watch tells of that, or those who wait for it would
                // not hear that it is there.
                _ if key_of(&job).as_ref() != Some(key) => return Outcome::Foreign,
                _ => drop(self.writers.jobs.own_write(job)),
            },
            Reply::Deleted(deleted) => {
                if let Operation::Delete { uid, cause } = &call.operation
                    && !self.is_deleting(&name, uid)
                {
                    log_deletion(key, &name, cause);
                    self.counting.stopped(key, cause);
                }
                match deleted.job {
                    Some(job) => drop(self.writers.jobs.own_write(job)),
                    None => self.forget(call),
                }
            }
            Reply::Pod(pod) => drop(self.writers.pods.own_write(pod)),
            // What keeps it, if anything does, the watch will say.
            Reply::Removed => {
                log::warn!(
                    "removed the pod of {key}, which was still there {} s after its grace was over: is its node gone?",
                    OVERDUE_AFTER.as_secs()
                );
                self.counting.removed(key);
            }
        }
        Outcome::Done
    }

    fn failed(&self, call: &Call, held: Option<Arc<Job>>, error: kube::Error) -> Outcome {
        let is_gone = error.class() == Class::NotFound;
        match &call.operation {
            Operation::Read if is_gone => {
                if let Some(job) = held {
                    let name = call.key.job_name();
                    drop(self.writers.jobs.own_delete(&name, &job.metadata.uid));
                }
                return Outcome::Absent;
            }
            Operation::Delete { .. } if is_gone => self.forget(call),
            Operation::Create { .. } => self.counting.not_begun(&call.key, &error),
            _ => {}
        }
        log_failure(call, &error);
        Outcome::Failed(error)
    }

    /// Whether the Job was seen to be on its way out.
    fn is_deleting(&self, name: &str, uid: &Uid) -> bool {
        let seen = self.writers.jobs.store().get(name);
        seen.is_some_and(|job| job.metadata.uid == *uid && job.metadata.is_deleting())
    }

    /// The Job that was to be deleted is gone.
    fn forget(&self, call: &Call) {
        if let Operation::Delete { uid, .. } = &call.operation {
            drop(self.writers.jobs.own_delete(&call.key.job_name(), uid));
        }
    }
}

fn log_deletion(key: &InstanceKey, job: &str, cause: &Cause) {
    match cause {
        Cause::Asked(by) => log::info!("stopping {key} for {by} (Job {job})"),
        Cause::Ended => log::info!("replacing {key}, which has ended (Job {job})"),
        Cause::Stuck => log::warn!("stopping {key}, a pod of which does not go (Job {job})"),
    }
}

/// Says once what a call met; what is the business of the desk alone is not worth a line.
fn log_failure(call: &Call, error: &kube::Error) {
    match error.class() {
        Class::AlreadyExists | Class::Conflict | Class::NotFound => {
            log::debug!("{}: {error}", call.key);
        }
        _ => match origin(&call.operation) {
            Some(by) => log::warn!("{} for {by}: {error}", call.key),
            None => log::warn!("{}: {error}", call.key),
        },
    }
}

/// Who asked for this, where it is not for all who wait.
fn origin(operation: &Operation) -> Option<&Origin> {
    match operation {
        Operation::Create { by, .. }
        | Operation::Delete {
            cause: Cause::Asked(by),
            ..
        } => Some(by),
        Operation::Delete { .. }
        | Operation::Remove { .. }
        | Operation::Read
        | Operation::Label { .. } => None,
    }
}

/// The names whose view these changes of Jobs touch: what was there may have been another instance.
#[must_use]
pub fn keys_of_jobs(changes: &[Change<Job>]) -> Vec<InstanceKey> {
    changes
        .iter()
        .flat_map(|change| [&change.old, &change.new])
        .filter_map(|job| key_of(job.as_deref()?))
        .collect()
}

/// The names whose view these changes of pods touch.
#[must_use]
pub fn keys_of_pods(changes: &[Change<Pod>]) -> Vec<InstanceKey> {
    changes
        .iter()
        .flat_map(|change| [&change.old, &change.new])
        .filter_map(|pod| key_of_pod(&pod.as_deref()?.metadata))
        .collect()
}

fn key_of_pod(metadata: &ObjectMeta) -> Option<InstanceKey> {
    let read = |key: &str| {
        metadata
            .annotations
            .get(key)
            .or_else(|| metadata.labels.get(key))
    };
    Some(InstanceKey {
        app_type: AppType::new(read(labels::INSTANCE_TYPE)?).ok()?,
        name: InstanceName::new(read(labels::INSTANCE_NAME)?).ok()?,
    })
}
