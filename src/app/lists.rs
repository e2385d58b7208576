//! [`Lists`]: which lists are read, what has changed of them since, and who waits for the next one.
//!
//! Pure: time is an argument. A list that nobody reads has nothing here. Who assembles one, and
//! from what, is in [`super::assembler`].

use super::instances::PageQuery;
use super::list::List;
use super::request_handle::RequestHandle;
use crate::budget::{Full, Hold};
use crate::model::names::{AppType, InstanceKey, InstanceName};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The list of a type is assembled no more often than this.
pub const PERIOD: Duration = Duration::from_millis(50);

/// A list that nobody has read for so long is dropped.
pub const UNREAD_KEPT: Duration = Duration::from_secs(300);

/// Readers of a list for which there is no memory wait so long for it: longer than a response that
/// leaves no room for a further list is sent ([`crate::budget::Loan::is_last`]).
pub const ROOM_WAIT: Duration = Duration::from_secs(12);

/// Meanwhile it is tried this often.
pub const ROOM_PERIOD: Duration = Duration::from_millis(500);

/// So many more names may have changed than the list has entries. Beyond that all entries are made
/// again, which then costs no more than the changes have.
pub const NAMES_MORE_MAX: usize = 64;

/// So many pages of all instances are kept; those that nobody waits for go first, the one that was read the
/// longest ago before the others.
pub const PAGES_MAX: usize = 128;

/// The lists that are read.
#[derive(Debug, Default)]
pub struct Lists {
    kept: HashMap<ListOf, Kept>,
    /// How many of them are pages.
    pages: usize,
}

/// What a list is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListOf {
    /// The instances of this type.
    Instances(AppType),
    /// What is known of all templates.
    Templates,
    /// A page of all instances.
    Page(Arc<PageQuery>),
}

impl ListOf {
    const fn is_page(&self) -> bool {
        matches!(self, Self::Page(_))
    }
}

/// One list.
#[derive(Debug)]
struct Kept {
    /// As it was last assembled.
    current: Option<Arc<List>>,
    /// What has changed since the last assembly began.
    changes: Changes,
    /// Requests that wait for the next list. Each is the only one of its connection.
    readers: Vec<RequestHandle>,
    /// Whether the next list is being assembled.
    is_assembling: bool,
    assembled_at: Option<Instant>,
    /// Since when there has been no memory for it, while somebody waits for it.
    no_room_since: Option<Instant>,
    read_at: Instant,
    /// When the first of its readers came.
    asked_at: Instant,
    /// Of a page that somebody waits for: the place of the first who did.
    place: Option<Hold>,
}

/// What has changed of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Possibly all.
    All,
    /// The entries of these instances.
    Of(BTreeSet<InstanceName>),
}

/// What is due.
#[derive(Debug)]
pub struct Task {
    /// What it is of.
    pub of: ListOf,
    /// The last list.
    pub before: Option<Arc<List>>,
    /// What has changed since; with no changes the last list is the response.
    pub changes: Changes,
    /// The requests that get the new list.
    pub readers: Vec<RequestHandle>,
}

impl Changes {
    fn none() -> Self {
        Self::Of(BTreeSet::new())
    }

    fn is_none(&self) -> bool {
        *self == Self::none()
    }
}

impl Kept {
    fn new(now: Instant) -> Self {
        Self {
            current: None,
            changes: Changes::All,
            readers: Vec::new(),
            is_assembling: false,
            assembled_at: None,
            no_room_since: None,
            read_at: now,
            asked_at: now,
            place: None,
        }
    }

    /// The last list, if nothing has changed since.
    fn clean(&self) -> Option<&Arc<List>> {
        let is_clean = self.changes.is_none() && !self.is_assembling;
        self.current.as_ref().filter(|_| is_clean)
    }

    /// When its readers are to get a list.
    fn due(&self, now: Instant) -> Option<Instant> {
        if self.readers.is_empty() || self.is_assembling {
            return None;
        }
        let assembled_at = self.assembled_at.filter(|_| self.clean().is_none());
        let period = self.no_room_since.map_or(PERIOD, |_| ROOM_PERIOD);
        let asked_at = self.asked_at.min(now);
        Some(assembled_at.map_or(asked_at, |at| asked_at.max(at + period)))
    }

    const fn is_in_use(&self) -> bool {
        self.is_assembling || !self.readers.is_empty()
    }
}

impl Lists {
    /// The list of this, if it is known and nothing has changed since.
    pub fn read(&mut self, of: &ListOf, now: Instant) -> Option<Arc<List>> {
        let kept = self.kept.get_mut(of)?;
        kept.read_at = now;
        kept.clean().cloned()
    }

    /// A request waits for the list of this. Until [`Lists::abandon`] or its response it is the
    /// only one of its connection.
    pub fn wait(&mut self, of: &ListOf, reader: RequestHandle, now: Instant) {
        let kept = self.kept.entry(of.clone());
        let kept = kept.or_insert_with(|| Kept::new(now));
        if !kept.is_in_use() {
            kept.no_room_since = None;
        }
        if kept.readers.is_empty() {
            kept.asked_at = now;
        }
        kept.read_at = now;
        kept.readers.push(reader);
    }

    /// A request waits for this page, as by [`Lists::wait`]. A page that nobody else waits for takes this
    /// place.
    ///
    /// # Errors
    /// That there is none.
    pub fn wait_for_page(
        &mut self,
        query: &Arc<PageQuery>,
        reader: RequestHandle,
        place: Result<Hold, Full>,
        now: Instant,
    ) -> Result<(), Full> {
        let of = ListOf::Page(Arc::clone(query));
        let known = self.kept.get(&of);
        if known.is_none_or(|kept| !kept.is_in_use()) {
            let (place, is_new) = (Some(place?), known.is_none());
            if is_new {
                self.make_room_for_a_page();
            }
            let kept = self.kept.entry(of.clone());
            kept.or_insert_with(|| Kept::new(now)).place = place;
            self.pages += usize::from(is_new);
        }
        self.wait(&of, reader, now);
        Ok(())
    }

    fn make_room_for_a_page(&mut self) {
        let pages = self.kept.iter().filter(|(of, _)| of.is_page());
        let unused = pages.filter(|(_, kept)| !kept.is_in_use());
        let oldest = unused.min_by_key(|(_, kept)| kept.read_at);
        if self.pages >= PAGES_MAX
            && let Some(oldest) = oldest.map(|(of, _)| of.clone())
        {
            self.kept.remove(&oldest);
            self.pages -= 1;
        }
    }

    /// The caller of this request has hung up.
    pub fn abandon(&mut self, reader: RequestHandle) {
        for kept in self.kept.values_mut() {
            kept.readers.retain(|other| *other != reader);
            if !kept.is_in_use() {
                kept.place = None;
            }
        }
    }

    /// Any entries of the list may have changed.
    pub fn change_all(&mut self, of: &ListOf) {
        if let Some(kept) = self.kept.get_mut(of) {
            kept.changes = Changes::All;
        }
    }

    /// Something is known of templates that was not before: whether instances are of the present one, too.
    pub fn templates_changed(&mut self) {
        for (of, kept) in &mut self.kept {
            if of.is_page() || *of == ListOf::Templates {
                kept.changes = Changes::All;
            }
        }
    }

    /// Something of an instance of this type has changed that only pages show.
    pub fn change_pages(&mut self, app_type: &AppType) {
        if self.pages == 0 {
            return;
        }
        for (of, kept) in &mut self.kept {
            if matches!(of, ListOf::Page(query) if query.selection.has_type(app_type.as_str())) {
                kept.changes = Changes::All;
            }
        }
    }

    /// The entry of this instance has changed, or has come or gone.
    pub fn change(&mut self, key: &InstanceKey) {
        let InstanceKey { app_type, name } = key;
        self.change_pages(app_type);
        let of = &ListOf::Instances(app_type.clone());
        if let Some(kept) = self.kept.get_mut(of)
            && let Changes::Of(names) = &mut kept.changes
        {
            names.insert(name.clone());
            let entries = kept.current.as_ref().map_or(0, |list| list.len());
            if names.len() > entries + NAMES_MORE_MAX {
                kept.changes = Changes::All;
            }
        }
    }

    /// The list has no entries any more: it is dropped, unless somebody waits for it.
    pub fn emptied(&mut self, of: &ListOf) {
        if self.kept.get(of).is_some_and(|kept| !kept.is_in_use()) {
            self.kept.remove(of);
        }
    }

    /// When [`Lists::take_due`] has something next.
    #[must_use]
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        self.kept.values().filter_map(|kept| kept.due(now)).min()
    }

    /// Takes out what is due, the longest overdue first; [`Lists::finish`] must follow.
    pub fn take_due(&mut self, now: Instant) -> Option<Task> {
        let due = self.kept.iter_mut();
        let due = due.filter_map(|(of, kept)| Some((kept.due(now)?, of, kept)));
        let first = due.filter(|(at, ..)| *at <= now).min_by_key(|(at, ..)| *at);
        let (_, of, kept) = first?;
        kept.is_assembling = true;
        Some(Task {
            of: of.clone(),
            before: kept.current.clone(),
            changes: std::mem::replace(&mut kept.changes, Changes::none()),
            readers: std::mem::take(&mut kept.readers),
        })
    }

    /// There is no memory for the list of this task, which [`Lists::finish`] is told next: its readers
    /// go on waiting, unless that has been so for [`ROOM_WAIT`].
    pub fn wait_for_room(&mut self, task: &mut Task, now: Instant) {
        let Some(kept) = self.kept.get_mut(&task.of) else {
            return;
        };
        let since = *kept.no_room_since.get_or_insert(now);
        if now.saturating_duration_since(since) < ROOM_WAIT {
            kept.readers.splice(..0, task.readers.drain(..));
        } else {
            kept.no_room_since = None;
        }
    }

    /// The list of a task is assembled, or there is no memory for it: then the one before is dropped,
    /// and the next is made anew. Returns the requests that have come meanwhile, if nothing has
    /// changed meanwhile.
    pub fn finish(
        &mut self,
        of: &ListOf,
        list: Option<&Arc<List>>,
        now: Instant,
    ) -> Vec<RequestHandle> {
        let Some(kept) = self.kept.get_mut(of) else {
            return Vec::new();
        };
        kept.is_assembling = false;
        kept.assembled_at = Some(now);
        kept.current = list.cloned();
        match list {
            Some(_) => kept.no_room_since = None,
            None => kept.changes = Changes::All,
        }
        let readers = match kept.clean() {
            Some(_) => std::mem::take(&mut kept.readers),
            None => Vec::new(),
        };
        if kept.readers.is_empty() {
            kept.place = None;
        }
        let is_empty = list.is_some_and(|list| list.is_empty());
        if is_empty && kept.clean().is_some() && !of.is_page() {
            self.kept.remove(of);
        }
        readers
    }

    /// Drops a list whose next one is being assembled, to make room for that; returns whether there
    /// was one.
    pub fn drop_last(&mut self, of: &ListOf) -> bool {
        let kept = self.kept.get_mut(of);
        kept.is_some_and(|kept| kept.current.take().is_some())
    }

    /// Drops all lists, as [`Lists::drop_last`]; the next of each is made anew.
    pub fn drop_all(&mut self) -> bool {
        let mut has_dropped = false;
        for kept in self.kept.values_mut() {
            if kept.current.take().is_some() {
                has_dropped = true;
                if !kept.is_assembling {
                    kept.changes = Changes::All;
                }
            }
        }
        has_dropped
    }

    /// Drops lists that nobody has read for [`UNREAD_KEPT`].
    pub fn forget_unread(&mut self, now: Instant) {
        let is_read = |kept: &Kept| now.saturating_duration_since(kept.read_at) < UNREAD_KEPT;
        self.kept
            .retain(|_, kept| kept.is_in_use() || is_read(kept));
        self.pages = self.kept.keys().filter(|of| of.is_page()).count();
    }

    /// The lists that are known and clean; for tests, since it takes long.
    #[must_use]
    pub fn clean(&self) -> Vec<(ListOf, Arc<List>)> {
        let lists = self.kept.iter();
        let clean = lists.filter_map(|(of, kept)| Some((of, kept.clean()?)));
        clean
            .map(|(of, list)| (of.clone(), Arc::clone(list)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
