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
use crate::sorting;
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

/// Annotation of the Job and of its pod template: the revision of the template that it is made from (see
/// [`super::revision`]).
pub const TEMPLATE_REVISION: &str = crate::kube::types::TEMPLATE_REVISION;

/// Annotation of the Job and of its pod template: the revision of the values that it is made with.
pub const VALUES_REVISION: &str = crate::kube::types::VALUES_REVISION;

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

/// What app types with few labels may have beyond [`ALL_BYTES_MAX`], all of them together, in bytes: so
/// one type with many labels does not keep all others from theirs.
pub const RESERVE_BYTES: usize = 1024 * 1024;

/// The meta labels of all instances of a type with few labels, in bytes, counted like
/// [`ALL_BYTES_MAX`]: four instances with as many as they may have. Sixteen such types fill
/// [`RESERVE_BYTES`].
pub const FEW_BYTES_MAX: usize = 64 * 1024;

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
    sorting::map(annotations.chain(labels))
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

/// The bounds on the meta labels of all instances together, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllBounds {
    /// See [`ALL_BYTES_MAX`].
    pub max: usize,
    /// See [`RESERVE_BYTES`].
    pub reserve: usize,
    /// See [`FEW_BYTES_MAX`].
    pub few: usize,
}

impl AllBounds {
    /// Those of the service.
    pub const DEFAULT: Self = Self {
        max: ALL_BYTES_MAX,
        reserve: RESERVE_BYTES,
        few: FEW_BYTES_MAX,
    };

    /// The bound for a type whose own labels have so many bytes.
    const fn max_for(self, of_type: usize) -> usize {
        if of_type <= self.few {
            self.max + self.reserve
        } else {
            self.max
        }
    }
}

/// Bytes of the meta labels of all instances together, as they are, or will be once the calls in flight
/// are done; and their bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllBytes {
    /// Of all types.
    pub bytes: usize,
    /// Of the type of the instance that is labelled.
    pub of_type: usize,
    /// Their bounds.
    pub bounds: AllBounds,
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
        sorting::sort_by(&mut lacking, |(a, _), (b, _)| {
            (a != SESSION_ID).cmp(&(b != SESSION_ID))
        });
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

    /// Checks the change of an instance with the labels `own` against the bounds on all instances
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
        let grown = |bytes: usize| (bytes + after).saturating_sub(before);
        let (bytes, of_type) = (grown(all.bytes), grown(all.of_type));
        let max = all.bounds.max_for(of_type);
        if after > before && bytes > max {
            return Err(MetaError::AllLimit(max));
        }
        Ok(AllBytes {
            bytes,
            of_type,
            ..all
        })
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
        Self(sorting::map(
            pairs.map(|(key, value)| (key.clone(), value.clone())),
        ))
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
mod tests;
