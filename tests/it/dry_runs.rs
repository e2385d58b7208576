//! Templates that are tried when their ConfigMap arrives, and `/templates`.

mod faults;

use std::time::{Duration, Instant};

use config_controller::app::dry_runs::AT_ONCE;
use serde_json::{Value, json};

use crate::fake_kube::faults::{Fault, FaultRule};
use crate::fake_kube::quota::Quota;
use crate::harness::{
    NAMESPACE, PREFIX, Response, TEMPLATE, TemporaryFolder, TestEnvironment, apply_templates,
    eventually,
};

/// Our Role with the right to create pods.
const WITH_PODS: &str = concat!(
    include_str!("../../manifests/base/role.yaml"),
    "\n---\n",
    include_str!("../../manifests/dry-run-pods/role.yaml"),
);

fn with_pods() -> crate::harness::Builder {
    TestEnvironment::builder().role(WITH_PODS)
}

/// What `/templates` says of a type.
#[track_caller]
fn entry(environment: &TestEnvironment, app_type: &str) -> Value {
    let all = environment.get("/templates").expect(200);
    let all = all.as_array().expect("an array").iter();
    let mut of_type = all.filter(|it| it["type"] == app_type);
    of_type.next().cloned().unwrap_or_default()
}

/// Waits until a type was tried, and returns what is said of it.
#[track_caller]
fn tried(environment: &TestEnvironment, app_type: &str) -> Value {
    eventually("the template is tried", || {
        let entry = entry(environment, app_type);
        let is_tried = !entry.is_null() && entry["message"] != "it was not tried yet";
        is_tried.then_some(entry)
    })
}

#[track_caller]
fn wait_verdict(environment: &TestEnvironment, app_type: &str, verdict: &str) -> Value {
    eventually("the verdict is as it should be", || {
        let entry = entry(environment, app_type);
        (entry["verdict"] == verdict).then_some(entry)
    })
}

fn dry_run(resource: &str, fault: Fault) -> FaultRule {
    FaultRule::new("dry-run", resource, fault)
}

fn metric(environment: &TestEnvironment, name: &str) -> String {
    let text = environment.get("/metrics").text;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix(&format!("config_controller_{name} ")));
    line.unwrap_or_default().to_owned()
}

#[test]
fn all_that_is_known_of_a_template_is_listed() {
    let text = TEMPLATE.replace(
        "image: example/app:1",
        "image: \"example/app:${alternatives.get('tag', '1')}\"\n    recources: {}",
    );
    let environment = with_pods()
        .template("other", &text)
        .annotation("restart-delay", "7s")
        .annotation("min-ready", "1500ms")
        .start();
    let found = tried(&environment, "other");
    let revision = found["revision"].as_str().expect("a revision");
    assert_eq!(revision.len(), 16);
    assert_eq!(
        found,
        json!({
            "type": "other",
            "config_map": "templates",
            "verdict": "valid",
            "message": null,
            "place": null,
            "warnings": ["unknown field \"spec.containers[0].recources\""],
            "variables": [{"name": "tag", "default": "1"}],
            "settings": {
                "backoff-limit": null, "idle-timeout": null, "max-instances": null, "max-per-owner": null, "max-lifetime": null, "ttl-after-finished": null,
                "restart-failed": "after-delay", "restart-delay": "7s", "min-ready": "1500ms",
            "on-change": "keep",
                "start-budget.creating": "15s", "start-budget.scheduling": "600s",
                "start-budget.mounting": "300s", "start-budget.pulling": "300s",
                "start-budget.pull-error": "10s", "start-budget.initialising": "300s",
                "start-budget.starting": "10s", "start-budget.readying": "300s",
            },
            "revision": revision,
            "instances": {"current": 0, "older": 0},
        })
    );
    let listed = environment.get("/templates");
    assert!(listed.text.ends_with("]\n"), "{}", listed.text);
    assert_eq!(listed.json().as_array().map(Vec::len), Some(2));
    assert_eq!(metric(&environment, "template_valid{type=\"other\"}"), "1");
    assert_eq!(
        metric(&environment, "template_warnings{type=\"other\"}"),
        "1"
    );
    assert_eq!(environment.jobs(), [""; 0], "nothing was stored");
}

#[test]
fn a_list_that_is_the_same_is_not_sent_again() {
    let environment = with_pods().start();
    tried(&environment, "hello");
    let first = environment.get("/templates");
    let etag = first.header("etag").to_owned();
    let again = |etag: &str| -> Response {
        let headers = [("If-None-Match", etag)];
        let client = environment.client();
        client.begin("GET", "/templates", &headers, "").finish()
    };
    assert_eq!((again(&etag).status, again("\"x\"").status), (304, 200));
    environment.start_instance("/app/hello/ann");
    eventually("the list has changed", || {
        (again(&etag).status == 200).then_some(())
    });
    let refused = environment.delete("/templates");
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, "GET, HEAD")
    );
}

#[test]
fn instances_of_the_present_revision_and_of_older_ones_are_counted() {
    let environment = with_pods().start();
    environment.start_instance("/app/hello/ann");
    let counts = |current: u64, older: u64| {
        eventually("the instances are counted", || {
            let found = &entry(&environment, "hello")["instances"];
            (*found == json!({"current": current, "older": older})).then_some(())
        });
    };
    counts(1, 0);
    let edited = TEMPLATE.replace("app:1", "app:2");
    apply_templates(
        &environment.kube,
        "templates",
        &[("hello", &edited)],
        json!({}),
    );
    counts(0, 1);
    environment.start_instance("/app/hello/bob");
    counts(1, 1);
    environment.delete("/app/hello/ann").expect(200);
    counts(1, 0);
}

#[test]
fn what_the_api_server_would_refuse_is_invalid_and_a_start_is_tried_all_the_same() {
    let always = TEMPLATE.replace("Never", "Always");
    let port = TEMPLATE.replace("image:", "ports: [{containerPort: \"8080\"}]\n    image:");
    let toleration = format!("{TEMPLATE}  tolerations: [{{key: a, value: true}}]\n");
    let environment = with_pods()
        .template("always", &always)
        .template("port", &port)
        .template("toleration", &toleration)
        .start();
    for (app_type, place, words) in [
        (
            "always",
            "line 2, column 3 (spec.restartPolicy)",
            "Required value",
        ),
        (
            "port",
            "line 5, column 14 (spec.containers.ports.containerPort)",
            "of type int32",
        ),
        (
            "toleration",
            "line 7, column 26 (spec.tolerations.value)",
            "of type string",
        ),
    ] {
        let found = tried(&environment, app_type);
        assert_eq!(
            (&found["verdict"], &found["place"]),
            (&json!("invalid"), &json!(place))
        );
        let message = found["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{message}");
        let valid = format!("template_valid{{type=\"{app_type}\"}}");
        assert_eq!(metric(&environment, &valid), "0");
        let path = format!("/app/{app_type}/ann");
        environment.get(&path).expect_error(422, "template_invalid");
    }
    assert_eq!(environment.kube.count("create", "jobs"), 3);
    assert_eq!(tried(&environment, "hello")["verdict"], "valid");
}

#[test]
fn only_the_pod_tells_what_pods_may_not_be() {
    let environment = with_pods().unstarted().start();
    let why = "maximum cpu usage per Container is 500m, but limit is 2";
    let fault = dry_run("pods", Fault::Refused(why.to_owned()));
    environment.kube.fault(fault);
    let environment = started(environment);
    let found = tried(&environment, "hello");
    assert_eq!(found["verdict"], "invalid");
    let message = format!("pods \"hello-dry-run\" is forbidden: {why}");
    assert_eq!(found["message"], message);
}

/// The same with a replica.
fn started(mut environment: TestEnvironment) -> TestEnvironment {
    environment.add_replica();
    environment.wait_ready(0);
    environment
}

#[test]
fn without_the_right_to_create_pods_their_jobs_are_tried() {
    let environment = TestEnvironment::builder()
        .template("other", TEMPLATE)
        .start();
    for app_type in ["hello", "other"] {
        let found = tried(&environment, app_type);
        assert_eq!(found["verdict"], "valid");
        let message = found["message"].as_str().unwrap_or_default();
        assert!(
            message.starts_with("only its Job was tried, not the pod: pods is forbidden"),
            "{message}"
        );
    }
    environment.kube.set_role(NAMESPACE, Some(WITH_PODS));
    eventually("pods are tried once that is permitted", || {
        let all = ["hello", "other"].map(|it| entry(&environment, it)["message"].is_null());
        (all == [true, true]).then_some(())
    });
    assert!(environment.kube.count("dry-run", "pods") < 10);
}

#[test]
fn without_the_right_to_create_jobs_templates_are_unchecked_and_all_else_works() {
    let role = include_str!("../../manifests/base/role.yaml");
    let environment = TestEnvironment::builder().start();
    environment.start_instance("/app/hello/ann");
    let without = role.replace(
        "[create, delete, get, list, patch, watch]",
        "[delete, get, list, patch, watch]",
    );
    assert_ne!(without, role);
    environment.kube.set_role(NAMESPACE, Some(&without));
    let types = [("hello", TEMPLATE), ("new", TEMPLATE)];
    apply_templates(&environment.kube, "templates", &types, json!({}));
    let found = wait_verdict(&environment, "new", "unchecked");
    let found = match found["message"].as_str() {
        Some("it was not tried yet") => tried(&environment, "new"),
        _ => found,
    };
    let message = found["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("cannot create resource \"jobs\""),
        "{message}"
    );
    assert_eq!(metric(&environment, "template_valid{type=\"new\"}"), "1");
    assert_eq!(environment.get("/app/hello/ann").status, 200);
    environment
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    environment.delete("/app/hello/ann").expect(200);
}

#[test]
fn a_used_up_quota_is_a_warning() {
    let environment = with_pods().unstarted().start();
    environment
        .kube
        .with(|model| model.quota = Some(Quota::new(0)));
    let environment = started(environment);
    let found = tried(&environment, "hello");
    assert_eq!(found["verdict"], "valid");
    let warning = found["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("exceeded quota: jobs"), "{warning}");
    assert_eq!(metric(&environment, "template_valid{type=\"hello\"}"), "1");
}

#[test]
fn a_webhook_that_is_down_or_cannot_do_dry_runs_says_nothing_of_a_template() {
    for (fault, words) in [
        (
            Fault::BrokenWebhook("connection refused".into()),
            "connection refused",
        ),
        (Fault::NoDryRun, "does not support dry run"),
        (Fault::Status(503), ""),
    ] {
        let environment = with_pods().unstarted().start();
        environment.kube.fault(dry_run("jobs", fault));
        let environment = started(environment);
        let found = tried(&environment, "hello");
        assert_eq!(found["verdict"], "unchecked");
        let message = found["message"].as_str().unwrap_or_default();
        assert!(message.contains(words), "{message}");
        environment.start_instance("/app/hello/ann");
        environment.kube.clear_faults();
        wait_verdict(&environment, "hello", "valid");
    }
}

#[test]
fn a_template_that_needs_values_is_tried_with_its_example() {
    let text = TEMPLATE.replace("app:1", "app:${alternatives['tag']}");
    let environment = with_pods().template("needs", &text).start();
    let found = tried(&environment, "needs");
    assert_eq!(found["verdict"], "needs_values");
    let types = [("needs", text.as_str())];
    let annotations = json!({format!("needs.{PREFIX}example"): "tag=2"});
    apply_templates(&environment.kube, "templates", &types, annotations);
    wait_verdict(&environment, "needs", "valid");
    let annotations = json!({format!("needs.{PREFIX}example"): "tag=%00"});
    apply_templates(&environment.kube, "templates", &types, annotations);
    let found = wait_verdict(&environment, "needs", "needs_values");
    assert!(
        found["message"]
            .as_str()
            .is_some_and(|text| text.contains("NUL")),
        "{found}"
    );
}

#[test]
fn keys_that_look_like_templates_and_are_not_read_are_listed() {
    let environment = with_pods().start();
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "more", "labels": {format!("{PREFIX}template"): "true"}},
        "data": {"app.yml": TEMPLATE, "notes.txt": "x"},
        "binaryData": {"latin.yaml": "6Q=="},
    });
    environment
        .kube
        .apply(NAMESPACE, &object)
        .expect("it is taken");
    let found = wait_verdict(&environment, "app", "invalid");
    assert_eq!(
        (&found["config_map"], &found["place"]),
        (&json!("more"), &json!("app.yml"))
    );
    let found = wait_verdict(&environment, "latin", "invalid");
    let message = found["message"].as_str().unwrap_or_default();
    assert!(message.contains("save its text as UTF-8"), "{message}");
    environment.get("/app").expect_text(200, r#"["hello"]"#);
}

#[test]
fn an_edit_shows_within_a_second() {
    let environment = with_pods().start();
    wait_verdict(&environment, "hello", "valid");
    for (text, verdict) in [
        (TEMPLATE.replace("Never", "Always"), "invalid"),
        (TEMPLATE.to_owned(), "valid"),
        ("spec: [".to_owned(), "invalid"),
    ] {
        let types = [("hello", text.as_str())];
        let edited = Instant::now();
        apply_templates(&environment.kube, "templates", &types, json!({}));
        wait_verdict(&environment, "hello", verdict);
        let took = edited.elapsed();
        assert!(took < Duration::from_secs(1), "{verdict} after {took:?}");
    }
}

#[test]
fn two_hundred_templates_are_tried_a_few_at_a_time_and_starts_do_not_wait() {
    let environment = with_pods().start();
    tried(&environment, "hello");
    let slow = Fault::Delay(Duration::from_millis(5));
    environment.kube.fault(dry_run("*", slow));
    let names: Vec<String> = (0..200).map(|number| format!("t{number:03}")).collect();
    let mut types: Vec<(&str, &str)> = names.iter().map(|it| (it.as_str(), TEMPLATE)).collect();
    types.push(("hello", TEMPLATE));
    apply_templates(&environment.kube, "templates", &types, json!({}));
    eventually("they are known", || {
        environment.get("/app").text.contains("t199").then_some(())
    });
    environment.start_instance("/app/hello/ann");
    eventually("all are tried", || {
        let all = environment.get("/templates").expect(200);
        let all = all.as_array().expect("an array");
        let is_valid = |it: &Value| it["verdict"] == "valid";
        (all.len() == 201 && all.iter().all(is_valid)).then_some(())
    });
    assert!(environment.kube.most_dry_runs() <= AT_ONCE);
    let made = environment.kube.count("dry-run", "jobs");
    assert!(made <= 2 + 200, "{made}: each is tried once");
}

#[test]
fn a_caller_sees_the_templates_of_its_types_alone() {
    let folder = TemporaryFolder::new();
    let tokens = "secret-of-all-types all\nsecret-of-hello-only only hello\n";
    let file = folder.write("tokens", tokens);
    let environment = with_pods()
        .template("other", TEMPLATE)
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .start();
    let ask = |token: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str())];
        let client = environment.client();
        client.begin("GET", "/templates", &headers, "").finish()
    };
    let types = |token: &str| -> Vec<String> {
        let all = ask(token).expect(200);
        let all = all.as_array().expect("an array").iter();
        all.map(|it| it["type"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(types("secret-of-all-types"), ["hello", "other"]);
    assert_eq!(types("secret-of-hello-only"), ["hello"]);
    assert!(ask("secret-of-hello-only").text.ends_with("]\n"));
    assert_eq!(ask("wrong").status, 401);
}
