//! [`Mailboxes`]: how other threads reach the I/O threads.
//!
//! Each I/O thread has one mailbox. A response that is put in wakes the thread's poller, once for
//! all responses that arrive before the thread takes them. A mailbox needs no bound of its own: it
//! holds at most one response for each waiting request. No lock is held for longer than it takes to
//! append to a list or to swap it. What a response means is not known here.

use crate::app::RequestHandle;
use crate::threads::lock;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Wakes one I/O thread; wake-ups that the thread has not seen yet are merged.
#[derive(Debug, Default)]
pub(super) struct Waker {
    waker: OnceLock<mio::Waker>,
    /// A wake-up has not been taken yet.
    pending: AtomicBool,
    /// Wake-ups that went to the kernel.
    pub(super) wakes: AtomicU64,
    /// How many streams the thread has.
    streams: AtomicUsize,
    /// There may be something new for them.
    news: AtomicBool,
}

impl Waker {
    /// Connects the waker to its poller, and wakes the thread if a wake-up is pending.
    pub(super) fn connect(&self, waker: mio::Waker) {
        let _ = self.waker.set(waker);
        if self.pending.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Wakes the thread, from any thread; never blocks.
    pub(super) fn wake(&self) {
        if !self.pending.swap(true, Ordering::SeqCst)
            && let Some(waker) = self.waker.get()
        {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            if let Err(error) = waker.wake() {
                // The poller times out soon, and the thread then sees the pending wake-up.
                log::error!("cannot wake an I/O thread ({error}); it wakes by itself within 0.5 s");
            }
        }
    }

    /// The thread has so many streams now.
    pub(super) fn set_streams(&self, count: usize) {
        self.streams.store(count, Ordering::SeqCst);
    }

    /// Whether there may be something new for the streams since the last call.
    pub(super) fn take_news(&self) -> bool {
        self.news.load(Ordering::SeqCst) && self.news.swap(false, Ordering::SeqCst)
    }

    /// Takes the pending wake-up; whether there was one. The thread calls this before it looks at
    /// what other threads have changed; if there was none, nothing has changed.
    pub(super) fn take(&self) -> bool {
        self.pending.load(Ordering::SeqCst) && self.pending.swap(false, Ordering::SeqCst)
    }
}

/// The mailboxes of all I/O threads; `A` is the app's response to a waiting request.
pub struct Mailboxes<A> {
    pub(super) wakers: Arc<[Waker]>,
    responses: Vec<Mutex<Vec<(RequestHandle, A)>>>,
}

/// Only the name: the program would otherwise have in it how all parts are printed, which nobody asks for.
impl<A> fmt::Debug for Mailboxes<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mailboxes")
    }
}

impl<A> Mailboxes<A> {
    /// Mailboxes for `io_threads` threads, at least one. They may be filled before the threads run.
    #[must_use]
    pub fn new(io_threads: usize) -> Self {
        let count = io_threads.max(1);
        Self {
            wakers: (0..count).map(|_| Waker::default()).collect(),
            responses: (0..count).map(|_| Mutex::default()).collect(),
        }
    }

    /// How many I/O threads there are.
    #[must_use]
    pub fn io_threads(&self) -> usize {
        self.responses.len()
    }

    /// Passes a response to the waiting request with this handle, from any thread. If that request
    /// no longer waits (its peer hung up, or it was answered), the response is dropped.
    pub fn answer(&self, handle: RequestHandle, response: A) {
        let Some(mailbox) = self.responses.get(handle.io as usize) else {
            return;
        };
        lock(mailbox).push((handle, response));
        self.wakers[handle.io as usize].wake();
    }

    /// There is something new for streams: wakes the threads that have any.
    pub fn announce(&self) {
        for waker in self.wakers.iter() {
            if waker.streams.load(Ordering::SeqCst) > 0 && !waker.news.swap(true, Ordering::SeqCst)
            {
                waker.wake();
            }
        }
    }

    /// Swaps all responses for this thread into `into`, which must be empty; its memory is reused.
    pub(super) fn take(&self, io: usize, into: &mut Vec<(RequestHandle, A)>) {
        std::mem::swap(&mut *lock(&self.responses[io]), into);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_keep_their_order_until_their_thread_takes_them() {
        let mailboxes = Mailboxes::new(2);
        let handle = |io, serial| RequestHandle {
            io,
            slot: 0,
            serial,
        };
        mailboxes.answer(handle(1, 1), "a");
        mailboxes.answer(handle(1, 2), "b");
        mailboxes.answer(handle(7, 3), "no such thread");
        let mut taken = Vec::new();
        mailboxes.take(0, &mut taken);
        assert!(taken.is_empty());
        mailboxes.take(1, &mut taken);
        assert_eq!(taken, [(handle(1, 1), "a"), (handle(1, 2), "b")]);
    }

    #[test]
    fn many_wake_ups_reach_the_kernel_once() {
        let poll = mio::Poll::new().unwrap();
        let waker = Waker::default();
        waker.wake();
        waker.connect(mio::Waker::new(poll.registry(), mio::Token(0)).unwrap());
        waker.wake();
        waker.wake();
        assert_eq!(waker.wakes.load(Ordering::Relaxed), 1);
        waker.take();
        waker.wake();
        assert_eq!(waker.wakes.load(Ordering::Relaxed), 2);
    }
}
