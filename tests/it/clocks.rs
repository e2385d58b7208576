//! Replicas whose clocks differ from that of the API server, which the `Date` of its responses shows.

use std::time::Duration;

use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::harness::{Builder, TestEnvironment, eventually};

/// Apps that exit with code 3 at once; no replica runs yet.
fn crashing() -> Builder {
    let exit = Exit {
        after_ms: 0,
        code: 3,
        reason: String::new(),
        message: String::new(),
    };
    TestEnvironment::builder()
        .pod_script(PodScript {
            exit: Some(exit),
            ..PodScript::default()
        })
        .setting("START_WAIT", "300s")
        .unstarted()
}

fn has_failed(environment: &TestEnvironment) {
    let body = environment.get("/app/hello/ann").expect(202);
    assert_eq!(body["status"], "app_error", "{body}");
}

/// Each replica sees the failure of an instance in the past, with its own clock.
#[test]
fn the_restart_delay_does_not_depend_on_the_clock_of_a_replica() {
    for offset in [70, -300, 86_400] {
        let mut environment = crashing().start();
        environment.clock.set_offset_secs(offset);
        environment.add_replica();
        environment.wait_ready(0);
        has_failed(&environment);
        environment.advance(Duration::from_secs(2));
        // It has seen neither the start nor the failure.
        let late = environment.add_replica();
        environment.wait_ready(late);
        for replica in [0, late] {
            let body = environment
                .replica(replica)
                .get("/app/hello/ann")
                .expect(202);
            assert_eq!(body["status"], "app_error", "{offset}: {body}");
        }
        assert_eq!(environment.kube.count("create", "jobs"), 1, "{offset}");
        environment
            .kube
            .set_pod_script("hello-ann", PodScript::default());
        environment.advance(Duration::from_secs(9));
        environment.replica(late).get("/app/hello/ann").expect(200);
        assert_eq!(environment.kube.count("create", "jobs"), 2, "{offset}");
    }
}

/// As reported by its metric.
fn offset_secs(environment: &TestEnvironment) -> f64 {
    let text = environment.get("/metrics").text;
    let name = "config_controller_clock_offset_seconds ";
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    let value = value.expect("the metric is there");
    value.parse().expect("its value is a number")
}

#[test]
fn the_offset_of_the_clock_is_measured() {
    for offset in [0, 62, -300] {
        let mut environment = TestEnvironment::builder().unstarted().start();
        environment.clock.set_offset_secs(offset);
        environment.add_replica();
        environment.wait_ready(0);
        let exact = f64::from(i32::try_from(offset).expect("it is small"));
        let error = offset_secs(&environment) - exact;
        assert!(error.abs() < 1.1, "{offset}: {error}");
        // The clock of the machine jumps, and a time server sets it right.
        environment.clock.set_offset_secs(offset + 3600);
        let jumped = offset_secs(&environment) - exact - 3600.0;
        assert!(jumped.abs() < 1.1, "{offset}: {jumped}");
        environment.clock.set_offset_secs(0);
        eventually("the clocks agree", || {
            (offset_secs(&environment).abs() < 1.1).then_some(())
        });
    }
}
