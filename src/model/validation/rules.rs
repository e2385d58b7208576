//! What the value of one field must be: a table of Kubernetes' `core/v1` validation.
//!
//! Rules over several fields are in `relations.rs`. A field that is not here may have any value of its type.

use super::{Validator, formats, is_open, quoted};
use crate::model::names::{is_dns_label, is_dns_subdomain, is_label_name, is_label_value};
use serde_json::{Map, Value};

/// Whether a text is what it must be.
type Accepts = fn(&str) -> bool;

/// What a value must be.
#[derive(Clone, Copy)]
enum Rule {
    /// One of these texts; an empty one where Kubernetes has a default for it.
    OneOf(&'static [&'static str]),
    /// A number from the first to the second.
    From(i64, i64),
    /// What the function accepts, in words.
    Text(Accepts, &'static str),
    /// The number or name of a port.
    Port,
    /// Keys and values of labels.
    Labels,
    /// Keys of annotations.
    Annotations,
    /// A list of texts, each as the function accepts.
    Each(Accepts, &'static str),
}
use Rule::{Annotations, Each, From, Labels, OneOf, Port, Text};

const MAX: i64 = i32::MAX as i64;
const PORT: Rule = From(1, 65535);
const NOT_NEGATIVE: Rule = From(0, MAX);
const MODE: Rule = From(0, 0o777);
const USER: Rule = From(0, MAX);

const LABEL: Rule = Text(
    is_short_dns_label,
    "at most 63 characters of a-z, 0-9 and -, which begin and end with a letter or digit",
);
const SUBDOMAIN: Rule = Text(
    is_object_name,
    "at most 253 characters of a-z, 0-9, - and ., which begin and end with a letter or digit",
);
const KEY: Rule = Text(
    is_qualified_name,
    "a label name, with or without a prefix and /",
);
const BELOW: Rule = Text(formats::is_path_below, "a relative path without ..");
const NO_PARENT: Rule = Text(formats::has_no_parent, "a path without ..");
const DATA_KEY: Rule = Text(
    formats::is_data_key,
    "at most 253 letters, digits, -, _ and .",
);
const FIELD_PATH: Rule = Text(
    formats::is_field_path,
    "a field of pods that containers may know, such as metadata.name, metadata.labels['x'], spec.nodeName or status.podIP",
);
const RESOURCE_FIELD: Rule = Text(
    formats::is_resource_field,
    "limits or requests of cpu, memory, ephemeral-storage or hugepages-…, such as limits.cpu",
);
const HEADER: Rule = Text(formats::is_header_name, "letters, digits and -");
const ISCSI_NAME: Rule = Text(
    formats::is_iscsi_name,
    "an iSCSI name such as iqn.2026-01.com.example:storage",
);
const ENV_NAME: Rule = Text(formats::is_env_name, "printable ASCII characters without =");

/// Type, field, rule.
const RULES: &[(&str, &str, Rule)] = &[
    ("ObjectMeta", "labels", Labels),
    ("ObjectMeta", "annotations", Annotations),
    (
        "PodSpec",
        "dnsPolicy",
        OneOf(&[
            "",
            "ClusterFirstWithHostNet",
            "ClusterFirst",
            "Default",
            "None",
        ]),
    ),
    ("PodSpec", "activeDeadlineSeconds", From(1, MAX)),
    ("PodSpec", "hostname", LABEL),
    ("PodSpec", "subdomain", LABEL),
    ("PodSpec", "serviceAccountName", SUBDOMAIN),
    ("PodSpec", "serviceAccount", SUBDOMAIN),
    ("PodSpec", "nodeName", SUBDOMAIN),
    ("PodSpec", "priorityClassName", SUBDOMAIN),
    ("PodSpec", "runtimeClassName", SUBDOMAIN),
    (
        "PodSpec",
        "preemptionPolicy",
        OneOf(&["PreemptLowerPriority", "Never"]),
    ),
    ("PodSpec", "nodeSelector", Labels),
    ("PodOS", "name", OneOf(&["linux", "windows"])),
    ("Container", "name", LABEL),
    (
        "ImageVolumeSource",
        "pullPolicy",
        OneOf(&["", "Always", "IfNotPresent", "Never"]),
    ),
    (
        "Container",
        "imagePullPolicy",
        OneOf(&["", "Always", "IfNotPresent", "Never"]),
    ),
    (
        "Container",
        "terminationMessagePolicy",
        OneOf(&["", "File", "FallbackToLogsOnError"]),
    ),
    (
        "ContainerRestartRuleOnExitCodes",
        "operator",
        OneOf(&["In", "NotIn"]),
    ),
    ("ContainerPort", "containerPort", PORT),
    ("ContainerPort", "hostPort", From(0, 65535)),
    (
        "ContainerPort",
        "protocol",
        OneOf(&["", "TCP", "UDP", "SCTP"]),
    ),
    (
        "ContainerPort",
        "name",
        Text(
            formats::is_port_name,
            "at most 15 characters of a-z, 0-9 and -, with a letter",
        ),
    ),
    ("EnvVar", "name", ENV_NAME),
    ("EnvFromSource", "prefix", ENV_NAME),
    ("ObjectFieldSelector", "fieldPath", FIELD_PATH),
    ("ResourceFieldSelector", "resource", RESOURCE_FIELD),
    ("HTTPHeader", "name", HEADER),
    ("ConfigMapKeySelector", "name", SUBDOMAIN),
    ("ConfigMapKeySelector", "key", DATA_KEY),
    ("SecretKeySelector", "name", SUBDOMAIN),
    ("SecretKeySelector", "key", DATA_KEY),
    (
        "VolumeMount",
        "mountPropagation",
        OneOf(&["None", "HostToContainer", "Bidirectional"]),
    ),
    ("VolumeMount", "subPath", BELOW),
    ("VolumeMount", "subPathExpr", BELOW),
    ("Volume", "name", LABEL),
    ("HostPathVolumeSource", "path", NO_PARENT),
    (
        "HostPathVolumeSource",
        "type",
        OneOf(&[
            "",
            "DirectoryOrCreate",
            "Directory",
            "FileOrCreate",
            "File",
            "Socket",
            "CharDevice",
            "BlockDevice",
        ]),
    ),
    ("SecretVolumeSource", "defaultMode", MODE),
    ("ConfigMapVolumeSource", "defaultMode", MODE),
    ("DownwardAPIVolumeSource", "defaultMode", MODE),
    ("ProjectedVolumeSource", "defaultMode", MODE),
    ("ISCSIVolumeSource", "iqn", ISCSI_NAME),
    ("ISCSIVolumeSource", "initiatorName", ISCSI_NAME),
    ("ISCSIVolumeSource", "lun", From(0, 255)),
    (
        "AzureDiskVolumeSource",
        "cachingMode",
        OneOf(&["None", "ReadOnly", "ReadWrite"]),
    ),
    (
        "AzureDiskVolumeSource",
        "kind",
        OneOf(&["Dedicated", "Managed", "Shared"]),
    ),
    (
        "FlockerVolumeSource",
        "datasetName",
        Text(|text| !text.contains('/'), "a name without /"),
    ),
    ("FCVolumeSource", "lun", From(0, 255)),
    ("GCEPersistentDiskVolumeSource", "partition", From(0, 255)),
    (
        "AWSElasticBlockStoreVolumeSource",
        "partition",
        From(0, 255),
    ),
    ("GitRepoVolumeSource", "directory", BELOW),
    ("KeyToPath", "mode", MODE),
    ("KeyToPath", "path", BELOW),
    ("DownwardAPIVolumeFile", "mode", MODE),
    ("DownwardAPIVolumeFile", "path", BELOW),
    (
        "ServiceAccountTokenProjection",
        "expirationSeconds",
        From(600, 1 << 32),
    ),
    ("ServiceAccountTokenProjection", "path", BELOW),
    ("Probe", "initialDelaySeconds", NOT_NEGATIVE),
    ("Probe", "timeoutSeconds", NOT_NEGATIVE),
    ("Probe", "periodSeconds", NOT_NEGATIVE),
    ("Probe", "successThreshold", NOT_NEGATIVE),
    ("Probe", "failureThreshold", NOT_NEGATIVE),
    ("Probe", "terminationGracePeriodSeconds", From(1, i64::MAX)),
    ("HTTPGetAction", "port", Port),
    ("HTTPGetAction", "scheme", OneOf(&["", "HTTP", "HTTPS"])),
    ("TCPSocketAction", "port", Port),
    ("GRPCAction", "port", PORT),
    ("Toleration", "key", KEY),
    (
        "Toleration",
        "effect",
        OneOf(&["", "NoSchedule", "PreferNoSchedule", "NoExecute"]),
    ),
    ("SecurityContext", "runAsUser", USER),
    ("SecurityContext", "runAsGroup", USER),
    (
        "SecurityContext",
        "procMount",
        OneOf(&["Default", "Unmasked"]),
    ),
    ("PodSecurityContext", "runAsUser", USER),
    ("PodSecurityContext", "runAsGroup", USER),
    ("PodSecurityContext", "fsGroup", USER),
    (
        "PodSecurityContext",
        "fsGroupChangePolicy",
        OneOf(&["OnRootMismatch", "Always"]),
    ),
    (
        "SeccompProfile",
        "type",
        OneOf(&["Localhost", "RuntimeDefault", "Unconfined"]),
    ),
    (
        "AppArmorProfile",
        "type",
        OneOf(&["Localhost", "RuntimeDefault", "Unconfined"]),
    ),
    ("NodeSelectorRequirement", "key", KEY),
    (
        "NodeSelectorRequirement",
        "operator",
        OneOf(&["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]),
    ),
    ("LabelSelector", "matchLabels", Labels),
    ("LabelSelectorRequirement", "key", KEY),
    (
        "LabelSelectorRequirement",
        "operator",
        OneOf(&["In", "NotIn", "Exists", "DoesNotExist"]),
    ),
    (
        "LabelSelectorRequirement",
        "values",
        Each(
            is_label_value,
            "a label value: at most 63 letters, digits, -, _ and .",
        ),
    ),
    ("PreferredSchedulingTerm", "weight", From(1, 100)),
    ("WeightedPodAffinityTerm", "weight", From(1, 100)),
    ("PodAffinityTerm", "topologyKey", KEY),
    ("TopologySpreadConstraint", "maxSkew", From(1, MAX)),
    ("TopologySpreadConstraint", "minDomains", From(1, MAX)),
    (
        "TopologySpreadConstraint",
        "whenUnsatisfiable",
        OneOf(&["DoNotSchedule", "ScheduleAnyway"]),
    ),
    ("HostAlias", "ip", Text(formats::is_ip, "an IP address")),
    (
        "HostAlias",
        "hostnames",
        Each(is_object_name, "a host name"),
    ),
    (
        "PodDNSConfig",
        "nameservers",
        Each(formats::is_ip, "an IP address"),
    ),
    ("PodReadinessGate", "conditionType", KEY),
    ("PodSchedulingGate", "name", KEY),
];

/// Type, and the fields that must not be missing or empty.
const REQUIRED: &[(&str, &[&str])] = &[
    ("PodTemplateSpec", &["spec"]),
    ("PodSpec", &["containers"]),
    ("Container", &["name", "image"]),
    ("ContainerPort", &["containerPort"]),
    ("EnvVar", &["name"]),
    ("ConfigMapKeySelector", &["name", "key"]),
    ("SecretKeySelector", &["name", "key"]),
    ("ConfigMapEnvSource", &["name"]),
    ("SecretEnvSource", &["name"]),
    ("ObjectFieldSelector", &["fieldPath"]),
    ("ResourceFieldSelector", &["resource"]),
    ("FileKeySelector", &["volumeName", "path", "key"]),
    ("VolumeMount", &["name", "mountPath"]),
    ("VolumeDevice", &["name", "devicePath"]),
    ("Volume", &["name"]),
    ("PersistentVolumeClaimVolumeSource", &["claimName"]),
    ("HostPathVolumeSource", &["path"]),
    ("SecretVolumeSource", &["secretName"]),
    ("ConfigMapVolumeSource", &["name"]),
    ("SecretProjection", &["name"]),
    ("ConfigMapProjection", &["name"]),
    ("ServiceAccountTokenProjection", &["path"]),
    ("NFSVolumeSource", &["server", "path"]),
    ("CSIVolumeSource", &["driver"]),
    ("EphemeralVolumeSource", &["volumeClaimTemplate"]),
    ("GitRepoVolumeSource", &["repository"]),
    ("ISCSIVolumeSource", &["targetPortal", "iqn"]),
    ("CephFSVolumeSource", &["monitors"]),
    ("GlusterfsVolumeSource", &["endpoints", "path"]),
    ("AzureFileVolumeSource", &["secretName", "shareName"]),
    ("AzureDiskVolumeSource", &["diskName", "diskURI"]),
    ("FlexVolumeSource", &["driver"]),
    ("GCEPersistentDiskVolumeSource", &["pdName"]),
    ("AWSElasticBlockStoreVolumeSource", &["volumeID"]),
    ("RBDVolumeSource", &["monitors", "image"]),
    ("CinderVolumeSource", &["volumeID"]),
    ("VsphereVirtualDiskVolumeSource", &["volumePath"]),
    ("PortworxVolumeSource", &["volumeID"]),
    ("PhotonPersistentDiskVolumeSource", &["pdID"]),
    ("ScaleIOVolumeSource", &["gateway", "system", "volumeName"]),
    ("QuobyteVolumeSource", &["registry", "volume"]),
    ("StorageOSVolumeSource", &["volumeName"]),
    ("ContainerRestartRule", &["action", "exitCodes"]),
    ("ContainerRestartRuleOnExitCodes", &["operator"]),
    ("KeyToPath", &["key", "path"]),
    ("DownwardAPIVolumeFile", &["path"]),
    ("HTTPGetAction", &["port"]),
    ("HTTPHeader", &["name"]),
    ("TCPSocketAction", &["port"]),
    ("GRPCAction", &["port"]),
    ("ExecAction", &["command"]),
    ("SeccompProfile", &["type"]),
    ("AppArmorProfile", &["type"]),
    ("NodeSelector", &["nodeSelectorTerms"]),
    ("NodeSelectorRequirement", &["key", "operator"]),
    ("LabelSelectorRequirement", &["key", "operator"]),
    ("PreferredSchedulingTerm", &["weight"]),
    ("WeightedPodAffinityTerm", &["weight"]),
    ("PodAffinityTerm", &["topologyKey"]),
    (
        "TopologySpreadConstraint",
        &["maxSkew", "topologyKey", "whenUnsatisfiable"],
    ),
    ("HostAlias", &["ip"]),
    ("PodOS", &["name"]),
    ("PodReadinessGate", &["conditionType"]),
    ("PodResourceClaim", &["name"]),
    ("PodSchedulingGate", &["name"]),
    ("Sysctl", &["name"]),
];

/// The fields that a value of this type must have.
pub(super) fn required(type_name: &str) -> &'static [&'static str] {
    let found = REQUIRED.iter().find(|(name, _)| *name == type_name);
    found.map_or(&[], |(_, fields)| fields)
}

/// Checks the value of a field, which has the right type.
pub(super) fn check(validator: &mut Validator, type_name: &str, field: &str, value: &Value) {
    let mut rules = RULES.iter();
    let Some((_, _, rule)) = rules.find(|rule| (rule.0, rule.1) == (type_name, field)) else {
        return;
    };
    match (rule, value) {
        (OneOf(known), Value::String(text)) if !known.contains(&text.as_str()) => {
            let known = known.iter().filter(|known| !known.is_empty());
            let known: Vec<String> = known.map(|known| quoted(known)).collect();
            let (text, known) = (quoted(text), known.join(", "));
            validator.fault(format!(
                "Unsupported value: {text}: supported values: {known}"
            ));
        }
        // What is missing is reported elsewhere.
        (Text(_, _), Value::String(text)) if text.is_empty() => {}
        (Text(accepts, expected), Value::String(text)) if !accepts(text) => {
            invalid(validator, text, expected);
        }
        (From(least, most), Value::Number(_)) => {
            let number = value.as_i64().unwrap_or_default();
            // Zero is how Kubernetes' types say that a number is missing.
            let is_missing = number == 0 && required(type_name).contains(&field);
            if !is_missing {
                check_range(validator, number, (*least, *most));
            }
        }
        (Port, Value::Number(_)) => {
            check_range(validator, value.as_i64().unwrap_or_default(), (1, 65535));
        }
        (Port, Value::String(text)) if !formats::is_port_name(text) => {
            let expected = "the name of a port: at most 15 characters of a-z, 0-9 and -, with a letter; a number has no quotes";
            invalid(validator, text, expected);
        }
        (Labels, Value::Object(map)) => check_labels(validator, map),
        (Annotations, Value::Object(map)) => {
            let mut keys = map.keys();
            if let Some(key) = keys.find(|key| !is_qualified_name(&key.to_ascii_lowercase())) {
                let expected = "an annotation name, with or without a prefix and /";
                invalid(validator, key, expected);
            }
        }
        (Each(accepts, expected), Value::Array(items)) => {
            for (place, item) in items.iter().enumerate().filter(|(_, item)| !is_open(item)) {
                if let Some(text) = item.as_str().filter(|text| !accepts(text)) {
                    validator.below(&format!("[{place}]"), |it| invalid(it, text, expected));
                }
            }
        }
        _ => {}
    }
}

fn check_range(validator: &mut Validator, number: i64, (least, most): (i64, i64)) {
    if (least..=most).contains(&number) {
        return;
    }
    let expected = match most {
        i64::MAX | MAX => format!("{least} or more"),
        most => format!("{least} to {most}"),
    };
    validator.fault(format!(
        "Invalid value: {number}: expected a number of {expected}"
    ));
}

fn check_labels(validator: &mut Validator, map: &Map<String, Value>) {
    for (key, value) in map {
        if !is_qualified_name(key) {
            invalid(
                validator,
                key,
                "a label name, with or without a prefix and /",
            );
        }
        let text = value.as_str().filter(|_| !is_open(value));
        if let Some(text) = text.filter(|text| !is_label_value(text)) {
            let expected = "a label value: at most 63 letters, digits, -, _ and .";
            validator.below(&format!("[{key}]"), |it| invalid(it, text, expected));
        }
    }
}

fn invalid(validator: &mut Validator, text: &str, expected: &str) {
    validator.fault(format!(
        "Invalid value: {}: expected {expected}",
        quoted(text)
    ));
}

fn is_short_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_dns_label(text)
}

fn is_object_name(text: &str) -> bool {
    text.len() <= 253 && is_dns_subdomain(text)
}

/// The name of a label, with or without a prefix.
pub(super) fn is_qualified_name(text: &str) -> bool {
    if text.contains(super::PLACEHOLDER) {
        return true;
    }
    match text.split_once('/') {
        Some((prefix, name)) => is_object_name(prefix) && is_label_name(name),
        None => is_label_name(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields;
    use super::*;

    #[test]
    fn each_rule_is_of_a_field_that_exists_and_stands_once() {
        let required = REQUIRED
            .iter()
            .flat_map(|(name, all)| all.iter().map(move |field| (*name, *field)));
        let mut places: Vec<(&str, &str)> = RULES.iter().map(|rule| (rule.0, rule.1)).collect();
        for (name, field) in required.chain(places.clone()) {
            assert!(fields::find(name, field).is_some(), "{name}.{field}");
        }
        places.sort_unstable();
        let count = places.len();
        places.dedup();
        assert_eq!(places.len(), count);
    }
}
