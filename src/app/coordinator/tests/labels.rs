//! Changes of labels that wait for the same name: what one call merges, and who gets which response.

use super::{Limits, NOTHING, WRITE_WAIT};
use crate::app::api_call::Action;
use crate::app::fixture::{
    Fixture, ROOMY, conflict, invalid, key, n1, ready_pod, uid, unavailable,
};
use crate::kube::error::Verb;
use crate::kube::types::ResourceVersion;
use crate::model::labels::{AllBounds, MetaChange, PAIR_BYTES};
use serde_json::{Map, Value, json};

/// A pod of the Job `u1` with so many meta labels `k<n>`.
fn pod_with_labels(count: usize) -> Value {
    let label = |n: usize| format!("config-controller.semafor.ch/meta-k{n}");
    let labels: Map<String, Value> = (0..count).map(|n| (label(n), json!("v"))).collect();
    let mut pod = ready_pod("10.0.0.1");
    pod["metadata"] = json!({"labels": labels});
    pod
}

/// An instance whose pod has so many labels, and a call that labels it: request 1.
fn labelling(count: usize) -> Fixture {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    fixture.world.pod("u1", pod_with_labels(count));
    let called = fixture.label_with(1, &json!({"k0": "w"}));
    assert_eq!(called, ["call label p-u1"]);
    fixture
}

/// What the call in flight does to labels, in order of the keys.
fn change(fixture: &Fixture) -> Value {
    let Some(Action::LabelPod { changes, .. }) = fixture.call() else {
        panic!("{:?}", fixture.call());
    };
    let patch = MetaChange::merged(changes.iter().map(|change| &**change)).merge_patch();
    let labels = patch["metadata"]["labels"].as_object().unwrap();
    let short = |key: &str| key.rsplit('-').next().unwrap().to_owned();
    let pairs = labels.iter();
    pairs
        .map(|(key, value)| (short(key), value.clone()))
        .collect()
}

#[test]
fn labels_that_wait_become_one_call() {
    let mut fixture = labelling(1);
    for n in 2..=500 {
        let key = format!("k{}", n % 7);
        assert_eq!(fixture.label_with(n, &json!({key: n.to_string()})), NOTHING);
    }
    assert_eq!(fixture.done(), ["1: done", "call label p-u1 for 499"]);
    let last = json!({
        "k0": "497", "k1": "498", "k2": "499", "k3": "500", "k4": "494", "k5": "495", "k6": "496",
    });
    assert_eq!(change(&fixture), last, "the last of each key counts");
    assert_eq!(fixture.done().len(), 499);
    fixture.check_idle();
}

/// Each is checked against what those before it leave.
#[test]
fn of_merged_labels_only_those_that_exceed_the_bound_are_rejected() {
    let mut fixture = labelling(62);
    for (n, body) in [
        (2, json!({"a": "1"})),
        (3, json!({"b": "1"})),
        (4, json!({"c": "1"})),
        (5, json!({"a": null})),
        (6, json!({"d": "1"})),
        (7, json!({"b": "2"})),
        (8, json!({"e": "x".repeat(16_380)})),
    ] {
        assert_eq!(fixture.label_with(n, &body), NOTHING);
    }
    let done = fixture.done();
    assert_eq!(
        done,
        [
            "1: done",
            "4: LabelsLimit",
            "8: LabelsLimit",
            "call label p-u1 for 5"
        ]
    );
    assert_eq!(change(&fixture), json!({"a": null, "b": "2", "d": "1"}));
    assert_eq!(
        fixture.done(),
        ["2: done", "3: done", "5: done", "6: done", "7: done"]
    );
    fixture.check_idle();
}

const fn without_reserve(max: usize) -> AllBounds {
    AllBounds {
        max,
        reserve: 0,
        few: 0,
    }
}

/// Another instance's PATCH that is not done yet counts, too.
#[test]
fn all_labels_are_bounded_together_and_one_that_shortens_always_passes() {
    let mut fixture = Fixture::with_limits(Limits {
        label_bounds: without_reserve(20 + 6 * PAIR_BYTES),
        force_stop: true,
        ..ROOMY
    });
    let (other, until) = (key("scim", "n2"), fixture.world.instant() + WRITE_WAIT);
    for (key, uid) in [(&n1(), "u1"), (&other, "u2")] {
        fixture.world.job_of(key, uid, json!({}));
        // Three labels of three bytes each.
        fixture.world.pod(uid, pod_with_labels(3));
    }
    assert_eq!(
        fixture.label_with(1, &json!({"k0": "longer"})),
        ["1: LabelsLimit"]
    );
    assert_eq!(
        fixture.label_with(2, &json!({"k0": "www"})),
        ["call label p-u1"]
    );
    assert_eq!(
        fixture.label_of(3, &other, &json!({"k0": "ww"}), until),
        ["3: LabelsLimit"]
    );
    assert_eq!(
        fixture.label_of(4, &other, &json!({"k0": "w"}), until),
        ["call label p-u2"]
    );
    for (n, body) in [
        (5, json!({"k1": "ww"})),
        (6, json!({"k0": ""})),
        (7, json!({"k0": "www", "k2": null})),
        (8, json!({"k3": "wwwwwww"})),
    ] {
        assert_eq!(fixture.label_with(n, &body), NOTHING);
    }
    let done = fixture.done();
    assert_eq!(done, ["2: done", "8: LabelsLimit", "call label p-u1 for 3"]);

    // Above the bound, as after what another client has written.
    let mut fixture = Fixture::with_limits(Limits {
        label_bounds: without_reserve(5 + 3 * PAIR_BYTES),
        force_stop: true,
        ..ROOMY
    });
    fixture.world.job("u1", json!({}));
    fixture.world.pod("u1", pod_with_labels(3));
    let error = fixture.label_with(1, &json!({"k0": "w", "k1": "ww"}));
    assert_eq!(error, ["1: LabelsLimit"]);
    let swapped = json!({"k0": null, "new": ""});
    assert_eq!(fixture.label_with(2, &swapped), ["call label p-u1"]);
}

/// Calls in flight for other names of the type count for it, too.
#[test]
fn a_type_with_few_labels_may_exceed_what_another_fills() {
    // What three labels of three bytes each take.
    const THREE: usize = 9 + 3 * PAIR_BYTES;
    let mut fixture = Fixture::with_limits(Limits {
        label_bounds: AllBounds {
            max: THREE,
            reserve: 2 * THREE,
            few: THREE + 2,
        },
        force_stop: true,
        ..ROOMY
    });
    let until = fixture.world.instant() + WRITE_WAIT;
    let (own, small, next) = (n1(), key("small", "n1"), key("small", "n2"));
    for (key, uid, labels) in [(&own, "u1", 3), (&small, "u2", 2), (&next, "u3", 1)] {
        fixture.world.job_of(key, uid, json!({}));
        fixture.world.pod(uid, pod_with_labels(labels));
    }
    let mut label = |n, key, value: &str| fixture.label_of(n, key, &json!({"k0": value}), until);
    assert_eq!(label(1, &own, "longer"), ["1: LabelsLimit"]);
    assert_eq!(label(2, &small, "ww"), ["call label p-u2"]);
    assert_eq!(label(3, &next, "www"), ["3: LabelsLimit"]);
    assert_eq!(label(4, &next, "ww"), ["call label p-u3"]);
    // The first has few labels now, and the reserve is in use.
    fixture.world.pod("u1", pod_with_labels(1));
    fixture.world.pod("u2", pod_with_labels(5));
    fixture.world.pod("u3", pod_with_labels(3));
    let mut label = |n, value: &str| fixture.label_with(n, &json!({"k0": value}));
    assert_eq!(label(5, "w"), ["call label p-u1"]);
    assert_eq!(label(6, "ww"), NOTHING);
    let done = fixture.done();
    assert_eq!(done, ["5: done", "6: LabelsLimit"]);
}

#[test]
fn merged_labels_are_retried_together_with_those_that_came_since() {
    let mut fixture = labelling(1);
    fixture.label(2);
    fixture.label(3);
    assert_eq!(fixture.done(), ["1: done", "call label p-u1 for 2"]);
    fixture.label(4);
    assert_eq!(fixture.fails(unavailable(Verb::Patch)), NOTHING);
    // A caller hangs up: its change was accepted, so it is made.
    assert_eq!(fixture.hang_up(3), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call label p-u1 for 3"]);
    assert_eq!(fixture.done(), ["2: done", "4: done"]);
    fixture.check_idle();
}

#[test]
fn merged_labels_expire_each_at_its_own_deadline() {
    let mut fixture = labelling(1);
    fixture.label(2);
    fixture.pass(5.0);
    fixture.label(3);
    assert_eq!(fixture.done(), ["1: done", "call label p-u1 for 2"]);
    for _ in 0..2 {
        assert_eq!(fixture.fails(unavailable(Verb::Patch)), NOTHING);
        assert_eq!(fixture.pass(2.0), ["call label p-u1 for 2"]);
    }
    // The call in flight is for both.
    assert_eq!(fixture.pass(2.0), NOTHING);
    assert_eq!(fixture.fails(unavailable(Verb::Patch)), ["2: Unavailable"]);
    assert_eq!(fixture.pass(1.0), ["call label p-u1"]);
    assert_eq!(fixture.done(), ["3: done"]);
    fixture.check_idle();
}

/// Kubernetes, or an admission webhook, does not say which of them it rejects.
#[test]
fn of_merged_labels_only_the_one_that_kubernetes_rejects_fails() {
    let bad = "bad";
    let mut fixture = labelling(1);
    for n in 2..=101 {
        let key = if n == 77 {
            bad.into()
        } else {
            format!("k{}", n % 7)
        };
        fixture.label_with(n, &json!({key: "v"}));
    }
    let (mut responses, mut calls) = (fixture.done(), 0);
    while let Some(at) = responses.iter().position(|line| line.starts_with("call")) {
        responses.remove(at);
        calls += 1;
        responses.extend(if change(&fixture)[bad] == "v" {
            fixture.fails(invalid(Verb::Patch))
        } else {
            fixture.done()
        });
    }
    let expected = |n: u64| match n {
        77 => "77: ValueInvalid".to_owned(),
        n => format!("{n}: done"),
    };
    assert_eq!(responses, (1..=101).map(expected).collect::<Vec<_>>());
    assert!(calls <= 20, "{calls} calls");
    fixture.check_idle();
}

#[test]
fn a_merged_call_is_bounded_in_bytes_and_in_keys() {
    let removing = |count: usize, length: usize| -> Value {
        let key = |n: usize| format!("{n:0length$}");
        (0..count).map(|n| (key(n), Value::Null)).collect()
    };
    for (body, merged) in [
        (removing(1, 1024), 64),
        (removing(1, 1025), 63),
        (removing(64, 4), 16),
        (removing(65, 4), 15),
    ] {
        let mut fixture = labelling(1);
        for n in 2..=101 {
            fixture.label_with(n, &body);
        }
        let called = format!("call label p-u1 for {merged}");
        assert_eq!(fixture.done(), ["1: done", &called]);
    }
    // A single change is always made.
    let mut fixture = labelling(1);
    fixture.label_with(2, &removing(200, 400));
    fixture.label_with(3, &removing(1, 1));
    assert_eq!(fixture.done(), ["1: done", "call label p-u1"]);
    assert_eq!(fixture.done(), ["2: done", "call label p-u1"]);
}

fn user(name: &str) -> Value {
    json!({"config-controller.semafor.ch/meta-username": name})
}

/// The cache shows this pod of the Job `u1`.
fn show(fixture: &mut Fixture, name: &str, labels: Value) {
    let mut pod = ready_pod("10.0.0.1");
    pod["metadata"] = json!({"name": name, "uid": name, "labels": labels});
    fixture.world.pod("u1", pod);
}

/// The version that the pod must have for the call in flight.
fn version(fixture: &Fixture) -> Option<ResourceVersion> {
    match fixture.call() {
        Some(Action::LabelPod { version, .. }) => version.clone(),
        other => panic!("{other:?}"),
    }
}

fn shown_version(fixture: &Fixture) -> Option<ResourceVersion> {
    let pod = fixture.world.cache.pods.get("p2")?;
    Some(pod.metadata.resource_version.clone())
}

/// The pod `p1` of the user `old` was replaced, and request 1 labels its successor `p2` with `new`: the call
/// that passes the old label on is in flight.
fn passing_on() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.world.job("u1", json!({}));
    show(&mut fixture, "p1", user("old"));
    assert_eq!(fixture.changed(), NOTHING);
    fixture.pass(1.0);
    drop(fixture.world.pods.own_delete("p1", &uid("p1")));
    show(&mut fixture, "p2", json!({}));
    // The request is seen before the change of the cache.
    let called = fixture.label_with(1, &json!({"username": "new"}));
    assert_eq!(called, ["call label p2"]);
    assert_eq!(change(&fixture), json!({"username": "old"}));
    // Another replica may have set one meanwhile; then the cache must show that first.
    assert_eq!(version(&fixture), shown_version(&fixture));
    fixture
}

/// They are older than every request.
#[test]
fn labels_are_passed_on_before_those_that_wait_are_set() {
    let mut fixture = passing_on();
    assert_eq!(fixture.changed(), NOTHING);
    show(&mut fixture, "p2", user("old"));
    assert_eq!(fixture.done(), ["call label p2"]);
    assert_eq!(change(&fixture), json!({"username": "new"}));
    assert_eq!(version(&fixture), None);
    show(&mut fixture, "p2", user("new"));
    assert_eq!(fixture.done(), ["1: done"]);
    fixture.check_idle();
}

/// Kubernetes keeps the failed pod `p0`. The next pod had other labels, and was deleted.
#[test]
fn labels_of_a_pod_that_failed_before_the_last_one_are_not_passed_on() {
    let mut fixture = Fixture::new();
    let retries = json!({"spec": {"backoffLimit": 6}});
    fixture.world.job("u1", retries);
    let failed = json!({
        "metadata": {"name": "p0", "uid": "p0", "labels": user("old")}, "status": {"phase": "Failed"},
    });
    fixture.world.pod("u1", failed);
    assert_eq!(fixture.changed(), NOTHING);
    fixture.pass(12.0);
    show(&mut fixture, "p1", user("new"));
    assert_eq!(fixture.changed(), NOTHING);
    let mut leaving = ready_pod("10.0.0.1");
    leaving["metadata"] = json!({"name": "p1", "uid": "p1", "labels": user("new")});
    leaving["metadata"]["deletionTimestamp"] = json!(fixture.world.stamp());
    fixture.world.pod("u1", leaving);
    assert_eq!(fixture.changed(), NOTHING);
    drop(fixture.world.pods.own_delete("p1", &uid("p1")));
    assert_eq!(fixture.changed(), NOTHING);
    fixture.pass(12.0);
    show(&mut fixture, "p2", json!({}));
    assert_eq!(fixture.changed(), ["call label p2"]);
    assert_eq!(change(&fixture), json!({"username": "new"}));
}

/// The pod has changed, and the watch does not show that: a call that changes nothing does.
#[test]
fn labels_are_passed_on_while_the_watch_on_pods_stands_still() {
    // Of the pod as it is by now: without the label, or with that of another replica's caller.
    for (labels, is_lacking) in [(json!({}), true), (user("other"), false)] {
        let mut fixture = passing_on();
        assert_eq!(fixture.fails(conflict(Verb::Patch)), NOTHING);
        assert_eq!(fixture.pass(0.1), ["call label p2"]);
        assert_eq!((change(&fixture), version(&fixture)), (json!({}), None));
        show(&mut fixture, "p2", labels);
        assert_eq!(fixture.done(), ["call label p2"]);
        if is_lacking {
            assert_eq!(change(&fixture), json!({"username": "old"}));
            assert_eq!(version(&fixture), shown_version(&fixture));
            show(&mut fixture, "p2", user("old"));
            assert_eq!(fixture.done(), ["call label p2"]);
        }
        assert_eq!(change(&fixture), json!({"username": "new"}));
        show(&mut fixture, "p2", user("new"));
        assert_eq!(fixture.done(), ["1: done"]);
        fixture.check_idle();
    }
}

/// The watch is faster than the call that changes nothing.
#[test]
fn labels_are_passed_on_once_the_watch_shows_the_pod_as_it_is() {
    let mut fixture = passing_on();
    assert_eq!(fixture.fails(conflict(Verb::Patch)), NOTHING);
    show(&mut fixture, "p2", json!({}));
    assert_eq!(fixture.changed(), NOTHING);
    assert_eq!(fixture.pass(0.1), ["call label p2"]);
    assert_eq!(change(&fixture), json!({"username": "old"}));
    assert_eq!(version(&fixture), shown_version(&fixture));
}

/// The cache does not take the pod as it is: its version went back.
#[test]
fn a_pod_that_the_cache_does_not_take_is_read_with_pauses() {
    let mut fixture = passing_on();
    fixture.fails(conflict(Verb::Patch));
    let mut calls = fixture.pass(0.1).len();
    for _ in 0..50 {
        calls += fixture
            .done()
            .iter()
            .filter(|it| it.starts_with("call"))
            .count();
        calls += fixture
            .pass(0.1)
            .iter()
            .filter(|it| it.starts_with("call"))
            .count();
    }
    assert!((2..20).contains(&calls), "{calls} calls in 5 s");
}
