//! Stories of one name, told by its desk: what happened, what was called and who heard what.

mod calls;
mod ends;
mod intents;
mod overdue;
mod stops;

use crate::app::fixture::{Scene, exists, key, n1, waiting_pod};
use crate::app::flight::Outcome;
use serde_json::json;

const NOTHING: [&str; 0] = [];

/// A scene in which request 1 has begun a start and the Job `u1` is there.
fn starting() -> Scene {
    let mut scene = Scene::new();
    assert_eq!(scene.get(1), ["call create for ann"]);
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), NOTHING);
    scene
}

/// A scene in which the Job `u1` has failed at T0 + `secs`, and everybody knows.
fn failed_after(secs: f64) -> Scene {
    let mut scene = Scene::new();
    scene.pass(secs);
    scene.world.ended("u1", "Failed", json!({}));
    scene.changed();
    scene
}

#[test]
fn one_create_and_the_address_for_all_hundred_who_ask() {
    let mut scene = Scene::new();
    assert_eq!(scene.get(1), ["call create for ann"]);
    for n in 2..=100 {
        assert_eq!(scene.get(n), NOTHING);
    }
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), NOTHING);
    scene.world.ready("u1", "10.0.0.1");
    let answers: Vec<String> = (1..=100).map(|n| format!("{n}: ready 10.0.0.1")).collect();
    assert_eq!(scene.changed(), answers);
    scene.check_empty();
}

#[test]
fn a_pod_of_another_uid_is_nobodys_answer() {
    let mut scene = starting();
    scene.world.ready("u0", "10.0.0.9");
    assert_eq!(scene.changed(), NOTHING);
}

#[test]
fn already_exists_is_looked_at_and_joined() {
    let mut scene = Scene::new();
    scene.get(1);
    assert_eq!(scene.fails(exists()), ["call read"]);
    scene.world.job("u7", json!({}));
    assert_eq!(scene.done(), NOTHING);
    scene.world.ready("u7", "10.0.0.7");
    assert_eq!(scene.changed(), ["1: ready 10.0.0.7"]);
    scene.check_empty();
}

#[test]
fn already_exists_on_its_way_out_is_waited_for() {
    let mut scene = Scene::new();
    scene.get(1);
    scene.fails(exists());
    scene.world.deleting("u7");
    assert_eq!(scene.done(), NOTHING);
    assert_eq!(scene.get(2), NOTHING);
    scene.world.job_gone("u7");
    assert_eq!(scene.changed(), ["call create for ann"]);
    scene.world.job("u8", json!({}));
    scene.world.ready("u8", "10.0.0.8");
    assert_eq!(scene.done(), ["1: ready 10.0.0.8", "2: ready 10.0.0.8"]);
}

#[test]
fn already_exists_that_is_none_of_ours() {
    let mut scene = Scene::new();
    scene.get(1);
    scene.fails(exists());
    assert_eq!(scene.ends(Outcome::Foreign), ["1: NameTaken"]);
    scene.check_empty();
    // Next time it is looked at again.
    assert_eq!(scene.get(2), ["call create for ann"]);
}

#[test]
fn a_job_of_another_pair_has_the_name() {
    let mut scene = Scene::new();
    // scim/n1-x and scim-n1/x share a Job name.
    scene.world.job_of(&key("scim-n1", "x"), "u1", json!({}));
    assert_eq!(
        scene.get_of(1, &key("scim", "n1-x"), "", 10),
        ["1: NameTaken"]
    );
    scene.check_empty();
}

#[test]
fn already_exists_and_gone_again() {
    let mut scene = Scene::new();
    scene.get(1);
    scene.fails(exists());
    assert_eq!(scene.ends(Outcome::Absent), ["call create for ann"]);
}

#[test]
fn view_and_api_server_that_disagree_make_no_storm() {
    let mut scene = Scene::new();
    scene.get(1);
    for _ in 0..3 {
        assert_eq!(scene.fails(exists()), ["call read"]);
        assert_eq!(scene.ends(Outcome::Absent), ["call create for ann"]);
    }
    assert_eq!(scene.fails(exists()), NOTHING);
    assert_eq!(scene.pass(0.1), ["call read"]);
}

#[test]
fn no_wait_starts_all_the_same() {
    let mut scene = Scene::new();
    assert_eq!(
        scene.get_of(1, &n1(), "", 0),
        ["call create for ann", "1: node_not_ready Admitting"]
    );
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), NOTHING);
    scene.check_empty();
}

#[test]
fn who_hangs_up_is_forgotten_and_what_it_started_goes_on() {
    let mut scene = Scene::new();
    scene.get(1);
    assert_eq!(scene.hang_up(1), NOTHING);
    scene.world.job("u1", json!({}));
    assert_eq!(scene.done(), NOTHING);
    scene.check_empty();
    assert_eq!(scene.stop(2), ["call delete u1 for bob"]);
    assert_eq!(scene.hang_up(2), NOTHING);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), NOTHING);
    scene.check_empty();
}

#[test]
fn at_the_end_of_the_service_who_waits_hears_how_far_it_is() {
    let mut scene = starting();
    scene.world.pod("u1", waiting_pod("ContainerCreating"));
    scene.changed();
    assert_eq!(scene.drain(), ["1: pulling_image ContainerCreating"]);
    assert_eq!(scene.get(3), ["3: Draining"]);
    scene.check_empty();
    let mut scene = failed_after(60.0);
    scene.get(1);
    assert_eq!(scene.drain(), ["1: app_error BackoffLimitExceeded"]);
}

#[test]
fn at_the_end_of_the_service_changes_have_a_while_to_be_made() {
    let ready = || {
        let mut scene = starting();
        scene.world.ready("u1", "10.0.0.1");
        scene.changed();
        scene
    };
    // One call is under way, and another label waits for it.
    let mut scene = ready();
    scene.label(2);
    scene.label(3);
    assert_eq!(scene.drain(), NOTHING);
    assert_eq!(scene.done()[0], "2: done");
    assert_eq!(scene.done(), ["3: done"]);
    scene.check_empty();
    // Who waits for the Job to be gone hears that it is on its way.
    let mut scene = ready();
    scene.stop_and_wait(4, Some(60));
    assert_eq!(scene.drain(), NOTHING);
    scene.world.deleting("u1");
    assert_eq!(scene.done(), ["4: node_not_ready Stopping"]);
    scene.check_empty();
    // What Kubernetes does not answer in time is not waited for.
    let mut scene = ready();
    scene.label(5);
    assert_eq!(scene.drain(), NOTHING);
    assert_eq!(scene.pass(4.0), NOTHING);
    assert_eq!(scene.pass(1.0), ["5: Unavailable"]);
    // Nor is a pod.
    let mut scene = starting();
    scene.label(6);
    assert_eq!(scene.drain(), ["1: node_not_ready NoPod", "6: Draining"]);
    scene.check_empty();
}
