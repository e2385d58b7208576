//! The promises, each as one pure check with the sentence that it stands for.
//!
//! A check is given what was asked, what was answered and what really was; it knows no replica and
//! changes nothing. *Since the request was made* means: at some moment that is not older than what
//! the replica had seen of Jobs (of pods) when the request was made, or at any time until it was
//! answered, should its cache have gone back. A replica whose watches lag can know no better; one
//! that has seen all there is must answer what is true now.

use std::net::IpAddr;
use std::time::Instant;

use config_controller::model::status::{Budget, Finding, Prognosis};
use serde_json::Value;

use super::truth::{Life, Line, has_ended, is_deleting, ready_address};
use crate::fake_kube::cluster::meta;
use crate::fake_kube::dynamics::has_condition;

/// A promise that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    /// Which promise.
    pub(super) promise: Promise,
    /// What was seen instead.
    pub(super) seen: String,
}

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    OneJob,
    OnePod,
    ReadyIsTrue,
    VerdictIsTrue,
    StoppedIsTrue,
    StopIsDone,
    StopFindsNothingOnlyIfSo,
    StopLasts,
    DeletionIsRemembered,
    CallHitsItsTarget,
    AnsweredOnce,
    CoordinatorIsSound,
    AnsweredInTime,
    NobodyWaitsForWhatIsReady,
    CalmHasNoErrors,
    NoDefectIsTold,
    ReadsCostNothing,
    CallsAreBounded,
    OneCallAName,
    Bounded,
    ComesToRest,
    ViewIsTruth,
    StoresAreSound,
    StartsAndStops,
    NothingIsLeft,
    NoPanic,
}

impl Promise {
    /// In words.
    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::OneJob => {
                "of one type and name there is at most one Job that is not being deleted"
            }
            Self::OnePod => {
                "of one type and name at most one pod lives, unless its Job was taken from it by hand"
            }
            Self::ReadyIsTrue => {
                "a ready answer has the address of a pod that was ready since the request was made, and whose Job was this instance and neither over nor being deleted"
            }
            Self::VerdictIsTrue => {
                "a caller is told app_error only if the status objects have said so since the request was made"
            }
            Self::StoppedIsTrue => {
                "a caller is told that the instance was stopped only if one was since the request was made"
            }
            Self::StopIsDone => {
                "when a DELETE is answered as done, the deletion of every Job that was there when it was asked for has begun, or is over where the caller waited for that"
            }
            Self::StopFindsNothingOnlyIfSo => {
                "a DELETE is answered 404 only if there was no living Job at some moment since it was asked for"
            }
            Self::StopLasts => {
                "after a DELETE was answered and nobody asked again, no Job of that name comes back"
            }
            Self::DeletionIsRemembered => {
                "a replica that has answered a DELETE does not hand out that Job again"
            }
            Self::CallHitsItsTarget => {
                "a call changes the object that it was decided for, and no other of that name"
            }
            Self::CoordinatorIsSound => "the invariants of the coordinator and of the stores hold",
            Self::AnsweredOnce => "who waits is answered once, and nobody else is",
            Self::AnsweredInTime => "who waits is answered by the deadline",
            Self::NobodyWaitsForWhatIsReady => {
                "once the cache shows that the instance is ready, nobody waits for it any more"
            }
            Self::CalmHasNoErrors => "while nothing goes wrong nobody hears of an error",
            Self::NoDefectIsTold => "nobody hears of a defect of ours",
            Self::ReadsCostNothing => {
                "a GET of a ready instance is answered at once and makes no call"
            }
            Self::CallsAreBounded => {
                "a replica makes no more calls for a name than its callers and Kubernetes give reason for"
            }
            Self::OneCallAName => "a replica has at most one call for a name under way",
            Self::Bounded => "what waits and what is under way stays within its bounds",
            Self::ComesToRest => {
                "when nothing goes wrong any more, nobody waits and nothing is under way"
            }
            Self::ViewIsTruth => {
                "when nothing goes wrong any more, every cache shows what there is"
            }
            Self::StoresAreSound => "the invariants of every store hold after every step",
            Self::StartsAndStops => {
                "when nothing goes wrong any more, each name can be started and stopped"
            }
            Self::NothingIsLeft => "when all is stopped, no Job and no pod is left",
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

/// How far back a request may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Floors {
    /// The oldest revision that the cache of Jobs was at.
    pub(super) jobs: u64,
    /// The oldest revision that the cache of pods was at.
    pub(super) pods: u64,
}

impl Floors {
    pub(super) fn lower(&mut self, other: Self) {
        self.jobs = self.jobs.min(other.jobs);
        self.pods = self.pods.min(other.pods);
    }
}

/// [`Promise::OneJob`] and [`Promise::OnePod`].
pub(super) fn one_name_one_instance(line: &Line) -> Result<(), Breach> {
    let jobs = line.live_jobs().count();
    check(Promise::OneJob, jobs <= 1, || format!("{jobs} live Jobs"))?;
    let pods = line.live_pods().count();
    check(Promise::OnePod, pods <= 1, || format!("{pods} live pods"))
}

/// [`Promise::ReadyIsTrue`].
pub(super) fn ready_is_true(line: Option<&Line>, ip: IpAddr, floors: Floors) -> Result<(), Breach> {
    let ip = ip.to_string();
    let holds = line.is_some_and(|line| {
        let pods = line.pods.iter().filter(|pod| {
            let mut states = pod.since(floors.pods).filter_map(|s| s.object.as_deref());
            states.any(|pod| ready_address(pod) == Some(&*ip))
        });
        pods.filter_map(|pod| pod.owner.as_ref()).any(|owner| {
            let mut jobs = line.jobs.iter().filter(|job| job.uid == *owner);
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

/// The reasons of a container that cannot be fetched for now.
const PULL_ERRORS: [&str; 2] = ["ErrImagePull", "ImagePullBackOff"];

/// Kubernetes' timestamps are cut to whole seconds, so budgets that run from one end early.
const SLACK_MS: i64 = 1000;

/// [`Promise::VerdictIsTrue`].
pub(super) fn verdict_is_true(
    line: Option<&Line>,
    finding: &Finding,
    floors: Floors,
    now_ms: i64,
) -> Result<(), Breach> {
    let holds = line.is_some_and(|line| match finding.prognosis {
        Prognosis::Terminal | Prognosis::AwaitingReason => is_hopeless(line, floors),
        Prognosis::Retryable { budget, .. } => budget.is_some_and(|budget| {
            let begun = begun_ms(line, budget, floors);
            begun.is_some_and(|begun| begun + budget_ms(budget) - SLACK_MS <= now_ms)
        }),
    });
    check(Promise::VerdictIsTrue, holds, || {
        let pods = line.into_iter().flat_map(|line| &line.pods);
        let known: Vec<_> = pods.map(Life::outline).collect();
        format!("{finding:?}, {floors:?}, at {now_ms}; its pods: {known:?}")
    })
}

/// Whether the objects have said that this start cannot succeed.
fn is_hopeless(line: &Line, floors: Floors) -> bool {
    let over = line.jobs.iter().any(|job| {
        let mut states = job.since(floors.jobs).filter_map(|s| s.object.as_deref());
        states.any(has_ended)
    });
    over || line.pods.iter().any(|pod| {
        let mut states = pod.since(floors.pods).filter_map(|s| s.object.as_deref());
        states.any(|pod| {
            let runs_once = pod["spec"]["restartPolicy"] == "Never";
            let ended = container_state(pod, "terminated").is_some();
            let why = container_state(pod, "waiting").unwrap_or(&Value::Null);
            let refused = why["message"]
                .as_str()
                .is_some_and(|m| m.contains("404 Not Found"));
            (runs_once && ended && !has_condition(pod, "DisruptionTarget"))
                || why["reason"] == "InvalidImageName"
                || refused
        })
    })
}

/// Since when at least the trouble of that phase has lasted, as far as a replica may know.
fn begun_ms(line: &Line, budget: Budget, floors: Floors) -> Option<i64> {
    let waits = |pod: &Value, reasons: &[&str]| {
        let why = container_state(pod, "waiting").and_then(|why| why["reason"].as_str());
        why.is_some_and(|why| reasons.contains(&why))
    };
    let of_pods = |is: &dyn Fn(&Value) -> bool| {
        let pods = line.pods.iter().filter(|pod| {
            let mut states = pod.since(floors.pods).filter_map(|s| s.object.as_deref());
            states.any(is)
        });
        pods.filter_map(|pod| pod.first_ms(is)).min()
    };
    let created = |is: &dyn Fn(&Value) -> bool| {
        let pods = line.pods.iter().filter(|pod| {
            let mut states = pod.since(floors.pods).filter_map(|s| s.object.as_deref());
            states.any(is)
        });
        pods.map(|pod| pod.first().at_ms).min()
    };
    let unready = |pod: &Value| ready_address(pod).is_none();
    match budget {
        Budget::Creating => {
            let jobs = line.jobs.iter();
            let seen = jobs.filter(|job| job.since(floors.jobs).any(|s| s.object.is_some()));
            seen.map(|job| job.first().at_ms).min()
        }
        Budget::PullError => of_pods(&|pod| waits(pod, &PULL_ERRORS)),
        Budget::Starting => of_pods(&|pod| {
            let config = ["CreateContainerConfigError", "CrashLoopBackOff"];
            waits(pod, &config) || container_state(pod, "terminated").is_some()
        }),
        Budget::Scheduling => created(&|pod| !has_condition(pod, "PodScheduled")),
        Budget::Mounting | Budget::Pulling | Budget::Initialising => created(&unready),
        // However long it was ready before.
        Budget::Readying => {
            let pods = line.pods.iter();
            let lasting = pods.filter_map(|pod| pod.lasting_ms(floors.pods, unready));
            lasting.min()
        }
    }
}

/// How long a start may stay in trouble (design, "Verdicts").
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

/// [`Promise::StoppedIsTrue`].
pub(super) fn stopped_is_true(line: Option<&Line>, floors: Floors) -> Result<(), Breach> {
    let holds = line.is_some_and(|line| {
        line.jobs.iter().any(|job| {
            let mut states = job.since(floors.jobs);
            states.any(|state| state.object.as_deref().is_none_or(is_deleting))
        })
    });
    check(Promise::StoppedIsTrue, holds, || {
        "no Job was deleted".to_owned()
    })
}

/// [`Promise::StopIsDone`]; `asked` is the revision at which it was asked for. Where the caller
/// waited for that, the Job must be gone; else it is enough that its deletion has begun.
pub(super) fn stop_is_done(
    line: Option<&Line>,
    asked: u64,
    must_be_gone: bool,
) -> Result<(), Breach> {
    let mut jobs = line.into_iter().flat_map(|line| &line.jobs);
    let survivor = jobs.find(|job| {
        let is_there = |now: &Value| must_be_gone || !is_deleting(now);
        job.first().revision <= asked && job.now().is_some_and(|now| is_there(now))
    });
    check(Promise::StopIsDone, survivor.is_none(), || {
        let uid = survivor.map_or("", |job| &*job.uid);
        format!("Job {uid} was there at {asked} and still lives")
    })
}

/// [`Promise::StopFindsNothingOnlyIfSo`]; `asked` is the revision at which it was asked for.
pub(super) fn stop_finds_nothing_only_if_so(line: Option<&Line>, asked: u64) -> Result<(), Breach> {
    let mut live = line.into_iter().flat_map(Line::live_jobs);
    // One that has lived all the time: whoever looked must have seen it.
    let all_the_time = live.find(|job| job.first().revision <= asked);
    check(
        Promise::StopFindsNothingOnlyIfSo,
        all_the_time.is_none(),
        || format!("a Job was there at {asked} and is there now"),
    )
}

/// [`Promise::CallHitsItsTarget`]: what a call has changed, as it was before.
pub(super) fn call_hits_its_target(
    target: Option<&str>,
    changed: Option<&Value>,
) -> Result<(), Breach> {
    let hit = changed.map(|object| meta(object, "uid"));
    check(
        Promise::CallHitsItsTarget,
        hit.is_none() || hit == target,
        || format!("{hit:?} was hit, {target:?} was meant"),
    )
}

/// [`Promise::AnsweredInTime`].
pub(super) fn answered_in_time(
    deadlines: impl Iterator<Item = Instant>,
    now: Instant,
) -> Result<(), Breach> {
    let late = deadlines.filter(|deadline| *deadline <= now).count();
    check(Promise::AnsweredInTime, late == 0, || {
        format!("{late} wait longer than they want to")
    })
}
