//! Whose page a request came from, as browsers say it. Pure.
//!
//! A browser that has been shown a page of another site can be made to send requests from
//! inside our network, and here a GET starts things. Browsers name such requests in
//! `Sec-Fetch-Site` (W3C Fetch Metadata Request Headers §2.4), which a page cannot set;
//! other programs do not send it. They do so towards `https` and localhost only, so over plain
//! HTTP this refuses nobody; what is left to a page then stands in the README (Security).

use super::message::Headers;
use super::problem::Problem;
use super::router::Route;

/// Why this request is refused for where it comes from: it would change something, and a page
/// of another site has made it.
#[must_use]
pub fn refusal(route: &Route, headers: &Headers) -> Option<Problem> {
    (changes(route) && is_cross_site(headers)).then(|| Problem {
        status: 403,
        code: "forbidden",
        message: "a page of another site must not start, label or stop instances".into(),
        retry_after_secs: None,
    })
}

/// Whether a request for this route may change something.
const fn changes(route: &Route) -> bool {
    match route {
        Route::Ensure(_)
        | Route::Label(_)
        | Route::Stop(_)
        | Route::LegacyCreate(_)
        | Route::LegacyRelease(_) => true,
        Route::Types
        | Route::Instances(_)
        | Route::LegacyInstances(_)
        | Route::Info
        | Route::Livez
        | Route::Readyz
        | Route::Metrics
        | Route::OpenApi
        | Route::Docs => false,
    }
}

fn is_cross_site(headers: &Headers) -> bool {
    headers
        .get_all("sec-fetch-site")
        .any(|site| site.trim_ascii().eq_ignore_ascii_case(b"cross-site"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::Method;
    use crate::http::router::{Routed, route};

    #[track_caller]
    fn check(method: Method, path: &str, sites: &[&str], refused: bool) {
        let Routed::To(route) = route(&method, path) else {
            panic!("{path} is no route");
        };
        let mut headers = Headers::default();
        for site in sites {
            headers.push("Sec-Fetch-Site", site.as_bytes());
        }
        let refusal = refusal(&route, &headers);
        assert_eq!(refusal.is_some(), refused, "{path} {sites:?}");
        assert!(refusal.is_none_or(|problem| (problem.status, problem.code) == (403, "forbidden")));
    }

    #[test]
    fn what_changes_something_is_refused_to_pages_of_other_sites() {
        for method in [Method::Get, Method::Patch, Method::Delete] {
            check(method, "/app/hello/ann", &["cross-site"], true);
        }
        for path in ["/create/hello", "/release/ann"] {
            check(Method::Get, path, &["cross-site"], true);
        }
    }

    #[test]
    fn others_are_served() {
        for site in ["same-origin", "same-site", "none", "nonsense"] {
            check(Method::Get, "/app/hello/ann", &[site], false);
        }
        check(Method::Get, "/app/hello/ann", &[], false);
    }

    #[test]
    fn one_of_several_and_any_case_count() {
        let sites = ["same-origin", " Cross-Site "];
        check(Method::Delete, "/app/hello/ann", &sites, true);
    }

    #[test]
    fn reading_is_open_to_all() {
        for path in [
            "/app",
            "/app/hello",
            "/api/hello",
            "/info",
            "/livez",
            "/readyz",
        ] {
            check(Method::Get, path, &["cross-site"], false);
        }
    }
}
