//! The app types of the contract's rows: templates that mean the same on every environment.
//!
//! Pods go by two sets of annotations: `fake-kube/…` on the fake (`dynamics/pod_script.rs`), and
//! `stand-in/…` on the stand-in node of the real cluster (`tests/cluster/stages.yaml`).

/// What all pod templates have: on the real cluster, the stand-in node takes them.
macro_rules! spec {
    ($more:literal) => {
        concat!(
            "spec:\n",
            "  nodeSelector: {kubernetes.io/hostname: stand-in-node}\n",
            "  tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]\n",
            "  restartPolicy: Never\n",
            "  terminationGracePeriodSeconds: 1\n",
            "  containers:\n",
            "  - name: main\n",
            "    image: stand-in\n",
            $more
        )
    };
    ($annotations:literal, $more:literal) => {
        concat!("metadata:\n  annotations:\n", $annotations, spec!($more))
    };
}

/// Each type with its template.
pub(super) const TYPES: &[(&str, &str)] = &[
    // Ready immediately.
    ("ready", spec!("")),
    ("a", spec!("")),
    ("a-b", spec!("")),
    ("timed", spec!("")),
    // Runs, and never becomes ready.
    (
        "unready",
        spec!(
            "    stand-in/does: unready\n    fake-kube/never-ready: \"true\"\n",
            ""
        ),
    ),
    // Ends with 1 before it is ready.
    (
        "failing",
        spec!(
            "    stand-in/does: fail\n    fake-kube/never-ready: \"true\"\n    fake-kube/exit-code: \"1\"\n",
            ""
        ),
    ),
    // Its image cannot be pulled.
    (
        "unpullable",
        spec!(
            "    stand-in/does: unpullable\n    fake-kube/waiting: 'ImagePullBackOff: not found'\n",
            ""
        ),
    ),
    // No node takes it.
    (
        "unschedulable",
        "metadata:\n  annotations: {fake-kube/unschedulable: 0/1 nodes are available}\n\
         spec:\n  nodeSelector: {example.org/nowhere: \"true\"}\n  restartPolicy: Never\n  containers:\n  - {name: main, image: stand-in}\n",
    ),
    // Ready, but unschedulable if the caller sends `pending`.
    (
        "mixed",
        "metadata:\n  annotations:\n    example.org/any: any\n\
         % if 'pending' in alternatives:\n    fake-kube/unschedulable: 0/1 nodes are available\n% endif\n\
         spec:\n  nodeSelector:\n    kubernetes.io/hostname: stand-in-node\n\
         % if 'pending' in alternatives:\n    example.org/nowhere: \"true\"\n% endif\n\
         \x20 tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]\n  restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n\
         \x20 containers:\n  - {name: main, image: stand-in}\n",
    ),
    // Every variable that the caller gives is an environment variable of the same name.
    (
        "vars",
        spec!(
            "    env:\n    - {name: FIXED, value: fixed}\n% for key, value in alternatives.items():\n    - name: ${key}\n      value: ${value}\n% endfor\n"
        ),
    ),
    // Needs one.
    (
        "needy",
        spec!(
            "    args: [\"${alternatives['tz']}\"]\n    env:\n    - {name: OPTIONAL, value: \"${alternatives.get('x', 'default')}\"}\n"
        ),
    ),
    // All control lines, a remark, and a line that is joined to the next.
    (
        "branches",
        spec!(
            "    args:\n% if alternatives.get('x') == '1':\n    - one\n% elif 'x' in alternatives:\n    - other\n% else:\n    - none\n% endif\n    ## ${nothing}\n    - $(X) $X $$ 50%\\\n joined\n"
        ),
    ),
    // YAML 1.1 as kubectl reads it.
    (
        "scalars",
        "metadata:\n  annotations: {example.org/on: on, example.org/octal: 0644}\n\
         spec:\n  nodeSelector: {kubernetes.io/hostname: stand-in-node}\n  tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]\n\
         \x20 restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n  automountServiceAccountToken: no\n  hostNetwork: off\n\
         \x20 containers:\n  - name: main\n    image: stand-in\n    args: [yes, 0644, 1e3]\n\
         \x20   env:\n    - &shared {name: A, value: 12:30:45}\n    - {<<: *shared, name: B}\n    - {name: C, value: on}\n\
         \x20   ports:\n    - containerPort: ${alternatives['p']}\n\
         \x20   volumeMounts: [{name: files, mountPath: /files}]\n\
         \x20 volumes: [{name: files, emptyDir: {}}, {name: maps, configMap: {name: any, optional: true, defaultMode: 0644}}]\n",
    ),
    // No labels, in the way that 2.7.1 stumbles over.
    (
        "bare",
        "metadata:\n  labels:\n\
         spec:\n  nodeSelector: {kubernetes.io/hostname: stand-in-node}\n  tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]\n\
         \x20 restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {name: main, image: stand-in}\n",
    ),
    // Metadata of the template, and a label of this service.
    (
        "labelled",
        "metadata:\n  labels:\n    own: label\n    config-controller.semafor.ch/instance-name: wrong\n  annotations: {example.org/own: annotation}\n\
         spec:\n  nodeSelector: {kubernetes.io/hostname: stand-in-node}\n  tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]\n\
         \x20 restartPolicy: Never\n  terminationGracePeriodSeconds: 1\n  containers:\n  - {name: main, image: stand-in}\n",
    ),
    // No templates.
    ("broken", "spec: [\n"),
    (
        "refused",
        "spec:\n  restartPolicy: Always\n  containers:\n  - {name: main, image: stand-in}\n",
    ),
    ("python", "<% import os %>\nspec:\n  restartPolicy: Never\n"),
    (
        "module",
        "<%! import os %>\nspec:\n  restartPolicy: Never\n",
    ),
    (
        "include",
        "<%include file=\"/etc/passwd\"/>\nspec:\n  restartPolicy: Never\n",
    ),
    (
        "define",
        "<%def name=\"f()\">x</%def>\nspec:\n  restartPolicy: Never\n",
    ),
];

/// Settings of one type each: the type, the setting, its value.
pub(super) const SETTINGS: &[(&str, &str, &str)] = &[
    ("timed", "max-lifetime", "2h"),
    ("timed", "ttl-after-finished", "5m"),
];
