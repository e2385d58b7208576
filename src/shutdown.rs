//! Shutdown: the only handler of signals, and the flag that threads poll or wait for.
//!
//! All threads of a service share one [`Stop`]. It is set once and never reset. What happens during a
//! shutdown (drain, responses, exit code) is decided by [`crate::service`], not here.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// A flag that is set once and can be waited on; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    shared: Arc<(Mutex<bool>, Condvar)>,
}

impl Stop {
    /// A flag that is not set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the flag and wakes all waiting threads.
    pub fn set(&self) {
        let (flag, changed) = &*self.shared;
        *flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }

    /// Whether the flag is set.
    #[must_use]
    pub fn is_set(&self) -> bool {
        *self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at most `timeout` for the flag; returns whether it is set.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let (flag, changed) = &*self.shared;
        let guard = flag.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = changed
            .wait_timeout_while(guard, timeout, |set| !*set)
            .unwrap_or_else(PoisonError::into_inner);
        *guard
    }
}

/// Handles SIGTERM and SIGINT on a thread of its own (`signals`).
///
/// The first signal calls `on_first`, the second `on_second`, which lets an operator skip the drain.
///
/// # Errors
/// If the handlers or the thread cannot be set up.
pub fn on_signals(
    on_first: impl FnOnce() + Send + 'static,
    on_second: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let mut pending = signals.forever();
            if pending.next().is_some() {
                on_first();
            }
            if pending.next().is_some() {
                on_second();
            }
        })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Stop;
    use std::time::Duration;

    #[test]
    fn waiting_ends_when_the_flag_is_set() {
        let stop = Stop::new();
        assert!(!stop.wait(Duration::ZERO));
        let other = stop.clone();
        let waiter = std::thread::spawn(move || other.wait(Duration::from_secs(60)));
        stop.set();
        assert!(waiter.join().unwrap());
        assert!(stop.is_set());
    }
}
