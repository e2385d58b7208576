//! Rendering: a [`Template`] and [`Variables`] become a pod template.
//!
//! What a caller sends is data. A value can be any text, and the result has the same keys and lists
//! as with any other value; only the lines that `% if` and `% for` choose may differ, as the
//! template's author wants. How that is done is told in `template.rs`. Our own labels, and whatever
//! makes a Job of the result, are added elsewhere.

#[cfg(test)]
mod tests;

use super::expression::EvaluationError;
use super::fill::{self, FillError};
use super::select::{self, SelectError};
use super::{Parsed, Problem, Template, TemplateError, Variables};
use crate::yaml;
use serde_json::{Map, Value};
use std::fmt;

/// How many bytes the keys and values of a rendered template may have together, as they stand in
/// JSON: as much as Kubernetes stores for one object, roughly, and below the 3 MiB of a request that
/// its API server reads.
pub const RENDERED_BYTES_MAX: usize = 1024 * 1024;

/// Why a template cannot be rendered with the variables that were given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderError {
    /// The template needs a variable that was not given. Remedy: give it.
    VariableMissing {
        /// Its name.
        name: String,
    },
    /// A value that is used has a NUL in it, which no container can take. Remedy: drop it.
    ValueWithNul {
        /// The name of the variable.
        name: String,
    },
    /// A value that stands in a key made it equal to another key of that map. Remedy: another value.
    KeyTwice {
        /// The line of the template, from 1.
        line: u32,
        /// The key.
        key: String,
    },
    /// The result is larger than [`RENDERED_BYTES_MAX`], or loops run for too long. Remedy: shorter
    /// values, fewer variables.
    TooLarge,
    /// With these variables the template makes no pod template. Remedy: in the sentence.
    Invalid(TemplateError),
}

impl Template {
    /// The pod template with `variables` filled in. It is a map with `metadata` (a map with
    /// `labels`, a map) and `spec` (a map with `containers`, a list of at least one map).
    ///
    /// # Errors
    ///
    /// Where a variable is missing or cannot be used, or the lines that control lines choose make
    /// no pod template.
    pub fn render(&self, variables: &Variables) -> Result<Value, RenderError> {
        let mut pod_template = self.filled(variables)?;
        let metadata = map_at(&mut pod_template, "metadata");
        if let Some(metadata) = metadata {
            map_at(metadata, "labels");
        }
        Ok(pod_template)
    }

    /// The JSON of the template with `variables` filled in; without `metadata` where it has none.
    pub(super) fn filled(&self, variables: &Variables) -> Result<Value, RenderError> {
        if let Some(parsed) = &self.parsed {
            let values = select::values(&self.parts, variables, RENDERED_BYTES_MAX)
                .map_err(|error| self.select_error(error))?;
            return self.fill(parsed, &values, variables);
        }
        let selection = select::select(&self.parts, variables, yaml::TEXT_BYTES_MAX)
            .map_err(|error| self.select_error(error))?;
        let parsed = Parsed::parse(&selection).map_err(|at| self.invalid(at))?;
        self.fill(&parsed, &selection.values, variables)
    }

    fn fill(
        &self,
        parsed: &Parsed,
        values: &[String],
        variables: &Variables,
    ) -> Result<Value, RenderError> {
        if values.iter().any(|value| value.contains('\0')) {
            let mut given = variables.iter();
            let culprit = given.find(|(name, value)| name.contains('\0') || value.contains('\0'));
            // Texts in the template have none, so there is a culprit.
            let name = culprit.map_or("", |(name, _)| name);
            let name = name.replace('\0', "\u{fffd}");
            return Err(RenderError::ValueWithNul { name });
        }
        fill::fill(&parsed.tree, values, RENDERED_BYTES_MAX).map_err(|error| match error {
            FillError::TooLarge => RenderError::TooLarge,
            FillError::KeyTwice { line, key } => RenderError::KeyTwice {
                line: parsed.line(line),
                key,
            },
            FillError::Unrepresentable { line, why } => {
                self.invalid((parsed.line(line), Problem::Yaml(FillError::number(why))))
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

/// The value of `key`, made a map where it is missing or null.
fn map_at<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    let child = parent.as_object_mut()?.entry(key).or_insert(Value::Null);
    if child.is_null() {
        *child = Value::Object(Map::new());
    }
    Some(child)
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
