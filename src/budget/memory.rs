//! [`Memory`]: what connections and cached instances share of the memory limit of the container.
//!
//! Callers open connections and start instances, so both grow as callers like. Neither is refused
//! for the other alone: each always has its part, and the rest goes to whoever comes first. What an
//! instance or a connection takes is an estimate, measured once, so that the bound depends on
//! nothing but what callers do. Requests and responses have a budget of their own
//! ([`super::Ledger`]), which is set aside here. Pure.

use std::sync::atomic::{AtomicUsize, Ordering};

/// The memory limit of the manifests, which counts where the container has none.
pub const LIMIT_DEFAULT: usize = 96 << 20;

/// What one connection takes at most beside the bytes that are charged for it: 4 KiB of the kernel
/// and of ours, and two pages for responses that its peer has not read.
pub const CONNECTION_BYTES: usize = 12 << 10;

/// As [`CONNECTION_BYTES`], with the state of TLS.
pub const TLS_CONNECTION_BYTES: usize = 19 << 10;

/// What is set aside for everything else: program and threads, templates (4 MiB), a list of Kubernetes
/// while it is read, and what the allocator leaves unused.
const OTHERS_BYTES: usize = 14 << 20;

/// In a container that is too small, this much is shared nevertheless.
const SHARED_BYTES_MIN: usize = 4 << 20;

/// Connections and instances always have an eighth each.
const PARTS: usize = 8;

/// The memory of a process; the module says what is counted.
#[derive(Debug)]
pub struct Memory {
    shared: usize,
    connection_bytes: usize,
    connections: AtomicUsize,
    cached_bytes: AtomicUsize,
    record_bytes: AtomicUsize,
}

impl Default for Memory {
    /// In the container of the manifests.
    fn default() -> Self {
        Self::new(LIMIT_DEFAULT, 24 << 20, CONNECTION_BYTES)
    }
}

impl Memory {
    /// The memory of a container with this limit, of which requests and responses hold so much; all
    /// in bytes.
    #[must_use]
    pub fn new(limit: usize, held_bytes_max: usize, connection_bytes: usize) -> Self {
        let shared = limit.saturating_sub(held_bytes_max.saturating_add(OTHERS_BYTES));
        Self {
            shared: shared.max(SHARED_BYTES_MIN),
            connection_bytes,
            connections: AtomicUsize::new(0),
            cached_bytes: AtomicUsize::new(0),
            record_bytes: AtomicUsize::new(0),
        }
    }

    /// How much requests and responses may hold in a container with this limit, in bytes.
    #[must_use]
    pub const fn held_bytes_max(limit: usize) -> usize {
        limit.saturating_sub(OTHERS_BYTES + SHARED_BYTES_MIN)
    }

    /// How many connections there may be now. They leave a part for more instances: else whoever holds
    /// connections could keep others from starting any.
    #[must_use]
    pub fn connections_max(&self) -> usize {
        let room = self.shared / PARTS;
        self.beside(self.instance_bytes() + room) / self.connection_bytes
    }

    /// There are so many connections now.
    pub fn set_connections(&self, count: usize) {
        self.connections.store(count, Ordering::SeqCst);
    }

    /// Bytes that the instances take: what is cached of them, and what is remembered of their starts.
    #[must_use]
    pub fn instance_bytes(&self) -> usize {
        self.cached_bytes() + self.record_bytes.load(Ordering::SeqCst)
    }

    /// Bytes that the cache takes, as [`Memory::resize_cache`] was told.
    #[must_use]
    pub fn cached_bytes(&self) -> usize {
        self.cached_bytes.load(Ordering::SeqCst)
    }

    /// What is remembered of starts and stops takes so many bytes now.
    pub fn set_record_bytes(&self, bytes: usize) {
        self.record_bytes.store(bytes, Ordering::SeqCst);
    }

    /// How many bytes the instances may take now, so that one more is started. Those that
    /// others start are cached nevertheless.
    #[must_use]
    pub fn instance_bytes_max(&self) -> usize {
        let connections = self.connections.load(Ordering::SeqCst);
        self.beside(connections.saturating_mul(self.connection_bytes))
    }

    /// An object in the cache takes other memory than before.
    pub fn resize_cache(&self, before: usize, after: usize) {
        let change = |bytes: usize| Some((bytes + after).saturating_sub(before));
        let (set, get) = (Ordering::SeqCst, Ordering::SeqCst);
        let _ = self.cached_bytes.fetch_update(set, get, change);
    }

    /// What one of the two may use while the other uses so much.
    const fn beside(&self, other: usize) -> usize {
        let part = self.shared / PARTS;
        let left = self.shared.saturating_sub(other);
        if left < part {
            part
        } else if left > self.shared - part {
            self.shared - part
        } else {
            left
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;

    #[test]
    fn each_of_the_two_may_use_what_the_other_leaves_but_an_eighth() {
        // 80 MiB are shared, 10 MiB are an eighth.
        let memory = Memory::new(OTHERS_BYTES + 100 * MIB, 20 * MIB, 10 * KIB);
        assert_eq!(memory.connections_max(), 7168);
        assert_eq!(memory.instance_bytes_max(), 70 * MIB);
        memory.resize_cache(0, 10 * MIB);
        assert_eq!(memory.connections_max(), 6144);
        memory.resize_cache(10 * MIB, 50 * MIB);
        assert_eq!(memory.connections_max(), 2048);
        memory.set_connections(2048);
        assert_eq!(memory.instance_bytes_max(), 60 * MIB, "10 MiB more");
        memory.resize_cache(0, 50 * MIB);
        assert_eq!(
            (memory.connections_max(), memory.instance_bytes()),
            (1024, 100 * MIB)
        );
        memory.set_connections(2048);
        assert_eq!(memory.instance_bytes_max(), 60 * MIB);
        memory.set_connections(1 << 40);
        assert_eq!(memory.instance_bytes_max(), 10 * MIB);
        memory.resize_cache(100 * MIB, 0);
        assert_eq!(memory.instance_bytes(), 0);
    }

    #[test]
    fn all_parts_together_fit_into_the_limit() {
        let memory = Memory::default();
        memory.set_connections(memory.connections_max());
        let together = memory.connections_max() * CONNECTION_BYTES + memory.instance_bytes_max();
        assert!(together <= LIMIT_DEFAULT - OTHERS_BYTES - 24 * MIB);
    }

    #[test]
    fn a_container_that_is_too_small_has_a_minimum() {
        let memory = Memory::new(20 * MIB, 24 * MIB, CONNECTION_BYTES);
        assert_eq!(memory.connections_max(), 298);
        assert_eq!(memory.instance_bytes_max(), 3584 * KIB);
    }
}
