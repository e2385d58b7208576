//! Every endpoint in one table: [`ENDPOINTS`].
//!
//! A row holds all that the front knows of an endpoint before it calls its handler. Router,
//! authentication, origin check, traces, metric labels and the tests of the OpenAPI document read
//! that row, so no other file lists endpoints. A new endpoint is a row here, a handler in
//! [`super::handlers`] and an entry in `openapi.json`. What a handler does is not decided here.

use super::auth::Access::{self, Authenticated, Logs, Open, Unbound};
use super::conditional;
use super::handlers::{Api, Call, NO_INSTANCE_TO_RELEASE, NO_INSTANCE_TO_STOP, Outcome};
use super::message::Method;
use super::origin::Effect::{self, Mutating, Safe};
use super::problem::Shape::{self, Detail, Plain};
use crate::app::Error;
use crate::metrics::OTHER;
use crate::model::names::{InstanceKey, NameError};
use Serve::{Fixed, Instance, Name, Type};
use Tracing::{Traced, Untraced};
use std::borrow::Cow;

/// HEAD is served where GET has no effect: a GET of an instance starts it, and the older routes
/// start and stop by GET.
const READ: &[Method] = &[Method::Get, Method::Head];
const GET: &[Method] = &[Method::Get];
const PUT: &[Method] = &[Method::Put];
const PATCH: &[Method] = &[Method::Patch];
const DELETE: &[Method] = &[Method::Delete];

/// All endpoints; rows of one path stand together.
#[rustfmt::skip]
pub static ENDPOINTS: [Endpoint; 21] = numbered([
    //  methods path                  access         effect    traces    shape of errors                 handler, by what the path names
    row(READ,   "/app",               Authenticated, Safe,     Traced,   Plain,                          Fixed(Api::types)),
    row(READ,   "/app/{type}",        Authenticated, Safe,     Traced,   Plain,                          Type(Api::instances)),
    row(GET,    "/app/{type}/{name}", Authenticated, Mutating, Traced,   Plain,                          Instance(Api::ensure)),
    row(PATCH,  "/app/{type}/{name}", Authenticated, Mutating, Traced,   Detail("error"),                Instance(Api::label)),
    row(DELETE, "/app/{type}/{name}", Authenticated, Mutating, Traced,   Detail(NO_INSTANCE_TO_STOP),    Instance(Api::stop)),
    row(PUT,    "/app/{type}/{name}", Authenticated, Mutating, Traced,   Plain,                          Instance(Api::replace)).own(),
    row(PUT,    "/app/{type}/{name}/heartbeat", Authenticated, Mutating, Traced, Detail("error"),            Instance(Api::heartbeat)).own(),
    row(READ,   "/app/{type}/{name}/logs", Logs,     Safe,     Traced,   Plain,                          Instance(Api::logs)).own(),
    row(READ,   "/api/{type}",        Authenticated, Safe,     Traced,   Plain,                          Type(Api::instances)),
    row(GET,    "/create/{type}",     Authenticated, Mutating, Traced,   Plain,                          Type(Api::create)),
    row(GET,    "/release/{name}",    Authenticated, Mutating, Traced,   Detail(NO_INSTANCE_TO_RELEASE), Name(Api::release)),
    row(READ,   "/instances",         Authenticated, Safe,     Traced,   Plain,                          Fixed(Api::all_instances)).own(),
    row(DELETE, "/instances",         Authenticated, Mutating, Traced,   Detail("error"),                Fixed(Api::stop_many)).own(),
    row(READ,   "/templates",         Authenticated, Safe,     Traced,   Plain,                          Fixed(Api::templates)).own(),
    row(READ,   "/info",              Authenticated, Safe,     Traced,   Plain,                          Fixed(Api::info)),
    row(READ,   "/livez",             Open,          Safe,     Untraced, Plain,                          Fixed(Api::livez)).own(),
    row(READ,   "/readyz",            Open,          Safe,     Untraced, Plain,                          Fixed(Api::readyz)).own(),
    row(READ,   "/metrics",           Unbound,       Safe,     Untraced, Plain,                          Fixed(Api::metrics)).own(),
    row(READ,   "/",                  Open,          Safe,     Traced,   Plain,                          Fixed(Api::status_page)).own(),
    row(READ,   "/openapi.json",      Open,          Safe,     Traced,   Plain,                          Fixed(Api::openapi)).own(),
    row(READ,   "/docs",              Open,          Safe,     Traced,   Plain,                          Fixed(Api::docs)).own(),
]);

/// Segments of the longest path; a longer one does not compile.
pub(super) const SEGMENTS_MAX: usize = 4;

/// One row of [`ENDPOINTS`].
#[derive(Clone, Copy, Debug)]
pub struct Endpoint {
    /// The methods that the handler serves.
    pub methods: &'static [Method],
    /// The path, with `{type}` and `{name}` for what differs; also the `route` of metrics and spans.
    pub path: &'static str,
    /// Whether a caller needs a token.
    pub access: Access,
    /// Whether a request may change something.
    pub effect: Effect,
    /// Whether a request has a span.
    pub tracing: Tracing,
    /// The body of an error.
    pub errors: Shape,
    /// Whether bodies end with a newline; those of 2.7.1 do not.
    pub(super) ends_lines: bool,
    serve: Serve,
    /// The segments of `path`, the first `segment_count` of them.
    segments: [&'static str; SEGMENTS_MAX],
    segment_count: usize,
    /// The index of `path` in [`labels`].
    pub(super) label: usize,
}

/// Whether requests of an endpoint have spans; probes and scrapes would fill the traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// They have.
    Traced,
    /// They have none.
    Untraced,
}

/// The handler of an endpoint, by what its path names. The front checks that the caller may use the
/// type in the path. Handlers of other paths skip types that the caller may not use.
#[derive(Clone, Copy, Debug)]
enum Serve {
    /// Nothing.
    Fixed(fn(&Api, &Call<'_>) -> Outcome),
    /// A type.
    Type(fn(&Api, &Call<'_>, &str) -> Outcome),
    /// An instance, by type and name.
    Instance(fn(&Api, &Call<'_>, InstanceKey) -> Outcome),
    /// An instance, by its name or session, of any type.
    Name(fn(&Api, &Call<'_>, String) -> Outcome),
}

/// What the path of a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Nothing: the path is the same for all requests.
    None,
    /// An app type, which may not exist.
    Type(String),
    /// An instance, which may not exist.
    Instance(InstanceKey),
    /// The name or session of an instance.
    Name(String),
}

impl Target {
    /// The type that the caller must be allowed to use.
    #[must_use]
    pub fn app_type(&self) -> Option<&str> {
        match self {
            Self::Type(app_type) => Some(app_type),
            Self::Instance(key) => Some(key.app_type.as_str()),
            Self::None | Self::Name(_) => None,
        }
    }
}

/// Which `Host` a request may have, where `ALLOWED_HOSTS` is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostRule {
    /// One of the list.
    Listed,
    /// One of the list, or an IP address: Prometheus scrapes a pod by its address.
    ListedOrAddress,
    /// Any: the kubelet calls a pod by its address, or by what its probe says.
    Any,
}

impl Endpoint {
    /// The same of a route that 2.7.1 did not have, or with another body.
    const fn own(self) -> Self {
        Self {
            ends_lines: true,
            ..self
        }
    }

    /// Which `Host` a request may have; probes and scrapes come from the cluster itself.
    #[must_use]
    pub const fn host_rule(&self) -> HostRule {
        match (self.access, self.tracing) {
            (Open, Untraced) => HostRule::Any,
            (Authenticated | Unbound | Logs, Untraced) => HostRule::ListedOrAddress,
            (_, Traced) => HostRule::Listed,
        }
    }

    /// Whether this is the path of these decoded segments.
    pub(super) fn has_path(&self, segments: &[Cow<'_, str>]) -> bool {
        let fits = |(own, given): (&&str, &Cow<'_, str>)| {
            if is_variable(own) {
                !given.is_empty()
            } else {
                own == given
            }
        };
        segments.len() == self.segment_count && self.segments.iter().zip(segments).all(fits)
    }

    /// What a path with these segments names.
    pub(super) fn target(&self, segments: &[Cow<'_, str>]) -> Result<Target, NameError> {
        let pairs = self.segments.iter().zip(segments);
        let mut named = pairs
            .filter(|(own, _)| is_variable(own))
            .map(|(_, given)| given.as_ref());
        let mut next = || named.next().unwrap_or_default();
        Ok(match self.serve {
            Fixed(_) => Target::None,
            Type(_) => Target::Type(next().to_owned()),
            Instance(_) => {
                let key = InstanceKey::new(next(), next())?;
                // What an older version has started can be stopped.
                if !self.methods.contains(&Method::Delete) {
                    key.name.check_in_urls()?;
                }
                Target::Instance(key)
            }
            Name(_) => Target::Name(next().to_owned()),
        })
    }

    /// The conditions of a request (RFC 9110 §13.1) that the handler heeds. Where nothing is changed, those
    /// that it does not heed do no harm.
    fn heeded_conditions(&self) -> &'static [&'static str] {
        let has = |method| self.methods.contains(&method);
        match (self.effect, self.serve) {
            (Safe, _) => &["If-Match", "If-None-Match"],
            (Mutating, Fixed(_)) => &[],
            (Mutating, _) if has(Method::Patch) || has(Method::Delete) => &["If-Match"],
            // What is below an instance has no state of its own.
            (Mutating, Instance(_)) if has(Method::Put) && self.segment_count == 3 => &["If-Match"],
            (Mutating, Instance(_)) if has(Method::Get) => &["If-None-Match"],
            (Mutating, _) => &[],
        }
    }

    /// Calls the handler; `target` is from [`Endpoint::target`].
    pub(super) fn call(&self, api: &Api, call: &Call<'_>, target: Target) -> Outcome {
        conditional::check_heeded(&call.request.headers, self.heeded_conditions())?;
        match (self.serve, target) {
            (Fixed(serve), Target::None) => serve(api, call),
            (Type(serve), Target::Type(app_type)) => serve(api, call, &app_type),
            (Instance(serve), Target::Instance(key)) => serve(api, call, key),
            (Name(serve), Target::Name(name)) => serve(api, call, name),
            _ => Err(Error::Internal),
        }
    }

    /// All methods of this path, as `Allow` lists them (RFC 9110 §10.2.1).
    #[must_use]
    pub fn allow(&self) -> String {
        let same = ENDPOINTS.iter().filter(|other| other.path == self.path);
        let mut methods: Vec<&str> = same
            .flat_map(|endpoint| endpoint.methods.iter().map(Method::as_str))
            .collect();
        methods.sort_unstable();
        methods.join(", ")
    }
}

fn is_variable(segment: &str) -> bool {
    segment.as_bytes().first() == Some(&b'{')
}

/// The paths as metrics name them, each once; the last stands for requests that lead to none.
#[must_use]
pub fn labels() -> Vec<&'static str> {
    let mut paths: Vec<&str> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
    paths.dedup();
    paths.push(OTHER);
    paths
}

/// The index in [`labels`] of a request that leads to this endpoint, or to none.
#[must_use]
pub fn label(endpoint: Option<&Endpoint>) -> usize {
    endpoint.map_or(LABEL_OF_NONE, |endpoint| endpoint.label)
}

const LABEL_OF_NONE: usize = ENDPOINTS[ENDPOINTS.len() - 1].label + 1;

const fn row(
    methods: &'static [Method],
    path: &'static str,
    access: Access,
    effect: Effect,
    tracing: Tracing,
    errors: Shape,
    serve: Serve,
) -> Endpoint {
    let (segments, segment_count) = split(path);
    Endpoint {
        methods,
        path,
        access,
        effect,
        tracing,
        errors,
        ends_lines: false,
        serve,
        segments,
        segment_count,
        label: 0,
    }
}

/// The segments of a path, and how many there are.
const fn split(path: &'static str) -> ([&'static str; SEGMENTS_MAX], usize) {
    let mut segments = [""; SEGMENTS_MAX];
    let mut count = 0;
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.split_at(1).1;
        let mut end = 0;
        while end < rest.len() && rest.as_bytes()[end] != b'/' {
            end += 1;
        }
        (segments[count], rest) = rest.split_at(end);
        count += 1;
    }
    (segments, count)
}

/// The same rows, each with the index of its label: rows of one path share it.
const fn numbered<const N: usize>(mut rows: [Endpoint; N]) -> [Endpoint; N] {
    let mut at = 1;
    while at < N {
        let new = !same(rows[at - 1].path.as_bytes(), rows[at].path.as_bytes());
        rows[at].label = rows[at - 1].label + new as usize;
        at += 1;
    }
    rows
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_row_has_the_path_parameters_of_its_handler() {
        for endpoint in &ENDPOINTS {
            let named: Vec<&str> = endpoint
                .path
                .split('/')
                .filter(|segment| segment.starts_with('{'))
                .collect();
            let taken: &[&str] = match endpoint.serve {
                Fixed(_) => &[],
                Type(_) => &["{type}"],
                Instance(_) => &["{type}", "{name}"],
                Name(_) => &["{name}"],
            };
            assert_eq!(named, taken, "{}", endpoint.path);
        }
    }

    #[test]
    fn a_method_of_a_path_has_one_row_and_a_path_one_label() {
        let mut seen = BTreeSet::new();
        for endpoint in &ENDPOINTS {
            assert_eq!(labels()[label(Some(endpoint))], endpoint.path);
            for method in endpoint.methods {
                assert!(seen.insert((endpoint.path, method.as_str())), "{seen:?}");
            }
        }
        assert_eq!(labels()[label(None)], OTHER);
        let distinct: BTreeSet<_> = labels().into_iter().collect();
        assert_eq!(distinct.len(), labels().len());
    }

    #[test]
    fn only_probes_and_pages_without_secrets_need_no_token() {
        let open = ENDPOINTS.iter().filter(|one| one.access == Open);
        let open: Vec<&str> = open.map(|one| one.path).collect();
        assert_eq!(open, ["/livez", "/readyz", "/", "/openapi.json", "/docs"]);
    }

    #[test]
    fn only_probes_and_scrapes_may_have_another_host() {
        let paths = |rule| {
            let of_it = ENDPOINTS.iter().filter(move |one| one.host_rule() == rule);
            of_it.map(|one| one.path).collect::<Vec<_>>()
        };
        assert_eq!(paths(HostRule::Any), ["/livez", "/readyz"]);
        assert_eq!(paths(HostRule::ListedOrAddress), ["/metrics"]);
    }

    #[test]
    fn every_method_but_get_and_head_has_side_effects() {
        for endpoint in &ENDPOINTS {
            let reads = endpoint.methods.contains(&Method::Head);
            assert_eq!(endpoint.effect == Safe, reads, "{}", endpoint.path);
        }
    }
}
