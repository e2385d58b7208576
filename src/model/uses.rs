//! How replicas report to each other which instances were used: the text of an annotation.
//!
//! Pure: text in, text out. Ages are relative to the moment of writing, so that no clocks are compared;
//! who keeps them, and what follows, is not decided here.
//!
//! ```text
//! #17 -7200:Zb1kq0Uw 0:AAECAwQFq83vASNF 14:_-ABCDEF
//! ```
//!
//! The number of the report, which readers pass over; then seconds since the last use, and the marks of the instances
//! that were used then, without separators. A negative age is a use that lasts: the instance counts as used for so
//! long. `*` in the place of marks stands for all instances.

use crate::kube::types::Uid;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The text may have so many bytes: all annotations of an object together may have 262,144, with their keys.
pub const TEXT_BYTES_MAX: usize = 245_760;

/// Bytes of a hash in a mark. In 10,000 instances two have the same mark once in 5 million times; then both
/// count as used.
const HASH_BYTES: usize = 6;

/// Bytes of a group beside its marks, at most.
const GROUP_BYTES: usize = "-1234567890123456789: ".len();

/// Characters of a mark in the text.
const MARK_LENGTH: usize = 8;

/// Stands for all instances.
const ALL: &str = "*";

/// Stands for the UID of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mark([u8; HASH_BYTES]);

impl Mark {
    /// The mark of the instance with this UID.
    #[must_use]
    pub fn of(uid: &Uid) -> Self {
        let digest = Sha256::digest(uid.to_string());
        let mut mark = [0; HASH_BYTES];
        mark.copy_from_slice(&digest[..HASH_BYTES]);
        Self(mark)
    }
}

/// A use: how long ago, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Of the instance with this mark.
    One(Mark, i64),
    /// Of all instances: their reporter knows no better.
    All(i64),
}

/// These uses as text, with the number of the report, and a use of all instances so many seconds ago, if there was
/// one. What would be longer than [`TEXT_BYTES_MAX`] becomes a use of all, as long ago as the last of them.
#[must_use]
pub fn write(
    number: u64,
    of_all: Option<i64>,
    uses: impl IntoIterator<Item = (Mark, i64)>,
) -> String {
    let mut by_age: BTreeMap<i64, String> = BTreeMap::new();
    for (mark, age) in uses {
        let marks = by_age.entry(age).or_default();
        URL_SAFE_NO_PAD.encode_string(mark.0, marks);
    }
    let youngest = by_age.keys().next().copied().unwrap_or_default();
    // What does not change an object is not written, and nobody hears of it.
    let mut text = format!("#{number}");
    let mut add = |age: i64, marks: &str| {
        let _ = write!(text, " {age}:{marks}");
    };
    if let Some(age) = of_all {
        add(age, ALL);
    }
    let bytes: usize = by_age.values().map(|marks| marks.len() + GROUP_BYTES).sum();
    if bytes > TEXT_BYTES_MAX {
        add(youngest, ALL);
    } else {
        by_age.iter().for_each(|(age, marks)| add(*age, marks));
    }
    text
}

/// The uses of a text. What is malformed is passed over: another version may have written it.
pub fn read(text: &str) -> impl Iterator<Item = Use> {
    text.split(' ').flat_map(|group| {
        let (age, marks) = group.split_once(':').unwrap_or_default();
        let age = age.parse().ok();
        let marks = if age.is_some() { marks } else { "" };
        let all = (marks == ALL).then(|| Use::All(age.unwrap_or_default()));
        let each = marks.as_bytes().chunks_exact(MARK_LENGTH);
        let ones = each.filter_map(move |mark| {
            let mut hash = [0; HASH_BYTES];
            let length = URL_SAFE_NO_PAD.decode_slice(mark, &mut hash).ok()?;
            (length == HASH_BYTES).then_some(Use::One(Mark(hash), age?))
        });
        all.into_iter().chain(ones)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(number: usize) -> Mark {
        Mark::of(&Uid::from(format!("uid-{number}").as_str()))
    }

    fn written(uses: &[(Mark, i64)]) -> Vec<Use> {
        read(&write(1, None, uses.iter().copied())).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let uses = [(mark(1), 5), (mark(2), -7200), (mark(3), 5), (mark(4), 0)];
        let read = written(&uses);
        assert_eq!(read.len(), uses.len());
        for (mark, age) in uses {
            assert!(read.contains(&Use::One(mark, age)), "{age}");
        }
        assert_eq!(written(&[]), []);
    }

    #[test]
    fn a_text_that_would_be_too_long_stands_for_all_instances() {
        let of = |count: usize| (0..count).map(|number| (mark(number), 3));
        let most = (TEXT_BYTES_MAX - GROUP_BYTES) / MARK_LENGTH;
        let text = write(1, None, of(most));
        assert!(text.len() <= TEXT_BYTES_MAX && text.len() > TEXT_BYTES_MAX - 64);
        assert_eq!(read(&text).count(), most);
        let over = of(most + 1).chain([(mark(0), 1)]);
        assert_eq!(
            read(&write(1, None, over)).collect::<Vec<_>>(),
            [Use::All(1)]
        );
    }

    #[test]
    fn a_use_of_all_stands_before_the_others_and_the_number_is_passed_over() {
        let text = write(17, Some(29), [(mark(1), -60)]);
        assert!(text.starts_with("#17 29:* -60:"), "{text}");
        let all = [Use::All(29), Use::One(mark(1), -60)];
        assert_eq!(read(&text).collect::<Vec<_>>(), all);
        assert_ne!(write(18, Some(29), [(mark(1), -60)]), text);
    }

    #[test]
    fn what_is_malformed_is_passed_over() {
        let good = write(1, None, [(mark(1), 7)]);
        for text in [
            "",
            ":",
            "x",
            "7",
            "7:",
            "7:short",
            "x:AAAAAAAA",
            "7:????????",
            "9e9:*",
        ] {
            assert_eq!(read(text).count(), 0, "{text:?}");
            let both = format!("{text} {good} {text}");
            assert_eq!(read(&both).collect::<Vec<_>>(), [Use::One(mark(1), 7)]);
        }
        let rest = format!("{good}AAAA");
        assert_eq!(read(&rest).count(), 1);
    }
}
