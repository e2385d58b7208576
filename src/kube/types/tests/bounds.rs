//! What is kept of objects whose size others control: each field at its bound, and labels beyond
//! theirs.

use super::super::bounded::CONTAINERS_MAX;
use super::super::own::EXAMPLE_BYTES_MAX;
use super::*;
use serde_json::Map;

fn label(key: &str) -> String {
    format!("{META_LABEL}{key}")
}

/// A pod with these labels and annotations.
fn with_meta(labels: &Map<String, Value>, annotations: &Map<String, Value>) -> Pod {
    pod(&json!({"metadata": {"name": "p", "labels": labels, "annotations": annotations}}))
}

/// So many labels `k<n>`.
fn labels(count: usize, value: &str) -> Map<String, Value> {
    let keys = (0..count).map(|n| label(&format!("k{n:05}")));
    keys.map(|key| (key, json!(value))).collect()
}

/// So many annotations `a<n>`.
fn annotations(count: usize, value: &str) -> Map<String, Value> {
    let pairs = (0..count).map(|n| {
        let pair = json!([format!("a{n:05}"), value]).to_string();
        (format!("{META_ANNOTATION}{n:010}"), json!(pair))
    });
    pairs.collect()
}

/// How many meta labels are kept as labels and as annotations.
fn kept(pod: &Pod) -> (usize, usize) {
    let count = |pairs: &Pairs| pairs.iter().count();
    (
        count(&pod.metadata.labels),
        count(&pod.metadata.annotations),
    )
}

fn left_out(pairs: usize, bytes: usize) -> LeftOut {
    LeftOut { pairs, bytes }
}

#[test]
fn meta_labels_are_kept_in_the_order_of_their_keys_up_to_a_number() {
    let full = with_meta(&labels(META_PAIRS_MAX, "v"), &Map::new());
    assert_eq!(kept(&full), (META_PAIRS_MAX, 0));
    assert_eq!(full.metadata.left_out(), LeftOut::default());

    let all = labels(9500, "v");
    let over = with_meta(&all, &Map::new());
    assert_eq!(kept(&over), (META_PAIRS_MAX, 0));
    assert_eq!(over.metadata.left_out(), left_out(9436, 9436 * 7));
    assert_eq!(over.metadata.labels.get(&label("k00063")), Some("v"));
    let reversed: Map<_, _> = all.into_iter().rev().collect();
    assert_eq!(with_meta(&reversed, &Map::new()), over);
}

#[test]
fn meta_labels_are_kept_in_the_order_of_their_keys_up_to_their_bytes() {
    // Of `["a00000","…"]` only key and value count.
    let all = |last: usize| {
        let mut all = annotations(15, &"x".repeat(1024 - 6));
        let pair = json!(["z", "x".repeat(last - 1)]).to_string();
        all.insert(format!("{META_ANNOTATION}z"), json!(pair));
        with_meta(&Map::new(), &all)
    };
    assert_eq!(kept(&all(1024)), (0, 16));
    let over = all(1025);
    assert_eq!(kept(&over), (0, 15));
    assert_eq!(over.metadata.left_out(), left_out(1, 1025));

    // What comes after the first that does not fit is left out, even if it is small.
    let mut labels = labels(1, &"x".repeat(META_BYTES_MAX - 6));
    labels.insert(label("z"), json!(""));
    assert_eq!(kept(&with_meta(&labels, &Map::new())), (1, 0));
    labels.insert(label("a"), json!(""));
    let over = with_meta(&labels, &Map::new());
    assert_eq!(kept(&over), (1, 0));
    assert_eq!(over.metadata.left_out(), left_out(2, META_BYTES_MAX + 1));
    let large = labels.shift_remove(&label("k00000")).unwrap();
    labels.insert(label("k00000"), large);
    assert_eq!(with_meta(&labels, &Map::new()), over);
}

#[test]
fn what_is_kept_of_meta_labels_is_what_counts() {
    let one = |pair: &str| {
        let annotation = (format!("{META_ANNOTATION}k"), json!(pair));
        with_meta(&Map::new(), &Map::from_iter([annotation]))
    };
    let value = |pod: &Pod| {
        let mut annotations = pod.metadata.annotations.iter();
        annotations.next().map(|(_, pair)| pair.to_owned())
    };
    // Blanks and escapes that nobody needs are not kept.
    let compact = one(r#"["k","vA"]"#);
    let blank = " ".repeat(250_000);
    let padded = one(&format!(r#"{blank}["k",{blank}"v\u0041"{blank}]"#));
    assert_eq!(value(&padded).as_deref(), Some(r#"["k","vA"]"#));
    assert_eq!(padded, compact);
    // A control character is kept as six bytes.
    let fits = (META_BYTES_MAX - 1) / 6;
    let pair = |count: usize| encode_pair("k", &"\u{1}".repeat(count));
    let full = one(&pair(fits));
    assert_eq!(value(&full), Some(pair(fits)));
    assert_eq!(full.metadata.left_out(), LeftOut::default());
    let over = one(&pair(META_BYTES_MAX));
    assert_eq!(kept(&over), (0, 0));
    assert_eq!(
        over.metadata.left_out(),
        left_out(1, 1 + 6 * META_BYTES_MAX)
    );
}

#[test]
fn a_pair_counts_as_many_bytes_as_it_has_in_json() {
    let all: String = ('\0'..'\u{300}').collect();
    for value in all.chars().map(String::from).chain([all.clone()]) {
        let frame = encode_pair("", "").len();
        let stored = encode_pair("k\"", &value);
        assert_eq!(meta_bytes("k\"", &value), stored.len() - frame, "{value:?}");
        assert_eq!(decode_pair(&stored), Some(("k\"".to_owned(), value)));
    }
}

#[test]
fn both_forms_count_together_and_labels_come_first() {
    let both = with_meta(&labels(40, "v"), &annotations(24, "v"));
    assert_eq!(kept(&both), (40, 24));
    let over = with_meta(&labels(40, "v"), &annotations(30, "v"));
    assert_eq!(kept(&over), (40, 24));
    assert_eq!(over.metadata.left_out(), left_out(6, 42));
    let last = format!("{META_ANNOTATION}{:010}", 23);
    assert!(over.metadata.annotations.get(&last).is_some());
    let over = with_meta(&labels(65, "v"), &annotations(80, "v"));
    assert_eq!(kept(&over), (64, 0));
    assert_eq!(over.metadata.left_out(), left_out(81, 81 * 7));
}

#[test]
fn an_annotation_that_a_label_repeats_does_not_count() {
    let labels = labels(64, "v");
    let repeat = |n: usize| {
        let pair = json!([format!("k{n:05}"), "old"]).to_string();
        (format!("{META_ANNOTATION}{n:010}"), json!(pair))
    };
    let over = with_meta(&labels, &(0..10).map(repeat).collect());
    assert_eq!(kept(&over), (64, 0));
    assert_eq!(over.metadata.left_out(), LeftOut::default());
}

#[test]
fn only_what_is_read_is_kept_of_each_kind() {
    let own = |name: &str| format!("{OWN_PREFIX}{name}");
    let meta = format!("{META_ANNOTATION}a");
    let object = json!({"metadata": {
        "name": "x",
        "labels": {own("instance-type"): "hello", label("k"): "v", own("other"): "x", &meta: "x"},
        "annotations": {
            own("instance-name"): "ann", &meta: "[\"a\",\"b\"]", own("restart-delay"): "1s",
            label("k"): "v",
        },
    }});
    let keys = |pairs: &Pairs| -> Vec<String> { pairs.iter().map(|(key, _)| key.into()).collect() };
    let of = |meta: &ObjectMeta| [keys(&meta.labels), keys(&meta.annotations)];
    let (app_type, name) = (own("instance-type"), own("instance-name"));
    let pod = Pod::deserialize(&object).unwrap();
    let expected = [vec![app_type.clone(), label("k")], vec![name.clone(), meta]];
    assert_eq!(of(&pod.metadata), expected);
    let job = Job::deserialize(&object).unwrap();
    assert_eq!(of(&job.metadata), [vec![app_type], vec![name.clone()]]);
    let map = ConfigMap::deserialize(&object).unwrap();
    assert_eq!(
        of(&map.metadata),
        [vec![], vec![name, own("restart-delay")]]
    );
    let event = Event::deserialize(&object).unwrap();
    assert_eq!(of(&event.metadata), [Vec::<String>::new(), vec![]]);
}

#[test]
fn values_of_other_pairs_are_cut() {
    let key = format!("{OWN_PREFIX}instance-name");
    let length = |bytes: usize| {
        let annotations = json!({&key: "x".repeat(bytes)});
        let pod = pod(&json!({"metadata": {"name": "p", "annotations": annotations}}));
        pod.metadata.annotations.get(&key).unwrap().len()
    };
    assert_eq!(length(VALUE_BYTES_MAX), VALUE_BYTES_MAX);
    assert_eq!(length(VALUE_BYTES_MAX + 1), VALUE_BYTES_MAX);
}

#[test]
fn examples_of_templates_are_cut_later() {
    for key in ["example", "type.my_app.example"] {
        let key = format!("{OWN_PREFIX}{key}");
        let length = |bytes: usize| {
            let annotations = json!({&key: "x".repeat(bytes)});
            let object = json!({"metadata": {"name": "m", "annotations": annotations}});
            let map = ConfigMap::deserialize(&object).unwrap();
            map.metadata.annotations.get(&key).unwrap().len()
        };
        assert_eq!(length(EXAMPLE_BYTES_MAX), EXAMPLE_BYTES_MAX);
        assert_eq!(length(EXAMPLE_BYTES_MAX + 1), EXAMPLE_BYTES_MAX);
    }
}

/// A status of a container that failed, or is not started.
fn failed(reason: &str, message: &str) -> Value {
    json!({"terminated": {"exitCode": 1, "reason": reason, "message": message}})
}

#[test]
fn texts_of_a_pod_are_cut() {
    let text = |max: usize| "x".repeat(max + 1);
    let (name, reason) = (text(NAME_BYTES_MAX), text(REASON_BYTES_MAX));
    let message = text(MESSAGE_BYTES_MAX);
    let waiting = json!({"waiting": {"reason": reason, "message": message}});
    let pod = pod(&json!({
        "metadata": {
            "name": name, "ownerReferences": [{"controller": true, "uid": text(UID_BYTES_MAX)}],
            "labels": {"batch.kubernetes.io/controller-uid": text(UID_BYTES_MAX)},
        },
        "status": {"containerStatuses": [
            {"name": name, "state": waiting, "lastState": failed(&reason, &message)},
        ]},
    }));
    assert_eq!(pod.metadata.name.len(), NAME_BYTES_MAX);
    assert_eq!(pod.owner_uid.unwrap().to_string().len(), UID_BYTES_MAX);
    let container = &pod.containers[0];
    assert_eq!(container.name().len(), CONTAINER_NAME_BYTES_MAX);
    let ContainerState::Waiting(Some(waiting)) = &container.state else {
        panic!("{container:?}")
    };
    let last = container.last_terminated().unwrap();
    for (reason, message) in [
        (waiting.reason.as_deref(), waiting.message.as_deref()),
        (last.reason.as_deref(), last.message.as_deref()),
    ] {
        assert_eq!(reason.unwrap().len(), REASON_BYTES_MAX);
        assert_eq!(message.unwrap().len(), MESSAGE_BYTES_MAX);
    }
}

#[test]
fn texts_that_are_not_read_are_dropped() {
    let conditions = |kinds: &[ConditionType], status: &str| -> Vec<Value> {
        let names = ConditionType::NAMES.iter();
        let names = names.filter(|(_, kind)| kinds.contains(kind));
        let one = |(name, _): &(&str, _)| json!({"type": name, "status": status, "reason": "R", "message": "m"});
        names.map(one).collect()
    };
    let ended = json!({"terminated": {"exitCode": 0, "reason": "Completed", "message": "m"}});
    let status = |phase: &str, conditions: Vec<Value>| {
        pod(&json!({"metadata": {"name": "p"}, "status": {
            "phase": phase, "reason": "R", "message": "m", "conditions": conditions,
            "containerStatuses": [{"name": "a", "state": ended}],
        }}))
    };
    let all = ConditionType::NAMES.map(|(_, kind)| kind);
    let ready = status("Running", conditions(&all, "True"));
    let without = status("Running", conditions(&[], "True"));
    // Why it is disrupted.
    assert_eq!(ready.text_bytes(), without.text_bytes() + 1);
    assert_eq!(ready.detail, None);
    let ContainerState::Terminated(ended) = &ready.containers[0].state else {
        panic!("{ready:?}")
    };
    assert_eq!((&ended.reason, &ended.message), (&None, &None));
    let scheduling = status("Pending", conditions(&all, "False"));
    // Why it has no node, and why it is not ready.
    assert_eq!(scheduling.text_bytes(), without.text_bytes() + 2);
    let evicted = status("Failed", vec![]);
    assert_eq!(evicted.text_bytes(), without.text_bytes() + 1);
    let job =
        json!({"metadata": {"name": "j"}, "status": {"conditions": conditions(&all, "True")}});
    assert_eq!(Job::deserialize(&job).unwrap().text_bytes(), 2);
}

/// A pod whose containers have these states, init containers first.
fn with_states(inits: &[Value], apps: &[Value]) -> Pod {
    let status = |state: &Value| json!({"name": "a", "state": state, "lastState": state});
    let statuses = |states: &[Value]| -> Vec<Value> { states.iter().map(status).collect() };
    pod(&json!({"metadata": {"name": "p"}, "status": {
        "containerStatuses": statuses(apps), "initContainerStatuses": statuses(inits),
    }}))
}

/// The bytes of each message of its containers.
fn messages(pod: &Pod) -> Vec<usize> {
    let of_one = |container: &ContainerStatus| {
        let current = match &container.state {
            ContainerState::Terminated(ended) => Some((**ended).clone()),
            _ => None,
        };
        let last = container.last_terminated().cloned();
        let ended = current.into_iter().chain(last);
        let bytes = ended.map(|ended| ended.message.unwrap_or_default().len());
        bytes.collect::<Vec<_>>()
    };
    pod.containers.iter().flat_map(of_one).collect()
}

#[test]
fn the_containers_of_a_pod_and_their_messages_are_bounded() {
    let state = |bytes: usize| failed("Error", &"x".repeat(bytes));
    let many = |count: usize| vec![state(1); count];
    let both = 2 * CONTAINERS_MAX;
    for count in [CONTAINERS_MAX, CONTAINERS_MAX + 1] {
        let pod = with_states(&many(count), &many(count));
        assert_eq!(pod.containers.len(), both);
    }
    let quarter = OBJECT_MESSAGES_BYTES_MAX / 4;
    let full = with_states(&[state(quarter)], &[state(quarter)]);
    assert_eq!(messages(&full), [quarter; 4]);
    let over = with_states(&[state(quarter)], &[state(quarter), state(quarter)]);
    assert_eq!(messages(&over), [quarter, quarter, quarter, quarter, 0, 0]);
    let rest = OBJECT_MESSAGES_BYTES_MAX - 2 * 3000;
    let cut = with_states(&[], &[state(3000), state(3000)]);
    assert_eq!(messages(&cut), [3000, 3000, rest, 0]);
}

#[test]
fn an_object_that_is_shortened_counts_little() {
    let states = vec![failed("Error", &"x".repeat(1000)); CONTAINERS_MAX];
    let mut pod = with_states(&states, &states);
    assert!(pod.text_bytes() > OBJECT_MESSAGES_BYTES_MAX);
    pod.shorten();
    assert_eq!(pod.text_bytes(), SHORT_BYTES_MAX);
    assert_eq!(messages(&pod)[..2], [SHORT_MESSAGES_BYTES_MAX, 0]);
    let named = pod.containers.iter().filter(|one| one.name() == "a");
    assert_eq!(named.count(), SHORT_CONTAINERS_MAX);
    let message = "x".repeat(MESSAGE_BYTES_MAX + 1);
    let conditions = json!([{"type": "Failed", "status": "True", "message": message}]);
    let job = json!({"metadata": {"name": "j"}, "status": {"conditions": conditions}});
    let mut job = Job::deserialize(&job).unwrap();
    assert_eq!(job.text_bytes(), MESSAGE_BYTES_MAX);
    job.shorten();
    assert_eq!(job.text_bytes(), SHORT_MESSAGES_BYTES_MAX);
}

#[test]
fn only_templates_are_kept_of_a_config_map() {
    let map = json!({
        "metadata": {"name": "m"},
        "data": {
            "a.yaml": "spec", "b.yml": "x", "notes.txt": ["skipped"], "c.yaml": null,
            ".yaml": ["no type"],
        },
        "binaryData": {"d.yaml": "AAAA"},
    });
    let map = ConfigMap::deserialize(&map).unwrap();
    let expected = [("a.yaml", "spec"), ("c.yaml", "")];
    let expected = expected.map(|(key, text)| (key.to_owned(), text.to_owned()));
    assert_eq!(map.data, BTreeMap::from(expected));
}

#[test]
fn what_cannot_be_decoded_is_reported_briefly() {
    let long = "x".repeat(10_000);
    let bad = json!({"metadata": {"name": long}, "status": {"podIP": long}});
    let items = vec![bad; SKIPPED_MAX + 1];
    let list = json!({"metadata": {"resourceVersion": "9"}, "items": items});
    let page: Page<Pod> = decode_list(list.to_string().as_bytes()).unwrap();
    assert_eq!(page.skipped.len(), SKIPPED_MAX);
    let Skipped { name, reason } = &page.skipped[0];
    assert_eq!((name.len(), reason.len()), (NAME_BYTES_MAX, 300));
    let version = json!({"metadata": {"name": "p", "resourceVersion": "1".repeat(65)}});
    assert!(Pod::deserialize(&version).is_err());
}
