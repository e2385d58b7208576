//! Kubernetes objects, reduced to the fields that we read.
//!
//! A store holds thousands of these, so they are small: no unused fields, no spare capacity, labels
//! and annotations filtered to our own keys while decoding. Decoding is in `types/decode.rs` and
//! `types/wire.rs`. [`crate::model`] decides what the fields mean (when is an instance ready?).
//! Versions are carried, and compared only in [`crate::store`].
//!
//! Field names follow the Kubernetes API reference (batch/v1, core/v1).

mod bounded;
mod conditions;
mod decode;
mod event;
mod fingerprint;
mod lease;
mod messages;
mod own;
mod pairs;
mod restarts;
mod review;
mod scalars;
mod unread;
mod wire;

#[cfg(test)]
mod tests;

pub use bounded::{
    CONTAINER_NAME_BYTES_MAX, CONTAINERS_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, REASON_BYTES_MAX,
};
pub use conditions::{Condition, ConditionStatus, ConditionType, Conditions};
pub use decode::{
    Found, Page, SKIPPED_MAX, Skipped, WatchEvent, decode_event, decode_found, decode_list,
    decode_object, decode_state,
};
pub use event::{EVENT_MESSAGE_BYTES_MAX, EventReason, RegardingKind};
pub use fingerprint::Fingerprint;
pub use lease::{LEASES, Lease, USES, USES_OF};
pub use messages::{
    OBJECT_MESSAGES_BYTES_MAX, SHORT_BYTES_MAX, SHORT_CONTAINERS_MAX, SHORT_MESSAGES_BYTES_MAX,
};
pub use own::{
    CONTROLLER_UID, JOB_VALUES_BYTES_MAX, META_ANNOTATION, META_BYTES_MAX, META_LABEL,
    META_PAIRS_MAX, VALUE_BYTES_MAX, decode_pair, encode_pair, meta_bytes,
};
pub use pairs::{JOB_VALUES, LeftOut, Pairs, RESTARTED_FOR};
pub use review::TokenReview;
pub use scalars::{ResourceVersion, Timestamp, UID_BYTES_MAX, Uid, time_of};
pub use unread::{UNREAD_KEYS_MAX, UnreadCause, UnreadKey};

use super::status::null_is_default;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;

/// The prefix of all our label and annotation keys.
pub const OWN_PREFIX: &str = "config-controller.semafor.ch/";

/// The key (label and annotation) of the app type of an instance.
const INSTANCE_TYPE: &str = "config-controller.semafor.ch/instance-type";

/// The key (label and annotation) of its name.
const INSTANCE_NAME: &str = "config-controller.semafor.ch/instance-name";

/// The annotation with the revision of the template that a Job was made from.
pub const TEMPLATE_REVISION: &str = "config-controller.semafor.ch/template-revision";

/// The annotation with the revision of the values that a Job was made with.
pub const VALUES_REVISION: &str = "config-controller.semafor.ch/values-revision";

/// Size of the largest object as JSON, in bytes, alone or in a list or an event. etcd takes 1.5 MiB, and
/// a character of one byte (`<`, a control character) has up to six in JSON. A larger one can only be
/// where etcd's bound was raised (`--max-request-bytes`): its list is then never complete, the log names
/// the list, and the replica is not ready; a bound here that is raised, too, takes its memory.
pub const OBJECT_BYTES_MAX: usize = 10 * 1024 * 1024;

/// Suffix of the keys of a ConfigMap that are templates.
pub const TEMPLATE_SUFFIX: &str = ".yaml";

/// The collection of a kind of objects in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Collection {
    /// The path of the group and version: `api/v1` or `apis/batch/v1`.
    pub prefix: &'static str,
    /// The plural name of the resource, as in RBAC rules: `pods`.
    pub plural: &'static str,
}

impl Collection {
    const fn new(prefix: &'static str, plural: &'static str) -> Self {
        Self { prefix, plural }
    }
}

/// Jobs (batch/v1).
pub const JOBS: Collection = Collection::new("apis/batch/v1", "jobs");
/// Pods (core/v1).
pub const PODS: Collection = Collection::new("api/v1", "pods");
/// ConfigMaps (core/v1).
pub const CONFIG_MAPS: Collection = Collection::new("api/v1", "configmaps");
/// Events (core/v1).
pub const EVENTS: Collection = Collection::new("api/v1", "events");

/// A kind of object that we read, list and watch.
///
/// Deserializing one fails when it has no name, or a field that we read has the wrong type; whether
/// the object is ours makes no difference.
pub trait Resource:
    DeserializeOwned + Clone + fmt::Debug + Default + PartialEq + Send + Sync + 'static
{
    /// The collection of its objects.
    const COLLECTION: Collection;

    /// The key of the store's second index.
    type Index: ?Sized + Eq + Hash;

    /// Whether the object belongs to this service; others are dropped while decoding.
    fn is_ours(&self) -> bool {
        true
    }

    /// Name, UID, version and so on.
    fn metadata(&self) -> &ObjectMeta;

    /// Its key in the store's second index, if it has one.
    fn index(&self) -> Option<&Self::Index>;

    /// What its messages count, in bytes: texts that apps and controllers write.
    fn text_bytes(&self) -> usize {
        0
    }

    /// Drops most of these texts: it counts at most [`SHORT_BYTES_MAX`] then.
    fn shorten(&mut self) {}

    /// Decodes one object from JSON; `None` when it is well-formed but not ours.
    ///
    /// # Errors
    /// When it is not JSON, or a field that we read has the wrong type.
    fn decode(json: &[u8]) -> Result<Option<Self>, serde_json::Error> {
        let object = serde_json::from_slice(json)?;
        Ok(Some(object).filter(Self::is_ours))
    }
}

/// The metadata of every object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Name: unique in its namespace at one time.
    pub name: Box<str>,
    /// UID: never reused.
    pub uid: Uid,
    /// Version of this state of the object.
    pub resource_version: ResourceVersion,
    /// When the API server created it.
    pub creation_timestamp: Option<Timestamp>,
    /// When its grace period ends; set while it is being deleted.
    pub deletion_timestamp: Option<Timestamp>,
    /// Those of our labels that are read for its kind, within bounds; without type and name of the
    /// instance where the annotations repeat them.
    pub labels: Pairs,
    /// Those of our annotations that are read for its kind, within bounds.
    pub annotations: Pairs,
}

impl ObjectMeta {
    /// The meta labels beyond the bounds, which are not kept.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        self.labels.left_out()
    }

    /// Whether it is being deleted.
    #[must_use]
    pub fn is_deleting(&self) -> bool {
        self.deletion_timestamp.is_some()
    }
}

/// A machine-readable reason and a message, if any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Detail {
    /// One CamelCase word.
    #[serde(default, deserialize_with = "bounded::reason")]
    pub reason: Option<Box<str>>,
    /// A human-readable message.
    #[serde(default, deserialize_with = "bounded::message")]
    pub message: Option<Box<str>>,
}

/// When a container is restarted (pod template).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Kubernetes' default for pods; not allowed in Jobs.
    #[default]
    Always,
    /// After a failure.
    OnFailure,
    /// Never.
    Never,
}

/// One Job; if it belongs to this service, an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "wire::JobWire")]
pub struct Job {
    /// Metadata of the Job itself.
    pub metadata: ObjectMeta,
    /// Type and name of the instance, from the annotations of its pod template, else from the
    /// labels there; without those that its own annotations have.
    pub template: Pairs,
    /// Whether it is suspended (`spec.suspend`).
    pub suspend: bool,
    /// How many failed pods it retries (`spec.backoffLimit`, with Kubernetes' default).
    pub backoff_limit: u32,
    /// How long after its end Kubernetes deletes it (`spec.ttlSecondsAfterFinished`), if it does.
    pub ttl_secs: Option<u32>,
    /// Its status, set by the Job controller.
    pub status: JobStatus,
}

impl Job {
    /// The raw app type: from an annotation, where it is never altered, else from the template's label.
    #[must_use]
    pub fn app_type(&self) -> Option<&str> {
        self.metadata
            .annotations
            .get(INSTANCE_TYPE)
            .or_else(|| self.template.get(INSTANCE_TYPE))
    }

    /// The raw name of the instance: from an annotation, else from the template's label.
    #[must_use]
    pub fn instance_name(&self) -> Option<&str> {
        self.metadata
            .annotations
            .get(INSTANCE_NAME)
            .or_else(|| self.template.get(INSTANCE_NAME))
    }

    /// The revision of the template that it was made from; `None` if an older version of this program has
    /// made it.
    #[must_use]
    pub fn template_revision(&self) -> Option<&str> {
        self.metadata.annotations.get(TEMPLATE_REVISION)
    }

    /// The revision of the values that it was made with; `None` if an older version of this program has
    /// made it.
    #[must_use]
    pub fn values_revision(&self) -> Option<&str> {
        self.metadata.annotations.get(VALUES_REVISION)
    }
}

/// The status of a Job, set by the Job controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatus {
    /// When the controller started it; reset when it is resumed.
    pub start_time: Option<Timestamp>,
    /// Its conditions.
    #[serde(deserialize_with = "wire::conditions_of_jobs")]
    pub conditions: Conditions,
    /// Number of pods that run, or will.
    #[serde(deserialize_with = "null_is_default")]
    pub active: u32,
    /// Number of failed pods.
    #[serde(deserialize_with = "null_is_default")]
    pub failed: u32,
}

/// The phase of a pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodPhase {
    /// Accepted, but not all containers run.
    #[default]
    Pending,
    /// Bound to a node, at least one container runs.
    Running,
    /// All containers succeeded and are not restarted.
    Succeeded,
    /// All containers have ended, at least one with a failure.
    Failed,
    /// The node does not report.
    Unknown,
}

/// One pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "wire::PodWire")]
pub struct Pod {
    /// Metadata of the pod.
    pub metadata: ObjectMeta,
    /// UID of its controller (the owner reference with `controller: true`), if that is a Job: the Job
    /// controller's label must say the same. If it has no controller: the Job of that label.
    pub owner_uid: Option<Uid>,
    /// It has no controller: its Job was deleted without its pods (`--cascade=orphan`).
    pub is_released: bool,
    /// The node that it runs on, once it has one (`spec.nodeName`).
    pub node: Option<Box<str>>,
    /// Its phase.
    pub phase: PodPhase,
    /// Reason and message of the pod as a whole (evicted, node lost).
    pub detail: Option<Box<Detail>>,
    /// Its IP address, once it has one.
    pub pod_ip: Option<IpAddr>,
    /// When the kubelet accepted it.
    pub start_time: Option<Timestamp>,
    /// Its conditions.
    pub conditions: Conditions,
    /// Its containers, init containers first.
    pub containers: Box<[ContainerStatus]>,
    /// Grace period of its deletion in seconds; 0 unless it is being deleted.
    pub deletion_grace_secs: u32,
    /// How often its containers were restarted.
    pub restarts: u32,
    /// Whether it has a `metadata.generation`: no API server before Kubernetes 1.33 sets one.
    pub has_generation: bool,
    /// What callers get of it, as a short value.
    pub fingerprint: Fingerprint,
}

impl Pod {
    /// Its app containers.
    pub fn app_containers(&self) -> impl Iterator<Item = &ContainerStatus> + Clone {
        let all = self.containers.iter();
        all.filter(|container| container.kind == ContainerKind::App)
    }

    /// Its init containers, sidecars among them.
    pub fn init_containers(&self) -> impl Iterator<Item = &ContainerStatus> + Clone {
        let all = self.containers.iter();
        all.filter(|container| container.kind != ContainerKind::App)
    }

    /// When its deletion was requested, if it is being deleted: its timestamp is the end of the grace
    /// period.
    #[must_use]
    pub fn deleted_since(&self) -> Option<Timestamp> {
        let ends = self.metadata.deletion_timestamp?;
        let grace = i64::from(self.deletion_grace_secs);
        Some(Timestamp::from_seconds(ends.seconds() - grace))
    }

    /// Whether it shows an end: its own, or one for good of an app container.
    #[must_use]
    pub fn shows_its_end(&self) -> bool {
        let ended = |container: &ContainerStatus| {
            matches!(container.state, ContainerState::Terminated(_)) && !container.is_restarted
        };
        matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed)
            || self.app_containers().any(ended)
    }
}

/// The role of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerKind {
    /// An init container.
    Init,
    /// An init container that runs beside the app, and is always restarted (Kubernetes, "Sidecar
    /// Containers").
    Sidecar,
    /// A container of the app.
    App,
}

/// The status of one container, set by the kubelet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Its role.
    pub kind: ContainerKind,
    /// Its current state.
    pub state: ContainerState,
    /// Whether it has ended and the kubelet runs it again, as long as its pod has not ended.
    pub is_restarted: bool,
    /// Name and previous run; `None` while it runs for the first time, to save memory.
    pub details: Option<Box<ContainerDetails>>,
}

impl ContainerStatus {
    /// Its name in the template; empty while it runs for the first time.
    #[must_use]
    pub fn name(&self) -> &str {
        self.details.as_deref().map_or("", |details| &details.name)
    }

    /// How its previous run ended, if there was one.
    #[must_use]
    pub fn last_terminated(&self) -> Option<&Terminated> {
        self.details.as_deref()?.last_terminated.as_ref()
    }
}

/// Name and previous run of a container that is not in its first run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerDetails {
    /// Its name in the template.
    pub name: Box<str>,
    /// How its previous run ended, if there was one.
    pub last_terminated: Option<Terminated>,
}

/// The state of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContainerState {
    /// It does not run yet, or not now; with reason and message.
    Waiting(Option<Box<Detail>>),
    /// It runs, since this time.
    Running(Option<Timestamp>),
    /// It has ended.
    Terminated(Box<Terminated>),
    /// The kubelet has not reported yet (Kubernetes treats this as waiting).
    #[default]
    Unreported,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Terminated {
    /// Exit code of its process; 0 means success.
    #[serde(deserialize_with = "null_is_default")]
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, ….
    #[serde(deserialize_with = "bounded::reason")]
    pub reason: Option<Box<str>>,
    /// Its termination message, or the end of its log.
    #[serde(deserialize_with = "bounded::message")]
    pub message: Option<Box<str>>,
    /// When this run ended.
    pub finished_at: Option<Timestamp>,
}

/// One ConfigMap: templates, where it is labelled so.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "wire::ConfigMapWire")]
pub struct ConfigMap {
    /// Metadata of the ConfigMap.
    pub metadata: ObjectMeta,
    /// Its entries (`data`) that are templates, by key; others and `binaryData` are not read.
    pub data: BTreeMap<String, String>,
    /// Keys that look like templates and are not read, by key, the first [`UNREAD_KEYS_MAX`].
    pub unread: Box<[UnreadKey]>,
}

/// One Event: a message of Kubernetes about another object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "wire::EventWire")]
pub struct Event {
    /// Metadata of the Event itself.
    pub metadata: ObjectMeta,
    /// Kind of the object that it is about.
    pub regarding_kind: RegardingKind,
    /// Name of that object.
    pub regarding_name: Box<str>,
    /// UID of that object.
    pub regarding_uid: Uid,
    /// Its reason.
    pub reason: EventReason,
    /// The message, cut to [`EVENT_MESSAGE_BYTES_MAX`].
    pub message: Box<str>,
    /// When it last happened.
    pub last: Option<Timestamp>,
}

impl Resource for Job {
    const COLLECTION: Collection = JOBS;
    /// The raw name of the instance: one Job for each type that has one of that name.
    type Index = str;

    fn is_ours(&self) -> bool {
        self.app_type().is_some()
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn index(&self) -> Option<&str> {
        self.instance_name()
    }

    fn text_bytes(&self) -> usize {
        Self::text_bytes(self)
    }

    fn shorten(&mut self) {
        Self::shorten(self);
    }
}

impl Resource for Pod {
    const COLLECTION: Collection = PODS;
    /// The UID of the Job that made it.
    type Index = Uid;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn index(&self) -> Option<&Uid> {
        self.owner_uid.as_ref()
    }

    fn text_bytes(&self) -> usize {
        Self::text_bytes(self)
    }

    fn shorten(&mut self) {
        Self::shorten(self);
    }
}

impl Resource for ConfigMap {
    const COLLECTION: Collection = CONFIG_MAPS;
    /// No index, since there are few.
    type Index = ();

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn index(&self) -> Option<&()> {
        None
    }
}

impl Resource for Event {
    const COLLECTION: Collection = EVENTS;
    /// The UID of the object that it is about.
    type Index = Uid;

    fn is_ours(&self) -> bool {
        self.reason != EventReason::Other && self.regarding_kind != RegardingKind::Other
    }

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn index(&self) -> Option<&Uid> {
        Some(&self.regarding_uid)
    }
}
