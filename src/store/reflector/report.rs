//! What is logged and counted of a watch.
//!
//! Nothing is decided here: [`crate::kube::watch`] decides, and the reflector reports its notes. A line that
//! may come with every attempt is written once, until the state that it reports has ended.

use crate::kube::error::Error;
use crate::kube::types::{LeftOut, META_BYTES_MAX, META_PAIRS_MAX, Resource};
use crate::kube::watch::{Cause, Note};
use crate::store::store::Change;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many objects a log line about differences names.
const DIFFERENCES_NAMED: usize = 5;

/// The counters of one reflector.
#[derive(Debug)]
pub struct WatchStats {
    resource: &'static str,
    pub(super) events: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) left_out: AtomicU64,
    pub(super) restarts: [AtomicU64; Cause::ALL.len()],
    pub(super) relisted: [AtomicU64; Cause::ALL.len()],
    pub(super) differences: AtomicU64,
}

impl WatchStats {
    pub(super) fn new(resource: &'static str) -> Self {
        Self {
            resource,
            events: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            restarts: Default::default(),
            relisted: Default::default(),
            differences: AtomicU64::new(0),
        }
    }

    /// The resource (plural) that is watched.
    #[must_use]
    pub fn resource(&self) -> &'static str {
        self.resource
    }

    /// Number of watch events so far, bookmarks included.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Number of objects so far that could not be decoded.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Number of objects so far of which meta labels were left out.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// How many lists or watches were restarted for that cause, so far.
    #[must_use]
    pub fn restarts(&self, cause: Cause) -> u64 {
        self.restarts[cause as usize].load(Ordering::Relaxed)
    }

    /// How many lists replaced what the store had, for that cause, so far.
    #[must_use]
    pub fn relisted(&self, cause: Cause) -> u64 {
        self.relisted[cause as usize].load(Ordering::Relaxed)
    }

    /// In how many objects the store differed from such a list although its watch was open, so far.
    #[must_use]
    pub fn differences(&self) -> u64 {
        self.differences.load(Ordering::Relaxed)
    }
}

/// A watch that is cut more often within this time is reported once, by a number: a proxy may cut it
/// several times a second.
const CUTS_REPORTED_EVERY: Duration = Duration::from_secs(60);

/// Cuts of a watch that is reopened at once.
#[derive(Debug, Default)]
pub(super) struct Cuts {
    /// The first one, which was logged.
    since: Option<Instant>,
    /// Those after it.
    more: u32,
}

impl Cuts {
    /// Notes one; returns whether it is to be logged.
    pub(super) fn is_first(&mut self, now: Instant) -> bool {
        if self.since.is_some() {
            self.more += 1;
            return false;
        }
        self.since = Some(now);
        true
    }

    /// How many there were, and since when, once their time is over and some were not logged.
    pub(super) fn ended(&mut self, now: Instant) -> Option<(u32, Duration)> {
        let passed = now.saturating_duration_since(self.since?);
        if passed < CUTS_REPORTED_EVERY {
            return None;
        }
        let more = std::mem::take(self).more;
        (more > 0).then_some((more + 1, passed))
    }
}

/// Logs and counts the events of a watch of any kind.
#[derive(Debug)]
pub(super) struct Reporter {
    pub(super) stats: Arc<WatchStats>,
    pub(super) poll: Duration,
    pub(super) loss: Option<&'static str>,
    /// Since when the watch has been failing, once that was logged.
    pub(super) failing: Option<Instant>,
    pub(super) cuts: Cuts,
}

impl Reporter {
    /// `wait` is the time until the next attempt, where there is one.
    pub(super) fn report(&mut self, note: &Note, wait: Option<Duration>, now: Instant) {
        let resource = self.stats.resource;
        if let Some((count, passed)) = self.cuts.ended(now) {
            let secs = passed.as_secs();
            log::info!(
                "resource" = resource;
                "watch on {resource} was cut {count} times in the last {secs} s"
            );
        }
        match note {
            Note::Contact => {
                if let Some(since) = self.failing.take() {
                    let secs = now.saturating_duration_since(since).as_secs_f32();
                    log::info!(
                        "resource" = resource;
                        "watch on {resource} works again after {secs:.1} s"
                    );
                }
            }
            Note::Watching(_) | Note::Stale(_) => {}
            Note::Relisted(cause) => {
                self.stats.relisted[*cause as usize].fetch_add(1, Ordering::Relaxed);
            }
            Note::Paused(gap) => {
                let secs = gap.as_secs_f32();
                log::info!(
                    "resource" = resource;
                    "watch on {resource} was not read for {secs:.1} s, since this process stood still; responses count as stale until it has caught up"
                );
            }
            Note::Contradiction(Some(name)) => log::error!(
                "resource" = resource;
                "a read of \"{name}\" of {resource} contradicts the list of {resource}: the API server's cache does not show what etcd has; restart the API server if etcd was restored; responses count as stale meanwhile"
            ),
            Note::Contradiction(None) => {
                log::info!(
                    "resource" = resource;
                    "reads and lists of {resource} agree again"
                );
            }
            Note::Skipped(skipped) => {
                self.stats.skipped.fetch_add(1, Ordering::Relaxed);
                let (name, reason) = (&skipped.name, &skipped.reason);
                log::warn!(
                    "resource" = resource;
                    "skipping \"{name}\" of {resource}, which cannot be decoded: {reason}"
                );
            }
            Note::Refused(error) => self.refused(error),
            Note::Restart(cause, why) => {
                self.stats.restarts[*cause as usize].fetch_add(1, Ordering::Relaxed);
                self.restarted(*cause, why, wait, now);
            }
        }
    }

    /// Logs and counts an object with more meta labels than are kept, once: the cache holds that they
    /// were left out.
    pub(super) fn changed<K: Resource>(&self, change: &Change<K>) {
        let pairs_left_out = |object: &Arc<K>| object.metadata().left_out().pairs;
        let Some(new) = change.new.as_ref().filter(|new| pairs_left_out(new) > 0) else {
            return;
        };
        if change.old.as_ref().map_or(0, pairs_left_out) > 0 {
            return;
        }
        self.stats.left_out.fetch_add(1, Ordering::Relaxed);
        let (name, resource) = (&new.metadata().name, self.stats.resource);
        let LeftOut { pairs, bytes } = new.metadata().left_out();
        log::warn!(
            "resource" = resource;
            "\"{name}\" of {resource} has too many meta labels: {pairs} of {bytes} bytes are left out, beyond the first {META_PAIRS_MAX} of {META_BYTES_MAX} bytes by key"
        );
    }

    /// Logs and counts what a list has shown that the watch has not.
    pub(super) fn differs<K: Resource>(&self, changes: &[Change<K>]) {
        if changes.is_empty() {
            return;
        }
        let count = changes.len();
        self.stats
            .differences
            .fetch_add(count as u64, Ordering::Relaxed);
        let names = changes.iter().take(DIFFERENCES_NAMED);
        let names: Vec<_> = names
            .map(|change| &*change.object().metadata().name)
            .collect();
        let (resource, names) = (self.stats.resource, names.join(", "));
        let more = if count > DIFFERENCES_NAMED {
            ", …"
        } else {
            ""
        };
        log::warn!(
            "resource" = resource;
            "the watch on {resource} has lost changes of {count} objects, which a list has shown: {names}{more}"
        );
    }

    /// Logs that a permission is missing, and the consequence.
    fn refused(&self, error: &Error) {
        let (resource, poll) = (self.stats.resource, self.poll.as_secs_f32());
        match self.loss {
            Some(loss) => log::warn!(
                "resource" = resource;
                "{error}; without {resource}, {loss}; retrying every {poll} s until that right is granted"
            ),
            None => log::error!(
                "resource" = resource;
                "{error}; listing {resource} every {poll} s until that right is granted (check the namespace and the RoleBinding in it)"
            ),
        }
    }

    /// Logs why a list or watch is restarted: regular causes at debug level, an outage once.
    fn restarted(&mut self, cause: Cause, why: &str, wait: Option<Duration>, now: Instant) {
        let resource = self.stats.resource;
        let next = match (cause, wait) {
            (_, Some(wait)) => format!("retrying in {:.1} s", wait.as_secs_f32()),
            (Cause::TooLarge, None) => "listing fewer objects at once".into(),
            (_, None) => "reopening it".into(),
        };
        let is_outage = match cause {
            Cause::WentBack | Cause::Differs => {
                log::warn!(
                    "resource" = resource;
                    "watch on {resource}: Kubernetes went back, or has lost events ({why}); listing again"
                );
                return;
            }
            // A 403 that lasts is logged once, as a missing permission. Silence is usual where
            // nothing changes: the API server sends no bookmark then.
            Cause::Closed
            | Cause::Refused
            | Cause::Silent
            | Cause::TooLarge
            | Cause::Unfit
            | Cause::Interval => {
                log::debug!("watch on {resource} ended ({why}); {next}");
                return;
            }
            Cause::Lost | Cause::Expired => false,
            Cause::Short | Cause::Broken | Cause::Failed => true,
        };
        if is_outage && self.failing.is_some() {
            log::debug!("watch on {resource} still fails ({why}); {next}");
        } else if is_outage {
            self.failing = Some(now);
            log::warn!(
                "resource" = resource;
                "watch on {resource} failed ({why}); {next}"
            );
        } else if self.cuts.is_first(now) {
            log::info!(
                "resource" = resource;
                "watch on {resource} ended ({why}); {next}"
            );
        } else {
            log::debug!("watch on {resource} ended again ({why}); {next}");
        }
    }
}
