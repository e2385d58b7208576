//! Bad input: each gets a clear error, and nothing is changed.

use serde_json::json;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{NAMESPACE, TestEnvironment, eventually};

/// An instance, and what the API server holds of it.
fn started() -> (TestEnvironment, Vec<String>) {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    environment.count_from_here();
    let state = state(&environment);
    (environment, state)
}

fn state(environment: &TestEnvironment) -> Vec<String> {
    let all = [Resource::Jobs, Resource::Pods, Resource::ConfigMaps];
    all.into_iter()
        .flat_map(|resource| environment.kube.all(resource, NAMESPACE))
        .map(|object| object.to_string())
        .collect()
}

#[track_caller]
fn check_unchanged(environment: &TestEnvironment, before: &[String]) {
    assert_eq!(state(environment), before);
    assert_eq!(environment.kube.count("*", "*"), 0, "Kubernetes was asked");
}

#[test]
fn a_patch_with_invalid_json() {
    let (environment, before) = started();
    let json = [("Content-Type", "application/json")];
    let response = environment
        .client()
        .begin("PATCH", "/app/hello/ann", &json, "{not json")
        .finish();
    let problem = &response.expect(422)["detail"][0];
    assert_eq!(problem["type"], "json_invalid");
    assert_eq!(problem["loc"], json!(["body", 1]));
    assert!(problem["ctx"]["error"].is_string());
    check_unchanged(&environment, &before);
}

#[test]
fn a_compressed_patch() {
    let (environment, before) = started();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Encoding", "gzip"),
    ];
    let response = environment
        .client()
        .begin("PATCH", "/app/hello/ann", &headers, "{\"k\":\"v\"}")
        .finish();
    response.expect_error(415, "unsupported_encoding");
    assert_eq!(response.header("accept-encoding"), "identity");
    check_unchanged(&environment, &before);
}

#[test]
fn invalid_names() {
    let (environment, before) = started();
    let long = "n".repeat(300);
    for (segment, expected) in [
        (long.as_str(), "300 bytes"),
        ("..", "'.' and '..'"),
        (".", "'.' and '..'"),
        ("%2E%2e", "'.' and '..'"),
        ("a%00b", "U+0000"),
        ("a%0Ab", "U+000A"),
    ] {
        let path = format!("/app/hello/{segment}");
        let response = environment.get(&path).expect_error(422, "bad_name");
        assert!(response.contains(expected), "{segment}: {response}");
        environment
            .delete(&path)
            .expect_detail(422, "error", "bad_name");
        environment
            .patch(&path, &json!({"k": "v"}))
            .expect_detail(422, "error", "bad_name");
    }
    let response = environment
        .get("/app/he%00llo/ann")
        .expect_error(422, "bad_name");
    assert!(response.contains("U+0000"), "{response}");
    check_unchanged(&environment, &before);
}

#[test]
fn an_encoded_slash_is_an_unknown_path() {
    let (environment, before) = started();
    for path in [
        "/app/hello/a%2Fb",
        "/app/hello/..%2Fann",
        "/app/hello/ann/../bob",
    ] {
        for method in ["GET", "DELETE", "PATCH"] {
            let response = environment.client().begin(method, path, &[], "").finish();
            response.expect_text(404, r#"{"detail":"Not Found"}"#);
        }
    }
    check_unchanged(&environment, &before);
}

#[test]
fn a_namespace_that_does_not_exist() {
    let environment = TestEnvironment::builder().namespace("nowhere").start();
    environment.get("/app").expect_text(200, "[]");
    environment
        .get("/app/hello/ann")
        .expect_error(404, "unknown_type");
}

#[test]
fn a_deleted_namespace() {
    let environment = TestEnvironment::new();
    // The templates stay known, so that a start gets as far as Kubernetes.
    let silent = FaultRule::new("watch", "configmaps", Fault::SilentWatch);
    environment.count_from_here();
    environment.kube.fault(silent);
    environment.kube.cut_connections();
    eventually("the watch is silent", || {
        (environment.kube.count("watch", "configmaps") > 0).then_some(())
    });
    let forgotten = environment.kube.with(|model| {
        let key = (Resource::Namespaces, String::new(), NAMESPACE.to_owned());
        let options = crate::fake_kube::cluster::write::DeleteOptions::default();
        model.cluster.delete(&key, &options).is_ok()
    });
    assert!(forgotten);
    // Until it is empty it is on its way out, and a start is refused.
    eventually("it is gone", || {
        let found = environment.kube.get(Resource::Namespaces, "", NAMESPACE);
        found.is_none().then_some(())
    });
    let response = environment.get("/app/hello/new");
    response.expect_error(500, "namespace_missing");
}

/// DNS rebinding: a page's own name points at this service.
#[test]
fn a_host_that_is_not_allowed() {
    let environment = TestEnvironment::builder()
        .setting("ALLOWED_HOSTS", "cc:3333,*.portal.example,[::1]")
        .start();
    let client = environment.client();
    let status = |method: &str, target: &str, host: &str| {
        let pending = client.begin(method, target, &[("Host", host)], "");
        pending.finish()
    };
    for host in ["cc:3333", "CC.:3333", "a.portal.example", "[::1]:9"] {
        status("GET", "/app", host).expect(200);
    }
    environment.count_from_here();
    for (method, target) in [
        ("GET", "/app"),
        ("GET", "/app/hello/new"),
        ("PATCH", "/app/hello/new"),
        ("DELETE", "/app/hello/new"),
        ("GET", "/create/hello?sessionID=new"),
        ("GET", "/release/new"),
        ("GET", "/info/"),
        ("GET", "/nowhere"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("GET", "/metrics"),
    ] {
        for host in [
            "evil.example",
            "cc:80",
            "portal.example",
            "cc.evil.example:3333",
        ] {
            status(method, target, host).expect_error(421, "host_not_allowed");
        }
        // The authority of the target replaces Host.
        let absolute = format!("http://evil.example{target}");
        status(method, &absolute, "cc:3333").expect_error(421, "host_not_allowed");
    }
    assert_eq!(environment.kube.count("create", "*"), 0);
    status("GET", "http://cc:3333/app", "evil.example").expect(200);
    // The kubelet and Prometheus call a pod by its address.
    for host in ["10.1.2.3:3333", "[fd00::1]:3333"] {
        for target in ["/livez", "/readyz", "/metrics"] {
            assert_eq!(status("GET", target, host).status, 200, "{target}");
        }
        status("GET", "/app", host).expect_error(421, "host_not_allowed");
    }
    status("GET", "/livez", "probe.example").expect(200);
    let metrics = status("GET", "/metrics", "cc:3333").text;
    let counted = "config_controller_rejected_total{cause=\"host_not_allowed\"} 57";
    assert!(metrics.contains(counted), "{metrics}");
}

#[test]
fn a_page_of_another_site() {
    let (environment, before) = started();
    let client = environment.client();
    let from = |site| [("Sec-Fetch-Site", site)];
    for path in ["/app/hello/ann", "/app/hello/new"] {
        let response = client.begin("GET", path, &from("cross-site"), "").finish();
        response.expect_error(403, "forbidden");
    }
    for method in ["PATCH", "DELETE"] {
        let pending = client.begin(method, "/app/hello/ann", &from("cross-site"), "{}");
        pending.finish().expect_detail(403, "error", "forbidden");
    }
    for site in ["same-origin", "same-site", "none"] {
        let response = client.begin("GET", "/app/hello/ann", &from(site), "");
        response.finish().expect(200);
    }
    let lists = client
        .begin("GET", "/app", &from("cross-site"), "")
        .finish();
    lists.expect(200);
    check_unchanged(&environment, &before);
}
