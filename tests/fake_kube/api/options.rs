//! What the query and the type of a request ask for: selectors, versions of lists, options of deletes, which
//! kind of patch. Pure; the operations themselves are in `cluster`.

use serde_json::json;

use super::Request;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::selector::Selector;
use crate::fake_kube::cluster::status::{self, Cause, Refusal};
use crate::fake_kube::cluster::write::DeleteOptions;

const JSON_TYPES: &[&str] = &["application/json"];

pub(super) fn selector(request: &Request, resource: Resource) -> Result<Selector, Refusal> {
    Selector::parse(
        resource,
        request.query("labelSelector"),
        request.query("fieldSelector"),
    )
}

/// Whether a list is of exactly the version that it names. One with a limit is, unless it says otherwise.
pub(super) fn is_exact(request: &Request) -> Result<bool, Refusal> {
    let version = request.query("resourceVersion");
    let rule = request.query("resourceVersionMatch");
    if !rule.is_empty() {
        if !request.query("continue").is_empty() {
            return Err(status::forbidden_match(
                "is forbidden when continue is provided",
            ));
        }
        if version.is_empty() {
            let why = "is forbidden unless resourceVersion is provided";
            return Err(status::forbidden_match(why));
        }
    }
    match rule {
        "Exact" if version == "0" => {
            let why = "\"exact\" is forbidden for resourceVersion \"0\"";
            Err(status::forbidden_match(why))
        }
        "Exact" => Ok(true),
        "NotOlderThan" => Ok(false),
        "" => Ok(!matches!(version, "" | "0") && !request.query("limit").is_empty()),
        other => {
            let known = ["Exact", "NotOlderThan", ""];
            let cause = Cause::unsupported("resourceVersionMatch", other, &known);
            Err(status::invalid_options("ListOptions", &cause))
        }
    }
}

/// The options of a DELETE: its body, or its query.
pub(super) fn of_delete(request: &Request, dry_run: bool) -> Result<DeleteOptions, Refusal> {
    let body = if request.body.is_empty() {
        let mut from_query = json!({});
        let grace = request.query("gracePeriodSeconds").parse::<i64>();
        if let Ok(secs) = grace {
            from_query["gracePeriodSeconds"] = json!(secs);
        }
        if !request.query("propagationPolicy").is_empty() {
            from_query["propagationPolicy"] = json!(request.query("propagationPolicy"));
        }
        from_query
    } else {
        check_json(request)?;
        request.json()?
    };
    let mut options = DeleteOptions::parse(&body)?;
    options.dry_run |= dry_run;
    Ok(options)
}

/// Whether a patch is a JSON patch; false is a JSON merge patch.
pub(super) fn is_json_patch(request: &Request) -> Result<bool, Refusal> {
    let is = |kind: &str| check_type(request, &[kind]).is_ok();
    match (
        is("application/json-patch+json"),
        is("application/merge-patch+json"),
    ) {
        (false, false) => Err(status::unsupported_patch_type()),
        (is_json, _) => Ok(is_json),
    }
}

/// Refuses a body that is not said to be JSON.
pub(super) fn check_json(request: &Request) -> Result<(), Refusal> {
    check_type(request, JSON_TYPES)
}

/// A missing type counts as JSON, as in the real API server for all but patches.
fn check_type(request: &Request, accepted: &[&str]) -> Result<(), Refusal> {
    let given = request.content_type.as_deref().unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    if accepted.contains(&essence) || (essence.is_empty() && accepted == JSON_TYPES) {
        Ok(())
    } else {
        Err(status::unsupported_media_type(&accepted.join(", ")))
    }
}
