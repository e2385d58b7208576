//! Our labels and annotations of one object, in one allocation or none.
//!
//! Which keys are ours is decided here: those that begin with
//! [`OWN_PREFIX`](super::OWN_PREFIX), and those of one app type,
//! `<type>.config-controller.semafor.ch/…`. Their meaning is not known here.

use super::{INSTANCE_NAME, INSTANCE_TYPE, OWN_PREFIX, TEMPLATE_REVISION, VALUES_REVISION};
use crate::sorting;
use std::fmt;

/// Ends each key and each value. A value that contains it is dropped; neither we
/// nor Kubernetes write one.
const END: char = '\0';

/// Keys that nearly every instance has, held as one byte: their place in this list, plus 1.
pub(super) const COMMON_KEYS: [&str; 12] = [
    INSTANCE_TYPE,
    INSTANCE_NAME,
    "config-controller.semafor.ch/failures",
    "config-controller.semafor.ch/min-ready",
    "config-controller.semafor.ch/idle-timeout",
    OWNER,
    ADMISSION,
    CAPS,
    TEMPLATE_REVISION,
    VALUES_REVISION,
    JOB_VALUES,
    RESTARTED_FOR,
];

/// Annotation of a Job: the values for its template that it was made with, in JSON.
pub const JOB_VALUES: &str = "config-controller.semafor.ch/values";

/// Annotation of a Job that was made since its template had changed: the revision of that template.
pub const RESTARTED_FOR: &str = "config-controller.semafor.ch/restarted-for";

/// Annotations of Jobs about caps, see `model/job/caps.rs`.
const OWNER: &str = "config-controller.semafor.ch/owner";
const ADMISSION: &str = "config-controller.semafor.ch/admission";
const CAPS: &str = "config-controller.semafor.ch/caps";

/// Those of them that are read of Jobs only, to save memory: pods repeat them.
pub(super) const KEYS_OF_JOBS: [&str; 7] = [
    TEMPLATE_REVISION,
    VALUES_REVISION,
    OWNER,
    ADMISSION,
    CAPS,
    JOB_VALUES,
    RESTARTED_FOR,
];

/// Stands in the place of a key before what was left out, which is held as a pair: it costs nothing
/// where nothing was.
const LEFT_OUT: &str = "left out";

/// Meta labels of an object that are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Their number.
    pub pairs: usize,
    /// Bytes of their keys and values in JSON.
    pub bytes: usize,
}

impl LeftOut {
    pub(super) fn add(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.bytes += other.bytes;
    }
}

/// Pairs of strings, sorted by key; only keys that are ours.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pairs(Option<Box<str>>);

impl Pairs {
    /// The value of this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find(|(own, _)| *own == key)
            .map(|(_, value)| value)
    }

    /// All pairs, by key; keys are whole, prefix included.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.all().filter(|(key, _)| *key != LEFT_OUT)
    }

    /// How many meta labels of the object are not among its pairs.
    #[must_use]
    pub fn left_out(&self) -> LeftOut {
        let mut all = self.all();
        let found = all.find(|(key, _)| *key == LEFT_OUT);
        let numbers = found.and_then(|(_, numbers)| numbers.split_once(' '));
        numbers.map_or_else(LeftOut::default, |(pairs, bytes)| LeftOut {
            pairs: pairs.parse().unwrap_or_default(),
            bytes: bytes.parse().unwrap_or_default(),
        })
    }

    /// These pairs, with the number of those that are not kept.
    pub(super) fn with_left_out(self, LeftOut { pairs, bytes }: LeftOut) -> Self {
        if pairs == 0 {
            return self;
        }
        let kept = self.0.as_deref().unwrap_or_default();
        let text = format!("{kept}{LEFT_OUT}{END}{pairs} {bytes}{END}");
        Self(Some(text.into()))
    }

    fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.0.as_deref().unwrap_or_default();
        let mut next = move || {
            // They are short, and a search for long texts has a higher fixed cost.
            let end = rest.bytes().position(|byte| byte == END as u8)?;
            let part = &rest[..end];
            rest = &rest[end + 1..];
            Some(part)
        };
        std::iter::from_fn(move || Some((long_key(next()?), next()?)))
    }

    /// Drops type and name of the instance where `others` repeat them, to save memory: labels and
    /// annotations of an instance usually do.
    pub(super) fn drop_repeated_in(&mut self, others: &Self) {
        let is_repeated = |(key, value): &(&str, &str)| {
            [INSTANCE_TYPE, INSTANCE_NAME].contains(key) && others.get(key) == Some(*value)
        };
        if self.iter().any(|pair| is_repeated(&pair)) {
            let others: Self = self.iter().filter(|pair| !is_repeated(pair)).collect();
            *self = others.with_left_out(self.left_out());
        }
    }

    /// Type and name of the instance, each from the first of these that has it; without those that
    /// `own` has.
    pub(super) fn identity(from: [&Self; 2], own: &Self) -> Self {
        let keys = [INSTANCE_TYPE, INSTANCE_NAME].into_iter();
        let missing = keys.filter(|key| own.get(key).is_none());
        let found = missing.filter_map(|key| {
            let value = from.iter().find_map(|pairs| pairs.get(key))?;
            Some((key, value))
        });
        found.collect()
    }
}

/// Whether we keep a pair of that key.
pub(super) fn is_ours(key: &str) -> bool {
    key.starts_with(OWN_PREFIX)
        || key
            .split_once(OWN_PREFIX)
            .is_some_and(|(app_type, _)| app_type.ends_with('.'))
}

/// The key as it is stored.
fn short_key(key: &str) -> String {
    match COMMON_KEYS.iter().position(|common| *common == key) {
        Some(place) => char::from(place as u8 + 1).into(),
        None => key.into(),
    }
}

/// The key as it was read.
fn long_key(key: &str) -> &str {
    match key.as_bytes() {
        [place] => COMMON_KEYS
            .get(usize::from(*place).wrapping_sub(1))
            .copied()
            .unwrap_or(key),
        _ => key,
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut kept: Vec<(K, V)> = pairs
            .into_iter()
            .filter(|(key, value)| is_ours(key.as_ref()) && !value.as_ref().contains(END))
            .collect();
        sorting::sort_by(&mut kept, |(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        let mut text = String::new();
        for (key, value) in &kept {
            text.push_str(&short_key(key.as_ref()));
            text.push(END);
            text.push_str(value.as_ref());
            text.push(END);
        }
        Self((!text.is_empty()).then(|| text.into()))
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.all()).finish()
    }
}

/// Bytes allocated for these pairs; for the test of memory.
#[cfg(test)]
pub(super) fn heap_bytes(pairs: &Pairs) -> usize {
    pairs.0.as_ref().map_or(0, |text| text.len())
}
