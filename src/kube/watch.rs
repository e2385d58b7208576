//! List and watch.

use super::types::{Resource, ResourceVersion, Uid};
use std::time::Duration;

/// How long an open watch may be silent before it is given up: a quiet one gets
/// a bookmark every 60 s.
pub const SILENCE: Duration = Duration::from_secs(90);

/// What a list or watch tells the store.
#[derive(Debug)]
pub enum StoreEvent<K: Resource> {
    /// A list begins.
    Init,
    /// An object of that list.
    InitApply(K),
    /// That list is complete; its version.
    InitDone(ResourceVersion),
    /// An object is new or has changed.
    Apply(K),
    /// An object is gone, or is not ours any more.
    Delete {
        /// Its name.
        name: Box<str>,
        /// Its UID.
        uid: Uid,
        /// The version of its deletion.
        version: ResourceVersion,
    },
    /// Nothing else happened up to this version.
    Progress(ResourceVersion),
}
