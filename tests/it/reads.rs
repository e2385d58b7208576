//! Reads cost nothing: what memory can answer makes no call to Kubernetes, as the API server
//! itself counts.

use serde_json::json;

use crate::harness::TestEnvironment;

#[test]
fn a_get_of_a_ready_instance_makes_no_call() {
    let environment = TestEnvironment::new();
    let ip = environment.start_instance("/app/hello/ann");
    environment
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    environment.count_from_here();
    for _ in 0..50 {
        let answer = environment.get("/app/hello/ann?x=1");
        answer.expect_text(200, &format!(r#"{{"ip":"{ip}","k":"v"}}"#));
    }
    assert_eq!(environment.kube.requests(), []);
}

#[test]
fn lists_info_and_probes_make_no_call() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    environment.count_from_here();
    for _ in 0..20 {
        for path in [
            "/app",
            "/app/hello",
            "/app/nope",
            "/info",
            "/livez",
            "/readyz",
        ] {
            environment.get(path).expect(200);
        }
        environment
            .get("/app/nope/ann")
            .expect_error(404, "unknown_type");
    }
    assert_eq!(environment.kube.requests(), []);
}

#[test]
fn a_start_costs_one_write() {
    let environment = TestEnvironment::new();
    environment.count_from_here();
    environment.start_instance("/app/hello/ann");
    let asked = environment.kube.requests();
    let asked: Vec<(&str, &str)> = asked
        .iter()
        .map(|request| (request.verb.as_str(), request.resource.as_str()))
        .collect();
    assert_eq!(asked, [("create", "jobs")]);
}
