//! What the service does: find, start, list, label and stop instances.
//!
//! [`App`] is all that the HTTP front may call. It serves reads from the cache on the caller's
//! thread. Everything else goes to the coordinator, which responds later through the
//! [`ResponseSink`]. Nothing here knows of HTTP.
//!
//! | file | what lives there |
//! |---|---|
//! | `request`, `request_handle`, `request_id`, `expectation`, `error` | requests, what they expect, responses and errors |
//! | `cache`, `index`, `keys` | instances: one by its key, all together, which objects belong to which |
//! | `lost_pods` | how pods ended that are gone by now |
//! | `lifetimes`, `idle` | when instances with a timeout were used last, here and at other replicas; the thread that ends those that nobody uses |
//! | `restarter`, `restarts` | which instances are restarted since their template has changed |
//! | `admissions` | which Jobs may run where caps hold, by the order of their creation |
//! | `list`, `lists`, `assembler` | lists that all readers share; which are read and out of date; the thread that makes them |
//! | `catalog`, `changes`, `feed` | app types; which names a change concerns, and their way to the coordinator |
//! | `dry_runs`, `templates` | what the API server says of templates before anybody starts them; what is known of each |
//! | `coordinator` | every decision about starts, stops and waits |
//! | `api_call`, `engine` | its calls; the threads that run it and make them, and its inbox |
//! | `queue`, `rendering` | the order of the calls that wait; manifests, rendered when a call is made |
//! | `lifecycle`, `reporter`, `timings`, `log_line` | lifecycle events and their reporter; the form of log lines about instances and types |
//! | `events`, `relists` | the last events, for streams; the state with which a stream begins |
//! | `review`, `logs` | reviews of bearer tokens, and logs of containers, each with threads of its own |

pub mod admissions;
pub mod api_call;
pub mod assembler;
pub mod cache;
pub mod catalog;
pub mod changes;
pub mod coordinator;
pub mod dry_runs;
pub mod engine;
pub mod error;
pub mod events;
mod expectation;
pub mod feed;
#[cfg(test)]
pub(crate) mod fixture;
pub mod idle;
mod in_use;
pub mod index;
pub mod instances;
pub mod keys;
pub mod lifecycle;
pub mod lifetimes;
pub mod list;
pub mod lists;
mod log_line;
pub mod logs;
mod lost_pods;
pub mod pages;
pub mod queue;
pub mod relists;
pub mod rendering;
mod replacing;
pub mod reporter;
mod request;
mod request_handle;
mod request_id;
pub mod restarter;
pub mod restarts;
pub mod review;
pub mod rights;
pub mod stops;
pub mod templates;
pub mod timings;
pub mod usage;
pub mod uses;

pub use error::{Bound, Error, NoLog};
pub use expectation::{Expectation, Precondition, ValuesMatch};
pub use request::{
    InstanceRequest, Intent, Origin, Progress, Replacement, Response, ResponseSink, StopCounts,
    TokenStatus, Waits,
};
pub use request_handle::RequestHandle;
pub use request_id::{RequestId, RequestIds};

use crate::budget::{Full, Hold};
use crate::clock::Clock;
use crate::model::labels::MetaChange;
use crate::model::names::{AppType, InstanceKey};
use crate::model::revision;
use crate::model::status::InstanceStatus;
use crate::model::template::Variables;
use cache::{Cache, Lookup, Ready};
use catalog::SharedCatalog;
use coordinator::{Input, NewWaiter, READ_WAIT, WRITE_WAIT, Want};
use engine::Inbox;
use events::EventLog;
use instances::{Item, PageQuery, Selection};
use list::List;
use lists::ListOf;
use logs::{LogCaller, LogFrom, LogRequest, LogSource, Logs};
use relists::{Relists, item_of};
use review::{Asked, Bearer, Reviews, Scope};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stops::{StopMany, StopQueue};
use uses::Uses;

/// The service behind the HTTP front; clones share all.
#[derive(Clone, Debug)]
pub struct App {
    cache: Cache,
    catalog: Arc<SharedCatalog>,
    inbox: Inbox,
    waits: Waits,
    clock: Arc<dyn Clock>,
    is_draining: Arc<AtomicBool>,
    reviews: Option<Reviews>,
    events: Arc<EventLog>,
    relists: Arc<Relists>,
    stops: StopQueue,
    logs: Option<Logs>,
    uses: Option<Uses>,
    heartbeat_max: Duration,
    reports: Option<Arc<dyn dry_runs::Reports>>,
}

impl App {
    /// The service over these stores; `inbox` leads to the coordinator, `reviews` to the reviewer
    /// of Kubernetes' tokens, `stops` to who stops many instances.
    #[must_use]
    pub fn new(
        cache: Cache,
        catalog: Arc<SharedCatalog>,
        inbox: Inbox,
        waits: Waits,
        clock: Arc<dyn Clock>,
        reviews: Option<Reviews>,
        (events, relists, stops): (Arc<EventLog>, Arc<Relists>, StopQueue),
    ) -> Self {
        Self {
            cache,
            catalog,
            inbox,
            waits,
            clock,
            is_draining: Arc::default(),
            reviews,
            events,
            relists,
            stops,
            logs: None,
            uses: None,
            heartbeat_max: Duration::ZERO,
            reports: None,
        }
    }

    /// The same, which also reads logs.
    #[must_use]
    pub fn with_logs(self, logs: Logs) -> Self {
        Self {
            logs: Some(logs),
            ..self
        }
    }

    /// Asks for the status of this bearer token, which came from `peer`. On [`Asked::Waits`] `handle` gets
    /// [`Response::TokenReviewed`] later.
    ///
    /// # Errors
    /// [`Error::Draining`], [`Error::TooManyRequests`], and [`Error::Internal`] where this
    /// service does not review tokens.
    pub fn review(
        &self,
        bearer: &Bearer,
        handle: RequestHandle,
        peer: IpAddr,
        scope: Scope,
    ) -> Result<Asked, Error> {
        let reviews = self.reviews.as_ref().ok_or(Error::Internal)?;
        if self.is_draining.load(Ordering::SeqCst) {
            return Err(Error::Draining);
        }
        reviews.ask(bearer, handle, peer, scope)
    }

    /// [`review::Reviews::again`]
    #[must_use]
    pub fn review_again(
        &self,
        bearer: &Bearer,
        handle: RequestHandle,
        peer: IpAddr,
    ) -> Option<TokenStatus> {
        self.reviews.as_ref()?.again(bearer, handle, peer)
    }

    /// The app types on offer, sorted.
    ///
    /// # Errors
    /// [`Error::NotSynced`]: an empty list would be wrong.
    pub fn types(&self) -> Result<Vec<AppType>, Error> {
        self.check_synced()?;
        Ok(self.catalog.current().types().cloned().collect())
    }

    /// The instances of a type, by name; none where the type is unknown. `None` if they have changed
    /// since the last list: a request for them waits ([`App::await_list`]).
    ///
    /// # Errors
    /// [`Error::NotSynced`]: an empty list would be wrong.
    pub fn list(&self, app_type: &str) -> Result<Option<Arc<List>>, Error> {
        self.check_synced()?;
        Ok(self.cache.index().list(app_type, self.clock.now()))
    }

    /// The request of `handle` gets the instances of a type soon, also while this replica shuts
    /// down.
    ///
    /// # Errors
    /// An error that is known immediately.
    pub fn await_list(&self, app_type: &str, handle: RequestHandle) -> Result<(), Error> {
        let app_type = AppType::new(app_type).map_err(Error::BadName)?;
        let index = self.cache.index();
        index.await_list(&ListOf::Instances(app_type), handle, self.clock.now());
        Ok(())
    }

    /// The list of all templates; its entries have names of [`templates::app_type_in`]. `None` if
    /// something of them has changed since the last list: a request for it waits ([`App::await_templates`]).
    ///
    /// # Errors
    /// [`Error::NotSynced`]: an empty list would be wrong.
    pub fn templates(&self) -> Result<Option<Arc<List>>, Error> {
        self.check_synced()?;
        Ok(self.cache.index().template_list(self.clock.now()))
    }

    /// The request of `handle` gets the list of all templates soon, also while this replica shuts down.
    pub fn await_templates(&self, handle: RequestHandle) {
        let index = self.cache.index();
        index.await_list(&ListOf::Templates, handle, self.clock.now());
    }

    /// This page of all instances. `None` if it is not known, or something has changed since: a request for it
    /// waits ([`App::await_page`]).
    ///
    /// # Errors
    /// [`Error::NotSynced`]: an empty page would be wrong.
    pub fn page(&self, query: &Arc<PageQuery>) -> Result<Option<Arc<List>>, Error> {
        self.check_synced()?;
        Ok(self.cache.index().page(query, self.clock.now()))
    }

    /// The request of `handle` gets this page soon, also while this replica shuts down. `place` is among those
    /// of all pages; it is not needed where others wait for the same one.
    ///
    /// # Errors
    /// That there is no place.
    pub fn await_page(
        &self,
        query: &Arc<PageQuery>,
        handle: RequestHandle,
        place: Result<Hold, Full>,
    ) -> Result<(), Full> {
        let index = self.cache.index();
        index.await_page(query, handle, place, self.clock.now())
    }

    /// The instance of this key, if it is ready.
    ///
    /// # Errors
    /// [`Error::NotSynced`]: an instance that has not been seen yet may be ready.
    pub fn ready(
        &self,
        key: &InstanceKey,
        expectation: &Expectation,
    ) -> Result<Option<Ready>, Error> {
        self.check_synced()?;
        Ok(self.cache.ready_for(key, expectation))
    }

    /// To be made with these values. [`Expectation::None`] where the type is not on offer, or its template
    /// is invalid: then nobody knows what values an instance has. The same where the expressions of the
    /// template are too long ([`crate::model::template::EXPRESSIONS_BYTES_MAX`]): then a response does not
    /// say that values were compared.
    ///
    /// # Errors
    /// [`Error::NotSynced`]; or that the template makes nothing of these values, as a start would report.
    pub fn expect_values(
        &self,
        app_type: &AppType,
        variables: &Variables,
    ) -> Result<Expectation, Error> {
        self.check_synced()?;
        let catalog = self.catalog.current();
        let template = catalog
            .get(app_type)
            .and_then(|offer| offer.template.as_ref().ok());
        let revision = template.and_then(|it| revision::of_values_soon(it, variables));
        let revision = revision.transpose().map_err(rendering::error)?;
        Ok(revision.map_or(Expectation::None, |it| Expectation::Values(it.into())))
    }

    /// Whether the Job of this instance may be that of another type on offer, one that is not among
    /// these types.
    ///
    /// # Errors
    /// [`Error::NotSynced`]: a type that has not been seen yet may be on offer.
    pub fn is_ambiguous(
        &self,
        key: &InstanceKey,
        among: impl Fn(&str) -> bool,
    ) -> Result<bool, Error> {
        self.check_synced()?;
        let catalog = self.catalog.current();
        let is_other = |other: AppType| catalog.get(&other).is_some() && !among(other.as_str());
        Ok(key.other_types().any(is_other))
    }

    /// Finds an instance or starts it; the response comes later unless there is an error. The
    /// caller first checks whether it is already ready ([`App::ready`]).
    ///
    /// # Errors
    /// An error that is known immediately.
    pub fn ensure(&self, request: InstanceRequest, intent: Intent) -> Result<(), Error> {
        self.hand_over(request, Want::Instance(intent))
    }

    /// Reads the log of an instance; starts nothing.
    ///
    /// # Errors
    /// An error that is known immediately: that there is no pod yet, too.
    pub fn log(
        &self,
        key: &InstanceKey,
        request: LogRequest,
        caller: impl FnOnce() -> Result<LogCaller, Error>,
    ) -> Result<LogFrom, Error> {
        self.check_synced()?;
        let logs = self.logs.as_ref().ok_or(Error::Internal)?;
        if self.is_draining.load(Ordering::SeqCst) {
            return Err(Error::Draining);
        }
        let Lookup::Instance(instance) = self.cache.lookup(key) else {
            return Ok(LogFrom::Memory);
        };
        let is_starting = matches!(instance.status, InstanceStatus::Starting(_));
        let finding = match instance.status {
            InstanceStatus::Starting(finding) | InstanceStatus::Failed { finding, .. } => {
                Some(finding)
            }
            _ => None,
        };
        let instance_name = key.to_string();
        match (instance.pod, finding) {
            (Some(pod), finding) => {
                let source = LogSource {
                    instance: instance_name,
                    pod: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                    finding,
                };
                let reader = logs.read(source, request, caller()?)?;
                Ok(LogFrom::Kubernetes(reader))
            }
            (None, Some(finding)) if is_starting => {
                let text = logs::state(&instance_name, &finding);
                Err(Error::NoLog(NoLog::NotStarted, text.into()))
            }
            (None, _) => Ok(LogFrom::Memory),
        }
    }

    /// The first instance of these types, by type and name, with this name or this meta label
    /// `sessionID`. Instances that are being deleted come last.
    ///
    /// # Errors
    /// [`Error::NotSynced`]: an instance that has not been seen yet is not gone.
    pub fn find(
        &self,
        name_or_session: &str,
        among: impl Fn(&str) -> bool,
    ) -> Result<Option<InstanceKey>, Error> {
        self.check_synced()?;
        Ok(self.cache.find(name_or_session, among))
    }

    /// Stops an instance; the response comes later unless there is an error. A request with a wait
    /// waits until the Job is gone.
    ///
    /// # Errors
    /// An error that is known immediately.
    pub fn stop(&self, request: InstanceRequest) -> Result<(), Error> {
        let now = self.clock.now();
        let wait = request.wait.filter(|wait| !wait.is_zero());
        let until = wait.map(|wait| now + self.wait(Some(wait)));
        self.hand_over(request, Want::Stop { until })
    }

    /// Stops all instances of a selection; the response comes later unless there is an error. With a wait it
    /// comes when they are gone.
    ///
    /// # Errors
    /// An error that is known immediately.
    pub fn stop_many(&self, request: StopMany) -> Result<(), Error> {
        self.check_accepts()?;
        let now = self.clock.now();
        let wait = request.wait.filter(|wait| !wait.is_zero());
        let until = wait.map(|wait| now + self.wait(Some(wait)));
        self.stops.ask(request, now + WRITE_WAIT, until);
        Ok(())
    }

    /// The caller of this request, which stops many instances, has hung up.
    pub fn abandon_stops(&self, handle: RequestHandle) {
        self.stops.abandon(handle);
    }

    /// Sets and removes meta labels; the response comes later unless there is an error.
    ///
    /// # Errors
    /// An error that is known immediately.
    pub fn label(&self, request: InstanceRequest, change: MetaChange) -> Result<(), Error> {
        self.hand_over(request, Want::Label(Arc::new(change)))
    }

    /// The caller of this request, which waits for an instance, has hung up. Never blocks.
    pub fn abandon(&self, handle: RequestHandle) {
        self.inbox.abandon(handle);
    }

    /// The caller of this request, which waits for the review of its token, has hung up.
    pub fn abandon_review(&self, handle: RequestHandle) {
        if let Some(reviews) = &self.reviews {
            reviews.abandon(handle);
        }
    }

    /// Asks for the state with which a stream of events begins: the request gets [`Response::Relist`] later.
    /// `place` is as of [`App::await_page`].
    ///
    /// # Errors
    /// [`Error::NotSynced`], [`Error::Draining`], or that there is no place.
    pub fn relist(
        &self,
        handle: RequestHandle,
        selection: Arc<Selection>,
        place: Result<Hold, Error>,
    ) -> Result<(), Error> {
        self.check_synced()?;
        if self.is_draining.load(Ordering::SeqCst) {
            return Err(Error::Draining);
        }
        self.relists.wait(handle, selection, place)
    }

    /// The caller of this request, which waits for that state, has hung up.
    pub fn abandon_relist(&self, handle: RequestHandle) {
        self.relists.abandon(handle);
    }

    /// What has happened to instances.
    #[must_use]
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// This instance, if there is one.
    #[must_use]
    pub fn item(&self, key: &InstanceKey) -> Option<Item> {
        item_of(&self.cache, &self.catalog, key)
    }

    /// Monotonic time.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// What was last told of this instance, as an event; none if nothing was, or what ends a start.
    #[must_use]
    pub fn restated(&self, item: &Item) -> Option<Vec<u8>> {
        self.events.restated(item, self.clock.wall_now())
    }

    /// The caller of this request, which waits for a list, has hung up.
    pub fn abandon_list(&self, handle: RequestHandle) {
        self.cache.index().abandon(handle);
    }

    /// How old the oldest of the caches may be. The cache of Events does not count: no request
    /// waits for it, and it may be missing.
    #[must_use]
    pub fn cache_age(&self) -> Duration {
        let ages = self.cache.ages(self.clock.now());
        ages.map(|(_, age)| age)
            .into_iter()
            .max()
            .unwrap_or_default()
    }

    /// Whether all stores are synced.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.cache.is_synced() && self.catalog.is_read()
    }

    /// Responds to all waiting requests; from now on no request waits, but for lists. Requested
    /// stops and labels can be made until then: their callers must know the result.
    pub fn drain(&self, until: Instant) {
        self.is_draining.store(true, Ordering::SeqCst);
        if let Some(reviews) = &self.reviews {
            reviews.drain();
        }
        self.stops.drain();
        self.inbox.send(Input::Drain(until));
    }

    fn wait(&self, wished: Option<Duration>) -> Duration {
        wished.map_or(self.waits.start_wait, |wished| {
            wished.min(self.waits.start_wait_max)
        })
    }

    fn check_synced(&self) -> Result<(), Error> {
        if self.is_synced() {
            Ok(())
        } else {
            Err(Error::NotSynced)
        }
    }

    fn check_accepts(&self) -> Result<(), Error> {
        self.check_synced()?;
        if self.is_draining.load(Ordering::SeqCst) {
            return Err(Error::Draining);
        }
        Ok(())
    }

    fn hand_over(&self, request: InstanceRequest, want: Want) -> Result<(), Error> {
        self.check_accepts()?;
        let wait = match want {
            // The wait bounds the wait for the end, not the deletion itself.
            Want::Stop { .. } | Want::Replace { .. } => WRITE_WAIT,
            // That for a pod to label does not bound the change itself, either.
            _ => self.wait(request.wait),
        };
        let now = self.clock.now();
        self.inbox.request(NewWaiter {
            handle: request.handle,
            key: request.key,
            by: request.by,
            held: request.held,
            deadline: now
                + if request.reads {
                    wait.max(READ_WAIT)
                } else {
                    wait
                },
            reads: request.reads.then_some(now + wait),
            expectation: request.expectation,
            is_patient: request.is_patient,
            want,
        })
    }
}
