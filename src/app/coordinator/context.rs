//! The inputs of every decision (the time, the cache, the catalog), and the effects.
//!
//! Plain values; nothing is decided here.

use super::confirm::Trust;
use super::operation::Waiter;
use super::start_queue::StartQueue;
use crate::app::api_call::ApiCall;
use crate::app::cache::Cache;
use crate::app::catalog::Catalog;
use crate::app::lifecycle::{Lifecycle, LifecycleKind};
use crate::app::request::Response;
use crate::app::request_handle::RequestHandle;
use crate::kube::types::{Timestamp, Uid};
use crate::model::labels::{AllBounds, AllBytes};
use crate::model::names::InstanceKey;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The inputs of a decision at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Monotonic time: for deadlines and durations.
    pub now: Instant,
    /// Time of day of the API server: only for the age of a timestamp of Kubernetes; see
    /// [`Context::moment`].
    pub wall: SystemTime,
    /// The state of the cluster, as this replica knows it.
    pub cache: &'a Cache,
    /// The app types on offer.
    pub catalog: &'a Catalog,
}

impl Context<'_> {
    /// The moment of a timestamp of Kubernetes that is seen for the first time, on the monotonic clock of
    /// this replica. From then on durations run on that clock.
    ///
    /// The clock of the machine that wrote it may differ. So the moment is not in the future, and not
    /// before the object was made. Kubernetes cuts times to whole seconds, so it was up to a second later:
    /// no delay is shorter than it says.
    #[must_use]
    pub fn moment(&self, stamp: Timestamp, made: Option<Timestamp>) -> Instant {
        let stamp = made.map_or(stamp, |made| stamp.max(made));
        let age = self.wall.duration_since(stamp.system_time());
        let age = age
            .unwrap_or_default()
            .saturating_sub(Duration::from_secs(1));
        let moment = self.now.checked_sub(age);
        moment.unwrap_or(self.now)
    }

    /// The earliest moment of this timestamp, which Kubernetes has cut to a whole second.
    #[must_use]
    pub fn earliest(&self, stamp: Timestamp) -> Instant {
        let age = self.wall.duration_since(stamp.system_time());
        let moment = self.now.checked_sub(age.unwrap_or_default());
        moment.unwrap_or(self.now)
    }
}

/// An effect of the coordinator.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Respond to this request; it gets no other response.
    Respond(RequestHandle, Response),
    /// Make this call, apply what it returns to the stores, and report its outcome.
    Call(Arc<ApiCall>),
    /// Report this lifecycle event.
    Report(Box<Lifecycle>),
}

/// The context of one step of a record.
#[derive(Debug)]
pub(super) struct Step<'a> {
    /// The name.
    pub(super) key: &'a InstanceKey,
    /// The cache, the catalog and the time.
    pub(super) context: &'a Context<'a>,
    /// The number of this step of the replica, and of a waiter that comes with it.
    pub(super) number: u64,
    /// Whether the name may have a call of the coordinator's own.
    pub(super) may_work: bool,
    /// Whether a pod on a lost node may be force-deleted; see [`super::Limits::force_stop`].
    pub(super) may_force: bool,
    /// Whether another start of this replica can be followed.
    pub(super) may_follow: bool,
    /// How many starts of other names are in progress.
    pub(super) starting: usize,
    /// The starts that wait for a place.
    pub(super) queue: &'a mut StartQueue,
    /// See [`super::Limits::place_kept`].
    pub(super) place_kept: Duration,
    /// Bytes by which the calls in flight for other names lengthen meta labels.
    pub(super) label_growth: usize,
    /// The same for other names of the type.
    pub(super) label_growth_of_type: usize,
    /// See [`super::Limits::label_bounds`].
    pub(super) label_bounds: AllBounds,
    /// Whether the service is shutting down: then deadlines apply even to calls in flight.
    pub(super) is_draining: bool,
    /// The effects so far.
    pub(super) out: &'a mut Vec<Effect>,
}

impl Step<'_> {
    /// The meta labels of all instances together, with what the calls in flight add to them.
    #[must_use]
    pub(super) fn label_bytes(&self) -> AllBytes {
        let index = self.context.cache.index();
        AllBytes {
            bytes: index.label_bytes() + self.label_growth,
            of_type: index.label_bytes_of(&self.key.app_type) + self.label_growth_of_type,
            bounds: self.label_bounds,
        }
    }

    /// An event of now, without our own start, that is still to be reported.
    #[must_use]
    pub(super) fn event(&self, job_uid: Option<&Uid>, kind: LifecycleKind) -> Lifecycle {
        Lifecycle {
            key: self.key.clone(),
            job_uid: job_uid.cloned(),
            at: self.context.now,
            kind,
            is_news: true,
            phase_left: None,
            start_ended: None,
        }
    }

    pub(super) fn report(&mut self, event: Lifecycle) {
        self.out.push(Effect::Report(Box::new(event)));
    }

    pub(super) fn respond(&mut self, waiter: &Waiter, response: Response) {
        if let Some(handle) = waiter.handle {
            let is_of_cache =
                matches!(response, Response::Ready { .. } | Response::Progress { .. });
            let response = match waiter.trust {
                Trust::Unread if is_of_cache => Response::Unread(Box::new(response)),
                _ => response,
            };
            self.out.push(Effect::Respond(handle, response));
        }
    }
}
