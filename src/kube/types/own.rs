//! Labels and annotations of one object while they are read: which of ours are kept, and how many.
//!
//! Anybody who may change a pod can attach meta labels to it, without a bound but that of the object.
//! We keep those that come first: labels by key, then annotations by key, up to [`META_PAIRS_MAX`]
//! pairs and [`META_BYTES_MAX`] bytes. So every replica keeps the same ones, whatever it has seen
//! before. [`LeftOut`] says how much there is beyond. [`crate::model::labels`] knows what meta labels
//! mean.

use super::Uid;
use super::bounded::Text;
use super::pairs::{JOB_VALUES, LeftOut, Pairs, is_ours};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;

/// Prefix of a meta label that is stored as a label; its key follows.
pub const META_LABEL: &str = "config-controller.semafor.ch/meta-";

/// Prefix of a meta label that is stored as an annotation; the hash of its key follows. In the order
/// of all keys it comes after [`META_LABEL`].
pub const META_ANNOTATION: &str = "config-controller.semafor.ch/meta.";

/// How many meta labels of an object are kept.
pub const META_PAIRS_MAX: usize = 64;

/// How many bytes of meta labels of an object are kept, as [`meta_bytes`] counts them.
pub const META_BYTES_MAX: usize = 16 * 1024;

/// How much of the value of any other pair is kept, in bytes: more than any valid one has.
pub const VALUE_BYTES_MAX: usize = 256;

/// How much of the value of a setting with values for a template is kept, in bytes.
pub(super) const EXAMPLE_BYTES_MAX: usize = 4096;

/// The longest such values, in bytes; longer ones are not written.
pub const JOB_VALUES_BYTES_MAX: usize = EXAMPLE_BYTES_MAX;

/// Whether it is the key of values for a template, of all types or of one.
fn has_values(key: &str) -> bool {
    let example = key.strip_suffix("example");
    key == JOB_VALUES || example.is_some_and(|before| before.ends_with(['/', '.']))
}

/// The label with which the Job controller marks the pods that it has made or taken over; the value is
/// the UID of their Job.
pub const CONTROLLER_UID: &str = "batch.kubernetes.io/controller-uid";

/// Our labels or our annotations.
#[derive(Default)]
pub(super) struct Own {
    /// Among labels, the one of the Job controller.
    pub(super) controller: Option<Uid>,
    plain: Vec<(String, Box<str>)>,
    meta: Meta,
}

/// Meta labels: of those added so far the first ones by key, as many as the bounds allow.
#[derive(Default)]
struct Meta {
    kept: BTreeMap<String, (Box<str>, usize)>,
    bytes: usize,
    /// The first key that did not fit; none after it does.
    ceiling: Option<String>,
    left_out: LeftOut,
}

impl Meta {
    /// Adds a pair that counts so many bytes.
    fn add(&mut self, key: String, value: Box<str>, bytes: usize) {
        if self.ceiling.as_ref().is_some_and(|first| *first <= key) {
            self.left_out.add(LeftOut { pairs: 1, bytes });
            return;
        }
        let replaced = self.kept.insert(key, (value, bytes));
        self.bytes += bytes;
        self.bytes -= replaced.map_or(0, |(_, bytes)| bytes);
        while !self.fits(&Self::default())
            && let Some((key, (_, bytes))) = self.kept.pop_last()
        {
            self.bytes -= bytes;
            self.left_out.add(LeftOut { pairs: 1, bytes });
            self.ceiling = Some(key);
        }
    }

    /// Whether both together are within the bounds.
    fn fits(&self, other: &Self) -> bool {
        self.kept.len() + other.kept.len() <= META_PAIRS_MAX
            && self.bytes + other.bytes <= META_BYTES_MAX
    }
}

impl Own {
    /// Without meta labels.
    pub(super) fn without_meta(self) -> Self {
        Self {
            meta: Meta::default(),
            ..self
        }
    }

    /// Without other pairs than meta labels whose key does not satisfy this.
    pub(super) fn only(mut self, keeps: impl Fn(&str) -> bool) -> Self {
        self.plain.retain(|(key, _)| keeps(key));
        self
    }

    /// Labels and annotations of an object, with no more meta labels in all than the bounds allow.
    pub(super) fn join(labels: Self, annotations: Self) -> (Pairs, Pairs) {
        let (mut joint, others) = (labels.meta, annotations.meta);
        let fits = joint.fits(&others);
        joint.left_out.add(others.left_out);
        for (key, (pair, bytes)) in others.kept {
            // The label of the same key counts instead of it.
            let is_repeated = || {
                let label = decode_pair(&pair).map(|(key, _)| format!("{META_LABEL}{key}"));
                label.is_some_and(|label| joint.kept.contains_key(&label))
            };
            if fits || !is_repeated() {
                joint.add(key, pair, bytes);
            }
        }
        let as_annotations = joint.kept.split_off(META_ANNOTATION);
        let pairs = |plain: Vec<(String, Box<str>)>, meta: BTreeMap<String, (Box<str>, usize)>| {
            let meta = meta.into_iter().map(|(key, (value, _))| (key, value));
            plain.into_iter().chain(meta).collect::<Pairs>()
        };
        let labels = pairs(labels.plain, joint.kept).with_left_out(joint.left_out);
        (labels, pairs(annotations.plain, as_annotations))
    }
}

/// What a meta label counts: the bytes of its key and its value in JSON. So much of it is kept, and so
/// much is in each list; a control character has six.
#[must_use]
pub fn meta_bytes(key: &str, value: &str) -> usize {
    let bytes = key.bytes().chain(value.bytes());
    bytes.map(json_bytes).sum()
}

/// How many bytes a byte of a text has in JSON.
const fn json_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..=0x1f => 6,
        _ => 1,
    }
}

/// The text of an annotation that stores a meta label, the shortest one.
#[must_use]
pub fn encode_pair(key: &str, value: &str) -> String {
    serde_json::json!([key, value]).to_string()
}

/// Key and value of a meta label that is stored as an annotation; `None` where it is not one.
#[must_use]
pub fn decode_pair(annotation: &str) -> Option<(String, String)> {
    serde_json::from_str(annotation).ok()
}

/// How a map holds meta labels.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Label,
    Annotation,
}

/// Reads labels.
pub(super) fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Own, D::Error> {
    deserializer.deserialize_option(OwnVisitor(Form::Label))
}

/// Reads annotations.
pub(super) fn annotations<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Own, D::Error> {
    deserializer.deserialize_option(OwnVisitor(Form::Annotation))
}

struct OwnVisitor(Form);

impl<'de> Visitor<'de> for OwnVisitor {
    type Value = Own;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of strings")
    }

    fn visit_none<E>(self) -> Result<Own, E> {
        Ok(Own::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Own, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Own, A::Error> {
        let mut own = Own::default();
        while let Some(OurKey(key)) = map.next_key()? {
            let Some(key) = key else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            match (key.strip_prefix(META_LABEL), self.0) {
                _ if key == CONTROLLER_UID => own.controller = map.next_value()?,
                (Some(short), Form::Label) => {
                    let value: Box<str> = map.next_value::<Option<_>>()?.unwrap_or_default();
                    let bytes = meta_bytes(short, &value);
                    own.meta.add(key, value, bytes);
                }
                (None, Form::Annotation) if key.starts_with(META_ANNOTATION) => {
                    let pair: Box<str> = map.next_value::<Option<_>>()?.unwrap_or_default();
                    if let Some((short, value)) = decode_pair(&pair) {
                        // Others may have written more than the pair needs.
                        let pair = encode_pair(&short, &value).into();
                        own.meta.add(key, pair, meta_bytes(&short, &value));
                    }
                }
                // The form of the other map has no meaning in this one.
                _ if key.starts_with(META_LABEL) || key.starts_with(META_ANNOTATION) => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ if has_values(&key) => {
                    let value: Option<Text<EXAMPLE_BYTES_MAX>> = map.next_value()?;
                    let value = value.map(|text| text.0).unwrap_or_default();
                    own.plain.push((key, value));
                }
                _ => {
                    let value: Option<Text<VALUE_BYTES_MAX>> = map.next_value()?;
                    let value = value.map(|text| text.0).unwrap_or_default();
                    own.plain.push((key, value));
                }
            }
        }
        Ok(own)
    }
}

/// A key, if it is ours.
struct OurKey(Option<String>);

impl<'de> Deserialize<'de> for OurKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::scalars::from_text(deserializer, "a key", |key| {
            let is_read = is_ours(key) || key == CONTROLLER_UID;
            Some(Self(is_read.then(|| key.into())))
        })
    }
}

/// As the annotations of an object that has no labels.
impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let annotations = annotations(deserializer)?;
        Ok(Own::join(Own::default(), annotations).1)
    }
}
