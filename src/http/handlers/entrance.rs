//! The way in: what the authenticator says of a request, and what a review says of a parked one.

use super::{Api, Pending};
use crate::app::review::{Bearer, Verdict};
use crate::app::{Error, RequestHandle};
use crate::http::auth::Denied;
use crate::http::auth::authenticator::Entry;
use crate::http::message::{Method, Request, Response};
use crate::http::problem::{Problem, Shape};
use crate::http::router::{self, Resource, Route, Routed};
use crate::http::server::{Handled, Resumed};

/// A request that waits until Kubernetes has said whose token it carries.
#[derive(Debug)]
pub struct Held {
    request: Request,
    token: RequestHandle,
    bearer: Bearer,
}

impl Held {
    /// The name of its method.
    pub(super) fn method(&self) -> &str {
        self.request.method.as_str()
    }

    /// The path that it asks for, as metrics name it.
    pub(super) fn resource(&self) -> Resource {
        match router::route(&self.request.method, &self.request.path) {
            Routed::To(route) => route.resource(),
            // What is no route is answered at once, whatever its token; this one waits.
            _ => Resource::Instance,
        }
    }
}

impl Api {
    /// Lets the request in, turns it away, or parks it for a review.
    pub(super) fn enter(
        &self,
        routed: Routed,
        request: Request,
        token: RequestHandle,
    ) -> Handled<Pending> {
        let bearer = match self.authenticator.enter(&request, &routed) {
            Entry::In(caller) => return self.admitted(routed, &request, &caller, token),
            Entry::Out(denied) => {
                return Handled::Reply(turned_away(&denied, shape(&routed, &request.method)));
            }
            Entry::Review(bearer) => bearer,
        };
        match self.app.review(&bearer, token) {
            Ok(Some(verdict)) => self.reviewed(routed, &request, &bearer, &verdict, token),
            Ok(None) => Handled::Parked(Pending::Review(Box::new(Held {
                request,
                token,
                bearer,
            }))),
            Err(error) => Handled::Reply(failed(&error, shape(&routed, &request.method))),
        }
    }

    /// Goes on with a request whose token was reviewed.
    pub(super) fn resume_reviewed(
        &self,
        held: &Held,
        result: Result<Verdict, Error>,
    ) -> Resumed<Pending> {
        let Held {
            request,
            token,
            bearer,
        } = held;
        let routed = router::route(&request.method, &request.path);
        let place = routed.place();
        let handled = match result {
            Ok(verdict) => self.reviewed(routed, request, bearer, &verdict, *token),
            Err(error) => Handled::Reply(failed(&error, shape(&routed, &request.method))),
        };
        match handled {
            Handled::Reply(response) => {
                let http = &self.watched.metrics.http;
                http.answered(0, place, held.method(), response.status);
                Resumed::Final(response)
            }
            Handled::Parked(pending) => Resumed::Parked(pending),
        }
    }

    fn reviewed(
        &self,
        routed: Routed,
        request: &Request,
        bearer: &Bearer,
        verdict: &Verdict,
        token: RequestHandle,
    ) -> Handled<Pending> {
        match self
            .authenticator
            .reviewed(bearer, request.peer, &routed, verdict)
        {
            Ok(caller) => self.admitted(routed, request, &caller, token),
            Err(denied) => Handled::Reply(turned_away(&denied, shape(&routed, &request.method))),
        }
    }
}

/// The answer to a request that is not let in; 401 says how to (RFC 9110 §11.6.1).
fn turned_away(denied: &Denied, shape: Shape) -> Response {
    let problem = Problem::from(denied);
    let response = problem.response(shape);
    if problem.status == 401 {
        return response.header("www-authenticate", "Bearer");
    }
    response
}

fn failed(error: &Error, shape: Shape) -> Response {
    Problem::from(error).response(shape)
}

/// As the errors of that route look (contract A2).
fn shape(routed: &Routed, method: &Method) -> Shape {
    match (routed, method) {
        (Routed::To(Route::LegacyRelease(_)), _) | (_, Method::Patch | Method::Delete) => {
            Shape::Detail("error")
        }
        _ => Shape::Plain,
    }
}
