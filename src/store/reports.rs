//! What replicas report of uses: the text of each Lease that has changed, with the moment of its arrival.
//!
//! No cache: [`crate::app::lifetimes`] takes what has come and keeps what follows from it. Of each Lease only the
//! last text matters, since it repeats what the ones before said within the timeouts. What texts contain is not
//! known here.

pub use super::replicas::REPLICAS_MAX;
use super::replicas::Replicas;
use super::store::{Change, Sink};
use crate::clock::Clock;
use crate::kube::types::{Lease, ResourceVersion, USES_OF};
use crate::kube::watch::StoreEvent;
use crate::threads::lock;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Bytes of reports that wait to be taken.
pub const REPORT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A watch that is opened again within this time was not interrupted: what has happened meanwhile arrives, later
/// by that.
pub const REOPENED_WITHIN: Duration = Duration::from_secs(2);

/// The reports that have come; clones share them.
#[derive(Clone, Debug)]
pub struct UseReports {
    clock: Arc<dyn Clock>,
    began: Instant,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The version of each Lease that was seen last, by its name.
    seen: HashMap<Box<str>, ResourceVersion>,
    replicas: Replicas,
    /// The names of a list that has begun.
    listing: HashSet<Box<str>>,
    news: News,
    bytes: usize,
    has_overflowed: bool,
    is_open: bool,
    /// Since when no watch is open, if there was one.
    closed: Option<Instant>,
}

/// What has come since it was taken last.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The last text of each Lease that has changed, and when it came, by the name of the Lease.
    pub texts: HashMap<Box<str>, (Box<str>, Instant)>,
    /// Reports may be missing that came before this moment.
    pub missed: Option<Instant>,
}

impl UseReports {
    /// None yet, and no watch.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            began: clock.now(),
            clock,
            state: Arc::default(),
        }
    }

    /// Takes what has come.
    #[must_use]
    pub fn take(&self) -> News {
        let mut state = lock(&self.state);
        state.bytes = 0;
        std::mem::take(&mut state.news)
    }

    /// The replicas that there are.
    #[must_use]
    pub fn replicas(&self) -> Replicas {
        lock(&self.state).replicas.clone()
    }

    /// Whether a watch is open, so that reports arrive.
    #[must_use]
    pub fn is_open(&self) -> bool {
        lock(&self.state).is_open
    }

    /// Whether no watch has been open for at least so long.
    #[must_use]
    pub fn is_closed_for(&self, long: Duration) -> bool {
        let (now, state) = (self.clock.now(), lock(&self.state));
        let since = state.closed.unwrap_or(self.began);
        !state.is_open && now.saturating_duration_since(since) >= long
    }

    /// These were listed just now, beside the watch; `are_all`: there are no others.
    pub fn listed(&self, leases: impl IntoIterator<Item = Lease>, are_all: bool) {
        let (now, mut state) = (self.clock.now(), lock(&self.state));
        if !are_all {
            state.overflow(now);
        }
        for lease in leases {
            state.put(lease, now);
        }
    }
}

impl State {
    /// There are more replicas than are kept apart, or Leases of replicas that are gone.
    fn overflow(&mut self, now: Instant) {
        self.news.missed = Some(now);
        if !std::mem::replace(&mut self.has_overflowed, true) {
            log::warn!(
                "more than {REPLICAS_MAX} Leases of replicas of this service (label {USES_OF}): instances that nobody uses may not be stopped; delete those of replicas that are gone, and set POD_NAME and POD_UID from the downward API"
            );
        }
    }

    fn put(&mut self, lease: Lease, now: Instant) {
        let (name, version) = (lease.metadata.name, lease.metadata.resource_version);
        let seen = self.seen.get(&name);
        // An older one counts, too: after etcd was restored, versions are lower.
        if seen == Some(&version) || lease.uses.is_empty() {
            return;
        }
        let is_full = self.seen.len() >= REPLICAS_MAX && seen.is_none();
        if is_full {
            self.overflow(now);
            return;
        }
        let before = self.news.texts.get(&name);
        let kept = self.bytes - before.map_or(0, |(text, _)| text.len());
        let bytes = kept + lease.uses.len();
        if bytes > REPORT_BYTES_MAX {
            // Whatever it says: nothing was used later than now.
            self.news.missed = Some(now);
            return;
        }
        self.seen.insert(name.clone(), version);
        self.news.texts.insert(name, (lease.uses, now));
        self.bytes = bytes;
    }
}

impl Sink<Lease> for UseReports {
    fn apply(&self, event: StoreEvent<Lease>) -> Vec<Change<Lease>> {
        let (now, mut state) = (self.clock.now(), lock(&self.state));
        match event {
            StoreEvent::Init => {
                state.listing.clear();
                state.replicas.list_begins();
            }
            StoreEvent::InitApply(lease) => {
                state.replicas.listed(&lease);
                if state.listing.len() < REPLICAS_MAX {
                    state.listing.insert(lease.metadata.name.clone());
                }
                state.put(lease, now);
            }
            StoreEvent::InitDone(_) => {
                state.replicas.list_ends();
                let State {
                    seen,
                    listing,
                    news,
                    ..
                } = &mut *state;
                let before = seen.len();
                seen.retain(|name, _| listing.contains(name));
                if seen.len() < before {
                    news.missed = Some(now);
                }
            }
            StoreEvent::Apply(lease) => {
                state.replicas.changed(&lease);
                state.put(lease, now);
            }
            StoreEvent::Delete { name, .. } => {
                state.replicas.gone(&name);
                // Its replica may not have reported its last uses.
                if state.seen.remove(&name).is_some() {
                    state.news.missed = Some(now);
                }
            }
            StoreEvent::Progress(_) => {}
        }
        Vec::new()
    }

    fn contact(&self, _: Instant) {}

    fn watching(&self, open: bool) {
        let (now, mut state) = (self.clock.now(), lock(&self.state));
        if state.is_open == open {
            return;
        }
        state.is_open = open;
        if !open {
            state.closed = Some(now);
        } else if (state.closed.take())
            .is_none_or(|at| now.saturating_duration_since(at) > REOPENED_WITHIN)
        {
            state.news.missed = Some(now);
        }
    }
}

#[cfg(test)]
mod tests;
