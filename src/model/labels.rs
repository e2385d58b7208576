//! The keys under which we keep things on Kubernetes objects, and meta labels.
//!
//! A meta label is a pair that callers attach to an instance with PATCH. It is a
//! label on the pod where Kubernetes takes it as one, so that 2.7.1 can read it
//! after a roll-back, and an annotation where it does not. Which of the two is
//! decided here and nowhere else.

use super::names;
use crate::kube::types::ObjectMeta;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// What all our keys begin with.
pub const PREFIX: &str = crate::kube::types::OWN_PREFIX;

/// Label (and annotation, raw) with the app type, on the Job and on its pod template.
pub const INSTANCE_TYPE: &str = "config-controller.semafor.ch/instance-type";

/// Label (and annotation, raw) with the instance name, on the Job and on its pod template.
pub const INSTANCE_NAME: &str = "config-controller.semafor.ch/instance-name";

/// Annotation of the Job with who asked for the start.
pub const STARTED_BY: &str = "config-controller.semafor.ch/started-by";

/// Annotation of the Job with how many of its predecessors failed in a row.
pub const FAILURES: &str = "config-controller.semafor.ch/failures";

/// What the label of a meta label begins with; its key follows.
const META_LABEL: &str = "config-controller.semafor.ch/meta-";

/// What the annotation of a meta label begins with; the hash of its key follows.
const META_ANNOTATION: &str = "config-controller.semafor.ch/meta.";

/// The meta label that names the session of an instance; lists show the instance's name where it
/// is not set (contract 3.3).
pub const SESSION_ID: &str = "sessionID";

/// Keys that PATCH may not set, since the contract gives them another meaning in answers.
pub const RESERVED: [&str; 6] = ["ip", "addr", "name", "hostname", "errored", "start"];

/// Meta labels of one instance by key.
pub type MetaLabels = BTreeMap<String, String>;

/// The meta labels that an object carries, in both forms.
///
/// An annotation that is not `["key","value"]` is left out: it is not ours. Where a key has both
/// forms the label counts: we remove one form when we write the other, so it is what somebody
/// else (2.7.1 after a roll-back) has written since.
#[must_use]
pub fn meta_labels(object: &ObjectMeta) -> MetaLabels {
    let labels = object.labels.iter().filter_map(|(key, value)| {
        let key = key.strip_prefix(META_LABEL)?;
        Some((key.to_owned(), value.to_owned()))
    });
    let annotations = object
        .annotations
        .iter()
        .filter(|(key, _)| key.starts_with(META_ANNOTATION))
        .filter_map(|(_, pair)| serde_json::from_str::<(String, String)>(pair).ok());
    // Of a key that is there twice the last one stays.
    annotations.chain(labels).collect()
}

/// Why the body of a PATCH cannot become meta labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaError {
    /// The key has a meaning of its own in answers.
    Reserved(String),
    /// The value of this key is an object or an array.
    NotScalar(String),
    /// The key is empty.
    EmptyKey,
}

impl fmt::Display for MetaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(key) => write!(
                f,
                "'{key}' is reserved, since answers use it for the instance itself: choose another key"
            ),
            Self::NotScalar(key) => write!(
                f,
                "the value of '{key}' is an object or an array: give a string, a number, true, false, or null to remove it"
            ),
            Self::EmptyKey => write!(f, "a key is empty: give it at least one character"),
        }
    }
}

/// What a PATCH asks for: a value to set for each key, or `None` to remove it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaChange(BTreeMap<String, Option<String>>);

impl MetaChange {
    /// Reads the body of a PATCH: strings, numbers and booleans are taken as their text, `null` removes.
    ///
    /// # Errors
    /// The first pair that cannot be taken; nothing is changed then.
    pub fn from_body(body: &Map<String, Value>) -> Result<Self, MetaError> {
        let mut change = BTreeMap::new();
        for (key, value) in body {
            if key.is_empty() {
                return Err(MetaError::EmptyKey);
            }
            if RESERVED.contains(&key.as_str()) {
                return Err(MetaError::Reserved(key.clone()));
            }
            let text = match value {
                Value::Null => None,
                Value::String(text) => Some(text.clone()),
                Value::Bool(flag) => Some(flag.to_string()),
                Value::Number(number) => Some(number.to_string()),
                Value::Array(_) | Value::Object(_) => {
                    return Err(MetaError::NotScalar(key.clone()));
                }
            };
            change.insert(key.clone(), text);
        }
        Ok(Self(change))
    }

    /// A change that sets all of these.
    #[must_use]
    pub fn setting(labels: MetaLabels) -> Self {
        Self(
            labels
                .into_iter()
                .map(|(key, value)| (key, Some(value)))
                .collect(),
        )
    }

    /// Whether there is nothing to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The JSON merge patch (RFC 7386) of a pod: each pair in one form, the other form nulled.
    #[must_use]
    pub fn merge_patch(&self) -> Value {
        let mut labels = Map::new();
        let mut annotations = Map::new();
        for (key, value) in &self.0 {
            let annotation = format!("{META_ANNOTATION}{}", names::hash_digits(&[key]));
            let label_key_fits = names::is_label_name(&format!("meta-{key}"));
            let as_label = value
                .as_ref()
                .filter(|value| label_key_fits && names::is_label_value(value));
            let as_annotation = value
                .as_ref()
                .filter(|_| as_label.is_none())
                .map(|value| json!([key, value]).to_string());
            if label_key_fits {
                labels.insert(format!("{META_LABEL}{key}"), json!(as_label));
            }
            annotations.insert(annotation, json!(as_annotation));
        }
        json!({"metadata": {"labels": labels, "annotations": annotations}})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::{Pod, Resource as _};

    fn body(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[track_caller]
    fn check_patch(input: Value, labels: Value, annotations: Value) {
        let patch = MetaChange::from_body(&body(input)).unwrap().merge_patch();
        assert_eq!(
            patch,
            json!({"metadata": {"labels": labels, "annotations": annotations}})
        );
    }

    #[test]
    fn a_pair_that_is_a_valid_label_becomes_one_and_clears_the_other_form() {
        check_patch(
            json!({"username": "bob"}),
            json!({"config-controller.semafor.ch/meta-username": "bob"}),
            json!({"config-controller.semafor.ch/meta.16f78a7d63": null}),
        );
    }

    #[test]
    fn a_value_that_is_no_label_becomes_an_annotation() {
        check_patch(
            json!({"username": "bob@x.ch"}),
            json!({"config-controller.semafor.ch/meta-username": null}),
            json!({"config-controller.semafor.ch/meta.16f78a7d63": "[\"username\",\"bob@x.ch\"]"}),
        );
    }

    #[test]
    fn a_key_that_is_no_label_becomes_an_annotation_only() {
        check_patch(
            json!({"a b": "c"}),
            json!({}),
            json!({"config-controller.semafor.ch/meta.c8687a08aa": "[\"a b\",\"c\"]"}),
        );
    }

    #[test]
    fn numbers_booleans_and_null_are_taken() {
        let change =
            MetaChange::from_body(&body(json!({"n": 1.5, "b": true, "gone": null}))).unwrap();
        let patch = change.merge_patch();
        let labels = &patch["metadata"]["labels"];
        assert_eq!(labels["config-controller.semafor.ch/meta-n"], "1.5");
        assert_eq!(labels["config-controller.semafor.ch/meta-b"], "true");
        assert_eq!(
            labels["config-controller.semafor.ch/meta-gone"],
            Value::Null
        );
    }

    #[test]
    fn of_both_forms_the_label_counts() {
        let pod = json!({"metadata": {
            "name": "p",
            "labels": {"config-controller.semafor.ch/meta-username": "bob"},
            "annotations": {
                "config-controller.semafor.ch/meta.16f78a7d63": "[\"username\",\"bob@x.ch\"]",
                "config-controller.semafor.ch/meta.c8687a08aa": "[\"a b\",\"c\"]",
            },
        }});
        let pod = Pod::decode(pod.to_string().as_bytes()).unwrap().unwrap();
        let expected = [("a b", "c"), ("username", "bob")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(meta_labels(&pod.metadata), MetaLabels::from(expected));
    }

    #[track_caller]
    fn check_refused(input: Value, expected: MetaError) {
        assert_eq!(MetaChange::from_body(&body(input)), Err(expected));
    }

    #[test]
    fn reserved_keys_and_structures_are_refused_by_name() {
        for key in RESERVED {
            check_refused(json!({key: "x"}), MetaError::Reserved(key.into()));
        }
        check_refused(json!({"a": 1, "b": {}}), MetaError::NotScalar("b".into()));
        check_refused(json!({"b": []}), MetaError::NotScalar("b".into()));
        check_refused(json!({"": "x"}), MetaError::EmptyKey);
        assert!(MetaChange::from_body(&body(json!({"sessionID": "s"}))).is_ok());
    }
}
