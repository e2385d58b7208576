//! The real cluster of the tests that `CLUSTER_TESTS=1` asks for.
//!
//! With `KUBECONFIG` set it is that one; otherwise the first test that needs it
//! brings one up with `tests/cluster/up`, and all share it. A cluster of ours is
//! taken down when this program ends, however it ends: a small process holds the
//! other end of a pipe, and takes it down when the pipe closes. A machine that
//! cannot run a cluster fails the tests with the sentence of `tests/cluster/up`.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Once, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

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

/// The cluster that tests share; none unless the cluster tests were asked for.
pub(crate) fn shared() -> Option<&'static Cluster> {
    static SHARED: OnceLock<Result<Cluster, String>> = OnceLock::new();
    if !is_wanted() {
        return None;
    }
    let found = SHARED.get_or_init(|| match std::env::var_os("KUBECONFIG") {
        Some(path) if !path.is_empty() => Ok(Cluster::at(path.into())),
        _ => Cluster::up("shared"),
    });
    match found {
        Ok(cluster) => Some(cluster),
        Err(sentence) => panic!("there is no cluster to test on: {sentence}"),
    }
}

/// A cluster for one test alone, which may break it; none unless the cluster tests were asked for.
pub(crate) fn own(name: &str) -> Option<Cluster> {
    is_wanted().then(|| match Cluster::up(name) {
        Ok(cluster) => cluster,
        Err(sentence) => panic!("there is no cluster to test on: {sentence}"),
    })
}

/// Says once, past the capture of what tests print, that nothing is tested here.
fn is_wanted() -> bool {
    static SAID: Once = Once::new();
    let wanted = std::env::var("CLUSTER_TESTS").as_deref() == Ok("1");
    if !wanted {
        SAID.call_once(|| {
            say("SKIPPED: the tests on a real cluster (conformance::*::on_cluster, end_to_end) did nothing; CLUSTER_TESTS=1 runs them.");
        });
    }
    wanted
}

/// Tests whose figures or counts others would disturb run alone; the others hold this shared.
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

    /// Brings one up; the error is the sentence why there is none.
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
            say(&line);
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

    /// The phase in which an image is fetched, as the kubelet tells it: one of 1.31 says that a pod is
    /// ready to start containers only once the first of them has its image (seen with 1.31.0 and 1.36.3).
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
        let program = self.fact("CLUSTER_KUBECTL").unwrap_or("kubectl");
        let mut command = Command::new(program);
        command.arg("--kubeconfig").arg(&self.kubeconfig);
        output(command.args(arguments))
    }

    /// Stops or starts the API server of a cluster of our own.
    #[track_caller]
    pub(crate) fn apiserver(&self, what: &str) {
        let folder = self
            .fact("CLUSTER_FOLDER")
            .expect("it is from tests/cluster");
        output(Command::new(script("apiserver")).args([what, folder]));
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
        // Whoever drops it wants the cluster gone; it says itself what kept it.
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
pub(crate) fn say(line: &str) {
    // Nobody may be listening, which is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}
