//! The starts of this replica that are under way: how each ends, and how long it took.
//!
//! Pure. Nothing is decided by this; it is told in metrics, whether a caller still
//! waits or not. What counts as an end is the first of: the instance is ready; it
//! cannot succeed any more; it ended; its Job is going or gone.

use super::view::{Seen, View};
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::status::{InstanceStatus, Outlook};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Starts that are followed at the same time; an image that never comes is one for long.
pub const FOLLOWED_MAX: usize = 10_000;

/// How a start ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The instance was ready, so long after its Job was asked for.
    Ready(Duration),
    /// It cannot succeed any more; one word why.
    Failed(Arc<str>),
    /// It ended well before it was seen ready; one word how.
    Finished(&'static str),
    /// Its Job was deleted.
    Stopped,
}

impl Ended {
    /// The word for the metric.
    #[must_use]
    pub fn result(&self) -> &'static str {
        match self {
            Self::Ready(_) => "ready",
            Self::Failed(_) => "failed",
            Self::Finished(_) => "finished",
            Self::Stopped => "stopped",
        }
    }

    /// One word why; empty where there is nothing to say.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Failed(reason) => reason,
            Self::Finished(reason) => reason,
            Self::Ready(_) | Self::Stopped => "",
        }
    }
}

/// The starts that are under way.
#[derive(Debug, Default)]
pub struct Starts {
    followed: HashMap<InstanceKey, (Uid, Instant)>,
}

impl Starts {
    /// We have made this Job, asked for at `begun`; whether its start can be followed.
    pub fn begin(&mut self, key: &InstanceKey, uid: &Uid, begun: Instant) -> bool {
        let room = self.followed.len() < FOLLOWED_MAX || self.followed.contains_key(key);
        if room {
            self.followed.insert(key.clone(), (uid.clone(), begun));
        }
        room
    }

    /// How the start of this name has ended, if it is one of ours and has; told once.
    pub fn look(&mut self, key: &InstanceKey, view: &View, now: Instant) -> Option<Ended> {
        let (uid, begun) = self.followed.get(key)?;
        let ended = match view.see(key) {
            Seen::Instance(instance) if instance.uid() == uid => {
                let took = now.saturating_duration_since(*begun);
                end_of(&instance.status, took)?
            }
            Seen::Instance(_) | Seen::Absent | Seen::Foreign => Ended::Stopped,
        };
        self.followed.remove(key);
        Some(ended)
    }
}

fn end_of(status: &InstanceStatus, took: Duration) -> Option<Ended> {
    match status {
        InstanceStatus::Ready { .. } => Some(Ended::Ready(took)),
        InstanceStatus::Failed { finding, .. } => Some(Ended::Failed(finding.reason.clone())),
        InstanceStatus::Starting(finding) if finding.outlook == Outlook::Never => {
            Some(Ended::Failed(finding.reason.clone()))
        }
        InstanceStatus::Starting(_) => None,
        InstanceStatus::Finished(ending) => Some(Ended::Finished(ending.reason)),
        InstanceStatus::Stopping { .. } => Some(Ended::Stopped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::{ConfigMap, Job, Pod, Resource};
    use crate::model::labels;
    use crate::model::names::{AppType, InstanceName};
    use crate::store::{Writer, store};
    use serde_json::{Value, json};

    struct Cluster {
        view: View,
        jobs: Writer<Job>,
        pods: Writer<Pod>,
    }

    impl Cluster {
        fn new(now: Instant) -> Self {
            let (jobs, jobs_seen) = store::new(now);
            let (pods, pods_seen) = store::new(now);
            let (_, config_maps) = store::new::<ConfigMap>(now);
            let view = View {
                config_maps,
                jobs: jobs_seen,
                pods: pods_seen,
                events: crate::store::EventStore::default(),
            };
            Self { view, jobs, pods }
        }

        fn job(&self, uid: &str, status: &Value) {
            let names = json!({labels::INSTANCE_TYPE: "hello", labels::INSTANCE_NAME: "ann"});
            let job = json!({
                "metadata": {"name": "hello-ann", "uid": uid, "resourceVersion": "7", "annotations": names, "labels": names},
                "spec": {"template": {"metadata": {"labels": names}}},
                "status": status,
            });
            let job = Job::decode(job.to_string().as_bytes()).unwrap().unwrap();
            drop(self.jobs.own_write(job));
        }

        fn ready_pod(&self, uid: &str) {
            let pod = json!({
                "metadata": {
                    "name": "hello-ann-x", "uid": "p", "resourceVersion": "8",
                    "ownerReferences": [{"controller": true, "uid": uid, "kind": "Job", "name": "hello-ann"}],
                },
                "status": {"podIP": "127.0.0.9", "conditions": [{"type": "Ready", "status": "True"}]},
            });
            let pod = Pod::decode(pod.to_string().as_bytes()).unwrap().unwrap();
            drop(self.pods.own_write(pod));
        }
    }

    fn ann() -> InstanceKey {
        InstanceKey {
            app_type: AppType::new("hello").unwrap(),
            name: InstanceName::new("ann").unwrap(),
        }
    }

    #[test]
    fn a_start_ends_once_when_its_pod_is_ready() {
        let now = Instant::now();
        let (cluster, mut starts) = (Cluster::new(now), Starts::default());
        cluster.job("u", &json!({}));
        assert!(starts.begin(&ann(), &"u".into(), now));
        let later = now + Duration::from_secs(2);
        assert_eq!(starts.look(&ann(), &cluster.view, later), None);
        cluster.ready_pod("u");
        let ended = starts.look(&ann(), &cluster.view, later);
        assert_eq!(ended, Some(Ended::Ready(Duration::from_secs(2))));
        assert_eq!(starts.look(&ann(), &cluster.view, later), None);
    }

    #[test]
    fn failure_and_deletion_end_a_start_too() {
        let now = Instant::now();
        let (cluster, mut starts) = (Cluster::new(now), Starts::default());
        let failed = json!({"conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"}]});
        cluster.job("u", &failed);
        starts.begin(&ann(), &"u".into(), now);
        let ended = starts.look(&ann(), &cluster.view, now).unwrap();
        assert_eq!(
            (ended.result(), ended.reason()),
            ("failed", "BackoffLimitExceeded")
        );
        starts.begin(&ann(), &"another".into(), now);
        assert_eq!(
            starts.look(&ann(), &cluster.view, now),
            Some(Ended::Stopped)
        );
    }

    #[test]
    fn what_is_followed_is_bounded() {
        let mut starts = Starts::default();
        let key = |number: usize| InstanceKey {
            app_type: AppType::new("hello").unwrap(),
            name: InstanceName::new(&format!("n{number}")).unwrap(),
        };
        let now = Instant::now();
        assert!((0..FOLLOWED_MAX).all(|n| starts.begin(&key(n), &"u".into(), now)));
        assert!(!starts.begin(&key(FOLLOWED_MAX), &"u".into(), now));
        assert!(starts.begin(&key(0), &"v".into(), now));
    }
}
