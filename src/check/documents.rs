//! The documents of a file, and what each of them is. Pure.
//!
//! What a ConfigMap or a template must be is decided elsewhere.

use crate::yaml::{self, Bounds, Kind, Tree};
use serde_json::Value;

/// Maximum size of a file, in bytes; Kubernetes stores objects of up to 1.5 MiB.
pub const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How large a document may be: a list of ConfigMaps is larger than a template.
const BOUNDS: Bounds = Bounds {
    text_bytes: FILE_BYTES_MAX as usize,
    nodes: 500_000,
    expanded_bytes: 2 * FILE_BYTES_MAX as usize,
};

/// A document of a file that is not empty.
#[derive(Debug)]
pub(super) struct Document {
    /// Its number, from 1, empty ones included.
    pub(super) number: usize,
    /// How many lines of the file are before it.
    pub(super) lines_before: u32,
    /// The kind of the object, if it is one; where it cannot be read, what the line with its kind says.
    pub(super) kind: Option<String>,
    /// What it holds.
    pub(super) value: Result<Value, yaml::Error>,
    /// Where that stands.
    tree: Option<Tree>,
}

/// A step of a path in a document.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step<'a> {
    /// A key of a map.
    Key(&'a str),
    /// A place in a list, from 0.
    Item(usize),
}

impl Document {
    fn read(number: usize, lines_before: u32, text: &str) -> Self {
        let tree = yaml::parse_within(text, BOUNDS);
        let value = tree.as_ref().map_err(Clone::clone);
        let value = value.and_then(Tree::to_json);
        let kind = match &value {
            Ok(value) => value["kind"].as_str(),
            Err(_) => kind_line(text),
        };
        Self {
            number,
            lines_before,
            kind: kind.map(str::to_owned),
            value,
            tree: tree.ok(),
        }
    }

    /// Line and column in the file of what is at this path, or else of what lacks it.
    pub(super) fn place(&self, path: &[Step<'_>]) -> Option<(u32, u32)> {
        let tree = self.tree.as_ref()?;
        let mut node = tree.root();
        let mut place = (tree.node(node).line, tree.node(node).column);
        for step in path {
            let next = match (&tree.node(node).kind, step) {
                (Kind::Mapping(entries), Step::Key(key)) => {
                    let found = entries.iter().find(|entry| entry.key == *key);
                    found.map(|entry| (entry.value, (entry.line, entry.column)))
                }
                (Kind::Sequence(items), Step::Item(number)) => items.get(*number).map(|item| {
                    let node = tree.node(*item);
                    (*item, (node.line, node.column))
                }),
                _ => None,
            };
            let Some(next) = next else { break };
            (node, place) = next;
        }
        Some((place.0 + self.lines_before, place.1))
    }

    /// Whether it may hold ConfigMaps.
    pub(super) fn may_be_ours(&self) -> bool {
        let kind = self.kind.as_deref();
        kind.is_none_or(|kind| kind == CONFIG_MAP || LISTS.contains(&kind))
    }
}

pub(super) const CONFIG_MAP: &str = "ConfigMap";

/// The items of the second one have no kind.
pub(super) const LISTS: [&str; 2] = ["List", "ConfigMapList"];

/// The kind that a line of a text names, if it stands where that of a manifest does.
fn kind_line(text: &str) -> Option<&str> {
    let value = text.lines().find_map(|line| line.strip_prefix("kind:"))?;
    let value = value.split(" #").next()?.trim();
    Some(value.trim_matches(['"', '\'']))
}

/// The documents of a text, separated as kubectl does: by lines that begin with `---`.
pub(super) fn documents(text: &str) -> Vec<Document> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut starts = vec![(0, 0)];
    let mut at = 0;
    for (number, line) in (0..).zip(text.split_inclusive('\n')) {
        let rest = line.strip_prefix("---");
        if at > 0
            && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(char::is_whitespace))
        {
            starts.push((at, number));
        }
        at += line.len();
    }
    let ends = starts.iter().skip(1).map(|(at, _)| *at).chain([text.len()]);
    let parts = (1..).zip(starts.iter().zip(ends));
    let documents = parts.map(|(number, ((start, lines_before), end))| {
        Document::read(number, *lines_before, &text[*start..end])
    });
    documents
        .filter(|it| !matches!(it.value, Ok(Value::Null)))
        .collect()
}

/// Whether a file without any kind is a pod template: its pod has containers. One with control lines is not
/// YAML, so its lines count.
pub(super) fn is_template(text: &str, documents: &[Document]) -> bool {
    match documents {
        [
            Document {
                value: Ok(value), ..
            },
        ] => !value["spec"]["containers"].is_null(),
        _ => text.lines().any(|line| line.starts_with("spec:")) && text.contains("containers:"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_separated_as_kubectl_does() {
        let text = "---\na: 1\n---\n# nothing\n--- \nb: [\n--- {c: 3}\n...\n";
        let found = documents(text);
        let seen: Vec<_> = found
            .iter()
            .map(|it| {
                (
                    it.number,
                    it.lines_before,
                    it.value.clone().map_err(|error| error.line),
                )
            })
            .collect();
        let json = |text: &str| Ok(serde_json::from_str(text).unwrap());
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!(seen[0], (1, 0, json("{\"a\":1}")));
        assert_eq!((seen[1].0, seen[1].1), (3, 4));
        assert!(seen[1].2.is_err());
        assert_eq!(seen[2], (4, 6, json("{\"c\":3}")));
        assert!(documents("").is_empty());
        assert!(documents("---\n---\n").is_empty());
    }

    #[test]
    fn documents_that_cannot_be_read_have_the_kind_of_their_line() {
        for (text, kind, may_be_ours) in [
            ("kind: ConfigMap", Some("ConfigMap"), true),
            ("kind: ConfigMap # ours\nx: [", Some("ConfigMap"), true),
            ("a: [\nkind: \"List\"\r\n", Some("List"), true),
            ("kind: 'Secret'\nx: [", Some("Secret"), false),
            ("spec:\n  kind: Secret\nx: [", None, true),
            ("{\"kind\": \"Secret\", [", None, true),
            ("a: 1", None, true),
            ("kind: 5", None, true),
        ] {
            let all = documents(text);
            assert_eq!(all[0].kind.as_deref(), kind, "{text}");
            assert_eq!(all[0].may_be_ours(), may_be_ours, "{text}");
        }
    }

    #[test]
    fn json_is_read_with_its_escapes_and_tabs() {
        let text = "{\n\t\"kind\": \"ConfigMap\",\n\t\"a\": \"\\ud83d\\ude00\\/\"\n}";
        let found = documents(text);
        assert_eq!(found[0].value.as_ref().unwrap()["a"], "😀/");
    }

    #[test]
    fn places_are_those_in_the_file() {
        let all = documents("a: 1\n---\nb:\n  c: [x, {d: 1}]\n");
        use Step::{Item, Key};
        for (path, expected) in [
            (&[][..], (3, 1)),
            (&[Key("b")], (3, 1)),
            (&[Key("b"), Key("c")], (4, 3)),
            (&[Key("b"), Key("c"), Item(1), Key("d")], (4, 11)),
            (&[Key("b"), Key("c"), Item(5)], (4, 3)),
            (&[Key("b"), Item(1)], (3, 1)),
        ] {
            assert_eq!(all[1].place(path), Some(expected), "{path:?}");
        }
        assert_eq!(documents("a: [")[0].place(&[]), None);
    }

    #[test]
    fn pod_templates_are_recognised() {
        for (text, expected) in [
            ("spec: {containers: []}", true),
            ("spec: {replicas: 1}", false),
            ("- spec: {containers: []}", false),
            ("% if a:\nspec:\n  containers:\n% endif\n", true),
            ("a: [\nspec:\n", false),
            ("a: [\n  spec:\n  containers:\n", false),
            ("", false),
        ] {
            assert_eq!(is_template(text, &documents(text)), expected, "{text}");
        }
    }
}
