//! The body of a PATCH: JSON to meta labels, with the 422 bodies that clients of 2.7.1 know.
//!
//! A query without a required value is reported in the same shape.
//!
//! Pure. The array under `detail`, its `type`, `loc` and `msg` are the contract's
//! (part B section 3.5); the order of the checks is, too.

mod fault;

use serde_json::{Map, Value, json};

/// Reads the body of a PATCH as a JSON object.
///
/// # Errors
/// The value of `detail` in the 422 response.
pub fn object(content_type: Option<&str>, body: &[u8]) -> Result<Map<String, Value>, Value> {
    if body.is_empty() {
        return Err(missing(&json!(["body"])));
    }
    if !is_json(content_type) {
        let text = String::from_utf8_lossy(body);
        return Err(not_an_object(&json!(text)));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Err(missing(&json!(["body"]))),
        Ok(other) => Err(not_an_object(&other)),
        Err(_) => {
            let (at, message) = fault_of(body);
            Err(json!([{
                "type": "json_invalid",
                "loc": ["body", at],
                "msg": "JSON decode error",
                "input": {},
                "ctx": {"error": message},
            }]))
        }
    }
}

/// The position and the kind of the syntax error in a body that is not JSON.
fn fault_of(body: &[u8]) -> (usize, &'static str) {
    let found = match std::str::from_utf8(body) {
        Ok(text) => fault::of(text),
        Err(error) => {
            let before = String::from_utf8_lossy(&body[..error.valid_up_to()]);
            Some((before.chars().count(), "Expecting value"))
        }
    };
    // If there is none, a number was too large for its type.
    found.unwrap_or((0, "Expecting value"))
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
        assert_eq!(object(content_type, body.as_bytes()), Err(expected));
    }

    #[test]
    fn objects_are_accepted() {
        for content_type in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/merge-patch+JSON",
        ] {
            assert_eq!(object(Some(content_type), b"{\"a\": 1}").unwrap()["a"], 1);
        }
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
            (b"{\"a\":1e999}", 0, "Expecting value"),
        ] {
            let error = object(JSON, body).unwrap_err();
            let expected = json!([{
                "type": "json_invalid", "loc": ["body", at], "msg": "JSON decode error",
                "input": {}, "ctx": {"error": message},
            }]);
            assert_eq!(error, expected, "{}", String::from_utf8_lossy(body));
        }
    }
}
