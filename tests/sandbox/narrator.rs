//! Prints the events of the API server in memory as text for newcomers.
//!
//! A thread reads the changes as they come and prints those that mean something to people.
//! [`describe`] is a pure function from a change to its messages. Most changes are counters and
//! conditions, and have none.
//!
//! It changes nothing, and prints nothing about the service, which has its own log.

use crate::console::Console;
use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::{Change, is_deleting};
use crate::fake_kube::dynamics::has_condition;
use config_controller::model::labels;
use config_controller::shutdown::Stop;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often the thread checks whether to end.
const LOOK: Duration = Duration::from_millis(200);

/// Prints all past and future events until `stop` is set.
pub(crate) fn start(
    fake: Arc<FakeKube>,
    console: Console,
    page_port: u16,
    stop: Stop,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name("narrator".to_owned())
        .spawn(move || {
            let mut seen = 0;
            while !stop.is_set() {
                let mut messages = Vec::new();
                fake.wait_until(Instant::now() + LOOK, |model| {
                    for change in model.cluster.changes_after(seen) {
                        messages.extend(describe(change, page_port));
                    }
                    let news = model.cluster.revision() > seen;
                    seen = model.cluster.revision();
                    news
                });
                for message in messages {
                    console.log_line("Kubernetes", &message);
                }
            }
        })
}

/// `<type>/<name>` of the instance that a pod (or the pod template of a Job) belongs to.
pub(crate) fn instance(pod: &Value) -> String {
    let annotation = |key: &str| pod["metadata"]["annotations"][key].as_str().unwrap_or("?");
    let (app_type, name) = (
        annotation(labels::INSTANCE_TYPE),
        annotation(labels::INSTANCE_NAME),
    );
    format!("{app_type}/{name}")
}

/// The messages about a change; usually none.
fn describe(change: &Change, page_port: u16) -> Vec<String> {
    let (resource, _, name) = &change.key;
    let before = change.before.as_deref();
    let after = change.after.as_deref();
    let (kind, situation): (_, fn(&Value, u16) -> String) = match resource {
        Resource::ConfigMaps => ("ConfigMap", config_map),
        Resource::Jobs => ("Job", job),
        Resource::Pods => ("pod", pod),
        Resource::Events | Resource::Namespaces | Resource::Leases => return Vec::new(),
    };
    let was = before.map(|object| situation(object, page_port));
    let is = after.map_or_else(
        || "is gone".to_owned(),
        |object| situation(object, page_port),
    );
    let mut messages = Vec::new();
    if was.as_ref() != Some(&is) {
        messages.push(format!("{kind} {name} {is}"));
    }
    if let (Some(before), Some(after)) = (before, after)
        && meta_labels(before) != meta_labels(after)
    {
        let pairs: Vec<String> = meta_labels(after)
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let pairs = match pairs.as_slice() {
            [] => "none".to_owned(),
            pairs => pairs.join(", "),
        };
        messages.push(format!("{kind} {name} has new labels: {pairs}"));
    }
    messages
}

fn config_map(object: &Value, _: u16) -> String {
    let keys = object["data"].as_object().into_iter().flatten();
    let keys: Vec<&str> = keys.map(|(key, _)| key.as_str()).collect();
    format!("holds the templates {}", keys.join(", "))
}

fn job(object: &Value, _: u16) -> String {
    if is_deleting(object) {
        "is being deleted".to_owned()
    } else if has_condition(object, "Failed") {
        "has failed".to_owned()
    } else if has_condition(object, "Complete") {
        "has ended".to_owned()
    } else {
        format!("created, for {}", instance(&object["spec"]["template"]))
    }
}

fn pod(object: &Value, page_port: u16) -> String {
    let status = &object["status"];
    let phase = status["phase"].as_str().unwrap_or("");
    let text = match phase {
        _ if is_deleting(object) => "is being stopped",
        "Succeeded" => "has ended",
        "Failed" => "has failed",
        _ if has_condition(object, "Ready") => {
            let ip = status["podIP"].as_str().unwrap_or("?");
            let name = instance(object);
            return format!("is ready: {name} answers at http://{ip}:{page_port}/");
        }
        "Running" => "is starting: its container runs and is not ready yet",
        _ if status["podIP"].is_string() => "is pulling its image",
        _ if has_condition(object, "PodScheduled") => "has a node, which prepares its network",
        _ => "is being scheduled: it waits for a node",
    };
    text.to_owned()
}

/// What PATCH sets on a pod, by key.
fn meta_labels(object: &Value) -> BTreeMap<String, String> {
    let metadata = &object["metadata"];
    let text = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let (of_label, of_annotation) = (
        format!("{}meta-", labels::PREFIX),
        format!("{}meta.", labels::PREFIX),
    );
    let mut found = BTreeMap::new();
    for (key, value) in metadata["labels"].as_object().into_iter().flatten() {
        if let Some(key) = key.strip_prefix(&of_label) {
            found.insert(key.to_owned(), text(value));
        }
    }
    for (key, value) in metadata["annotations"].as_object().into_iter().flatten() {
        // Pairs that are no valid label are kept as JSON: ["key","value"].
        if key.starts_with(&of_annotation)
            && let Ok((key, value)) = serde_json::from_str::<(String, String)>(&text(value))
        {
            found.insert(key, value);
        }
    }
    found
}
