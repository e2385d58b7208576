//! The rules of RFC 9112, by literals.
