//! The catalog of app types, from the template ConfigMaps; each change is parsed and logged once.
//!
//! [`Catalog`] is pure: an invalid template stays listed with its error and does not affect others. If
//! two ConfigMaps define the same type, the first by name wins, as in 2.7.1, and the other is
//! reported. [`SharedCatalog`] holds the present one for all threads. Parsing is in
//! [`crate::model::template`]; the threads that read ConfigMaps are not here.

use super::error::Error;
use super::log_line::log_type_line;
use crate::kube::types::{self, ConfigMap, TEMPLATE_SUFFIX, UnreadCause};
use crate::model::excerpt::excerpt;
use crate::model::job::{Annotations, JobSettings, unread_settings};
use crate::model::names::AppType;
use crate::model::revision;
use crate::model::template::{PROBLEM_BYTES_MAX, Template, TemplateError};
use crate::sorting;
use crate::store::Change;
use crate::threads::lock;
use log::Level::{Info, Warn};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The template of one app type.
#[derive(Debug)]
pub struct Offer {
    /// The ConfigMap.
    source: Arc<ConfigMap>,
    /// The template, or its error.
    pub template: Result<Arc<Template>, Arc<TemplateError>>,
    /// The settings of its Jobs, or the error of an annotation.
    pub settings: Result<JobSettings, Arc<str>>,
    /// The revision of both, if both are valid.
    pub revision: Option<Arc<str>>,
}

impl Offer {
    /// Reads the template of a type, unless `before` is from the same text; with the annotations of its
    /// ConfigMap.
    fn read(
        app_type: &AppType,
        source: &Arc<ConfigMap>,
        annotations: &Annotations<'_>,
        before: Option<&Self>,
        defaults: &JobSettings,
    ) -> Self {
        let (key, metadata) = (key_of(app_type), &source.metadata);
        let text = source.data.get(&key).map_or("", String::as_str);
        let is_same = |before: &&Self| {
            before.source.metadata.name == metadata.name
                && before.source.data.get(&key) == source.data.get(&key)
        };
        let template = match before.filter(is_same) {
            Some(before) => before.template.clone(),
            None => Template::parse(&format!("{}/{key}", metadata.name), text)
                .map(Arc::new)
                .map_err(Arc::new),
        };
        let settings = JobSettings::from_annotations(annotations, app_type.as_str(), defaults)
            .map_err(|text| excerpt(&text, PROBLEM_BYTES_MAX).into());
        let revision = match (&template, &settings) {
            (Ok(template), Ok(settings)) => Some(revision::of_template(template, settings).into()),
            _ => None,
        };
        Self {
            source: Arc::clone(source),
            template,
            settings,
            revision,
        }
    }

    /// The ConfigMap that it is from.
    #[must_use]
    pub fn config_map(&self) -> &ConfigMap {
        &self.source
    }

    /// Where the error of the template is, if it has one: its line.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        let error = self.template.as_ref().err()?;
        Some(format!("line {}", error.line))
    }

    /// The error of the template or its annotations, if there is one.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let template = self.template.as_ref().err().map(ToString::to_string);
        template.or_else(|| self.settings.as_ref().err().map(ToString::to_string))
    }

    /// What its author should know of a valid template and its annotations.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let (Ok(template), Ok(settings)) = (&self.template, &self.settings) else {
            return Vec::new();
        };
        let mut warnings = settings.warnings();
        if !template.may_have_probe() && settings.min_ready.is_zero() {
            warnings.push(NO_PROBE.to_owned());
        }
        warnings
    }

    /// Whether it differs from the offer before it, apart from its ConfigMap.
    fn is_news(&self, before: &Self, key: &str) -> bool {
        before.source.data.get(key) != self.source.data.get(key)
            || before.problem() != self.problem()
            || before.warnings() != self.warnings()
    }
}

/// The warning of a template that does not say when its app is ready.
pub const NO_PROBE: &str = "no container has a readinessProbe, so the app counts as ready as soon as it runs, also if it ends a moment later: add one, or set the annotation min-ready";

/// The template of a type, its settings, and the revision of both.
pub type Startable<'a> = (&'a Arc<Template>, &'a JobSettings, &'a Arc<str>);

/// All templates by app type.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    offers: BTreeMap<AppType, Arc<Offer>>,
    /// ConfigMaps with keys that look like templates and are not read, by name.
    unread: BTreeMap<Box<str>, Arc<ConfigMap>>,
    /// Defaults for settings without an annotation.
    defaults: JobSettings,
}

/// A key that looks like a template and is not read.
#[derive(Clone, Copy, Debug)]
pub struct UnreadKey<'a> {
    /// Its ConfigMap.
    pub config_map: &'a str,
    /// The key.
    pub key: &'a types::UnreadKey,
}

/// Why it is not read, and what to do.
impl fmt::Display for UnreadKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key.key;
        match self.key.cause {
            UnreadCause::Suffix => write!(
                f,
                "the key {key} is not read, since keys of templates end with {TEMPLATE_SUFFIX}; rename it"
            ),
            UnreadCause::Binary => write!(
                f,
                "the key {key} is not read, since it is in binaryData; save its text as UTF-8, so that it is in data"
            ),
        }
    }
}

/// The ConfigMaps that define each type, by name: the first is used.
#[derive(Debug, Default)]
struct Sources(BTreeMap<AppType, Vec<Arc<ConfigMap>>>);

impl Sources {
    fn add(&mut self, app_type: &AppType, config_map: &Arc<ConfigMap>) {
        let all = self.0.entry(app_type.clone()).or_default();
        let name = &config_map.metadata.name;
        let at = all.partition_point(|other| other.metadata.name <= *name);
        all.insert(at, Arc::clone(config_map));
    }

    fn remove(&mut self, app_type: &AppType, config_map: &Arc<ConfigMap>) {
        if let Some(all) = self.0.get_mut(app_type) {
            all.retain(|other| !Arc::ptr_eq(other, config_map));
            if all.is_empty() {
                self.0.remove(app_type);
            }
        }
    }

    /// Those of a type.
    fn of(&self, app_type: &AppType) -> &[Arc<ConfigMap>] {
        self.0.get(app_type).map_or(&[], Vec::as_slice)
    }

    /// Takes changes over; returns the types that they concern, each with the ConfigMaps that
    /// defined it before.
    fn change(&mut self, changes: &[Change<ConfigMap>]) -> BTreeMap<AppType, Vec<Arc<ConfigMap>>> {
        let mut before = BTreeMap::new();
        for change in changes {
            for config_map in change.old.iter().chain(&change.new) {
                for app_type in types_of(config_map) {
                    let known = self.of(&app_type).to_vec();
                    before.entry(app_type).or_insert(known);
                }
            }
            for (config_map, app_type) in change.old.iter().flat_map(with_types) {
                self.remove(&app_type, config_map);
            }
            for (config_map, app_type) in change.new.iter().flat_map(with_types) {
                self.add(&app_type, config_map);
            }
        }
        before
    }
}

/// The types that a ConfigMap defines. Other keys are ignored (contract A10: only startable types).
fn types_of(config_map: &ConfigMap) -> impl Iterator<Item = AppType> {
    let names = config_map.data.keys();
    let names = names.filter_map(|key| key.strip_suffix(TEMPLATE_SUFFIX));
    names.filter_map(|name| AppType::new(name).ok())
}

fn with_types(config_map: &Arc<ConfigMap>) -> impl Iterator<Item = (&Arc<ConfigMap>, AppType)> {
    types_of(config_map).map(move |app_type| (config_map, app_type))
}

/// Why each annotation of a ConfigMap that looks like a setting is not read.
fn settings_unread_of(config_map: &ConfigMap) -> Vec<String> {
    let types: Vec<AppType> = types_of(config_map).collect();
    let types: Vec<&str> = types.iter().map(AppType::as_str).collect();
    unread_settings(&config_map.metadata.annotations, &types)
}

/// The key of a type's template.
fn key_of(app_type: &AppType) -> String {
    format!("{app_type}{TEMPLATE_SUFFIX}")
}

impl Catalog {
    /// An empty catalog with these defaults for annotations.
    #[must_use]
    pub fn new(defaults: JobSettings) -> Self {
        Self {
            defaults,
            ..Self::default()
        }
    }

    /// Builds a catalog from these ConfigMaps, with these defaults for annotations. Also returns what it has,
    /// by ConfigMap and key.
    #[must_use]
    pub fn read(config_maps: &[Arc<ConfigMap>], defaults: &JobSettings) -> (Self, Vec<Note>) {
        let added = |config_map: &Arc<ConfigMap>| Change {
            old: None,
            new: Some(Arc::clone(config_map)),
        };
        let changes: Vec<Change<ConfigMap>> = config_maps.iter().map(added).collect();
        Self::new(defaults.clone()).after(&mut Sources::default(), &changes)
    }

    /// The catalog after these changes of ConfigMaps, and what has changed in it, by ConfigMap and
    /// key. Other ConfigMaps are not read.
    fn after(&self, sources: &mut Sources, changes: &[Change<ConfigMap>]) -> (Self, Vec<Note>) {
        let mut catalog = self.clone();
        let (mut notes, mut gone) = (Vec::new(), Vec::new());
        let changed = sources.change(changes);
        let mut annotations = BTreeMap::new();
        for (app_type, before) in changed {
            let Some((used, ignored)) = sources.of(&app_type).split_first() else {
                // It may have come and gone.
                let was_offered = catalog.offers.remove(&app_type).is_some();
                gone.extend(was_offered.then_some(Note::Gone(app_type)));
                continue;
            };
            let metadata = &used.metadata;
            let annotations = annotations.entry(&metadata.name);
            let annotations = annotations.or_insert_with(|| Annotations::of(&metadata.annotations));
            notes.extend(catalog.offer(&app_type, used, annotations));
            let known = before.get(1..).unwrap_or_default();
            let is_new = |one: &&Arc<ConfigMap>| {
                let name = &one.metadata.name;
                let known = known.binary_search_by(|known| known.metadata.name.cmp(name));
                known.is_err()
            };
            notes.extend(ignored.iter().filter(is_new).map(|one| Note::Duplicate {
                app_type: app_type.clone(),
                used: name_of(used),
                ignored: name_of(one),
            }));
        }
        notes.extend(catalog.find_unread(changes));
        sorting::sort_by(&mut notes, |a, b| a.place().cmp(&b.place()));
        notes.extend(gone);
        (catalog, notes)
    }

    /// Finds the keys and settings that are not read in ConfigMaps that have changed; a note of each that is new.
    fn find_unread(&mut self, changes: &[Change<ConfigMap>]) -> Vec<Note> {
        let mut notes = Vec::new();
        for change in changes {
            let name = &change.object().metadata.name;
            let before = self.unread.remove(name);
            if let Some(new) = &change.new {
                let known = change.old.as_deref().map(settings_unread_of);
                let known = known.unwrap_or_default();
                let found = settings_unread_of(new).into_iter();
                notes.extend(found.filter(|why| !known.contains(why)).map(|why| {
                    Note::UnreadSetting {
                        config_map: name_of(new),
                        why,
                    }
                }));
            }
            let Some(new) = change.new.as_ref().filter(|new| !new.unread.is_empty()) else {
                continue;
            };
            let known = before.as_ref().map_or(&[][..], |before| &before.unread);
            let is_new = |key: &&types::UnreadKey| !known.contains(key);
            notes.extend(new.unread.iter().filter(is_new).map(|key| {
                Note::Unread {
                    config_map: name_of(new),
                    key: key.key.clone(),
                    why: UnreadKey {
                        config_map: name,
                        key,
                    }
                    .to_string(),
                }
            }));
            self.unread.insert(name.clone(), Arc::clone(new));
        }
        notes
    }

    /// The keys that look like templates and are not read, by ConfigMap and key.
    pub fn unread_keys(&self) -> impl Iterator<Item = UnreadKey<'_>> {
        self.unread
            .iter()
            .flat_map(|(config_map, of)| of.unread.iter().map(|key| UnreadKey { config_map, key }))
    }

    /// Offers a type from this ConfigMap, which has these annotations; a note if that changes the offer.
    fn offer(
        &mut self,
        app_type: &AppType,
        source: &Arc<ConfigMap>,
        annotations: &Annotations<'_>,
    ) -> Option<Note> {
        let before = self.offers.get(app_type);
        if before.is_some_and(|before| Arc::ptr_eq(&before.source, source)) {
            return None;
        }
        let before = before.map(Arc::as_ref);
        let offer = Offer::read(app_type, source, annotations, before, &self.defaults);
        let key = key_of(app_type);
        let is_news = before.is_none_or(|before| offer.is_news(before, &key));
        let note = is_news.then(|| Note::Read {
            app_type: app_type.clone(),
            config_map: name_of(source),
            problem: offer.problem(),
        });
        self.offers.insert(app_type.clone(), Arc::new(offer));
        note
    }

    /// The type of this name and what is on offer of it.
    #[must_use]
    pub fn find(&self, app_type: &str) -> Option<(&AppType, &Arc<Offer>)> {
        self.offers.get_key_value(app_type)
    }

    /// This key of this ConfigMap, if it looks like a template and is not read.
    #[must_use]
    pub fn unread_key(&self, config_map: &str, key: &str) -> Option<UnreadKey<'_>> {
        let (config_map, of) = self.unread.get_key_value(config_map)?;
        let key = of.unread.iter().find(|unread| &*unread.key == key)?;
        Some(UnreadKey { config_map, key })
    }

    /// The template and settings of a type.
    #[must_use]
    pub fn get(&self, app_type: &AppType) -> Option<&Offer> {
        self.offers.get(app_type).map(Arc::as_ref)
    }

    /// What instances of a type are started from.
    ///
    /// # Errors
    /// Why none can be.
    pub fn startable(&self, app_type: &AppType) -> Result<(&Arc<Offer>, Startable<'_>), Error> {
        let Some(offer) = self.offers.get(app_type) else {
            return Err(Error::UnknownType {
                app_type: app_type.to_string(),
                known: Vec::new(),
            });
        };
        let template = offer.template.as_ref();
        let template = template.map_err(|error| Error::from(&**error))?;
        let settings = offer.settings.as_ref();
        let settings = settings.map_err(|text| Error::TemplateInvalid(text.clone()))?;
        let revision = offer.revision.as_ref().ok_or(Error::Internal)?;
        Ok((offer, (template, settings, revision)))
    }

    /// The revision of a type's template, if it is valid.
    #[must_use]
    pub fn revision(&self, app_type: &AppType) -> Option<&str> {
        self.get(app_type)?.revision.as_deref()
    }

    /// The settings of a type's Jobs; the defaults if the type is unknown or its annotations are invalid.
    #[must_use]
    pub fn settings(&self, app_type: &AppType) -> &JobSettings {
        self.get(app_type)
            .and_then(|offer| offer.settings.as_ref().ok())
            .unwrap_or(&self.defaults)
    }

    /// All types and what is on offer of each, sorted.
    pub fn offers(&self) -> impl Iterator<Item = (&AppType, &Arc<Offer>)> {
        self.offers.iter()
    }

    /// All types, sorted.
    pub fn types(&self) -> impl Iterator<Item = &AppType> + Clone {
        self.offers.keys()
    }
}

/// A change of the catalog, to be logged once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// A template is new or has changed.
    Read {
        /// Its type.
        app_type: AppType,
        /// Its ConfigMap.
        config_map: Arc<str>,
        /// Its error, if it has one.
        problem: Option<String>,
    },
    /// Two ConfigMaps define the same type.
    Duplicate {
        /// The type.
        app_type: AppType,
        /// The ConfigMap that is used.
        used: Arc<str>,
        /// The ConfigMap that is ignored.
        ignored: Arc<str>,
    },
    /// A key looks like a template and is not read.
    Unread {
        /// Its ConfigMap.
        config_map: Arc<str>,
        /// The key.
        key: Box<str>,
        /// Why, and what to do.
        why: String,
    },
    /// An annotation looks like a setting and is not read.
    UnreadSetting {
        /// Its ConfigMap.
        config_map: Arc<str>,
        /// The annotation, why, and what was probably meant.
        why: String,
    },
    /// A type no longer exists.
    Gone(AppType),
}

impl Note {
    /// The ConfigMap that it is about, and the key there.
    fn place(&self) -> (Arc<str>, String) {
        match self {
            Self::Read {
                app_type,
                config_map,
                ..
            } => (Arc::clone(config_map), key_of(app_type)),
            Self::Duplicate {
                app_type, ignored, ..
            } => (Arc::clone(ignored), key_of(app_type)),
            Self::Unread {
                config_map, key, ..
            } => (Arc::clone(config_map), key.to_string()),
            Self::UnreadSetting { config_map, .. } => (Arc::clone(config_map), String::new()),
            Self::Gone(app_type) => (Arc::default(), key_of(app_type)),
        }
    }
}

fn name_of(config_map: &ConfigMap) -> Arc<str> {
    Arc::from(&*config_map.metadata.name)
}

/// The catalog as it is now.
#[derive(Debug, Default)]
pub struct SharedCatalog {
    current: RwLock<Arc<Catalog>>,
    sources: Mutex<Sources>,
    is_read: AtomicBool,
}

impl SharedCatalog {
    /// An empty catalog with these defaults for annotations.
    #[must_use]
    pub fn new(defaults: JobSettings) -> Self {
        Self {
            current: RwLock::new(Arc::new(Catalog::new(defaults))),
            ..Self::default()
        }
    }

    /// The catalog as it is now.
    #[must_use]
    pub fn current(&self) -> Arc<Catalog> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the ConfigMaps have been read once, shortly after their store is synced. Until then
    /// the catalog is empty, and no response may be made from it.
    #[must_use]
    pub fn is_read(&self) -> bool {
        self.is_read.load(Ordering::SeqCst)
    }

    /// Reads the ConfigMaps that have changed, and logs what that changes. To be called with every
    /// change of the store, in order.
    pub fn update(&self, changes: &[Change<ConfigMap>]) {
        let (catalog, notes) = self.current().after(&mut lock(&self.sources), changes);
        let catalog = Arc::new(catalog);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&catalog);
        self.is_read.store(true, Ordering::SeqCst);
        for note in notes {
            log_note(&note, &catalog);
        }
    }
}

fn log_note(note: &Note, catalog: &Catalog) {
    match note {
        Note::Read {
            app_type,
            config_map,
            problem: None,
        } => {
            log_type_line!(
                Info,
                app_type,
                config_map,
                "app type {app_type} is on offer, from ConfigMap {config_map}"
            );
            let offer = catalog.get(app_type);
            for warning in offer.map(Offer::warnings).unwrap_or_default() {
                log_type_line!(
                    Warn,
                    app_type,
                    config_map,
                    "app type {app_type} of ConfigMap {config_map}: {warning}"
                );
            }
        }
        Note::Read {
            app_type,
            config_map,
            problem: Some(problem),
        } => {
            log_type_line!(
                Warn,
                app_type,
                config_map,
                "app type {app_type} of ConfigMap {config_map} cannot be started: {problem}"
            );
        }
        Note::Duplicate {
            app_type,
            used,
            ignored,
        } => {
            log::warn!(
                "type" = app_type.as_str();
                "app type {app_type} is in two ConfigMaps: {used} is used, {ignored} is not"
            )
        }
        Note::Unread {
            config_map, why, ..
        }
        | Note::UnreadSetting { config_map, why } => {
            log::warn!(
                "config_map" = config_map.as_ref();
                "ConfigMap {config_map}: {why}"
            )
        }
        Note::Gone(app_type) => {
            log::info!(
                "type" = app_type.as_str();
                "app type {app_type} is no longer on offer"
            )
        }
    }
}

#[cfg(test)]
mod tests;
