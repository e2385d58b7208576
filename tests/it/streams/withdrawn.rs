//! What lasts ends soon after its caller's token was withdrawn: streams of events, of a start, and logs.

use std::time::{Duration, Instant};

use super::EventReader;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{
    Builder, NAMESPACE, ROLE, TEST_TIMEOUT, TemporaryFolder, TestEnvironment, eventually,
};
use crate::logs::{Log, READ_LOGS};

const PORTAL: &str = "portal-0123456789abcdef";
const ADMIN: &str = "admin-0123456789abcdef";

/// The longest time between two checks of a caller.
const CHECK: Duration = Duration::from_secs(10);

/// How long Kubernetes' word on a token counts.
const REVIEWED_FOR: Duration = Duration::from_secs(30);

fn builder() -> Builder {
    TestEnvironment::builder()
        .role(&format!("{ROLE}---\n{READ_LOGS}"))
        .pod_script(PodScript::by_hand())
        .setting("START_WAIT_MAX", "1h")
        .setting("START_BUDGET_SCHEDULING", "1h")
}

/// Gets `hello/ann` ready, with a log, and starts `hello/bob`, which does not get ready.
fn prepare(environment: &TestEnvironment, token: &str) {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", &*bearer), ("Prefer", "wait=0")];
    for name in ["ann", "bob"] {
        let path = format!("/app/hello/{name}");
        let response = environment.client().begin("GET", &path, &headers, "");
        response.finish().expect(202);
    }
    let pod = environment.wait_pod("hello-ann");
    environment.make_ready("hello-ann");
    environment.kube.write_log(NAMESPACE, &pod, "app", "one\n");
    let headers = [("Authorization", &*bearer)];
    let get = || (environment.client()).begin("GET", "/app/hello/ann", &headers, "");
    get().finish().expect(200);
}

/// All that lasts, as one caller has it.
struct Lasting {
    begun: Instant,
    all: EventReader,
    start: EventReader,
    log: Log,
}

impl Lasting {
    fn begin(environment: &TestEnvironment, token: &str) -> Self {
        let bearer = format!("Bearer {token}");
        let address = environment.address(0);
        let open = |path: &str, first: &str| {
            let stream = EventReader::open(address, path, &[("Authorization", &bearer)]);
            let mut stream = stream.expect("it is a stream");
            stream.until(first);
            stream
        };
        let header = format!("Authorization: {bearer}\r\n");
        let mut log = Log::begin(address, "/app/hello/ann/logs?follow=true", &header);
        log.until("one\n");
        Self {
            begun: Instant::now(),
            all: open("/instances", "relist"),
            start: open("/app/hello/bob", "created"),
            log,
        }
    }

    /// Reads each to its end, which is no end of the start or of the container.
    fn end(mut self, line: &str) {
        while self.all.next().is_some() {}
        while let Some(event) = self.start.next() {
            let is_end = matches!(&*event.name, "ready" | "failed" | "waiting");
            assert!(!is_end, "{event:?}");
        }
        let (_, body) = self.log.finish();
        assert!(body.ends_with(line), "{body}");
        assert!(self.begun.elapsed() < TEST_TIMEOUT, "the readers gave up");
    }

    /// Each still tells what is new.
    fn go_on(&mut self, environment: &TestEnvironment, line: &str) {
        let pod = environment.wait_pod("hello-ann");
        environment.kube.write_log(NAMESPACE, &pod, "app", line);
        self.log.until(line);
    }
}

/// `portal` may do all; its line in the file is replaced by this.
#[track_caller]
fn check_ends_after(line: &str, status: u16) {
    let folder = TemporaryFolder::new();
    let admin = format!("{ADMIN} admin * logs\n");
    let file = folder.write("tokens", &format!("{PORTAL} portal * logs\n{admin}"));
    let environment = builder()
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .start();
    prepare(&environment, ADMIN);
    let withdrawn = Lasting::begin(&environment, PORTAL);
    let mut others = Lasting::begin(&environment, ADMIN);
    folder.write("tokens", &format!("{admin}{line}"));
    let value = format!("Bearer {PORTAL}");
    let headers = [("Authorization", value.as_str())];
    let ask = || (environment.client()).begin("GET", "/app/hello/ann/logs", &headers, "");
    eventually("the file is read again", || {
        (ask().finish().status == status).then_some(())
    });
    environment.advance(CHECK);
    withdrawn.end("one\n");
    others.go_on(&environment, "two\n");
    environment.make_ready("hello-bob");
    others.start.until("ready");
    others.all.until("ready");
}

#[test]
fn what_lasts_ends_when_its_token_is_no_longer_in_the_file() {
    check_ends_after("", 401);
}

#[test]
fn what_lasts_ends_when_its_token_has_fewer_types_or_rights() {
    check_ends_after(&format!("{PORTAL} portal other logs\n"), 403);
    check_ends_after(&format!("{PORTAL} portal *\n"), 403);
}

fn reviewed() -> TestEnvironment {
    let environment = builder()
        .setting("AUTH", "kubernetes")
        .setting("AUTH_ALLOW", "apps/portal+logs")
        .start();
    environment.kube.set_may_review(true);
    let user = "system:serviceaccount:apps:portal";
    (environment.kube).add_token(PORTAL, user, "config-controller");
    environment
}

fn reviews(environment: &TestEnvironment) -> usize {
    environment.kube.count("create", "tokenreviews")
}

/// Lets it be found that the word on the token no longer counts, and waits until it is asked for.
fn review_anew(environment: &TestEnvironment) {
    let before = reviews(environment);
    environment.advance(REVIEWED_FOR);
    eventually("the token is reviewed again", || {
        (reviews(environment) > before).then_some(())
    });
}

#[test]
fn what_lasts_ends_when_kubernetes_no_longer_knows_its_token() {
    let environment = reviewed();
    prepare(&environment, PORTAL);
    let mut lasting = Lasting::begin(&environment, PORTAL);
    for line in ["two\n", "three\n"] {
        review_anew(&environment);
        environment.advance(CHECK);
        lasting.go_on(&environment, line);
    }
    let user = "system:serviceaccount:apps:portal";
    environment.kube.remove_tokens(user);
    review_anew(&environment);
    environment.advance(CHECK);
    lasting.end("three\n");
}

#[test]
fn while_kubernetes_says_nothing_of_a_token_what_lasts_goes_on_for_minutes() {
    let environment = reviewed();
    prepare(&environment, PORTAL);
    let mut lasting = Lasting::begin(&environment, PORTAL);
    let fault = FaultRule::new("create", "tokenreviews", Fault::Status(500));
    environment.kube.fault(fault);
    review_anew(&environment);
    environment.advance(CHECK);
    lasting.go_on(&environment, "two\n");
    environment.advance(Duration::from_secs(300));
    lasting.end("two\n");
}
