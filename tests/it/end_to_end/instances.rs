//! The list of all instances with real objects, and stops of many.

use std::time::Instant;

use serde_json::{Value, json};

use super::environment::{STAND_IN, TestEnvironment};
use super::failing_pods::{on_failure, with_env};
use super::program::Program;
use super::{LONG_WAIT, eventually};
use crate::cluster;

/// How many instances are stopped by one request.
const MANY: usize = 200;

/// A DELETE of many that waits for their end.
fn stop(program: &Program, query: &str) -> Value {
    let path = format!("/instances?{query}");
    let got = program.try_send("DELETE", &path, "wait=120", "");
    got.expect("the connection stays").expect(200)
}

#[test]
#[ignore = "needs a cluster"]
fn instances_of_a_real_node_are_listed_and_stopped() {
    let environment = TestEnvironment::shared();
    let crashes = on_failure(with_env(&[("EXIT_CODE", "3")]));
    environment.offer("crashes", "crashes", &crashes.to_string());
    let program = environment.program();
    program.get_prefer("/app/hello/ann", LONG_WAIT).expect(200);
    program
        .patch("/app/hello/ann", r#"{"team":"a"}"#)
        .expect(200);
    program.get_prefer("/app/crashes/bob", "wait=0").expect(202);
    let items = || {
        let page = program.get("/instances").expect(200);
        page["instances"].as_array().expect("a list").clone()
    };
    let crashed = eventually("it was restarted", || {
        let first = items().into_iter().next().expect("there are two");
        (first["restarts"].as_u64() > Some(0)).then_some(first)
    });
    assert_eq!(crashed["type"], "crashes");
    assert!(crashed["reason"].is_string(), "{crashed}");
    let ann = &items()[1];
    assert_eq!(ann["uid"], environment.job_uid("hello-ann"));
    assert_eq!(
        [&ann["status"], &ann["stale"]],
        [&json!("ready"), &json!(false)]
    );
    assert_eq!(ann["labels"], json!({"team": "a"}));
    assert_eq!(stop(&program, "label=team=a")["stopped"], 1);
    assert!(!environment.has_job("hello-ann") && environment.has_job("crashes-bob"));
    assert_eq!(stop(&program, "type=crashes")["stopped"], 1);
    assert!(!environment.has_job("crashes-bob"));
    assert_eq!(items(), [] as [Value; 0]);
}

#[test]
#[ignore = "needs a cluster"]
fn many_are_stopped_by_one_request() {
    let cluster = cluster::shared();
    let _beside = cluster::beside_others();
    let environment = TestEnvironment::new(cluster);
    environment.offer("stand-in", "stand-in", STAND_IN);
    environment.offer("other", "other", STAND_IN);
    let program = environment.program();
    program.get_prefer("/app/other/x", LONG_WAIT).expect(200);
    std::thread::scope(|scope| {
        for client in 0..10 {
            let program = &program;
            scope.spawn(move || {
                for number in (client..MANY).step_by(10) {
                    let path = format!("/app/stand-in/n{number}");
                    program.get_prefer(&path, LONG_WAIT).expect(200);
                }
            });
        }
    });
    let begun = Instant::now();
    let counts = stop(&program, "type=stand-in&status=ready");
    let took = begun.elapsed();
    assert_eq!(
        counts,
        json!({"stopped": MANY, "stopping": 0, "left": 0, "failed": 0})
    );
    assert_eq!(environment.list("jobs").len(), 1);
    let millis = took.as_millis();
    cluster::print_line(&format!(
        "FIGURE {MANY} instances are gone {millis} ms after one DELETE"
    ));
}
