//! The limit of open files, since each connection is one: raised once, at the start.

use crate::http::message::Limits;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not connections: logs, pollers, connections to Kubernetes.
const OTHER_FILES: u64 = 64;

/// Raises the soft limit of open files to the hard one. Returns how many connections it allows, or
/// `None` if there is no limit.
pub fn connections_possible() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(
            Resource::Nofile,
            Rlimit {
                current: maximum,
                maximum,
            },
        )
    {
        log::warn!("cannot raise the limit of open files ({error}); it stays at {current:?}");
    }
    let files = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX))
}

/// Lowers the bound on connections to `room`, and the bound per peer in proportion: otherwise one
/// peer could use all connections.
pub(super) fn fit(limits: &mut Limits, room: usize) {
    if room < limits.connections {
        log::warn!(
            "at most {room} connections, not CONNECTIONS_MAX: the limit of open files has no room for more"
        );
        let per_peer = limits.connections_per_peer.saturating_mul(room) / limits.connections;
        limits.connections_per_peer = per_peer.max(1);
        limits.connections = room;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_few_files_one_peer_cannot_use_all_connections() {
        let mut limits = Limits::default();
        fit(&mut limits, 192);
        assert_eq!(
            (limits.connections, limits.connections_per_peer),
            (192, 128)
        );
        let before = Limits::default();
        let mut limits = before.clone();
        fit(&mut limits, before.connections);
        assert_eq!(limits, before, "room enough");
        fit(&mut limits, 0);
        assert_eq!(limits.connections_per_peer, 1);
    }
}
