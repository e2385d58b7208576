//! What each request gets from what there is: an answer, or what it waits for from here on.
//!
//! Pure, as all of [`super`]. Nothing here makes a call.

use super::{Context, Effect, Ensure, Flight, Intent, Kind, VERDICT_HOLD};
use crate::app::cache::{self, Instance, Observed};
use crate::app::error::Error;
use crate::app::{Answer, Progress, RequestHandle};
use crate::kube::types::Uid;
use crate::model::labels;
use crate::model::status::{self, Finding, InstanceStatus};
use std::time::Instant;

/// What a caller waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stance {
    /// For any instance: a new one where there is none.
    Any,
    /// The same, and there was none when it asked.
    Next,
    /// For this Job to become ready.
    Ready(Uid),
    /// To be told, at that time, the verdict on this Job that was known when it asked.
    Verdict(Uid, Instant),
    /// For this Job to go, since it has ended, and a new one.
    Replacement(Uid),
}

impl Stance {
    /// Whether it waits for something that a call of ours brings about.
    pub(super) fn needs_call(&self) -> bool {
        matches!(self, Self::Any | Self::Next | Self::Replacement(_))
    }
}

/// A request for the instance, and what it waits for.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) ensure: Ensure,
    pub(super) stance: Stance,
}

enum Settled {
    Answered(Answer),
    Waits(Stance),
}

impl Flight {
    /// Keeps what those who wait for a Job have to hear when it goes.
    pub(super) fn remember(&mut self, seen: &Observed, context: &Context<'_>) {
        let Observed::Instance(instance) = seen else {
            return;
        };
        let stopping = matches!(instance.status, InstanceStatus::Stopping { .. });
        let finding = match &instance.status {
            // Whether or not it is told yet: its Job may go before.
            InstanceStatus::Failed { finding, .. } => Some(finding.clone()),
            _ => self.verdict_on(instance, context),
        };
        match finding {
            Some(finding) => self.verdict = Some((instance.uid().clone(), finding)),
            // What holds no longer is told to nobody. What held until a deletion is.
            None if !stopping => self.verdict = None,
            None => {}
        }
        if instance.job.suspend {
            self.suspended = Some(instance.uid().clone());
        }
    }

    /// The verdict on an instance, if there is one now.
    fn verdict_on(&self, instance: &Instance, context: &Context<'_>) -> Option<Finding> {
        match &instance.status {
            InstanceStatus::Ready { .. } => None,
            InstanceStatus::Stopping { .. } => {
                let witness = context.history.witness(&self.key, instance);
                status::ended_before_deletion(&instance.job, witness.map(|pod| &**pod))
            }
            InstanceStatus::Finished(ending) => Some(ending.finding()),
            InstanceStatus::Failed { finding, .. } | InstanceStatus::Starting(finding) => context
                .verdict_at(&self.key, instance, finding)
                .filter(|at| *at <= context.wall)
                .map(|_| finding.clone()),
        }
    }

    pub(super) fn settle_callers(
        &mut self,
        seen: &Observed,
        context: &Context<'_>,
        out: &mut Vec<Effect>,
    ) {
        for mut caller in std::mem::take(&mut self.callers) {
            match self.settle(&caller, seen, context) {
                Settled::Waits(stance) => {
                    caller.stance = stance;
                    self.callers.push(caller);
                }
                Settled::Answered(answer) => {
                    out.push(Effect::Answer(caller.ensure.token, answer));
                }
            }
        }
    }

    /// What one caller gets from what there is now.
    fn settle(&self, caller: &Caller, seen: &Observed, context: &Context<'_>) -> Settled {
        let instance = match seen {
            Observed::NameConflict => {
                return Settled::Answered(Answer::Failed(Error::NameTaken(self.key.clone())));
            }
            Observed::Absent => return self.settle_without(caller, None),
            Observed::Instance(instance) => instance,
        };
        if matches!(instance.status, InstanceStatus::Stopping { .. }) {
            return self.settle_without(caller, Some(instance.uid()));
        }
        match &caller.stance {
            Stance::Ready(own) | Stance::Verdict(own, _) if own != instance.uid() => {
                return self.settle_without(caller, None);
            }
            _ => {}
        }
        if let Some(ready) = cache::ready(instance) {
            return Settled::Answered(Answer::Ready(ready));
        }
        self.settle_unready(caller, instance, context)
    }

    /// The Job that a caller may have waited for is gone or going.
    fn settle_without(&self, caller: &Caller, going: Option<&Uid>) -> Settled {
        match &caller.stance {
            Stance::Any | Stance::Next if self.finds_nothing(caller) => {
                Settled::Answered(Answer::Failed(Error::NoInstance(self.key.clone())))
            }
            Stance::Replacement(uid) if going == Some(uid) => Settled::Waits(caller.stance.clone()),
            Stance::Any | Stance::Next | Stance::Replacement(_) => Settled::Waits(Stance::Next),
            Stance::Ready(uid) | Stance::Verdict(uid, _) => Settled::Answered(self.last_of(uid)),
        }
    }

    /// Whether this caller wants no start, and nobody else has one under way.
    fn finds_nothing(&self, caller: &Caller) -> bool {
        caller.ensure.intent == Intent::Find && !self.is_calling(Kind::Create)
    }

    /// What those hear who waited for this Job, now that it goes.
    fn last_of(&self, uid: &Uid) -> Answer {
        match &self.verdict {
            Some((of, finding)) if of == uid => verdict(finding),
            _ if self.suspended.as_ref() == Some(uid) => Answer::Failed(Error::LimitReached),
            _ => Answer::Failed(Error::Stopped),
        }
    }

    fn settle_unready(
        &self,
        caller: &Caller,
        instance: &Instance,
        context: &Context<'_>,
    ) -> Settled {
        let uid = instance.uid();
        let due = self.verdict_on(instance, context);
        let is_due = due.is_some();
        let known = match &instance.status {
            // Its pod may yet say why; that it has failed is known.
            InstanceStatus::Failed { finding, .. } => Some(finding.clone()),
            _ => due,
        };
        let Some(finding) = known else {
            // Its pod may be seen to go before the Job is, and then it looks like one that starts.
            let replaced =
                self.is_calling(Kind::Delete) && caller.stance == Stance::Replacement(uid.clone());
            return Settled::Waits(if replaced {
                caller.stance.clone()
            } else {
                Stance::Ready(uid.clone())
            });
        };
        match &caller.stance {
            Stance::Ready(_) | Stance::Next if !is_due => {
                Settled::Waits(Stance::Ready(uid.clone()))
            }
            // It waited before the verdict was known: it is told at once.
            Stance::Ready(_) => Settled::Answered(verdict(&finding)),
            Stance::Verdict(_, until) if *until <= context.now => {
                Settled::Answered(verdict(&finding))
            }
            Stance::Verdict(..) => Settled::Waits(caller.stance.clone()),
            Stance::Replacement(own) if own == uid => Settled::Waits(caller.stance.clone()),
            _ if caller.ensure.intent == Intent::Find && is_over(instance) => {
                Settled::Answered(Answer::Failed(Error::NoInstance(self.key.clone())))
            }
            _ if caller.ensure.intent != Intent::Find && self.may_replace(instance, context) => {
                Settled::Waits(Stance::Replacement(uid.clone()))
            }
            Stance::Any => {
                let until = context.now + VERDICT_HOLD;
                Settled::Waits(Stance::Verdict(uid.clone(), until))
            }
            // It asked before there was this Job, whose verdict may be known as soon as the Job is.
            Stance::Next | Stance::Replacement(_) => Settled::Answered(verdict(&finding)),
        }
    }

    /// Whether a request that comes now replaces this instance, on which there is a verdict.
    fn may_replace(&self, instance: &Instance, context: &Context<'_>) -> bool {
        match context.history.failure(&self.key, instance.uid()) {
            Some(failure) => failure.restart_at.is_some_and(|at| at <= context.wall),
            None => matches!(instance.status, InstanceStatus::Finished(_)),
        }
    }

    /// Answers stops and labels that need no call.
    pub(super) fn settle_others(&mut self, seen: &Observed, out: &mut Vec<Effect>) {
        self.settle_goings(seen, out);
        match seen {
            Observed::NameConflict | Observed::Absent => {}
            Observed::Instance(instance) => {
                let ended = matches!(
                    instance.status,
                    InstanceStatus::Failed { .. } | InstanceStatus::Finished(_)
                );
                if ended && instance.pod.is_none() {
                    self.answer_labels(&Answer::Failed(Error::NoInstance(self.key.clone())), out);
                }
                self.refuse_labels(instance, out);
            }
        }
    }

    /// Answers labels that come next and would give the pod more than it may have.
    fn refuse_labels(&mut self, instance: &Instance, out: &mut Vec<Effect>) {
        // While a call is under way, the cache does not show what it changes.
        let (None, false, Some(pod)) = (&self.asked, self.must_read, &instance.pod) else {
            return;
        };
        let own = labels::meta_labels(&pod.metadata);
        while let Some(label) = self.labels.front()
            && let Err(error) = label.change.check_limits(&own)
        {
            out.push(Effect::Answer(label.token, Answer::Failed(error.into())));
            self.labels.pop_front();
        }
    }

    pub(super) fn answer_stops(&mut self, answer: &Answer, out: &mut Vec<Effect>) {
        let stops = self.stops.drain(..);
        out.extend(stops.map(|stop| Effect::Answer(stop.token, answer.clone())));
    }

    pub(super) fn answer_labels(&mut self, answer: &Answer, out: &mut Vec<Effect>) {
        let labels = self.labels.drain(..);
        out.extend(labels.map(|label| Effect::Answer(label.token, answer.clone())));
    }

    /// Kubernetes itself says that there is nothing to stop or to label, to these who had asked.
    pub(super) fn nothing_there(
        &mut self,
        these: impl Fn(RequestHandle) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let stops = self.stops.extract_if(.., |stop| these(stop.token));
        let mut told: Vec<RequestHandle> = stops.map(|stop| stop.token).collect();
        let labels = std::mem::take(&mut self.labels);
        for label in labels {
            if these(label.token) {
                told.push(label.token);
            } else {
                self.labels.push_back(label);
            }
        }
        let answer = Answer::Failed(Error::NoInstance(self.key.clone()));
        out.extend(
            told.into_iter()
                .map(|token| Effect::Answer(token, answer.clone())),
        );
    }

    /// Answers those whose time is over.
    pub(super) fn expire(&mut self, seen: &Observed, now: Instant, out: &mut Vec<Effect>) {
        let over = |deadline: Instant| deadline <= now;
        for caller in std::mem::take(&mut self.callers) {
            if !over(caller.ensure.deadline) {
                self.callers.push(caller);
                continue;
            }
            let answer = match self.trouble_of_start() {
                Some(error) if caller.stance.needs_call() => Answer::Failed(error),
                _ => self.so_far(&caller, seen),
            };
            out.push(Effect::Answer(caller.ensure.token, answer));
        }
        let late = self.trouble_of_start().unwrap_or(Error::UNAVAILABLE);
        self.stops.retain(|stop| {
            let waits = !over(stop.deadline);
            if !waits {
                out.push(Effect::Answer(stop.token, Answer::Failed(late.clone())));
            }
            waits
        });
        self.answer_goings(seen, over, out);
        let late = self.late_label(seen);
        self.labels.retain(|label| {
            let waits = !over(label.deadline);
            if !waits {
                out.push(Effect::Answer(label.token, Answer::Failed(late.clone())));
            }
            waits
        });
    }

    /// Why a label has come to nothing in time: for want of a pod, or of Kubernetes.
    fn late_label(&self, seen: &Observed) -> Error {
        let awaits_pod = matches!(seen, Observed::Instance(instance) if instance.pod.is_none());
        match &self.trouble {
            // Whatever the last try met: there is nothing to try.
            _ if awaits_pod => Error::NoInstance(self.key.clone()),
            Some(trouble) => trouble.error.clone(),
            None => Error::UNAVAILABLE,
        }
    }

    /// What a caller hears that can wait no longer.
    pub(super) fn so_far(&self, caller: &Caller, seen: &Observed) -> Answer {
        match (&caller.stance, &self.verdict) {
            (Stance::Verdict(own, _), Some((uid, finding))) if own == uid => verdict(finding),
            (Stance::Ready(own), Some((uid, finding))) if own == uid && has_failed(seen) => {
                verdict(finding)
            }
            _ => Answer::Progress(Progress {
                finding: progress(seen),
                is_verdict: false,
            }),
        }
    }
}

/// Whether the instance ended well, and is not there any more for one who only looks for it.
fn is_over(instance: &Instance) -> bool {
    matches!(instance.status, InstanceStatus::Finished(_))
}

/// Whether it has, and its pod may yet say why.
fn has_failed(seen: &Observed) -> bool {
    matches!(seen, Observed::Instance(instance) if matches!(instance.status, InstanceStatus::Failed { .. }))
}

fn progress(seen: &Observed) -> Finding {
    match seen {
        Observed::Instance(instance) => match &instance.status {
            InstanceStatus::Starting(finding) => finding.clone(),
            InstanceStatus::Stopping { since } => Finding::stopping(*since),
            InstanceStatus::Failed { .. } | InstanceStatus::Finished(_) => Finding::stopping(None),
            InstanceStatus::Ready { .. } => Finding::admitting(),
        },
        Observed::Absent | Observed::NameConflict => Finding::admitting(),
    }
}

fn verdict(finding: &Finding) -> Answer {
    Answer::Progress(Progress {
        finding: finding.clone(),
        is_verdict: true,
    })
}
