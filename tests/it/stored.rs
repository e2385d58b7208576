//! What other clients store in the cluster, beyond every bound of ours: a replica keeps a part of it,
//! and works.

use std::sync::Arc;

use config_controller::model::labels::{ALL_BYTES_MAX, BYTES_MAX, PAIR_BYTES};
use config_controller::model::names::InstanceKey;
use serde_json::{Map, Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::Part;
use crate::harness::{NAMESPACE, PREFIX, TEMPLATE, TestEnvironment, eventually, name_of};

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

/// A type whose labels fill the bound on all does not keep the other types from theirs.
#[test]
fn labels_of_a_type_leave_place_for_those_of_others() {
    let environment = TestEnvironment::builder()
        .template("other", TEMPLATE)
        .start();
    let other = "/app/other/ann";
    environment.start_instance(PATH);
    environment.start_instance(other);
    let pod = environment.kube.pod_of(NAMESPACE, "hello-ann");
    let mut full = Value::clone(&pod.expect("the instance has a pod"));
    let metadata = &mut full["metadata"];
    metadata["ownerReferences"] = json!([]);
    metadata["annotations"][format!("{PREFIX}meta.0000000000")] =
        json!(json!(["k", "x".repeat(BYTES_MAX - 1)]).to_string());
    let each = BYTES_MAX + PAIR_BYTES;
    let count = ALL_BYTES_MAX / each;
    for n in 0..count {
        let name = format!("full-{n}");
        full["metadata"]["name"] = json!(name);
        full["metadata"]["uid"] = json!(name);
        full["metadata"]["annotations"][format!("{PREFIX}instance-name")] = json!(name);
        let key = (Resource::Pods, NAMESPACE.to_owned(), name);
        environment
            .kube
            .with(|model| model.cluster.put(key, full.clone()));
    }
    let line = format!("config_controller_label_bytes {}", count * each);
    eventually("the labels are counted", || {
        let metrics = environment.get("/metrics").text;
        metrics.lines().any(|found| found == line).then_some(())
    });

    let label = json!({"user": "ann"});
    let refused = environment.patch(PATH, &label);
    let message = refused.expect_detail(422, "error", "labels_limit");
    assert!(message.contains("more than 4194304 bytes"), "{message}");
    environment.patch(other, &label).expect(200);
    assert_eq!(environment.get(other).expect(200)["user"], "ann");
    let refused = environment.patch(PATH, &label);
    refused.expect_detail(422, "error", "labels_limit");
}

/// A ConfigMap with one type of its own name and about so many bytes.
fn config_map(name: &str, bytes: usize) -> Value {
    let comment = format!("# {}\n", "x".repeat(bytes));
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {format!("{PREFIX}template"): "true"}},
        "data": {format!("{name}.yaml"): format!("{TEMPLATE}{comment}")},
    })
}

#[test]
fn templates_are_kept_by_name_up_to_the_bound() {
    const LARGE: usize = 1_000_000;
    let mut environment = TestEnvironment::new();
    let put = |environment: &TestEnvironment, name: &str, bytes: usize| {
        let put = environment.kube.apply(NAMESPACE, &config_map(name, bytes));
        put.expect("a ConfigMap is taken");
    };
    // As many as fit beside the one of the types that are always there.
    for n in 0..4 {
        put(&environment, &format!("u{n}"), LARGE);
    }
    let types = |from: &TestEnvironment, replica: usize| -> Vec<String> {
        let types = from.replica(replica).get("/app").expect(200);
        let types = types.as_array().expect("an array").iter();
        let types = types.filter_map(|found| found.as_str().map(str::to_owned));
        types.filter(|found| found != "hello").collect()
    };
    let seen = |environment: &TestEnvironment, expected: &[&str], left_out: usize| {
        let line = format!("config_controller_config_maps_left_out {left_out}");
        eventually(&format!("{expected:?} and {left_out}"), || {
            let metrics = environment.get("/metrics").text;
            let is_counted = metrics.lines().any(|found| found == line);
            (is_counted && types(environment, 0) == expected).then_some(())
        });
    };
    let all = ["u0", "u1", "u2", "u3"];
    seen(&environment, &all, 0);
    put(&environment, "u4", LARGE);
    put(&environment, "z", 10);
    seen(&environment, &all, 2);
    put(&environment, "a", 10);
    seen(&environment, &["a", "u0", "u1", "u2", "u3"], 2);
    put(&environment, "b", LARGE);
    let shifted = ["a", "b", "u0", "u1", "u2"];
    seen(&environment, &shifted, 3);
    assert_eq!(
        environment.get("/app/z/ann").expect(404)["code"],
        "unknown_type"
    );
    let other = environment.add_replica();
    environment.wait_ready(other);
    assert_eq!(
        types(&environment, other),
        shifted,
        "all replicas keep the same"
    );
    environment
        .kube
        .delete(Resource::ConfigMaps, NAMESPACE, "u0", "Background")
        .expect("it is there");
    seen(&environment, &["a", "b", "u1", "u2", "u3"], 2);
    put(&environment, "u1", 10);
    put(&environment, "u2", 10);
    seen(&environment, &["a", "b", "u1", "u2", "u3", "u4", "z"], 0);
}

#[test]
fn templates_are_kept_by_name_up_to_a_number() {
    let environment = TestEnvironment::new();
    for map in ["m0", "m1", "m2"] {
        let data = (0..1000).map(|n| (format!("{map}-{n}.yaml"), json!(TEMPLATE)));
        let mut many = config_map(map, 0);
        many["data"] = Value::Object(data.collect());
        let put = environment.kube.apply(NAMESPACE, &many);
        put.expect("a ConfigMap is taken");
    }
    eventually("those of two are known", || {
        let types = environment.get("/app").expect(200);
        let count = types.as_array().expect("an array").len();
        (count == 1 + 2 * 1000).then_some(())
    });
    let unknown = environment.get("/app/m2-0/ann").expect(404);
    assert_eq!(unknown["code"], "unknown_type");
    let message = unknown["msg"].as_str().expect("a text");
    assert!(message.ends_with(" and 1901 more, which GET /app lists"));
}

/// Clients put names into URLs as they are, so whoever cleans up by the list would stop `keep`.
#[test]
fn an_older_instance_with_a_name_of_urls_is_not_listed_and_can_be_stopped() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/keep");
    let mut odd = Value::clone(&environment.job("hello-keep").expect("it is there"));
    let job = InstanceKey::new("hello", "keep?x")
        .expect("it was valid")
        .job_name();
    for metadata in ["/metadata", "/spec/template/metadata"] {
        let metadata = odd.pointer_mut(metadata).expect("it has metadata");
        metadata["annotations"][format!("{PREFIX}instance-name")] = json!("keep?x");
    }
    odd["metadata"]["name"] = json!(job);
    odd["metadata"]["uid"] = json!("odd");
    let key = (Resource::Jobs, NAMESPACE.to_owned(), job.clone());
    environment.kube.with(|model| model.cluster.put(key, odd));
    let of_type = r#"config_controller_instances{type="hello","#;
    eventually("the replica knows it", || {
        let metrics = environment.get("/metrics").text;
        let counts = metrics.lines().filter(|line| line.starts_with(of_type));
        let known: usize = counts
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
            .sum();
        (known == 2).then_some(())
    });
    let list = environment.get("/app/hello").expect(200);
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
    assert_eq!(list[0]["name"], "keep");
    let stopped = environment.delete("/app/hello/keep%3Fx");
    stopped.expect_text(200, r#"{"status":"Success"}"#);
    eventually("it is gone", || {
        environment.job(&job).is_none().then_some(())
    });
    environment.wait_found("/app/hello/keep");
}
