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

/// The document as it is served: compact as all JSON of the contract, keys in the order of the file.
static COMPACT: LazyLock<String> = LazyLock::new(|| parsed().to_string());

static PAGE: LazyLock<String> = LazyLock::new(|| page::page(&parsed()));

fn parsed() -> Value {
    serde_json::from_str(DOCUMENT).expect("a file of ours, which the tests read")
}

/// The response to `GET /openapi.json`.
#[must_use]
pub fn document() -> Response {
    Response::with_type(200, "application/json", Body::Static(COMPACT.as_bytes()))
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
        assert_eq!(&*document().body, written.to_string().as_bytes());
    }
}
