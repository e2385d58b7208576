//! [`Counting`]: what the engine does, told in metrics.
//!
//! Nothing is decided here, and nothing here can fail. A start or stop is counted by
//! the replica whose call made or deleted the Job.

use super::engine::Catalogs;
use super::flight::Cause;
use super::starts::{Ended, Starts};
use super::view::View;
use crate::clock::Clock;
use crate::kube::types::Uid;
use crate::kube::{self, Class};
use crate::metrics::{Metrics, OTHER};
use crate::model::names::InstanceKey;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Counts starts and stops; shared by the desk's thread and the workers.
#[derive(Debug)]
pub(super) struct Counting {
    metrics: Arc<Metrics>,
    catalogs: Arc<Catalogs>,
    clock: Arc<dyn Clock>,
    starts: Mutex<Starts>,
}

impl Counting {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        catalogs: Arc<Catalogs>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            metrics,
            catalogs,
            clock,
            starts: Mutex::default(),
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Our call has made this Job.
    pub(super) fn begun(&self, key: &InstanceKey, uid: &Uid, begun: Instant) {
        if !self.starts().begin(key, uid, begun) {
            self.with_type(key, |app_type| {
                self.metrics.start_ended(app_type, "unknown", "");
            });
        }
    }

    /// Our call has made no Job; where it will be repeated nothing is told yet.
    pub(super) fn not_begun(&self, key: &InstanceKey, error: &kube::Error) {
        let class = error.class();
        let result = match class {
            Class::Forbidden { own_right: false } => "denied",
            // A namespace that does not exist.
            Class::Invalid | Class::NotFound | Class::Protocol => "failed",
            Class::Forbidden { own_right: true }
            | Class::AlreadyExists
            | Class::Conflict
            | Class::Expired
            | Class::Throttled { .. }
            | Class::Unauthorized
            | Class::Unavailable => return,
        };
        self.with_type(key, |app_type| {
            self.metrics.start_ended(app_type, result, class.as_str());
        });
    }

    /// The view of these names may have changed.
    pub(super) fn look<'a>(&self, keys: impl Iterator<Item = &'a InstanceKey>, view: &View) {
        let mut starts = self.starts();
        for key in keys {
            let Some(ended) = starts.look(key, view, self.clock.now()) else {
                continue;
            };
            self.with_type(key, |app_type| {
                self.metrics
                    .start_ended(app_type, ended.result(), ended.reason());
                if let Ended::Ready(took) = ended {
                    self.metrics.start_took(app_type, took.as_secs_f64());
                }
            });
        }
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

    fn starts(&self) -> MutexGuard<'_, Starts> {
        self.starts.lock().unwrap_or_else(PoisonError::into_inner)
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
