//! Digests of a template and of the values for it: what the revisions of an instance are made of.
//!
//! Pure. A digest is the same on every replica and in every version of this program, as far as the
//! template's author and the caller wrote the same: it is over the template without what we add to it,
//! and over values as the caller gave them, before they are escaped for Kubernetes. How many digits of
//! it are kept is decided in [`crate::model::revision`].

use super::expression::Scope;
use super::mako::{self, Part};
use super::{RenderError, Template, Variables};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;

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
        let invalid = |(line, problem)| RenderError::invalid(&self.source_name, line, problem);
        let parts = mako::parse(&self.text).map_err(invalid)?.parts;
        let mut seen = Seen::new();
        let kind = if parts.iter().any(has_loop) {
            let all = variables.iter();
            seen.extend(all.map(|(name, value)| (name.to_owned(), value.to_owned())));
            ALL
        } else {
            evaluate(&parts, &self.source_name, variables, &mut seen)?;
            EVALUATED
        };
        let mut hash = Sha256::new_with_prefix([kind]);
        for (expression, result) in &seen {
            add_text(&mut hash, expression);
            add_text(&mut hash, result);
        }
        Ok(hash.finalize().into())
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
            entries.sort_unstable_by_key(|(key, _)| *key);
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
