//! Evaluates the control lines of a template: from its parts to the text of one rendering.
//!
//! Each `${…}` becomes a placeholder in the text, so that values never reach the YAML parser; `fill.rs`
//! inserts them afterwards. The template line of each line of the text is kept for errors. Loops are
//! bounded by [`STEPS_MAX`], [`PLACEHOLDERS_MAX`] and a maximum size given by the caller.

use super::expression::Scope;
use super::mako::{Branch, CLOSE, OPEN, PLACEHOLDERS_MAX, Part};
use super::{RenderError, Variables};

/// Maximum number of parts that one rendering evaluates; it bounds nested loops.
pub const STEPS_MAX: usize = 100_000;

/// The text of one rendering, with placeholders for its values.
#[derive(Clone, Debug, Default)]
pub(super) struct Selection {
    pub(super) text: String,
    pub(super) lines: Lines,
    /// The value of each placeholder.
    pub(super) values: Vec<String>,
}

/// For each line of a text its line in the template.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines(Vec<u32>);

impl Lines {
    /// The line of the template for a line of the text, both from 1.
    pub(super) fn of(&self, line: u32) -> u32 {
        let place = usize::try_from(line).unwrap_or(usize::MAX);
        let last = self.0.last().copied().unwrap_or(1);
        self.0.get(place.saturating_sub(1)).copied().unwrap_or(last)
    }
}

impl Selection {
    /// The text of `parts`, or `None` if control lines decide it. The values are the expressions
    /// themselves.
    pub(super) fn fixed(parts: &[Part]) -> Option<Self> {
        let mut selection = Self::default();
        for part in parts {
            match part {
                Part::Text { line, text } => selection.push(*line, text),
                Part::Value { line, source, .. } => {
                    selection.push_placeholder(*line);
                    selection.values.push(source.clone());
                }
                Part::If(_) | Part::For(_) => return None,
            }
        }
        Some(selection)
    }

    fn push(&mut self, line: u32, text: &str) {
        for (line, piece) in (line..).zip(text.split_inclusive('\n')) {
            if self.text.is_empty() || self.text.ends_with('\n') {
                self.lines.0.push(line);
            }
            self.text.push_str(piece);
        }
    }

    fn push_placeholder(&mut self, line: u32) {
        let placeholder = format!("{OPEN}{}{CLOSE}", self.values.len());
        self.push(line, &placeholder);
    }
}

/// Selects the lines of `parts` and evaluates their values. Fails if a value cannot be evaluated, or
/// with more than `bytes_max`, [`PLACEHOLDERS_MAX`] or [`STEPS_MAX`].
pub(super) fn select(
    source_name: &str,
    parts: &[Part],
    variables: &Variables,
    bytes_max: usize,
) -> Result<Selection, RenderError> {
    let mut selector = Selector {
        source_name,
        variables,
        selection: Selection::default(),
        bytes_left: bytes_max,
        steps_left: STEPS_MAX,
    };
    selector.parts(parts, &mut Vec::new())?;
    Ok(selector.selection)
}

struct Selector<'a> {
    source_name: &'a str,
    variables: &'a Variables,
    selection: Selection,
    bytes_left: usize,
    steps_left: usize,
}

impl<'a> Selector<'a> {
    fn parts(&mut self, parts: &[Part], locals: &mut Vec<&'a str>) -> Result<(), RenderError> {
        for part in parts {
            self.step()?;
            match part {
                Part::Text { line, text } => {
                    self.spend(text.len())?;
                    self.selection.push(*line, text);
                }
                Part::Value { line, value, .. } => {
                    let text = value.text(self.scope(*line, locals))?;
                    self.spend(text.len())?;
                    if self.selection.values.len() == PLACEHOLDERS_MAX {
                        return Err(RenderError::TooLarge);
                    }
                    self.selection.push_placeholder(*line);
                    self.selection.values.push(text);
                }
                Part::If(branches) => self.choose(branches, locals)?,
                Part::For(body) => {
                    for (name, value) in self.variables.iter() {
                        // An empty body also counts as a step.
                        self.step()?;
                        locals.extend([name, value]);
                        self.parts(body, locals)?;
                        locals.truncate(locals.len() - 2);
                    }
                }
            }
        }
        Ok(())
    }

    fn choose(
        &mut self,
        branches: &[Branch],
        locals: &mut Vec<&'a str>,
    ) -> Result<(), RenderError> {
        for branch in branches {
            self.step()?;
            let holds = match &branch.condition {
                None => true,
                Some((_, condition)) => condition.is_true(self.scope(branch.line, locals))?,
            };
            if holds {
                return self.parts(&branch.parts, locals);
            }
        }
        Ok(())
    }

    fn scope<'s>(&'s self, line: u32, locals: &'s [&'s str]) -> Scope<'s> {
        Scope {
            source_name: self.source_name,
            line,
            variables: self.variables,
            locals,
        }
    }

    fn step(&mut self) -> Result<(), RenderError> {
        let left = self.steps_left.checked_sub(1);
        self.steps_left = left.ok_or(RenderError::TooLarge)?;
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), RenderError> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(RenderError::TooLarge)?;
        Ok(())
    }
}
