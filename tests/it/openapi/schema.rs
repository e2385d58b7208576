//! A validator for the part of JSON Schema (2020-12) that our OpenAPI document uses. An unknown
//! keyword fails, so that nothing in the document goes unchecked.
//!
//! It is stricter than the standard in one point: an object with `type: object` may have only the
//! named properties, unless `additionalProperties` permits others.

use config_controller::model::duration::parse_duration;
use config_controller::model::names::InstanceName;
use serde_json::Value;

/// Keywords that do not constrain values.
const REMARKS: [&str; 5] = ["description", "default", "deprecated", "x-codes", "$ref"];

/// The pattern of the name of an owner.
const OWNER_PATTERN: &str = "^[!-~]{1,63}$";

/// The patterns that the document has: what [`parse_duration`] takes, if it is not too long, and what
/// [`InstanceName`] takes.
const DURATION_PATTERN: &str = "^[0-9]+(ms|s|m|h)?$";
const NAME_PATTERN: &str = r"^(?!\.{1,2}$)(?!\s)[^/?#%\\\u0000-\u001f\u007f-\u009f]+(?<!\s)$";

/// What is wrong with the value at that place; the empty list if nothing is.
pub(crate) fn faults(document: &Value, schema: &Value, value: &Value, place: &str) -> Vec<String> {
    let mut check = Check {
        document,
        faults: Vec::new(),
    };
    check.value(schema, value, place);
    check.faults
}

/// The value itself, or what its `$ref` names.
pub(crate) fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let Some(target) = value["$ref"].as_str() else {
        return value;
    };
    let found = target.strip_prefix('#').and_then(|at| document.pointer(at));
    found.unwrap_or_else(|| panic!("nothing is at {target}"))
}

struct Check<'a> {
    document: &'a Value,
    faults: Vec<String>,
}

impl Check<'_> {
    fn expect(&mut self, holds: bool, place: &str, what: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(format!("{place}: {}", what()));
        }
    }

    fn passes(&self, schema: &Value, value: &Value) -> bool {
        faults(self.document, schema, value, "").is_empty()
    }

    fn value(&mut self, schema: &Value, value: &Value, place: &str) {
        if schema["$ref"].is_string() {
            self.value(resolved(self.document, schema), value, place);
        }
        let keywords = schema.as_object().into_iter().flatten();
        for (keyword, rule) in keywords {
            match keyword.as_str() {
                "type" => {
                    let is = types(rule).any(|wanted| is_of_type(value, wanted));
                    self.expect(is, place, || format!("{value} is not {rule}"));
                }
                "const" => self.expect(value == rule, place, || format!("{value} is not {rule}")),
                "enum" => {
                    let is = list(rule).any(|one| one == value);
                    self.expect(is, place, || format!("{value} is not one of {rule}"));
                }
                "anyOf" | "oneOf" => self.alternatives(keyword, rule, value, place),
                "not" => {
                    let is = !self.passes(rule, value);
                    self.expect(is, place, || format!("{value} is {rule}"));
                }
                "minLength" | "maxLength" | "pattern" | "format" => {
                    self.text(keyword, rule, value, place);
                }
                "minimum" => {
                    let is = value.as_f64().is_none_or(|n| Some(n) >= rule.as_f64());
                    self.expect(is, place, || format!("{value} is below {rule}"));
                }
                "maximum" => {
                    let is = value.as_f64().is_none_or(|n| Some(n) <= rule.as_f64());
                    self.expect(is, place, || format!("{value} is above {rule}"));
                }
                "required" | "properties" | "additionalProperties" | "propertyNames" => {
                    self.object(schema, keyword, value, place);
                }
                "items" => {
                    for (at, item) in list(value).enumerate() {
                        self.value(rule, item, &format!("{place}[{at}]"));
                    }
                }
                "minItems" => {
                    let is = list(value).count() as u64 >= rule.as_u64().expect("a count");
                    self.expect(is, place, || format!("{value} has too few items"));
                }
                known if REMARKS.contains(&known) => {}
                unknown => panic!("{place}: this validator does not know the keyword '{unknown}'"),
            }
        }
        let closed = schema["type"] == "object" && schema["additionalProperties"].is_null();
        let free = !schema["propertyNames"].is_null();
        for (name, _) in object(value).filter(|_| closed && !free) {
            let is = schema["properties"].get(name).is_some();
            self.expect(is, place, || format!("'{name}' is not described"));
        }
    }

    fn alternatives(&mut self, keyword: &str, rule: &Value, value: &Value, place: &str) {
        let fit = list(rule).filter(|one| self.passes(one, value)).count();
        let is = fit == 1 || (keyword == "anyOf" && fit > 0);
        self.expect(is, place, || {
            format!("{fit} of {keyword} {rule} fit {value}")
        });
    }

    fn text(&mut self, keyword: &str, rule: &Value, value: &Value, place: &str) {
        let Some(text) = value.as_str() else {
            return;
        };
        let length = text.chars().count() as u64;
        let is = match (keyword, rule.as_str()) {
            ("minLength", _) => rule.as_u64().is_some_and(|least| length >= least),
            ("maxLength", _) => rule.as_u64().is_some_and(|most| length <= most),
            ("pattern", Some(NAME_PATTERN)) => {
                InstanceName::new(text).is_ok_and(|name| name.check_in_urls().is_ok())
            }
            ("pattern", Some(OWNER_PATTERN)) => {
                (1..=63).contains(&length) && text.bytes().all(|byte| byte.is_ascii_graphic())
            }
            ("pattern", Some(DURATION_PATTERN)) => parse_duration(text).is_some(),
            ("format", Some("date-time")) => text.parse::<jiff::Timestamp>().is_ok(),
            _ => panic!("{place}: this validator does not know {keyword}: {rule}"),
        };
        self.expect(is, place, || {
            format!("{value} is against {keyword}: {rule}")
        });
    }

    fn object(&mut self, schema: &Value, keyword: &str, value: &Value, place: &str) {
        let rule = &schema[keyword];
        match keyword {
            "required" => {
                for name in list(rule).filter_map(Value::as_str) {
                    let is = !value.is_object() || value.get(name).is_some();
                    self.expect(is, place, || format!("'{name}' is missing"));
                }
            }
            "propertyNames" => {
                for (name, _) in object(value) {
                    self.value(rule, &Value::from(name), &format!("{place}, the key"));
                }
            }
            _ => {
                for (name, inner) in object(value) {
                    let named = schema["properties"].get(name);
                    let rule = match keyword {
                        "properties" => named,
                        _ if rule.is_object() && named.is_none() => Some(rule),
                        _ => None,
                    };
                    if let Some(rule) = rule {
                        self.value(rule, inner, &format!("{place}.{name}"));
                    }
                }
            }
        }
    }
}

fn types(rule: &Value) -> impl Iterator<Item = &str> {
    let one = rule.as_str();
    one.into_iter().chain(list(rule).filter_map(Value::as_str))
}

fn is_of_type(value: &Value, wanted: &str) -> bool {
    match wanted {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("'{other}' is no type"),
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn object(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(name, value)| (name.as_str(), value))
}

#[test]
fn the_validator_reports_violations() {
    use serde_json::json;
    let document = json!({"s": {"type": "object", "required": ["a"], "properties": {
        "a": {"enum": ["x", "y"]}, "n": {"type": ["integer", "null"], "minimum": 2, "maximum": 9},
        "t": {"type": "string", "format": "date-time"}, "l": {"type": "array", "minItems": 1, "items": {"const": 1}},
    }}, "free": {"type": "object", "additionalProperties": {"type": "string"}, "propertyNames": {"not": {"const": "ip"}}}});
    let narrow = json!({"$ref": "#/s", "properties": {"a": {"enum": ["x"]}}});
    let free = json!({"$ref": "#/free"});
    let either = json!({"anyOf": [narrow, free]});
    let one = json!({"oneOf": [{"type": "integer"}, {"type": "number"}]});
    for (schema, value, good) in [
        (
            &narrow,
            json!({"a": "x", "n": 2, "t": "2026-05-01T10:00:00Z", "l": [1, 1]}),
            true,
        ),
        (&narrow, json!({"a": "x", "n": null}), true),
        (&narrow, json!({"a": "y"}), false),
        (&narrow, json!({"a": "z"}), false),
        (&narrow, json!({}), false),
        (&narrow, json!([]), false),
        (&narrow, json!({"a": "x", "n": 1}), false),
        (&narrow, json!({"a": "x", "n": 2.5}), false),
        (&narrow, json!({"a": "x", "n": 10}), false),
        (&narrow, json!({"a": "x", "t": "yesterday"}), false),
        (&narrow, json!({"a": "x", "l": []}), false),
        (&narrow, json!({"a": "x", "l": [1, 2]}), false),
        (&narrow, json!({"a": "x", "b": 1}), false),
        (&free, json!({"k": "v"}), true),
        (&free, json!({"k": 1}), false),
        (&free, json!({"ip": "v"}), false),
        (&either, json!({"a": "x", "n": 2}), true),
        (&either, json!({"a": "z"}), true),
        (&either, json!({"a": 1}), false),
        (&one, json!(1.5), true),
        (&one, json!(1), false),
    ] {
        let faults = faults(&document, schema, &value, "it");
        assert_eq!(faults.is_empty(), good, "{schema} {value}: {faults:?}");
    }
}
