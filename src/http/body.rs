//! The body of a PATCH: JSON to meta labels, with the 422 bodies that clients of 2.7.1 know.
//!
//! A query without a required value is reported in the same shape.
//!
//! Pure. The array under `detail`, its `type`, `loc` and `msg` are the contract's
//! (part B section 3.5); the order of the checks is, too.

mod encoding;
mod fault;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use std::fmt;

/// Reads the body of a PATCH as a JSON object. Numbers in it are texts, digit for digit. Of one with more
/// than `keys_max` keys it keeps one more than that, and of arrays and objects in it nothing: only their
/// syntax is checked, because a body of thousands of values would take milliseconds.
///
/// # Errors
/// The value of `detail` in the 422 response.
pub fn object(
    content_type: Option<&str>,
    body: &[u8],
    keys_max: usize,
) -> Result<Map<String, Value>, Value> {
    if body.is_empty() {
        return Err(missing(&json!(["body"])));
    }
    if !is_json(content_type) {
        let text = String::from_utf8_lossy(body);
        return Err(not_an_object(&json!(text)));
    }
    let invalid = |(at, message): (Option<usize>, &str)| {
        let location = at.map_or_else(|| json!(["body"]), |at| json!(["body", at]));
        json!([{
            "type": "json_invalid",
            "loc": location,
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": message},
        }])
    };
    let text = encoding::decode(body).map_err(|at| invalid((Some(at), "Expecting value")))?;
    match read(&text, keys_max) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Err(missing(&json!(["body"]))),
        Ok(other) => Err(not_an_object(&other)),
        // The other parser rounds numbers in another way: one is as large as can be.
        Err(_) => Err(invalid(
            fault::of(&text).map_or((None, fault::TOO_LARGE), |(at, message)| {
                (Some(at), message)
            }),
        )),
    }
}

fn read(text: &str, keys_max: usize) -> serde_json::Result<Value> {
    if !text.trim_ascii_start().starts_with('{') {
        return serde_json::from_str(text);
    }
    let mut reader = serde_json::Deserializer::from_str(text);
    let object = reader.deserialize_map(FirstKeys(keys_max.saturating_add(1)))?;
    reader.end()?;
    Ok(Value::Object(object))
}

/// The first so many keys of an object.
struct FirstKeys(usize);

impl<'de> Visitor<'de> for FirstKeys {
    type Value = Map<String, Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut kept = Map::new();
        while kept.len() < self.0 {
            let Some((key, value)) = entries.next_entry::<String, &RawValue>()? else {
                return Ok(kept);
            };
            kept.insert(key, shallow(value.get()).map_err(A::Error::custom)?);
        }
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(kept)
    }
}

/// A value from its JSON: a number as its text, an array or an object without what is in it.
fn shallow(json: &str) -> serde_json::Result<Value> {
    if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
        return Ok(json.into());
    }
    serde_json::from_str(json).map(|Shallow(value)| value)
}

/// A value that is no number.
struct Shallow(Value);

impl<'de> Deserialize<'de> for Shallow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShallowVisitor).map(Self)
    }
}

struct ShallowVisitor;

impl<'de> Visitor<'de> for ShallowVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(flag.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(json!([]))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(json!({}))
    }
}

/// The value of `detail` if a value is missing at this location.
pub fn missing(location: &Value) -> Value {
    json!([{"type": "missing", "loc": location, "msg": "Field required", "input": null}])
}

fn not_an_object(input: &Value) -> Value {
    json!([{
        "type": "dict_type",
        "loc": ["body"],
        "msg": "Input should be a valid dictionary",
        "input": input,
    }])
}

/// `application/json`, or anything under `application/` that ends with `+json`.
fn is_json(content_type: Option<&str>) -> bool {
    let media_type = content_type
        .unwrap_or("")
        .split(';')
        .next()
        .unwrap_or("")
        .trim();
    let media_type = media_type.to_ascii_lowercase();
    media_type
        .strip_prefix("application/")
        .is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Option<&str> = Some("application/json");

    #[track_caller]
    fn check_refused(content_type: Option<&str>, body: &str, expected: Value) {
        assert_eq!(object(content_type, body.as_bytes(), 9), Err(expected));
    }

    #[test]
    fn objects_are_accepted() {
        for content_type in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/merge-patch+JSON",
        ] {
            let read = object(Some(content_type), b"{\"a\": 1}", 9).unwrap();
            assert_eq!(read["a"], "1");
        }
    }

    #[test]
    fn of_many_keys_the_first_are_kept_and_all_are_checked() {
        let keys = |body: &str| Some(object(JSON, body.as_bytes(), 2).ok()?.len());
        assert_eq!(keys(" {}"), Some(0));
        assert_eq!(keys(r#"{"a": 1, "b": 2}"#), Some(2));
        assert_eq!(keys(r#"{"a": 1, "b": 2, "c": 3}"#), Some(3));
        assert_eq!(keys(r#"{"a": 1, "b": 2, "c": 3, "d": [{}]}"#), Some(3));
        assert_eq!(keys(r#"{"a": 1, "a": 2, "a": 3, "a": 4}"#), Some(1));
        assert_eq!(keys(r#"{"a": 1, "b": 2, "c": 3, "d": [{}}"#), None);
        assert_eq!(keys(r#"{"a": 1, "b": 2, "c": 3, "d": 4"#), None);
        assert_eq!(keys(r#"{"a": 1, "b": 2, "c": 3, "d": 4} x"#), None);
    }

    #[test]
    fn scalars_are_kept_as_they_are_and_structures_without_what_is_in_them() {
        let body = r#"{"a": "\u00e9", "b": -0, "c": 1.50, "d": 12345678901234567890123, "e": null,
            "f": true, "g": [1, [2]], "h": {"i": {}}, "i": 1e999}"#;
        let expected = json!({
            "a": "é", "b": "-0", "c": "1.50", "d": "12345678901234567890123", "e": null, "f": true,
            "g": [], "h": {}, "i": "1e999",
        });
        assert_eq!(
            object(JSON, body.as_bytes(), 9).map(Value::Object),
            Ok(expected)
        );
    }

    #[test]
    fn bodies_that_are_not_objects_are_reported_as_by_2_7_1() {
        let missing =
            json!([{"type":"missing","loc":["body"],"msg":"Field required","input":null}]);
        check_refused(JSON, "", missing.clone());
        check_refused(JSON, "null", missing);
        let dict = |input: Value| json!([{"type":"dict_type","loc":["body"],"msg":"Input should be a valid dictionary","input":input}]);
        check_refused(JSON, "[]", dict(json!([])));
        check_refused(JSON, "\"x\"", dict(json!("x")));
        check_refused(Some("text/plain"), "{}", dict(json!("{}")));
        check_refused(None, "{}", dict(json!("{}")));
    }

    #[test]
    fn malformed_json_is_reported_with_the_position_and_message_of_2_7_1() {
        for (body, at, message) in [
            (
                &b"{a}"[..],
                1,
                "Expecting property name enclosed in double quotes",
            ),
            (b"{} {}", 3, "Extra data"),
            (b"{\"a\":\"\\q\"}", 6, "Invalid \\escape"),
            (b"{\n\"a\": \xff}", 7, "Expecting value"),
            (b"{\"a\":01}", 6, "Expecting ',' delimiter"),
            (b"\xff\xfe{\0a", 1, "Expecting value"),
            (
                br#"{"a": "\u00e9\ud800"}"#,
                13,
                "Unpaired surrogate escape; send the character itself",
            ),
        ] {
            let error = object(JSON, body, 9).unwrap_err();
            let expected = json!([{
                "type": "json_invalid", "loc": ["body", at], "msg": "JSON decode error",
                "input": {}, "ctx": {"error": message},
            }]);
            assert_eq!(error, expected, "{}", String::from_utf8_lossy(body));
        }
    }
}
