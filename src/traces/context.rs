//! [`Context`]: the identity of a span, as W3C Trace Context defines it.
//!
//! Pure: parses and formats the headers `traceparent` and `tracestate`. Anything that deviates from the
//! recommendation counts as absent, because a wrong parent would break two traces. Reading headers from
//! a request is done by [`crate::http`], not here.

use std::fmt;
use std::sync::Arc;

/// Maximum length of a `tracestate` that is passed on, in bytes; the recommendation requires at least that.
pub const TRACESTATE_BYTES_MAX: usize = 512;

/// Length of a `traceparent` of version 00, in bytes.
const TRACEPARENT_BYTES: usize = 55;

/// A span: the ids of its trace and of the span itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Context {
    /// Trace id; never all zeros.
    pub trace_id: [u8; 16],
    /// Span id; never all zeros.
    pub span_id: [u8; 8],
    /// Whether it is recorded.
    pub is_sampled: bool,
    /// Whether the span belongs to another process.
    pub is_remote: bool,
    /// The value of `tracestate`.
    pub state: Option<Arc<str>>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.traceparent())
    }
}

impl Context {
    /// The caller's span, from all its headers `traceparent` and `tracestate`; `None` if there is no
    /// `traceparent`, more than one, or an invalid one.
    #[must_use]
    pub fn of_caller<'a>(
        mut parents: impl Iterator<Item = &'a [u8]>,
        states: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Self> {
        let parent = parents.next()?;
        if parents.next().is_some() {
            return None;
        }
        let mut context = parse(parent.trim_ascii())?;
        context.state = joined(states);
        Some(context)
    }

    /// The header's value.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
        let (trace, span) = (hex(&self.trace_id), hex(&self.span_id));
        format!("00-{trace}-{span}-0{}", u8::from(self.is_sampled))
    }
}

/// `version-trace-parent-flags`, in lower case. A later version may have more after that.
fn parse(value: &[u8]) -> Option<Context> {
    let (known, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
    let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
    let version: [u8; 1] = hex(&known[..2])?;
    let fits = match version {
        [0xff] => false,
        [0] => rest.is_empty(),
        _ => rest.first().is_none_or(|next| *next == b'-'),
    };
    let trace_id: [u8; 16] = hex(&known[3..35])?;
    let span_id: [u8; 8] = hex(&known[36..52])?;
    // Unknown flags are not passed on.
    let [flags]: [u8; 1] = hex(&known[53..])?;
    let is_one = trace_id != [0; 16] && span_id != [0; 8];
    (dashes && fits && is_one).then_some(Context {
        trace_id,
        span_id,
        is_sampled: flags & 1 == 1,
        is_remote: true,
        state: None,
    })
}

/// `N` bytes from 2·`N` hexadecimal digits in lower case.
fn hex<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

/// Several header lines form one list (RFC 9110 §5.3). A list that is too long or not text is dropped.
fn joined<'a>(states: impl Iterator<Item = &'a [u8]>) -> Option<Arc<str>> {
    let mut all = String::new();
    for state in states {
        let state = std::str::from_utf8(state.trim_ascii()).ok()?;
        let is_text = state
            .bytes()
            .all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        if !is_text || all.len() + state.len() > TRACESTATE_BYTES_MAX {
            return None;
        }
        let comma = if all.is_empty() || state.is_empty() {
            ""
        } else {
            ","
        };
        all = all + comma + state;
    }
    (!all.is_empty() && all.len() <= TRACESTATE_BYTES_MAX).then(|| all.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn read(parents: &[&str], states: &[&str]) -> Option<Context> {
        let bytes = |text: &&'static str| text.as_bytes();
        let leak = |texts: &[&str]| -> Vec<&'static str> {
            texts
                .iter()
                .map(|text| &*String::from(*text).leak())
                .collect()
        };
        let (parents, states) = (leak(parents), leak(states));
        Context::of_caller(parents.iter().map(bytes), states.iter().map(bytes))
    }

    #[track_caller]
    fn check(value: &str, expected: Option<&str>) {
        let read = read(&[value], &[]).map(|context| context.traceparent());
        assert_eq!(read.as_deref(), expected, "{value}");
    }

    #[test]
    fn a_traceparent_is_used_if_valid() {
        let good = format!("00-{TRACE}-{SPAN}-01");
        check(&good, Some(&good));
        check(&format!("  {good}\t"), Some(&good));
        let unsampled = format!("00-{TRACE}-{SPAN}-00");
        check(&unsampled, Some(&unsampled));
        check(&format!("00-{TRACE}-{SPAN}-ff"), Some(&good));
        check(&format!("00-{TRACE}-{SPAN}-02"), Some(&unsampled));
        // A future version may append more; it is read as version 00.
        check(&format!("cc-{TRACE}-{SPAN}-01"), Some(&good));
        check(
            &format!("cc-{TRACE}-{SPAN}-01-what-the-future-holds"),
            Some(&good),
        );
        for bad in [
            String::new(),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-011"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-001"),
            format!("0x-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", "0".repeat(32)),
            format!("00-{TRACE}-{}-01", "0".repeat(16)),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{}-01", SPAN.to_uppercase()),
            format!("00-{TRACE}-{SPAN}-0A"),
            format!("00-{}g-{SPAN}-01", &TRACE[1..]),
            format!("00_{TRACE}_{SPAN}_01"),
            format!("00-{TRACE}{SPAN}-01-01"),
            format!("00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01"),
            "ä".repeat(40),
        ] {
            check(&bad, None);
        }
        assert_eq!(read(&[], &["a=1"]), None);
        assert_eq!(read(&[&good, &good], &[]), None, "two parents are none");
    }

    #[track_caller]
    fn check_state(states: &[&str], expected: Option<&str>) {
        let context = read(&[&format!("00-{TRACE}-{SPAN}-01")], states).unwrap();
        assert_eq!(context.state.as_deref(), expected, "{states:?}");
    }

    #[test]
    fn a_tracestate_is_passed_on_up_to_its_bound() {
        check_state(&[], None);
        check_state(&[""], None);
        check_state(&["a=1,b=2"], Some("a=1,b=2"));
        check_state(&["a=1 ", "", "b=2"], Some("a=1,b=2"));
        check_state(&["a=\u{e4}"], None);
        check_state(&["a=\u{7f}"], None);
        let longest = format!("a={}", "x".repeat(TRACESTATE_BYTES_MAX - 2));
        check_state(&[&longest], Some(&longest));
        check_state(&[&format!("{longest}x")], None);
        check_state(&[&longest[1..], "b"], None);
    }
}
