//! The description of the HTTP surface: `GET /openapi.json`, and `GET /docs` for people.
//!
//! Pure. The document is written by hand, in `openapi.json` beside this file, and is part of the
//! program; `tests/it/openapi.rs` holds it, the router, the errors and real answers together. The
//! page is made from it (`page.rs`) when it is first asked for, so that it cannot say anything else.

mod page;

use super::message::{Body, Response};
use serde_json::Value;
use std::sync::{Arc, LazyLock};

/// The document, as it was written.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// What the page may load: nothing, since all that it needs is in it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// How long the document is without the white space for those who write it.
const COMPACT_BYTES: usize = compact::<{ DOCUMENT.len() }>(DOCUMENT.as_bytes()).1;

/// As the contract has all JSON: compact, keys in the order of the file. The compiler makes it, so
/// that the program holds it once, in the form in which it is asked for.
static COMPACT: [u8; COMPACT_BYTES] = compact(DOCUMENT.as_bytes()).0;

static PAGE: LazyLock<Arc<[u8]>> = LazyLock::new(|| page::page(&parsed()).into_bytes().into());

fn parsed() -> Value {
    serde_json::from_slice(&COMPACT).expect("a file of ours, which the tests read")
}

/// JSON without white space between its tokens, and how long it is; `N` must be that or more.
// The lint is about loops that may never end; this one ends with the file.
#[allow(long_running_const_eval)]
const fn compact<const N: usize>(json: &[u8]) -> ([u8; N], usize) {
    let mut out = [0; N];
    let mut len = 0;
    let mut at = 0;
    let mut in_string = false;
    while at < json.len() {
        if in_string || !json[at].is_ascii_whitespace() {
            out[len] = json[at];
            len += 1;
        }
        match json[at] {
            b'"' => in_string = !in_string,
            // What is escaped stands for itself, a quote too.
            b'\\' => {
                at += 1;
                out[len] = json[at];
                len += 1;
            }
            _ => {}
        }
        at += 1;
    }
    (out, len)
}

/// The answer to `GET /openapi.json`.
#[must_use]
pub fn document() -> Response {
    Response::with_type(200, "application/json", Body::Static(&COMPACT))
}

/// The answer to `GET /docs`.
#[must_use]
pub fn docs() -> Response {
    let page = Body::Shared(Arc::clone(&PAGE));
    Response::with_type(200, "text/html; charset=utf-8", page)
        .header("content-security-policy", PAGE_POLICY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_served_as_a_compact_writer_has_it() {
        let written: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(std::str::from_utf8(&COMPACT).unwrap(), written.to_string());
    }

    #[test]
    fn only_white_space_between_tokens_goes() {
        let text = br#" { "a \" b" : [ 1 , "\\" , " " ] } "#;
        let (out, len) = compact::<64>(text);
        assert_eq!(&out[..len], br#"{"a \" b":[1,"\\"," "]}"#);
    }
}
