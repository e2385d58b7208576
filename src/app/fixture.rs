//! What the tests of the core stand on: a small world from literals, and a coordinator in it.
//!
//! A [`World`] has stores that are filled through their writers, and clocks that are turned by
//! hand. A [`Fixture`] puts a [`Coordinator`] into it; what the coordinator puts out is written as lines, so that
//! a test reads as a story of what happened and what came of it.

use super::cache::Cache;
use super::catalog::Catalog;
use super::coordinator::{Coordinator, Input, Limits, Now, Wish};
use super::flight::{Cause, Effect, Ensure, Intent, Label, Operation, Outcome, Stop};
use super::{Answer, Origin, RequestHandle, RequestId};
use crate::kube::error::{Error, Failure, Verb};
use crate::kube::status::Status;
use crate::kube::types::{ConfigMap, Job, Pod, Resource, Timestamp, Uid};
use crate::kube::watch::StoreEvent;
use crate::model::labels::MetaChange;
use crate::model::names::{AppType, InstanceKey, InstanceName};
use crate::model::template::Variables;
use crate::store::{EventWriter, Sink as _, Writer};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// When every story begins.
pub(crate) const T0: &str = "2026-05-01T10:00:00Z";

/// JSON merge patch (RFC 7386), to say how an object differs from the usual.
pub(crate) fn merge(base: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *base = patch.clone();
        return;
    };
    if !base.is_object() {
        *base = json!({});
    }
    for (key, value) in patch {
        merge(&mut base[key.as_str()], value);
    }
}

/// [`T0`] as Kubernetes' own value.
pub(crate) fn t0() -> Timestamp {
    Timestamp::parse(T0).unwrap()
}

pub(crate) fn key(app_type: &str, name: &str) -> InstanceKey {
    InstanceKey {
        app_type: AppType::new(app_type).unwrap(),
        name: InstanceName::new(name).unwrap(),
    }
}

/// The name that most stories are about.
pub(crate) fn n1() -> InstanceKey {
    key("scim", "n1")
}

/// Stores, templates and the time.
pub(crate) struct World {
    started: Instant,
    elapsed: Duration,
    versions: u64,
    pub(crate) config_maps: Writer<ConfigMap>,
    pub(crate) jobs: Writer<Job>,
    pub(crate) pods: Writer<Pod>,
    pub(crate) events: EventWriter,
    pub(crate) cache: Cache,
    pub(crate) catalog: Catalog,
}

impl World {
    /// All has been listed, nothing is there; the types `scim` and `zoned` (which needs `zone`)
    /// are on offer, and `bad`, which cannot be read.
    pub(crate) fn new() -> Self {
        let mut world = Self::unsynced();
        world.sync();
        world.offer(json!({}));
        world
    }

    /// Nothing has been listed yet.
    pub(crate) fn unsynced() -> Self {
        let started = Instant::now();
        let (config_maps, _) = crate::store::store::new(started);
        let (jobs, _) = crate::store::store::new(started);
        let (pods, _) = crate::store::store::new(started);
        let (events, _) = crate::store::events::new();
        let cache = Cache {
            config_maps: config_maps.store(),
            jobs: jobs.store(),
            pods: pods.store(),
            events: events.store(),
        };
        Self {
            started,
            elapsed: Duration::ZERO,
            versions: 0,
            config_maps,
            jobs,
            pods,
            events,
            cache,
            catalog: Catalog::default(),
        }
    }

    pub(crate) fn sync(&mut self) {
        drop(self.config_maps.apply(StoreEvent::Init));
        drop(self.config_maps.apply(StoreEvent::InitDone("1".into())));
        drop(self.jobs.apply(StoreEvent::Init));
        drop(self.jobs.apply(StoreEvent::InitDone("1".into())));
        drop(self.pods.apply(StoreEvent::Init));
        drop(self.pods.apply(StoreEvent::InitDone("1".into())));
        self.versions = 1;
    }

    /// Puts up the templates, with these annotations.
    pub(crate) fn offer(&mut self, annotations: Value) {
        let plain = "spec:\n  restartPolicy: Never\n  containers:\n  - name: app\n    image: i\n";
        let zoned = plain.to_owned() + "  nodeSelector:\n    zone: ${alternatives['zone']}\n";
        let map = json!({
            "metadata": {"name": "apps", "uid": "c", "annotations": annotations},
            "data": {"scim.yaml": plain, "zoned.yaml": zoned, "bad.yaml": "spec: ["},
        });
        let map = Arc::new(decode::<ConfigMap>(&map));
        self.catalog = Catalog::read(&[map], &self.catalog).0;
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.elapsed += time;
    }

    pub(crate) fn instant(&self) -> Instant {
        self.started + self.elapsed
    }

    pub(crate) fn wall(&self) -> SystemTime {
        t0().system_time() + self.elapsed
    }

    /// The timestamp that Kubernetes would give now.
    pub(crate) fn stamp(&self) -> String {
        Timestamp::from(self.wall()).to_string()
    }

    pub(crate) fn now(&self) -> Now<'_> {
        Now {
            now: self.instant(),
            wall: self.wall(),
            cache: &self.cache,
            catalog: &self.catalog,
        }
    }

    fn next_version(&mut self) -> String {
        self.versions += 1;
        self.versions.to_string()
    }

    /// The Job of an instance as Kubernetes has it, with the next version.
    pub(crate) fn job_json(&mut self, key: &InstanceKey, uid: &str, patch: &Value) -> Value {
        let names = json!({
            "config-controller.semafor.ch/instance-type": key.app_type.as_str(),
            "config-controller.semafor.ch/instance-name": key.name.as_str(),
        });
        let mut job = json!({
            "metadata": {
                "name": key.job_name(), "uid": uid, "creationTimestamp": self.stamp(),
                "resourceVersion": self.next_version(), "labels": names, "annotations": names,
            },
            "spec": {"backoffLimit": 0, "template": {
                "metadata": {"labels": names, "annotations": names}, "spec": {"restartPolicy": "Never"},
            }},
            "status": {"startTime": self.stamp()},
        });
        merge(&mut job, patch);
        job
    }

    /// The watch shows this Job of scim/n1.
    pub(crate) fn job(&mut self, uid: &str, patch: Value) {
        self.job_of(&n1(), uid, patch);
    }

    pub(crate) fn job_of(&mut self, key: &InstanceKey, uid: &str, patch: Value) {
        let job = self.job_json(key, uid, &patch);
        drop(self.jobs.apply(StoreEvent::Apply(decode(&job))));
    }

    /// The watch shows that this Job of scim/n1 is gone, and its pod.
    pub(crate) fn job_gone(&mut self, uid: &str) {
        let version = self.next_version();
        drop(self.jobs.apply(StoreEvent::Delete {
            name: "scim-n1".into(),
            uid: uid.into(),
            version: version.as_str().into(),
        }));
    }

    /// The watch shows the pod `p-<uid>` of the Job with that UID.
    pub(crate) fn pod(&mut self, uid: &str, patch: Value) {
        let mut pod = json!({
            "metadata": {
                "name": format!("p-{uid}"), "uid": format!("p-{uid}"), "creationTimestamp": self.stamp(),
                "resourceVersion": self.next_version(),
                "ownerReferences": [{"uid": uid, "name": "scim-n1", "controller": true}],
            },
            "spec": {"restartPolicy": "Never"},
            "status": {"phase": "Pending"},
        });
        merge(&mut pod, &patch);
        drop(self.pods.apply(StoreEvent::Apply(decode(&pod))));
    }

    /// The watch shows that the pod of this Job is on its way out; its grace ends now.
    pub(crate) fn pod_leaving(&mut self, uid: &str) {
        let leaving = json!({"metadata": {"deletionTimestamp": self.stamp()}});
        self.pod(uid, leaving);
    }

    /// The watch shows that the pod of this Job is gone.
    pub(crate) fn pod_gone(&mut self, uid: &str) {
        let (name, version) = (format!("p-{uid}"), self.next_version());
        drop(self.pods.apply(StoreEvent::Delete {
            uid: name.as_str().into(),
            name: name.into(),
            version: version.as_str().into(),
        }));
    }

    /// The watch shows an Event about the object with that UID.
    pub(crate) fn event(&mut self, uid: &str, reason: &str, message: &str) {
        let version = self.next_version();
        let event = json!({
            "metadata": {"name": format!("e{version}"), "uid": format!("e{version}"), "resourceVersion": version},
            "involvedObject": {"kind": "Job", "name": "any", "uid": uid},
            "reason": reason, "message": message, "lastTimestamp": self.stamp(),
        });
        drop(self.events.apply(StoreEvent::Apply(decode(&event))));
    }

    /// The watch shows that the pod of this Job is ready.
    pub(crate) fn ready(&mut self, uid: &str, ip: &str) {
        self.pod(uid, ready_pod(ip));
    }

    /// The watch shows that this Job of scim/n1 has ended so.
    pub(crate) fn ended(&mut self, uid: &str, condition: &str, patch: Value) {
        let mut job = json!({"status": {"startTime": T0, "conditions": [
            {"type": condition, "status": "True", "lastTransitionTime": self.stamp(), "reason": "BackoffLimitExceeded"},
        ]}});
        merge(&mut job, &patch);
        self.job(uid, job);
    }

    /// The watch shows that this Job of scim/n1 is being deleted.
    pub(crate) fn deleting(&mut self, uid: &str) {
        self.job(
            uid,
            json!({"metadata": {"deletionTimestamp": self.stamp()}}),
        );
    }
}

pub(crate) fn decode<K: Resource>(json: &Value) -> K {
    K::decode(json.to_string().as_bytes()).unwrap().unwrap()
}

/// What makes a pod a ready one.
pub(crate) fn ready_pod(ip: &str) -> Value {
    json!({"status": {"phase": "Running", "podIP": ip, "startTime": T0, "conditions": [
        {"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"},
    ]}})
}

/// What makes a pod one whose container waits for this reason.
pub(crate) fn waiting_pod(reason: &str) -> Value {
    json!({"status": {
        "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": T0}],
        "containerStatuses": [{"name": "app", "state": {"waiting": {"reason": reason}}}],
    }})
}

/// A coordinator in a world.
pub(crate) struct Fixture {
    pub(crate) world: World,
    pub(crate) coordinator: Coordinator,
    /// How often the coordinator was woken.
    pub(crate) wakes: usize,
}

pub(crate) const ROOMY: Limits = Limits {
    parked_max: 1000,
    parked_per_key_max: 1000,
};

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with_limits(ROOMY)
    }

    pub(crate) fn with_limits(limits: Limits) -> Self {
        Self {
            world: World::new(),
            coordinator: Coordinator::new(limits),
            wakes: 0,
        }
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<String> {
        let mut out = Vec::new();
        self.coordinator.step(input, &self.world.now(), &mut out);
        out.iter().map(line).collect()
    }

    /// Request number `n` asks for scim/n1, and waits for 10 s.
    pub(crate) fn get(&mut self, n: u64) -> Vec<String> {
        self.get_of(n, &n1(), "", 10)
    }

    pub(crate) fn get_of(
        &mut self,
        n: u64,
        key: &InstanceKey,
        query: &str,
        wait_secs: u64,
    ) -> Vec<String> {
        self.ensure(n, key, query, wait_secs, Intent::Start)
    }

    /// Request number `n` asks for scim/n1 and means this by it; it waits for 10 s.
    pub(crate) fn get_meaning(&mut self, n: u64, intent: Intent) -> Vec<String> {
        self.ensure(n, &n1(), "", 10, intent)
    }

    fn ensure(
        &mut self,
        n: u64,
        key: &InstanceKey,
        query: &str,
        wait_secs: u64,
        intent: Intent,
    ) -> Vec<String> {
        let ensure = Ensure {
            token: token(n),
            intent,
            variables: Arc::new(Variables::from_query(query).unwrap()),
            by: origin("ann"),
            deadline: self.world.instant() + Duration::from_secs(wait_secs),
        };
        self.step(Input::Asked(key.clone(), Wish::Ensure(ensure)))
    }

    /// Request number `n` stops scim/n1.
    pub(crate) fn stop(&mut self, n: u64) -> Vec<String> {
        self.stop_and_wait(n, None)
    }

    /// Request number `n` stops scim/n1, and waits so many seconds for its end.
    pub(crate) fn stop_and_wait(&mut self, n: u64, wait_secs: Option<u64>) -> Vec<String> {
        let now = self.world.instant();
        let stop = Stop {
            token: token(n),
            by: origin("bob"),
            deadline: now + Duration::from_secs(10),
            until: wait_secs.map(|secs| now + Duration::from_secs(secs)),
        };
        self.step(Input::Asked(n1(), Wish::Stop(stop)))
    }

    /// Request number `n` labels scim/n1.
    pub(crate) fn label(&mut self, n: u64) -> Vec<String> {
        self.label_with(n, &json!({"username": "bob"}))
    }

    /// Request number `n` changes the labels of scim/n1 like this.
    pub(crate) fn label_with(&mut self, n: u64, body: &Value) -> Vec<String> {
        let label = Label {
            token: token(n),
            change: MetaChange::from_body(body.as_object().unwrap()).unwrap(),
            deadline: self.world.instant() + Duration::from_secs(10),
        };
        self.step(Input::Asked(n1(), Wish::Label(label)))
    }

    /// The service ends; changes have five seconds.
    pub(crate) fn drain(&mut self) -> Vec<String> {
        self.step(Input::Drain(self.world.instant() + Duration::from_secs(5)))
    }

    pub(crate) fn hang_up(&mut self, n: u64) -> Vec<String> {
        self.step(Input::Abandoned(token(n)))
    }

    /// The call for scim/n1 has ended.
    pub(crate) fn ends(&mut self, outcome: Outcome) -> Vec<String> {
        self.step(Input::Completed(n1(), outcome))
    }

    pub(crate) fn done(&mut self) -> Vec<String> {
        self.ends(Outcome::Done)
    }

    pub(crate) fn fails(&mut self, error: Error) -> Vec<String> {
        self.ends(Outcome::Failed(error))
    }

    /// The cache of scim/n1 has changed.
    pub(crate) fn changed(&mut self) -> Vec<String> {
        self.step(Input::Changed(vec![n1()]))
    }

    /// Time passes, and the coordinator is woken whenever it wants to be.
    pub(crate) fn pass(&mut self, secs: f64) -> Vec<String> {
        let end = self.world.instant() + Duration::from_secs_f64(secs);
        let mut out = Vec::new();
        while let Some(at) = self.coordinator.next_wake().filter(|at| *at <= end) {
            self.world
                .pass(at.saturating_duration_since(self.world.instant()));
            self.coordinator.tick(&self.world.now(), &mut out);
            self.wakes += 1;
            assert!(
                self.coordinator.next_wake().is_none_or(|next| next > at),
                "the coordinator wants to be woken again at once"
            );
        }
        let rest = end.saturating_duration_since(self.world.instant());
        self.world.pass(rest);
        out.iter().map(line).collect()
    }

    /// Nobody waits and nothing is in work.
    #[track_caller]
    pub(crate) fn check_empty(&self) {
        assert_eq!(self.coordinator.waiting(), 0, "{:?}", self.coordinator);
        assert_eq!(self.coordinator.next_wake(), None, "{:?}", self.coordinator);
    }
}

pub(crate) fn token(n: u64) -> RequestHandle {
    RequestHandle {
        io: 0,
        slot: 0,
        serial: n,
    }
}

/// An effect as a line: `call …` or `<number of the request>: …`.
pub(crate) fn line(effect: &Effect) -> String {
    match effect {
        Effect::Call(call) => match &call.operation {
            Operation::Create { manifest, by } => {
                let who = &by.who;
                let annotations = &manifest["metadata"]["annotations"];
                match annotations["config-controller.semafor.ch/failures"].as_str() {
                    Some(failures) => format!("call create for {who} after {failures}"),
                    None => format!("call create for {who}"),
                }
            }
            Operation::Read => "call read".into(),
            Operation::Delete { uid, cause } => match cause {
                Cause::Asked(by) => format!("call delete {uid} for {}", by.who),
                Cause::Ended => format!("call replace {uid}"),
                Cause::Stuck => format!("call force {uid}"),
            },
            Operation::Remove {
                pod, is_kept: true, ..
            } => format!("call remove {pod}, which is kept"),
            Operation::Remove { pod, .. } => format!("call remove {pod}"),
            Operation::Label { pod, .. } => format!("call label {pod}"),
        },
        Effect::Answer(token, answer) => format!("{}: {}", token.serial, answer_line(answer)),
    }
}

fn answer_line(answer: &Answer) -> String {
    match answer {
        Answer::Ready(ready) => format!("ready {}", ready.ip),
        Answer::Progress(progress) => {
            format!("{} {}", progress.legacy_word(), progress.finding.reason)
        }
        Answer::Done => "done".into(),
        Answer::Reviewed(result) => format!("reviewed {result:?}"),
        Answer::Failed(error) => {
            let name = format!("{error:?}");
            let end = name.find(|c: char| !c.is_alphanumeric());
            name[..end.unwrap_or(name.len())].to_owned()
        }
    }
}

/// The API server has answered so.
pub(crate) fn answered(verb: Verb, code: u16, reason: &str, details: Value) -> Error {
    let body = json!({"reason": reason, "message": "says the API server", "details": details});
    failed(
        verb,
        Failure::Status {
            status: Box::new(Status::from_body(code, body.to_string().as_bytes())),
            retry_after: None,
        },
    )
}

pub(crate) fn failed(verb: Verb, failure: Failure) -> Error {
    Error {
        verb,
        resource: "jobs",
        name: None,
        failure,
    }
}

pub(crate) fn exists() -> Error {
    answered(Verb::Create, 409, "AlreadyExists", Value::Null)
}

pub(crate) fn conflict(verb: Verb) -> Error {
    answered(verb, 409, "Conflict", Value::Null)
}

pub(crate) fn not_found(verb: Verb) -> Error {
    answered(verb, 404, "NotFound", Value::Null)
}

pub(crate) fn unavailable(verb: Verb) -> Error {
    answered(verb, 503, "ServiceUnavailable", Value::Null)
}

pub(crate) fn throttled(secs: u64) -> Error {
    answered(
        Verb::Create,
        429,
        "TooManyRequests",
        json!({"retryAfterSeconds": secs}),
    )
}

/// A right of ours is missing.
pub(crate) fn no_right(verb: Verb) -> Error {
    answered(verb, 403, "Forbidden", json!({"kind": "jobs"}))
}

pub(crate) fn refused() -> Error {
    answered(
        Verb::Create,
        403,
        "Forbidden",
        json!({"kind": "jobs", "name": "scim-n1"}),
    )
}

pub(crate) fn invalid(verb: Verb) -> Error {
    answered(verb, 422, "Invalid", json!({"kind": "jobs", "name": "x"}))
}

pub(crate) fn lost(verb: Verb) -> Error {
    failed(verb, Failure::Lost("reset".into()))
}

pub(crate) fn no_connection(verb: Verb) -> Error {
    failed(verb, Failure::Connect("refused".into()))
}

/// The UID from a text, for those who need none else.
pub(crate) fn uid(text: &str) -> Uid {
    text.into()
}

/// Who asks, by a request without a name.
pub(crate) fn origin(who: &str) -> Origin {
    Origin {
        trace: None,
        who: who.into(),
        request: RequestId::default(),
    }
}
