//! The real cluster of the tests that are ignored because they need one.
//!
//! With `KUBECONFIG` set it is that cluster. Otherwise the first test that needs one brings it up
//! with `tests/cluster/up`, and all tests share it. Such a cluster is taken down when this program
//! ends, also after a crash: a small process holds the other end of a pipe, and takes it down when
//! the pipe closes. Without a cluster a test fails with the reason. No test returns early: a test
//! that passes has run.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::fake_kube::FakeKube;
use crate::harness::{NAMESPACE, TemporaryFolder};
use crate::raw_kube::RawKube;

/// A cluster that pods really run in.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The administrator's kubeconfig.
    pub(crate) kubeconfig: PathBuf,
    /// What `tests/cluster/up` wrote about it; empty for one that is not from there.
    facts: BTreeMap<String, String>,
    /// Takes it down, if it is for us to do so.
    keeper: Option<Keeper>,
}

/// The cluster that tests share.
#[track_caller]
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    let found = SHARED.get_or_init(|| match std::env::var_os("KUBECONFIG") {
        Some(path) if !path.is_empty() => Cluster::given(path.into()),
        _ => Cluster::up("shared"),
    });
    found
        .as_ref()
        .unwrap_or_else(|reason| panic!("there is no cluster to test on: {reason}"))
}

/// A cluster for one test alone, which may break it.
#[track_caller]
pub(crate) fn own(name: &str) -> Cluster {
    Cluster::up(name).unwrap_or_else(|reason| panic!("there is no cluster to test on: {reason}"))
}

/// Tests with figures or counts that others would disturb run alone; the others hold this shared.
static QUIET: RwLock<()> = RwLock::new(());

/// For a test on a cluster that others may run beside.
pub(crate) fn beside_others() -> RwLockReadGuard<'static, ()> {
    QUIET.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that no other test on a cluster may run beside.
pub(crate) fn alone() -> RwLockWriteGuard<'static, ()> {
    QUIET.write().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    fn at(kubeconfig: PathBuf) -> Self {
        let env = kubeconfig.with_file_name("env");
        let facts = std::fs::read_to_string(env).unwrap_or_default();
        let facts = facts.lines().filter_map(|line| line.split_once('='));
        Self {
            kubeconfig,
            facts: facts.map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            keeper: None,
        }
    }

    /// The cluster of an administrator's kubeconfig, if its API server responds; else the reason.
    fn given(path: PathBuf) -> Result<Self, String> {
        let wrong = |reason: String| format!("KUBECONFIG={}: {reason}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let version = RawKube::from_kubeconfig(&text).try_send("GET", "/version", "", "");
        version.map_err(|error| wrong(format!("its API server does not respond: {error}")))?;
        Ok(Self::at(path))
    }

    /// Brings one up; the error is the reason why there is none.
    fn up(name: &str) -> Result<Self, String> {
        let folder = format!("config-controller-tests-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        // Before anything is there, so that nothing is left when this program is killed now.
        let keeper = Keeper::start(&folder);
        let mut up = Command::new(script("up"))
            .arg(&folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("tests/cluster/up can be run");
        // It may build for minutes: how far it is is shown as it comes.
        let mut last = String::new();
        let lines = BufReader::new(up.stderr.take().expect("it is a pipe")).lines();
        for line in lines.map_while(Result::ok) {
            print_line(&line);
            last = line;
        }
        let status = up.wait().expect("its end can be waited for");
        if !status.success() {
            return Err(format!("tests/cluster/up ended with {status}: {last}"));
        }
        let mut cluster = Self::at(folder.join("kubeconfig"));
        cluster.keeper = Some(keeper);
        Ok(cluster)
    }

    /// The phase that the kubelet reports while an image is pulled. A kubelet of 1.31 reports a pod
    /// as ready to start containers only once the first container has its image (observed with
    /// 1.31.0 and 1.36.3).
    pub(crate) fn phase_of_a_pull(&self) -> &'static str {
        let version = self.api().get("/version").expect(200);
        match version["minor"].as_str() {
            Some("31") => "mounting",
            _ => "pulling",
        }
    }

    /// A fact of `tests/cluster/up`; none on a cluster that is not from there.
    pub(crate) fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// The folder of a cluster from `tests/cluster/up`: for what reaches its node, its keys or its
    /// API server.
    #[track_caller]
    pub(crate) fn folder(&self) -> &Path {
        let folder = self.fact("CLUSTER_FOLDER").map(Path::new);
        folder.unwrap_or_else(|| {
            panic!(
                "this test needs a cluster from tests/cluster/up; KUBECONFIG={} names another",
                self.kubeconfig.display()
            )
        })
    }

    /// The API server, as an administrator.
    pub(crate) fn api(&self) -> RawKube {
        RawKube::from_kubeconfig(&self.kubeconfig_text())
    }

    /// The administrator's kubeconfig.
    pub(crate) fn kubeconfig_text(&self) -> String {
        std::fs::read_to_string(&self.kubeconfig).expect("the kubeconfig can be read")
    }

    /// Runs kubectl as an administrator, and returns what it prints.
    #[track_caller]
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        output(&mut self.kubectl_command(arguments))
    }

    /// The same where it may fail: what it prints, on both outputs.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> String {
        let done = self.kubectl_command(arguments).output();
        let done = done.expect("kubectl can be run");
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
    }

    fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let program = self.fact("CLUSTER_KUBECTL").unwrap_or("kubectl");
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        command.args(arguments);
        command
    }

    /// Stops or starts the API server of a cluster of our own.
    #[track_caller]
    pub(crate) fn apiserver(&self, what: &str) {
        output(
            Command::new(script("apiserver"))
                .arg(what)
                .arg(self.folder()),
        );
    }
}

/// The process that takes a cluster down once this program no longer holds its standard input.
#[derive(Debug)]
struct Keeper(Child);

impl Keeper {
    fn start(folder: &Path) -> Self {
        // Neither Ctrl-C nor a closed terminal may keep it from its work.
        let wait = r#"trap "" HUP INT TERM; cat; exec "$0" "$1""#;
        let child = Command::new("sh")
            .args(["-c", wait])
            .arg(script("down"))
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh can be run");
        Self(child)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Dropping it takes the cluster down; the process prints errors itself.
        let _ = self.0.wait();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cluster")
        .join(name)
}

/// What a command prints; one that fails fails the test with its own words.
#[track_caller]
pub(crate) fn output(command: &mut Command) -> String {
    let done = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let error = String::from_utf8_lossy(&done.stderr);
    assert!(
        done.status.success(),
        "{command:?}: {}: {error}",
        done.status
    );
    String::from_utf8(done.stdout).expect("it prints text")
}

/// Prints a line though the test passes: for what people should see, not for details.
pub(crate) fn print_line(line: &str) {
    // A closed output is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn a_kubeconfig_without_a_cluster_is_refused_with_the_reason() {
    let folder = TemporaryFolder::new();
    let missing = folder.path("missing");
    let reason = Cluster::given(missing.clone()).expect_err("there is no such file");
    let place = format!("KUBECONFIG={}: ", missing.display());
    assert!(reason.starts_with(&place), "{reason}");

    let stopped = FakeKube::builder().tls().start().expect("the fake starts");
    let text = stopped.kubeconfig(NAMESPACE);
    drop(stopped);
    let reason =
        Cluster::given(folder.write("kubeconfig", &text)).expect_err("the server is stopped");
    assert!(
        reason.contains("its API server does not respond"),
        "{reason}"
    );
}
