//! The limit of open files: each connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are not connections: logs, pollers, connections to Kubernetes.
const OTHER_FILES: u64 = 64;

/// Raises the soft limit of open files to the hard one, and says how many
/// connections that leaves room for; `None` where there is no limit.
pub(super) fn room_for_connections() -> Option<usize> {
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
        log::warn!("the limit of open files stays at {current:?}: {error}");
    }
    let files = getrlimit(Resource::Nofile).current?;
    Some(usize::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(usize::MAX))
}
