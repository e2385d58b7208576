//! The order of lists, `/info`, the probes, and how bodies end. Everything else about reads is a row of the
//! contract (`contract_reads`, `contract_http`).

use config_controller::http::endpoints::{ENDPOINTS, Endpoint};
use config_controller::http::message::Method;
use serde_json::json;

use crate::harness::{TemporaryFolder, TestEnvironment};

#[test]
fn a_list_is_sorted_by_name() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/b");
    environment.start_instance("/app/hello/a");
    let list = environment.get("/app/hello").expect(200);
    assert_eq!(
        (&list[0]["name"], &list[1]["name"]),
        (&json!("a"), &json!("b"))
    );
}

#[test]
fn info_names_the_version() {
    let info = TestEnvironment::new().get("/info").expect(200);
    let version = format!("config-controller {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(info["rev"], json!(version));
}

#[test]
fn probes_respond_to_get_and_head() {
    let environment = TestEnvironment::new();
    for path in ["/livez", "/readyz"] {
        let get = environment.get(path);
        get.expect_text(200, "{\"status\":\"ok\"}\n");
        let head = environment.client().begin("HEAD", path, &[], "").finish();
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        let length = get.text.len().to_string();
        assert_eq!(head.header("content-length"), length, "{path}");
    }
}

/// Whether what is served at a path is that of 2.7.1, byte for byte (contract B). It had `/openapi.json` and
/// `/docs`, too, with other bodies.
fn is_of_2_7_1(path: &str) -> bool {
    if ["/logs", "/heartbeat"].iter().any(|it| path.ends_with(it)) {
        return false;
    }
    let firsts = ["app", "api", "create", "release", "info"];
    path.split('/')
        .nth(1)
        .is_some_and(|it| firsts.contains(&it))
}

/// A shell shows its prompt on a line of its own; clients of 2.7.1 get what they got.
#[test]
fn bodies_end_with_a_newline_except_at_routes_of_2_7_1() {
    let folder = TemporaryFolder::new();
    let tokens = folder.write("tokens", "portal-0123456789abcdef portal\n");
    let open = TestEnvironment::new();
    let guarded = TestEnvironment::builder()
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &tokens.display().to_string())
        .start();
    let mut unsynced = TestEnvironment::builder().unstarted().start();
    unsynced.kube.stop_listening();
    unsynced.add_replica();
    let bodies = |row: &Endpoint, method: &str| {
        let path = row.path.replace("{type}", "hello");
        let path = path.replace("{name}", "ann");
        [&open, &guarded, &unsynced].map(|environment| {
            let sent = environment.client().begin(method, &path, &[], "");
            sent.finish().text
        })
    };
    for row in &ENDPOINTS {
        let methods = row.methods.iter().filter(|it| **it != Method::Head);
        for text in methods.flat_map(|method| bodies(row, method.as_str())) {
            let ends = text.ends_with('\n') && !text.ends_with("\n\n");
            // It had no PUT.
            let is_its_own = is_of_2_7_1(row.path) && !row.methods.contains(&Method::Put);
            assert_eq!(ends, !is_its_own, "{}: {text:?}", row.path);
        }
    }
}
