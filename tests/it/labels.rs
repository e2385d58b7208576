//! PATCH: meta labels, in whatever form Kubernetes takes them, read back as they were given.

use serde_json::{Value, json};

use crate::fake_kube::dynamics::fate::Fate;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{Answer, Ground, NAMESPACE, PREFIX, eventually};

const PATH: &str = "/app/hello/ann";

fn started() -> Ground {
    let ground = Ground::new();
    ground.start_instance(PATH);
    ground.count_from_here();
    ground
}

/// The labels and annotations of the pod.
#[track_caller]
fn pod_metadata(ground: &Ground) -> Value {
    let pod = ground.kube.pod_of(NAMESPACE, "hello-ann");
    pod.expect("the instance has a pod")["metadata"].clone()
}

#[track_caller]
fn success(answer: &Answer) {
    answer.expect_text(200, r#"{"status":"Success"}"#);
}

#[test]
fn a_label_is_seen_by_the_next_get_and_list() {
    let ground = started();
    for round in 0..20 {
        let value = format!("v{round}");
        success(&ground.patch(PATH, &json!({"username": value})));
        assert_eq!(ground.get(PATH).expect(200)["username"], json!(value));
        let list = ground.get("/app/hello").expect(200);
        assert_eq!(list[0]["username"], json!(value));
    }
    let metadata = pod_metadata(&ground);
    assert_eq!(metadata["labels"][format!("{PREFIX}meta-username")], "v19");
    assert_eq!(ground.kube.count("patch", "pods"), 20);
    assert_eq!(ground.kube.count("get", "pods"), 0);
}

#[test]
fn numbers_and_booleans_are_taken_as_their_text() {
    let ground = started();
    success(&ground.patch(PATH, &json!({"a": 7, "b": true, "c": 1.5, "d": ""})));
    let found = ground.get(PATH).expect(200);
    assert_eq!(found["a"], "7");
    assert_eq!(found["b"], "true");
    assert_eq!(found["c"], "1.5");
    assert_eq!(found["d"], "");
}

#[test]
fn what_is_no_valid_label_reads_back_the_same() {
    let ground = started();
    let long = "x".repeat(200);
    let odd = json!({
        "username": "bob@example.ch",
        "note": "-leading and trailing-",
        "long": long,
        "a key with spaces": "v",
        "käse": "Zürich",
        "quoted": "\"\\\n",
    });
    success(&ground.patch(PATH, &odd));
    let found = ground.get(PATH).expect(200);
    let list = ground.get("/app/hello").expect(200);
    for (key, value) in odd.as_object().expect("an object") {
        assert_eq!(&found[key], value, "{key}");
        assert_eq!(&list[0][key], value, "{key} in the list");
    }
    let metadata = pod_metadata(&ground);
    assert!(metadata["labels"][format!("{PREFIX}meta-username")].is_null());
}

#[test]
fn a_value_changes_its_form_without_a_trace_of_the_old_one() {
    let ground = started();
    for value in ["plain", "with space", "plain-again"] {
        success(&ground.patch(PATH, &json!({"k": value})));
        assert_eq!(ground.get(PATH).expect(200)["k"], value);
    }
    let metadata = pod_metadata(&ground);
    assert_eq!(metadata["labels"][format!("{PREFIX}meta-k")], "plain-again");
    let annotations = metadata["annotations"].to_string();
    assert!(!annotations.contains("with space"), "{annotations}");
}

#[test]
fn null_removes() {
    let ground = started();
    success(&ground.patch(PATH, &json!({"a": "1", "b": "odd value", "c": "3"})));
    success(&ground.patch(PATH, &json!({"a": null, "b": null, "never": null})));
    let found = ground.get(PATH).expect(200);
    let keys: Vec<&String> = found.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["ip", "c"]);
}

#[test]
fn an_empty_object_changes_nothing() {
    let ground = started();
    success(&ground.patch(PATH, &json!({"a": "1"})));
    success(&ground.patch(PATH, &json!({})));
    assert_eq!(ground.get(PATH).expect(200)["a"], "1");
}

#[test]
fn reserved_keys_are_refused_and_nothing_is_changed() {
    let ground = started();
    for key in ["ip", "addr", "name", "hostname", "errored", "start"] {
        let answer = ground.patch(PATH, &json!({"good": "1", key: "6.6.6.6"}));
        let sentence = answer.expect_detail(422, "error", "reserved_key");
        assert!(sentence.contains(&format!("'{key}'")), "{sentence}");
    }
    for value in [json!({"x": 1}), json!(["x"])] {
        let answer = ground.patch(PATH, &json!({"good": "1", "nested": value}));
        let sentence = answer.expect_detail(422, "error", "reserved_key");
        assert!(sentence.contains("'nested'"), "{sentence}");
    }
    assert!(ground.get(PATH).expect(200)["good"].is_null());
    assert_eq!(ground.kube.count("patch", "pods"), 0);
}

#[test]
fn a_reserved_key_that_is_on_the_pod_by_hand_is_not_shown() {
    let ground = started();
    let ip = ground.get(PATH).expect(200)["ip"].clone();
    let pod = ground.kube.pod_of(NAMESPACE, "hello-ann");
    let mut pod = Value::clone(&pod.expect("the instance has a pod"));
    pod["metadata"]["labels"][format!("{PREFIX}meta-ip")] = json!("6.6.6.6");
    pod["metadata"]["labels"][format!("{PREFIX}meta-seen")] = json!("yes");
    ground
        .kube
        .apply(NAMESPACE, &pod)
        .expect("a pod is changed");
    let found = eventually("the change is seen", || {
        let found = ground.get(PATH).expect(200);
        (found["seen"] == "yes").then_some(found)
    });
    assert_eq!(found["ip"], ip);
}

/// The bodies of FastAPI, which clients of 2.7.1 may have seen (contract B 3.5).
#[test]
fn bodies_that_are_no_object_are_422_as_they_were() {
    let ground = started();
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
        let answer = ground.client().begin("PATCH", PATH, &json, body).finish();
        answer.expect_text(422, expected);
    }
    let plain = [("Content-Type", "text/plain")];
    let answer = ground.client().begin("PATCH", PATH, &plain, "{}").finish();
    assert_eq!(answer.expect(422)["detail"][0]["type"], "dict_type");
    assert_eq!(ground.kube.count("*", "*"), 0);
}

#[test]
fn a_patch_never_creates() {
    let ground = Ground::new();
    let answer = ground.patch(PATH, &json!({"connected": "false"}));
    answer.expect_detail(404, "error", "not_found");
    ground
        .patch("/app/nope/ann", &json!({"k": "v"}))
        .expect_detail(404, "error", "not_found");
    assert_eq!(ground.jobs(), [""; 0]);
    assert_eq!(ground.kube.count("create", "jobs"), 0);
}

#[test]
fn a_pod_that_is_not_ready_can_be_labelled() {
    let ground = Ground::by_hand();
    ground.get_at_once(PATH).expect(202);
    success(&ground.patch(PATH, &json!({"k": "v"})));
    let list = ground.get("/app/hello").expect(200);
    assert_eq!(list[0]["k"], "v");
    assert_eq!(list[0]["errored"], true);
}

#[test]
fn a_patch_waits_for_a_pod_that_is_on_its_way() {
    let ground = Ground::by_hand();
    ground.kube.set_auto(false);
    let waiting = ground.client().begin_get(PATH);
    ground.wait_job("hello-ann");
    let patching = ground.client().begin_patch(PATH, &json!({"k": "v"}));
    // A round trip later it waits, too.
    ground.get("/info").expect(200);
    assert!(!patching.is_answered());
    ground.kube.set_auto(true);
    success(&patching.finish());
    ground.make_ready("hello-ann");
    assert_eq!(waiting.finish().expect(200)["k"], "v");
}

#[test]
fn a_patch_that_waits_in_vain_is_404() {
    let ground = Ground::builder().setting("START_WAIT", "300ms").start();
    ground.kube.set_auto(false);
    ground.get_at_once(PATH).expect(202);
    eventually("its Job is seen", || {
        let list = ground.get("/app/hello").expect(200);
        (list.as_array()?.len() == 1).then_some(())
    });
    let answer = ground.patch(PATH, &json!({"k": "v"}));
    answer.expect_detail(404, "error", "not_found");
    assert_eq!(ground.kube.count("patch", "pods"), 0);
}

#[test]
fn two_patches_at_once_both_hold() {
    let ground = started();
    let client = ground.client();
    let patches: Vec<_> = (0..20)
        .map(|n| client.begin_patch(PATH, &json!({format!("k{n}"): "v"})))
        .collect();
    for patch in patches {
        success(&patch.finish());
    }
    let found = ground.get(PATH).expect(200);
    for n in 0..20 {
        assert_eq!(found[format!("k{n}")], "v", "k{n}");
    }
}

/// The pod is replaced by the Job controller, and its successor has what was attached.
fn replaced_by(evict: &PodMove) {
    // An app that ends with 0 when it is told to stop has Completed, and is not replaced.
    let fate = Fate {
        exit_on_stop: 143,
        ..Fate::default()
    };
    let ground = Ground::builder().fate(fate).start();
    ground.start_instance(PATH);
    success(&ground.patch(PATH, &json!({"username": "bob", "mail": "bob@x.ch"})));
    let before = ground.get(PATH).expect(200)["ip"].clone();
    ground.move_pod("hello-ann", evict);
    let after = eventually("the successor has the labels", || {
        let answer = ground.get(PATH);
        let found = Some(answer.json()).filter(|_| answer.status == 200)?;
        (found["ip"] != before && found["username"] == "bob").then_some(found)
    });
    assert_eq!(after["mail"], "bob@x.ch");
    success(&ground.patch(PATH, &json!({"username": null, "mail": null})));
    let bare = ground.get(PATH).expect(200);
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
