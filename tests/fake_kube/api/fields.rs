//! Field validation of a create: the fields of Jobs and pods that this API server knows, and the types of
//! some. An unknown field is a warning, a wrong type a 400, as in the real one. Pure.
//!
//! What a field may hold is validated in `cluster::validate`, after this.

use serde_json::Value;

use super::Request;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::status::{self, Refusal};

/// All warnings of a response together have no more characters; those that do not fit are cut.
const WARNINGS_CHARS_MAX: usize = 4096;

/// Once they do not fit, no warning is longer than this.
const WARNING_CHARS_MAX: usize = 256;

/// What a field holds.
#[derive(Clone, Copy)]
enum Shape {
    /// Not checked.
    Any,
    Text,
    /// A whole number of this Go type.
    Number(&'static str),
    /// A time with six digits of a second's fraction.
    MicroTime,
    /// A struct of the table.
    One(&'static str),
    /// A list of them.
    Many(&'static str),
}

use Shape::{Any, Many, MicroTime, Number, One, Text};

const OF_OBJECTS: &str = "apiVersion kind metadata status";

/// The fields of a struct: those with a shape, then those that may hold anything.
fn fields(kind: &str) -> (&'static [(&'static str, Shape)], &'static str) {
    match kind {
        "Job" => (&[("spec", One("JobSpec"))], OF_OBJECTS),
        "Pod" => (&[("spec", One("PodSpec"))], OF_OBJECTS),
        "Lease" => (&[("spec", One("LeaseSpec"))], "apiVersion kind metadata"),
        "LeaseSpec" => (
            &[
                ("holderIdentity", Text),
                ("leaseDurationSeconds", Number("int32")),
                ("leaseTransitions", Number("int32")),
                ("acquireTime", MicroTime),
                ("renewTime", MicroTime),
            ],
            "strategy preferredHolder",
        ),
        "JobSpec" => (
            &[("template", One("PodTemplateSpec"))],
            "parallelism completions activeDeadlineSeconds podFailurePolicy successPolicy \
             backoffLimit backoffLimitPerIndex maxFailedIndexes selector manualSelector \
             ttlSecondsAfterFinished completionMode suspend podReplacementPolicy managedBy",
        ),
        "PodTemplateSpec" => (&[("spec", One("PodSpec"))], "metadata"),
        "PodSpec" => (
            &[
                ("initContainers", Many("Container")),
                ("containers", Many("Container")),
                ("tolerations", Many("Toleration")),
                ("serviceAccountName", Text),
                ("terminationGracePeriodSeconds", Number("int64")),
            ],
            "volumes ephemeralContainers restartPolicy activeDeadlineSeconds dnsPolicy nodeSelector \
             serviceAccount automountServiceAccountToken nodeName hostNetwork hostPID hostIPC \
             shareProcessNamespace securityContext imagePullSecrets hostname subdomain affinity \
             schedulerName hostAliases priorityClassName priority dnsConfig readinessGates \
             runtimeClassName enableServiceLinks preemptionPolicy overhead \
             topologySpreadConstraints setHostnameAsFQDN os hostUsers schedulingGates \
             resourceClaims resources hostnameOverride schedulingGroup",
        ),
        part => fields_of_containers(part),
    }
}

fn fields_of_containers(part: &str) -> (&'static [(&'static str, Shape)], &'static str) {
    match part {
        "Container" => (
            &[
                ("name", Text),
                ("image", Text),
                ("ports", Many("ContainerPort")),
                ("env", Many("EnvVar")),
                ("resources", One("ResourceRequirements")),
                ("livenessProbe", One("Probe")),
                ("readinessProbe", One("Probe")),
                ("startupProbe", One("Probe")),
            ],
            "command args workingDir envFrom resizePolicy restartPolicy restartPolicyRules \
             volumeMounts volumeDevices lifecycle terminationMessagePath terminationMessagePolicy \
             imagePullPolicy securityContext stdin stdinOnce tty",
        ),
        "ContainerPort" => (
            &[
                ("hostPort", Number("int32")),
                ("containerPort", Number("int32")),
            ],
            "name protocol hostIP",
        ),
        "EnvVar" => (&[("name", Text), ("value", Text)], "valueFrom"),
        "Toleration" => (
            &[("value", Text), ("tolerationSeconds", Number("int64"))],
            "key operator effect",
        ),
        "ResourceRequirements" => (&[], "limits requests claims"),
        "Probe" => (
            &[
                ("periodSeconds", Number("int32")),
                ("timeoutSeconds", Number("int32")),
            ],
            "exec httpGet tcpSocket grpc initialDelaySeconds successThreshold failureThreshold \
             terminationGracePeriodSeconds",
        ),
        other => panic!("the table has no struct {other}"),
    }
}

/// The warnings of a create, by the query's `fieldValidation`.
pub(super) fn check(
    request: &Request,
    resource: Resource,
    object: &Value,
) -> Result<Vec<String>, Refusal> {
    let kind = match resource {
        Resource::Jobs => "Job",
        Resource::Pods => "Pod",
        Resource::Leases => "Lease",
        _ => return Ok(Vec::new()),
    };
    let mut found = Found::default();
    found.visit(kind, object, "", "");
    let begin = format!("{kind} in version \"v1\" cannot be handled as a {kind}: ");
    if let Some(wrong) = found.wrong {
        return Err(status::bad_request(format!("{begin}{wrong}")));
    }
    match request.query("fieldValidation") {
        "" | "Warn" => Ok(found.unknown),
        "Strict" if !found.unknown.is_empty() => {
            let all = found.unknown.join(", ");
            let message = format!("{begin}strict decoding error: {all}");
            Err(status::bad_request(message))
        }
        _ => Ok(Vec::new()),
    }
}

#[derive(Default)]
struct Found {
    unknown: Vec<String>,
    /// The first wrong type.
    wrong: Option<String>,
}

impl Found {
    /// Goes through a struct; `at` is its path with indexes, `plain` without.
    fn visit(&mut self, kind: &str, value: &Value, at: &str, plain: &str) {
        let (shaped, others) = fields(kind);
        for (name, value) in value.as_object().into_iter().flatten() {
            let join = |path: &str| match path {
                "" => name.clone(),
                path => format!("{path}.{name}"),
            };
            let (at, plain) = (join(at), join(plain));
            let shape = shaped.iter().find(|(known, _)| known == name);
            let shape = match shape {
                Some((_, shape)) => *shape,
                None if others.split(' ').any(|known| known == name) => Any,
                None => {
                    self.unknown.push(format!("unknown field {at:?}"));
                    continue;
                }
            };
            let mut wrong = |wanted: &str| {
                let given = match value {
                    Value::Bool(_) => "bool",
                    Value::Number(_) => "number",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    _ => "object",
                };
                let text = || {
                    format!(
                        "json: cannot unmarshal {given} into Go struct field {kind}.{plain} of type {wanted}"
                    )
                };
                self.wrong.get_or_insert_with(text);
            };
            match (shape, value) {
                (Any, _) | (_, Value::Null) => {}
                (Text, Value::String(_)) | (Number(_), Value::Number(_)) => {}
                (Text, _) => wrong("string"),
                (MicroTime, value) => {
                    let text = value.as_str().unwrap_or("");
                    if !is_micro_time(text) {
                        self.wrong.get_or_insert_with(|| cannot_parse(text));
                    }
                }
                (Number(of), _) => wrong(of),
                (One(kind), value) => self.visit(kind, value, &at, &plain),
                (Many(kind), value) => {
                    let items = value.as_array().into_iter().flatten();
                    for (number, item) in items.enumerate() {
                        self.visit(kind, item, &format!("{at}[{number}]"), &plain);
                    }
                }
            }
        }
    }
}

fn is_micro_time(text: &str) -> bool {
    let shape = "0000-00-00T00:00:00.000000Z";
    let alike = |(is, of): (char, char)| is == of || (of == '0' && is.is_ascii_digit());
    text.len() == shape.len() && text.chars().zip(shape.chars()).all(alike)
}

fn cannot_parse(text: &str) -> String {
    format!("parsing time {text:?} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {text:?}")
}

/// The headers of these warnings.
pub(super) fn headers(warnings: &[String]) -> Vec<(&'static str, String)> {
    let all: usize = warnings.iter().map(|text| text.chars().count()).sum();
    let each = if all > WARNINGS_CHARS_MAX {
        WARNING_CHARS_MAX
    } else {
        usize::MAX
    };
    let mut left = WARNINGS_CHARS_MAX;
    let mut headers = Vec::new();
    for text in warnings {
        let text: String = text.chars().take(each).collect();
        let Some(rest) = left.checked_sub(text.chars().count()) else {
            break;
        };
        left = rest;
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        headers.push(("Warning", format!("299 - \"{quoted}\"")));
    }
    headers
}
