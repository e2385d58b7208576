//! Conditional requests (RFC 9110 §13): whether the caller has the current representation already, and
//! which one a change is for.
//!
//! Pure. `If-None-Match` is read where a response has an entity tag, `If-Match` where a request changes an
//! instance. Whether a precondition holds is decided in [`crate::app`]. Nothing here has a modification
//! date, so `If-Modified-Since` and `If-Unmodified-Since` are ignored, as RFC 9110 demands (§13.1.3, §13.1.4).

use super::message::Headers;
use crate::app::{Error, Expectation, Precondition};

/// How many entity tags `If-Match` may have.
pub const TAGS_MAX: usize = 64;

/// The conditions that a request may have.
const CONDITIONS: [&str; 2] = ["If-Match", "If-None-Match"];

/// Refuses a request with a condition other than these: a change would be made although its caller has asked
/// for the opposite.
///
/// # Errors
/// [`Error::BadHeader`].
pub fn check_heeded(headers: &Headers, heeded: &[&str]) -> Result<(), Error> {
    let is_ignored = |name: &&str| !heeded.contains(name) && headers.get(name).is_some();
    match CONDITIONS.into_iter().find(is_ignored) {
        None => Ok(()),
        Some(name) => Err(Error::BadHeader(
            format!("the header {name} is not supported here, so nothing was done; leave it out, or use If-Match with PUT, PATCH or DELETE /app/{{type}}/{{name}}").into(),
        )),
    }
}

/// The precondition of a change (`If-Match`, RFC 9110 §13.1.1). Tags are compared strongly, so a weak one
/// matches nothing.
///
/// # Errors
/// [`Error::BadHeader`]: to ignore what cannot be read would change what the caller protects.
pub fn precondition(headers: &Headers) -> Result<Expectation, Error> {
    let malformed = || {
        Error::BadHeader(
            "the header If-Match cannot be read; send `*`, or entity tags in double quotes, separated by commas: the ETag of a GET, or \"uid:\" and its Instance-Id"
                .into(),
        )
    };
    let mut precondition = None;
    let mut count = 0;
    let mut is_any = false;
    for value in headers.get_all("if-match") {
        let known = precondition.get_or_insert_with(Precondition::default);
        if value.trim_ascii() == b"*" {
            *known = Precondition::any();
            is_any = true;
            count += 1;
            continue;
        }
        let mut rest = value;
        let before = count;
        while let Some(tag) = next_tag(&mut rest) {
            count += 1;
            if count > TAGS_MAX {
                let text =
                    format!("the header If-Match has more than {TAGS_MAX} entity tags; send fewer");
                return Err(Error::BadHeader(text.into()));
            }
            // A tag that is not ASCII is none of ours.
            if let (false, Ok(opaque)) = (tag.is_weak, std::str::from_utf8(tag.opaque)) {
                known.add(opaque.trim_matches('"'));
            }
        }
        let is_read = rest.iter().all(|byte| b" \t,".contains(byte));
        if !is_read || count == before {
            return Err(malformed());
        }
    }
    if is_any && count > 1 {
        return Err(malformed());
    }
    Ok(precondition.map_or(Expectation::None, |it| Expectation::Precondition(it.into())))
}

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
    std::iter::from_fn(move || next_tag(&mut rest).map(|tag| tag.opaque))
}

/// An entity tag.
struct Tag<'a> {
    is_weak: bool,
    /// In its quotes.
    opaque: &'a [u8],
}

/// Takes the next tag of a list; what follows a malformed one stays. A tag that no comma follows is
/// malformed.
fn next_tag<'a>(list: &mut &'a [u8]) -> Option<Tag<'a>> {
    let start = list.iter().position(|byte| !b" \t,".contains(byte))?;
    let tag = &list[start..];
    let (is_weak, tag) = match tag.strip_prefix(b"W/") {
        Some(tag) => (true, tag),
        None => (false, tag),
    };
    let inside = tag.strip_prefix(b"\"")?;
    let length = inside.iter().position(|byte| *byte == b'"')? + 2;
    let (opaque, after) = tag.split_at(length);
    let next = after.iter().find(|byte| !b" \t".contains(byte));
    if next.is_some_and(|next| *next != b',') {
        return None;
    }
    *list = after;
    Some(Tag { is_weak, opaque })
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

    fn if_match(values: &[&str]) -> Result<Expectation, String> {
        let mut headers = Headers::default();
        for value in values {
            headers.push("If-Match", value.as_bytes());
        }
        precondition(&headers).map_err(|error| error.to_string())
    }

    fn of(tags: &[&str]) -> Result<Expectation, String> {
        let mut precondition = Precondition::default();
        tags.iter().for_each(|tag| precondition.add(tag));
        Ok(Expectation::Precondition(precondition.into()))
    }

    #[test]
    fn a_precondition_is_a_list_of_strong_tags_or_a_star() {
        let tag = "00112233445566778899aabbccddeeff";
        assert_eq!(if_match(&[]), Ok(Expectation::None));
        assert_eq!(if_match(&[&format!("\"{tag}\"")]), of(&[tag]));
        assert_eq!(
            if_match(&[r#""uid:a", "x""#, r#" ,"uid:b""#]),
            of(&["uid:a", "uid:b"])
        );
        // Weak tags, and those that are not ours, match nothing.
        for none in [
            format!("W/\"{tag}\""),
            "\"\"".into(),
            "\"ä\"".into(),
            "\"uid:\"".into(),
        ] {
            assert_eq!(if_match(&[&none]), of(&[]), "{none}");
        }
        let any = Ok(Expectation::Precondition(Precondition::any().into()));
        assert_eq!(if_match(&[" * "]), any);
    }

    #[test]
    fn a_malformed_precondition_is_refused() {
        for malformed in [
            "",
            ",",
            "x",
            "uid:a",
            "\"a",
            "a\"",
            "w/\"a\"",
            "W/",
            "\"a\" x",
            "\"a\"\"",
            "*, \"a\"",
            "\"a\"\"b\"",
            "\"a\" \"b\"",
            "\"a\"W/\"b\"",
            "**",
            "'a'",
        ] {
            let error = if_match(&[malformed]).unwrap_err();
            assert!(
                error.contains("If-Match cannot be read; send `*`"),
                "{malformed}: {error}"
            );
        }
        assert!(if_match(&["*", "\"a\""]).is_err() && if_match(&["*", "*"]).is_err());
    }

    #[test]
    fn a_precondition_has_a_bounded_number_of_tags() {
        let tags = |count: usize| vec!["\"a\""; count].join(",");
        assert!(if_match(&[&tags(TAGS_MAX)]).is_ok());
        assert!(if_match(&[&tags(TAGS_MAX - 1), "\"b\""]).is_ok());
        let error = if_match(&[&tags(TAGS_MAX), "\"b\""]).unwrap_err();
        assert!(error.contains("more than 64 entity tags"), "{error}");
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
        check(&[r#""a,b"x"#, r#""x""a,b""#], false);
    }
}
