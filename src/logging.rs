//! The log: one line per event on standard error, as text or as JSON.
//!
//! env_logger filters and writes; this file only formats a line. Control characters are escaped, so that
//! untrusted text cannot forge a line, and the token after `Bearer ` is hidden. The trace level is
//! compiled out, because the HTTP client logs tokens at that level.

use crate::config::LogFormat;
use jiff::Timestamp;
use std::borrow::Cow;
use std::io::Write as _;

/// Starts the logger of this process; a second call changes nothing.
pub fn init(filter: &str, format: LogFormat) {
    let mut builder = env_logger::Builder::new();
    builder.parse_filters(filter).format(move |out, record| {
        out.write_all(line(Timestamp::now(), record, format).as_bytes())
    });
    // Only tests call this twice in a process; they can use the first logger.
    let _ = builder.try_init();
}

fn line(time: Timestamp, record: &log::Record<'_>, format: LogFormat) -> String {
    let message = record.args().to_string();
    let message = redact(&message);
    let time = format!("{time:.3}");
    match format {
        LogFormat::Text => {
            let message = escaped(&message, |c| c.escape_default().to_string());
            format!("{time} {:5} {message}\n", record.level())
        }
        LogFormat::Json => {
            let object = serde_json::json!({
                "time": time,
                "level": record.level().as_str().to_ascii_lowercase(),
                "target": record.target(),
                "msg": message,
            });
            // As JSON does; serde_json itself escapes only characters below the space.
            let escape = |c| format!("\\u{:04x}", u32::from(c));
            escaped(&object.to_string(), escape).into_owned() + "\n"
        }
    }
}

/// Whether a character controls a terminal or the layout of text: control characters, line and paragraph
/// separators, changes of the text direction.
fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Replaces control characters with their escapes, so that one event stays on one line.
fn escaped(text: &str, escape: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_control(c) {
            escaped.push_str(&escape(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Hides the token after each `Bearer `, in upper or lower case.
fn redact(text: &str) -> Cow<'_, str> {
    const SCHEME: &str = "bearer ";
    // ASCII lower case keeps byte offsets.
    let lower = text.to_ascii_lowercase();
    if !lower.contains(SCHEME) {
        return Cow::Borrowed(text);
    }
    let mut hidden = String::with_capacity(text.len());
    let mut at = 0;
    while let Some(found) = lower[at..].find(SCHEME) {
        let start = at + found + SCHEME.len();
        let length = text[start..]
            .find([' ', '"', '\'', ',', '\n'])
            .unwrap_or(text.len() - start);
        hidden.push_str(&text[at..start]);
        hidden.push_str("[hidden]");
        at = start + length;
    }
    hidden.push_str(&text[at..]);
    Cow::Owned(hidden)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[track_caller]
    fn check(message: &str, format: LogFormat, expected: &str) {
        let time = Timestamp::from_second(1_777_629_600).unwrap();
        let line = |message: fmt::Arguments<'_>| {
            let mut record = log::Record::builder();
            let record = record.level(log::Level::Warn).target("t").args(message);
            line(time, &record.build(), format)
        };
        assert_eq!(line(format_args!("{message}")), expected);
    }

    #[test]
    fn a_line_is_one_event_whatever_is_in_it() {
        check(
            "name 'a\n2026 ERROR forged\u{1b}[31m'",
            LogFormat::Text,
            "2026-05-01T10:00:00.000Z WARN  name 'a\\n2026 ERROR forged\\u{1b}[31m'\n",
        );
        check(
            "a\u{2028}b\u{202e}c\u{9b}d ä",
            LogFormat::Text,
            "2026-05-01T10:00:00.000Z WARN  a\\u{2028}b\\u{202e}c\\u{9b}d ä\n",
        );
        check(
            "\u{9b}\u{2028}\t",
            LogFormat::Json,
            "{\"time\":\"2026-05-01T10:00:00.000Z\",\"level\":\"warn\",\"target\":\"t\",\"msg\":\"\\u009b\\u2028\\t\"}\n",
        );
        check(
            "a\nb \"c\"",
            LogFormat::Json,
            "{\"time\":\"2026-05-01T10:00:00.000Z\",\"level\":\"warn\",\"target\":\"t\",\"msg\":\"a\\nb \\\"c\\\"\"}\n",
        );
    }

    #[test]
    fn tokens_are_hidden() {
        check(
            "authorization: BEARER abc.def, x; Bearer ghi",
            LogFormat::Text,
            "2026-05-01T10:00:00.000Z WARN  authorization: BEARER [hidden], x; Bearer [hidden]\n",
        );
    }
}
