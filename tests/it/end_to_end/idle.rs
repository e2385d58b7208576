//! Idle timeouts on a real cluster: two replicas, each named as its pod would be.
//!
//! Durations are lower and upper bounds of what the test itself has seen; the machine may be busy, so the upper
//! ones have [`BUSY`] added.

use super::environment::{STAND_IN, TestEnvironment, real, text};
use super::program::Program;
use super::{LONG_WAIT, eventually};
use crate::cluster;
use crate::harness::{PREFIX, Pending, Response};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Nothing is stopped sooner after its last use.
const LIVES_MIN: Duration = Duration::from_millis(5_000 + 1250 + 2_000);

/// What nobody uses is gone by then.
const GONE_MAX: Duration = Duration::from_millis(2 * 5_000 + 2_000 + 1250);

/// The grace of pods, and what a busy machine may add to it.
const BUSY: Duration = Duration::from_secs(4);

/// Pause between two uses of the same instance.
const USE_EVERY: Duration = Duration::from_millis(200);

/// A namespace with the app type `app`, whose instances may be unused for a while.
struct Ground {
    environment: TestEnvironment<'static>,
    kubeconfig: PathBuf,
}

impl Ground {
    /// With instances on the stand-in node.
    #[track_caller]
    fn stand_in(timeout: &str) -> Self {
        let probe = "image: stand-in, readinessProbe: {tcpSocket: {port: 80}}}";
        Self::new(&STAND_IN.replace("image: stand-in}", probe), timeout)
    }

    #[track_caller]
    fn new(template: &str, timeout: &str) -> Self {
        let environment = TestEnvironment::shared();
        environment.offer_with("app", "app", template, &[("idle-timeout", timeout)]);
        let kubeconfig = environment.kubeconfig(&environment.token(), None, None);
        Self {
            environment,
            kubeconfig,
        }
    }

    /// A replica of this name.
    #[track_caller]
    fn replica(&self, name: &str) -> Program {
        self.replica_with(name, &[])
    }

    #[track_caller]
    fn replica_with(&self, name: &str, more: &[(&str, &str)]) -> Program {
        let settings = [&[("DRAIN_DELAY", "0s"), ("POD_NAME", name)], more].concat();
        Program::start_ready(&self.kubeconfig, &settings)
    }

    #[track_caller]
    fn start(&self, program: &Program, name: &str) -> String {
        program.get_prefer(&path(name), LONG_WAIT).ip();
        self.environment.job_uid(&format!("app-{name}"))
    }

    fn has(&self, name: &str) -> bool {
        self.environment.has_job(&format!("app-{name}"))
    }

    /// Uses an instance through this replica for so long.
    #[track_caller]
    fn keep(&self, program: &Program, name: &str, time: Duration) {
        let began = Instant::now();
        eventually("it is used for as long", || {
            program.get(&path(name)).ip();
            std::thread::park_timeout(USE_EVERY);
            (began.elapsed() >= time).then_some(())
        });
    }

    /// Uses an instance through this replica while that one shuts down.
    #[track_caller]
    fn keep_beside(&self, program: &Program, name: &str, mut ending: Program) {
        ending.terminate();
        eventually("it has shut down", || {
            program.get(&path(name)).ip();
            std::thread::park_timeout(USE_EVERY);
            ending.has_ended().then_some(())
        });
        check_quiet(&ending);
    }

    /// Waits until it is gone, which must be within the bounds after `unused`.
    #[track_caller]
    fn wait_gone(&self, name: &str, unused: Instant) -> Duration {
        let took = eventually("it is gone", || (!self.has(name)).then(|| unused.elapsed()));
        assert!(took <= GONE_MAX + BUSY, "{name} was gone after {took:?}");
        took
    }

    /// The Lease of this replica.
    fn lease(&self, name: &str) -> Option<Value> {
        let leases = self.environment.list("leases");
        let mut leases = leases.into_iter();
        leases.find(|lease| lease["metadata"]["name"] == name)
    }
}

fn path(name: &str) -> String {
    format!("/app/app/{name}")
}

fn put(program: &Program, path: &str, body: &str) -> Response {
    let json = [("Content-Type", "application/json")];
    let pending: Pending = program.client().begin("PUT", path, &json, body);
    pending.finish()
}

/// Nothing went wrong, as far as the log says.
#[track_caller]
fn check_quiet(program: &Program) {
    let log = program.log_text();
    let loud = |line: &&str| line.contains(" ERROR ") || line.contains(" WARN ");
    let loud: Vec<&str> = log.lines().filter(loud).collect();
    assert!(loud.is_empty(), "{loud:#?}");
}

#[test]
#[ignore = "needs a cluster"]
fn what_is_used_through_one_replica_lives_and_the_rest_ends() {
    let ground = Ground::new(&real("idle", 1, &[]), "5s");
    let [used, other] = ["cc-a", "cc-b"].map(|name| ground.replica(name));
    let kept = ground.start(&used, "kept");
    ground.start(&other, "left");
    let left = Instant::now();
    let mut gone = None;
    eventually("it is used for long", || {
        used.get(&path("kept")).ip();
        if gone.is_none() && !ground.has("left") {
            gone = Some(left.elapsed());
        }
        std::thread::park_timeout(USE_EVERY);
        (left.elapsed() > 2 * GONE_MAX).then_some(())
    });
    let gone = gone.expect("what nobody uses is gone");
    assert!(gone >= LIVES_MIN && gone <= GONE_MAX + BUSY, "{gone:?}");
    assert_eq!(ground.environment.job_uid("app-kept"), kept);
    let took = ground.wait_gone("kept", Instant::now());
    assert!(took >= LIVES_MIN, "{took:?}");
    cluster::print_line(&format!(
        "FIGURE of a timeout of {TIMEOUT:?}, unused instances were gone after {gone:.1?} and {took:.1?}"
    ));
    for name in ["cc-a", "cc-b"] {
        let lease = ground.lease(name).expect("each replica has one");
        let (labels, annotations) = (
            &lease["metadata"]["labels"],
            &lease["metadata"]["annotations"],
        );
        assert!(
            text(&annotations[format!("{PREFIX}uses")]).starts_with('#'),
            "{lease}"
        );
        assert_eq!(
            labels[format!("{PREFIX}uses-of")],
            ground.environment.namespace
        );
    }
    check_quiet(&used);
    check_quiet(&other);
}

/// Both are ended and started in the middle, as pods of other names, and once killed together.
#[test]
#[ignore = "needs a cluster"]
fn restarts_of_both_replicas_end_nothing_that_is_used() {
    let ground = Ground::stand_in("5s");
    let [mut first, mut second] = ["cc-a0", "cc-b0"].map(|name| ground.replica(name));
    let job = ground.start(&first, "ann");
    for turn in 1..=3 {
        ground.keep(&first, "ann", TIMEOUT);
        ground.keep_beside(&first, "ann", second);
        second = ground.replica(&format!("cc-b{turn}"));
        ground.keep(&first, "ann", TIMEOUT / 2);
        ground.keep_beside(&second, "ann", first);
        first = ground.replica(&format!("cc-a{turn}"));
    }
    ground.keep(&first, "ann", TIMEOUT);
    for program in [&mut first, &mut second] {
        program.kill();
        program.ended();
    }
    let restarted = Instant::now();
    let [first, second] = ["cc-a", "cc-b"].map(|name| ground.replica(name));
    let ready = Instant::now();
    assert_eq!(ground.environment.job_uid("app-ann"), job);
    let took = ground.wait_gone("ann", ready);
    assert!(restarted.elapsed() >= LIVES_MIN, "{took:?}");
    check_quiet(&first);
    check_quiet(&second);
}

/// It is stopped at ten different moments of its steps and once for long: it knows nothing of the uses meanwhile.
#[test]
#[ignore = "needs a cluster"]
fn a_replica_that_stood_still_ends_nothing_that_was_used_meanwhile() {
    let ground = Ground::stand_in("5s");
    let [used, paused] = ["cc-a", "cc-b"].map(|name| ground.replica(name));
    let job = ground.start(&used, "ann");
    ground.start(&paused, "bob");
    let left = Instant::now();
    paused.pause(true);
    ground.keep(&used, "ann", Duration::from_secs(20));
    assert!(!ground.has("bob"), "the other replica ends it");
    assert!(left.elapsed() >= LIVES_MIN);
    ground.start(&used, "joe");
    let left = Instant::now();
    paused.pause(false);
    ground.keep(&used, "ann", LIVES_MIN + GONE_MAX);
    assert!(!ground.has("joe"), "not ended after {:?}", left.elapsed());
    for pause in 1..=10 {
        ground.keep(&used, "ann", Duration::from_millis(1_000 + 100 * pause));
        paused.pause(true);
        ground.keep(&used, "ann", Duration::from_millis(2_000));
        paused.pause(false);
    }
    assert_eq!(ground.environment.job_uid("app-ann"), job);
    check_quiet(&used);
    check_quiet(&paused);
    ground.wait_gone("ann", Instant::now());
}

#[test]
#[ignore = "needs a cluster"]
fn a_heartbeat_for_long_and_a_label_keep_an_instance() {
    let ground = Ground::stand_in("5s");
    let [asked, other] = ["cc-a", "cc-b"].map(|name| ground.replica(name));
    let jobs = ["beaten", "connected"].map(|name| ground.start(&asked, name));
    let beaten = put(&asked, "/app/app/beaten/heartbeat", r#"{"for": "20s"}"#);
    let until = Instant::now() + Duration::from_secs(20);
    assert_eq!(beaten.header("instance-expires-in"), "25");
    beaten.expect(200);
    let label = |value: &str| {
        let body = format!("{{\"connected\": {value}}}");
        asked.patch("/app/app/connected", &body).expect(200);
    };
    label("\"true\"");
    // Whoever was told of it is not needed for it to last.
    asked.terminate();
    let asked = ground.replica("cc-c");
    eventually("the time is over", || {
        assert!(ground.has("beaten") && ground.has("connected"));
        std::thread::park_timeout(USE_EVERY);
        (Instant::now() >= until).then_some(())
    });
    let live =
        ["beaten", "connected"].map(|name| ground.environment.job_uid(&format!("app-{name}")));
    assert_eq!(live, jobs);
    let took = ground.wait_gone("beaten", until);
    assert!(took >= LIVES_MIN, "{took:?}");
    assert!(ground.has("connected"));
    asked
        .patch("/app/app/connected", r#"{"connected": null}"#)
        .expect(200);
    let took = ground.wait_gone("connected", Instant::now());
    assert!(took >= LIVES_MIN, "{took:?}");
    check_quiet(&asked);
    check_quiet(&other);
}

/// Kubernetes removes the Lease of a pod that goes; without the pod's UID it is left.
#[test]
#[ignore = "needs a cluster"]
fn a_lease_goes_with_its_pod() {
    let ground = Ground::stand_in("5s");
    let environment = &ground.environment;
    let mut pod: Value = serde_yaml::from_str(STAND_IN).expect("a template is YAML");
    pod["metadata"] = json!({"name": "cc-a"});
    let made = environment
        .api
        .post(&environment.all("pods"), &pod)
        .expect(201);
    let uid = text(&made["metadata"]["uid"]);
    let owned = ground.replica_with("cc-a", &[("POD_UID", &uid)]);
    let free = ground.replica("cc-b");
    let job = ground.start(&owned, "ann");
    let lease = eventually("it has a Lease", || ground.lease("cc-a"));
    assert_eq!(lease["metadata"]["ownerReferences"][0]["uid"], uid);
    eventually("the other one has one", || ground.lease("cc-b"));
    ground.keep_beside(&owned, "ann", free);
    // As its pod does, it lasts beyond some cycles of the garbage collector.
    ground.keep(&owned, "ann", 2 * TIMEOUT);
    let kept = ground.lease("cc-a").expect("it is there");
    assert_eq!(kept["metadata"]["uid"], lease["metadata"]["uid"]);
    drop(owned);
    environment.kubectl(&["delete", "pod", "cc-a", "--wait=false"]);
    eventually("its Lease is gone", || {
        ground.lease("cc-a").is_none().then_some(())
    });
    assert!(ground.lease("cc-b").is_some(), "nobody owns it");
    assert_eq!(environment.job_uid("app-ann"), job);
}

/// Nothing is stopped, and the log says so once.
#[test]
#[ignore = "needs a cluster"]
fn without_the_right_to_leases_nothing_is_stopped() {
    let ground = Ground::stand_in("5s");
    let environment = &ground.environment;
    let role = environment.kubectl(&["get", "role", "config-controller", "-o", "json"]);
    let mut role: Value = serde_json::from_str(&role).expect("kubectl prints JSON");
    let rules = role["rules"].as_array_mut().expect("a Role has rules");
    rules.retain(|rule| rule["resources"] != json!(["leases"]));
    let path = format!(
        "/apis/rbac.authorization.k8s.io/v1/namespaces/{}/roles/config-controller",
        environment.namespace
    );
    environment.api.put(&path, &role).expect(200);
    let program = ground.replica("cc-a");
    let job = ground.start(&program, "ann");
    let began = Instant::now();
    eventually("it has lived for long", || {
        std::thread::park_timeout(USE_EVERY);
        (began.elapsed() > 2 * GONE_MAX).then_some(())
    });
    assert_eq!(environment.job_uid("app-ann"), job);
    let log = program.log_text();
    let lines = log.lines().filter(|line| line.contains("eases"));
    let lines: Vec<&str> = lines.collect();
    // One of reports, and one of the watch.
    assert!(!lines.is_empty() && lines.len() <= 2, "{log}");
    assert!(ground.lease("cc-a").is_none());
}

/// 100 instances are used all the time through both replicas.
#[test]
#[ignore = "needs a cluster"]
fn few_leases_are_written_however_many_instances_are_used() {
    const INSTANCES: usize = 100;
    const WINDOW: Duration = Duration::from_secs(60);
    const A_SECOND_MAX: f64 = 0.2;
    let ground = Ground::stand_in("20s");
    let environment = &ground.environment;
    let replicas = ["cc-a", "cc-b"].map(|name| ground.replica(name));
    let names: Vec<String> = (0..INSTANCES).map(|number| format!("n{number}")).collect();
    for name in &names {
        ground.start(&replicas[0], name);
    }
    let version = environment.version("leases");
    let (began, mut uses) = (Instant::now(), 0_usize);
    while began.elapsed() < WINDOW {
        for name in &names {
            for program in &replicas {
                program.get(&path(name)).ip();
                uses += 1;
            }
        }
    }
    let window = began.elapsed().as_secs_f64();
    let events = environment.events_since("leases", &version);
    for name in ["cc-a", "cc-b"] {
        let own = events
            .iter()
            .filter(|event| event["object"]["metadata"]["name"] == name);
        let writes = own.count();
        let lease = ground.lease(name).expect("it has one");
        let report = text(&lease["metadata"]["annotations"][format!("{PREFIX}uses")]);
        cluster::print_line(&format!(
            "FIGURE {INSTANCES} instances, {uses} uses in {window:.0} s: {writes} writes of the Lease {name}, now of {} bytes",
            report.len()
        ));
        // One that was due at the beginning is beside the rate.
        let most = (window * A_SECOND_MAX).ceil() + 1.0;
        assert!(writes as f64 <= most && writes > 0, "{writes}");
        assert!(report.len() >= 8 * INSTANCES, "{report}");
    }
    replicas.iter().for_each(check_quiet);
}
