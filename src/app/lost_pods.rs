//! [`LostPods`]: the last states of pods that the cache has lost a moment ago, and how a pod was that was
//! deleted before it ended.
//!
//! Pure. A pod says who ended its instance until it is gone, and nothing says it afterwards. Changes of
//! the cache are processed later, when the pod may be gone, so its last state is kept until then. What is
//! remembered of a name for minutes is in [`super::coordinator`].

use crate::kube::types::{Pod, Uid};
use crate::model::status;
use crate::store::Change;
use std::collections::VecDeque;
use std::sync::Arc;

/// The pods of so many Jobs are kept, those that were lost last.
pub(super) const LOST_PODS_MAX: usize = 256;

/// All of them together take no more bytes, about.
pub(super) const LOST_BYTES_MAX: usize = 256 << 10;

/// The last pod of each Job with its bytes, the oldest first.
#[derive(Debug, Default)]
pub(super) struct LostPods {
    pods: VecDeque<(Arc<Pod>, usize)>,
    bytes: usize,
}

impl LostPods {
    /// A pod that takes so many bytes has changed.
    pub(super) fn note(&mut self, change: &Change<Pod>, bytes: usize) {
        let Some(pod) = change.old.as_ref() else {
            return;
        };
        let uid = &pod.metadata.uid;
        let new = change.new.as_ref().filter(|new| new.metadata.uid == *uid);
        let ends = |new: &Arc<Pod>| status::is_stopping(pod) && !status::is_stopping(new);
        let (true, Some(job)) = (new.is_none_or(ends), &pod.owner_uid) else {
            return;
        };
        let known = self.take(job);
        // That it was being deleted before it ended says more than how it ended then, unless it failed.
        let earlier =
            known.filter(|known| known.metadata.uid == *uid && status::is_stopping(known));
        let earlier = earlier.filter(|_| !status::has_termination_report(pod));
        let pod = earlier.as_ref().unwrap_or(pod);
        self.bytes += bytes;
        self.pods.push_back((Arc::clone(pod), bytes));
        while self.pods.len() > LOST_PODS_MAX || self.bytes > LOST_BYTES_MAX {
            self.remove(0);
        }
    }

    /// Takes the last pod of this Job, if it was lost a moment ago.
    pub(super) fn take(&mut self, job: &Uid) -> Option<Arc<Pod>> {
        let is_its = |(pod, _): &(Arc<Pod>, usize)| pod.owner_uid.as_ref() == Some(job);
        self.remove(self.pods.iter().position(is_its)?)
    }

    fn remove(&mut self, at: usize) -> Option<Arc<Pod>> {
        let (pod, bytes) = self.pods.remove(at)?;
        self.bytes -= bytes;
        Some(pod)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::decode;
    use serde_json::json;

    fn pod(name: &str, job: &str) -> Arc<Pod> {
        Arc::new(decode(&json!({"metadata": {
            "name": name, "uid": name, "ownerReferences": [{"uid": job, "controller": true}],
            "labels": {"batch.kubernetes.io/controller-uid": job},
        }})))
    }

    fn lose(lost: &mut LostPods, old: Arc<Pod>, new: Option<Arc<Pod>>, bytes: usize) {
        let old = Some(old);
        lost.note(&Change { old, new }, bytes);
    }

    fn taken(lost: &mut LostPods, job: &str) -> Option<String> {
        let pod = lost.take(&job.into())?;
        Some(pod.metadata.name.to_string())
    }

    #[test]
    fn the_last_pod_of_a_job_is_taken_once() {
        let mut lost = LostPods::default();
        let a = pod("a", "u1");
        lose(&mut lost, Arc::clone(&a), Some(Arc::clone(&a)), 1);
        assert_eq!(taken(&mut lost, "u1"), None);
        lose(&mut lost, a, None, 1);
        // Another pod of that name.
        lose(&mut lost, pod("b", "u1"), Some(pod("c", "u1")), 2);
        lose(&mut lost, pod("d", "u2"), None, 3);
        assert_eq!(taken(&mut lost, "u1"), Some("b".into()));
        assert_eq!(taken(&mut lost, "u1"), None);
        assert_eq!((lost.pods.len(), lost.bytes), (1, 3));
    }

    #[test]
    fn they_are_bounded_in_number_and_in_bytes() {
        let mut lost = LostPods::default();
        for n in 0..=LOST_PODS_MAX {
            lose(&mut lost, pod("p", &format!("u{n}")), None, 1);
        }
        assert_eq!(lost.pods.len(), LOST_PODS_MAX);
        assert_eq!(taken(&mut lost, "u0"), None);
        assert!(taken(&mut lost, "u1").is_some());
        lose(&mut lost, pod("p", "large"), None, LOST_BYTES_MAX - 1);
        assert_eq!((lost.pods.len(), lost.bytes), (2, LOST_BYTES_MAX));
        lose(&mut lost, pod("p", "larger"), None, LOST_BYTES_MAX + 1);
        assert_eq!((lost.pods.len(), lost.bytes), (0, 0));
    }
}
