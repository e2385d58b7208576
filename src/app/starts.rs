//! The starts of this replica that are under way: how each goes, how it ends, and how long it takes.
//!
//! Pure. Nothing is decided by this; it is told in metrics and in a header of answers,
//! whether a caller still waits or not. What counts as an end is the first of: the
//! instance is ready; it cannot succeed any more; it ended; its Job is going or gone.
//! A verdict that comes of a budget alone is told once and is no end: the start may still pass.

use super::cache::{Instance, Observed};
use super::flight::Context;
use super::timeline::{Timeline, Timings};
use crate::kube::types::Uid;
use crate::model::names::InstanceKey;
use crate::model::status::{InstanceStatus, Phase, Prognosis};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Starts that are followed at the same time; an image that never comes is one for long.
pub const FOLLOWED_MAX: usize = 10_000;

/// How long the timeline of a start that has ended is kept for the answers that tell of its end.
const ENDED_KEPT: Duration = Duration::from_secs(5);

/// How a start ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The instance was ready, so long after its Job was asked for.
    Ready(Duration),
    /// It cannot succeed any more; one word why.
    Failed(Arc<str>),
    /// It ended well before it was seen ready; one word how.
    Finished(&'static str),
    /// Its Job was deleted.
    Stopped,
}

impl Ended {
    /// The word for the metric.
    #[must_use]
    pub fn result(&self) -> &'static str {
        match self {
            Self::Ready(_) => "ready",
            Self::Failed(_) => "failed",
            Self::Finished(_) => "finished",
            Self::Stopped => "stopped",
        }
    }

    /// One word why; empty where there is nothing to say.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Failed(reason) => reason,
            Self::Finished(reason) => reason,
            Self::Ready(_) | Self::Stopped => "",
        }
    }
}

/// What is new about a start; each thing is told once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// The phase that is over, and how long it lasted.
    pub phase: Option<(Phase, Duration)>,
    /// It is known that the start has failed, or probably has: so long after its Job was asked for.
    pub verdict: Option<Duration>,
    /// How it ended.
    pub ended: Option<Ended>,
}

#[derive(Clone, Debug)]
struct Start {
    uid: Uid,
    begun: Instant,
    timeline: Timeline,
    has_verdict: bool,
    has_ended: bool,
    /// When to look again, or to forget it, though nothing changes.
    wake: Option<Instant>,
}

/// The starts that are under way, and for a few seconds those that were.
#[derive(Debug, Default)]
pub struct Starts {
    followed: HashMap<InstanceKey, Start>,
    /// The wake-ups of all of them.
    wakes: BTreeSet<(Instant, InstanceKey)>,
}

impl Starts {
    /// Our call, begun and answered at these moments, has made this Job; whether its start can be
    /// followed. The second is what there is to say of the start that it takes the place of.
    pub fn begin(
        &mut self,
        key: &InstanceKey,
        uid: &Uid,
        begun: Instant,
        admitted: Instant,
    ) -> (bool, Option<News>) {
        // One Job of a name follows another: what was there is gone, though that was not seen yet.
        let before = self.gone(key, admitted);
        if self.followed.len() >= FOLLOWED_MAX {
            self.forget_ended();
        }
        let has_room = self.followed.len() < FOLLOWED_MAX;
        if has_room {
            let start = Start {
                uid: uid.clone(),
                begun,
                timeline: Timeline::new(begun, admitted),
                has_verdict: false,
                has_ended: false,
                wake: None,
            };
            self.followed.insert(key.clone(), start);
        }
        (has_room, before)
    }

    /// What is new about the start of this name, if it is one of ours and goes on.
    pub fn look(&mut self, key: &InstanceKey, context: &Context<'_>) -> Option<News> {
        let start = self.followed.get_mut(key)?;
        if start.has_ended {
            return None;
        }
        let mut seen = context.cache.see(key);
        let instance = match &mut seen {
            Observed::Instance(instance) if *instance.uid() == start.uid => instance,
            Observed::Instance(_) | Observed::Absent | Observed::NameConflict => {
                return self.gone(key, context.now);
            }
        };
        context.history.recall(key, instance);
        let took = context.now.saturating_duration_since(start.begun);
        let ended = end_of(&instance.status, took);
        if ended == Some(Ended::Stopped) {
            return self.gone(key, context.now);
        }
        let due = verdict_at(key, instance, context);
        // It has failed, and why is about to be said.
        let ended = ended.filter(|_| due.is_none_or(|at| at <= context.wall));
        let phase = match &instance.status {
            InstanceStatus::Failed { .. } if ended.is_none() => None,
            status => see(&mut start.timeline, status, context.now),
        };
        let due = due.filter(|_| !start.has_verdict);
        let in_time = due.map(|at| at.duration_since(context.wall).unwrap_or_default());
        start.has_verdict |= in_time == Some(Duration::ZERO);
        start.has_ended = ended.is_some();
        let wake = if start.has_ended {
            Some(ENDED_KEPT)
        } else {
            in_time.filter(|in_time| !in_time.is_zero())
        };
        let news = News {
            phase,
            verdict: in_time.filter(Duration::is_zero).map(|_| took),
            ended,
        };
        self.set_wake(key, wake.and_then(|wait| context.now.checked_add(wait)));
        (news != News::default()).then_some(news)
    }

    /// When to call [`Starts::tick`] at the latest.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.wakes.first().map(|(at, _)| *at)
    }

    /// What time alone has brought about.
    pub fn tick(&mut self, context: &Context<'_>) -> Vec<(InstanceKey, News)> {
        let mut all = Vec::new();
        while let Some((at, key)) = self.wakes.first().cloned() {
            if at > context.now {
                break;
            }
            self.set_wake(&key, None);
            if self.followed.get(&key).is_some_and(|start| start.has_ended) {
                self.followed.remove(&key);
            } else if let Some(news) = self.look(&key, context) {
                all.push((key, news));
            }
        }
        all
    }

    /// Where the time of this instance's start went, if it is one of ours that goes on or has
    /// ended a moment ago.
    #[must_use]
    pub fn timings(&self, key: &InstanceKey, instance: &Instance, now: Instant) -> Option<Timings> {
        let start = self.followed.get(key)?;
        // What the answer says may not have been looked at here.
        (start.uid == *instance.uid()).then(|| {
            let mut timeline = start.timeline.clone();
            see(&mut timeline, &instance.status, now);
            timeline.timings(now)
        })
    }

    /// The Job is going or gone: what there is to say of its start, if that had not ended.
    fn gone(&mut self, key: &InstanceKey, now: Instant) -> Option<News> {
        self.set_wake(key, None);
        let mut start = self.followed.remove(key)?;
        let open = start.timeline.end(now)?;
        Some(News {
            phase: Some(open),
            verdict: None,
            ended: Some(Ended::Stopped),
        })
    }

    fn set_wake(&mut self, key: &InstanceKey, at: Option<Instant>) {
        let Some(start) = self.followed.get_mut(key) else {
            return;
        };
        if let Some(old) = std::mem::replace(&mut start.wake, at) {
            self.wakes.remove(&(old, key.clone()));
        }
        if let Some(at) = at {
            self.wakes.insert((at, key.clone()));
        }
    }

    fn forget_ended(&mut self) {
        self.followed.retain(|_, start| !start.has_ended);
        let followed = &self.followed;
        self.wakes.retain(|(_, key)| followed.contains_key(key));
    }
}

/// Takes down what the status says of how far the start has come.
fn see(
    timeline: &mut Timeline,
    status: &InstanceStatus,
    now: Instant,
) -> Option<(Phase, Duration)> {
    match status {
        InstanceStatus::Starting(finding) => {
            timeline.see(finding.phase, finding.prognosis == Prognosis::Terminal, now)
        }
        InstanceStatus::Ready { .. } => timeline.see(Phase::Readying, true, now),
        InstanceStatus::Failed { finding, .. } => timeline.see(finding.phase, true, now),
        InstanceStatus::Finished(ending) => timeline.see(ending.finding().phase, true, now),
        InstanceStatus::Stopping { .. } => timeline.end(now),
    }
}

/// When it is known that the start has failed, or probably has, if it stays as it is.
fn verdict_at(key: &InstanceKey, instance: &Instance, context: &Context<'_>) -> Option<SystemTime> {
    match &instance.status {
        InstanceStatus::Starting(finding) | InstanceStatus::Failed { finding, .. } => {
            context.verdict_at(key, instance, finding)
        }
        InstanceStatus::Finished(_) => Some(context.wall),
        InstanceStatus::Ready { .. } | InstanceStatus::Stopping { .. } => None,
    }
}

fn end_of(status: &InstanceStatus, took: Duration) -> Option<Ended> {
    match status {
        InstanceStatus::Ready { .. } => Some(Ended::Ready(took)),
        InstanceStatus::Failed { finding, .. } => Some(Ended::Failed(finding.reason.clone())),
        InstanceStatus::Starting(finding) if finding.prognosis == Prognosis::Terminal => {
            Some(Ended::Failed(finding.reason.clone()))
        }
        InstanceStatus::Starting(_) => None,
        InstanceStatus::Finished(ending) => Some(Ended::Finished(ending.reason)),
        InstanceStatus::Stopping { .. } => Some(Ended::Stopped),
    }
}

#[cfg(test)]
mod tests;
