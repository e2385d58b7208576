//! What the API server reports of a namespace, received by the test itself at the moment when it comes.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use serde_json::Value;

use super::environment::{TestEnvironment, text};
use crate::raw_kube::RawKube;

/// How long one watch lasts before it is opened again: shorter than the client's timeout for silent
/// watches.
const WATCH_SECS: u64 = 25;

/// An event of a watch.
#[derive(Debug)]
pub(super) struct Record {
    /// When it came.
    pub(super) at: Instant,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub(super) change: String,
    /// `Job`, `Pod` or `Event`.
    pub(super) kind: &'static str,
    /// The object, as it was sent.
    pub(super) object: Value,
}

/// All events of the Jobs, Pods and Events of a namespace from now on.
#[track_caller]
pub(super) fn watch(environment: &TestEnvironment<'_>) -> Receiver<Record> {
    let (sender, coming) = channel();
    for (plural, kind) in [("jobs", "Job"), ("pods", "Pod"), ("events", "Event")] {
        let watch = Watch {
            api: environment.api.clone(),
            path: environment.all(plural),
            version: environment.version(plural),
            kind,
        };
        let sender = sender.clone();
        std::thread::spawn(move || watch.run(&sender));
    }
    coming
}

/// A watch that is opened again whenever it ends, until the receiver is dropped.
struct Watch {
    api: RawKube,
    path: String,
    version: String,
    kind: &'static str,
}

impl Watch {
    fn run(mut self, sender: &Sender<Record>) {
        loop {
            let query = format!(
                "watch=1&resourceVersion={}&timeoutSeconds={WATCH_SECS}",
                self.version
            );
            for event in self.api.watch(&format!("{}?{query}", self.path)) {
                let at = Instant::now();
                let mut event = event.expect("whole lines");
                let object = event["object"].take();
                self.version = text(&object["metadata"]["resourceVersion"]);
                let record = Record {
                    at,
                    change: text(&event["type"]),
                    kind: self.kind,
                    object,
                };
                if sender.send(record).is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether the status, reason or message of an object contains this word.
pub(super) fn mentions(object: &Value, word: &str) -> bool {
    let found_out = [&object["status"], &object["reason"], &object["message"]];
    found_out
        .iter()
        .any(|value| value.to_string().contains(word))
}

/// Whether a pod is ready.
pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    conditions.any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
