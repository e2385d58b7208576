//! The syntax of durations in settings and annotations.
//!
//! Pure: one parser for both, so that `10s` means the same everywhere. Defaults and bounds of settings
//! are not here.

use std::time::Duration;

/// Parses `500ms`, `10s`, `5m`, `2h`, or a plain number of seconds; at most 30 days.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| !digits.starts_with('+'))?;
    let millis_per_unit: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "" | "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let longest = Duration::from_secs(30 * 24 * 3600);
    let duration = Duration::from_millis(number.checked_mul(millis_per_unit)?);
    (duration <= longest).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, millis) in [
            ("500ms", 500),
            ("10", 10_000),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "-1s",
            "+1s",
            "1.5s",
            "1d",
            "99999999999999999999s",
            "10000h",
            "1 s",
        ] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
