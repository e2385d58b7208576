//! Token reviews: asks Kubernetes for the user of a presented bearer token, and caches the status.
//!
//! Threads of its own make the API calls, so that many unknown tokens never delay starts and stops.
//! No I/O thread waits: a request with an unknown token is parked until it gets
//! [`Response::TokenReviewed`]. The cache and the waiters are in `memory` (pure). Whether the user
//! may call is not decided here.

mod memory;

use super::error::{Bound, Error};
use super::queue::{Ring, Source as _};
use super::request::{Response, ResponseSink, TokenStatus};
use super::request_handle::RequestHandle;
use crate::budget::PeerKey;
use crate::clock::Clock;
use crate::kube::transport::CALL_LONGEST;
use crate::kube::{self, Class, Client};
use crate::threads::{self, Heartbeats, OnDeath, Workers};
use memory::{Look, Memory, Waiter};
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// The required audience of a token: a token for the API server or for another service is rejected.
pub const AUDIENCE: &str = "config-controller";

/// Concurrent reviews.
const THREADS: usize = 2;

/// Reviews that may wait for a thread.
const QUEUE_MAX: usize = memory::IN_REVIEW_MAX;

/// A review that has waited longer for a thread is not made: Kubernetes is unreachable or
/// overloaded.
const QUEUED_MAX: Duration = Duration::from_secs(5);

/// A bearer token as a caller presented it. Only Kubernetes receives its text; everything else
/// identifies it by its SHA-256 digest.
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

/// How many tokens are reviewed at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// As many as may be.
    All,
    /// A few of those that were not good before: too many wrong ones came from the same address. A
    /// good one among them is still found.
    Few,
}

/// The result of [`Reviews::ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The status is cached.
    Known(TokenStatus),
    /// The request gets it later.
    Waits,
    /// As many tokens of its scope are in review as may be.
    OutOfScope,
}

/// The token reviews of a service; clones share them. The threads end with the last clone.
#[derive(Clone, Debug)]
pub struct Reviews {
    shared: Arc<Shared>,
    /// Wakes a thread for each review in the queue.
    wake: SyncSender<()>,
}

#[derive(Debug)]
struct Shared {
    memory: Mutex<Memory>,
    /// The tokens to review, and since when they wait; their addresses take turns.
    queue: Mutex<Ring<PeerKey, VecDeque<(Bearer, Instant)>>>,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn ResponseSink>,
    /// Whether the last call failed, so that a failure is logged once.
    failing: AtomicBool,
}

impl Reviews {
    /// Starts the threads.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(
        client: &Client,
        sink: Arc<dyn ResponseSink>,
        clock: Arc<dyn Clock>,
        heartbeats: &Heartbeats,
        on_death: &OnDeath,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            memory: Mutex::default(),
            queue: Mutex::default(),
            clock,
            sink,
            failing: AtomicBool::new(false),
        });
        let (wake, woken) = sync_channel(QUEUE_MAX);
        let (reviewer, client) = (Arc::clone(&shared), client.clone());
        let work = move |(bearer, since)| reviewer.work(&bearer, since, &client);
        let workers = Workers {
            name: "review",
            count: THREADS,
            longest: CALL_LONGEST,
            heartbeats,
            clock: &shared.clock,
        };
        let (queuer, woken) = (Arc::clone(&shared), Arc::new(Mutex::new(woken)));
        let next = move || {
            // One thread at a time waits to be woken; the others wait for its lock.
            threads::lock(&woken).recv().ok()?;
            threads::lock(&queuer.queue).take()
        };
        workers.spawn(on_death, next, work)?;
        Ok(Self { shared, wake })
    }

    /// Looks up the status of a token, or has it reviewed for the request of `handle` from `peer`.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] with [`Bound::Reviews`].
    pub fn ask(
        &self,
        bearer: &Bearer,
        handle: RequestHandle,
        peer: IpAddr,
        scope: Scope,
    ) -> Result<Asked, Error> {
        const FULL: Error = Error::TooManyRequests(Bound::Reviews);
        let now = self.shared.clock.now();
        let mut memory = self.shared.memory();
        let peer = PeerKey::of(peer);
        match memory.look(bearer.digest(), Waiter { handle, peer }, scope, now) {
            Look::Known(status) => Ok(Asked::Known(status)),
            Look::OutOfScope => Ok(Asked::OutOfScope),
            Look::Waits => Ok(Asked::Waits),
            Look::Full => Err(FULL),
            Look::WaitsFirst => {
                let mut queue = threads::lock(&self.shared.queue);
                queue.member(peer).push_back((bearer.clone(), now));
                // There is room for all that may be in review, and the threads outlive the sender.
                let _ = self.wake.try_send(());
                Ok(Asked::Waits)
            }
        }
    }

    /// What is known of a token that was good, while the response to its request lasts; has it reviewed if
    /// that is no longer known.
    #[must_use]
    pub fn again(
        &self,
        bearer: &Bearer,
        handle: RequestHandle,
        peer: IpAddr,
    ) -> Option<TokenStatus> {
        // For new requests that counts for a shorter time than passes until this is asked again.
        if self.shared.memory().is_wrong(bearer.digest()) {
            return Some(TokenStatus::Unknown);
        }
        match self.ask(bearer, handle, peer, Scope::All) {
            Ok(Asked::Known(status)) => Some(status),
            Ok(Asked::Waits) => {
                // It takes no place of requests that wait.
                self.abandon(handle);
                None
            }
            _ => None,
        }
    }

    /// The caller of this request has hung up.
    pub fn abandon(&self, handle: RequestHandle) {
        self.shared.memory().leave(handle);
    }

    /// Fails all waiting requests: the service is shutting down.
    pub fn drain(&self) {
        let waiting = self.shared.memory().leave_all();
        self.shared.answer(waiting, &Err(Error::Draining));
    }
}

impl Shared {
    /// Reviews a token that waited in the queue since then.
    fn work(&self, bearer: &Bearer, since: Instant, client: &Client) {
        let result = if self.clock.now().saturating_duration_since(since) > QUEUED_MAX {
            Err(Error::UNAVAILABLE)
        } else {
            self.review(bearer, client)
        };
        let status = result.as_ref().ok().cloned();
        let now = self.clock.now();
        let waiting = self.memory().end(bearer.digest(), status, now);
        self.answer(waiting, &result);
    }

    fn review(&self, bearer: &Bearer, client: &Client) -> Result<TokenStatus, Error> {
        match client.review_token(&bearer.text, AUDIENCE) {
            Ok(user) => {
                if self.failing.swap(false, Ordering::Relaxed) {
                    log::info!("token reviews work again");
                }
                Ok(user.map_or(TokenStatus::Unknown, |user| TokenStatus::User(user.into())))
            }
            Err(error) => {
                if !self.failing.swap(true, Ordering::Relaxed) {
                    log::error!(
                        "token reviews fail ({error}); callers with unknown tokens get 503"
                    );
                }
                Err(reported(&error))
            }
        }
    }

    fn answer(&self, waiting: Vec<RequestHandle>, result: &Result<TokenStatus, Error>) {
        for handle in waiting {
            self.sink
                .respond(handle, Response::TokenReviewed(result.clone()));
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        threads::lock(&self.memory)
    }
}

/// The error for a caller after a failed review.
fn reported(error: &kube::Error) -> Error {
    match (error.class(), error.retry_after()) {
        (Class::Forbidden | Class::Refused, _) => Error::NotPermitted,
        (Class::Throttled, Some(retry_after)) => Error::Unavailable {
            retry_after,
            said: None,
        },
        _ => Error::UNAVAILABLE,
    }
}
