//! [`Usage`]: how long each instance took to become ready, and was ready then: a log line for each that has ended.
//!
//! A consumer of lifecycle events, as all reports are. [`Lives`] (pure) keeps what this replica saw of each Job; its
//! durations are those of its monotonic clock. What it has not seen itself has the time that Kubernetes gives,
//! by the clock of the API server, or none. An instance is over when it has ended for good, as
//! [`super::cache::Cache::end`] and all lists have it, or is gone. All replicas see that; which one reports it is
//! decided by [`rendezvous`].

use super::api_call::StopCause;
use super::cache::{Cache, Instance, Lookup};
use super::coordinator::Context;
use super::lifecycle::{Lifecycle, LifecycleKind};
use super::reporter::Reporter;
use super::rights::MissingRights;
use crate::kube::types::{ConditionType, Uid};
use crate::model::job;
use crate::model::names::InstanceKey;
use crate::model::rendezvous;
use crate::model::status::{self, InstanceStatus};
use crate::store::UseReports;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// So many Jobs are followed, more than fit into the memory of a container; others are not reported.
pub const FOLLOWED_MAX: usize = 200_000;

/// A Job that is seen within this time after it was made counts as made when it was seen.
const SEEN_AT_ONCE: Duration = Duration::from_secs(5);

/// The cause of the end of an instance whose Job was deleted, not by this replica.
const STOPPED: &str = "stopped";

/// What is reported of an instance that has ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The annotation `owner` of its Job; empty if there is none.
    pub owner: Box<str>,
    /// The time from its Job to the ready instance.
    pub ready_after: Option<Duration>,
    /// The time from then to its end; zero if it was never ready.
    pub ready_for: Option<Duration>,
    /// Why it has ended: the reason that lists and events have, or why its Job was deleted.
    pub cause: Arc<str>,
}

/// What the cache says of a Job.
#[derive(Clone, Debug)]
pub struct Found {
    owner: Box<str>,
    /// When it was made, as Kubernetes has it.
    made: Option<Instant>,
    /// Since when it has been ready.
    ready: Option<Instant>,
    is_suspended: bool,
    has_ended: bool,
}

impl Found {
    /// What the cache says of this Job, if it has it.
    #[must_use]
    pub fn of(key: &InstanceKey, uid: &Uid, context: &Context<'_>) -> Option<Self> {
        let Lookup::Instance(instance) = context.cache.lookup(key) else {
            return None;
        };
        let metadata = &instance.job.metadata;
        if metadata.uid != *uid {
            return None;
        }
        let made = metadata.creation_timestamp;
        Some(Self {
            owner: job::owner(&instance.job).unwrap_or_default().into(),
            made: made.map(|at| context.moment(at, None)),
            ready: ready_since(&instance, context),
            is_suspended: instance.job.suspend,
            has_ended: has_ended(&instance, context.cache),
        })
    }
}

/// Since when this instance has been ready, as its kubelet has it.
fn ready_since(instance: &Instance, context: &Context<'_>) -> Option<Instant> {
    let pod = instance.pod.as_deref()?;
    let ready = pod.conditions.holds(ConditionType::Ready)?;
    let at = status::of_pod(pod, ready.since)?;
    Some(context.moment(at, pod.metadata.creation_timestamp))
}

fn has_ended(instance: &Instance, cache: &Cache) -> bool {
    let is_end = matches!(
        instance.status,
        InstanceStatus::Failed { .. } | InstanceStatus::Finished(_)
    );
    is_end || cache.end(&instance.job).is_some()
}

/// The lives of the Jobs that are there, as far as this replica has seen them.
#[derive(Debug, Default)]
pub struct Lives {
    hasher: RandomState,
    /// By the hash of the UID.
    followed: HashMap<u64, Life>,
}

/// There is one for each instance, so it is small.
#[derive(Debug)]
struct Life {
    stage: Stage,
    /// Where there is any of it.
    known: Option<Box<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    owner: Box<str>,
    /// Why it has ended, as far as that was reported.
    cause: Option<Arc<str>>,
}

#[derive(Debug)]
enum Stage {
    /// It was not ready.
    Starting {
        /// When its Job was made, if that is known.
        made: Option<Instant>,
        /// It was seen before it can have been ready.
        is_whole: bool,
        /// It has no pod, since its Job waits to be admitted.
        waits: bool,
    },
    /// It has been ready since then; how long that took, in seconds, or NaN if that is not known.
    Ready(Instant, f32),
    /// Its end was reported, or is none of ours.
    Over,
}

impl Life {
    /// A Job of which this event is the first. If it is no news, the Job was there before this replica looked.
    fn new(event: &Lifecycle, found: Option<&Found>) -> Self {
        let made = found.and_then(|it| it.made);
        let age = event.at.saturating_duration_since(made.unwrap_or(event.at));
        let is_new = event.is_news && age <= SEEN_AT_ONCE;
        let owner = found.map(|it| it.owner.clone()).unwrap_or_default();
        let known = Known { owner, cause: None };
        Self {
            stage: match found.and_then(|it| it.ready) {
                Some(at) if !event.is_news => Stage::Ready(at, f32::NAN),
                _ if matches!(event.kind, LifecycleKind::Ready { .. }) => {
                    Stage::Ready(event.at, f32::NAN)
                }
                _ => Stage::Starting {
                    made: if is_new { Some(event.at) } else { made },
                    is_whole: event.is_news,
                    waits: found.is_some_and(|it| it.is_suspended),
                },
            },
            known: (!known.owner.is_empty()).then(|| Box::new(known)),
        }
    }

    /// Whether its Job has only waited to be admitted.
    const fn waits(&self) -> bool {
        matches!(self.stage, Stage::Starting { waits: true, .. })
    }

    fn is_admitted(&mut self) {
        if let Stage::Starting { waits, .. } = &mut self.stage {
            *waits = false;
        }
    }

    fn set_cause(&mut self, cause: &Arc<str>) {
        let known = self.known.get_or_insert_default();
        known.cause.get_or_insert_with(|| Arc::clone(cause));
    }

    fn forget_cause(&mut self) {
        if let Some(known) = &mut self.known {
            known.cause = None;
        }
    }

    fn is_ready(&mut self, at: Instant) {
        if let Stage::Starting { made, .. } = self.stage {
            let after = made.map(|made| at.saturating_duration_since(made).as_secs_f32());
            self.stage = Stage::Ready(at, after.unwrap_or(f32::NAN));
        }
    }

    /// It has ended; `None` if that was reported before.
    fn end(&mut self, at: Instant) -> Option<Ended> {
        let (ready_after, ready_for) = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Over => return None,
            Stage::Starting { is_whole, .. } => (None, is_whole.then_some(Duration::ZERO)),
            Stage::Ready(since, after) => (
                Duration::try_from_secs_f32(after).ok(),
                Some(at.saturating_duration_since(since)),
            ),
        };
        let known = self.known.take().map(|known| *known).unwrap_or_default();
        Some(Ended {
            owner: known.owner,
            ready_after,
            ready_for,
            cause: known.cause.unwrap_or_else(|| STOPPED.into()),
        })
    }
}

impl Lives {
    /// Takes up an event, and returns what is to be reported if an instance is over with it. `find` looks into the
    /// cache, and is called only where that is needed.
    pub fn note(&mut self, event: &Lifecycle, find: impl Fn() -> Option<Found>) -> Option<Ended> {
        let id = self.hasher.hash_one(event.job_uid.as_ref()?);
        if event.kind == LifecycleKind::Gone {
            // One that was never admitted was no instance yet.
            let mut life = self.followed.remove(&id).filter(|life| !life.waits())?;
            return life.end(event.at);
        }
        if !is_step(&event.kind) || !self.follow(id, event, &find) {
            return None;
        }
        let life = self.followed.get_mut(&id)?;
        if life.waits() && find().is_some_and(|found| !found.is_suspended) {
            life.is_admitted();
        }
        match &event.kind {
            LifecycleKind::Ready { .. } => {
                life.forget_cause();
                life.is_ready(event.at);
            }
            LifecycleKind::InPhase { .. } => life.forget_cause(),
            LifecycleKind::Stopping(cause) => {
                life.set_cause(&cause.as_ref().map_or(STOPPED, StopCause::as_str).into());
            }
            LifecycleKind::Failed { finding, .. } | LifecycleKind::Finished { finding, .. } => {
                life.set_cause(&finding.reason);
                if find().is_some_and(|found| found.has_ended) {
                    // What had ended when this replica looked for the first time was reported then.
                    return life.end(event.at).filter(|_| event.is_news);
                }
            }
            _ => {}
        }
        None
    }

    /// Whether this Job is followed, from now on at least.
    fn follow(&mut self, id: u64, event: &Lifecycle, find: impl Fn() -> Option<Found>) -> bool {
        if self.followed.contains_key(&id) {
            return true;
        }
        if self.followed.len() >= FOLLOWED_MAX {
            return false;
        }
        let life = Life::new(event, find().as_ref());
        self.followed.insert(id, life);
        true
    }

    /// How many Jobs are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.followed.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.followed.is_empty()
    }
}

/// Whether an event of this kind says what has become of the Job that it names.
const fn is_step(kind: &LifecycleKind) -> bool {
    matches!(
        kind,
        LifecycleKind::Created(_)
            | LifecycleKind::InPhase { .. }
            | LifecycleKind::Ready { .. }
            | LifecycleKind::Failed { .. }
            | LifecycleKind::Finished { .. }
            | LifecycleKind::Stopping(_)
    )
}

/// Which of the replicas this one is.
#[derive(Clone, Debug)]
pub struct Reporters {
    /// Its name, which is that of its Lease.
    pub replica: Box<str>,
    /// Whether Kubernetes removes that Lease with its pod. Without such Leases each replica reports all.
    pub has_pod: bool,
    /// What is known of the Leases.
    pub leases: UseReports,
    /// Whether the rights on them are missing.
    pub rights: MissingRights,
}

impl Reporters {
    /// Whether this replica reports that Job. As long as its own Lease is not among those that it sees, others do.
    fn is_ours(&self, uid: &Uid) -> bool {
        if !self.has_pod {
            return true;
        }
        let replicas = self.leases.replicas();
        let names = replicas.names().into_iter().flatten();
        match rendezvous::chosen(&uid.to_string(), names) {
            Some(replica) => *replica == *self.replica,
            None => self.rights.leases(),
        }
    }
}

/// Reports instances that have ended.
#[derive(Debug)]
pub struct Usage {
    lives: Lives,
    reporters: Reporters,
}

impl Usage {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(reporters: Reporters) -> Self {
        Self {
            lives: Lives::default(),
            reporters,
        }
    }

    /// Takes up an event, and reports the instance if that is over and this replica's to report.
    pub fn note(&mut self, event: &Lifecycle, context: &Context<'_>, reporter: &Reporter) {
        let Some(uid) = &event.job_uid else {
            return;
        };
        let find = || Found::of(&event.key, uid, context);
        if let Some(ended) = self.lives.note(event, find)
            && self.reporters.is_ours(uid)
        {
            self.report(&event.key, uid, &ended, reporter);
        }
    }

    fn report(&self, key: &InstanceKey, uid: &Uid, ended: &Ended, reporter: &Reporter) {
        let secs = |took: Option<Duration>| took.map(|took| took.as_secs_f64());
        let (after, ready) = (secs(ended.ready_after), secs(ended.ready_for));
        let text =
            |secs: Option<f64>| secs.map_or_else(|| "-".to_owned(), |secs| format!("{secs:.3}"));
        let (uid, job) = (uid.to_string(), key.job_name());
        let Ended { owner, cause, .. } = ended;
        let replica = &*self.reporters.replica;
        log::info!(
            "type" = key.app_type.as_str(),
            "name" = key.name.as_str(),
            "job" = job.as_str(),
            "owner" = &**owner,
            "uid" = uid.as_str(),
            "ready_after" = after,
            "ready_for" = ready,
            "cause" = &**cause,
            "replica" = replica;
            "usage of {key}: ready_after={} ready_for={} cause={cause:?} owner={owner:?} uid={uid:?} replica={replica:?} (Job {job})",
            text(after),
            text(ready)
        );
        let app_type = reporter.type_label(key);
        reporter.metrics.used(app_type, ready.unwrap_or_default());
    }
}

#[cfg(test)]
mod tests;
