//! Traces: what a request and a start were made of, as spans for a collector (OTLP).
//!
//! A leaf, as [`crate::metrics`] is: it knows nothing of the service, and whoever has something to
//! tell may import it. Whose spans there are is decided where they happen ([`crate::http`] for
//! requests, [`crate::app`] for starts); here they get numbers and times, and go. [`Traces`] is the
//! way in; where nobody wants traces it is empty, and asking it costs one comparison.
//!
//! The crates of OpenTelemetry are named in `traces/otlp.rs` alone, the HTTP client for the
//! collector in `traces/post.rs`; without the cargo feature `traces` neither is in the program, and
//! `traces/off.rs` stands in their place. There are no globals.

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
pub use settings::{Headers, Root, Sampler, Settings, Share};

use crate::clock::Clock;
use otlp::{Span, Tracer};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long the end of the service waits for the last spans to be sent.
pub const FLUSH_LONGEST: Duration = Duration::from_secs(2);

/// How much of a path a span tells, in bytes; a head may be a hundred times longer.
pub const PATH_BYTES_MAX: usize = 256;

/// Where traces go, if anywhere; clones lead to the same place.
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

/// What became of spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The collector took them.
    pub sent: u64,
    /// The collector did not take them, or was not there.
    pub failed: u64,
    /// Too many waited already.
    pub dropped: u64,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text of the program.
    Word(&'static str),
    /// Any text.
    Text(String),
    /// A number.
    Number(i64),
}

/// Attributes of a span, by their names.
pub type Attributes = Vec<(&'static str, Value)>;

/// A piece of work that is over, with the steps that it was made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// What it was, in a word; what differs from time to time is in the attributes.
    pub name: &'static str,
    /// What it was done for.
    pub parent: Context,
    /// What else it served.
    pub links: Vec<Context>,
    /// What there is to say of it.
    pub attributes: Attributes,
    /// What it was made of.
    pub steps: Vec<Step>,
    /// What happened meanwhile, and when.
    pub events: Vec<(&'static str, SystemTime)>,
    /// When it began.
    pub begin: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

/// A part of a [`Work`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it was.
    pub name: &'static str,
    /// When it began.
    pub begin: SystemTime,
    /// When it ended.
    pub end: SystemTime,
}

/// A request that has come in.
#[derive(Clone, Debug)]
pub struct Received<'a> {
    /// One of the methods of HTTP, or `_OTHER`.
    pub method: &'static str,
    /// The path with names in place of what differs; `None` where it leads nowhere.
    pub route: Option<&'static str>,
    /// The path as it was received.
    pub path: &'a str,
    /// Whether it came through TLS.
    pub is_secure: bool,
    /// Who sent it.
    pub peer: String,
    /// Its name in the log.
    pub id: &'a str,
    /// The span of its sender.
    pub parent: Option<Context>,
}

impl Traces {
    /// Traces that go where the settings say; nowhere where they say nothing. `instance` is the name
    /// of this replica.
    ///
    /// # Errors
    /// A sentence, where the settings cannot be followed.
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

    /// Whether traces go anywhere.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The span of a request, which goes on until its answer.
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
        attributes.extend(
            received
                .route
                .map(|route| ("http.route", Value::Word(route))),
        );
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

    /// Tells of a piece of work that is over.
    pub fn tell(&self, work: Work) {
        if let Some(inner) = &self.0 {
            inner.tracer.tell(work);
        }
    }

    /// What became of the spans so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let inner = self.0.as_ref();
        inner.map(|inner| inner.tracer.counts()).unwrap_or_default()
    }

    /// Sends what waits, for [`FLUSH_LONGEST`] and no longer than `longest`. Nothing is told after that.
    pub fn close(&self, longest: Duration) {
        if let Some(inner) = &self.0 {
            inner.tracer.close(longest.min(FLUSH_LONGEST));
        }
    }
}

/// Stands for a method that is none of HTTP's (semantic conventions).
pub const OTHER_METHOD: &str = "_OTHER";

/// The span of a request that is under way. It ends with the answer, or with this value: then the
/// caller has gone, or the handler has panicked.
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
    /// By which others name it as their parent.
    #[must_use]
    pub fn context(&self) -> Context {
        self.span.context()
    }

    /// The request is answered with this status.
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
        // By the clock that only goes forward, from the time of day at which it began.
        let end = self.wall + self.clock.now().saturating_duration_since(self.begun);
        // What kept us from an answer is in `error.type`; that the caller left is no failure of ours.
        let failed = status_is_error(error.as_deref());
        self.span.end(attributes.collect(), failed, end);
    }
}

/// The words of `error.type` where there is no answer.
const CALLER_GONE: &str = "caller_gone";
const PANICKED: &str = "panicked";

fn status_is_error(error: Option<&str>) -> bool {
    error.is_some_and(|error| error != CALLER_GONE)
}

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
