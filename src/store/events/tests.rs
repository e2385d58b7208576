//! What is known after Events came, went, and were too many.

use super::*;
use crate::kube::types::Resource;
use serde_json::json;

struct World {
    writer: EventWriter,
    store: EventStore,
}

impl World {
    fn new() -> Self {
        let (writer, store) = new();
        Self { writer, store }
    }

    fn tell(&self, event: StoreEvent<Event>) -> usize {
        self.writer.apply(event).len()
    }

    fn said(&self, uid: &str) -> Vec<String> {
        let mut said: Vec<String> = self.store.of(&uid.into()).iter().map(line).collect();
        said.sort();
        said
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
fn of_one_object_and_reason_the_last_written_is_kept() {
    let world = World::new();
    assert_eq!(
        world.tell(StoreEvent::Apply(mount("a", 5, "p", "first"))),
        1
    );
    assert_eq!(
        world.tell(StoreEvent::Apply(mount("b", 7, "p", "third"))),
        1
    );
    assert_eq!(
        world.tell(StoreEvent::Apply(mount("c", 6, "p", "second"))),
        0
    );
    let unhealthy = event("d", 8, "p", "Unhealthy", "no answer");
    assert_eq!(world.tell(StoreEvent::Apply(unhealthy)), 1);
    assert_eq!(
        world.said("p"),
        ["FailedMount third", "Unhealthy no answer"]
    );
    assert_eq!(world.said("q"), [""; 0]);
    assert_eq!(world.store.len(), 2);
}

#[test]
fn what_is_gone_is_forgotten() {
    let world = World::new();
    world.tell(StoreEvent::Apply(mount("a", 5, "p", "first")));
    world.tell(StoreEvent::Apply(mount("b", 6, "p", "second")));
    // An older one of the same reason was forgotten before, and goes without effect.
    assert_eq!(world.tell(gone("a")), 0);
    assert_eq!(world.said("p"), ["FailedMount second"]);
    world.tell(gone("b"));
    assert!(world.store.is_empty());
    world.tell(StoreEvent::Apply(mount("c", 7, "p", "third")));
    world.tell(StoreEvent::Apply(mount("d", 8, "q", "other")));
    world.writer.forget(&"p".into());
    assert_eq!((world.said("p").len(), world.said("q").len()), (0, 1));
    assert_eq!(world.store.len(), 1);
}

#[test]
fn a_new_list_replaces_what_was_known() {
    let world = World::new();
    world.tell(StoreEvent::Apply(mount("a", 50, "p", "before")));
    world.tell(StoreEvent::Apply(mount("b", 51, "q", "before")));
    world.tell(StoreEvent::Init);
    // An etcd that was restored from a backup goes back.
    world.tell(StoreEvent::InitApply(mount("c", 5, "p", "after")));
    world.tell(StoreEvent::InitDone("9".into()));
    assert_eq!(world.said("p"), ["FailedMount after"]);
    assert_eq!(world.said("q"), [""; 0]);
    assert_eq!(world.store.len(), 1);
}

#[test]
fn so_many_are_kept_and_the_oldest_are_forgotten_first() {
    let world = World::new();
    let pod = |number: usize| format!("p{number}");
    let write = |number: usize| {
        let version = u64::try_from(number).unwrap() + 1;
        world.tell(StoreEvent::Apply(mount("e", version, &pod(number), "m")));
    };
    (0..EVENTS_MAX).for_each(write);
    assert_eq!(world.store.len(), EVENTS_MAX);
    // The first is written again, and so is no longer the oldest.
    let again = u64::try_from(EVENTS_MAX).unwrap() + 1;
    world.tell(StoreEvent::Apply(mount("e", again, &pod(0), "again")));
    assert_eq!(world.store.len(), EVENTS_MAX);
    write(EVENTS_MAX);
    assert_eq!(world.store.len(), EVENTS_MAX);
    assert_eq!(world.said(&pod(1)), [""; 0]);
    assert_eq!(world.said(&pod(0)), ["FailedMount again"]);
    assert_eq!(world.said(&pod(2)), ["FailedMount m"]);
    assert_eq!(world.said(&pod(EVENTS_MAX)), ["FailedMount m"]);
}
