//! Lists, `/info`, probes, and what is answered where there is no such path or method.

use serde_json::json;

use crate::harness::{TEMPLATE, TestEnvironment};

#[test]
fn types_are_listed_once_and_sorted() {
    let environment = TestEnvironment::builder()
        .template("zeta", TEMPLATE)
        .template("alpha", TEMPLATE)
        .start();
    let answer = environment.get("/app");
    answer.expect_text(200, r#"["alpha","hello","zeta"]"#);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("server"), "");
}

#[test]
fn a_list_entry_has_the_contracts_fields_in_its_order() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    environment
        .patch(
            "/app/hello/ann",
            &json!({"username": "bob", "connected": true}),
        )
        .expect(200);
    let pod = environment.kube.pod_of("default", "hello-ann");
    let pod = pod.expect("a ready instance has a pod");
    let started = pod["status"]["startTime"].as_str().expect("a started pod");
    let started: jiff::Timestamp = started.parse().expect("a timestamp");
    environment.get("/app/hello").expect_text(
        200,
        &format!(
            r#"[{{"ip":"{ip}","name":"ann","sessionID":"ann","hostname":"ann","addr":"{ip}","errored":false,"start":{}.0,"connected":"true","username":"bob"}}]"#,
            started.as_second()
        ),
    );
}

#[test]
fn an_instance_that_is_not_ready_is_listed_as_errored() {
    let environment = TestEnvironment::by_hand();
    let waiting = environment.client().begin_get("/app/hello/ann");
    environment.wait_pod("hello-ann");
    crate::harness::eventually("it is listed", || {
        let listed = environment.get("/app/hello").text;
        let expected = r#"[{"ip":null,"name":"ann","sessionID":"ann","hostname":"ann","addr":null,"errored":true,"start":0}]"#;
        (listed == expected).then_some(())
    });
    environment.make_ready("hello-ann");
    waiting.finish().expect(200);
}

#[test]
fn session_id_can_be_set_and_names_are_sorted() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/b");
    environment.start_instance("/app/hello/a");
    environment
        .patch("/app/hello/a", &json!({"sessionID": "s1"}))
        .expect(200);
    let list = environment.get("/app/hello").expect(200);
    assert_eq!(list[0]["name"], "a");
    assert_eq!(list[0]["sessionID"], "s1");
    assert_eq!(list[1]["name"], "b");
    assert_eq!(list[1]["sessionID"], "b");
}

#[test]
fn a_type_that_nobody_knows_has_no_instances() {
    let environment = TestEnvironment::new();
    environment.get("/app/nope").expect_text(200, "[]");
}

#[test]
fn info_says_that_it_is_up() {
    let environment = TestEnvironment::new();
    let info = environment.get("/info").expect(200);
    assert_eq!(info["status"], "UP");
    let version = format!("config-controller {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(info["rev"], json!(version));
    assert!(info["hostname"].is_string());
}

#[test]
fn probes_answer() {
    let environment = TestEnvironment::new();
    environment
        .get("/livez")
        .expect_text(200, r#"{"status":"ok"}"#);
    environment
        .get("/readyz")
        .expect_text(200, r#"{"status":"ok"}"#);
}

#[test]
fn unknown_paths_are_404() {
    let environment = TestEnvironment::new();
    for path in ["/", "/App", "//app", "/app/a/b/c", "/favicon.ico"] {
        let answer = environment.get(path);
        answer.expect_text(404, r#"{"detail":"Not Found"}"#);
    }
}

#[test]
fn wrong_methods_are_405_with_those_there_are() {
    let environment = TestEnvironment::new();
    for (method, path, allow) in [
        ("POST", "/app", "GET, HEAD"),
        ("DELETE", "/app/hello", "GET, HEAD"),
        ("PUT", "/app/hello/ann", "DELETE, GET, PATCH"),
        ("HEAD", "/app/hello/ann", "DELETE, GET, PATCH"),
        ("OPTIONS", "/info", "GET, HEAD"),
    ] {
        let answer = environment.client().begin(method, path, &[], "").finish();
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
        if method != "HEAD" {
            answer.expect_text(405, r#"{"detail":"Method Not Allowed"}"#);
        }
    }
    assert_eq!(environment.jobs(), [""; 0], "a HEAD starts nothing");
}

#[test]
fn a_slash_at_the_end_is_redirected_with_its_query() {
    let environment = TestEnvironment::new();
    for (path, target) in [
        ("/app/", "/app"),
        ("/app/hello/", "/app/hello"),
        ("/app/hello/ann/?a=1&b=%20", "/app/hello/ann?a=1&b=%20"),
        ("/app/%2F", "/app"),
    ] {
        let answer = environment.get(path);
        answer.expect_text(307, "");
        let location = answer.header("location");
        assert!(location.starts_with("http://127.0.0.1:"), "{location}");
        assert!(location.ends_with(target), "{path} to {location}");
    }
}

#[test]
fn head_is_get_without_a_body() {
    let environment = TestEnvironment::new();
    for path in ["/app", "/app/hello", "/info", "/livez", "/readyz"] {
        let get = environment.get(path);
        let head = environment.client().begin("HEAD", path, &[], "").finish();
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        let length = get.text.len().to_string();
        assert_eq!(head.header("content-length"), length, "{path}");
    }
}
