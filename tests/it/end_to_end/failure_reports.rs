//! The reason of a start that has not succeeded: on a real cluster callers get the right one, and
//! quickly.
//!
//! | module | what it shows |
//! |---|---|
//! | `terminal` | a start that cannot succeed is reported within a second of the status that says so |
//! | `retryable` | one that still may succeed is waited for, and its caller gets the reason |
//!
//! `FAILURE_TRIES=20` makes the runs as long as the published figures need; the default is 5.

mod retryable;
mod terminal;

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::environment::TestEnvironment;
use super::eventually;
use super::program::{Got, Program};
use super::watcher::{Record, mentions, watch};

/// How many tries the published figures are of.
const TRIES_FULL: usize = 20;

/// The kubelet's reasons for an image that it could not pull.
const PULL_ERRORS: &[&str] = &["ErrImagePull", "ImagePullBackOff"];

/// How often each terminal start is tried.
fn tries() -> usize {
    let asked = std::env::var("FAILURE_TRIES").ok();
    asked.map_or(5, |tries| tries.parse().expect("FAILURE_TRIES is a number"))
}

/// Offers a template under a type, with settings for its Jobs.
#[track_caller]
fn offer(
    environment: &TestEnvironment<'_>,
    app_type: &str,
    template: &Value,
    settings: &[(&str, &str)],
) {
    let annotations = settings
        .iter()
        .map(|(name, value)| {
            let key = format!("config-controller.semafor.ch/{name}");
            (key, json!(value))
        })
        .collect::<serde_json::Map<_, _>>();
    let config_map = json!({
        "metadata": {
            "name": format!("template-{app_type}"),
            "labels": {"config-controller.semafor.ch/template": "true"},
            "annotations": annotations,
        },
        "data": {format!("{app_type}.yaml"): template.to_string()},
    });
    let path = environment.all("configmaps");
    environment.api.post(&path, &config_map).expect(201);
}

/// The records that the test itself has received from the API server.
#[derive(Clone, Debug, Default)]
struct Observed(Arc<Mutex<Vec<Record>>>);

impl Observed {
    /// Watches a namespace from now on.
    #[track_caller]
    fn start(environment: &TestEnvironment<'_>) -> Self {
        let observed = Self::default();
        let (to, coming): (_, Receiver<Record>) = (observed.clone(), watch(environment));
        std::thread::spawn(move || {
            for record in coming {
                to.records().push(record);
            }
        });
        observed
    }

    fn records(&self) -> std::sync::MutexGuard<'_, Vec<Record>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When an object of that kind and Job first contained that word.
    #[track_caller]
    fn when(&self, job: &str, (kind, word): (&str, &str)) -> Instant {
        // The program may have received it a moment before us.
        eventually("the status that decides", || {
            let records = self.records();
            let of_it = records.iter().filter(|record| {
                record.kind == kind && job_of(record) == job && mentions(&record.object, word)
            });
            of_it.map(|record| record.at).min()
        })
    }
}

/// The name of the Job that a record is about; unknown for the event of a pod.
fn job_of(record: &Record) -> &str {
    let name = match record.kind {
        "Pod" => &record.object["metadata"]["labels"]["job-name"],
        "Event" => &record.object["involvedObject"]["name"],
        _ => &record.object["metadata"]["name"],
    };
    name.as_str().unwrap_or_default()
}

/// The failure report that a caller must receive.
#[derive(Clone, Copy, Debug)]
struct ExpectedReport {
    phase: &'static str,
    /// One of these: the kubelet's reason may change while the problem is the same.
    reasons: &'static [&'static str],
    /// Parts of the message.
    message_parts: &'static [&'static str],
    exit_code: Option<i64>,
    log: Option<&'static str>,
}

impl ExpectedReport {
    const fn new(
        phase: &'static str,
        reasons: &'static [&'static str],
        message_parts: &'static [&'static str],
    ) -> Self {
        Self {
            phase,
            reasons,
            message_parts,
            exit_code: None,
            log: None,
        }
    }

    /// The same, of a container that ended.
    const fn ended(mut self, exit_code: i64, log: Option<&'static str>) -> Self {
        self.exit_code = Some(exit_code);
        self.log = log;
        self
    }

    fn has_reason_of(&self, got: &Got) -> bool {
        let reason = got.body["reason"].as_str().unwrap_or_default();
        self.reasons.contains(&reason)
    }

    /// Whether the message has these parts.
    fn has_message_of(&self, got: &Got) -> bool {
        let msg = got.body["msg"].as_str().unwrap_or_default();
        self.has_reason_of(got) && self.message_parts.iter().all(|part| msg.contains(part))
    }

    /// Checks what a caller received, with this word for clients of 2.7.1.
    #[track_caller]
    fn check(&self, status: &str, got: &Got) {
        let body = &got.body;
        assert_eq!(got.code, 202, "{body}");
        let expected = [&body["status"], &body["phase"]];
        assert_eq!(expected, [status, self.phase], "{body}");
        assert!(self.has_reason_of(got), "not {:?}: {body}", self.reasons);
        let msg = body["msg"].as_str().unwrap_or_default();
        for part in self.message_parts {
            assert!(msg.contains(part), "no {part:?} in {body}");
        }
        assert_eq!(body["exitCode"].as_i64(), self.exit_code, "{body}");
        assert_eq!(body["log"].as_str(), self.log, "{body}");
    }
}

/// Requests an instance repeatedly until a response satisfies `done`; returns all responses.
#[track_caller]
fn ask_until(program: &Program, path: &str, what: &str, done: impl Fn(&Got) -> bool) -> Vec<Got> {
    let mut responses = Vec::new();
    eventually(what, || {
        let got = program.get_prefer(path, "wait=1");
        let is_done = done(&got);
        responses.push(got);
        is_done.then_some(())
    });
    responses
}

/// Whether this is a failure report.
fn is_failure(got: &Got) -> bool {
    got.body["status"] == "app_error"
}
