//! What Kubernetes' Events say of objects: for each object and reason the newest sentence.
//!
//! Pure. Other than the stores in [`super::store`] this is no view of all that there is: it is
//! bounded, may lack anything, and is never waited for. Events come and go by the thousand, one
//! a refused pod; of one object and reason only the last one written is of interest.

use super::reflector::Sink;
use super::store::Change;
use crate::kube::types::{Event, EventReason, ResourceVersion, Uid};
use crate::kube::watch::StoreEvent;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

/// How many sentences are kept; those written longest ago are forgotten first.
pub const EVENTS_MAX: usize = 2048;

/// Reads what is known; clones see the same.
#[derive(Clone, Debug, Default)]
pub struct EventStore {
    kept: Arc<RwLock<Kept>>,
}

/// Changes what is known; clones change the same.
#[derive(Clone, Debug)]
pub struct EventWriter {
    kept: Arc<RwLock<Kept>>,
}

/// Nothing known yet.
#[must_use]
pub fn new() -> (EventWriter, EventStore) {
    let store = EventStore::default();
    let writer = EventWriter {
        kept: Arc::clone(&store.kept),
    };
    (writer, store)
}

impl EventStore {
    fn kept(&self) -> RwLockReadGuard<'_, Kept> {
        self.kept.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is said of this object, one for each reason.
    #[must_use]
    pub fn of(&self, uid: &Uid) -> Vec<Arc<Event>> {
        let kept = self.kept();
        let said = kept.objects.get(uid).into_iter().flatten();
        said.map(|said| Arc::clone(&said.event)).collect()
    }

    /// How many sentences are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept().order.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl EventWriter {
    fn kept(&self) -> RwLockWriteGuard<'_, Kept> {
        self.kept.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader of the same.
    #[must_use]
    pub fn store(&self) -> EventStore {
        EventStore {
            kept: Arc::clone(&self.kept),
        }
    }

    /// Forgets all that was said of this object: it is gone, or what was said is over.
    pub fn forget(&self, uid: &Uid) {
        self.kept().forget(uid);
    }
}

impl Sink<Event> for EventWriter {
    fn apply(&self, event: StoreEvent<Event>) -> Vec<Change<Event>> {
        self.kept().event(event)
    }

    // How old this is matters to nobody.
    fn contact(&self, _: Instant) {}

    fn watching(&self, _: bool) {}
}

#[derive(Debug, Default)]
struct Kept {
    objects: HashMap<Uid, Vec<Said>>,
    /// What was written when, oldest first.
    order: BTreeMap<u64, (Uid, EventReason)>,
    written: u64,
    /// Counts the lists: what the last one did not have is gone.
    list: u64,
}

/// The newest Event of one object and reason.
#[derive(Debug)]
struct Said {
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
            StoreEvent::InitDone(_) => self.drop_unlisted(),
            StoreEvent::Delete { uid, .. } => self.drop_event(&uid),
            StoreEvent::Progress(_) => {}
        }
        Vec::new()
    }

    fn put(&mut self, event: Arc<Event>) -> Option<Change<Event>> {
        let said = self.objects.entry(event.regarding_uid.clone()).or_default();
        let held = said
            .iter()
            .position(|said| said.event.reason == event.reason);
        let old = match held {
            Some(at) if said[at].list == self.list && is_older(&event, &said[at].event) => {
                return None;
            }
            Some(at) => Some(said.swap_remove(at)),
            None => None,
        };
        self.written += 1;
        said.push(Said {
            event: Arc::clone(&event),
            written: self.written,
            list: self.list,
        });
        if let Some(old) = &old {
            self.order.remove(&old.written);
        }
        let about = (event.regarding_uid.clone(), event.reason);
        self.order.insert(self.written, about);
        self.shed();
        Some(Change {
            old: old.map(|old| old.event),
            new: Some(event),
        })
    }

    fn shed(&mut self) {
        while self.order.len() > EVENTS_MAX
            && let Some((written, (uid, _))) = self.order.pop_first()
        {
            self.retain_of(&uid, |said| said.written != written);
        }
    }

    fn retain_of(&mut self, uid: &Uid, keep: impl Fn(&Said) -> bool) {
        if let Some(said) = self.objects.get_mut(uid) {
            said.retain(keep);
            if said.is_empty() {
                self.objects.remove(uid);
            }
        }
    }

    fn forget(&mut self, uid: &Uid) {
        for said in self.objects.remove(uid).into_iter().flatten() {
            self.order.remove(&said.written);
        }
    }

    /// What a complete list did not have is gone.
    fn drop_unlisted(&mut self) {
        let (list, order) = (self.list, &mut self.order);
        self.objects.retain(|_, said| {
            said.retain(|said| {
                let listed = said.list == list;
                if !listed {
                    order.remove(&said.written);
                }
                listed
            });
            !said.is_empty()
        });
    }

    /// The Event of that UID is gone: Kubernetes keeps each for an hour.
    fn drop_event(&mut self, event_uid: &Uid) {
        let is_it = |said: &Said| said.event.metadata.uid == *event_uid;
        let about = self.objects.iter().find(|(_, said)| said.iter().any(is_it));
        let Some(uid) = about.map(|(uid, _)| uid.clone()) else {
            return;
        };
        for said in self.objects.get(&uid).into_iter().flatten() {
            if is_it(said) {
                self.order.remove(&said.written);
            }
        }
        self.retain_of(&uid, |said| !is_it(said));
    }
}

/// Whether this was written before that one, as far as that is known.
fn is_older(new: &Event, held: &Event) -> bool {
    let version = |event: &Event| -> ResourceVersion { event.metadata.resource_version.clone() };
    version(new).is_before(&version(held))
}

#[cfg(test)]
mod tests;
