//! Where the fields of a pod template stand in the text of its template.

use super::mako::OPEN;
use super::{Lines, Parsed};
use crate::yaml::{Entry, Kind, NodeId};
use std::fmt;

/// A place in the text of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The character of the line, from 1; `None` where a value stands before it.
    pub column: Option<u32>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.column {
            Some(column) => write!(f, "{}:{column}", self.line),
            None => write!(f, "{}", self.line),
        }
    }
}

/// The places of one rendering.
#[derive(Clone, Debug)]
pub struct Places {
    parsed: Parsed,
    text: String,
}

impl Places {
    pub(super) const fn new(parsed: Parsed, text: String) -> Self {
        Self { parsed, text }
    }

    /// The place of a field, by its path in the pod template, such as `spec.containers[0].image`. For a field
    /// that is missing it is the place of what lacks it.
    #[must_use]
    pub fn find(&self, path: &str) -> Place {
        let tree = &self.parsed.tree;
        let mut node = tree.root();
        let (mut line, mut column) = (tree.node(node).line, tree.node(node).column);
        let mut rest = path;
        while let Some((step, after)) = next_step(rest) {
            rest = after;
            match &tree.node(node).kind {
                Kind::Mapping(entries) => {
                    let Some((entry, after)) = find_entry(entries, step, rest) else {
                        break;
                    };
                    (node, rest) = (entry.value, after);
                    (line, column) = (entry.line, entry.column);
                }
                Kind::Sequence(items) => {
                    let place = step.parse::<usize>().ok();
                    let Some(item) = place.and_then(|place| items.get(place)) else {
                        break;
                    };
                    node = *item;
                    (line, column) = self.start_of(node);
                }
                Kind::Scalar(_) => break,
            }
        }
        self.place(line, column)
    }

    fn start_of(&self, id: NodeId) -> (u32, u32) {
        let node = self.parsed.tree.node(id);
        (node.line, node.column)
    }

    fn place(&self, line: u32, column: u32) -> Place {
        let lines: &Lines = &self.parsed.lines;
        let text = self.text.lines().nth(line as usize - 1).unwrap_or_default();
        let before: String = text.chars().take(column as usize - 1).collect();
        Place {
            line: lines.of(line),
            // A placeholder has another length than what stands in the template.
            column: Some(column).filter(|_| !before.contains(OPEN)),
        }
    }
}

/// The first step of a path, and the rest of it.
fn next_step(path: &str) -> Option<(&str, &str)> {
    if let Some(inside) = path.strip_prefix('[') {
        let (step, rest) = inside.split_once(']')?;
        return Some((step, rest));
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let end = path.find(['.', '[']).unwrap_or(path.len());
    (end > 0).then(|| path.split_at(end))
}

/// The entry with that key. A key may have dots, which look like steps.
fn find_entry<'a, 'b>(
    entries: &'a [Entry],
    step: &str,
    rest: &'b str,
) -> Option<(&'a Entry, &'b str)> {
    let whole = |entry: &&Entry| entry.key == step;
    let found = entries.iter().find(whole).map(|entry| (entry, rest));
    found.or_else(|| {
        let of_key = |entry: &'a Entry| {
            let more = entry.key.strip_prefix(step)?;
            let after = rest.strip_prefix(more)?;
            (more.starts_with('.') && !after.starts_with(|c: char| c.is_alphanumeric()))
                .then_some((entry, after))
        };
        entries.iter().find_map(of_key)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Template, Variables};

    const TEXT: &str = "\
metadata:
  labels:
    a.b/c: d
% if alternatives.get('x') == '1':
    more: e
% endif
spec:
  containers:
  - name: ${alternatives.get('n', 'x')}
    image: b
    env: [{name: '${alternatives.get('n', 'x')}', value: c}]
";

    #[test]
    fn fields_are_found_by_their_path() {
        let template = Template::parse("t", TEXT).unwrap();
        let variables = Variables::from_query("x=1").unwrap();
        let (_, places) = template.inspect(Some(&variables)).unwrap().unwrap();
        for (path, expected) in [
            ("spec", "7:1"),
            ("spec.containers", "8:3"),
            ("spec.containers[0]", "9:5"),
            ("spec.containers[0].image", "10:5"),
            ("spec.containers[0].readinessProbe", "9:5"),
            ("spec.containers[1].image", "8:3"),
            ("spec.containers[0].env[0].name", "11:12"),
            ("spec.containers[0].env[0].value", "11"),
            ("metadata.labels[a.b/c]", "3:5"),
            ("metadata.labels.a.b/c", "3:5"),
            ("metadata.labels[more]", "5:5"),
            ("metadata.annotations", "1:1"),
            ("", "1:1"),
            ("[", "1:1"),
            ("nothing", "1:1"),
        ] {
            assert_eq!(places.find(path).to_string(), expected, "{path}");
        }
    }
}
