//! What a caller can demand of the instance that is there: to be made with its values, to be the one
//! that it knows, unchanged.

use serde_json::{Value, json};

use crate::cluster;
use crate::fake_kube::faults::{Fault, FaultRule};
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

/// A change by somebody who knows the instance by this tag, with its quotes.
fn change_if(client: &Client, tag: &str, owner: Option<&str>) -> Response {
    let headers = [("If-Match", tag), ("Content-Type", "application/json")];
    let body = owner.map_or_else(String::new, |owner| json!({"owner": owner}).to_string());
    let method = if owner.is_some() { "PATCH" } else { "DELETE" };
    client
        .begin(method, "/app/hello/ann", &headers, &body)
        .finish()
}

/// The tag of hello/ann, and that of its UID.
fn tags(client: &Client) -> [String; 2] {
    let response = client.get("/app/hello/ann");
    response.expect(200);
    let uid = response.header("instance-id");
    [response.header("etag").to_owned(), format!("\"uid:{uid}\"")]
}

#[track_caller]
fn refused(response: &Response) {
    response.expect_detail(412, "error", "precondition_failed");
}

/// Two replicas; all watches of the second stand still as soon as they are open.
fn with_a_replica_that_lags() -> (TestEnvironment, usize) {
    let mut environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    let watches = |environment: &TestEnvironment| {
        let requests = environment.kube.requests();
        let watches = requests.iter().filter(|it| it.verb == "watch");
        watches.filter(|it| it.resource != "events").count()
    };
    eventually("the first has its watches", || {
        (watches(&environment) >= 3).then_some(())
    });
    let before = watches(&environment);
    for resource in ["jobs", "pods"] {
        let silent = FaultRule::new("watch", resource, Fault::SilentWatch);
        environment.kube.fault(silent.times(1));
    }
    let lagging = environment.add_replica();
    environment.wait_ready(lagging);
    eventually("its watches are open", || {
        (watches(&environment) >= before + 3).then_some(())
    });
    (environment, lagging)
}

#[test]
fn a_replica_that_lags_changes_nothing_that_its_caller_does_not_know() {
    let (environment, lagging) = with_a_replica_that_lags();
    let (current, lagging) = (environment.client(), environment.replica(lagging));
    let before = tags(&current);
    assert_eq!(tags(&lagging), before);
    let response = change_if(&current, &before[0], Some("1"));
    response.expect_text(200, r#"{"status":"Success"}"#);
    let after = tags(&current);
    // The response says what the caller knows from here on.
    assert_eq!(response.header("etag"), after[0]);
    assert_eq!(
        format!("\"uid:{}\"", response.header("instance-id")),
        after[1]
    );
    assert_eq!(tags(&lagging), before, "it lags");
    refused(&change_if(&lagging, &before[0], Some("2")));
    assert_eq!(current.get("/app/hello/ann").expect(200)["owner"], "1");
    // What it has read for that, it knows.
    assert_eq!(tags(&lagging), after);
    change_if(&lagging, &after[0], Some("3")).expect(200);
}

#[test]
fn a_replica_that_lags_stops_nothing_that_its_caller_does_not_know() {
    let (environment, lagging) = with_a_replica_that_lags();
    let (current, lagging) = (environment.client(), environment.replica(lagging));
    let before = tags(&current);
    current
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    refused(&change_if(&lagging, &before[0], None));
    // Another one of that name is not the one that is meant.
    environment.delete("/app/hello/ann").expect(200);
    environment.wait_no_jobs();
    environment.start_instance("/app/hello/ann");
    let next = tags(&current);
    for tag in &before {
        refused(&change_if(&lagging, tag, None));
        refused(&change_if(&lagging, tag, Some("2")));
    }
    assert_eq!(tags(&current), next);
    change_if(&lagging, &next[0], None).expect(200);
    environment.wait_no_jobs();
}

/// The lagging replica has never heard of the instance.
#[test]
fn a_replica_that_lags_finds_the_instance_that_its_caller_knows() {
    let (environment, lagging) = with_a_replica_that_lags();
    let (current, lagging) = (environment.client(), environment.replica(lagging));
    environment.delete("/app/hello/ann").expect(200);
    environment.wait_no_jobs();
    environment.start_instance("/app/hello/ann");
    let [tag, uid] = tags(&current);
    let both = format!("\"other\", {tag}");
    change_if(&lagging, &both, Some("1")).expect(200);
    change_if(&lagging, &uid, Some("2")).expect(200);
    eventually("the other replica shows it", || {
        let shown = current.get("/app/hello/ann").expect(200);
        (shown["owner"] == "2").then_some(())
    });
}

/// Each worker knows the same state, and each asks another replica.
#[test]
fn of_two_workers_one_changes_a_state() {
    let mut environment = TestEnvironment::new();
    let other = environment.add_replica();
    environment.wait_ready(other);
    environment.start_instance("/app/hello/ann");
    let replicas = [environment.client(), environment.replica(other)];
    let mut won = [0, 0];
    for round in 0..30 {
        let [tag, _] = tags(&replicas[0]);
        let begin = |worker: usize| {
            let owner = json!({"owner": format!("{worker}-{round}")});
            let json = ("Content-Type", "application/json");
            let headers = [("If-Match", tag.as_str()), json];
            replicas[worker].begin("PATCH", "/app/hello/ann", &headers, &owner.to_string())
        };
        let responses = [begin(0), begin(1)].map(|pending| pending.finish());
        let winner = responses.iter().position(|response| response.status == 200);
        let winner = winner.expect("one of them knows the state");
        refused(&responses[1 - winner]);
        won[winner] += 1;
        let response = replicas[winner].get("/app/hello/ann");
        assert_eq!(response.expect(200)["owner"], format!("{winner}-{round}"));
        // The loser may not stop what it does not know.
        refused(&change_if(&replicas[1 - winner], &tag, None));
        let now = tags(&replicas[winner]);
        eventually("both agree", || (tags(&replicas[0]) == now).then_some(()));
    }
    cluster::print_line(&format!("each worker won {won:?} times"));
}

#[test]
fn preconditions_are_read_as_http_says() {
    let environment = TestEnvironment::new();
    let client = environment.client();
    for owner in [None, Some("1")] {
        for tag in ["*", "\"uid:none\"", "\"x\""] {
            refused(&change_if(&client, tag, owner));
        }
    }
    environment.start_instance("/app/hello/ann");
    let [tag, uid] = tags(&client);
    for owner in [Some("1"), None] {
        for never in [format!("W/{tag}"), format!("W/{uid}"), "\"\"".to_owned()] {
            refused(&change_if(&client, &never, owner));
        }
        let many = vec!["\"a\""; 65].join(", ");
        for malformed in ["", "x", tag.trim_matches('"'), "\"a", "*, \"a\"", &many] {
            let response = change_if(&client, malformed, owner);
            let text = response.expect_detail(400, "error", "bad_request");
            assert!(text.contains("If-Match"), "{text}");
        }
    }
    assert_eq!(tags(&client), [tag, uid.clone()], "nothing has changed");
    change_if(&client, "*", Some("2")).expect(200);
    change_if(&client, &format!("\"a\", {uid}"), None).expect(200);
    // Once the cache shows that, too.
    environment.wait_empty("/app/hello");
    // As ever without the header.
    let missing = client.delete("/app/hello/ann");
    missing.expect_detail(404, "No job found", "not_found");
}

/// What would be ignored is refused, so that no caller believes to be protected.
#[test]
fn conditions_that_are_not_supported_are_refused() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    let client = environment.client();
    for (method, path, name) in [
        ("GET", "/create/hello?sessionID=ann", "If-Match"),
        ("GET", "/create/hello?sessionID=bob", "If-None-Match"),
        ("GET", "/release/ann", "If-Match"),
        ("GET", "/app/hello/bob", "If-Match"),
        ("PATCH", "/app/hello/ann", "If-None-Match"),
        ("DELETE", "/app/hello/ann", "If-None-Match"),
    ] {
        let refused = client.begin(method, path, &[(name, "*")], "").finish();
        assert_eq!(refused.status, 400, "{method} {path}: {}", refused.text);
        assert!(refused.text.contains(name), "{}", refused.text);
    }
    assert_eq!(environment.jobs(), ["hello-ann"], "nothing was done");
    // They have no values either.
    let matching = [("Prefer", "match=values")];
    let created = client.begin("GET", "/create/hello?sessionID=ann&x=y", &matching, "");
    let created = created.finish();
    created.expect(200);
    assert_eq!(
        created.header("etag").to_owned() + created.header("instance-id"),
        ""
    );
    let released = client.begin("GET", "/release/ann", &[], "").finish();
    released.expect_text(200, r#"{"status":"Success"}"#);
}
