//! The manifest of a Job that is to be created, rendered when a worker makes the call.
//!
//! Until then the call has only what the manifest is made of, so calls that wait are small. Templates
//! are read in [`crate::model::template`], and the Job around the pod template is made in
//! [`crate::model::job`]. [`Renderer`] is the thread that does it.

use super::api_call::NewJob;
use super::error::Error;
use crate::model::job::{self, JobParts};
use crate::model::names::InstanceKey;
use crate::model::revision;
use crate::model::template::{Place, RenderError, Template, Variables};
use crate::model::validation;
use crate::threads::{OnDeath, Workers, lock};
use serde_json::json;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The longest that a rendering takes: templates are bounded in size and steps.
const RENDERING_LONGEST: Duration = Duration::from_secs(10);

/// Checks what costs little: most errors of a caller are found before the call waits for a worker.
///
/// # Errors
/// As [`Renderer::manifest`], which finds the others.
pub fn check(new: &NewJob) -> Result<(), Error> {
    new.template.check(&new.variables).map_err(error)
}

/// Renders manifests, by default on the caller's thread.
///
/// The service has one thread for it: while a manifest is rendered it takes about ten times the
/// memory of its text, and the allocator keeps memory for each thread that ever needed it.
#[derive(Clone, Debug, Default)]
pub struct Renderer(Option<SyncSender<Work>>);

/// What its thread does for somebody who waits for that, or the process is about to exit.
type Work = Box<dyn FnOnce() + Send>;

/// What is made of a template, in JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifests {
    /// The Job.
    pub job: Vec<u8>,
    /// The pod that the Job controller would make of it, under the name of the Job; empty where it is not
    /// needed.
    pub pod: Vec<u8>,
}

impl Renderer {
    /// Starts its thread, for these workers.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(workers: Workers<'_>, on_death: &OnDeath) -> std::io::Result<Self> {
        let (tasks, queue) = sync_channel::<Work>(workers.count);
        let renderer = Workers {
            name: "renderer",
            count: 1,
            longest: RENDERING_LONGEST,
            ..workers
        };
        let queue = Arc::new(Mutex::new(queue));
        let next = move || lock(&queue).recv().ok();
        renderer.spawn(on_death, next, |work| work())?;
        Ok(Self(Some(tasks)))
    }

    /// Keeps its thread busy until the receiver is dropped.
    #[cfg(test)]
    pub(crate) fn occupy(&self) -> impl Sized + use<> {
        let (busy, result) = sync_channel::<()>(0);
        let work = Box::new(move || {
            let _ = busy.send(());
        });
        self.0.as_ref().unwrap().send(work).unwrap();
        result
    }

    /// The manifest of the Job, in JSON.
    ///
    /// # Errors
    /// If the template cannot be rendered with these variables.
    pub fn manifest(&self, key: &InstanceKey, new: &NewJob) -> Result<Vec<u8>, Error> {
        Ok(self.make(key, new, false)?.job)
    }

    /// The manifests of the Job and of its pod.
    ///
    /// # Errors
    /// As of [`Renderer::manifest`].
    pub fn with_pod(&self, key: &InstanceKey, new: &NewJob) -> Result<Manifests, Error> {
        self.make(key, new, true)
    }

    /// Where this field of the pod template stands in the text of the template, rendered with these
    /// variables, if that is possible. Where the path does not name the places of lists, it is the first
    /// fault that we find ourselves.
    pub fn place(
        &self,
        template: &Arc<Template>,
        variables: &Arc<Variables>,
        path: &str,
    ) -> Option<Place> {
        let (template, variables) = (Arc::clone(template), Arc::clone(variables));
        let path = path.to_owned();
        let found = self.run(move || {
            let rendered = template.inspect(Some(&variables)).map_err(error)?;
            Ok(rendered.map(|(pod, places)| {
                let found = validation::validate(&pod);
                let fault = found.iter().find(|found| found.is_fault);
                let fault = fault.map(|found| found.path.as_str());
                let own = fault.filter(|_| !path.contains('['));
                places.find(own.unwrap_or(&path))
            }))
        });
        found.ok().flatten()
    }

    fn make(&self, key: &InstanceKey, new: &NewJob, with_pod: bool) -> Result<Manifests, Error> {
        let (key, new) = (key.clone(), new.clone());
        self.run(move || manifests(&key, &new, with_pod))
    }

    /// The result of this, from its thread.
    fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let Self(Some(queue)) = self else {
            return work();
        };
        let (done, result) = sync_channel(1);
        let work = Box::new(move || drop(done.send(work())));
        // Without its thread the process is about to exit.
        queue.send(work).map_err(|_| Error::Internal)?;
        result.recv().map_err(|_| Error::Internal)?
    }
}

fn manifests(key: &InstanceKey, new: &NewJob, with_pod: bool) -> Result<Manifests, Error> {
    let rendered = new.template.render(&new.variables).map_err(error)?;
    let values_revision = revision::of_values(&new.template, &new.variables).map_err(error)?;
    let parts = JobParts {
        key,
        settings: &new.settings,
        started_by: &new.by.caller,
        owner: new.by.owner.as_deref(),
        template_revision: &new.template_revision,
        values_revision: &values_revision,
        failures: new.failures,
        variables: &new.variables,
        is_restart: new.is_restart,
    };
    let mut manifest = job::manifest(rendered, &parts);
    let job = manifest.to_string().into_bytes();
    let mut pod = Vec::new();
    if with_pod {
        let mut made = manifest["spec"]["template"].take();
        made["apiVersion"] = json!("v1");
        made["kind"] = json!("Pod");
        made["metadata"]["name"] = json!(key.job_name());
        pod = made.to_string().into_bytes();
    }
    Ok(Manifests { job, pod })
}

/// Why a template cannot be rendered, for callers.
pub(super) fn error(error: RenderError) -> Error {
    match error {
        RenderError::VariableMissing { name } => Error::VariableMissing(name),
        RenderError::Invalid(error) => Error::from(&error),
        other => Error::VariableInvalid(other.to_string().into()),
    }
}
