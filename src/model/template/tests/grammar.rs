//! Templates made at random, each with what it must become.
//!
//! A template is made as a tree. `meaning.rs` computes its meaning with code that shares only the
//! table of scalar types with the code under test. `written.rs` writes it in the forms that
//! templates have. This file has the tree, and how one is made.

mod meaning;
mod written;

use super::fuzz;
use crate::model::template::Variables;
use crate::random::Random;

/// What may stand in `${…}`.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    /// `'text'`
    Text(&'static str),
    /// `alternatives['name']`
    Given(&'static str),
    /// `alternatives.get('name')`
    GivenOrNone(&'static str),
    /// `alternatives.get('name', …)`
    GivenOr(&'static str, Box<Self>),
    /// The name or the value of the loop so many from outside.
    Local { depth: usize, is_value: bool },
    /// `… if … else …`
    Choice(Box<Condition>, Box<Self>, Box<Self>),
    /// `… or …`
    Or(Box<Self>, Box<Self>),
}

/// What may stand behind `% if`.
#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// `'name' in alternatives`
    Given(&'static str),
    /// `'name' not in alternatives`
    NotGiven(&'static str),
    /// `… == …`
    Equal(Expression, Expression),
    /// `… != …`
    Unequal(Expression, Expression),
    /// `'text' in …`
    Within(&'static str, Expression),
    /// `… in ('text', 'text')`
    OneOf(Expression, Vec<&'static str>),
    /// An expression that is neither empty nor None.
    Truth(Expression),
    /// `not …`
    Not(Box<Self>),
    /// `… and …`
    Both(Box<Self>, Box<Self>),
    /// `… or …`
    Either(Box<Self>, Box<Self>),
}

/// What a value may be passed through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Filter {
    Url,
    Html,
    Trim,
}

/// A part of a line.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// Text that means itself.
    Text(&'static str),
    /// `<%text>…</%text>`
    Kept(&'static str),
    /// `<%doc>…</%doc>`
    Dropped,
    /// `${…}`
    Value(Expression, Vec<Filter>),
}

/// A line of a block scalar.
#[derive(Clone, Debug)]
pub(super) enum Line {
    /// As it stands; `percent`: begins with `%%`.
    Text { percent: bool, pieces: Vec<Piece> },
    /// Two lines that a `\` makes one.
    Joined(Vec<Piece>, Vec<Piece>),
    /// `## …`
    Dropped,
}

/// How a scalar is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Single,
    Double,
}

/// A value of the template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Scalar(Style, Vec<Piece>),
    /// `|-`, or `>-`
    Block {
        folded: bool,
        lines: Vec<Line>,
    },
    Map(Vec<Item>),
    List(Vec<Item>),
    /// `*base`
    Alias,
}

/// What stands in a map or list.
#[derive(Clone, Debug)]
pub(super) enum Item {
    /// An entry; in a list its key does not count.
    Entry(Vec<Piece>, Node),
    /// `<<: *base`
    Merge,
    If(Vec<(Condition, Vec<Self>)>, Option<Vec<Self>>),
    For(Vec<Self>),
    /// `# …`, which is no comment to the text rules.
    Comment(Vec<Piece>),
    /// `## …`
    Dropped,
}

/// A template: what `base` stands for, and the maps and lists at its places.
#[derive(Clone, Debug)]
pub(super) struct Made {
    pub(super) base: Vec<Item>,
    pub(super) annotations: Vec<Item>,
    pub(super) args: Vec<Item>,
    pub(super) env: Vec<Item>,
    pub(super) extra: Vec<Item>,
}

/// Names that expressions know; whether they are given is left to chance.
pub(super) const NAMES: &[&str] = &["x", "y", "it's", "a \"b\" \\"];

const TEXTS: &[&str] = &[
    "a", "", "1", "None", "it's", "}", "a|b", "${x}", "## c", "\\", "ä",
];
/// What a plain scalar may begin with, and go on with.
const PLAIN: &[&str] = &[
    "a", "8", "0", "yes", "1e", "$HOME", "$(X)", "$$a", "a {{b}}", "a:b", "a#b",
];
const PLAIN_MORE: &[&str] = &[
    "a", "7", "%", "##", "\"", "'", " b", "\\b", "{", "}", "]", "&a", "*a", "!",
];
/// What may stand in quotes and blocks.
const QUOTED: &[&str] = &[
    "a", ": ", " #", "- ", "##", "%%", "% if", "'", "\"", "\\b", "{", "[", "&a", "*a", "!", "@",
    " ", "$X", "ä",
];
const KEPT: &[&str] = &["${HOME}", "% if", "## a", "<% x %>", "\\"];

/// How deep maps and lists nest below the places.
const DEPTH_MAX: usize = 2;
/// How deep loops nest, since all variables of all loops multiply.
const LOOPS_MAX: usize = 2;

/// Makes templates.
pub(super) struct Maker<'a> {
    random: &'a mut Random,
    loops: usize,
    keys: usize,
    in_base: bool,
    /// Whether there may be control lines.
    controlled: bool,
}

impl<'a> Maker<'a> {
    pub(super) fn new(random: &'a mut Random) -> Self {
        let controlled = random.below(2) == 0;
        Self {
            controlled,
            random,
            loops: 0,
            keys: 0,
            in_base: true,
        }
    }

    pub(super) fn make(mut self) -> Made {
        let first = Item::Entry(
            vec![Piece::Text("k0-")],
            Node::Scalar(Style::Plain, vec![self.value()]),
        );
        let mut base = self.items(1, false);
        // So that every choice has something to merge.
        base.push(first);
        self.in_base = false;
        let mut made = Made {
            base,
            annotations: self.items(DEPTH_MAX, false),
            args: self.items(DEPTH_MAX, true),
            env: Vec::new(),
            extra: self.items(DEPTH_MAX, false),
        };
        if self.controlled && self.one_in(2) {
            self.loops = 1;
            let local = |is_value| {
                vec![Piece::Value(
                    Expression::Local { depth: 0, is_value },
                    Vec::new(),
                )]
            };
            let entry = |key, is_value| {
                Item::Entry(
                    vec![Piece::Text(key)],
                    Node::Scalar(Style::Plain, local(is_value)),
                )
            };
            let variable = vec![entry("name", false), entry("value", true)];
            made.env = vec![Item::For(vec![Item::Entry(
                Vec::new(),
                Node::Map(variable),
            )])];
            self.loops = 0;
        }
        made
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.random.below(count) == 0
    }

    fn items(&mut self, depth: usize, in_list: bool) -> Vec<Item> {
        let count = 1 + self.random.below(3);
        (0..count).map(|_| self.item(depth, in_list)).collect()
    }

    fn item(&mut self, depth: usize, in_list: bool) -> Item {
        match self.random.below(12) {
            0 | 1 if self.controlled && depth <= DEPTH_MAX => self.choice(depth, in_list),
            2 if self.controlled && self.loops < LOOPS_MAX => {
                self.loops += 1;
                let body = self.items(depth + 1, in_list);
                self.loops -= 1;
                Item::For(body)
            }
            3 => Item::Comment(self.pieces(QUOTED)),
            4 => Item::Dropped,
            5 if !in_list && !self.in_base => Item::Merge,
            _ => {
                let key = self.key();
                Item::Entry(key, self.node(depth + 1))
            }
        }
    }

    fn choice(&mut self, depth: usize, in_list: bool) -> Item {
        let branches = (0..1 + self.random.below(2))
            .map(|_| (self.condition(0), self.items(depth + 1, in_list)))
            .collect();
        let otherwise = self.one_in(2).then(|| self.items(depth + 1, in_list));
        Item::If(branches, otherwise)
    }

    /// A key that no other entry has, in a loop by the names of its variables.
    fn key(&mut self) -> Vec<Piece> {
        // Leaked texts are few and short, and save a lifetime in every type.
        self.keys += 1;
        let number: &'static str = Box::leak(format!("k{}-", self.keys).into_boxed_str());
        let mut key = vec![Piece::Text(number)];
        for depth in 0..self.loops {
            let name = Expression::Local {
                depth,
                is_value: false,
            };
            key.push(Piece::Value(name, Vec::new()));
        }
        if self.one_in(4) {
            key.push(self.value());
        }
        key
    }

    fn node(&mut self, depth: usize) -> Node {
        match self.random.below(10) {
            0 if depth <= DEPTH_MAX => Node::Map(self.items(depth, false)),
            1 if depth <= DEPTH_MAX => Node::List(self.items(depth, true)),
            2 if !self.in_base => Node::Alias,
            3 | 4 => {
                let folded = self.one_in(2);
                let lines = (0..1 + self.random.below(3)).map(|_| self.line(folded));
                let lines = lines.collect();
                Node::Block { folded, lines }
            }
            5 => Node::Scalar(Style::Single, self.pieces(QUOTED)),
            6 => Node::Scalar(Style::Double, self.pieces(QUOTED)),
            _ => {
                let mut pieces = match self.random.below(3) {
                    0 => vec![Piece::Text(self.random.pick(PLAIN))],
                    _ => vec![self.value()],
                };
                if self.one_in(2) {
                    pieces.extend(self.pieces(PLAIN_MORE));
                    // A plain scalar has no blank at its end.
                    pieces.push(Piece::Text("."));
                }
                Node::Scalar(Style::Plain, pieces)
            }
        }
    }

    fn line(&mut self, folded: bool) -> Line {
        match self.random.below(6) {
            0 => Line::Dropped,
            1 if !folded => Line::Joined(self.pieces(QUOTED), self.pieces(QUOTED)),
            kind => Line::Text {
                percent: kind == 2,
                pieces: self.pieces(QUOTED),
            },
        }
    }

    fn pieces(&mut self, texts: &[&'static str]) -> Vec<Piece> {
        let count = self.random.below(4);
        let piece = |maker: &mut Self| match maker.random.below(12) {
            0 => Piece::Dropped,
            1 if texts == QUOTED => Piece::Kept(maker.random.pick(KEPT)),
            2..=6 => maker.value(),
            _ => Piece::Text(maker.random.pick(texts)),
        };
        (0..count).map(|_| piece(self)).collect()
    }

    fn value(&mut self) -> Piece {
        let expression = self.expression(0);
        let filters = match self.random.below(8) {
            0 => vec![Filter::Url],
            1 => vec![Filter::Html],
            2 => vec![Filter::Trim, Filter::Url],
            _ => Vec::new(),
        };
        Piece::Value(expression, filters)
    }

    fn expression(&mut self, depth: usize) -> Expression {
        let name = self.random.pick(NAMES);
        let kinds = if depth < 3 { 10 } else { 7 };
        let kind = self.random.below(kinds);
        match kind {
            0 => Expression::Given(name),
            1 => Expression::GivenOrNone(name),
            2 => Expression::Text(self.random.pick(TEXTS)),
            3..=5 if self.loops > 0 => Expression::Local {
                depth: self.random.below(self.loops),
                is_value: self.random.below(2) == 0,
            },
            7 => Expression::GivenOr(name, self.expression(depth + 1).into()),
            8 => Expression::Or(
                self.expression(depth + 1).into(),
                self.expression(depth + 1).into(),
            ),
            9 => {
                let then = self.expression(depth + 1).into();
                let otherwise = self.expression(depth + 1).into();
                Expression::Choice(self.condition(depth + 1).into(), then, otherwise)
            }
            _ => Expression::GivenOr(name, Box::new(Expression::Text("d"))),
        }
    }

    fn condition(&mut self, depth: usize) -> Condition {
        let name = self.random.pick(NAMES);
        let text = self.random.pick(TEXTS);
        let kinds = if depth < 3 { 10 } else { 7 };
        match self.random.below(kinds) {
            0 => Condition::NotGiven(name),
            1 => Condition::Equal(self.expression(depth + 1), self.expression(depth + 1)),
            2 => Condition::Unequal(self.expression(depth + 1), Expression::Text(text)),
            3 => Condition::Within(
                text,
                Expression::GivenOr(name, Box::new(Expression::Text(""))),
            ),
            4 => Condition::OneOf(self.expression(depth + 1), vec![text, "b"]),
            5 => Condition::Truth(self.expression(depth + 1)),
            7 => Condition::Not(self.condition(depth + 1).into()),
            8 => Condition::Both(
                self.condition(depth + 1).into(),
                self.condition(depth + 1).into(),
            ),
            9 => Condition::Either(
                self.condition(depth + 1).into(),
                self.condition(depth + 1).into(),
            ),
            _ => Condition::Given(name),
        }
    }
}

/// Values for a template: nasty ones, each with `mark` in it, under most of the [`NAMES`] and under
/// nasty names.
pub(super) fn variables(random: &mut Random, mark: &str) -> Variables {
    let mut pairs = Vec::new();
    for name in NAMES {
        if random.below(4) > 0 {
            pairs.push(((*name).to_owned(), fuzz::text(random) + mark));
        }
    }
    for _ in 0..random.below(3) {
        pairs.push((fuzz::text(random) + mark, fuzz::text(random) + mark));
    }
    pairs.into_iter().collect()
}
