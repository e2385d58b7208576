//! A made template as text, in the forms that mean the same.

use super::{Condition, Expression, Filter, Item, Line, Made, Node, Piece, Style};
use crate::random::Random;

impl Made {
    /// The text, written in one way or another.
    pub(in crate::model::template::tests) fn written(&self, random: &mut Random) -> String {
        let text = random.pick(&[
            "",
            "---\n",
            "## first\n",
            "\u{feff}",
            "# a\n",
            "<%doc>${\n</%doc>\n",
        ]);
        let mut writer = Writer {
            text: text.to_owned(),
            random,
            loops: 0,
        };
        writer.place("base: &base\n", &self.base, 2, false);
        writer.place("metadata:\n  annotations:\n", &self.annotations, 4, false);
        writer.place("extra:\n", &self.extra, 2, false);
        writer.place("spec:\n  containers:\n  - args:\n", &self.args, 6, true);
        writer.place("    env:\n", &self.env, 6, true);
        writer.text
    }
}

struct Writer<'a> {
    text: String,
    random: &'a mut Random,
    loops: usize,
}

impl Writer<'_> {
    fn place(&mut self, head: &str, items: &[Item], indent: usize, in_list: bool) {
        self.text.push_str(head);
        self.items(items, indent, in_list);
    }

    fn items(&mut self, items: &[Item], indent: usize, in_list: bool) {
        for item in items {
            match item {
                Item::Entry(key, value) => {
                    self.text.push_str(&" ".repeat(indent));
                    if in_list {
                        self.text.push('-');
                    } else {
                        self.pieces(key, Style::Plain);
                        self.text.push(':');
                    }
                    self.node(value, indent);
                }
                Item::Merge => {
                    self.text.push_str(&" ".repeat(indent));
                    self.text.push_str("<<: *base\n");
                }
                Item::Comment(pieces) => {
                    self.text.push_str(&" ".repeat(indent));
                    self.text.push_str("# ");
                    self.pieces(pieces, Style::Plain);
                    self.text.push_str(".\n");
                }
                Item::Dropped => self.dropped(indent),
                Item::For(body) => {
                    let (key, value) = (format!("k{}", self.loops), format!("v{}", self.loops));
                    let names = match self.random.below(3) {
                        0 => format!("({key},{value})"),
                        _ => format!("{key}, {value}"),
                    };
                    self.control(&format!("for {names} in alternatives.items():"));
                    self.loops += 1;
                    self.items(body, indent, in_list);
                    self.loops -= 1;
                    self.control("endfor");
                }
                Item::If(branches, otherwise) => {
                    for (number, (condition, body)) in branches.iter().enumerate() {
                        let word = if number == 0 { "if" } else { "elif" };
                        let condition = self.condition(condition);
                        self.control(&format!("{word} {condition}:"));
                        self.items(body, indent, in_list);
                    }
                    if let Some(body) = otherwise {
                        self.control("else:");
                        self.items(body, indent, in_list);
                    }
                    self.control("endif");
                }
            }
        }
    }

    fn dropped(&mut self, indent: usize) {
        self.text
            .push_str(&" ".repeat(self.random.below(indent + 1)));
        let rest = self
            .random
            .pick(&["", " a: b", "${HOME}", " <% x", " joined \\\n  to ${this}"]);
        self.text.push_str("##");
        self.text.push_str(rest);
        self.text.push('\n');
    }

    fn control(&mut self, statement: &str) {
        let before = self
            .random
            .pick(&["% ", "%", "  % ", "\t%  ", "        % "]);
        let after = self.random.pick(&["", "", "", " ", " # why", "\r"]);
        self.text.push_str(&format!("{before}{statement}{after}\n"));
    }

    fn node(&mut self, node: &Node, indent: usize) {
        match node {
            Node::Map(items) | Node::List(items) => {
                self.text.push('\n');
                self.items(items, indent + 2, matches!(node, Node::List(_)));
            }
            Node::Alias => self.text.push_str(" *base\n"),
            Node::Scalar(style, pieces) => {
                let quote = match style {
                    Style::Plain => "",
                    Style::Single => "'",
                    Style::Double => "\"",
                };
                self.text.push(' ');
                self.text.push_str(quote);
                self.pieces(pieces, *style);
                self.text.push_str(quote);
                self.text
                    .push_str(self.random.pick(&["\n", "\n", " # a comment\n"]));
            }
            Node::Block { folded, lines } => {
                self.text.push_str(if *folded { " >-\n" } else { " |-\n" });
                for line in lines {
                    self.line(line, indent + 2);
                }
            }
        }
    }

    fn line(&mut self, line: &Line, indent: usize) {
        match line {
            Line::Dropped => self.dropped(indent),
            Line::Text { percent, pieces } => {
                self.text.push_str(&" ".repeat(indent));
                self.text.push_str(if *percent { "%%" } else { "l" });
                self.pieces(pieces, Style::Plain);
                self.text.push_str(".\n");
            }
            Line::Joined(one, two) => {
                self.text.push_str(&" ".repeat(indent));
                self.text.push('l');
                self.pieces(one, Style::Plain);
                self.text.push_str(self.random.pick(&["\\\n", "\\\r\n"]));
                self.text.push('m');
                self.pieces(two, Style::Plain);
                self.text.push_str(".\n");
            }
        }
    }

    fn pieces(&mut self, pieces: &[Piece], style: Style) {
        let escaped = |text: &str| match style {
            Style::Plain => text.to_owned(),
            Style::Single => text.replace('\'', "''"),
            Style::Double => text.replace('\\', "\\\\").replace('"', "\\\""),
        };
        for piece in pieces {
            match piece {
                Piece::Text(text) => self.text.push_str(&escaped(text)),
                Piece::Kept(text) => {
                    self.text
                        .push_str(&format!("<%text>{}</%text>", escaped(text)));
                }
                Piece::Dropped => self.text.push_str("<%doc>${x: '</%doc>"),
                Piece::Value(expression, filters) => {
                    let value = self.value(expression, filters);
                    self.text.push_str(&value);
                }
            }
        }
    }

    fn value(&mut self, expression: &Expression, filters: &[Filter]) -> String {
        let expression = self.expression(expression);
        let mut filters: Vec<&str> = filters
            .iter()
            .map(|filter| match filter {
                Filter::Url => "u",
                Filter::Html => "h",
                Filter::Trim => "trim",
            })
            .collect();
        if self.random.below(8) == 0 {
            filters.push("str");
        }
        let mut value = format!(
            "${{{}{expression}",
            self.random.pick(&["", "", " ", "\n", "\t"])
        );
        if !filters.is_empty() {
            value += self.random.pick(&["|", " | "]);
            value += &filters.join(self.random.pick(&[",", ", "]));
        }
        value + self.random.pick(&["", "", " ", "\n\n"]) + "}"
    }

    /// An expression that binds more tightly than any operator.
    fn operand(&mut self, expression: &Expression) -> String {
        let inner = self.expression(expression);
        match expression {
            Expression::Choice(..) | Expression::Or(..) => format!("({inner})"),
            _ => inner,
        }
    }

    fn expression(&mut self, expression: &Expression) -> String {
        match expression {
            Expression::Text(text) => self.literal(text),
            Expression::Given(name) => {
                let name = self.literal(name);
                match self.random.below(3) {
                    0 => format!("alternatives [ {name} ]"),
                    _ => format!("alternatives[{name}]"),
                }
            }
            Expression::GivenOrNone(name) => format!("alternatives.get({})", self.literal(name)),
            Expression::GivenOr(name, default) => {
                let (name, default) = (self.literal(name), self.expression(default));
                let comma = self.random.pick(&[",", ", "]);
                format!("alternatives.get({name}{comma}{default})")
            }
            Expression::Local { depth, is_value } => {
                format!("{}{depth}", if *is_value { "v" } else { "k" })
            }
            Expression::Choice(condition, then, otherwise) => {
                let (then, condition) = (self.operand(then), self.condition(condition));
                format!("{then} if {condition} else {}", self.operand(otherwise))
            }
            Expression::Or(one, two) => format!("{} or {}", self.operand(one), self.operand(two)),
        }
    }

    fn condition(&mut self, condition: &Condition) -> String {
        match condition {
            Condition::Given(name) => format!("{} in alternatives", self.literal(name)),
            Condition::NotGiven(name) => format!("{} not in alternatives", self.literal(name)),
            Condition::Equal(one, two) => format!("{} == {}", self.operand(one), self.operand(two)),
            Condition::Unequal(one, two) => format!("{}!={}", self.operand(one), self.operand(two)),
            Condition::Within(text, whole) => {
                format!("{} in {}", self.literal(text), self.operand(whole))
            }
            Condition::OneOf(one, texts) => {
                let one = self.operand(one);
                let texts: Vec<String> = texts.iter().map(|text| self.literal(text)).collect();
                let texts = texts.join(", ");
                match self.random.below(2) {
                    0 => format!("{one} in ({texts},)"),
                    _ => format!("{one} in [{texts}]"),
                }
            }
            Condition::Truth(one) => self.operand(one),
            Condition::Not(inner) => format!("not ({})", self.condition(inner)),
            Condition::Both(one, two) => {
                format!("({}) and ({})", self.condition(one), self.condition(two))
            }
            Condition::Either(one, two) => {
                format!("(({}) or ({}))", self.condition(one), self.condition(two))
            }
        }
    }

    /// A text in quotes of one kind or the other.
    fn literal(&mut self, text: &str) -> String {
        let quote = self.random.pick(&["'", "\""]);
        let text = text
            .replace('\\', "\\\\")
            .replace(quote, &format!("\\{quote}"));
        format!("{quote}{text}{quote}")
    }
}
