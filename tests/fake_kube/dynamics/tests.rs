//! The controllers alone: no sockets, a manual clock.

use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::fake_kube::api::Model;
use crate::fake_kube::cluster::write::DeleteOptions;
use crate::fake_kube::cluster::{has_finalizer, is_deleting};
use crate::fake_kube::{Builder, FakeKube};
use pod_script::Exit;
use pods::PodMove;

fn fake() -> Builder {
    FakeKube::builder().manual_clock().by_hand()
}

fn job(name: &str, spec: Value) -> Value {
    let mut job = json!({"metadata": {"name": name}, "spec": {
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        "template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "c", "image": "i:1"}],
        }},
    }});
    crate::fake_kube::cluster::patch::merge(&mut job["spec"], &spec);
    job
}

fn create(model: &mut Model, job: Value) {
    let made = model.cluster.create(Resource::Jobs, "default", job, false);
    made.expect("the Job is valid");
}

fn job_key(name: &str) -> Key {
    (Resource::Jobs, "default".to_owned(), name.to_owned())
}

fn the_job(model: &Model, name: &str) -> Value {
    let found = model.cluster.object(&job_key(name));
    Value::clone(found.expect("the Job is there"))
}

fn pods(model: &Model) -> Vec<(Key, Arc<Value>)> {
    let all = model.cluster.objects(Resource::Pods, "default");
    all.map(|(k, v)| (k.clone(), Arc::clone(v))).collect()
}

fn only_pod(model: &Model) -> (Key, Arc<Value>) {
    let all = pods(model);
    assert_eq!(all.len(), 1, "exactly one pod");
    all.into_iter().next().expect("there is one")
}

fn settle(model: &mut Model) {
    model.dynamics.settle(&mut model.cluster);
}

fn advance(model: &mut Model, secs: u64) {
    model.cluster.clock().advance(Duration::from_secs(secs));
    settle(model);
}

fn move_pod(model: &mut Model, key: &Key, next: &PodMove) {
    assert!(model.dynamics.make_move(&mut model.cluster, key, next));
    settle(model);
}

fn exit(code: i64) -> PodMove {
    PodMove::Exit(Exit {
        after_ms: 0,
        code,
        reason: String::new(),
        message: String::new(),
    })
}

#[test]
fn a_job_gets_one_pod_that_becomes_ready() {
    let mut model = fake().model();
    create(&mut model, job("a", json!({})));
    settle(&mut model);
    let (_, pod) = only_pod(&model);
    assert_eq!(pod["status"]["phase"], "Running");
    assert!(has_condition(&pod, "Ready"));
    assert_eq!(pod["status"]["podIP"], "127.88.0.1");
    assert_eq!(pod["metadata"]["labels"]["job-name"], "a");
    assert!(has_finalizer(&pod, pods::TRACKING));
    let job = the_job(&model, "a");
    assert_eq!(job["status"]["active"], 1);
    assert_eq!(job["status"]["ready"], 1);
    assert_eq!(
        controller_uid(&pod).as_deref(),
        job["metadata"]["uid"].as_str()
    );
}

#[test]
fn a_slow_pod_goes_through_its_phases_by_the_clock() {
    let mut model = fake().model();
    let annotations = json!({"template": {"metadata": {"annotations": {
        "fake-kube/schedule-ms": "1000", "fake-kube/pull-ms": "1000", "fake-kube/ready-ms": "1000",
    }}}});
    create(&mut model, job("slow", annotations));
    settle(&mut model);
    assert!(only_pod(&model).1["status"]["conditions"].is_null());
    advance(&mut model, 1);
    let pod = only_pod(&model).1;
    let state = &pod["status"]["containerStatuses"][0]["state"];
    assert_eq!(state["waiting"]["reason"], "ContainerCreating");
    assert_eq!(pod["status"]["phase"], "Pending");
    advance(&mut model, 1);
    let pod = only_pod(&model).1;
    assert_eq!(pod["status"]["phase"], "Running");
    assert!(!has_condition(&pod, "Ready"));
    advance(&mut model, 1);
    assert!(has_condition(&only_pod(&model).1, "Ready"));
}

#[test]
fn a_failed_pod_ends_a_job_without_retries() {
    let mut model = fake().model();
    create(&mut model, job("a", json!({})));
    settle(&mut model);
    let (key, _) = only_pod(&model);
    move_pod(&mut model, &key, &exit(3));
    let job = the_job(&model, "a");
    assert!(has_condition(&job, "FailureTarget") && has_condition(&job, "Failed"));
    assert_eq!(job["status"]["failed"], 1);
    let pod = only_pod(&model).1;
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(ended["exitCode"], 3);
    assert!(!has_finalizer(&pod, pods::TRACKING));
}

#[test]
fn exit_0_completes_a_job() {
    let mut model = fake().model();
    create(&mut model, job("a", json!({"ttlSecondsAfterFinished": 60})));
    settle(&mut model);
    let (key, _) = only_pod(&model);
    move_pod(&mut model, &key, &exit(0));
    let done = the_job(&model, "a");
    assert!(has_condition(&done, "SuccessCriteriaMet") && has_condition(&done, "Complete"));
    assert!(done["status"]["completionTime"].is_string());
    advance(&mut model, 60);
    assert!(model.cluster.object(&job_key("a")).is_none(), "the TTL");
    assert!(pods(&model).is_empty());
}

#[test]
fn retries_wait_ten_seconds_and_then_twenty() {
    let mut model = fake().model();
    create(&mut model, job("a", json!({"backoffLimit": 5})));
    settle(&mut model);
    for pause in [10, 20] {
        let live: Vec<_> = pods(&model);
        let (key, _) = live
            .iter()
            .find(|(_, pod)| pod["status"]["phase"] == "Running")
            .expect("a live pod");
        move_pod(&mut model, &key.clone(), &exit(1));
        let ended = live.len();
        advance(&mut model, pause - 1);
        assert_eq!(pods(&model).len(), ended);
        advance(&mut model, 1);
        assert_eq!(pods(&model).len(), ended + 1);
    }
}

#[test]
fn a_crash_loop_restarts_in_place() {
    let mut model = fake().model();
    let spec = json!({"backoffLimit": 2, "template": {
        "metadata": {"annotations": {"fake-kube/restart-ms": "5000"}},
        "spec": {"restartPolicy": "OnFailure"},
    }});
    create(&mut model, job("a", spec));
    settle(&mut model);
    let (key, _) = only_pod(&model);
    move_pod(&mut model, &key, &exit(1));
    let pod = only_pod(&model).1;
    let status = &pod["status"]["containerStatuses"][0];
    assert_eq!(status["state"]["waiting"]["reason"], "CrashLoopBackOff");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 1);
    advance(&mut model, 5);
    assert!(has_condition(&only_pod(&model).1, "Ready"));
    move_pod(&mut model, &key, &exit(1));
    let job = the_job(&model, "a");
    assert!(has_condition(&job, "Failed"));
    assert!(pods(&model).is_empty(), "an OnFailure Job deletes its pod");
}

#[test]
fn a_foreground_delete_keeps_the_job_until_its_pod_is_gone() {
    let mut model = fake()
        .pod_script(PodScript {
            lingers: true,
            ..PodScript::default()
        })
        .model();
    create(&mut model, job("a", json!({})));
    settle(&mut model);
    let options = DeleteOptions {
        propagation: Some("Foreground".to_owned()),
        ..DeleteOptions::default()
    };
    let response = model
        .cluster
        .delete(&job_key("a"), &options)
        .expect("deleted");
    assert!(is_deleting(&response));
    settle(&mut model);
    let (key, pod) = only_pod(&model);
    assert!(is_deleting(&pod));
    assert!(is_deleting(&the_job(&model, "a")));
    move_pod(&mut model, &key, &PodMove::Terminate);
    move_pod(&mut model, &key, &PodMove::Terminate);
    assert!(pods(&model).is_empty());
    assert!(model.cluster.object(&job_key("a")).is_none());
}

#[test]
fn a_background_delete_removes_the_job_immediately_and_its_pod_later() {
    let mut model = fake()
        .pod_script(PodScript {
            lingers: true,
            ..PodScript::default()
        })
        .model();
    create(&mut model, job("a", json!({})));
    settle(&mut model);
    let options = DeleteOptions {
        propagation: Some("Background".to_owned()),
        ..DeleteOptions::default()
    };
    model
        .cluster
        .delete(&job_key("a"), &options)
        .expect("deleted");
    assert!(model.cluster.object(&job_key("a")).is_none());
    assert!(
        !is_deleting(&only_pod(&model).1),
        "the kubelet has not acted yet"
    );
    settle(&mut model);
    assert!(is_deleting(&only_pod(&model).1));
}

#[test]
fn without_a_policy_a_job_leaves_its_pod_behind() {
    let mut model = fake().model();
    create(&mut model, job("a", json!({})));
    settle(&mut model);
    let options = DeleteOptions::default();
    model
        .cluster
        .delete(&job_key("a"), &options)
        .expect("deleted");
    settle(&mut model);
    assert!(model.cluster.object(&job_key("a")).is_none());
    let pod = only_pod(&model).1;
    assert!(!is_deleting(&pod) && controller_uid(&pod).is_none());
}

#[test]
fn an_evicted_pod_is_replaced_only_after_its_end() {
    let mut model = fake()
        .pod_script(PodScript {
            lingers: true,
            exit_on_stop: 143,
            ..PodScript::default()
        })
        .model();
    let spec = json!({"podFailurePolicy": {"rules": [{
        "action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }]}});
    create(&mut model, job("a", spec));
    settle(&mut model);
    let (key, _) = only_pod(&model);
    move_pod(&mut model, &key, &PodMove::Evict);
    advance(&mut model, 60);
    assert_eq!(pods(&model).len(), 1, "the old pod still runs");
    move_pod(&mut model, &key, &PodMove::Terminate);
    advance(&mut model, 10);
    let fresh: Vec<_> = pods(&model)
        .into_iter()
        .filter(|(k, _)| *k != key)
        .collect();
    assert_eq!(fresh.len(), 1);
    let job = the_job(&model, "a");
    assert!(!has_condition(&job, "Failed"), "an eviction does not count");
    assert!(job["status"]["failed"].is_null());
}

#[test]
fn a_refused_pod_is_an_event_and_is_created_once_allowed() {
    let mut model = fake().model();
    let message = "pods \"a-\" is forbidden: exceeded quota: q";
    model.dynamics.refuse_pods(Some(message.to_owned()));
    create(&mut model, job("a", json!({})));
    settle(&mut model);
    advance(&mut model, 1);
    assert!(pods(&model).is_empty());
    let events: Vec<_> = model.cluster.objects(Resource::Events, "default").collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].1["reason"], "FailedCreate");
    assert_eq!(events[0].1["count"], 2);
    model.dynamics.refuse_pods(None);
    advance(&mut model, 1);
    assert_eq!(pods(&model).len(), 1);
}

#[test]
fn a_deadline_and_a_suspension_are_kept() {
    let mut model = fake().model();
    create(
        &mut model,
        job("late", json!({"activeDeadlineSeconds": 30})),
    );
    settle(&mut model);
    advance(&mut model, 30);
    let late = the_job(&model, "late");
    let reason = &late["status"]["conditions"][0]["reason"];
    assert_eq!(reason, "DeadlineExceeded");
    assert!(has_condition(&late, "Failed"));

    create(&mut model, job("held", json!({"suspend": true})));
    settle(&mut model);
    assert!(has_condition(&the_job(&model, "held"), "Suspended"));
    assert!(pods(&model).is_empty());
    let resumed = json!({"spec": {"suspend": false}});
    let part = crate::fake_kube::cluster::write::Part::Main;
    let patched = model
        .cluster
        .merge_patch(&job_key("held"), &resumed, part, false);
    patched.expect("suspend can be changed");
    settle(&mut model);
    assert_eq!(pods(&model).len(), 1);
}

#[test]
fn the_hook_is_called_on_starts_and_ends() {
    let (sender, receiver) = mpsc::channel();
    let hook = move |change: &PodChange| {
        let text = match change {
            PodChange::Running { ip, .. } => format!("running {ip}"),
            PodChange::Ended { ip, .. } => format!("ended {ip}"),
        };
        sender.send(text).expect("the test receives");
    };
    let mut model = fake().on_pod(hook).model();
    create(&mut model, job("a", json!({})));
    settle(&mut model);
    let (key, _) = only_pod(&model);
    move_pod(&mut model, &key, &exit(0));
    assert_eq!(
        receiver.try_iter().collect::<Vec<_>>(),
        ["running 127.88.0.1", "ended 127.88.0.1"]
    );
}

#[test]
fn deleting_a_namespace_deletes_its_content() {
    let mut model = fake().namespace("doomed").model();
    let object = json!({"metadata": {"name": "c"}});
    let made = model
        .cluster
        .create(Resource::ConfigMaps, "doomed", object, false);
    made.expect("a ConfigMap");
    let key = (Resource::Namespaces, String::new(), "doomed".to_owned());
    let options = DeleteOptions::default();
    model.cluster.delete(&key, &options).expect("deleted");
    settle(&mut model);
    assert!(model.cluster.object(&key).is_none());
    assert_eq!(
        model
            .cluster
            .objects(Resource::ConfigMaps, "doomed")
            .count(),
        0
    );
}

#[test]
fn after_a_restore_the_controllers_know_what_is_there_again() {
    let mut model = fake().model();
    create(&mut model, job("a", json!({})));
    settle(&mut model);
    let (pod_key, _) = only_pod(&model);
    let backup = model.cluster.back_up();
    model.cluster.change(&pod_key, |pod| {
        let metadata = pod["metadata"].as_object_mut();
        metadata.map(|all| all.shift_remove("ownerReferences"));
    });
    settle(&mut model);
    assert_eq!(
        pods(&model).len(),
        2,
        "the Job makes a pod for the lost one"
    );
    model.cluster.restore(&backup);
    model.cluster.skip_revisions(100);
    model.cluster.change(&job_key("a"), |job| {
        job["metadata"]["annotations"]["touched"] = json!("yes");
    });
    settle(&mut model);
    assert_eq!(only_pod(&model).0, pod_key);
}

/// The restored pod has no node yet, and the kubelet goes on with it.
#[test]
fn a_kubelet_starts_no_pod_without_a_node() {
    for next in [PodMove::Mount, PodMove::Pull] {
        let mut model = fake().model();
        create(&mut model, job("a", json!({})));
        settle(&mut model);
        let (pod_key, _) = only_pod(&model);
        model.cluster.change(&pod_key, |pod| {
            pod["spec"]["nodeName"] = Value::Null;
            pod["status"] = json!({"phase": "Pending"});
        });
        move_pod(&mut model, &pod_key, &next);
        let (_, pod) = only_pod(&model);
        assert!(has_condition(&pod, "PodScheduled"), "{next:?}: {pod}");
        assert!(pod["spec"]["nodeName"].is_string(), "{next:?}: {pod}");
    }
}
