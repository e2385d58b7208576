//! Errors of calls to Kubernetes.
//!
//! Code decides by [`Error::class`], never by text. Callers get
//! [`Error::user_message`] (Kubernetes' own message where there is one), the
//! log gets `Display`, which names verb, resource and object. Neither ever
//! holds a token.

use super::status::Status;
use std::fmt;
use std::time::Duration;

/// The verb of a request to the API server, as in RBAC rules, which do not tell a dry run from a create.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// All objects, paged, or the one of a name.
    List,
    /// One object.
    Get,
    /// Changes as they happen.
    Watch,
    /// A new object.
    Create,
    /// The same without storing it.
    DryRun,
    /// A change of one object.
    Patch,
    /// Deletion of one object.
    Delete,
}

impl Verb {
    /// As RBAC rules spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Get => "get",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::DryRun => "dry-run",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }

    /// The HTTP method that carries it.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::List | Self::Get | Self::Watch => "GET",
            Self::Create | Self::DryRun => "POST",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// The class of an error, which decides what happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The object does not exist. (A namespace that does not exist is this too, on a POST.)
    NotFound,
    /// An object of that name exists already; after our POST that may mean success.
    AlreadyExists,
    /// The object has changed, or was replaced by another one, since we read it.
    Conflict,
    /// The version or the continue token is too old; a new list is needed.
    Expired,
    /// Too many requests; see [`Error::retry_after`].
    Throttled,
    /// The credentials are not accepted, even after they were reloaded.
    Unauthorized,
    /// A 403: this service lacks a permission.
    Forbidden,
    /// Admission rejected the request: a plug-in (a 403, for example of a quota), or a webhook or a policy,
    /// which choose the status code.
    Refused,
    /// A 403: a quota is used up. What frees it may happen at any time.
    QuotaExceeded,
    /// The object does not match its schema, or is too large (400, 413, 422).
    Invalid,
    /// The API server is unreachable, slow or failing (5xx, connection, timeout), or the response is not
    /// that of an API server: cut off, too large, another body or status code. Retry.
    Unavailable,
    /// The request could not be built: a bug of this service.
    Unsendable,
}

/// How a call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The API server (or a proxy before it) responded with an error status code.
    Status {
        /// The `Status` in the body.
        status: Box<Status>,
        /// From the `Retry-After` header.
        retry_after: Option<Duration>,
    },
    /// No connection: the request has not reached the server.
    Connect(String),
    /// The request may have reached the server; its response is lost.
    Lost(String),
    /// Nothing was received within the timeout; the request may have reached the server.
    TimedOut(String),
    /// No credentials are available (token file, exec plugin); nothing was sent.
    Credentials(String),
    /// The response could not be decoded.
    InvalidResponse(String),
    /// The response is larger than its bound.
    TooLarge(String),
    /// The request could not be built (an empty name, for example); nothing was sent.
    Request(String),
}

/// A failed call: its verb, resource and object, and how it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The verb of the request.
    pub verb: Verb,
    /// The resource (plural), as in RBAC rules.
    pub resource: &'static str,
    /// The name of the object, if the request has one.
    pub name: Option<Box<str>>,
    /// How it failed.
    pub failure: Failure,
}

impl Error {
    /// The class of the error.
    ///
    /// 403 on a POST: if it names no object, a permission is missing; otherwise a quota or a policy
    /// rejected the object. 403 on all other verbs: a permission is missing.
    #[must_use]
    pub fn class(&self) -> Class {
        let status = match &self.failure {
            Failure::Status { status, .. } => status,
            // What cannot be a response of the API server says nothing about the call.
            Failure::Connect(_)
            | Failure::Lost(_)
            | Failure::TimedOut(_)
            | Failure::Credentials(_)
            | Failure::InvalidResponse(_)
            | Failure::TooLarge(_) => return Class::Unavailable,
            Failure::Request(_) => return Class::Unsendable,
        };
        match status {
            status if status.is_denied_by_admission() => Class::Refused,
            // Without that reason it is a proxy's, or of a server without that API.
            status if status.reason == "NotFound" => Class::NotFound,
            status if status.reason == "AlreadyExists" => Class::AlreadyExists,
            status if status.is("Conflict", 409) => Class::Conflict,
            status if status.is_expired() => Class::Expired,
            status if status.is("TooManyRequests", 429) => Class::Throttled,
            status if status.is_unauthorized() => Class::Unauthorized,
            status if status.is("Forbidden", 403) => {
                let creates = matches!(self.verb, Verb::Create | Verb::DryRun);
                if !creates || status.names_no_object() {
                    Class::Forbidden
                } else if status.is_exceeded_quota() {
                    Class::QuotaExceeded
                } else {
                    Class::Refused
                }
            }
            status if status.is_invalid() => {
                // A patch with another UID in it is refused as a change of the UID
                // (seen on 1.36); a deletion with one is a 409.
                if status.names_uid() {
                    Class::Conflict
                } else {
                    Class::Invalid
                }
            }
            _ => Class::Unavailable,
        }
    }

    /// Whether the request is known not to have reached the server, or to have been turned away at its
    /// door, without valid credentials.
    #[must_use]
    pub fn connect_failed(&self) -> bool {
        match &self.failure {
            Failure::Connect(_) | Failure::Credentials(_) => true,
            Failure::Status { status, .. } => status.is_unauthorized(),
            _ => false,
        }
    }

    /// Whether the request may have reached the server and its outcome is unknown.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        matches!(
            self.failure,
            Failure::Lost(_)
                | Failure::TimedOut(_)
                | Failure::InvalidResponse(_)
                | Failure::TooLarge(_)
        )
    }

    /// The delay before a retry that the server asks for, if any.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.failure {
            Failure::Status {
                status,
                retry_after,
            } => {
                let in_body = status.details.retry_after_seconds;
                retry_after.or_else(|| in_body.map(Duration::from_secs))
            }
            _ => None,
        }
    }

    /// What is known of why the API server could not carry out the call, for our callers: its own message
    /// (of a webhook that is down, for example), at most [`super::status::MESSAGE_BYTES_MAX`] bytes.
    ///
    /// `None` if it says nothing. What is not a `Status` with a reason is a proxy's.
    #[must_use]
    pub fn said_of_outage(&self) -> Option<&str> {
        match &self.failure {
            Failure::Status { status, .. } => Some(&*status.message)
                .filter(|message| !message.is_empty() && !status.reason.is_empty()),
            // Admission runs on changes alone, and its webhooks have 10 s by default, as long as we wait.
            Failure::TimedOut(_) if !matches!(self.verb, Verb::List | Verb::Get | Verb::Watch) => {
                Some("it did not respond in time (an admission webhook may be slow)")
            }
            _ => None,
        }
    }

    /// The message for our callers: Kubernetes' own where there is one.
    #[must_use]
    pub fn user_message(&self) -> String {
        match &self.failure {
            Failure::Status { status, .. } if !status.message.is_empty() => status.message.clone(),
            Failure::Status { status, .. } => {
                format!(
                    "Kubernetes responded with status {} and no message",
                    status.code
                )
            }
            Failure::Connect(_) => "Kubernetes cannot be reached".into(),
            Failure::Lost(_) => "the connection to Kubernetes was lost".into(),
            Failure::TimedOut(_) => "Kubernetes did not respond in time".into(),
            Failure::Credentials(_) => "our credentials for Kubernetes cannot be read".into(),
            Failure::InvalidResponse(_) => "Kubernetes sent an invalid response".into(),
            Failure::TooLarge(_) => "Kubernetes sent a response that is too large".into(),
            Failure::Request(reason) => reason.clone(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}", self.verb.as_str(), self.resource)?;
        if let Some(name) = &self.name {
            write!(f, " \"{name}\"")?;
        }
        match &self.failure {
            Failure::Status { status, .. } => {
                write!(f, ": {} {}", status.code, status.reason)?;
                if !status.message.is_empty() {
                    write!(f, ": {}", status.message)?;
                }
                if status.is_unauthorized() {
                    f.write_str(" (our token or client certificate is not accepted; it may have expired or belong to another cluster)")?;
                }
                Ok(())
            }
            Failure::Connect(reason) => write!(f, ": no connection: {reason}"),
            Failure::Lost(reason) => write!(f, ": connection lost: {reason}"),
            Failure::TimedOut(reason) => write!(f, ": timed out: {reason}"),
            Failure::Credentials(reason) => write!(f, ": no credentials: {reason}"),
            Failure::InvalidResponse(reason) => write!(f, ": invalid response: {reason}"),
            Failure::TooLarge(reason) => write!(f, ": response too large: {reason}"),
            Failure::Request(reason) => write!(f, ": {reason}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::{Class, Error, Failure, Verb};
    use crate::kube::status::Status;
    use std::time::Duration;

    fn error_of_response(verb: Verb, code: u16, body: &str) -> Error {
        let status = Box::new(Status::from_body(code, body.as_bytes()));
        let failure = Failure::Status {
            status,
            retry_after: None,
        };
        Error {
            verb,
            resource: "jobs",
            name: Some("hello-ann".into()),
            failure,
        }
    }

    #[track_caller]
    fn check(verb: Verb, code: u16, body: &str, expected: Class) {
        assert_eq!(error_of_response(verb, code, body).class(), expected);
    }

    #[test]
    fn classes() {
        check(
            Verb::List,
            404,
            r#"{"reason":"NotFound","code":404}"#,
            Class::NotFound,
        );
        check(
            Verb::Create,
            409,
            r#"{"reason":"AlreadyExists"}"#,
            Class::AlreadyExists,
        );
        check(
            Verb::Delete,
            409,
            r#"{"reason":"Conflict"}"#,
            Class::Conflict,
        );
        check(Verb::List, 410, r#"{"reason":"Expired"}"#, Class::Expired);
        check(Verb::Watch, 410, r#"{"reason":"Gone"}"#, Class::Expired);
        check(
            Verb::List,
            401,
            r#"{"reason":"Unauthorized"}"#,
            Class::Unauthorized,
        );
        check(Verb::Create, 422, r#"{"reason":"Invalid"}"#, Class::Invalid);
        check(
            Verb::Create,
            400,
            r#"{"reason":"BadRequest"}"#,
            Class::Invalid,
        );
        check(
            Verb::List,
            500,
            r#"{"reason":"InternalError"}"#,
            Class::Unavailable,
        );
        check(Verb::List, 503, "apiserver is starting", Class::Unavailable);
        check(
            Verb::List,
            504,
            r#"{"reason":"Timeout"}"#,
            Class::Unavailable,
        );
        check(Verb::List, 302, "", Class::Unavailable);
        let too_large = r#"{"reason":"RequestEntityTooLarge"}"#;
        check(Verb::Create, 413, too_large, Class::Invalid);
        let throttled = r#"{"reason":"TooManyRequests","details":{"retryAfterSeconds":2}}"#;
        check(Verb::List, 429, throttled, Class::Throttled);
        assert_eq!(
            error_of_response(Verb::List, 429, throttled).retry_after(),
            Some(Duration::from_secs(2))
        );
    }

    #[test]
    fn a_403_on_a_post_is_a_missing_permission_only_if_it_names_no_object() {
        let right = r#"{"reason":"Forbidden","details":{"kind":"jobs"}}"#;
        let quota = r#"{"reason":"Forbidden","details":{"kind":"jobs","name":"hello-ann"}}"#;
        check(Verb::Create, 403, right, Class::Forbidden);
        check(Verb::Create, 403, quota, Class::Refused);
        // A proxy, or another authorizer; admission says that it is.
        check(
            Verb::Create,
            403,
            r#"{"message":"denied"}"#,
            Class::Forbidden,
        );
        let webhook = r#"{"message":"admission webhook \"w\" denied the request: no"}"#;
        check(Verb::Create, 403, webhook, Class::Refused);
        check(Verb::Delete, 403, quota, Class::Forbidden);
    }

    #[test]
    fn the_log_names_verb_resource_and_object() {
        let error = error_of_response(
            Verb::Delete,
            403,
            r#"{"reason":"Forbidden","message":"no right"}"#,
        );
        assert_eq!(
            error.to_string(),
            "cannot delete jobs \"hello-ann\": 403 Forbidden: no right"
        );
        assert_eq!(error.user_message(), "no right");
        assert!(!error.connect_failed());
    }

    #[test]
    fn only_what_kubernetes_says_of_an_outage_is_for_callers() {
        let said = |verb, code, body: &str| {
            let error = error_of_response(verb, code, body);
            error.said_of_outage().map(str::to_owned)
        };
        let text = r#"Internal error occurred: failed calling webhook \"w.example.com\": failed to call webhook: Post \"https://w.demo.svc:443/?timeout=10s\": dial tcp 10.0.0.7:443: connect: connection refused"#;
        let body = format!(r#"{{"reason":"InternalError","message":"{text}"}}"#);
        let expected = Some(text.replace('\\', ""));
        for verb in [Verb::Create, Verb::Delete, Verb::Patch] {
            assert_eq!(said(verb, 500, &body), expected);
        }
        let long = format!(
            r#"{{"reason":"InternalError","message":"{}"}}"#,
            "x".repeat(5000)
        );
        let bytes = said(Verb::Create, 500, &long).map(|text| text.len());
        assert_eq!(bytes, Some(crate::kube::status::MESSAGE_BYTES_MAX));
        assert_eq!(said(Verb::Create, 502, "<html>bad gateway"), None);
        assert_eq!(
            said(Verb::Create, 500, r#"{"reason":"InternalError"}"#),
            None
        );
        let timed_out = |verb| Error {
            verb,
            failure: Failure::TimedOut("10 s".into()),
            ..error_of_response(verb, 500, "")
        };
        assert!(timed_out(Verb::Create).said_of_outage().is_some());
        assert_eq!(timed_out(Verb::List).said_of_outage(), None);
    }

    #[test]
    fn a_401_names_possible_causes() {
        let body = r#"{"reason":"Unauthorized","message":"Unauthorized"}"#;
        assert_eq!(
            error_of_response(Verb::List, 401, body).to_string(),
            "cannot list jobs \"hello-ann\": 401 Unauthorized: Unauthorized (our token or client certificate is not accepted; it may have expired or belong to another cluster)"
        );
    }
}
