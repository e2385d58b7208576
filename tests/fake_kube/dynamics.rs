//! The controllers of a cluster, as a pure machine over [`Cluster`]: the Job
//! controller, scheduler and kubelet, the garbage collector, the TTL and the
//! namespace controller.
//!
//! Nothing moves unless [`Dynamics::step`] or [`Dynamics::settle`] is called; the HTTP front may
//! run a thread that calls it. A *step* is one round: each object that is due, by its changes or by
//! the clock, makes one transition. The [`PodScript`] of a pod defines how fast it changes and
//! where it gets stuck.
//!
//! | submodule | what it models |
//! |---|---|
//! | `pod_script` | the future of a pod, from its annotations or a test |
//! | `jobs` | the Job controller |
//! | `pods` | scheduler and kubelet |
//! | `containers` | the effect of each transition on a pod's status |
//! | `collector` | garbage collector, TTL, namespaces |
//!
//! What may not live here: sockets, threads, the machine's clock.

pub(crate) mod collector;
pub(crate) mod containers;
pub(crate) mod jobs;
pub(crate) mod pod_script;
pub(crate) mod pods;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::cluster::resource::Resource;
use super::cluster::{Cluster, Key, Position, meta};
use pod_script::{PodScript, PodScriptRule};
use pods::PodLife;

/// Rounds after which [`Dynamics::settle`] panics, since two controllers must be
/// fighting.
const ROUNDS_MAX: usize = 10_000;

/// The addresses of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PodAddresses {
    /// Each pod gets its own from `<a>.<b>.0.0/16`.
    Each(u8, u8),
    /// All pods have the same one.
    Same(Ipv4Addr),
}

/// A change of a pod, for the hook. The hook is called before any client can see
/// the change, so a server that must listen at the address can be started in it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PodChange {
    /// The containers start to run; the pod has its address.
    Running {
        /// The pod as it will be.
        pod: Arc<Value>,
        /// Its address.
        ip: Ipv4Addr,
    },
    /// The containers of a pod that ran have ended, or the pod is gone.
    Ended {
        /// The pod's last state.
        pod: Arc<Value>,
        /// Its address.
        ip: Ipv4Addr,
    },
}

/// The callback for [`PodChange`]s. It runs while the model is locked: it must
/// not call back into the fake.
pub(crate) type PodHook = Box<dyn FnMut(&PodChange) + Send>;

/// The controllers and their state.
pub(crate) struct Dynamics {
    /// Up to where changes are absorbed; `None`: all objects are examined in the next step.
    seen: Option<Position>,
    dirty: BTreeSet<Key>,
    timers: BTreeSet<(i64, Key)>,
    /// The dependents of an object, by the owner's UID.
    dependents: HashMap<String, BTreeSet<Key>>,
    lives: HashMap<String, PodLife>,
    /// When a Job may make its next pod, by UID.
    retries: HashMap<String, jobs::Retry>,
    pod_scripts: Vec<PodScriptRule>,
    pod_script_default: PodScript,
    pod_refusal: Option<String>,
    addresses: PodAddresses,
    addresses_given: u16,
    hook: Option<PodHook>,
    /// How far the clocks of nodes are ahead, in milliseconds.
    node_clocks: BTreeMap<String, i64>,
}

impl std::fmt::Debug for Dynamics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dynamics")
            .field("seen", &self.seen)
            .field("dirty", &self.dirty.len())
            .field("timers", &self.timers.len())
            .finish_non_exhaustive()
    }
}

impl Dynamics {
    /// Controllers in their initial state.
    pub(crate) fn new(
        addresses: PodAddresses,
        pod_script_default: PodScript,
        hook: Option<PodHook>,
    ) -> Self {
        Self {
            seen: None,
            dirty: BTreeSet::new(),
            timers: BTreeSet::new(),
            dependents: HashMap::new(),
            lives: HashMap::new(),
            retries: HashMap::new(),
            pod_scripts: Vec::new(),
            pod_script_default,
            pod_refusal: None,
            addresses,
            addresses_given: 0,
            hook,
            node_clocks: BTreeMap::new(),
        }
    }

    /// Adds a rule with the script of some pods. A later rule takes precedence over an
    /// earlier one, and both over annotations.
    pub(crate) fn set_pod_script(&mut self, rule: PodScriptRule) {
        self.pod_scripts.push(rule);
        self.rescan();
    }

    /// Rejects every new pod with this message (as Pod Security or a quota on pods
    /// would), or none.
    pub(crate) fn refuse_pods(&mut self, message: Option<String>) {
        self.pod_refusal = message;
        self.rescan();
    }

    /// Re-examines all objects in the next step.
    fn rescan(&mut self) {
        self.seen = None;
    }

    /// When something is due next, by the cluster's clock.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// One round. Returns whether anything happened.
    pub(crate) fn step(&mut self, cluster: &mut Cluster) -> bool {
        self.absorb(cluster);
        let now = cluster.clock().now_ms();
        while let Some((at, key)) = self.timers.first().cloned() {
            if at > now {
                break;
            }
            self.timers.remove(&(at, key.clone()));
            self.dirty.insert(key);
        }
        let before = cluster.revision();
        for key in std::mem::take(&mut self.dirty) {
            self.sync(cluster, &key, now);
        }
        cluster.revision() != before
    }

    /// Steps until nothing more is due at the clock's present time.
    pub(crate) fn settle(&mut self, cluster: &mut Cluster) {
        for _ in 0..ROUNDS_MAX {
            if !self.step(cluster) {
                return;
            }
        }
        panic!("the fake's controllers do not come to rest: two of them undo each other's work");
    }

    fn sync(&mut self, cluster: &mut Cluster, key: &Key, now: i64) {
        if self.collect(cluster, key, now) {
            return;
        }
        match key.0 {
            Resource::Jobs => self.sync_job(cluster, key, now),
            Resource::Pods => self.sync_pod(cluster, key, now),
            Resource::ConfigMaps | Resource::Events | Resource::Namespaces | Resource::Leases => {}
        }
    }

    /// Re-examines `key` at that time. Returns true when it has come already.
    fn is_due(&mut self, key: &Key, at: i64, now: i64) -> bool {
        if now < at {
            self.timers.insert((at, key.clone()));
        }
        now >= at
    }

    /// Collects the changed objects from the history, or all objects if the history no
    /// longer reaches back.
    fn absorb(&mut self, cluster: &Cluster) {
        let changes = self.seen.and_then(|seen| cluster.changes_since(seen));
        if let Some(changes) = changes {
            for change in changes {
                self.absorb_change(change);
            }
        } else {
            self.dependents.clear();
            for resource in Resource::ALL {
                for (key, object) in cluster.objects(resource, "") {
                    self.dirty.insert(key.clone());
                    note_owners(&mut self.dependents, key, object);
                }
            }
        }
        self.seen = Some(cluster.position());
    }

    fn absorb_change(&mut self, change: &super::cluster::Change) {
        self.dirty.insert(change.key.clone());
        for object in [&change.before, &change.after].into_iter().flatten() {
            for owner in owners(object) {
                if let Some(key) = owner_key(&owner, &change.key.1) {
                    self.dirty.insert(key);
                }
                if let Some(set) = self.dependents.get_mut(meta_of(&owner, "uid")) {
                    set.remove(&change.key);
                }
            }
        }
        if let Some(now) = &change.after {
            note_owners(&mut self.dependents, &change.key, now);
        } else if let Some(gone) = &change.before {
            let dependents = self.dependents.get(meta(gone, "uid"));
            self.dirty.extend(dependents.into_iter().flatten().cloned());
            self.retries.remove(meta(gone, "uid"));
            if change.key.0 == Resource::Pods {
                self.pod_is_gone(gone);
            }
            let namespace = change.key.1.clone();
            self.dirty
                .insert((Resource::Namespaces, String::new(), namespace));
        }
    }

    /// The objects that name this UID as an owner.
    fn dependents_of(&self, cluster: &Cluster, uid: &str) -> Vec<(Key, Arc<Value>)> {
        let keys = self.dependents.get(uid).into_iter().flatten();
        keys.filter_map(|key| Some((key.clone(), Arc::clone(cluster.object(key)?))))
            .collect()
    }

    /// Calls the hook.
    fn call_hook(&mut self, change: &PodChange) {
        if let Some(hook) = &mut self.hook {
            hook(change);
        }
    }

    /// The address of the next pod.
    fn new_address(&mut self) -> Ipv4Addr {
        match self.addresses {
            PodAddresses::Same(ip) => ip,
            PodAddresses::Each(a, b) => {
                // Neither .0 nor .255, which some systems do not allow to bind.
                let at = self.addresses_given;
                self.addresses_given = at.wrapping_add(1);
                let last = u8::try_from(at % 254 + 1).expect("1 to 254 fits");
                let third = u8::try_from((at / 254) % 256).expect("0 to 255 fits");
                Ipv4Addr::new(a, b, third, last)
            }
        }
    }
}

fn note_owners(dependents: &mut HashMap<String, BTreeSet<Key>>, key: &Key, object: &Value) {
    for owner in owners(object) {
        let uid = meta_of(&owner, "uid").to_owned();
        dependents.entry(uid).or_default().insert(key.clone());
    }
}

fn meta_of<'a>(reference: &'a Value, field: &str) -> &'a str {
    reference[field].as_str().unwrap_or("")
}

/// The owner references of an object.
fn owners(object: &Value) -> Vec<Value> {
    object["metadata"]["ownerReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// Where the owner that a reference names lives, if the fake knows its kind.
fn owner_key(reference: &Value, namespace: &str) -> Option<Key> {
    let resource = Resource::ALL
        .into_iter()
        .find(|r| reference["kind"] == r.kind())?;
    let name = meta_of(reference, "name").to_owned();
    Some((resource, namespace.to_owned(), name))
}

/// The UID of the controller of an object.
pub(crate) fn controller_uid(object: &Value) -> Option<String> {
    owners(object)
        .into_iter()
        .find(|owner| owner["controller"] == true)
        .map(|owner| meta_of(&owner, "uid").to_owned())
}

/// Sets a condition; `lastTransitionTime` moves only when its status does.
pub(crate) fn set_condition(
    object: &mut Value,
    kind: &str,
    is_true: bool,
    reason: &str,
    message: &str,
    now: &str,
) {
    let status = if is_true { "True" } else { "False" };
    // Only the Job controller writes this time.
    let probed = (object["kind"] == "Job").then_some(now);
    let mut condition = json!({
        "type": kind, "status": status, "lastProbeTime": probed, "lastTransitionTime": now,
    });
    if !reason.is_empty() {
        condition["reason"] = json!(reason);
    }
    if !message.is_empty() {
        condition["message"] = json!(message);
    }
    let list = &mut object["status"]["conditions"];
    if !list.is_array() {
        *list = json!([]);
    }
    let all = list.as_array_mut().expect("was made an array above");
    match all.iter_mut().find(|c| c["type"] == kind) {
        Some(old) => {
            if old["status"] == status {
                condition["lastTransitionTime"] = old["lastTransitionTime"].clone();
            }
            *old = condition;
        }
        None => all.push(condition),
    }
}

/// Whether the condition is there and True.
pub(crate) fn has_condition(object: &Value, kind: &str) -> bool {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|c| c["type"] == kind && c["status"] == "True")
}

/// Records an event about an object, or counts one more of the same.
pub(crate) fn emit_event(
    cluster: &mut Cluster,
    about: &Value,
    kind: &str,
    reason: &str,
    message: &str,
    component: &str,
) {
    let now = cluster.now();
    let namespace = meta(about, "namespace").to_owned();
    let uid = &about["metadata"]["uid"];
    let prefix = format!("{}.", meta(about, "name"));
    let same = cluster
        .objects_named(Resource::Events, &namespace, &prefix)
        .find(|(_, event)| {
            event["involvedObject"]["uid"] == *uid
                && event["reason"] == reason
                && event["message"] == message
        })
        .map(|(key, _)| key.clone());
    if let Some(key) = same {
        cluster.change(&key, |event| {
            let count = event["count"].as_i64().unwrap_or(1);
            event["count"] = json!(count + 1);
            event["lastTimestamp"] = json!(now);
        });
        return;
    }
    let name = format!("{}.{}", meta(about, "name"), cluster.new_suffix());
    let event = json!({
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {
            "kind": about["kind"], "namespace": namespace, "name": meta(about, "name"),
            "uid": uid, "apiVersion": about["apiVersion"],
            "resourceVersion": meta(about, "resourceVersion"),
        },
        "type": kind, "reason": reason, "message": message, "count": 1,
        "firstTimestamp": now, "lastTimestamp": now, "eventTime": null,
        "source": {"component": component},
        "reportingComponent": component, "reportingInstance": "",
    });
    // A namespace that is being deleted accepts no events, which does not matter.
    let _ = cluster.create(Resource::Events, &namespace, event, false);
}

#[cfg(test)]
mod tests;
