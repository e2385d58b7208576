//! From a method and a path to the row of [`ENDPOINTS`] that serves them.
//!
//! Pure. Paths are decoded here and nowhere else. Which endpoints exist is decided in
//! [`super::endpoints`]; whether what a path names exists is not known here.

use super::endpoints::{ENDPOINTS, Endpoint, SEGMENTS_MAX, Target};
use super::message::Method;
use crate::model::names::NameError;
use std::borrow::Cow;

/// The destination of a request line.
#[derive(Clone, Debug)]
pub enum Routed {
    /// An endpoint, and what the path names.
    To(&'static Endpoint, Target),
    /// An endpoint, but the path names no possible instance.
    BadName(&'static Endpoint, NameError),
    /// The same path without the slashes at its end, as it was sent.
    Redirect(String),
    /// No such path.
    NotFound,
    /// The path exists, but not with this method; an endpoint of this path.
    MethodNotAllowed(&'static Endpoint),
}

impl Routed {
    /// The endpoint, where method and path name one.
    #[must_use]
    pub const fn endpoint(&self) -> Option<&'static Endpoint> {
        match self {
            Self::To(endpoint, _) | Self::BadName(endpoint, _) => Some(endpoint),
            Self::Redirect(_) | Self::NotFound | Self::MethodNotAllowed(_) => None,
        }
    }

    /// The type that the caller must be allowed to use.
    #[must_use]
    pub fn app_type(&self) -> Option<&str> {
        match self {
            Self::To(_, target) => target.app_type(),
            _ => None,
        }
    }
}

/// Finds the endpoint of a request.
#[must_use]
pub fn route(method: &Method, path: &str) -> Routed {
    let Some(sent) = path.strip_prefix('/') else {
        return Routed::NotFound;
    };
    let kept = without_slashes_at_end(sent);
    let mut decoded = [const { Cow::Borrowed("") }; SEGMENTS_MAX];
    let Some(segments) = decode_segments(kept, &mut decoded) else {
        return Routed::NotFound;
    };
    let Some(first) = ENDPOINTS.iter().position(|one| one.has_path(segments)) else {
        return Routed::NotFound;
    };
    if kept.len() < sent.len() {
        // `//` is no way to write `/` (contract B2).
        if kept.is_empty() {
            return Routed::NotFound;
        }
        return Routed::Redirect(path[..=kept.len()].to_owned());
    }
    // An encoded slash is part of a segment, and no segment may contain one.
    let has_slash =
        |segment: &Cow<'_, str>| matches!(segment, Cow::Owned(text) if text.contains('/'));
    if segments.iter().any(has_slash) {
        return Routed::NotFound;
    }
    let of_path = |one: &&Endpoint| one.label == ENDPOINTS[first].label;
    let mut of_path = ENDPOINTS[first..].iter().take_while(of_path);
    let Some(endpoint) = of_path.find(|one| one.methods.contains(method)) else {
        return Routed::MethodNotAllowed(&ENDPOINTS[first]);
    };
    match endpoint.target(segments) {
        Ok(target) => Routed::To(endpoint, target),
        Err(error) => Routed::BadName(endpoint, error),
    }
}

/// The path up to its last segment that is more than slashes (contract B2).
fn without_slashes_at_end(path: &str) -> &str {
    let mut kept = path;
    while let Some((before, last)) = kept.rsplit_once('/')
        && is_slashes(last)
    {
        kept = before;
    }
    kept
}

/// Whether a segment is empty, or nothing but encoded slashes.
fn is_slashes(segment: &str) -> bool {
    let may_be = segment.bytes().next().is_none_or(|first| first == b'%');
    may_be && decode(segment).bytes().all(|byte| byte == b'/')
}

/// The segments of a path; `None` where there are more than any endpoint has.
fn decode_segments<'a, 'b>(
    path: &'a str,
    into: &'b mut [Cow<'a, str>; SEGMENTS_MAX],
) -> Option<&'b [Cow<'a, str>]> {
    let mut count = 0;
    for segment in path.split('/') {
        *into.get_mut(count)? = decode(segment);
        count += 1;
    }
    Some(&into[..count])
}

/// Percent-decoding (RFC 3986 §2.1); what is no valid escape stays as it is, and bytes that
/// are no UTF-8 become U+FFFD, as in 2.7.1.
fn decode(segment: &str) -> Cow<'_, str> {
    if !segment.bytes().any(|byte| byte == b'%') {
        return Cow::Borrowed(segment);
    }
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::endpoints::{label, labels};
    use crate::metrics::OTHER;
    use crate::model::names::InstanceKey;

    fn instance(app_type: &str, name: &str) -> Target {
        Target::Instance(InstanceKey::new(app_type, name).unwrap())
    }

    #[track_caller]
    fn check(method: Method, path: &str, expected_path: &str, expected: &Target) {
        let Routed::To(endpoint, target) = route(&method, path) else {
            panic!("{path} leads nowhere");
        };
        assert!(endpoint.methods.contains(&method), "{path}");
        assert_eq!((endpoint.path, &target), (expected_path, expected));
    }

    #[test]
    fn paths_and_methods() {
        let scim = Target::Type("scim".into());
        check(Method::Get, "/app", "/app", &Target::None);
        check(Method::Head, "/app", "/app", &Target::None);
        check(Method::Get, "/app/scim", "/app/{type}", &scim);
        for method in [Method::Get, Method::Patch, Method::Delete] {
            let n1 = instance("scim", "n1");
            check(method, "/app/scim/n1", "/app/{type}/{name}", &n1);
        }
        check(Method::Head, "/api/scim", "/api/{type}", &scim);
        check(Method::Get, "/create/sc%69m", "/create/{type}", &scim);
        let name = Target::Name("n1".into());
        check(Method::Get, "/release/n1", "/release/{name}", &name);
        for path in ["/", "/info", "/livez", "/readyz"] {
            check(Method::Get, path, path, &Target::None);
        }
    }

    #[test]
    fn metrics_name_a_request_by_its_path() {
        let check = |method, path, expected| {
            let endpoint = route(&method, path).endpoint();
            assert_eq!(labels()[label(endpoint)], expected, "{path}");
        };
        check(Method::Head, "/metrics", "/metrics");
        check(Method::Get, "/app/a/b", "/app/{type}/{name}");
        check(Method::Get, "/app/a/..", "/app/{type}/{name}");
        check(Method::Post, "/app/a/b", OTHER);
        check(Method::Get, "/nope", OTHER);
    }

    #[track_caller]
    fn check_unknown(path: &str) {
        let routed = route(&Method::Get, path);
        assert!(matches!(routed, Routed::NotFound), "{path}: {routed:?}");
    }

    #[test]
    fn unknown_paths() {
        for path in [
            "/favicon.ico",
            "//app",
            "/App",
            "/app/a/b/c",
            "/app/a/b/c/d/e",
            "*",
            "/app/a//b",
            "//",
            "/%2F",
            "/infos/",
            "/api",
            "/create",
            "/release",
            "/release/",
            "/create/a/b",
            "/nope/",
            "/app/a/b%2Fc",
            "/app%2Fa",
        ] {
            check_unknown(path);
        }
    }

    #[test]
    fn known_paths_name_their_methods() {
        for (method, path, allow) in [
            (Method::Post, "/app", "GET, HEAD"),
            (Method::Head, "/app/a/b", "DELETE, GET, PATCH, PUT"),
            (Method::Head, "/create/a", "GET"),
            (Method::Delete, "/release/a", "GET"),
            (Method::Options, "/app/a/b", "DELETE, GET, PATCH, PUT"),
        ] {
            let Routed::MethodNotAllowed(endpoint) = route(&method, path) else {
                panic!("{method:?} {path} is allowed");
            };
            assert_eq!(endpoint.allow(), allow);
        }
    }

    #[test]
    fn trailing_slashes_redirect_for_every_method() {
        for (method, path, target) in [
            (Method::Get, "/app/", "/app"),
            (Method::Get, "/app//", "/app"),
            (Method::Get, "/app/%2F", "/app"),
            (Method::Delete, "/app/a%20b/c/", "/app/a%20b/c"),
            (Method::Post, "/app/a/b//////", "/app/a/b"),
        ] {
            let routed = route(&method, path);
            assert!(
                matches!(&routed, Routed::Redirect(to) if to == target),
                "{path}: {routed:?}"
            );
        }
    }

    #[test]
    fn segments_are_decoded() {
        let path = "/app/{type}/{name}";
        check(
            Method::Get,
            "/app/sc%69m/%C3%A4%20b",
            path,
            &instance("scim", "ä b"),
        );
        check(Method::Delete, "/app/a/b%zz", path, &instance("a", "b%zz"));
    }

    #[track_caller]
    fn check_bad(path: &str, expected: NameError) {
        let Routed::BadName(endpoint, error) = route(&Method::Get, path) else {
            panic!("{path} is a name");
        };
        assert_eq!((endpoint.path, error), ("/app/{type}/{name}", expected));
    }

    #[test]
    fn invalid_names_are_rejected() {
        check_bad("/app/a/..", NameError::Dots);
        check_bad("/app/a/%2e%2E", NameError::Dots);
        check_bad("/app/../a", NameError::Dots);
        check_bad("/app/a/b%00", NameError::Control('\0'));
        check_bad("/app/a/keep%3Fx", NameError::OfUrls('?'));
        check_bad("/app/a/b%zz", NameError::OfUrls('%'));
        check_bad("/app/a/b%20", NameError::Blank);
        check_bad(
            &format!("/app/a/{}", "n".repeat(300)),
            NameError::TooLong(300),
        );
    }
}
