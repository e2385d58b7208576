//! The expressions of templates, in `${…}` and after `% if`, and their evaluation.
//!
//! A subset of Python with Python's semantics: `alternatives['x']`, `alternatives.get('x',
//! 'default')`, loop variables, literals including `None`, comparisons, `in`, `and`, `or`, `not`,
//! `a if b else c`, and filters. There are no other calls, no attributes and no arithmetic. An
//! expression only selects among values, so it cannot loop or reach anything outside.

mod parse;

pub(super) use parse::{parse_condition, parse_loop, parse_value};

use super::{Problem, RenderError, Variables};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::borrow::Cow;
use std::cmp::Ordering;

/// Maximum nesting depth of an expression.
pub const EXPRESSION_DEPTH_MAX: usize = 32;

/// The name of the map of variables in templates.
pub(super) const VARIABLES_NAME: &str = "alternatives";

/// An expression that has been checked.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expression {
    Literal(Value<'static>),
    /// A loop variable, by its index among those in scope.
    Local(usize),
    /// `alternatives[key]`
    Variable(Box<Self>),
    /// `alternatives.get(key, default)`
    VariableOr(Box<Self>, Box<Self>),
    /// `key in alternatives`
    IsGiven(Box<Self>),
    /// `a in b`, for strings
    IsPartOf(Box<Self>, Box<Self>),
    /// `a in (b, c)`
    IsOneOf(Box<Self>, Vec<Self>),
    Equal(Box<Self>, Box<Self>),
    Not(Box<Self>),
    And(Vec<Self>),
    Or(Vec<Self>),
    /// `a if condition else b`: condition, `a`, `b`
    Choice(Box<Self>, Box<Self>, Box<Self>),
}

/// `${expression | filters}`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ValueExpression {
    pub(super) expression: Expression,
    pub(super) filters: Vec<Filter>,
}

/// A filter applied to a value's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filter {
    /// `u`: URL-encodes
    Url,
    /// `h`, `x`: escapes for HTML and XML
    Html,
    /// `trim`: removes surrounding white space
    Trim,
}

/// A literal in the template, or a value during evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Cow<'a, str>),
}

/// Where an expression is, and the variables that it can use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope<'a> {
    pub(super) source_name: &'a str,
    pub(super) line: u32,
    pub(super) variables: &'a Variables,
    pub(super) locals: &'a [&'a str],
}

impl Scope<'_> {
    /// A value that must be a string is not one.
    fn not_text(self) -> RenderError {
        let problem = "`in` and `alternatives[…]` require strings, but a value here is not one; \
                       give `get` a default";
        let problem = Problem::Expression(problem.to_owned());
        RenderError::invalid(self.source_name, self.line, problem)
    }
}

impl ValueExpression {
    /// The text that replaces `${…}`.
    pub(super) fn text(&self, scope: Scope<'_>) -> Result<String, RenderError> {
        let mut text = self.expression.evaluate(scope)?.into_text();
        for filter in &self.filters {
            text = filter.apply(&text);
        }
        Ok(text)
    }
}

impl Expression {
    fn negated_if(self, negated: bool) -> Self {
        if negated {
            Self::Not(self.into())
        } else {
            self
        }
    }

    /// Whether the expression is true in the sense of Python.
    pub(super) fn is_true(&self, scope: Scope<'_>) -> Result<bool, RenderError> {
        Ok(self.evaluate(scope)?.is_true())
    }

    fn evaluate<'a>(&'a self, scope: Scope<'a>) -> Result<Value<'a>, RenderError> {
        match self {
            Self::Literal(literal) => Ok(literal.clone()),
            Self::Local(place) => Ok(Value::Text(scope.locals[*place].into())),
            Self::Variable(key) => {
                let Value::Text(name) = key.evaluate(scope)? else {
                    return Err(scope.not_text());
                };
                match scope.variables.get(&name) {
                    Some(text) => Ok(Value::Text(text.into())),
                    None => Err(RenderError::VariableMissing {
                        name: name.into_owned(),
                    }),
                }
            }
            Self::VariableOr(key, default) => {
                let key = key.evaluate(scope)?;
                // As in Python, the default is always evaluated.
                let default = default.evaluate(scope)?;
                Ok(key.find(scope.variables).unwrap_or(default))
            }
            Self::IsGiven(key) => {
                let key = key.evaluate(scope)?;
                Ok(Value::Bool(key.find(scope.variables).is_some()))
            }
            Self::IsPartOf(part, whole) => match (part.evaluate(scope)?, whole.evaluate(scope)?) {
                (Value::Text(part), Value::Text(whole)) => {
                    Ok(Value::Bool(whole.contains(part.as_ref())))
                }
                _ => Err(scope.not_text()),
            },
            Self::IsOneOf(one, of) => {
                let one = one.evaluate(scope)?;
                let mut found = false;
                for other in of {
                    found |= one.equals(&other.evaluate(scope)?);
                }
                Ok(Value::Bool(found))
            }
            Self::Equal(left, right) => {
                let equal = left.evaluate(scope)?.equals(&right.evaluate(scope)?);
                Ok(Value::Bool(equal))
            }
            Self::Not(inner) => Ok(Value::Bool(!inner.is_true(scope)?)),
            Self::And(operands) => decide(operands, scope, false),
            Self::Or(operands) => decide(operands, scope, true),
            Self::Choice(condition, then, otherwise) => {
                let holds = condition.is_true(scope)?;
                let chosen = if holds { then } else { otherwise };
                chosen.evaluate(scope)
            }
        }
    }

    /// Calls `seen` for each variable with a fixed name. `always` means that the expression is always
    /// evaluated.
    pub(super) fn each_variable(&self, always: bool, seen: &mut impl FnMut(Seen<'_>)) {
        match self {
            Self::Literal(_) | Self::Local(_) => {}
            Self::Variable(key) => key.each_name(always, always, None, seen),
            Self::VariableOr(key, default) => {
                key.each_name(always, false, default.fixed_text(), seen);
                default.each_variable(always, seen);
            }
            Self::IsGiven(key) => key.each_name(always, false, None, seen),
            Self::IsPartOf(left, right) | Self::Equal(left, right) => {
                left.each_variable(always, seen);
                right.each_variable(always, seen);
            }
            Self::IsOneOf(one, of) => {
                one.each_variable(always, seen);
                of.iter()
                    .for_each(|other| other.each_variable(always, seen));
            }
            Self::Not(inner) => inner.each_variable(always, seen),
            Self::And(operands) | Self::Or(operands) => {
                // `alternatives.get(key) or 'text'` has a default, too.
                if let (Self::Or(_), [Self::VariableOr(key, _), last]) = (self, &operands[..]) {
                    key.each_name(always, false, last.fixed_text(), seen);
                }
                for (place, operand) in operands.iter().enumerate() {
                    operand.each_variable(always && place == 0, seen);
                }
            }
            Self::Choice(condition, then, otherwise) => {
                condition.each_variable(always, seen);
                then.each_variable(false, seen);
                otherwise.each_variable(false, seen);
            }
        }
    }

    /// As [`Self::each_variable`], for an expression that is the name of a variable.
    fn each_name(
        &self,
        always: bool,
        required: bool,
        default: Option<String>,
        seen: &mut impl FnMut(Seen<'_>),
    ) {
        match self {
            Self::Literal(Value::Text(name)) => seen(Seen {
                name,
                required,
                default,
            }),
            other => other.each_variable(always, seen),
        }
    }

    /// The text that it stands for, if that is always the same.
    fn fixed_text(&self) -> Option<String> {
        match self {
            Self::Literal(Value::None) => None,
            Self::Literal(value) => Some(value.clone().into_text()),
            _ => None,
        }
    }
}

/// A variable that an expression uses.
pub(super) struct Seen<'a> {
    pub(super) name: &'a str,
    /// Whether it must be given.
    pub(super) required: bool,
    /// What stands for it if it is not given, where that is a fixed text.
    pub(super) default: Option<String>,
}

/// The first operand with truth `wanted`, else the last, as Python's `and` and `or` select.
fn decide<'a>(
    operands: &'a [Expression],
    scope: Scope<'a>,
    wanted: bool,
) -> Result<Value<'a>, RenderError> {
    let mut value = Value::None;
    for operand in operands {
        value = operand.evaluate(scope)?;
        if value.is_true() == wanted {
            break;
        }
    }
    Ok(value)
}

impl<'a> Value<'a> {
    fn find<'v>(&self, variables: &'v Variables) -> Option<Value<'v>> {
        match self {
            // Names are strings; other values are never one.
            Self::Text(name) => variables.get(name).map(|text| Value::Text(text.into())),
            _ => None,
        }
    }

    fn is_true(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(value) => *value,
            Self::Integer(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Text(text) => !text.is_empty(),
        }
    }

    fn as_number(&self) -> Option<f64> {
        match self {
            Self::Bool(value) => Some(f64::from(u8::from(*value))),
            // Literals have at most fifteen digits, so the cast is exact.
            Self::Integer(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::None | Self::Text(_) => None,
        }
    }

    fn equals(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::None, Value::None) => true,
            (Self::Text(left), Value::Text(right)) => left == right,
            _ => match (self.as_number(), other.as_number()) {
                (Some(left), Some(right)) => left.partial_cmp(&right) == Some(Ordering::Equal),
                _ => false,
            },
        }
    }

    /// The result of Python's `str()`.
    fn into_text(self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => float_text(value),
            Self::Text(text) => text.into_owned(),
        }
    }
}

/// A float as Python formats it: the exponent, from 1e-05 down, has at least two digits.
fn float_text(value: f64) -> String {
    let text = format!("{value:?}");
    match text.split_once("e-") {
        Some((mantissa, exponent)) => format!("{mantissa}e-{exponent:0>2}"),
        None => text,
    }
}

/// The characters that Python's `strip()` removes: the white space of Unicode and four separators of ASCII.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// What the filter `u` encodes: all but the unreserved characters (RFC 3986 §2.3).
const RESERVED: AsciiSet = NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl Filter {
    fn apply(self, text: &str) -> String {
        match self {
            Self::Trim => text.trim_matches(is_blank).to_owned(),
            Self::Html => text
                .replace('&', "&amp;")
                .replace('<', "&lt;")
                .replace('>', "&gt;")
                .replace('"', "&#34;")
                .replace('\'', "&#39;"),
            Self::Url => utf8_percent_encode(text, &RESERVED)
                .to_string()
                .replace("%20", "+"),
        }
    }
}
