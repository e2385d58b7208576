//! `/instances`: all instances, whatever their type.
//!
//! What is known of an instance is in [`crate::app::instances`]; which ones a query names in
//! [`crate::http::selection`].

use super::{Api, Call, Outcome, Pending, reply, responses};
use crate::app::index::STATUS_WORDS;
use crate::app::instances::Item;
use crate::app::pages::PageForm;
use crate::app::stops::StopMany;
use crate::app::{Bound, Error, StopCounts};
use crate::budget::{Full, Purpose};
use crate::http::conditional::Condition;
use crate::http::message::Response;
use crate::http::problem::Problem;
use crate::http::server::Handled;
use crate::http::{prefer, selection};
use crate::model::status::Phase;
use serde_json::{Value, json};
use std::sync::Arc;

/// The JSON of a page.
pub const PAGE: PageForm = PageForm {
    begin: "{\"instances\":[",
    item: |item, into| {
        let item = instance_item(item);
        serde_json::to_writer(into, &item).expect("text can be written into memory");
    },
    end: |last, into| {
        let next = last.map(selection::continue_after);
        let next = next.map(|it| format!(",\"continue\":\"{it}\""));
        into.extend_from_slice(format!("]{}}}\n", next.unwrap_or_default()).as_bytes());
    },
};

/// The JSON of one instance, in pages and in events.
#[must_use]
pub fn instance_item(item: &Item) -> Value {
    let finding = item.finding.as_ref();
    let ended = STATUS_WORDS[item.status] == "finished";
    let phase = finding.filter(|_| !ended).map(|it| it.phase);
    let reason = finding.map(|it| &*it.reason);
    let message = finding.map(|it| &*it.message);
    json!({
        "type": item.key.app_type.as_str(),
        "name": item.key.name.as_str(),
        "uid": item.uid.to_string(),
        "status": STATUS_WORDS[item.status],
        "phase": phase.map(Phase::as_str),
        "reason": reason,
        "message": message.filter(|it| !it.is_empty()),
        "since": item.since.map(|at| at.to_string()),
        "start": item.start.map(|at| at.to_string()),
        "ip": item.ip,
        "labels": item.meta,
        "revision": item.revision,
        "stale": item.is_stale,
        "restarts": item.restarts,
        "idle_timeout": item.idle_timeout.map(|it| it.as_secs()),
        "owner": item.owner,
    })
}

impl Api {
    /// `GET /instances`
    pub(in crate::http) fn all_instances(&self, call: &Call<'_>) -> Outcome {
        let request = call.request;
        if prefer::events(&request.headers) {
            return self.events(call);
        }
        let query = selection::page(request.query.as_deref(), &call.caller.types)?;
        let query = Arc::new(query);
        let condition = Condition::of(&request.headers);
        let account = call.caller.account(request.peer);
        if let Some(page) = self.app.page(&query)? {
            return reply(self.aged(responses::list(&page, &condition, &account)?));
        }
        let place = call
            .bounds
            .pages
            .hold(account.clone(), Purpose::Transfer, 1);
        let bytes = request.parked_bytes();
        let hold = call.bounds.bytes.hold(account, Purpose::Transfer, bytes)?;
        let waits = self.app.await_page(&query, call.handle, place);
        waits.map_err(no_place)?;
        Ok(Handled::Parked(Pending::List(condition, hold)))
    }

    /// `DELETE /instances`
    pub(in crate::http) fn stop_many(&self, call: &Call<'_>) -> Outcome {
        let request = call.request;
        let types = &call.caller.types;
        let (selection, is_restricted) = selection::selection(request.query.as_deref(), types)?;
        if !is_restricted {
            let text = "the query restricts nothing, so nothing was stopped; add type, label or status, as in DELETE /instances?type=hello";
            return Err(Error::QueryInvalid(text.into()));
        }
        let account = call.caller.account(request.peer);
        let place = call.bounds.pages.hold(account, Purpose::Transfer, 1);
        self.app.stop_many(StopMany {
            handle: call.handle,
            by: call.origin(),
            selection,
            wait: prefer::wait(&request.headers),
            held: call.hold(Purpose::Write)?,
            place: place.map_err(no_place)?,
        })?;
        Ok(Handled::Parked(Pending::StopMany))
    }
}

pub(super) const fn no_place(full: Full) -> Error {
    Error::TooManyRequests(match full {
        Full::Budget => Bound::Pages,
        Full::Share => Bound::CallerShare,
    })
}

/// The response of a DELETE of many instances; an error if none could be stopped.
pub(super) fn stopped(counts: &StopCounts) -> Result<Response, Error> {
    let mut body = json!({
        "stopped": counts.stopped,
        "stopping": counts.stopping,
        "left": counts.left,
        "failed": counts.failed,
    });
    if let Some((key, error)) = counts.first.as_deref() {
        if counts.stopped == 0 {
            return Err(error.clone());
        }
        let problem = Problem::from(error);
        body["first"] = json!({
            "instance": key.to_string(),
            "msg": problem.message,
            "code": problem.code,
        });
    }
    let is_done = counts.stopping + counts.left + counts.failed == 0;
    let status = if is_done { 200 } else { 202 };
    Ok(Response::json(status, body.to_string()))
}
