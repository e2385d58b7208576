//! [`List`]: the instances of one type as bytes that all readers share.
//!
//! Pure. A list is one JSON array. Its entries stand by name, so that the next list copies those
//! that have not changed. The JSON of an entry is made by whoever reads it. Which entries have
//! changed is kept in [`super::lists`].

use crate::budget::{Division, Full, Ledger, SharedBytes};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::iter::from_fn;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

/// A list of instances.
#[derive(Debug)]
pub struct List {
    bytes: Arc<SharedBytes>,
    etag: Box<str>,
    /// The names, one after the other.
    names: Box<str>,
    ends: Box<[End]>,
}

/// Where one entry ends.
#[derive(Clone, Copy, Debug)]
struct End {
    /// Its name, in `names`.
    name: u32,
    /// Its JSON, in `bytes`.
    entry: u32,
}

/// Entries that have changed; filled in any order, each name once.
#[derive(Debug, Default)]
pub struct Changed {
    text: Vec<u8>,
    /// By name once sorted; without a range it is gone.
    entries: Vec<(Box<str>, Option<Range<usize>>)>,
}

impl Changed {
    /// The entry of this name is what `encode` appends.
    pub fn entry(&mut self, name: &str, encode: impl FnOnce(&mut Vec<u8>)) {
        let start = self.text.len();
        encode(&mut self.text);
        let range = start..self.text.len();
        self.entries.push((name.into(), Some(range)));
    }

    /// There is no entry of this name now.
    pub fn gone(&mut self, name: &str) {
        self.entries.push((name.into(), None));
    }

    fn sort(&mut self) {
        self.entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    }

    /// By name; `None` instead of the JSON where it is gone.
    fn iter(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let text = |range: &Range<usize>| &self.text[range.clone()];
        self.entries
            .iter()
            .map(move |(name, range)| (&**name, range.as_ref().map(text)))
    }
}

impl List {
    /// The list without entries, which is in no budget.
    ///
    /// # Panics
    /// Never: its bytes are fewer than its ledger has.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        static EMPTY: LazyLock<Arc<List>> = LazyLock::new(|| {
            let ledger = Ledger::of_bytes(1024, Division::UNLIMITED);
            let empty = List::new(Changed::default(), &ledger);
            Arc::new(empty.expect("two bytes fit in its ledger"))
        });
        Arc::clone(&EMPTY)
    }

    /// The list of these entries alone.
    ///
    /// # Errors
    /// [`Full`] if there is no memory for it.
    pub fn new(mut entries: Changed, ledger: &Arc<Ledger>) -> Result<Self, Full> {
        entries.sort();
        let present = || {
            entries
                .iter()
                .filter_map(|(name, entry)| Some((name, entry?)))
        };
        Self::of(present, ledger)
    }

    /// This list after these changes.
    ///
    /// # Errors
    /// [`Full`] if there is no memory for it.
    pub fn after(&self, mut changed: Changed, ledger: &Arc<Ledger>) -> Result<Self, Full> {
        changed.sort();
        Self::of(|| self.merged(&changed), ledger)
    }

    /// The JSON array.
    #[must_use]
    pub const fn bytes(&self) -> &Arc<SharedBytes> {
        &self.bytes
    }

    /// A strong entity tag of the bytes (RFC 9110 §8.8.3), the same in every replica.
    #[must_use]
    pub const fn etag(&self) -> &str {
        &self.etag
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A list of these entries, which are by name. They are gone through twice, so that the bytes
    /// are written to where they stay.
    fn of<'a, I: Iterator<Item = (&'a str, &'a [u8])>>(
        entries: impl Fn() -> I,
        ledger: &Arc<Ledger>,
    ) -> Result<Self, Full> {
        let (mut count, mut name_bytes, mut bytes) = (0, 0, 2);
        for (name, entry) in entries() {
            name_bytes += name.len();
            bytes += entry.len() + usize::from(count > 0);
            count += 1;
        }
        let mut names = String::with_capacity(name_bytes);
        let mut ends = Vec::with_capacity(count);
        let array = SharedBytes::new(ledger, bytes, |into| {
            let mut at = 0;
            let mut write = |piece: &[u8]| {
                into[at..at + piece.len()].copy_from_slice(piece);
                at += piece.len();
                u32::try_from(at).expect("a list is bounded far below 4 GiB by the memory of a pod")
            };
            write(b"[");
            for (name, entry) in entries() {
                if !ends.is_empty() {
                    write(b",");
                }
                names.push_str(name);
                let name =
                    u32::try_from(names.len()).expect("names are shorter than their entries");
                let entry = write(entry);
                ends.push(End { name, entry });
            }
            write(b"]");
        })?;
        Ok(Self {
            etag: etag_of(&array),
            bytes: array,
            names: names.into(),
            ends: ends.into(),
        })
    }

    fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        // A bracket or a comma stands before each entry.
        let mut before = End { name: 0, entry: 0 };
        self.ends.iter().map(move |&end| {
            let name = &self.names[before.name as usize..end.name as usize];
            let entry = &self.bytes[before.entry as usize + 1..end.entry as usize];
            before = end;
            (name, entry)
        })
    }

    /// The entries after these changes, which are sorted.
    fn merged<'a>(&'a self, changed: &'a Changed) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut kept = self.iter().peekable();
        let mut changed = changed.iter().peekable();
        from_fn(move || {
            loop {
                let Some((name, _)) = changed.peek() else {
                    return kept.next();
                };
                if let Some(before) = kept.next_if(|(kept, _)| kept < name) {
                    return Some(before);
                }
                let (name, entry) = changed.next()?;
                let _ = kept.next_if(|(kept, _)| *kept == name);
                if let Some(entry) = entry {
                    return Some((name, entry));
                }
            }
        })
    }
}

fn etag_of(bytes: &[u8]) -> Box<str> {
    // It has the same keys in every process, so all replicas agree.
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    let mut etag = String::new();
    write!(etag, "\"{:x}-{:016x}\"", bytes.len(), hasher.finish())
        .expect("writing to memory does not fail");
    etag.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn changed(entries: &[(&str, Option<&str>)]) -> Changed {
        let mut changed = Changed::default();
        for (name, json) in entries {
            match json {
                Some(json) => changed.entry(name, |into| into.extend_from_slice(json.as_bytes())),
                None => changed.gone(name),
            }
        }
        changed
    }

    fn ledger() -> Arc<Ledger> {
        Ledger::of_bytes(1 << 20, Division::default())
    }

    fn of(entries: Changed) -> List {
        List::new(entries, &ledger()).unwrap()
    }

    fn after(list: &List, changed: Changed) -> List {
        list.after(changed, &ledger()).unwrap()
    }

    fn text(list: &List) -> &str {
        std::str::from_utf8(list.bytes()).unwrap()
    }

    #[test]
    fn an_empty_list_is_an_empty_array() {
        let list = of(Changed::default());
        assert_eq!((text(&list), list.len()), ("[]", 0));
        assert!(list.is_empty());
        let gone = after(&list, changed(&[("a", None)]));
        assert_eq!(text(&gone), "[]");
    }

    #[test]
    fn entries_are_added_replaced_and_removed_by_name() {
        let list = of(changed(&[("b", Some("2")), ("a", Some("{}"))]));
        assert_eq!((text(&list), list.len()), ("[{},2]", 2));
        let list = after(
            &list,
            changed(&[
                ("c", Some("3")),
                ("a", None),
                ("b", Some("22")),
                ("0", Some("0")),
            ]),
        );
        assert_eq!(text(&list), "[0,22,3]");
        assert_eq!(text(&after(&list, Changed::default())), "[0,22,3]");
    }

    #[test]
    fn after_any_changes_a_list_is_that_of_all_entries() {
        let mut state = 3_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) % below
        };
        let mut model = BTreeMap::new();
        let mut list = of(Changed::default());
        for step in 0..2000 {
            let mut changes = BTreeMap::new();
            for _ in 0..random(4) {
                let name = "é".repeat(usize::try_from(random(9)).unwrap());
                changes.insert(name, (random(3) > 0).then(|| step.to_string()));
            }
            let borrowed: Vec<_> = changes
                .iter()
                .map(|(name, json)| (name.as_str(), json.as_deref()))
                .collect();
            list = after(&list, changed(&borrowed));
            for (name, json) in changes {
                match json {
                    Some(json) => drop(model.insert(name, json)),
                    None => drop(model.remove(&name)),
                }
            }
            let entries: Vec<&str> = model.values().map(String::as_str).collect();
            assert_eq!(text(&list), format!("[{}]", entries.join(",")));
            assert_eq!(list.len(), model.len());
        }
    }

    #[test]
    fn the_tag_depends_on_the_bytes_alone() {
        let one = of(changed(&[("a", Some("1"))]));
        let same = after(&one, changed(&[("a", None), ("b", Some("2"))]));
        let same = after(&same, changed(&[("a", Some("1")), ("b", None)]));
        let other = after(&one, changed(&[("a", Some("2"))]));
        assert_eq!(one.etag(), same.etag());
        assert_ne!(one.etag(), other.etag());
        let is_strong = |tag: &str| tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2;
        assert!(is_strong(one.etag()), "{}", one.etag());
    }

    #[test]
    fn without_memory_there_is_no_list() {
        let ledger = Ledger::of_bytes(16, Division::default());
        let entries = || changed(&[("a", Some("1234567"))]);
        assert_eq!(List::new(entries(), &ledger).unwrap_err(), Full::Budget);
        let list = List::new(changed(&[("a", Some("123456"))]), &ledger).unwrap();
        assert_eq!(list.after(entries(), &ledger).unwrap_err(), Full::Budget);
    }
}
