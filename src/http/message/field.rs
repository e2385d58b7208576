//! What may stand in a header field (RFC 9110 §5). Pure.
//!
//! The only place of these rules: for heads that are received, for responses that are written and
//! for headers that settings name.

/// Whether this byte may stand in a token, such as a method or a field name (`tchar`, RFC 9110
/// §5.6.2).
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether this is a field name (RFC 9110 §5.1).
#[must_use]
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

/// Whether a field value has visible ASCII, blanks and tabs only. RFC 9110 §5.5 allows bytes
/// outside ASCII too, which recipients read in different ways.
#[must_use]
pub fn is_value(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_and_values_are_visible_ascii() {
        let tokens: Vec<u8> = (0..=255).filter(|byte| is_token_byte(*byte)).collect();
        // All visible ASCII but the delimiters.
        let delimiters = b"\"(),/:;<=>?@[\\]{}";
        let expected = (b'!'..=b'~').filter(|byte| !delimiters.contains(byte));
        assert_eq!(tokens, expected.collect::<Vec<u8>>());
        assert!(is_name("X-View-Age") && !is_name("") && !is_name("a b") && !is_name("a:"));
        assert!(is_value("") && is_value("a\tb ~") && !is_value("\u{7f}") && !is_value("ä"));
        assert!(!is_value("a\r\nb") && !is_value("a\0"));
    }
}
