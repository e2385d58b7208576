//! [`Item`]: what callers are told of one instance, in a list of all and in events; [`Selection`]: which
//! instances a request is about.
//!
//! Plain values. An item is made by [`super::cache`], its JSON by the HTTP front, which reads selections, too;
//! the pages of a list are made in [`super::pages`].

use crate::kube::types::{Timestamp, Uid};
use crate::model::labels::MetaLabels;
use crate::model::names::{AppType, InstanceKey};
use crate::model::status::{Finding, Phase};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// What is known of one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Type and name.
    pub key: InstanceKey,
    /// The UID of its Job.
    pub uid: Uid,
    /// The place of its status in [`super::index::STATUS_WORDS`].
    pub status: usize,
    /// Phase, reason and message, unless it is ready.
    pub finding: Option<Finding>,
    /// Since when it has been so.
    pub since: Option<Timestamp>,
    /// When the kubelet accepted its pod.
    pub start: Option<Timestamp>,
    /// The pod's address, once there is one and while nothing of the instance is being deleted.
    pub ip: Option<IpAddr>,
    /// What PATCH has set.
    pub meta: MetaLabels,
    /// The revision of the template that it was made from; none if an older version has made it.
    pub revision: Option<Box<str>>,
    /// Whether the template has changed since; none if there is no valid one now.
    pub is_stale: Option<bool>,
    /// Whose instance it is, if anybody's in particular.
    pub owner: Option<Box<str>>,
    /// How often the containers of its pod were restarted.
    pub restarts: u32,
    /// How long it may be unused, if there is a limit.
    pub idle_timeout: Option<Duration>,
}

/// The place of `starting` in [`super::index::STATUS_WORDS`], which a Job has that was just made.
pub const STARTING: usize = 0;

impl Item {
    /// Whether it is starting, and was not reported as failed.
    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.status == STARTING
    }

    /// Whether it is being stopped.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        let mut finding = self.finding.iter();
        finding.any(|it| it.phase == Phase::Stopping)
    }
}

/// Which instances a request is about: those that satisfy all of this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Of one of these types, if there are any restrictions.
    pub types: Option<BTreeSet<AppType>>,
    /// In one of these statuses, as places in [`super::index::STATUS_WORDS`], if there are any.
    pub statuses: BTreeSet<usize>,
    /// With all of these labels; without a value, with any one of that key.
    pub labels: BTreeSet<(Box<str>, Option<Box<str>>)>,
}

impl Selection {
    /// Whether instances of this type may be among them.
    #[must_use]
    pub fn has_type(&self, app_type: &str) -> bool {
        let mut types = self.types.iter();
        types.all(|types| types.contains(app_type))
    }

    /// Whether those at this place may be.
    #[must_use]
    pub fn has_status(&self, place: usize) -> bool {
        self.statuses.is_empty() || self.statuses.contains(&place)
    }

    /// Whether those with these labels may be.
    #[must_use]
    pub fn has_labels(&self, own: &MetaLabels) -> bool {
        self.labels.iter().all(|(key, value)| {
            let own = own.get(&**key);
            own.is_some_and(|own| value.as_ref().is_none_or(|value| **value == **own))
        })
    }

    /// Whether this instance is one of them.
    #[must_use]
    pub fn has(&self, item: &Item) -> bool {
        self.has_type(item.key.app_type.as_str())
            && self.has_status(item.status)
            && self.has_labels(&item.meta)
    }
}

/// A page of the list of all instances.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageQuery {
    /// Of these.
    pub selection: Selection,
    /// So many at most.
    pub limit: usize,
    /// Those that come after this one, by type and name.
    pub after: Option<InstanceKey>,
}
