//! [`Track`]: how far the life of one Job has been reported, so that each step is reported once.
//!
//! Pure. A Job that is ready and not of this replica's starting has no track: nothing more is to
//! be said of it until something changes. What a step means to callers is decided elsewhere.

use super::observed::{Observed, State};
use super::operation::Purpose;
use crate::app::api_call::StopCause;
use crate::app::lifecycle::{EndedStart, Lifecycle, LifecycleKind, OwnStart};
use crate::app::request::Origin;
use crate::app::timings::{PhaseClock, Timings};
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
    own: Option<Own>,
}

/// What of a Job's failure has been reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reported {
    Nothing,
    ProbableFailure,
    Failure,
}

/// A start that this replica made.
#[derive(Clone, Debug)]
struct Own {
    start: OwnStart,
    clock: PhaseClock,
    /// When it ended.
    ended_at: Option<Instant>,
}

impl Own {
    /// The start is over.
    fn end(&mut self, result: &'static str, reason: Arc<str>, now: Instant) -> Box<EndedStart> {
        self.ended_at = Some(now);
        self.start.end(result, reason)
    }
}

/// What an event says of a start that it stops.
#[derive(Default)]
struct StoppedStart {
    phase_left: Option<(Phase, Duration)>,
    start_ended: Option<Box<EndedStart>>,
}

impl StoppedStart {
    fn put_into(self, event: &mut Lifecycle) {
        event.phase_left = self.phase_left;
        event.start_ended = self.start_ended;
    }
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
            by: None,
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

    /// Our call, begun when `start` says, has created this Job; `is_followed` is whether there is
    /// room to follow its start to the end.
    pub(super) fn created(
        uid: &Uid,
        mut start: OwnStart,
        is_followed: bool,
        events: &mut Events<'_>,
    ) -> Self {
        let (begun, now) = (start.begun, events.now);
        let admitted_after = now.saturating_duration_since(begun);
        start.step(Phase::Admitting, admitted_after, now);
        let kind = LifecycleKind::Created { admitted_after };
        let event = events.push(Some(uid), kind);
        event.by = Some(start.by.clone());
        event.phase_left = Some((Phase::Admitting, admitted_after));
        let mut track = Self::new(uid.clone());
        track.phase = Some(Phase::Creating);
        if is_followed {
            track.own = Some(Own {
                start,
                clock: PhaseClock::new(begun, now),
                ended_at: None,
            });
        } else {
            let event = events.push(Some(uid), LifecycleKind::Unfollowed);
            event.start_ended = Some(start.end("unknown", "too_many".into()));
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
        let is_over = |at: Instant| events.now.saturating_duration_since(at) >= ENDED_KEPT;
        if let Some(known) = track {
            known.own.take_if(|own| own.ended_at.is_some_and(is_over));
        }
        let Some(uid) = observed.uid() else {
            return;
        };
        match track {
            // Its end is about to be reported, with the change of the cache that removed it.
            Some(known) if known.uid != *uid => return,
            None if observed.state == State::Ready => return,
            None if matches!(pending, Some(Purpose::Create { .. })) => return,
            None => *track = Some(Box::new(Self::new(uid.clone()))),
            Some(_) => {}
        }
        let Some(known) = track else {
            return;
        };
        known.advance(observed, pending, sent, events);
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
        observed: &Observed,
        pending: Option<&Purpose>,
        sent: Option<StopCause>,
        events: &mut Events<'_>,
    ) {
        let Some(instance) = &observed.instance else {
            return;
        };
        match (&instance.status, observed.state) {
            (InstanceStatus::Starting(finding), state) => {
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
            (InstanceStatus::Finished(ending), _) => {
                self.is_ready = false;
                if !self.is_finished {
                    self.is_finished = true;
                    let reason = ending.reason;
                    self.end(
                        Phase::Starting,
                        "finished",
                        reason.into(),
                        events,
                        |after| LifecycleKind::Finished {
                            reason,
                            reported_after: after,
                        },
                    );
                }
            }
            (InstanceStatus::Ready { .. }, _) => self.ready(events),
            (InstanceStatus::Stopping { .. }, _) => {
                let is_ours =
                    matches!(pending, Some(Purpose::Delete { uid, .. }) if *uid == self.uid);
                if !self.is_stopping && !is_ours {
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
        let left = self.leave_phase(phase, false, events.now);
        let event = events.push(Some(&self.uid), LifecycleKind::InPhase(phase));
        event.phase_left = left;
    }

    /// The start of ours is in this phase now, or ends in it: which phase that ends, and how long it
    /// lasted.
    fn leave_phase(
        &mut self,
        phase: Phase,
        is_end: bool,
        now: Instant,
    ) -> Option<(Phase, Duration)> {
        let own = self.own.as_mut()?;
        let (left, took) = own.clock.observe(phase, is_end, now)?;
        own.start.step(left, took, now);
        Some((left, took))
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
        let kind = |reported_after| LifecycleKind::Failed {
            finding: finding.clone(),
            is_final,
            reported_after,
        };
        if is_final {
            let reason = Arc::clone(&finding.reason);
            self.end(finding.phase, "failed", reason, events, kind);
        } else {
            let own = self.running();
            let reported_after = own.and_then(|own| own.start.reported(events.now));
            events.push(Some(&self.uid), kind(reported_after));
        }
    }

    /// The start ends without having been ready, which is reported to those who wait for it.
    fn end(
        &mut self,
        phase: Phase,
        result: &'static str,
        reason: Arc<str>,
        events: &mut Events<'_>,
        kind: impl FnOnce(Option<Duration>) -> LifecycleKind,
    ) {
        let now = events.now;
        let left = self.leave_phase(phase, true, now);
        let own = self.running();
        let (after, ended) = own
            .map(|own| (own.start.reported(now), own.end(result, reason, now)))
            .unzip();
        let event = events.push(Some(&self.uid), kind(after.flatten()));
        event.phase_left = left;
        event.start_ended = ended;
    }

    fn ready(&mut self, events: &mut Events<'_>) {
        if self.is_ready {
            return;
        }
        let recovered = self.has_been_ready || self.reported != Reported::Nothing;
        (self.is_ready, self.has_been_ready) = (true, true);
        self.phase = Some(Phase::Readying);
        let now = events.now;
        let left = self.leave_phase(Phase::Readying, true, now);
        let own = self.running();
        let (after, ended) = own
            .map(|own| {
                let after = now.saturating_duration_since(own.start.begun);
                (after, own.end("ready", "".into(), now))
            })
            .unzip();
        let kind = LifecycleKind::Ready { after, recovered };
        let event = events.push(Some(&self.uid), kind);
        event.phase_left = left;
        event.start_ended = ended;
    }

    /// The Job is being deleted, which has not been reported.
    fn stopping(&mut self, cause: Option<StopCause>, events: &mut Events<'_>) {
        self.is_stopping = true;
        self.is_ready = false;
        let stopped = self.stop_start(events.now);
        let by = match &cause {
            Some(StopCause::Requested(by)) => Some(by.clone()),
            _ => None,
        };
        let event = events.push(Some(&self.uid), LifecycleKind::Stopping(cause));
        event.by = by;
        stopped.put_into(event);
    }

    /// A start of ours that is under way ends, since its Job goes.
    fn stop_start(&mut self, now: Instant) -> StoppedStart {
        let Some(own) = self.running() else {
            return StoppedStart::default();
        };
        let phase_left = own.clock.end(now);
        if let Some((phase, took)) = phase_left {
            own.start.step(phase, took, now);
        }
        StoppedStart {
            phase_left,
            start_ended: Some(own.end("stopped", "".into(), now)),
        }
    }

    /// The start of ours, while it is under way.
    fn running(&mut self) -> Option<&mut Own> {
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
        if known.uid != *uid {
            // Its successor is there already.
            let mut before = Self::new(uid.clone());
            before.stopping(Some(cause), events);
        } else if !known.is_stopping {
            known.stopping(Some(cause), events);
        }
    }

    /// A Job was just created: the one before it, of whose deletion nothing was seen, has gone.
    pub(super) fn displace(before: &mut Option<Box<Self>>, events: &mut Events<'_>) {
        if let Some(mut before) = before.take()
            && !before.is_stopping
        {
            before.stopping(None, events);
        }
    }

    /// A call of ours has begun the deletion of this Job, since its pod is on a lost node.
    pub(super) fn stuck(&mut self, events: &mut Events<'_>) {
        if !self.is_stopping {
            self.stopping(Some(StopCause::Stuck), events);
        }
    }

    /// The cache has this Job no longer; `cause` is why, where a call of ours deleted it and that has
    /// not been reported.
    pub(super) fn gone(
        track: &mut Option<Box<Self>>,
        uid: &Uid,
        cause: Option<StopCause>,
        events: &mut Events<'_>,
    ) {
        let mut known = track.take_if(|track| track.uid == *uid);
        if let Some(cause) = cause {
            let known = known.get_or_insert_with(|| Box::new(Self::new(uid.clone())));
            if !known.is_stopping {
                known.stopping(Some(cause), events);
            }
        }
        let stopped = known.map(|mut it| it.stop_start(events.now));
        let event = events.push(Some(uid), LifecycleKind::Gone);
        stopped.unwrap_or_default().put_into(event);
    }

    /// This replica shuts down: a start of ours goes on without being followed.
    pub(super) fn unfollow(&mut self, events: &mut Events<'_>) {
        if let Some(mut own) = self.own.take_if(|own| own.ended_at.is_none()) {
            let event = events.push(Some(&self.uid), LifecycleKind::Unfollowed);
            event.start_ended = Some(own.start.end("unknown", "replica_ended".into()));
        }
    }

    /// Another request waits for this start.
    pub(super) fn join(&mut self, by: &Origin) {
        if let Some(own) = self.running() {
            own.start.join(by);
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
