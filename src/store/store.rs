//! All objects of one kind, as last heard from Kubernetes.
//!
//! One [`Writer`] side (the reflector's events, and what our own writes return)
//! and many readers ([`Store`]). Readers never see half a list: it is gathered
//! aside and swapped in at its end. This is the one place that compares resource
//! versions, to decide which state of an object is newer:
//!
//! - an older state never replaces a newer one of the same object;
//! - a complete list replaces everything, except what our own writes returned and
//!   the list cannot know, since it is of a moment before;
//! - a list that goes back behind the cache (an etcd that was restored from a backup)
//!   is right whatever its versions: then only what our own writes returned after
//!   it had begun is kept;
//! - an own write about an object that the cache has already seen go does not
//!   bring it back.

use super::freshness::Freshness;
use crate::kube::types::{Resource, ResourceVersion, Uid};
use crate::kube::watch::StoreEvent;
use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// How many objects that we know to be gone before the watch says so are remembered.
const GONE_MAX: usize = 1024;

/// One object that has changed in the cache.
#[derive(Clone, Debug)]
pub struct Change<K> {
    /// As it was; `None` when it is new.
    pub old: Option<Arc<K>>,
    /// As it is; `None` when it is gone.
    pub new: Option<Arc<K>>,
}

impl<K> Change<K> {
    /// The object as it is, or as it was last.
    #[must_use]
    pub fn object(&self) -> &Arc<K> {
        self.new
            .as_ref()
            .or(self.old.as_ref())
            .expect("a change has an old or a new state")
    }
}

/// Reads the cache; clones are cheap and see the same.
#[derive(Debug)]
pub struct Store<K: Resource> {
    held: Arc<Held<K>>,
}

/// Changes the cache; clones are cheap and change the same.
///
/// The reflector has one for its events; whoever writes to Kubernetes has one
/// for what comes back.
#[derive(Debug)]
pub struct Writer<K: Resource> {
    held: Arc<Held<K>>,
}

#[derive(Debug)]
struct Held<K: Resource> {
    view: RwLock<View<K>>,
    freshness: Freshness,
}

impl<K: Resource> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self {
            held: self.held.clone(),
        }
    }
}

impl<K: Resource> Clone for Writer<K> {
    fn clone(&self) -> Self {
        Self {
            held: self.held.clone(),
        }
    }
}

/// A new, empty view that is not synced; `now` is when it begins to age.
#[must_use]
pub fn new<K: Resource>(now: Instant) -> (Writer<K>, Store<K>) {
    let held = Arc::new(Held {
        view: RwLock::new(View::new()),
        freshness: Freshness::new(now),
    });
    (Writer { held: held.clone() }, Store { held })
}

impl<K: Resource> Store<K> {
    fn view(&self) -> RwLockReadGuard<'_, View<K>> {
        self.held
            .view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The object of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<K>> {
        self.view().objects.get(name).map(|named| named.0.clone())
    }

    /// The objects with that key in the second index (of Jobs: the app type; of
    /// pods: the UID of the controller), by name.
    #[must_use]
    pub fn by_index(&self, key: &K::Index) -> Vec<Arc<K>> {
        let view = self.view();
        let objects = view.index.get(view.hasher.hash_one(key));
        // Another key may have the same hash.
        objects
            .iter()
            .filter(|object| object.index() == Some(key))
            .cloned()
            .collect()
    }

    /// All objects, by name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Arc<K>> {
        let mut all: Vec<_> = self
            .view()
            .objects
            .iter()
            .map(|named| named.0.clone())
            .collect();
        all.sort_unstable_by(|a, b| a.metadata().name.cmp(&b.metadata().name));
        all
    }

    /// Calls `visit` with every object, in no order. The cache is locked meanwhile.
    pub fn for_each(&self, mut visit: impl FnMut(&Arc<K>)) {
        self.view().objects.iter().for_each(|named| visit(&named.0));
    }

    /// How many objects there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view().objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a complete list was seen, ever.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.held.freshness.is_synced()
    }

    /// When Kubernetes was last heard from, by list, event, bookmark, or the
    /// orderly end of a watch; before the first time, when the cache was made.
    #[must_use]
    pub fn last_heard(&self) -> Instant {
        self.held.freshness.last_heard()
    }

    /// How old the cache may be: zero while its watch is open and was heard from
    /// within [`SILENCE`](crate::kube::watch::SILENCE), else the time since it was last heard from.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        self.held.freshness.age(now)
    }
}

impl<K: Resource> Writer<K> {
    fn view(&self) -> RwLockWriteGuard<'_, View<K>> {
        self.held
            .view
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// A reader of this view.
    #[must_use]
    pub fn store(&self) -> Store<K> {
        Store {
            held: self.held.clone(),
        }
    }

    /// Takes what a list or watch says; answers what has changed for readers.
    #[must_use]
    pub fn apply(&self, event: StoreEvent<K>) -> Vec<Change<K>> {
        let mut view = self.view();
        let changes = view.event(event);
        if view.synced {
            self.held.freshness.set_synced();
        }
        changes
    }

    /// Kubernetes was heard from.
    pub fn heard(&self, now: Instant) {
        self.held.freshness.heard(now);
    }

    /// A watch is open, or not any more.
    pub fn watching(&self, open: bool) {
        self.held.freshness.watching(open);
    }

    /// Takes an object that one of our own writes returned; answers whether that
    /// has changed anything for readers.
    #[must_use]
    pub fn own_write(&self, object: K) -> Option<Change<K>> {
        if !object.is_ours() {
            return None;
        }
        let mut view = self.view();
        let object = Arc::new(object);
        view.remember(&object);
        view.own_write(object)
    }

    /// Takes that the object of that name and UID is gone, as one of our own
    /// requests was told; answers whether that has changed anything for readers.
    #[must_use]
    pub fn own_delete(&self, name: &str, uid: &Uid) -> Option<Change<K>> {
        let mut view = self.view();
        view.gone.insert(uid.clone());
        view.own.remove(name);
        if let Some(pending) = &mut view.pending {
            pending.own.remove(name);
            pending.gone.insert(uid.clone());
        }
        view.remove(name, uid)
    }
}

#[derive(Debug)]
struct View<K: Resource> {
    objects: HashSet<Named<K>>,
    /// By the hash of the index key: the keys themselves are in the objects.
    index: Index<K>,
    hasher: RandomState,
    /// Version that the cache reflects: all that happened before is in it.
    version: ResourceVersion,
    /// A list that has begun and is not complete.
    pending: Option<Pending<K>>,
    /// What our own writes returned, as long as the cache has not come up to it: at most one of a name.
    own: BTreeMap<Box<str>, Arc<K>>,
    /// Objects that our own requests were told are gone.
    gone: Gone,
    synced: bool,
}

/// A list on its way, and what our own writes returned since it began.
#[derive(Debug)]
struct Pending<K: Resource> {
    listed: BTreeMap<Box<str>, Arc<K>>,
    own: BTreeMap<Box<str>, Arc<K>>,
    gone: Gone,
}

impl<K: Resource> View<K> {
    fn new() -> Self {
        Self {
            objects: HashSet::new(),
            index: Index::default(),
            hasher: RandomState::new(),
            version: ResourceVersion::default(),
            pending: None,
            own: BTreeMap::new(),
            gone: Gone::default(),
            synced: false,
        }
    }

    fn event(&mut self, event: StoreEvent<K>) -> Vec<Change<K>> {
        match event {
            StoreEvent::Init => {
                let (listed, own) = (BTreeMap::new(), BTreeMap::new());
                self.pending = Some(Pending {
                    listed,
                    own,
                    gone: Gone::default(),
                });
                Vec::new()
            }
            StoreEvent::InitApply(object) => {
                if let Some(pending) = &mut self.pending {
                    pending
                        .listed
                        .insert(object.metadata().name.clone(), Arc::new(object));
                }
                Vec::new()
            }
            StoreEvent::InitDone(version) => self.replace(version),
            StoreEvent::Apply(object) => {
                self.advance(&object.metadata().resource_version);
                let known_gone = self.gone.contains(&object.metadata().uid);
                let object = Some(Arc::new(object)).filter(|_| !known_gone);
                object
                    .and_then(|object| self.put(object))
                    .into_iter()
                    .collect()
            }
            StoreEvent::Delete { name, uid, version } => {
                self.gone.remove(&uid);
                self.advance(&version);
                let held = self.objects.get(&*name).map(|held| held.0.metadata());
                let newer = held.is_some_and(|held| version.is_before(&held.resource_version));
                let removed = if newer {
                    None
                } else {
                    self.remove(&name, &uid)
                };
                removed.into_iter().collect()
            }
            StoreEvent::Progress(version) => {
                self.advance(&version);
                Vec::new()
            }
        }
    }

    /// The watch has come up to this version; only a list may go back.
    fn advance(&mut self, version: &ResourceVersion) {
        if !version.is_before(&self.version) {
            self.version = version.clone();
            self.forget_own();
        }
    }

    /// What the cache has come up to is the watch's to tell from now on.
    fn forget_own(&mut self) {
        let version = &self.version;
        let is_ahead = |own: &Arc<K>| version.is_before(&own.metadata().resource_version);
        self.own.retain(|_, own| is_ahead(own));
    }

    /// Swaps in the list that is complete.
    fn replace(&mut self, version: ResourceVersion) -> Vec<Change<K>> {
        let Some(Pending {
            mut listed,
            mut own,
            gone,
        }) = self.pending.take()
        else {
            return Vec::new();
        };
        let before = std::mem::take(&mut self.own);
        if !version.is_before(&self.version) {
            before.values().for_each(|it| keep_newest(&mut own, it));
        }
        for (name, object) in own {
            let is_newer = match listed.get(&name) {
                Some(listed) => is_newer(&*object, &**listed),
                // Not in the list: made after it, or gone before it was made.
                None => !object.metadata().resource_version.is_before(&version),
            };
            if is_newer {
                self.own.insert(name.clone(), object.clone());
                listed.insert(name, object);
            }
        }
        listed.retain(|_, object| !gone.contains(&object.metadata().uid));
        let mut changes = Vec::new();
        let lost = self
            .objects
            .iter()
            .filter(|held| !listed.contains_key(&held.0.metadata().name));
        let lost: Vec<_> = lost.map(|held| held.0.clone()).collect();
        for object in lost {
            changes.extend(self.remove(&object.metadata().name, &object.metadata().uid));
        }
        for object in listed.into_values() {
            let held = self.objects.get(&*object.metadata().name);
            if !held.is_some_and(|held| is_same(&*held.0, &*object)) {
                changes.push(self.insert(object));
            }
        }
        self.gone = gone;
        self.version = version;
        self.forget_own();
        self.synced = true;
        changes
    }

    /// Keeps what an own write returned for a list that cannot know it.
    fn remember(&mut self, object: &Arc<K>) {
        keep_newest(&mut self.own, object);
        self.forget_own();
        if let Some(pending) = &mut self.pending {
            keep_newest(&mut pending.own, object);
        }
    }

    fn own_write(&mut self, object: Arc<K>) -> Option<Change<K>> {
        let metadata = object.metadata();
        if self.gone.contains(&metadata.uid) {
            return None;
        }
        let held = self.objects.get(&*metadata.name);
        let same_object = held.is_some_and(|held| held.0.metadata().uid == metadata.uid);
        // The cache has come further than this write, and the object is not in
        // it: it has gone since.
        if !same_object && metadata.resource_version.is_before(&self.version) {
            return None;
        }
        self.put(object)
    }

    /// Puts an object in, unless a newer state of it is there.
    fn put(&mut self, object: Arc<K>) -> Option<Change<K>> {
        match self.objects.get(&*object.metadata().name) {
            Some(held) if !is_newer(&*object, &*held.0) => None,
            _ => Some(self.insert(object)),
        }
    }

    fn insert(&mut self, object: Arc<K>) -> Change<K> {
        let name = &*object.metadata().name;
        let old = self.objects.take(name).map(|named| named.0);
        if let Some(old) = &old {
            self.unindex(old);
        }
        if let Some(key) = object.index() {
            let hash = self.hasher.hash_one(key);
            self.index.add(hash, object.clone());
        }
        self.objects.insert(Named(object.clone()));
        Change {
            old,
            new: Some(object),
        }
    }

    /// Takes out the object of that name, if it has that UID.
    fn remove(&mut self, name: &str, uid: &Uid) -> Option<Change<K>> {
        let held = self.objects.get(name)?;
        if held.0.metadata().uid != *uid {
            return None;
        }
        let old = self.objects.take(name)?.0;
        self.unindex(&old);
        Some(Change {
            old: Some(old),
            new: None,
        })
    }

    fn unindex(&mut self, object: &Arc<K>) {
        let Some(key) = object.index() else { return };
        let hash = self.hasher.hash_one(key);
        self.index.remove(hash, &object.metadata().name);
    }
}

/// Whether `new` may replace `held`. Versions that cannot be compared may, since
/// they came later; one and the same state may not, since nothing would change.
fn is_newer<K: Resource>(new: &K, held: &K) -> bool {
    let (new, held) = (new.metadata(), held.metadata());
    let older = new.resource_version.is_before(&held.resource_version);
    !older && (new.resource_version != held.resource_version || new.uid != held.uid)
}

/// Keeps of each name the newest.
fn keep_newest<K: Resource>(kept: &mut BTreeMap<Box<str>, Arc<K>>, object: &Arc<K>) {
    let name = &object.metadata().name;
    if kept
        .get(name)
        .is_none_or(|held| is_newer(&**object, &**held))
    {
        kept.insert(name.clone(), object.clone());
    }
}

/// Whether both are the same state of the same object.
fn is_same<K: Resource>(a: &K, b: &K) -> bool {
    let (a, b) = (a.metadata(), b.metadata());
    a.uid == b.uid && a.resource_version == b.resource_version
}

/// An object, found by its name; the name is not held twice.
#[derive(Debug)]
struct Named<K>(Arc<K>);

impl<K: Resource> Borrow<str> for Named<K> {
    fn borrow(&self) -> &str {
        &self.0.metadata().name
    }
}

impl<K: Resource> Hash for Named<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.metadata().name.hash(state);
    }
}

impl<K: Resource> PartialEq for Named<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0.metadata().name == other.0.metadata().name
    }
}

impl<K: Resource> Eq for Named<K> {}

/// The objects by their index key, whose hash stands for it: mostly one has a key to itself (a Job
/// has one pod), and the many of them pay for the few of others.
#[derive(Debug)]
struct Index<K> {
    single: HashMap<u64, Arc<K>>,
    /// By name.
    several: HashMap<u64, Vec<Arc<K>>>,
}

impl<K> Default for Index<K> {
    fn default() -> Self {
        Self {
            single: HashMap::new(),
            several: HashMap::new(),
        }
    }
}

impl<K: Resource> Index<K> {
    /// Those with that hash, by name.
    fn get(&self, hash: u64) -> &[Arc<K>] {
        match self.several.get(&hash) {
            Some(several) => several,
            None => self.single.get(&hash).map_or(&[], std::slice::from_ref),
        }
    }

    fn add(&mut self, hash: u64, object: Arc<K>) {
        if !self.several.contains_key(&hash) {
            let Some(other) = self.single.remove(&hash) else {
                self.single.insert(hash, object);
                return;
            };
            self.several.insert(hash, vec![other]);
        }
        let several = self.several.entry(hash).or_default();
        let at = several.partition_point(|held| held.metadata().name < object.metadata().name);
        several.insert(at, object);
    }

    /// Takes out the one of that name, which is there.
    fn remove(&mut self, hash: u64, name: &str) {
        let Some(several) = self.several.get_mut(&hash) else {
            self.single.remove(&hash);
            return;
        };
        let at = several.binary_search_by(|held| (*held.metadata().name).cmp(name));
        at.ok().map(|at| several.remove(at));
        if several.is_empty() {
            self.several.remove(&hash);
        }
    }
}

/// UIDs of objects that are gone; the oldest are forgotten first.
#[derive(Debug, Default)]
struct Gone {
    uids: HashSet<Uid>,
    order: VecDeque<Uid>,
}

impl Gone {
    fn contains(&self, uid: &Uid) -> bool {
        self.uids.contains(uid)
    }

    fn insert(&mut self, uid: Uid) {
        if self.uids.insert(uid.clone()) {
            self.order.push_back(uid);
        }
        if self.order.len() > GONE_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }

    fn remove(&mut self, uid: &Uid) {
        // The order keeps it until it is the oldest, which is soon enough.
        self.uids.remove(uid);
    }
}

#[cfg(test)]
mod tests;
