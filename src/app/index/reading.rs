//! [`Index`]: the part of it that readers of lists and the thread that makes them use.
//!
//! Locks only; which list is due when is decided in [`crate::app::lists`].

use super::{Index, State};
use crate::app::instances::PageQuery;
use crate::app::list::List;
use crate::app::lists::{ListOf, Task};
use crate::app::request_handle::RequestHandle;
use crate::budget::{Full, Hold};
use crate::clock::Clock;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

impl Index {
    /// The list of a type, if it is known and nothing has changed since; an empty one if the type
    /// has no instances.
    #[must_use]
    pub fn list(&self, app_type: &str, now: Instant) -> Option<Arc<List>> {
        let mut state = self.state();
        let State { types, lists, .. } = &mut *state;
        match types.get_key_value(app_type) {
            Some((known, _)) => lists.read(&ListOf::Instances(known.clone()), now),
            None => Some(List::empty()),
        }
    }

    /// The list of all templates, if it is known and nothing has changed since.
    #[must_use]
    pub fn template_list(&self, now: Instant) -> Option<Arc<List>> {
        self.state().lists.read(&ListOf::Templates, now)
    }

    /// This request gets that list later.
    pub fn await_list(&self, of: &ListOf, reader: RequestHandle, now: Instant) {
        self.state().lists.wait(of, reader, now);
        self.is_wanted.notify_one();
    }

    /// That page, if it is known and nothing has changed since.
    #[must_use]
    pub fn page(&self, query: &Arc<PageQuery>, now: Instant) -> Option<Arc<List>> {
        let of = ListOf::Page(Arc::clone(query));
        self.state().lists.read(&of, now)
    }

    /// See [`super::Lists::wait_for_page`].
    ///
    /// # Errors
    /// That there is no place.
    pub fn await_page(
        &self,
        query: &Arc<PageQuery>,
        reader: RequestHandle,
        place: Result<Hold, Full>,
        now: Instant,
    ) -> Result<(), Full> {
        let mut state = self.state();
        state.lists.wait_for_page(query, reader, place, now)?;
        self.is_wanted.notify_one();
        Ok(())
    }

    /// See [`super::Lists::templates_changed`].
    pub fn templates_changed(&self) {
        self.state().lists.templates_changed();
    }

    /// The caller of this request has hung up.
    pub fn abandon(&self, reader: RequestHandle) {
        self.state().lists.abandon(reader);
    }

    /// See [`super::Lists::take_due`].
    #[must_use]
    pub fn take_due(&self, now: Instant) -> Option<Task> {
        self.state().lists.take_due(now)
    }

    /// See [`super::Lists::wait_for_room`].
    pub fn wait_for_room(&self, task: &mut Task, now: Instant) {
        self.state().lists.wait_for_room(task, now);
    }

    /// See [`super::Lists::finish`].
    pub fn finish(
        &self,
        of: &ListOf,
        list: Option<&Arc<List>>,
        now: Instant,
    ) -> Vec<RequestHandle> {
        self.state().lists.finish(of, list, now)
    }

    /// See [`super::Lists::drop_last`].
    pub fn drop_last_list(&self, of: &ListOf) -> bool {
        self.state().lists.drop_last(of)
    }

    /// See [`super::Lists::drop_all`].
    pub fn drop_all_lists(&self) -> bool {
        self.state().lists.drop_all()
    }

    /// Wakes the thread that makes lists, which has something else to do.
    pub fn nudge(&self) {
        self.state().is_nudged = true;
        self.is_wanted.notify_one();
    }

    /// Blocks until a list is due, or for that time at most; then drops lists that nobody reads.
    pub fn wait_for_readers(&self, clock: &dyn Clock, longest: Duration) {
        let mut state = self.state();
        let now = clock.now();
        let nudged = std::mem::take(&mut state.is_nudged).then_some(now);
        let due = nudged.or_else(|| state.lists.next_due(now));
        let wait = due.map_or(longest, |due| due.saturating_duration_since(now));
        if !wait.is_zero() {
            let woken = self.is_wanted.wait_timeout(state, wait.min(longest));
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.lists.forget_unread(clock.now());
    }

    /// The lists that readers would get now; for tests, since it takes long.
    #[must_use]
    pub fn lists(&self) -> Vec<(ListOf, Arc<List>)> {
        self.state().lists.clean()
    }
}
