//! The single mapping from an error of the app or of authentication to status code, stable code and
//! text.
//!
//! Pure. The body has one of two shapes (contract A1, A2): plain for GET, wrapped in `detail` for
//! PATCH, DELETE and `/release`. Callers may rely on the stable codes, not on the texts.

use super::auth::Denied;
use super::message::Response;
use crate::app::admissions::Refusal;
use crate::app::{Bound, Error, NoLog};
use serde_json::{Value, json};

/// An error as the response shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status code.
    pub status: u16,
    /// The stable code for programs.
    pub code: &'static str,
    /// The sentence for people.
    pub message: String,
    /// Seconds for `Retry-After`, if a retry can help.
    pub retry_after_secs: Option<u64>,
}

/// The shape of an error's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `{"status":"error","msg":…,"code":…}`
    Plain,
    /// `{"detail":{"status":…,"msg":…,"code":…}}`; holds the `status` of a 404.
    Detail(&'static str),
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let (status, code, retry_after_secs) = match error {
            Error::UnknownType { .. } => (404, "unknown_type", None),
            Error::BadName(_) => (422, "bad_name", None),
            Error::TemplateInvalid(_) => (422, "template_invalid", None),
            Error::VariableMissing(_) => (422, "variable_missing", None),
            Error::VariableInvalid(_) => (422, "variable_invalid", None),
            Error::ReservedKey(_) => (422, "reserved_key", None),
            Error::KeyInvalid(_) => (422, "key_invalid", None),
            Error::ValueInvalid(_) => (422, "value_invalid", None),
            Error::LabelsLimit(_) => (422, "labels_limit", None),
            Error::NameTaken(_) | Error::NameOfOtherType(_) => (409, "name_taken", None),
            Error::NoInstance(_) | Error::NoSession(_) => (404, "not_found", None),
            Error::OtherValues(_) => (409, "other_values", None),
            Error::PreconditionFailed(_) => (412, "precondition_failed", None),
            Error::BadHeader(_) => (400, "bad_request", None),
            Error::QueryInvalid(_) => (422, "query_invalid", None),
            Error::TypeForbidden(_) | Error::OwnerForbidden => (403, "forbidden", None),
            Error::NoLog(NoLog::NotStarted, _) => (409, "not_started", Some(1)),
            Error::NoLog(NoLog::NoPreviousRun, _) => (404, "no_previous_run", None),
            Error::NoLog(NoLog::Gone, _) => (404, "log_gone", None),
            Error::NoLog(NoLog::NotPermitted, _) => (501, "logs_not_permitted", None),
            Error::Stopped => (409, "stopped", None),
            Error::Refused(_) => (403, "refused", None),
            Error::QuotaExceeded(_) => (403, "refused", Some(1)),
            Error::NoPlace(Refusal::NotPermitted) => (500, "not_permitted", None),
            Error::LimitReached | Error::NoPlace(_) => (429, "limit_reached", Some(1)),
            Error::InstancesTakeMemory { .. } => (429, "limit_reached", Some(10)),
            Error::TooManyRequests(Bound::CallerShare) => (429, "share_exhausted", Some(1)),
            Error::TooManyRequests(_) => (429, "too_many_requests", Some(1)),
            Error::Overloaded => (503, "overloaded", Some(1)),
            Error::ListTooLarge { .. } => (503, "overloaded", None),
            Error::NotPermitted => (500, "not_permitted", None),
            Error::NamespaceMissing => (500, "namespace_missing", None),
            Error::Unavailable { retry_after, .. } => (
                503,
                "kubernetes_unavailable",
                Some(whole_secs(*retry_after)),
            ),
            Error::NotSynced => (503, "not_synced", Some(1)),
            Error::Draining => (503, "draining", Some(1)),
            Error::Internal => (500, "internal", None),
        };
        Self {
            status,
            code,
            message: error.to_string(),
            retry_after_secs,
        }
    }
}

impl From<&Denied> for Problem {
    fn from(denied: &Denied) -> Self {
        let (status, code, retry_after_secs) = match denied {
            Denied::Missing | Denied::Malformed | Denied::Unknown => (401, "unauthorized", None),
            Denied::Forbidden(_) | Denied::Bound | Denied::NoLogs | Denied::NotListed(_) => {
                (403, "forbidden", None)
            }
            Denied::TooMany { retry_after } => {
                (429, "too_many_requests", Some(whole_secs(*retry_after)))
            }
        };
        let message = match denied {
            Denied::Missing => {
                "this service requires a token; send it as 'Authorization: Bearer TOKEN'".into()
            }
            Denied::Malformed => "the Authorization header must be a single 'Bearer TOKEN'".into(),
            Denied::Unknown => "the token is unknown or has expired".into(),
            Denied::Forbidden(app_type) => {
                Error::TypeForbidden(app_type.as_str().into()).to_string()
            }
            Denied::Bound => {
                "this token is bound to app types, and the response would name all; use a token without types".into()
            }
            Denied::NoLogs => {
                "this caller has no right to read logs; its line in the tokens file, or its entry in AUTH_ALLOW, must have the right 'logs'".into()
            }
            Denied::NotListed(user) => {
                format!("'{user}' is not among the service accounts that may call")
            }
            Denied::TooMany { .. } => "too many wrong tokens from this address; retry later".into(),
        };
        Self {
            status,
            code,
            message,
            retry_after_secs,
        }
    }
}

/// An error with this value under `detail`, as 2.7.1 has it where no code of ours fits.
pub(super) fn detail(status: u16, detail: Value) -> Response {
    Response::json(status, json!({ "detail": detail }).to_string())
}

/// Rounded up, since an earlier retry does not help; at least 1.
pub(super) fn whole_secs(duration: std::time::Duration) -> u64 {
    let begun = u64::from(duration.subsec_nanos() > 0);
    duration.as_secs().saturating_add(begun).max(1)
}

impl Problem {
    /// The response, with a body of this shape.
    #[must_use]
    pub fn response(&self, shape: Shape) -> Response {
        let body = match shape {
            Shape::Plain => self.object("error"),
            Shape::Detail(none) => {
                let word = if self.code == "not_found" {
                    none
                } else {
                    "error"
                };
                json!({"detail": self.object(word)})
            }
        };
        let response = Response::json(self.status, body.to_string());
        match self.retry_after_secs {
            Some(secs) => response.header("retry-after", secs.to_string()),
            None => response,
        }
    }

    fn object(&self, word: &str) -> Value {
        json!({"status": word, "msg": self.message, "code": self.code})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::error::KNOWN_TYPES_MAX;
    use crate::model::names::AppType;
    use std::time::Duration;

    #[track_caller]
    fn check(error: &Error, shape: Shape, status: u16, body: &str) {
        let response = Problem::from(error).response(shape);
        assert_eq!(response.status, status);
        assert_eq!(std::str::from_utf8(&response.body).unwrap(), body);
    }

    #[test]
    fn errors_of_a_get_are_plain_objects() {
        let error = Error::UnknownType {
            app_type: "nope".into(),
            known: ["hello", "slow"]
                .map(|one| AppType::new(one).unwrap())
                .into(),
        };
        check(
            &error,
            Shape::Plain,
            404,
            r#"{"status":"error","msg":"unknown app type 'nope'; known types: hello, slow","code":"unknown_type"}"#,
        );
    }

    #[test]
    fn errors_name_a_bounded_number_of_types() {
        let message = |count: usize| {
            let known: Vec<AppType> = (0..count)
                .map(|n| AppType::new(&format!("t{n}")).unwrap())
                .collect();
            let app_type = "nope".into();
            Error::UnknownType { app_type, known }.to_string()
        };
        assert!(message(KNOWN_TYPES_MAX).ends_with(", t98, t99"));
        let over = message(KNOWN_TYPES_MAX + 1);
        assert!(over.ends_with(", t99 and 1 more, which GET /app lists"));
    }

    #[test]
    fn errors_of_patch_and_delete_are_wrapped() {
        check(
            &Error::Draining,
            Shape::Detail("No job found"),
            503,
            r#"{"detail":{"status":"error","msg":"this replica is shutting down; retry","code":"draining"}}"#,
        );
    }

    #[test]
    fn a_retry_after_is_rounded_up_to_seconds() {
        let error = Error::Unavailable {
            retry_after: Duration::from_millis(2500),
            said: None,
        };
        let response = Problem::from(&error).response(Shape::Plain);
        assert!(
            response
                .headers
                .contains(&("retry-after".into(), "3".into()))
        );
    }
}
