//! The type of a scalar from its text, as kubectl determines it.
//!
//! kubectl reads YAML 1.1 with a table of its own: `yes` is a boolean, `0644` is octal, `12:30:45`
//! and dates are strings. This file is only that table. [`crate::model::template`] decides which
//! fields of a pod template require the text instead of the typed value.
//!
//! Two rows differ deliberately: kubectl rounds an integer beyond 64 bits and sends `1e400` as a string;
//! both are rejected here, because neither is what the author wrote.

use super::ErrorKind;
use serde_json::{Number, Value};

/// The type of a scalar by kubectl's table.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolved {
    /// `~`, `null`, or nothing at all.
    Null,
    /// `true`, `yes`, `on`, `y` and their opposites.
    Bool(bool),
    /// A number with a JSON representation; a whole one is always an integer (`1e3` is 1000).
    Number(Number),
    /// Anything else: the scalar's text.
    Text,
    /// `.inf` or `.nan`, which JSON lacks; its text is still usable where a string is required.
    NotFinite,
    /// A number of more than 64 bits, or beyond the range of a floating-point number; likewise.
    TooLarge,
}

impl Resolved {
    /// The JSON of a scalar with this text.
    ///
    /// # Errors
    /// A number without a JSON representation.
    pub fn to_json(&self, text: &str) -> Result<Value, ErrorKind> {
        match self {
            Self::Null => Ok(Value::Null),
            Self::Bool(value) => Ok(Value::Bool(*value)),
            Self::Number(number) => Ok(Value::Number(number.clone())),
            Self::Text => Ok(Value::String(text.to_owned())),
            Self::NotFinite => Err(ErrorKind::NotFinite),
            Self::TooLarge => Err(ErrorKind::NumberTooLarge),
        }
    }

    /// The string that this scalar becomes as a key, or `None` if it cannot be a key.
    pub(super) fn to_key(&self, text: &str) -> Option<String> {
        match self {
            Self::Null | Self::TooLarge => None,
            Self::Bool(value) => Some(value.to_string()),
            Self::Text | Self::NotFinite => Some(text.to_owned()),
            Self::Number(number) => match (number.as_i64(), number.as_f64()) {
                // An integer written as a float is formatted as a float.
                (Some(_), Some(float)) if !looks_like_integer(text) => Some(float_key(float)),
                (Some(integer), _) => Some(integer.to_string()),
                (None, Some(float)) if number.is_f64() => Some(float_key(float)),
                (None, _) => None,
            },
        }
    }
}

/// The type of a plain scalar without a tag.
#[must_use]
pub fn resolve(text: &str) -> Resolved {
    let found = match text.bytes().next() {
        Some(b'.') => not_finite(text).or_else(|| dotted_float(text)),
        Some(b'+' | b'-' | b'0'..=b'9') => not_finite(text).or_else(|| number(text)),
        _ => return word(text),
    };
    found.unwrap_or(Resolved::Text)
}

fn word(text: &str) -> Resolved {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Resolved::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Resolved::Bool(false)
        }
        "" | "~" | "null" | "Null" | "NULL" => Resolved::Null,
        _ => Resolved::Text,
    }
}

fn not_finite(text: &str) -> Option<Resolved> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let infinite = matches!(unsigned, ".inf" | ".Inf" | ".INF");
    let not_a_number = matches!(text, ".nan" | ".NaN" | ".NAN");
    (infinite || not_a_number).then_some(Resolved::NotFinite)
}

/// `.5`; underscores count only between digits.
fn dotted_float(text: &str) -> Option<Resolved> {
    let bytes = text.as_bytes();
    let between_digits = |at: usize| {
        bytes[at - 1].is_ascii_digit() && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
    };
    let misplaced = |(at, byte): (usize, &u8)| *byte == b'_' && !between_digits(at);
    if bytes.iter().enumerate().skip(1).any(misplaced) {
        return None;
    }
    float(&text.replace('_', ""))
}

/// A text that begins with a sign or a digit; underscores do not count anywhere.
fn number(text: &str) -> Option<Resolved> {
    let plain = text.replace('_', "");
    integer(&plain).or_else(|| float(&plain))
}

fn integer(text: &str) -> Option<Resolved> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (radix, digits) = radix(unsigned);
    // The standard library would accept another sign here.
    if !digits.starts_with(|first: char| first.is_digit(radix)) {
        return None;
    }
    let magnitude = i128::from_str_radix(digits, radix).ok()?;
    let value = if text.starts_with('-') {
        -magnitude
    } else {
        magnitude
    };
    if let Ok(value) = i64::try_from(value) {
        return Some(Resolved::Number(value.into()));
    }
    let value = u64::try_from(value).ok().filter(|_| text == unsigned)?;
    Some(Resolved::Number(value.into()))
}

fn radix(digits: &str) -> (u32, &str) {
    let Some(rest) = digits.strip_prefix('0') else {
        return (10, digits);
    };
    match rest.as_bytes().first() {
        Some(b'x' | b'X') => (16, &rest[1..]),
        Some(b'o' | b'O') => (8, &rest[1..]),
        Some(b'b' | b'B') => (2, &rest[1..]),
        Some(_) => (8, rest),
        None => (10, digits),
    }
}

fn float(text: &str) -> Option<Resolved> {
    if !is_float(text) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    let mut digits = text.trim_start_matches(['+', '-']).bytes();
    let written_whole = digits.all(|byte| byte.is_ascii_digit());
    if value.is_infinite() || (written_whole && value.abs() >= TWO_TO_63) {
        return Some(Resolved::TooLarge);
    }
    Some(Resolved::Number(float_number(value)))
}

/// 2^63, which `f64` holds exactly. Integers that fit into 64 bits are read before.
const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;

/// Whole floats become integers, because Kubernetes rejects `1000.0` where it requires an integer.
fn float_number(value: f64) -> Number {
    let shortest = value.to_string();
    if let Ok(whole) = shortest.parse::<i64>() {
        return Number::from(whole);
    }
    if let Ok(whole) = shortest.parse::<u64>() {
        return Number::from(whole);
    }
    Number::from_f64(value).expect("the value is finite: infinities are refused before")
}

/// Sign, digits with at most one point, and an exponent.
fn is_float(text: &str) -> bool {
    let rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (rest, None),
    };
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let mantissa_ok = match mantissa.split_once('.') {
        Some(("", fraction)) => !fraction.is_empty() && all_digits(fraction),
        Some((whole, fraction)) => all_digits(whole) && all_digits(fraction),
        None => !mantissa.is_empty() && all_digits(mantissa),
    };
    let exponent_ok = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    mantissa_ok && exponent_ok
}

fn looks_like_integer(text: &str) -> bool {
    integer(&text.replace('_', "")).is_some()
}

/// A float as a key: the shortest digits of single precision, with an exponent from 10^6 on.
fn float_key(value: f64) -> String {
    // Losing precision is what kubectl does here.
    let single = value as f32;
    if single.is_infinite() {
        return if single > 0.0 { ".inf" } else { "-.inf" }.to_owned();
    }
    let scientific = format!("{single:e}");
    let (mantissa, exponent) = scientific
        .split_once('e')
        .expect("the `e` format always writes an exponent");
    let power: i32 = exponent.parse().expect("the exponent is a small integer");
    if (-4..6).contains(&power) || single == 0.0 {
        return format!("{single}");
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", power.abs())
}

/// The type of a scalar that carries the YAML tag `tag`, the part after `tag:yaml.org,2002:`.
/// `None` if the text does not fit the tag.
pub(super) fn resolve_tagged(tag: &str, text: &str) -> Option<Resolved> {
    let resolved = resolve(text);
    let fits = match (tag, &resolved) {
        ("bool", Resolved::Bool(_)) | ("null", Resolved::Null) => true,
        ("float", Resolved::Number(_) | Resolved::NotFinite | Resolved::TooLarge) => true,
        ("int", Resolved::Number(number)) => !number.is_f64() && looks_like_integer(text),
        ("int", Resolved::TooLarge) => true,
        ("timestamp", _) => return looks_like_date(text).then_some(Resolved::Text),
        ("bool" | "null" | "float" | "int", _) => false,
        _ => return Some(Resolved::Text),
    };
    fits.then_some(resolved)
}

fn looks_like_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() >= 8 && bytes[..4].iter().all(u8::is_ascii_digit) && bytes[4] == b'-'
}
