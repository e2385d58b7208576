//! [`Uses`]: which instances were used through this replica, and until when, as all threads see it.
//!
//! Threads that serve requests note uses and go on; nothing here is proportional to the number of instances. What
//! follows is in [`super::idle`].

use super::lifetimes::Lifetimes;
use super::rights::MissingRights;
use crate::kube::types::Uid;
use crate::threads::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The uses of instances through this replica, and what is known of all; clones share it.
#[derive(Clone, Debug)]
pub struct Uses {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Those that the thread has not taken yet: until when each instance counts as used.
    noted: Mutex<HashMap<Uid, Instant>>,
    /// Those that last: until when, by any replica.
    lasting: Mutex<HashMap<Uid, Instant>>,
    lifetimes: Mutex<Lifetimes>,
    /// Whether uses of instances without a timeout count, too.
    are_all_noted: AtomicBool,
    rights: MissingRights,
}

impl Uses {
    /// None yet. Without the rights on Leases nothing is stopped, so nothing expires.
    #[must_use]
    pub fn new(now: Instant, rights: MissingRights) -> Self {
        Self {
            shared: Arc::new(Shared {
                noted: Mutex::default(),
                lasting: Mutex::default(),
                lifetimes: Mutex::new(Lifetimes::new(now)),
                are_all_noted: AtomicBool::new(false),
                rights,
            }),
        }
    }

    /// Uses of instances without a timeout count, too, or not: some are restarted once nobody uses them.
    pub(super) fn note_all(&self, are_all_noted: bool) {
        self.shared
            .are_all_noted
            .store(are_all_noted, Ordering::Relaxed);
    }

    /// This instance, which has that timeout or none, is used through this replica for so long from now on: how long it
    /// lives if nobody uses it again, if there is a limit. No more are kept than the cache has instances.
    pub fn note(
        &self,
        uid: &Uid,
        timeout: Option<Duration>,
        lasts: Duration,
        now: Instant,
    ) -> Option<Duration> {
        if timeout.is_none() && !self.shared.are_all_noted.load(Ordering::Relaxed) {
            return None;
        }
        let until = now + lasts;
        {
            let mut noted = lock(&self.shared.noted);
            match noted.get_mut(uid) {
                Some(before) => *before = until.max(*before),
                None => drop(noted.insert(uid.clone(), until)),
            }
        }
        let mut lasting = lock(&self.shared.lasting);
        let before = lasting.get(uid).copied().unwrap_or(now);
        if lasts > Duration::ZERO && until > before {
            lasting.insert(uid.clone(), until);
        }
        let left = until.max(before).saturating_duration_since(now) + timeout?;
        Some(left).filter(|_| !self.shared.rights.leases())
    }

    /// Whether this instance was used just now.
    fn is_noted(&self, uid: &Uid) -> bool {
        lock(&self.shared.noted).contains_key(uid)
    }

    /// How long this instance, which has that timeout, still lives if nobody uses it, if there is a limit.
    #[must_use]
    pub fn left(&self, uid: &Uid, timeout: Duration, now: Instant) -> Option<Duration> {
        // It may have been made just now.
        let left = self.lifetimes().left(uid, now);
        Some(left.unwrap_or(timeout)).filter(|_| !self.shared.rights.leases())
    }

    /// Takes the uses that were noted here.
    pub(super) fn take(&self) -> HashMap<Uid, Instant> {
        std::mem::take(&mut lock(&self.shared.noted))
    }

    /// Keeps of the uses that last those that still do, of instances that are there.
    pub(super) fn renew(&self, lasting: HashMap<Uid, Instant>) {
        *lock(&self.shared.lasting) = lasting;
    }

    /// What is known of all instances with a timeout.
    pub(super) fn lifetimes(&self) -> MutexGuard<'_, Lifetimes> {
        lock(&self.shared.lifetimes)
    }

    /// Whether this instance may be restarted, since nobody has used it for long, up to now and as far as is known.
    #[must_use]
    pub fn may_restart(&self, uid: &Uid, now: Instant) -> bool {
        !self.is_noted(uid) && self.lifetimes().may_restart(uid, now)
    }

    /// Whether nobody has used this instance for its timeout, up to now and as far as is known here.
    #[must_use]
    pub fn is_idle(&self, uid: &Uid, now: Instant) -> bool {
        !self.is_noted(uid) && self.lifetimes().is_idle(uid, now)
    }
}
