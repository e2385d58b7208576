//! From a request to the app and back to an answer.
//!
//! [`Api`] is the handler that the front calls: it finds the route, asks [`App`], and
//! writes what comes back as the contract's JSON. It holds no state of instances and
//! decides nothing about them; what a path means is decided in [`super::router`], what
//! an error looks like in [`super::problem`].

mod answers;
mod entrance;
mod legacy;

use super::auth::Caller;
use super::auth::authenticator::Authenticator;
use super::message::{Body, Request, Response};
use super::problem::{Problem, Shape};
use super::router::{self, Resource, Route, Routed};
use super::server::{Handled, Handler, Resumed};
use super::{body, openapi, origin, prefer, timing};
use crate::app::flight::Intent;
use crate::app::{self, Answer, App, Asked, Error, Origin, RequestHandle};
use crate::clock::Clock;
use crate::health::{self, HealthSource};
use crate::metrics::{self, Metrics, Scrape};
use crate::model::labels::MetaChange;
use crate::model::names::InstanceKey;
use crate::model::template::Variables;
use entrance::Held;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// A cache older than this is told in `X-View-Age`.
const CACHE_AGE_REPORTED: Duration = Duration::from_secs(5);

/// What stands in `detail.status` where there is no instance to stop.
const NO_JOB: &str = "No job found";

/// The handler of all routes.
#[derive(Debug)]
pub struct Api {
    app: App,
    health_source: Arc<dyn HealthSource>,
    hostname: String,
    watched: Watched,
    authenticator: Authenticator,
}

/// What requests are counted with.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
    /// What `/metrics` answers.
    pub scrape: Arc<dyn Scrape>,
    /// How long they take.
    pub clock: Arc<dyn Clock>,
}

/// What is kept beside a request that waits: how its answer looks.
#[derive(Debug)]
pub enum Pending {
    /// A GET of this instance.
    Ensure(InstanceKey),
    /// A PATCH.
    Label,
    /// A DELETE.
    Stop,
    /// A start by the older route.
    Create(InstanceKey),
    /// A stop by the older route, of whatever has this name or session.
    Release(String),
    /// Any request whose token is being reviewed.
    Review(Box<Held>),
}

impl Pending {
    fn shape(&self) -> Shape {
        match self {
            Self::Ensure(_) | Self::Create(_) | Self::Review(_) => Shape::Plain,
            Self::Label => Shape::Detail("error"),
            Self::Stop => Shape::Detail(NO_JOB),
            Self::Release(_) => legacy::RELEASE_SHAPE,
        }
    }

    /// The error in the words of what was asked for.
    fn told(&self, error: Error) -> Error {
        match (self, error) {
            // It was found, and was gone before it could be stopped.
            (Self::Release(name), Error::NoInstance(_)) => Error::NoSession(name.as_str().into()),
            (_, error) => error,
        }
    }

    fn resource(&self) -> Resource {
        match self {
            Self::Ensure(_) | Self::Label | Self::Stop => Resource::Instance,
            Self::Create(_) => Resource::LegacyCreate,
            Self::Release(_) => Resource::LegacyRelease,
            Self::Review(held) => held.resource(),
        }
    }

    fn method(&self) -> &str {
        match self {
            Self::Ensure(_) | Self::Create(_) | Self::Release(_) => "GET",
            Self::Label => "PATCH",
            Self::Stop => "DELETE",
            Self::Review(held) => held.method(),
        }
    }
}

impl app::AnswerSink for super::mailbox::Mailboxes<Answer> {
    fn answer(&self, token: RequestHandle, answer: Answer) {
        Self::answer(self, token, answer);
    }
}

impl Handler for Api {
    type Answer = Answer;
    type Pending = Pending;

    fn handle(&self, request: Request, token: RequestHandle) -> Handled<Pending> {
        let begun = self.watched.clock.now();
        let routed = router::route(&request.method, &request.path);
        let (place, thread) = (routed.place(), token.io as usize);
        let method = request.method.clone();
        let handled = self.enter(routed, request, token);
        if let Handled::Reply(response) = &handled {
            let http = &self.watched.metrics.http;
            http.answered(thread, place, method.as_str(), response.status);
            http.took(thread, place, self.watched.clock.now() - begun);
        }
        handled
    }

    fn resume(&self, pending: Pending, answer: Answer) -> Resumed<Pending> {
        let (pending, answer) = match (pending, answer) {
            (Pending::Review(held), Answer::Reviewed(result)) => {
                return self.resume_reviewed(&held, result);
            }
            other => other,
        };
        let response = match answer {
            answer if matches!(pending, Pending::Create(_)) => {
                self.timed(&pending, legacy::created(&answer))
            }
            Answer::Ready(ready) => self.timed(&pending, answers::ready(&ready)),
            Answer::Progress(progress) if matches!(pending, Pending::Stop) => {
                answers::going(&progress)
            }
            Answer::Progress(progress) => self.timed(&pending, answers::progress(&progress)),
            Answer::Done => Response::json(200, r#"{"status":"Success"}"#),
            Answer::Failed(error) => self.problem(&pending.told(error), pending.shape()),
            // Only a request that waits for its review is answered with one.
            Answer::Reviewed(_) => problem(&Error::Internal, pending.shape()),
        };
        // Which thread this is does not matter: few requests come this way.
        let place = pending.resource() as usize;
        let http = &self.watched.metrics.http;
        http.answered(0, place, pending.method(), response.status);
        Resumed::Final(response)
    }

    fn abandon(&self, token: RequestHandle) {
        self.app.abandon(token);
    }
}

impl Api {
    /// The handler over this app, behind this authenticator; `hostname` is what `/info` shows.
    #[must_use]
    pub fn new(
        app: App,
        health_source: Arc<dyn HealthSource>,
        hostname: String,
        authenticator: Authenticator,
        watched: Watched,
    ) -> Self {
        Self {
            app,
            health_source,
            hostname,
            authenticator,
            watched,
        }
    }

    /// Answers a request that was let in.
    fn admitted(
        &self,
        routed: Routed,
        request: &Request,
        caller: &Caller,
        token: RequestHandle,
    ) -> Handled<Pending> {
        match routed {
            Routed::To(route) => self.serve(route, request, caller, token),
            Routed::BadName(error, _) => {
                let shape = match request.method.as_str() {
                    "PATCH" | "DELETE" => Shape::Detail("error"),
                    _ => Shape::Plain,
                };
                Handled::Reply(problem(&Error::BadName(error), shape))
            }
            Routed::Redirect(path) => Handled::Reply(redirect(&path, request)),
            Routed::NotFound => Handled::Reply(detail(404, "Not Found")),
            Routed::MethodNotAllowed(allow) => {
                Handled::Reply(detail(405, "Method Not Allowed").header("allow", allow))
            }
        }
    }

    fn serve(
        &self,
        route: Route,
        request: &Request,
        caller: &Caller,
        token: RequestHandle,
    ) -> Handled<Pending> {
        if let Some(problem) = origin::refusal(&route, &request.headers) {
            let shape = match route {
                Route::Label(_) => Pending::Label.shape(),
                Route::Stop(_) => Pending::Stop.shape(),
                Route::LegacyRelease(_) => legacy::RELEASE_SHAPE,
                _ => Shape::Plain,
            };
            return Handled::Reply(problem.response(shape));
        }
        match route {
            Route::Types => Handled::Reply(self.types(caller)),
            Route::Instances(app_type) | Route::LegacyInstances(app_type) => {
                Handled::Reply(self.instances(&app_type))
            }
            Route::Ensure(key) => self.ensure(key, request, caller, token),
            Route::Label(key) => self.label(asked(key, request, caller, token), request),
            Route::Stop(key) => self.stop(asked(key, request, caller, token)),
            Route::LegacyCreate(app_type) => self.create(&app_type, request, caller, token),
            Route::LegacyRelease(name) => self.release(name, request, caller, token),
            Route::Info => Handled::Reply(self.info()),
            Route::Livez => Handled::Reply(probe(health::live(&self.health_source.inputs()))),
            Route::Readyz => Handled::Reply(probe(health::ready(&self.health_source.inputs()))),
            Route::Metrics => Handled::Reply(self.metrics()),
            Route::OpenApi => Handled::Reply(openapi::document()),
            Route::Docs => Handled::Reply(openapi::docs()),
        }
    }

    fn types(&self, caller: &Caller) -> Response {
        match self.app.types() {
            Ok(types) => {
                let names = types.iter().map(|app_type| app_type.as_str());
                let names: Vec<&str> = names.filter(|name| caller.types.contain(name)).collect();
                self.aged(Response::json(200, json!(names).to_string()))
            }
            Err(error) => problem(&error, Shape::Plain),
        }
    }

    fn instances(&self, app_type: &str) -> Response {
        match self.app.instances(app_type) {
            Ok(entries) => self.aged(answers::list(&entries)),
            Err(error) => problem(&error, Shape::Plain),
        }
    }

    fn ensure(
        &self,
        key: InstanceKey,
        request: &Request,
        caller: &Caller,
        token: RequestHandle,
    ) -> Handled<Pending> {
        let variables = match variables(request) {
            Ok(variables) => variables,
            Err(error) => return Handled::Reply(problem(&error, Shape::Plain)),
        };
        match self.app.ready(&key) {
            Ok(Some(ready)) => return Handled::Reply(self.aged(answers::ready(&ready))),
            Ok(None) => {}
            Err(error) => return Handled::Reply(problem(&error, Shape::Plain)),
        }
        let intent = if prefer::create(&request.headers) {
            Intent::Start
        } else {
            Intent::Find
        };
        let asked = asked(key.clone(), request, caller, token);
        let handed_over = self.app.ensure(asked, variables, intent);
        self.parked(handed_over, Pending::Ensure(key))
    }

    fn stop(&self, asked: Asked) -> Handled<Pending> {
        self.parked(self.app.stop(asked), Pending::Stop)
    }

    fn label(&self, asked: Asked, request: &Request) -> Handled<Pending> {
        let object = match body::object(request.headers.get("content-type"), &request.body) {
            Ok(object) => object,
            Err(detail) => {
                let body = json!({ "detail": detail }).to_string();
                return Handled::Reply(Response::json(422, body));
            }
        };
        match MetaChange::from_body(&object) {
            Ok(change) => self.parked(self.app.label(asked, change), Pending::Label),
            Err(error) => Handled::Reply(problem(&error.into(), Pending::Label.shape())),
        }
    }

    fn parked(&self, handed_over: Result<(), Error>, pending: Pending) -> Handled<Pending> {
        match handed_over {
            Ok(()) => Handled::Parked(pending),
            Err(error) => Handled::Reply(self.problem(&error, pending.shape())),
        }
    }

    /// As the function, for what the app answers: it may be at a bound, which is counted.
    fn problem(&self, error: &Error, shape: Shape) -> Response {
        if let Error::TooManyRequests(bound) = error {
            // Bounds that are settings are named after them.
            let setting = bound.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
            let cause = bound.to_ascii_lowercase();
            let cause = if setting { &cause } else { "inbox" };
            self.watched.metrics.rejected(cause);
        }
        problem(error, shape)
    }

    fn metrics(&self) -> Response {
        let text = self.watched.scrape.text();
        Response::with_type(200, metrics::MEDIA_TYPE, Body::Owned(text.into()))
    }

    fn info(&self) -> Response {
        let rev = concat!("config-controller ", env!("CARGO_PKG_VERSION"));
        let body = json!({"status": "UP", "hostname": self.hostname, "rev": rev});
        Response::json(200, body.to_string())
    }

    /// Says where the time of a start has gone that an answer had to wait for.
    fn timed(&self, pending: &Pending, response: Response) -> Response {
        let response = self.aged(response);
        let (Pending::Ensure(key) | Pending::Create(key)) = pending else {
            return response;
        };
        match self.app.timings(key) {
            Some(timings) => response.header("server-timing", timing::server_timing(&timings)),
            None => response,
        }
    }

    /// Says how old the cache is that an answer was read from, where that is worth knowing.
    fn aged(&self, response: Response) -> Response {
        let age = self.app.cache_age();
        if age > CACHE_AGE_REPORTED {
            return response.header("x-view-age", age.as_secs().to_string());
        }
        response
    }
}

/// The values for the template: all that the query says.
fn variables(request: &Request) -> Result<Variables, Error> {
    let query = request.query.as_deref().unwrap_or("");
    Variables::from_query(query).map_err(|error| Error::VariableInvalid(error.to_string().into()))
}

fn asked(key: InstanceKey, request: &Request, caller: &Caller, token: RequestHandle) -> Asked {
    let by = Origin {
        who: caller.shown(request.peer),
        request: request.id.clone(),
        trace: request.trace.clone(),
    };
    Asked {
        token,
        key,
        by,
        wait: prefer::wait(&request.headers),
    }
}

fn problem(error: &Error, shape: Shape) -> Response {
    Problem::from(error).response(shape)
}

fn detail(status: u16, text: &str) -> Response {
    Response::json(status, json!({ "detail": text }).to_string())
}

/// 307, so that the method and the body stay (contract B2).
fn redirect(path: &str, request: &Request) -> Response {
    let query = request
        .query
        .as_ref()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    // A path may hold bytes that a header may not.
    let target = format!("{path}{query}");
    let target: String =
        percent_encoding::utf8_percent_encode(&target, percent_encoding::CONTROLS).collect();
    // HTTP/1.0 needs no host; a path alone is relative to whatever was asked (RFC 9110 §10.2.2).
    let origin = request.host().filter(|host| !host.is_empty());
    let scheme = if request.secure { "https" } else { "http" };
    let origin = origin.map(|host| format!("{scheme}://{host}"));
    Response::empty(307).header("location", origin.unwrap_or_default() + &target)
}

fn probe(verdict: Result<(), health::HealthError>) -> Response {
    match verdict {
        Ok(()) => Response::json(200, r#"{"status":"ok"}"#),
        Err(ailment) => {
            let body = json!({"status": "error", "msg": ailment.message, "code": ailment.code});
            Response::json(503, body.to_string()).header("retry-after", "1")
        }
    }
}

#[cfg(test)]
mod tests;
