//! PATCH: meta labels, in whatever form Kubernetes takes them, read back as they were given.

use serde_json::{Value, json};

use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{Answer, NAMESPACE, PREFIX, TestEnvironment, eventually};

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
fn success(answer: &Answer) {
    answer.expect_text(200, r#"{"status":"Success"}"#);
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
fn numbers_and_booleans_are_taken_as_their_text() {
    let environment = started();
    success(&environment.patch(PATH, &json!({"a": 7, "b": true, "c": 1.5, "d": ""})));
    let found = environment.get(PATH).expect(200);
    assert_eq!(found["a"], "7");
    assert_eq!(found["b"], "true");
    assert_eq!(found["c"], "1.5");
    assert_eq!(found["d"], "");
}

#[test]
fn what_is_no_valid_label_reads_back_the_same() {
    let environment = started();
    let long = "x".repeat(200);
    let odd = json!({
        "username": "bob@example.ch",
        "note": "-leading and trailing-",
        "long": long,
        "a key with spaces": "v",
        "käse": "Zürich",
        "quoted": "\"\\\n",
    });
    success(&environment.patch(PATH, &odd));
    let found = environment.get(PATH).expect(200);
    let list = environment.get("/app/hello").expect(200);
    for (key, value) in odd.as_object().expect("an object") {
        assert_eq!(&found[key], value, "{key}");
        assert_eq!(&list[0][key], value, "{key} in the list");
    }
    let metadata = pod_metadata(&environment);
    assert!(metadata["labels"][format!("{PREFIX}meta-username")].is_null());
}

#[test]
fn a_value_changes_its_form_without_a_trace_of_the_old_one() {
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
fn null_removes() {
    let environment = started();
    success(&environment.patch(PATH, &json!({"a": "1", "b": "odd value", "c": "3"})));
    success(&environment.patch(PATH, &json!({"a": null, "b": null, "never": null})));
    let found = environment.get(PATH).expect(200);
    let keys: Vec<&String> = found.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["ip", "c"]);
}

#[test]
fn an_empty_object_changes_nothing() {
    let environment = started();
    success(&environment.patch(PATH, &json!({"a": "1"})));
    success(&environment.patch(PATH, &json!({})));
    assert_eq!(environment.get(PATH).expect(200)["a"], "1");
}

#[test]
fn reserved_keys_are_refused_and_nothing_is_changed() {
    let environment = started();
    for key in ["ip", "addr", "name", "hostname", "errored", "start"] {
        let answer = environment.patch(PATH, &json!({"good": "1", key: "6.6.6.6"}));
        let sentence = answer.expect_detail(422, "error", "reserved_key");
        assert!(sentence.contains(&format!("'{key}'")), "{sentence}");
    }
    for value in [json!({"x": 1}), json!(["x"])] {
        let answer = environment.patch(PATH, &json!({"good": "1", "nested": value}));
        let sentence = answer.expect_detail(422, "error", "reserved_key");
        assert!(sentence.contains("'nested'"), "{sentence}");
    }
    assert!(environment.get(PATH).expect(200)["good"].is_null());
    assert_eq!(environment.kube.count("patch", "pods"), 0);
}

#[test]
fn a_reserved_key_that_is_on_the_pod_by_hand_is_not_shown() {
    let environment = started();
    let ip = environment.get(PATH).expect(200)["ip"].clone();
    let pod = environment.kube.pod_of(NAMESPACE, "hello-ann");
    let mut pod = Value::clone(&pod.expect("the instance has a pod"));
    pod["metadata"]["labels"][format!("{PREFIX}meta-ip")] = json!("6.6.6.6");
    pod["metadata"]["labels"][format!("{PREFIX}meta-seen")] = json!("yes");
    environment
        .kube
        .apply(NAMESPACE, &pod)
        .expect("a pod is changed");
    let found = eventually("the change is seen", || {
        let found = environment.get(PATH).expect(200);
        (found["seen"] == "yes").then_some(found)
    });
    assert_eq!(found["ip"], ip);
}

/// The bodies of FastAPI, which clients of 2.7.1 may have seen (contract B 3.5).
#[test]
fn bodies_that_are_no_object_are_422_as_they_were() {
    let environment = started();
    for (body, expected) in [
        (
            "[]",
            r#"{"detail":[{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":[]}]}"#,
        ),
        (
            "null",
            r#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#,
        ),
        (
            "",
            r#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#,
        ),
    ] {
        let json = [("Content-Type", "application/json")];
        let answer = environment
            .client()
            .begin("PATCH", PATH, &json, body)
            .finish();
        answer.expect_text(422, expected);
    }
    let plain = [("Content-Type", "text/plain")];
    let answer = environment
        .client()
        .begin("PATCH", PATH, &plain, "{}")
        .finish();
    assert_eq!(answer.expect(422)["detail"][0]["type"], "dict_type");
    assert_eq!(environment.kube.count("*", "*"), 0);
}

#[test]
fn a_patch_never_creates() {
    let environment = TestEnvironment::new();
    let answer = environment.patch(PATH, &json!({"connected": "false"}));
    answer.expect_detail(404, "error", "not_found");
    environment
        .patch("/app/nope/ann", &json!({"k": "v"}))
        .expect_detail(404, "error", "not_found");
    assert_eq!(environment.jobs(), [""; 0]);
    assert_eq!(environment.kube.count("create", "jobs"), 0);
}

#[test]
fn a_pod_that_is_not_ready_can_be_labelled() {
    let environment = TestEnvironment::by_hand();
    environment.get_at_once(PATH).expect(202);
    success(&environment.patch(PATH, &json!({"k": "v"})));
    let list = environment.get("/app/hello").expect(200);
    assert_eq!(list[0]["k"], "v");
    assert_eq!(list[0]["errored"], true);
}

#[test]
fn a_patch_waits_for_a_pod_that_is_on_its_way() {
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
fn a_patch_that_waits_in_vain_is_404() {
    let environment = TestEnvironment::builder()
        .setting("START_WAIT", "300ms")
        .start();
    environment.kube.set_auto(false);
    environment.get_at_once(PATH).expect(202);
    eventually("its Job is seen", || {
        let list = environment.get("/app/hello").expect(200);
        (list.as_array()?.len() == 1).then_some(())
    });
    let answer = environment.patch(PATH, &json!({"k": "v"}));
    answer.expect_detail(404, "error", "not_found");
    assert_eq!(environment.kube.count("patch", "pods"), 0);
}

#[test]
fn two_patches_at_once_both_hold() {
    let environment = started();
    let client = environment.client();
    let patches: Vec<_> = (0..20)
        .map(|n| client.begin_patch(PATH, &json!({format!("k{n}"): "v"})))
        .collect();
    for patch in patches {
        success(&patch.finish());
    }
    let found = environment.get(PATH).expect(200);
    for n in 0..20 {
        assert_eq!(found[format!("k{n}")], "v", "k{n}");
    }
}

/// The pod is replaced by the Job controller, and its successor has what was attached.
fn replaced_by(evict: &PodMove) {
    // An app that ends with 0 when it is told to stop has Completed, and is not replaced.
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
        let answer = environment.get(PATH);
        let found = Some(answer.json()).filter(|_| answer.status == 200)?;
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
fn a_pod_that_is_replaced_passes_its_labels_on() {
    replaced_by(&PodMove::Evict);
}

#[test]
fn a_pod_that_failed_and_stays_passes_its_labels_on() {
    replaced_by(&PodMove::EvictByKubelet(
        "The node was low on memory.".into(),
    ));
}
