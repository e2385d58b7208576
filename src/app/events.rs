//! [`EventLog`]: what has happened to instances, for streams of any number of readers.
//!
//! It keeps the last events, each as bytes that all streams share, and what the last event of each Job that
//! exists has told. So a stream begins with the state of all instances as of one event, and goes on with the
//! next: no event is missing between the two, and none comes twice. A reader that is too slow has missed events
//! and begins anew. Pure but for its lock; who reads, and how events look, is decided by the HTTP front.

mod kind;
mod label_mark;
mod step;

pub use kind::EventKind;

use super::instances::{Item, Selection};
use super::lifecycle::Lifecycle;
use crate::kube::types::{Timestamp, Uid};
use crate::model::labels::MetaLabels;
use crate::model::names::InstanceKey;
use crate::model::status::Finding;
use crate::threads::lock;
use label_mark::LabelMark;
use std::cell::LazyCell;
use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use step::Step;

/// Events that are kept for readers that are behind, or come back.
pub const EVENTS_MAX: usize = 4096;

/// Bytes of them at most; a single longer one is kept, too.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Jobs that are gone of which the UIDs are kept: more than there are calls in flight.
const GONE_MAX: usize = 256;

/// An event as it is told.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    /// What has happened.
    pub kind: EventKind,
    /// To which instance.
    pub key: &'a InstanceKey,
    /// To which Job; none before it exists.
    pub uid: Option<&'a Uid>,
    /// The instance with it, if there is one.
    pub item: Option<&'a Item>,
    /// Of `Ready`: whether it had been reported as failed, or had been ready, before.
    pub recovered: bool,
    /// Of `Failed`: whether it can no longer succeed.
    pub is_final: bool,
    /// Of `Stopping`: why, if this replica has stopped it.
    pub cause: Option<&'static str>,
    /// Of `IdleSoon`: after which time it may be stopped.
    pub expires_in: Option<Duration>,
    /// When this replica saw it, by the clock of the API server.
    pub at: Timestamp,
}

/// Appends the data of an event: one line, without the end of the line.
pub type EncodeEvent = fn(&Told<'_>, &mut Vec<u8>);

/// One event.
#[derive(Debug)]
pub struct Event {
    /// Its number; those of a replica ascend by one.
    pub number: u64,
    /// What has happened.
    pub kind: EventKind,
    /// To which instance.
    pub key: InstanceKey,
    /// To which Job; none before it exists.
    pub uid: Option<Uid>,
    /// The statuses before and after it, as places in [`super::index::STATUS_WORDS`].
    statuses: [Option<usize>; 2],
    labels: MetaLabels,
    /// It had others before.
    had_other_labels: bool,
    bytes: Box<[u8]>,
}

impl Event {
    /// Whether a reader of this selection gets it: if the instance is one of them, or had their status until now.
    /// An event of labels that replace others goes to readers of any labels, and that of the end of a Job to
    /// readers of any status.
    #[must_use]
    pub fn is_of(&self, selection: &Selection) -> bool {
        let mut statuses = self.statuses.iter().flatten();
        let is_in_status =
            selection.statuses.is_empty() || statuses.any(|place| selection.has_status(*place));
        selection.has_type(self.key.app_type.as_str())
            && (self.kind == EventKind::Gone
                || (is_in_status && (self.had_other_labels || selection.has_labels(&self.labels))))
    }
}

/// What the last event of a Job has told.
#[derive(Clone, Debug)]
pub struct Known {
    kind: EventKind,
    is_final: bool,
    /// Whether it was reported as failed, or was ready.
    recovers: bool,
    labels: LabelMark,
    finding: Option<Box<Finding>>,
}

impl Known {
    /// Readers get the labels of this instance with the event.
    pub fn note_labels(&mut self, item: &Item) {
        self.labels = LabelMark::of(&item.meta);
    }

    /// This item with what was told of it.
    #[must_use]
    pub fn item(&self, (key, uid): (&InstanceKey, &Uid), item: Option<Item>) -> Item {
        let status = self.kind.status().unwrap_or_default();
        let item = item.filter(|item| item.uid == *uid);
        let item = item.unwrap_or_else(|| Item {
            key: key.clone(),
            uid: uid.clone(),
            status,
            finding: None,
            since: None,
            start: None,
            ip: None,
            meta: MetaLabels::new(),
            revision: None,
            is_stale: None,
            restarts: 0,
            idle_timeout: None,
            owner: None,
        });
        let is_told = |now: &Finding| {
            let told = self.finding.as_deref();
            told.is_none_or(|told| is_same(told, now))
        };
        if item.status == status && item.finding.as_ref().is_none_or(is_told) {
            return item;
        }
        let finding = self.finding.as_deref().cloned();
        Item {
            status,
            since: finding.as_ref().map_or(item.since, |it| it.since),
            finding,
            ..item
        }
    }
}

/// The state of all instances as of one event.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The number of that event.
    pub number: u64,
    /// What the last event of each Job has said, in no order.
    pub known: Vec<((InstanceKey, Uid), Known)>,
}

/// A reader has missed events: it is too slow, or they are of another replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed;

/// The last events.
#[derive(Debug)]
pub struct EventLog {
    /// Names the replica and its start, in the IDs of events.
    origin: Box<str>,
    encode: EncodeEvent,
    /// Somebody has read: until then nobody can miss what the replica found when it started.
    is_read: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    bytes: usize,
    /// The number of the last event; the first is 1.
    last: u64,
    /// By their names and Jobs: there are several of one name while an older one is not gone yet.
    known: HashMap<(InstanceKey, Uid), Known>,
    /// The last that are gone: the result of a call may come later, and how a Job had ended.
    gone: VecDeque<Uid>,
}

impl EventLog {
    /// No events yet, of this replica, which has just started: `boot` is another one at each start.
    #[must_use]
    pub fn new(replica: &str, boot: u64, encode: EncodeEvent) -> Self {
        Self {
            origin: format!("{replica}.{boot:x}.").into(),
            encode,
            is_read: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Takes up an event; `item` finds the instance with that name by now, and is only called for an event
    /// that readers get. Returns whether they have something new.
    pub fn append(
        &self,
        event: &Lifecycle,
        item: impl FnOnce() -> Option<Item>,
        at: SystemTime,
    ) -> bool {
        let at = at.into();
        // As in lists: clients would change such a name in a URL.
        let is_listed = event.key.name.check_in_urls().is_ok();
        let Some(step) = Step::of(&event.kind).filter(|_| is_listed) else {
            return false;
        };
        let mut state = lock(&self.state);
        let Some(uid) = &event.job_uid else {
            let told = step.told(&event.key, None, None, at);
            self.push(&mut state, &told, None);
            return true;
        };
        let mut item = LazyCell::new(item);
        let is_there = || item.as_ref().is_some_and(|item| item.uid == *uid);
        let Some(change) = state.advance(&event.key, uid, &step, is_there) else {
            return false;
        };
        if !event.is_news && !self.is_read.load(Ordering::SeqCst) {
            return false;
        }
        let Change { before, after } = change;
        let recovers = before.as_ref().is_some_and(|known| known.recovers);
        let mut is_found = false;
        let item = after.map(|known| {
            let item = LazyCell::force_mut(&mut item).take();
            is_found = item.as_ref().is_some_and(|item| item.uid == *uid);
            let item = known.item((&event.key, uid), item);
            match step.finding.as_deref().cloned() {
                Some(finding) => Item {
                    since: finding.since,
                    finding: Some(finding),
                    ..item
                },
                None => item,
            }
        });
        if let Some(item) = item.as_ref().filter(|_| is_found) {
            state.note_labels(item);
        }
        let mut told = step.told(&event.key, Some(uid), item.as_ref(), at);
        told.recovered = step.kind == EventKind::Ready && (step.recovered || recovers);
        self.push(&mut state, &told, before.as_ref());
        true
    }

    /// The stores have this of an instance now: an event if its labels have changed. Of one that is being
    /// stopped they go with its pod. Returns whether readers have something new.
    pub fn relabel(&self, item: &Item, at: SystemTime) -> bool {
        let mut state = lock(&self.state);
        let job = (item.key.clone(), item.uid.clone());
        let labels = LabelMark::of(&item.meta);
        let known = state.known.get_mut(&job).filter(|_| !item.is_stopping());
        let Some(known) = known.filter(|known| known.labels != labels) else {
            return false;
        };
        let before = known.clone();
        known.labels = labels;
        if before.labels == LabelMark::UNKNOWN {
            return false;
        }
        let now = before.item((&job.0, &job.1), Some(item.clone()));
        let step = Step::new(EventKind::Labelled);
        let told = step.told(&job.0, Some(&job.1), Some(&now), at.into());
        self.push(&mut state, &told, Some(&before));
        true
    }

    /// These instances are shown to readers, with the labels of [`Known::note_labels`].
    pub fn shown(&self, snapshot: &Snapshot) {
        let mut state = lock(&self.state);
        for (job, shown) in &snapshot.known {
            let known = state.known.get_mut(job);
            if let Some(known) = known.filter(|it| it.labels == LabelMark::SHOWN) {
                known.labels = shown.labels;
            }
        }
    }

    fn bytes(&self, number: u64, told: &Told<'_>) -> Vec<u8> {
        let (id, name) = (self.id(number), told.kind.as_str());
        let mut bytes = format!("id: {id}\nevent: {name}\ndata: ").into_bytes();
        (self.encode)(told, &mut bytes);
        bytes.extend_from_slice(b"\n\n");
        bytes
    }

    fn push(&self, state: &mut State, told: &Told<'_>, before: Option<&Known>) {
        state.last += 1;
        let bytes = self.bytes(state.last, told);
        state.bytes += bytes.len();
        let number = state.last;
        state.events.push_back(Event {
            number,
            kind: told.kind,
            key: told.key.clone(),
            uid: told.uid.cloned(),
            statuses: [before.and_then(|it| it.kind.status()), told.kind.status()],
            had_other_labels: had_other_labels(told, before),
            labels: told.item.map(|item| item.meta.clone()).unwrap_or_default(),
            bytes: bytes.into(),
        });
        while state.events.len() > EVENTS_MAX
            || (state.bytes > EVENT_BYTES_MAX && state.events.len() > 1)
        {
            let first = state.events.pop_front();
            state.bytes -= first.map_or(0, |event| event.bytes.len());
        }
    }

    /// The number of the last event.
    #[must_use]
    pub fn last(&self) -> u64 {
        self.is_read.store(true, Ordering::SeqCst);
        lock(&self.state).last
    }

    /// The number before the first event that is kept.
    #[must_use]
    pub fn before_first(&self) -> u64 {
        lock(&self.state).before_first()
    }

    /// Whether at most half of the events that are kept, or may be, have come after the one with this number.
    #[must_use]
    pub fn is_recent(&self, number: u64) -> bool {
        let state = lock(&self.state);
        let kept = match state.before_first() {
            0 => EVENTS_MAX,
            _ => state.events.len(),
        };
        (state.last - number.min(state.last)) * 2 <= kept as u64
    }

    /// The ID of an event with this number.
    #[must_use]
    pub fn id(&self, number: u64) -> String {
        format!("{}{number}", self.origin)
    }

    /// The number of the event with this ID, if what follows it is kept.
    ///
    /// # Errors
    /// [`Missed`]
    pub fn number_of(&self, id: &str) -> Result<u64, Missed> {
        let number = id.strip_prefix(&*self.origin).ok_or(Missed)?;
        let number = number.parse().map_err(|_| Missed)?;
        let state = lock(&self.state);
        let is_kept = (state.before_first()..=state.last).contains(&number);
        is_kept.then_some(number).ok_or(Missed)
    }

    /// Appends what `is_wanted` of the events after this one, as far as there is room, and one in any case.
    /// Returns the number of the last event that was looked at.
    ///
    /// # Errors
    /// [`Missed`]
    pub fn read(
        &self,
        after: u64,
        is_wanted: impl Fn(&Event) -> bool,
        room: usize,
        into: &mut Vec<u8>,
    ) -> Result<u64, Missed> {
        let state = lock(&self.state);
        let skipped = after.checked_sub(state.before_first()).ok_or(Missed)?;
        let skipped = usize::try_from(skipped).map_err(|_| Missed)?;
        let mut number = after;
        for event in state.events.iter().skip(skipped) {
            if is_wanted(event) {
                if !into.is_empty() && into.len() + event.bytes.len() > room {
                    break;
                }
                into.extend_from_slice(&event.bytes);
            }
            number += 1;
        }
        Ok(number)
    }

    /// The state of the instances of these types and statuses.
    #[must_use]
    pub fn snapshot(&self, selection: &Selection) -> Snapshot {
        self.is_read.store(true, Ordering::SeqCst);
        let mut state = lock(&self.state);
        let number = state.last;
        let is_one = |((key, _), known): &(&(InstanceKey, Uid), &mut Known)| {
            let status = known.kind.status();
            selection.has_type(key.app_type.as_str())
                && status.is_some_and(|place| selection.has_status(place))
        };
        let known = state.known.iter_mut().filter(is_one);
        let known = known.map(|(job, known)| {
            known.labels.is_shown();
            (job.clone(), known.clone())
        });
        Snapshot {
            known: known.collect(),
            number,
        }
    }

    /// What was last told of this Job, as an event with the number of the last one; none if nothing was, or
    /// what ends a start.
    #[must_use]
    pub fn restated(&self, item: &Item, at: SystemTime) -> Option<Vec<u8>> {
        let Item { key, uid, .. } = item;
        let (known, last) = {
            let state = lock(&self.state);
            let job = (key.clone(), uid.clone());
            (state.known.get(&job)?.clone(), state.last)
        };
        if known.kind.ends_start() {
            return None;
        }
        let told = Told {
            kind: known.kind,
            key,
            uid: Some(uid),
            item: Some(&known.item((key, uid), Some(item.clone()))),
            recovered: false,
            is_final: known.is_final,
            cause: None,
            expires_in: None,
            at: at.into(),
        };
        Some(self.bytes(last, &told))
    }
}

impl State {
    fn before_first(&self) -> u64 {
        self.last - self.events.len() as u64
    }

    /// An event tells the labels of this instance.
    fn note_labels(&mut self, item: &Item) {
        let job = (item.key.clone(), item.uid.clone());
        if let Some(known) = self.known.get_mut(&job) {
            known.note_labels(item);
        }
    }

    /// Notes this step of a Job, and whether the stores have that; `None` if it tells nothing new.
    fn advance(
        &mut self,
        key: &InstanceKey,
        uid: &Uid,
        step: &Step<'_>,
        is_there: impl FnOnce() -> bool,
    ) -> Option<Change> {
        let job = (key.clone(), uid.clone());
        if step.kind == EventKind::IdleSoon {
            // It may be stopped, or gone, by now.
            let known = self.known.get(&job);
            let known = known.filter(|it| it.kind != EventKind::Stopping)?;
            let (before, after) = (Some(known.clone()), Some(known.clone()));
            return Some(Change { before, after });
        }
        if step.kind.status().is_none() {
            // A Job of which nothing was told is not gone.
            let before = Some(self.known.remove(&job)?);
            self.gone.push_back(job.1);
            if self.gone.len() > GONE_MAX {
                self.gone.pop_front();
            }
            let after = None;
            return Some(Change { before, after });
        }
        // Unless a list from before it was made had shown it gone, or etcd was restored.
        if self.gone.contains(uid) && !is_there() {
            return None;
        }
        let before = self.known.get(&job);
        if before.is_some_and(|known| known.is_told(step)) {
            return None;
        }
        let known = Known {
            kind: step.kind,
            is_final: step.is_final,
            recovers: step.kind.ends_start() || before.is_some_and(|known| known.recovers),
            labels: before.map_or(LabelMark::UNKNOWN, |known| known.labels),
            finding: step.finding.as_deref().map(|finding| {
                // The stores have its texts.
                Box::new(Finding {
                    message: "".into(),
                    last_output: None,
                    ..finding.clone()
                })
            }),
        };
        let after = Some(known.clone());
        let before = self.known.insert(job, known);
        Some(Change { before, after })
    }
}

/// Whether a reader may have asked for labels that are no longer there with this event.
fn had_other_labels(told: &Told<'_>, before: Option<&Known>) -> bool {
    let labels = told.item.map(|item| LabelMark::of(&item.meta));
    labels.is_some_and(|now| before.is_some_and(|known| known.labels.may_differ(now)))
}

/// What was told of a Job before a step, and is after it.
#[derive(Debug)]
struct Change {
    before: Option<Known>,
    after: Option<Known>,
}

impl Known {
    /// Whether this step would tell the same again, or what is no news any more.
    fn is_told(&self, step: &Step<'_>) -> bool {
        let findings = self.finding.as_deref().zip(step.finding.as_deref());
        let is_same = findings.is_some_and(|(told, now)| is_same(told, now));
        let is_same_kind = self.kind == step.kind && self.is_final == step.is_final;
        // What is known of was created.
        let has_reasons = matches!(step.kind, EventKind::Starting | EventKind::Failed);
        step.kind == EventKind::Created || (is_same_kind && (is_same || !has_reasons))
    }
}

/// Whether both are for the same reason.
fn is_same(told: &Finding, now: &Finding) -> bool {
    (told.phase, &told.reason) == (now.phase, &now.reason)
}

impl Step<'_> {
    fn told<'t>(
        &self,
        key: &'t InstanceKey,
        uid: Option<&'t Uid>,
        item: Option<&'t Item>,
        at: Timestamp,
    ) -> Told<'t> {
        Told {
            kind: self.kind,
            key,
            uid,
            item,
            recovered: false,
            is_final: self.is_final,
            cause: self.cause,
            expires_in: self.expires_in,
            at,
        }
    }
}

#[cfg(test)]
mod tests;
