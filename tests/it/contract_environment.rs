//! The environments of the contract's rows: a server to send requests to, and what can be seen
//! and done behind it.
//!
//! | environment | the server | its Kubernetes |
//! |---|---|---|
//! | [`OnFake`] | the service in this process | the fake |
//! | [`OnCluster`] | our program | a real one, with stand-in pods |
//! | [`AtUrl`] | whatever listens there | unknown, or read through a kubeconfig |

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::RwLockReadGuard;
use std::time::Duration;

use serde_json::{Value, json};

use super::fixture;
use super::types::{SETTINGS, TYPES};
use crate::cluster::{self, Cluster};
use crate::end_to_end::environment::TestEnvironment as Namespace;
use crate::end_to_end::program::Program;
use crate::harness::{self, Client, NAMESPACE, PREFIX};
use crate::raw_kube::RawKube;

/// What a row needs beside an HTTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// To see the objects in Kubernetes.
    Objects,
    /// The app types of [`super::types`].
    Types,
    /// To make and change objects beside the server.
    Edit,
    /// Faults, pods that move by hand, another clock, other settings.
    Fake,
}

/// A server under test, and what is behind it.
pub(super) trait TestEnvironment {
    /// Where requests go.
    fn address(&self) -> SocketAddr;

    /// A type with instances that become ready.
    fn app_type(&self) -> &str;

    /// Why this environment cannot give that; None where it can.
    fn lacks(&self, need: Need) -> Option<&'static str>;

    /// The Kubernetes behind the server, where it can be looked into.
    fn kube(&self) -> Option<&Kube>;

    /// Lets a pause be over sooner, where time can be moved.
    fn skip(&self, _by: Duration) {}
}

/// A namespace on an API server, as an administrator sees it.
#[derive(Debug)]
pub(super) struct Kube {
    api: RawKube,
    namespace: String,
}

impl Kube {
    fn all(&self, plural: &str) -> String {
        let group = match plural {
            "jobs" => "apis/batch/v1",
            _ => "api/v1",
        };
        format!("/{group}/namespaces/{}/{plural}", self.namespace)
    }

    fn one(&self, plural: &str, name: &str) -> String {
        format!("{}/{name}", self.all(plural))
    }

    /// All objects of a kind.
    pub(super) fn list(&self, plural: &str) -> Vec<Value> {
        let mut list = self.api.get(&self.all(plural)).expect(200);
        match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        }
    }

    /// The object of that name, if it is there.
    pub(super) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        let got = self.api.get(&self.one(plural, name));
        (got.code != 404).then(|| got.expect(200))
    }

    /// The newest pod of a Job.
    pub(super) fn pod_of(&self, job: &str) -> Option<Value> {
        let pods = self.list("pods").into_iter();
        pods.filter(|pod| pod["metadata"]["labels"]["job-name"] == job)
            .max_by_key(|pod| pod["metadata"]["creationTimestamp"].to_string())
    }

    /// Makes an object, in place of what had its name.
    pub(super) fn put(&self, plural: &str, object: &Value) {
        let made = self.api.post(&self.all(plural), object);
        if made.reason() == "AlreadyExists" {
            let name = object["metadata"]["name"].as_str().expect("it has a name");
            self.api.put(&self.one(plural, name), object).expect(200);
        } else {
            made.expect(201);
        }
    }

    /// Changes an object by a JSON merge patch.
    pub(super) fn patch(&self, plural: &str, name: &str, patch: &Value) {
        self.api.patch(&self.one(plural, name), patch).expect(200);
    }

    /// Deletes an object, if it is there.
    pub(super) fn delete(&self, plural: &str, name: &str) {
        let options = json!({"gracePeriodSeconds": 0});
        self.api.delete(&self.one(plural, name), &options);
    }

    /// Makes or replaces a ConfigMap that offers templates.
    pub(super) fn offer(&self, name: &str, data: &Value, annotations: &Value) {
        let mut object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": name,
                "labels": {format!("{PREFIX}template"): "true"},
                "annotations": annotations,
            },
        });
        if !data.is_null() {
            object["data"] = data.clone();
        }
        self.put("configmaps", &object);
    }

    /// Offers the types of the suite.
    fn offer_types(&self) {
        let mut data = json!({});
        for (name, text) in TYPES {
            data[format!("{name}.yaml")] = json!(text);
        }
        let mut annotations = json!({});
        for (app_type, setting, value) in SETTINGS {
            annotations[format!("{app_type}.{PREFIX}{setting}")] = json!(value);
        }
        self.offer("contract", &data, &annotations);
    }
}

/// The type that rows use where the suite brings its own types.
const READY: &str = "ready";

/// The service in this process over the fake.
pub(super) struct OnFake {
    service: harness::TestEnvironment,
    kube: Kube,
}

impl OnFake {
    pub(super) fn new() -> Self {
        let mut service = harness::TestEnvironment::builder().unstarted().start();
        let fake = &service.kube;
        let kube = Kube {
            api: RawKube::plain(&fake.url(), Some(&fake.admin_token())),
            namespace: NAMESPACE.to_owned(),
        };
        kube.offer_types();
        let replica = service.add_replica();
        service.wait_ready(replica);
        Self { service, kube }
    }
}

impl TestEnvironment for OnFake {
    fn address(&self) -> SocketAddr {
        self.service.address(0)
    }

    fn app_type(&self) -> &str {
        READY
    }

    fn lacks(&self, _need: Need) -> Option<&'static str> {
        None
    }

    fn kube(&self) -> Option<&Kube> {
        Some(&self.kube)
    }

    fn skip(&self, by: Duration) {
        self.service.advance(by);
    }
}

/// Our program before a real API server.
pub(super) struct OnCluster {
    program: Program,
    kube: Kube,
    // Goes after the program, and takes the namespace with it.
    _namespace: Namespace<'static>,
    _others: RwLockReadGuard<'static, ()>,
}

impl OnCluster {
    pub(super) fn new(cluster: &'static Cluster) -> Self {
        let others = cluster::beside_others();
        let namespace = Namespace::new(cluster);
        let kube = Kube {
            api: cluster.api(),
            namespace: namespace.namespace.clone(),
        };
        kube.offer_types();
        let program = namespace.program();
        Self {
            program,
            kube,
            _namespace: namespace,
            _others: others,
        }
    }
}

impl TestEnvironment for OnCluster {
    fn address(&self) -> SocketAddr {
        self.program.address()
    }

    fn app_type(&self) -> &str {
        READY
    }

    fn lacks(&self, need: Need) -> Option<&'static str> {
        let why = "it needs faults, pods moved by hand, another clock or other settings";
        (need == Need::Fake).then_some(why)
    }

    fn kube(&self) -> Option<&Kube> {
        Some(&self.kube)
    }
}

/// Any server.
pub(super) struct AtUrl {
    address: SocketAddr,
    app_type: String,
    kube: Option<Kube>,
    /// Whether the namespace is the suite's, with its types in it.
    may_edit: bool,
}

/// The default port of a server of the contract.
const PORT: u16 = 3333;

impl AtUrl {
    /// The server at that URL, with what the environment variables allow there.
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let address = resolve(url)?;
        let kube = match (variable("KUBECONFIG"), variable("CONTRACT_NAMESPACE")) {
            (Some(path), Some(namespace)) => {
                let text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("KUBECONFIG {path}: {error}"))?;
                let api = RawKube::from_kubeconfig(&text);
                Some(Kube { api, namespace })
            }
            _ => None,
        };
        let may_edit = variable("CONTRACT_EDIT").is_some_and(|value| value == "1");
        match &kube {
            Some(kube) if may_edit => kube.offer_types(),
            None if may_edit => {
                return Err("CONTRACT_EDIT needs KUBECONFIG and CONTRACT_NAMESPACE".to_owned());
            }
            _ => {}
        }
        let app_type = match variable("CONTRACT_TYPE") {
            Some(app_type) => app_type,
            None if may_edit => READY.to_owned(),
            None => offered_type(address)?,
        };
        let environment = Self {
            address,
            app_type,
            kube,
            may_edit,
        };
        environment.await_types()?;
        Ok(environment)
    }

    /// Waits until the server offers the types that were just made.
    fn await_types(&self) -> Result<(), String> {
        if !self.may_edit {
            return Ok(());
        }
        fixture::soon("the suite's types are offered", || {
            let offered = fixture::exchange(self.address, "GET", "/app", &[], "")?;
            let offered = offered.json(200)?;
            let offered = offered.as_array().cloned().unwrap_or_default();
            let lacks = |name: &str| !offered.iter().any(|app_type| app_type == name);
            match TYPES.iter().find(|(name, _)| lacks(name)) {
                Some((name, _)) => Err(format!("{name} is not offered")),
                None => Ok(()),
            }
        })
    }
}

impl TestEnvironment for AtUrl {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn app_type(&self) -> &str {
        &self.app_type
    }

    fn lacks(&self, need: Need) -> Option<&'static str> {
        match need {
            Need::Objects if self.kube.is_some() => None,
            Need::Objects => {
                Some("it looks at objects: set KUBECONFIG and CONTRACT_NAMESPACE, too")
            }
            Need::Types | Need::Edit if self.may_edit => None,
            Need::Types => Some("it needs the suite's own app types: set CONTRACT_EDIT=1, too"),
            Need::Edit => Some("it makes objects in Kubernetes: set CONTRACT_EDIT=1, too"),
            Need::Fake => {
                Some("it needs faults, pods moved by hand, another clock or other settings")
            }
        }
    }

    fn kube(&self) -> Option<&Kube> {
        self.kube.as_ref()
    }
}

/// An environment variable that is set to a text.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The address in `http://HOST[:PORT][/]`.
fn resolve(url: &str) -> Result<SocketAddr, String> {
    let wrong = |why: &str| format!("CONTRACT_URL {url:?} {why}: give http://HOST:PORT");
    let authority = url
        .strip_prefix("http://")
        .ok_or_else(|| wrong("is not plain HTTP"))?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.is_empty() || authority.contains(['/', '?', '@']) {
        return Err(wrong("is more than a host and a port"));
    }
    let has_port = authority
        .rsplit_once(':')
        .is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let authority = match has_port {
        true => authority.to_owned(),
        false => format!("{authority}:{PORT}"),
    };
    let mut found = authority
        .to_socket_addrs()
        .map_err(|error| wrong(&format!("cannot be resolved ({error})")))?;
    found.next().ok_or_else(|| wrong("has no address"))
}

/// `hello` where the server has it, else its first type.
fn offered_type(address: SocketAddr) -> Result<String, String> {
    let pending = Client::new(address).try_begin("GET", "/app", &[], "");
    let response = pending
        .and_then(harness::Pending::try_finish)
        .map_err(|error| format!("GET /app at CONTRACT_URL ({address}): {error}"))?;
    let types: Vec<String> = serde_json::from_str(&response.text).map_err(|error| {
        format!(
            "GET /app is no array of strings ({error}): {}",
            response.text
        )
    })?;
    let hello = types.iter().find(|app_type| *app_type == "hello");
    let chosen = hello.or_else(|| types.first());
    chosen.cloned().ok_or_else(|| {
        "GET /app lists no types: name one that can be started in CONTRACT_TYPE".to_owned()
    })
}

#[test]
fn urls_are_read_or_refused_with_the_reason() {
    let address = |url: &str| resolve(url).map(|address| address.to_string());
    assert_eq!(
        address("http://127.0.0.1:80").as_deref(),
        Ok("127.0.0.1:80")
    );
    assert_eq!(
        address("http://127.0.0.1/").as_deref(),
        Ok("127.0.0.1:3333")
    );
    assert_eq!(address("http://[::1]").as_deref(), Ok("[::1]:3333"));
    for (url, why) in [
        ("https://127.0.0.1", "plain HTTP"),
        ("127.0.0.1:3333", "plain HTTP"),
        ("http://127.0.0.1/app", "more than a host"),
        ("http://", "more than a host"),
    ] {
        let error = address(url).expect_err(url);
        assert!(error.contains(why), "{error}");
    }
}
