//! What `/metrics` says: what was counted, and what there is now.
//!
//! It stands beside [`crate::service`] and looks into all parts from above, so that
//! none of them need know of the others' numbers. Its text is made on an I/O thread:
//! what costs more than a few additions (looking at every instance, asking the
//! system) is done at most once a second, whoever asks and however often.

use crate::app::cache::{Cache, STATUS_WORDS};
use crate::app::engine::Catalogs;
use crate::clock::Clock;
use crate::http::message::Refusal;
use crate::http::server::FrontStats;
use crate::kube::watch::Cause;
use crate::metrics::{self, Metrics, OTHER, Scrape, Sheet};
use crate::model::names::AppType;
use crate::process::{self, Process};
use crate::store::Heartbeat;
use crate::traces::Traces;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How long what is costly to find out is told again.
const KEPT: Duration = Duration::from_secs(1);

/// Reads all numbers of a service.
#[derive(Debug)]
pub struct Numbers {
    metrics: Arc<Metrics>,
    cache: Cache,
    catalogs: Arc<Catalogs>,
    heartbeats: Vec<Arc<Heartbeat>>,
    traces: Traces,
    clock: Arc<dyn Clock>,
    /// The front, once it runs; it is started with us in hand.
    front: OnceLock<Arc<FrontStats>>,
    costly: Mutex<Option<Costly>>,
}

/// What is costly to find out.
#[derive(Clone, Debug)]
struct Costly {
    at: Instant,
    /// How many instances there are, by type and status.
    instances: BTreeMap<String, [u64; STATUS_WORDS.len()]>,
    process: Option<Process>,
    open_files: Option<u64>,
}

impl Numbers {
    /// The numbers of the service that is made of these.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        cache: Cache,
        catalogs: Arc<Catalogs>,
        heartbeats: Vec<Arc<Heartbeat>>,
        traces: Traces,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            metrics,
            cache,
            catalogs,
            heartbeats,
            traces,
            clock,
            front: OnceLock::new(),
            costly: Mutex::default(),
        }
    }

    /// The front runs, and counts here.
    pub fn set_front(&self, stats: Arc<FrontStats>) {
        // There is one front, so this is called once.
        let _ = self.front.set(stats);
    }

    fn lay_front(&self, front: &FrontStats, sheet: &mut Sheet) {
        sheet.count(&metrics::WAITING_REQUESTS, &[], front.sum(|t| &t.parked));
        sheet.count(&metrics::ABANDONED, &[], front.sum(|t| &t.abandoned));
        sheet.count(&metrics::CONNECTIONS, &[], front.sum(|t| &t.connections));
        sheet.count(
            &metrics::CONNECTIONS_ACCEPTED,
            &[],
            front.sum(|t| &t.accepted),
        );
        sheet.count(&metrics::PANICS, &[], front.sum(|t| &t.panics));
        sheet.count(&metrics::HELD_BYTES, &[], front.sum(|t| &t.held_bytes));
        sheet.count(&metrics::HTTP_THREADS, &[], front.threads.len() as u64);
        for (cause, count) in [
            ("idle", front.sum(|t| &t.idle_closed)),
            ("slow_reader", front.sum(|t| &t.write_timeouts)),
            ("shed", front.sum(|t| &t.shed)),
            ("no_place", front.sum(|t| &t.dropped)),
            ("handshake", front.sum(|t| &t.handshakes_failed)),
        ] {
            sheet.count(&metrics::CONNECTIONS_CLOSED, &[cause], count);
        }
        let accept_failed = front.sum(|t| &t.accept_errors);
        sheet.count(&metrics::REJECTED, &["accept_failed"], accept_failed);
        let mut answered = BTreeMap::new();
        for refusal in Refusal::ALL {
            let count = front.refused(refusal);
            *answered.entry(refusal.status()).or_insert(0) += count;
            if refusal != Refusal::Panicked {
                sheet.count(&metrics::REJECTED, &[refusal.label()], count);
            }
        }
        for (status, count) in answered.into_iter().filter(|(_, count)| *count > 0) {
            let labels = [OTHER, OTHER, &status.to_string()];
            sheet.count(&metrics::HTTP_REQUESTS, &labels, count);
        }
    }

    fn lay_watches(&self, now: Instant, sheet: &mut Sheet) {
        for heartbeat in &self.heartbeats {
            let resource = heartbeat.resource();
            sheet.count(&metrics::WATCH_EVENTS, &[resource], heartbeat.events());
            sheet.count(&metrics::WATCH_SKIPPED, &[resource], heartbeat.skipped());
            for cause in Cause::ALL {
                let labels = [resource, cause.as_str()];
                sheet.count(&metrics::WATCH_RESTARTS, &labels, heartbeat.restarts(cause));
            }
        }
        for (resource, age) in self.cache.ages(now) {
            sheet.value(&metrics::VIEW_AGE, &[resource], age.as_secs_f64());
        }
    }

    fn lay_spans(&self, sheet: &mut Sheet) {
        let counts = self.traces.counts();
        for (result, count) in [
            ("sent", counts.sent),
            ("failed", counts.failed),
            ("dropped", counts.dropped),
        ] {
            sheet.count(&metrics::SPANS, &[result], count);
        }
    }

    fn lay_templates(&self, sheet: &mut Sheet) {
        let catalog = self.catalogs.current();
        for app_type in catalog.types() {
            let offer = catalog.get(app_type);
            let valid = offer.is_some_and(|offer| offer.problem().is_none());
            let labels = [app_type.as_str()];
            sheet.count(&metrics::TEMPLATE_VALID, &labels, valid.into());
        }
    }

    /// Types that are on offer with all their numbers, and what there is of others as one.
    fn lay_instances(
        &self,
        instances: &BTreeMap<String, [u64; STATUS_WORDS.len()]>,
        sheet: &mut Sheet,
    ) {
        let catalog = self.catalogs.current();
        let mut others = [0; STATUS_WORDS.len()];
        let offered: BTreeSet<&str> = catalog.types().map(AppType::as_str).collect();
        for (_, counts) in instances
            .iter()
            .filter(|(t, _)| !offered.contains(t.as_str()))
        {
            others.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
        for app_type in offered {
            let counts = instances.get(app_type).copied().unwrap_or_default();
            for (status, count) in STATUS_WORDS.iter().zip(counts) {
                sheet.count(&metrics::INSTANCES, &[app_type, status], count);
            }
        }
        for (status, count) in STATUS_WORDS.iter().zip(others).filter(|(_, n)| *n > 0) {
            sheet.count(&metrics::INSTANCES, &[OTHER, status], count);
        }
    }

    fn lay_costly(&self, now: Instant, sheet: &mut Sheet) {
        let costly = self.costly(now);
        self.lay_instances(&costly.instances, sheet);
        let process = costly.process;
        let known = [
            (
                &metrics::PROCESS_RESIDENT,
                process.map(|p| p.resident_bytes),
            ),
            (&metrics::PROCESS_VIRTUAL, process.map(|p| p.virtual_bytes)),
            (&metrics::PROCESS_THREADS, process.map(|p| p.threads)),
            (&metrics::PROCESS_FDS, costly.open_files),
            (&metrics::PROCESS_FDS_MAX, process::open_files_max()),
        ];
        for (family, value) in known {
            if let Some(value) = value {
                sheet.count(family, &[], value);
            }
        }
        let times = [
            (&metrics::PROCESS_CPU, process.map(|p| p.cpu)),
            (&metrics::PROCESS_START, process.and_then(|p| p.started())),
        ];
        for (family, time) in times {
            if let Some(time) = time {
                sheet.value(family, &[], time.as_secs_f64());
            }
        }
    }

    /// What is costly to find out, not older than [`KEPT`].
    fn costly(&self, now: Instant) -> Costly {
        let mut kept = self.costly.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept
            .take()
            .filter(|kept| now.saturating_duration_since(kept.at) < KEPT);
        let costly = fresh.unwrap_or_else(|| Costly {
            at: now,
            instances: self.cache.counts(),
            process: Process::read(),
            open_files: process::open_files(),
        });
        *kept = Some(costly.clone());
        costly
    }
}

impl Scrape for Numbers {
    fn text(&self) -> String {
        let now = self.clock.now();
        let mut sheet = Sheet::default();
        self.metrics.lay_on(&mut sheet);
        if let Some(front) = self.front.get() {
            self.lay_front(front, &mut sheet);
        }
        self.lay_watches(now, &mut sheet);
        self.lay_templates(&mut sheet);
        self.lay_spans(&mut sheet);
        self.lay_costly(now, &mut sheet);
        sheet.count(&metrics::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
        sheet.text()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::RequestHandle;
    use crate::clock::SystemClock;
    use crate::http::mailbox::Mailboxes;
    use crate::http::message::Request;
    use crate::http::server::{Handled, Handler, Resumed, Server, Settings};
    use crate::kube::types::{ConfigMap, Job, Pod, Resource};
    use crate::model::labels;
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

    /// A cache of nothing yet, and those who write what it shows.
    fn cache(now: Instant) -> (Cache, Writer<Job>, Writer<Pod>) {
        let (jobs, jobs_seen) = store::new(now);
        let (pods, pods_seen) = store::new(now);
        let (_, config_maps) = store::new::<ConfigMap>(now);
        let cache = Cache {
            config_maps,
            jobs: jobs_seen,
            pods: pods_seen,
            events: crate::store::EventStore::default(),
        };
        (cache, jobs, pods)
    }

    fn numbers(cache: Cache, now: Instant) -> Numbers {
        let metrics = Arc::new(Metrics::new(1, &[]));
        let clock = Arc::new(Still(now));
        Numbers::new(
            metrics,
            cache,
            Arc::default(),
            Vec::new(),
            Traces::default(),
            clock,
        )
    }

    fn add_instance(jobs: &Writer<Job>, pods: &Writer<Pod>, number: usize) {
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
            },
            "status": {"podIP": "127.0.0.9", "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let job = Job::decode(job.to_string().as_bytes()).unwrap().unwrap();
        let pod = Pod::decode(pod.to_string().as_bytes()).unwrap().unwrap();
        drop((jobs.own_write(job), pods.own_write(pod)));
    }

    /// Whoever calls it meets a defect.
    struct Broken;

    impl Handler for Broken {
        type Answer = ();
        type Pending = ();

        fn handle(&self, _: Request, _: RequestHandle) -> Handled<()> {
            panic!("as the test wants it")
        }

        fn resume(&self, (): (), (): ()) -> Resumed<()> {
            Resumed::Parked(())
        }

        fn abandon(&self, _: RequestHandle) {}
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
        let numbers = numbers(cache(now).0, now);
        numbers.set_front(server.stats());
        let panics = |count: u64| {
            let line = format!("config_controller_panics_total {count}\n");
            assert!(numbers.text().contains(&line), "{}", numbers.text());
        };
        panics(0);
        let mut client = TcpStream::connect(server.address()).unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        client.write_all(request).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
        panics(1);
    }

    #[test]
    fn ten_thousand_instances_are_counted_once_a_second() {
        let now = Instant::now();
        let (cache, jobs, pods) = cache(now);
        for number in 0..10_000 {
            add_instance(&jobs, &pods, number);
        }
        let numbers = numbers(cache, now);
        let text = numbers.text();
        // No type is on offer here, so all are of one that is not.
        let line = "config_controller_instances{type=\"_other\",status=\"ready\"} 10000\n";
        assert!(text.contains(line), "{text}");
        add_instance(&jobs, &pods, 10_000);
        assert!(
            numbers.text().contains(line),
            "told again within the second"
        );
    }
}
