//! The names of annotations that hold settings: for all types of a ConfigMap, or for one.
//!
//! What their values mean is in [`super::JobSettings`].

use crate::kube::types::Pairs;
use crate::model::labels;
use crate::model::names;
use crate::model::spelling;
use crate::model::status::Budget;
use crate::sorting;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

/// Prefix of the settings of budgets.
pub(super) const START_BUDGET: &str = "start-budget.";

/// The annotations of a ConfigMap by name: read once for all of its types, of which there may be
/// thousands, as of its annotations.
#[derive(Clone, Debug, Default)]
pub struct Annotations<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Annotations<'a> {
    /// Those of this object.
    #[must_use]
    pub fn of(pairs: &'a Pairs) -> Self {
        Self(sorting::map(pairs.iter()))
    }

    /// As [`find_setting`].
    pub(super) fn find(&self, app_type: &str, setting: &str) -> Option<(String, &'a str)> {
        let mut keys = keys(app_type, setting).into_iter();
        keys.find_map(|key| self.0.get(&*key).map(|value| (key, *value)))
    }

    /// Rejects unknown budgets, which would silently have no effect.
    pub(super) fn check_budget_names(&self, app_type: &str) -> Result<(), String> {
        let known = Budget::ALL.map(Budget::as_str);
        for before in keys(app_type, START_BUDGET) {
            let from_here = self
                .0
                .range::<str, _>((Bound::Included(&*before), Bound::Unbounded));
            let mut phases = from_here.map_while(|(key, _)| key.strip_prefix(&*before));
            if let Some(phase) = phases.find(|phase| !known.contains(phase)) {
                return Err(format!(
                    "the annotation {before}{phase} names the unknown budget '{phase}'; expected one of {}",
                    known.join(", ")
                ));
            }
        }
        Ok(())
    }
}

/// The annotation with this setting of a type, and its value: first the two forms for this type alone, then
/// that for all types of the ConfigMap. The second form is for types that cannot begin an annotation's
/// name, for example with `_`.
///
/// It reads all annotations; for several settings or types there is [`Annotations`].
#[must_use]
pub fn find_setting<'a>(
    annotations: &'a Pairs,
    app_type: &str,
    setting: &str,
) -> Option<(String, &'a str)> {
    Annotations::of(annotations).find(app_type, setting)
}

/// The names of an annotation with this setting of a type; the first that is there counts.
fn keys(app_type: &str, setting: &str) -> [String; 3] {
    let general = format!("{}{setting}", labels::PREFIX);
    let special = format!("{app_type}.{general}");
    let inside = format!("{}{TYPE}{app_type}.{setting}", labels::PREFIX);
    [special, inside, general]
}

/// Begins the name of a setting for one type.
const TYPE: &str = "type.";

/// The annotation for a setting of this type alone, in the first form where Kubernetes accepts that.
#[must_use]
pub fn setting_key(app_type: &str, setting: &str) -> String {
    let prefix = labels::PREFIX;
    match names::is_dns_subdomain(app_type) {
        true => format!("{app_type}.{prefix}{setting}"),
        false => format!("{prefix}{TYPE}{app_type}.{setting}"),
    }
}

/// The settings, without budgets.
const SETTINGS: [&str; 11] = [
    "backoff-limit",
    "example",
    "idle-timeout",
    "max-instances",
    "max-lifetime",
    "max-per-owner",
    "min-ready",
    "on-change",
    "restart-delay",
    "restart-failed",
    "ttl-after-finished",
];

/// How many annotations that are not read are found, at most.
pub const UNREAD_SETTINGS_MAX: usize = 16;

/// Each annotation that looks like a setting of a ConfigMap with these types and is not read: why, and what was
/// probably meant. The first [`UNREAD_SETTINGS_MAX`].
#[must_use]
pub fn unread_settings(annotations: &Pairs, types: &[&str]) -> Vec<String> {
    let keys = annotations.iter().map(|(key, _)| key);
    let types = sorting::set(types.iter().copied());
    keys.filter_map(|key| {
        let why = why_unread(key, &types)?;
        Some(format!("the annotation {key} is not read: {why}"))
    })
    .take(UNREAD_SETTINGS_MAX)
    .collect()
}

fn why_unread(key: &str, types: &BTreeSet<&str>) -> Option<String> {
    let (app_type, setting) = match key.split_once(labels::PREFIX)? {
        ("", rest) => match rest.strip_prefix(TYPE) {
            Some(inside) => {
                let ends = inside.match_indices('.').map(|(end, _)| end);
                let known = ends.filter(|end| types.contains(&inside[..*end]));
                let known: Vec<&str> = known.map(|end| &inside[end + 1..]).collect();
                if known.iter().any(|setting| is_setting(setting)) {
                    return None;
                }
                let split = inside.rsplit_once('.').unwrap_or((inside, ""));
                match known.last() {
                    Some(setting) => (None, *setting),
                    None => (Some(split.0), split.1),
                }
            }
            None => (None, rest),
        },
        (before, setting) => {
            let app_type = before.strip_suffix('.').unwrap_or(before);
            (Some(app_type).filter(|it| !types.contains(it)), setting)
        }
    };
    let hint = |meant: Option<&str>| meant.map(|it| format!("; did you mean {it}?"));
    if let Some(app_type) = app_type {
        let hint = hint(spelling::nearest(app_type, types.iter().copied()));
        let hint = hint.unwrap_or_default();
        return Some(format!(
            "its ConfigMap has no template of the type {app_type:?}{hint}"
        ));
    }
    if is_setting(setting) {
        return None;
    }
    let budgets = Budget::ALL.map(|budget| format!("{START_BUDGET}{}", budget.as_str()));
    let known = SETTINGS
        .into_iter()
        .chain(budgets.iter().map(String::as_str));
    let hint = hint(spelling::nearest(setting, known)).unwrap_or_default();
    Some(format!("there is no setting {setting:?}{hint}"))
}

/// Unknown budgets are errors of their own.
fn is_setting(text: &str) -> bool {
    SETTINGS.contains(&text) || text.starts_with(START_BUDGET)
}

#[cfg(test)]
mod tests {
    use super::super::JobSettings;
    use super::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    #[test]
    fn annotations_that_nobody_reads_are_found() {
        let types = ["hello", "my_app", "a.b"];
        for (key, expected) in [
            ("@min-ready", None),
            ("@start-budget.pulling", None),
            ("@start-budget.pull", None),
            ("hello.@example", None),
            ("a.b.@example", None),
            ("@type.my_app.example", None),
            ("@type.my_app.start-budget.pulling", None),
            (
                "@min-redy",
                Some("there is no setting \"min-redy\"; did you mean min-ready?"),
            ),
            (
                "@startbudget.pulling",
                Some(
                    "there is no setting \"startbudget.pulling\"; did you mean start-budget.pulling?",
                ),
            ),
            ("@warm", Some("there is no setting \"warm\"")),
            (
                "hello.@backof-limit",
                Some("there is no setting \"backof-limit\"; did you mean backoff-limit?"),
            ),
            (
                "@type.my_app.exampel",
                Some("there is no setting \"exampel\"; did you mean example?"),
            ),
            (
                "helo.@example",
                Some("its ConfigMap has no template of the type \"helo\"; did you mean hello?"),
            ),
            (
                "@type.myapp.example",
                Some("its ConfigMap has no template of the type \"myapp\"; did you mean my_app?"),
            ),
            (
                "@type.x",
                Some("its ConfigMap has no template of the type \"x\""),
            ),
        ] {
            let key = key.replace('@', labels::PREFIX);
            let pairs: Pairs = [(&key, "1")].into_iter().collect();
            let expected: Vec<String> = expected
                .iter()
                .map(|why| format!("the annotation {key} is not read: {why}"))
                .collect();
            assert_eq!(unread_settings(&pairs, &types), expected);
        }
    }

    #[test]
    fn each_setting_that_is_read_is_known() {
        let read = include_str!("settings.rs");
        let found = SETTINGS
            .iter()
            .filter(|it| read.contains(&format!("\"{it}\"")));
        // All but that of dry runs.
        assert_eq!(found.count(), SETTINGS.len() - 1);
    }

    #[test]
    fn types_that_cannot_begin_an_annotation_have_a_form_of_their_own() {
        let prefix = labels::PREFIX;
        let of = |app_type: &str, keys: &[(&str, &str)]| {
            let pairs = keys.iter();
            let pairs: serde_json::Map<String, Value> = pairs
                .map(|(key, value)| (key.replace('@', prefix), json!(value)))
                .collect();
            let pairs: Pairs = serde_json::from_value(Value::Object(pairs)).unwrap();
            JobSettings::from_annotations(
                &Annotations::of(&pairs),
                app_type,
                &JobSettings::default(),
            )
        };
        let general = ("@backoff-limit", "1");
        let inside = ("@type.my_app.backoff-limit", "2");
        for (app_type, keys, expected) in [
            ("my_app", &[general, inside][..], 2),
            ("my", &[general, inside], 1),
            ("my_app.x", &[general, inside], 1),
            ("my_app", &[general], 1),
            (
                "app",
                &[
                    inside,
                    ("@type.app.backoff-limit", "3"),
                    ("app.@backoff-limit", "4"),
                ],
                4,
            ),
            ("a.b", &[("@type.a.b.backoff-limit", "5")], 5),
        ] {
            let settings = of(app_type, keys).unwrap();
            assert_eq!(settings.backoff_limit, Some(expected), "{app_type}");
        }
        for (app_type, expected) in [
            ("a.b", "a.b.@x"),
            ("a_b", "@type.a_b.x"),
            ("A", "@type.A.x"),
        ] {
            assert_eq!(setting_key(app_type, "x"), expected.replace('@', prefix));
        }
        let budget = ("@type.my_app.start-budget.pulling", "7s");
        let settings = of("my_app", &[budget]).unwrap();
        assert_eq!(
            settings.budgets.get(Budget::Pulling),
            Duration::from_secs(7)
        );
        let wrong = of("my_app", &[("@type.my_app.start-budget.pull", "7s")]);
        assert!(wrong.unwrap_err().contains("unknown budget 'pull'"));
    }
}
