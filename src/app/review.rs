//! Whose token is it: asks Kubernetes (TokenReview), and remembers the answer for a while.
//!
//! Threads of its own make the calls, so that many unknown tokens never keep starts and
//! stops waiting, and no I/O thread waits at all: a request whose token is not known is
//! parked, and answered with [`Answer::Reviewed`]. What is remembered, and who waits for
//! which token, is in `memory` (pure). Whether the user may call is decided by whoever asked.

mod memory;

use super::{Answer, AnswerSink, Bound, Error, RequestHandle};
use crate::clock::Clock;
use crate::kube::{self, Class, Client};
use crate::threads::{self, OnDeath};
use memory::{Look, Memory};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The audience that a token must be for: one made for the API server or for another
/// service is of no use here.
pub const AUDIENCE: &str = "config-controller";

/// Reviews at the same time.
const THREADS: usize = 2;

/// Reviews that may wait for a thread.
const QUEUE_MAX: usize = 256;

/// A review that has waited longer for a thread is not made: Kubernetes is away, or flooded.
const PATIENCE: Duration = Duration::from_secs(5);

/// A token as a caller presented it. Its text goes to Kubernetes and nowhere else; all else
/// knows it by its SHA-256 digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer {
    text: Box<str>,
    digest: [u8; 32],
}

impl Bearer {
    /// The token with this text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            digest: Sha256::digest(text).into(),
        }
    }

    /// The digest of its text.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer([hidden])")
    }
}

/// What Kubernetes says of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is this user's.
    User(Arc<str>),
    /// It is none, has expired, or is not for us.
    Unknown,
}

/// The reviews of a service; clones share all. The threads end when the last clone goes.
#[derive(Clone, Debug)]
pub struct Reviews {
    shared: Arc<Shared>,
    queue: SyncSender<(Bearer, Instant)>,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn AnswerSink>,
    /// Whether the last call failed, so that it is told once.
    failing: AtomicBool,
}

impl Reviews {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        client: &Client,
        sink: Arc<dyn AnswerSink>,
        clock: Arc<dyn Clock>,
        on_death: &OnDeath,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            memory: Mutex::default(),
            clock,
            sink,
            failing: AtomicBool::new(false),
        });
        let (queue, asked) = sync_channel(QUEUE_MAX);
        let asked = Arc::new(Mutex::new(asked));
        for number in 0..THREADS {
            let (asked, client) = (Arc::clone(&asked), client.clone());
            let shared = Arc::clone(&shared);
            threads::spawn(
                format!("review-{number}"),
                Arc::clone(on_death),
                move || shared.run(&asked, &client),
            )?;
        }
        Ok(Self { shared, queue })
    }

    /// Whose token this is; `None` where `token` is answered with it later.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] where too many wait already.
    pub fn ask(&self, bearer: &Bearer, token: RequestHandle) -> Result<Option<Verdict>, Error> {
        const FULL: Error = Error::TooManyRequests(Bound::Reviews);
        let now = self.shared.clock.now();
        let mut memory = self.shared.memory();
        match memory.look(bearer.digest(), token, now) {
            Look::Known(verdict) => Ok(Some(verdict)),
            Look::Waits => Ok(None),
            Look::Full => Err(FULL),
            Look::WaitsFirst => match self.queue.try_send((bearer.clone(), now)) {
                Ok(()) => Ok(None),
                Err(_) => {
                    drop(memory.end(bearer.digest(), None, now));
                    Err(FULL)
                }
            },
        }
    }

    /// The caller of this token has hung up.
    pub fn abandon(&self, token: RequestHandle) {
        self.shared.memory().leave(token);
    }

    /// Answers all who wait that the service ends.
    pub fn drain(&self) {
        let waiting = self.shared.memory().leave_all();
        self.shared.answer(waiting, &Err(Error::Draining));
    }
}

impl Shared {
    fn run(&self, asked: &Mutex<Receiver<(Bearer, Instant)>>, client: &Client) {
        loop {
            // One thread at a time waits in the queue; the others wait for it.
            let next = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((bearer, since)) = next else {
                return;
            };
            let result = if self.clock.now().saturating_duration_since(since) > PATIENCE {
                Err(Error::UNAVAILABLE)
            } else {
                self.review(&bearer, client)
            };
            let verdict = result.as_ref().ok().cloned();
            let now = self.clock.now();
            let waiting = self.memory().end(bearer.digest(), verdict, now);
            self.answer(waiting, &result);
        }
    }

    fn review(&self, bearer: &Bearer, client: &Client) -> Result<Verdict, Error> {
        match client.review_token(&bearer.text, AUDIENCE) {
            Ok(user) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    log::info!("tokens of callers can be reviewed again");
                }
                Ok(user.map_or(Verdict::Unknown, |user| Verdict::User(user.into())))
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    log::error!("tokens of callers cannot be reviewed: {error}");
                }
                Err(told(&error))
            }
        }
    }

    fn answer(&self, waiting: Vec<RequestHandle>, result: &Result<Verdict, Error>) {
        for token in waiting {
            self.sink.answer(token, Answer::Reviewed(result.clone()));
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a caller is told of a review that failed.
fn told(error: &kube::Error) -> Error {
    match error.class() {
        Class::Forbidden { .. } => Error::NotPermitted,
        Class::Throttled {
            retry_after: Some(retry_after),
        } => Error::Unavailable { retry_after },
        _ => Error::UNAVAILABLE,
    }
}
