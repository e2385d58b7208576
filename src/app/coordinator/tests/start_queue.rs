//! Starts that wait for a place: who gets it, and who hears what.

use super::NOTHING;
use super::admissions::undecided;
use crate::app::api_call::CallOutcome;
use crate::app::coordinator::Limits;
use crate::app::fixture::{Fixture, ROOMY, key, n1, uid, unavailable};
use crate::kube::error::Verb;
use crate::model::names::InstanceKey;
use serde_json::{Value, json};

const PREFIX: &str = "config-controller.semafor.ch/";

fn scim(name: &str) -> InstanceKey {
    key("scim", name)
}

/// Each start is about the name of its number.
fn name(n: u64) -> InstanceKey {
    scim(&format!("m{n}"))
}

impl Fixture {
    fn start(&mut self, n: u64, wait_secs: u64) -> Vec<String> {
        let mut lines = self.get_of(n, &name(n), "", wait_secs);
        lines.extend(self.tick());
        lines
    }

    /// The watch shows this Job, and the call that creates it has ended.
    fn made(&mut self, n: u64, patch: &Value) -> Vec<String> {
        let job = format!("u{n}");
        self.world.job_of(&name(n), &job, patch.clone());
        let mut lines = self.ends_of(&name(n), CallOutcome::Created(uid(&job), "1".into()));
        lines.extend(self.tick());
        lines
    }

    fn is_ready(&mut self, n: u64) -> Vec<String> {
        self.world.ready(&format!("u{n}"), &format!("10.0.0.{n}"));
        self.has_changed(n)
    }

    fn is_gone(&mut self, n: u64) -> Vec<String> {
        self.world.job_gone_of(&name(n), &format!("u{n}"));
        self.has_changed(n)
    }

    fn has_changed(&mut self, n: u64) -> Vec<String> {
        use crate::app::coordinator::{CacheChange, Input};
        let gone = self.take_gone().into_iter().next();
        let change = CacheChange {
            gone,
            ..CacheChange::of(name(n))
        };
        let mut lines = self.step(Input::Changed(vec![change]));
        lines.extend(self.tick());
        lines
    }
}

fn at_most(max_starting: u32) -> Fixture {
    Fixture::with_limits(Limits {
        max_starting: Some(max_starting),
        ..ROOMY
    })
}

/// So many instances of a type may run, and so many do.
fn capped(cap: u32, there: u32) -> Fixture {
    let mut fixture = Fixture::new();
    fixture
        .world
        .offer(json!({format!("{PREFIX}max-instances"): cap.to_string()}));
    for number in 0..there {
        let name = format!("there{number}");
        fixture.world.job_of(&scim(&name), &name, json!({}));
    }
    fixture.is_patient = true;
    fixture
}

/// The same, while it is being deleted.
fn undecided_deleting() -> Value {
    let mut job = undecided();
    job["metadata"]["deletionTimestamp"] = "2026-05-01T10:00:00Z".into();
    job
}

fn free(fixture: &mut Fixture, number: u32) -> Vec<String> {
    let name = format!("there{number}");
    fixture.world.job_gone_of(&scim(&name), &name);
    fixture.take_gone();
    fixture.tick()
}

#[test]
fn so_many_starts_are_in_progress_and_others_begin_in_their_order() {
    let mut fixture = at_most(2);
    let create = ["call create for ann"];
    assert_eq!(fixture.start(1, 100), create);
    assert_eq!(fixture.start(2, 100), create);
    for n in 3..6 {
        assert_eq!(fixture.start(n, 100), NOTHING);
    }
    assert_eq!(fixture.coordinator.starts(), [3, 2]);
    // A Job that was created is in progress until it is ready.
    assert_eq!(fixture.made(2, &json!({})), NOTHING);
    assert_eq!(fixture.is_ready(2), ["2: ready 10.0.0.2", create[0]]);
    assert_eq!(fixture.made(3, &json!({})), NOTHING);
    assert_eq!(fixture.coordinator.starts(), [2, 2]);
    // One that is gone is not in progress.
    assert_eq!(fixture.is_gone(3), ["3: Stopped", create[0]]);
    assert_eq!(fixture.made(4, &json!({})), NOTHING);
    assert_eq!(fixture.is_ready(4), ["4: ready 10.0.0.4", create[0]]);
    assert_eq!(fixture.made(5, &json!({})), NOTHING);
    assert_eq!(fixture.coordinator.starts(), [0, 2]);
}

/// The numbers of starts in progress were the same then as when the one before it was looked at.
#[test]
fn a_newcomer_does_not_overtake_between_two_looks() {
    let mut fixture = at_most(2);
    for n in 1..5 {
        fixture.start(n, 100);
    }
    fixture.made(1, &json!({}));
    fixture.made(2, &json!({}));
    assert_eq!(
        fixture.is_ready(1),
        ["1: ready 10.0.0.1", "call create for ann"]
    );
    fixture.world.ready("u2", "10.0.0.2");
    let change = crate::app::coordinator::CacheChange::of(name(2));
    let ready = fixture.step(crate::app::coordinator::Input::Changed(vec![change]));
    assert_eq!(ready, ["2: ready 10.0.0.2"]);
    assert_eq!(fixture.get_of(9, &name(9), "", 100), NOTHING);
    assert_eq!(fixture.tick(), ["call create for ann"]);
    assert_eq!(fixture.coordinator.starts(), [1, 2]);
}

/// Else twenty images that cannot be pulled would stop all starts.
#[test]
fn a_start_that_is_reported_as_failing_makes_room() {
    let mut fixture = at_most(1);
    fixture.start(1, 1000);
    fixture.made(1, &json!({}));
    assert_eq!(fixture.start(2, 1000), NOTHING);
    let lines = fixture.pass(400.0);
    assert!(
        lines.contains(&"call create for ann".to_owned()),
        "{lines:?}"
    );
    // It goes on, and is not counted again.
    let waiting = json!({"status": {"phase": "Pending"}});
    fixture.world.pod("u1", waiting);
    assert_eq!(fixture.has_changed(1), NOTHING);
    assert_eq!(fixture.coordinator.starts(), [0, 1]);
}

#[test]
fn a_queued_start_hears_of_its_position_and_keeps_its_place() {
    let mut fixture = at_most(1);
    fixture.start(1, 1000);
    fixture.made(1, &json!({}));
    fixture.start(2, 5);
    fixture.start(3, 100);
    assert_eq!(fixture.start(4, 0), ["4: node_not_ready Queued 3"]);
    assert_eq!(fixture.pass(6.0), ["2: node_not_ready Queued 1"]);
    // Both ask again, and nobody has overtaken them.
    assert_eq!(
        fixture.get_of(5, &name(4), "", 0),
        ["5: node_not_ready Queued 3"]
    );
    assert_eq!(fixture.get_of(6, &name(2), "", 100), NOTHING);
    assert_eq!(
        fixture.is_ready(1),
        ["1: ready 10.0.0.1", "call create for ann"]
    );
    fixture.made(2, &json!({}));
    assert_eq!(
        fixture.is_ready(2),
        ["6: ready 10.0.0.2", "call create for ann"]
    );
}

/// But its caller has no place to keep.
#[test]
fn who_only_looks_hears_of_the_queue_too() {
    let mut fixture = at_most(1);
    fixture.start(1, 1000);
    fixture.start(2, 100);
    fixture.find_of(3, &name(2));
    assert_eq!(fixture.pass(10.0), ["3: node_not_ready Queued 1"]);
    assert_eq!(fixture.hang_up(2), NOTHING);
    assert_eq!(fixture.coordinator.starts(), [0, 1]);
}

/// A place that waits for its caller would be lost to other replicas, and to those behind.
#[test]
fn a_start_whose_caller_is_to_ask_again_begins_without_it() {
    let mut fixture = at_most(1);
    fixture.start(1, 1000);
    fixture.made(1, &json!({}));
    assert_eq!(fixture.start(2, 0), ["2: node_not_ready Queued 1"]);
    assert_eq!(fixture.start(3, 100), NOTHING);
    assert_eq!(
        fixture.is_ready(1),
        ["1: ready 10.0.0.1", "call create for ann"]
    );
    fixture.made(2, &json!({}));
    fixture.pass(9.0);
    assert_eq!(fixture.is_ready(2), ["call create for ann"], "3 is next");
    let now = fixture.get_of(4, &name(2), "", 0);
    assert_eq!(now, ["4: ready 10.0.0.2"]);
}

#[test]
fn a_place_is_kept_for_its_time_and_then_lost() {
    let mut fixture = at_most(1);
    fixture.start(1, 1000);
    fixture.made(1, &json!({}));
    assert_eq!(fixture.start(2, 0), ["2: node_not_ready Queued 1"]);
    assert_eq!(fixture.start(3, 100), NOTHING);
    assert_eq!(fixture.pass(9.9), NOTHING);
    // Asking again keeps it anew, and once.
    assert_eq!(fixture.start(4, 0), ["4: node_not_ready Queued 3"]);
    assert_eq!(
        fixture.get_of(5, &name(2), "", 0),
        ["5: node_not_ready Queued 1"]
    );
    assert_eq!(fixture.coordinator.holders(), 4);
    assert_eq!(fixture.pass(9.9), NOTHING);
    assert_eq!(fixture.coordinator.starts(), [3, 1]);
    assert_eq!(fixture.pass(0.2), NOTHING);
    assert_eq!(fixture.coordinator.starts(), [1, 1]);
    assert_eq!(fixture.start(6, 0).len(), 1);
    assert_eq!(
        fixture.is_ready(1),
        ["1: ready 10.0.0.1", "call create for ann"]
    );
}

#[test]
fn a_stop_ends_the_start_that_waits_for_a_place() {
    let mut fixture = at_most(1);
    fixture.start(1, 1000);
    fixture.made(1, &json!({}));
    fixture.get_of(2, &n1(), "", 100);
    fixture.get_of(3, &n1(), "", 0);
    assert_eq!(fixture.stop(4), ["call read"]);
    assert_eq!(fixture.get_of(5, &n1(), "", 100), NOTHING);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["2: Stopped", "4: done"]);
    // What came after the stop goes on.
    assert_eq!(fixture.coordinator.starts(), [1, 1]);
    assert_eq!(fixture.stop(6), ["call read"]);
    assert_eq!(fixture.ends(CallOutcome::Absent), ["5: Stopped", "6: done"]);
    assert_eq!(fixture.coordinator.starts(), [0, 1]);
}

#[test]
fn who_does_not_wait_for_a_place_does_not_take_it_from_a_queued_start_of_its_name() {
    let mut fixture = capped(1, 1);
    assert_eq!(fixture.start(1, 0), ["1: node_not_ready Queued 1"]);
    assert_eq!(fixture.start(2, 0), ["2: node_not_ready Queued 2"]);
    fixture.is_patient = false;
    assert_eq!(fixture.get_of(3, &name(1), "", 100), ["3: NoPlace"]);
    fixture.is_patient = true;
    assert_eq!(
        fixture.get_of(4, &name(1), "", 0),
        ["4: node_not_ready Queued 1"]
    );
}

#[test]
fn a_caller_that_hangs_up_leaves_the_queue() {
    let mut fixture = at_most(1);
    fixture.start(1, 1000);
    fixture.made(1, &json!({}));
    fixture.start(2, 100);
    fixture.start(3, 100);
    assert_eq!(fixture.hang_up(2), NOTHING);
    assert_eq!(fixture.coordinator.starts(), [1, 1]);
    assert_eq!(
        fixture.is_ready(1),
        ["1: ready 10.0.0.1", "call create for ann"]
    );
}

/// A place that is kept counts as a request that waits.
#[test]
fn as_many_places_are_kept_as_requests_may_wait() {
    let mut fixture = Fixture::with_limits(Limits {
        max_starting: Some(1),
        parked_max: 3,
        ..ROOMY
    });
    fixture.start(1, 1000);
    for n in 2..4 {
        fixture.start(n, 0);
    }
    assert_eq!(fixture.start(4, 0), ["4: TooManyRequests"]);
    assert_eq!(fixture.coordinator.starts(), [2, 1]);
    fixture.pass(10.1);
    assert_eq!(fixture.start(5, 0), ["5: node_not_ready Queued 1"]);
}

/// A name whose calls fail for ever would stop all starts.
#[test]
fn who_pauses_after_a_failed_call_holds_nobody_up() {
    let mut fixture = at_most(1);
    fixture.start(1, 100);
    fixture.start(2, 100);
    fixture.start(3, 100);
    let failed = CallOutcome::Failed(unavailable(Verb::Create));
    assert_eq!(fixture.ends_of(&name(1), failed), NOTHING);
    assert_eq!(fixture.tick(), ["call create for ann"], "2 begins");
    assert_eq!(fixture.pass(0.2), NOTHING);
    // But it is still the first.
    fixture.made(2, &json!({}));
    assert_eq!(
        fixture.is_ready(2),
        ["2: ready 10.0.0.2", "call create for ann"]
    );
    fixture.made(1, &json!({}));
    assert_eq!(
        fixture.is_ready(1),
        ["1: ready 10.0.0.1", "call create for ann"]
    );
}

#[test]
fn who_waits_for_a_place_under_a_cap_gets_it_before_a_newcomer() {
    let mut fixture = capped(2, 2);
    assert_eq!(fixture.start(1, 100), NOTHING);
    assert_eq!(fixture.start(2, 100), NOTHING);
    fixture.is_patient = false;
    assert_eq!(fixture.start(3, 100), ["3: NoPlace"], "two wait before it");
    assert_eq!(free(&mut fixture, 0), ["call create for ann"]);
    assert_eq!(fixture.start(4, 100), ["4: NoPlace"]);
    // The watch shows the Job of 1, so it does not count twice.
    assert_eq!(free(&mut fixture, 1), ["call create for ann"]);
    assert_eq!(fixture.coordinator.starts(), [0, 2]);
}

/// Whether there is a place is then decided by the order of Jobs.
#[test]
fn where_nobody_waits_a_start_that_does_not_wait_is_tried() {
    let mut fixture = capped(2, 2);
    fixture.is_patient = false;
    assert_eq!(fixture.start(1, 100), ["call create for ann"]);
    assert_eq!(fixture.start(2, 100), ["call create for ann"]);
    assert_eq!(fixture.made(1, &undecided()), ["call refuse u1 type"]);
    fixture.world.job_of(&name(1), "u1", json!({"metadata": {"deletionTimestamp": "2026-05-01T10:00:00Z"}, "spec": {"suspend": true}}));
    let lines = fixture.ends_of(&name(1), CallOutcome::Deleted { is_first: true });
    assert_eq!(lines, ["1: NoPlace"]);
}

#[test]
fn a_start_whose_place_another_replica_has_taken_is_where_it_was() {
    let mut fixture = capped(1, 1);
    assert_eq!(fixture.start(1, 20), NOTHING);
    assert_eq!(fixture.start(2, 20), NOTHING);
    assert_eq!(free(&mut fixture, 0), ["call create for ann"]);
    // Another replica was faster.
    fixture.world.job_of(&scim("other"), "other", json!({}));
    assert_eq!(fixture.made(1, &undecided()), ["call refuse u1 type"]);
    let deleting = undecided_deleting();
    fixture.world.job_of(&name(1), "u1", deleting);
    let lines = fixture.ends_of(&name(1), CallOutcome::Deleted { is_first: true });
    assert_eq!(lines, NOTHING);
    assert_eq!(fixture.is_gone(1), NOTHING);
    fixture.world.job_gone_of(&scim("other"), "other");
    fixture.take_gone();
    assert_eq!(fixture.tick(), ["call create for ann"]);
    assert_eq!(
        fixture.pass(21.0),
        ["1: node_not_ready Admitting", "2: node_not_ready Queued 1"]
    );
}

#[test]
fn a_start_that_does_not_wait_hears_at_once_when_another_of_its_name_waits() {
    let mut fixture = capped(1, 1);
    assert_eq!(fixture.start(1, 100), NOTHING);
    fixture.is_patient = false;
    assert_eq!(fixture.get_of(2, &name(1), "", 100), ["2: NoPlace"]);
    assert_eq!(fixture.find_of(3, &name(1)), NOTHING, "it waits with 1");
}

#[test]
fn who_waits_for_one_cap_does_not_hold_up_others() {
    let mut fixture = capped(1, 1);
    assert_eq!(fixture.start(1, 100), NOTHING);
    let other = fixture.get_of(2, &key("zoned", "z"), "zone=a", 100);
    assert_eq!(other, ["call create for ann"]);
}

#[test]
fn when_the_service_shuts_down_the_queue_is_answered() {
    let mut fixture = at_most(1);
    fixture.start(1, 100);
    fixture.start(2, 100);
    let mut lines = fixture.drain();
    lines.sort();
    assert_eq!(
        lines,
        ["1: node_not_ready Admitting", "2: node_not_ready Queued 1"]
    );
}

/// Else the caller of the PUT would have lost its instance to who waits.
#[test]
fn what_is_replaced_keeps_its_place_before_all_who_wait() {
    let mut fixture = capped(1, 0);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.start(2, 100), NOTHING);
    fixture.is_patient = false;
    assert_eq!(fixture.replace(1, ""), ["call delete u1 for bob"]);
    // The watch may be faster than the response.
    fixture.world.job_gone("u1");
    assert_eq!(fixture.tick(), NOTHING, "it is kept");
    assert_eq!(fixture.done(), ["call create for bob"]);
    assert_eq!(fixture.tick(), NOTHING);
    assert_eq!(fixture.coordinator.starts(), [1, 1]);
}

#[test]
fn who_waits_for_a_job_of_another_replica_without_a_place_waits_on() {
    let mut fixture = capped(1, 1);
    fixture.world.job_of(&name(1), "u1", undecided());
    fixture.has_changed(1);
    assert_eq!(fixture.start(1, 100), NOTHING);
    let deleting = undecided_deleting();
    fixture.world.job_of(&name(1), "u1", deleting);
    assert_eq!(fixture.has_changed(1), NOTHING);
    assert_eq!(fixture.is_gone(1), NOTHING);
    assert_eq!(fixture.coordinator.starts(), [1, 0]);
    assert_eq!(free(&mut fixture, 0), ["call create for ann"]);
}

#[test]
fn a_stop_of_a_job_that_waits_for_its_admission_is_not_undone() {
    let mut fixture = capped(1, 1);
    fixture.world.job("u1", undecided());
    fixture.changed();
    fixture.get_of(1, &n1(), "", 100);
    assert_eq!(fixture.stop(2), ["call delete u1 for bob"]);
    let deleting = undecided_deleting();
    fixture.world.job("u1", deleting);
    assert_eq!(fixture.done(), ["2: done", "1: LimitReached"]);
    assert_eq!(fixture.coordinator.starts(), [0, 0]);
}
