//! The state of instances in the stores: the one way from a key to its Job, its pods and its
//! status.
//!
//! Pure: it reads memory and never calls Kubernetes. Several replicas, and the watches within one,
//! may be at different points in time; this is the current knowledge of this replica.
//! [`super::coordinator`] decides what follows from it.

use crate::kube::types::{ConfigMap, Job, ObjectMeta, Pod, Resource, Uid};
use crate::model::labels::{self, MetaLabels};
use crate::model::names::InstanceKey;
use crate::model::status::{self, InstanceStatus};
use crate::store::{EventStore, Store};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The three stores, and the Events.
#[derive(Clone, Debug)]
pub struct Cache {
    /// ConfigMaps with templates.
    pub config_maps: Store<ConfigMap>,
    /// Jobs that are instances.
    pub jobs: Store<Job>,
    /// Pods of instances.
    pub pods: Store<Pod>,
    /// Kubernetes' Events of Jobs and pods, if the service may read them.
    pub events: EventStore,
}

/// The words for statuses in metrics, in the order of [`Cache::counts`].
pub const STATUS_WORDS: [&str; 5] = ["starting", "ready", "failed", "finished", "stopping"];

/// The object with the Job name of a key.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// Nothing.
    Absent,
    /// A Job that is another instance.
    NameConflict,
    /// The instance.
    Instance(Box<Instance>),
}

/// An instance as the stores know it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its Job.
    pub job: Arc<Job>,
    /// The pod that determines the status: the newest, preferably one that is not being deleted.
    pub pod: Option<Arc<Pod>>,
    /// The previous pod of the same Job with meta labels.
    pub predecessor: Option<Arc<Pod>>,
    /// Among its pods that are being deleted, the one with the earliest end of its grace period.
    pub leaving: Option<Arc<Pod>>,
    /// Its status.
    pub status: InstanceStatus,
}

impl Instance {
    /// The UID of its Job.
    #[must_use]
    pub fn uid(&self) -> &Uid {
        &self.job.metadata.uid
    }

    fn meta(&self) -> MetaLabels {
        let pod = self.pod.as_deref();
        pod.map(|pod| labels::meta_labels(&pod.metadata))
            .unwrap_or_default()
    }
}

/// A ready instance, as callers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The pod's address.
    pub ip: IpAddr,
    /// What PATCH has set.
    pub meta: MetaLabels,
}

/// One instance, as lists show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The instance name as the caller gave it.
    pub name: String,
    /// The pod's address, once there is one and while neither the pod nor its Job is being deleted.
    pub ip: Option<IpAddr>,
    /// Whether it is ready.
    pub is_ready: bool,
    /// When the kubelet accepted the pod, in seconds since 1970, if it is ready.
    pub started: Option<i64>,
    /// What PATCH has set.
    pub meta: MetaLabels,
}

impl Entry {
    /// The session that it belongs to: what PATCH has set, else its name (contract 3.3).
    #[must_use]
    pub fn session(&self) -> &str {
        self.meta.get(labels::SESSION_ID).unwrap_or(&self.name)
    }
}

impl Cache {
    /// Whether all three stores are synced.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.config_maps.is_synced() && self.jobs.is_synced() && self.pods.is_synced()
    }

    /// Looks up the Job name of this key.
    #[must_use]
    pub fn lookup(&self, key: &InstanceKey) -> Lookup {
        match self.jobs.get(&key.job_name()) {
            None => Lookup::Absent,
            Some(job) if !is_of(&job, key) => Lookup::NameConflict,
            Some(job) => Lookup::Instance(Box::new(self.instance(job))),
        }
    }

    fn instance(&self, job: Arc<Job>) -> Instance {
        let pods = self.pods.by_index(&job.metadata.uid);
        let assessment = status::assess(&job, &pods, &|uid| self.events.of(uid));
        let pod = assessment.pod;
        let before = pods.iter().filter(|known| {
            pod.as_ref().is_some_and(|pod| !Arc::ptr_eq(pod, known))
                && !labels::meta_labels(&known.metadata).is_empty()
        });
        let predecessor = before.max_by_key(|pod| pod.metadata.creation_timestamp);
        let leaving = pods.iter().filter(|pod| pod.metadata.is_deleting());
        let leaving = leaving.min_by_key(|pod| pod.metadata.deletion_timestamp);
        Instance {
            job,
            predecessor: predecessor.cloned(),
            leaving: leaving.cloned(),
            pod,
            status: assessment.status,
        }
    }

    /// The ready instance of this key, if it is ready: all that a GET needs.
    #[must_use]
    pub fn ready(&self, key: &InstanceKey) -> Option<Ready> {
        let job = self.jobs.get(&key.job_name())?;
        is_of(&job, key)
            .then(|| self.instance(job))
            .as_ref()
            .and_then(ready)
    }

    /// All instances of a type, by name.
    #[must_use]
    pub fn entries(&self, app_type: &str) -> Vec<Entry> {
        let jobs = self.jobs.by_index(app_type);
        let mut entries: Vec<Entry> = jobs.into_iter().filter_map(|job| self.entry(job)).collect();
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    /// The first instance of these types, by type and name, with this name or this meta label
    /// `sessionID`. Instances that are being deleted come last: their session may already have
    /// another one.
    #[must_use]
    pub fn find(&self, name_or_session: &str, among: impl Fn(&str) -> bool) -> Option<InstanceKey> {
        let jobs = self.all_jobs().into_iter();
        let keys = jobs.filter_map(|job| {
            let key = own_key_of(&job).filter(|key| among(key.app_type.as_str()))?;
            let is_deleting = job.metadata.is_deleting();
            let is_it = key.name.as_str() == name_or_session
                || self.entry(job)?.session() == name_or_session;
            is_it.then_some((is_deleting, key))
        });
        keys.min().map(|(_, key)| key)
    }

    /// How many instances of each type are in which status; see [`STATUS_WORDS`].
    #[must_use]
    pub fn counts(&self) -> BTreeMap<String, [u64; STATUS_WORDS.len()]> {
        let mut counts = BTreeMap::<String, [u64; STATUS_WORDS.len()]>::new();
        for job in self.all_jobs() {
            let Some(key) = own_key_of(&job) else {
                continue;
            };
            let instance = self.instance(job);
            let place = match instance.status {
                InstanceStatus::Starting(_) => 0,
                InstanceStatus::Ready { .. } => 1,
                InstanceStatus::Failed { .. } => 2,
                InstanceStatus::Finished(_) => 3,
                InstanceStatus::Stopping { .. } => 4,
            };
            counts.entry(key.app_type.to_string()).or_default()[place] += 1;
        }
        counts
    }

    /// All Jobs, taken out: the cache is not locked while statuses are read from it.
    fn all_jobs(&self) -> Vec<Arc<Job>> {
        let mut jobs = Vec::with_capacity(self.jobs.count());
        self.jobs.for_each(|job| jobs.push(Arc::clone(job)));
        jobs
    }

    /// How old the cache of each resource may be.
    #[must_use]
    pub fn ages(&self, now: Instant) -> [(&'static str, Duration); 3] {
        [
            (ConfigMap::COLLECTION.plural, self.config_maps.age(now)),
            (Job::COLLECTION.plural, self.jobs.age(now)),
            (Pod::COLLECTION.plural, self.pods.age(now)),
        ]
    }

    fn entry(&self, job: Arc<Job>) -> Option<Entry> {
        let key = own_key_of(&job)?;
        let instance = self.instance(job);
        let is_ready = matches!(instance.status, InstanceStatus::Ready { .. });
        // The pod of a Job that is being deleted will be deleted, too, even if the watch has not
        // shown that yet.
        let is_stopping = matches!(instance.status, InstanceStatus::Stopping { .. });
        let pod = instance.pod.as_deref();
        Some(Entry {
            name: key.name.to_string(),
            ip: pod
                .filter(|pod| !is_stopping && !pod.metadata.is_deleting())
                .and_then(|pod| pod.pod_ip),
            is_ready,
            started: pod
                .filter(|_| is_ready)
                .and_then(|pod| pod.start_time)
                .map(|t| t.seconds()),
            meta: instance.meta(),
        })
    }
}

/// The response of a ready instance; `None` if it is not ready.
#[must_use]
pub fn ready(instance: &Instance) -> Option<Ready> {
    let InstanceStatus::Ready { ip } = instance.status else {
        return None;
    };
    let meta = instance.meta();
    Some(Ready { ip, meta })
}

/// The key of a Job's instance: from annotations of Jobs of this service, from the template's
/// labels of Jobs of 2.7.1.
#[must_use]
pub fn key_of(job: &Job) -> Option<InstanceKey> {
    key_from(|key| instance_label(job, key))
}

/// Whether a Job is the instance of this key: a Job of that name may be another's.
fn is_of(job: &Job, key: &InstanceKey) -> bool {
    instance_label(job, labels::INSTANCE_TYPE) == Some(key.app_type.as_str())
        && instance_label(job, labels::INSTANCE_NAME) == Some(key.name.as_str())
}

/// The value of a Job's own metadata under this key.
fn instance_label<'a>(job: &'a Job, key: &str) -> Option<&'a str> {
    let own = job.metadata.annotations.get(key);
    own.or_else(|| job.template.get(key))
}

/// The key of a pod's instance: from annotations of pods of this service, from labels of pods of
/// 2.7.1.
#[must_use]
pub fn key_of_pod(metadata: &ObjectMeta) -> Option<InstanceKey> {
    key_from(|key| {
        metadata
            .annotations
            .get(key)
            .or_else(|| metadata.labels.get(key))
    })
}

fn key_from<'a>(read: impl Fn(&str) -> Option<&'a str>) -> Option<InstanceKey> {
    InstanceKey::new(read(labels::INSTANCE_TYPE)?, read(labels::INSTANCE_NAME)?).ok()
}

/// As [`key_of`], if the Job has the name that its key requires. A manual Job with another name can
/// be neither found nor stopped by its key.
fn own_key_of(job: &Job) -> Option<InstanceKey> {
    key_of(job).filter(|key| *key.job_name() == *job.metadata.name)
}

#[cfg(test)]
mod tests;
