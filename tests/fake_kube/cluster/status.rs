//! `Status` objects with the messages of the real API server: clients branch
//! on `code`, `reason` and `details`, people read `message`.

use serde_json::{Map, Value, json};

use super::Key;
use super::resource::Resource;

/// An error: becomes the HTTP status code and the body of the response, or the
/// object of an ERROR event in a watch.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Refusal {
    /// The HTTP status code.
    pub(crate) code: u16,
    /// The whole `Status` object.
    pub(crate) status: Value,
    /// Sent as `Retry-After`, where there is one.
    pub(crate) retry_after_secs: Option<u32>,
}

/// One entry of `details.causes`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Cause {
    /// `FieldValueInvalid`, `FieldValueRequired`, …
    pub(crate) reason: &'static str,
    /// What is wrong, without the field's name.
    pub(crate) message: String,
    /// The path of the field.
    pub(crate) field: String,
}

impl Cause {
    /// A value that is not allowed.
    pub(crate) fn invalid(field: impl Into<String>, value: &str, why: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            message: format!("Invalid value: {value:?}: {why}"),
            field: field.into(),
        }
    }

    /// A value that is missing.
    pub(crate) fn required(field: impl Into<String>, why: &str) -> Self {
        let message = if why.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {why}")
        };
        Self {
            reason: "FieldValueRequired",
            message,
            field: field.into(),
        }
    }

    /// A value that is not in the list of supported values.
    pub(crate) fn unsupported(field: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        Self {
            reason: "FieldValueNotSupported",
            message: format!(
                "Unsupported value: {value:?}: supported values: {}",
                list.join(", ")
            ),
            field: field.into(),
        }
    }
}

fn refusal(code: u16, reason: &str, message: String, details: Option<Value>) -> Refusal {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason,
    });
    if let Some(details) = details {
        status["details"] = details;
    }
    status["code"] = json!(code);
    Refusal {
        code,
        status,
        retry_after_secs: None,
    }
}

fn details(resource: Resource, name: &str) -> Value {
    let mut map = Map::new();
    if !name.is_empty() {
        map.insert("name".into(), json!(name));
    }
    if !resource.group().is_empty() {
        map.insert("group".into(), json!(resource.group()));
    }
    map.insert("kind".into(), json!(resource.plural()));
    Value::Object(map)
}

/// 404 for an object.
pub(crate) fn not_found(resource: Resource, name: &str) -> Refusal {
    let message = format!("{} {name:?} not found", resource.qualified());
    refusal(404, "NotFound", message, Some(details(resource, name)))
}

/// 404 for a path that names no resource.
pub(crate) fn no_such_path() -> Refusal {
    refusal(
        404,
        "NotFound",
        "the server could not find the requested resource".to_owned(),
        Some(json!({})),
    )
}

/// 405: the resource exists, but does not support the verb.
pub(crate) fn method_not_allowed() -> Refusal {
    refusal(
        405,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource".to_owned(),
        Some(json!({})),
    )
}

/// 409 of a create.
pub(crate) fn already_exists(resource: Resource, name: &str) -> Refusal {
    let message = format!("{} {name:?} already exists", resource.qualified());
    refusal(409, "AlreadyExists", message, Some(details(resource, name)))
}

/// 409 of a create: the name belongs to an object that is being deleted.
pub(crate) fn being_deleted(resource: Resource, name: &str) -> Refusal {
    let message = format!(
        "object is being deleted: {} {name:?} already exists",
        resource.qualified()
    );
    refusal(409, "AlreadyExists", message, Some(details(resource, name)))
}

/// 409 of a delete: the precondition names another version.
pub(crate) fn version_conflict(
    resource: Resource,
    name: &str,
    wanted: &str,
    found: &str,
) -> Refusal {
    let message = format!(
        "Operation cannot be fulfilled on {} {name:?}: the ResourceVersion in the precondition \
         ({wanted}) does not match the ResourceVersion in record ({found}). The object might have \
         been modified",
        resource.kind_qualified()
    );
    let mut about = details(resource, name);
    about["kind"] = json!(resource.kind());
    refusal(409, "Conflict", message, Some(about))
}

/// 409 of an update: the `resourceVersion` is no longer the current one.
pub(crate) fn conflict(resource: Resource, name: &str) -> Refusal {
    let message = format!(
        "Operation cannot be fulfilled on {} {name:?}: the object has been modified; \
         please apply your changes to the latest version and try again",
        resource.qualified()
    );
    refusal(409, "Conflict", message, Some(details(resource, name)))
}

/// 409 of a delete: the precondition names another UID.
pub(crate) fn uid_conflict(resource: Resource, name: &str, wanted: &str, found: &str) -> Refusal {
    let message = format!(
        "Operation cannot be fulfilled on {} {name:?}: the UID in the precondition ({wanted}) \
         does not match the UID in record ({found}). The object might have been deleted and \
         then recreated",
        resource.kind_qualified()
    );
    let mut about = details(resource, name);
    about["kind"] = json!(resource.kind());
    refusal(409, "Conflict", message, Some(about))
}

/// 409 of an update: the object of this name has another UID.
pub(crate) fn other_uid(key: &Key, given: &str, stored: &str) -> Refusal {
    let (resource, namespace, name) = key;
    let message = format!(
        "Operation cannot be fulfilled on {} {name:?}: StorageError: invalid object, Code: 4, Key: \
         /registry/{}/{namespace}/{name}, ResourceVersion: 0, AdditionalErrorMsg: Precondition \
         failed: UID in precondition: {given}, UID in object meta: {stored}",
        resource.qualified(),
        resource.plural()
    );
    refusal(409, "Conflict", message, Some(details(*resource, name)))
}

/// 422 of an update without a version, of a resource that requires one.
pub(crate) fn version_required(resource: Resource, name: &str) -> Refusal {
    let (field, why) = (
        "metadata.resourceVersion",
        "Invalid value: 0: must be specified for an update",
    );
    let message = format!(
        "{} {name:?} is invalid: {field}: {why}",
        resource.qualified()
    );
    let mut about = details(resource, name);
    about["causes"] = json!([{"reason": "FieldValueInvalid", "message": why, "field": field}]);
    refusal(422, "Invalid", message, Some(about))
}

/// 422 with one cause for each wrong field.
pub(crate) fn invalid(resource: Resource, name: &str, causes: &[Cause]) -> Refusal {
    let one_by_one: Vec<String> = causes
        .iter()
        .map(|c| format!("{}: {}", c.field, c.message))
        .collect();
    let text = match one_by_one.as_slice() {
        [single] => single.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let message = format!("{} {name:?} is invalid: {text}", resource.kind_qualified());
    let list: Vec<Value> = causes
        .iter()
        .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
        .collect();
    let mut about = details(resource, name);
    about["kind"] = json!(resource.kind());
    about["causes"] = Value::Array(list);
    refusal(422, "Invalid", message, Some(about))
}

/// 422 of a patch after which the object could not be decoded: it names neither
/// kind nor object.
pub(crate) fn invalid_patch(patched: &Value, fault: &str) -> Refusal {
    let why = fault.split_once(": ").map_or(fault, |(_, why)| why);
    let message = format!("Invalid value: {:?}: {why}", patched.to_string());
    let about = json!({"causes": [
        {"reason": "FieldValueInvalid", "message": message, "field": "patch"},
    ]});
    let whole = format!(" \"\" is invalid: patch: {message}");
    refusal(422, "Invalid", whole, Some(about))
}

/// 422 of the options of a request.
pub(crate) fn invalid_options(kind: &str, cause: &Cause) -> Refusal {
    let message = format!(
        "{kind}.meta.k8s.io \"\" is invalid: {}: {}",
        cause.field, cause.message
    );
    let about = json!({
        "group": "meta.k8s.io", "kind": kind,
        "causes": [{"reason": cause.reason, "message": cause.message, "field": cause.field}],
    });
    refusal(422, "Invalid", message, Some(about))
}

/// 422 of `resourceVersionMatch`, for this reason.
pub(crate) fn forbidden_match(why: &str) -> Refusal {
    let field = "resourceVersionMatch";
    let cause = Cause {
        reason: "FieldValueForbidden",
        message: format!("Forbidden: {field} {why}"),
        field: field.to_owned(),
    };
    invalid_options("ListOptions", &cause)
}

/// 422 of an object of this kind, which is none that is stored.
pub(crate) fn invalid_kind(kind: &str, name: &str, cause: &Cause) -> Refusal {
    let message = format!(
        "{kind} {name:?} is invalid: {}: {}",
        cause.field, cause.message
    );
    let about = json!({
        "name": name, "kind": kind,
        "causes": [{"reason": cause.reason, "message": cause.message, "field": cause.field}],
    });
    refusal(422, "Invalid", message, Some(about))
}

/// 500 without a reason, which the real API server returns for unexpected errors.
pub(crate) fn unclassified(message: impl Into<String>) -> Refusal {
    let mut refusal = refusal(500, "", message.into(), None);
    if let Some(status) = refusal.status.as_object_mut() {
        status.shift_remove("reason");
    }
    refusal
}

/// 400.
pub(crate) fn bad_request(message: impl Into<String>) -> Refusal {
    refusal(400, "BadRequest", message.into(), None)
}

/// 401.
pub(crate) fn unauthorized() -> Refusal {
    refusal(401, "Unauthorized", "Unauthorized".to_owned(), None)
}

/// 403 of RBAC: no rule grants this user this verb.
pub(crate) fn forbidden(
    user: &str,
    verb: &str,
    resource: Resource,
    subresource: &str,
    namespace: &str,
    name: &str,
) -> Refusal {
    let full = if subresource.is_empty() {
        resource.plural().to_owned()
    } else {
        format!("{}/{subresource}", resource.plural())
    };
    let scope = if namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {namespace:?}")
    };
    let what = if name.is_empty() {
        resource.qualified()
    } else {
        format!("{} {name:?}", resource.qualified())
    };
    let message = format!(
        "{what} is forbidden: User {user:?} cannot {verb} resource {full:?} in API group {:?} {scope}",
        resource.group()
    );
    refusal(403, "Forbidden", message, Some(details(resource, name)))
}

/// 403 of RBAC for a TokenReview.
pub(crate) fn forbidden_review(user: &str) -> Refusal {
    let message = format!(
        "tokenreviews.authentication.k8s.io is forbidden: User {user:?} cannot create resource \
         \"tokenreviews\" in API group \"authentication.k8s.io\" at the cluster scope"
    );
    let details = json!({"group": "authentication.k8s.io", "kind": "tokenreviews"});
    refusal(403, "Forbidden", message, Some(details))
}

/// 403 of an admission plug-in such as the quota: it names the object.
pub(crate) fn refused(resource: Resource, name: &str, why: &str) -> Refusal {
    let message = format!("{} {name:?} is forbidden: {why}", resource.qualified());
    refusal(403, "Forbidden", message, Some(details(resource, name)))
}

/// 403 of an admission webhook: it has no `details`.
pub(crate) fn denied_by_webhook(webhook: &str, why: &str) -> Refusal {
    let message = format!("admission webhook {webhook:?} denied the request: {why}");
    refusal(403, "Forbidden", message, None)
}

/// 500 of an admission webhook that cannot be called (`failurePolicy: Fail`).
pub(crate) fn broken_webhook(webhook: &str, why: &str) -> Refusal {
    let cause = format!("failed calling webhook {webhook:?}: failed to call webhook: {why}");
    let details = json!({"causes": [{"message": cause}]});
    let message = format!("Internal error occurred: {cause}");
    refusal(500, "InternalError", message, Some(details))
}

/// 403 of a create in a namespace that is being deleted.
pub(crate) fn namespace_terminating(resource: Resource, name: &str, namespace: &str) -> Refusal {
    let why = format!(
        "unable to create new content in namespace {namespace} because it is being terminated"
    );
    let mut refusal = refused(resource, name, &why);
    refusal.status["details"]["causes"] = json!([{
        "reason": "NamespaceTerminating",
        "message": format!("namespace {namespace} is being terminated"),
        "field": "metadata.namespace",
    }]);
    refusal
}

/// 410: the version, or the continue token, is older than the history.
pub(crate) fn expired(message: impl Into<String>) -> Refusal {
    refusal(410, "Expired", message.into(), None)
}

/// 415.
pub(crate) fn unsupported_media_type(accepted: &str) -> Refusal {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    refusal(415, "UnsupportedMediaType", message, None)
}

/// 415 of a patch.
pub(crate) fn unsupported_patch_type() -> Refusal {
    let message = "415: Unsupported Media Type".to_owned();
    refusal(415, "UnsupportedMediaType", message, Some(json!({})))
}

/// 422 of a JSON patch with an operation that fails: it does not say which.
pub(crate) fn patch_does_not_apply() -> Refusal {
    let message = "the server rejected our request due to an error in our request".to_owned();
    refusal(422, "Invalid", message, Some(json!({})))
}

/// 413.
pub(crate) fn too_large(why: &str) -> Refusal {
    let message = format!("Request entity too large: {why}");
    refusal(413, "RequestEntityTooLarge", message, None)
}

/// 429 with `Retry-After`.
pub(crate) fn too_many_requests(retry_after_secs: u32) -> Refusal {
    let mut refusal = refusal(
        429,
        "TooManyRequests",
        "Too many requests, please try again later.".to_owned(),
        Some(json!({"retryAfterSeconds": retry_after_secs})),
    );
    refusal.retry_after_secs = Some(retry_after_secs);
    refusal
}

/// 5xx.
pub(crate) fn server_error(code: u16) -> Refusal {
    let (reason, message) = match code {
        503 => (
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        504 => (
            "Timeout",
            "the server was unable to return a response in the time allotted, but may still be processing the request",
        ),
        _ => (
            "InternalError",
            "Internal error occurred: a fault was injected",
        ),
    };
    refusal(code, reason, message.to_owned(), None)
}

/// A response that is no `Status`.
pub(crate) fn raw(code: u16, text: &str) -> Refusal {
    Refusal {
        code,
        status: json!(text),
        retry_after_secs: None,
    }
}

/// 504 of a read that requests a version from the future.
pub(crate) fn version_too_large(wanted: u64, current: u64) -> Refusal {
    let mut refusal = refusal(
        504,
        "Timeout",
        format!("Timeout: Too large resource version: {wanted}, current: {current}"),
        Some(json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        })),
    );
    refusal.retry_after_secs = Some(1);
    refusal
}

/// The `Status` of success that a DELETE returns when the object is gone.
pub(crate) fn deleted(resource: Resource, name: &str, uid: &str) -> Value {
    let mut about = details(resource, name);
    about["uid"] = json!(uid);
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": about,
    })
}
