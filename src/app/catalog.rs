//! The catalog of app types, from the template ConfigMaps; each change is parsed and logged once.
//!
//! [`Catalog`] is pure: an invalid template stays listed with its error and does not affect others. If
//! two ConfigMaps define the same type, the first by name wins, as in 2.7.1, and the other is
//! reported. [`SharedCatalog`] holds the present one for all threads. Parsing is in
//! [`crate::model::template`]; the threads that read ConfigMaps are not here.

use crate::kube::types::ConfigMap;
use crate::model::job::JobSettings;
use crate::model::names::AppType;
use crate::model::status::Budgets;
use crate::model::template::{Template, TemplateError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Suffix of the ConfigMap keys that are templates.
const SUFFIX: &str = ".yaml";

/// The template of one app type.
#[derive(Clone, Debug)]
pub struct Offer {
    /// Name of the ConfigMap.
    pub config_map: Arc<str>,
    /// The text, to detect changes.
    text: Arc<str>,
    /// The template, or its error.
    pub template: Result<Arc<Template>, Arc<TemplateError>>,
    /// The settings of its Jobs, or the error of an annotation.
    pub settings: Result<JobSettings, Arc<str>>,
}

impl Offer {
    /// The error of the template or its annotations, if there is one.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        let template = self.template.as_ref().err().map(ToString::to_string);
        template.or_else(|| self.settings.as_ref().err().map(ToString::to_string))
    }
}

/// All templates by app type.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    offers: BTreeMap<AppType, Offer>,
    /// Unused duplicates by type and ConfigMap, so that each is reported once.
    duplicates: BTreeSet<(AppType, Arc<str>)>,
    /// Defaults for settings without an annotation.
    defaults: JobSettings,
}

impl Catalog {
    /// An empty catalog with these default budgets.
    #[must_use]
    pub fn new(budgets: Budgets) -> Self {
        let defaults = JobSettings {
            budgets,
            ..JobSettings::default()
        };
        Self {
            defaults,
            ..Self::default()
        }
    }

    /// Builds a catalog from ConfigMaps. Templates with the same text as in `previous` are not
    /// parsed again. Also returns the changes.
    #[must_use]
    pub fn read(config_maps: &[Arc<ConfigMap>], previous: &Self) -> (Self, Vec<Note>) {
        let mut sorted: Vec<&Arc<ConfigMap>> = config_maps.iter().collect();
        sorted.sort_unstable_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let mut catalog = Self::new(previous.defaults.budgets);
        let mut notes = Vec::new();
        for config_map in sorted {
            for (key, text) in &config_map.data {
                catalog.add(config_map, key, text, previous, &mut notes);
            }
        }
        let before = previous.offers.keys();
        let gone = before.filter(|app_type| !catalog.offers.contains_key(*app_type));
        notes.extend(gone.cloned().map(Note::Gone));
        (catalog, notes)
    }

    fn add(
        &mut self,
        config_map: &ConfigMap,
        key: &str,
        text: &str,
        previous: &Self,
        notes: &mut Vec<Note>,
    ) {
        let name = &*config_map.metadata.name;
        // Other keys are ignored (contract A10: only startable types).
        let Some(Ok(app_type)) = key.strip_suffix(SUFFIX).map(AppType::new) else {
            return;
        };
        if let Some(first) = self.offers.get(&app_type) {
            let (used, ignored) = (first.config_map.clone(), Arc::from(name));
            let duplicate = (app_type.clone(), Arc::clone(&ignored));
            if !previous.duplicates.contains(&duplicate) {
                notes.push(Note::Duplicate {
                    app_type,
                    used,
                    ignored,
                });
            }
            self.duplicates.insert(duplicate);
            return;
        }
        let before = previous.offers.get(&app_type);
        let template =
            match before.filter(|before| *before.text == *text && *before.config_map == *name) {
                Some(before) => before.template.clone(),
                None => Template::parse(&format!("{name}/{key}"), text)
                    .map(Arc::new)
                    .map_err(Arc::new),
            };
        let annotations = &config_map.metadata.annotations;
        let settings =
            JobSettings::from_annotations(annotations, app_type.as_str(), self.defaults.budgets)
                .map_err(Into::into);
        let offer = Offer {
            config_map: name.into(),
            text: text.into(),
            template,
            settings,
        };
        let problem = offer.problem();
        let news =
            before.is_none_or(|before| before.text != offer.text || before.problem() != problem);
        if news {
            notes.push(Note::Read {
                app_type: app_type.clone(),
                config_map: offer.config_map.clone(),
                problem,
            });
        }
        self.offers.insert(app_type, offer);
    }

    /// The template and settings of a type.
    #[must_use]
    pub fn get(&self, app_type: &AppType) -> Option<&Offer> {
        self.offers.get(app_type)
    }

    /// The settings of a type's Jobs; the defaults if the type is unknown or its annotations are invalid.
    #[must_use]
    pub fn settings(&self, app_type: &AppType) -> &JobSettings {
        self.get(app_type)
            .and_then(|offer| offer.settings.as_ref().ok())
            .unwrap_or(&self.defaults)
    }

    /// All types, sorted.
    pub fn types(&self) -> impl Iterator<Item = &AppType> {
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
    /// A type no longer exists.
    Gone(AppType),
}

/// The catalog as it is now.
#[derive(Debug, Default)]
pub struct SharedCatalog {
    current: RwLock<Arc<Catalog>>,
    is_read: AtomicBool,
}

impl SharedCatalog {
    /// An empty catalog; these budgets are the defaults for annotations.
    #[must_use]
    pub fn new(budgets: Budgets) -> Self {
        Self {
            current: RwLock::new(Arc::new(Catalog::new(budgets))),
            is_read: AtomicBool::new(false),
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

    /// Reads the ConfigMaps again, and logs changes.
    pub fn update(&self, config_maps: &[Arc<ConfigMap>]) {
        let (catalog, notes) = Catalog::read(config_maps, &self.current());
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.is_read.store(true, Ordering::SeqCst);
        for note in notes {
            log_note(&note);
        }
    }
}

fn log_note(note: &Note) {
    match note {
        Note::Read {
            app_type,
            config_map,
            problem: None,
        } => {
            log::info!("app type {app_type} is on offer, from ConfigMap {config_map}");
        }
        Note::Read {
            app_type,
            config_map,
            problem: Some(problem),
        } => {
            log::warn!(
                "app type {app_type} of ConfigMap {config_map} cannot be started: {problem}"
            );
        }
        Note::Duplicate {
            app_type,
            used,
            ignored,
        } => {
            log::warn!("app type {app_type} is in two ConfigMaps: {used} is used, {ignored} is not")
        }
        Note::Gone(app_type) => log::info!("app type {app_type} is no longer on offer"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::Resource;
    use serde_json::{Value, json};

    const GOOD: &str =
        "spec:\n  restartPolicy: Never\n  containers:\n  - name: app\n    image: i\n";

    fn config_map(name: &str, data: Value) -> Arc<ConfigMap> {
        let text = json!({"metadata": {"name": name}, "data": data}).to_string();
        Arc::new(ConfigMap::decode(text.as_bytes()).unwrap().unwrap())
    }

    fn types(catalog: &Catalog) -> Vec<&str> {
        catalog.types().map(AppType::as_str).collect()
    }

    #[test]
    fn types_are_listed_sorted_and_once() {
        let maps = [
            config_map("b", json!({"scim.yaml": GOOD, "zeta.yaml": GOOD})),
            config_map(
                "a",
                json!({"scim.yaml": GOOD, "notes.txt": "x", "other.yml": "x", ".yaml": GOOD}),
            ),
            config_map("c", json!(null)),
        ];
        let (catalog, notes) = Catalog::read(&maps, &Catalog::default());
        assert_eq!(types(&catalog), ["scim", "zeta"]);
        assert!(notes.contains(&Note::Duplicate {
            app_type: AppType::new("scim").unwrap(),
            used: "a".into(),
            ignored: "b".into(),
        }));
    }

    #[test]
    fn a_broken_template_stays_listed_and_affects_no_other() {
        let maps = [config_map(
            "a",
            json!({"bad.yaml": "spec: [", "good.yaml": GOOD}),
        )];
        let (catalog, _) = Catalog::read(&maps, &Catalog::default());
        assert_eq!(types(&catalog), ["bad", "good"]);
        assert!(
            catalog
                .get(&AppType::new("bad").unwrap())
                .unwrap()
                .template
                .is_err()
        );
        assert!(
            catalog
                .get(&AppType::new("good").unwrap())
                .unwrap()
                .template
                .is_ok()
        );
    }

    #[test]
    fn budgets_of_the_process_are_the_defaults_for_annotations() {
        use crate::model::status::Budget;
        use std::time::Duration;
        let secs = Duration::from_secs;
        let mut of_process = Budgets::default();
        of_process.set(Budget::Mounting, secs(7));
        of_process.set(Budget::Pulling, secs(8));
        let text = json!({
            "metadata": {"name": "a", "annotations": {"config-controller.semafor.ch/start-budget.pulling": "9s"}},
            "data": {"scim.yaml": GOOD},
        });
        let map = Arc::new(
            ConfigMap::decode(text.to_string().as_bytes())
                .unwrap()
                .unwrap(),
        );
        let (catalog, _) = Catalog::read(&[map], &Catalog::new(of_process));
        let budget = |name: &str, budget| {
            let app_type = AppType::new(name).unwrap();
            catalog.settings(&app_type).budgets.get(budget)
        };
        assert_eq!(budget("scim", Budget::Mounting), secs(7));
        assert_eq!(budget("scim", Budget::Pulling), secs(9));
        assert_eq!(budget("gone", Budget::Pulling), secs(8));
    }

    #[test]
    fn an_unchanged_template_is_reported_once() {
        let maps = [config_map(
            "a",
            json!({"bad.yaml": "spec: [", "good.yaml": GOOD}),
        )];
        let (first, notes) = Catalog::read(&maps, &Catalog::default());
        assert_eq!(notes.len(), 2);
        let (second, notes) = Catalog::read(&maps, &first);
        assert_eq!(notes, []);
        let (_, notes) = Catalog::read(&[], &second);
        assert_eq!(notes.len(), 2);
    }
}
