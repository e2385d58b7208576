//! `fake_kube`: a Kubernetes API server in memory, for tests and the sandbox.
//!
//! It is strict where the service depends on the real API server. It is independent of the service:
//! it stores raw JSON, parses selectors itself, and must not use any type of `config_controller`.
//! Otherwise a wrong field name would be wrong on both sides and pass. `it/conformance.rs` checks
//! the behaviour that the service relies on, always against this fake, and on request against a
//! real cluster.
//!
//! | module | pure | what |
//! |---|---|---|
//! | `cluster` | yes | objects, versions, history, compaction, selectors, validation |
//! | `dynamics` | yes | Job controller, scheduler, kubelet, garbage collector |
//! | `faults` | yes | faults, set by a test or drawn from a seed |
//! | `access` | yes | tokens, RBAC from our own Role |
//! | `quota` | yes | a quota on Jobs, which frees late |
//! | `logs` | yes | logs of containers |
//! | `api` | yes | one request, processed by all of these |
//! | `clock` | yes | the fake's time |
//! | `http` | no | sockets, threads, TLS |
//!
//! # Modelled
//! configmaps, pods, events, namespaces (`v1`), jobs (`batch/v1`) and leases
//! (`coordination.k8s.io/v1`): create, get, list (selectors, pages of one
//! version, exact versions), watch (selectors, bookmarks, 410), update, merge
//! patch, JSON patch, delete (preconditions, grace, propagation), the `status`
//! subresource, dry run; one version counter; 4xx as `Status` objects with the
//! real server's messages; RBAC; TokenReviews; Jobs with one pod at a time, also
//! suspended, with deadlines and TTLs, or managed by another controller.
//!
//! # Not modelled
//! - Other kinds, other versions, discovery, OpenAPI, exec,
//!   deletecollection (405), tables, protobuf, CBOR.
//! - Other patches (415); server-side apply. Of JSON patches `move` and `copy`
//!   (422), and indexes that count from the end of a list.
//! - `managedFields`; unknown fields are stored. Only what `api/fields.rs` and
//!   `cluster/validate.rs` name is validated.
//! - `sendInitialEvents` (400). A watch's `resourceVersion` from the future waits
//!   silently.
//! - Compaction by time: it is by the number of writes, or requested by a test.
//! - Namespaces hold no `kube-root-ca.crt`; their deletion is not graceful.
//! - Jobs: one completion, one pod at a time; no Indexed Jobs, no
//!   `successPolicy`; `podFailurePolicy` only as `Ignore` on pod conditions.
//! - Pods: all containers of a pod start, become ready and end together; init
//!   containers succeed at once; images are ignored; probes, volumes,
//!   resources and nodes do not exist; every pod is on one node.
//! - A ResourceQuota on pods, Pod Security or a webhook is a fault or a rejection
//!   that a test requests; a quota on Jobs is set by a test. None is an object.
//! - Fields that we do not read: `observedGeneration`, `hostIPs`, default
//!   tolerations and volumes of a pod, `resources` of its status.
//! - Events: one for each pod that a Job creates, or fails to create; of the
//!   kubelet those that a test requests. They stay until they are deleted.

// Included by several targets; each of them uses a part of it.
#![allow(dead_code)]

pub(crate) mod access;
pub(crate) mod api;
pub(crate) mod clock;
pub(crate) mod cluster;
pub(crate) mod dynamics;
pub(crate) mod faults;
pub(crate) mod http;
pub(crate) mod logs;
pub(crate) mod quota;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;

use access::Access;
use api::{Logged, Lost, Model};
use clock::Clock;
use cluster::resource::Resource;
use cluster::status::Refusal;
use cluster::write::{DeleteOptions, Part};
use cluster::{Backup, Cluster, Key};
use dynamics::pod_script::{PodScript, PodScriptRule};
use dynamics::pods::PodMove;
use dynamics::{Dynamics, PodAddresses, PodChange, PodHook};
use faults::{FaultPlan, FaultRule};
use http::tls::Tls;
use http::{Server, Shared};

/// Default number of writes that the history keeps.
const HISTORY_DEFAULT: usize = 100_000;

/// A running fake. It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct FakeKube {
    shared: Arc<Shared>,
    server: Server,
}

/// The settings of a fake.
pub(crate) struct Builder {
    clock: Clock,
    history_max: usize,
    auto: bool,
    bookmark_every: Duration,
    pod_script: PodScript,
    addresses: PodAddresses,
    hook: Option<PodHook>,
    access: Access,
    namespaces: Vec<String>,
    tls: bool,
    port: u16,
}

impl FakeKube {
    /// An empty fake with the machine's clock, controllers that run automatically,
    /// without authentication and TLS.
    pub(crate) fn builder() -> Builder {
        Builder {
            clock: Clock::system(),
            history_max: HISTORY_DEFAULT,
            auto: true,
            bookmark_every: Duration::from_secs(60),
            pod_script: PodScript::default(),
            addresses: PodAddresses::Each(127, 88),
            hook: None,
            access: Access::open(),
            namespaces: Vec::new(),
            tls: false,
            port: 0,
        }
    }
}

impl Builder {
    /// Uses a clock that only [`FakeKube::advance`] moves.
    pub(crate) fn manual_clock(mut self) -> Self {
        self.clock = Clock::manual();
        self
    }

    /// Runs controllers only in [`FakeKube::step`] and [`FakeKube::settle`].
    pub(crate) fn by_hand(mut self) -> Self {
        self.auto = false;
        self
    }

    /// Keeps only this many writes: watches from older versions get 410.
    pub(crate) fn history_max(mut self, writes: usize) -> Self {
        self.history_max = writes;
        self
    }

    /// The interval between two bookmarks of a watch (a minute in the real API server).
    pub(crate) fn bookmark_every(mut self, pause: Duration) -> Self {
        self.bookmark_every = pause;
        self
    }

    /// The script of pods without annotations or rules of their own.
    pub(crate) fn pod_script(mut self, pod_script: PodScript) -> Self {
        self.pod_script = pod_script;
        self
    }

    /// The addresses of pods; by default each gets its own of 127.88.0.0/16.
    pub(crate) fn pod_addresses(mut self, addresses: PodAddresses) -> Self {
        self.addresses = addresses;
        self
    }

    /// A hook that is called when a pod starts to run (before any client can see it)
    /// and when it ends. It must not call the fake.
    pub(crate) fn on_pod(mut self, hook: impl FnMut(&PodChange) + Send + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Creates this namespace (`default` always exists).
    pub(crate) fn namespace(mut self, name: &str) -> Self {
        self.namespaces.push(name.to_owned());
        self
    }

    /// Requires a token of every caller.
    pub(crate) fn require_token(mut self) -> Self {
        self.access.require_token();
        self
    }

    /// Gives the service account in `namespace` the rules of the Roles in a YAML
    /// text, and no others; requires a token of every caller.
    pub(crate) fn role(mut self, namespace: &str, yaml: &str) -> Self {
        let user = format!("system:serviceaccount:{namespace}:config-controller");
        self.access.set_service_user(&user);
        self.access
            .add_roles(namespace, yaml)
            .expect("the role given to the fake is valid YAML with a Role in it");
        self
    }

    /// Uses TLS, with a CA made for this fake alone.
    pub(crate) fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Listens on this port instead of a free one.
    pub(crate) fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// The model alone, without sockets and threads: for simulations.
    pub(crate) fn model(self) -> Model {
        let mut cluster = Cluster::new(self.clock, self.history_max);
        for namespace in &self.namespaces {
            cluster.ensure_namespace(namespace);
        }
        Model {
            cluster,
            dynamics: Dynamics::new(self.addresses, self.pod_script, self.hook),
            faults: FaultPlan::default(),
            access: self.access,
            journal: Vec::new(),
            lost: Vec::new(),
            quota: None,
            logs: logs::Logs::default(),
        }
    }

    /// Starts it.
    pub(crate) fn start(self) -> io::Result<FakeKube> {
        let tls = self.tls.then(Tls::generate);
        let (auto, bookmark_every, port) = (self.auto, self.bookmark_every, self.port);
        let shared = Shared::new(self.model(), auto, bookmark_every);
        let server = Server::start(Arc::clone(&shared), tls, port)?;
        Ok(FakeKube { shared, server })
    }
}

/// Addresses and credentials.
impl FakeKube {
    /// `http://127.0.0.1:<port>`, or https.
    pub(crate) fn url(&self) -> String {
        http::url(self.server.address(), self.server.tls().is_some())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The certificates, if it uses TLS.
    pub(crate) fn tls(&self) -> Option<&Tls> {
        self.server.tls()
    }

    /// The token of the service account, with the permissions of the roles.
    pub(crate) fn token(&self) -> String {
        self.shared.lock().access.service_token().to_owned()
    }

    /// The token that may do everything.
    pub(crate) fn admin_token(&self) -> String {
        self.shared.lock().access.admin_token().to_owned()
    }

    /// Makes the service account's token invalid immediately; returns the new one.
    pub(crate) fn rotate_token(&self) -> String {
        self.shared.with(|model| model.access.rotate())
    }

    /// Adds a token of this user for this audience, which TokenReviews accept.
    pub(crate) fn add_token(&self, token: &str, user: &str, audience: &str) {
        self.shared
            .with(|model| model.access.add_token(token, user, audience));
    }

    /// Makes all tokens of this user invalid.
    pub(crate) fn remove_tokens(&self, user: &str) {
        self.shared.with(|model| model.access.remove_tokens(user));
    }

    /// Binds the service account to system:auth-delegator, or no longer.
    pub(crate) fn set_may_review(&self, may: bool) {
        self.shared.with(|model| model.access.set_may_review(may));
    }

    /// A kubeconfig for this namespace with the service account's token.
    pub(crate) fn kubeconfig(&self, namespace: &str) -> String {
        let user = format!("{{token: {}}}", self.token());
        self.kubeconfig_for(namespace, &user)
    }

    /// A kubeconfig with a client certificate that may do everything; needs TLS.
    pub(crate) fn kubeconfig_with_certificate(&self, namespace: &str) -> String {
        let tls = self.tls().expect("a client certificate needs TLS");
        let user = format!(
            "{{client-certificate-data: {}, client-key-data: {}}}",
            BASE64.encode(&tls.client_cert_pem),
            BASE64.encode(&tls.client_key_pem)
        );
        self.kubeconfig_for(namespace, &user)
    }

    /// A kubeconfig with this user, as YAML.
    pub(crate) fn kubeconfig_for(&self, namespace: &str, user: &str) -> String {
        let ca = self.tls().map_or(String::new(), |tls| {
            format!(
                ", certificate-authority-data: {}",
                BASE64.encode(&tls.ca_pem)
            )
        });
        let url = self.url();
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\n\
             clusters:\n- name: fake\n  cluster: {{server: \"{url}\"{ca}}}\n\
             users:\n- name: fake\n  user: {user}\n\
             contexts:\n- name: fake\n  context: {{cluster: fake, user: fake, namespace: {namespace}}}\n"
        )
    }
}

/// Stored objects.
impl FakeKube {
    /// Creates an object, or replaces the one of that name; its kind determines the
    /// resource. As an administrator: no RBAC, no faults, no journal.
    pub(crate) fn apply(&self, namespace: &str, object: &Value) -> Result<Arc<Value>, Refusal> {
        let resource = Resource::ALL
            .into_iter()
            .find(|r| object["kind"] == r.kind())
            .expect("an object given to the fake has a kind that the fake knows");
        let name = cluster::meta(object, "name").to_owned();
        let key = (resource, namespace.to_owned(), name);
        self.shared.with(|model| {
            if model.cluster.object(&key).is_some() {
                model
                    .cluster
                    .update(&key, object.clone(), Part::Main, false)
            } else {
                model
                    .cluster
                    .create(resource, namespace, object.clone(), false)
            }
        })
    }

    /// Like [`FakeKube::apply`], from YAML.
    pub(crate) fn apply_yaml(&self, namespace: &str, yaml: &str) -> Result<Arc<Value>, Refusal> {
        let object: Value =
            serde_yaml::from_str(yaml).expect("an object given to the fake is YAML");
        self.apply(namespace, &object)
    }

    /// The object of that name, if it exists.
    pub(crate) fn get(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Value>> {
        let key = (resource, namespace.to_owned(), name.to_owned());
        self.shared.lock().cluster.object(&key).cloned()
    }

    /// All objects of a resource, in one namespace or (`""`) in all.
    pub(crate) fn all(&self, resource: Resource, namespace: &str) -> Vec<Arc<Value>> {
        let model = self.shared.lock();
        let objects = model.cluster.objects(resource, namespace);
        objects.map(|(_, object)| Arc::clone(object)).collect()
    }

    /// Deletes an object as `kubectl delete` does: in the background, or with
    /// the given propagation policy.
    pub(crate) fn delete(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        propagation: &str,
    ) -> Result<Value, Refusal> {
        let options = DeleteOptions {
            propagation: Some(propagation.to_owned()),
            ..DeleteOptions::default()
        };
        let key = (resource, namespace.to_owned(), name.to_owned());
        self.shared
            .with(|model| model.cluster.delete(&key, &options))
    }

    /// Anything else, directly on the model.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Model) -> T) -> T {
        self.shared.with(act)
    }

    /// What etcd holds now.
    pub(crate) fn back_up(&self) -> Backup {
        self.shared.lock().cluster.back_up()
    }

    /// Restores etcd from an older copy: versions go back, and come again for other changes. Open
    /// watches stay at the versions that they have reached.
    pub(crate) fn restore(&self, backup: &Backup) {
        self.shared.with(|model| model.cluster.restore(backup));
    }

    /// From now on watches lose the events of these kinds (`MODIFIED`, `DELETED`, …) about this object.
    pub(crate) fn lose_events(&self, kinds: &'static [&'static str], name: &str) {
        let lost = Lost {
            kinds,
            name: name.to_owned(),
        };
        self.shared.with(|model| model.lost.push(lost));
    }

    /// Compacts all history: watches that lag behind get 410.
    pub(crate) fn compact(&self) {
        self.shared.with(|model| model.cluster.compact());
    }

    /// Waits until the model satisfies this, at most until the deadline; false
    /// if it never did.
    pub(crate) fn wait_until(
        &self,
        deadline: Instant,
        mut satisfied: impl FnMut(&Model) -> bool,
    ) -> bool {
        let mut model = self.shared.lock();
        loop {
            if satisfied(&model) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            model = self.shared.wait(model, left);
        }
    }
}

/// Pods and controllers.
impl FakeKube {
    /// Sets the script of a pod: by its name, its Job's name, or `*`.
    pub(crate) fn set_pod_script(&self, name: &str, pod_script: PodScript) {
        let name = name.to_owned();
        self.shared.with(|model| {
            model
                .dynamics
                .set_pod_script(PodScriptRule { name, pod_script })
        });
    }

    /// Lets the API server reject every pod with this message, or none.
    pub(crate) fn refuse_pods(&self, message: Option<&str>) {
        let message = message.map(str::to_owned);
        self.shared
            .with(|model| model.dynamics.refuse_pods(message));
    }

    /// Makes one transition of a pod, regardless of its script. Returns whether it changed.
    pub(crate) fn move_pod(&self, namespace: &str, name: &str, next: &PodMove) -> bool {
        let key: Key = (Resource::Pods, namespace.to_owned(), name.to_owned());
        self.shared.with(|model| {
            let Model {
                cluster, dynamics, ..
            } = model;
            dynamics.make_move(cluster, &key, next)
        })
    }

    /// The newest pod of a Job (by its name), live or not.
    pub(crate) fn pod_of(&self, namespace: &str, job: &str) -> Option<Arc<Value>> {
        self.all(Resource::Pods, namespace)
            .into_iter()
            .filter(|pod| pod["metadata"]["labels"]["job-name"] == job)
            .max_by_key(|pod| {
                let version = cluster::meta(pod, "resourceVersion").parse::<u64>();
                (
                    cluster::meta(pod, "creationTimestamp").to_owned(),
                    version.unwrap_or(0),
                )
            })
    }

    /// One round of all controllers. Returns whether anything happened.
    pub(crate) fn step(&self) -> bool {
        self.shared.with(|model| {
            let Model {
                cluster, dynamics, ..
            } = model;
            dynamics.step(cluster)
        })
    }

    /// Rounds until nothing more is due now.
    pub(crate) fn settle(&self) {
        self.shared.with(|model| {
            let Model {
                cluster, dynamics, ..
            } = model;
            dynamics.settle(cluster);
        });
    }

    /// Advances the clock, also one that runs, so that delays, deadlines and TTLs expire
    /// sooner. Manual controllers react only in [`FakeKube::settle`].
    pub(crate) fn advance(&self, by: Duration) {
        self.shared.with(|model| model.cluster.clock().advance(by));
    }

    /// Sets whether the controllers run automatically.
    pub(crate) fn set_auto(&self, auto: bool) {
        self.shared.auto.store(auto, Ordering::SeqCst);
        self.shared.with(|_| ());
    }
}

/// Faults.
impl FakeKube {
    /// Adds a fault.
    pub(crate) fn fault(&self, rule: FaultRule) {
        self.shared.with(|model| model.faults.add(rule));
    }

    /// Draws faults from a seed for `per_thousand` of a thousand requests.
    pub(crate) fn seed_faults(&self, seed: u64, per_thousand: u64) {
        self.shared
            .with(|model| model.faults.seed(seed, per_thousand));
    }

    /// Ends all faults.
    pub(crate) fn clear_faults(&self) {
        self.shared.with(|model| model.faults.clear());
    }

    /// Revokes all permissions of the service account, or grants those of a role.
    pub(crate) fn set_role(&self, namespace: &str, yaml: Option<&str>) {
        self.shared.with(|model| {
            model.access.clear_roles();
            let user = format!("system:serviceaccount:{namespace}:config-controller");
            model.access.set_service_user(&user);
            if let Some(yaml) = yaml {
                let added = model.access.add_roles(namespace, yaml);
                added.expect("the role given to the fake is valid YAML with a Role in it");
            }
        });
    }

    /// Makes the API server unreachable: new connections are refused, open ones are cut.
    pub(crate) fn stop_listening(&self) {
        self.server.stop();
    }

    /// Makes it reachable again, on the same port, with all stored objects.
    pub(crate) fn start_listening(&self) {
        self.server
            .restart()
            .expect("the fake gets its own port back");
    }

    /// Cuts all open connections; new ones are accepted.
    pub(crate) fn cut_connections(&self) {
        self.server.cut_connections();
    }
}

/// Logged requests.
impl FakeKube {
    /// All requests since the start or the last [`FakeKube::clear_requests`].
    pub(crate) fn requests(&self) -> Vec<Logged> {
        self.shared.lock().journal.clone()
    }

    /// How many requests there were with this verb (as RBAC names it) and this
    /// resource (plural); `*` is any. A list of one object, which only asks for the version, is none; a dry
    /// run has a verb of its own and is in no `*`.
    pub(crate) fn count(&self, verb: &str, resource: &str) -> usize {
        let model = self.shared.lock();
        let is =
            |wanted: &str, text: &str| wanted == text || (wanted == "*" && text != api::DRY_RUN);
        let counted = model
            .journal
            .iter()
            .filter(|r| is(verb, &r.verb) && is(resource, &r.resource))
            .filter(|r| verb != "list" || r.limit != 1);
        counted.count()
    }

    /// The most dry runs that were in flight at the same time.
    pub(crate) fn most_dry_runs(&self) -> usize {
        self.shared.most_dry_runs.load(Ordering::SeqCst)
    }

    /// Clears the log of requests.
    pub(crate) fn clear_requests(&self) {
        self.shared.with(|model| model.journal.clear());
    }
}
