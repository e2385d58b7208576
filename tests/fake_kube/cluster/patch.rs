//! Patches: JSON merge patch (RFC 7386), and JSON patch (RFC 6902) as the real API server applies it.
//!
//! Pure functions over documents. Versions, validation and the write are in `write`.

use serde_json::{Map, Value};

use super::status::{self, Refusal};

/// The most operations of one JSON patch.
const OPERATIONS_MAX: usize = 10_000;

/// A patch of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patch<'a> {
    /// `application/merge-patch+json`.
    Merge(&'a Value),
    /// `application/json-patch+json`.
    Json(&'a Value),
}

impl Patch<'_> {
    /// Changes the document, or refuses the patch as a whole.
    pub(crate) fn apply(self, document: &mut Value) -> Result<(), Refusal> {
        match self {
            Self::Merge(patch) if patch.is_object() => {
                merge(document, patch);
                Ok(())
            }
            Self::Merge(patch) => Err(undecodable(patch, "map[string]interface {}")),
            Self::Json(patch) => apply_operations(document, patch),
        }
    }
}

fn undecodable(given: &Value, wanted: &str) -> Refusal {
    let what = match given {
        Value::Null | Value::Object(_) => "object",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
    };
    let message = format!(
        "error decoding patch: json: cannot unmarshal {what} into Go value of type {wanted}"
    );
    status::bad_request(message)
}

/// RFC 7386: null deletes, objects are merged, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(map) = target.as_object_mut() else {
        return;
    };
    for (key, change) in changes {
        if change.is_null() {
            map.shift_remove(key);
        } else {
            merge(map.entry(key.as_str()).or_insert(Value::Null), change);
        }
    }
}

fn apply_operations(document: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let operations = match patch {
        Value::Null => &[][..],
        Value::Array(operations) => operations,
        other => return Err(undecodable(other, "[]handlers.jsonPatchOp")),
    };
    if operations.len() > OPERATIONS_MAX {
        let given = operations.len();
        return Err(status::too_large(&format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {given}"
        )));
    }
    if let Some(wrong) = operations.iter().find(|one| !one.is_object()) {
        return Err(undecodable(wrong, "handlers.jsonPatchOp"));
    }
    for operation in operations {
        // The real one does not say what is wrong.
        apply_one(document, operation).ok_or_else(status::patch_does_not_apply)?;
    }
    Ok(())
}

/// One operation; `None` is one that fails. Two differ from the RFC, as in the real one: `test` takes a
/// missing member for null, and `replace` adds one.
fn apply_one(document: &mut Value, operation: &Value) -> Option<()> {
    let (parents, last) = operation["path"].as_str()?.rsplit_once('/')?;
    let parent = document.pointer_mut(parents)?;
    let last = last.replace("~1", "/").replace("~0", "~");
    let value = operation["value"].clone();
    match (operation["op"].as_str()?, parent) {
        ("test", Value::Object(map)) => {
            (*map.get(&last).unwrap_or(&Value::Null) == value).then_some(())
        }
        ("add" | "replace", Value::Object(map)) => {
            map.insert(last, value);
            Some(())
        }
        ("remove", Value::Object(map)) => map.shift_remove(&last).map(|_| ()),
        ("add", Value::Array(list)) => {
            let at = match last.as_str() {
                "-" => list.len(),
                number => number.parse().ok()?,
            };
            (at <= list.len()).then(|| list.insert(at, value))
        }
        (op, Value::Array(list)) => {
            let at: usize = last.parse().ok()?;
            let item = list.get_mut(at)?;
            match op {
                "test" => (*item == value).then_some(()),
                "replace" => {
                    *item = value;
                    Some(())
                }
                "remove" => {
                    list.remove(at);
                    Some(())
                }
                _ => None,
            }
        }
        _ => None,
    }
}
