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
use crate::model::template::{RenderError, Template, Variables};
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

/// The revision of these values; see [`revision::of_values`]. The text of the template is parsed, not its
/// YAML.
///
/// # Errors
/// As [`Renderer::manifest`].
pub fn values_revision(template: &Template, variables: &Variables) -> Result<String, Error> {
    revision::of_values(template, variables).map_err(error)
}

/// Renders manifests, by default on the caller's thread.
///
/// The service has one thread for it: while a manifest is rendered it takes about ten times the
/// memory of its text, and the allocator keeps memory for each thread that ever needed it.
#[derive(Clone, Debug, Default)]
pub struct Renderer(Option<SyncSender<Task>>);

#[derive(Debug)]
struct Task {
    key: InstanceKey,
    new: Box<NewJob>,
    with_pod: bool,
    rendered: SyncSender<Result<Manifests, Error>>,
}

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
        let (tasks, queue) = sync_channel::<Task>(workers.count);
        let renderer = Workers {
            name: "renderer",
            count: 1,
            longest: RENDERING_LONGEST,
            ..workers
        };
        let queue = Arc::new(Mutex::new(queue));
        let next = move || lock(&queue).recv().ok();
        renderer.spawn(on_death, next, |task| {
            // A worker waits for it, or the process is about to exit.
            let made = manifests(&task.key, &task.new, task.with_pod);
            let _ = task.rendered.send(made);
        })?;
        Ok(Self(Some(tasks)))
    }

    /// Keeps its thread busy until the receiver is dropped.
    #[cfg(test)]
    pub(crate) fn occupy(&self, key: &InstanceKey, new: &NewJob) -> impl Sized + use<> {
        // The thread waits until its result is taken.
        let (rendered, result) = sync_channel(0);
        let (key, new) = (key.clone(), Box::new(new.clone()));
        let tasks = self.0.as_ref().unwrap();
        let task = Task {
            key,
            new,
            with_pod: false,
            rendered,
        };
        tasks.send(task).unwrap();
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

    fn make(&self, key: &InstanceKey, new: &NewJob, with_pod: bool) -> Result<Manifests, Error> {
        let Self(Some(tasks)) = self else {
            return manifests(key, new, with_pod);
        };
        let (rendered, result) = sync_channel(1);
        let task = Task {
            key: key.clone(),
            new: Box::new(new.clone()),
            with_pod,
            rendered,
        };
        // Without its thread the process is about to exit.
        tasks.send(task).map_err(|_| Error::Internal)?;
        result.recv().map_err(|_| Error::Internal)?
    }
}

fn manifests(key: &InstanceKey, new: &NewJob, with_pod: bool) -> Result<Manifests, Error> {
    let rendered = new.template.render(&new.variables).map_err(error)?;
    let values_revision = values_revision(&new.template, &new.variables)?;
    let parts = JobParts {
        key,
        settings: &new.settings,
        started_by: &new.by.caller,
        template_revision: &revision::of_template(&new.template, &new.settings),
        values_revision: &values_revision,
        failures: new.failures,
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

fn error(error: RenderError) -> Error {
    match error {
        RenderError::VariableMissing { name } => Error::VariableMissing(name),
        RenderError::Invalid(error) => Error::from(&error),
        other => Error::VariableInvalid(other.to_string().into()),
    }
}
