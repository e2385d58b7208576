//! Threads that the process cannot do without.
//!
//! Each has a name. When one panics, that is told, and the process should end: all
//! state is in the cluster, so a restart is the best repair. What the threads do is
//! known where they are started.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

/// Is told, with a sentence, that a thread has died.
pub type OnDeath = Arc<dyn Fn(&str) + Send + Sync>;

/// Starts a thread of that name; `on_death` is told when it panics.
///
/// # Errors
/// When the system gives no thread.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_death_is_told_and_an_end_is_not() {
        let (sender, told) = channel();
        let on_death: OnDeath = Arc::new(move |cause| sender.send(cause.to_owned()).unwrap());
        let fine = spawn("fine".into(), Arc::clone(&on_death), || {}).unwrap();
        fine.join().unwrap();
        let ill = spawn("ill".into(), on_death, || panic!("on purpose")).unwrap();
        ill.join().unwrap();
        assert_eq!(told.try_iter().collect::<Vec<_>>(), ["thread ill panicked"]);
    }
}
