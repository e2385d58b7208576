//! Pages of the list of all instances: `Roster` goes through those of a [`Selection`], by type and name.
//!
//! It reads all names, so only threads that may take long have one. When a page is due is decided in
//! [`super::lists`]; its JSON is made by functions of the HTTP front ([`PageForm`]).

use super::cache::{Cache, Census};
use super::catalog::SharedCatalog;
use super::error::Error;
use super::instances::{Item, PageQuery, Selection};
use super::keys::own_key_of;
use super::list::List;
use crate::budget::{Draft, Ledger};
use crate::kube::types::Job;
use crate::model::names::InstanceKey;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// A page has no more bytes than this, unless a single instance has; nor more than most of what any list
/// may have.
pub const PAGE_BYTES_MAX: usize = 1024 * 1024;

/// The JSON of a page.
#[derive(Clone, Copy, Debug)]
pub struct PageForm {
    /// What it begins with.
    pub begin: &'static str,
    /// Appends one instance.
    pub item: fn(&Item, &mut Vec<u8>),
    /// Appends the end; with the last instance of the page, if others follow.
    pub end: fn(Option<&InstanceKey>, &mut Vec<u8>),
}

/// All instances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roster<'a> {
    pub(super) cache: &'a Cache,
    pub(super) census: &'a Census,
    pub(super) catalog: &'a SharedCatalog,
}

impl Roster<'_> {
    /// Calls `visit` with each instance of this selection that comes after that one, by type and name, until
    /// it returns `false`. As lists, it leaves out names that clients would change in a URL.
    pub(super) fn visit(
        &self,
        selection: &Selection,
        after: Option<&InstanceKey>,
        mut visit: impl FnMut(Item) -> bool,
    ) {
        fn names(job: &Job) -> Option<(&str, &str)> {
            Some((job.app_type()?, job.instance_name()?))
        }
        let after = after.map(|key| (key.app_type.as_str(), key.name.as_str()));
        let jobs = self.census.jobs.filter(|job| {
            let names = names(job);
            names > after && names.is_some_and(|(app_type, _)| selection.has_type(app_type))
        });
        let by_name = jobs.iter().enumerate().map(|(at, job)| (names(job), at));
        // Most readers want the first of them only, and then it is cheaper than to sort all.
        let mut next: BinaryHeap<_> = by_name.map(Reverse).collect();
        let catalog = self.catalog.current();
        let index = self.cache.index();
        while let Some(Reverse((_, at))) = next.pop() {
            let key = own_key_of(&jobs[at]).filter(|key| key.name.check_in_urls().is_ok());
            let Some(key) = key else { continue };
            let may_be = |place| selection.has_status(place);
            if !selection.statuses.is_empty() && !index.place(&key).is_some_and(may_be) {
                continue;
            }
            let item = self.cache.item(&key, catalog.revision(&key.app_type));
            if let Some(item) = item.filter(|item| selection.has(item))
                && !visit(item)
            {
                return;
            }
        }
    }

    /// A page of so many bytes at most, unless a single instance has more.
    ///
    /// # Errors
    /// [`Error::Overloaded`] if there is no memory for it.
    pub(super) fn page(
        &self,
        query: &PageQuery,
        form: &PageForm,
        (ledger, max): (&Arc<Ledger>, usize),
    ) -> Result<List, Error> {
        let mut draft = Draft::new(ledger, form.begin.len())?;
        let mut made = draft.append(form.begin.as_bytes());
        let (mut count, mut last, mut has_more) = (0, None, false);
        let mut json = Vec::new();
        self.visit(&query.selection, query.after.as_ref(), |item| {
            json.clear();
            if count > 0 {
                json.push(b',');
            }
            (form.item)(&item, &mut json);
            let is_beyond = count > 0 && draft.len() + json.len() > max;
            has_more = count == query.limit || is_beyond;
            if has_more {
                return false;
            }
            made = draft.append(&json);
            (count, last) = (count + 1, Some(item.key));
            made.is_ok()
        });
        made?;
        json.clear();
        (form.end)(last.as_ref().filter(|_| has_more), &mut json);
        draft.append(&json)?;
        Ok(List::page(draft))
    }
}
