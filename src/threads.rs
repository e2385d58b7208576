//! Essential threads: if one of them panics, the process should exit.
//!
//! All state is in the cluster, so a restart is the simplest recovery. This file starts named
//! threads, reports their panics (what to do then is decided by the caller), keeps their heartbeats
//! for `/livez`, and takes locks.

use crate::clock::{Clock, Moment};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// A thread counts as stuck once its step takes this much longer than it may. Steps that wait for
/// Kubernetes have their own time limits, so an outage makes no thread stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);

/// The allowed time of a thread that waits for work.
const IDLE: u64 = u64::MAX;

/// Called with a message when a thread has panicked.
pub type OnDeath = Arc<dyn Fn(&str) + Send + Sync>;

/// Locks a mutex, also if a thread has panicked while it held it: the panic was reported there.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread of that name; calls `on_death` if it panics.
///
/// # Errors
/// If the system cannot create a thread.
pub fn spawn(
    name: String,
    on_death: OnDeath,
    run: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.clone()).spawn(move || {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            on_death(&format!("thread {name} panicked"));
        }
    })
}

/// The heartbeat of one thread: when it began its current step, and how long that may take.
#[derive(Debug)]
pub struct Heartbeat {
    thread: Box<str>,
    last: Moment,
    /// Allowed time of the current step, in nanoseconds; [`IDLE`] without a step.
    allowed: AtomicU64,
}

impl Heartbeat {
    /// The thread begins a step that takes at most `step`.
    pub fn beat(&self, now: Instant, step: Duration) {
        let allowed = u64::try_from((step + STUCK_AFTER).as_nanos()).unwrap_or(IDLE);
        // In this order: with the time of an earlier step, a short one would seem to be overdue.
        self.last.set(now);
        self.allowed.store(allowed, Ordering::SeqCst);
    }

    /// The thread waits for work, for as long as it takes.
    pub fn idle(&self) {
        self.allowed.store(IDLE, Ordering::SeqCst);
    }

    fn is_stuck(&self, now: Instant) -> bool {
        let allowed = self.allowed.load(Ordering::SeqCst);
        self.last.age_nanos(now) > allowed
    }
}

/// The heartbeats of all threads that requests depend on; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Heartbeats(Arc<Mutex<Vec<Arc<Heartbeat>>>>);

/// A thread that takes longer for a step than it may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The name of the thread.
    pub thread: Box<str>,
    /// The time since its last heartbeat.
    pub age: Duration,
}

impl Heartbeats {
    /// Adds a thread, which is idle at first.
    #[must_use]
    pub fn register(&self, thread: &str, now: Instant) -> Arc<Heartbeat> {
        let heartbeat = Arc::new(Heartbeat {
            thread: thread.into(),
            last: Moment::new(now),
            allowed: AtomicU64::new(IDLE),
        });
        lock(&self.0).push(Arc::clone(&heartbeat));
        heartbeat
    }

    /// The first thread that is stuck, if one is.
    #[must_use]
    pub fn stuck(&self, now: Instant) -> Option<Stuck> {
        let all = lock(&self.0);
        let stuck = all.iter().find(|heartbeat| heartbeat.is_stuck(now))?;
        Some(Stuck {
            thread: stuck.thread.clone(),
            age: stuck.last.age(now),
        })
    }
}

/// Threads that take work from one queue.
#[derive(Clone, Copy, Debug)]
pub struct Workers<'a> {
    /// Their name, to which a number is appended.
    pub name: &'a str,
    /// How many.
    pub count: usize,
    /// How long one piece of work may take.
    pub longest: Duration,
    /// Where their heartbeats go.
    pub heartbeats: &'a Heartbeats,
    /// The time of their heartbeats.
    pub clock: &'a Arc<dyn Clock>,
}

impl Workers<'_> {
    /// Starts them; each works on what `next` waits for, until that is `None`.
    ///
    /// # Errors
    /// If the system cannot create a thread.
    pub fn spawn<T: Send + 'static>(
        self,
        on_death: &OnDeath,
        next: impl Fn() -> Option<T> + Clone + Send + 'static,
        work: impl Fn(T) + Clone + Send + 'static,
    ) -> io::Result<()> {
        for number in 0..self.count {
            let (next, work) = (next.clone(), work.clone());
            let (clock, longest) = (Arc::clone(self.clock), self.longest);
            let name = format!("{}-{number}", self.name);
            let heartbeat = self.heartbeats.register(&name, clock.now());
            spawn(name, Arc::clone(on_death), move || {
                while let Some(next) = next() {
                    heartbeat.beat(clock.now(), longest);
                    work(next);
                    heartbeat.idle();
                }
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_thread_is_stuck_when_its_step_takes_longer_than_it_may() {
        let (heartbeats, start) = (Heartbeats::default(), Instant::now());
        let (short, long) = (Duration::from_secs(1), Duration::from_secs(90));
        let quick = heartbeats.register("quick", start);
        let slow = heartbeats.register("slow", start);
        let later = start + 100 * STUCK_AFTER;
        assert_eq!(heartbeats.stuck(later), None, "both wait for work");
        quick.beat(later, short);
        slow.beat(later, long);
        let latest = later + short + STUCK_AFTER;
        assert_eq!(heartbeats.stuck(latest), None);
        let stuck = |thread: &str, secs| {
            let age = Duration::from_secs(secs);
            let thread = thread.into();
            Some(Stuck { thread, age })
        };
        let too_late = latest + short;
        assert_eq!(heartbeats.stuck(too_late), stuck("quick", 32));
        quick.idle();
        assert_eq!(heartbeats.stuck(too_late), None);
        let too_late = later + long + STUCK_AFTER + short;
        assert_eq!(heartbeats.stuck(too_late), stuck("slow", 121));
    }

    #[test]
    fn a_panic_is_reported_and_a_normal_exit_is_not() {
        let (sender, reported) = channel();
        let on_death: OnDeath = Arc::new(move |cause| sender.send(cause.to_owned()).unwrap());
        let fine = spawn("fine".into(), Arc::clone(&on_death), || {}).unwrap();
        fine.join().unwrap();
        let ill = spawn("ill".into(), on_death, || panic!("on purpose")).unwrap();
        ill.join().unwrap();
        assert_eq!(
            reported.try_iter().collect::<Vec<_>>(),
            ["thread ill panicked"]
        );
    }
}
