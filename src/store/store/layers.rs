//! [`Layers`]: the objects of one kind that readers see, in two layers.
//!
//! The *base* is what the watch reports. The [`Overlay`] above it holds what our own
//! calls returned and the watch has not reached yet. Readers see the newer state of
//! the two, unless our own calls reported that very object as deleted.
//!
//! Pure. Nothing else may read or write a layer, so that this rule is in
//! [`Layers::get`] and nowhere else. An entry leaves the overlay into the base (*fold*),
//! which never changes what readers see; or with the whole base, when a list replaces it.

use super::overlay::{Overlay, is_ahead, is_until};
use crate::kube::types::{Resource, ResourceVersion, Uid};
use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Base and overlay; readers see both as one.
#[derive(Debug, Default)]
pub(super) struct Layers<K: Resource> {
    base: HashSet<Named<K>>,
    overlay: Overlay<K>,
}

impl<K: Resource> Layers<K> {
    /// The object of that name, as readers see it.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<K>> {
        let base = self.base.get(name).map(|named| &named.0);
        let newest = self.newest(base, name)?;
        (!self.is_deleted(newest)).then_some(newest)
    }

    /// All objects that readers see, in arbitrary order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        let base = self.base.iter().filter_map(|Named(base)| {
            if self.overlay.is_empty() {
                return Some(base);
            }
            self.newest(Some(base), &base.metadata().name)
        });
        let written = self.overlay.written.iter();
        let above = written.filter(|(name, _)| !self.base.contains::<str>(name));
        base.chain(above.map(|(_, own)| own))
            .filter(|object| !self.is_deleted(object))
    }

    /// How many objects readers see.
    pub(super) fn len(&self) -> usize {
        if self.overlay.is_empty() {
            self.base.len()
        } else {
            self.iter().count()
        }
    }

    fn newest<'a>(&'a self, base: Option<&'a Arc<K>>, name: &str) -> Option<&'a Arc<K>> {
        match (base, self.overlay.written.get(name)) {
            (Some(base), Some(own)) if !is_newer(&**own, &**base) => Some(base),
            (base, own) => own.or(base),
        }
    }

    fn is_deleted(&self, object: &Arc<K>) -> bool {
        self.overlay.deleted.get(&object.metadata().uid).is_some()
    }

    /// The stored object where it is equal, so that memory holds it only once.
    pub(super) fn intern(&self, object: K) -> Arc<K> {
        match self.get(&object.metadata().name) {
            Some(held) if **held == object => held.clone(),
            _ => Arc::new(object),
        }
    }

    /// Puts an object of the watch into the base, unless the base is newer, or a read has found it gone.
    pub(super) fn put(&mut self, object: Arc<K>) {
        let held = self.base.get(&*object.metadata().name);
        if self.overlay.is_over(&object) {
            return;
        }
        if held.is_some_and(|held| !is_newer(&*object, &*held.0)) {
            return;
        }
        if let Some(old) = self.base.replace(Named(object)) {
            self.forget_deletion(&old.0);
        }
    }

    /// The watch reports that this object is gone. No state of it comes after that.
    pub(super) fn remove(&mut self, name: &str, uid: &Uid) {
        let is_it = |object: &Arc<K>| object.metadata().uid == *uid;
        if self.overlay.written.get(name).is_some_and(is_it) {
            self.unwrite(name);
        }
        if self.base_holds(name, uid) {
            self.unbase(name);
        }
    }

    /// Puts an object that an own call returned into the overlay.
    pub(super) fn write(&mut self, object: Arc<K>) {
        let name = object.metadata().name.clone();
        let held = self.overlay.written.get(&*name);
        if self.overlay.is_over(&object) || held.is_some_and(|held| !is_newer(&*object, &**held)) {
            return;
        }
        let old = held.cloned();
        if let Some((_, evicted)) = self.overlay.written.insert(name, object) {
            self.put(evicted);
        }
        if let Some(old) = old {
            self.forget_deletion(&old);
        }
    }

    /// An own call reported that this object is gone. One that neither layer has is ignored: the
    /// watch has shown its deletion already.
    pub(super) fn delete(&mut self, name: &str, uid: &Uid) {
        if !self.holds(name, uid) {
            return;
        }
        let evicted = self.overlay.deleted.insert(uid.clone(), name.into());
        if let Some((uid, name)) = evicted {
            self.fold(&name);
            if self.base_holds(&name, &uid) {
                self.unbase(&name);
            }
        }
    }

    /// Our own read found nothing of that name at this version. States of it that are not newer are
    /// dropped. If `is_ahead`, the watch has not shown that version yet; its events about that name
    /// up to that version are then ignored.
    pub(super) fn absent(&mut self, name: &str, version: &ResourceVersion, is_ahead: bool) {
        if is_ahead {
            self.overlay.set_absent(name, version);
        }
        let is_over = |object: &Arc<K>| !version.is_before(&object.metadata().resource_version);
        if self.overlay.written.get(name).is_some_and(is_over) {
            self.unwrite(name);
        }
        if self.base.get(name).is_some_and(|base| is_over(&base.0)) {
            self.unbase(name);
        }
    }

    /// Drops the entries of the overlay that the watch has passed.
    pub(super) fn pass(&mut self, version: &ResourceVersion) {
        self.overlay.pass_absent(version);
        if self.overlay.written.is_empty() {
            return;
        }
        for name in self.overlay.passed(version) {
            self.fold(&name);
        }
    }

    /// Drops the written object of that name from the overlay. The watch should have shown it. If
    /// an event was lost, it has not; then the base takes it, so that no older state returns.
    fn fold(&mut self, name: &str) {
        if let Some(own) = self.overlay.written.get(name).cloned() {
            self.put(own);
            self.unwrite(name);
        }
    }

    /// The layers after a complete list: the list as base, and above it what it cannot contain. The
    /// watch has `reached` a later version where it was open meanwhile. `None` if the list cannot be
    /// used.
    ///
    /// That is what our own calls have written after the list's version, and what they have
    /// reported as deleted `since` it began. If the list is older than the cache, nothing from before
    /// it began is kept.
    pub(super) fn after_list(
        &self,
        list: List<K>,
        version: &ResourceVersion,
        reached: &ResourceVersion,
    ) -> Option<Self> {
        let went_back = list.went_back(version);
        let (mut listed, mut overlay) = list.complete(version)?;
        let listed_at = version;
        let version = match version.is_before(reached) && !went_back {
            true => reached,
            false => version,
        };
        if !went_back {
            let passed = overlay.written.iter();
            // The watch was to show them after the list's version, and may have lost them.
            let passed = passed.filter(|(name, own)| {
                let of = &own.metadata().resource_version;
                is_ahead(of, listed_at)
                    && !is_ahead(of, version)
                    && self
                        .base
                        .get::<str>(name)
                        .is_some_and(|base| Arc::ptr_eq(&base.0, own))
            });
            for (_, own) in passed {
                add_newer(&mut listed, own.clone());
            }
            overlay.written = self.overlay.written.clone();
            overlay.absent = self.overlay.absent.clone();
        }
        overlay
            .written
            .retain(|_, own| is_ahead(&own.metadata().resource_version, version));
        overlay.pass_absent(version);
        for (name, absent) in overlay.absent.iter() {
            let held = listed.get::<str>(name);
            if held.is_some_and(|held| is_until(&held.0.metadata().resource_version, absent)) {
                listed.take::<str>(name);
            }
        }
        let mut after = Self {
            base: listed,
            overlay: Overlay {
                written: overlay.written,
                absent: overlay.absent,
                ..Overlay::default()
            },
        };
        let mut deleted = overlay.deleted;
        deleted.retain(|uid, name| after.holds(name, uid));
        after.overlay.deleted = deleted;
        Some(after)
    }

    /// The newest version that an own call has shown and the watch has not.
    pub(super) fn newest_own(&self) -> Option<&ResourceVersion> {
        let written = self.overlay.written.iter();
        let written = written.map(|(_, own)| &own.metadata().resource_version);
        let absent = self.overlay.absent.iter().map(|(_, version)| version);
        written.chain(absent).max_by_key(|version| version.number())
    }

    /// Whether one of the layers contains that very object.
    pub(super) fn holds(&self, name: &str, uid: &Uid) -> bool {
        let written = self.overlay.written.get(name);
        self.base_holds(name, uid) || written.is_some_and(|own| own.metadata().uid == *uid)
    }

    /// Whether the watch shows that very object.
    pub(super) fn base_holds(&self, name: &str, uid: &Uid) -> bool {
        let base = self.base.get(name);
        base.is_some_and(|base| base.0.metadata().uid == *uid)
    }

    /// Checks the invariants of both layers, given the version of the base.
    pub(super) fn check(&self, version: &ResourceVersion) -> Result<(), String> {
        let Overlay {
            written,
            deleted,
            absent,
        } = &self.overlay;
        if !written.is_sound() || !deleted.is_sound() || !absent.is_sound() {
            return Err("the overlay exceeds its bounds, or is not in order".into());
        }
        // Entries evicted from the overlay are in the base, ahead of the watch.
        let early = self
            .base
            .iter()
            .find(|Named(base)| is_ahead(&base.metadata().resource_version, version));
        if let Some(Named(base)) = early.filter(|_| written.evicted() == 0) {
            let (name, ahead) = (&base.metadata().name, &base.metadata().resource_version);
            return Err(format!(
                "\"{name}\" is in the base at version {ahead}, of an incomplete list or of a future event"
            ));
        }
        for (name, own) in written.iter() {
            if own.metadata().name != *name {
                return Err(format!("the overlay has another object as \"{name}\""));
            }
            if !is_ahead(&own.metadata().resource_version, version) {
                return Err(format!("the watch has passed the own write of \"{name}\""));
            }
        }
        if let Some((name, _)) = absent.iter().find(|(_, absent)| !is_ahead(absent, version)) {
            return Err(format!("the watch has passed the absence of \"{name}\""));
        }
        let over = self.iter().find(|object| self.overlay.is_over(object));
        if let Some(over) = over {
            let name = &over.metadata().name;
            return Err(format!(
                "\"{name}\" is visible, but a read has found it gone"
            ));
        }
        let kept = deleted.iter().find(|(uid, name)| !self.holds(name, uid));
        if let Some((uid, name)) = kept {
            return Err(format!(
                "the watch has passed the own deletion of \"{name}\" ({uid})"
            ));
        }
        Ok(())
    }

    /// For tests: how many own writes and own deletions the overlay has.
    #[cfg(test)]
    pub(super) fn overlaid(&self) -> (usize, usize) {
        let Overlay {
            written, deleted, ..
        } = &self.overlay;
        (written.iter().count(), deleted.iter().count())
    }

    /// For tests: the overlay, to be broken.
    #[cfg(test)]
    pub(super) fn overlay(&mut self) -> &mut Overlay<K> {
        &mut self.overlay
    }

    /// For tests: puts an object into the base without any check.
    #[cfg(test)]
    pub(super) fn force(&mut self, object: Arc<K>) {
        self.base.replace(Named(object));
    }

    fn unwrite(&mut self, name: &str) {
        if let Some(own) = self.overlay.written.remove(name) {
            self.forget_deletion(&own);
        }
    }

    fn unbase(&mut self, name: &str) {
        if let Some(base) = self.base.take(name) {
            self.forget_deletion(&base.0);
        }
    }

    /// Drops a deletion once no layer has the object that it hides.
    fn forget_deletion(&mut self, object: &Arc<K>) {
        let metadata = object.metadata();
        if !self.overlay.deleted.is_empty() && !self.holds(&metadata.name, &metadata.uid) {
            self.overlay.deleted.remove(&metadata.uid);
        }
    }
}

/// How many objects a watch that is open meanwhile may report; with more, a list is not used.
const REPORTED_MAX: usize = 8192;

/// A list that has begun and is not complete. Readers do not see it.
#[derive(Debug)]
pub(super) struct List<K: Resource> {
    listed: HashSet<Named<K>>,
    /// What their messages count.
    text_bytes: usize,
    /// The version of the base when it began.
    begun_at: ResourceVersion,
    /// Whether versions went back before it began.
    after_going_back: bool,
    /// The results of our own calls since it began.
    since: Overlay<K>,
    /// By name what a watch that is open has reported since it began: its version, and the object unless
    /// that is gone.
    reported: HashMap<Box<str>, (ResourceVersion, Option<Arc<K>>)>,
}

impl<K: Resource> List<K> {
    /// It begins while the base has this version.
    pub(super) fn begin(version: &ResourceVersion, after_going_back: bool) -> Self {
        Self {
            listed: HashSet::new(),
            text_bytes: 0,
            begun_at: version.clone(),
            after_going_back,
            since: Overlay::default(),
            reported: HashMap::new(),
        }
    }

    /// Whether a list of this version is older than the cache was when it began.
    pub(super) fn went_back(&self, version: &ResourceVersion) -> bool {
        self.after_going_back || version.is_before(&self.begun_at)
    }

    /// The list has this object.
    pub(super) fn add(&mut self, object: Arc<K>) {
        self.text_bytes += object.text_bytes();
        self.listed.replace(Named(object));
    }

    /// What the messages of its objects count.
    pub(super) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// The watch reports this object.
    pub(super) fn changed(&mut self, object: &Arc<K>) {
        let metadata = object.metadata();
        let (name, version) = (&metadata.name, &metadata.resource_version);
        self.report(name, version, Some(object.clone()));
    }

    /// The watch reports that an object of this name is gone since this version.
    pub(super) fn removed(&mut self, name: &str, version: &ResourceVersion) {
        self.report(name, version, None);
    }

    fn report(&mut self, name: &str, version: &ResourceVersion, object: Option<Arc<K>>) {
        if self.reported.len() <= REPORTED_MAX {
            self.reported.insert(name.into(), (version.clone(), object));
        }
    }

    /// The objects of a list of this version, and of what the watch has reported since; and the results of
    /// our own calls since it began. `None` if that was too much.
    fn complete(self, version: &ResourceVersion) -> Option<(HashSet<Named<K>>, Overlay<K>)> {
        if self.reported.len() > REPORTED_MAX {
            return None;
        }
        let mut listed = self.listed;
        let later = self.reported.into_iter();
        for (name, (_, object)) in later.filter(|(_, (of, _))| is_ahead(of, version)) {
            match object {
                Some(object) => drop(listed.replace(Named(object))),
                None => drop(listed.take::<str>(&name)),
            }
        }
        Some((listed, self.since))
    }

    /// An own call returned this object.
    pub(super) fn write(&mut self, object: Arc<K>) {
        let name = &object.metadata().name;
        let held = self.since.written.get(&**name);
        if !self.since.is_over(&object) && held.is_none_or(|held| is_newer(&*object, &**held)) {
            self.since.written.insert(name.clone(), object);
        }
    }

    /// A read of our own found nothing of that name at this version.
    pub(super) fn absent(&mut self, name: &str, version: &ResourceVersion) {
        self.since.set_absent(name, version);
        let written = self.since.written.get(name);
        if written.is_some_and(|own| self.since.is_over(own)) {
            self.since.written.remove(name);
        }
    }

    /// An own call reported that this object is gone.
    pub(super) fn delete(&mut self, name: &str, uid: &Uid) {
        self.since.deleted.insert(uid.clone(), name.into());
    }
}

/// Puts an object into a list unless that has a newer state of it.
fn add_newer<K: Resource>(listed: &mut HashSet<Named<K>>, object: Arc<K>) {
    let held = listed.get::<str>(&object.metadata().name);
    if held.is_none_or(|held| is_newer(&*object, &*held.0)) {
        listed.replace(Named(object));
    }
}

/// Whether `new` may replace `held`. If the versions cannot be compared it may, since
/// it arrived later; an equal state may not, since nothing would change.
fn is_newer<K: Resource>(new: &K, held: &K) -> bool {
    let (new, held) = (new.metadata(), held.metadata());
    let older = new.resource_version.is_before(&held.resource_version);
    !older && (new.resource_version != held.resource_version || new.uid != held.uid)
}

/// An object that hashes and compares by its name, so that the name is stored once.
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
