//! [`List`]: the instances of one type, all templates, or a page of all instances, as bytes that all readers
//! share.
//!
//! Pure. A list is one JSON array. Its entries stand by name, so that the next list copies those
//! that have not changed. The JSON of an entry is made by whoever asks for the list. Which entries
//! have changed is kept in [`super::lists`].

use super::error::Error;
use crate::budget::{Division, Draft, Full, Ledger, SharedBytes};
use crate::sorting;
use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::{Arc, LazyLock};

/// A list.
#[derive(Debug)]
pub struct List {
    bytes: Arc<SharedBytes>,
    /// What follows the array.
    tail: &'static str,
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

impl List {
    /// The list without entries, which is in no budget.
    ///
    /// # Panics
    /// Never: its bytes are fewer than its ledger has.
    #[must_use]
    pub fn empty() -> Arc<Self> {
        static EMPTY: LazyLock<Arc<List>> = LazyLock::new(|| {
            let ledger = Ledger::of_bytes(1024, Division::UNLIMITED);
            let mut draft = Draft::new(&ledger, 2).expect("two bytes fit in its ledger");
            draft.append(b"[]").expect("there is room for them");
            Arc::new(List::of(draft, "", String::new(), Vec::new()))
        });
        Arc::clone(&EMPTY)
    }

    /// The list of these entries alone, which ends with `tail`.
    ///
    /// # Errors
    /// As of [`List::after`].
    pub fn new<N: Borrow<str> + Ord>(
        names: &BTreeSet<N>,
        tail: &'static str,
        encode: impl Fn(&N, &mut Vec<u8>) -> bool,
        ledger: &Arc<Ledger>,
    ) -> Result<Self, Error> {
        Self::empty().made(names, encode, ledger, tail)
    }

    /// The list of those entries whose name satisfies this.
    ///
    /// # Errors
    /// As of [`List::after`].
    pub fn only(&self, keeps: impl Fn(&str) -> bool, ledger: &Arc<Ledger>) -> Result<Self, Error> {
        let kept = self.iter().filter(|(name, _)| keeps(name));
        let kept = sorting::map(kept);
        let names = sorting::set(kept.keys().copied());
        let encode = |name: &&str, into: &mut Vec<u8>| {
            into.extend_from_slice(kept[name]);
            true
        };
        Self::empty().made(&names, encode, ledger, self.tail)
    }

    /// This list once the entries of these names have changed. `encode` appends the JSON of one, or
    /// returns `false` if there is none. It is called twice for each: what does not fit is refused
    /// before it is rendered, and the bytes are written to where they stay. Entries may change
    /// between the two calls.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there is no memory for it, [`Error::ListTooLarge`] if there never is.
    pub fn after<N: Borrow<str> + Ord>(
        &self,
        names: &BTreeSet<N>,
        encode: impl Fn(&N, &mut Vec<u8>) -> bool,
        ledger: &Arc<Ledger>,
    ) -> Result<Self, Error> {
        self.made(names, encode, ledger, self.tail)
    }

    fn made<N: Borrow<str> + Ord>(
        &self,
        names: &BTreeSet<N>,
        encode: impl Fn(&N, &mut Vec<u8>) -> bool,
        ledger: &Arc<Ledger>,
        tail: &'static str,
    ) -> Result<Self, Error> {
        let (mut count, mut name_bytes, mut bytes) = (0, 0, 2 + tail.len());
        self.visit_after(names, &encode, |name, entry| {
            name_bytes += name.len();
            bytes += entry.len() + usize::from(count > 0);
            count += 1;
            Ok(())
        })?;
        let max = ledger.shared_max();
        if bytes > max {
            return Err(Error::ListTooLarge { bytes, max });
        }
        let mut draft = Draft::new(ledger, bytes)?;
        let mut names_text = String::with_capacity(name_bytes);
        let mut ends: Vec<End> = Vec::with_capacity(count);
        self.visit_after(names, &encode, |name, entry| {
            draft.append(if ends.is_empty() { b"[" } else { b"," })?;
            draft.append(entry)?;
            names_text.push_str(name);
            ends.push(End {
                name: place(names_text.len()),
                entry: place(draft.len()),
            });
            Ok(())
        })?;
        draft.append(if ends.is_empty() { b"[]" } else { b"]" })?;
        draft.append(tail.as_bytes())?;
        Ok(Self::of(draft, tail, names_text, ends))
    }

    /// These bytes, which are a page; its entries have no names.
    pub(super) fn page(draft: Draft) -> Self {
        Self::of(draft, "", String::new(), Vec::new())
    }

    fn of(draft: Draft, tail: &'static str, names: String, ends: Vec<End>) -> Self {
        let bytes = draft.finish();
        Self {
            etag: etag_of(&bytes),
            bytes,
            tail,
            names: names.into(),
            ends: ends.into(),
        }
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

    /// Calls `visit` with each entry of the list once those of these names have changed, by name.
    fn visit_after<N: Borrow<str> + Ord>(
        &self,
        names: &BTreeSet<N>,
        encode: impl Fn(&N, &mut Vec<u8>) -> bool,
        mut visit: impl FnMut(&str, &[u8]) -> Result<(), Full>,
    ) -> Result<(), Full> {
        let mut kept = self.iter().peekable();
        let mut json = Vec::new();
        for name in names {
            let text: &str = name.borrow();
            while let Some((before, entry)) = kept.next_if(|(kept, _)| *kept < text) {
                visit(before, entry)?;
            }
            let _ = kept.next_if(|(kept, _)| *kept == text);
            json.clear();
            if encode(name, &mut json) {
                visit(text, &json)?;
            }
        }
        kept.try_for_each(|(name, entry)| visit(name, entry))
    }
}

/// A place in the bytes of a list.
fn place(at: usize) -> u32 {
    u32::try_from(at).expect("a list is bounded far below 4 GiB by the memory of a pod")
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
    use crate::model::names::InstanceName;
    use crate::random::Random;
    use std::cell::Cell;
    use std::collections::BTreeMap;

    /// Changed entries; without JSON one is gone.
    type Changed = BTreeMap<InstanceName, Option<String>>;

    fn changed(entries: &[(&str, Option<&str>)]) -> Changed {
        let entry = |(name, json): &(&str, Option<&str>)| {
            let name = InstanceName::new(name).unwrap();
            (name, json.map(str::to_owned))
        };
        entries.iter().map(entry).collect()
    }

    fn ledger() -> Arc<Ledger> {
        Ledger::of_bytes(1 << 20, Division::default())
    }

    fn within(list: &List, changed: &Changed, ledger: &Arc<Ledger>) -> Result<List, Error> {
        let names = changed.keys().cloned().collect();
        let encode = |name: &InstanceName, into: &mut Vec<u8>| {
            let json = changed[name].as_ref();
            json.inspect(|json| into.extend_from_slice(json.as_bytes()))
                .is_some()
        };
        list.after(&names, encode, ledger)
    }

    fn of(entries: &Changed) -> List {
        after(&List::empty(), entries)
    }

    fn after(list: &List, changed: &Changed) -> List {
        within(list, changed, &ledger()).unwrap()
    }

    fn text(list: &List) -> &str {
        std::str::from_utf8(list.bytes()).unwrap()
    }

    #[test]
    fn an_empty_list_is_an_empty_array() {
        let list = of(&Changed::default());
        assert_eq!((text(&list), list.len()), ("[]", 0));
        assert!(list.is_empty());
        let gone = after(&list, &changed(&[("a", None)]));
        assert_eq!(text(&gone), "[]");
    }

    #[test]
    fn entries_are_added_replaced_and_removed_by_name() {
        let list = of(&changed(&[("b", Some("2")), ("a", Some("{}"))]));
        assert_eq!((text(&list), list.len()), ("[{},2]", 2));
        let list = after(
            &list,
            &changed(&[
                ("c", Some("3")),
                ("a", None),
                ("b", Some("22")),
                ("0", Some("0")),
            ]),
        );
        assert_eq!(text(&list), "[0,22,3]");
        assert_eq!(text(&after(&list, &Changed::default())), "[0,22,3]");
    }

    #[test]
    fn after_any_changes_a_list_is_that_of_all_entries() {
        let mut random = Random::new(3);
        let mut model = BTreeMap::new();
        let mut list = of(&Changed::default());
        for step in 0..2000 {
            let mut changes = Changed::new();
            for _ in 0..random.below(4) {
                let name = "e".repeat(1 + random.below(9));
                let name = InstanceName::new(&name).unwrap();
                changes.insert(name, (random.below(3) > 0).then(|| step.to_string()));
            }
            list = after(&list, &changes);
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
        let one = of(&changed(&[("a", Some("1"))]));
        let same = after(&one, &changed(&[("a", None), ("b", Some("2"))]));
        let same = after(&same, &changed(&[("a", Some("1")), ("b", None)]));
        let other = after(&one, &changed(&[("a", Some("2"))]));
        assert_eq!(one.etag(), same.etag());
        assert_ne!(one.etag(), other.etag());
        let is_strong = |tag: &str| tag.starts_with('"') && tag.ends_with('"') && tag.len() > 2;
        assert!(is_strong(one.etag()), "{}", one.etag());
    }

    #[test]
    fn a_part_of_a_list_has_its_form() {
        let encode = |name: &&str, into: &mut Vec<u8>| {
            into.extend_from_slice(name.to_uppercase().as_bytes());
            true
        };
        let names = BTreeSet::from(["a", "b", "c"]);
        let list = List::new(&names, "\n", encode, &ledger()).unwrap();
        assert_eq!(text(&list), "[A,B,C]\n");
        let part = list.only(|name| name != "b", &ledger()).unwrap();
        assert_eq!((text(&part), part.len()), ("[A,C]\n", 2));
        let none = list.only(|_| false, &ledger()).unwrap();
        assert_eq!(text(&none), "[]\n");
        assert_ne!(part.etag(), list.etag());
    }

    #[test]
    fn without_memory_there_is_no_list() {
        // Two lists of eight bytes fit.
        let ledger = Ledger::of_bytes(32, Division::default());
        let entry = |json| changed(&[("a", Some(json))]);
        let make = |json| within(&List::empty(), &entry(json), &ledger);
        let large = make("1234567").unwrap_err();
        assert!(
            matches!(large, Error::ListTooLarge { bytes: 9, max: 8 }),
            "{large:?}"
        );
        let list = make("123456").unwrap();
        let next = within(&list, &entry("654321"), &ledger).unwrap();
        let third = within(&next, &entry("1"), &ledger).unwrap_err();
        assert!(matches!(third, Error::Overloaded), "{third:?}");
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_rendered() {
        let ledger = Ledger::of_bytes(4000, Division::default());
        let names: BTreeSet<InstanceName> = (0..1000)
            .map(|number| InstanceName::new(&format!("n{number}")).unwrap())
            .collect();
        let (calls, longest) = (Cell::new(0), Cell::new(0));
        let encode = |_: &InstanceName, into: &mut Vec<u8>| {
            into.push(b'1');
            calls.set(calls.get() + 1);
            longest.set(longest.get().max(into.len()));
            true
        };
        assert!(List::new(&names, "", encode, &ledger).is_err());
        // Each was measured alone, and nothing was kept.
        assert_eq!((calls.get(), longest.get()), (1000, 1));
        assert_eq!(ledger.budget().used(), 0);
    }

    #[test]
    fn entries_may_change_while_a_list_is_made() {
        let names: BTreeSet<InstanceName> = ["a", "b"]
            .iter()
            .map(|name| InstanceName::new(name).unwrap())
            .collect();
        for [first, second] in [["1", "22222"], ["11111", "2"], ["", "2"], ["1", ""]] {
            let ledger = ledger();
            let calls = Cell::new(0);
            let encode = |_: &InstanceName, into: &mut Vec<u8>| {
                let json = if calls.get() < 2 { first } else { second };
                calls.set(calls.get() + 1);
                into.extend_from_slice(json.as_bytes());
                !json.is_empty()
            };
            let list = List::new(&names, "", encode, &ledger).unwrap();
            let entries = if second.is_empty() {
                String::new()
            } else {
                format!("{second},{second}")
            };
            assert_eq!(text(&list), format!("[{entries}]"));
            assert_eq!(ledger.budget().used(), list.bytes().len());
        }
    }
}
