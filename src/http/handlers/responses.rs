//! Response bodies as the contract defines them: fields, their order and their types.
//!
//! Pure. Errors are in [`problem`](crate::http::problem), bodies of the older routes in
//! [`legacy`](super::legacy). Which response a request gets is not decided here.

use super::{NotReady, Pending};
use crate::app::cache::{Entry, InstanceVersion, Ready};
use crate::app::list::List;
use crate::app::templates::{TemplateEntry, app_type_in};
use crate::app::{Error, Progress, ValuesMatch};
use crate::budget::{Account, Full, Ledger};
use crate::http::auth::Types;
use crate::http::conditional::Condition;
use crate::http::message::{Body, Response};
use crate::http::problem;
use crate::model::job::JobSettings;
use crate::model::labels::{MetaLabels, RESERVED, SESSION_ID};
use crate::model::status::Budget;
use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The 200 of a GET of an instance that is ready; 304 if the caller has it already.
pub(super) fn ready(ready: &Ready, condition: &Condition) -> Response {
    let fingerprint = ready.version.fingerprint.filter(|_| !condition.is_none());
    let is_known = fingerprint.is_some_and(|it| condition.is_met_by(&format!("\"{it}\"")));
    let mut response = if is_known {
        Response::empty(304)
    } else {
        Response::json(200, text_of(&Found(ready)))
    };
    response.instance = Some(ready.version.clone());
    response.address = Some(ready.ip);
    let response = response.header("cache-control", "no-cache");
    match ready.values {
        ValuesMatch::Same => response.header("preference-applied", "match=values"),
        ValuesMatch::Other | ValuesMatch::Unknown => response,
    }
}

/// The body of a ready instance (contract 3.4).
struct Found<'a>(&'a Ready);

impl Serialize for Found<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(ready) = self;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("ip", &ready.ip)?;
        for (key, value) in shown(&ready.meta) {
            fields.serialize_entry(key, value)?;
        }
        fields.end()
    }
}

/// The 200 of a change.
pub(super) fn success() -> Response {
    Response::json(200, r#"{"status":"Success"}"#)
}

/// The 202 of a GET of an instance that is not ready; 503 if its caller takes any 2xx for a ready one.
pub(super) fn unready(
    pending: &Pending,
    progress: &Progress,
    instance: Option<InstanceVersion>,
) -> Response {
    let response = if let Pending::Ensure(_, _, NotReady::Error, _) = pending {
        let retry_after = problem::whole_secs(progress.kept_for).to_string();
        let response = not_ready(progress, 503).header("retry-after", retry_after);
        response.header("preference-applied", "strict")
    } else {
        let mut body = json!({"status": progress.legacy_word()});
        add_progress(&mut body, progress);
        Response::json(202, body.to_string())
    };
    Response {
        instance,
        ..response
    }
}

/// The error of an instance that is not ready.
pub(super) fn not_ready(progress: &Progress, status: u16) -> Response {
    let code = match progress.is_failure_report {
        true => "start_failed",
        false => "not_ready",
    };
    let mut body = json!({"status": "error", "msg": null, "code": code});
    add_progress(&mut body, progress);
    Response::json(status, body.to_string())
}

/// The 202 of a DELETE that waited for the Job to be gone while it still exists.
pub(super) fn stopping(progress: &Progress) -> Response {
    let body = json!({
        "status": "Stopping",
        "phase": progress.finding.phase.as_str(),
        "msg": "the instance is being stopped, and its pod has not ended yet",
        "since": progress.finding.since.map(|since| since.to_string()),
    });
    Response::json(202, body.to_string())
}

/// Adds the fields that describe an instance that is not ready.
fn add_progress(body: &mut Value, progress: &Progress) {
    let finding = &progress.finding;
    body["phase"] = json!(finding.phase.as_str());
    body["reason"] = json!(&*finding.reason);
    body["msg"] = json!(&*finding.message);
    if let Some(position) = progress.position {
        body["position"] = json!(position);
    }
    if let Some(since) = finding.since {
        body["since"] = json!(since.to_string());
    }
    if let Some(exit_code) = finding.exit_code {
        body["exitCode"] = json!(exit_code);
    }
    if let Some(last_output) = finding.last_output.as_deref() {
        body["log"] = json!(last_output);
    }
}

/// The instances of a type for this account; 304 if the caller has them already.
///
/// # Errors
/// [`Full::Share`].
pub(super) fn list(
    list: &List,
    condition: &Condition,
    account: &Account,
) -> Result<Response, Full> {
    let response = if condition.is_met_by(list.etag()) {
        Response::empty(304)
    } else {
        let bytes = Body::Shared(list.bytes().lend(account)?);
        Response::with_type(200, "application/json", bytes)
    };
    // A cache, also that of a browser, asks each time whether the list is still the same.
    let response = response.header("etag", list.etag().to_owned());
    Ok(response.header("cache-control", "no-cache"))
}

/// The templates of these types for this account; 304 if the caller has them already.
///
/// # Errors
/// [`Error::Overloaded`] where there is no memory for those of a caller that may not use all types; a share
/// that is exhausted.
pub(super) fn templates(
    all: &Arc<List>,
    types: &Types,
    condition: &Condition,
    account: &Account,
    ledger: &Arc<Ledger>,
) -> Result<Response, Error> {
    let part = match types {
        Types::All => Arc::clone(all),
        types => Arc::new(all.only(|name| types.contain(app_type_in(name)), ledger)?),
    };
    Ok(list(&part, condition, account)?)
}

/// Appends the JSON of what is known of one template.
pub fn template(entry: &TemplateEntry<'_>, into: &mut Vec<u8>) {
    let variables = entry.variables.iter();
    let variables = variables.map(|it| json!({"name": it.name, "default": it.default}));
    let instances = entry.instances;
    let mut body = json!({
        "type": entry.app_type,
        "config_map": entry.config_map,
        "verdict": entry.verdict.as_str(),
        "message": entry.message,
        "place": entry.place,
        "warnings": entry.warnings,
        "variables": variables.collect::<Vec<Value>>(),
        "settings": entry.settings.map(settings),
        "revision": entry.revision,
        "instances": {"current": instances.current, "older": instances.older},
    });
    if entry.is_cut {
        body["cut"] = json!(true);
    }
    serde_json::to_writer(into, &body).expect("text can be written into memory");
}

/// The settings as they are in effect, named and written as the annotations.
fn settings(settings: &JobSettings) -> Value {
    let duration = |duration: Duration| match duration.subsec_millis() {
        0 => format!("{}s", duration.as_secs()),
        _ => format!("{}ms", duration.as_millis()),
    };
    let restart = if settings.restart_failed {
        "after-delay"
    } else {
        "never"
    };
    let mut all = json!({
        "backoff-limit": settings.backoff_limit,
        "idle-timeout": settings.idle_timeout.map(duration),
        "max-instances": settings.caps.of_type,
        "max-per-owner": settings.caps.per_owner,
        "max-lifetime": settings.max_lifetime.map(duration),
        "ttl-after-finished": settings.ttl_after_finished.map(duration),
        "restart-failed": restart,
        "restart-delay": duration(settings.restart_delay),
        "min-ready": duration(settings.min_ready),
        "on-change": settings.on_change.as_str(),
    });
    for budget in Budget::ALL {
        let name = format!("start-budget.{}", budget.as_str());
        all[name] = json!(duration(settings.budgets.get(budget)));
    }
    all
}

/// Appends the JSON of one entry of a list.
pub fn entry(entry: &Entry, into: &mut Vec<u8>) {
    serde_json::to_writer(into, &Listed(entry)).expect("text can be written into memory");
}

/// One entry of a list, with the fields and types of the contract (3.3).
struct Listed<'a>(&'a Entry);

impl Serialize for Listed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(entry) = self;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("ip", &entry.ip)?;
        fields.serialize_entry("name", &entry.name)?;
        fields.serialize_entry(SESSION_ID, entry.session())?;
        fields.serialize_entry("hostname", &entry.name)?;
        fields.serialize_entry("addr", &entry.ip)?;
        fields.serialize_entry("errored", &!entry.is_ready)?;
        match entry.started {
            #[allow(clippy::cast_precision_loss)] // Seconds since 1970 are far below 2^52.
            Some(secs) => fields.serialize_entry("start", &(secs as f64))?,
            None => fields.serialize_entry("start", &0)?,
        }
        for (key, value) in shown(&entry.meta).filter(|(key, _)| *key != SESSION_ID) {
            fields.serialize_entry(key, value)?;
        }
        fields.end()
    }
}

/// The JSON of text, numbers and addresses.
fn text_of(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("text can be written into memory")
}

/// The meta labels in a response, without reserved keys, which can be set on the pod by hand
/// (contract S3).
fn shown(meta: &MetaLabels) -> impl Iterator<Item = (&str, &str)> {
    meta.iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .filter(|(key, _)| !RESERVED.contains(key))
}
