//! [`Index`]: the objects of one kind by a second key (of Jobs the app type, of pods the UID of the
//! controller).
//!
//! Pure. It holds what readers see and nothing else; [`super`] keeps it in step with the layers.

use crate::kube::types::Resource;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

/// The objects by their index key, whose hash stands for it: mostly one has a key to itself (a Job
/// has one pod), and the many of them pay for the few of others.
#[derive(Debug)]
pub(super) struct Index<K> {
    hasher: RandomState,
    single: HashMap<u64, Arc<K>>,
    /// By name.
    several: HashMap<u64, Vec<Arc<K>>>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            single: HashMap::new(),
            several: HashMap::new(),
        }
    }
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

    /// Puts an object in, where it has a key.
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

    /// Takes an object out, which is there if it has a key.
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

    /// How many objects it has.
    pub(super) fn len(&self) -> usize {
        self.single.len() + self.several.values().map(Vec::len).sum::<usize>()
    }

    /// Whether each key is in one of the two maps only, and those that share one are in order.
    pub(super) fn is_sound(&self) -> bool {
        let in_order = |(hash, several): (&u64, &Vec<Arc<K>>)| {
            let names: Vec<_> = several.iter().map(|held| &held.metadata().name).collect();
            !several.is_empty() && names.is_sorted() && !self.single.contains_key(hash)
        };
        self.several.iter().all(in_order)
    }
}
