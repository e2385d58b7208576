//! Caps: whether more instances are ever admitted than a cap allows.

use std::collections::BTreeMap;

use config_controller::model::job::{ADMISSION, ADMITTED, is_undecided};
use config_controller::model::labels::INSTANCE_TYPE;

use super::callers::Waiting;
use super::promises::{Breach, Promise, check};
use super::replica::Replica;
use super::truth::{has_ended, is_deleting};
use super::unreliable::Unreliable;
use super::world::{World, key_of};
use crate::fake_kube::cluster::meta;
use crate::fake_kube::cluster::resource::Resource;
use crate::harness::NAMESPACE;

/// How many instances of each type may run, where there are caps.
pub(super) const CAP: usize = 1;

impl World {
    /// Whether this request may be answered after its deadline: once it is decided whether its instance is admitted.
    pub(super) fn awaits_admission(&self, replica: &Replica, waiting: &Waiting) -> bool {
        let key = key_of(&waiting.pair);
        let job = replica.cache.jobs.get(&key.job_name());
        let is_deciding = || replica.calls.iter().any(|call| *call.key() == key);
        let is_undecided = job.is_some_and(|job| is_undecided(&job));
        self.profile.is_capped && !waiting.kind.is_change() && (is_undecided || is_deciding())
    }

    /// Checks that no more instances of a type are admitted and have not ended than its cap allows.
    pub(super) fn caps_hold(&self) -> Result<(), Breach> {
        // Where events are lost, or come again in another order, replicas know no common order.
        let has_order = match self.profile.unreliable {
            Unreliable::Nothing => true,
            Unreliable::Watches(_) => false,
            Unreliable::Etcd => !self.tally.contains_key("restored"),
        };
        if !self.profile.is_capped || !has_order {
            return Ok(());
        }
        let server = self.server();
        let mut admitted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (key, job) in server.model.cluster.objects(Resource::Jobs, NAMESPACE) {
            let annotations = &job["metadata"]["annotations"];
            let app_type = annotations[INSTANCE_TYPE].as_str().unwrap_or_default();
            // Of one that was deleted before it was admitted there is never a pod.
            let is_void = is_deleting(job) && job["status"]["startTime"].is_null();
            if annotations[ADMISSION] == ADMITTED && !has_ended(job) && !is_void {
                let of_type = admitted.entry(app_type.to_owned()).or_default();
                of_type.push(format!("{} ({})", key.2, meta(job, "uid")));
            }
        }
        for (app_type, jobs) in admitted {
            check(Promise::CapsHold, jobs.len() <= CAP, || {
                format!("{app_type}: {jobs:?}")
            })?;
        }
        Ok(())
    }
}
