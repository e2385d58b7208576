//! [`Calls`]: the queue of calls that wait for a worker, under a lock. Their order is in
//! [`crate::app::queue`].

use crate::app::api_call::ApiCall;
use crate::app::queue::CallQueue;
use crate::budget::Account;
use crate::model::names::AppType;
use crate::threads;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// The calls that wait for a worker.
#[derive(Debug)]
pub(super) struct Calls {
    queue: Mutex<CallQueue<AppType, Option<Account>, Arc<ApiCall>>>,
    added: Condvar,
}

impl Calls {
    pub(super) fn new(max: usize) -> Self {
        Self {
            queue: Mutex::new(CallQueue::new(max)),
            added: Condvar::new(),
        }
    }

    /// Adds a call.
    pub(super) fn push(&self, call: Arc<ApiCall>) {
        let (app_type, caller) = (call.key.app_type.clone(), call.caller.clone());
        let turn = (call.lane, app_type, caller);
        let pushed = threads::lock(&self.queue).push(turn, call);
        pushed.expect("each call is of a name with an operation, and there is capacity for those");
        self.added.notify_one();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        threads::lock(&self.queue).is_empty()
    }

    /// Takes the next call, and waits for one.
    pub(super) fn take(&self) -> Arc<ApiCall> {
        let mut queue = threads::lock(&self.queue);
        loop {
            if let Some(call) = queue.take() {
                return call;
            }
            let woken = self.added.wait(queue);
            queue = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }
}
