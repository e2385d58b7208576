//! Conditional requests (RFC 9110 §13): whether the caller has the current representation already.
//!
//! Pure. Only `If-None-Match` is read, and only where a response has an entity tag.

use super::message::Headers;

/// The values of `If-None-Match`, kept while a request waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition(Vec<Box<[u8]>>);

impl Condition {
    /// That of a request; there is none without the header.
    #[must_use]
    pub fn of(headers: &Headers) -> Self {
        Self(headers.get_all("if-none-match").map(Into::into).collect())
    }

    /// Whether the request has none.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the caller has the representation with this tag: it gets 304 and no body. Tags are
    /// compared weakly (RFC 9110 §8.8.3.2), and `*` stands for all. What follows a malformed tag is
    /// ignored, so that the caller gets the body.
    #[must_use]
    pub fn is_met_by(&self, etag: &str) -> bool {
        let mut values = self.0.iter();
        values.any(|value| value.trim_ascii() == b"*" || tags(value).any(|tag| tag == opaque(etag)))
    }
}

/// What a tag is beside its strength: its quoted part.
fn opaque(etag: &str) -> &[u8] {
    etag.strip_prefix("W/").unwrap_or(etag).as_bytes()
}

/// The opaque tags of a list, each in its quotes; a tag may contain commas.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = list;
    std::iter::from_fn(move || {
        let start = rest.iter().position(|byte| !b" \t,".contains(byte))?;
        let tag = &rest[start..];
        let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
        let length = tag
            .strip_prefix(b"\"")?
            .iter()
            .position(|byte| *byte == b'"')?
            + 2;
        let (tag, after) = tag.split_at(length);
        rest = after;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[&str], is_met: bool) {
        let mut headers = Headers::default();
        for value in values {
            headers.push("If-None-Match", value.as_bytes());
        }
        let condition = Condition::of(&headers);
        assert_eq!(condition.is_met_by("\"a,b\""), is_met, "{values:?}");
        assert_eq!(condition.is_met_by("W/\"a,b\""), is_met, "{values:?}");
    }

    #[test]
    fn tags_are_compared_weakly() {
        check(&[], false);
        check(&[r#""a,b""#], true);
        check(&[r#"W/"a,b""#], true);
        check(&[r#""a""#], false);
        check(&[r#""A,b""#], false);
    }

    #[test]
    fn lists_have_commas_spaces_and_several_fields() {
        check(&[r#""x", "a,b""#], true);
        check(&[r#""x",W/"a,b","y""#], true);
        check(&[r#" , ,"x"	,  "a,b""#], true);
        check(&[r#""x""#, r#""a,b""#], true);
        check(&[r#""x", "y""#], false);
        // It is part of another tag.
        check(&[r#""x,"a,b",y""#], false);
    }

    #[test]
    fn a_star_stands_for_all() {
        check(&["*"], true);
        check(&[" * "], true);
        check(&[r#""*""#], false);
    }

    #[test]
    fn what_follows_a_malformed_tag_is_ignored() {
        check(&["", "a,b", "W/", "\"", "W/\"a,b"], false);
        check(&[r#"a, "a,b""#], false);
        check(&[r#"w/"a,b""#], false);
        check(&[r#""a,b", x"#], true);
    }
}
