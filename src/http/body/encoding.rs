//! The text of a JSON body: UTF-8, or UTF-16 or UTF-32 in either order, with or without a byte order mark.
//!
//! Pure. 2.7.1's parser (Python's `json`) takes all of these, so its clients may send them. It finds out by
//! the mark, or by where the first character has zeros, as JSON begins with an ASCII character.

use std::borrow::Cow;

/// The text of a body without its mark, or how many characters are before the first invalid one.
pub(super) fn decode(body: &[u8]) -> Result<Cow<'_, str>, usize> {
    let be16 = |pair: [u8; 2]| u16::from_be_bytes(pair);
    let le16 = |pair: [u8; 2]| u16::from_le_bytes(pair);
    match body {
        [0, 0, 0xfe, 0xff, rest @ ..] | rest @ [0, 0, 0, _, ..] => utf32(rest, u32::from_be_bytes),
        [0xff, 0xfe, 0, 0, rest @ ..] | rest @ [_, 0, 0, 0, ..] => utf32(rest, u32::from_le_bytes),
        [0xfe, 0xff, rest @ ..] | rest @ [0, _, ..] => utf16(rest, be16),
        [0xff, 0xfe, rest @ ..] | rest @ [_, 0, ..] => utf16(rest, le16),
        [0xef, 0xbb, 0xbf, rest @ ..] | rest => match std::str::from_utf8(rest) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(error) => Err(chars(&String::from_utf8_lossy(
                &rest[..error.valid_up_to()],
            ))),
        },
    }
}

fn utf16(bytes: &[u8], unit: impl Fn([u8; 2]) -> u16) -> Result<Cow<'_, str>, usize> {
    let (pairs, rest) = bytes.as_chunks();
    let mut text = String::with_capacity(pairs.len());
    for char in char::decode_utf16(pairs.iter().map(|pair| unit(*pair))) {
        text.push(char.map_err(|_| chars(&text))?);
    }
    whole(text, rest)
}

fn utf32(bytes: &[u8], unit: impl Fn([u8; 4]) -> u32) -> Result<Cow<'_, str>, usize> {
    let (units, rest) = bytes.as_chunks();
    let mut text = String::with_capacity(units.len());
    for code in units {
        text.push(char::from_u32(unit(*code)).ok_or_else(|| chars(&text))?);
    }
    whole(text, rest)
}

fn whole(text: String, rest: &[u8]) -> Result<Cow<'static, str>, usize> {
    if rest.is_empty() {
        Ok(Cow::Owned(text))
    } else {
        Err(chars(&text))
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_encodings_of_one_text_with_and_without_a_mark() {
        let text = "{\"a\": \"é😀\"}";
        let utf16: Vec<u16> = text.encode_utf16().collect();
        let utf32: Vec<u32> = text.chars().map(u32::from).collect();
        for (mark, bytes) in [
            (&b"\xef\xbb\xbf"[..], text.as_bytes().to_vec()),
            (
                b"\xfe\xff",
                utf16.iter().flat_map(|it| it.to_be_bytes()).collect(),
            ),
            (
                b"\xff\xfe",
                utf16.iter().flat_map(|it| it.to_le_bytes()).collect(),
            ),
            (
                b"\0\0\xfe\xff",
                utf32.iter().flat_map(|it| it.to_be_bytes()).collect(),
            ),
            (
                b"\xff\xfe\0\0",
                utf32.iter().flat_map(|it| it.to_le_bytes()).collect(),
            ),
        ] {
            assert_eq!(decode(&bytes).as_deref(), Ok(text));
            assert_eq!(decode(&[mark, &bytes].concat()).as_deref(), Ok(text));
            // One byte less is no text, except of ASCII.
            assert_eq!(decode(&bytes[..bytes.len() - 1]).is_ok(), mark.len() == 3);
        }
    }

    #[test]
    fn what_is_no_text_is_refused_at_its_place() {
        for (body, place) in [
            (&b"a\xc3\xa9\xff"[..], 2),
            (b"\xff\xfea\0\0\xd8b\0", 1),
            (b"\xfe\xff\0a\xdc\0", 1),
            (b"\0\0\0a\0\x11\0\0", 1),
            (b"a\0\0\0\0\xd8\0\0", 1),
        ] {
            assert_eq!(decode(body), Err(place), "{body:?}");
        }
        for (body, text) in [
            (&b""[..], ""),
            (b"1", "1"),
            (b"1\0", "1"),
            (b"\xef\xbb\xbf", ""),
        ] {
            assert_eq!(decode(body).as_deref(), Ok(text), "{body:?}");
        }
    }
}
