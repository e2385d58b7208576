//! The origin check: refuses requests that pages of other sites make browsers send. Pure.
//!
//! A page of another site can make a browser send requests from inside our network, and here a GET
//! starts instances. Browsers mark such requests with `Sec-Fetch-Site` (W3C Fetch Metadata Request
//! Headers §2.4). A page cannot set this field, and other programs do not send it. They send it to
//! `https` and localhost only, so over plain HTTP this refuses no request. A page that points its
//! own name at this service (DNS rebinding) is `same-origin`; [`super::hosts`] refuses its requests.
//! What a page can do is in `manifests/README.md` (Security).

use super::message::Headers;
use super::problem::Problem;

/// Whether a request to an endpoint may change something (RFC 9110 §9.2.1 calls the others safe;
/// here a GET may change something too).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It only reads.
    Safe,
    /// It may start, label or stop an instance.
    Mutating,
}

/// Why this request is refused for where it comes from: it would change something, and a page
/// of another site has made it.
#[must_use]
pub fn refusal(effect: Effect, headers: &Headers) -> Option<Problem> {
    (effect == Effect::Mutating && is_cross_site(headers)).then(|| Problem {
        status: 403,
        code: "forbidden",
        message: "a page of another site must not start, label or stop instances".into(),
        retry_after_secs: None,
    })
}

fn is_cross_site(headers: &Headers) -> bool {
    headers
        .get_all("sec-fetch-site")
        .any(|site| site.trim_ascii().eq_ignore_ascii_case(b"cross-site"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(effect: Effect, sites: &[&str], refused: bool) {
        let mut headers = Headers::default();
        for site in sites {
            headers.push("Sec-Fetch-Site", site.as_bytes());
        }
        let refusal = refusal(effect, &headers);
        assert_eq!(refusal.is_some(), refused, "{effect:?} {sites:?}");
        assert!(refusal.is_none_or(|problem| (problem.status, problem.code) == (403, "forbidden")));
    }

    #[test]
    fn cross_site_requests_with_side_effects_are_refused() {
        check(Effect::Mutating, &["cross-site"], true);
        check(Effect::Safe, &["cross-site"], false);
    }

    #[test]
    fn same_site_and_non_browser_requests_are_served() {
        for site in ["same-origin", "same-site", "none", "nonsense"] {
            check(Effect::Mutating, &[site], false);
        }
        check(Effect::Mutating, &[], false);
    }

    #[test]
    fn any_of_several_values_in_any_case_counts() {
        check(Effect::Mutating, &["same-origin", " Cross-Site "], true);
    }
}
