//! What a made template must become: the JSON of its pod template, or that it is refused.

use super::{Condition, Expression, Filter, Item, Line, Made, Node, Piece, Style};
use crate::model::template::Variables;
use crate::yaml;
use serde_json::{Map, Value, json};

/// A template that must be rejected: a variable is missing, a value contains a NUL, two keys are
/// equal, or a number has no JSON form.
#[derive(Clone, Copy, Debug)]
pub(in crate::model::template::tests) struct Refused;

type Meant<T> = Result<T, Refused>;

impl Made {
    /// The pod template that this must become with `given`.
    pub(in crate::model::template::tests) fn meant(&self, given: &Variables) -> Meant<Value> {
        let mut world = World {
            given,
            locals: Vec::new(),
            base: &self.base,
        };
        let container = json!({
            "args": world.list(&self.args, true)?,
            "env": world.list(&self.env, true)?,
        });
        Ok(json!({
            "base": world.map(&self.base, false)?,
            "metadata": {"annotations": world.map(&self.annotations, true)?},
            "spec": {"containers": [container]},
            "extra": world.map(&self.extra, false)?,
        }))
    }
}

/// The values, those of the loops around, and what an alias stands for.
struct World<'a> {
    given: &'a Variables,
    locals: Vec<(&'a str, &'a str)>,
    base: &'a [Item],
}

impl<'a> World<'a> {
    /// A map; nothing at all is null. `strings`: a scalar is its text.
    fn map(&mut self, items: &'a [Item], strings: bool) -> Meant<Value> {
        let mut map = Map::new();
        self.each(items, &mut |world, item| {
            match item {
                Item::Entry(key, value) => {
                    let key = world.text(key)?;
                    let value = world.node(value, strings)?;
                    if map.insert(key, value).is_some() {
                        return Err(Refused);
                    }
                }
                _ => {
                    let merged = World {
                        locals: Vec::new(),
                        ..*world
                    }
                    .map(world.base, strings)?;
                    let merged = merged.as_object().cloned();
                    map.extend(merged.ok_or(Refused)?);
                }
            }
            Ok(())
        })?;
        Ok(if map.is_empty() {
            Value::Null
        } else {
            map.into()
        })
    }

    fn list(&mut self, items: &'a [Item], strings: bool) -> Meant<Value> {
        let mut list = Vec::new();
        self.each(items, &mut |world, item| {
            if let Item::Entry(_, value) = item {
                list.push(world.node(value, strings)?);
            }
            Ok(())
        })?;
        Ok(if list.is_empty() {
            Value::Null
        } else {
            list.into()
        })
    }

    /// Calls `seen` for each entry and merge that is chosen.
    fn each(
        &mut self,
        items: &'a [Item],
        seen: &mut dyn FnMut(&mut Self, &'a Item) -> Meant<()>,
    ) -> Meant<()> {
        for item in items {
            match item {
                Item::Entry(..) | Item::Merge => seen(self, item)?,
                Item::Dropped => {}
                Item::Comment(pieces) => drop(self.text(pieces)?),
                Item::For(body) => {
                    for local in self.given.iter() {
                        self.locals.push(local);
                        self.each(body, seen)?;
                        self.locals.pop();
                    }
                }
                Item::If(branches, otherwise) => {
                    let mut chosen = otherwise.as_ref();
                    for (condition, body) in branches {
                        if self.holds(condition)? {
                            chosen = Some(body);
                            break;
                        }
                    }
                    self.each(chosen.map_or(&[], Vec::as_slice), seen)?;
                }
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &'a Node, strings: bool) -> Meant<Value> {
        match node {
            Node::Map(items) => self.map(items, strings),
            Node::List(items) => self.list(items, strings),
            Node::Alias => World {
                locals: Vec::new(),
                ..*self
            }
            .map(self.base, strings),
            Node::Scalar(style, pieces) => {
                let text = self.text(pieces)?;
                if *style != Style::Plain || strings {
                    return Ok(text.into());
                }
                yaml::resolve(&text).to_json(&text).map_err(|_| Refused)
            }
            Node::Block { folded, lines } => {
                let mut texts = Vec::new();
                for line in lines {
                    match line {
                        Line::Dropped => {}
                        Line::Text { percent, pieces } => {
                            let first = if *percent { "%" } else { "l" };
                            texts.push(format!("{first}{}.", self.text(pieces)?));
                        }
                        Line::Joined(one, two) => {
                            texts.push(format!("l{}m{}.", self.text(one)?, self.text(two)?));
                        }
                    }
                }
                Ok(texts.join(if *folded { " " } else { "\n" }).into())
            }
        }
    }

    fn text(&self, pieces: &[Piece]) -> Meant<String> {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(part) | Piece::Kept(part) => text.push_str(part),
                Piece::Dropped => {}
                Piece::Value(expression, filters) => {
                    let value = self.value(expression)?.unwrap_or_else(|| "None".to_owned());
                    let value = filters
                        .iter()
                        .fold(value, |value, filter| filtered(&value, *filter));
                    if value.contains('\0') {
                        return Err(Refused);
                    }
                    text.push_str(&value);
                }
            }
        }
        Ok(text)
    }

    /// The value in Python; `None` is None.
    fn value(&self, expression: &Expression) -> Meant<Option<String>> {
        let given = |name: &str| self.given.get(name).map(str::to_owned);
        match expression {
            Expression::Text(text) => Ok(Some((*text).to_owned())),
            Expression::Given(name) => given(name).ok_or(Refused).map(Some),
            Expression::GivenOrNone(name) => Ok(given(name)),
            Expression::GivenOr(name, default) => {
                let default = self.value(default)?;
                Ok(given(name).or(default))
            }
            Expression::Local { depth, is_value } => {
                let (name, value) = self.locals[*depth];
                Ok(Some(if *is_value { value } else { name }.to_owned()))
            }
            Expression::Choice(condition, then, otherwise) => {
                self.value(if self.holds(condition)? {
                    then
                } else {
                    otherwise
                })
            }
            Expression::Or(one, two) => match self.value(one)? {
                Some(text) if !text.is_empty() => Ok(Some(text)),
                _ => self.value(two),
            },
        }
    }

    fn holds(&self, condition: &Condition) -> Meant<bool> {
        Ok(match condition {
            Condition::Given(name) => self.given.get(name).is_some(),
            Condition::NotGiven(name) => self.given.get(name).is_none(),
            Condition::Equal(one, two) => self.value(one)? == self.value(two)?,
            Condition::Unequal(one, two) => self.value(one)? != self.value(two)?,
            Condition::Within(text, whole) => {
                self.value(whole)?.is_some_and(|whole| whole.contains(text))
            }
            Condition::OneOf(one, texts) => {
                let one = self.value(one)?;
                texts.iter().any(|text| one.as_deref() == Some(text))
            }
            Condition::Truth(one) => self.value(one)?.is_some_and(|text| !text.is_empty()),
            Condition::Not(inner) => !self.holds(inner)?,
            Condition::Both(one, two) => self.holds(one)? && self.holds(two)?,
            Condition::Either(one, two) => self.holds(one)? || self.holds(two)?,
        })
    }
}

fn filtered(text: &str, filter: Filter) -> String {
    match filter {
        Filter::Trim => text
            .trim_matches(|c| char::is_whitespace(c) || ('\u{1c}'..='\u{1f}').contains(&c))
            .to_owned(),
        Filter::Html => text.chars().map(html).collect(),
        Filter::Url => text.bytes().map(url).collect(),
    }
}

fn html(c: char) -> String {
    match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&#34;".to_owned(),
        '\'' => "&#39;".to_owned(),
        other => other.to_string(),
    }
}

fn url(byte: u8) -> String {
    match byte {
        b' ' => "+".to_owned(),
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' | b'~' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    }
}
