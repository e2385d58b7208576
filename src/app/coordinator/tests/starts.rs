//! One name from its first request on: responses and their time, and what continues without
//! callers.

use super::{NOTHING, failed_after, starting};
use crate::app::api_call::CallOutcome;
use crate::app::fixture::{Fixture, exists, key, n1, ready_pod, waiting_pod};
use serde_json::json;
use std::time::Duration;

#[test]
fn a_hundred_requests_cause_one_create_and_get_its_address() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get(1), ["call create for ann"]);
    for n in 2..=100 {
        assert_eq!(fixture.get(n), NOTHING);
    }
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.ready("u1", "10.0.0.1");
    let responses: Vec<String> = (1..=100).map(|n| format!("{n}: ready 10.0.0.1")).collect();
    assert_eq!(fixture.changed(), responses);
    fixture.check_idle();
}

#[test]
fn a_pod_of_another_uid_resolves_no_waiter() {
    let mut fixture = starting();
    fixture.world.ready("u0", "10.0.0.9");
    assert_eq!(fixture.changed(), NOTHING);
}

#[test]
fn an_existing_job_is_read_and_joined() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.fails(exists()), ["call read"]);
    fixture.world.job("u7", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.ready("u7", "10.0.0.7");
    assert_eq!(fixture.changed(), ["1: ready 10.0.0.7"]);
    fixture.check_idle();
}

#[test]
fn an_existing_job_that_is_being_deleted_is_waited_for() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(exists());
    fixture.world.deleting("u7");
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.get(2), NOTHING);
    fixture.world.job_gone("u7");
    assert_eq!(fixture.changed(), ["call create for ann"]);
    fixture.world.job("u8", json!({}));
    fixture.world.ready("u8", "10.0.0.8");
    assert_eq!(fixture.done(), ["1: ready 10.0.0.8", "2: ready 10.0.0.8"]);
}

#[test]
fn an_existing_job_of_another_owner_is_a_name_conflict() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(exists());
    assert_eq!(fixture.ends(CallOutcome::NameConflict), ["1: NameTaken"]);
    fixture.check_idle();
    // The next request tries again.
    assert_eq!(fixture.get(2), ["call create for ann"]);
}

#[test]
fn a_job_of_another_pair_is_a_name_conflict() {
    let mut fixture = Fixture::new();
    // scim/n1-x and scim-n1/x share a Job name.
    fixture.world.job_of(&key("scim-n1", "x"), "u1", json!({}));
    assert_eq!(
        fixture.get_of(1, &key("scim", "n1-x"), "", 10),
        ["1: NameTaken"]
    );
    fixture.check_idle();
}

/// The read for one instance shows that the Job of the other is gone.
#[test]
fn waiters_of_a_job_that_a_read_for_another_pair_has_removed_are_answered() {
    let (one, other) = (key("scim", "n1-x"), key("scim-n1", "x"));
    let mut fixture = Fixture::new();
    fixture.get_of(1, &one, "", 10);
    let called = fixture.ends_of(&one, CallOutcome::Failed(exists()));
    assert_eq!(called, ["call read"]);
    fixture.world.job_of(&other, "u1", json!({}));
    assert_eq!(fixture.find_of(2, &other), NOTHING);
    fixture.world.job_gone_of(&other, "u1");
    let answers = fixture.ends_of(&one, CallOutcome::Absent);
    assert_eq!(answers, ["call create for ann", "2: Stopped"]);
}

#[test]
fn a_job_that_exists_and_is_gone_again_is_created() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(exists());
    assert_eq!(fixture.ends(CallOutcome::Absent), ["call create for ann"]);
}

#[test]
fn a_cache_that_disagrees_with_the_api_server_causes_back_off() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    for _ in 0..3 {
        assert_eq!(fixture.fails(exists()), ["call read"]);
        assert_eq!(fixture.ends(CallOutcome::Absent), ["call create for ann"]);
    }
    assert_eq!(fixture.fails(exists()), NOTHING);
    // Kubernetes can be reached.
    let progress = "2: node_not_ready Admitting";
    assert_eq!(fixture.get_of(2, &n1(), "", 0), [progress]);
    assert_eq!(fixture.pass(0.1), ["call read"]);
    let progress = "3: node_not_ready Admitting";
    assert_eq!(fixture.get_of(3, &n1(), "", 0), [progress]);
}

#[test]
fn a_request_without_wait_starts_the_instance() {
    let mut fixture = Fixture::new();
    assert_eq!(
        fixture.get_of(1, &n1(), "", 0),
        ["call create for ann", "1: node_not_ready Admitting"]
    );
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.check_idle();
}

#[test]
fn an_abandoned_request_is_forgotten_and_its_call_continues() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    assert_eq!(fixture.hang_up(1), NOTHING);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.check_idle();
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    assert_eq!(fixture.hang_up(2), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), NOTHING);
    fixture.check_idle();
}

#[test]
fn on_drain_waiters_get_the_progress() {
    let mut fixture = starting();
    fixture.world.pod("u1", waiting_pod("ContainerCreating"));
    fixture.changed();
    assert_eq!(fixture.drain(), ["1: pulling_image ContainerCreating"]);
    assert_eq!(fixture.get(3), ["3: Draining"]);
    fixture.check_idle();
    let mut fixture = failed_after(60.0);
    fixture.get(1);
    assert_eq!(fixture.drain(), ["1: app_error BackoffLimitExceeded"]);
}

#[test]
fn on_drain_changes_have_a_grace_period() {
    let ready = || {
        let mut fixture = starting();
        fixture.world.ready("u1", "10.0.0.1");
        fixture.changed();
        fixture
    };
    // One call is under way, and another label waits for it.
    let mut fixture = ready();
    fixture.label(2);
    fixture.label(3);
    assert_eq!(fixture.drain(), NOTHING);
    assert_eq!(fixture.done()[0], "2: done");
    assert_eq!(fixture.done(), ["3: done"]);
    fixture.check_idle();
    // A waiter for the end of the Job gets its progress.
    let mut fixture = ready();
    fixture.stop_and_wait(4, Some(60));
    assert_eq!(fixture.drain(), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["4: node_not_ready Stopping"]);
    fixture.check_idle();
    // A call without a response in time is abandoned.
    let mut fixture = ready();
    fixture.label(5);
    assert_eq!(fixture.drain(), NOTHING);
    assert_eq!(fixture.pass(4.0), NOTHING);
    assert_eq!(fixture.pass(1.0), ["5: Unavailable"]);
    // Nor is a pod.
    let mut fixture = starting();
    fixture.label(6);
    assert_eq!(fixture.drain(), ["1: node_not_ready NoPod", "6: Draining"]);
    fixture.check_idle();
}

/// An app without a probe is ready as soon as it runs, and fails a moment later.
#[test]
fn with_min_ready_callers_wait_until_the_app_has_been_ready_for_so_long() {
    let wants =
        json!({"metadata": {"annotations": {"config-controller.semafor.ch/min-ready": "3000ms"}}});
    let ready_since = |fixture: &Fixture| {
        let mut pod = ready_pod("10.0.0.1");
        pod["status"]["conditions"] = json!([
            {"type": "PodScheduled", "status": "True"},
            {"type": "Ready", "status": "True", "lastTransitionTime": fixture.world.stamp()},
        ]);
        pod
    };
    let settling = || {
        let mut fixture = Fixture::new();
        fixture.get(1);
        fixture.world.job("u1", wants.clone());
        fixture.done();
        let pod = ready_since(&fixture);
        fixture.world.pod("u1", pod);
        assert_eq!(fixture.changed(), NOTHING);
        fixture
    };
    let mut fixture = settling();
    assert_eq!(fixture.pass(2.9), NOTHING);
    assert_eq!(fixture.world.cache.ready(&n1()), None);
    assert_eq!(
        fixture.get_of(2, &n1(), "", 0),
        ["2: pulling_image MinReady"]
    );
    assert_eq!(fixture.pass(0.1), ["1: ready 10.0.0.1"]);
    // From now on the cache is enough, until something changes.
    assert!(fixture.world.cache.ready(&n1()).is_some());
    assert_eq!(fixture.get(3), ["3: ready 10.0.0.1"]);
    // It was not ready for a moment, between two looks at the cache.
    fixture
        .world
        .pod("u1", json!({"status": {"conditions": []}}));
    let pod = ready_since(&fixture);
    fixture.world.pod("u1", pod);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.get(4), NOTHING);
    assert_eq!(fixture.pass(3.0), ["4: ready 10.0.0.1"]);
    let mut fixture = settling();
    fixture.pass(2.0);
    let ended = json!({"status": {"phase": "Failed", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": 3}}},
    ]}});
    fixture.world.pod("u1", ended);
    assert_eq!(fixture.changed(), ["1: app_error Error"]);
    // A replica that has just started finds it ready for long.
    let mut fixture = Fixture::new();
    fixture.world.job("u1", wants.clone());
    let pod = ready_since(&fixture);
    fixture.world.pod("u1", pod);
    // Its time is cut to whole seconds.
    fixture.world.pass(Duration::from_secs(61));
    assert_eq!(fixture.get(1), ["1: ready 10.0.0.1"]);
}

#[test]
fn while_instances_take_all_memory_no_other_is_started() {
    let mut fixture = Fixture::new();
    let ask = |fixture: &mut Fixture, n, name| fixture.get_of(n, &key("scim", name), "", 10);
    assert_eq!(ask(&mut fixture, 1, "n1"), ["call create for ann"]);
    let fill = |fixture: &Fixture, is_full: bool| {
        let memory = fixture.world.cache.index().memory();
        let bytes = if is_full {
            memory.instance_bytes_max()
        } else {
            0
        };
        memory.resize_cache(memory.cached_bytes(), bytes);
    };
    fill(&fixture, true);
    assert_eq!(ask(&mut fixture, 2, "n2"), ["2: InstancesTakeMemory"]);
    // What is being started, or is there, is not started again.
    assert_eq!(ask(&mut fixture, 3, "n1"), NOTHING);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.get(4), NOTHING);
    assert_eq!(fixture.stop(5), ["call delete u1 for bob"]);
    fill(&fixture, false);
    assert_eq!(ask(&mut fixture, 6, "n2"), ["call create for ann"]);
}
