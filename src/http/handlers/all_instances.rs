//! `/instances`: all instances, whatever their type.
//!
//! What is known of an instance is in [`crate::app::instances`]; which ones a query names in
//! [`crate::http::selection`].

use super::{Api, Call, Outcome, Pending, reply, responses};
use crate::app::index::STATUS_WORDS;
use crate::app::instances::Item;
use crate::app::pages::PageForm;
use crate::budget::Purpose;
use crate::http::conditional::Condition;
use crate::http::message::Method;
use crate::http::prefer;
use crate::http::selection;
use crate::http::server::Handled;
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
    })
}

impl Api {
    /// `GET /instances`
    pub(in crate::http) fn all_instances(&self, call: &Call<'_>) -> Outcome {
        let request = call.request;
        if request.method == Method::Get && prefer::events(&request.headers) {
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
        self.app.await_page(&query, call.handle, place)?;
        Ok(Handled::Parked(Pending::List(condition, hold)))
    }
}
