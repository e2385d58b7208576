//! Reads cost nothing: what memory can answer makes no call to Kubernetes, as the API server
//! itself counts.

use serde_json::json;

use crate::harness::Ground;

#[test]
fn a_get_of_a_ready_instance_makes_no_call() {
    let ground = Ground::new();
    let ip = ground.start_instance("/app/hello/ann");
    ground
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    ground.count_from_here();
    for _ in 0..50 {
        let answer = ground.get("/app/hello/ann?x=1");
        answer.expect_text(200, &format!(r#"{{"ip":"{ip}","k":"v"}}"#));
    }
    assert_eq!(ground.kube.requests(), []);
}

#[test]
fn lists_info_and_probes_make_no_call() {
    let ground = Ground::new();
    ground.start_instance("/app/hello/ann");
    ground.count_from_here();
    for _ in 0..20 {
        for path in [
            "/app",
            "/app/hello",
            "/app/nope",
            "/info",
            "/livez",
            "/readyz",
        ] {
            ground.get(path).expect(200);
        }
        ground
            .get("/app/nope/ann")
            .expect_error(404, "unknown_type");
    }
    assert_eq!(ground.kube.requests(), []);
}

#[test]
fn a_start_costs_one_write() {
    let ground = Ground::new();
    ground.count_from_here();
    ground.start_instance("/app/hello/ann");
    let asked = ground.kube.requests();
    let asked: Vec<(&str, &str)> = asked
        .iter()
        .map(|request| (request.verb.as_str(), request.resource.as_str()))
        .collect();
    assert_eq!(asked, [("create", "jobs")]);
}
