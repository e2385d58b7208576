//! The calls for the admission of a suspended Job: which Jobs were there before it, and that it runs.
//!
//! A part of [`super`]. Which Job may run is decided in `crate::app::admissions`.

use super::{Client, request};
use crate::kube::error::Error;
use crate::kube::request::Scope;
use crate::kube::types::{JOBS, Job, Page, ResourceVersion, Uid, decode_object};
use crate::kube::watch::PAGE_OBJECTS;
use std::collections::HashSet;

/// So many pages of Jobs as they were at an earlier version are read.
pub(super) const PAGES_MAX: usize = 50;

impl Client {
    /// Lets the Job with this UID run if its annotation still has that value; see [`request::admit_job`]. Returns the
    /// Job as it is then: it may be being deleted.
    ///
    /// # Errors
    /// `Invalid` or `Conflict` when it has another value or UID, `NotFound` when no object has that name.
    pub fn admit_job(
        &self,
        name: &str,
        uid: &Uid,
        change: (&str, &str, &str),
    ) -> Result<Job, Error> {
        let request = request::admit_job(&self.namespace, name, uid, change)?;
        self.call(request, |body| decode_object(body, name, Some(uid)))
    }

    /// The UIDs of our Jobs that were there at exactly this version; `None` if they fill too many
    /// pages.
    ///
    /// # Errors
    /// `Expired` when the version is too old.
    pub fn jobs_at(&self, version: &ResourceVersion) -> Result<Option<HashSet<Uid>>, Error> {
        let mut uids = HashSet::new();
        let mut request = request::jobs_at(&self.namespace, version, PAGE_OBJECTS)?;
        for _ in 0..PAGES_MAX {
            let page: Page<Job> = self.page(request)?;
            uids.extend(page.items.into_iter().map(|job| job.metadata.uid));
            let Some(token) = page.continue_token else {
                return Ok(Some(uids));
            };
            let scope = Scope::all(&self.namespace);
            request = request::list(JOBS, &scope, Some(&token), PAGE_OBJECTS)?;
        }
        Ok(None)
    }
}
