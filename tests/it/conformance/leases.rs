//! Leases: what a replica can publish in one of its own, and when the garbage collector removes it.
//!
//! Versions, selectors and bookmarks are those of every resource (`writes`, `reads`, `watches`); here is
//! that Leases have them, too, and where they differ.

use serde_json::{Value, json};

use super::{TestEnvironment, checks, is_deleting, name, names, uid, version};

checks! {
    a_lease_is_created_read_and_deleted,
    a_lease_has_one_spec_and_no_status,
    a_lease_is_validated,
    a_lease_is_patched,
    an_update_of_a_lease_needs_its_version,
    an_update_of_a_lease_that_does_not_exist_creates_it,
    annotations_of_a_lease_are_bounded,
    leases_are_selected_and_watched,
    a_watch_of_leases_has_bookmarks,
    a_lease_goes_with_its_owner,
    a_lease_of_no_owner_is_deleted,
}

fn lease(name: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": name, "labels": {"l": "1"}, "annotations": {"used": "a=1"}},
    })
}

fn a_lease_is_created_read_and_deleted(environment: &TestEnvironment) {
    let made = environment.make("leases", &lease("a"));
    assert_eq!(made["kind"], "Lease");
    assert_eq!(made["apiVersion"], "coordination.k8s.io/v1");
    assert!(made["metadata"]["generation"].is_null());
    let path = environment.one("leases", "a");
    assert_eq!(environment.api.get(&path).expect(200), made);

    let again = environment
        .api
        .post(&environment.all("leases"), &lease("a"));
    let refusal = again.expect_refusal(409, "AlreadyExists");
    let message = "leases.coordination.k8s.io \"a\" already exists";
    assert_eq!(refusal["message"], message);
    let details = json!({"name": "a", "group": "coordination.k8s.io", "kind": "leases"});
    assert_eq!(refusal["details"], details);

    let generated = json!({"metadata": {"generateName": "some-"}});
    let generated = environment.make("leases", &generated);
    assert!(name(&generated).starts_with("some-"));

    let response = environment.api.delete(&path, &json!({})).expect(200);
    assert_eq!(response["status"], "Success");
    let mut about = details;
    about["uid"] = made["metadata"]["uid"].clone();
    assert_eq!(response["details"], about);
    environment.api.get(&path).expect_refusal(404, "NotFound");
    let path = format!("{}?dryRun=All", environment.all("leases"));
    let dry = environment.api.post(&path, &lease("dry")).expect(201);
    assert_eq!(version(&dry), "");
}

fn a_lease_has_one_spec_and_no_status(environment: &TestEnvironment) {
    let made = environment.make("leases", &lease("a"));
    assert_eq!(made["spec"], json!({}));
    let mut full = lease("b");
    full["spec"] = json!({
        "holderIdentity": "me", "leaseDurationSeconds": 15, "leaseTransitions": 0,
        "renewTime": "2026-01-02T03:04:05.123456Z",
    });
    let made = environment.make("leases", &full);
    assert_eq!(made["spec"], full["spec"]);
    let mut extra = lease("c");
    extra["status"] = json!({"ready": true});
    let got = environment.api.post(&environment.all("leases"), &extra);
    assert_eq!(
        got.header("warning"),
        "299 - \"unknown field \\\"status\\\"\""
    );
    assert!(got.expect(201)["status"].is_null());
    environment
        .api
        .get(&format!("{}/status", environment.one("leases", "a")))
        .expect_refusal(404, "NotFound");
}

fn a_lease_is_validated(environment: &TestEnvironment) {
    let refused = |spec: Value| {
        let mut object = lease("a");
        object["spec"] = spec;
        let got = environment.api.post(&environment.all("leases"), &object);
        (got.code, got.message().to_owned())
    };
    let invalid = "Lease.coordination.k8s.io \"a\" is invalid: spec";
    let (code, message) = refused(json!({"leaseDurationSeconds": 0}));
    let why = "leaseDurationSeconds: Invalid value: 0: must be greater than 0";
    assert_eq!((code, message), (422, format!("{invalid}.{why}")));
    let (code, message) = refused(json!({"leaseTransitions": -1}));
    let why = "leaseTransitions: Invalid value: -1: must be greater than or equal to 0";
    assert_eq!((code, message), (422, format!("{invalid}.{why}")));
    let begin = "Lease in version \"v1\" cannot be handled as a Lease: ";
    let (code, message) = refused(json!({"leaseDurationSeconds": "15"}));
    let why = "json: cannot unmarshal string into Go struct field \
               LeaseSpec.spec.leaseDurationSeconds of type int32";
    assert_eq!((code, message), (400, format!("{begin}{why}")));
    for short in ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123Z"] {
        let (code, message) = refused(json!({"renewTime": short}));
        let why = format!("{begin}parsing time {short:?} as \"2006-01-02T15:04:05.000000Z07:00\"");
        assert!(code == 400 && message.starts_with(&why), "{message}");
    }
    let mut object = lease("a");
    object["metadata"]["ownerReferences"] = json!([{"kind": "Pod"}]);
    let got = environment.api.post(&environment.all("leases"), &object);
    let refusal = got.expect_refusal(422, "Invalid");
    let causes = refusal["details"]["causes"].as_array().expect("causes");
    let fields: Vec<&str> = causes.iter().filter_map(|c| c["field"].as_str()).collect();
    let of = |field: &str| format!("metadata.ownerReferences.{field}");
    assert_eq!(fields, [of("apiVersion"), of("name"), of("uid")]);
}

fn a_lease_is_patched(environment: &TestEnvironment) {
    let made = environment.make("leases", &lease("a"));
    let path = environment.one("leases", "a");
    let change = json!({"metadata": {"annotations": {"used": "a=2"}}});
    let patched = environment.api.patch(&path, &change).expect(200);
    assert_eq!(patched["metadata"]["annotations"]["used"], "a=2");
    assert_eq!(patched["metadata"]["labels"], json!({"l": "1"}));
    assert_ne!(version(&patched), version(&made));
    let again = environment.api.patch(&path, &change).expect(200);
    assert_eq!(version(&again), version(&patched), "it changes nothing");
    let old =
        json!({"metadata": {"resourceVersion": version(&made), "annotations": {"used": "a=3"}}});
    environment
        .api
        .patch(&path, &old)
        .expect_refusal(409, "Conflict");
    let without = json!({"metadata": {"resourceVersion": null, "annotations": {"used": "a=3"}}});
    environment
        .api
        .patch(&path, &without)
        .expect_refusal(422, "Invalid");
    environment
        .api
        .patch(&environment.one("leases", "none"), &change)
        .expect_refusal(404, "NotFound");
}

fn an_update_of_a_lease_needs_its_version(environment: &TestEnvironment) {
    let made = environment.make("leases", &lease("a"));
    let path = environment.one("leases", "a");
    let mut object = made.clone();
    object["spec"]["holderIdentity"] = json!("me");
    let updated = environment.api.put(&path, &object).expect(200);
    assert_eq!(updated["spec"]["holderIdentity"], "me");
    environment
        .api
        .put(&path, &object)
        .expect_refusal(409, "Conflict");
    object["metadata"]["resourceVersion"] = json!("");
    let got = environment.api.put(&path, &object);
    let refusal = got.expect_refusal(422, "Invalid");
    assert_eq!(
        refusal["message"],
        "leases.coordination.k8s.io \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: \
         must be specified for an update"
    );
    let mut other = updated.clone();
    let uid = "00000000-0000-4000-8000-000000000000";
    other["metadata"]["uid"] = json!(uid);
    let got = environment.api.put(&path, &other);
    let message = got.expect_refusal(409, "Conflict")["message"].clone();
    let end = format!(
        "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
        super::uid(&made)
    );
    assert!(
        message.as_str().is_some_and(|m| m.ends_with(&end)),
        "{message}"
    );
}

fn an_update_of_a_lease_that_does_not_exist_creates_it(environment: &TestEnvironment) {
    let path = environment.one("leases", "a");
    let made = environment.api.put(&path, &lease("a")).expect(201);
    assert_eq!(environment.api.get(&path).expect(200), made);
}

fn annotations_of_a_lease_are_bounded(environment: &TestEnvironment) {
    let with = |bytes: usize| {
        let mut object = lease("a");
        object["metadata"]["annotations"] = json!({"abcdefg": "v".repeat(bytes)});
        object
    };
    let most = 262_144 - 7;
    let all = environment.all("leases");
    let check = |refusal: Value| {
        let message = "Lease.coordination.k8s.io \"a\" is invalid: metadata.annotations: Too long: \
                       may not be more than 262144 bytes";
        assert_eq!(refusal["message"], message);
        let cause = &refusal["details"]["causes"][0];
        assert_eq!(cause["reason"], "FieldValueTooLong");
    };
    let got = environment.api.post(&all, &with(most + 1));
    check(got.expect_refusal(422, "Invalid"));
    environment.make("leases", &with(most));
    let change = json!({"metadata": {"annotations": {"b": ""}}});
    let got = environment
        .api
        .patch(&environment.one("leases", "a"), &change);
    check(got.expect_refusal(422, "Invalid"));
}

fn leases_are_selected_and_watched(environment: &TestEnvironment) {
    environment.make("leases", &lease("a"));
    environment.make("leases", &json!({"metadata": {"name": "b"}}));
    let query = "labelSelector=l%3D1";
    let list = environment.list("leases", query);
    assert_eq!(list["kind"], "LeaseList");
    assert_eq!(list["apiVersion"], "coordination.k8s.io/v1");
    assert_eq!(names(&list), ["a"]);
    let by_name = environment.list("leases", "fieldSelector=metadata.name%3Db");
    assert_eq!(names(&by_name), ["b"]);
    let all = environment.all("leases");
    environment
        .api
        .get(&format!("{all}?fieldSelector=spec.holderIdentity%3Dme"))
        .expect_refusal(400, "BadRequest");
    let path = format!(
        "{all}?watch=1&{query}&resourceVersion={}&timeoutSeconds=30",
        version(&list)
    );
    let mut events = environment.api.watch(&path);
    let mut next = || {
        let event = events.next().flatten().expect("the watch goes on");
        let kind = event["type"].as_str().unwrap_or("").to_owned();
        (kind, event["object"].clone())
    };
    environment.make("leases", &lease("c"));
    let (kind, object) = next();
    assert_eq!((kind.as_str(), name(&object)), ("ADDED", "c"));
    assert_eq!(object["kind"], "Lease");
    let label = |value: Option<&str>| json!({"metadata": {"labels": {"l": value}}});
    let one = environment.one("leases", "c");
    let changed = json!({"metadata": {"annotations": {"used": "c=1"}}});
    let patched = environment.api.patch(&one, &changed).expect(200);
    let (kind, object) = next();
    assert_eq!((kind.as_str(), object), ("MODIFIED", patched));
    environment.api.patch(&one, &label(None)).expect(200);
    assert_eq!(next().0, "DELETED", "it left the selector");
    environment.api.patch(&one, &label(Some("1"))).expect(200);
    assert_eq!(next().0, "ADDED");
    environment.api.delete(&one, &json!({})).expect(200);
    assert_eq!(next().0, "DELETED");
}

fn a_watch_of_leases_has_bookmarks(environment: &TestEnvironment) {
    let made = environment.make("leases", &lease("a"));
    let after = environment.make("leases", &json!({"metadata": {"name": "b"}}));
    let path = format!(
        "{}?watch=1&labelSelector=l&allowWatchBookmarks=true&timeoutSeconds=5&resourceVersion={}",
        environment.all("leases"),
        version(&made)
    );
    let bookmark = environment.api.watch(&path).next().flatten();
    let bookmark = bookmark.expect("one before the end");
    assert_eq!(bookmark["type"], "BOOKMARK");
    let object = &bookmark["object"];
    let expected = json!({
        "kind": "Lease", "apiVersion": "coordination.k8s.io/v1",
        "metadata": {"resourceVersion": version(object)}, "spec": {},
    });
    assert_eq!(*object, expected);
    let number = |object: &Value| version(object).parse::<u64>().expect("a number");
    assert!(number(object) >= number(&after));
}

/// A Lease that has this ConfigMap as an owner.
fn owned(name: &str, owners: &[&str]) -> Value {
    let owner =
        |uid: &&str| json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid});
    let mut object = lease(name);
    object["metadata"]["ownerReferences"] = owners.iter().map(owner).collect();
    object
}

fn a_lease_goes_with_its_owner(environment: &TestEnvironment) {
    let owner = environment.config_map("owner", &json!({}));
    let wrong = "00000000-0000-4000-8000-000000000000";
    environment.make("leases", &owned("a", &[uid(&owner)]));
    environment.make("leases", &owned("b", &[uid(&owner), wrong]));
    environment.make("leases", &lease("c"));
    // One owner that exists keeps the object; the other reference is removed.
    let kept = environment.wait_one("leases", "b", |lease| {
        let owners = lease["metadata"]["ownerReferences"].as_array();
        owners.is_some_and(|owners| owners.len() == 1)
    });
    assert!(!is_deleting(&kept));
    let path = environment.one("configmaps", "owner");
    environment.api.delete(&path, &json!({})).expect(200);
    environment.wait("leases", "", |leases| {
        leases.keys().collect::<Vec<_>>() == ["c"]
    });
}

fn a_lease_of_no_owner_is_deleted(environment: &TestEnvironment) {
    let wrong = "00000000-0000-4000-8000-000000000000";
    environment.config_map("owner", &json!({}));
    let made = environment.make("leases", &owned("a", &[wrong]));
    assert!(!uid(&made).is_empty());
    environment.wait_one("leases", "a", Value::is_null);
}
