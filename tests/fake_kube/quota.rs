//! A ResourceQuota on Jobs (`count/jobs.batch`), as the real one was measured.
//!
//! Every POST is charged, also of a name that exists, and under a full quota it is answered 403 and not
//! 409. What was charged is counted anew [`RECOUNT_MS`] after a Job is gone, otherwise every
//! [`FULL_PASS_MS`]. Pure. It counts the Jobs of all namespaces.

use super::api::Model;
use super::cluster::resource::Resource;
use super::cluster::status::{self, Refusal};
use super::cluster::{Cluster, Position};

/// How long after a deletion the Jobs are counted.
const RECOUNT_MS: i64 = 90;

/// How often they are counted in any case.
const FULL_PASS_MS: i64 = 300_000;

/// The quota and its count.
#[derive(Clone, Debug)]
pub(crate) struct Quota {
    hard: usize,
    used: usize,
    /// Up to where deletions were seen.
    seen: Option<Position>,
    recount_at: i64,
}

impl Quota {
    /// One that allows so many Jobs. It counts those that exist with the first request.
    pub(crate) fn new(hard: usize) -> Self {
        Self {
            hard,
            used: 0,
            seen: None,
            recount_at: 0,
        }
    }

    /// Notices deletions, and counts if it is time to.
    pub(crate) fn absorb(&mut self, cluster: &Cluster) {
        let now = cluster.clock().now_ms();
        let changes = self.seen.and_then(|seen| cluster.changes_since(seen));
        // After a restore, or a compaction, anything may be gone.
        let may_be_less = changes.is_none_or(|mut changes| {
            changes.any(|it| it.key.0 == Resource::Jobs && it.after.is_none())
        });
        if may_be_less {
            self.recount_at = self.recount_at.min(now + RECOUNT_MS);
        }
        self.seen = Some(cluster.position());
        if self.recount_at <= now {
            self.used = cluster.objects(Resource::Jobs, "").count();
            self.recount_at = now + FULL_PASS_MS;
        }
    }
}

impl Model {
    /// Charges a POST of an object, if there is a quota on its kind.
    pub(super) fn charge(
        &mut self,
        resource: Resource,
        name: &str,
        is_dry_run: bool,
    ) -> Result<(), Refusal> {
        let Some(quota) = self.quota.as_mut().filter(|_| resource == Resource::Jobs) else {
            return Ok(());
        };
        quota.absorb(&self.cluster);
        let Quota { hard, used, .. } = *quota;
        if used >= hard {
            let why = format!(
                "exceeded quota: jobs, requested: count/jobs.batch=1, used: count/jobs.batch={used}, limited: count/jobs.batch={hard}"
            );
            return Err(status::refused(resource, name, &why));
        }
        quota.used += usize::from(!is_dry_run);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::fake_kube::FakeKube;
    use crate::fake_kube::api::{Reply, Request};

    fn post(model: &mut Model, name: &str, query: &[(&str, &str)]) -> u16 {
        let pod = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}});
        let query = query.iter();
        let request = Request {
            method: "POST".to_owned(),
            path: "/apis/batch/v1/namespaces/default/jobs".to_owned(),
            query: query
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            content_type: Some("application/json".to_owned()),
            body: json!({"metadata": {"name": name}, "spec": {"template": pod}})
                .to_string()
                .into(),
            ..Request::default()
        };
        match model.handle(&request).reply {
            Reply::Response(response) => response.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_post_is_charged_and_a_deletion_frees_what_was_charged_too_much() {
        let mut model = FakeKube::builder().manual_clock().model();
        model.quota = Some(Quota::new(3));
        assert_eq!(post(&mut model, "a", &[]), 201);
        assert_eq!(post(&mut model, "b", &[("dryRun", "All")]), 201);
        assert_eq!(post(&mut model, "a", &[]), 409);
        assert_eq!(post(&mut model, "b", &[]), 201);
        assert_eq!(post(&mut model, "b", &[]), 403, "three were charged");
        model.cluster.clock().advance(Duration::from_secs(10));
        assert_eq!(post(&mut model, "c", &[]), 403);
        let key = (Resource::Jobs, "default".to_owned(), "a".to_owned());
        model.cluster.remove(&key);
        assert_eq!(post(&mut model, "c", &[]), 403, "it is freed late");
        model.cluster.clock().advance(Duration::from_millis(90));
        assert_eq!(post(&mut model, "c", &[]), 201);
        assert_eq!(post(&mut model, "c", &[]), 409);
        assert_eq!(post(&mut model, "d", &[]), 403);
        model.cluster.clock().advance(Duration::from_secs(300));
        assert_eq!(post(&mut model, "d", &[]), 201);
    }
}
