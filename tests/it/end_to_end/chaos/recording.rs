//! A recording of a scenario: every change of Jobs and pods, as an independent watch sees it, beside every
//! response of the replicas, in one file with a line of JSON each. `guarantees` reads it afterwards.
//!
//! | line | fields |
//! |---|---|
//! | of a watch | `at_ms`, `kind`, `change`, `object` (without `managedFields`) |
//! | of a response | `at_ms`, `began_ms`, `replica`, `method`, `path`, `prefer`, `code`, `body`, `view_age`; or `error` |
//! | of a gap | `at_ms`, `gap` (the kind): the watch could not go on; the changes that a list shows instead follow |
//! | of the scenario | `at_ms`, `note` |
//! | of its begin | `at_ms`, `unix_ms`: the time of day |
//!
//! All times `at_ms` are of one clock, in milliseconds since the recording began.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::super::environment::{TestEnvironment, text};
use super::super::program::{Got, Program};
use crate::raw_kube::RawKube;

/// How long one watch lasts before the next takes over where it ended.
const WATCH_SECS: u64 = 2;

/// Pause before an API server that is away is called again.
const PAUSE: Duration = Duration::from_millis(50);

/// What a PATCH changes.
const LABELS: &str = r#"{"username": "ann"}"#;

/// The file while it is written, and its clock.
#[derive(Debug)]
struct Lines {
    began: Instant,
    file: Mutex<BufWriter<File>>,
}

impl Lines {
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    fn write(&self, mut line: Value) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that the lines are in the order of their times.
        line["at_ms"] = self.now_ms().into();
        writeln!(file, "{line}").expect("the recording can be written");
    }
}

/// A recording that is still written.
#[derive(Debug)]
pub(super) struct Recording {
    path: PathBuf,
    lines: Arc<Lines>,
    is_over: Arc<AtomicBool>,
    /// How often the state of the cluster was replaced by an older one.
    restores: Arc<AtomicUsize>,
    watches: Vec<JoinHandle<()>>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
    }
}

impl Recording {
    /// Records what happens in this namespace from now on.
    #[track_caller]
    pub(super) fn start(environment: &TestEnvironment<'_>, path: PathBuf) -> Self {
        let file = File::create(&path).expect("the recording can be created");
        let lines = Arc::new(Lines {
            began: Instant::now(),
            file: Mutex::new(BufWriter::new(file)),
        });
        let unix = SystemTime::now().duration_since(UNIX_EPOCH);
        let unix_ms = unix.expect("it is after 1970").as_millis() as u64;
        lines.write(json!({"unix_ms": unix_ms}));
        let is_over = Arc::new(AtomicBool::new(false));
        let restores = Arc::new(AtomicUsize::new(0));
        let watches = [("jobs", "Job"), ("pods", "Pod")].map(|(plural, kind)| {
            let mut watch = Watch {
                api: environment.api.clone(),
                path: environment.all(plural),
                kind,
                version: String::new(),
                known: BTreeMap::new(),
                lines: Arc::clone(&lines),
            };
            // Whatever there is before the scenario is in the recording.
            assert!(watch.compare(false), "the API server lists {plural}");
            let (is_over, restores) = (Arc::clone(&is_over), Arc::clone(&restores));
            std::thread::spawn(move || watch.run(&is_over, &restores))
        });
        Self {
            path,
            lines,
            is_over,
            restores,
            watches: watches.into(),
        }
    }

    /// Adds a line that says what the scenario does now.
    pub(super) fn note(&self, text: &str) {
        self.lines.write(json!({"note": text}));
    }

    /// Says that the cluster has an older state now: no watch tells that.
    pub(super) fn restored(&self) {
        self.note("the state of the cluster is an older one");
        self.restores.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends a request to a replica, and records its response.
    pub(super) fn ask(
        &self,
        replica: usize,
        program: &Program,
        method: &str,
        path: &str,
        prefer: &str,
    ) -> Option<Got> {
        let began_ms = self.lines.now_ms();
        let body = if method == "PATCH" { LABELS } else { "" };
        let got = program.try_send(method, path, prefer, body);
        let mut line = json!({
            "began_ms": began_ms, "replica": replica, "method": method, "path": path, "prefer": prefer,
        });
        match &got {
            Ok(got) => {
                line["code"] = got.code.into();
                line["body"] = got.body.clone();
                line["view_age"] = got.cache_age.clone().into();
            }
            Err(error) => line["error"] = error.to_string().into(),
        }
        self.lines.write(line);
        got.ok()
    }

    /// Ends the recording with all that has happened until now, and returns its lines.
    #[track_caller]
    pub(super) fn finish(mut self) -> Vec<Value> {
        self.is_over.store(true, Ordering::SeqCst);
        for watch in self.watches.drain(..) {
            watch.join().expect("the watch has gone on");
        }
        let mut file = self
            .lines
            .file
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        file.flush().expect("the recording can be written");
        drop(file);
        read(&self.path)
    }
}

/// The lines of a recording.
#[track_caller]
pub(super) fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the recording can be read");
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).expect("each line is JSON"))
        .collect()
}

/// A watch of one kind that goes on whatever happens to the API server.
struct Watch {
    api: RawKube,
    path: String,
    kind: &'static str,
    version: String,
    /// The last state of each object, by UID.
    known: BTreeMap<String, Value>,
    lines: Arc<Lines>,
}

impl Watch {
    fn run(mut self, is_over: &AtomicBool, restores: &AtomicUsize) {
        let mut known_restores = 0;
        loop {
            // The watch that begins after the end was asked for has all that came before it.
            let is_last = is_over.load(Ordering::SeqCst);
            let goes_on = self.follow();
            let now = restores.load(Ordering::SeqCst);
            if (!goes_on || now != known_restores) && self.compare(true) {
                known_restores = now;
            }
            if is_last {
                return;
            }
        }
    }

    /// Follows one watch to its end; false where the next cannot go on from there.
    fn follow(&mut self) -> bool {
        let (path, version) = (&self.path, &self.version);
        let query = format!("watch=1&resourceVersion={version}&timeoutSeconds={WATCH_SECS}");
        let Ok((status, events)) = self.api.try_watch(&format!("{path}?{query}")) else {
            std::thread::park_timeout(PAUSE);
            return true;
        };
        if status != 200 {
            std::thread::park_timeout(PAUSE);
            return status != 410;
        }
        for event in events.flatten() {
            if event["type"] == "ERROR" {
                return event["object"]["code"] != 410;
            }
            self.version = text(&event["object"]["metadata"]["resourceVersion"]);
            self.record(&text(&event["type"]), &event["object"]);
        }
        true
    }

    /// Records what differs from a new list, after a line that says so if it stands for a watch; false where
    /// there was none.
    fn compare(&mut self, is_gap: bool) -> bool {
        let got = self.api.try_send("GET", &self.path, "", "");
        let Some(mut got) = got.ok().filter(|got| got.code == 200) else {
            return false;
        };
        self.version = text(&got.body["metadata"]["resourceVersion"]);
        let Value::Array(items) = got.body["items"].take() else {
            return false;
        };
        if is_gap {
            self.lines.write(json!({"gap": self.kind}));
        }
        for (change, object) in differences(&self.known, items) {
            self.record(change, &object);
        }
        true
    }

    fn record(&mut self, change: &str, object: &Value) {
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        let uid = text(&object["metadata"]["uid"]);
        match change {
            "DELETED" => self.known.remove(&uid),
            _ => self.known.insert(uid, object.clone()),
        };
        self.lines
            .write(json!({"kind": self.kind, "change": change, "object": object}));
    }
}

/// What has changed between these objects, by UID, and a list. What has gone comes first: it was gone before
/// its successor came.
fn differences(known: &BTreeMap<String, Value>, items: Vec<Value>) -> Vec<(&'static str, Value)> {
    let mut gone = known.clone();
    let mut others = Vec::new();
    for object in items {
        let old = gone.remove(&text(&object["metadata"]["uid"]));
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        match old {
            None => others.push(("ADDED", object)),
            Some(old) if version(&old) != version(&object) => others.push(("MODIFIED", object)),
            Some(_) => {}
        }
    }
    let mut all: Vec<_> = gone.into_values().map(|old| ("DELETED", old)).collect();
    all.append(&mut others);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the name seems to have had two pods at once.
    #[test]
    fn after_a_gap_what_has_gone_is_recorded_before_what_has_come() {
        let object = |uid: &str, version: &str| json!({"metadata": {"uid": uid, "resourceVersion": version}});
        let known = [("1", "5"), ("2", "6"), ("3", "7")];
        let known = known.map(|(uid, version)| (uid.to_owned(), object(uid, version)));
        let items = vec![object("4", "9"), object("2", "8"), object("3", "7")];
        let found = differences(&known.into_iter().collect(), items);
        let all: Vec<_> = found
            .iter()
            .map(|(change, it)| (*change, text(&it["metadata"]["uid"])))
            .collect();
        let expected = [("DELETED", "1"), ("ADDED", "4"), ("MODIFIED", "2")];
        assert_eq!(all, expected.map(|(change, uid)| (change, uid.to_owned())));
    }
}
