//! What other clients store in the cluster, beyond every bound of ours: a replica keeps a part of it,
//! and works.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::Part;
use crate::harness::{NAMESPACE, PREFIX, TestEnvironment, eventually, name_of};

const PATH: &str = "/app/hello/ann";

/// Merges this into the metadata of the pod of that Job, as kubectl does.
fn change_pod(environment: &TestEnvironment, job: &str, metadata: &Value) -> Arc<Value> {
    let pod = environment.kube.pod_of(NAMESPACE, job);
    let name = name_of(&pod.expect("the instance has a pod"));
    let key = (Resource::Pods, NAMESPACE.to_owned(), name);
    let patch = json!({"metadata": metadata});
    let changed =
        (environment.kube).with(|model| model.cluster.merge_patch(&key, &patch, Part::Main, false));
    changed.expect("the patch is valid")
}

/// So many labels `k<n>` with these values, in their form on a pod.
fn labels(count: usize, value: &Value) -> Value {
    let label = |n: usize| (format!("{PREFIX}meta-k{n:04}"), value.clone());
    json!({"labels": (0..count).map(label).collect::<Map<_, _>>()})
}

/// The meta labels of the instance, as a GET returns them.
fn meta(environment: &TestEnvironment) -> Vec<String> {
    let response = environment.get(PATH).expect(200);
    let keys = response.as_object().expect("an object").keys();
    keys.filter(|key| key.starts_with('k')).cloned().collect()
}

#[test]
fn labels_of_other_clients_are_kept_up_to_the_bound() {
    let environment = TestEnvironment::new();
    environment.start_instance(PATH);
    change_pod(&environment, "hello-ann", &labels(9500, &json!("v")));
    let shown = eventually("the labels are seen", || {
        Some(meta(&environment)).filter(|keys| !keys.is_empty())
    });
    let first: Vec<String> = (0..64).map(|n| format!("k{n:04}")).collect();
    assert_eq!(shown, first);
    let line = r#"config_controller_labels_left_out_total{resource="pods"} 1"#;
    eventually("it is counted", || {
        let metrics = environment.get("/metrics").text;
        metrics.lines().any(|found| found == line).then_some(())
    });

    let full = environment.patch(PATH, &json!({"another": "v"}));
    full.expect_detail(422, "error", "labels_limit");
    let swapped = environment.patch(PATH, &json!({"another": "v", "k0000": null}));
    swapped.expect_detail(422, "error", "labels_limit");
    environment.patch(PATH, &json!({"k0000": "w"})).expect(200);
    assert_eq!(environment.get(PATH).expect(200)["k0000"], "w");
    // One that is left out can be removed, and one of those kept makes place for another.
    let removal = json!({"k9499": null, "k0000": null});
    environment.patch(PATH, &removal).expect(200);
    let pod = environment.kube.pod_of(NAMESPACE, "hello-ann");
    let on_pod = pod.expect("it is there")["metadata"]["labels"].to_string();
    assert!(!on_pod.contains("meta-k9499\"") && !on_pod.contains("meta-k0000\""));
    assert_eq!(meta(&environment).last().map(String::as_str), Some("k0064"));

    change_pod(&environment, "hello-ann", &labels(9500, &Value::Null));
    eventually("the labels are gone", || {
        meta(&environment).is_empty().then_some(())
    });
    environment
        .patch(PATH, &json!({"another": "v"}))
        .expect(200);
}
