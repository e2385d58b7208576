//! What the stores hold, and what is read from it.

use super::*;
use crate::app::fixture::{World, decode, key, n1, ready_pod};
use serde_json::json;

fn entries(world: &World) -> Vec<(String, Option<String>, bool, Option<i64>)> {
    let entries = world.cache.entries("scim").into_iter();
    entries
        .map(|e| (e.name, e.ip.map(|ip| ip.to_string()), e.is_ready, e.started))
        .collect()
}

#[test]
fn what_there_is_under_a_key() {
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
fn a_pod_whose_owner_is_no_controller_never_counts() {
    let mut world = World::new();
    world.job("u1", json!({}));
    let mut pod = ready_pod("10.0.0.1");
    pod["metadata"] = json!({"ownerReferences": [{"uid": "u1", "name": "scim-n1"}]});
    world.pod("u1", pod);
    assert_eq!(world.cache.ready(&n1()), None);
}

#[test]
fn jobs_of_the_original_are_known_by_their_template() {
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
fn raw_names_come_from_annotations() {
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
    assert_eq!(world.cache.entries("nope"), []);
}

#[test]
fn a_list_never_shows_the_address_of_a_leaving_pod() {
    let mut world = World::new();
    world.job("u1", json!({}));
    let mut pod = ready_pod("10.0.0.1");
    pod["metadata"] = json!({
        "deletionTimestamp": world.stamp(), "labels": {"config-controller.semafor.ch/meta-username": "bob"},
    });
    world.pod("u1", pod);
    assert_eq!(entries(&world), [("n1".into(), None, false, None)]);
    assert_eq!(world.cache.entries("scim")[0].meta["username"], "bob");
}

#[test]
fn a_list_shows_what_is_being_stopped_as_not_ready() {
    let mut world = World::new();
    world.deleting("u1");
    world.ready("u1", "10.0.0.1");
    assert_eq!(entries(&world), [("n1".into(), None, false, None)]);
    assert_eq!(world.cache.ready(&n1()), None);
}

#[test]
fn a_job_made_by_hand_under_another_name_is_no_instance() {
    let mut world = World::new();
    world.job("u1", json!({"metadata": {"name": "by-hand"}}));
    assert_eq!(entries(&world), []);
    assert!(matches!(world.cache.lookup(&n1()), Lookup::Absent));
}

#[test]
fn a_job_without_a_name_label_is_nobodys() {
    let mut world = World::new();
    let names = json!({"config-controller.semafor.ch/instance-name": null});
    let mut job = world.job_json(&n1(), "u1", &json!({}));
    for at in ["/metadata", "/spec/template/metadata"] {
        for kind in ["labels", "annotations"] {
            let pairs = job.pointer_mut(&format!("{at}/{kind}")).unwrap();
            crate::app::fixture::merge(pairs, &names);
        }
    }
    let event = crate::kube::watch::StoreEvent::Apply(decode(&job));
    drop(world.jobs.apply(event));
    assert!(matches!(world.cache.lookup(&n1()), Lookup::NameConflict));
    assert_eq!(entries(&world), []);
}

#[test]
fn what_is_being_stopped_is_found_last() {
    let mut world = World::new();
    let find = |world: &World| world.cache.find("b", |_| true);
    // An instance is the session of its name, unless PATCH has set another.
    let (a, b) = (key("scim", "a"), key("scim", "b"));
    world.job_of(&a, "u1", json!({}));
    world.pod("u1", {
        let mut pod = ready_pod("10.0.0.1");
        pod["metadata"] = json!({"labels": {"config-controller.semafor.ch/meta-sessionID": "b"}});
        pod
    });
    world.job_of(&b, "u2", json!({}));
    assert_eq!(find(&world), Some(a.clone()));
    let leaves = json!({"metadata": {"deletionTimestamp": world.stamp()}});
    world.job_of(&a, "u1", leaves.clone());
    assert_eq!(find(&world), Some(b.clone()));
    world.job_of(&b, "u2", leaves);
    assert_eq!(find(&world), Some(a));
}

#[test]
fn a_view_is_synced_when_all_three_are() {
    let mut world = World::unsynced();
    assert!(!world.cache.is_synced());
    world.sync();
    assert!(world.cache.is_synced());
}
