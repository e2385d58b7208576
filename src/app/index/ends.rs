//! [`Index`]: how instances have ended, which Kubernetes says only as long as there are their pods.
//!
//! Locks only. What an end is, and that the first one stands, is decided in [`crate::app::cache`], by which all
//! readers get it.

use super::{Changes, Index};
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::status::InstanceStatus;

/// The end of a Job that is in the cache.
#[derive(Clone, Debug)]
pub(super) struct End {
    job: Uid,
    status: InstanceStatus,
}

impl End {
    /// What it takes, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.status.text_bytes()
    }
}

impl Index {
    /// How this Job has ended, if that is kept.
    #[must_use]
    pub fn end(&self, key: &InstanceKey, job: &Uid) -> Option<InstanceStatus> {
        let state = self.state();
        let end = state.counted.get(&state.hash(key))?.end.as_deref()?;
        (end.job == *job).then(|| end.status.clone())
    }

    /// Keeps how this Job has ended, or that it has not, unless the instance has changed since: then it may be
    /// another Job. Whoever has changed it looks again.
    pub fn keep_end(
        &self,
        key: &InstanceKey,
        since: Changes,
        job: &Uid,
        status: Option<&InstanceStatus>,
    ) {
        let mut state = self.state();
        let hash = state.hash(key);
        let Some(counted) = state.counted.get_mut(&hash) else {
            return;
        };
        if counted.changes != since.0 {
            return;
        }
        let end = status.map(|status| {
            let (job, status) = (job.clone(), status.clone());
            Box::new(End { job, status })
        });
        let bytes = end.as_ref().map_or(0, |end| end.bytes());
        self.memory.resize_cache(counted.end_bytes(), bytes);
        counted.end = end;
        state.lists.change(key);
    }

    /// What all that is kept takes, in bytes; for tests, since it counts.
    #[must_use]
    pub fn end_bytes(&self) -> usize {
        let state = self.state();
        state.counted.values().map(super::Counted::end_bytes).sum()
    }
}
