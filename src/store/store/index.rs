//! [`Index`]: the objects of one kind by a second key (of Jobs the name of the instance, of pods the
//! UID of the controller).
//!
//! Pure. It contains exactly the objects that readers see; [`super`] keeps it consistent with the
//! layers.

use crate::kube::types::Resource;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// The objects by the hash of their index key. Most keys have a single object (a Job has one pod),
/// so those take the least memory.
#[derive(Debug, Default)]
pub(super) struct Index<K> {
    hasher: RandomState,
    single: HashMap<u64, Arc<K>>,
    /// By name.
    several: HashMap<u64, Vec<Arc<K>>>,
}

impl<K: Resource> Index<K> {
    /// Those with that key, by name.
    pub(super) fn get<'a>(&'a self, key: &'a K::Index) -> impl Iterator<Item = &'a Arc<K>> {
        let hash = self.hasher.hash_one(key);
        let objects = match self.several.get(&hash) {
            Some(several) => several,
            None => self.single.get(&hash).map_or(&[][..], std::slice::from_ref),
        };
        // Another key may have the same hash.
        objects
            .iter()
            .filter(move |object| object.index() == Some(key))
    }

    /// Adds an object, if it has a key.
    pub(super) fn add(&mut self, object: &Arc<K>) {
        let Some(key) = object.index() else { return };
        let hash = self.hasher.hash_one(key);
        if !self.several.contains_key(&hash) {
            let Some(other) = self.single.remove(&hash) else {
                self.single.insert(hash, object.clone());
                return;
            };
            self.several.insert(hash, vec![other]);
        }
        let several = self.several.entry(hash).or_default();
        let at = several.partition_point(|held| held.metadata().name < object.metadata().name);
        several.insert(at, object.clone());
    }

    /// Removes an object, which is present if it has a key.
    pub(super) fn remove(&mut self, object: &Arc<K>) {
        let Some(key) = object.index() else { return };
        let hash = self.hasher.hash_one(key);
        let Some(several) = self.several.get_mut(&hash) else {
            self.single.remove(&hash);
            return;
        };
        let name = &object.metadata().name;
        let at = several.binary_search_by(|held| held.metadata().name.cmp(name));
        at.ok().map(|at| several.remove(at));
        if several.is_empty() {
            self.several.remove(&hash);
        }
    }

    /// How many objects it contains.
    pub(super) fn len(&self) -> usize {
        self.single.len() + self.several.values().map(Vec::len).sum::<usize>()
    }

    /// Whether each key is in only one of the two maps, and objects that share a key are sorted.
    pub(super) fn is_sound(&self) -> bool {
        let in_order = |(hash, several): (&u64, &Vec<Arc<K>>)| {
            let names: Vec<_> = several.iter().map(|held| &held.metadata().name).collect();
            !several.is_empty() && names.is_sorted() && !self.single.contains_key(hash)
        };
        self.several.iter().all(in_order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::{Pod, Uid};

    fn pod(name: &str) -> Arc<Pod> {
        let mut pod = Pod::default();
        pod.metadata.name = name.into();
        pod.owner_uid = Some("job".into());
        Arc::new(pod)
    }

    fn index() -> (Index<Pod>, u64) {
        let mut index = Index::default();
        index.add(&pod("b"));
        index.add(&pod("a"));
        let hash = index.hasher.hash_one(Uid::from("job"));
        assert!(index.is_sound());
        (index, hash)
    }

    #[test]
    fn an_index_that_is_empty_unsorted_or_ambiguous_is_not_sound() {
        let (mut empty, hash) = index();
        empty.several.insert(hash, Vec::new());
        assert!(!empty.is_sound());
        let (mut unsorted, hash) = index();
        unsorted.several.insert(hash, vec![pod("b"), pod("a")]);
        assert!(!unsorted.is_sound());
        let (mut ambiguous, hash) = index();
        ambiguous.single.insert(hash, pod("c"));
        assert!(!ambiguous.is_sound());
    }
}
