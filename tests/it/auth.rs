//! Authentication: tokens of a file, tokens of Kubernetes, and what is hidden without one.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use config_controller::http::endpoints::ENDPOINTS;
use serde_json::json;

use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::faults::{Fault, FaultRule};
use crate::harness::{
    Client, PREFIX, Pending, Response, TEMPLATE, TemporaryFolder, TestEnvironment, eventually,
};

const PORTAL: &str = "portal-0123456789abcdef";
const DAEMON: &str = "daemon-0123456789abcdef";
const WRONG: &str = "wrong-0123456789abcdef";

const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW",
];

/// A environment with `AUTH=token`, and the folder of its file.
struct Guarded {
    environment: TestEnvironment,
    folder: TemporaryFolder,
}

impl Guarded {
    /// `portal` may use all types, `daemon` only `hello`.
    fn new() -> Self {
        Self::with(|builder| builder)
    }

    fn with(change: impl FnOnce(crate::harness::Builder) -> crate::harness::Builder) -> Self {
        let folder = TemporaryFolder::new();
        let text = format!("# who may call\n{PORTAL} portal\n{DAEMON} daemon hello\n");
        let file = folder.write("tokens", &text);
        let builder = TestEnvironment::builder()
            .template("other", TEMPLATE)
            .setting("AUTH", "token")
            .setting("AUTH_TOKENS_FILE", &file.display().to_string());
        let environment = change(builder).start();
        Self {
            environment,
            folder,
        }
    }

    fn client(&self) -> Client {
        self.environment.client()
    }
}

fn begin(client: Client, token: &str, method: &str, path: &str, body: &str) -> Pending {
    let value = format!("Bearer {token}");
    let headers = [
        ("Authorization", value.as_str()),
        ("Content-Type", "application/json"),
    ];
    client.begin(method, path, &headers, body)
}

#[track_caller]
fn ask(client: Client, token: &str, method: &str, path: &str) -> Response {
    begin(client, token, method, path, "").finish()
}

#[track_caller]
fn get(client: Client, token: &str, path: &str) -> Response {
    ask(client, token, "GET", path)
}

/// Each path with each method, and some that are none.
fn everything() -> impl Iterator<Item = (&'static str, String)> {
    let mut paths: Vec<_> = ENDPOINTS.iter().map(|one| one.path).collect();
    paths.dedup();
    let odd = [
        "//",
        "/metrics",
        "/nope",
        "/app/",
        "/livez/",
        "//livez",
        "/app/hello/..",
    ];
    paths.extend(odd);
    METHODS.iter().flat_map(move |method| {
        let filled = |path: &&str| path.replace("{type}", "hello").replace("{name}", "ann");
        let paths: Vec<_> = paths.iter().map(filled).collect();
        paths.into_iter().map(move |path| (*method, path))
    })
}

/// Whether this needs no token: the kubelet requests it, or it is the same for all and has no secrets.
fn is_open(method: &str, path: &str) -> bool {
    let is_page = matches!(path, "/" | "/docs" | "/openapi.json");
    matches!(method, "GET" | "HEAD") && (is_page || matches!(path, "/livez" | "/readyz"))
}

#[track_caller]
fn check_denied(method: &str, path: &str, response: &Response) {
    assert_eq!(response.status, 401, "{method} {path}: {}", response.text);
    assert_eq!(
        response.header("www-authenticate"),
        "Bearer",
        "{method} {path}"
    );
    match method {
        "HEAD" => assert_eq!(response.text, ""),
        "PATCH" | "DELETE" => drop(response.expect_detail(401, "error", "unauthorized")),
        "GET" if path.starts_with("/release/") => {
            drop(response.expect_detail(401, "error", "unauthorized"));
        }
        "PUT" if path.ends_with("/heartbeat") => {
            drop(response.expect_detail(401, "error", "unauthorized"));
        }
        _ => drop(response.expect_error(401, "unauthorized")),
    }
}

#[test]
fn without_a_token_only_probes_and_pages_without_secrets_are_served() {
    let guarded = Guarded::with(|builder| builder.setting("AUTH_FAILURES_MAX", "1000"));
    let client = guarded.client();
    let mut walked = 0;
    for (method, path) in everything() {
        let plain = client.begin(method, &path, &[], "").finish();
        if is_open(method, &path) {
            assert_eq!(plain.status, 200, "{method} {path}");
            continue;
        }
        check_denied(method, &path, &plain);
        check_denied(method, &path, &ask(client, WRONG, method, &path));
        for odd in [
            "Basic cG9ydGFsOng=",
            "Bearer",
            &format!("Token {PORTAL}"),
            PORTAL,
        ] {
            let response = client.begin(method, &path, &[("Authorization", odd)], "");
            check_denied(method, &path, &response.finish());
        }
        let known = ask(client, PORTAL, method, &path);
        assert_ne!(known.status, 401, "{method} {path}: {}", known.text);
        walked += 1;
    }
    assert!(walked > METHODS.len() * 12);
}

#[test]
fn a_denied_request_changes_nothing() {
    let guarded = Guarded::new();
    let client = guarded.client();
    get(client, PORTAL, "/app/hello/ann").expect(200);
    guarded.environment.count_from_here();
    for token in [&PORTAL[..PORTAL.len() - 1], &format!("{PORTAL}0"), ""] {
        assert_eq!(get(client, token, "/app/hello/bob").status, 401);
        assert_eq!(ask(client, token, "DELETE", "/app/hello/ann").status, 401);
        let patch = begin(client, token, "PATCH", "/app/hello/ann", r#"{"a":"b"}"#);
        assert_eq!(patch.finish().status, 401);
    }
    assert_eq!(guarded.environment.jobs(), ["hello-ann"]);
    for verb in ["create", "patch", "delete"] {
        assert_eq!(guarded.environment.kube.count(verb, "*"), 0, "{verb}");
    }
}

#[test]
fn a_token_lists_and_uses_only_its_types() {
    let guarded = Guarded::new();
    let client = guarded.client();
    get(client, PORTAL, "/app").expect_text(200, r#"["hello","other"]"#);
    get(client, DAEMON, "/app").expect_text(200, r#"["hello"]"#);
    get(client, DAEMON, "/app/hello/ann").expect(200);
    get(client, PORTAL, "/app/other/bob").expect(200);
    get(client, DAEMON, "/app/hello").expect(200);
    ask(client, DAEMON, "PATCH", "/app/hello/ann").expect(422);
    for path in ["/app/other", "/app/other/bob", "/app/nope/bob"] {
        let message = get(client, DAEMON, path).expect_error(403, "forbidden");
        assert!(message.starts_with("this token may not use the app type '"));
    }
    for method in ["PATCH", "DELETE"] {
        let response = ask(client, DAEMON, method, "/app/other/bob");
        let _ = response.expect_detail(403, "error", "forbidden");
    }
    assert_eq!(guarded.environment.jobs().len(), 2);
    ask(client, DAEMON, "DELETE", "/app/hello/ann").expect(200);
}

#[test]
fn the_job_names_the_caller_that_started_it() {
    let guarded = Guarded::new();
    get(guarded.client(), DAEMON, "/app/hello/ann").expect(200);
    let job = guarded.environment.wait_job("hello-ann");
    let annotation = &job["metadata"]["annotations"][format!("{PREFIX}started-by")];
    assert_eq!(*annotation, json!("daemon"));
}

#[test]
fn an_error_names_no_type_that_the_caller_may_not_use() {
    let guarded = Guarded::new();
    let folder = &guarded.folder;
    // `portal` may use a type that no template offers any more, `daemon` two.
    folder.write(
        "tokens",
        &format!("{PORTAL} portal gone\n{DAEMON} daemon gone,hello\n"),
    );
    eventually("the file is read again", || {
        let response = get(guarded.client(), PORTAL, "/app");
        (response.expect(200) == json!([])).then_some(())
    });
    for (token, expected) in [
        (
            PORTAL,
            "unknown app type 'gone'; no other type is available",
        ),
        (DAEMON, "unknown app type 'gone'; known types: hello"),
    ] {
        for path in ["/app/gone/ann", "/create/gone?sessionID=ann"] {
            let message = get(guarded.client(), token, path).expect_error(404, "unknown_type");
            assert_eq!(message, expected, "{path}");
        }
    }
}

/// `hello/b-x` and `hello-b/x` have the same Job name.
#[test]
fn a_bound_token_cannot_take_the_names_of_another_type() {
    let guarded = Guarded::with(|builder| builder.template("hello-b", TEMPLATE));
    let text = format!("{PORTAL} portal\n{DAEMON} daemon hello,gone\n{WRONG} owner hello-b\n");
    guarded.folder.write("tokens", &text);
    let client = guarded.client();
    eventually("the file is read again", || {
        let owner = begin(client, WRONG, "GET", "/app", "").finish();
        (owner.status == 200).then_some(())
    });
    for path in [
        "/app/hello/b-x",
        "/create/hello?sessionID=b-x",
        "/app/hello/B",
    ] {
        let message = get(client, DAEMON, path).expect_error(409, "name_taken");
        assert!(message.contains("another app type"), "{message}");
        assert!(!message.contains("hello-b "), "it names no type: {message}");
    }
    let finds = [("Prefer", "create=false")];
    let bearer = format!("Bearer {DAEMON}");
    let headers = [finds[0], ("Authorization", bearer.as_str())];
    let found = client.begin("GET", "/app/hello/b-x", &headers, "");
    let _ = found.finish().expect_error(404, "not_found");
    assert_eq!(guarded.environment.jobs(), [""; 0]);
    // The names of others are as before, and so are those of the other type for its owner.
    get(client, DAEMON, "/app/hello/bob").expect(200);
    get(client, WRONG, "/app/hello-b/x").expect(200);
    // An instance that somebody else has started is one of its type like any other.
    get(client, PORTAL, "/app/hello/b-y").expect(200);
    get(client, DAEMON, "/app/hello/b-y").expect(200);
    begin(client, DAEMON, "PATCH", "/app/hello/b-y", r#"{"a":"b"}"#)
        .finish()
        .expect(200);
    ask(client, DAEMON, "DELETE", "/app/hello/b-y").expect(200);
}

#[test]
fn metrics_need_a_token_without_types() {
    let guarded = Guarded::new();
    for method in ["GET", "HEAD"] {
        let response = ask(guarded.client(), DAEMON, method, "/metrics");
        assert_eq!(response.status, 403, "{method}: {}", response.text);
    }
    let message = get(guarded.client(), DAEMON, "/metrics").expect_error(403, "forbidden");
    assert!(message.contains("without types"), "{message}");
    assert_eq!(get(guarded.client(), PORTAL, "/metrics").status, 200);
}

#[test]
fn tokens_rotate_without_a_restart() {
    let guarded = Guarded::new();
    let client = guarded.client();
    let (folder, new) = (&guarded.folder, "fresh-0123456789abcdef");
    assert_eq!(get(client, new, "/info").status, 401);
    // A mounted Secret changes by a rename, too.
    let next = folder.write("next", &format!("{new} portal\n"));
    std::fs::rename(next, folder.path("tokens")).expect("a file can be renamed");
    eventually("the new token is good", || {
        // Asking with it meanwhile would count as guessing.
        (get(client, PORTAL, "/info").status == 401).then_some(())
    });
    get(client, new, "/info").expect(200);
}

#[test]
fn after_too_many_wrong_tokens_further_wrong_ones_are_429_for_the_minute() {
    let guarded = Guarded::with(|builder| builder.setting("AUTH_FAILURES_MAX", "3"));
    let client = guarded.client();
    assert_eq!(get(client, WRONG, "/app").status, 401);
    get(client, PORTAL, "/app").expect(200);
    assert_eq!(get(client, WRONG, "/app").status, 401);
    assert_eq!(get(client, WRONG, "/app").status, 401);
    let slowed = get(client, WRONG, "/app");
    let _ = slowed.expect_error(429, "too_many_requests");
    let secs: u64 = slowed.header("retry-after").parse().expect("seconds");
    assert!((1..=61).contains(&secs), "{secs}");
    // A good token passes, whether it was seen from there or not.
    get(client, DAEMON, "/app").expect(200);
    get(client, PORTAL, "/app").expect(200);
    // Nothing is guessed here.
    assert_eq!(client.get("/app").status, 401);
    assert_eq!(client.get("/livez").status, 200);
    guarded.environment.advance(Duration::from_secs(60));
    assert_eq!(get(client, WRONG, "/app").status, 401);
}

const PORTAL_USER: &str = "system:serviceaccount:apps:portal";
const STRANGER_USER: &str = "system:serviceaccount:apps:stranger";
const STRANGER: &str = "stranger-0123456789abcdef";

/// `AUTH=kubernetes`; `apps/portal` may call, `apps/stranger` is known to Kubernetes alone.
fn reviewed(pod_script: PodScript) -> TestEnvironment {
    let environment = TestEnvironment::builder()
        .pod_script(pod_script)
        .setting("AUTH", "kubernetes")
        .setting("AUTH_ALLOW", "apps/portal,apps/daemon")
        .start();
    let kube = &environment.kube;
    kube.set_may_review(true);
    kube.add_token(PORTAL, PORTAL_USER, "config-controller");
    kube.add_token(STRANGER, STRANGER_USER, "config-controller");
    kube.add_token(
        DAEMON,
        "system:serviceaccount:apps:daemon",
        "another-service",
    );
    environment
}

#[test]
fn after_too_many_wrong_tokens_good_ones_are_still_found() {
    let environment = reviewed(PodScript::default());
    let client = environment.client();
    get(client, PORTAL, "/app").expect(200);
    for number in 0..20 {
        let wrong = get(client, &format!("wrong-{number}"), "/app");
        assert_eq!(wrong.status, 401, "{number}");
    }
    let slowed = get(client, "wrong-20", "/app");
    let _ = slowed.expect_error(429, "too_many_requests");
    // Its status is no longer cached.
    environment.advance(Duration::from_secs(31));
    get(client, PORTAL, "/app").expect(200);
    // A good token that was never seen passes, too.
    let new = "fresh-0123456789abcdef";
    environment
        .kube
        .add_token(new, PORTAL_USER, "config-controller");
    get(client, new, "/app").expect(200);
    assert_eq!(get(client, "wrong-21", "/app").status, 429);
}

fn reviews(environment: &TestEnvironment) -> usize {
    environment.kube.count("create", "tokenreviews")
}

#[test]
fn service_accounts_on_the_list_may_call() {
    let environment = reviewed(PodScript::default());
    let client = environment.client();
    assert_eq!(client.get("/app").status, 401);
    assert_eq!(reviews(&environment), 0);
    get(client, PORTAL, "/app").expect_text(200, r#"["hello"]"#);
    let message = get(client, STRANGER, "/app").expect_error(403, "forbidden");
    assert!(message.contains(STRANGER_USER), "{message}");
    // A token for another audience is rejected for every user.
    check_denied("GET", "/app", &get(client, DAEMON, "/app"));
    check_denied(
        "DELETE",
        "/app/hello/a",
        &ask(client, WRONG, "DELETE", "/app/hello/a"),
    );
    get(client, PORTAL, "/app/hello/ann").expect(200);
    let job = environment.wait_job("hello-ann");
    let annotation = &job["metadata"]["annotations"][format!("{PREFIX}started-by")];
    assert_eq!(*annotation, json!("apps/portal"));
    // One review a token: the rest was remembered.
    assert_eq!(reviews(&environment), 4);
}

#[test]
fn a_revoked_token_is_accepted_for_30_s_at_most() {
    let environment = reviewed(PodScript::default());
    let client = environment.client();
    get(client, PORTAL, "/info").expect(200);
    environment.kube.remove_tokens(PORTAL_USER);
    get(client, PORTAL, "/info").expect(200);
    environment.advance(Duration::from_secs(30));
    assert_eq!(get(client, PORTAL, "/info").status, 401);
    environment
        .kube
        .add_token(PORTAL, PORTAL_USER, "config-controller");
    assert_eq!(get(client, PORTAL, "/info").status, 401);
    environment.advance(Duration::from_secs(5));
    get(client, PORTAL, "/info").expect(200);
    assert_eq!(reviews(&environment), 3);
}

#[test]
fn a_request_waits_for_its_review_and_then_for_its_instance() {
    let environment = reviewed(PodScript::by_hand());
    let first = begin(environment.client(), PORTAL, "GET", "/app/hello/ann", "");
    let second = begin(environment.client(), PORTAL, "GET", "/app/hello/ann", "");
    environment.make_ready("hello-ann");
    first.finish().expect(200);
    second.finish().expect(200);
    assert_eq!(environment.jobs(), ["hello-ann"]);
    let patch = begin(
        environment.client(),
        PORTAL,
        "PATCH",
        "/app/hello/ann",
        r#"{"a":"b"}"#,
    );
    patch.finish().expect(200);
}

#[test]
fn a_slow_review_delays_no_other_caller() {
    let environment = reviewed(PodScript::default());
    let client = environment.client();
    get(client, PORTAL, "/app").expect(200);
    let slow = Fault::Delay(Duration::from_secs(3600));
    environment
        .kube
        .fault(FaultRule::new("create", "tokenreviews", slow));
    let waiting: Vec<Pending> = (0..10)
        .map(|number| begin(client, &format!("{WRONG}{number}"), "GET", "/app", ""))
        .collect();
    get(client, PORTAL, "/app").expect(200);
    get(client, PORTAL, "/app/hello/ann").expect(200);
    assert!(waiting.iter().all(|pending| !pending.is_answered()));
    environment.kube.cut_connections();
    environment.kube.clear_faults();
}

#[test]
fn without_kubernetes_only_cached_tokens_are_accepted() {
    let environment = reviewed(PodScript::default());
    let client = environment.client();
    get(client, PORTAL, "/app").expect(200);
    environment.kube.stop_listening();
    get(client, PORTAL, "/app").expect(200);
    let response = get(client, STRANGER, "/app");
    let _ = response.expect_error(503, "kubernetes_unavailable");
    assert_eq!(response.header("retry-after"), "1");
    let response = ask(client, STRANGER, "DELETE", "/app/hello/ann");
    let _ = response.expect_detail(503, "error", "kubernetes_unavailable");
    environment.kube.start_listening();
    eventually("tokens are reviewed again", || {
        (get(client, STRANGER, "/app").status == 403).then_some(())
    });
    // The outage of the API server does not count as a failed guess.
    for number in 0..15 {
        assert_eq!(get(client, &format!("{WRONG}{number}"), "/app").status, 401);
    }
}

#[test]
fn without_the_permission_to_review_requests_get_500_not_permitted() {
    let environment = reviewed(PodScript::default());
    environment.kube.set_may_review(false);
    let response = get(environment.client(), PORTAL, "/app");
    let _ = response.expect_error(500, "not_permitted");
    environment.kube.set_may_review(true);
    get(environment.client(), PORTAL, "/app").expect(200);
}

/// Sees all that is logged in this process, at every level and by every library, before
/// anything is hidden.
struct Watcher;

static LEAKED: AtomicBool = AtomicBool::new(false);
static SEEN: AtomicUsize = AtomicUsize::new(0);

/// In every token of the test below, and nowhere else.
const MARK: &str = "s3cr3tmark0123456789";

impl log::Log for Watcher {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = record.args().to_string();
        if line.contains(MARK) {
            LEAKED.store(true, Ordering::SeqCst);
        }
        if line.contains("marked-caller") {
            SEEN.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

#[test]
fn tokens_are_never_logged() {
    log::set_logger(&Watcher).expect("no other test sets a logger");
    log::set_max_level(log::LevelFilter::Trace);
    let folder = TemporaryFolder::new();
    let good = format!("good.{MARK}");
    let file = folder.write("tokens", &format!("{good} marked-caller\n"));
    let environment = TestEnvironment::builder()
        .setting("AUTH", "token")
        .setting("AUTH_TOKENS_FILE", &file.display().to_string())
        .setting("AUTH_FAILURES_MAX", "2")
        .start();
    let client = environment.client();
    get(client, &good, "/app/hello/ann").expect(200);
    for number in 0..4 {
        let _ = get(client, &format!("wrong{number}.{MARK}"), "/app/hello/ann");
    }
    folder.write(
        "tokens",
        &format!("{good} a b {MARK}\n{MARK}\u{e4}\n{MARK} {MARK}\u{e4}"),
    );
    let kubernetes = reviewed(PodScript::default());
    let client = kubernetes.client();
    let portal = format!("portal.{MARK}");
    kubernetes
        .kube
        .add_token(&portal, PORTAL_USER, "config-controller");
    get(client, &portal, "/app").expect(200);
    assert_eq!(get(client, &format!("other.{MARK}"), "/app").status, 401);
    for fault in [Fault::Status(500), Fault::Drop] {
        kubernetes
            .kube
            .fault(FaultRule::new("create", "tokenreviews", fault));
        assert_eq!(get(client, &format!("new.{MARK}"), "/app").status, 503);
        kubernetes.kube.clear_faults();
    }
    kubernetes.kube.set_may_review(false);
    assert_eq!(get(client, &format!("new.{MARK}"), "/app").status, 500);
    drop((environment, kubernetes));
    assert!(SEEN.load(Ordering::SeqCst) > 0, "the log is watched");
    assert!(!LEAKED.load(Ordering::SeqCst));
}
