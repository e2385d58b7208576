//! One replica without its threads: the service's own parts, run one step at a time.
//!
//! The coordinator, the stores, the reflectors, the executor and [`App`] are the service's own; the
//! HTTP front and the loops of the threads are missing. One iteration of a thread is one step here, and
//! steps of different threads interleave as they can in the service.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use config_controller::app::api_call::{Action, ApiCall};
use config_controller::app::assembler::Assembler;
use config_controller::app::cache::{Cache, Census};
use config_controller::app::catalog::{Offer, SharedCatalog};
use config_controller::app::coordinator::{Context, Coordinator, Effect, Input, Limits};
use config_controller::app::dry_runs::{Report, Reports};
use config_controller::app::engine::{self, Called, Executor, Inbox, Inputs, Writers};
use config_controller::app::instances::{PageQuery, Selection};
use config_controller::app::keys::own_key_of;
use config_controller::app::queue::CallQueue;
use config_controller::app::rendering::Renderer;
use config_controller::app::rights::MissingRights;
use config_controller::app::stops::{StopQueue, Stopper};
use config_controller::app::templates::Templates;
use config_controller::app::uses::Uses;
use config_controller::app::{App, RequestHandle, Response, ResponseSink, Waits};
use config_controller::budget::{Account, Exceeded, Held, Ledger, Purpose, WaitingBounds};
use config_controller::clock::Clock;
use config_controller::http::handlers;
use config_controller::kube::Client;
use config_controller::kube::server_clock::ServerClock;
use config_controller::kube::transport::Transport;
use config_controller::kube::types::{ConfigMap, Job, Pod, PodPhase};
use config_controller::model::names::{AppType, InstanceKey};
use config_controller::store::{Doubts, EventWriter, Scanner, UseReports, store};

use super::defects::{Defect, HeldBack};
use super::dice::Time;
use super::idle::Idle;
use super::promises::{self, Breach, Floors, Promise};
use super::readers::Reader;
use super::reflectors::{AnyReflector, Wiring};
use super::server::{Link, Server};
use super::truth::Pair;
use crate::harness::NAMESPACE;

/// Inputs that fit into a replica's inbox; it is emptied long before.
const INBOX_CAPACITY: usize = 1024;

/// How long requests wait, as in the default settings.
pub(super) const WAITS: Waits = Waits {
    start_wait: Duration::from_secs(10),
    start_wait_max: Duration::from_secs(300),
};

/// One replica.
pub(super) struct Replica {
    /// What the front calls.
    pub(super) app: App,
    /// Its cache.
    pub(super) cache: Cache,
    /// All that its cache has.
    pub(super) census: Census,
    config_maps: Scanner<ConfigMap>,
    assembler: Assembler,
    /// Its reflectors: ConfigMaps, Jobs, pods, and Leases if instances end that nobody uses.
    pub(super) reflectors: Vec<Box<dyn AnyReflector>>,
    /// What ends them.
    pub(super) idle: Option<Idle>,
    /// What its waiting requests may hold.
    pub(super) bounds: WaitingBounds,
    /// The calls in flight.
    pub(super) calls: Vec<InFlight>,
    /// The names of those that wait for a worker.
    queue: CallQueue<AppType, Option<Account>, InstanceKey>,
    workers: usize,
    coordinator: Coordinator,
    /// The first invariant that did not hold after a step.
    broken: Option<String>,
    inbox: Inbox,
    inputs: Inputs,
    pub(super) catalog: Arc<SharedCatalog>,
    executor: Executor,
    pub(super) time: Time,
    clock: Arc<dyn Clock>,
    /// What only the simulation knows of it.
    pub(super) sim: SimState,
}

/// What only the simulation knows of a replica.
#[derive(Default)]
pub(super) struct SimState {
    /// Whether it has changed since its stores were checked.
    pub(super) is_changed: bool,
    /// The UIDs of the pods that its cache has shown being deleted before they had ended.
    pub(super) stopping: BTreeSet<String>,
    /// The ready responses that it returns again, with a defect.
    pub(super) kept: BTreeMap<Pair, Response>,
    /// What is wrong with it on purpose.
    pub(super) defect: Defect,
    /// When it was started.
    pub(super) began: Option<Instant>,
    held_back: HeldBack,
    /// Who reads its events.
    pub(super) reader: Reader,
}

/// The bytes that all requests may hold; some of those in a burst are refused.
const BYTES_MAX: usize = 8 * 1024;

/// No template is tried.
#[derive(Debug)]
struct Untried;

impl Reports for Untried {
    fn report(&self, _: &AppType, _: &Arc<Offer>) -> Option<Arc<Report>> {
        None
    }
}

fn assembler(
    (cache, census): (&Cache, &Census),
    catalog: &Arc<SharedCatalog>,
    bounds: &WaitingBounds,
    (stopper, clock): (Stopper, Arc<dyn Clock>),
) -> Assembler {
    Assembler {
        cache: cache.clone(),
        census: census.clone(),
        encode: handlers::entry,
        page: handlers::PAGE,
        templates: Templates {
            catalog: Arc::clone(catalog),
            reports: Arc::new(Untried),
            rights: MissingRights::default(),
            encode: handlers::template,
        },
        bounds: bounds.clone(),
        stopper,
        sink: Arc::new(Nobody),
        clock,
    }
}

fn waiting_bounds(limits: Limits) -> WaitingBounds {
    let bytes = Ledger::of_bytes(BYTES_MAX, limits.division);
    WaitingBounds::new(bytes, limits.parked_max, limits.division)
}

/// A call in flight.
pub(super) enum InFlight {
    /// It waits for a worker.
    Queued(Arc<ApiCall>),
    /// The API server has not received it yet.
    Sent(Arc<ApiCall>),
    /// The API server has processed it, or it has failed; the result is on its way.
    Completed(InstanceKey, Box<Called>),
}

impl InFlight {
    /// The instance that it is for.
    pub(super) fn key(&self) -> &InstanceKey {
        match self {
            Self::Queued(call) | Self::Sent(call) => &call.key,
            Self::Completed(key, _) => key,
        }
    }

    /// The call, while the API server has not received it.
    fn sent(&self) -> Option<Arc<ApiCall>> {
        match self {
            Self::Sent(call) => Some(Arc::clone(call)),
            Self::Queued(_) | Self::Completed(..) => None,
        }
    }

    /// Whether a worker makes it.
    pub(super) fn is_taken(&self) -> bool {
        !matches!(self, Self::Queued(_))
    }

    /// Whether it will create a Job of that name.
    pub(super) fn will_create(&self, key: &InstanceKey) -> bool {
        let (Self::Queued(call) | Self::Sent(call)) = self else {
            return false;
        };
        call.key == *key && matches!(call.action, Action::CreateJob(_))
    }
}

/// Callers that only read lists.
#[derive(Debug)]
struct Nobody;

impl ResponseSink for Nobody {
    fn respond(&self, _: RequestHandle, _: Response) {}

    fn announce(&self) {}
}

/// The output of the coordinator.
#[derive(Default)]
pub(super) struct Output {
    /// Responses, in the order of their handles.
    pub(super) responses: Vec<(RequestHandle, Response)>,
    /// Calls, in the order of their names.
    pub(super) calls: Vec<Arc<ApiCall>>,
}

impl Replica {
    /// A replica that has just started.
    pub(super) fn new(
        server: &Arc<Mutex<Server>>,
        time: Time,
        (limits, workers): (Limits, usize),
        seed: u64,
        defect: Defect,
    ) -> Self {
        let server_clock = Arc::new(ServerClock::new(Arc::new(time.clone())));
        let clock: Arc<dyn Clock> = Arc::clone(&server_clock) as Arc<dyn Clock>;
        let now = time.now();
        let link = Arc::new(Link::new(Arc::clone(server), server_clock));
        let client = Client::new(Arc::clone(&link) as Arc<dyn Transport>, NAMESPACE);
        let (inbox, inputs) = Inbox::new(INBOX_CAPACITY);
        let catalog = Arc::new(SharedCatalog::default());
        let config_maps = store::new::<ConfigMap>(now).0;
        let (jobs, pods) = (store::new::<Job>(now).0, store::new::<Pod>(now).0);
        // As with a Role without permission to read Events.
        let events = EventWriter::default();
        let doubts = Doubts::default();
        let (cache, census) = Cache::over(&config_maps, &jobs, &pods, &events, Arc::default());
        let scanner = config_maps.scanner();
        let executor = Executor {
            client: client.clone(),
            writers: Writers {
                jobs: jobs.clone(),
                pods: pods.clone(),
                events: events.clone(),
                doubts: doubts.clone(),
            },
            cache: cache.clone(),
            renderer: Renderer::default(),
            start_warnings: Arc::default(),
            uses: Uses::new(now, MissingRights::default()),
            clock: Arc::clone(&clock),
        };
        let wiring = Wiring {
            doubts: &doubts,
            client: &client,
            clock: &clock,
            link: &link,
            seed,
            defect,
        };
        let reflectors =
            wiring.reflectors(config_maps, jobs, pods, &catalog, (&cache, &census), &inbox);
        let bounds = waiting_bounds(limits);
        let reader = Reader::default();
        let stops = StopQueue::new(cache.clone());
        Self {
            app: App::new(
                cache.clone(),
                Arc::clone(&catalog),
                inbox.clone(),
                WAITS,
                Arc::clone(&clock),
                None,
                (Arc::clone(&reader.log), Arc::default(), stops.clone()),
            ),
            executor,
            assembler: assembler(
                (&cache, &census),
                &catalog,
                &bounds,
                (Stopper::new(stops, inbox.clone()), Arc::clone(&clock)),
            ),
            cache,
            census,
            config_maps: scanner,
            reflectors,
            idle: None,
            bounds,
            calls: Vec::new(),
            queue: CallQueue::new(limits.parked_max),
            workers,
            coordinator: Coordinator::new(limits),
            broken: None,
            inbox,
            inputs,
            catalog,
            time,
            clock,
            sim: SimState {
                defect,
                reader,
                began: Some(now),
                ..SimState::default()
            },
        }
    }

    /// The same replica, of this number, which also stops what nobody uses.
    pub(super) fn with_idle(
        mut self,
        number: usize,
        server: &Arc<Mutex<Server>>,
        seed: u64,
    ) -> Self {
        let server_clock = Arc::new(ServerClock::new(Arc::new(self.time.clone())));
        let clock: Arc<dyn Clock> = Arc::clone(&server_clock) as Arc<dyn Clock>;
        let link = Arc::new(Link::new(Arc::clone(server), server_clock));
        let client = Client::new(Arc::clone(&link) as Arc<dyn Transport>, NAMESPACE);
        let reports = UseReports::new(Arc::clone(&clock));
        let wiring = Wiring {
            doubts: &Doubts::default(),
            client: &client,
            clock: &clock,
            link: &link,
            seed,
            defect: self.sim.defect,
        };
        self.reflectors.push(wiring.reports(reports.clone()));
        let idle = Idle::new(number, &self, (&client, &reports), &clock);
        self.executor.uses = idle.uses();
        self.app = self.app.with_uses(idle.uses(), Duration::ZERO);
        self.idle = Some(idle);
        self
    }

    /// Passes an input to its coordinator.
    pub(super) fn give(&self, input: Input) {
        self.inbox.send(input);
    }

    /// Keeps a ready response, with the defect that it is returned again.
    pub(super) fn keep(&mut self, pair: &Pair, response: &Response) {
        if self.sim.defect == Defect::KeepsResponses {
            self.sim.kept.insert(pair.clone(), response.clone());
        }
    }

    /// One iteration of the coordinator's thread: it processes its inputs and its timers.
    pub(super) fn run_coordinator(&mut self) -> Output {
        let catalog = self.catalog.current();
        let context = Context {
            now: self.time.now(),
            wall: self.clock.wall_now(),
            cache: &self.cache,
            catalog: &catalog,
        };
        let mut effects = Vec::new();
        let defect = self.sim.defect;
        let inputs = self.inputs.take(INBOX_CAPACITY);
        let wake = self.coordinator.next_wake();
        self.sim.is_changed |= !inputs.is_empty() || wake.is_some_and(|at| at <= context.now);
        let changed = engine::changed_by(&inputs);
        for input in inputs.into_iter().filter(|input| defect.gets(input)) {
            self.coordinator.step(input, &context, &mut effects);
            self.broken = self
                .broken
                .take()
                .or_else(|| self.coordinator.check().err());
        }
        self.coordinator.tick(&context, &mut effects);
        let mut out = Output::default();
        for effect in effects {
            match effect {
                Effect::Respond(handle, response) => out.responses.push((handle, response)),
                Effect::Call(call) => out.calls.push(call),
                Effect::Report(event) if !defect.tells(&event.kind) => {}
                Effect::Report(event) => {
                    let item = self.cache.item(&event.key, None);
                    self.sim.reader.report(&event, item, context.wall);
                }
            }
        }
        let changed = changed.iter().filter_map(|key| self.cache.item(key, None));
        for item in changed.filter(|_| defect.tells_labels()) {
            self.sim.reader.relabel(&item, context.wall);
        }
        self.sim
            .defect
            .spoil(&mut out, self.calls.iter().filter_map(InFlight::sent));
        // The order of names within the coordinator depends on random hashes.
        out.responses.sort_by_key(|(handle, _)| *handle);
        out.calls.sort_by(|a, b| a.key.cmp(&b.key));
        out
    }

    /// Checks the invariants of the coordinator.
    pub(super) fn check(&self) -> Result<(), Breach> {
        let broken = self
            .broken
            .clone()
            .or_else(|| self.coordinator.check().err());
        promises::check(Promise::CoordinatorIsSound, broken.is_none(), || {
            broken.unwrap_or_default()
        })?;
        let broken = self.sim.reader.broken();
        promises::check(Promise::EventsAreTrue, broken.is_none(), || {
            broken.unwrap_or_default().to_owned()
        })
    }

    /// Checks that the reader of its events knows what there is, once everything was reported.
    pub(super) fn check_reader(&self) -> Result<(), Breach> {
        let keys = self.census.jobs.all();
        let keys = keys.iter().filter_map(|job| own_key_of(job));
        let items: Vec<_> = keys.filter_map(|key| self.cache.item(&key, None)).collect();
        let known = self.sim.reader.check_at_rest(&items);
        promises::check(Promise::EventsAreTrue, known.is_ok(), || {
            known.err().unwrap_or_default()
        })
    }

    /// When the coordinator, or what stops unused instances, must run next.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        let idle = self.idle.as_ref().map(|idle| idle.wakes);
        self.coordinator.next_wake().into_iter().chain(idle).min()
    }

    /// How many requests wait at the coordinator.
    pub(super) fn waiting(&self) -> usize {
        self.coordinator.waiting()
    }

    /// Charges a request to one of three callers. Its size depends on its number, so that a wrong
    /// sum is seen.
    pub(super) fn hold(&self, number: usize, is_change: bool) -> Result<Arc<Held>, Exceeded> {
        let account = Account::Token(["a", "b", "c"][number % 3].into());
        let purpose = match is_change {
            true => Purpose::Write,
            false => Purpose::Start,
        };
        self.bounds.hold(&account, purpose, 256 + number % 7 * 64)
    }

    /// How many requests hold a place at the coordinator.
    pub(super) fn holders(&self) -> usize {
        self.coordinator.holders()
    }

    /// How many starts wait for a place.
    pub(super) fn queued(&self) -> usize {
        let [queued, _] = self.coordinator.starts();
        queued
    }

    /// Adds calls, which wait until a worker is free.
    pub(super) fn add_calls(&mut self, calls: Vec<Arc<ApiCall>>) -> Result<(), Breach> {
        let calls = match self.sim.defect {
            Defect::WaitsForOne => self.sim.held_back.release(calls, self.time.now()),
            _ => calls,
        };
        for call in calls {
            let turn = (call.lane, call.key.app_type.clone(), call.caller.clone());
            let pushed = self.queue.push(turn, call.key.clone());
            promises::check(Promise::Bounded, pushed.is_ok(), || {
                format!("{} calls wait", self.queue.len())
            })?;
            self.calls.push(InFlight::Queued(call));
        }
        self.take_calls();
        Ok(())
    }

    /// Free workers take the calls whose turn it is.
    fn take_calls(&mut self) {
        while self.calls.iter().filter(|call| call.is_taken()).count() < self.workers {
            let Some(key) = self.queue.take() else {
                return;
            };
            let mut calls = self.calls.iter_mut();
            if let Some(waiting) = calls.find(|call| *call.key() == key)
                && let InFlight::Queued(call) = waiting
            {
                *waiting = InFlight::Sent(Arc::clone(call));
            }
        }
    }

    /// Delivers the call at that index to the API server; its result is then on its way.
    pub(super) fn deliver_call(&mut self, at: usize) -> bool {
        let InFlight::Sent(call) = &self.calls[at] else {
            return false;
        };
        let key = call.key.clone();
        let called = self.executor.call(Arc::clone(call));
        self.calls[at] = InFlight::Completed(key, Box::new(called));
        true
    }

    /// Delivers the result of the call at that index to the coordinator.
    pub(super) fn deliver_result(&mut self, at: usize) -> bool {
        let is_lost = self.sim.defect == Defect::LosesResults;
        if is_lost || !matches!(self.calls[at], InFlight::Completed(..)) {
            return false;
        }
        let InFlight::Completed(key, called) = self.calls.swap_remove(at) else {
            return false;
        };
        let completed = self.executor.apply(*called);
        self.sim
            .held_back
            .ended(&key, &completed.outcome, self.time.now());
        self.inbox.send(Input::Completed(key, completed));
        self.sim.is_changed = true;
        self.take_calls();
        true
    }

    /// Checks the invariants of its stores, and of the index over them.
    pub(super) fn check_stores(&self) -> Result<(), String> {
        self.config_maps.check()?;
        self.census.jobs.check()?;
        self.census.pods.check()?;
        self.cache.check(&self.census)?;
        self.assembler.check()?;
        self.read_lists();
        Ok(())
    }

    /// Callers read the list of each type and pages of all, so that each further change must mark them as
    /// changed.
    fn read_lists(&self) {
        let nobody = RequestHandle {
            io: 0,
            slot: 0,
            serial: 0,
        };
        for app_type in self.cache.counts().keys() {
            if let Ok(None) = self.app.list(app_type.as_str()) {
                let waits = self.app.await_list(app_type.as_str(), nobody);
                assert!(waits.is_ok(), "the type has instances");
            }
        }
        for statuses in [BTreeSet::new(), BTreeSet::from([1])] {
            let query = Arc::new(PageQuery {
                selection: Selection {
                    statuses,
                    ..Selection::default()
                },
                limit: 3,
                after: None,
            });
            if let Ok(None) = self.app.page(&query) {
                let pages = &self.bounds.pages;
                let place = pages.hold(Account::Service, Purpose::Transfer, 1);
                let waits = self.app.await_page(&query, nobody, place);
                assert!(waits.is_ok(), "there is a place for each");
            }
        }
        while self.assembler.step() {}
    }

    /// The UIDs of the pods that have not ended, as its cache shows them.
    pub(super) fn running_pods(&self) -> BTreeSet<String> {
        let pods = self.census.pods.all().into_iter();
        let running = pods.filter(|pod| !is_over(pod));
        running.map(|pod| pod.metadata.uid.to_string()).collect()
    }

    /// Notes the pods that its cache shows being deleted before they have ended.
    pub(super) fn note_stopping(&mut self) {
        let pods = self.census.pods.all().into_iter();
        let stopping = pods.filter(|pod| pod.metadata.is_deleting() && !is_over(pod));
        let uids = stopping.map(|pod| pod.metadata.uid.to_string());
        self.sim.stopping.extend(uids);
    }

    /// The revisions that its caches have reached.
    pub(super) fn floors(&self) -> Floors {
        Floors {
            jobs: self.reflectors[1].seen(),
            pods: self.reflectors[2].seen(),
        }
    }
}

fn is_over(pod: &Pod) -> bool {
    matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed)
}
