//! Which route a method and a path mean: one visible table.
//!
//! Pure. Paths are decoded here and nowhere else; whether what a path names exists
//! is not known here. Adding an endpoint touches [`Route`], [`ROUTES`] and
//! the matches below, and the compiler names the handler that is missing.

use super::message::Method;
use crate::metrics::OTHER;
use crate::model::names::{InstanceKey, NameError};
use std::borrow::Cow;

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// `GET /app`
    Types,
    /// `GET /app/{type}`
    Instances(String),
    /// `GET /app/{type}/{name}`
    Ensure(InstanceKey),
    /// `PATCH /app/{type}/{name}`
    Label(InstanceKey),
    /// `DELETE /app/{type}/{name}`
    Stop(InstanceKey),
    /// `GET /api/{type}`, an older name of [`Route::Instances`]
    LegacyInstances(String),
    /// `GET /create/{type}?sessionID=…`; the name of the instance stands in the query
    LegacyCreate(String),
    /// `GET /release/{name}`: whichever instance has this name or session
    LegacyRelease(String),
    /// `GET /info`
    Info,
    /// `GET /livez`
    Livez,
    /// `GET /readyz`
    Readyz,
    /// `GET /metrics`
    Metrics,
    /// `GET /openapi.json`
    OpenApi,
    /// `GET /docs`
    Docs,
}

/// What a request line leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routed {
    /// A route.
    To(Route),
    /// The path is known, its last part is no name; says which kind of route it was.
    BadName(NameError, Resource),
    /// The same path without the slashes at its end, as it was sent.
    Redirect(String),
    /// No such path.
    NotFound,
    /// The path is known, the method is not; these are.
    MethodNotAllowed(&'static str),
}

impl Routed {
    /// The place of the route in [`route_labels`].
    #[must_use]
    pub fn place(&self) -> usize {
        let resource = match self {
            Self::To(route) => route.resource(),
            Self::BadName(_, resource) => *resource,
            Self::Redirect(_) | Self::NotFound | Self::MethodNotAllowed(_) => return ROUTES.len(),
        };
        resource as usize
    }
}

impl Route {
    /// Its path.
    #[must_use]
    pub fn resource(&self) -> Resource {
        match self {
            Self::Types => Resource::Types,
            Self::Instances(_) => Resource::Instances,
            Self::Ensure(_) | Self::Label(_) | Self::Stop(_) => Resource::Instance,
            Self::LegacyInstances(_) => Resource::LegacyInstances,
            Self::LegacyCreate(_) => Resource::LegacyCreate,
            Self::LegacyRelease(_) => Resource::LegacyRelease,
            Self::Info => Resource::Info,
            Self::Livez => Resource::Livez,
            Self::Readyz => Resource::Readyz,
            Self::Metrics => Resource::Metrics,
            Self::OpenApi => Resource::OpenApi,
            Self::Docs => Resource::Docs,
        }
    }
}

/// A path, whatever the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `/app`
    Types,
    /// `/app/{type}`
    Instances,
    /// `/app/{type}/{name}`
    Instance,
    /// `/api/{type}`
    LegacyInstances,
    /// `/create/{type}`
    LegacyCreate,
    /// `/release/{name}`
    LegacyRelease,
    /// `/info`
    Info,
    /// `/livez`
    Livez,
    /// `/readyz`
    Readyz,
    /// `/metrics`
    Metrics,
    /// `/openapi.json`
    OpenApi,
    /// `/docs`
    Docs,
}

/// Every path with the methods that it takes, as `Allow` lists them (RFC 9110 §10.2.1).
/// HEAD is taken where GET has no effect: a GET of an instance starts it, and the older
/// routes start and stop by GET.
pub const ROUTES: &[(Resource, &str, &str)] = &[
    (Resource::Types, "/app", "GET, HEAD"),
    (Resource::Instances, "/app/{type}", "GET, HEAD"),
    (
        Resource::Instance,
        "/app/{type}/{name}",
        "DELETE, GET, PATCH",
    ),
    (Resource::LegacyInstances, "/api/{type}", "GET, HEAD"),
    (Resource::LegacyCreate, "/create/{type}", "GET"),
    (Resource::LegacyRelease, "/release/{name}", "GET"),
    (Resource::Info, "/info", "GET, HEAD"),
    (Resource::Livez, "/livez", "GET, HEAD"),
    (Resource::Readyz, "/readyz", "GET, HEAD"),
    (Resource::Metrics, "/metrics", "GET, HEAD"),
    (Resource::OpenApi, "/openapi.json", "GET, HEAD"),
    (Resource::Docs, "/docs", "GET, HEAD"),
];

/// The paths as metrics name them, each in the place of its [`Resource`]; the last stands
/// for what leads to none of them.
#[must_use]
pub fn route_labels() -> Vec<&'static str> {
    let paths = ROUTES.iter().map(|(_, path, _)| *path);
    paths.chain([OTHER]).collect()
}

/// Finds the route of a request.
#[must_use]
pub fn route(method: &Method, path: &str) -> Routed {
    let Some(rest) = path.strip_prefix('/') else {
        return Routed::NotFound;
    };
    let segments: Vec<Cow<'_, str>> = rest.split('/').map(decode).collect();
    let significant = segments
        .iter()
        .rposition(|segment| !segment.bytes().all(|byte| byte == b'/'));
    let kept = significant.map_or(0, |last| last + 1);
    if kept < segments.len() {
        return redirect(path, rest, &segments, kept);
    }
    // A slash that was encoded is part of a segment, and no segment of ours has one.
    if segments
        .iter()
        .any(|segment| segment.bytes().any(|byte| byte == b'/'))
    {
        return Routed::NotFound;
    }
    match resource(&segments) {
        Some(resource) => of_resource(resource, method, &segments),
        None => Routed::NotFound,
    }
}

fn resource(segments: &[Cow<'_, str>]) -> Option<Resource> {
    let (first, rest) = segments.split_first()?;
    if rest.iter().any(|segment| segment.is_empty()) {
        return None;
    }
    match (first.as_ref(), rest.len()) {
        ("app", 0) => Some(Resource::Types),
        ("app", 1) => Some(Resource::Instances),
        ("app", 2) => Some(Resource::Instance),
        ("api", 1) => Some(Resource::LegacyInstances),
        ("create", 1) => Some(Resource::LegacyCreate),
        ("release", 1) => Some(Resource::LegacyRelease),
        ("info", 0) => Some(Resource::Info),
        ("livez", 0) => Some(Resource::Livez),
        ("readyz", 0) => Some(Resource::Readyz),
        ("metrics", 0) => Some(Resource::Metrics),
        ("openapi.json", 0) => Some(Resource::OpenApi),
        ("docs", 0) => Some(Resource::Docs),
        _ => None,
    }
}

/// A known path with slashes at its end leads to the same without (contract B2).
fn redirect(path: &str, rest: &str, segments: &[Cow<'_, str>], kept: usize) -> Routed {
    if kept == 0 || resource(&segments[..kept]).is_none() {
        return Routed::NotFound;
    }
    let length = rest.split('/').take(kept).map(str::len).sum::<usize>() + kept;
    Routed::Redirect(path[..length].to_owned())
}

fn of_resource(resource: Resource, method: &Method, segments: &[Cow<'_, str>]) -> Routed {
    let read = matches!(method, Method::Get | Method::Head);
    let last = |route: fn(String) -> Route| Routed::To(route(segments[1].to_string()));
    match (resource, method) {
        (Resource::Types, _) if read => Routed::To(Route::Types),
        (Resource::Instances, _) if read => last(Route::Instances),
        (Resource::LegacyInstances, _) if read => last(Route::LegacyInstances),
        (Resource::LegacyCreate, Method::Get) => last(Route::LegacyCreate),
        (Resource::LegacyRelease, Method::Get) => last(Route::LegacyRelease),
        (Resource::Instance, Method::Get) => instance(segments, Route::Ensure),
        (Resource::Instance, Method::Patch) => instance(segments, Route::Label),
        (Resource::Instance, Method::Delete) => instance(segments, Route::Stop),
        (Resource::Info, _) if read => Routed::To(Route::Info),
        (Resource::Livez, _) if read => Routed::To(Route::Livez),
        (Resource::Readyz, _) if read => Routed::To(Route::Readyz),
        (Resource::Metrics, _) if read => Routed::To(Route::Metrics),
        (Resource::OpenApi, _) if read => Routed::To(Route::OpenApi),
        (Resource::Docs, _) if read => Routed::To(Route::Docs),
        _ => {
            let row = ROUTES.iter().find(|(known, _, _)| *known == resource);
            let (_, _, allow) = row.expect("every resource has a row in the table");
            Routed::MethodNotAllowed(allow)
        }
    }
}

fn instance(segments: &[Cow<'_, str>], route: fn(InstanceKey) -> Route) -> Routed {
    match InstanceKey::new(&segments[1], &segments[2]) {
        Ok(key) => Routed::To(route(key)),
        Err(error) => Routed::BadName(error, Resource::Instance),
    }
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

    fn key(app_type: &str, name: &str) -> InstanceKey {
        InstanceKey::new(app_type, name).unwrap()
    }

    #[track_caller]
    fn check(method: Method, path: &str, expected: Routed) {
        assert_eq!(route(&method, path), expected, "{path}");
    }

    #[test]
    fn paths_and_methods() {
        check(Method::Get, "/app", Routed::To(Route::Types));
        check(Method::Head, "/app", Routed::To(Route::Types));
        check(
            Method::Get,
            "/app/scim",
            Routed::To(Route::Instances("scim".into())),
        );
        check(
            Method::Get,
            "/app/scim/n1",
            Routed::To(Route::Ensure(key("scim", "n1"))),
        );
        check(
            Method::Patch,
            "/app/scim/n1",
            Routed::To(Route::Label(key("scim", "n1"))),
        );
        check(
            Method::Delete,
            "/app/scim/n1",
            Routed::To(Route::Stop(key("scim", "n1"))),
        );
        check(
            Method::Head,
            "/api/scim",
            Routed::To(Route::LegacyInstances("scim".into())),
        );
        check(
            Method::Get,
            "/create/sc%69m",
            Routed::To(Route::LegacyCreate("scim".into())),
        );
        check(
            Method::Get,
            "/release/n1",
            Routed::To(Route::LegacyRelease("n1".into())),
        );
        check(Method::Get, "/info", Routed::To(Route::Info));
        check(Method::Get, "/livez", Routed::To(Route::Livez));
        check(Method::Get, "/readyz", Routed::To(Route::Readyz));
    }

    #[test]
    fn metrics_name_a_request_by_its_path() {
        for (place, (resource, _, _)) in ROUTES.iter().enumerate() {
            assert_eq!(*resource as usize, place);
        }
        let label = |method, path| route_labels()[route(&method, path).place()];
        assert_eq!(label(Method::Head, "/metrics"), "/metrics");
        assert_eq!(label(Method::Get, "/app/a/b"), "/app/{type}/{name}");
        assert_eq!(label(Method::Get, "/app/a/.."), "/app/{type}/{name}");
        assert_eq!(label(Method::Post, "/app/a/b"), OTHER);
        assert_eq!(label(Method::Get, "/nope"), OTHER);
    }

    #[test]
    fn unknown_paths() {
        for path in [
            "/",
            "/favicon.ico",
            "//app",
            "/App",
            "/app/a/b/c",
            "*",
            "/app/a//b",
            "//",
            "/infos/",
            "/api",
            "/create",
            "/release",
            "/release/",
            "/create/a/b",
        ] {
            check(Method::Get, path, Routed::NotFound);
        }
    }

    #[test]
    fn known_paths_name_their_methods() {
        check(Method::Post, "/app", Routed::MethodNotAllowed("GET, HEAD"));
        check(
            Method::Head,
            "/app/a/b",
            Routed::MethodNotAllowed("DELETE, GET, PATCH"),
        );
        check(Method::Head, "/create/a", Routed::MethodNotAllowed("GET"));
        check(
            Method::Delete,
            "/release/a",
            Routed::MethodNotAllowed("GET"),
        );
        check(
            Method::Options,
            "/app/a/b",
            Routed::MethodNotAllowed("DELETE, GET, PATCH"),
        );
    }

    #[test]
    fn slashes_at_the_end_redirect_whatever_the_method() {
        check(Method::Get, "/app/", Routed::Redirect("/app".into()));
        check(Method::Get, "/app//", Routed::Redirect("/app".into()));
        check(Method::Get, "/app/%2F", Routed::Redirect("/app".into()));
        check(
            Method::Delete,
            "/app/a%20b/c/",
            Routed::Redirect("/app/a%20b/c".into()),
        );
        check(Method::Get, "/nope/", Routed::NotFound);
    }

    #[test]
    fn segments_are_decoded() {
        check(
            Method::Get,
            "/app/sc%69m/%C3%A4%20b",
            Routed::To(Route::Ensure(key("scim", "ä b"))),
        );
        check(
            Method::Get,
            "/app/a/b%zz",
            Routed::To(Route::Ensure(key("a", "b%zz"))),
        );
        check(Method::Get, "/app/a/b%2Fc", Routed::NotFound);
        check(Method::Get, "/app%2Fa", Routed::NotFound);
    }

    #[track_caller]
    fn check_bad(path: &str, expected: NameError) {
        check(
            Method::Get,
            path,
            Routed::BadName(expected, Resource::Instance),
        );
    }

    #[test]
    fn what_is_no_name() {
        check_bad("/app/a/..", NameError::Dots);
        check_bad("/app/a/%2e%2E", NameError::Dots);
        check_bad("/app/../a", NameError::Dots);
        check_bad("/app/a/b%00", NameError::Control('\0'));
        check_bad(
            &format!("/app/a/{}", "n".repeat(300)),
            NameError::TooLong(300),
        );
    }
}
