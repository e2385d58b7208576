//! The JSON shapes of objects, and their conversion to our types.
//!
//! Every field is optional except the name, since Kubernetes treats `null` as
//! missing; unknown fields are skipped. These structs are not used outside of
//! this folder.

use super::scalars::from_text;
use super::{
    ConditionStatus, ConditionType, Conditions, ConfigMap, ContainerDetails, ContainerKind,
    ContainerState, ContainerStatus, Detail, EVENT_MESSAGE_BYTES_MAX, Event, EventReason, Job,
    JobStatus, ObjectMeta, Pairs, Pod, PodPhase, RegardingKind, ResourceVersion, RestartPolicy,
    Terminated, Timestamp, Uid,
};
use serde::de::{Deserialize, Deserializer};
use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetaWire {
    name: Box<str>,
    uid: Option<Uid>,
    resource_version: Option<ResourceVersion>,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
    deletion_grace_period_seconds: Option<u32>,
    labels: Option<Pairs>,
    annotations: Option<Pairs>,
    owner_references: Option<Vec<OwnerWire>>,
}

#[derive(serde::Deserialize)]
struct OwnerWire {
    uid: Option<Uid>,
    controller: Option<bool>,
}

fn controller_uid(owners: Option<Vec<OwnerWire>>) -> Option<Uid> {
    let mut owners = owners.unwrap_or_default().into_iter();
    owners.find(|owner| owner.controller == Some(true))?.uid
}

impl From<MetaWire> for ObjectMeta {
    fn from(wire: MetaWire) -> Self {
        let annotations = wire.annotations.unwrap_or_default();
        let mut labels = wire.labels.unwrap_or_default();
        labels.drop_repeated_in(&annotations);
        Self {
            name: wire.name,
            uid: wire.uid.unwrap_or_default(),
            resource_version: wire.resource_version.unwrap_or_default(),
            creation_timestamp: wire.creation_timestamp,
            deletion_timestamp: wire.deletion_timestamp,
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
    reason: Option<Box<str>>,
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

/// The conditions of these kinds; others are dropped.
fn conditions(wires: Option<Vec<ConditionWire>>, is_read: fn(ConditionType) -> bool) -> Conditions {
    let mut known = Conditions::default();
    for wire in wires.unwrap_or_default() {
        let kind = wire.kind.and_then(|kind| kind.0);
        let Some(kind) = kind.filter(|kind| is_read(*kind)) else {
            continue;
        };
        known.set(
            kind,
            wire.status.unwrap_or_default(),
            wire.last_transition_time,
            detail(wire.reason, wire.message),
        );
    }
    known
}

pub(super) fn conditions_of_jobs<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Conditions, D::Error> {
    let wires = Deserialize::deserialize(deserializer)?;
    Ok(conditions(wires, |kind| !kind.is_of_pods()))
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
    template: Option<TemplateWire>,
}

#[derive(Default, serde::Deserialize)]
struct TemplateWire {
    metadata: Option<TemplateMetaWire>,
    spec: Option<PodSpecWire>,
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
        let metadata = ObjectMeta::from(wire.metadata);
        let of_template = [
            &template_meta.annotations.unwrap_or_default(),
            &template_meta.labels.unwrap_or_default(),
        ];
        Self {
            template: Pairs::identity(of_template, &metadata.annotations),
            metadata,
            suspend: spec.suspend.unwrap_or_default(),
            backoff_limit: spec.backoff_limit.unwrap_or(BACKOFF_LIMIT_DEFAULT),
            restart_policy: template
                .spec
                .unwrap_or_default()
                .restart_policy
                .unwrap_or_default(),
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
    restart_policy: Option<RestartPolicy>,
    init_containers: Option<Vec<InitContainerWire>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct InitContainerWire {
    name: Option<Box<str>>,
    restart_policy: Option<RestartPolicy>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodStatusWire {
    phase: Option<PodPhase>,
    reason: Option<Box<str>>,
    message: Option<Box<str>>,
    #[serde(rename = "podIP")]
    pod_ip: Option<Address>,
    start_time: Option<Timestamp>,
    conditions: Option<Vec<ConditionWire>>,
    container_statuses: Option<Vec<ContainerWire>>,
    init_container_statuses: Option<Vec<ContainerWire>>,
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
    name: Option<Box<str>>,
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
        if let Some(terminated) = wire.terminated {
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

fn container(wire: ContainerWire, kind: ContainerKind) -> ContainerStatus {
    let state = wire.state.unwrap_or_default().into();
    let details = ContainerDetails {
        name: wire.name.unwrap_or_default(),
        last_terminated: wire.last_state.unwrap_or_default().terminated,
    };
    let is_first_run =
        matches!(state, ContainerState::Running(_)) && details.last_terminated.is_none();
    ContainerStatus {
        kind,
        state,
        details: (!is_first_run).then(|| Box::new(details)),
    }
}

impl From<PodWire> for Pod {
    fn from(mut wire: PodWire) -> Self {
        let spec = wire.spec.unwrap_or_default();
        let status = wire.status.unwrap_or_default();
        let inits = spec.init_containers.unwrap_or_default().into_iter();
        let sidecars: Vec<Option<Box<str>>> = inits
            .filter(|init| init.restart_policy == Some(RestartPolicy::Always))
            .map(|init| init.name)
            .collect();
        let inits = status.init_container_statuses.unwrap_or_default();
        let inits = inits.into_iter().map(|wire| {
            let kind = if sidecars.contains(&wire.name) {
                ContainerKind::Sidecar
            } else {
                ContainerKind::Init
            };
            container(wire, kind)
        });
        let apps = status.container_statuses.unwrap_or_default().into_iter();
        let apps = apps.map(|wire| container(wire, ContainerKind::App));
        Self {
            owner_uid: controller_uid(wire.metadata.owner_references.take()),
            deletion_grace_secs: wire
                .metadata
                .deletion_grace_period_seconds
                .unwrap_or_default(),
            metadata: wire.metadata.into(),
            phase: status.phase.unwrap_or_default(),
            detail: detail(status.reason, status.message).map(Box::new),
            pod_ip: status.pod_ip.and_then(|address| address.0),
            start_time: status.start_time,
            conditions: conditions(status.conditions, ConditionType::is_of_pods),
            containers: inits.chain(apps).collect(),
            restart_policy: spec.restart_policy.unwrap_or_default(),
        }
    }
}

#[derive(serde::Deserialize)]
pub(super) struct ConfigMapWire {
    metadata: MetaWire,
    data: Option<BTreeMap<String, Option<String>>>,
}

impl From<ConfigMapWire> for ConfigMap {
    fn from(wire: ConfigMapWire) -> Self {
        let data = wire.data.unwrap_or_default().into_iter();
        Self {
            metadata: wire.metadata.into(),
            data: data
                .map(|(key, text)| (key, text.unwrap_or_default()))
                .collect(),
        }
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
    message: Option<String>,
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    series: Option<SeriesWire>,
}

#[derive(Default, serde::Deserialize)]
struct RegardingWire {
    kind: Option<RegardingKind>,
    name: Option<Box<str>>,
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
        let metadata = ObjectMeta::from(wire.metadata);
        // Events of the newer API count in `series` and leave `lastTimestamp` empty.
        let series_last = wire.series.and_then(|series| series.last_observed_time);
        let last = series_last.or(wire.last_timestamp).or(wire.event_time);
        let mut message = wire.message.unwrap_or_default();
        message.truncate(message.floor_char_boundary(EVENT_MESSAGE_BYTES_MAX));
        let reason = match wire.reason.unwrap_or_default() {
            EventReason::FailedPull if !message.starts_with(PULL_FAILED) => EventReason::Other,
            reason => reason,
        };
        Self {
            regarding_kind: regarding.kind.unwrap_or_default(),
            regarding_name: regarding.name.unwrap_or_default(),
            regarding_uid: regarding.uid.unwrap_or_default(),
            reason,
            message: message.into(),
            last: last.or(metadata.creation_timestamp),
            metadata,
        }
    }
}
