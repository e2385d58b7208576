//! [`Writers`]: the stores that results of calls are applied to.
//!
//! Nothing is decided here: [`crate::store`] decides which state of an object is newer.

use crate::app::api_call::GoneJob;
use crate::app::changes::removed;
use crate::kube::types::{Job, Page, Pod, ResourceVersion, Uid};
use crate::store::{Doubts, EventWriter, Writer};

/// Writers of the stores that hold instances.
#[derive(Clone, Debug)]
pub struct Writers {
    /// For Jobs.
    pub jobs: Writer<Job>,
    /// For pods.
    pub pods: Writer<Pod>,
    /// To drop obsolete Events.
    pub events: EventWriter,
    /// To report responses from before what the stores had shown.
    pub doubts: Doubts,
}

impl Writers {
    /// Applies the Job that a call returned; returns the Job that this removed from the cache.
    pub(super) fn job_written(&self, job: Job) -> Option<GoneJob> {
        removed(&self.jobs.own_write(job)?)
    }

    /// Applies the Job that a read has found at this version; returns the UID of the Job that this
    /// removed from the cache.
    pub(super) fn job_read(&self, job: Job, version: &ResourceVersion) -> Option<GoneJob> {
        removed(&self.jobs.own_read(job, version)?)
    }

    /// There was no Job of that name at this version.
    pub(super) fn job_absent(&self, name: &str, version: &ResourceVersion) -> Option<GoneJob> {
        let change = self.jobs.own_absence(name, version)?;
        self.events.forget(&change.object().metadata.uid);
        removed(&change)
    }

    /// Applies all pods of this Job, as a read has found them.
    pub(super) fn pods_read(&self, job: &Uid, read: Page<Pod>) {
        let known = self.pods.store().by_index(job);
        let is_whole = read.continue_token.is_none() && read.skipped.is_empty();
        for pod in known.iter().filter(|_| is_whole) {
            let name = &pod.metadata.name;
            if read.items.iter().all(|it| it.metadata.name != *name) {
                drop(self.pods.own_absence(name, &read.version));
            }
        }
        for pod in read.items {
            drop(self.pods.own_read(pod, &read.version));
        }
    }

    /// Kubernetes has reported that this Job is gone.
    pub(super) fn job_gone(&self, name: &str, uid: &Uid) -> Option<GoneJob> {
        self.events.forget(uid);
        removed(&self.jobs.own_delete(name, uid)?)
    }
}
