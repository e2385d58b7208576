//! [`Memory`]: what this replica remembers of a name beyond what the cache shows now.
//!
//! Pure. It keeps what Kubernetes does not: the failure count of a deleted Job, the meta labels of
//! a replaced pod, and the termination report of a deleted pod. It also keeps two times: when a
//! container began to wait, and when a pod was first seen being deleted. The coordinator bounds the
//! number of names ([`GONE_MAX`], [`LOST_MAX`]); the durations are bounded here.

mod problem;
mod termination;
#[cfg(test)]
mod tests;

use super::context::Context;
use crate::app::cache::Instance;
use crate::kube::types::{ConditionType, Pod, Timestamp, Uid};
use crate::model::job::{JobSettings, min_ready};
use crate::model::labels::{self, MetaChange};
use crate::model::status::{self, Begun, Finding, InstanceStatus};
pub(super) use problem::Failure;
use problem::{Gone, Problem, finding_of};
use std::sync::Arc;
use std::time::{Duration, Instant};
use termination::TerminationReport;

/// Maximum number of names with failures of a deleted Job; the oldest are evicted first.
pub const GONE_MAX: usize = 10_000;

/// How long the failures of a name are remembered after its Job is gone.
pub const GONE_KEPT: Duration = Duration::from_secs(600);

/// Maximum number of termination reports of gone pods; the oldest are evicted first.
pub const LOST_MAX: usize = 1000;

/// How long a termination report is kept after its pod is gone.
pub const LOST_KEPT: Duration = Duration::from_secs(600);

/// How long after the end of its grace period a pod may still exist, and how long Kubernetes must have
/// said without interruption that its node is lost. After both the pod is force-deleted. They run on the
/// monotonic clock of this replica from its first observation: clocks of machines differ.
pub const OVERDUE_AFTER: Duration = Duration::from_secs(30);

/// How often a pod that outlives its grace period is looked at: the mark of a lost node may be on
/// another pod, whose changes do not concern this name.
const NODE_LOOK_EVERY: Duration = Duration::from_secs(10);

/// The memory of one name. Its parts are boxed, since most names have few of them at a time.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    problem: Option<Box<Problem>>,
    /// The last pod with meta labels, and its Job.
    labelled: Option<(Uid, Arc<Pod>)>,
    termination: Option<Box<TerminationReport>>,
    leaving: Option<Box<Leaving>>,
    settling: Option<Box<Settling>>,
}

/// A ready pod of an instance with `min-ready`.
#[derive(Clone, Debug)]
struct Settling {
    pod: Uid,
    /// Its timestamp, which tells whether it was not ready meanwhile, between two looks at the cache.
    since: Option<Timestamp>,
    /// From when it counts as ready.
    until: Instant,
}

/// A pod that has been ready for so long when this replica first sees it counts as ready at once: the replica
/// has just started. It is more than by what the time of a node differs after its correction.
const READY_LONG: Duration = Duration::from_secs(60);

/// A pod that is being deleted.
#[derive(Clone, Debug)]
struct Leaving {
    pod: Uid,
    /// When this replica first saw that it is being deleted.
    seen: Instant,
    grace: Duration,
    /// Since when its node has been seen as lost.
    lost_since: Option<Instant>,
    is_force_deleted: bool,
}

impl Leaving {
    fn grace_ends(&self) -> Instant {
        self.seen + self.grace
    }
}

impl Memory {
    /// Records the current state of the cache, and adds to the instance what is known of it from before:
    /// the termination report of a pod that is gone, and since when it has its problem.
    pub fn note(
        &mut self,
        mut instance: Option<&mut Instance>,
        settings: &JobSettings,
        context: &Context<'_>,
    ) {
        self.note_termination(instance.as_deref(), context);
        if let Some(instance) = &mut instance {
            self.leave_out_earlier(instance, context);
        }
        self.note_labelled(instance.as_deref());
        let is_live = |it: &&mut Instance| !matches!(it.status, InstanceStatus::Stopping { .. });
        match instance.take_if(|it| is_live(it)) {
            Some(instance) => {
                self.recall(instance, context);
                if !self.note_settling(instance, context) {
                    self.note_live(instance, settings, context);
                }
                context.cache.keep_end(instance);
            }
            None => {
                self.settling = None;
                self.note_gone(context);
            }
        }
    }

    fn note_labelled(&mut self, instance: Option<&Instance>) {
        // Neither of two pods was before the other.
        let Some(instance) = instance.filter(|it| !it.is_contested) else {
            self.labelled = None;
            return;
        };
        // The predecessor is kept until its successor has all labels.
        if let Some((predecessor, _)) = self.lacking(instance) {
            self.labelled = Some((instance.uid().clone(), Arc::clone(predecessor)));
            return;
        }
        let Some(pod) = &instance.pod else {
            // A Job without a pod at this moment: the next pod inherits.
            self.labelled.take_if(|(of, _)| of != instance.uid());
            return;
        };
        let is_bare = labels::meta_labels(&pod.metadata).is_empty();
        self.labelled = if is_bare && instance.predecessor.is_none() {
            None
        } else {
            Some((instance.uid().clone(), Arc::clone(pod)))
        };
    }

    /// The predecessor of this instance's pod, whose meta labels it inherits, if there is one.
    fn predecessor<'a>(&'a self, instance: &'a Instance) -> Option<&'a Arc<Pod>> {
        let pod = instance.pod.as_ref()?;
        let Some((job, known)) = &self.labelled else {
            return instance.predecessor.as_ref();
        };
        let is_before = job == instance.uid() && known.metadata.uid != pod.metadata.uid;
        is_before.then_some(known)
    }

    /// The predecessor of this instance's pod, and its meta labels that the pod lacks.
    fn lacking<'a>(&'a self, instance: &'a Instance) -> Option<(&'a Arc<Pod>, MetaChange)> {
        let pod = instance.pod.as_ref()?;
        let predecessor = self.predecessor(instance)?;
        if pod.metadata.left_out().pairs > 0 {
            return None;
        }
        let own = labels::meta_labels(&pod.metadata);
        let change = MetaChange::inheriting(&own, labels::meta_labels(&predecessor.metadata))?;
        Some((predecessor, change))
    }

    /// The meta labels that the pod of this instance is to get from its predecessor. A pod that the
    /// Job controller replaces must keep the labels that callers attached to the instance; one that
    /// is being deleted leaves them to the next.
    #[must_use]
    pub fn inheritance(&self, instance: &Instance) -> Option<MetaChange> {
        let pod = instance.pod.as_ref()?;
        let (_, change) = self.lacking(instance)?;
        (!instance.is_contested && !pod.metadata.is_deleting()).then_some(change)
    }

    fn note_termination(&mut self, instance: Option<&Instance>, context: &Context<'_>) {
        let now = context.now;
        let is_over = |lost: Instant| now.saturating_duration_since(lost) >= LOST_KEPT;
        self.termination
            .take_if(|report| report.lost_at.is_some_and(is_over));
        // A ready instance has no earlier failure, and what is kept of an end suffices.
        let is_known =
            |it: &&Instance| matches!(it.status, InstanceStatus::Ready { .. }) || it.is_end_kept;
        if let Some(known) = instance.filter(is_known) {
            self.end_seen(known.uid());
        } else if let Some(report) = instance.and_then(|instance| {
            let known = self.report_of(instance.uid());
            TerminationReport::with_news(instance, known, context)
        }) {
            self.termination = Some(Box::new(report));
        } else if let Some(report) = &mut self.termination {
            // The cache may show what came after the end of its Job, which is yet to be seen.
            report.lost_at.get_or_insert(now);
        }
    }

    /// Leaves out a failed pod that Kubernetes keeps if another one came after it, which is remembered: the
    /// instance is between two pods.
    fn leave_out_earlier(&self, instance: &mut Instance, context: &Context<'_>) {
        let Some(known) = self.report_of(instance.uid()) else {
            return;
        };
        let Instance { job, pod, .. } = instance;
        let left_out = pod.take_if(|pod| status::precedes_stopped(job, pod, known));
        if left_out.is_some() && matches!(instance.status, InstanceStatus::Starting(_)) {
            let events = |uid: &Uid| context.cache.events.of(uid);
            instance.status = status::assess(job, &[], &events).status;
        }
    }

    /// The end of this Job has been seen: the report of its pod is needed no longer.
    pub fn end_seen(&mut self, job: &Uid) {
        self.termination.take_if(|report| report.job == *job);
    }

    /// Records the pod that is being deleted, if one is.
    pub fn note_leaving(&mut self, pod: Option<&Arc<Pod>>, context: &Context<'_>) {
        let now = context.now;
        let Some(pod) = pod else {
            self.leaving = None;
            return;
        };
        let uid = &pod.metadata.uid;
        self.leaving.take_if(|before| before.pod != *uid);
        let grace = Duration::from_secs(pod.deletion_grace_secs.into());
        let leaving = self.leaving.get_or_insert_with(|| {
            Box::new(Leaving {
                pod: uid.clone(),
                seen: now,
                grace,
                lost_since: None,
                is_force_deleted: false,
            })
        });
        leaving.grace = grace;
        let index = context.cache.index();
        leaving.lost_since = if pod.node.as_ref().is_some_and(|node| index.is_lost(node)) {
            leaving.lost_since.or(Some(now))
        } else {
            None
        };
    }

    /// When the pod that is being deleted is to be force-deleted, if there is one on a lost node.
    #[must_use]
    pub fn overdue_at(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref()?;
        Some(leaving.grace_ends().max(leaving.lost_since?) + OVERDUE_AFTER)
    }

    /// When to look again whether the node of the pod that is being deleted is lost.
    #[must_use]
    pub fn look_at(&self, now: Instant) -> Option<Instant> {
        let leaving = self.leaving.as_ref()?;
        Some(leaving.grace_ends().max(now + NODE_LOOK_EVERY))
    }

    /// Kubernetes has accepted the force deletion of this pod; returns whether for the first time.
    pub fn force_deleted(&mut self, pod: &Uid) -> bool {
        let leaving = self.leaving.as_mut().filter(|it| it.pod == *pod);
        leaving.is_none_or(|it| !std::mem::replace(&mut it.is_force_deleted, true))
    }

    /// A ready instance that has not been ready for as long as its template wants is a starting one.
    /// Returns whether it is that.
    fn note_settling(&mut self, instance: &mut Instance, context: &Context<'_>) -> bool {
        let min_ready = min_ready(&instance.job);
        let is_ready = matches!(instance.status, InstanceStatus::Ready { .. });
        let Some(pod) = instance
            .pod
            .as_deref()
            .filter(|_| is_ready && !min_ready.is_zero())
        else {
            self.settling = None;
            return false;
        };
        let since = pod.conditions.get(ConditionType::Ready);
        let since = since.and_then(|ready| ready.since);
        let uid = &pod.metadata.uid;
        self.settling
            .take_if(|it| it.pod != *uid || it.since != since);
        let settling = self.settling.get_or_insert_with(|| {
            let made = pod.metadata.creation_timestamp;
            let at = status::of_pod(pod, since);
            let age = at.map(|at| context.now - context.moment(at, made));
            let is_known = age.is_some_and(|age| age >= min_ready.max(READY_LONG));
            Box::new(Settling {
                pod: uid.clone(),
                since,
                until: context.now + if is_known { Duration::ZERO } else { min_ready },
            })
        });
        let is_settled = settling.until <= context.now;
        if !is_settled {
            instance.status = InstanceStatus::Starting(Finding::settling(since, min_ready));
        }
        !is_settled
    }

    /// From when the ready pod of this instance counts as ready, if it has `min-ready`.
    #[must_use]
    pub fn settled_at(&self) -> Option<Instant> {
        self.settling.as_ref().map(|it| it.until)
    }

    fn note_live(
        &mut self,
        instance: &mut Instance,
        settings: &JobSettings,
        context: &Context<'_>,
    ) {
        let unclear_since = self.decide(instance, context.now);
        let before = self.problem.take();
        let Some(finding) = finding_of(&instance.status, settings) else {
            return;
        };
        let mut problem = Problem::new(instance, finding, before, settings, context);
        problem.unclear_since = unclear_since;
        if let InstanceStatus::Starting(own) | InstanceStatus::Failed { finding: own, .. } =
            &mut instance.status
        {
            own.clone_from(&problem.finding);
        }
        self.problem = Some(Box::new(problem));
    }

    /// Decides who ended an instance if that has been unclear for long. Returns since when it is unclear.
    fn decide(&self, instance: &mut Instance, now: Instant) -> Option<Instant> {
        let InstanceStatus::Finished(ending) = &instance.status else {
            return None;
        };
        let wait = ending.unclear_for()?;
        let since = self.unclear_since(instance.uid()).unwrap_or(now);
        if since + wait <= now {
            instance.status = InstanceStatus::Finished(ending.clone().decided());
        }
        Some(since)
    }

    /// Since when it is unclear who ended this Job.
    #[must_use]
    pub fn unclear_since(&self, uid: &Uid) -> Option<Instant> {
        let problem = self.problem.as_ref().filter(|it| it.uid == *uid);
        problem?.unclear_since
    }

    fn note_gone(&mut self, context: &Context<'_>) {
        let now = context.now;
        let is_over = |gone: Gone| now.saturating_duration_since(gone.at) >= GONE_KEPT;
        self.problem
            .take_if(|it| !it.is_kept() || it.gone.is_some_and(is_over));
        if let Some(problem) = &mut self.problem {
            problem.gone.get_or_insert_with(|| Gone {
                at: now,
                has_expired: problem.expires_at.is_some_and(|at| at <= now),
            });
        }
    }

    /// A caller has asked for the deletion of this Job, or of any where there is none: its failures no
    /// longer count.
    pub fn stopped(&mut self, uid: Option<&Uid>) {
        let is_it = |it: &mut Box<Problem>| uid.is_none_or(|uid| it.uid == *uid);
        self.problem.take_if(is_it);
    }

    /// A failed Job that Kubernetes has deleted since its time to live was over: it is reported until it
    /// may be replaced.
    #[must_use]
    pub fn expired(&self, now: Instant) -> Option<(&Uid, &Finding)> {
        let problem = self.problem.as_deref()?;
        let restart_at = problem.failure?.restart_at;
        let is_kept = restart_at.is_none_or(|restart_at| restart_at > now);
        let has_expired = problem.gone?.has_expired;
        (is_kept && has_expired).then_some((&problem.uid, &problem.finding))
    }

    /// How the last Job failed that is gone, for as long as its failures count.
    #[must_use]
    pub fn last_failure(&self) -> Option<&Finding> {
        let problem = self.problem.as_deref()?;
        (problem.failure.is_some() && problem.gone.is_some()).then_some(&problem.finding)
    }

    /// When the problem of this Job began; `now` if it has none.
    #[must_use]
    pub fn begun(&self, uid: &Uid, now: Instant) -> Begun {
        let problem = self.problem.as_ref().filter(|it| it.uid == *uid);
        let (seen, budget) = (now, now);
        problem.map_or(Begun { seen, budget }, |it| it.begun)
    }

    /// Since when this Job has its problem.
    #[must_use]
    pub fn since(&self, uid: &Uid) -> Option<Timestamp> {
        let problem = self.problem.as_ref().filter(|it| it.uid == *uid);
        problem.and_then(|it| it.finding.since)
    }

    /// The failure of this Job, if it has failed.
    #[must_use]
    pub fn failure(&self, uid: &Uid) -> Option<Failure> {
        let problem = self.problem.as_ref();
        problem.filter(|it| it.uid == *uid)?.failure
    }

    /// The last pod of this instance with a termination report, else its own pod.
    #[must_use]
    pub fn explaining_pod<'a>(&'a self, instance: &'a Instance) -> Option<&'a Pod> {
        let pod = self.report_of(instance.uid()).or(instance.pod.as_ref());
        pod.map(|pod| &**pod)
    }

    fn report_of(&self, job: &Uid) -> Option<&Arc<Pod>> {
        let report = self.termination.as_ref();
        report.filter(|it| it.job == *job).map(|it| &it.pod)
    }

    /// Whether this Job has been seen before it ended, and was not ready.
    fn has_followed(&self, job: &Uid) -> bool {
        let problem = self.problem.as_ref();
        problem.is_some_and(|it| it.uid == *job && !it.is_disrupted)
    }

    /// Whether others ended this Job, which may be gone.
    #[must_use]
    pub fn was_disrupted(&self, job: &Uid) -> bool {
        let problem = self.problem.as_ref();
        problem.is_some_and(|it| it.uid == *job && it.is_disrupted)
    }

    /// Adds to an instance whose pod is gone what was known of that pod.
    fn recall(&self, instance: &mut Instance, context: &Context<'_>) {
        if instance.is_end_kept {
            return;
        }
        let job = &instance.job;
        let has_finished = matches!(instance.status, InstanceStatus::Finished(_));
        let counts = |pod: &&Pod| !has_finished || status::may_complete(pod);
        let own = instance.pod.as_deref().filter(counts);
        let known = self.report_of(instance.uid()).map(|pod| &**pod);
        let known = known.filter(counts);
        let status = match (&instance.status, known) {
            (InstanceStatus::Failed { .. }, Some(pod))
                if !own.is_some_and(status::has_termination_report) =>
            {
                status::with_termination_report(job, pod, &instance.status)
            }
            // It was seen to be deleted before it ended.
            (InstanceStatus::Finished(_), Some(pod))
                if own.is_some_and(|own| own.metadata.uid == pod.metadata.uid)
                    && status::is_stopping(pod) =>
            {
                status::with_termination_report(job, pod, &instance.status)
            }
            // The pod of an app that ended by itself would be there.
            (InstanceStatus::Finished(_), Some(pod))
                if own.is_none()
                    && (job.metadata.is_deleting()
                        || pod.metadata.is_deleting()
                        || status::has_termination_report(pod)) =>
            {
                status::with_termination_report(job, pod, &instance.status)
            }
            (InstanceStatus::Starting(_), Some(pod)) if own.is_none() && !job.suspend => {
                match status::after_pod(job, pod, &|uid| context.cache.events.of(uid)) {
                    Some(status) => status,
                    None => return,
                }
            }
            // The watch on pods has shown none while it started, so it lags behind.
            (InstanceStatus::Finished(ending), None)
                if ending.is_unseen() && own.is_none() && self.has_followed(instance.uid()) =>
            {
                InstanceStatus::Finished(ending.clone().unclear())
            }
            _ => return,
        };
        instance.status = status;
    }

    /// Failures in a row that a Job of this name carries when it is created now.
    #[must_use]
    pub fn failures_before_new(&self) -> u32 {
        let failure = self.problem.as_ref().and_then(|it| it.failure);
        failure.map_or(0, |it| it.in_a_row)
    }

    /// Whether nothing is remembered.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        let Self {
            problem,
            labelled,
            termination,
            leaving,
            settling,
        } = self;
        problem.is_none()
            && labelled.is_none()
            && termination.is_none()
            && leaving.is_none()
            && settling.is_none()
    }

    /// When the Job with the remembered failures was first seen gone.
    #[must_use]
    pub fn gone_at(&self) -> Option<Instant> {
        self.problem
            .as_ref()
            .and_then(|it| it.gone)
            .map(|gone| gone.at)
    }

    /// When the pod with the kept termination report was first seen gone.
    #[must_use]
    pub fn lost_at(&self) -> Option<Instant> {
        self.termination.as_ref().and_then(|it| it.lost_at)
    }

    /// When something of this expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<Instant> {
        let gone = self.gone_at().map(|at| at + GONE_KEPT);
        let lost = self.lost_at().map(|at| at + LOST_KEPT);
        gone.into_iter().chain(lost).min()
    }

    /// Evicts the failures of a gone Job.
    pub fn forget_gone(&mut self) {
        self.problem.take_if(|it| it.gone.is_some());
    }

    /// Evicts the termination report of a gone pod.
    pub fn forget_lost(&mut self) {
        self.termination.take_if(|it| it.lost_at.is_some());
    }
}
