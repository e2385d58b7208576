//! What a caller can demand of the instance that is there: to be made with its values, to be the one
//! that it knows, unchanged.

use serde_json::{Value, json};

use crate::harness::{Client, NAMESPACE, PREFIX, Response, TEMPLATE, TestEnvironment};
use crate::harness::{apply_templates, eventually};

/// A GET that expects the instance to be made with its values.
fn matching(client: &Client, path: &str) -> Response {
    let prefer = &[("Prefer", "match=values")];
    client.begin("GET", path, prefer, "").finish()
}

/// The revisions of the template and of the values that a Job says.
fn revisions(environment: &TestEnvironment, job: &str) -> [Value; 2] {
    let job = environment.wait_job(job);
    let of_job = &job["metadata"]["annotations"];
    let of_pod = &job["spec"]["template"]["metadata"]["annotations"];
    ["template-revision", "values-revision"].map(|key| {
        let key = format!("{PREFIX}{key}");
        assert_eq!(of_job[&key], of_pod[&key]);
        assert!(of_job[&key].is_string());
        of_job[&key].clone()
    })
}

#[test]
fn a_caller_hears_that_an_instance_was_made_with_other_values() {
    let tagged = TEMPLATE.replace("app:1", "app:${alternatives.get('tag', '1')}");
    let mut environment = TestEnvironment::builder()
        .template("hello", &tagged)
        .start();
    let replica = environment.add_replica();
    environment.wait_ready(replica);
    environment.start_instance("/app/hello/ann?tag=2");
    environment.start_instance("/app/hello/bob");
    for client in [environment.client(), environment.replica(replica)] {
        let same = matching(&client, "/app/hello/ann?other=1&tag=2");
        same.expect(200);
        assert_eq!(same.header("preference-applied"), "match=values");
        // Left out, it is the template's default.
        for path in ["/app/hello/ann?tag=1", "/app/hello/ann"] {
            matching(&client, path).expect_error(409, "other_values");
        }
        client.get("/app/hello/ann?tag=1").expect(200);
        matching(&client, "/app/hello/bob?tag=1").expect(200);
    }
}

#[test]
fn after_an_edit_a_job_says_that_it_is_from_another_template_and_with_the_same_values() {
    let tagged = TEMPLATE.replace("app:1", "app:${alternatives['tag']}");
    let environment = TestEnvironment::builder()
        .template("hello", &tagged)
        .start();
    environment.start_instance("/app/hello/ann?tag=2");
    let edited = tagged.replace("name: app", "name: main");
    // The other type shows when the edit has been seen.
    let types = [("hello", edited.as_str()), ("mark", TEMPLATE)];
    apply_templates(&environment.kube, "apps", &types, json!({}));
    eventually("the edit is seen", || {
        let types = environment.get("/app").expect(200);
        types.as_array()?.contains(&json!("mark")).then_some(())
    });
    environment.start_instance("/app/hello/bob?tag=2");
    environment.start_instance("/app/hello/zoe?tag=3");
    let [ann, bob, zoe] =
        ["ann", "bob", "zoe"].map(|name| revisions(&environment, &format!("hello-{name}")));
    assert_ne!(ann[0], bob[0]);
    assert_eq!((&bob[0], &ann[1]), (&zoe[0], &bob[1]));
    assert_ne!(bob[1], zoe[1]);
    // So is an instance whose callers do not know of the edit.
    let client = environment.client();
    matching(&client, "/app/hello/ann?tag=2").expect(200);
}

/// Nobody knows with which values an older version has made an instance.
#[test]
fn an_instance_without_revisions_is_returned() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    let client = environment.client();
    let known = matching(&client, "/app/hello/ann?x=y");
    assert_eq!(known.header("preference-applied"), "match=values");
    let mut job = (*environment.wait_job("hello-ann")).clone();
    let annotations = job["metadata"]["annotations"].as_object_mut();
    let annotations = annotations.expect("it has some");
    annotations.remove(&format!("{PREFIX}values-revision"));
    environment
        .kube
        .apply(NAMESPACE, &job)
        .expect("it is taken");
    eventually("the change is seen", || {
        let response = matching(&client, "/app/hello/ann?x=y");
        response.expect(200);
        response
            .header("preference-applied")
            .is_empty()
            .then_some(())
    });
}

#[test]
fn a_response_says_which_instance_it_is_about_and_in_which_state() {
    let mut environment = TestEnvironment::new();
    let replica = environment.add_replica();
    environment.wait_ready(replica);
    let of = |client: &Client| {
        let response = client.get("/app/hello/ann");
        response.expect(200);
        assert_eq!(response.header("cache-control"), "no-cache");
        ["instance-id", "etag"].map(|name| response.header(name).to_owned())
    };
    environment.start_instance("/app/hello/ann");
    let first = of(&environment.client());
    let job = environment.wait_job("hello-ann");
    assert_eq!(json!(first[0]), job["metadata"]["uid"]);
    let other = environment.replica(replica);
    assert_eq!(of(&other), first);
    let known = &[("If-None-Match", first[1].as_str())];
    let response = other.begin("GET", "/app/hello/ann", known, "").finish();
    response.expect_text(304, "");
    assert_eq!(response.header("etag"), first[1]);
    // A label changes the tag, and a successor the UID.
    other
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    let labelled = of(&other);
    assert_eq!(labelled[0], first[0]);
    assert_ne!(labelled[1], first[1]);
    let response = other.begin("GET", "/app/hello/ann", known, "").finish();
    assert_eq!(response.expect(200)["k"], "v");
    eventually("both agree", || {
        (of(&environment.client()) == labelled).then_some(())
    });
    other.delete("/app/hello/ann").expect(200);
    environment.wait_no_jobs();
    environment.start_instance("/app/hello/ann");
    let next = of(&environment.client());
    assert!(next[0] != first[0] && next[1] != first[1], "{next:?}");
}
