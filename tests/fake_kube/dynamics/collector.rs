//! The garbage collector (owner references, Foreground, Orphan), the TTL of
//! finished Jobs, and the end of namespaces.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Dynamics, has_condition, owner_key, owners};
use crate::fake_kube::clock::parse_timestamp;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::DeleteOptions;
use crate::fake_kube::cluster::{Cluster, Key, drop_finalizer, has_finalizer, is_deleting, meta};

impl Dynamics {
    /// One step for this object. Returns whether there was one.
    pub(crate) fn collect(&mut self, cluster: &mut Cluster, key: &Key, now: i64) -> bool {
        let Some(object) = cluster.object(key).cloned() else {
            return false;
        };
        match key.0 {
            Resource::Namespaces => return self.collect_namespace(cluster, key, &object),
            Resource::Pods if Self::release_orphan(cluster, key, &object) => return true,
            _ => {}
        }
        if is_deleting(&object) {
            return self.collect_deleting(cluster, key, &object);
        }
        let missing = missing_owners(cluster, key, &object);
        if !missing.is_empty() && missing.len() < owners(&object).len() {
            return cluster.change(key, |object| {
                missing.iter().for_each(|uid| disown(object, uid));
            });
        }
        if !missing.is_empty() {
            let options = DeleteOptions {
                propagation: Some("Background".to_owned()),
                uid: Some(meta(&object, "uid").to_owned()),
                ..DeleteOptions::default()
            };
            return cluster.delete(key, &options).is_ok();
        }
        key.0 == Resource::Jobs && self.expire(cluster, key, &object, now)
    }

    fn collect_deleting(&mut self, cluster: &mut Cluster, key: &Key, object: &Value) -> bool {
        let dependents = self.dependents_of(cluster, meta(object, "uid"));
        if has_finalizer(object, "orphan") {
            for (dependent, _) in &dependents {
                cluster.change(dependent, |d| disown(d, meta(object, "uid")));
            }
            return cluster.change(key, |owner| drop_finalizer(owner, "orphan"));
        }
        if !has_finalizer(object, "foregroundDeletion") {
            return false;
        }
        let blocking: Vec<&(Key, Arc<Value>)> = dependents
            .iter()
            .filter(|(_, d)| blocks(d, meta(object, "uid")))
            .collect();
        if blocking.is_empty() {
            return cluster.change(key, |owner| drop_finalizer(owner, "foregroundDeletion"));
        }
        let mut moved = false;
        for (dependent, _) in blocking.iter().filter(|(_, d)| !is_deleting(d)) {
            let options = DeleteOptions {
                propagation: Some("Background".to_owned()),
                ..DeleteOptions::default()
            };
            moved |= cluster.delete(dependent, &options).is_ok();
        }
        moved
    }

    /// Deletes a finished Job whose TTL has expired.
    fn expire(&mut self, cluster: &mut Cluster, key: &Key, job: &Value, now: i64) -> bool {
        let Some(ttl_secs) = job["spec"]["ttlSecondsAfterFinished"].as_i64() else {
            return false;
        };
        let Some(end) = ended_at(job) else {
            return false;
        };
        if !self.is_due(key, end + ttl_secs * 1000, now) {
            return false;
        }
        let options = DeleteOptions {
            propagation: Some("Foreground".to_owned()),
            uid: Some(meta(job, "uid").to_owned()),
            ..DeleteOptions::default()
        };
        cluster.delete(key, &options).is_ok()
    }

    /// Empties a namespace that is being deleted, then removes it.
    fn collect_namespace(&mut self, cluster: &mut Cluster, key: &Key, object: &Value) -> bool {
        if !is_deleting(object) {
            return false;
        }
        let inside: Vec<Key> = Resource::ALL
            .into_iter()
            .filter(|resource| resource.namespaced())
            .flat_map(|resource| cluster.objects(resource, &key.2))
            .map(|(inner, _)| inner.clone())
            .collect();
        for inner in &inside {
            cluster.change(inner, |object| object["metadata"]["finalizers"] = json!([]));
            cluster.remove(inner);
        }
        cluster.remove(key);
        true
    }
}

/// The UIDs of an object's owners that do not exist.
fn missing_owners(cluster: &Cluster, key: &Key, object: &Value) -> Vec<String> {
    let owners = owners(object).into_iter();
    let is_missing = |owner: &Value| {
        owner_key(owner, &key.1).is_some_and(|owner_key| {
            let found = cluster.object(&owner_key);
            found.is_none_or(|found| found["metadata"]["uid"] != owner["uid"])
        })
    };
    let missing = owners.filter(is_missing);
    missing
        .map(|owner| owner["uid"].as_str().unwrap_or("").to_owned())
        .collect()
}

fn blocks(dependent: &Value, owner_uid: &str) -> bool {
    owners(dependent)
        .iter()
        .any(|o| o["uid"] == owner_uid && o["blockOwnerDeletion"] == true)
}

fn disown(dependent: &mut Value, owner_uid: &str) {
    let Some(meta) = dependent["metadata"].as_object_mut() else {
        return;
    };
    let Some(list) = meta
        .get_mut("ownerReferences")
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    list.retain(|owner| owner["uid"] != owner_uid);
    if list.is_empty() {
        meta.shift_remove("ownerReferences");
    }
}

fn ended_at(job: &Value) -> Option<i64> {
    if !has_condition(job, "Complete") && !has_condition(job, "Failed") {
        return None;
    }
    let conditions = job["status"]["conditions"].as_array()?;
    let last = conditions
        .iter()
        .find(|c| c["type"] == "Complete" || c["type"] == "Failed")?;
    parse_timestamp(last["lastTransitionTime"].as_str()?)
}
