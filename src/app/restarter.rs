//! The types whose instances are restarted when their template changes, and what the caches show of these
//! instances: the inputs of [`super::restarts`].
//!
//! A part of the thread of [`super::idle`]. Nothing is restarted before the dry run of the present template has
//! passed.

use super::cache::Cache;
use super::catalog::{Offer, SharedCatalog};
use super::dry_runs::{Reports, Verdict};
use super::index::{FINISHED, READY};
use super::keys::own_key_of;
use super::log_line::log_type_line;
use super::restarts::{Restarts, Seen, Stage};
use crate::kube::types::{JOB_VALUES, JOB_VALUES_BYTES_MAX, Job};
use crate::model::job::{OnChange, idle_timeout, is_restarted};
use crate::model::names::AppType;
use crate::model::revision;
use crate::model::status::has_job_ended;
use crate::model::template::Variables;
use log::Level::Warn;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Finds what is to be restarted.
#[derive(Clone, Debug)]
pub struct Restarter {
    /// The templates.
    pub catalog: Arc<SharedCatalog>,
    /// What is known of them.
    pub reports: Arc<dyn Reports>,
    /// How long nobody has used an instance that is restarted when it is idle.
    pub idle_after: Duration,
}

/// What is known from one step to the next.
#[derive(Debug, Default)]
pub struct Known {
    /// By type, where anything is restarted.
    kinds: BTreeMap<AppType, Kind>,
    /// The Jobs of these types.
    pub(super) jobs: Vec<Arc<Job>>,
    pub(super) restarts: Restarts,
}

/// A type whose instances are restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) on_change: OnChange,
    pub(super) revision: Arc<str>,
    config_map: Box<str>,
    /// The revision of no values.
    no_values: Option<Box<str>>,
    /// Whether the dry run has passed.
    pub(super) has_passed: bool,
    /// Whether it has failed, or needs values that nobody has given.
    is_refused: bool,
    /// It was said that the dry run has not passed, or that some instances cannot be made again.
    has_said: bool,
}

impl Restarter {
    /// Looks which types these are; whether that has changed.
    pub(super) fn look(&self, known: &mut Known) -> bool {
        let catalog = self.catalog.current();
        let mut kinds = BTreeMap::new();
        for (app_type, offer) in catalog.offers() {
            let Ok(settings) = &offer.settings else {
                continue;
            };
            if settings.on_change != OnChange::Keep {
                let before = known.kinds.get(app_type);
                let kind = self.kind(app_type, offer, settings.on_change, before);
                kinds.extend(kind.map(|kind| (app_type.clone(), kind)));
            }
        }
        let is_changed = kinds != known.kinds;
        known.kinds = kinds;
        is_changed
    }

    fn kind(
        &self,
        app_type: &AppType,
        offer: &Arc<Offer>,
        on_change: OnChange,
        before: Option<&Kind>,
    ) -> Option<Kind> {
        let (template, revision) = (offer.template.as_ref().ok()?, offer.revision.as_ref()?);
        let report = self.reports.report(app_type, offer);
        let verdict = report.map(|report| report.verdict);
        let before = before.filter(|before| before.revision == *revision);
        let no_values = match before {
            Some(before) => before.no_values.clone(),
            None => revision::of_values(template, &Variables::default())
                .ok()
                .map(Into::into),
        };
        Some(Kind {
            on_change,
            revision: Arc::clone(revision),
            config_map: offer.config_map().metadata.name.clone(),
            no_values,
            has_passed: verdict == Some(Verdict::Valid),
            is_refused: matches!(verdict, Some(Verdict::Invalid | Verdict::NeedsValues)),
            has_said: before.is_some_and(|before| before.has_said),
        })
    }

    /// After how long without use this Job may be restarted, if it is one that waits for that. One that ends before
    /// is not.
    pub(super) fn restarts_after(&self, known: &Known, job: &Job) -> Option<Duration> {
        let kind = known.kind_of(job)?;
        let waits = kind.on_change == OnChange::RestartIdle
            && kind.has_passed
            && kind.is_outdated(job)
            && !has_job_ended(job);
        let ends_before = idle_timeout(job).is_some_and(|idle| idle <= self.idle_after);
        (waits && !ends_before).then_some(self.idle_after)
    }
}

impl Known {
    /// Whether this Job is of such a type.
    pub(super) fn has_type_of(&self, job: &Job) -> bool {
        self.kind_of(job).is_some()
    }

    fn kind_of(&self, job: &Job) -> Option<&Kind> {
        if self.kinds.is_empty() {
            return None;
        }
        self.kinds.get(job.app_type()?)
    }

    /// The types of which something may be restarted, each with its instances; `is_unused` says of those that wait
    /// for that whether nobody uses them.
    pub(super) fn outdated(
        &mut self,
        cache: &Cache,
        is_unused: impl Fn(&Seen) -> bool,
    ) -> Vec<(AppType, Kind, Vec<Seen>)> {
        let mut all = Vec::new();
        for (app_type, kind) in &mut self.kinds {
            let of_type = |job: &&Arc<Job>| job.app_type() == Some(app_type.as_str());
            let jobs: Vec<&Arc<Job>> = self.jobs.iter().filter(of_type).collect();
            let old = jobs.iter().filter(|job| kind.is_outdated(job));
            let (mut count, mut lost) = (0, 0);
            for job in old.filter(|job| !job.metadata.is_deleting() && !has_job_ended(job)) {
                count += 1;
                lost += usize::from(!kind.knows_values(job));
            }
            if count == 0 {
                continue;
            }
            kind.say(app_type, lost);
            if kind.has_passed {
                let seen = jobs.iter().filter_map(|job| kind.see(job, cache));
                let mut seen: Vec<Seen> = seen.collect();
                if kind.on_change == OnChange::RestartIdle {
                    for one in &mut seen {
                        if let Stage::Outdated { may, .. } = one.stage {
                            let may = may && is_unused(one);
                            one.set_may(may);
                        }
                    }
                }
                all.push((app_type.clone(), kind.clone(), seen));
            }
        }
        all
    }
}

impl Kind {
    fn is_outdated(&self, job: &Job) -> bool {
        job.template_revision() != Some(&*self.revision)
    }

    /// Whether this Job can be made again.
    fn knows_values(&self, job: &Job) -> bool {
        let has_none =
            || self.no_values.is_some() && job.values_revision() == self.no_values.as_deref();
        job.metadata.annotations.get(JOB_VALUES).is_some() || has_none()
    }

    fn see(&self, job: &Job, cache: &Cache) -> Option<Seen> {
        let key = own_key_of(job)?;
        let status = || cache.item(&key, None).map(|item| item.status);
        let is_deleting = job.metadata.is_deleting();
        let stage = match self.is_outdated(job) {
            true if is_deleting => Stage::Leaving,
            true if has_job_ended(job) => Stage::Settled,
            true => Stage::Outdated {
                is_ready: status() == Some(READY),
                may: self.knows_values(job),
            },
            false if is_restarted(job) && !is_deleting => match status() {
                Some(READY | FINISHED) | None => Stage::Settled,
                Some(_) => Stage::Restarted,
            },
            false => Stage::Settled,
        };
        Some(Seen {
            uid: job.metadata.uid.clone(),
            version: job.metadata.resource_version.clone(),
            revision: job.template_revision().unwrap_or_default().into(),
            key,
            stage,
        })
    }

    /// Says once why instances of an older revision stay as they are, so many of which cannot be made again.
    fn say(&mut self, app_type: &AppType, lost: usize) {
        let why = match self.has_passed {
            _ if self.has_said => return,
            true if lost > 0 => format!(
                "{lost} instances of {app_type} are not restarted: they were made before on-change was set, or their values have more than {JOB_VALUES_BYTES_MAX} bytes; replace them with PUT"
            ),
            false if self.is_refused => format!(
                "instances of {app_type} are not restarted: the dry run of its template has not passed; see /templates"
            ),
            _ => return,
        };
        self.has_said = true;
        log_type_line!(Warn, app_type, &self.config_map, "{why}");
    }
}
