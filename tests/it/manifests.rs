//! `manifests/`: what is rendered, that its parts agree, and that a real cluster takes it.
//!
//! | module | what it shows |
//! |---|---|
//! | (here) | base, chart and program agree; from the golden renders, so without helm |
//! | `chart` | ignored without a cluster: helm renders the goldens, and refuses values that are wrong |
//! | `installed` | ignored without a cluster: a real cluster takes base and chart, and an upgrade from 2.7.1's chart |
//! | `release` | ignored without a cluster: a release from its check to its end, as its user sees it |
//! | `monitoring` | alerts and dashboard: their metrics, and each alert in a trial by promtool |
//! | `tools` | what these stand on: helm, kubeconform, a namespace |

mod chart;
mod installed;
pub(crate) mod monitoring;
mod release;
pub(crate) mod tools;

use std::collections::BTreeSet;

use config_controller::config::SETTINGS;
use config_controller::model::labels::INSTANCE_TYPE;
use serde_json::{Value, json};

use crate::harness::{ROLE, repository};

/// The renders of the chart that are kept: the golden file, and the values in this folder.
const RENDERS: &[(&str, Option<&str>)] = &[
    ("chart-default.yaml", None),
    ("chart-original.yaml", Some("original.values.yaml")),
    ("chart-own.yaml", Some("own.values.yaml")),
    ("chart-tokens.yaml", Some("tokens.values.yaml")),
];

/// One more, with kinds of the Prometheus Operator, which a cluster need not know.
const MONITORS: (&str, Option<&str>) = ("chart-monitors.yaml", Some("monitors.values.yaml"));

/// Objects beside those of the service: an option, there only for the time of a hook, or in the namespace of the
/// release, where instances need not be.
const BESIDE: [&str; 5] = ["-dry-run-pods", "-read-logs", "-leases", "-check", "-test"];

/// Settings that have values of their own in the chart, or are none of a pod's.
const NOT_IN_SETTINGS: &[&str] = &[
    "AUTH",
    "AUTH_ALLOW",
    "AUTH_TOKENS_FILE",
    "CONFIGMAP_SELECTOR",
    "JOB_NAMESPACE",
    "KUBECONFIG",
    "OTEL_EXPORTER_OTLP_PROTOCOL",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_SERVICE_NAME",
    "POD_NAME",
    "POD_UID",
    "SERVICE_PORT",
    "TLS_CERT",
    "TLS_KEY",
];

/// A file of the repository.
#[track_caller]
fn text_of(path: &str) -> String {
    std::fs::read_to_string(repository().join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The objects of a text with several YAML documents.
#[track_caller]
fn objects(yaml: &str) -> Vec<Value> {
    let documents = yaml.split("\n---\n").map(str::trim);
    let read = |text: &str| serde_yaml::from_str(text).expect("a document is YAML");
    let all = documents.filter(|text| !text.is_empty()).map(read);
    all.filter(|object: &Value| !object.is_null()).collect()
}

/// The objects of a golden render.
#[track_caller]
fn rendered(golden: &str) -> Vec<Value> {
    objects(&text_of(&format!("tests/it/golden/{golden}")))
}

/// The only object of that kind.
#[track_caller]
fn only(objects: &[Value], kind: &str) -> Value {
    let is_optional = |object: &&Value| {
        let name = object["metadata"]["name"].as_str();
        name.is_some_and(|name| BESIDE.iter().any(|ending| name.ends_with(ending)))
    };
    let found = objects.iter().filter(|it| it["kind"] == kind);
    let found: Vec<&Value> = found.filter(|it| !is_optional(it)).collect();
    assert_eq!(found.len(), 1, "one {kind}");
    found[0].clone()
}

#[test]
fn the_chart_grants_the_same_permissions_as_the_base() {
    let base: Value = serde_yaml::from_str(ROLE).expect("the Role is YAML");
    for (golden, _) in RENDERS {
        let all = rendered(golden);
        let metadata = |object: &Value, key: &str| object["metadata"][key].clone();
        let account = only(&all, "ServiceAccount");
        let mut granted = Vec::new();
        // In the namespace of the instances, and in that of the replicas.
        let role = only(&all, "Role");
        let leases = format!(
            "{}-leases",
            role["metadata"]["name"].as_str().expect("text")
        );
        let find = |kind: &str, name: &Value| {
            let mut found = all.iter();
            let found = found.find(|it| it["kind"] == kind && it["metadata"]["name"] == *name);
            found.unwrap_or_else(|| panic!("{golden} has no {kind} {name}"))
        };
        let own = find("Role", &json!(leases));
        assert_eq!(metadata(own, "namespace"), metadata(&account, "namespace"));
        for role in [&role, own] {
            let binding = find("RoleBinding", &role["metadata"]["name"]);
            assert_eq!(binding["roleRef"]["name"], metadata(role, "name"));
            assert_eq!(metadata(binding, "namespace"), metadata(role, "namespace"));
            let subject = &binding["subjects"][0];
            assert_eq!(subject["name"], metadata(&account, "name"), "{golden}");
            assert_eq!(subject["namespace"], metadata(&account, "namespace"));
            granted.extend(role["rules"].as_array().expect("rules").iter().cloned());
        }
        assert_eq!(json!(granted), base["rules"], "{golden}");
        let pod = &only(&rendered(golden), "Deployment")["spec"]["template"]["spec"];
        assert_eq!(pod["serviceAccountName"], metadata(&account, "name"));
    }
}

/// The check must find what the service would find.
#[test]
fn the_check_has_the_rights_of_the_service() {
    let of = |objects: &[Value], ending: &str| -> Vec<Value> {
        let named = |it: &&Value| {
            let name = it["metadata"]["name"].as_str();
            it["kind"] == "Role" && name.is_some_and(|name| name.ends_with(ending))
        };
        let rules = objects.iter().filter(named).map(|role| &role["rules"]);
        let rules = rules.filter_map(Value::as_array);
        rules.flatten().cloned().collect()
    };
    let own = rendered("chart-own.yaml");
    let endings = ["-apps", "-dry-run-pods", "-read-logs", "-leases"];
    let service = endings.map(|ending| of(&own, ending)).concat();
    assert_eq!(of(&own, "-check"), service);
    let delegators = own.iter().filter(|it| it["kind"] == "ClusterRoleBinding");
    assert_eq!(delegators.count(), 2);
    let monitors = rendered(MONITORS.0);
    let service = ["-apps", "-leases"].map(|ending| of(&monitors, ending));
    assert_eq!(of(&monitors, "-check"), service.concat());
    assert!(of(&rendered("chart-default.yaml"), "-check").is_empty());
}

/// Every object can be found by a label, also what the parts of the base add.
#[test]
fn each_object_has_labels() {
    let mut all: Vec<Value> = RENDERS
        .iter()
        .chain([&MONITORS])
        .flat_map(|it| rendered(it.0))
        .collect();
    let mut count = 0;
    let mut folders = vec![repository().join("manifests")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the repository") {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() && !path.ends_with("helm") {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml") {
                let text = std::fs::read_to_string(path).expect("a manifest is text");
                let found = objects(&text).into_iter();
                let found = found.filter(|it| {
                    it["metadata"]["name"].is_string() && it["apiVersion"] != "skaffold/v4beta10"
                });
                let before = all.len();
                all.extend(found);
                count += all.len() - before;
            }
        }
    }
    assert!(count > 12, "only {count} objects");
    for object in all {
        let labels = &object["metadata"]["labels"];
        let ours = ["app.kubernetes.io/name", "app.kubernetes.io/part-of"];
        assert!(ours.iter().any(|key| labels[*key].is_string()), "{object}");
    }
}

/// Who follows the README calls the service by one name, whichever way it was installed.
#[test]
fn the_readme_installs_the_service_under_one_name() {
    let readme = text_of("README.md");
    let install = |line: &&str| line.trim().starts_with("helm") && line.contains(" install ");
    let lines: Vec<&str> = readme.lines().filter(install).collect();
    assert!(!lines.is_empty());
    for line in lines {
        let release = line
            .split(" install ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next());
        assert_eq!(release, Some("config-controller"), "{line}");
    }
    let base = only(&objects(&text_of("manifests/base/service.yaml")), "Service");
    assert_eq!(base["metadata"]["name"], "config-controller");
    assert!(readme.contains("http://config-controller:3333/"));
}

#[test]
fn rights_beyond_those_of_the_base_are_options_of_chart_and_base() {
    for component in ["dry-run-pods", "read-logs"] {
        let component = objects(&text_of(&format!("manifests/{component}/role.yaml")));
        let grants = |golden: &str| {
            let objects = rendered(golden);
            let mut roles = objects.iter().filter(|it| it["kind"] == "Role");
            roles.any(|role| role["rules"] == component[0]["rules"])
        };
        assert!(grants("chart-own.yaml"));
        assert!(!grants("chart-default.yaml"));
    }
}

/// The Deployment without what the chart must have otherwise: names, labels, and the environment.
fn comparable(mut deployment: Value) -> Value {
    let spec = &mut deployment["spec"];
    spec["selector"] = json!("");
    spec["template"]["metadata"] = json!("");
    let pod = &mut spec["template"]["spec"];
    pod["serviceAccountName"] = json!("");
    pod["topologySpreadConstraints"][0]["labelSelector"] = json!("");
    let container = &mut pod["containers"][0];
    let container = container.as_object_mut().expect("a container is an object");
    container.remove("env");
    for probe in ["livenessProbe", "readinessProbe"] {
        // HTTP is the default of Kubernetes.
        container[probe]["httpGet"]["scheme"] = json!("HTTP");
    }
    deployment["spec"].take()
}

#[test]
fn the_chart_runs_the_same_pods_as_the_base() {
    let base = only(
        &objects(&text_of("manifests/base/deployment.yaml")),
        "Deployment",
    );
    let chart = only(&rendered("chart-default.yaml"), "Deployment");
    let environment = |deployment: &Value| {
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        container["env"].as_array().expect("a list").clone()
    };
    let of_chart = environment(&chart);
    assert!(environment(&base).iter().all(|one| of_chart.contains(one)));
    assert_eq!(comparable(chart), comparable(base));
}

/// A chart that keeps the selector of a Service or budget but not the pods' labels selects no pod.
#[test]
fn all_selectors_find_the_pods() {
    let all = RENDERS.iter().chain([&MONITORS]);
    let mut renders: Vec<Vec<Value>> = all.map(|(golden, _)| rendered(golden)).collect();
    let parts = [
        "base/deployment",
        "base/service",
        "base/pod-disruption-budget",
        "base/network-policy",
        "monitoring/pod-monitor",
    ];
    let base = parts.map(|part| objects(&text_of(&format!("manifests/{part}.yaml"))));
    renders.push(base.concat());
    for objects in renders {
        let spec = &only(&objects, "Deployment")["spec"];
        let labels = &spec["template"]["metadata"]["labels"];
        let selector = &spec["selector"]["matchLabels"];
        let selected = selector.as_object().expect("a selector").iter();
        assert!(selected.clone().all(|(key, value)| labels[key] == *value));
        assert_eq!(&only(&objects, "Service")["spec"]["selector"], selector);
        let spread = &spec["template"]["spec"]["topologySpreadConstraints"][0];
        assert_eq!(&spread["labelSelector"]["matchLabels"], selector);
        for object in &objects {
            let key = match object["kind"].as_str() {
                Some("PodDisruptionBudget" | "PodMonitor" | "ServiceMonitor") => "selector",
                Some("NetworkPolicy") => "podSelector",
                _ => continue,
            };
            assert_eq!(&object["spec"][key]["matchLabels"], selector, "{object}");
        }
        // Nor do they find the pods of hooks.
        for object in objects
            .iter()
            .filter(|it| !it["metadata"]["annotations"].is_null())
        {
            let pod = match object["kind"].as_str() {
                Some("Job") => &object["spec"]["template"],
                Some("Pod") => object,
                _ => continue,
            };
            let labels = &pod["metadata"]["labels"];
            let mut selected = selected.clone();
            assert!(
                selected.any(|(key, value)| labels[key] != *value),
                "{object}"
            );
        }
    }
}

/// What lets in only pods that are no instances.
fn no_instance() -> Value {
    json!({"key": INSTANCE_TYPE, "operator": "DoesNotExist"})
}

/// Whether the callers that a policy lets in are no instances; addresses cannot tell.
fn keeps_instances_out(policy: &Value) -> bool {
    let rules = policy["spec"]["ingress"].as_array().expect("rules").iter();
    let peers = rules.flat_map(|rule| rule["from"].as_array().expect("peers"));
    let mut peers = peers.filter(|peer| peer["ipBlock"].is_null());
    peers.all(|peer| {
        let expressions = peer["podSelector"]["matchExpressions"].as_array();
        expressions.is_some_and(|all| all.contains(&no_instance()))
    })
}

#[test]
fn instances_may_call_unless_they_are_denied() {
    let base = objects(&text_of("manifests/base/network-policy.yaml"));
    let mut policy = only(&base, "NetworkPolicy");
    assert!(!keeps_instances_out(&policy), "off by default");
    let component: Value =
        serde_yaml::from_str(&text_of("manifests/deny-instances/kustomization.yaml"))
            .expect("a component is YAML");
    let patch = &component["patches"][0];
    assert_eq!(patch["target"]["name"], policy["metadata"]["name"]);
    let patch = patch["patch"].as_str().expect("a text");
    let steps: Value = serde_yaml::from_str(patch).expect("a patch is YAML");
    for step in steps.as_array().expect("a list") {
        assert_eq!(step["op"], "replace");
        let place = policy.pointer_mut(step["path"].as_str().expect("a path"));
        *place.expect("the base has that field") = step["value"].clone();
    }
    assert!(keeps_instances_out(&policy), "{policy}");
    // With further callers, and without `enabled`.
    for golden in ["chart-own.yaml", "chart-tokens.yaml"] {
        let policy = only(&rendered(golden), "NetworkPolicy");
        assert!(keeps_instances_out(&policy), "{golden}: {policy}");
    }
    let from_tokens = only(&rendered("chart-tokens.yaml"), "NetworkPolicy");
    assert_eq!(
        from_tokens["spec"]["ingress"][0]["from"],
        json!([{"namespaceSelector": {}, "podSelector": {"matchExpressions": [no_instance()]}}])
    );
    let by_default = rendered("chart-default.yaml");
    assert!(by_default.iter().all(|one| one["kind"] != "NetworkPolicy"));
}

#[test]
fn manifests_are_of_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value =
        serde_yaml::from_str(&text_of("manifests/helm/config-controller/Chart.yaml"))
            .expect("Chart.yaml is YAML");
    assert_eq!(
        (&chart["version"], &chart["appVersion"]),
        (&json!(version), &json!(version))
    );
    for path in ["base/deployment.yaml", "demo/kustomization.yaml"] {
        let text = text_of(&format!("manifests/{path}"));
        let named = [
            format!("config-controller:{version}\n"),
            format!("newTag: {version}\n"),
        ];
        assert!(
            named.iter().any(|tag| text.contains(tag)),
            "{path} names {version}"
        );
    }
}

/// A misspelt setting would be an unused environment variable.
#[test]
fn the_schema_names_each_setting() {
    let schema = text_of("manifests/helm/config-controller/values.schema.json");
    let schema: Value = serde_json::from_str(&schema).expect("a schema is JSON");
    let named = schema["properties"]["settings"]["properties"].as_object();
    let named: BTreeSet<&str> = named
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let all: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    let elsewhere: BTreeSet<&str> = NOT_IN_SETTINGS.iter().copied().collect();
    assert!(elsewhere.is_subset(&all), "{elsewhere:?}");
    let expected: BTreeSet<&str> = all.difference(&elsewhere).copied().collect();
    assert_eq!(
        named, expected,
        "properties of `settings` in values.schema.json"
    );
}

/// What a parent chart or a caller of 2.7.1's chart knows each value by.
#[test]
fn each_value_is_in_the_schema() {
    let folder = "manifests/helm/config-controller";
    let schema: Value = serde_json::from_str(&text_of(&format!("{folder}/values.schema.json")))
        .expect("a schema is JSON");
    let values: Value =
        serde_yaml::from_str(&text_of(&format!("{folder}/values.yaml"))).expect("values are YAML");
    let keys = |object: &Value| -> BTreeSet<String> {
        object
            .as_object()
            .expect("an object")
            .keys()
            .cloned()
            .collect()
    };
    let mut in_schema = keys(&schema["properties"]);
    // Helm's own, which need no default.
    assert!(in_schema.remove("global") && in_schema.remove("enabled"));
    assert_eq!(keys(&values), in_schema);
    let original: Value = serde_yaml::from_str(&text_of("tests/it/manifests/original.values.yaml"))
        .expect("values are YAML");
    let own: Value = serde_yaml::from_str(&text_of("tests/it/manifests/own.values.yaml"))
        .expect("values are YAML");
    let monitors: Value = serde_yaml::from_str(&text_of("tests/it/manifests/monitors.values.yaml"))
        .expect("values are YAML");
    let set = [original, own, monitors].iter().flat_map(keys).collect();
    assert_eq!(in_schema, set, "each value is set in a render");
}
