//! Pod templates of apps that fail, each in one way, for the real node; and objects that make the
//! pods of a whole namespace fail.

use serde_json::{Value, json};

use super::environment::TestEnvironment;
use super::eventually;

/// The image that the node has.
pub(super) const IMAGE: &str = "config-controller-demo:1";

/// A template with a pod that becomes ready, with these changes to its pod spec.
pub(super) fn app(change: impl FnOnce(&mut Value)) -> Value {
    let mut template = json!({"spec": {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        // Nothing of it asks the API server, and what is looked at stays short.
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "containers": [{
            "name": "main",
            "image": IMAGE,
            "imagePullPolicy": "IfNotPresent",
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        }],
    }});
    change(&mut template["spec"]);
    template
}

/// The same, with changes to its container.
pub(super) fn container(change: impl FnOnce(&mut Value)) -> Value {
    app(|spec| change(&mut spec["containers"][0]))
}

/// The same, with these variables.
pub(super) fn with_env(variables: &[(&str, &str)]) -> Value {
    container(|main| main["env"] = env(variables))
}

/// The template with restarts of failed containers.
pub(super) fn on_failure(mut template: Value) -> Value {
    template["spec"]["restartPolicy"] = json!("OnFailure");
    template
}

/// An image that is not on the node.
pub(super) fn image(name: &str) -> Value {
    container(|main| main["image"] = json!(name))
}

/// An image that may not be pulled and is not there.
pub(super) fn never_pulled() -> Value {
    container(|main| {
        main["image"] = json!("not-on-this-node:1");
        main["imagePullPolicy"] = json!("Never");
    })
}

/// A program that is not in the image.
pub(super) fn bad_command() -> Value {
    container(|main| main["command"] = json!(["/no-such-program"]))
}

/// Ends with that code and that last line on stderr.
pub(super) fn exits(code: &str, line: &str) -> Value {
    with_env(&[("EXIT_CODE", code), ("EXIT_MESSAGE", line)])
}

/// Takes more memory than it may.
pub(super) fn out_of_memory() -> Value {
    container(|main| {
        main["env"] = env(&[("EAT_MIB", "200")]);
        main["resources"] = json!({"limits": {"memory": "32Mi"}});
    })
}

/// A variable from the Secret `password`.
pub(super) fn secret_variable() -> Value {
    container(|main| {
        main["env"] = json!([{"name": "PASSWORD", "valueFrom": {
            "secretKeyRef": {"name": "password", "key": "word"}}}]);
    })
}

/// A volume from the ConfigMap `settings`.
pub(super) fn config_volume() -> Value {
    app(|spec| {
        spec["volumes"] = json!([{"name": "settings", "configMap": {"name": "settings"}}]);
        spec["containers"][0]["volumeMounts"] =
            json!([{"name": "settings", "mountPath": "/settings"}]);
    })
}

/// For nodes with that label only.
pub(super) fn selecting(label: &str) -> Value {
    app(|spec| spec["nodeSelector"] = json!({ label: "yes" }))
}

/// May do what the Pod Security level `restricted` forbids.
pub(super) fn privileged() -> Value {
    container(|main| main["securityContext"] = json!({"privileged": true}))
}

/// Asks for that much memory.
pub(super) fn with_memory(quantity: &str) -> Value {
    container(|main| main["resources"] = json!({"limits": {"memory": quantity}}))
}

/// Its init container ends with exit code 4.
pub(super) fn failing_init() -> Value {
    app(|spec| {
        spec["initContainers"] = json!([{
            "name": "prepare", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
            "env": env(&[("EXIT_CODE", "4"), ("EXIT_MESSAGE", "no database to prepare")]),
        }]);
    })
}

/// Its readiness probe uses a closed port.
pub(super) fn never_ready() -> Value {
    container(|main| main["readinessProbe"]["httpGet"]["port"] = json!(8081))
}

/// Goes on after SIGTERM until it is killed, as apps do that know no signals.
pub(super) fn stubborn() -> Value {
    with_env(&[("IGNORE_TERM", "1")])
}

/// Variables of a container.
fn env(variables: &[(&str, &str)]) -> Value {
    variables
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

/// Lets the namespace have only pods of the Pod Security level `restricted`.
#[track_caller]
pub(super) fn restrict(environment: &TestEnvironment<'_>) {
    let label = "pod-security.kubernetes.io/enforce";
    let path = format!("/api/v1/namespaces/{}", environment.namespace);
    let change = json!({"metadata": {"labels": {label: "restricted"}}});
    environment.api.patch(&path, &change).expect(200);
}

/// Lets containers of the namespace have at most that much memory.
#[track_caller]
pub(super) fn limit_memory(environment: &TestEnvironment<'_>, quantity: &str) {
    let limits = json!([{"type": "Container", "max": {"memory": quantity}}]);
    let object = json!({"metadata": {"name": "small"}, "spec": {"limits": limits}});
    make(environment, "limitranges", &object);
}

/// A quota of the namespace on one thing; it holds once this returns.
#[track_caller]
pub(super) fn make_quota(environment: &TestEnvironment<'_>, thing: &str, most: &str) {
    let hard = json!({ thing: most });
    let object = json!({"metadata": {"name": "small"}, "spec": {"hard": hard}});
    make(environment, "resourcequotas", &object);
    // Until it has counted what there is, the API server refuses all.
    eventually("the quota is counted", || {
        let quotas = environment.list("resourcequotas");
        quotas[0]["status"]["hard"].is_object().then_some(())
    });
}

/// Lets that quota allow more.
#[track_caller]
pub(super) fn raise_quota(environment: &TestEnvironment<'_>, thing: &str, most: &str) {
    let path = format!("{}/small", environment.all("resourcequotas"));
    let change = json!({"spec": {"hard": { thing: most }}});
    environment.api.patch(&path, &change).expect(200);
}

/// Makes what [`secret_variable`] needs.
#[track_caller]
pub(super) fn make_secret(environment: &TestEnvironment<'_>) {
    let object = json!({"metadata": {"name": "password"}, "stringData": {"word": "sesame"}});
    make(environment, "secrets", &object);
}

/// Makes what [`config_volume`] needs.
#[track_caller]
pub(super) fn make_settings(environment: &TestEnvironment<'_>) {
    let object = json!({"metadata": {"name": "settings"}, "data": {"colour": "blue"}});
    make(environment, "configmaps", &object);
}

/// Makes an object in the namespace.
#[track_caller]
pub(super) fn make(environment: &TestEnvironment<'_>, plural: &str, object: &Value) {
    environment
        .api
        .post(&environment.all(plural), object)
        .expect(201);
}

/// A label of a node, which all tests share: dropping this removes it.
#[derive(Debug)]
pub(super) struct NodeLabel<'a> {
    environment: &'a TestEnvironment<'a>,
    path: String,
    label: String,
}

impl<'a> NodeLabel<'a> {
    /// Gives the node whose pods really run the label that [`selecting`] asks for.
    #[track_caller]
    pub(super) fn set(environment: &'a TestEnvironment<'a>, label: &str) -> Self {
        let node = environment.cluster.fact("CLUSTER_NODE");
        let node = node.expect("the cluster is one of tests/cluster");
        let path = format!("/api/v1/nodes/{node}");
        let change = json!({"metadata": {"labels": { label: "yes" }}});
        environment.api.patch(&path, &change).expect(200);
        let label = label.to_owned();
        Self {
            environment,
            path,
            label,
        }
    }
}

impl Drop for NodeLabel<'_> {
    fn drop(&mut self) {
        let change = json!({"metadata": {"labels": { &self.label: null }}}).to_string();
        let kind = "application/merge-patch+json";
        // A test that failed because of the server must fail with its own words.
        let _ = self
            .environment
            .api
            .try_send("PATCH", &self.path, kind, &change);
    }
}
