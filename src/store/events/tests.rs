//! The content of the store after Events were added, deleted, listed and evicted.

use super::*;
use crate::kube::types::Resource;
use serde_json::json;

struct World {
    writer: EventWriter,
    store: EventStore,
}

impl World {
    fn new() -> Self {
        let writer = EventWriter::default();
        let store = writer.store();
        Self { writer, store }
    }

    fn apply(&self, event: StoreEvent<Event>) -> usize {
        self.writer.apply(event).len()
    }

    /// How many Events are kept.
    fn count(&self) -> usize {
        self.store.kept().order.len()
    }

    fn events(&self, uid: &str) -> Vec<String> {
        let mut events: Vec<String> = self.store.of(&uid.into()).iter().map(line).collect();
        events.sort();
        events
    }
}

fn line(event: &Arc<Event>) -> String {
    format!("{:?} {}", event.reason, event.message)
}

/// The Event of this UID and version, about this pod.
fn event(uid: &str, version: u64, pod: &str, reason: &str, message: &str) -> Event {
    let event = json!({
        "metadata": {"name": format!("{pod}.{uid}"), "uid": uid, "resourceVersion": version.to_string()},
        "involvedObject": {"kind": "Pod", "name": pod, "uid": pod},
        "reason": reason, "message": message,
    });
    Event::decode(event.to_string().as_bytes())
        .unwrap()
        .unwrap()
}

fn mount(uid: &str, version: u64, pod: &str, message: &str) -> Event {
    event(uid, version, pod, "FailedMount", message)
}

fn gone(uid: &str) -> StoreEvent<Event> {
    StoreEvent::Delete {
        name: "any".into(),
        uid: uid.into(),
        version: "99".into(),
    }
}

#[test]
fn the_last_written_event_of_an_object_and_reason_is_kept() {
    let world = World::new();
    assert_eq!(
        world.apply(StoreEvent::Apply(mount("a", 5, "p", "first"))),
        1
    );
    assert_eq!(
        world.apply(StoreEvent::Apply(mount("b", 7, "p", "third"))),
        1
    );
    assert_eq!(
        world.apply(StoreEvent::Apply(mount("c", 6, "p", "second"))),
        0
    );
    let unhealthy = event("d", 8, "p", "Unhealthy", "no answer");
    assert_eq!(world.apply(StoreEvent::Apply(unhealthy)), 1);
    assert_eq!(
        world.events("p"),
        ["FailedMount third", "Unhealthy no answer"]
    );
    assert_eq!(world.events("q"), [""; 0]);
    assert_eq!(world.count(), 2);
}

#[test]
fn deleted_events_and_objects_are_dropped() {
    let world = World::new();
    world.apply(StoreEvent::Apply(mount("a", 5, "p", "first")));
    world.apply(StoreEvent::Apply(mount("b", 6, "p", "second")));
    // An older one of the same reason was replaced already; its deletion has no effect.
    assert_eq!(world.apply(gone("a")), 0);
    assert_eq!(world.events("p"), ["FailedMount second"]);
    world.apply(gone("b"));
    assert_eq!(world.count(), 0);
    world.apply(StoreEvent::Apply(mount("c", 7, "p", "third")));
    world.apply(StoreEvent::Apply(mount("d", 8, "q", "other")));
    world.writer.forget(&"p".into());
    assert_eq!((world.events("p").len(), world.events("q").len()), (0, 1));
    assert_eq!(world.count(), 1);
}

#[test]
fn a_new_list_replaces_all_events() {
    let world = World::new();
    world.apply(StoreEvent::Apply(mount("a", 50, "p", "before")));
    world.apply(StoreEvent::Apply(mount("b", 51, "q", "before")));
    world.apply(StoreEvent::Init);
    // An etcd that was restored from a backup goes back.
    world.apply(StoreEvent::InitApply(mount("c", 5, "p", "after")));
    world.apply(StoreEvent::InitDone("9".into()));
    assert_eq!(world.events("p"), ["FailedMount after"]);
    assert_eq!(world.events("q"), [""; 0]);
    assert_eq!(world.count(), 1);
}

#[test]
fn the_number_of_events_is_bounded_and_the_oldest_are_evicted_first() {
    let world = World::new();
    let pod = |number: usize| format!("p{number}");
    let write = |number: usize| {
        let version = u64::try_from(number).unwrap() + 1;
        world.apply(StoreEvent::Apply(mount("e", version, &pod(number), "m")));
    };
    (0..EVENTS_MAX).for_each(write);
    assert_eq!(world.count(), EVENTS_MAX);
    // The first is written again, and so is no longer the oldest.
    let again = u64::try_from(EVENTS_MAX).unwrap() + 1;
    world.apply(StoreEvent::Apply(mount("e", again, &pod(0), "again")));
    assert_eq!(world.count(), EVENTS_MAX);
    write(EVENTS_MAX);
    assert_eq!(world.count(), EVENTS_MAX);
    assert_eq!(world.events(&pod(1)), [""; 0]);
    assert_eq!(world.events(&pod(0)), ["FailedMount again"]);
    assert_eq!(world.events(&pod(2)), ["FailedMount m"]);
    assert_eq!(world.events(&pod(EVENTS_MAX)), ["FailedMount m"]);
}
