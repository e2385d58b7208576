//! [`Inbox`] and [`Inputs`]: the bounded queue of the coordinator's inputs.
//!
//! I/O threads never block on it; threads with inputs that must not be lost wait for capacity. Nothing is decided
//! here.

use crate::app::coordinator::{Input, NewWaiter};
use crate::app::error::{Bound, Error};
use crate::app::request_handle::RequestHandle;
use crate::threads;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};

/// The sending side of the queue; clones share it.
#[derive(Clone, Debug)]
pub struct Inbox {
    sender: SyncSender<Box<Input>>,
    abandoned: Abandoned,
}

/// Requests abandoned while the queue was full. Bounded by the waiting requests: each is abandoned
/// once.
type Abandoned = Arc<Mutex<Vec<RequestHandle>>>;

/// The receiving side of an inbox.
#[derive(Debug)]
pub struct Inputs {
    /// The inputs, in order.
    pub receiver: Receiver<Box<Input>>,
    abandoned: Abandoned,
}

impl Inbox {
    /// The two sides of an inbox with this capacity, which is allocated in advance.
    #[must_use]
    pub fn new(inputs: usize) -> (Self, Inputs) {
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
    /// [`Error::TooManyRequests`] if there is none, [`Error::Draining`] after the coordinator has
    /// ended.
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
            threads::lock(&self.abandoned).push(handle);
        }
    }

    /// Puts in an input that must not be lost, and waits for capacity.
    pub fn send(&self, input: Input) {
        // After the coordinator has ended there is nothing left to do.
        let _ = self.sender.send(Box::new(input));
    }
}

impl Inputs {
    /// The next inputs, up to a maximum. Requests that were abandoned while the queue was full come
    /// last, once the queue is empty: their own inputs have been read by then.
    pub fn take(&self, most: usize) -> Vec<Input> {
        let queued = self.receiver.try_iter().take(most);
        let mut inputs: Vec<Input> = queued.map(|input| *input).collect();
        if inputs.len() < most {
            let mut abandoned = threads::lock(&self.abandoned);
            inputs.extend(abandoned.drain(..).map(Input::Abandoned));
        }
        inputs
    }
}
