//! The limit of open files, since each connection is one: raised once, at the start.

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
