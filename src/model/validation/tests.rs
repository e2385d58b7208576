//! What is reported of a template was compared with the API server of Kubernetes 1.36.3.

use super::*;
use crate::yaml;
use serde_json::json;

/// The findings of a pod template with this container and these other fields of its spec.
fn findings(container: &str, others: &str) -> Vec<String> {
    let text = format!(
        "spec:\n  restartPolicy: Never\n  containers: [{{name: a, image: b, {container}}}]\n{others}"
    );
    let tree = yaml::parse(&text).unwrap();
    let all = validate(&tree.to_json().unwrap());
    all.iter()
        .map(|it| format!("{}{it}", if it.is_fault { "" } else { "warning: " }))
        .collect()
}

const PATH: &str = "spec.containers[0]";

#[track_caller]
fn check(container: &str, expected: &str) {
    let expected = expected.replace('@', PATH);
    let expected: Vec<&str> = Some(&*expected)
        .filter(|it| !it.is_empty())
        .into_iter()
        .collect();
    assert_eq!(findings(container, ""), expected, "{container}");
}

#[track_caller]
fn check_spec(others: &str, expected: &str) {
    let expected = expected.replace('@', "spec");
    let expected: Vec<&str> = Some(&*expected)
        .filter(|it| !it.is_empty())
        .into_iter()
        .collect();
    assert_eq!(findings("", &format!("  {others}")), expected, "{others}");
}

#[test]
fn unknown_fields_are_warnings_in_the_words_of_kubectl() {
    check(
        "readinesProbe: {httpGet: {port: 80}}",
        "warning: unknown field \"@.readinesProbe\"; did you mean readinessProbe?",
    );
    check("whatever: 1", "warning: unknown field \"@.whatever\"");
    check(
        "readinesProbe: {}, readinessProbe: {httpGet: {port: 80}}",
        "warning: unknown field \"@.readinesProbe\"",
    );
    check_spec(
        "recources: {}",
        "warning: unknown field \"@.recources\"; did you mean resources?",
    );
    check(
        "lifecycle: {stopSignal: SIGINT}",
        "warning: @.lifecycle.stopSignal: Kubernetes 1.31 does not know this field",
    );
    check("resources: null, env: null", "");
}

#[test]
fn wrong_types_are_faults_with_the_fix() {
    check(
        "ports: [{containerPort: \"8080\"}]",
        "@.ports[0].containerPort: wrong type: the string \"8080\"; expected a whole number of at most 32 bits; remove the quotes",
    );
    check(
        "image: 5",
        "@.image: wrong type: 5; expected a string; put quotes around it",
    );
    check("env: {a: b}", "@.env: wrong type: a map; expected a list");
    check(
        "command: sh",
        "@.command: wrong type: the string \"sh\"; expected a list",
    );
    check(
        "stdin: \"true\"",
        "@.stdin: wrong type: the string \"true\"; expected true or false; remove the quotes",
    );
    check(
        "resources: {limits: {memory: 64mb}}",
        "@.resources.limits[memory]: wrong type: the string \"64mb\"; expected a quantity such as 500m, 2 or 64Mi",
    );
    check("resources: {limits: {memory: 64Mi, cpu: 0.5}}", "");
    check_spec(
        "tolerations: [{key: a, value: true}]",
        "@.tolerations[0].value: wrong type: true; expected a string; put quotes around it",
    );
    check(
        "ports: [{containerPort: 1.5}]",
        "@.ports[0].containerPort: wrong type: 1.5; expected a whole number of at most 32 bits",
    );
}

#[test]
fn values_are_those_of_kubernetes() {
    check(
        "imagePullPolicy: Sometimes",
        "@.imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
    );
    check(
        "ports: [{containerPort: 70000}]",
        "@.ports[0].containerPort: Invalid value: 70000: expected a number of 1 to 65535",
    );
    check(
        "ports: [{name: x}]",
        "@.ports[0].containerPort: Required value",
    );
    check(
        "readinessProbe: {}",
        "@.readinessProbe: Required value: must specify one of: exec, httpGet, tcpSocket, grpc",
    );
    check(
        "readinessProbe: {httpGet: {port: \"80\"}}",
        "@.readinessProbe.httpGet.port: Invalid value: \"80\": expected the name of a port: at most 15 characters of a-z, 0-9 and -, with a letter; a number has no quotes",
    );
    check(
        "readinessProbe: {httpGet: {port: http}, periodSeconds: -1}",
        "@.readinessProbe.periodSeconds: Invalid value: -1: expected a number of 0 or more",
    );
    check(
        "livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}",
        "@.livenessProbe.successThreshold: Invalid value: must be 1",
    );
    check(
        "volumeMounts: [{name: v, mountPath: /v}]",
        "@.volumeMounts[0].name: Not found: \"v\"",
    );
    check(
        "env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]",
        "@.env[0].valueFrom: Invalid value: may not be specified when `value` is not empty",
    );
    check(
        "resources: {limits: {cpu: 500m}, requests: {cpu: 1}}",
        "@.resources.requests[cpu]: Invalid value: must be less than or equal to cpu limit",
    );
    check(
        "resources: {limits: {gpu: 1}}",
        "@.resources.limits[gpu]: Invalid value: must be a standard resource type or fully qualified",
    );
    check_spec(
        "tolerations: [{operator: Exists, value: a}]",
        "@.tolerations[0].operator: Invalid value: value must be empty when `operator` is 'Exists'",
    );
    check_spec(
        "volumes: [{name: a}, {name: a}]",
        "@.volumes[1].name: Duplicate value: \"a\"",
    );
    check_spec(
        "volumes: [{name: a, emptyDir: {}, secret: {secretName: b}}]",
        "@.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
    );
    check_spec(
        "initContainers: [{name: a, image: b}]",
        "@.initContainers[0].name: Duplicate value: \"a\"",
    );
    check_spec("imagePullSecrets: [{}]", "");
}

#[test]
fn fields_depend_on_each_other() {
    for (container, expected) in [
        (
            "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.nam}}}]",
            "@.env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"metadata.nam\": expected a field of pods that containers may know, such as metadata.name, metadata.labels['x'], spec.nodeName or status.podIP",
        ),
        (
            "resources: {limits: {nvidia.com/gpu: 0.5}}",
            "@.resources.limits[nvidia.com/gpu]: Invalid value: must be an integer",
        ),
        (
            "resources: {requests: {nvidia.com/gpu: 1}}",
            "@.resources.limits: Required value: Limit must be set for non overcommitable resources",
        ),
        (
            "lifecycle: {preStop: {sleep: {seconds: 31}}}",
            "@.lifecycle.preStop.sleep: Invalid value: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        ("lifecycle: {preStop: {sleep: {seconds: 30}}}", ""),
        (
            "resizePolicy: [{resourceName: cpu, restartPolicy: RestartContainer}]",
            "@.resizePolicy: Invalid value: must be 'NotRequired' when pod `restartPolicy` is 'Never'",
        ),
        (
            "securityContext: {privileged: true, allowPrivilegeEscalation: false}",
            "@.securityContext: Invalid value: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
        ),
        (
            "securityContext: {seccompProfile: {type: Localhost}}",
            "@.securityContext.seccompProfile.localhostProfile: Required value: must be set when type is Localhost",
        ),
    ] {
        check(container, expected);
    }
    for (others, expected) in [
        (
            "dnsPolicy: None",
            "@.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            "tolerations: [{key: a, operator: Gt, value: '1'}]",
            "@.tolerations[0].operator: Unsupported value: \"Gt\": supported values: \"Equal\", \"Exists\"",
        ),
        (
            "volumes: [{name: a, emptyDir: {sizeLimit: -1}}]",
            "@.volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
        ),
        (
            "initContainers: [{name: i, image: b, readinessProbe: {exec: {command: [c]}}}]",
            "@.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
        ),
    ] {
        check_spec(others, expected);
    }
    let rules = findings("restartPolicyRules: [{action: Restart}]", "");
    let faults: Vec<&String> = rules
        .iter()
        .filter(|it| !it.starts_with("warning"))
        .collect();
    assert_eq!(faults.len(), 2, "{rules:?}");
}

#[test]
fn a_job_needs_a_restart_policy() {
    let validate_policy = |policy: Value| {
        let template =
            json!({"spec": {"restartPolicy": policy, "containers": [{"name": "a", "image": "b"}]}});
        validate(&template)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let path = "spec.restartPolicy";
    assert_eq!(
        validate_policy(Value::Null),
        [format!(
            "{path}: Required value: valid values: \"OnFailure\", \"Never\""
        )]
    );
    assert_eq!(
        validate_policy(json!("Always")),
        validate_policy(Value::Null)
    );
    assert_eq!(
        validate_policy(json!("Sometimes")),
        [format!(
            "{path}: Unsupported value: \"Sometimes\": supported values: \"OnFailure\", \"Never\""
        )]
    );
    assert!(validate_policy(json!("Never")).is_empty());
    assert!(validate_policy(json!("OnFailure")).is_empty());
}

#[test]
fn values_that_are_not_known_yet_are_not_judged() {
    let open = format!("{PLACEHOLDER}0");
    let template = json!({
        "metadata": {"labels": {"a": open}},
        "spec": {
            "restartPolicy": open,
            "containers": [{
                "name": open,
                "image": open,
                "ports": [{"containerPort": open}],
                "env": open,
                "volumeMounts": [{"name": open, "mountPath": open}],
                "resources": {"limits": {"memory": open}},
            }],
            "tolerations": [{"key": "a", "operator": open, "value": open}],
            open.as_str(): 1,
        },
    });
    assert_eq!(validate(&template), []);
}

#[test]
fn findings_are_bounded() {
    let fields: Map<String, Value> = (0..FINDINGS_MAX + 1)
        .map(|it| (format!("x{it}"), json!(1)))
        .collect();
    assert_eq!(validate(&json!({"spec": fields})).len(), FINDINGS_MAX);
    let long = json!({"spec": {"restartPolicy": "x".repeat(1000), "containers": []}});
    let all = validate(&long);
    assert!(all.iter().all(|it| it.to_string().len() < 300), "{all:?}");
}
