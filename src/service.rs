//! The service: wires the parts, starts the threads, and stops them in order.
//!
//! Nothing is decided here but the order of starting and stopping:
//!
//! - start: stores, coordinator and workers, reflectors, and last the front, so that everything a
//!   request needs is running;
//! - shutdown: `/readyz` fails, `DRAIN_DELAY` passes, waiting requests are answered, the front
//!   closes its connections, and the threads behind it exit last.
//!
//! When a thread that the service needs dies, the process exits: a restart loses nothing.

mod front;
mod idle;
mod place;
mod problems;
mod reflecting;
mod signals;

pub use place::{Connected, Namespaces, Replica, connect};
pub use problems::problems;

use crate::app::assembler::Assembler;
use crate::app::cache::{Cache, Census};
use crate::app::catalog::SharedCatalog;
use crate::app::coordinator::Coordinator;
use crate::app::dry_runs::DryRuns;
use crate::app::engine::{self, Executor, Inbox, Parts};
use crate::app::events::EventLog;
use crate::app::logs::Logs;
use crate::app::relists::{Relister, Relists};
use crate::app::rendering::Renderer;
use crate::app::reporter::Reporter;
use crate::app::review::Reviews;
use crate::app::rights::MissingRights;
use crate::app::stops::{StopQueue, StopSink, Stopper};
use crate::app::templates::Templates;
use crate::app::usage::Usage;
use crate::app::uses::Uses;
use crate::app::{App, Response, ResponseSink};
use crate::budget::{Ledger, WaitingBounds};
use crate::clock::{Clock, SystemClock};
use crate::config::{Auth, Config};
use crate::health::HealthSource;
use crate::http::auth::authenticator::{Authenticator, Mode};
use crate::http::auth::file::TokensFile;
use crate::http::dispatcher::{Dispatcher, Instrumentation};
use crate::http::endpoints;
use crate::http::handlers::{self, Api};
use crate::http::listener;
use crate::http::mailbox::Mailboxes;
use crate::http::server::Server;
use crate::http::tls::Tls;
use crate::kube::Client;
use crate::kube::metered::Metered;
use crate::kube::server_clock::ServerClock;
use crate::kube::transport::Transport;
use crate::metrics::{Metrics, Scrape};
use crate::scrape::{Collector, Sources};
use crate::shutdown::{self, Stop};
use crate::threads::{Heartbeats, OnDeath};
use crate::traces::Traces;
use front::front_settings;
use place::hostname;
use reflecting::Stores;
use signals::Signals;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// Time reserved at the end of the drain for sending the last responses.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// Why the service did not start, or ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The cluster configuration or a file that the settings name is invalid; all its problems.
    Settings(Vec<String>),
    /// A resource of the machine is not available (a port, a thread, signals).
    Start(String),
    /// A thread that the service needs has ended.
    Died(String),
}

impl Error {
    /// The exit code of the process, as [`crate::config::EXIT_CODES`] explains them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Start(_) => 1,
            Self::Settings(_) => 2,
            Self::Died(_) => 3,
        }
    }
}

impl Error {
    /// Its problems, one or more.
    fn into_problems(self) -> Vec<String> {
        match self {
            Self::Settings(problems) => problems,
            Self::Start(problem) | Self::Died(problem) => vec![problem],
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(problems) => {
                let lines = problems.iter().map(|it| format!("config-controller: {it}"));
                f.write_str(&lines.collect::<Vec<_>>().join("\n"))
            }
            Self::Start(text) | Self::Died(text) => {
                write!(f, "config-controller: {text}")
            }
        }
    }
}

/// A reason for the service to end.
#[derive(Clone, Debug)]
enum Ending {
    /// A signal requested it, for the first time or again.
    Requested,
    /// A thread has died.
    Died(String),
}

/// Runs the service of this process until a signal ends it.
///
/// # Errors
/// When it cannot start, or a thread that it needs has died.
pub fn run(config: &Config) -> Result<(), Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let Connected {
        transport,
        namespaces,
        origin,
    } = connect(config, &clock)?;
    let closing = Arc::clone(&transport);
    let name = config.pod_name.clone().unwrap_or_else(hostname);
    let replica = Replica {
        name: &name,
        namespaces: &namespaces,
    };
    let service = Service::start(config, transport, replica, clock)?;
    log::info!(
        "config-controller {} serves namespace {} ({origin}) on {}",
        env!("CARGO_PKG_VERSION"),
        namespaces.served,
        service.address()
    );
    let (first, second) = (service.endings.clone(), service.endings.clone());
    // The receiver may be gone already, when the service has ended by itself.
    let request_end = |to: Sender<Ending>| move || drop(to.send(Ending::Requested));
    shutdown::on_signals(request_end(first), request_end(second))
        .map_err(|error| Error::Start(format!("cannot handle signals: {error}")))?;
    let ended = service.wait_and_drain(config);
    closing.close_watches();
    ended
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    server: Server,
    app: App,
    health_source: Arc<Signals>,
    stop: Stop,
    /// Set after `stop`, when other replicas were sent the last uses.
    reported: Stop,
    endings: Sender<Ending>,
    ended: Receiver<Ending>,
    clock: Arc<dyn Clock>,
    traces: Traces,
}

impl Service {
    /// Starts all threads; requests are answered from here on.
    ///
    /// # Errors
    /// When the port or a thread is not available, or the certificate cannot be used.
    pub fn start(
        config: &Config,
        transport: Arc<dyn Transport>,
        replica: Replica<'_>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Error> {
        let heartbeats = Heartbeats::default();
        let front = front_settings(config, &heartbeats, seed())?;
        let mode = auth_mode(config)?;
        let listener = listener::listen(config.listen, config.port).map_err(|error| {
            let at = SocketAddr::new(config.listen, config.port);
            Error::Start(format!(
                "cannot listen on {at}: {error}; set SERVICE_PORT or LISTEN"
            ))
        })?;
        let traces = Traces::start(config.traces.as_ref(), &hostname(), Arc::clone(&clock))
            .map_err(|problem| Error::Settings(vec![problem]))?;
        let (endings, ended) = channel();
        let metrics = Arc::new(Metrics::new(config.io_threads, &endpoints::labels()));
        let server_clock = Arc::new(ServerClock::new(Arc::clone(&clock)));
        let metered = Metered::new(transport, Arc::clone(&metrics), Arc::clone(&server_clock));
        let metered: Arc<dyn Transport> = Arc::new(metered);
        let own_client = Client::new(Arc::clone(&metered), &replica.namespaces.own);
        let client = Client::new(metered, &replica.namespaces.served);
        let now = clock.now();
        let stores = Stores::new(now);
        let (cache, census) = stores.cache(Arc::clone(&front.memory));
        let catalog = Arc::new(SharedCatalog::new(config.template_defaults.clone()));
        let mailboxes = Arc::new(Mailboxes::<Response>::new(config.io_threads));
        let (inbox, inputs) = Inbox::new(engine::INPUTS_MAX);
        let events = Arc::new(EventLog::new(&hostname(), front.id_seed, handlers::event));
        let stops = StopQueue::new(cache.clone());
        let reporters = idle::reporters(config, replica.name, &clock);
        let uses = Uses::new(clock.now(), reporters.rights.clone());
        let parts = Parts {
            events: Arc::clone(&events),
            usage: Usage::new(reporters.clone()),
            coordinator: Coordinator::new(config.waiting),
            inputs,
            inbox: inbox.clone(),
            cache: cache.clone(),
            catalog: Arc::clone(&catalog),
            sink: Arc::new(StopSink {
                queue: stops.clone(),
                others: Arc::clone(&mailboxes) as Arc<dyn ResponseSink>,
            }),
            executor: Executor {
                client: client.clone(),
                writers: stores.instances.clone(),
                cache: cache.clone(),
                renderer: Renderer::default(),
                start_warnings: Arc::default(),
                uses: uses.clone(),
                clock: Arc::clone(&clock),
            },
            clock: Arc::clone(&server_clock) as Arc<dyn Clock>,
            reporter: Reporter {
                metrics: Arc::clone(&metrics),
                traces: traces.clone(),
                catalog: Arc::clone(&catalog),
                clock: Arc::clone(&clock),
            },
            workers: config.workers,
            heartbeats: heartbeats.clone(),
            calls_max: config.waiting.parked_max,
        };
        let renderer = engine::start(parts, &on_death(&endings)).map_err(no_thread)?;
        let stop = Stop::new();
        let background = Background {
            config,
            client: &client,
            clock: &clock,
            stop: &stop,
            heartbeats: &heartbeats,
            endings: &endings,
            metrics: &metrics,
            rights: reporters.rights.clone(),
            uses: &uses,
        };
        let (authenticator, reviews) = background.authenticator(mode, &mailboxes)?;
        let sink = Arc::clone(&mailboxes) as Arc<dyn ResponseSink>;
        let dry_runs = background.dry_runs(&catalog, renderer, &cache)?;
        let (bytes, waiting) = (Arc::clone(&front.ledger), config.waiting);
        let bounds = WaitingBounds::new(bytes, waiting.parked_max, waiting.division);
        let stopper = Stopper::new(stops.clone(), inbox.clone());
        background.lists(
            (&cache, &census),
            (&catalog, &dry_runs),
            &bounds,
            (stopper, Arc::clone(&sink)),
        )?;
        let reports = Arc::new(dry_runs.clone());
        let config_maps_left_out = Arc::clone(&stores.left_out);
        let templates = (&catalog, &dry_runs);
        let watches = background.reflectors(stores, templates, &inbox, (&cache, &census))?;
        let of_cache = (&cache, &census);
        let reported = background.idle(own_client, &reporters, of_cache, &inbox, templates)?;
        let collector = Arc::new(Collector::new(Sources {
            metrics: Arc::clone(&metrics),
            cache: cache.clone(),
            catalogs: Arc::clone(&catalog),
            dry_runs,
            watches,
            config_maps_left_out,
            traces: traces.clone(),
            clock: server_clock,
        }));
        let app_clock = Arc::clone(&clock);
        let relists = background.relists(&events, (&cache, &catalog), &front.ledger, &sink)?;
        let streams = (events, relists, stops);
        let app = App::new(
            cache,
            catalog,
            inbox,
            config.waits,
            app_clock,
            reviews,
            streams,
        );
        let places = (config.log_streams, config.waiting.division);
        let app = app.with_reports(reports);
        let app = app.with_uses(uses, config.heartbeat_max);
        let app = app.with_logs(Logs::new(client, sink, places, on_death(&endings)));
        let health_source = Arc::new(Signals {
            app: app.clone(),
            stopping: AtomicBool::new(false),
            heartbeats,
            clock: Arc::clone(&clock),
        });
        let api = Api {
            app: app.clone(),
            health_source: Arc::clone(&health_source) as Arc<dyn HealthSource>,
            scrape: Arc::clone(&collector) as Arc<dyn Scrape>,
            hostname: hostname(),
        };
        let instrumentation = Instrumentation {
            metrics,
            traces: traces.clone(),
            clock: Arc::clone(&clock),
        };
        let dispatcher = Dispatcher {
            api,
            hosts: config.allowed_hosts.clone(),
            authenticator,
            bounds: bounds.clone(),
            instrumentation,
        };
        if let Some(tls) = &front.tls {
            Tls::watch(tls, &stop, on_death(&endings)).map_err(no_thread)?;
        }
        let server = Server::start(
            listener,
            Arc::new(dispatcher),
            mailboxes,
            front,
            Arc::clone(&clock),
            on_death(&endings),
        )
        .map_err(|error| Error::Start(format!("cannot start the HTTP server: {error}")))?;
        collector.set_front(server.stats(), bounds);
        Ok(Self {
            server,
            app,
            health_source,
            stop,
            reported,
            endings,
            ended,
            clock,
            traces,
        })
    }

    /// The address that the service listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Whether every cache has had a complete list.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.app.is_synced()
    }

    /// Waits for a signal or the death of a thread, and drains after a signal.
    fn wait_and_drain(self, config: &Config) -> Result<(), Error> {
        match self.ended.recv() {
            Ok(Ending::Died(cause)) => return Err(Error::Died(cause)),
            Ok(Ending::Requested) | Err(_) => log::info!("shutting down: received a signal"),
        }
        self.drain(config.drain_delay, config.drain)
    }

    /// Shuts down: for `delay` requests are served as before and `/readyz` fails, then waiting
    /// requests are answered; it returns after `longest` in total. A second signal ends the delay.
    ///
    /// # Errors
    /// When a thread dies meanwhile.
    pub fn drain(self, delay: Duration, longest: Duration) -> Result<(), Error> {
        let deadline = self.clock.now() + longest;
        self.health_source.stopping.store(true, Ordering::SeqCst);
        self.server.drain_begin();
        if let Ok(Ending::Died(cause)) = self.ended.recv_timeout(delay) {
            return Err(Error::Died(cause));
        }
        self.app
            .drain(deadline.checked_sub(FLUSH_TIME).unwrap_or(deadline));
        let shutdown = self.server.shutdown(deadline);
        self.stop.set();
        let left = || deadline.saturating_duration_since(self.clock.now());
        let _ = self.reported.wait(left());
        self.traces.close(left());
        if shutdown.cut > 0 || shutdown.stuck_threads > 0 {
            log::warn!(
                "shut down after {} s with {} connections still open and {} threads still busy",
                longest.as_secs(),
                shutdown.cut,
                shutdown.stuck_threads
            );
        } else {
            log::info!("shut down");
        }
        Ok(())
    }
}

/// How callers authenticate; reads the tokens file, if the settings name one.
fn auth_mode(config: &Config) -> Result<Mode, Error> {
    Ok(match &config.auth {
        Auth::None => Mode::Open,
        Auth::Token { file } => {
            let file = TokensFile::open(Path::new(file)).map_err(Error::Settings)?;
            Mode::Tokens(Arc::new(file))
        }
        Auth::Kubernetes { allow } => Mode::Kubernetes(
            allow
                .iter()
                .map(|account| account.as_str().into())
                .collect(),
        ),
    })
}

/// The shared inputs of the threads behind the front.
struct Background<'a> {
    config: &'a Config,
    client: &'a Client,
    clock: &'a Arc<dyn Clock>,
    stop: &'a Stop,
    heartbeats: &'a Heartbeats,
    endings: &'a Sender<Ending>,
    metrics: &'a Arc<Metrics>,
    rights: MissingRights,
    uses: &'a Uses,
}

impl Background<'_> {
    /// Starts the threads that try templates.
    fn dry_runs(
        &self,
        catalog: &Arc<SharedCatalog>,
        renderer: Renderer,
        cache: &Cache,
    ) -> Result<DryRuns, Error> {
        let of_lists = cache.clone();
        let on_report = Arc::new(move || of_lists.index().templates_changed());
        let dry_runs = DryRuns::new(
            Arc::clone(catalog),
            self.client.clone(),
            renderer,
            Arc::clone(self.clock),
            on_report,
        );
        let started = dry_runs.start(self.heartbeats, &on_death(self.endings));
        started.map_err(no_thread)?;
        Ok(dry_runs)
    }

    /// Starts the thread that makes lists.
    fn lists(
        &self,
        (cache, census): (&Cache, &Census),
        (catalog, dry_runs): (&Arc<SharedCatalog>, &DryRuns),
        bounds: &WaitingBounds,
        (stopper, sink): (Stopper, Arc<dyn ResponseSink>),
    ) -> Result<(), Error> {
        let assembler = Assembler {
            cache: cache.clone(),
            census: census.clone(),
            bounds: bounds.clone(),
            encode: handlers::entry,
            page: handlers::PAGE,
            templates: Templates {
                catalog: Arc::clone(catalog),
                reports: Arc::new(dry_runs.clone()),
                rights: self.rights.clone(),
                encode: handlers::template,
            },
            stopper,
            sink,
            clock: Arc::clone(self.clock),
        };
        let started = assembler.start(self.heartbeats, &on_death(self.endings));
        started.map_err(no_thread)
    }

    /// Starts the thread that makes the states with which streams begin; returns who waits for one.
    fn relists(
        &self,
        events: &Arc<EventLog>,
        (cache, catalog): (&Cache, &Arc<SharedCatalog>),
        ledger: &Arc<Ledger>,
        sink: &Arc<dyn ResponseSink>,
    ) -> Result<Arc<Relists>, Error> {
        let relists = Arc::<Relists>::default();
        let relister = Relister {
            events: Arc::clone(events),
            cache: cache.clone(),
            catalog: Arc::clone(catalog),
            encode: handlers::item,
            ledger: Arc::clone(ledger),
            relists: Arc::clone(&relists),
            sink: Arc::clone(sink),
            clock: Arc::clone(self.clock),
        };
        let started = relister.start(self.heartbeats, &on_death(self.endings));
        started.map_err(no_thread)?;
        Ok(relists)
    }

    /// Starts the threads behind the authenticator.
    fn authenticator(
        &self,
        mode: Mode,
        mailboxes: &Arc<Mailboxes<Response>>,
    ) -> Result<(Authenticator, Option<Reviews>), Error> {
        let clock = || Arc::clone(self.clock);
        let on_death = on_death(self.endings);
        let started = match &mode {
            Mode::Open => Ok(None),
            Mode::Tokens(file) => TokensFile::watch(file, self.stop, on_death).map(|()| None),
            Mode::Kubernetes(_) => {
                let sink = Arc::clone(mailboxes) as Arc<dyn ResponseSink>;
                Reviews::start(self.client, sink, clock(), self.heartbeats, &on_death).map(Some)
            }
        };
        let reviews = started.map_err(no_thread)?;
        let failures_max = u32::try_from(self.config.auth_failures_max).unwrap_or(u32::MAX);
        Ok((Authenticator::new(mode, failures_max, clock()), reviews))
    }
}

fn no_thread(error: io::Error) -> Error {
    Error::Start(format!("cannot start a thread: {error}"))
}

fn on_death(endings: &Sender<Ending>) -> OnDeath {
    let endings = endings.clone();
    // When the receiver is gone, the service is ending anyway.
    Arc::new(move |cause| drop(endings.send(Ending::Died(cause.to_owned()))))
}

/// A random number, which differs from process to process.
fn seed() -> u64 {
    RandomState::new().hash_one(())
}
