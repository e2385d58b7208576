//! A stop at every phase of a start, a start at every point of a stop, and names that others hold,
//! with real pods.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::environment::{TestEnvironment, real};
use super::program::{Program, page};
use super::recorder::{self, Recorder};
use super::{LONG_WAIT, eventually};
use crate::harness::Pending;

/// Keeps a Job that is being deleted until the test takes it away.
const HOLD: &str = "tests.semafor.ch/hold";

/// Templates whose pods stay in one phase, with its name. The registry never responds.
fn stuck_templates(registry: &TcpListener) -> [(&'static str, String); 7] {
    let port = registry.local_addr().expect("it listens").port();
    let plain = real("", 1, &[]);
    let with = |lines: &str| format!("{plain}{lines}");
    let init = "  initContainers:\n  - {name: first, image: config-controller-demo:1, \
                imagePullPolicy: IfNotPresent, env: [{name: START_DELAY_SECS, value: \"300\"}]}\n";
    let volume = "  volumes: [{name: missing, secret: {secretName: missing}}]\n";
    let mount = "    volumeMounts: [{name: missing, mountPath: /missing}]\n";
    [
        // Those that become a failure report after 10 or 15 s come first.
        (
            "starting",
            with("    envFrom: [{configMapRef: {name: missing}}]\n"),
        ),
        ("creating", with("  serviceAccountName: missing\n")),
        (
            "scheduling",
            with("  nodeSelector: {tests/group: nowhere}\n"),
        ),
        ("mounting", with(&format!("{mount}{volume}"))),
        (
            "pulling",
            plain.replace(
                "config-controller-demo:1",
                &format!("127.0.0.1:{port}/none:1"),
            ),
        ),
        ("initialising", with(init)),
        ("readying", real("", 1, &[("START_DELAY_SECS", "300")])),
    ]
}

#[test]
#[ignore = "needs a cluster"]
fn a_start_can_be_stopped_in_each_of_its_phases() {
    let environment = TestEnvironment::shared();
    // Connections to it are made, since its queue takes them, and never served.
    let registry = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let templates = stuck_templates(&registry);
    for (phase, template) in &templates {
        environment.offer(phase, phase, template);
    }
    let replicas = environment.replicas::<2>();
    let jobs = Recorder::start(&environment, "jobs");
    let waiting = templates.map(|(phase, _)| (phase, begin_at_each(&replicas, &path(phase))));
    for program in &replicas {
        program.await_waiting(waiting.len());
    }
    for (app_type, waiting) in waiting {
        let phase = match app_type {
            "pulling" => environment.cluster.phase_of_a_pull(),
            phase => phase,
        };
        check_stop_in(&replicas, app_type, phase, waiting);
    }
    drop(registry);
    eventually("no Job is left", || {
        environment.list("jobs").is_empty().then_some(())
    });
    let jobs = jobs.finish();
    assert_eq!(recorder::made(&jobs).len(), 7);
    assert!(
        recorder::made(&jobs).values().all(|count| *count == 1),
        "no instance is started again"
    );
}

fn path(app_type: &str) -> String {
    format!("/app/{app_type}/ann")
}

#[track_caller]
fn begin(program: &Program, path: &str) -> Pending {
    program
        .client()
        .begin("GET", path, &[("Prefer", LONG_WAIT)], "")
}

#[track_caller]
fn begin_at_each(replicas: &[Program; 2], path: &str) -> [Pending; 2] {
    [begin(&replicas[0], path), begin(&replicas[1], path)]
}

/// Waits until the start is in its phase, and stops it: all waiters are answered.
#[track_caller]
fn check_stop_in(replicas: &[Program; 2], app_type: &str, phase: &str, waiting: [Pending; 2]) {
    let path = path(app_type);
    for program in replicas {
        eventually(&format!("it is {phase}"), || {
            is_in_phase(program, &path, phase).then_some(())
        });
    }
    assert!(
        waiting.iter().all(|pending| !pending.is_answered()),
        "{phase}"
    );
    replicas[0].delete(&path).expect(200);
    for pending in waiting {
        pending.finish().expect_error(409, "stopped");
    }
}

/// The response to a caller that does not wait.
#[track_caller]
fn is_in_phase(program: &Program, path: &str, phase: &str) -> bool {
    let got = program.get_prefer(path, "wait=0").expect(202);
    assert_ne!(got["status"], "app_error", "{got}");
    got["phase"] == phase
}

#[test]
#[ignore = "needs a cluster"]
fn a_start_at_any_point_of_a_stop_gets_the_one_new_instance() {
    let environment = TestEnvironment::shared();
    environment.offer(
        "stubborn",
        "stubborn",
        &real("stubborn", 3, &[("IGNORE_TERM", "1")]),
    );
    let replicas = environment.replicas::<2>();
    let (jobs, pods) = (
        Recorder::start(&environment, "jobs"),
        Recorder::start(&environment, "pods"),
    );
    let path = path("stubborn");
    let old_ip = replicas[0].get_prefer(&path, LONG_WAIT).ip();
    let job = format!("{}/stubborn-ann", environment.all("jobs"));
    hold(&environment, &job, &json!([HOLD]));

    replicas[0].delete(&path).expect(200);
    let mut waiting: Vec<Pending> = Vec::new();
    for point in ["asked for", "pod leaves", "pod gone, Job held"] {
        eventually(point, || {
            has_reached(&environment, &job, point).then_some(())
        });
        for program in &replicas {
            eventually("the replica reports stopping", || {
                is_in_phase(program, &path, "stopping").then_some(())
            });
        }
        waiting.extend(begin_at_each(&replicas, &path));
        assert!(
            waiting.iter().all(|pending| !pending.is_answered()),
            "{point}"
        );
    }
    hold(&environment, &job, &Value::Null);
    waiting.extend(begin_at_each(&replicas, &path));
    let addresses: Vec<Value> = waiting
        .into_iter()
        .map(|pending| pending.finish().expect(200)["ip"].clone())
        .collect();
    assert!(
        addresses.iter().all(|ip| *ip == addresses[0]),
        "{addresses:?}"
    );
    let new_ip = replicas[1].get(&path).ip();
    assert_eq!(addresses[0], new_ip.to_string());
    assert_ne!(new_ip, old_ip);
    assert_eq!(page(new_ip), "stubborn");
    assert_eq!(
        environment.owner_of(new_ip),
        environment.job_uid("stubborn-ann")
    );
    assert_eq!(recorder::made_for(&jobs.finish(), "stubborn/ann").len(), 2);
    recorder::check_one_live_pod(&pods.finish());
}

/// Sets the finalizers of a Job.
#[track_caller]
fn hold(environment: &TestEnvironment<'_>, job: &str, finalizers: &Value) {
    let patch = json!({"metadata": {"finalizers": finalizers}});
    environment.api.patch(job, &patch).expect(200);
}

/// Whether the deletion of a Job is as far as that.
#[track_caller]
fn has_reached(environment: &TestEnvironment<'_>, job: &str, point: &str) -> bool {
    let job = environment.api.get(job).expect(200);
    assert!(job["metadata"]["deletionTimestamp"].is_string());
    let pods = environment.list("pods");
    let leaves = |pod: &Value| pod["metadata"]["deletionTimestamp"].is_string();
    match point {
        "asked for" => true,
        "pod leaves" => pods.iter().any(leaves),
        // Then only the test's finalizer holds the Job.
        _ => pods.is_empty() && job["metadata"]["finalizers"] == json!([HOLD]),
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_name_that_others_hold_is_left_alone() {
    let environment = TestEnvironment::shared();
    environment.make_job("hello-ann", &real("theirs", 1, &[]));
    let program = environment.program();
    let existing = environment.job_uid("hello-ann");
    check_taken(&program, "/app/hello/ann");
    assert_eq!(environment.job_uid("hello-ann"), existing);
    assert_eq!(program.names("hello"), Vec::<String>::new());

    // It is free once they let go of it, and no caller has to wait for more than that.
    environment.kubectl(&["delete", "job", "hello-ann"]);
    let ours = program.get_prefer("/app/hello/ann", LONG_WAIT).ip();
    assert_eq!(page(ours), "hello/ann");
    assert_eq!(program.names("hello"), ["ann"]);
}

#[test]
#[ignore = "needs a cluster"]
fn two_pairs_with_one_job_name_are_not_mixed_up() {
    let environment = TestEnvironment::shared();
    for app_type in ["a", "a-b"] {
        environment.offer(app_type, app_type, &real(app_type, 1, &[]));
    }
    let program = environment.program();
    let ip = program.get_prefer("/app/a/b-c", LONG_WAIT).ip();
    check_taken(&program, "/app/a-b/c");
    assert_eq!(program.names("a-b"), Vec::<String>::new());
    assert_eq!(program.get("/app/a/b-c").expect(200), json!({"ip": ip}));
    program.delete("/app/a/b-c").expect(200);
    eventually("the name is free", || {
        (program.get_prefer("/app/a-b/c", LONG_WAIT).code == 200).then_some(())
    });
    check_taken(&program, "/app/a/b-c");
}

/// It can be neither found nor labelled nor stopped; each request reports that.
#[track_caller]
fn check_taken(program: &Program, path: &str) {
    let client = program.client();
    client.get(path).expect_error(409, "name_taken");
    let patched = client.patch(path, &json!({"username": "ann"}));
    patched.expect_detail(404, "error", "not_found");
    client
        .delete(path)
        .expect_detail(404, "No job found", "not_found");
}
