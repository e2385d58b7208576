//! What is done beside an open watch, so that the store stays true when the watch alone does not show
//! it: probes of the newest version, comparisons with a list and with single objects, and pauses of
//! this process.
//!
//! - A *probe* shows whether versions went back: its version is before one that was known.
//! - A *list* every interval shows what the watch has lost. It is requested slowly, while the watch goes
//!   on: events change the list, too, so at its end whatever differs from the store was lost.
//! - A *check* reads one object by name. Only that reads etcd; lists come from the API server's own
//!   cache. An object that differs, and still does after [`IN_FLIGHT`], is followed by a list. If that
//!   list contradicts the check, the API server's cache is wrong, and the store counts as stale.
//! - Proof that versions went back (a call whose response is older than what was known, or another
//!   watch) is followed by a list at once, but only once in each interval, so that nothing that lies can
//!   make lists follow each other. Then, and otherwise, a probe and a check show what is wrong.
//! - After a *pause* of this process the store counts as stale until the watch has caught up.

use super::{Cause, Effects, Next, Note, PAUSE, State, Watch};
use crate::kube::error::{Class, Error, Failure};
use crate::kube::types::ResourceVersion;
use crate::kube::watch::Checked;
use std::time::{Duration, Instant};

/// Time between two pages of a list beside an open watch.
pub const PAGE_EVERY: Duration = Duration::from_millis(500);

/// How long an event may be on its way.
pub const IN_FLIGHT: Duration = Duration::from_secs(5);

/// Time between two checks by name; the interval of lists, if that is shorter.
pub const CHECK_EVERY: Duration = Duration::from_secs(45);

/// Time until a check that was not permitted is tried again.
const CHECK_FORBIDDEN: Duration = Duration::from_secs(900);

#[derive(Debug)]
pub(super) struct Upkeep {
    /// The interval of lists; `None` for a store that may lack objects.
    interval: Option<Duration>,
    /// The state of the jitter.
    random: u64,
    relist: Relist,
    check_at: Option<Instant>,
    /// From when on a proof that versions went back is followed by a list at once.
    relist_on_proof_from: Option<Instant>,
    doubt: Doubt,
    must_probe: bool,
    /// The newest version by the last probe since the store was replaced. The watch may be behind it.
    newest: ResourceVersion,
    behind: Option<Behind>,
    /// Since when a list and a check contradict each other.
    contradicted: Option<Instant>,
    /// Since when the store counts as stale, as last reported.
    stale: Option<Instant>,
    /// The time of the last step.
    stepped: Option<Instant>,
}

/// The comparison with a list.
#[derive(Debug)]
enum Relist {
    /// Its time has not come; `None` before the first watch.
    Due(Option<Instant>),
    /// The page with this token is requested at that time, or has been.
    Page(Option<String>, Instant),
    /// All pages are there: until that time the watch may reach their version.
    Settling(ResourceVersion, Instant),
}

/// What checks have shown of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    /// It differs.
    Seen,
    /// A list followed.
    Listed,
    /// It differs after that list, too.
    Again,
}

/// This process stood still.
#[derive(Debug)]
struct Behind {
    since: Instant,
    /// The version that the watch must reach, once that is known.
    until: Option<ResourceVersion>,
}

impl Upkeep {
    pub(super) fn new(interval: Option<Duration>, seed: u64) -> Self {
        Self {
            interval,
            random: seed,
            relist: Relist::Due(None),
            check_at: None,
            relist_on_proof_from: None,
            doubt: Doubt::None,
            must_probe: false,
            newest: ResourceVersion::default(),
            behind: None,
            contradicted: None,
            stale: None,
            stepped: None,
        }
    }

    /// Three to five quarters of that time.
    fn jittered(&mut self, time: Duration) -> Duration {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let share = u32::try_from(self.random >> 48).unwrap_or_default() / 2;
        time * 3 / 4 + time / 65_536 * share
    }

    fn check_after(&mut self, now: Instant) {
        let every = self.interval.map(|interval| interval.min(CHECK_EVERY));
        self.check_at = every.map(|every| now + self.jittered(every));
    }

    fn relist_after(&mut self, now: Instant) {
        let interval = self.interval;
        self.relist = Relist::Due(interval.map(|interval| now + self.jittered(interval)));
    }

    /// A watch is open; `is_sure` if versions cannot have gone back since the last list.
    pub(super) fn opened(&mut self, is_sure: bool, now: Instant) {
        match self.relist {
            Relist::Due(Some(_)) => {}
            // A list that had begun lacks the events since then.
            _ => self.relist_after(now),
        }
        let is_suspect = !is_sure || self.doubt == Doubt::Listed;
        if self.interval.is_some() && is_suspect {
            self.check_at = Some(now);
        } else if self.check_at.is_none() {
            self.check_after(now);
        }
    }

    /// A complete list has replaced the store.
    pub(super) fn listed(&mut self, now: Instant, effects: &mut dyn Effects) {
        self.relist_after(now);
        self.behind = None;
        self.must_probe = false;
        self.newest = ResourceVersion::default();
        self.report(effects);
    }

    /// Reports since when the store is stale, if that has changed.
    fn report(&mut self, effects: &mut dyn Effects) {
        let behind = self.behind.as_ref().map(|behind| behind.since);
        let stale = behind.into_iter().chain(self.contradicted).min();
        if stale != self.stale {
            self.stale = stale;
            effects.note(Note::Stale(stale));
        }
    }

    fn caught_up(&mut self, effects: &mut dyn Effects) {
        if self
            .behind
            .take_if(|behind| behind.until.is_some())
            .is_some()
        {
            self.report(effects);
        }
    }

    /// The watch has reached that version.
    pub(super) fn reached(&mut self, version: &ResourceVersion, effects: &mut dyn Effects) {
        let until = self
            .behind
            .as_ref()
            .and_then(|behind| behind.until.as_ref());
        if until.is_some_and(|until| !version.is_before(until)) {
            self.caught_up(effects);
        }
    }

    /// Nothing was received for a while, so nothing is left of what was sent during a pause.
    pub(super) fn idle(&mut self, effects: &mut dyn Effects) {
        self.caught_up(effects);
    }

    /// A step begins; `is_open` if the watch was open since the one before, and read, if `is_read`.
    pub(super) fn step(
        &mut self,
        is_open: bool,
        is_read: bool,
        now: Instant,
        effects: &mut dyn Effects,
    ) {
        let Some(before) = self.stepped.replace(now) else {
            return;
        };
        let gap = now.saturating_duration_since(before);
        if is_open && is_read && gap >= PAUSE {
            let behind = self.behind.get_or_insert(Behind {
                since: before,
                until: None,
            });
            behind.until = None;
            self.must_probe = true;
            effects.note(Note::Paused(gap));
            self.report(effects);
        }
    }

    /// Versions went back, as others have shown: returns whether a list is due at once. There is one in
    /// each interval at most; otherwise a probe and a check show whether one is needed.
    fn doubted(&mut self, now: Instant) -> bool {
        self.must_probe = true;
        self.check_at = self.interval.map(|_| now);
        let is_due =
            self.interval.is_some() && self.relist_on_proof_from.is_none_or(|at| at <= now);
        if is_due {
            self.relist_on_proof_from = self.interval.map(|interval| now + interval);
        }
        is_due
    }
}

impl Watch {
    /// A call, or the watch on another collection, has shown that versions went back. The store is listed
    /// again without a back-off.
    pub(super) fn doubted(&mut self, now: Instant, effects: &mut dyn Effects) -> Next {
        let is_open = self.is_open();
        if is_open && self.upkeep.doubted(now) {
            let why = "a response, or another watch, has shown it".into();
            drop(self.relist(Cause::WentBack, why, effects));
            return self.woken(effects);
        }
        match is_open {
            true => self.next_beside(now, effects),
            false => self.woken(effects),
        }
    }

    /// What is next while the watch is open.
    pub(super) fn next_beside(&mut self, now: Instant, effects: &mut dyn Effects) -> Next {
        let upkeep = &mut self.upkeep;
        if upkeep.must_probe {
            return Next::Probe;
        }
        let limit = self.page_limit.get();
        match &upkeep.relist {
            Relist::Due(Some(at)) if *at <= now => {
                upkeep.relist = Relist::Page(None, now);
                return Next::Probe;
            }
            Relist::Page(token, at) if *at <= now => {
                if token.is_none() {
                    effects.list_begins();
                }
                return Next::List {
                    continue_token: token.clone(),
                    limit,
                };
            }
            Relist::Settling(version, until)
                if *until <= now || !self.version.is_before(version) =>
            {
                effects.note(Note::Relisted(Cause::Interval));
                effects.list_ends(version.clone());
                upkeep.relist_after(now);
            }
            _ => {}
        }
        if upkeep.check_at.is_some_and(|at| at <= now) {
            return Next::Check {
                again: upkeep.doubt != Doubt::None,
            };
        }
        Next::Read
    }

    /// A page of a list beside the open watch has this version, and is followed by one with that token.
    pub(super) fn listed_beside(
        &mut self,
        version: ResourceVersion,
        continue_token: Option<String>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Next {
        let Relist::Page(asked, _) = &self.upkeep.relist else {
            return self.next_beside(now, effects);
        };
        let known = [&self.version, &self.upkeep.newest];
        let later = known.into_iter().find(|known| version.is_before(known));
        if let Some(known) = later.filter(|_| asked.is_none()) {
            let why = format!("a list shows version {version}, and {known} was known before");
            return self.relist(Cause::WentBack, why, effects);
        }
        self.upkeep.relist = match continue_token {
            Some(_) => Relist::Page(continue_token, now + PAGE_EVERY),
            None => Relist::Settling(version, now + IN_FLIGHT),
        };
        self.next_beside(now, effects)
    }

    /// A page of a list beside the open watch cannot be had: the comparison is made later.
    pub(super) fn list_beside_failed(
        &mut self,
        error: &Error,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Next {
        if !self.page_limit.failed(error) {
            let soon = self.upkeep.interval.unwrap_or(CHECK_EVERY).min(CHECK_EVERY);
            self.upkeep.relist = Relist::Due(Some(now + soon));
        }
        self.next_beside(now, effects)
    }

    /// The newest version of the collection, or why it is not known.
    pub(super) fn probed(
        &mut self,
        newest: Result<ResourceVersion, Error>,
        known: &ResourceVersion,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Next {
        let is_open = matches!(self.state, State::Watching { .. });
        match newest {
            Ok(version) if version.is_before(&self.version) || version.is_before(known) => {
                let why = format!("its newest version is {version}, and was {known} before");
                return self.relist(Cause::WentBack, why, effects);
            }
            Ok(version) => {
                effects.note(Note::Contact);
                self.upkeep.newest = version.clone();
                if let Some(behind) = &mut self.upkeep.behind {
                    behind.until = Some(version);
                }
            }
            // Without the permission to list there is no store to be wrong.
            Err(error) if error.class() == Class::Forbidden => {}
            Err(error) => {
                let at_least = error.retry_after().unwrap_or_default();
                if is_open {
                    effects.note(Note::Watching(false));
                }
                let cause = match &error.failure {
                    Failure::TooLarge(_) => Cause::TooLarge,
                    _ => Cause::Failed,
                };
                effects.note(Note::Restart(cause, error.to_string()));
                self.state = State::Opening { is_sure: false };
                return Next::BackOff { at_least };
            }
        }
        self.upkeep.must_probe = false;
        if is_open {
            self.next_beside(now, effects)
        } else {
            self.open()
        }
    }

    /// An object was read by name.
    pub(super) fn checked(
        &mut self,
        checked: Checked,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Next {
        if !matches!(self.state, State::Watching { .. }) {
            return self.woken(effects);
        }
        let upkeep = &mut self.upkeep;
        let (name, is_older) = match checked {
            Checked::Older(name) => (name, true),
            Checked::Differs(name) => (name, false),
            Checked::Same { more } => {
                upkeep.doubt = Doubt::None;
                if upkeep.contradicted.take().is_some() {
                    effects.note(Note::Contradiction(None));
                    upkeep.report(effects);
                }
                upkeep.check_after(now);
                if more {
                    upkeep.check_at = Some(now);
                }
                return self.next_beside(now, effects);
            }
            Checked::Forbidden => {
                upkeep.doubt = Doubt::None;
                upkeep.check_at = Some(now + CHECK_FORBIDDEN);
                return self.next_beside(now, effects);
            }
            Checked::Failed => {
                upkeep.check_after(now);
                return self.next_beside(now, effects);
            }
        };
        upkeep.check_at = Some(now + IN_FLIGHT);
        match upkeep.doubt {
            Doubt::None if !is_older => upkeep.doubt = Doubt::Seen,
            Doubt::None | Doubt::Seen => {
                upkeep.doubt = Doubt::Listed;
                let cause = if is_older {
                    Cause::WentBack
                } else {
                    Cause::Differs
                };
                let why = format!("a read of \"{name}\" does not show what the watch did");
                return self.relist(cause, why, effects);
            }
            Doubt::Listed => upkeep.doubt = Doubt::Again,
            Doubt::Again => {
                if upkeep.contradicted.is_none() {
                    upkeep.contradicted = Some(now);
                    effects.note(Note::Contradiction(Some(name)));
                    upkeep.report(effects);
                }
                upkeep.check_after(now);
            }
        }
        self.next_beside(now, effects)
    }
}
