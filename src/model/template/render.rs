//! Rendering: a [`Template`] and [`Variables`] become a pod template.
//!
//! Values of callers are data: the result has the same keys and lists for every text of a value.
//! Only lines inside `% if` and `% for` can differ, as the template's author intends. Our labels
//! and the Job around the pod template are added in [`crate::model::job`], not here.

#[cfg(test)]
mod tests;

use super::expression::EvaluationError;
use super::fill::{self, FillError};
use super::select::{self, SelectError};
use super::{Parsed, Problem, Template, TemplateError, Variables};
use crate::yaml;
use serde_json::Value;
use std::fmt;

/// Maximum size of a rendered template, in bytes of keys and values in JSON. Kubernetes stores
/// about this much per object; its API server accepts 3 MiB per request.
pub const RENDERED_BYTES_MAX: usize = 1024 * 1024;

/// Why a template cannot be rendered with the variables that were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderError {
    /// A required variable is missing.
    VariableMissing {
        /// Its name.
        name: String,
    },
    /// A used value contains a NUL character, which a container cannot receive.
    ValueWithNul {
        /// The name of the variable.
        name: String,
    },
    /// A value made two keys of a map equal.
    KeyTwice {
        /// The line of the template, from 1.
        line: u32,
        /// The key.
        key: String,
    },
    /// The result is larger than [`RENDERED_BYTES_MAX`], or loops run too long.
    TooLarge,
    /// The result is not a pod template with these variables.
    Invalid(TemplateError),
}

impl Template {
    /// The pod template with `variables` filled in. It is a map with `spec` (a map with `containers`,
    /// a list of at least one map); `metadata` and its `labels` are maps, null or missing.
    ///
    /// # Errors
    /// If a variable is missing or unusable, or the selected lines are not a pod template.
    pub fn render(&self, variables: &Variables) -> Result<Value, RenderError> {
        let selection = select::select(&self.parts, variables, yaml::TEXT_BYTES_MAX)
            .map_err(|error| self.select_error(error))?;
        let chosen;
        let parsed = match &self.parsed {
            Some(parsed) => parsed,
            None => {
                chosen = Parsed::parse(&selection).map_err(|at| self.invalid(at))?;
                &chosen
            }
        };
        let values = &selection.values;
        if values.iter().any(|value| value.contains('\0')) {
            let mut given = variables.iter();
            let culprit = given.find(|(name, value)| name.contains('\0') || value.contains('\0'));
            // The template's own text contains none, so a variable does.
            let name = culprit.map_or("", |(name, _)| name);
            let name = name.replace('\0', "\u{fffd}");
            return Err(RenderError::ValueWithNul { name });
        }
        fill::fill(&parsed.tree, values, RENDERED_BYTES_MAX).map_err(|error| match error {
            FillError::TooLarge => RenderError::TooLarge,
            FillError::KeyTwice { line, key } => RenderError::KeyTwice {
                line: parsed.lines.of(line),
                key,
            },
            FillError::Unrepresentable { line, why } => {
                self.invalid((parsed.lines.of(line), Problem::Yaml(why)))
            }
        })
    }

    fn select_error(&self, error: SelectError) -> RenderError {
        match error {
            SelectError::TooLarge => RenderError::TooLarge,
            SelectError::Evaluation { line, error } => match error {
                EvaluationError::Missing { name } => RenderError::VariableMissing { name },
                EvaluationError::NotText => {
                    let problem = "`in` and `alternatives[…]` require strings, but a value here is not one; \
                                   give `get` a default";
                    self.invalid((line, Problem::Expression(problem.to_owned())))
                }
            },
        }
    }

    fn invalid(&self, (line, problem): (u32, Problem)) -> RenderError {
        RenderError::Invalid(TemplateError {
            source_name: self.source_name.clone(),
            line,
            problem,
        })
    }
}

impl fmt::Display for RenderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VariableMissing { name } => write!(
                f,
                "the template needs the variable `{name}`; add `?{name}=…` to the URL"
            ),
            Self::ValueWithNul { name } => {
                write!(
                    f,
                    "the value of the variable `{name}` contains a NUL character; remove it"
                )
            }
            Self::KeyTwice { line, key } => write!(
                f,
                "line {line}: these values make two keys of one map `{key}`; use another value"
            ),
            Self::TooLarge => write!(
                f,
                "the rendered template is larger than {RENDERED_BYTES_MAX} bytes, or its loops run too long; \
                 use shorter values"
            ),
            Self::Invalid(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RenderError {}
