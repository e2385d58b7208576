//! What happened to the Jobs and pods of a namespace, event by event, and the rules that hold of it.
//!
//! A list shows a moment, and the moment that breaks a rule may be over before the next list. A
//! watch shows every change in order, so a rule that holds after each of its events has held at
//! every moment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use serde_json::Value;

use super::environment::{TestEnvironment, text};
use crate::harness::PREFIX;
use crate::raw_kube::RawKube;

/// How long one watch lasts before the next takes over where it ended.
const WATCH_SECS: u32 = 1;

/// One event of a Job or a pod.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    /// When it was read from the watch.
    pub(super) at: Instant,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(super) change: String,
    /// `<type>/<name>` of the instance; the object's own name where it is none of ours.
    pub(super) instance: String,
    pub(super) uid: String,
    /// The UID of the owner; empty for a Job.
    pub(super) owner: String,
    /// Phase of a pod; empty for a Job.
    pub(super) phase: String,
    /// Whether it has a deletion timestamp.
    pub(super) is_leaving: bool,
}

impl Sighting {
    fn of(event: &Value) -> Self {
        let object = &event["object"];
        let metadata = &object["metadata"];
        let raw = |key: &str| metadata["annotations"][format!("{PREFIX}{key}")].as_str();
        Self {
            at: Instant::now(),
            change: text(&event["type"]),
            instance: match (raw("instance-type"), raw("instance-name")) {
                (Some(app_type), Some(name)) => format!("{app_type}/{name}"),
                _ => text(&metadata["name"]),
            },
            uid: text(&metadata["uid"]),
            owner: metadata["ownerReferences"][0]["uid"]
                .as_str()
                .unwrap_or("")
                .to_owned(),
            phase: object["status"]["phase"].as_str().unwrap_or("").to_owned(),
            is_leaving: metadata["deletionTimestamp"].is_string(),
        }
    }

    /// Whether this pod has, or may yet get, a container that runs.
    fn is_live(&self) -> bool {
        self.change != "DELETED" && !["Succeeded", "Failed"].contains(&self.phase.as_str())
    }
}

/// A watch of one kind in one namespace, from its beginning on.
#[derive(Debug)]
pub(super) struct Recorder {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<Sighting>>>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // A test that has failed waits for nothing more, but the watch must not go on.
        self.is_over.store(true, Ordering::SeqCst);
    }
}

impl Recorder {
    /// Records everything that happens to this kind from now on.
    #[track_caller]
    pub(super) fn start(environment: &TestEnvironment<'_>, plural: &str) -> Self {
        let (api, path) = (environment.api.clone(), environment.all(plural));
        let version = environment.version(plural);
        let is_over = Arc::new(AtomicBool::new(false));
        let seen_over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || record(&api, &path, version, &seen_over));
        let thread = Some(thread);
        Self { is_over, thread }
    }

    /// All that has happened until now.
    #[track_caller]
    pub(super) fn finish(mut self) -> Vec<Sighting> {
        self.is_over.store(true, Ordering::SeqCst);
        let thread = self.thread.take().expect("it is finished once");
        thread.join().expect("the watch has gone on")
    }
}

fn record(api: &RawKube, path: &str, mut version: String, is_over: &AtomicBool) -> Vec<Sighting> {
    let mut seen = Vec::new();
    loop {
        // The watch that begins after the end was asked for has all that came before it.
        let is_last = is_over.load(Ordering::SeqCst);
        let query = format!("watch=1&resourceVersion={version}&timeoutSeconds={WATCH_SECS}");
        for event in api.watch(&format!("{path}?{query}")) {
            let event = event.expect("whole lines");
            assert_ne!(event["type"], "ERROR", "nothing may be missed: {event}");
            version = text(&event["object"]["metadata"]["resourceVersion"]);
            seen.push(Sighting::of(&event));
        }
        if is_last {
            return seen;
        }
    }
}

/// How many objects each instance has had.
pub(super) fn made(seen: &[Sighting]) -> BTreeMap<&str, usize> {
    let mut made = BTreeMap::new();
    for one in seen.iter().filter(|one| one.change == "ADDED") {
        *made.entry(one.instance.as_str()).or_default() += 1;
    }
    made
}

/// The objects of an instance in the order in which they were made, by UID.
pub(super) fn made_for<'a>(seen: &'a [Sighting], instance: &str) -> Vec<&'a str> {
    let added = seen.iter().filter(|one| one.change == "ADDED");
    let of_it = added.filter(|one| one.instance == instance);
    of_it.map(|one| one.uid.as_str()).collect()
}

/// Which of these, an instance or a Job, have had two pods at one moment that run or may yet run.
pub(super) fn with_two_live_pods<'a>(
    seen: &'a [Sighting],
    of: impl Fn(&'a Sighting) -> &'a str,
) -> BTreeSet<&'a str> {
    let mut live: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for one in seen {
        let pods = live.entry(of(one)).or_default();
        if one.is_live() {
            pods.insert(one.uid.as_str());
        } else {
            pods.remove(one.uid.as_str());
        }
        if pods.len() > 1 {
            found.insert(of(one));
        }
    }
    found
}

/// No instance has had a second live pod before the first had ended.
#[track_caller]
pub(super) fn check_one_live_pod(seen: &[Sighting]) {
    if let Some(instance) = with_two_live_pods(seen, |one| &one.instance).first() {
        let story: Vec<_> = seen
            .iter()
            .filter(|one| one.instance == *instance)
            .collect();
        panic!("{instance} has had two live pods at once: {story:#?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(change: &str, uid: &str, phase: &str) -> Sighting {
        Sighting {
            at: Instant::now(),
            change: change.into(),
            instance: "t/ann".into(),
            uid: uid.into(),
            owner: "job".into(),
            phase: phase.into(),
            is_leaving: false,
        }
    }

    #[test]
    fn a_successor_after_the_end_is_fine() {
        let fine = [
            pod("ADDED", "1", "Pending"),
            pod("MODIFIED", "1", "Running"),
            pod("MODIFIED", "1", "Failed"),
            pod("ADDED", "2", "Pending"),
            pod("DELETED", "1", "Failed"),
        ];
        check_one_live_pod(&fine);
        assert_eq!(made_for(&fine, "t/ann"), ["1", "2"]);
        assert_eq!(made(&fine), BTreeMap::from([("t/ann", 2)]));
    }

    #[test]
    #[should_panic(expected = "two live pods at once")]
    fn a_successor_before_the_end_is_not() {
        check_one_live_pod(&[pod("ADDED", "1", "Running"), pod("ADDED", "2", "Pending")]);
    }
}
