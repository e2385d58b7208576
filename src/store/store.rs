//! The cache of all objects of one kind, which serves reads.
//!
//! One [`Writer`] side (the reflector's events, and results of our own API calls) and many readers
//! ([`Store`]). Readers see two layers (`layers.rs`): the base has the state of the watch, and the
//! overlay has results of our own calls that the watch has not reached yet. Only this file compares
//! resource versions, to decide which state of an object is newer:
//!
//! - an older state never replaces a newer one of the same object;
//! - readers never see part of a list: it is collected separately and replaces the base at its end;
//! - a complete list replaces everything, except results of our own calls after the list's version;
//! - a list that is older than the cache (etcd was restored from a backup) replaces everything
//!   regardless of versions: only results of our own calls after it had begun are kept;
//! - an own write does not restore an object that the cache has already seen deleted;
//! - where our own read found nothing, the watch restores nothing from before that read.
//!
//! The meaning of objects is not known here, and nothing here waits or calls Kubernetes.

use super::freshness::Freshness;
use crate::kube::types::{Resource, ResourceVersion, SHORT_BYTES_MAX, Uid};
use crate::kube::watch::StoreEvent;
use crate::sorting;
use index::Index;
use layers::{Layers, List};
use overlay::{is_ahead, is_until};
pub use sink::{Sample, Samples, Sink};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How many bytes of messages the objects of one kind may have in all, as
/// [`Resource::text_bytes`] counts them. What comes beyond is shortened: the last lines of some
/// thousand failed apps fit.
pub const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;

mod check;
mod index;
mod layers;
mod overlay;
mod sink;
#[cfg(test)]
mod tests;

/// One object that has changed in the cache.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// Its previous state; `None` when it is new.
    pub old: Option<Arc<K>>,
    /// Its current state; `None` when it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The change from one state to another; `None` where they are the same stored object.
    fn between(old: Option<Arc<K>>, new: Option<Arc<K>>) -> Option<Self> {
        let is_same = match (&old, &new) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        (!is_same).then_some(Self { old, new })
    }

    /// The current or the last state of the object.
    #[must_use]
    pub fn object(&self) -> &Arc<K> {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has an old or a new state")
    }
}

impl<K: Resource> Change<K> {
    /// Objects that are gone come first, then by name.
    fn order(&self) -> (bool, &str) {
        (self.new.is_some(), &self.object().metadata().name)
    }
}

/// Called with each change for readers while the cache is locked: a reader that sees the change also
/// sees what the observer has made of it. It must not read a cache.
pub type Observer<K> = Box<dyn Fn(&Change<K>) + Send + Sync>;

/// Called with each event of the watch or of a list before it is applied, in their order: results of own calls are not
/// among them.
pub type Listener<K> = Box<dyn Fn(&StoreEvent<K>) + Send + Sync>;

/// Reads the cache; clones are cheap and share it.
///
/// Threads that serve requests have no more than this, so nothing here goes through all objects:
///
/// ```compile_fail
/// use config_controller::kube::types::Job;
/// use config_controller::store::Store;
///
/// fn all(store: &Store<Job>) {
///     let _ = store.all();
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Store<K: Resource> {
    shared: Arc<Shared<K>>,
}

/// Goes through all objects of the cache, for threads that may take long: no thread that serves
/// requests. Clones share the cache.
#[derive(Clone, Debug)]
pub struct Scanner<K: Resource> {
    shared: Arc<Shared<K>>,
}

/// Changes the cache; clones are cheap and share it.
///
/// The reflector has one for its events, the executor one for the responses to
/// our own writes.
#[derive(Clone, Debug)]
pub struct Writer<K: Resource> {
    shared: Arc<Shared<K>>,
}

struct Shared<K: Resource> {
    state: RwLock<State<K>>,
    freshness: Freshness,
    observer: OnceLock<Observer<K>>,
    /// How often something has changed for readers.
    changes: AtomicU64,
    listener: OnceLock<Listener<K>>,
}

impl<K: Resource> fmt::Debug for Shared<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("state", &self.state)
            .field("freshness", &self.freshness)
            .finish_non_exhaustive()
    }
}

impl<K: Resource> Shared<K> {
    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and passes what has changed for readers to the observer.
    fn change<C: AsRef<[Change<K>]>>(&self, edit: impl FnOnce(&mut State<K>) -> C) -> C {
        let mut state = self.write();
        let changes = edit(&mut state);
        let has_changed = u64::from(!changes.as_ref().is_empty());
        self.changes.fetch_add(has_changed, Ordering::Relaxed);
        if let Some(observer) = self.observer.get() {
            changes.as_ref().iter().for_each(observer);
        }
        changes
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A new, empty cache that is not synced; its age counts from `now`.
#[must_use]
pub fn new<K: Resource>(now: Instant) -> (Writer<K>, Store<K>) {
    let shared = Arc::new(Shared {
        state: RwLock::new(State::default()),
        freshness: Freshness::new(now),
        observer: OnceLock::new(),
        changes: AtomicU64::new(0),
        listener: OnceLock::new(),
    });
    let writer = Writer {
        shared: shared.clone(),
    };
    (writer, Store { shared })
}

impl<K: Resource> Store<K> {
    fn state(&self) -> RwLockReadGuard<'_, State<K>> {
        self.shared.read()
    }

    /// The object of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<K>> {
        self.state().layers.get(name).cloned()
    }

    /// The objects with that key in the second index (of Jobs: the name of the instance; of pods:
    /// the UID of the controller), by name. There are few: one for each app type, one for each try.
    #[must_use]
    pub fn by_index(&self, key: &K::Index) -> Vec<Arc<K>> {
        self.state().index.get(key).cloned().collect()
    }

    /// How many objects there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.state().layers.len()
    }

    /// Whether there has been a complete list.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.shared.freshness.is_synced()
    }

    /// How old the cache may be: zero while its watch is open and not silent for
    /// [`SILENCE`](crate::kube::watch::SILENCE), else the time since the API server last sent
    /// something.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.shared.freshness.age(now)
    }
}

impl<K: Resource> Scanner<K> {
    /// All objects, by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<K>> {
        let mut all = self.filter(|_| true);
        sorting::sort_by(&mut all, |a, b| a.metadata().name.cmp(&b.metadata().name));
        all
    }

    /// How often something has changed for readers: what was made of all objects is out of date when it differs.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.shared.changes.load(Ordering::Relaxed)
    }

    /// Those for which `is_wanted` holds, in arbitrary order. The cache is locked meanwhile.
    pub fn filter(&self, is_wanted: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let state = self.shared.read();
        let objects = state.layers.iter();
        objects
            .filter(|object| is_wanted(object))
            .cloned()
            .collect()
    }
}

impl<K: Resource> Writer<K> {
    /// A reader of this cache.
    #[must_use]
    pub fn store(&self) -> Store<K> {
        Store {
            shared: self.shared.clone(),
        }
    }

    /// The newest version that is known, from the watch or from own calls.
    #[must_use]
    pub fn version(&self) -> ResourceVersion {
        let state = self.shared.read();
        let own = state.layers.newest_own();
        own.filter(|own| is_ahead(own, &state.version))
            .unwrap_or(&state.version)
            .clone()
    }

    /// Goes through all objects of this cache.
    #[must_use]
    pub fn scanner(&self) -> Scanner<K> {
        Scanner {
            shared: self.shared.clone(),
        }
    }

    /// Passes changes to this observer from now on. There is one for each cache: the first.
    pub fn observe(&self, observer: impl Fn(&Change<K>) + Send + Sync + 'static) {
        let _ = self.shared.observer.set(Box::new(observer));
    }

    /// Passes events of the watch to this listener from now on. There is one for each cache: the first.
    pub fn listen(&self, listener: impl Fn(&StoreEvent<K>) + Send + Sync + 'static) {
        let _ = self.shared.listener.set(Box::new(listener));
    }

    /// Changes at most one object; returns what has changed for readers.
    fn change_one(
        &self,
        edit: impl FnOnce(&mut State<K>) -> Option<Change<K>>,
    ) -> Option<Change<K>> {
        self.shared.change(|state| Changed(edit(state))).0
    }

    /// Applies an object that one of our own calls returned; returns what has changed for readers.
    #[must_use]
    pub fn own_write(&self, object: K) -> Option<Change<K>> {
        if !object.is_ours() {
            return None;
        }
        self.change_one(|state| state.own_result(object, None))
    }

    /// Applies the object that an own read has found at this version; returns what has changed for
    /// readers. A read that is not older than the watch shows also what the watch has lost.
    #[must_use]
    pub fn own_read(&self, object: K, at: &ResourceVersion) -> Option<Change<K>> {
        if !object.is_ours() {
            return None;
        }
        self.change_one(|state| state.own_result(object, Some(at)))
    }

    /// Applies that the object of that name and UID is gone, as one of our own calls
    /// reported; returns what has changed for readers.
    #[must_use]
    pub fn own_delete(&self, name: &str, uid: &Uid) -> Option<Change<K>> {
        self.change_one(|state| {
            if let Some(pending) = &mut state.pending {
                pending.delete(name, uid);
            }
            state.change(name, |layers| layers.delete(name, uid))
        })
    }

    /// Applies the result of our own read that found no object of that name at this version.
    /// Returns the changes for readers.
    #[must_use]
    pub fn own_absence(&self, name: &str, version: &ResourceVersion) -> Option<Change<K>> {
        self.change_one(|state| {
            if let Some(pending) = &mut state.pending {
                pending.absent(name, version);
            }
            let is_ahead = is_ahead(version, &state.version);
            state.change(name, |layers| layers.absent(name, version, is_ahead))
        })
    }
}

/// What has changed of at most one object, as a slice.
struct Changed<K>(Option<Change<K>>);

impl<K> AsRef<[Change<K>]> for Changed<K> {
    fn as_ref(&self) -> &[Change<K>] {
        self.0.as_slice()
    }
}

impl<K: Resource> Sink<K> for Writer<K> {
    fn apply(&self, event: StoreEvent<K>) -> Vec<Change<K>> {
        if let Some(listener) = self.shared.listener.get() {
            listener(&event);
        }
        self.shared.change(|state| {
            let changes = state.event(event);
            if state.synced {
                self.shared.freshness.set_synced();
            }
            changes
        })
    }

    fn contact(&self, now: Instant) {
        self.shared.freshness.contact(now);
    }

    fn watching(&self, open: bool) {
        self.shared.freshness.watching(open);
    }

    fn alive(&self, now: Instant) {
        self.shared.freshness.alive(now);
    }

    fn stale(&self, since: Option<Instant>) {
        self.shared.freshness.stale(since);
    }

    fn newest(&self) -> ResourceVersion {
        self.version()
    }

    fn went_back(&self) {
        self.shared.write().went_back = true;
    }

    fn samples(&self, after: &str) -> Samples {
        let state = self.shared.read();
        let mut samples = Samples::default();
        let (mut newest, mut first, mut next) = (None::<&Arc<K>>, None::<&str>, None::<&str>);
        for object in state.layers.iter() {
            let metadata = object.metadata();
            let version = |object: &Arc<K>| object.metadata().resource_version.number();
            if newest.is_none_or(|newest| version(object) > version(newest)) {
                newest = Some(object);
            }
            let name = &*metadata.name;
            first = Some(first.map_or(name, |first| first.min(name)));
            if name > after {
                next = Some(next.map_or(name, |next| next.min(name)));
            }
        }
        samples.newest = newest.map(|newest| Sample::of(newest.metadata()));
        let next = next.or(first).and_then(|name| state.layers.get(name));
        samples.next = next.map(|next| Sample::of(next.metadata()));
        samples
    }

    fn sample(&self, name: &str) -> Option<Sample> {
        let state = self.shared.read();
        state
            .layers
            .get(name)
            .map(|object| Sample::of(object.metadata()))
    }
}

/// Shortens an object if its messages and these of others are beyond the bound.
fn fit<K: Resource>(mut object: K, others: usize) -> K {
    let own = object.text_bytes();
    if own > SHORT_BYTES_MAX && others + own > TEXT_BYTES_MAX {
        let (kind, name) = (K::COLLECTION.plural, &object.metadata().name);
        log::warn!(
            "shortened the messages of {name}: those of all {kind} have {TEXT_BYTES_MAX} bytes"
        );
        object.shorten();
    }
    object
}

#[derive(Debug, Default)]
struct State<K: Resource> {
    layers: Layers<K>,
    /// Index of the objects that readers see.
    index: Index<K>,
    /// What the messages of the objects that readers see count.
    text_bytes: usize,
    /// The version of the base: it reflects all changes up to this one.
    version: ResourceVersion,
    /// A list that has begun and is not complete.
    pending: Option<List<K>>,
    /// Versions went back, and no list has followed.
    went_back: bool,
    synced: bool,
}

impl<K: Resource> State<K> {
    fn event(&mut self, event: StoreEvent<K>) -> Vec<Change<K>> {
        match event {
            StoreEvent::Init => {
                self.pending = Some(List::begin(&self.version, self.went_back));
            }
            StoreEvent::InitApply(object) => {
                if let Some(pending) = &mut self.pending {
                    let object = fit(object, pending.text_bytes());
                    pending.add(self.layers.intern(object));
                }
            }
            StoreEvent::InitDone(version) => return self.replace(version),
            StoreEvent::Apply(object) => {
                let object = self.layers.intern(self.fit(object));
                if let Some(pending) = &mut self.pending {
                    pending.changed(&object);
                }
                let change = self.change(&object.metadata().name, |layers| {
                    layers.put(object.clone());
                });
                self.advance(&object.metadata().resource_version);
                return change.into_iter().collect();
            }
            StoreEvent::Delete { name, uid, version } => {
                if let Some(pending) = &mut self.pending {
                    pending.removed(&name, &version);
                }
                let change = self.change(&name, |layers| layers.remove(&name, &uid));
                self.advance(&version);
                return change.into_iter().collect();
            }
            StoreEvent::Progress(version) => self.advance(&version),
        }
        Vec::new()
    }

    /// Shortens an object that will replace the one of its name, unless there is room for its messages.
    fn fit(&self, object: K) -> K {
        let old = self.layers.get(&object.metadata().name);
        fit(
            object,
            self.text_bytes - old.map_or(0, |old| old.text_bytes()),
        )
    }

    /// An own call returned this object, as it was at that version, if that is known.
    fn own_result(&mut self, object: K, at: Option<&ResourceVersion>) -> Option<Change<K>> {
        let is_current = at.is_some_and(|at| !at.is_empty() && !at.is_before(&self.version));
        let object = &Arc::new(self.fit(object));
        if let Some(pending) = &mut self.pending {
            pending.write(object.clone());
        }
        let metadata = object.metadata();
        let (name, version) = (&metadata.name, &metadata.resource_version);
        if is_ahead(version, &self.version) {
            return self.change(name, |layers| layers.write(object.clone()));
        }
        // The watch has passed this write. If the object is not in the base, it was deleted since.
        let is_passed = is_until(version, &self.version);
        if is_passed && !is_current && !self.layers.base_holds(name, &metadata.uid) {
            return None;
        }
        self.change(name, |layers| layers.put(object.clone()))
    }

    /// The watch has reached this version; only a list may go back.
    fn advance(&mut self, version: &ResourceVersion) {
        if !version.is_empty() && !version.is_before(&self.version) {
            self.version = version.clone();
            self.layers.pass(version);
        }
    }

    /// A list of this version is complete: it becomes the base.
    fn replace(&mut self, version: ResourceVersion) -> Vec<Change<K>> {
        let Some(list) = self.pending.take() else {
            return Vec::new();
        };
        let went_back = list.went_back(&version);
        let Some(after) = self.layers.after_list(list, &version, &self.version) else {
            return Vec::new();
        };
        let before = std::mem::replace(&mut self.layers, after);
        if went_back || !version.is_before(&self.version) {
            self.version = version;
        }
        self.went_back = false;
        self.synced = true;

        let after = &self.layers;
        let is_lost = |old: &&Arc<K>| after.get(&old.metadata().name).is_none();
        let lost = before.iter().filter(is_lost);
        let lost = lost.filter_map(|old| Change::between(Some(old.clone()), None));
        let came = after.iter().filter_map(|new| {
            let old = before.get(&new.metadata().name).cloned();
            Change::between(old, Some(new.clone()))
        });
        let mut changes: Vec<_> = lost.chain(came).collect();
        sorting::sort_by(&mut changes, |a, b| a.order().cmp(&b.order()));
        changes.iter().for_each(|change| self.reindex(change));
        changes
    }

    /// Changes the layers; only the object of that name may change for readers.
    fn change(&mut self, name: &str, edit: impl FnOnce(&mut Layers<K>)) -> Option<Change<K>> {
        let old = self.layers.get(name).cloned();
        edit(&mut self.layers);
        let new = self.layers.get(name).cloned();
        let change = Change::between(old, new)?;
        self.reindex(&change);
        Some(change)
    }

    fn reindex(&mut self, change: &Change<K>) {
        if let Some(old) = &change.old {
            self.index.remove(old);
            self.text_bytes -= old.text_bytes();
        }
        if let Some(new) = &change.new {
            self.index.add(new);
            self.text_bytes += new.text_bytes();
        }
    }
}
