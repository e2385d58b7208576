//! The program itself: arguments, exit codes, signals, and a kill in the middle of its work.

mod idle;
mod memory;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use config_controller::config::SETTINGS;
use config_controller::logging::limit::LINES_MAX;
use serde_json::{Value, json};

use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::PodChange;
use crate::harness::{
    Client, NAMESPACE, Response, TEMPLATE, TemporaryFolder, TestEnvironment, apply_templates,
    eventually,
};
use crate::usage::set_owner;

/// The program with an empty environment: what is not set here is not set.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_config-controller"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end.
#[track_caller]
fn run(command: &mut Command) -> Output {
    command.output().expect("the program can be run")
}

/// The lines on its standard error; nothing may be on the other stream.
#[track_caller]
fn stderr_lines(output: &Output, code: i32) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    text.lines().map(str::to_owned).collect()
}

/// A program that serves. It is killed when it is dropped.
struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
    address: SocketAddr,
    client: Client,
    line: String,
}

impl Running {
    /// Starts it, and waits until it has logged its address.
    #[track_caller]
    fn start(kubeconfig: &Path) -> Self {
        Self::with(kubeconfig, &[])
    }

    /// As [`Running::start`], with these settings.
    #[track_caller]
    fn with(kubeconfig: &Path, settings: &[(&str, &str)]) -> Self {
        let mut child = program()
            .envs(settings.iter().copied())
            .env("KUBECONFIG", kubeconfig)
            .env("SERVICE_PORT", "0")
            .env("LISTEN", "127.0.0.1")
            .env("DRAIN_DELAY", "0s")
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be run");
        let log = child.stderr.take().expect("its standard error is ours");
        let mut log = BufReader::new(log);
        let (line, address) = listening(&mut log);
        let client = Client::new(address);
        Self {
            child,
            log,
            address,
            client,
            line,
        }
    }

    #[track_caller]
    fn wait_ready(&self) {
        eventually("it is ready", || {
            (self.client.get("/readyz").status == 200).then_some(())
        });
    }

    /// Sends a signal by its number.
    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.expect("there is a kill program").success());
    }

    /// Waits for its end; returns how, and the rest of its log.
    fn ended(mut self) -> (ExitStatus, String) {
        let mut rest = String::new();
        let _ = self.log.read_to_string(&mut rest);
        let status = self.child.wait().expect("a child can be waited for");
        (status, rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the log up to the line with its address.
#[track_caller]
fn listening(log: &mut BufReader<ChildStderr>) -> (String, SocketAddr) {
    let mut all = String::new();
    loop {
        let mut line = String::new();
        let read = log.read_line(&mut line).expect("a log is text");
        assert!(read > 0, "it ended before it served: {all}");
        // In JSON, a quote follows it.
        let mut words = line.split([' ', '"', '\n']);
        if let Some(address) = words.find_map(|word| word.parse().ok())
            && line.contains(" serves namespace ")
        {
            return (line, address);
        }
        all.push_str(&line);
    }
}

#[test]
fn help_names_every_setting() {
    let output = run(program().arg("--help"));
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).expect("help is text");
    for setting in SETTINGS {
        assert!(text.contains(&setting.flag()), "{}", setting.name);
        assert!(text.contains(setting.help), "{}", setting.name);
    }
    assert!(text.contains("Exit codes"));
}

#[test]
fn version_is_the_packages() {
    let output = run(program().arg("--version"));
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(
        text,
        concat!("config-controller ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn all_problems_of_the_settings_are_reported_together() {
    let output = run(program()
        .env("START_WAIT", "soon")
        .env("SERVICE_PORT", "99999")
        .env("JOB_NAMESPACE", "No_Such")
        .env("KUBECONFIG", "/no/kubeconfig")
        .env("TLS_CERT", "/no/certificate")
        .env("TLS_KEY", "/no/key")
        .arg("--workers=0")
        .arg("--nonsense=1"));
    let lines = stderr_lines(&output, 2);
    assert_eq!(lines.len(), 7, "{lines:?}");
    for (name, line) in [
        "--nonsense",
        "JOB_NAMESPACE",
        "SERVICE_PORT",
        "START_WAIT",
        "WORKERS",
        "/no/kubeconfig",
        "/no/certificate",
    ]
    .iter()
    .zip(&lines)
    {
        assert!(line.starts_with("config-controller: "), "{line}");
        assert!(line.contains(name), "{line}");
    }
}

#[test]
fn values_that_are_not_utf_8_are_problems_of_the_settings() {
    let bad = |start: &str| OsString::from_vec([start.as_bytes(), b"\xff"].concat());
    let output = run(program()
        .env("JOB_NAMESPACE", bad("secret"))
        .env("HOME", bad("/home/"))
        .env("UNRELATED", bad("x"))
        .env(bad("NAME"), "x")
        .arg("check")
        .arg(bad("--workers=")));
    let expected = [
        "argument 2 ('--workers=\u{fffd}') is not valid UTF-8",
        "HOME is not valid UTF-8",
        "JOB_NAMESPACE is not valid UTF-8",
    ];
    let expected = expected.map(|line| format!("config-controller: {line}"));
    assert_eq!(stderr_lines(&output, 2), expected);
    let helped = run(program().env("HOME", bad("/home/")).arg("--help"));
    assert_eq!(helped.status.code(), Some(0));
}

#[test]
fn unrelated_variables_need_not_be_utf_8() {
    let unrelated = OsString::from_vec(b"x\xff".to_vec());
    let output = run(program().env("UNRELATED", unrelated).arg("--version"));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn without_a_cluster_it_exits_with_the_possible_fixes() {
    let folder = TemporaryFolder::new();
    let output = run(program().env("HOME", folder.path("")));
    let lines = stderr_lines(&output, 2);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("no Kubernetes cluster is configured"));
    assert!(lines[0].contains("KUBECONFIG"));
}

#[test]
fn an_invalid_kubeconfig_is_reported_with_all_its_problems() {
    let folder = TemporaryFolder::new();
    let output = run(program().env("KUBECONFIG", folder.path("nothing")));
    assert!(stderr_lines(&output, 2)[0].contains("names no file that exists"));
    let file = folder.write("broken", "clusters: [");
    let output = run(program().env("KUBECONFIG", &file));
    let lines = stderr_lines(&output, 2);
    assert!(lines[0].contains(&file.display().to_string()), "{lines:?}");
}

#[test]
fn a_port_in_use_is_reported_in_one_line() {
    let environment = TestEnvironment::builder().unstarted().start();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let output = run(program()
        .env("KUBECONFIG", environment.kubeconfig())
        .env("LISTEN", "127.0.0.1")
        .env("SERVICE_PORT", &port));
    let lines = stderr_lines(&output, 1);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(&port), "{lines:?}");
    assert!(lines[0].contains("SERVICE_PORT"), "{lines:?}");
}

#[test]
fn a_missing_certificate_is_reported_in_one_line() {
    let environment = TestEnvironment::builder().unstarted().start();
    let folder = TemporaryFolder::new();
    let missing = folder.path("tls.crt");
    let output = run(program()
        .env("KUBECONFIG", environment.kubeconfig())
        .env("LISTEN", "127.0.0.1")
        .env("SERVICE_PORT", "0")
        .env("TLS_CERT", &missing)
        .env("TLS_KEY", folder.path("tls.key")));
    let lines = stderr_lines(&output, 2);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("TLS_CERT"), "{lines:?}");
    assert!(lines[0].contains("cannot be read"), "{lines:?}");
}

#[test]
fn after_sigterm_or_sigint_it_exits_with_0() {
    let environment = TestEnvironment::builder().unstarted().start();
    for signal in ["TERM", "INT"] {
        let running = Running::start(&environment.kubeconfig());
        running.wait_ready();
        running.client.get("/app/hello/ann").expect(200);
        assert!(running.line.contains("namespace default"));
        running.signal(signal);
        let (status, log) = running.ended();
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("shut down"), "{log}");
    }
    assert_eq!(environment.jobs(), ["hello-ann"], "instances go on");
}

#[test]
fn lines_of_the_json_log_have_fields() {
    let environment = TestEnvironment::builder().unstarted().start();
    let running = Running::with(&environment.kubeconfig(), &[("LOG_FORMAT", "json")]);
    running.wait_ready();
    let headers = [("X-Request-Id", "mine")];
    let pending = running.client.begin("GET", "/app/hello/ann", &headers, "");
    pending.finish().expect(200);
    running.client.delete("/app/hello/ann").expect(200);
    environment.wait_no_jobs();
    wait_usage(&running);
    running.signal("TERM");
    let (_, log) = running.ended();
    let lines = log.lines().map(serde_json::from_str::<Value>);
    let lines: Vec<Value> = lines.map(|line| line.expect("JSON")).collect();
    let of = |start: &str| {
        let mut lines = lines.iter();
        let found = lines.find(|line| {
            line["msg"]
                .as_str()
                .is_some_and(|msg| msg.starts_with(start))
        });
        found.unwrap_or_else(|| panic!("no line begins with {start}: {log}"))
    };
    let fields = |line: &Value, names: &[&str]| -> Vec<String> {
        let fields = names.iter().map(|name| line[name].to_string());
        fields.collect()
    };
    let instance = ["type", "name", "job"];
    let expected = [r#""hello""#, r#""ann""#, r#""hello-ann""#];
    let created = of("created Job hello-ann");
    assert_eq!(fields(created, &instance), expected);
    let by = [r#""mine""#, r#""127.0.0.1""#];
    assert_eq!(fields(created, &["request_id", "caller"]), by);
    assert_eq!(fields(of("hello/ann is ready"), &instance), expected);
    let usage = of("usage of hello/ann: ready_after=0.");
    assert_eq!(fields(usage, &instance), expected);
    assert_eq!(fields(usage, &["owner", "cause"]), [r#""""#, r#""asked""#]);
    assert!(usage["ready_after"].is_f64() && usage["ready_for"].is_f64());
    assert!(usage["uid"].is_string() && usage["replica"].is_string());
    let offer = of("app type hello is on offer");
    assert_eq!(
        fields(offer, &["type", "config_map"]),
        [r#""hello""#, r#""templates""#]
    );
}

/// Waits until this program has reported the usage of one instance of `hello`.
fn wait_usage(running: &Running) {
    eventually("its usage is reported", || {
        let counted = "config_controller_usage_instances_total{type=\"hello\"} 1\n";
        let text = running.client.get("/metrics").text;
        text.contains(counted).then_some(())
    });
}

/// A program that has started since does not know how long its start has taken.
#[test]
fn the_usage_of_an_instance_names_its_owner_and_what_was_not_seen() {
    let environment = TestEnvironment::new();
    environment.start_instance("/app/hello/ann");
    set_owner(&environment, "hello-ann", "ann \"the\" first");
    let running = Running::start(&environment.kubeconfig());
    running.wait_ready();
    environment.delete("/app/hello/ann").expect(200);
    environment.wait_no_jobs();
    wait_usage(&running);
    running.signal("TERM");
    let (_, log) = running.ended();
    let line = log
        .lines()
        .find(|line| line.contains("usage of hello/ann: "));
    let line = line.expect("a line");
    for part in [
        "ready_after=- ready_for=",
        r#" cause="stopped" owner="ann \"the\" first" uid=""#,
        "(Job hello-ann)",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

/// A proxy that cuts watches, and a ConfigMap that is edited again and again.
#[test]
fn the_log_has_few_lines_of_one_cause_and_counts_the_others() {
    let begun = Instant::now();
    let environment = TestEnvironment::builder().unstarted().start();
    let running = Running::start(&environment.kubeconfig());
    running.wait_ready();
    let watches =
        || ["configmaps", "events", "jobs", "pods"].map(|one| environment.kube.count("watch", one));
    for _ in 0..6 {
        let before = watches();
        environment.kube.cut_connections();
        eventually("all watches are open again", || {
            let more = watches()
                .iter()
                .zip(before)
                .all(|(now, before)| *now > before);
            more.then_some(())
        });
    }
    let edits = LINES_MAX as usize + 20;
    for number in 0..edits {
        let app_type = format!("t{number}");
        apply_templates(
            &environment.kube,
            "edited",
            &[(&app_type, TEMPLATE)],
            json!({}),
        );
        eventually("the edit is seen", || {
            let types = running.client.get("/app");
            types
                .text
                .contains(&format!("\"{app_type}\""))
                .then_some(())
        });
    }
    running.signal("TERM");
    let (status, log) = running.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    let count = |words: &str| log.lines().filter(|line| line.contains(words)).count();
    for watch in ["configmaps", "events", "jobs", "pods"] {
        assert!(count(&format!("watch on {watch} ended")) <= 1, "{log}");
    }
    let offers = |line: &&str| line.ends_with("ConfigMap edited") && !line.contains("left out");
    let written = log.lines().filter(offers).count();
    // On a slow machine a minute may end meanwhile, and the next has lines of its own.
    let minutes = 1 + begun.elapsed().as_secs() / 60;
    let most = LINES_MAX as usize * usize::try_from(minutes).expect("few minutes have passed");
    // That of the environment is the first of its cause; whether it is in this log, depends on when the
    // program was found ready.
    assert!((LINES_MAX as usize - 1..=most).contains(&written), "{log}");
    let numbers = log.lines().filter_map(|line| {
        let (number, cause) = line.split_once("INFO  left out ")?.1.split_once(" line")?;
        cause
            .contains(" is on offer")
            .then(|| number.parse::<usize>())?
            .ok()
    });
    assert_eq!(written + numbers.sum::<usize>(), edits, "{log}");
    assert!(
        count("shutting down") == 1 && count("shut down") == 1,
        "{log}"
    );
}

#[test]
fn a_wrong_ca_is_logged_and_returned_to_callers() {
    let folder = TemporaryFolder::new();
    let server = FakeKube::builder().tls().start().expect("the fake starts");
    let other = FakeKube::builder().tls().start().expect("the fake starts");
    let wrong = other
        .kubeconfig(NAMESPACE)
        .replace(&other.url(), &server.url());
    let mut running = Running::start(&folder.write("kubeconfig", &wrong));
    let refused: Response = running.client.get("/app/hello/ann");
    refused.expect_error(503, "not_synced");
    let mut line = String::new();
    while !line.contains("certificate") {
        line.clear();
        let read = running.log.read_line(&mut line).expect("a log is text");
        assert!(read > 0, "it ended without a word on the certificate");
    }
    assert_eq!(server.requests(), []);
}

#[test]
fn it_serves_over_tls() {
    let folder = TemporaryFolder::new();
    let server = FakeKube::builder().tls().start().expect("the fake starts");
    apply_templates(&server, "t", &[("hello", TEMPLATE)], json!({}));
    let kubeconfig = server.kubeconfig(NAMESPACE);
    let running = Running::start(&folder.write("kubeconfig", &kubeconfig));
    running.wait_ready();
    running.client.get("/app/hello/ann").expect(200);
}

/// Pods that run at the same time, by the Job that they are of.
#[derive(Default)]
struct Census {
    running: BTreeSet<(String, String)>,
    doubled: Vec<String>,
}

impl Census {
    fn note(&mut self, change: &PodChange) {
        let text = |pod: &Value, path: &str| {
            let found = pod.pointer(path).and_then(|value| value.as_str());
            found.unwrap_or_default().to_owned()
        };
        let id = |pod: &Value| {
            (
                text(pod, "/metadata/labels/job-name"),
                text(pod, "/metadata/uid"),
            )
        };
        match change {
            PodChange::Running { pod, .. } => {
                let (job, uid) = id(pod);
                if self.running.iter().any(|(known, _)| *known == job) {
                    self.doubled.push(job.clone());
                }
                self.running.insert((job, uid));
            }
            PodChange::Ended { pod, .. } => {
                self.running.remove(&id(pod));
            }
        }
    }
}

#[test]
fn a_kill_in_the_middle_of_50_starts_loses_nothing() {
    let census: Arc<Mutex<Census>> = Arc::default();
    let hook = Arc::clone(&census);
    let environment = TestEnvironment::builder()
        .kube(|kube| {
            kube.on_pod(move |change| hook.lock().expect("no test has failed").note(change))
        })
        .unstarted()
        .start();
    let names: Vec<String> = (0..50).map(|n| format!("/app/hello/n{n}")).collect();
    let mut first = Running::start(&environment.kubeconfig());
    first.wait_ready();
    let callers: Vec<_> = names
        .iter()
        .map(|name| first.client.try_begin("GET", name, &[], ""))
        .collect();
    eventually("some of them are started", || {
        (environment.jobs().len() >= 10).then_some(())
    });
    first.child.kill().expect("it can be killed");
    let responses = callers.into_iter().filter_map(Result::ok);
    let responses_received = responses.filter_map(|caller| caller.try_finish().ok());
    assert!(
        responses_received
            .into_iter()
            .all(|response| response.status == 200)
    );
    let second = Running::start(&environment.kubeconfig());
    second.wait_ready();
    let again: Vec<_> = names
        .iter()
        .map(|name| second.client.begin_get(name))
        .collect();
    let mut addresses = BTreeSet::new();
    for caller in again {
        let response = caller.finish().expect(200);
        addresses.insert(response["ip"].as_str().expect("an address").to_owned());
    }
    assert_eq!(addresses.len(), names.len());
    assert_eq!(environment.jobs().len(), names.len());
    assert_eq!(
        environment.kube.all(Resource::Pods, NAMESPACE).len(),
        names.len()
    );
    let census = census.lock().expect("no test has failed");
    assert_eq!(census.doubled, [""; 0], "had two live pods at once");
}
