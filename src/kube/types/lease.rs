//! Leases, as replicas use them: each reports in one of its own which instances were used.
//!
//! Only our annotation is read, and whether it has an owner and a holder; what it says is decided in [`crate::model::uses`]. No other Lease is ever asked
//! for: [`USES_OF`] is in every selector.

use super::bounded::{self, Name, Text};
use super::{Collection, ObjectMeta, Resource, ResourceVersion, Uid};
use crate::kube::status::null_is_default;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

/// Leases (coordination.k8s.io/v1).
pub const LEASES: Collection = Collection::new("apis/coordination.k8s.io/v1", "leases");

/// The label of the Leases of all replicas that serve a namespace; the value is its name.
pub const USES_OF: &str = "config-controller.semafor.ch/uses-of";

/// The annotation with the uses.
pub const USES: &str = "config-controller.semafor.ch/uses";

/// How much of it is read, in bytes: all annotations of an object together may not have more.
const USES_BYTES_MAX: usize = 262_144;

/// The Lease of a replica.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "LeaseWire")]
pub struct Lease {
    /// Its metadata, without labels and annotations.
    pub metadata: ObjectMeta,
    /// What its replica reports; empty if it reports nothing.
    pub uses: Box<str>,
    /// Its replica holds it, and Kubernetes removes it with the pod of that replica, its owner.
    pub is_live: bool,
}

impl Resource for Lease {
    const COLLECTION: Collection = LEASES;
    type Index = str;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn index(&self) -> Option<&str> {
        None
    }

    fn text_bytes(&self) -> usize {
        self.uses.len()
    }
}

#[derive(Deserialize)]
struct LeaseWire {
    metadata: MetaWire,
    #[serde(default, deserialize_with = "null_is_default")]
    spec: SpecWire,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SpecWire {
    holder_identity: Option<Text<1>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetaWire {
    name: Name,
    uid: Option<Uid>,
    resource_version: Option<ResourceVersion>,
    #[serde(default, deserialize_with = "null_is_default")]
    annotations: AnnotationsWire,
    #[serde(default, deserialize_with = "has_any")]
    owner_references: bool,
}

fn has_any<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    bounded::fold(deserializer, false, |found, _: IgnoredAny| *found = true)
}

#[derive(Default, Deserialize)]
struct AnnotationsWire {
    #[serde(rename = "config-controller.semafor.ch/uses")]
    uses: Option<Text<USES_BYTES_MAX>>,
}

impl From<LeaseWire> for Lease {
    fn from(LeaseWire { metadata, spec }: LeaseWire) -> Self {
        Self {
            metadata: ObjectMeta {
                name: metadata.name.0,
                uid: metadata.uid.unwrap_or_default(),
                resource_version: metadata.resource_version.unwrap_or_default(),
                ..ObjectMeta::default()
            },
            uses: metadata
                .annotations
                .uses
                .map(|text| text.0)
                .unwrap_or_default(),
            is_live: metadata.owner_references && spec.holder_identity.is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_the_report_of_a_lease_is_read() {
        let lease = |annotations: serde_json::Value| {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {
                    "name": "config-controller-0",
                    "uid": "u",
                    "resourceVersion": "7",
                    "annotations": annotations,
                },
                "spec": {"holderIdentity": "others write this", "renewTime": 3},
            });
            Lease::decode(lease.to_string().as_bytes())
                .unwrap()
                .unwrap()
        };
        let found = lease(json!({USES: "0:*", "other": "x"}));
        assert_eq!(
            (&*found.metadata.name, &*found.uses),
            ("config-controller-0", "0:*")
        );
        assert_eq!(found.metadata.resource_version, "7".into());
        assert!(!found.is_live);
        assert_eq!(&*lease(json!(null)).uses, "");
        assert_eq!(
            lease(json!({USES: "x".repeat(USES_BYTES_MAX + 1)}))
                .uses
                .len(),
            USES_BYTES_MAX
        );
    }

    #[test]
    fn it_is_live_with_an_owner_and_a_holder() {
        let owned = json!([{"uid": "p"}]);
        let held = json!({"holderIdentity": "cc-0"});
        for (owners, spec, is_live) in [
            (&json!(null), &held, false),
            (&json!([]), &held, false),
            (&owned, &json!(null), false),
            (&owned, &json!({"holderIdentity": null}), false),
            (&owned, &held, true),
        ] {
            let metadata = json!({"name": "cc-0", "ownerReferences": owners});
            let lease = json!({"metadata": metadata, "spec": spec});
            let found = Lease::decode(lease.to_string().as_bytes());
            assert_eq!(found.unwrap().unwrap().is_live, is_live, "{lease}");
        }
    }
}
