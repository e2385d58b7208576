//! [`excerpt`]: texts of others, cut to a bound, with a mark where something is missing.
//!
//! Pure. Which bound holds is decided by whoever keeps or shows the text.

use std::borrow::Cow;

/// Stands at the end of a text that was cut.
pub const MARK: char = '…';

/// The text, or its beginning and the mark in so many bytes; nothing if not even the mark fits.
#[must_use]
pub fn excerpt(text: &str, bytes_max: usize) -> Cow<'_, str> {
    if text.len() <= bytes_max {
        return Cow::Borrowed(text);
    }
    let Some(bytes) = bytes_max.checked_sub(MARK.len_utf8()) else {
        return Cow::Borrowed("");
    };
    let mut kept = text[..text.floor_char_boundary(bytes)].to_owned();
    kept.push(MARK);
    Cow::Owned(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_marked() {
        for (text, bytes_max, expected) in [
            ("abcd", 4, "abcd"),
            ("abcde", 4, "a…"),
            ("äbcde", 4, "…"),
            ("äbcde", 5, "ä…"),
            ("ääää", 8, "ääää"),
            ("abcd", 3, "…"),
            ("abcd", 2, ""),
            ("", 0, ""),
        ] {
            assert_eq!(excerpt(text, bytes_max), expected, "{text} {bytes_max}");
        }
    }
}
