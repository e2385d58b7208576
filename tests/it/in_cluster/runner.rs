//! Pods that run a program of this repository from the disk of the node, which is this machine. The
//! program is one of these tests, or the load program. They are in a namespace of their own, look
//! up names as every pod does, and are deleted when they are done.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::load::SHARED;
use crate::cluster::Cluster;
use crate::harness::TemporaryFolder;
use crate::manifests::tools::Namespace;

/// Where a pod finds the administrator's kubeconfig.
pub(super) const KUBECONFIG: &str = "/tests/kubeconfig";

/// The suffix of the files that pods print to; each is named after its pod. The node's own copy of
/// a container's output may be incomplete when the end of the container is reported.
const LOG: &str = ".log";

/// A pod that takes longer is terminated and counts as failed.
const TEST_TIMEOUT: Duration = Duration::from_secs(300);

/// Between two looks at how they do.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

/// A namespace for such pods.
pub(super) struct Runner<'a> {
    cluster: &'a Cluster,
    namespace: Namespace<'a>,
    shared: TemporaryFolder,
}

impl<'a> Runner<'a> {
    #[track_caller]
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self {
            cluster,
            namespace: Namespace::new(cluster, &[]),
            shared: TemporaryFolder::new(),
        }
    }

    /// Runs a test in a pod to its end, and returns what it prints; one that fails fails this one.
    #[track_caller]
    pub(super) fn run_test(&self, test: &str, environment: &[(&str, &str)]) -> String {
        let program = std::env::current_exe().expect("this program knows where it is");
        self.start(&program, &[test, "--exact", "--nocapture"], 1, environment);
        self.finish().swap_remove(0)
    }

    /// Starts a program in this number of pods concurrently.
    #[track_caller]
    pub(super) fn start(
        &self,
        program: &Path,
        arguments: &[&str],
        pods: usize,
        environment: &[(&str, &str)],
    ) {
        // A node would make a folder of what is not there.
        assert!(
            program.is_file(),
            "{} is gone: was it built again?",
            program.display()
        );
        let job = self.job(program, arguments, pods, environment);
        let job = self.shared.write("job.json", &job.to_string());
        self.namespace
            .kubectl(&["create", &format!("--filename={}", job.display())]);
    }

    /// Writes a file that the pods find in [`SHARED`].
    pub(super) fn share(&self, name: &str, text: &str) {
        self.shared.write(name, text);
    }

    /// Whether a pod has left a file of that name, or several with that ending.
    pub(super) fn count_shared(&self, ending: &str) -> usize {
        let files = std::fs::read_dir(self.shared.path("")).expect("the folder can be read");
        let names = files.filter_map(|file| file.ok()?.file_name().into_string().ok());
        names.filter(|name| name.ends_with(ending)).count()
    }

    /// Waits for the end of all pods, and returns what each has printed.
    #[track_caller]
    pub(super) fn finish(&self) -> Vec<String> {
        let deadline = Instant::now() + TEST_TIMEOUT + TEST_TIMEOUT;
        let ended = loop {
            if let Some(ended) = self.ended() {
                break ended;
            }
            assert!(Instant::now() < deadline, "the pods do not end");
            std::thread::park_timeout(LOOK_PAUSE);
        };
        let pods = self.namespace.list("pods", "job-name=tests");
        let log = |pod: &Value| {
            let name = pod["metadata"]["name"].as_str().expect("a name");
            let log = std::fs::read(self.shared.path(&format!("{name}{LOG}")));
            let log = log.unwrap_or_else(|error| format!("{name} left no log: {error}").into());
            String::from_utf8_lossy(&log).into_owned()
        };
        let logs: Vec<String> = pods.iter().map(log).collect();
        assert!(ended, "{}", logs.join("\n"));
        logs
    }

    /// Whether the Job has succeeded, once it has ended. Asked without kubectl, which takes a tenth of a
    /// second of a processor each time.
    fn ended(&self) -> Option<bool> {
        let namespace = &self.namespace.name;
        let path = format!("/apis/batch/v1/namespaces/{namespace}/jobs/tests");
        let job = self.cluster.api().get(&path).expect(200);
        let conditions = job["status"]["conditions"].as_array()?;
        let holds = |word: &str| {
            let mut conditions = conditions.iter();
            conditions.any(|it| it["type"] == word && it["status"] == "True")
        };
        (holds("Complete") || holds("Failed")).then(|| holds("Complete"))
    }

    /// A shell leads what the program prints to its file; the libraries of both lie where the linker looks
    /// for them.
    fn job(
        &self,
        program: &Path,
        arguments: &[&str],
        pods: usize,
        environment: &[(&str, &str)],
    ) -> Value {
        let mounts = [
            ("/tests/program", program),
            (KUBECONFIG, self.cluster.kubeconfig.as_path()),
            ("/bin/sh", Path::new("/bin/sh")),
            ("/lib", Path::new("/lib")),
            ("/lib64", Path::new("/lib64")),
            (SHARED, &self.shared.path("")),
        ];
        let command = format!("exec >{SHARED}/$HOSTNAME{LOG} 2>&1 && exec /tests/program \"$@\"");
        let command = [&["/bin/sh", "-c", &command, "sh"], arguments].concat();
        let name = |at: &str| at.trim_start_matches('/').replace('/', "-");
        let volumes =
            mounts.map(|(at, path)| json!({"name": name(at), "hostPath": {"path": path}}));
        let mounted = mounts
            .map(|(at, _)| json!({"name": name(at), "mountPath": at, "readOnly": at != SHARED}));
        let env: Vec<Value> = environment
            .iter()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "tests"},
            "spec": {
                "parallelism": pods, "completions": pods, "backoffLimit": 0,
                "activeDeadlineSeconds": TEST_TIMEOUT.as_secs(),
                "template": {"spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "automountServiceAccountToken": false,
                    "containers": [{
                        "name": "tests",
                        "image": self.cluster.fact("CLUSTER_DEMO_IMAGE"),
                        "imagePullPolicy": "Never",
                        "command": command,
                        "env": env,
                        // The kubeconfig is root's alone.
                        "securityContext": {"runAsUser": 0},
                        "volumeMounts": mounted,
                    }],
                    "volumes": volumes,
                }},
            },
        })
    }
}
