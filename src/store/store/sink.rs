//! [`Sink`]: what a reflector needs of the destination of its objects, and the [`Sample`]s of them that it
//! compares with Kubernetes. No logic.

use super::Change;
use crate::kube::types::{ObjectMeta, ResourceVersion, Uid};
use crate::kube::watch::StoreEvent;
use std::time::Instant;

/// The destination of the objects of a list or watch.
pub trait Sink<K>: Send + 'static {
    /// Applies an event of a list or watch; returns what has changed for readers.
    #[must_use]
    fn apply(&self, event: StoreEvent<K>) -> Vec<Change<K>>;

    /// The API server has just sent something.
    fn contact(&self, now: Instant);

    /// Whether a watch is open.
    fn watching(&self, open: bool);

    /// The watch is being looked after: its thread has just done something.
    fn alive(&self, now: Instant) {
        let _ = now;
    }

    /// Since when the cache cannot be relied on although its watch is open, if so.
    fn stale(&self, since: Option<Instant>) {
        let _ = since;
    }

    /// The newest version that is known, from the watch or from own calls.
    fn newest(&self) -> ResourceVersion {
        ResourceVersion::default()
    }

    /// Versions went back: the next list replaces everything from before it, whatever its version.
    fn went_back(&self) {}

    /// What a check by name compares with Kubernetes: the object that was changed last, and the first
    /// one after that name.
    fn samples(&self, after: &str) -> Samples {
        let _ = after;
        Samples::default()
    }

    /// The state of the object of that name that readers see.
    fn sample(&self, name: &str) -> Option<Sample> {
        let _ = name;
        None
    }

    /// Whether it has not taken a change and needs a new list for that.
    fn needs_list(&self) -> bool {
        false
    }
}

/// One state of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Its name.
    pub name: Box<str>,
    /// Its UID.
    pub uid: Uid,
    /// The version of that state.
    pub version: ResourceVersion,
}

impl Sample {
    /// The state of that object.
    #[must_use]
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            version: metadata.resource_version.clone(),
        }
    }
}

/// Objects to compare with Kubernetes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples {
    /// The one that was changed last. Of a restored etcd it is the first to be missing.
    pub newest: Option<Sample>,
    /// The next one by name, from the first again after the last.
    pub next: Option<Sample>,
}
