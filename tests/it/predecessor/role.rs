//! The Role of 2.7.1's chart (A14): no watch on Jobs and ConfigMaps, which are listed instead.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use super::{BARE, patched, see_label, see_names, uid};
use crate::harness::{
    Client, NAMESPACE, ROLE, TemporaryFolder, TestEnvironment, apply_templates, eventually,
};
use crate::watch::ROLE_OF_THE_ORIGINAL;

/// A template of pods that fail immediately.
const FAILS: &str = "\
metadata: {annotations: {fake-kube/exit-code: \"3\"}}
spec:
  restartPolicy: Never
  containers: [{name: app, image: example/app:1}]
";

/// How long a refusal has to last until it is believed.
const BELIEVED_AFTER: Duration = Duration::from_secs(5);

/// How long until a refused watch is tried again.
const WATCH_RETRY: Duration = Duration::from_secs(60);

/// Two replicas under that Role, which list instead of watching.
fn restricted() -> TestEnvironment {
    let mut environment = TestEnvironment::builder()
        .role(ROLE_OF_THE_ORIGINAL)
        .setting("POLL", "50ms")
        .template("page", BARE)
        .template("fails", FAILS)
        .start();
    let second = environment.add_replica();
    environment.wait_ready(second);
    // By the second refusal the replica has taken note of the first.
    each_has(&environment, "watch", 2);
    environment.advance(BELIEVED_AFTER);
    each_has(&environment, "list", 2);
    environment
}

/// How many calls of this kind that replica has made.
#[track_caller]
fn calls(client: Client, verb: &str, resource: &str) -> u64 {
    let text = client.get("/metrics").text;
    let [verb, resource] = [
        format!("verb=\"{verb}\""),
        format!("resource=\"{resource}\""),
    ];
    let is_meant = |line: &&str| {
        line.starts_with("config_controller_kube_requests_total{")
            && line.contains(&verb)
            && line.contains(&resource)
    };
    let number = |line: &str| line.rsplit_once(' ')?.1.parse::<u64>().ok();
    let lines = text.lines().filter(is_meant);
    lines.map(|line| number(line).expect("a counter")).sum()
}

/// Waits until each replica has made so many calls of this kind, for Jobs and for ConfigMaps.
#[track_caller]
fn each_has(environment: &TestEnvironment, verb: &str, count: u64) {
    for replica in [0, 1] {
        for resource in ["jobs", "configmaps"] {
            let client = environment.replica(replica);
            eventually("it is called often enough", || {
                (calls(client, verb, resource) >= count).then_some(())
            });
        }
    }
}

/// Waits until each replica has listed Jobs and ConfigMaps so many times more.
#[track_caller]
fn lists(environment: &TestEnvironment, more: u64) {
    let now = |replica| {
        let client = environment.replica(replica);
        ["jobs", "configmaps"].map(|resource| calls(client, "list", resource))
    };
    let most = [now(0), now(1)].concat().into_iter().max();
    each_has(environment, "list", most.expect("there are four") + more);
}

/// What that Role has no rights for: reasons in events are missing, and nothing that nobody uses is stopped.
const OPTIONAL: [&str; 2] = ["events", "leases"];

fn is_optional(resource: &str) -> bool {
    OPTIONAL.contains(&resource)
}

#[test]
fn every_route_works_and_only_the_watch_is_forbidden() {
    let environment = restricted();
    let (first, second) = (environment.replica(0), environment.replica(1));
    let types = json!(["fails", "hello", "page"]);
    assert_eq!(first.get("/app").expect(200), types);
    let ip = environment.start_instance("/app/page/ann");
    assert_eq!(second.get("/app/page/ann").expect(200)["ip"], json!(ip));
    for client in [first, second] {
        see_names(client, "page", &["ann"]);
        patched(
            client,
            "/app/page/ann",
            &json!({"k": "v", "mail": "a@b.ch"}),
        );
        assert_eq!(client.get("/app/page/ann").expect(200)["mail"], "a@b.ch");
    }
    check_restart(&environment);
    check_failure(&environment);
    let list = first.get("/app/page").expect(200);
    assert_eq!(first.get("/api/page").expect(200), list);
    let created = second.get("/create/page?sessionID=s-1").expect(200);
    assert_eq!(created["hostname"], created["addr"]);
    see_names(first, "page", &["ann", "s-1"]);
    first.get("/release/s-1").expect(200);
    see_names(second, "page", &["ann"]);
    for path in ["/readyz", "/livez", "/metrics", "/info"] {
        assert_eq!(first.get(path).status, 200, "{path}");
    }
    let refused: BTreeSet<_> = environment
        .kube
        .requests()
        .into_iter()
        .filter(|request| request.code == 403 && !is_optional(&request.resource))
        // Whether pods may be tried is found out by trying.
        .filter(|request| request.verb != "dry-run")
        .map(|request| format!("{} {}", request.verb, request.resource))
        .collect();
    assert_eq!(
        refused.into_iter().collect::<Vec<_>>(),
        ["watch configmaps", "watch jobs"]
    );
}

/// Stopped at one replica, and started again by concurrent callers: the lists show when the old Job
/// is gone.
#[track_caller]
fn check_restart(environment: &TestEnvironment) {
    let before = uid(environment, "page-ann");
    environment.replica(1).delete("/app/page/ann").expect(200);
    environment.replica(1).get("/app/page/ann").expect(200);
    assert_ne!(uid(environment, "page-ann"), before);
    see_names(environment.replica(0), "page", &["ann"]);
}

/// A failed start is reported, and after its delay it is replaced.
#[track_caller]
fn check_failure(environment: &TestEnvironment) {
    let failed = environment.get("/app/fails/ann").expect(202);
    assert_eq!(failed["status"], "app_error");
    let before = uid(environment, "fails-ann");
    eventually("another is made after the delay", || {
        environment.advance(Duration::from_secs(10));
        environment.get("/app/fails/ann").expect(202);
        (uid(environment, "fails-ann") != before).then_some(())
    });
    environment.delete("/app/fails/ann").expect(200);
    see_names(environment.replica(1), "fails", &[]);
}

/// A list that begins after the edit shows it, and what a list shows is in use when the next
/// one has ended. So an edit is seen within the time of two lists at most.
#[test]
fn an_edited_template_is_seen_by_the_next_list() {
    let environment = restricted();
    for (app_type, types) in [
        ("new", json!(["fails", "hello", "new", "page"])),
        ("newer", json!(["fails", "hello", "newer", "page"])),
    ] {
        apply_templates(&environment.kube, "more", &[(app_type, BARE)], json!({}));
        // The first to end may have begun before the edit, the second shows it, the third
        // began after that was in use.
        lists(&environment, 3);
        for replica in [0, 1] {
            assert_eq!(environment.replica(replica).get("/app").expect(200), types);
        }
    }
    environment.start_instance("/app/newer/ann");
    environment
        .get("/app/new/ann")
        .expect_error(404, "unknown_type");
}

/// How often Jobs and ConfigMaps were to be watched, with success or without.
fn watches(environment: &TestEnvironment) -> usize {
    environment.kube.count("watch", "jobs") + environment.kube.count("watch", "configmaps")
}

/// A minute later each of two replicas tries the watch of each of two resources, once.
#[track_caller]
fn a_minute_later(environment: &TestEnvironment) {
    let before = watches(environment);
    lists(environment, 8);
    assert_eq!(watches(environment), before, "not within the minute");
    environment.advance(WATCH_RETRY);
    eventually("it is tried again", || {
        (watches(environment) == before + 4).then_some(())
    });
}

#[test]
fn the_watch_is_retried_every_minute_and_used_once_it_is_granted() {
    let environment = restricted();
    a_minute_later(&environment);
    lists(&environment, 8);
    a_minute_later(&environment);
    lists(&environment, 8);
    environment.kube.set_role(NAMESPACE, Some(ROLE));
    // Listed until the minute is over, and then no more.
    a_minute_later(&environment);
    // With the watch open there is no list, and what happens is seen all the same.
    environment.start_instance("/app/page/ann");
    see_names(environment.replica(1), "page", &["ann"]);
    environment.kube.clear_requests();
    for round in 0..5 {
        let (name, label) = (format!("n{round}"), format!("v{round}"));
        let path = format!("/app/page/{name}");
        environment.start_instance(&path);
        patched(environment.replica(1), &path, &json!({"k": label}));
        see_label(environment.replica(0), &path, "k", &label);
        environment.replica(1).delete(&path).expect(200);
        see_names(environment.replica(0), "page", &["ann"]);
    }
    // Events are listed when their own retry is due, which may be now.
    let requests = environment.kube.requests();
    let mut of_all = requests.iter().filter(|request| {
        // A list of one name is the read of a replica that has not seen its Job yet.
        request.verb == "list" && request.name.is_empty() && !is_optional(&request.resource)
    });
    assert_eq!(of_all.next(), None);
}

/// The program itself under that Role, with its log in a file. It is killed when it is dropped.
struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    fn start(environment: &TestEnvironment, folder: &TemporaryFolder) -> Self {
        let log = folder.path("log");
        let file = File::create(&log).expect("a temporary file can be made");
        let child = Command::new(env!("CARGO_BIN_EXE_config-controller"))
            .env_clear()
            .env("KUBECONFIG", environment.kubeconfig())
            .envs([
                ("SERVICE_PORT", "0"),
                ("LISTEN", "127.0.0.1"),
                ("POLL", "20ms"),
            ])
            .stdin(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the program can be run");
        Self { child, log }
    }

    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.log).expect("a log is text");
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The only test here that waits for real time: 5 s, until the refusal is believed.
#[test]
fn the_refusal_is_logged_once() {
    let builder = TestEnvironment::builder()
        .role(ROLE_OF_THE_ORIGINAL)
        .unstarted();
    let environment = builder.start();
    let folder = TemporaryFolder::new();
    let program = Running::start(&environment, &folder);
    let refusals = || {
        let mut lines = program.lines();
        lines.retain(|line| line.contains("until that right is granted"));
        lines.retain(|line| !OPTIONAL.iter().any(|it| line.contains(it)));
        lines
    };
    eventually("both refusals are logged", || {
        (refusals().len() >= 2).then_some(())
    });
    let before = environment.kube.count("list", "jobs");
    eventually("Jobs are listed on and on", || {
        (environment.kube.count("list", "jobs") > before + 100).then_some(())
    });
    let logged = refusals();
    assert_eq!(logged.len(), 2, "{logged:#?}");
    for resource in ["jobs", "configmaps"] {
        let message = format!("cannot watch resource \"{resource}\"");
        assert!(
            logged.iter().any(|line| line.contains(&message)),
            "{logged:#?}"
        );
    }
    // Events are another right, and no part of that Role.
    let loud = |line: &String| {
        let is_optional = OPTIONAL.iter().any(|it| line.contains(it));
        (line.contains("WARN") || line.contains("ERROR")) && !is_optional
    };
    let all = program.lines();
    assert_eq!(all.iter().filter(|line| loud(line)).count(), 2, "{all:#?}");
}
