//! The labels that callers set, and whether one is lost.
//!
//! Each request sets its keys to its own number, so each value names its request. Nobody removes a
//! label. What was written is read from the actual history ([`super::truth`]).

use std::collections::{BTreeMap, BTreeSet};

use config_controller::app::cache::Ready;
use config_controller::app::{Expectation, Precondition};
use config_controller::model::labels::{MetaChange, PAIRS_MAX};
use serde_json::{Map, Value, json};

use super::promises::{Breach, Promise, check};
use super::truth::InstanceHistory;
use crate::harness::PREFIX;

/// A request for labels.
#[derive(Debug)]
struct Sent {
    keys: Vec<String>,
    /// When it was sent, and when its caller got a response; counted in such events.
    sent_at: u64,
    answered_at: Option<u64>,
    /// The only state of the instance that it may change.
    known: Option<String>,
}

/// All requests for labels, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Labels {
    sent: BTreeMap<u64, Sent>,
    events: u64,
    /// The states that requests have changed which knew them.
    fenced: BTreeSet<String>,
}

/// The keys of a request: one of two, or in a crowd sometimes so many that three of them exceed the
/// bound.
fn keys(serial: u64, is_crowded: bool) -> Vec<String> {
    match (is_crowded, serial % 6) {
        (true, 5) => (0..25).map(|n| format!("k{}-{n}", serial % 7)).collect(),
        (_, 0 | 3) => vec!["user".to_owned()],
        _ => vec!["session".to_owned()],
    }
}

impl Labels {
    /// The change that the request with this number asks for.
    pub(super) fn send(&mut self, serial: u64, is_crowded: bool) -> MetaChange {
        let keys = keys(serial, is_crowded);
        let value = |key: &String| (key.clone(), json!(serial.to_string()));
        let body: Map<String, Value> = keys.iter().map(value).collect();
        self.events += 1;
        let sent = Sent {
            keys,
            sent_at: self.events,
            answered_at: None,
            known: None,
        };
        self.sent.insert(serial, sent);
        MetaChange::from_body(&body).expect("a label of a schedule is one")
    }

    /// What the request with this number expects: some know the instance as their replica shows it.
    pub(super) fn expect(
        &mut self,
        serial: u64,
        ready: Option<Ready>,
        is_fenced: bool,
    ) -> Expectation {
        let known = ready.and_then(|ready| ready.version.fingerprint);
        let known = known.filter(|_| is_fenced || serial % 4 == 1);
        match (known, self.sent.get_mut(&serial)) {
            (Some(known), Some(sent)) => {
                let tag = known.to_string();
                let mut precondition = Precondition::default();
                precondition.add(&tag);
                sent.known = Some(tag);
                Expectation::Precondition(precondition.into())
            }
            _ => Expectation::None,
        }
    }

    /// [`Promise::FenceHolds`]: each change makes a state that was not there before.
    pub(super) fn is_fenced(&mut self, serial: u64) -> Result<(), Breach> {
        let known = self.sent.get(&serial).and_then(|sent| sent.known.clone());
        let state = known.clone().unwrap_or_default();
        let is_first = known.is_some() && self.fenced.insert(state);
        check(Promise::FenceHolds, is_first, || {
            format!("request {serial} knew {known:?}")
        })
    }

    /// The caller of this request has its response.
    pub(super) fn answer(&mut self, serial: u64) {
        self.events += 1;
        if let Some(sent) = self.sent.get_mut(&serial) {
            sent.answered_at = Some(self.events);
        }
    }

    /// [`Promise::LabelIsSet`]; `requested_at` is the revision at the time of the request. Of two
    /// requests that are merged, only the value of the later one is written.
    pub(super) fn are_set(
        &self,
        serial: u64,
        history: Option<&InstanceHistory>,
        requested_at: u64,
    ) -> Result<(), Breach> {
        let keys = self.sent.get(&serial).map_or(&[][..], |sent| &sent.keys);
        let is_set = |key: &String| {
            let mut pods = history.into_iter().flat_map(|history| &history.pods);
            pods.any(|pod| {
                let states = pod.since(requested_at);
                let mut pods = states.filter_map(|state| state.object.as_deref());
                pods.any(|pod| {
                    labels_of(pod)
                        .get(key)
                        .is_some_and(|value| *value >= serial)
                })
            })
        };
        let missing = keys.iter().find(|key| !is_set(key));
        check(Promise::LabelIsSet, missing.is_none(), || {
            format!("{missing:?} of request {serial}")
        })
    }

    /// [`Promise::LabelsAreKept`], of all writes after this revision.
    pub(super) fn are_kept(&self, history: &InstanceHistory, after: u64) -> Result<(), Breach> {
        let pods = history.pods.iter();
        for (before, now) in pods.flat_map(|pod| pod.changes_after(after)) {
            let now = labels_of(now);
            for (key, value) in labels_of(before) {
                let kept = now
                    .get(&key)
                    .is_some_and(|now| self.may_replace(value, *now));
                check(Promise::LabelsAreKept, kept, || {
                    format!("{key}: {value} became {:?}", now.get(&key))
                })?;
            }
        }
        Ok(())
    }

    /// Whether the value of one request may be replaced by that of another: not if that one had its
    /// response before this one was sent.
    fn may_replace(&self, value: u64, other: u64) -> bool {
        let (Some(sent), Some(other_sent)) = (self.sent.get(&value), self.sent.get(&other)) else {
            return false;
        };
        let answered_at = other_sent.answered_at;
        value <= other || answered_at.is_none_or(|answered_at| answered_at > sent.sent_at)
    }
}

/// [`Promise::LabelsAreBounded`].
pub(super) fn are_bounded(history: &InstanceHistory) -> Result<(), Breach> {
    let pods = history.pods.iter().filter_map(|pod| pod.now());
    let most = pods.map(|pod| labels_of(pod).len()).max().unwrap_or(0);
    check(Promise::LabelsAreBounded, most <= PAIRS_MAX, || {
        format!("a pod has {most}")
    })
}

/// The labels of a pod that callers have set.
fn labels_of(pod: &Value) -> BTreeMap<String, u64> {
    let labels = pod["metadata"]["labels"].as_object();
    let own = labels.into_iter().flatten().filter_map(|(key, value)| {
        let key = key.strip_prefix(PREFIX)?.strip_prefix("meta-")?;
        Some((key.to_owned(), value.as_str()?.parse().ok()?))
    });
    own.collect()
}
