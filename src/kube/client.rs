//! Typed calls to Kubernetes: one attempt each, decoded, with a classified error.
//!
//! No retries here (waiting belongs to the coordinator) and no memory (that is
//! [`crate::store`]). What a call means for an instance is decided in
//! [`crate::app`]; the rights that these calls need are those of our manifests.

mod admission;

use super::containers::PodContainers;
use super::error::{Class, Error, Failure, Verb};
use super::request::{self, LogOptions, Precondition, Propagation, Request, Scope, UseReport};
use super::status::decode_success;
use super::transport::{Cut, EventStream, Response, Transport};
use super::types::{
    CONTROLLER_UID, Collection, Found, JOBS, Job, PODS, Page, Pod, Resource, ResourceVersion,
    TokenReview, Uid, decode_found, decode_list, decode_object, decode_state,
};
use crate::traces::Context;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How many pods of one Job are read; it makes one after the other.
const PODS_OF_JOB_MAX: u32 = 100;

/// What the API server says beside a result; see [`super::warnings`].
pub type Warnings = Vec<Box<str>>;

/// Calls in one namespace; clones share the transport.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Arc<dyn Transport>,
    namespace: Arc<str>,
    /// The parent span of the calls.
    trace: Option<Context>,
}

impl Client {
    /// Calls over this transport in this namespace.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, namespace: &str) -> Self {
        Self {
            transport,
            namespace: namespace.into(),
            trace: None,
        }
    }

    /// The same client, for calls made on behalf of this span; they carry its `traceparent`.
    #[must_use]
    pub fn made_for(&self, trace: &Context) -> Self {
        Self {
            trace: Some(trace.clone()),
            ..self.clone()
        }
    }

    /// The namespace of all calls.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Creates the Job of that name with this manifest, in JSON; returns it, and what the API server warns
    /// of.
    ///
    /// # Errors
    /// `AlreadyExists` when a Job of that name exists; `NotFound` when the
    /// namespace does not exist; see [`Error::class`] for the others. Unless
    /// [`Error::connect_failed`], the Job may have been created despite the error.
    pub fn create_job(&self, name: &str, manifest: Vec<u8>) -> Result<(Job, Warnings), Error> {
        let request = request::create_job(&self.namespace, name, manifest)?;
        let (request, response) = self.send(request)?;
        let response = response.into_success(&request)?;
        let job = decode_object(&response.body, name, None);
        let job = job.map_err(|error| invalid_response(&request, &error))?;
        Ok((job, response.warnings))
    }

    /// Tries to create an object of that name with this manifest, in JSON, without storing it; also
    /// returns what the API server warns of, whether it would create it or not.
    pub fn try_create(
        &self,
        collection: Collection,
        name: &str,
        manifest: Vec<u8>,
    ) -> (Result<(), Error>, Warnings) {
        let request = request::try_create(collection, &self.namespace, name, manifest);
        let response = request.and_then(|request| {
            let (request, mut response) = self.send(request)?;
            let warnings = std::mem::take(&mut response.warnings);
            Ok((response.into_success(&request).map(drop), warnings))
        });
        response.unwrap_or_else(|error| (Err(error), Warnings::new()))
    }

    /// The Job of that name (created by this service or not), or that there is none at this
    /// version.
    ///
    /// # Errors
    /// See [`Error::class`]; a namespace that does not exist has no Jobs, which is no error.
    pub fn find_job(&self, name: &str) -> Result<Found<Job>, Error> {
        self.call(request::find_job(&self.namespace, name)?, |body| {
            let found: Found<Job> = decode_found(body)?;
            check_is_list(&found.version)?;
            if found.object.iter().any(|job| *job.metadata.name != *name) {
                return Err(serde_json::Error::custom("it has another name"));
            }
            Ok(found)
        })
    }

    /// Whether an object of that name exists. What it holds is not kept.
    ///
    /// # Errors
    /// `Forbidden` where we may not get it; see [`Error::class`] for the others.
    pub fn exists(&self, collection: Collection, name: &str) -> Result<bool, Error> {
        let request = request::get(collection, &self.namespace, name)?;
        match self.call(request, |_| Ok(())) {
            Ok(()) => Ok(true),
            Err(error) if error.class() == Class::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes the Job with this UID, and with this version if one is given (Foreground, grace period 0); its pods keep their own grace period.
    /// Returns the Job as it is now, with its deletion timestamp; `None` when it is already gone.
    ///
    /// # Errors
    /// `NotFound` when no object has that name, `Conflict` when the object has another UID.
    pub fn delete_job(
        &self,
        name: &str,
        uid: &Uid,
        version: Option<&ResourceVersion>,
    ) -> Result<Option<Job>, Error> {
        let foreground = Propagation::Foreground;
        let only = Precondition { uid, version };
        let request = request::delete(JOBS, &self.namespace, name, only, foreground, Some(0))?;
        // The response is the Job, or a Status when it is gone immediately.
        self.call(request, |body| match decode_success(body) {
            Ok(()) => Ok(None),
            Err(_) => decode_object(body, name, Some(uid)).map(Some),
        })
    }

    /// Writes this report into the Lease of its replica, which is created if it does not exist.
    ///
    /// # Errors
    /// `Forbidden` where we may not create or patch Leases; see [`Error::class`] for the others.
    pub fn report_uses(&self, report: &UseReport<'_>) -> Result<(), Error> {
        let written = self.call(request::report_uses(&self.namespace, report)?, |_| Ok(()));
        match written {
            Err(error) if error.class() == Class::NotFound => {
                self.call(request::create_lease(&self.namespace, report)?, |_| Ok(()))
            }
            written => written,
        }
    }

    /// Applies a merge patch to the pod with this UID.
    ///
    /// # Errors
    /// `NotFound` when no object has that name, `Conflict` when the object has another UID.
    pub fn patch_pod(&self, name: &str, uid: &Uid, merge_patch: Value) -> Result<Pod, Error> {
        let request = request::patch_pod(&self.namespace, name, uid, merge_patch)?;
        self.call(request, |body| decode_object(body, name, Some(uid)))
    }

    /// Deletes the pod with this UID, with its own grace period.
    ///
    /// # Errors
    /// `NotFound` when no object has that name, `Conflict` when the object has another UID.
    pub fn delete_pod(&self, name: &str, uid: &Uid) -> Result<(), Error> {
        let background = Propagation::Background;
        let only = Precondition { uid, version: None };
        let request = request::delete(PODS, &self.namespace, name, only, background, None)?;
        self.call(request, |_| Ok(()))
    }

    /// Force-deletes the pod with this UID (grace period 0); only for a pod on a lost node.
    ///
    /// # Errors
    /// `NotFound` when no object has that name, `Conflict` when the object has another UID.
    pub fn force_delete_pod(&self, name: &str, uid: &Uid) -> Result<(), Error> {
        let background = Propagation::Background;
        let only = Precondition { uid, version: None };
        let request = request::delete(PODS, &self.namespace, name, only, background, Some(0))?;
        self.call(request, |_| Ok(()))
    }

    /// One page of a list with at most `limit` objects, over a connection of its own if it `is_apart`. In
    /// a namespace that does not exist it is empty, not an error.
    ///
    /// # Errors
    /// `Expired` when the continue token is too old; a new list is needed.
    pub fn list<K: Resource>(
        &self,
        scope: &Scope,
        continue_token: Option<&str>,
        limit: u32,
        is_apart: bool,
    ) -> Result<Page<K>, Error> {
        let mut request = request::list(K::COLLECTION, scope, continue_token, limit)?;
        request.is_apart = is_apart;
        self.page(request)
    }

    fn page<K: Resource>(&self, request: Request) -> Result<Page<K>, Error> {
        self.call(request, |body| {
            let page = decode_list(body)?;
            check_is_list(&page.version)?;
            Ok(page)
        })
    }

    /// The pods of the Job with this UID.
    ///
    /// # Errors
    /// See [`Error::class`].
    pub fn pods_of(&self, job: &Uid) -> Result<Page<Pod>, Error> {
        let selector = format!("{CONTROLLER_UID}={job}");
        let scope = Scope::labelled(&self.namespace, &selector);
        self.list(&scope, None, PODS_OF_JOB_MAX, false)
    }

    /// The newest version of a collection.
    ///
    /// # Errors
    /// See [`Error::class`].
    pub fn newest<K: Resource>(&self) -> Result<ResourceVersion, Error> {
        let request = request::newest(K::COLLECTION, &self.namespace)?;
        self.call(
            request,
            |body| Ok(decode_found::<IgnoredAny>(body)?.version),
        )
    }

    /// UID and version of the object of that name, read from etcd; `None` when there is none.
    ///
    /// # Errors
    /// See [`Error::class`].
    pub fn state<K: Resource>(&self, name: &str) -> Result<Option<(Uid, ResourceVersion)>, Error> {
        let request = request::get(K::COLLECTION, &self.namespace, name)?;
        match self.call(request, decode_state) {
            Ok(state) => Ok(Some(state)),
            Err(error) if error.class() == Class::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a watch for changes after `version`.
    ///
    /// # Errors
    /// `Expired` when the version is too old; a new list is needed.
    pub fn watch<K: Resource>(
        &self,
        scope: &Scope,
        version: &ResourceVersion,
    ) -> Result<Box<dyn EventStream>, Error> {
        self.transport
            .open(&request::watch(K::COLLECTION, scope, version)?)
    }

    /// The containers of the pod of that name.
    ///
    /// # Errors
    /// See [`Error::class`].
    pub fn containers_of(&self, pod: &str) -> Result<PodContainers, Error> {
        self.object(request::get(PODS, &self.namespace, pod)?)
    }

    /// Opens the log of a container; see [`Transport::open_log`].
    ///
    /// # Errors
    /// See [`Error::class`]; `Invalid` also when the container has not started.
    pub fn log(
        &self,
        pod: &str,
        options: &LogOptions,
        longest: Duration,
        cut: &Cut,
    ) -> Result<Option<Box<dyn EventStream>>, Error> {
        let mut request = request::log(&self.namespace, pod, options)?;
        request.trace.clone_from(&self.trace);
        let follows = options.follow;
        (self.transport).open_log(&request, longest, follows, cut)
    }

    /// The user of this token; `None` when the token is invalid or for another audience.
    ///
    /// # Errors
    /// `Forbidden` when we may not review tokens (only the ClusterRole `system:auth-delegator`
    /// grants that).
    pub fn review_token(&self, token: &str, audience: &str) -> Result<Option<Box<str>>, Error> {
        let review: TokenReview = self.object(request::review_token(token, audience))?;
        Ok(review.into_user(audience))
    }

    /// Whether we have that permission, in our namespace or, for cluster-scoped resources, in the cluster.
    ///
    /// # Errors
    /// When the review itself fails.
    pub fn may(
        &self,
        verb: Verb,
        group: &str,
        resource: &str,
        in_namespace: bool,
    ) -> Result<bool, Error> {
        let namespace = if in_namespace { self.namespace() } else { "" };
        let request = request::review_own_access(verb, group, resource, namespace);
        let review: Value = self.object(request)?;
        // A missing status counts as denied.
        Ok(review["status"]["allowed"] == true)
    }

    fn object<K: DeserializeOwned>(&self, request: Request) -> Result<K, Error> {
        self.call(request, |body| serde_json::from_slice(body))
    }

    /// Sends a request and reads the body of its response; one that is not a success becomes an
    /// error.
    fn call<T>(
        &self,
        request: Request,
        read: impl FnOnce(&[u8]) -> Result<T, serde_json::Error>,
    ) -> Result<T, Error> {
        let (request, response) = self.success(request)?;
        read(&response.body).map_err(|error| invalid_response(&request, &error))
    }

    /// Sends a request, and returns both it and the response; one that is not a success becomes an error.
    fn success(&self, request: Request) -> Result<(Request, Response), Error> {
        let (request, response) = self.send(request)?;
        let response = response.into_success(&request)?;
        Ok((request, response))
    }

    /// Sends a request, and returns both it and its response, whatever its status code is.
    fn send(&self, mut request: Request) -> Result<(Request, Response), Error> {
        request.trace.clone_from(&self.trace);
        let response = self.transport.send(&request)?;
        Ok((request, response))
    }
}

fn invalid_response(request: &Request, error: &serde_json::Error) -> Error {
    request.error(Failure::InvalidResponse(error.to_string()))
}

/// Without a version, it is no list of an API server, though it could be decoded as an empty one.
fn check_is_list(version: &ResourceVersion) -> Result<(), serde_json::Error> {
    if version.is_empty() {
        return Err(serde_json::Error::custom("the list has no version"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::admission::PAGES_MAX;
    use super::*;
    use serde_json::json;
    use std::collections::HashSet;
    use std::sync::Mutex;

    /// Returns the same response to every request, and records the requests.
    #[derive(Debug)]
    struct Canned(u16, Value, Mutex<Vec<Request>>);

    impl Transport for Canned {
        fn send(&self, request: &Request) -> Result<Response, Error> {
            self.2.lock().unwrap().push(request.clone());
            let body = self.1.to_string().into_bytes();
            Ok(Response {
                status: self.0,
                body,
                warnings: vec!["careful".into()],
                ..Response::default()
            })
        }

        fn open(&self, request: &Request) -> Result<Box<dyn EventStream>, Error> {
            Err(request.error(Failure::Connect("not here".into())))
        }

        fn open_log(
            &self,
            request: &Request,
            _: Duration,
            _: bool,
            _: &Cut,
        ) -> Result<Option<Box<dyn EventStream>>, Error> {
            self.open(request).map(Some)
        }
    }

    fn client(code: u16, body: Value) -> (Client, Arc<Canned>) {
        let transport = Arc::new(Canned(code, body, Mutex::default()));
        (Client::new(transport.clone(), "apps"), transport)
    }

    #[test]
    fn reading_a_job_finds_any_job_or_its_absence_at_a_version() {
        let items = json!([{"metadata": {"name": "hello-ann", "uid": "u"}}]);
        let list = json!({"metadata": {"resourceVersion": "7"}, "items": items});
        let found = client(200, list).0.find_job("hello-ann").unwrap();
        assert_eq!(found.object.unwrap().app_type(), None);
        let list = json!({"metadata": {"resourceVersion": "8"}, "items": []});
        let found = client(200, list).0.find_job("hello-ann").unwrap();
        assert!(found.object.is_none());
        assert_eq!(found.version, "8".into());
    }

    #[test]
    fn earlier_jobs_are_read_page_by_page_up_to_a_bound() {
        let ours = json!({"config-controller.semafor.ch/instance-type": "hello", "config-controller.semafor.ch/instance-name": "ann"});
        let item = json!({"metadata": {"name": "hello-ann", "uid": "u1", "resourceVersion": "6", "annotations": ours}});
        let page = |more: &str| json!({"metadata": {"resourceVersion": "7", "continue": more}, "items": [item.clone()]});
        let (last, transport) = client(200, page(""));
        let there = last.jobs_at(&"7".into()).unwrap().unwrap();
        assert_eq!(there, HashSet::from(["u1".into()]));
        assert_eq!(transport.2.lock().unwrap().len(), 1);
        let (endless, transport) = client(200, page("more"));
        assert_eq!(endless.jobs_at(&"7".into()).unwrap(), None);
        let sent = transport.2.lock().unwrap();
        assert_eq!(sent.len(), PAGES_MAX);
        assert!(sent[1].path_and_query.ends_with("?limit=100&continue=more"));
    }

    #[test]
    fn a_deletion_returns_the_job_or_that_it_is_gone() {
        let uid = Uid::from("u");
        let job = json!({"kind": "Job", "metadata": {"name": "a", "uid": "u", "resourceVersion": "7", "deletionTimestamp": "2026-01-02T03:04:05Z"}});
        let (marked, _) = client(200, job);
        assert!(
            marked
                .delete_job("a", &uid, None)
                .unwrap()
                .unwrap()
                .metadata
                .is_deleting()
        );
        let status = json!({"kind": "Status", "metadata": {}, "status": "Success", "details": {"name": "a", "uid": "u"}});
        let (gone, _) = client(200, status);
        assert_eq!(gone.delete_job("a", &uid, None).unwrap(), None);
    }

    /// They cannot be answers, so nothing follows from them: the call is made again.
    #[test]
    fn odd_responses_are_no_answers() {
        let uid = Uid::from("u");
        let object = |name: &str, uid: &str| json!({"metadata": {"name": name, "uid": uid, "resourceVersion": "7"}});
        let failed = json!({"kind": "Status", "metadata": {}, "status": "Failure"});
        let odd = [
            Value::Null,
            json!({}),
            json!([]),
            json!("a"),
            failed,
            object("b", "u"),
            object("a", ""),
            json!({"metadata": {"name": "a", "uid": "u"}}),
        ];
        let list = |items: Value| json!({"metadata": {"resourceVersion": "7"}, "items": items});
        let of_reads = [
            Value::Null,
            json!({"items": []}),
            list(json!([object("b", "u")])),
            list(json!([null])),
        ];
        let check = |error: Error, response: &Value| {
            assert_eq!(error.class(), Class::Unavailable, "{response}");
            assert!(error.is_ambiguous(), "{response}");
        };
        for response in odd.iter().chain([&object("a", "other")]) {
            let (client, _) = client(200, response.clone());
            check(client.delete_job("a", &uid, None).unwrap_err(), response);
            check(
                client.patch_pod("a", &uid, json!({})).unwrap_err(),
                response,
            );
        }
        for response in &odd {
            let (client, _) = client(201, response.clone());
            check(client.create_job("a", Vec::new()).unwrap_err(), response);
        }
        for response in &of_reads {
            let (client, _) = client(200, response.clone());
            check(client.find_job("a").unwrap_err(), response);
        }
    }

    #[test]
    fn errors_are_classified_and_empty_names_never_sent() {
        let (client, transport) = client(409, json!({"reason": "AlreadyExists", "code": 409}));
        let error = client.create_job("a", b"{}".to_vec()).unwrap_err();
        assert_eq!(error.class(), Class::AlreadyExists);
        assert_eq!(error.name.as_deref(), Some("a"));
        assert_eq!(transport.2.lock().unwrap().len(), 1);
        assert_eq!(client.find_job("").unwrap_err().class(), Class::Unsendable);
        assert_eq!(
            client.delete_pod("", &"u".into()).unwrap_err().class(),
            Class::Unsendable
        );
        assert_eq!(transport.2.lock().unwrap().len(), 1);
    }

    #[test]
    fn a_token_review_requests_the_audience_and_checks_the_response() {
        let status = json!({"authenticated": true, "user": {"username": "u"}, "audiences": ["us"]});
        let (client, transport) = client(201, json!({"spec": {}, "status": status}));
        assert_eq!(
            client.review_token("t", "us").unwrap().as_deref(),
            Some("u")
        );
        assert_eq!(client.review_token("t", "them").unwrap(), None);
        let sent = transport.2.lock().unwrap()[0].clone();
        let body: Value = serde_json::from_slice(&sent.body.unwrap()).unwrap();
        assert_eq!(body["spec"], json!({"token": "t", "audiences": ["us"]}));
        assert_eq!(
            sent.path_and_query,
            "/apis/authentication.k8s.io/v1/tokenreviews"
        );
    }

    #[test]
    fn a_permission_is_granted_only_if_the_response_allows_it() {
        for (review, expected) in [
            (
                json!({"status": {"allowed": true, "reason": "RBAC: …"}}),
                true,
            ),
            (json!({"status": {"allowed": false}}), false),
            (json!({"status": {}}), false),
            (json!({}), false),
        ] {
            let (client, _) = client(201, review.clone());
            let granted = client.may(Verb::List, "", "pods", true).unwrap();
            assert_eq!(granted, expected, "{review}");
        }
    }

    #[test]
    fn a_dry_run_is_marked_and_returns_warnings_with_and_without_success() {
        for (code, class) in [(201, None), (422, Some(Class::Invalid))] {
            let (client, transport) = client(code, json!({"reason": "Invalid", "code": code}));
            let (result, warnings) = client.try_create(PODS, "a", b"{}".to_vec());
            assert_eq!(result.err().map(|error| error.class()), class);
            assert_eq!(warnings, ["careful".into()]);
            let sent = transport.2.lock().unwrap()[0].clone();
            assert_eq!(
                (sent.verb, sent.path_and_query.as_str()),
                (
                    Verb::DryRun,
                    "/api/v1/namespaces/apps/pods?dryRun=All&fieldValidation=Warn"
                )
            );
        }
    }

    #[test]
    fn a_response_that_is_not_an_object_is_an_error() {
        let (client, _) = client(200, json!(["not", "a", "job"]));
        assert_eq!(
            client.find_job("a").unwrap_err().class(),
            Class::Unavailable
        );
    }
}
