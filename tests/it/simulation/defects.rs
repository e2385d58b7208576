//! Replicas with a defect on purpose: each must be detected, and by the promise it breaks.
//!
//! The program itself is not changed for this, but what it is given and what it returns: a program with such
//! a defect would do the same. API servers that are broken are in [`super::broken`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use config_controller::app::api_call::{ApiCall, CallOutcome};
use config_controller::app::coordinator::{Input, Limits};
use config_controller::app::lifecycle::LifecycleKind;
use config_controller::model::names::InstanceKey;

use super::promises::Promise;
use super::replica::Output;

/// What is wrong with each replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Defect {
    /// Nothing.
    #[default]
    Not,
    /// The coordinator learns of no change of the cache.
    MissesChanges,
    /// A ready instance is returned again whenever it is requested.
    KeepsResponses,
    /// It forgets that it stood still.
    ForgetsPauses,
    /// Each response is given twice.
    AnswersTwice,
    /// Requests wait for longer than they may.
    WaitsTooLong,
    /// More requests wait than may.
    HasNoBounds,
    /// A ready instance is returned only after the coordinator was asked.
    AsksForReads,
    /// Each call is made ten times.
    RepeatsCalls,
    /// A call is made again while it is in flight.
    MakesCallsTwice,
    /// The results of calls never arrive.
    LosesResults,
    /// Failed instances are replaced after a second.
    HasShortDelays,
    /// After a failed call for one name none is made for others until it has succeeded, or for half a minute.
    WaitsForOne,
    /// A request gets the handle of one that still waits.
    ReusesHandles,
    /// The index over the stores learns of no change of pods.
    MissesPods,
    /// Readers of events are not told that a Job is gone.
    HidesEnds,
    /// They are not told of labels that change.
    HidesLabels,
    /// It notes no uses.
    ForgetsUses,
    /// It stops nothing that nobody uses.
    LetsAllLive,
    /// It panics when the cache changes.
    Panics,
}

/// How long a replica that waits for one name does so.
const WAITS_FOR_ONE: Duration = Duration::from_secs(30);

impl Defect {
    /// All of them, each with the promise that it breaks.
    pub(super) const ALL: [(Self, Promise); 19] = [
        (Self::MissesChanges, Promise::NoWaiterForReadyInstance),
        (Self::KeepsResponses, Promise::DeletionIsRemembered),
        (Self::ForgetsPauses, Promise::PausesAreSaid),
        (Self::AnswersTwice, Promise::AnsweredOnce),
        (Self::WaitsTooLong, Promise::AnsweredInTime),
        (Self::HasNoBounds, Promise::Bounded),
        (Self::AsksForReads, Promise::ReadsCostNothing),
        (Self::RepeatsCalls, Promise::CallsAreBounded),
        (Self::MakesCallsTwice, Promise::OneCallPerName),
        (Self::LosesResults, Promise::Settles),
        (Self::HasShortDelays, Promise::DelayIsKept),
        (Self::WaitsForOne, Promise::StartsAndStops),
        (Self::ReusesHandles, Promise::CoordinatorIsSound),
        (Self::MissesPods, Promise::StoresAreSound),
        (Self::HidesEnds, Promise::EventsAreTrue),
        (Self::HidesLabels, Promise::EventsAreTrue),
        (Self::ForgetsUses, Promise::UsesAreReported),
        (Self::LetsAllLive, Promise::UnusedEnds),
        (Self::Panics, Promise::NoPanic),
    ];

    /// The limits that it has instead of these.
    pub(super) fn limits(self, limits: Limits) -> Limits {
        match self {
            Self::HasNoBounds => Limits {
                parked_max: 1000,
                parked_per_key_max: 1000,
                ..limits
            },
            _ => limits,
        }
    }

    /// How long a request waits instead of so long.
    pub(super) fn wait(self, wait: Option<Duration>) -> Option<Duration> {
        match self {
            Self::WaitsTooLong => wait.map(|wait| wait + Duration::from_secs(5)),
            _ => wait,
        }
    }

    /// How often it makes each call.
    pub(super) fn repeats(self) -> usize {
        if self == Self::RepeatsCalls { 10 } else { 1 }
    }

    /// Whether the coordinator gets this input.
    pub(super) fn gets(self, input: &Input) -> bool {
        let is_change = matches!(input, Input::Changed(_));
        assert!(self != Self::Panics || !is_change, "a defect on purpose");
        !(is_change && self == Self::MissesChanges)
    }

    /// Whether readers of events are told this.
    pub(super) fn tells(self, kind: &LifecycleKind) -> bool {
        self != Self::HidesEnds || *kind != LifecycleKind::Gone
    }

    /// Whether readers of events are told of labels.
    pub(super) fn tells_labels(self) -> bool {
        self != Self::HidesLabels
    }

    /// Spoils its output; `in_flight` are calls that are made.
    pub(super) fn spoil(self, out: &mut Output, in_flight: impl Iterator<Item = Arc<ApiCall>>) {
        match self {
            Self::AnswersTwice => out.responses.extend(out.responses.clone()),
            Self::MakesCallsTwice => out.calls.extend(in_flight),
            _ => {}
        }
    }
}

/// The calls that a replica holds back while it waits for one name.
#[derive(Default)]
pub(super) struct HeldBack {
    failed: Option<(InstanceKey, Instant)>,
    calls: Vec<Arc<ApiCall>>,
}

impl HeldBack {
    /// A call for this name has ended.
    pub(super) fn ended(&mut self, key: &InstanceKey, outcome: &CallOutcome, now: Instant) {
        let is_it = |(failed, _): &(InstanceKey, Instant)| failed == key;
        match outcome {
            CallOutcome::Failed(_) => {
                self.failed.get_or_insert_with(|| (key.clone(), now));
            }
            _ => {
                self.failed.take_if(|failed| is_it(failed));
            }
        }
    }

    /// Which of these calls are made now.
    pub(super) fn release(&mut self, calls: Vec<Arc<ApiCall>>, now: Instant) -> Vec<Arc<ApiCall>> {
        self.failed
            .take_if(|(_, since)| *since + WAITS_FOR_ONE <= now);
        self.calls.extend(calls);
        let Some((failed, _)) = &self.failed else {
            return std::mem::take(&mut self.calls);
        };
        self.calls
            .extract_if(.., |call| call.key == *failed)
            .collect()
    }
}
