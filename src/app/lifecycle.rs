//! Lifecycle events of instances: the one source of metrics, spans, log lines and streams about them.
//!
//! Pure values. The coordinator emits them ([`super::coordinator`]): each step of a Job's life once
//! and in order, as far as this replica saw it. `Requested`, `Created` and `NotCreated` come only from
//! the replica that made the call. [`super::reporter`] and [`super::events`] consume them. Nothing is
//! decided from an event.

use super::api_call::StopCause;
use super::request::Origin;
use super::timings::PhaseClock;
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::status::{Finding, Phase};
use crate::traces::Context;
use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One step in the life of one Job.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// Which instance.
    pub key: InstanceKey,
    /// Which Job; `None` before it exists.
    pub job_uid: Option<Uid>,
    /// When this replica saw it, on its monotonic clock.
    pub at: Instant,
    /// The event.
    pub kind: LifecycleKind,
    /// Whether it is one. Otherwise it is what this replica found when it looked for the first time, or
    /// may have reported already: that an instance is ready is not kept here.
    pub is_news: bool,
    /// The phase that ended with this step and how long it lasted, of a start of this replica.
    pub phase_left: Option<(Phase, Duration)>,
    /// The start of this replica that ended with this step.
    pub start_ended: Option<Box<EndedStart>>,
}

/// An event in the life of a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LifecycleKind {
    /// A call that creates the Job is made.
    Requested,
    /// The Job was created, for this request. `phase_left` is the time until the API server had
    /// admitted it, including the wait for a worker.
    Created(Origin),
    /// The call created no Job and is not retried, or its response was lost.
    NotCreated,
    /// The start entered this phase, or has another reason to be in it, or is no longer ready.
    InPhase {
        /// The phase and its reason.
        finding: Finding,
        /// Whether it has been reported as failed, and that stands.
        is_failing: bool,
    },
    /// The instance became ready.
    Ready {
        /// The time since the request of its Job, if this replica requested it.
        after: Option<Duration>,
        /// Whether it had been reported as failed, or had been ready, before.
        recovered: bool,
    },
    /// It failed, or probably did.
    Failed {
        /// Why.
        finding: Finding,
        /// Whether it can no longer succeed.
        is_final: bool,
        /// The time from the request of its Job to the first failure report of a start, where this
        /// replica requested it; `None` for later ones.
        reported_after: Option<Duration>,
    },
    /// It ended by itself with exit code 0, reached its lifetime, or others ended its pod.
    Finished {
        /// `Completed`, `DeadlineExceeded`, or why others ended it.
        finding: Finding,
        /// Whether others ended it.
        is_disrupted: bool,
        /// As in `Failed`: an end before it was ready is reported to waiting callers, too.
        reported_after: Option<Duration>,
    },
    /// Nobody uses it, and it may be stopped after this time.
    IdleSoon(Duration),
    /// Its Job is being deleted; `None` if another client deleted it.
    Stopping(Option<StopCause>),
    /// Its pod was force-deleted: the node is lost.
    PodForceDeleted {
        /// Name of the pod.
        pod: Box<str>,
    },
    /// Its pod was deleted, since it had outlived its Job: a new instance of the name starts once it has ended.
    OrphanDeleted {
        /// Name of the pod.
        pod: Box<str>,
    },
    /// Its Job no longer exists.
    Gone,
    /// This replica does not follow the start any longer (see [`EndedStart::reason`]).
    Unfollowed,
}

/// An ended start of this replica.
#[derive(Clone, Debug)]
pub struct EndedStart {
    /// `ready`, `failed`, `finished`, `stopped`, `denied` or `unknown`.
    pub result: &'static str,
    /// The reason in one word; empty if there is none.
    pub reason: Arc<str>,
    /// The start.
    pub start: OwnStart,
}

/// One phase of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PhaseStep {
    /// Which.
    pub phase: Phase,
    /// When this replica first saw it.
    pub begin: Instant,
    /// When it saw the next one.
    pub end: Instant,
}

/// Maximum number of requests that a start is linked to; further ones are only counted.
pub const LINKS_MAX: usize = 32;

/// Maximum number of phases kept of one start; an image that cannot be pulled alternates between
/// phases for days.
pub const STEPS_MAX: usize = 64;

/// A start that this replica made.
#[derive(Clone, Debug)]
pub struct OwnStart {
    /// The request for which the Job is created.
    pub by: Origin,
    /// When the call was passed to the executor.
    pub begun: Instant,
    /// When it ended, if it has.
    pub ended_at: Option<Instant>,
    /// When a failure was first reported, if one was.
    pub reported_at: Option<Instant>,
    /// The durations of its phases.
    pub clock: PhaseClock,
    /// Its phases, in order, if it is traced; at most [`STEPS_MAX`].
    pub steps: Vec<PhaseStep>,
    /// Spans of other requests that waited for it; at most [`LINKS_MAX`].
    pub links: Vec<Context>,
    /// How many traced requests waited for it besides the first.
    pub joined: u32,
}

impl OwnStart {
    /// A start that is requested now.
    #[must_use]
    pub const fn new(by: Origin, begun: Instant) -> Self {
        Self {
            by,
            begun,
            ended_at: None,
            reported_at: None,
            clock: PhaseClock::new(begun),
            steps: Vec::new(),
            links: Vec::new(),
            joined: 0,
        }
    }

    /// Another request waits for it.
    pub fn join(&mut self, by: &Origin) {
        let Some(parent) = &self.by.trace else {
            return;
        };
        let Some(trace) = by.trace.as_ref().filter(|trace| *trace != parent) else {
            return;
        };
        self.joined = self.joined.saturating_add(1);
        if self.links.len() < LINKS_MAX {
            self.links.push(trace.clone());
        }
    }

    /// The cache shows it in this phase. Returns the phase that this ends, and how long it lasted.
    pub fn enter(&mut self, phase: Phase, now: Instant) -> Option<(Phase, Duration)> {
        let left = self.clock.enter(phase, now);
        self.keep_step(left, now)
    }

    /// It ends in this phase, or in its current one. Returns the phase that this ends, and how long
    /// it lasted.
    pub fn leave(&mut self, phase: Option<Phase>, now: Instant) -> Option<(Phase, Duration)> {
        let left = self.clock.end(phase, now);
        self.keep_step(left, now)
    }

    fn keep_step(
        &mut self,
        left: Option<(Phase, Duration)>,
        end: Instant,
    ) -> Option<(Phase, Duration)> {
        let (phase, took) = left?;
        if self.by.trace.is_some() && self.steps.len() < STEPS_MAX {
            let begin = end.checked_sub(took).unwrap_or(end);
            self.steps.push(PhaseStep { phase, begin, end });
        }
        left
    }

    /// Records that a failure is reported at `now`; returns the time since the request, if it is
    /// the first.
    pub fn reported(&mut self, now: Instant) -> Option<Duration> {
        if self.reported_at.is_some() {
            return None;
        }
        self.reported_at = Some(now);
        Some(now.saturating_duration_since(self.begun))
    }

    /// It has ended. Dropping this drops what is kept of it for spans.
    pub fn end(&mut self, result: &'static str, reason: Arc<str>, now: Instant) -> Box<EndedStart> {
        self.ended_at = Some(now);
        let (steps, links) = (take(&mut self.steps), take(&mut self.links));
        let start = Self {
            steps,
            links,
            ..self.clone()
        };
        Box::new(EndedStart {
            result,
            reason,
            start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::{origin, trace};

    #[test]
    fn the_durations_kept_of_a_start_are_bounded() {
        let now = Instant::now();
        let traced = |span: u8| Origin {
            trace: Some(trace(span)),
            ..origin("ann")
        };
        let mut start = OwnStart::new(traced(1), now);
        let second = Duration::from_secs(1);
        for end in 1..200 {
            let phase = [Phase::Pulling, Phase::Creating][end as usize % 2];
            start.enter(phase, now + second * end);
            start.join(&traced(u8::try_from(end).unwrap()));
        }
        start.join(&origin("ann"));
        assert_eq!(start.reported(now + second), Some(second));
        assert_eq!(start.reported(now + second * 2), None);
        let ended = start.end("ready", "".into(), now).start;
        assert_eq!(
            (ended.steps.len(), ended.links.len()),
            (STEPS_MAX, LINKS_MAX)
        );
        // The first is the parent itself, and the last has no span.
        assert_eq!((ended.links[0].clone(), ended.joined), (trace(2), 198));
        assert_eq!(ended.steps[1].begin, now + second);
        assert_eq!(ended.steps[1].end, now + second * 2);
    }
}
