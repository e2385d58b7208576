//! The names of annotations that hold settings: for all types of a ConfigMap, or for one.
//!
//! What their values mean is in [`super::JobSettings`].

use crate::kube::types::Pairs;
use crate::model::labels;
use crate::model::names;
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
