//! The order of lists, `/info` and the probes. Everything else about reads is a row of the contract
//! (`contract_reads`, `contract_http`).

use serde_json::json;

use crate::harness::TestEnvironment;

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
        get.expect_text(200, r#"{"status":"ok"}"#);
        let head = environment.client().begin("HEAD", path, &[], "").finish();
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        let length = get.text.len().to_string();
        assert_eq!(head.header("content-length"), length, "{path}");
    }
}
