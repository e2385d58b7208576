//! The end of instances that nobody uses: its thread, and the watch of what other replicas report.
//!
//! Wiring only, as all of [`super`].

use super::{Background, Error, no_thread, on_death};
use crate::app::cache::{Cache, Census};
use crate::app::catalog::SharedCatalog;
use crate::app::dry_runs::DryRuns;
use crate::app::engine::Inbox;
use crate::app::idle::{IdleStopper, Reporting};
use crate::app::restarter::Restarter;
use crate::app::rights::MissingRights;
use crate::app::usage::Reporters;
use crate::clock::Clock;
use crate::config::Config;
use crate::kube::Client;
use crate::kube::types::Lease;
use crate::kube::watch::WATCH_RETRY;
use crate::shutdown::Stop;
use crate::store::{Doubts, Reflector, UseReports};
use std::sync::Arc;

/// The UID of this replica's pod. An owner that does not exist by name would take the Lease with it at once, and
/// the name of the host may be another one.
fn pod(config: &Config) -> Option<&str> {
    config.pod_name.as_ref().and(config.pod_uid.as_deref())
}

/// What is known of the replicas, which is nothing yet.
pub(super) fn reporters(config: &Config, replica: &str, clock: &Arc<dyn Clock>) -> Reporters {
    Reporters {
        replica: replica.into(),
        has_pod: pod(config).is_some(),
        leases: UseReports::new(Arc::clone(clock)),
        rights: MissingRights::default(),
    }
}

impl Background<'_> {
    /// Starts both; returns what is set once the last uses were reported. `client` calls in the namespace of this replica.
    pub(super) fn idle(
        &self,
        client: Client,
        of: &Reporters,
        (cache, census): (&Cache, &Census),
        inbox: &Inbox,
        (catalog, dry_runs): (&Arc<SharedCatalog>, &DryRuns),
    ) -> Result<Stop, Error> {
        let restarter = Restarter {
            catalog: Arc::clone(catalog),
            reports: Arc::new(dry_runs.clone()),
            idle_after: self.config.restart_idle_after,
        };
        let reports = of.leases.clone();
        let reporting = Reporting {
            client: client.clone(),
            replica: of.replica.clone(),
            pod: pod(self.config).map(Into::into),
            uses_of: self.client.namespace().into(),
            metrics: Arc::clone(self.metrics),
        };
        // The service works without, so it retries no more often than a refused watch.
        let reflector: Reflector<Lease, UseReports> = Reflector {
            client,
            poll: WATCH_RETRY,
            relist: None,
            loss: Some("instances that nobody uses are not stopped"),
            ..self.reflector(
                reports.clone(),
                reporting.scope(),
                &Doubts::default(),
                |_| {},
            )
        };
        reflector.spawn().map_err(no_thread)?;
        let stopper = IdleStopper {
            uses: self.uses.clone(),
            reports,
            reporting,
            jobs: census.jobs.clone(),
            cache: cache.clone(),
            inbox: inbox.clone(),
            clock: Arc::clone(self.clock),
            rights: self.rights.clone(),
            restarter,
        };
        let started = stopper.start(self.stop.clone(), self.heartbeats, on_death(self.endings));
        started.map_err(no_thread)
    }
}
