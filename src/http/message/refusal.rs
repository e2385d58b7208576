//! [`Refusal`]: why the server itself responds to a request with an error.
//!
//! Pure. The status and the stable `code` of each cause stand in one table;
//! the body is the contract's error object, which a handler may replace.

use super::Response;
use crate::budget::Full;
use serde_json::json;
use std::mem::discriminant;

/// Why the server itself responds with an error. What it finds while it receives a request ends the
/// connection; a refusal of a complete request does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The head, the target or the framing of the body is malformed; the text names the problem.
    /// The caller must send something else.
    BadRequest(&'static str),
    /// The head did not arrive within its time.
    HeadTimeout,
    /// The body did not arrive within its time.
    BodyTimeout,
    /// The body is larger than allowed, or its announced length is.
    BodyTooLarge,
    /// The request line is longer than a head may be.
    TargetTooLong,
    /// The body has a content coding, such as gzip.
    ContentEncoding,
    /// An `Expect` other than `100-continue`.
    ExpectationFailed,
    /// `Host` is none of those that callers may use.
    HostNotAllowed,
    /// The head is too long or has too many fields.
    HeadTooLarge,
    /// A transfer coding or a method that changes the protocol.
    NotImplemented(&'static str),
    /// Neither HTTP/1.0 nor HTTP/1.1.
    VersionNotSupported,
    /// All connections are in use; retry after a second.
    TooManyConnections,
    /// This peer uses all connections that one peer may have.
    TooManyFromPeer,
    /// Requests and responses of all connections hold as many bytes as they may.
    NoMemory,
    /// The caller holds its share of what requests may hold.
    ShareExhausted,
    /// A handler panicked, or returned a response that cannot be sent.
    Panicked,
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Self {
        match full {
            Full::Budget => Self::NoMemory,
            Full::Share => Self::ShareExhausted,
        }
    }
}

impl Refusal {
    /// One of each cause, for tables and tests.
    pub const ALL: [Self; 16] = [
        Self::BadRequest("malformed request"),
        Self::HeadTimeout,
        Self::BodyTimeout,
        Self::BodyTooLarge,
        Self::TargetTooLong,
        Self::ContentEncoding,
        Self::ExpectationFailed,
        Self::HostNotAllowed,
        Self::HeadTooLarge,
        Self::NotImplemented("not implemented"),
        Self::VersionNotSupported,
        Self::TooManyConnections,
        Self::TooManyFromPeer,
        Self::NoMemory,
        Self::ShareExhausted,
        Self::Panicked,
    ];

    /// The index of the cause in [`Refusal::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        let is_it = |one: &Self| discriminant(one) == discriminant(&self);
        let index = Self::ALL.iter().position(is_it);
        index.expect("ALL has each cause")
    }

    /// The status code, the stable word, and the word for metrics.
    const fn row(self) -> (u16, &'static str, &'static str) {
        match self {
            Self::BadRequest(_) => (400, "bad_request", "bad_request"),
            Self::HeadTimeout => (408, "request_timeout", "head_timeout"),
            Self::BodyTimeout => (408, "request_timeout", "body_timeout"),
            Self::BodyTooLarge => (413, "body_too_large", "body_too_large"),
            Self::TargetTooLong => (414, "target_too_long", "target_too_long"),
            Self::ContentEncoding => (415, "unsupported_encoding", "content_encoding"),
            Self::ExpectationFailed => (417, "expectation_failed", "expectation_failed"),
            Self::HostNotAllowed => (421, "host_not_allowed", "host_not_allowed"),
            Self::HeadTooLarge => (431, "head_too_large", "head_too_large"),
            Self::NotImplemented(_) => (501, "not_implemented", "not_implemented"),
            Self::VersionNotSupported => (505, "version_not_supported", "version_not_supported"),
            Self::TooManyConnections => (503, "overloaded", "too_many_connections"),
            Self::TooManyFromPeer => (429, "too_many_requests", "too_many_from_peer"),
            Self::NoMemory => (503, "overloaded", "no_memory"),
            Self::ShareExhausted => (429, "share_exhausted", "share_exhausted"),
            Self::Panicked => (500, "internal", "panicked"),
        }
    }

    /// The status code.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().0
    }

    /// The stable word for programs, as in the body's `code`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        self.row().1
    }

    /// The human-readable message, as in the body's `msg`.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::BadRequest(what) | Self::NotImplemented(what) => what,
            Self::HeadTimeout => "the request head did not arrive in time",
            Self::BodyTimeout => "the request body did not arrive in time",
            Self::BodyTooLarge => "the request body is too large",
            Self::TargetTooLong => "the request target is too long",
            Self::ContentEncoding => {
                "the body is compressed, which is not supported; send it without Content-Encoding"
            }
            Self::ExpectationFailed => "only the expectation 100-continue is supported",
            Self::HostNotAllowed => {
                "the service must not be called by the name in Host; use one of those in ALLOWED_HOSTS"
            }
            Self::HeadTooLarge => "the request head is too long or has too many fields",
            Self::VersionNotSupported => "only HTTP/1.1 and HTTP/1.0 are supported",
            Self::TooManyConnections => "too many connections",
            Self::TooManyFromPeer => "too many connections from this address",
            Self::NoMemory => {
                "requests and responses use all memory set aside for them (HELD_BYTES_MAX); retry later"
            }
            Self::ShareExhausted => {
                "requests of this caller use its share of the memory set aside for requests; retry when some have been answered"
            }
            Self::Panicked => "an internal error; the log of the server says more",
        }
    }

    /// The word for the label of a metric, one for each cause.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.row().2
    }

    /// Seconds for `Retry-After`, if a retry can help.
    #[must_use]
    pub const fn retry_after_secs(self) -> Option<u32> {
        match self {
            Self::TooManyConnections
            | Self::TooManyFromPeer
            | Self::NoMemory
            | Self::ShareExhausted => Some(1),
            _ => None,
        }
    }

    /// The response, in the contract's shape: `{"status":"error","msg":…,"code":…}`.
    #[must_use]
    pub fn response(self) -> Response {
        let body = json!({"status": "error", "msg": self.message(), "code": self.code()});
        let mut response = Response::json(self.status(), body.to_string());
        if self == Self::ContentEncoding {
            // RFC 9110 §12.5.3: tells the 415 from that of a media type.
            response = response.header("accept-encoding", "identity");
        }
        match self.retry_after_secs() {
            Some(secs) => response.header("retry-after", secs.to_string()),
            None => response,
        }
    }
}
