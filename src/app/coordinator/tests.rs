//! Bounds, handles and wake-ups of the coordinator; its decisions for one name are in the files
//! below.

mod admissions;
mod calls;
mod deadlines;
mod deletions;
mod disruptions;
mod ends;
mod expectations;
mod faulty;
mod idle;
mod intents;
mod labels;
mod lifecycle;
mod orphans;
mod overdue;
mod preconditions;
mod random;
mod reads;
mod recoveries;
mod replace;
mod restarts;
mod start_queue;
mod starts;
mod stops;
mod unseen;

use super::operation::{CallState, Last, Operation};
use super::*;
use crate::app::Expectation;
use crate::app::api_call::CallOutcome;
use crate::app::cache::{Instance, Lookup};
use crate::app::fixture::{Fixture, ROOMY, World, handle, held, key, n1, origin, unavailable};
use crate::app::request::Intent;
use crate::kube::error::Verb;
use crate::model::job::JobSettings;
use serde_json::json;
use std::ops::Range;
use std::time::Duration;

const NOTHING: [&str; 0] = [];

/// A fixture in which request 1 has begun a start and the Job `u1` is there.
fn starting() -> Fixture {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.get(1), ["call create for ann"]);
    fixture.world.job("u1", json!({}));
    assert_eq!(fixture.done(), NOTHING);
    fixture
}

/// A fixture without callers, in which the Job `u1` is ready.
fn ready() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.ready("u1", "10.0.0.1");
    fixture
}

/// A fixture without callers, in which the pod of the ready Job `u1` is overdue: the Job is being
/// deleted. What was reported before is taken.
fn stuck() -> Fixture {
    let mut fixture = starting();
    fixture.hang_up(1);
    fixture.world.ready("u1", "10.0.0.1");
    fixture.world.pod_lost("u1");
    fixture.changed();
    fixture.reported();
    assert_eq!(fixture.pass(30.0), ["call force u1"]);
    fixture
}

/// The Job `u1` is gone while request 1 waits for an instance; the request gets the successor.
#[track_caller]
fn check_replaced(fixture: &mut Fixture) {
    fixture.world.job_gone("u1");
    assert_eq!(fixture.done(), ["call create for ann"]);
    fixture.world.job("u2", json!({}));
    fixture.world.ready("u2", "10.0.0.2");
    assert_eq!(fixture.done(), ["1: ready 10.0.0.2"]);
    fixture.check_idle();
}

/// A fixture in which the Job `u1` has failed at T0 + `secs`, as the cache shows.
fn failed_after(secs: f64) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.pass(secs);
    fixture.world.ended("u1", "Failed", json!({}));
    fixture.changed();
    fixture
}

#[test]
fn waiters_are_bounded_per_name() {
    let mut fixture = Fixture::with_limits(Limits {
        parked_per_key_max: 2,
        division: Division::UNLIMITED,
        ..ROOMY
    });
    fixture.get(1);
    assert_eq!(fixture.get(2), NOTHING);
    assert_eq!(fixture.get(3), ["3: TooManyRequests"]);
    assert_eq!(
        fixture.get_of(4, &key("scim", "n2"), "", 10),
        ["call create for ann"]
    );
}

#[test]
fn each_further_caller_finds_a_place_for_the_same_name() {
    let mut fixture = Fixture::with_limits(Limits {
        parked_per_key_max: 16,
        division: Division::default(),
        ..ROOMY
    });
    let mut number = 0;
    let mut taken = |caller: &str, want: &Want| {
        let mut count = 0;
        loop {
            number += 1;
            let mut out = Vec::new();
            let request = NewWaiter {
                is_patient: false,
                handle: handle(number),
                key: n1(),
                by: origin(caller),
                held: held(caller),
                deadline: fixture.world.instant() + Duration::from_secs(10),
                reads: None,
                expectation: Expectation::None,
                want: want.clone(),
            };
            let context = fixture.world.context();
            fixture
                .coordinator
                .step(Input::Requested(request), &context, &mut out);
            let refusal = out.into_iter().find_map(|effect| match effect {
                Effect::Respond(_, Response::Failed(Error::TooManyRequests(bound))) => Some(bound),
                _ => None,
            });
            match refusal {
                None => count += 1,
                Some(bound) => return (count, bound),
            }
        }
    };
    // One place is for stops and labels alone.
    let start = Want::Instance(Intent::Start(Arc::default()));
    assert_eq!(taken("ann", &start), (7, Bound::CallerShare));
    assert_eq!(taken("bob", &start), (4, Bound::CallerShare));
    assert_eq!(taken("cem", &start), (2, Bound::CallerShare));
    let label = Want::Label(Arc::default());
    assert_eq!(taken("ann", &label), (1, Bound::CallerShare));
    assert_eq!(taken("dan", &start), (1, Bound::CallerShare));
    assert_eq!(taken("eve", &start), (1, Bound::ParkedPerKey));
    assert_eq!(taken("eve", &label), (0, Bound::ParkedPerKey));
}

#[test]
fn work_of_abandoned_requests_is_bounded() {
    let mut fixture = Fixture::with_limits(Limits {
        parked_max: 3,
        ..ROOMY
    });
    for n in 0..3 {
        let key = key("scim", &format!("n{n}"));
        assert_eq!(fixture.get_of(n, &key, "", 10), ["call create for ann"]);
        fixture.hang_up(n);
    }
    assert_eq!(fixture.coordinator.waiting(), 0);
    assert_eq!(
        fixture.get_of(9, &key("scim", "n9"), "", 10),
        ["9: TooManyRequests"]
    );
    // A name with an operation needs no further capacity.
    assert_eq!(fixture.get(10), NOTHING);
    assert_eq!(
        fixture.ends_of(
            &key("scim", "n0"),
            CallOutcome::Created("u0".into(), "1".into())
        ),
        NOTHING
    );
    assert_eq!(
        fixture.get_of(11, &key("scim", "n9"), "", 10),
        ["call create for ann"]
    );
}

/// The deletion has begun, so nothing is left to do for abandoned waits for its end.
#[test]
fn abandoned_waits_for_a_deletion_leave_no_record() {
    let mut fixture = Fixture::with_limits(Limits {
        parked_per_key_max: 1,
        division: Division::UNLIMITED,
        ..ROOMY
    });
    fixture.world.job("u1", json!({}));
    for n in 0..3 {
        assert_eq!(
            fixture.stop_and_wait(n, Some(300)),
            ["call delete u1 for bob"]
        );
        fixture.world.deleting("u1");
        assert_eq!(fixture.done(), NOTHING);
        fixture.hang_up(n);
        fixture.check_idle();
    }
    fixture.stop_and_wait(3, Some(300));
    fixture.hang_up(3);
    fixture.done();
    assert_eq!(fixture.coordinator.tally.in_work, 0);
}

#[test]
fn inputs_for_unknown_handles_names_and_calls_are_ignored() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.hang_up(7), NOTHING);
    assert_eq!(fixture.done(), NOTHING);
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.step(Input::Changed(Vec::new())), NOTHING);
    fixture.check_idle();
    fixture.get(1);
    fixture.hang_up(1);
    assert_eq!(fixture.hang_up(1), NOTHING);
}

#[test]
fn after_the_drain_requests_fail_immediately() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.get_of(2, &key("scim", "n2"), "", 10);
    let mut responses = fixture.drain();
    responses.sort();
    assert_eq!(
        responses,
        ["1: node_not_ready Admitting", "2: node_not_ready Admitting"]
    );
    assert_eq!(fixture.get(3), ["3: Draining"]);
    assert_eq!(fixture.stop(4), ["4: Draining"]);
    assert_eq!(fixture.label(5), ["5: Draining"]);
    fixture.check_idle();
    assert_eq!(fixture.drain(), NOTHING);
}

#[test]
fn the_coordinator_is_woken_for_the_first_deadline_only() {
    let mut fixture = Fixture::new();
    let start = fixture.world.instant();
    fixture.get_of(1, &n1(), "", 30);
    fixture.get_of(2, &key("scim", "n2"), "", 20);
    let secs = |fixture: &Fixture| {
        fixture
            .coordinator
            .next_wake()
            .map(|at| (at - start).as_secs())
    };
    assert_eq!(secs(&fixture), Some(20));
    assert_eq!(fixture.pass(19.0), NOTHING);
    assert_eq!(fixture.wakes, 0);
    assert_eq!(fixture.pass(1.0), ["2: node_not_ready Admitting"]);
    assert_eq!(secs(&fixture), Some(30));
    fixture.pass(10.0);
    assert_eq!(fixture.wakes, 2);
    assert_eq!(fixture.coordinator.next_wake(), None);
}

#[test]
fn a_failure_is_remembered_without_waiting_requests() {
    let mut fixture = Fixture::new();
    fixture.pass(60.0);
    fixture.world.ended("u1", "Failed", json!({}));
    fixture.changed();
    fixture.pass(30.0);
    fixture.world.job_gone("u1");
    fixture.changed();
    assert_eq!(fixture.get(1), ["call create for ann after 1"]);
}

/// Nothing else happens: the record wakes itself.
#[test]
fn a_record_is_dropped_when_what_it_remembers_expires() {
    let mut fixture = failed_after(60.0);
    fixture.pass(30.0);
    fixture.world.job_gone("u1");
    fixture.changed();
    fixture.pass(GONE_KEPT.as_secs_f64() - 0.1);
    assert_eq!(fixture.coordinator.records.len(), 1);
    fixture.pass(0.1);
    assert_eq!(fixture.coordinator.records.len(), 0);
    // So is the termination report of a pod, though its Job is still there and has not ended.
    let mut fixture = starting();
    let retried = json!({"spec": {"backoffLimit": 3}});
    fixture.world.job("u1", retried);
    let failed = json!({"status": {"phase": "Failed", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": 3}}},
    ]}});
    fixture.world.pod("u1", failed);
    fixture.changed();
    fixture.world.pod_gone("u1");
    fixture.changed();
    fixture.pass(LOST_KEPT.as_secs_f64() - 0.1);
    assert_eq!(fixture.coordinator.tally.lost, 1);
    fixture.pass(0.1);
    assert_eq!(fixture.coordinator.tally.lost, 0);
}

#[test]
fn a_late_tick_resolves_all_expired_waiters() {
    let mut fixture = Fixture::new();
    for n in 0..5 {
        fixture.get_of(n, &key("scim", &format!("n{n}")), "", 1);
        let error = unavailable(Verb::Create);
        fixture.ends_of(&key("scim", &format!("n{n}")), CallOutcome::Failed(error));
    }
    fixture.world.pass(Duration::from_secs(100));
    let lines = fixture.tick();
    let responses = lines.iter().filter(|line| !line.starts_with("call"));
    assert_eq!(responses.count(), 5, "{lines:?}");
    assert_eq!(fixture.coordinator.waiting(), 0);
    assert!(!fixture.coordinator.waiting.contains_key(&handle(0)));
}

/// The memory of a name with a failed Job, and with this next observation.
fn remembered(world: &World, then: Option<&mut Instance>) -> Memory {
    let Lookup::Instance(mut failed) = world.cache.lookup(&n1()) else {
        panic!("it is there");
    };
    let mut memory = Memory::default();
    let settings = JobSettings::default();
    memory.note(Some(&mut failed), &settings, &world.context());
    memory.note(then, &settings, &world.context());
    memory
}

/// Puts the records with these numbers into a coordinator, one after the other.
fn remember(
    coordinator: &mut Coordinator,
    world: &mut World,
    numbers: Range<usize>,
    make: impl Fn(&World) -> Memory,
) {
    for n in numbers {
        world.pass(Duration::from_nanos(1));
        let record = Record {
            memory: make(world),
            ..Record::default()
        };
        let key = key("scim", &n.to_string());
        coordinator.tally.add(record.tally(&key));
        coordinator.records.insert(key, record);
        coordinator.shed();
    }
    coordinator.check().unwrap();
}

/// The records that are left are those with these numbers.
#[track_caller]
fn check_left(coordinator: &Coordinator, numbers: Range<usize>, holds: impl Fn(&Record) -> bool) {
    let left = coordinator.records.values().filter(|record| holds(record));
    assert_eq!(left.count(), numbers.len());
    for n in numbers {
        let record = coordinator.records.get(&key("scim", &n.to_string()));
        assert!(record.is_some_and(&holds), "{n}");
    }
}

#[test]
fn remembered_gone_names_are_bounded_and_the_oldest_are_evicted() {
    let mut world = World::new();
    world.ended("u1", "Failed", json!({}));
    world.pass(Duration::from_secs(20));
    let mut coordinator = Coordinator::new(ROOMY);
    let gone = |world: &World| remembered(world, None);
    remember(&mut coordinator, &mut world, 0..GONE_MAX, gone);
    check_left(&coordinator, 0..GONE_MAX, |_| true);
    let one_more = GONE_MAX..GONE_MAX + 1;
    remember(&mut coordinator, &mut world, one_more, gone);
    let forgotten = GONE_MAX / FORGOTTEN_AT_ONCE;
    check_left(&coordinator, forgotten..GONE_MAX + 1, |_| true);
}

#[test]
fn memory_of_dropped_records_is_given_back() {
    let world = World::new();
    let mut coordinator = Coordinator::new(ROOMY);
    let keys: Vec<_> = (0..5 * SPARE_RECORDS)
        .map(|n| key("scim", &n.to_string()))
        .collect();
    for key in &keys {
        coordinator.records.insert(key.clone(), Record::default());
    }
    let changes = keys.into_iter().map(CacheChange::of);
    let input = Input::Changed(changes.collect());
    coordinator.step(input, &world.context(), &mut Vec::new());
    assert!(coordinator.records.is_empty());
    let kept = coordinator.records.capacity();
    assert!(kept <= 2 * SPARE_RECORDS, "{kept}");
}

#[test]
fn kept_termination_reports_are_bounded_and_the_oldest_are_evicted() {
    let mut world = World::new();
    world.job("u1", json!({"spec": {"backoffLimit": 3}}));
    let Lookup::Instance(without) = world.cache.lookup(&n1()) else {
        panic!("it is there");
    };
    let failed = json!({"status": {"phase": "Failed", "containerStatuses": [
        {"name": "app", "state": {"terminated": {"exitCode": 3}}},
    ]}});
    world.pod("u1", failed);
    let lost = |world: &World| {
        let mut memory = remembered(world, Some(&mut without.clone()));
        assert!(memory.lost_at().is_some());
        memory.forget_gone();
        memory
    };
    let mut coordinator = Coordinator::new(ROOMY);
    let has_report = |record: &Record| record.memory.lost_at().is_some();
    remember(&mut coordinator, &mut world, 0..LOST_MAX, lost);
    check_left(&coordinator, 0..LOST_MAX, has_report);
    let one_more = LOST_MAX..LOST_MAX + 1;
    remember(&mut coordinator, &mut world, one_more, lost);
    let forgotten = LOST_MAX / FORGOTTEN_AT_ONCE;
    check_left(&coordinator, forgotten..LOST_MAX + 1, has_report);
}

/// A waiter without a sender is a defect: its call is due, and is never made.
#[test]
fn a_record_woken_without_work_is_woken_again_after_a_pause() {
    let mut fixture = Fixture::new();
    fixture.get(1);
    fixture.fails(unavailable(Verb::Create));
    let record = fixture.coordinator.records.get_mut(&n1()).unwrap();
    record.operation.as_mut().unwrap().waiters[0].by = None;
    fixture.world.pass(Duration::from_millis(100));
    let now = fixture.world.instant();
    let mut out = Vec::new();
    fixture.coordinator.tick(&fixture.world.context(), &mut out);
    assert!(out.is_empty());
    assert_eq!(fixture.coordinator.next_wake(), Some(now + MINIMUM_NAP));
    assert_eq!(fixture.coordinator.idle_wakes, 1);
    let found = fixture.coordinator.check().unwrap_err();
    assert!(found.contains("has nothing to do"), "{found}");
}

/// What breaks an invariant by hand.
type Defect = fn(&mut Coordinator);

/// `check` reports each of these defects by its message.
#[track_caller]
fn check_reported(defects: &[(&str, Defect)]) {
    for (message, break_it) in defects {
        let mut fixture = Fixture::new();
        fixture.get(1);
        assert_eq!(fixture.coordinator.check(), Ok(()));
        break_it(&mut fixture.coordinator);
        let found = fixture.coordinator.check().unwrap_err();
        assert!(found.contains(message), "{found} instead of {message}");
    }
}

fn operation(it: &mut Coordinator) -> &mut Operation {
    let record = it.records.get_mut(&n1()).unwrap();
    record.operation.as_mut().unwrap()
}

#[test]
fn each_broken_invariant_of_the_coordinator_is_reported() {
    check_reported(&[
        ("its wake-up is not in the timer queue", |it| {
            it.timers.clear();
        }),
        ("a timer belongs to no record", |it| {
            let at = it.timers.first().unwrap().0;
            it.timers.insert((at, key("scim", "n9")));
        }),
        ("a waiter is not in the table of waiting requests", |it| {
            it.waiting.clear();
        }),
        ("a waiting request is in no record", |it| {
            it.waiting.insert(handle(9), n1());
        }),
        ("the counts are not those of the records", |it| {
            it.tally.in_work += 1;
        }),
        ("too many names are in work", |it| {
            it.limits.parked_max = 0;
            it.waiting.clear();
            operation(it).waiters.clear();
        }),
        ("an empty record is kept", |it| {
            it.records.insert(key("scim", "n9"), Record::default());
        }),
    ]);
}

#[test]
fn each_broken_invariant_of_an_operation_is_reported() {
    check_reported(&[
        ("a waiter is in two records", |it| {
            let mut twin = operation(it).waiters[0].clone();
            twin.number += 1;
            operation(it).waiters.push(twin);
            it.next_number += 1;
        }),
        ("two waiters have one number", |it| {
            let twin = operation(it).waiters[0].clone();
            operation(it).waiters.push(twin);
        }),
        (
            "a waiter has the number of one that is still to come",
            |it| {
                operation(it).waiters[0].number = it.next_number;
            },
        ),
        ("an operation has no reason to live", |it| {
            operation(it).waiters.clear();
            operation(it).call = CallState::Idle;
        }),
        ("more than the last Jobs are kept", |it| {
            let last = Last {
                uid: "u1".into(),
                report: None,
                was_undecided: false,
                was_suspended: false,
                refusal: None,
                was_disrupted: false,
                is_replaced: false,
                is_gone: true,
                deleted: None,
            };
            operation(it).last = vec![last.clone(), last.clone(), last];
        }),
        ("a call is due and was not made", |it| {
            operation(it).call = CallState::MustRead;
        }),
        ("a waiter waits for what it does not want", |it| {
            operation(it).waiters[0].state = WaitState::New;
        }),
        ("a waiter waits for what it does not want", |it| {
            operation(it).waiters[0].state = WaitState::Pod(Instant::now());
        }),
        ("no caller waits for its response", |it| {
            operation(it).waiters[0].handle = None;
            it.waiting.clear();
        }),
    ]);
}

#[test]
fn only_own_starts_count_as_followed() {
    assert_eq!(starting().coordinator.tally.followed, 1);
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.changed();
    assert_eq!(fixture.coordinator.records.len(), 1);
    assert_eq!(fixture.coordinator.tally.followed, 0);
}

/// A replica at the bound on followed starts still creates Jobs.
#[test]
fn followed_starts_are_bounded() {
    let mut fixture = Fixture::new();
    fixture.coordinator.tally.followed = FOLLOWED_MAX;
    let mut out = Vec::new();
    let context = fixture.world.context();
    fixture
        .coordinator
        .advance(&n1(), &context, &mut out, |record, step| {
            assert!(!step.may_follow);
            record.advance(step, Trigger::Any);
        });
    fixture.coordinator.tally.followed = 0;
    assert_eq!(fixture.coordinator.check(), Ok(()));
}
