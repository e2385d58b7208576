//! When instances with a timeout were used last, and what follows: which are idle, what other replicas are
//! told.
//!
//! Pure: takes uses, reports and the time. Nobody is asked here, and nothing is stopped. Clocks of machines are
//! never compared: a report of another replica says how long before its writing a use was, and counts from the
//! moment when it arrives, so a use seems later than it was, never earlier.

use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::uses::{self, Mark, Use};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
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

/// How long nobody has used an instance that is restarted when it is idle.
pub const RESTART_IDLE_AFTER: RangeInclusive<Duration> = Duration::from_secs(1)..=USE_LONGEST;

/// What follows when nobody has used an instance for how long; one of them at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// It ends.
    pub idle: Option<Duration>,
    /// It may be restarted, since its template has changed.
    pub restart: Option<Duration>,
}

impl From<Duration> for Timeouts {
    fn from(idle: Duration) -> Self {
        Self {
            idle: Some(idle),
            restart: None,
        }
    }
}

impl Timeouts {
    fn shortest(&self) -> Duration {
        let all = self.idle.into_iter().chain(self.restart);
        all.min().unwrap_or(USE_LONGEST)
    }

    fn longest(&self) -> Duration {
        let all = self.idle.into_iter().chain(self.restart);
        all.max().unwrap_or_default()
    }
}

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
    /// When the next report may be made at the earliest.
    reports_from: Instant,
    /// There were uses since the last report.
    has_news: bool,
    /// The other replicas do not know yet that this one has started: an earlier process of its name may have
    /// taken uses with it.
    is_new: bool,
    /// How many reports were made.
    reports: u64,
    /// How many reports in a row were not delivered.
    failures: u32,
    /// How often all instances were counted.
    counts: u64,
    /// Of which a use may last longer than now.
    lasting: HashSet<Uid>,
}

#[derive(Debug)]
struct Instance {
    key: InstanceKey,
    mark: Mark,
    timeouts: Timeouts,
    /// The last use that is known of.
    used: Instant,
    /// Since when it may be restarted when nobody uses it.
    restarts_since: Instant,
    /// The last use through this replica.
    used_here: Option<Instant>,
    /// It was announced that it ends soon, and it was not used since.
    is_announced: bool,
    look: Instant,
    /// Whether it was there when all were counted last; see [`Lifetimes::set`].
    count: u64,
}

impl Instance {
    fn used(&mut self, at: Instant) {
        if at > self.used {
            self.used = at;
            self.is_announced = false;
        }
    }

    fn soon_at(&self, timeout: Duration) -> Instant {
        self.used + (timeout - announced_before(timeout))
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
            reports_from: now,
            has_news: false,
            is_new: true,
            reports: 0,
            failures: 0,
            counts: 0,
            lasting: HashSet::new(),
        }
    }

    /// There is an instance with these timeouts. It counts as used now, if it is new.
    pub fn add(
        &mut self,
        key: &InstanceKey,
        uid: &Uid,
        timeouts: impl Into<Timeouts>,
        now: Instant,
    ) {
        let timeouts = timeouts.into();
        let shortest = timeouts.shortest();
        if let Some(known) = self.instances.get_mut(uid) {
            known.count = self.counts;
            let before = known.timeouts;
            if before != timeouts {
                known.timeouts = timeouts;
                known.restarts_since = now;
                self.forget_timeout(before.shortest());
                *self.timeouts.entry(shortest).or_default() += 1;
            }
            return;
        }
        let mark = Mark::of(uid);
        let mut instance = Instance {
            key: key.clone(),
            mark,
            timeouts,
            used: now,
            restarts_since: now,
            used_here: None,
            is_announced: false,
            look: now,
            count: self.counts,
        };
        // It may be in use whatever requests say.
        if let Some(timeout) = timeouts.idle {
            instance.look = now + report_interval(timeout);
            self.looks.insert((instance.look, uid.clone()));
        }
        self.by_mark.insert(mark, uid.clone());
        *self.timeouts.entry(shortest).or_default() += 1;
        self.instances.insert(uid.clone(), instance);
    }

    /// This instance is gone.
    pub fn remove(&mut self, uid: &Uid) {
        let Some(instance) = self.instances.remove(uid) else {
            return;
        };
        self.looks.remove(&(instance.look, uid.clone()));
        self.by_mark.remove(&instance.mark);
        self.forget_timeout(instance.timeouts.shortest());
    }

    fn forget_timeout(&mut self, shortest: Duration) {
        if let Some(count) = self.timeouts.get_mut(&shortest) {
            *count -= 1;
            if *count == 0 {
                self.timeouts.remove(&shortest);
            }
        }
    }

    /// It is used through this replica, until then: now, or later where its caller said for how long.
    pub fn used(&mut self, uid: &Uid, until: Instant, now: Instant) {
        if let Some(instance) = self.instances.get_mut(uid) {
            instance.used(until);
            if until > now {
                self.lasting.insert(uid.clone());
            }
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
                    let (Some(uid), Some(at)) = (self.by_mark.get(&mark), moment(now, age)) else {
                        continue;
                    };
                    if let Some(instance) = self.instances.get_mut(uid) {
                        instance.used(at);
                    }
                    if at > now {
                        self.lasting.insert(uid.clone());
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
        Some((used + instance.timeouts.idle?).saturating_duration_since(now))
    }

    /// These are all instances with timeouts, each with its own; see [`Lifetimes::add`].
    pub fn set<'a, T: Into<Timeouts>>(
        &mut self,
        all: impl IntoIterator<Item = (InstanceKey, &'a Uid, T)>,
        now: Instant,
    ) {
        self.counts += 1;
        let mut there = 0;
        for (key, uid, timeouts) in all {
            self.add(&key, uid, timeouts, now);
            there += 1;
        }
        if there == self.instances.len() {
            return;
        }
        let all = self.instances.iter();
        let gone = all.filter(|(_, instance)| instance.count != self.counts);
        let gone: Vec<Uid> = gone.map(|(uid, _)| uid.clone()).collect();
        gone.iter().for_each(|uid| self.remove(uid));
    }

    /// The interval of reports, if there are instances with a timeout.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        let (shortest, _) = self.timeouts.first_key_value()?;
        Some(report_interval(*shortest))
    }

    /// The uses that last beyond `now`, each until then.
    #[must_use]
    pub fn lasting(&mut self, now: Instant) -> HashMap<Uid, Instant> {
        let mut lasting = HashMap::new();
        self.lasting.retain(|uid| {
            let used = self.instances.get(uid).map(|instance| instance.used);
            let used = used.filter(|used| *used > now);
            used.is_some_and(|used| lasting.insert(uid.clone(), used).is_none())
        });
        lasting
    }

    /// The report for the other replicas, if one is due, or if there is something to report and it `is_last`: of
    /// each instance that was used here within its timeout when that was last, so that a report that is lost is
    /// made up for by the next. The first one says that all were used.
    pub fn report(&mut self, now: Instant, is_last: bool) -> Option<String> {
        let at = self.report_at()?;
        if at > now && !is_last {
            return None;
        }
        self.reports_from = now + self.interval()?;
        self.has_news = false;
        self.reports += 1;
        let uses = self.instances.values().filter_map(|instance| {
            let age = age(now, instance.used_here?);
            let is_recent = age <= seconds(instance.timeouts.longest());
            is_recent.then_some((instance.mark, age))
        });
        let of_all = self.is_new.then(|| age(now, self.known_since));
        Some(uses::write(self.reports, of_all, uses))
    }

    /// The last report was delivered.
    pub fn report_delivered(&mut self) {
        self.is_new = false;
        self.failures = 0;
    }

    /// The last report was not delivered: the next one repeats it, first soon, then no more often than reports are
    /// made.
    pub fn report_failed(&mut self, now: Instant) {
        self.has_news = true;
        let interval = self.interval().unwrap_or(REPORT_EVERY[1]);
        let delay = REPORT_EVERY[0].saturating_mul(1 << self.failures.min(8));
        self.failures += 1;
        self.reports_from = now + delay.min(interval);
    }

    /// When the next report is due, if there is something to report.
    fn report_at(&self) -> Option<Instant> {
        let has_news = self.has_news || self.is_new;
        (has_news && !self.timeouts.is_empty()).then_some(self.reports_from)
    }

    /// What is due, at most so much; the rest is due next. An instance that is [`Due::Idle`] is looked at again
    /// after [`DELIVERY`], as long as it is there. One that `is_in_use`, whatever requests say, is looked at as
    /// often as replicas report, so that it is known when that has ended.
    pub fn due(
        &mut self,
        now: Instant,
        most: usize,
        is_in_use: impl Fn(&InstanceKey) -> bool,
    ) -> Vec<Due> {
        let mut due = Vec::new();
        while due.len() < most
            && self.looks.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, uid)) = self.looks.pop_first()
        {
            let instance = self.instances.get_mut(&uid);
            let Some((instance, timeout)) =
                instance.and_then(|it| it.timeouts.idle.map(|idle| (it, idle)))
            else {
                continue;
            };
            instance.used(self.known_since);
            let is_in_use = is_in_use(&instance.key);
            if is_in_use {
                instance.used(now);
            }
            let (soon_at, expires_at) = (instance.soon_at(timeout), instance.used + timeout);
            let idle_at = unused_at(instance.used, timeout);
            instance.look = if is_in_use {
                now + report_interval(timeout)
            } else if now < soon_at {
                soon_at
            } else if now < idle_at {
                if !std::mem::replace(&mut instance.is_announced, true) {
                    let left = expires_at.saturating_duration_since(now);
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
        let idle = instance.and_then(|it| Some((it, it.timeouts.idle?)));
        idle.is_some_and(|(it, timeout)| {
            unused_at(it.used, timeout) <= now && self.known_since <= it.used
        })
    }

    /// It is in use now, whatever requests say.
    pub fn in_use(&mut self, uid: &Uid, now: Instant) {
        if let Some(instance) = self.instances.get_mut(uid) {
            instance.used(now);
        }
    }

    /// Whether nobody has used this instance for as long as it takes until it may be restarted, as far as is known.
    #[must_use]
    pub fn may_restart(&self, uid: &Uid, now: Instant) -> bool {
        let instance = self.instances.get(uid);
        let restart = instance.and_then(|it| Some((it, it.timeouts.restart?)));
        restart.is_some_and(|(it, after)| {
            let used = it.used.max(self.known_since).max(it.restarts_since);
            unused_at(used, after) <= now
        })
    }
}

/// When nobody has used it for so long since: other replicas may have heard of a use that has not arrived here yet.
fn unused_at(used: Instant, timeout: Duration) -> Instant {
    used + timeout + report_interval(timeout) + DELIVERY
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
