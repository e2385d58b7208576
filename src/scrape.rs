//! Collects everything that `/metrics` reports: what was counted, and what there is now.
//!
//! It stands beside [`crate::service`] and reads all parts from above, so that none of them depends
//! on the metrics of another. An I/O thread makes the text. Expensive values (queries to the
//! operating system) are therefore read at most once a second, however often `/metrics` is scraped.

use crate::app::cache::Cache;
use crate::app::catalog::SharedCatalog;
use crate::app::dry_runs::{DryRuns, Report, Reports as _, Verdict};
use crate::app::index::{Counts, STATUS_WORDS};
use crate::budget::WaitingBounds;
use crate::clock::Clock as _;
use crate::http::message::Refusal;
use crate::http::server::FrontStats;
use crate::kube::server_clock::ServerClock;
use crate::kube::watch::Cause;
use crate::logging;
use crate::metrics::{self, Metrics, OTHER, Registry, Scrape};
use crate::model::names::AppType;
use crate::process::{self, Process};
use crate::sorting;
use crate::store::WatchStats;
use crate::threads::lock;
use crate::traces::Traces;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long an expensive value is reused before it is read again.
const EXPENSIVE_FOR: Duration = Duration::from_secs(1);

/// The parts of a service that have values.
#[derive(Debug)]
pub struct Sources {
    /// What was counted as it happened.
    pub metrics: Arc<Metrics>,
    /// The instances.
    pub cache: Cache,
    /// The templates.
    pub catalogs: Arc<SharedCatalog>,
    /// What the API server says of them.
    pub dry_runs: DryRuns,
    /// One of each watch.
    pub watches: Vec<Arc<WatchStats>>,
    /// How many ConfigMaps are beyond their bound.
    pub config_maps_left_out: Arc<AtomicU64>,
    /// The spans.
    pub traces: Traces,
    /// The clock for the ages of caches, and its offset.
    pub clock: Arc<ServerClock>,
}

/// Reads the values of all metrics of a service.
pub struct Collector {
    sources: Sources,
    /// Set once the front runs, which is started after this collector.
    front: OnceLock<(Arc<FrontStats>, WaitingBounds)>,
    expensive: Mutex<Option<Expensive>>,
    recent: Mutex<Recent>,
}

/// Only the name: the program would otherwise have in it how all parts are printed, which nobody asks for.
impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

/// The last text. It takes milliseconds to make, on an I/O thread, so it is made for a few scrapes
/// only; others get the last one.
#[derive(Debug)]
struct Recent {
    text: Arc<str>,
    /// How many texts may be made, as of `at`.
    left: u32,
    at: Option<Instant>,
}

/// Texts that may be made at once. Prometheus needs one in seconds.
const TEXTS_AT_ONCE: u32 = 20;

/// After this time one more may be made.
const TEXT_PERIOD: Duration = Duration::from_millis(50);

impl Default for Recent {
    fn default() -> Self {
        Self {
            text: "".into(),
            left: TEXTS_AT_ONCE,
            at: None,
        }
    }
}

impl Recent {
    /// Whether one more may be made; then it is counted.
    fn may_make(&mut self, now: Instant) -> bool {
        let at = *self.at.get_or_insert(now);
        let periods = now.saturating_duration_since(at).as_millis() / TEXT_PERIOD.as_millis();
        let periods = u32::try_from(periods).unwrap_or(u32::MAX);
        if periods > 0 {
            self.left = self.left.saturating_add(periods).min(TEXTS_AT_ONCE);
            self.at = Some(now);
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

/// Values that are expensive to read.
#[derive(Clone, Debug)]
struct Expensive {
    at: Instant,
    process: Option<Process>,
    open_files: Option<u64>,
}

impl Collector {
    /// A collector over the parts of a service.
    #[must_use]
    pub fn new(sources: Sources) -> Self {
        Self {
            sources,
            front: OnceLock::new(),
            expensive: Mutex::default(),
            recent: Mutex::default(),
        }
    }

    /// Adds the counters of the front, once it runs.
    pub fn set_front(&self, stats: Arc<FrontStats>, held: WaitingBounds) {
        // There is one front, so this is called once.
        let _ = self.front.set((stats, held));
    }

    fn encode_front(front: &FrontStats, held: &WaitingBounds, registry: &mut Registry) {
        registry.count(&metrics::WAITING_REQUESTS, &[], front.sum(|t| &t.parked));
        registry.count(&metrics::STREAMS, &[], front.sum(|t| &t.streams));
        registry.count(&metrics::ABANDONED, &[], front.sum(|t| &t.abandoned));
        registry.count(&metrics::CONNECTIONS, &[], front.sum(|t| &t.connections));
        registry.count(
            &metrics::CONNECTIONS_ACCEPTED,
            &[],
            front.sum(|t| &t.accepted),
        );
        registry.count(&metrics::PANICS, &[], front.sum(|t| &t.panics));
        let (bytes, places) = (held.bytes.budget(), held.places.budget());
        registry.count(&metrics::HELD_BYTES, &[], bytes.used() as u64);
        registry.count(&metrics::HELD_BYTES_MAX, &[], bytes.max() as u64);
        registry.count(&metrics::PLACES_HELD, &[], places.used() as u64);
        registry.count(&metrics::PLACES_HELD_MAX, &[], places.max() as u64);
        registry.count(&metrics::HTTP_THREADS, &[], front.threads.len() as u64);
        for (cause, count) in [
            ("idle", front.sum(|t| &t.idle_closed)),
            ("slow_reader", front.sum(|t| &t.write_timeouts)),
            ("shed", front.sum(|t| &t.shed)),
            ("no_place", front.sum(|t| &t.dropped)),
            ("handshake", front.sum(|t| &t.handshakes_failed)),
        ] {
            registry.count(&metrics::CONNECTIONS_CLOSED, &[cause], count);
        }
        let accept_failed = front.sum(|t| &t.accept_errors);
        registry.count(&metrics::REJECTED, &["accept_failed"], accept_failed);
        let mut answered = BTreeMap::new();
        for refusal in Refusal::ALL {
            let count = front.refused(refusal);
            *answered.entry(refusal.status()).or_insert(0) += count;
            if refusal != Refusal::Panicked {
                registry.count(&metrics::REJECTED, &[refusal.label()], count);
            }
        }
        for (status, count) in answered.into_iter().filter(|(_, count)| *count > 0) {
            let labels = [OTHER, OTHER, &status.to_string()];
            registry.count(&metrics::HTTP_REQUESTS, &labels, count);
        }
    }

    fn encode_watches(&self, now: Instant, registry: &mut Registry) {
        for watch in &self.sources.watches {
            let resource = watch.resource();
            registry.count(&metrics::WATCH_EVENTS, &[resource], watch.events());
            registry.count(&metrics::WATCH_SKIPPED, &[resource], watch.skipped());
            registry.count(&metrics::LABELS_LEFT_OUT, &[resource], watch.left_out());
            registry.count(&metrics::VIEW_DIFFERENCES, &[resource], watch.differences());
            for (cause, word) in Cause::ALL {
                let count = watch.restarts(cause);
                registry.count(&metrics::WATCH_RESTARTS, &[resource, word], count);
                let count = watch.relisted(cause);
                registry.count(&metrics::VIEW_RELISTED, &[resource, word], count);
            }
        }
        for (resource, age) in self.sources.cache.ages(now) {
            registry.value(&metrics::VIEW_AGE, &[resource], age.as_secs_f64());
        }
    }

    fn encode_spans(&self, registry: &mut Registry) {
        let counts = self.sources.traces.counts();
        for (result, count) in [
            ("sent", counts.sent),
            ("failed", counts.failed),
            ("dropped", counts.dropped),
        ] {
            registry.count(&metrics::SPANS, &[result], count);
        }
    }

    fn encode_templates(&self, registry: &mut Registry) {
        let catalog = self.sources.catalogs.current();
        for (app_type, offer) in catalog.offers() {
            let own = offer.warnings().len();
            let report = self.sources.dry_runs.report(app_type, offer);
            let report = report.unwrap_or_else(|| Arc::new(Report::untried()));
            let is_valid = report.verdict != Verdict::Invalid;
            let warnings = own + report.warnings.len();
            let labels = [app_type.as_str()];
            registry.count(&metrics::TEMPLATE_VALID, &labels, is_valid.into());
            registry.count(&metrics::TEMPLATE_WARNINGS, &labels, warnings as u64);
        }
        let left_out = self.sources.config_maps_left_out.load(Ordering::Relaxed);
        registry.count(&metrics::CONFIG_MAPS_LEFT_OUT, &[], left_out);
    }

    /// Each type on offer with each status, and all other types together.
    fn encode_instances(&self, instances: &BTreeMap<AppType, Counts>, registry: &mut Registry) {
        let catalog = self.sources.catalogs.current();
        let mut others = [0; STATUS_WORDS.len()];
        let offered = sorting::set(catalog.types());
        for (_, counts) in instances.iter().filter(|(t, _)| !offered.contains(t)) {
            others.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
        for app_type in offered {
            let counts = instances.get(app_type).copied().unwrap_or_default();
            for (status, count) in STATUS_WORDS.iter().zip(counts) {
                registry.count(&metrics::INSTANCES, &[app_type.as_str(), status], count);
            }
        }
        for (status, count) in STATUS_WORDS.iter().zip(others).filter(|(_, n)| *n > 0) {
            registry.count(&metrics::INSTANCES, &[OTHER, status], count);
        }
    }

    fn encode_expensive(&self, now: Instant, registry: &mut Registry) {
        let expensive = self.expensive(now);
        if let Some(process) = expensive.process {
            registry.count(&metrics::PROCESS_RESIDENT, &[], process.resident_bytes);
            registry.count(&metrics::PROCESS_VIRTUAL, &[], process.virtual_bytes);
            registry.count(&metrics::PROCESS_THREADS, &[], process.threads);
            registry.value(&metrics::PROCESS_CPU, &[], process.cpu.as_secs_f64());
            if let Some(started) = process.started() {
                registry.value(&metrics::PROCESS_START, &[], started.as_secs_f64());
            }
        }
        if let Some(count) = expensive.open_files {
            registry.count(&metrics::PROCESS_FDS, &[], count);
        }
        if let Some(limit) = process::open_files_max() {
            registry.count(&metrics::PROCESS_FDS_MAX, &[], limit);
        }
    }

    /// The expensive values, not older than [`EXPENSIVE_FOR`].
    fn expensive(&self, now: Instant) -> Expensive {
        let mut kept = self
            .expensive
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let fresh = kept
            .take()
            .filter(|kept| now.saturating_duration_since(kept.at) < EXPENSIVE_FOR);
        let expensive = fresh.unwrap_or_else(|| Expensive {
            at: now,
            process: Process::read(),
            open_files: process::open_files(),
        });
        *kept = Some(expensive.clone());
        expensive
    }
}

impl Scrape for Collector {
    fn text(&self) -> Arc<str> {
        let now = self.sources.clock.now();
        let mut recent = lock(&self.recent);
        if recent.may_make(now) {
            recent.text = self.make(now).into();
        }
        Arc::clone(&recent.text)
    }
}

impl Collector {
    fn make(&self, now: Instant) -> String {
        let mut registry = Registry::default();
        self.sources.metrics.encode(&mut registry);
        let catalog = self.sources.catalogs.current();
        registry.begin_types(catalog.types().map(AppType::as_str));
        if let Some((front, held)) = self.front.get() {
            Self::encode_front(front, held, &mut registry);
        }
        self.encode_watches(now, &mut registry);
        self.encode_templates(&mut registry);
        self.encode_spans(&mut registry);
        self.encode_instances(&self.sources.cache.counts(), &mut registry);
        let memory = self.sources.cache.index().memory();
        let (bytes, max) = (memory.instance_bytes(), memory.instance_bytes_max());
        registry.count(&metrics::INSTANCE_BYTES, &[], bytes as u64);
        registry.count(&metrics::INSTANCE_BYTES_MAX, &[], max as u64);
        let [queued, in_progress] = self.sources.cache.admissions().starts();
        registry.count(&metrics::STARTS_QUEUED, &[], queued as u64);
        registry.count(&metrics::STARTS_IN_PROGRESS, &[], in_progress as u64);
        let label_bytes = self.sources.cache.index().label_bytes();
        registry.count(&metrics::LABEL_BYTES, &[], label_bytes as u64);
        self.encode_expensive(now, &mut registry);
        for (level, count) in logging::left_out() {
            registry.count(&metrics::LOG_LEFT_OUT, &[level], count);
        }
        let offset = self.sources.clock.offset_secs();
        registry.value(&metrics::CLOCK_OFFSET, &[], offset);
        registry.count(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        registry.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::RequestHandle;
    use crate::budget::{Division, Ledger};
    use crate::clock::{Clock, SystemClock};
    use crate::http::mailbox::Mailboxes;
    use crate::http::message::Request;
    use crate::http::server::{Handled, Handler, Part, Server, Settings};
    use crate::kube::types::{ConfigMap, Job, Pod, Resource};
    use crate::model::labels;
    use crate::model::names::InstanceKey;
    use crate::store::{Writer, store};
    use serde_json::json;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::SystemTime;

    /// Stands still.
    #[derive(Debug)]
    struct Still(Instant);

    impl Clock for Still {
        fn now(&self) -> Instant {
            self.0
        }

        fn wall_now(&self) -> SystemTime {
            SystemClock.wall_now()
        }
    }

    /// An empty cache and its writers.
    fn cache(now: Instant) -> (Cache, Writer<Job>, Writer<Pod>) {
        let (jobs, pods) = (store::new(now).0, store::new(now).0);
        let config_maps = store::new::<ConfigMap>(now).0;
        let events = crate::store::EventWriter::default();
        let cache = Cache::over(&config_maps, &jobs, &pods, &events, Arc::default()).0;
        (cache, jobs, pods)
    }

    fn collector_of(cache: Cache, now: Instant) -> Collector {
        let metrics = Arc::new(Metrics::new(1, &[]));
        let clock = Arc::new(ServerClock::new(Arc::new(Still(now))));
        Collector::new(Sources {
            metrics,
            cache,
            catalogs: Arc::default(),
            dry_runs: crate::app::dry_runs::tests::idle(Arc::default()),
            watches: Vec::new(),
            config_maps_left_out: Arc::default(),
            traces: Traces::default(),
            clock,
        })
    }

    fn add_instance(
        cache: &Cache,
        jobs: &Writer<Job>,
        pods: &Writer<Pod>,
        number: usize,
    ) -> InstanceKey {
        let names =
            json!({labels::INSTANCE_TYPE: "hello", labels::INSTANCE_NAME: format!("n{number}")});
        let (name, version) = (format!("hello-n{number}"), (number + 1).to_string());
        let uid = format!("u{number}");
        let job = json!({
            "metadata": {"name": name, "uid": uid, "resourceVersion": version, "labels": names},
            "spec": {"template": {"metadata": {"labels": names}}},
        });
        let pod = json!({
            "metadata": {
                "name": name, "uid": format!("p{number}"), "resourceVersion": version,
                "ownerReferences": [{"controller": true, "uid": uid, "kind": "Job", "name": name}],
                "labels": {"batch.kubernetes.io/controller-uid": uid},
            },
            "status": {
                "phase": "Running", "podIP": "127.0.0.9",
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        let job = Job::decode(job.to_string().as_bytes()).unwrap().unwrap();
        let pod = Pod::decode(pod.to_string().as_bytes()).unwrap().unwrap();
        drop((jobs.own_write(job), pods.own_write(pod)));
        let key = InstanceKey::new("hello", &format!("n{number}")).unwrap();
        cache.refresh(&key);
        key
    }

    /// A handler that always panics.
    struct Broken;

    impl Handler for Broken {
        type AppResponse = ();
        type Pending = ();

        fn handle(&self, _: Request, _: RequestHandle) -> Handled<()> {
            panic!("as the test wants it")
        }

        fn resume(&self, (): (), (): ()) -> Handled<()> {
            Handled::Parked(())
        }

        fn pull(&self, (): &mut (), _: bool, _: usize) -> Part {
            Part::default()
        }

        fn abandon(&self, _: RequestHandle, _: Option<()>) {}
    }

    fn bounds() -> WaitingBounds {
        let bytes = Ledger::of_bytes(1, Division::default());
        WaitingBounds::new(bytes, 1, Division::default())
    }

    #[test]
    fn a_panic_is_counted() {
        let server = Server::start(
            TcpListener::bind("127.0.0.1:0").unwrap(),
            Arc::new(Broken),
            Arc::new(Mailboxes::new(1)),
            Settings::default(),
            Arc::new(SystemClock),
            Arc::new(|cause: &str| panic!("{cause}")),
        )
        .unwrap();
        let now = Instant::now();
        let collector = collector_of(cache(now).0, now);
        collector.set_front(server.stats(), bounds());
        let panics = |count: u64| {
            let line = format!("config_controller_panics_total {count}\n");
            assert!(collector.text().contains(&line), "{}", collector.text());
        };
        panics(0);
        let mut client = TcpStream::connect(server.address()).unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        client.write_all(request).unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
        panics(1);
    }

    #[test]
    fn very_many_scrapes_get_the_last_text() {
        let now = Instant::now();
        let collector = collector_of(cache(now).0, now);
        let first = collector.text();
        for number in 1..TEXTS_AT_ONCE {
            assert!(!Arc::ptr_eq(&first, &collector.text()), "number {number}");
        }
        let last = collector.text();
        assert!(Arc::ptr_eq(&last, &collector.text()));
        let mut recent = lock(&collector.recent);
        assert!(!recent.may_make(now + TEXT_PERIOD / 2));
        assert!(recent.may_make(now + TEXT_PERIOD));
        assert!(!recent.may_make(now + TEXT_PERIOD));
        let later = now + Duration::from_secs(3600);
        let made = (0..2 * TEXTS_AT_ONCE).filter(|_| recent.may_make(later));
        assert_eq!(made.count(), TEXTS_AT_ONCE as usize);
    }

    #[test]
    fn connections_lower_the_memory_for_instances() {
        let now = Instant::now();
        let cache = cache(now).0;
        let collector = collector_of(cache.clone(), now);
        let max = || {
            let text = collector.text();
            let mut lines = text.lines();
            let line =
                lines.find_map(|it| it.strip_prefix("config_controller_instance_bytes_max "));
            line.expect("it is always shown").parse::<usize>().unwrap()
        };
        let before = max();
        cache.index().memory().set_connections(5000);
        assert!(max() < before);
    }

    #[test]
    fn ten_thousand_instances_are_counted_without_being_read() {
        let now = Instant::now();
        let (cache, jobs, pods) = cache(now);
        let mut key = None;
        for number in 0..10_000 {
            key = Some(add_instance(&cache, &jobs, &pods, number));
        }
        let collector = collector_of(cache.clone(), now);
        let check = |ready: u64| {
            let text = collector.text();
            // No type is on offer here, so all are of one that is not.
            let name = "config_controller_instances{type=\"_other\",status=\"ready\"}";
            assert!(text.contains(&format!("{name} {ready}\n")), "{text}");
        };
        check(10_000);
        let job = cache.jobs.get(&key.unwrap().job_name()).unwrap();
        drop(jobs.own_delete(&job.metadata.name, &job.metadata.uid));
        check(9999);
    }
}
