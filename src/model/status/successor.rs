//! A Job that has no pod, or none that stays: between two pods, or before the first.
//!
//! Pure. The Job controller makes the first pod at once, and the next one after a back-off. How a pod itself
//! is doing is in `pods.rs`.

use super::budgets::controller_pause;
use super::ending::disruption;
use super::pods::{ended_at, pod_ended};
use super::{
    Budget, EventsOf, Finding, InstanceStatus, Phase, Prognosis, event_text, latest_event,
};
use crate::kube::types::{EventReason, Job, Pod};
use crate::model::labels::INSTANCE_NAME;
use std::time::Duration;

/// The Job controller's first back-off; also after a pod that others ended (measured: 9.6 s and more).
const BACK_OFF: Duration = Duration::from_secs(10);

/// The reason of a Job that has no pod.
pub(super) const NO_POD: &str = "NoPod";

/// The status of a Job whose pod is gone, with what was known of that pod, if that says anything: others were
/// stopping it, or it had ended, so that its Job ends, too.
#[must_use]
pub fn after_pod(job: &Job, pod: &Pod, events: EventsOf<'_>) -> Option<InstanceStatus> {
    if pod.metadata.is_deleting() {
        let finding = without_pod(job, Some(pod), events);
        return Some(InstanceStatus::Starting(finding));
    }
    pod_ended(job, pod)
}

/// A Job without a pod, or only with one that is being deleted and will be replaced.
///
/// Kubernetes keeps no time of a deleted pod and does not even count an evicted one. So without a
/// pod the budget starts when this state is first observed. A Job that ran for a day is not a
/// failing start while its pod is being replaced.
pub(super) fn without_pod(job: &Job, leaving: Option<&Pod>, events: EventsOf<'_>) -> Finding {
    let refusal = latest_event(events, &job.metadata.uid, &[EventReason::FailedCreate])
        // An Event from before the deletion of the pod is outdated. Both times are the control plane's.
        .filter(|event| leaving.is_none_or(|pod| event.last > pod.metadata.deletion_timestamp));
    let pause = controller_pause(job);
    let pause = if leaving.is_some() || (refusal.is_none() && had_pod(job)) {
        pause.max(BACK_OFF)
    } else {
        pause
    };
    let ended = leaving.and_then(ended_at);
    // The grace of a pod that has not ended is part of the pause: the time of its end is in the future.
    let grace = leaving.map_or(0, |pod| pod.deletion_grace_secs);
    let grace = Duration::from_secs(grace.into());
    let mut prognosis = Prognosis::Retryable {
        budget: Some(Budget::Creating),
        pause: pause + ended.map_or(grace, |_| Duration::ZERO),
        from: ended.or_else(|| leaving.and_then(Pod::deleted_since)),
    };
    let (reason, message) = match (refusal, leaving) {
        (Some(event), _) => {
            let diagnosis = event_text::rejected_pod(&event.message);
            if diagnosis.is_terminal {
                prognosis = Prognosis::Terminal;
            }
            ("FailedCreate".into(), diagnosis.message)
        }
        (None, Some(pod)) => match disruption(pod) {
            Some(disruption) => {
                let why = disruption.message;
                let message = format!(
                    "Kubernetes stops the pod ({why}); a new one starts within about 10 s of its end"
                );
                (disruption.reason, message)
            }
            None => {
                let message = "the pod is being stopped; the Job creates a new one once it is gone";
                (NO_POD.into(), message.to_owned())
            }
        },
        (None, None) if job.status.active > 0 => {
            let message = format!(
                "Kubernetes counts a pod of this Job, but none with the label {INSTANCE_NAME} is seen yet; if this lasts, an admission webhook or a person has removed the label: set it again, or stop the instance and fix the webhook"
            );
            (NO_POD.into(), message)
        }
        (None, None) if had_pod(job) => {
            let message = "the pod of the Job is gone; the Job creates a new one about 10 s later";
            (NO_POD.into(), message.to_owned())
        }
        (None, None) => (NO_POD.into(), "the Job has no pod yet".to_owned()),
    };
    Finding {
        reason,
        since: leaving
            .and_then(Pod::deleted_since)
            .or(job.metadata.creation_timestamp),
        prognosis,
        ..Finding::new(Phase::Creating, "", message)
    }
}

/// Whether this Job, which has no pod, had one before, unless its first pod was rejected: the Job controller
/// notes the start of a Job together with its first pod (measured with Kubernetes 1.36).
fn had_pod(job: &Job) -> bool {
    job.status.start_time.is_some() && job.status.active == 0
}
