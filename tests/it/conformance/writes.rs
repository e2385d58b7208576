//! Versions, create, update, merge patch, validation.

use serde_json::{Value, json};

use super::{TestEnvironment, checks, job, name, uid, version};

checks! {
    every_write_makes_a_new_version,
    a_create_returns_what_was_stored,
    a_job_gets_its_defaults,
    a_name_that_is_taken_is_already_exists,
    a_missing_namespace_accepts_nothing,
    missing_objects_are_not_found,
    a_merge_patch_sets_and_null_removes,
    a_patch_that_changes_nothing_makes_no_version,
    a_patch_needs_its_content_type,
    an_old_version_is_a_conflict,
    bad_names_and_labels_are_invalid,
    a_job_without_restart_policy_or_containers_is_invalid,
    a_new_object_may_not_have_a_version,
    a_body_that_is_no_object_is_a_bad_request,
    a_dry_run_stores_nothing,
    names_are_generated,
    a_jobs_template_cannot_be_changed,
    a_status_is_written_separately,
    a_patch_for_another_uid_changes_nothing,
    an_object_may_have_thousands_of_labels_and_is_bounded_as_a_whole,
}

fn number(object: &Value) -> u64 {
    version(object).parse().expect("a version is a number")
}

fn every_write_makes_a_new_version(environment: &TestEnvironment) {
    let first = environment.config_map("a", &json!({}));
    let second = environment.config_map("b", &json!({}));
    assert!(number(&second) > number(&first));
    let patched = environment
        .api
        .patch(
            &environment.one("configmaps", "a"),
            &json!({"data": {"k": "w"}}),
        )
        .expect(200);
    assert!(number(&patched) > number(&second));
    let list = environment.list("configmaps", "");
    assert!(number(&list) >= number(&patched));
}

fn a_create_returns_what_was_stored(environment: &TestEnvironment) {
    let made = environment.config_map("a", &json!({"l": "1"}));
    assert_eq!(made["kind"], "ConfigMap");
    assert_eq!(made["apiVersion"], "v1");
    assert_eq!(made["metadata"]["namespace"], *environment.namespace);
    assert_eq!(uid(&made).len(), 36);
    let created = made["metadata"]["creationTimestamp"].as_str();
    assert!(
        created.is_some_and(|t| t.len() == 20 && t.ends_with('Z')),
        "{created:?}"
    );
    let got = environment
        .api
        .get(&environment.one("configmaps", "a"))
        .expect(200);
    assert_eq!(got, made);
}

fn a_job_gets_its_defaults(environment: &TestEnvironment) {
    let plain = json!({"metadata": {"name": "a"}, "spec": {"suspend": true, "template": {
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "x"}]},
    }}});
    let made = environment.make("jobs", &plain);
    let spec = &made["spec"];
    assert_eq!(spec["backoffLimit"], 6);
    assert_eq!(spec["completions"], 1);
    assert_eq!(spec["parallelism"], 1);
    assert_eq!(spec["completionMode"], "NonIndexed");
    assert_eq!(spec["podReplacementPolicy"], "TerminatingOrFailed");
    assert_eq!(made["status"], json!({}));
    assert_eq!(made["metadata"]["generation"], 1);
    let labels = &spec["template"]["metadata"]["labels"];
    for key in ["controller-uid", "batch.kubernetes.io/controller-uid"] {
        assert_eq!(labels[key], uid(&made));
    }
    for key in ["job-name", "batch.kubernetes.io/job-name"] {
        assert_eq!(labels[key], "a");
    }
    assert_eq!(made["metadata"]["labels"], *labels, "a Job without labels");
    let mut labelled = job("b", &json!({"suspend": true}));
    labelled["metadata"]["labels"] = json!({"own": "1"});
    let labelled = environment.make("jobs", &labelled);
    assert_eq!(labelled["metadata"]["labels"], json!({"own": "1"}));
    let pod = &spec["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 30);
    assert_eq!(pod["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(pod["containers"][0]["terminationMessagePolicy"], "File");
    let selector = &spec["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"];
    assert_eq!(selector, uid(&made));
}

fn a_name_that_is_taken_is_already_exists(environment: &TestEnvironment) {
    let spec = json!({"suspend": true});
    environment.make("jobs", &job("a", &spec));
    let refusal = environment
        .api
        .post(&environment.all("jobs"), &job("a", &spec))
        .expect_refusal(409, "AlreadyExists");
    assert_eq!(refusal["message"], "jobs.batch \"a\" already exists");
    let details = json!({"name": "a", "group": "batch", "kind": "jobs"});
    assert_eq!(refusal["details"], details);
}

fn a_missing_namespace_accepts_nothing(environment: &TestEnvironment) {
    let path = "/api/v1/namespaces/not-there/configmaps";
    let refusal = environment
        .api
        .post(path, &json!({"metadata": {"name": "a"}}))
        .expect_refusal(404, "NotFound");
    assert_eq!(refusal["message"], "namespaces \"not-there\" not found");
    assert_eq!(
        refusal["details"],
        json!({"name": "not-there", "kind": "namespaces"})
    );
}

fn missing_objects_are_not_found(environment: &TestEnvironment) {
    let path = environment.one("jobs", "a");
    let refusal = environment.api.get(&path).expect_refusal(404, "NotFound");
    assert_eq!(refusal["message"], "jobs.batch \"a\" not found");
    let details = json!({"name": "a", "group": "batch", "kind": "jobs"});
    assert_eq!(refusal["details"], details);
    environment
        .api
        .patch(&path, &json!({}))
        .expect_refusal(404, "NotFound");
    environment
        .api
        .delete(&path, &json!({}))
        .expect_refusal(404, "NotFound");
    let pod = environment.one("pods", "a");
    let refusal = environment.api.get(&pod).expect_refusal(404, "NotFound");
    assert_eq!(refusal["message"], "pods \"a\" not found");
    assert_eq!(refusal["details"], json!({"name": "a", "kind": "pods"}));
}

fn a_merge_patch_sets_and_null_removes(environment: &TestEnvironment) {
    environment.config_map("a", &json!({"keep": "1", "drop": "2"}));
    let change = json!({"metadata": {
        "labels": {"drop": null, "absent": null, "new": "3"},
        "annotations": {"note": "4"},
    }});
    let patched = environment
        .api
        .patch(&environment.one("configmaps", "a"), &change)
        .expect(200);
    assert_eq!(
        patched["metadata"]["labels"],
        json!({"keep": "1", "new": "3"})
    );
    assert_eq!(patched["metadata"]["annotations"], json!({"note": "4"}));
    assert_eq!(patched["data"], json!({"k": "v"}));
}

fn a_patch_that_changes_nothing_makes_no_version(environment: &TestEnvironment) {
    let made = environment.config_map("a", &json!({"l": "1"}));
    for change in [
        json!({"labels": {"l": "1", "absent": null}}),
        json!({"labels": {}, "annotations": {}, "uid": uid(&made)}),
    ] {
        let change = json!({"metadata": change});
        let patched = environment
            .api
            .patch(&environment.one("configmaps", "a"), &change)
            .expect(200);
        assert_eq!(version(&patched), version(&made), "{change}");
    }
}

fn a_patch_needs_its_content_type(environment: &TestEnvironment) {
    environment.config_map("a", &json!({}));
    let path = environment.one("configmaps", "a");
    let got = environment
        .api
        .send("PATCH", &path, "application/json", "{}");
    got.expect_refusal(415, "UnsupportedMediaType");
    let all = environment.all("configmaps");
    let got = environment.api.send("POST", &all, "text/plain", "{}");
    got.expect_refusal(415, "UnsupportedMediaType");
}

fn an_old_version_is_a_conflict(environment: &TestEnvironment) {
    let made = environment.config_map("a", &json!({}));
    let path = environment.one("configmaps", "a");
    environment
        .api
        .patch(&path, &json!({"data": {"k": "w"}}))
        .expect(200);
    let old = environment.api.put(&path, &made);
    assert!(
        old.message().contains("the object has been modified"),
        "{}",
        old.body
    );
    let refusal = old.expect_refusal(409, "Conflict");
    assert_eq!(
        refusal["details"],
        json!({"name": "a", "kind": "configmaps"})
    );
    let change = json!({"metadata": {"resourceVersion": version(&made)}, "data": {"k": "x"}});
    environment
        .api
        .patch(&path, &change)
        .expect_refusal(409, "Conflict");
    let mut without = made.clone();
    without["metadata"]["resourceVersion"] = json!("");
    environment.api.put(&path, &without).expect(200);
}

#[track_caller]
fn invalid_fields(environment: &TestEnvironment, plural: &str, object: &Value) -> Vec<String> {
    let refusal = environment
        .api
        .post(&environment.all(plural), object)
        .expect_refusal(422, "Invalid");
    let causes = refusal["details"]["causes"].as_array().expect("causes");
    let fields = causes.iter().filter_map(|c| c["field"].as_str());
    fields.map(str::to_owned).collect()
}

fn bad_names_and_labels_are_invalid(environment: &TestEnvironment) {
    let named = |name: &str| json!({"metadata": {"name": name}});
    for bad in ["A", "a_b", "-a", "a-", "a/b", ""] {
        assert_eq!(
            invalid_fields(environment, "configmaps", &named(bad)),
            ["metadata.name"],
            "{bad}"
        );
    }
    let long = "a".repeat(254);
    assert_eq!(
        invalid_fields(environment, "configmaps", &named(&long)),
        ["metadata.name"]
    );
    environment.make("configmaps", &named(&long[..253]));
    for (key, value) in [
        ("k", "a b"),
        ("k", "ü"),
        ("k", "-a"),
        ("a/b/c", "v"),
        ("-k", "v"),
    ] {
        let object = json!({"metadata": {"name": "a", "labels": {key: value}}});
        assert_eq!(
            invalid_fields(environment, "configmaps", &object),
            ["metadata.labels"],
            "{key}={value}"
        );
    }
    let object = json!({"metadata": {"name": "a", "labels": {"": "v"}}});
    let twice = ["metadata.labels", "metadata.labels"];
    assert_eq!(invalid_fields(environment, "configmaps", &object), twice);
    let long = "a".repeat(64);
    let object = json!({"metadata": {"name": "a", "labels": {"k": long}}});
    assert_eq!(
        invalid_fields(environment, "configmaps", &object),
        ["metadata.labels"]
    );
    let made = environment.config_map("a", &json!({}));
    let change = json!({"metadata": {"labels": {"k": "bob@x.ch"}}});
    let path = environment.one("configmaps", name(&made));
    let refusal = environment
        .api
        .patch(&path, &change)
        .expect_refusal(422, "Invalid");
    assert_eq!(refusal["details"]["kind"], "ConfigMap");
    assert_eq!(
        refusal["details"]["causes"][0]["reason"],
        "FieldValueInvalid"
    );
    let numbers = json!({"metadata": {"labels": {"k": 1}}});
    let refusal = environment
        .api
        .patch(&path, &numbers)
        .expect_refusal(422, "Invalid");
    assert_eq!(refusal["details"]["causes"][0]["field"], "patch");
}

fn a_job_without_restart_policy_or_containers_is_invalid(environment: &TestEnvironment) {
    let without = |field: &str| {
        let mut object = job("a", &json!({}));
        object["spec"]["template"]["spec"][field] = Value::Null;
        object
    };
    let restart = "spec.template.spec.restartPolicy";
    assert_eq!(
        invalid_fields(environment, "jobs", &without("restartPolicy")),
        [restart]
    );
    let containers = "spec.template.spec.containers";
    assert_eq!(
        invalid_fields(environment, "jobs", &without("containers")),
        [containers]
    );
    let long = "a".repeat(64);
    let fields = invalid_fields(environment, "jobs", &job(&long, &json!({})));
    assert!(
        fields.contains(&"spec.template.labels".to_owned()),
        "{fields:?}"
    );
    environment.make("jobs", &job(&long[..63], &json!({"suspend": true})));
    let refusal = environment
        .api
        .post(&environment.all("jobs"), &without("restartPolicy"))
        .expect_refusal(422, "Invalid");
    assert_eq!(
        refusal["message"],
        "Job.batch \"a\" is invalid: spec.template.spec.restartPolicy: Required value: \
         valid values: \"OnFailure\", \"Never\""
    );
    let policy = json!({"podFailurePolicy": {"rules": [{
        "action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }]}, "template": {"spec": {"restartPolicy": "OnFailure"}}});
    let fields = invalid_fields(environment, "jobs", &job("a", &policy));
    assert_eq!(fields, [restart]);
}

fn a_new_object_may_not_have_a_version(environment: &TestEnvironment) {
    let object = json!({"metadata": {"name": "a", "resourceVersion": "7"}});
    let got = environment
        .api
        .post(&environment.all("configmaps"), &object);
    assert_eq!((got.code, got.reason()), (500, ""));
}

fn a_body_that_is_no_object_is_a_bad_request(environment: &TestEnvironment) {
    let all = environment.all("configmaps");
    for body in ["{", "[]", "7"] {
        let got = environment.api.send("POST", &all, "application/json", body);
        got.expect_refusal(400, "BadRequest");
    }
    let elsewhere = json!({"metadata": {"name": "a", "namespace": "default"}});
    environment
        .api
        .post(&all, &elsewhere)
        .expect_refusal(400, "BadRequest");
    let other_kind = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}});
    environment
        .api
        .post(&all, &other_kind)
        .expect_refusal(400, "BadRequest");
    let wrong_type = json!({"metadata": {"name": "a"}, "data": {"k": 7}});
    environment
        .api
        .post(&all, &wrong_type)
        .expect_refusal(400, "BadRequest");
}

fn a_dry_run_stores_nothing(environment: &TestEnvironment) {
    let path = format!("{}?dryRun=All", environment.all("jobs"));
    let response = environment
        .api
        .post(&path, &job("a", &json!({})))
        .expect(201);
    assert!(!uid(&response).is_empty());
    assert_eq!(version(&response), "");
    environment
        .api
        .get(&environment.one("jobs", "a"))
        .expect_refusal(404, "NotFound");
    let broken = json!({"template": {"spec": {"restartPolicy": "Always"}}});
    environment
        .api
        .post(&path, &job("a", &broken))
        .expect_refusal(422, "Invalid");
    let wrong = format!("{}?dryRun=Some", environment.all("configmaps"));
    let refusal = environment
        .api
        .post(&wrong, &json!({"metadata": {"name": "a"}}))
        .expect_refusal(422, "Invalid");
    assert_eq!(refusal["details"]["kind"], "CreateOptions");
}

fn names_are_generated(environment: &TestEnvironment) {
    let object = json!({"metadata": {"generateName": "some-"}});
    let first = environment.make("configmaps", &object);
    let second = environment.make("configmaps", &object);
    assert!(name(&first).starts_with("some-") && name(&first).len() == 10);
    assert_ne!(name(&first), name(&second));
}

fn a_jobs_template_cannot_be_changed(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &json!({"suspend": true})));
    let path = environment.one("jobs", "a");
    let change = json!({"spec": {"completions": 3}});
    environment
        .api
        .patch(&path, &change)
        .expect_refusal(422, "Invalid");
    let change = json!({"metadata": {"annotations": {"a": "b"}}});
    let patched = environment.api.patch(&path, &change).expect(200);
    assert_eq!(patched["metadata"]["annotations"]["a"], "b");
}

fn a_status_is_written_separately(environment: &TestEnvironment) {
    let made = environment.make("jobs", &job("a", &json!({"suspend": true})));
    let path = environment.one("jobs", "a");
    let both = json!({"metadata": {"labels": {"l": "1"}}, "status": {"active": 7}});
    let patched = environment.api.patch(&path, &both).expect(200);
    assert_ne!(patched["status"]["active"], 7, "the status is left alone");
    assert_eq!(patched["metadata"]["labels"]["l"], "1");
    assert_eq!(uid(&patched), uid(&made));
}

/// How the service detects that a pod was replaced by another of the same name.
fn a_patch_for_another_uid_changes_nothing(environment: &TestEnvironment) {
    environment.make("jobs", &job("a", &json!({"suspend": true})));
    let path = environment.one("jobs", "a");
    let other = "00000000-0000-4000-8000-000000000000";
    let change = json!({"metadata": {"uid": other, "labels": {"l": "1"}}});
    let refused = environment
        .api
        .patch(&path, &change)
        .expect_refusal(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["field"], "metadata.uid");
    let read = environment.api.get(&path).expect(200);
    assert!(read["metadata"]["labels"]["l"].is_null());
}

fn an_object_may_have_thousands_of_labels_and_is_bounded_as_a_whole(environment: &TestEnvironment) {
    environment.config_map("a", &json!({}));
    let path = environment.one("configmaps", "a");
    let labels = |count: usize, prefix: &str| {
        let label = |n: usize| (format!("example.com/{prefix}{n:05}"), json!("v".repeat(20)));
        let labels: serde_json::Map<_, _> = (0..count).map(label).collect();
        json!({"metadata": {"labels": labels}})
    };
    let labelled = environment.api.patch(&path, &labels(9500, "a")).expect(200);
    let found = labelled["metadata"]["labels"]
        .as_object()
        .map(|all| all.len());
    assert_eq!(found, Some(9500));
    // The request itself would be accepted: what does not fit is the object that results.
    let mut more = labels(3000, "b");
    more["data"] = json!({"k": "x".repeat(1_040_000)});
    let refused = environment.api.patch(&path, &more).expect(500);
    assert_eq!(refused["message"], "etcdserver: request is too large");
    assert!(refused["reason"].is_null());
}
