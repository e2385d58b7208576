//! One request on the model: path → verb and resource, authentication,
//! authorization, faults, and the response of the cluster. Pure: `http` turns
//! bytes into [`Request`] and [`Reply`] into bytes, and an in-process transport
//! can use both without bytes.

mod fields;
mod options;
mod reviews;
mod target;

use std::sync::Arc;

use serde_json::{Value, json};

use super::access::{Access, Attributes};
use super::cluster::patch::Patch;
use super::cluster::read::{ListOptions, WatchEvent};
use super::cluster::resource::Resource;
use super::cluster::selector::Selector;
use super::cluster::status::{self, Cause, Refusal};
use super::cluster::write::Part;
use super::cluster::{Cluster, Key, meta};
use super::dynamics::Dynamics;
use super::dynamics::pods::PodMove;
use super::faults::{Fault, FaultPlan};
use super::logs::{LogStream, Logs};
use super::quota::Quota;
use target::{Target, find_target};

/// Most requests that the journal keeps; older ones are dropped.
const JOURNAL_MAX: usize = 200_000;

/// The verb of dry runs, in the journal and for faults.
pub(crate) const DRY_RUN: &str = "dry-run";

/// Default duration of a watch.
const WATCH_SECS_DEFAULT: u64 = 1800;

/// Everything behind the API.
#[derive(Debug)]
pub(crate) struct Model {
    /// The storage.
    pub(crate) cluster: Cluster,
    /// The controllers.
    pub(crate) dynamics: Dynamics,
    /// The faults.
    pub(crate) faults: FaultPlan,
    /// Tokens and permissions.
    pub(crate) access: Access,
    /// The requests so far.
    pub(crate) journal: Vec<Logged>,
    /// The events that watches lose.
    pub(crate) lost: Vec<Lost>,
    pub(crate) quota: Option<Quota>,
    pub(crate) logs: Logs,
}

/// Events that a relay between the API server and its clients loses.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    /// `MODIFIED`, `DELETED`, ….
    pub(crate) kinds: &'static [&'static str],
    /// The object.
    pub(crate) name: String,
}

impl Lost {
    /// Whether this event is lost.
    pub(crate) fn has(&self, event: &WatchEvent) -> bool {
        self.kinds.contains(&event.kind) && meta(&event.object, "name") == self.name
    }
}

/// A request without its bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    /// `GET`, `POST`, …
    pub(crate) method: String,
    /// Decoded path, without the query.
    pub(crate) path: String,
    /// Decoded pairs of the query.
    pub(crate) query: Vec<(String, String)>,
    /// The `Content-Type`.
    pub(crate) content_type: Option<String>,
    /// The `Authorization` header.
    pub(crate) authorization: Option<String>,
    /// The `User-Agent` header.
    pub(crate) user_agent: String,
    /// The `traceparent` header.
    pub(crate) traceparent: String,
    /// Whether the connection has presented a client certificate of this fake.
    pub(crate) has_certificate: bool,
    /// The body.
    pub(crate) body: Vec<u8>,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    /// As RBAC names it: get, list, watch, create, update, patch, delete; [`DRY_RUN`] of a dry run.
    pub(crate) verb: String,
    /// The plural name.
    pub(crate) resource: String,
    /// `""` for all.
    pub(crate) namespace: String,
    /// `""` for collections; of a list the one name that its field selector requires.
    pub(crate) name: String,
    /// The limit of a list; 0 where there is none.
    pub(crate) limit: usize,
    /// The status code; 0 where the connection was dropped.
    pub(crate) code: u16,
    /// The `User-Agent`.
    pub(crate) user_agent: String,
    /// The `traceparent`; empty where there was none.
    pub(crate) traceparent: String,
}

/// A response with a body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) code: u16,
    /// Headers besides those of framing and type.
    pub(crate) headers: Vec<(&'static str, String)>,
    /// The body.
    pub(crate) body: Value,
}

/// An accepted watch.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    /// What is watched.
    pub(crate) resource: Resource,
    /// `""` for all.
    pub(crate) namespace: String,
    /// Selects the objects.
    pub(crate) selector: Selector,
    /// Events to send immediately.
    pub(crate) first: Vec<WatchEvent>,
    /// The version at which to continue.
    pub(crate) revision: u64,
    /// When the server ends it.
    pub(crate) timeout_secs: u64,
    /// Whether bookmarks were requested.
    pub(crate) bookmarks: bool,
}

/// The result of a request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// One response.
    Response(Response),
    /// A stream.
    Watch(Box<Watch>),
    /// A log; `None` is 204.
    Log(Option<Box<LogStream>>),
    /// The connection is closed without a response.
    Nothing,
}

/// A reply, and the faults that its sender must carry out.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// The reply.
    pub(crate) reply: Reply,
    /// `Delay`, `DropWatchAfter`, `SilentWatch`, `SplitWatch`, `Endless`.
    pub(crate) faults: Vec<Fault>,
}

impl Request {
    /// A value of the query; empty if it is absent.
    pub(crate) fn query(&self, name: &str) -> &str {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        let known = self.query.iter().find(|(key, _)| key == name);
        known.is_some_and(|(_, value)| !matches!(value.as_str(), "false" | "0"))
    }

    fn json(&self) -> Result<Value, Refusal> {
        serde_json::from_slice(&self.body).map_err(|e| {
            status::bad_request(format!("couldn't get version/kind; json parse error: {e}"))
        })
    }

    fn dry_run(&self) -> Result<bool, Refusal> {
        match self.query("dryRun") {
            "" => Ok(false),
            "All" => Ok(true),
            other => {
                let given = json!([other]).to_string();
                let mut cause = Cause::unsupported("dryRun", "", &["All"]);
                cause.message = format!("Unsupported value: {given}: supported values: \"All\"");
                Err(status::invalid_options("CreateOptions", &cause))
            }
        }
    }
}

impl Model {
    /// Carries out one request and logs it in the journal.
    pub(crate) fn handle(&mut self, request: &Request) -> Outcome {
        if let Some(kind) = reviews::Kind::of(&request.path) {
            return self.review(kind, request);
        }
        if let Some(response) = without_resource(request, &self.cluster) {
            return Outcome {
                reply: Reply::Response(response),
                faults: Vec::new(),
            };
        }
        let target = match find_target(request) {
            Ok(target) => target,
            Err(refusal) => {
                return Outcome {
                    reply: Reply::Response(refused(&refusal)),
                    faults: Vec::new(),
                };
            }
        };
        let now = self.cluster.clock().now_ms();
        // Dry runs meet faults of their own, so that they take none that are meant for others.
        let verb = verb_of(request, &target);
        let faults = self.faults.meet(verb, target.plural(), now);
        let reply = self.reply(request, &target, &faults);
        self.log(request, &target, &reply);
        Outcome { reply, faults }
    }

    fn reply(&mut self, request: &Request, target: &Target, faults: &[Fault]) -> Reply {
        if faults.contains(&Fault::Drop) {
            return Reply::Nothing;
        }
        let mut warnings = Vec::new();
        let result = self
            .admit(request, target, faults)
            .and_then(|()| self.serve(request, target, faults, &mut warnings));
        let warned = |mut response: Response| {
            response.headers.extend(fields::headers(&warnings));
            Reply::Response(response)
        };
        match result {
            Ok(_) if faults.contains(&Fault::LoseAnswer) => Reply::Nothing,
            Ok(Reply::Response(mut response)) => {
                faults
                    .iter()
                    .for_each(|fault| fault.spoil(&mut response.body));
                warned(response)
            }
            Ok(reply) => reply,
            Err(refusal) => warned(refused(&refusal)),
        }
    }

    /// Authenticates and authorizes the caller, and applies the faults.
    fn admit(&self, request: &Request, target: &Target, faults: &[Fault]) -> Result<(), Refusal> {
        let attributes = Attributes {
            verb: target.verb,
            resource: target.resource,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name: &target.name,
        };
        for fault in faults {
            match fault {
                Fault::TooManyRequests { retry_after_secs } => {
                    return Err(status::too_many_requests(*retry_after_secs));
                }
                Fault::Status(code) => return Err(status::server_error(*code)),
                Fault::Raw(code, text) => return Err(status::raw(*code, text)),
                Fault::Unauthorized => return Err(status::unauthorized()),
                Fault::Forbidden => return Err(self.access.refuse(attributes)),
                _ => {}
            }
        }
        let caller = self
            .access
            .authenticate(request.authorization.as_deref(), request.has_certificate)?;
        self.access.authorize(caller, attributes)
    }

    fn serve(
        &mut self,
        request: &Request,
        target: &Target,
        faults: &[Fault],
        warnings: &mut Vec<String>,
    ) -> Result<Reply, Refusal> {
        let dry_run = request.dry_run()?;
        let (resource, namespace) = (target.resource, target.namespace.clone());
        let key = (resource, namespace.clone(), target.name.clone());
        let part = if target.subresource.is_empty() {
            Part::Main
        } else {
            Part::Status
        };
        if target.subresource == "eviction" {
            return self.evict(target);
        }
        if target.subresource == "log" {
            let log = self.open_log(request, &key)?;
            return Ok(Reply::Log(log.map(Box::new)));
        }
        check_admission(request, target, faults)?;
        let mut is_new = target.verb == "create";
        let stored = match target.verb {
            "watch" => return self.watch(request, target, faults),
            "list" => return self.list(request, target, faults),
            "delete" => return self.delete(request, target, dry_run),
            "get" => self.cluster.get(resource, &namespace, &target.name)?,
            "create" => {
                options::check_json(request)?;
                let body = request.json()?;
                *warnings = fields::check(request, resource, &body)?;
                self.charge(resource, meta(&body, "name"), dry_run)?;
                self.cluster.create(resource, &namespace, body, dry_run)?
            }
            "update" => {
                options::check_json(request)?;
                let body = request.json()?;
                is_new = resource.is_put_strictly() && self.cluster.object(&key).is_none();
                if is_new {
                    self.cluster.create(resource, &namespace, body, dry_run)?
                } else {
                    self.cluster.update(&key, body, part, dry_run)?
                }
            }
            "patch" => self.patch(request, &key, part, dry_run)?,
            _ => return Err(status::method_not_allowed()),
        };
        let code = if is_new { 201 } else { 200 };
        Ok(Reply::Response(response(code, Value::clone(&stored))))
    }

    fn patch(
        &mut self,
        request: &Request,
        key: &Key,
        part: Part,
        dry_run: bool,
    ) -> Result<Arc<Value>, Refusal> {
        let is_json = options::is_json_patch(request)?;
        self.cluster.get(key.0, &key.1, &key.2)?;
        let body: Value = serde_json::from_slice(&request.body)
            .map_err(|error| status::bad_request(format!("error decoding patch: {error}")))?;
        let patch = if is_json {
            Patch::Json(&body)
        } else {
            Patch::Merge(&body)
        };
        self.cluster.patch(key, patch, part, dry_run)
    }

    /// The eviction API, as a drain uses it. There are no disruption budgets.
    fn evict(&mut self, target: &Target) -> Result<Reply, Refusal> {
        let key = (
            Resource::Pods,
            target.namespace.clone(),
            target.name.clone(),
        );
        self.cluster.get(key.0, &key.1, &key.2)?;
        self.dynamics
            .make_move(&mut self.cluster, &key, &PodMove::Evict);
        let done = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        Ok(Reply::Response(response(201, done)))
    }

    fn list(&self, request: &Request, target: &Target, faults: &[Fault]) -> Result<Reply, Refusal> {
        let mut options = ListOptions {
            selector: options::selector(request, target.resource)?,
            limit: request.query("limit").parse().unwrap_or(0),
            continue_token: request.query("continue").to_owned(),
            version: request.query("resourceVersion").to_owned(),
            exact: options::is_exact(request)?,
        };
        for fault in faults {
            if let Fault::StaleList(writes) = fault {
                let oldest = self.cluster.compacted();
                let then = self.cluster.revision().saturating_sub(*writes).max(oldest);
                options.version = then.to_string();
                options.exact = true;
            }
        }
        let mut list = self
            .cluster
            .list(target.resource, &target.namespace, &options)?;
        if faults.contains(&Fault::DuplicateItem)
            && let Some(items) = list["items"].as_array_mut()
            && let Some(first) = items.first().cloned()
        {
            items.push(first);
        }
        Ok(Reply::Response(response(200, list)))
    }

    fn watch(
        &self,
        request: &Request,
        target: &Target,
        faults: &[Fault],
    ) -> Result<Reply, Refusal> {
        if request.is_set("sendInitialEvents") {
            return Err(status::bad_request(
                "the fake does not model sendInitialEvents",
            ));
        }
        let mut selector = options::selector(request, target.resource)?;
        if !target.name.is_empty() {
            let by_name = format!("metadata.name={}", target.name);
            selector = Selector::parse(target.resource, request.query("labelSelector"), &by_name)?;
        }
        let version = request.query("resourceVersion");
        let (first, mut revision) =
            self.cluster
                .watch_start(target.resource, &target.namespace, &selector, version)?;
        for fault in faults {
            match fault {
                Fault::StaleWatch(writes) => {
                    let oldest = self.cluster.compacted().min(revision);
                    revision = revision.saturating_sub(*writes).max(oldest);
                }
                Fault::GoneAsStatus => {
                    let namespace = &target.namespace;
                    self.cluster
                        .watch_events(target.resource, namespace, &selector, revision)?;
                }
                _ => {}
            }
        }
        let timeout_secs = request.query("timeoutSeconds").parse().unwrap_or(0);
        Ok(Reply::Watch(Box::new(Watch {
            resource: target.resource,
            namespace: target.namespace.clone(),
            selector,
            first,
            revision,
            timeout_secs: if timeout_secs == 0 {
                WATCH_SECS_DEFAULT
            } else {
                timeout_secs
            },
            bookmarks: request.is_set("allowWatchBookmarks"),
        })))
    }

    fn delete(
        &mut self,
        request: &Request,
        target: &Target,
        dry_run: bool,
    ) -> Result<Reply, Refusal> {
        let options = options::of_delete(request, dry_run)?;
        let key = (
            target.resource,
            target.namespace.clone(),
            target.name.clone(),
        );
        let mut response = response(200, self.cluster.delete(&key, &options)?);
        if target.resource == Resource::Jobs && options.propagation.is_none() {
            let warning = "299 - \"child pods are preserved by default when jobs are deleted; set \
                           propagationPolicy=Background to remove them or set \
                           propagationPolicy=Orphan to suppress this warning\"";
            response.headers.push(("Warning", warning.to_owned()));
        }
        Ok(Reply::Response(response))
    }

    fn log(&mut self, request: &Request, target: &Target, reply: &Reply) {
        if self.journal.len() >= JOURNAL_MAX {
            self.journal.drain(..JOURNAL_MAX / 2);
        }
        self.journal.push(Logged {
            verb: verb_of(request, target).to_owned(),
            resource: target.plural().to_owned(),
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            limit: request.query("limit").parse().unwrap_or(0),
            code: match reply {
                Reply::Response(response) => response.code,
                Reply::Watch(_) | Reply::Log(Some(_)) => 200,
                Reply::Log(None) => 204,
                Reply::Nothing => 0,
            },
            user_agent: request.user_agent.clone(),
            traceparent: request.traceparent.clone(),
        });
    }
}

fn response(code: u16, body: Value) -> Response {
    Response {
        code,
        headers: Vec::new(),
        body,
    }
}

/// The verb of a request in the journal, and for faults.
fn verb_of(request: &Request, target: &Target) -> &'static str {
    match request.query("dryRun") {
        "All" => DRY_RUN,
        _ => target.verb,
    }
}

/// A refusal as a response.
pub(crate) fn refused(refusal: &Refusal) -> Response {
    let mut response = response(refusal.code, refusal.status.clone());
    if let Some(secs) = refusal.retry_after_secs {
        response.headers.push(("Retry-After", secs.to_string()));
    }
    response
}

/// Version and probes.
fn without_resource(request: &Request, cluster: &Cluster) -> Option<Response> {
    let body = match request.path.as_str() {
        "/version" => json!({
            "major": "1", "minor": "36", "gitVersion": "v1.36.0-fake", "platform": "fake",
        }),
        "/livez" | "/readyz" | "/healthz" => json!("ok"),
        "/fake/revision" => json!(cluster.revision()),
        _ => return None,
    };
    Some(response(200, body))
}

/// Admission, of what changes an object.
fn check_admission(request: &Request, target: &Target, faults: &[Fault]) -> Result<(), Refusal> {
    if !["create", "patch", "delete"].contains(&target.verb) {
        return Ok(());
    }
    let body = request.json().unwrap_or_default();
    let name = body["metadata"]["name"].as_str().unwrap_or(&target.name);
    let mut refusals = faults
        .iter()
        .filter_map(|it| it.refusal(target.resource, name));
    refusals.next().map_or(Ok(()), Err)
}
