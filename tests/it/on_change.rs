//! Edits of templates whose instances are restarted then: how many at a time, with what, and when nothing happens.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{
    Builder, NAMESPACE, PREFIX, TestEnvironment, apply_templates, eventually, name_of,
};

/// The template, which has values; a probe that takes so long to pass, or never does.
fn template(version: &str, ready_ms: u32, never_ready: bool) -> String {
    format!(
        "metadata:
  annotations:
    fake-kube/ready-ms: '{ready_ms}'
    fake-kube/never-ready: '{never_ready}'
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: \"example/app:{version}\"
    args: [\"${{alternatives.get('tz', 'UTC')}}\"]
    readinessProbe: {{tcpSocket: {{port: 8080}}}}
"
    )
}

fn on_change(value: &str) -> Builder {
    TestEnvironment::builder()
        .template("hello", &template("1", 0, false))
        .annotation("on-change", value)
        .setting("RESTART_IDLE_AFTER", "1s")
}

fn edit(environment: &TestEnvironment, text: &str, value: &str) {
    let annotations = json!({format!("{PREFIX}on-change"): value});
    apply_templates(
        &environment.kube,
        "templates",
        &[("hello", text)],
        annotations,
    );
}

/// Starts so many instances, each with a value of its own.
fn start(environment: &TestEnvironment, count: usize) {
    for n in 0..count {
        environment.start_instance(&format!("/app/hello/n{n:02}?tz=Z{n}"));
    }
}

/// The Jobs by name.
fn jobs(environment: &TestEnvironment) -> BTreeMap<String, Value> {
    let all = environment.kube.all(Resource::Jobs, NAMESPACE);
    all.iter()
        .map(|job| (name_of(job), (**job).clone()))
        .collect()
}

fn container(job: &Value) -> &Value {
    &job["spec"]["template"]["spec"]["containers"][0]
}

/// How many of these instances are of this version.
fn of_version(environment: &TestEnvironment, version: &str) -> usize {
    let image = format!("example/app:{version}");
    let all = jobs(environment);
    all.values()
        .filter(|job| container(job)["image"] == *image)
        .count()
}

/// How many of so many instances are not ready, at the API server.
fn unready(environment: &TestEnvironment, count: usize) -> usize {
    let pods = environment.kube.all(Resource::Pods, NAMESPACE);
    let is_ready = |pod: &&std::sync::Arc<Value>| {
        let conditions = pod["status"]["conditions"].as_array();
        let ready = conditions.and_then(|all| all.iter().find(|one| one["type"] == "Ready"));
        pod["metadata"]["deletionTimestamp"].is_null()
            && ready.is_some_and(|it| it["status"] == "True")
    };
    count.saturating_sub(pods.iter().filter(is_ready).count())
}

/// Nothing changes for a while, in which several restarts would have been.
#[track_caller]
fn nothing_happens(environment: &TestEnvironment) {
    let before = jobs(environment);
    let began = Instant::now();
    eventually("nothing is restarted for a while", || {
        let now = jobs(environment);
        let uids = |all: &BTreeMap<String, Value>| {
            let all = all.values().map(|job| job["metadata"]["uid"].clone());
            all.collect::<Vec<_>>()
        };
        assert_eq!(uids(&before), uids(&now));
        (began.elapsed() > Duration::from_secs(5)).then_some(())
    });
}

#[test]
fn all_are_restarted_a_tenth_at_a_time_with_their_values() {
    let environment = on_change("restart").start();
    start(&environment, 20);
    let before = jobs(&environment);
    edit(&environment, &template("2", 300, false), "restart");
    let mut most = 0;
    eventually("all are of the new template and ready", || {
        let unready = unready(&environment, 20);
        most = most.max(unready);
        (of_version(&environment, "2") == 20 && unready == 0).then_some(())
    });
    assert!((1..=2).contains(&most), "{most} were not ready at once");
    let after = jobs(&environment);
    for (name, job) in &before {
        let new = &after[name];
        assert_ne!(job["metadata"]["uid"], new["metadata"]["uid"], "{name}");
        assert_eq!(container(job)["args"], container(new)["args"], "{name}");
        let revision = &new["metadata"]["annotations"][format!("{PREFIX}template-revision")];
        let restarted = &new["metadata"]["annotations"][format!("{PREFIX}restarted-for")];
        assert_eq!(restarted, revision);
    }
    let text = environment.get("/metrics").text;
    let counted = "config_controller_stops_total{cause=\"outdated\",type=\"hello\"} 20";
    assert!(text.contains(counted), "{text}");
}

#[test]
fn two_replicas_keep_the_limit_together() {
    let mut environment = on_change("restart").start();
    let second = environment.add_replica();
    environment.wait_ready(second);
    start(&environment, 20);
    edit(&environment, &template("2", 300, false), "restart");
    let mut most = 0;
    eventually("all are of the new template and ready", || {
        let unready = unready(&environment, 20);
        most = most.max(unready);
        (of_version(&environment, "2") == 20 && unready == 0).then_some(())
    });
    // Each may begin one before it sees that of the other.
    assert!(most <= 4, "{most} were not ready at once");
    assert_eq!(environment.kube.count("create", "jobs"), 40);
}

#[test]
fn a_revision_that_does_not_become_ready_takes_a_tenth_at_most() {
    let environment = on_change("restart").start();
    start(&environment, 20);
    edit(&environment, &template("2", 0, true), "restart");
    eventually("two are restarted", || {
        (of_version(&environment, "2") == 2).then_some(())
    });
    nothing_happens(&environment);
    assert_eq!(unready(&environment, 20), 2);
    // The next edit mends that: what is not ready goes first.
    edit(&environment, &template("3", 0, false), "restart");
    eventually("all are of the newest template and ready", || {
        (of_version(&environment, "3") == 20 && unready(&environment, 20) == 0).then_some(())
    });
}

#[test]
fn a_template_whose_dry_run_fails_restarts_nothing() {
    let environment = on_change("restart").start();
    start(&environment, 3);
    let refusal = Fault::Refused("no such thing".into());
    environment
        .kube
        .fault(FaultRule::new("dry-run", "jobs", refusal));
    edit(&environment, &template("2", 0, false), "restart");
    eventually("the dry run has failed", || {
        let templates = environment.get("/templates").expect(200);
        (templates[0]["verdict"] == "invalid").then_some(())
    });
    nothing_happens(&environment);
}

#[test]
fn instances_are_kept_unless_their_template_says_otherwise() {
    let environment = on_change("keep").start();
    start(&environment, 2);
    edit(&environment, &template("2", 0, false), "keep");
    eventually("the edit is known", || {
        let templates = environment.get("/templates").expect(200);
        (templates[0]["instances"]["older"] == 2).then_some(())
    });
    nothing_happens(&environment);
    // They do not carry their values.
    edit(&environment, &template("2", 0, false), "restart");
    nothing_happens(&environment);
    let templates = environment.get("/templates").expect(200);
    assert_eq!(templates[0]["settings"]["on-change"], "restart");
}

#[test]
fn what_is_used_is_restarted_when_it_is_idle() {
    let environment = on_change("restart-idle").start();
    environment.start_instance("/app/hello/used");
    environment.start_instance("/app/hello/unused");
    environment.start_instance("/app/hello/zoe");
    environment
        .patch("/app/hello/zoe", &json!({"connected": "true"}))
        .expect(200);
    let before = jobs(&environment);
    edit(&environment, &template("2", 0, false), "restart-idle");
    let uid = |name: &str| {
        jobs(&environment)
            .get(name)
            .map(|job| job["metadata"]["uid"].clone())
    };
    let is_new = |name: &str| {
        let now = uid(name);
        now.is_some() && now.as_ref() != Some(&before[name]["metadata"]["uid"])
    };
    let began = Instant::now();
    eventually("what nobody uses is restarted, and nothing else", || {
        let found = environment.get("/app/hello/used");
        assert_eq!(found.header("instance-expires-in"), "");
        found.expect(200);
        assert!(!is_new("hello-used") && !is_new("hello-zoe"));
        (is_new("hello-unused") && began.elapsed() > Duration::from_secs(8)).then_some(())
    });
    environment
        .patch("/app/hello/zoe", &json!({"connected": null}))
        .expect(200);
    eventually("the others follow", || {
        (is_new("hello-used") && is_new("hello-zoe")).then_some(())
    });
}
