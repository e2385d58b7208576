//! What we rely on from the API server, as tests. Each check runs against the
//! fake always, and against a real cluster where one is asked for (`-- --include-ignored`), in a
//! namespace of its own. Where the two differ, the fake is wrong.
//!
//! | module | area |
//! |---|---|
//! | `writes` | versions, create, update, merge patch, validation |
//! | `reads` | selectors, lists, pages |
//! | `watches` | order, selectors, bookmarks, old versions |
//! | `deletes` | propagation, preconditions, finalizers, grace |
//! | `jobs` | what becomes of a Job: pods, phases, ends, evictions |
//! | `leases` | Leases: the same operations, and their owners |
//! | `logs` | logs of containers, and what is refused |
//! | `suspension` | suspended Jobs, deadlines, TTLs: what the controllers write, in which order |
//! | `patches` | JSON patches |
//! | `access` | tokens, RBAC, quotas: which caller gets which 4xx |
//! | `dry_runs` | what a dry run finds and what it does not, and its warnings |
//! | `faults` | what only the fake can be made to do |
//!
//! Templates here are for both environments: the real node runs the demo image by its
//! environment, the fake goes by the annotations of `dynamics/pod_script.rs`.

mod access;
mod deletes;
mod dry_runs;
mod faults;
mod jobs;
mod leases;
mod logs;
mod patches;
mod reads;
mod suspension;
mod watches;
mod writes;

use std::collections::BTreeMap;
use std::sync::RwLockReadGuard;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake_kube::FakeKube;
use crate::raw_kube::RawKube;

/// How long a check waits for a condition.
const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs each named check on the fake and on a cluster.
macro_rules! checks {
    ($($name:ident),+ $(,)?) => {
        mod on_fake {
            $(#[test]
            fn $name() {
                super::$name(&crate::conformance::TestEnvironment::fake());
            })+
        }
        mod on_cluster {
            $(#[test]
            #[ignore = "needs a cluster"]
            fn $name() {
                super::$name(&crate::conformance::TestEnvironment::cluster());
            })+
        }
    };
}
use checks;

/// A namespace on an API server, for one check.
struct TestEnvironment {
    /// As an administrator.
    api: RawKube,
    namespace: String,
    fake: Option<FakeKube>,
    /// On a cluster: tests that must run alone wait until this is dropped.
    others: Option<RwLockReadGuard<'static, ()>>,
}

impl TestEnvironment {
    fn fake() -> Self {
        let fake = FakeKube::builder().start().expect("the fake starts");
        let api = RawKube::plain(&fake.url(), Some(&fake.admin_token()));
        Self::in_new_namespace(api, Some(fake))
    }

    fn cluster() -> Self {
        let cluster = crate::cluster::shared();
        let others = crate::cluster::beside_others();
        let mut environment = Self::in_new_namespace(cluster.api(), None);
        environment.others = Some(others);
        // Pods are refused until the controllers have made this.
        let account = format!(
            "/api/v1/namespaces/{}/serviceaccounts",
            environment.namespace
        );
        environment.wait_at(&account, "", |accounts| accounts.contains_key("default"));
        environment
    }

    fn in_new_namespace(api: RawKube, fake: Option<FakeKube>) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::SeqCst);
        let namespace = format!("conformance-{}-{count}", std::process::id());
        let body = json!({"metadata": {"name": namespace}});
        api.post("/api/v1/namespaces", &body).expect(201);
        Self {
            api,
            namespace,
            fake,
            others: None,
        }
    }

    /// Lets a pause be over sooner; a real cluster takes its time.
    fn skip(&self, by: Duration) {
        if let Some(fake) = &self.fake {
            fake.advance(by);
        }
    }

    /// The path of a collection of this namespace.
    fn all(&self, plural: &str) -> String {
        let group = match plural {
            "jobs" => "/apis/batch/v1",
            "leases" => "/apis/coordination.k8s.io/v1",
            "roles" | "rolebindings" => "/apis/rbac.authorization.k8s.io/v1",
            _ => "/api/v1",
        };
        format!("{group}/namespaces/{}/{plural}", self.namespace)
    }

    /// The path of an object of this namespace.
    fn one(&self, plural: &str, name: &str) -> String {
        format!("{}/{name}", self.all(plural))
    }

    /// Makes an object and returns it.
    #[track_caller]
    fn make(&self, plural: &str, object: &Value) -> Value {
        self.api.post(&self.all(plural), object).expect(201)
    }

    /// Makes a ConfigMap with these labels.
    #[track_caller]
    fn config_map(&self, name: &str, labels: &Value) -> Value {
        let object = json!({"metadata": {"name": name, "labels": labels}, "data": {"k": "v"}});
        self.make("configmaps", &object)
    }

    /// A list, which must be given.
    #[track_caller]
    fn list(&self, plural: &str, query: &str) -> Value {
        self.api
            .get(&format!("{}?{query}", self.all(plural)))
            .expect(200)
    }

    /// Follows a collection until what is in it satisfies the check, and returns
    /// that by name.
    #[track_caller]
    fn wait(
        &self,
        plural: &str,
        query: &str,
        satisfied: impl FnMut(&BTreeMap<String, Value>) -> bool,
    ) -> BTreeMap<String, Value> {
        self.wait_at(&self.all(plural), query, satisfied)
    }

    #[track_caller]
    fn wait_at(
        &self,
        path: &str,
        query: &str,
        mut satisfied: impl FnMut(&BTreeMap<String, Value>) -> bool,
    ) -> BTreeMap<String, Value> {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let list = self.api.get(&format!("{path}?{query}")).expect(200);
        let items = list["items"].as_array().expect("a list has items");
        let mut state: BTreeMap<String, Value> = items
            .iter()
            .map(|o| (name(o).to_owned(), o.clone()))
            .collect();
        let mut version = version(&list).to_owned();
        loop {
            if satisfied(&state) {
                return state;
            }
            let left = deadline.saturating_duration_since(Instant::now()).as_secs();
            assert!(left > 0, "waited in vain; last seen: {state:#?}");
            let from = format!("{path}?{query}&watch=1&resourceVersion={version}");
            for event in self.api.watch(&format!("{from}&timeoutSeconds={left}")) {
                let event = event.expect("whole lines");
                let object = event["object"].clone();
                version = self::version(&object).to_owned();
                match event["type"].as_str() {
                    Some("DELETED") => state.remove(name(&object)),
                    Some("ADDED" | "MODIFIED") => state.insert(name(&object).to_owned(), object),
                    other => panic!("unexpected event {other:?}: {object}"),
                };
                if satisfied(&state) {
                    return state;
                }
            }
        }
    }

    /// Waits for one object to satisfy the check (which gets null while it is
    /// not there), and returns it.
    #[track_caller]
    fn wait_one(
        &self,
        plural: &str,
        name: &str,
        mut satisfied: impl FnMut(&Value) -> bool,
    ) -> Value {
        let query = format!("fieldSelector=metadata.name%3D{name}");
        let found = self.wait(plural, &query, |state| {
            satisfied(state.get(name).unwrap_or(&Value::Null))
        });
        found.into_values().next().unwrap_or(Value::Null)
    }

    /// Waits until a pod of this Job satisfies the check, and returns it.
    #[track_caller]
    fn wait_pod(&self, job: &str, mut satisfied: impl FnMut(&Value) -> bool) -> Value {
        let query = format!("labelSelector=job-name%3D{job}");
        let mut found = None;
        self.wait("pods", &query, |pods| {
            found = pods.values().find(|pod| satisfied(pod)).cloned();
            found.is_some()
        });
        found.expect("the check was satisfied by it")
    }
}

impl Drop for TestEnvironment {
    fn drop(&mut self) {
        let path = format!("/api/v1/namespaces/{}", self.namespace);
        // A check that failed because of the server must fail with its own words.
        let _ = self.api.try_send("DELETE", &path, "", "");
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or("")
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or("")
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap_or("")
}

fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    let mut all = object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten();
    all.find(|c| c["type"] == kind).unwrap_or(&Value::Null)
}

fn is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind)["status"] == "True"
}

/// The names in a list, in its order.
fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("a list has items");
    items.iter().map(name).collect()
}

/// A Job as the service makes it, changed by a merge patch of its spec.
fn job(name: &str, change: &Value) -> Value {
    let mut job = json!({
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name},
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": {}},
                "spec": {
                    "restartPolicy": "Never",
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "main",
                        "image": "config-controller-demo:1",
                        "imagePullPolicy": "IfNotPresent",
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "env": [{"name": "INSTANCE", "value": name}],
                    }],
                },
            },
        },
    });
    merge(&mut job["spec"], change);
    job
}

/// The change of a Job: its container prints a word and exits with this code.
fn exits(code: u8) -> Value {
    let code = code.to_string();
    let mut change = job("exits", &json!({}))["spec"].clone();
    change["template"]["metadata"]["annotations"] =
        json!({"fake-kube/exit-code": code, "fake-kube/exit-message": "farewell"});
    change["template"]["spec"]["containers"][0]["env"] = json!([
        {"name": "EXIT_CODE", "value": code},
        {"name": "EXIT_MESSAGE", "value": "farewell"},
    ]);
    change
}

fn merge(target: &mut Value, change: &Value) {
    match change {
        Value::Object(changes) => {
            for (key, value) in changes {
                merge(&mut target[key.as_str()], value);
            }
        }
        other => *target = other.clone(),
    }
}
