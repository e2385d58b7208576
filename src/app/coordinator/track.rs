//! [`Track`]: how far the life of one Job has been reported, so that each step is reported once.
//!
//! Pure. A Job that is ready and not of this replica's starting has no track: nothing more is to
//! be said of it until something changes. What a step means to callers is decided elsewhere.

use super::observed::{Observed, State};
use super::operation::Purpose;
use crate::app::api_call::StopCause;
use crate::app::lifecycle::{Lifecycle, LifecycleKind, OwnStart};
use crate::app::request::Origin;
use crate::app::timings::Timings;
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::status::{Finding, InstanceStatus, Phase, Prognosis};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the phases of a start that has ended are kept for the responses that report its end.
pub(super) const ENDED_KEPT: Duration = Duration::from_secs(5);

/// How far the life of one Job has been reported.
#[derive(Clone, Debug)]
pub(super) struct Track {
    uid: Uid,
    phase: Option<Phase>,
    /// The failure reports so far.
    reported: Reported,
    is_ready: bool,
    has_been_ready: bool,
    is_finished: bool,
    is_stopping: bool,
    /// The start of this replica that made it, for as long as that is followed.
    own: Option<OwnStart>,
}

/// What of a Job's failure has been reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reported {
    Nothing,
    ProbableFailure,
    Failure,
}

/// Where events go: the name they are about, the time, and the list.
#[derive(Debug)]
pub(super) struct Events<'a> {
    /// Which instance.
    pub(super) key: &'a InstanceKey,
    /// When this replica saw it.
    pub(super) now: Instant,
    /// The events so far.
    pub(super) out: &'a mut Vec<Lifecycle>,
}

impl Events<'_> {
    /// An event without a start of ours.
    pub(super) fn push(&mut self, job_uid: Option<&Uid>, kind: LifecycleKind) -> &mut Lifecycle {
        let at = self.out.len();
        self.out.push(Lifecycle {
            key: self.key.clone(),
            job_uid: job_uid.cloned(),
            at: self.now,
            kind,
            phase_left: None,
            start_ended: None,
        });
        &mut self.out[at]
    }
}

impl Track {
    fn new(uid: Uid) -> Self {
        Self {
            uid,
            phase: None,
            reported: Reported::Nothing,
            is_ready: false,
            has_been_ready: false,
            is_finished: false,
            is_stopping: false,
            own: None,
        }
    }

    /// Our call has created this Job; `is_followed` is whether there is room to follow its start to
    /// the end.
    pub(super) fn created(
        uid: &Uid,
        mut start: OwnStart,
        is_followed: bool,
        events: &mut Events<'_>,
    ) -> Self {
        let kind = LifecycleKind::Created(start.by.clone());
        let event = events.push(Some(uid), kind);
        event.phase_left = start.enter(Phase::Creating, event.at);
        let mut track = Self::new(uid.clone());
        track.phase = Some(Phase::Creating);
        track.own = Some(start);
        if !is_followed {
            track.unfollow("too_many", events);
        }
        track
    }

    /// Reports what is new about a name. `pending` is the call of ours that is under way: its result
    /// is reported before what the cache shows of it. `sent` is why its Job goes, where a deletion of
    /// ours was sent and its response was lost.
    pub(super) fn observe(
        track: &mut Option<Box<Self>>,
        observed: &Observed,
        pending: Option<&Purpose>,
        sent: Option<StopCause>,
        events: &mut Events<'_>,
    ) {
        if let Some(known) = track {
            let is_over = known.expires_at().is_some_and(|at| at <= events.now);
            known.own.take_if(|_| is_over);
        }
        let Some(instance) = &observed.instance else {
            return;
        };
        let is_news =
            observed.state != State::Ready && !matches!(pending, Some(Purpose::Create { .. }));
        if track.is_none() && !is_news {
            return;
        }
        let uid = instance.uid();
        let known = track.get_or_insert_with(|| Box::new(Self::new(uid.clone())));
        // The end of another is about to be reported, with the change of the cache that removed it.
        if known.uid != *uid {
            return;
        }
        known.advance(&instance.status, observed.state, pending, sent, events);
        if known.is_ready && known.own.is_none() {
            *track = None;
        }
    }

    /// Takes note of what is there when the replica starts, which is no news.
    pub(super) fn adopt(
        track: &mut Option<Box<Self>>,
        observed: &Observed,
        key: &InstanceKey,
        now: Instant,
    ) {
        let mut out = Vec::new();
        let out = &mut out;
        Self::observe(track, observed, None, None, &mut Events { key, now, out });
        if let Some(track) = track
            && observed.state == State::AwaitingReason
        {
            track.reported = Reported::Failure;
        }
    }

    fn advance(
        &mut self,
        status: &InstanceStatus,
        state: State,
        pending: Option<&Purpose>,
        sent: Option<StopCause>,
        events: &mut Events<'_>,
    ) {
        match (status, state) {
            (InstanceStatus::Starting(finding), _) => {
                self.is_ready = false;
                let is_terminal = finding.prognosis == Prognosis::Terminal;
                if !is_terminal {
                    self.enter(finding.phase, events);
                }
                if state == State::Failing {
                    self.failed(finding, is_terminal, events);
                }
            }
            (InstanceStatus::Failed { finding, .. }, State::Failed) => {
                self.is_ready = false;
                self.failed(finding, true, events);
            }
            (InstanceStatus::Finished(ending), _) => self.finished(ending.reason, events),
            (InstanceStatus::Ready { .. }, _) => self.ready(events),
            (InstanceStatus::Stopping { .. }, _) => {
                let is_ours =
                    matches!(pending, Some(Purpose::Delete { uid, .. }) if *uid == self.uid);
                if !is_ours {
                    self.stopping(sent, events);
                }
            }
            // It has failed, and its pod may say why in a moment.
            (InstanceStatus::Failed { .. }, _) => {}
        }
    }

    fn enter(&mut self, phase: Phase, events: &mut Events<'_>) {
        if self.phase == Some(phase) {
            return;
        }
        self.phase = Some(phase);
        let event = events.push(Some(&self.uid), LifecycleKind::InPhase(phase));
        event.phase_left = self.own.as_mut().and_then(|own| own.enter(phase, event.at));
    }

    fn failed(&mut self, finding: &Finding, is_final: bool, events: &mut Events<'_>) {
        let reported = if is_final {
            Reported::Failure
        } else {
            Reported::ProbableFailure
        };
        if self.reported >= reported {
            return;
        }
        self.reported = reported;
        let kind = LifecycleKind::Failed {
            finding: finding.clone(),
            is_final,
            reported_after: self.reported_after(events.now),
        };
        let event = events.push(Some(&self.uid), kind);
        if is_final {
            let reason = Arc::clone(&finding.reason);
            self.end(Some(finding.phase), "failed", reason, event);
        }
    }

    fn finished(&mut self, reason: &'static str, events: &mut Events<'_>) {
        self.is_ready = false;
        if self.is_finished {
            return;
        }
        self.is_finished = true;
        let reported_after = self.reported_after(events.now);
        let kind = LifecycleKind::Finished {
            reason,
            reported_after,
        };
        let event = events.push(Some(&self.uid), kind);
        self.end(Some(Phase::Starting), "finished", reason.into(), event);
    }

    fn ready(&mut self, events: &mut Events<'_>) {
        if self.is_ready {
            return;
        }
        let recovered = self.has_been_ready || self.reported != Reported::Nothing;
        (self.is_ready, self.has_been_ready) = (true, true);
        self.phase = Some(Phase::Readying);
        let now = events.now;
        let after = self
            .running()
            .map(|own| now.saturating_duration_since(own.begun));
        let kind = LifecycleKind::Ready { after, recovered };
        let event = events.push(Some(&self.uid), kind);
        self.end(Some(Phase::Readying), "ready", "".into(), event);
    }

    /// The Job is being deleted, which is reported once.
    fn stopping(&mut self, cause: Option<StopCause>, events: &mut Events<'_>) {
        if self.is_stopping {
            return;
        }
        self.is_stopping = true;
        self.is_ready = false;
        let event = events.push(Some(&self.uid), LifecycleKind::Stopping(cause));
        self.end(None, "stopped", "".into(), event);
    }

    /// A failure is reported: how long after its request, if it is the first of a start of ours.
    fn reported_after(&mut self, now: Instant) -> Option<Duration> {
        self.running().and_then(|own| own.reported(now))
    }

    /// With this event ends the start of ours, if one is under way: in that phase, or in the one that
    /// it is in.
    fn end(
        &mut self,
        phase: Option<Phase>,
        result: &'static str,
        reason: Arc<str>,
        event: &mut Lifecycle,
    ) {
        if let Some(own) = self.running() {
            event.phase_left = own.leave(phase, event.at);
            event.start_ended = Some(own.end(result, reason, event.at));
        }
    }

    /// The start of ours, while it is under way.
    fn running(&mut self) -> Option<&mut OwnStart> {
        self.own.as_mut().filter(|own| own.ended_at.is_none())
    }

    /// A call of ours has begun the deletion of this Job.
    pub(super) fn deleted(
        track: &mut Option<Box<Self>>,
        uid: &Uid,
        cause: StopCause,
        events: &mut Events<'_>,
    ) {
        let known = track.get_or_insert_with(|| Box::new(Self::new(uid.clone())));
        if known.uid == *uid {
            known.stopping(Some(cause), events);
        } else {
            // Its successor is there already.
            Self::new(uid.clone()).stopping(Some(cause), events);
        }
    }

    /// A Job was just created: the one before it, of whose deletion nothing was seen, has gone.
    pub(super) fn displace(before: &mut Option<Box<Self>>, events: &mut Events<'_>) {
        if let Some(mut before) = before.take() {
            before.stopping(None, events);
        }
    }

    /// A call of ours has begun the deletion of this Job, since its pod is on a lost node.
    pub(super) fn stuck(&mut self, events: &mut Events<'_>) {
        self.stopping(Some(StopCause::Stuck), events);
    }

    /// The cache has this Job no longer; `cause` is why, where a call of ours deleted it and that has
    /// not been reported.
    pub(super) fn gone(
        track: &mut Option<Box<Self>>,
        uid: &Uid,
        cause: Option<StopCause>,
        events: &mut Events<'_>,
    ) {
        let known = track.take_if(|track| track.uid == *uid);
        let mut known = known.unwrap_or_else(|| Box::new(Self::new(uid.clone())));
        if cause.is_some() {
            known.stopping(cause, events);
        }
        let event = events.push(Some(uid), LifecycleKind::Gone);
        known.end(None, "stopped", "".into(), event);
    }

    /// A start of ours goes on without being followed.
    pub(super) fn unfollow(&mut self, reason: &str, events: &mut Events<'_>) {
        if let Some(mut own) = self.own.take_if(|own| own.ended_at.is_none()) {
            let event = events.push(Some(&self.uid), LifecycleKind::Unfollowed);
            event.start_ended = Some(own.end("unknown", reason.into(), event.at));
        }
    }

    /// Another request waits for this start.
    pub(super) fn join(&mut self, by: &Origin) {
        if let Some(own) = self.running() {
            own.join(by);
        }
    }

    /// Where the time of this Job's start went, if it is a start of ours.
    #[must_use]
    pub(super) fn timings(&self, uid: &Uid, now: Instant) -> Option<Timings> {
        let own = self.own.as_ref().filter(|_| self.uid == *uid)?;
        Some(own.clock.timings(now))
    }

    /// Whether it follows a start of ours.
    #[must_use]
    pub(super) const fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// When the phases of a start that has ended are to be forgotten.
    #[must_use]
    pub(super) fn expires_at(&self) -> Option<Instant> {
        let own = self.own.as_ref()?;
        own.ended_at.map(|at| at + ENDED_KEPT)
    }

    /// Whether a failure that comes with time alone would be reported.
    #[must_use]
    pub(super) fn awaits_report(&self) -> bool {
        self.reported < Reported::Failure
    }
}
