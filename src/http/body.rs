//! The body of a PATCH: JSON to meta labels, with the 422 bodies that clients of 2.7.1 know.
//!
//! The same shape tells that a query lacks what it must have.
//!
//! Pure. The array under `detail`, its `type`, `loc` and `msg` are the contract's
//! (part B section 3.5); the order of the checks is, too.

use serde_json::{Map, Value, json};

/// Reads the body of a PATCH as a JSON object.
///
/// # Errors
/// The value of `detail` in the 422 answer.
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
        Err(error) => Err(json!([{
            "type": "json_invalid",
            "loc": ["body", offset(body, &error)],
            "msg": "JSON decode error",
            "input": {},
            "ctx": {"error": original_words(&error.to_string())},
        }])),
    }
}

/// What the original's parser says where ours says this.
fn original_words(ours: &str) -> &'static str {
    let table = [
        (
            "key must be a string",
            "Expecting property name enclosed in double quotes",
        ),
        (
            "trailing comma",
            "Expecting property name enclosed in double quotes",
        ),
        (
            "EOF while parsing an object",
            "Expecting property name enclosed in double quotes",
        ),
        ("expected `:`", "Expecting ':' delimiter"),
        ("expected `,`", "Expecting ',' delimiter"),
        ("EOF while parsing a list", "Expecting ',' delimiter"),
        (
            "EOF while parsing a string",
            "Unterminated string starting at",
        ),
        ("control character", "Invalid control character at"),
        ("escape", "Invalid \\\\escape"),
        ("trailing characters", "Extra data"),
    ];
    let row = table.iter().find(|(said, _)| ours.contains(said));
    row.map_or("Expecting value", |(_, words)| words)
}

/// The value of `detail` where something is missing at this place.
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

/// Where in the body the trouble is, counted in bytes from 0: where reading ended, or where the
/// string began that has no end.
fn offset(body: &[u8], error: &serde_json::Error) -> usize {
    if error.is_eof() {
        let in_string = error.to_string().contains("a string");
        return last_quote(body).filter(|_| in_string).unwrap_or(body.len());
    }
    let lines = body.split_inclusive(|byte| *byte == b'\n');
    let before: usize = lines
        .take(error.line().saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    (before + error.column().saturating_sub(1)).min(body.len())
}

/// The last quote that is not escaped.
fn last_quote(body: &[u8]) -> Option<usize> {
    let is_escaped = |at: usize| {
        let slashes = body[..at].iter().rev().take_while(|byte| **byte == b'\\');
        slashes.count() % 2 == 1
    };
    (0..body.len()).rfind(|at| body[*at] == b'"' && !is_escaped(*at))
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
    fn objects_are_taken() {
        for content_type in [
            "application/json",
            "application/json; charset=utf-8",
            "Application/merge-patch+JSON",
        ] {
            assert_eq!(object(Some(content_type), b"{\"a\": 1}").unwrap()["a"], 1);
        }
    }

    #[test]
    fn what_is_no_object_is_named_as_by_the_original() {
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
    fn broken_json_says_where_and_what_in_the_words_of_the_original() {
        for (body, at, words) in [
            (
                "{a}",
                1,
                "Expecting property name enclosed in double quotes",
            ),
            ("{", 1, "Expecting property name enclosed in double quotes"),
            ("{\"a\"}", 4, "Expecting ':' delimiter"),
            ("{\"a\":1 2}", 7, "Expecting ',' delimiter"),
            ("{\"a\":x}", 5, "Expecting value"),
            ("{} {}", 3, "Extra data"),
            ("{\"a\":\"\\q\"}", 7, "Invalid \\\\escape"),
            ("{\"a\":\"\n\"}", 7, "Invalid control character at"),
            ("{\"a\":\"b", 5, "Unterminated string starting at"),
        ] {
            let error = object(JSON, body.as_bytes()).unwrap_err();
            assert_eq!(error[0]["ctx"]["error"], words, "{body}");
            assert_eq!(error[0]["loc"], json!(["body", at]), "{body}");
            assert_eq!(error[0]["msg"], "JSON decode error");
        }
        let error = object(JSON, b"{\n\"a\": \xff}").unwrap_err();
        assert_eq!(error[0]["type"], "json_invalid");
    }
}
