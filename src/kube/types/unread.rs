//! Keys of a ConfigMap that look like templates and are not read, so that their author can be told.

use super::TEMPLATE_SUFFIX;
use crate::sorting;
use serde::de::{Deserialize, Deserializer, IgnoredAny};
use std::collections::BTreeMap;

/// How many keys of a ConfigMap that are not read are kept.
pub const UNREAD_KEYS_MAX: usize = 16;

/// A key of a ConfigMap that looks like a template and is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnreadKey {
    /// The key.
    pub key: Box<str>,
    /// Why it is not read.
    pub cause: UnreadCause,
}

/// Why a key of a ConfigMap is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnreadCause {
    /// It does not end with [`TEMPLATE_SUFFIX`].
    Suffix,
    /// It is in `binaryData`: its text is not UTF-8.
    Binary,
}

/// Whether a key looks like that of a template: it ends as one in YAML or JSON.
pub(super) fn looks_like_template(key: &str) -> bool {
    let stem = [TEMPLATE_SUFFIX, ".yml", ".json"].map(|suffix| key.strip_suffix(suffix));
    stem.iter().flatten().any(|stem| !stem.is_empty())
}

/// The keys of `binaryData` that look like templates.
#[derive(Default)]
pub(super) struct BinaryKeys(Vec<Box<str>>);

impl<'de> Deserialize<'de> for BinaryKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all: Option<BTreeMap<Box<str>, IgnoredAny>> = Option::deserialize(deserializer)?;
        let keys = all.unwrap_or_default().into_keys();
        Ok(Self(keys.filter(|key| looks_like_template(key)).collect()))
    }
}

/// These keys of `data` and of `binaryData`, by key, the first of them.
pub(super) fn join(suffixes: Vec<Box<str>>, binary: BinaryKeys) -> Box<[UnreadKey]> {
    let of = |cause| move |key| UnreadKey { key, cause };
    let suffixes = suffixes.into_iter().map(of(UnreadCause::Suffix));
    let binary = binary.0.into_iter().map(of(UnreadCause::Binary));
    let mut unread: Vec<UnreadKey> = suffixes.chain(binary).collect();
    sorting::sort_by(&mut unread, |a, b| a.key.cmp(&b.key));
    unread.truncate(UNREAD_KEYS_MAX);
    unread.into()
}
