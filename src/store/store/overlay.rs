//! [`Overlay`]: the results of our own calls that the watch has not reached yet.
//!
//! Pure, bounded, and independent of the watch: [`super::layers`], which has both,
//! decides when an entry is dropped.

use crate::kube::types::{Resource, ResourceVersion, Uid};
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// How many objects that our own calls returned are kept above the base.
pub(super) const WRITTEN_MAX: usize = 8192;

/// How many objects that our own calls reported as deleted are remembered.
pub(super) const DELETED_MAX: usize = 1024;

/// Of how many names it is remembered that a read of our own found nothing.
pub(super) const ABSENT_MAX: usize = 1024;

/// Own writes ahead of the watch.
#[derive(Clone, Debug)]
pub(super) struct Overlay<K: Resource> {
    /// Objects that our own calls returned, by name: of each name the newest.
    pub(super) written: Bounded<Box<str>, Arc<K>>,
    /// UIDs of objects that our own calls reported as deleted, and their names. The version of
    /// the deletion is not known: a 404 carries none.
    pub(super) deleted: Bounded<Uid, Box<str>>,
    /// Names without an object at a version that the watch has not reached. Its events about them
    /// up to that version are obsolete.
    pub(super) absent: Bounded<Box<str>, ResourceVersion>,
}

impl<K: Resource> Default for Overlay<K> {
    fn default() -> Self {
        Self {
            written: Bounded::new(WRITTEN_MAX),
            deleted: Bounded::new(DELETED_MAX),
            absent: Bounded::new(ABSENT_MAX),
        }
    }
}

impl<K: Resource> Overlay<K> {
    /// Whether readers see the base as it is.
    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty() && self.deleted.is_empty()
    }

    /// There was nothing of that name at this version.
    pub(super) fn set_absent(&mut self, name: &str, version: &ResourceVersion) {
        let held = self.absent.get(name);
        if held.is_none_or(|held| held.is_before(version)) {
            self.absent.insert(name.into(), version.clone());
        }
    }

    /// Whether this state of an object is from before a version at which there was nothing of its
    /// name.
    pub(super) fn is_over(&self, object: &K) -> bool {
        let metadata = object.metadata();
        let absent = self.absent.get(&*metadata.name);
        absent.is_some_and(|absent| is_until(&metadata.resource_version, absent))
    }

    /// Forgets the absences that a watch at this version has shown.
    pub(super) fn pass_absent(&mut self, version: &ResourceVersion) {
        self.absent.retain(|_, absent| is_ahead(absent, version));
    }

    /// The names of the written objects that a watch at this version has passed.
    pub(super) fn passed(&self, version: &ResourceVersion) -> Vec<Box<str>> {
        let written = self.written.iter();
        let passed =
            written.filter(|(_, own)| !is_ahead(&own.metadata().resource_version, version));
        passed.map(|(name, _)| name.clone()).collect()
    }
}

/// Whether a watch at that version has not reached this one yet. Before the first list it has reached
/// none; versions that cannot be compared count as reached.
pub(super) fn is_ahead(version: &ResourceVersion, watch: &ResourceVersion) -> bool {
    watch.is_empty() || watch.is_before(version)
}

/// Whether a state of this version is known not to be newer than that one.
pub(super) fn is_until(version: &ResourceVersion, last: &ResourceVersion) -> bool {
    version == last || version.is_before(last)
}

/// A map of at most `max` entries; a new one evicts the one inserted longest ago.
#[derive(Clone, Debug)]
pub(super) struct Bounded<N, V> {
    entries: HashMap<N, (u64, V)>,
    /// The entries in order of insertion, oldest first.
    order: BTreeMap<u64, N>,
    inserted: u64,
    evicted: u64,
    max: usize,
}

impl<N: Clone + Eq + Hash, V> Bounded<N, V> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            entries: HashMap::new(),
            order: BTreeMap::new(),
            inserted: 0,
            evicted: 0,
            max,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn get<Q>(&self, name: &Q) -> Option<&V>
    where
        N: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        self.entries.get(name).map(|(_, value)| value)
    }

    /// Number of evicted entries so far.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// All entries, in arbitrary order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&N, &V)> {
        self.entries.iter().map(|(name, (_, value))| (name, value))
    }

    /// Inserts an entry as the newest; returns the evicted entry, if any.
    pub(super) fn insert(&mut self, name: N, value: V) -> Option<(N, V)> {
        self.remove(&name);
        let oldest = if self.entries.len() < self.max {
            None
        } else {
            self.evicted += 1;
            let oldest = self.order.values().next().cloned();
            oldest.and_then(|oldest| Some((oldest.clone(), self.remove(&oldest)?)))
        };
        self.inserted += 1;
        self.order.insert(self.inserted, name.clone());
        self.entries.insert(name, (self.inserted, value));
        oldest
    }

    pub(super) fn remove<Q>(&mut self, name: &Q) -> Option<V>
    where
        N: Borrow<Q>,
        Q: ?Sized + Eq + Hash,
    {
        let (inserted, value) = self.entries.remove(name)?;
        self.order.remove(&inserted);
        Some(value)
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&N, &V) -> bool) {
        let order = &mut self.order;
        self.entries.retain(|name, (inserted, value)| {
            let keeps = keep(name, value);
            if !keeps {
                order.remove(inserted);
            }
            keeps
        });
    }

    /// For tests: exceeds the bound by one.
    #[cfg(test)]
    pub(super) fn break_bound(&mut self) {
        self.max = 0;
    }

    /// Whether the bound holds, and entries and their order are consistent.
    pub(super) fn is_sound(&self) -> bool {
        let in_order = |(name, (inserted, _)): (&N, &(u64, V))| {
            self.order.get(inserted).is_some_and(|other| other == name)
        };
        self.entries.len() <= self.max
            && self.entries.len() == self.order.len()
            && self.entries.iter().all(in_order)
    }
}

#[cfg(test)]
mod tests {
    use super::Bounded;

    #[track_caller]
    fn check(bounded: &Bounded<&str, u32>, expected: &[&str]) {
        assert!(bounded.is_sound());
        let order: Vec<_> = bounded.order.values().copied().collect();
        assert_eq!(order, expected);
    }

    #[test]
    fn the_oldest_is_evicted_and_the_order_survives_removals() {
        let mut bounded = Bounded::new(3);
        for (value, name) in ["a", "b", "c"].into_iter().enumerate() {
            assert_eq!(bounded.insert(name, value as u32), None);
        }
        check(&bounded, &["a", "b", "c"]);
        // Removed and inserted again, `a` is the newest, and is not evicted as the oldest.
        assert_eq!(bounded.remove("a"), Some(0));
        assert_eq!(bounded.insert("a", 7), None);
        check(&bounded, &["b", "c", "a"]);
        assert_eq!(bounded.insert("d", 8), Some(("b", 1)));
        assert_eq!(bounded.get("a"), Some(&7));
        // Replacing an entry evicts nothing.
        assert_eq!(bounded.insert("c", 9), None);
        check(&bounded, &["a", "d", "c"]);
        bounded.retain(|_, value| *value > 7);
        check(&bounded, &["d", "c"]);
        assert_eq!(bounded.evicted(), 1);
    }
}
