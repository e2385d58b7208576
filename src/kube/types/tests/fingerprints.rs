//! When the fingerprint of a pod changes, and when it does not.

use crate::kube::types::{Fingerprint, Pod, Resource as _};
use serde_json::{Value, json};

const UID: &str = "2293ff2d-892e-4d55-a8d3-375647fb5084";

fn pod(labels: Value, annotations: Value, more: Value) -> Fingerprint {
    let mut pod = json!({
        "metadata": {
            "name": "p", "uid": "p", "resourceVersion": "7", "annotations": annotations,
            "labels": {"batch.kubernetes.io/controller-uid": UID},
            "ownerReferences": [{"kind": "Job", "name": "j", "uid": UID, "controller": true}],
        },
        "status": {"podIP": "10.0.0.1"},
    });
    for (key, value) in labels.as_object().unwrap() {
        let key = format!("config-controller.semafor.ch/{key}");
        pod["metadata"]["labels"][key] = value.clone();
    }
    for (path, value) in more.as_object().unwrap() {
        *pod.pointer_mut(path).unwrap() = value.clone();
    }
    let pod = Pod::decode(pod.to_string().as_bytes()).unwrap();
    pod.unwrap().fingerprint
}

/// A change here makes each `ETag` that a caller has one of another state, during an update.
#[test]
fn it_is_the_same_in_every_replica_and_version() {
    let labels = json!({"meta-username": "ann"});
    let found = pod(labels, json!({}), json!({})).to_string();
    assert_eq!(found, "72fbf6e5d1cbe43c13a1cb6ab5e51304");
    assert_eq!(Fingerprint::parse(&found).unwrap().to_string(), found);
}

#[test]
fn only_what_callers_get_counts() {
    let labels = || json!({"meta-username": "ann", "meta-a": ""});
    let pair = "config-controller.semafor.ch/meta.0123456789";
    let one = pod(labels(), json!({pair: r#"["b","@"]"#}), json!({}));
    let same = [
        json!({"/metadata/resourceVersion": "8"}),
        json!({"/metadata/uid": "q"}),
        json!({"/metadata/name": "q"}),
    ];
    for more in same {
        let written_otherwise = json!({pair: r#"["b" , "@"]"#, "others": "x"});
        assert_eq!(pod(labels(), written_otherwise, more), one);
    }
    let others = [
        pod(
            json!({"meta-username": "bob", "meta-a": ""}),
            json!({}),
            json!({}),
        ),
        pod(
            json!({"meta-username": "ann"}),
            json!({pair: r#"["b","@"]"#}),
            json!({}),
        ),
        pod(labels(), json!({pair: r#"["b","!"]"#}), json!({})),
        pod(
            labels(),
            json!({pair: r#"["b","@"]"#}),
            json!({"/status/podIP": "10.0.0.2"}),
        ),
        pod(
            labels(),
            json!({pair: r#"["b","@"]"#}),
            json!({"/status/podIP": null}),
        ),
        pod(
            json!({"meta-usernamea": "nn", "meta-a": ""}),
            json!({pair: r#"["b","@"]"#}),
            json!({}),
        ),
    ];
    assert!(others.iter().all(|other| *other != one));
}

#[test]
fn only_its_own_digits_are_parsed() {
    let digits = "00112233445566778899aabbccddeeff";
    assert!(Fingerprint::parse(digits).is_some());
    let upper = digits.to_uppercase();
    for other in [
        "",
        "0",
        &digits[1..],
        &format!("{digits}0"),
        &upper,
        "0x112233445566778899aabbccddeeff",
    ] {
        assert_eq!(Fingerprint::parse(other), None, "{other}");
    }
}
