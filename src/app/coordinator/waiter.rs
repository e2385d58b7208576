//! [`Waiter`]: one request that waits, what it wants, and what it waits for at the moment.
//!
//! Plain values. What a waiter gets is decided in [`super::resolve`].

use crate::app::request::Origin;
use crate::app::request_handle::RequestHandle;
use crate::kube::types::Uid;
use crate::model::labels::MetaChange;
use crate::model::template::Variables;
use std::sync::Arc;
use std::time::Instant;

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
    /// The instance, if it is there or is being started.
    Find,
    /// The instance, started if need be with these values.
    Start(Arc<Variables>),
    /// The same, and a stop where it is not ready by the deadline.
    StartOrStop(Arc<Variables>),
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
            Self::Start(variables) | Self::StartOrStop(variables) => Some(variables),
            Self::Find | Self::Stop { .. } | Self::Gone(_) | Self::Label(_) => None,
        }
    }

    /// Whether it is for the instance itself.
    #[must_use]
    pub const fn is_for_instance(&self) -> bool {
        matches!(self, Self::Find | Self::Start(_) | Self::StartOrStop(_))
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
