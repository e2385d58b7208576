//! The OpenAPI document of the HTTP API: `GET /openapi.json`, and `GET /docs` for people.
//!
//! Pure. The document is written by hand in `openapi.json` beside this file and is part of the
//! program. `tests/it/openapi.rs` compares it with the endpoints, the errors and real responses.
//! The page is made from it (`page.rs`) at the first request, so both always agree.

mod page;

use super::message::{Body, Response};
use serde_json::Value;
use std::sync::LazyLock;

/// The document, as it is in the file.
pub const DOCUMENT: &str = include_str!("openapi.json");

/// The page loads nothing, since it contains everything that it needs.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The length of the document without white space between tokens.
const COMPACT_BYTES: usize = compact::<{ DOCUMENT.len() }>(DOCUMENT.as_bytes()).1;

/// The document as it is served: compact as all JSON of the contract, keys in the order of the file.
/// The compiler makes it, so that the program contains only this form.
static COMPACT: [u8; COMPACT_BYTES] = compact(DOCUMENT.as_bytes()).0;

static PAGE: LazyLock<String> = LazyLock::new(|| page::page(&parsed()));

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
            // An escaped character is copied as it is, a quote too.
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

/// The response to `GET /openapi.json`.
#[must_use]
pub fn document() -> Response {
    Response::with_type(200, "application/json", Body::Static(&COMPACT))
}

/// The response to `GET /docs`.
#[must_use]
pub fn docs() -> Response {
    let page = Body::Static(PAGE.as_bytes());
    Response::with_type(200, "text/html; charset=utf-8", page)
        .header("content-security-policy", PAGE_POLICY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_served_without_white_space() {
        let written: Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(std::str::from_utf8(&COMPACT).unwrap(), written.to_string());
    }

    #[test]
    fn only_white_space_between_tokens_is_removed() {
        let text = br#" { "a \" b" : [ 1 , "\\" , " " ] } "#;
        let (out, len) = compact::<64>(text);
        assert_eq!(&out[..len], br#"{"a \" b":[1,"\\"," "]}"#);
    }
}
