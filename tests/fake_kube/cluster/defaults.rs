//! Defaults that the API server sets when an object is created.

use serde_json::{Value, json};

use super::resource::Resource;

/// Sets a field that is absent or null.
fn default(object: &mut Value, field: &str, value: Value) {
    if object[field].is_null() {
        object[field] = value;
    }
}

/// Sets the defaults of a new object, which has its name and UID already.
pub(crate) fn fill(resource: Resource, object: &mut Value) {
    object["apiVersion"] = json!(resource.api_version());
    object["kind"] = json!(resource.kind());
    match resource {
        Resource::Jobs => fill_job(object),
        Resource::Pods => {
            fill_pod_spec(&mut object["spec"], "Always");
            default(&mut object["spec"], "serviceAccountName", json!("default"));
            object["metadata"]["generation"] = json!(1);
            object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
        }
        Resource::Namespaces => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        Resource::Leases => {
            default(object, "spec", json!({}));
            if let Some(fields) = object.as_object_mut() {
                fields.retain(|name, _| name != "status");
            }
        }
        Resource::ConfigMaps | Resource::Events => {}
    }
}

fn fill_job(job: &mut Value) {
    let uid = job["metadata"]["uid"].clone();
    let name = job["metadata"]["name"].clone();
    job["metadata"]["generation"] = json!(1);
    job["status"] = json!({});
    let spec = &mut job["spec"];
    default(spec, "parallelism", json!(1));
    default(spec, "completions", json!(1));
    let limit_default = if spec["backoffLimitPerIndex"].is_null() {
        6
    } else {
        i32::MAX
    };
    default(spec, "backoffLimit", json!(limit_default));
    default(spec, "completionMode", json!("NonIndexed"));
    default(spec, "suspend", json!(false));
    let replacement = if spec["podFailurePolicy"].is_object() {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    default(spec, "podReplacementPolicy", json!(replacement));
    spec["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    for (key, value) in [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ] {
        spec["template"]["metadata"]["labels"][key] = value.clone();
    }
    default(spec, "manualSelector", json!(false));
    if spec["template"]["spec"].is_object() {
        fill_pod_spec(&mut spec["template"]["spec"], "Always");
    }
    // A Job without labels of its own gets those of its template.
    let template_labels = spec["template"]["metadata"]["labels"].clone();
    let own = &mut job["metadata"]["labels"];
    if own.as_object().is_none_or(|labels| labels.is_empty()) {
        *own = template_labels;
    }
}

fn fill_pod_spec(spec: &mut Value, restart_policy: &str) {
    default(spec, "restartPolicy", json!(restart_policy));
    default(spec, "terminationGracePeriodSeconds", json!(30));
    default(spec, "dnsPolicy", json!("ClusterFirst"));
    default(spec, "securityContext", json!({}));
    default(spec, "schedulerName", json!("default-scheduler"));
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            fill_container(container);
        }
    }
}

fn fill_container(container: &mut Value) {
    let latest = container["image"]
        .as_str()
        .and_then(|image| image.rsplit('/').next())
        .is_none_or(|last| !last.contains([':', '@']) || last.ends_with(":latest"));
    let pull = if latest { "Always" } else { "IfNotPresent" };
    default(container, "imagePullPolicy", json!(pull));
    default(container, "resources", json!({}));
    default(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    default(container, "terminationMessagePolicy", json!("File"));
    for port in container["ports"].as_array_mut().into_iter().flatten() {
        default(port, "protocol", json!("TCP"));
    }
}
