//! What follows from a failed call: which waiters get the error now, and when the call is retried.
//!
//! Pure. A failure concerns the waiters that the call was made for, and no others.

use super::operation::{
    CallKind, CallState, Calling, Graced, Operation, Purpose, Retry, Waiter, Want,
};
use crate::app::error::{self, Error};
use crate::kube::{self, Class};
use std::time::{Duration, Instant};

/// How long a failed connection or a missing permission counts as a restart of the API server. A
/// starting API server responds 403 to all clients until its RBAC is loaded.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// First pause after a failed call; it doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(100);

/// Longest pause of our own choice between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Longest pause for a `Retry-After` of the API server. Later requests must not wait for a delay
/// that an earlier one was given.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(10);

/// Consecutive contradictions between Kubernetes and the cache before reads are delayed.
const DISAGREEMENTS_AT_ONCE: u32 = 3;

/// The waiters of an operation that get an error.
#[derive(Clone, Debug)]
pub(super) enum Rejected {
    /// No waiter: it is retried, or the Job is read.
    NoWaiter,
    /// All waiters that need a call of this kind.
    All(CallKind, Error),
    /// Only waiters that would send the same call; others continue.
    Same(Error),
}

impl Operation {
    /// Processes the failure of this call: sets the next call state, and returns which waiters get
    /// which error.
    pub(super) fn failed(
        &mut self,
        calling: &Calling,
        error: &kube::Error,
        now: Instant,
    ) -> Rejected {
        let kind = calling.purpose.kind();
        match (error.class(), kind) {
            // It is already gone, or another replica was faster: read the Job.
            (Class::NotFound | Class::Conflict, CallKind::ForceDelete) => {
                self.read_again(calling, error, now)
            }
            // No request waits for this call, so there is time.
            (_, CallKind::ForceDelete) => {
                self.call = CallState::Retrying(Retry::force_deletion(now));
                Rejected::NoWaiter
            }
            // 409 on create: another replica was faster, or the response to an earlier attempt was lost.
            // The Job is read, and its waiters join it.
            (Class::AlreadyExists, CallKind::Create) | (Class::Conflict, CallKind::Delete) => {
                self.read_again(calling, error, now)
            }
            (Class::NotFound, CallKind::Create) => Rejected::All(kind, Error::NamespaceMissing),
            // A quota that concurrent starts change; or the pod was replaced, and the cache will
            // show its successor.
            (Class::Conflict, CallKind::Create)
            | (Class::NotFound | Class::Conflict, CallKind::Label) => {
                self.retry_call(calling, kind, Error::UNAVAILABLE, error, now)
            }
            (Class::Forbidden { own_right: false }, _) => {
                Rejected::Same(Error::Refused(error::kube_message(error)))
            }
            (Class::Invalid, CallKind::Create) => {
                Rejected::Same(Error::TemplateInvalid(error::kube_message(error)))
            }
            (Class::Invalid, CallKind::Label) => {
                Rejected::Same(Error::ReservedKey(error::kube_message(error)))
            }
            (Class::Forbidden { own_right: true } | Class::Unauthorized, _) => {
                self.retry_within_grace(calling, Graced::Right, error, now)
            }
            (Class::Unavailable, _) if error.connect_failed() => {
                self.retry_within_grace(calling, Graced::Connection, error, now)
            }
            (Class::Unavailable | Class::Throttled { .. }, _) => {
                let retry_after = error.retry_after().unwrap_or(PAUSE_MAX);
                let reported = Error::Unavailable { retry_after };
                self.retry_call(calling, kind, reported, error, now)
            }
            (
                Class::NotFound
                | Class::AlreadyExists
                | Class::Conflict
                | Class::Expired
                | Class::Invalid
                | Class::Protocol,
                _,
            ) => Rejected::Same(Error::Internal),
        }
    }

    /// The cache lags: read, without delay only the first times. So a cache that permanently
    /// disagrees with the API server causes no call storm.
    fn read_again(&mut self, calling: &Calling, error: &kube::Error, now: Instant) -> Rejected {
        self.disagreements = self.disagreements.saturating_add(1);
        if self.disagreements > DISAGREEMENTS_AT_ONCE {
            return self.retry_call(calling, CallKind::Read, Error::UNAVAILABLE, error, now);
        }
        self.call = CallState::MustRead;
        Rejected::NoWaiter
    }

    /// Retries until [`GRACE`] expires. A failed connection counts from when it was tried, since
    /// that alone may take seconds; a missing permission from when it was reported.
    fn retry_within_grace(
        &mut self,
        calling: &Calling,
        graced: Graced,
        error: &kube::Error,
        now: Instant,
    ) -> Rejected {
        let (begun, reported) = match graced {
            Graced::Connection => (calling.since, Error::UNAVAILABLE),
            Graced::Right => (now, Error::NotPermitted),
        };
        let same = |retry: &&Retry| retry.grace.is_some_and(|(of, _)| of == graced);
        let before = calling.after.as_ref().filter(same);
        let since = before
            .and_then(|retry| retry.grace)
            .map_or(begun, |(_, since)| since);
        let end = since + GRACE;
        let kind = calling.purpose.kind();
        if now >= end {
            return Rejected::All(kind, reported);
        }
        let tries = before.map_or(0, |retry| retry.tries);
        self.call = CallState::Retrying(Retry {
            kind,
            at: (now + pause(tries, error)).min(end),
            error: reported,
            tries: tries + 1,
            grace: Some((graced, since)),
        });
        Rejected::NoWaiter
    }

    fn retry_call(
        &mut self,
        calling: &Calling,
        kind: CallKind,
        reported: Error,
        error: &kube::Error,
        now: Instant,
    ) -> Rejected {
        let before = calling.after.as_ref().filter(|retry| retry.grace.is_none());
        let tries = before.map_or(0, |retry| retry.tries);
        self.call = CallState::Retrying(Retry {
            kind,
            at: now + pause(tries, error),
            error: reported,
            tries: tries.saturating_add(1),
            grace: None,
        });
        Rejected::NoWaiter
    }
}

/// Whether this waiter gets this error.
#[must_use]
pub(super) fn is_rejected(rejected: &Rejected, calling: &Calling, waiter: &Waiter) -> bool {
    let is_label = matches!(waiter.want, Want::Label(_));
    match rejected {
        Rejected::NoWaiter => false,
        Rejected::All(kind, _) => needs(waiter, *kind),
        Rejected::Same(_) => match &calling.purpose {
            Purpose::Create { variables, .. } => {
                waiter.needs_call() && waiter.want.variables() == Some(variables)
            }
            Purpose::Label(number) => is_label && waiter.number == *number,
            other => needs(waiter, other.kind()),
        },
    }
}

/// Whether a waiter needs a call of this kind.
fn needs(waiter: &Waiter, kind: CallKind) -> bool {
    let is_stop = matches!(waiter.want, Want::Stop { .. });
    let is_label = matches!(waiter.want, Want::Label(_));
    match kind {
        CallKind::Create => waiter.needs_call(),
        CallKind::Read => waiter.needs_call() || is_stop || is_label,
        CallKind::Delete => waiter.needs_call() || is_stop,
        CallKind::Label => is_label,
        CallKind::ForceDelete => false,
    }
}

/// The pause after this failure, by the number of earlier ones.
fn pause(tries: u32, error: &kube::Error) -> Duration {
    let pause = PAUSE.saturating_mul(1 << tries.min(8)).min(PAUSE_MAX);
    let wished = error.retry_after().unwrap_or_default().min(RETRY_AFTER_MAX);
    pause.max(wished)
}
