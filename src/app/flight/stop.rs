//! Those who stop the instance: until its deletion has begun and, where they wish, until it is
//! gone. And the pod that does not go, since nobody answers for its node any more.
//!
//! Pure, as all of [`super`].

use super::{Cause, Context, Effect, Ensure, Flight, Intent, Operation};
use crate::app::cache::{Instance, Observed};
use crate::app::{Answer, Origin, Progress, RequestHandle};
use crate::kube::types::{Pod, Uid};
use crate::model::status::{Finding, InstanceStatus};
use std::time::{Duration, Instant};

/// How long after the end of its grace period a pod may still be there. After that its node is
/// taken for dead, and the pod is force-deleted. Grace period and this are measured on the monotonic
/// clock of this replica, from when it first saw the pod being deleted: clocks of machines differ.
pub const OVERDUE_AFTER: Duration = Duration::from_secs(30);

/// How long the stop of a start that was given up may take before its caller hears that it cannot
/// be done.
const GIVE_UP_TIME: Duration = Duration::from_secs(10);

/// A request to stop the instance.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Whom to answer.
    pub token: RequestHandle,
    /// Who asks.
    pub by: Origin,
    /// When to answer at the latest that it cannot be done.
    pub deadline: Instant,
    /// Until when to wait for its Job to be gone; `None` where the caller wishes to hear only
    /// that the deletion has begun.
    pub until: Option<Instant>,
}

/// A request whose stop has begun, and that waits for this Job to be gone.
#[derive(Clone, Debug)]
pub(super) struct Going {
    pub(super) token: RequestHandle,
    uid: Uid,
    pub(super) until: Instant,
}

impl Flight {
    /// Somebody asks to stop the instance.
    pub fn join_stop(&mut self, stop: Stop, context: &Context<'_>, out: &mut Vec<Effect>) {
        self.stops.push(stop);
        self.go_on(context, out);
    }

    /// Turns the starts that are to be stopped, since they have not succeeded in time, into stops.
    pub(super) fn give_up_starts(&mut self, now: Instant) {
        let given_up =
            |ensure: &Ensure| ensure.intent == Intent::StartOrStop && ensure.deadline <= now;
        for caller in self
            .callers
            .extract_if(.., |caller| given_up(&caller.ensure))
        {
            self.stops.push(Stop {
                token: caller.ensure.token,
                by: caller.ensure.by,
                deadline: now + GIVE_UP_TIME,
                until: None,
            });
        }
    }

    /// The deletion of this Job has begun, which is what these of the stops have asked for.
    pub(super) fn deletion_begun(
        &mut self,
        uid: &Uid,
        these: impl Fn(RequestHandle) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let begun = self.stops.extract_if(.., |stop| these(stop.token));
        for Stop { token, until, .. } in begun {
            match until {
                None => out.push(Effect::Answer(token, Answer::Done)),
                Some(until) => self.goings.push(Going {
                    token,
                    uid: uid.clone(),
                    until,
                }),
            }
        }
    }

    /// Answers those whose Job is gone.
    pub(super) fn settle_goings(&mut self, seen: &Observed, out: &mut Vec<Effect>) {
        let is_there =
            |uid: &Uid| matches!(seen, Observed::Instance(instance) if instance.uid() == uid);
        self.goings.retain(|going| {
            let waits = is_there(&going.uid);
            if !waits {
                out.push(Effect::Answer(going.token, Answer::Done));
            }
            waits
        });
    }

    /// Tells these of those who wait for their Job to be gone how far it has come.
    pub(super) fn answer_goings(
        &mut self,
        seen: &Observed,
        these: impl Fn(Instant) -> bool,
        out: &mut Vec<Effect>,
    ) {
        let since = match seen {
            Observed::Instance(instance) => instance.job.metadata.deletion_timestamp,
            Observed::Absent | Observed::NameConflict => None,
        };
        let progress = Progress {
            finding: Finding::stopping(since),
            is_verdict: false,
        };
        for going in self.goings.extract_if(.., |going| these(going.until)) {
            out.push(Effect::Answer(
                going.token,
                Answer::Progress(progress.clone()),
            ));
        }
    }
}

/// When a pod that this replica has seen being deleted `since` then is overdue to go.
pub(in crate::app) fn overdue_at(leaving: &Pod, since: Instant) -> Instant {
    since + Duration::from_secs(leaving.deletion_grace_secs.into()) + OVERDUE_AFTER
}

/// The next call that gets rid of the pod: the Job first, since its finalizer keeps the pod.
/// `removed` is the pod that Kubernetes has taken the removal of.
pub(super) fn force(instance: &Instance, removed: Option<&Uid>) -> Option<Operation> {
    if !matches!(instance.status, InstanceStatus::Stopping { .. }) {
        return Some(Operation::Delete {
            uid: instance.uid().clone(),
            cause: Cause::Stuck,
        });
    }
    let pod = &instance.leaving.as_ref()?.metadata;
    Some(Operation::Remove {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        is_kept: removed == Some(&pod.uid),
    })
}
