//! The simulation: seeded random schedules of events, each on one thread.
//!
//! A schedule runs one to three replicas against one fake API server, on a manual clock. A replica
//! consists of the service's own coordinator, stores, reflectors and executor. The seed selects
//! each event: callers, kubelets, controllers, faults, lost responses, kills, broken watches, jumps
//! of time. After every step the promises in [`promises`] are checked. At the end all faults stop,
//! and everything must settle. The same seed gives the same schedule.
//!
//! - `cargo test simulation` runs [`SCHEDULES`]; `SIM_SCHEDULES=100000 cargo test --release
//!   simulation` runs that many, starting at `SIM_SEED` (0).
//! - A failure prints its seed, the promise, the violation and the last steps; `SIM_SEED=<seed>
//!   SIM_SCHEDULES=1 cargo test --release simulation` repeats it. It prints the profile that the seed
//!   drew, too: which events, perturbations and faults it had, and how often.
//! - Schedules with even weights, a quota of none and no name that is stuck repeat the seeds that have
//!   found defects before there were others; `SIM_KIND=even` runs such, `SIM_KIND=idling` and
//!   `SIM_KIND=capped` those alone in which instances end that nobody uses, or few may run.
//!
//! | module | what lives there |
//! |---|---|
//! | `dice` | random numbers and time |
//! | `server` | the API server, and the replicas' transports |
//! | `broken` | API servers that are broken on purpose |
//! | `defects` | replicas that are broken on purpose |
//! | `replica` | one replica without its threads |
//! | `reflectors` | its watches without their threads |
//! | `truth` | the actual history of all objects |
//! | `promises` | what must hold, each a pure check with its description |
//! | `world` | the state of a schedule, and when each promise is checked |
//! | `caps` | whether caps hold |
//! | `callers` | requests, and whether each response was true |
//! | `clocks` | clocks of replicas and nodes that differ, and delays by the true time |
//! | `profile` | the parameters of a schedule, and how often what happens |
//! | `stuck` | a name that fails for ever while others go on |
//! | `idle` | what ends instances that nobody uses, and what is used |
//! | `labels` | the labels that requests set, and whether one is lost |
//! | `unreliable` | lost events, versions that go back, replicas that stand still |
//! | `moves` | the random events, and the end of a schedule |

mod broken;
mod callers;
mod caps;
mod clocks;
mod defects;
mod dice;
mod idle;
mod labels;
mod moves;
mod profile;
mod promises;
mod readers;
mod reflectors;
mod replica;
mod server;
mod stuck;
mod truth;
mod unreliable;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use broken::Broken;
use defects::Defect;
use dice::Dice;
use profile::Profile;
use promises::{Breach, Promise};
use server::lock;
use world::{Tally, World};

/// Default number of schedules, which takes some seconds.
const SCHEDULES: u64 = if cfg!(debug_assertions) { 40 } else { 1000 };

/// Within how many schedules a broken API server must be detected.
const BROKEN_SCHEDULES: usize = 200;

/// Of what is broken on purpose, a debug build tries one in five: a schedule takes ten times as long.
const PROOFS_STEP: usize = if cfg!(debug_assertions) { 5 } else { 1 };

/// How many of the last steps of a failed schedule are printed.
const TAIL: usize = 80;

/// Seeds that have found a defect, and the defect.
const REGRESSIONS: &[(u64, &str)] = &[
    (
        16,
        "a stop of a name that another instance holds was read again endlessly",
    ),
    (
        43,
        "an outdated failure report was returned to waiters when the Job was stopped",
    ),
    (
        50,
        "a stop was answered with the result of a read from before the request",
    ),
    (601, "a watch that was too old lost events (the fake's own)"),
    (
        2746,
        "a waiter did not get a Job that a read for another name had found",
    ),
    (
        4921,
        "a deleted pod was force-deleted repeatedly while the watch lagged",
    ),
    (
        97_390,
        "a list older than an own write hid the Job that the write had created",
    ),
    (
        1510,
        "a record was woken every 10 ms while a deletion was not in the watch",
    ),
    (
        37774,
        "a stop was done although its deletion had missed the Job of that time",
    ),
    (
        28470,
        "the watch brought back a Job that a read had found gone",
    ),
    (
        42609,
        "a label that could be made only after its wait was not answered in time",
    ),
    (
        49,
        "a start got 503 at its deadline although Kubernetes could be reached",
    ),
    (
        100_131,
        "a waiter missed the end of a Job that a read for another name had found gone",
    ),
    (
        203_794,
        "after etcd was restored, a Job that was no longer there was deleted again and again",
    ),
    (
        210_799,
        "a pod that was ready for a moment had the budget of the time before",
    ),
    (
        503_161,
        "after etcd was restored, a Job whose deletion the cache did not show was deleted endlessly",
    ),
    (
        585,
        "a search that came during the replacement of an evicted instance had no wait state",
    ),
];

/// The same, of schedules with weights that the seed draws.
const VARIED_REGRESSIONS: &[(u64, &str)] = &[
    (
        13_008,
        "labels of the pod before replaced one that was set at another replica meanwhile",
    ),
    (
        60_002_962,
        "after etcd was restored, a Job got a second pod (the fake's own)",
    ),
    (
        70_068_982,
        "a kubelet changed the start time of a pod (the fake's own)",
    ),
    (
        90_067_489,
        "a creation that nobody needed was due for ever beside an overdue pod",
    ),
    (
        110_025_933,
        "a list from before a Job was taken for its end (the check)",
    ),
    (
        90_026_031,
        "a late start was replaced in the moment of its end (the check)",
    ),
    (
        70_022_212,
        "an instance that had been unready for long was replaced in the moment of its end (the check)",
    ),
    (
        120_006_094,
        "a read that found another instance of that Job name left its count as it was",
    ),
    (
        120_004_191,
        "a pod that waited for a node had the budget of the one before",
    ),
    (
        130_004_125,
        "an earlier failure hid that a pod was deleted before it ended",
    ),
    (
        130_023_117,
        "a failed pod that was seen late and removed was forgotten, and its delay with it",
    ),
    (
        150_010_471,
        "a list beside a late watch was older than the cache, and replaced it",
    ),
    (
        160_054_090,
        "a kubelet went on with a restored pod that had no node (the fake's own)",
    ),
    (
        190_043_554,
        "a failure just before the deletion for a replacement began no delay",
    ),
    (
        171_012_324,
        "the end of what had been reported as failed, and went on, was not reported",
    ),
    (
        171_020_626,
        "what ran again after etcd was restored was reported as being stopped",
    ),
    (
        171_043_907,
        "what became ready while another call was in flight was not told",
    ),
    (
        171_041_843,
        "the end of a start was not reported that had failed for another reason meanwhile",
    ),
    (
        171_026_207,
        "an end was reported after the stop of the same Job",
    ),
    (
        171_060_028,
        "the end of an instance was reported of another one with its Job name",
    ),
];

/// A schedule that broke a promise.
#[derive(Debug)]
struct Found {
    seed: u64,
    kind: Kind,
    profile: String,
    breach: Breach,
    steps: Vec<String>,
}

impl Found {
    fn report(&self) -> String {
        let Self {
            seed,
            kind,
            profile,
            breach,
            steps,
        } = self;
        let from = steps.len().saturating_sub(TAIL);
        format!(
            "{kind:?} schedule {seed} breaks {:?}: {}\nviolation: {}\nits profile: {profile}\nthe last steps:\n{}\nto repeat it: SIM_SEED={seed} SIM_SCHEDULES=1 cargo test --release simulation",
            breach.promise,
            breach.promise.description(),
            breach.seen,
            steps[from..].join("\n"),
        )
    }
}

/// Which schedules there are for a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// With even weights.
    Even,
    /// With weights and further faults that the seed draws.
    Varied,
    /// The same, in which instances end that nobody uses.
    Idling,
    /// The same, in which of each type few instances may run.
    Capped,
    /// The same against this API server.
    Against(Broken),
    /// The same with this defect of each replica.
    With(Defect),
}

impl Kind {
    fn profile(self, seed: u64, dice: &mut Dice) -> Profile {
        let profile = Profile::draw(seed, dice);
        match self {
            Self::Even => profile,
            Self::Varied => profile.varied(seed),
            Self::Against(broken) => {
                let profile = profile.varied(seed);
                let profile = match broken {
                    Broken::AdmitsAll => profile.capped(seed),
                    _ => profile,
                };
                Profile { broken, ..profile }
            }
            Self::Idling => profile.varied(seed).idling(),
            Self::Capped => profile.varied(seed).capped(seed),
            Self::With(defect) => {
                let profile = profile.varied(seed);
                let profile = match defect {
                    Defect::ForgetsUses | Defect::LetsAllLive => profile.idling(),
                    _ => profile,
                };
                Profile { defect, ..profile }
            }
        }
    }
}

/// Runs one schedule; returns its counts, or the broken promise and, if `steps` is set, its steps.
fn run(seed: u64, kind: Kind, steps: bool) -> Result<Tally, (Breach, Vec<String>)> {
    let mut dice = Dice::new(seed);
    let profile = kind.profile(seed, &mut dice);
    let mut world = World::new(seed, dice, profile, steps);
    let result = catch_unwind(AssertUnwindSafe(|| world.play()));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let (promise, seen) = (Promise::NoPanic, text.unwrap_or_default());
        Err(Breach { promise, seen })
    });
    match result {
        Ok(()) => Ok(world.tally),
        Err(breach) => Err((breach, world.steps.take().unwrap_or_default())),
    }
}

impl World {
    fn play(&mut self) -> Result<(), Breach> {
        if self.profile.is_calm || self.dice.chance(500) {
            self.run_reflectors()?;
        }
        self.server().faults_per_thousand = self.profile.faults_per_thousand;
        for _ in 0..self.profile.moves {
            self.random_event()?;
        }
        self.end()
    }
}

/// Runs a failed schedule again, to record its steps.
fn found(seed: u64, kind: Kind, first: Breach) -> Found {
    let profile = format!("{:?}", kind.profile(seed, &mut Dice::new(seed)));
    match run(seed, kind, true) {
        Err((breach, steps)) => Found {
            seed,
            kind,
            profile,
            breach,
            steps,
        },
        Ok(_) => Found {
            seed,
            kind,
            profile,
            breach: first,
            steps: vec![
                "it passed when repeated: the simulation is not a function of its seed".into(),
            ],
        },
    }
}

/// Runs `count` schedules starting at seed `first`, on as many threads as there are processors.
fn run_all(kind: Kind, first: u64, count: u64) -> Result<Tally, Found> {
    let next = AtomicU64::new(first);
    let failed = AtomicBool::new(false);
    let all = Mutex::new((Tally::new(), None::<(u64, Breach)>));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let result = run(seed, kind, false);
                    let mut all = lock(&all);
                    match result {
                        Ok(tally) => {
                            for (what, count) in tally {
                                *all.0.entry(what).or_default() += count;
                            }
                        }
                        Err((breach, _)) => {
                            failed.store(true, Ordering::Relaxed);
                            if all.1.as_ref().is_none_or(|(lowest, _)| seed < *lowest) {
                                all.1 = Some((seed, breach));
                            }
                        }
                    }
                }
            });
        }
    });
    match all.into_inner().expect("no thread has panicked") {
        (tally, None) => Ok(tally),
        (_, Some((seed, breach))) => Err(found(seed, kind, breach)),
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is '{text}': give a whole number")))
}

#[test]
fn no_schedule_breaks_an_invariant() {
    let first = from_environment("SIM_SEED").unwrap_or(0);
    let count = from_environment("SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let begun = Instant::now();
    let kinds: &[(Kind, u64)] = match std::env::var("SIM_KIND").as_deref() {
        Ok("even") => &[(Kind::Even, 1)],
        Ok("idling") => &[(Kind::Idling, 1)],
        Ok("capped") => &[(Kind::Capped, 1)],
        Ok(other) => panic!("SIM_KIND is '{other}': give even, idling or capped"),
        Err(_) => &[(Kind::Varied, 1), (Kind::Idling, 4), (Kind::Capped, 4)],
    };
    for (kind, part) in kinds {
        let count = count.div_ceil(*part);
        let tally = run_all(*kind, first, count);
        let tally = tally.unwrap_or_else(|found| panic!("{}", found.report()));
        let secs = begun.elapsed().as_secs_f64();
        eprintln!("{count} {kind:?} schedules from seed {first}, {secs:.1} s; counts: {tally:#?}");
    }
}

#[test]
fn known_defects_do_not_recur() {
    let even = REGRESSIONS.iter().map(|it| (it, Kind::Even));
    let varied = VARIED_REGRESSIONS.iter().map(|it| (it, Kind::Varied));
    for ((seed, what), kind) in even.chain(varied) {
        if let Err((breach, _)) = run(*seed, kind, false) {
            panic!("{what}\n{}", found(*seed, kind, breach).report());
        }
    }
}

/// The first of [`BROKEN_SCHEDULES`] that breaks this promise, and in which `is_it` holds.
fn detects(kind: Kind, promise: Promise, is_it: impl Fn(&Profile) -> bool) -> Option<u64> {
    let drawn = |seed: &u64| is_it(&kind.profile(*seed, &mut Dice::new(*seed)));
    let mut seeds = (0..).filter(drawn).take(BROKEN_SCHEDULES);
    seeds.find(|seed| run(*seed, kind, false).is_err_and(|(breach, _)| breach.promise == promise))
}

/// Checks that each of these breaks its promise.
fn all_are_detected<T: Copy + std::fmt::Debug>(
    all: &[(T, Promise)],
    kind: impl Fn(T) -> Kind,
    is_it: impl Fn(T, &Profile) -> bool,
) {
    let missed = all.iter().step_by(PROOFS_STEP).filter(|(what, promise)| {
        let found = detects(kind(*what), *promise, |profile| is_it(*what, profile));
        found.is_none()
    });
    let missed: Vec<_> = missed.collect();
    assert!(
        missed.is_empty(),
        "in {BROKEN_SCHEDULES} schedules: {missed:?}"
    );
}

/// Shows that the simulation detects defects: each promise can be broken.
#[test]
fn a_broken_api_server_is_detected() {
    all_are_detected(
        &Broken::ALL,
        Kind::Against,
        |broken, profile| match broken {
            Broken::AddsLabels => profile.replicas == 1,
            Broken::IgnoresVersions => profile.replicas > 1 && profile.is_fenced,
            _ => true,
        },
    );
}

#[test]
fn a_broken_replica_is_detected() {
    all_are_detected(&Defect::ALL, Kind::With, |defect, profile| {
        defect != Defect::WaitsForOne || profile.stuck.is_some()
    });
}
