//! Requests to the API server as values: verb, resource and parameters in, path and body out.
//!
//! Pure. A name that is empty or would change the path is rejected here: a GET of an empty name is
//! a list, and a DELETE of one deletes everything. [`super::transport`] adds the headers of the
//! connection (credentials, user agent).

mod admission;
mod leases;

pub use admission::{admit_job, jobs_at};
pub use leases::{UseReport, create_lease, report_uses};

use super::error::{Error, Failure, Verb};
use super::types::{Collection, JOBS, PODS, ResourceVersion, Uid};
use crate::traces::Context;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// How long the API server keeps a watch open; then it closes the watch, and we reopen it.
/// Below 5 minutes, after which load balancers often cut idle connections.
pub const WATCH_SECS: u32 = 290;

/// A request, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The verb, which also determines the HTTP method.
    pub verb: Verb,
    /// The resource (plural).
    pub resource: &'static str,
    /// The name of the object, if the request has one.
    pub name: Option<Box<str>>,
    /// Path with query, percent-encoded, beginning with `/`.
    pub path_and_query: String,
    /// JSON, where there is a body.
    pub body: Option<Vec<u8>>,
    /// The media type of the body.
    pub content_type: Option<&'static str>,
    /// The parent span, if traces are on.
    pub trace: Option<Context>,
    /// Whether it needs a connection of its own, since those in use may lead to what is in doubt.
    pub is_apart: bool,
}

impl Request {
    fn new(verb: Verb, resource: &'static str, path_and_query: String) -> Self {
        Self {
            verb,
            resource,
            name: None,
            path_and_query,
            body: None,
            content_type: None,
            trace: None,
            is_apart: false,
        }
    }

    /// An error of this request.
    #[must_use]
    pub fn error(&self, failure: Failure) -> Error {
        Error {
            verb: self.verb,
            resource: self.resource,
            name: self.name.clone(),
            failure,
        }
    }
}

/// Which objects of a collection: those of a namespace that match a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The namespace.
    pub namespace: String,
    /// A label selector in Kubernetes' syntax; empty for all.
    pub label_selector: String,
    /// A field selector in Kubernetes' syntax; empty for all.
    pub field_selector: String,
}

impl Scope {
    /// All objects of that namespace.
    #[must_use]
    pub fn all(namespace: &str) -> Self {
        Self {
            namespace: namespace.into(),
            label_selector: String::new(),
            field_selector: String::new(),
        }
    }

    /// Those with matching labels.
    #[must_use]
    pub fn labelled(namespace: &str, label_selector: &str) -> Self {
        Self {
            label_selector: label_selector.into(),
            ..Self::all(namespace)
        }
    }

    fn query(&self) -> Query {
        let mut query = Query::default();
        if !self.label_selector.is_empty() {
            query.add("labelSelector", &self.label_selector);
        }
        if !self.field_selector.is_empty() {
            query.add("fieldSelector", &self.field_selector);
        }
        query
    }
}

/// One page of a list with at most `limit` objects, from the most recent state (`resourceVersion`
/// unset).
///
/// # Errors
/// When the namespace is not a valid name.
pub fn list(
    collection: Collection,
    scope: &Scope,
    continue_token: Option<&str>,
    limit: u32,
) -> Result<Request, Error> {
    let mut query = scope.query();
    query.add("limit", &limit.to_string());
    if let Some(token) = continue_token {
        query.add("continue", token);
    }
    on_collection(Verb::List, collection, &scope.namespace, &query)
}

/// The newest version of a collection: a list of at most one object, of any client.
///
/// # Errors
/// When the namespace is not a valid name.
pub fn newest(collection: Collection, namespace: &str) -> Result<Request, Error> {
    let mut request = list(collection, &Scope::all(namespace), None, 1)?;
    request.is_apart = true;
    Ok(request)
}

/// One object by its name. Unlike a list, which the API server answers from its own cache, this reads
/// etcd.
///
/// # Errors
/// When namespace or name are not valid.
pub fn get(collection: Collection, namespace: &str, name: &str) -> Result<Request, Error> {
    let request = on_collection(Verb::Get, collection, namespace, &Query::default())?;
    let mut request = with_name(request, name)?;
    let _ = write!(request.path_and_query, "/{name}");
    Ok(request)
}

/// What of a log is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// The container.
    pub container: Box<str>,
    /// The last lines, so many.
    pub tail: u32,
    /// Only those of the last seconds.
    pub since_secs: Option<u32>,
    /// The run before the present one.
    pub previous: bool,
    /// Also what is written from now on, until the container ends.
    pub follow: bool,
    /// At most so many bytes.
    pub bytes_max: usize,
}

/// The log of a container of a pod.
///
/// # Errors
/// When namespace or name are not valid.
pub fn log(namespace: &str, pod: &str, options: &LogOptions) -> Result<Request, Error> {
    let mut request = get(PODS, namespace, pod)?;
    let mut query = Query::default();
    query.add("container", &options.container);
    query.add("tailLines", &options.tail.to_string());
    query.add("limitBytes", &options.bytes_max.to_string());
    if let Some(secs) = options.since_secs {
        query.add("sinceSeconds", &secs.to_string());
    }
    for (key, is_set) in [("previous", options.previous), ("follow", options.follow)] {
        if is_set {
            query.add(key, "true");
        }
    }
    request.resource = LOGS;
    let _ = write!(request.path_and_query, "/log{}", query.0);
    Ok(request)
}

/// The resource of the right to read logs.
pub const LOGS: &str = "pods/log";

/// The Job of that name, as a list of at most one from the most recent state. Unlike a GET, it
/// has a version also when there is no such object. The API server reads that one key only, and
/// authorizes it as a list of that resource name.
///
/// # Errors
/// When namespace or name are not valid.
pub fn find_job(namespace: &str, name: &str) -> Result<Request, Error> {
    let scope = Scope {
        field_selector: format!("metadata.name={name}"),
        ..Scope::all(namespace)
    };
    let request = on_collection(Verb::List, JOBS, namespace, &scope.query())?;
    with_name(request, name)
}

/// Changes after `version`, with bookmarks.
///
/// # Errors
/// When the namespace is not a valid name.
pub fn watch(
    collection: Collection,
    scope: &Scope,
    version: &ResourceVersion,
) -> Result<Request, Error> {
    let mut query = scope.query();
    query.add("watch", "1");
    query.add("allowWatchBookmarks", "true");
    query.add("timeoutSeconds", &WATCH_SECS.to_string());
    query.add("resourceVersion", &version.to_string());
    on_collection(Verb::Watch, collection, &scope.namespace, &query)
}

/// A new Job, with this manifest in JSON.
///
/// # Errors
/// When the namespace is not a valid name.
pub fn create_job(namespace: &str, name: &str, manifest: Vec<u8>) -> Result<Request, Error> {
    let request = on_collection(Verb::Create, JOBS, namespace, &Query::default())?;
    Ok(with_manifest(request, name, manifest))
}

/// The same without storing it; what the API server would drop silently are warnings of the response.
///
/// # Errors
/// When the namespace is not a valid name.
pub fn try_create(
    collection: Collection,
    namespace: &str,
    name: &str,
    manifest: Vec<u8>,
) -> Result<Request, Error> {
    let mut query = Query::default();
    query.add("dryRun", "All");
    query.add("fieldValidation", "Warn");
    let request = on_collection(Verb::DryRun, collection, namespace, &query)?;
    Ok(with_manifest(request, name, manifest))
}

/// Reviews this token for that audience (TokenReview, which is cluster-scoped).
#[must_use]
pub fn review_token(token: &str, audience: &str) -> Request {
    let review = json!({
        "kind": "TokenReview",
        "apiVersion": "authentication.k8s.io/v1",
        "spec": {"token": token, "audiences": [audience]},
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews".into();
    let request = Request::new(Verb::Create, "tokenreviews", path);
    with_body(request, &review, "application/json")
}

/// Whether we have a permission (SelfSubjectAccessReview, which every client may create); `group` is
/// empty for core/v1, `namespace` for cluster-scoped resources; a subresource follows a slash.
#[must_use]
pub fn review_own_access(verb: Verb, group: &str, resource: &str, namespace: &str) -> Request {
    let mut review = json!({
        "kind": "SelfSubjectAccessReview",
        "apiVersion": "authorization.k8s.io/v1",
        "spec": {"resourceAttributes": {
            "verb": verb.as_str(), "group": group, "resource": resource, "namespace": namespace,
        }},
    });
    if let Some((resource, subresource)) = resource.split_once('/') {
        review["spec"]["resourceAttributes"]["resource"] = resource.into();
        review["spec"]["resourceAttributes"]["subresource"] = subresource.into();
    }
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".into();
    let request = Request::new(Verb::Create, "selfsubjectaccessreviews", path);
    with_body(request, &review, "application/json")
}

/// How dependents of a deleted object are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub enum Propagation {
    /// The object keeps its deletion timestamp until its dependents are gone.
    Foreground,
    /// The object is gone immediately, its dependents follow.
    Background,
}

/// What must still be so of an object that is deleted: another one of its name, or with another version if there
/// is one, is left alone.
#[derive(Clone, Copy, Debug)]
pub struct Precondition<'a> {
    /// Its UID.
    pub uid: &'a Uid,
    /// Its version.
    pub version: Option<&'a ResourceVersion>,
}

/// Deletes the object for which this holds, with this grace period in seconds or else its own.
///
/// # Errors
/// When namespace or name are not valid, or the UID is empty.
pub fn delete(
    collection: Collection,
    namespace: &str,
    name: &str,
    Precondition { uid, version }: Precondition<'_>,
    propagation: Propagation,
    grace: Option<u32>,
) -> Result<Request, Error> {
    let request = on_object(Verb::Delete, collection, namespace, name, uid)?;
    let mut options = json!({
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "preconditions": {"uid": uid.to_string()},
        "propagationPolicy": propagation,
    });
    if let Some(version) = version {
        options["preconditions"]["resourceVersion"] = version.to_string().into();
    }
    if let Some(grace) = grace {
        options["gracePeriodSeconds"] = grace.into();
    }
    Ok(with_body(request, &options, "application/json"))
}

/// Applies a JSON merge patch (RFC 7386) to the pod with this UID.
///
/// The patch contains the UID. The API server refuses to change one, so another pod of that name
/// is not changed: the response is a 422 about `metadata.uid`, which [`Error::class`] classifies as
/// a conflict.
///
/// # Errors
/// When namespace or name are not valid, the UID is empty, or the patch is not an object.
pub fn patch_pod(
    namespace: &str,
    name: &str,
    uid: &Uid,
    mut patch: Value,
) -> Result<Request, Error> {
    let request = on_object(Verb::Patch, PODS, namespace, name, uid)?;
    let metadata = patch.as_object_mut();
    let metadata = metadata.map(|patch| patch.entry("metadata").or_insert_with(|| json!({})));
    let Some(Value::Object(metadata)) = metadata else {
        return Err(request.error(Failure::Request("the patch is not an object".into())));
    };
    metadata.insert("uid".into(), json!(uid.to_string()));
    Ok(with_body(request, &patch, "application/merge-patch+json"))
}

fn with_name(mut request: Request, name: &str) -> Result<Request, Error> {
    request.name = Some(name.into());
    match check_segment("name", name) {
        Ok(()) => Ok(request),
        Err(reason) => Err(request.error(Failure::Request(reason))),
    }
}

fn with_manifest(mut request: Request, name: &str, manifest: Vec<u8>) -> Request {
    request.name = Some(name.into());
    request.body = Some(manifest);
    request.content_type = Some("application/json");
    request
}

fn with_body(mut request: Request, body: &Value, content_type: &'static str) -> Request {
    request.body = Some(body.to_string().into_bytes());
    request.content_type = Some(content_type);
    request
}

fn on_collection(
    verb: Verb,
    collection: Collection,
    namespace: &str,
    query: &Query,
) -> Result<Request, Error> {
    let Collection { prefix, plural } = collection;
    let path_and_query = format!("/{prefix}/namespaces/{namespace}/{plural}{}", query.0);
    let request = Request::new(verb, plural, path_and_query);
    if let Err(reason) = check_segment("namespace", namespace) {
        return Err(request.error(Failure::Request(reason)));
    }
    Ok(request)
}

fn on_object(
    verb: Verb,
    collection: Collection,
    namespace: &str,
    name: &str,
    uid: &Uid,
) -> Result<Request, Error> {
    let request = on_collection(verb, collection, namespace, &Query::default())?;
    let mut request = with_name(request, name)?;
    let _ = write!(request.path_and_query, "/{name}");
    if uid.is_empty() {
        return Err(request.error(Failure::Request("the object has no UID".into())));
    }
    Ok(request)
}

/// Accepts the characters that Kubernetes allows in names (DNS-1123 subdomain).
fn check_segment(what: &str, text: &str) -> Result<(), String> {
    let possible = text.bytes().all(|byte| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
    });
    match text {
        "" => Err(format!("the {what} is empty")),
        "." | ".." => Err(format!("\"{text}\" is not a valid {what}")),
        _ if !possible => Err(format!("\"{}\" is not a valid {what}", text.escape_debug())),
        _ => Ok(()),
    }
}

/// The percent-encoded characters of a query: all but the unreserved ones (RFC 3986 §2.3).
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A query string, with its `?`.
#[derive(Default)]
struct Query(String);

impl Query {
    fn add(&mut self, key: &str, value: &str) {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.extend([key, "="]);
        self.0.extend(utf8_percent_encode(value, &RESERVED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::types::CONFIG_MAPS;

    fn body(request: &Request) -> Value {
        serde_json::from_slice(request.body.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn lists_are_paged_and_selectors_encoded() {
        let scope = Scope::labelled("apps", "app=config-controller,tier in (a, b)");
        let request = list(CONFIG_MAPS, &scope, None, 100).unwrap();
        assert_eq!(
            request.path_and_query,
            "/api/v1/namespaces/apps/configmaps?labelSelector=app%3Dconfig-controller%2Ctier%20in%20%28a%2C%20b%29&limit=100"
        );
        let next = list(JOBS, &Scope::all("apps"), Some("a/b+c="), 1).unwrap();
        assert_eq!(
            next.path_and_query,
            "/apis/batch/v1/namespaces/apps/jobs?limit=1&continue=a%2Fb%2Bc%3D"
        );
        assert_eq!(
            (next.verb, next.verb.method(), next.body),
            (Verb::List, "GET", None)
        );
    }

    #[test]
    fn watches_resume_at_a_version_and_ask_for_bookmarks() {
        let request = watch(PODS, &Scope::all("apps"), &"123".into()).unwrap();
        assert_eq!(
            request.path_and_query,
            "/api/v1/namespaces/apps/pods?watch=1&allowWatchBookmarks=true&timeoutSeconds=290&resourceVersion=123"
        );
        assert_eq!(request.verb, Verb::Watch);
    }

    #[test]
    fn an_object_is_found_by_its_name() {
        let request = find_job("apps", "hello-ann").unwrap();
        assert_eq!(
            request.path_and_query,
            "/apis/batch/v1/namespaces/apps/jobs?fieldSelector=metadata.name%3Dhello-ann"
        );
        assert_eq!(request.verb, Verb::List);
        assert_eq!(request.name.as_deref(), Some("hello-ann"));
    }

    #[test]
    fn objects_are_created_in_their_collection() {
        let manifest = json!({"metadata": {"name": "hello-ann"}});
        let request = create_job("apps", "hello-ann", manifest.to_string().into_bytes()).unwrap();
        assert_eq!(
            request.path_and_query,
            "/apis/batch/v1/namespaces/apps/jobs"
        );
        assert_eq!(request.verb.method(), "POST");
        assert_eq!(request.content_type, Some("application/json"));
        assert_eq!(body(&request), manifest);
    }

    #[test]
    fn deletes_carry_the_uid() {
        let uid = Uid::from("8f1f9a0e-7d0c-4f7e-9d66-1f0ac2a7a001");
        let foreground = Propagation::Foreground;
        let request = delete(JOBS, "apps", "hello-ann", of(&uid), foreground, Some(0)).unwrap();
        assert_eq!(request.verb.method(), "DELETE");
        let expected = json!({
            "kind": "DeleteOptions", "apiVersion": "v1",
            "preconditions": {"uid": "8f1f9a0e-7d0c-4f7e-9d66-1f0ac2a7a001"},
            "propagationPolicy": "Foreground", "gracePeriodSeconds": 0,
        });
        assert_eq!(body(&request), expected);
        assert!(delete(JOBS, "apps", "a", of(&Uid::default()), foreground, None).is_err());
    }

    #[test]
    fn a_deletion_may_have_the_version_as_precondition() {
        let (uid, version) = (Uid::from("u1"), ResourceVersion::from("7"));
        let version = Some(&version);
        let only = Precondition { uid: &uid, version };
        let request = delete(PODS, "apps", "a", only, Propagation::Background, None).unwrap();
        let expected = json!({"uid": "u1", "resourceVersion": "7"});
        assert_eq!(body(&request)["preconditions"], expected);
    }

    /// Any version of this object.
    fn of(uid: &Uid) -> Precondition<'_> {
        Precondition { uid, version: None }
    }

    #[test]
    fn patches_carry_the_uid() {
        let uid = Uid::from("u1");
        let patch = json!({"metadata": {"labels": {"a": null}}});
        let request = patch_pod("apps", "hello-ann-x", &uid, patch).unwrap();
        assert_eq!(request.content_type, Some("application/merge-patch+json"));
        assert_eq!(
            body(&request),
            json!({"metadata": {"labels": {"a": null}, "uid": "u1"}})
        );
        assert!(patch_pod("apps", "x", &uid, json!([])).is_err());
    }

    #[test]
    fn names_that_would_change_the_path_are_rejected() {
        for name in ["", ".", "..", "a/b", "a?b", "a%2Fb", "A", "ä", "a b", "a\0"] {
            assert!(find_job("apps", name).is_err(), "{name:?}");
            assert!(find_job(name, "a").is_err(), "{name:?}");
        }
        assert!(find_job("apps", "hello-a.b").is_ok());
    }
}
