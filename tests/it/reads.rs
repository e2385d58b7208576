//! Reads cost nothing: responses from the cache make no call to Kubernetes, as the API server
//! itself counts.

use crate::harness::TestEnvironment;

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
    // The app type may be tried meanwhile.
    let asked = environment.kube.requests();
    let asked: Vec<_> = asked.iter().filter(|it| it.verb != "dry-run").collect();
    assert!(asked.is_empty(), "{asked:?}");
}

#[test]
fn a_start_costs_one_write() {
    let environment = TestEnvironment::new();
    environment.count_from_here();
    environment.start_instance("/app/hello/ann");
    let asked = environment.kube.requests();
    // The app type may be tried meanwhile, and watches may be opened.
    let asked: Vec<(&str, &str)> = asked
        .iter()
        .filter(|request| !matches!(request.verb.as_str(), "dry-run" | "watch"))
        .map(|request| (request.verb.as_str(), request.resource.as_str()))
        .collect();
    assert_eq!(asked, [("create", "jobs")]);
}
