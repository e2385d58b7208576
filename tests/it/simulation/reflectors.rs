//! The reflectors of a replica without their threads: one step of a thread at a time.
//!
//! They are the service's own, wired as in `service.rs`. What a replica does with what they show is in
//! [`super::replica`].

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use config_controller::app::cache::{Cache, Census};
use config_controller::app::catalog::SharedCatalog;
use config_controller::app::changes;
use config_controller::app::coordinator::{CacheChange, Input};
use config_controller::app::engine::Inbox;
use config_controller::app::feed::Feed;
use config_controller::clock::Clock;
use config_controller::kube::Client;
use config_controller::kube::request::Scope;
use config_controller::kube::types::{
    ConfigMap, Job, Lease, Pod, Resource, ResourceVersion, USES_OF, WatchEvent,
};
use config_controller::kube::watch::{self, Next};
use config_controller::model::labels;
use config_controller::shutdown::Stop;
use config_controller::store::reflector::Running;
use config_controller::store::{Doubts, OnChange, Reflector, Sink, UseReports, Writer};
use config_controller::threads::Heartbeats;

use super::defects::Defect;
use super::server::{Link, Pipe, Server, lock};
use crate::harness::{NAMESPACE, PREFIX};

/// The interval of lists while the permission to watch is missing.
const POLL: Duration = Duration::from_secs(2);

/// The interval at which the caches are compared with lists.
const RELIST: Duration = Duration::from_secs(60);

/// What reflectors are made of.
pub(super) struct Wiring<'a> {
    pub(super) doubts: &'a Doubts,
    pub(super) client: &'a Client,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) link: &'a Arc<Link>,
    pub(super) seed: u64,
    pub(super) defect: Defect,
}

impl Wiring<'_> {
    /// The three reflectors, as `service.rs` wires them.
    pub(super) fn reflectors(
        &self,
        config_maps: Writer<ConfigMap>,
        jobs: Writer<Job>,
        pods: Writer<Pod>,
        catalog: &Arc<SharedCatalog>,
        (cache, census): (&Cache, &Census),
        inbox: &Inbox,
    ) -> Vec<Box<dyn AnyReflector>> {
        let (read, of_lists, of_catalog) = (Arc::clone(catalog), cache.clone(), inbox.clone());
        let feed = Arc::new(Feed::new(cache.clone(), census.clone(), inbox.clone()));
        let of_admissions = Arc::clone(&feed);
        cache.admissions().on_decidable(move |keys| {
            of_admissions.pass_on(|| keys.iter().cloned().map(CacheChange::of).collect());
        });
        let (of_jobs, of_pods) = (Arc::clone(&feed), feed);
        let misses_pods = self.defect == Defect::MissesPods;
        vec![
            self.reflector(
                config_maps,
                &format!("{PREFIX}template=true"),
                Box::new(move |changes| {
                    read.update(changes);
                    of_lists.index().templates_changed();
                    of_catalog.send(Input::CatalogChanged);
                }),
            ),
            self.reflector(
                jobs,
                "",
                Box::new(move |changes| {
                    of_jobs.pass_on(|| changes::changes_of_jobs(changes));
                }),
            ),
            self.reflector(
                pods,
                labels::INSTANCE_NAME,
                Box::new(move |changes| {
                    if !misses_pods {
                        of_pods.pass_on(|| changes::changes_of_pods(changes));
                    }
                }),
            ),
        ]
    }

    /// That of the Leases by which replicas report uses.
    pub(super) fn reports(&self, reports: UseReports) -> Box<dyn AnyReflector> {
        let selector = format!("{USES_OF}={NAMESPACE}");
        self.reflector::<Lease, _>(reports, &selector, Box::new(|_| {}))
    }

    fn reflector<K: Resource, S: Sink<K>>(
        &self,
        writer: S,
        selector: &str,
        on_change: OnChange<K>,
    ) -> Box<dyn AnyReflector> {
        let reflector = Reflector {
            client: self.client.clone(),
            scope: Scope::labelled(NAMESPACE, selector),
            writer,
            clock: Arc::clone(self.clock),
            stop: Stop::new(),
            poll: POLL,
            relist: Some(RELIST),
            doubts: self.doubts.clone(),
            loss: None,
            seed: self.seed,
            heartbeats: Heartbeats::default(),
            on_change,
            on_death: Arc::new(|_| ()),
        };
        Box::new(Loop {
            running: Running::new(reflector),
            turn: Turn::Ready,
            link: Arc::clone(self.link),
            clock: Arc::clone(self.clock),
            pipe: None,
            seen: 0,
        })
    }
}

/// A reflector of any kind of object.
pub(super) trait AnyReflector {
    /// Whether it has something to do now.
    fn has_work(&mut self, server: &mut Server, now: Instant) -> bool;
    /// Does it: calls Kubernetes, or processes the response.
    fn step(&mut self);
    /// The revision up to which it has seen all changes.
    fn seen(&self) -> u64;
    /// Its open watch.
    fn pipe(&self) -> Option<&Arc<Mutex<Pipe>>>;
}

/// The state of a reflector's thread.
enum Turn<K: Resource> {
    Ready,
    Waiting(Instant),
    /// The response to a list or to the opening of a watch is on its way.
    Received(watch::Input<K>),
}

struct Loop<K: Resource, S: Sink<K>> {
    running: Running<K, S>,
    turn: Turn<K>,
    link: Arc<Link>,
    clock: Arc<dyn Clock>,
    pipe: Option<Arc<Mutex<Pipe>>>,
    seen: u64,
}

impl<K: Resource, S: Sink<K>> Loop<K, S> {
    fn take(&mut self, input: watch::Input<K>) {
        // A list beside an open watch is not applied before its end.
        let is_beside = self.running.is_open() && matches!(input, watch::Input::Listed(_));
        let seen = version_of(&input).filter(|_| !is_beside);
        if let Some(seen) = seen.and_then(|version| version.parse().ok()) {
            self.seen = seen;
        }
        let wait = self.running.take(input);
        if !self.running.is_open() {
            self.pipe = None;
        }
        self.turn = wait.map_or(Turn::Ready, |wait| Turn::Waiting(self.clock.now() + wait));
    }
}

/// The version that the store has reached after this input.
fn version_of<K: Resource>(input: &watch::Input<K>) -> Option<String> {
    let text = |version: &ResourceVersion| Some(version.to_string());
    match input {
        watch::Input::Listed(Ok(page)) if page.continue_token.is_none() => text(&page.version),
        watch::Input::Event(Ok(event)) => match event {
            WatchEvent::Changed(object) => text(&object.metadata().resource_version),
            WatchEvent::Gone(metadata) => text(&metadata.resource_version),
            WatchEvent::Bookmark(version) => text(version),
            _ => None,
        },
        _ => None,
    }
}

impl<K: Resource, S: Sink<K>> AnyReflector for Loop<K, S> {
    fn has_work(&mut self, server: &mut Server, now: Instant) -> bool {
        match (&self.turn, &self.pipe) {
            (Turn::Waiting(until), _) => *until <= now,
            (Turn::Ready, Some(pipe)) if *self.running.next() == Next::Read => {
                lock(pipe).prepare(server, now)
            }
            (Turn::Ready | Turn::Received(_), _) => true,
        }
    }

    fn step(&mut self) {
        match std::mem::replace(&mut self.turn, Turn::Ready) {
            Turn::Received(input) => self.take(input),
            Turn::Ready | Turn::Waiting(_) => {
                let input = self.running.perform();
                if let watch::Input::Opened(Ok(())) = input {
                    self.pipe = self.link.take_opened();
                }
                match input {
                    // A line that was read but not processed is equivalent to one not read yet.
                    watch::Input::Event(_) | watch::Input::Ended(_) | watch::Input::Idle => {
                        self.take(input);
                    }
                    _ => self.turn = Turn::Received(input),
                }
            }
        }
    }

    fn seen(&self) -> u64 {
        self.seen
    }

    fn pipe(&self) -> Option<&Arc<Mutex<Pipe>>> {
        self.pipe.as_ref()
    }
}
