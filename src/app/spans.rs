//! [`Spans`]: the starts of this replica, told as traces when they are over.
//!
//! Beside [`super::counting`], which tells the same in metrics. A start belongs to the request for
//! which our call made the Job, whether that still waits or not; requests that came for it later are
//! links. Spans are made when the start has ended, from what was taken down until then, so nothing
//! is left open anywhere. Nothing is decided here, nothing can fail, and without traces nothing is done.

use super::Origin;
use super::starts::News;
use crate::clock::Clock;
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::status::Phase;
use crate::traces::{Attributes, Context, Step, Traces, Value, Work};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// Requests that a start is linked to; of more only the number is told.
const LINKS_MAX: usize = 32;

/// Phases that are told of one start; a failing image can go back and forth for days.
const STEPS_MAX: usize = 64;

/// The starts that are under way; shared by the coordinator's thread and the workers.
#[derive(Debug)]
pub(super) struct Spans {
    traces: Traces,
    clock: Arc<dyn Clock>,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    /// The call that is to make the Job is under way: at most one a name.
    asked: HashMap<InstanceKey, Record>,
    /// The Job was made, and its start is followed: see [`super::starts::FOLLOWED_MAX`].
    open: HashMap<InstanceKey, Record>,
}

/// What there is to tell of one start.
#[derive(Debug)]
struct Record {
    parent: Context,
    links: Vec<Context>,
    /// Requests that came for it besides the first, those without a link included.
    joined: i64,
    /// The same moment on both clocks.
    begun: (Instant, SystemTime),
    uid: Option<Uid>,
    steps: Vec<Step>,
    events: Vec<(&'static str, SystemTime)>,
}

impl Record {
    fn new(parent: Context, begun: (Instant, SystemTime)) -> Self {
        Self {
            parent,
            links: Vec::new(),
            joined: 0,
            begun,
            uid: None,
            steps: Vec::new(),
            events: Vec::new(),
        }
    }

    fn join(&mut self, by: &Origin) {
        let Some(trace) = by.trace.as_ref().filter(|trace| **trace != self.parent) else {
            return;
        };
        self.joined += 1;
        if self.links.len() < LINKS_MAX {
            self.links.push(trace.clone());
        }
    }

    fn wall(&self, at: Instant) -> SystemTime {
        let (begun, wall) = self.begun;
        wall + at.saturating_duration_since(begun)
    }

    fn step(&mut self, phase: Phase, took: Duration, end: Instant) {
        if self.steps.len() < STEPS_MAX {
            let begin = end.checked_sub(took).unwrap_or(end);
            let (begin, end) = (self.wall(begin), self.wall(end));
            let name = phase.as_str();
            self.steps.push(Step { name, begin, end });
        }
    }

    /// The start is over.
    fn work(self, key: &InstanceKey, result: &'static str, reason: &str, end: Instant) -> Work {
        let text = |text: &str| Value::Text(text.to_owned());
        let mut attributes: Attributes = vec![
            ("config_controller.type", text(key.app_type.as_str())),
            ("config_controller.name", text(key.name.as_str())),
            ("config_controller.result", Value::Word(result)),
            ("config_controller.joined", Value::Number(self.joined)),
            ("k8s.job.name", Value::Text(key.job_name())),
        ];
        if let Some(uid) = &self.uid {
            attributes.push(("k8s.job.uid", Value::Text(uid.to_string())));
        }
        if !reason.is_empty() {
            attributes.push(("config_controller.reason", text(reason)));
        }
        // A start that was stopped, or that ended well too soon, is no failure.
        let has_failed = matches!(result, "failed" | "denied");
        if has_failed {
            attributes.push(("error.type", text(reason)));
        }
        Work {
            name: "start",
            end: self.wall(end),
            begin: self.begun.1,
            parent: self.parent,
            links: self.links,
            attributes,
            steps: self.steps,
            events: self.events,
            error: has_failed.then(|| reason.to_owned()),
        }
    }
}

impl Spans {
    pub(super) fn new(traces: Traces, clock: Arc<dyn Clock>) -> Self {
        Self {
            traces,
            clock,
            records: Mutex::default(),
        }
    }

    /// Whether anybody wants to know.
    pub(super) const fn is_on(&self) -> bool {
        self.traces.is_on()
    }

    /// A call is about to be made that shall make the Job, for this request; these wait for it.
    pub(super) fn asked<'a>(
        &self,
        key: &InstanceKey,
        by: &Origin,
        waiting: impl Iterator<Item = &'a Origin>,
    ) {
        let Some(parent) = &by.trace else {
            return;
        };
        let mut record = Record::new(parent.clone(), self.now());
        waiting.for_each(|by| record.join(by));
        self.lock().asked.insert(key.clone(), record);
    }

    /// One more request has come for this name.
    pub(super) fn joined(&self, key: &InstanceKey, by: &Origin) {
        let mut records = self.lock();
        let Records { asked, open } = &mut *records;
        if let Some(record) = asked.get_mut(key).or_else(|| open.get_mut(key)) {
            record.join(by);
        }
    }

    /// Our call, begun and answered at these moments, has made this Job.
    pub(super) fn begun(&self, key: &InstanceKey, uid: &Uid, begun: Instant, admitted: Instant) {
        let mut records = self.lock();
        if let Some(mut record) = records.asked.remove(key) {
            record.start(begun, admitted);
            record.uid = Some(uid.clone());
            records.open.insert(key.clone(), record);
        }
    }

    /// Our call, begun and answered at these moments, has made no Job that is ours to follow; with
    /// the result and the reason, where that is an end.
    pub(super) fn not_begun(
        &self,
        key: &InstanceKey,
        begun: Instant,
        answered: Instant,
        end: Option<(&'static str, &str)>,
    ) {
        let record = self.lock().asked.remove(key);
        if let (Some(mut record), Some((result, reason))) = (record, end) {
            record.start(begun, answered);
            self.traces.tell(record.work(key, result, reason, answered));
        }
    }

    /// What is new about a start.
    pub(super) fn told(&self, key: &InstanceKey, news: &News, now: Instant) {
        let mut records = self.lock();
        let Some(record) = records.open.get_mut(key) else {
            return;
        };
        if let Some((phase, took)) = news.phase {
            record.step(phase, took, now);
        }
        if news.verdict.is_some() {
            let at = record.wall(now);
            record.events.push(("verdict", at));
        }
        if let Some(ended) = &news.ended {
            self.end(&mut records, key, ended.result(), ended.reason(), now);
        }
    }

    /// The start of this name is followed no longer.
    pub(super) fn lost(&self, key: &InstanceKey, reason: &str, now: Instant) {
        self.end(&mut self.lock(), key, "unknown", reason, now);
    }

    /// This replica ends; starts that are under way go on without it.
    pub(super) fn leave(&self) {
        let now = self.clock.now();
        let mut records = self.lock();
        let keys: Vec<InstanceKey> = records.open.keys().cloned().collect();
        for key in keys {
            self.end(&mut records, &key, "unknown", "replica_ended", now);
        }
    }

    fn end(
        &self,
        records: &mut Records,
        key: &InstanceKey,
        result: &'static str,
        reason: &str,
        now: Instant,
    ) {
        if let Some(record) = records.open.remove(key) {
            self.traces.tell(record.work(key, result, reason, now));
        }
    }

    fn now(&self) -> (Instant, SystemTime) {
        (self.clock.now(), self.clock.wall_now())
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Record {
    /// The call was made at this moment, after it had waited for a worker, and answered at that one.
    fn start(&mut self, begun: Instant, answered: Instant) {
        self.begun = (begun, self.wall(begun));
        let took = answered.saturating_duration_since(begun);
        self.step(Phase::Admitting, took, answered);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture;

    fn context(span: u8) -> Context {
        Context {
            trace_id: [7; 16],
            span_id: [span; 8],
            is_sampled: true,
            is_remote: false,
            state: None,
        }
    }

    fn origin(span: u8) -> Origin {
        Origin {
            trace: Some(context(span)),
            ..fixture::origin("ann")
        }
    }

    #[test]
    fn what_is_taken_down_of_a_start_has_bounds() {
        let (now, wall) = (Instant::now(), SystemTime::UNIX_EPOCH);
        let mut record = Record::new(context(1), (now, wall));
        let second = Duration::from_secs(1);
        for end in 1..200 {
            record.step(Phase::Pulling, second, now + second * end);
            record.join(&origin(u8::try_from(end).unwrap()));
        }
        record.join(&fixture::origin("ann"));
        let key = InstanceKey::new("hello", "ann").unwrap();
        let work = record.work(&key, "ready", "", now + second * 200);
        assert_eq!((work.steps.len(), work.links.len()), (STEPS_MAX, LINKS_MAX));
        // The first is the parent itself, and the last has no span.
        assert_eq!(work.links[0], context(2));
        let joined = ("config_controller.joined", Value::Number(198));
        assert!(work.attributes.contains(&joined));
        assert_eq!(work.steps[1].begin, wall + second);
        assert_eq!(work.steps[1].end, wall + second * 2);
        assert_eq!((work.begin, work.end), (wall, wall + second * 200));
        assert_eq!(work.error, None);
    }
}
