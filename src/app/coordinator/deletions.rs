//! Deletions: what is known of whether a deletion of a Job came before a request that waits for it.
//!
//! Pure. A DELETE ends the requests that waited, and a request after it gets the next instance. Through
//! another replica it may have come before a request although the cache shows it later. The deletion has a
//! time, cut to a whole second; a call of ours that has met the Job proves that it was there. What follows
//! is decided in [`super::resolve`].

use super::context::Step;
use super::operation::{Calling, Operation, WaitState};
use super::record::Record;
use crate::app::api_call::{Action, CallOutcome, StopCause};
use crate::app::cache::Instance;
use crate::kube::types::{Timestamp, Uid};
use std::time::Instant;

impl Record {
    /// The deletion of this Job has begun. The cache may have lost it since.
    pub(super) fn deleted(&mut self, uid: &Uid, stamp: Timestamp, step: &Step<'_>) {
        if let Some(operation) = &mut self.operation {
            operation.deleted(uid, step.context.earliest(stamp));
        }
    }
}

impl Operation {
    /// This Job is deleted for a caller: whoever waits for it is not for another one.
    pub(super) fn set_stopped(&mut self, uid: &Uid, cause: &StopCause) {
        let mut last = self.last.iter_mut();
        if let Some(last) = last.find(|last| last.uid == *uid)
            && matches!(cause, StopCause::Requested(_))
        {
            last.was_undecided = false;
        }
    }

    /// The deletion of this Job has begun, at this time or a second later at most.
    pub(super) fn deleted(&mut self, uid: &Uid, at: Instant) {
        let mut last = self.last.iter_mut();
        if let Some(last) = last.find(|last| last.uid == *uid) {
            last.deleted.get_or_insert(at);
        }
    }

    /// A call that has begun after these waiters came has met this Job.
    pub(super) fn confirm(&mut self, uid: &Uid, until_number: u64) {
        let waiters = self.waiters.iter_mut();
        for waiter in waiters.filter(|it| it.number <= until_number) {
            waiter.confirmed = Some(uid.clone());
        }
    }

    /// This Job was created for these waiters: they wait for it, also if the cache shows first that it is
    /// being deleted.
    fn join(&mut self, uid: &Uid, until_number: u64) {
        let waiters = self.waiters.iter_mut();
        for waiter in waiters.filter(|it| it.number <= until_number) {
            if matches!(waiter.state, WaitState::Next) {
                waiter.wait_for(uid);
            }
        }
        self.waiters.retain(|waiter| !waiter.is_over());
    }

    /// Takes from the result of a call whether its Job was there, not being deleted, after some waiters came.
    pub(super) fn note_deletion(
        &mut self,
        calling: &Calling,
        outcome: &CallOutcome,
        shown: Option<&Instance>,
        step: &Step<'_>,
    ) {
        match (&calling.call.action, outcome) {
            // It was created for them, so whatever deletes it comes later.
            (_, CallOutcome::Created(uid, _)) => {
                self.confirm(uid, calling.step);
                // What the cache does not show or has lost is no Job to wait for.
                if shown.is_some_and(|shown| shown.uid() == uid) {
                    self.join(uid, calling.step);
                }
            }
            (_, CallOutcome::Found(uid)) => {
                let it = shown.filter(|shown| shown.uid() == uid);
                match it.and_then(|it| it.job.metadata.deletion_timestamp) {
                    None => self.confirm(uid, calling.step),
                    Some(stamp) => self.deleted(uid, step.context.earliest(stamp)),
                }
            }
            // The response is the pod as it is, and the pods of a Job are deleted right after it.
            (Action::LabelPod { uid, .. }, CallOutcome::Done) => {
                let is_alive = |it: &&Instance| {
                    let pod = it.pod.as_ref().filter(|pod| pod.metadata.uid == *uid);
                    pod.is_some_and(|pod| !pod.metadata.is_deleting())
                };
                let job = shown.filter(is_alive).map(|it| it.uid().clone());
                if let Some(job) = job {
                    self.confirm(&job, calling.step);
                }
            }
            _ => {}
        }
    }
}
