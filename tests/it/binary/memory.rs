//! The memory of the program where the cluster holds, or the API server sends, more than it should:
//! never more than the limit in our manifests.

use std::fs;

use serde_json::{Map, json};

use super::Running;
use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::write::Part;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{
    NAMESPACE, PREFIX, TEMPLATE, TemporaryFolder, apply_templates, eventually, name_of,
};

/// The memory limit of our manifests.
const LIMIT_KIB: u64 = 96 * 1024;

/// A fake with the app type `hello`.
fn fake() -> FakeKube {
    let fake = FakeKube::builder().start().expect("the fake can listen");
    apply_templates(&fake, "apps", &[("hello", TEMPLATE)], json!({}));
    fake
}

fn start(fake: &FakeKube) -> Running {
    let folder = TemporaryFolder::new();
    let kubeconfig = folder.write("kubeconfig", &fake.kubeconfig(NAMESPACE));
    Running::start(&kubeconfig)
}

/// Fails if it has held more than this.
#[track_caller]
fn check_peak(running: &Running, max_kib: u64) {
    let status = fs::read_to_string(format!("/proc/{}/status", running.child.id()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let peak = peak.expect("the kernel counts it");
    println!("peak: {peak} KiB");
    assert!(peak <= max_kib, "{peak} KiB");
}

/// The labels of some instances, set by kubectl, take nearly all that etcd has for one object.
#[test]
fn many_labels_of_other_clients() {
    const INSTANCES: usize = 60;
    let fake = fake();
    let watching = start(&fake);
    watching.wait_ready();
    for n in 0..INSTANCES {
        let started = watching.client.get(&format!("/app/hello/i{n}"));
        assert_eq!(started.status, 200, "{}", started.text);
    }
    let label = |n: usize| (format!("{PREFIX}meta-k{n:04}"), json!("v".repeat(50)));
    let labels: Map<_, _> = (0..9500).map(label).collect();
    let patch = json!({"metadata": {"labels": labels}});
    for pod in fake.all(Resource::Pods, NAMESPACE) {
        let key = (Resource::Pods, NAMESPACE.to_owned(), name_of(&pod));
        let patched = fake.with(|model| model.cluster.merge_patch(&key, &patch, Part::Main, false));
        patched.expect("the labels are valid");
    }
    let listing = start(&fake);
    listing.wait_ready();
    let labels_of = |running: &Running, n: usize| {
        let found = running.client.get(&format!("/app/hello/i{n}"));
        let found = found.json();
        let keys = found.as_object().expect("an object").keys();
        keys.filter(|key| key.starts_with('k')).count()
    };
    for running in [&watching, &listing] {
        eventually("the labels are seen", || {
            let all = (0..INSTANCES).all(|n| labels_of(running, n) == 64);
            all.then_some(())
        });
        check_peak(running, LIMIT_KIB);
    }
}

#[test]
fn entries_of_config_maps_that_are_no_templates() {
    let fake = fake();
    for n in 0..60 {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": format!("m{n}"), "labels": {format!("{PREFIX}template"): "true"}},
            "data": {"notes.txt": "x".repeat(900_000)},
        });
        fake.apply(NAMESPACE, &object).expect("a ConfigMap");
    }
    let running = start(&fake);
    running.wait_ready();
    check_peak(&running, LIMIT_KIB / 2);
}

/// More templates than are kept, each as large as a ConfigMap may be.
#[test]
fn templates_of_many_megabytes() {
    let fake = fake();
    let entry = "    - {name: SOME_NAME, value: \"some value of a variable, which is a bit longer than most others are\"}\n";
    let template = format!(
        "spec:\n  restartPolicy: Never\n  containers:\n  - name: app\n    image: i\n    env:\n{}",
        entry.repeat(950_000 / entry.len())
    );
    for n in 0..40 {
        let name = format!("t{n:02}");
        let types = [(name.as_str(), template.as_str())];
        apply_templates(&fake, &name, &types, json!({}));
    }
    let running = start(&fake);
    running.wait_ready();
    let types = running.client.get("/app").json();
    assert_eq!(types.as_array().map(Vec::len), Some(5), "{types}");
    let started = running.client.get("/app/t00/ann");
    assert_eq!(started.status, 200, "{}", started.text);
    check_peak(&running, LIMIT_KIB * 3 / 4);
}

#[test]
fn responses_that_never_end() {
    let fake = fake();
    let running = start(&fake);
    running.wait_ready();
    let started = running.client.get("/app/hello/ann");
    assert_eq!(started.status, 200, "{}", started.text);
    fake.fault(FaultRule::new("*", "*", Fault::Endless));
    fake.cut_connections();
    let patches: Vec<_> = (0..20)
        .map(|n| (running.client).begin_patch("/app/hello/ann", &json!({format!("k{n}"): "v"})))
        .collect();
    let lists_failed = |resource: &str| {
        let metrics = running.client.get("/metrics").text;
        let name = "config_controller_watch_restarts_total";
        let line = format!("{name}{{resource=\"{resource}\",cause=\"too_large\"}} ");
        let count = metrics.lines().find_map(|found| found.strip_prefix(&line));
        count.is_some_and(|count| count != "0")
    };
    for resource in ["configmaps", "jobs", "pods", "events"] {
        eventually(resource, || lists_failed(resource).then_some(()));
    }
    for patch in patches {
        let response = patch.finish();
        assert_eq!(response.status, 500, "{}", response.text);
        assert!(response.text.contains("internal"), "{}", response.text);
    }
    assert_eq!(running.client.get("/livez").status, 200);
    check_peak(&running, LIMIT_KIB / 2);
    fake.clear_faults();
    eventually("it works again", || {
        let patched = running.client.patch("/app/hello/ann", &json!({"k": "v"}));
        (patched.status == 200).then_some(())
    });
}
