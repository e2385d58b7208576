//! The sandbox from the view of a newcomer: the tests run the example as a program of its own, read
//! its output, and run the commands of its guide.
//!
//! The `curl` lines of its guide are executed here without curl. A line that does not do what is
//! written above it fails a test. These tests do not depend on the implementation of the sandbox.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::harness::{TemporaryFolder, example};

/// How long a test waits for a condition.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the sandbox may take to stop; the promise is two seconds on a machine at rest.
const STOP_MAX: Duration = Duration::from_secs(5);

fn run_to_end(arguments: &[&str]) -> Output {
    let output = Command::new(example("sandbox")).args(arguments).output();
    output.expect("the sandbox can be run")
}

/// A running sandbox; it is killed where a test fails.
pub(crate) struct Sandbox {
    child: Child,
    incoming: Receiver<String>,
    lines: Vec<String>,
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Sandbox {
    /// Starts one on a free port, and waits until its guide is there.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new(example("sandbox"));
        command.args(["--port", "0"]).args(arguments);
        Self::run(command)
    }

    /// Runs this command, which becomes a sandbox.
    fn run(mut command: Command) -> Self {
        let mut child = command
            // What points to a real cluster must not matter.
            .env("KUBECONFIG", "/nowhere")
            .env("SERVICE_PORT", "1")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the sandbox can be run");
        let output = child.stdout.take().expect("its output is piped");
        let (sender, incoming) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(output).lines();
            for line in lines.map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut sandbox = Self {
            child,
            incoming,
            lines: Vec::new(),
        };
        sandbox.line("Ctrl-C stops everything.");
        sandbox
    }

    /// The first line that contains this text, printed already or later.
    #[track_caller]
    fn line(&mut self, part: &str) -> String {
        let deadline = Instant::now() + TEST_TIMEOUT;
        if let Some(line) = self.lines.iter().find(|line| line.contains(part)) {
            return line.clone();
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.incoming.recv_timeout(left) else {
                panic!(
                    "\"{part}\" was not printed; output:\n{}",
                    self.lines.join("\n")
                );
            };
            self.lines.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    /// The service's URL.
    pub(crate) fn url(&mut self) -> String {
        let line = self.line("The service listens at ");
        line.rsplit(' ').next().expect("a last word").to_owned()
    }

    /// The `curl` lines of the guide.
    fn curl_lines(&self) -> Vec<String> {
        let lines = self.lines.iter().map(|line| line.trim());
        let curls = lines.filter(|line| line.starts_with("curl "));
        curls.map(str::to_owned).collect()
    }

    /// Asks it to end, and returns its exit code.
    #[track_caller]
    fn stop(&mut self, signal: Signal) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).expect("a process id is an i32");
        let pid = Pid::from_raw(pid).expect("a process id is not 0");
        kill_process(pid, signal).expect("a child can be signalled");
        let deadline = Instant::now() + STOP_MAX;
        // Its output ends when it does.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.incoming.recv_timeout(left) {
                Ok(line) => self.lines.push(line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(_) => panic!("it goes on after {STOP_MAX:?}"),
            }
        }
        self.child.wait().expect("a child can be waited for").code()
    }
}

/// Sends a request; the status code and the body.
fn send(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<(u16, String), ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(TEST_TIMEOUT))
        .build()
        .into();
    let mut request = ureq::http::Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = match body {
        "" => agent.run(request.body(())?)?,
        _ => agent.run(request.body(body.to_owned())?)?,
    };
    let text = response.body_mut().read_to_string()?;
    Ok((response.status().as_u16(), text))
}

#[track_caller]
pub(crate) fn get(url: &str) -> (u16, String) {
    send("GET", url, &[], "").expect("a response")
}

/// Executes a `curl` line.
#[track_caller]
pub(crate) fn curl(line: &str) -> (u16, String) {
    let words = shell_words(line);
    let (mut method, mut headers, mut body, mut url) = ("GET", Vec::new(), "", "");
    let mut words = words.iter().map(String::as_str).skip(1);
    while let Some(word) = words.next() {
        match word {
            "-sS" | "-sSN" | "-i" => {}
            "-X" => method = words.next().expect("a method after -X"),
            "-d" => body = words.next().expect("a body after -d"),
            "-H" => {
                let header = words.next().and_then(|header| header.split_once(": "));
                headers.push(header.expect("a header after -H"));
            }
            _ => {
                assert!(url.is_empty() && !word.starts_with('-'), "{word} in {line}");
                url = word;
            }
        }
    }
    send(method, url, &headers, body).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The words of a line, as any shell cuts it, as far as our lines need it.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            '#' | '"' | '$' | '&' | '*' | '?' | '\\' if !quoted => panic!("unquoted {c}: {line}"),
            c => words.last_mut().expect("never empty").push(c),
        }
    }
    words
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| panic!("not JSON: {text}"))
}

/// Asks again until the response is the wanted one.
#[track_caller]
fn eventually(wanted: &str, ask: impl Fn() -> String) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        let response = ask();
        if response == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{response} instead of {wanted}");
    }
}

#[test]
fn every_line_of_the_guide_works_as_described() {
    let mut sandbox = Sandbox::start(&[]);
    let curls = sandbox.curl_lines();
    let [
        types,
        ensure,
        page,
        list,
        patch,
        again,
        delete,
        list_again,
        slow,
        slow_again,
        steps,
        fails,
        nothing,
    ] = curls.as_slice()
    else {
        panic!("other lines than this test knows: {curls:#?}");
    };
    assert_eq!(curl(types), (200, r#"["fails","hello","slow"]"#.into()));

    let (code, response) = curl(ensure);
    let ip = json(&response)["ip"].as_str().expect("an ip").to_owned();
    assert_eq!((code, json(&response)), (200, json!({ "ip": ip })));
    let url = page.rsplit(' ').next().expect("a last word");
    assert!(url.starts_with(&format!("http://{ip}:")), "{url} for {ip}");
    assert_eq!(curl(page), (200, "hello/ann\n".into()));

    let (code, response) = curl(list);
    let entries = json(&response);
    assert_eq!((code, entries.as_array().map(Vec::len)), (200, Some(1)));
    assert_eq!(entries[0]["name"], "ann");
    assert_eq!(entries[0]["ip"], ip);
    assert_eq!(entries[0]["errored"], false);

    assert_eq!(curl(patch), (200, r#"{"status":"Success"}"#.into()));
    let (code, response) = curl(again);
    let labelled = json!({"ip": ip, "username": "ann"});
    assert_eq!((code, json(&response)), (200, labelled));

    assert_eq!(curl(delete), (200, r#"{"status":"Success"}"#.into()));
    eventually("[]", || curl(list_again).1);
    assert!(send("GET", url, &[], "").is_err(), "its page is gone");

    let (code, response) = curl(slow);
    assert_eq!(code, 202, "{response}");
    assert!(json(&response)["phase"].is_string(), "{response}");
    let (code, response) = curl(slow_again);
    assert_eq!(code, 200, "{response}");
    assert_ne!(json(&response)["ip"], ip);

    check_steps(steps);
    check_failure(fails);
    let (code, response) = curl(nothing);
    assert_eq!(code, 404);
    let body = json(&response);
    assert_eq!(body["code"], "unknown_type");
    let body = body["msg"].as_str().expect("a sentence");
    assert!(body.contains("hello") && body.contains("slow"), "{body}");

    check_docs(&mut sandbox);
    check_phases_of_slow(&mut sandbox);
    assert_eq!(sandbox.stop(Signal::INT), Some(0));
}

/// A start is followed step by step.
#[track_caller]
fn check_steps(line: &str) {
    let (code, response) = curl(line);
    assert_eq!(code, 200);
    for part in [
        "event: created\n",
        "\"phase\":\"pulling\"",
        "event: ready\n",
    ] {
        assert!(response.contains(part), "{response}");
    }
}

/// What always fails reports how.
#[track_caller]
fn check_failure(line: &str) {
    let (code, response) = curl(line);
    let body = json(&response);
    assert_eq!((code, &body["status"]), (202, &json!("app_error")));
    assert_eq!(body["exitCode"], 3);
    let last = "this app always fails, to show what its callers get";
    assert_eq!(body["log"], last);
}

/// The page for people is where the guide says.
#[track_caller]
fn check_docs(sandbox: &mut Sandbox) {
    let docs = sandbox.line("For people");
    let docs = docs.rsplit(' ').next().expect("a last word");
    let (code, page) = get(docs);
    assert!(code == 200 && page.contains("<html"), "{docs}: {page}");
}

/// All phases were printed, in this order.
#[track_caller]
fn check_phases_of_slow(sandbox: &mut Sandbox) {
    sandbox.line("is ready: slow/bob answers at http://127.");
    let output_text = sandbox.lines.join("\n");
    let mut rest = output_text.as_str();
    for part in [
        "Kubernetes: Job slow-bob created",
        "Kubernetes: pod slow-bob-",
        "is being scheduled",
        "has a node",
        "is pulling its image",
        "is starting",
        "is ready: slow/bob answers",
    ] {
        let Some(at) = rest.find(part) else {
            panic!("\"{part}\" is missing or too early in:\n{output_text}");
        };
        rest = &rest[at..];
    }
    assert!(
        output_text.contains("service: created Job slow-bob for slow/bob"),
        "{output_text}"
    );
}

#[test]
fn after_sigterm_waiting_requests_are_answered_and_it_exits() {
    let mut sandbox = Sandbox::start(&[]);
    let url = format!("{}/app/slow/carl", sandbox.url());
    let waiting = std::thread::spawn(move || get(&url));
    sandbox.line("Job slow-carl created");
    assert_eq!(sandbox.stop(Signal::TERM), Some(0));
    let (code, response) = waiting.join().expect("a response");
    assert_eq!(code, 202, "{response}");
}

#[test]
fn with_one_address_one_page_lists_all_instances() {
    let mut sandbox = Sandbox::start(&["--one-address"]);
    sandbox.line("All pods share the address 127.0.0.1");
    let url = sandbox.url();
    let page = sandbox.curl_lines()[2].clone();
    assert!(page.contains(" http://127.0.0.1:"), "{page}");
    assert_eq!(curl(&page), (200, String::new()));
    for name in ["ann", "bob"] {
        let response = get(&format!("{url}/app/hello/{name}"));
        assert_eq!(response, (200, r#"{"ip":"127.0.0.1"}"#.into()));
    }
    assert_eq!(curl(&page).1, "hello/ann\nhello/bob\n");
    let bob = format!("{url}/app/hello/bob");
    let (code, response) = send("DELETE", &bob, &[], "").expect("a response");
    assert_eq!(code, 200, "{response}");
    eventually("hello/ann\n", || curl(&page).1);
    assert_eq!(sandbox.stop(Signal::INT), Some(0));
}

#[test]
fn own_templates_take_the_place_of_the_demo() {
    let folder = TemporaryFolder::new();
    let write = |name: &str, text: &str| folder.write(name, text).display().to_string();
    let spec = "spec: {restartPolicy: Never, containers: [{name: a, image: own/app:1}]}";
    let bare = write(
        "bare.yaml",
        &format!("% if 'tz' in alternatives:\nmetadata: {{}}\n% endif\n{spec}\n"),
    );
    // Without the label, with a namespace, and one that has no name.
    let manifest = write(
        "manifest.yaml",
        &format!(
            "kind: Secret\n---\nkind: ConfigMap\nmetadata: {{name: x, namespace: y}}\ndata: {{one.yaml: \"{spec}\"}}\n---\nkind: List\nitems: [{{kind: ConfigMap, data: {{two.yaml: \"{spec}\"}}}}]\n"
        ),
    );
    let mut sandbox = Sandbox::start(&["--templates", &bare, &format!("--templates={manifest}")]);
    let curls = sandbox.curl_lines();
    let [types, templates, ensure, page, list, delete] = curls.as_slice() else {
        panic!("other lines than this test knows: {curls:#?}");
    };
    assert_eq!(curl(types), (200, r#"["bare","one","two"]"#.into()));
    assert_eq!(json(&curl(templates).1)[2]["type"], "two");
    assert_eq!(curl(ensure).0, 200);
    assert_eq!(curl(page), (200, "bare/ann\n".into()));
    assert_eq!(json(&curl(list).1)[0]["name"], "ann");
    assert_eq!(curl(delete).0, 200);
    assert_eq!(sandbox.stop(Signal::INT), Some(0));
}

#[test]
fn a_file_without_templates_is_reported_in_one_line() {
    let folder = TemporaryFolder::new();
    let write = |name: &str, text: &str| folder.write(name, text).display().to_string();
    for (file, words) in [
        (folder.path("none").display().to_string(), "cannot be read"),
        (write("a.yaml", "kind: Secret\n"), "contains no ConfigMap"),
        (write("b.yaml", "kind: ConfigMap\n"), "holds no template"),
        (write("c d.yaml", "spec: {}\n"), "rename it"),
        (
            write("large.yaml", &"#".repeat(4 * 1024 * 1024 + 1)),
            "is larger than 4194304 bytes",
        ),
    ] {
        let output = run_to_end(&["--port=0", "--templates", &file]);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        let is_told = stderr.contains(&file) && stderr.contains(words);
        assert!(is_told && stderr.lines().count() == 1, "{stderr}");
    }
}

/// Needs what the node of a cluster needs: Linux, unshare, nsenter and ip. The sandbox runs in a network
/// of its own, whose loopback interface is down at first.
#[test]
#[ignore = "needs a cluster"]
fn it_stops_while_the_loopback_interface_is_down() {
    let sandbox = example("sandbox").display().to_string();
    let alone = ["--map-root-user", "--net", "--"];
    let mut down = Command::new("unshare");
    let refused = down.args(alone).args([&sandbox, "--port=0"]).output();
    let refused = refused.expect("unshare can be run");
    let stderr = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("bring its loopback interface up"),
        "{stderr}"
    );

    let mut up = Command::new("unshare");
    let script = "ip link set lo up && exec \"$0\" --port=0";
    up.args(alone).args(["sh", "-c", script, &sandbox]);
    let mut sandbox = Sandbox::run(up);
    let pid = sandbox.child.id().to_string();
    let mut inside = Command::new("nsenter");
    inside.args([
        "--user",
        "--preserve-credentials",
        "--net",
        "--target",
        &pid,
    ]);
    inside.args(["ip", "link", "set", "lo", "down"]);
    assert!(inside.status().expect("nsenter can be run").success());
    assert_eq!(sandbox.stop(Signal::INT), Some(0));
}

#[test]
fn two_sandboxes_run_side_by_side() {
    let (mut one, mut other) = (Sandbox::start(&[]), Sandbox::start(&[]));
    for (sandbox, name) in [(&mut one, "ann"), (&mut other, "bob")] {
        let (code, response) = get(&format!("{}/app/hello/{name}", sandbox.url()));
        assert_eq!(code, 200, "{response}");
        assert_eq!(curl(&sandbox.curl_lines()[2]).1, format!("hello/{name}\n"));
    }
}

#[test]
fn a_port_in_use_is_reported_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let output = run_to_end(&["--port", &port.to_string()]);
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let begin = format!("Port {port} of 127.0.0.1 is in use: ");
    assert!(stderr.starts_with(&begin), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(output.stdout.is_empty());
}

#[test]
fn an_invalid_argument_is_reported_in_one_line_with_the_usage() {
    for (arguments, message) in [
        (
            &["--prot", "1"][..],
            "'--prot' is no argument of the sandbox.",
        ),
        (
            &["--port"],
            "--port needs a number from 0 to 65535 after it.",
        ),
        (
            &["--port=70000"],
            "--port needs a number from 0 to 65535, and '70000' is none.",
        ),
        (&["--templates"], "--templates needs a file after it."),
        (&["extra"], "'extra' is no argument of the sandbox."),
    ] {
        let output = run_to_end(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        let begin = format!("{message}\n\nUsage: cargo run --example sandbox");
        assert!(stderr.starts_with(&begin), "{stderr}");
    }
    let help = run_to_end(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(help.stdout.starts_with(b"Usage: cargo run"));
}

/// The other program that people start by hand.
#[test]
fn the_fake_api_server_alone_explains_itself() {
    let run = |argument: &str| {
        let output = Command::new(example("fake-kube")).arg(argument).output();
        let output = output.expect("it can be run");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (code, text) = run("--help");
    assert_eq!(code, Some(0));
    assert!(
        text.starts_with("Usage: cargo run --example fake-kube"),
        "{text}"
    );
    let (code, text) = run("--port=1");
    assert_eq!(code, Some(2));
    assert!(text.starts_with("'--port=1' is no argument"), "{text}");
}
