//! Random events of callers, other replicas, kubelets, the network and the clock for one
//! coordinator, with a small model of Kubernetes behind it. The invariants are checked at every
//! step.

use super::*;
use crate::app::Expectation;
use crate::app::api_call::{Action, ApiCall, CallOutcome, GoneJob, StopCause};
use crate::app::changes;
use crate::app::fixture::{
    World, conflict, decode, exists, handle, line, lost, merge, no_connection, no_right, not_found,
    ready_pod, replacement, throttled, unavailable,
};
use crate::app::rendering::Renderer;
use crate::app::{Intent, Response};
use crate::kube::types::{Job, Pod, Uid};
use crate::kube::watch::StoreEvent;
use crate::model::labels::{AllBounds, MetaChange, PAIR_BYTES};
use crate::random::Random;
use crate::store::Sink as _;
use serde_json::Value;
use std::sync::Arc;

/// A Job as Kubernetes has it; there is at most one of a name.
struct LiveJob {
    uid: String,
    job: Value,
    pod: Option<Value>,
    ended: bool,
}

/// The Job that these changes took out of the cache.
fn removed(changes: &[crate::store::Change<Job>]) -> Option<GoneJob> {
    changes.first().and_then(changes::removed)
}

/// An event that the watch will deliver.
enum WatchedEvent {
    Job(InstanceKey, Value),
    Pod(InstanceKey, Value),
    Gone(InstanceKey, String, String),
}

struct RandomSchedule {
    random: Random,
    world: World,
    coordinator: Coordinator,
    names: Vec<InstanceKey>,
    live: HashMap<InstanceKey, LiveJob>,
    events: std::collections::VecDeque<WatchedEvent>,
    calls: Vec<Arc<ApiCall>>,
    /// Waiting requests with their latest response time; a change waits for its call.
    waiting: HashMap<u64, Option<Instant>>,
    requests: u64,
    created: u64,
    faults: bool,
    /// The Job that the last call took out of the cache.
    gone: Option<GoneJob>,
    responses: HashMap<String, u64>,
}

impl RandomSchedule {
    fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed),
            world: World::new(),
            coordinator: Coordinator::new(Limits {
                max_starting: None,
                place_kept: Duration::from_secs(10),
                parked_max: 12,
                parked_per_key_max: 5,
                division: Division::UNLIMITED,
                label_bounds: AllBounds {
                    max: 16 + 4 * PAIR_BYTES,
                    reserve: 0,
                    few: 0,
                },
                force_stop: true,
            }),
            names: (0..4).map(|n| key("scim", &format!("n{n}"))).collect(),
            live: HashMap::new(),
            events: std::collections::VecDeque::new(),
            calls: Vec::new(),
            waiting: HashMap::new(),
            requests: 0,
            created: 0,
            faults: true,
            gone: None,
            responses: HashMap::new(),
        }
    }

    fn any_name(&mut self) -> InstanceKey {
        let at = self.random.below(self.names.len());
        self.names[at].clone()
    }

    fn step(&mut self, input: Input) {
        let mut out = Vec::new();
        self.coordinator
            .step(input, &self.world.context(), &mut out);
        self.take(out);
    }

    /// Every response is for a waiting request, and in time; there is one call per name at a time.
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Respond(handle, ref response) => {
                    let deadline = self.waiting.remove(&handle.serial);
                    let deadline = deadline.expect("each response is for a waiting request");
                    let in_time = deadline.is_none_or(|at| self.world.instant() <= at);
                    assert!(in_time, "{}", line(&effect));
                    let kind = match response {
                        Response::Progress { progress, .. } => progress.legacy_word().to_owned(),
                        Response::Ready { .. } => "ready".to_owned(),
                        _ => line(&effect).split_once(' ').unwrap().1.to_owned(),
                    };
                    *self.responses.entry(kind).or_default() += 1;
                }
                Effect::Call(call) => {
                    assert!(
                        self.calls.iter().all(|other| other.key != call.key),
                        "two calls for {}",
                        call.key
                    );
                    self.calls.push(call);
                }
                Effect::Report(_) => {}
            }
        }
        self.coordinator.check().unwrap();
        assert_eq!(self.coordinator.waiting(), self.waiting.len());
        assert!(self.calls.len() <= self.coordinator.limits.parked_max);
    }

    fn request(&mut self) {
        let key = self.any_name();
        self.requests += 1;
        let wait = self.random.pick(&[0, 1, 5, 10, 30]);
        let now = self.world.instant();
        let deadline = now + Duration::from_secs(wait);
        let (want, latest) = match self.random.below(10) {
            0 => {
                let until = self.random.pick(&[None, Some(deadline)]);
                (Want::Stop { until }, now + WRITE_WAIT)
            }
            1 => (
                replacement(self.random.pick(&["", "a=1"]), deadline),
                now + WRITE_WAIT,
            ),
            2 => (Want::Label(Arc::new(MetaChange::default())), deadline),
            3..6 => (Want::Instance(Intent::Find), deadline),
            _ => (Want::Instance(Intent::Start(Arc::default())), deadline),
        };
        // A change waits as long as its call is in flight.
        let latest = if want.is_change() { None } else { Some(latest) };
        self.waiting.insert(self.requests, latest);
        let request = NewWaiter {
            is_patient: false,
            handle: handle(self.requests),
            key,
            by: origin("ann"),
            held: held("ann"),
            deadline,
            reads: None,
            expectation: Expectation::None,
            want,
        };
        self.step(Input::Requested(request));
    }

    fn hang_up(&mut self) {
        let mut waiting: Vec<u64> = self.waiting.keys().copied().collect();
        waiting.sort_unstable();
        if !waiting.is_empty() {
            let n = self.random.pick(&waiting);
            self.waiting.remove(&n);
            self.step(Input::Abandoned(handle(n)));
        }
    }

    /// Time passes, and the coordinator is woken at each requested time, never twice at the same
    /// one.
    fn pass(&mut self, time: Duration) {
        let end = self.world.instant() + time;
        while let Some(at) = self.coordinator.next_wake().filter(|at| *at <= end) {
            self.world
                .pass(at.saturating_duration_since(self.world.instant()));
            let mut out = Vec::new();
            self.coordinator.tick(&self.world.context(), &mut out);
            self.take(out);
            assert!(self.coordinator.next_wake().is_none_or(|next| next > at));
        }
        self.world
            .pass(end.saturating_duration_since(self.world.instant()));
        let now = self.world.instant();
        assert!(self.waiting.values().flatten().all(|at| *at > now));
    }

    fn create(&mut self, key: &InstanceKey) -> bool {
        if self.live.contains_key(key) {
            return false;
        }
        self.created += 1;
        let uid = format!("u{}", self.created);
        let job = self.world.job_json(key, &uid, &json!({}));
        self.events
            .push_back(WatchedEvent::Job(key.clone(), job.clone()));
        let live = LiveJob {
            uid,
            job,
            pod: None,
            ended: false,
        };
        self.live.insert(key.clone(), live);
        true
    }

    /// Kubernetes changes a Job, and its version.
    fn change(&mut self, key: &InstanceKey, patch: &Value) {
        let version =
            self.world.job_json(key, "", &json!({}))["metadata"]["resourceVersion"].take();
        let live = self.live.get_mut(key).unwrap();
        merge(&mut live.job, patch);
        live.job["metadata"]["resourceVersion"] = version;
        let job = live.job.clone();
        self.events.push_back(WatchedEvent::Job(key.clone(), job));
    }

    fn delete(&mut self, key: &InstanceKey) {
        let stamp = self.world.stamp();
        if self.live[key].job["metadata"]["deletionTimestamp"].is_null() {
            self.change(key, &json!({"metadata": {"deletionTimestamp": stamp}}));
        }
    }

    /// The kubelet and the controllers do something about one name.
    fn cluster(&mut self, chance: usize) {
        let key = self.any_name();
        let stamp = self.world.stamp();
        let Some(live) = self.live.get_mut(&key) else {
            if chance == 0 {
                self.create(&key);
            }
            return;
        };
        let uid = live.uid.clone();
        if !live.job["metadata"]["deletionTimestamp"].is_null() {
            let version =
                self.world.job_json(&key, "", &json!({}))["metadata"]["resourceVersion"].take();
            self.live.remove(&key);
            let version = version.as_str().unwrap().to_owned();
            self.events.push_back(WatchedEvent::Gone(key, uid, version));
            return;
        }
        if chance == 0 {
            self.delete(&key);
        } else if chance < 4 && !live.ended {
            live.ended = true;
            let kind = if chance == 1 { "Complete" } else { "Failed" };
            let ended = json!([{"type": kind, "status": "True", "lastTransitionTime": stamp}]);
            self.change(&key, &json!({"status": {"conditions": ended}}));
        } else if live.pod.is_none() {
            let number: u64 = uid[1..].parse().unwrap();
            let mut pod = ready_pod(&format!("10.0.{}.{}", number / 250, number % 250));
            let version =
                self.world.job_json(&key, "", &json!({}))["metadata"]["resourceVersion"].take();
            let meta = json!({"metadata": {
                "name": format!("p-{uid}"), "uid": format!("p-{uid}"), "resourceVersion": version,
                "ownerReferences": [{"uid": uid, "controller": true}],
                "labels": {"batch.kubernetes.io/controller-uid": uid},
            }});
            merge(&mut pod, &meta);
            self.live.get_mut(&key).unwrap().pod = Some(pod.clone());
            self.events.push_back(WatchedEvent::Pod(key, pod));
        }
    }

    /// The watch delivers its next event.
    fn deliver_event(&mut self) {
        let mut gone = None;
        let key = match self.events.pop_front() {
            None => return,
            Some(WatchedEvent::Job(key, job)) => {
                gone = removed(&self.world.jobs.apply(StoreEvent::Apply(decode(&job))));
                key
            }
            Some(WatchedEvent::Pod(key, pod)) => {
                drop(
                    self.world
                        .pods
                        .apply(StoreEvent::Apply(decode::<Pod>(&pod))),
                );
                key
            }
            Some(WatchedEvent::Gone(key, uid, version)) => {
                gone = removed(&self.world.jobs.apply(StoreEvent::Delete {
                    name: key.job_name().into(),
                    uid: uid.as_str().into(),
                    version: version.as_str().into(),
                }));
                key
            }
        };
        let gone = gone.map(|gone| gone.uid);
        self.step(Input::Changed(vec![CacheChange {
            gone,
            ..CacheChange::of(key)
        }]));
    }

    /// A worker makes one of the calls.
    fn work(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let at = self.random.below(self.calls.len());
        let call = self.calls.remove(at);
        let fault = if self.faults {
            self.random.below(20)
        } else {
            99
        };
        let verb = Verb::Create;
        let outcome = match fault {
            0 => CallOutcome::Failed(no_connection(verb)),
            1 => CallOutcome::Failed(lost(verb)),
            2 => CallOutcome::Failed(unavailable(verb)),
            3 => CallOutcome::Failed(no_right(verb)),
            4 => CallOutcome::Failed(throttled(2)),
            5 if matches!(call.action, Action::CreateJob(_)) => CallOutcome::Failed(conflict(verb)),
            6 => {
                // Carried out, but the response is lost.
                let _ = self.make(&call, false);
                CallOutcome::Failed(lost(verb))
            }
            _ => self.make(&call, true),
        };
        let gone = self.gone.take();
        let completed = Completed { outcome, gone };
        self.step(Input::Completed(call.key.clone(), completed));
    }

    fn make(&mut self, call: &ApiCall, is_delivered: bool) -> CallOutcome {
        let key = &call.key;
        match &call.action {
            Action::CreateJob(new) => {
                let manifest = Renderer::default().manifest(key, new).unwrap();
                let manifest: Value = serde_json::from_slice(&manifest).unwrap();
                assert_eq!(manifest["metadata"]["name"], key.job_name());
                if !self.create(key) {
                    return CallOutcome::Failed(exists());
                }
            }
            Action::ReadJob { .. } if !self.live.contains_key(key) => {
                if let Some(job) = self.world.cache.jobs.get(&key.job_name()) {
                    self.own_delete(key, &job.metadata.uid, is_delivered);
                }
                return CallOutcome::Absent;
            }
            Action::ReadJob { .. } => {}
            Action::DeleteJob { uid, cause, .. } => match self.live.get(key) {
                None => {
                    self.own_delete(key, uid, is_delivered);
                    return CallOutcome::Absent;
                }
                Some(live) if Uid::from(&*live.uid) != *uid => {
                    return CallOutcome::Failed(conflict(Verb::Delete));
                }
                Some(live) => {
                    assert!(
                        *cause != StopCause::Replaced || live.ended,
                        "{key} was well and is replaced"
                    );
                    self.delete(key);
                }
            },
            // There are no caps, and no pod here is being deleted.
            Action::AdmitJob { .. }
            | Action::PlaceJob { .. }
            | Action::DeletePod { .. }
            | Action::ForceDeletePod { .. } => {
                panic!("{key}: a pod is removed")
            }
            Action::LabelPod { uid, .. } => {
                let pod = self.live.get(key).and_then(|live| live.pod.as_ref());
                let same = pod
                    .is_some_and(|pod| Uid::from(pod["metadata"]["uid"].as_str().unwrap()) == *uid);
                return if same {
                    CallOutcome::Done
                } else {
                    CallOutcome::Failed(not_found(Verb::Patch))
                };
            }
        }
        if is_delivered {
            let job: Job = decode(&self.live[key].job);
            let change = self.world.jobs.own_write(job);
            self.gone = removed(change.as_slice());
        }
        match &call.action {
            Action::CreateJob(_) => {
                CallOutcome::Created(self.live[key].uid.as_str().into(), "1".into())
            }
            Action::ReadJob { .. } => CallOutcome::Found(self.live[key].uid.as_str().into()),
            Action::DeleteJob { .. } => CallOutcome::Deleted { is_first: true },
            Action::AdmitJob { .. }
            | Action::PlaceJob { .. }
            | Action::DeletePod { .. }
            | Action::ForceDeletePod { .. }
            | Action::LabelPod { .. } => CallOutcome::Done,
        }
    }

    fn own_delete(&mut self, key: &InstanceKey, uid: &Uid, is_delivered: bool) {
        if is_delivered {
            let change = self.world.jobs.own_delete(&key.job_name(), uid);
            self.gone = removed(change.as_slice());
        }
    }

    fn turn(&mut self) {
        match self.random.below(20) {
            0..5 => self.request(),
            5 => self.hang_up(),
            6..11 => self.work(),
            11..15 => self.deliver_event(),
            15..18 => {
                let chance = self.random.below(12);
                self.cluster(chance);
            }
            _ => {
                let millis = self.random.below(1500);
                self.pass(Duration::from_millis(millis as u64));
            }
        }
    }

    /// Without faults and new requests, all requests are answered, and no record is left.
    fn end(&mut self) {
        self.faults = false;
        for _ in 0..200 {
            self.work();
            self.deliver_event();
            self.pass(Duration::from_millis(500));
        }
        // Starts in place of what was stopped are pending for longer than any request waits.
        self.pass(Duration::from_secs(3600));
        while !self.calls.is_empty() || !self.events.is_empty() {
            self.work();
            self.deliver_event();
        }
        assert_eq!(self.waiting.len(), 0);
        assert_eq!(self.coordinator.tally.in_work, 0, "{:?}", self.coordinator);
        assert!(self.coordinator.waiting.is_empty());
    }
}

#[test]
fn ten_thousand_random_events_break_no_invariant() {
    for seed in 0..2 {
        let mut schedule = RandomSchedule::new(seed);
        for _ in 0..10_000 {
            schedule.turn();
        }
        schedule.end();
        assert!(
            !schedule.responses.contains_key("Internal"),
            "{:?}",
            schedule.responses
        );
        // A schedule is useful only if all kinds of responses occur.
        for kind in [
            "ready",
            "node_not_ready",
            "app_error",
            "done",
            "Stopped",
            "NoInstance",
            "NotPermitted",
            "Unavailable",
            "TooManyRequests",
        ] {
            assert!(
                schedule.responses.contains_key(kind),
                "no {kind} with seed {seed}: {:?}",
                schedule.responses
            );
        }
    }
}
