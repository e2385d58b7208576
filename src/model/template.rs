//! Templates: the pod templates of app types, each an entry of a ConfigMap.
//!
//! An entry `<type>.yaml` is a pod template in YAML with placeholders `${…}`. [`Template::parse`] checks
//! it when the ConfigMap is read and collects its variables; [`Template::render`] (`render.rs`) renders
//! a pod template. Nothing here knows ConfigMaps, Jobs or our labels.
//!
//! The steps: `mako.rs` splits the text into parts, `select.rs` evaluates control lines,
//! `expression.rs` evaluates `${…}`, `fill.rs` puts the values into the parsed YAML, and `dollar.rs` keeps
//! Kubernetes from expanding them. `digest.rs` says what of a template and of values counts for revisions.
//!
//! Only the text of a template is kept, and it is parsed for each rendering: a parsed one may take sixty
//! times its bytes. One with control lines has a different text for each rendering, so only its control
//! lines and expressions are checked when the ConfigMap is read.
//!
#![doc = include_str!("template/language.md")]

mod digest;
mod dollar;
mod expression;
mod fill;
mod mako;
mod places;
mod render;
mod select;
#[cfg(test)]
mod tests;
mod variables;

pub use digest::{Digest, EXPRESSIONS_BYTES_MAX, of_json as json_digest};
pub use expression::EXPRESSION_DEPTH_MAX;
pub use mako::{CONTROL_DEPTH_MAX, PLACEHOLDERS_MAX};
pub use places::{Place, Places};
pub use render::RENDERED_BYTES_MAX;
pub use select::STEPS_MAX;
pub use variables::{QUERY_BYTES_MAX, VARIABLES_MAX, Variables, VariablesError, query_pairs};

use super::excerpt::excerpt;
use crate::yaml::{self, Tree};
use digest::Expressions;
use select::{Lines, Selection};
use std::fmt;

/// A pod template that has been checked.
#[derive(Clone, Debug)]
pub struct Template {
    source_name: String,
    text: Box<str>,
    variables: Vec<TemplateVariable>,
    /// Whether no line depends on a value.
    is_fixed: bool,
    /// Whether it says when the app is ready, or its lines depend on a value.
    may_have_probe: bool,
    /// See [`Template::digest`].
    digest: Digest,
    /// See [`Template::short_values_digest`].
    expressions: Expressions,
}

/// A variable that a template uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateVariable {
    /// Its name in the query string.
    pub name: String,
    /// Whether rendering requires it.
    pub required: bool,
    /// The text that stands for it where it is not given, if that is always the same; the first of several.
    pub default: Option<String>,
}

/// A character that marks a value of a variable that is not known; no template has it.
pub const PLACEHOLDER: char = mako::OPEN;

/// How much of a text of the template a problem quotes, in bytes: problems are kept, logged and returned
/// in each response.
pub const PROBLEM_BYTES_MAX: usize = 512;

/// A problem of a template and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The origin of the template, as given to [`Template::parse`].
    pub source_name: String,
    /// The line, from 1.
    pub line: u32,
    /// The problem on that line.
    pub problem: Problem,
}

/// An error of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// An invalid `${…}`; holds the message.
    Expression(String),
    /// An invalid control line (`% …`); holds the message.
    Control(String),
    /// `<%` would run code, which is not supported.
    PythonBlock,
    /// `<%text>` or `<%doc>` is not closed; holds the opening tag.
    BlockNotClosed(&'static str),
    /// A character that is reserved for placeholders.
    PrivateCharacter,
    /// More than [`PLACEHOLDERS_MAX`] placeholders.
    TooManyPlaceholders,
    /// Invalid YAML.
    Yaml(yaml::ErrorKind),
    /// Valid YAML, but not a pod template; holds the message.
    Shape(&'static str),
    /// A duplicate key in a map; holds it.
    KeyTwice(String),
}

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

/// Parsed YAML and the template lines from which its lines come.
#[derive(Clone, Debug)]
struct Parsed {
    tree: Tree,
    lines: Lines,
}

impl Template {
    /// Parses a template. Errors name it `source_name`, such as `ConfigMap demo, key app.yaml`.
    ///
    /// # Errors
    /// The first problem, with its line.
    pub fn parse(source_name: &str, text: &str) -> Result<Self, TemplateError> {
        let at = |(line, problem)| TemplateError::new(source_name, line, problem);
        let most = yaml::TEXT_BYTES_MAX;
        if text.len() > most {
            return Err(at((1, Problem::Yaml(yaml::ErrorKind::TooLong(most)))));
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = mako::parse(text).map_err(at)?;
        let fixed = Selection::fixed(&source.parts);
        let mut may_have_probe = true;
        let mut digest = digest::of_text(text);
        if let Some(selection) = &fixed {
            let parsed = Parsed::parse(source_name, selection)?;
            may_have_probe = fill::has_probe(&parsed.tree);
            // Filled with the expressions themselves: an error now is an error with any value.
            let tried = fill::fill(source_name, &parsed, &selection.values, usize::MAX);
            let form = tried.map_err(|error| match error {
                RenderError::KeyTwice { line, key } => at((line, Problem::KeyTwice(key))),
                RenderError::Invalid(error) => error,
                // It is too large; nothing was evaluated.
                _ => {
                    let most = yaml::EXPANDED_BYTES_MAX;
                    at((1, Problem::Yaml(yaml::ErrorKind::TooMuchText(most))))
                }
            })?;
            digest = digest::of_json(&form);
        }
        Ok(Self {
            source_name: source_name.to_owned(),
            text: text.into(),
            variables: source.variables,
            is_fixed: fixed.is_some(),
            may_have_probe,
            digest,
            expressions: Expressions::of(&source.parts),
        })
    }

    /// Whether it may say when the app is ready: by a readiness or startup probe of a container, or by a
    /// readiness gate. With control lines that depends on values.
    #[must_use]
    pub const fn may_have_probe(&self) -> bool {
        self.may_have_probe
    }

    /// The variables that it uses, in the order of the text, without those of a loop over all variables.
    #[must_use]
    pub fn variables(&self) -> &[TemplateVariable] {
        &self.variables
    }
}

impl Parsed {
    fn parse(source_name: &str, selection: &Selection) -> Result<Self, TemplateError> {
        let at = |line, problem| TemplateError::new(source_name, selection.lines.of(line), problem);
        let tree = yaml::parse(&selection.text)
            .map_err(|error| at(error.line, Problem::Yaml(error.kind)))?;
        fill::check_shape(&tree).map_err(|(line, problem)| at(line, Problem::Shape(problem)))?;
        Ok(Self {
            tree,
            lines: selection.lines.clone(),
        })
    }
}

impl TemplateError {
    fn new(source_name: &str, line: u32, mut problem: Problem) -> Self {
        use yaml::ErrorKind::BadTag;
        if let Problem::Expression(text)
        | Problem::Control(text)
        | Problem::KeyTwice(text)
        | Problem::Yaml(BadTag(text)) = &mut problem
        {
            *text = excerpt(text, PROBLEM_BYTES_MAX).into_owned();
        }
        Self {
            source_name: source_name.to_owned(),
            line,
            problem,
        }
    }
}

impl RenderError {
    fn invalid(source_name: &str, line: u32, problem: Problem) -> Self {
        Self::Invalid(TemplateError::new(source_name, line, problem))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expression(problem) => write!(f, "cannot parse `${{…}}`: {problem}"),
            Self::Control(problem) => f.write_str(problem),
            Self::PythonBlock => f.write_str(
                "`<%` starts a Python block, an include or a definition, which are not supported; \
                 use `${…}`, `% if` and `% for`, or put the text between `<%text>` and `</%text>`",
            ),
            Self::BlockNotClosed(begin) => {
                write!(
                    f,
                    "`{begin}` is not closed; add `{}`",
                    begin.replace('<', "</")
                )
            }
            Self::PrivateCharacter => f.write_str(
                "the characters U+F0000 and U+F0001 are reserved for placeholders; remove them",
            ),
            Self::TooManyPlaceholders => {
                write!(
                    f,
                    "more than {PLACEHOLDERS_MAX} placeholders `${{…}}`; use fewer"
                )
            }
            Self::Yaml(kind) => kind.fmt(f),
            Self::Shape(problem) => f.write_str(problem),
            Self::KeyTwice(key) => write!(f, "duplicate key `{key}` in a map; rename one"),
        }
    }
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, line {}: {}",
            self.source_name, self.line, self.problem
        )
    }
}

impl std::error::Error for TemplateError {}

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
