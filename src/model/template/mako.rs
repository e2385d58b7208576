//! The Mako syntax of templates, applied before the YAML is parsed.
//!
//! Splits a text into [`Part`]s: plain text, `${…}`, and blocks of control lines; `select.rs` evaluates
//! them. Everything that would run code (`<% %>`, `<%! %>`, `<%include>`, `<%def>`) is rejected here.

use super::expression::{Expression, ValueExpression, parse_condition, parse_loop, parse_value};
use super::{Problem, TemplateVariable};
use std::collections::HashMap;

/// Maximum nesting depth of `% if` and `% for`.
pub const CONTROL_DEPTH_MAX: usize = 16;

/// Maximum number of placeholders `${…}` in a template, and after its loops ran.
pub const PLACEHOLDERS_MAX: usize = 4096;

/// First character of a placeholder (`select.rs`), from a private-use area. Templates that contain it
/// are rejected, so it always marks a value.
pub(super) const OPEN: char = '\u{f0000}';
/// Last character of a placeholder, from a private-use area.
pub(super) const CLOSE: char = '\u{f0001}';

/// The parts of a template.
#[derive(Clone, Debug, Default)]
pub(super) struct Source {
    pub(super) parts: Vec<Part>,
    pub(super) variables: Vec<TemplateVariable>,
}

#[derive(Clone, Debug)]
pub(super) enum Part {
    /// Plain text that starts on `line`.
    Text { line: u32, text: String },
    /// `${…}`, and its text.
    Value {
        line: u32,
        source: String,
        value: ValueExpression,
    },
    /// `% if` to `% endif`: the first branch with a true condition.
    If(Vec<Branch>),
    /// `% for` to `% endfor`
    For(Vec<Self>),
}

#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) line: u32,
    /// Its text and the condition; `None` is `% else`.
    pub(super) condition: Option<(String, Expression)>,
    pub(super) parts: Vec<Part>,
}

impl Branch {
    fn new(line: u32, condition: Option<(String, Expression)>) -> Self {
        Self {
            line,
            condition,
            parts: Vec::new(),
        }
    }
}

/// A result; its error has the line of the problem.
pub(super) type At<T> = Result<T, (u32, Problem)>;

/// Splits `text` into its parts.
pub(super) fn parse(text: &str) -> At<Source> {
    let mut parser = Parser {
        text,
        at: 0,
        line: 1,
        source: Source::default(),
        places: HashMap::new(),
        open: Vec::new(),
        locals: Vec::new(),
        values: 0,
    };
    parser.run()?;
    Ok(parser.source)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    /// What was read; its parts are those of the innermost block.
    source: Source,
    /// Where each variable is among those that were read.
    places: HashMap<String, usize>,
    open: Vec<Block>,
    /// The loop variables in scope.
    locals: Vec<String>,
    values: usize,
}

/// A block that is not closed yet.
struct Block {
    line: u32,
    /// The parts before the block.
    outside: Vec<Part>,
    kind: BlockKind,
}

enum BlockKind {
    /// The finished branches, and the open one, whose parts are still being read.
    If(Vec<Branch>, Branch),
    For,
}

impl<'a> Parser<'a> {
    fn run(&mut self) -> At<()> {
        let mut at_line_start = true;
        while !self.rest().is_empty() {
            if at_line_start && self.control_or_comment()? {
                continue;
            }
            at_line_start = self.rest_of_line()?;
        }
        match self.open.last() {
            None => Ok(()),
            Some(block) => {
                let word = match block.kind {
                    BlockKind::If(..) => "if",
                    BlockKind::For => "for",
                };
                let problem = format!("`% {word}` is not closed; add `% end{word}`");
                Err((block.line, Problem::Control(problem)))
            }
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Advances by `length` bytes and counts line breaks.
    fn skip(&mut self, length: usize) -> &'a str {
        let skipped = &self.text[self.at..self.at + length];
        self.at += length;
        let breaks = skipped.bytes().filter(|byte| *byte == b'\n').count();
        self.line += u32::try_from(breaks).expect("TEXT_BYTES_MAX is far below 2^32");
        skipped
    }

    fn push_text(&mut self, line: u32, text: &str) {
        if !text.is_empty() {
            let text = text.to_owned();
            self.source.parts.push(Part::Text { line, text });
        }
    }

    /// Parses a control line or comment at the start of a line; returns whether it consumed the line.
    fn control_or_comment(&mut self) -> At<bool> {
        let rest = self.rest();
        let content = rest.trim_start_matches([' ', '\t']);
        let blanks = rest.len() - content.len();
        if content.starts_with("%%") {
            self.push_text(self.line, &rest[..blanks]);
            // One `%` and the rest of the line are text.
            self.at += blanks + 1;
            self.push_text(self.line, "%");
            self.at += 1;
            return Ok(false);
        }
        if !content.starts_with("##") && !content.starts_with('%') {
            return Ok(false);
        }
        let line = self.line;
        let length = logical_line(rest);
        let whole = self.skip(length);
        if let Some(statement) = whole.trim_start_matches([' ', '\t']).strip_prefix('%') {
            let statement = statement.replace("\\\r\n", " ").replace("\\\n", " ");
            self.control(statement.trim(), line)
                .map_err(|problem| (line, Problem::Control(problem)))?;
        }
        Ok(true)
    }

    /// Parses text up to and including the line break; returns whether a new line starts.
    fn rest_of_line(&mut self) -> At<bool> {
        let rest = self.rest();
        let line = self.line;
        let special = |(at, c): (usize, char)| match c {
            '\n' => true,
            '$' => rest[at..].starts_with("${"),
            '<' => rest[at..].starts_with("<%") || rest[at..].starts_with("</%"),
            '\\' => rest[at..].starts_with("\\\n") || rest[at..].starts_with("\\\r\n"),
            OPEN | CLOSE => true,
            _ => false,
        };
        let found = rest.char_indices().find(|found| special(*found));
        let Some((end, c)) = found else {
            self.push_text(line, rest);
            self.skip(rest.len());
            return Ok(false);
        };
        let text = if c == '\n' {
            &rest[..=end]
        } else {
            &rest[..end]
        };
        self.push_text(line, text);
        self.skip(text.len());
        match c {
            '\n' => return Ok(true),
            '\\' => {
                let newline = self.rest().find('\n').expect("it was seen above");
                self.skip(newline + 1);
                return Ok(true);
            }
            '$' => self.value()?,
            '<' => self.block()?,
            _ => return Err((line, Problem::PrivateCharacter)),
        }
        Ok(false)
    }

    fn value(&mut self) -> At<()> {
        let line = self.line;
        let problem = |problem: String| (line, Problem::Expression(problem));
        self.values += 1;
        if self.values > PLACEHOLDERS_MAX {
            return Err((line, Problem::TooManyPlaceholders));
        }
        self.skip("${".len());
        let (value, length) = parse_value(self.rest(), &self.locals).map_err(problem)?;
        self.note(&value.expression, self.open.is_empty());
        let source = format!("${{{}", self.skip(length));
        self.source.parts.push(Part::Value {
            line,
            source,
            value,
        });
        Ok(())
    }

    fn note(&mut self, expression: &Expression, always: bool) {
        let (variables, places) = (&mut self.source.variables, &mut self.places);
        expression.each_variable(always, &mut |seen| match places.get(seen.name) {
            Some(place) => {
                let known = &mut variables[*place];
                known.required |= seen.required;
                known.default = known.default.take().or(seen.default);
            }
            None => {
                places.insert(seen.name.to_owned(), variables.len());
                variables.push(TemplateVariable {
                    name: seen.name.to_owned(),
                    required: seen.required,
                    default: seen.default,
                });
            }
        });
    }

    /// Keeps the content of `<%text>` unchanged and drops that of `<%doc>`; rejects any other `<%`.
    fn block(&mut self) -> At<()> {
        let line = self.line;
        for (begin, end) in [("<%text>", "</%text>"), ("<%doc>", "</%doc>")] {
            let Some(inside) = self.rest().strip_prefix(begin) else {
                continue;
            };
            let Some(length) = inside.find(end) else {
                return Err((line, Problem::BlockNotClosed(begin)));
            };
            self.skip(begin.len());
            let line = self.line;
            let text = self.skip(length);
            if text.contains([OPEN, CLOSE]) {
                return Err((line, Problem::PrivateCharacter));
            }
            if begin == "<%text>" {
                self.push_text(line, text);
            }
            self.skip(end.len());
            return Ok(());
        }
        Err((line, Problem::PythonBlock))
    }

    fn control(&mut self, statement: &str, line: u32) -> Result<(), String> {
        let end = statement
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(statement.len());
        let (word, rest) = statement.split_at(end);
        match word {
            "if" | "elif" => {
                let condition = parse_condition(rest, &self.locals)?;
                self.note(&condition, self.open.is_empty());
                let source = rest.trim().to_owned();
                let branch = Branch::new(line, Some((source, condition)));
                if word == "elif" {
                    return self.next_branch(word, branch);
                }
                self.begin(line, BlockKind::If(Vec::new(), branch))
            }
            "else" if ends(rest, ":") => self.next_branch(word, Branch::new(line, None)),
            "for" => {
                let names = parse_loop(rest)?;
                // In Python, the outer loop would continue with the inner loop's last value.
                if let Some(known) = names.iter().find(|name| self.locals.contains(name)) {
                    return Err(format!(
                        "`{known}` is already used by an enclosing loop; use another name"
                    ));
                }
                self.begin(line, BlockKind::For)?;
                self.locals.extend(names);
                Ok(())
            }
            "endif" | "endfor" if ends(rest, "") => self.end(word),
            _ => Err(format!(
                "`% {statement}` is not a supported control line; supported are `% if …:`, `% elif …:`, \
                 `% else:`, `% endif`, `% for k, v in alternatives.items():` and `% endfor`; \
                 for a line that begins with `%`, write `%%`"
            )),
        }
    }

    fn begin(&mut self, line: u32, kind: BlockKind) -> Result<(), String> {
        if self.open.len() == CONTROL_DEPTH_MAX {
            return Err(format!(
                "control lines are nested more than {CONTROL_DEPTH_MAX} levels deep; reduce the nesting"
            ));
        }
        let outside = std::mem::take(&mut self.source.parts);
        self.open.push(Block {
            line,
            outside,
            kind,
        });
        Ok(())
    }

    fn next_branch(&mut self, word: &str, next: Branch) -> Result<(), String> {
        let Some(BlockKind::If(done, open)) = self.open.last_mut().map(|block| &mut block.kind)
        else {
            return Err(format!("`% {word}` without its `% if`"));
        };
        if open.condition.is_none() {
            return Err(format!("`% {word}` after `% else`; move it before"));
        }
        open.parts = std::mem::take(&mut self.source.parts);
        done.push(std::mem::replace(open, next));
        Ok(())
    }

    fn end(&mut self, word: &str) -> Result<(), String> {
        let begin = word.trim_start_matches("end");
        let block = self.open.pop();
        let block = block.ok_or_else(|| format!("`% {word}` without its `% {begin}`"))?;
        let parts = std::mem::replace(&mut self.source.parts, block.outside);
        self.source.parts.push(match block.kind {
            BlockKind::If(mut branches, open) if word == "endif" => {
                branches.push(Branch { parts, ..open });
                Part::If(branches)
            }
            BlockKind::For if word == "endfor" => {
                self.locals.truncate(self.locals.len() - 2);
                Part::For(parts)
            }
            BlockKind::If(..) => return Err("`% endfor` where `% endif` is expected".to_owned()),
            BlockKind::For => return Err("`% endif` where `% endfor` is expected".to_owned()),
        });
        Ok(())
    }
}

/// Whether the rest of a control line is `wanted` and at most a comment.
fn ends(rest: &str, wanted: &str) -> bool {
    let rest = rest.trim_start();
    let after = rest.strip_prefix(wanted).unwrap_or("?").trim_start();
    after.is_empty() || after.starts_with('#')
}

/// The length of the first line including its line break and its continuation lines after `\`.
fn logical_line(text: &str) -> usize {
    let mut length = 0;
    for line in text.split_inclusive('\n') {
        length += line.len();
        let content = line.trim_end_matches('\n');
        if !content.trim_end_matches('\r').ends_with('\\') {
            break;
        }
    }
    length
}
