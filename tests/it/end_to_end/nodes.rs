//! Nodes that go: one that is drained, and one that is dead.
//!
//! On stand-in nodes of the test's own, so that no other test loses its pods.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::environment::{TestEnvironment, text};
use super::program::Program;
use super::recorder::{self, Recorder, Sighting};
use super::{LONG_WAIT, eventually};
use crate::cluster;

/// What a node of a test has as label, with the test's namespace as value.
const GROUP: &str = "tests/group";

/// A stand-in node; it is deleted when this is dropped.
struct Node<'a> {
    environment: &'a TestEnvironment<'a>,
    name: String,
}

impl<'a> Node<'a> {
    /// A new node, once it is ready and takes pods.
    #[track_caller]
    fn new(environment: &'a TestEnvironment<'a>, suffix: &str) -> Self {
        let name = format!("{}-{suffix}", environment.namespace);
        let object = json!({
            "metadata": {
                "name": name,
                "annotations": {"kwok.x-k8s.io/node": "fake"},
                "labels": {GROUP: environment.namespace, "kubernetes.io/hostname": name},
            },
            "spec": {"taints": [
                {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"},
            ]},
        });
        environment.api.post("/api/v1/nodes", &object).expect(201);
        let node = Self { environment, name };
        eventually("the node is ready", || {
            let object = environment.api.get(&node.path()).expect(200);
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
        let _ = self
            .environment
            .api
            .try_send("DELETE", &self.path(), "", "");
    }
}

/// A template of pods for the nodes of this test, with these annotations.
fn template(environment: &TestEnvironment<'_>, grace_secs: u32, annotations: &str) -> String {
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
        environment.namespace
    )
}

const DRAINED: [&str; 3] = ["ann", "bob", "eve"];

/// What is attached to each instance, in both forms: as a label and as an annotation.
const LABELS: &str = r#"{"username": "ann", "note": "ä ö ü"}"#;

#[test]
#[ignore = "needs a cluster"]
fn the_instances_of_a_drained_node_come_back_on_another_with_their_labels() {
    let environment = TestEnvironment::shared();
    let lingering = template(&environment, 10, "stand-in/ends-after: 2s");
    environment.offer("lingering", "lingering", &lingering);
    let first = Node::new(&environment, "first");
    let replicas = environment.replicas::<2>();
    let (jobs, pods) = (
        Recorder::start(&environment, "jobs"),
        Recorder::start(&environment, "pods"),
    );
    for name in DRAINED {
        replicas[0].get_prefer(&path(name), LONG_WAIT).ip();
        replicas[0].patch(&path(name), LABELS).expect(200);
    }
    check_nodes(&environment, &first);
    let second = Node::new(&environment, "second");

    std::thread::scope(|scope| {
        // The reader ends when this end of the channel is gone, also when a check here fails.
        let (stop_reader, stopped) = channel();
        let program = &replicas[1];
        let reader = scope.spawn(move || read_on(program, &stopped));
        // It returns when the pods have gone.
        environment.kubectl(&["drain", &first.name, "--timeout=60s"]);
        for name in DRAINED {
            for program in &replicas {
                eventually("the instance is back with its labels", || {
                    has_labels(program, name).then_some(())
                });
            }
        }
        drop(stop_reader);
        reader.join().expect("its checks hold");
    });

    check_nodes(&environment, &second);
    let (jobs, pods) = (jobs.finish(), pods.finish());
    let went_on = |one: &Sighting| one.is_leaving && one.phase == "Running";
    assert!(pods.iter().any(went_on), "nothing was at stake");
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
    stop(&environment, &replicas[0]);
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

/// Requests an instance until stopped: it is there, or on its way, at every moment.
fn read_on(program: &Program, stop: &Receiver<()>) {
    let pause = Duration::from_millis(20);
    while stop.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        for name in DRAINED {
            let got = program.get_prefer(&path(name), "wait=0");
            let is_fine = match got.code {
                200 => got.body["ip"].is_string(),
                202 => got.body["status"] != "app_error",
                _ => false,
            };
            assert!(is_fine, "{}: {}", got.code, got.body);
        }
    }
}

/// All pods are on that node.
#[track_caller]
fn check_nodes(environment: &TestEnvironment<'_>, node: &Node<'_>) {
    let pods = environment.list("pods");
    let nodes: Vec<String> = pods
        .iter()
        .map(|pod| text(&pod["spec"]["nodeName"]))
        .collect();
    assert_eq!(nodes, [(); DRAINED.len()].map(|()| node.name.clone()));
}

/// Nothing may be left on a node that goes with the test.
#[track_caller]
fn stop(environment: &TestEnvironment<'_>, program: &Program) {
    for name in DRAINED {
        assert_eq!(
            program.delete(&path(name)).expect(200),
            json!({"status": "Success"})
        );
    }
    eventually("all is gone", || {
        (environment.list("jobs").is_empty() && environment.list("pods") == Vec::<Value>::new())
            .then_some(())
    });
}

/// Grace of the pods on the dead node.
const GRACE: Duration = Duration::from_secs(2);

/// How long after the end of its grace a pod is waited for (design, "Stopping").
const OVERDUE_AFTER: Duration = Duration::from_secs(30);

/// What else it takes until the next instance is ready: some calls, and a start.
const SLACK: Duration = Duration::from_secs(10);

/// Marks all pods as the node controller marks the ready ones of a node without heartbeats. (kwok keeps up
/// those of all its nodes.)
#[track_caller]
fn mark_as_lost(environment: &TestEnvironment<'_>) {
    for pod in environment.list("pods") {
        let mut conditions = pod["status"]["conditions"].clone();
        for condition in conditions.as_array_mut().expect("conditions") {
            if condition["type"] == "Ready" {
                condition["status"] = json!("False");
            }
        }
        let name = text(&pod["metadata"]["name"]);
        let path = format!("{}/{name}/status", environment.all("pods"));
        let change = json!({"status": {"conditions": conditions}});
        environment.api.patch(&path, &change).expect(200);
    }
}

/// Its pods are marked, and then deleted, through the service or by hand; no kubelet confirms their end.
#[test]
#[ignore = "needs a cluster"]
fn names_on_a_lost_node_are_free_soon_after_their_grace() {
    let environment = TestEnvironment::shared();
    let hanging = template(&environment, 2, "stand-in/does: hang-on-delete");
    environment.offer("dead", "dead", &hanging);
    let node = Node::new(&environment, "dead");
    let replicas = environment.replicas::<2>();
    let pods = Recorder::start(&environment, "pods");
    let names = ["by-us", "by-hand"];
    for name in names {
        replicas[0]
            .get_prefer(&format!("/app/dead/{name}"), LONG_WAIT)
            .ip();
    }
    // Replacements end normally, so that the test can remove them.
    environment.offer("dead", "dead", &template(&environment, 2, ""));
    for program in &replicas {
        eventually("the new template is read", || {
            (program.count_log("app type dead is on offer") == 2).then_some(())
        });
    }

    mark_as_lost(&environment);
    let began = Instant::now();
    replicas[0].delete("/app/dead/by-us").expect(200);
    let by_hand = "--selector=job-name=dead-by-hand";
    environment.kubectl(&["delete", "pod", by_hand, "--wait=false"]);
    // Until its watch has reported the mark to a replica, it knows the old address only.
    for program in &replicas {
        eventually("the mark is seen", || {
            let got = program.get_prefer("/app/dead/by-hand", "wait=0");
            (got.code != 200).then_some(())
        });
    }
    std::thread::scope(|scope| {
        for program in &replicas {
            for name in names {
                scope.spawn(move || check_free_again(program, name, began));
            }
        }
    });

    recorder::check_one_live_pod(&pods.finish());
    replicas.iter().for_each(check_counted);
    for name in names {
        check_logged(&replicas, name);
        replicas[0].delete(&format!("/app/dead/{name}")).expect(200);
    }
    eventually("all is gone", || {
        environment.list("pods").is_empty().then_some(())
    });
    drop(node);
}

/// Sends requests until there is an instance again: soon after the old pod was force-deleted.
#[track_caller]
fn check_free_again(program: &Program, name: &str, began: Instant) {
    let path = format!("/app/dead/{name}");
    eventually("there is an instance again", || {
        let got = program.get_prefer(&path, "wait=10");
        // A waiter for an instance that is force-deleted gets `stopped`. A Job without a pod for
        // this long is reported as well.
        let is_fine = got.code == 200 || got.code == 202 || got.body["code"] == "stopped";
        assert!(is_fine, "{}: {}", got.code, got.body);
        (got.code == 200).then_some(())
    });
    let took = began.elapsed();
    cluster::print_line(&format!(
        "FIGURE dead node: {name} was free again after {took:?}"
    ));
    assert!(
        took + Duration::from_secs(1) >= GRACE + OVERDUE_AFTER,
        "{took:?}"
    );
    assert!(took <= GRACE + OVERDUE_AFTER + SLACK, "{took:?}");
}

/// Each replica that force-deleted the pod logs it once; two may do so at the same moment.
#[track_caller]
fn check_logged(replicas: &[Program; 2], name: &str) {
    let instance = format!(" of dead/{name}:");
    let parts = ["force-deleted pod ", instance.as_str()];
    let counts = replicas
        .each_ref()
        .map(|program| program.count_log_of(&parts));
    assert!(counts.iter().all(|count| *count <= 1), "{name}: {counts:?}");
    assert!(counts.contains(&1), "{name}: {counts:?}");
}

/// What a replica counts is what it logs.
#[track_caller]
fn check_counted(program: &Program) {
    let labels = [r#"type="dead""#, r#"cause="forced""#];
    let count = program.metric("config_controller_stops_total", &labels);
    assert_eq!(
        count,
        program.count_log_of(&["force-deleted pod ", " of dead/"])
    );
}
