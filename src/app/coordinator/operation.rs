//! [`Operation`]: the waiters of one name, and the state of its call to Kubernetes.
//!
//! Plain data and small questions about it. A [`Waiter`] is one request that waits: what it wants,
//! and what it waits for at the moment. Which waiter gets what is decided in [`super::resolve`],
//! which call comes next in [`super::calls`], what follows from a failed one in [`super::retry`].

use crate::app::api_call::StopCause;
use crate::app::error::Error;
use crate::app::lifecycle::OwnStart;
use crate::app::request::{Intent, Origin, RequestHandle};
use crate::kube::types::Uid;
use crate::model::labels::MetaChange;
use crate::model::status::Finding;
use crate::model::template::Variables;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pause between two attempts to get rid of a pod on a lost node.
pub(super) const FORCE_PAUSE: Duration = Duration::from_secs(5);

/// What is going on for one name. At most one call is under way, so that results cannot overtake
/// each other.
#[derive(Clone, Debug, Default)]
pub(super) struct Operation {
    /// The requests that wait, in the order in which they came.
    pub(super) waiters: Vec<Waiter>,
    /// The call.
    pub(super) call: CallState,
    /// How often in a row Kubernetes had something else than the cache showed.
    pub(super) disagreements: u32,
    /// What those who wait for a Job get when it goes: of the last Job observed, and, while it is
    /// replaced, of the one before.
    pub(super) last: Vec<Last>,
}

/// What those who wait for a Job get when it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Last {
    /// Which Job.
    pub(super) uid: Uid,
    /// The failure that was to be reported.
    pub(super) report: Option<Finding>,
    /// Whether it was suspended: it exceeded a cap.
    pub(super) was_suspended: bool,
}

/// A request that waits for one name.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    /// Where its response goes; `None` where no caller waits for one: it hung up, or the coordinator
    /// itself made the request.
    pub(super) handle: Option<RequestHandle>,
    /// Who sent it; `None` for a request of the coordinator itself.
    pub(super) by: Option<Origin>,
    /// When it is answered at the latest.
    pub(super) deadline: Instant,
    /// What it wants.
    pub(super) want: Want,
    /// What it waits for at the moment.
    pub(super) state: WaitState,
    /// Its number among all waiters of this replica, in the order in which they came.
    pub(super) number: u64,
}

/// What a request wants.
#[derive(Clone, Debug)]
pub enum Want {
    /// The instance.
    Instance(Intent),
    /// Its deletion to be accepted and, where `until` is given, the Job to be gone by then.
    Stop {
        /// Until when to wait for the Job to be gone.
        until: Option<Instant>,
    },
    /// This Job to be gone: its deletion was accepted.
    Gone(Uid),
    /// Meta labels to be changed.
    Label(MetaChange),
}

impl Want {
    /// The values for the template, of one that may start the instance.
    #[must_use]
    pub const fn variables(&self) -> Option<&Arc<Variables>> {
        match self {
            Self::Instance(Intent::Start(variables) | Intent::StartOrStop(variables)) => {
                Some(variables)
            }
            Self::Instance(Intent::Find) | Self::Stop { .. } | Self::Gone(_) | Self::Label(_) => {
                None
            }
        }
    }

    /// Whether it is for the instance itself.
    #[must_use]
    pub const fn is_for_instance(&self) -> bool {
        matches!(self, Self::Instance(_))
    }

    /// Whether it changes something that must be there: only Kubernetes can say "not found" to it.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        matches!(self, Self::Stop { .. } | Self::Label(_))
    }
}

/// What a waiter waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WaitState {
    /// It has just come.
    New,
    /// For an instance to be created: there was none.
    Next,
    /// For this Job to become ready.
    Ready(Uid),
    /// For that time, to get the failure report on this Job that was known when it came.
    Held(Uid, Instant),
    /// For this Job, which has ended, to go, and for a new one.
    Replacement(Uid),
    /// For the instance to have a pod that can be labelled.
    Pod,
    /// For the deletion of this Job to be accepted: it was sent, and may have been carried out.
    Sent(Uid),
}

impl Waiter {
    /// Whether it waits for something that a call of ours brings about.
    #[must_use]
    pub(super) const fn needs_call(&self) -> bool {
        let state = matches!(
            self.state,
            WaitState::New | WaitState::Next | WaitState::Replacement(_)
        );
        self.want.is_for_instance() && state
    }
}

/// The state of the call to Kubernetes.
#[derive(Clone, Debug, Default)]
pub(super) enum CallState {
    /// None is under way, and none has failed.
    #[default]
    Idle,
    /// One is under way.
    Calling(Box<Calling>),
    /// The last one failed, and is retried when its time comes.
    Retrying(Retry),
    /// Kubernetes has something else than the cache shows: the Job is read before anything else.
    MustRead,
}

/// A call under way.
#[derive(Clone, Debug)]
pub(super) struct Calling {
    /// What for.
    pub(super) purpose: Purpose,
    /// When it was handed to the executor.
    pub(super) since: Instant,
    /// It is for waiters with smaller numbers: one that came later may mean another Job.
    pub(super) waiters_before: u64,
    /// The failure that it follows, if it does.
    pub(super) after: Option<Retry>,
}

/// What a call is made for.
#[derive(Clone, Debug)]
pub(super) enum Purpose {
    /// For all who wait for an instance; made with these values of one of them.
    Create {
        /// The values.
        variables: Arc<Variables>,
        /// What is kept of the start.
        start: Box<OwnStart>,
    },
    /// For all who need to know.
    Read,
    /// For those who asked for a stop, and those who wait for a successor.
    Delete {
        /// Which Job.
        uid: Uid,
        /// Why.
        cause: StopCause,
        /// Whether the deletion has been reported, since the Job has gone meanwhile.
        is_reported: bool,
    },
    /// For no waiter: the node of its pod is lost. The Job goes first, since its finalizer keeps the pod.
    DeleteStuckJob,
    /// For no waiter, after that: the pod.
    ForceDeletePod {
        /// The Job that it is of.
        job: Uid,
        /// Its name.
        pod: Box<str>,
        /// Which pod.
        uid: Uid,
    },
    /// For the waiter with this number.
    Label(u64),
}

/// A call that failed and is retried.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    /// The kind of call.
    pub(super) kind: CallKind,
    /// When to retry.
    pub(super) at: Instant,
    /// What its waiters get when the grace or their time is over.
    pub(super) error: Error,
    /// How often it was tried.
    pub(super) tries: u32,
    /// What the grace bounds, and since when nothing else was met.
    pub(super) grace: Option<(Graced, Instant)>,
}

/// The failures that [`super::retry::GRACE`] bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Graced {
    /// No connection could be made.
    Connection,
    /// A right is missing.
    Right,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallKind {
    /// POST the Job.
    Create,
    /// GET the Job.
    Read,
    /// DELETE the Job.
    Delete,
    /// Whatever gets rid of a pod on a lost node.
    ForceDelete,
    /// PATCH the pod.
    Label,
}

impl Purpose {
    /// Its kind.
    #[must_use]
    pub(super) const fn kind(&self) -> CallKind {
        match self {
            Self::Create { .. } => CallKind::Create,
            Self::Read => CallKind::Read,
            Self::Delete { .. } => CallKind::Delete,
            Self::DeleteStuckJob | Self::ForceDeletePod { .. } => CallKind::ForceDelete,
            Self::Label(_) => CallKind::Label,
        }
    }
}

impl Retry {
    /// A pod on a lost node is left alone for a while.
    #[must_use]
    pub(super) fn force_deletion(now: Instant) -> Self {
        Self {
            kind: CallKind::ForceDelete,
            at: now + FORCE_PAUSE,
            error: Error::UNAVAILABLE,
            tries: 1,
            grace: None,
        }
    }

    /// What those get at their deadline who wait for a start or a stop.
    #[must_use]
    pub(super) fn error_of_start(&self) -> Option<&Error> {
        let concerns = !matches!(self.kind, CallKind::Label | CallKind::ForceDelete);
        concerns.then_some(&self.error)
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

    /// Whether a call of this kind is under way.
    #[must_use]
    pub(super) fn is_calling(&self, kind: CallKind) -> bool {
        self.calling()
            .is_some_and(|calling| calling.purpose.kind() == kind)
    }

    /// The failure that a retry follows, waiting or under way.
    #[must_use]
    pub(super) fn retry(&self) -> Option<&Retry> {
        match &self.call {
            CallState::Retrying(retry) => Some(retry),
            CallState::Calling(calling) => calling.after.as_ref(),
            CallState::Idle | CallState::MustRead => None,
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

    /// Whether a start is under way or about to be: one that starts nothing can wait for it. What
    /// has just been read, or is about to be, may be an instance, too.
    #[must_use]
    pub(super) fn is_start_pending(&self) -> bool {
        let wanted = |waiter: &Waiter| waiter.want.variables().is_some() && waiter.needs_call();
        self.must_read()
            || self.is_calling(CallKind::Create)
            || self.is_calling(CallKind::Read)
            || self.waiters.iter().any(wanted)
    }

    /// Whether the call under way is for this waiter: it says whether the change was made, so it is
    /// waited for, whatever the deadline.
    #[must_use]
    pub(super) fn is_made_for(&self, waiter: &Waiter) -> bool {
        let Some(calling) = self.calling() else {
            return false;
        };
        let had_come = waiter.number < calling.waiters_before;
        match (&waiter.want, &calling.purpose) {
            (Want::Stop { .. }, Purpose::Delete { .. }) => had_come,
            (Want::Stop { .. } | Want::Label(_), Purpose::Read) => had_come,
            (Want::Label(_), Purpose::Label(number)) => *number == waiter.number,
            _ => false,
        }
    }

    /// The waiters that want a stop, and have no response that it was accepted.
    pub(super) fn stops(&self) -> impl Iterator<Item = &Waiter> {
        let stops = |waiter: &&Waiter| matches!(waiter.want, Want::Stop { .. });
        self.waiters.iter().filter(stops)
    }

    /// The waiters that want to label the instance.
    pub(super) fn labels(&self) -> impl Iterator<Item = &Waiter> {
        let labels = |waiter: &&Waiter| matches!(waiter.want, Want::Label(_));
        self.waiters.iter().filter(labels)
    }

    /// Why this Job goes, where its deletion was sent for a waiter and may have been carried out.
    #[must_use]
    pub(super) fn sent_deletion(&self, uid: &Uid) -> Option<StopCause> {
        let state = WaitState::Sent(uid.clone());
        let mut stops = self.stops().filter(|waiter| waiter.state == state);
        stops.find_map(|waiter| waiter.by.clone().map(StopCause::Requested))
    }

    /// Whether the deletion of another Job than this was sent, and may have been carried out.
    #[must_use]
    pub(super) fn has_sent_another(&self, uid: &Uid) -> bool {
        self.stops()
            .any(|waiter| matches!(&waiter.state, WaitState::Sent(sent) if sent != uid))
    }

    /// The deletion that stops have sent does not count any more, except of the Job that is there.
    pub(super) fn forget_deletions_sent(&mut self, there: Option<&Uid>) {
        for waiter in &mut self.waiters {
            if matches!(&waiter.state, WaitState::Sent(sent) if Some(sent) != there) {
                waiter.state = WaitState::New;
            }
        }
    }

    /// Whether one waits for this Job to be replaced.
    #[must_use]
    pub(super) fn replaces(&self, uid: &Uid) -> bool {
        let state = WaitState::Replacement(uid.clone());
        self.waiters.iter().any(|waiter| waiter.state == state)
    }

    /// Whether a meta label of the coordinator's own waits to be set.
    #[must_use]
    pub(super) fn has_own_label(&self) -> bool {
        self.labels().any(|waiter| waiter.by.is_none())
    }
}
