//! The harness of the behaviour tests: our service in this process, over a real
//! socket on both sides, with the fake API server behind it.
//!
//! - [`TestEnvironment`] is one fake with one or more replicas of the service. They get
//!   the rights of our own Role and no others, so a verb that it lacks fails.
//! - [`Client`] is the tests' own HTTP client; a request that waits is a [`Pending`].
//! - [`eventually`] waits for a condition. There are no other waits: nothing sleeps and then hopes.

mod clock;
mod http;
mod settings;

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use config_controller::clock::Clock;
use config_controller::config::{self, Command, Config};
use config_controller::kube::transport::HttpTransport;
use config_controller::service::{self, Service};
use serde_json::{Value, json};

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::dynamics::pods::PodMove;
use crate::fake_kube::{self, FakeKube};

pub(crate) use clock::MovableClock;
pub(crate) use http::{Client, Connection, Pending, Response};

/// How long a test waits for a condition; the machine may be busy.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The namespace of all behaviour tests.
pub(crate) const NAMESPACE: &str = "default";

/// What all our label and annotation keys begin with.
pub(crate) const PREFIX: &str = "config-controller.semafor.ch/";

/// The Role that we ship.
pub(crate) const ROLE: &str = include_str!("../../manifests/base/role.yaml");

/// The document for operators, with the tables of settings and metrics.
pub(crate) const OPERATORS: &str = include_str!("../../manifests/README.md");

/// A pod template that runs once.
pub(crate) const TEMPLATE: &str = "\
spec:
  restartPolicy: Never
  containers:
  - name: app
    image: example/app:1
    readinessProbe: {tcpSocket: {port: 8080}}
";

/// A server that may replace our service before the fake; it stops when it is dropped.
pub(crate) trait Replacement: std::fmt::Debug + Send {
    /// Where it listens.
    fn address(&self) -> SocketAddr;
}

/// Starts such a server on that fake, with the token of the service account.
pub(crate) type StartReplacement = fn(&FakeKube) -> Box<dyn Replacement>;

thread_local! {
    static INSTEAD: Cell<Option<StartReplacement>> = const { Cell::new(None) };
}

/// Runs this with another server in place of each replica that this thread starts.
pub(crate) fn with_replacement<T>(start: StartReplacement, run: impl FnOnce() -> T) -> T {
    /// Also where it panics.
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            INSTEAD.set(None);
        }
    }
    INSTEAD.set(Some(start));
    let _back = Back;
    run()
}

/// Whether it is our service that this thread starts.
pub(crate) fn is_the_service() -> bool {
    INSTEAD.get().is_none()
}

/// How long this thread waits for a condition: less where our service is replaced, since the
/// replacement is meant to fail some of them.
pub(crate) fn wait_timeout() -> Duration {
    if is_the_service() {
        TEST_TIMEOUT
    } else {
        TEST_TIMEOUT / 4
    }
}

/// How long [`eventually`] pauses between two probes: from the first to the last.
const PROBE_PAUSE_MIN: Duration = Duration::from_micros(250);
const PROBE_PAUSE_MAX: Duration = Duration::from_millis(16);

/// Waits until `satisfied` gives a value, and returns it; fails the test after [`TEST_TIMEOUT`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut satisfied: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + wait_timeout();
    let mut pause = PROBE_PAUSE_MIN;
    loop {
        if let Some(found) = satisfied() {
            return found;
        }
        assert!(Instant::now() < deadline, "did not happen: {what}");
        // What is waited for needs the processor that asking would take.
        std::thread::park_timeout(pause);
        pause = (2 * pause).min(PROBE_PAUSE_MAX);
    }
}

/// A folder that goes with its value.
#[derive(Debug)]
pub(crate) struct TemporaryFolder(PathBuf);

impl TemporaryFolder {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let count = COUNTER.fetch_add(1, Ordering::SeqCst);
        let name = format!("config-controller-it-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a temporary folder can be made");
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).expect("a temporary file can be written");
        path
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a [`TestEnvironment`] is to be.
pub(crate) struct Builder {
    kube: fake_kube::Builder,
    role: String,
    templates: Vec<(String, String)>,
    annotations: Value,
    settings: Vec<(String, String)>,
    namespace: String,
    unstarted: bool,
}

/// A fake API server and the replicas of the service that stand before it.
#[derive(Debug)]
pub(crate) struct TestEnvironment {
    /// The fake.
    pub(crate) kube: FakeKube,
    /// Time as the replicas see it.
    pub(crate) clock: Arc<MovableClock>,
    pub(crate) folder: TemporaryFolder,
    settings: Vec<(String, String)>,
    namespace: String,
    replicas: Vec<Replica>,
}

#[derive(Debug)]
struct Replica {
    address: SocketAddr,
    transport: Option<Arc<HttpTransport>>,
    service: Option<Service>,
    /// What stands in its place, if anything does.
    _instead: Option<Box<dyn Replacement>>,
}

impl Replica {
    fn end(&mut self) {
        if let Some(service) = self.service.take() {
            let _ = service.drain(Duration::ZERO, Duration::ZERO);
        }
        if let Some(transport) = &self.transport {
            transport.close_watches();
        }
    }
}

impl TestEnvironment {
    /// One replica, the app type `hello` with pods that are ready immediately, our own Role.
    pub(crate) fn builder() -> Builder {
        Builder {
            kube: FakeKube::builder(),
            role: ROLE.to_owned(),
            templates: vec![("hello".to_owned(), TEMPLATE.to_owned())],
            annotations: json!({}),
            settings: Vec::new(),
            namespace: NAMESPACE.to_owned(),
            unstarted: false,
        }
    }

    /// As [`TestEnvironment::builder`] has it, ready for requests.
    pub(crate) fn new() -> Self {
        Self::builder().start()
    }

    /// As [`TestEnvironment::new`], but pods come and go only by hand.
    pub(crate) fn by_hand() -> Self {
        Self::builder().pod_script(PodScript::by_hand()).start()
    }
}

impl Builder {
    /// Changes the fake.
    pub(crate) fn kube(
        mut self,
        change: impl FnOnce(fake_kube::Builder) -> fake_kube::Builder,
    ) -> Self {
        self.kube = change(self.kube);
        self
    }

    /// What becomes of pods.
    pub(crate) fn pod_script(self, pod_script: PodScript) -> Self {
        self.kube(|kube| kube.pod_script(pod_script))
    }

    /// Replaces our own Role.
    pub(crate) fn role(mut self, yaml: &str) -> Self {
        self.role = yaml.to_owned();
        self
    }

    /// One more app type.
    pub(crate) fn template(mut self, app_type: &str, text: &str) -> Self {
        self.templates.push((app_type.to_owned(), text.to_owned()));
        self
    }

    /// An annotation of the ConfigMap, without our prefix: a setting of its types.
    pub(crate) fn annotation(mut self, setting: &str, value: &str) -> Self {
        self.annotations[format!("{PREFIX}{setting}")] = json!(value);
        self
    }

    /// A setting of the service.
    pub(crate) fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Works in this namespace, which is not made.
    pub(crate) fn namespace(mut self, name: &str) -> Self {
        self.namespace = name.to_owned();
        self
    }

    /// No replica yet: see [`TestEnvironment::add_replica`].
    pub(crate) fn unstarted(mut self) -> Self {
        self.unstarted = true;
        self
    }

    /// Starts all, and waits until it is ready.
    #[track_caller]
    pub(crate) fn start(self) -> TestEnvironment {
        let kube = self
            .kube
            .role(&self.namespace, &self.role)
            .start()
            .expect("the fake starts");
        let types: Vec<(&str, &str)> = self
            .templates
            .iter()
            .map(|(app_type, text)| (app_type.as_str(), text.as_str()))
            .collect();
        if self.namespace == NAMESPACE {
            apply_templates(&kube, "templates", &types, self.annotations);
        }
        let mut environment = TestEnvironment {
            kube,
            clock: Arc::default(),
            folder: TemporaryFolder::new(),
            settings: self.settings,
            namespace: self.namespace,
            replicas: Vec::new(),
        };
        environment.give_token();
        if !self.unstarted {
            environment.add_replica();
            environment.wait_ready(0);
        }
        environment
    }
}

/// Makes or replaces a ConfigMap with these app types.
pub(crate) fn apply_templates(
    kube: &FakeKube,
    name: &str,
    types: &[(&str, &str)],
    annotations: Value,
) {
    let mut data = json!({});
    for (app_type, text) in types {
        data[format!("{app_type}.yaml")] = json!(text);
    }
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": {format!("{PREFIX}template"): "true"},
            "annotations": annotations,
        },
        "data": data,
    });
    kube.apply(NAMESPACE, &object)
        .expect("a ConfigMap is taken");
}

/// The replicas.
impl TestEnvironment {
    /// Starts one more replica, which need not be ready yet; returns its number.
    pub(crate) fn add_replica(&mut self) -> usize {
        let number = self.replicas.len();
        self.replicas.push(self.start_replica(number));
        number
    }

    /// Ends that replica, and starts another of its name, which is ready.
    pub(crate) fn restart_replica(&mut self, number: usize) {
        self.replicas[number].end();
        self.replicas[number] = self.start_replica(number);
        self.wait_ready(number);
    }

    fn start_replica(&self, number: usize) -> Replica {
        if let Some(start) = INSTEAD.get() {
            let other = start(&self.kube);
            return Replica {
                address: other.address(),
                transport: None,
                service: None,
                _instead: Some(other),
            };
        }
        let config = self.config();
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as Arc<dyn Clock>;
        let connected = service::connect(&config, &clock).expect("the fake's kubeconfig is good");
        let transport = connected.transport;
        let replica = service::Replica {
            name: &format!("replica-{number}"),
            namespaces: &connected.namespaces,
        };
        let shared = Arc::clone(&transport);
        let service = Service::start(&config, shared, replica, clock).expect("the service starts");
        Replica {
            address: service.address(),
            transport: Some(transport),
            service: Some(service),
            _instead: None,
        }
    }

    fn config(&self) -> Config {
        let kubeconfig = self.kubeconfig();
        let mut environment = std::collections::BTreeMap::from([
            ("KUBECONFIG".to_owned(), kubeconfig.display().to_string()),
            ("SERVICE_PORT".to_owned(), "0".to_owned()),
            ("LISTEN".to_owned(), "127.0.0.1".to_owned()),
        ]);
        environment.extend(self.settings.iter().cloned());
        match config::parse([], &environment) {
            Ok(Command::Serve(config)) => *config,
            other => panic!("the settings of a test are good: {other:?}"),
        }
    }

    /// A kubeconfig with the token in a file, so that it can rotate.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        let text = self.kube.kubeconfig(&self.namespace);
        let inline = format!("{{token: {}}}", self.kube.token());
        let file = format!("{{tokenFile: {}}}", self.folder.path("token").display());
        assert!(text.contains(&inline), "the kubeconfig has the token in it");
        self.folder
            .write("kubeconfig", &text.replace(&inline, &file))
    }

    /// Writes the token that is good now where the replicas read it.
    pub(crate) fn give_token(&self) {
        self.folder.write("token", &self.kube.token());
    }

    /// Waits until that replica has seen all there is.
    #[track_caller]
    pub(crate) fn wait_ready(&self, replica: usize) {
        if self.replicas[replica].transport.is_none() {
            // It has no probe.
            return;
        }
        let client = self.replica(replica);
        eventually("the service is ready", || {
            (client.get("/readyz").status == 200).then_some(())
        });
    }

    /// Waits until all replicas watch all there is to watch, and counts requests from here on.
    #[track_caller]
    pub(crate) fn count_from_here(&self) {
        // ConfigMaps, Jobs, pods, Events.
        let ours = self.replicas.iter().filter(|r| r.transport.is_some());
        let wanted = 4 * ours.count();
        eventually("all watches are open", || {
            (self.kube.count("watch", "*") >= wanted).then_some(())
        });
        self.kube.clear_requests();
    }

    /// Counts requests from here on, where no watch is open.
    pub(crate) fn count_from_nothing(&self) {
        self.kube.clear_requests();
    }

    /// Where that replica listens.
    pub(crate) fn address(&self, replica: usize) -> SocketAddr {
        self.replicas[replica].address
    }

    /// The client of that replica.
    pub(crate) fn replica(&self, number: usize) -> Client {
        Client::new(self.replicas[number].address)
    }

    /// The client of the first replica.
    pub(crate) fn client(&self) -> Client {
        self.replica(0)
    }

    /// Takes the first replica's service, to end it.
    pub(crate) fn take_service(&mut self) -> Service {
        let service = self.replicas[0].service.take();
        service.expect("the first replica runs")
    }

    /// Moves the replicas' time and the fake's forward.
    pub(crate) fn advance(&self, by: Duration) {
        self.kube.advance(by);
        self.clock.advance(by);
    }

    /// A request to the first replica.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        self.client().get(path)
    }

    /// A GET that does not wait.
    #[track_caller]
    pub(crate) fn get_at_once(&self, path: &str) -> Response {
        let request = self
            .client()
            .begin("GET", path, &[("Prefer", "wait=0")], "");
        request.finish()
    }

    /// A PATCH with a JSON body.
    #[track_caller]
    pub(crate) fn patch(&self, path: &str, body: &Value) -> Response {
        self.client().patch(path, body)
    }

    /// A DELETE.
    #[track_caller]
    pub(crate) fn delete(&self, path: &str) -> Response {
        self.client().delete(path)
    }

    /// Waits until a GET is 200.
    #[track_caller]
    pub(crate) fn wait_found(&self, path: &str) {
        eventually("it is found", || {
            (self.get(path).status == 200).then_some(())
        });
    }

    /// Waits until a list is empty.
    #[track_caller]
    pub(crate) fn wait_empty(&self, path: &str) {
        eventually("the list is empty", || {
            (self.get(path).text == "[]").then_some(())
        });
    }

    /// Starts an instance and returns its address.
    #[track_caller]
    pub(crate) fn start_instance(&self, path: &str) -> String {
        let response = self.get(path).expect(200);
        let ip = response["ip"].as_str();
        ip.expect("a ready instance has an address").to_owned()
    }
}

impl Drop for TestEnvironment {
    fn drop(&mut self) {
        self.replicas.iter_mut().for_each(Replica::end);
    }
}

/// What is in the cluster.
impl TestEnvironment {
    /// The Job of that name.
    pub(crate) fn job(&self, name: &str) -> Option<Arc<Value>> {
        self.kube.get(Resource::Jobs, NAMESPACE, name)
    }

    /// The names of all Jobs.
    pub(crate) fn jobs(&self) -> Vec<String> {
        let jobs = self.kube.all(Resource::Jobs, NAMESPACE);
        jobs.iter().map(|job| name_of(job)).collect()
    }

    /// Waits until all Jobs are gone.
    #[track_caller]
    pub(crate) fn wait_no_jobs(&self) {
        eventually("all Jobs are gone", || self.jobs().is_empty().then_some(()));
    }

    /// Waits until there is such a Job.
    #[track_caller]
    pub(crate) fn wait_job(&self, name: &str) -> Arc<Value> {
        eventually("the Job is made", || self.job(name))
    }

    /// Waits until the Job has a live pod, and returns that pod's name.
    #[track_caller]
    pub(crate) fn wait_pod(&self, job: &str) -> String {
        eventually("the Job has a pod", || {
            let pod = self.kube.pod_of(NAMESPACE, job)?;
            let live = pod["metadata"]["deletionTimestamp"].is_null();
            live.then(|| name_of(&pod))
        })
    }

    /// Waits for the Job's pod, and makes this move with it.
    #[track_caller]
    pub(crate) fn move_pod(&self, job: &str, next: &PodMove) {
        let pod = self.wait_pod(job);
        assert!(self.kube.move_pod(NAMESPACE, &pod, next), "{next:?}");
    }

    /// Moves the Job's pod to the pull of its image; the registry refuses connections.
    #[track_caller]
    pub(crate) fn fail_pull(&self, job: &str) {
        for next in [PodMove::Schedule, PodMove::Mount, PodMove::Pull] {
            self.move_pod(job, &next);
        }
        let stuck = PodMove::Wait("ErrImagePull".to_owned(), "connection refused".to_owned());
        self.move_pod(job, &stuck);
    }

    /// Makes the Job's pod ready.
    #[track_caller]
    pub(crate) fn make_ready(&self, job: &str) {
        self.move_pod(job, &PodMove::Ready(true));
    }
}

/// An object's name.
pub(crate) fn name_of(object: &Value) -> String {
    let name = object["metadata"]["name"].as_str();
    name.expect("an object has a name").to_owned()
}

/// The root of the repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The example program that `cargo test` has built beside this one.
#[track_caller]
pub(crate) fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let built = test.ancestors().nth(2).expect("it lies in target/…/deps");
    let path = built.join("examples").join(name);
    assert!(
        path.exists(),
        "{} is missing: build it with cargo build --example {name}",
        path.display()
    );
    path
}
