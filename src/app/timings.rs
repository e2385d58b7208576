//! The duration of each phase of a start, for `Server-Timing`.
//!
//! Pure. There are two sources; a response uses one of them, never a mix:
//!
//! - The replica that created the Job has a [`PhaseClock`] on its own monotonic clock. Each moment
//!   from the call on counts for the phase that its cache showed then. So the durations add up to
//!   the time since the call. A phase that began and ended between two observations has 0.
//! - Any other replica, or a restarted one, has the timestamps of the pod ([`Timings::of_pod`]):
//!   whole seconds, from the pod's creation on. They omit the time of the call and of the Job
//!   controller: the Job of a replaced pod may be a day old.

use super::cache::Instance;
use crate::kube::types::{ConditionStatus, ConditionType, ContainerState, Pod, Timestamp};
use crate::model::status::{InstanceStatus, Phase};
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

/// The phases of a start, in the order of [`Phase`].
const PHASES: [Phase; 8] = [
    Phase::Admitting,
    Phase::Creating,
    Phase::Scheduling,
    Phase::Mounting,
    Phase::Pulling,
    Phase::Initialising,
    Phase::Starting,
    Phase::Readying,
];

/// How long a start was in each phase, from the first known phase to the last one reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timings(Vec<(Phase, Duration)>);

impl Timings {
    /// The phases in order, with the current one up to now.
    pub fn iter(&self) -> impl Iterator<Item = (Phase, Duration)> {
        self.0.iter().copied()
    }

    fn between(first: Phase, furthest: Phase, spent: &BTreeMap<Phase, Duration>) -> Self {
        let reached = PHASES
            .into_iter()
            .filter(|phase| (first..=furthest).contains(phase));
        let spent = |phase| spent.get(&phase).copied().unwrap_or_default();
        Self(reached.map(|phase| (phase, spent(phase))).collect())
    }

    /// The durations by Kubernetes' timestamps, if the instance has a pod.
    ///
    /// A failed start has only the phases with an end recorded by Kubernetes. Times of the kubelet are by the
    /// clock of its node, which may differ: nothing is decided from these durations, they are only shown.
    #[must_use]
    pub fn of_pod(instance: &Instance, wall: SystemTime) -> Option<Self> {
        let open = match &instance.status {
            InstanceStatus::Stopping { .. } => return None,
            // Between two pods: the times of the deleted pod are not those of this start.
            InstanceStatus::Starting(finding) if finding.phase < Phase::Scheduling => return None,
            InstanceStatus::Starting(finding) => Some(finding.phase),
            InstanceStatus::Ready { .. }
            | InstanceStatus::Failed { .. }
            | InstanceStatus::Finished(_) => None,
        };
        let pod = instance.pod.as_deref()?;
        let mut begun = pod.metadata.creation_timestamp?;
        let (mut spent, mut furthest) = (BTreeMap::new(), Phase::Scheduling);
        let mut add = |phase, took| {
            *spent.entry(phase).or_default() += took;
            furthest = furthest.max(phase);
        };
        for (phase, end) in ends(pod) {
            let Some(end) = end else {
                continue;
            };
            add(phase, secs_between(begun, end));
            begun = begun.max(end);
        }
        if let Some(phase) = open {
            // It was ready before: the time until then does not count.
            let unready = pod.conditions.get(ConditionType::Ready);
            let unready = unready.filter(|ready| ready.status != ConditionStatus::True);
            let begun = begun.max(unready.and_then(|ready| ready.since).unwrap_or(begun));
            add(phase, secs_between(begun, wall.into()));
        }
        Some(Self::between(Phase::Scheduling, furthest, &spent))
    }
}

/// When each phase of a pod ended, in the order in which they end.
fn ends(pod: &Pod) -> [(Phase, Option<Timestamp>); 5] {
    let since = |kind| pod.conditions.holds(kind).and_then(|holds| holds.since);
    // Without init containers this holds from the beginning and ends nothing.
    let has_init = pod.init_containers().next().is_some();
    let initialised = since(ConditionType::Initialized).filter(|_| has_init);
    let started = pod.app_containers().map(|container| match container.state {
        ContainerState::Running(since) => since,
        _ => None,
    });
    let started: Option<Vec<Timestamp>> = started.collect();
    [
        (Phase::Scheduling, since(ConditionType::PodScheduled)),
        (
            Phase::Mounting,
            since(ConditionType::PodReadyToStartContainers),
        ),
        (Phase::Initialising, initialised),
        (
            Phase::Pulling,
            started.and_then(|all| all.into_iter().max()),
        ),
        (Phase::Readying, since(ConditionType::Ready)),
    ]
}

fn secs_between(begin: Timestamp, end: Timestamp) -> Duration {
    let secs = end.seconds() - begin.seconds();
    Duration::from_secs(u64::try_from(secs).unwrap_or(0))
}

/// The phases of a start that this replica made, on its monotonic clock.
#[derive(Clone, Debug)]
pub struct PhaseClock {
    spent: BTreeMap<Phase, Duration>,
    furthest: Phase,
    /// The current phase and its beginning; `None` when the start has ended.
    open: Option<(Phase, Instant)>,
}

impl PhaseClock {
    /// The clock of a start with a POST that begins now.
    #[must_use]
    pub const fn new(begun: Instant) -> Self {
        Self {
            spent: BTreeMap::new(),
            furthest: Phase::Admitting,
            open: Some((Phase::Admitting, begun)),
        }
    }

    /// The cache shows the start in this phase. Returns the phase that this ends, and how long it
    /// lasted.
    pub fn enter(&mut self, phase: Phase, now: Instant) -> Option<(Phase, Duration)> {
        let (open, _) = self.open?;
        self.furthest = self.furthest.max(phase);
        if open == phase {
            return None;
        }
        let left = self.end(None, now);
        self.open = Some((phase, now));
        left
    }

    /// The start ends in this phase, or in its current one. Returns the phase that ends by this,
    /// and how long it lasted.
    pub fn end(&mut self, phase: Option<Phase>, now: Instant) -> Option<(Phase, Duration)> {
        let (open, since) = self.open.take()?;
        self.furthest = self.furthest.max(phase.unwrap_or(open));
        let took = now.saturating_duration_since(since);
        *self.spent.entry(open).or_default() += took;
        Some((open, took))
    }

    /// The durations until now.
    #[must_use]
    pub fn timings(&self, now: Instant) -> Timings {
        let mut spent = self.spent.clone();
        if let Some((phase, since)) = self.open {
            *spent.entry(phase).or_default() += now.saturating_duration_since(since);
        }
        Timings::between(Phase::Admitting, self.furthest, &spent)
    }
}

#[cfg(test)]
mod tests;
