//! The words of a flight: what it wants done, the calls that it makes, and how they end.
//!
//! Pure values. Which call is due, and what follows from its end, is decided in [`super`].

use crate::app::{Answer, Origin, RequestHandle};
use crate::kube;
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::template::Variables;
use serde_json::Value;
use std::sync::Arc;
use std::time::Instant;

/// What a flight wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Answer this request; nobody will answer it again.
    Answer(RequestHandle, Answer),
    /// Make this call, apply what it returns to the stores, and report its outcome.
    Call(Box<Call>),
}

/// One call to Kubernetes for one name.
#[derive(Clone, Debug)]
pub struct Call {
    /// The name.
    pub key: InstanceKey,
    /// What to do.
    pub operation: Operation,
    /// Whether the same was tried just before and has failed, so that why was said.
    pub is_again: bool,
}

/// What is asked of Kubernetes.
#[derive(Clone, Debug)]
pub enum Operation {
    /// POST this Job.
    Create {
        /// The manifest.
        manifest: Value,
        /// Who asked.
        by: Origin,
    },
    /// GET the Job of the name.
    Read,
    /// DELETE the Job, if it is still this one.
    Delete {
        /// Which Job.
        uid: Uid,
        /// Why.
        cause: Cause,
    },
    /// DELETE the pod without waiting for its node, if it is still this one.
    Remove {
        /// Name of the pod.
        pod: Box<str>,
        /// Which pod.
        uid: Uid,
        /// Whether Kubernetes has taken that before, and something keeps it.
        is_kept: bool,
    },
    /// PATCH the pod, if it is still this one.
    Label {
        /// Name of the pod.
        pod: Box<str>,
        /// Which pod.
        uid: Uid,
        /// The merge patch.
        patch: Value,
    },
}

/// Why a Job is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// This caller asked for it.
    Asked(Origin),
    /// It has ended, and a new one is to take its place.
    Ended,
    /// A pod of it does not go (see [`super::OVERDUE_AFTER`]).
    Stuck,
}

/// How a call ended; what it returned is in the stores by then.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// A read found a Job that is not this instance.
    NameConflict,
    /// A read found nothing.
    Absent,
    /// It failed.
    Failed(kube::Error),
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Create,
    Read,
    Delete,
    /// Whatever gets rid of a pod that does not go.
    Force,
    Label,
}

/// The call that is under way.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) whose: Whose,
    pub(super) since: Instant,
}

/// For whom a call is made.
#[derive(Clone, Debug)]
pub(super) enum Whose {
    /// For all who wait for an instance; made with these values of one of them.
    Create(Arc<Variables>),
    /// For all who need to know; with those who had asked by then to stop or label it. Who asks
    /// later may mean a Job that this read has not seen.
    Read(Vec<RequestHandle>),
    /// For those who had asked to stop it by then, and those who wait for its successor. Who asks
    /// later may mean another Job than this one.
    Delete { uid: Uid, stops: Vec<RequestHandle> },
    /// For nobody: a pod does not go. Says which pod is removed, if not its Job first.
    Force { pod: Option<Uid> },
    /// For this request.
    Label(RequestHandle),
}

impl Whose {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Create(_) => Kind::Create,
            Self::Read(_) => Kind::Read,
            Self::Delete { .. } => Kind::Delete,
            Self::Force { .. } => Kind::Force,
            Self::Label(_) => Kind::Label,
        }
    }
}
