//! List and watch as a pure state machine that keeps a copy of a collection up to date.
//!
//! ```text
//!          ┌────────── 410, went back, broken, silent ──────────┐
//!          ▼                                                     │
//! Start ─▶ Listing ──last page──▶ Opening ──open──▶ Watching ────┘
//!          ▲ │ ▲ more pages         │ ▲                │ closed,
//!          │ └─┘                    │ └── same version ┘ lost
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
//! - A watch that was silent is followed by a list. An API server whose etcd was restored from an older
//!   backup accepts a watch at a version in its future, and sends nothing on it, not even a bookmark.
//!   Only a list shows that it went back.

mod lines;
mod page_limit;
#[cfg(test)]
mod tests;

pub use lines::{LINE_BYTES_MAX, Lines, Overflow};
pub use page_limit::{PAGE_OBJECTS, PageLimit};

use super::error::{Class, Error, Failure};
use super::status::Status;
use super::types::{Page, Resource, ResourceVersion, Skipped, Uid, WatchEvent};
use std::time::{Duration, Instant};

/// How long an open watch may be silent before it is closed: an idle watch gets
/// a bookmark every 60 s.
pub const SILENCE: Duration = Duration::from_secs(90);

/// How long a 403 must last before it counts as a missing permission.
pub const FORBIDDEN_GRACE: Duration = Duration::from_secs(5);

/// Interval at which a forbidden watch is retried.
pub const WATCH_RETRY: Duration = Duration::from_secs(60);

/// A watch that ends sooner, and without an event, counts as failed.
pub const SHORT: Duration = Duration::from_secs(1);

/// An event of a list or watch, for the store.
#[derive(Debug, PartialEq)]
pub enum StoreEvent<K> {
    /// A list begins.
    Init,
    /// An object of that list.
    InitApply(K),
    /// That list is complete; its version.
    InitDone(ResourceVersion),
    /// An object is new or has changed.
    Apply(K),
    /// An object is gone, or no longer belongs to this service.
    Delete {
        /// Its name.
        name: Box<str>,
        /// Its UID.
        uid: Uid,
        /// The version of its deletion.
        version: ResourceVersion,
    },
    /// Nothing else happened up to this version.
    Progress(ResourceVersion),
}

/// An input of the machine.
#[derive(Debug)]
pub enum Input<K> {
    /// The start, or the end of a wait.
    Woken,
    /// The response to a request for a page of a list.
    Listed(Result<Page<K>, Error>),
    /// The response to a request for a watch.
    Opened(Result<(), Error>),
    /// A line of the watch, or the reason why it cannot be decoded.
    Event(Result<WatchEvent<K>, String>),
    /// The watch has ended.
    Ended(End),
    /// The store needs a new list.
    Unfit,
}

/// How a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server closed it regularly.
    Closed,
    /// Nothing was received for [`SILENCE`].
    Silent,
    /// The connection was lost (why).
    Lost(String),
}

/// What to do next; an open watch is closed unless this is [`Next::Read`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Request a page of a list.
    List {
        /// The token of the page; `None` for the first.
        continue_token: Option<String>,
        /// How many objects it may have.
        limit: u32,
    },
    /// Request a watch after this version.
    Open {
        /// The last version that was seen.
        version: ResourceVersion,
    },
    /// Wait for the next line of the open watch.
    Read,
    /// Wait exactly this long.
    Wait(Duration),
    /// Back off, for at least this long.
    BackOff {
        /// From `Retry-After`.
        at_least: Duration,
    },
}

impl Next {
    /// Back off, for as long as usual.
    const BACK_OFF: Self = Self::BackOff {
        at_least: Duration::ZERO,
    };
}

/// Why a list or watch was restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server closed the watch, as it does every few minutes.
    Closed,
    /// Nothing was received for [`SILENCE`]; a list follows.
    Silent,
    /// The connection was lost.
    Lost,
    /// The version was too old; a list follows.
    Expired,
    /// The watch ended immediately without an event.
    Short,
    /// The server sent an error or an undecodable line; a list follows.
    Broken,
    /// The server went back to an older version; a list follows.
    WentBack,
    /// A list or the opening of a watch failed.
    Failed,
    /// A list or watch got a 403, which does not yet count as a missing permission.
    Refused,
    /// A page of a list was too large; one with fewer objects follows.
    TooLarge,
    /// The store has not taken a change, since a bound would be exceeded; a list follows.
    Unfit,
}

impl Cause {
    /// All causes in the order of their numbers, with a stable word for metrics.
    pub const ALL: [(Self, &str); 11] = [
        (Self::Closed, "closed"),
        (Self::Silent, "silent"),
        (Self::Lost, "lost"),
        (Self::Expired, "expired"),
        (Self::Short, "short"),
        (Self::Broken, "broken"),
        (Self::WentBack, "went_back"),
        (Self::Failed, "failed"),
        (Self::Refused, "refused"),
        (Self::TooLarge, "too_large"),
        (Self::Unfit, "unfit"),
    ];
}

/// What the owner of the machine must do.
#[derive(Debug, PartialEq)]
pub enum Effect<K> {
    /// For the store: a change that a list or watch reports.
    Store(StoreEvent<K>),
    /// For store, log or metrics: a fact about the watch itself.
    Note(Note),
}

/// A fact about the watch itself, for any kind of object.
#[derive(Debug, PartialEq)]
pub enum Note {
    /// For the store: the API server has just sent something.
    Contact,
    /// For the store: whether a watch is open.
    Watching(bool),
    /// For log and metrics: a list or watch is restarted, for the reason in the text.
    Restart(Cause, String),
    /// For log and metrics: an object was skipped.
    Skipped(Skipped),
    /// For the log: a permission is missing. Reported once.
    Refused(Error),
}

/// Receives the effects that do not depend on the kind of object, so that their code is compiled
/// once and not for each kind.
trait Effects {
    fn note(&mut self, note: Note);

    /// A list begins, from its first page.
    fn list_begins(&mut self);
}

impl<K> Effects for Vec<Effect<K>> {
    fn note(&mut self, note: Note) {
        self.push(Effect::Note(note));
    }

    fn list_begins(&mut self) {
        self.push(Effect::Store(StoreEvent::Init));
    }
}

/// The result of one [`Input`].
#[derive(Debug, PartialEq)]
pub struct Step<K> {
    /// The effects, in this order.
    pub effects: Vec<Effect<K>>,
    /// What to do next.
    pub next: Next,
}

/// The state of the machine.
#[derive(Debug)]
enum State {
    /// Waits until it is woken, and lists then, from the page with this token.
    ListLater(Option<String>),
    /// Waits for the page with this token.
    Listing(Option<String>),
    /// Waits for a watch to be opened, or until it is woken, and opens one then.
    Opening,
    /// Waits for lines.
    Watching { since: Instant, events: bool },
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
}

impl Watch {
    /// Begins with a list; `poll` is the interval of lists while the watch is forbidden.
    #[must_use]
    pub fn new(poll: Duration) -> Self {
        Self {
            state: State::ListLater(None),
            version: ResourceVersion::default(),
            page_limit: PageLimit::default(),
            poll,
            refused_since: None,
            refusal_reported: false,
            watch_retry_at: None,
        }
    }

    /// Processes an input that arrived `now`. The first is [`Input::Woken`]; which
    /// ones can follow depends on [`Step::next`]. Any other is a late one of a
    /// closed stream, and changes nothing.
    pub fn step<K: Resource>(&mut self, input: Input<K>, now: Instant) -> Step<K> {
        let mut effects = Vec::new();
        let next = match input {
            Input::Woken => self.woken(&mut effects),
            Input::Listed(Ok(page)) => self.listed(page, now, &mut effects),
            Input::Listed(Err(error)) => self.list_failed(error, now, &mut effects),
            Input::Opened(Ok(())) => self.opened(now, &mut effects),
            Input::Opened(Err(error)) => self.open_failed(error, now, &mut effects),
            Input::Event(event) => self.event(event, &mut effects),
            Input::Ended(end) => self.ended(end, now, &mut effects),
            Input::Unfit => {
                let why = "more templates than are kept, or room for more".into();
                self.relist(Cause::Unfit, why, &mut effects)
            }
        };
        Step { effects, next }
    }

    fn woken(&mut self, effects: &mut dyn Effects) -> Next {
        match &mut self.state {
            State::ListLater(continue_token) => {
                let token = continue_token.take();
                self.list(token, effects)
            }
            State::Opening => self.open(),
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
        self.state = State::Opening;
        Next::Open {
            version: self.version.clone(),
        }
    }

    /// Starts a new list after a back-off.
    fn relist(&mut self, cause: Cause, why: String, effects: &mut dyn Effects) -> Next {
        effects.note(Note::Watching(false));
        effects.note(Note::Restart(cause, why));
        self.state = State::ListLater(None);
        Next::BACK_OFF
    }

    fn listed<K>(&mut self, page: Page<K>, now: Instant, effects: &mut Vec<Effect<K>>) -> Next {
        let asked = match &self.state {
            State::Listing(continue_token) => continue_token.clone(),
            _ => None,
        };
        if page.version.is_empty()
            || (page.continue_token.is_some() && page.continue_token == asked)
        {
            let why = "the list has no version, or its pages do not end".into();
            return self.relist(Cause::Broken, why, effects);
        }
        effects.note(Note::Contact);
        self.page_limit.succeeded(page.bytes);
        let skipped = page.skipped.into_iter().map(Note::Skipped);
        effects.extend(skipped.map(Effect::Note));
        let items = page.items.into_iter();
        effects.extend(items.map(|item| Effect::Store(StoreEvent::InitApply(item))));
        if page.continue_token.is_some() {
            return self.list(page.continue_token, effects);
        }
        self.version = page.version.clone();
        effects.push(Effect::Store(StoreEvent::InitDone(page.version)));
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
        self.state = State::Watching {
            since: now,
            events: false,
        };
        effects.note(Note::Contact);
        effects.note(Note::Watching(true));
        Next::Read
    }

    fn open_failed(&mut self, error: Error, now: Instant, effects: &mut dyn Effects) -> Next {
        let at_least = error.retry_after().unwrap_or_default();
        match error.class() {
            Class::Expired => self.relist(Cause::Expired, error.to_string(), effects),
            Class::Forbidden => {
                self.state = State::Opening;
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
                    State::Opening
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

    fn event<K: Resource>(
        &mut self,
        event: Result<WatchEvent<K>, String>,
        effects: &mut Vec<Effect<K>>,
    ) -> Next {
        let State::Watching { events, .. } = &mut self.state else {
            return self.woken(effects);
        };
        *events = true;
        effects.note(Note::Contact);
        match event {
            Ok(WatchEvent::Changed(object)) => {
                self.seen(&object.metadata().resource_version);
                effects.push(Effect::Store(StoreEvent::Apply(object)));
            }
            Ok(WatchEvent::Gone(metadata)) => {
                self.seen(&metadata.resource_version);
                effects.push(Effect::Store(StoreEvent::Delete {
                    name: metadata.name,
                    uid: metadata.uid,
                    version: metadata.resource_version,
                }));
            }
            Ok(WatchEvent::Bookmark(version)) => {
                if version.is_before(&self.version) {
                    let why = format!("its version went back from {} to {version}", self.version);
                    return self.relist(Cause::WentBack, why, effects);
                }
                self.seen(&version);
                effects.push(Effect::Store(StoreEvent::Progress(version)));
            }
            Ok(WatchEvent::Skipped(skipped, version)) => {
                self.seen(&version);
                effects.note(Note::Skipped(skipped));
            }
            Ok(WatchEvent::Error(status)) => return self.error_event(&status, effects),
            Err(why) => return self.relist(Cause::Broken, why, effects),
        }
        Next::Read
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
        let State::Watching { since, events } = self.state else {
            return self.woken(effects);
        };
        let short = !events && now.saturating_duration_since(since) < SHORT;
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
        if cause == Cause::Silent {
            return self.list(None, effects);
        }
        if short {
            self.state = State::Opening;
            return Next::BACK_OFF;
        }
        self.open()
    }
}
