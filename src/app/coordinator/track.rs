//! [`Track`]: how far the life of one Job has been reported, so that each step is reported once.
//!
//! Pure. A ready Job that another replica started has no track: there is no news until it changes.
//! What a step means to callers is decided elsewhere.

use super::context::{Effect, Step};
use super::resolve::{Observed, State};
use crate::app::api_call::{Action, StopCause};
use crate::app::lifecycle::{Lifecycle, LifecycleKind, OwnStart};
use crate::app::request::Origin;
use crate::app::timings::Timings;
use crate::kube::types::Uid;
use crate::model::status::{Ending, Finding, InstanceStatus, Phase, Prognosis};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the phases of an ended start are kept for the responses that report its end.
pub(super) const ENDED_KEPT: Duration = Duration::from_secs(5);

/// How far the life of one Job has been reported.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    uid: Uid,
    phase: Option<Phase>,
    /// Why it is in this phase.
    reason: Arc<str>,
    /// The end that was reported and stands.
    reported: Reported,
    is_ready: bool,
    /// It was ready, or reported as failed or ended.
    recovers: bool,
    is_stopping: bool,
    /// The start of this replica that created it, as long as that is followed.
    own: Option<OwnStart>,
}

/// What was reported of a Job's end, and has not been taken back since: a start that was reported as failed
/// may go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Reported {
    #[default]
    Nothing,
    ProbableFailure,
    Failure,
    Finished,
}

impl Track {
    fn new(uid: Uid) -> Self {
        Self {
            uid,
            ..Self::default()
        }
    }

    /// Our call has created this Job. Its start is followed to the end if there is capacity.
    pub(super) fn created(
        track: &mut Option<Box<Self>>,
        uid: &Uid,
        mut start: OwnStart,
        step: &mut Step<'_>,
    ) {
        // The previous Job is gone, although its deletion was not seen. This one may have been seen already.
        if let Some(before) = track.as_mut().filter(|it| it.uid != *uid) {
            before.stopping(None, step);
        }
        let kind = LifecycleKind::Created(start.by.clone());
        let mut event = step.event(Some(uid), kind);
        event.phase_left = start.enter(Phase::Creating, event.at);
        step.report(event);
        let track = track.insert(Box::new(Self::new(uid.clone())));
        track.phase = Some(Phase::Creating);
        track.own = Some(start);
        if !step.may_follow {
            track.unfollow("too_many", step);
        }
    }

    /// Reports the changes of a name. `pending` is our call in flight: its result is reported
    /// before its effect in the cache. `sent` is the cause of a deletion by this replica with a
    /// lost response.
    pub(super) fn observe(
        track: &mut Option<Box<Self>>,
        observed: &Observed,
        pending: Option<&Action>,
        sent: Option<StopCause>,
        step: &mut Step<'_>,
    ) {
        if let Some(known) = track {
            let is_over = known.expires_at().is_some_and(|at| at <= step.context.now);
            known.own.take_if(|_| is_over);
        }
        let Some(instance) = &observed.instance else {
            return;
        };
        let is_creating = matches!(pending, Some(Action::CreateJob(_)));
        let is_news = observed.state != State::Ready && !is_creating;
        let uid = instance.uid();
        if track.is_none() && !is_news {
            // The result of another call may say nothing of it.
            if observed.state == State::Ready && !is_creating {
                let (after, recovered) = (None, false);
                let ready = LifecycleKind::Ready { after, recovered };
                let event = step.event(Some(uid), ready);
                step.report(Lifecycle {
                    is_news: false,
                    ..event
                });
            }
            return;
        }
        let known = track.get_or_insert_with(|| Box::new(Self::new(uid.clone())));
        // The end of the other Job is reported with the change of the cache that removed it.
        if known.uid != *uid {
            return;
        }
        known.advance(&instance.status, observed.state, pending, sent, step);
        if known.is_ready && known.own.is_none() {
            *track = None;
        }
    }

    /// Records the Jobs that exist when the replica starts: they are no news.
    pub(super) fn adopt(track: &mut Option<Box<Self>>, observed: &Observed, step: &mut Step<'_>) {
        let before = step.out.len();
        Self::observe(track, observed, None, None, step);
        if let (Some(track), Some(instance)) = (track, &observed.instance)
            && observed.state == State::AwaitingReason
        {
            match &instance.status {
                InstanceStatus::Failed { finding, .. } => track.failed(finding, true, step),
                InstanceStatus::Finished(ending) => track.finished(ending, step),
                _ => {}
            }
        }
        for effect in &mut step.out[before..] {
            if let Effect::Report(event) = effect {
                event.is_news = false;
            }
        }
    }

    fn advance(
        &mut self,
        status: &InstanceStatus,
        state: State,
        pending: Option<&Action>,
        sent: Option<StopCause>,
        step: &mut Step<'_>,
    ) {
        // It is no longer being stopped once etcd was restored.
        match (status, state) {
            (InstanceStatus::Starting(finding), _) => {
                self.is_stopping = false;
                let is_failing = state == State::Failing;
                let is_terminal = finding.prognosis == Prognosis::Terminal;
                if !is_terminal {
                    self.enter(finding, is_failing, step);
                }
                self.is_ready = false;
                if is_failing {
                    self.failed(finding, is_terminal, step);
                }
            }
            (InstanceStatus::Failed { finding, .. }, State::Failed) => {
                self.is_ready = false;
                self.failed(finding, true, step);
            }
            (InstanceStatus::Finished(ending), State::Finished) => {
                self.finished(ending, step);
            }
            (InstanceStatus::Ready { .. }, _) => self.ready(step),
            (InstanceStatus::Stopping { .. }, _) => {
                let is_ours =
                    matches!(pending, Some(Action::DeleteJob { uid, .. }) if *uid == self.uid);
                if !is_ours {
                    self.stopping(sent, step);
                }
            }
            // It has ended; the termination report of its pod may follow.
            (InstanceStatus::Failed { .. } | InstanceStatus::Finished(_), _) => {}
        }
    }

    fn enter(&mut self, finding: &Finding, is_failing: bool, step: &mut Step<'_>) {
        let phase = finding.phase;
        let is_entered = self.phase != Some(phase);
        let resumes = self.is_ready || (self.reported != Reported::Nothing && !is_failing);
        if !is_failing {
            self.reported = Reported::Nothing;
        }
        // Of a Job that was just created no reason has been seen yet.
        let is_same = self.reason.is_empty() || self.reason == finding.reason;
        self.reason = Arc::clone(&finding.reason);
        if !is_entered && !resumes && is_same {
            return;
        }
        self.phase = Some(phase);
        if self.reported != Reported::Nothing {
            // This event is not final.
            self.reported = Reported::ProbableFailure;
        }
        let finding = finding.clone();
        let kind = LifecycleKind::InPhase {
            finding,
            is_failing,
        };
        let mut event = step.event(Some(&self.uid), kind);
        let own = self.own.as_mut().filter(|_| is_entered);
        event.phase_left = own.and_then(|own| own.enter(phase, event.at));
        step.report(event);
    }

    fn failed(&mut self, finding: &Finding, is_final: bool, step: &mut Step<'_>) {
        let reported = if is_final {
            Reported::Failure
        } else {
            Reported::ProbableFailure
        };
        let is_known = match self.reported {
            Reported::Nothing | Reported::Finished => false,
            Reported::ProbableFailure => !is_final,
            Reported::Failure => true,
        };
        if is_known {
            return;
        }
        (self.reported, self.recovers) = (reported, true);
        self.is_stopping = false;
        let kind = LifecycleKind::Failed {
            finding: finding.clone(),
            is_final,
            reported_after: self.reported_after(step.context.now),
        };
        if is_final {
            let reason = Arc::clone(&finding.reason);
            self.end(kind, Some(finding.phase), "failed", reason, step);
        } else {
            step.report(step.event(Some(&self.uid), kind));
        }
    }

    fn finished(&mut self, ending: &Ending, step: &mut Step<'_>) {
        let reason = &ending.reason;
        self.is_ready = false;
        if self.reported == Reported::Finished {
            return;
        }
        (self.reported, self.recovers) = (Reported::Finished, true);
        self.is_stopping = false;
        let reported_after = self.reported_after(step.context.now);
        let kind = LifecycleKind::Finished {
            finding: ending.finding(),
            is_disrupted: ending.is_disrupted(),
            reported_after,
        };
        let phase = Some(Phase::Starting);
        self.end(kind, phase, "finished", Arc::clone(reason), step);
    }

    fn ready(&mut self, step: &mut Step<'_>) {
        self.is_stopping = false;
        if self.is_ready {
            return;
        }
        let recovered = self.recovers;
        (self.is_ready, self.recovers) = (true, true);
        self.reported = Reported::Nothing;
        self.phase = Some(Phase::Readying);
        let now = step.context.now;
        let after = self
            .running()
            .map(|own| now.saturating_duration_since(own.begun));
        let kind = LifecycleKind::Ready { after, recovered };
        self.end(kind, Some(Phase::Readying), "ready", "".into(), step);
    }

    /// Reports once that the Job is being deleted.
    fn stopping(&mut self, cause: Option<StopCause>, step: &mut Step<'_>) {
        if self.is_stopping {
            return;
        }
        self.is_stopping = true;
        self.is_ready = false;
        self.reported = Reported::Nothing;
        let (result, reason) = match cause {
            Some(StopCause::NoPlace(_)) => ("denied", "limit_reached"),
            _ => ("stopped", ""),
        };
        let kind = LifecycleKind::Stopping(cause);
        self.end(kind, None, result, reason.into(), step);
    }

    /// Reports a failure, with the time since the request if it is the first of our own start.
    fn reported_after(&mut self, now: Instant) -> Option<Duration> {
        self.running().and_then(|own| own.reported(now))
    }

    /// Reports this event, and ends our own start with it, if there is one: in the given phase, or
    /// in its current one.
    fn end(
        &mut self,
        kind: LifecycleKind,
        phase: Option<Phase>,
        result: &'static str,
        reason: Arc<str>,
        step: &mut Step<'_>,
    ) {
        let mut event = step.event(Some(&self.uid), kind);
        if let Some(own) = self.running() {
            event.phase_left = own.leave(phase, event.at);
            event.start_ended = Some(own.end(result, reason, event.at));
        }
        step.report(event);
    }

    /// Our own start, until it ends.
    fn running(&mut self) -> Option<&mut OwnStart> {
        self.own.as_mut().filter(|own| own.ended_at.is_none())
    }

    /// Our call has begun the deletion of this Job.
    pub(super) fn deleted(
        track: &mut Option<Box<Self>>,
        uid: &Uid,
        cause: StopCause,
        step: &mut Step<'_>,
    ) {
        let known = track.get_or_insert_with(|| Box::new(Self::new(uid.clone())));
        if known.uid == *uid {
            known.stopping(Some(cause), step);
        } else {
            // Its successor already exists.
            Self::new(uid.clone()).stopping(Some(cause), step);
        }
    }

    /// The cache no longer has this Job; `cause` is set if our call deleted it and that has not
    /// been reported.
    pub(super) fn gone(
        track: &mut Option<Box<Self>>,
        uid: &Uid,
        cause: Option<StopCause>,
        step: &mut Step<'_>,
    ) {
        let known = track.take_if(|track| track.uid == *uid);
        let mut known = known.unwrap_or_else(|| Box::new(Self::new(uid.clone())));
        if cause.is_some() {
            known.stopping(cause, step);
        }
        known.end(LifecycleKind::Gone, None, "stopped", "".into(), step);
    }

    /// Stops following our own start.
    pub(super) fn unfollow(&mut self, reason: &str, step: &mut Step<'_>) {
        if let Some(mut own) = self.own.take_if(|own| own.ended_at.is_none()) {
            let mut event = step.event(Some(&self.uid), LifecycleKind::Unfollowed);
            event.start_ended = Some(own.end("unknown", reason.into(), event.at));
            step.report(event);
        }
    }

    /// Another request waits for this start.
    pub(super) fn join(&mut self, by: &Origin) {
        if let Some(own) = self.running() {
            own.join(by);
        }
    }

    /// The durations of the phases of this Job's start, if it is our own.
    #[must_use]
    pub(super) fn timings(&self, uid: &Uid, now: Instant) -> Option<Timings> {
        let own = self.own.as_ref().filter(|_| self.uid == *uid)?;
        Some(own.clock.timings(now))
    }

    /// Whether its deletion was reported last.
    #[must_use]
    pub(super) const fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    /// Whether it follows our own start.
    #[must_use]
    pub(super) const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// Whether it follows our own start, which goes on.
    #[must_use]
    pub(super) fn is_running(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.ended_at.is_none())
    }

    /// When the phases of an ended start are dropped.
    #[must_use]
    pub(super) fn expires_at(&self) -> Option<Instant> {
        let own = self.own.as_ref()?;
        own.ended_at.map(|at| at + ENDED_KEPT)
    }

    /// Whether a failure that occurs without an input would be reported.
    #[must_use]
    pub(super) const fn awaits_report(&self) -> bool {
        matches!(self.reported, Reported::Nothing | Reported::ProbableFailure)
    }
}
