//! Which requests use an instance, and how long it lives then.
//!
//! A part of [`App`]; when an instance is idle is decided in [`super::lifetimes`].

use super::cache::{Instance, Lookup, Ready};
use super::uses::Uses;
use super::{App, Error};
use crate::model::job::idle_timeout;
use crate::model::names::InstanceKey;
use crate::model::status::InstanceStatus;
use std::time::Duration;

impl App {
    /// The same, which also notes the uses of instances with a timeout; one request may claim a use of so long.
    #[must_use]
    pub fn with_uses(self, uses: Uses, heartbeat_max: Duration) -> Self {
        Self {
            uses: Some(uses),
            heartbeat_max,
            ..self
        }
    }

    /// The longest use that one request may claim.
    #[must_use]
    pub const fn heartbeat_max(&self) -> Duration {
        self.heartbeat_max
    }

    /// A request has found this instance, which is a use if it `touches` it: how long the instance lives if
    /// nobody uses it, if there is a limit.
    #[must_use]
    pub fn found(&self, ready: &Ready, touches: bool) -> Option<Duration> {
        let (uses, timeout) = (self.uses.as_ref()?, ready.idle_timeout);
        let (uid, now) = (&ready.version.uid, self.clock.now());
        match touches {
            true => uses.note(uid, timeout, Duration::ZERO, now),
            false => uses.left(uid, timeout?, now),
        }
    }

    /// This instance is used for so long from now on: how long it lives if nobody uses it, if there is a limit.
    ///
    /// # Errors
    /// [`Error::NotSynced`], and [`Error::NoInstance`] if there is none, it has ended, or it is being stopped.
    pub fn note_use(&self, key: &InstanceKey, lasts: Duration) -> Result<Option<Duration>, Error> {
        self.check_synced()?;
        let alive = |instance: &Instance| {
            matches!(
                instance.status,
                InstanceStatus::Ready { .. } | InstanceStatus::Starting(_)
            )
        };
        match self.cache.lookup(key) {
            Lookup::Instance(instance) if alive(&instance) => {
                let timeout = idle_timeout(&instance.job);
                let now = self.clock.now();
                let uses = self.uses.as_ref();
                Ok(uses.and_then(|uses| uses.note(instance.uid(), timeout, lasts, now)))
            }
            _ => Err(Error::NoInstance(key.clone())),
        }
    }
}
