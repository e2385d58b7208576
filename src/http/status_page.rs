//! The status page: `GET /`, for people who want to see and try what the service does.
//!
//! Pure. The page is one file, `status_page.html`: markup, style and script, written by hand and served as it
//! is. It is packed in the program, and unpacked at the first request. It uses the routes that all callers use and contains no secret, so it needs no token to load. Its policy
//! allows this style and this script, by their hashes, and requests to this service, and nothing else.

use super::conditional::Condition;
use super::message::{Body, Response};
use super::packed::{pack, unpack};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// Maximum size of the page, in bytes.
pub const PAGE_BYTES_MAX: usize = 40 * 1024;

const WRITTEN: &str = include_str!("status_page.html");

const _: () = assert!(WRITTEN.len() <= PAGE_BYTES_MAX, "the page is too large");

// It takes the compiler a moment.
#[allow(long_running_const_eval)]
const PACKING: ([u8; WRITTEN.len()], usize) = pack(WRITTEN.as_bytes());

static PACKED: [u8; PACKING.1] = *PACKING.0.first_chunk().expect("it is the length of that");

static PAGE: LazyLock<String> = LazyLock::new(|| {
    String::from_utf8(unpack(&PACKED)).expect("a file of ours, which the tests read")
});

static ETAG: LazyLock<String> = LazyLock::new(|| format!("\"{}\"", hash(&PAGE)));

/// What the page may do (Content Security Policy). No text may become markup (`trusted-types`).
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let [style, script] = ["style", "script"].map(|tag| hash(content_of(tag)));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; script-src 'sha256-{script}'; \
         img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
});

/// The response to `GET /`; 304 if the caller has the page.
#[must_use]
pub fn page(condition: &Condition) -> Response {
    let response = if condition.is_met_by(&ETAG) {
        Response::empty(304)
    } else {
        let page = Body::Static(PAGE.as_bytes());
        Response::with_type(200, "text/html; charset=utf-8", page)
    };
    response
        .header("etag", ETAG.clone())
        .header("cache-control", "no-cache")
        .header("content-security-policy", POLICY.clone())
        .header("referrer-policy", "no-referrer")
        .header("x-content-type-options", "nosniff")
        .header("cross-origin-opener-policy", "same-origin")
}

/// What stands between the tags of the only element of this kind.
fn content_of(tag: &str) -> &'static str {
    let begin = PAGE.split_once(&format!("<{tag}>"));
    let rest = begin.map_or("", |(_, rest)| rest);
    let end = rest.split_once(&format!("</{tag}>"));
    end.map_or("", |(content, _)| content)
}

fn hash(text: &str) -> String {
    STANDARD.encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::Headers;

    fn header<'a>(response: &'a Response, name: &str) -> &'a str {
        let mut headers = response.headers.iter();
        let found = headers.find(|(known, _)| &**known == name);
        found.map_or("", |(_, value)| value)
    }

    #[test]
    fn it_is_one_file_that_loads_nothing() {
        for tag in ["<style>", "<script>", "</style>", "</script>"] {
            assert_eq!(WRITTEN.matches(tag).count(), 1, "{tag}");
        }
        let picture = "http://www.w3.org/2000/svg";
        let loads = [
            "src=",
            "@import",
            " url(",
            ":url(",
            " style=",
            "onclick=\"",
            "://",
        ];
        let rest = WRITTEN.replace(picture, "");
        for outside in loads {
            assert!(!rest.contains(outside), "{outside}");
        }
        assert_eq!(WRITTEN.matches("<link").count(), 1, "its icon");
    }

    #[test]
    fn no_text_becomes_markup() {
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacent",
            "document.write",
            "eval(",
        ] {
            assert!(!WRITTEN.contains(sink), "{sink}");
        }
    }

    #[test]
    fn its_policy_allows_its_own_style_and_script_only() {
        let response = page(&Condition::default());
        let policy = header(&response, "content-security-policy");
        // As a browser does: from the bytes that are sent.
        let sent = str::from_utf8(&response.body).unwrap();
        for tag in ["style", "script"] {
            let (_, rest) = sent.split_once(&format!("<{tag}>")).unwrap();
            let (content, _) = rest.split_once(&format!("</{tag}>")).unwrap();
            assert!(content.len() > 1000, "{tag}");
            let source = format!("{tag}-src 'sha256-{}';", hash(content));
            assert!(policy.contains(&source), "{policy}");
        }
        assert!(policy.starts_with("default-src 'none';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
    }

    #[test]
    fn a_browser_that_has_it_gets_no_second_copy() {
        let first = page(&Condition::default());
        assert_eq!((first.status, &*first.body), (200, WRITTEN.as_bytes()));
        assert_eq!(header(&first, "x-content-type-options"), "nosniff");
        let mut headers = Headers::default();
        headers.push("If-None-Match", header(&first, "etag").as_bytes());
        let second = page(&Condition::of(&headers));
        assert_eq!((second.status, second.body.len()), (304, 0));
        assert_eq!(header(&second, "cache-control"), "no-cache");
    }
}
