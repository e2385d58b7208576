//! The next call for one name, and its content.
//!
//! Pure. [`super::outcome`] decides when it is retried.

use super::context::{Context, Step};
use super::memory::Memory;
use super::operation::{Operation, Standing, Waiter, Want};
use super::resolve::{Observed, State};
use super::retry::CallKind;
use super::start_queue::Start;
use crate::app::admissions::Claim;
use crate::app::api_call::{Action, NewJob, StopCause};
use crate::app::cache::Instance;
use crate::app::error::Error;
use crate::app::queue::Lane;
use crate::app::rendering;
use crate::app::request::{Intent, Origin, Response};
use crate::budget::Account;
use crate::kube::types::Pod;
use crate::model::labels::{self, Size};
use crate::model::names::InstanceKey;
use crate::model::status::InstanceStatus;
use crate::model::template::Variables;
use std::sync::Arc;

/// The call that is to be made now, if one is; or the numbers of the waiters that need none, and what
/// they get. The question is open again then.
pub(super) type Next = Result<Option<Action>, Vec<(u64, Response)>>;

/// Maximum number of keys in the changes of labels that one call merges.
const MERGED_PAIRS_MAX: usize = 1024;

/// Maximum size of the changes of labels that one call merges, in bytes of keys and values in
/// JSON. A single change is bounded by the body of its request instead.
const MERGED_BYTES_MAX: usize = 64 * 1024;

/// The kind of call that is due, even if it has to wait for its retry. `is_overdue`: a pod has
/// exceeded its grace period.
#[must_use]
pub(super) fn due(
    operation: &Operation,
    observed: &Observed,
    is_overdue: bool,
) -> Option<CallKind> {
    if operation.must_read() && (is_overdue || !operation.waiters.is_empty()) {
        return Some(CallKind::Read);
    }
    if operation.waiters.iter().any(Waiter::is_unread) {
        return Some(CallKind::Read);
    }
    let wants_change = operation.waiters.iter().any(|it| it.want.is_change());
    let Some(instance) = &observed.instance else {
        // The cache may lag behind another replica's write: only a 404 of Kubernetes counts.
        if wants_change {
            return Some(CallKind::Read);
        }
        if let Some(kind) =
            before_create(operation, observed).filter(|_| observed.expired.is_none())
        {
            return kind.or_else(|| is_overdue.then_some(CallKind::ForceDelete));
        }
        // How the last Job ended may forbid a new one for a while.
        let may_create =
            observed.state == State::Absent && operation.may_start() && !operation.is_end_unknown();
        return may_create.then_some(CallKind::Create);
    };
    // Also if the cache shows that it is being deleted: the cache may lag, and there may be another
    // Job of this name by now. Only Kubernetes knows.
    if operation.stops().next().is_some() {
        // In the cache the Job to stop is gone; there may be no other one.
        let is_another = operation.has_sent_another(instance.uid());
        return Some(if is_another {
            CallKind::Read
        } else {
            CallKind::Delete
        });
    }
    if instance.pod.is_some() && operation.labels().next().is_some() {
        return Some(CallKind::Label);
    }
    if observed.state != State::Deleting && operation.replaces(instance.uid()) {
        return Some(CallKind::Delete);
    }
    is_overdue.then_some(CallKind::ForceDelete)
}

/// What is to be done before a Job can be created, because pods of the name outlive theirs: a call, or
/// nothing until they have ended. `None`: nothing stands in the way.
fn before_create(operation: &Operation, observed: &Observed) -> Option<Option<CallKind>> {
    let orphans = &observed.orphans;
    if orphans.is_empty() || !operation.may_start() {
        return None;
    }
    let is_known = |pod: &Arc<Pod>| operation.orphans.known.contains(&pod.metadata.uid);
    if !orphans.iter().all(is_known) {
        return Some(Some(CallKind::Read));
    }
    let is_to_delete = orphan_to_delete(operation, observed).is_some();
    Some(is_to_delete.then_some(CallKind::DeletePod))
}

/// The next pod to delete of those that outlive their Job.
fn orphan_to_delete<'a>(operation: &Operation, observed: &'a Observed) -> Option<&'a Arc<Pod>> {
    let is_left = |pod: &&Arc<Pod>| {
        !pod.metadata.is_deleting() && !operation.orphans.deleted.contains(&pod.metadata.uid)
    };
    observed.orphans.iter().find(is_left)
}

/// The lane of a call of that kind: that of a read is a change's, if it is made for one.
#[must_use]
pub(super) fn lane(kind: CallKind, operation: &Operation) -> Lane {
    let is_change = match kind {
        CallKind::Create
        | CallKind::DeletePod
        | CallKind::ForceDelete
        | CallKind::StopIdle
        | CallKind::Admit
        | CallKind::Refuse
        | CallKind::Place => false,
        CallKind::Read => operation.waiters.iter().any(|it| it.want.is_change()),
        CallKind::Delete => operation.stops().next().is_some(),
        CallKind::Label => true,
    };
    if is_change { Lane::Change } else { Lane::Start }
}

/// The caller that a call of that kind is made for: the first of several.
#[must_use]
pub(super) fn caller(kind: CallKind, lane: Lane, operation: &Operation) -> Option<Account> {
    let waiters = operation.waiters.iter().filter(|it| it.needs(kind));
    let mut waiters = waiters.filter(|it| it.want.is_change() == (lane == Lane::Change));
    let held = waiters.next()?.held.as_ref()?;
    Some(held.account().clone())
}

/// The due call of that kind.
pub(super) fn next(
    kind: CallKind,
    operation: &Operation,
    observed: &Observed,
    memory: &Memory,
    step: &Step<'_>,
) -> Next {
    match (kind, &observed.instance) {
        (CallKind::Create, _) => create(step.key, operation, memory, step.context),
        (CallKind::Read, _) => {
            let mut waiters = operation.waiters.iter();
            let with_pods = waiters.any(|it| it.expectation.is_precondition());
            Ok(Some(Action::ReadJob { with_pods }))
        }
        (CallKind::Delete, Some(instance)) => {
            let may = |stop: &&Waiter| stop.standing(Some(instance), step.number) == Standing::Go;
            let first = operation.stops().find(may);
            let new = operation.new_of_stops(|stop| may(&stop), memory, step)?;
            // Those that may not yet are to be read first.
            if first.is_none() && !operation.replaces(instance.uid()) {
                return Ok(None);
            }
            let by = first.and_then(|stop| stop.by.clone());
            let replaced = if instance.status.is_disrupted() {
                StopCause::Disrupted
            } else {
                StopCause::Replaced
            };
            let cause = by.map_or(replaced, StopCause::Requested);
            let uid = instance.uid().clone();
            Ok(Some(Action::DeleteJob {
                uid,
                version: None,
                cause,
                new,
            }))
        }
        (CallKind::DeletePod, _) => {
            let pod = orphan_to_delete(operation, observed);
            Ok(pod.map(|pod| Action::DeletePod {
                job: pod.owner_uid.clone().unwrap_or_default(),
                pod: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }))
        }
        (CallKind::ForceDelete, Some(instance)) => Ok(force_delete(instance)),
        (CallKind::ForceDelete, None) => Ok(observed.leaving().map(|pod| force_delete_pod(pod))),
        (CallKind::Label, Some(instance)) => label(operation, instance, memory, step),
        (CallKind::StopIdle | CallKind::Admit | CallKind::Refuse | CallKind::Place, _)
        | (CallKind::Delete | CallKind::Label, None) => Ok(None),
    }
}

/// Creates the Job for the first waiter with values that fit the template, one in place of another first; waiters
/// with invalid values get the error.
fn create(
    key: &InstanceKey,
    operation: &Operation,
    memory: &Memory,
    context: &Context<'_>,
) -> Next {
    let mut starts = operation.starts();
    let start = starts.find_map(|(it, variables)| Some((it, variables, it.by.as_ref()?)));
    let Some((waiter, variables, by)) = start else {
        return Ok(None);
    };
    let new = new_job(key, (variables, by, waiter), memory, context);
    let new = new.map_err(|error| vec![(waiter.number, Response::Failed(error))])?;
    Ok(Some(Action::CreateJob(Box::new(new))))
}

/// What is created for this waiter, with these values and this sender.
pub(super) fn new_job(
    key: &InstanceKey,
    (variables, by, waiter): (&Arc<Variables>, &Origin, &Waiter),
    memory: &Memory,
    context: &Context<'_>,
) -> Result<NewJob, Error> {
    let (template, settings, revision) = context.catalog.startable(&key.app_type)?.1;
    let is_restart = matches!(&waiter.want, Want::Instance(Intent::Replace(new)) if new.is_restart);
    let new = NewJob {
        is_restart,
        template: Arc::clone(template),
        settings: settings.clone(),
        template_revision: Arc::clone(revision),
        variables: Arc::clone(variables),
        failures: memory.failures_before_new(),
        by: by.clone(),
        held: waiter.held.clone(),
    };
    rendering::check(&new)?;
    Ok(new)
}

/// What the next start asks for.
pub(super) fn start(
    key: &InstanceKey,
    operation: &Operation,
    context: &Context<'_>,
) -> Option<Start> {
    let (_, settings, _) = context.catalog.startable(&key.app_type).ok()?.1;
    let mut starts = operation.starts();
    let by = starts.find_map(|(waiter, _)| waiter.by.as_ref());
    let mut sent = operation.stops().filter_map(|waiter| waiter.by.as_ref());
    let by = by.or_else(|| sent.next());
    let by = by.or_else(|| operation.new_in_flight().map(|new| &new.by))?;
    let is_first = operation.is_replacing();
    Some(Start {
        claim: Claim {
            app_type: key.app_type.clone(),
            owner: by.owner.clone().unwrap_or_default(),
            caps: settings.caps,
        },
        is_patient: is_first || operation.starts().any(|(waiter, _)| waiter.is_patient()),
        is_first,
    })
}

/// Force-deletes an overdue pod: its Job first, since the finalizer of the Job controller keeps the
/// pod.
fn force_delete(instance: &Instance) -> Option<Action> {
    let job = instance.uid().clone();
    if !matches!(instance.status, InstanceStatus::Stopping { .. }) {
        let cause = StopCause::Stuck;
        return Some(Action::DeleteJob {
            uid: job,
            version: None,
            cause,
            new: None,
        });
    }
    instance.leaving.as_ref().map(|pod| force_delete_pod(pod))
}

fn force_delete_pod(pod: &Pod) -> Action {
    Action::ForceDeletePod {
        job: pod.owner_uid.clone().unwrap_or_default(),
        pod: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
    }
}

/// Merges the waiting changes of labels into one call, in the order of their arrival. Each is checked
/// against the labels that those before it leave; one that exceeds the bounds gets the error. So does
/// one that lengthens labels where all instances together have too many.
///
/// The labels of the pod before are passed on first, in a call of their own: they are older than
/// every request. The cache may lag behind a request to another replica, so the pod must be unchanged.
/// If it is not, a change of nothing returns the pod as it is, however long its watch stands still.
fn label(operation: &Operation, instance: &Instance, memory: &Memory, step: &Step<'_>) -> Next {
    let Some(pod) = &instance.pod else {
        return Ok(None);
    };
    let call = |waiters, changes, growth, version| Action::LabelPod {
        waiters,
        pod: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        changes,
        growth,
        version,
    };
    if let Some(own) = operation.own_label() {
        return match memory.inheritance(instance) {
            _ if operation.outdated.as_ref() == Some(&pod.metadata.resource_version) => {
                Ok(Some(call(vec![own.number], Vec::new(), 0, None)))
            }
            Some(change) => {
                let growth = change.size().bytes;
                let version = Some(pod.metadata.resource_version.clone());
                let (number, change) = (vec![own.number], vec![Arc::new(change)]);
                Ok(Some(call(number, change, growth, version)))
            }
            // They have been passed on in the meantime.
            None => Err(vec![(own.number, Response::Done)]),
        };
    }
    // The labels of the pod are known only when the call is made.
    let mut labels = labels::meta_labels(&pod.metadata);
    let (mut waiters, mut changes, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
    let mut size = Size::default();
    let before = step.label_bytes();
    let mut all = before;
    let most = operation.merged_max.unwrap_or(usize::MAX);
    let may =
        |(waiter, _): &(&Waiter, _)| waiter.standing(Some(instance), step.number) == Standing::Go;
    let mut version = None;
    for (waiter, change) in operation.labels().filter(may).take(most) {
        // Its precondition holds for the labels as they are, so it is sent alone.
        let is_conditional = waiter.expectation.is_precondition();
        if version.is_some() || is_conditional && !changes.is_empty() {
            break;
        }
        let within = change.check_limits(&labels, pod.metadata.left_out());
        let after = match within.and_then(|()| change.check_all(&labels, all)) {
            Ok(after) => after,
            Err(error) => {
                rejected.push((waiter.number, Response::Failed(error.into())));
                continue;
            }
        };
        size += change.size();
        let fits = size.pairs <= MERGED_PAIRS_MAX && size.bytes <= MERGED_BYTES_MAX;
        if !fits && !changes.is_empty() {
            break;
        }
        change.apply(&mut labels);
        version = is_conditional.then(|| pod.metadata.resource_version.clone());
        all = after;
        waiters.push(waiter.number);
        changes.push(Arc::clone(change));
    }
    if !rejected.is_empty() {
        return Err(rejected);
    }
    let growth = all.bytes.saturating_sub(before.bytes);
    Ok((!waiters.is_empty()).then(|| call(waiters, changes, growth, version)))
}
