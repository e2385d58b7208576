//! The promises, each as one pure check with its description.
//!
//! A check gets the request, the response and the actual history; it knows no replica and changes
//! nothing. *Since the request was made* means: not before the state of Jobs (of pods) that the
//! replica had seen when the request was made. If its cache went back before the response, that
//! older state counts. A replica with lagging watches cannot know more; one that has seen
//! everything must return the current truth.

use std::net::IpAddr;
use std::time::Instant;

use config_controller::model::status::{Budget, Finding, Prognosis};
use serde_json::Value;

use super::clocks::SLACK_MS;
use super::profile::MIN_READY;
use super::truth::{InstanceHistory, ObjectHistory, has_ended, is_deleting, ready_address};
use crate::fake_kube::clock::parse_timestamp;
use crate::fake_kube::cluster::meta;
use crate::fake_kube::dynamics::has_condition;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    /// Which promise.
    pub(super) promise: Promise,
    /// What happened instead.
    pub(super) seen: String,
}

/// A promise of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    OneJob,
    OnePod,
    ForceHasEvidence,
    NoneBesideAnOrphan,
    ReadyIsTrue,
    ReadyHasLasted,
    FailureReportIsTrue,
    StoppedIsTrue,
    StopIsDone,
    StopFindsNothingOnlyIfSo,
    StopLasts,
    DeletionIsRemembered,
    CallHitsItsTarget,
    LabelIsSet,
    LabelsAreKept,
    FenceHolds,
    LabelsAreBounded,
    AnsweredOnce,
    CoordinatorIsSound,
    AnsweredInTime,
    NoWaiterForReadyInstance,
    NoErrorsWithoutFaults,
    NoInternalErrors,
    ReadsCostNothing,
    CallsAreBounded,
    OneCallPerName,
    Bounded,
    Settles,
    CacheIsCurrent,
    StoresAreSound,
    StartsAndStops,
    NothingIsLeft,
    PausesAreSaid,
    DelayIsKept,
    EventsAreTrue,
    CapsHold,
    UsesAreReported,
    UsedLives,
    UnusedEnds,
    NoPanic,
}

impl Promise {
    /// The description of the promise.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::OneJob => "each type and name has at most one Job that is not being deleted",
            Self::OnePod => {
                "each type and name has at most one running pod, unless its Job was deleted by hand without it"
            }
            Self::ForceHasEvidence => {
                "a pod whose containers run is removed only while Kubernetes says that its node is lost"
            }
            Self::NoneBesideAnOrphan => {
                "no Job is created while the replica sees a pod of that name that runs without its Job"
            }
            Self::ReadyIsTrue => {
                "a ready response has the address of a pod that was ready since the request was made, and whose Job was this instance and neither finished nor being deleted"
            }
            Self::ReadyHasLasted => "an instance with `min-ready` has been ready for so long",
            Self::FailureReportIsTrue => {
                "a caller gets app_error only if the objects' status has shown a failure since the request was made"
            }
            Self::StoppedIsTrue => {
                "a caller gets `stopped` only if an instance was stopped since the request was made"
            }
            Self::StopIsDone => {
                "when a DELETE succeeds, the deletion of every Job that existed at its request has begun, or has completed if the caller waited for that"
            }
            Self::StopFindsNothingOnlyIfSo => {
                "a DELETE gets 404 only if there was no Job at some moment since the request was made"
            }
            Self::StopLasts => {
                "after a DELETE was answered, no Job of that name appears without a new request"
            }
            Self::DeletionIsRemembered => {
                "a replica that has answered a DELETE does not return that Job again"
            }
            Self::CallHitsItsTarget => {
                "a call changes the object it was meant for, and no other of that name"
            }
            Self::LabelIsSet => {
                "when a PATCH succeeds, its labels were written since the request was made, unless a later request set the same keys"
            }
            Self::LabelsAreKept => {
                "a label is never replaced by that of a request that was answered before, and never removed"
            }
            Self::FenceHolds => "of PATCHes that expect one state, at most one succeeds",
            Self::LabelsAreBounded => "with one replica no pod has more labels than permitted",
            Self::CoordinatorIsSound => "the invariants of the coordinator and of the stores hold",
            Self::AnsweredOnce => "each waiting request gets exactly one response",
            Self::AnsweredInTime => "each waiting request is answered by its deadline",
            Self::NoWaiterForReadyInstance => {
                "once the cache shows that the instance is ready, no request waits for it"
            }
            Self::NoErrorsWithoutFaults => "without faults no request gets an error",
            Self::NoInternalErrors => "no request gets an internal error",
            Self::ReadsCostNothing => {
                "a GET of a ready instance is answered immediately and makes no call"
            }
            Self::CallsAreBounded => {
                "a replica makes no more calls for a name than its callers and changes in Kubernetes justify"
            }
            Self::OneCallPerName => "a replica has at most one call per name in flight",
            Self::Bounded => "waiting requests and calls in flight stay within their bounds",
            Self::Settles => "after the faults end, no request waits and no call is in flight",
            Self::CacheIsCurrent => "after the faults end, every cache is up to date",
            Self::EventsAreTrue => {
                "a reader of events is told each step of a Job once and in causal order, and of its end"
            }
            Self::CapsHold => "no more instances of a type are admitted than its cap allows",
            Self::UsesAreReported => {
                "each report of a replica has all uses through it within the last timeout"
            }
            Self::UsedLives => {
                "nothing is stopped as idle that was used within its timeout, as far as that was reported"
            }
            Self::UnusedEnds => "after the faults end, what nobody uses is stopped",
            Self::StoresAreSound => "the invariants of every store hold after every step",
            Self::StartsAndStops => "after the faults end, each name can be started and stopped",
            Self::NothingIsLeft => "after all instances are stopped, no Job and no pod is left",
            Self::PausesAreSaid => "after a replica stood still, its responses are not fresh",
            Self::DelayIsKept => "a failed Job is kept for its restart delay, by true time",
            Self::NoPanic => "nothing panics",
        }
    }
}

/// An `Err` where `holds` is false.
pub(super) fn check(
    promise: Promise,
    holds: bool,
    seen: impl FnOnce() -> String,
) -> Result<(), Breach> {
    if holds {
        return Ok(());
    }
    let seen = seen();
    Err(Breach { promise, seen })
}

/// The oldest states that the response to a request may be based on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floors {
    /// The oldest revision of the cache of Jobs.
    pub(super) jobs: u64,
    /// The oldest revision of the cache of pods.
    pub(super) pods: u64,
}

impl Floors {
    pub(super) fn lower(&mut self, other: Self) {
        self.jobs = self.jobs.min(other.jobs);
        self.pods = self.pods.min(other.pods);
    }
}

/// [`Promise::OneJob`], [`Promise::OnePod`] and [`Promise::ForceHasEvidence`].
pub(super) fn one_name_one_instance(history: &InstanceHistory) -> Result<(), Breach> {
    let jobs = history.live_jobs().count();
    check(Promise::OneJob, jobs <= 1, || format!("{jobs} live Jobs"))?;
    let pods = history.live_pods().count();
    check(Promise::OnePod, pods <= 1, || {
        let live = history.live_pods();
        let live: Vec<_> = live
            .map(|pod| (&pod.uid, &pod.owner, pod.outline()))
            .collect();
        let jobs = history.jobs.iter();
        let jobs: Vec<_> = jobs.map(|job| (&job.uid, job.outline())).collect();
        format!("{pods} live pods: {live:?}; the Jobs: {jobs:?}")
    })?;
    let removed = history.pods.iter().filter_map(ObjectHistory::removed);
    let mut forced = removed.filter(|pod| runs(pod) && !is_on_lost_node(pod));
    let forced = forced.find(|pod| !is_on_node_of_a_lost_pod(pod, history));
    check(Promise::ForceHasEvidence, forced.is_none(), || {
        forced.map_or_else(String::new, ToString::to_string)
    })
}

/// Whether another pod on its node has ever borne the mark of the node controller. A pod that was not
/// ready gets none.
fn is_on_node_of_a_lost_pod(pod: &Value, history: &InstanceHistory) -> bool {
    let node = &pod["spec"]["nodeName"];
    let is_there = |other: &Value| other["spec"]["nodeName"] == *node && is_on_lost_node(other);
    let mut others = history.pods.iter();
    others.any(|other| other.first_ms(is_there).is_some())
}

/// [`Promise::NoneBesideAnOrphan`]; `is_seen`: whether the replica's cache shows that this pod runs. (Where
/// versions go back or events are lost, versions do not tell that.)
pub(super) fn none_beside_an_orphan(
    history: &InstanceHistory,
    is_seen: impl Fn(&str) -> bool,
) -> Result<(), Breach> {
    let has_job = |pod: &ObjectHistory| {
        let mut jobs = history.jobs.iter();
        jobs.any(|job| pod.made_by.as_ref() == Some(&job.uid) && job.now().is_some())
    };
    let lives = |pod: &Value| {
        !matches!(
            pod["status"]["phase"].as_str(),
            Some("Succeeded" | "Failed")
        )
    };
    let is_orphan = |pod: &&ObjectHistory| {
        is_seen(&pod.uid) && pod.now().is_some_and(|pod| lives(pod)) && !has_job(pod)
    };
    let orphan = history.pods.iter().find(is_orphan);
    check(Promise::NoneBesideAnOrphan, orphan.is_none(), || {
        orphan.map_or_else(String::new, |pod| pod.uid.clone())
    })
}

fn runs(pod: &Value) -> bool {
    let statuses = pod["status"]["containerStatuses"].as_array();
    let mut statuses = statuses.into_iter().flatten();
    statuses.any(|status| !status["state"]["running"].is_null())
}

/// Whether it bears the mark of the node controller.
fn is_on_lost_node(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let is_marked = |condition: &Value| {
        condition["type"] == "Ready"
            && condition["status"] == "False"
            && condition["reason"].is_null()
    };
    conditions.any(is_marked) && has_condition(pod, "ContainersReady")
}

/// [`Promise::ReadyIsTrue`].
pub(super) fn ready_is_true(
    history: Option<&InstanceHistory>,
    ip: IpAddr,
    floors: Floors,
) -> Result<(), Breach> {
    let ip = ip.to_string();
    let holds = history.is_some_and(|history| {
        let pods = history.pods.iter().filter(|pod| {
            let mut states = pod.since(floors.pods).filter_map(|s| s.object.as_deref());
            states.any(|pod| ready_address(pod) == Some(&*ip))
        });
        pods.filter_map(|pod| pod.owner.as_ref()).any(|owner| {
            let mut jobs = history.jobs.iter().filter(|job| job.uid == *owner);
            jobs.any(|job| {
                let mut states = job.since(floors.jobs).filter_map(|s| s.object.as_deref());
                states.any(|job| !is_deleting(job) && !has_ended(job))
            })
        })
    });
    check(Promise::ReadyIsTrue, holds, || {
        format!("ready with {ip}, {floors:?}")
    })
}

/// [`Promise::ReadyHasLasted`].
pub(super) fn ready_has_lasted(
    history: Option<&InstanceHistory>,
    ip: IpAddr,
    floors: Floors,
    now_ms: i64,
) -> Result<(), Breach> {
    let ip = ip.to_string();
    let is_ready = |pod: &Value| ready_address(pod) == Some(&*ip);
    let pods = history.into_iter().flat_map(|history| &history.pods);
    let since_ms = pods.filter_map(|pod| pod.lasting_ms(floors.pods, is_ready));
    let since_ms = since_ms.min();
    // A pod that becomes ready twice within a second has the same timestamp.
    let slack_ms = 1000 + history.map_or(0, late_ms);
    let most_ms = now_ms - MIN_READY.as_millis() as i64 + slack_ms;
    let holds = since_ms.is_some_and(|since_ms| since_ms <= most_ms);
    check(Promise::ReadyHasLasted, holds, || {
        format!("{ip} is ready since {since_ms:?}, and returned at {now_ms}")
    })
}

/// The reasons of a container while its image cannot be pulled.
const PULL_ERRORS: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// [`Promise::FailureReportIsTrue`]; `is_seen`: whether the replica's cache has shown this pod being deleted
/// before it had ended.
pub(super) fn failure_report_is_true(
    history: Option<&InstanceHistory>,
    finding: &Finding,
    floors: Floors,
    now_ms: i64,
    is_seen: impl Fn(&str) -> bool,
) -> Result<(), Breach> {
    let holds = history.is_some_and(|history| match finding.prognosis {
        Prognosis::Terminal | Prognosis::AwaitingReason => {
            let seems_own = || has_ended_by_itself(history) || is_own_by_times(history, is_seen);
            let is_true = &*finding.reason != "Completed" || seems_own();
            is_true && cannot_succeed(history, floors)
        }
        Prognosis::Retryable { budget, .. } => budget.is_some_and(|budget| {
            let begun = begun_ms(history, budget, floors);
            let slack = SLACK_MS + late_ms(history);
            begun.is_some_and(|begun| begun + budget_ms(budget) - slack <= now_ms)
        }),
    });
    check(Promise::FailureReportIsTrue, holds, || {
        let pods = history.into_iter().flat_map(|history| &history.pods);
        let known: Vec<_> = pods.map(ObjectHistory::outline).collect();
        format!("{finding:?}, {floors:?}, at {now_ms}; its pods: {known:?}")
    })
}

/// Whether an app has exited with code 0 although nobody stopped its pod.
fn has_ended_by_itself(history: &InstanceHistory) -> bool {
    let is_own_end = |pod: &Value| {
        let end = container_state(pod, "terminated");
        end.is_some_and(|end| end["exitCode"] == 0)
            && !is_deleting(pod)
            && !has_condition(pod, "DisruptionTarget")
    };
    let mut pods = history.pods.iter();
    pods.any(|pod| pod.first_ms(is_own_end).is_some())
}

/// Whether a pod seems to be deleted only when its Job had ended, and the replica has not seen that this was
/// before the pod had ended. Times are whole seconds, and the kubelet's own deletion, after the end, sets the
/// time anew. So nothing shows what came first.
fn is_own_by_times(history: &InstanceHistory, is_seen: impl Fn(&str) -> bool) -> bool {
    let mut pods = history.pods.iter().filter(|pod| !is_seen(&pod.uid));
    pods.any(|pod| {
        let mut jobs = history.jobs.iter();
        let job = jobs.find(|job| pod.owner.as_ref() == Some(&job.uid));
        let ended_ms = job.and_then(|job| job.first_ms(has_ended));
        let states = pod.since(0).filter_map(|state| state.object.as_deref());
        let deleted_ms = states.filter_map(deleted_ms).max();
        let both = deleted_ms.zip(ended_ms);
        both.is_some_and(|(deleted_ms, ended_ms)| deleted_ms >= ended_ms / 1000 * 1000)
    })
}

/// When the deletion of this pod was requested, in milliseconds since 1970, as it shows that.
fn deleted_ms(pod: &Value) -> Option<i64> {
    let ends_ms = parse_timestamp(pod["metadata"]["deletionTimestamp"].as_str()?)?;
    let grace_secs = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
    Some(ends_ms - grace_secs.unwrap_or(0) * 1000)
}

/// Whether the objects' status has shown that this start cannot succeed.
fn cannot_succeed(history: &InstanceHistory, floors: Floors) -> bool {
    let over = history.jobs.iter().any(|job| {
        let mut states = job.since(floors.jobs).filter_map(|s| s.object.as_deref());
        states.any(has_ended)
    });
    over || history.pods.iter().any(|pod| {
        let mut jobs = history.jobs.iter();
        let job = jobs.find(|job| Some(&job.uid) == pod.owner.as_ref());
        let has_ended = |pod: &Value| {
            // With `OnFailure` only a success is the end; or while the Job controller retries.
            let runs_once = pod["spec"]["restartPolicy"] == "Never";
            let end = container_state(pod, "terminated");
            let is_last = || runs_once && !job.is_some_and(|job| has_retries(history, job));
            let ended = end.is_some_and(|end| end["exitCode"] == 0 || is_last());
            ended && !has_condition(pod, "DisruptionTarget")
        };
        // The end of its last pod is that of the Job, even once the pod is gone.
        let is_there = job.is_some_and(|job| job.since(floors.jobs).any(|s| s.object.is_some()));
        if is_there && pod.first_ms(has_ended).is_some() {
            return true;
        }
        let mut states = pod.since(floors.pods).filter_map(|s| s.object.as_deref());
        states.any(|pod| {
            let why = container_state(pod, "waiting").unwrap_or(&Value::Null);
            let refused = why["message"]
                .as_str()
                .is_some_and(|m| m.contains("404 Not Found"));
            has_ended(pod) || why["reason"] == "InvalidImageName" || refused
        })
    })
}

/// Whether the Job controller may replace a failed pod of this Job.
fn has_retries(history: &InstanceHistory, job: &ObjectHistory) -> bool {
    let first = job.first().object.as_deref();
    let limit = first.and_then(|job| job["spec"]["backoffLimit"].as_u64());
    let has_failed = |pod: &&ObjectHistory| {
        let failed = |pod: &Value| pod["status"]["phase"] == "Failed";
        pod.owner.as_ref() == Some(&job.uid) && pod.first_ms(failed).is_some()
    };
    let failed = history.pods.iter().filter(has_failed).count();
    limit.is_some_and(|limit| limit > 0 && failed as u64 <= limit)
}

/// The latest time by which the problem of that phase must have begun, as far as a replica may know.
fn begun_ms(history: &InstanceHistory, budget: Budget, floors: Floors) -> Option<i64> {
    let waits = |pod: &Value, reasons: &[&str]| {
        let why = container_state(pod, "waiting").and_then(|why| why["reason"].as_str());
        why.is_some_and(|why| reasons.contains(&why))
    };
    let of_pods = |is: &dyn Fn(&Value) -> bool| {
        let pods = history.pods.iter().filter(|pod| {
            let mut states = pod.since(floors.pods).filter_map(|s| s.object.as_deref());
            states.any(is)
        });
        pods.filter_map(|pod| pod.first_ms(is)).min()
    };
    let created = |is: &dyn Fn(&Value) -> bool| {
        let pods = history.pods.iter().filter(|pod| {
            let mut states = pod.since(floors.pods).filter_map(|s| s.object.as_deref());
            states.any(is)
        });
        pods.map(|pod| pod.first().at_ms).min()
    };
    let unready = |pod: &Value| ready_address(pod).is_none();
    match budget {
        Budget::Creating => {
            let jobs = history.jobs.iter();
            let seen = jobs.filter(|job| job.since(floors.jobs).any(|s| s.object.is_some()));
            seen.map(|job| job.first().at_ms).min()
        }
        Budget::PullError => of_pods(&|pod| waits(pod, &PULL_ERRORS)),
        Budget::Starting => of_pods(&|pod| {
            let config = ["CreateContainerConfigError", "CrashLoopBackOff"];
            // A run after a failure has the budget of the failure.
            let last = &pod["status"]["containerStatuses"][0]["lastState"]["terminated"];
            waits(pod, &config) || container_state(pod, "terminated").is_some() || !last.is_null()
        }),
        Budget::Scheduling => created(&|pod| !has_condition(pod, "PodScheduled")),
        Budget::Mounting | Budget::Pulling | Budget::Initialising => created(&unready),
        // Regardless of how long it was ready before.
        Budget::Readying => {
            let pods = history.pods.iter();
            let lasting = pods.filter_map(|pod| pod.lasting_ms(floors.pods, unready));
            lasting.min()
        }
    }
}

/// How late a kubelet accepted a pod after it had been scheduled, at most. So much less a replica corrects
/// the clock of a node that is behind.
pub(super) fn late_ms(history: &InstanceHistory) -> i64 {
    let late = history.pods.iter().filter_map(|pod| {
        let start = pod.first_ms(|pod| !pod["status"]["startTime"].is_null())?;
        Some(start - pod.first_ms(|pod| has_condition(pod, "PodScheduled"))?)
    });
    late.max().unwrap_or(0)
}

/// The budgets of starts, in milliseconds (defaults of the settings).
fn budget_ms(budget: Budget) -> i64 {
    match budget {
        Budget::PullError | Budget::Starting => 10_000,
        Budget::Creating => 15_000,
        Budget::Mounting | Budget::Pulling | Budget::Initialising | Budget::Readying => 300_000,
        Budget::Scheduling => 600_000,
    }
}

/// The first container's state of that kind.
fn container_state<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    let state = &pod["status"]["containerStatuses"][0]["state"][kind];
    Some(state).filter(|state| !state.is_null())
}

/// [`Promise::StoppedIsTrue`]; `went_back`: a list has shown an older state since the request, in which a Job
/// that the replica knew may not have been there.
pub(super) fn stopped_is_true(
    history: Option<&InstanceHistory>,
    floors: Floors,
    went_back: bool,
) -> Result<(), Breach> {
    let holds = history.is_some_and(|history| {
        history.jobs.iter().any(|job| {
            if went_back && job.first().revision > floors.jobs {
                return true;
            }
            let mut states = job.since(floors.jobs);
            states.any(|state| state.object.as_deref().is_none_or(is_deleting))
        })
    });
    check(Promise::StoppedIsTrue, holds, || {
        "no Job was deleted".to_owned()
    })
}

/// [`Promise::StopIsDone`]; `requested_at` is the revision at the time of the request. If the caller waited
/// for it, the Job must be gone; otherwise it is enough that its deletion has begun.
pub(super) fn stop_is_done(
    history: Option<&InstanceHistory>,
    requested_at: u64,
    must_be_gone: bool,
) -> Result<(), Breach> {
    let mut jobs = history.into_iter().flat_map(|history| &history.jobs);
    let survivor = jobs.find(|job| {
        let is_there = |now: &Value| must_be_gone || !is_deleting(now);
        job.first().revision <= requested_at && job.now().is_some_and(|now| is_there(now))
    });
    check(Promise::StopIsDone, survivor.is_none(), || {
        let uid = survivor.map_or("", |job| &*job.uid);
        format!("Job {uid} existed at {requested_at} and still exists")
    })
}

/// [`Promise::StopFindsNothingOnlyIfSo`]; `requested_at` is the revision at the time of the request.
pub(super) fn stop_finds_nothing_only_if_so(
    history: Option<&InstanceHistory>,
    requested_at: u64,
) -> Result<(), Breach> {
    let mut live = history.into_iter().flat_map(InstanceHistory::live_jobs);
    // A Job that existed all the time cannot have been missed.
    let all_the_time = live.find(|job| job.first().revision <= requested_at);
    check(
        Promise::StopFindsNothingOnlyIfSo,
        all_the_time.is_none(),
        || format!("a Job existed at {requested_at} and still exists"),
    )
}

/// [`Promise::CallHitsItsTarget`]; `changed` is the state of the changed object before the call.
pub(super) fn call_hits_its_target(
    target: Option<&str>,
    changed: Option<&Value>,
) -> Result<(), Breach> {
    let hit = changed.map(|object| meta(object, "uid"));
    check(
        Promise::CallHitsItsTarget,
        hit.is_none() || hit == target,
        || format!("{hit:?} was changed instead of {target:?}"),
    )
}

/// [`Promise::AnsweredInTime`].
pub(super) fn answered_in_time(
    deadlines: impl Iterator<Item = Instant>,
    now: Instant,
) -> Result<(), Breach> {
    let late = deadlines.filter(|deadline| *deadline <= now).count();
    check(Promise::AnsweredInTime, late == 0, || {
        format!("{late} requests wait beyond their deadline")
    })
}
