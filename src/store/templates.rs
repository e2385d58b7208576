//! Bounds the templates that are kept in memory: those of the ConfigMaps that come first by name.
//!
//! That is a rule of what there is alone, so that all replicas offer the same types. The API server
//! lists in the order of names, so the first that does not fit and all after it are left out. Where a
//! change may give others their place, or take it from them, a new list follows.

use super::store::{Change, Sample, Samples, Sink, Store, Writer};
use crate::kube::types::{ConfigMap, Resource as _, ResourceVersion};
use crate::kube::watch::StoreEvent;
use crate::threads::lock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// How many bytes of templates are kept, with the annotations of their ConfigMaps, and
/// [`CONFIG_MAP_BYTES`] for each. Usual templates have a few KB, so that is about a thousand. They are in
/// memory twice, for the store and for the catalog; the rest of the limit in our manifests is for others.
pub const TEMPLATES_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a ConfigMap counts without its templates, in bytes.
pub const CONFIG_MAP_BYTES: usize = 1024;

/// How many templates are kept. The smallest one takes 2.6 KB of memory, and as much for a moment while
/// metrics are rendered; several times that, where its name is long.
pub const TEMPLATES_MAX: usize = 2048;

/// What is wrong where a namespace has these ConfigMaps, by name, and the bound leaves some out: how many are
/// kept, and the sentence.
#[must_use]
pub fn left_out_of<'a>(
    config_maps: impl Iterator<Item = &'a ConfigMap>,
) -> Option<(usize, String)> {
    let (mut tally, mut kept) = (Tally::default(), 0);
    for config_map in config_maps {
        kept += usize::from(tally.admit(config_map));
    }
    let first = tally.ceiling.as_ref()?;
    Some((kept, left_out(tally.left_out, first)))
}

fn left_out(count: u64, first: &str) -> String {
    format!(
        "{count} ConfigMaps with templates, from \"{first}\" on by name, are left out: those before it have all of the {TEMPLATES_BYTES_MAX} bytes or {TEMPLATES_MAX} templates that are kept"
    )
}

/// Writes ConfigMaps to a store, within the bound.
#[derive(Debug)]
pub struct TemplateSink {
    writer: Writer<ConfigMap>,
    store: Store<ConfigMap>,
    state: Mutex<State>,
    /// How many ConfigMaps the last list had beyond the bound.
    left_out: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    kept: Tally,
    /// Of a list that has begun and is not complete.
    listing: Tally,
    needs_list: bool,
}

/// What is kept.
#[derive(Debug, Default)]
struct Tally {
    size: Size,
    /// The first name that is left out.
    ceiling: Option<Box<str>>,
    left_out: u64,
}

impl Tally {
    /// Whether the next ConfigMap of a list is kept.
    fn admit(&mut self, object: &ConfigMap) -> bool {
        let after = self.size.after(Size::default(), Size::of(object));
        let fits = self.ceiling.is_none() && after.fits();
        if fits {
            self.size = after;
        } else {
            self.left_out += 1;
            self.ceiling
                .get_or_insert_with(|| object.metadata.name.clone());
        }
        fits
    }
}

/// What ConfigMaps count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    bytes: usize,
    templates: usize,
}

impl Size {
    /// What one counts.
    #[must_use]
    pub fn of(object: &ConfigMap) -> Self {
        let annotations = object.metadata.annotations.iter();
        let annotations = annotations.map(|(key, value)| key.len() + value.len());
        let data = object.data.iter().map(|(key, text)| key.len() + text.len());
        let unread = object.unread.iter().map(|unread| unread.key.len());
        let texts = annotations.sum::<usize>() + data.sum::<usize>() + unread.sum::<usize>();
        Self {
            bytes: CONFIG_MAP_BYTES + texts,
            templates: object.data.len(),
        }
    }

    /// The size with `new` in the place of `old`.
    #[must_use]
    pub fn after(self, old: Self, new: Self) -> Self {
        Self {
            bytes: self.bytes - old.bytes + new.bytes,
            templates: self.templates - old.templates + new.templates,
        }
    }

    /// Whether as many are kept.
    #[must_use]
    pub fn fits(self) -> bool {
        self.bytes <= TEMPLATES_BYTES_MAX && self.templates <= TEMPLATES_MAX
    }
}

impl TemplateSink {
    /// Writes by that writer; the number of ConfigMaps that are left out can be read from `left_out`.
    #[must_use]
    pub fn new(writer: Writer<ConfigMap>, left_out: Arc<AtomicU64>) -> Self {
        Self {
            store: writer.store(),
            writer,
            state: Mutex::default(),
            left_out,
        }
    }

    /// Whether this change goes to the store; else a list may be needed.
    fn takes(&self, state: &mut State, object: &ConfigMap) -> bool {
        let (name, new) = (&object.metadata.name, Size::of(object));
        let old = self.store.get(name);
        let old = old.map(|known| Size::of(&known)).unwrap_or_default();
        let after = state.kept.size.after(old, new);
        let takes = match &state.kept.ceiling {
            None => after.fits(),
            Some(ceiling) if name > ceiling => return false,
            Some(_) => old == new,
        };
        if takes {
            state.kept.size = after;
        }
        state.needs_list |= !takes;
        takes
    }

    /// A list is complete.
    fn listed(&self, state: &mut State) {
        let before = std::mem::replace(&mut state.kept, std::mem::take(&mut state.listing));
        // A watch that was open meanwhile may have changed what is kept.
        let kept = self.writer.scanner().filter(|_| true);
        let sizes = kept.iter().map(|kept| Size::of(kept));
        state.kept.size = sizes.fold(Size::default(), |all, one| all.after(Size::default(), one));
        let Tally {
            left_out, ceiling, ..
        } = &state.kept;
        self.left_out.store(*left_out, Ordering::Relaxed);
        if before.left_out == *left_out && before.ceiling == *ceiling {
            return;
        }
        match ceiling {
            Some(first) => log::warn!("{}", self::left_out(*left_out, first)),
            None => log::info!("no ConfigMap with templates is left out any longer"),
        }
    }
}

impl Sink<ConfigMap> for TemplateSink {
    fn apply(&self, event: StoreEvent<ConfigMap>) -> Vec<Change<ConfigMap>> {
        let mut state = lock(&self.state);
        match &event {
            StoreEvent::Init => {
                state.listing = Tally::default();
                state.needs_list = false;
            }
            StoreEvent::InitApply(object) => {
                if !state.listing.admit(object) {
                    return Vec::new();
                }
            }
            StoreEvent::InitDone(_) => {
                let changes = self.writer.apply(event);
                self.listed(&mut state);
                return changes;
            }
            StoreEvent::Apply(object) => {
                if !self.takes(&mut state, object) {
                    return Vec::new();
                }
            }
            StoreEvent::Delete { name, uid, .. } => {
                let known = self.store.get(name);
                let gone = known.filter(|known| known.metadata().uid == *uid);
                let gone = gone.as_deref().map(Size::of).unwrap_or_default();
                state.kept.size = state.kept.size.after(gone, Size::default());
                let ceiling = state.kept.ceiling.as_ref();
                state.needs_list |= ceiling.is_some_and(|ceiling| name <= ceiling);
            }
            StoreEvent::Progress(_) => {}
        }
        self.writer.apply(event)
    }

    fn contact(&self, now: Instant) {
        self.writer.contact(now);
    }

    fn watching(&self, open: bool) {
        self.writer.watching(open);
    }

    fn alive(&self, now: Instant) {
        self.writer.alive(now);
    }

    fn stale(&self, since: Option<Instant>) {
        self.writer.stale(since);
    }

    fn newest(&self) -> ResourceVersion {
        self.writer.newest()
    }

    fn went_back(&self) {
        self.writer.went_back();
    }

    fn samples(&self, after: &str) -> Samples {
        self.writer.samples(after)
    }

    fn sample(&self, name: &str) -> Option<Sample> {
        self.writer.sample(name)
    }

    fn needs_list(&self) -> bool {
        lock(&self.state).needs_list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::Uid;
    use crate::store::store;

    struct Scenario {
        sink: TemplateSink,
        version: u64,
    }

    /// A ConfigMap that counts so many bytes.
    fn config_map(name: &str, bytes: usize, version: u64) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.name = name.into();
        object.metadata.uid = Uid::from(name);
        object.metadata.resource_version = version.to_string().as_str().into();
        let key = "t.yaml";
        let text = "x".repeat(bytes - CONFIG_MAP_BYTES - key.len());
        object.data.insert(key.into(), text);
        assert_eq!(Size::of(&object).bytes, bytes);
        object
    }

    const HALF: usize = TEMPLATES_BYTES_MAX / 2;

    impl Scenario {
        fn new(list: &[(&str, usize)]) -> Self {
            let writer = store::new(Instant::now()).0;
            let mut scenario = Self {
                sink: TemplateSink::new(writer, Arc::default()),
                version: 0,
            };
            scenario.list(list);
            scenario
        }

        fn apply(&mut self, event: impl FnOnce(u64) -> StoreEvent<ConfigMap>) {
            self.version += 1;
            drop(self.sink.apply(event(self.version)));
        }

        fn list(&mut self, list: &[(&str, usize)]) {
            self.apply(|_| StoreEvent::Init);
            for (name, bytes) in list {
                self.apply(|version| StoreEvent::InitApply(config_map(name, *bytes, version)));
            }
            self.apply(|version| StoreEvent::InitDone(version.to_string().as_str().into()));
        }

        fn put(&mut self, name: &str, bytes: usize) {
            self.apply(|version| StoreEvent::Apply(config_map(name, bytes, version)));
        }

        fn delete(&mut self, name: &str) {
            self.apply(|version| StoreEvent::Delete {
                name: name.into(),
                uid: name.into(),
                version: version.to_string().as_str().into(),
            });
        }

        #[track_caller]
        fn check(&self, kept: &[&str], left_out: u64, needs_list: bool) {
            let snapshot = self.sink.writer.scanner().all();
            let names: Vec<&str> = snapshot.iter().map(|map| &*map.metadata.name).collect();
            assert_eq!(names, kept);
            let size = snapshot.iter().fold(Size::default(), |size, map| {
                size.after(Size::default(), Size::of(map))
            });
            assert_eq!(lock(&self.sink.state).kept.size, size);
            assert!(size.fits());
            assert_eq!(self.sink.left_out.load(Ordering::Relaxed), left_out);
            assert_eq!(self.sink.needs_list(), needs_list);
        }
    }

    #[test]
    fn config_maps_are_kept_by_name_up_to_the_bound() {
        let fits = [("a", HALF), ("b", HALF)];
        Scenario::new(&fits).check(&["a", "b"], 0, false);
        // None after the first that does not fit is kept, even if it is small.
        let over = [("a", HALF), ("b", HALF + 1), ("c", 2000)];
        Scenario::new(&over).check(&["a"], 2, false);
    }

    #[test]
    fn the_number_of_templates_is_bounded() {
        let templates = |count: usize| {
            let mut object = config_map("a", HALF, 1);
            let data = (0..count).map(|n| (format!("{n}.yaml"), "{}".to_owned()));
            object.data = data.collect();
            object
        };
        let mut tally = Tally::default();
        assert!(tally.admit(&templates(TEMPLATES_MAX)));
        assert!(!tally.admit(&templates(1)));
        assert!(!Tally::default().admit(&templates(TEMPLATES_MAX + 1)));
    }

    #[test]
    fn a_change_beyond_the_bound_is_followed_by_a_list() {
        let mut scenario = Scenario::new(&[("a", HALF), ("c", 2000)]);
        scenario.put("b", HALF - 2000);
        scenario.check(&["a", "b", "c"], 0, false);
        scenario.put("a", HALF - 1);
        scenario.put("c", 2001);
        scenario.check(&["a", "b", "c"], 0, false);
        scenario.put("b", HALF - 1999);
        scenario.check(&["a", "b", "c"], 0, true);
        scenario.list(&[("a", HALF - 1), ("b", HALF - 1999), ("c", 2001)]);
        scenario.check(&["a", "b"], 1, false);
    }

    #[test]
    fn while_some_are_left_out_only_changes_of_places_are_followed_by_a_list() {
        let full = [("a", HALF), ("b", HALF), ("m", 2000), ("n", 2000)];
        type Act = fn(&mut Scenario);
        let cases: [(Act, &[&str], bool); 8] = [
            (|it| it.put("a", HALF), &["a", "b"], false),
            (|it| it.put("n", 3000), &["a", "b"], false),
            (|it| it.delete("n"), &["a", "b"], false),
            (|it| it.put("a", HALF - 1), &["a", "b"], true),
            (|it| it.put("m", 3000), &["a", "b"], true),
            (|it| it.put("aa", 2000), &["a", "b"], true),
            (|it| it.delete("m"), &["a", "b"], true),
            (|it| it.delete("a"), &["b"], true),
        ];
        for (act, kept, needs_list) in cases {
            let mut scenario = Scenario::new(&full);
            act(&mut scenario);
            scenario.check(kept, 2, needs_list);
        }
    }
}
