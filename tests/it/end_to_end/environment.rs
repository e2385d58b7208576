//! A namespace for one test, with our manifests in it, seen with an administrator's eyes.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::RwLockReadGuard;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::program::{PATIENT, Program};
use crate::cluster::{self, Cluster};
use crate::harness::PREFIX;
use crate::raw_kube::{RawKube, server_and_ca};

/// A namespace with our service account, Role and demo templates.
#[derive(Debug)]
pub(crate) struct TestEnvironment<'a> {
    pub(super) cluster: &'a Cluster,
    /// As an administrator.
    pub(super) api: RawKube,
    pub(crate) namespace: String,
    /// For the files of this test.
    pub(super) folder: PathBuf,
    /// Tests that must be alone wait until this is dropped.
    others: Option<RwLockReadGuard<'static, ()>>,
}

impl TestEnvironment<'static> {
    /// A new namespace on the shared cluster, for a test that others may run beside.
    #[track_caller]
    pub(crate) fn shared() -> Self {
        let cluster = cluster::shared();
        let others = cluster::beside_others();
        let mut environment = Self::new(cluster);
        environment.others = Some(others);
        environment
    }
}

impl<'a> TestEnvironment<'a> {
    /// A new namespace, with the manifests of `manifests/base` (without the Deployment) and
    /// the app types of `manifests/demo`.
    #[track_caller]
    pub(crate) fn new(cluster: &'a Cluster) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::SeqCst);
        let namespace = format!("e2e-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(format!("config-controller-{namespace}"));
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        let environment = Self {
            cluster,
            api: cluster.api(),
            namespace,
            folder,
            others: None,
        };
        environment.kubectl(&["create", "namespace", &environment.namespace]);
        let manifests = concat!(env!("CARGO_MANIFEST_DIR"), "/manifests");
        let files = ["service-account", "role", "role-binding"];
        let mut apply = vec![
            "apply".to_owned(),
            format!("--filename={manifests}/demo/apps.yaml"),
        ];
        apply.extend(files.map(|file| format!("--filename={manifests}/base/{file}.yaml")));
        environment.kubectl(&apply.iter().map(String::as_str).collect::<Vec<_>>());
        environment
    }

    /// Runs kubectl in this namespace, and returns what it prints.
    #[track_caller]
    pub(super) fn kubectl(&self, arguments: &[&str]) -> String {
        let namespace = ["--namespace", &self.namespace];
        self.cluster.kubectl(&[&namespace, arguments].concat())
    }

    /// A token of our service account.
    #[track_caller]
    pub(super) fn token(&self) -> String {
        self.kubectl(&["create", "token", "config-controller"])
    }

    /// A kubeconfig whose user has that token in a file; `server` and `ca` where they
    /// are not the cluster's.
    #[track_caller]
    pub(super) fn kubeconfig(
        &self,
        token: &str,
        server: Option<&str>,
        ca: Option<&str>,
    ) -> PathBuf {
        let (real_server, real_ca) = server_and_ca(&self.cluster.kubeconfig_text());
        let write = |name: &str, text: &str| {
            let path = self.folder.join(name);
            std::fs::write(&path, text).expect("the file can be written");
            path
        };
        write("token", token);
        write("ca.crt", ca.unwrap_or(&real_ca));
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {
                "cluster": "test", "user": "test", "namespace": self.namespace}}],
            "clusters": [{"name": "test", "cluster": {
                "server": server.unwrap_or(&real_server), "certificate-authority": "ca.crt"}}],
            "users": [{"name": "test", "user": {"tokenFile": "token"}}],
        });
        write("kubeconfig", &config.to_string())
    }

    /// Our program, with a token of our service account, once it is ready.
    #[track_caller]
    pub(crate) fn program(&self) -> Program {
        let kubeconfig = self.kubeconfig(&self.token(), None, None);
        Program::start_ready(&kubeconfig, &[])
    }

    /// Replicas with long budgets, so that a slow machine is no failure of an instance.
    #[track_caller]
    pub(super) fn replicas<const COUNT: usize>(&self) -> [Program; COUNT] {
        let kubeconfig = self.kubeconfig(&self.token(), None, None);
        [(); COUNT].map(|()| Program::start_ready(&kubeconfig, PATIENT))
    }

    /// The path of a collection of this namespace.
    pub(super) fn all(&self, plural: &str) -> String {
        let group = match plural {
            "jobs" => "apis/batch/v1",
            "leases" => "apis/coordination.k8s.io/v1",
            _ => "api/v1",
        };
        format!("/{group}/namespaces/{}/{plural}", self.namespace)
    }

    /// All objects of a kind.
    #[track_caller]
    pub(super) fn list(&self, plural: &str) -> Vec<Value> {
        let mut list = self.api.get(&self.all(plural)).expect(200);
        let Value::Array(items) = list["items"].take() else {
            panic!("a list has items");
        };
        items
    }

    /// Puts a template into a ConfigMap of its own, in place of what that held.
    #[track_caller]
    pub(super) fn offer(&self, config_map: &str, app_type: &str, template: &str) {
        self.offer_with(config_map, app_type, template, &[]);
    }

    /// The same, with these settings of its Jobs.
    #[track_caller]
    pub(super) fn offer_with(
        &self,
        config_map: &str,
        app_type: &str,
        template: &str,
        settings: &[(&str, &str)],
    ) {
        let settings: BTreeMap<String, &str> = settings
            .iter()
            .map(|(name, value)| (format!("{PREFIX}{name}"), *value))
            .collect();
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": config_map,
                "labels": {format!("{PREFIX}template"): "true"},
                "annotations": settings,
            },
            "data": {format!("{app_type}.yaml"): template},
        });
        let path = self.all("configmaps");
        let got = self.api.post(&path, &object);
        if got.reason() == "AlreadyExists" {
            self.api
                .put(&format!("{path}/{config_map}"), &object)
                .expect(200);
        } else {
            got.expect(201);
        }
    }

    /// Makes a Job from a template without our help.
    #[track_caller]
    pub(super) fn make_job(&self, name: &str, template: &str) {
        let template: Value = serde_yaml::from_str(template).expect("a template is YAML");
        let job = json!({"metadata": {"name": name}, "spec": {"template": template}});
        self.api.post(&self.all("jobs"), &job).expect(201);
    }

    /// Whether there is a Job of that name.
    #[track_caller]
    pub(super) fn has_job(&self, name: &str) -> bool {
        let jobs = self.list("jobs");
        jobs.iter().any(|job| job["metadata"]["name"] == name)
    }

    /// Whether a pod of that Job runs.
    #[track_caller]
    pub(super) fn is_running(&self, job: &str) -> bool {
        let pods = self.list("pods");
        let mut own = pods
            .iter()
            .filter(|pod| pod["metadata"]["labels"]["job-name"] == job);
        own.any(|pod| pod["status"]["phase"] == "Running")
    }

    /// The UID of a Job.
    #[track_caller]
    pub(super) fn job_uid(&self, name: &str) -> String {
        let job = self
            .api
            .get(&format!("{}/{name}", self.all("jobs")))
            .expect(200);
        text(&job["metadata"]["uid"])
    }

    /// The UID of the Job whose pod has that address.
    #[track_caller]
    pub(super) fn owner_of(&self, ip: IpAddr) -> String {
        let pods = self.list("pods");
        let pod = pods
            .iter()
            .find(|pod| pod["status"]["podIP"] == ip.to_string());
        let pod = pod.unwrap_or_else(|| panic!("no pod has the address {ip}"));
        text(&pod["metadata"]["ownerReferences"][0]["uid"])
    }

    /// Every event of a kind since that version of a list.
    #[track_caller]
    pub(super) fn events_since(&self, plural: &str, version: &str) -> Vec<Value> {
        let query = format!("watch=1&resourceVersion={version}&timeoutSeconds=2");
        let events = self.api.watch(&format!("{}?{query}", self.all(plural)));
        events.map(|event| event.expect("whole lines")).collect()
    }

    /// The version of the state of a kind now, for [`TestEnvironment::events_since`].
    #[track_caller]
    pub(super) fn version(&self, plural: &str) -> String {
        text(&self.api.get(&self.all(plural)).expect(200)["metadata"]["resourceVersion"])
    }
}

impl Drop for TestEnvironment<'_> {
    fn drop(&mut self) {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        // A test that failed because of the server must fail with its own words.
        let _ = self.api.try_send("DELETE", &path, "", "");
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A string of an object.
#[track_caller]
pub(super) fn text(value: &Value) -> String {
    value.as_str().expect("it is a string").to_owned()
}

/// A template of pods that run on the stand-in node: ready at once, with addresses that lead nowhere.
pub(super) const STAND_IN: &str = "
spec:
  nodeSelector: {kubernetes.io/hostname: stand-in-node}
  tolerations: [{key: kwok.x-k8s.io/node, operator: Exists}]
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: stand-in}
";

/// A template of real pods that serve the text `page`, with these further variables and a grace of
/// `grace_secs`.
pub(super) fn real(page: &str, grace_secs: u32, variables: &[(&str, &str)]) -> String {
    let mut env = format!("    - {{name: INSTANCE, value: \"{page}\"}}\n");
    for (name, value) in variables {
        env += &format!("    - {{name: {name}, value: \"{value}\"}}\n");
    }
    format!(
        "
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: {grace_secs}
  containers:
  - name: main
    image: config-controller-demo:1
    imagePullPolicy: IfNotPresent
    env:
{env}    readinessProbe: {{httpGet: {{path: /, port: 8080}}, periodSeconds: 1}}
"
    )
}
