//! [`Traced`]: a handler that has each request of another as a span.
//!
//! It changes no answer. The span goes from the whole request to its answer, the time that it waits
//! included, and is given to the request, so that what is done for it has a parent. Probes and
//! scrapes have none, nor what is refused before it is a whole request. Where there are no traces
//! nothing is asked, copied or timed.

use super::message::{Method, Refusal, Request, Response};
use super::router::{self, Resource, Routed};
use super::server::{Handled, Handler, Resumed};
use crate::app::RequestHandle;
use crate::metrics::OTHER;
use crate::traces::{Context, OTHER_METHOD, Received, RequestSpan, Traces};

/// Hands requests on, and tells of each.
#[derive(Debug)]
pub struct Traced<H> {
    inner: H,
    traces: Traces,
}

/// What is kept beside a request that waits.
#[derive(Debug)]
pub struct Waiting<P> {
    pending: P,
    span: Option<Box<RequestSpan>>,
}

impl<H: Handler> Traced<H> {
    /// The handler `inner`, whose requests are told of to `traces`.
    #[must_use]
    pub const fn new(inner: H, traces: Traces) -> Self {
        Self { inner, traces }
    }

    fn begin(&self, request: &Request) -> Option<RequestSpan> {
        if !self.traces.is_on() {
            return None;
        }
        let routed = router::route(&request.method, &request.path);
        if let Routed::To(route) = &routed
            && matches!(
                route.resource(),
                Resource::Livez | Resource::Readyz | Resource::Metrics
            )
        {
            return None;
        }
        let route = router::route_labels()[routed.place()];
        let headers = &request.headers;
        self.traces.request(Received {
            method: method(&request.method),
            route: Some(route).filter(|route| *route != OTHER),
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
}

impl<H: Handler> Handler for Traced<H> {
    type Answer = H::Answer;
    type Pending = Waiting<H::Pending>;

    fn handle(&self, mut request: Request, token: RequestHandle) -> Handled<Self::Pending> {
        let span = self.begin(&request);
        request.trace = span.as_ref().map(RequestSpan::context);
        match self.inner.handle(request, token) {
            Handled::Reply(response) => {
                if let Some(span) = span {
                    span.answered(response.status);
                }
                Handled::Reply(response)
            }
            Handled::Parked(pending) => {
                let span = span.map(Box::new);
                Handled::Parked(Waiting { pending, span })
            }
        }
    }

    fn resume(&self, waiting: Self::Pending, answer: H::Answer) -> Resumed<Self::Pending> {
        let Waiting { pending, span } = waiting;
        match self.inner.resume(pending, answer) {
            Resumed::Final(response) => {
                if let Some(span) = span {
                    span.answered(response.status);
                }
                Resumed::Final(response)
            }
            Resumed::Parked(pending) => Resumed::Parked(Waiting { pending, span }),
        }
    }

    fn abandon(&self, token: RequestHandle) {
        self.inner.abandon(token);
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.inner.refuse(refusal)
    }
}

/// Only the methods of HTTP have their names in traces: callers could make up others without end.
const fn method(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        Method::Other(_) => OTHER_METHOD,
    }
}
