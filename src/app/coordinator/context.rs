//! The inputs of every decision: the time, the cache, the catalog.
//!
//! Plain values; nothing is decided here.

use crate::app::cache::Cache;
use crate::app::catalog::Catalog;
use std::time::{Instant, SystemTime};

/// The inputs of a decision at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Monotonic time: for deadlines and durations.
    pub now: Instant,
    /// Time of day: only to compare with timestamps of Kubernetes.
    pub wall: SystemTime,
    /// The state of the cluster, as this replica knows it.
    pub cache: &'a Cache,
    /// The app types on offer.
    pub catalog: &'a Catalog,
}
