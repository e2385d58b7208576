//! Parses the text of an [`Expression`].
//!
//! Each error names what is expected instead. Evaluation is in [`super`].

mod advice;

use super::{EXPRESSION_DEPTH_MAX, Expression, Filter, VARIABLES_NAME, Value, ValueExpression};

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
    if parser.take("|")? {
        loop {
            filters.extend(parser.filter()?);
            if !parser.take(",")? {
                break;
            }
        }
    }
    // Not `expect`, which would read a token after the brace.
    if !parser.token.is("}") {
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
    parser.expect(":")?;
    parser.expect_end()?;
    Ok(expression)
}

/// Parses the rest of the line after `% for`, with its colon. Returns the two loop variables.
pub(in crate::model::template) fn parse_loop(text: &str) -> Result<[String; 2], String> {
    let mut parser = Parser::new(text, &[])?;
    let mut read = || -> Result<[String; 2], String> {
        let brackets = parser.take("(")?;
        let key = parser.name()?;
        parser.expect(",")?;
        let value = parser.name()?;
        if brackets {
            parser.expect(")")?;
        }
        for word in ["in", VARIABLES_NAME, ".", "items", "(", ")", ":"] {
            parser.expect(word)?;
        }
        parser.expect_end()?;
        Ok([key, value])
    };
    let names = read().map_err(|_| advice::of_loop(text))?;
    if names.iter().any(|name| name == VARIABLES_NAME) {
        return Err(format!(
            "a loop variable cannot be called `{VARIABLES_NAME}`"
        ));
    }
    Ok(names)
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Literal(Value<'static>),
    Symbol(&'static str),
    End,
}

impl Token {
    /// Whether it is this name or symbol.
    fn is(&self, wanted: &str) -> bool {
        match self {
            Self::Name(name) => name == wanted,
            Self::Symbol(symbol) => *symbol == wanted,
            Self::Literal(_) | Self::End => false,
        }
    }
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
        let found = if self.take("if")? {
            let condition = self.or()?;
            self.expect("else")?;
            let otherwise = self.choice()?;
            Expression::Choice(condition.into(), then.into(), otherwise.into())
        } else {
            then
        };
        self.depth -= 1;
        Ok(found)
    }

    fn or(&mut self) -> Result<Expression, String> {
        self.joined("or", Self::and, Expression::Or)
    }

    fn and(&mut self) -> Result<Expression, String> {
        self.joined("and", Self::not, Expression::And)
    }

    /// One operand, or `all` of those that this word joins.
    fn joined(
        &mut self,
        word: &str,
        operand: fn(&mut Self) -> Result<Expression, String>,
        all: fn(Vec<Expression>) -> Expression,
    ) -> Result<Expression, String> {
        let first = operand(self)?;
        if !self.token.is(word) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.take(word)? {
            operands.push(operand(self)?);
        }
        Ok(all(operands))
    }

    fn not(&mut self) -> Result<Expression, String> {
        let mut count = 0_usize;
        while self.take("not")? {
            count += 1;
        }
        let inner = self.comparison()?;
        // Two of them leave only the truth of a value, and so does any other even number.
        let is_twice = count > 0 && count.is_multiple_of(2);
        Ok(inner.negated_if(count > 0).negated_if(is_twice))
    }

    fn comparison(&mut self) -> Result<Expression, String> {
        let left = self.primary()?;
        let differs = self.take("!=")?;
        if differs || self.take("==")? {
            let equal = Expression::Equal(left.into(), self.primary()?.into());
            return Ok(equal.negated_if(differs));
        }
        if self.take("is")? {
            let negated = self.take("not")?;
            let none = Expression::Literal(Value::None);
            if self.advance()? != Token::Literal(Value::None) {
                return Err("`is` supports only `is None` and `is not None`; use `==`".to_owned());
            }
            return Ok(Expression::Equal(left.into(), none.into()).negated_if(negated));
        }
        let negated = self.take("not")?;
        if !negated && !self.token.is("in") {
            return Ok(left);
        }
        self.expect("in")?;
        Ok(self.membership(left)?.negated_if(negated))
    }

    /// The right-hand side of `in`.
    fn membership(&mut self, left: Expression) -> Result<Expression, String> {
        let left = Box::new(left);
        if self.take(VARIABLES_NAME)? {
            if self.token.is("[") || self.token.is(".") {
                let whole = self.variable()?;
                return Ok(Expression::IsPartOf(left, whole.into()));
            }
            return Ok(Expression::IsGiven(left));
        }
        let close = if self.take("[")? {
            "]"
        } else if self.take("(")? {
            ")"
        } else {
            return Ok(Expression::IsPartOf(left, self.primary()?.into()));
        };
        let mut of = Vec::new();
        let mut commas = 0;
        while !self.token.is(close) {
            of.push(self.choice()?);
            if !self.take(",")? {
                break;
            }
            commas += 1;
        }
        self.expect(close)?;
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
                self.expect(")")?;
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
                None => Err(unknown(&name, &self.text[self.at..])),
            },
            Token::Symbol(_) | Token::End => Err(self.unexpected("a value")),
        }
    }

    /// The part after `alternatives`.
    fn variable(&mut self) -> Result<Expression, String> {
        if self.take("[")? {
            let key = self.choice()?;
            if matches!(&key, Expression::Literal(literal) if !matches!(literal, Value::Text(_))) {
                return Err(
                    "the name of a variable must be a string; write `alternatives['x']`".to_owned(),
                );
            }
            self.expect("]")?;
            return Ok(Expression::Variable(key.into()));
        }
        if !self.take(".")? {
            return Err("`alternatives` holds all variables; write `alternatives['x']`".to_owned());
        }
        let name = self.name()?;
        if name != "get" {
            return Err(advice::of_method(&name, self.token.is("(")));
        }
        self.expect("(")?;
        let key = self.choice()?;
        let default = if self.take(",")? {
            self.choice()?
        } else {
            Expression::Literal(Value::None)
        };
        self.expect(")")?;
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

    /// Skips this name or symbol; returns whether it was there.
    fn take(&mut self, wanted: &str) -> Result<bool, String> {
        let found = self.token.is(wanted);
        if found {
            self.advance()?;
        }
        Ok(found)
    }

    fn expect(&mut self, wanted: &str) -> Result<(), String> {
        if self.take(wanted)? {
            return Ok(());
        }
        Err(self.unexpected(&format!("`{wanted}`")))
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

/// The error of a name that is not known, before `rest`.
fn unknown(name: &str, rest: &str) -> String {
    if rest.starts_with(['"', '\'']) {
        return advice::of_prefixed(name, rest);
    }
    let rest = rest.trim_start_matches([' ', '\t']);
    if rest.starts_with('(') {
        return advice::of_call(name, rest);
    }
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
