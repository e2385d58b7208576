//! [`Room`]: how long the texts of one entry of `/templates` may be, so that there always is a list.
//!
//! Pure. Texts of templates and of Kubernetes have any length: they are cut with a mark, and the entry
//! says so. How much room entries have is decided in [`super`].

use crate::model::excerpt::excerpt;
use std::borrow::Cow;

/// How many bytes of texts one entry may have: the first with which the list fits.
pub const ROOMS: [usize; 4] = [16 * 1024, 4096, 1024, 256];

/// One text may take this part of the room, so that others find some, too.
const PART: usize = 8;

/// A text may always be so long.
const TEXT_LEAST: usize = 64;

/// What a text takes beside its bytes.
const AROUND: usize = 16;

/// The room of one entry.
#[derive(Debug)]
pub(super) struct Room {
    left: usize,
    text_max: usize,
    is_cut: bool,
}

impl Room {
    /// One of so many bytes.
    pub(super) const fn new(bytes: usize) -> Self {
        let part = bytes / PART;
        Self {
            left: bytes,
            text_max: if part > TEXT_LEAST { part } else { TEXT_LEAST },
            is_cut: false,
        }
    }

    /// As much of this text as there is room for; `None` if there is none.
    pub(super) fn text<'a>(&mut self, text: &'a str) -> Option<Cow<'a, str>> {
        let max = self.left.checked_sub(AROUND);
        let kept = max.map(|max| excerpt(text, max.min(self.text_max)));
        let kept = kept.filter(|kept| text.is_empty() || !kept.is_empty());
        self.is_cut |= kept.as_deref() != Some(text);
        self.left -= kept.as_ref().map_or(0, |kept| AROUND + kept.len());
        kept
    }

    /// Whether there is room for the whole of this name: it is of no use when it is cut.
    pub(super) fn name(&mut self, name: &str) -> bool {
        let bytes = AROUND + name.len();
        let fits = name.len() <= self.text_max && bytes <= self.left;
        self.left -= if fits { bytes } else { 0 };
        self.is_cut |= !fits;
        fits
    }

    /// Whether something was cut or left out.
    pub(super) const fn is_cut(&self) -> bool {
        self.is_cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_leaves_room_for_others() {
        let mut room = Room::new(ROOMS[0]);
        let whole = "x".repeat(ROOMS[0] / PART);
        assert_eq!(room.text(&whole).as_deref(), Some(&*whole));
        assert!(room.name(&whole) && !room.is_cut());
        let longer = format!("{whole}x");
        let cut = room.text(&longer).unwrap();
        assert_eq!((cut.len(), cut.ends_with('…')), (whole.len(), true));
        assert!(room.is_cut() && !room.name(&longer));
        let more = std::iter::from_fn(|| room.text(&longer)).count();
        assert_eq!(more, PART - 3);
        assert!(!room.name("a"));
    }

    #[test]
    fn an_entry_takes_no_more_than_its_room() {
        for bytes in ROOMS {
            let mut room = Room::new(bytes);
            let mut taken = 0;
            for length in (0..).map(|step| step * 7 % 301).take(10_000) {
                let text = "ü".repeat(length);
                let kept = room.text(&text).map_or(0, |kept| kept.len() + AROUND);
                let named = room.name(&text).then_some(text.len() + AROUND);
                taken += kept + named.unwrap_or_default();
            }
            assert!(taken <= bytes && taken > bytes / 2, "{taken} of {bytes}");
        }
    }
}
