//! The bytes that are counted for instances, against those that the allocator hands out for them.
//!
//! Callers start instances as they like, so an estimate that is too low ends the process, and one that is
//! far too high refuses starts for which there is room.

use super::*;
use crate::app::api_call::CallOutcome;
use crate::app::events::EventLog;
use crate::app::fixture::{Fixture, waiting_pod};
use crate::app::lifecycle::{Lifecycle, LifecycleKind};
use crate::app::usage::Lives;
use crate::kube::types::CONTAINERS_MAX;
use allocation_counter::AllocationInfo;
use serde_json::Value;

/// What the allocator needs beside the bytes of each block.
const BLOCK_BYTES: i64 = 16;

const INSTANCES: usize = 1000;

/// Names as long as Kubernetes makes UIDs.
fn uid_of(kind: &str, number: usize) -> String {
    format!("{kind}-11111111-2222-3333-4444-{number:09}")
}

fn taken(info: AllocationInfo) -> usize {
    let bytes = info.bytes_current + BLOCK_BYTES * info.count_current;
    usize::try_from(bytes).unwrap()
}

/// An instance with a pod as `pod` has it; the name has so many bytes.
fn add(world: &mut World, number: usize, name_bytes: usize, pod: &Value) -> InstanceKey {
    let key = key("scim", &format!("{number:0name_bytes$}"));
    let job_uid = uid_of("job", number);
    let revisions = json!({
        "config-controller.semafor.ch/template-revision": "0123456789abcdef",
        "config-controller.semafor.ch/values-revision": "0123456789abcdef0123456789abcdef",
    });
    let revisions = json!({"metadata": {"annotations": revisions}});
    world.job_of(&key, &job_uid, revisions);
    let meta = json!({"name": format!("{}-abcde", key.job_name()), "uid": uid_of("pod", number)});
    let mut patch = json!({"metadata": meta, "spec": {"nodeName": "node-1"}});
    merge(&mut patch, pod);
    world.pod(&job_uid, patch);
    key
}

/// What is kept of it for streams, while nobody reads any, and of its life.
fn tell(events: &EventLog, lives: &mut Lives, world: &World, key: InstanceKey) {
    let Lookup::Instance(instance) = world.cache.lookup(&key) else {
        panic!("{key} is there");
    };
    let uid = instance.uid().clone();
    let kind = match &instance.status {
        InstanceStatus::Starting(finding) => LifecycleKind::Failed {
            finding: finding.clone(),
            is_final: false,
            reported_after: None,
        },
        _ => LifecycleKind::Ready {
            after: None,
            recovered: false,
        },
    };
    let event = Lifecycle {
        key,
        job_uid: Some(uid),
        at: world.instant(),
        kind,
        is_news: false,
        phase_left: None,
        start_ended: None,
    };
    events.append(&event, || None, world.wall());
    lives.note(&event, || None);
}

#[test]
fn cached_instances_take_no_more_and_not_much_less_than_is_counted() {
    let running = || {
        let mut pod = ready_pod("10.0.0.1");
        pod["status"]["containerStatuses"] =
            json!([{"name": "app", "state": {"running": {"startedAt": crate::app::fixture::T0}}}]);
        pod
    };
    let mut labelled = running();
    for number in 0..64 {
        let key = format!("config-controller.semafor.ch/meta-key-{number:030}");
        labelled["metadata"]["labels"][key] = json!("v".repeat(60));
    }
    let mut short = running();
    for number in 0..64 {
        short["metadata"]["labels"][format!("config-controller.semafor.ch/meta-{number}")] =
            json!("");
    }
    let waiting = json!({"status": {"containerStatuses": [{"name": "app", "state": {
        "waiting": {"reason": "ImagePullBackOff", "message": "m".repeat(900)},
    }}]}});
    let mut many = running();
    let states = (0..CONTAINERS_MAX)
        .map(|number| json!({"name": format!("container-{number}"), "state": {"running": {}}}));
    many["status"]["containerStatuses"] = states.collect();
    for (what, name_bytes, pod) in [
        ("ready", 8, running()),
        ("long names", 200, running()),
        ("labels", 8, labelled),
        ("short labels", 8, short),
        ("messages", 8, waiting),
        ("containers", 8, many),
    ] {
        let mut world = World::new();
        let events = EventLog::new("r", 1, |_, _| {});
        let mut lives = Lives::default();
        let info = allocation_counter::measure(|| {
            for number in 0..INSTANCES {
                let key = add(&mut world, number, name_bytes, &pod);
                tell(&events, &mut lives, &world, key);
            }
        });
        let (taken, counted) = (taken(info), world.cache.index().memory().cached_bytes());
        assert!(taken <= counted, "{what}: {taken} of {counted}");
        assert!(counted <= 2 * taken, "{what}: {taken} of {counted}");
    }
}

#[test]
fn followed_starts_take_no_more_and_not_much_less_than_is_counted() {
    for name_bytes in [8, 200] {
        let mut fixture = Fixture::new();
        let info = allocation_counter::measure(|| {
            for number in 0..INSTANCES {
                let key = key("scim", &format!("{number:0name_bytes$}"));
                let request = number as u64 + 1;
                fixture.get_of(request, &key, "", 300);
                add(
                    &mut fixture.world,
                    number,
                    name_bytes,
                    &waiting_pod("ImagePullBackOff"),
                );
                let uid = uid_of("job", number);
                fixture.ends_of(&key, CallOutcome::Created(uid.as_str().into(), "1".into()));
                fixture.hang_up(request);
            }
        });
        let memory = fixture.world.cache.index().memory();
        let (taken, counted) = (taken(info), memory.instance_bytes());
        assert!(taken <= counted, "{taken} of {counted}");
        assert!(counted <= 2 * taken, "{taken} of {counted}");
    }
}
