//! [`Retry`]: a call that failed and is made again, and the kinds of calls.
//!
//! Plain data. When a failed call is made again is decided in [`super::outcome`].

use crate::app::error::Error;
use std::time::{Duration, Instant};

/// Pause between two attempts to remove a pod on a lost node.
pub(super) const FORCE_PAUSE: Duration = Duration::from_secs(5);

/// A call that failed and is retried.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    /// The kind of call.
    pub(super) kind: CallKind,
    /// When to retry.
    pub(super) at: Instant,
    /// What its waiters get when the grace or their deadline expires; `None` if Kubernetes has responded,
    /// so that there is progress to report.
    pub(super) error: Option<Error>,
    /// How often it was tried.
    pub(super) tries: u32,
    /// The failure that the grace bounds, and when it first occurred without another one since.
    pub(super) grace: Option<(Graced, Instant)>,
}

/// The failures that [`super::outcome::GRACE`] bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Graced {
    /// No connection could be made.
    Connection,
    /// A permission is missing.
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
    /// DELETE the Job that nobody uses, or whose template has changed.
    StopIdle,
    /// PATCH the Job, so that it runs.
    Admit,
    /// DELETE the Job, for which there is no place.
    Refuse,
    /// LIST what was there before the Job.
    Place,
    /// Any call that removes a pod on a lost node.
    ForceDelete,
    /// PATCH the pod.
    Label,
    /// DELETE a pod that outlives its Job.
    DeletePod,
}

impl CallKind {
    /// Whether the next look decides anew after a failure: no request needs such a call.
    #[must_use]
    pub(super) const fn is_looked_at_again(self) -> bool {
        matches!(
            self,
            Self::StopIdle | Self::Admit | Self::Refuse | Self::Place
        )
    }
}

impl Retry {
    /// The next attempt to remove a pod on a lost node is delayed.
    #[must_use]
    pub(super) fn force_deletion(now: Instant) -> Self {
        Self {
            kind: CallKind::ForceDelete,
            at: now + FORCE_PAUSE,
            error: None,
            tries: 1,
            grace: None,
        }
    }

    /// What waiters for a start or a stop get at their deadline.
    #[must_use]
    pub(super) fn error_of_start(&self) -> Option<&Error> {
        self.error.as_ref().filter(|_| self.kind != CallKind::Label)
    }
}
