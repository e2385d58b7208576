//! The query of `/instances`: which instances a request is about, and which page of them.
//!
//! Pure. Other routes have template variables in their query, or nothing. What a selection means is decided in
//! [`crate::app::instances`].

use super::auth::Types;
use crate::app::Error;
use crate::app::index::STATUS_WORDS;
use crate::app::instances::{PageQuery, Selection};
use crate::model::excerpt::excerpt;
use crate::model::names::{AppType, InstanceKey};
use crate::model::template::query_pairs;
use crate::sorting;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::borrow::Cow;

/// Maximum length of the query, in bytes: pages are kept by their queries.
pub const QUERY_BYTES_MAX: usize = 4096;

/// So many bytes of a name or value are repeated in an error.
const SAID_BYTES_MAX: usize = 64;

/// How many instances a page has, unless `limit` says otherwise.
pub const LIMIT_DEFAULT: usize = 500;

/// Maximum of `limit`.
pub const LIMIT_MAX: usize = 1000;

/// Between type and name in `continue`; neither contains it.
const SEPARATOR: char = '/';

/// The page that a query asks for, of a caller that may use these types.
///
/// # Errors
/// [`Error::QueryInvalid`] with the parameter and the fix, [`Error::BadName`], [`Error::TypeForbidden`].
pub fn page(query: Option<&str>, types: &Types) -> Result<PageQuery, Error> {
    let (mut selection, mut limit, mut after) = (Selection::default(), None, None);
    read(query, |name, value| {
        let is_repeated = match name {
            "limit" => limit.replace(limit_of(value)?).is_some(),
            "continue" => after.replace(after_of(value)?).is_some(),
            _ => {
                let known = "type, label, status, limit and continue";
                return add(&mut selection, name, value, types, known);
            }
        };
        if is_repeated {
            return Err(repeated(name));
        }
        Ok(())
    })?;
    Ok(PageQuery {
        selection: within(selection, types),
        limit: limit.unwrap_or(LIMIT_DEFAULT),
        after,
    })
}

/// The instances that a query names, and whether it restricts them at all, of a caller that may use these
/// types.
///
/// # Errors
/// As of [`page`].
pub fn selection(query: Option<&str>, types: &Types) -> Result<(Selection, bool), Error> {
    let mut selection = Selection::default();
    read(query, |name, value| {
        add(&mut selection, name, value, types, "type, label and status")
    })?;
    let is_restricted = selection != Selection::default();
    Ok((within(selection, types), is_restricted))
}

/// What `continue` is for the page after this instance.
#[must_use]
pub fn continue_after(key: &InstanceKey) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}{SEPARATOR}{}", key.app_type, key.name))
}

fn invalid(text: impl Into<String>) -> Error {
    Error::QueryInvalid(text.into().into())
}

/// A parameter that counts once.
pub(super) fn repeated(name: &str) -> Error {
    invalid(format!("{name} is given twice; send it once"))
}

/// A name or value of a caller, as errors repeat it.
pub(super) fn said(text: &str) -> Cow<'_, str> {
    excerpt(text, SAID_BYTES_MAX)
}

/// Reads each parameter of a query.
///
/// # Errors
/// [`Error::QueryInvalid`] if it is too long, and those of `parameter`.
pub(super) fn read(
    query: Option<&str>,
    mut parameter: impl FnMut(&str, &str) -> Result<(), Error>,
) -> Result<(), Error> {
    let query = query.unwrap_or_default();
    if query.len() > QUERY_BYTES_MAX {
        return Err(invalid(format!(
            "the query has {} bytes, and may have {QUERY_BYTES_MAX}; send fewer or shorter parameters",
            query.len()
        )));
    }
    query_pairs(query).try_for_each(|(name, value)| parameter(&name, &value))
}

/// Adds a filter.
fn add(
    to: &mut Selection,
    name: &str,
    value: &str,
    types: &Types,
    known: &str,
) -> Result<(), Error> {
    match name {
        "type" => {
            let app_type = AppType::new(value).map_err(Error::BadName)?;
            if !types.contain(value) {
                return Err(Error::TypeForbidden(value.into()));
            }
            to.types.get_or_insert_default().insert(app_type);
        }
        "label" => {
            let (key, value) = match value.split_once('=') {
                Some((key, value)) => (key, Some(value.into())),
                None => (value, None),
            };
            if key.is_empty() {
                let text = "label has no key; send label=KEY=VALUE, or label=KEY for any value";
                return Err(invalid(text));
            }
            to.labels.insert((key.into(), value));
        }
        "status" => {
            let place = STATUS_WORDS.iter().position(|word| *word == value);
            let words = STATUS_WORDS.join(", ");
            let text = || invalid(format!("status '{}' is none of {words}", said(value)));
            to.statuses.insert(place.ok_or_else(text)?);
        }
        _ => {
            return Err(invalid(format!(
                "the parameter '{}' is unknown here; remove it: there are {known}",
                said(name)
            )));
        }
    }
    Ok(())
}

/// This selection for a caller that may use these types.
fn within(selection: Selection, types: &Types) -> Selection {
    let own = || match types {
        Types::All => None,
        Types::Only(types) => Some(sorting::set(types.iter().cloned())),
    };
    Selection {
        types: selection.types.or_else(own),
        ..selection
    }
}

fn limit_of(value: &str) -> Result<usize, Error> {
    let limit = value.parse().ok();
    let limit = limit.filter(|limit| (1..=LIMIT_MAX).contains(limit));
    let text = || {
        invalid(format!(
            "limit '{}' is no number from 1 to {LIMIT_MAX}",
            said(value)
        ))
    };
    limit.ok_or_else(text)
}

fn after_of(value: &str) -> Result<InstanceKey, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(value).ok();
    let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
    let names = text.as_deref().and_then(|text| text.split_once(SEPARATOR));
    let key = names.and_then(|(app_type, name)| InstanceKey::new(app_type, name).ok());
    key.ok_or_else(|| {
        invalid("continue is not one that a page had; send that of the page before, or none to begin anew")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(names: &[&str]) -> Types {
        let types = names.iter().map(|name| AppType::new(name).unwrap());
        Types::Only(types.collect())
    }

    #[track_caller]
    fn check_refused(query: &str, expected: &str) {
        for refused in [
            page(Some(query), &Types::All).map(drop),
            selection(Some(query), &Types::All).map(drop),
        ] {
            let text = refused.unwrap_err().to_string();
            assert!(text.contains(expected), "{query}: {text}");
        }
    }

    #[test]
    fn a_query_without_parameters_is_for_the_first_page_of_all() {
        for query in [None, Some(""), Some("&")] {
            let page = page(query, &Types::All).unwrap();
            assert_eq!(page.selection, Selection::default());
            assert_eq!((page.limit, page.after), (LIMIT_DEFAULT, None));
            let (selection, is_restricted) = selection(query, &Types::All).unwrap();
            assert_eq!((selection, is_restricted), (Selection::default(), false));
        }
    }

    #[test]
    fn filters_are_repeatable_and_decoded() {
        let query = "type=a&type=b+c&label=team=%C3%A4=1&label=x&status=ready&status=failed";
        let (selection, is_restricted) = selection(Some(query), &Types::All).unwrap();
        let types = ["a", "b c"].map(|name| AppType::new(name).unwrap());
        assert_eq!(selection.types, Some(types.into()));
        let labels = [("team".into(), Some("ä=1".into())), ("x".into(), None)];
        assert_eq!(selection.labels, labels.into());
        assert_eq!(selection.statuses, [1, 2].into());
        assert!(is_restricted);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_fix() {
        check_refused(
            "name=x",
            "'name' is unknown here; remove it: there are type, label",
        );
        check_refused("label==x", "label has no key; send label=KEY=VALUE");
        check_refused("label", "label has no key");
        check_refused(
            "status=Ready",
            "status 'Ready' is none of starting, ready, failed",
        );
        check_refused("type=", "the name is empty");
        let long = format!("label={}", "x".repeat(QUERY_BYTES_MAX - 5));
        check_refused(&long, "the query has 4097 bytes, and may have 4096");
        let long_name = "x".repeat(QUERY_BYTES_MAX);
        check_refused(&long_name, &format!("'{}…' is unknown", &long_name[..61]));
        assert!(page(Some(&long[..QUERY_BYTES_MAX]), &Types::All).is_ok());
        let refused = |query: &str| page(Some(query), &Types::All).unwrap_err().to_string();
        for limit in ["0", "1001", "-1", "x", ""] {
            let text = refused(&format!("limit={limit}"));
            assert!(
                text.contains("is no number from 1 to 1000"),
                "{limit}: {text}"
            );
        }
        assert!(refused("limit=1&limit=1").contains("limit is given twice"));
        for odd in [
            "",
            "x",
            "YQ",
            "YS8",
            "L2E",
            "YS9iL2M",
            "%ff",
            &"YS9i".repeat(200),
        ] {
            let text = refused(&format!("continue={odd}"));
            assert!(
                text.contains("continue is not one that a page had"),
                "{odd}: {text}"
            );
        }
        assert!(selection(Some("limit=1"), &Types::All).is_err());
    }

    #[test]
    fn a_page_continues_after_the_last_of_the_one_before() {
        let key = InstanceKey::new("a", &"ä".repeat(126)).unwrap();
        let query = format!("continue={}&limit=1000", continue_after(&key));
        let page = page(Some(&query), &Types::All).unwrap();
        assert_eq!((page.after, page.limit), (Some(key), LIMIT_MAX));
    }

    #[test]
    fn a_caller_selects_among_its_types_only() {
        let own = only(&["a", "b"]);
        let of = |query| {
            selection(Some(query), &own).map(|(it, is_restricted)| (it.types, is_restricted))
        };
        let all = ["a", "b"].map(|name| AppType::new(name).unwrap()).into();
        assert_eq!(of("").unwrap(), (Some(all), false));
        let one = [AppType::new("b").unwrap()].into();
        assert_eq!(of("type=b").unwrap(), (Some(one), true));
        let refused = of("type=b&type=c").unwrap_err();
        assert!(matches!(refused, Error::TypeForbidden(name) if &*name == "c"));
        // A caller that may use none sees none.
        let (none, _) = selection(None, &only(&[])).unwrap();
        assert!(!none.has_type("a"));
    }
}
