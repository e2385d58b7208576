//! JSON patches (RFC 6902): one atomic decision about an object, and what the one that comes too late gets.
//!
//! Merge patches are in `writes`.

use serde_json::{Value, json};

use super::{TestEnvironment, checks, condition, is_deleting, is_true, job, uid, version};
use crate::raw_kube::Got;

checks! {
    a_patch_decides_once,
    a_test_compares_whole_values,
    an_operation_that_fails_is_invalid,
    a_replacement_adds_a_missing_member,
    items_of_a_list_are_changed_by_their_index,
    keys_are_escaped,
    a_json_patch_that_is_none_is_a_bad_request,
    a_json_patch_is_bounded,
    a_json_patch_is_validated,
    a_json_patch_has_the_preconditions_of_an_update,
    a_job_that_is_being_deleted_is_patched,
}

const MARKER: &str = "/metadata/annotations/example.com~1marker";

/// Makes a suspended Job with a marker.
fn undecided(environment: &TestEnvironment) -> Value {
    let mut object = job("a", &json!({"suspend": true}));
    object["metadata"]["annotations"] = json!({"example.com/marker": "undecided"});
    environment.make("jobs", &object)
}

fn patch(environment: &TestEnvironment, operations: &Value) -> Got {
    environment
        .api
        .json_patch(&environment.one("jobs", "a"), operations)
}

fn admit(uid: &str) -> Value {
    json!([
        {"op": "test", "path": "/metadata/uid", "value": uid},
        {"op": "test", "path": MARKER, "value": "undecided"},
        {"op": "replace", "path": MARKER, "value": "admitted"},
        {"op": "replace", "path": "/spec/suspend", "value": false},
    ])
}

/// The whole body: it says neither what was tested nor of which object.
#[track_caller]
fn expect_failed(got: Got) {
    let body = got.expect(422);
    let expected = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the server rejected our request due to an error in our request",
        "reason": "Invalid", "details": {}, "code": 422,
    });
    assert_eq!(body, expected);
}

fn a_patch_decides_once(environment: &TestEnvironment) {
    let made = undecided(environment);
    environment.wait_one("jobs", "a", |job| is_true(job, "Suspended"));
    expect_failed(patch(
        environment,
        &admit("00000000-0000-4000-8000-000000000000"),
    ));
    let admitted = patch(environment, &admit(uid(&made))).expect(200);
    assert_eq!(admitted["spec"]["suspend"], false);
    let marker = &admitted["metadata"]["annotations"]["example.com/marker"];
    assert_eq!(*marker, "admitted");
    assert!(!is_deleting(&admitted));
    // The Job controller's part comes later, with a version of its own.
    assert!(is_true(&admitted, "Suspended"));
    expect_failed(patch(environment, &admit(uid(&made))));
    let resumed = environment.wait_one("jobs", "a", |job| job["status"]["active"] == 1);
    assert_eq!(condition(&resumed, "Suspended")["status"], "False");
    let missing = environment.one("jobs", "none");
    let got = environment.api.json_patch(&missing, &admit(uid(&made)));
    got.expect_refusal(404, "NotFound");
}

fn test(path: &str, value: &Value) -> Value {
    json!([{"op": "test", "path": path, "value": value}])
}

fn a_test_compares_whole_values(environment: &TestEnvironment) {
    let made = undecided(environment);
    let same = [
        ("/spec/suspend", json!(true)),
        ("/spec/backoffLimit", json!(0)),
        ("/kind", json!("Job")),
        ("/metadata/uid", json!(uid(&made))),
        (
            "/metadata/annotations",
            json!({"example.com/marker": "undecided"}),
        ),
        // What is not there is null.
        ("/metadata/annotations/none", Value::Null),
        ("/metadata/deletionTimestamp", Value::Null),
    ];
    for (path, value) in same {
        let got = patch(environment, &test(path, &value));
        assert_eq!(got.code, 200, "{path}");
    }
    for (path, value) in [
        ("/spec/suspend", json!("true")),
        ("/spec/backoffLimit", json!("0")),
        ("/metadata/uid", json!("x")),
        ("/metadata/annotations", json!({})),
        ("/metadata/annotations/none", json!("x")),
        ("/metadata/none/none", Value::Null),
        ("", json!({})),
    ] {
        expect_failed(patch(environment, &test(path, &value)));
    }
    let got = patch(environment, &json!([]));
    got.expect(200);
}

fn an_operation_that_fails_is_invalid(environment: &TestEnvironment) {
    let made = undecided(environment);
    for operation in [
        json!({"op": "add", "path": "/metadata/none/a", "value": "x"}),
        json!({"op": "replace", "path": "/metadata/none/a", "value": "x"}),
        json!({"op": "remove", "path": "/metadata/none/a"}),
        json!({"op": "remove", "path": "/metadata/annotations/a"}),
        json!({"op": "add", "path": "/metadata/name/a", "value": "x"}),
        json!({"op": "add", "path": "metadata/annotations/a", "value": "x"}),
        json!({"op": "add", "value": "x"}),
        json!({"op": "become", "path": "/metadata/annotations/a", "value": "x"}),
        json!({"path": "/metadata/annotations/a", "value": "x"}),
    ] {
        // What comes before the operation that fails is not done either.
        let first = json!({"op": "replace", "path": MARKER, "value": "admitted"});
        expect_failed(patch(environment, &json!([first, operation])));
    }
    let read = environment
        .api
        .get(&environment.one("jobs", "a"))
        .expect(200);
    assert_eq!(
        read["metadata"]["annotations"],
        made["metadata"]["annotations"]
    );
}

/// Unlike in the RFC.
fn a_replacement_adds_a_missing_member(environment: &TestEnvironment) {
    undecided(environment);
    let of = |name: &str| format!("/metadata/annotations/{name}");
    let operations = json!([
        {"op": "add", "path": of("a"), "value": "1"},
        {"op": "replace", "path": of("b"), "value": "2"},
        {"op": "remove", "path": of("example.com~1marker")},
    ]);
    let patched = patch(environment, &operations).expect(200);
    let expected = json!({"a": "1", "b": "2"});
    assert_eq!(patched["metadata"]["annotations"], expected);
}

fn items_of_a_list_are_changed_by_their_index(environment: &TestEnvironment) {
    undecided(environment);
    let list = "/metadata/finalizers";
    let at = |index: &str| format!("{list}/{index}");
    let operations = json!([
        {"op": "add", "path": list, "value": ["example.com/b"]},
        {"op": "add", "path": at("-"), "value": "example.com/c"},
        {"op": "add", "path": at("0"), "value": "example.com/a"},
        {"op": "test", "path": at("1"), "value": "example.com/b"},
        {"op": "remove", "path": at("2")},
        {"op": "replace", "path": at("1"), "value": "example.com/d"},
    ]);
    let patched = patch(environment, &operations).expect(200);
    let expected = json!(["example.com/a", "example.com/d"]);
    assert_eq!(patched["metadata"]["finalizers"], expected);
    for (op, index) in [
        ("test", "2"),
        ("add", "3"),
        ("replace", "2"),
        ("remove", "2"),
        ("remove", "x"),
    ] {
        let operation = json!([{"op": op, "path": at(index), "value": "example.com/x"}]);
        expect_failed(patch(environment, &operation));
    }
    let all = json!([{"op": "remove", "path": list}]);
    let patched = patch(environment, &all).expect(200);
    assert!(patched["metadata"]["finalizers"].is_null());
}

fn keys_are_escaped(environment: &TestEnvironment) {
    undecided(environment);
    let slash = "/metadata/annotations/example.com~1a.b";
    let operations = json!([
        {"op": "add", "path": slash, "value": "1"},
        {"op": "test", "path": slash, "value": "1"},
        {"op": "remove", "path": MARKER},
    ]);
    let patched = patch(environment, &operations).expect(200);
    let expected = json!({"example.com/a.b": "1"});
    assert_eq!(patched["metadata"]["annotations"], expected);
    // No key of Kubernetes has a tilde: validation refuses this one, and names it.
    let tilde = json!([{"op": "add", "path": "/metadata/annotations/a~0b", "value": "2"}]);
    let refusal = patch(environment, &tilde).expect_refusal(422, "Invalid");
    let cause = &refusal["details"]["causes"][0];
    assert_eq!(cause["field"], "metadata.annotations");
    let message = cause["message"].as_str().unwrap_or("");
    assert!(message.starts_with("Invalid value: \"a~b\": "), "{message}");
}

fn a_json_patch_that_is_none_is_a_bad_request(environment: &TestEnvironment) {
    undecided(environment);
    let path = environment.one("jobs", "a");
    let kind = "application/json-patch+json";
    let send = |body: &str| environment.api.send("PATCH", &path, kind, body);
    for (body, what, wanted) in [
        ("{}", "object", "[]handlers.jsonPatchOp"),
        ("7", "number", "[]handlers.jsonPatchOp"),
        ("[7]", "number", "handlers.jsonPatchOp"),
    ] {
        let refusal = send(body).expect_refusal(400, "BadRequest");
        let message = format!(
            "error decoding patch: json: cannot unmarshal {what} into Go value of type {wanted}"
        );
        assert_eq!(refusal["message"], message);
    }
    let refusal = send("[").expect_refusal(400, "BadRequest");
    let message = refusal["message"].as_str().unwrap_or("");
    assert!(message.starts_with("error decoding patch: "), "{message}");
    send("null").expect(200);
    let missing = environment.one("jobs", "none");
    let got = environment.api.send("PATCH", &missing, kind, "[");
    got.expect_refusal(404, "NotFound");
}

fn a_json_patch_is_bounded(environment: &TestEnvironment) {
    undecided(environment);
    let one = json!({"op": "test", "path": MARKER, "value": "undecided"});
    let many = |count: usize| Value::Array(vec![one.clone(); count]);
    patch(environment, &many(10_000)).expect(200);
    let refusal = patch(environment, &many(10_001)).expect_refusal(413, "RequestEntityTooLarge");
    assert_eq!(
        refusal["message"],
        "Request entity too large: The allowed maximum operations in a JSON patch is 10000, got 10001"
    );
    // Members of an operation that have no meaning are ignored.
    let bytes = |count: usize| {
        let mut operation = one.clone();
        operation["x"] = json!("");
        let rest = count - json!([operation]).to_string().len();
        operation["x"] = json!("x".repeat(rest));
        json!([operation])
    };
    let most = 3 * 1024 * 1024;
    patch(environment, &bytes(most)).expect(200);
    let got = patch(environment, &bytes(most + 1));
    let refusal = got.expect_refusal(413, "RequestEntityTooLarge");
    let message = "Request entity too large: limit is 3145728";
    assert_eq!(refusal["message"], message);
}

fn a_json_patch_is_validated(environment: &TestEnvironment) {
    undecided(environment);
    let set = |path: &str, value: Value| {
        let operation = json!([{"op": "add", "path": path, "value": value}]);
        patch(environment, &operation)
    };
    let refusal = set("/metadata/labels/x", json!("a b")).expect_refusal(422, "Invalid");
    assert_eq!(refusal["details"]["causes"][0]["field"], "metadata.labels");
    let refusal = set("/metadata/labels/x", json!(1)).expect_refusal(422, "Invalid");
    assert_eq!(refusal["details"]["causes"][0]["field"], "patch");
    let refusal = set("/metadata/name", json!("b")).expect_refusal(400, "BadRequest");
    let message = "the name of the object (b) does not match the name on the URL (a)";
    assert_eq!(refusal["message"], message);
    let refusal = set("/metadata/namespace", json!("b")).expect_refusal(400, "BadRequest");
    let message =
        "the namespace of the provided object does not match the namespace sent on the request";
    assert_eq!(refusal["message"], message);
}

fn a_json_patch_has_the_preconditions_of_an_update(environment: &TestEnvironment) {
    let made = undecided(environment);
    let held = environment.wait_one("jobs", "a", |job| job["status"]["ready"] == 0);
    let with = |field: &str, value: &str| {
        json!([
            {"op": "replace", "path": format!("/metadata/{field}"), "value": value},
            {"op": "replace", "path": MARKER, "value": "refused"},
        ])
    };
    let got = patch(environment, &with("resourceVersion", version(&made)));
    let refusal = got.expect_refusal(409, "Conflict");
    let message = refusal["message"].as_str().unwrap_or("");
    assert!(
        message.contains("the object has been modified"),
        "{message}"
    );
    let got = patch(environment, &with("uid", "x"));
    let refusal = got.expect_refusal(422, "Invalid");
    assert_eq!(refusal["details"]["causes"][0]["field"], "metadata.uid");
    // A test of an old version fails like every other.
    let tested = |version: &str| {
        json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": version},
            {"op": "replace", "path": MARKER, "value": "refused"},
        ])
    };
    expect_failed(patch(environment, &tested(version(&made))));
    for field in ["uid", "resourceVersion"] {
        let removed = json!([{"op": "remove", "path": format!("/metadata/{field}")}]);
        let patched = patch(environment, &removed).expect(200);
        assert_eq!(version(&patched), version(&held), "nothing changed");
    }
    patch(environment, &tested(version(&held))).expect(200);
}

fn a_job_that_is_being_deleted_is_patched(environment: &TestEnvironment) {
    let mut object = job("a", &json!({"suspend": true}));
    object["metadata"]["annotations"] = json!({"example.com/marker": "undecided"});
    object["metadata"]["finalizers"] = json!(["example.com/hold"]);
    let made = environment.make("jobs", &object);
    environment.wait_one("jobs", "a", |job| is_true(job, "Suspended"));
    let path = environment.one("jobs", "a");
    let options = json!({"propagationPolicy": "Background"});
    environment.api.delete(&path, &options).expect(200);
    let patched = patch(environment, &admit(uid(&made))).expect(200);
    assert!(is_deleting(&patched), "this is how the caller learns of it");
    assert_eq!(patched["spec"]["suspend"], false);
    assert_eq!(patched["metadata"]["generation"], 3);
    let more = json!([{"op": "add", "path": "/metadata/finalizers/-", "value": "example.com/b"}]);
    let refusal = patch(environment, &more).expect_refusal(422, "Invalid");
    let cause = &refusal["details"]["causes"][0];
    assert_eq!(cause["field"], "metadata.finalizers");
    assert_eq!(cause["reason"], "FieldValueForbidden");
    let last = json!([{"op": "remove", "path": "/metadata/finalizers"}]);
    patch(environment, &last).expect(200);
    environment.wait_one("jobs", "a", Value::is_null);
    let pods = environment.list("pods", "labelSelector=job-name%3Da");
    assert!(super::names(&pods).is_empty(), "it never had a pod");
}
