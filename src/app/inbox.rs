//! [`Inbox`]: the way to the coordinator's thread.
//!
//! A bounded queue. I/O threads never block on it; threads that report what must not be lost wait
//! for capacity. What the inputs mean is decided in [`super::coordinator`].

use super::coordinator::{Input, NewWaiter};
use super::error::{Bound, Error};
use super::request::RequestHandle;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// Inputs that may wait for the coordinator: more means that it does not keep up. A queue takes the
/// memory for its capacity at once, so what is in it is boxed.
const INPUTS_MAX: usize = 16_384;

/// The way to the coordinator; clones lead to the same one.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: SyncSender<Box<Input>>,
    abandoned: Abandoned,
}

/// Requests whose callers hung up while the queue was full. Bounded by the requests that wait: each
/// is abandoned once.
type Abandoned = Arc<Mutex<Vec<RequestHandle>>>;

/// The end at which an inbox is read.
#[derive(Debug)]
pub struct Inputs {
    /// What comes in, in order.
    pub receiver: Receiver<Box<Input>>,
    abandoned: Abandoned,
}

impl Inbox {
    /// An inbox and the end at which it is read.
    #[must_use]
    pub fn new() -> (Self, Inputs) {
        Self::with_capacity(INPUTS_MAX)
    }

    /// An inbox for so many inputs: the memory for all of them is taken at once.
    #[must_use]
    pub fn with_capacity(inputs: usize) -> (Self, Inputs) {
        let (sender, receiver) = sync_channel(inputs);
        let abandoned = Abandoned::default();
        let inputs = Inputs {
            receiver,
            abandoned: Arc::clone(&abandoned),
        };
        (Self { sender, abandoned }, inputs)
    }

    /// Puts in a request, if there is capacity. Never blocks.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] where there is none, [`Error::Draining`] after the coordinator ended.
    pub fn request(&self, request: NewWaiter) -> Result<(), Error> {
        let sent = self.sender.try_send(Box::new(Input::Requested(request)));
        sent.map_err(|error| match error {
            TrySendError::Full(_) => Error::TooManyRequests(Bound::Inbox),
            TrySendError::Disconnected(_) => Error::Draining,
        })
    }

    /// Reports that the caller of a request hung up. Never blocks, and is not lost.
    pub fn abandon(&self, handle: RequestHandle) {
        let sent = self.sender.try_send(Box::new(Input::Abandoned(handle)));
        if let Err(TrySendError::Full(_)) = sent {
            self.abandoned
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(handle);
        }
    }

    /// Puts in what must not be lost, and waits for capacity.
    pub fn send(&self, input: Input) {
        // After the coordinator has ended there is nothing left to do.
        let _ = self.sender.send(Box::new(input));
    }
}

impl Inputs {
    /// What has come in, up to so many. Requests that were abandoned while the queue was full come
    /// last, once the queue is empty: their own inputs have been read by then.
    pub fn take(&self, most: usize) -> Vec<Input> {
        let mut inputs: Vec<Input> = self
            .receiver
            .try_iter()
            .take(most)
            .map(|input| *input)
            .collect();
        if inputs.len() < most {
            let mut abandoned = self
                .abandoned
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            inputs.extend(abandoned.drain(..).map(Input::Abandoned));
        }
        inputs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::handle;

    /// An I/O thread reports that a caller hung up while the coordinator is behind.
    #[test]
    fn a_full_inbox_blocks_nobody_who_hangs_up_and_loses_nothing() {
        let (inbox, inputs) = Inbox::with_capacity(1);
        inbox.abandon(handle(1));
        inbox.abandon(handle(2));
        inbox.abandon(handle(3));
        let numbers = |inputs: Vec<Input>| -> Vec<u64> {
            let number = |input: Input| match input {
                Input::Abandoned(handle) => handle.serial,
                other => panic!("{other:?}"),
            };
            inputs.into_iter().map(number).collect()
        };
        // A queue that may hold more is not empty.
        assert_eq!(numbers(inputs.take(1)), [1]);
        assert_eq!(numbers(inputs.take(8)), [2, 3]);
        assert_eq!(numbers(inputs.take(8)), [0; 0]);
    }
}
