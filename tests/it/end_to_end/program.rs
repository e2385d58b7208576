//! Our program as a process: its environment, its log, its end, and an HTTP client for it.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{TEST_TIMEOUT, eventually};
use crate::harness::Client;

/// A running program; it is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    log: Arc<Log>,
    base: String,
    agent: ureq::Agent,
}

/// What the program has printed so far.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Log {
    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A response of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Got {
    /// The status code.
    pub(super) code: u16,
    /// The body.
    pub(super) body: Value,
    /// The header `Retry-After`.
    pub(super) retry_after: Option<String>,
    /// The header `X-View-Age`.
    pub(super) cache_age: Option<String>,
}

impl Got {
    /// The body of a response with this code; anything else fails the test.
    #[track_caller]
    pub(super) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.body);
        self.body
    }

    /// The address of a ready instance.
    #[track_caller]
    pub(super) fn ip(self) -> IpAddr {
        let body = self.expect(200);
        let ip = body["ip"].as_str().expect("a ready instance has an ip");
        ip.parse().expect("an ip is an address")
    }
}

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_config-controller");

/// Settings with which a busy machine causes no failure report, and requests wait for long.
pub(super) const PATIENT: &[(&str, &str)] = &[
    ("START_BUDGET_CREATING", "10m"),
    ("START_BUDGET_PULL_ERROR", "10m"),
    ("START_BUDGET_STARTING", "10m"),
    ("START_WAIT", "60s"),
];

/// The environment of the program: this and nothing else.
fn prepare<'a>(command: &'a mut Command, environment: &[(&str, &str)]) -> &'a mut Command {
    command
        .env_clear()
        .envs([("LISTEN", "127.0.0.1"), ("SERVICE_PORT", "0")])
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
}

impl Program {
    /// Starts the program and waits until it listens.
    #[track_caller]
    pub(super) fn start(kubeconfig: &Path, environment: &[(&str, &str)]) -> Self {
        // It becomes the program, which does not outlive the tests even if they are killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", PROGRAM]);
        let mut child = prepare(&mut command, environment)
            .env("KUBECONFIG", kubeconfig)
            .spawn()
            .expect("the program can be run");
        let log = Arc::new(Log::default());
        let (to, from) = (Arc::clone(&log), child.stderr.take().expect("it is a pipe"));
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                to.lines().push(line);
                to.more.notify_all();
            }
        });
        let mut program = Self {
            child,
            log,
            base: String::new(),
            agent: agent(),
        };
        let line = program.wait_log(" serves namespace ");
        let (_, address) = line.rsplit_once(" on ").expect("the log has the address");
        program.base = format!("http://{address}");
        program
    }

    /// The same, and waits until it has seen all that there is.
    #[track_caller]
    pub(crate) fn start_ready(kubeconfig: &Path, environment: &[(&str, &str)]) -> Self {
        let program = Self::start(kubeconfig, environment);
        eventually("the program is ready", || {
            (program.get("/readyz").code == 200).then_some(())
        });
        program
    }

    /// Waits for a line of the log that has this in it.
    #[track_caller]
    pub(super) fn wait_log(&self, part: &str) -> String {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut lines = self.log.lines();
        loop {
            if let Some(line) = lines.iter().find(|line| line.contains(part)) {
                return line.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no line has {part:?} in {lines:#?}");
            let waited = self.log.more.wait_timeout(lines, left);
            (lines, _) = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many lines of the log have this in them so far.
    pub(crate) fn count_log(&self, part: &str) -> usize {
        let lines = self.log.lines();
        lines.iter().filter(|line| line.contains(part)).count()
    }

    /// The log so far.
    pub(super) fn log_text(&self) -> String {
        self.log.lines().join("\n")
    }

    /// How many lines of the log have all of these in them so far.
    pub(super) fn count_log_of(&self, parts: &[&str]) -> usize {
        let lines = self.log.lines();
        let has_all = |line: &&String| parts.iter().all(|part| line.contains(part));
        lines.iter().filter(has_all).count()
    }

    /// Sends a request; `Err` when the connection broke.
    pub(super) fn try_send(
        &self,
        method: &str,
        path: &str,
        prefer: &str,
        body: &str,
    ) -> Result<Got, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        if !prefer.is_empty() {
            request = request.header("prefer", prefer);
        }
        if !body.is_empty() {
            request = request.header("content-type", "application/json");
        }
        let mut response = self.agent.run(request.body(body.to_owned())?)?;
        let text = response.body_mut().read_to_string()?;
        let header = |name: &str| {
            let value = response.headers().get(name)?;
            Some(value.to_str().expect("a header is text").to_owned())
        };
        Ok(Got {
            code: response.status().as_u16(),
            retry_after: header("retry-after"),
            cache_age: header("x-view-age"),
            body: serde_json::from_str(&text).expect("every response is JSON"),
        })
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str, prefer: &str, body: &str) -> Got {
        let got = self.try_send(method, path, prefer, body);
        got.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The tests' plain client: for concurrent requests, and for bodies that are not JSON.
    pub(super) fn client(&self) -> Client {
        let (_, address) = self.base.rsplit_once('/').expect("a URL has slashes");
        Client::new(address.parse().expect("an address with a port"))
    }

    /// The value of a metric, with all of these labels where it has any; 0 where it has none yet.
    #[track_caller]
    pub(super) fn metric(&self, name: &str, labels: &[&str]) -> usize {
        let text = self.client().get("/metrics").text;
        let is_it = |line: &&str| {
            let rest = line.strip_prefix(name);
            let rest = rest.filter(|rest| rest.starts_with(['{', ' ']));
            rest.is_some_and(|rest| labels.iter().all(|label| rest.contains(label)))
        };
        let line = text.lines().find(is_it);
        let value = line.and_then(|line| line.rsplit(' ').next());
        value.map_or(0, |value| value.parse().expect("a whole number"))
    }

    /// Waits until so many requests wait here.
    #[track_caller]
    pub(super) fn await_waiting(&self, count: usize) {
        eventually("the requests wait", || {
            (self.metric("config_controller_waiting_requests", &[]) == count).then_some(())
        });
    }

    /// GET.
    #[track_caller]
    pub(super) fn get(&self, path: &str) -> Got {
        self.send("GET", path, "", "")
    }

    /// GET with this value of the header `Prefer`.
    #[track_caller]
    pub(super) fn get_prefer(&self, path: &str, prefer: &str) -> Got {
        self.send("GET", path, prefer, "")
    }

    /// How many requests wait, by its metrics.
    #[track_caller]
    pub(super) fn waiting(&self) -> usize {
        let got = self.agent.get(format!("{}/metrics", self.base)).call();
        let text = got.expect("it responds").body_mut().read_to_string();
        let text = text.expect("metrics are text");
        let mut lines = text.lines();
        let number = lines.find_map(|l| l.strip_prefix("config_controller_waiting_requests "));
        number.and_then(|n| n.parse().ok()).expect("a gauge")
    }

    /// PATCH with that body.
    #[track_caller]
    pub(super) fn patch(&self, path: &str, body: &str) -> Got {
        self.send("PATCH", path, "", body)
    }

    /// DELETE.
    #[track_caller]
    pub(super) fn delete(&self, path: &str) -> Got {
        self.send("DELETE", path, "", "")
    }

    /// The instance names in the list of a type.
    #[track_caller]
    pub(super) fn names(&self, app_type: &str) -> Vec<String> {
        let list = self.get(&format!("/app/{app_type}")).expect(200);
        let entries = list.as_array().expect("a list is an array");
        let name = |entry: &Value| {
            entry["name"]
                .as_str()
                .expect("an entry has a name")
                .to_owned()
        };
        entries.iter().map(name).collect()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = self.base.strip_prefix("http://");
        let address = address.and_then(|address| address.parse().ok());
        address.expect("the program has an address")
    }

    /// Its resident memory.
    #[track_caller]
    pub(super) fn resident_kib(&self) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|it| it.parse().ok()).expect("a number")
    }

    /// How many threads of this name it has.
    #[track_caller]
    pub(super) fn thread_count(&self, name: &str) -> usize {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let names = tasks.expect("it runs").filter_map(|task| {
            // One that ends meanwhile has no name any more.
            std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
        });
        names.filter(|known| known.trim() == name).count()
    }

    /// Asks the program to end, as the kubelet does.
    pub(crate) fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        let ended = self.child.try_wait();
        ended.expect("a child can be waited for").is_some()
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().expect("a child can be waited for")
    }

    /// Stops the program as a paused machine would, or lets it go on.
    pub(super) fn pause(&self, is_paused: bool) {
        use rustix::process::Signal;
        let signal = if is_paused {
            Signal::STOP
        } else {
            Signal::CONT
        };
        self.signal(signal);
    }

    /// Kills the program as a machine's failure would.
    pub(super) fn kill(&self) {
        self.signal(rustix::process::Signal::KILL);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.child.id()).ok();
        let id = id
            .and_then(rustix::process::Pid::from_raw)
            .expect("a process has an id");
        rustix::process::kill_process(id, signal).expect("it can be sent a signal");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of the program:\n{}", self.log.lines().join("\n"));
        }
    }
}

/// Runs the program to its end, and returns how it ended and what it printed.
pub(super) fn run_to_end(environment: &[(&str, &str)]) -> (ExitStatus, String) {
    let done = prepare(&mut Command::new(PROGRAM), environment)
        .output()
        .expect("the program can be run");
    (
        done.status,
        String::from_utf8_lossy(&done.stderr).into_owned(),
    )
}

/// The text of the page of an instance, which is one line.
#[track_caller]
pub(super) fn page(ip: IpAddr) -> String {
    let url = format!("http://{ip}:8080/");
    let mut response = agent()
        .get(&url)
        .call()
        .unwrap_or_else(|error| panic!("{url}: {error}"));
    let text = response.body_mut().read_to_string();
    let text = text.expect("a page is text");
    text.trim_end_matches('\n').to_owned()
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(TEST_TIMEOUT + Duration::from_secs(30)))
        .build()
        .into()
}
