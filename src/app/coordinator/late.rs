//! What waiters get when they can wait no longer, and when a record is to be advanced without an input.
//!
//! Pure. What each of them gets is in [`super::resolve`]; here is when.

use super::calls;
use super::context::Step;
use super::operation::{CallState, Operation, WaitState, Waiter, Want};
use super::record::{Record, Trigger};
use super::resolve::{self, Facts, Observed};
use super::retry::{FORCE_PAUSE, Retry};
use super::undecided::deadline;
use crate::app::error::Error;
use crate::app::request::Response;
use std::time::Instant;

impl Waiter {
    /// It was answered that it is queued: whether it goes on, so that its caller can ask again.
    pub(super) fn keeps_place(&mut self, response: &Response, step: &Step<'_>) -> bool {
        let response = match response {
            Response::Unread(response) => response,
            response => response,
        };
        let is_queued =
            matches!(response, Response::Progress { progress, .. } if progress.position.is_some());
        if self.handle.is_none() || !is_queued || self.want.variables().is_none() {
            return false;
        }
        self.handle = None;
        self.is_kept = true;
        self.deadline = step.context.now + step.place_kept;
        true
    }
}

impl Operation {
    /// Of those whose place is kept the last one goes on: its values count, and one is enough.
    pub(super) fn keep_last(&mut self) {
        let mut kept = self.waiters.iter().filter(|waiter| waiter.is_kept);
        let Some(last) = kept.next_back().map(|waiter| waiter.number) else {
            return;
        };
        self.waiters
            .retain(|waiter| !waiter.is_kept || waiter.number == last);
    }
}

impl Record {
    /// Responds to waiters at their deadline.
    pub(super) fn expire(&mut self, observed: &Observed, step: &mut Step<'_>) {
        let (now, is_draining) = (step.context.now, step.is_draining);
        let awaited = self.admission_awaited_until().filter(|_| !is_draining);
        self.respond_late(observed, step, true, |operation, waiter| {
            deadline(waiter, awaited) <= now && (is_draining || !operation.is_made_for(waiter))
        });
    }

    /// Responds to these waiters, which can wait no longer; if `with_error`, with the error of the
    /// last call.
    fn respond_late(
        &mut self,
        observed: &Observed,
        step: &mut Step<'_>,
        with_error: bool,
        these: impl Fn(&Operation, &Waiter) -> bool,
    ) {
        let waiters = self
            .operation
            .iter()
            .flat_map(|it| it.waiters.iter().map(move |of| (it, of)));
        let mut late = waiters.filter(|(operation, waiter)| these(operation, waiter));
        let queued = late.next().and_then(|_| step.queue.queued(step.key));
        self.respond_each(observed, step, |operation, waiter, facts| {
            let facts = &Facts {
                queued: queued.as_ref(),
                ..*facts
            };
            let retry = operation.retry().filter(|_| with_error);
            let error = match waiter.want {
                Want::Label(_) => retry.and_then(|retry| retry.error.as_ref()),
                _ => retry.and_then(Retry::error_of_start),
            };
            these(operation, waiter).then(|| resolve::at_deadline(waiter, observed, error, facts))
        });
    }

    /// The service shuts down: waiters for an instance get its progress. Stops, and labels of an
    /// existing pod, can be made until then.
    pub(super) fn drain(&mut self, until: Instant, step: &mut Step<'_>) {
        if let Some(track) = &mut self.track {
            track.unfollow("replica_ended", step);
        }
        self.advance(step, Trigger::Drain(until));
    }

    pub(super) fn drain_waiters(
        &mut self,
        until: Instant,
        observed: &Observed,
        step: &mut Step<'_>,
    ) {
        self.respond_late(observed, step, false, |_, waiter| !waiter.want.is_change());
        // There is no time for the start.
        self.respond_all(&Response::Failed(Error::Draining), step, |waiter| {
            matches!(waiter.want, Want::Replace { .. }) && !waiter.outlives_caller()
        });
        if observed.instance.is_some() && !observed.has_pod() {
            self.respond_all(&Response::Failed(Error::Draining), step, |waiter| {
                matches!(waiter.want, Want::Label(_))
            });
        }
        for waiter in self.operation.iter_mut().flat_map(|it| &mut it.waiters) {
            waiter.deadline = waiter.deadline.min(until);
            if let Want::Stop { until: Some(until) } | Want::Replace { until, .. } =
                &mut waiter.want
            {
                *until = step.context.now;
            }
        }
    }

    /// When to advance the record without an input.
    pub(super) fn next_wake(
        &self,
        observed: &Observed,
        is_overdue: bool,
        step: &Step<'_>,
    ) -> Option<Instant> {
        let now = step.context.now;
        let track = self.track.as_ref();
        let mut wakes = Vec::new();
        let awaited = self.admission_awaited_until().filter(|_| !step.is_draining);
        wakes.extend(self.undecided.as_ref().and_then(|it| it.wake(now)));
        wakes.extend(self.memory.expires_at());
        wakes.extend(track.and_then(|track| track.expires_at()));
        if track.is_some_and(|track| track.awaits_report()) {
            wakes.extend(observed.report_at);
        }
        if step.may_force && !is_overdue {
            wakes.extend(self.memory.look_at(now));
            wakes.extend(self.memory.overdue_at());
        } else if is_overdue && !step.may_work {
            // All permitted calls belong to other names.
            wakes.push(now + FORCE_PAUSE);
        }
        if let Some(operation) = &self.operation {
            for waiter in &operation.waiters {
                if step.is_draining || !operation.is_made_for(waiter) {
                    wakes.push(deadline(waiter, awaited));
                }
                match waiter.state {
                    WaitState::Held(_, until) if until > now => wakes.push(until),
                    WaitState::Pod(until) if until > now => wakes.push(until),
                    _ => {}
                }
            }
            let waits_for_report = |waiter: &Waiter| matches!(waiter.state, WaitState::Ready(_));
            if operation.waiters.iter().any(waits_for_report) {
                wakes.extend(observed.report_at);
            }
            let mut waiters = operation.waiters.iter();
            if waiters.any(|waiter| waiter.expectation.is_precondition()) {
                // Until then nothing is read for it.
                wakes.extend(operation.pauses_until().filter(|at| *at > now));
            }
            if let CallState::Retrying(retry) = &operation.call
                && calls::due(operation, observed, is_overdue) == Some(retry.kind)
                // It waits for its place, not for the time, once that is over.
                && (retry.at > now || !step.queue.waits(step.key))
            {
                wakes.push(retry.at);
            }
        }
        wakes.into_iter().min()
    }
}
