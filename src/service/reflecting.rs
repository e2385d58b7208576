//! The stores and their reflectors: what is watched, and which part gets the changes.
//!
//! Wiring only, as all of [`super`].

use super::{Background, Error, no_thread, on_death, seed};
use crate::app::cache::{Cache, Census};
use crate::app::catalog::SharedCatalog;
use crate::app::changes;
use crate::app::coordinator::{CacheChange, Input};
use crate::app::dry_runs::DryRuns;
use crate::app::engine::{Inbox, Writers};
use crate::app::feed::Feed;
use crate::budget::Memory;
use crate::kube::request::Scope;
use crate::kube::types::{ConfigMap, Event, Resource};
use crate::kube::watch::WATCH_RETRY;
use crate::model::labels;
use crate::store::{
    self, Change, Doubts, EventWriter, Reflector, Sink, TemplateSink, WatchStats, Writer,
};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

/// The writers of all stores.
pub(super) struct Stores {
    config_maps: Writer<ConfigMap>,
    /// How many ConfigMaps are beyond their bound.
    pub(super) left_out: Arc<AtomicU64>,
    pub(super) instances: Writers,
}

impl Stores {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            config_maps: store::store::new(now).0,
            left_out: Arc::default(),
            instances: Writers {
                jobs: store::store::new(now).0,
                pods: store::store::new(now).0,
                events: EventWriter::default(),
                doubts: Doubts::default(),
            },
        }
    }

    pub(super) fn cache(&self, memory: Arc<Memory>) -> (Cache, Census) {
        let Writers {
            jobs, pods, events, ..
        } = &self.instances;
        Cache::over(&self.config_maps, jobs, pods, events, memory)
    }
}

impl Background<'_> {
    /// Starts the reflectors; returns the counters of each.
    pub(super) fn reflectors(
        &self,
        stores: Stores,
        (catalogs, dry_runs): (&Arc<SharedCatalog>, &DryRuns),
        inbox: &Inbox,
        (cache, census): (&Cache, &Census),
    ) -> Result<Vec<Arc<WatchStats>>, Error> {
        let (catalogs, dry_runs) = (Arc::clone(catalogs), dry_runs.clone());
        let feed = Arc::new(Feed::new(cache.clone(), census.clone(), inbox.clone()));
        let (of_jobs, of_pods) = (Arc::clone(&feed), Arc::clone(&feed));
        let of_admissions = Arc::clone(&feed);
        cache.admissions().on_decidable(move |keys| {
            of_admissions.pass_on(|| keys.iter().cloned().map(CacheChange::of).collect());
        });
        let Writers {
            jobs,
            pods,
            events,
            doubts,
        } = stores.instances;
        let (job_events, pod_events) = (events.clone(), events.clone());
        let namespace = self.client.namespace().to_owned();
        let templates = self.scope(&self.config.configmap_selector);
        let of_catalog = inbox.clone();
        let config_maps = TemplateSink::new(stores.config_maps, stores.left_out);
        Ok(vec![
            spawn(
                self.reflector(config_maps, templates, &doubts, move |changes| {
                    catalogs.update(changes);
                    dry_runs.catalog_changed();
                    of_catalog.send(Input::CatalogChanged);
                }),
            )?,
            // Jobs of 2.7.1 carry our labels on their pod template only: no selector finds them.
            spawn(
                self.reflector(jobs, self.scope(""), &doubts, move |changes| {
                    changes::jobs_past(changes).for_each(|uid| job_events.forget(uid));
                    changes::unlisted(changes).for_each(|(key, job, error)| {
                        log::warn!("{key:?} is not listed, since {error}; if nobody needs it: kubectl -n {namespace} delete job {job}");
                    });
                    of_jobs.pass_on(|| changes::changes_of_jobs(changes));
                }),
            )?,
            spawn(self.reflector(
                pods,
                self.scope(labels::INSTANCE_NAME),
                &doubts,
                move |changes| {
                    changes::pods_past(changes).for_each(|uid| pod_events.forget(uid));
                    of_pods.pass_on(|| changes::changes_of_pods(changes));
                },
            ))?,
            spawn(self.of_events(events, feed, cache, &doubts))?,
        ])
    }

    /// The service works without this reflector, so it retries no more often than a refused watch.
    fn of_events(
        &self,
        writer: EventWriter,
        feed: Arc<Feed>,
        cache: &Cache,
        doubts: &Doubts,
    ) -> Reflector<Event, EventWriter> {
        let cache = cache.clone();
        let scope = Scope {
            field_selector: "type!=Normal".into(),
            ..self.scope("")
        };
        Reflector {
            poll: WATCH_RETRY,
            relist: None,
            loss: Some("messages say less about why a pod is rejected, not mounted or not ready"),
            ..self.reflector(writer, scope, doubts, move |changes| {
                feed.pass_on(|| changes::changes_of_events(changes, &cache));
            })
        }
    }

    fn scope(&self, label_selector: &str) -> Scope {
        Scope::labelled(self.client.namespace(), label_selector)
    }

    pub(super) fn reflector<K: Resource, S: Sink<K>>(
        &self,
        writer: S,
        scope: Scope,
        doubts: &Doubts,
        on_change: impl Fn(&[Change<K>]) + Send + 'static,
    ) -> Reflector<K, S> {
        Reflector {
            client: self.client.clone(),
            scope,
            writer,
            poll: self.config.poll,
            relist: Some(self.config.relist),
            doubts: doubts.clone(),
            loss: None,
            // The jitter differs between the replicas.
            seed: seed(),
            clock: Arc::clone(self.clock),
            stop: self.stop.clone(),
            heartbeats: self.heartbeats.clone(),
            on_change: Box::new(on_change),
            on_death: on_death(self.endings),
        }
    }
}

fn spawn<K: Resource, S: Sink<K>>(reflector: Reflector<K, S>) -> Result<Arc<WatchStats>, Error> {
    let (stats, _) = reflector.spawn().map_err(no_thread)?;
    Ok(stats)
}
