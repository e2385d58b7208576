//! The entries of a map: merge keys bring more, and of equal keys the last wins.
//!
//! Types of scalars and bounds are not decided here.

use super::{Entry, Kind, Node, NodeId};
use std::collections::HashMap;

/// The entries that a merge key adds; later ones override earlier ones.
pub(super) fn merged(nodes: &[Node], value: NodeId) -> Option<Vec<Entry>> {
    let entries_of = |id: NodeId| match &nodes[id.0 as usize].kind {
        Kind::Mapping(entries) => Some(entries.as_slice()),
        Kind::Scalar(_) | Kind::Sequence(_) => None,
    };
    if let Kind::Sequence(items) = &nodes[value.0 as usize].kind {
        let mut all = Vec::new();
        // The first map of a list takes precedence, so it comes last.
        for item in items.iter().rev() {
            all.extend_from_slice(entries_of(*item)?);
        }
        return Some(all);
    }
    entries_of(value).map(<[Entry]>::to_vec)
}

/// Keeps only the last entry of each key, at the position of the first.
pub(super) fn last_wins(entries: Vec<Entry>) -> Vec<Entry> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(entries.len());
    let mut kept: Vec<Entry> = Vec::with_capacity(entries.len());
    for entry in entries {
        if let Some(place) = places.get(&entry.key) {
            kept[*place] = entry;
        } else {
            places.insert(entry.key.clone(), kept.len());
            kept.push(entry);
        }
    }
    kept
}
