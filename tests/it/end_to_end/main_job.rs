//! The main job: find, start, list, label and stop instances, as real pods.

use std::time::Instant;

use serde_json::json;

use super::environment::TestEnvironment;
use super::program::page;
use super::{LONG_WAIT, eventually};
use crate::cluster;

#[test]
#[ignore = "needs a cluster"]
fn an_instance_is_found_started_listed_labelled_and_stopped() {
    let environment = TestEnvironment::shared();
    let program = environment.program();

    assert_eq!(
        program.get("/app").expect(200),
        json!(["fails", "hello", "slow"])
    );
    let unknown = program.get("/app/nope/ann").expect(404);
    assert_eq!(
        unknown["msg"],
        "unknown app type 'nope'; known types: fails, hello, slow"
    );

    let ip = program.get_prefer("/app/hello/ann", LONG_WAIT).ip();
    assert_eq!(page(ip), "hello/ann");
    assert_eq!(environment.owner_of(ip), environment.job_uid("hello-ann"));
    assert_eq!(program.get("/app/hello/ann").expect(200), json!({"ip": ip}));

    let list = program.get("/app/hello").expect(200);
    let start = list[0]["start"].clone();
    assert!(start.is_f64(), "{list}");
    let entry = json!({
        "ip": ip, "name": "ann", "sessionID": "ann", "hostname": "ann", "addr": ip,
        "errored": false, "start": start,
    });
    assert_eq!(list, json!([entry]));

    let labelled = program.patch("/app/hello/ann", r#"{"username": "Ann Ä", "team": "red"}"#);
    assert_eq!(labelled.expect(200), json!({"status": "Success"}));
    let found = json!({"ip": ip, "username": "Ann Ä", "team": "red"});
    assert_eq!(program.get("/app/hello/ann").expect(200), found);
    assert_eq!(
        program.get("/app/hello").expect(200)[0]["username"],
        "Ann Ä"
    );

    let stopped = program.delete("/app/hello/ann");
    assert_eq!(stopped.expect(200), json!({"status": "Success"}));
    eventually("the list is empty", || {
        program.names("hello").is_empty().then_some(())
    });
    eventually("the pod is gone", || {
        environment.list("pods").is_empty().then_some(())
    });
    assert_eq!(program.delete("/app/hello/ann").code, 404);
    assert_eq!(program.patch("/app/hello/ann", "{}").code, 404);
    assert!(
        environment.list("jobs").is_empty(),
        "a PATCH starts nothing"
    );
}

#[test]
#[ignore = "needs a cluster"]
fn a_start_takes_as_long_as_the_pod_does() {
    let cluster = cluster::shared();
    let _alone = cluster::alone();
    let environment = TestEnvironment::new(cluster);
    let program = environment.program();
    let mut millis: Vec<u128> = (0..5)
        .map(|number| {
            let began = Instant::now();
            let path = format!("/app/hello/timed-{number}");
            program.get_prefer(&path, LONG_WAIT).ip();
            began.elapsed().as_millis()
        })
        .collect();
    millis.sort_unstable();
    cluster::print_line(&format!(
        "FIGURE from GET to the address of a new, ready, real pod: {} ms at least, {} ms median, {} ms at most of {}",
        millis[0],
        millis[2],
        millis[4],
        millis.len()
    ));
}

#[test]
#[ignore = "needs a cluster"]
fn an_instance_that_cannot_start_is_reported_with_its_reason() {
    let environment = TestEnvironment::shared();
    let variables = [("EXIT_CODE", "7"), ("EXIT_MESSAGE", "no licence")];
    environment.offer(
        "failing",
        "failing",
        &super::environment::real("", 1, &variables),
    );
    let program = environment.program();
    let failed = program
        .get_prefer("/app/failing/ann", LONG_WAIT)
        .expect(202);
    assert_eq!(failed["status"], "app_error", "{failed}");
    assert_eq!(failed["exitCode"], 7, "{failed}");
    assert_eq!(failed["log"], "no licence", "{failed}");
}

#[test]
#[ignore = "needs a cluster"]
fn invalid_requests_change_nothing() {
    let environment = TestEnvironment::shared();
    let program = environment.program();
    let version = environment.version("jobs");
    let long = "a".repeat(300);
    for (path, code) in [
        (format!("/app/hello/{long}"), 422),
        ("/app/hello/..".into(), 422),
        ("/app/hello/%2e%2e".into(), 422),
        ("/app/hello/a%00b".into(), 422),
        ("/app/hello/a%2Fb".into(), 404),
        ("/app/hello/../../info".into(), 404),
    ] {
        let got = program.get(&path);
        assert_eq!(got.code, code, "{path}: {}", got.body);
    }
    let patch = program.patch("/app/hello/ann", "{\"username\": ");
    assert_eq!(patch.code, 422, "{}", patch.body);
    assert_eq!(
        environment.events_since("jobs", &version),
        Vec::<serde_json::Value>::new()
    );
}
