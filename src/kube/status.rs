//! The `Status` object: how the API server reports errors.
//!
//! The reason decides, the status code only where there is no reason: a 409 is
//! `AlreadyExists` or `Conflict`, a 410 `Expired` or `Gone`. Their classes are in
//! [`super::error`]; source: apimachinery's `meta/v1` types.

mod cut;

use serde::Deserialize;
use serde::de::Error as _;

/// A `Status` object (meta/v1), as far as we read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The HTTP status code.
    #[serde(deserialize_with = "null_is_default")]
    pub code: u16,
    /// One CamelCase word; may be empty.
    #[serde(deserialize_with = "null_is_default")]
    pub reason: String,
    /// A human-readable message.
    #[serde(deserialize_with = "null_is_default")]
    pub message: String,
    /// The object it is about; empty if the API server names none.
    #[serde(deserialize_with = "null_is_default")]
    pub details: Details,
}

/// The object that a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// Name of the object.
    #[serde(deserialize_with = "null_is_default")]
    pub name: String,
    /// The resource (plural), in spite of its name.
    #[serde(deserialize_with = "null_is_default")]
    pub kind: String,
    /// Seconds to wait before a retry.
    pub retry_after_seconds: Option<u64>,
    /// The invalid fields.
    #[serde(deserialize_with = "null_is_default")]
    pub causes: Vec<Cause>,
}

/// One invalid field of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// Path of the field, as `metadata.uid`.
    pub field: Option<String>,
}

/// Reads a `Status` that says that a call was carried out.
///
/// # Errors
/// When it is anything else.
pub(super) fn decode_success(body: &[u8]) -> Result<(), serde_json::Error> {
    #[derive(Deserialize)]
    struct Success {
        kind: String,
        status: String,
    }
    let Success { kind, status } = serde_json::from_slice(body)?;
    if kind != "Status" || status != "Success" {
        return Err(serde_json::Error::custom("not a Status of success"));
    }
    Ok(())
}

/// A value that Kubernetes may write as `null`.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// How much of a message is kept, in bytes. That of a quota or a webhook is for people.
pub const MESSAGE_BYTES_MAX: usize = 4096;

/// How much of a reason, a name or a path of a field is kept, in bytes.
const WORD_BYTES_MAX: usize = 256;

/// How many invalid fields are kept.
const CAUSES_MAX: usize = 32;

/// Longest text that is kept from a body that is not a `Status`, in characters.
const OTHER_BODY_CHARS_MAX: usize = 200;

impl Status {
    /// Reads the body of a response with that status code.
    ///
    /// A body that is not a `Status` becomes one with its first characters as message. Proxies send
    /// such bodies, and so does an API server that is starting.
    #[must_use]
    pub fn from_body(code: u16, body: &[u8]) -> Self {
        let parsed: Option<Self> = serde_json::from_slice(body).ok();
        match parsed.or_else(|| cut::read(code, body)) {
            Some(status) if !status.message.is_empty() || !status.reason.is_empty() => Self {
                code,
                ..status.bounded()
            },
            _ => {
                let text = String::from_utf8_lossy(body);
                let message = text.trim().chars().take(OTHER_BODY_CHARS_MAX).collect();
                Self {
                    code,
                    message,
                    ..Self::default()
                }
            }
        }
    }

    /// The same with texts and causes cut to their bounds: requests that wait hold it.
    #[must_use]
    pub(super) fn bounded(mut self) -> Self {
        let cut = |text: &mut String, bytes: usize| {
            text.truncate(text.floor_char_boundary(bytes));
            text.shrink_to_fit();
        };
        cut(&mut self.message, MESSAGE_BYTES_MAX);
        for word in [
            &mut self.reason,
            &mut self.details.name,
            &mut self.details.kind,
        ] {
            cut(word, WORD_BYTES_MAX);
        }
        self.details.causes.truncate(CAUSES_MAX);
        for cause in &mut self.details.causes {
            cause
                .field
                .iter_mut()
                .for_each(|field| cut(field, WORD_BYTES_MAX));
        }
        self
    }

    /// The version or the continue token is too old; a new list is needed.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.reason == "Expired" || self.is("Gone", 410)
    }

    /// The credentials are not (any longer) accepted.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        self.is("Unauthorized", 401)
    }

    /// The API server rejects the content of the request. It always gives a reason, unlike a proxy.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        let reasons = ["Invalid", "BadRequest", "RequestEntityTooLarge"];
        reasons.contains(&self.reason.as_str())
    }

    /// Whether a webhook or a `ValidatingAdmissionPolicy` denied the request. They choose code and reason;
    /// the API server begins the message.
    #[must_use]
    pub fn is_denied_by_admission(&self) -> bool {
        let text = &self.message;
        let webhook =
            text.starts_with("admission webhook ") && text.contains(" denied the request");
        webhook
            || text.contains("ValidatingAdmissionPolicy '") && text.contains(" denied request: ")
    }

    /// The sentence of the quota admission plug-in (`jobs.batch "x" is forbidden: exceeded quota: …`); there
    /// is no reason of its own for it.
    pub(super) fn is_exceeded_quota(&self) -> bool {
        self.message.contains("exceeded quota")
    }

    /// Whether a 403 names no object: a permission of this service is missing. On a POST, RBAC names the
    /// kind alone, or nothing (a proxy, another authorizer); a quota or a policy names the object. A webhook
    /// gives no details at all ([`Status::is_denied_by_admission`]; all seen on 1.36).
    #[must_use]
    pub const fn names_no_object(&self) -> bool {
        self.details.name.is_empty()
    }

    /// Whether the UID is among the invalid fields: the object is another one.
    #[must_use]
    pub fn names_uid(&self) -> bool {
        let mut causes = self.details.causes.iter();
        causes.any(|cause| cause.field.as_deref() == Some("metadata.uid"))
    }

    /// Whether it has this reason or, without any, this code.
    pub(super) fn is(&self, reason: &str, code: u16) -> bool {
        self.reason == reason || (self.reason.is_empty() && self.code == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(code: u16, body: &str) -> Status {
        Status::from_body(code, body.as_bytes())
    }

    #[test]
    fn the_reason_decides_before_the_code() {
        let exists = read(
            409,
            r#"{"kind":"Status","reason":"AlreadyExists","code":409}"#,
        );
        assert!(!exists.is("Conflict", 409));
        let conflict = read(409, r#"{"kind":"Status","reason":"Conflict","code":409}"#);
        assert!(conflict.is("Conflict", 409));
        for reason in ["Expired", "Gone"] {
            let body = format!(r#"{{"reason":"{reason}","message":"too old","code":410}}"#);
            assert!(read(410, &body).is_expired());
        }
        assert!(read(404, "404 page not found").is("NotFound", 404));
    }

    #[test]
    fn a_body_that_is_no_status_becomes_a_short_message() {
        let status = read(502, &format!("  <html>{}", "x".repeat(1000)));
        assert_eq!(status.code, 502);
        assert_eq!(status.message.chars().count(), 200);
        assert_eq!(read(500, "").message, "");
        assert_eq!(read(503, "{}").code, 503);
    }

    #[test]
    fn a_status_is_bounded() {
        let status = |bytes: usize, causes: usize| {
            let (text, cause) = ("x".repeat(bytes), json!({"field": "f".repeat(bytes)}));
            let details = json!({"name": text, "kind": text, "causes": vec![cause; causes]});
            let body = json!({"message": text, "reason": text, "details": details});
            read(422, &body.to_string())
        };
        let cut = status(MESSAGE_BYTES_MAX + 1, CAUSES_MAX + 1);
        assert_eq!(cut.message.len(), MESSAGE_BYTES_MAX);
        let Details {
            name, kind, causes, ..
        } = cut.details;
        let field = causes[0].field.clone().unwrap();
        for word in [&cut.reason, &name, &kind, &field] {
            assert_eq!(word.len(), WORD_BYTES_MAX);
        }
        assert_eq!(causes.len(), CAUSES_MAX);
        assert_eq!(status(WORD_BYTES_MAX, 1).reason.len(), WORD_BYTES_MAX);
        let whole = status(MESSAGE_BYTES_MAX, 0);
        assert_eq!(whole.message.len(), MESSAGE_BYTES_MAX);
    }

    #[test]
    fn nulls_count_as_missing() {
        let status = read(
            429,
            r#"{"reason":null,"message":"slow down","code":null,"details":{"name":null,"retryAfterSeconds":3}}"#,
        );
        assert!(status.is("TooManyRequests", 429));
        assert_eq!(status.details.retry_after_seconds, Some(3));
    }

    #[test]
    fn a_missing_permission_names_no_object() {
        let right = r#"{"reason":"Forbidden","details":{"group":"batch","kind":"jobs"}}"#;
        assert!(read(403, right).names_no_object());
        assert!(read(403, r#"{"reason":"Forbidden"}"#).names_no_object());
        let quota =
            r#"{"reason":"Forbidden","details":{"name":"a","group":"batch","kind":"jobs"}}"#;
        assert!(!read(403, quota).names_no_object());
        let webhook = r#"{"message":"admission webhook \"x\" denied the request: no","code":403}"#;
        assert!(read(403, webhook).is_denied_by_admission());
        assert!(read(403, webhook).is("Forbidden", 403));
    }
}
