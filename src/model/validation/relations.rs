//! Rules over several fields of a type: which exclude each other, which need each other, what must be unique.
//!
//! Rules of single values are in `rules.rs`.

mod volumes;

use super::{Validator, formats, is_open, quoted, rules};
use crate::model::names::is_label_value;
use serde_json::{Map, Value};
use std::collections::HashSet;

type Fields = Map<String, Value>;

/// Checks a map of this type.
pub(super) fn check(validator: &mut Validator, type_name: &str, map: &Fields) {
    match type_name {
        "PodSpec" => {
            pod(validator, map);
            host_ports(validator, map);
            stops_and_resizes(validator, map);
        }
        "Container" => {
            container(validator, map);
            restart_rules(validator, map);
        }
        "EnvVar" => env_var(validator, map),
        "EnvFromSource" => one_of(validator, map, &["configMapRef", "secretRef"]),
        "EnvVarSource" => {
            one_of(validator, map, ENV_SOURCES);
            let path = map.get("fieldRef").and_then(Value::as_object);
            let path = path.and_then(|it| text(it, "fieldPath"));
            if let Some(map @ ("metadata.labels" | "metadata.annotations")) = path {
                let text = format!(
                    "Unsupported value: \"{map}\": a variable has one value; expected {map}['<KEY>']"
                );
                validator.fault_of("fieldRef.fieldPath", text);
            }
        }
        "Probe" => one_of(validator, map, &["exec", "httpGet", "tcpSocket", "grpc"]),
        "LifecycleHandler" => one_of(validator, map, &["exec", "httpGet", "tcpSocket", "sleep"]),
        "Volume" => volumes::volume(validator, map),
        "NodeSelector" => node_selector(validator, map),
        "NodeSelectorTerm" => node_fields(validator, map),
        "Toleration" => toleration(validator, map),
        "ResourceRequirements" => resources(validator, map),
        "SecurityContext" => security_context(validator, map),
        "SeccompProfile" | "AppArmorProfile" => profile(validator, map),
        "NodeSelectorRequirement" | "LabelSelectorRequirement" => requirement(validator, map),
        "VolumeMount" if is_set(map, "subPath") && is_set(map, "subPathExpr") => {
            let text = "Invalid value: subPathExpr and subPath are mutually exclusive";
            validator.fault_of("subPathExpr", text);
        }
        _ => volumes::check(validator, type_name, map),
    }
}

const ENV_SOURCES: &[&str] = &[
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];

fn is_set(map: &Fields, field: &str) -> bool {
    map.get(field)
        .is_some_and(|value| !value.is_null() && *value != "")
}

/// The text of a field, if it is known.
fn text<'a>(map: &'a Fields, field: &str) -> Option<&'a str> {
    let value = map.get(field).filter(|value| !is_open(value))?;
    value.as_str().filter(|text| !text.is_empty())
}

fn items<'a>(map: &'a Fields, field: &str) -> impl Iterator<Item = (usize, &'a Fields)> + use<'a> {
    let items = map.get(field).and_then(Value::as_array);
    let items = items.into_iter().flatten().enumerate();
    items.filter_map(|(place, item)| Some((place, item.as_object()?)))
}

fn one_of(validator: &mut Validator, map: &Fields, fields: &[&str]) {
    let set: Vec<&str> = fields
        .iter()
        .copied()
        .filter(|field| is_set(map, field))
        .collect();
    match set.as_slice() {
        [] => validator.fault(format!(
            "Required value: must specify one of: {}",
            fields.join(", ")
        )),
        [_] => {}
        [_, second, ..] => {
            validator.fault_of(second, "Forbidden: may not specify more than one of these")
        }
    }
}

/// Reports each value of a field that an earlier item of a list has, too.
fn unique<'a>(
    validator: &mut Validator,
    seen: &mut HashSet<&'a str>,
    map: &'a Fields,
    (list, field): (&str, &str),
) {
    for (place, item) in items(map, list) {
        if let Some(value) = text(item, field).filter(|value| !seen.insert(value)) {
            let text = format!("Duplicate value: {}", quoted(value));
            validator.below(&format!(".{list}[{place}].{field}"), |it| it.fault(text));
        }
    }
}

fn pod(validator: &mut Validator, map: &Fields) {
    let policy = text(map, "restartPolicy");
    // What is missing is "Always" by default, so both get the same sentence.
    if !is_set(map, "restartPolicy") || policy == Some("Always") {
        let text = "Required value: valid values: \"OnFailure\", \"Never\"";
        validator.fault_of("restartPolicy", text);
    } else if let Some(other) = policy.filter(|it| !["OnFailure", "Never"].contains(it)) {
        let known = "supported values: \"OnFailure\", \"Never\"";
        let text = format!("Unsupported value: {}: {known}", quoted(other));
        validator.fault_of("restartPolicy", text);
    }
    if is_set(map, "ephemeralContainers") {
        let text = "Forbidden: ephemeral containers not allowed in pod template";
        validator.fault_of("ephemeralContainers", text);
    }
    let mut names = HashSet::new();
    unique(validator, &mut names, map, ("containers", "name"));
    unique(validator, &mut names, map, ("initContainers", "name"));
    unique(validator, &mut HashSet::new(), map, ("volumes", "name"));
    mounts(validator, map);
    for (place, one) in items(map, "initContainers") {
        if one
            .get("restartPolicy")
            .is_some_and(|policy| policy == "Always" || is_open(policy))
        {
            continue;
        }
        for field in [
            "lifecycle",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
        ] {
            if is_set(one, field) {
                let text =
                    "Forbidden: may not be set for init containers without restartPolicy=Always";
                validator.below(&format!(".initContainers[{place}].{field}"), |it| {
                    it.fault(text)
                });
            }
        }
    }
    if text(map, "dnsPolicy") == Some("None") && !is_set(map, "dnsConfig") {
        let text = "Required value: must provide `dnsConfig` when `dnsPolicy` is None";
        validator.fault_of("dnsConfig", text);
    }
}

fn host_ports(validator: &mut Validator, map: &Fields) {
    let on_host = map.get("hostNetwork") == Some(&Value::Bool(true));
    let mut taken = HashSet::new();
    for (place, one) in items(map, "containers") {
        for (number, port) in items(one, "ports") {
            let (inside, outside) = (port.get("containerPort"), port.get("hostPort"));
            let outside = outside.filter(|port| port.as_i64().is_some_and(|port| port != 0));
            let Some(outside) = outside else { continue };
            let path = format!(".containers[{place}].ports[{number}].hostPort");
            if on_host && inside != Some(outside) {
                let text = "Invalid value: must match `containerPort` when `hostNetwork` is true";
                validator.below(&path, |it| it.fault(text));
            }
            let protocol = text(port, "protocol").unwrap_or("TCP");
            if !taken.insert((outside.as_i64(), protocol, text(port, "hostIP"))) {
                let text = format!("Duplicate value: \"{outside}\"");
                validator.below(&path, |it| it.fault(text));
            }
        }
    }
}

/// What depends on how the pod stops and whether it is restarted.
fn stops_and_resizes(validator: &mut Validator, map: &Fields) {
    let grace = map.get("terminationGracePeriodSeconds");
    let grace = grace.map_or(Some(30), Value::as_i64).unwrap_or(i64::MAX);
    for (place, one) in items(map, "containers") {
        for hook in ["postStart", "preStop"] {
            let sleep = one.get("lifecycle").map(|it| &it[hook]["sleep"]["seconds"]);
            let sleep = sleep.and_then(Value::as_i64);
            if sleep.is_some_and(|seconds| !(0..=grace).contains(&seconds)) {
                let text = format!(
                    "Invalid value: must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                );
                let path = format!(".containers[{place}].lifecycle.{hook}.sleep");
                validator.below(&path, |it| it.fault(text));
            }
        }
        let mut policies = items(one, "resizePolicy");
        let restarts =
            policies.any(|(_, it)| text(it, "restartPolicy") == Some("RestartContainer"));
        if restarts && text(map, "restartPolicy") == Some("Never") {
            let text = "Invalid value: must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            let path = format!(".containers[{place}].resizePolicy");
            validator.below(&path, |it| it.fault(text));
        }
    }
}

/// Each mount needs its volume.
fn mounts(validator: &mut Validator, map: &Fields) {
    let names: HashSet<&str> = items(map, "volumes")
        .filter_map(|(_, it)| text(it, "name"))
        .collect();
    let has_open = items(map, "volumes").any(|(_, it)| it.get("name").is_some_and(is_open));
    for list in ["containers", "initContainers"] {
        for (place, one) in items(map, list) {
            for (field, path) in [
                ("volumeMounts", "mountPath"),
                ("volumeDevices", "devicePath"),
            ] {
                for (number, mount) in items(one, field) {
                    let missing =
                        text(mount, "name").filter(|name| !names.contains(name) && !has_open);
                    if let Some(name) = missing {
                        let text = format!("Not found: {}", quoted(name));
                        let path = format!(".{list}[{place}].{field}[{number}].name");
                        validator.below(&path, |it| it.fault(text));
                    }
                }
                validator.below(&format!(".{list}[{place}]"), |it| {
                    unique(it, &mut HashSet::new(), one, (field, path));
                });
            }
        }
    }
}

fn container(validator: &mut Validator, map: &Fields) {
    unique(validator, &mut HashSet::new(), map, ("ports", "name"));
    for field in ["livenessProbe", "startupProbe"] {
        let threshold = map.get(field).map(|probe| &probe["successThreshold"]);
        if threshold
            .and_then(Value::as_i64)
            .is_some_and(|number| number > 1)
        {
            let path = format!("{field}.successThreshold");
            validator.fault_of(&path, "Invalid value: must be 1");
        }
    }
    if let Some(policy) =
        text(map, "restartPolicy").filter(|it| !["Always", "Never", "OnFailure"].contains(it))
    {
        let known = "supported values: \"Always\", \"Never\", \"OnFailure\"";
        let text = format!("Unsupported value: {}: {known}", quoted(policy));
        validator.fault_of("restartPolicy", text);
    }
}

/// Rules for restarts of a container need its restart policy.
fn restart_rules(validator: &mut Validator, map: &Fields) {
    let has_rules = items(map, "restartPolicyRules").next().is_some();
    if has_rules && !is_set(map, "restartPolicy") {
        let text = "Required value: must specify restartPolicy when restart rules are used";
        validator.fault_of("restartPolicy", text);
    }
}

fn env_var(validator: &mut Validator, map: &Fields) {
    if is_set(map, "value") && is_set(map, "valueFrom") {
        let text = "Invalid value: may not be specified when `value` is not empty";
        validator.fault_of("valueFrom", text);
    }
}

fn toleration(validator: &mut Validator, map: &Fields) {
    if ["key", "operator", "value", "effect"]
        .iter()
        .any(|field| map.get(*field).is_some_and(is_open))
    {
        return;
    }
    let operator = text(map, "operator").unwrap_or("Equal");
    let value = text(map, "value").unwrap_or_default();
    match operator {
        "Exists" if !value.is_empty() => {
            let text = "Invalid value: value must be empty when `operator` is 'Exists'";
            validator.fault_of("operator", text);
        }
        "Equal" if !is_label_value(value) => {
            validator.fault_of("operator", format!("Invalid value: {}", quoted(value)));
        }
        "Exists" | "Equal" => {}
        other => {
            let text = format!(
                "Unsupported value: {}: supported values: \"Equal\", \"Exists\"",
                quoted(other)
            );
            validator.fault_of("operator", text);
        }
    }
    if !is_set(map, "key") && operator != "Exists" {
        let text = "Invalid value: operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
        validator.fault_of("operator", text);
    }
    let seconds = map.get("tolerationSeconds").is_some_and(|it| !it.is_null());
    if seconds && text(map, "effect") != Some("NoExecute") {
        let text = "Invalid value: effect must be 'NoExecute' when `tolerationSeconds` is set";
        validator.fault_of("effect", text);
    }
}

fn resources(validator: &mut Validator, map: &Fields) {
    let of = |field: &str| map.get(field).and_then(Value::as_object);
    let limits = of("limits");
    for field in ["limits", "requests"] {
        for (name, value) in of(field).into_iter().flatten() {
            let Some(number) = formats::quantity(value) else {
                continue;
            };
            let path = format!(".{field}[{name}]");
            if number < 0.0 {
                let text = "Invalid value: must be greater than or equal to 0";
                validator.below(&path, |it| it.fault(text));
            }
            if !is_resource(name) {
                let text = "Invalid value: must be a standard resource type or fully qualified";
                validator.below(&path, |it| it.fault(text));
            }
            if number.fract() != 0.0 && name.contains('/') {
                let text = "Invalid value: must be an integer";
                validator.below(&path, |it| it.fault(text));
            }
            let may_differ = !name.contains('/') && !name.starts_with("hugepages-");
            let limit = limits.and_then(|limits| limits.get(name));
            if field == "requests" && !may_differ && limit.is_none() {
                let text = "Required value: Limit must be set for non overcommitable resources";
                validator.fault_of("limits", text);
            }
            let limit = limit.and_then(formats::quantity);
            let Some(limit) = limit.filter(|_| field == "requests") else {
                continue;
            };
            if number > limit {
                let text = format!("Invalid value: must be less than or equal to {name} limit");
                validator.below(&path, |it| it.fault(text));
            } else if number < limit && !may_differ {
                let text = format!("Invalid value: must be equal to {name} limit");
                validator.below(&path, |it| it.fault(text));
            }
        }
    }
}

fn is_resource(name: &str) -> bool {
    let standard = ["cpu", "memory", "ephemeral-storage"];
    let is_standard = standard.contains(&name) || name.starts_with("hugepages-");
    is_standard || name.contains('/') && rules::is_qualified_name(name)
}

fn security_context(validator: &mut Validator, map: &Fields) {
    if map.get("allowPrivilegeEscalation") != Some(&Value::Bool(false)) {
        return;
    }
    if map.get("privileged") == Some(&Value::Bool(true)) {
        validator.fault("Invalid value: cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
    }
    let added = map.get("capabilities").and_then(|it| it["add"].as_array());
    if added
        .into_iter()
        .flatten()
        .any(|name| name == "CAP_SYS_ADMIN")
    {
        validator.fault("Invalid value: cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
    }
}

fn profile(validator: &mut Validator, map: &Fields) {
    let has_file = is_set(map, "localhostProfile");
    match text(map, "type") {
        Some("Localhost") if !has_file => {
            validator.fault_of(
                "localhostProfile",
                "Required value: must be set when type is Localhost",
            );
        }
        Some("RuntimeDefault" | "Unconfined") if has_file => {
            let text = "Invalid value: can only be set when type is Localhost";
            validator.fault_of("localhostProfile", text);
        }
        _ => {}
    }
}

fn requirement(validator: &mut Validator, map: &Fields) {
    let count = map
        .get("values")
        .and_then(Value::as_array)
        .map_or(0, Vec::len);
    let text = match text(map, "operator") {
        Some("In" | "NotIn") if count == 0 => {
            "Required value: must be specified when `operator` is 'In' or 'NotIn'"
        }
        Some("Exists" | "DoesNotExist") if count > 0 => {
            "Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        }
        Some("Gt" | "Lt") if count != 1 => {
            "Required value: must be specified single value when `operator` is 'Lt' or 'Gt'"
        }
        _ => return,
    };
    validator.fault_of("values", text);
}

/// The nodes that a pod must have. What it prefers may have any values.
fn node_selector(validator: &mut Validator, map: &Fields) {
    for (place, term) in items(map, "nodeSelectorTerms") {
        let path = format!(".nodeSelectorTerms[{place}]");
        for (number, one) in items(term, "matchExpressions") {
            let values = one.get("values").and_then(Value::as_array);
            for (at, value) in values.into_iter().flatten().enumerate() {
                let value = value.as_str().filter(|_| !is_open(value));
                if let Some(value) = value.filter(|value| !is_label_value(value)) {
                    let text = format!(
                        "Invalid value: {}: expected a label value: at most 63 letters, digits, -, _ and .",
                        quoted(value)
                    );
                    let path = format!("{path}.matchExpressions[{number}].values[{at}]");
                    validator.below(&path, |it| it.fault(text));
                }
            }
        }
    }
}

/// Nodes by their fields, of which there is one.
fn node_fields(validator: &mut Validator, map: &Fields) {
    for (place, one) in items(map, "matchFields") {
        let path = format!(".matchFields[{place}]");
        let mut fail = |field: &str, text: String| {
            validator.below(&format!("{path}.{field}"), |it| it.fault(text));
        };
        if let Some(key) = text(one, "key").filter(|key| *key != "metadata.name") {
            let text = format!("Invalid value: {}: expected metadata.name", quoted(key));
            fail("key", text);
        }
        let count = one.get("values").and_then(Value::as_array).map(Vec::len);
        match text(one, "operator") {
            Some("In" | "NotIn") if count.unwrap_or_default() != 1 => {
                let text = "Required value: must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                fail("values", text.to_owned());
            }
            Some("In" | "NotIn") | None => {}
            Some(other) => {
                let text = format!("Invalid value: {}: expected In or NotIn", quoted(other));
                fail("operator", text);
            }
        }
    }
}
