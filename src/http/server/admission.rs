//! [`Admission`]: bounds on connections, in total and per peer. How many the memory has room for is
//! known in [`Memory`]; nothing else is counted here.

use crate::budget::{Memory, PeerKey, is_beyond};
use crate::http::message::{Limits, Refusal};
use crate::threads::lock;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

/// A peer may have so many connections even while instances take the memory for them: probes and
/// callers with few are never locked out by what others start.
const FEW: usize = 16;

/// A sixteenth of all connections is for peers that have fewer than this many. Otherwise ten peers could
/// hold all, and keep out the probes of the kubelet, so that it restarts every replica.
const NEW: usize = 2;

/// That part of all connections.
const PARTS: usize = 16;

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_peer: HashMap<PeerKey, usize>,
}

#[derive(Debug)]
pub(super) struct Admission {
    connections_max: usize,
    per_peer_max: usize,
    memory: Arc<Memory>,
    counts: Mutex<Counts>,
}

impl Admission {
    pub(super) fn new(limits: &Limits, memory: Arc<Memory>) -> Self {
        Self {
            connections_max: limits.connections,
            per_peer_max: limits.connections_per_peer,
            memory,
            counts: Mutex::default(),
        }
    }

    /// Admits one more connection of this peer; it is counted until the permit is dropped. Each peer
    /// may have its part of what the others leave, at least half; so a new one finds room.
    ///
    /// # Errors
    /// [`Refusal::TooManyFromPeer`] or [`Refusal::TooManyConnections`].
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refusal> {
        let peer = PeerKey::of(address);
        let mut counts = lock(&self.counts);
        let of_peer = counts.by_peer.get(&peer).copied().unwrap_or(0);
        let of_peer = of_peer + 1;
        let room = match of_peer {
            ..=FEW => usize::MAX,
            _ => self.memory.connections_max(),
        };
        let max = match of_peer {
            ..=NEW => self.connections_max,
            _ => self.connections_max - self.connections_max / PARTS,
        };
        let max = max.min(room);
        let free = max.checked_sub(counts.all + 1);
        let free = free.ok_or(Refusal::TooManyConnections)?;
        // As many in proportion, if there is less memory.
        let per_peer = self.per_peer_max as u128 * max as u128 / self.connections_max as u128;
        let per_peer = usize::try_from(per_peer).unwrap_or(usize::MAX);
        let is_beyond = of_peer > NEW && is_beyond(of_peer, per_peer, free, max);
        if is_beyond || of_peer > self.per_peer_max {
            return Err(Refusal::TooManyFromPeer);
        }
        counts.all += 1;
        self.memory.set_connections(counts.all);
        counts.by_peer.insert(peer, of_peer);
        Ok(Permit {
            admission: Arc::clone(self),
            peer,
        })
    }
}

/// One admitted connection.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    peer: PeerKey,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = lock(&self.admission.counts);
        counts.all -= 1;
        self.admission.memory.set_connections(counts.all);
        if let Some(of_peer) = counts.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                counts.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections: usize, connections_per_peer: usize) -> Arc<Admission> {
        let limits = Limits {
            connections,
            connections_per_peer,
            ..Limits::default()
        };
        Arc::new(Admission::new(&limits, Arc::new(memory(connections))))
    }

    /// With room for so many connections.
    fn memory(connections: usize) -> Memory {
        Memory::new(connections * 2048 + (64 << 20), 0, 1024)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_at_its_bound_leaves_room_for_others() {
        let admission = admission(3, 2);
        let first = admission.admit(address("10.0.0.1")).unwrap();
        let _second = admission.admit(address("::ffff:10.0.0.1")).unwrap();
        let refused = admission.admit(address("10.0.0.1")).unwrap_err();
        assert_eq!(refused, Refusal::TooManyFromPeer);
        let _third = admission.admit(address("10.0.0.2")).unwrap();
        let refused = admission.admit(address("10.0.0.3")).unwrap_err();
        assert_eq!(refused, Refusal::TooManyConnections);
        drop(first);
        assert!(admission.admit(address("10.0.0.3")).is_ok());
    }

    #[test]
    fn each_further_peer_finds_room() {
        let admission = admission(12_000, 8_000);
        let mut permits = Vec::new();
        let mut taken = |last: u8| {
            let before = permits.len();
            while let Ok(permit) = admission.admit(IpAddr::from([10, 0, 0, last])) {
                permits.push(permit);
            }
            permits.len() - before
        };
        // Of 11,250; the others are for new peers.
        assert_eq!([1, 2, 3, 4].map(&mut taken), [7500, 2500, 833, 278]);
        assert!(admission.admit(address("10.0.0.9")).is_ok());
    }

    /// As many as it takes until a peer gets no more than a new one does.
    #[test]
    fn peers_that_fill_all_connections_leave_some_for_new_peers() {
        let admission = admission(4300, 2800);
        let mut permits = Vec::new();
        let mut taken = |peer: u32| {
            let before = permits.len();
            while let Ok(permit) = admission.admit(IpAddr::from((10 << 24 | peer).to_be_bytes())) {
                permits.push(permit);
            }
            permits.len() - before
        };
        let fillers = (1..).take_while(|peer| taken(*peer) > NEW).count();
        assert!((5..20).contains(&fillers), "{fillers} fill it");
        let news: Vec<usize> = (1000..1100).map(&mut taken).collect();
        assert_eq!(news, vec![NEW; 100]);
    }

    #[test]
    fn instances_that_take_memory_leave_room_for_fewer_connections() {
        // 58 MiB are shared.
        let memory = Arc::new(Memory::default());
        let admission = Arc::new(Admission::new(&Limits::default(), Arc::clone(&memory)));
        let mut permits = Vec::new();
        let mut fill = || {
            for last in 1..=40 {
                while let Ok(permit) = admission.admit(IpAddr::from([10, 0, 0, last])) {
                    permits.push(permit);
                }
            }
            permits.len()
        };
        let few = 40 * FEW;
        memory.resize_cache(0, 40 << 20);
        let most = 43 * 256 / 12;
        let taken = fill();
        assert!(
            (most..=most + few).contains(&taken),
            "10.75 MiB, 12 KiB each: {taken}"
        );
        assert!(memory.instance_bytes_max() > 40 << 20, "one more may start");
        memory.resize_cache(40 << 20, 0);
        let taken = fill();
        assert!(taken > 3900, "as CONNECTIONS_MAX says: {taken}");
        permits.truncate(4000);
        memory.resize_cache(0, 50 << 20);
        for last in 1..=9 {
            let peer = IpAddr::from([10, 0, 1, last]);
            let few: Vec<Permit> = (0..20).map_while(|_| admission.admit(peer).ok()).collect();
            assert_eq!(few.len(), FEW);
        }
        permits.clear();
        assert_eq!(memory.instance_bytes_max(), (58 << 20) / 8 * 7);
    }

    #[test]
    fn a_64_of_ipv6_is_one_peer() {
        let admission = admission(9, 1);
        let _first = admission.admit(address("2001:db8:0:1::1")).unwrap();
        let refused = admission.admit(address("2001:db8:0:1:ffff::2"));
        assert_eq!(refused.unwrap_err(), Refusal::TooManyFromPeer);
        assert!(admission.admit(address("2001:db8:0:2::1")).is_ok());
    }

    #[test]
    fn peers_without_connections_are_forgotten() {
        let admission = admission(9, 9);
        drop(admission.admit(address("10.0.0.1")).unwrap());
        assert!(lock(&admission.counts).by_peer.is_empty());
        assert_eq!(lock(&admission.counts).all, 0);
    }
}
