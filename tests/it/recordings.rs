//! The statuses computed from what a real cluster reported: each recording of `tests/recordings`,
//! step by step.
//!
//! The objects take the same way as in the service (stores, cache, memory), in the recorded order.
//! The status after each object is a line; repeated lines are omitted. How recordings are made is
//! in `end_to_end/recordings.rs`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config_controller::app::cache::{Cache, Lookup};
use config_controller::app::catalog::Catalog;
use config_controller::app::changes::{jobs_past, pods_past};
use config_controller::app::coordinator::{Context, Memory};
use config_controller::kube::types::{ConfigMap, Event, Job, Pod, Resource};
use config_controller::model::job::JobSettings;
use config_controller::model::names::{AppType, InstanceKey, InstanceName};
use config_controller::model::status::{Finding, InstanceStatus, Prognosis};
use config_controller::store::{self, Change, EventWriter, Sink, StoreEvent, Writer};
use serde_json::Value;

use crate::harness::repository;
use crate::tidy::check_golden;

/// The stores of a service that watches one instance, and what it remembers.
struct Watcher {
    jobs: Writer<Job>,
    pods: Writer<Pod>,
    events: EventWriter,
    cache: Cache,
    memory: Memory,
    now: Instant,
}

impl Watcher {
    fn new() -> Self {
        let (now, events) = (Instant::now(), EventWriter::default());
        let (jobs, pods) = (store::store::new(now).0, store::store::new(now).0);
        let config_maps = store::store::new::<ConfigMap>(now).0;
        let cache = Cache::over(&config_maps, &jobs, &pods, &events, Arc::default()).0;
        Self {
            jobs,
            pods,
            events,
            cache,
            memory: Memory::default(),
            now: Instant::now(),
        }
    }

    /// Applies one line of a recording.
    fn apply_record(&mut self, record: &Value, may_read_events: bool) {
        let (gone, object) = (record["type"] == "DELETED", &record["object"]);
        match record["kind"].as_str() {
            Some("Job") => {
                let changes = apply(&self.jobs, gone, object);
                jobs_past(&changes).for_each(|uid| self.events.forget(uid));
            }
            Some("Pod") => {
                let changes = apply(&self.pods, gone, object);
                pods_past(&changes).for_each(|uid| self.events.forget(uid));
            }
            // As the field selector of the service chooses.
            Some("Event") if may_read_events && object["type"] != "Normal" => {
                apply::<Event>(&self.events, gone, object);
            }
            _ => {}
        }
    }

    /// The status computed from everything up to that time.
    fn line(&mut self, key: &InstanceKey, wall: SystemTime) -> String {
        let seen = self.cache.lookup(key);
        let settings = JobSettings::default();
        let catalog = Catalog::default();
        let context = Context {
            // No recording lasts as long as something is remembered.
            now: self.now,
            wall,
            cache: &self.cache,
            catalog: &catalog,
        };
        let Lookup::Instance(mut instance) = seen else {
            self.memory.note(None, &settings, &context);
            return "absent".to_owned();
        };
        self.memory.note(Some(&mut instance), &settings, &context);
        line(&instance.status)
    }
}

fn apply<K: Resource>(sink: &impl Sink<K>, gone: bool, object: &Value) -> Vec<Change<K>> {
    let decoded = K::decode(object.to_string().as_bytes()).expect("it can be decoded");
    let Some(decoded) = decoded else {
        return Vec::new();
    };
    let metadata = decoded.metadata();
    sink.apply(if gone {
        StoreEvent::Delete {
            name: metadata.name.clone(),
            uid: metadata.uid.clone(),
            version: metadata.resource_version.clone(),
        }
    } else {
        StoreEvent::Apply(decoded)
    })
}

/// `phase reason class`, where there is one with exit code, and whether there are last lines.
fn line(status: &InstanceStatus) -> String {
    match status {
        InstanceStatus::Ready { .. } => "ready".to_owned(),
        InstanceStatus::Starting(finding) => describe(finding),
        InstanceStatus::Failed { finding, .. } => format!("failed {}", describe(finding)),
        InstanceStatus::Finished(ending) => format!("finished {}", ending.reason),
        InstanceStatus::Stopping { .. } => "stopping".to_owned(),
    }
}

fn describe(finding: &Finding) -> String {
    let class = match finding.prognosis {
        Prognosis::Retryable {
            budget: Some(budget),
            ..
        } => format!("maybe:{}", budget.as_str()),
        Prognosis::Retryable { budget: None, .. } => "wait".to_owned(),
        Prognosis::AwaitingReason => "unsaid".to_owned(),
        Prognosis::Terminal => "never".to_owned(),
    };
    let exit = finding
        .exit_code
        .map_or_else(String::new, |code| format!(" exit {code}"));
    let log = if finding.last_output.is_some() {
        " log"
    } else {
        ""
    };
    let (phase, reason) = (finding.phase.as_str(), &finding.reason);
    format!("{phase} {reason} {class}{exit}{log}")
}

/// The lines of a recording.
fn lines(case: &str, may_read_events: bool) -> Vec<String> {
    let path = repository().join(format!("tests/recordings/{case}.json"));
    let text = std::fs::read_to_string(path).expect("a recording is text");
    let records: Vec<Value> = serde_json::from_str(&text).expect("a recording is JSON");
    let key = InstanceKey {
        app_type: AppType::new("app").expect("a type"),
        name: InstanceName::new("ann").expect("a name"),
    };
    let mut watcher = Watcher::new();
    let mut lines: Vec<String> = Vec::new();
    for record in &records {
        watcher.apply_record(record, may_read_events);
        let millis = record["at_ms"].as_u64().expect("a time");
        let wall = SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
        let line = watcher.line(&key, wall);
        if lines.last() != Some(&line) {
            lines.push(line);
        }
    }
    lines
}

fn cases() -> BTreeSet<String> {
    let folder = std::fs::read_dir(repository().join("tests/recordings"));
    let entries = folder.expect("there are recordings");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.to_string_lossy().trim_end_matches(".json").to_owned())
        .collect()
}

/// Every step of every recording.
#[test]
fn each_step_has_its_status() {
    let mut text = String::new();
    for case in cases() {
        text.push_str(&format!("{case}\n"));
        for line in lines(&case, true) {
            text.push_str(&format!("    {line}\n"));
        }
    }
    check_golden("recordings.txt", &text);
}

/// The last response of each case: the failure report, or else how it goes on.
const OUTCOMES: &[(&str, &str)] = &[
    ("bad-command", "failed starting StartError never exit 128"),
    (
        "bad-command-is-retried",
        "starting CrashLoopBackOff maybe:starting exit 128",
    ),
    (
        "crash-loop-to-the-end",
        "failed starting Error never exit 3 log",
    ),
    ("evicted", "ready"),
    ("evicted-and-exits-0", "finished Evicted"),
    ("exit-0", "finished Completed"),
    ("exit-3", "failed starting Error never exit 3 log"),
    (
        "exit-3-with-retries",
        "failed starting Error never exit 3 log",
    ),
    ("image-may-not-be-pulled", "pulling ErrImageNeverPull never"),
    ("init-fails", "failed initialising Error never exit 4 log"),
    (
        "init-fails-and-is-retried",
        "initialising Error maybe:starting exit 4 log",
    ),
    ("invalid-image-name", "pulling InvalidImageName never"),
    // Their POST is refused: there is no Job.
    ("invalid-job", "absent"),
    ("quota-on-jobs", "absent"),
    ("lifetime-is-over", "finished DeadlineExceeded"),
    ("limit-range", "creating FailedCreate never"),
    ("liveness-fails", "failed starting Error never exit 137 log"),
    ("no-config-map-for-volume", "ready"),
    ("no-priority-class", "creating FailedCreate maybe:creating"),
    (
        "no-sandbox",
        "mounting FailedCreatePodSandBox maybe:mounting",
    ),
    ("no-service-account", "ready"),
    (
        "no-seccomp-profile",
        "starting CreateContainerError maybe:starting",
    ),
    ("ok", "ready"),
    ("out-of-memory", "failed starting OOMKilled never exit 137"),
    (
        "pod-deleted-by-hand",
        "failed starting Error never exit 137 log",
    ),
    ("pod-security", "creating FailedCreate never"),
    ("probe-never-passes", "readying Unhealthy maybe:readying"),
    ("quota-on-pods-raised", "ready"),
    ("quota-wants-limits", "creating FailedCreate never"),
    ("registry-401", "pulling ErrImagePull never"),
    ("registry-401-basic", "pulling ErrImagePull never"),
    ("registry-401-no-token", "pulling ErrImagePull never"),
    ("registry-401-scope", "pulling ErrImagePull never"),
    ("registry-403", "pulling ErrImagePull never"),
    ("registry-404", "pulling ErrImagePull never"),
    ("registry-429", "pulling ErrImagePull maybe:pull-error"),
    ("registry-500", "pulling ErrImagePull maybe:pull-error"),
    (
        "registry-never-answers",
        "pulling ContainerCreating maybe:pulling",
    ),
    (
        "registry-refuses-connection",
        "pulling ErrImagePull maybe:pull-error",
    ),
    ("secret-appears", "ready"),
    ("suspended", "ready"),
    (
        "too-large-for-any-node",
        "scheduling Unschedulable maybe:scheduling",
    ),
    ("unschedulable-then-node", "ready"),
];

fn is_failure(line: &str) -> bool {
    line.contains(" never") || line.starts_with("finished")
}

/// A failure report is never withdrawn, and a start that may still succeed is never reported as terminal.
#[test]
fn callers_get_the_expected_last_response() {
    let expected: BTreeSet<String> = OUTCOMES.iter().map(|(c, _)| (*c).to_owned()).collect();
    assert_eq!(cases(), expected);
    for (case, outcome) in OUTCOMES {
        let lines = lines(case, true);
        let reported = lines.iter().position(|line| is_failure(line));
        let outcome_line = &lines[reported.unwrap_or(lines.len() - 1)];
        // ErrImagePull and ImagePullBackOff take turns.
        let outcome_line = outcome_line.replace("ImagePullBackOff", "ErrImagePull");
        assert_eq!(outcome_line, *outcome, "{case}: {lines:#?}");
        let after = reported.map_or(&[][..], |reported| &lines[reported..]);
        let taken_back: Vec<_> = after.iter().filter(|line| !is_failure(line)).collect();
        assert!(taken_back.is_empty(), "{case}: {lines:#?}");
    }
}

/// Without the right to Events the phases and classes are the same, but for pods that are refused:
/// that it is terminal stands nowhere else.
#[test]
fn without_events_the_phases_and_classes_are_the_same() {
    let classes = |case: &str, may_read_events: bool| {
        let mut all: Vec<(String, String)> = Vec::new();
        for line in lines(case, may_read_events) {
            let words: Vec<&str> = line.split(' ').collect();
            let class = words
                .iter()
                .find(|word| word.contains("maybe") || **word == "never");
            let this = (words[0].to_owned(), class.unwrap_or(&"").to_string());
            if all.last() != Some(&this) {
                all.push(this);
            }
        }
        all
    };
    for case in cases() {
        let refused = ["limit-range", "pod-security", "quota-wants-limits"].contains(&&*case);
        let same = classes(&case, true) == classes(&case, false);
        assert_eq!(same, !refused, "{case}");
    }
}
