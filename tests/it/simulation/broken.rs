//! API servers that are broken on purpose: each must be detected, and by the promise it breaks.
//!
//! The program is not changed for this, only the API server. A program with the same effect would be
//! detected in the same way.

use serde_json::{Value, json};

use crate::fake_kube::api::{Model, Reply, Request};
use crate::fake_kube::cluster::Key;
use crate::fake_kube::cluster::read::WatchEvent;
use crate::fake_kube::cluster::resource::Resource;
use crate::harness::NAMESPACE;

/// What is wrong with the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing.
    #[default]
    Not,
    /// A Job with a taken name is created nevertheless, beside the other.
    NamesAreNotUnique,
    /// A deletion ignores the UID precondition.
    IgnoresUids,
    /// A deletion gets a success response, but nothing is deleted.
    IgnoresDeletions,
    /// Watches do not report deletions.
    HidesDeletions,
    /// Lists of all Jobs omit the last one.
    TruncatesLists,
    /// Every deletion is rejected as invalid, as if this service had sent a wrong request.
    RejectsDeletions,
}

impl Broken {
    pub(super) fn spoil_request(self, request: &mut Request, model: &Model) {
        let is_job = request.path.contains("/jobs");
        match (self, request.method.as_str()) {
            (Self::NamesAreNotUnique, "POST") if is_job => rename_if_taken(request, model),
            (Self::IgnoresUids, "DELETE") => edit(request, |body| {
                body["preconditions"] = json!({});
            }),
            (Self::IgnoresDeletions, "DELETE") => edit(request, |body| {
                body["dryRun"] = json!(["All"]);
            }),
            _ => {}
        }
    }

    pub(super) fn spoil_reply(self, request: &Request, reply: &mut Reply) {
        let Reply::Response(response) = reply else {
            return;
        };
        match self {
            Self::TruncatesLists
                if response.body["kind"] == "JobList"
                    && request.query("fieldSelector").is_empty() =>
            {
                if let Some(items) = response.body["items"].as_array_mut() {
                    items.pop();
                }
            }
            Self::RejectsDeletions if request.method == "DELETE" => {
                response.code = 422;
                response.body = json!({"kind": "Status", "reason": "Invalid"});
            }
            _ => {}
        }
    }

    pub(super) fn lets_through(self, event: &WatchEvent) -> bool {
        let marks = event.object["metadata"]["deletionTimestamp"].is_string();
        self != Self::HidesDeletions || (event.kind != "DELETED" && !marks)
    }
}

fn edit(request: &mut Request, change: impl FnOnce(&mut Value)) {
    if let Ok(mut body) = serde_json::from_slice(&request.body) {
        change(&mut body);
        request.body = body.to_string().into_bytes();
    }
}

fn rename_if_taken(request: &mut Request, model: &Model) {
    edit(request, |body| {
        let name = body["metadata"]["name"].as_str().unwrap_or("").to_owned();
        let key: Key = (Resource::Jobs, NAMESPACE.to_owned(), name.clone());
        if model.cluster.object(&key).is_some() {
            body["metadata"]["name"] = json!(format!("{name}-again"));
        }
    });
}
