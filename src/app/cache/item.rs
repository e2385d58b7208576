//! [`Cache::item`]: what callers are told of one instance, from the stores.
//!
//! Pure, as all of [`super`]. What the coordinator has found out with time (that a start lasts longer than its
//! budget) is in [`super::index::Verdict`].

use super::{Cache, Instance, Lookup};
use crate::app::index::READY;
use crate::app::instances::Item;
use crate::kube::types::ConditionType;
use crate::model::job::{self, idle_timeout, min_ready};
use crate::model::names::InstanceKey;
use crate::model::status::{Finding, InstanceStatus};

impl Cache {
    /// This instance, if there is one; `revision`: that of its template now, if that is valid.
    #[must_use]
    pub fn item(&self, key: &InstanceKey, revision: Option<&str>) -> Option<Item> {
        let Lookup::Instance(instance) = self.lookup(key) else {
            return None;
        };
        let status = self.place(key, &instance);
        Some(item(key, &instance, status, revision))
    }
}

/// The item of an instance that counts at this place.
fn item(key: &InstanceKey, of: &Instance, status: usize, revision: Option<&str>) -> Item {
    let pod = of.pod.as_deref();
    let ready = || pod.and_then(|pod| pod.conditions.holds(ConditionType::Ready)?.since);
    let finding = match &of.status {
        InstanceStatus::Ready { .. } if status == READY => None,
        InstanceStatus::Ready { .. } => Some(Finding::settling(ready(), min_ready(&of.job))),
        InstanceStatus::Starting(finding) | InstanceStatus::Failed { finding, .. } => {
            Some(finding.clone())
        }
        InstanceStatus::Finished(ending) => Some(ending.finding()),
        InstanceStatus::Stopping { since } => Some(Finding {
            message: "the instance is being stopped, and its pod has not ended yet".into(),
            ..Finding::stopping(*since)
        }),
    };
    let is_stopping = matches!(of.status, InstanceStatus::Stopping { .. });
    let staying = pod.filter(|pod| !is_stopping && !pod.metadata.is_deleting());
    let own = of.job.template_revision();
    Item {
        key: key.clone(),
        uid: of.uid().clone(),
        status,
        since: finding.as_ref().map_or_else(ready, |it| it.since),
        finding,
        start: pod.and_then(|pod| pod.start_time),
        ip: staying.and_then(|pod| pod.pod_ip),
        meta: of.meta(),
        revision: own.map(Into::into),
        is_stale: revision.map(|now| own != Some(now)),
        restarts: pod.map_or(0, |pod| pod.restarts),
        idle_timeout: idle_timeout(&of.job),
        owner: job::owner(&of.job).map(Into::into),
    }
}
