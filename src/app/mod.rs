//! What the service does: find, start, list, label and stop instances.
//!
//! [`App`] is all that the HTTP front may call. What memory can answer it answers
//! on the caller's thread; the rest it executor to the coordinator, which answers later
//! through the [`AnswerSink`]. Inside out: [`cache`] and [`catalog`] (what there is),
//! [`history`] (what is remembered), [`flight`] (one name), [`coordinator`] (all names),
//! [`executor`] (its calls), [`engine`] (the threads around it), [`starts`] and [`timeline`] (how the starts
//! of this replica go). Beside them, [`events`] (whom Kubernetes' Events concern) and, with
//! threads of its own, [`review`]: whose token is it.
//! Nothing here knows of HTTP.

pub mod cache;
pub mod catalog;
pub mod coordinator;
mod counting;
pub mod engine;
pub mod error;
pub mod events;
pub mod executor;
#[cfg(test)]
pub(crate) mod fixture;
pub mod flight;
pub mod history;
mod request_handle;
mod request_id;
pub mod review;
mod spans;
pub mod starts;
pub mod timeline;

pub use counting::Following;
pub use error::{Bound, Error};
pub use request_handle::RequestHandle;
pub use request_id::{RequestId, RequestIds};

use crate::clock::Clock;
use crate::model::labels::MetaChange;
use crate::model::names::{AppType, InstanceKey};
use crate::model::status::{Finding, InstanceStatus, Phase};
use crate::model::template::Variables;
use crate::traces::Context;
use cache::{Cache, Entry, Observed, Ready};
use coordinator::{Input, Wish};
use engine::{Catalogs, Inbox};
use flight::{Ensure, Intent, Label, Stop};
use review::{Bearer, Reviews, TokenStatus};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use timeline::Timings;

/// What a request that waited is answered with.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The instance is ready.
    Ready(Ready),
    /// It is not, or not yet.
    Progress(Progress),
    /// What was asked for is done.
    Done,
    /// It cannot be done.
    Failed(Error),
    /// Whose token it is, or why that could not be found out.
    Reviewed(Result<TokenStatus, Error>),
}

/// How far a start has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What there is to say.
    pub finding: Finding,
    /// Whether the caller is told that the start has failed (or probably has).
    pub is_verdict: bool,
}

impl Progress {
    /// The word that clients of 2.7.1 know.
    #[must_use]
    pub fn legacy_word(&self) -> &'static str {
        if self.is_verdict {
            "app_error"
        } else {
            self.finding.phase.legacy_word()
        }
    }

    /// How far it has come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.finding.phase
    }
}

/// Where answers to waiting requests go; the HTTP front implements it.
pub trait AnswerSink: fmt::Debug + Send + Sync {
    /// Answers the request that the token names, from any thread; one that no longer waits is ignored.
    fn answer(&self, token: RequestHandle, answer: Answer);
}

/// How long requests wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Where the request does not say.
    pub start_wait: Duration,
    /// At most, whatever the request says.
    pub start_wait_max: Duration,
}

/// Who asks, and by which request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The caller.
    pub who: Arc<str>,
    /// The request.
    pub request: RequestId,
    /// Its span, where there are traces.
    pub trace: Option<Context>,
}

/// As log lines have it.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (request {})", self.who, self.request)
    }
}

/// A request about one instance.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Whom to answer, if not at once.
    pub token: RequestHandle,
    /// Which instance.
    pub key: InstanceKey,
    /// Who asks, for the log and the Job's annotation.
    pub by: Origin,
    /// How long it wants to wait, where it says so.
    pub wait: Option<Duration>,
}

/// The service behind the HTTP front; clones share all.
#[derive(Clone, Debug)]
pub struct App {
    cache: Cache,
    catalogs: Arc<Catalogs>,
    inbox: Inbox,
    waits: Waits,
    clock: Arc<dyn Clock>,
    drained: Arc<AtomicBool>,
    reviews: Option<Reviews>,
    following: Following,
}

impl App {
    /// The service over these stores; `inbox` leads to the coordinator, `reviews` to whoever knows
    /// the tokens of Kubernetes, `following` to the starts of this replica.
    #[must_use]
    pub fn new(
        cache: Cache,
        catalogs: Arc<Catalogs>,
        inbox: Inbox,
        waits: Waits,
        clock: Arc<dyn Clock>,
        reviews: Option<Reviews>,
        following: Following,
    ) -> Self {
        Self {
            cache,
            catalogs,
            inbox,
            waits,
            clock,
            drained: Arc::default(),
            reviews,
            following,
        }
    }

    /// Whose token this is; `None` where `token` is answered with [`Answer::Reviewed`] later.
    ///
    /// # Errors
    /// [`Error::Draining`], [`Error::TooManyRequests`], and [`Error::Internal`] where this
    /// service does not review tokens.
    pub fn review(
        &self,
        bearer: &Bearer,
        token: RequestHandle,
    ) -> Result<Option<TokenStatus>, Error> {
        let reviews = self.reviews.as_ref().ok_or(Error::Internal)?;
        if self.drained.load(Ordering::SeqCst) {
            return Err(Error::Draining);
        }
        reviews.ask(bearer, token)
    }

    /// The app types on offer, sorted.
    ///
    /// # Errors
    /// [`Error::NotSynced`]: an empty list would be a lie.
    pub fn types(&self) -> Result<Vec<AppType>, Error> {
        self.check_synced()?;
        Ok(self.catalogs.current().types().cloned().collect())
    }

    /// The instances of a type, by name; none where nobody knows the type.
    ///
    /// # Errors
    /// [`Error::NotSynced`]: an empty list would be a lie.
    pub fn instances(&self, app_type: &str) -> Result<Vec<Entry>, Error> {
        self.check_synced()?;
        Ok(self.cache.entries(app_type))
    }

    /// The instance of this key, if it is ready.
    ///
    /// # Errors
    /// [`Error::NotSynced`]: an instance that has not been seen yet may be ready.
    pub fn ready(&self, key: &InstanceKey) -> Result<Option<Ready>, Error> {
        self.check_synced()?;
        Ok(self.cache.ready(key))
    }

    /// Finds an instance or starts it; the answer comes later unless there is an error. Whether it
    /// is ready already is asked before ([`App::ready`]).
    ///
    /// # Errors
    /// Where the answer is known at once and is an error.
    pub fn ensure(&self, asked: Asked, variables: Variables, intent: Intent) -> Result<(), Error> {
        self.check_synced()?;
        let deadline = self.clock.now() + self.wait(asked.wait);
        let ensure = Ensure {
            token: asked.token,
            intent,
            variables: Arc::new(variables),
            by: asked.by,
            deadline,
        };
        self.hand_over(asked.key, Wish::Ensure(ensure))
    }

    /// Where the time of this instance's start has gone, if it has a Job that is not on its way
    /// out: as this replica saw it if the start is its own, else as its pod says.
    #[must_use]
    pub fn timings(&self, key: &InstanceKey) -> Option<Timings> {
        let Observed::Instance(instance) = self.cache.see(key) else {
            return None;
        };
        if matches!(instance.status, InstanceStatus::Stopping { .. }) {
            return None;
        }
        self.following
            .timings(key, &instance, self.clock.now())
            .or_else(|| Timings::of_pod(&instance, self.clock.wall_now()))
    }

    /// The first instance, by type and name, among these types whose name or whose meta label
    /// `sessionID` is this one; one that is on its way out where there is no other.
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

    /// Stops an instance; the answer comes later unless there is an error. Where the request says
    /// how long it waits, it waits for the Job to be gone.
    ///
    /// # Errors
    /// Where the answer is known at once and is an error.
    pub fn stop(&self, asked: Asked) -> Result<(), Error> {
        self.check_synced()?;
        let now = self.clock.now();
        let wish = asked.wait.filter(|wait| !wait.is_zero());
        self.hand_over(
            asked.key,
            Wish::Stop(Stop {
                token: asked.token,
                by: asked.by,
                // A wish to wait is for the end; the deletion itself is not cut short by it.
                deadline: now + self.waits.start_wait,
                until: wish.map(|wish| now + self.wait(Some(wish))),
            }),
        )
    }

    /// Sets and removes meta labels; the answer comes later unless there is an error.
    ///
    /// # Errors
    /// Where the answer is known at once and is an error.
    pub fn label(&self, asked: Asked, change: MetaChange) -> Result<(), Error> {
        self.check_synced()?;
        // A wish to wait longer is for the pod; one to wait less would cut the change itself short.
        let wait = self.wait(asked.wait).max(self.waits.start_wait);
        let deadline = self.clock.now() + wait;
        self.hand_over(
            asked.key,
            Wish::Label(Label {
                token: asked.token,
                change,
                deadline,
            }),
        )
    }

    /// The caller of this token has hung up.
    pub fn abandon(&self, token: RequestHandle) {
        if let Some(reviews) = &self.reviews {
            reviews.abandon(token);
        }
        self.inbox.tell(Input::Abandoned(token));
    }

    /// How old the oldest of the caches may be.
    #[must_use]
    pub fn cache_age(&self) -> Duration {
        let now = self.clock.now();
        let Cache {
            config_maps,
            jobs,
            pods,
            // Nobody waits for Events, and nothing is wrong where there are none.
            events: _,
        } = &self.cache;
        config_maps.age(now).max(jobs.age(now)).max(pods.age(now))
    }

    /// Whether all that there is has been seen once.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        self.cache.is_synced() && self.catalogs.is_read()
    }

    /// Answers all who wait, and from now on nobody begins to. Stops and labels that were asked for
    /// have until then to be made: whether they were is what their callers must know.
    pub fn drain(&self, until: Instant) {
        self.drained.store(true, Ordering::SeqCst);
        if let Some(reviews) = &self.reviews {
            reviews.drain();
        }
        self.inbox.tell(Input::Drain(until));
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

    fn hand_over(&self, key: InstanceKey, wish: Wish) -> Result<(), Error> {
        if self.drained.load(Ordering::SeqCst) {
            return Err(Error::Draining);
        }
        self.inbox.ask(Input::Asked(key, wish))
    }
}
