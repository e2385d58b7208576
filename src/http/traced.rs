//! The span of a request, from its arrival until its response; the time that it waits is part of it.
//!
//! Here stands only what a span says of a request. Which requests have one is a column of
//! [`super::endpoints`]; what is refused before it is a whole request has none.

use super::message::{Method, Request};
use crate::traces::{Context, OTHER_METHOD, Received, RequestSpan, Traces};

/// Begins the span of a request for this route; `None` where it leads to no endpoint.
#[must_use]
pub fn span(
    traces: &Traces,
    request: &Request,
    route: Option<&'static str>,
) -> Option<RequestSpan> {
    let headers = &request.headers;
    traces.request(Received {
        method: method(&request.method),
        route,
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
