//! [`Trust`]: whether a waiter may be answered from the cache before its Job was read from Kubernetes
//! (`Cache-Control: no-cache`).
//!
//! Such a waiter is resolved only after a read that began when it had come; all those of a name share
//! it. If the read fails, or takes too long, it gets what the cache has, with its age in the response.

use std::time::{Duration, Instant};

/// How long a request waits for the read at most.
pub const READ_WAIT: Duration = Duration::from_secs(2);

/// What a waiter takes from the cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Trust {
    /// All.
    #[default]
    Cache,
    /// Nothing before the Job was read; its deadline is this from then on.
    AfterRead(Instant),
    /// All, since the read has failed.
    Unread,
}
