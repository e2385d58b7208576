//! [`Replicas`]: which replicas there are, by their Leases.
//!
//! Pure. Only a Lease counts that its replica holds until it shuts down, and that Kubernetes removes together with
//! its pod: any other one stays when its replica is gone. What the replicas share is not known here.

use crate::kube::types::Lease;
use std::collections::BTreeSet;

/// So many replicas are kept apart.
pub const REPLICAS_MAX: usize = 256;

/// The names of the replicas, up to [`REPLICAS_MAX`].
#[derive(Clone, Debug, Default)]
pub struct Replicas {
    names: BTreeSet<Box<str>>,
    /// Those of a list that has begun.
    listing: BTreeSet<Box<str>>,
    /// A list was complete.
    is_known: bool,
}

impl Replicas {
    /// Their names; `None` before the first list.
    #[must_use]
    pub fn names(&self) -> Option<impl Iterator<Item = &str>> {
        self.is_known.then(|| self.names.iter().map(|name| &**name))
    }

    pub(super) fn list_begins(&mut self) {
        self.listing.clear();
    }

    pub(super) fn listed(&mut self, lease: &Lease) {
        add(&mut self.listing, lease);
    }

    pub(super) fn list_ends(&mut self) {
        self.names = std::mem::take(&mut self.listing);
        self.is_known = true;
    }

    pub(super) fn changed(&mut self, lease: &Lease) {
        add(&mut self.names, lease);
    }

    pub(super) fn gone(&mut self, name: &str) {
        self.names.remove(name);
    }
}

/// Adds the replica of this Lease. All see the same Leases, and in a list by name, so beyond the bound they leave
/// out the same ones.
fn add(names: &mut BTreeSet<Box<str>>, lease: &Lease) {
    let name = &lease.metadata.name;
    if !lease.is_live {
        names.remove(name);
    } else if names.len() < REPLICAS_MAX {
        names.insert(name.clone());
    }
}
