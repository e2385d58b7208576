//! [`Dispatcher`]: takes a request to its endpoint, and the response back to the front.
//!
//! Each request passes the same steps in the same order: route, span, host check, authentication,
//! origin check, handler; each response is counted and ends the span. What is known of a request on
//! entry is kept in one `Exchange` until the response, however long the request waits. What an
//! endpoint does is in [`super::handlers`], which endpoints there are in [`super::endpoints`].

use super::auth::authenticator::{Authentication, Authenticator, Standing};
use super::auth::{Access, Caller, Denied};
use super::endpoints::{self, Endpoint, HostRule, Tracing};
use super::handlers::{Api, Call, Pending};
use super::hosts::{self, AllowedHosts};
use super::message::{Method, Refusal, Request, Response};
use super::origin;
use super::problem::{self, Problem, Shape};
use super::router::{self, Routed};
use super::server::{Handled, Handler, Part};
use crate::app::review::Asked;
use crate::app::{self, Error, RequestHandle, ResponseSink, TokenStatus};
use crate::budget::{Full, Hold, Purpose, WaitingBounds};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::traces::{Context, OTHER_METHOD, Received, RequestSpan, Traces};
use percent_encoding::{AsciiSet, utf8_percent_encode};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// The value of the label `cause` of `config_controller_rejected_total` where a request or its
/// response has no room in `HELD_BYTES_MAX`.
const HELD_BYTES: &str = "held_bytes_max";

/// As [`HELD_BYTES`], where the instances take all memory that there is for them.
const INSTANCE_BYTES: &str = "instance_bytes_max";

/// The handler that the front calls.
#[derive(Debug)]
pub struct Dispatcher {
    /// The handlers.
    pub api: Api,
    /// The names under which callers may use the service.
    pub hosts: AllowedHosts,
    /// Every request passes it before its handler.
    pub authenticator: Authenticator,
    /// What requests that wait may hold.
    pub bounds: WaitingBounds,
    /// Metrics, clock and traces.
    pub instrumentation: Instrumentation,
}

/// Metrics, clock and traces of requests.
#[derive(Clone, Debug)]
pub struct Instrumentation {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The traces.
    pub traces: Traces,
    /// How long they take.
    pub clock: Arc<dyn Clock>,
}

/// The state of a request from its arrival until its response.
#[derive(Debug)]
struct Exchange {
    handle: RequestHandle,
    method: Method,
    /// `None` where method and path lead to no endpoint.
    endpoint: Option<&'static Endpoint>,
    /// [`Caller::ANONYMOUS`] until the caller is authenticated.
    caller: Caller,
    /// To check the caller again while the response lasts.
    standing: Option<Box<Standing>>,
    /// Boxed: most requests have none, and an exchange is moved several times.
    span: Option<Box<RequestSpan>>,
}

impl Exchange {
    /// The body of an error of this request.
    fn errors(&self) -> Shape {
        match (self.endpoint, &self.method) {
            (Some(endpoint), _) => endpoint.errors,
            (None, Method::Patch | Method::Delete) => Shape::Detail("error"),
            (None, _) => Shape::Plain,
        }
    }
}

/// A request that waits.
#[derive(Debug)]
pub struct Waiting {
    exchange: Exchange,
    what_for: WaitingFor,
}

/// What a request waits for.
#[derive(Debug)]
enum WaitingFor {
    /// The review of its token.
    Review(Box<PendingAuthentication>),
    /// For a response of the app.
    App(Pending),
}

/// A request whose token Kubernetes is reviewing.
#[derive(Debug)]
struct PendingAuthentication {
    request: Request,
    routed: Routed,
    /// Its bytes. The reviewer bounds the number of requests that wait for it.
    hold: Hold,
}

impl ResponseSink for super::mailbox::Mailboxes<app::Response> {
    fn respond(&self, handle: RequestHandle, response: app::Response) {
        Self::answer(self, handle, response);
    }

    fn announce(&self) {
        Self::announce(self);
    }
}

impl Handler for Dispatcher {
    type AppResponse = app::Response;
    /// Boxed: each connection has room for one, and few requests wait.
    type Pending = Box<Waiting>;

    fn handle(&self, mut request: Request, handle: RequestHandle) -> Handled<Self::Pending> {
        let started = self.instrumentation.clock.now();
        let routed = router::route(&request.method, &request.path);
        let endpoint = routed.endpoint();
        let span = self.span(&request, endpoint);
        request.trace = span.as_ref().map(|span| span.context());
        let mut exchange = Exchange {
            handle,
            method: request.method.clone(),
            endpoint,
            caller: Caller::ANONYMOUS,
            standing: None,
            span: span.map(Box::new),
        };
        let handled = if self.allows_host(endpoint, &request) {
            self.authenticate(&mut exchange, routed, request)
        } else {
            Handled::Refused(Refusal::HostNotAllowed)
        };
        let handled = self.conclude(exchange, handled);
        if matches!(handled, Handled::Reply(_)) {
            let Instrumentation { metrics, clock, .. } = &self.instrumentation;
            let (thread, label) = (handle.io as usize, endpoints::label(endpoint));
            metrics.http.took(thread, label, clock.now() - started);
        }
        handled
    }

    fn resume(&self, waiting: Box<Waiting>, response: app::Response) -> Handled<Self::Pending> {
        let Waiting {
            mut exchange,
            what_for,
        } = *waiting;
        let handled = match (what_for, response) {
            (WaitingFor::Review(pending), app::Response::TokenReviewed(result)) => {
                let PendingAuthentication {
                    request,
                    routed,
                    hold,
                } = *pending;
                // It is charged anew if it waits again.
                drop(hold);
                self.reviewed(&mut exchange, routed, &request, result)
            }
            // The app responds only to requests whose token was reviewed.
            (WaitingFor::Review(_), _) => Handled::Reply(self.failed(&exchange, Error::Internal)),
            // Of a stream, whose next check finds it.
            (WaitingFor::App(pending), app::Response::TokenReviewed(_)) => {
                Handled::Streams(WaitingFor::App(pending))
            }
            (WaitingFor::App(pending), response) => {
                let failed = |error| self.failed(&exchange, error);
                let handled = self.api.resume(pending, response, failed);
                handled.map(WaitingFor::App)
            }
        };
        self.conclude(exchange, handled)
    }

    fn pull(&self, waiting: &mut Box<Waiting>, is_draining: bool, room: usize) -> Part {
        let Waiting { exchange, what_for } = &mut **waiting;
        if !self.still_admits(exchange) {
            return Part::CUT;
        }
        let part = match what_for {
            WaitingFor::App(pending) => self.api.pull(pending, is_draining, room),
            // Nothing streams before its caller is known.
            WaitingFor::Review(_) => Part::default(),
        };
        if let Some(response) = &part.begins {
            self.answered(exchange, response.status);
            if let Some(standing) = &mut exchange.standing {
                standing.begin();
            }
        }
        part
    }

    fn abandon(&self, handle: RequestHandle, waiting: Option<Box<Waiting>>) {
        let app = &self.api.app;
        match waiting.map(|waiting| waiting.what_for) {
            Some(WaitingFor::Review(_)) => app.abandon_review(handle),
            Some(WaitingFor::App(Pending::List(..) | Pending::Templates(..))) => {
                app.abandon_list(handle);
            }
            Some(WaitingFor::App(Pending::StopMany)) => app.abandon_stops(handle),
            Some(WaitingFor::App(Pending::Events(_))) => app.abandon_relist(handle),
            // It ends the reading as it is dropped.
            Some(WaitingFor::App(Pending::Log(_))) => {}
            Some(WaitingFor::App(_)) => app.abandon(handle),
            None => {
                app.abandon_stops(handle);
                app.abandon_relist(handle);
                app.abandon_review(handle);
                app.abandon_list(handle);
                app.abandon(handle);
            }
        }
    }
}

impl Dispatcher {
    /// Whether the service may be called by the name in this request.
    fn allows_host(&self, endpoint: Option<&Endpoint>, request: &Request) -> bool {
        let host = request.host();
        let rule = endpoint.map_or(HostRule::Listed, Endpoint::host_rule);
        match rule {
            HostRule::Any => true,
            HostRule::ListedOrAddress if hosts::is_address(host) => true,
            _ => self.hosts.allow(host, request.secure),
        }
    }

    /// Begins the span of a request, which lasts until its response; the time that it waits is part
    /// of it.
    fn span(&self, request: &Request, endpoint: Option<&'static Endpoint>) -> Option<RequestSpan> {
        let traces = &self.instrumentation.traces;
        let untraced = |endpoint: &Endpoint| endpoint.tracing == Tracing::Untraced;
        if !traces.is_on() || endpoint.is_some_and(untraced) {
            return None;
        }
        let headers = &request.headers;
        traces.request(Received {
            method: request.method.known().unwrap_or(OTHER_METHOD),
            route: endpoint.map(|endpoint| endpoint.path),
            path: &request.path,
            is_secure: request.secure,
            peer: request.peer.to_string(),
            id: request.id.as_str(),
            parent: Context::of_caller(
                headers.get_all("traceparent"),
                headers.get_all("tracestate"),
            ),
        })
    }

    /// Authenticates the caller, and serves the request, denies it, or has its token reviewed.
    fn authenticate(
        &self,
        exchange: &mut Exchange,
        routed: Routed,
        request: Request,
    ) -> Handled<WaitingFor> {
        let access = access_of(&routed);
        let app_type = routed.app_type();
        let (bearer, scope) = match self.authenticator.authenticate(&request, access, app_type) {
            Ok(Authentication::Admitted(caller)) => {
                exchange.caller = caller;
                return self.serve(exchange, routed, &request);
            }
            Ok(Authentication::Review { bearer, scope }) => (bearer, scope),
            Err(denied) => return Handled::Reply(self.denied(exchange, &denied)),
        };
        let (app, peer) = (&self.api.app, request.peer);
        match app.review(&bearer, exchange.handle, peer, scope) {
            Ok(Asked::Known(status)) => self.reviewed(exchange, routed, &request, Ok(status)),
            Ok(Asked::OutOfScope) => {
                // Room for a review is soon there again.
                let retry_after = Duration::from_secs(1);
                Handled::Reply(self.denied(exchange, &Denied::TooMany { retry_after }))
            }
            Ok(Asked::Waits) => match self.hold_until_reviewed(exchange, &request) {
                Ok(hold) => {
                    let pending = PendingAuthentication {
                        request,
                        routed,
                        hold,
                    };
                    Handled::Parked(WaitingFor::Review(Box::new(pending)))
                }
                Err(full) => {
                    // The review continues, so that a retry finds its result.
                    self.api.app.abandon_review(exchange.handle);
                    Handled::Reply(self.failed(exchange, full.into()))
                }
            },
            Err(error) => Handled::Reply(self.failed(exchange, error)),
        }
    }

    /// Whether the caller of a stream may still have it.
    fn still_admits(&self, exchange: &mut Exchange) -> bool {
        let Some(standing) = &mut exchange.standing else {
            return true;
        };
        let (app, handle) = (&self.api.app, exchange.handle);
        let ask = |bearer: &_, peer| app.review_again(bearer, handle, peer);
        (self.authenticator).still_admits(standing, &exchange.caller, ask)
    }

    /// Charges a request to its peer: who the caller is shows its token only.
    fn hold_until_reviewed(&self, exchange: &Exchange, request: &Request) -> Result<Hold, Full> {
        let account = exchange.caller.account(request.peer);
        let purpose = match request.method {
            Method::Patch | Method::Delete => Purpose::Write,
            _ => Purpose::Start,
        };
        self.bounds
            .bytes
            .hold(account, purpose, request.parked_bytes())
    }

    /// Continues a request whose token was reviewed.
    fn reviewed(
        &self,
        exchange: &mut Exchange,
        routed: Routed,
        request: &Request,
        result: Result<TokenStatus, Error>,
    ) -> Handled<WaitingFor> {
        let token_status = match result {
            Ok(token_status) => token_status,
            Err(error) => return Handled::Reply(self.failed(exchange, error)),
        };
        let app_type = routed.app_type();
        let authenticator = &self.authenticator;
        match authenticator.reviewed(request.peer, access_of(&routed), app_type, &token_status) {
            Ok(caller) => {
                exchange.caller = caller;
                self.serve(exchange, routed, request)
            }
            Err(denied) => Handled::Reply(self.denied(exchange, &denied)),
        }
    }

    /// Serves a request whose caller is authenticated.
    fn serve(
        &self,
        exchange: &mut Exchange,
        routed: Routed,
        request: &Request,
    ) -> Handled<WaitingFor> {
        let (endpoint, target) = match routed {
            Routed::To(endpoint, target) => (endpoint, target),
            Routed::BadName(_, error) => {
                return Handled::Reply(self.failed(exchange, Error::BadName(error)));
            }
            Routed::Redirect(path) => return Handled::Reply(redirect(path, request)),
            Routed::NotFound => return Handled::Reply(problem::detail(404, json!("Not Found"))),
            Routed::MethodNotAllowed(endpoint) => {
                let response = problem::detail(405, json!("Method Not Allowed"));
                return Handled::Reply(response.header("allow", endpoint.allow()));
            }
        };
        if let Some(problem) = origin::refusal(endpoint.effect, &request.headers) {
            return Handled::Reply(problem.response(endpoint.errors));
        }
        let call = Call {
            request,
            caller: &exchange.caller,
            handle: exchange.handle,
            bounds: &self.bounds,
        };
        match endpoint.call(&self.api, &call, target) {
            Ok(handled) => {
                if let Handled::Parked(pending) | Handled::Streams(pending) = &handled
                    && pending.lasts()
                {
                    exchange.standing = self.authenticator.standing(request);
                }
                handled.map(WaitingFor::App)
            }
            Err(error) => Handled::Reply(self.failed(exchange, error)),
        }
    }

    /// The response to a denied caller; a 401 names the authentication scheme (RFC 9110 §11.6.1).
    fn denied(&self, exchange: &Exchange, denied: &Denied) -> Response {
        self.instrumentation.metrics.rejected(denied.cause());
        let problem = Problem::from(denied);
        let response = problem.response(exchange.errors());
        if problem.status == 401 {
            return response.header("www-authenticate", "Bearer");
        }
        response
    }

    /// The response where the app cannot do what was asked for; a bound is counted.
    fn failed(&self, exchange: &Exchange, mut error: Error) -> Response {
        match &mut error {
            Error::TooManyRequests(bound) => self.instrumentation.metrics.rejected(bound.cause()),
            Error::TypeForbidden(app_type) => {
                let denied = Denied::Forbidden(app_type.to_string());
                self.instrumentation.metrics.rejected(denied.cause());
            }
            Error::NoPlace(refusal) => {
                self.instrumentation.metrics.start_refused(refusal.scope());
            }
            Error::InstancesTakeMemory { .. } => {
                self.instrumentation.metrics.rejected(INSTANCE_BYTES);
            }
            Error::Overloaded | Error::ListTooLarge { .. } => {
                self.instrumentation.metrics.rejected(HELD_BYTES);
            }
            // As the list of types, the error names only those that the caller may use.
            Error::UnknownType { known, .. } => {
                *known = self.api.app.types().unwrap_or_default();
                known.retain(|app_type| exchange.caller.types.contain(app_type.as_str()));
            }
            _ => {}
        }
        Problem::from(&error).response(exchange.errors())
    }

    /// Counts a response and ends the span, or keeps the exchange while the request waits.
    fn conclude(
        &self,
        mut exchange: Exchange,
        handled: Handled<WaitingFor>,
    ) -> Handled<Box<Waiting>> {
        match handled {
            Handled::Reply(mut response) => {
                if exchange.endpoint.is_some_and(|it| it.ends_lines) {
                    response.body.end_line();
                }
                self.answered(&mut exchange, response.status);
                Handled::Reply(response)
            }
            // The front counts it.
            Handled::Refused(refusal) => {
                if let Some(span) = exchange.span {
                    span.answered(refusal.status());
                }
                Handled::Refused(refusal)
            }
            waits => waits.map(|what_for| Box::new(Waiting { exchange, what_for })),
        }
    }

    /// Counts a response with this status, which has begun, and ends the span.
    fn answered(&self, exchange: &mut Exchange, status: u16) {
        let label = endpoints::label(exchange.endpoint);
        let (thread, method) = (exchange.handle.io as usize, exchange.method.as_str());
        let http = &self.instrumentation.metrics.http;
        http.answered(thread, label, method, status);
        if let Some(span) = exchange.span.take() {
            span.answered(status);
        }
    }
}

/// What the caller needs; also for unknown paths.
const fn access_of(routed: &Routed) -> Access {
    match routed {
        Routed::To(endpoint, _) => endpoint.access,
        _ => Access::Authenticated,
    }
}

/// What is percent-encoded in `Location`, besides all that is not ASCII.
const NOT_IN_LOCATION: &AsciiSet = &percent_encoding::CONTROLS.add(b' ');

/// 307, so that the method and the body stay (contract B2).
fn redirect(path: String, request: &Request) -> Response {
    let target = match &request.query {
        Some(query) => format!("{path}?{query}"),
        None => path,
    };
    // HTTP/1.0 needs no host; a path alone is relative to the request's URL (RFC 9110 §10.2.2).
    let origin = request.host().filter(|host| !host.is_empty());
    let scheme = if request.secure { "https" } else { "http" };
    let origin = origin.map(|host| format!("{scheme}://{host}"));
    // A path may hold bytes that a header may not.
    let location = origin.unwrap_or_default() + &target;
    let location: String = utf8_percent_encode(&location, NOT_IN_LOCATION).collect();
    Response::empty(307).header("location", location)
}

#[cfg(test)]
mod tests;
