//! [`Step`]: what a lifecycle event of the coordinator means to readers.
//!
//! Pure. Whether readers are told of it is decided in [`super`].

use super::kind::EventKind;
use crate::app::api_call::StopCause;
use crate::app::lifecycle::LifecycleKind;
use crate::model::status::Finding;
use std::borrow::Cow;
use std::time::Duration;

/// What an event of the coordinator means to readers.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) kind: EventKind,
    pub(super) finding: Option<Cow<'a, Finding>>,
    pub(super) recovered: bool,
    pub(super) is_final: bool,
    pub(super) cause: Option<&'static str>,
    pub(super) expires_in: Option<Duration>,
}

impl<'a> Step<'a> {
    pub(super) const fn new(kind: EventKind) -> Self {
        Self {
            kind,
            finding: None,
            recovered: false,
            is_final: false,
            cause: None,
            expires_in: None,
        }
    }

    /// `None`: nothing.
    pub(super) fn of(kind: &'a LifecycleKind) -> Option<Self> {
        let of = Self::new;
        Some(match kind {
            LifecycleKind::Requested => of(EventKind::Requested),
            // The stores may be ahead.
            LifecycleKind::Created(_) => Self {
                finding: Some(Cow::Owned(Finding::created())),
                ..of(EventKind::Created)
            },
            // It is reported as failed, and that stands: for another reason by now.
            LifecycleKind::InPhase {
                finding,
                is_failing,
            } => Self {
                finding: Some(Cow::Borrowed(finding)),
                ..of(if *is_failing {
                    EventKind::Failed
                } else {
                    EventKind::Starting
                })
            },
            LifecycleKind::Ready { recovered, .. } => Self {
                recovered: *recovered,
                ..of(EventKind::Ready)
            },
            LifecycleKind::Failed {
                finding, is_final, ..
            } => Self {
                finding: Some(Cow::Borrowed(finding)),
                is_final: *is_final,
                ..of(EventKind::Failed)
            },
            LifecycleKind::Finished {
                finding,
                is_disrupted,
                ..
            } => Self {
                finding: Some(Cow::Borrowed(finding)),
                ..of(if *is_disrupted {
                    EventKind::Disrupted
                } else {
                    EventKind::Finished
                })
            },
            LifecycleKind::IdleSoon(left) => Self {
                expires_in: Some(*left),
                ..of(EventKind::IdleSoon)
            },
            LifecycleKind::Stopping(cause) => Self {
                cause: cause.as_ref().map(StopCause::as_str),
                ..of(EventKind::Stopping)
            },
            LifecycleKind::Gone => of(EventKind::Gone),
            LifecycleKind::NotCreated
            | LifecycleKind::PodForceDeleted { .. }
            | LifecycleKind::OrphanDeleted { .. }
            | LifecycleKind::Unfollowed => return None,
        })
    }
}
