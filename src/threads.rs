//! Essential threads: if one of them panics, the process should exit.
//!
//! All state is in the cluster, so a restart is the simplest recovery. This file starts named
//! threads and reports their panics (what to do then is decided by the caller), and takes locks.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

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

/// Starts so many threads that work on what comes from a queue, until it is closed.
///
/// # Errors
/// If the system cannot create a thread.
pub fn spawn_workers<T: Send + 'static>(
    name: &str,
    count: usize,
    on_death: &OnDeath,
    queue: Receiver<T>,
    work: impl Fn(T) + Clone + Send + 'static,
) -> io::Result<()> {
    let queue = Arc::new(Mutex::new(queue));
    for number in 0..count {
        let (queue, work) = (Arc::clone(&queue), work.clone());
        let name = format!("{name}-{number}");
        spawn(name, Arc::clone(on_death), move || {
            loop {
                // One thread at a time waits for the queue; the others wait for its lock.
                let next = lock(&queue).recv();
                match next {
                    Ok(next) => work(next),
                    Err(_) => return,
                }
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

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
