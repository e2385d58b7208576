//! [`Doubts`]: the proof that versions went back, as after etcd was restored from a backup.
//!
//! Whoever sees it raises a doubt about all stores: a watch, or a call whose response is older than what
//! the cache had before. Each reflector then lists again, or looks whether its own store is affected.

use crate::kube::types::ResourceVersion;
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often there was a sign that versions went back. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Doubts(Arc<AtomicU64>);

impl Doubts {
    /// There is a sign.
    pub fn raise(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    /// Raises a doubt if the response to a call about this has a version before the one that was known
    /// when it was sent.
    pub fn compare(&self, about: &dyn Display, version: &ResourceVersion, known: &ResourceVersion) {
        if version.is_before(known) {
            log::warn!(
                "Kubernetes went back: its response about {about} has version {version}, after {known} was known; looking for what the caches have that it has not"
            );
            self.raise();
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}
