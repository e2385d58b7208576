//! What every decision is made from: the time, the cache, the catalog.
//!
//! Plain values; nothing is decided here.

use crate::app::cache::Cache;
use crate::app::catalog::Catalog;
use std::time::{Instant, SystemTime};

/// What is known at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Monotonic time: for deadlines and durations.
    pub now: Instant,
    /// Time of day: only to compare with timestamps of Kubernetes.
    pub wall: SystemTime,
    /// What this replica knows of the cluster.
    pub cache: &'a Cache,
    /// The app types on offer.
    pub catalog: &'a Catalog,
}
