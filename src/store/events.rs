//! Kubernetes Events by object: for each object and reason the newest one.
//!
//! Pure. Unlike the stores in [`super::store`] this is not a complete cache: it is bounded, may lack
//! any Event, and nothing waits for it. A single Job may cause thousands of Events, one for each
//! rejected pod; of one object and reason only the last one written matters.

use super::store::{Change, Sink};
use crate::kube::types::{Event, Uid};
use crate::kube::watch::StoreEvent;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

/// How many Events are kept; those written longest ago are evicted first.
pub const EVENTS_MAX: usize = 2048;

/// Reads the Events; clones share them.
#[derive(Clone, Debug)]
pub struct EventStore {
    kept: Arc<RwLock<Kept>>,
}

/// Changes the Events; clones share them.
#[derive(Clone, Debug, Default)]
pub struct EventWriter {
    kept: Arc<RwLock<Kept>>,
}

impl EventStore {
    fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The Events about this object, one for each reason.
    #[must_use]
    pub fn of(&self, uid: &Uid) -> Vec<Arc<Event>> {
        let kept = self.kept();
        let entries = kept.objects.get(uid).into_iter().flatten();
        entries.map(|entry| Arc::clone(&entry.event)).collect()
    }
}

impl EventWriter {
    fn kept(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader of the same Events.
    #[must_use]
    pub fn store(&self) -> EventStore {
        EventStore {
            kept: Arc::clone(&self.kept),
        }
    }

    /// Drops all Events about this object: it is gone, or they no longer apply.
    pub fn forget(&self, uid: &Uid) {
        self.kept().forget(uid);
    }
}

impl Sink<Event> for EventWriter {
    fn apply(&self, event: StoreEvent<Event>) -> Vec<Change<Event>> {
        self.kept().event(event)
    }

    // The age of these Events is not used.
    fn contact(&self, _: Instant) {}

    fn watching(&self, _: bool) {}
}

#[derive(Debug, Default)]
struct Kept {
    objects: HashMap<Uid, Vec<Entry>>,
    /// The object of each Event by sequence number, oldest first.
    order: BTreeMap<u64, Uid>,
    written: u64,
    /// Number of lists so far: Events that the last list lacks are dropped.
    list: u64,
}

/// The newest Event of one object and reason.
#[derive(Debug)]
struct Entry {
    event: Arc<Event>,
    written: u64,
    list: u64,
}

impl Kept {
    fn event(&mut self, event: StoreEvent<Event>) -> Vec<Change<Event>> {
        match event {
            StoreEvent::Init => self.list += 1,
            StoreEvent::InitApply(event) | StoreEvent::Apply(event) => {
                return self.put(Arc::new(event)).into_iter().collect();
            }
            StoreEvent::InitDone(_) => {
                let list = self.list;
                self.retain(|entry| entry.list == list);
            }
            // It is gone: Kubernetes keeps each Event for an hour.
            StoreEvent::Delete { uid, .. } => {
                self.retain(|entry| entry.event.metadata.uid != uid);
            }
            StoreEvent::Progress(_) => {}
        }
        Vec::new()
    }

    fn put(&mut self, event: Arc<Event>) -> Option<Change<Event>> {
        let entries = self.objects.entry(event.regarding_uid.clone()).or_default();
        let held = entries
            .iter()
            .position(|entry| entry.event.reason == event.reason);
        let old = match held {
            Some(at) if entries[at].list == self.list && is_older(&event, &entries[at].event) => {
                return None;
            }
            Some(at) => Some(entries.swap_remove(at)),
            None => None,
        };
        self.written += 1;
        entries.push(Entry {
            event: Arc::clone(&event),
            written: self.written,
            list: self.list,
        });
        if let Some(old) = &old {
            self.order.remove(&old.written);
        }
        self.order.insert(self.written, event.regarding_uid.clone());
        self.evict();
        Some(Change {
            old: old.map(|old| old.event),
            new: Some(event),
        })
    }

    fn evict(&mut self) {
        while self.order.len() > EVENTS_MAX
            && let Some((written, uid)) = self.order.pop_first()
            && let Some(entries) = self.objects.get_mut(&uid)
        {
            entries.retain(|entry| entry.written != written);
            if entries.is_empty() {
                self.objects.remove(&uid);
            }
        }
    }

    fn forget(&mut self, uid: &Uid) {
        for entry in self.objects.remove(uid).into_iter().flatten() {
            self.order.remove(&entry.written);
        }
    }

    /// Drops all other Events.
    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        let order = &mut self.order;
        self.objects.retain(|_, entries| {
            entries.retain(|entry| {
                let keeps = keep(entry);
                if !keeps {
                    order.remove(&entry.written);
                }
                keeps
            });
            !entries.is_empty()
        });
    }
}

/// Whether `new` was written before `held`, as far as their versions show.
fn is_older(new: &Event, held: &Event) -> bool {
    let (new, held) = (&new.metadata, &held.metadata);
    new.resource_version.is_before(&held.resource_version)
}

#[cfg(test)]
mod tests;
