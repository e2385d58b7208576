//! What a real API server, Job controller, scheduler and kubelet report during successful and
//! failing starts, recorded as data for the tests of `model/status.rs`.
//!
//! `tests/recordings/<case>.json` holds all Jobs, Pods and Events of one case in the order of their
//! arrival, one a line: `{"at_ms", "type", "kind", "object"}`. The time counts from the POST of the
//! Job, the type is that of the watch, the object is as sent by the API server, without
//! `managedFields`. A rejected POST is recorded as its `Status`. Names that differ with each run
//! are replaced: the namespace is called `apps`, the registry `127.0.0.1:5000`.
//!
//! `RECORD=1 cargo test --test it recordings` records all of them again; `RECORD=a,b` only those.
//! Each case is a function in `cases`.

mod cases;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use config_controller::model::job::{JobParts, JobSettings, manifest};
use config_controller::model::names::{AppType, InstanceKey, InstanceName};
use serde_json::{Value, json};

use super::environment::{TestEnvironment, text};
use super::registry::Registry;
use super::watcher::{Record, is_ready, mentions, watch};
use crate::cluster;
use crate::raw_kube::Got;
use cases::{CASES, Case};

/// Largest recording, in bytes: it must stay reviewable.
const BYTES_MAX: usize = 100_000;

/// How long a case waits for a condition.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

/// After this silence no more records of a change are expected.
const SILENCE: Duration = Duration::from_millis(1500);

/// How long a case that never falls silent is recorded after its end.
const TAIL_MAX: Duration = Duration::from_secs(4);

/// How many cases are recorded concurrently.
const AT_ONCE: usize = 6;

/// One case while it is recorded, in a namespace of its own.
#[derive(Debug)]
struct Fixture<'a> {
    environment: Rc<TestEnvironment<'a>>,
    registry: &'a Registry,
    began: Instant,
    coming: Receiver<Record>,
    records: Vec<Record>,
}

impl<'a> Fixture<'a> {
    #[track_caller]
    fn new(cluster: &'a cluster::Cluster, registry: &'a Registry) -> Self {
        let environment = TestEnvironment::new(cluster);
        let coming = watch(&environment);
        Self {
            environment: Rc::new(environment),
            registry,
            began: Instant::now(),
            coming,
            records: Vec::new(),
        }
    }

    /// Sends the Job that the service would send for this template.
    #[track_caller]
    fn post(&mut self, template: Value, settings: &JobSettings) -> Got {
        let key = InstanceKey {
            app_type: AppType::new("app").expect("it is a type"),
            name: InstanceName::new("ann").expect("it is a name"),
        };
        let parts = JobParts {
            variables: &config_controller::model::template::Variables::default(),
            is_restart: false,
            key: &key,
            settings,
            started_by: "127.0.0.1",
            owner: None,
            template_revision: "0123456789abcdef",
            values_revision: "0123456789abcdef0123456789abcdef",
            failures: 0,
        };
        self.began = Instant::now();
        let job = manifest(template, &parts);
        self.environment
            .api
            .post(&self.environment.all("jobs"), &job)
    }

    /// The same, and it must be taken.
    #[track_caller]
    fn start(&mut self, template: Value) {
        self.start_with(template, &JobSettings::default());
    }

    #[track_caller]
    fn start_with(&mut self, template: Value, settings: &JobSettings) {
        self.post(template, settings).expect(201);
    }

    /// The same, and it must be refused; the `Status` is what there is to record.
    #[track_caller]
    fn start_refused(&mut self, template: Value, code: u16) {
        let object = self.post(template, &JobSettings::default()).expect(code);
        self.records.push(Record {
            at: Instant::now(),
            change: "ADDED".into(),
            kind: "Status",
            object,
        });
    }

    /// Changes the object of that name.
    #[track_caller]
    fn change(&self, plural: &str, name: &str, change: &Value) {
        let path = format!("{}/{name}", self.environment.all(plural));
        self.environment.api.patch(&path, change).expect(200);
    }

    /// Records until an object of that kind satisfies the condition; returns it.
    #[track_caller]
    fn until(&mut self, what: &str, kind: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TEST_TIMEOUT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(record) = self.coming.recv_timeout(left) else {
                let last = self.records.iter().rev().take(5);
                let last: Vec<_> = last.map(|record| record.object.to_string()).collect();
                panic!(
                    "{what} did not happen within {TEST_TIMEOUT:?}; the last records: {last:#?}"
                );
            };
            let found = (record.kind == kind && record.change != "DELETED")
                .then(|| is_it(&record.object).then(|| record.object.clone()))
                .flatten();
            self.records.push(record);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Records until the pod contains this word.
    #[track_caller]
    fn until_pod(&mut self, word: &str) -> Value {
        self.until(word, "Pod", |pod| mentions(pod, word))
    }

    /// Records until the Job contains this word.
    #[track_caller]
    fn until_job(&mut self, word: &str) -> Value {
        self.until(word, "Job", |job| mentions(job, word))
    }

    /// Records until an event contains this word.
    #[track_caller]
    fn until_event(&mut self, word: &str) -> Value {
        self.until(word, "Event", |event| mentions(event, word))
    }

    /// Records until a pod is ready, and returns its name.
    #[track_caller]
    fn until_ready(&mut self) -> String {
        let pod = self.until("a ready pod", "Pod", is_ready);
        text(&pod["metadata"]["name"])
    }

    /// Records for this duration.
    fn for_a_while(&mut self, how_long: Duration) {
        let end = Instant::now() + how_long;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.coming.recv_timeout(left) {
                Ok(record) => self.records.push(record),
                Err(RecvTimeoutError::Timeout) => return,
                Err(error) => panic!("the watches ended: {error}"),
            }
        }
    }

    /// Records the remaining records of the last change.
    fn settle(&mut self) {
        let end = Instant::now() + TAIL_MAX;
        while Instant::now() < end {
            let Ok(record) = self.coming.recv_timeout(SILENCE) else {
                return;
            };
            self.records.push(record);
        }
    }

    /// The recording as text: an array with one record a line.
    fn written(&self) -> String {
        let mut lines = Vec::new();
        let mut records: Vec<&Record> = self.records.iter().collect();
        // Three watches are read by three threads.
        records.sort_by_key(|record| record.at);
        for record in records {
            let mut object = record.object.clone();
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.shift_remove("managedFields");
            }
            let at = record.at.saturating_duration_since(self.began);
            let at_ms = u64::try_from(at.as_millis()).expect("a case takes no ages");
            let line = json!({
                "at_ms": at_ms, "type": record.change, "kind": record.kind, "object": object});
            lines.push(line.to_string());
        }
        format!("[\n{}\n]\n", lines.join(",\n"))
            .replace(&self.environment.namespace, "apps")
            .replace(&self.registry.host(), "127.0.0.1:5000")
    }
}

fn folder() -> PathBuf {
    crate::harness::repository().join("tests/recordings")
}

/// Which cases the environment asks for.
fn wanted() -> Vec<&'static Case> {
    let asked = std::env::var("RECORD").unwrap_or_default();
    let names: BTreeSet<&str> = asked.split(',').filter(|name| !name.is_empty()).collect();
    let all = names.contains("1");
    CASES
        .iter()
        .filter(|case| all || names.contains(case.name))
        .collect()
}

/// Runs these cases, a few concurrently, and writes their records.
fn record(cluster: &cluster::Cluster, wanted: &[&Case]) {
    let _alone = cluster::alone();
    let registry = Registry::start();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = wanted.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let mut fixture = Fixture::new(cluster, &registry);
                    (case.play)(&mut fixture);
                    fixture.settle();
                    let path = folder().join(format!("{}.json", case.name));
                    std::fs::write(&path, fixture.written()).expect("a recording can be written");
                    cluster::print_line(&format!("RECORDED {}", path.display()));
                }
            });
        }
    });
}

#[test]
fn each_case_has_its_recording() {
    let wanted = wanted();
    if !wanted.is_empty() {
        record(cluster::shared(), &wanted);
    }
    let entries = std::fs::read_dir(folder()).expect("there are recordings");
    let entries = entries.map(|entry| entry.expect("an entry").file_name());
    let files: BTreeSet<String> = entries
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    let expected = CASES.iter().map(|case| format!("{}.json", case.name));
    assert_eq!(files, expected.collect());
    CASES.iter().for_each(check_recording);
}

/// Checks that a recording is one of its case, and no more than that.
#[track_caller]
fn check_recording(case: &Case) {
    let name = case.name;
    let path = folder().join(format!("{name}.json"));
    let text = std::fs::read_to_string(path).expect("a recording is text");
    assert!(text.len() <= BYTES_MAX, "{name}: {} bytes", text.len());
    assert!(!text.contains("managedFields"), "{name}");
    let records: Vec<Value> = serde_json::from_str(&text).expect("a recording is JSON");
    assert!(
        records.is_sorted_by_key(|record| record["at_ms"].as_u64()),
        "{name}: not in order"
    );
    assert!(
        records
            .iter()
            .any(|record| mentions(&record["object"], case.word)),
        "{name}: no record contains {}",
        case.word
    );
}
