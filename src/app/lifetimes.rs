//! When instances with a timeout were used last, and what follows: which are idle, what other replicas are
//! told.
//!
//! Pure: takes uses, reports and the time. Nobody is asked here, and nothing is stopped. Clocks of machines are
//! never compared: a report of another replica says how long before its writing a use was, and counts from the
//! moment when it arrives, so a use seems later than it was, never earlier.

use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::uses::{self, Mark, Use};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Beside the interval of reports, a use may take so long to reach the other replicas.
pub const DELIVERY: Duration = Duration::from_secs(2);

/// Shortest and longest interval of reports.
pub const REPORT_EVERY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// An instance that stays unused is announced this long before its end, unless that is more than half of its
/// timeout.
pub const SOON: Duration = Duration::from_secs(30);

/// The longest use by one request that a report of another replica may claim.
pub const USE_LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// The interval of reports where this is the shortest timeout: a quarter of it, within [`REPORT_EVERY`].
#[must_use]
pub fn report_interval(timeout: Duration) -> Duration {
    (timeout / 4).clamp(REPORT_EVERY[0], REPORT_EVERY[1])
}

/// How long before its end an unused instance is announced: a tenth of its timeout, at least [`SOON`], at most
/// half of it.
#[must_use]
pub fn announced_before(timeout: Duration) -> Duration {
    (timeout / 10).max(SOON).min(timeout / 2)
}

/// What is due for an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// It ends after this time, unless somebody uses it.
    Soon(InstanceKey, Uid, Duration),
    /// Nobody has used it for its timeout, as far as is known here.
    Idle(InstanceKey, Uid),
}

/// The instances with a timeout, and their uses.
#[derive(Debug)]
pub struct Lifetimes {
    instances: HashMap<Uid, Instance>,
    by_mark: HashMap<Mark, Uid>,
    /// When to look at which instance next.
    looks: BTreeSet<(Instant, Uid)>,
    /// How many instances have which timeout.
    timeouts: BTreeMap<Duration, usize>,
    /// All instances count as used then: what happened before is not known.
    known_since: Instant,
    /// When the last report was made.
    reported: Option<Instant>,
    /// There were uses since the last report.
    has_news: bool,
}

#[derive(Debug)]
struct Instance {
    key: InstanceKey,
    mark: Mark,
    timeout: Duration,
    /// The last use that is known of.
    used: Instant,
    /// The last use through this replica.
    used_here: Option<Instant>,
    /// It was announced that it ends soon, and it was not used since.
    is_announced: bool,
    look: Instant,
}

impl Instance {
    fn used(&mut self, at: Instant) {
        if at > self.used {
            self.used = at;
            self.is_announced = false;
        }
    }

    /// When it counts as idle: other replicas may have heard of a use that has not arrived here yet.
    fn idle_at(&self) -> Instant {
        self.used + self.timeout + report_interval(self.timeout) + DELIVERY
    }

    fn soon_at(&self) -> Instant {
        self.used + (self.timeout - announced_before(self.timeout))
    }
}

impl Lifetimes {
    /// Knows of no instance and of no use before `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            instances: HashMap::new(),
            by_mark: HashMap::new(),
            looks: BTreeSet::new(),
            timeouts: BTreeMap::new(),
            known_since: now,
            reported: None,
            has_news: false,
        }
    }

    /// There is an instance with this timeout. It counts as used now, if it is new.
    pub fn add(&mut self, key: &InstanceKey, uid: &Uid, timeout: Duration, now: Instant) {
        if self.instances.contains_key(uid) {
            return;
        }
        let mark = Mark::of(uid);
        let mut instance = Instance {
            key: key.clone(),
            mark,
            timeout,
            used: now,
            used_here: None,
            is_announced: false,
            look: now,
        };
        instance.look = instance.soon_at();
        self.looks.insert((instance.look, uid.clone()));
        self.by_mark.insert(mark, uid.clone());
        *self.timeouts.entry(timeout).or_default() += 1;
        self.instances.insert(uid.clone(), instance);
    }

    /// This instance is gone.
    pub fn remove(&mut self, uid: &Uid) {
        let Some(instance) = self.instances.remove(uid) else {
            return;
        };
        self.looks.remove(&(instance.look, uid.clone()));
        self.by_mark.remove(&instance.mark);
        if let Some(count) = self.timeouts.get_mut(&instance.timeout) {
            *count -= 1;
            if *count == 0 {
                self.timeouts.remove(&instance.timeout);
            }
        }
    }

    /// It is used through this replica, until then: now, or later where its caller said for how long.
    pub fn used(&mut self, uid: &Uid, until: Instant) {
        if let Some(instance) = self.instances.get_mut(uid) {
            instance.used(until);
            if instance.used_here.is_none_or(|before| before < until) {
                instance.used_here = Some(until);
                self.has_news = true;
            }
        }
    }

    /// Another replica reports these uses, which have arrived `now`.
    pub fn heard(&mut self, uses: impl IntoIterator<Item = Use>, now: Instant) {
        for one in uses {
            match one {
                Use::All(age) => {
                    if let Some(at) = moment(now, age) {
                        self.all_used(at);
                    }
                }
                Use::One(mark, age) => {
                    let uid = self.by_mark.get(&mark);
                    let instance = uid.and_then(|uid| self.instances.get_mut(uid));
                    if let (Some(instance), Some(at)) = (instance, moment(now, age)) {
                        instance.used(at);
                    }
                }
            }
        }
    }

    /// All instances count as used then: this replica was paused, or may have missed reports.
    pub fn all_used(&mut self, at: Instant) {
        self.known_since = self.known_since.max(at);
    }

    /// How long this instance still lives if nobody uses it; `None` if it has no timeout.
    #[must_use]
    pub fn left(&self, uid: &Uid, now: Instant) -> Option<Duration> {
        let instance = self.instances.get(uid)?;
        let used = instance.used.max(self.known_since);
        Some((used + instance.timeout).saturating_duration_since(now))
    }

    /// The report for the other replicas, if one is due: of each instance that was used here within its timeout
    /// when that was last, so that a report that is lost is made up for by the next.
    pub fn report(&mut self, now: Instant) -> Option<String> {
        if self.report_at()? > now {
            return None;
        }
        self.reported = Some(now);
        self.has_news = false;
        let uses = self.instances.values().filter_map(|instance| {
            let age = age(now, instance.used_here?);
            let is_recent = age <= seconds(instance.timeout);
            is_recent.then_some((instance.mark, age))
        });
        Some(uses::write(uses))
    }

    /// The last report was not delivered.
    pub fn report_failed(&mut self) {
        self.has_news = true;
    }

    /// When the next report is due, if there is something to report.
    fn report_at(&self) -> Option<Instant> {
        let (shortest, _) = self.timeouts.first_key_value()?;
        let last = self.reported.map(|at| at + report_interval(*shortest));
        self.has_news.then(|| last.unwrap_or(self.known_since))
    }

    /// What is due. An instance that is [`Due::Idle`] is looked at again after [`DELIVERY`], as long as it is
    /// there. `is_connected`: its users say that they are.
    pub fn due(&mut self, now: Instant, is_connected: impl Fn(&InstanceKey) -> bool) -> Vec<Due> {
        let mut due = Vec::new();
        while self.looks.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, uid)) = self.looks.pop_first()
        {
            let Some(instance) = self.instances.get_mut(&uid) else {
                continue;
            };
            instance.used(self.known_since);
            if is_connected(&instance.key) {
                instance.used(now);
            }
            let (soon_at, idle_at) = (instance.soon_at(), instance.idle_at());
            instance.look = if now < soon_at {
                soon_at
            } else if now < idle_at {
                if !std::mem::replace(&mut instance.is_announced, true) {
                    let left = idle_at.saturating_duration_since(now);
                    due.push(Due::Soon(instance.key.clone(), uid.clone(), left));
                }
                idle_at
            } else {
                due.push(Due::Idle(instance.key.clone(), uid.clone()));
                now + DELIVERY
            };
            self.looks.insert((instance.look, uid));
        }
        due
    }

    /// Whether nobody has used this instance for its timeout, as far as is known.
    #[must_use]
    pub fn is_idle(&self, uid: &Uid, now: Instant) -> bool {
        let instance = self.instances.get(uid);
        instance.is_some_and(|it| it.idle_at() <= now && self.known_since <= it.used)
    }

    /// When something is due next.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        let look = self.looks.first().map(|(at, _)| *at);
        look.into_iter().chain(self.report_at()).min()
    }
}

/// The moment that is so many seconds ago, if this machine ran then. One that is too far in the future counts as
/// the last that may be.
fn moment(now: Instant, age: i64) -> Option<Instant> {
    let by = Duration::from_secs(age.unsigned_abs());
    if age > 0 {
        now.checked_sub(by)
    } else {
        Some(now + by.min(USE_LONGEST))
    }
}

/// The age of a use in whole seconds, rounded down.
fn age(now: Instant, used: Instant) -> i64 {
    if used <= now {
        seconds(now.saturating_duration_since(used))
    } else {
        let ahead = used.saturating_duration_since(now);
        -(seconds(ahead) + i64::from(ahead.subsec_nanos() > 0))
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
