//! The JSON shapes of objects, and their conversion to our types.
//!
//! Every field is optional except the name, since Kubernetes treats `null` as
//! missing; unknown fields are skipped. These structs are not used outside of
//! this folder.

use super::bounded::{self, CONTAINERS_MAX, ContainerName, Name, Text};
use super::messages::OBJECT_MESSAGES_BYTES_MAX;
use super::own::{self, Own};
use super::pairs;
use super::restarts::ContainerSpecWire;
use super::scalars::from_text;
use super::unread::{self, BinaryKeys, looks_like_template};
use super::{
    ConditionStatus, ConditionType, Conditions, ConfigMap, ContainerDetails, ContainerKind,
    ContainerState, ContainerStatus, Detail, EVENT_MESSAGE_BYTES_MAX, Event, EventReason,
    Fingerprint, Job, JobStatus, ObjectMeta, Pairs, Pod, PodPhase, RegardingKind, ResourceVersion,
    RestartPolicy, TEMPLATE_SUFFIX, Terminated, Timestamp, Uid,
};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetaWire {
    name: Name,
    uid: Option<Uid>,
    resource_version: Option<ResourceVersion>,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
    deletion_grace_period_seconds: Option<u32>,
    generation: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "own::labels")]
    labels: Own,
    #[serde(default, deserialize_with = "own::annotations")]
    annotations: Own,
    #[serde(default, deserialize_with = "controller_uid")]
    owner_references: Option<Uid>,
}

#[derive(serde::Deserialize)]
struct OwnerWire {
    uid: Option<Uid>,
    controller: Option<bool>,
}

/// The UID of the first owner that is the controller; Kubernetes allows one.
fn controller_uid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uid>, D::Error> {
    bounded::fold(deserializer, None, |found, owner: OwnerWire| {
        if found.is_none() && owner.controller == Some(true) {
            *found = owner.uid;
        }
    })
}

/// Which pairs of an object are kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// Those of an instance: its type and name, failures before it, revisions.
    Instance,
    /// Those of an instance, and its meta labels.
    InstanceAndMeta,
    /// All of our annotations but meta labels: the settings of app types.
    Settings,
    /// None.
    Nothing,
}

impl MetaWire {
    fn into_meta(self, keeps: Keeps) -> ObjectMeta {
        let of_instance = |own: Own| own.only(|key| pairs::COMMON_KEYS.contains(&key));
        let (labels, annotations) = match keeps {
            Keeps::InstanceAndMeta => {
                let annotations = of_instance(self.annotations);
                let is_of_pods = |key: &str| !pairs::KEYS_OF_JOBS.contains(&key);
                (of_instance(self.labels), annotations.only(is_of_pods))
            }
            Keeps::Instance => (
                of_instance(self.labels).without_meta(),
                of_instance(self.annotations).without_meta(),
            ),
            Keeps::Settings => (Own::default(), self.annotations.without_meta()),
            Keeps::Nothing => (Own::default(), Own::default()),
        };
        let (mut labels, annotations) = Own::join(labels, annotations);
        labels.drop_repeated_in(&annotations);
        ObjectMeta {
            name: self.name.0,
            uid: self.uid.unwrap_or_default(),
            resource_version: self.resource_version.unwrap_or_default(),
            creation_timestamp: self.creation_timestamp,
            deletion_timestamp: self.deletion_timestamp,
            labels,
            annotations,
        }
    }
}

fn detail(reason: Option<Box<str>>, message: Option<Box<str>>) -> Option<Detail> {
    let reason = reason.filter(|reason| !reason.is_empty());
    let message = message.filter(|message| !message.is_empty());
    (reason.is_some() || message.is_some()).then_some(Detail { reason, message })
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConditionWire {
    #[serde(rename = "type")]
    kind: Option<KnownCondition>,
    status: Option<ConditionStatus>,
    last_transition_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "bounded::reason")]
    reason: Option<Box<str>>,
    #[serde(default, deserialize_with = "bounded::message")]
    message: Option<Box<str>>,
}

/// A condition type, if it is one that we read.
struct KnownCondition(Option<ConditionType>);

impl<'de> Deserialize<'de> for KnownCondition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a condition type", |text| {
            let mut names = ConditionType::NAMES.iter();
            let known = names.find(|(name, _)| *name == text);
            Some(Self(known.map(|(_, kind)| *kind)))
        })
    }
}

/// Implements `Deserialize` for an enum of words; an unknown word becomes the default.
macro_rules! words {
    ($kind:ty, $expected:literal, $($word:literal => $value:expr),+ $(,)?) => {
        impl<'de> Deserialize<'de> for $kind {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                from_text(deserializer, $expected, |text| {
                    Some(match text {
                        $($word => $value,)+
                        _ => Self::default(),
                    })
                })
            }
        }
    };
}

words!(ConditionStatus, "True, False or Unknown", "True" => Self::True, "False" => Self::False);
words!(RestartPolicy, "a restart policy", "OnFailure" => Self::OnFailure, "Never" => Self::Never);
words!(
    PodPhase, "a pod phase",
    "Running" => Self::Running, "Succeeded" => Self::Succeeded, "Failed" => Self::Failed,
    "Unknown" => Self::Unknown,
);

/// Reads the conditions of these kinds; others are dropped.
fn conditions<'de, D: Deserializer<'de>>(
    deserializer: D,
    is_read: impl Fn(ConditionType) -> bool,
) -> Result<Conditions, D::Error> {
    bounded::fold(
        deserializer,
        Conditions::default(),
        |known, wire: ConditionWire| {
            let kind = wire.kind.and_then(|kind| kind.0);
            if let Some(kind) = kind.filter(|kind| is_read(*kind)) {
                let status = wire.status.unwrap_or_default();
                let detail = detail(wire.reason, wire.message);
                let detail = detail.filter(|_| kind.has_detail(status));
                known.set(kind, status, wire.last_transition_time, detail);
            }
        },
    )
}

pub(super) fn conditions_of_jobs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Conditions, D::Error> {
    conditions(deserializer, |kind| !kind.is_of_pods())
}

fn conditions_of_pods<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Conditions, D::Error> {
    conditions(deserializer, ConditionType::is_of_pods)
}

/// Kubernetes' default of `backoffLimit`.
const BACKOFF_LIMIT_DEFAULT: u32 = 6;

#[derive(serde::Deserialize)]
pub(super) struct JobWire {
    metadata: MetaWire,
    spec: Option<JobSpecWire>,
    status: Option<JobStatus>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct JobSpecWire {
    suspend: Option<bool>,
    backoff_limit: Option<u32>,
    ttl_seconds_after_finished: Option<u32>,
    template: Option<TemplateWire>,
}

#[derive(Default, serde::Deserialize)]
struct TemplateWire {
    metadata: Option<TemplateMetaWire>,
}

#[derive(Default, serde::Deserialize)]
struct TemplateMetaWire {
    labels: Option<Pairs>,
    annotations: Option<Pairs>,
}

impl From<JobWire> for Job {
    fn from(wire: JobWire) -> Self {
        let spec = wire.spec.unwrap_or_default();
        let template = spec.template.unwrap_or_default();
        let template_meta = template.metadata.unwrap_or_default();
        let metadata = wire.metadata.into_meta(Keeps::Instance);
        let of_template = [
            &template_meta.annotations.unwrap_or_default(),
            &template_meta.labels.unwrap_or_default(),
        ];
        Self {
            template: Pairs::identity(of_template, &metadata.annotations),
            metadata,
            suspend: spec.suspend.unwrap_or_default(),
            backoff_limit: spec.backoff_limit.unwrap_or(BACKOFF_LIMIT_DEFAULT),
            ttl_secs: spec.ttl_seconds_after_finished,
            status: wire.status.unwrap_or_default(),
        }
    }
}

#[derive(serde::Deserialize)]
pub(super) struct PodWire {
    metadata: MetaWire,
    spec: Option<PodSpecWire>,
    status: Option<PodStatusWire>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpecWire {
    node_name: Option<Name>,
    restart_policy: Option<RestartPolicy>,
    #[serde(default, deserialize_with = "bounded::first::<_, CONTAINERS_MAX, _>")]
    containers: Vec<ContainerSpecWire>,
    #[serde(default, deserialize_with = "bounded::first::<_, CONTAINERS_MAX, _>")]
    init_containers: Vec<ContainerSpecWire>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatusWire {
    phase: Option<PodPhase>,
    #[serde(default, deserialize_with = "bounded::reason")]
    reason: Option<Box<str>>,
    #[serde(default, deserialize_with = "bounded::message")]
    message: Option<Box<str>>,
    #[serde(rename = "podIP")]
    pod_ip: Option<Address>,
    start_time: Option<Timestamp>,
    #[serde(default, deserialize_with = "conditions_of_pods")]
    conditions: Conditions,
    #[serde(default, deserialize_with = "bounded::first::<_, CONTAINERS_MAX, _>")]
    container_statuses: Vec<ContainerWire>,
    #[serde(default, deserialize_with = "bounded::first::<_, CONTAINERS_MAX, _>")]
    init_container_statuses: Vec<ContainerWire>,
}

/// An address, or none where Kubernetes has written the empty string.
struct Address(Option<std::net::IpAddr>);

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "an IP address", |text| {
            if text.is_empty() {
                return Some(Self(None));
            }
            text.parse().ok().map(|address| Self(Some(address)))
        })
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerWire {
    name: Option<ContainerName>,
    restart_count: Option<i32>,
    state: Option<StateWire>,
    last_state: Option<StateWire>,
}

#[derive(Default, serde::Deserialize)]
struct StateWire {
    waiting: Option<Detail>,
    running: Option<RunningWire>,
    terminated: Option<Terminated>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RunningWire {
    started_at: Option<Timestamp>,
}

impl From<StateWire> for ContainerState {
    fn from(wire: StateWire) -> Self {
        if let Some(mut terminated) = wire.terminated {
            if terminated.exit_code == 0 {
                // Only the texts of a failure are read.
                (terminated.reason, terminated.message) = (None, None);
            }
            Self::Terminated(Box::new(terminated))
        } else if let Some(running) = wire.running {
            Self::Running(running.started_at)
        } else if let Some(waiting) = wire.waiting {
            Self::Waiting(detail(waiting.reason, waiting.message).map(Box::new))
        } else {
            Self::Unreported
        }
    }
}

/// A container's status, and its place in the spec, if it is known.
fn container(
    wire: ContainerWire,
    kind: ContainerKind,
    specs: &[ContainerSpecWire],
    of_pod: RestartPolicy,
) -> ContainerStatus {
    let name = wire.name.map(|name| name.0).unwrap_or_default();
    let is_it = |spec: &&ContainerSpecWire| spec.name.as_ref().is_some_and(|it| it.0 == name);
    let spec = specs.iter().find(is_it);
    let is_sidecar =
        kind == ContainerKind::Init && spec.is_some_and(ContainerSpecWire::is_always_restarted);
    let state = wire.state.unwrap_or_default().into();
    let is_restarted = match &state {
        ContainerState::Terminated(ended) => {
            let code = ended.exit_code;
            spec.map_or_else(
                || of_pod.restarts(code),
                |spec| spec.is_restarted(code, of_pod),
            )
        }
        _ => false,
    };
    let details = ContainerDetails {
        name,
        last_terminated: wire.last_state.unwrap_or_default().terminated,
    };
    let is_first_run =
        matches!(state, ContainerState::Running(_)) && details.last_terminated.is_none();
    ContainerStatus {
        kind: if is_sidecar {
            ContainerKind::Sidecar
        } else {
            kind
        },
        state,
        is_restarted,
        details: (!is_first_run).then(|| Box::new(details)),
    }
}

impl From<PodWire> for Pod {
    fn from(wire: PodWire) -> Self {
        let spec = wire.spec.unwrap_or_default();
        let status = wire.status.unwrap_or_default();
        let of_pod = spec.restart_policy.unwrap_or_default();
        let containers = status.container_statuses.iter();
        let containers = containers.chain(&status.init_container_statuses);
        let restarts = containers.filter_map(|wire| u32::try_from(wire.restart_count?).ok());
        let restarts = restarts.fold(0, u32::saturating_add);
        let inits = status.init_container_statuses.into_iter();
        let inits =
            inits.map(|wire| container(wire, ContainerKind::Init, &spec.init_containers, of_pod));
        let apps = status.container_statuses.into_iter();
        let apps = apps.map(|wire| container(wire, ContainerKind::App, &spec.containers, of_pod));
        let phase = status.phase.unwrap_or_default();
        let detail = detail(status.reason, status.message);
        let grace = wire.metadata.deletion_grace_period_seconds;
        let marked = wire.metadata.labels.controller.as_ref();
        let owner = wire.metadata.owner_references.as_ref();
        let is_released = owner.is_none() && marked.is_some();
        // Whoever may change pods can name a Job as the owner; the Job controller lets go of a pod
        // without its label.
        let owner_uid = marked.filter(|marked| is_released || owner == Some(*marked));
        let owner_uid = owner_uid.cloned();
        let has_generation = wire.metadata.generation.is_some();
        let metadata = wire.metadata.into_meta(Keeps::InstanceAndMeta);
        let pod_ip = status.pod_ip.and_then(|address| address.0);
        let mut pod = Self {
            fingerprint: Fingerprint::of(owner_uid.as_ref(), pod_ip, &metadata),
            owner_uid,
            is_released,
            deletion_grace_secs: grace.unwrap_or_default(),
            has_generation,
            metadata,
            node: spec.node_name.map(|name| name.0),
            phase,
            // It is read as the reason of a failure alone.
            detail: detail.filter(|_| phase == PodPhase::Failed).map(Box::new),
            pod_ip,
            start_time: status.start_time,
            conditions: status.conditions,
            containers: inits.chain(apps).collect(),
            restarts,
        };
        pod.cut_messages(OBJECT_MESSAGES_BYTES_MAX);
        pod
    }
}

#[derive(serde::Deserialize)]
pub(super) struct ConfigMapWire {
    metadata: MetaWire,
    #[serde(default)]
    data: Templates,
    #[serde(default, rename = "binaryData")]
    binary: BinaryKeys,
}

impl From<ConfigMapWire> for ConfigMap {
    fn from(wire: ConfigMapWire) -> Self {
        Self {
            metadata: wire.metadata.into_meta(Keeps::Settings),
            data: wire.data.read,
            unread: unread::join(wire.data.unread, wire.binary),
        }
    }
}

/// The entries that are templates, and the keys of others that look like some; all others are skipped
/// without being allocated.
#[derive(Default)]
struct Templates {
    read: BTreeMap<String, String>,
    unread: Vec<Box<str>>,
}

impl<'de> Deserialize<'de> for Templates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(TemplatesVisitor)
    }
}

struct TemplatesVisitor;

impl<'de> Visitor<'de> for TemplatesVisitor {
    type Value = Templates;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_none<E>(self) -> Result<Self::Value, E> {
        Ok(Self::Value::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut templates = Self::Value::default();
        while let Some(key) = map.next_key::<String>()? {
            let name = key.strip_suffix(TEMPLATE_SUFFIX);
            if name.is_some_and(|name| !name.is_empty()) {
                let text: Option<String> = map.next_value()?;
                templates.read.insert(key, text.unwrap_or_default());
            } else {
                map.next_value::<IgnoredAny>()?;
                if looks_like_template(&key) {
                    templates.unread.push(key.into());
                }
            }
        }
        Ok(templates)
    }
}

words!(RegardingKind, "a kind", "Job" => Self::Job, "Pod" => Self::Pod);
words!(
    EventReason, "a reason",
    "FailedCreate" => Self::FailedCreate, "FailedMount" => Self::FailedMount,
    "FailedAttachVolume" => Self::FailedAttachVolume, "FailedMapVolume" => Self::FailedMapVolume,
    "FailedCreatePodSandBox" => Self::FailedCreatePodSandBox, "Failed" => Self::FailedPull,
    "Unhealthy" => Self::Unhealthy,
);

/// The beginning of the kubelet's `Failed` Events about an image that was not pulled.
const PULL_FAILED: &str = "Failed to pull image ";

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct EventWire {
    metadata: MetaWire,
    involved_object: Option<RegardingWire>,
    reason: Option<EventReason>,
    message: Option<Text<EVENT_MESSAGE_BYTES_MAX>>,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<SeriesWire>,
}

#[derive(Default, serde::Deserialize)]
struct RegardingWire {
    kind: Option<RegardingKind>,
    name: Option<Name>,
    uid: Option<Uid>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct SeriesWire {
    last_observed_time: Option<Timestamp>,
}

impl From<EventWire> for Event {
    fn from(wire: EventWire) -> Self {
        let regarding = wire.involved_object.unwrap_or_default();
        let metadata = wire.metadata.into_meta(Keeps::Nothing);
        // Events of the newer API count in `series` and leave `lastTimestamp` empty.
        let series_last = wire.series.and_then(|series| series.last_observed_time);
        let last = series_last.or(wire.last_timestamp).or(wire.event_time);
        let message = wire.message.map(|message| message.0).unwrap_or_default();
        let reason = match wire.reason.unwrap_or_default() {
            EventReason::FailedPull if !message.starts_with(PULL_FAILED) => EventReason::Other,
            reason => reason,
        };
        Self {
            regarding_kind: regarding.kind.unwrap_or_default(),
            regarding_name: regarding.name.map(|name| name.0).unwrap_or_default(),
            regarding_uid: regarding.uid.unwrap_or_default(),
            reason,
            message,
            last: last.or(metadata.creation_timestamp),
            metadata,
        }
    }
}
