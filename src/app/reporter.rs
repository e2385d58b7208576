//! [`Reporter`]: turns lifecycle events into log lines, metrics and spans.
//!
//! Nothing is decided here, nothing can fail, and nothing is kept between two events. Starts and stops
//! are counted by the replica whose call created or deleted the Job.

use super::api_call::StopCause;
use super::catalog::SharedCatalog;
use super::lifecycle::{EndedStart, Lifecycle, LifecycleKind};
use super::log_line::log_line;
use crate::clock::Clock;
use crate::metrics::{Metrics, OTHER};
use crate::model::names::InstanceKey;
use crate::model::status::Finding;
use crate::traces::{Attributes, Step, Traces, Value, Work};
use log::Level::{Debug, Info, Warn};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// Logs and counts lifecycle events.
#[derive(Clone, Debug)]
pub struct Reporter {
    /// Where starts and stops are counted.
    pub metrics: Arc<Metrics>,
    /// Where spans of starts go.
    pub traces: Traces,
    /// The app types: only these become labels of metrics, so that callers cannot invent more.
    pub catalog: Arc<SharedCatalog>,
    /// Converts monotonic times to wall-clock times.
    pub clock: Arc<dyn Clock>,
}

impl Reporter {
    /// Reports one event, if it is news.
    pub fn report(&self, event: Lifecycle) {
        if !event.is_news {
            return;
        }
        let key = &event.key;
        let app_type = self.type_label(key);
        log(&event);
        self.count(&event, app_type);
        if let Some((phase, took)) = event.phase_left {
            self.metrics.phase_took(phase.as_str(), took.as_secs_f64());
        }
        let Some(ended) = event.start_ended else {
            return;
        };
        self.metrics
            .start_ended(app_type, ended.result, &ended.reason);
        if self.traces.is_on() {
            let uid = event.job_uid.as_ref().map(ToString::to_string);
            let (now, wall) = (self.clock.now(), self.clock.wall_now());
            let wall_of = |at| wall_of(at, now, wall);
            if let Some(work) = work(key, uid, *ended, event.at, wall_of) {
                self.traces.export(work);
            }
        }
    }

    /// The value of the label `type` of metrics for this instance.
    #[must_use]
    pub fn type_label<'a>(&self, key: &'a InstanceKey) -> &'a str {
        let is_on_offer = self.catalog.current().get(&key.app_type).is_some();
        if is_on_offer {
            key.app_type.as_str()
        } else {
            OTHER
        }
    }

    /// `app_type` is the value of the label `type` of metrics.
    fn count(&self, event: &Lifecycle, app_type: &str) {
        match &event.kind {
            LifecycleKind::Ready { after, .. } => {
                if let Some(after) = after {
                    self.metrics.start_took(app_type, after.as_secs_f64());
                }
            }
            LifecycleKind::Failed { reported_after, .. }
            | LifecycleKind::Finished { reported_after, .. } => {
                self.observe_time_to_failure_report(*reported_after);
            }
            LifecycleKind::Stopping(Some(cause)) => {
                // That one is counted when its pod is force-deleted.
                if *cause != StopCause::Stuck {
                    self.metrics.stopped(app_type, cause.as_str());
                }
            }
            LifecycleKind::PodForceDeleted { .. } => self.metrics.stopped(app_type, "forced"),
            LifecycleKind::Requested
            | LifecycleKind::Created(_)
            | LifecycleKind::NotCreated
            | LifecycleKind::InPhase { .. }
            | LifecycleKind::IdleSoon(_)
            | LifecycleKind::Stopping(None)
            | LifecycleKind::OrphanDeleted { .. }
            | LifecycleKind::Gone
            | LifecycleKind::Unfollowed => {}
        }
    }

    fn observe_time_to_failure_report(&self, took: Option<Duration>) {
        if let Some(took) = took {
            self.metrics
                .observe_time_to_failure_report(took.as_secs_f64());
        }
    }
}

/// Logs one event. Each kind has a line of its own in the source, which is what the log limits.
fn log(event: &Lifecycle) {
    let key = &event.key;
    let job = key.job_name();
    match &event.kind {
        LifecycleKind::Requested => {
            log_line!(Debug, key, None, "creating Job {job} for {key}");
        }
        LifecycleKind::Created(by) => {
            log_line!(
                Info,
                key,
                Some(by),
                "created Job {job} for {key}, requested by {by}"
            );
        }
        // The executor has logged the reason.
        LifecycleKind::NotCreated => {}
        LifecycleKind::InPhase { finding, .. } => {
            let phase = finding.phase.as_str();
            log_line!(Debug, key, None, "{key} is {phase}: {}", finding.reason);
        }
        LifecycleKind::Ready { after, recovered } => {
            let how = ready_text(*after, *recovered);
            log_line!(Info, key, None, "{key} {how} (Job {job})");
        }
        LifecycleKind::Failed {
            finding, is_final, ..
        } => {
            let probably = if *is_final { "" } else { "probably " };
            let text = failure_text(finding);
            log_line!(
                Warn,
                key,
                None,
                "{key} {probably}failed: {text} (Job {job})"
            );
        }
        LifecycleKind::Finished { finding, .. } => {
            log_line!(
                Info,
                key,
                None,
                "{key} finished: {} (Job {job})",
                finding.reason
            );
        }
        LifecycleKind::IdleSoon(left) => log_idle(key, left.as_secs()),
        LifecycleKind::Stopping(cause) => log_stop(key, cause.as_ref()),
        LifecycleKind::PodForceDeleted { pod } => log_line!(
            Warn,
            key,
            None,
            "force-deleted pod {pod} of {key}: Kubernetes says that its node is lost, and the pod is still there 30 s after its grace period"
        ),
        LifecycleKind::OrphanDeleted { pod } => {
            let of = event.job_uid.as_ref().map(ToString::to_string);
            let of = of.unwrap_or_default();
            log_line!(
                Info,
                key,
                None,
                "deleted pod {pod} of {key}, which outlived its Job {job} ({of}); a new instance starts once the pod has ended"
            );
        }
        LifecycleKind::Gone => log_line!(Info, key, None, "{key} is gone (Job {job})"),
        LifecycleKind::Unfollowed => {
            log_line!(Debug, key, None, "{key} is not followed any longer")
        }
    }
}

fn log_idle(key: &InstanceKey, left: u64) {
    log_line!(
        Debug,
        key,
        None,
        "nobody uses {key}: it may be stopped in {left} s"
    );
}

fn ready_text(after: Option<Duration>, recovered: bool) -> String {
    let recovered = if recovered { "recovered and " } else { "" };
    let after = after.map(|took| format!(" after {:.1} s", took.as_secs_f64()));
    format!("{recovered}is ready{}", after.unwrap_or_default())
}

fn failure_text(finding: &Finding) -> String {
    match &*finding.message {
        "" => finding.reason.to_string(),
        message => format!("{}: {message}", finding.reason),
    }
}

/// Logs that a Job is being deleted; `None`: not by this replica.
fn log_stop(key: &InstanceKey, cause: Option<&StopCause>) {
    let job = key.job_name();
    match cause {
        Some(StopCause::Requested(by)) => {
            log_line!(
                Info,
                key,
                Some(by),
                "stopping {key}, requested by {by} (Job {job})"
            );
        }
        Some(StopCause::Replaced) => log_line!(
            Info,
            key,
            None,
            "stopping {key}, which has ended and is replaced (Job {job})"
        ),
        Some(StopCause::Disrupted) => log_line!(
            Info,
            key,
            None,
            "stopping {key}, whose pod was evicted or deleted; it is replaced (Job {job})"
        ),
        Some(StopCause::Idle) => log_line!(
            Info,
            key,
            None,
            "stopping {key}, which nobody has used for its idle-timeout (Job {job})"
        ),
        Some(StopCause::Outdated(revisions)) => log_line!(
            Info,
            key,
            None,
            "restarting {key}, whose template has changed from revision {} to {} (Job {job})",
            revisions.old,
            revisions.new
        ),
        Some(StopCause::NoPlace(refusal)) => log_line!(
            Info,
            key,
            None,
            "refused {key} before it ran: {refusal} (Job {job})"
        ),
        Some(StopCause::Stuck) => log_line!(
            Warn,
            key,
            None,
            "stopping {key}, whose pod is on a lost node (Job {job})"
        ),
        None => log_line!(
            Info,
            key,
            None,
            "{key} is being stopped, not by this replica (Job {job})"
        ),
    }
}

/// The wall-clock time of a past instant; `now` and `wall` are the same moment on both clocks.
fn wall_of(at: Instant, now: Instant, wall: SystemTime) -> SystemTime {
    let ago = now.saturating_duration_since(at);
    wall.checked_sub(ago).unwrap_or(wall)
}

/// The span of a start, if its request has one.
fn work(
    key: &InstanceKey,
    uid: Option<String>,
    ended: EndedStart,
    end: Instant,
    wall_of: impl Fn(Instant) -> SystemTime,
) -> Option<Work> {
    let start = ended.start;
    let parent = start.by.trace?;
    let text = |text: &str| Value::Text(text.to_owned());
    let mut attributes: Attributes = vec![
        ("config_controller.type", text(key.app_type.as_str())),
        ("config_controller.name", text(key.name.as_str())),
        ("config_controller.result", Value::Word(ended.result)),
        (
            "config_controller.joined",
            Value::Number(start.joined.into()),
        ),
        ("k8s.job.name", Value::Text(key.job_name())),
    ];
    attributes.extend(uid.map(|uid| ("k8s.job.uid", Value::Text(uid))));
    if !ended.reason.is_empty() {
        attributes.push(("config_controller.reason", text(&ended.reason)));
    }
    // A start that was stopped, or that ended with success too soon, is no failure.
    let has_failed = matches!(ended.result, "failed" | "denied");
    if has_failed {
        attributes.push(("error.type", text(&ended.reason)));
    }
    let steps = start.steps.iter().map(|step| Step {
        name: step.phase.as_str(),
        begin: wall_of(step.begin),
        end: wall_of(step.end),
    });
    Some(Work {
        name: "start",
        end: wall_of(end),
        begin: wall_of(start.begun),
        parent,
        links: start.links,
        attributes,
        steps: steps.collect(),
        events: start
            .reported_at
            .map(|at| ("verdict", wall_of(at)))
            .into_iter()
            .collect(),
        error: has_failed.then(|| ended.reason.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By their module, lines of events have a larger bound.
    #[test]
    fn events_are_logged_from_the_module_that_the_log_knows() {
        let module = module_path!().strip_suffix("::tests").unwrap();
        assert_eq!(module, crate::logging::INSTANCE_EVENTS[0]);
    }

    #[test]
    fn past_instants_become_wall_clock_times() {
        let second = Duration::from_secs(1);
        let wall = SystemTime::UNIX_EPOCH + second * 100;
        let now = Instant::now() + second * 50;
        assert_eq!(wall_of(now, now, wall), wall);
        assert_eq!(wall_of(now - second * 3, now, wall), wall - second * 3);
        assert_eq!(wall_of(now + second, now, wall), wall);
    }
}
