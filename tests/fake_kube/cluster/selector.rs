//! Label and field selectors: parsing and matching.

use serde_json::Value;

use super::resource::Resource;
use super::status::{self, Refusal};
use super::validate;

/// Selects the objects of a list or a watch. The default selects all.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, String, bool)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Exists,
    Absent,
    In(Vec<String>),
    NotIn(Vec<String>),
    Greater(i64),
    Less(i64),
}

impl Selector {
    /// Parses `labelSelector` and `fieldSelector`; a 400 for what the real API server
    /// would reject.
    pub(crate) fn parse(resource: Resource, labels: &str, fields: &str) -> Result<Self, Refusal> {
        Ok(Self {
            labels: parse_labels(labels)?,
            fields: parse_fields(resource, fields)?,
        })
    }

    /// Whether it selects all objects.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether it selects this object.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let by_label = self
            .labels
            .iter()
            .all(|r| r.matches(labels.get(&r.key).and_then(Value::as_str)));
        by_label
            && self
                .fields
                .iter()
                .all(|(path, wanted, equal)| (field(object, path) == *wanted) == *equal)
    }
}

impl Requirement {
    fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(list) => value.is_some_and(|v| list.iter().any(|l| l == v)),
            Test::NotIn(list) => value.is_none_or(|v| !list.iter().any(|l| l == v)),
            Test::Greater(than) => number().is_some_and(|n| n > *than),
            Test::Less(than) => number().is_some_and(|n| n < *than),
        }
    }
}

/// The field at a dotted path, as text; empty if it is absent.
fn field(object: &Value, path: &str) -> String {
    let mut at = object;
    for part in path.split('.') {
        at = &at[part];
    }
    match at {
        Value::Null if path == "status.successful" => object["status"]["succeeded"]
            .as_i64()
            .unwrap_or(0)
            .to_string(),
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The fields that each resource can be selected by.
fn selectable(resource: Resource) -> &'static [&'static str] {
    match resource {
        Resource::Pods => &[
            "metadata.name",
            "metadata.namespace",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Resource::Events => &[
            "metadata.name",
            "metadata.namespace",
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        Resource::Jobs => &["metadata.name", "metadata.namespace", "status.successful"],
        Resource::Namespaces => &["metadata.name", "status.phase"],
        Resource::ConfigMaps | Resource::Leases => &["metadata.name", "metadata.namespace"],
    }
}

fn parse_fields(resource: Resource, text: &str) -> Result<Vec<(String, String, bool)>, Refusal> {
    let mut found = Vec::new();
    for term in text.split(',').filter(|t| !t.is_empty()) {
        let (path, value, equal) = split_term(term).ok_or_else(|| {
            status::bad_request(format!(
                "unable to find field selector requirement: invalid selector: {text:?}; can't understand {term:?}"
            ))
        })?;
        if !selectable(resource).contains(&path) {
            let known: Vec<String> = selectable(resource)
                .iter()
                .map(|f| format!("{f:?}"))
                .collect();
            return Err(status::bad_request(format!(
                "{path:?} is not a known field selector: only {}",
                known.join(", ")
            )));
        }
        found.push((path.to_owned(), value.to_owned(), equal));
    }
    Ok(found)
}

fn split_term(term: &str) -> Option<(&str, &str, bool)> {
    for (sign, equal) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((path, value)) = term.split_once(sign) {
            return Some((path.trim(), value.trim(), equal));
        }
    }
    None
}

/// Splits at the commas that are outside of parentheses.
fn terms(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0_usize, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[from..]);
    found
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, Refusal> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    terms(text)
        .into_iter()
        .map(|term| {
            parse_label(term.trim())
                .map_err(|why| status::bad_request(format!("unable to parse requirement: {why}")))
        })
        .collect()
}

fn parse_label(term: &str) -> Result<Requirement, String> {
    let (key, test) = label_test(term)?;
    if let Some(why) = validate::label_key_faults(key).first() {
        return Err(format!("<nil>: Invalid value: {key:?}: {why}"));
    }
    if let Test::In(values) | Test::NotIn(values) = &test {
        for value in values {
            if let Some(why) = validate::label_value_faults(value).first() {
                return Err(format!("values[0][{key}]: Invalid value: {value:?}: {why}"));
            }
        }
    }
    Ok(Requirement {
        key: key.to_owned(),
        test,
    })
}

fn label_test(term: &str) -> Result<(&str, Test), String> {
    if let Some(key) = term.strip_prefix('!') {
        return Ok((key.trim(), Test::Absent));
    }
    if let Some(list) = term.strip_suffix(')') {
        let (head, list) = list
            .split_once('(')
            .ok_or_else(|| format!("found ')' in {term:?}, expected: '('"))?;
        let values: Vec<String> = list.split(',').map(|v| v.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => Ok((key, Test::In(values))),
            (Some(key), Some("notin"), None) => Ok((key, Test::NotIn(values))),
            _ => Err(format!(
                "found {head:?}, expected: in, notin, =, ==, !=, gt, lt"
            )),
        };
    }
    if let Some((key, value, equal)) = split_term(term) {
        let values = vec![value.to_owned()];
        let test = if equal {
            Test::In(values)
        } else {
            Test::NotIn(values)
        };
        return Ok((key, test));
    }
    for (sign, greater) in [('>', true), ('<', false)] {
        if let Some((key, number)) = term.split_once(sign) {
            let number = number
                .trim()
                .parse::<i64>()
                .map_err(|_| "for 'Gt', 'Lt' operators, the value must be an integer".to_owned())?;
            let test = if greater {
                Test::Greater(number)
            } else {
                Test::Less(number)
            };
            return Ok((key.trim(), test));
        }
    }
    if term.contains(char::is_whitespace) {
        return Err(format!(
            "found {term:?}, expected: in, notin, =, ==, !=, gt, lt"
        ));
    }
    Ok((term, Test::Exists))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(selector: &str, matches: bool) {
        let object = json!({"metadata": {"labels": {"a": "1", "app/x": "v", "n": "7"}}});
        let selector = Selector::parse(Resource::Pods, selector, "").expect("the selector parses");
        assert_eq!(selector.matches(&object), matches);
    }

    #[test]
    fn label_selectors_match_as_documented() {
        for (text, matches) in [
            ("", true),
            ("a=1", true),
            ("a==1", true),
            ("a=2", false),
            ("a!=2", true),
            ("zz!=2", true),
            ("a", true),
            ("zz", false),
            ("!zz", true),
            ("!a", false),
            ("a in (1,2)", true),
            ("a in (2)", false),
            ("a notin (2),app/x=v", true),
            ("zz notin (2)", true),
            ("a=1,app/x=w", false),
            ("n>6", true),
            ("n<6", false),
        ] {
            check(text, matches);
        }
    }

    #[test]
    fn an_invalid_selector_is_a_bad_request() {
        for text in ["a in 1", "a in (1", "=x", "a b", "-a", "a=b c", "a=ü", ",a"] {
            let refusal = Selector::parse(Resource::Pods, text, "").expect_err(text);
            assert_eq!(refusal.code, 400, "{text}");
        }
        let unknown = Selector::parse(Resource::ConfigMaps, "", "data.x=1");
        assert_eq!(unknown.expect_err("not selectable").code, 400);
    }

    #[test]
    fn field_selectors_compare_text() {
        let event = json!({"type": "Warning", "metadata": {"name": "e"}});
        let parse = |text| Selector::parse(Resource::Events, "", text).expect("parses");
        assert!(parse("type!=Normal").matches(&event));
        assert!(!parse("type=Normal").matches(&event));
        assert!(parse("type!=Normal,metadata.name=e").matches(&event));
    }
}
