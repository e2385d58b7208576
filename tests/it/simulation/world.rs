//! The state of one schedule: an API server, its controllers and kubelets, replicas and their callers;
//! and the checks after every step.
//!
//! Which event comes next is decided in [`super::moves`], requests are tracked in [`super::callers`].

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use config_controller::app::RequestIds;
use config_controller::app::api_call::Action;
use config_controller::clock::Clock;
use config_controller::model::names::{AppType, InstanceKey, InstanceName};

use super::callers::{RequestKind, Waiting};
use super::clocks::Clocks;
use super::defects::Defect;
use super::dice::{Dice, Time};
use super::idle::UseTruth;
use super::labels::{self, Labels};
use super::profile::Profile;
use super::promises::{self, Breach, Promise, check};
use super::replica::{InFlight, Replica};
use super::server::{Server, lock};
use super::truth::{Pair, Truth};
use super::unreliable::{Pause, Unreliable};
use crate::fake_kube::FakeKube;
use crate::fake_kube::cluster::Backup;
use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::dynamics::pod_script::PodScript;
use crate::fake_kube::quota::Quota;
use crate::harness::NAMESPACE;

/// Calls that a replica may make for a name within [`CALLS_WINDOW`] without an external reason.
const CALLS_MAX: usize = 6;

/// The time for which calls are counted.
const CALLS_WINDOW: Duration = Duration::from_secs(1);

/// Most steps of a reflector without time passing, to detect endless loops.
const TURNS_MAX: usize = 10_000;

/// The interval at which reflectors run during a jump of time, so that a watch does not count as silent.
const REFLECTOR_INTERVAL: Duration = Duration::from_secs(30);

/// How often each event and response occurred, to detect a simulation in which nothing happens.
pub(super) type Tally = BTreeMap<String, u64>;

/// The state of a schedule.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) profile: Profile,
    pub(super) time: Time,
    pub(super) server: Arc<Mutex<Server>>,
    /// `None` where a replica is down.
    pub(super) replicas: Vec<Option<Replica>>,
    /// Those that stand still.
    pub(super) pauses: Vec<Option<Pause>>,
    /// A copy of etcd.
    pub(super) backup: Option<Backup>,
    pub(super) truth: Truth,
    pub(super) tally: Tally,
    /// The steps so far, if they are recorded.
    pub(super) steps: Option<Vec<String>>,
    pub(super) ids: RequestIds,
    pub(super) serial: u64,
    pub(super) waiting: BTreeMap<u64, Waiting>,
    pub(super) labels: Labels,
    /// Requests abandoned since the replica's coordinator last ran. A response may still be on its
    /// way, and the request may still be carried out.
    pub(super) hung_up: BTreeMap<u64, Waiting>,
    /// The instances with an answered stop as their last request.
    pub(super) stopped: BTreeMap<Pair, bool>,
    /// For each replica the Jobs that it has confirmed as deleted, as long as it must remember
    /// them.
    pub(super) deleted: Vec<Vec<(Pair, String)>>,
    /// When each replica made calls for each name, and the external reasons for calls.
    pub(super) calls: BTreeMap<(usize, InstanceKey), VecDeque<Instant>>,
    pub(super) reasons: VecDeque<(Instant, Pair)>,
    /// Number of lists so far that went back to an older state.
    pub(super) stale_lists: u64,
    pub(super) clocks: Clocks,
    pub(super) use_truth: UseTruth,
}

impl World {
    pub(super) fn new(seed: u64, mut dice: Dice, profile: Profile, steps: bool) -> Self {
        let time = Time::new();
        let fake = FakeKube::builder()
            .manual_clock()
            .pod_script(PodScript::by_hand());
        let mut model = fake.model();
        let templates = profile.templates();
        let made = model
            .cluster
            .create(Resource::ConfigMaps, NAMESPACE, templates, false);
        made.expect("the ConfigMap of a schedule is valid");
        model.quota = profile.quota.map(Quota::new);
        let mut server = Server::new(model, dice.next(), time.clone(), &profile);
        if let Unreliable::Watches(per_thousand) = profile.unreliable {
            server.losses_per_thousand = per_thousand;
        }
        let count = profile.replicas;
        let mut world = Self {
            dice,
            profile,
            time,
            server: Arc::new(Mutex::new(server)),
            replicas: (0..count).map(|_| None).collect(),
            pauses: vec![None; count],
            backup: None,
            truth: Truth::default(),
            tally: Tally::new(),
            steps: steps.then(Vec::new),
            ids: RequestIds::new(seed, 0),
            serial: 0,
            waiting: BTreeMap::new(),
            labels: Labels::default(),
            hung_up: BTreeMap::new(),
            stopped: BTreeMap::new(),
            deleted: vec![Vec::new(); count],
            calls: BTreeMap::new(),
            reasons: VecDeque::new(),
            stale_lists: 0,
            clocks: Clocks::new(seed),
            use_truth: UseTruth::default(),
        };
        world.set_node_clocks();
        for number in 0..count {
            world.boot(number);
        }
        world
    }

    /// The API server, locked.
    pub(super) fn server(&self) -> MutexGuard<'_, Server> {
        lock(&self.server)
    }

    /// Records a step, if steps are recorded.
    pub(super) fn log(&mut self, what: impl FnOnce() -> String) {
        if let Some(steps) = &mut self.steps {
            let passed = self.time.passed().as_secs_f64();
            steps.push(format!("{passed:9.3} s  {}", what()));
        }
    }

    /// Counts an event or a response.
    pub(super) fn count(&mut self, what: &str) {
        match self.tally.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.tally.insert(what.to_owned(), 1)),
        }
    }

    /// Starts a replica with empty caches.
    pub(super) fn boot(&mut self, number: usize) {
        let seed = self.dice.next();
        let workers = if self.profile.is_crowded { 1 } else { 8 };
        let bounds = (self.profile.defect.limits(self.profile.limits), workers);
        let ahead = self.clocks.of_replica();
        let time = self.time.of_machine(ahead);
        let mut replica = Replica::new(&self.server, time, bounds, seed, self.profile.defect);
        if self.profile.idles {
            replica = replica.with_idle(number, &self.server, seed);
        }
        self.replicas[number] = Some(replica);
        self.deleted[number].clear();
        self.pauses[number] = None;
        self.log(|| format!("replica {number} starts, its clock {ahead} s ahead"));
    }

    /// Kills a replica: its state and its waiting requests are lost. A call in flight may still
    /// arrive.
    pub(super) fn kill(&mut self, number: usize) {
        let Some(mut replica) = self.replicas[number].take() else {
            return;
        };
        for at in 0..replica.calls.len() {
            if self.dice.chance(500) {
                replica.deliver_call(at);
            }
        }
        self.waiting.retain(|_, waiting| waiting.replica != number);
        self.hung_up.retain(|_, gone| gone.replica != number);
        self.calls.retain(|(of, _), _| *of != number);
        self.log(|| format!("replica {number} is killed"));
    }

    /// Reads the writes since the last time, and checks what must always hold.
    pub(super) fn observe(&mut self) -> Result<(), Breach> {
        let before = self.truth.revision();
        let touched = {
            let model = &mut lock(&self.server).model;
            if let Some(quota) = &mut model.quota {
                quota.absorb(&model.cluster);
            }
            self.truth.absorb(&model.cluster)
        };
        let now = self.time.now();
        for pair in touched {
            self.reasons.push_back((now, pair.clone()));
            let Some(history) = self.truth.history(&pair) else {
                continue;
            };
            promises::one_name_one_instance(history)?;
            if self.profile.unreliable != Unreliable::Etcd {
                self.labels.are_kept(history, before)?;
            }
            if self.profile.replicas == 1 {
                labels::are_bounded(history)?;
            }
            let came_back =
                self.stopped.get(&pair) == Some(&true) && history.live_jobs().count() > 0;
            check(Promise::StopLasts, !came_back, || {
                format!("{pair:?} exists again")
            })?;
        }
        self.caps_hold()?;
        let lists = self.server().stale_lists;
        if lists != self.stale_lists {
            self.stale_lists = lists;
            // A list that is older than a deletion brings back what was deleted.
            self.deleted.iter_mut().for_each(Vec::clear);
        }
        self.lower_floors();
        let replicas = self.replicas.iter_mut().flatten();
        for replica in replicas.filter(|replica| replica.sim.is_changed) {
            replica.sim.is_changed = false;
            replica.note_stopping();
            let sound = replica.check_stores();
            check(Promise::StoresAreSound, sound.is_ok(), || {
                format!("{sound:?}")
            })?;
        }
        Ok(())
    }

    fn lower_floors(&mut self) {
        let floors: Vec<_> = (0..self.replicas.len())
            .map(|it| self.floors_of(it))
            .collect();
        for waiting in self.waiting.values_mut() {
            waiting.floors.lower(floors[waiting.replica]);
        }
    }

    /// Runs the coordinator of a replica, and checks its output.
    pub(super) fn run_coordinator(&mut self, number: usize) -> Result<bool, Breach> {
        let is_paused = self.is_paused(number);
        let Some(replica) = self.replicas[number].as_mut().filter(|_| !is_paused) else {
            return Ok(false);
        };
        let out = replica.run_coordinator();
        let happened = !out.responses.is_empty() || !out.calls.is_empty();
        for (handle, response) in &out.responses {
            self.check_response(*handle, response)?;
        }
        let mut calls = Vec::new();
        for call in out.calls {
            self.log(|| {
                format!(
                    "replica {number} calls: {} of {}",
                    verb_of(&call.action),
                    call.key
                )
            });
            for _ in 0..self.profile.defect.repeats() {
                self.called(number, &call.key)?;
            }
            let pair = (call.key.app_type.to_string(), call.key.name.to_string());
            self.delay_is_kept(number, &pair, &call.action)?;
            if let Action::CreateJob(_) = &call.action {
                let replica = self.replicas[number].as_ref();
                let seen = replica
                    .map(|replica| replica.running_pods())
                    .unwrap_or_default();
                if let Some(history) = self.truth.history(&pair) {
                    promises::none_beside_an_orphan(history, |uid| seen.contains(uid))?;
                }
            }
            if let Action::LabelPod { waiters, .. } = &call.action
                && waiters.len() > 1
            {
                self.count("merged labels");
            }
            if let Action::PlaceJob { .. } = &call.action {
                self.count("placed by a list");
            }
            calls.push(call);
        }
        if let Some(replica) = &mut self.replicas[number] {
            replica.add_calls(calls)?;
        }
        self.hung_up.retain(|_, gone| gone.replica != number);
        self.check_coordinator(number)?;
        Ok(happened)
    }

    /// Checks a coordinator that has processed all its inputs.
    fn check_coordinator(&self, number: usize) -> Result<(), Breach> {
        let Some(replica) = &self.replicas[number] else {
            return Ok(());
        };
        // First, since what else is wrong may follow from it.
        replica.check()?;
        let mine = || self.waiting.values().filter(|w| w.replica == number);
        let (parked, known) = (mine().count(), replica.waiting());
        check(Promise::AnsweredOnce, parked == known, || {
            format!("{parked} requests wait for replica {number}, which knows of {known}")
        })?;
        let parked_max = self.profile.limits.parked_max;
        let within = parked <= parked_max && replica.calls.len() <= parked_max;
        check(Promise::Bounded, within, || {
            format!("{parked} wait, {} calls", replica.calls.len())
        })?;
        // A place is held by a request until it is answered, and by a start until its call ended.
        let places = replica.bounds.places.budget().used();
        let least = replica.holders();
        let most = least + replica.calls.len();
        check(Promise::Bounded, (least..=most).contains(&places), || {
            format!("{places} places are held, not {least} to {most}")
        })?;
        let is_calling = |waiting: &&Waiting| {
            let key = key_of(&waiting.pair);
            waiting.kind.is_change() && replica.calls.iter().any(|call| *call.key() == key)
        };
        let timed = mine().filter(|waiting| !is_calling(waiting));
        let timed = timed.filter(|waiting| !self.awaits_admission(replica, waiting));
        promises::answered_in_time(timed.map(|w| w.deadline), self.time.now())?;
        for waiting in mine().filter(|w| matches!(w.kind, RequestKind::Ensure | RequestKind::Find))
        {
            let is_ready = replica.cache.ready(&key_of(&waiting.pair)).is_some();
            check(Promise::NoWaiterForReadyInstance, !is_ready, || {
                format!("{waiting:?}")
            })?;
        }
        Ok(())
    }

    /// Delivers a replica's call at that index to the API server; returns false if it was delivered
    /// already.
    pub(super) fn deliver_call(&mut self, number: usize, at: usize) -> Result<bool, Breach> {
        let is_paused = self.is_paused(number);
        let Some(replica) = self.replicas[number].as_mut().filter(|_| !is_paused) else {
            return Ok(false);
        };
        let target = match &replica.calls[at] {
            InFlight::Sent(call) => target_of(&call.action),
            InFlight::Queued(_) | InFlight::Completed(..) => return Ok(false),
        };
        let before = lock(&self.server).model.cluster.revision();
        replica.deliver_call(at);
        let key = replica.calls[at].key().clone();
        self.log(|| format!("the API server receives replica {number}'s call for {key}"));
        let server = lock(&self.server);
        for change in server.model.cluster.changes_after(before) {
            promises::call_hits_its_target(target.as_deref(), change.before.as_deref())?;
        }
        Ok(true)
    }

    /// Checks and counts a call that a coordinator makes.
    fn called(&mut self, number: usize, key: &InstanceKey) -> Result<(), Breach> {
        let now = self.time.now();
        let in_flight = self.replicas[number]
            .iter()
            .flat_map(|replica| &replica.calls);
        let same = in_flight.filter(|call| call.key() == key).count();
        check(Promise::OneCallPerName, same == 0, || {
            format!("{same} calls for {key} already")
        })?;
        let is_recent = |at: Instant| now.saturating_duration_since(at) < CALLS_WINDOW;
        while self.reasons.front().is_some_and(|(at, _)| !is_recent(*at)) {
            self.reasons.pop_front();
        }
        let reasons = self.reasons.iter();
        let reasons = reasons
            .filter(|(_, pair)| key_of(pair).job_name() == key.job_name())
            .count();
        let calls = self.calls.entry((number, key.clone())).or_default();
        calls.push_back(now);
        while calls.front().is_some_and(|at| !is_recent(*at)) {
            calls.pop_front();
        }
        let made = calls.len();
        check(
            Promise::CallsAreBounded,
            made <= CALLS_MAX + reasons,
            || format!("{made} calls for {key} within {CALLS_WINDOW:?}, for {reasons} reasons"),
        )
    }

    /// Lets time pass. Coordinators run when they are due; reflectors at least every
    /// [`REFLECTOR_INTERVAL`].
    pub(super) fn pass(&mut self, duration: Duration) -> Result<(), Breach> {
        let end = self.time.now() + duration;
        self.jump_clocks();
        self.run_all_coordinators()?;
        if self.profile.is_calm {
            self.finish_calls()?;
        }
        let mut reflect_at = self.time.now() + REFLECTOR_INTERVAL;
        loop {
            let awake = self.replicas.iter().zip(&self.pauses);
            let awake = awake.filter(|(_, pause)| pause.is_none());
            let wakes = awake.filter_map(|(replica, _)| replica.as_ref()?.next_wake());
            let next = wakes
                .min()
                .map_or(end, |wake| wake.min(end))
                .min(reflect_at);
            self.move_to(next);
            self.end_pauses(false)?;
            if next == reflect_at {
                reflect_at += REFLECTOR_INTERVAL;
                self.run_reflectors()?;
            }
            self.run_idle()?;
            self.run_all_coordinators()?;
            if self.profile.is_calm {
                self.finish_calls()?;
            }
            if next == end {
                return Ok(());
            }
        }
    }

    fn move_to(&mut self, at: Instant) {
        self.time.move_to(at);
        let server = self.server();
        let clock = server.model.cluster.clock();
        let passed = i64::try_from(self.time.passed().as_millis()).expect("a schedule is short");
        let behind = BEGIN_MS + passed - clock.now_ms();
        clock.advance(Duration::from_millis(u64::try_from(behind).unwrap_or(0)));
    }

    pub(super) fn run_all_coordinators(&mut self) -> Result<bool, Breach> {
        let mut happened = false;
        for number in 0..self.replicas.len() {
            happened |= self.run_coordinator(number)?;
        }
        Ok(happened)
    }

    /// Runs one step of a reflector, if it has something to do.
    pub(super) fn reflect(&mut self, number: usize, which: usize) -> Result<bool, Breach> {
        let forgets = self.profile.defect == Defect::ForgetsPauses;
        let is_paused = self.is_paused(number) && !forgets;
        let Some(replica) = self.replicas[number].as_mut().filter(|_| !is_paused) else {
            return Ok(false);
        };
        let reflector = &mut replica.reflectors[which];
        let has_work = {
            let mut server = lock(&self.server);
            reflector.has_work(&mut server, self.time.now())
        };
        if has_work {
            let before = reflector.seen();
            reflector.step();
            replica.sim.is_changed = true;
            let seen = reflector.seen();
            // Where nothing bounds how old a list may be, one takes it back as a restored etcd does.
            replica.sim.reader.story.is_restored |= seen < before;
            if seen != before {
                self.log(|| format!("replica {number} has {} of revision {seen}", what(which)));
            }
            self.observe()?;
        }
        Ok(has_work)
    }

    /// How many watches a replica has.
    pub(super) fn watches(&self) -> usize {
        3 + usize::from(self.profile.idles)
    }

    /// Runs all reflectors until they have nothing to do.
    pub(super) fn run_reflectors(&mut self) -> Result<bool, Breach> {
        let mut happened = false;
        for number in 0..self.replicas.len() {
            for which in 0..self.watches() {
                let mut turns = 0;
                while self.reflect(number, which)? {
                    happened = true;
                    turns += 1;
                    check(Promise::Bounded, turns < TURNS_MAX, || {
                        format!("the reflector of {} loops endlessly", what(which))
                    })?;
                }
            }
            self.run_coordinator(number)?;
        }
        Ok(happened)
    }

    /// Completes all calls in flight and those that follow from them, and delivers all watch events.
    /// Without faults that takes no time.
    pub(super) fn finish_calls(&mut self) -> Result<bool, Breach> {
        let mut happened = false;
        loop {
            let mut more = self.run_reflectors()?;
            more |= self.run_all_coordinators()?;
            for number in 0..self.replicas.len() {
                let taken = |replica: &Replica| replica.calls.iter().position(InFlight::is_taken);
                while let Some(at) = self.replicas[number].as_ref().and_then(taken) {
                    self.deliver_call(number, at)?;
                    let replica = self.replicas[number].as_mut();
                    if !replica.is_some_and(|replica| replica.deliver_result(at)) {
                        break;
                    }
                    more = true;
                }
                self.observe()?;
            }
            if !more {
                return Ok(happened);
            }
            happened = true;
        }
    }

    /// Number of waiting requests, of calls in flight and of starts in queues.
    pub(super) fn unfinished(&self) -> usize {
        let calls = self
            .replicas
            .iter()
            .flatten()
            .map(|replica| replica.calls.len() + replica.queued());
        self.waiting.len() + calls.sum::<usize>()
    }

    /// Whether the request with this number waits.
    pub(super) fn waits(&self, serial: u64) -> bool {
        self.waiting.contains_key(&serial)
    }

    /// The number of the last request.
    pub(super) fn last_serial(&self) -> u64 {
        self.serial
    }
}

/// The initial time of the fake's clock, in milliseconds since 1970.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// The service's key for a pair.
pub(super) fn key_of(pair: &Pair) -> InstanceKey {
    InstanceKey {
        app_type: AppType::new(&pair.0).expect("a type of a schedule is one"),
        name: InstanceName::new(&pair.1).expect("a name of a schedule is one"),
    }
}

/// The UID of the object that a call must change; `None` for a new one.
fn target_of(action: &Action) -> Option<String> {
    match action {
        Action::CreateJob(_) | Action::ReadJob { .. } | Action::PlaceJob { .. } => None,
        Action::DeleteJob { uid, .. }
        | Action::AdmitJob { uid }
        | Action::DeletePod { uid, .. }
        | Action::ForceDeletePod { uid, .. }
        | Action::LabelPod { uid, .. } => Some(uid.to_string()),
    }
}

/// The kind of object of the reflector with that index.
pub(super) fn what(which: usize) -> &'static str {
    ["ConfigMaps", "Jobs", "pods", "Leases"][which]
}

/// A call in a few words.
fn verb_of(action: &Action) -> String {
    match action {
        Action::CreateJob(_) => "create".to_owned(),
        Action::ReadJob { .. } => "read".to_owned(),
        Action::DeleteJob { uid, .. } => format!("delete {uid}"),
        Action::AdmitJob { uid } => format!("admit {uid}"),
        Action::PlaceJob { uid, .. } => format!("place {uid}"),
        Action::DeletePod { pod, .. } => format!("delete pod {pod}"),
        Action::ForceDeletePod { pod, .. } => format!("force deletion of pod {pod}"),
        Action::LabelPod { pod, .. } => format!("label {pod}"),
    }
}
