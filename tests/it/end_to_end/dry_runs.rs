//! What a real API server says of templates when their ConfigMap arrives.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::LONG_WAIT;
use super::environment::{TestEnvironment, real};
use super::eventually;
use super::program::Program;

/// What `/templates` says of a type, once it was tried.
#[track_caller]
fn tried(program: &Program, app_type: &str) -> Value {
    eventually("the template is tried", || {
        let all = program.get("/templates").expect(200);
        let all = all.as_array().cloned().unwrap_or_default();
        let mut of_type = all.into_iter().filter(|it| it["type"] == app_type);
        of_type
            .next()
            .filter(|it| it["message"] != "it was not tried yet")
    })
}

#[track_caller]
fn check(program: &Program, app_type: &str, verdict: &str, words: &str) -> Value {
    let found = tried(program, app_type);
    assert_eq!(found["verdict"], verdict, "{found}");
    let message = found["message"].as_str().unwrap_or_default();
    assert!(message.contains(words), "{app_type}: {message}");
    found
}

/// Lets our service account try pods.
fn permit_pods(environment: &TestEnvironment) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests/dry-run-pods");
    for file in ["role", "role-binding"] {
        let file = format!("--filename={folder}/{file}.yaml");
        environment.kubectl(&["apply", &file]);
    }
}

/// Makes an object of this kind in the namespace.
fn make(environment: &TestEnvironment, plural: &str, object: &Value) {
    let path = environment.all(plural);
    environment.api.post(&path, object).expect(201);
}

/// Where the fault of this entry is, which is a line and a field.
fn place_of(entry: &Value) -> &str {
    let place = entry["place"].as_str().unwrap_or_default();
    assert!(place.starts_with("line "), "{entry}");
    place
}

#[test]
#[ignore = "needs a cluster"]
fn what_the_api_server_drops_is_a_warning_and_what_it_refuses_is_invalid() {
    let environment = TestEnvironment::shared();
    let good = real("x", 1, &[]);
    let misspelt = good.replacen("image:", "recources: {}\n    image:", 1);
    let always = good.replacen("restartPolicy: Never", "restartPolicy: Always", 1);
    let port = good.replacen(
        "image:",
        "ports: [{containerPort: \"8080\"}]\n    image:",
        1,
    );
    for (name, text) in [
        ("misspelt", &misspelt),
        ("always", &always),
        ("port", &port),
    ] {
        assert_ne!(*text, good);
        environment.offer(name, name, text);
    }
    permit_pods(&environment);
    let program = environment.program();
    let found = check(&program, "misspelt", "valid", "");
    let expected = json!(["unknown field \"spec.containers[0].recources\""]);
    assert_eq!(found["warnings"], expected);
    let found = check(&program, "always", "invalid", "Required value");
    assert!(
        place_of(&found).ends_with(" (spec.restartPolicy)"),
        "{found}"
    );
    let found = check(&program, "port", "invalid", "of type int32");
    let port = " (spec.containers.ports.containerPort)";
    assert!(place_of(&found).ends_with(port), "{found}");
    assert_eq!(
        check(&program, "hello", "valid", "")["message"],
        Value::Null
    );
    // Nothing is refused because of a warning, and the start logs it.
    program.get_prefer("/app/misspelt/ann", LONG_WAIT).ip();
    program.wait_log("the API server created the Job of misspelt/ann and warns");
}

#[test]
#[ignore = "needs a cluster"]
fn the_pod_tells_what_limits_and_missing_accounts_refuse() {
    let environment = TestEnvironment::shared();
    permit_pods(&environment);
    let limits = json!({
        "metadata": {"name": "limits"},
        "spec": {"limits": [{"type": "Container", "max": {"cpu": "500m"}}]},
    });
    make(&environment, "limitranges", &limits);
    let good = real("x", 1, &[]);
    let large = good.replacen("image:", "resources: {limits: {cpu: \"2\"}}\n    image:", 1);
    let nobody = format!("{good}  serviceAccountName: nobody\n");
    environment.offer("large", "large", &large);
    environment.offer("nobody", "nobody", &nobody);
    let program = environment.program();
    check(
        &program,
        "large",
        "invalid",
        "maximum cpu usage per Container is 500m",
    );
    check(&program, "nobody", "invalid", "nobody\" not found");
    check(&program, "hello", "valid", "");
}

#[test]
#[ignore = "needs a cluster"]
fn pod_security_refuses_the_pod_and_warns_of_the_job() {
    let environment = TestEnvironment::shared();
    permit_pods(&environment);
    let label = "pod-security.kubernetes.io/enforce=restricted";
    let namespace = environment.namespace.clone();
    environment.kubectl(&["label", "namespace", &namespace, label]);
    let text = real("x", 1, &[]).replacen(
        "image:",
        "securityContext: {privileged: true}\n    image:",
        1,
    );
    environment.offer("privileged", "privileged", &text);
    let program = environment.program();
    let found = check(&program, "privileged", "invalid", "violates PodSecurity");
    let warning = found["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains("would violate PodSecurity"), "{found}");
}

#[test]
#[ignore = "needs a cluster"]
fn a_quota_that_is_used_up_is_a_warning() {
    let environment = TestEnvironment::shared();
    permit_pods(&environment);
    let quota = json!({
        "metadata": {"name": "quota"},
        "spec": {"hard": {"count/jobs.batch": "0", "pods": "0"}},
    });
    make(&environment, "resourcequotas", &quota);
    let job = json!({
        "metadata": {"name": "probe"},
        "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}],
        }}},
    });
    eventually("admission knows the quota", || {
        let path = format!("{}?dryRun=All", environment.all("jobs"));
        (environment.api.post(&path, &job).code == 403).then_some(())
    });
    let program = environment.program();
    let found = check(&program, "hello", "valid", "");
    let warnings = found["warnings"].to_string();
    assert!(warnings.contains("exceeded quota: quota"), "{warnings}");
    assert_eq!(
        program.metric("config_controller_template_valid", &["type=\"hello\""]),
        1
    );
}

#[test]
#[ignore = "needs a cluster"]
fn a_role_without_the_right_leaves_templates_unchecked_and_all_else_works() {
    let environment = TestEnvironment::shared();
    let program = environment.program();
    // Without the right to create pods, the Job alone is tried.
    check(
        &program,
        "hello",
        "valid",
        "only its Job was tried, not the pod: pods is forbidden",
    );
    let ip = program.get_prefer("/app/hello/ann", LONG_WAIT).ip();
    let rules = r#"[{"op": "replace", "path": "/rules/0/verbs", "value": ["delete", "get", "list", "watch"]}]"#;
    environment.kubectl(&[
        "patch",
        "role",
        "config-controller",
        "--type=json",
        "--patch",
        rules,
    ]);
    environment.offer("late", "late", &real("x", 1, &[]));
    eventually("the right is missed", || {
        let found = tried(&program, "late");
        if found["verdict"] != "unchecked" {
            // RBAC had not seen the change yet.
            environment.offer("late", "late", &real("x", 2, &[]));
            return None;
        }
        let message = found["message"].as_str().unwrap_or_default();
        assert!(
            message.contains("cannot create resource \"jobs\""),
            "{message}"
        );
        Some(())
    });
    assert_eq!(program.get("/app/hello/ann").ip(), ip);
    program.patch("/app/hello/ann", r#"{"k":"v"}"#).expect(200);
    program.delete("/app/hello/ann").expect(200);
}

#[test]
#[ignore = "needs a cluster"]
fn an_edit_shows_within_a_second() {
    let environment = TestEnvironment::shared();
    permit_pods(&environment);
    let good = real("x", 1, &[]);
    environment.offer("page", "page", &good);
    let program = environment.program();
    check(&program, "page", "valid", "");
    for (text, verdict) in [
        (
            good.replacen("restartPolicy: Never", "restartPolicy: Always", 1),
            "invalid",
        ),
        (good.clone(), "valid"),
    ] {
        let edited = Instant::now();
        environment.offer("page", "page", &text);
        eventually("the edit shows", || {
            (tried(&program, "page")["verdict"] == verdict).then_some(())
        });
        let took = edited.elapsed();
        println!("FIGURE an edit shows in /templates after {took:?}");
        assert!(took < Duration::from_secs(1), "{took:?}");
    }
}
