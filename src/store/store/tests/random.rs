//! A store and an API server of one collection, in random order: lists in pages, also beside an open
//! watch, a watch that lags and loses events, late responses to own calls, and an etcd restored from a
//! backup.
//!
//! After every step, [`Model::expected`] computes what readers must see from the server's history,
//! without the store's own logic. It is the state at the version that the watch has reached, and
//! above it the results of own calls since.

use super::*;
use crate::random::Random;
use std::collections::BTreeMap;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// How many steps a seed makes.
const STEPS: usize = 400;

/// The state at one version: UID and version of each object, by name.
type Moment = BTreeMap<&'static str, (u64, u64)>;

/// What an own call returned.
#[derive(Clone, Debug)]
enum Own {
    Written(&'static str, u64, u64),
    Deleted(&'static str, u64),
    /// A read has found nothing at that version.
    Absent(&'static str, u64),
}

struct Listing {
    at: u64,
    /// What the list shows, and events of the watch since.
    listed: Moment,
    rest: Vec<(&'static str, u64, u64)>,
    began: usize,
    /// The version that the watch had reached when it began.
    seen: Option<u64>,
}

struct Model {
    random: Random,
    writer: Checked,
    store: Store<Pod>,
    /// The state at version 0, 1, 2, …
    history: Vec<Moment>,
    uids: u64,
    /// The version that the watch has reached, once a list was complete.
    seen: Option<u64>,
    /// The state at that version.
    base: Moment,
    listing: Option<Listing>,
    /// Whether etcd has gone back since the last list; until the next list the cache may be wrong.
    restored: bool,
    /// Responses that have not arrived.
    under_way: Vec<Own>,
    /// Responses that have arrived.
    arrived: Vec<Own>,
    /// Of those, the first that counts above the base, and the first deletion that does.
    since: (usize, usize),
    /// The versions that our own calls have made; their events are not lost.
    own: Vec<u64>,
    /// The sum of all changes that were returned.
    mirror: BTreeMap<String, (String, String)>,
    /// The steps so far, printed when a check fails.
    steps: Vec<String>,
}

impl Model {
    fn new(seed: u64) -> Self {
        let (writer, store) = unsynced();
        Self {
            random: Random::new(seed),
            writer,
            store,
            // Version 0 stands for none.
            history: vec![Moment::new(); 2],
            uids: 0,
            seen: None,
            base: Moment::new(),
            listing: None,
            restored: false,
            under_way: Vec::new(),
            arrived: Vec::new(),
            since: (0, 0),
            own: Vec::new(),
            mirror: BTreeMap::new(),
            steps: Vec::new(),
        }
    }

    fn version(&self) -> u64 {
        self.history.len() as u64 - 1
    }

    fn at(&self, version: u64) -> &Moment {
        &self.history[usize::try_from(version).unwrap()]
    }

    /// Something is created, changed or deleted, by us or by others.
    fn write(&mut self) {
        let name = self.random.pick(&NAMES);
        let mut now = self.at(self.version()).clone();
        let version = self.version() + 1;
        let is_own = self.random.below(2) == 0;
        let own = match now.get(name).copied() {
            Some((uid, _)) if self.random.below(3) == 0 => {
                now.remove(name);
                Own::Deleted(name, uid)
            }
            held => {
                self.uids += u64::from(held.is_none());
                let uid = held.map_or(self.uids, |(uid, _)| uid);
                now.insert(name, (uid, version));
                Own::Written(name, uid, version)
            }
        };
        self.history.push(now);
        if is_own {
            self.own.push(version);
            self.under_way.push(own);
        }
    }

    /// A name is read that has no object.
    fn read(&mut self) {
        let name = self.random.pick(&NAMES);
        if !self.at(self.version()).contains_key(name) {
            self.under_way.push(Own::Absent(name, self.version()));
        }
    }

    /// The response to an own call arrives; calls overtake each other.
    fn arrive(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let at = self.random.below(self.under_way.len());
        // An own call reports only the deletion of objects that were known.
        if let Own::Deleted(name, uid) = self.under_way[at]
            && !self.knows(name, uid)
        {
            return;
        }
        let own = self.under_way.swap_remove(at);
        self.arrived.push(own.clone());
        self.steps.push(format!("response: {own:?}"));
        // A read also shows what the watch has lost.
        if let Own::Absent(name, version) = own {
            let is_over = |held: &(u64, u64)| held.1 <= version;
            let listed = self.listing.as_mut().map(|listing| &mut listing.listed);
            for shown in [&mut self.base].into_iter().chain(listed) {
                if shown.get(name).is_some_and(is_over) {
                    shown.remove(name);
                }
            }
        }
        let change = match own {
            Own::Written(name, uid, version) => self.writer.own_write(object(name, uid, version)),
            Own::Deleted(name, uid) => self.writer.own_delete(name, &uid_of(uid)),
            Own::Absent(name, version) => {
                let version = version.to_string();
                self.writer.own_absence(name, &version.as_str().into())
            }
        };
        self.mirror(change);
    }

    /// Whether the watch, or an own call that still counts, has shown that object.
    fn knows(&self, name: &str, uid: u64) -> bool {
        let shown = self.base.get(name);
        let written = self.arrived[self.since.0..].iter().any(|own| match own {
            Own::Written(_, other, version) => *other == uid && Some(*version) > self.seen,
            Own::Deleted(..) | Own::Absent(..) => false,
        });
        written || shown.is_some_and(|(other, _)| *other == uid)
    }

    /// The watch shows the next version, or only that there was one.
    fn watch(&mut self) {
        let Some(seen) = self.seen.filter(|seen| *seen < self.version()) else {
            return;
        };
        if self.restored {
            return;
        }
        let (before, after) = (self.at(seen).clone(), self.at(seen + 1).clone());
        let changed = NAMES
            .into_iter()
            .find(|name| before.get(name) != after.get(name));
        let number = seen + 1;
        let version = number.to_string();
        let is_lost = !self.own.contains(&number) && self.random.below(8) == 0;
        let changed = changed.filter(|_| !is_lost);
        let event = match changed {
            None => StoreEvent::Progress(version.as_str().into()),
            Some(name) => match after.get(name) {
                Some((uid, version)) => StoreEvent::Apply(object(name, *uid, *version)),
                None => StoreEvent::Delete {
                    name: name.into(),
                    uid: uid_of(before[name].0),
                    version: version.as_str().into(),
                },
            },
        };
        if let StoreEvent::Delete { uid, .. } = &event {
            // An own call that has reported the same no longer counts.
            let reports = self.arrived.iter_mut();
            reports.for_each(|own| match own {
                Own::Deleted(_, other) if uid_of(*other) == *uid => *other = 0,
                _ => {}
            });
        }
        self.steps
            .push(format!("watch at {version}: {changed:?} in {after:?}"));
        self.seen = Some(number);
        let listed = self.listing.as_mut().filter(|listing| listing.at < number);
        let listed = listed.map(|listing| &mut listing.listed);
        for shown in [&mut self.base].into_iter().chain(listed) {
            match changed.map(|name| (name, after.get(name))) {
                Some((name, Some(now))) => drop(shown.insert(name, *now)),
                // Of another object of that name the store lacks the deletion.
                Some((name, None)) if shown.get(name).is_some_and(|it| it.0 == before[name].0) => {
                    shown.remove(name);
                }
                _ => {}
            }
        }
        let changes = self.writer.apply(event);
        self.mirror(changes);
    }

    /// A list begins, continues, or is complete.
    fn list(&mut self) {
        let Some(listing) = &mut self.listing else {
            assert!(self.writer.apply(StoreEvent::Init).is_empty());
            let at = self.version();
            let listed = self.at(at).clone();
            self.steps.push(format!("list begins at {at}"));
            let rest = listed.iter();
            self.listing = Some(Listing {
                at,
                rest: rest.map(|(name, held)| (*name, held.0, held.1)).collect(),
                listed,
                began: self.arrived.len(),
                seen: self.seen,
            });
            return;
        };
        if let Some((name, uid, version)) = listing.rest.pop() {
            let event = StoreEvent::InitApply(object(name, uid, version));
            assert!(self.writer.apply(event).is_empty());
            return;
        }
        let (at, began, listed) = (listing.at, listing.began, listing.listed.clone());
        let went_back = listing.seen.is_some_and(|seen| at < seen);
        self.listing = None;
        self.steps.push(format!("list at {at}: {listed:?}"));
        if went_back {
            self.since.0 = began;
        }
        self.since.1 = began;
        self.restored = false;
        self.seen = self
            .seen
            .filter(|seen| *seen > at && !went_back)
            .or(Some(at));
        self.base = listed;
        let done = StoreEvent::InitDone(at.to_string().as_str().into());
        let changes = self.writer.apply(done);
        self.mirror(changes);
    }

    /// etcd is restored from a backup that is older than the cache; no earlier response arrives
    /// afterwards, and the watch ends: a list follows.
    fn restore(&mut self) {
        let Some(seen) = self.seen.and_then(|seen| usize::try_from(seen).ok()) else {
            return;
        };
        if seen < 2 {
            return;
        }
        let back = 1 + self.random.below(seen.min(self.history.len()) - 1);
        self.history.truncate(back + 1);
        self.under_way.clear();
        self.restored = true;
        self.listing = None;
        self.list();
    }

    fn mirror(&mut self, changes: impl IntoIterator<Item = Change<Pod>>) {
        for change in changes {
            let name = change.object().metadata.name.to_string();
            let shown = change.new.map(|new| shown(&new));
            let held = match shown {
                Some(shown) => self.mirror.insert(name, shown),
                None => self.mirror.remove(&name),
            };
            assert_eq!(held, change.old.map(|old| self::shown(&old)));
        }
    }

    /// What readers must see.
    fn expected(&self) -> BTreeMap<String, (String, String)> {
        let mut expected = self.base.clone();
        for own in &self.arrived[self.since.0..] {
            if let Own::Written(name, uid, version) = own
                && self.seen.is_none_or(|seen| seen < *version)
            {
                let held = expected.entry(name).or_insert((*uid, *version));
                *held = if held.1 <= *version {
                    (*uid, *version)
                } else {
                    *held
                };
            }
        }
        for own in &self.arrived[self.since.0..] {
            if let Own::Absent(name, version) = own
                && self.seen.is_none_or(|seen| seen < *version)
                && expected.get(name).is_some_and(|held| held.1 <= *version)
            {
                expected.remove(name);
            }
        }
        for own in &self.arrived[self.since.1..] {
            if let Own::Deleted(name, uid) = own
                && expected.get(name).is_some_and(|held| held.0 == *uid)
            {
                expected.remove(name);
            }
        }
        let text = |(name, (uid, version)): (&str, (u64, u64))| {
            (name.to_owned(), (uid.to_string(), version.to_string()))
        };
        expected.into_iter().map(text).collect()
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..26 => self.write(),
            26..30 => self.read(),
            30..55 => self.arrive(),
            55..85 => self.watch(),
            85..99 if self.listing.is_some() || self.seen.is_none() => self.list(),
            85..87 => self.list(),
            99 if self.random.below(4) == 0 => self.restore(),
            _ => {}
        }
    }

    #[track_caller]
    fn check(&self) {
        let seen = all(&self.store);
        let seen = seen
            .iter()
            .map(|pod| (pod.metadata.name.to_string(), shown(pod)));
        let seen: BTreeMap<_, _> = seen.collect();
        if !self.restored {
            assert_eq!(seen, self.expected());
        }
        assert_eq!(seen, self.mirror);
        assert_eq!(self.store.is_synced(), self.seen.is_some());
    }
}

fn object(name: &str, uid: u64, version: u64) -> Pod {
    pod(name, &uid.to_string(), &version.to_string())
}

fn uid_of(uid: u64) -> Uid {
    uid.to_string().as_str().into()
}

fn shown(pod: &Pod) -> (String, String) {
    let metadata = &pod.metadata;
    (
        metadata.uid.to_string(),
        metadata.resource_version.to_string(),
    )
}

#[test]
fn readers_see_the_watch_and_later_results_of_own_calls() {
    for seed in 0..200 {
        let mut model = Model::new(seed);
        for step in 0..STEPS {
            let checked = std::panic::AssertUnwindSafe(|| {
                model.step();
                model.check();
            });
            if let Err(cause) = std::panic::catch_unwind(checked) {
                eprintln!("{}\nseed {seed}, step {step}", model.steps.join("\n"));
                std::panic::resume_unwind(cause);
            }
        }
    }
}
