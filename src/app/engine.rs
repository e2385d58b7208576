//! The threads around the coordinator (one that runs it, and workers that call Kubernetes), and its [`Inbox`]: a
//! bounded queue, on which I/O threads never block; threads with inputs that must not be lost wait for capacity.
//!
//! The coordinator's thread takes inputs from the inbox, passes them to the coordinator, and
//! carries out its effects. Responses go to the [`ResponseSink`], calls into the workers' queue,
//! lifecycle events to the reporter. A worker makes one attempt of one call and reports the outcome.
//! It uses [`Executor`], as the simulation does: [`Executor::call`] calls Kubernetes and changes
//! nothing here; [`Executor::apply`] changes the stores and makes no call. Other events may happen in
//! between. Waiting and retrying belong to the coordinator. No decision is made here.

mod calls;
mod inbox;
mod start_warnings;
mod writers;

pub use inbox::{Inbox, Inputs};
pub use writers::Writers;

use super::api_call::{Action, ApiCall, CallOutcome, Completed, GoneJob, StopCause};
use super::cache::Cache;
use super::catalog::{Catalog, SharedCatalog};
use super::coordinator::{Context, Coordinator, Effect, Input};
use super::error::Error;
use super::events::EventLog;
use super::keys::key_of;
use super::log_line::log_line;
use super::relists::item_of;
use super::rendering::Renderer;
use super::reporter::Reporter;
use super::request::ResponseSink;
use super::usage::Usage;
use super::uses::Uses;
use crate::clock::Clock;
use crate::kube::client::Warnings;
use crate::kube::transport::CALL_LONGEST;
use crate::kube::types::{Found, Job, Page, Pod, Resource, ResourceVersion, Uid};
use crate::kube::{self, Class, Client};
use crate::model::job;
use crate::model::labels::MetaChange;
use crate::model::names::InstanceKey;
use crate::threads::{self, Heartbeat, Heartbeats, OnDeath, Workers};
use calls::Calls;
use log::Level;
use start_warnings::StartWarnings;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Inputs that the coordinator takes before it reads the clock again.
const BATCH: usize = 256;

/// The longest that a worker needs for one call once its manifest is rendered: when what it deletes is
/// gone, it looks again, and after a Job it may read its pods.
const WORK_LONGEST: Duration = Duration::from_secs(2 * CALL_LONGEST.as_secs());

/// Maximum sleep of the coordinator's thread, so that its heartbeat continues.
const NAP: Duration = Duration::from_secs(1);

/// Maximum number of inputs in the queue; more means that the coordinator does not keep up. A queue
/// allocates its whole capacity in advance, so inputs are boxed.
pub const INPUTS_MAX: usize = 16_384;

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
    /// And what becomes of them when an instance has ended.
    pub usage: Usage,
    /// And those that readers of streams are told.
    pub events: Arc<EventLog>,
    /// How many workers.
    pub workers: usize,
    /// Where the heartbeats of the threads go.
    pub heartbeats: Heartbeats,
    /// More calls than this never wait for a worker, since each belongs to a name with an operation.
    pub calls_max: usize,
}

/// Starts the coordinator's thread and the workers, which end with the process; returns what renders
/// their manifests. `on_death` is called with a message when one of them dies; the process should then
/// exit.
///
/// # Errors
/// When a thread cannot be started.
pub fn start(parts: Parts, on_death: &OnDeath) -> std::io::Result<Renderer> {
    let calls = Arc::new(Calls::new(parts.calls_max));
    let mut executor = parts.executor.clone();
    let workers = Workers {
        name: "worker",
        count: parts.workers,
        longest: WORK_LONGEST,
        heartbeats: &parts.heartbeats,
        clock: &parts.clock,
    };
    executor.renderer = Renderer::start(workers, on_death)?;
    start_workers(workers, &executor, &calls, &parts.inbox, on_death)?;
    let heartbeat = (parts.heartbeats).register("coordinator", parts.clock.now());
    let thread = CoordinatorThread {
        parts,
        calls,
        heartbeat,
    };
    let on_death = Arc::clone(on_death);
    threads::spawn("coordinator".into(), on_death, move || thread.run())?;
    Ok(executor.renderer)
}

/// Starts the workers. One is idle until its manifest is rendered: the renderer has a heartbeat of its
/// own, and may render those of all others first.
fn start_workers(
    workers: Workers<'_>,
    executor: &Executor,
    calls: &Arc<Calls>,
    inbox: &Inbox,
    on_death: &OnDeath,
) -> std::io::Result<()> {
    let (calls, preparer) = (Arc::clone(calls), executor.clone());
    let next = move || Some(preparer.prepare(calls.take()));
    let (executor, inbox) = (executor.clone(), inbox.clone());
    workers.spawn(on_death, next, move |prepared| {
        let key = prepared.call.key.clone();
        let completed = executor.apply(executor.make(prepared));
        inbox.send(Input::Completed(key, completed));
    })
}

struct CoordinatorThread {
    parts: Parts,
    calls: Arc<Calls>,
    heartbeat: Arc<Heartbeat>,
}

impl CoordinatorThread {
    fn run(mut self) {
        let mut effects = Vec::new();
        loop {
            let now = self.parts.clock.now();
            self.heartbeat.beat(now, NAP);
            let wake = self.parts.coordinator.next_wake();
            let wait = wake.map_or(NAP, |at| at.saturating_duration_since(now));
            let mut inputs = match self.parts.inputs.receiver.recv_timeout(wait.min(NAP)) {
                Ok(first) => vec![*first],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            inputs.extend(self.parts.inputs.take(BATCH));
            let changed = changed_by(&inputs);
            self.advance(inputs, &mut effects);
            self.carry_out(&mut effects, &changed);
        }
    }

    fn advance(&mut self, inputs: Vec<Input>, effects: &mut Vec<Effect>) {
        let parts = &mut self.parts;
        let catalog = parts.catalog.current();
        let context = context(&*parts.clock, &parts.cache, &catalog);
        for input in inputs {
            parts.coordinator.step(input, &context, effects);
        }
        parts.coordinator.tick(&context, effects);
    }

    /// `changed`: instances of which the stores have something else.
    fn carry_out(&mut self, effects: &mut Vec<Effect>, changed: &[InstanceKey]) {
        let parts = &mut self.parts;
        let catalog = parts.catalog.current();
        let context = context(&*parts.clock, &parts.cache, &catalog);
        let mut has_news = false;
        for effect in effects.drain(..) {
            match effect {
                Effect::Respond(handle, response) => parts.sink.respond(handle, response),
                Effect::Call(call) => self.calls.push(call),
                Effect::Report(event) => {
                    let item = || item_of(&parts.cache, &parts.catalog, &event.key);
                    has_news |= parts.events.append(&event, item, context.wall);
                    parts.usage.note(&event, &context, &parts.reporter);
                    parts.reporter.report(*event);
                }
            }
        }
        for key in changed {
            if let Some(item) = item_of(&parts.cache, &parts.catalog, key) {
                has_news |= parts.events.relabel(&item, parts.clock.wall_now());
            }
        }
        if has_news {
            parts.sink.announce();
        }
    }
}

fn context<'a>(clock: &dyn Clock, cache: &'a Cache, catalog: &'a Catalog) -> Context<'a> {
    Context {
        now: clock.now(),
        wall: clock.wall_now(),
        cache,
        catalog,
    }
}

/// The instances whose objects these inputs have changed in the stores.
#[must_use]
pub fn changed_by(inputs: &[Input]) -> Vec<InstanceKey> {
    let mut keys = Vec::new();
    for input in inputs {
        match input {
            Input::Changed(changes) => keys.extend(changes.iter().map(|it| it.key.clone())),
            Input::Completed(key, _) => keys.push(key.clone()),
            _ => {}
        }
    }
    keys
}

/// Makes calls; clones share all.
#[derive(Clone, Debug)]
pub struct Executor {
    /// Calls Kubernetes.
    pub client: Client,
    /// The stores that results are applied to.
    pub writers: Writers,
    /// Reads the same stores.
    pub cache: Cache,
    /// Renders manifests.
    pub renderer: Renderer,
    /// What the API server warned of when it created Jobs.
    pub start_warnings: Arc<StartWarnings>,
    /// Which instances are used.
    pub uses: Uses,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// A call that can be made.
#[derive(Debug)]
pub struct Prepared {
    call: Arc<ApiCall>,
    /// That of the Job to create, now or next; empty for other calls.
    manifest: Result<Vec<u8>, Error>,
}

/// A completed call and its result.
#[derive(Debug)]
pub struct Called {
    call: Arc<ApiCall>,
    result: Result<Returned, kube::Error>,
    /// The version that the response must have at least, since this replica knew it before.
    least: ResourceVersion,
}

/// The response of Kubernetes.
#[derive(Debug)]
enum Returned {
    Created(Job, Warnings),
    NotRendered(Error),
    /// Its instance was used.
    InUse,
    /// The Job, and its pods if they were read.
    Found(Found<Job>, Option<Page<Pod>>),
    Deleted {
        /// `None` when it is already gone.
        job: Option<Job>,
        /// Whether the deletion of this Job had not been seen at the time of the call. Another Job
        /// may be seen while the response is on its way.
        is_first: bool,
    },
    Admitted(Job),
    /// The Jobs that were there when this one was created, unless there were too many.
    Before(Uid, Option<HashSet<Uid>>),
    Pod(Pod),
    PodDeleted,
}

impl Returned {
    /// Its version, as far as it says when the response was made.
    fn version(&self) -> Option<&ResourceVersion> {
        match self {
            Self::Created(job, _) | Self::Admitted(job) | Self::Deleted { job: Some(job), .. } => {
                Some(&job.metadata.resource_version)
            }
            Self::Found(found, _) => Some(&found.version),
            Self::Pod(pod) => Some(&pod.metadata.resource_version),
            Self::NotRendered(_)
            | Self::InUse
            | Self::Before(..)
            | Self::Deleted { job: None, .. }
            | Self::PodDeleted => None,
        }
    }
}

/// The version of this object, if it has that UID.
fn version_of<K: Resource>(held: Option<Arc<K>>, uid: &Uid) -> Option<ResourceVersion> {
    let held = held.filter(|held| held.metadata().uid == *uid)?;
    Some(held.metadata().resource_version.clone())
}

/// Finds the Job with the name of this instance, and if it is the instance, its pods where they are to be
/// read.
fn find(client: &Client, key: &InstanceKey, with_pods: bool) -> Result<Returned, kube::Error> {
    let found = client.find_job(&key.job_name())?;
    let job = found
        .object
        .as_ref()
        .filter(|job| with_pods && key_of(job).as_ref() == Some(key));
    let pods = job.map(|job| client.pods_of(&job.metadata.uid));
    Ok(Returned::Found(found, pods.transpose()?))
}

/// Finds the Jobs that were there at that version, when this one was created.
fn before(client: &Client, uid: &Uid, version: &ResourceVersion) -> Result<Returned, kube::Error> {
    let there = client.jobs_at(version)?;
    Ok(Returned::Before(uid.clone(), there))
}

impl Executor {
    /// Renders the manifest of a call that creates a Job.
    #[must_use]
    pub fn prepare(&self, call: Arc<ApiCall>) -> Prepared {
        let manifest = match &call.action {
            // What cannot be started takes the place of nothing.
            Action::CreateJob(new) | Action::DeleteJob { new: Some(new), .. } => {
                self.renderer.manifest(&call.key, new)
            }
            _ => Ok(Vec::new()),
        };
        Prepared { call, manifest }
    }

    /// Prepares a call and makes it.
    #[must_use]
    pub fn call(&self, call: Arc<ApiCall>) -> Called {
        self.make(self.prepare(call))
    }

    /// Makes one attempt of a call.
    #[must_use]
    pub fn make(&self, Prepared { call, manifest }: Prepared) -> Called {
        let name = call.key.job_name();
        let trace = call.action.requester().and_then(|by| by.trace.as_ref());
        let client = trace.map(|trace| self.client.made_for(trace));
        let client = client.as_ref().unwrap_or(&self.client);
        let least = self.least(&call);
        let result = match &call.action {
            Action::CreateJob(_) => match manifest {
                Ok(manifest) => {
                    let created = client.create_job(&name, manifest);
                    created.map(|(job, warnings)| Returned::Created(job, warnings))
                }
                Err(error) => Ok(Returned::NotRendered(error)),
            },
            Action::ReadJob { with_pods } => find(client, &call.key, *with_pods),
            action if self.is_in_use(action) => Ok(Returned::InUse),
            Action::DeleteJob { .. } if manifest.is_err() => {
                Ok(manifest.map_or_else(Returned::NotRendered, |_| Returned::InUse))
            }
            Action::DeleteJob { uid, version, .. } => {
                let held = self.writers.jobs.store().get(&name);
                let held = held.filter(|job| job.metadata.uid == *uid);
                let is_first = held.is_none_or(|job| !job.metadata.is_deleting());
                match client.delete_job(&name, uid, version.as_ref()) {
                    // A 404 has no version: the watch could restore an older object.
                    Err(error) if error.class() == Class::NotFound => {
                        find(client, &call.key, false)
                    }
                    result => result.map(|job| Returned::Deleted { job, is_first }),
                }
            }
            Action::AdmitJob { uid } => {
                let change = (job::ADMISSION, job::UNDECIDED, job::ADMITTED);
                let admitted = client.admit_job(&name, uid, change);
                admitted.map(Returned::Admitted)
            }
            Action::PlaceJob { uid, version } => before(client, uid, version),
            Action::LabelPod {
                pod,
                uid,
                changes,
                version,
                ..
            } => {
                let merged = MetaChange::merged(changes.iter().map(|change| &**change));
                let mut patch = merged.merge_patch();
                if let Some(version) = version {
                    patch["metadata"]["resourceVersion"] = version.to_string().into();
                }
                client.patch_pod(pod, uid, patch).map(Returned::Pod)
            }
            Action::DeletePod { pod, uid, .. } => {
                client.delete_pod(pod, uid).map(|()| Returned::PodDeleted)
            }
            Action::ForceDeletePod { pod, uid, .. } => client
                .force_delete_pod(pod, uid)
                .map(|()| Returned::PodDeleted),
        };
        Called {
            call,
            result,
            least,
        }
    }

    /// Whether this would stop, since nobody uses it, what was used since: a call may wait for a worker.
    fn is_in_use(&self, action: &Action) -> bool {
        let now = self.clock.now();
        match action {
            Action::DeleteJob { uid, cause, .. } => match cause {
                StopCause::Idle => !self.uses.is_idle(uid, now),
                StopCause::Outdated(it) => it.if_unused && !self.uses.may_restart(uid, now),
                _ => false,
            },
            _ => false,
        }
    }

    /// The version that the response to this call cannot be older than: a new Job and a read are of now,
    /// and what changes an object returns it.
    fn least(&self, call: &ApiCall) -> ResourceVersion {
        let name = call.key.job_name();
        let least = match &call.action {
            Action::CreateJob(_) | Action::ReadJob { .. } => return self.writers.jobs.version(),
            Action::DeleteJob { uid, .. } | Action::AdmitJob { uid } => {
                version_of(self.cache.jobs.get(&name), uid)
            }
            Action::LabelPod { pod, uid, .. } => version_of(self.cache.pods.get(pod), uid),
            // It is of the past.
            Action::PlaceJob { .. } => None,
            Action::DeletePod { .. } | Action::ForceDeletePod { .. } => None,
        };
        least.unwrap_or_default()
    }

    /// Applies the result of a call to the stores, and returns its outcome.
    #[must_use]
    pub fn apply(&self, called: Called) -> Completed {
        let Called {
            call,
            result,
            least,
        } = called;
        if let Some(version) = result.as_ref().ok().and_then(Returned::version) {
            self.writers.doubts.compare(&call.key, version, &least);
        }
        let (outcome, gone) = match result {
            Ok(Returned::Created(job, warnings)) => {
                self.start_warnings.log(&call, warnings);
                let uid = job.metadata.uid.clone();
                let version = job.metadata.resource_version.clone();
                let gone = self.writers.job_written(job);
                (CallOutcome::Created(uid, version), gone)
            }
            Ok(Returned::NotRendered(error)) => (CallOutcome::NotRendered(error), None),
            Ok(Returned::InUse) => (CallOutcome::InUse, None),
            Ok(Returned::Found(found, pods)) => {
                let deleted = self.forget(&call);
                if let (Some(job), Some(pods)) = (&found.object, pods) {
                    self.writers.pods_read(&job.metadata.uid, pods);
                }
                let (outcome, gone) = self.found(&call, found);
                (outcome, deleted.or(gone))
            }
            Ok(Returned::Deleted { job, is_first }) => {
                let gone = match job {
                    Some(job) => self.writers.job_written(job),
                    None => self.forget(&call),
                };
                (CallOutcome::Deleted { is_first }, gone)
            }
            Ok(Returned::Admitted(job)) => (CallOutcome::Done, self.writers.job_written(job)),
            Ok(Returned::Before(uid, there)) => {
                if let Some(there) = there {
                    self.cache.admissions().place(&uid, &there);
                }
                (CallOutcome::Done, None)
            }
            Ok(Returned::Pod(pod)) => {
                drop(self.writers.pods.own_write(pod));
                (CallOutcome::Done, None)
            }
            // If a finalizer keeps it, the watch will show it.
            Ok(Returned::PodDeleted) => (CallOutcome::Done, None),
            Err(error) => {
                self.failed(&call, &error);
                (CallOutcome::Failed(error), None)
            }
        };
        self.cache.refresh(&call.key);
        if let Some(other) = gone.as_ref().filter(|gone| gone.key != call.key) {
            self.cache.refresh(&other.key);
        }
        Completed { outcome, gone }
    }

    fn found(&self, call: &ApiCall, found: Found<Job>) -> (CallOutcome, Option<GoneJob>) {
        match found.object {
            Some(job) if key_of(&job).as_ref() == Some(&call.key) => {
                let uid = job.metadata.uid.clone();
                let gone = self.writers.job_read(job, &found.version);
                (CallOutcome::Found(uid), gone)
            }
            // It may be another instance. The watch must report that one, so that its waiters are
            // resolved.
            Some(job) if job.is_ours() => (CallOutcome::NameConflict, None),
            other => {
                let name = call.key.job_name();
                let gone = self.writers.job_absent(&name, &found.version);
                let outcome = other.map_or(CallOutcome::Absent, |_| CallOutcome::NameConflict);
                (outcome, gone)
            }
        }
    }

    fn failed(&self, call: &ApiCall, error: &kube::Error) {
        // The watch may show it late; until then the pod would be deleted repeatedly.
        if let Action::ForceDeletePod { pod, uid, .. } | Action::DeletePod { pod, uid, .. } =
            &call.action
            && error.class() == Class::NotFound
        {
            drop(self.writers.pods.own_delete(pod, uid));
        }
        let (level, line) = failure_line(call, error);
        log_line!(level, &call.key, call.action.requester(), "{line}");
    }

    /// The Job that was to be deleted is gone, if one was.
    fn forget(&self, call: &ApiCall) -> Option<GoneJob> {
        match &call.action {
            Action::DeleteJob { uid, .. } => self.writers.job_gone(&call.key.job_name(), uid),
            _ => None,
        }
    }
}

/// The log line of a call that failed. A failure is a warning once, however often the call is
/// retried; conflicts with other replicas are logged at debug level.
fn failure_line(call: &ApiCall, error: &kube::Error) -> (Level, String) {
    let key = &call.key;
    let level = match error.class() {
        Class::AlreadyExists | Class::Conflict | Class::NotFound => Level::Debug,
        _ if call.is_retry => Level::Debug,
        _ => Level::Warn,
    };
    let again = if call.is_retry { " again" } else { "" };
    let line = match call.action.requester() {
        Some(by) => format!("call for {key}, requested by {by}, failed{again}: {error}"),
        None => format!("call for {key} failed{again}: {error}"),
    };
    (level, line)
}

#[cfg(test)]
mod tests;
