//! Nodes that go: one that is drained, and one that is dead.
//!
//! On stand-in nodes of the test's own, so that no other test loses its pods.

use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::ground::{Ground, text};
use super::program::Program;
use super::recorder::{self, Recorder};
use super::{LONG_WAIT, eventually};
use crate::cluster;

/// What a node of a test has as label, with the test's namespace as value.
const GROUP: &str = "tests/group";

/// A stand-in node; it is deleted when this is dropped.
struct Node<'a> {
    ground: &'a Ground<'a>,
    name: String,
}

impl<'a> Node<'a> {
    /// A new node, once it is ready and takes pods.
    #[track_caller]
    fn new(ground: &'a Ground<'a>, suffix: &str) -> Self {
        let name = format!("{}-{suffix}", ground.namespace);
        let object = json!({
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {GROUP: ground.namespace, "kubernetes.io/hostname": name},
            },
            "spec": {"taints": [
                {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"},
            ]},
        });
        ground.api.post("/api/v1/nodes", &object).expect(201);
        let node = Self { ground, name };
        eventually("the node is ready", || {
            let object = ground.api.get(&node.path()).expect(200);
            let conditions = object["status"]["conditions"].as_array()?;
            let ready = conditions.iter().find(|one| one["type"] == "Ready")?;
            let taints = object["spec"]["taints"].as_array()?;
            // The node controller's taint goes a moment after the node is ready.
            (ready["status"] == "True" && taints.len() == 1).then_some(())
        });
        node
    }

    fn path(&self) -> String {
        format!("/api/v1/nodes/{}", self.name)
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // A test that failed because of the server must fail with its own words.
        let _ = self.ground.api.try_send("DELETE", &self.path(), "", "");
    }
}

/// A template of pods for the nodes of this test, with these annotations.
fn template(ground: &Ground<'_>, grace_secs: u32, annotations: &str) -> String {
    format!(
        "
metadata: {{annotations: {{{annotations}}}}}
spec:
  nodeSelector: {{{GROUP}: {}}}
  tolerations: [{{key: kwok.x-k8s.io/node, operator: Exists}}]
  restartPolicy: Never
  terminationGracePeriodSeconds: {grace_secs}
  containers:
  - {{name: main, image: stand-in}}
",
        ground.namespace
    )
}

const DRAINED: [&str; 3] = ["ann", "bob", "eve"];

/// What is attached to each instance, in both forms: as a label and as an annotation.
const LABELS: &str = r#"{"username": "ann", "note": "ä ö ü"}"#;

#[test]
fn the_instances_of_a_drained_node_come_back_on_another_with_their_labels() {
    let Some(cluster) = cluster::shared() else {
        return;
    };
    let _others = cluster::beside_others();
    let ground = Ground::new(cluster);
    let lingering = template(&ground, 10, "stand-in/ends-after: 2s");
    ground.offer("lingering", "lingering", &lingering);
    let first = Node::new(&ground, "first");
    let kubeconfig = ground.kubeconfig(&ground.token(), None, None);
    let replicas = [(); 2].map(|()| Program::start_ready(&kubeconfig, &[]));
    let (jobs, pods) = (
        Recorder::start(&ground, "jobs"),
        Recorder::start(&ground, "pods"),
    );
    for name in DRAINED {
        replicas[0].get_prefer(&path(name), LONG_WAIT).ip();
        replicas[0].patch(&path(name), LABELS).expect(200);
    }
    check_nodes(&ground, &first);
    let second = Node::new(&ground, "second");

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| read_on(&replicas[1], &is_over));
        // It returns when the pods have gone.
        ground.kubectl(&["drain", &first.name, "--timeout=60s"]);
        for name in DRAINED {
            for program in &replicas {
                eventually("the instance is back with its labels", || {
                    has_labels(program, name).then_some(())
                });
            }
        }
        is_over.store(true, Ordering::SeqCst);
        reader.join().expect("its checks hold");
    });

    check_nodes(&ground, &second);
    let (jobs, pods) = (jobs.finish(), pods.finish());
    recorder::check_one_live_pod(&pods);
    for name in DRAINED {
        let instance = format!("lingering/{name}");
        assert_eq!(
            recorder::made_for(&jobs, &instance).len(),
            1,
            "the Job stays"
        );
        assert_eq!(
            recorder::made_for(&pods, &instance).len(),
            2,
            "two pods in turn"
        );
    }
    stop(&ground, &replicas[0]);
}

fn path(name: &str) -> String {
    format!("/app/lingering/{name}")
}

/// Whether it is ready, with all that was attached to it.
#[track_caller]
fn has_labels(program: &Program, name: &str) -> bool {
    let got = program.get_prefer(&path(name), LONG_WAIT).expect(200);
    got["username"] == "ann" && got["note"] == "ä ö ü"
}

/// Asks for an instance until it is told to stop: it is there, or on its way, at every moment.
fn read_on(program: &Program, is_over: &AtomicBool) {
    while !is_over.load(Ordering::SeqCst) {
        for name in DRAINED {
            let got = program.get_prefer(&path(name), "wait=0");
            let is_fine = match got.code {
                200 => got.body["ip"].is_string(),
                202 => got.body["status"] != "app_error",
                _ => false,
            };
            assert!(is_fine, "{}: {}", got.code, got.body);
        }
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}

/// All pods are on that node.
#[track_caller]
fn check_nodes(ground: &Ground<'_>, node: &Node<'_>) {
    let pods = ground.list("pods");
    let nodes: Vec<String> = pods
        .iter()
        .map(|pod| text(&pod["spec"]["nodeName"]))
        .collect();
    assert_eq!(nodes, [(); DRAINED.len()].map(|()| node.name.clone()));
}

/// Nothing may be left on a node that goes with the test.
#[track_caller]
fn stop(ground: &Ground<'_>, program: &Program) {
    for name in DRAINED {
        assert_eq!(
            program.delete(&path(name)).expect(200),
            json!({"status": "Success"})
        );
    }
    eventually("all is gone", || {
        (ground.list("jobs").is_empty() && ground.list("pods") == Vec::<Value>::new()).then_some(())
    });
}
