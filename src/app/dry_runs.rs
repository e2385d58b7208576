//! [`DryRuns`]: tries each template when its ConfigMap arrives, with threads of its own, so that a fault is
//! known before somebody's start meets it.
//!
//! A dry run is a POST that stores nothing, of the Job and, where we may create pods, of its pod: only
//! that answers for Pod Security, LimitRanges and the like. No result refuses a start. The threads take
//! one template at a time and make one call at a time ([`AT_ONCE`]), so that starts never wait for them.
//! Which template is next is in `schedule`, what follows from the responses in `judgement` (both pure).

mod judgement;
mod report;
mod schedule;
#[cfg(test)]
pub(crate) mod tests;

pub use report::{MESSAGE_BYTES_MAX, Report, Reports, Verdict, WARNINGS_BYTES_MAX};
pub use schedule::{AT_ONCE, REPORTS_BYTES_MAX};

use super::api_call::NewJob;
use super::catalog::{Offer, SharedCatalog};
use super::error::Error;
use super::log_line::log_type_line;
use super::rendering::{Manifests, Renderer};
use super::request::Origin;
use super::request_id::RequestId;
use crate::clock::Clock;
use crate::kube::transport::CALL_LONGEST;
use crate::kube::types::{Collection, JOBS, PODS};
use crate::kube::{Class, Client};
use crate::model::job::{find_setting, setting_key};
use crate::model::names::{AppType, InstanceKey, InstanceName};
use crate::model::template::{Place, Variables};
use crate::threads::{self, Heartbeats, OnDeath, Workers};
use judgement::{Pod, Tried};
use log::Level::{Info, Warn};
use schedule::{News, Outcome, Schedule, Task};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The name of the instance that is tried. One of that name may exist: that is found last, when all else is
/// well.
const NAME: &str = "dry-run";

/// The setting with values for a dry run, as a query.
pub const EXAMPLE: &str = "example";

/// The longest that a template takes: rendering it after another one and those of starts, and two calls.
const LONGEST: Duration = Duration::from_secs(60 + 2 * CALL_LONGEST.as_secs());

/// The longest sleep of a thread.
const NAP: Duration = Duration::from_secs(60);

/// Called when what is known of templates has changed.
pub type OnReport = Arc<dyn Fn() + Send + Sync>;

/// The dry runs of a service; clones share them.
#[derive(Clone)]
pub struct DryRuns(Arc<Shared>);

struct Shared {
    schedule: Mutex<Schedule>,
    /// Something is due, or may be tried.
    is_wanted: Condvar,
    /// Held while one is rendered: so a start waits for no more than one of them.
    rendering: Mutex<()>,
    catalog: Arc<SharedCatalog>,
    client: Client,
    renderer: Renderer,
    clock: Arc<dyn Clock>,
    on_report: OnReport,
}

impl std::fmt::Debug for DryRuns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DryRuns")
    }
}

impl DryRuns {
    /// Dry runs over this client, of the templates of this catalog.
    #[must_use]
    pub fn new(
        catalog: Arc<SharedCatalog>,
        client: Client,
        renderer: Renderer,
        clock: Arc<dyn Clock>,
        on_report: OnReport,
    ) -> Self {
        Self(Arc::new(Shared {
            schedule: Mutex::default(),
            is_wanted: Condvar::new(),
            rendering: Mutex::default(),
            catalog,
            client,
            renderer,
            clock,
            on_report,
        }))
    }

    /// Starts the threads, which end with the process.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(&self, heartbeats: &Heartbeats, on_death: &OnDeath) -> std::io::Result<()> {
        let workers = Workers {
            name: "dry-run",
            count: AT_ONCE,
            longest: LONGEST,
            heartbeats,
            clock: &self.0.clock,
        };
        let (next, work) = (Arc::clone(&self.0), Arc::clone(&self.0));
        workers.spawn(
            on_death,
            move || Some(next.wait()),
            move |task| work.work(&task),
        )
    }

    /// The catalog has changed.
    pub fn catalog_changed(&self) {
        let (catalog, now) = (self.0.catalog.current(), self.0.clock.now());
        threads::lock(&self.0.schedule).sync(&catalog, now);
        self.0.is_wanted.notify_all();
        (self.0.on_report)();
    }

    /// Tries a template now, for somebody who waits for the result.
    #[must_use]
    pub fn try_now(&self, app_type: &AppType, offer: &Arc<Offer>) -> Report {
        let task = Task {
            number: 0,
            app_type: app_type.clone(),
            offer: Arc::clone(offer),
            no_pod: None,
        };
        self.0.attempt(&task).report
    }
}

impl Reports for DryRuns {
    fn report(&self, app_type: &AppType, offer: &Arc<Offer>) -> Option<Arc<Report>> {
        let schedule = threads::lock(&self.0.schedule);
        schedule.report(app_type, offer).cloned()
    }
}

impl Shared {
    /// Waits until a template is due.
    fn wait(&self) -> Task {
        let mut schedule = threads::lock(&self.schedule);
        loop {
            let now = self.clock.now();
            if let Some(task) = schedule.take_due(now) {
                return task;
            }
            let due = schedule.next_due();
            let wait = due.map_or(NAP, |due| due.saturating_duration_since(now).min(NAP));
            let woken = self.is_wanted.wait_timeout(schedule, wait);
            schedule = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn work(&self, task: &Task) {
        let mut outcome = self.attempt(task);
        self.find_place(&task.offer, &task.app_type, &mut outcome.report);
        let now = self.clock.now();
        let news = threads::lock(&self.schedule).finish(task, outcome, now);
        self.is_wanted.notify_one();
        for news in news {
            self.log(&news, &task.offer);
            (self.on_report)();
        }
    }

    /// Makes the dry runs of a template, one after the other.
    fn attempt(&self, task: &Task) -> Outcome {
        let unasked = |report| Outcome { report, pods: None };
        let Manifests { job, pod } = match self.manifests(task) {
            Ok(manifests) => manifests,
            Err(report) => return unasked(report),
        };
        let name = key(&task.app_type).job_name();
        let job = self.call(JOBS, &name, job);
        let class = job.result.as_ref().err().map(crate::kube::Error::class);
        let has_passed = matches!(
            class,
            None | Some(Class::AlreadyExists | Class::QuotaExceeded)
        );
        if !has_passed {
            return unasked(judgement::report(job, None));
        }
        if let Some(why) = &task.no_pod {
            let pod = Pod::NotPermitted(why.clone());
            return unasked(judgement::report(job, Some(pod)));
        }
        let pod = self.call(PODS, &name, pod);
        match &pod.result {
            Err(error) if error.class() == Class::Forbidden => {
                let why: Box<str> = error.user_message().into();
                let pod = Pod::NotPermitted(why.clone());
                Outcome {
                    report: judgement::report(job, Some(pod)),
                    pods: Some(Err(why)),
                }
            }
            result => {
                let class = result.as_ref().err().map(crate::kube::Error::class);
                // These say nothing about our rights.
                let is_known = !matches!(
                    class,
                    Some(Class::Unavailable | Class::Throttled | Class::Unauthorized)
                );
                Outcome {
                    report: judgement::report(job, Some(Pod::Tried(pod))),
                    pods: is_known.then_some(Ok(())),
                }
            }
        }
    }

    /// Says where in the text of the template the field is that the API server names.
    fn find_place(&self, offer: &Offer, app_type: &AppType, report: &mut Report) {
        let (Some(path), Ok(template)) = (&report.place, &offer.template) else {
            return;
        };
        let Ok(variables) = example(offer, app_type.as_str()) else {
            return;
        };
        let _alone = threads::lock(&self.rendering);
        let place = self.renderer.place(template, &Arc::new(variables), path);
        let column = |column| format!(", column {column}");
        report.place = place.map_or_else(
            || Some(path.clone()),
            |Place { line, column: at }| {
                let column = at.map(column).unwrap_or_default();
                Some(format!("line {line}{column} ({path})").into())
            },
        );
    }

    fn call(&self, collection: Collection, name: &str, manifest: Vec<u8>) -> Tried {
        let (result, warnings) = self.client.try_create(collection, name, manifest);
        Tried { result, warnings }
    }

    /// The manifests of the Job and the pod that an instance would have.
    fn manifests(&self, task: &Task) -> Result<Manifests, Report> {
        let Offer {
            template: Ok(template),
            settings: Ok(settings),
            revision: Some(revision),
            ..
        } = &*task.offer
        else {
            return Err(Report::untried());
        };
        let app_type = task.app_type.as_str();
        let new = NewJob {
            is_restart: false,
            template: Arc::clone(template),
            settings: settings.clone(),
            template_revision: Arc::clone(revision),
            variables: Arc::new(example(&task.offer, app_type)?),
            failures: 0,
            by: Origin {
                caller: NAME.into(),
                owner: None,
                request: RequestId::default(),
                trace: None,
            },
            held: None,
        };
        let _alone = threads::lock(&self.rendering);
        let rendered = self.renderer.with_pod(&key(&task.app_type), &new);
        rendered.map_err(|error| unrendered(&error, app_type))
    }

    fn log(&self, news: &News, offer: &Offer) {
        let (app_type, report) = match news {
            News::Report(app_type, report) => (app_type, report),
            News::NoPods(why) => {
                log::info!(
                    "dry runs leave out pods ({why}): what only they find (Pod Security, LimitRange, a missing ServiceAccount …) is found by the first start"
                );
                return;
            }
            News::Pods => {
                log::info!("dry runs may try pods now");
                return;
            }
        };
        let of = &offer.config_map().metadata.name;
        let message = report.message.as_deref().unwrap_or_default();
        match report.verdict {
            Verdict::Valid => log_type_line!(
                Info,
                app_type,
                of,
                "the dry run of app type {app_type} of ConfigMap {of} passed"
            ),
            Verdict::Invalid => log_type_line!(
                Warn,
                app_type,
                of,
                "the dry run of app type {app_type} of ConfigMap {of} failed, and so will starts: {message}"
            ),
            Verdict::NeedsValues => log_type_line!(
                Info,
                app_type,
                of,
                "app type {app_type} of ConfigMap {of} is not tried: {message}"
            ),
            Verdict::Unchecked => log_type_line!(
                Info,
                app_type,
                of,
                "the dry run of app type {app_type} of ConfigMap {of} says nothing ({message}); retrying"
            ),
        }
        for warning in &report.warnings {
            log_type_line!(
                Warn,
                app_type,
                of,
                "app type {app_type} of ConfigMap {of}: the API server warns: {warning}"
            );
        }
    }
}

/// The instance that is tried.
fn key(app_type: &AppType) -> InstanceKey {
    InstanceKey {
        app_type: app_type.clone(),
        name: InstanceName::new(NAME).expect("it is a valid name"),
    }
}

/// The values of the annotation for dry runs; none if there is none.
fn example(offer: &Offer, app_type: &str) -> Result<Variables, Report> {
    let annotations = &offer.config_map().metadata.annotations;
    let found = find_setting(annotations, app_type, EXAMPLE);
    let Some((key, query)) = found else {
        return Ok(Variables::default());
    };
    Variables::from_query(query).map_err(|error| {
        Report::new(Verdict::NeedsValues).saying(&format!("the annotation {key}: {error}"))
    })
}

/// The report of a template that could not be rendered.
fn unrendered(error: &Error, app_type: &str) -> Report {
    let ask = setting_key(app_type, EXAMPLE);
    match error {
        Error::VariableMissing(name) => Report::new(Verdict::NeedsValues).saying(&format!(
            "it needs the variable `{name}`; set the annotation {ask} of its ConfigMap, such as `{name}=…`, to have it tried"
        )),
        Error::VariableInvalid(why) => Report::new(Verdict::NeedsValues).saying(&format!(
            "it cannot be rendered with the values of the annotation {ask}: {why}"
        )),
        Error::TemplateInvalid(why) => Report {
            place: place_in(why),
            ..Report::new(Verdict::Invalid).saying(why)
        },
        other => Report::new(Verdict::Unchecked).saying(&other.to_string()),
    }
}

/// The line in the message of a template's error.
fn place_in(message: &str) -> Option<Box<str>> {
    let (_, rest) = message.split_once(", line ")?;
    let (line, _) = rest.split_once(':')?;
    line.parse::<u32>().ok()?;
    Some(format!("line {line}").into())
}
