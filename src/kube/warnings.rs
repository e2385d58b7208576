//! What the API server warns of beside a response: the texts of its `Warning` headers (RFC 7234 §5.5).
//!
//! Pure. An unknown field of an object that is created, for example, is a warning and no error.

/// How much of all warnings of a response is kept, in bytes. The API server itself sends no more.
pub const WARNINGS_BYTES_MAX: usize = 4096;

/// The texts of these headers, in order, cut to [`WARNINGS_BYTES_MAX`] in all.
pub(super) fn parse<'a>(headers: impl Iterator<Item = &'a [u8]>) -> Vec<Box<str>> {
    let mut left = WARNINGS_BYTES_MAX;
    let mut warnings = Vec::new();
    for header in headers {
        let header = String::from_utf8_lossy(header);
        let mut rest = header.trim();
        while !rest.is_empty() && left > 0 {
            let (mut text, after) = next(rest);
            rest = after.trim_start_matches([' ', '\t', ',']);
            text.truncate(text.floor_char_boundary(left));
            left -= text.len();
            if !text.is_empty() {
                warnings.push(text.into());
            }
        }
    }
    warnings
}

/// The text of the first warning, and what follows it. What is not of the form `code agent "text"
/// ["date"]` is a text as a whole.
fn next(header: &str) -> (String, &str) {
    let mut words = header.splitn(3, ' ');
    let (code, _agent, quoted) = (words.next(), words.next(), words.next());
    let is_code = code.is_some_and(|code| code.len() == 3 && code.bytes().all(is_digit));
    let found = quoted.filter(|_| is_code).and_then(unquote);
    let Some((text, rest)) = found else {
        return (header.to_owned(), "");
    };
    let date = rest.strip_prefix(' ').and_then(unquote);
    (text, date.map_or(rest, |(_, rest)| rest))
}

const fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit()
}

/// The content of the quoted string that this begins with, and what follows it.
fn unquote(quoted: &str) -> Option<(String, &str)> {
    let inside = quoted.strip_prefix('"')?;
    let (mut text, mut is_escaped) = (String::new(), false);
    for (at, c) in inside.char_indices() {
        match c {
            '"' if !is_escaped => return Some((text, &inside[at + 1..])),
            '\\' if !is_escaped => is_escaped = true,
            _ => {
                text.push(c);
                is_escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{WARNINGS_BYTES_MAX, parse};

    #[track_caller]
    fn check(headers: &[&str], expected: &[&str]) {
        let parsed = parse(headers.iter().map(|header| header.as_bytes()));
        let parsed: Vec<&str> = parsed.iter().map(|text| &**text).collect();
        assert_eq!(parsed, expected);
    }

    #[test]
    fn each_header_is_a_warning() {
        check(&[], &[]);
        check(
            &[r#"299 - "unknown field \"spec.a\"""#, r#"299 - "b""#],
            &["unknown field \"spec.a\"", "b"],
        );
        check(&[r#"299 - "a\\\"b ü""#], &["a\\\"b ü"]);
        check(&["299 - \"\""], &[]);
    }

    #[test]
    fn a_header_may_have_several_warnings_and_dates() {
        let date = "\"Mon, 30 Nov 2026 00:00:00 GMT\"";
        let header = format!("299 - \"a, b\" {date}, 199 host:80 \"c\"");
        check(&[&header], &["a, b", "c"]);
    }

    #[test]
    fn what_has_another_form_is_kept_as_it_is() {
        for header in [
            "deprecated",
            "299 - open",
            "299 - \"open",
            "x - \"a\"",
            "299",
        ] {
            check(&[header], &[header]);
        }
    }

    #[test]
    fn all_warnings_together_are_bounded() {
        let at_bound = format!("299 - \"{}\"", "x".repeat(WARNINGS_BYTES_MAX));
        check(
            &[&at_bound, "299 - \"more\""],
            &[&"x".repeat(WARNINGS_BYTES_MAX)],
        );
        let many = vec!["299 - \"0123456789\""; 1000];
        let parsed = parse(many.iter().map(|header| header.as_bytes()));
        let bytes: usize = parsed.iter().map(|text| text.len()).sum();
        assert_eq!(bytes, WARNINGS_BYTES_MAX);
        let wide = format!("299 - \"{}\"", "ü".repeat(WARNINGS_BYTES_MAX));
        check(&[&wide], &[&"ü".repeat(WARNINGS_BYTES_MAX / 2)]);
    }
}
