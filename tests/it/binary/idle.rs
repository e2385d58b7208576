//! What a program that ends reports of uses.

use super::Running;
use crate::fake_kube::cluster::resource::Resource;
use crate::harness::{NAMESPACE, PREFIX, TestEnvironment, eventually};

/// The report of the only replica.
fn report(environment: &TestEnvironment) -> Option<String> {
    let leases = environment.kube.all(Resource::Leases, NAMESPACE);
    let report = &leases.first()?["metadata"]["annotations"][format!("{PREFIX}uses")];
    report.as_str().map(str::to_owned)
}

/// Its interval of reports is half a minute; it does not take the last uses with it.
#[test]
fn the_last_uses_are_reported_before_the_program_ends() {
    let environment = TestEnvironment::builder()
        .annotation("idle-timeout", "10m")
        .unstarted()
        .start();
    let running = Running::start(&environment.kubeconfig());
    running.wait_ready();
    running.client.get("/app/hello/ann").expect(200);
    let first = eventually("the first report is made", || report(&environment));
    running.client.get("/app/hello/bob").expect(200);
    let json = [("Content-Type", "application/json")];
    let path = "/app/hello/bob/heartbeat";
    let beaten = running.client.begin("PUT", path, &json, r#"{"for": "1h"}"#);
    beaten.finish().expect(200);
    running.signal("TERM");
    let (status, log) = running.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    let last = report(&environment).expect("the Lease is kept");
    assert_ne!(last, first, "{log}");
    assert!(last.contains(" -3600:"), "{last}");
}
