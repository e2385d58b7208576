//! The calls that the coordinator wants made to Kubernetes, and what becomes of each.
//!
//! Pure values, shared by the coordinator (which decides) and the executor (which makes one attempt
//! of one call). Nothing here decides or does anything.

use super::admissions::Refusal;
use super::error::Error;
use super::queue::Lane;
use super::request::Origin;
use crate::budget::{Account, Held};
use crate::kube;
use crate::kube::types::{ResourceVersion, Uid};
use crate::model::job::JobSettings;
use crate::model::labels::MetaChange;
use crate::model::names::InstanceKey;
use crate::model::template::{Template, Variables};
use std::sync::Arc;

/// One call for one name.
#[derive(Clone, Debug)]
pub struct ApiCall {
    /// Which instance.
    pub key: InstanceKey,
    /// What to do.
    pub action: Action,
    /// Whether the same call has just failed, so that the failure is already logged.
    pub is_retry: bool,
    /// With which calls it takes turns.
    pub lane: Lane,
    /// The caller that it is made for, the first of several; `None` if the coordinator makes it by
    /// itself.
    pub caller: Option<Account>,
}

/// A Job to create. Its manifest is rendered when the call is made.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// The template of its type.
    pub template: Arc<Template>,
    /// The settings of the template.
    pub settings: JobSettings,
    /// The revision of both.
    pub template_revision: Arc<str>,
    /// The values for the template, of one of the waiters for the instance.
    pub variables: Arc<Variables>,
    /// Consecutive failures of this name before it.
    pub failures: u32,
    /// Whether it takes the place of one of another revision of the template.
    pub is_restart: bool,
    /// The request that it is made for.
    pub by: Origin,
    /// What that request holds: the values stay in memory until the call has ended, even if its
    /// caller hangs up.
    pub held: Option<Arc<Held>>,
}

/// The request to Kubernetes.
#[derive(Clone, Debug)]
pub enum Action {
    /// POST this Job.
    CreateJob(Box<NewJob>),
    /// Read the Job of the name, or that there is none.
    ReadJob {
        /// Whether its pods are read, too.
        with_pods: bool,
    },
    /// DELETE the Job, with its UID as precondition.
    DeleteJob {
        /// Which Job.
        uid: Uid,
        /// The version that it must still have, if there is one.
        version: Option<ResourceVersion>,
        /// Why.
        cause: StopCause,
        /// What is to be started in its place, if something is. If that cannot be rendered, nothing is deleted.
        new: Option<Box<NewJob>>,
    },
    /// PATCH the Job that waits for its admission, so that it runs.
    AdmitJob {
        /// Which Job.
        uid: Uid,
    },
    /// LIST the Jobs that were there when this one was created: they come before it.
    PlaceJob {
        /// Which Job.
        uid: Uid,
        /// The version of its creation.
        version: ResourceVersion,
    },
    /// DELETE the pod with its own grace period, with its UID as precondition: its Job is gone.
    DeletePod {
        /// The Job that it was of.
        job: Uid,
        /// Name of the pod.
        pod: Box<str>,
        /// Which pod.
        uid: Uid,
    },
    /// DELETE the pod with a grace period of 0, with its UID as precondition: its node is lost.
    ForceDeletePod {
        /// The Job that it is of.
        job: Uid,
        /// Name of the pod.
        pod: Box<str>,
        /// Which pod.
        uid: Uid,
    },
    /// PATCH the pod's meta labels, with its UID as precondition.
    LabelPod {
        /// The numbers of the waiters that it is made for, ascending.
        waiters: Vec<u64>,
        /// Name of the pod.
        pod: Box<str>,
        /// Which pod.
        uid: Uid,
        /// Their changes, shared with them; of each key the last counts.
        changes: Vec<Arc<MetaChange>>,
        /// By how many bytes they lengthen the labels of the pod, as far as the cache knows.
        growth: usize,
        /// The version that the pod must still have: labels of the pod before are passed on only if
        /// nobody has set others since, and a precondition holds for this version.
        version: Option<ResourceVersion>,
    },
}

impl Action {
    /// The request that this is made for, if it is for a single one.
    #[must_use]
    pub fn requester(&self) -> Option<&Origin> {
        match self {
            Self::CreateJob(new) => Some(&new.by),
            Self::DeleteJob {
                cause: StopCause::Requested(by),
                ..
            } => Some(by),
            Self::DeleteJob { .. }
            | Self::AdmitJob { .. }
            | Self::PlaceJob { .. }
            | Self::DeletePod { .. }
            | Self::ForceDeletePod { .. }
            | Self::ReadJob { .. }
            | Self::LabelPod { .. } => None,
        }
    }
}

/// Why this replica deletes a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// This caller requested it.
    Requested(Origin),
    /// It has ended, and a new one takes its place.
    Replaced,
    /// Others have ended its pod, and a new one takes its place.
    Disrupted,
    /// Nobody has used it for its timeout. No waiter needs this call.
    Idle,
    /// Its template has changed, and a new one takes its place. No waiter needs this call.
    Outdated(Arc<Outdated>),
    /// There is no place for it: a cap is reached. No waiter needs this call.
    NoPlace(Refusal),
    /// Its pod has to be force-deleted, and the Job controller would keep it by a finalizer. No
    /// waiter needs this call.
    Stuck,
}

/// The revisions of a template from which and to which an instance is restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// That of the instance; empty if an older version of this program has made it.
    pub old: Box<str>,
    /// The present one.
    pub new: Arc<str>,
    /// Whether it is restarted only while nobody uses it.
    pub if_unused: bool,
}

impl StopCause {
    /// The word for it in metrics and events.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Requested(_) => "asked",
            Self::Replaced => "replaced",
            Self::Disrupted => "disrupted",
            Self::Idle => "idle",
            Self::Outdated(_) => "outdated",
            Self::NoPlace(_) => "limit",
            Self::Stuck => "stuck",
        }
    }
}

/// The outcome of one attempt. Its result is already in the stores.
#[derive(Clone, Debug)]
pub enum CallOutcome {
    /// The Job with this UID was created, at this version.
    Created(Uid, ResourceVersion),
    /// A read found the Job of the instance, with this UID. For a deletion these three mean that
    /// the Job was already gone, with the result of a later read.
    Found(Uid),
    /// A read found a Job of that name that is not this instance.
    NameConflict,
    /// A read found nothing.
    Absent,
    /// The deletion was accepted.
    Deleted {
        /// Whether it was this call that began the deletion, as far as the cache knew.
        is_first: bool,
    },
    /// Any other call succeeded.
    Done,
    /// The instance was used since its stop was decided, so no call was made.
    InUse,
    /// The manifest cannot be rendered, so no call was made.
    NotRendered(Error),
    /// It failed.
    Failed(kube::Error),
}

/// A completed attempt, and its change of the cache.
#[derive(Clone, Debug)]
pub struct Completed {
    /// How it ended.
    pub outcome: CallOutcome,
    /// The Job that applying the outcome removed from the cache or replaced, if any.
    pub gone: Option<GoneJob>,
}

/// A Job that the cache has no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneJob {
    /// Its instance. A call for one may remove the Job of another: both can have the same Job name.
    pub key: InstanceKey,
    /// Which Job.
    pub uid: Uid,
}
