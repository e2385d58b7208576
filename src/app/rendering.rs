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
    rendered: SyncSender<Result<Vec<u8>, Error>>,
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
            let _ = task.rendered.send(manifest(&task.key, &task.new));
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
        tasks.send(Task { key, new, rendered }).unwrap();
        result
    }

    /// The manifest of the Job, in JSON.
    ///
    /// # Errors
    /// If the template cannot be rendered with these variables.
    pub fn manifest(&self, key: &InstanceKey, new: &NewJob) -> Result<Vec<u8>, Error> {
        let Self(Some(tasks)) = self else {
            return manifest(key, new);
        };
        let (rendered, result) = sync_channel(1);
        let task = Task {
            key: key.clone(),
            new: Box::new(new.clone()),
            rendered,
        };
        // Without its thread the process is about to exit.
        tasks.send(task).map_err(|_| Error::Internal)?;
        result.recv().map_err(|_| Error::Internal)?
    }
}

fn manifest(key: &InstanceKey, new: &NewJob) -> Result<Vec<u8>, Error> {
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
    Ok(job::manifest(rendered, &parts).to_string().into_bytes())
}

fn error(error: RenderError) -> Error {
    match error {
        RenderError::VariableMissing { name } => Error::VariableMissing(name),
        RenderError::Invalid(error) => Error::from(&error),
        other => Error::VariableInvalid(other.to_string().into()),
    }
}
