//! The older routes `/create/{type}` and `/release/{name}`, beyond the rows of `contract_legacy`.

use serde_json::json;

use crate::fake_kube::dynamics::pod_script::Exit;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{TestEnvironment, eventually};

#[test]
fn create_reports_a_failed_start_as_an_error() {
    let environment = TestEnvironment::by_hand();
    let waiting = environment
        .client()
        .begin_get("/create/hello?sessionID=ann");
    environment.move_pod(
        "hello-ann",
        &PodMove::Exit(Exit {
            code: 3,
            message: "no licence".into(),
            after_ms: 0,
            reason: String::new(),
        }),
    );
    let response = waiting.finish();
    response.expect_error(502, "start_failed");
    let body = response.expect(502);
    assert_eq!(
        (&body["exitCode"], &body["log"]),
        (&json!(3), &json!("no licence"))
    );
}

#[test]
fn release_needs_no_template_and_no_pod() {
    let environment = TestEnvironment::by_hand();
    environment.get_at_once("/app/hello/ann").expect(202);
    eventually("its Job is seen", || {
        let list = environment.get("/app/hello").expect(200);
        (list.as_array()?.len() == 1).then_some(())
    });
    environment
        .kube
        .delete(
            crate::fake_kube::cluster::resource::Resource::ConfigMaps,
            crate::harness::NAMESPACE,
            "templates",
            "Background",
        )
        .expect("it was there");
    environment.wait_empty("/app");
    environment.get("/release/ann").expect(200);
}

#[test]
fn release_stops_the_instance_of_that_name_before_one_with_that_label() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    environment
        .patch("/app/hello/ann", &json!({"sessionID": "zoe"}))
        .expect(200);
    environment.start_instance("/app/hello/zoe");
    environment.get("/release/zoe").expect(200);
    eventually("only the other one is left", || {
        (environment.jobs() == ["hello-ann"]).then_some(())
    });
    environment.get("/release/zoe").expect(200);
    environment.wait_no_jobs();
}
