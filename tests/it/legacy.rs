//! The older routes: `/api/{type}`, `/create/{type}` and `/release/{name}`.

use std::time::Duration;

use serde_json::json;

use crate::fake_kube::dynamics::pod_script::Exit;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{TEMPLATE, TestEnvironment, eventually};

#[test]
fn api_lists_as_app_does() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    assert_eq!(
        environment.get("/api/hello").text,
        environment.get("/app/hello").text
    );
    assert_eq!(environment.get("/api/nobody").text, "[]");
}

#[test]
fn create_answers_with_the_address_once_it_is_ready() {
    let environment = TestEnvironment::by_hand();
    let waiting = environment
        .client()
        .begin_get("/create/hello?sessionID=ann");
    environment.make_ready("hello-ann");
    let created = waiting.finish().expect(200);
    let ip = environment.start_instance("/app/hello/ann");
    assert_eq!(created, json!({"hostname": ip, "addr": ip}));
    // One that is ready is answered from memory.
    assert_eq!(
        environment.get("/create/hello?sessionID=ann").expect(200),
        created
    );
    assert_eq!(environment.jobs(), ["hello-ann"]);
}

#[test]
fn create_gives_all_its_parameters_to_the_template() {
    let template = TEMPLATE.to_owned()
        + "    env:\n    - {name: SESSION, value: \"${alternatives['sessionID']}\"}\n    - {name: TZ, value: \"${alternatives['tz']}\"}\n";
    let environment = TestEnvironment::builder()
        .template("zoned", &template)
        .start();
    let path = "/create/zoned?sessionID=ann";
    environment.get(path).expect_error(422, "variable_missing");
    environment.get(&format!("{path}&tz=a+b")).expect(200);
    let job = environment.job("zoned-ann").expect("it was started");
    let env = &job["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(env[0]["value"], "ann");
    assert_eq!(env[1]["value"], "a b");
}

#[test]
fn create_says_what_is_missing_or_wrong() {
    let environment = TestEnvironment::new();
    environment.get("/create/hello").expect_text(
        422,
        r#"{"detail":[{"type":"missing","loc":["query","sessionID"],"msg":"Field required","input":null}]}"#,
    );
    environment
        .get("/create/hello?sessionID=")
        .expect_error(422, "bad_name");
    environment
        .get("/create/nope?sessionID=a")
        .expect_error(404, "unknown_type");
    assert!(environment.jobs().is_empty());
}

#[test]
fn create_tells_a_failed_start_as_an_error() {
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
    let answer = waiting.finish();
    answer.expect_error(502, "start_failed");
    let body = answer.expect(502);
    assert_eq!(
        (&body["exitCode"], &body["log"]),
        (&json!(3), &json!("no licence"))
    );
}

#[test]
fn create_gives_up_after_300_seconds_and_stops_what_it_started() {
    let environment = TestEnvironment::by_hand();
    let waiting = environment
        .client()
        .begin_get("/create/hello?sessionID=ann");
    environment.wait_pod("hello-ann");
    // Time is moved only when the service has seen the pod: without one its patience is short.
    eventually("its pod is seen", || {
        let told = environment.get_at_once("/app/hello/ann");
        (told.expect(202)["phase"] == "scheduling").then_some(())
    });
    environment.advance(Duration::from_secs(299));
    environment.get("/app/hello").expect(200);
    assert_eq!(environment.kube.count("delete", "jobs"), 0);
    environment.advance(Duration::from_secs(2));
    let answer = waiting.finish();
    answer.expect_text(408, r#"{"status":"Could not provision app"}"#);
    assert_eq!(environment.kube.count("delete", "jobs"), 1);
}

#[test]
fn release_stops_by_name_and_by_session() {
    let environment = TestEnvironment::new();
    for name in ["ann", "bob"] {
        environment.start_instance(&format!("/app/hello/{name}"));
    }
    environment
        .patch("/app/hello/bob", &json!({"sessionID": "s-1"}))
        .expect(200);
    environment
        .get("/release/s-1")
        .expect_text(200, r#"{"status":"Success"}"#);
    environment
        .get("/release/ann")
        .expect_text(200, r#"{"status":"Success"}"#);
    // What is seen to go is stopped with success, also by who comes late.
    eventually("both are seen to be gone", || {
        let list = environment.get("/app/hello").expect(200);
        list.as_array()?.is_empty().then_some(())
    });
    let sentence = environment
        .get("/release/s-1")
        .expect_detail(404, "Not found", "not_found");
    assert_eq!(
        sentence,
        "there is no instance with the name or session 's-1'"
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
    eventually("the type is gone", || {
        (environment.get("/app").text == "[]").then_some(())
    });
    environment.get("/release/ann").expect(200);
}
