//! Rendering: a [`Template`] and [`Variables`] become a pod template.
//!
//! Values of callers are data: the result has the same keys and lists for every text of a value.
//! Only lines inside `% if` and `% for` can differ, as the template's author intends. Our labels
//! and the Job around the pod template are added in [`crate::model::job`], not here.

#[cfg(test)]
mod tests;

use super::{
    PLACEHOLDER, Parsed, Places, RenderError, Selection, Template, TemplateVariable, Variables,
    fill, mako, select,
};
use crate::yaml;
use serde_json::Value;
use std::collections::HashSet;

/// Maximum size of a rendered template, in bytes of keys and values in JSON. Kubernetes stores
/// about this much per object; its API server accepts 3 MiB per request.
pub const RENDERED_BYTES_MAX: usize = 1024 * 1024;

impl Template {
    /// Checks what costs little: that the variables that every rendering needs are there. The text is
    /// not parsed again.
    ///
    /// # Errors
    /// [`RenderError::VariableMissing`]; [`Template::render`] finds the others.
    pub fn check(&self, variables: &Variables) -> Result<(), RenderError> {
        let given: HashSet<&str> = variables.iter().map(|(name, _)| name).collect();
        let mut needed = self.variables.iter().filter(|variable| variable.required);
        match needed.find(|variable| !given.contains(variable.name.as_str())) {
            None => Ok(()),
            Some(TemplateVariable { name, .. }) => {
                let name = name.clone();
                Err(RenderError::VariableMissing { name })
            }
        }
    }

    /// The lines and values of one rendering.
    fn select(&self, variables: &Variables) -> Result<Selection, RenderError> {
        let name = &self.source_name;
        let invalid = |(line, problem)| RenderError::invalid(name, line, problem);
        let parts = mako::parse(&self.text).map_err(invalid)?.parts;
        // Its own text is bounded, so that of a fixed one does not count.
        let own = if self.is_fixed { self.text.len() } else { 0 };
        select::select(name, &parts, variables, yaml::TEXT_BYTES_MAX + own)
    }

    /// The pod template with `variables` filled in. It is a map with `spec` (a map with `containers`,
    /// a list of at least one map); `metadata` and its `labels` are maps, null or missing.
    ///
    /// # Errors
    /// If a variable is missing or unusable, or the selected lines are not a pod template.
    pub fn render(&self, variables: &Variables) -> Result<Value, RenderError> {
        let name = &self.source_name;
        let selection = self.select(variables)?;
        let parsed = Parsed::parse(name, &selection).map_err(RenderError::Invalid)?;
        check_values(&selection.values, variables)?;
        fill::fill(name, &parsed, &selection.values, RENDERED_BYTES_MAX)
    }
}

impl Template {
    /// The pod template with `variables` filled in, and where its fields are in the text. Without
    /// variables each value is a text with [`PLACEHOLDER`], which is impossible (`None`) if lines depend on
    /// values.
    ///
    /// # Errors
    /// As [`Template::render`].
    pub fn inspect(
        &self,
        variables: Option<&Variables>,
    ) -> Result<Option<(Value, Places)>, RenderError> {
        let name = &self.source_name;
        let selection = match variables {
            Some(variables) => self.select(variables)?,
            None => {
                let invalid = |(line, problem)| RenderError::invalid(name, line, problem);
                let parts = mako::parse(&self.text).map_err(invalid)?.parts;
                let Some(mut fixed) = Selection::fixed(&parts) else {
                    return Ok(None);
                };
                for (number, value) in fixed.values.iter_mut().enumerate() {
                    // Keys with values stay different.
                    *value = format!("{PLACEHOLDER}{number}");
                }
                fixed
            }
        };
        let parsed = Parsed::parse(name, &selection).map_err(RenderError::Invalid)?;
        if let Some(variables) = variables {
            check_values(&selection.values, variables)?;
        }
        let value = fill::fill(name, &parsed, &selection.values, RENDERED_BYTES_MAX)?;
        Ok(Some((value, Places::new(parsed, selection.text))))
    }
}

/// Rejects a value that a container cannot receive.
fn check_values(values: &[String], variables: &Variables) -> Result<(), RenderError> {
    if !values.iter().any(|value| value.contains('\0')) {
        return Ok(());
    }
    let mut given = variables.iter();
    let culprit = given.find(|(name, value)| name.contains('\0') || value.contains('\0'));
    // The template's own text contains none, so a variable does.
    let name = culprit.map_or("", |(name, _)| name);
    let name = name.replace('\0', "\u{fffd}");
    Err(RenderError::ValueWithNul { name })
}
