//! What the pod of a Job said when it failed, for as long as its Job may be asked about: a Job that
//! is retried deletes its pod when it fails, and others are collected or deleted by hand.
//!
//! Pure. While the cache has the pod nothing is held twice: the pod is shared with it.

use crate::app::cache::Instance;
use crate::kube::types::{Pod, Uid};
use crate::model::names::InstanceKey;
use crate::model::status::{self, InstanceStatus};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How many pods are remembered after they have gone.
pub const LOST_MAX: usize = 1000;

/// How long a pod is remembered after it has gone.
pub const LOST_KEPT: Duration = Duration::from_secs(600);

/// By name the pod that last said why it failed.
#[derive(Clone, Debug, Default)]
pub(super) struct LastWords {
    by_name: HashMap<InstanceKey, Words>,
    /// Those whose pod has gone, and since when.
    lost: BTreeSet<(SystemTime, InstanceKey)>,
}

#[derive(Clone, Debug)]
struct Words {
    /// The Job that the pod was of.
    job: Uid,
    pod: Arc<Pod>,
    lost_at: Option<SystemTime>,
}

impl LastWords {
    /// Takes note of what the cache shows of a name now.
    pub(super) fn note(&mut self, key: &InstanceKey, seen: Option<&Instance>, wall: SystemTime) {
        self.shed(wall);
        // One that is ready is past all that was wrong.
        let Some(instance) =
            seen.filter(|seen| !matches!(seen.status, InstanceStatus::Ready { .. }))
        else {
            self.forget(key);
            return;
        };
        if let Some(pod) = instance
            .pod
            .as_ref()
            .filter(|pod| status::has_termination_report(pod))
        {
            self.forget(key);
            let words = Words {
                job: instance.uid().clone(),
                pod: Arc::clone(pod),
                lost_at: None,
            };
            self.by_name.insert(key.clone(), words);
            return;
        }
        match self.by_name.get_mut(key) {
            Some(words) if words.job != *instance.uid() => self.forget(key),
            Some(words) if words.lost_at.is_none() => {
                words.lost_at = Some(wall);
                self.lost.insert((wall, key.clone()));
                self.shed(wall);
            }
            _ => {}
        }
    }

    /// The pod of this Job that last said why it failed.
    pub(super) fn of(&self, key: &InstanceKey, job: &Uid) -> Option<&Arc<Pod>> {
        let words = self.by_name.get(key).filter(|words| words.job == *job);
        words.map(|words| &words.pod)
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let lost = self
            .by_name
            .values()
            .filter(|words| words.lost_at.is_some());
        assert_eq!(lost.count(), self.lost.len());
        self.by_name.len()
    }

    fn forget(&mut self, key: &InstanceKey) {
        let lost_at = self.by_name.remove(key).and_then(|words| words.lost_at);
        if let Some(lost_at) = lost_at {
            self.lost.remove(&(lost_at, key.clone()));
        }
    }

    /// Keeps the pods that have gone within their bounds.
    fn shed(&mut self, wall: SystemTime) {
        while let Some((lost_at, key)) = self.lost.first() {
            let age = wall.duration_since(*lost_at).unwrap_or_default();
            if age <= LOST_KEPT && self.lost.len() <= LOST_MAX {
                break;
            }
            let key = key.clone();
            self.forget(&key);
        }
    }
}
