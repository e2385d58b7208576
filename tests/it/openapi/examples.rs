//! The examples of the document: each matches its schema, and none is missing.
//!
//! Clients that are generated from the document are tried with them (`tests/openapi/check`), so a
//! response without an example is one that no such client was seen to parse. The document is only
//! read here; what the service really returns is compared with it in the file above.

use std::collections::BTreeSet;

use serde_json::Value;

use super::schema::{faults, resolved};
use super::{PARSED, codes_in, operations};

/// Every place in the document that has examples, as schema and example.
fn examples<'a>(at: &str, value: &'a Value, found: &mut Vec<(String, &'a Value, &'a Value)>) {
    if let Some(object) = value.as_object() {
        let schema = &value["schema"];
        if schema.is_object() {
            let before = found.len();
            if let Some(one) = object.get("example") {
                found.push((at.to_owned(), schema, one));
            }
            for (name, one) in value["examples"].as_object().into_iter().flatten() {
                found.push((format!("{at}/{name}"), schema, &one["value"]));
            }
            assert!(found.len() > before, "{at} has a schema and no example");
        }
        for (name, inner) in object {
            examples(&format!("{at}/{name}"), inner, found);
        }
    }
    for (number, inner) in value.as_array().into_iter().flatten().enumerate() {
        examples(&format!("{at}/{number}"), inner, found);
    }
}

#[test]
fn each_example_matches_its_schema() {
    let mut found = Vec::new();
    for part in ["paths", "components"] {
        examples(part, &PARSED[part], &mut found);
    }
    assert!(found.len() > 80, "only {} examples", found.len());
    let wrong: Vec<String> = found
        .into_iter()
        .flat_map(|(at, schema, example)| faults(&PARSED, schema, example, &at))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What `code` is in an example, in either shape of an error.
fn code_of(example: &Value) -> Option<&str> {
    let code = [&example["code"], &example["detail"]["code"]];
    code.into_iter().find_map(Value::as_str)
}

#[test]
fn each_code_of_each_response_has_an_example() {
    let (mut missing, mut count) = (Vec::new(), 0);
    for (path, method, operation) in operations() {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let content = &resolved(&PARSED, response)["content"]["application/json"];
            let mut codes = BTreeSet::new();
            codes_in(&content["schema"], &mut codes);
            let mut found = Vec::new();
            examples("", content, &mut found);
            let shown: Vec<&str> = found.iter().filter_map(|(.., one)| code_of(one)).collect();
            count += codes.len();
            let absent = codes.iter().filter(|code| !shown.contains(&code.as_str()));
            missing.extend(absent.map(|code| format!("{method} {path} {status}: {code}")));
        }
    }
    assert!(count > 300, "only {count} codes");
    assert!(missing.is_empty(), "no example:\n{}", missing.join("\n"));
}

/// A client that finds a schema there parses the body, which is empty.
#[test]
fn responses_to_head_have_no_body() {
    for (path, _, operation) in operations().iter().filter(|one| one.1 == "head") {
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let content = &resolved(&PARSED, response)["content"];
            assert!(content.is_null(), "HEAD {path} {status}: {content}");
        }
    }
}
