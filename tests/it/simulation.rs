//! The simulation: seeded schedules of everything that can happen, on one thread.
//!
//! A schedule puts one to three replicas (the service's own coordinator, stores, reflectors and calls)
//! before one fake API server, on a clock that stands still unless it is moved, and lets chance
//! decide what happens next: callers, kubelets, controllers, faults, lost answers, kills, broken
//! watches, jumps of time. After every step the promises in [`promises`] are checked; at its end
//! nothing goes wrong any more, and all must come to rest. The same seed is the same schedule.
//!
//! - `cargo test simulation` runs [`SCHEDULES`]; `SIM_SCHEDULES=100000 cargo test --release
//!   simulation` the full number, from `SIM_SEED` (0) on.
//! - A failure prints its seed, the promise, what was seen and the last steps; `SIM_SEED=<seed>
//!   SIM_SCHEDULES=1 cargo test --release simulation` runs it again.
//!
//! | module | what lives there |
//! |---|---|
//! | `dice` | chance and time |
//! | `server` | the API server, and the ways to it |
//! | `broken` | API servers that are broken on purpose |
//! | `replica` | one replica without its threads |
//! | `truth` | what really was |
//! | `promises` | what must hold, each a pure check with its sentence |
//! | `world` | everything, and what is checked when |
//! | `callers` | who waits for what, and whether each answer was true |
//! | `moves` | what happens next, and the end |

mod broken;
mod callers;
mod dice;
mod moves;
mod promises;
mod replica;
mod server;
mod truth;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use broken::Broken;
use dice::Dice;
use promises::{Breach, Promise};
use server::lock;
use world::{Profile, Tally, World};

/// How many schedules run where nobody says how many: some seconds' worth.
const SCHEDULES: u64 = if cfg!(debug_assertions) { 40 } else { 1000 };

/// How many schedules a broken API server gets, to be found out.
const BROKEN_SCHEDULES: u64 = 200;

/// Steps of a failed schedule that are printed.
const TAIL: usize = 80;

/// Seeds that have found something, and what.
const REGRESSIONS: &[(u64, &str)] = &[
    (
        16,
        "a stop of a name that another instance holds was read again without end",
    ),
    (
        43,
        "a verdict that held no longer was told to those who waited when the Job was stopped",
    ),
    (
        50,
        "a stop was answered with what a read had found before it was asked for",
    ),
    (601, "a watch that was too old lost events (the fake's own)"),
    (
        2746,
        "who waited was not told of a Job that a read for another name had found",
    ),
    (
        4921,
        "a pod that was gone was removed again and again while the watch lagged",
    ),
    (
        97_390,
        "a list of before an own write made the Job seem gone that it had made",
    ),
];

/// A schedule in which a promise was broken.
#[derive(Debug)]
struct Found {
    seed: u64,
    breach: Breach,
    story: Vec<String>,
}

impl Found {
    fn report(&self) -> String {
        let Self {
            seed,
            breach,
            story,
        } = self;
        let from = story.len().saturating_sub(TAIL);
        format!(
            "schedule {seed} breaks {:?}: {}\nseen: {}\nthe last steps:\n{}\nrun it again: SIM_SEED={seed} SIM_SCHEDULES=1 cargo test --release simulation",
            breach.promise,
            breach.promise.sentence(),
            breach.seen,
            story[from..].join("\n"),
        )
    }
}

/// Runs one schedule; what came up in it, or what broke, and the story where it was asked for.
fn run(seed: u64, broken: Broken, story: bool) -> Result<Tally, (Breach, Vec<String>)> {
    let mut dice = Dice::new(seed);
    let profile = Profile::draw(&mut dice, broken);
    let mut world = World::new(seed, dice, profile, story);
    let result = catch_unwind(AssertUnwindSafe(|| world.play()));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let (promise, seen) = (Promise::NoPanic, text.unwrap_or_default());
        Err(Breach { promise, seen })
    });
    match result {
        Ok(()) => Ok(world.tally),
        Err(breach) => Err((breach, world.story.take().unwrap_or_default())),
    }
}

impl World {
    fn play(&mut self) -> Result<(), Breach> {
        if self.profile.is_calm || self.dice.chance(500) {
            self.pump()?;
        }
        self.server().faults_per_thousand = self.profile.faults_per_thousand;
        for _ in 0..self.profile.moves {
            self.a_move()?;
        }
        self.end()
    }
}

/// Runs it again, to hear the story.
fn found(seed: u64, broken: Broken, first: Breach) -> Found {
    match run(seed, broken, true) {
        Err((breach, story)) => Found {
            seed,
            breach,
            story,
        },
        Ok(_) => Found {
            seed,
            breach: first,
            story: vec![
                "it did not happen again: the simulation is not a function of its seed".into(),
            ],
        },
    }
}

/// Runs so many schedules from `first` on, on as many threads as there are processors.
fn run_all(first: u64, count: u64) -> Result<Tally, Found> {
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
                    let result = run(seed, Broken::Not, false);
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
        (_, Some((seed, breach))) => Err(found(seed, Broken::Not, breach)),
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is '{text}': give a whole number")))
}

#[test]
fn no_schedule_breaks_a_promise() {
    let first = from_environment("SIM_SEED").unwrap_or(0);
    let count = from_environment("SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let begun = Instant::now();
    let tally = run_all(first, count).unwrap_or_else(|found| panic!("{}", found.report()));
    let secs = begun.elapsed().as_secs_f64();
    eprintln!("{count} schedules from {first} on in {secs:.1} s; what came up: {tally:#?}");
}

#[test]
fn schedules_that_have_found_something_find_nothing_any_more() {
    for (seed, what) in REGRESSIONS {
        if let Err((breach, _)) = run(*seed, Broken::Not, false) {
            panic!("{what}\n{}", found(*seed, Broken::Not, breach).report());
        }
    }
}

/// A simulation that finds nothing proves nothing, unless it finds what is there.
#[test]
fn an_api_server_that_is_broken_is_found_out() {
    let expected = [
        (Broken::NamesAreNotUnique, Promise::OneJob),
        (Broken::IgnoresUids, Promise::CallHitsItsTarget),
        (Broken::KeepsWhatIsDeleted, Promise::StopIsDone),
        (Broken::HidesDeletions, Promise::ReadyIsTrue),
        (Broken::ShortensLists, Promise::ViewIsTruth),
        (Broken::TalksNonsense, Promise::NoDefectIsTold),
    ];
    for (broken, promise) in expected {
        let found = (0..BROKEN_SCHEDULES).find_map(|seed| {
            let (breach, _) = run(seed, broken, false).err()?;
            (breach.promise == promise).then_some(seed)
        });
        assert!(
            found.is_some(),
            "{broken:?} does not break {promise:?} in {BROKEN_SCHEDULES} schedules"
        );
    }
}
