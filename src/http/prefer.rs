//! The `Prefer` header (RFC 7240), `Accept` and `Cache-Control`: options of a request, since its query holds
//! template variables.
//!
//! Whose instance a request starts (`Instance-Owner`) is here, too.
//!
//! Pure. Unknown and malformed preferences are ignored (§2 of the RFC).

use super::message::Headers;
use crate::app::Error;
use std::time::Duration;

/// The value of a number of seconds with too many digits.
const WAIT_SECS_MAX: u64 = 1 << 32;

/// The longest name of an owner, in characters: that of the name of a token.
const OWNER_CHARS_MAX: usize = 63;

/// The owner that the request names (`Instance-Owner`), if it does.
///
/// # Errors
/// [`Error::BadHeader`] if it is not one name.
pub fn owner(headers: &Headers) -> Result<Option<&str>, Error> {
    let mut values = headers.get_all("instance-owner");
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let is_name = (1..=OWNER_CHARS_MAX).contains(&value.len())
        && value.iter().all(u8::is_ascii_graphic)
        && values.next().is_none();
    let name = std::str::from_utf8(value).ok().filter(|_| is_name);
    let wrong = || {
        let text =
            "Instance-Owner must be one name of 1 to 63 printable ASCII characters without blanks";
        Error::BadHeader(text.into())
    };
    name.map(Some).ok_or_else(wrong)
}

/// The wait that a request asks for with `Prefer: wait=N`, N in whole seconds (RFC 7240 §4.3).
/// The first valid one counts (§2).
#[must_use]
pub fn wait(headers: &Headers) -> Option<Duration> {
    preferences(headers, "wait").find_map(|value| {
        let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        // Too many digits mean "as long as possible"; START_WAIT_MAX bounds it.
        digits.then(|| Duration::from_secs(value.parse().unwrap_or(WAIT_SECS_MAX)))
    })
}

/// Whether the request may start an instance that does not exist: not with `Prefer: create=false`,
/// a preference of our own.
#[must_use]
pub fn create(headers: &Headers) -> bool {
    preferences(headers, "create")
        .find_map(|value| value.to_ascii_lowercase().parse().ok())
        .unwrap_or(true)
}

/// Whether the request is a use of the instance that it finds: not with `Prefer: touch=false`, a preference of our
/// own, nor with `create=false`, which only looks.
#[must_use]
pub fn touches(headers: &Headers) -> bool {
    let is_declined = |value: &str| value.eq_ignore_ascii_case("false");
    create(headers) && !preferences(headers, "touch").any(is_declined)
}

/// Whether the instance must be made with the values of the request (`Prefer: match=values`, a preference
/// of our own).
#[must_use]
pub fn matches_values(headers: &Headers) -> bool {
    preferences(headers, "match").any(|value| value.eq_ignore_ascii_case("values"))
}

/// Whether only a ready instance is a success, so that one that is not ready is a 503 instead of a 202
/// (`Prefer: strict`, a preference of our own): forward authentication takes any 2xx for a yes.
#[must_use]
pub fn strict(headers: &Headers) -> bool {
    preferences(headers, "strict").any(|value| !value.eq_ignore_ascii_case("false"))
}

/// Whether the request is not to be answered from the cache without asking Kubernetes
/// (`Cache-Control: no-cache`, RFC 9111 §5.2.1.4).
#[must_use]
pub fn reads(headers: &Headers) -> bool {
    headers
        .get_all("cache-control")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
}

/// The values of a preference, in their order; one without a value has an empty one (§2).
fn preferences<'a>(headers: &'a Headers, wanted: &'a str) -> impl Iterator<Item = &'a str> {
    headers
        .get_all("prefer")
        .filter_map(|value| std::str::from_utf8(value).ok())
        .flat_map(|value| value.split(','))
        .filter_map(move |preference| {
            let preference = preference.split(';').next()?;
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let is_it = name.trim().eq_ignore_ascii_case(wanted);
            is_it.then(|| value.trim().trim_matches('"'))
        })
}

/// The media type of streams of events.
pub const EVENT_STREAM: &str = "text/event-stream";

/// Whether the response is to be a stream of events (`Accept`, RFC 9110 §12.5.1): only if the request names
/// that media type, with a weight above 0 (§12.4.2).
#[must_use]
pub fn events(headers: &Headers) -> bool {
    let values = headers.get_all("accept");
    let ranges = values.filter_map(|value| std::str::from_utf8(value).ok());
    let mut ranges = ranges.flat_map(|value| value.split(','));
    ranges.any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_named = parts
            .next()
            .is_some_and(|it| it.eq_ignore_ascii_case(EVENT_STREAM));
        is_named && !parts.any(is_weight_of_none)
    })
}

/// Whether a parameter of a media range says that it is not acceptable: `q=0`, `Q=0.000`.
fn is_weight_of_none(parameter: &str) -> bool {
    let digits = parameter.strip_prefix(['q', 'Q']);
    let digits = digits.and_then(|rest| rest.strip_prefix("=0"));
    digits.is_some_and(|rest| rest.bytes().all(|byte| matches!(byte, b'0' | b'.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefer(values: &[&str]) -> Headers {
        let mut headers = Headers::default();
        for value in values {
            headers.push("Prefer", value.as_bytes());
        }
        headers
    }

    #[test]
    fn events_are_wanted_only_by_their_name() {
        for (accept, expected) in [
            ("text/event-stream", true),
            ("application/json, Text/Event-Stream;q=0.5", true),
            ("text/event-stream; q=0.001", true),
            ("text/event-stream;q=0", false),
            ("*/*, text/event-stream;a=b; Q=0.000", false),
            ("*/*", false),
            ("text/*", false),
            ("text/event-streams", false),
            ("", false),
        ] {
            let mut headers = Headers::default();
            headers.push("Accept", accept.as_bytes());
            assert_eq!(events(&headers), expected, "{accept}");
        }
        assert!(!events(&Headers::default()));
    }

    #[track_caller]
    fn check(values: &[&str], expected_secs: Option<u64>) {
        let expected = expected_secs.map(Duration::from_secs);
        assert_eq!(wait(&prefer(values)), expected);
    }

    #[test]
    fn create_is_true_unless_declined() {
        for (values, expected) in [
            (&[][..], true),
            (&["create=false"], false),
            (&["wait=3, CREATE = \"False\""], false),
            (&["create=true"], true),
            (&["create", "create=", "create=no"], true),
            (&["create=false", "create=true"], false),
        ] {
            assert_eq!(create(&prefer(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn a_request_is_a_use_unless_it_only_looks() {
        for (values, expected) in [
            (&[][..], true),
            (&["touch=false"], false),
            (&["wait=3, TOUCH = \"False\""], false),
            (&["create=false"], false),
            (&["touch=true", "touch"], true),
            (&["touch=no", "touched=false"], true),
        ] {
            assert_eq!(touches(&prefer(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn values_are_matched_where_a_caller_prefers_it() {
        for (values, expected) in [
            (&[][..], false),
            (&["match=values"], true),
            (&["wait=3, Match = \"Values\""], true),
            (&["match=x", "match=values"], true),
            (&["match", "match=", "match=value", "matches=values"], false),
        ] {
            assert_eq!(matches_values(&prefer(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn strict_needs_no_value() {
        for (values, expected) in [
            (&[][..], false),
            (&["strict"], true),
            (&["wait=3, Strict; x=y"], true),
            (&["strict=true"], true),
            (&["strict=\"False\""], false),
            (&["handling=strict", "stricter", "x=strict"], false),
        ] {
            assert_eq!(strict(&prefer(values)), expected, "{values:?}");
        }
    }

    #[test]
    fn only_no_cache_makes_a_request_read() {
        for (value, expected) in [
            ("no-cache", true),
            ("max-age=0, No-Cache", true),
            ("max-age=0", false),
            ("no-cache=x", false),
            ("", false),
        ] {
            let mut headers = Headers::default();
            headers.push("Cache-Control", value.as_bytes());
            assert_eq!(reads(&headers), expected, "{value}");
        }
        assert!(!reads(&Headers::default()));
    }

    #[test]
    fn the_first_wait_counts_and_invalid_ones_are_ignored() {
        check(&[], None);
        check(&["wait=5"], Some(5));
        check(&["respond-async, WAIT = \"7\"; x=y, wait=9"], Some(7));
        check(&["handling=lenient", "wait=3"], Some(3));
        check(&["wait", "wait=", "wait=-1", "wait=1.5", "wait=x"], None);
        check(&["wait=99999999999999999999999"], Some(WAIT_SECS_MAX));
    }
}
