//! Decoding, with literals as Kubernetes 1.36 sends them (shortened).

mod bounds;
mod fingerprints;

use super::*;
use crate::random::Random;
use serde_json::{Value, json};

const JOB: &str = r#"{
  "apiVersion": "batch/v1", "kind": "Job",
  "metadata": {
    "name": "hello-ann", "namespace": "apps", "uid": "2293ff2d-892e-4d55-a8d3-375647fb5084",
    "resourceVersion": "4376", "generation": 1, "creationTimestamp": "2026-11-22T19:10:40Z",
    "labels": {"config-controller.semafor.ch/instance-type": "hello", "config-controller.semafor.ch/instance-name": "ann", "other": "x"},
    "annotations": {"config-controller.semafor.ch/instance-type": "hello", "config-controller.semafor.ch/instance-name": "ann", "config-controller.semafor.ch/started-by": "10.128.0.17"}
  },
  "spec": {
    "parallelism": 1, "completions": 1, "backoffLimit": 0, "suspend": false, "podReplacementPolicy": "Failed",
    "template": {
      "metadata": {
        "creationTimestamp": null,
        "labels": {"job-name": "hello-ann", "config-controller.semafor.ch/instance-name": "ann", "config-controller.semafor.ch/instance-type": "hello"},
        "annotations": {"config-controller.semafor.ch/instance-type": "hello", "config-controller.semafor.ch/instance-name": "ann"}
      },
      "spec": {"restartPolicy": "Never", "containers": [{"name": "app", "image": "hello"}]}
    }
  },
  "status": {"startTime": "2026-11-22T19:10:40Z", "active": 1, "ready": 1, "terminating": 0, "uncountedTerminatedPods": {}}
}"#;

const POD: &str = r#"{
  "metadata": {
    "name": "hello-ann-75rhn", "generateName": "hello-ann-", "uid": "6b4a0e83-73e4-4558-b840-90f4107e594f",
    "resourceVersion": "4377", "creationTimestamp": "2026-11-22T19:10:40Z",
    "finalizers": ["batch.kubernetes.io/job-tracking"],
    "labels": {"batch.kubernetes.io/job-name": "hello-ann", "batch.kubernetes.io/controller-uid": "2293ff2d-892e-4d55-a8d3-375647fb5084", "config-controller.semafor.ch/instance-name": "ann", "config-controller.semafor.ch/instance-type": "hello"},
    "annotations": {"config-controller.semafor.ch/instance-name": "ann", "config-controller.semafor.ch/instance-type": "hello"},
    "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "controller": true, "name": "hello-ann", "uid": "2293ff2d-892e-4d55-a8d3-375647fb5084"}]
  },
  "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 30, "nodeName": "n1"},
  "status": {
    "phase": "Running", "podIP": "10.1.2.3", "podIPs": [{"ip": "10.1.2.3"}], "hostIP": "10.0.0.1", "startTime": "2026-11-22T19:10:41Z",
    "conditions": [
      {"type": "PodReadyToStartContainers", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-22T19:10:42Z"},
      {"type": "Initialized", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-22T19:10:41Z"},
      {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-22T19:10:43Z"},
      {"type": "ContainersReady", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-22T19:10:43Z"},
      {"type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-11-22T19:10:40Z"}
    ],
    "containerStatuses": [{"name": "app", "ready": true, "started": true, "restartCount": 0, "lastState": {}, "state": {"running": {"startedAt": "2026-11-22T19:10:42Z"}}}]
  }
}"#;

fn job(text: &str) -> Option<Job> {
    Job::decode(text.as_bytes()).unwrap()
}

fn pod(value: &Value) -> Pod {
    Pod::deserialize(value).unwrap()
}

#[test]
fn a_job_of_this_service() {
    let job = job(JOB).unwrap();
    assert_eq!(&*job.metadata.name, "hello-ann");
    assert_eq!(
        job.metadata.uid.to_string(),
        "2293ff2d-892e-4d55-a8d3-375647fb5084"
    );
    assert_eq!(job.metadata.resource_version.to_string(), "4376");
    assert_eq!(
        job.metadata.creation_timestamp.unwrap().seconds(),
        1_795_374_640
    );
    // Its annotations repeat its labels and those of its template.
    assert!(job.metadata.labels == Pairs::default() && job.template == Pairs::default());
    assert_eq!((job.app_type(), job.index()), (Some("hello"), Some("ann")));
    assert_eq!((job.status.failed, job.backoff_limit), (0, 0));
}

#[test]
fn a_job_of_2_7_1_is_recognised_by_its_template_and_others_are_dropped() {
    let template = |labels: Value| {
        json!({"metadata": {"name": "a"}, "spec": {"template": {"metadata": {"labels": labels}}}})
            .to_string()
    };
    let ours = job(&template(
        json!({"config-controller.semafor.ch/instance-type": "hello"}),
    ));
    let ours = ours.unwrap();
    assert_eq!(ours.app_type(), Some("hello"));
    assert_eq!(ours.backoff_limit, 6, "Kubernetes' default");
    assert_eq!(job(&template(json!({"app": "x"}))), None);
    assert_eq!(job(r#"{"metadata": {"name": "a"}}"#), None);
}

#[test]
fn a_ready_pod() {
    let pod = Pod::decode(POD.as_bytes()).unwrap().unwrap();
    assert_eq!(pod.pod_ip.unwrap().to_string(), "10.1.2.3");
    assert_eq!(pod.phase, PodPhase::Running);
    assert_eq!(
        pod.owner_uid.as_ref().unwrap().to_string(),
        "2293ff2d-892e-4d55-a8d3-375647fb5084"
    );
    let ready = pod.conditions.holds(ConditionType::Ready).unwrap();
    assert_eq!(ready.since.unwrap().to_string(), "2026-11-22T19:10:43Z");
    assert_eq!((ready.reason(), ready.message()), ("", ""));
    let container = &pod.containers[0];
    assert!(matches!(container.state, ContainerState::Running(Some(_))));
    assert_eq!((container.kind, container.name()), (ContainerKind::App, ""));
}

#[test]
fn the_states_of_containers() {
    let status = |state: Value, last: Value| json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "a", "restartCount": 2, "state": state, "lastState": last}]}});
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}});
    let ended = json!({"terminated": {"exitCode": 137, "reason": "OOMKilled", "message": "m", "finishedAt": "2026-01-02T03:04:05Z"}});
    let crashing = pod(&status(waiting, ended));
    let container = &crashing.containers[0];
    assert_eq!(container.name(), "a");
    let ContainerState::Waiting(Some(detail)) = &container.state else {
        panic!("{container:?}")
    };
    assert_eq!(detail.reason.as_deref(), Some("CrashLoopBackOff"));
    let last = container.last_terminated().unwrap();
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (137, Some("OOMKilled"))
    );
    let unreported = pod(&status(json!({}), Value::Null));
    assert_eq!(unreported.containers[0].state, ContainerState::Unreported);
    let again = json!({"running": {}});
    let before = json!({"terminated": {"exitCode": 3}});
    let again = pod(&status(again, before));
    assert_eq!(again.containers[0].name(), "a");
}

#[test]
fn known_conditions_are_kept_and_others_are_dropped() {
    let condition = |kind: &str, status: &str, reason: &str| json!({"type": kind, "status": status, "reason": reason, "lastTransitionTime": "2026-01-02T03:04:05Z"});
    let pod = pod(
        &json!({"metadata": {"name": "p"}, "status": {"conditions": [
            condition("PodScheduled", "False", "Unschedulable"),
            condition("Ready", "True", ""),
            // Other controllers may set conditions on a pod.
            condition("Complete", "True", "Mine"),
            condition("example.com/authenticator", "True", ""),
        ]}}),
    );
    let scheduled = pod.conditions.get(ConditionType::PodScheduled).unwrap();
    assert_eq!(
        (scheduled.status, scheduled.reason(), scheduled.message()),
        (ConditionStatus::False, "Unschedulable", "")
    );
    assert!(scheduled.since.is_some());
    assert!(pod.conditions.holds(ConditionType::PodScheduled).is_none());
    let ready = pod.conditions.holds(ConditionType::Ready).unwrap();
    assert_eq!(ready.detail, None);
    let all = || ConditionType::NAMES.into_iter().map(|(_, kind)| kind);
    for other in all().filter(|kind| kind.is_of_pods()) {
        let known = [ConditionType::PodScheduled, ConditionType::Ready].contains(&other);
        assert_eq!(pod.conditions.get(other).is_some(), known, "{other:?}");
    }
    let conditions = json!([
        condition("Failed", "True", "BackoffLimitExceeded"),
        condition("Ready", "True", "")
    ]);
    let failed = json!({"metadata": {"name": "j"}, "status": {"conditions": conditions}});
    let failed = Job::deserialize(&failed).unwrap().status.conditions;
    assert!(failed.is_true(ConditionType::Failed));
    let of_jobs = all().filter(|kind| !kind.is_of_pods());
    let others = of_jobs.filter(|kind| *kind != ConditionType::Failed);
    assert_eq!(others.filter(|kind| failed.get(*kind).is_some()).count(), 0);
}

#[test]
fn labels_that_differ_from_the_annotations_are_kept() {
    let key = |name: &str| format!("config-controller.semafor.ch/{name}");
    let pod = pod(&json!({"metadata": {
        "name": "p",
        "labels": {key("instance-type"): "hello", key("instance-name"): "slug-1", key("meta-k"): "v"},
        "annotations": {key("instance-type"): "hello", key("instance-name"): "A_b", key("meta-k"): "v"},
    }}));
    let labels: Vec<_> = pod.metadata.labels.iter().collect();
    let (name, meta) = (key("instance-name"), key("meta-k"));
    assert_eq!(labels, [(&*name, "slug-1"), (&*meta, "v")]);
}

#[test]
fn nulls_count_as_missing_fields() {
    let nulls = json!({
        "metadata": {"name": "p", "labels": null, "annotations": null, "ownerReferences": null, "deletionTimestamp": null, "uid": null, "resourceVersion": null},
        "spec": null,
        "status": {"phase": null, "podIP": null, "conditions": null, "containerStatuses": null, "reason": null},
    });
    assert_eq!(pod(&nulls), pod(&json!({"metadata": {"name": "p"}})));
    assert_eq!(
        pod(&json!({"metadata": {"name": "p"}, "status": {"podIP": ""}})).pod_ip,
        None
    );
    let unknown = json!({"metadata": {"name": "p"}, "status": {"phase": "Dreaming", "conditions": [{"type": "Odd", "status": "True"}]}});
    assert_eq!(pod(&unknown).phase, PodPhase::Pending);
}

#[test]
fn an_undecodable_item_does_not_affect_the_others() {
    let good: Value = serde_json::from_str(POD).unwrap();
    let mut bad = good.clone();
    bad["metadata"]["name"] = json!("bad");
    bad["status"]["podIP"] = json!(["10.1.2.3"]);
    let list = json!({"kind": "PodList", "metadata": {"resourceVersion": "9", "continue": "t"}, "items": [bad, good, {"spec": {}}, 7]});
    let page: Page<Pod> = decode_list(list.to_string().as_bytes()).unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(
        (page.version, page.continue_token.as_deref()),
        ("9".into(), Some("t"))
    );
    let names: Vec<_> = page.skipped.iter().map(|skipped| &*skipped.name).collect();
    assert_eq!(names, ["bad", "?", "?"]);
    assert!(
        page.skipped[0].reason.contains("IP address"),
        "{}",
        page.skipped[0].reason
    );

    let event = json!({"type": "MODIFIED", "object": bad});
    let event: WatchEvent<Pod> = decode_event(event.to_string().as_bytes()).unwrap();
    let WatchEvent::Skipped(skipped, version) = event else {
        panic!("{event:?}")
    };
    assert_eq!((&*skipped.name, version), ("bad", "4377".into()));
}

/// It was skipped, so the object stayed for ever.
#[test]
fn of_a_deletion_only_name_and_uid_must_be_readable() {
    let line = |metadata: &str| {
        let line = format!(
            r#"{{"type":"DELETED","object":{{"metadata":{metadata},"status":{{"podIP":"x","conditions":1}}}}}}"#
        );
        decode_event::<Pod>(line.as_bytes())
    };
    let event = line(r#"{"name":"bad","uid":"u","resourceVersion":"4377","labels":7}"#).unwrap();
    let WatchEvent::Gone(gone) = event else {
        panic!("{event:?}");
    };
    let read = (&*gone.name, &gone.uid, &gone.resource_version);
    assert_eq!(read, ("bad", &"u".into(), &"4377".into()));
    // Else a list follows.
    for metadata in [r#"{"name":"bad"}"#, r#"{"uid":"u"}"#, "null", "7"] {
        assert!(line(metadata).is_err(), "{metadata}");
    }
}

#[test]
fn an_empty_list_and_a_missing_one() {
    let empty = br#"{"metadata": {"resourceVersion": "9", "continue": ""}, "items": null}"#;
    let page: Page<Pod> = decode_list(empty).unwrap();
    assert!(page.items.is_empty() && page.continue_token.is_none());
    for bad in ["", "[", "7", "{\"items\": 7}", "{\"metadata\": {}"] {
        assert!(decode_list::<Pod>(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn jobs_of_other_owners_are_dropped_from_a_page() {
    let ours: Value = serde_json::from_str(JOB).unwrap();
    let list =
        json!({"metadata": {"resourceVersion": "9"}, "items": [{"metadata": {"name": "a"}}, ours]});
    let page: Page<Job> = decode_list(list.to_string().as_bytes()).unwrap();
    assert_eq!((page.items.len(), page.skipped.len()), (1, 0));
}

fn event(text: &str) -> Result<WatchEvent<Job>, serde_json::Error> {
    decode_event(text.as_bytes())
}

#[test]
fn watch_events() {
    let line = |kind: &str, object: &str| format!(r#"{{"type":"{kind}","object":{object}}}"#);
    assert!(matches!(
        event(&line("ADDED", JOB)),
        Ok(WatchEvent::Changed(_))
    ));
    assert!(matches!(
        event(&line("MODIFIED", JOB)),
        Ok(WatchEvent::Changed(_))
    ));
    assert!(matches!(
        event(&line("DELETED", JOB)),
        Ok(WatchEvent::Gone(_))
    ));
    let other_job = r#"{"metadata": {"name": "a", "resourceVersion": "8"}}"#;
    let Ok(WatchEvent::Gone(metadata)) = event(&line("MODIFIED", other_job)) else {
        panic!()
    };
    assert_eq!(metadata.resource_version, "8".into());
    let bookmark = r#"{"kind":"Job","metadata":{"resourceVersion":"12746","creationTimestamp":null},"spec":{"template":{"metadata":{},"spec":{"containers":null}}},"status":{}}"#;
    let Ok(WatchEvent::Bookmark(version)) = event(&line("BOOKMARK", bookmark)) else {
        panic!()
    };
    assert_eq!(version, "12746".into());
    let expired = r#"{"kind":"Status","status":"Failure","message":"too old resource version: 1 (3114)","reason":"Expired","code":410}"#;
    let Ok(WatchEvent::Error(status)) = event(&line("ERROR", expired)) else {
        panic!()
    };
    assert!(status.is_expired());
    // The order of fields in JSON is irrelevant.
    let turned = format!(r#"{{"object":{JOB},"type":"ADDED"}}"#);
    assert!(matches!(event(&turned), Ok(WatchEvent::Changed(_))));
}

#[test]
fn lines_that_are_not_watch_events() {
    for bad in [
        "",
        "{}",
        "{\"type\":\"ADDED\"",
        "{\"type\":7,\"object\":{}}",
        "[]",
        "{\"object\":{}}",
    ] {
        assert!(event(bad).is_err(), "{bad}");
    }
    let unknown = event(r#"{"type":"RENAMED","object":{"metadata":{"name":"a"}}}"#);
    assert!(
        matches!(unknown, Ok(WatchEvent::Skipped(..))),
        "{unknown:?}"
    );
}

#[test]
fn random_changes_of_the_input_never_panic() {
    let mut random = Random::new(1);
    let line = format!(r#"{{"type":"MODIFIED","object":{POD}}}"#);
    for _ in 0..3000 {
        let mut bytes = line.clone().into_bytes();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = u8::try_from(random.below(256)).unwrap(),
                1 => bytes.truncate(at + 1),
                _ => drop(bytes.drain(at..(at + random.below(20)).min(bytes.len()))),
            }
            if bytes.is_empty() {
                bytes.push(b'{');
            }
        }
        let _ = decode_event::<Pod>(&bytes);
        let _ = decode_list::<Job>(&bytes);
    }
}

fn warning(reason: &str, more: Value) -> Value {
    let mut event = json!({
        "metadata": {"name": "e", "uid": "e1"}, "involvedObject": {"kind": "Pod", "name": "p", "uid": "u"},
        "type": "Warning", "reason": reason, "message": "m",
    });
    for (key, value) in more.as_object().unwrap() {
        event[key] = value.clone();
    }
    event
}

#[test]
fn events_of_both_generations() {
    let last = |more: Value| {
        let event = Event::deserialize(&warning("FailedMount", more)).unwrap();
        event.last.map(|last| last.to_string())
    };
    let time = |text: &str| Some(text.to_owned());
    let old = json!({"count": 3, "lastTimestamp": "2026-01-02T03:04:05Z", "eventTime": null});
    assert_eq!(last(old), time("2026-01-02T03:04:05Z"));
    let new = json!({"eventTime": "2026-01-02T03:04:05.123456Z", "lastTimestamp": null});
    assert_eq!(last(new), time("2026-01-02T03:04:05Z"));
    let series = json!({
        "eventTime": "2026-01-02T03:04:05.123456Z", "lastTimestamp": null,
        "series": {"count": 7, "lastObservedTime": "2026-01-02T03:05:05.5Z"},
    });
    assert_eq!(last(series), time("2026-01-02T03:05:05Z"));
    assert_eq!(last(json!({})), None);
}

#[test]
fn events_that_we_keep_and_others() {
    let read = |event: Value| Event::decode(event.to_string().as_bytes()).unwrap();
    let mount = read(warning("FailedMount", json!({}))).unwrap();
    assert_eq!(
        (mount.regarding_kind, &*mount.regarding_name),
        (RegardingKind::Pod, "p")
    );
    assert_eq!(
        (mount.reason, &*mount.message),
        (EventReason::FailedMount, "m")
    );
    assert_eq!(mount.index(), Some(&"u".into()));
    let pull = |message: &str| read(warning("Failed", json!({"message": message})));
    let failed = pull("Failed to pull image \"a\": no").map(|event| event.reason);
    assert_eq!(failed, Some(EventReason::FailedPull));
    assert_eq!(pull("Error: ErrImagePull"), None);
    assert_eq!(read(warning("BackOff", json!({}))), None);
    assert_eq!(
        read(warning(
            "FailedMount",
            json!({"involvedObject": {"kind": "Node"}})
        )),
        None
    );
    assert_eq!(read(json!({"metadata": {"name": "e"}})), None);
}

#[test]
fn long_messages_of_events_are_cut() {
    let read = |message: String| {
        let event =
            Event::deserialize(&warning("FailedMount", json!({"message": message}))).unwrap();
        event.message.len()
    };
    let max = EVENT_MESSAGE_BYTES_MAX;
    assert_eq!(read("m".repeat(max)), max);
    assert_eq!(read("m".repeat(max + 1)), max);
    // Not within a character.
    assert_eq!(read(format!("{}ü", "m".repeat(max - 1))), max - 1);
}

#[test]
fn pairs_keep_our_keys_only() {
    let raw = json!({
        "config-controller.semafor.ch/started-by": "bob",
        "hello.config-controller.semafor.ch/backoff-limit": "3",
        "xconfig-controller.semafor.ch/no": "1",
        "kubectl.kubernetes.io/last-applied-configuration": "long",
        "config-controller.semafor.ch/instance-type": null,
        "config-controller.semafor.ch/nul": "a\0b",
    });
    let pairs: Pairs = serde_json::from_value(raw).unwrap();
    let all: Vec<_> = pairs.iter().collect();
    let expected = [
        ("config-controller.semafor.ch/instance-type", ""),
        ("config-controller.semafor.ch/started-by", "bob"),
        ("hello.config-controller.semafor.ch/backoff-limit", "3"),
    ];
    assert_eq!(all, expected);
    assert_eq!(
        pairs.get("config-controller.semafor.ch/started-by"),
        Some("bob")
    );
    assert_eq!(pairs.get("config-controller.semafor.ch/started"), None);
    let foreign: Pairs = serde_json::from_value(json!({"a": "b"})).unwrap();
    assert_eq!(foreign, Pairs::default());
}

#[test]
fn scalars_are_printed_as_they_were_read() {
    for text in [
        "2293ff2d-892e-4d55-a8d3-375647fb5084",
        "2293FF2D-892e-4d55-a8d3-375647fb5084",
        "u1",
        "",
        "2293ff2d-892e-4d55-a8d3-375647fb508-",
    ] {
        assert_eq!(Uid::from(text).to_string(), text);
    }
    for text in [
        "0",
        "1",
        "007",
        "18446744073709551615",
        "18446744073709551616",
        "x",
        "",
    ] {
        assert_eq!(ResourceVersion::from(text).to_string(), text);
    }
    assert!(ResourceVersion::from("9").is_before(&"10".into()));
    assert!(!ResourceVersion::from("x").is_before(&"10".into()));
    assert_eq!(
        Timestamp::parse("2026-01-02T03:04:05+01:00")
            .unwrap()
            .to_string(),
        "2026-01-02T02:04:05Z"
    );
    assert_eq!(
        Timestamp::parse("1900-01-01T00:00:00Z").unwrap().seconds(),
        1
    );
    assert_eq!(Timestamp::parse("yesterday"), None);
}

/// Bytes that the allocator uses for an allocation: 8 more, in steps of 16, at least 32.
fn heap(bytes: usize) -> usize {
    if bytes == 0 {
        0
    } else {
        (bytes + 8).next_multiple_of(16).max(32)
    }
}

/// Memory of an instance (a Job and its ready pod), index included, computed and
/// not measured; a new field shows its cost here.
#[test]
fn an_instance_takes_few_bytes() {
    const COUNTS: usize = 16;
    let job = job(JOB).unwrap();
    let pod = Pod::decode(POD.as_bytes()).unwrap().unwrap();
    let of_pairs = |pairs: &Pairs| heap(pairs::heap_bytes(pairs));
    let of_meta = |meta: &ObjectMeta| {
        heap(meta.name.len()) + of_pairs(&meta.labels) + of_pairs(&meta.annotations)
    };
    let of_job = heap(size_of::<Job>() + COUNTS) + of_meta(&job.metadata) + of_pairs(&job.template);
    assert_eq!(job.status.conditions, Conditions::default());
    let of_pod = heap(size_of::<Pod>() + COUNTS)
        + of_meta(&pod.metadata)
        + heap(Conditions::BYTES)
        + heap(size_of::<ContainerStatus>());
    assert_eq!(pod.containers[0].details, None);
    // In the store: a pointer with a control byte in each set of names (half full at worst), a
    // pointer in the vector of the app type, an entry of the index by owner.
    let of_index = 2 * 2 * (8 + 1) + 8 + 2 * (8 + 8 + 1);
    println!(
        "Job {of_job}, Pod {of_pod}, index {of_index}: {}",
        of_job + of_pod + of_index
    );
    println!(
        "  Job struct {}, Pod struct {}, meta {}",
        size_of::<Job>(),
        size_of::<Pod>(),
        size_of::<ObjectMeta>()
    );
    assert!(of_job + of_pod + of_index <= 750);
}
