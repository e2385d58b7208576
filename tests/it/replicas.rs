//! Several replicas on one API server: they agree without talking to each other.

use serde_json::{Value, json};

use crate::fake_kube::dynamics::fate::Fate;
use crate::harness::{Ground, eventually};

/// As many replicas, all of them ready.
fn replicas(count: usize, fate: Fate) -> Ground {
    let mut ground = Ground::builder().fate(fate).start();
    for _ in 1..count {
        let replica = ground.add_replica();
        ground.wait_ready(replica);
    }
    ground
}

#[test]
fn the_same_name_at_once_is_one_job() {
    let ground = replicas(3, Fate::by_hand());
    let names = ["a", "b", "c", "d", "e"];
    let mut callers = Vec::new();
    for name in names {
        for replica in [0, 1, 2, 0, 1, 2] {
            let path = format!("/app/hello/{name}");
            callers.push((name, ground.replica(replica).begin_get(&path)));
        }
    }
    for name in names {
        ground.make_ready(&format!("hello-{name}"));
    }
    let mut addresses = json!({});
    for (name, caller) in callers {
        let answer = caller.finish().expect(200);
        let before = addresses[name].take();
        assert!(before.is_null() || before == answer["ip"], "{name}");
        addresses[name] = answer["ip"].clone();
    }
    let created = ground.kube.requests();
    let created = created
        .iter()
        .filter(|request| request.verb == "create" && request.code == 201);
    assert_eq!(created.count(), names.len());
    assert_eq!(ground.jobs().len(), names.len());
}

#[test]
fn what_one_writes_the_others_see() {
    let ground = replicas(2, Fate::default());
    let ip = ground.start_instance("/app/hello/ann");
    let other = ground.replica(1);
    // Known to the other or not: it is found, not made again.
    assert_eq!(other.get("/app/hello/ann").expect(200)["ip"], json!(ip));
    ground
        .patch("/app/hello/ann", &json!({"k": "v"}))
        .expect(200);
    eventually("the label is seen", || {
        (other.get("/app/hello/ann").expect(200)["k"] == "v").then_some(())
    });
    other.delete("/app/hello/ann").expect(200);
    eventually("the deletion is seen", || {
        (ground.get("/app/hello").text == "[]").then_some(())
    });
    assert_eq!(ground.jobs(), [""; 0]);
}

#[test]
fn a_patch_through_one_of_what_another_has_just_started() {
    let ground = replicas(2, Fate::default());
    for n in 0..10 {
        let path = format!("/app/hello/n{n}");
        ground.start_instance(&path);
        let patched = ground.replica(1).patch(&path, &json!({"k": "v"}));
        patched.expect_text(200, r#"{"status":"Success"}"#);
    }
}

#[test]
fn a_delete_through_one_of_what_another_has_just_started() {
    let ground = replicas(2, Fate::default());
    for n in 0..10 {
        let path = format!("/app/hello/n{n}");
        ground.start_instance(&path);
        let deleted = ground.replica(1).delete(&path);
        deleted.expect_text(200, r#"{"status":"Success"}"#);
    }
    eventually("all are gone", || ground.jobs().is_empty().then_some(()));
}

#[test]
fn those_who_wait_at_one_hear_of_a_stop_at_another() {
    let ground = replicas(2, Fate::by_hand());
    let waiting = ground.client().begin_get("/app/hello/ann");
    ground.wait_pod("hello-ann");
    eventually("the first replica knows the Job", || {
        let list: Value = ground.get("/app/hello").expect(200);
        (list[0]["name"] == "ann").then_some(())
    });
    ground.replica(1).delete("/app/hello/ann").expect(200);
    waiting.finish().expect_error(409, "stopped");
}
