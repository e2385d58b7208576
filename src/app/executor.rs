//! [`Executor`] carry out the coordinator's calls: one attempt each, and what comes back into the stores.
//!
//! [`Executor::ask`] talks to Kubernetes and touches nothing here, [`Executor::apply`] touches the
//! stores and talks to nobody; much may happen in between. The engine's workers do one after the
//! other, the simulation whatever it likes between them. No decision is made here, and nothing is
//! tried again.

use super::Origin;
use super::cache::key_of;
use super::counting::Counting;
use super::engine::Catalogs;
use super::flight::{Call, Cause, OVERDUE_AFTER, Operation, Outcome};
use crate::clock::Clock;
use crate::kube::client::Deleted;
use crate::kube::types::{Job, Pod, Uid};
use crate::kube::{self, Class, Client};
use crate::metrics::Metrics;
use crate::model::names::InstanceKey;
use crate::store::{EventWriter, Writer};
use crate::traces::Traces;
use std::sync::Arc;
use std::time::Instant;

/// Writers of the stores that hold instances.
#[derive(Clone, Debug)]
pub struct Writers {
    /// For Jobs.
    pub jobs: Writer<Job>,
    /// For pods.
    pub pods: Writer<Pod>,
    /// For what Events say.
    pub events: EventWriter,
}

impl Writers {
    /// Kubernetes has told us that this Job is gone.
    fn job_gone(&self, name: &str, uid: &Uid) {
        drop(self.jobs.own_delete(name, uid));
        self.events.forget(uid);
    }
}

/// What makes calls; clones share all.
#[derive(Clone, Debug)]
pub struct Executor {
    client: Client,
    writers: Writers,
    pub(super) counting: Arc<Counting>,
}

/// A call that was made, and what came back.
#[derive(Debug)]
pub struct Asked {
    call: Call,
    begun: Instant,
    /// The Job of that name as it was seen when the call was made, since another may be seen
    /// while the answer is on its way.
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

impl Executor {
    /// Executor that use this client and apply what it returns to these stores.
    #[must_use]
    pub fn new(
        client: Client,
        writers: Writers,
        metrics: Arc<Metrics>,
        traces: Traces,
        catalogs: Arc<Catalogs>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            client,
            writers,
            counting: Arc::new(Counting::new(metrics, traces, catalogs, clock)),
        }
    }

    /// Makes one attempt of a call.
    #[must_use]
    pub fn ask(&self, call: Call) -> Asked {
        let name = call.key.job_name();
        let begun = self.counting.now();
        let held = self.writers.jobs.store().get(&name);
        let trace = origin(&call.operation).and_then(|by| by.trace.as_ref());
        let client = trace.map(|trace| self.client.made_for(trace));
        let client = client.as_ref().unwrap_or(&self.client);
        let reply = match &call.operation {
            Operation::Create { manifest, .. } => client.create_job(manifest).map(Reply::Job),
            Operation::Read => client.get_job(&name).map(Reply::Job),
            Operation::Delete { uid, .. } => client.delete_job(&name, uid).map(Reply::Deleted),
            Operation::Label { pod, uid, patch } => {
                client.patch_pod(pod, uid, patch).map(Reply::Pod)
            }
            Operation::Remove { pod, uid, .. } => {
                client.delete_pod(pod, uid).map(|()| Reply::Removed)
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
            Ok(reply) => self.succeeded(&call, reply, asked.held, asked.begun),
            Err(error) => self.failed(&call, asked.held, asked.begun, error),
        }
    }

    fn succeeded(
        &self,
        call: &Call,
        reply: Reply,
        held: Option<Arc<Job>>,
        begun: Instant,
    ) -> Outcome {
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
                _ if key_of(&job).as_ref() != Some(key) => return Outcome::NameConflict,
                _ => drop(self.writers.jobs.own_write(job)),
            },
            Reply::Deleted(deleted) => {
                if let Operation::Delete { uid, cause } = &call.operation
                    && !is_deleting(held.as_deref(), uid)
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
            Reply::Removed => self.removed(call),
        }
        Outcome::Done
    }

    /// A pod that did not go was removed. What keeps it, if anything does, the watch will say.
    fn removed(&self, call: &Call) {
        if let Operation::Remove {
            is_kept: true, pod, ..
        } = &call.operation
        {
            log::debug!(
                "the pod {pod} of {} is still there: who has put a finalizer on it?",
                call.key
            );
            return;
        }
        log::warn!(
            "removed the pod of {}, which was still there {} s after its grace was over: is its node gone?",
            call.key,
            OVERDUE_AFTER.as_secs()
        );
        self.counting.removed(&call.key);
    }

    fn failed(
        &self,
        call: &Call,
        held: Option<Arc<Job>>,
        begun: Instant,
        error: kube::Error,
    ) -> Outcome {
        let is_gone = error.class() == Class::NotFound;
        match &call.operation {
            Operation::Read if is_gone => {
                if let Some(job) = held {
                    let name = call.key.job_name();
                    self.writers.job_gone(&name, &job.metadata.uid);
                }
                return Outcome::Absent;
            }
            Operation::Delete { .. } if is_gone => self.forget(call),
            // The watch may be late to say so, and till then it would be removed again and again.
            Operation::Remove { pod, uid, .. } if is_gone => {
                drop(self.writers.pods.own_delete(pod, uid));
            }
            Operation::Create { .. } => self.counting.not_begun(&call.key, begun, &error),
            _ => {}
        }
        log_failure(call, &error);
        Outcome::Failed(error)
    }

    /// The Job that was to be deleted is gone.
    fn forget(&self, call: &Call) {
        if let Operation::Delete { uid, .. } = &call.operation {
            self.writers.job_gone(&call.key.job_name(), uid);
        }
    }
}

/// Whether this Job had been seen to be on its way out: then it is not our call that stops it.
fn is_deleting(held: Option<&Job>, uid: &Uid) -> bool {
    held.is_some_and(|job| job.metadata.uid == *uid && job.metadata.is_deleting())
}

fn log_deletion(key: &InstanceKey, job: &str, cause: &Cause) {
    match cause {
        Cause::Asked(by) => log::info!("stopping {key} for {by} (Job {job})"),
        Cause::Ended => log::info!("replacing {key}, which has ended (Job {job})"),
        Cause::Stuck => log::warn!("stopping {key}, a pod of which does not go (Job {job})"),
    }
}

/// Says once what a call met, however often it is tried again; what is the business of the coordinator
/// alone is not worth a line.
fn log_failure(call: &Call, error: &kube::Error) {
    match error.class() {
        Class::AlreadyExists | Class::Conflict | Class::NotFound => {
            log::debug!("{}: {error}", call.key);
        }
        _ if call.is_again => log::debug!("{}, again: {error}", call.key),
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
