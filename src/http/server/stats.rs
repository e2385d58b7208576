//! [`FrontStats`]: the counters of the server, for metrics and tests.
//!
//! Each I/O thread counts in memory of its own; readers add up. So threads do not contend for a
//! cache line at tens of thousands of requests a second. Nothing is decided from these numbers,
//! except which thread gets a new connection.

use crate::http::message::Refusal;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread changes and others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn subtract(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one I/O thread counts. Aligned so that two threads never share a line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ThreadStats {
    /// Open connections, without those being refused.
    pub connections: Counter,
    /// Requests that wait now.
    pub parked: Counter,
    /// Responses in parts that go on now.
    pub streams: Counter,
    /// Connections accepted, refused ones included.
    pub accepted: Counter,
    /// Connections beyond a bound that were closed without waiting for their request.
    pub dropped: Counter,
    /// Errors of `accept`.
    pub accept_errors: Counter,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: Counter,
    /// Responses of the server itself, by [`Refusal::index`].
    pub refused: [Counter; Refusal::ALL.len()],
    /// Panics of the handler.
    pub panics: Counter,
    /// Peers that hung up while their request waited.
    pub abandoned: Counter,
    /// Responses of the app whose request no longer waited.
    pub stale_responses: Counter,
    /// Connections closed because they were idle.
    pub idle_closed: Counter,
    /// Connections closed because the peer did not read its response.
    pub write_timeouts: Counter,
    /// Connections closed because even the reserve of memory was used.
    pub shed: Counter,
}

/// The counters of the server.
#[derive(Debug)]
pub struct FrontStats {
    /// One for each I/O thread.
    pub threads: Vec<ThreadStats>,
}

impl FrontStats {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            threads: (0..threads).map(|_| ThreadStats::default()).collect(),
        }
    }

    /// One number over all threads: `stats.sum(|thread| &thread.parked)`.
    #[must_use]
    pub fn sum(&self, counter: impl Fn(&ThreadStats) -> &Counter) -> u64 {
        self.threads
            .iter()
            .map(|thread| counter(thread).get())
            .fold(0, u64::wrapping_add)
    }

    /// How often the server has refused for this cause.
    #[must_use]
    pub fn refused(&self, cause: Refusal) -> u64 {
        self.sum(|thread| &thread.refused[cause.index()])
    }
}
