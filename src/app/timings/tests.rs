//! Where the time goes: by our own clock, and by Kubernetes' timestamps.

use super::*;
use crate::app::cache::Lookup;
use crate::app::fixture::{World, n1, t0};
use serde_json::{Value, json};

const MS: Duration = Duration::from_millis(1);

/// As lines: phase and milliseconds.
fn shown(timings: &Timings) -> String {
    let shown = timings
        .iter()
        .map(|(phase, took)| format!("{} {}", phase.as_str(), took.as_millis()));
    shown.collect::<Vec<_>>().join(", ")
}

#[test]
fn phases_are_listed_in_their_order() {
    assert!(PHASES.is_sorted());
    assert!(!PHASES.contains(&Phase::Stopping));
}

#[test]
fn each_moment_counts_for_the_observed_phase() {
    let begun = Instant::now();
    let at = |ms: u32| begun + MS * ms;
    let mut clock = PhaseClock::new(begun);
    let left = clock.enter(Phase::Creating, at(7));
    assert_eq!(left, Some((Phase::Admitting, 7 * MS)));
    assert_eq!(
        shown(&clock.timings(at(10))),
        "admitting 7, creating 3",
        "the current phase counts up to now"
    );
    assert_eq!(clock.enter(Phase::Creating, at(15)), None);
    let left = clock.enter(Phase::Scheduling, at(20));
    assert_eq!(left, Some((Phase::Creating, 13 * MS)));
    // Mounting was too short to be seen.
    clock.enter(Phase::Pulling, at(50));
    assert_eq!(
        shown(&clock.timings(at(60))),
        "admitting 7, creating 13, scheduling 30, mounting 0, pulling 10"
    );
    let left = clock.end(Some(Phase::Readying), at(90));
    assert_eq!(left, Some((Phase::Pulling, 40 * MS)));
    let ready = "admitting 7, creating 13, scheduling 30, mounting 0, pulling 40, \
                 initialising 0, starting 0, readying 0";
    assert_eq!(shown(&clock.timings(at(90))), ready);
    // The start has ended: nothing is added.
    assert_eq!(clock.enter(Phase::Pulling, at(99)), None);
    assert_eq!(clock.end(None, at(99)), None);
    assert_eq!(shown(&clock.timings(at(1000))), ready);
    let all: Duration = clock.timings(at(90)).iter().map(|(_, took)| took).sum();
    assert_eq!(all, 90 * MS, "no time is lost or counted twice");
}

/// The image of an init container is pulled, it runs, and the app's image is pulled.
#[test]
fn a_repeated_phase_is_summed_up() {
    let begun = Instant::now();
    let at = |ms: u32| begun + MS * ms;
    let mut clock = PhaseClock::new(begun);
    for (phase, ms) in [
        (Phase::Pulling, 0),
        (Phase::Initialising, 10),
        (Phase::Pulling, 15),
        (Phase::Readying, 40),
    ] {
        clock.enter(phase, at(ms));
    }
    let shown = shown(&clock.timings(at(43)));
    assert!(
        shown.ends_with("pulling 35, initialising 5, starting 0, readying 3"),
        "{shown}"
    );
}

fn secs_after(secs: i64) -> String {
    Timestamp::from_seconds(t0().seconds() + secs).to_string()
}

fn condition(kind: &str, holds: bool, secs: i64) -> Value {
    let status = if holds { "True" } else { "False" };
    json!({"type": kind, "status": status, "lastTransitionTime": secs_after(secs)})
}

/// Checks the timings of a pod with this status, 100 s after its creation.
#[track_caller]
fn check(status: &Value, expected: Option<&str>) {
    let mut world = World::new();
    world.job("u1", json!({}));
    world.pod("u1", json!({ "status": status }));
    world.pass(Duration::from_secs(100));
    let Lookup::Instance(instance) = world.cache.lookup(&n1()) else {
        panic!("there is an instance");
    };
    let timings = Timings::of_pod(&instance, world.wall());
    assert_eq!(timings.as_ref().map(shown).as_deref(), expected);
}

#[test]
fn timestamps_of_a_pod_give_the_durations_of_its_phases() {
    check(&json!({"phase": "Pending"}), Some("scheduling 100000"));
    let mut conditions = vec![condition("PodScheduled", true, 2)];
    let mut pod = json!({"phase": "Pending", "conditions": conditions});
    let waiting = json!([{"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}}]);
    pod["containerStatuses"] = waiting;
    // The kubelet has reported nothing yet; without init containers Initialized has no meaning.
    conditions.push(condition("Initialized", true, 3));
    conditions.push(condition("PodReadyToStartContainers", false, 3));
    pod["conditions"] = json!(conditions);
    check(&pod, Some("scheduling 2000, mounting 98000"));
    conditions[2] = condition("PodReadyToStartContainers", true, 10);
    pod["conditions"] = json!(conditions);
    check(&pod, Some("scheduling 2000, mounting 8000, pulling 90000"));
    pod["phase"] = json!("Running");
    pod["podIP"] = json!("10.0.0.1");
    let running = json!({"running": {"startedAt": secs_after(40)}});
    pod["containerStatuses"] = json!([{"name": "app", "state": running}]);
    conditions.push(condition("Ready", false, 3));
    pod["conditions"] = json!(conditions);
    let so_far = "scheduling 2000, mounting 8000, pulling 30000, initialising 0, starting 0";
    check(&pod, Some(&format!("{so_far}, readying 60000")));
    conditions[3] = condition("Ready", true, 45);
    pod["conditions"] = json!(conditions);
    check(&pod, Some(&format!("{so_far}, readying 5000")));
    // It was ready for long: only the time since then counts.
    conditions[3] = condition("Ready", false, 94);
    pod["conditions"] = json!(conditions);
    check(&pod, Some(&format!("{so_far}, readying 6000")));
}

#[test]
fn init_containers_end_before_the_pull_of_the_apps_image() {
    let ended =
        json!([{"name": "init", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]);
    let pod = json!({
        "phase": "Pending",
        "conditions": [
            condition("PodScheduled", true, 0),
            condition("PodReadyToStartContainers", true, 1),
            condition("Initialized", true, 6),
        ],
        "initContainerStatuses": ended,
        "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "PodInitializing"}}}],
    });
    check(
        &pod,
        Some("scheduling 0, mounting 1000, pulling 94000, initialising 5000"),
    );
}

/// The time of its end is not the end of a phase.
#[test]
fn a_failed_pod_has_only_phases_with_recorded_ends() {
    let ended = json!({"exitCode": 3, "reason": "Error", "finishedAt": secs_after(9)});
    let pod = json!({
        "phase": "Failed",
        "conditions": [condition("PodScheduled", true, 4), condition("PodReadyToStartContainers", false, 9)],
        "containerStatuses": [{"name": "app", "state": {"terminated": ended}}],
    });
    check(&pod, Some("scheduling 4000"));
}

/// Timestamps that contradict each other make no time run backwards.
#[test]
fn timestamps_out_of_order_give_no_negative_durations() {
    let pod = json!({
        "phase": "Pending",
        "conditions": [condition("PodScheduled", true, -5), condition("PodReadyToStartContainers", true, 200)],
        "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": "ContainerCreating"}}}],
    });
    check(&pod, Some("scheduling 0, mounting 200000, pulling 0"));
}

#[test]
fn without_a_remaining_pod_there_are_no_timings() {
    let mut world = World::new();
    let timings_of = |world: &World| match world.cache.lookup(&n1()) {
        Lookup::Instance(instance) => Timings::of_pod(&instance, world.wall()),
        other => panic!("there is an instance: {other:?}"),
    };
    world.job("u1", json!({}));
    assert_eq!(timings_of(&world), None);
    world.pod(
        "u1",
        json!({"metadata": {"deletionTimestamp": secs_after(0)}}),
    );
    assert_eq!(timings_of(&world), None);
    world.ready("u1", "10.0.0.1");
    assert!(timings_of(&world).is_some());
    world.deleting("u1");
    assert_eq!(timings_of(&world), None);
}
