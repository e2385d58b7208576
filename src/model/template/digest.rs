//! Digests of a template and of the values for it: what the revisions of an instance are made of.
//!
//! Pure. A digest is the same on every replica and in every version of this program, as far as the
//! template's author and the caller wrote the same: it is over the template without what we add to it,
//! and over values as the caller gave them, before they are escaped for Kubernetes. How many digits of
//! it are kept is decided in [`crate::model::revision`].

use super::expression::Scope;
use super::mako::{self, Branch, Part};
use super::{RenderError, Template, Variables};
use crate::sorting;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A SHA-256.
pub type Digest = [u8; 32];

/// What was evaluated for one rendering: the text of each expression, and its result.
type Seen = BTreeSet<(String, String)>;

impl Template {
    /// The digest of what it makes, without values: comments, blanks and the order of keys do not count.
    /// With control lines that depends on values, so their whole text counts.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// The digest of what these values are to it: of the result of each of its expressions and
    /// conditions. So the digest is the same where containers get the same. A value that the template
    /// does not use does not count, and one that is left out counts as the template's default. If the
    /// template loops over all variables, names and values of all of them count, in any order.
    ///
    /// # Errors
    /// If an expression cannot be evaluated, for example for want of a variable.
    pub fn values_digest(&self, variables: &Variables) -> Result<Digest, RenderError> {
        match self.short_values_digest(variables) {
            Some(digest) => digest,
            None => self.digest_of_values(&self.text, variables),
        }
    }

    /// The same, if that takes little time however long the text is: for threads that others wait for. `None`
    /// if its expressions are longer than [`EXPRESSIONS_BYTES_MAX`].
    pub fn short_values_digest(
        &self,
        variables: &Variables,
    ) -> Option<Result<Digest, RenderError>> {
        Some(match &self.expressions {
            Expressions::Loop => Ok(digest_of_all(variables)),
            Expressions::Short { text, lines } => {
                let digest = self.digest_of_values(text, variables);
                digest.map_err(|error| match error {
                    RenderError::Invalid(mut error) => {
                        let place = usize::try_from(error.line).unwrap_or_default();
                        let line = lines.get(place.saturating_sub(1));
                        error.line = line.copied().unwrap_or(error.line);
                        RenderError::Invalid(error)
                    }
                    other => other,
                })
            }
            Expressions::Long => return None,
        })
    }

    /// The digest for a text with the expressions of this template, without loops.
    fn digest_of_values(&self, text: &str, variables: &Variables) -> Result<Digest, RenderError> {
        let invalid = |(line, problem)| RenderError::invalid(&self.source_name, line, problem);
        let parts = mako::parse(text).map_err(invalid)?.parts;
        let mut seen = Seen::new();
        evaluate(&parts, &self.source_name, variables, &mut seen)?;
        Ok(digest_of(EVALUATED, &seen))
    }
}

/// The digest for a template that loops over all variables.
fn digest_of_all(variables: &Variables) -> Digest {
    let all = variables.iter();
    let seen = all.map(|(name, value)| (name.to_owned(), value.to_owned()));
    digest_of(ALL, &sorting::set(seen))
}

fn digest_of(kind: u8, seen: &Seen) -> Digest {
    let mut hash = Sha256::new_with_prefix([kind]);
    for (expression, result) in seen {
        add_text(&mut hash, expression);
        add_text(&mut hash, result);
    }
    hash.finalize().into()
}

/// How long the expressions of a template may be for [`Template::short_values_digest`], in bytes.
pub const EXPRESSIONS_BYTES_MAX: usize = 4096;

/// What of a template decides what values are to it.
#[derive(Clone, Debug)]
pub(super) enum Expressions {
    /// It loops over all variables.
    Loop,
    /// The template without what stands between its expressions and conditions, each once in its branch; and
    /// for each of its lines that in the template.
    Short { text: Box<str>, lines: Box<[u32]> },
    /// The same is longer than [`EXPRESSIONS_BYTES_MAX`].
    Long,
}

impl Expressions {
    /// Those of a template with these parts.
    pub(super) fn of(parts: &[Part]) -> Self {
        if parts.iter().any(has_loop) {
            return Self::Loop;
        }
        let mut short = Writer::default();
        short.add(parts);
        if short.text.len() > EXPRESSIONS_BYTES_MAX {
            return Self::Long;
        }
        Self::Short {
            text: short.text.into(),
            lines: short.lines.into(),
        }
    }
}

/// Writes the expressions of a template, a little more than [`EXPRESSIONS_BYTES_MAX`] of them.
#[derive(Default)]
struct Writer {
    text: String,
    lines: Vec<u32>,
}

impl Writer {
    fn add(&mut self, parts: &[Part]) {
        let mut known = BTreeSet::new();
        for part in parts {
            if self.text.len() > EXPRESSIONS_BYTES_MAX {
                return;
            }
            match part {
                Part::Value { line, source, .. } => {
                    if known.insert(source) {
                        self.line(*line, format_args!("{source}"));
                    }
                }
                Part::If(branches) => self.branches(branches),
                Part::Text { .. } | Part::For(_) => {}
            }
        }
    }

    fn branches(&mut self, branches: &[Branch]) {
        let mut word = "if";
        for branch in branches {
            match &branch.condition {
                Some((source, _)) => self.line(branch.line, format_args!("% {word} {source}")),
                None => self.line(branch.line, format_args!("% else:")),
            }
            self.add(&branch.parts);
            word = "elif";
        }
        let line = branches.last().map_or(1, |branch| branch.line);
        self.line(line, format_args!("% endif"));
    }

    fn line(&mut self, line: u32, text: std::fmt::Arguments<'_>) {
        let before = self.text.len();
        writeln!(self.text, "{text}").expect("writing to memory does not fail");
        let lines = self.text[before..].matches('\n').count();
        self.lines.extend((line..).take(lines));
    }
}

/// The kinds of what a digest is over: no two are ever equal.
const ALL: u8 = b'a';
const EVALUATED: u8 = b'e';
const JSON: u8 = b'j';
const TEXT: u8 = b't';

/// The digest of a text.
pub(super) fn of_text(text: &str) -> Digest {
    Sha256::new_with_prefix([TEXT])
        .chain_update(text)
        .finalize()
        .into()
}

/// The digest of JSON; the order of keys does not count.
#[must_use]
pub fn of_json(value: &Value) -> Digest {
    let mut hash = Sha256::new_with_prefix([JSON]);
    add_json(&mut hash, value);
    hash.finalize().into()
}

fn add_json(hash: &mut Sha256, value: &Value) {
    match value {
        Value::Null => hash.update(b"n"),
        Value::Bool(false) => hash.update(b"f"),
        Value::Bool(true) => hash.update(b"t"),
        Value::Number(number) => {
            hash.update(b"#");
            add_text(hash, &number.to_string());
        }
        Value::String(text) => {
            hash.update(b"\"");
            add_text(hash, text);
        }
        Value::Array(items) => {
            hash.update(b"[");
            add_length(hash, items.len());
            items.iter().for_each(|item| add_json(hash, item));
        }
        Value::Object(map) => {
            hash.update(b"{");
            add_length(hash, map.len());
            let mut entries: Vec<_> = map.iter().collect();
            sorting::sort_by(&mut entries, |(a, _), (b, _)| a.cmp(b));
            for (key, value) in entries {
                add_text(hash, key);
                add_json(hash, value);
            }
        }
    }
}

/// With its length, so that no two lists of texts are the same bytes.
fn add_text(hash: &mut Sha256, text: &str) {
    add_length(hash, text.len());
    hash.update(text);
}

fn add_length(hash: &mut Sha256, length: usize) {
    hash.update((length as u64).to_be_bytes());
}

fn has_loop(part: &Part) -> bool {
    match part {
        Part::For(_) => true,
        Part::If(branches) => branches
            .iter()
            .any(|branch| branch.parts.iter().any(has_loop)),
        Part::Text { .. } | Part::Value { .. } => false,
    }
}

/// Evaluates the expressions of one rendering of `parts`, which have no loops, as
/// [`super::select`] does.
fn evaluate(
    parts: &[Part],
    source_name: &str,
    variables: &Variables,
    seen: &mut Seen,
) -> Result<(), RenderError> {
    let scope = |line| Scope {
        source_name,
        line,
        variables,
        locals: &[],
    };
    for part in parts {
        match part {
            Part::Text { .. } | Part::For(_) => {}
            Part::Value {
                line,
                source,
                value,
            } => {
                seen.insert((source.clone(), value.text(scope(*line))?));
            }
            Part::If(branches) => {
                for branch in branches {
                    let holds = match &branch.condition {
                        None => true,
                        Some((source, condition)) => {
                            let holds = condition.is_true(scope(branch.line))?;
                            seen.insert((source.clone(), holds.to_string()));
                            holds
                        }
                    };
                    if holds {
                        evaluate(&branch.parts, source_name, variables, seen)?;
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::parse("t", text).unwrap()
    }

    fn short(template: &Template) -> Option<&str> {
        match &template.expressions {
            Expressions::Short { text, .. } => Some(text),
            Expressions::Loop | Expressions::Long => None,
        }
    }

    const BRANCHES: &str = "\
spec:
  containers:
  - name: \"${alternatives.get('n', 'x')}\"
    image: \"i${alternatives.get('n', 'x')}-${alternatives['tag']}\"
% if alternatives.get('x') == '1': # a remark
    # text with % and ${alternatives.get('y', 
        'two')} ${alternatives.get('w', 'w')}
% if 'z' in alternatives:
    tty: ${alternatives['z']}
% endif
% elif alternatives.get('x') \\
   in ('2', '3'):
    tty: true
% else:
    args: [\"${alternatives['last']}\"]
% endif
";

    #[test]
    fn the_expressions_alone_have_the_digest_of_the_template() {
        let template = template(BRANCHES);
        let text = short(&template).unwrap();
        assert!(
            !text.contains("spec") && !text.contains("remark\\n"),
            "{text}"
        );
        for query in [
            "tag=1",
            "tag=1&last=a",
            "tag=1&x=1",
            "tag=2&x=1&y=5",
            "tag=1&x=1&z=true",
            "tag=1&x=2",
            "tag=1&x=3&n=y",
            "x=2",
            "tag=1&n=x&last=a",
            "tag=1&last=a&unused=1",
        ] {
            let variables = Variables::from_query(query).unwrap();
            let whole = template.digest_of_values(BRANCHES, &variables);
            assert_eq!(template.values_digest(&variables), whole, "{query}");
        }
    }

    #[test]
    fn only_short_expressions_are_kept_and_of_equal_ones_one() {
        let pod = |image: &str, more: &str| {
            format!("spec: {{containers: [{{name: a, image: \"{image}\"}}]}}\n# {more}\n")
        };
        let of_length = |bytes: usize| {
            let frame = "${alternatives['']}\n".len();
            let image = format!("${{alternatives['{}']}}", "v".repeat(bytes - frame));
            template(&pod(&image.repeat(3), &"x".repeat(900_000)))
        };
        let text = of_length(EXPRESSIONS_BYTES_MAX);
        assert_eq!(short(&text).map(str::len), Some(EXPRESSIONS_BYTES_MAX));
        let long = of_length(EXPRESSIONS_BYTES_MAX + 1);
        let variables = Variables::from_query("v=1").unwrap();
        assert!(long.short_values_digest(&variables).is_none());
        assert!(matches!(
            long.values_digest(&variables),
            Err(RenderError::VariableMissing { .. })
        ));
        let looping = "spec:\n  containers:\n  - name: a\n% for k, v in alternatives.items():\n    # ${k}\n% endfor\n";
        let looping = template(looping).short_values_digest(&variables);
        assert_eq!(looping, Some(Ok(digest_of_all(&variables))));
    }
}
