//! [`TerminationReport`]: what the last pod of a Job has said of its end, which Kubernetes does not keep.
//!
//! Pure. A replica may see a pod change several times at once, or only when it is gone; the states that it has
//! not looked at are those that the index of the cache has kept. How long a report is remembered is in
//! [`super`].

use crate::app::cache::Instance;
use crate::app::coordinator::context::Context;
use crate::kube::types::{Pod, Uid};
use crate::model::status;
use std::sync::Arc;
use std::time::Instant;

/// The last pod of a Job with a termination report, or that is being deleted or gone. It is shared with the
/// cache, so nothing is held twice.
#[derive(Clone, Debug)]
pub(super) struct TerminationReport {
    pub(super) job: Uid,
    pub(super) pod: Arc<Pod>,
    /// When the pod was first seen gone.
    pub(super) lost_at: Option<Instant>,
}

impl TerminationReport {
    /// The report of this instance, if it says more than the `known` pod of the same Job.
    pub(super) fn with_news(
        instance: &Instance,
        known: Option<&Arc<Pod>>,
        context: &Context<'_>,
    ) -> Option<Self> {
        let (pod, is_gone) = match &instance.pod {
            Some(pod) => of_present(instance, pod, known, context)?,
            None => (of_gone(instance, known, context)?, true),
        };
        Some(Self {
            job: instance.uid().clone(),
            pod,
            lost_at: is_gone.then_some(context.now),
        })
    }
}

/// The last state of a pod of this instance that was not looked at.
fn take_lost(instance: &Instance, context: &Context<'_>) -> Option<Arc<Pod>> {
    context.cache.index().take_lost_pod(instance.uid())
}

/// What says most while this pod is there: the pod, its state before it ended, or another pod after it that is
/// gone, which is said, too.
fn of_present(
    instance: &Instance,
    pod: &Arc<Pod>,
    known: Option<&Arc<Pod>>,
    context: &Context<'_>,
) -> Option<(Arc<Pod>, bool)> {
    let is_over = status::has_ended(pod) || (pod.metadata.is_deleting() && pod.shows_its_end());
    let lost = if is_over {
        take_lost(instance, context)
    } else {
        None
    };
    let came_later = |other: &Arc<Pod>| status::precedes_stopped(&instance.job, pod, other);
    let knows_later = known.is_some_and(came_later);
    if let Some(later) = lost.as_ref().filter(|lost| came_later(lost)) {
        let is_news = !knows_later || says_more(later, known);
        return is_news.then(|| (Arc::clone(later), true));
    }
    if knows_later {
        return None;
    }
    let is_same = |other: &Arc<Pod>| other.metadata.uid == pod.metadata.uid;
    let knows_deletion = known.is_some_and(|known| is_same(known) && known.metadata.is_deleting());
    let has_failed = status::has_termination_report(pod);
    let before_end = lost.filter(|lost| is_same(lost) && !knows_deletion && !has_failed);
    let pod = before_end.as_ref().unwrap_or(pod);
    says_more(pod, known).then(|| (Arc::clone(pod), false))
}

/// What the pod was last, which may not have been looked at while it was there.
fn of_gone(
    instance: &Instance,
    known: Option<&Arc<Pod>>,
    context: &Context<'_>,
) -> Option<Arc<Pod>> {
    let lost = take_lost(instance, context)?;
    let is_of_job = !status::is_older_than_job(&lost, &instance.job);
    (is_of_job && (known.is_none() || says_more(&lost, known))).then_some(lost)
}

/// Whether this pod says more of the end of its Job than the known one. That it was being deleted before it
/// ended says more than how it ended then, or another pod before it.
fn says_more(pod: &Pod, known: Option<&Arc<Pod>>) -> bool {
    let says_enough = |known: &Arc<Pod>| {
        let is_same = known.metadata.uid == pod.metadata.uid;
        status::has_termination_report(known) || (is_same && status::is_stopping(known))
    };
    status::has_termination_report(pod)
        || status::is_stopping(pod)
        || (pod.metadata.is_deleting() && !known.is_some_and(says_enough))
}
