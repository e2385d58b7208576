//! [`Counting`]: what the engine does, told in metrics and (by [`Spans`]) in traces; and
//! [`Following`]: how its starts go.
//!
//! Nothing is decided here, and nothing here can fail. A start or stop is counted by
//! the replica whose call made or deleted the Job.

use super::cache::{Cache, Instance};
use super::engine::Catalogs;
use super::flight::{Cause, Context};
use super::history::History;
use super::spans::Spans;
use super::starts::{Ended, News, Starts};
use super::timeline::Timings;
use crate::clock::Clock;
use crate::kube::types::Uid;
use crate::kube::{self, Class};
use crate::metrics::{Metrics, OTHER};
use crate::model::names::InstanceKey;
use crate::model::status::Phase;
use crate::traces::Traces;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The starts of this replica, as the engine follows them; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Following(Arc<Mutex<Starts>>);

impl Following {
    /// See [`Starts::timings`].
    #[must_use]
    pub fn timings(&self, key: &InstanceKey, instance: &Instance, now: Instant) -> Option<Timings> {
        self.lock().timings(key, instance, now)
    }

    fn lock(&self) -> MutexGuard<'_, Starts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts starts and stops; shared by the coordinator's thread and the workers.
#[derive(Debug)]
pub(super) struct Counting {
    metrics: Arc<Metrics>,
    catalogs: Arc<Catalogs>,
    clock: Arc<dyn Clock>,
    following: Following,
    pub(super) spans: Spans,
}

impl Counting {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        traces: Traces,
        catalogs: Arc<Catalogs>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            spans: Spans::new(traces, Arc::clone(&clock)),
            metrics,
            catalogs,
            clock,
            following: Following::default(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The starts that are followed here.
    pub(super) fn following(&self) -> Following {
        self.following.clone()
    }

    /// Our call has made this Job.
    pub(super) fn begun(&self, key: &InstanceKey, uid: &Uid, begun: Instant) {
        let admitted = self.clock.now();
        // Held until all is told, so that nothing can be told of the new start before.
        let mut starts = self.following.lock();
        let (followed, before) = starts.begin(key, uid, begun, admitted);
        if let Some(news) = before {
            self.tell(key, &news, admitted);
        }
        self.spans.begun(key, uid, begun, admitted);
        let took = admitted.saturating_duration_since(begun);
        self.metrics
            .phase_took(Phase::Admitting.as_str(), took.as_secs_f64());
        if !followed {
            self.spans.lost(key, "too_many", admitted);
            self.with_type(key, |app_type| {
                self.metrics.start_ended(app_type, "unknown", "too_many");
            });
        }
    }

    /// Our call has made no Job, as far as we know; where it will be repeated and nothing was
    /// made nothing is told yet.
    pub(super) fn not_begun(&self, key: &InstanceKey, begun: Instant, error: &kube::Error) {
        let end = end_without_job(error);
        self.spans.not_begun(key, begun, self.clock.now(), end);
        if let Some((result, reason)) = end {
            self.with_type(key, |app_type| {
                self.metrics.start_ended(app_type, result, reason);
            });
        }
    }

    /// The cache of these names may have changed.
    pub(super) fn look<'a>(
        &self,
        keys: impl Iterator<Item = &'a InstanceKey>,
        cache: &Cache,
        history: &History,
    ) {
        let mut starts = self.following.lock();
        self.with_context(cache, history, |context| {
            for key in keys {
                if let Some(news) = starts.look(key, context) {
                    self.tell(key, &news, context.now);
                }
            }
        });
    }

    /// Time may have passed.
    pub(super) fn tick(&self, cache: &Cache, history: &History) {
        let mut starts = self.following.lock();
        self.with_context(cache, history, |context| {
            for (key, news) in starts.tick(context) {
                self.tell(&key, &news, context.now);
            }
        });
    }

    /// When to call [`Counting::tick`] at the latest.
    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.following.lock().next_wake()
    }

    fn with_context(&self, cache: &Cache, history: &History, act: impl FnOnce(&Context<'_>)) {
        let catalog = self.catalogs.current();
        act(&Context {
            now: self.clock.now(),
            wall: self.clock.wall_now(),
            cache,
            catalog: &catalog,
            history,
            is_overdue: false,
        });
    }

    fn tell(&self, key: &InstanceKey, news: &News, now: Instant) {
        self.spans.told(key, news, now);
        if let Some((phase, took)) = news.phase {
            self.metrics.phase_took(phase.as_str(), took.as_secs_f64());
        }
        if let Some(took) = news.verdict {
            self.metrics.verdict_took(took.as_secs_f64());
        }
        let Some(ended) = &news.ended else {
            return;
        };
        self.with_type(key, |app_type| {
            self.metrics
                .start_ended(app_type, ended.result(), ended.reason());
            if let Ended::Ready(took) = ended {
                self.metrics.start_took(app_type, took.as_secs_f64());
            }
        });
    }

    /// Our call has deleted the Job. One whose pod does not go is counted when that is removed.
    pub(super) fn stopped(&self, key: &InstanceKey, cause: &Cause) {
        let cause = match cause {
            Cause::Asked(_) => "asked",
            Cause::Ended => "replaced",
            Cause::Stuck => return,
        };
        self.with_type(key, |app_type| self.metrics.stopped(app_type, cause));
    }

    /// Our call has removed a pod that did not go.
    pub(super) fn removed(&self, key: &InstanceKey) {
        self.with_type(key, |app_type| self.metrics.stopped(app_type, "forced"));
    }

    /// The type as the label has it: one that is on offer, so that callers cannot make up more.
    fn with_type(&self, key: &InstanceKey, tell: impl FnOnce(&str)) {
        let on_offer = self.catalogs.current().get(&key.app_type).is_some();
        tell(if on_offer {
            key.app_type.as_str()
        } else {
            OTHER
        });
    }
}

/// The result and the reason of a start whose Job was not made, as far as we know; `None` where the
/// call will be repeated or another has made it.
fn end_without_job(error: &kube::Error) -> Option<(&'static str, &'static str)> {
    let class = error.class();
    match class {
        Class::Forbidden { own_right: false } => Some(("denied", class.as_str())),
        // A namespace that does not exist.
        Class::Invalid | Class::NotFound | Class::Protocol => Some(("failed", class.as_str())),
        // If it was made, its start is nobody's to follow: another replica may have made it.
        Class::Unavailable if error.is_ambiguous() => Some(("unknown", "answer_lost")),
        Class::Forbidden { own_right: true }
        | Class::AlreadyExists
        | Class::Conflict
        | Class::Expired
        | Class::Throttled { .. }
        | Class::Unauthorized
        | Class::Unavailable => None,
    }
}
