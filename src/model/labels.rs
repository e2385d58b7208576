//! The keys of our labels and annotations on Kubernetes objects, and meta labels.
//!
//! A meta label is a pair that callers attach to an instance with PATCH. If it is a valid label it
//! is stored as a label of the pod, so that 2.7.1 can read it after a rollback. Otherwise it is
//! stored as an annotation. Only this file decides which; [`crate::app`] decides when to send a
//! patch.

use super::names;
use crate::kube::types::{
    LeftOut, META_ANNOTATION, META_BYTES_MAX, META_LABEL, META_PAIRS_MAX, ObjectMeta, decode_pair,
    encode_pair, meta_bytes,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

/// Prefix of all our keys.
pub const PREFIX: &str = crate::kube::types::OWN_PREFIX;

/// Label (and annotation, raw) with the app type, on the Job and on its pod template.
pub const INSTANCE_TYPE: &str = "config-controller.semafor.ch/instance-type";

/// Label (and annotation, raw) with the instance name, on the Job and on its pod template.
pub const INSTANCE_NAME: &str = "config-controller.semafor.ch/instance-name";

/// Annotation of the Job: the caller that requested the start.
pub const STARTED_BY: &str = "config-controller.semafor.ch/started-by";

/// Annotation of the Job: number of consecutive failures before it.
pub const FAILURES: &str = "config-controller.semafor.ch/failures";

/// The meta label with the session of an instance; if it is not set, lists show the instance's name
/// (contract 3.3).
pub const SESSION_ID: &str = "sessionID";

/// Keys that PATCH must not set, because they have another meaning in responses.
pub const RESERVED: [&str; 6] = ["ip", "addr", "name", "hostname", "errored", "start"];

/// Maximum number of meta labels of an instance.
pub const PAIRS_MAX: usize = META_PAIRS_MAX;

/// Maximum size of an instance's meta labels, in bytes of keys and values in JSON. Kubernetes
/// allows 256 KiB of annotations per pod and bounds labels only with the whole object, and every
/// replica keeps what is within this bound in memory.
pub const BYTES_MAX: usize = META_BYTES_MAX;

/// Maximum size of the meta labels of all instances together, counted like [`BYTES_MAX`] with
/// [`PAIR_BYTES`] more for each: enough for 10,000 instances with 400 bytes each. So a list with all of
/// them can still be sent, and they take a small part of the memory of a replica. Only a PATCH is held
/// to it: what other clients write counts, but is kept.
pub const ALL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What a meta label takes in memory besides key and value, in bytes: the prefix of its key, or a hash.
pub const PAIR_BYTES: usize = 64;

/// Maximum number of keys that one change may set or remove: enough to replace all, and more would take
/// long to read.
pub const KEYS_MAX: usize = 256;

/// Meta labels of one instance by key.
pub type MetaLabels = BTreeMap<String, String>;

/// The meta labels of an object, from its labels and annotations. Those beyond the bounds, which
/// another client has written, are not among them (see [`ObjectMeta::left_out`]).
///
/// An annotation that is not `["key","value"]` is ignored. If a key has both forms, the label
/// counts. We remove one form when writing the other, so another client (2.7.1 after a rollback)
/// has written the label since.
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
        .filter_map(|(_, pair)| decode_pair(pair));
    // The last entry of a key wins, which is the label.
    annotations.chain(labels).collect()
}

/// Size of the meta labels of an object; without those left out.
#[must_use]
pub fn size(object: &ObjectMeta) -> Size {
    Size::of(&meta_labels(object))
}

/// The session that PATCH has set on an object: the value of [`SESSION_ID`] in [`meta_labels`].
#[must_use]
pub fn session(object: &ObjectMeta) -> Option<String> {
    // Most objects have none, and reading all pairs is expensive.
    let mut labels = object.labels.iter();
    let mut annotations = object.annotations.iter();
    let may_have = labels.any(|(key, _)| key.strip_prefix(META_LABEL) == Some(SESSION_ID))
        || annotations
            .any(|(key, pair)| key.starts_with(META_ANNOTATION) && pair.contains(SESSION_ID));
    may_have
        .then(|| meta_labels(object).remove(SESSION_ID))
        .flatten()
}

/// Why the body of a PATCH cannot become meta labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaError {
    /// The key is one of [`RESERVED`].
    Reserved(String),
    /// The value of this key is an object or an array.
    NotScalar(String),
    /// The key is empty.
    EmptyKey,
    /// The change has more than [`KEYS_MAX`] keys.
    TooManyKeys,
    /// The instance would exceed [`PAIRS_MAX`] or [`BYTES_MAX`]; holds the size that it would have.
    Limit(Size),
    /// All instances together would exceed this bound, in bytes; see [`ALL_BYTES_MAX`].
    AllLimit(usize),
}

/// Size of a set of meta labels, whether stored as labels or annotations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Number of keys.
    pub pairs: usize,
    /// Bytes of all keys and values, in JSON: so many are stored.
    pub bytes: usize,
}

/// Bytes of the meta labels of all instances together, and their bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllBytes {
    /// Bytes that they have, or will have once the calls in flight are done.
    pub bytes: usize,
    /// See [`ALL_BYTES_MAX`].
    pub max: usize,
}

impl std::ops::AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.bytes += other.bytes;
    }
}

impl Size {
    fn of<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut size = Self::default();
        for (key, value) in labels {
            size.pairs += 1;
            size.bytes += meta_bytes(key, value);
        }
        size
    }

    /// What counts of these labels for [`ALL_BYTES_MAX`].
    #[must_use]
    pub const fn kept_bytes(self) -> usize {
        self.bytes + self.pairs * PAIR_BYTES
    }

    /// Fails if a bound is exceeded and the size grew. If 2.7.1 or kubectl took an instance above a
    /// bound, it can still be changed and reduced.
    fn check_after(self, before: Self) -> Result<(), MetaError> {
        let pairs_fit = self.pairs <= PAIRS_MAX.max(before.pairs);
        let bytes_fit = self.bytes <= BYTES_MAX.max(before.bytes);
        if pairs_fit && bytes_fit {
            Ok(())
        } else {
            Err(MetaError::Limit(self))
        }
    }
}

impl fmt::Display for MetaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reserved(key) => write!(
                f,
                "'{key}' is reserved, because responses use it for the instance itself; choose another key"
            ),
            Self::NotScalar(key) => write!(
                f,
                "the value of '{key}' is an object or an array; expected a string, a number, true or false, or null to remove the label"
            ),
            Self::TooManyKeys => write!(
                f,
                "a PATCH may set or remove at most {KEYS_MAX} labels; send several"
            ),
            Self::EmptyKey => write!(f, "empty key; use at least one character"),
            Self::Limit(Size { pairs, bytes }) => write!(
                f,
                "this change would leave the instance with {pairs} labels of {bytes} bytes, but at most {PAIRS_MAX} labels of {BYTES_MAX} bytes (keys and values in JSON) are allowed: remove labels by setting them to null, or shorten their values"
            ),
            Self::AllLimit(max) => write!(
                f,
                "this change would leave all instances together with more than {max} bytes of labels (keys and values in JSON, and {PAIR_BYTES} more for each): remove labels of any instances by setting them to null, shorten their values, or stop instances"
            ),
        }
    }
}

/// The change of a PATCH: for each key a value to set, or `None` to remove it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetaChange(BTreeMap<String, Option<String>>);

impl MetaChange {
    /// Parses the body of a PATCH: strings, numbers and booleans are set as text, `null` removes.
    ///
    /// # Errors
    /// The first invalid pair, or [`MetaError::Limit`] if the pairs to set exceed the bounds by themselves.
    pub fn from_body(body: &Map<String, Value>) -> Result<Self, MetaError> {
        if body.len() > KEYS_MAX {
            return Err(MetaError::TooManyKeys);
        }
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
        let change = Self(change);
        change.check_limits(&MetaLabels::new(), LeftOut::default())?;
        Ok(change)
    }

    /// The change by which a pod with the labels `own` inherits from its predecessor: the missing
    /// keys up to the bounds, the session first. `None` if there is nothing to inherit.
    #[must_use]
    pub fn inheriting(own: &MetaLabels, predecessor: MetaLabels) -> Option<Self> {
        let mut lacking: Vec<(String, String)> = predecessor
            .into_iter()
            .filter(|(key, _)| !own.contains_key(key))
            .collect();
        lacking.sort_by_key(|(key, _)| key != SESSION_ID);
        let before = Size::of(own);
        let mut size = before;
        let mut inherited = BTreeMap::new();
        for (key, value) in lacking {
            let larger = Size {
                pairs: size.pairs + 1,
                bytes: size.bytes + meta_bytes(&key, &value),
            };
            if larger.check_after(before).is_ok() {
                size = larger;
                inherited.insert(key, Some(value));
            }
        }
        (!inherited.is_empty()).then_some(Self(inherited))
    }

    /// Checks the size that an instance with the labels `own` would have after the change; `left_out`
    /// are those that it has beyond the bounds. While there are any, a change can remove labels and
    /// change those in `own`; another key could be one of those left out.
    ///
    /// # Errors
    /// [`MetaError::Limit`] if the change takes it above [`PAIRS_MAX`] or [`BYTES_MAX`], or further above.
    pub fn check_limits(&self, own: &MetaLabels, left_out: LeftOut) -> Result<(), MetaError> {
        let beyond = Size {
            pairs: left_out.pairs,
            bytes: left_out.bytes,
        };
        let (mut before, mut after) = (Size::of(own), self.size_after(own));
        before += beyond;
        after += beyond;
        if left_out.pairs > 0 && self.set().any(|(key, _)| !own.contains_key(key)) {
            return Err(MetaError::Limit(after));
        }
        after.check_after(before)
    }

    /// Checks the change of an instance with the labels `own` against the bound on all instances
    /// together, and returns how many bytes all have after it.
    ///
    /// # Errors
    /// [`MetaError::AllLimit`] if it lengthens the labels of this instance and all are above the bound
    /// then.
    pub fn check_all(&self, own: &MetaLabels, all: AllBytes) -> Result<AllBytes, MetaError> {
        let (before, after) = (
            Size::of(own).kept_bytes(),
            self.size_after(own).kept_bytes(),
        );
        let bytes = (all.bytes + after).saturating_sub(before);
        if after > before && bytes > all.max {
            return Err(MetaError::AllLimit(all.max));
        }
        Ok(AllBytes { bytes, ..all })
    }

    /// The pairs that it sets.
    fn set(&self) -> impl Iterator<Item = (&String, &String)> {
        let pairs = self.0.iter();
        pairs.filter_map(|(key, value)| Some((key, value.as_ref()?)))
    }

    /// Size that the labels `own` have after the change.
    fn size_after(&self, own: &MetaLabels) -> Size {
        let kept = own.iter().filter(|(key, _)| !self.0.contains_key(*key));
        Size::of(kept.chain(self.set()))
    }

    /// Size of the change itself, with the keys that it removes.
    #[must_use]
    pub fn size(&self) -> Size {
        let bytes = |(key, value): (&String, &Option<String>)| {
            meta_bytes(key, value.as_deref().unwrap_or_default())
        };
        Size {
            pairs: self.0.len(),
            bytes: self.0.iter().map(bytes).sum(),
        }
    }

    /// Makes the change to these labels.
    pub fn apply(&self, labels: &mut MetaLabels) {
        for (key, value) in &self.0 {
            match value {
                Some(value) => drop(labels.insert(key.clone(), value.clone())),
                None => drop(labels.remove(key)),
            }
        }
    }

    /// These changes, made one after the other, as one.
    #[must_use]
    pub fn merged<'a>(changes: impl IntoIterator<Item = &'a Self>) -> Self {
        let pairs = changes.into_iter().flat_map(|change| &change.0);
        // The last entry of a key wins.
        Self(
            pairs
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        )
    }

    /// The JSON merge patch (RFC 7386) of the pod: sets one form of each pair and removes the other.
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
                .map(|value| encode_pair(key, value));
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
    fn a_value_that_is_an_invalid_label_becomes_an_annotation() {
        check_patch(
            json!({"username": "bob@x.ch"}),
            json!({"config-controller.semafor.ch/meta-username": null}),
            json!({"config-controller.semafor.ch/meta.16f78a7d63": "[\"username\",\"bob@x.ch\"]"}),
        );
    }

    #[test]
    fn a_key_that_is_an_invalid_label_becomes_an_annotation_only() {
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
    fn the_label_wins_over_the_annotation() {
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
    fn reserved_keys_and_structures_are_rejected_by_name() {
        for key in RESERVED {
            check_refused(json!({key: "x"}), MetaError::Reserved(key.into()));
        }
        check_refused(json!({"a": 1, "b": {}}), MetaError::NotScalar("b".into()));
        check_refused(json!({"b": []}), MetaError::NotScalar("b".into()));
        check_refused(json!({"": "x"}), MetaError::EmptyKey);
        assert!(MetaChange::from_body(&body(json!({"sessionID": "s"}))).is_ok());
    }

    /// So many labels `k<n>` with these values.
    fn labels(count: usize, value: &str) -> MetaLabels {
        (0..count)
            .map(|n| (format!("k{n:04}"), value.to_owned()))
            .collect()
    }

    fn change(input: Value) -> MetaChange {
        MetaChange::from_body(&body(input)).unwrap()
    }

    #[track_caller]
    fn check_limit(own: &MetaLabels, input: Value, expected: Option<(usize, usize)>) {
        let expected = expected.map_or(Ok(()), |(pairs, bytes)| {
            Err(MetaError::Limit(Size { pairs, bytes }))
        });
        assert_eq!(
            change(input).check_limits(own, LeftOut::default()),
            expected
        );
    }

    #[test]
    fn labels_are_bounded_in_number_including_existing_ones() {
        check_limit(&labels(63, "v"), json!({"new": "v"}), None);
        check_limit(&labels(64, "v"), json!({"k0000": "another"}), None);
        check_limit(&labels(64, "v"), json!({"new": "v"}), Some((65, 388)));
        check_limit(&labels(64, "v"), json!({"new": "v", "k0000": null}), None);
    }

    #[test]
    fn labels_are_bounded_in_bytes_including_existing_ones() {
        let almost = labels(1, &"x".repeat(BYTES_MAX - 10));
        check_limit(&almost, json!({"ü": "abc"}), None);
        check_limit(&almost, json!({"ü": "abcd"}), Some((2, BYTES_MAX + 1)));
        check_limit(&almost, json!({"k0000": "short", "new": "v"}), None);
    }

    #[test]
    fn control_characters_count_as_the_six_bytes_that_are_stored() {
        let own = |count: usize| labels(1, &"\u{1}".repeat(count));
        check_limit(&own(2728), json!({"k": "\u{1}"}), None);
        let almost = 5 + 6 * 2728;
        check_limit(
            &own(2728),
            json!({"k": "\u{1}\u{1}\""}),
            Some((2, almost + 15)),
        );
        check_refused(
            json!({"k": "\u{1}".repeat(BYTES_MAX)}),
            MetaError::Limit(Size {
                pairs: 1,
                bytes: 1 + 6 * BYTES_MAX,
            }),
        );
        let inherited = MetaChange::inheriting(&own(2728), [("k".into(), "\n".repeat(6))].into());
        assert_eq!(inherited, None);
    }

    #[test]
    fn an_instance_above_the_bounds_can_be_changed_but_not_grow() {
        let many = labels(70, "v");
        check_limit(&many, json!({"k0000": null}), None);
        check_limit(&many, json!({"k0000": "another value"}), None);
        check_limit(&many, json!({"k0000": null, "new": "v"}), None);
        check_limit(&many, json!({"new": "v"}), Some((71, 424)));
        let long = labels(1, &"x".repeat(BYTES_MAX));
        check_limit(&long, json!({"k0000": "short"}), None);
        check_limit(&long, json!({"absent": null}), None);
        check_limit(&long, json!({"new": "v"}), Some((2, BYTES_MAX + 9)));
    }

    #[test]
    fn while_labels_are_left_out_only_known_ones_can_be_set() {
        let own = labels(64, "v");
        let left_out = LeftOut {
            pairs: 100,
            bytes: 700,
        };
        let check = |input: Value| change(input).check_limits(&own, left_out);
        assert_eq!(check(json!({"k0000": null, "left-out": null})), Ok(()));
        assert_eq!(check(json!({"k0000": "another"})), Ok(()));
        let limit = |pairs, bytes| Err(MetaError::Limit(Size { pairs, bytes }));
        assert_eq!(check(json!({"new": "v"})), limit(165, 1088));
        // It would not be seen: another one takes the place of the one that is removed.
        assert_eq!(check(json!({"new": "v", "k0000": null})), limit(164, 1082));
        let above = LeftOut {
            pairs: 1,
            bytes: BYTES_MAX,
        };
        let longer = change(json!({"k0000": "longer"}));
        assert!(longer.check_limits(&labels(1, "v"), above).is_err());
    }

    #[test]
    fn a_body_that_exceeds_the_bounds_by_itself_is_rejected() {
        let many: Map<String, Value> = (0..65).map(|n| (format!("k{n}"), json!("v"))).collect();
        let expected = Size {
            pairs: 65,
            bytes: 10 * 3 + 55 * 4,
        };
        check_refused(Value::Object(many), MetaError::Limit(expected));
        let expected = Size {
            pairs: 1,
            bytes: BYTES_MAX + 1,
        };
        check_refused(
            json!({"k": "x".repeat(BYTES_MAX)}),
            MetaError::Limit(expected),
        );
        let removals: Map<String, Value> =
            (0..65).map(|n| (format!("k{n}"), Value::Null)).collect();
        assert!(MetaChange::from_body(&removals).is_ok());
        let removals = |count| (0..count).map(|n| (format!("k{n}"), Value::Null)).collect();
        assert!(MetaChange::from_body(&removals(KEYS_MAX)).is_ok());
        let more = MetaChange::from_body(&removals(KEYS_MAX + 1));
        assert_eq!(more, Err(MetaError::TooManyKeys));
    }

    #[test]
    fn a_successor_inherits_no_more_than_the_bounds_allow() {
        let mut predecessor = labels(70, "old");
        predecessor.insert(SESSION_ID.into(), "s".into());
        let own = labels(2, "new");
        let inherited = MetaChange::inheriting(&own, predecessor.clone()).unwrap();
        assert_eq!(inherited.0.len(), 62);
        assert_eq!(inherited.0.get(SESSION_ID), Some(&Some("s".into())));
        assert!(!inherited.0.contains_key("k0001"));
        assert_eq!(inherited.check_limits(&own, LeftOut::default()), Ok(()));
        assert_eq!(
            MetaChange::inheriting(&labels(64, "new"), predecessor),
            None
        );
        assert_eq!(MetaChange::inheriting(&own, labels(2, "old")), None);
    }
}
