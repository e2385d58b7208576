//! [`Mailboxes`]: how other threads reach the I/O threads.
//!
//! Each I/O thread has one mailbox. Putting something in wakes the thread's
//! poller, once for all that comes in before the thread looks. A mailbox is
//! bounded by what can be put in: one answer for each request that waits, and
//! one connection for each that was admitted.

use crate::app::RequestHandle;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Wakes one I/O thread; wake-ups that would come to the same are made once.
#[derive(Debug, Default)]
pub(super) struct Waker {
    waker: OnceLock<mio::Waker>,
    rung: AtomicBool,
    /// Wake-ups that went to the kernel.
    pub(super) wakes: AtomicU64,
}

impl Waker {
    /// Gives the waker its poller; wakes at once if somebody has rung before.
    pub(super) fn connect(&self, waker: mio::Waker) {
        let _ = self.waker.set(waker);
        if self.rung.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    pub(super) fn wake(&self) {
        if !self.rung.swap(true, Ordering::SeqCst)
            && let Some(waker) = self.waker.get()
        {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = waker.wake() {
                // Its next round comes soon by itself, and then it hears.
                log::error!("an I/O thread could not be woken: {error}");
            }
        }
    }

    /// Whether somebody has rung since this was asked last; to be asked before looking, and if
    /// nobody has, there is nothing new.
    pub(super) fn heard(&self) -> bool {
        self.rung.load(Ordering::SeqCst) && self.rung.swap(false, Ordering::SeqCst)
    }
}

/// The mailboxes of all I/O threads; `A` is what requests are answered with.
#[derive(Debug)]
pub struct Mailboxes<A> {
    pub(super) wakers: Arc<[Waker]>,
    answers: Vec<Mutex<Vec<(RequestHandle, A)>>>,
}

impl<A> Mailboxes<A> {
    /// Mailboxes for so many I/O threads, at least one. They may be filled
    /// before the threads run.
    #[must_use]
    pub fn new(io_threads: usize) -> Self {
        let count = io_threads.max(1);
        Self {
            wakers: (0..count).map(|_| Waker::default()).collect(),
            answers: (0..count).map(|_| Mutex::default()).collect(),
        }
    }

    /// How many I/O threads there are.
    #[must_use]
    pub fn io_threads(&self) -> usize {
        self.answers.len()
    }

    /// Answers the request that `token` names, from any thread. If it no longer
    /// waits (hung up, or answered), the answer is dropped and counted.
    pub fn answer(&self, token: RequestHandle, answer: A) {
        let Some(mailbox) = self.answers.get(token.io as usize) else {
            return;
        };
        mailbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((token, answer));
        self.wakers[token.io as usize].wake();
    }

    /// How often a poller was woken, for metrics.
    #[must_use]
    pub fn wake_ups(&self) -> u64 {
        let wakes = self.wakers.iter().map(|waker| &waker.wakes);
        wakes.map(|wakes| wakes.load(Ordering::Relaxed)).sum()
    }

    /// Takes all answers for this thread, leaving `into`'s memory for the next.
    pub(super) fn take(&self, io: usize, into: &mut Vec<(RequestHandle, A)>) {
        let mut mailbox = self.answers[io]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *mailbox, into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_wait_in_order_for_their_thread() {
        let mailboxes = Mailboxes::new(2);
        let token = |io, serial| RequestHandle {
            io,
            slot: 0,
            serial,
        };
        mailboxes.answer(token(1, 1), "a");
        mailboxes.answer(token(1, 2), "b");
        mailboxes.answer(token(7, 3), "no such thread");
        let mut taken = Vec::new();
        mailboxes.take(0, &mut taken);
        assert!(taken.is_empty());
        mailboxes.take(1, &mut taken);
        assert_eq!(taken, [(token(1, 1), "a"), (token(1, 2), "b")]);
    }

    #[test]
    fn many_rings_wake_once() {
        let poll = mio::Poll::new().unwrap();
        let waker = Waker::default();
        waker.wake();
        waker.connect(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        waker.wake();
        waker.wake();
        assert_eq!(waker.wakes.load(Ordering::Relaxed), 1);
        waker.heard();
        waker.wake();
        assert_eq!(waker.wakes.load(Ordering::Relaxed), 2);
    }
}
