//! [`RequestId`]: the ID of one request in responses and in the log.
//!
//! Pure. A valid ID of the caller is kept, so that its log and ours can be correlated; otherwise
//! the request gets a generated one. Unlike a [`RequestHandle`](super::RequestHandle) it identifies
//! nothing within the program: callers may send the same ID twice.

use std::fmt;
use std::sync::Arc;

/// How long a caller's own name may be.
const GIVEN_BYTES_MAX: usize = 128;

/// Number of digits of a generated ID.
const OWN_DIGITS: usize = 16;

#[derive(Clone, PartialEq, Eq)]
enum Text {
    /// A generated ID, stored in place: the path of a request allocates no memory for it.
    Own([u8; OWN_DIGITS]),
    /// The caller's.
    Given(Arc<str>),
}

/// Names one request; visible ASCII.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Text);

impl RequestId {
    /// The caller's ID, if it has 1 to 128 characters of visible ASCII without special meaning in
    /// headers, logs and queries. Quotes, commas, semicolons, backslashes and angle brackets are
    /// not permitted.
    #[must_use]
    pub fn given(value: &[u8]) -> Option<Self> {
        let harmless = |byte: &u8| byte.is_ascii_graphic() && !b"\"'`,;\\<>".contains(byte);
        let fits = (1..=GIVEN_BYTES_MAX).contains(&value.len()) && value.iter().all(harmless);
        let text = std::str::from_utf8(value).ok().filter(|_| fits)?;
        Some(Self(Text::Given(text.into())))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Text::Own(digits) => std::str::from_utf8(digits).expect("digits are ASCII"),
            Text::Given(text) => text,
        }
    }
}

/// Sixteen zeros: a request that has not been named yet.
impl Default for RequestId {
    fn default() -> Self {
        Self(Text::Own([b'0'; OWN_DIGITS]))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Makes names: no two of one maker are the same, nor of two makers of one process.
#[derive(Clone, Debug)]
pub struct RequestIds {
    next: u64,
}

impl RequestIds {
    /// The maker with this number (below 65,536) in the process that has this seed;
    /// processes with different seeds make different names, as good as always.
    #[must_use]
    pub const fn new(seed: u64, number: u64) -> Self {
        Self {
            next: mix(seed).wrapping_add(number << 48),
        }
    }

    /// A new name.
    pub fn make(&mut self) -> RequestId {
        self.next = self.next.wrapping_add(1);
        let number = mix(self.next);
        let mut digits = [0; OWN_DIGITS];
        for (place, digit) in digits.iter_mut().enumerate() {
            let value = number >> (60 - 4 * place) & 0xf;
            *digit = b"0123456789abcdef"[usize::try_from(value).expect("it is below 16")];
        }
        RequestId(Text::Own(digits))
    }
}

/// Shuffles all 64 bits (the finalizer of SplitMix64); different numbers stay different.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[track_caller]
    fn check(value: &str, taken: bool) {
        let id = RequestId::given(value.as_bytes());
        assert_eq!(id.as_ref().map(RequestId::as_str), taken.then_some(value));
    }

    #[test]
    fn valid_ids_of_callers_are_kept() {
        check("a", true);
        check("Root=1-67891233-abcdef012345678912345678", true);
        check("0b9c7d52-33b9-4d3e-8d0e-0a3fca4b2b6a", true);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
        check("", false);
        for bad in [
            "a b", "a\tb", "a,b", "\"a\"", "a'b", "a;b", "a\\n", "<a>", "ä",
        ] {
            check(bad, false);
        }
        assert_eq!(RequestId::given(b"\xff"), None);
    }

    #[test]
    fn generated_ids_are_sixteen_digits_and_unique() {
        let mut seen = HashSet::new();
        for number in 0..4 {
            let mut ids = RequestIds::new(7, number);
            for _ in 0..1000 {
                let id = ids.make();
                assert!(id.as_str().bytes().all(|byte| byte.is_ascii_hexdigit()));
                assert_eq!(id.as_str().len(), OWN_DIGITS);
                assert!(seen.insert(id.as_str().to_owned()));
            }
        }
    }
}
