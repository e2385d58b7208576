//! What really was: the states of all Jobs and pods by instance, read from the API server's own
//! history, as raw JSON.
//!
//! Nothing here knows what the replicas believe, and nothing of the service's own code is used, so
//! that a mistake in it cannot hide on both sides.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::fake_kube::cluster::resource::Resource;
use crate::fake_kube::cluster::{Change, Cluster, meta};
use crate::fake_kube::dynamics::{controller_uid, has_condition};
use crate::harness::PREFIX;

/// An app type and a name.
pub(super) type Pair = (String, String);

/// An object from one revision on; `None` once it is gone.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Of the write that made it so.
    pub(super) revision: u64,
    /// When that was, in milliseconds since 1970.
    pub(super) at_ms: i64,
    /// The object.
    pub(super) object: Option<Arc<Value>>,
}

/// One Job or pod from its first state to its last.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// Its UID.
    pub(super) uid: String,
    /// The UID of its controller, where it has one.
    pub(super) owner: Option<String>,
    states: Vec<State>,
}

impl Life {
    /// Its last state, if it still exists.
    pub(super) fn now(&self) -> Option<&Arc<Value>> {
        self.states.last()?.object.as_ref()
    }

    /// Its first state.
    pub(super) fn first(&self) -> &State {
        self.states.first().expect("a life begins with a state")
    }

    /// The states that were true at some moment after this revision was the newest.
    pub(super) fn since(&self, floor: u64) -> impl Iterator<Item = &State> {
        let before = self.states.partition_point(|state| state.revision <= floor);
        self.states[before.saturating_sub(1)..].iter()
    }

    /// Since when it had been as `is` says, without a break, at some moment after this revision was
    /// the newest; the longest time, in milliseconds since 1970.
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

    /// When it first was as `is` says, in milliseconds since 1970.
    pub(super) fn first_ms(&self, is: impl Fn(&Value) -> bool) -> Option<i64> {
        let mut states = self.states.iter();
        let found = states.find(|state| state.object.as_deref().is_some_and(&is));
        found.map(|state| state.at_ms)
    }
}

/// All that there ever was of one instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// Its Jobs, oldest first.
    pub(super) jobs: Vec<Life>,
    /// Their pods, oldest first.
    pub(super) pods: Vec<Life>,
}

impl Line {
    /// The Jobs that exist and are not being deleted.
    pub(super) fn live_jobs(&self) -> impl Iterator<Item = &Life> {
        let is_live = |life: &&Life| life.now().is_some_and(|job| !is_deleting(job));
        self.jobs.iter().filter(is_live)
    }

    /// The pods that have not ended, and whose Job exists.
    pub(super) fn live_pods(&self) -> impl Iterator<Item = &Life> {
        let of_job = |pod: &Life| {
            let jobs = self.jobs.iter().rev();
            let mut mine = jobs.filter(|job| pod.owner.as_ref() == Some(&job.uid));
            mine.next().is_some_and(|job| job.now().is_some())
        };
        let has_ended = |pod: &Value| {
            let phase = pod["status"]["phase"].as_str();
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        let is_live = move |pod: &&Life| pod.now().is_some_and(|p| !has_ended(p)) && of_job(pod);
        self.pods.iter().filter(is_live)
    }
}

/// All instances.
#[derive(Debug, Default)]
pub(super) struct Truth {
    absorbed: u64,
    lines: BTreeMap<Pair, Line>,
}

impl Truth {
    /// Learns what was written since the last time; the instances that it was about.
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
        let line = self.lines.entry(pair.clone()).or_default();
        let lives = if is_job {
            &mut line.jobs
        } else {
            &mut line.pods
        };
        let state = State {
            revision: change.revision,
            at_ms,
            object: change.after.clone(),
        };
        let uid = meta(object, "uid");
        match lives.iter_mut().rev().find(|life| life.uid == uid) {
            Some(life) => life.states.push(state),
            None => lives.push(Life {
                uid: uid.to_owned(),
                owner: controller_uid(object),
                states: vec![state],
            }),
        }
        Some(pair)
    }

    /// What there was and is of one instance.
    pub(super) fn line(&self, pair: &Pair) -> Option<&Line> {
        self.lines.get(pair)
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

/// Whether a Job says that it is over, or about to be.
pub(super) fn has_ended(job: &Value) -> bool {
    let ends = ["SuccessCriteriaMet", "Complete", "FailureTarget", "Failed"];
    ends.iter().any(|end| has_condition(job, end))
}

/// The address of a pod that is ready and not on its way out.
pub(super) fn ready_address(pod: &Value) -> Option<&str> {
    let is_ready = has_condition(pod, "Ready") && !is_deleting(pod);
    pod["status"]["podIP"].as_str().filter(|_| is_ready)
}
