//! Requests about the Leases by which replicas report uses.
//!
//! Pure, a part of [`super`]. What a report says is decided in [`crate::app::lifetimes`].

use super::{Query, Request, on_collection, with_body, with_name};
use crate::kube::error::{Error, Verb};
use crate::kube::types::{LEASES, USES, USES_OF};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The Lease by which a replica reports the uses of instances.
#[derive(Clone, Debug)]
pub struct UseReport<'a> {
    /// Name of the Lease: that of the replica.
    pub name: &'a str,
    /// The namespace of the instances.
    pub uses_of: &'a str,
    /// The text of the report, see [`crate::model::uses`]; empty: the Lease says that there is this replica, and its
    /// last report stays.
    pub uses: &'a str,
    /// Whether the replica goes on; else it holds its Lease no longer.
    pub goes_on: bool,
    /// The UID of the pod with that name, which takes the Lease with it when it goes.
    pub pod: Option<&'a str>,
}

impl UseReport<'_> {
    fn lease(&self) -> Value {
        let mut metadata = json!({
            "name": self.name,
            "labels": {USES_OF: self.uses_of},
        });
        if !self.uses.is_empty() {
            metadata["annotations"] = json!({USES: self.uses});
        }
        if let Some(uid) = self.pod {
            metadata["ownerReferences"] = json!([{
                "apiVersion": "v1", "kind": "Pod", "name": self.name, "uid": uid,
            }]);
        }
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": {"holderIdentity": self.goes_on.then_some(self.name)},
        })
    }
}

/// Writes this report into the Lease of its replica, which exists (JSON merge patch).
///
/// # Errors
/// When namespace or name are not valid.
pub fn report_uses(namespace: &str, report: &UseReport<'_>) -> Result<Request, Error> {
    let request = on_collection(Verb::Patch, LEASES, namespace, &Query::default())?;
    let mut request = with_name(request, report.name)?;
    let _ = write!(request.path_and_query, "/{}", report.name);
    let content_type = "application/merge-patch+json";
    Ok(with_body(request, &report.lease(), content_type))
}

/// Creates the Lease of a replica with its first report.
///
/// # Errors
/// When namespace or name are not valid.
pub fn create_lease(namespace: &str, report: &UseReport<'_>) -> Result<Request, Error> {
    let request = on_collection(Verb::Create, LEASES, namespace, &Query::default())?;
    let request = with_name(request, report.name)?;
    Ok(with_body(request, &report.lease(), "application/json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: UseReport<'_> = UseReport {
        name: "cc-0",
        uses_of: "apps",
        uses: "0:*",
        goes_on: true,
        pod: None,
    };

    fn body(request: &Request) -> Value {
        serde_json::from_slice(request.body.as_deref().unwrap()).unwrap()
    }

    #[test]
    fn a_report_replaces_the_one_before_in_the_lease_of_its_replica() {
        let request = report_uses("own", &REPORT).unwrap();
        let path = "/apis/coordination.k8s.io/v1/namespaces/own/leases/cc-0";
        assert_eq!(request.path_and_query, path);
        assert_eq!(request.content_type, Some("application/merge-patch+json"));
        let expected = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": "cc-0",
                "labels": {"config-controller.semafor.ch/uses-of": "apps"},
                "annotations": {"config-controller.semafor.ch/uses": "0:*"},
            },
            "spec": {"holderIdentity": "cc-0"},
        });
        assert_eq!(body(&request), expected);
    }

    #[test]
    fn the_first_report_creates_the_lease_which_goes_with_its_pod() {
        let pod = Some("u1");
        let request = create_lease("own", &UseReport { pod, ..REPORT }).unwrap();
        let path = "/apis/coordination.k8s.io/v1/namespaces/own/leases";
        assert_eq!(
            (&*request.path_and_query, request.verb),
            (path, Verb::Create)
        );
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "cc-0", "uid": "u1"}]);
        assert_eq!(body(&request)["metadata"]["ownerReferences"], owner);
        let request = report_uses("own", &UseReport { uses: "", ..REPORT }).unwrap();
        assert_eq!(body(&request)["metadata"].get("annotations"), None);
        let left = UseReport {
            goes_on: false,
            ..REPORT
        };
        let request = report_uses("own", &left).unwrap();
        assert_eq!(body(&request)["spec"], json!({"holderIdentity": null}));
        assert!(create_lease("own", &UseReport { name: "", ..REPORT }).is_err());
        assert!(
            report_uses(
                "own",
                &UseReport {
                    name: "a/b",
                    ..REPORT
                }
            )
            .is_err()
        );
    }
}
