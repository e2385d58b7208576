//! The inputs and outputs of the machine in [`super`]: what can happen, what is to be done next, and
//! what stores, logs and metrics get. Data only.

use crate::kube::error::Error;
use crate::kube::types::{ObjectMeta, Page, Resource, ResourceVersion, Skipped, Uid, WatchEvent};
use std::time::{Duration, Instant};

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
    /// Nothing was received for [`super::SLICE`].
    Idle,
    /// The newest version of the collection, and the newest one that the store knew when it was
    /// requested.
    Probed(Result<ResourceVersion, Error>, ResourceVersion),
    /// How an object of the store compares with what Kubernetes stores.
    Checked(Checked),
    /// Something suggests that versions went back.
    Doubted,
    /// The watch has ended.
    Ended(End),
    /// The store needs a new list.
    Unfit,
}

/// What a read of one object by name has shown, compared with the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The store has that state, or has changed meanwhile, or is empty.
    Same {
        /// Whether another object is to be checked now.
        more: bool,
    },
    /// Its state is older than the one in the store, which no etcd shows that has not gone back.
    Older(Box<str>),
    /// Its state is newer, or it is gone: its event may be on its way.
    Differs(Box<str>),
    /// Reading single objects is not permitted.
    Forbidden,
    /// The read failed.
    Failed,
}

/// How a watch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server closed it regularly.
    Closed,
    /// Nothing was received for [`super::SILENCE`].
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
    /// Request the newest version of the collection.
    Probe,
    /// Read an object by name, and compare it with the store: the last one again if it is in doubt.
    Check {
        /// Whether it is the last one again.
        again: bool,
    },
    /// Wait for the next line of the open watch, for at most [`super::SLICE`].
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
    pub(super) const BACK_OFF: Self = Self::BackOff {
        at_least: Duration::ZERO,
    };
}

/// Why a list or watch was restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The server closed the watch, as it does every few minutes.
    Closed,
    /// Nothing was received for [`super::SILENCE`]; a list follows.
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
    /// A read of one object has shown another state than the store; a list follows.
    Differs,
    /// It is time to compare the store with a list.
    Interval,
}

impl Cause {
    /// All causes in the order of their numbers, with a stable word for metrics.
    pub const ALL: [(Self, &str); 13] = [
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
        (Self::Differs, "differs"),
        (Self::Interval, "interval"),
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
    /// For log and metrics: the list that follows replaces what the store has, for that cause.
    Relisted(Cause),
    /// For the store: since when it cannot be relied on although its watch is open, if so.
    Stale(Option<Instant>),
    /// For the log: this process stood still for so long.
    Paused(Duration),
    /// For the log: a list and a read of this object contradict each other, or no longer.
    Contradiction(Option<Box<str>>),
    /// For log and metrics: an object was skipped.
    Skipped(Skipped),
    /// For the log: a permission is missing. Reported once.
    Refused(Error),
}

/// Receives the effects of an input. The machine knows of an object its version only, so that its
/// code is compiled once and not for each kind of object.
pub(super) trait Effects {
    fn note(&mut self, note: Note);

    /// A list begins, from its first page.
    fn list_begins(&mut self);

    /// The objects of the input go to the store.
    fn objects(&mut self);

    /// An object is gone.
    fn gone(&mut self, metadata: ObjectMeta);

    /// Nothing else happened up to this version.
    fn progress(&mut self, version: ResourceVersion);

    /// A list of that version is complete.
    fn list_ends(&mut self, version: ResourceVersion);
}

/// The effects of an input, and its objects until they are asked for.
pub(super) struct Collected<K> {
    pub(super) effects: Vec<Effect<K>>,
    /// Those of a page of a list.
    listed: Vec<K>,
    /// That of an event.
    changed: Option<K>,
}

impl<K> Collected<K> {
    fn store(&mut self, event: StoreEvent<K>) {
        self.effects.push(Effect::Store(event));
    }
}

impl<K> Effects for Collected<K> {
    fn note(&mut self, note: Note) {
        self.effects.push(Effect::Note(note));
    }

    fn list_begins(&mut self) {
        self.store(StoreEvent::Init);
    }

    fn objects(&mut self) {
        for object in std::mem::take(&mut self.listed) {
            self.store(StoreEvent::InitApply(object));
        }
        if let Some(object) = self.changed.take() {
            self.store(StoreEvent::Apply(object));
        }
    }

    fn gone(&mut self, metadata: ObjectMeta) {
        self.store(StoreEvent::Delete {
            name: metadata.name,
            uid: metadata.uid,
            version: metadata.resource_version,
        });
    }

    fn progress(&mut self, version: ResourceVersion) {
        self.store(StoreEvent::Progress(version));
    }

    fn list_ends(&mut self, version: ResourceVersion) {
        self.store(StoreEvent::InitDone(version));
    }
}

impl<K: Resource> Input<K> {
    /// What the machine sees of it, and its objects.
    pub(super) fn parted(self) -> (Input<ResourceVersion>, Collected<K>) {
        let mut collected = Collected {
            effects: Vec::new(),
            listed: Vec::new(),
            changed: None,
        };
        let seen = match self {
            Self::Listed(listed) => Input::Listed(listed.map(|page| {
                collected.listed = page.items;
                Page {
                    items: Vec::new(),
                    version: page.version,
                    continue_token: page.continue_token,
                    skipped: page.skipped,
                    bytes: page.bytes,
                }
            })),
            Self::Event(event) => Input::Event(event.map(|event| match event {
                WatchEvent::Changed(object) => {
                    let version = object.metadata().resource_version.clone();
                    collected.changed = Some(object);
                    WatchEvent::Changed(version)
                }
                WatchEvent::Gone(metadata) => WatchEvent::Gone(metadata),
                WatchEvent::Bookmark(version) => WatchEvent::Bookmark(version),
                WatchEvent::Error(status) => WatchEvent::Error(status),
                WatchEvent::Skipped(skipped, version) => WatchEvent::Skipped(skipped, version),
            })),
            Self::Woken => Input::Woken,
            Self::Opened(opened) => Input::Opened(opened),
            Self::Idle => Input::Idle,
            Self::Probed(newest, known) => Input::Probed(newest, known),
            Self::Checked(checked) => Input::Checked(checked),
            Self::Doubted => Input::Doubted,
            Self::Ended(end) => Input::Ended(end),
            Self::Unfit => Input::Unfit,
        };
        (seen, collected)
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
