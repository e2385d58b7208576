//! PATCH of meta labels: their cost, their form on the pod, and pods that come late. Bodies are rows
//! of `contract_labels`. Forged pods get and give none.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{NAMESPACE, PREFIX, Pending, Response, TestEnvironment, eventually};

const PATH: &str = "/app/hello/ann";

fn started() -> TestEnvironment {
    let environment = TestEnvironment::new();
    environment.start_instance(PATH);
    environment.count_from_here();
    environment
}

/// The labels and annotations of the pod.
#[track_caller]
fn pod_metadata(environment: &TestEnvironment) -> Value {
    let pod = environment.kube.pod_of(NAMESPACE, "hello-ann");
    pod.expect("the instance has a pod")["metadata"].clone()
}

#[track_caller]
fn success(response: &Response) {
    response.expect_text(200, r#"{"status":"Success"}"#);
}

#[test]
fn a_label_is_seen_by_the_next_get_and_list() {
    let environment = started();
    for round in 0..20 {
        let value = format!("v{round}");
        success(&environment.patch(PATH, &json!({"username": value})));
        assert_eq!(environment.get(PATH).expect(200)["username"], json!(value));
        let list = environment.get("/app/hello").expect(200);
        assert_eq!(list[0]["username"], json!(value));
    }
    let metadata = pod_metadata(&environment);
    assert_eq!(metadata["labels"][format!("{PREFIX}meta-username")], "v19");
    assert_eq!(environment.kube.count("patch", "pods"), 20);
    assert_eq!(environment.kube.count("get", "pods"), 0);
}

#[test]
fn a_value_that_changes_its_form_replaces_the_old_form() {
    let environment = started();
    for value in ["plain", "with space", "plain-again"] {
        success(&environment.patch(PATH, &json!({"k": value})));
        assert_eq!(environment.get(PATH).expect(200)["k"], value);
    }
    let metadata = pod_metadata(&environment);
    assert_eq!(metadata["labels"][format!("{PREFIX}meta-k")], "plain-again");
    let annotations = metadata["annotations"].to_string();
    assert!(!annotations.contains("with space"), "{annotations}");
}

#[test]
fn an_unready_pod_can_be_labelled() {
    let environment = TestEnvironment::by_hand();
    environment.get_at_once(PATH).expect(202);
    success(&environment.patch(PATH, &json!({"k": "v"})));
    let list = environment.get("/app/hello").expect(200);
    assert_eq!(list[0]["k"], "v");
    assert_eq!(list[0]["errored"], true);
}

#[test]
fn a_patch_waits_for_the_pod_of_a_start() {
    let environment = TestEnvironment::by_hand();
    environment.kube.set_auto(false);
    let waiting = environment.client().begin_get(PATH);
    environment.wait_job("hello-ann");
    let patching = environment.client().begin_patch(PATH, &json!({"k": "v"}));
    // A round trip later it waits, too.
    environment.get("/info").expect(200);
    assert!(!patching.is_answered());
    environment.kube.set_auto(true);
    success(&patching.finish());
    environment.make_ready("hello-ann");
    assert_eq!(waiting.finish().expect(200)["k"], "v");
}

#[test]
fn a_patch_without_a_pod_in_time_is_404() {
    let environment = TestEnvironment::builder()
        .setting("START_WAIT", "300ms")
        .start();
    environment.kube.set_auto(false);
    environment.get_at_once(PATH).expect(202);
    eventually("its Job is seen", || {
        let list = environment.get("/app/hello").expect(200);
        (list.as_array()?.len() == 1).then_some(())
    });
    let response = environment.patch(PATH, &json!({"k": "v"}));
    response.expect_detail(404, "error", "not_found");
    assert_eq!(environment.kube.count("patch", "pods"), 0);
}

/// The pod is replaced by the Job controller, and its successor has what was attached.
fn replaced_by(evict: &PodMove) {
    // An app that ends with 0 when it receives SIGTERM has Completed, and is not replaced.
    let pod_script = PodScript {
        exit_on_stop: 143,
        ..PodScript::default()
    };
    let environment = TestEnvironment::builder().pod_script(pod_script).start();
    environment.start_instance(PATH);
    success(&environment.patch(PATH, &json!({"username": "bob", "mail": "bob@x.ch"})));
    let before = environment.get(PATH).expect(200)["ip"].clone();
    environment.move_pod("hello-ann", evict);
    let after = eventually("the successor has the labels", || {
        let response = environment.get(PATH);
        let found = Some(response.json()).filter(|_| response.status == 200)?;
        (found["ip"] != before && found["username"] == "bob").then_some(found)
    });
    assert_eq!(after["mail"], "bob@x.ch");
    success(&environment.patch(PATH, &json!({"username": null, "mail": null})));
    let bare = environment.get(PATH).expect(200);
    assert!(
        bare["username"].is_null() && bare["mail"].is_null(),
        "{bare}"
    );
}

#[test]
fn a_replaced_pod_passes_its_labels_on() {
    replaced_by(&PodMove::Evict);
}

#[test]
fn a_pod_that_failed_and_stays_passes_its_labels_on() {
    replaced_by(&PodMove::EvictByKubelet(
        "The node was low on memory.".into(),
    ));
}

/// An environment with an instance, whose API server takes 40 ms for each PATCH.
fn slowly_labelled() -> TestEnvironment {
    let environment = started();
    let slow = Fault::Delay(Duration::from_millis(40));
    environment
        .kube
        .fault(FaultRule::new("patch", "pods", slow));
    environment
}

/// One at a time they would take 20 s, which is more than a change may take.
#[test]
fn many_patches_of_one_name_at_once_become_few_calls_and_none_is_lost() {
    const PATCHES: usize = 500;
    let environment = slowly_labelled();
    let client = environment.client();
    let body = |n: usize| json!({format!("k{}", n % 50): n.to_string()});
    let patches: Vec<Pending> = (0..PATCHES)
        .map(|n| client.begin_patch(PATH, &body(n)))
        .collect();
    for patch in patches {
        success(&patch.finish());
    }
    let calls = environment.kube.count("patch", "pods");
    assert!(calls <= PATCHES / 10, "{calls} calls");
    let ready = environment.get(PATH).expect(200);
    for key in 0..50 {
        let value = ready[format!("k{key}")].as_str();
        let last: usize = value.expect("it is set").parse().expect("it is a number");
        assert_eq!(last % 50, key);
    }
}

#[test]
fn of_patches_at_once_those_beyond_the_bound_are_rejected() {
    let environment = slowly_labelled();
    let client = environment.client();
    let patches: Vec<Pending> = (0..80)
        .map(|n| client.begin_patch(PATH, &json!({format!("k{n}"): "v"})))
        .collect();
    let mut set = 0;
    for patch in patches {
        let response = patch.finish();
        if response.status == 200 {
            set += 1;
        } else {
            assert_eq!(response.status, 422, "{}", response.text);
            let detail = &response.expect(422)["detail"];
            assert_eq!(detail["code"], "labels_limit", "{}", response.text);
        }
    }
    assert_eq!(set, 64);
}

/// Whoever may create pods can name a Job as their controller.
#[test]
fn a_forged_pod_is_never_the_instance() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    let job = environment.wait_job("hello-ann");
    environment.advance(Duration::from_secs(2));
    let template = &job["spec"]["template"];
    for (name, is_marked) in [("a-plain", false), ("a-marked", true)] {
        let mut labels = json!({format!("{PREFIX}meta-username"): "forger"});
        if is_marked {
            let marks = template["metadata"]["labels"].as_object().expect("labels");
            labels
                .as_object_mut()
                .expect("labels")
                .extend(marks.clone());
        }
        let forged = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": name, "labels": labels, "annotations": template["metadata"]["annotations"],
                "ownerReferences": [{
                    "apiVersion": "batch/v1", "kind": "Job", "name": "hello-ann",
                    "uid": job["metadata"]["uid"], "controller": true,
                }],
            },
            "spec": template["spec"],
        });
        environment.kube.apply(NAMESPACE, &forged).expect("a pod");
    }
    eventually("the forged pods are ready", || {
        ["a-plain", "a-marked"]
            .iter()
            .all(|name| {
                let pod = environment.kube.get(Resource::Pods, NAMESPACE, name);
                pod.is_some_and(|pod| pod["status"]["podIP"].is_string())
            })
            .then_some(())
    });
    // Its pod is the last that the watch shows.
    environment.start_instance("/app/hello/bob");
    let real = format!(r#"{{"ip":"{ip}"}}"#);
    environment.get("/app/hello/ann").expect_text(200, &real);
    environment
        .patch("/app/hello/ann", &json!({"by": "ann"}))
        .expect(200);
    let labelled = format!(r#"{{"ip":"{ip}","by":"ann"}}"#);
    environment
        .get("/app/hello/ann")
        .expect_text(200, &labelled);
    let list = environment.get("/app/hello").expect(200);
    assert_eq!(list[0]["ip"], json!(ip));
    assert_eq!(list.as_array().map(Vec::len), Some(2));
}
