//! [`Scanner::check`]: the invariants of a store, for tests and the simulation.
//!
//! It is compiled in every profile, so that tests check the release build, too; the service never
//! calls it, since it reads everything.

use super::{Scanner, State, TEXT_BYTES_MAX};
use crate::kube::types::{Resource, SHORT_BYTES_MAX};
use std::collections::HashSet;
use std::sync::Arc;

impl<K: Resource> Scanner<K> {
    /// Checks the invariants. To be called between two steps; it changes nothing.
    ///
    /// # Errors
    /// A message that names the first broken invariant, and the object.
    pub fn check(&self) -> Result<(), String> {
        let state = self.shared.read();
        if state.synced != self.shared.freshness.is_synced() {
            return Err("readers do not see whether a list was complete".into());
        }
        state.check().map_err(|broken| {
            let version = &state.version;
            format!("{} at version {version}: {broken}", K::COLLECTION.plural)
        })
    }
}

impl<K: Resource> State<K> {
    fn check(&self) -> Result<(), String> {
        self.layers.check(&self.version)?;
        self.check_index()
    }

    /// The index contains exactly the objects that readers see.
    fn check_index(&self) -> Result<(), String> {
        if !self.index.is_sound() {
            return Err("the index is not in order".into());
        }
        let mut names = HashSet::new();
        let (mut with_key, mut text_bytes) = (0, 0);
        for object in self.layers.iter() {
            let name = &object.metadata().name;
            if !names.insert(name) {
                return Err(format!("\"{name}\" is visible twice"));
            }
            if !self
                .layers
                .get(name)
                .is_some_and(|found| Arc::ptr_eq(found, object))
            {
                return Err(format!("\"{name}\" is listed, but not found by its name"));
            }
            text_bytes += object.text_bytes();
            let Some(key) = object.index() else { continue };
            with_key += 1;
            let mut indexed = self.index.get(key);
            if !indexed.any(|indexed| Arc::ptr_eq(indexed, object)) {
                return Err(format!("the index lacks \"{name}\""));
            }
        }
        let counted = self.text_bytes;
        if counted != text_bytes || counted > TEXT_BYTES_MAX + names.len() * SHORT_BYTES_MAX {
            return Err(format!(
                "{counted} bytes of messages are counted, and there are {text_bytes}"
            ));
        }
        if self.index.len() != with_key {
            let indexed = self.index.len();
            return Err(format!("the index has {indexed} objects, not {with_key}"));
        }
        if self.layers.len() != names.len() {
            return Err(format!(
                "the number of objects is wrong: {}",
                self.layers.len()
            ));
        }
        Ok(())
    }
}
