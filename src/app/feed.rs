//! [`Feed`]: passes changes of the cache on to the coordinator, from the first lists on, and has the
//! statuses of what changed counted.
//!
//! Which names a change concerns is computed in [`super::changes`], and what follows from it is
//! decided in [`super::coordinator`].

use super::cache::{Cache, Census};
use super::coordinator::{CacheChange, Input};
use super::engine::Inbox;
use super::keys::{key_of, key_of_pod};
use crate::model::names::InstanceKey;
use crate::threads::lock;
use std::sync::Mutex;

/// So many of the names that were found are one input: the memory of all at once would stay.
const FOUND_AT_ONCE: usize = 256;

/// The changes of all stores, on their way to the coordinator.
///
/// Nothing passes until the first lists of both Jobs and pods are complete: of a Job without its pod
/// the coordinator would keep a record, 10,000 of which are 5 MiB.
#[derive(Debug)]
pub struct Feed {
    cache: Cache,
    census: Census,
    inbox: Inbox,
    is_open: Mutex<bool>,
}

impl Feed {
    /// Nothing has been listed yet.
    #[must_use]
    pub const fn new(cache: Cache, census: Census, inbox: Inbox) -> Self {
        Self {
            cache,
            census,
            inbox,
            is_open: Mutex::new(false),
        }
    }

    /// Passes on changes that the cache has. The first to come after both lists stand for all that
    /// was found. Blocks while the coordinator has too many inputs.
    pub fn pass_on(&self, changes: impl FnOnce() -> Vec<CacheChange>) {
        // Locked while it sends, so that no change overtakes the list.
        let mut is_open = lock(&self.is_open);
        if *is_open {
            let changes = changes();
            self.refresh(&changes);
            if !changes.is_empty() {
                self.inbox.send(Input::Changed(changes));
            }
        } else if self.cache.jobs.is_synced() && self.cache.pods.is_synced() {
            *is_open = true;
            self.pass_on_found();
        }
    }

    /// Passes on the names of all Jobs, and of pods whose Job is gone.
    fn pass_on_found(&self) {
        let Census { jobs, pods } = &self.census;
        let (jobs_found, pods_found) = (jobs.all(), pods.all());
        let of_jobs = jobs_found.iter().filter_map(|job| key_of(job));
        let of_pods = pods_found
            .iter()
            .filter_map(|pod| key_of_pod(&pod.metadata));
        let is_left_over = |key: &InstanceKey| self.cache.jobs.get(&key.job_name()).is_none();
        let left_over = of_pods.filter(is_left_over);
        let mut all = of_jobs.chain(left_over).map(CacheChange::of).peekable();
        while all.peek().is_some() {
            let names: Vec<CacheChange> = all.by_ref().take(FOUND_AT_ONCE).collect();
            self.refresh(&names);
            self.inbox.send(Input::Listed(names));
        }
    }

    fn refresh(&self, changes: &[CacheChange]) {
        changes
            .iter()
            .for_each(|change| self.cache.refresh(&change.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::fixture::{World, n1};
    use crate::store::{Sink, StoreEvent};
    use serde_json::json;

    #[test]
    fn nothing_passes_until_jobs_and_pods_are_listed_and_then_all_there_is() {
        let mut world = World::unsynced();
        let (inbox, inputs) = Inbox::new(10);
        let feed = Feed::new(world.cache.clone(), world.census.clone(), inbox);
        let change = || vec![CacheChange::of(n1())];
        feed.pass_on(change);
        drop(world.jobs.apply(StoreEvent::Init));
        drop(world.jobs.apply(StoreEvent::InitDone("1".into())));
        world.job("u1", json!({}));
        feed.pass_on(change);
        assert!(inputs.receiver.try_recv().is_err());
        drop(world.pods.apply(StoreEvent::Init));
        drop(world.pods.apply(StoreEvent::InitDone("1".into())));
        feed.pass_on(Vec::new);
        let Input::Listed(found) = *inputs.receiver.try_recv().unwrap() else {
            panic!("the first input is not the list");
        };
        assert_eq!(found, change());
        feed.pass_on(change);
        let input = *inputs.receiver.try_recv().unwrap();
        assert!(matches!(input, Input::Changed(changes) if changes == change()));
    }
}
