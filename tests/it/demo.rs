//! The demo app as a container would run it: its environment says what it does, and how it ends.
//!
//! What its image is made of is held to the main package's lock file, and its manifests to its image.
//! The cluster tests run the image in pods; how large it may be is for `tests/image/demo` to show.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::harness::{TemporaryFolder, example, repository};
use crate::sandbox::{Sandbox, get};

/// The image's name, which templates use.
const IMAGE: &str = "config-controller-demo:1";

fn text_of(path: &str) -> String {
    let text = std::fs::read_to_string(repository().join(path));
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn command(environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(example("demo"));
    command.env_clear().envs(environment.iter().copied());
    command
}

/// Its exit code and its last line on standard error.
#[track_caller]
fn run_to_end(environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let output: Output = command(environment).output().expect("it can be run");
    let stderr = String::from_utf8_lossy(&output.stderr);
    let last = stderr.lines().last().unwrap_or("").to_owned();
    (output.status.code(), last)
}

/// One that serves; it is killed where a test fails.
struct Serving {
    child: Child,
    port: u16,
}

impl Serving {
    #[track_caller]
    fn start(environment: &[(&str, &str)]) -> Self {
        let mut command = command(environment);
        command.env("PORT", "0").env("INSTANCE", "hello/ann");
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.expect("it can be run");
        let output = child.stdout.take().expect("its output is piped");
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("its first line can be read");
        let port = line.trim().rsplit(':').next().map(str::parse);
        let Some(Ok(port)) = port else {
            panic!("it does not say where it listens: {line}");
        };
        Self { child, port }
    }

    #[track_caller]
    fn page(&self) -> String {
        let url = format!("http://127.0.0.1:{}/anything", self.port);
        let response = ureq::get(&url).call();
        let mut response = response.unwrap_or_else(|error| panic!("{url}: {error}"));
        let text = response.body_mut().read_to_string();
        text.expect("a page is text")
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a process id is an i32");
        let pid = Pid::from_raw(pid).expect("a process id is not 0");
        kill_process(pid, signal).expect("a child can be signalled");
    }

    fn exit_code(mut self) -> Option<i32> {
        self.child.wait().expect("a child can be waited for").code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_serves_its_instance_until_sigterm() {
    let demo = Serving::start(&[("EAT_MIB", "1")]);
    assert_eq!(demo.page(), "hello/ann\n");
    demo.signal(Signal::TERM);
    assert_eq!(demo.exit_code(), Some(0));
    let demo = Serving::start(&[("TERM_EXIT_CODE", "7")]);
    demo.signal(Signal::TERM);
    assert_eq!(demo.exit_code(), Some(7));
}

#[test]
fn a_stubborn_one_serves_after_sigterm() {
    let demo = Serving::start(&[("IGNORE_TERM", "1")]);
    demo.signal(Signal::TERM);
    assert_eq!(demo.page(), "hello/ann\n");
}

#[test]
fn it_fails_with_its_last_line() {
    let fails = [("EXIT_CODE", "3"), ("EXIT_MESSAGE", "no database")];
    assert_eq!(run_to_end(&fails), (Some(3), "no database".to_owned()));
    // The first two starts only.
    let folder = TemporaryFolder::new();
    let file = folder.path("failures").display().to_string();
    let moody = [fails[0], ("FAILURES", "2"), ("FAILURES_FILE", &file)];
    for _ in 0..2 {
        assert_eq!(run_to_end(&moody), (Some(3), String::new()));
    }
    assert_eq!(Serving::start(&moody).page(), "hello/ann\n");
}

#[test]
fn a_variable_that_is_no_number_is_named() {
    for (name, value) in [
        ("EXIT_CODE", "three"),
        ("EXIT_CODE", "256"),
        ("PORT", "65536"),
        ("START_DELAY_SECS", "-1"),
        ("EAT_MIB", "1.5"),
        ("TERM_EXIT_CODE", "x"),
    ] {
        let (code, line) = run_to_end(&[(name, value)]);
        assert_eq!(code, Some(2), "{name}={value}: {line}");
        assert!(line.contains(name) && line.contains(value), "{line}");
    }
}

/// What `helm test` does: it starts an instance and stops it, and says what came back.
#[test]
fn as_a_client_it_starts_an_instance_and_stops_it() {
    let mut sandbox = Sandbox::start(&[]);
    let url = sandbox.url();
    let run = |arguments: &[&str]| {
        let output = command(&[]).arg("try").args(arguments).output();
        let output = output.expect("it can be run");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (code, text) = run(&[&url, "hello", "ann"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("GET /app/hello/ann: 200 {\"ip\":"), "{text}");
    assert!(text.contains("DELETE /app/hello/ann: 200"), "{text}");
    let (code, text) = run(&[&url, "fails", "ann"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("\"exitCode\":3"), "{text}");
    assert!(text.ends_with("The start failed.\n"), "{text}");
    for app_type in ["hello", "fails"] {
        let list = get(&format!("{url}/app/{app_type}"));
        assert_eq!(list, (200, "[]".to_owned()), "it stops what it has started");
    }
    for (arguments, words) in [
        (&[][..], "Usage: demo try "),
        (&["https://x:1", "a", "b"], "is not http://HOST:PORT"),
        (&["http://127.0.0.1:1", "a", "b"], "cannot be called"),
    ] {
        let (code, text) = run(arguments);
        assert_eq!(code, Some(2), "{text}");
        assert!(text.contains(words), "{text}");
    }
    let output = command(&[]).arg("serve").output().expect("it can be run");
    assert_eq!(output.status.code(), Some(2));
}

/// After an upgrade a replica that ends, or one with the former settings, may get the first requests.
#[test]
fn as_a_client_it_waits_until_an_upgrade_is_over() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let url = format!("http://{}", listener.local_addr().expect("it has one"));
    let responses = ["", "401 Unauthorized", "200 OK", "403 Forbidden", "200 OK"];
    let server = thread::spawn(move || {
        responses.map(|status| {
            let (mut connection, _) = listener.accept().expect("a request comes");
            let mut line = String::new();
            let mut reader = BufReader::new(&connection);
            reader.read_line(&mut line).expect("it can be read");
            while line != "\r\n" {
                line.clear();
                reader.read_line(&mut line).expect("it can be read");
            }
            if !status.is_empty() {
                let response = format!("HTTP/1.1 {status}\r\n\r\n{{}}\n");
                let sent = connection.write_all(response.as_bytes());
                sent.expect("it can be sent");
            }
        })
    });
    let output = command(&[]).args(["try", &url, "hello", "ann"]).output();
    let output = output.expect("it can be run");
    assert!(output.status.success(), "{output:?}");
    server.join().expect("all requests have come");
}

/// The crates of a lock file: name, version and checksum of each that comes from a registry.
fn locked(path: &str) -> BTreeSet<String> {
    let text = text_of(path);
    let crates = text.split("[[package]]\n").skip(1);
    let fields = |one: &str| {
        let lines = one.lines();
        let named = ["name = ", "version = ", "checksum = "];
        let lines = lines.filter(|line| named.iter().any(|name| line.starts_with(name)));
        lines.collect::<Vec<_>>().join(", ")
    };
    let crates = crates.filter(|one| one.contains("checksum = "));
    crates.map(fields).collect()
}

#[test]
fn its_crates_are_those_of_the_main_package() {
    let (own, main) = (locked("tests/demo/Cargo.lock"), locked("Cargo.lock"));
    assert!(own.len() > 2, "{own:?}");
    let other: Vec<&String> = own.difference(&main).collect();
    assert!(other.is_empty(), "not in Cargo.lock: {other:?}");
    let dependency = |path: &str| {
        let text = text_of(path);
        let line = text.lines().find(|line| line.starts_with("signal-hook = "));
        line.map(str::to_owned)
    };
    assert_eq!(
        dependency("tests/demo/Cargo.toml"),
        dependency("Cargo.toml")
    );
}

#[test]
fn all_that_name_the_image_mean_the_same() {
    assert!(text_of("tests/image/demo").contains(&format!("tag=${{1:-{IMAGE}}}\n")));
    assert!(text_of("tests/cluster/images.bash").contains(&format!("demo_image={IMAGE}\n")));
    let apps: Value =
        serde_yaml::from_str(&text_of("manifests/demo/apps.yaml")).expect("it is YAML");
    let types = apps["data"].as_object().expect("it has app types");
    assert_eq!(types.len(), 3);
    for (name, template) in types {
        let template = template.as_str().expect("a template is text");
        let template: Value = serde_yaml::from_str(template).expect("it is YAML");
        let container = &template["spec"]["containers"][0];
        assert_eq!(container["image"], IMAGE, "{name}");
        // There is no registry that has it.
        assert_eq!(container["imagePullPolicy"], "IfNotPresent", "{name}");
    }
}
