//! Validates pod templates as the API server does, as far as that is possible without one.
//!
//! `fields.txt` lists the fields of pod templates and their types, `rules.rs` what their values must be;
//! this file walks a manifest by both. It reports what it knows to be wrong: what it does not know, such as
//! admission policies, only a dry run finds. Pure; nothing here decides whether something may start.

mod fields;
mod formats;
mod relations;
mod rules;
#[cfg(test)]
mod tests;

pub(crate) use formats::is_data_key;

use super::template::PLACEHOLDER;
use fields::Kind;
use serde_json::{Map, Value, json};
use std::fmt::{self, Write as _};

/// Maximum number of findings of one manifest; the API server reports as many unknown fields.
pub const FINDINGS_MAX: usize = 100;

/// Begins the sentence about a value of another type.
pub const WRONG_TYPE: &str = "wrong type: ";

/// Something that the API server would report of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Whether the API server refuses the manifest for it; else it ignores the field.
    pub is_fault: bool,
    /// The field, as in `spec.containers[0].image`: that of the pod template, which its author wrote.
    pub path: String,
    /// What is wrong with it, without its path.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Kubernetes has no such field; holds the name that was probably meant.
    Unknown(Option<&'static str>),
    /// The oldest supported Kubernetes does not know it.
    New,
    /// Its value; holds the sentence.
    Value(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.problem {
            // kubectl's words.
            Problem::Unknown(None) => write!(f, "unknown field \"{path}\""),
            Problem::Unknown(Some(name)) => {
                write!(f, "unknown field \"{path}\"; did you mean {name}?")
            }
            Problem::New => write!(f, "{path}: Kubernetes 1.31 does not know this field"),
            Problem::Value(text) => write!(f, "{path}: {text}"),
        }
    }
}

/// What the API server would report of this pod template in a Job's manifest, in the order of its fields.
/// Texts with a [`PLACEHOLDER`] count as any value. At most [`FINDINGS_MAX`] findings.
#[must_use]
pub fn validate(template: &Value) -> Vec<Finding> {
    let mut validator = Validator {
        path: String::new(),
        findings: Vec::new(),
    };
    validator.value(template, Kind::of("@PodTemplateSpec"));
    validator.findings
}

struct Validator {
    path: String,
    findings: Vec<Finding>,
}

impl Validator {
    fn report(&mut self, is_fault: bool, problem: Problem) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                is_fault,
                path: self.path.trim_start_matches('.').to_owned(),
                problem,
            });
        }
    }

    fn fault(&mut self, text: impl Into<String>) {
        self.report(true, Problem::Value(text.into()));
    }

    /// A fault of a field below this one, which may be missing.
    fn fault_of(&mut self, field: &str, text: impl Into<String>) {
        self.below(&format!(".{field}"), |it| it.fault(text));
    }

    /// Does this at a path below.
    fn below(&mut self, step: &str, act: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        act(self);
        self.path.truncate(length);
    }

    fn value(&mut self, value: &Value, kind: Kind) {
        if value.is_null() || is_open(value) {
            return;
        }
        match kind {
            Kind::Object(name) => match value.as_object() {
                Some(map) => self.object(name, map),
                None => self.wrong_type(value, "a map"),
            },
            Kind::List(item) => match value.as_array() {
                Some(items) => {
                    for (place, one) in items.iter().enumerate() {
                        self.below(&format!("[{place}]"), |it| it.item(one, Kind::of(item)));
                    }
                }
                None => self.wrong_type(value, "a list"),
            },
            Kind::Map(item) => match value.as_object() {
                Some(map) => {
                    for (key, one) in map {
                        self.below(&format!("[{key}]"), |it| it.value(one, Kind::of(item)));
                    }
                }
                None => self.wrong_type(value, "a map"),
            },
            Kind::Any => {}
            Kind::Text => self.expect(value.is_string(), value, "a string"),
            Kind::Flag => self.expect(value.is_boolean(), value, "true or false"),
            Kind::Int32 => {
                let fits = value.as_i64().is_some_and(|it| i32::try_from(it).is_ok());
                self.expect(fits, value, "a whole number of at most 32 bits");
            }
            Kind::Int64 => self.expect(
                value.as_i64().is_some(),
                value,
                "a whole number of at most 64 bits",
            ),
            Kind::IntOrText => {
                let fits = value.as_i64().is_some_and(|it| i32::try_from(it).is_ok());
                self.expect(
                    fits || value.is_string(),
                    value,
                    "a whole number or a string",
                );
            }
            Kind::Quantity => {
                let fits = formats::quantity(value).is_some();
                self.expect(fits, value, "a quantity such as 500m, 2 or 64Mi");
            }
            Kind::Time => {
                let fits = value.as_str().is_some_and(formats::is_time);
                self.expect(fits, value, "a time such as 2026-01-31T12:00:00Z");
            }
        }
    }

    /// Null in a list is an empty map, where those are its items.
    fn item(&mut self, value: &Value, kind: Kind) {
        match kind {
            Kind::Object(name) if value.is_null() => self.object(name, &Map::new()),
            kind => self.value(value, kind),
        }
    }

    fn expect(&mut self, fits: bool, value: &Value, expected: &str) {
        if !fits {
            self.wrong_type(value, expected);
        }
    }

    fn wrong_type(&mut self, value: &Value, expected: &str) {
        let found = match value {
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a map".to_owned(),
            Value::String(text) => format!("the string {}", quoted(text)),
            other => other.to_string(),
        };
        let fix = match (value, expected) {
            (Value::Bool(_) | Value::Number(_), "a string") => "; put quotes around it",
            (Value::String(_), expected) if expected.starts_with("a whole") => {
                "; remove the quotes"
            }
            (Value::String(_), "true or false") => "; remove the quotes",
            _ => "",
        };
        self.fault(format!("{WRONG_TYPE}{found}; expected {expected}{fix}"));
    }

    fn object(&mut self, name: &'static str, map: &Map<String, Value>) {
        for (key, value) in map {
            if key.contains(PLACEHOLDER) {
                continue;
            }
            let Some(field) = fields::find(name, key) else {
                let meant = fields::similar(name, key).filter(|meant| !map.contains_key(*meant));
                self.below(&format!(".{key}"), |it| {
                    it.report(false, Problem::Unknown(meant));
                });
                continue;
            };
            self.below(&format!(".{key}"), |it| {
                if field.is_new && !value.is_null() {
                    it.report(false, Problem::New);
                }
                let before = it.findings.len();
                it.value(value, field.kind);
                // A value of another type has been reported.
                if it.findings.len() == before && !value.is_null() && !is_open(value) {
                    rules::check(it, name, field.name, value);
                }
            });
        }
        for field in rules::required(name) {
            let is_missing = |value: &Value| {
                value.is_null() || *value == "" || *value == 0 || *value == json!([])
            };
            if map.get(*field).is_none_or(is_missing)
                && !map.keys().any(|key| key.contains(PLACEHOLDER))
            {
                self.fault_of(field, "Required value");
            }
        }
        relations::check(self, name, map);
    }
}

/// Whether its value is not known yet.
fn is_open(value: &Value) -> bool {
    value
        .as_str()
        .is_some_and(|text| text.contains(PLACEHOLDER))
}

/// A text in quotes, at most its first 80 characters.
fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    let mut quoted = String::new();
    write!(quoted, "{short:?}").expect("a string takes everything");
    quoted
}
