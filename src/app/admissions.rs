//! Which instances may run where caps hold: the order in which their Jobs were created, and what follows from it
//! for one that waits for its admission.
//!
//! Pure: takes what the watch of Jobs delivers, in its order, and nothing else, so every replica computes the same.
//! Results of own calls must not be fed in: they overtake the watch.
//!
//! A Job's predecessors are those that have not ended when its creation is delivered. It is admitted once fewer of
//! them are left than its cap, and refused once so many of them are admitted; else it waits until more of those
//! before it are decided. The first that is undecided waits for nobody. So never more than the cap run, and nobody
//! is refused while there is a place. A Job that a list has brought while it was undecided has no place in that
//! order until a list of the version of its creation gives it one ([`Admissions::place`]). Until then all others
//! count as its predecessors, which may refuse it for nothing, but never admits one too many.
//!
#![doc = include_str!("caps.md")]

mod decision;

pub use decision::{Admission, Full, Refusal};

use super::keys::key_of;
use crate::kube::types::{Job, Uid};
use crate::kube::watch::StoreEvent;
use crate::model::job::{self, CapScope, Caps};
use crate::model::names::{AppType, InstanceKey};
use crate::model::status::has_job_ended;
use crate::threads::lock;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

/// So many Jobs that wait for the same places are looked at when one of them is decided, the first ones.
const LOOKED_AT_MAX: usize = 512;

/// A Job without a place is given one only if at most so many Jobs that are known by then are later.
const LATER_MAX: usize = 1024;

/// What Jobs a cap counts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of all types.
    All,
    /// Those of a type.
    Type(AppType),
    /// Those of a type and one owner. Those without an owner have one together.
    Owner(AppType, Arc<str>),
}

/// The places that an instance needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its type.
    pub app_type: AppType,
    /// Its owner; empty if it has none.
    pub owner: Arc<str>,
    /// The caps that hold for it.
    pub caps: Caps,
}

impl Claim {
    /// What each of its caps counts, its kind, and the cap.
    pub fn scopes(&self) -> impl Iterator<Item = (Scope, CapScope, u32)> + '_ {
        let caps = self.caps.iter();
        caps.map(|(kind, cap)| (Scope::of(kind, &self.app_type, &self.owner), kind, cap))
    }

    /// Whether one of its caps counts this.
    #[must_use]
    pub fn is_for(&self, scope: &Scope) -> bool {
        match scope {
            Scope::All => self.caps.of_all.is_some(),
            Scope::Type(app_type) => self.caps.of_type.is_some() && *app_type == self.app_type,
            Scope::Owner(app_type, owner) => {
                let is_theirs = *app_type == self.app_type && *owner == self.owner;
                self.caps.per_owner.is_some() && is_theirs
            }
        }
    }
}

impl Scope {
    fn of(kind: CapScope, app_type: &AppType, owner: &Arc<str>) -> Self {
        match kind {
            CapScope::All => Self::All,
            CapScope::Type => Self::Type(app_type.clone()),
            CapScope::Owner => Self::Owner(app_type.clone(), Arc::clone(owner)),
        }
    }
}

/// The Jobs of a scope that have not ended, by their numbers.
#[derive(Debug, Default)]
struct Members {
    /// How many are admitted.
    admitted: usize,
    /// Those of them that were admitted although an undecided one comes before them.
    late: BTreeSet<u64>,
    undecided: BTreeMap<u64, Uid>,
}

impl Members {
    fn admit(&mut self, number: u64) {
        self.admitted += 1;
        if self
            .undecided
            .first_key_value()
            .is_some_and(|(first, _)| *first < number)
        {
            self.late.insert(number);
        }
    }

    /// How many were admitted and are undecided before this one.
    fn before(&self, number: u64) -> (usize, usize) {
        let late = self.late.range(number..).count();
        let waiting = self.undecided.len() - self.undecided.range(number..).count();
        (self.admitted - late, waiting)
    }

    fn leave(&mut self, number: u64, was_admitted: bool) {
        if was_admitted {
            self.admitted -= 1;
            self.late.remove(&number);
        } else {
            self.undecided.remove(&number);
            let first = self.undecided.first_key_value();
            self.late = match first {
                Some((first, _)) => self.late.split_off(first),
                None => BTreeSet::new(),
            };
        }
    }
}

/// The instances of a type that one owner has: they count alike.
#[derive(Debug)]
struct Group {
    app_type: AppType,
    owner: Arc<str>,
}

#[derive(Debug)]
struct Entry {
    group: Arc<Group>,
    /// In the order of their arrival.
    number: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may run, or does.
    Admitted,
    Undecided,
    /// It has ended, or is deleted before it was admitted: it does not count, unless etcd is restored from before.
    Over,
}

/// What is needed of a Job that waits for its admission.
#[derive(Debug)]
struct Undecided {
    key: InstanceKey,
    caps: Caps,
    place: Place,
    /// What its name was reported for.
    reported: Option<Reported>,
}

impl Undecided {
    fn new(job: &Job, key: InstanceKey, place: Place) -> Self {
        Self {
            key,
            caps: Caps::of(job),
            place,
            reported: None,
        }
    }
}

/// Which Jobs are the predecessors of an undecided one.
#[derive(Debug)]
enum Place {
    /// Those with smaller numbers: its creation was delivered by the watch.
    InOrder,
    /// Those with numbers below this one, but for these: a list of the version of its creation does not have them.
    Listed(u64, Vec<Uid>),
    /// All others.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reported {
    WithoutPlace,
    Decidable,
}

/// A list that is being delivered.
#[derive(Debug, Default)]
struct Listing {
    /// Jobs that it has, or that the watch has delivered meanwhile.
    seen: HashSet<Uid>,
    /// Jobs whose end the watch has delivered meanwhile; the list may be older.
    gone: HashSet<Uid>,
}

/// The Jobs of all instances, as caps count them.
#[derive(Debug, Default)]
pub struct Admissions {
    jobs: BTreeMap<Uid, Entry>,
    undecided: HashMap<Uid, Undecided>,
    /// Those of all Jobs, each once.
    groups: HashMap<(AppType, Arc<str>), Arc<Group>>,
    scopes: HashMap<Scope, Members>,
    next: u64,
    listing: Option<Listing>,
    /// Scopes with changes.
    changed: HashSet<Scope>,
    changes: u64,
}

impl Group {
    fn scope(&self, scope: CapScope) -> Scope {
        Scope::of(scope, &self.app_type, &self.owner)
    }

    fn scopes(&self) -> [Scope; 3] {
        CapScope::ALL.map(|scope| self.scope(scope))
    }
}

impl Admissions {
    /// Processes an event of the watch of Jobs, or of a list. Returns the names of Jobs that can be decided now.
    pub fn apply(&mut self, event: &StoreEvent<Job>) -> Vec<InstanceKey> {
        match event {
            StoreEvent::Init => self.listing = Some(Listing::default()),
            StoreEvent::InitApply(job) => {
                let uid = &job.metadata.uid;
                let is_gone = |listing: &Listing| listing.gone.contains(uid);
                if !self.listing.as_ref().is_some_and(is_gone) {
                    self.job(job, false);
                }
            }
            StoreEvent::Apply(job) => self.job(job, self.listing.is_none()),
            StoreEvent::Delete { uid, .. } => {
                self.remove(uid);
                if let Some(listing) = &mut self.listing {
                    listing.gone.insert(uid.clone());
                }
            }
            StoreEvent::InitDone(_) => self.listed(),
            StoreEvent::Progress(_) => {}
        }
        self.decidable()
    }

    /// What is to become of this Job.
    #[must_use]
    pub fn of(&self, uid: &Uid) -> Admission {
        let Some(entry) = self.jobs.get(uid) else {
            return Admission::Wait;
        };
        let Some(undecided) = self.undecided.get(uid) else {
            return Admission::Decided;
        };
        let is_placed = !matches!(undecided.place, Place::Unknown);
        if !is_placed && self.listing.is_some() {
            return Admission::Wait;
        }
        let mut waits = false;
        for (scope, cap) in undecided.caps.iter() {
            let (admitted, waiting) = self.before(entry, &undecided.place, scope);
            let places = usize::try_from(cap).unwrap_or(usize::MAX);
            if admitted >= places {
                return Admission::Refuse(Full {
                    scope,
                    cap,
                    admitted,
                });
            }
            waits |= admitted + waiting >= places;
        }
        match waits {
            true if is_placed => Admission::Wait,
            true => Admission::WaitWithoutPlace,
            false => Admission::Admit,
        }
    }

    /// How many Jobs that this counts are admitted, and how many are undecided.
    #[must_use]
    pub fn count(&self, scope: &Scope) -> (usize, usize) {
        let members = self.scopes.get(scope);
        members.map_or((0, 0), |it| (it.admitted, it.undecided.len()))
    }

    /// Whether the watch has delivered this Job.
    #[must_use]
    pub fn knows(&self, uid: &Uid) -> bool {
        self.jobs.contains_key(uid)
    }

    /// How often what it counts has changed.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// How many are admitted and undecided before this one, of those that the cap counts.
    fn before(&self, entry: &Entry, place: &Place, scope: CapScope) -> (usize, usize) {
        let scope = entry.group.scope(scope);
        let Some(members) = self.scopes.get(&scope) else {
            return (0, 0);
        };
        let (at, later) = match place {
            Place::InOrder => return members.before(entry.number),
            Place::Unknown => return (members.admitted, members.undecided.len() - 1),
            Place::Listed(at, later) => (*at, later),
        };
        let (mut admitted, mut waiting) = members.before(at);
        waiting -= 1;
        for later in later.iter().filter_map(|uid| self.jobs.get(uid)) {
            let is_counted = CapScope::ALL
                .iter()
                .any(|it| later.group.scope(*it) == scope);
            match later.state {
                State::Admitted if is_counted => admitted -= 1,
                State::Undecided if is_counted => waiting -= 1,
                _ => {}
            }
        }
        (admitted, waiting)
    }

    /// Gives a Job that a list has brought its place: these and no others were there when it was created. Returns the
    /// names of Jobs that can be decided now.
    pub fn place(&mut self, uid: &Uid, there: &HashSet<Uid>) -> Vec<InstanceKey> {
        let Some(undecided) = self.undecided.get_mut(uid) else {
            return Vec::new();
        };
        // Without the Job itself the list is of another history. One that is being delivered may bring predecessors.
        let is_open = matches!(undecided.place, Place::Unknown);
        if !is_open || self.listing.is_some() || !there.contains(uid) {
            return Vec::new();
        }
        let jobs = self.jobs.iter();
        let later = jobs.filter(|(uid, it)| it.state != State::Over && !there.contains(uid));
        let later: Vec<Uid> = later
            .map(|(uid, _)| uid.clone())
            .take(LATER_MAX + 1)
            .collect();
        if later.len() <= LATER_MAX {
            undecided.place = Place::Listed(self.next + 1, later);
        }
        let scopes = self.jobs.get(uid).map(|it| it.group.scopes());
        self.changed.extend(scopes.into_iter().flatten());
        self.decidable()
    }

    fn job(&mut self, job: &Job, is_of_watch: bool) {
        let uid = &job.metadata.uid;
        if let Some(listing) = &mut self.listing {
            listing.seen.insert(uid.clone());
        }
        let is_undecided = job::is_undecided(job);
        let is_over = has_job_ended(job) || (is_undecided && job.metadata.is_deleting());
        let is_back = !is_over && !job.metadata.is_deleting();
        let Some(known) = self.jobs.get(uid) else {
            if let Some(key) = key_of(job) {
                self.add(job, key, is_of_watch, is_over);
            }
            return;
        };
        let next = match known.state {
            State::Admitted | State::Undecided if is_over => State::Over,
            State::Undecided if !is_undecided => State::Admitted,
            // etcd was restored from before its end, or before its admission.
            State::Over if is_back && !is_undecided => State::Admitted,
            State::Over | State::Admitted if is_back && is_undecided => State::Undecided,
            _ => return,
        };
        self.leave(uid);
        if let (State::Undecided, Some(key)) = (next, key_of(job)) {
            let undecided = Undecided::new(job, key, Place::Unknown);
            self.undecided.insert(uid.clone(), undecided);
        }
        if let Some(entry) = self.jobs.get_mut(uid) {
            entry.state = next;
        }
        self.enter(uid);
    }

    fn add(&mut self, job: &Job, key: InstanceKey, is_in_order: bool, is_over: bool) {
        let uid = &job.metadata.uid;
        let owner: Arc<str> = job::owner(job).unwrap_or_default().into();
        let of = (key.app_type.clone(), Arc::clone(&owner));
        let group = self.groups.entry(of).or_insert_with(|| {
            let app_type = key.app_type.clone();
            Arc::new(Group { app_type, owner })
        });
        self.next += 1;
        let mut entry = Entry {
            group: Arc::clone(group),
            number: self.next,
            state: State::Admitted,
        };
        if is_over {
            entry.state = State::Over;
        } else if job::is_undecided(job) {
            entry.state = State::Undecided;
            let place = match is_in_order {
                true => Place::InOrder,
                false => Place::Unknown,
            };
            let undecided = Undecided::new(job, key, place);
            self.undecided.insert(uid.clone(), undecided);
        }
        self.jobs.insert(uid.clone(), entry);
        self.enter(uid);
    }

    fn remove(&mut self, uid: &Uid) {
        self.leave(uid);
        if let Some(Entry { group, .. }) = self.jobs.remove(uid) {
            // That of the table, and this one.
            if Arc::strong_count(&group) == 2 {
                self.groups
                    .remove(&(group.app_type.clone(), Arc::clone(&group.owner)));
            }
        }
    }

    /// What the list does not have is gone.
    fn listed(&mut self) {
        let Some(listing) = self.listing.take() else {
            return;
        };
        let known = self.jobs.keys();
        let lost: Vec<Uid> = known
            .filter(|uid| !listing.seen.contains(uid))
            .cloned()
            .collect();
        for uid in lost {
            self.remove(&uid);
        }
        let open = self.undecided.iter();
        let open = open.filter(|(_, it)| matches!(it.place, Place::Unknown));
        let open = open.filter_map(|(uid, _)| self.jobs.get(uid));
        self.changed.extend(open.flat_map(|it| it.group.scopes()));
    }

    /// Counts this Job in its scopes.
    fn enter(&mut self, uid: &Uid) {
        let Some(entry) = self.jobs.get(uid).filter(|it| it.state != State::Over) else {
            return;
        };
        for scope in entry.group.scopes() {
            let members = self.scopes.entry(scope.clone()).or_default();
            if entry.state == State::Admitted {
                members.admit(entry.number);
            } else {
                members.undecided.insert(entry.number, uid.clone());
            }
            self.changed.insert(scope);
        }
    }

    /// No longer counts this Job in its scopes.
    fn leave(&mut self, uid: &Uid) {
        let Some(entry) = self.jobs.get(uid).filter(|it| it.state != State::Over) else {
            return;
        };
        self.undecided.remove(uid);
        for scope in entry.group.scopes() {
            let Some(members) = self.scopes.get_mut(&scope) else {
                continue;
            };
            members.leave(entry.number, entry.state == State::Admitted);
            if members.admitted == 0 && members.undecided.is_empty() {
                self.scopes.remove(&scope);
            }
            self.changed.insert(scope);
        }
    }

    /// The names of Jobs in changed scopes that can be decided, or need a place: each once. While a list is being
    /// delivered there are none.
    fn decidable(&mut self) -> Vec<InstanceKey> {
        self.changes += u64::from(!self.changed.is_empty());
        if self.listing.is_some() {
            return Vec::new();
        }
        let mut waiting = Vec::new();
        for scope in std::mem::take(&mut self.changed) {
            let members = self.scopes.get(&scope);
            let undecided = members.into_iter().flat_map(|it| it.undecided.values());
            waiting.extend(undecided.take(LOOKED_AT_MAX).cloned());
        }
        let mut keys = Vec::new();
        for uid in waiting {
            let reported = match self.of(&uid) {
                Admission::Wait => continue,
                Admission::WaitWithoutPlace => Some(Reported::WithoutPlace),
                _ => Some(Reported::Decidable),
            };
            if let Some(undecided) = self.undecided.get_mut(&uid)
                && undecided.reported < reported
            {
                undecided.reported = reported;
                keys.push(undecided.key.clone());
            }
        }
        keys
    }
}

/// The same for several threads, and who gets the Jobs that can be decided.
#[derive(Default)]
pub struct SharedAdmissions {
    state: Mutex<Admissions>,
    on_decidable: OnceLock<Box<OnDecidable>>,
    starts: [AtomicUsize; 2],
}

/// Takes the names of Jobs that can be decided.
type OnDecidable = dyn Fn(&[InstanceKey]) + Send + Sync;

/// Only the name.
impl fmt::Debug for SharedAdmissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedAdmissions")
    }
}

impl SharedAdmissions {
    /// Passes the names of Jobs that can be decided to this from now on: the first that is set.
    pub fn on_decidable(&self, act: impl Fn(&[InstanceKey]) + Send + Sync + 'static) {
        let _ = self.on_decidable.set(Box::new(act));
    }

    /// [`Admissions::apply`]
    pub fn apply(&self, event: &StoreEvent<Job>) {
        let keys = lock(&self.state).apply(event);
        self.report(&keys);
    }

    /// [`Admissions::place`]
    pub fn place(&self, uid: &Uid, there: &HashSet<Uid>) {
        let keys = lock(&self.state).place(uid, there);
        self.report(&keys);
    }

    fn report(&self, keys: &[InstanceKey]) {
        if let Some(act) = self.on_decidable.get().filter(|_| !keys.is_empty()) {
            act(keys);
        }
    }

    /// [`Admissions::of`]
    #[must_use]
    pub fn of(&self, uid: &Uid) -> Admission {
        lock(&self.state).of(uid)
    }

    /// How many starts of this replica wait for a place, and how many are in progress.
    #[must_use]
    pub fn starts(&self) -> [usize; 2] {
        [0, 1].map(|number| self.starts[number].load(Ordering::Relaxed))
    }

    /// See [`SharedAdmissions::starts`].
    pub fn set_starts(&self, starts: [usize; 2]) {
        for (to, from) in self.starts.iter().zip(starts) {
            to.store(from, Ordering::Relaxed);
        }
    }

    /// What is known now.
    pub fn state(&self) -> MutexGuard<'_, Admissions> {
        lock(&self.state)
    }
}

#[cfg(test)]
mod tests;
