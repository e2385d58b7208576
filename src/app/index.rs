//! [`Index`]: what is asked of all instances together, kept up to date by each change: how many are
//! in which status, which have which session, how long their meta labels are, which nodes are lost,
//! how pods ended, and the lists.
//!
//! The stores report their changes ([`Index::job_changed`], [`Index::pod_changed`]) while they
//! are locked, so the index reads no store. A status needs the Job and its pods: it is computed from
//! the stores afterwards, and counts only if the instance has not changed since
//! ([`Index::settle`]). Nothing here takes longer with more instances.

use super::instances::STARTING;
use super::keys::{key_of_pod, own_key_of};
use super::lists::{ListOf, Lists};
use super::lost_pods::LostPods;
use crate::budget::Memory;
use crate::kube::types::{Job, Pod, Resource, Uid};
use crate::model::labels;
use crate::model::names::{AppType, InstanceKey, InstanceName};
use crate::model::status::{self, InstanceStatus};
use crate::store::Change;
use crate::threads::lock;
use ends::End;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

mod ends;
mod reading;

/// The words for statuses in metrics and lists, in the order of [`Counts`].
pub const STATUS_WORDS: [&str; 5] = ["starting", "ready", "failed", "finished", "stopping"];

/// How many instances are in which status; see [`STATUS_WORDS`].
pub type Counts = [u64; STATUS_WORDS.len()];

/// Of the instances of one type with the same session, so many are looked at. Labels are for
/// callers to set, so there may be any number.
pub const SESSIONS_MAX: usize = 64;

/// What the coordinator has found out about an instance with time, in the state that it has: that holds until
/// it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    #[default]
    None,
    /// It has been ready for as long as its template wants.
    Settled,
    /// It does not become ready in time: callers get an error.
    Failing,
}

/// The place of a status in [`Counts`]; `has_min_ready`: being ready does not suffice at once.
#[must_use]
pub const fn place_of(status: &InstanceStatus, verdict: Verdict, has_min_ready: bool) -> usize {
    match status {
        InstanceStatus::Starting(_) => match verdict {
            Verdict::Failing => FAILED,
            Verdict::None | Verdict::Settled => STARTING,
        },
        InstanceStatus::Ready { .. } => match verdict {
            Verdict::Settled => READY,
            Verdict::None | Verdict::Failing if has_min_ready => STARTING,
            Verdict::None | Verdict::Failing => READY,
        },
        InstanceStatus::Failed { .. } => FAILED,
        InstanceStatus::Finished(_) => FINISHED,
        InstanceStatus::Stopping { .. } => 4,
    }
}

/// One that callers get.
pub(super) const READY: usize = 1;

/// One whose callers get an error.
const FAILED: usize = 2;

/// One that has ended well.
pub(super) const FINISHED: usize = 3;

/// What the cache takes for a Job or a pod beside its name and texts, in bytes; measured, as the factors
/// below. A test holds them against the allocator.
const OBJECT_BYTES: usize = 752;

/// How often the cache holds the name of an object.
const NAMES: usize = 5;

/// How much more its texts take than their bytes: parts of messages are in memory of their own.
const TEXTS: usize = 2;

/// The index of all instances.
#[derive(Debug, Default)]
pub struct Index {
    /// Where the memory of the instances is counted.
    memory: Arc<Memory>,
    state: Mutex<State>,
    /// Somebody waits for a list.
    is_wanted: Condvar,
}

/// How often an instance has changed, as far as it matters: whether it has since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes(u32);

#[derive(Debug, Default)]
struct State {
    hasher: RandomState,
    /// By the hash of type and name.
    counted: HashMap<u64, Counted>,
    /// Types that have instances.
    types: BTreeMap<AppType, Counts>,
    sessions: Sessions,
    /// Bytes of the meta labels of all pods; see [`labels::Size::kept_bytes`].
    label_bytes: usize,
    /// The same of each type, unless it has none.
    label_bytes_of: BTreeMap<AppType, usize>,
    /// How many pods have not ended, by the hash of type and name, and by the Job that made them (never
    /// `None`).
    live_pods: BTreeMap<(u64, Option<Uid>), usize>,
    /// How many pods bear the mark of a lost node, by its name.
    lost_nodes: BTreeMap<Box<str>, usize>,
    lists: Lists,
    /// There is something else to do for the thread that makes lists.
    is_nudged: bool,
    lost_pods: LostPods,
}

/// The pods with a session, by the hash of the session and the type (never `None`); each with the
/// name of its instance and a hash of its own name, in that order. There is rarely more than one.
type Sessions = BTreeMap<(u64, Option<AppType>), Vec<(InstanceName, u64)>>;

/// An instance as it was counted.
#[derive(Debug)]
struct Counted {
    /// Wraps around: no status is computed during 2^32 changes.
    changes: u32,
    place: u8,
    verdict: Verdict,
    /// How it has ended, once that is known.
    end: Option<Box<End>>,
}

impl Counted {
    fn end_bytes(&self) -> usize {
        self.end.as_ref().map_or(0, |end| end.bytes())
    }
}

impl Index {
    /// An empty index.
    pub(super) fn new(memory: Arc<Memory>) -> Self {
        Self {
            memory,
            ..Self::default()
        }
    }

    /// The memory that instances take.
    #[must_use]
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// A Job has changed.
    pub fn job_changed(&self, change: &Change<Job>) {
        let read = |job: &Option<Arc<Job>>| {
            let key = job.as_deref().and_then(own_key_of);
            let bytes = job
                .as_deref()
                .map_or(0, |job| bytes_of_job(job, key.as_ref()));
            (key, bytes)
        };
        let ((old, bytes_before), (new, bytes)) = (read(&change.old), read(&change.new));
        self.memory.resize_cache(bytes_before, bytes);
        let mut state = self.state();
        // Lists of templates have how many instances there are, and of which revision.
        let uid = |job: &Option<Arc<Job>>| job.as_ref().map(|job| job.metadata.uid.clone());
        let is_other = uid(&change.old) != uid(&change.new);
        if old != new || is_other {
            state.lists.change_all(&ListOf::Templates);
            let end_bytes = old.as_ref().map_or(0, |key| state.forget_end(key));
            self.memory.resize_cache(end_bytes, 0);
        }
        if old != new {
            old.iter().for_each(|key| state.remove(key));
            new.iter().for_each(|key| state.add(key));
        } else if let Some(key) = &new {
            state.touch(key);
        }
    }

    /// A pod has changed.
    pub fn pod_changed(&self, change: &Change<Pod>) {
        let read = |pod: &Pod| {
            let session = labels::session(&pod.metadata);
            key_of_pod(&pod.metadata).map(|key| (key, session))
        };
        let old = change.old.as_deref().and_then(read);
        let new = change.new.as_deref().and_then(read);
        let mut state = self.state();
        for (key, _) in old.iter().chain(&new) {
            state.touch(key);
        }
        let sizes = |pod: &Option<Arc<Pod>>| pod.as_deref().map_or((0, 0), sizes_of_pod);
        let ((labels_before, bytes_before), (labels, bytes)) =
            (sizes(&change.old), sizes(&change.new));
        state.resize_labels(new.as_ref().map(|(key, _)| &key.app_type), 0, labels);
        state.resize_labels(old.as_ref().map(|(key, _)| &key.app_type), labels_before, 0);
        self.memory.resize_cache(bytes_before, bytes);
        state.count_lost_nodes(change);
        state.count_live_pods(change);
        state.lost_pods.note(change, bytes_before);
        if old == new {
            return;
        }
        let pod = &*change.object().metadata.name;
        if let Some((key, Some(session))) = old {
            state.remove_session(&session, &key, pod);
        }
        if let Some((key, Some(session))) = new {
            state.add_session(&session, &key, pod);
        }
    }

    /// Something else of this instance has changed than its Job and its pods.
    pub fn touch(&self, key: &InstanceKey) {
        self.state().touch(key);
    }

    /// How often this instance has changed; `None` if there is none.
    #[must_use]
    pub fn changes(&self, key: &InstanceKey) -> Option<Changes> {
        let state = self.state();
        let counted = state.counted.get(&state.hash(key))?;
        Some(Changes(counted.changes))
    }

    /// Counts the status at this place for an instance, if the instance has not changed since the
    /// status was computed. Else whoever has changed it does that.
    pub fn settle(&self, key: &InstanceKey, since: Changes, place: usize) {
        let mut state = self.state();
        let hash = state.hash(key);
        let State {
            counted,
            types,
            lists,
            ..
        } = &mut *state;
        let counted = counted.get_mut(&hash);
        if let Some(counted) = counted.filter(|counted| counted.changes == since.0)
            && let Some(counts) = types.get_mut(&key.app_type)
        {
            if usize::from(counted.place) != place {
                lists.change_pages(&key.app_type);
            }
            counts[usize::from(counted.place)] -= 1;
            counts[place] += 1;
            counted.place = u8::try_from(place).expect("there are five places");
        }
    }

    /// Sets what has been found out about this instance.
    pub fn set_verdict(&self, key: &InstanceKey, verdict: Verdict) {
        let mut state = self.state();
        let hash = state.hash(key);
        let State { counted, lists, .. } = &mut *state;
        let counted = counted.get_mut(&hash).filter(|it| it.verdict != verdict);
        if let Some(counted) = counted {
            counted.verdict = verdict;
            lists.change(key);
        }
    }

    /// Where this instance counts, by [`STATUS_WORDS`]; `None` if there is none.
    #[must_use]
    pub fn place(&self, key: &InstanceKey) -> Option<usize> {
        let state = self.state();
        let counted = state.counted.get(&state.hash(key))?;
        Some(usize::from(counted.place))
    }

    /// What has been found out about it.
    #[must_use]
    pub fn verdict(&self, key: &InstanceKey) -> Verdict {
        let state = self.state();
        let counted = state.counted.get(&state.hash(key));
        counted.map_or(Verdict::None, |counted| counted.verdict)
    }

    /// How many instances of each type are in which status.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<AppType, Counts> {
        self.state().types.clone()
    }

    /// Bytes of the meta labels of all pods, also of those that are being deleted; see
    /// [`labels::Size::kept_bytes`].
    #[must_use]
    pub fn label_bytes(&self) -> usize {
        self.state().label_bytes
    }

    /// The same of the pods of one type.
    #[must_use]
    pub fn label_bytes_of(&self, app_type: &AppType) -> usize {
        let state = self.state();
        state
            .label_bytes_of
            .get(app_type)
            .copied()
            .unwrap_or_default()
    }

    /// The types whose pods have meta labels; for tests.
    #[must_use]
    pub fn labelled_types(&self) -> BTreeMap<AppType, usize> {
        self.state().label_bytes_of.clone()
    }

    /// The Jobs that made the pods of this instance that have not ended; there is rarely more than one.
    #[must_use]
    pub fn owners(&self, key: &InstanceKey) -> Vec<Uid> {
        let state = self.state();
        let hash = state.hash(key);
        let from_here = state.live_pods.range((hash, None)..);
        let of_it = from_here.take_while(|((other, _), _)| *other == hash);
        of_it.filter_map(|((_, owner), _)| owner.clone()).collect()
    }

    /// Whether a pod of ours on this node bears the mark of a lost node ([`status::has_lost_node`]):
    /// then the node is lost for all its pods. One that was not ready then gets no mark of its own.
    #[must_use]
    pub fn is_lost(&self, node: &str) -> bool {
        self.state().lost_nodes.contains_key(node)
    }

    /// Takes the last state of the pod of this Job, if the cache has lost it a moment ago.
    #[must_use]
    pub fn take_lost_pod(&self, job: &Uid) -> Option<Arc<Pod>> {
        self.state().lost_pods.take(job)
    }

    /// The instances of these types that have a pod with this session, by type and name; of each
    /// type no more than [`SESSIONS_MAX`]. Whether it is the pod that counts is not known here.
    #[must_use]
    pub fn with_session(&self, session: &str, among: impl Fn(&str) -> bool) -> Vec<InstanceKey> {
        let state = self.state();
        let hash = state.hasher.hash_one(session);
        let from_here = state.sessions.range((hash, None)..);
        let of_it = from_here.take_while(|((other, _), _)| *other == hash);
        let mut found = Vec::new();
        for ((_, app_type), pods) in of_it {
            let Some(app_type) = app_type.as_ref().filter(|one| among(one.as_str())) else {
                continue;
            };
            // Pods of one instance stand together.
            let firsts = pods.chunk_by(|(a, _), (b, _)| a == b).map(|pods| &pods[0]);
            found.extend(firsts.take(SESSIONS_MAX).map(|(name, _)| InstanceKey {
                app_type: app_type.clone(),
                name: name.clone(),
            }));
        }
        found
    }

    /// How many pods with a session there are; for tests, since it counts them.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.state().sessions.values().map(Vec::len).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn hash(hasher: &RandomState, key: &InstanceKey) -> u64 {
    hasher.hash_one((key.app_type.as_str(), key.name.as_str()))
}

/// Counts pods by what `of` says of them.
fn count<T: Ord>(
    counts: &mut BTreeMap<T, usize>,
    change: &Change<Pod>,
    of: impl Fn(&Pod) -> Option<T>,
) {
    let old = change.old.as_deref().and_then(&of);
    let new = change.new.as_deref().and_then(&of);
    if old == new {
        return;
    }
    if let Some(new) = new {
        *counts.entry(new).or_default() += 1;
    }
    if let Some(old) = old
        && let Some(count) = counts.get_mut(&old)
    {
        *count -= 1;
        if *count == 0 {
            counts.remove(&old);
        }
    }
}

/// What the cache takes for an object, without its labels; about, in bytes.
fn bytes_of(object: &impl Resource) -> usize {
    OBJECT_BYTES + NAMES * object.metadata().name.len() + TEXTS * object.text_bytes()
}

/// What the cache takes for the Job of this instance, if it is ours; about, in bytes. The name that the
/// caller gave may be much longer than its own.
pub(super) fn bytes_of_job(job: &Job, key: Option<&InstanceKey>) -> usize {
    bytes_of(job) + key.map_or(0, |key| 2 * key.name.as_str().len())
}

/// The bytes of a pod's meta labels, and what the cache takes for the pod with them; about, in bytes.
pub(super) fn sizes_of_pod(pod: &Pod) -> (usize, usize) {
    let labels = labels::size(&pod.metadata).kept_bytes();
    let containers = size_of_val(&*pod.containers);
    (labels, bytes_of(pod) + containers + labels + labels / 4)
}

impl State {
    fn hash(&self, key: &InstanceKey) -> u64 {
        hash(&self.hasher, key)
    }

    fn add(&mut self, key: &InstanceKey) {
        let counted = Counted {
            changes: 0,
            place: STARTING as u8,
            verdict: Verdict::None,
            end: None,
        };
        self.counted.insert(self.hash(key), counted);
        self.types.entry(key.app_type.clone()).or_default()[STARTING] += 1;
        self.lists.change(key);
    }

    /// Forgets how this instance has ended; returns the bytes that took.
    fn forget_end(&mut self, key: &InstanceKey) -> usize {
        let hash = self.hash(key);
        let end = self.counted.get_mut(&hash).and_then(|it| it.end.take());
        end.map_or(0, |end| end.bytes())
    }

    fn remove(&mut self, key: &InstanceKey) {
        if let Some(counted) = self.counted.remove(&self.hash(key))
            && let Some(counts) = self.types.get_mut(&key.app_type)
        {
            counts[usize::from(counted.place)] -= 1;
            self.lists.change(key);
            if *counts == Counts::default() {
                self.types.remove(&key.app_type);
                self.lists.emptied(&ListOf::Instances(key.app_type.clone()));
            }
        }
    }

    /// The meta labels of a pod, of an instance of this type if it belongs to one, had so many bytes and
    /// now have others.
    fn resize_labels(&mut self, app_type: Option<&AppType>, before: usize, after: usize) {
        self.label_bytes = self.label_bytes + after - before;
        let Some(app_type) = app_type.filter(|_| before != after) else {
            return;
        };
        let known = self.types.get_key_value(app_type);
        let app_type = known.map_or(app_type, |(known, _)| known);
        let bytes = self.label_bytes_of.entry(app_type.clone()).or_default();
        *bytes = *bytes + after - before;
        if *bytes == 0 {
            self.label_bytes_of.remove(app_type);
        }
    }

    fn count_lost_nodes(&mut self, change: &Change<Pod>) {
        let lost = |pod: &Pod| pod.node.clone().filter(|_| status::has_lost_node(pod));
        count(&mut self.lost_nodes, change, lost);
    }

    fn count_live_pods(&mut self, change: &Change<Pod>) {
        let hasher = self.hasher.clone();
        count(&mut self.live_pods, change, |pod| {
            let owner = pod.owner_uid.clone().filter(|_| !status::has_ended(pod))?;
            let key = key_of_pod(&pod.metadata)?;
            Some((hash(&hasher, &key), Some(owner)))
        });
    }

    fn touch(&mut self, key: &InstanceKey) {
        let hash = self.hash(key);
        if let Some(counted) = self.counted.get_mut(&hash) {
            counted.changes = counted.changes.wrapping_add(1);
            counted.verdict = Verdict::None;
            self.lists.change(key);
        }
    }

    /// The place of a session and type in `sessions`; types with instances are in memory once.
    fn place_of_session(&self, session: &str, app_type: &AppType) -> (u64, Option<AppType>) {
        let known = self.types.get_key_value(app_type);
        let app_type = known.map_or(app_type, |(known, _)| known);
        (self.hasher.hash_one(session), Some(app_type.clone()))
    }

    fn add_session(&mut self, session: &str, key: &InstanceKey, pod: &str) {
        let place = self.place_of_session(session, &key.app_type);
        let entry = (key.name.clone(), self.hasher.hash_one(pod));
        match self.sessions.entry(place) {
            Entry::Vacant(vacant) => {
                vacant.insert(vec![entry]);
            }
            Entry::Occupied(mut known) => {
                let pods = known.get_mut();
                let at = pods.partition_point(|other| *other < entry);
                pods.insert(at, entry);
            }
        }
    }

    fn remove_session(&mut self, session: &str, key: &InstanceKey, pod: &str) {
        let place = self.place_of_session(session, &key.app_type);
        let entry = (key.name.clone(), self.hasher.hash_one(pod));
        if let Some(pods) = self.sessions.get_mut(&place) {
            if let Ok(at) = pods.binary_search(&entry) {
                pods.remove(at);
            }
            if pods.is_empty() {
                self.sessions.remove(&place);
            }
        }
    }
}
