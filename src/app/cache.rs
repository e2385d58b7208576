//! The state of instances in the stores: the one way from a key to its Job, its pods and its
//! status.
//!
//! Pure: it reads memory and never calls Kubernetes. Several replicas, and the watches within one,
//! may be at different points in time; this is the current knowledge of this replica.
//! [`super::coordinator`] decides what follows from it.

use super::admissions::SharedAdmissions;
use super::expectation::{Expectation, ValuesMatch};
use super::index::{self, Counts, Index, Verdict};
use super::keys::{is_of, key_of_pod, own_key_of};
use crate::budget::Memory;
use crate::kube::types::{ConfigMap, Fingerprint, Job, Pod, Resource, Uid};
use crate::model::job::{idle_timeout, min_ready};
use crate::model::labels::{self, MetaLabels};
use crate::model::names::{AppType, InstanceKey};
use crate::model::status::{self, InstanceStatus};
use crate::store::{EventStore, EventWriter, Scanner, Store, Writer};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod check;
mod item;

/// An older cache is not current.
const CURRENT_WITHIN: Duration = Duration::from_secs(5);

/// The three stores, the Events, and an index of the instances. Clones share all.
///
/// Threads that serve requests have no more than this, so nothing here takes longer with more
/// instances. What goes through all of them needs a [`Census`].
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
    index: Arc<Index>,
    admissions: Arc<SharedAdmissions>,
}

/// Goes through all instances, for threads that may take long: no thread that serves requests.
#[derive(Clone, Debug)]
pub struct Census {
    /// All Jobs.
    pub jobs: Scanner<Job>,
    /// All pods.
    pub pods: Scanner<Pod>,
}

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
    /// The pod that determines the status.
    pub pod: Option<Arc<Pod>>,
    /// The previous pod of the same Job with meta labels.
    pub predecessor: Option<Arc<Pod>>,
    /// Among its pods that are being deleted, the one with the earliest end of its grace period.
    pub leaving: Option<Arc<Pod>>,
    /// Somebody else has made a pod beside that of the Job controller; see [`status::Assessment`].
    pub is_contested: bool,
    /// Its status.
    pub status: InstanceStatus,
    /// Its status is how it was found to end, whatever its pods say by now.
    pub is_end_kept: bool,
}

impl Instance {
    /// The UID of its Job.
    #[must_use]
    pub fn uid(&self) -> &Uid {
        &self.job.metadata.uid
    }

    /// Its response, if it is ready, to a request that expects this.
    #[must_use]
    pub fn ready(&self, expectation: &Expectation) -> Option<Ready> {
        let InstanceStatus::Ready { ip } = self.status else {
            return None;
        };
        let pod = self.pod.as_deref();
        Some(Ready {
            ip,
            meta: self.meta(),
            version: InstanceVersion {
                uid: self.uid().clone(),
                fingerprint: pod.map(|pod| pod.fingerprint),
            },
            values: expectation.compare_values(&self.job),
            idle_timeout: idle_timeout(&self.job),
        })
    }

    fn meta(&self) -> MetaLabels {
        let pod = self.pod.as_deref();
        pod.map(|pod| labels::meta_labels(&pod.metadata))
            .unwrap_or_default()
    }

    /// The session that PATCH has set.
    fn session(&self) -> Option<String> {
        labels::session(&self.pod.as_deref()?.metadata)
    }
}

/// A ready instance, as callers get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The pod's address.
    pub ip: IpAddr,
    /// What PATCH has set.
    pub meta: MetaLabels,
    /// Which instance it is, and what of it is returned.
    pub version: InstanceVersion,
    /// Whether it is made with the values that the request expects.
    pub values: ValuesMatch,
    /// How long it may be unused, if there is a limit.
    pub idle_timeout: Option<Duration>,
}

/// Which instance a response is about, and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceVersion {
    /// The UID of its Job.
    pub uid: Uid,
    /// What callers get of it, unless it is not ready.
    pub fingerprint: Option<Fingerprint>,
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
    /// The readers of these stores, which are still empty. What they hold counts in this memory.
    #[must_use]
    pub fn over(
        config_maps: &Writer<ConfigMap>,
        jobs: &Writer<Job>,
        pods: &Writer<Pod>,
        events: &EventWriter,
        memory: Arc<Memory>,
    ) -> (Self, Census) {
        let index = Arc::new(Index::new(memory));
        let (of_jobs, of_pods) = (Arc::clone(&index), Arc::clone(&index));
        jobs.observe(move |change| of_jobs.job_changed(change));
        pods.observe(move |change| of_pods.pod_changed(change));
        let admissions = Arc::<SharedAdmissions>::default();
        let of_watch = Arc::clone(&admissions);
        jobs.listen(move |event| of_watch.apply(event));
        let cache = Self {
            config_maps: config_maps.store(),
            jobs: jobs.store(),
            pods: pods.store(),
            events: events.store(),
            index,
            admissions,
        };
        let census = Census {
            jobs: jobs.scanner(),
            pods: pods.scanner(),
        };
        (cache, census)
    }

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

    /// Whether there is an object with the Job name of this key.
    #[must_use]
    pub fn knows(&self, key: &InstanceKey) -> bool {
        self.jobs.get(&key.job_name()).is_some()
    }

    /// The pods of this name that have not ended and whose Job is not the one with this UID: if Kubernetes
    /// says that their Job is gone, they outlive it. (The garbage collector may be minutes behind, or the
    /// Job was deleted without its pods.)
    #[must_use]
    pub fn orphans(&self, key: &InstanceKey, job: Option<&Uid>) -> Vec<Arc<Pod>> {
        let mut orphans = Vec::new();
        for owner in self.index.owners(key) {
            let is_one = |pod: &Arc<Pod>| {
                !status::has_ended(pod) && key_of_pod(&pod.metadata).as_ref() == Some(key)
            };
            if Some(&owner) != job {
                orphans.extend(self.pods.by_index(&owner).into_iter().filter(is_one));
            }
        }
        orphans
    }

    /// The instance of this Job, with the pods that the cache has of it.
    #[must_use]
    pub fn instance(&self, job: Arc<Job>) -> Instance {
        let mut pods = self.pods.by_index(&job.metadata.uid);
        pods.retain(|pod| !pod.is_released);
        let assessment = status::assess(&job, &pods, &|uid| self.events.of(uid));
        let pod = assessment.pod;
        let before = pods.iter().filter(|known| {
            let is_before = |pod: &Arc<Pod>| {
                !Arc::ptr_eq(pod, known) && status::is_predecessor(&job, known, pod)
            };
            pod.as_ref().is_some_and(is_before) && !labels::meta_labels(&known.metadata).is_empty()
        });
        let predecessor = before.max_by_key(|pod| pod.metadata.creation_timestamp);
        let leaving = pods.iter().filter(|pod| pod.metadata.is_deleting());
        let leaving = leaving.min_by_key(|pod| pod.metadata.deletion_timestamp);
        let end = match assessment.status {
            InstanceStatus::Failed { .. } | InstanceStatus::Finished(_) => self.end(&job),
            _ => None,
        };
        Instance {
            is_end_kept: end.is_some(),
            job,
            predecessor: predecessor.cloned(),
            leaving: leaving.cloned(),
            is_contested: assessment.is_contested,
            pod,
            status: end.unwrap_or(assessment.status),
        }
    }

    /// How this Job has ended, if its pod was seen to say it.
    #[must_use]
    pub fn end(&self, job: &Job) -> Option<InstanceStatus> {
        self.index.end(&own_key_of(job)?, &job.metadata.uid)
    }

    /// Keeps how this instance has ended, for as long as there is its Job. The first end that is found stands,
    /// unless the instance runs again: etcd may have been restored. To be called by the one thread that decides
    /// what instances are.
    pub fn keep_end(&self, instance: &Instance) {
        let (job, status) = (&instance.job, &instance.status);
        let runs = matches!(
            status,
            InstanceStatus::Starting(_) | InstanceStatus::Ready { .. }
        );
        let is_over = || {
            let mut pods = instance.pod.iter();
            status::has_job_ended(job) || pods.all(|pod| status::has_ended(pod))
        };
        let is_end = !instance.is_end_kept && status.says_how_it_ended() && is_over();
        if !runs && !is_end {
            return;
        }
        let Some(key) = own_key_of(job) else {
            return;
        };
        let Some(changes) = self.index.changes(&key) else {
            return;
        };
        let uid = instance.uid();
        let known = self.jobs.get(&job.metadata.name);
        let is_there = known.is_some_and(|known| known.metadata.uid == *uid);
        if is_there && (is_end || self.index.end(&key, uid).is_some()) {
            self.index
                .keep_end(&key, changes, uid, is_end.then_some(status));
            self.refresh(&key);
        }
    }

    /// The ready instance of this key, if it is ready: all that a GET needs.
    #[must_use]
    pub fn ready(&self, key: &InstanceKey) -> Option<Ready> {
        self.ready_for(key, &Expectation::None)
    }

    /// The same for a request that expects this.
    #[must_use]
    pub fn ready_for(&self, key: &InstanceKey, expectation: &Expectation) -> Option<Ready> {
        let job = self.jobs.get(&key.job_name())?;
        is_of(&job, key)
            .then(|| self.instance(job))
            .filter(|instance| self.is_settled(key, instance))
            .as_ref()
            .and_then(|instance| instance.ready(expectation))
    }

    /// Whether a ready instance counts as ready: with `min-ready`, only for so long.
    fn is_settled(&self, key: &InstanceKey, instance: &Instance) -> bool {
        min_ready(&instance.job).is_zero() || self.index.verdict(key) == Verdict::Settled
    }

    /// Sets what the coordinator has found out about an instance.
    pub fn set_verdict(&self, key: &InstanceKey, verdict: Verdict) {
        self.index.set_verdict(key, verdict);
        self.refresh(key);
    }

    /// The first instance of these types, by type and name, with this name or this meta label
    /// `sessionID`. One of that name comes before those with that label, which any caller can set on
    /// its own instances. Instances that are being deleted come last: their session may already have
    /// another one.
    ///
    /// Of those with the label no more than [`index::SESSIONS_MAX`] a type are looked at.
    #[must_use]
    pub fn find(&self, name_or_session: &str, among: impl Fn(&str) -> bool) -> Option<InstanceKey> {
        let of_name = self.jobs.by_index(name_or_session).into_iter();
        let named = of_name.filter_map(|job| {
            let key = own_key_of(&job).filter(|key| among(key.app_type.as_str()))?;
            Some((job.metadata.is_deleting(), key))
        });
        let (is_leaving, named) = match named.min() {
            Some((false, key)) => return Some(key),
            named => (named.is_some(), named.map(|(_, key)| key)),
        };
        let keys = self.index.with_session(name_or_session, among);
        let labelled = keys.into_iter().filter_map(|key| {
            let Lookup::Instance(instance) = self.lookup(&key) else {
                return None;
            };
            let is_it = instance.session().as_deref() == Some(name_or_session);
            is_it.then(|| (instance.job.metadata.is_deleting(), key))
        });
        match labelled.min() {
            Some((true, _)) if is_leaving => named,
            Some((_, key)) => Some(key),
            None => named,
        }
    }

    /// Which Jobs may run where caps hold.
    #[must_use]
    pub fn admissions(&self) -> &SharedAdmissions {
        &self.admissions
    }

    /// What is known of all instances together.
    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// How many instances of each type are in which status; see [`index::STATUS_WORDS`].
    #[must_use]
    pub fn counts(&self) -> BTreeMap<AppType, Counts> {
        self.index.counts()
    }

    /// Computes the status of this instance again for [`Cache::counts`]. To be called after each
    /// change, by the thread that has made it.
    pub fn refresh(&self, key: &InstanceKey) {
        let Some(changes) = self.index.changes(key) else {
            return;
        };
        if let Lookup::Instance(instance) = self.lookup(key) {
            self.index.settle(key, changes, self.place(key, &instance));
        }
    }

    /// Where this instance counts.
    fn place(&self, key: &InstanceKey, instance: &Instance) -> usize {
        let has_min_ready = !min_ready(&instance.job).is_zero();
        index::place_of(&instance.status, self.index.verdict(key), has_min_ready)
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

    /// Whether what it shows of Jobs and pods is from the last seconds.
    #[must_use]
    pub fn is_current(&self, now: Instant) -> bool {
        self.jobs.age(now).max(self.pods.age(now)) <= CURRENT_WITHIN
    }

    /// The entry of this instance in the list of its type, if there is one.
    #[must_use]
    pub fn entry(&self, key: &InstanceKey) -> Option<Entry> {
        let Lookup::Instance(instance) = self.lookup(key) else {
            return None;
        };
        Some(self.entry_of(key, &instance))
    }

    /// The same, if it is of this Job.
    #[must_use]
    pub fn entry_with(&self, key: &InstanceKey, job: &Uid) -> Option<Entry> {
        let Lookup::Instance(instance) = self.lookup(key) else {
            return None;
        };
        (instance.uid() == job).then(|| self.entry_of(key, &instance))
    }

    fn entry_of(&self, key: &InstanceKey, instance: &Instance) -> Entry {
        let is_ready = matches!(instance.status, InstanceStatus::Ready { .. })
            && self.is_settled(key, instance);
        // The pod of a Job that is being deleted will be deleted, too, even if the watch has not
        // shown that yet.
        let is_stopping = matches!(instance.status, InstanceStatus::Stopping { .. });
        let pod = instance.pod.as_deref();
        Entry {
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
        }
    }
}

#[cfg(test)]
mod tests;
