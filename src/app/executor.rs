//! [`Executor`] makes the coordinator's calls: one attempt each, and what comes back into the stores.
//!
//! [`Executor::call`] talks to Kubernetes and changes nothing here, [`Executor::apply`] changes the
//! stores and makes no call; much may happen in between. The engine's workers do one after the
//! other, the simulation whatever it likes between them. No decision is made here, and nothing is
//! retried.

use super::api_call::{Action, ApiCall, CallOutcome, Completed};
use super::cache::key_of;
use crate::kube::client::Deleted;
use crate::kube::types::{Job, Pod, Uid};
use crate::kube::{self, Class, Client};
use crate::store::{Change, EventWriter, Writer};
use std::sync::Arc;

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
    /// Takes what a call returned of a Job; the UID of the one that the cache has no longer.
    fn job_written(&self, job: Job) -> Option<Uid> {
        self.jobs.own_write(job).and_then(removed)
    }

    /// Kubernetes has reported that this Job is gone.
    fn job_gone(&self, name: &str, uid: &Uid) -> Option<Uid> {
        self.events.forget(uid);
        self.jobs.own_delete(name, uid).and_then(removed)
    }
}

/// The Job that a change of the cache removed or replaced.
fn removed(change: Change<Job>) -> Option<Uid> {
    let old = change.old?;
    let new = change.new.map(|job| job.metadata.uid.clone());
    (new.as_ref() != Some(&old.metadata.uid)).then(|| old.metadata.uid.clone())
}

/// What makes calls; clones share all.
#[derive(Clone, Debug)]
pub struct Executor {
    client: Client,
    writers: Writers,
}

/// A call that was made, and what came back.
#[derive(Debug)]
pub struct Called {
    call: ApiCall,
    /// The Job of that name as the cache had it when the call was made, since another may be seen
    /// while the response is on its way.
    held: Option<Arc<Job>>,
    result: Result<Returned, kube::Error>,
}

/// What Kubernetes returned.
#[derive(Debug)]
enum Returned {
    Job(Job),
    Deleted(Deleted),
    Pod(Pod),
    PodDeleted,
}

impl Executor {
    /// One that uses this client and applies what it returns to these stores.
    #[must_use]
    pub const fn new(client: Client, writers: Writers) -> Self {
        Self { client, writers }
    }

    /// Makes one attempt of a call.
    #[must_use]
    pub fn call(&self, call: ApiCall) -> Called {
        let name = call.key.job_name();
        let held = self.writers.jobs.store().get(&name);
        let trace = call.action.requester().and_then(|by| by.trace.as_ref());
        let client = trace.map(|trace| self.client.made_for(trace));
        let client = client.as_ref().unwrap_or(&self.client);
        let result = match &call.action {
            Action::CreateJob { manifest, .. } => client.create_job(manifest).map(Returned::Job),
            Action::ReadJob => client.get_job(&name).map(Returned::Job),
            Action::DeleteJob { uid, .. } => client.delete_job(&name, uid).map(Returned::Deleted),
            Action::LabelPod { pod, uid, patch } => {
                client.patch_pod(pod, uid, patch).map(Returned::Pod)
            }
            Action::ForceDeletePod { pod, uid, .. } => {
                client.delete_pod(pod, uid).map(|()| Returned::PodDeleted)
            }
        };
        Called { call, held, result }
    }

    /// Puts into the stores what a call returned, and says how it ended.
    #[must_use]
    pub fn apply(&self, called: Called) -> Completed {
        let Called { call, held, result } = called;
        match result {
            Ok(returned) => self.succeeded(&call, returned, held.as_deref()),
            Err(error) => self.failed(&call, held.as_deref(), error),
        }
    }

    fn succeeded(&self, call: &ApiCall, returned: Returned, held: Option<&Job>) -> Completed {
        let (outcome, gone) = match returned {
            Returned::Job(job) => match &call.action {
                Action::CreateJob { .. } => {
                    let uid = job.metadata.uid.clone();
                    let gone = self.writers.job_written(job);
                    (CallOutcome::Created(uid), gone)
                }
                // It may be another instance: the watch reports that, or those who wait for it would
                // not learn that it is there.
                _ if key_of(&job).as_ref() != Some(&call.key) => (CallOutcome::NameConflict, None),
                _ => {
                    let uid = job.metadata.uid.clone();
                    (CallOutcome::Found(uid), self.writers.job_written(job))
                }
            },
            Returned::Deleted(deleted) => {
                let is_first = match &call.action {
                    Action::DeleteJob { uid, .. } => !is_deleting(held, uid),
                    _ => false,
                };
                let gone = match deleted.job {
                    Some(job) => self.writers.job_written(job),
                    None => self.forget(call),
                };
                (CallOutcome::Deleted { is_first }, gone)
            }
            Returned::Pod(pod) => {
                drop(self.writers.pods.own_write(pod));
                (CallOutcome::Done, None)
            }
            // What keeps it, if anything does, the watch will say.
            Returned::PodDeleted => (CallOutcome::Done, None),
        };
        Completed { outcome, gone }
    }

    fn failed(&self, call: &ApiCall, held: Option<&Job>, error: kube::Error) -> Completed {
        let is_gone = error.class() == Class::NotFound;
        let mut gone = None;
        match &call.action {
            Action::ReadJob if is_gone => {
                let name = call.key.job_name();
                let gone = held.and_then(|job| self.writers.job_gone(&name, &job.metadata.uid));
                return Completed {
                    outcome: CallOutcome::Absent,
                    gone,
                };
            }
            Action::DeleteJob { .. } if is_gone => gone = self.forget(call),
            // The watch may be late to say so, and until then it would be deleted again and again.
            Action::ForceDeletePod { pod, uid, .. } if is_gone => {
                drop(self.writers.pods.own_delete(pod, uid));
            }
            _ => {}
        }
        log_failure(call, &error);
        let outcome = CallOutcome::Failed(error);
        Completed { outcome, gone }
    }

    /// The Job that was to be deleted is gone.
    fn forget(&self, call: &ApiCall) -> Option<Uid> {
        match &call.action {
            Action::DeleteJob { uid, .. } => self.writers.job_gone(&call.key.job_name(), uid),
            _ => None,
        }
    }
}

/// Whether this Job had been seen to be on its way out: then it is not our call that stops it.
fn is_deleting(held: Option<&Job>, uid: &Uid) -> bool {
    held.is_some_and(|job| job.metadata.uid == *uid && job.metadata.is_deleting())
}

/// Logs once why a call failed, however often it is retried; what concerns the coordinator alone is
/// for those who debug.
fn log_failure(call: &ApiCall, error: &kube::Error) {
    let key = &call.key;
    match error.class() {
        Class::AlreadyExists | Class::Conflict | Class::NotFound => {
            log::debug!("call for {key} failed: {error}");
        }
        _ if call.is_retry => log::debug!("call for {key} failed again: {error}"),
        _ => match call.action.requester() {
            Some(by) => log::warn!("call for {key}, requested by {by}, failed: {error}"),
            None => log::warn!("call for {key} failed: {error}"),
        },
    }
}
