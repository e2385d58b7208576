//! Mistakes in pod templates, and fields that look like some: whether the API server refuses them. The test
//! at a cluster compares this table with it, the other one what we find without a cluster.

use config_controller::model::template::{Template, Variables};
use config_controller::model::validation;
use serde_json::{Value, json};

/// Fields of a container, fields of the pod, and whether the API server accepts them.
const CASES: &[(&str, &str, bool)] = &[
    (
        "",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{matchExpressions: []}]}}",
        false,
    ),
    (
        "",
        "affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 0, podAffinityTerm: {topologyKey: a}}]}}",
        false,
    ),
    (
        "",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Equals, values: [b]}]}]}}}",
        false,
    ),
    ("args: [1, true]", "", true),
    (
        "securityContext: {capabilities: {add: NET_ADMIN}}",
        "",
        false,
    ),
    ("command: sh -c ls", "", false),
    (
        "resources: {limits: {cpu: 1}, requests: {cpu: 2}}",
        "",
        false,
    ),
    ("", "activeDeadlineSeconds: 0", false),
    ("", "dnsPolicy: none", false),
    ("", "dnsPolicy: None", false),
    ("", "dnsConfig: {nameservers: [a]}", false),
    (
        "ports: [{containerPort: 80, hostPort: 80},{containerPort: 81, hostPort: 80}]",
        "",
        false,
    ),
    ("", "initContainers: [{name: app, image: x}]", false),
    (
        "ports: [{containerPort: 80, name: a},{containerPort: 81, name: a}]",
        "",
        false,
    ),
    ("", "volumes: [{name: x, emptyDir: {sizeLimit: -1}}]", false),
    (
        "",
        "volumes: [{name: x, emptyDir: {sizeLimit: 1GB}}]",
        false,
    ),
    ("env: [{name: A, value: true}]", "", true),
    ("env: [{name: A, value: 5}]", "", true),
    ("env: {A: b}", "", false),
    ("envFrom: [{}]", "", false),
    ("", "ephemeralContainers: [{name: e, image: x}]", false),
    (
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.nam}}}]",
        "",
        false,
    ),
    ("", "readinessGates: [{conditionType: a b}]", false),
    ("resources: {limits: {nvidia.com/gpu: 0.5}}", "", false),
    ("resources: {requests: {nvidia.com/gpu: 1}}", "", false),
    ("resources: {limits: {gpu: 1}}", "", false),
    ("", "terminationGracePeriodSeconds: -5", true),
    ("", r#"terminationGracePeriodSeconds: "30""#, false),
    (
        r#"readinessProbe: {httpGet: {port: 80, httpHeaders: [{name: "a b", value: c}]}}"#,
        "",
        false,
    ),
    ("", "hostAliases: [{ip: 1.2.3, hostnames: [a]}]", false),
    ("", "hostname: my_host", false),
    (
        "",
        "volumes: [{name: x, hostPath: {path: /a, type: Dir}}]",
        false,
    ),
    (
        "ports: [{containerPort: 80, hostPort: 81}]",
        "hostNetwork: true",
        false,
    ),
    (
        "",
        "initContainers: [{name: i, image: x, readinessProbe: {exec: {command: [a]}}}]",
        false,
    ),
    ("lifecycle: {preStop: {sleep: {seconds: 100}}}", "", false),
    (
        "livenessProbe: {tcpSocket: {port: 1}, successThreshold: 2}",
        "",
        false,
    ),
    ("resources: {limits: {memory: 64mb}}", "", false),
    ("resources: {limits: {memory: 64 Mi}}", "", false),
    (
        "volumeMounts: [{name: x, mountPath: /x},{name: x, mountPath: /x}]",
        "volumes: [{name: x}]",
        false,
    ),
    ("volumeMounts: [{name: x, mountPath: /x}]", "", false),
    ("", "nodeName: A B", false),
    ("", "nodeSelector: {a: true}", true),
    ("", r#"nodeSelector: {a: "b c"}"#, false),
    ("ports: null", "", true),
    ("", "os: {name: Linux}", false),
    (r#"ports: [{containerPort: 80, name: "80"}]"#, "", false),
    (r#"ports: [{containerPort: "8080"}]"#, "", false),
    ("ports: [{containerPort: 80, protocol: tcp}]", "", false),
    ("", "preemptionPolicy: Sometimes", false),
    ("", "priority: high", false),
    ("readinessProbe: {httpGet: {path: /}}", "", false),
    (r#"readinessProbe: {httpGet: {port: "8080"}}"#, "", false),
    ("readinessProbe: {periodSeconds: 3}", "", false),
    (
        "readinessProbe: {httpGet: {port: 80}, exec: {command: [a]}}",
        "",
        false,
    ),
    ("", "volumes: [{name: x, projected: {sources: [{}]}}]", true),
    (
        "",
        "volumes: [{name: x, projected: {sources: [{serviceAccountToken: {expirationSeconds: 10, path: a}}]}}]",
        false,
    ),
    ("imagePullPolicyy: Always", "", true),
    ("", "imagePullSecrets: [a]", false),
    ("", "imagePullSecrets: [{}]", true),
    ("", "volumes: [{name: x, persistentVolumeClaim: {}}]", false),
    (
        "",
        "volumes: [{name: x, persistentVolumeClaim: {claimname: a}}]",
        false,
    ),
    ("resources: {limits: {memory: 1K}}", "", false),
    ("resources: {limits: {memory: 1e9, cpu: 1.5}}", "", true),
    (
        "resources: {limits: {memory: 1073741824, cpu: 2}}",
        "",
        true,
    ),
    ("readinesProbe: {httpGet: {port: 80}}", "", true),
    ("recources: {limits: {cpu: 1}}", "", true),
    ("", "replicas: 2", true),
    (
        "env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.foo}}}]",
        "",
        false,
    ),
    ("restartPolicyRules: [{action: Restart}]", "", false),
    ("", "runtimeClassName: A_b", false),
    ("", "serviceAccountName: My_Account", false),
    ("", r#"schedulerName: """#, true),
    (
        "securityContext: {seccompProfile: {type: Localhost}}",
        "",
        false,
    ),
    (
        "securityContext: {privileged: true, allowPrivilegeEscalation: false}",
        "",
        false,
    ),
    ("", "securityContxt: {}", true),
    (
        "",
        "topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: Maybe}]",
        false,
    ),
    (r#"tty: "yes""#, "", false),
    ("lifecycle: {stopSignal: SIGFOO}", "", true),
    (
        "volumeMounts: [{name: x, mountPath: /x, subPath: ../a}]",
        "volumes: [{name: x}]",
        false,
    ),
    (
        "",
        "securityContext: {sysctls: [{name: a.b.c, value: 1}]}",
        false,
    ),
    (
        "",
        "tolerations: [{key: a, operator: Exists, value: x}]",
        false,
    ),
    ("", "tolerations: [{key: a, value: true}]", false),
    ("securityContext: {runAsUser: -1}", "", false),
    (r#"securityContext: {runAsUser: "1000"}"#, "", false),
    ("env: [{name: A, valueFrom: {}}]", "", false),
    ("", "volumes: [{name: x, configMap: {}}]", false),
    (
        "",
        "volumes: [{name: x, secret: {secretName: a, defaultMode: 644}}]",
        false,
    ),
    ("", "volumes: [{name: X_y}]", false),
    (
        "",
        "volumes: [{name: x, emptyDir: {}, hostPath: {path: /a}}]",
        false,
    ),
    ("workingDir: 5", "", false),
    (
        "",
        "volumes: [{name: x, iscsi: {targetPortal: a, iqn: 'iqn.2001-04.com.example:b', lun: 255}}]",
        true,
    ),
    (
        "",
        "volumes: [{name: x, iscsi: {targetPortal: a, iqn: 'iqn.2001-04.com.example:b', lun: 256}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, iscsi: {targetPortal: a, iqn: storage, lun: 0}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, iscsi: {targetPortal: a, iqn: 'iqn.2001-04.com.example', lun: 0}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, iscsi: {targetPortal: a, iqn: eui.0123456789abcdef, lun: 0, initiatorName: x}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, iscsi: {targetPortal: a, iqn: eui.0123456789abcdef, lun: 0, chapAuthSession: true}}]",
        false,
    ),
    ("", "volumes: [{name: x, flocker: {datasetName: a}}]", true),
    ("", "volumes: [{name: x, flocker: {}}]", false),
    (
        "",
        "volumes: [{name: x, flocker: {datasetName: a/b}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, flocker: {datasetName: a, datasetUUID: b}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, azureDisk: {diskName: a, diskURI: /subscriptions/a}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, azureDisk: {diskName: a, diskURI: 'https://a'}}]",
        true,
    ),
    (
        "",
        "volumes: [{name: x, azureDisk: {diskName: a, diskURI: /subscriptions/a, kind: Managed}}]",
        true,
    ),
    (
        "",
        "volumes: [{name: x, azureDisk: {diskName: a, diskURI: 'https://a', kind: Managed}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, azureDisk: {diskName: a, diskURI: 'https://a', kind: managed}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, azureDisk: {diskName: a, diskURI: 'https://a', cachingMode: Always}}]",
        false,
    ),
    (
        "",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: In, values: [b c]}]}]}}}",
        false,
    ),
    (
        "",
        "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: a, operator: In, values: [b c]}]}}]}}",
        true,
    ),
    (
        "",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [b]}]}]}}}",
        true,
    ),
    (
        "",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.uid, operator: In, values: [b]}]}]}}}",
        false,
    ),
    (
        "",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: Exists}]}]}}}",
        false,
    ),
    (
        "",
        "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchFields: [{key: metadata.name, operator: In, values: [b, c]}]}]}}}",
        false,
    ),
    (
        "",
        "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: a, labelSelector: {matchExpressions: [{key: a, operator: In, values: [b c]}]}}]}}",
        false,
    ),
    (
        "",
        "volumes: [{name: x, scaleIO: {gateway: a, secretRef: {name: a}, system: b, volumeName: c}}]",
        true,
    ),
    (
        "",
        "volumes: [{name: x, scaleIO: {secretRef: {name: a}, system: b, volumeName: c}}]",
        false,
    ),
    ("", "volumes: [{name: x, photonPersistentDisk: {}}]", false),
    (
        "",
        "volumes: [{name: x, fc: {targetWWNs: [a], lun: 5}}]",
        true,
    ),
    (
        "",
        "volumes: [{name: x, fc: {targetWWNs: [a], lun: 256}}]",
        false,
    ),
    ("", "volumes: [{name: x, fc: {targetWWNs: [a]}}]", false),
    ("", "volumes: [{name: x, fc: {wwids: [a]}}]", true),
    ("", "volumes: [{name: x, fc: {}}]", false),
    (
        "",
        "volumes: [{name: x, fc: {wwids: [a], targetWWNs: [a], lun: 1}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, gcePersistentDisk: {pdName: a, partition: 256}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, awsElasticBlockStore: {volumeID: a, partition: -1}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, gitRepo: {repository: a, directory: ../b}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, downwardAPI: {items: [{path: a}]}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.labels}}]}}]",
        true,
    ),
    (
        "",
        "volumes: [{name: x, downwardAPI: {items: [{path: a, fieldRef: {fieldPath: status.podIP}}]}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, downwardAPI: {items: [{path: a, resourceFieldRef: {resource: limits.cpu}}]}}]",
        false,
    ),
    (
        "",
        "volumes: [{name: x, downwardAPI: {items: [{path: a, resourceFieldRef: {containerName: app, resource: limits.cpu}}]}}]",
        true,
    ),
    (
        "",
        "volumes: [{name: x, downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}, resourceFieldRef: {containerName: app, resource: limits.cpu}}]}}]",
        false,
    ),
    (
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: metadata.labels}}}]",
        "",
        false,
    ),
    (
        "env: [{name: A, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['a']\"}}}]",
        "",
        true,
    ),
    ("ports: [{containerPort: 80, protocol: ''}]", "", true),
    (
        "imagePullPolicy: '', terminationMessagePolicy: ''",
        "",
        true,
    ),
    ("", "dnsPolicy: ''", true),
    (
        "readinessProbe: {httpGet: {port: 80, scheme: ''}}",
        "",
        true,
    ),
    (
        "",
        "volumes: [{name: x, image: {reference: a, pullPolicy: ''}}]",
        true,
    ),
    ("", "preemptionPolicy: ''", false),
    (
        "volumeMounts: [{name: x, mountPath: /x, mountPropagation: ''}]",
        "volumes: [{name: x}]",
        false,
    ),
    ("securityContext: {procMount: ''}", "", false),
    ("", "securityContext: {fsGroupChangePolicy: ''}", false),
];

/// The pod template of each case, and whether the API server accepts it.
pub(crate) fn cases() -> impl Iterator<Item = (Value, bool)> {
    CASES.iter().map(|(container, others, is_valid)| {
        let text = format!(
            "spec:\n  restartPolicy: Never\n  containers: [{{name: app, image: nginx, {container}}}]\n  {others}\n"
        );
        let template = Template::parse("case", &text).expect("a case is a template");
        let rendered = template.render(&Variables::default());
        (rendered.expect("it has no values"), *is_valid)
    })
}

/// The Job that has this pod template.
pub(crate) fn job(template: &Value) -> Value {
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "tried"},
        "spec": {"template": template},
    })
}

#[test]
fn mistakes_are_found_without_a_cluster() {
    let mut count = 0;
    for (template, is_valid) in cases() {
        count += 1;
        let findings = validation::validate(&template);
        let faults: Vec<String> = findings
            .iter()
            .filter(|finding| finding.is_fault)
            .map(ToString::to_string)
            .collect();
        assert_eq!(faults.is_empty(), is_valid, "{template}: {faults:?}");
    }
    assert!(count > 80, "{count}");
}
