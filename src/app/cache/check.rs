//! [`Cache::check`]: the invariants of the index, for tests and the simulation.
//!
//! It is compiled in every profile, so that tests check the release build, too; the service never
//! calls it, since it reads everything.

use super::{Cache, Census};
use crate::app::index::{Counts, bytes_of_job, sizes_of_pod};
use crate::app::keys::{key_of_pod, own_key_of};
use crate::model::labels;
use crate::model::names::AppType;
use std::collections::BTreeMap;

impl Cache {
    /// Checks that the index has what all objects show. To be called between two steps.
    ///
    /// # Errors
    /// A message that names what differs.
    pub fn check(&self, census: &Census) -> Result<(), String> {
        self.check_counts(census)?;
        self.check_sessions(census)?;
        self.check_label_bytes(census)?;
        self.check_memory(census)
    }

    fn check_counts(&self, census: &Census) -> Result<(), String> {
        // Until both are listed, statuses are not computed.
        if !(self.jobs.is_synced() && self.pods.is_synced()) {
            return Ok(());
        }
        let mut counts = BTreeMap::<AppType, Counts>::new();
        for job in census.jobs.all() {
            if let Some(key) = own_key_of(&job) {
                let place = self.place(&key, &self.instance(job));
                counts.entry(key.app_type).or_default()[place] += 1;
            }
        }
        let counted = self.counts();
        if counted != counts {
            return Err(format!(
                "the instances are counted as {counted:?}, not {counts:?}"
            ));
        }
        Ok(())
    }

    fn check_label_bytes(&self, census: &Census) -> Result<(), String> {
        let pods = census.pods.all();
        let (mut bytes, mut of_types) = (0, BTreeMap::<AppType, usize>::new());
        for pod in pods {
            let of_pod = labels::size(&pod.metadata).kept_bytes();
            bytes += of_pod;
            if let Some(key) = key_of_pod(&pod.metadata).filter(|_| of_pod > 0) {
                *of_types.entry(key.app_type).or_default() += of_pod;
            }
        }
        let counted = (self.index.label_bytes(), self.index.labelled_types());
        let expected = (bytes, of_types);
        if counted != expected {
            return Err(format!(
                "the bytes of meta labels are counted as {counted:?}, not {expected:?}"
            ));
        }
        Ok(())
    }

    fn check_memory(&self, census: &Census) -> Result<(), String> {
        let jobs = census.jobs.all();
        let pods = census.pods.all();
        let jobs: usize = jobs
            .iter()
            .map(|job| bytes_of_job(job, own_key_of(job).as_ref()))
            .sum();
        let pods: usize = pods.iter().map(|pod| sizes_of_pod(pod).1).sum();
        let bytes = jobs + pods + self.index.end_bytes();
        let counted = self.index.memory().cached_bytes();
        if counted != bytes {
            return Err(format!(
                "the cache is counted as {counted} bytes, not {bytes}"
            ));
        }
        Ok(())
    }

    fn check_sessions(&self, census: &Census) -> Result<(), String> {
        let mut pods = 0;
        for pod in census.pods.all() {
            let key = key_of_pod(&pod.metadata);
            let Some((key, session)) = key.zip(labels::session(&pod.metadata)) else {
                continue;
            };
            pods += 1;
            let found = self.index.with_session(&session, |_| true);
            if !found.contains(&key) {
                return Err(format!("{key} is not found by its session {session:?}"));
            }
        }
        let indexed = self.index.sessions();
        if indexed != pods {
            return Err(format!(
                "{indexed} pods with sessions are indexed, not {pods}"
            ));
        }
        Ok(())
    }
}
