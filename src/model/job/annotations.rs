//! The names of annotations that hold settings: for all types of a ConfigMap, or for one.
//!
//! What their values mean is in [`super::JobSettings`].

use crate::kube::types::Pairs;
use crate::model::labels;
use crate::model::names;
use crate::model::spelling;
use crate::model::status::Budget;

/// Prefix of the settings of budgets.
pub(super) const START_BUDGET: &str = "start-budget.";

/// The annotation with this setting of a type, and its value: first the two forms for this type alone, then
/// that for all types of the ConfigMap. The second form is for types that cannot begin an annotation's
/// name, for example with `_`.
#[must_use]
pub fn find_setting<'a>(
    annotations: &'a Pairs,
    app_type: &str,
    setting: &str,
) -> Option<(String, &'a str)> {
    let general = format!("{}{setting}", labels::PREFIX);
    let special = format!("{app_type}.{general}");
    let inside = format!("{}{TYPE}{app_type}.{setting}", labels::PREFIX);
    let mut keys = [special, inside, general].into_iter();
    keys.find_map(|key| annotations.get(&key).map(|value| (key, value)))
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

/// The rest of a text that begins with this type and a dot.
fn strip_type<'a>(text: &'a str, app_type: &str) -> Option<&'a str> {
    text.strip_prefix(app_type)?.strip_prefix('.')
}

/// The settings, without budgets.
const SETTINGS: [&str; 7] = [
    "backoff-limit",
    "example",
    "max-lifetime",
    "min-ready",
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
    keys.filter_map(|key| {
        let why = why_unread(key, types)?;
        Some(format!("the annotation {key} is not read: {why}"))
    })
    .take(UNREAD_SETTINGS_MAX)
    .collect()
}

fn why_unread(key: &str, types: &[&str]) -> Option<String> {
    let (app_type, setting) = match key.split_once(labels::PREFIX)? {
        ("", rest) => match rest.strip_prefix(TYPE) {
            Some(inside) => {
                let mut known = types.iter().filter_map(|known| strip_type(inside, known));
                if known.clone().any(is_setting) {
                    return None;
                }
                let split = inside.rsplit_once('.').unwrap_or((inside, ""));
                match known.next_back() {
                    Some(setting) => (None, setting),
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

/// Rejects unknown budgets, which would silently have no effect.
pub(super) fn check_budget_names(annotations: &Pairs, app_type: &str) -> Result<(), String> {
    for (key, _) in annotations.iter() {
        let of_type = |text| strip_type(text, app_type);
        let setting = of_type(key).unwrap_or(key).strip_prefix(labels::PREFIX);
        let setting = setting.map(|setting| {
            let inside = setting.strip_prefix(TYPE).and_then(of_type);
            inside.unwrap_or(setting)
        });
        let phase = setting.and_then(|setting| setting.strip_prefix(START_BUDGET));
        let known = Budget::ALL.map(Budget::as_str);
        if let Some(phase) = phase.filter(|phase| !known.contains(phase)) {
            return Err(format!(
                "the annotation {key} names the unknown budget '{phase}'; expected one of {}",
                known.join(", ")
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::JobSettings;
    use super::*;
    use crate::model::status::Budgets;
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
        let read = include_str!("../job.rs");
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
            JobSettings::from_annotations(&pairs, app_type, Budgets::default())
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
