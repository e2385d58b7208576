//! [`Operation`]: the waiters of one name, and the state of its call to Kubernetes.
//!
//! Plain data and small queries. A [`Waiter`] is one request that waits: what it wants, and its
//! wait state. [`super::resolve`] decides what each waiter gets, [`super::calls`] the next call,
//! [`super::outcome`] what follows from its result.

use super::confirm::Trust;
use super::retry::{CallKind, Retry};
use crate::app::admissions::Refusal;
use crate::app::api_call::{Action, ApiCall, StopCause};
use crate::app::cache::Instance;
use crate::app::error::Error;
use crate::app::expectation::{Expectation, Holds};
use crate::app::lifecycle::OwnStart;
use crate::app::request::{Intent, Origin, Replacement};
use crate::app::request_handle::RequestHandle;
use crate::budget::{Held, Purpose};
use crate::kube::types::{ResourceVersion, Uid};
use crate::model::labels::MetaChange;
use crate::model::names::InstanceKey;
use crate::model::status::Finding;
use crate::model::template::Variables;
use std::sync::Arc;
use std::time::Instant;

/// The operation of one name. At most one call is in flight, so that results cannot overtake each
/// other.
#[derive(Clone, Debug, Default)]
pub(super) struct Operation {
    /// The waiting requests, in the order of their arrival.
    pub(super) waiters: Vec<Waiter>,
    /// The call.
    pub(super) call: CallState,
    /// How many consecutive results of Kubernetes contradicted the cache.
    pub(super) disagreements: u32,
    /// What waiters for a Job get when it is gone: of the last observed Job and, during a
    /// replacement, of the one before.
    pub(super) last: Vec<Last>,
    /// Pods that outlive their Job.
    pub(super) orphans: Orphans,
    /// How many changes of labels one call may merge, after Kubernetes has rejected a merged call;
    /// `None` if it has not.
    pub(super) merged_max: Option<usize>,
    /// A version of the pod in the cache of which Kubernetes has said that there is a newer one.
    pub(super) outdated: Option<ResourceVersion>,
}

/// What is known of the pods of a name that outlive their Job, by their UIDs.
///
/// The watch of pods may be ahead of that of Jobs. So only a read that finds no Job, and begins after
/// they were seen, shows that their Job is gone.
#[derive(Clone, Debug, Default)]
pub(super) struct Orphans {
    /// Those that were seen when the last read began.
    pub(super) before_read: Vec<Uid>,
    /// Those whose Job is gone.
    pub(super) known: Vec<Uid>,
    /// Those whose deletion Kubernetes has accepted.
    pub(super) deleted: Vec<Uid>,
}

/// What waiters for a Job get when it is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Last {
    /// Which Job.
    pub(super) uid: Uid,
    /// The failure that was to be reported.
    pub(super) report: Option<Finding>,
    /// Whether it has been reported that the cache has lost it, with all that was known of its end. The cache
    /// itself is ahead of that.
    pub(super) is_gone: bool,
    /// Whether it was suspended: it exceeded a cap.
    pub(super) was_suspended: bool,
    /// Whether it waited for its admission by us, and no stop through this replica has ended it.
    pub(super) was_undecided: bool,
    /// Why this replica deletes it before it runs, if it does.
    pub(super) refusal: Option<Refusal>,
    /// Whether others ended it, so that it is replaced.
    pub(super) was_disrupted: bool,
    /// Whether this replica deletes it to start another in its place.
    pub(super) is_replaced: bool,
    /// The earliest time at which its deletion can have begun, once that is known.
    pub(super) deleted: Option<Instant>,
}

/// A request that waits for one name.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    /// Where its response goes; `None` if no caller waits for one: it hung up, or the coordinator
    /// itself made the request.
    pub(super) handle: Option<RequestHandle>,
    /// The sender; `None` for a request of the coordinator itself.
    pub(super) by: Option<Origin>,
    /// What it holds; `None` for a request of the coordinator itself.
    pub(super) held: Option<Arc<Held>>,
    /// When it came.
    pub(super) since: Instant,
    /// The Job that one of our calls has met since then: its deletion is later than the request.
    pub(super) confirmed: Option<Uid>,
    /// The latest time of its response.
    pub(super) deadline: Instant,
    /// What it takes from the cache.
    pub(super) trust: Trust,
    /// What it expects of the instance that is there.
    pub(super) expectation: Expectation,
    /// The number of the step in which the last read for it ended: then the cache is as fresh as can be.
    pub(super) read_at: Option<u64>,
    /// Whether its change may have been made by a call whose response was lost.
    pub(super) may_be_done: bool,
    /// Whether it waits for a place under a cap, instead of being refused.
    pub(super) waits_for_place: bool,
    /// Whether its caller was answered that it is queued: then it goes on for a while, so that the caller can ask
    /// again.
    pub(super) is_kept: bool,
    /// What it wants.
    pub(super) want: Want,
    /// Its wait state.
    pub(super) state: WaitState,
    /// Its number among all waiters of this replica, in the order in which they came.
    pub(super) number: u64,
}

/// What a request wants.
#[derive(Clone, Debug)]
pub enum Want {
    /// The instance.
    Instance(Intent),
    /// Its deletion to be accepted and, if `until` is given, the Job to be gone by then.
    Stop {
        /// Until when to wait for the Job to be gone.
        until: Option<Instant>,
    },
    /// Its deletion to be accepted, and then a start in its place; where there is none, a start.
    Replace {
        /// Until when to wait for the new one.
        until: Instant,
        /// The new one.
        new: Box<Replacement>,
    },
    /// This Job to be gone: its deletion was accepted.
    Gone(Uid),
    /// Meta labels to be changed.
    Label(Arc<MetaChange>),
}

impl Want {
    /// The values for the template, if it may start the instance.
    #[must_use]
    pub const fn variables(&self) -> Option<&Arc<Variables>> {
        match self {
            Self::Instance(Intent::Start(variables) | Intent::StartOrStop(variables)) => {
                Some(variables)
            }
            Self::Instance(Intent::Replace(new)) => Some(&new.variables),
            Self::Instance(Intent::Find | Intent::Report)
            | Self::Stop { .. }
            | Self::Replace { .. }
            | Self::Gone(_)
            | Self::Label(_) => None,
        }
    }

    /// What its request holds its place for.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        if self.is_for_instance() || matches!(self, Self::Replace { .. }) {
            Purpose::Start
        } else {
            Purpose::Write
        }
    }

    /// Whether it is for the instance itself.
    #[must_use]
    pub const fn is_for_instance(&self) -> bool {
        matches!(self, Self::Instance(_))
    }

    /// Whether it changes an existing instance: only a 404 of Kubernetes counts as "not found".
    #[must_use]
    pub const fn is_change(&self) -> bool {
        self.is_stop() || matches!(self, Self::Label(_))
    }

    /// Whether it is for the deletion of the instance, whatever follows.
    #[must_use]
    pub const fn is_stop(&self) -> bool {
        matches!(self, Self::Stop { .. } | Self::Replace { .. })
    }
}

/// What a waiter waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WaitState {
    /// It has just arrived.
    New,
    /// For an instance to be created: there was none.
    Next,
    /// For this Job to become ready.
    Ready(Uid),
    /// For that time, to get the failure report of this Job that was known at its arrival.
    Held(Uid, Instant),
    /// For this ended Job to be gone, and for a new one.
    Replacement(Uid),
    /// Until then, for the instance to have a pod that can be labelled.
    Pod(Instant),
    /// For the deletion of this Job to be accepted: it was sent, and may have been carried out.
    Sent(Uid),
}

/// Whether a change may be made, by its precondition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may: what the call sends along makes Kubernetes refuse it if the cache is old.
    Go,
    /// Only Kubernetes knows: the Job and its pods are to be read.
    MustRead,
    /// It may not.
    Refused,
}

impl Waiter {
    /// Whether it may change this instance. `step`: the number of the present step.
    #[must_use]
    pub(super) fn standing(&self, instance: Option<&Instance>, step: u64) -> Standing {
        let pod = instance.and_then(|it| it.pod.as_deref());
        let holds = self.expectation.holds(instance.map(|it| &*it.job), pod);
        let is_fresh = self.read_at == Some(step);
        // The state of one that is being stopped is another, though labels and address are the same.
        let is_stopping = instance.is_some_and(|it| it.job.metadata.is_deleting());
        match (holds, &self.want) {
            (Holds::ForState, Want::Label(_)) if is_stopping && is_fresh => Standing::Refused,
            (Holds::ForState, Want::Label(_)) if is_stopping => Standing::MustRead,
            // A deletion has the UID as precondition; a change of labels the UID and the version of the pod.
            (Holds::ForJob, _) | (Holds::ForState, Want::Label(_)) => Standing::Go,
            (Holds::ForState, _) if is_fresh => Standing::Go,
            (Holds::No, _) if is_fresh => Standing::Refused,
            (Holds::ForState | Holds::No, _) => Standing::MustRead,
        }
    }

    /// What it gets where its precondition does not hold.
    #[must_use]
    pub(super) fn refusal(&self, key: &InstanceKey) -> Error {
        if self.may_be_done {
            // Perhaps since its own change was made.
            Error::UNAVAILABLE
        } else {
            Error::PreconditionFailed(key.clone())
        }
    }

    /// Whether it waits for a place under a cap, instead of being refused: also if an instance was stopped for it.
    #[must_use]
    pub(super) const fn is_patient(&self) -> bool {
        self.waits_for_place || self.is_pending()
    }

    /// Whether it waits for the result of our own call.
    #[must_use]
    pub(super) const fn needs_call(&self) -> bool {
        let state = matches!(
            self.state,
            WaitState::New | WaitState::Next | WaitState::Replacement(_)
        );
        self.want.is_for_instance() && state
    }

    /// Whether it is a stop that the deletion of this Job was for, which began in that step. Those with a
    /// precondition that may not hold had to wait.
    #[must_use]
    pub(super) fn is_stopped_by(&self, uid: &Uid, step: u64) -> bool {
        let is_sent = matches!(&self.state, WaitState::Sent(sent) if sent == uid);
        let was_meant = is_sent || !self.expectation.is_precondition();
        self.want.is_stop() && self.number <= step && was_meant
    }

    /// Whether the Job is to be read for it.
    #[must_use]
    pub(super) const fn is_unread(&self) -> bool {
        matches!(self.trust, Trust::AfterRead(_))
    }

    /// Whether it needs a call of this kind.
    #[must_use]
    pub(super) const fn needs(&self, kind: CallKind) -> bool {
        let is_stop = self.want.is_stop();
        let is_label = matches!(self.want, Want::Label(_));
        match kind {
            CallKind::Create | CallKind::DeletePod => self.needs_call(),
            CallKind::Read => self.needs_call() || is_stop || is_label,
            CallKind::Delete => self.needs_call() || is_stop,
            CallKind::Label => is_label,
            CallKind::ForceDelete
            | CallKind::StopIdle
            | CallKind::Admit
            | CallKind::Refuse
            | CallKind::Place => false,
        }
    }
}

/// The state of the call to Kubernetes.
#[derive(Clone, Debug, Default)]
pub(super) enum CallState {
    /// None is in flight, and none has failed.
    #[default]
    Idle,
    /// One is in flight.
    Calling(Box<Calling>),
    /// The last one failed, and is retried later.
    Retrying(Retry),
    /// Kubernetes contradicted the cache: the Job is read next.
    MustRead,
}

/// A call in flight.
#[derive(Clone, Debug)]
pub(super) struct Calling {
    /// The call.
    pub(super) call: Arc<ApiCall>,
    /// The followed start, if it creates a Job.
    pub(super) start: Option<Box<OwnStart>>,
    /// Whether the Job that it deletes has been seen gone: that is reported with its result.
    pub(super) has_lost: bool,
    /// When it was passed to the executor.
    pub(super) since: Instant,
    /// The number of the step in which it began. It is for waiters with numbers up to this: a later
    /// one may mean another Job.
    pub(super) step: u64,
    /// The failure that it follows, if it does.
    pub(super) after: Option<Retry>,
}

impl Calling {
    /// The kind of the call.
    #[must_use]
    pub(super) fn kind(&self) -> CallKind {
        match &self.call.action {
            Action::CreateJob(_) => CallKind::Create,
            Action::ReadJob { .. } => CallKind::Read,
            Action::AdmitJob { .. } => CallKind::Admit,
            Action::PlaceJob { .. } => CallKind::Place,
            Action::DeleteJob { cause, .. } => match cause {
                StopCause::Stuck => CallKind::ForceDelete,
                StopCause::Idle | StopCause::Outdated(_) => CallKind::StopIdle,
                StopCause::NoPlace(_) => CallKind::Refuse,
                _ => CallKind::Delete,
            },
            Action::ForceDeletePod { .. } => CallKind::ForceDelete,
            Action::DeletePod { .. } => CallKind::DeletePod,
            Action::LabelPod { .. } => CallKind::Label,
        }
    }
}

impl Operation {
    /// The call under way.
    #[must_use]
    pub(super) fn calling(&self) -> Option<&Calling> {
        match &self.call {
            CallState::Calling(calling) => Some(calling),
            CallState::Idle | CallState::Retrying(_) | CallState::MustRead => None,
        }
    }

    /// Those of these waiters that the Job was to be read for take that much from the cache now.
    pub(super) fn trust(&mut self, trust: Trust, these: impl Fn(&Waiter) -> bool) {
        for waiter in self.waiters.iter_mut().filter(|waiter| these(waiter)) {
            if let Trust::AfterRead(deadline) = waiter.trust {
                (waiter.trust, waiter.deadline) = (trust, deadline);
            }
        }
    }

    /// Bytes by which the call in flight lengthens meta labels.
    #[must_use]
    pub(super) fn label_growth(&self) -> usize {
        match self.calling().map(|calling| &calling.call.action) {
            Some(Action::LabelPod { growth, .. }) => *growth,
            _ => 0,
        }
    }

    /// Whether a call of this kind is under way.
    #[must_use]
    pub(super) fn is_calling(&self, kind: CallKind) -> bool {
        self.calling().is_some_and(|calling| calling.kind() == kind)
    }

    /// The failure that a retry follows, waiting or in flight.
    #[must_use]
    pub(super) fn retry(&self) -> Option<&Retry> {
        match &self.call {
            CallState::Retrying(retry) => Some(retry),
            CallState::Calling(calling) => calling.after.as_ref(),
            CallState::Idle | CallState::MustRead => None,
        }
    }

    /// Until when no call is made, since the last one failed.
    #[must_use]
    pub(super) fn pauses_until(&self) -> Option<Instant> {
        match &self.call {
            // The other pauses are not for callers.
            CallState::Retrying(retry) if retry.kind != CallKind::ForceDelete => Some(retry.at),
            CallState::Retrying(_)
            | CallState::Idle
            | CallState::Calling(_)
            | CallState::MustRead => None,
        }
    }

    /// Whether the Job has to be read before anything else.
    #[must_use]
    pub(super) fn must_read(&self) -> bool {
        match &self.call {
            CallState::MustRead => true,
            CallState::Retrying(retry) => retry.kind == CallKind::Read,
            CallState::Idle | CallState::Calling(_) => false,
        }
    }

    /// Whether a start is in progress or about to begin, so that a waiter that starts nothing can
    /// wait for it. A Job that was just read, or will be read next, may be an instance, too.
    #[must_use]
    pub(super) fn is_start_pending(&self) -> bool {
        let wanted = |waiter: &Waiter| {
            let starts = waiter.want.variables().is_some() && waiter.needs_call();
            starts || matches!(waiter.want, Want::Replace { .. })
        };
        self.is_job_unknown() || self.waiters.iter().any(wanted)
    }

    /// Whether a call in flight, or due next, decides which Job there is: the cache may show another.
    #[must_use]
    pub(super) fn is_job_unknown(&self) -> bool {
        self.must_read() || self.is_calling(CallKind::Create) || self.is_calling(CallKind::Read)
    }

    /// Whether the call in flight is for this waiter. Its result decides whether the change was
    /// made, so the waiter waits for it beyond its deadline.
    #[must_use]
    pub(super) fn is_made_for(&self, waiter: &Waiter) -> bool {
        let Some(calling) = self.calling() else {
            return false;
        };
        let had_come = waiter.number <= calling.step;
        match (&waiter.want, &calling.call.action) {
            (
                Want::Stop { .. } | Want::Replace { .. },
                Action::DeleteJob { .. } | Action::ReadJob { .. },
            )
            | (Want::Label(_), Action::ReadJob { .. }) => had_come,
            (Want::Label(_), Action::LabelPod { waiters, .. }) => has(waiters, waiter),
            _ => false,
        }
    }

    /// The waiters that may start the instance; first the one whose values count, if it takes the place of another.
    pub(super) fn starts(&self) -> impl Iterator<Item = (&Waiter, &Arc<Variables>)> {
        let waiters = self.replacing().into_iter().chain(&self.waiters);
        waiters.filter_map(|waiter| Some((waiter, waiter.want.variables()?)))
    }

    /// The waiters for a stop that was not accepted yet.
    pub(super) fn stops(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().filter(|it| it.want.is_stop())
    }

    /// The waiters for a change of labels, and the changes.
    pub(super) fn labels(&self) -> impl Iterator<Item = (&Waiter, &Arc<MetaChange>)> {
        self.waiters.iter().filter_map(|waiter| match &waiter.want {
            Want::Label(change) => Some((waiter, change)),
            _ => None,
        })
    }

    /// The cause of this Job's deletion, if it was sent for a waiter and may have been carried out.
    #[must_use]
    pub(super) fn sent_deletion(&self, uid: &Uid) -> Option<StopCause> {
        let state = WaitState::Sent(uid.clone());
        let mut stops = self.stops().filter(|waiter| waiter.state == state);
        stops.find_map(|waiter| waiter.by.clone().map(StopCause::Requested))
    }

    /// This Job is deleted before it runs for that reason; or it is not, after all.
    pub(super) fn set_refusal(&mut self, uid: &Uid, refusal: Option<Refusal>) {
        let mut last = self.last.iter_mut();
        if let Some(last) = last.find(|last| last.uid == *uid) {
            last.refusal = refusal;
        } else if refusal.is_some() {
            let last = Last {
                uid: uid.clone(),
                refusal,
                ..Last::default()
            };
            self.last.insert(0, last);
        }
    }

    /// The cache has lost this Job, and its waiters get its last report.
    pub(super) fn lose(&mut self, uid: &Uid) {
        let mut last = self.last.iter_mut();
        if let Some(last) = last.find(|last| last.uid == *uid) {
            last.is_gone = true;
        }
    }

    /// Keeps the report of the last Job, and that of the one before for waiters until its end is reported.
    pub(super) fn forget_last(&mut self) {
        let is_waited_for = |last: &Last| {
            let mut waiters = self.waiters.iter();
            !last.is_gone
                && waiters.any(|waiter| match &waiter.state {
                    WaitState::Ready(uid) | WaitState::Held(uid, _) => *uid == last.uid,
                    _ => false,
                })
        };
        let keeps_two = self.last.get(1).is_some_and(is_waited_for);
        self.last.truncate(if keeps_two { 2 } else { 1 });
    }

    /// Whether a waiter starts the instance if there is none.
    #[must_use]
    pub(super) fn may_start(&self) -> bool {
        self.starts().next().is_some()
    }

    /// Whether the cache has just lost a Job, so that its end is yet to be reported.
    #[must_use]
    pub(super) fn is_end_unknown(&self) -> bool {
        self.last.first().is_some_and(|last| !last.is_gone)
    }

    /// Whether the deletion of a Job other than this one was sent, and may have been carried out.
    #[must_use]
    pub(super) fn has_sent_another(&self, uid: &Uid) -> bool {
        self.stops()
            .any(|waiter| matches!(&waiter.state, WaitState::Sent(sent) if sent != uid))
    }

    /// Deletions that stops have sent no longer count, except of the current Job.
    pub(super) fn forget_deletions_sent(&mut self, there: Option<&Uid>) {
        for waiter in &mut self.waiters {
            if matches!(&waiter.state, WaitState::Sent(sent) if Some(sent) != there) {
                waiter.state = WaitState::New;
            }
        }
        self.waiters.retain(|waiter| !waiter.is_over());
    }

    /// The deletion of this Job has begun: these stops wait for its end from now on, if they are
    /// to. Nothing is left to do for an abandoned one.
    pub(super) fn wait_for_end(&mut self, uid: &Uid, until_number: u64) {
        let waiters = self.waiters.iter_mut();
        let waiters = waiters.filter(|it| it.is_stopped_by(uid, until_number));
        for waiter in waiters.filter(|it| it.handle.is_some()) {
            if let Want::Stop { until: Some(until) } = waiter.want {
                waiter.want = Want::Gone(uid.clone());
                waiter.deadline = until;
            }
        }
    }

    /// Whether a waiter waits for the replacement of this Job.
    #[must_use]
    pub(super) fn replaces(&self, uid: &Uid) -> bool {
        let state = WaitState::Replacement(uid.clone());
        self.waiters.iter().any(|waiter| waiter.state == state)
    }

    /// The coordinator's own change of labels: those of the pod before, which wait to be passed on.
    #[must_use]
    pub(super) fn own_label(&self) -> Option<&Waiter> {
        let mut labels = self.labels();
        let own = labels.find(|(waiter, _)| waiter.by.is_none());
        own.map(|(waiter, _)| waiter)
    }

    /// Kubernetes has rejected a call that merged so many changes. Smaller calls find out which of
    /// them it was: the number is halved until then, and doubled with each call that succeeds.
    pub(super) fn merge_less(&mut self, merged: usize) {
        self.merged_max = Some((merged / 2).max(1));
    }

    /// Kubernetes has accepted a merged call.
    pub(super) fn merge_more(&mut self) {
        self.merged_max = self.merged_max.map(|max| max.saturating_mul(2));
    }
}

/// Whether the number of this waiter is among these, which ascend.
#[must_use]
pub(super) fn has(numbers: &[u64], waiter: &Waiter) -> bool {
    numbers.binary_search(&waiter.number).is_ok()
}
