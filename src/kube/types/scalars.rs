//! Small values that objects are made of: UIDs, versions, points in time.
//!
//! Each is one or two words in memory, since there are many. They are not
//! interpreted here beyond what decoding needs.

use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The UID of an object: unique over all time.
///
/// Kubernetes guarantees no more than a string; in practice it is a UUID, which
/// is stored as its 16 bytes. It is printed as it was read.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uid(UidForm);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum UidForm {
    Uuid([u8; 16]),
    Text(Box<str>),
}

impl Default for Uid {
    fn default() -> Self {
        Self::from("")
    }
}

impl Uid {
    /// Whether the object has no UID, as only objects made by tests do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, UidForm::Text(text) if text.is_empty())
    }
}

/// How much of a UID is kept, in bytes. Those that Kubernetes assigns have 36; in references to other
/// objects their authors may write anything.
pub const UID_BYTES_MAX: usize = 64;

impl From<&str> for Uid {
    fn from(text: &str) -> Self {
        let text = &text[..text.floor_char_boundary(UID_BYTES_MAX)];
        Self(uuid_bytes(text).map_or_else(|| UidForm::Text(text.into()), UidForm::Uuid))
    }
}

/// The bytes of a UUID in its usual form: lower case, with hyphens.
fn uuid_bytes(text: &str) -> Option<[u8; 16]> {
    const HYPHENS: [usize; 4] = [8, 13, 18, 23];
    if text.len() != 36 || HYPHENS.iter().any(|&at| text.as_bytes()[at] != b'-') {
        return None;
    }
    bytes_of_hex(text.bytes().filter(|&byte| byte != b'-'))
}

/// The bytes of so many hexadecimal digits in lower case.
pub(super) fn bytes_of_hex(digits: impl Iterator<Item = u8>) -> Option<[u8; 16]> {
    let mut digits = digits.map(|byte| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    });
    let mut bytes = [0; 16];
    for byte in &mut bytes {
        *byte = digits.next()?? << 4 | digits.next()??;
    }
    digits.next().is_none().then_some(bytes)
}

/// The hexadecimal digits of these bytes, in lower case.
pub(super) fn hex_digits(bytes: &[u8; 16]) -> [u8; 32] {
    let mut digits = [0; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        for (digit, value) in pair.iter_mut().zip([byte >> 4, byte & 0xf]) {
            *digit = b"0123456789abcdef"[usize::from(value)];
        }
    }
    digits
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            UidForm::Text(text) => f.write_str(text),
            // Once: it is in each response about an instance.
            UidForm::Uuid(bytes) => {
                let mut text = [b'-'; 36];
                let digits = hex_digits(bytes);
                for (from, to) in [(0, 0), (8, 9), (12, 14), (16, 19), (20, 24)] {
                    let length = if from == 0 { 8 } else { 4 };
                    let length = if from == 20 { 12 } else { length };
                    text[to..to + length].copy_from_slice(&digits[from..from + length]);
                }
                f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
            }
        }
    }
}

impl fmt::Debug for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uid({self})")
    }
}

/// The version of an object or a list.
///
/// Sent back to the API server as received. Versions are compared only within
/// one resource, which Kubernetes 1.35 made official (decimal numbers, larger is
/// newer) and all versions since 1.31 support. Only [`crate::store`] decides by
/// it which state of an object is newer; the watch only checks whether the server
/// went back. A version that is not a decimal number is kept, but never compared.
#[derive(Clone, PartialEq, Eq)]
pub struct ResourceVersion(VersionForm);

#[derive(Clone, PartialEq, Eq)]
enum VersionForm {
    Number(u64),
    Text(Box<str>),
}

impl Default for ResourceVersion {
    fn default() -> Self {
        Self::from("")
    }
}

impl ResourceVersion {
    /// Whether there is no version.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(&self.0, VersionForm::Text(text) if text.is_empty())
    }

    /// Whether this is known to be older than `other`.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        matches!((self.number(), other.number()), (Some(own), Some(other)) if own < other)
    }

    /// The version as a number, for comparing; for [`crate::store`] only.
    pub(crate) fn number(&self) -> Option<u64> {
        match self.0 {
            VersionForm::Number(number) => Some(number),
            VersionForm::Text(_) => None,
        }
    }
}

/// Longest version that is accepted, in bytes; those of Kubernetes are numbers.
const VERSION_BYTES_MAX: usize = 64;

impl From<&str> for ResourceVersion {
    fn from(text: &str) -> Self {
        let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
        let number = text.parse().ok().filter(|_| canonical);
        Self(number.map_or_else(|| VersionForm::Text(text.into()), VersionForm::Number))
    }
}

impl fmt::Display for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            VersionForm::Number(number) => write!(f, "{number}"),
            VersionForm::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for ResourceVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResourceVersion({self})")
    }
}

/// A point in time as Kubernetes represents it: whole seconds since 1970, UTC.
///
/// Finer fractions (only Events and Leases have them) are cut off. Times before
/// 1970-01-01T00:00:01Z and after 2106 become the nearest one that fits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(NonZeroU32);

impl Timestamp {
    /// From seconds since 1970.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        let seconds = u32::try_from(seconds.max(1)).unwrap_or(u32::MAX);
        Self(NonZeroU32::new(seconds).unwrap_or(NonZeroU32::MIN))
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        i64::from(self.0.get())
    }

    /// The time since 1970.
    #[must_use]
    pub fn since_epoch(self) -> Duration {
        Duration::from_secs(u64::from(self.0.get()))
    }

    /// The same point in time as [`SystemTime`].
    #[must_use]
    pub fn system_time(self) -> SystemTime {
        UNIX_EPOCH + self.since_epoch()
    }

    /// The second of a [`SystemTime`]; `None` before 1970.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Option<Self> {
        let secs = time.duration_since(UNIX_EPOCH).ok()?.as_secs();
        i64::try_from(secs).ok().map(Self::from_seconds)
    }

    /// Reads RFC 3339; `None` when it is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        time_of(text).map(Self::from)
    }

    /// Reads the value of a header `Date`; `None` when it is malformed.
    #[must_use]
    pub fn parse_date(text: &str) -> Option<Self> {
        httpdate::parse_http_date(text).ok().map(Self::from)
    }
}

/// Reads RFC 3339; `None` when it is malformed. A time before 1970 counts as the beginning of 1970.
#[must_use]
pub fn time_of(text: &str) -> Option<SystemTime> {
    let (year, rest) = text.split_at_checked(4)?;
    if year < "1970" && year.bytes().all(|byte| byte.is_ascii_digit()) {
        return time_of(&format!("2000{rest}")).map(|_| UNIX_EPOCH);
    }
    if text.ends_with('Z') {
        return humantime::parse_rfc3339(text).ok();
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub("+00:00".len())?)?;
    let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let (hours, minutes) = offset[1..].split_once(':')?;
    let [hours, minutes] = [hours, minutes].map(|part| part.parse::<u8>().ok());
    let offset_by = Duration::from_secs(u64::from(hours?) * 3600 + u64::from(minutes?) * 60);
    match offset.as_bytes()[0] {
        b'+' => time.checked_sub(offset_by),
        b'-' => time.checked_add(offset_by),
        _ => None,
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let seconds = time
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        Self::from_seconds(i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(self.system_time()).fmt(f)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Timestamp({self})")
    }
}

/// Converts a string to a value without copying it first.
struct FromText<T, F>(&'static str, F, std::marker::PhantomData<T>);

impl<T, F: Fn(&str) -> Option<T>> Visitor<'_> for FromText<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

/// Converts a string with `read`; when that returns `None`, the error names `expected`.
pub(super) fn from_text<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, D::Error> {
    deserializer.deserialize_str(FromText(expected, read, std::marker::PhantomData))
}

impl<'de> Deserialize<'de> for Uid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a UID", |text| Some(text.into()))
    }
}

impl<'de> Deserialize<'de> for ResourceVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a resource version", |text| {
            (text.len() <= VERSION_BYTES_MAX).then(|| text.into())
        })
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_text(deserializer, "a time in RFC 3339", Self::parse)
    }
}
