//! The requests for the admission of a suspended Job: which were there before it, and that it runs.
//!
//! Pure, a part of [`super`]. Which Job may run is decided in `crate::app::admissions`.

use super::{Query, Request, on_collection, on_object, with_body};
use crate::kube::error::{Error, Verb};
use crate::kube::types::{JOBS, ResourceVersion, Uid};
use serde_json::json;

/// The first page of the Jobs as they were at exactly this version; the next ones are those of [`super::list`].
///
/// # Errors
/// When the namespace is not a valid name.
pub fn jobs_at(namespace: &str, version: &ResourceVersion, limit: u32) -> Result<Request, Error> {
    let mut query = Query::default();
    query.add("limit", &limit.to_string());
    query.add("resourceVersion", &version.to_string());
    query.add("resourceVersionMatch", "Exact");
    on_collection(Verb::List, JOBS, namespace, &query)
}

/// Lets the Job with this UID run, if the annotation `marker` still has the value `before` (JSON patch): it has `after`
/// then. Of several such requests, one is carried out; the others get a 422.
///
/// # Errors
/// When namespace or name are not valid, or the UID is empty.
pub fn admit_job(
    namespace: &str,
    name: &str,
    uid: &Uid,
    (marker, before, after): (&str, &str, &str),
) -> Result<Request, Error> {
    let request = on_object(Verb::Patch, JOBS, namespace, name, uid)?;
    let marker = marker.replace('~', "~0").replace('/', "~1");
    let marker = format!("/metadata/annotations/{marker}");
    let patch = json!([
        {"op": "test", "path": "/metadata/uid", "value": uid.to_string()},
        {"op": "test", "path": marker, "value": before},
        {"op": "replace", "path": marker, "value": after},
        {"op": "replace", "path": "/spec/suspend", "value": false},
    ]);
    Ok(with_body(request, &patch, "application/json-patch+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_an_exact_version_says_so() {
        let request = jobs_at("demo", &"7".into(), 100).unwrap();
        let expected = "/apis/batch/v1/namespaces/demo/jobs?limit=100&resourceVersion=7&resourceVersionMatch=Exact";
        assert_eq!(request.path_and_query, expected);
    }

    #[test]
    fn one_request_tests_and_replaces() {
        let request = admit_job("demo", "hello-n1", &"u1".into(), ("a/b", "no", "yes")).unwrap();
        assert_eq!(
            request.path_and_query,
            "/apis/batch/v1/namespaces/demo/jobs/hello-n1"
        );
        assert_eq!(request.content_type, Some("application/json-patch+json"));
        let body: serde_json::Value = serde_json::from_slice(&request.body.unwrap()).unwrap();
        assert_eq!(body[1]["path"], "/metadata/annotations/a~1b");
        assert_eq!(body[3]["path"], "/spec/suspend");
        assert!(admit_job("demo", "n1", &"".into(), ("a", "b", "c")).is_err());
    }
}
