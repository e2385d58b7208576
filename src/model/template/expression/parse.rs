//! Parses the text of an [`Expression`].
//!
//! Each error names what is expected instead. Evaluation is in [`super`].

use super::{
    EXPRESSION_DEPTH_MAX, Expression, Filter, Loop, VARIABLES_NAME, Value, ValueExpression,
};

/// Appended to errors: the supported syntax.
const SUPPORTED: &str = "supported are `alternatives['x']`, `alternatives.get('x', 'default')`, \
    loop variables, strings, numbers, `==`, `!=`, `in`, `and`, `or`, `not`";

/// Parses the inside of `${…}` from `text`, which starts after `${`. Returns also the length up to and
/// including the closing brace. `locals` are the loop variables in scope.
pub(in crate::model::template) fn parse_value(
    text: &str,
    locals: &[String],
) -> Result<(ValueExpression, usize), String> {
    let mut parser = Parser::new(text, locals)?;
    let expression = parser.choice()?;
    let mut filters = Vec::new();
    if parser.take_symbol("|")? {
        loop {
            filters.extend(parser.filter()?);
            if !parser.take_symbol(",")? {
                break;
            }
        }
    }
    if parser.token != Token::Symbol("}") {
        return Err(parser.unexpected("`}`"));
    }
    let value = ValueExpression {
        expression,
        filters,
    };
    Ok((value, parser.at))
}

/// Parses the rest of the line after `% if`, with its colon.
pub(in crate::model::template) fn parse_condition(
    text: &str,
    locals: &[String],
) -> Result<Expression, String> {
    let mut parser = Parser::new(text, locals)?;
    let expression = parser.choice()?;
    parser.expect_symbol(":")?;
    parser.expect_end()?;
    Ok(expression)
}

/// Parses the rest of the line after `% for`, with its colon.
pub(in crate::model::template) fn parse_loop(text: &str) -> Result<Loop, String> {
    let only = "the only loop is `% for k, v in alternatives.items():`";
    let mut parser = Parser::new(text, &[])?;
    let mut read = || -> Result<Loop, String> {
        let brackets = parser.take_symbol("(")?;
        let key = parser.name()?;
        parser.expect_symbol(",")?;
        let value = parser.name()?;
        if brackets {
            parser.expect_symbol(")")?;
        }
        parser.expect_word("in")?;
        parser.expect_word(VARIABLES_NAME)?;
        parser.expect_symbol(".")?;
        parser.expect_word("items")?;
        for symbol in ["(", ")", ":"] {
            parser.expect_symbol(symbol)?;
        }
        parser.expect_end()?;
        Ok(Loop { key, value })
    };
    let found = read().map_err(|problem| format!("{problem}; {only}"))?;
    if found.key == VARIABLES_NAME || found.value == VARIABLES_NAME {
        return Err(format!(
            "a loop variable cannot be called `{VARIABLES_NAME}`"
        ));
    }
    Ok(found)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Literal(Value<'static>),
    Symbol(&'static str),
    End,
}

/// The longest first, so that `==` is not read as two.
const SYMBOLS: [&str; 11] = ["==", "!=", "(", ")", "[", "]", ",", ".", ":", "|", "}"];

struct Parser<'a> {
    text: &'a str,
    /// The end of `token` in `text`.
    at: usize,
    token: Token,
    locals: &'a [String],
    depth: usize,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, locals: &'a [String]) -> Result<Self, String> {
        let mut parser = Self {
            text,
            at: 0,
            token: Token::End,
            locals,
            depth: 0,
        };
        parser.advance()?;
        Ok(parser)
    }

    /// Reads the next token; returns the current one.
    fn advance(&mut self) -> Result<Token, String> {
        let next = self.lex()?;
        Ok(std::mem::replace(&mut self.token, next))
    }

    fn lex(&mut self) -> Result<Token, String> {
        let rest = self.text[self.at..].trim_start_matches([' ', '\t', '\r', '\n']);
        self.at = self.text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            return Ok(Token::End);
        };
        if first == '#' {
            // The rest of a control line is a comment; in `${…}` the missing brace is the error.
            self.at = self.text.len();
            return Ok(Token::End);
        }
        if let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            self.at += symbol.len();
            return Ok(Token::Symbol(symbol));
        }
        if first == '\'' || first == '"' {
            return self.lex_text(first);
        }
        let belongs = |c: char| c.is_alphanumeric() || c == '_';
        let is_number = first.is_ascii_digit();
        let end = rest
            .find(|c: char| !(belongs(c) || is_number && c == '.'))
            .unwrap_or(rest.len());
        let word = &rest[..end];
        self.at += end;
        if is_number {
            return number(word).map(Token::Literal);
        }
        if word.is_empty() {
            return Err(format!("`{first}` is not allowed here; {SUPPORTED}"));
        }
        Ok(match word {
            "None" => Token::Literal(Value::None),
            "True" => Token::Literal(Value::Bool(true)),
            "False" => Token::Literal(Value::Bool(false)),
            name => Token::Name(name.to_owned()),
        })
    }

    fn lex_text(&mut self, quote: char) -> Result<Token, String> {
        let mut text = String::new();
        let mut chars = self.text[self.at..].char_indices().skip(1);
        while let Some((offset, c)) = chars.next() {
            match c {
                '\n' => break,
                '\0' => return Err("a NUL character is not allowed here; remove it".to_owned()),
                '\\' => text.push(match chars.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, 't')) => '\t',
                    Some((_, c @ ('\\' | '\'' | '"'))) => c,
                    _ => {
                        return Err("unknown escape; supported are `\\n \\t \\\\ \\' \\\"`".into());
                    }
                }),
                c if c == quote => {
                    self.at += offset + c.len_utf8();
                    return Ok(Token::Literal(Value::Text(text.into())));
                }
                c => text.push(c),
            }
        }
        Err(format!("the string is not closed; add `{quote}`"))
    }

    fn choice(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > EXPRESSION_DEPTH_MAX {
            return Err(format!(
                "the expression is nested more than {EXPRESSION_DEPTH_MAX} levels deep; simplify it"
            ));
        }
        let then = self.or()?;
        let found = if self.take_word("if")? {
            let condition = self.or()?;
            self.expect_word("else")?;
            Expression::Choice {
                condition: condition.into(),
                then: then.into(),
                otherwise: self.choice()?.into(),
            }
        } else {
            then
        };
        self.depth -= 1;
        Ok(found)
    }

    fn or(&mut self) -> Result<Expression, String> {
        let mut operands = vec![self.and()?];
        while self.take_word("or")? {
            operands.push(self.and()?);
        }
        Ok(one_or(operands, Expression::Or))
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut operands = vec![self.not()?];
        while self.take_word("and")? {
            operands.push(self.not()?);
        }
        Ok(one_or(operands, Expression::And))
    }

    fn not(&mut self) -> Result<Expression, String> {
        let mut negated = false;
        let mut any = false;
        while self.take_word("not")? {
            negated = !negated;
            any = true;
        }
        let inner = self.comparison()?;
        Ok(match (any, negated) {
            (false, _) => inner,
            (true, true) => Expression::Not(inner.into()),
            (true, false) => Expression::Not(Box::new(Expression::Not(inner.into()))),
        })
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let left = self.primary()?;
        let (found, negated) = if self.take_symbol("==")? {
            (
                Expression::Equal(left.into(), self.primary()?.into()),
                false,
            )
        } else if self.take_symbol("!=")? {
            (Expression::Equal(left.into(), self.primary()?.into()), true)
        } else if self.take_word("is")? {
            let negated = self.take_word("not")?;
            if self.advance()? != Token::Literal(Value::None) {
                return Err("`is` supports only `is None` and `is not None`; use `==`".to_owned());
            }
            let none = Expression::Literal(Value::None);
            (Expression::Equal(left.into(), none.into()), negated)
        } else if self.take_word("in")? {
            (self.membership(left)?, false)
        } else if self.take_word("not")? {
            self.expect_word("in")?;
            (self.membership(left)?, true)
        } else {
            return Ok(left);
        };
        Ok(if negated {
            Expression::Not(found.into())
        } else {
            found
        })
    }

    /// The right-hand side of `in`.
    fn membership(&mut self, left: Expression) -> Result<Expression, String> {
        let left = Box::new(left);
        if self.take_word(VARIABLES_NAME)? {
            if self.token == Token::Symbol("[") || self.token == Token::Symbol(".") {
                let whole = self.variable()?;
                return Ok(Expression::IsPartOf(left, whole.into()));
            }
            return Ok(Expression::IsGiven(left));
        }
        let close = if self.take_symbol("[")? {
            "]"
        } else if self.take_symbol("(")? {
            ")"
        } else {
            return Ok(Expression::IsPartOf(left, self.primary()?.into()));
        };
        let mut of = Vec::new();
        let mut commas = 0;
        while self.token != Token::Symbol(close) {
            of.push(self.choice()?);
            if !self.take_symbol(",")? {
                break;
            }
            commas += 1;
        }
        self.expect_symbol(close)?;
        if close == ")" && commas == 0 && of.len() == 1 {
            // Parentheses alone are not a tuple.
            return Ok(Expression::IsPartOf(left, Box::new(of.remove(0))));
        }
        Ok(Expression::IsOneOf(left, of))
    }

    fn primary(&mut self) -> Result<Expression, String> {
        match self.token.clone() {
            Token::Literal(literal) => {
                self.advance()?;
                Ok(Expression::Literal(literal))
            }
            Token::Symbol("(") => {
                self.advance()?;
                let inner = self.choice()?;
                self.expect_symbol(")")?;
                Ok(inner)
            }
            Token::Name(name) if name == VARIABLES_NAME => {
                self.advance()?;
                self.variable()
            }
            Token::Name(name) => match self.locals.iter().rposition(|local| *local == name) {
                Some(place) => {
                    self.advance()?;
                    Ok(Expression::Local(place))
                }
                None => Err(unknown_name(&name)),
            },
            Token::Symbol(_) | Token::End => Err(self.unexpected("a value")),
        }
    }

    /// The part after `alternatives`.
    fn variable(&mut self) -> Result<Expression, String> {
        if self.take_symbol("[")? {
            let key = self.choice()?;
            if matches!(&key, Expression::Literal(literal) if !matches!(literal, Value::Text(_))) {
                return Err(
                    "the name of a variable must be a string; write `alternatives['x']`".to_owned(),
                );
            }
            self.expect_symbol("]")?;
            return Ok(Expression::Variable(key.into()));
        }
        if !self.take_symbol(".")? {
            return Err("`alternatives` holds all variables; write `alternatives['x']`".to_owned());
        }
        let name = self.name()?;
        if name != "get" {
            return Err(format!(
                "`alternatives.{name}` does not exist; write `alternatives['{name}']`"
            ));
        }
        self.expect_symbol("(")?;
        let key = self.choice()?;
        let default = if self.take_symbol(",")? {
            self.choice()?
        } else {
            Expression::Literal(Value::None)
        };
        self.expect_symbol(")")?;
        Ok(Expression::VariableOr(key.into(), default.into()))
    }

    fn filter(&mut self) -> Result<Option<Filter>, String> {
        let name = self.name()?;
        match name.as_str() {
            "u" => Ok(Some(Filter::Url)),
            "h" | "x" => Ok(Some(Filter::Html)),
            "trim" => Ok(Some(Filter::Trim)),
            // Values are strings already, and nothing is escaped by default.
            "str" | "unicode" | "n" => Ok(None),
            _ => Err(format!(
                "unknown filter `{name}`; supported are `u`, `h` and `trim`"
            )),
        }
    }

    fn take_symbol(&mut self, symbol: &'static str) -> Result<bool, String> {
        let found = self.token == Token::Symbol(symbol);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn take_word(&mut self, word: &str) -> Result<bool, String> {
        let found = matches!(&self.token, Token::Name(name) if name == word);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect_symbol(&mut self, symbol: &'static str) -> Result<(), String> {
        if self.take_symbol(symbol)? {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{symbol}`")))
    }

    fn expect_word(&mut self, word: &str) -> Result<(), String> {
        if self.take_word(word)? {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{word}`")))
    }

    fn expect_end(&mut self) -> Result<(), String> {
        match self.token {
            Token::End => Ok(()),
            _ => Err(self.unexpected("the end of the line")),
        }
    }

    fn name(&mut self) -> Result<String, String> {
        let Token::Name(name) = &self.token else {
            return Err(self.unexpected("a name"));
        };
        let name = name.clone();
        self.advance()?;
        Ok(name)
    }

    fn unexpected(&self, wanted: &str) -> String {
        let found = match &self.token {
            Token::Name(name) => format!("`{name}`"),
            Token::Literal(_) => "a string or number".to_owned(),
            Token::Symbol(symbol) => format!("`{symbol}`"),
            Token::End => "the end".to_owned(),
        };
        format!("expected {wanted}, found {found}; {SUPPORTED}")
    }
}

fn one_or(mut operands: Vec<Expression>, all: fn(Vec<Expression>) -> Expression) -> Expression {
    if operands.len() == 1 {
        operands.remove(0)
    } else {
        all(operands)
    }
}

fn unknown_name(name: &str) -> String {
    format!(
        "`{name}` is not known here; a variable of the query is `${{alternatives['{name}']}}`, \
         a shell variable is `${name}`, an environment variable of the container `$({name})`"
    )
}

/// At most fifteen digits, which integers and floats represent exactly.
fn number(word: &str) -> Result<Value<'static>, String> {
    let refused = || format!("`{word}` is not a supported number; put quotes around it");
    let digits = word.bytes().filter(u8::is_ascii_digit).count();
    let plain = word
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !plain || digits > 15 {
        return Err(refused());
    }
    if word.contains('.') {
        return word.parse().map(Value::Float).map_err(|_| refused());
    }
    if word.len() > 1 && word.starts_with('0') {
        return Err(refused());
    }
    word.parse().map(Value::Integer).map_err(|_| refused())
}
