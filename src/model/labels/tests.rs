//! What PATCH makes of its body, and the bounds on meta labels, each at the bound.

use super::*;
use crate::kube::types::{Pod, Resource as _};

fn body(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[track_caller]
fn check_patch(input: Value, labels: Value, annotations: Value) {
    let patch = MetaChange::from_body(&body(input)).unwrap().merge_patch();
    assert_eq!(
        patch,
        json!({"metadata": {"labels": labels, "annotations": annotations}})
    );
}

#[test]
fn a_pair_that_is_a_valid_label_becomes_one_and_clears_the_other_form() {
    check_patch(
        json!({"username": "bob"}),
        json!({"config-controller.semafor.ch/meta-username": "bob"}),
        json!({"config-controller.semafor.ch/meta.16f78a7d63": null}),
    );
}

#[test]
fn a_value_that_is_an_invalid_label_becomes_an_annotation() {
    check_patch(
        json!({"username": "bob@x.ch"}),
        json!({"config-controller.semafor.ch/meta-username": null}),
        json!({"config-controller.semafor.ch/meta.16f78a7d63": "[\"username\",\"bob@x.ch\"]"}),
    );
}

#[test]
fn a_key_that_is_an_invalid_label_becomes_an_annotation_only() {
    check_patch(
        json!({"a b": "c"}),
        json!({}),
        json!({"config-controller.semafor.ch/meta.c8687a08aa": "[\"a b\",\"c\"]"}),
    );
}

#[test]
fn numbers_booleans_and_null_are_taken() {
    let change = MetaChange::from_body(&body(json!({"n": 1.5, "b": true, "gone": null}))).unwrap();
    let patch = change.merge_patch();
    let labels = &patch["metadata"]["labels"];
    assert_eq!(labels["config-controller.semafor.ch/meta-n"], "1.5");
    assert_eq!(labels["config-controller.semafor.ch/meta-b"], "true");
    assert_eq!(
        labels["config-controller.semafor.ch/meta-gone"],
        Value::Null
    );
}

#[test]
fn the_label_wins_over_the_annotation() {
    let pod = json!({"metadata": {
        "name": "p",
        "labels": {"config-controller.semafor.ch/meta-username": "bob"},
        "annotations": {
            "config-controller.semafor.ch/meta.16f78a7d63": "[\"username\",\"bob@x.ch\"]",
            "config-controller.semafor.ch/meta.c8687a08aa": "[\"a b\",\"c\"]",
        },
    }});
    let pod = Pod::decode(pod.to_string().as_bytes()).unwrap().unwrap();
    let expected = [("a b", "c"), ("username", "bob")];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(meta_labels(&pod.metadata), MetaLabels::from(expected));
}

#[track_caller]
fn check_refused(input: Value, expected: MetaError) {
    assert_eq!(MetaChange::from_body(&body(input)), Err(expected));
}

#[test]
fn reserved_keys_and_structures_are_rejected_by_name() {
    for key in RESERVED {
        check_refused(json!({key: "x"}), MetaError::Reserved(key.into()));
    }
    check_refused(json!({"a": 1, "b": {}}), MetaError::NotScalar("b".into()));
    check_refused(json!({"b": []}), MetaError::NotScalar("b".into()));
    check_refused(json!({"": "x"}), MetaError::EmptyKey);
    assert!(MetaChange::from_body(&body(json!({"sessionID": "s"}))).is_ok());
}

/// So many labels `k<n>` with these values.
fn labels(count: usize, value: &str) -> MetaLabels {
    (0..count)
        .map(|n| (format!("k{n:04}"), value.to_owned()))
        .collect()
}

fn change(input: Value) -> MetaChange {
    MetaChange::from_body(&body(input)).unwrap()
}

#[track_caller]
fn check_limit(own: &MetaLabels, input: Value, expected: Option<(usize, usize)>) {
    let expected = expected.map_or(Ok(()), |(pairs, bytes)| {
        Err(MetaError::Limit(Size { pairs, bytes }))
    });
    assert_eq!(
        change(input).check_limits(own, LeftOut::default()),
        expected
    );
}

#[test]
fn labels_are_bounded_in_number_including_existing_ones() {
    check_limit(&labels(63, "v"), json!({"new": "v"}), None);
    check_limit(&labels(64, "v"), json!({"k0000": "another"}), None);
    check_limit(&labels(64, "v"), json!({"new": "v"}), Some((65, 388)));
    check_limit(&labels(64, "v"), json!({"new": "v", "k0000": null}), None);
}

#[test]
fn labels_are_bounded_in_bytes_including_existing_ones() {
    let almost = labels(1, &"x".repeat(BYTES_MAX - 10));
    check_limit(&almost, json!({"ü": "abc"}), None);
    check_limit(&almost, json!({"ü": "abcd"}), Some((2, BYTES_MAX + 1)));
    check_limit(&almost, json!({"k0000": "short", "new": "v"}), None);
}

#[test]
fn control_characters_count_as_the_six_bytes_that_are_stored() {
    let own = |count: usize| labels(1, &"\u{1}".repeat(count));
    check_limit(&own(2728), json!({"k": "\u{1}"}), None);
    let almost = 5 + 6 * 2728;
    check_limit(
        &own(2728),
        json!({"k": "\u{1}\u{1}\""}),
        Some((2, almost + 15)),
    );
    check_refused(
        json!({"k": "\u{1}".repeat(BYTES_MAX)}),
        MetaError::Limit(Size {
            pairs: 1,
            bytes: 1 + 6 * BYTES_MAX,
        }),
    );
    let inherited = MetaChange::inheriting(&own(2728), [("k".into(), "\n".repeat(6))].into());
    assert_eq!(inherited, None);
}

#[test]
fn an_instance_above_the_bounds_can_be_changed_but_not_grow() {
    let many = labels(70, "v");
    check_limit(&many, json!({"k0000": null}), None);
    check_limit(&many, json!({"k0000": "another value"}), None);
    check_limit(&many, json!({"k0000": null, "new": "v"}), None);
    check_limit(&many, json!({"new": "v"}), Some((71, 424)));
    let long = labels(1, &"x".repeat(BYTES_MAX));
    check_limit(&long, json!({"k0000": "short"}), None);
    check_limit(&long, json!({"absent": null}), None);
    check_limit(&long, json!({"new": "v"}), Some((2, BYTES_MAX + 9)));
}

#[test]
fn while_labels_are_left_out_only_known_ones_can_be_set() {
    let own = labels(64, "v");
    let left_out = LeftOut {
        pairs: 100,
        bytes: 700,
    };
    let check = |input: Value| change(input).check_limits(&own, left_out);
    assert_eq!(check(json!({"k0000": null, "left-out": null})), Ok(()));
    assert_eq!(check(json!({"k0000": "another"})), Ok(()));
    let limit = |pairs, bytes| Err(MetaError::Limit(Size { pairs, bytes }));
    assert_eq!(check(json!({"new": "v"})), limit(165, 1088));
    // It would not be seen: another one takes the place of the one that is removed.
    assert_eq!(check(json!({"new": "v", "k0000": null})), limit(164, 1082));
    let above = LeftOut {
        pairs: 1,
        bytes: BYTES_MAX,
    };
    let longer = change(json!({"k0000": "longer"}));
    assert!(longer.check_limits(&labels(1, "v"), above).is_err());
}

#[test]
fn a_body_that_exceeds_the_bounds_by_itself_is_rejected() {
    let many: Map<String, Value> = (0..65).map(|n| (format!("k{n}"), json!("v"))).collect();
    let expected = Size {
        pairs: 65,
        bytes: 10 * 3 + 55 * 4,
    };
    check_refused(Value::Object(many), MetaError::Limit(expected));
    let expected = Size {
        pairs: 1,
        bytes: BYTES_MAX + 1,
    };
    check_refused(
        json!({"k": "x".repeat(BYTES_MAX)}),
        MetaError::Limit(expected),
    );
    let removals: Map<String, Value> = (0..65).map(|n| (format!("k{n}"), Value::Null)).collect();
    assert!(MetaChange::from_body(&removals).is_ok());
    let removals = |count| (0..count).map(|n| (format!("k{n}"), Value::Null)).collect();
    assert!(MetaChange::from_body(&removals(KEYS_MAX)).is_ok());
    let more = MetaChange::from_body(&removals(KEYS_MAX + 1));
    assert_eq!(more, Err(MetaError::TooManyKeys));
}

#[test]
fn a_successor_inherits_no_more_than_the_bounds_allow() {
    let mut predecessor = labels(70, "old");
    predecessor.insert(SESSION_ID.into(), "s".into());
    let own = labels(2, "new");
    let inherited = MetaChange::inheriting(&own, predecessor.clone()).unwrap();
    assert_eq!(inherited.0.len(), 62);
    assert_eq!(inherited.0.get(SESSION_ID), Some(&Some("s".into())));
    assert!(!inherited.0.contains_key("k0001"));
    assert_eq!(inherited.check_limits(&own, LeftOut::default()), Ok(()));
    assert_eq!(
        MetaChange::inheriting(&labels(64, "new"), predecessor),
        None
    );
    assert_eq!(MetaChange::inheriting(&own, labels(2, "old")), None);
}

#[test]
fn all_labels_are_bounded_and_types_with_few_have_a_reserve() {
    let pair = |bytes: usize| json!({"k": "x".repeat(bytes - 1 - PAIR_BYTES)});
    let check = |bytes: usize, of_type: usize, added: usize| {
        let all = AllBytes {
            bytes,
            of_type,
            bounds: AllBounds::DEFAULT,
        };
        let after = change(pair(added)).check_all(&MetaLabels::new(), all);
        let expected = AllBytes {
            bytes: bytes + added,
            of_type: of_type + added,
            ..all
        };
        after.map(|after| assert_eq!(after, expected))
    };
    let many = FEW_BYTES_MAX;
    assert_eq!(check(ALL_BYTES_MAX - 100, many, 100), Ok(()));
    let error = Err(MetaError::AllLimit(ALL_BYTES_MAX));
    assert_eq!(check(ALL_BYTES_MAX - 100, many, 101), error);
    // The change itself must leave it with few.
    assert_eq!(check(ALL_BYTES_MAX, many - 100, 100), Ok(()));
    assert_eq!(check(ALL_BYTES_MAX, many - 100, 101), error);
    let most = ALL_BYTES_MAX + RESERVE_BYTES;
    assert_eq!(check(most - 100, 0, 100), Ok(()));
    assert_eq!(check(most - 100, 0, 101), Err(MetaError::AllLimit(most)));

    // What does not lengthen labels always passes.
    let own: MetaLabels = labels(1, "longer");
    let all = AllBytes {
        bytes: 2 * most,
        of_type: most,
        bounds: AllBounds::DEFAULT,
    };
    let shortened = change(json!({"k0000": "short"})).check_all(&own, all);
    assert_eq!(shortened.map(|after| after.bytes), Ok(2 * most - 1));
}
