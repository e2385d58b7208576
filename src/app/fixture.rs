//! Fixtures for the tests of the app: a small world from literals, and a coordinator in it.
//!
//! A [`World`] has stores that are filled through their writers, and manual clocks. A [`Fixture`]
//! adds a [`Coordinator`]. Its effects are written as lines, so that a test reads as a sequence of
//! inputs and effects.

mod ends;
mod errors;
mod lines;
mod pods;
mod requests;

pub(crate) use errors::*;
pub(crate) use lines::line;
pub(crate) use pods::*;
pub(crate) use requests::*;

use super::Intent;
use super::api_call::{Action, CallOutcome, Completed, GoneJob};
use super::cache::{Cache, Census};
use super::catalog::Catalog;
use super::changes::{changes_of_jobs, changes_of_pods, removed};
use super::coordinator::{
    CacheChange, Context, Coordinator, Effect, Input, Limits, NewWaiter, WRITE_WAIT, Want,
};
use super::keys::key_of;
use crate::app::Expectation;
use crate::kube::error::Error;
use crate::kube::types::{ConfigMap, Job, Pod, Resource, Timestamp, Uid};
use crate::kube::watch::StoreEvent;
use crate::model::job::JobSettings;
use crate::model::names::{AppType, InstanceKey, InstanceName};
use crate::model::template::Variables;
use crate::store::{Change, EventWriter, Sink as _, Writer};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// The start time of every test.
pub(crate) const T0: &str = "2026-05-01T10:00:00Z";

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

/// The name of most tests.
pub(crate) fn n1() -> InstanceKey {
    key("scim", "n1")
}

/// Type and name of an instance, as its Job and its pods have them.
fn names_json(key: &InstanceKey) -> Value {
    json!({
        "config-controller.semafor.ch/instance-type": key.app_type.as_str(),
        "config-controller.semafor.ch/instance-name": key.name.as_str(),
    })
}

/// The templates of most tests: to read them takes longer than a test.
static USUAL: OnceLock<Catalog> = OnceLock::new();

/// Stores, templates and the time.
pub(crate) struct World {
    started: Instant,
    elapsed: Duration,
    /// How far the clock of this replica is ahead.
    pub(crate) wall_ahead_secs: i64,
    versions: u64,
    pub(crate) config_maps: Writer<ConfigMap>,
    pub(crate) jobs: Writer<Job>,
    pub(crate) pods: Writer<Pod>,
    pub(crate) events: EventWriter,
    pub(crate) cache: Cache,
    pub(crate) census: Census,
    pub(crate) catalog: Catalog,
    /// Jobs that have left the cache and were not reported to the coordinator yet.
    gone: Vec<GoneJob>,
    /// What the watches on pods and on Jobs have passed on, each in its own order; see [`Fixture::fed`].
    pub(crate) fed: Option<[Vec<CacheChange>; 2]>,
}

impl World {
    /// Everything is synced and empty. The types `scim` and `zoned` (which needs `zone`) are valid,
    /// the type `bad` is not.
    pub(crate) fn new() -> Self {
        let mut world = Self::unsynced();
        world.sync();
        let catalog = USUAL.get_or_init(|| {
            world.offer(json!({}));
            world.catalog.clone()
        });
        world.catalog = catalog.clone();
        world
    }

    /// Nothing has been listed yet.
    pub(crate) fn unsynced() -> Self {
        let started = Instant::now();
        let (config_maps, _) = crate::store::store::new(started);
        let (jobs, _) = crate::store::store::new(started);
        let (pods, _) = crate::store::store::new(started);
        let events = EventWriter::default();
        let (cache, census) = Cache::over(&config_maps, &jobs, &pods, &events, Arc::default());
        Self {
            started,
            elapsed: Duration::ZERO,
            wall_ahead_secs: 0,
            versions: 0,
            config_maps,
            jobs,
            pods,
            events,
            cache,
            census,
            catalog: Catalog::default(),
            gone: Vec::new(),
            fed: None,
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

    /// Adds the templates, with these annotations.
    pub(crate) fn offer(&mut self, annotations: Value) {
        let plain = "spec:\n  restartPolicy: Never\n  containers:\n  - name: app\n    image: i\n";
        let zoned = plain.to_owned() + "  nodeSelector:\n    zone: ${alternatives['zone']}\n";
        let map = json!({
            "metadata": {"name": "apps", "uid": "c", "annotations": annotations},
            "data": {"scim.yaml": plain, "zoned.yaml": zoned, "bad.yaml": "spec: ["},
        });
        let map = Arc::new(decode::<ConfigMap>(&map));
        self.catalog = Catalog::read(&[map], &JobSettings::default()).0;
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.elapsed += time;
        self.jobs.contact(self.instant());
        self.pods.contact(self.instant());
    }

    pub(crate) fn instant(&self) -> Instant {
        self.started + self.elapsed
    }

    pub(crate) fn wall(&self) -> SystemTime {
        t0().system_time() + self.elapsed
    }

    fn own_wall(&self) -> SystemTime {
        let ahead = Duration::from_secs(self.wall_ahead_secs.unsigned_abs());
        match self.wall_ahead_secs < 0 {
            true => self.wall() - ahead,
            false => self.wall() + ahead,
        }
    }

    /// The timestamp that Kubernetes would give now.
    pub(crate) fn stamp(&self) -> String {
        Timestamp::from(self.wall()).to_string()
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            now: self.instant(),
            wall: self.own_wall(),
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
        let names = names_json(key);
        let known = self
            .census
            .jobs
            .filter(|job| job.metadata.uid == uid.into());
        let made = known
            .first()
            .and_then(|job| job.metadata.creation_timestamp);
        let made = made.map_or_else(|| self.stamp(), |made| made.to_string());
        let mut job = json!({
            "metadata": {
                "name": key.job_name(), "uid": uid, "creationTimestamp": made,
                "resourceVersion": self.next_version(), "labels": names, "annotations": names,
            },
            "spec": {"backoffLimit": known.first().map_or(0, |job| job.backoff_limit), "template": {
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
        self.take_job(StoreEvent::Apply(decode(&job)));
    }

    fn take_job(&mut self, event: StoreEvent<Job>) {
        let changes = self.jobs.apply(event);
        if let Some([_, fed]) = &mut self.fed {
            fed.extend(changes_of_jobs(&changes));
        }
        self.gone.extend(changes.iter().filter_map(removed));
    }

    fn take_pod(&mut self, event: StoreEvent<Pod>) {
        let changes = self.pods.apply(event);
        if let Some([fed, _]) = &mut self.fed {
            fed.extend(changes_of_pods(&changes));
        }
    }

    /// The watch shows that this Job of scim/n1 is gone, and its pod.
    pub(crate) fn job_gone(&mut self, uid: &str) {
        self.job_gone_of(&n1(), uid);
    }

    pub(crate) fn job_gone_of(&mut self, key: &InstanceKey, uid: &str) {
        let version = self.next_version();
        self.take_job(StoreEvent::Delete {
            name: key.job_name().into(),
            uid: uid.into(),
            version: version.as_str().into(),
        });
    }

    /// The watch shows the pod `p-<uid>` of the Job with that UID, or else of one of scim/n1.
    pub(crate) fn pod(&mut self, uid: &str, patch: Value) {
        let owner = Uid::from(uid);
        let jobs = self.census.jobs.filter(|job| job.metadata.uid == owner);
        let key = jobs.first().and_then(|job| key_of(job)).unwrap_or_else(n1);
        let mut pod = json!({
            "metadata": {
                "name": format!("p-{uid}"), "uid": format!("p-{uid}"), "creationTimestamp": self.stamp(),
                "resourceVersion": self.next_version(), "annotations": names_json(&key),
                "ownerReferences": [{"uid": uid, "name": "scim-n1", "controller": true}],
                "labels": {"batch.kubernetes.io/controller-uid": uid},
            },
            "spec": {"restartPolicy": "Never"},
            "status": {"phase": "Pending"},
        });
        merge(&mut pod, &patch);
        self.take_pod(StoreEvent::Apply(decode(&pod)));
    }

    /// The watch shows that the pod of this Job is being deleted; its grace ends now.
    pub(crate) fn pod_leaving(&mut self, uid: &str) {
        let leaving = json!({"metadata": {"deletionTimestamp": self.stamp()}});
        self.pod(uid, leaving);
    }

    /// The watch shows that the pod of this Job is being deleted, and that its node is lost; its grace
    /// ends now.
    pub(crate) fn pod_lost(&mut self, uid: &str) {
        let mut lost = lost_pod();
        lost["metadata"] = json!({"deletionTimestamp": self.stamp()});
        self.pod(uid, lost);
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
}

pub(crate) fn decode<K: Resource>(json: &Value) -> K {
    K::decode(json.to_string().as_bytes()).unwrap().unwrap()
}

/// The change of a store that did not have this object.
pub(crate) fn added<K: Resource>(json: &Value) -> Change<K> {
    Change {
        old: None,
        new: Some(Arc::new(decode(json))),
    }
}

/// A coordinator in a world.
pub(crate) struct Fixture {
    pub(crate) world: World,
    pub(crate) coordinator: Coordinator,
    /// How often the coordinator was woken.
    pub(crate) wakes: usize,
    /// The lifecycle events so far, as lines.
    pub(crate) events: Vec<String>,
    /// The call in flight of each name.
    calls: HashMap<InstanceKey, Action>,
    /// Whether requests wait for a place under a cap.
    pub(crate) is_patient: bool,
}

pub(crate) const ROOMY: Limits = Limits {
    parked_max: 1000,
    parked_per_key_max: 1000,
    division: crate::budget::Division::UNLIMITED,
    max_starting: None,
    place_kept: Duration::from_secs(10),
    label_bounds: crate::model::labels::AllBounds::DEFAULT,
    force_stop: true,
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
            events: Vec::new(),
            calls: HashMap::new(),
            is_patient: false,
        }
    }

    /// Records the effects of the coordinator, and checks its invariants.
    pub(crate) fn take(&mut self, effects: Vec<Effect>) -> Vec<String> {
        self.coordinator.check().unwrap();
        let mut lines = Vec::new();
        for effect in effects {
            match &effect {
                Effect::Call(call) => {
                    self.calls.insert(call.key.clone(), call.action.clone());
                }
                Effect::Report(event) if !event.is_news => continue,
                Effect::Report(event) => {
                    self.events.push(lines::event_line(event));
                    continue;
                }
                Effect::Respond(..) => {}
            }
            lines.push(line(&effect));
        }
        lines
    }

    pub(crate) fn step(&mut self, input: Input) -> Vec<String> {
        let mut out = Vec::new();
        self.coordinator
            .step(input, &self.world.context(), &mut out);
        self.take(out)
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
        let variables = Arc::new(Variables::from_query(query).unwrap());
        let want = Want::Instance(Intent::Start(variables));
        self.request(n, key, "ann", self.in_secs(wait_secs), want)
    }

    /// Request number `n` requests scim/n1 with this intent; it waits for 10 s.
    pub(crate) fn get_meaning(&mut self, n: u64, intent: Intent) -> Vec<String> {
        self.request(n, &n1(), "ann", self.in_secs(10), Want::Instance(intent))
    }

    /// Request number `n` looks for this instance without starting it; it waits for 10 s.
    pub(crate) fn find_of(&mut self, n: u64, key: &InstanceKey) -> Vec<String> {
        let want = Want::Instance(Intent::Find);
        self.request(n, key, "ann", self.in_secs(10), want)
    }

    fn in_secs(&self, secs: u64) -> Instant {
        self.world.instant() + Duration::from_secs(secs)
    }

    fn request(
        &mut self,
        n: u64,
        key: &InstanceKey,
        caller: &str,
        deadline: Instant,
        want: Want,
    ) -> Vec<String> {
        let request = NewWaiter {
            handle: handle(n),
            key: key.clone(),
            by: origin(caller),
            held: held(caller),
            deadline,
            reads: None,
            expectation: Expectation::None,
            is_patient: self.is_patient,
            want,
        };
        self.step(Input::Requested(request))
    }

    /// Request number `n` stops scim/n1.
    pub(crate) fn stop(&mut self, n: u64) -> Vec<String> {
        self.stop_and_wait(n, None)
    }

    /// Request number `n` stops scim/n1, and waits so many seconds for its end.
    pub(crate) fn stop_and_wait(&mut self, n: u64, wait_secs: Option<u64>) -> Vec<String> {
        let until = wait_secs.map(|secs| self.in_secs(secs));
        let deadline = self.world.instant() + WRITE_WAIT;
        self.request(n, &n1(), "bob", deadline, Want::Stop { until })
    }

    /// The service shuts down; changes have five seconds.
    pub(crate) fn drain(&mut self) -> Vec<String> {
        self.step(Input::Drain(self.world.instant() + Duration::from_secs(5)))
    }

    pub(crate) fn hang_up(&mut self, n: u64) -> Vec<String> {
        self.step(Input::Abandoned(handle(n)))
    }

    /// The call for scim/n1 has ended.
    pub(crate) fn ends(&mut self, outcome: CallOutcome) -> Vec<String> {
        self.ends_of(&n1(), outcome)
    }

    /// The call for this name has ended.
    pub(crate) fn ends_of(&mut self, key: &InstanceKey, outcome: CallOutcome) -> Vec<String> {
        self.calls.remove(key);
        let gone = self.world.gone.pop();
        let completed = Completed { outcome, gone };
        self.step(Input::Completed(key.clone(), completed))
    }

    /// The call in flight for scim/n1.
    pub(crate) fn call(&self) -> Option<&Action> {
        self.calls.get(&n1())
    }

    /// The call for scim/n1 has succeeded.
    pub(crate) fn done(&mut self) -> Vec<String> {
        let outcome = match self.calls.get(&n1()) {
            Some(Action::CreateJob(_)) => {
                let job = self.world.cache.jobs.get(&n1().job_name());
                let uid = job.map_or_else(|| uid("u1"), |job| job.metadata.uid.clone());
                CallOutcome::Created(uid, "1".into())
            }
            Some(Action::ReadJob { .. }) => {
                let job = self.world.cache.jobs.get(&n1().job_name());
                CallOutcome::Found(job.map_or_else(|| uid("u1"), |job| job.metadata.uid.clone()))
            }
            Some(Action::DeleteJob { .. }) => CallOutcome::Deleted { is_first: true },
            _ => CallOutcome::Done,
        };
        self.ends(outcome)
    }

    pub(crate) fn fails(&mut self, error: Error) -> Vec<String> {
        self.ends(CallOutcome::Failed(error))
    }

    /// The cache of scim/n1 has changed.
    pub(crate) fn changed(&mut self) -> Vec<String> {
        let gone = std::mem::take(&mut self.world.gone).into_iter();
        let gone = gone.map(|gone| CacheChange {
            gone: Some(gone.uid),
            ..CacheChange::of(gone.key)
        });
        let mut changes: Vec<CacheChange> = gone.collect();
        if changes.is_empty() {
            changes.push(CacheChange::of(n1()));
        }
        self.step(Input::Changed(changes))
    }

    /// The first list of the replica has scim/n1.
    pub(crate) fn listed(&mut self) -> Vec<String> {
        self.step(Input::Listed(vec![CacheChange::of(n1())]))
    }

    /// Takes the removed Jobs; they are not reported to the coordinator.
    pub(crate) fn take_gone(&mut self) -> Vec<Uid> {
        self.world.gone.drain(..).map(|gone| gone.uid).collect()
    }

    /// Reports to the coordinator that the cache no longer has this Job of scim/n1.
    pub(crate) fn job_gone(&mut self, uid: &Uid) -> Vec<String> {
        self.step(Input::Changed(vec![CacheChange {
            gone: Some(uid.clone()),
            ..CacheChange::of(n1())
        }]))
    }

    /// Time passes, and the coordinator is woken at each requested time.
    pub(crate) fn pass(&mut self, secs: f64) -> Vec<String> {
        let end = self.world.instant() + Duration::from_secs_f64(secs);
        let mut lines = Vec::new();
        while let Some(at) = self.coordinator.next_wake().filter(|at| *at <= end) {
            self.world
                .pass(at.saturating_duration_since(self.world.instant()));
            lines.extend(self.tick());
            self.wakes += 1;
            assert!(
                self.coordinator.next_wake().is_none_or(|next| next > at),
                "the coordinator wants to be woken again at once"
            );
        }
        let rest = end.saturating_duration_since(self.world.instant());
        self.world.pass(rest);
        lines
    }

    /// The coordinator processes expired timers.
    pub(crate) fn tick(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        self.coordinator.tick(&self.world.context(), &mut out);
        self.take(out)
    }

    /// The lifecycle events since the last time, as lines.
    pub(crate) fn reported(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events)
    }

    /// No request waits.
    #[track_caller]
    pub(crate) fn check_idle(&self) {
        assert_eq!(self.coordinator.waiting(), 0, "{:?}", self.coordinator);
    }
}
