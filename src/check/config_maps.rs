//! What the API server would refuse or drop of a ConfigMap's manifest. Pure.
//!
//! The rules are those of `core/v1` ConfigMaps; those of the templates in them are decided elsewhere.

use super::report::CheckResult;
use crate::kube::types::TEMPLATE_SUFFIX;
use crate::model::names::is_dns_subdomain;
use crate::model::validation::is_data_key;
use serde_json::{Map, Value};

/// Maximum size of all values, in bytes (Kubernetes).
const BYTES_MAX: usize = 1024 * 1024;

/// Maximum length of a name, in bytes (Kubernetes).
const NAME_BYTES_MAX: usize = 253;

const FIELDS: [&str; 6] = [
    "apiVersion",
    "kind",
    "metadata",
    "data",
    "binaryData",
    "immutable",
];

/// Something that is wrong with a ConfigMap.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) result: CheckResult,
    /// The field.
    pub(super) path: Vec<String>,
    pub(super) text: String,
}

/// What is wrong with this ConfigMap.
pub(super) fn problems(value: &Value) -> Vec<Problem> {
    let mut problems = Problems(Vec::new());
    match value["metadata"]["name"].as_str() {
        None | Some("") => {
            problems.fail(
                &["metadata", "name"],
                "metadata.name: Required value".to_owned(),
            );
        }
        Some(name) if name.len() > NAME_BYTES_MAX || !is_dns_subdomain(name) => {
            problems.fail(&["metadata", "name"], format!(
                "metadata.name: Invalid value: expected at most {NAME_BYTES_MAX} characters of a-z, 0-9, - and ., which begin and end with a letter or digit"
            ));
        }
        Some(_) => {}
    }
    let mut bytes = 0;
    for field in ["data", "binaryData"] {
        match &value[field] {
            Value::Null => {}
            Value::Object(map) => bytes += problems.values(field, map),
            _ => problems.fail(
                &[field],
                format!("{field}: wrong type; expected a map of strings"),
            ),
        }
    }
    if bytes > BYTES_MAX {
        problems.fail(
            &["data"],
            format!("Too long: its values have {bytes} bytes; at most {BYTES_MAX} are allowed"),
        );
    }
    let unknown = value.as_object().into_iter().flat_map(Map::keys);
    for field in unknown.filter(|field| !FIELDS.contains(&field.as_str())) {
        problems.0.push(Problem {
            result: CheckResult::Worse,
            path: vec![field.clone()],
            text: format!("unknown field {field:?}"),
        });
    }
    problems.0
}

struct Problems(Vec<Problem>);

impl Problems {
    fn fail(&mut self, path: &[&str], text: String) {
        self.0.push(Problem {
            result: CheckResult::Bad,
            path: path.iter().map(|step| (*step).to_owned()).collect(),
            text,
        });
    }

    /// Checks keys and values; returns the size of the values as far as it is known.
    fn values(&mut self, field: &str, map: &Map<String, Value>) -> usize {
        let mut bytes = 0;
        for (key, value) in map {
            if !is_data_key(key) {
                let text = format!(
                    "{field}: invalid key: expected at most 253 letters, digits, -, _ and ., which do not begin with .."
                );
                self.fail(&[field, key.as_str()], text);
            }
            match value {
                Value::Null => {}
                // Nothing reads it.
                _ if key == TEMPLATE_SUFFIX => {
                    let text = format!("{field}: the key {key} names no type, so it is not read");
                    self.0.push(Problem {
                        result: CheckResult::Worse,
                        path: vec![field.to_owned(), key.clone()],
                        text,
                    });
                }
                Value::String(text) if field == "data" => bytes += text.len(),
                // In base64.
                Value::String(text) => bytes += text.len() / 4 * 3,
                other => {
                    let text = match other {
                        Value::Object(_) | Value::Array(_) => format!(
                            "{field}.{key}: wrong type; expected a string: put `|` after the key, and indent the text"
                        ),
                        other => format!(
                            "{field}.{key}: wrong type: {other}; expected a string; put quotes around it"
                        ),
                    };
                    self.fail(&[field, key.as_str()], text);
                }
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config_map(data: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "apps"}, "data": data})
    }

    #[test]
    fn what_the_api_server_refuses_of_config_maps_is_found() {
        let name = |name: Value| json!({"metadata": {"name": name}});
        let long = "x".repeat(254);
        for (value, expected) in [
            (config_map(json!({"a.yaml": "x", "b": null})), vec![]),
            (name(json!("a.b-c")), vec![]),
            (name(json!("A_b")), vec!["metadata.name: Invalid value"]),
            (name(json!(long)), vec!["metadata.name: Invalid value"]),
            (name(json!(5)), vec!["metadata.name: Required value"]),
            (json!({}), vec!["metadata.name: Required value"]),
            (config_map(json!([1])), vec!["data: wrong type"]),
            (
                config_map(json!({"a.yaml": {"spec": {}}})),
                vec!["data.a.yaml: wrong type; expected a string: put `|`"],
            ),
            (
                config_map(json!({"a": 1, "b": true})),
                vec!["data.a: wrong type: 1", "data.b: wrong type: true"],
            ),
            (
                config_map(json!({"a b.yaml": ""})),
                vec!["data: invalid key"],
            ),
            (
                config_map(json!({long.as_str(): ""})),
                vec!["data: invalid key"],
            ),
            (
                config_map(json!({".yaml": "", "a.yaml": "x"})),
                vec!["data: the key .yaml names no type"],
            ),
            (
                json!({"metadata": {"name": "a"}, "dat": {}}),
                vec!["unknown field \"dat\""],
            ),
        ] {
            let found = problems(&value);
            assert_eq!(found.len(), expected.len(), "{value}: {found:?}");
            for (found, expected) in found.iter().zip(expected) {
                assert!(found.text.starts_with(expected), "{found:?}");
                let is_warning = expected.starts_with("unknown") || expected.contains("names no");
                assert_eq!(found.result == CheckResult::Worse, is_warning);
            }
        }
    }

    #[test]
    fn values_may_have_as_many_bytes_as_kubernetes_takes() {
        let of = |bytes: usize| {
            let half = "x".repeat(BYTES_MAX / 2);
            let rest = "x".repeat(bytes - half.len());
            problems(&config_map(json!({"a": half, "b": rest})))
        };
        assert_eq!(of(BYTES_MAX), []);
        assert!(of(BYTES_MAX + 1)[0].text.starts_with("Too long"));
    }
}
