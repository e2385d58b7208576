//! API servers that are broken on purpose: each must be detected, and by the promise it breaks.
//!
//! The program is not changed for this, only the API server. A program with the same effect would be
//! detected in the same way. Programs that are broken by themselves are in [`super::defects`].

use config_controller::model::job::{ADMISSION, ADMITTED};
use config_controller::model::labels::PAIRS_MAX;
use serde_json::{Value, json};

use super::promises::Promise;
use crate::fake_kube::api::{Model, Reply, Request};
use crate::fake_kube::cluster::read::WatchEvent;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::{Key, is_deleting};
use crate::harness::{NAMESPACE, PREFIX};

/// What is wrong with the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Broken {
    /// Nothing.
    #[default]
    Not,
    /// A Job with a taken name is created nevertheless, beside the other.
    NamesAreNotUnique,
    /// A pod that is being deleted has its successor beside it.
    ReplacesEarly,
    /// Pods are deleted without their grace.
    GrantsNoGrace,
    /// Pods do not show which Job made them.
    HidesMakers,
    /// A deletion ignores the UID precondition.
    IgnoresUids,
    /// A deletion gets a success response, but nothing is deleted.
    IgnoresDeletions,
    /// Watches do not report deletions.
    HidesDeletions,
    /// Deletions of Jobs that exist get 404.
    DeniesJobs,
    /// A creation is repeated once the name is free.
    RepeatsCreations,
    /// Pods get a finalizer that nobody removes.
    KeepsPods,
    /// Jobs lose their `min-ready`.
    ForgetsMinReady,
    /// Pods that run are shown as failed.
    InventsFailures,
    /// Pods that others stop are shown as if nobody did.
    HidesStops,
    /// Jobs that live are shown as being deleted.
    InventsDeletions,
    /// A change of labels gets a success response, but nothing is changed.
    IgnoresLabels,
    /// A change of labels removes others.
    ForgetsLabels,
    /// A change of labels ignores the version precondition.
    IgnoresVersions,
    /// A change of labels adds more than a pod may have.
    AddsLabels,
    /// Lists of all Jobs omit the last one.
    TruncatesLists,
    /// Every creation fails.
    FailsCreations,
    /// Every Job is admitted as soon as it is created.
    AdmitsAll,
    /// Every deletion is rejected as invalid, as if this service had sent a wrong request.
    RejectsDeletions,
}

impl Broken {
    /// All of them, each with the promise that it breaks.
    pub(super) const ALL: [(Self, Promise); 23] = [
        (Self::NamesAreNotUnique, Promise::OneJob),
        (Self::ReplacesEarly, Promise::OnePod),
        (Self::GrantsNoGrace, Promise::ForceHasEvidence),
        (Self::HidesMakers, Promise::NoneBesideAnOrphan),
        (Self::IgnoresUids, Promise::CallHitsItsTarget),
        (Self::IgnoresDeletions, Promise::StopIsDone),
        (Self::HidesDeletions, Promise::ReadyIsTrue),
        (Self::DeniesJobs, Promise::StopFindsNothingOnlyIfSo),
        (Self::RepeatsCreations, Promise::StopLasts),
        (Self::KeepsPods, Promise::NothingIsLeft),
        (Self::KeepsPods, Promise::StartsAndStops),
        (Self::ForgetsMinReady, Promise::ReadyHasLasted),
        (Self::InventsFailures, Promise::FailureReportIsTrue),
        (Self::HidesStops, Promise::FailureReportIsTrue),
        (Self::InventsDeletions, Promise::StoppedIsTrue),
        (Self::IgnoresLabels, Promise::LabelIsSet),
        (Self::ForgetsLabels, Promise::LabelsAreKept),
        (Self::IgnoresVersions, Promise::FenceHolds),
        (Self::AddsLabels, Promise::LabelsAreBounded),
        (Self::TruncatesLists, Promise::CacheIsCurrent),
        (Self::FailsCreations, Promise::NoErrorsWithoutFaults),
        (Self::AdmitsAll, Promise::CapsHold),
        (Self::RejectsDeletions, Promise::NoInternalErrors),
    ];

    pub(super) fn spoil_request(self, request: &mut Request, model: &mut Model) {
        let is_job = request.path.contains("/jobs");
        match (self, request.method.as_str()) {
            (Self::NamesAreNotUnique, "POST") if is_job => rename_if_taken(request, model),
            (Self::ReplacesEarly, "POST") if is_job => edit(request, |body| {
                body["spec"]["podFailurePolicy"] = Value::Null;
                body["spec"]["podReplacementPolicy"] = json!("TerminatingOrFailed");
            }),
            (Self::ForgetsMinReady, "POST") if is_job => edit(request, |body| {
                let annotations = body["metadata"]["annotations"].as_object_mut();
                annotations.map(|all| all.remove(&format!("{PREFIX}min-ready")));
            }),
            (Self::AdmitsAll, "POST") if is_job => edit(request, |body| {
                body["metadata"]["annotations"][ADMISSION] = json!(ADMITTED);
                body["spec"]["suspend"] = json!(false);
            }),
            (Self::GrantsNoGrace, "DELETE") if !is_job => edit(request, |body| {
                body["gracePeriodSeconds"] = json!(0);
            }),
            (Self::IgnoresUids, "DELETE") => edit(request, |body| {
                body["preconditions"] = json!({});
            }),
            (Self::IgnoresDeletions | Self::DeniesJobs, "DELETE") => edit(request, |body| {
                body["dryRun"] = json!(["All"]);
            }),
            (Self::KeepsPods, "GET") if !is_job => keep_pods(model),
            (Self::IgnoresLabels, "PATCH") => edit(request, |body| {
                body["metadata"]["labels"] = json!({});
            }),
            (Self::IgnoresVersions, "PATCH") => edit(request, |body| {
                let metadata = body["metadata"].as_object_mut();
                metadata.map(|all| all.remove("resourceVersion"));
            }),
            (Self::AddsLabels, "PATCH") => edit(request, |body| {
                for number in 0..=PAIRS_MAX {
                    let label = format!("{PREFIX}meta-more-{number}");
                    body["metadata"]["labels"][label] = json!("1");
                }
            }),
            (Self::ForgetsLabels, "PATCH") => edit(request, |body| {
                for key in ["user", "session"] {
                    let label = &mut body["metadata"]["labels"][format!("{PREFIX}meta-{key}")];
                    *label = label.take();
                }
            }),
            _ => {}
        }
    }

    pub(super) fn spoil_reply(self, request: &Request, reply: &mut Reply) {
        let Reply::Response(response) = reply else {
            return;
        };
        let resource = match request.path.contains("/pods") {
            true => Resource::Pods,
            false => Resource::Jobs,
        };
        match response.body.get_mut("items").and_then(Value::as_array_mut) {
            Some(items) => items.iter_mut().for_each(|it| self.spoil(resource, it)),
            None => self.spoil(resource, &mut response.body),
        }
        let status = match (self, request.method.as_str()) {
            (Self::TruncatesLists, "GET")
                if response.body["kind"] == "JobList"
                    && request.query("fieldSelector").is_empty() =>
            {
                if let Some(items) = response.body["items"].as_array_mut() {
                    items.pop();
                }
                return;
            }
            // A read of one name.
            (Self::DeniesJobs, "GET") if !request.query("fieldSelector").is_empty() => {
                if let Some(items) = response.body.get_mut("items") {
                    *items = json!([]);
                }
                return;
            }
            (Self::RejectsDeletions, "DELETE") => (422, "Invalid"),
            (Self::DeniesJobs, "DELETE") => (404, "NotFound"),
            (Self::FailsCreations, "POST") => (500, "InternalError"),
            _ => return,
        };
        response.code = status.0;
        response.body = json!({"kind": "Status", "reason": status.1});
    }

    /// What watches show instead of this event, if they show it.
    pub(super) fn spoil_event(self, resource: Resource, event: WatchEvent) -> Option<WatchEvent> {
        let mut event = event;
        let is_deletion =
            event.kind == "DELETED" || event.object["metadata"]["deletionTimestamp"].is_string();
        if self == Self::HidesDeletions && is_deletion {
            return None;
        }
        self.spoil(resource, &mut event.object);
        Some(event)
    }

    /// Changes an object that is shown.
    fn spoil(self, resource: Resource, object: &mut Value) {
        if !object["metadata"].is_object() {
            return;
        }
        match (self, resource) {
            (Self::HidesMakers, Resource::Pods) => {
                if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
                    labels.remove("batch.kubernetes.io/controller-uid");
                }
            }
            (Self::InventsFailures, Resource::Pods) if object["status"]["phase"] == "Running" => {
                object["status"]["phase"] = json!("Failed");
            }
            (Self::HidesStops, Resource::Pods) => {
                object["metadata"]["deletionTimestamp"] = Value::Null;
                if let Some(conditions) = object["status"]["conditions"].as_array_mut() {
                    conditions.retain(|condition| condition["type"] != "DisruptionTarget");
                }
            }
            (Self::InventsDeletions, Resource::Jobs) if object["kind"] == "Job" => {
                let made = object["metadata"]["creationTimestamp"].clone();
                object["metadata"]["deletionTimestamp"] = made;
            }
            _ => {}
        }
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

/// Gives all pods a finalizer that nobody removes.
fn keep_pods(model: &mut Model) {
    let pods = model.cluster.objects(Resource::Pods, NAMESPACE);
    let live = pods.filter(|(_, pod)| !is_deleting(pod));
    let live: Vec<Key> = live.map(|(key, _)| key.clone()).collect();
    for key in live {
        model.cluster.change(&key, |pod| {
            let finalizers = pod["metadata"]["finalizers"].as_array_mut();
            let never = json!("example.com/never");
            match finalizers {
                Some(all) if all.contains(&never) => {}
                Some(all) => all.push(never),
                None => pod["metadata"]["finalizers"] = json!([never]),
            }
        });
    }
}
