//! Instances that nobody uses end; what is used through any replica lives.
//!
//! That something lives on is seen for as long as two other instances live, one after the other, which nobody uses
//! ([`for_two_lifetimes`]). What ends why is in here; what goes wrong meanwhile is in `faults`.

mod faults;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::harness::{
    Builder, NAMESPACE, Response, TEMPLATE, TestEnvironment, apply_templates, eventually,
};
use crate::streams::EventReader;
use serde_json::{Value, json};

/// Instances may be unused for a second.
fn builder() -> Builder {
    TestEnvironment::builder().annotation("idle-timeout", "1s")
}

/// So many replicas, with such instances.
fn replicas(count: usize) -> TestEnvironment {
    let mut environment = builder().start();
    for _ in 1..count {
        let replica = environment.add_replica();
        environment.wait_ready(replica);
    }
    environment
}

/// Does this again and again, for as long as two instances live that nobody uses, one after the other.
#[track_caller]
fn for_two_lifetimes(mut act: impl FnMut()) {
    let control = replicas(1);
    for path in ["/app/hello/first", "/app/hello/second"] {
        control.start_instance(path);
        eventually("the instance that nobody uses is stopped", || {
            act();
            control.jobs().is_empty().then_some(())
        });
    }
}

#[track_caller]
fn wait_stopped(environment: &TestEnvironment) {
    eventually("it is stopped", || {
        environment.jobs().is_empty().then_some(())
    });
}

#[track_caller]
fn uid(environment: &TestEnvironment) -> Value {
    environment.wait_job("hello-ann")["metadata"]["uid"].clone()
}

fn leases(environment: &TestEnvironment) -> Vec<String> {
    let all = environment.kube.all(Resource::Leases, NAMESPACE);
    let mut names: Vec<String> = all
        .iter()
        .filter_map(|lease| Some(lease["metadata"]["name"].as_str()?.to_owned()))
        .collect();
    names.sort();
    names
}

fn get(environment: &TestEnvironment, replica: usize, prefer: &str) -> Response {
    let client = environment.replica(replica);
    let request = client.begin("GET", "/app/hello/ann", &[("Prefer", prefer)], "");
    request.finish()
}

fn beat(environment: &TestEnvironment, replica: usize, body: &str) -> Response {
    let json = [("Content-Type", "application/json")];
    let path = "/app/hello/ann/heartbeat";
    let request = environment.replica(replica).begin("PUT", path, &json, body);
    request.finish()
}

/// The header that says how long an instance lives.
fn expires_in(response: &Response) -> u64 {
    let text = response.header("instance-expires-in");
    let seconds = text.parse();
    seconds.unwrap_or_else(|_| panic!("{}: {text:?}", response.text))
}

#[test]
fn what_nobody_uses_is_stopped() {
    let environment = replicas(1);
    let ready = environment.get("/app/hello/ann");
    assert_eq!(expires_in(&ready), 1);
    ready.expect(200);
    wait_stopped(&environment);
    eventually("that is counted", || {
        let text = environment.get("/metrics").text;
        let counted = "config_controller_stops_total{cause=\"idle\",type=\"hello\"} 1";
        text.contains(counted).then_some(())
    });
    assert_eq!(leases(&environment), ["replica-0"]);
}

#[test]
fn readers_of_events_get_that_an_instance_ends_soon() {
    let environment = replicas(1);
    let mut reader = EventReader::open(environment.address(0), "/instances", &[]).expect("events");
    environment.get("/app/hello/ann").expect(200);
    let (before, soon) = reader.until("idle-soon");
    assert_eq!(before[before.len() - 2..], ["ready", "idle-soon"]);
    assert_eq!(soon.data["name"], "ann");
    assert_eq!(soon.data["status"], "ready");
    assert_eq!(
        soon.data["expires_in"], 0,
        "of the second less than one is left"
    );
    let (_, stopping) = reader.until("stopping");
    assert_eq!(stopping.data["cause"], "idle");
}

/// Until the replica that is not asked has got ten reports: that is longer than it waits.
#[test]
fn what_is_used_through_one_replica_lives_at_all() {
    let environment = replicas(2);
    let first = environment.get("/app/hello/ann").expect(200);
    let job = uid(&environment);
    let reports = || environment.kube.count("patch", "leases");
    let enough = reports() + 10;
    eventually("it is used for long", || {
        assert_eq!(environment.get("/app/hello/ann").expect(200), first);
        (reports() >= enough).then_some(())
    });
    assert_eq!(uid(&environment), job);
    wait_stopped(&environment);
}

#[test]
fn a_heartbeat_may_last_and_other_requests_only_look() {
    let environment = replicas(2);
    environment.start_instance("/app/hello/ann");
    let plain = beat(&environment, 0, "");
    assert_eq!(expires_in(&plain), 1);
    assert_eq!(plain.expect(200)["status"], "Success");
    let seconds = beat(&environment, 0, r#"{"for": 90}"#);
    assert_eq!(expires_in(&seconds), 91);
    let long = beat(&environment, 0, r#"{"for": "1h"}"#);
    assert_eq!(expires_in(&long), 3601);
    // Another replica hears of it, and whoever only looks does not shorten it.
    eventually("the other replica knows", || {
        (expires_in(&get(&environment, 1, "touch=false")) > 3500).then_some(())
    });
    let used = environment.get("/app/hello/ann");
    assert!((3500..=3601).contains(&expires_in(&used)));
    for (body, field) in [
        (r#"{"for": "8d"}"#, "for"),
        (r#"{"for": "25h"}"#, "for"),
        (r#"{"until": "noon"}"#, "until"),
        (r#"{"for": true}"#, "for"),
        (r#"{"for": null}"#, "for"),
        (r#"{"for": ["1h"]}"#, "for"),
    ] {
        let refused = beat(&environment, 0, body);
        assert_eq!(refused.expect(422)["detail"][0]["loc"][1], field, "{body}");
    }
    beat(&environment, 0, "[1]").expect(422);
    environment.delete("/app/hello/ann").expect(200);
    environment.wait_no_jobs();
    eventually("there is none to use", || {
        (beat(&environment, 1, "").status == 404).then_some(())
    });
}

/// A use that lasts is not forgotten with the replica that it was told.
#[test]
fn a_heartbeat_outlives_its_replica() {
    let mut environment = replicas(2);
    environment.start_instance("/app/hello/ann");
    let job = uid(&environment);
    beat(&environment, 0, r#"{"for": "1h"}"#).expect(200);
    eventually("the other replica knows", || {
        (expires_in(&get(&environment, 1, "touch=false")) > 3500).then_some(())
    });
    environment.restart_replica(0);
    for_two_lifetimes(|| {});
    assert_eq!(uid(&environment), job);
    eventually("the new one knows, too", || {
        (expires_in(&get(&environment, 0, "touch=false")) > 3500).then_some(())
    });
}

/// Also of a client of 2.7.1, which gets the address in another way; what others hear of a list tells them how long
/// an instance may be unused.
#[test]
fn who_gets_the_address_uses_it() {
    let environment = TestEnvironment::builder().annotation("idle-timeout", "2h");
    let environment = environment.start();
    let created = environment.get("/create/hello?sessionID=ann");
    assert_eq!(created.header("instance-expires-in"), "7200");
    eventually("time passes", || {
        let look = [("Prefer", "touch=false")];
        let left = |path: &str| {
            let looked = environment.client().begin("GET", path, &look, "").finish();
            let left = looked.header("instance-expires-in").parse::<u64>();
            left.expect("a number")
        };
        let (now, older) = (left("/app/hello/ann"), left("/create/hello?sessionID=ann"));
        (now < 7199 && older < 7200).then_some(())
    });
    let created = environment.get("/create/hello?sessionID=ann");
    assert_eq!(created.header("instance-expires-in"), "7200");
    let listed = environment.get("/instances").expect(200);
    assert_eq!(listed["instances"][0]["idle_timeout"], 7200);
}

/// Of instances without a timeout nothing is reported.
#[test]
fn without_a_timeout_nothing_ends_and_nothing_is_written() {
    let environment = TestEnvironment::new();
    let ready = environment.get("/app/hello/ann");
    assert_eq!(ready.header("instance-expires-in"), "");
    assert!(leases(&environment).is_empty());
}

#[test]
fn labels_and_heartbeats_are_uses() {
    for use_it in [
        (|it| it.patch("/app/hello/ann", &json!({"k": "v"}))) as fn(&TestEnvironment) -> Response,
        |it| beat(it, 0, ""),
        |it| get(it, 0, "touch=true"),
    ] {
        let environment = replicas(2);
        environment.start_instance("/app/hello/ann");
        let job = uid(&environment);
        for_two_lifetimes(|| {
            let used = use_it(&environment);
            assert_eq!(expires_in(&used), 1);
            used.expect(200);
        });
        assert_eq!(uid(&environment), job);
        wait_stopped(&environment);
    }
}

/// All of them are sent until the instance is gone.
#[test]
fn what_only_looks_or_fails_is_no_use() {
    let environment = replicas(1);
    environment.start_instance("/app/hello/ann");
    let client = environment.client();
    let path = "/app/hello/ann";
    let stream = [("Accept", "text/event-stream")];
    let _events = client.begin("GET", "/instances", &stream, "");
    let send = |method: &str, path: &str, header: (&str, &str), body: &str| {
        client.begin(method, path, &[header], body).finish().status
    };
    let json = ("Content-Type", "application/json");
    let none = ("Accept", "*/*");
    eventually("it is stopped", || {
        send("GET", path, ("Prefer", "touch=false"), "");
        send("GET", path, ("Prefer", "create=false"), "");
        for list in ["/app/hello", "/instances", "/app", "/templates", "/metrics"] {
            send("GET", list, none, "");
        }
        let refused = [
            send("PATCH", path, json, "[1]"),
            send("PUT", "/app/hello/ann/heartbeat", json, "[1]"),
            send("POST", path, json, "{}"),
        ];
        assert!(refused.iter().all(|status| *status >= 400), "{refused:?}");
        environment.jobs().is_empty().then_some(())
    });
}

#[test]
fn who_is_connected_keeps_an_instance() {
    for no_longer in [json!("false"), Value::Null] {
        let environment = replicas(2);
        environment.start_instance("/app/hello/ann");
        let job = uid(&environment);
        let label = |value: Value| {
            let labelled = environment.patch("/app/hello/ann", &json!({"connected": value}));
            labelled.expect(200);
        };
        label(json!("true"));
        for_two_lifetimes(|| {});
        assert_eq!(uid(&environment), job);
        label(no_longer);
        wait_stopped(&environment);
    }
}

/// The Job keeps what it was made with, as all its settings.
#[test]
fn a_template_without_its_timeout_leaves_that_of_its_jobs() {
    let environment = replicas(1);
    environment.start_instance("/app/hello/ann");
    apply_templates(
        &environment.kube,
        "templates",
        &[("hello", TEMPLATE)],
        json!({}),
    );
    eventually("a new instance has none", || {
        let ready = environment.get("/app/hello/bob");
        let is_new = ready.header("instance-expires-in").is_empty();
        if !is_new {
            environment.delete("/app/hello/bob").expect(200);
            return None;
        }
        ready.expect(200);
        Some(())
    });
    assert_eq!(expires_in(&environment.get("/app/hello/ann")), 1);
    eventually("the old one is stopped", || {
        (environment.jobs() == ["hello-bob"]).then_some(())
    });
    for_two_lifetimes(|| {});
    assert_eq!(environment.jobs(), ["hello-bob"]);
}

/// A start takes longer than an instance may be unused: whoever waits for it gets it.
#[test]
fn what_is_waited_for_is_not_idle() {
    let environment = builder().pod_script(PodScript::by_hand()).start();
    let client = environment.client();
    let waiting = client.begin("GET", "/app/hello/ann", &[("Prefer", "wait=60")], "");
    let job = uid(&environment);
    for_two_lifetimes(|| {});
    assert_eq!(uid(&environment), job);
    environment.make_ready("hello-ann");
    let ready = waiting.finish();
    assert_eq!(expires_in(&ready), 1);
    ready.expect(200);
    eventually("it is stopped", || {
        let job = environment.job("hello-ann")?;
        job["metadata"]["deletionTimestamp"].as_str().map(drop)
    });
}

/// What has failed takes nothing, and its report is kept for as long as the template says.
#[test]
fn what_has_failed_keeps_its_report() {
    let exit = Exit::at_once(3);
    let environment = builder()
        .annotation("restart-failed", "never")
        .pod_script(PodScript {
            exit: Some(exit),
            never_ready: true,
            ..PodScript::default()
        })
        .start();
    let failed = environment.get("/app/hello/ann").expect(202);
    assert_eq!(failed["status"], "app_error");
    let job = uid(&environment);
    for_two_lifetimes(|| {});
    assert_eq!(environment.jobs(), ["hello-ann"]);
    assert_eq!(uid(&environment), job);
    let failed = environment.get_at_once("/app/hello/ann").expect(202);
    assert_eq!(failed["status"], "app_error");
}
