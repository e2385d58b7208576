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

/// As the contract has all JSON: compact, keys in the order of the file.
static COMPACT: LazyLock<Arc<[u8]>> = LazyLock::new(|| parsed().to_string().into_bytes().into());

static PAGE: LazyLock<Arc<[u8]>> = LazyLock::new(|| page::page(&parsed()).into_bytes().into());

fn parsed() -> Value {
    serde_json::from_str(DOCUMENT).expect("a file of ours, which the tests read")
}

/// The answer to `GET /openapi.json`.
#[must_use]
pub fn document() -> Response {
    Response::json_shared(200, Arc::clone(&COMPACT))
}

/// The answer to `GET /docs`.
#[must_use]
pub fn docs() -> Response {
    let page = Body::Shared(Arc::clone(&PAGE));
    Response::with_type(200, "text/html; charset=utf-8", page)
        .header("content-security-policy", PAGE_POLICY)
}
