//! The fields of pod templates: `fields.txt`, read once.
//!
//! Which values a field may have is in `rules.rs`.

use crate::model::spelling;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The type of a field. Lists and maps hold the code of their items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Flag,
    Int32,
    Int64,
    Quantity,
    IntOrText,
    Time,
    Any,
    Object(&'static str),
    List(&'static str),
    Map(&'static str),
}

impl Kind {
    /// The type with this code in the file.
    pub(super) fn of(code: &'static str) -> Self {
        match code.split_at(code.len().min(1)) {
            ("s", _) => Self::Text,
            ("b", _) => Self::Flag,
            ("i", _) => Self::Int32,
            ("l", _) => Self::Int64,
            ("q", _) => Self::Quantity,
            ("x", _) => Self::IntOrText,
            ("t", _) => Self::Time,
            ("@", name) => Self::Object(name),
            ("[", item) => Self::List(item),
            ("{", item) => Self::Map(item),
            _ => Self::Any,
        }
    }
}

/// A field of a type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether the oldest supported Kubernetes does not know it.
    pub(super) is_new: bool,
}

static TABLE: LazyLock<HashMap<&str, Vec<Field>>> = LazyLock::new(|| {
    let lines = include_str!("fields.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.filter_map(read).collect()))
        })
        .collect()
});

fn read(word: &'static str) -> Option<Field> {
    let (name, code) = word.split_once('=')?;
    let known = name.strip_prefix('+');
    Some(Field {
        name: known.unwrap_or(name),
        kind: Kind::of(code),
        is_new: known.is_some(),
    })
}

fn of_type(name: &str) -> &'static [Field] {
    TABLE.get(name).map_or(&[], Vec::as_slice)
}

/// The field of that name. Kubernetes distinguishes upper and lower case.
pub(super) fn find(type_name: &str, name: &str) -> Option<Field> {
    let mut fields = of_type(type_name).iter();
    fields.find(|field| field.name == name).copied()
}

/// The field that was probably meant.
pub(super) fn similar(type_name: &str, name: &str) -> Option<&'static str> {
    let all = of_type(type_name).iter();
    spelling::nearest(name, all.map(|field| field.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_that_a_field_has_is_in_the_table() {
        let mut seen = 0;
        for field in TABLE.values().flatten() {
            let mut kind = field.kind;
            while let Kind::List(code) | Kind::Map(code) = kind {
                kind = Kind::of(code);
            }
            if let Kind::Object(name) = kind {
                seen += 1;
                assert!(TABLE.contains_key(name), "{name}");
            }
            assert!(kind != Kind::Any || field.name == "fieldsV1", "{field:?}");
        }
        assert!(seen > 100, "{seen}");
        assert_eq!(find("Container", "image").unwrap().kind, Kind::Text);
        assert!(find("Container", "Image").is_none());
        assert!(find("Lifecycle", "stopSignal").unwrap().is_new);
        assert!(!find("Lifecycle", "preStop").unwrap().is_new);
    }

    #[test]
    fn misspelt_names_are_recognised() {
        for (wrong, meant) in [
            ("readinesProbe", Some("readinessProbe")),
            ("recources", Some("resources")),
            ("imagePullPolicyy", Some("imagePullPolicy")),
            ("imagepullpolicy", Some("imagePullPolicy")),
            ("volumemount", Some("volumeMounts")),
            ("tt", Some("tty")),
            ("tr", None),
            ("replicas", None),
            ("", None),
        ] {
            assert_eq!(similar("Container", wrong), meant, "{wrong}");
        }
    }
}
