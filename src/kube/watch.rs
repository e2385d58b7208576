//! List and watch as a pure state machine that keeps a copy of a collection up to date.
//!
//! ```text
//!          ┌────────── 410, went back, broken, differs ─────────┐
//!          ▼                                                     │
//! Start ─▶ Listing ──last page──▶ Opening ──open──▶ Watching ────┘
//!          ▲ │ ▲ more pages         │ ▲                │ closed,
//!          │ └─┘                    │ └── same version ┘ lost, silent
//!          └──── every POLL ────────┘ watch refused
//! ```
//!
//! [`Watch::step`] takes an input and the time; it returns effects for the store
//! and the log, and what to do next. It performs nothing itself: lists, streams
//! and waits belong to [`crate::store::reflector`] (and to the simulation). The
//! duration of a back-off is decided there, too.
//!
//! Rules, from client-go's reflector and from experiments:
//!
//! - All pages of one list are one state.
//! - A watch resumes at the last version seen, bookmarks included.
//! - After a 410 (as response or as event) a new list follows.
//! - A 403 counts as a missing permission only after 5 s: an API server that has just started returns
//!   it to every client.
//! - A watch that did not end in good order is reopened after a probe of the newest version. An API
//!   server whose etcd was restored from an older backup accepts a watch at a version in its future, and
//!   sends nothing on it until that version comes again, for other changes.
//! - A watch that did not live for a while is reopened after a back-off, whatever it has sent.
//!
//! What else is done while a watch is open is in `upkeep.rs`.

mod lines;
mod page_limit;
mod step;
#[cfg(test)]
mod tests;
mod upkeep;

pub use lines::{LINE_BYTES_MAX, Lines, Overflow};
pub use page_limit::{PAGE_OBJECTS, PageLimit};
pub use step::{Cause, Checked, Effect, End, Input, Next, Note, Step, StoreEvent};
pub use upkeep::{CHECK_EVERY, IN_FLIGHT, PAGE_EVERY};

use super::error::{Class, Error, Failure};
use super::status::Status;
use super::types::{Page, Resource, ResourceVersion, WatchEvent};
use std::time::{Duration, Instant};
use step::Effects;
use upkeep::Upkeep;

/// How long an open watch may be silent before it is closed: an idle watch gets
/// a bookmark every 60 s.
pub const SILENCE: Duration = Duration::from_secs(90);

/// How long a read of an open watch waits. Meanwhile nothing else is done for it.
pub const SLICE: Duration = Duration::from_secs(1);

/// A watch that nobody has looked at for so long has been left alone: this process stood still. Even on a
/// busy machine a read returns long before.
pub const PAUSE: Duration = Duration::from_secs(4);

/// How long a 403 must last before it counts as a missing permission.
pub const FORBIDDEN_GRACE: Duration = Duration::from_secs(5);

/// Interval at which a forbidden watch is retried.
pub const WATCH_RETRY: Duration = Duration::from_secs(60);

/// A watch that ends sooner, and without an event, counts as failed.
pub const SHORT: Duration = Duration::from_secs(1);

/// A watch that ends sooner is reopened after a back-off.
pub const LIVED: Duration = Duration::from_secs(5);

/// The state of the machine.
#[derive(Debug)]
enum State {
    /// Waits until it is woken, and lists then, from the page with this token.
    ListLater(Option<String>),
    /// Waits for the page with this token.
    Listing(Option<String>),
    /// Waits for a watch to be opened, or until it is woken, and opens one then; unless `is_sure` that
    /// the version is not in the future, after a probe.
    Opening { is_sure: bool },
    /// Waits for lines.
    Watching {
        since: Instant,
        /// When something was received last.
        heard: Instant,
        events: bool,
    },
}

/// Keeps a copy of one collection up to date.
#[derive(Debug)]
pub struct Watch {
    state: State,
    version: ResourceVersion,
    page_limit: PageLimit,
    poll: Duration,
    refused_since: Option<Instant>,
    refusal_reported: bool,
    /// While the watch is forbidden: when to retry it.
    watch_retry_at: Option<Instant>,
    /// Why the store is listed again, if it is.
    list_cause: Option<Cause>,
    upkeep: Upkeep,
}

impl Watch {
    /// Begins with a list; `poll` is the interval of lists while the watch is forbidden, and `relist`
    /// that of comparisons with a list while it is open, if there are to be any. The seed is that of the
    /// jitter.
    #[must_use]
    pub fn new(poll: Duration, relist: Option<Duration>, seed: u64) -> Self {
        Self {
            state: State::ListLater(None),
            version: ResourceVersion::default(),
            page_limit: PageLimit::default(),
            poll,
            refused_since: None,
            refusal_reported: false,
            watch_retry_at: None,
            list_cause: None,
            upkeep: Upkeep::new(relist, seed),
        }
    }

    /// Whether the watch is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Watching { .. })
    }

    /// Whether a list is requested over a connection of its own: the one before may lead to what has lost
    /// events, or shows an older state.
    #[must_use]
    pub fn lists_apart(&self) -> bool {
        self.is_open() || matches!(self.list_cause, Some(Cause::WentBack | Cause::Differs))
    }

    /// Processes an input that arrived `now`. The first is [`Input::Woken`]; which
    /// ones can follow depends on [`Step::next`]. Any other is a late one of a
    /// closed stream, and changes nothing.
    pub fn step<K: Resource>(&mut self, input: Input<K>, now: Instant) -> Step<K> {
        let (seen, mut collected) = input.parted();
        let next = self.advance(seen, now, &mut collected);
        let effects = collected.effects;
        Step { effects, next }
    }

    fn advance(
        &mut self,
        input: Input<ResourceVersion>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Next {
        let is_read = !matches!(input, Input::Probed(..));
        (self.upkeep).step(self.is_open(), is_read, now, effects);
        match input {
            Input::Woken => self.woken(effects),
            Input::Listed(Ok(page)) => self.listed(page, now, effects),
            Input::Listed(Err(error)) if self.is_open() => {
                self.list_beside_failed(&error, now, effects)
            }
            Input::Listed(Err(error)) => self.list_failed(error, now, effects),
            Input::Opened(Ok(())) => self.opened(now, effects),
            Input::Opened(Err(error)) => self.open_failed(error, now, effects),
            Input::Event(event) => self.event(event, now, effects),
            Input::Idle => self.idle(now, effects),
            Input::Probed(newest, known) => self.probed(newest, &known, now, effects),
            Input::Checked(checked) => self.checked(checked, now, effects),
            Input::Doubted => self.doubted(now, effects),
            Input::Ended(end) => self.ended(end, now, effects),
            Input::Unfit => {
                let why = "more templates than are kept, or room for more".into();
                self.relist(Cause::Unfit, why, effects)
            }
        }
    }

    fn woken(&mut self, effects: &mut dyn Effects) -> Next {
        match &mut self.state {
            State::ListLater(continue_token) => {
                let token = continue_token.take();
                self.list(token, effects)
            }
            State::Opening { is_sure: true } => self.open(),
            State::Opening { is_sure: false } => Next::Probe,
            State::Listing(continue_token) => Next::List {
                continue_token: continue_token.clone(),
                limit: self.page_limit.get(),
            },
            State::Watching { .. } => Next::Read,
        }
    }

    fn list(&mut self, token: Option<String>, effects: &mut dyn Effects) -> Next {
        if token.is_none() {
            effects.list_begins();
        }
        self.state = State::Listing(token.clone());
        Next::List {
            continue_token: token,
            limit: self.page_limit.get(),
        }
    }

    fn open(&mut self) -> Next {
        if !matches!(self.state, State::Opening { .. }) {
            self.state = State::Opening { is_sure: true };
        }
        Next::Open {
            version: self.version.clone(),
        }
    }

    /// Starts a new list after a back-off.
    fn relist(&mut self, cause: Cause, why: String, effects: &mut dyn Effects) -> Next {
        effects.note(Note::Watching(false));
        effects.note(Note::Restart(cause, why));
        self.state = State::ListLater(None);
        self.list_cause = Some(cause);
        Next::BACK_OFF
    }

    fn listed(
        &mut self,
        page: Page<ResourceVersion>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Next {
        let asked = match &self.state {
            State::Listing(continue_token) => continue_token.clone(),
            _ => None,
        };
        let is_beside = self.is_open();
        if page.version.is_empty()
            || (page.continue_token.is_some() && page.continue_token == asked)
        {
            let why = "the list has no version, or its pages do not end".into();
            return self.relist(Cause::Broken, why, effects);
        }
        effects.note(Note::Contact);
        self.page_limit.succeeded(page.bytes);
        for skipped in page.skipped {
            effects.note(Note::Skipped(skipped));
        }
        effects.objects();
        if is_beside {
            return self.listed_beside(page.version, page.continue_token, now, effects);
        }
        if page.continue_token.is_some() {
            return self.list(page.continue_token, effects);
        }
        self.version = page.version.clone();
        if let Some(cause) = self.list_cause.take() {
            effects.note(Note::Relisted(cause));
        }
        self.upkeep.listed(now, effects);
        effects.list_ends(page.version);
        self.after_list(now)
    }

    /// A list is complete: the watch follows, or the next list where the watch is forbidden.
    fn after_list(&mut self, now: Instant) -> Next {
        match self.watch_retry_at {
            Some(again) if now < again => {
                self.state = State::ListLater(None);
                Next::Wait(self.poll)
            }
            _ => {
                self.allowed();
                self.open()
            }
        }
    }

    fn list_failed(&mut self, error: Error, now: Instant, effects: &mut dyn Effects) -> Next {
        let at_least = error.retry_after().unwrap_or_default();
        if error.class() == Class::Forbidden {
            self.state = State::ListLater(None);
            return self.refused(error, now, effects);
        }
        self.allowed();
        if error.class() == Class::Expired {
            return self.relist(Cause::Expired, error.to_string(), effects);
        }
        if self.page_limit.failed(&error) {
            effects.note(Note::Restart(Cause::TooLarge, error.to_string()));
            return self.woken(effects);
        }
        effects.note(Note::Restart(Cause::Failed, error.to_string()));
        let asked = match &mut self.state {
            State::Listing(continue_token) => continue_token.take(),
            _ => None,
        };
        self.state = State::ListLater(asked);
        Next::BackOff { at_least }
    }

    fn opened(&mut self, now: Instant, effects: &mut dyn Effects) -> Next {
        self.watch_retry_at = None;
        self.allowed();
        let is_sure = matches!(self.state, State::Opening { is_sure: true });
        self.upkeep.opened(is_sure, now);
        self.state = State::Watching {
            since: now,
            heard: now,
            events: false,
        };
        effects.note(Note::Contact);
        effects.note(Note::Watching(true));
        self.next_beside(now, effects)
    }

    fn open_failed(&mut self, error: Error, now: Instant, effects: &mut dyn Effects) -> Next {
        let at_least = error.retry_after().unwrap_or_default();
        match error.class() {
            Class::Expired => self.relist(Cause::Expired, error.to_string(), effects),
            Class::Forbidden => {
                self.state = State::Opening { is_sure: true };
                let next = self.refused(error, now, effects);
                if let Next::Wait(_) = next {
                    self.watch_retry_at = Some(now + WATCH_RETRY);
                    self.state = State::ListLater(None);
                }
                next
            }
            _ => {
                self.allowed();
                effects.note(Note::Restart(Cause::Failed, error.to_string()));
                // A proxy may keep watches and let lists through: the cache would be stale for as
                // long as that lasts.
                self.state = if matches!(error.failure, Failure::TimedOut(_)) {
                    State::ListLater(None)
                } else {
                    State::Opening { is_sure: false }
                };
                Next::BackOff { at_least }
            }
        }
    }

    /// Clears the state of a 403, unless the watch is forbidden.
    fn allowed(&mut self) {
        if self.watch_retry_at.is_none() {
            self.refused_since = None;
            self.refusal_reported = false;
        }
    }

    /// A 403: retried soon at first, then rarely.
    fn refused(&mut self, error: Error, now: Instant, effects: &mut dyn Effects) -> Next {
        let since = *self.refused_since.get_or_insert(now);
        let lasts =
            self.refusal_reported || now.saturating_duration_since(since) >= FORBIDDEN_GRACE;
        if !lasts {
            effects.note(Note::Restart(Cause::Refused, error.to_string()));
            return Next::BACK_OFF;
        }
        if !std::mem::replace(&mut self.refusal_reported, true) {
            effects.note(Note::Refused(error));
        }
        Next::Wait(self.poll)
    }

    fn event(
        &mut self,
        event: Result<WatchEvent<ResourceVersion>, String>,
        now: Instant,
        effects: &mut dyn Effects,
    ) -> Next {
        let State::Watching { events, heard, .. } = &mut self.state else {
            return self.woken(effects);
        };
        (*events, *heard) = (true, now);
        effects.note(Note::Contact);
        match event {
            Ok(WatchEvent::Changed(version)) => {
                self.seen(&version);
                effects.objects();
            }
            Ok(WatchEvent::Gone(metadata)) => {
                self.seen(&metadata.resource_version);
                effects.gone(*metadata);
            }
            Ok(WatchEvent::Bookmark(version)) => {
                if version.is_before(&self.version) {
                    let why = format!("its version went back from {} to {version}", self.version);
                    return self.relist(Cause::WentBack, why, effects);
                }
                self.seen(&version);
                effects.progress(version);
            }
            Ok(WatchEvent::Skipped(skipped, version)) => {
                self.seen(&version);
                effects.note(Note::Skipped(skipped));
            }
            Ok(WatchEvent::Error(status)) => return self.error_event(&status, effects),
            Err(why) => return self.relist(Cause::Broken, why, effects),
        }
        self.upkeep.reached(&self.version, effects);
        self.next_beside(now, effects)
    }

    /// Nothing was received for [`SLICE`].
    fn idle(&mut self, now: Instant, effects: &mut dyn Effects) -> Next {
        let State::Watching { heard, .. } = self.state else {
            return self.woken(effects);
        };
        if now.saturating_duration_since(heard) >= SILENCE {
            return self.ended(End::Silent, now, effects);
        }
        self.upkeep.idle(effects);
        self.next_beside(now, effects)
    }

    /// An ERROR event ends a watch. A list follows for every code: watching from the same version
    /// might return the same error forever.
    fn error_event(&mut self, status: &Status, effects: &mut dyn Effects) -> Next {
        let cause = if status.is_expired() {
            Cause::Expired
        } else {
            Cause::Broken
        };
        let why = format!("{} {}: {}", status.code, status.reason, status.message);
        self.relist(cause, why, effects)
    }

    fn seen(&mut self, version: &ResourceVersion) {
        if !version.is_empty() {
            self.version = version.clone();
        }
    }

    fn ended(&mut self, end: End, now: Instant, effects: &mut dyn Effects) -> Next {
        let State::Watching { since, events, .. } = self.state else {
            return self.woken(effects);
        };
        let lasted = now.saturating_duration_since(since);
        let short = !events && lasted < SHORT;
        let (cause, why) = match end {
            End::Closed if short => (Cause::Short, "it ended at once and without an event".into()),
            End::Closed => {
                effects.note(Note::Contact);
                (Cause::Closed, "the server closed it".into())
            }
            End::Silent => (
                Cause::Silent,
                format!("nothing received for {} s", SILENCE.as_secs()),
            ),
            End::Lost(why) => (Cause::Lost, why),
        };
        effects.note(Note::Watching(false));
        effects.note(Note::Restart(cause, why));
        let is_sure = cause == Cause::Closed && events;
        self.state = State::Opening { is_sure };
        if lasted < LIVED {
            return Next::BACK_OFF;
        }
        self.woken(effects)
    }
}
