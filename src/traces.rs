//! Tracing: requests and starts as spans, sent to a collector (OTLP).
//!
//! A leaf like [`crate::metrics`]: it knows nothing of the service, and every module may import it.
//! [`crate::http`] decides on the spans of requests, [`crate::app`] on those of starts; this module
//! gives them ids and times, and exports them. [`Traces`] is the entry point; with tracing off it is
//! empty, and calling it costs one comparison.
//!
//! Only `traces/otlp.rs` names the crates of OpenTelemetry, only `traces/post.rs` the HTTP client for
//! the collector. Without the cargo feature `traces` neither is compiled, and `traces/off.rs` replaces
//! them. There are no globals.

mod context;
#[cfg(not(feature = "traces"))]
#[path = "traces/off.rs"]
mod otlp;
#[cfg(feature = "traces")]
mod otlp;
#[cfg(feature = "traces")]
mod post;
mod settings;

pub use context::{Context, TRACESTATE_BYTES_MAX};
pub use settings::{Headers, Sampler, Settings};

use crate::clock::Clock;
use otlp::{Span, Tracer};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a shutdown waits for the last spans to be sent.
pub const FLUSH_LONGEST: Duration = Duration::from_secs(2);

/// Maximum length of a path in a span, in bytes; longer ones are cut.
pub const PATH_BYTES_MAX: usize = 256;

/// The exporter of traces, or nothing with tracing off; clones share it.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Inner>>);

struct Inner {
    tracer: Tracer,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Traces").field(&self.is_on()).finish()
    }
}

/// Whether traces can be sent with these settings; nothing is started or sent.
///
/// # Errors
/// The problem of the URL, the headers or the CA file.
pub fn check(settings: &Settings) -> Result<(), String> {
    otlp::check(settings)
}

/// Results of spans, as counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted by the collector.
    pub sent: u64,
    /// Rejected by the collector, or it was unreachable.
    pub failed: u64,
    /// Dropped because the queue was full.
    pub dropped: u64,
}

/// Value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A constant text.
    Word(&'static str),
    /// Any text.
    Text(String),
    /// A number.
    Number(i64),
}

/// Attributes of a span: names and values.
pub type Attributes = Vec<(&'static str, Value)>;

/// A finished piece of work and its steps; becomes a span with child spans.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// Name of the span, of few different values; variable parts go into the attributes.
    pub name: &'static str,
    /// The parent span.
    pub parent: Context,
    /// Spans of other requests that it also served.
    pub links: Vec<Context>,
    /// Attributes of the span.
    pub attributes: Attributes,
    /// The child spans.
    pub steps: Vec<Step>,
    /// Span events and their times.
    pub events: Vec<(&'static str, SystemTime)>,
    /// Start time.
    pub begin: SystemTime,
    /// End time.
    pub end: SystemTime,
    /// The value of `error.type`, if it failed.
    pub error: Option<String>,
}

/// A part of a [`Work`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Name of the span.
    pub name: &'static str,
    /// Start time.
    pub begin: SystemTime,
    /// End time.
    pub end: SystemTime,
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// An HTTP method, or `_OTHER`.
    pub method: &'static str,
    /// The path template; `None` if no route matches.
    pub route: Option<&'static str>,
    /// The path, as received.
    pub path: &'a str,
    /// Whether it came over TLS.
    pub is_secure: bool,
    /// Address of the peer.
    pub peer: String,
    /// The request id.
    pub id: &'a str,
    /// The caller's span.
    pub parent: Option<Context>,
}

impl Traces {
    /// Starts tracing with these settings; `None` means off. `instance` is the name of this replica.
    ///
    /// # Errors
    /// The problem of the settings.
    pub fn start(
        settings: Option<&Settings>,
        instance: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let Some(settings) = settings else {
            return Ok(Self::default());
        };
        let tracer = Tracer::start(settings, instance)?;
        Ok(Self(tracer.map(|tracer| Arc::new(Inner { tracer, clock }))))
    }

    /// Whether tracing is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Starts the span of a request, which ends with its response.
    #[must_use]
    pub fn request(&self, received: Received<'_>) -> Option<RequestSpan> {
        let inner = self.0.as_ref()?;
        let (begun, wall) = (inner.clock.now(), inner.clock.wall_now());
        let name = match received.route {
            Some(route) => format!("{} {route}", received.method),
            None if received.method == OTHER_METHOD => "HTTP".to_owned(),
            None => received.method.to_owned(),
        };
        let scheme = if received.is_secure { "https" } else { "http" };
        let path = &received.path[..received.path.floor_char_boundary(PATH_BYTES_MAX)];
        let mut attributes = vec![
            ("http.request.method", Value::Word(received.method)),
            ("url.path", Value::Text(path.to_owned())),
            ("url.scheme", Value::Word(scheme)),
            ("client.address", Value::Text(received.peer)),
            (
                "config_controller.request_id",
                Value::Text(received.id.to_owned()),
            ),
        ];
        if let Some(route) = received.route {
            attributes.push(("http.route", Value::Word(route)));
        }
        let parent = received.parent.as_ref();
        let span = inner.tracer.begin_request(name, parent, attributes, wall);
        Some(RequestSpan {
            span,
            begun,
            wall,
            clock: Arc::clone(&inner.clock),
            has_ended: false,
        })
    }

    /// Exports a finished piece of work.
    pub fn export(&self, work: Work) {
        if let Some(inner) = &self.0 {
            inner.tracer.export(work);
        }
    }

    /// Results of all spans so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let inner = self.0.as_ref();
        inner.map(|inner| inner.tracer.counts()).unwrap_or_default()
    }

    /// Sends the waiting spans, for at most [`FLUSH_LONGEST`] and `longest`. Later spans are lost.
    pub fn close(&self, longest: Duration) {
        if let Some(inner) = &self.0 {
            inner.tracer.close(longest.min(FLUSH_LONGEST));
        }
    }
}

/// Value for an unknown method (OpenTelemetry semantic conventions).
pub const OTHER_METHOD: &str = "_OTHER";

/// The span of a request in progress. It ends with the response, or when this value is dropped: then
/// the caller has disconnected or the handler has panicked.
pub struct RequestSpan {
    span: Span,
    begun: Instant,
    wall: SystemTime,
    clock: Arc<dyn Clock>,
    has_ended: bool,
}

impl fmt::Debug for RequestSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RequestSpan").field(&self.context()).finish()
    }
}

impl RequestSpan {
    /// The context by which child spans refer to it.
    #[must_use]
    pub fn context(&self) -> Context {
        self.span.context()
    }

    /// Ends the span with the status code of the response.
    pub fn answered(mut self, status: u16) {
        let error = (status >= 500).then(|| status.to_string());
        self.end(Some(status), error);
    }

    fn end(&mut self, status: Option<u16>, error: Option<String>) {
        self.has_ended = true;
        let status = status.map(|status| Value::Number(status.into()));
        let error_type = error.clone().map(Value::Text);
        let attributes = [
            ("http.response.status_code", status),
            ("error.type", error_type),
        ];
        let attributes = attributes
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        // Monotonic duration added to the wall-clock start, so that clock changes do not matter.
        let end = self.wall + self.clock.now().saturating_duration_since(self.begun);
        // `error.type` has the cause; a caller that disconnected is not a failure of the service.
        let failed = error.is_some_and(|error| error != CALLER_GONE);
        self.span.end(attributes.collect(), failed, end);
    }
}

/// Values of `error.type` without a response.
const CALLER_GONE: &str = "caller_gone";
const PANICKED: &str = "panicked";

impl Drop for RequestSpan {
    fn drop(&mut self) {
        if self.has_ended {
            return;
        }
        if std::thread::panicking() {
            self.end(Some(500), Some(PANICKED.to_owned()));
        } else {
            self.end(None, Some(CALLER_GONE.to_owned()));
        }
    }
}
