//! Logs of instances: what is read, when a log ends, what is answered where there is none, and who may.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use config_controller::app::logs::READ_BYTES_MAX;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::{Exit, PodScript};
use crate::fake_kube::dynamics::pods::PodMove;
use crate::harness::{
    Builder, NAMESPACE, ROLE, TEMPLATE, TEST_TIMEOUT, TemporaryFolder, TestEnvironment, eventually,
};

/// The right to read logs, as the component grants it.
pub(crate) const READ_LOGS: &str = include_str!("../../manifests/read-logs/role.yaml");

const LOGS: &str = "/app/hello/ann/logs";

const TWO: &str = "\
spec:
  restartPolicy: Never
  initContainers: [{name: prepare, image: example/prepare:1}]
  containers:
  - {name: app, image: example/app:1}
  - {name: side, image: example/side:1}
";

/// A log as it comes. (To HTTP/1.0 it comes without chunks, until the connection ends.)
pub(crate) struct Log {
    pub(crate) stream: TcpStream,
    text: String,
}

impl Log {
    pub(crate) fn begin(address: SocketAddr, path: &str, header: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("the service listens");
        let timeout = stream.set_read_timeout(Some(TEST_TIMEOUT));
        timeout.expect("a socket has a timeout");
        let request = format!("GET {path} HTTP/1.0\r\nHost: x\r\n{header}\r\n");
        stream.write_all(request.as_bytes()).expect("it is sent");
        let text = String::new();
        Self { stream, text }
    }

    /// Reads until there is this, and returns all so far.
    #[track_caller]
    pub(crate) fn until(&mut self, words: &str) -> &str {
        while !self.text.contains(words) {
            let mut buffer = [0; 16 * 1024];
            let count = self.stream.read(&mut buffer).expect("something comes");
            assert!(count > 0, "ended without {words:?}: {:?}", self.text);
            self.text += &String::from_utf8_lossy(&buffer[..count]);
        }
        &self.text
    }

    /// Reads to the end; the head and the body.
    #[track_caller]
    pub(crate) fn finish(mut self) -> (String, String) {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).expect("it ends");
        self.text += &String::from_utf8_lossy(&rest);
        let (head, body) = self.text.split_once("\r\n\r\n").expect("it has a head");
        (head.to_owned(), body.to_owned())
    }

    /// The body of a 200.
    #[track_caller]
    pub(crate) fn body(self) -> String {
        let (head, body) = self.finish();
        assert!(head.starts_with("HTTP/1.1 200"), "{head}\n{body}");
        body
    }
}

fn builder() -> Builder {
    TestEnvironment::builder().role(&format!("{ROLE}---\n{READ_LOGS}"))
}

fn by_hand() -> Builder {
    builder().pod_script(PodScript::by_hand())
}

/// Begins a start, whose pod is moved by hand from there.
fn begin_start(environment: &TestEnvironment) -> String {
    environment.get_at_once("/app/hello/ann").expect(202);
    environment.wait_pod("hello-ann")
}

fn log(environment: &TestEnvironment, path: &str) -> Log {
    Log::begin(environment.address(0), path, "")
}

/// Waits until the cache has what makes it this error, and returns its sentence.
#[track_caller]
fn refused(environment: &TestEnvironment, path: &str, status: u16, code: &str) -> String {
    eventually(code, || {
        let response = environment.get(path);
        let is_it = response.status == status && response.text.contains(code);
        is_it.then(|| response.expect_error(status, code))
    })
}

fn write(environment: &TestEnvironment, container: &str, text: &str) {
    let pod = environment.wait_pod("hello-ann");
    (environment.kube).write_log(NAMESPACE, &pod, container, text);
}

fn exit(code: i64, message: &str) -> PodMove {
    PodMove::Exit(Exit {
        message: message.to_owned(),
        ..Exit::at_once(code)
    })
}

#[test]
fn a_get_is_the_last_lines_and_starts_nothing() {
    let environment = builder().start();
    let text = environment.get(LOGS).expect_error(404, "not_found");
    assert_eq!(text, "there is no instance hello/ann");
    assert!(environment.jobs().is_empty());
    environment.start_instance("/app/hello/ann");
    write(&environment, "app", "one\ntwo\nthree\n");
    assert_eq!(log(&environment, LOGS).body(), "one\ntwo\nthree\n");
    let (head, body) = log(&environment, &format!("{LOGS}?tail=2&container=app")).finish();
    assert_eq!(body, "two\nthree\n");
    for field in [
        "Content-Type: text/plain; charset=utf-8",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "X-Accel-Buffering: no",
    ] {
        let field = field.to_ascii_lowercase();
        assert!(head.to_ascii_lowercase().contains(&field), "{head}");
    }
    assert_eq!(log(&environment, &format!("{LOGS}?tail=0")).body(), "");
    environment.advance(Duration::from_secs(100));
    write(&environment, "app", "four\n");
    assert_eq!(
        log(&environment, &format!("{LOGS}?since=1m")).body(),
        "four\n"
    );
    let head = environment.client().begin("HEAD", LOGS, &[], "").finish();
    assert_eq!((head.status, head.text.as_str()), (200, ""));
}

#[test]
fn a_follow_brings_what_comes_and_ends_with_the_container() {
    let environment = by_hand().start();
    begin_start(&environment);
    environment.make_ready("hello-ann");
    environment.wait_found("/app/hello/ann");
    write(&environment, "app", "");
    let mut follow = log(&environment, &format!("{LOGS}?follow=true"));
    // The container is silent, and the head comes nevertheless.
    follow.until("\r\n\r\n");
    for line in ["one\n", "two\n"] {
        write(&environment, "app", line);
        follow.until(line);
    }
    environment.move_pod("hello-ann", &exit(0, ""));
    assert_eq!(follow.body(), "one\ntwo\n");
    assert_eq!(
        log(&environment, &format!("{LOGS}?follow")).body(),
        "one\ntwo\n"
    );
}

#[test]
fn a_follow_ends_with_its_pod_and_when_the_service_drains() {
    let mut environment = builder().start();
    environment.start_instance("/app/hello/ann");
    write(&environment, "app", "one\n");
    let mut follow = log(&environment, &format!("{LOGS}?follow=true"));
    follow.until("one\n");
    environment.delete("/app/hello/ann").expect(200);
    assert_eq!(follow.body(), "one\n");
    environment.wait_no_jobs();
    eventually("it is started anew", || {
        (environment.get("/app/hello/ann").status == 200).then_some(())
    });
    let mut follow = log(&environment, &format!("{LOGS}?follow=true"));
    follow.until("app runs\n");
    let service = environment.take_service();
    let drained = service.drain(Duration::from_secs(1), Duration::from_secs(30));
    assert_eq!(drained, Ok(()));
    assert_eq!(follow.body(), "app runs\n");
}

/// A log in HTTP/1.1, up to the end of its connection; its last chunk has no bytes.
fn chunks(environment: &TestEnvironment, begun: impl FnOnce()) -> String {
    let address = environment.address(0);
    let mut stream = TcpStream::connect(address).expect("the service listens");
    let timeout = stream.set_read_timeout(Some(TEST_TIMEOUT));
    timeout.expect("a socket has a timeout");
    let request = format!("GET {LOGS}?follow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is sent");
    let mut all = Vec::new();
    while !all.ends_with(b"one\n\r\n") {
        let mut buffer = [0; 1024];
        let count = stream.read(&mut buffer).expect("something comes");
        assert!(count > 0, "ended early: {}", String::from_utf8_lossy(&all));
        all.extend_from_slice(&buffer[..count]);
    }
    begun();
    stream.read_to_end(&mut all).expect("it ends");
    String::from_utf8(all).expect("a log of ours is text")
}

/// Who follows a log can tell whether it is whole: else there is no last chunk.
#[test]
fn a_follow_that_is_cut_has_no_last_chunk() {
    let environment = builder().start();
    environment.start_instance("/app/hello/ann");
    write(&environment, "app", "one\n");
    let last = "0\r\n\r\n";
    let cut = chunks(&environment, || environment.kube.set_kubelets(false));
    assert!(
        cut.contains("[config-controller ends this log here: "),
        "{cut}"
    );
    assert!(cut.ends_with("]\n\r\n"), "{cut}");
    environment.kube.set_kubelets(true);
    let lost = chunks(&environment, || environment.kube.cut_connections());
    let note =
        "[config-controller ends this log here: the connection to Kubernetes was lost]\n\r\n";
    assert!(lost.ends_with(note), "{lost}");
    let whole = chunks(&environment, || {
        environment.move_pod("hello-ann", &exit(0, ""));
    });
    assert!(whole.ends_with(&format!("one\n\r\n{last}")), "{whole}");
}

/// As if it was cut: its container goes on.
#[test]
fn a_follow_has_no_last_chunk_when_the_service_drains() {
    let mut environment = builder().start();
    environment.start_instance("/app/hello/ann");
    write(&environment, "app", "one\n");
    let service = environment.take_service();
    let drained = chunks(&environment, || {
        let drained = service.drain(Duration::from_secs(1), Duration::from_secs(30));
        assert_eq!(drained, Ok(()));
    });
    assert!(drained.ends_with("one\n\r\n"), "{drained}");
}

#[test]
fn a_caller_that_hangs_up_frees_its_place_though_kubernetes_sends_nothing() {
    let environment = builder().setting("LOG_STREAMS", "1").start();
    environment.start_instance("/app/hello/ann");
    write(&environment, "app", "");
    let follow = format!("{LOGS}?follow=true");
    for _ in 0..3 {
        let mut first = eventually("there is a place", || {
            let mut log = log(&environment, &follow);
            log.until("\r\n").starts_with("HTTP/1.1 200").then_some(log)
        });
        first.until("\r\n\r\n");
        let text = environment.get(LOGS).expect_error(429, "too_many_requests");
        assert!(text.contains("LOG_STREAMS"), "{text}");
        first.stream.shutdown(Shutdown::Both).expect("it was open");
    }
}

#[test]
fn after_a_restart_the_previous_run_has_a_log_of_its_own() {
    let template = TEMPLATE.replace("Never", "OnFailure");
    let environment = by_hand().template("loop", &template).start();
    environment.get_at_once("/app/loop/ann").expect(202);
    let path = "/app/loop/ann/logs";
    let pod = environment.wait_pod("loop-ann");
    environment.move_pod("loop-ann", &PodMove::Run);
    let write = |text: &str| environment.kube.write_log(NAMESPACE, &pod, "app", text);
    write("first\n");
    let previous = format!("{path}?previous=true");
    let text = refused(&environment, &previous, 404, "no_previous_run");
    assert_eq!(text, "container 'app' of loop/ann has had no previous run");
    environment.move_pod("loop-ann", &exit(1, ""));
    // It waits for its next run: the last one is the present one, too.
    assert_eq!(log(&environment, path).body(), "first\n");
    assert_eq!(log(&environment, &previous).body(), "first\n");
    environment.move_pod("loop-ann", &PodMove::Run);
    write("second\n");
    assert_eq!(log(&environment, path).body(), "second\n");
    assert_eq!(log(&environment, &previous).body(), "first\n");
}

#[test]
fn each_container_has_a_log_and_without_a_name_it_is_that_of_the_app() {
    let annotated = format!(
        "metadata: {{annotations: {{kubectl.kubernetes.io/default-container: side}}}}\n{TWO}"
    );
    let environment = builder()
        .template("two", TWO)
        .template("named", &annotated)
        .start();
    for app_type in ["two", "named"] {
        environment.start_instance(&format!("/app/{app_type}/ann"));
    }
    for (path, expected) in [
        ("/app/two/ann/logs", "app runs\n"),
        ("/app/two/ann/logs?container=side", "side runs\n"),
        ("/app/two/ann/logs?container=prepare", "prepare runs\n"),
        ("/app/named/ann/logs", "side runs\n"),
    ] {
        assert_eq!(log(&environment, path).body(), expected, "{path}");
    }
    let unknown = environment.get("/app/two/ann/logs?container=main");
    let text = unknown.expect_error(422, "query_invalid");
    let all = "there is no container 'main'; containers: app, side; init containers: prepare";
    assert_eq!(text, all);
}

#[test]
fn a_container_that_has_not_started_is_answered_with_its_state() {
    let environment = by_hand().start();
    environment
        .kube
        .refuse_pods(Some("pods \"x\" is forbidden: exceeded quota: q"));
    environment.get_at_once("/app/hello/ann").expect(202);
    let text = refused(&environment, LOGS, 409, "not_started");
    assert!(text.contains("it is creating"), "{text}");
    environment.kube.refuse_pods(None);
    environment.advance(Duration::from_secs(20));
    environment.wait_pod("hello-ann");
    let text = eventually("the pod is seen", || {
        let text = refused(&environment, LOGS, 409, "not_started");
        text.contains("it is scheduling").then_some(text)
    });
    assert!(text.starts_with("hello/ann has no log yet: "), "{text}");
    environment.fail_pull("hello-ann");
    for path in [LOGS, "/app/hello/ann/logs?follow=true"] {
        eventually("it is pulling", || {
            let text = refused(&environment, path, 409, "not_started");
            let words = ["it is pulling (ErrImagePull: ", "connection refused"];
            words.iter().all(|it| text.contains(it)).then_some(())
        });
    }
    assert_eq!(environment.get(LOGS).header("retry-after"), "1");
}

#[test]
fn of_a_pod_that_is_gone_there_are_the_last_lines_marked_as_such() {
    let environment = by_hand().start();
    let pod = begin_start(&environment);
    environment.move_pod("hello-ann", &PodMove::Run);
    environment.move_pod("hello-ann", &exit(3, "no space\nleft on device"));
    environment.get("/app/hello/ann").expect(202);
    let body = log(&environment, LOGS).body();
    assert_eq!(body, "app runs\nno space\nleft on device\n");
    let deleted = environment
        .kube
        .delete(Resource::Pods, NAMESPACE, &pod, "Background");
    deleted.expect("it was there");
    let (head, body) = eventually("the pod is gone", || {
        let (head, body) = log(&environment, &format!("{LOGS}?tail=1")).finish();
        head.contains("termination-report").then_some((head, body))
    });
    assert!(
        head.to_ascii_lowercase()
            .contains("x-log-source: termination-report"),
        "{head}"
    );
    assert_eq!(body, "left on device\n");
    // Kubernetes deletes the Job, too.
    let deleted = environment
        .kube
        .delete(Resource::Jobs, NAMESPACE, "hello-ann", "Background");
    deleted.expect("it was there");
    environment.wait_empty("/app/hello");
    assert_eq!(log(&environment, LOGS).body(), "no space\nleft on device\n");
    assert!(environment.jobs().is_empty());
}

#[test]
fn too_much_is_cut_and_says_so() {
    let environment = builder().start();
    environment.start_instance("/app/hello/ann");
    let line = format!("{}\n", "x".repeat(1023));
    write(&environment, "app", &line.repeat(READ_BYTES_MAX / 1024 + 1));
    let body = log(&environment, &format!("{LOGS}?tail=100000")).body();
    let note = "\n[config-controller ends this log here: at most 10485760 bytes are sent; ask again with tail or since]\n";
    assert!(body.ends_with(note));
    assert_eq!(body.len(), READ_BYTES_MAX + note.len());
    let all = log(&environment, &format!("{LOGS}?tail=10240")).body();
    assert_eq!(all.len(), READ_BYTES_MAX);
}

#[test]
fn what_cannot_be_asked_for_is_named() {
    let environment = builder().start();
    for (query, words) in [
        (
            "tail=many",
            "tail is 'many'; expected a whole number from 0 to 100000",
        ),
        (
            "size=large",
            "unknown parameter 'size'; logs have tail, since",
        ),
    ] {
        let response = environment.get(&format!("{LOGS}?{query}"));
        let text = response.expect_error(422, "query_invalid");
        assert!(text.starts_with(words), "{text}");
    }
    assert_eq!(environment.delete(LOGS).header("allow"), "GET, HEAD");
}

#[test]
fn without_the_right_of_the_service_the_answer_names_it() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    for path in [LOGS, "/app/hello/ann/logs?follow=true"] {
        let text = environment
            .get(path)
            .expect_error(501, "logs_not_permitted");
        assert!(text.contains("the right to get pods/log"), "{text}");
    }
}

#[test]
fn a_token_needs_the_right_to_read_logs() {
    let folder = TemporaryFolder::new();
    let [plain, logs, bound] =
        ["plain", "logs", "bound"].map(|name| format!("{name}-0123456789abcdef"));
    let text = format!("{plain} plain\n{logs} logs * logs\n{bound} bound other logs\n");
    let file = folder.write("tokens", &text);
    let environment = builder()
        .template("other", TEMPLATE)
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .start();
    let get = |token: &str, path: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        Log::begin(environment.address(0), path, &header).finish()
    };
    for path in ["/app/hello/ann", "/app/other/ann"] {
        assert!(get(&plain, path).0.starts_with("HTTP/1.1 200"));
    }
    for (token, path, status, words) in [
        (&plain, LOGS, "403", "no right to read logs"),
        (&logs, LOGS, "200", "app runs"),
        (&bound, LOGS, "403", "may not use the app type 'hello'"),
        (&bound, "/app/other/ann/logs", "200", "app runs"),
    ] {
        let (head, body) = get(token, path);
        assert!(
            head.contains(status) && body.contains(words),
            "{head}\n{body}"
        );
    }
}

#[test]
fn a_service_account_needs_the_right_to_read_logs() {
    let environment = builder()
        .setting("AUTH", "kubernetes")
        .setting("AUTH_ALLOW", "apps/portal,apps/admin+logs")
        .start();
    environment.kube.set_may_review(true);
    for name in ["portal", "admin"] {
        let user = format!("system:serviceaccount:apps:{name}");
        (environment.kube).add_token(name, &user, "config-controller");
        let header = format!("Authorization: Bearer {name}\r\n");
        let get = |path: &str| Log::begin(environment.address(0), path, &header).finish();
        assert!(get("/app/hello/ann").0.starts_with("HTTP/1.1 200"));
        let (head, body) = get(LOGS);
        let expected = if name == "admin" { "200" } else { "403" };
        assert!(head.contains(expected), "{head}\n{body}");
    }
}
