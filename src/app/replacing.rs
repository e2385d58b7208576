//! The replacement of an instance: what is checked before anything is stopped.
//!
//! A part of [`App`]; a stop that becomes a start is decided on in `coordinator/replace.rs`.

use super::coordinator::Want;
use super::dry_runs::{Reports, Verdict};
use super::request::{InstanceRequest, Replacement};
use super::{App, Error, rendering};
use crate::model::names::AppType;
use crate::model::revision;
use crate::model::template::Variables;
use std::sync::Arc;

impl App {
    /// The same, which replaces no instance by one of a template that these reports say is refused.
    #[must_use]
    pub fn with_reports(self, reports: Arc<dyn Reports>) -> Self {
        Self {
            reports: Some(reports),
            ..self
        }
    }

    /// Stops an instance and starts it from the present template with these values; where there is none, starts it.
    /// The response comes later unless there is an error.
    ///
    /// # Errors
    /// An error that is known immediately; then nothing is stopped.
    pub fn replace(&self, request: InstanceRequest, variables: Variables) -> Result<(), Error> {
        self.check_accepts()?;
        let new = Box::new(self.replacement(&request.key.app_type, variables)?);
        let until = self.clock.now() + self.wait(request.wait);
        // It has given its place up itself.
        let request = InstanceRequest {
            is_patient: true,
            ..request
        };
        self.hand_over(request, Want::Replace { until, new })
    }

    fn replacement(&self, app_type: &AppType, variables: Variables) -> Result<Replacement, Error> {
        let catalog = self.catalog.current();
        let (offer, (template, ..)) = catalog.startable(app_type)?;
        let reports = self.reports.as_ref();
        let report = reports.and_then(|reports| reports.report(app_type, offer));
        if let Some(report) = report.filter(|report| report.verdict == Verdict::Invalid) {
            let message = report.message.as_deref().unwrap_or_default();
            return Err(Error::TemplateInvalid(message.into()));
        }
        template.check(&variables).map_err(rendering::error)?;
        let revision = revision::of_values_soon(template, &variables).transpose();
        Ok(Replacement {
            variables: variables.into(),
            revision: revision.map_err(rendering::error)?.map(Into::into),
            stopped: None,
            is_restart: false,
        })
    }
}
