//! What changes of the stores concern: which names, and which Events are obsolete then.
//!
//! Pure. [`crate::model::status`] interprets the contents of Events.

use super::api_call::GoneJob;
use super::cache::Cache;
use super::coordinator::CacheChange;
use super::keys::{key_of, key_of_pod, own_key_of};
use crate::kube::types::{ConditionType, Event, Job, Pod, RegardingKind, Resource, Uid};
use crate::model::names::{InstanceKey, NameError};
use crate::model::status;
use crate::store::Change;

/// The Job of an instance that a change of the cache removed or replaced.
#[must_use]
pub fn removed(change: &Change<Job>) -> Option<GoneJob> {
    let old = change.old.as_deref()?;
    let uid = &old.metadata.uid;
    let new = change.new.as_ref().map(|job| &job.metadata.uid);
    let key = key_of(old).filter(|_| new != Some(uid))?;
    let uid = uid.clone();
    Some(GoneJob { key, uid })
}

/// The instances that these changes bring, and whose names clients cannot put into URLs, with the names of
/// their Jobs.
pub fn unlisted(changes: &[Change<Job>]) -> impl Iterator<Item = (InstanceKey, &str, NameError)> {
    let new = changes.iter().filter(|change| change.old.is_none());
    new.filter_map(|change| {
        let job = change.new.as_deref()?;
        let key = own_key_of(job)?;
        let error = key.name.check_in_urls().err()?;
        Some((key, &*job.metadata.name, error))
    })
}

/// The cache changes of these Job changes: the old object may have been another instance.
#[must_use]
pub fn changes_of_jobs(changes: &[Change<Job>]) -> Vec<CacheChange> {
    let mut all = Vec::with_capacity(changes.len());
    for change in changes {
        let gone = removed(change).map(|gone| gone.uid);
        let of_old = change.old.as_deref().and_then(key_of);
        let of_new = change.new.as_deref().and_then(key_of);
        let of_new = of_new.filter(|key| of_old.as_ref() != Some(key));
        // Another instance of that Job name says nothing of this one.
        let new = change.new.as_ref().filter(|_| of_new.is_none());
        let last = new.or(change.old.as_ref());
        let ended = last.filter(|job| status::has_job_ended(job)).cloned();
        let deleted = last.and_then(|job| {
            let stamp = job.metadata.deletion_timestamp?;
            Some((job.metadata.uid.clone(), stamp))
        });
        all.extend(of_old.map(|key| CacheChange {
            key,
            gone,
            ended,
            deleted,
        }));
        all.extend(of_new.map(CacheChange::of));
    }
    all
}

/// The cache changes of these pod changes.
#[must_use]
pub fn changes_of_pods(changes: &[Change<Pod>]) -> Vec<CacheChange> {
    let pods = changes.iter().flat_map(|change| [&change.old, &change.new]);
    let keys = pods.flatten().filter_map(|pod| key_of_pod(&pod.metadata));
    let mut all: Vec<CacheChange> = keys.map(CacheChange::of).collect();
    all.dedup();
    all
}

/// The names with a status that these Events may change: those of their Jobs and pods in the cache.
#[must_use]
pub fn changes_of_events(changes: &[Change<Event>], cache: &Cache) -> Vec<CacheChange> {
    let events = changes.iter().filter_map(|change| change.new.as_deref());
    let keys = events.filter_map(|event| key_of_event(event, cache));
    keys.map(CacheChange::of).collect()
}

fn key_of_event(event: &Event, cache: &Cache) -> Option<InstanceKey> {
    let (name, uid) = (&event.regarding_name, &event.regarding_uid);
    match event.regarding_kind {
        RegardingKind::Job => key_of(&*cache.jobs.get(name).filter(|job| is(&**job, uid))?),
        RegardingKind::Pod => {
            let pod = cache.pods.get(name).filter(|pod| is(&**pod, uid))?;
            key_of_pod(&pod.metadata)
        }
        RegardingKind::Other => None,
    }
}

fn is<K: Resource>(object: &K, uid: &Uid) -> bool {
    object.metadata().uid == *uid
}

/// The Jobs with only obsolete Events: those that are gone.
pub fn jobs_past(changes: &[Change<Job>]) -> impl Iterator<Item = &Uid> {
    let gone = changes.iter().filter(|change| change.new.is_none());
    gone.map(|change| &change.object().metadata.uid)
}

/// The objects with only obsolete Events: pods that are gone or ready, and Jobs with a pod that was
/// rejected before and exists now.
pub fn pods_past(changes: &[Change<Pod>]) -> impl Iterator<Item = &Uid> {
    changes.iter().flat_map(|change| {
        let pod = change.object();
        let over = change.new.is_none() || pod.conditions.is_true(ConditionType::Ready);
        let is_new = change.old.is_none();
        let own = Some(&pod.metadata.uid).filter(|_| over);
        own.into_iter()
            .chain(pod.owner_uid.as_ref().filter(|_| is_new))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::{World, decode, key, n1, ready_pod, waiting_pod};
    use serde_json::{Value, json};
    use std::sync::Arc;

    fn event(kind: &str, name: &str, uid: &str) -> Change<Event> {
        let event = json!({
            "metadata": {"name": "e", "uid": "e"}, "reason": "FailedCreate", "message": "m",
            "involvedObject": {"kind": kind, "name": name, "uid": uid},
        });
        Change {
            old: None,
            new: Some(Arc::new(decode(&event))),
        }
    }

    #[test]
    fn an_event_concerns_the_name_of_its_job_or_pod() {
        let mut world = World::new();
        world.job("u1", json!({}));
        let names = json!({
            "config-controller.semafor.ch/instance-type": "scim",
            "config-controller.semafor.ch/instance-name": "n1",
        });
        world.pod("u1", json!({"metadata": {"labels": names}}));
        let keys = |kind, name, uid| -> Vec<InstanceKey> {
            let changes = changes_of_events(&[event(kind, name, uid)], &world.cache);
            changes.into_iter().map(|change| change.key).collect()
        };
        assert_eq!(keys("Job", "scim-n1", "u1"), [n1()]);
        assert_eq!(keys("Pod", "p-u1", "p-u1"), [n1()]);
        // Events of a predecessor, and of another instance.
        assert_eq!(keys("Job", "scim-n1", "u0"), []);
        assert_eq!(keys("Pod", "p-u1", "p-u0"), []);
        assert_eq!(keys("Pod", "other", "p-u1"), []);
    }

    /// `hello`/`x-ann` and `hello-x`/`ann` have one Job name.
    #[test]
    fn the_end_of_an_instance_is_not_that_of_another_with_its_job_name() {
        let mut world = World::new();
        let keys = [key("hello", "x-ann"), key("hello-x", "ann")];
        let ended = json!({"status": {"conditions": [{"type": "Failed", "status": "True"}]}});
        let mut job = |key: &InstanceKey, uid: &str, patch: &Value| -> Arc<Job> {
            Arc::new(decode(&world.job_json(key, uid, patch)))
        };
        let before = job(&keys[0], "u1", &json!({}));
        let after = job(&keys[1], "u2", &ended);
        let changes = changes_of_jobs(&[Change {
            old: Some(before),
            new: Some(Arc::clone(&after)),
        }]);
        assert_eq!(changes[0].key, keys[0]);
        assert_eq!(
            changes[0].gone.as_ref().map(ToString::to_string).as_deref(),
            Some("u1")
        );
        assert!(changes[0].ended.is_none() && changes[0].deleted.is_none());
        assert_eq!(changes[1].key, keys[1]);
        let changes = changes_of_jobs(&[Change {
            old: Some(job(&keys[1], "u2", &json!({}))),
            new: Some(after),
        }]);
        assert_eq!(changes.len(), 1);
        assert!(changes[0].ended.is_some());
    }

    fn pod(patch: &Value) -> Arc<Pod> {
        let mut pod = json!({"metadata": {
            "name": "p", "uid": "p", "ownerReferences": [{"uid": "u1", "controller": true}],
            "labels": {"batch.kubernetes.io/controller-uid": "u1"},
        }});
        crate::app::fixture::merge(&mut pod, patch);
        Arc::new(decode(&pod))
    }

    #[test]
    fn events_of_gone_or_ready_pods_are_obsolete() {
        let waits = pod(&waiting_pod("ContainerCreating"));
        let ready = pod(&ready_pod("10.0.0.1"));
        let past = |old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>| -> Vec<String> {
            let change = Change {
                old: old.cloned(),
                new: new.cloned(),
            };
            pods_past(&[change]).map(ToString::to_string).collect()
        };
        assert_eq!(past(None, Some(&waits)), ["u1"]);
        assert_eq!(past(Some(&waits), Some(&waits)), [""; 0]);
        assert_eq!(past(Some(&waits), Some(&ready)), ["p"]);
        assert_eq!(past(Some(&waits), None), ["p"]);
    }

    #[test]
    fn an_instance_that_is_not_listed_is_reported_once() {
        let mut world = World::new();
        let mut job = |name: &str| -> Arc<Job> {
            let key = key("scim", name);
            Arc::new(decode(&world.job_json(&key, "u1", &json!({}))))
        };
        let (plain, odd) = (job("n1"), job("keep?x"));
        let reports = |old: Option<&Arc<Job>>, new: Option<&Arc<Job>>| -> Vec<String> {
            let change = Change {
                old: old.cloned(),
                new: new.cloned(),
            };
            let reports = unlisted(std::slice::from_ref(&change));
            let lines = reports.map(|(key, job, _)| format!("{key} {job}"));
            lines.collect()
        };
        assert_eq!(reports(None, Some(&plain)), [""; 0]);
        let name = &odd.metadata.name;
        assert_eq!(reports(None, Some(&odd)), [format!("scim/keep?x {name}")]);
        assert_eq!(reports(Some(&odd), Some(&odd)), [""; 0]);
        assert_eq!(reports(Some(&odd), None), [""; 0]);
    }
}
