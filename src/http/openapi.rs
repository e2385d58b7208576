//! The OpenAPI document of the HTTP API: `GET /openapi.json`, and `GET /docs` for people.
//!
//! Pure. The document is written by hand in `openapi.json` beside this file and is part of the
//! program. `tests/it/openapi.rs` compares it with the endpoints, the errors and real responses.
//! The page is made from it (`page.rs`) at the first request, so both always agree.

mod page;

use super::message::{Body, Response};
use super::packed::{pack, unpack};
use serde_json::Value;
use std::sync::LazyLock;

/// The document as it is served: compact as all JSON of the contract, keys in the order of the file, and a
/// newline. It is in the program without other white space and packed, and unpacked at the first request.
pub static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    String::from_utf8(unpack(&PACKED)).expect("a file of ours, which the tests read")
});

const WRITTEN: &[u8] = include_bytes!("openapi.json");

// It takes the compiler a moment.
#[allow(long_running_const_eval)]
const COMPACT: ([u8; WRITTEN.len()], usize) = compact(WRITTEN);

#[allow(long_running_const_eval)]
const PACKING: ([u8; COMPACT.1], usize) = pack(COMPACT.0.split_at(COMPACT.1).0);

static PACKED: [u8; PACKING.1] = *PACKING.0.first_chunk().expect("it is the length of that");

/// JSON without the white space between its parts, as far as it fits, and its length. The last byte stays.
const fn compact<const N: usize>(json: &[u8]) -> ([u8; N], usize) {
    let (mut kept, mut length) = ([0; N], 0);
    let (mut at, mut in_string) = (0, false);
    while at < json.len() {
        let byte = json[at];
        // A backslash and what it escapes stay together.
        let is_escape = in_string && byte == b'\\';
        let until = at + if is_escape { 2 } else { 1 };
        if byte == b'"' {
            in_string = !in_string;
        }
        while at < until {
            let is_last = at + 1 == json.len();
            if in_string || is_last || !json[at].is_ascii_whitespace() {
                if length < N {
                    kept[length] = json[at];
                }
                length += 1;
            }
            at += 1;
        }
    }
    (kept, length)
}

/// The page loads nothing, since it contains everything that it needs.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

static PAGE: LazyLock<String> = LazyLock::new(|| page::page(&parsed()));

fn parsed() -> Value {
    serde_json::from_str(&DOCUMENT).expect("a file of ours, which the tests read")
}

/// The response to `GET /openapi.json`.
#[must_use]
pub fn document() -> Response {
    Response::with_type(200, "application/json", Body::Static(DOCUMENT.as_bytes()))
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
        let written: Value = serde_json::from_slice(WRITTEN).unwrap();
        let expected = format!("{written}\n");
        assert_eq!(&*document().body, expected.as_bytes());
    }

    #[test]
    fn white_space_in_strings_stays() {
        let json = br#" { "a b" : "\\" , "c" : "\" d" , "e" : [ 1 , 2 ] }"#;
        let (kept, length) = compact::<64>(json);
        let expected = br#"{"a b":"\\","c":"\" d","e":[1,2]}"#;
        assert_eq!(kept[..length], expected[..]);
    }
}
