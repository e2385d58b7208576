//! Inserts the values into a parsed YAML tree: the result is the JSON of a pod template.
//!
//! This file decides the type of a value (contract A12). A plain scalar has the type of its final
//! text, except where Kubernetes requires a string. A value replaces a placeholder inside one
//! scalar or key after parsing, so it cannot add keys, entries or documents. Expressions are not
//! evaluated here; how Kubernetes leaves a value as it is, is in `dollar.rs`.

use super::dollar;
use super::mako::{CLOSE, OPEN};
use super::{Parsed, Problem, RenderError};
use crate::yaml::{Kind, NodeId, Resolved, Scalar, Tree, resolve};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The type that Kubernetes requires at a place of a pod template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The type of the scalar's text.
    Any,
    /// A string, or a list or map of strings.
    Strings,
    /// The same, and Kubernetes replaces `$(NAME)` in it.
    Expanded,
    /// In a lifecycle hook, whose command is run as it is.
    Hook,
    /// The list `env`.
    EnvList,
    /// One of its entries.
    EnvVar,
}

impl Place {
    /// The place of the value of `key`. The key is sufficient: it has the same meaning everywhere in a pod
    /// template, including probes, init containers and volume claims.
    fn of_key(self, key: &str) -> Self {
        match (self, key) {
            (Self::Strings, _) | (Self::EnvVar, "name") => Self::Strings,
            (Self::Hook, "command") => Self::Strings,
            (Self::Hook, _) | (_, "lifecycle") => Self::Hook,
            // The kubelet does that in the commands of containers and of probes (its `expansion`
            // package).
            (Self::Expanded, _) | (Self::EnvVar, "value") => Self::Expanded,
            (_, "command" | "args" | "subPathExpr") => Self::Expanded,
            (_, "labels" | "annotations" | "nodeSelector" | "matchLabels") => Self::Strings,
            (_, "env") => Self::EnvList,
            _ => Self::Any,
        }
    }

    fn of_item(self) -> Self {
        match self {
            Self::EnvList => Self::EnvVar,
            Self::Strings | Self::Expanded | Self::Hook => self,
            Self::Any | Self::EnvVar => Self::Any,
        }
    }
}

/// The JSON of `parsed` with `values` instead of its placeholders, of at most `bytes_max` bytes of keys and
/// values in JSON.
pub(super) fn fill(
    source_name: &str,
    parsed: &Parsed,
    values: &[String],
    bytes_max: usize,
) -> Result<Value, RenderError> {
    let mut filler = Filler {
        source_name,
        parsed,
        values,
        bytes_left: bytes_max,
    };
    filler.node(parsed.tree.root(), Place::Any)
}

struct Filler<'a> {
    source_name: &'a str,
    parsed: &'a Parsed,
    values: &'a [String],
    bytes_left: usize,
}

impl<'a> Filler<'a> {
    fn node(&mut self, id: NodeId, place: Place) -> Result<Value, RenderError> {
        let node = self.parsed.tree.node(id);
        match &node.kind {
            Kind::Scalar(scalar) => self.scalar(scalar, place, node.line),
            Kind::Sequence(items) => {
                let place = place.of_item();
                let items: Result<_, _> =
                    items.iter().map(|item| self.node(*item, place)).collect();
                Ok(Value::Array(items?))
            }
            Kind::Mapping(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    let key = self.substitute(&entry.key, Place::Any)?;
                    let value = self.node(entry.value, place.of_key(&entry.key))?;
                    if map.contains_key(key.as_ref()) {
                        return Err(RenderError::KeyTwice {
                            line: self.parsed.lines.of(entry.line),
                            key: key.into_owned(),
                        });
                    }
                    map.insert(key.into_owned(), value);
                }
                Ok(Value::Object(map))
            }
        }
    }

    fn scalar(
        &mut self,
        scalar: &'a Scalar,
        place: Place,
        line: u32,
    ) -> Result<Value, RenderError> {
        let text = self.substitute(&scalar.text, place)?;
        let changed = matches!(text, Cow::Owned(_));
        if matches!(place, Place::Strings | Place::Expanded) {
            // A template may set null where Kubernetes requires a string; a value may not.
            let null = scalar.resolved == Resolved::Null && !changed;
            return Ok(if null {
                Value::Null
            } else {
                Value::String(text.into_owned())
            });
        }
        let resolved = if scalar.plain && changed {
            Cow::Owned(resolve(&text))
        } else {
            Cow::Borrowed(&scalar.resolved)
        };
        let invalid = |why| {
            let line = self.parsed.lines.of(line);
            RenderError::invalid(self.source_name, line, Problem::Yaml(why))
        };
        resolved.to_json(&text).map_err(invalid)
    }

    /// Replaces the placeholders in `text`, once: placeholders inside values are not replaced.
    fn substitute(&mut self, text: &'a str, place: Place) -> Result<Cow<'a, str>, RenderError> {
        let mut pieces = text.split(OPEN);
        let first = pieces.next().expect("a split has at least one piece");
        if first.len() == text.len() {
            self.spend(json_bytes(text))?;
            return Ok(Cow::Borrowed(text));
        }
        let is_expanded = place == Place::Expanded;
        let of_template = |text: &'a str, is_last| match is_expanded {
            true => dollar::close(text, is_last),
            false => Cow::Borrowed(text),
        };
        let mut filled = String::new();
        self.push(&mut filled, &of_template(first, false))?;
        let mut pieces = pieces.peekable();
        while let Some(piece) = pieces.next() {
            let value = piece.split_once(CLOSE).and_then(|(number, rest)| {
                let value = self.values.get(number.parse::<usize>().ok()?)?;
                Some((value.as_str(), rest))
            });
            // An escape in double quotes can produce a fake placeholder; it stays as text.
            let (value, rest) = value.unwrap_or(("", piece));
            let value = match is_expanded {
                true => dollar::escape(value),
                false => Cow::Borrowed(value),
            };
            self.push(&mut filled, &value)?;
            self.push(&mut filled, &of_template(rest, pieces.peek().is_none()))?;
        }
        Ok(Cow::Owned(filled))
    }

    fn push(&mut self, filled: &mut String, text: &str) -> Result<(), RenderError> {
        self.spend(json_bytes(text))?;
        filled.push_str(text);
        Ok(())
    }

    fn spend(&mut self, bytes: usize) -> Result<(), RenderError> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or(RenderError::TooLarge)?;
        Ok(())
    }
}

/// Length of `text` in JSON without quotes. A control character takes six bytes, so 1 MiB of text could
/// exceed what the API server accepts.
fn json_bytes(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 1,
        0x00..=0x1f => 5,
        _ => 0,
    });
    text.len() + escapes.sum::<usize>()
}

/// Checks the top-level structure of a pod template; the error has a line of the tree.
pub(super) fn check_shape(tree: &Tree) -> Result<(), (u32, &'static str)> {
    let kind = |id: NodeId| &tree.node(id).kind;
    let is_map = |id: NodeId| matches!(kind(id), Kind::Mapping(_));
    let is_null =
        |id: NodeId| matches!(kind(id), Kind::Scalar(scalar) if scalar.resolved == Resolved::Null);
    let at = |id: NodeId, problem: &'static str| (tree.node(id).line, problem);
    let ensure = |holds: bool, id: NodeId, problem: &'static str| {
        holds.then_some(()).ok_or_else(|| at(id, problem))
    };
    let root = tree.root();
    let problem = "a template must be a map with `metadata` and `spec`; start with `spec:`";
    ensure(is_map(root), root, problem)?;
    if let Some(metadata) = tree.get(root, "metadata").filter(|id| !is_null(*id)) {
        let problem = "`metadata` must be a map with `labels`";
        ensure(is_map(metadata), metadata, problem)?;
        for key in ["labels", "annotations"] {
            if let Some(strings) = tree.get(metadata, key) {
                let problem = "`labels` and `annotations` must be maps of `key: value`";
                ensure(is_map(strings) || is_null(strings), strings, problem)?;
            }
        }
    }
    let missing = "a template must have `spec` with `containers`, as a pod has";
    let child = |parent, key| tree.get(parent, key).ok_or_else(|| at(parent, missing));
    let containers = child(child(root, "spec")?, "containers")?;
    let problem = "`containers` must be a list of at least one container, each a map";
    match kind(containers) {
        Kind::Sequence(items) if !items.is_empty() => {
            let mut items = items.iter();
            items.try_for_each(|item| ensure(is_map(*item), *item, problem))
        }
        _ => Err(at(containers, problem)),
    }
}

/// Whether something of a checked template says when the app is ready. If not, Kubernetes takes it for
/// ready as soon as it runs.
pub(super) fn has_probe(tree: &Tree) -> bool {
    let Some(spec) = tree.get(tree.root(), "spec") else {
        return false;
    };
    let containers = tree.get(spec, "containers").map(|id| &tree.node(id).kind);
    let probed = match containers {
        Some(Kind::Sequence(items)) => items.iter().any(|item| {
            let mut probes = ["readinessProbe", "startupProbe"].iter();
            probes.any(|probe| tree.get(*item, probe).is_some())
        }),
        _ => false,
    };
    probed || tree.get(spec, "readinessGates").is_some()
}
