//! What only several ConfigMaps of files show: in one namespace they would take something from each other. Pure.
//!
//! Files may be for several namespaces, such as overlays, so that is a warning at most.

use super::report::{CheckResult, Origin, Report};
use crate::kube::types::{ConfigMap, TEMPLATE_SUFFIX};
use crate::store::{Size, TEMPLATES_BYTES_MAX, TEMPLATES_MAX};
use std::collections::BTreeMap;

/// The ConfigMaps so far.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// The first that has each key, by the namespace that it names.
    defined: BTreeMap<(Option<String>, String), (String, Origin)>,
    /// What those of a namespace count.
    sizes: BTreeMap<Option<String>, Size>,
}

impl Together {
    /// Adds rows about a ConfigMap that was read at that place.
    pub(super) fn add(
        &mut self,
        config_map: &ConfigMap,
        namespace: Option<String>,
        origin: &Origin,
        report: &mut Report,
    ) {
        let name = config_map.metadata.name.to_string();
        self.count(config_map, namespace.clone(), origin, report);
        for key in config_map.data.keys() {
            let place = (namespace.clone(), key.clone());
            let Some((other, of)) = self.defined.get(&place) else {
                self.defined.insert(place, (name.clone(), origin.clone()));
                continue;
            };
            let app_type = key.strip_suffix(TEMPLATE_SUFFIX).unwrap_or(key);
            let text = if *other != name {
                let used = other.min(&name);
                let file = of.file.as_deref().unwrap_or_default();
                format!(
                    "ConfigMap {other} of {file} defines this type, too; in one namespace only that of {used} is used"
                )
            } else if of.file == origin.file {
                "the file has another ConfigMap of this name; kubectl keeps the last one".to_owned()
            } else {
                continue;
            };
            let origin = Origin {
                key: Some(key.clone()),
                ..origin.clone()
            };
            let what = format!("template {app_type} of {name}");
            report.add_at(CheckResult::Worse, what, text, &origin);
        }
    }

    /// Adds a row where the service would not keep it.
    fn count(
        &mut self,
        config_map: &ConfigMap,
        namespace: Option<String>,
        origin: &Origin,
        report: &mut Report,
    ) {
        let one = Size::of(config_map);
        let before = self.sizes.entry(namespace).or_default();
        let (had_room, after) = (before.fits(), before.after(Size::default(), one));
        *before = after;
        let kept = format!("{TEMPLATES_MAX} templates or {TEMPLATES_BYTES_MAX} bytes of them");
        let (result, text) = if !one.fits() {
            let text = format!("it has more than {kept}, so the service leaves it out");
            (CheckResult::Bad, text)
        } else if had_room && !after.fits() {
            let text = format!(
                "with those before it, these are more than {kept}; of one namespace the service keeps no more"
            );
            (CheckResult::Worse, text)
        } else {
            return;
        };
        let what = format!("ConfigMap {}", config_map.metadata.name);
        report.add_at(result, what, text, origin);
    }
}
