//! The types of the fields of a kubeconfig that we use.
//!
//! Pure. It is read as kubectl reads it: the YAML of [`crate::yaml`], where `yes` is not text, then
//! a type for each field that we use. Other fields are ignored, and null counts as absent. A field
//! of the wrong type is reported with its path and never with its value, which may be a secret. The
//! file `kubeconfig.rs` decides what the fields mean.

use crate::yaml;
use serde_json::Value;

/// Most problems that are reported; further ones are left out.
const PROBLEMS_MAX: usize = 16;

/// What a field must be, unless it is absent.
enum Type {
    Text,
    /// Text that may not be absent.
    Required,
    Flag,
    List(&'static Self),
    Map(&'static [(&'static str, Self)]),
}

const CONFIG: Type = Type::Map(&[
    ("current-context", Type::Text),
    ("clusters", Type::List(&NAMED_CLUSTER)),
    ("contexts", Type::List(&NAMED_CONTEXT)),
    ("users", Type::List(&NAMED_USER)),
]);

const NAMED_CLUSTER: Type = Type::Map(&[("name", Type::Text), ("cluster", CLUSTER)]);
const NAMED_CONTEXT: Type = Type::Map(&[("name", Type::Text), ("context", CONTEXT)]);
const NAMED_USER: Type = Type::Map(&[("name", Type::Text), ("user", USER)]);

const CLUSTER: Type = Type::Map(&[
    ("server", Type::Text),
    ("tls-server-name", Type::Text),
    ("insecure-skip-tls-verify", Type::Flag),
    ("certificate-authority", Type::Text),
    ("certificate-authority-data", Type::Text),
    ("proxy-url", Type::Text),
]);

const CONTEXT: Type = Type::Map(&[
    ("cluster", Type::Text),
    ("user", Type::Text),
    ("namespace", Type::Text),
]);

const USER: Type = Type::Map(&[
    ("client-certificate", Type::Text),
    ("client-certificate-data", Type::Text),
    ("client-key", Type::Text),
    ("client-key-data", Type::Text),
    ("token", Type::Text),
    ("tokenFile", Type::Text),
    ("username", Type::Text),
    ("password", Type::Text),
    ("as", Type::Text),
    ("exec", EXEC),
]);

const EXEC: Type = Type::Map(&[
    ("args", Type::List(&Type::Text)),
    ("env", Type::List(&VARIABLE)),
    ("apiVersion", Type::Text),
    ("command", Type::Text),
    ("provideClusterInfo", Type::Flag),
    ("interactiveMode", Type::Text),
    ("installHint", Type::Text),
]);

const VARIABLE: Type = Type::Map(&[("name", Type::Required), ("value", Type::Text)]);

/// Reads a kubeconfig; all fields that we use have their types.
///
/// # Errors
/// All problems, one message each.
pub(super) fn read(text: &str) -> Result<Value, Vec<String>> {
    let json = yaml::parse(text).and_then(|tree| tree.to_json());
    let json = json.map_err(|error| vec![format!("it is not a kubeconfig: {error}")])?;
    if !json.is_object() && !json.is_null() {
        let kind = kind_of(&json);
        return Err(vec![format!(
            "it is not a kubeconfig: it is {kind}, not a map with clusters, users and contexts"
        )]);
    }
    let mut problems = Vec::new();
    if json.is_object() {
        check("", &json, &CONFIG, &mut problems);
    }
    if problems.is_empty() {
        Ok(json)
    } else {
        Err(problems)
    }
}

fn check(path: &str, value: &Value, wanted: &Type, problems: &mut Vec<String>) {
    let wanted = match (wanted, value) {
        (Type::Text | Type::Required, Value::String(_)) | (Type::Flag, Value::Bool(_)) => return,
        (Type::List(wanted), Value::Array(items)) => {
            for (number, item) in items.iter().enumerate() {
                check(&format!("{path}[{number}]"), item, wanted, problems);
            }
            return;
        }
        (Type::Map(fields), Value::Object(_)) => {
            for (key, wanted) in *fields {
                let value = &value[key];
                if !value.is_null() || matches!(wanted, Type::Required) {
                    let dot = if path.is_empty() { "" } else { "." };
                    check(&format!("{path}{dot}{key}"), value, wanted, problems);
                }
            }
            return;
        }
        (Type::Text | Type::Required, _) => "text",
        (Type::Flag, _) => "true or false",
        (Type::List(_), _) => "a list",
        (Type::Map(_), _) => "a map",
    };
    let remedy = match value {
        Value::Bool(_) | Value::Number(_) if wanted == "text" => ": put quotes around it",
        _ => "",
    };
    if problems.len() < PROBLEMS_MAX {
        let found = kind_of(value);
        problems.push(format!("its {path} is {found}, not {wanted}{remedy}"));
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}
