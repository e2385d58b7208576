//! The pure model of a cluster's storage: objects as raw JSON, one revision counter for all kinds,
//! compaction, and a bounded history. Watches and old pages are computed from that history.
//!
//! | submodule | what it contains |
//! |---|---|
//! | `resource` | which resources there are |
//! | `selector` | label and field selectors |
//! | `status` | `Status` objects, with the messages of the real ones |
//! | `validate` | validation of names, labels, Jobs and Pods (422) |
//! | `defaults` | what the API server fills in |
//! | `read` | get, list with pages, watch events |
//! | `patch` | JSON merge patches and JSON patches |
//! | `write` | create, update, patch, delete |
//!
//! What may not live here: sockets, threads, the machine's clock (time comes through [`Clock`]),
//! controllers (they are in `dynamics`), and any type of the service under test. With a shared type
//! a wrong field name would be wrong on both sides.

pub(crate) mod defaults;
pub(crate) mod patch;
pub(crate) mod read;
pub(crate) mod resource;
pub(crate) mod selector;
pub(crate) mod status;
pub(crate) mod validate;
pub(crate) mod write;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::clock::{Clock, timestamp};
use resource::Resource;

/// Where an object lives: resource, namespace (`""` for cluster-wide), name.
pub(crate) type Key = (Resource, String, String);

/// One write, as the history keeps it.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The revision that this write made.
    pub(crate) revision: u64,
    /// The object it was about.
    pub(crate) key: Key,
    /// The object before, if there was one; of a deletion the last state, as its event shows it.
    pub(crate) before: Option<Arc<Value>>,
    /// The object before as lists of that time show it.
    pub(crate) listed: Option<Arc<Value>>,
    /// The object after, if there still is one.
    pub(crate) after: Option<Arc<Value>>,
}

/// A position in the history of a [`Cluster`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    restores: u64,
    revision: u64,
}

/// A copy of what etcd held at one moment.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    revision: u64,
    compacted: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
}

/// The storage.
#[derive(Debug)]
pub(crate) struct Cluster {
    clock: Clock,
    revision: u64,
    compacted: u64,
    /// How often a copy has taken the place of what was stored.
    restores: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Change>,
    history_max: usize,
    uids: u64,
}

impl Cluster {
    /// An empty cluster with the namespaces `default` and `kube-system`. Its history keeps at most
    /// `history_max` writes.
    pub(crate) fn new(clock: Clock, history_max: usize) -> Self {
        let mut cluster = Self {
            clock,
            // Real servers do not start at 1 either, and 0 means "any version".
            revision: 100,
            compacted: 100,
            restores: 0,
            objects: BTreeMap::new(),
            history: VecDeque::new(),
            history_max,
            uids: 0,
        };
        for name in ["default", "kube-system"] {
            cluster.ensure_namespace(name);
        }
        cluster
    }

    /// Creates the namespace unless it exists.
    pub(crate) fn ensure_namespace(&mut self, name: &str) {
        let key = (Resource::Namespaces, String::new(), name.to_owned());
        if !self.objects.contains_key(&key) {
            let body = json!({"metadata": {"name": name}});
            self.create(Resource::Namespaces, "", body, false)
                .expect("a namespace with a valid name can be made");
        }
    }

    /// The clock that timestamps come from.
    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The current time, formatted as in objects.
    pub(crate) fn now(&self) -> String {
        timestamp(self.clock.now_ms())
    }

    /// The version of the newest write.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest version from which a watch can start; a watch from an earlier one
    /// gets 410.
    pub(crate) fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Compacts all history, as etcd does every few minutes.
    pub(crate) fn compact(&mut self) {
        self.history.clear();
        self.compacted = self.revision;
    }

    /// A copy of what is stored now.
    pub(crate) fn back_up(&self) -> Backup {
        Backup {
            revision: self.revision,
            compacted: self.compacted,
            objects: self.objects.clone(),
            history: self.history.clone(),
        }
    }

    /// Takes the place of what is stored. Versions after that of the copy come again, for other changes;
    /// UIDs do not.
    pub(crate) fn restore(&mut self, backup: &Backup) {
        self.revision = backup.revision;
        self.compacted = backup.compacted;
        self.objects.clone_from(&backup.objects);
        self.history.clone_from(&backup.history);
        self.restores += 1;
    }

    /// The present position.
    pub(crate) fn position(&self) -> Position {
        Position {
            restores: self.restores,
            revision: self.revision,
        }
    }

    /// The changes since that position; `None` if they do not lead from there to the present state: after a
    /// compaction, or a restore.
    pub(crate) fn changes_since(
        &self,
        position: Position,
    ) -> Option<impl Iterator<Item = &Change>> {
        let is_known = position.restores == self.restores && position.revision >= self.compacted;
        is_known.then(|| self.changes_after(position.revision))
    }

    /// Increases the revision without a write, as writes of kinds that the fake
    /// does not know (nodes, …) do on a real cluster.
    pub(crate) fn skip_revisions(&mut self, by: u64) {
        self.revision += by;
    }

    /// The object, if it exists.
    pub(crate) fn object(&self, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(key)
    }

    /// All objects of a resource, in one namespace or (`""`) in all.
    pub(crate) fn objects<'a>(
        &'a self,
        resource: Resource,
        namespace: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects
            .range((resource, namespace.to_owned(), String::new())..)
            .take_while(move |((r, ns, _), _)| {
                *r == resource && (namespace.is_empty() || ns == namespace)
            })
    }

    /// The objects of a namespace whose names begin so.
    pub(crate) fn objects_named<'a>(
        &'a self,
        resource: Resource,
        namespace: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a Key, &'a Arc<Value>)> {
        self.objects
            .range((resource, namespace.to_owned(), prefix.to_owned())..)
            .take_while(move |((r, ns, name), _)| {
                *r == resource && ns == namespace && name.starts_with(prefix)
            })
    }

    /// Writes an object and returns it with its new version.
    pub(crate) fn put(&mut self, key: Key, mut object: Value) -> Arc<Value> {
        drop_nulls(&mut object);
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let after = Arc::new(object);
        let before = self.objects.insert(key.clone(), Arc::clone(&after));
        self.remember(Change {
            revision: self.revision,
            key,
            listed: before.clone(),
            before,
            after: Some(Arc::clone(&after)),
        });
        after
    }

    /// Changes an object in place, as a controller would, and returns whether it
    /// changed. A missing or unchanged object does not increase the revision. An
    /// object that is being deleted and loses its last finalizer here is removed.
    pub(crate) fn change(&mut self, key: &Key, edit: impl FnOnce(&mut Value)) -> bool {
        let Some(current) = self.objects.get(key) else {
            return false;
        };
        let mut object = Value::clone(current);
        edit(&mut object);
        drop_nulls(&mut object);
        if object == **current {
            return false;
        }
        if may_be_removed(&object) {
            self.remove_as(key, object);
        } else {
            self.put(key.clone(), object);
        }
        true
    }

    /// Removes an object and returns it as the DELETED event shows it.
    pub(crate) fn remove(&mut self, key: &Key) -> Option<Arc<Value>> {
        let last = Value::clone(self.objects.get(key)?);
        Some(self.remove_as(key, last))
    }

    /// Removes an object; `last` is its last state.
    pub(crate) fn remove_as(&mut self, key: &Key, mut last: Value) -> Arc<Value> {
        self.revision += 1;
        last["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let listed = self.objects.remove(key);
        let last = Arc::new(last);
        self.remember(Change {
            revision: self.revision,
            key: key.clone(),
            before: Some(Arc::clone(&last)),
            listed,
            after: None,
        });
        last
    }

    fn remember(&mut self, change: Change) {
        self.history.push_back(change);
        while self.history.len() > self.history_max {
            if let Some(oldest) = self.history.pop_front() {
                self.compacted = oldest.revision;
            }
        }
    }

    /// The writes after `revision`, oldest first.
    pub(crate) fn changes_after(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Change> {
        let from = self.history.partition_point(|c| c.revision <= revision);
        self.history.range(from..)
    }

    /// A UID that no other object of this cluster has or had.
    pub(crate) fn new_uid(&mut self) -> String {
        self.uids += 1;
        let scattered = scatter(self.uids);
        format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            scattered >> 32,
            (scattered >> 16) & 0xffff,
            scattered & 0xfff,
            (scattered >> 20) & 0xfff,
            self.uids
        )
    }

    /// Five characters for a generated name, new each time.
    pub(crate) fn new_suffix(&mut self) -> String {
        const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.uids += 1;
        let mut rest = scatter(self.uids);
        let mut suffix = String::new();
        for _ in 0..5 {
            let at = usize::try_from(rest % 27).expect("a remainder below 27 fits");
            suffix.push(char::from(ALPHABET[at]));
            rest /= 27;
        }
        suffix
    }
}

/// Removes fields that are null: the real server's types omit them, except a few
/// times for which null means "never".
pub(crate) fn drop_nulls(value: &mut Value) {
    const KEPT: [&str; 3] = ["lastProbeTime", "eventTime", "creationTimestamp"];
    match value {
        Value::Object(map) => {
            map.retain(|key, value| !value.is_null() || KEPT.contains(&key.as_str()));
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Spreads a counter over 64 bits, so that names do not look like a sequence
/// (SplitMix64's finaliser).
pub(crate) fn scatter(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether an object that is being deleted has no finalizers left.
pub(crate) fn may_be_removed(object: &Value) -> bool {
    let meta = &object["metadata"];
    let held = meta["finalizers"].as_array().is_some_and(|f| !f.is_empty());
    let grace = meta["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    meta["deletionTimestamp"].is_string() && !held && grace == 0
}

/// Whether the object has that finalizer.
pub(crate) fn has_finalizer(object: &Value, name: &str) -> bool {
    object["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|all| all.iter().any(|f| f == name))
}

/// Removes a finalizer from an object.
pub(crate) fn drop_finalizer(object: &mut Value, name: &str) {
    let meta = &mut object["metadata"];
    if let Some(all) = meta["finalizers"].as_array_mut() {
        all.retain(|f| f != name);
        if all.is_empty()
            && let Some(meta) = meta.as_object_mut()
        {
            meta.remove("finalizers");
        }
    }
}

/// Adds a finalizer to an object that does not have it.
pub(crate) fn add_finalizer(object: &mut Value, name: &str) {
    if !has_finalizer(object, name) {
        let finalizers = &mut object["metadata"]["finalizers"];
        match finalizers.as_array_mut() {
            Some(all) => all.push(json!(name)),
            None => *finalizers = json!([name]),
        }
    }
}

/// The text at `metadata.<field>`, or nothing.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or("")
}

/// Whether the object is being deleted.
pub(crate) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

#[cfg(test)]
mod tests;
