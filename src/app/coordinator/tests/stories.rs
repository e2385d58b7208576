//! One name from its first request on: who is answered when, and what goes on without callers.

use super::{NOTHING, failed_after, starting};
use crate::app::api_call::CallOutcome;
use crate::app::fixture::{Fixture, exists, key, n1, waiting_pod};
use serde_json::json;

#[test]
fn one_create_and_the_address_for_all_hundred_who_ask() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get(1), ["call create for ann"]);
    for n in 2..=100 {
        assert_eq!(fixture.get(n), NOTHING);
    }
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture.world.ready("u1", "10.0.0.1");
    let answers: Vec<String> = (1..=100).map(|n| format!("{n}: ready 10.0.0.1")).collect();
    assert_eq!(fixture.changed(), answers);
    fixture.check_idle();
}

#[test]
fn a_pod_of_another_uid_is_nobodys_answer() {
    let mut fixture = starting();
    fixture.world.ready("u0", "10.0.0.9");
    assert_eq!(fixture.changed(), NOTHING);
}

#[test]
fn already_exists_is_looked_at_and_joined() {
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
fn already_exists_on_its_way_out_is_waited_for() {
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
fn already_exists_that_is_none_of_ours() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(exists());
    assert_eq!(fixture.ends(CallOutcome::NameConflict), ["1: NameTaken"]);
    fixture.check_idle();
    // Next time it is looked at again.
    assert_eq!(fixture.get(2), ["call create for ann"]);
}

#[test]
fn a_job_of_another_pair_has_the_name() {
    let mut fixture = Fixture::new();
    // scim/n1-x and scim-n1/x share a Job name.
    fixture.world.job_of(&key("scim-n1", "x"), "u1", json!({}));
    assert_eq!(
        fixture.get_of(1, &key("scim", "n1-x"), "", 10),
        ["1: NameTaken"]
    );
    fixture.check_idle();
}

#[test]
fn already_exists_and_gone_again() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(exists());
    assert_eq!(fixture.ends(CallOutcome::Absent), ["call create for ann"]);
}

#[test]
fn view_and_api_server_that_disagree_make_no_storm() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    for _ in 0..3 {
        assert_eq!(fixture.fails(exists()), ["call read"]);
        assert_eq!(fixture.ends(CallOutcome::Absent), ["call create for ann"]);
    }
    assert_eq!(fixture.fails(exists()), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call read"]);
}

#[test]
fn no_wait_starts_all_the_same() {
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
fn who_hangs_up_is_forgotten_and_what_it_started_goes_on() {
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
fn at_the_end_of_the_service_who_waits_hears_how_far_it_is() {
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
fn at_the_end_of_the_service_changes_have_a_while_to_be_made() {
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
    // Who waits for the Job to be gone hears that it is on its way.
    let mut fixture = ready();
    fixture.stop_and_wait(4, Some(60));
    assert_eq!(fixture.drain(), NOTHING);
    fixture.world.deleting("u1");
    assert_eq!(fixture.done(), ["4: node_not_ready Stopping"]);
    fixture.check_idle();
    // What Kubernetes does not answer in time is not waited for.
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
