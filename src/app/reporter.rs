//! [`Reporter`]: turns lifecycle events into log lines, metrics and spans; their one consumer.
//!
//! Nothing is decided here, nothing can fail, and nothing is kept between two events. Starts and stops
//! are counted by the replica whose call created or deleted the Job.

use super::api_call::StopCause;
use super::lifecycle::{EndedStart, Lifecycle, LifecycleKind};
use super::shared_catalog::SharedCatalog;
use crate::clock::Clock;
use crate::metrics::{Metrics, OTHER};
use crate::model::names::InstanceKey;
use crate::traces::{Attributes, Step, Traces, Value, Work};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

/// What consumes lifecycle events.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// Where starts and stops are counted.
    pub metrics: Arc<Metrics>,
    /// Where spans of starts go.
    pub traces: Traces,
    /// What is on offer: only its types become labels of metrics, so that callers cannot make up more.
    pub catalog: Arc<SharedCatalog>,
    /// For the time of day of what was seen on the monotonic clock.
    pub clock: Arc<dyn Clock>,
}

impl Reporter {
    /// Reports one event.
    pub fn report(&self, event: Lifecycle) {
        log_event(&event);
        self.count(&event);
        let Some(ended) = event.start_ended else {
            return;
        };
        self.with_type(&event.key, |app_type| {
            self.metrics
                .start_ended(app_type, ended.result, &ended.reason);
        });
        if self.traces.is_on() {
            let uid = event.job_uid.as_ref().map(ToString::to_string);
            let moments = Moments {
                now: self.clock.now(),
                wall: self.clock.wall_now(),
            };
            if let Some(work) = work(&event.key, uid, *ended, event.at, &moments) {
                self.traces.tell(work);
            }
        }
    }

    fn count(&self, event: &Lifecycle) {
        if let Some((phase, took)) = event.phase_left {
            self.metrics.phase_took(phase.as_str(), took.as_secs_f64());
        }
        match &event.kind {
            LifecycleKind::Ready {
                after: Some(took), ..
            } => self.with_type(&event.key, |app_type| {
                self.metrics.start_took(app_type, took.as_secs_f64());
            }),
            LifecycleKind::Failed {
                reported_after: Some(took),
                ..
            }
            | LifecycleKind::Finished {
                reported_after: Some(took),
                ..
            } => self.metrics.verdict_took(took.as_secs_f64()),
            LifecycleKind::Stopping(Some(StopCause::Requested(_))) => self.stopped(event, "asked"),
            LifecycleKind::Stopping(Some(StopCause::Replaced)) => self.stopped(event, "replaced"),
            LifecycleKind::PodForceDeleted { .. } => self.stopped(event, "forced"),
            // A Job whose pod is on a lost node is counted when its pod is force-deleted.
            LifecycleKind::Stopping(Some(StopCause::Stuck) | None)
            | LifecycleKind::Ready { after: None, .. }
            | LifecycleKind::Failed { .. }
            | LifecycleKind::Finished { .. }
            | LifecycleKind::Requested
            | LifecycleKind::Created { .. }
            | LifecycleKind::NotCreated
            | LifecycleKind::InPhase(_)
            | LifecycleKind::Gone
            | LifecycleKind::Unfollowed => {}
        }
    }

    fn stopped(&self, event: &Lifecycle, cause: &str) {
        self.with_type(&event.key, |app_type| self.metrics.stopped(app_type, cause));
    }

    /// The type as the label of metrics has it.
    fn with_type(&self, key: &InstanceKey, count: impl FnOnce(&str)) {
        let is_on_offer = self.catalog.current().get(&key.app_type).is_some();
        count(if is_on_offer {
            key.app_type.as_str()
        } else {
            OTHER
        });
    }
}

fn log_event(event: &Lifecycle) {
    let key = &event.key;
    let job = key.job_name();
    match &event.kind {
        LifecycleKind::Requested => log::debug!("creating Job {job} for {key}"),
        LifecycleKind::Created { .. } => match &event.by {
            Some(by) => log::info!("created Job {job} for {key}, requested by {by}"),
            None => log::info!("created Job {job} for {key}"),
        },
        // Why was logged by the executor.
        LifecycleKind::NotCreated => {}
        LifecycleKind::InPhase(phase) => log::debug!("{key} is {}", phase.as_str()),
        LifecycleKind::Ready { after, recovered } => {
            let after = match after {
                Some(took) => format!(" after {:.1} s", took.as_secs_f64()),
                None => String::new(),
            };
            let recovered = if *recovered { "recovered and " } else { "" };
            log::info!("{key} {recovered}is ready{after} (Job {job})");
        }
        LifecycleKind::Failed {
            finding, is_final, ..
        } => {
            let word = if *is_final {
                "failed"
            } else {
                "probably failed"
            };
            let (reason, message) = (&finding.reason, &finding.message);
            let separator = if message.is_empty() { "" } else { ": " };
            log::warn!("{key} {word}: {reason}{separator}{message} (Job {job})");
        }
        LifecycleKind::Finished { reason, .. } => {
            log::info!("{key} finished: {reason} (Job {job})");
        }
        LifecycleKind::Stopping(cause) => match cause {
            Some(StopCause::Requested(by)) => {
                log::info!("stopping {key}, requested by {by} (Job {job})");
            }
            Some(StopCause::Replaced) => {
                log::info!("stopping {key}, which has ended and is replaced (Job {job})");
            }
            Some(StopCause::Stuck) => {
                log::warn!("stopping {key}, whose pod is on a lost node (Job {job})");
            }
            None => log::info!("{key} is being stopped, not by this replica (Job {job})"),
        },
        LifecycleKind::PodForceDeleted { pod } => log::warn!(
            "force-deleted pod {pod} of {key}: its node is lost, since the pod is still there 30 s after its grace period"
        ),
        LifecycleKind::Gone => log::info!("{key} is gone (Job {job})"),
        LifecycleKind::Unfollowed => log::debug!("{key} is not followed any longer"),
    }
}

/// The same moment on both clocks.
struct Moments {
    now: Instant,
    wall: SystemTime,
}

impl Moments {
    /// The time of day of a moment of the past.
    fn wall_of(&self, at: Instant) -> SystemTime {
        let ago = self.now.saturating_duration_since(at);
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// The span of a start, where the request that brought it about has one.
fn work(
    key: &InstanceKey,
    uid: Option<String>,
    ended: EndedStart,
    end: Instant,
    moments: &Moments,
) -> Option<Work> {
    let parent = ended.by.trace?;
    let text = |text: &str| Value::Text(text.to_owned());
    let mut attributes: Attributes = vec![
        ("config_controller.type", text(key.app_type.as_str())),
        ("config_controller.name", text(key.name.as_str())),
        ("config_controller.result", Value::Word(ended.result)),
        (
            "config_controller.joined",
            Value::Number(ended.joined.into()),
        ),
        ("k8s.job.name", Value::Text(key.job_name())),
    ];
    attributes.extend(uid.map(|uid| ("k8s.job.uid", Value::Text(uid))));
    if !ended.reason.is_empty() {
        attributes.push(("config_controller.reason", text(&ended.reason)));
    }
    // A start that was stopped, or that ended well too soon, is no failure.
    let has_failed = matches!(ended.result, "failed" | "denied");
    if has_failed {
        attributes.push(("error.type", text(&ended.reason)));
    }
    let steps = ended.steps.iter().map(|step| Step {
        name: step.phase.as_str(),
        begin: moments.wall_of(step.begin),
        end: moments.wall_of(step.end),
    });
    Some(Work {
        name: "start",
        end: moments.wall_of(end),
        begin: moments.wall_of(ended.begun),
        parent,
        links: ended.links,
        attributes,
        steps: steps.collect(),
        events: ended
            .reported_at
            .map(|at| ("verdict", moments.wall_of(at)))
            .into_iter()
            .collect(),
        error: has_failed.then(|| ended.reason.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_of_the_past_have_a_time_of_day() {
        let second = Duration::from_secs(1);
        let wall = SystemTime::UNIX_EPOCH + second * 100;
        let now = Instant::now() + second * 50;
        let moments = Moments { now, wall };
        assert_eq!(moments.wall_of(now), wall);
        assert_eq!(moments.wall_of(now - second * 3), wall - second * 3);
        assert_eq!(moments.wall_of(now + second), wall);
    }
}
