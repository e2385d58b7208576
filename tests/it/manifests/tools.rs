//! Helm and kubeconform as tests use them, and namespaces to install into.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::cluster::{Cluster, output};
use crate::harness::{TemporaryFolder, repository};

/// Our chart, from the root of the repository.
pub(crate) const CHART: &str = "manifests/helm/config-controller";

/// The labels by which a namespace takes no pod that is not restricted, nor one that is merely warned of.
pub(crate) const RESTRICTED: &[&str] = &[
    "pod-security.kubernetes.io/enforce=restricted",
    "pod-security.kubernetes.io/enforce-version=latest",
];

/// How long Kubernetes may take to bring up pods, as its tools want it.
pub(crate) const TIMEOUT: &str = "--timeout=90s";

/// The APIs of the kinds that we use, as the API server calls them.
const APIS: &[&str] = &[
    "api/v1",
    "apis/apps/v1",
    "apis/batch/v1",
    "apis/networking.k8s.io/v1",
    "apis/policy/v1",
    "apis/rbac.authorization.k8s.io/v1",
];

/// The folder of helm and kubeconform, which are built where they are missing.
pub(crate) fn programs() -> &'static str {
    static PROGRAMS: OnceLock<String> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let script = repository().join("tests/cluster/chart_programs");
        output(&mut Command::new(script)).trim().to_owned()
    })
}

/// The folder with the definitions of the Prometheus Operator's kinds.
pub(crate) fn monitor_kinds() -> &'static str {
    static KINDS: OnceLock<String> = OnceLock::new();
    KINDS.get_or_init(|| {
        let script = repository().join("tests/cluster/monitor_kinds");
        output(&mut Command::new(script)).trim().to_owned()
    })
}

/// Prometheus' own checker, which comes with the Prometheus that the cluster tests need.
#[track_caller]
pub(crate) fn promtool() -> Command {
    let version = Command::new("promtool").arg("--version").output();
    version.expect("promtool can be run: it is in Debian's package prometheus");
    Command::new("promtool")
}

/// A command in the root of the repository.
fn program(name: &str) -> Command {
    let mut command = Command::new(format!("{}/{name}", programs()));
    command.current_dir(repository()).stdin(Stdio::null());
    command
}

/// Helm, with nothing of its user's.
#[derive(Debug)]
pub(crate) struct Helm {
    folder: TemporaryFolder,
    kubeconfig: PathBuf,
    version: String,
}

impl Helm {
    /// For that cluster.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let version = cluster.api().get("/version").expect(200);
        let version = version["gitVersion"]
            .as_str()
            .expect("a version")
            .to_owned();
        Self {
            folder: TemporaryFolder::new(),
            kubeconfig: cluster.kubeconfig.clone(),
            version,
        }
    }

    /// The command with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program("helm");
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.folder.path(name));
        }
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments);
        command
    }

    /// Runs it, and returns what it prints.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        output(&mut self.command(arguments))
    }

    /// Runs it though it must fail, and returns what it complains of.
    #[track_caller]
    pub(crate) fn refuse(&self, arguments: &[&str]) -> String {
        let done = self.command(arguments).output().expect("helm can be run");
        let text = String::from_utf8_lossy(&done.stdout);
        assert!(!done.status.success(), "{arguments:?}: {text}");
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    /// What the chart renders for a release with these further arguments.
    #[track_caller]
    pub(crate) fn template(&self, release: &str, arguments: &[&str]) -> String {
        self.run(&self.template_arguments(release, arguments))
    }

    /// The error of helm about invalid values.
    #[track_caller]
    pub(crate) fn refuse_template(&self, arguments: &[&str]) -> String {
        self.refuse(&self.template_arguments("portal", arguments))
    }

    fn template_arguments<'a>(&'a self, release: &'a str, arguments: &[&'a str]) -> Vec<&'a str> {
        let place = ["--namespace=apps", "--kube-version", &self.version];
        [&["template", release, CHART], &place[..], arguments].concat()
    }
}

/// kubeconform with the schemas of that cluster's API server, which takes no unknown field.
#[derive(Debug)]
pub(crate) struct Kubeconform(TemporaryFolder);

impl Kubeconform {
    /// Fetches the schemas of all kinds of the APIs that we use.
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let folder = TemporaryFolder::new();
        for api in APIS {
            let document = cluster.api().get(&format!("/openapi/v3/{api}")).expect(200);
            let mut components = document["components"].clone();
            forbid_unknown_fields(&mut components);
            let schemas = document["components"]["schemas"].as_object();
            for (name, schema) in schemas.expect("an API has schemas") {
                let kinds = &schema["x-kubernetes-group-version-kind"];
                // Kinds of several groups are those of calls (DeleteOptions), not of objects.
                let [kind] = kinds.as_array().map_or(&[][..], Vec::as_slice) else {
                    continue;
                };
                let schema = json!({
                    "$ref": format!("#/components/schemas/{name}"),
                    "components": components,
                });
                folder.write(&schema_file(kind), &schema.to_string());
            }
        }
        Self(folder)
    }

    /// Whether it takes these objects, and what it prints.
    pub(crate) fn judge(&self, yaml: &str) -> (bool, String) {
        let file = self.0.write("objects.yaml", yaml);
        let pattern = "{{ .ResourceKind }}{{ .KindSuffix }}.json";
        let done = program("kubeconform")
            .args(["-strict", "-summary", "-schema-location"])
            .arg(self.0.path(pattern))
            .arg(file)
            .output()
            .expect("kubeconform can be run");
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        (done.status.success(), text)
    }
}

/// The file that kubeconform looks a kind up in: kind, first part of the group, version.
fn schema_file(kind: &Value) -> String {
    let part = |key: &str| kind[key].as_str().unwrap_or("").to_ascii_lowercase();
    let mut name = part("kind");
    if let Some(group) = part("group").split('.').next().filter(|g| !g.is_empty()) {
        let _ = write!(name, "-{group}");
    }
    format!("{name}-{}.json", part("version"))
}

/// Lets each schema with fields take those fields alone, as the API server does when it is strict.
fn forbid_unknown_fields(components: &mut Value) {
    let schemas = components["schemas"].as_object_mut();
    for schema in schemas.expect("components are schemas").values_mut() {
        if schema["properties"].is_object() {
            schema["additionalProperties"] = json!(false);
        }
    }
}

/// A namespace that goes with its value.
#[derive(Debug)]
pub(crate) struct Namespace<'a> {
    cluster: &'a Cluster,
    pub(crate) name: String,
}

impl<'a> Namespace<'a> {
    /// A new one, with these labels.
    #[track_caller]
    pub(crate) fn new(cluster: &'a Cluster, labels: &[&str]) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::SeqCst);
        let name = format!("manifests-{}-{count}", std::process::id());
        cluster.kubectl(&["create", "namespace", &name]);
        let namespace = Self::named(cluster, &name);
        for label in labels {
            cluster.kubectl(&["label", "namespace", &namespace.name, label]);
        }
        namespace
    }

    /// One of that name, which somebody else makes.
    pub(crate) fn named(cluster: &'a Cluster, name: &str) -> Self {
        let name = name.to_owned();
        Self { cluster, name }
    }

    /// Runs kubectl in it, and returns what it prints.
    #[track_caller]
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> String {
        let own = ["--namespace", &self.name];
        self.cluster.kubectl(&[&own, arguments].concat())
    }

    /// The same where it may fail: what it prints, on both outputs.
    pub(crate) fn try_kubectl(&self, arguments: &[&str]) -> String {
        let own = ["--namespace", &self.name];
        self.cluster.try_kubectl(&[&own, arguments].concat())
    }

    /// What is there of these kinds, with these labels.
    #[track_caller]
    pub(crate) fn list(&self, kinds: &str, selector: &str) -> Vec<Value> {
        let text = self.kubectl(&["get", kinds, "--selector", selector, "--output=json"]);
        let mut list: Value = serde_json::from_str(&text).expect("kubectl prints JSON");
        match list["items"].take() {
            Value::Array(items) => items,
            other => panic!("a list has items: {other}"),
        }
    }
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        // A test that failed because of the server must fail with its own words.
        let path = format!("/api/v1/namespaces/{}", self.name);
        let _ = self.cluster.api().try_send("DELETE", &path, "", "");
    }
}
