//! Validation (422): names, labels, annotations, and the parts of Jobs and Pods
//! that the service depends on. The real API server checks much more; the checks
//! that are here are as strict as there.

use serde_json::Value;

use super::resource::Resource;
use super::status::Cause;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
    characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
    'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric \
    characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or \
    '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric \
    characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. \
    'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and \
    must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
    '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// The largest sum of annotation keys and values.
const ANNOTATION_BYTES_MAX: usize = 256 * 1024;

fn is_dns_label(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn is_word(text: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    edge(text.chars().next())
        && edge(text.chars().next_back())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// Why this is not a DNS-1123 subdomain.
pub(crate) fn subdomain_fault(name: &str) -> Option<String> {
    if name.len() > 253 {
        return Some("must be no more than 253 bytes".to_owned());
    }
    (!name.split('.').all(is_dns_label)).then(|| SUBDOMAIN.to_owned())
}

/// Why this is not a DNS-1123 label.
pub(crate) fn dns_label_fault(name: &str) -> Option<String> {
    if name.len() > 63 {
        return Some("must be no more than 63 bytes".to_owned());
    }
    (!is_dns_label(name)).then(|| LABEL.to_owned())
}

/// Why this is not a valid label (or annotation) key; there may be several reasons.
pub(crate) fn label_key_faults(key: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else if let Some(why) = subdomain_fault(prefix) {
                faults.push(format!("prefix part {why}"));
            }
            name
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_word(name) {
        faults.push(QUALIFIED.to_owned());
    }
    faults
}

/// Why this is not a valid label value; there may be several reasons.
pub(crate) fn label_value_faults(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push("must be no more than 63 bytes".to_owned());
    }
    if !value.is_empty() && !is_word(value) {
        faults.push(LABEL_VALUE.to_owned());
    }
    faults
}

/// A wrong type: the decoder's 400, not validation's 422.
pub(crate) fn decode_fault(resource: Resource, object: &Value) -> Option<String> {
    let (kind, version) = (resource.kind(), "v1");
    let place = |path: &str, what: &str, wanted: &str| {
        format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: json: cannot unmarshal \
             {what} into Go struct field {path} of type {wanted}"
        )
    };
    for (path, part) in structs(resource, object) {
        if !part.is_object() && !part.is_null() {
            return Some(place(path, type_name(part), "struct"));
        }
    }
    for (path, map) in string_maps(resource, object) {
        match map {
            Value::Null => {}
            Value::Object(map) => {
                if let Some(wrong) = map.values().find(|v| !v.is_string() && !v.is_null()) {
                    return Some(place(path, type_name(wrong), "string"));
                }
            }
            other => return Some(place(path, type_name(other), "map[string]string")),
        }
    }
    if resource == Resource::Jobs
        && let Some((field, given, wanted)) = job_scalar_fault(&object["spec"])
    {
        return Some(place(&format!("JobSpec.spec.{field}"), &given, wanted));
    }
    let spec = pod_spec(resource, object)?;
    for list in ["initContainers", "containers"] {
        match &spec[list] {
            Value::Null => {}
            Value::Array(all) => {
                if let Some(wrong) = all.iter().find(|c| !c.is_object()) {
                    return Some(place(
                        "PodSpec.containers",
                        type_name(wrong),
                        "v1.Container",
                    ));
                }
            }
            other => {
                return Some(place(
                    "PodSpec.containers",
                    type_name(other),
                    "[]v1.Container",
                ));
            }
        }
    }
    None
}

/// A field of a Job that has another type: its name, what was given, and what it has to be.
fn job_scalar_fault(spec: &Value) -> Option<(&'static str, String, &'static str)> {
    let numbers = [
        ("activeDeadlineSeconds", "int64", i64::MAX),
        ("ttlSecondsAfterFinished", "int32", i64::from(i32::MAX)),
        ("backoffLimit", "int32", i64::from(i32::MAX)),
    ];
    for (field, wanted, most) in numbers {
        let given = match &spec[field] {
            Value::Null => continue,
            Value::Number(number) if number.as_i64().is_some_and(|n| n <= most) => continue,
            Value::Number(number) => format!("number {number}"),
            other => type_name(other).to_owned(),
        };
        return Some((field, given, wanted));
    }
    match &spec["suspend"] {
        Value::Null | Value::Bool(_) => None,
        other => Some(("suspend", type_name(other).to_owned(), "bool")),
    }
}

fn structs(resource: Resource, object: &Value) -> Vec<(&'static str, &Value)> {
    let mut parts = vec![
        ("metadata", &object["metadata"]),
        ("status", &object["status"]),
    ];
    if matches!(
        resource,
        Resource::Pods | Resource::Jobs | Resource::Namespaces | Resource::Leases
    ) {
        parts.push(("spec", &object["spec"]));
    }
    if resource == Resource::Jobs {
        let template = &object["spec"]["template"];
        parts.push(("JobSpec.spec.template", template));
        parts.push(("JobSpec.spec.template.metadata", &template["metadata"]));
        parts.push(("JobSpec.spec.template.spec", &template["spec"]));
    }
    parts
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn string_maps(resource: Resource, object: &Value) -> Vec<(&'static str, &Value)> {
    let mut maps = vec![
        ("ObjectMeta.metadata.labels", &object["metadata"]["labels"]),
        (
            "ObjectMeta.metadata.annotations",
            &object["metadata"]["annotations"],
        ),
    ];
    match resource {
        Resource::ConfigMaps => maps.push(("ConfigMap.data", &object["data"])),
        Resource::Jobs => {
            let meta = &object["spec"]["template"]["metadata"];
            maps.push(("JobSpec.spec.template.metadata.labels", &meta["labels"]));
            maps.push((
                "JobSpec.spec.template.metadata.annotations",
                &meta["annotations"],
            ));
        }
        _ => {}
    }
    maps
}

fn pod_spec(resource: Resource, object: &Value) -> Option<&Value> {
    match resource {
        Resource::Pods => Some(&object["spec"]),
        Resource::Jobs => Some(&object["spec"]["template"]["spec"]),
        _ => None,
    }
}

/// All problems of an object that is about to be stored.
pub(crate) fn causes(resource: Resource, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = super::meta(object, "name");
    let fault = match resource {
        Resource::Namespaces => dns_label_fault(name),
        _ => subdomain_fault(name),
    };
    if let Some(why) = fault {
        causes.push(Cause::invalid("metadata.name", name, &why));
    }
    check_labels(
        "metadata.labels",
        &object["metadata"]["labels"],
        &mut causes,
    );
    check_annotations(
        "metadata.annotations",
        &object["metadata"]["annotations"],
        &mut causes,
    );
    check_owners(&object["metadata"]["ownerReferences"], &mut causes);
    match resource {
        Resource::Leases => check_lease(&object["spec"], &mut causes),
        Resource::Jobs => check_job(&object["spec"], &mut causes),
        Resource::Pods => check_pod_spec("spec", &object["spec"], &mut causes),
        _ => {}
    }
    causes
}

fn check_labels(field: &str, labels: &Value, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        for why in label_key_faults(key) {
            causes.push(Cause::invalid(field, key, &why));
        }
        let value = value.as_str().unwrap_or("");
        for why in label_value_faults(value) {
            causes.push(Cause::invalid(field, value, &why));
        }
    }
}

fn check_annotations(field: &str, annotations: &Value, causes: &mut Vec<Cause>) {
    let mut bytes = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        // Upper case is allowed in the prefix of an annotation.
        for why in label_key_faults(&key.to_ascii_lowercase()) {
            causes.push(Cause::invalid(field, key, &why));
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > ANNOTATION_BYTES_MAX {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            message: format!("Too long: may not be more than {ANNOTATION_BYTES_MAX} bytes"),
            field: field.to_owned(),
        });
    }
}

fn check_owners(owners: &Value, causes: &mut Vec<Cause>) {
    for owner in owners.as_array().into_iter().flatten() {
        for (field, why) in [
            ("apiVersion", "version must not be empty"),
            ("kind", "must not be empty"),
            ("name", "must not be empty"),
            ("uid", "must not be empty"),
        ] {
            if owner[field].as_str().unwrap_or("").is_empty() {
                let field = format!("metadata.ownerReferences.{field}");
                causes.push(Cause::invalid(field, "", why));
            }
        }
    }
}

fn check_lease(spec: &Value, causes: &mut Vec<Cause>) {
    let mut check = |field: &str, least: i64, why: &str| {
        if let Some(number) = spec[field].as_i64().filter(|number| *number < least) {
            causes.push(Cause {
                reason: "FieldValueInvalid",
                message: format!("Invalid value: {number}: must be {why} 0"),
                field: format!("spec.{field}"),
            });
        }
    };
    check("leaseDurationSeconds", 1, "greater than");
    check("leaseTransitions", 0, "greater than or equal to");
}

fn check_job(spec: &Value, causes: &mut Vec<Cause>) {
    let template = &spec["template"];
    check_labels(
        "spec.template.labels",
        &template["metadata"]["labels"],
        causes,
    );
    check_annotations(
        "spec.template.annotations",
        &template["metadata"]["annotations"],
        causes,
    );
    check_pod_spec("spec.template.spec", &template["spec"], causes);
    let restart = template["spec"]["restartPolicy"].as_str().unwrap_or("");
    if matches!(restart, "" | "Always") {
        causes.push(Cause::required(
            "spec.template.spec.restartPolicy",
            "valid values: \"OnFailure\", \"Never\"",
        ));
    }
    let replacement = spec["podReplacementPolicy"].as_str().unwrap_or("");
    if spec["podFailurePolicy"].is_object() {
        if restart != "Never" && !restart.is_empty() {
            causes.push(Cause::invalid(
                "spec.template.spec.restartPolicy",
                restart,
                "only \"Never\" is supported when podFailurePolicy is specified",
            ));
        }
        if replacement == "TerminatingOrFailed" {
            let field = "spec.podReplacementPolicy";
            causes.push(Cause::unsupported(field, replacement, &["Failed"]));
        }
    } else if !matches!(replacement, "" | "Failed" | "TerminatingOrFailed") {
        let supported = ["Failed", "TerminatingOrFailed"];
        causes.push(Cause::unsupported(
            "spec.podReplacementPolicy",
            replacement,
            &supported,
        ));
    }
    for field in [
        "backoffLimit",
        "activeDeadlineSeconds",
        "ttlSecondsAfterFinished",
    ] {
        if let Some(number) = spec[field].as_i64().filter(|n| *n < 0) {
            causes.push(Cause {
                reason: "FieldValueInvalid",
                message: format!("Invalid value: {number}: must be greater than or equal to 0"),
                field: format!("spec.{field}"),
            });
        }
    }
}

fn check_pod_spec(field: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array().map_or(&[][..], Vec::as_slice);
    if containers.is_empty() {
        causes.push(Cause::required(format!("{field}.containers"), ""));
    }
    let restart = spec["restartPolicy"].as_str().unwrap_or("Always");
    if !matches!(restart, "" | "Always" | "OnFailure" | "Never") {
        let field = format!("{field}.restartPolicy");
        let supported = ["Always", "OnFailure", "Never"];
        causes.push(Cause::unsupported(field, restart, &supported));
    }
    let mut seen: Vec<&str> = Vec::new();
    for list in ["initContainers", "containers"] {
        for (at, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let field = format!("{field}.{list}[{at}]");
            let name = container["name"].as_str().unwrap_or("");
            check_container(&field, name, container, causes);
            if seen.contains(&name) {
                causes.push(Cause {
                    reason: "FieldValueDuplicate",
                    message: format!("Duplicate value: {name:?}"),
                    field: format!("{field}.name"),
                });
            }
            seen.push(name);
        }
    }
}

fn check_container(field: &str, name: &str, container: &Value, causes: &mut Vec<Cause>) {
    if name.is_empty() {
        causes.push(Cause::required(format!("{field}.name"), ""));
    } else if let Some(why) = dns_label_fault(name) {
        causes.push(Cause::invalid(format!("{field}.name"), name, &why));
    }
    if container["image"].as_str().unwrap_or("").is_empty() {
        causes.push(Cause::required(format!("{field}.image"), ""));
    }
    let pull = container["imagePullPolicy"].as_str().unwrap_or("Always");
    if !matches!(pull, "Always" | "IfNotPresent" | "Never") {
        let supported = ["Always", "IfNotPresent", "Never"];
        causes.push(Cause::unsupported(
            format!("{field}.imagePullPolicy"),
            pull,
            &supported,
        ));
    }
}
