//! What the stores hold, and what is read from it.

mod memory;

use super::*;
use crate::app::fixture::{World, decode, key, merge, n1, ready_pod};
use crate::app::index::SESSIONS_MAX;
use crate::app::keys::key_of;
use crate::kube::watch::StoreEvent;
use crate::model::labels::PAIR_BYTES;
use crate::store::{Sink as _, Writer};
use serde_json::json;

/// The entries of all instances of a type, by name.
fn list(world: &World, app_type: &str) -> Vec<Entry> {
    let jobs = world
        .census
        .jobs
        .filter(|job| job.app_type() == Some(app_type));
    let keys = jobs.iter().filter_map(|job| own_key_of(job));
    let mut entries: Vec<Entry> = keys.filter_map(|key| world.cache.entry(&key)).collect();
    entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    entries
}

fn entries(world: &World) -> Vec<(String, Option<String>, bool, Option<i64>)> {
    let entries = list(world, "scim").into_iter();
    entries
        .map(|e| (e.name, e.ip.map(|ip| ip.to_string()), e.is_ready, e.started))
        .collect()
}

#[test]
fn lookup_by_key() {
    let mut world = World::new();
    assert!(matches!(world.cache.lookup(&n1()), Lookup::Absent));
    world.job("u1", json!({}));
    assert!(matches!(world.cache.lookup(&n1()), Lookup::Instance(_)));
    // scim/n1-x and scim-n1/x share a Job name.
    world.job_of(&key("scim-n1", "x"), "u2", json!({}));
    assert!(matches!(
        world.cache.lookup(&key("scim", "n1-x")),
        Lookup::NameConflict
    ));
    assert!(matches!(
        world.cache.lookup(&key("scim-n1", "x")),
        Lookup::Instance(_)
    ));
}

#[test]
fn pods_of_another_uid_never_count() {
    let mut world = World::new();
    world.job("u1", json!({}));
    world.ready("u0", "10.0.0.9");
    assert_eq!(world.cache.ready(&n1()), None);
    assert_eq!(entries(&world), [("n1".into(), None, false, None)]);
    world.ready("u1", "10.0.0.1");
    let ready = world.cache.ready(&n1()).unwrap();
    assert_eq!(ready.ip.to_string(), "10.0.0.1");
}

#[test]
fn a_pod_with_an_owner_that_is_no_controller_never_counts() {
    let mut world = World::new();
    world.job("u1", json!({}));
    let mut pod = ready_pod("10.0.0.1");
    pod["metadata"] = json!({"ownerReferences": [{"uid": "u1", "name": "scim-n1"}]});
    world.pod("u1", pod);
    assert_eq!(world.cache.ready(&n1()), None);
}

/// A pod that names the Job `u1` as its controller, made by hand so many seconds after T0.
fn forged_pod(world: &mut World, secs: u32, labels: &serde_json::Value) {
    let mut pod = ready_pod("10.0.0.66");
    let time = format!("2026-05-01T10:00:{secs:02}Z");
    pod["metadata"] = json!({
        "name": "a-forged", "uid": "forged", "creationTimestamp": time,
        "labels": {
            "batch.kubernetes.io/controller-uid": null,
            "config-controller.semafor.ch/meta-username": "forger",
        },
    });
    merge(&mut pod["metadata"]["labels"], labels);
    world.pod("u1", pod);
}

#[test]
fn a_forged_pod_lends_neither_its_address_nor_its_labels() {
    let marks = json!({"batch.kubernetes.io/controller-uid": "u1"});
    let of_another = json!({"batch.kubernetes.io/controller-uid": "u2"});
    for (labels, secs) in [
        (json!({}), 0),
        (json!({}), 20),
        (json!({"batch.kubernetes.io/job-name": "scim-n1"}), 20),
        (of_another, 20),
        (marks.clone(), 1),
        (marks.clone(), 12),
        (marks, 20),
    ] {
        let mut world = World::new();
        world.job(
            "u1",
            json!({"metadata": {"creationTimestamp": "2026-05-01T10:00:10Z"}}),
        );
        let mut real = ready_pod("10.0.0.1");
        real["metadata"] = json!({"creationTimestamp": "2026-05-01T10:00:11Z"});
        world.pod("u1", real);
        forged_pod(&mut world, secs, &labels);
        let Lookup::Instance(instance) = world.cache.lookup(&n1()) else {
            panic!("it is there");
        };
        let ready = instance.ready(&Expectation::None).unwrap();
        assert_eq!(ready.ip.to_string(), "10.0.0.1", "{labels} at {secs}");
        assert!(ready.meta.is_empty(), "{labels} at {secs}");
        assert!(instance.predecessor.is_none(), "{labels} at {secs}");
        assert_eq!(world.cache.find("forger", |_| true), None);
    }
    // Without a label of the Job controller it does not count alone, either.
    let mut world = World::new();
    world.job("u1", json!({}));
    forged_pod(&mut world, 20, &json!({}));
    assert_eq!(world.cache.ready(&n1()), None);
}

/// The Job controller has removed the pod that it made; the other one has all its marks.
#[test]
fn a_pod_from_before_the_job_does_not_count_alone_either() {
    let mut world = World::new();
    let made = json!({"metadata": {"creationTimestamp": "2026-05-01T10:00:10Z"}});
    world.job("u1", made);
    let marks = json!({
        "batch.kubernetes.io/controller-uid": "u1",
        "config-controller.semafor.ch/meta-sessionID": "s",
    });
    forged_pod(&mut world, 8, &marks);
    let found = |world: &World| {
        let Lookup::Instance(instance) = world.cache.lookup(&n1()) else {
            panic!("it is there");
        };
        let ip = instance
            .ready(&Expectation::None)
            .map(|ready| ready.ip.to_string());
        let pod = instance.pod.map(|pod| pod.metadata.name.clone());
        (ip, pod, instance.predecessor.is_some())
    };
    assert_eq!(found(&world), (None, None, false));
    assert_eq!(world.cache.find("s", |_| true), None);
    let list = list(&world, "scim");
    assert!(list[0].ip.is_none() && list[0].meta.is_empty());
    settle(&world);

    // The next pod of the Job inherits none of its labels.
    let mut next = ready_pod("10.0.0.1");
    next["metadata"] = json!({"creationTimestamp": "2026-05-01T10:00:21Z"});
    world.pod("u1", next);
    let real = (Some("10.0.0.1".into()), Some("p-u1".into()), false);
    assert_eq!(found(&world), real);
}

/// Nothing shows which of them the Job controller made; it removes one within a second.
#[test]
fn of_two_pods_of_one_second_neither_is_returned() {
    let mut world = World::new();
    world.job("u1", json!({}));
    world.ready("u1", "10.0.0.1");
    assert!(world.cache.ready(&n1()).is_some());
    forged_pod(
        &mut world,
        0,
        &json!({"batch.kubernetes.io/controller-uid": "u1"}),
    );
    assert_eq!(world.cache.ready(&n1()), None);
    let own_delete = world.pods.own_delete("a-forged", &"forged".into());
    assert!(own_delete.is_some());
    let found = world.cache.ready(&n1()).unwrap();
    assert_eq!(found.ip.to_string(), "10.0.0.1");
}

#[test]
fn jobs_of_2_7_1_are_recognised_by_their_template() {
    let mut world = World::new();
    let labels = json!({
        "config-controller.semafor.ch/instance-type": "scim",
        "config-controller.semafor.ch/instance-name": "n1",
    });
    world.job(
        "u1",
        json!({
            "metadata": {"labels": null, "annotations": null},
            "spec": {"template": {"metadata": {"annotations": null, "labels": labels}}},
        }),
    );
    world.pod("u1", {
        let mut pod = ready_pod("10.0.0.1");
        pod["metadata"] = json!({"labels": {"config-controller.semafor.ch/meta-username": "bob"}});
        pod
    });
    let ready = world.cache.ready(&n1()).unwrap();
    assert_eq!(ready.meta["username"], "bob");
}

#[test]
fn unsanitised_names_come_from_annotations() {
    let mut world = World::new();
    let key = key("scim", "Bob@x.ch");
    world.job_of(&key, "u1", json!({}));
    assert!(matches!(world.cache.lookup(&key), Lookup::Instance(_)));
    assert_eq!(entries(&world), [("Bob@x.ch".into(), None, false, None)]);
}

#[test]
fn a_list_has_one_entry_an_instance_by_name() {
    let mut world = World::new();
    for (name, uid) in [("b", "u2"), ("a", "u1"), ("c", "u3")] {
        world.job_of(&key("scim", name), uid, json!({}));
    }
    world.job_of(&key("other", "d"), "u4", json!({}));
    world.ready("u1", "10.0.0.1");
    world.pod("u2", json!({"status": {"podIP": "10.0.0.2"}}));
    let started = Some(1_777_629_600);
    assert_eq!(
        entries(&world),
        [
            ("a".into(), Some("10.0.0.1".into()), true, started),
            ("b".into(), Some("10.0.0.2".into()), false, None),
            ("c".into(), None, false, None),
        ]
    );
    assert_eq!(list(&world, "nope"), []);
}

#[test]
fn a_list_never_has_the_address_of_a_deleted_pod() {
    let mut world = World::new();
    world.job("u1", json!({}));
    let mut pod = ready_pod("10.0.0.1");
    pod["metadata"] = json!({
        "deletionTimestamp": world.stamp(), "labels": {"config-controller.semafor.ch/meta-username": "bob"},
    });
    world.pod("u1", pod);
    assert_eq!(entries(&world), [("n1".into(), None, false, None)]);
    let entries = list(&world, "scim");
    assert_eq!(entries[0].meta["username"], "bob");
}

#[test]
fn a_list_shows_deleted_instances_as_not_ready() {
    let mut world = World::new();
    world.deleting("u1");
    world.ready("u1", "10.0.0.1");
    assert_eq!(entries(&world), [("n1".into(), None, false, None)]);
    assert_eq!(world.cache.ready(&n1()), None);
}

#[test]
fn a_manual_job_under_another_name_is_no_instance() {
    let mut world = World::new();
    world.job("u1", json!({"metadata": {"name": "by-hand"}}));
    assert_eq!(entries(&world), []);
    assert!(matches!(world.cache.lookup(&n1()), Lookup::Absent));
}

#[test]
fn a_job_without_a_name_label_is_no_instance() {
    let mut world = World::new();
    let names = json!({"config-controller.semafor.ch/instance-name": null});
    let mut job = world.job_json(&n1(), "u1", &json!({}));
    for at in ["/metadata", "/spec/template/metadata"] {
        for kind in ["labels", "annotations"] {
            let pairs = job.pointer_mut(&format!("{at}/{kind}")).unwrap();
            merge(pairs, &names);
        }
    }
    let event = StoreEvent::Apply(decode(&job));
    drop(world.jobs.apply(event));
    assert!(matches!(world.cache.lookup(&n1()), Lookup::NameConflict));
    assert_eq!(entries(&world), []);
}

#[test]
fn the_cache_is_synced_once_all_three_stores_are() {
    for synced in 0..8 {
        let world = World::unsynced();
        if synced & 1 != 0 {
            sync(&world.config_maps);
        }
        if synced & 2 != 0 {
            sync(&world.jobs);
        }
        if synced & 4 != 0 {
            sync(&world.pods);
        }
        assert_eq!(world.cache.is_synced(), synced == 7, "{synced:03b}");
    }
}

fn sync<K: Resource>(store: &Writer<K>) {
    let _ = store.apply(StoreEvent::Init);
    let _ = store.apply(StoreEvent::InitDone("1".into()));
}

/// A pod of the Job `u1` that has ended, made so many seconds after T0, with a user name set by PATCH
/// or without.
fn pod_made_after(world: &mut World, secs: u32, is_labelled: bool) {
    let (name, time) = (format!("p{secs}"), format!("2026-05-01T10:00:{secs:02}Z"));
    let mut metadata = json!({"name": name, "uid": name, "creationTimestamp": time});
    if is_labelled {
        metadata["labels"] = json!({"config-controller.semafor.ch/meta-username": "bob"});
    }
    let status = json!({"phase": "Failed"});
    world.pod("u1", json!({"metadata": metadata, "status": status}));
}

#[test]
fn the_predecessor_of_a_pod_is_the_newest_before_it_with_meta_labels() {
    for (pods, predecessor) in [
        (&[(1, true)][..], None),
        (&[(1, false), (2, true)], None),
        (&[(1, true), (11, false)], Some("p1")),
        (
            &[(1, true), (11, true), (21, false), (31, true)],
            Some("p11"),
        ),
        // Two that were made beside each other.
        (&[(1, true), (2, false)], None),
    ] {
        let mut world = World::new();
        world.job("u1", json!({}));
        for (secs, is_labelled) in pods {
            pod_made_after(&mut world, *secs, *is_labelled);
        }
        let Lookup::Instance(instance) = world.cache.lookup(&n1()) else {
            panic!("it is there");
        };
        let name = instance.predecessor.map(|pod| pod.metadata.name.clone());
        assert_eq!(name.as_deref(), predecessor, "{pods:?}");
    }
}

#[test]
fn an_instance_is_found_by_its_name_or_its_session_and_no_other() {
    let mut world = World::new();
    world.job("u1", json!({}));
    world.pod("u1", {
        let mut pod = ready_pod("10.0.0.1");
        pod["metadata"] = json!({"labels": {"config-controller.semafor.ch/meta-sessionID": "s"}});
        pod
    });
    let find = |name: &str| world.cache.find(name, |_| true);
    assert_eq!(find("n1"), Some(n1()));
    assert_eq!(find("s"), Some(n1()));
    assert_eq!(find("n2"), None);
    assert_eq!(world.cache.find("n1", |app_type| app_type != "scim"), None);
}

#[test]
fn the_ages_are_those_of_the_three_stores() {
    let mut world = World::new();
    let start = world.instant();
    world.pass(Duration::from_secs(7));
    world.jobs.contact(start + Duration::from_secs(5));
    world.pods.contact(world.instant());
    let ages = world.cache.ages(world.instant());
    let ages = ages.map(|(resource, age)| (resource, age.as_secs()));
    assert_eq!(ages, [("configmaps", 7), ("jobs", 2), ("pods", 0)]);
}

/// The statuses of all instances are computed again, and the index is sound.
fn settle(world: &World) {
    for job in world.census.jobs.all() {
        world.cache.refresh(&key_of(&job).unwrap());
    }
    world.cache.check(&world.census).unwrap();
}

/// The counts of a type.
fn counts(world: &World, app_type: &str) -> Option<Counts> {
    settle(world);
    let app_type = AppType::new(app_type).unwrap();
    world.cache.counts().get(&app_type).copied()
}

#[test]
fn instances_are_counted_by_type_and_status() {
    let mut world = World::new();
    for (app_type, name, uid) in [
        ("scim", "a", "u1"),
        ("scim", "b", "u2"),
        ("other", "c", "u3"),
    ] {
        world.job_of(&key(app_type, name), uid, json!({}));
    }
    world.ready("u3", "10.0.0.3");
    // A Job made by hand under another name is no instance.
    world.job("u4", json!({"metadata": {"name": "by-hand"}}));
    assert_eq!(counts(&world, "scim"), Some([2, 0, 0, 0, 0]));
    assert_eq!(counts(&world, "other"), Some([0, 1, 0, 0, 0]));
    assert_eq!(world.cache.counts().len(), 2);
    world.job_of(
        &key("scim", "a"),
        "u1",
        json!({"metadata": {"deletionTimestamp": world.stamp()}}),
    );
    world.ended("u5", "Failed", json!({}));
    let complete = json!({"status": {"startTime": crate::app::fixture::T0, "conditions": [
        {"type": "Complete", "status": "True", "lastTransitionTime": world.stamp()},
    ]}});
    world.job_of(&key("scim", "b"), "u2", complete);
    assert_eq!(counts(&world, "scim"), Some([0, 0, 1, 1, 1]));
    world.job_gone("u5");
    assert_eq!(counts(&world, "scim"), Some([0, 0, 0, 1, 1]));
}

#[test]
fn a_status_that_was_computed_before_the_last_change_does_not_count() {
    let mut world = World::new();
    world.job("u1", json!({}));
    let changes = world.cache.index.changes(&n1()).unwrap();
    world.ready("u1", "10.0.0.1");
    world.cache.refresh(&n1());
    let starting = 0;
    world.cache.index.settle(&n1(), changes, starting);
    world.cache.check(&world.census).unwrap();
}

/// A pod of the Job with that UID, with a session set by PATCH.
fn session(world: &mut World, uid: &str, session: &str) {
    let mut pod = ready_pod("10.0.0.1");
    pod["metadata"] = json!({"labels": {"config-controller.semafor.ch/meta-sessionID": session}});
    world.pod(uid, pod);
}

#[test]
fn an_instance_of_a_name_is_found_before_one_with_that_label() {
    let mut world = World::new();
    let (a, b) = (key("hello", "a"), key("scim", "s1"));
    world.job_of(&a, "u1", json!({}));
    session(&mut world, "u1", "s1");
    assert_eq!(world.cache.find("s1", |_| true), Some(a.clone()));
    world.job_of(&b, "u2", json!({}));
    assert_eq!(world.cache.find("s1", |_| true), Some(b.clone()));
    let may_use = |app_type: &str| app_type == "hello";
    assert_eq!(world.cache.find("s1", may_use), Some(a.clone()));
    let leaves = json!({"metadata": {"deletionTimestamp": world.stamp()}});
    world.job_of(&b, "u2", leaves.clone());
    assert_eq!(world.cache.find("s1", |_| true), Some(a.clone()));
    world.job_of(&a, "u1", leaves);
    assert_eq!(world.cache.find("s1", |_| true), Some(b));
}

#[test]
fn labels_of_one_type_do_not_hide_those_of_another() {
    let mut world = World::new();
    for number in 0..=SESSIONS_MAX {
        let uid = format!("u{number}");
        world.job_of(&key("hello", &uid), &uid, json!({}));
        session(&mut world, &uid, "s");
    }
    world.job_of(&key("scim", "a"), "mine", json!({}));
    session(&mut world, "mine", "s");
    let may_use = |app_type: &str| app_type == "scim";
    assert_eq!(world.cache.find("s", may_use), Some(key("scim", "a")));
    assert_eq!(world.cache.find("s", |_| true), Some(key("hello", "u0")));
    let found = world.cache.index.with_session("s", |_| true);
    assert_eq!(found.len(), SESSIONS_MAX + 1);
}

#[test]
fn only_the_session_of_the_pod_that_counts_is_one() {
    let mut world = World::new();
    world.job("u1", json!({}));
    pod_made_after(&mut world, 1, false);
    let labels = |session: &str| json!({"config-controller.semafor.ch/meta-sessionID": session});
    world.pod(
        "u1",
        json!({
            "metadata": {"name": "p1", "uid": "p1", "labels": labels("old")},
            "status": {"phase": "Failed"},
        }),
    );
    let time = "2026-05-01T10:00:09Z";
    let newer =
        json!({"name": "p9", "uid": "p9", "creationTimestamp": time, "labels": labels("new")});
    world.pod("u1", json!({"metadata": newer}));
    assert_eq!(world.cache.find("old", |_| true), None);
    assert_eq!(world.cache.find("new", |_| true), Some(n1()));
    settle(&world);
}

#[test]
fn the_bytes_of_all_labels_are_counted() {
    let mut world = World::new();
    let label = |value: &str| {
        let labels = json!({"config-controller.semafor.ch/meta-user": value});
        let pair = json!({"config-controller.semafor.ch/meta.c8687a08aa": "[\"a b\",\"\\n\"]"});
        json!({"metadata": {"labels": labels, "annotations": pair}})
    };
    let bytes = |world: &World| {
        settle(world);
        world.cache.index.label_bytes()
    };
    let of = |world: &World, app_type: &str| {
        let app_type = key(app_type, "n").app_type;
        world.cache.index.label_bytes_of(&app_type)
    };
    for (app_type, uid) in [("scim", "u1"), ("slow", "u2")] {
        world.job_of(&key(app_type, uid), uid, json!({}));
        world.pod(uid, label("bob"));
    }
    let each = 4 + 3 + 3 + 2 + 2 * PAIR_BYTES;
    assert_eq!(bytes(&world), 2 * each);
    world.pod("u2", label("x"));
    assert_eq!(bytes(&world), each + each - 2);
    assert_eq!((of(&world, "scim"), of(&world, "slow")), (each, each - 2));
    world.pod_gone("u1");
    assert_eq!(bytes(&world), each - 2);
    assert_eq!((of(&world, "scim"), of(&world, "slow")), (0, each - 2));
    // The same object again, and one without labels.
    world.pod("u2", label("x"));
    assert_eq!(bytes(&world), 10 + 2 * PAIR_BYTES);
    world.pod("u2", json!({}));
    assert_eq!(bytes(&world), 0);
}
