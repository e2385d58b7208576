//! YAML as kubectl reads it.
//!
//! Parses a text of one document into a [`Tree`], with aliases and merge keys resolved and
//! duplicate keys dropped. An event parser handles the syntax. Our own table (`scalar.rs`) decides
//! the type of a scalar: no YAML library reads manifests as kubectl does, and a `defaultMode: 0644`
//! that becomes 644 is an outage. A scalar keeps both its text and its type; callers choose by its
//! place in the tree. Nothing here knows templates or Kubernetes.
//!
//! Everything is bounded ([`DEPTH_MAX`], and [`Bounds`] that depend on what is read) and checked during parsing, so that an alias bomb costs neither time nor memory. An alias refers
//! to the same node, and its expanded size is only added up.

mod breaks;
mod error;
mod merge;
mod scalar;
#[cfg(test)]
mod tests;

pub use error::{Error, ErrorKind};
pub use scalar::{Resolved, resolve};

use base64::Engine;
use granit_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Maximum length of a template's text, in bytes: that of a ConfigMap.
pub const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Maximum nesting depth of lists and maps; a pod template needs about twelve.
pub const DEPTH_MAX: usize = 64;

/// Maximum number of scalars, lists and maps of a template, with aliases expanded.
pub const NODES_MAX: usize = 50_000;

/// Maximum size of all scalars and keys of a template, in bytes, with aliases expanded.
pub const EXPANDED_BYTES_MAX: usize = 2 * 1024 * 1024;

/// How large a document may be.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of its text, in bytes.
    pub text_bytes: usize,
    /// Scalars, lists and maps, with aliases expanded.
    pub nodes: usize,
    /// Of all scalars and keys, in bytes, with aliases expanded.
    pub expanded_bytes: usize,
}

impl Bounds {
    /// Those of templates.
    pub const TEMPLATE: Self = Self {
        text_bytes: TEXT_BYTES_MAX,
        nodes: NODES_MAX,
        expanded_bytes: EXPANDED_BYTES_MAX,
    };
}

const YAML_TAG: &str = "tag:yaml.org,2002:";

/// A YAML document. Aliases refer to the same node, so it is small even if its expansion is large.
#[derive(Clone, Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    root: NodeId,
}

/// The index of a node in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeId(u32);

/// A value in a [`Tree`].
#[derive(Clone, Debug)]
pub struct Node {
    /// Its first line, from 1.
    pub line: u32,
    /// Its first character there, from 1.
    pub column: u32,
    /// What it is.
    pub kind: Kind,
}

/// The kind of a [`Node`].
#[derive(Clone, Debug)]
pub enum Kind {
    /// A single value.
    Scalar(Scalar),
    /// A list.
    Sequence(Vec<NodeId>),
    /// A map; keys are unique, merge keys are resolved.
    Mapping(Vec<Entry>),
}

/// A single value: its text and its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// The text as it was written, without quotes and with escapes and line folding undone;
    /// decoded if the tag is `!!binary`.
    pub text: String,
    /// Whether its text determines its type: no quotes, no tag, no block scalar.
    pub plain: bool,
    /// What it is.
    pub resolved: Resolved,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key as JSON has it: `on` is `true`.
    pub key: String,
    /// The line of the key, from 1.
    pub line: u32,
    /// Its first character there, from 1.
    pub column: u32,
    /// The value.
    pub value: NodeId,
}

impl Tree {
    /// The outermost value.
    #[must_use]
    pub fn root(&self) -> NodeId {
        self.root
    }

    /// The node that `id` stands for. `id` must come from this tree.
    #[must_use]
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The value of `key` in the map `id`; `None` if that is not a map or lacks the key.
    #[must_use]
    pub fn get(&self, id: NodeId, key: &str) -> Option<NodeId> {
        match &self.node(id).kind {
            Kind::Mapping(entries) => entries
                .iter()
                .find(|entry| entry.key == key)
                .map(|entry| entry.value),
            Kind::Scalar(_) | Kind::Sequence(_) => None,
        }
    }

    /// The document as JSON, each scalar by its type. Keys keep the order of the text.
    ///
    /// # Errors
    /// A number without a JSON representation.
    pub fn to_json(&self) -> Result<Value, Error> {
        self.json_of(self.root)
    }

    /// Replaces all lines.
    fn each_line(&mut self, original: impl Fn(u32) -> u32) {
        for node in &mut self.nodes {
            node.line = original(node.line);
            if let Kind::Mapping(entries) = &mut node.kind {
                let lines = entries.iter_mut().map(|entry| &mut entry.line);
                lines.for_each(|line| *line = original(*line));
            }
        }
    }

    fn json_of(&self, id: NodeId) -> Result<Value, Error> {
        let node = self.node(id);
        Ok(match &node.kind {
            Kind::Scalar(scalar) => scalar
                .resolved
                .to_json(&scalar.text)
                .map_err(|why| Error::new(node.line, why))?,
            Kind::Sequence(items) => {
                let items: Result<_, _> = items.iter().map(|item| self.json_of(*item)).collect();
                Value::Array(items?)
            }
            Kind::Mapping(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    map.insert(entry.key.clone(), self.json_of(entry.value)?);
                }
                Value::Object(map)
            }
        })
    }
}

/// Parses the document in `text`, within the bounds of templates. An empty text is null. Empty documents
/// may follow, such as after a final `---`.
///
/// # Errors
/// If `text` is not YAML, has a second document, or exceeds a bound; with its line.
pub fn parse(text: &str) -> Result<Tree, Error> {
    parse_within(text, Bounds::TEMPLATE)
}

/// Parses the document in `text`, as [`parse`] does, within these bounds.
///
/// # Errors
/// As those of [`parse`].
pub fn parse_within(text: &str, bounds: Bounds) -> Result<Tree, Error> {
    if text.len() > bounds.text_bytes {
        return Err(Error::new(1, ErrorKind::TooLong(bounds.text_bytes)));
    }
    let lines = breaks::Lines::of(text);
    let mut builder = Builder::new(lines.marks, bounds);
    read(&lines.text, &mut builder)
        .and_then(|()| builder.finish())
        .map(|mut tree| {
            tree.each_line(|line| lines.original(line));
            tree
        })
        .map_err(|error| Error::new(lines.original(error.line), error.kind))
}

/// Reads the first document of `text`, and ensures that no other follows.
fn read(text: &str, builder: &mut Builder) -> Result<(), Error> {
    refuse_leading_tab(text)?;
    let options = granit_parser::options! {
        emit_comments: false,
        block_scalar_eof_without_line_feed: true,
        // One more than allowed, so that our own check reports the error.
        flow_nesting_limit: DEPTH_MAX + 1,
        block_nesting_limit: DEPTH_MAX + 1,
    };
    let mut documents = 0;
    let mut begins = 1;
    for next in Parser::new_from_str_with_options(text, options) {
        let (event, span) = next.map_err(|error| at_tab(text, Error::from_scan(&error)))?;
        if matches!(event, Event::DocumentStart(..)) {
            documents += 1;
            begins = line_of(&span.start);
        } else if documents <= 1 {
            builder.take(event, &span)?;
        } else if holds_something(&event) {
            // kubectl's library would silently drop it.
            return Err(Error::new(begins, ErrorKind::SecondDocument));
        }
    }
    Ok(())
}

/// Whether a document with this event is not empty.
fn holds_something(event: &Event<'_>) -> bool {
    match event {
        Event::Scalar(text, style, anchor, tag) => {
            *style != ScalarStyle::Plain
                || *anchor != 0
                || tag.is_some()
                || resolve(text) != Resolved::Null
        }
        Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(_) => true,
        _ => false,
    }
}

/// The parser rejects tabs in the indentation everywhere except before the first token.
fn refuse_leading_tab(text: &str) -> Result<(), Error> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        let (indentation, content) = indented(line);
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        if indentation.contains('\t') {
            return Err(Error::new(number, ErrorKind::Tab));
        }
        break;
    }
    Ok(())
}

/// The parser may report a tab on the line where the value before it began.
fn at_tab(text: &str, mut error: Error) -> Error {
    if error.kind == ErrorKind::Tab {
        let mut lines = (1..).zip(text.lines()).skip(error.line as usize - 1);
        if let Some((line, _)) = lines.find(|(_, line)| indented(line).0.contains('\t')) {
            error.line = line;
        }
    }
    error
}

/// The indentation of a line, and the rest of it.
fn indented(line: &str) -> (&str, &str) {
    let content = line.trim_start_matches([' ', '\t']);
    line.split_at(line.len() - content.len())
}

/// The line of a marker, from 1.
fn line_of(marker: &Marker) -> u32 {
    at_most_u32(marker.line().max(1))
}

fn at_most_u32(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Builds a tree from events.
struct Builder {
    bounds: Bounds,
    nodes: Vec<Node>,
    open: Vec<Open>,
    anchors: HashMap<usize, Anchored>,
    root: Option<NodeId>,
    spent: Spent,
    marks: Option<breaks::Marks>,
    /// The first character of the present event, from 1.
    column: u32,
}

/// The size so far, with aliases expanded.
#[derive(Clone, Copy, Default)]
struct Spent {
    nodes: usize,
    bytes: usize,
}

/// A finished value that aliases can refer to.
#[derive(Clone, Copy)]
struct Anchored {
    node: NodeId,
    cost: Spent,
    height: usize,
}

/// A list or map that has not ended yet.
struct Open {
    line: u32,
    column: u32,
    anchor: usize,
    spent_before: Spent,
    /// The height of its highest child.
    height: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<NodeId>),
    Mapping {
        entries: Vec<Entry>,
        key: Option<Key>,
    },
}

/// A key that waits for its value.
enum Key {
    Name {
        name: String,
        line: u32,
        column: u32,
    },
    Merge {
        line: u32,
    },
}

impl Builder {
    fn new(marks: Option<breaks::Marks>, bounds: Bounds) -> Self {
        Self {
            bounds,
            nodes: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            root: None,
            spent: Spent::default(),
            marks,
            column: 0,
        }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Error> {
        let line = line_of(&span.start);
        self.column = at_most_u32(span.start.col().saturating_add(1));
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let text = match self.marks {
                    Some(marks) => breaks::restore(text, style, marks),
                    None => text,
                };
                self.scalar(&text, style, anchor, tag.as_deref(), line)
            }
            Event::SequenceStart(_, anchor, _) => {
                self.start(Content::Sequence(Vec::new()), anchor, line)
            }
            Event::MappingStart(_, anchor, _) => {
                let content = Content::Mapping {
                    entries: Vec::new(),
                    key: None,
                };
                self.start(content, anchor, line)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, line),
            _ => Ok(()),
        }
    }

    fn spend(&mut self, nodes: usize, bytes: usize, line: u32) -> Result<(), Error> {
        self.spent.nodes = self.spent.nodes.saturating_add(nodes);
        self.spent.bytes = self.spent.bytes.saturating_add(bytes);
        let Bounds {
            nodes: nodes_max,
            expanded_bytes: bytes_max,
            ..
        } = self.bounds;
        if self.spent.nodes > nodes_max {
            return Err(Error::new(line, ErrorKind::TooManyNodes(nodes_max)));
        }
        if self.spent.bytes > bytes_max {
            return Err(Error::new(line, ErrorKind::TooMuchText(bytes_max)));
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        text: &str,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        line: u32,
    ) -> Result<(), Error> {
        let before = self.spent;
        self.spend(1, text.len(), line)?;
        let tag = tag.map(|tag| format!("{}{}", tag.handle(), tag.suffix()));
        let tag = tag.as_deref();
        let plain = style == ScalarStyle::Plain && tag.is_none();
        let merges = text == "<<" && (plain || tag.is_some_and(|tag| tag.ends_with(":merge")));
        if merges && let Some(key @ None) = self.key() {
            *key = Some(Key::Merge { line });
            return Ok(());
        }
        let scalar = read_scalar(text, plain, tag).map_err(|kind| Error::new(line, kind))?;
        let column = self.column;
        let node = self.push(Node {
            line,
            column,
            kind: Kind::Scalar(scalar),
        });
        self.remember(anchor, node, before, 0);
        self.add(node, 0, (line, column))
    }

    fn start(&mut self, content: Content, anchor: usize, line: u32) -> Result<(), Error> {
        if matches!(self.key(), Some(None)) {
            return Err(Error::new(line, ErrorKind::BadKey));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(Error::new(line, ErrorKind::TooDeep));
        }
        let spent_before = self.spent;
        self.spend(1, 0, line)?;
        self.open.push(Open {
            line,
            column: self.column,
            anchor,
            spent_before,
            height: 0,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let open = self.open.pop().expect("the parser balances its events");
        let kind = match open.content {
            Content::Sequence(items) => Kind::Sequence(items),
            Content::Mapping { entries, .. } => Kind::Mapping(merge::last_wins(entries)),
        };
        let node = self.push(Node {
            line: open.line,
            column: open.column,
            kind,
        });
        let height = open.height + 1;
        self.remember(open.anchor, node, open.spent_before, height);
        self.add(node, height, (open.line, open.column))
    }

    fn alias(&mut self, anchor: usize, line: u32) -> Result<(), Error> {
        // If the anchor's value has not ended, the parser knows the anchor but this map does not.
        let Some(target) = self.anchors.get(&anchor).copied() else {
            return Err(Error::new(line, ErrorKind::AliasOfItself));
        };
        self.spend(target.cost.nodes, target.cost.bytes, line)?;
        if self.open.len() + target.height > DEPTH_MAX {
            return Err(Error::new(line, ErrorKind::TooDeep));
        }
        self.add(target.node, target.height, (line, self.column))
    }

    /// The key that waits for its value, if the innermost open collection is a map.
    fn key(&mut self) -> Option<&mut Option<Key>> {
        match &mut self.open.last_mut()?.content {
            Content::Mapping { key, .. } => Some(key),
            Content::Sequence(_) => None,
        }
    }

    fn push(&mut self, node: Node) -> NodeId {
        let id =
            NodeId(u32::try_from(self.nodes.len()).expect("bounds of nodes are far below 2^32"));
        self.nodes.push(node);
        id
    }

    fn remember(&mut self, anchor: usize, node: NodeId, before: Spent, height: usize) {
        if anchor == 0 {
            return;
        }
        let cost = Spent {
            nodes: self.spent.nodes - before.nodes,
            bytes: self.spent.bytes - before.bytes,
        };
        self.anchors.insert(anchor, Anchored { node, cost, height });
    }

    /// Adds a finished value to the innermost open collection, of a map as its next key or value.
    fn add(
        &mut self,
        node: NodeId,
        height: usize,
        (line, column): (u32, u32),
    ) -> Result<(), Error> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.height = open.height.max(height);
        match &mut open.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping { entries, key } => match key.take() {
                None => {
                    let name = match &self.nodes[node.0 as usize].kind {
                        Kind::Scalar(scalar) => scalar.resolved.to_key(&scalar.text),
                        Kind::Sequence(_) | Kind::Mapping(_) => None,
                    };
                    let name = name.ok_or_else(|| Error::new(line, ErrorKind::BadKey))?;
                    *key = Some(Key::Name { name, line, column });
                }
                Some(Key::Name { name, line, column }) => entries.push(Entry {
                    key: name,
                    line,
                    column,
                    value: node,
                }),
                Some(Key::Merge { line: at }) => {
                    let merged = merge::merged(&self.nodes, node)
                        .ok_or_else(|| Error::new(at.max(line), ErrorKind::BadMerge))?;
                    entries.extend(merged);
                }
            },
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Tree, Error> {
        if self.root.is_none() {
            // Nothing at all is null.
            self.scalar("", ScalarStyle::Plain, 0, None, 1)?;
        }
        Ok(Tree {
            root: self
                .root
                .expect("a scalar outside of collections is the root"),
            nodes: self.nodes,
        })
    }
}

fn read_scalar(text: &str, plain: bool, tag: Option<&str>) -> Result<Scalar, ErrorKind> {
    let mut text = text.to_owned();
    let resolved = match tag {
        None if plain => resolve(&text),
        None => Resolved::Text,
        Some(tag) => match tag.strip_prefix(YAML_TAG) {
            Some("binary") => {
                let packed: String = text.split_ascii_whitespace().collect();
                let bytes = base64::engine::general_purpose::STANDARD
                    .decode(packed)
                    .map_err(|_| ErrorKind::BadBinary)?;
                text = String::from_utf8_lossy(&bytes).into_owned();
                Resolved::Text
            }
            Some(known) => scalar::resolve_tagged(known, &text)
                .ok_or_else(|| ErrorKind::BadTag(known.to_owned()))?,
            // An unknown tag: the text is kept as a string.
            None => Resolved::Text,
        },
    };
    Ok(Scalar {
        text,
        plain,
        resolved,
    })
}
