//! The handlers: one function for each endpoint, from a request to the app and from the app's
//! response to an HTTP response.
//!
//! [`Api`] holds no state of instances and decides nothing about them. [`super::dispatcher`] has
//! authenticated and authorized the request before; [`super::problem`] makes the response of an
//! error, so a handler returns an [`Error`] as it is.

mod all_instances;
mod heartbeat;
mod legacy;
mod logs;
mod replace;
mod responses;
mod streams;

pub use all_instances::{PAGE, instance_item};
pub(super) use legacy::NO_INSTANCE_TO_RELEASE;
pub use responses::{entry, template};
pub use streams::{event, item};

use super::auth::{Caller, Types};
use super::conditional::{self, Condition};
use super::message::{Body, Request, Response};
use super::server::Handled;
use super::{body, openapi, prefer, problem, status_page, timing};
use crate::app::cache::{InstanceVersion, Ready};
use crate::app::timings::Timings;
use crate::app::{
    self, App, Bound, Error, Expectation, InstanceRequest, Intent, Origin, RequestHandle,
    ValuesMatch,
};
use crate::budget::{Exceeded, Full, Held, Hold, Purpose, WaitingBounds};
use crate::health::{self, HealthSource};
use crate::metrics::{self, Scrape};
use crate::model::labels::{self, MetaChange};
use crate::model::names::InstanceKey;
use crate::model::template::Variables;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A cache older than this is reported in `X-View-Age`.
const CACHE_AGE_REPORTED: Duration = Duration::from_secs(5);

/// The header of responses about an instance that is stopped when nobody uses it: in how many seconds that may be.
const EXPIRES_IN: &str = "instance-expires-in";

/// `detail.status` of the 404 of a DELETE.
pub(super) const NO_INSTANCE_TO_STOP: &str = "No job found";

/// The handlers, and what they share.
#[derive(Debug)]
pub struct Api {
    /// What the service does.
    pub app: App,
    /// For the probes.
    pub health_source: Arc<dyn HealthSource>,
    /// For `/metrics`.
    pub scrape: Arc<dyn Scrape>,
    /// Shown by `/info`.
    pub hostname: String,
}

/// A request that its caller may make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call<'a> {
    pub(super) request: &'a Request,
    pub(super) caller: &'a Caller,
    pub(super) handle: RequestHandle,
    pub(super) bounds: &'a WaitingBounds,
}

/// The result of a handler: a response, a request that waits for the app, or an error.
/// Says how old the cache is that a response was read from.
const VIEW_AGE: &str = "x-view-age";

pub(super) type Outcome = Result<Handled<Pending>, Error>;

/// The state of a request that waits for the app, from which its response is made.
#[derive(Debug)]
pub(super) enum Pending {
    /// A GET of an instance, what its caller has of it already, what one that is not ready is, and whether it is a
    /// use.
    Ensure(Starts, Condition, NotReady, bool),
    /// A GET of the instances of a type, and what it holds meanwhile.
    List(Condition, Hold),
    /// A GET of the templates of these types, and what it holds meanwhile.
    Templates(Condition, Types, Hold),
    /// A stream of events.
    Events(Box<streams::EventStream>),
    /// A GET of an instance whose start is followed.
    Follow(Box<streams::StartStream>),
    /// The log of an instance.
    Log(logs::PendingLog),
    /// The same of one whose pod is gone: its last lines, so many.
    Report(InstanceKey, u32),
    /// A PATCH of this instance.
    Label(InstanceKey),
    /// A DELETE.
    Stop,
    /// A DELETE of many instances.
    StopMany,
    /// A start by the older route, and whether it is a use.
    Create(Starts, bool),
    /// A stop by the older route, of the instance with this name or session.
    Release(String),
}

impl Pending {
    /// Whether its response may last for longer than its caller may have it.
    pub(super) const fn lasts(&self) -> bool {
        matches!(self, Self::Events(_) | Self::Follow(_) | Self::Log(_))
    }
}

/// Whether a GET of an instance may start it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Starts {
    /// It may, or asks for no start.
    AsAsked,
    /// Its caller may not: the name of the Job may be that of another type.
    Refused,
}

/// What an instance that is not ready is to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotReady {
    /// A success so far: 202.
    Accepted,
    /// An error: 503.
    Error,
}

impl Api {
    /// The HTTP response to a request that waited, from that of the app; `failed` makes one from an
    /// error.
    pub(super) fn resume(
        &self,
        pending: Pending,
        response: app::Response,
        failed: impl FnOnce(Error) -> Response,
    ) -> Handled<Pending> {
        match (pending, response) {
            (Pending::Events(stream), app::Response::Relist(bytes, number)) => {
                match stream.relisted(&bytes, number) {
                    Ok(stream) => Handled::Streams(Pending::Events(stream)),
                    Err(error) => Handled::Reply(failed(error)),
                }
            }
            (log @ Pending::Log(_), app::Response::Log) => Handled::Streams(log),
            (Pending::Report(key, tail), response) => {
                let report = logs::report(&key, response, tail);
                Handled::Reply(report.unwrap_or_else(failed))
            }
            (Pending::Follow(stream), response) => self.followed(stream, response, failed),
            (pending, response) => Handled::Reply(self.response(pending, response, failed)),
        }
    }

    fn response(
        &self,
        pending: Pending,
        response: app::Response,
        failed: impl FnOnce(Error) -> Response,
    ) -> Response {
        use app::Response::{Done, Failed, Labelled, List, Progress, Ready, Unread};
        match (pending, response) {
            (pending, Unread(response)) => {
                let response = self.response(pending, *response, failed);
                if response.headers.iter().any(|(name, _)| &**name == VIEW_AGE) {
                    return response;
                }
                response.header(VIEW_AGE, self.app.cache_age().as_secs().to_string())
            }
            (Pending::List(condition, hold), List(list)) => {
                let account = hold.account().clone();
                drop(hold);
                let response = responses::list(&list, &condition, &account);
                response.map_or_else(|full| failed(full.into()), |response| self.aged(response))
            }
            (Pending::Templates(condition, types, hold), List(list)) => {
                let (account, ledger) = (hold.account().clone(), Arc::clone(hold.ledger()));
                drop(hold);
                let response = responses::templates(&list, &types, &condition, &account, &ledger);
                response.map_or_else(failed, |response| self.aged(response))
            }
            // There is none yet, and this caller may not start it.
            (
                Pending::Ensure(Starts::Refused, ..) | Pending::Create(Starts::Refused, _),
                Failed(Error::NoInstance(key)),
            ) => failed(Error::NameOfOtherType(key)),
            (Pending::Create(starts, touches), response) => {
                self.created(response, starts, touches, failed)
            }
            (Pending::Stop, Progress { progress, .. }) => responses::stopping(&progress),
            (Pending::Ensure(_, condition, _, touches), Ready { ready, timings }) => {
                let left = self.app.found(&ready, touches);
                let response = expiring(responses::ready(&ready, &condition), left);
                self.timed(timings.as_ref(), response)
            }
            (
                pending,
                Progress {
                    progress,
                    instance,
                    timings,
                },
            ) => self.timed(
                timings.as_ref(),
                responses::unready(&pending, &progress, instance),
            ),
            (Pending::Label(key), Labelled(instance)) => self.labelled(&key, Some(instance)),
            (Pending::Label(key), Done) => self.labelled(&key, None),
            (_, Done) => responses::success(),
            // It was found, and was gone before it could be stopped.
            (Pending::Release(name), Failed(Error::NoInstance(_))) => {
                failed(Error::NoSession(name.into()))
            }
            (_, Failed(error)) => failed(error),
            (_, app::Response::Stopped(it)) => all_instances::stopped(&it).unwrap_or_else(failed),
            // Only requests that wait for them get these.
            _ => failed(Error::Internal),
        }
    }

    /// The response of a PATCH, which is a use.
    fn labelled(&self, key: &InstanceKey, instance: Option<InstanceVersion>) -> Response {
        let response = Response {
            instance,
            ..responses::success()
        };
        let left = self.app.note_use(key, Duration::ZERO);
        expiring(response, left.ok().flatten())
    }

    /// The response of `/create`.
    fn created(
        &self,
        response: app::Response,
        starts: Starts,
        touches: bool,
        failed: impl FnOnce(Error) -> Response,
    ) -> Response {
        use app::Response::{Progress, Ready};
        let (timings, left) = match &response {
            Ready { ready, timings } => (timings.clone(), self.app.found(ready, touches)),
            Progress { timings, .. } => (timings.clone(), None),
            _ => (None, None),
        };
        let created = legacy::created(response, starts).unwrap_or_else(failed);
        self.timed(timings.as_ref(), expiring(created, left))
    }

    /// `GET /app`
    pub(super) fn types(&self, call: &Call<'_>) -> Outcome {
        let types = self.app.types()?;
        let names = types.iter().map(|app_type| app_type.as_str());
        let may_use = |name: &&str| call.caller.types.contain(name);
        let names: Vec<&str> = names.filter(may_use).collect();
        reply(self.aged(Response::json(200, json!(names).to_string())))
    }

    /// `GET /app/{type}`
    pub(super) fn instances(&self, call: &Call<'_>, app_type: &str) -> Outcome {
        let condition = Condition::of(&call.request.headers);
        let account = call.caller.account(call.request.peer);
        if let Some(list) = self.app.list(app_type)? {
            return reply(self.aged(responses::list(&list, &condition, &account)?));
        }
        // It waits for milliseconds, so it takes no place of those that wait for an instance.
        let bytes = call.request.parked_bytes();
        let hold = call.bounds.bytes.hold(account, Purpose::Transfer, bytes)?;
        self.app.await_list(app_type, call.handle)?;
        Ok(Handled::Parked(Pending::List(condition, hold)))
    }

    /// `GET /templates`
    pub(super) fn templates(&self, call: &Call<'_>) -> Outcome {
        let condition = Condition::of(&call.request.headers);
        let account = call.caller.account(call.request.peer);
        let (types, bytes) = (&call.caller.types, &call.bounds.bytes);
        if let Some(list) = self.app.templates()? {
            let response = responses::templates(&list, types, &condition, &account, bytes)?;
            return reply(self.aged(response));
        }
        let held = call.request.parked_bytes();
        let hold = bytes.hold(account, Purpose::Transfer, held)?;
        self.app.await_templates(call.handle);
        let pending = Pending::Templates(condition, types.clone(), hold);
        Ok(Handled::Parked(pending))
    }

    /// `GET /app/{type}/{name}`
    pub(super) fn ensure(&self, call: &Call<'_>, key: InstanceKey) -> Outcome {
        let headers = &call.request.headers;
        // The 200 of a stream would be a yes.
        if prefer::events(headers) && !prefer::strict(headers) {
            return self.follow(call, key);
        }
        self.ensured(call, key, None)
    }

    /// `follows`: the start is followed, and whether it may begin.
    fn ensured(&self, call: &Call<'_>, key: InstanceKey, follows: Option<bool>) -> Outcome {
        let variables = call.variables()?;
        let headers = &call.request.headers;
        let condition = match follows {
            Some(_) => Condition::default(),
            None => Condition::of(headers),
        };
        let expectation = if prefer::matches_values(headers) {
            self.app.expect_values(&key.app_type, &variables)?
        } else {
            Expectation::None
        };
        let ready = self.app.ready(&key, &expectation)?;
        // The cache may lag behind, so Kubernetes is asked before a caller hears of other values.
        let is_other = |ready: &Ready| ready.values == ValuesMatch::Other;
        // A browser sends `no-cache` with each request for events.
        let reads =
            (prefer::reads(headers) && follows.is_none()) || ready.as_ref().is_some_and(is_other);
        let touches = prefer::touches(headers) && follows.is_none();
        if let Some(ready) = ready.filter(|_| !reads) {
            let left = self.app.found(&ready, touches);
            return reply(self.aged(expiring(responses::ready(&ready, &condition), left)));
        }
        let may_start = follows.unwrap_or(true) && prefer::create(headers);
        let (intent, starts) = if may_start {
            self.start(call, &key, Intent::Start(variables.into()))?
        } else {
            (Intent::Find, Starts::AsAsked)
        };
        let not_ready = match prefer::strict(headers) {
            true => NotReady::Error,
            false => NotReady::Accepted,
        };
        let pending = Pending::Ensure(starts, condition, not_ready, touches);
        call.park(key, Purpose::Start, pending, |request| {
            let wait = follows.map(|_| Duration::MAX);
            let request = InstanceRequest {
                reads,
                expectation,
                wait: request.wait.or(wait),
                is_patient: request.is_patient || follows.is_some(),
                ..request
            };
            self.app.ensure(request, intent)
        })
    }

    /// This intent, if the caller may start the instance; else to find it.
    fn start(
        &self,
        call: &Call<'_>,
        key: &InstanceKey,
        intent: Intent,
    ) -> Result<(Intent, Starts), Error> {
        let types = &call.caller.types;
        let is_refused = *types != Types::All
            && self
                .app
                .is_ambiguous(key, |app_type| types.contain(app_type))?;
        Ok(if is_refused {
            (Intent::Find, Starts::Refused)
        } else {
            (intent, Starts::AsAsked)
        })
    }

    /// `DELETE /app/{type}/{name}`
    pub(super) fn stop(&self, call: &Call<'_>, key: InstanceKey) -> Outcome {
        let expectation = conditional::precondition(&call.request.headers)?;
        call.park(key, Purpose::Write, Pending::Stop, |request| {
            self.app.stop(InstanceRequest {
                expectation,
                ..request
            })
        })
    }

    /// `PATCH /app/{type}/{name}`
    pub(super) fn label(&self, call: &Call<'_>, key: InstanceKey) -> Outcome {
        let request = call.request;
        let expectation = conditional::precondition(&request.headers)?;
        let content_type = request.headers.get("content-type");
        let object = match body::object(content_type, &request.body, labels::KEYS_MAX) {
            Ok(object) => object,
            Err(detail) => return reply(problem::detail(422, detail)),
        };
        let change = MetaChange::from_body(&object)?;
        let pending = Pending::Label(key.clone());
        call.park(key, Purpose::Write, pending, |request| {
            let request = InstanceRequest {
                expectation,
                ..request
            };
            self.app.label(request, change)
        })
    }

    /// `GET /info`
    pub(super) fn info(&self, _: &Call<'_>) -> Outcome {
        let rev = concat!("config-controller ", env!("CARGO_PKG_VERSION"));
        let body = json!({"status": "UP", "hostname": self.hostname, "rev": rev});
        reply(Response::json(200, body.to_string()))
    }

    /// `GET /livez`
    pub(super) fn livez(&self, _: &Call<'_>) -> Outcome {
        reply(probe(health::live(&self.health_source.inputs())))
    }

    /// `GET /readyz`
    pub(super) fn readyz(&self, _: &Call<'_>) -> Outcome {
        reply(probe(health::ready(&self.health_source.inputs())))
    }

    /// `GET /metrics`
    pub(super) fn metrics(&self, _: &Call<'_>) -> Outcome {
        let text = Body::Owned(self.scrape.text().as_bytes().to_vec());
        reply(Response::with_type(200, metrics::MEDIA_TYPE, text))
    }

    /// `GET /`
    #[allow(clippy::unused_self)] // As all handlers.
    pub(super) fn status_page(&self, call: &Call<'_>) -> Outcome {
        let condition = Condition::of(&call.request.headers);
        reply(status_page::page(&condition))
    }

    /// `GET /openapi.json`
    #[allow(clippy::unused_self)] // As all handlers.
    pub(super) fn openapi(&self, _: &Call<'_>) -> Outcome {
        reply(openapi::document())
    }

    /// `GET /docs`
    #[allow(clippy::unused_self)] // As all handlers.
    pub(super) fn docs(&self, _: &Call<'_>) -> Outcome {
        reply(openapi::docs())
    }

    /// Adds `Server-Timing` with the phases of the start that a response waited for.
    fn timed(&self, timings: Option<&Timings>, response: Response) -> Response {
        let response = self.aged(response);
        match timings {
            Some(timings) => response.header("server-timing", timing::server_timing(timings)),
            None => response,
        }
    }

    /// Adds `X-View-Age` if the cache that a response was read from is stale.
    fn aged(&self, response: Response) -> Response {
        let age = self.app.cache_age();
        if age > CACHE_AGE_REPORTED {
            return response.header(VIEW_AGE, age.as_secs().to_string());
        }
        response
    }
}

impl Call<'_> {
    /// The template variables, from the query of a request that may start an instance; the owner that it names is
    /// checked, too.
    fn variables(&self) -> Result<Variables, Error> {
        self.owner()?;
        let Some(query) = &self.request.query else {
            return Ok(Variables::default());
        };
        Variables::from_query(query)
            .map_err(|error| Error::VariableInvalid(error.to_string().into()))
    }

    /// Parks this request about an instance, and has `hand_over` give it to the app, if its caller
    /// may hold as much.
    fn park(
        &self,
        key: InstanceKey,
        purpose: Purpose,
        pending: Pending,
        hand_over: impl FnOnce(InstanceRequest) -> Result<(), Error>,
    ) -> Outcome {
        let held = self.hold(purpose)?;
        hand_over(self.about(key, held))?;
        Ok(Handled::Parked(pending))
    }

    /// What this request holds while it waits, if its caller may hold as much.
    fn hold(&self, purpose: Purpose) -> Result<Arc<Held>, Error> {
        let account = self.caller.account(self.request.peer);
        let held = self
            .bounds
            .hold(&account, purpose, self.request.parked_bytes());
        held.map_err(|exceeded| match exceeded {
            Exceeded::Bytes(full) => full.into(),
            Exceeded::Places(Full::Budget) => Error::TooManyRequests(Bound::Parked),
            Exceeded::Places(Full::Share) => Error::TooManyRequests(Bound::CallerShare),
        })
    }

    fn origin(&self) -> Origin {
        Origin {
            caller: self.caller.shown(self.request.peer),
            // It was checked with the variables.
            owner: self.owner().unwrap_or_default(),
            request: self.request.id.clone(),
            trace: self.request.trace.clone(),
        }
    }

    /// Whose instance it starts.
    fn owner(&self) -> Result<Option<Arc<str>>, Error> {
        let Some(named) = prefer::owner(&self.request.headers)? else {
            return Ok(self.caller.name.clone());
        };
        match self.caller.rights.owner {
            true => Ok(Some(named.into())),
            false => Err(Error::OwnerForbidden),
        }
    }

    fn about(&self, key: InstanceKey, held: Arc<Held>) -> InstanceRequest {
        InstanceRequest {
            handle: self.handle,
            key,
            by: self.origin(),
            wait: prefer::wait(&self.request.headers),
            is_patient: prefer::wait(&self.request.headers).is_some(),
            reads: prefer::reads(&self.request.headers),
            expectation: Expectation::None,
            held,
        }
    }
}

/// Says how long the instance lives if nobody uses it, if there is a limit.
fn expiring(response: Response, left: Option<Duration>) -> Response {
    match left {
        Some(left) => response.header(EXPIRES_IN, left.as_secs().to_string()),
        None => response,
    }
}

#[allow(clippy::unnecessary_wraps)] // Most handlers end with it.
fn reply(response: Response) -> Outcome {
    Ok(Handled::Reply(response))
}

fn probe(result: Result<(), health::HealthError>) -> Response {
    match result {
        Ok(()) => Response::json(200, r#"{"status":"ok"}"#),
        Err(error) => {
            let body = json!({"status": "error", "msg": error.message, "code": error.code});
            Response::json(503, body.to_string()).header("retry-after", "1")
        }
    }
}
