//! What this replica remembers of a name beyond what the cache shows now: since when
//! it has seen a finding, how often the name has failed in a row, and which pod of its
//! Job had meta labels last.
//!
//! Pure. Kubernetes gives no timestamp for why a container waits, a failed Job takes its
//! count of failures with it when it is deleted, a pod that is replaced its meta
//! labels, and one that has gone what it said last; these are kept here.
//! What is remembered is bounded by the instances in the cache, for names that
//! have gone by [`GONE_MAX`] and [`GONE_KEPT`], for pods by [`LOST_MAX`] and [`LOST_KEPT`].

mod last_words;

pub use last_words::{LOST_KEPT, LOST_MAX};

use super::cache::Instance;
use crate::kube::types::{Pod, Timestamp, Uid};
use crate::model::job::{JobSettings, LASTED_LONG};
use crate::model::labels::{self, MetaChange};
use crate::model::names::InstanceKey;
use crate::model::status::{self, Budget, Ending, Finding, InstanceStatus, Phase, Prognosis};
use last_words::LastWords;
use std::collections::{BTreeSet, HashMap};
use std::mem::{Discriminant, discriminant};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Names that are remembered after their Job has gone.
pub const GONE_MAX: usize = 10_000;

/// How long a name is remembered after its Job has gone.
pub const GONE_KEPT: Duration = Duration::from_secs(600);

/// How an instance failed, and when it may be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What callers are told.
    pub finding: Finding,
    /// From when a GET replaces it; `None` when only a DELETE ends it.
    pub restart_at: Option<SystemTime>,
}

#[derive(Clone, Debug)]
struct Record {
    uid: Uid,
    ailment: Ailment,
    first_seen: SystemTime,
    failure: Option<Failure>,
    /// Failures in a row that the next Job of this name inherits.
    next_failures: u32,
    gone_at: Option<SystemTime>,
}

/// What a budget runs for. Reasons change to and fro while the trouble is the same:
/// `ErrImagePull` and `ImagePullBackOff` take turns.
type Ailment = (Phase, Discriminant<Prognosis>, Option<(Budget, Duration)>);

fn ailment(finding: &Finding) -> Ailment {
    let runs = match finding.prognosis {
        Prognosis::Retryable { budget, pause, .. } => budget.map(|budget| (budget, pause)),
        Prognosis::AwaitingReason | Prognosis::Terminal => None,
    };
    (finding.phase, discriminant(&finding.prognosis), runs)
}

/// What is remembered, by name.
#[derive(Clone, Debug, Default)]
pub struct History {
    records: HashMap<InstanceKey, Record>,
    /// The names that have gone, and since when.
    gone: BTreeSet<(SystemTime, InstanceKey)>,
    /// By name the Job and that pod of it that had meta labels last.
    labelled: HashMap<InstanceKey, (Uid, Arc<Pod>)>,
    last_words: LastWords,
}

impl History {
    /// Takes note of what the cache shows of a name now.
    pub fn note(
        &mut self,
        key: &InstanceKey,
        seen: Option<&Instance>,
        settings: &JobSettings,
        wall: SystemTime,
    ) {
        self.note_labelled(key, seen);
        self.last_words.note(key, seen, wall);
        let live =
            seen.filter(|instance| !matches!(instance.status, InstanceStatus::Stopping { .. }));
        match live {
            Some(instance) => self.note_live(key, instance, settings, wall),
            None => self.note_gone(key, wall),
        }
    }

    fn note_labelled(&mut self, key: &InstanceKey, seen: Option<&Instance>) {
        let Some(instance) = seen else {
            self.labelled.remove(key);
            return;
        };
        // As long as its successor lacks something, the predecessor is not forgotten.
        if self.inheritance(key, instance).is_some() {
            if let Some(predecessor) = self.predecessor(key, instance) {
                let of_job = (instance.uid().clone(), predecessor);
                self.labelled.insert(key.clone(), of_job);
            }
            return;
        }
        let Some(pod) = &instance.pod else {
            // Its Job has no pod at this moment: the next one inherits.
            if self
                .labelled
                .get(key)
                .is_some_and(|(uid, _)| uid != instance.uid())
            {
                self.labelled.remove(key);
            }
            return;
        };
        let is_bare = labels::meta_labels(&pod.metadata).is_empty();
        if is_bare && instance.predecessor.is_none() {
            self.labelled.remove(key);
        } else {
            let of_job = (instance.uid().clone(), Arc::clone(pod));
            self.labelled.insert(key.clone(), of_job);
        }
    }

    /// The pod whose meta labels the pod of this instance inherits, if there is one.
    fn predecessor(&self, key: &InstanceKey, instance: &Instance) -> Option<Arc<Pod>> {
        let pod = instance.pod.as_ref()?;
        let remembered = self.labelled.get(key);
        remembered
            .filter(|(uid, known)| uid == instance.uid() && known.metadata.uid != pod.metadata.uid)
            .map(|(_, known)| Arc::clone(known))
            .or_else(|| {
                instance
                    .predecessor
                    .clone()
                    .filter(|_| remembered.is_none())
            })
    }

    /// What the pod of this instance lacks of its predecessor's meta labels: a pod that the
    /// Job controller replaces must not lose what callers have attached to the instance.
    #[must_use]
    pub fn inheritance(&self, key: &InstanceKey, instance: &Instance) -> Option<MetaChange> {
        let pod = instance
            .pod
            .as_ref()
            .filter(|pod| !pod.metadata.is_deleting())?;
        let predecessor = self.predecessor(key, instance)?;
        let own = labels::meta_labels(&pod.metadata);
        MetaChange::inheriting(&own, labels::meta_labels(&predecessor.metadata))
    }

    fn note_live(
        &mut self,
        key: &InstanceKey,
        instance: &Instance,
        settings: &JobSettings,
        wall: SystemTime,
    ) {
        let Some(finding) = trouble(&instance.status, settings) else {
            self.forget(key);
            return;
        };
        let before = self
            .records
            .get(key)
            .filter(|record| record.uid == *instance.uid());
        let same = before.filter(|record| record.ailment == ailment(&finding));
        let first_seen = same.map_or(wall, |record| record.first_seen);
        let (failure, next_failures) = failure(instance, finding.clone(), settings, first_seen);
        let record = Record {
            uid: instance.uid().clone(),
            ailment: ailment(&finding),
            first_seen,
            failure,
            next_failures,
            gone_at: None,
        };
        self.forget(key);
        self.records.insert(key.clone(), record);
    }

    fn forget(&mut self, key: &InstanceKey) {
        let gone_at = self.records.remove(key).and_then(|record| record.gone_at);
        if let Some(gone_at) = gone_at {
            self.gone.remove(&(gone_at, key.clone()));
        }
    }

    fn note_gone(&mut self, key: &InstanceKey, wall: SystemTime) {
        self.shed(wall);
        let Some(record) = self.records.get_mut(key) else {
            return;
        };
        if record.gone_at.is_some() {
            return;
        }
        // A deletion before the delay is over is somebody's wish for a fresh start.
        let failure = record.failure.as_ref();
        let restart_at = failure.and_then(|failure| failure.restart_at);
        if restart_at.is_some_and(|restart_at| wall >= restart_at) {
            record.gone_at = Some(wall);
            self.gone.insert((wall, key.clone()));
            self.shed(wall);
        } else {
            self.records.remove(key);
        }
    }

    /// Keeps the names that have gone within their bounds.
    fn shed(&mut self, wall: SystemTime) {
        while let Some((gone_at, key)) = self.gone.first() {
            let age = wall.duration_since(*gone_at).unwrap_or_default();
            if age <= GONE_KEPT && self.gone.len() <= GONE_MAX {
                break;
            }
            let key = key.clone();
            self.forget(&key);
        }
    }

    /// When this finding of this Job was first seen here; `wall` where it is new.
    #[must_use]
    pub fn first_seen(
        &self,
        key: &InstanceKey,
        uid: &Uid,
        finding: &Finding,
        wall: SystemTime,
    ) -> SystemTime {
        self.records
            .get(key)
            .filter(|record| record.uid == *uid && record.ailment == ailment(finding))
            .map_or(wall, |record| record.first_seen)
    }

    /// The failure of this Job, if it has failed.
    #[must_use]
    pub fn failure(&self, key: &InstanceKey, uid: &Uid) -> Option<&Failure> {
        self.records
            .get(key)
            .filter(|record| record.uid == *uid)?
            .failure
            .as_ref()
    }

    /// The pod that says why this instance failed: its own, or the one that did before it had gone.
    #[must_use]
    pub fn witness<'a>(
        &'a self,
        key: &InstanceKey,
        instance: &'a Instance,
    ) -> Option<&'a Arc<Pod>> {
        let own = instance.pod.as_ref();
        own.filter(|pod| status::has_termination_report(pod))
            .or_else(|| self.last_words.of(key, instance.uid()))
            .or(own)
    }

    /// Has an instance that failed tell why, where its pod has gone.
    pub fn recall(&self, key: &InstanceKey, instance: &mut Instance) {
        if matches!(instance.status, InstanceStatus::Failed { .. })
            && let Some(witness) = self.last_words.of(key, instance.uid())
            && !instance
                .pod
                .as_deref()
                .is_some_and(status::has_termination_report)
        {
            instance.status =
                status::with_termination_report(&instance.job, witness, &instance.status);
        }
    }

    /// Failures in a row that a Job of this name carries when it is made now.
    #[must_use]
    pub fn failures_before_new(&self, key: &InstanceKey) -> u32 {
        self.records
            .get(key)
            .map_or(0, |record| record.next_failures)
    }
}

/// What is wrong with an instance, if anything is.
///
/// One that ended well sooner than the restart delay counts as failed: a client
/// that asks again without delay would make a new Job every few seconds.
fn trouble(status: &InstanceStatus, settings: &JobSettings) -> Option<Finding> {
    match status {
        InstanceStatus::Starting(finding) | InstanceStatus::Failed { finding, .. } => {
            Some(finding.clone())
        }
        InstanceStatus::Finished(ending) if is_too_short(ending, settings) => {
            Some(ending.finding())
        }
        InstanceStatus::Finished(_)
        | InstanceStatus::Ready { .. }
        | InstanceStatus::Stopping { .. } => None,
    }
}

fn is_too_short(ending: &Ending, settings: &JobSettings) -> bool {
    let ended_itself = !ending.reached_lifetime();
    ending
        .lasted
        .filter(|_| ended_itself)
        .is_some_and(|lasted| lasted < settings.restart_delay)
}

fn failure(
    instance: &Instance,
    finding: Finding,
    settings: &JobSettings,
    first_seen: SystemTime,
) -> (Option<Failure>, u32) {
    let (at, lasted) = match &instance.status {
        InstanceStatus::Failed { at, lasted, .. } => (*at, *lasted),
        InstanceStatus::Finished(ending) => (ending.at, ending.lasted),
        _ if finding.prognosis == Prognosis::Terminal => (None, None),
        _ => return (None, 0),
    };
    let carried = instance.job.metadata.annotations.get(labels::FAILURES);
    let carried: u32 = carried.and_then(|count| count.parse().ok()).unwrap_or(0);
    let in_a_row = if lasted.is_some_and(|lasted| lasted >= LASTED_LONG) {
        0
    } else {
        carried
    };
    let since = at.map_or(first_seen, Timestamp::system_time);
    let restart_at = since.checked_add(settings.delay_after(in_a_row));
    let restart_at = restart_at.filter(|_| settings.restart_failed);
    (
        Some(Failure {
            finding,
            restart_at,
        }),
        in_a_row.saturating_add(1),
    )
}

#[cfg(test)]
mod tests;
