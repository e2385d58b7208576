//! The actual history: the states of all Jobs and pods by instance, read from the API server's own
//! history, as raw JSON.
//!
//! It depends on no replica's cache and uses no code of the service. So a mistake in that code
//! cannot hide on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::{Change, Cluster, meta};
use crate::fake_kube::dynamics::{controller_uid, has_condition};
use crate::harness::{NAMESPACE, PREFIX};

/// An app type and a name.
pub(super) type Pair = (String, String);

/// The state of an object since one revision; `None` once it is gone.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// The revision of the write.
    pub(super) revision: u64,
    /// The time of the write, in milliseconds since 1970.
    pub(super) at_ms: i64,
    /// The object.
    pub(super) object: Option<Arc<Value>>,
}

/// All states of one Job or pod.
#[derive(Clone, Debug)]
pub(super) struct ObjectHistory {
    /// Its UID.
    pub(super) uid: String,
    /// The UID of its controller, if it has one.
    pub(super) owner: Option<String>,
    /// The UID of the Job that made it, by its label.
    pub(super) made_by: Option<String>,
    states: Vec<State>,
}

impl ObjectHistory {
    /// Its last state, if it still exists.
    pub(super) fn now(&self) -> Option<&Arc<Value>> {
        self.states.last()?.object.as_ref()
    }

    /// Its last state before it was removed, if it is gone.
    pub(super) fn removed(&self) -> Option<&Value> {
        match self.states.as_slice() {
            [.., last, State { object: None, .. }] => last.object.as_deref(),
            _ => None,
        }
    }

    /// Its first state.
    pub(super) fn first(&self) -> &State {
        self.states.first().expect("a history begins with a state")
    }

    /// The states that were current at some moment since this revision was the newest.
    pub(super) fn since(&self, floor: u64) -> impl Iterator<Item = &State> {
        let before = self.states.partition_point(|state| state.revision <= floor);
        self.states[before.saturating_sub(1)..].iter()
    }

    /// The writes after this revision: the object before and after each, as long as it exists.
    pub(super) fn changes_after(&self, revision: u64) -> impl Iterator<Item = (&Value, &Value)> {
        let pairs = self.states.windows(2);
        let new = pairs.filter(move |pair| pair[1].revision > revision);
        new.filter_map(|pair| Some((pair[0].object.as_deref()?, pair[1].object.as_deref()?)))
    }

    /// The earliest time since which `is` had held without a break, as of some moment since this
    /// revision was the newest; in milliseconds since 1970.
    pub(super) fn lasting_ms(&self, floor: u64, is: impl Fn(&Value) -> bool) -> Option<i64> {
        let (mut begun, mut found) = (None, None);
        let before = self.states.partition_point(|state| state.revision <= floor);
        for (at, state) in self.states.iter().enumerate() {
            if state.object.as_deref().is_some_and(&is) {
                begun = begun.or(Some(state.at_ms));
            } else {
                begun = None;
            }
            if at >= before.saturating_sub(1) {
                found = found.or(begun);
            }
        }
        found
    }

    /// Revision, time and phase of each state.
    pub(super) fn outline(&self) -> Vec<(u64, i64, &str)> {
        let states = self.states.iter();
        let shown = states.map(|state| {
            let phase = state
                .object
                .as_deref()
                .and_then(|pod| pod["status"]["phase"].as_str());
            (state.revision, state.at_ms, phase.unwrap_or("-"))
        });
        shown.collect()
    }

    /// Whether `is` held at some moment up to this revision.
    pub(super) fn has_been(&self, revision: u64, is: impl Fn(&Value) -> bool) -> bool {
        let states = self.states.iter();
        let mut until = states.take_while(|state| state.revision <= revision);
        until.any(|state| state.object.as_deref().is_some_and(&is))
    }

    /// When `is` first held, in milliseconds since 1970.
    pub(super) fn first_ms(&self, is: impl Fn(&Value) -> bool) -> Option<i64> {
        let mut states = self.states.iter();
        let found = states.find(|state| state.object.as_deref().is_some_and(&is));
        found.map(|state| state.at_ms)
    }
}

/// The history of one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct InstanceHistory {
    /// Its Jobs, oldest first.
    pub(super) jobs: Vec<ObjectHistory>,
    /// Their pods, oldest first.
    pub(super) pods: Vec<ObjectHistory>,
}

impl InstanceHistory {
    /// The Jobs that exist and are not being deleted.
    pub(super) fn live_jobs(&self) -> impl Iterator<Item = &ObjectHistory> {
        let is_live = |entry: &&ObjectHistory| entry.now().is_some_and(|job| !is_deleting(job));
        self.jobs.iter().filter(is_live)
    }

    /// The pods of existing Jobs that have not ended.
    pub(super) fn live_pods(&self) -> impl Iterator<Item = &ObjectHistory> {
        let of_job = |pod: &ObjectHistory| {
            let jobs = self.jobs.iter().rev();
            let mut mine = jobs.filter(|job| pod.owner.as_ref() == Some(&job.uid));
            mine.next().is_some_and(|job| job.now().is_some())
        };
        let has_ended = |pod: &Value| {
            let phase = pod["status"]["phase"].as_str();
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let is_live =
            move |pod: &&ObjectHistory| pod.now().is_some_and(|p| !has_ended(p)) && of_job(pod);
        self.pods.iter().filter(is_live)
    }
}

/// The histories of all instances.
#[derive(Debug, Default)]
pub(super) struct Truth {
    absorbed: u64,
    histories: BTreeMap<Pair, InstanceHistory>,
}

impl Truth {
    /// Reads the writes since the last time; returns the instances that they concern.
    pub(super) fn absorb(&mut self, cluster: &Cluster) -> Vec<Pair> {
        let mut touched = Vec::new();
        if self.absorbed == cluster.revision() {
            return touched;
        }
        let now_ms = cluster.clock().now_ms();
        for change in cluster.changes_after(self.absorbed) {
            if let Some(pair) = self.absorb_one(change, now_ms)
                && !touched.contains(&pair)
            {
                touched.push(pair);
            }
        }
        self.absorbed = cluster.revision();
        touched
    }

    fn absorb_one(&mut self, change: &Change, at_ms: i64) -> Option<Pair> {
        let is_job = match change.key.0 {
            Resource::Jobs => true,
            Resource::Pods => false,
            _ => return None,
        };
        let object = change.after.as_ref().or(change.before.as_ref())?;
        let pair = pair_of(object)?;
        let history = self.histories.entry(pair.clone()).or_default();
        let entries = if is_job {
            &mut history.jobs
        } else {
            &mut history.pods
        };
        let state = State {
            revision: change.revision,
            at_ms,
            object: change.after.clone(),
        };
        let uid = meta(object, "uid");
        match entries.iter_mut().rev().find(|entry| entry.uid == uid) {
            Some(entry) => entry.states.push(state),
            None => entries.push(ObjectHistory {
                uid: uid.to_owned(),
                owner: controller_uid(object),
                made_by: object["metadata"]["labels"]["batch.kubernetes.io/controller-uid"]
                    .as_str()
                    .map(str::to_owned),
                states: vec![state],
            }),
        }
        Some(pair)
    }

    /// What is stored was replaced by an older copy: each object has another state now, or is gone.
    pub(super) fn restore(&mut self, cluster: &Cluster) {
        self.absorbed = cluster.revision();
        let at_ms = cluster.clock().now_ms();
        let stored = [Resource::Jobs, Resource::Pods];
        let stored = stored
            .into_iter()
            .flat_map(|kind| cluster.objects(kind, NAMESPACE));
        let stored: BTreeMap<&str, &Arc<Value>> = stored
            .map(|(_, object)| (meta(object, "uid"), object))
            .collect();
        let histories = self.histories.values_mut();
        let all = histories.flat_map(|it| it.jobs.iter_mut().chain(&mut it.pods));
        for entry in all {
            let object = stored.get(&*entry.uid).map(|object| Arc::clone(object));
            if entry.now() != object.as_ref() {
                let state = State {
                    revision: self.absorbed,
                    at_ms,
                    object,
                };
                // Gone twice: it never was, so nobody has removed it.
                if state.object.is_none() {
                    entry.states.push(state.clone());
                }
                entry.states.push(state);
            }
        }
    }

    /// The history of one instance.
    pub(super) fn history(&self, pair: &Pair) -> Option<&InstanceHistory> {
        self.histories.get(pair)
    }

    /// The newest revision.
    pub(super) fn revision(&self) -> u64 {
        self.absorbed
    }
}

/// Which instance an object belongs to, by its own annotations.
fn pair_of(object: &Value) -> Option<Pair> {
    let annotations = &object["metadata"]["annotations"];
    let read = |what: &str| {
        let value = annotations[format!("{PREFIX}instance-{what}")].as_str();
        value.map(str::to_owned)
    };
    Some((read("type")?, read("name")?))
}

/// Whether it is being deleted.
pub(super) fn is_deleting(object: &Value) -> bool {
    object["metadata"]["deletionTimestamp"].is_string()
}

/// Whether a Job has finished, or is about to.
pub(super) fn has_ended(job: &Value) -> bool {
    let ends = ["SuccessCriteriaMet", "Complete", "FailureTarget", "Failed"];
    ends.iter().any(|end| has_condition(job, end))
}

/// The address of a pod that is ready and not being deleted.
pub(super) fn ready_address(pod: &Value) -> Option<&str> {
    let is_ready = has_condition(pod, "Ready") && !is_deleting(pod);
    pod["status"]["podIP"].as_str().filter(|_| is_ready)
}
