//! Conditions of Jobs and pods: those that we read, in one allocation of fixed size, or none.
//!
//! Their meaning is not known here.

use super::messages::Message;
use super::{Detail, Timestamp};

/// The conditions that we read, of Jobs and of pods; others are dropped while decoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionType {
    /// Pod: a node was found.
    PodScheduled,
    /// Pod: sandbox and network are made; containers can start.
    PodReadyToStartContainers,
    /// Pod: all init containers have succeeded.
    Initialized,
    /// Pod: it can receive traffic.
    Ready,
    /// Pod: all containers run, and their probes have passed.
    ContainersReady,
    /// Pod: it is being terminated by others (drain, preemption, eviction).
    DisruptionTarget,
    /// Job: succeeded.
    Complete,
    /// Job: failed.
    Failed,
    /// Job: will be `Failed` when its pods are gone.
    FailureTarget,
    /// Job: will be `Complete` when its pods are gone.
    SuccessCriteriaMet,
}

/// How many kinds a pod can have, which come first in [`ConditionType`]; a Job has fewer.
const PLACES: usize = 6;

impl ConditionType {
    /// All of them as Kubernetes spells them, those of pods first.
    pub(super) const NAMES: [(&'static str, Self); 10] = [
        ("PodScheduled", Self::PodScheduled),
        ("PodReadyToStartContainers", Self::PodReadyToStartContainers),
        ("Initialized", Self::Initialized),
        ("Ready", Self::Ready),
        ("ContainersReady", Self::ContainersReady),
        ("DisruptionTarget", Self::DisruptionTarget),
        ("Complete", Self::Complete),
        ("Failed", Self::Failed),
        ("FailureTarget", Self::FailureTarget),
        ("SuccessCriteriaMet", Self::SuccessCriteriaMet),
    ];

    /// Whether it is one of pods; the others are those of Jobs.
    pub(super) fn is_of_pods(self) -> bool {
        (self as usize) < PLACES
    }

    /// Whether reason and message are read while it has this status: those of others are dropped.
    pub(super) fn has_detail(self, status: ConditionStatus) -> bool {
        match self {
            Self::PodScheduled | Self::Ready => status != ConditionStatus::True,
            Self::DisruptionTarget | Self::Failed | Self::FailureTarget => {
                status == ConditionStatus::True
            }
            _ => false,
        }
    }

    /// Its index among those of its object; Jobs and pods have no kinds in common.
    fn index(self) -> usize {
        self as usize % PLACES
    }
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Kubernetes does not know.
    #[default]
    Unknown,
}

/// One condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition<'a> {
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Since when (`lastTransitionTime`).
    pub since: Option<Timestamp>,
    /// Reason and message; most conditions that hold have none.
    pub detail: Option<&'a Detail>,
}

impl<'a> Condition<'a> {
    /// The reason, or the empty string.
    #[must_use]
    pub fn reason(self) -> &'a str {
        let reason = self.detail.and_then(|detail| detail.reason.as_deref());
        reason.unwrap_or_default()
    }

    /// The message, or the empty string.
    #[must_use]
    pub fn message(self) -> &'a str {
        let message = self.detail.and_then(|detail| detail.message.as_deref());
        message.unwrap_or_default()
    }
}

/// The conditions of one object: of a Job or of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions(Option<Box<Known>>);

/// Indexed by [`ConditionType::index`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    since: [Option<Timestamp>; PLACES],
    status: [Option<ConditionStatus>; PLACES],
    details: Option<Box<[Option<Detail>; PLACES]>>,
}

impl Conditions {
    /// That condition, if the object has it.
    #[must_use]
    pub fn get(&self, kind: ConditionType) -> Option<Condition<'_>> {
        let (known, place) = (self.0.as_deref()?, kind.index());
        let details = known.details.as_deref();
        Some(Condition {
            status: known.status[place]?,
            since: known.since[place],
            detail: details.and_then(|details| details[place].as_ref()),
        })
    }

    /// That condition, if it holds.
    #[must_use]
    pub fn holds(&self, kind: ConditionType) -> Option<Condition<'_>> {
        self.get(kind)
            .filter(|condition| condition.status == ConditionStatus::True)
    }

    /// Whether that condition holds.
    #[must_use]
    pub fn is_true(&self, kind: ConditionType) -> bool {
        self.holds(kind).is_some()
    }

    /// Records a condition.
    pub(super) fn set(
        &mut self,
        kind: ConditionType,
        status: ConditionStatus,
        since: Option<Timestamp>,
        detail: Option<Detail>,
    ) {
        let (known, place) = (self.0.get_or_insert_default(), kind.index());
        known.status[place] = Some(status);
        known.since[place] = since;
        if detail.is_some() || known.details.is_some() {
            known.details.get_or_insert_default()[place] = detail;
        }
    }

    pub(super) fn messages(&mut self) -> impl Iterator<Item = &mut Message> {
        let details = self.0.as_mut().and_then(|known| known.details.as_mut());
        let details = details.into_iter().flat_map(|all| all.iter_mut().flatten());
        details.map(|detail| &mut detail.message)
    }

    pub(super) fn all_messages(&self) -> impl Iterator<Item = &Message> {
        let details = self.0.as_ref().and_then(|known| known.details.as_ref());
        let details = details.into_iter().flat_map(|all| all.iter().flatten());
        details.map(|detail| &detail.message)
    }

    /// Bytes allocated for conditions without a reason; for the test of memory.
    #[cfg(test)]
    pub(super) const BYTES: usize = size_of::<Known>();
}
