//! The dispatcher over a world of literals; the end of the inbox at which the coordinator would read.

use crate::app::assembler::Assembler;
use crate::app::catalog::{Offer, SharedCatalog};
use crate::app::coordinator::{Input, NewWaiter};
use crate::app::dry_runs::{Report, Reports};
use crate::app::engine::{self, Inbox, Inputs};
use crate::app::events::EventLog;
use crate::app::fixture::{World, added, handle};
use crate::app::relists::Relists;
use crate::app::rights::MissingRights;
use crate::app::stops::{StopQueue, Stopper};
use crate::app::templates::Templates;
use crate::app::{App, Waits};
use crate::budget::{Division, Ledger};
use crate::health::{HealthInputs, HealthSource};
use crate::http::auth::authenticator::Mode;
use crate::http::dispatcher::*;
use crate::http::server::HELD_BYTES_MAX;
use crate::metrics::Scrape;
use crate::model::names::AppType;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

/// A manual clock.
#[derive(Debug)]
pub(super) struct Manual {
    began: Instant,
    pub(super) passed: Mutex<Duration>,
}

impl Clock for Manual {
    fn now(&self) -> Instant {
        self.began + *self.passed.lock().unwrap()
    }

    fn wall_now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }
}

#[derive(Debug, Default)]
struct FixedHealth(HealthInputs);

impl HealthSource for FixedHealth {
    fn inputs(&self) -> HealthInputs {
        self.0.clone()
    }
}

/// The text of `/metrics`.
#[derive(Debug)]
struct NoScrape;

impl Scrape for NoScrape {
    fn text(&self) -> Arc<str> {
        "metrics".into()
    }
}

/// The responses of the app to waiting requests.
#[derive(Debug, Default)]
struct Answers(Mutex<Vec<app::Response>>);

impl ResponseSink for Answers {
    fn respond(&self, _: RequestHandle, response: app::Response) {
        self.0.lock().unwrap().push(response);
    }

    fn announce(&self) {}
}

/// Nothing was tried.
#[derive(Debug)]
struct Untried;

impl Reports for Untried {
    fn report(&self, _: &AppType, _: &Arc<Offer>) -> Option<Arc<Report>> {
        None
    }
}

/// The handler over a world, and the end of the inbox at which the coordinator would read.
pub(super) struct Bench {
    pub(super) world: World,
    pub(super) dispatcher: Dispatcher,
    pub(super) catalog: Arc<SharedCatalog>,
    pub(super) clock: Arc<Manual>,
    pub(super) inbox: Inputs,
    pub(super) relists: Arc<Relists>,
    stops: StopQueue,
    of_stopper: Inbox,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::over(World::new(), HealthInputs::default())
    }

    pub(super) fn over(world: World, inputs: HealthInputs) -> Self {
        let clock = Arc::new(Manual {
            began: world.instant(),
            passed: Mutex::default(),
        });
        let (inbox, inputs_of_coordinator) = Inbox::new(engine::INPUTS_MAX);
        let stops = StopQueue::new(world.cache.clone());
        let of_stopper = inbox.clone();
        let waits = Waits {
            start_wait: Duration::from_secs(10),
            start_wait_max: Duration::from_secs(300),
        };
        let catalog = Arc::new(SharedCatalog::default());
        let zoned =
            "spec: {containers: [{name: a}], nodeSelector: {z: \"${alternatives['zone']}\"}}";
        let map =
            json!({"metadata": {"name": "apps"}, "data": {"zeta.yaml": zoned, "scim.yaml": "x"}});
        catalog.update(&[added(&map)]);
        let of_app = Arc::clone(&clock) as Arc<dyn Clock>;
        let (cache, offers) = (world.cache.clone(), Arc::clone(&catalog));
        let events = Arc::new(EventLog::new("r", 1, crate::http::handlers::event));
        let relists = Arc::<Relists>::default();
        let streams = (events, Arc::clone(&relists), stops.clone());
        let app = App::new(cache, offers, inbox, waits, of_app, None, streams);
        let instrumentation = Instrumentation {
            metrics: Arc::new(Metrics::new(1, &endpoints::labels())),
            traces: Traces::default(),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        };
        let of_authenticator = Arc::clone(&clock) as Arc<dyn Clock>;
        let authenticator = Authenticator::new(Mode::Open, 20, of_authenticator);
        let health = Arc::new(FixedHealth(inputs));
        let api = Api {
            app,
            health_source: health,
            scrape: Arc::new(NoScrape),
            hostname: "here".into(),
        };
        let dispatcher = Dispatcher {
            api,
            hosts: AllowedHosts::default(),
            authenticator,
            bounds: WaitingBounds::new(
                Ledger::of_bytes(HELD_BYTES_MAX, Division::default()),
                100,
                Division::default(),
            ),
            instrumentation,
        };
        Self {
            world,
            dispatcher,
            catalog,
            clock,
            inbox: inputs_of_coordinator,
            relists,
            stops,
            of_stopper,
        }
    }

    pub(super) fn send(&self, request: Request) -> Handled<Box<Waiting>> {
        self.dispatcher.handle(request, handle(7))
    }

    pub(super) fn get(&self, target: &str) -> Response {
        reply(self.send(Request::new(Method::Get, target)))
    }

    /// The response to a GET of a list, which waits unless the list is known.
    pub(super) fn list(&self, request: Request) -> Response {
        let waiting = match self.send(request) {
            Handled::Parked(waiting) => waiting,
            other => return reply(other),
        };
        let answered = self.assemble().pop();
        let answered = answered.expect("a list is due");
        reply(self.dispatcher.resume(waiting, answered))
    }

    /// Makes the list that is due, if one is; returns the responses to those who wait for it.
    pub(super) fn assemble(&self) -> Vec<app::Response> {
        let sink = Arc::new(Answers::default());
        let assembler = Assembler {
            cache: self.world.cache.clone(),
            census: self.world.census.clone(),
            encode: crate::http::handlers::entry,
            page: crate::http::handlers::PAGE,
            templates: Templates {
                catalog: Arc::clone(&self.catalog),
                reports: Arc::new(Untried),
                rights: MissingRights::default(),
                encode: crate::http::handlers::template,
            },
            bounds: self.dispatcher.bounds.clone(),
            stopper: Stopper::new(self.stops.clone(), self.of_stopper.clone()),
            sink: Arc::clone(&sink) as Arc<dyn ResponseSink>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
        };
        assembler.step();
        std::mem::take(&mut *sink.0.lock().unwrap())
    }

    pub(super) fn patch(&self, content_type: &str, body: &str) -> Handled<Box<Waiting>> {
        let mut request = Request::new(Method::Patch, "/app/scim/n1");
        request
            .headers
            .push("Content-Type", content_type.as_bytes());
        request.body = body.into();
        self.send(request)
    }

    /// What has just been put into the coordinator's inbox.
    pub(super) fn input(&self) -> Input {
        self.inbox.take(1).pop().unwrap()
    }

    /// The request that has just been handed to the coordinator.
    pub(super) fn waiter(&self) -> NewWaiter {
        match self.input() {
            Input::Requested(waiter) => waiter,
            other => panic!("no request: {other:?}"),
        }
    }

    pub(super) fn seconds_from_now(&self, deadline: Instant) -> u64 {
        (deadline - self.clock.now()).as_secs()
    }
}

#[track_caller]
pub(super) fn reply(handled: Handled<Box<Waiting>>) -> Response {
    match handled {
        Handled::Reply(response) => response,
        other => panic!("no reply: {other:?}"),
    }
}

#[track_caller]
pub(super) fn parked(handled: Handled<Box<Waiting>>) -> Pending {
    match handled {
        Handled::Parked(waiting) => match waiting.what_for {
            WaitingFor::App(pending) => pending,
            review => panic!("{review:?}"),
        },
        other => panic!("not parked: {other:?}"),
    }
}

pub(super) fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    let found = response.headers.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value.as_ref())
}

#[track_caller]
pub(super) fn check(response: &Response, status: u16, body: &str) {
    let text = std::str::from_utf8(&response.body).unwrap();
    assert_eq!((response.status, text), (status, body));
    if !body.is_empty() {
        assert_eq!(header(response, "content-type"), Some("application/json"));
    }
}

/// The HTTP response to a parked request, once the app has responded.
pub(super) fn resumed(bench: &Bench, pending: Pending, response_of_app: app::Response) -> Response {
    let (method, path) = match &pending {
        Pending::Ensure(..) | Pending::Follow(_) => (Method::Get, "/app/scim/n1"),
        Pending::Events(_) => (Method::Get, "/instances"),
        Pending::List(..) => (Method::Get, "/app/scim"),
        Pending::Templates(..) => (Method::Get, "/templates"),
        Pending::Log(_) | Pending::Report(..) => (Method::Get, "/app/scim/n1/logs"),
        Pending::Label(_) => (Method::Patch, "/app/scim/n1"),
        Pending::StopMany => (Method::Delete, "/instances"),
        Pending::Stop => (Method::Delete, "/app/scim/n1"),
        Pending::Create(..) => (Method::Get, "/create/scim"),
        Pending::Release(_) => (Method::Get, "/release/s-1"),
    };
    let exchange = Exchange {
        handle: handle(7),
        endpoint: router::route(&method, path).endpoint(),
        method,
        caller: Caller::ANONYMOUS,
        standing: None,
        span: None,
    };
    let what_for = WaitingFor::App(pending);
    let waiting = Box::new(Waiting { exchange, what_for });
    let Handled::Reply(response) = bench.dispatcher.resume(waiting, response_of_app) else {
        panic!("it waits on");
    };
    response
}
